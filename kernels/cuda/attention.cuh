// What a warp does in attention: sixteen queries that share a head of keys and values ("lines"), by matrix instructions
// over the sixteen positions of a block at a time. Included by attention_rows.cu and attention_tiles.cu.
//
// Lane = 4 * group + pair, as the PTX manual draws the fragments of mma.m16n8k16; a lane looks after lines `group` and
// `group + 8`. The order of the axis that is summed over is free, if both factors have the same one, and so is the
// order of the columns of a product. It is chosen so that a lane's part of a row of keys, values or outputs is a piece
// of 16 bytes: of every 32 dimensions of a key a lane holds those from 8 * pair on, of every 64 dimensions of a value
// those from 8 * group on, of every 64 dimensions of an output those from 16 * pair on, sixteen of them.
//
// The softmax is carried from block to block as in arXiv:2205.14135. Weights are rounded to bf16 before they are summed
// too, so that an output lies among the values however they were rounded.
#pragma once

#include "platform.cuh"

constexpr uint32_t BLOCK_TOKENS = 16;
constexpr uint32_t LINES = 16;
constexpr uint32_t ALL_LANES_MASK = 0xffffffff;
// Below every score, and no infinity: the difference of two of them is zero.
constexpr float LOWEST = -3.402823466e38f;

// Positions from `start` up to, and not with, `end`.
struct Span {
    uint32_t start, end;
};
DEVICE bool contains(Span span, uint32_t position) { return position >= span.start && position < span.end; }
// In a span that is not empty.
DEVICE uint32_t nearest(Span span, uint32_t position) { return min(max(position, span.start), span.end - 1); }

// What is the same for all rows of a launch. `keys_and_values` are those of the layer, `[blocks, 2, kv_heads, 16,
// head_dim]`; a window or cap of zero is none, `sinks` may be null.
struct Attention {
    const bf16* queries;
    const bf16* keys_and_values;
    const uint32_t* block_tables;
    const float* sinks;
    bf16* out;
    uint32_t num_rows, num_entries, num_blocks, q_heads, kv_heads, head_dim, window;
    float scale, soft_cap;
};

// What the positions `first` to `last` of a sequence see between them. Nothing lies behind the end of all tables.
DEVICE Span seen_from(const Attention& attention, uint32_t table_start, uint32_t first, uint32_t last) {
    if (table_start >= attention.num_entries) {
        return {0, 0};
    }
    last = min(last, BLOCK_TOKENS * (attention.num_entries - table_start) - 1);
    first = min(first, last);
    const uint32_t window = attention.window;
    return {window != 0 && window <= first ? first + 1 - window : 0, last + 1};
}

// Keys of a head in one block of a sequence; null where the table names no block.
DEVICE const bf16* keys_of(const Attention& attention, uint32_t table_start, uint32_t index, uint32_t kv_head) {
    const uint32_t block = attention.block_tables[table_start + index];
    const uint64_t head = static_cast<uint64_t>(block) * 2 * attention.kv_heads + kv_head;
    const uint64_t at = head * BLOCK_TOKENS * attention.head_dim;
    return block < attention.num_blocks ? attention.keys_and_values + at : nullptr;
}

// From the keys of a head to its values.
DEVICE uint32_t values_offset(const Attention& attention) {
    return attention.kv_heads * BLOCK_TOKENS * attention.head_dim;
}

// Where a head of a row lies among queries and outputs.
DEVICE uint64_t place_of(const Attention& attention, uint32_t row, uint32_t head) {
    return (static_cast<uint64_t>(row) * attention.q_heads + head) * attention.head_dim;
}

// ---- eight values of a row ----

DEVICE Vec16 no_values() { return {{0, 0, 0, 0}}; }
DEVICE uint32_t both(bf16 low, bf16 high) { return low.bits | static_cast<uint32_t>(high.bits) << 16; }

