// What the kernels of linear layers share: how sixteen rows of weights meet eight rows of x, and in which order sums
// are taken. Both kernels (linear.cu, linear_tile.cu) give the same bits because they share this file.
//
// out = x * W^T + bias: mma.m16n8k16 with sixteen rows of W as its rows and eight rows of x as its columns. A sum over k
// may take its terms in any order as long as both operands take the same one. So a lane takes 16 bytes of a row of
// weights as they lie in memory, calls them the values that its fragment wants, and pairs them with the same values of
// x: no shuffles, no shared memory, and every load is 16 bytes wide.
//
// Words: a lane is `4 * group + quarter`. A *step* is 64 bytes of each row of weights: four quarters of 16 bytes, each
// VALUES values. A *piece* is 16 bytes of x: eight values. A *slice* is one of SLICES runs of steps.
//
// The order of a sum: steps of a slice one after the other into one accumulator, then the slices from first to last.
// It depends on in_features and the format alone: not on the number of rows, nor on the kernel.
#pragma once

constexpr uint32_t SLICES = 8;
// Bytes of a row of weights in a step.
constexpr uint32_t STEP_BYTES = 64;
// Rows of weights and rows of x in one matrix instruction.
constexpr uint32_t TILE_OUTPUTS = 16;
constexpr uint32_t TILE_ROWS = 8;

// The arguments of every kernel here. Rows of weights are 16-byte aligned and padded with values that mean zero.
struct Linear {
    const uint8_t* weights; // [out_features, row_bytes]
    const void* scales;     // none; f32 [out_features] (fp8); bf16 [out_features, groups] (int4)
    const float* bias;      // [out_features] or null
    const bf16* x;          // [rows, in_features]
    float* out;             // [rows, out_features]
    uint32_t rows, in_features, out_features;
};

// Two floats that are bf16 values already: the first is the lower half of the word.
DEVICE uint32_t pack_exact(float first, float second) {
    return __float_as_uint(first) >> 16 | (__float_as_uint(second) & 0xffff0000);
}

// A format says how many values lie in 16 bytes, and turns them into pairs of bf16 in the order of k. Every stored
// value is a bf16 value, so nothing is rounded; scales are applied to sums.
struct Bf16Weights {
    static constexpr uint32_t VALUES = 8;
    static constexpr bool HAS_ROW_SCALES = false, HAS_GROUP_SCALES = false;

    DEVICE void unpack(const Vec16& stored, uint32_t (&pairs)[VALUES / 2]) {
#pragma unroll
        for (uint32_t i = 0; i < 4; ++i) {
            pairs[i] = stored.words[i];
        }
    }
};

struct Fp8Weights {
    static constexpr uint32_t VALUES = 16;
    static constexpr bool HAS_ROW_SCALES = true, HAS_GROUP_SCALES = false;

    DEVICE void unpack(const Vec16& stored, uint32_t (&pairs)[VALUES / 2]) {
#pragma unroll
        for (uint32_t i = 0; i < VALUES / 2; ++i) {
            const uint32_t bytes = stored.words[i / 2] >> (16 * (i % 2));
            pairs[i] = pack_exact(to_float(fp8{static_cast<uint8_t>(bytes)}),
                                  to_float(fp8{static_cast<uint8_t>(bytes >> 8)}));
        }
    }
};

// A step is a group: 4 quarters of 32 values share one scale per row.
struct Int4Weights {
    static constexpr uint32_t VALUES = 32;
    static constexpr bool HAS_ROW_SCALES = false, HAS_GROUP_SCALES = true;

    // A nibble in the last bits of 2^23 is a float without a conversion, which a GPU does at a quarter of the rate.
    DEVICE float value(uint32_t nibble) { return __uint_as_float(0x4b000000 | (nibble & 0xf)) - 8388616.0f; }

    DEVICE void unpack(const Vec16& stored, uint32_t (&pairs)[VALUES / 2]) {
#pragma unroll
        for (uint32_t i = 0; i < VALUES / 2; ++i) {
            const uint32_t nibbles = stored.words[i / 4] >> (8 * (i % 4));
            pairs[i] = pack_exact(value(nibbles), value(nibbles >> 4));
        }
    }
};

