// Linear layers for up to sixteen rows: out[rows, out_features] = x[rows, in_features] * W^T + bias. One kernel per
// format of weights for up to 8 rows and one for up to 16; each weight is read once for all rows.
//
// x bf16, out f32; W bf16, fp8 with f32 scales per row, or int4 with bf16 scales per group of 128 (matrix.rs).
// Launch: grid [ceil(out_features / 16)], block [256], shared 65536 bytes.
//
// A block computes sixteen outputs; its eight warps take one slice of the rows of weights each, so that even a small
// matrix keeps every multiprocessor loading. A lane copies the weights it will multiply itself into a ring of its own in
// shared memory, up to seven steps ahead: nobody waits for another lane, and no register waits for memory. Each warp
// needs another part of x, so there is nothing to share: x comes from the caches, one step ahead, and rows that are not
// there cost nothing. In the end partial sums meet in shared memory and are added from first to last slice.
//
// Bytes that must move: the weights with their scales, once; x and out are small. From the second-level cache a block
// reads x once: rows * 2 bytes for sixteen weights each, which for int4 and 16 rows is four times the weights.
// Tried: loading the weights of several steps into registers first; the compiler moves such loads down to their use.
// To try on a GPU: more or fewer steps in the ring; two tiles of outputs for a warp at 16 rows (half the reads of x);
// int4 unpacked in pairs of bf16 arithmetic (now about five instructions per value, which is more than memory needs).
// Speed: unmeasured.
#include "platform.cuh"

#include "linear_step.cuh"

constexpr uint32_t THREADS = 32 * SLICES;
// Steps of weights in the ring of a lane, and the bytes of a step in the rings of a warp.
constexpr uint32_t RING_STEPS = 8;
constexpr uint32_t RING_STEP_BYTES = 2 * 32 * 16;

// What a lane needs of a step besides the weights.
template <class Weights, uint32_t ROW_TILES> struct Operands {
    float scales[2];
    Vec16 x[ROW_TILES][Weights::VALUES / 8];
};

// Sums over steps `start..end` for the outputs from `first_output` on. `ring`: [RING_STEPS, 2, 32 lanes, 16 bytes].
template <class Weights, uint32_t ROW_TILES, bool IS_ALIGNED>
DEVICE void sum_slice(const Linear& linear, uint32_t first_output, uint32_t start, uint32_t end, uint8_t* ring,
                      float (&sums)[ROW_TILES][4]) {
    const uint32_t lane = threadIdx.x % 32, group = lane / 4, quarter = lane % 4;
    const uint32_t row_bytes = row_bytes_of<Weights>(linear.in_features), num_steps = steps_of(row_bytes);
    // Outputs behind the last one read the last row; nobody writes their sums.
    const uint32_t last = linear.out_features - 1;
    const uint32_t outputs[2] = {min(first_output + group, last), min(first_output + group + 8, last)};
    const uint8_t* rows[2] = {linear.weights + static_cast<size_t>(outputs[0]) * row_bytes + 16 * quarter,
                              linear.weights + static_cast<size_t>(outputs[1]) * row_bytes + 16 * quarter};
    const auto is_in_row = [&](uint32_t step) { return step * STEP_BYTES + 16 * quarter < row_bytes; };
    const auto slot = [&](uint32_t step, uint32_t side) {
        return ring + step % RING_STEPS * RING_STEP_BYTES + (side * 32 + lane) * 16;
    };
    const auto copy_weights = [&](uint32_t step) {
        if (step < end && is_in_row(step)) {
            copy_async16(slot(step, 0), rows[0] + step * STEP_BYTES);
            copy_async16(slot(step, 1), rows[1] + step * STEP_BYTES);
        }
        // Groups are counted: a step of nothing is one too.
        copy_async_commit();
    };
    const auto load_operands = [&](uint32_t step, Operands<Weights, ROW_TILES>& operands) {
        load_group_scales<Weights>(linear, outputs, step, num_steps, operands.scales);
#pragma unroll
        for (uint32_t tile = 0; tile < ROW_TILES; ++tile) {
            const uint32_t row = TILE_ROWS * tile + group;
            const bf16* x = linear.x + static_cast<size_t>(row) * linear.in_features;
            const uint32_t num_values = row < linear.rows ? linear.in_features : 0;
#pragma unroll
            for (uint32_t piece = 0; piece < Weights::VALUES / 8; ++piece) {
                const uint32_t k = (4 * step + quarter) * Weights::VALUES + 8 * piece;
                operands.x[tile][piece] = load_piece<IS_ALIGNED>(x, k, num_values);
            }
        }
    };

    if (start == end) {
        return;
    }
    for (uint32_t i = 0; i + 1 < RING_STEPS; ++i) {
        copy_weights(start + i);
    }
    Operands<Weights, ROW_TILES> next;
    load_operands(start, next);
#pragma unroll 1
    for (uint32_t step = start; step < end; ++step) {
        const Operands<Weights, ROW_TILES> operands = next;
        // Into the slot that was read in the turn before.
        copy_weights(step + RING_STEPS - 1);
        if (step + 1 < end) {
            load_operands(step + 1, next);
        }
        copy_async_wait<RING_STEPS - 1>();
        Vec16 stored[2] = {};
        if (is_in_row(step)) {
            stored[0] = load16(slot(step, 0));
            stored[1] = load16(slot(step, 1));
        }
        multiply_step<Weights>(sums, stored, operands.scales,
                               [&](uint32_t tile, uint32_t piece) { return operands.x[tile][piece]; });
    }
}

