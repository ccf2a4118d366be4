// What kernels are written in, as C++ for the CPU: the twin of cuda/device/platform.cuh, with the same names.
//
// Stricter than a GPU where a GPU would only be wrong: warp operations need all lanes, 16-byte accesses must be
// aligned, asynchronous copies arrive at the wait and not before.
#pragma once

#include "emulate.h"

#include <math.h>
#include <stdint.h>
#include <string.h>

#define KERNEL_BOUNDS(name, max_threads)             \
    constexpr uint32_t name##_threads_max = max_threads; \
    static void name
#define KERNEL(name) KERNEL_BOUNDS(name, sconce::THREADS_MAX)
#define DEVICE static inline
#define SHARED_MEMORY(name) unsigned char* name = sconce::shared_memory()

// Macros, because a declaration at namespace scope could not follow the running thread.
#define threadIdx (sconce::thread_index)
#define blockIdx (sconce::block_index)
#define blockDim (sconce::block_size)
#define gridDim (sconce::grid_size)

// ---- bits ----

DEVICE uint32_t __float_as_uint(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}
DEVICE float __uint_as_float(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}
DEVICE int __popc(uint32_t bits) { return __builtin_popcount(bits); }
DEVICE int __clz(uint32_t bits) { return bits == 0 ? 32 : __builtin_clz(bits); }
DEVICE int __ffs(uint32_t bits) { return __builtin_ffs(static_cast<int>(bits)); }
DEVICE uint32_t __umulhi(uint32_t a, uint32_t b) { return static_cast<uint32_t>((uint64_t{a} * b) >> 32); }

DEVICE int min(int a, int b) { return a < b ? a : b; }
DEVICE int max(int a, int b) { return a < b ? b : a; }
DEVICE uint32_t min(uint32_t a, uint32_t b) { return a < b ? a : b; }
DEVICE uint32_t max(uint32_t a, uint32_t b) { return a < b ? b : a; }

DEVICE float rsqrtf_exact(float x) { return 1.0f / sqrtf(x); }

// ---- number formats ----

struct bf16 {
    uint16_t bits;
};
struct f16 {
    uint16_t bits;
};
struct fp8 {
    uint8_t bits;
};

DEVICE float to_float(bf16 value) { return __uint_as_float(static_cast<uint32_t>(value.bits) << 16); }

DEVICE bf16 to_bf16(float value) {
    const uint32_t bits = __float_as_uint(value);
    if (value != value) {
        return {0x7fff};
    }
    return {static_cast<uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16)};
}

DEVICE float to_float(f16 value) {
    const uint32_t sign = static_cast<uint32_t>(value.bits & 0x8000) << 16;
    const uint32_t magnitude = value.bits & 0x7fff;
    if (magnitude >= 0x7c00) {
        return __uint_as_float(sign | 0x7f800000 | (magnitude & 0x3ff) << 13);
    }
    // The exponent bias differs by 112; a product of powers of two is exact, and right for subnormals too.
    return __uint_as_float(sign | __float_as_uint(__uint_as_float(magnitude << 13) * 0x1p112f));
}

DEVICE f16 to_f16(float value) {
    const uint32_t bits = __float_as_uint(value), sign = (bits >> 16) & 0x8000, magnitude = bits & 0x7fffffff;
    if (value != value) {
        return {0x7fff};
    }
    if (magnitude >= 0x477ff000) {
        return {static_cast<uint16_t>(sign | 0x7c00)};
    }
    if (magnitude < 0x38800000) {
        // Subnormal: the sum with 1/2 leaves the 10 bits of multiples of 2^-24, rounded to nearest even.
        const uint32_t rounded = __float_as_uint(__uint_as_float(magnitude) + 0.5f) - 0x3f000000;
        return {static_cast<uint16_t>(sign | rounded)};
    }
    const uint32_t rounded = magnitude - 0x38000000 + 0xfff + ((magnitude >> 13) & 1);
    return {static_cast<uint16_t>(sign | rounded >> 13)};
}

// ---- memory ----

struct alignas(16) Vec16 {
    uint32_t words[4];
};