// Bytes from one row of weights to the next (WeightFormat::row_bytes).
template <class Weights> DEVICE uint32_t row_bytes_of(uint32_t in_features) {
    return (in_features + Weights::VALUES - 1) / Weights::VALUES * 16;
}

DEVICE uint32_t steps_of(uint32_t row_bytes) { return (row_bytes + STEP_BYTES - 1) / STEP_BYTES; }

// The first step of a slice; slice SLICES would begin where the last one ends.
DEVICE uint32_t slice_start(uint32_t slice, uint32_t num_steps) {
    return static_cast<uint32_t>(uint64_t{slice} * num_steps / SLICES);
}

// Values k..k + 8 of a row of x, zero from `in_features` on. IS_ALIGNED: in_features is a multiple of 8, so that pieces
// are 16-byte aligned and never straddle the end; every model that exists is of this kind.
template <bool IS_ALIGNED> DEVICE Vec16 load_piece(const bf16* row, uint32_t k, uint32_t in_features) {
    Vec16 piece = {};
    if constexpr (IS_ALIGNED) {
        if (k < in_features) {
            piece = load16(row + k);
        }
    } else {
#pragma unroll
        for (uint32_t i = 0; i < 8; ++i) {
            if (k + i < in_features) {
                piece.words[i / 2] |= static_cast<uint32_t>(row[k + i].bits) << (16 * (i % 2));
            }
        }
    }
    return piece;
}

// The scales of group `step` for the two outputs of a lane; 1 for formats without groups.
template <class Weights>
DEVICE void load_group_scales(const Linear& linear, const uint32_t (&outputs)[2], uint32_t step, uint32_t num_steps,
                              float (&scales)[2]) {
#pragma unroll
    for (uint32_t side = 0; side < 2; ++side) {
        scales[side] = 1.0f;
        if (Weights::HAS_GROUP_SCALES) {
            const bf16* groups = static_cast<const bf16*>(linear.scales);
            scales[side] = to_float(groups[static_cast<size_t>(outputs[side]) * num_steps + step]);
        }
    }
}

// One step: sums[tile] += sixteen rows of weights * eight rows of x. `stored`: what the lane has of its two rows of
// weights, `group` and `group + 8`. `load_x(tile, piece)`: a piece of the lane's quarter, of row 8 * tile + group of x.
// A lane's four sums are (output group, row 2 * quarter), (the same, next row), and both for output group + 8.
template <class Weights, uint32_t ROW_TILES, class LoadX>
DEVICE void multiply_step(float (&sums)[ROW_TILES][4], const Vec16 (&stored)[2], const float (&scales)[2],
                          const LoadX& load_x) {
    uint32_t upper[Weights::VALUES / 2], lower[Weights::VALUES / 2];
    Weights::unpack(stored[0], upper);
    Weights::unpack(stored[1], lower);
#pragma unroll
    for (uint32_t tile = 0; tile < ROW_TILES; ++tile) {
        float group_sums[4] = {0.0f, 0.0f, 0.0f, 0.0f};
        float(&into)[4] = Weights::HAS_GROUP_SCALES ? group_sums : sums[tile];
#pragma unroll
        for (uint32_t piece = 0; piece < Weights::VALUES / 8; ++piece) {
            const Vec16 x = load_x(tile, piece);
            // Half a piece is four values of k in this lane and sixteen in its group.
#pragma unroll
            for (uint32_t half = 0; half < 2; ++half) {
                const uint32_t pair = 4 * piece + 2 * half;
                const uint32_t a[4] = {upper[pair], lower[pair], upper[pair + 1], lower[pair + 1]};
                const uint32_t b[2] = {x.words[2 * half], x.words[2 * half + 1]};
                mma_bf16_16x8x16(into, a, b);
            }
        }
        if (Weights::HAS_GROUP_SCALES) {
#pragma unroll
            for (uint32_t i = 0; i < 4; ++i) {
                sums[tile][i] = fmaf(scales[i / 2], group_sums[i], sums[tile][i]);
            }
        }
    }
}

// From the sum of an output to its value.
template <class Weights> DEVICE float finish(const Linear& linear, uint32_t output, float sum) {
    const float scale = Weights::HAS_ROW_SCALES ? static_cast<const float*>(linear.scales)[output] : 1.0f;
    return fmaf(sum, scale, linear.bias == nullptr ? 0.0f : linear.bias[output]);
}