template <class Weights, uint32_t ROW_TILES> DEVICE void multiply_rows(const Linear& linear) {
    constexpr uint32_t ROWS = TILE_ROWS * ROW_TILES;
    const uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32, group = lane / 4, quarter = lane % 4;
    const uint32_t first_output = blockIdx.x * TILE_OUTPUTS;
    const uint32_t num_steps = steps_of(row_bytes_of<Weights>(linear.in_features));
    const uint32_t start = slice_start(warp, num_steps), end = slice_start(warp + 1, num_steps);
    SHARED_MEMORY(memory);
    uint8_t* ring = memory + warp * RING_STEPS * RING_STEP_BYTES;
    float sums[ROW_TILES][4] = {};
    if (linear.in_features % 8 == 0) {
        sum_slice<Weights, ROW_TILES, true>(linear, first_output, start, end, ring, sums);
    } else {
        sum_slice<Weights, ROW_TILES, false>(linear, first_output, start, end, ring, sums);
    }

    // The rings become partial sums.
    __syncthreads();
    float* partial_sums = reinterpret_cast<float*>(memory); // [SLICES, ROWS, TILE_OUTPUTS]
#pragma unroll
    for (uint32_t tile = 0; tile < ROW_TILES; ++tile) {
#pragma unroll
        for (uint32_t i = 0; i < 4; ++i) {
            const uint32_t row = TILE_ROWS * tile + 2 * quarter + i % 2, output = group + 8 * (i / 2);
            partial_sums[(warp * ROWS + row) * TILE_OUTPUTS + output] = sums[tile][i];
        }
    }
    __syncthreads();
    for (uint32_t i = threadIdx.x; i < linear.rows * TILE_OUTPUTS; i += THREADS) {
        const uint32_t row = i / TILE_OUTPUTS, output = first_output + i % TILE_OUTPUTS;
        float sum = 0.0f;
#pragma unroll
        for (uint32_t slice = 0; slice < SLICES; ++slice) {
            sum += partial_sums[slice * ROWS * TILE_OUTPUTS + i];
        }
        if (output < linear.out_features) {
            linear.out[static_cast<size_t>(row) * linear.out_features + output] = finish<Weights>(linear, output, sum);
        }
    }
}

KERNEL_BOUNDS(linear_bf16_rows8, 256)(const uint8_t* weights, const void* scales, const float* bias, const bf16* x,
                                      float* out, uint32_t rows, uint32_t in_features, uint32_t out_features) {
    multiply_rows<Bf16Weights, 1>({weights, scales, bias, x, out, rows, in_features, out_features});
}

KERNEL_BOUNDS(linear_bf16_rows16, 256)(const uint8_t* weights, const void* scales, const float* bias, const bf16* x,
                                       float* out, uint32_t rows, uint32_t in_features, uint32_t out_features) {
    multiply_rows<Bf16Weights, 2>({weights, scales, bias, x, out, rows, in_features, out_features});
}

KERNEL_BOUNDS(linear_fp8_rows8, 256)(const uint8_t* weights, const void* scales, const float* bias, const bf16* x,
                                     float* out, uint32_t rows, uint32_t in_features, uint32_t out_features) {
    multiply_rows<Fp8Weights, 1>({weights, scales, bias, x, out, rows, in_features, out_features});
}

KERNEL_BOUNDS(linear_fp8_rows16, 256)(const uint8_t* weights, const void* scales, const float* bias, const bf16* x,
                                      float* out, uint32_t rows, uint32_t in_features, uint32_t out_features) {
    multiply_rows<Fp8Weights, 2>({weights, scales, bias, x, out, rows, in_features, out_features});
}

KERNEL_BOUNDS(linear_int4_rows8, 256)(const uint8_t* weights, const void* scales, const float* bias, const bf16* x,
                                      float* out, uint32_t rows, uint32_t in_features, uint32_t out_features) {
    multiply_rows<Int4Weights, 1>({weights, scales, bias, x, out, rows, in_features, out_features});
}

KERNEL_BOUNDS(linear_int4_rows16, 256)(const uint8_t* weights, const void* scales, const float* bias, const bf16* x,
                                       float* out, uint32_t rows, uint32_t in_features, uint32_t out_features) {
    multiply_rows<Int4Weights, 2>({weights, scales, bias, x, out, rows, in_features, out_features});
}

// out[row] = bias for every row: what a product of the library is added to. Grid [ceil(out_features / 256), rows, but at
// most 65535], block [256]. Moves rows * out_features * 4 bytes.
KERNEL_BOUNDS(linear_fill_bias, 256)(const float* bias, float* out, uint32_t rows, uint32_t out_features) {
    const uint32_t output = blockIdx.x * 256 + threadIdx.x;
    if (output >= out_features) {
        return;
    }
    const float value = bias[output];
    for (uint32_t row = blockIdx.y; row < rows; row += gridDim.y) {
        out[static_cast<size_t>(row) * out_features + output] = value;
    }
}
