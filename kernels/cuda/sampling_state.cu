// The state table: what sequences bring when they take a row of it, and the tokens that rows have sampled as inputs of
// the next step.
//
// The entries that the host sends lie as words one after another. One thread per entry; a few bytes each. Unmeasured.
#include "rows.cuh"
#include "sampling.cuh"

DEVICE uint32_t entry_index() { return blockIdx.x * blockDim.x + threadIdx.x; }

// entries: [num_entries, 17]: the row, then its RowState.
KERNEL_BOUNDS(sampling_write_states, 128)(const uint32_t* entries, uint32_t* states, uint32_t num_entries) {
    const uint32_t index = entry_index(), words = sizeof(RowState) / sizeof(uint32_t);
    if (index >= num_entries) {
        return;
    }
    const uint32_t* entry = entries + index * (words + 1);
    for (uint32_t i = 0; i < words; ++i) {
        states[entry[0] * words + i] = entry[i + 1];
    }
}

// entries: [num_entries, 3]: row, token, its count; each pair of row and token once.
KERNEL_BOUNDS(sampling_write_counts, 128)(const uint32_t* entries, uint16_t* counts, uint32_t num_entries,
                                          uint32_t vocab) {
    const uint32_t index = entry_index();
    if (index < num_entries) {
        const uint32_t* entry = entries + index * 3;
        counts[static_cast<uint64_t>(entry[0]) * vocab + entry[1]] = static_cast<uint16_t>(entry[2]);
    }
}

// entries: [num_entries, 4]: row, place in the row's list, token, bits of the bias.
KERNEL_BOUNDS(sampling_write_biases, 128)(const uint32_t* entries, uint32_t* biases, uint32_t num_entries,
                                          uint32_t biases_max) {
    const uint32_t index = entry_index();
    if (index < num_entries) {
        const uint32_t* entry = entries + index * 4;
        uint32_t* list = biases + static_cast<uint64_t>(entry[0]) * 2 * biases_max;
        list[entry[1]] = entry[2];
        list[biases_max + entry[1]] = entry[3];
    }
}

// token_ids[row] = known[row], or what state row from_rows[row] sampled last where that is not PAD.
// All: [rows]. A state row that has sampled nothing yet gives PAD.
KERNEL_BOUNDS(sampling_resolve_inputs, 128)(const uint32_t* known, const uint32_t* from_rows, const RowState* states,
                                            uint32_t* token_ids, uint32_t rows, uint32_t num_state_rows) {
    const uint32_t row = entry_index();
    if (row < rows) {
        const uint32_t from = from_rows[row];
        const uint32_t sampled = from < num_state_rows ? states[from].last_token : PAD;
        token_ids[row] = from == PAD ? known[row] : sampled;
    }
}