// How a kernel reads rows of queries, keys and values: from dimension `dim` on. The first two are for rows of whole
// 16-byte pieces. Behind the end of a row they give its beginning, so that a load waits for no condition: what comes of
// it is multiplied by the zeros of a query or belongs to outputs that are not written. The third gives zeros.
struct FromCache {
    DEVICE Vec16 eight(const bf16* row, uint32_t dim, uint32_t head_dim) {
        return load16_streaming(row + (dim < head_dim ? dim : 0));
    }
};
struct Aligned {
    DEVICE Vec16 eight(const bf16* row, uint32_t dim, uint32_t head_dim) {
        return load16(row + (dim < head_dim ? dim : 0));
    }
};
struct OneByOne {
    DEVICE Vec16 eight(const bf16* row, uint32_t dim, uint32_t head_dim) {
        Vec16 values = no_values();
        for (uint32_t i = 0; i < 8; ++i) {
            const uint32_t bits = dim + i < head_dim ? row[dim + i].bits : 0;
            values.words[i / 2] |= bits << (16 * (i % 2));
        }
        return values;
    }
};

// Stores eight values of a row from dimension `dim` on, none behind the end of the row.
DEVICE void store_eight(bf16* row, uint32_t dim, uint32_t head_dim, const float (&values)[8]) {
    if (head_dim % 8 != 0) {
#pragma unroll
        for (uint32_t i = 0; i < 8; ++i) {
            if (dim + i < head_dim) {
                row[dim + i] = to_bf16(values[i]);
            }
        }
    } else if (dim < head_dim) {
        Vec16 rounded;
#pragma unroll
        for (uint32_t i = 0; i < 4; ++i) {
            rounded.words[i] = both(to_bf16(values[2 * i]), to_bf16(values[2 * i + 1]));
        }
        store16(row + dim, rounded);
    }
}

// ---- sixteen lines ----

// A lane's part of sixteen queries and of what they have seen so far. Of the pairs of everything, the first belongs to
// line `group` and the second to line `group + 8`.
template <uint32_t DIMS> struct Lines {
    static constexpr uint32_t KEY_PARTS = DIMS / 32, VALUE_PARTS = DIMS / 64;
    Vec16 queries[KEY_PARTS][2];
    // Sums of weighted values: [..][i][0] and [1] are dimensions i and i + 8 of the sixteen from 16 * pair on, for the
    // first line, [2] and [3] for the second.
    float sums[VALUE_PARTS][8][4];
    float peaks[2];
    // Of this lane's positions only.
    float totals[2];
};

// `rows`: the two queries of this lane, null where there is none.
template <class Load, uint32_t DIMS>
DEVICE void begin(Lines<DIMS>& lines, const bf16* const (&rows)[2], uint32_t head_dim) {
    const uint32_t pair = threadIdx.x % 4;
#pragma unroll
    for (uint32_t line = 0; line < 2; ++line) {
#pragma unroll
        for (uint32_t part = 0; part < Lines<DIMS>::KEY_PARTS; ++part) {
            const uint32_t dim = 32 * part + 8 * pair;
            const bool is_there = rows[line] != nullptr && dim < head_dim;
            lines.queries[part][line] = is_there ? Load::eight(rows[line], dim, head_dim) : no_values();
        }
    }
}

// Forgets what was seen.
template <uint32_t DIMS> DEVICE void clear(Lines<DIMS>& lines) {
#pragma unroll
    for (uint32_t part = 0; part < Lines<DIMS>::VALUE_PARTS; ++part) {
#pragma unroll
        for (uint32_t i = 0; i < 32; ++i) {
            lines.sums[part][i / 4][i % 4] = 0.0f;
        }
    }
#pragma unroll
    for (uint32_t line = 0; line < 2; ++line) {
        lines.peaks[line] = LOWEST;
        lines.totals[line] = 0.0f;
    }
}

