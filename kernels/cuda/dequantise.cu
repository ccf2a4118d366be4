// Rows of quantised weights to bf16, for the matrix product of a large prefill.
//
// rows: [rows, row_bytes]; out: bf16 [rows, 8 * octets], where 8 * octets is in_features rounded up; what pads a row
// becomes zero. fp8: scales f32 [rows]; int4: scales bf16 [rows, groups].
// One block per row; a thread has eight values at a time: one 16-byte store. Moves 3 bytes (fp8) or 2.5 (int4) per
// value. Unmeasured.
#include "rows.cuh"

DEVICE void store_octet(bf16* to, const float (&values)[8]) {
    Vec16 stored;
    for (uint32_t i = 0; i < 4; ++i) {
        stored.words[i] = bf16_pair(values[2 * i], values[2 * i + 1]);
    }
    store16(to, stored);
}

KERNEL_BOUNDS(dequantise_fp8, 256)(const uint8_t* rows, const float* scales, bf16* out, uint32_t row_bytes,
                                   uint32_t octets) {
    const uint64_t row = blockIdx.x;
    const float scale = scales[row];
    for (uint32_t octet = threadIdx.x; octet < octets; octet += blockDim.x) {
        const Vec8 loaded = *reinterpret_cast<const Vec8*>(rows + row * row_bytes + 8 * octet);
        float values[8];
        for (uint32_t i = 0; i < 8; ++i) {
            values[i] = scale * to_float(fp8{static_cast<uint8_t>(loaded.words[i / 4] >> (8 * (i % 4)))});
        }
        store_octet(out + (row * octets + octet) * 8, values);
    }
}

KERNEL_BOUNDS(dequantise_int4, 256)(const uint8_t* rows, const bf16* scales, bf16* out, uint32_t row_bytes,
                                    uint32_t octets, uint32_t groups) {
    const uint64_t row = blockIdx.x;
    for (uint32_t octet = threadIdx.x; octet < octets; octet += blockDim.x) {
        const uint32_t loaded = *reinterpret_cast<const uint32_t*>(rows + row * row_bytes + 4 * octet);
        // A group is sixteen octets.
        const float scale = to_float(scales[row * groups + octet / 16]);
        float values[8];
        for (uint32_t i = 0; i < 8; ++i) {
            values[i] = scale * (static_cast<float>((loaded >> (4 * i)) & 15) - 8.0f);
        }
        store_octet(out + (row * octets + octet) * 8, values);
    }
}
