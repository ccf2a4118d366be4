// Attention of single rows over paged keys and values: decoding, or any row where results may not depend on company.
//
// A row's positions are divided into splits, at least SPLIT_TOKENS each and at most `splits_max` in number; the size of
// a split follows from the row's position (and from `splits_max`, fixed at load) and from nothing else, so a row has
// the same bits in any company and with any grid. A block of threads computes the splits blockIdx.y, + gridDim.y, ...
// of one row and up to sixteen query heads of one head of keys: keys and values are read once for all of them. Its four
// warps take every fourth block of positions, and are added in order. Unfinished outputs go to scratch memory; the last
// block of threads to arrive for a row and its heads adds those of all splits, in order, and sets the counter back.
//
// Launch: grid (rows in the list, splits, kv_heads * ceil(q_heads / kv_heads / 16)), 128 threads, shared memory
// `[16, round_up(head_dim, 64)]` floats + `[16, 32]` + `[2, 4, 16]` floats. A row that is PAD or does not exist is left
// out; a row whose table starts at PAD sees nothing and yields zeros. Must read the keys and values of what the rows
// see: 4 * head_dim bytes per position and kv head. Unmeasured.
#include "attention.cuh"

constexpr uint32_t THREADS = 128;
constexpr uint32_t WARPS = THREADS / 32;
constexpr uint32_t SPLIT_TOKENS = 128;
// Splits of a row: a lane for each when they are added.
constexpr uint32_t SPLITS = 32;

// Scratch memory, `[rows in the list, q_heads, splits_max]` of everything but `arrived: [rows in the list, gridDim.z]`.
struct Unfinished {
    float *sums, *peaks, *totals;
    uint32_t* arrived;
    uint32_t splits_max;
};

// The part of the grid that a block of threads belongs to.
struct Share {
    uint32_t row, table_start, kv_head, first_head, num_heads;
    Span seen;
    uint32_t num_splits, split_tokens;
};

// Shared memory of a block of threads.
struct Room {
    float *sums, *factors, *peaks, *totals;
    uint32_t stride;
};
DEVICE Room room_of(unsigned char* memory, uint32_t head_dim) {
    const uint32_t stride = (head_dim + 63) / 64 * 64;
    auto* floats = reinterpret_cast<float*>(memory);
    float* factors = floats + LINES * stride;
    float* peaks = factors + LINES * SPLITS;
    return {floats, factors, peaks, peaks + WARPS * LINES, stride};
}

DEVICE Share share_of(const Attention& attention, uint32_t row, uint32_t position, uint32_t table_start,
                      uint32_t splits_max) {
    const uint32_t group = attention.q_heads / attention.kv_heads, parts = gridDim.z / attention.kv_heads;
    const uint32_t first_in_group = blockIdx.z % parts * LINES;
    Share share;
    share.row = row;
    share.table_start = table_start;
    share.kv_head = blockIdx.z / parts;
    share.first_head = share.kv_head * group + first_in_group;
    share.num_heads = min(group - first_in_group, LINES);
    share.seen = seen_from(attention, table_start, position, position);
    // Splits begin with a block of positions.
    const uint32_t start = share.seen.start / BLOCK_TOKENS * BLOCK_TOKENS, tokens = share.seen.end - start;
    share.split_tokens = SPLIT_TOKENS;
    while (share.split_tokens * splits_max < tokens) {
        share.split_tokens *= 2;
    }
    share.num_splits = (tokens + share.split_tokens - 1) / share.split_tokens;
    return share;
}

// Row of scratch memory of a head's first split.
DEVICE uint64_t unfinished_row(const Attention& attention, const Unfinished& unfinished, uint32_t head) {
    return (static_cast<uint64_t>(blockIdx.x) * attention.q_heads + head) * unfinished.splits_max;
}

