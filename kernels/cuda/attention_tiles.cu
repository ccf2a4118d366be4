// Causal attention of chunks of a prefill over paged keys and values: tiles of up to sixteen consecutive rows of one
// sequence, any number of sequences in one launch.
//
// A block of threads computes one tile for up to eight query heads of one head of keys, a warp for each. It goes
// through the sequence a block of sixteen positions at a time: keys and values are copied to shared memory once for all
// warps, the next block's while this one's are used.
//
// Launch: grid (tiles, kv_heads, ceil(q_heads / kv_heads / 8)), a warp per head, shared memory `[2 buffers, 2, 16,
// head_dim]` of bf16. `tiles: [tiles, 4]`: first row, rows, position of the first row, start of the block table. A tile
// whose first row is PAD is left out; one whose table starts at PAD sees nothing and yields zeros. Must read 4 *
// head_dim bytes per position and kv head for every tile; matrix instructions take 4 * 16 * 16 * head_dim operations
// per block of positions and query head. Lanes meet in the banks of shared memory, two at a key and four at a value,
// where head_dim is a multiple of 64. Unmeasured.
#include "attention.cuh"

constexpr uint32_t HEADS = 8;
constexpr uint32_t BUFFERS = 2;

struct Tile {
    uint32_t first_row, rows, start, table_start;
};

// Begins to copy keys and values of a block of positions, if there is one, as one group of copies. What a head holds in
// a block is one piece of memory, 32 * head_dim bytes, and begins at a multiple of its size.
DEVICE void begin_copy(const Attention& attention, const bf16* keys, bf16* buffer) {
    if (keys != nullptr) {
        const uint32_t values = BLOCK_TOKENS * attention.head_dim;
        for (uint32_t at = 8 * threadIdx.x; at < values; at += 8 * blockDim.x) {
            copy_async16(buffer + at, keys + at);
            copy_async16(buffer + values + at, keys + values_offset(attention) + at);
        }
    }
    copy_async_commit();
}

// Divides by the sum of the weights and the sink's, and writes this lane's parts of its two rows.
template <uint32_t DIMS>
DEVICE void write_outputs(const Attention& attention, Lines<DIMS>& lines, uint32_t head, bf16* const (&rows)[2]) {
    const uint32_t pair = threadIdx.x % 4;
    sum_totals(lines);
#pragma unroll
    for (uint32_t line = 0; line < 2; ++line) {
        if (rows[line] == nullptr) {
            continue;
        }
        float factor = 1.0f, total = lines.totals[line];
        if (attention.sinks != nullptr) {
            const float peak = fmaxf(lines.peaks[line], attention.sinks[head]);
            factor = expf(lines.peaks[line] - peak);
            total = total * factor + expf(attention.sinks[head] - peak);
        }
        factor = total == 0.0f ? 0.0f : factor / total;
#pragma unroll
        for (uint32_t part = 0; part < Lines<DIMS>::VALUE_PARTS; ++part) {
#pragma unroll
            for (uint32_t half = 0; half < 2; ++half) {
                float values[8];
#pragma unroll
                for (uint32_t i = 0; i < 8; ++i) {
                    values[i] = lines.sums[part][i][2 * line + half] * factor;
                }
                store_eight(rows[line], 64 * part + 16 * pair + 8 * half, attention.head_dim, values);
            }
        }
    }
}

