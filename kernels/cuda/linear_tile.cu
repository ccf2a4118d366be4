// Linear layers for any number of rows: out[rows, out_features] = x[rows, in_features] * W^T + bias by tiles in shared
// memory. For more than sixteen rows where the driver's own library is missing or not wanted.
//
// x bf16, out f32; W bf16, fp8 with f32 scales per row, or int4 with bf16 scales per group of 128 (matrix.rs).
// Launch: grid [ceil(out_features / (16 * warps)), ceil(rows / 64)], block [32 * warps] with 1 to 8 warps, shared
// 2 * (warps * 16 * SPAN_BYTES + 16384) bytes. The number of warps changes no bit of the result.
//
// A block computes 16 outputs per warp for 64 rows. It walks along k in spans of 128 values; while it multiplies one
// span, the next is on its way into the other half of its shared memory. Weights stay as they are stored until a warp
// needs them, and each is unpacked by one warp once. Both operands lie in shared memory so that a warp's 16-byte loads
// touch every bank once: [step][row of weights][4 quarters], and [step][piece][row of x][4 quarters].
//
// Bytes that must move: the weights once per 64 rows, x once per 16 * warps outputs. Speed: unmeasured.
#include "platform.cuh"

#include "linear_step.cuh"

constexpr uint32_t ROW_TILES = 8;
constexpr uint32_t ROWS = TILE_ROWS * ROW_TILES;
// Values along k that are loaded at once: one group of int4.
constexpr uint32_t SPAN = 128;
constexpr uint32_t SPAN_PIECES = SPAN / 8;
constexpr uint32_t X_BYTES = ROWS * SPAN * 2;

template <class Weights> struct Span {
    static constexpr uint32_t STEPS = SPAN / (4 * Weights::VALUES);
    // Bytes of a row of weights.
    static constexpr uint32_t BYTES = STEPS * STEP_BYTES;
    // Pieces of x that a lane needs in a step.
    static constexpr uint32_t LANE_PIECES = Weights::VALUES / 8;
};

// Starts loading a span of weights and x; what lies outside of both is zero.
template <class Weights> DEVICE void load_span(const Linear& linear, uint32_t span, uint8_t* weights, uint8_t* x) {
    using S = Span<Weights>;
    const uint32_t outputs = blockDim.x / 32 * TILE_OUTPUTS, first_output = blockIdx.x * outputs;
    const uint32_t row_bytes = row_bytes_of<Weights>(linear.in_features);
    for (uint32_t i = threadIdx.x; i < outputs * S::BYTES / 16; i += blockDim.x) {
        const uint32_t row = i / (S::BYTES / 16), quarter = i % (S::BYTES / 16);
        const uint32_t offset = span * S::BYTES + 16 * quarter, output = first_output + row;
        uint8_t* to = weights + ((quarter / 4 * outputs + row) * 4 + quarter % 4) * 16;
        if (output < linear.out_features && offset < row_bytes) {
            copy_async16(to, linear.weights + static_cast<size_t>(output) * row_bytes + offset);
        } else {
            store16(to, {});
        }
    }
    const bool is_aligned = linear.in_features % 8 == 0;
    for (uint32_t i = threadIdx.x; i < ROWS * SPAN_PIECES; i += blockDim.x) {
        const uint32_t tile_row = i / SPAN_PIECES, piece = i % SPAN_PIECES;
        const uint32_t row = blockIdx.y * ROWS + tile_row, k = span * SPAN + 8 * piece;
        // Pieces along k belong to quarters in turn, LANE_PIECES each.
        const uint32_t step = piece / (4 * S::LANE_PIECES), quarter = piece / S::LANE_PIECES % 4;
        const uint32_t slot = step * S::LANE_PIECES + piece % S::LANE_PIECES;
        uint8_t* to = x + ((slot * ROWS + tile_row) * 4 + quarter) * 16;
        const bf16* from = linear.x + static_cast<size_t>(row) * linear.in_features;
        if (row >= linear.rows || k >= linear.in_features) {
            store16(to, {});
        } else if (is_aligned) {
            copy_async16(to, from + k);
        } else {
            store16(to, load_piece<false>(from, k, linear.in_features));
        }
    }
}

