// gated = gate / (1 + e^-gate) * up in bf16.
//
// gate_up: f32 [rows, 2 * width], the gate first; gated: bf16 [rows, width].
// Grid: rows x pieces of a row; a thread has four neighbouring values. Moves 10 bytes per value. Unmeasured.
#include "rows.cuh"

KERNEL_BOUNDS(silu_mul, 256)(const float* __restrict__ gate_up, bf16* __restrict__ gated, uint32_t width) {
    const uint64_t row = blockIdx.x;
    const uint32_t at = 4 * (blockIdx.y * blockDim.x + threadIdx.x);
    if (at >= width) {
        return;
    }
    float gate[4], up[4];
    load_quad(gate_up + row * 2 * width, at, width, gate);
    load_quad(gate_up + (row * 2 + 1) * width, at, width, up);
    for (uint32_t i = 0; i < 4; ++i) {
        gate[i] = gate[i] / (1.0f + expf(-gate[i])) * up[i];
    }
    store_quad(gated + row * width, at, width, gate);
}
