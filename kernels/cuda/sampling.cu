// One token per row: scan, (sampling_filter between them,) draw, finish.
//
// logits: f32 [rows, vocab]; state_rows: [rows], rows of the state table, each at most once in a launch, PAD where the
// row is padding. slices: [rows, num_slices]; tops: [rows, num_slices, TOP_MAX]; floors, records: [rows].
// Scan and draw: a grid of (num_slices, rows) blocks, the blocks of both have the same size; finish: a block per row.
// Shared memory: 32 values of 8 bytes.
//
// The draw is Gumbel-max: the largest of logit / temperature + noise follows the softmax, and no sum over the tokens is
// needed. The noise of a token depends on (seed, number of tokens sampled so far, token) alone: SplitMix64 (Steele,
// Lea, Flood 2014, "Fast splittable pseudorandom number generators"), seeded with a mix of the first two and read at
// the third.
// Moves 4 bytes per logit for a greedy row, 8 for one that draws (the second time from the L2 cache while the batch is
// small), more for penalties (2 bytes) and for sampling_filter. Unmeasured.
#include "sampling.cuh"

// ---- scan: what the slices of a row hold; greedy rows have their choice here ----

DEVICE void report_slice(const float (&raw)[SLICE_VALUES], const Row& row, SliceResult& result, uint64_t* tops,
                         uint64_t* scratch) {
    float* float_scratch = reinterpret_cast<float*>(scratch);
    const uint32_t first = blockIdx.x * blockDim.x * SLICE_VALUES + threadIdx.x;
    float max = -INFINITY, sum = 0.0f;
    for (uint32_t i = 0; i < SLICE_VALUES; ++i) {
        max = fmaxf(max, raw[i]);
    }
    max = block_max(max, float_scratch);
    for (uint32_t i = 0; i < SLICE_VALUES; ++i) {
        // A slice of nothing but minus infinity has no maximum to subtract.
        sum += raw[i] == -INFINITY ? 0.0f : expf(raw[i] - max);
    }
    sum = block_sum(sum, float_scratch);
    if (threadIdx.x == 0) {
        result.raw_max = max;
        result.raw_sum = sum;
    }
    uint64_t previous = ~uint64_t{0};
    for (uint32_t place = 0; place < row.state->num_logprobs; ++place) {
        uint64_t next = 0;
        for (uint32_t i = 0; i < SLICE_VALUES; ++i) {
            const uint32_t token = first + i * blockDim.x;
            const uint64_t rank = token < row.vocab ? ranked(raw[i], token) : 0;
            next = rank < previous ? larger(next, rank) : next;
        }
        previous = block_largest(next, scratch);
        if (threadIdx.x == 0) {
            tops[place] = previous;
        }
    }
}

KERNEL_BOUNDS(sampling_scan, 256)(const float* logits, const uint32_t* state_rows, const RowState* states,
                                  const uint16_t* counts, const uint32_t* biases, const uint32_t* mask,
                                  SliceResult* slices, uint64_t* tops, uint32_t num_state_rows, uint32_t vocab,
                                  uint32_t biases_max) {
    SHARED_MEMORY(memory);
    uint64_t* scratch = reinterpret_cast<uint64_t*>(memory);
    float* float_scratch = reinterpret_cast<float*>(memory);
    const SamplingInputs inputs = {logits, state_rows, states, counts, biases, mask, num_state_rows, vocab, biases_max};
    Row row;
    if (!open_row(inputs, blockIdx.y, row)) {
        return;
    }
    const uint64_t slice = static_cast<uint64_t>(blockIdx.y) * gridDim.x + blockIdx.x;
    const uint32_t first = blockIdx.x * blockDim.x * SLICE_VALUES + threadIdx.x;
    float raw[SLICE_VALUES], max = -INFINITY, has_finite = 0.0f;
    uint64_t best = 0;
    for (uint32_t i = 0; i < SLICE_VALUES; ++i) {
        const uint32_t token = first + i * blockDim.x;
        raw[i] = token < vocab ? row.logits[token] : -INFINITY;
    }
    for (uint32_t i = 0; i < SLICE_VALUES; ++i) {
        const uint32_t token = first + i * blockDim.x;
        if (token < vocab) {
            const float logit = adjusted(row, token, raw[i]);
            max = fmaxf(max, logit);
            best = larger(best, ranked_choice(logit, token));
            has_finite = is_finite(raw[i]) && is_allowed(row, token) ? 1.0f : has_finite;
        }
    }

    SliceResult& result = slices[slice];
    has_finite = block_max(has_finite, float_scratch);
    // The two kinds of row need one each.
    const bool draws = (row.state->flags & DRAWS) != 0;
    if (draws) {
        max = block_max(max, float_scratch);
    } else {
        best = block_largest(best, scratch);
    }
    if (threadIdx.x == 0) {
        result.has_finite = has_finite > 0.0f;
        result.max = max;
        result.best = best;
    }
    if ((row.state->flags & REPORTS) != 0) {
        report_slice(raw, row, result, tops + slice * TOP_MAX, scratch);
    }
}