// Adds up what the four warps saw: the sums of all lines in `room.sums`, and peaks and totals by warp.
template <uint32_t DIMS> DEVICE void add_warps(Lines<DIMS>& lines, const Room& room) {
    const uint32_t warp = threadIdx.x / 32, group = threadIdx.x % 32 / 4, pair = threadIdx.x % 4;
    sum_totals(lines);
#pragma unroll
    for (uint32_t line = 0; line < 2; ++line) {
        if (pair == 0) {
            room.peaks[warp * LINES + group + 8 * line] = lines.peaks[line];
            room.totals[warp * LINES + group + 8 * line] = lines.totals[line];
        }
    }
    __syncthreads();
    for (uint32_t adding = 0; adding < WARPS; ++adding) {
        if (adding == warp) {
#pragma unroll
            for (uint32_t line = 0; line < 2; ++line) {
                const uint32_t row = group + 8 * line;
                float peak = LOWEST;
                for (uint32_t other = 0; other < WARPS; ++other) {
                    peak = fmaxf(peak, room.peaks[other * LINES + row]);
                }
                const float factor = expf(lines.peaks[line] - peak);
                float* sums = room.sums + row * room.stride + 16 * pair;
#pragma unroll
                for (uint32_t part = 0; part < Lines<DIMS>::VALUE_PARTS; ++part) {
#pragma unroll
                    for (uint32_t i = 0; i < 16; ++i) {
                        const float sum = lines.sums[part][i % 8][2 * line + i / 8] * factor;
                        if (64 * part < room.stride) {
                            sums[64 * part + i] = adding == 0 ? sum : sums[64 * part + i] + sum;
                        }
                    }
                }
            }
        }
        __syncthreads();
    }
}

// Takes one split of a block's lines to scratch memory.
DEVICE void store_split(const Attention& attention, const Unfinished& unfinished, const Share& share, const Room& room,
                        uint32_t split) {
    for (uint32_t line = 0; line < share.num_heads; ++line) {
        const uint64_t at = unfinished_row(attention, unfinished, share.first_head + line) + split;
        for (uint32_t dim = threadIdx.x; dim < attention.head_dim; dim += THREADS) {
            unfinished.sums[at * attention.head_dim + dim] = room.sums[line * room.stride + dim];
        }
        if (threadIdx.x == 0) {
            float peak = LOWEST, total = 0.0f;
            for (uint32_t warp = 0; warp < WARPS; ++warp) {
                peak = fmaxf(peak, room.peaks[warp * LINES + line]);
            }
            for (uint32_t warp = 0; warp < WARPS; ++warp) {
                total += room.totals[warp * LINES + line] * expf(room.peaks[warp * LINES + line] - peak);
            }
            unfinished.peaks[at] = peak;
            unfinished.totals[at] = total;
        }
    }
}

// Whether this block of threads is the last of its row and heads, having finished `splits` of them.
DEVICE bool is_last(const Unfinished& unfinished, const Share& share, const Room& room, uint32_t splits) {
    // What this block has written is seen by whoever sees that it has arrived.
    __threadfence();
    __syncthreads();
    if (threadIdx.x == 0) {
        uint32_t* arrived = unfinished.arrived + static_cast<uint64_t>(blockIdx.x) * gridDim.z + blockIdx.z;
        const bool is_last = atomicAdd(arrived, splits) + splits == share.num_splits;
        if (is_last) {
            *arrived = 0;
        }
        room.factors[0] = is_last ? 1.0f : 0.0f;
    }
    __syncthreads();
    const bool is_last = room.factors[0] != 0.0f;
    __syncthreads();
    __threadfence();
    return is_last;
}

// Adds all splits of the row's heads and writes the outputs.
DEVICE void finish(const Attention& attention, const Unfinished& unfinished, const Share& share, const Room& room) {
    const uint32_t split = threadIdx.x % 32;
    for (uint32_t line = threadIdx.x / 32; line < share.num_heads; line += WARPS) {
        const uint32_t head = share.first_head + line;
        const uint64_t at = unfinished_row(attention, unfinished, head) + split;
        const bool is_there = split < share.num_splits;
        const float own_peak = is_there ? unfinished.peaks[at] : LOWEST;
        float peak = warp_max(own_peak);
        if (attention.sinks != nullptr) {
            peak = fmaxf(peak, attention.sinks[head]);
        }
        const float factor = expf(own_peak - peak);
        float total = warp_sum(is_there ? unfinished.totals[at] * factor : 0.0f);
        if (attention.sinks != nullptr) {
            total += expf(attention.sinks[head] - peak);
        }
        room.factors[line * SPLITS + split] = total == 0.0f ? 0.0f : factor / total;
    }
    __syncthreads();
    for (uint32_t line = 0; line < share.num_heads; ++line) {
        const uint32_t head = share.first_head + line;
        const float* sums = unfinished.sums + unfinished_row(attention, unfinished, head) * attention.head_dim;
        for (uint32_t dim = threadIdx.x; dim < attention.head_dim; dim += THREADS) {
            float sum = 0.0f;
            for (uint32_t other = 0; other < share.num_splits; ++other) {
                sum = fmaf(room.factors[line * SPLITS + other], sums[other * attention.head_dim + dim], sum);
            }
            attention.out[place_of(attention, share.row, head) + dim] = to_bf16(sum);
        }
    }
}