template <class Weights> DEVICE void multiply_tile(const Linear& linear) {
    using S = Span<Weights>;
    const uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32, group = lane / 4, quarter = lane % 4;
    const uint32_t num_warps = blockDim.x / 32, weight_bytes = num_warps * TILE_OUTPUTS * S::BYTES;
    const uint32_t first_output = (blockIdx.x * num_warps + warp) * TILE_OUTPUTS + group;
    const uint32_t last = linear.out_features - 1;
    const uint32_t outputs[2] = {min(first_output, last), min(first_output + 8, last)};
    const uint32_t num_steps = steps_of(row_bytes_of<Weights>(linear.in_features));
    const uint32_t num_spans = (num_steps + S::STEPS - 1) / S::STEPS;

    SHARED_MEMORY(memory);
    const auto buffer = [&](uint32_t span) { return memory + span % 2 * (weight_bytes + X_BYTES); };
    float totals[ROW_TILES][4] = {}, sums[ROW_TILES][4] = {};
    // The slice that the sums belong to, and where it ends.
    uint32_t slice = 0, slice_end = slice_start(1, num_steps);
    const auto add_slice = [&]() {
#pragma unroll
        for (uint32_t i = 0; i < ROW_TILES * 4; ++i) {
            totals[i / 4][i % 4] += sums[i / 4][i % 4];
            sums[i / 4][i % 4] = 0.0f;
        }
        ++slice;
        slice_end = slice_start(slice + 1, num_steps);
    };

    load_span<Weights>(linear, 0, buffer(0), buffer(0) + weight_bytes);
    copy_async_commit();
    for (uint32_t span = 0; span < num_spans; ++span) {
        if (span + 1 < num_spans) {
            load_span<Weights>(linear, span + 1, buffer(span + 1), buffer(span + 1) + weight_bytes);
        }
        copy_async_commit();
        copy_async_wait<1>();
        __syncthreads();
        const uint8_t *weights = buffer(span), *x = weights + weight_bytes;
#pragma unroll 1
        for (uint32_t i = 0; i < S::STEPS && span * S::STEPS + i < num_steps; ++i) {
            const uint32_t step = span * S::STEPS + i;
            while (step >= slice_end) {
                add_slice();
            }
            const uint8_t* row = weights + ((i * num_warps + warp) * TILE_OUTPUTS + group) * STEP_BYTES + 16 * quarter;
            const Vec16 stored[2] = {load16(row), load16(row + 8 * STEP_BYTES)};
            float scales[2];
            load_group_scales<Weights>(linear, outputs, step, num_steps, scales);
            multiply_step<Weights>(sums, stored, scales, [&](uint32_t tile, uint32_t piece) {
                const uint32_t slot = i * S::LANE_PIECES + piece;
                return load16(x + ((slot * ROWS + TILE_ROWS * tile + group) * 4 + quarter) * 16);
            });
        }
        // The next turn loads into the half that was just read.
        __syncthreads();
    }
    while (slice < SLICES) {
        add_slice();
    }
#pragma unroll
    for (uint32_t tile = 0; tile < ROW_TILES; ++tile) {
#pragma unroll
        for (uint32_t i = 0; i < 4; ++i) {
            const uint32_t row = blockIdx.y * ROWS + TILE_ROWS * tile + 2 * quarter + i % 2;
            const uint32_t output = first_output + 8 * (i / 2);
            if (row < linear.rows && output < linear.out_features) {
                linear.out[static_cast<size_t>(row) * linear.out_features + output] =
                    finish<Weights>(linear, output, totals[tile][i]);
            }
        }
    }
}

KERNEL_BOUNDS(linear_tile_bf16, 256)(const uint8_t* weights, const void* scales, const float* bias, const bf16* x,
                                     float* out, uint32_t rows, uint32_t in_features, uint32_t out_features) {
    multiply_tile<Bf16Weights>({weights, scales, bias, x, out, rows, in_features, out_features});
}

KERNEL_BOUNDS(linear_tile_fp8, 256)(const uint8_t* weights, const void* scales, const float* bias, const bf16* x,
                                    float* out, uint32_t rows, uint32_t in_features, uint32_t out_features) {
    multiply_tile<Fp8Weights>({weights, scales, bias, x, out, rows, in_features, out_features});
}

KERNEL_BOUNDS(linear_tile_int4, 256)(const uint8_t* weights, const void* scales, const float* bias, const bf16* x,
                                     float* out, uint32_t rows, uint32_t in_features, uint32_t out_features) {
    multiply_tile<Int4Weights>({weights, scales, bias, x, out, rows, in_features, out_features});
}
