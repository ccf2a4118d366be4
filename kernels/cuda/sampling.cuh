// What the kernels of sampling share: the state of a sequence, its adjusted logits, how tokens are ordered.
//
// The vocabulary of a row is divided into slices, one per block: blockDim.x threads with SLICE_VALUES logits each.
// Everything that is computed for a row depends on its state row and its logits alone, in one order, so that a sequence
// gets the same tokens whatever else is in the batch.
#pragma once

#include "platform.cuh"

constexpr uint32_t SLICE_VALUES = 8;

// Most likely tokens that are reported for a row, at most.
constexpr uint32_t TOP_MAX = 20;

// RowState::flags. FILTERED: top-k or top-p asks for a threshold; implies DRAWS.
constexpr uint32_t DRAWS = 1, FILTERED = 2, PENALISED = 4, MASKED = 8, REPORTS = 16;

// One row of the state table: a running sequence. Written by sampling_write_states, word by word as the host packs it.
struct RowState {
    uint64_t seed;
    uint64_t sampled_tokens;
    float temperature;
    float top_p;
    // 0 keeps all.
    uint32_t top_k;
    // A token whose logit lies further below the largest is dropped by min-p; minus infinity keeps all.
    float min_p_span;
    // Tokens further below the largest are no part of the nucleus, whatever the other logits are.
    float nucleus_span;
    float repetition_penalty, presence_penalty, frequency_penalty;
    uint32_t flags;
    uint32_t num_logprobs;
    uint32_t num_biases;
    // PAD until the first.
    uint32_t last_token;
};
static_assert(sizeof(RowState) == 64, "the host packs 16 words");

// What is known of a slice of a row's vocabulary.
struct SliceResult {
    // The ranked token to choose from this slice; 0 where there is none.
    uint64_t best;
    // Of the adjusted logits, for rows that draw.
    float max;
    // Of the model's own logits, for rows that report log probabilities; the sum is relative to the maximum.
    float raw_max, raw_sum;
    uint32_t has_finite;
};
static_assert(sizeof(SliceResult) == 24, "the host allocates 6 words");

// ---- logits of a row ----

// Arguments that all kernels over logits share. `counts`: [state_rows, vocab], bit 15 = in the prompt, below it how
// often the token was generated. `biases`: [state_rows, 2, biases_max], ascending tokens, then what is added to their
// logits. `mask`: null, or [state_rows, ceil(vocab / 32)], a bit for every token that is allowed.
struct SamplingInputs {
    const float* logits;
    const uint32_t* state_rows;
    const RowState* states;
    const uint16_t* counts;
    const uint32_t* biases;
    const uint32_t* mask;
    uint32_t num_state_rows, vocab, biases_max;
};

struct Row {
    const float* logits;
    const RowState* state;
    // Null where they do not apply.
    const uint16_t* counts;
    const uint32_t* mask;
    const uint32_t* bias_tokens;
    const uint32_t* bias_values;
    uint32_t vocab;
};

// False for padded rows.
DEVICE bool open_row(const SamplingInputs& inputs, uint32_t index, Row& row) {
    const uint64_t state_row = inputs.state_rows[index];
    if (state_row >= inputs.num_state_rows) {
        return false;
    }
    const uint64_t vocab = inputs.vocab;
    const RowState* state = inputs.states + state_row;
    row.logits = inputs.logits + index * vocab;
    row.state = state;
    row.counts = (state->flags & PENALISED) != 0 ? inputs.counts + state_row * vocab : nullptr;
    const bool is_masked = (state->flags & MASKED) != 0 && inputs.mask != nullptr;
    row.mask = is_masked ? inputs.mask + state_row * ((vocab + 31) / 32) : nullptr;
    row.bias_tokens = inputs.biases + state_row * 2 * inputs.biases_max;
    row.bias_values = row.bias_tokens + inputs.biases_max;
    row.vocab = inputs.vocab;
    return true;
}

DEVICE bool is_finite(float value) { return fabsf(value) < INFINITY; }

DEVICE bool is_allowed(const Row& row, uint32_t token) {
    return row.mask == nullptr || (row.mask[token / 32] >> (token % 32) & 1) != 0;
}

