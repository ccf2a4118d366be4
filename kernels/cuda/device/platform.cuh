// What kernels are written in, on a GPU: CUDA's own names, and inline PTX where C++ has none (PTX ISA 9.0). Its twin
// for the CPU is emulate/platform.cuh, with the same names and the same results. Includes nothing of CUDA's headers.
#pragma once

#include <stdint.h>

#define KERNEL(name) extern "C" __global__ void name
#define KERNEL_BOUNDS(name, max_threads) extern "C" __global__ void __launch_bounds__(max_threads) name
#define DEVICE static __device__ __forceinline__

// A block's shared memory is all dynamic; kernels divide it by hand.
extern __shared__ __align__(16) unsigned char sconce_shared_memory[];
#define SHARED_MEMORY(name) unsigned char* name = sconce_shared_memory

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
    bf16 result;
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(result.bits) : "f"(value));
    return result;
}

DEVICE float to_float(f16 value) {
    float result;
    asm("cvt.f32.f16 %0, %1;" : "=f"(result) : "h"(value.bits));
    return result;
}

DEVICE f16 to_f16(float value) {
    f16 result;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(result.bits) : "f"(value));
    return result;
}

// ---- memory ----

struct alignas(16) Vec16 {
    uint32_t words[4];
};

DEVICE Vec16 load16(const void* address) { return *static_cast<const Vec16*>(address); }

// Weights are read once per step: they are not worth a line of the first cache.
DEVICE Vec16 load16_streaming(const void* address) {
    Vec16 value;
    asm("ld.global.nc.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
        : "=r"(value.words[0]), "=r"(value.words[1]), "=r"(value.words[2]), "=r"(value.words[3])
        : "l"(__cvta_generic_to_global(address)));
    return value;
}

DEVICE void store16(void* address, Vec16 value) { *static_cast<Vec16*>(address) = value; }

DEVICE void copy_async16(void* shared, const void* global) {
    const uint32_t to = static_cast<uint32_t>(__cvta_generic_to_shared(shared));
    const auto from = __cvta_generic_to_global(global);
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(to), "l"(from) : "memory");
}
DEVICE void copy_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int GROUPS> DEVICE void copy_async_wait() {
    asm volatile("cp.async.wait_group %0;" ::"n"(GROUPS) : "memory");
}

// ---- lanes together ----

// Xor butterflies: every lane adds the same pairs, so all have the same bits.
DEVICE float warp_sum(float value) {
    for (int distance = 16; distance > 0; distance /= 2) {
        value += __shfl_xor_sync(0xffffffff, value, distance);
    }
    return value;
}

DEVICE float warp_max(float value) {
    for (int distance = 16; distance > 0; distance /= 2) {
        value = fmaxf(value, __shfl_xor_sync(0xffffffff, value, distance));
    }
    return value;
}

DEVICE void mma_bf16_16x8x16(float (&accumulators)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
    // Volatile, because all lanes must come together: the compiler may not move it under a condition.
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
                 "{%0, %1, %2, %3};"
                 : "+f"(accumulators[0]), "+f"(accumulators[1]), "+f"(accumulators[2]), "+f"(accumulators[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

#include "portable.cuh"

// The conversion of a GPU is exact, as the one by bits is, and shorter where the hardware has it.
DEVICE float to_float(fp8 value) {
#if __CUDA_ARCH__ >= 890
    uint32_t halves;
    asm("cvt.rn.f16x2.e4m3x2 %0, %1;" : "=r"(halves) : "h"(static_cast<uint16_t>(value.bits)));
    return to_float(f16{static_cast<uint16_t>(halves)});
#else
    return to_float_by_bits(value);
#endif
}