DEVICE void check_aligned16(const void* address) {
    if (reinterpret_cast<uintptr_t>(address) % 16 != 0) {
        sconce::fail(sconce::MEMORY, "a 16-byte access at %p, which is no multiple of 16", address);
    }
}
DEVICE Vec16 load16(const void* address) {
    check_aligned16(address);
    Vec16 value;
    memcpy(&value, address, sizeof value);
    return value;
}
DEVICE Vec16 load16_streaming(const void* address) { return load16(address); }
DEVICE void store16(void* address, Vec16 value) {
    check_aligned16(address);
    memcpy(address, &value, sizeof value);
}

DEVICE void copy_async16(void* shared, const void* global) { sconce::copy_async(shared, global); }
DEVICE void copy_async_commit() { sconce::copy_async_commit(); }
template <int GROUPS> DEVICE void copy_async_wait() { sconce::copy_async_wait(GROUPS); }

// Blocks run one after the other: what one has done, the next sees.
DEVICE void __threadfence() {}
template <class T> DEVICE T add_in_memory(T* address, T value) {
    const T before = *address;
    *address = before + value;
    return before;
}
DEVICE uint32_t atomicAdd(uint32_t* address, uint32_t value) { return add_in_memory(address, value); }
DEVICE unsigned long long atomicAdd(unsigned long long* address, unsigned long long value) {
    return add_in_memory(address, value);
}
DEVICE uint32_t atomicMax(uint32_t* address, uint32_t value) {
    const uint32_t before = *address;
    *address = max(before, value);
    return before;
}

// ---- threads together; `line` is where the kernel calls, and is never passed ----

DEVICE void __syncthreads(int line = __builtin_LINE()) { sconce::barrier(line); }
DEVICE void __syncwarp(uint32_t mask = sconce::ALL_LANES, int line = __builtin_LINE()) {
    sconce::collective(nullptr, nullptr, mask, line);
}

struct LaneExchange {
    uint32_t value, source, received;
};
DEVICE void exchange_lanes(void* const (&lanes)[sconce::LANES]) {
    for (void* lane : lanes) {
        auto* to = static_cast<LaneExchange*>(lane);
        if (to == nullptr) {
            continue;
        }
        const auto* from = static_cast<const LaneExchange*>(lanes[to->source]);
        if (from == nullptr) {
            sconce::fail(sconce::DIVERGENCE, "a shuffle reads lane %u, which its warp does not have", to->source);
        }
        to->received = from->value;
    }
}
template <class T> DEVICE T shuffle(uint32_t mask, T value, uint32_t source, int line) {
    static_assert(sizeof(T) == 4, "shuffles move 32 bits");
    LaneExchange exchange = {0, source, 0};
    memcpy(&exchange.value, &value, sizeof value);
    sconce::collective(exchange_lanes, &exchange, mask, line);
    memcpy(&value, &exchange.received, sizeof value);
    return value;
}
template <class T> DEVICE T __shfl_sync(uint32_t mask, T value, int source, int line = __builtin_LINE()) {
    return shuffle(mask, value, static_cast<uint32_t>(source) % sconce::LANES, line);
}
template <class T> DEVICE T __shfl_xor_sync(uint32_t mask, T value, int lane_mask, int line = __builtin_LINE()) {
    return shuffle(mask, value, (sconce::lane() ^ static_cast<uint32_t>(lane_mask)) % sconce::LANES, line);
}
template <class T> DEVICE T __shfl_down_sync(uint32_t mask, T value, uint32_t delta, int line = __builtin_LINE()) {
    const uint32_t source = sconce::lane() + delta;
    return shuffle(mask, value, source < sconce::LANES ? source : sconce::lane(), line);
}

struct Ballot {
    uint32_t predicate, votes;
};
DEVICE void count_votes(void* const (&lanes)[sconce::LANES]) {
    uint32_t votes = 0;
    for (uint32_t lane = 0; lane < sconce::LANES; ++lane) {
        votes |= lanes[lane] != nullptr && static_cast<const Ballot*>(lanes[lane])->predicate ? 1u << lane : 0;
    }
    for (void* lane : lanes) {
        if (lane != nullptr) {
            static_cast<Ballot*>(lane)->votes = votes;
        }
    }
}
DEVICE uint32_t __ballot_sync(uint32_t mask, int predicate, int line = __builtin_LINE()) {
    Ballot ballot = {predicate != 0, 0};
    sconce::collective(count_votes, &ballot, mask, line);
    return ballot.votes;
}
DEVICE int __any_sync(uint32_t mask, int predicate, int line = __builtin_LINE()) {
    return __ballot_sync(mask, predicate, line) != 0;
}
DEVICE int __all_sync(uint32_t mask, int predicate, int line = __builtin_LINE()) {
    return __ballot_sync(mask, !predicate, line) == 0;
}

