// out = source[indices], row by row, for values of any type.
//
// source: [source_rows, row_bytes]; indices: [rows]; out: [rows, row_bytes]; row_bytes is even. An index of PAD makes a
// row of zeros, any other that the source does not have a row of set bits: NaN in every format.
// One block per row. Moves two times the row. Unmeasured.
#include "rows.cuh"

KERNEL_BOUNDS(gather_rows, 256)(const uint8_t* source, const uint32_t* indices, uint8_t* out, uint32_t row_bytes,
                                uint32_t source_rows) {
    const uint32_t index = indices[blockIdx.x];
    uint8_t* row = out + static_cast<uint64_t>(blockIdx.x) * row_bytes;
    if (index < source_rows) {
        copy_bytes(row, source + static_cast<uint64_t>(index) * row_bytes, row_bytes);
        return;
    }
    for (uint32_t i = threadIdx.x; i < row_bytes / 2; i += blockDim.x) {
        reinterpret_cast<uint16_t*>(row)[i] = index == PAD ? 0 : 0xffff;
    }
}