// Keys of sixteen positions, and values. A position that no line sees is replaced by one that is seen: its weight will
// be zero, and what lies in its place need not be a number.
template <uint32_t DIMS> struct Keys {
    // Of positions `group` and `group + 8`.
    Vec16 rows[2][DIMS / 32];
};
template <uint32_t DIMS> struct Values {
    // Of positions 2 * pair, + 1, + 8 and + 9.
    Vec16 rows[DIMS / 64][4];
};

template <class Load, uint32_t DIMS>
DEVICE void load_keys(Keys<DIMS>& keys, const bf16* from, uint32_t head_dim, Span offsets) {
    const uint32_t group = threadIdx.x % 32 / 4, pair = threadIdx.x % 4;
#pragma unroll
    for (uint32_t half = 0; half < 2; ++half) {
        const bf16* row = from + nearest(offsets, 8 * half + group) * head_dim;
#pragma unroll
        for (uint32_t part = 0; part < DIMS / 32; ++part) {
            keys.rows[half][part] = Load::eight(row, 32 * part + 8 * pair, head_dim);
        }
    }
}

template <class Load, uint32_t DIMS>
DEVICE void load_values(Values<DIMS>& values, const bf16* from, uint32_t head_dim, Span offsets) {
    const uint32_t group = threadIdx.x % 32 / 4, pair = threadIdx.x % 4;
#pragma unroll
    for (uint32_t i = 0; i < 4; ++i) {
        const bf16* row = from + nearest(offsets, 2 * pair + i % 2 + 8 * (i / 2)) * head_dim;
#pragma unroll
        for (uint32_t part = 0; part < DIMS / 64; ++part) {
            values.rows[part][i] = Load::eight(row, 64 * part + 8 * group, head_dim);
        }
    }
}

// Products of the lines with sixteen keys: `[half][2 * line + i]` is that of position 8 * half + 2 * pair + i.
template <uint32_t DIMS>
DEVICE void multiply_keys(float (&scores)[2][4], const Lines<DIMS>& lines, const Keys<DIMS>& keys) {
#pragma unroll
    for (uint32_t half = 0; half < 2; ++half) {
#pragma unroll
        for (uint32_t i = 0; i < 4; ++i) {
            scores[half][i] = 0.0f;
        }
#pragma unroll
        for (uint32_t part = 0; part < Lines<DIMS>::KEY_PARTS; ++part) {
            const uint32_t(&first)[4] = lines.queries[part][0].words;
            const uint32_t(&second)[4] = lines.queries[part][1].words;
            const uint32_t(&key)[4] = keys.rows[half][part].words;
#pragma unroll
            for (uint32_t word = 0; word < 4; word += 2) {
                const uint32_t a[4] = {first[word], second[word], first[word + 1], second[word + 1]};
                const uint32_t b[2] = {key[word], key[word + 1]};
                mma_bf16_16x8x16(scores[half], a, b);
            }
        }
    }
}

