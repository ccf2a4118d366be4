// residual += delta, then normed = residual / sqrt(mean(residual^2) + eps) * weight in bf16, for each row.
//
// residual, delta: f32 [rows, hidden]; weight: f32 [hidden]; normed: bf16 [rows, hidden].
// One block per row; a thread has four neighbouring values at a time. Shared memory: 32 floats for the sum, then the
// new row of the residual, so that it is not read back.
// Moves 14 bytes per value (and the weight from a cache). Unmeasured.
#include "rows.cuh"

KERNEL_BOUNDS(add_rms_norm, 1024)(float* __restrict__ residual, const float* __restrict__ delta,
                                  const float* __restrict__ weight, bf16* __restrict__ normed, uint32_t hidden,
                                  float eps) {
    SHARED_MEMORY(memory);
    float* scratch = reinterpret_cast<float*>(memory);
    float* sums = scratch + 32;
    const uint64_t start = static_cast<uint64_t>(blockIdx.x) * hidden;

    const uint32_t whole_quads = (hidden + 3) / 4 * 4;
    float squares = 0.0f;
    for (uint32_t at = 4 * threadIdx.x; at < hidden; at += 4 * blockDim.x) {
        float values[4], added[4];
        load_quad(residual + start, at, hidden, values);
        load_quad(delta + start, at, hidden, added);
        for (uint32_t i = 0; i < 4; ++i) {
            values[i] += added[i];
            squares += values[i] * values[i];
        }
        store_quad(sums, at, whole_quads, values);
        store_quad(residual + start, at, hidden, values);
    }

    const float scale = rsqrtf_exact(block_sum(squares, scratch) / static_cast<float>(hidden) + eps);
    for (uint32_t at = 4 * threadIdx.x; at < hidden; at += 4 * blockDim.x) {
        float values[4], weights[4];
        load_quad(sums, at, whole_quads, values);
        load_quad(weight, at, hidden, weights);
        for (uint32_t i = 0; i < 4; ++i) {
            values[i] *= scale * weights[i];
        }
        store_quad(normed + start, at, hidden, values);
    }
}
