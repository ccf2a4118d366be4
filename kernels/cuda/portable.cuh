// What both platforms have in common, written in what each platform.cuh gives. Included by them, at their end.
#pragma once

// ---- e4m3: 4 bits of exponent (bias 7), 3 of mantissa, no infinity, 0x7f and 0xff are not a number ----

DEVICE float to_float_by_bits(fp8 value) {
    const uint32_t sign = static_cast<uint32_t>(value.bits & 0x80) << 24, magnitude = value.bits & 0x7f;
    if (magnitude == 0x7f) {
        return __uint_as_float(0x7fffffff);
    }
    // The exponent bias differs by 120; a product of powers of two is exact, and right for subnormals too.
    return __uint_as_float(sign | __float_as_uint(__uint_as_float(magnitude << 20) * 0x1p120f));
}

// Rounds to nearest even; what is larger than 448, and infinity, becomes 448.
DEVICE fp8 to_fp8(float value) {
    const uint32_t bits = __float_as_uint(value), sign = (bits >> 24) & 0x80, magnitude = bits & 0x7fffffff;
    uint32_t rounded;
    if (magnitude > 0x7f800000) {
        return {0x7f};
    }
    if (magnitude < 0x3c800000) {
        // Below 2^-6, the smallest normal: the sum with 2^14 leaves multiples of 2^-9, rounded to nearest even.
        rounded = __float_as_uint(__uint_as_float(magnitude) + 16384.0f) - 0x46800000;
    } else {
        rounded = (magnitude - 0x3c000000 + 0x7ffff + ((magnitude >> 20) & 1)) >> 20;
    }
    return {static_cast<uint8_t>(sign | (rounded < 0x7e ? rounded : 0x7e))};
}

// ---- reductions over a block ----

// The sum over all threads of a block, in all of them; `scratch`: shared memory for 32 floats, which may be used again
// at once. For blocks of whole warps that all threads are in.
DEVICE float block_sum(float value, float* scratch) {
    const uint32_t thread = threadIdx.x, num_warps = blockDim.x / 32;
    value = warp_sum(value);
    if (thread % 32 == 0) {
        scratch[thread / 32] = value;
    }
    __syncthreads();
    const float total = warp_sum(thread % 32 < num_warps ? scratch[thread % 32] : 0.0f);
    __syncthreads();
    return total;
}

// The largest value of a block, under the same terms.
DEVICE float block_max(float value, float* scratch) {
    const uint32_t thread = threadIdx.x, num_warps = blockDim.x / 32;
    value = warp_max(value);
    if (thread % 32 == 0) {
        scratch[thread / 32] = value;
    }
    __syncthreads();
    const float largest = warp_max(thread % 32 < num_warps ? scratch[thread % 32] : -INFINITY);
    __syncthreads();
    return largest;
}