// Scales and caps what `multiply_keys` gave and takes it for a score where a line sees the position, `position` being
// that of the first key; then the softmax goes on: `weights` is the fragment of the new weights, and what was summed
// before is scaled to the new peak.
template <uint32_t DIMS>
DEVICE void weigh(Lines<DIMS>& lines, float (&scores)[2][4], const Attention& attention, uint32_t position,
                  const Span (&seen)[2], uint32_t (&weights)[4]) {
    const uint32_t pair = threadIdx.x % 4;
#pragma unroll
    for (uint32_t line = 0; line < 2; ++line) {
        float peak = lines.peaks[line];
#pragma unroll
        for (uint32_t i = 0; i < 4; ++i) {
            const uint32_t half = i / 2;
            float score = scores[half][2 * line + i % 2] * attention.scale;
            if (attention.soft_cap > 0.0f) {
                score = attention.soft_cap * tanhf(score / attention.soft_cap);
            }
            score = contains(seen[line], position + 8 * half + 2 * pair + i % 2) ? score : -INFINITY;
            scores[half][2 * line + i % 2] = score;
            peak = fmaxf(peak, score);
        }
        peak = fmaxf(peak, __shfl_xor_sync(ALL_LANES_MASK, peak, 1));
        peak = fmaxf(peak, __shfl_xor_sync(ALL_LANES_MASK, peak, 2));
        const float factor = expf(lines.peaks[line] - peak);
        float total = lines.totals[line] * factor;
#pragma unroll
        for (uint32_t half = 0; half < 2; ++half) {
            const bf16 low = to_bf16(expf(scores[half][2 * line] - peak));
            const bf16 high = to_bf16(expf(scores[half][2 * line + 1] - peak));
            weights[2 * half + line] = both(low, high);
            total += to_float(low) + to_float(high);
        }
        lines.peaks[line] = peak;
        lines.totals[line] = total;
#pragma unroll
        for (uint32_t part = 0; part < Lines<DIMS>::VALUE_PARTS; ++part) {
#pragma unroll
            for (uint32_t i = 0; i < 8; ++i) {
                lines.sums[part][i][2 * line] *= factor;
                lines.sums[part][i][2 * line + 1] *= factor;
            }
        }
    }
}

// Value `index` of two rows side by side.
DEVICE uint32_t side_by_side(const Vec16& first, const Vec16& second, uint32_t index) {
    const uint32_t low = first.words[index / 2], high = second.words[index / 2];
    return index % 2 == 0 ? (low & 0xffff) | high << 16 : low >> 16 | (high & 0xffff0000);
}

// Adds sixteen weighted values.
template <uint32_t DIMS>
DEVICE void add_values(Lines<DIMS>& lines, const uint32_t (&weights)[4], const Values<DIMS>& values) {
#pragma unroll
    for (uint32_t part = 0; part < Lines<DIMS>::VALUE_PARTS; ++part) {
        const Vec16(&rows)[4] = values.rows[part];
#pragma unroll
        for (uint32_t i = 0; i < 8; ++i) {
            const uint32_t b[2] = {side_by_side(rows[0], rows[1], i), side_by_side(rows[2], rows[3], i)};
            mma_bf16_16x8x16(lines.sums[part][i], weights, b);
        }
    }
}

// Sixteen positions of a sequence from `position` on, with their keys and values. No line sees a position outside
// `readable`, and what lies there is not read; at least one of the sixteen is inside.
template <class Load, uint32_t DIMS>
DEVICE void see_block(Lines<DIMS>& lines, const Attention& attention, const bf16* from, uint32_t from_keys_to_values,
                      uint32_t position, Span readable, const Span (&seen)[2]) {
    // Values are asked for before the scores are known, as far as registers reach.
    constexpr bool IS_EARLY = DIMS <= 128;
    const uint32_t end = min(readable.end, position + BLOCK_TOKENS), head_dim = attention.head_dim;
    const Span offsets = {max(readable.start, position) - position, end - position};
    Keys<DIMS> keys;
    Values<DIMS> values;
    load_keys<Load>(keys, from, head_dim, offsets);
    if (IS_EARLY) {
        load_values<Load>(values, from + from_keys_to_values, head_dim, offsets);
    }
    float scores[2][4];
    uint32_t weights[4];
    multiply_keys(scores, lines, keys);
    weigh(lines, scores, attention, position, seen, weights);
    if (!IS_EARLY) {
        load_values<Load>(values, from + from_keys_to_values, head_dim, offsets);
    }
    add_values(lines, weights, values);
}

// The sum of the weights of this lane's two lines, once all positions were seen.
template <uint32_t DIMS> DEVICE void sum_totals(Lines<DIMS>& lines) {
#pragma unroll
    for (uint32_t line = 0; line < 2; ++line) {
        lines.totals[line] += __shfl_xor_sync(ALL_LANES_MASK, lines.totals[line], 1);
        lines.totals[line] += __shfl_xor_sync(ALL_LANES_MASK, lines.totals[line], 2);
    }
}