// The butterfly of the device in one operation: the same pairs in the same order.
template <float (*COMBINE)(float, float)> DEVICE void combine_lanes(void* const (&lanes)[sconce::LANES]) {
    float values[sconce::LANES], partners[sconce::LANES];
    for (uint32_t lane = 0; lane < sconce::LANES; ++lane) {
        if (lanes[lane] == nullptr) {
            sconce::fail(sconce::DIVERGENCE, "a reduction over a warp that has no lane %u", lane);
        }
        values[lane] = *static_cast<const float*>(lanes[lane]);
    }
    for (uint32_t distance = sconce::LANES / 2; distance > 0; distance /= 2) {
        for (uint32_t lane = 0; lane < sconce::LANES; ++lane) {
            partners[lane] = values[lane ^ distance];
        }
        for (uint32_t lane = 0; lane < sconce::LANES; ++lane) {
            values[lane] = COMBINE(values[lane], partners[lane]);
        }
    }
    for (uint32_t lane = 0; lane < sconce::LANES; ++lane) {
        *static_cast<float*>(lanes[lane]) = values[lane];
    }
}
DEVICE float add_floats(float a, float b) { return a + b; }
DEVICE float warp_sum(float value, int line = __builtin_LINE()) {
    sconce::collective(combine_lanes<add_floats>, &value, sconce::ALL_LANES, line);
    return value;
}
DEVICE float larger_float(float a, float b) { return fmaxf(a, b); }
DEVICE float warp_max(float value, int line = __builtin_LINE()) {
    sconce::collective(combine_lanes<larger_float>, &value, sconce::ALL_LANES, line);
    return value;
}

// ---- matrix instruction ----

struct Fragments {
    float* accumulators;
    const uint32_t *a, *b;
};
DEVICE float half_of(uint32_t word, uint32_t index) {
    return to_float(bf16{static_cast<uint16_t>(word >> (16 * index))});
}
// Fragments of mma.m16n8k16 as the PTX manual draws them: lane = 4 * group + pair. A register of `a` holds columns
// 2 * pair and 2 * pair + 1 of row `group`, the second of row group + 8, the third and fourth the same 8 columns on;
// `b` holds rows in place of columns, of column `group`; accumulators lie as `a` does.
DEVICE void multiply_fragments(void* const (&lanes)[sconce::LANES]) {
    float a[16][16], b[16][8];
    for (uint32_t lane = 0; lane < sconce::LANES; ++lane) {
        if (lanes[lane] == nullptr) {
            sconce::fail(sconce::DIVERGENCE, "a matrix instruction in a warp that has no lane %u", lane);
        }
        const auto* held = static_cast<const Fragments*>(lanes[lane]);
        const uint32_t group = lane / 4, pair = 2 * (lane % 4);
        for (uint32_t i = 0; i < 2; ++i) {
            a[group][pair + i] = half_of(held->a[0], i);
            a[group + 8][pair + i] = half_of(held->a[1], i);
            a[group][pair + 8 + i] = half_of(held->a[2], i);
            a[group + 8][pair + 8 + i] = half_of(held->a[3], i);
            b[pair + i][group] = half_of(held->b[0], i);
            b[pair + 8 + i][group] = half_of(held->b[1], i);
        }
    }
    for (uint32_t lane = 0; lane < sconce::LANES; ++lane) {
        const auto* held = static_cast<const Fragments*>(lanes[lane]);
        for (uint32_t i = 0; i < 4; ++i) {
            const uint32_t row = lane / 4 + 8 * (i / 2), column = 2 * (lane % 4) + i % 2;
            float sum = held->accumulators[i];
            for (uint32_t k = 0; k < 16; ++k) {
                sum += a[row][k] * b[k][column];
            }
            held->accumulators[i] = sum;
        }
    }
}
DEVICE void mma_bf16_16x8x16(float (&accumulators)[4], const uint32_t (&a)[4], const uint32_t (&b)[2],
                             int line = __builtin_LINE()) {
    Fragments fragments = {accumulators, a, b};
    sconce::collective(multiply_fragments, &fragments, sconce::ALL_LANES, line);
}

#include "portable.cuh"

DEVICE float to_float(fp8 value) { return to_float_by_bits(value); }
