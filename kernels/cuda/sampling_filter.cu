// The threshold of top-k and top-p for each row that has one: the order key of the least likely token that stays.
//
// floors: [rows]; 0 where nothing is dropped. Runs after sampling_scan, with its slices. One block per row; rows
// without these filters cost one load. Shared memory: FilterMemory.
//
// Nothing is sorted. A threshold is found bit by bit: the largest key such that the tokens at or above it are enough
// (k of them, or a share of the probability), two bits a pass. Probabilities are fixed-point integers, so that their
// sum is the same in any order. Tokens as likely as the last one that is needed all stay; the CPU keeps the lowest ids.
//
// 16 passes over a vocabulary are a lot. What cannot be reached by the thresholds is therefore left out first, and the
// rest (a few hundred tokens of a usual row) is searched in shared memory, if it fits:
// - top-k: the largest logits that k different threads have seen are k tokens, so no token below the least of those k
//   is among the k most likely.
// - top-p without top-k: all tokens less likely than (1 - p) / vocab of the most likely one have together less than
//   1 - p of the probability, so the nucleus is full before it comes to them.
// Moves 4 bytes per logit and pass, from the L2 cache: one pass for top-p, two for top-k, 16 per filter where the rest
// does not fit. Unmeasured.
#include "sampling.cuh"

constexpr uint32_t LISTED_MAX = 4096;

struct FilterMemory {
    uint64_t sums[3][32];
    float scratch[32];
    uint32_t num_listed;
    uint32_t padding[3];
    float listed[LISTED_MAX];
};
static_assert(sizeof(FilterMemory) == 17296, "the host asks for as many bytes");

// One unit is 2^-40 of the most likely token's probability; a vocabulary of 2^23 tokens cannot overflow.
DEVICE uint64_t mass(float distance, float temperature) {
    return static_cast<uint64_t>(expf(distance / temperature) * 0x1p40f);
}

// Sums over the block, in all threads.
DEVICE void block_sums(uint64_t (&values)[3], FilterMemory& memory) {
    const uint32_t thread = threadIdx.x, num_warps = blockDim.x / 32;
    for (uint32_t i = 0; i < 3; ++i) {
        for (int distance = 16; distance > 0; distance /= 2) {
            values[i] += shuffle_xor(values[i], distance);
        }
        if (thread % 32 == 0) {
            memory.sums[i][thread / 32] = values[i];
        }
    }
    __syncthreads();
    for (uint32_t i = 0; i < 3; ++i) {
        values[i] = 0;
        for (uint32_t warp = 0; warp < num_warps; ++warp) {
            values[i] += memory.sums[i][warp];
        }
    }
    __syncthreads();
}

// The largest key such that values at or above it weigh `target` together; 0 if all of them weigh less. `visit` calls
// its argument with key and weight of each value of this thread.
template <class VISIT> DEVICE uint32_t threshold(uint64_t target, FilterMemory& memory, VISIT visit) {
    uint32_t floor = 0;
    for (int shift = 30; shift >= 0; shift -= 2) {
        uint64_t reached[3] = {0, 0, 0};
        visit([&](uint32_t key, uint64_t weight) {
            for (uint32_t i = 0; i < 3; ++i) {
                reached[i] += key >= (floor | (i + 1) << shift) ? weight : 0;
            }
        });
        block_sums(reached, memory);
        const uint32_t digit = (reached[0] >= target) + (reached[1] >= target) + (reached[2] >= target);
        floor |= digit << shift;
    }
    return floor;
}

// The logits that thresholds are searched among.
struct Candidates {
    const Row* row;
    const FilterMemory* memory;
    float max_logit;
    // Of all tokens that min-p leaves, for rows with top-p alone.
    uint64_t mass;
    bool is_listed;
};

template <class TAKE> DEVICE void for_each_of_row(const Row& row, float max_logit, TAKE take) {
    for (uint32_t token = threadIdx.x; token < row.vocab; token += blockDim.x) {
        const float logit = adjusted(row, token);
        // Neither NaN nor minus infinity.
        if (logit > -INFINITY && logit - max_logit >= row.state->min_p_span) {
            take(logit);
        }
    }
}

template <class TAKE> DEVICE void for_each_candidate(const Candidates& candidates, TAKE take) {
    if (!candidates.is_listed) {
        for_each_of_row(*candidates.row, candidates.max_logit, take);
        return;
    }
    for (uint32_t i = threadIdx.x; i < candidates.memory->num_listed; i += blockDim.x) {
        take(candidates.memory->listed[i]);
    }
}