// A row that sees nothing.
DEVICE void write_zeros(const Attention& attention, const Share& share) {
    for (uint32_t i = threadIdx.x; i < share.num_heads * attention.head_dim; i += THREADS) {
        attention.out[place_of(attention, share.row, share.first_head) + i] = to_bf16(0.0f);
    }
}

template <uint32_t DIMS, class Load>
DEVICE void attend_row(const Attention& attention, const Unfinished& unfinished, const uint32_t* row_list,
                       const uint32_t* positions, const uint32_t* table_starts) {
    SHARED_MEMORY(memory);
    const uint32_t row = row_list[blockIdx.x];
    if (row >= attention.num_rows) {
        return;
    }
    const Share share = share_of(attention, row, positions[row], table_starts[row], unfinished.splits_max);
    if (blockIdx.y >= share.num_splits) {
        if (blockIdx.y == 0) {
            write_zeros(attention, share);
        }
        return;
    }
    const Room room = room_of(memory, attention.head_dim);
    const uint32_t warp = threadIdx.x / 32, group = threadIdx.x % 32 / 4;
    const bf16* first_query = attention.queries + place_of(attention, row, share.first_head);
    const bf16* const queries[2] = {
        group < share.num_heads ? first_query + group * attention.head_dim : nullptr,
        group + 8 < share.num_heads ? first_query + (group + 8) * attention.head_dim : nullptr,
    };
    Lines<DIMS> lines;
    begin<Load>(lines, queries, attention.head_dim);
    const Span seen[2] = {share.seen, share.seen};
    const uint32_t first_block = share.seen.start / BLOCK_TOKENS;
    const uint32_t end_block = (share.seen.end + BLOCK_TOKENS - 1) / BLOCK_TOKENS;
    const uint32_t blocks = share.split_tokens / BLOCK_TOKENS;
    uint32_t splits = 0;
    for (uint32_t split = blockIdx.y; split < share.num_splits; split += gridDim.y) {
        clear(lines);
        const uint32_t start = first_block + split * blocks, end = min(start + blocks, end_block);
        for (uint32_t block = start + warp; block < end; block += WARPS) {
            const bf16* keys = keys_of(attention, share.table_start, block, share.kv_head);
            if (keys != nullptr) {
                const uint32_t position = block * BLOCK_TOKENS;
                see_block<Load>(lines, attention, keys, values_offset(attention), position, share.seen, seen);
            }
        }
        add_warps(lines, room);
        store_split(attention, unfinished, share, room, split);
        // Shared memory is used again.
        __syncthreads();
        ++splits;
    }
    if (is_last(unfinished, share, room, splits)) {
        finish(attention, unfinished, share, room);
    }
}

#define PARAMETERS                                                                                                     \
    const bf16 *queries, const bf16 *keys_and_values, const uint32_t *block_tables, const float *sinks, bf16 *out,     \
        const uint32_t *row_list, const uint32_t *positions, const uint32_t *table_starts, float *sums, float *peaks,  \
        float *totals, uint32_t *arrived, uint32_t num_rows, uint32_t num_entries, uint32_t num_blocks,                \
        uint32_t q_heads, uint32_t kv_heads, uint32_t head_dim, uint32_t window, float scale, float soft_cap,          \
        uint32_t splits_max
#define ATTEND(dims, load)                                                                                             \
    attend_row<dims, load>({queries, keys_and_values, block_tables, sinks, out, num_rows, num_entries, num_blocks,     \
                            q_heads, kv_heads, head_dim, window, scale, soft_cap},                                     \
                           {sums, peaks, totals, arrived, splits_max}, row_list, positions, table_starts)

// By the largest head_dim; `any` is for those that are no multiple of 8. Registers on sm_90a: 118, 199, 255 (36 bytes
// spilled); a head of 512 does not fit registers, and is slow.
KERNEL_BOUNDS(attend_rows_64, 128)(PARAMETERS) { ATTEND(64, FromCache); }
KERNEL_BOUNDS(attend_rows_128, 128)(PARAMETERS) { ATTEND(128, FromCache); }
KERNEL_BOUNDS(attend_rows_256, 128)(PARAMETERS) { ATTEND(256, FromCache); }
KERNEL_BOUNDS(attend_rows_512, 128)(PARAMETERS) { ATTEND(512, FromCache); }
KERNEL_BOUNDS(attend_rows_any_64, 128)(PARAMETERS) { ATTEND(64, OneByOne); }
KERNEL_BOUNDS(attend_rows_any_512, 128)(PARAMETERS) { ATTEND(512, OneByOne); }