// ---- draw: the choice of rows that are not greedy ----

constexpr uint64_t GOLDEN_GAMMA = 0x9e3779b97f4a7c15;

DEVICE uint64_t mix(uint64_t value) {
    value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9;
    value = (value ^ (value >> 27)) * 0x94d049bb133111eb;
    return value ^ (value >> 31);
}

// Where the noise of one draw begins.
DEVICE uint64_t noise_stream(const RowState& state) {
    return mix(mix(state.seed + GOLDEN_GAMMA) + (state.sampled_tokens + 1) * GOLDEN_GAMMA);
}

// -ln(-ln(1 - u)) with u uniform in (0, 1). Large values come from small u, where floats are dense: a likely token is
// not told apart from an unlikely one by the 24 bits of a uniform number close to 1.
DEVICE float gumbel(uint64_t stream, uint32_t token) {
    const uint64_t bits = mix(stream + (token + uint64_t{1}) * GOLDEN_GAMMA);
    const float uniform = fminf(static_cast<float>(bits | 1) * 0x1p-64f, 0x1.fffffep-1f);
    return -logf(-log1pf(-uniform));
}

KERNEL_BOUNDS(sampling_draw, 256)(const float* logits, const uint32_t* state_rows, const RowState* states,
                                  const uint16_t* counts, const uint32_t* biases, const uint32_t* mask,
                                  const uint32_t* floors, SliceResult* slices, uint32_t num_state_rows, uint32_t vocab,
                                  uint32_t biases_max) {
    SHARED_MEMORY(memory);
    const SamplingInputs inputs = {logits, state_rows, states, counts, biases, mask, num_state_rows, vocab, biases_max};
    Row row;
    if (!open_row(inputs, blockIdx.y, row)) {
        return;
    }
    const RowState& state = *row.state;
    if ((state.flags & DRAWS) == 0) {
        return;
    }
    SliceResult* row_slices = slices + static_cast<uint64_t>(blockIdx.y) * gridDim.x;
    const float max = row_max(row_slices, gridDim.x, reinterpret_cast<float*>(memory));
    const uint32_t floor = floors[blockIdx.y];
    const uint64_t stream = noise_stream(state);
    const uint32_t first = blockIdx.x * blockDim.x * SLICE_VALUES + threadIdx.x;
    uint64_t best = 0;
    for (uint32_t i = 0; i < SLICE_VALUES; ++i) {
        const uint32_t token = first + i * blockDim.x;
        if (token >= vocab) {
            break;
        }
        const float logit = adjusted(row, token), distance = logit - max;
        if (!is_finite(max)) {
            // An infinite logit wins whatever the others are.
            best = larger(best, ranked_choice(logit, token));
        } else if (distance >= state.min_p_span && order_key(logit) >= floor) {
            best = larger(best, ranked_choice(distance / state.temperature + gumbel(stream, token), token));
        }
    }
    best = block_largest(best, reinterpret_cast<uint64_t*>(memory));
    if (threadIdx.x == 0) {
        row_slices[blockIdx.x].best = best;
    }
}

// ---- finish: from slices to the token, its report, and the state for the next step ----

// SampleRecord::flags.
constexpr uint32_t IS_SAMPLED = 1, HAS_LOGPROBS = 2;