// What the request adds to the logit of a token; 0 for those it does not name.
DEVICE float bias_of(const Row& row, uint32_t token) {
    uint32_t low = 0, high = row.state->num_biases;
    while (low < high) {
        const uint32_t middle = (low + high) / 2;
        if (row.bias_tokens[middle] < token) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    const bool is_named = low < row.state->num_biases && row.bias_tokens[low] == token;
    return is_named ? __uint_as_float(row.bias_values[low]) : 0.0f;
}

// The logit after mask, penalties and bias, which a row without them passes unchanged.
DEVICE float adjusted(const Row& row, uint32_t token, float logit) {
    const RowState& state = *row.state;
    if (!is_allowed(row, token)) {
        return -INFINITY;
    }
    const uint32_t count = row.counts != nullptr ? row.counts[token] : 0;
    if (count != 0) {
        const uint32_t generated = count & 0x7fff;
        logit = logit > 0.0f ? logit / state.repetition_penalty : logit * state.repetition_penalty;
        if (generated != 0) {
            logit -= state.presence_penalty;
            // One rounding wherever it runs; left to itself a compiler may or may not fuse the two.
            logit = fmaf(-state.frequency_penalty, static_cast<float>(generated), logit);
        }
    }
    return state.num_biases != 0 ? logit + bias_of(row, token) : logit;
}

DEVICE float adjusted(const Row& row, uint32_t token) { return adjusted(row, token, row.logits[token]); }

// ---- order ----

// Integers in the order of the numbers; the two zeros are equal. Not for NaN.
DEVICE uint32_t order_key(float value) {
    const uint32_t bits = __float_as_uint(value + 0.0f);
    return bits ^ ((bits >> 31) != 0 ? 0xffffffff : 0x80000000);
}

DEVICE float value_of_key(uint32_t key) {
    return __uint_as_float(key ^ ((key >> 31) != 0 ? 0x80000000 : 0xffffffff));
}

// Larger for the larger value, and for the lower token among equals; 0 for NaN.
DEVICE uint64_t ranked(float value, uint32_t token) {
    return value == value ? static_cast<uint64_t>(order_key(value)) << 32 | ~token : 0;
}

// The same for a choice: minus infinity is none.
DEVICE uint64_t ranked_choice(float value, uint32_t token) { return value > -INFINITY ? ranked(value, token) : 0; }

DEVICE uint32_t ranked_token(uint64_t rank) { return ~static_cast<uint32_t>(rank); }
DEVICE float ranked_value(uint64_t rank) { return value_of_key(static_cast<uint32_t>(rank >> 32)); }

DEVICE uint64_t larger(uint64_t a, uint64_t b) { return a < b ? b : a; }

// ---- reductions; scratch: 32 values, free again afterwards ----

DEVICE uint64_t shuffle_xor(uint64_t value, int distance) {
    const uint32_t low = __shfl_xor_sync(0xffffffff, static_cast<uint32_t>(value), distance);
    const uint32_t high = __shfl_xor_sync(0xffffffff, static_cast<uint32_t>(value >> 32), distance);
    return static_cast<uint64_t>(high) << 32 | low;
}

DEVICE uint64_t warp_largest(uint64_t value) {
    for (int distance = 16; distance > 0; distance /= 2) {
        value = larger(value, shuffle_xor(value, distance));
    }
    return value;
}

DEVICE uint64_t block_largest(uint64_t value, uint64_t* scratch) {
    const uint32_t thread = threadIdx.x, num_warps = blockDim.x / 32;
    value = warp_largest(value);
    if (thread % 32 == 0) {
        scratch[thread / 32] = value;
    }
    __syncthreads();
    const uint64_t largest = warp_largest(thread % 32 < num_warps ? scratch[thread % 32] : 0);
    __syncthreads();
    return largest;
}

// The largest adjusted logit of a row whose slices have been scanned.
DEVICE float row_max(const SliceResult* slices, uint32_t num_slices, float* scratch) {
    float max = -INFINITY;
    for (uint32_t i = threadIdx.x; i < num_slices; i += blockDim.x) {
        max = fmaxf(max, slices[i].max);
    }
    return block_max(max, scratch);
}