// A key that at least top_k tokens reach, as far as the threads can tell without looking further.
DEVICE uint32_t floor_of_threads(const Row& row, float max_logit, FilterMemory& memory) {
    float best = -INFINITY;
    for_each_of_row(row, max_logit, [&](float logit) { best = fmaxf(best, logit); });
    return threshold(row.state->top_k, memory, [&](auto weigh) {
        if (best > -INFINITY) {
            weigh(order_key(best), 1);
        }
    });
}

DEVICE Candidates collect(const Row& row, float max_logit, FilterMemory& memory) {
    const RowState& state = *row.state;
    const bool has_top_k = state.top_k != 0;
    const uint32_t floor = has_top_k && state.top_k <= blockDim.x ? floor_of_threads(row, max_logit, memory) : 0;
    const float span = has_top_k ? -INFINITY : state.nucleus_span;
    if (threadIdx.x == 0) {
        memory.num_listed = 0;
    }
    __syncthreads();
    uint64_t total[3] = {0, 0, 0};
    for_each_of_row(row, max_logit, [&](float logit) {
        if (!has_top_k) {
            total[0] += mass(logit - max_logit, state.temperature);
        }
        if (order_key(logit) >= floor && logit - max_logit >= span) {
            const uint32_t at = atomicAdd(&memory.num_listed, 1u);
            if (at < LISTED_MAX) {
                memory.listed[at] = logit;
            }
        }
    });
    // Also the barrier after which the list is complete.
    block_sums(total, memory);
    return {&row, &memory, max_logit, total[0], memory.num_listed <= LISTED_MAX};
}

DEVICE uint32_t row_floor(const Row& row, float max_logit, FilterMemory& memory) {
    const RowState& state = *row.state;
    const Candidates candidates = collect(row, max_logit, memory);
    uint32_t floor = 0;
    uint64_t total = candidates.mass;
    if (state.top_k != 0) {
        floor = threshold(state.top_k, memory, [&](auto weigh) {
            for_each_candidate(candidates, [&](float logit) { weigh(order_key(logit), 1); });
        });
    }
    if (state.top_p >= 1.0f) {
        return floor;
    }
    const auto mass_above_floor = [&](float logit) {
        return order_key(logit) >= floor ? mass(logit - max_logit, state.temperature) : 0;
    };
    if (state.top_k != 0) {
        uint64_t kept[3] = {0, 0, 0};
        for_each_candidate(candidates, [&](float logit) { kept[0] += mass_above_floor(logit); });
        block_sums(kept, memory);
        total = kept[0];
    }
    const float target = ceilf(state.top_p * static_cast<float>(total));
    const uint32_t nucleus = threshold(static_cast<uint64_t>(fmaxf(target, 1.0f)), memory, [&](auto weigh) {
        for_each_candidate(candidates, [&](float logit) { weigh(order_key(logit), mass_above_floor(logit)); });
    });
    return max(floor, nucleus);
}

KERNEL_BOUNDS(sampling_filter, 1024)(const float* logits, const uint32_t* state_rows, const RowState* states,
                                     const uint16_t* counts, const uint32_t* biases, const uint32_t* mask,
                                     const SliceResult* slices, uint32_t* floors, uint32_t num_state_rows,
                                     uint32_t vocab, uint32_t biases_max, uint32_t num_slices) {
    SHARED_MEMORY(bytes);
    FilterMemory& memory = *reinterpret_cast<FilterMemory*>(bytes);
    const SamplingInputs inputs = {logits, state_rows, states, counts, biases, mask, num_state_rows, vocab, biases_max};
    Row row;
    if (!open_row(inputs, blockIdx.x, row)) {
        return;
    }
    uint32_t floor = 0;
    if ((row.state->flags & FILTERED) != 0) {
        const SliceResult* row_slices = slices + static_cast<uint64_t>(blockIdx.x) * num_slices;
        const float max_logit = row_max(row_slices, num_slices, memory.scratch);
        // An infinite maximum is chosen without a draw.
        floor = is_finite(max_logit) ? row_floor(row, max_logit, memory) : 0;
    }
    if (threadIdx.x == 0) {
        floors[blockIdx.x] = floor;
    }
}
