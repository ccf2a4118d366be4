// Rows of a checkpoint to rows of weights as the kernels read them: bf16, fp8 or int4.
//
// values: f32, f16 or bf16 [rows, in_features]; out: [rows, row_bytes], where row_bytes is a multiple of 16; what pads
// a row stands for zero.
// fp8: the largest magnitude of a row becomes 448; scales f32 [rows]. A row so small that its scale would not be a
// normal number gets the scale 1, and becomes zero.
// int4: groups of 128 values; scales bf16 [rows, groups]. Of two scales the one with the smaller sum of squared errors:
// one that takes the value of largest magnitude to -8, or, with a step that is wider by 8/7, to 7.
// Run once, when weights are loaded. Unmeasured.
#include "rows.cuh"

DEVICE float to_float(float value) { return value; }

// ---- bf16: one block per row ----

template <class VALUE>
DEVICE void convert_row(const VALUE* values, uint8_t* out, uint32_t in_features, uint32_t row_bytes) {
    const VALUE* in = values + static_cast<uint64_t>(blockIdx.x) * in_features;
    bf16* row = reinterpret_cast<bf16*>(out + static_cast<uint64_t>(blockIdx.x) * row_bytes);
    for (uint32_t i = threadIdx.x; i < row_bytes / 2; i += blockDim.x) {
        row[i] = to_bf16(i < in_features ? to_float(in[i]) : 0.0f);
    }
}

KERNEL_BOUNDS(convert_to_bf16_f32, 256)(const float* values, uint8_t* out, uint32_t in_features, uint32_t row_bytes) {
    convert_row(values, out, in_features, row_bytes);
}
KERNEL_BOUNDS(convert_to_bf16_f16, 256)(const f16* values, uint8_t* out, uint32_t in_features, uint32_t row_bytes) {
    convert_row(values, out, in_features, row_bytes);
}
KERNEL_BOUNDS(convert_to_bf16_bf16, 256)(const bf16* values, uint8_t* out, uint32_t in_features, uint32_t row_bytes) {
    convert_row(values, out, in_features, row_bytes);
}

// ---- fp8: one block per row ----

template <class VALUE>
DEVICE void quantise_fp8_row(const VALUE* values, uint8_t* out, float* scales, uint32_t in_features,
                             uint32_t row_bytes) {
    SHARED_MEMORY(memory);
    const VALUE* in = values + static_cast<uint64_t>(blockIdx.x) * in_features;
    fp8* row = reinterpret_cast<fp8*>(out + static_cast<uint64_t>(blockIdx.x) * row_bytes);
    float largest = 0.0f;
    for (uint32_t i = threadIdx.x; i < in_features; i += blockDim.x) {
        largest = fmaxf(largest, fabsf(to_float(in[i])));
    }
    const float wanted = block_max(largest, reinterpret_cast<float*>(memory)) / 448.0f;
    const float scale = wanted < 0x1p-126f ? 1.0f : wanted;
    for (uint32_t i = threadIdx.x; i < row_bytes; i += blockDim.x) {
        row[i] = to_fp8(i < in_features ? to_float(in[i]) / scale : 0.0f);
    }
    if (threadIdx.x == 0) {
        scales[blockIdx.x] = scale;
    }
}

KERNEL_BOUNDS(quantise_fp8_f32, 256)(const float* values, uint8_t* out, float* scales, uint32_t in_features,
                                     uint32_t row_bytes) {
    quantise_fp8_row(values, out, scales, in_features, row_bytes);
}
KERNEL_BOUNDS(quantise_fp8_f16, 256)(const f16* values, uint8_t* out, float* scales, uint32_t in_features,
                                     uint32_t row_bytes) {
    quantise_fp8_row(values, out, scales, in_features, row_bytes);
}
KERNEL_BOUNDS(quantise_fp8_bf16, 256)(const bf16* values, uint8_t* out, float* scales, uint32_t in_features,
                                      uint32_t row_bytes) {
    quantise_fp8_row(values, out, scales, in_features, row_bytes);
}

// ---- int4: one warp per group, a lane has four values ----

// The nibble that stands for a value; a scale of zero stands for zeros.
DEVICE uint32_t nibble_of(float value, float scale) {
    const float steps = scale == 0.0f ? 0.0f : rintf(value / scale);
    return static_cast<uint32_t>(fminf(fmaxf(steps, -8.0f), 7.0f) + 8.0f);
}

DEVICE float squared_error(const float (&values)[4], float scale) {
    float sum = 0.0f;
    for (uint32_t i = 0; i < 4; ++i) {
        const float error = values[i] - scale * (static_cast<float>(nibble_of(values[i], scale)) - 8.0f);
        sum += error * error;
    }
    return warp_sum(sum);
}

template <class VALUE>
DEVICE void quantise_int4_group(const VALUE* values, uint8_t* out, bf16* scales, uint32_t in_features,
                                uint32_t row_bytes) {
    const uint32_t lane = threadIdx.x % 32, groups = (in_features + 127) / 128;
    const uint32_t group = blockIdx.y * (blockDim.x / 32) + threadIdx.x / 32;
    if (group >= groups) {
        return;
    }
    const VALUE* in = values + static_cast<uint64_t>(blockIdx.x) * in_features;
    const uint32_t first = 128 * group + 4 * lane;
    float own[4], most = 0.0f, least = 0.0f;
    for (uint32_t i = 0; i < 4; ++i) {
        own[i] = first + i < in_features ? to_float(in[first + i]) : 0.0f;
        most = fmaxf(most, own[i]);
        least = fmaxf(least, -own[i]);
    }
    most = warp_max(most);
    least = warp_max(least);
    const float largest = least > most ? -least : most;
    const float fine = to_float(to_bf16(largest / -8.0f)), coarse = to_float(to_bf16(largest / 7.0f));
    const float scale = squared_error(own, coarse) < squared_error(own, fine) ? coarse : fine;
    uint32_t nibbles = 0;
    for (uint32_t i = 0; i < 4; ++i) {
        nibbles |= nibble_of(own[i], scale) << (4 * i);
    }
    // Rows are padded to 16 bytes, so both bytes of a lane are inside or neither is.
    if (first / 2 < row_bytes) {
        uint8_t* row = out + static_cast<uint64_t>(blockIdx.x) * row_bytes;
        *reinterpret_cast<uint16_t*>(row + first / 2) = static_cast<uint16_t>(nibbles);
    }
    if (lane == 0) {
        scales[static_cast<uint64_t>(blockIdx.x) * groups + group] = to_bf16(scale);
    }
}

KERNEL_BOUNDS(quantise_int4_f32, 256)(const float* values, uint8_t* out, bf16* scales, uint32_t in_features,
                                      uint32_t row_bytes) {
    quantise_int4_group(values, out, scales, in_features, row_bytes);
}
KERNEL_BOUNDS(quantise_int4_f16, 256)(const f16* values, uint8_t* out, bf16* scales, uint32_t in_features,
                                      uint32_t row_bytes) {
    quantise_int4_group(values, out, scales, in_features, row_bytes);
}
KERNEL_BOUNDS(quantise_int4_bf16, 256)(const bf16* values, uint8_t* out, bf16* scales, uint32_t in_features,
                                       uint32_t row_bytes) {
    quantise_int4_group(values, out, scales, in_features, row_bytes);
}