// The result of a row, as the host reads it.
struct SampleRecord {
    uint32_t flags;
    uint32_t token;
    float logprob;
    uint32_t num_top;
    uint32_t top_tokens[TOP_MAX];
    float top_logprobs[TOP_MAX];
};

// Natural logarithm of the sum of exponentials of the model's own logits.
DEVICE float row_log_sum(const SliceResult* slices, uint32_t num_slices, float* scratch) {
    float max = -INFINITY, sum = 0.0f;
    for (uint32_t i = threadIdx.x; i < num_slices; i += blockDim.x) {
        max = fmaxf(max, slices[i].raw_max);
    }
    max = block_max(max, scratch);
    for (uint32_t i = threadIdx.x; i < num_slices; i += blockDim.x) {
        sum += slices[i].raw_sum * expf(slices[i].raw_max - max);
    }
    return max + logf(block_sum(sum, scratch));
}

// Merges what the slices report, most likely first.
DEVICE void report_row(const uint64_t* tops, uint32_t num_slices, uint32_t num_logprobs, float log_sum,
                       SampleRecord& record, uint64_t* scratch) {
    uint64_t previous = ~uint64_t{0};
    uint32_t num_top = 0;
    for (; num_top < num_logprobs; ++num_top) {
        uint64_t next = 0;
        for (uint32_t i = threadIdx.x; i < num_slices * num_logprobs; i += blockDim.x) {
            const uint64_t rank = tops[i / num_logprobs * TOP_MAX + i % num_logprobs];
            next = rank < previous ? larger(next, rank) : next;
        }
        previous = block_largest(next, scratch);
        if (previous == 0) {
            break;
        }
        if (threadIdx.x == 0) {
            record.top_tokens[num_top] = ranked_token(previous);
            record.top_logprobs[num_top] = ranked_value(previous) - log_sum;
        }
    }
    if (threadIdx.x == 0) {
        record.num_top = num_top;
    }
}

// A row without a finite logit is flagged, and its state stays as it was.
KERNEL_BOUNDS(sampling_finish, 128)(const float* logits, const uint32_t* state_rows, const SliceResult* slices,
                                    const uint64_t* tops, RowState* states, uint16_t* counts, SampleRecord* records,
                                    uint32_t num_state_rows, uint32_t vocab, uint32_t num_slices) {
    SHARED_MEMORY(memory);
    uint64_t* scratch = reinterpret_cast<uint64_t*>(memory);
    const uint64_t index = blockIdx.x, state_row = state_rows[index];
    if (state_row >= num_state_rows) {
        return;
    }
    RowState& state = states[state_row];
    SampleRecord& record = records[index];
    const SliceResult* row_slices = slices + index * num_slices;
    uint64_t best = 0;
    float has_finite = 0.0f;
    for (uint32_t i = threadIdx.x; i < num_slices; i += blockDim.x) {
        best = larger(best, row_slices[i].best);
        has_finite = row_slices[i].has_finite != 0 ? 1.0f : has_finite;
    }
    best = block_largest(best, scratch);
    has_finite = block_max(has_finite, reinterpret_cast<float*>(memory));
    if (best == 0 || has_finite == 0.0f) {
        if (threadIdx.x == 0) {
            record.flags = 0;
            record.token = 0xffffffff;
        }
        return;
    }

    const uint32_t token = ranked_token(best);
    const bool reports = (state.flags & REPORTS) != 0;
    if (reports) {
        const float log_sum = row_log_sum(row_slices, num_slices, reinterpret_cast<float*>(memory));
        report_row(tops + index * num_slices * TOP_MAX, num_slices, state.num_logprobs, log_sum, record, scratch);
        if (threadIdx.x == 0) {
            record.logprob = logits[index * vocab + token] - log_sum;
        }
    }
    if (threadIdx.x == 0) {
        record.flags = reports ? IS_SAMPLED | HAS_LOGPROBS : IS_SAMPLED;
        record.token = token;
        state.last_token = token;
        state.sampled_tokens += 1;
        if ((state.flags & PENALISED) != 0) {
            uint16_t& count = counts[state_row * vocab + token];
            // 32767 occurrences stand for more.
            count = static_cast<uint16_t>((count & 0x7fff) < 0x7fff ? count + 1 : count);
        }
    }
}