template <uint32_t DIMS, class Load> DEVICE void attend_tile(const Attention& attention, const uint32_t* tiles) {
    SHARED_MEMORY(memory);
    const uint32_t* entry = tiles + 4 * static_cast<uint64_t>(blockIdx.x);
    const Tile tile = {entry[0], min(entry[1], LINES), entry[2], entry[3]};
    if (tile.first_row >= attention.num_rows || tile.rows == 0) {
        return;
    }
    const uint32_t queries_per_key = attention.q_heads / attention.kv_heads;
    const uint32_t head_in_group = blockIdx.z * (blockDim.x / 32) + threadIdx.x / 32;
    const bool has_head = head_in_group < queries_per_key;
    const uint32_t head = blockIdx.y * queries_per_key + head_in_group;
    const bf16* queries[2] = {nullptr, nullptr};
    bf16* outputs[2] = {nullptr, nullptr};
    Span seen[2] = {{0, 0}, {0, 0}};
#pragma unroll
    for (uint32_t line = 0; line < 2; ++line) {
        const uint32_t index = threadIdx.x % 32 / 4 + 8 * line, row = tile.first_row + index;
        if (has_head && index < tile.rows && row < attention.num_rows) {
            queries[line] = attention.queries + place_of(attention, row, head);
            outputs[line] = attention.out + place_of(attention, row, head);
            seen[line] = seen_from(attention, tile.table_start, tile.start + index, tile.start + index);
        }
    }
    Lines<DIMS> lines;
    begin<Load>(lines, queries, attention.head_dim);
    clear(lines);

    const Span readable = seen_from(attention, tile.table_start, tile.start, tile.start + tile.rows - 1);
    const uint32_t first = readable.start / BLOCK_TOKENS, end = (readable.end + BLOCK_TOKENS - 1) / BLOCK_TOKENS;
    const uint32_t values = BLOCK_TOKENS * attention.head_dim;
    auto* buffers = reinterpret_cast<bf16*>(memory);
    const bf16* next_keys = first < end ? keys_of(attention, tile.table_start, first, blockIdx.y) : nullptr;
    begin_copy(attention, next_keys, buffers);
    for (uint32_t block = first; block < end; ++block) {
        const bf16* keys = next_keys;
        next_keys = block + 1 < end ? keys_of(attention, tile.table_start, block + 1, blockIdx.y) : nullptr;
        begin_copy(attention, next_keys, buffers + (block + 1 - first) % BUFFERS * 2 * values);
        copy_async_wait<1>();
        __syncthreads();
        if (keys != nullptr) {
            const bf16* buffer = buffers + (block - first) % BUFFERS * 2 * values;
            see_block<Load>(lines, attention, buffer, values, block * BLOCK_TOKENS, readable, seen);
        }
        // The buffer is filled again.
        __syncthreads();
    }
    write_outputs(attention, lines, head, outputs);
}

#define PARAMETERS                                                                                                     \
    const bf16 *queries, const bf16 *keys_and_values, const uint32_t *block_tables, const float *sinks, bf16 *out,     \
        const uint32_t *tiles, uint32_t num_rows, uint32_t num_entries, uint32_t num_blocks, uint32_t q_heads,         \
        uint32_t kv_heads, uint32_t head_dim, uint32_t window, float scale, float soft_cap
#define ATTEND(dims, load)                                                                                             \
    attend_tile<dims, load>({queries, keys_and_values, block_tables, sinks, out, num_rows, num_entries, num_blocks,    \
                             q_heads, kv_heads, head_dim, window, scale, soft_cap}, tiles)

// By the largest head_dim; `any` is for those that are no multiple of 8. Registers on sm_90a: 116, 188, 255 (16 bytes
// spilled); a head of 512 does not fit registers, and is slow.
KERNEL_BOUNDS(attend_tiles_64, 32 * HEADS)(PARAMETERS) { ATTEND(64, Aligned); }
KERNEL_BOUNDS(attend_tiles_128, 32 * HEADS)(PARAMETERS) { ATTEND(128, Aligned); }
KERNEL_BOUNDS(attend_tiles_256, 32 * HEADS)(PARAMETERS) { ATTEND(256, Aligned); }
KERNEL_BOUNDS(attend_tiles_512, 32 * HEADS)(PARAMETERS) { ATTEND(512, Aligned); }
KERNEL_BOUNDS(attend_tiles_any_64, 32 * HEADS)(PARAMETERS) { ATTEND(64, OneByOne); }
KERNEL_BOUNDS(attend_tiles_any_512, 32 * HEADS)(PARAMETERS) { ATTEND(512, OneByOne); }
