// Parts of rows, by the widest accesses their width allows.
#pragma once

#include "platform.cuh"

constexpr uint32_t PAD = 0xffffffff;

// Not a number, whatever the format: what a kernel writes where its inputs name something that does not exist.
DEVICE float not_a_number() { return __uint_as_float(0x7fffffff); }

// Four values from `at` on, a multiple of four below `width`; those behind the end are zero. Rows whose width is a
// multiple of four start at multiples of 16 bytes, and are read in one access.
DEVICE void load_quad(const float* row, uint32_t at, uint32_t width, float (&values)[4]) {
    if (width % 4 == 0) {
        const Vec16 loaded = load16(row + at);
        for (uint32_t i = 0; i < 4; ++i) {
            values[i] = __uint_as_float(loaded.words[i]);
        }
        return;
    }
    for (uint32_t i = 0; i < 4; ++i) {
        values[i] = at + i < width ? row[at + i] : 0.0f;
    }
}

DEVICE void store_quad(float* row, uint32_t at, uint32_t width, const float (&values)[4]) {
    if (width % 4 == 0) {
        Vec16 stored;
        for (uint32_t i = 0; i < 4; ++i) {
            stored.words[i] = __float_as_uint(values[i]);
        }
        store16(row + at, stored);
        return;
    }
    for (uint32_t i = 0; i < 4 && at + i < width; ++i) {
        row[at + i] = values[i];
    }
}

struct alignas(8) Vec8 {
    uint32_t words[2];
};

DEVICE uint32_t bf16_pair(float low, float high) {
    return static_cast<uint32_t>(to_bf16(low).bits) | static_cast<uint32_t>(to_bf16(high).bits) << 16;
}

DEVICE void store_quad(bf16* row, uint32_t at, uint32_t width, const float (&values)[4]) {
    if (width % 4 == 0) {
        *reinterpret_cast<Vec8*>(row + at) = {{bf16_pair(values[0], values[1]), bf16_pair(values[2], values[3])}};
        return;
    }
    for (uint32_t i = 0; i < 4 && at + i < width; ++i) {
        row[at + i] = to_bf16(values[i]);
    }
}

template <class UNIT> DEVICE void copy_units(void* to, const void* from, uint32_t count) {
    for (uint32_t i = threadIdx.x; i < count; i += blockDim.x) {
        static_cast<UNIT*>(to)[i] = static_cast<const UNIT*>(from)[i];
    }
}

// All threads of a block together. Both ends start at multiples of 16 bytes if `bytes` is one, and of 2 otherwise.
DEVICE void copy_bytes(void* to, const void* from, uint32_t bytes) {
    if (bytes % 16 == 0) {
        copy_units<Vec16>(to, from, bytes / 16);
    } else {
        copy_units<uint16_t>(to, from, bytes / 2);
    }
}
