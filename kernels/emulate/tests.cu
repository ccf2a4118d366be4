// Kernels for tests of the emulation itself: some keep the rules, some break one. Never compiled for a GPU.
#include "platform.cuh"

// out[i] = in[i - 1] within a block, through shared memory and a barrier.
KERNEL(emulation_rotate)(const uint32_t* in, uint32_t* out) {
    SHARED_MEMORY(memory);
    uint32_t* shared = reinterpret_cast<uint32_t*>(memory);
    const uint32_t thread = threadIdx.x, start = blockIdx.x * blockDim.x;
    shared[thread] = in[start + thread];
    __syncthreads();
    out[start + thread] = shared[(thread + blockDim.x - 1) % blockDim.x];
}

// The same without the barrier.
KERNEL(emulation_rotate_racing)(const uint32_t* in, uint32_t* out) {
    SHARED_MEMORY(memory);
    uint32_t* shared = reinterpret_cast<uint32_t*>(memory);
    const uint32_t thread = threadIdx.x, start = blockIdx.x * blockDim.x;
    shared[thread] = in[start + thread];
    out[start + thread] = shared[(thread + blockDim.x - 1) % blockDim.x];
}

// Each round fills a place and reads that of the next warp. What is missing is a barrier before a place is filled anew:
// only a warp that is a whole round ahead, with all its warp operations, meets a reader.
KERNEL(emulation_refill_racing)(uint32_t* wrong, uint32_t rounds) {
    SHARED_MEMORY(memory);
    uint32_t* shared = reinterpret_cast<uint32_t*>(memory);
    for (uint32_t round = 0; round < rounds; ++round) {
        shared[threadIdx.x] = round;
        __syncthreads();
        const uint32_t found = shared[(threadIdx.x + 32) % blockDim.x];
        for (uint32_t step = 0; step < 16; ++step) {
            __syncwarp();
        }
        wrong[threadIdx.x] += found != round ? 1 : 0;
    }
}

// Blocks of a launch must not count on their order either.
KERNEL(emulation_block_order)(uint32_t* order, uint32_t* next) {
    if (threadIdx.x == 0) {
        order[atomicAdd(next, 1u)] = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
    }
}

// Half of the threads wait at one barrier, half at another.
KERNEL(emulation_two_barriers)(uint32_t* out) {
    if (threadIdx.x % 2 == 0) {
        __syncthreads();
    } else {
        __syncthreads();
    }
    out[threadIdx.x] = 1;
}

// Threads that have returned are not waited for.
KERNEL(emulation_early_return)(uint32_t* out) {
    if (threadIdx.x >= 40) {
        return;
    }
    __syncthreads();
    out[threadIdx.x] = 1;
}

// Half of each warp has returned when the other half votes.
KERNEL(emulation_partial_warp)(uint32_t* out) {
    if (threadIdx.x % 32 >= 16) {
        return;
    }
    out[threadIdx.x] = __ballot_sync(0xffffffff, 1);
}

// One warp votes while the others wait at a barrier that it never reaches with all lanes.
KERNEL(emulation_half_warp_at_barrier)(uint32_t* out) {
    if (threadIdx.x < 16) {
        __syncwarp();
    }
    __syncthreads();
    out[threadIdx.x] = 1;
}

KERNEL(emulation_narrow_mask)(uint32_t* out) {
    out[threadIdx.x] = __ballot_sync(0x0000ffff, 1);
}

// Writes the word at `index` of the shared memory.
KERNEL(emulation_write_shared)(int index) {
    SHARED_MEMORY(memory);
    reinterpret_cast<int*>(memory)[index] = 0;
}

// What shared memory holds before anybody wrote to it.
KERNEL(emulation_read_shared)(uint32_t* out) {
    SHARED_MEMORY(memory);
    out[threadIdx.x] = reinterpret_cast<uint32_t*>(memory)[threadIdx.x];
    reinterpret_cast<uint32_t*>(memory)[threadIdx.x] = 7;
}

KERNEL(emulation_load16)(const uint8_t* in, uint32_t* out, uint32_t offset) {
    const Vec16 value = load16(in + offset);
    out[0] = value.words[0];
}

// Every warp operation once: [threads, 8].
KERNEL_BOUNDS(emulation_warp_operations, 128)(uint32_t* out, float* sums) {
    const uint32_t thread = threadIdx.x, lane = thread % 32;
    uint32_t* row = out + 8 * thread;
    row[0] = __shfl_sync(0xffffffff, thread, 5);
    row[1] = __shfl_xor_sync(0xffffffff, thread, 3);
    row[2] = __shfl_down_sync(0xffffffff, thread, 30);
    row[3] = __ballot_sync(0xffffffff, lane % 3 == 0);
    row[4] = static_cast<uint32_t>(__any_sync(0xffffffff, thread == 40));
    row[5] = static_cast<uint32_t>(__all_sync(0xffffffff, thread < 64));
    row[6] = __float_as_uint(warp_max(-1.0f - static_cast<float>(thread)));
    __syncwarp();
    row[7] = __float_as_uint(warp_sum(static_cast<float>(thread)));
    SHARED_MEMORY(scratch);
    sums[2 * thread] = block_sum(static_cast<float>(thread), reinterpret_cast<float*>(scratch));
    sums[2 * thread + 1] = block_max(static_cast<float>(thread), reinterpret_cast<float*>(scratch));
}

// One warp: out[16][8] = a[16][16] * b[8][16]^T + out, with loads as a kernel does them.
KERNEL_BOUNDS(emulation_matrix, 32)(const bf16* a, const bf16* b, float* out) {
    const uint32_t group = threadIdx.x / 4, pair = 2 * (threadIdx.x % 4);
    const auto two = [](const bf16* from) {
        return static_cast<uint32_t>(from[0].bits) | static_cast<uint32_t>(from[1].bits) << 16;
    };
    const uint32_t a_fragment[4] = {two(a + group * 16 + pair), two(a + (group + 8) * 16 + pair),
                                    two(a + group * 16 + pair + 8), two(a + (group + 8) * 16 + pair + 8)};
    const uint32_t b_fragment[2] = {two(b + group * 16 + pair), two(b + group * 16 + pair + 8)};
    float* upper = out + group * 8 + pair;
    float* lower = out + (group + 8) * 8 + pair;
    float accumulators[4] = {upper[0], upper[1], lower[0], lower[1]};
    mma_bf16_16x8x16(accumulators, a_fragment, b_fragment);
    upper[0] = accumulators[0];
    upper[1] = accumulators[1];
    lower[0] = accumulators[2];
    lower[1] = accumulators[3];
}

// Two groups of copies; reads after waiting for the first of them. out: [threads, 2 groups, 4].
KERNEL(emulation_copy_async)(const uint32_t* in, uint32_t* out) {
    SHARED_MEMORY(memory);
    uint32_t* own = reinterpret_cast<uint32_t*>(memory) + 8 * threadIdx.x;
    for (uint32_t group = 0; group < 2; ++group) {
        copy_async16(own + 4 * group, in + 8 * threadIdx.x + 4 * group);
        copy_async_commit();
    }
    copy_async_wait<1>();
    for (uint32_t word = 0; word < 8; ++word) {
        out[8 * threadIdx.x + word] = own[word];
    }
    copy_async_wait<0>();
}

KERNEL(emulation_copy_async_outside)(const uint32_t* in) {
    SHARED_MEMORY(memory);
    copy_async16(memory + 16 * blockDim.x, in);
}

// Conversions: from `in` to each format and back.
KERNEL(emulation_formats)(const float* in, float* bf16s, float* f16s, float* fp8s) {
    const uint32_t i = blockIdx.x * blockDim.x + threadIdx.x;
    bf16s[i] = to_float(to_bf16(in[i]));
    f16s[i] = to_float(to_f16(in[i]));
    fp8s[i] = to_float(to_fp8(in[i]));
}

// Bits to floats: every pattern of f16, and of fp8 in the low byte.
KERNEL(emulation_patterns)(float* f16s, float* fp8s) {
    const uint32_t i = blockIdx.x * blockDim.x + threadIdx.x;
    f16s[i] = to_float(f16{static_cast<uint16_t>(i)});
    fp8s[i] = to_float(fp8{static_cast<uint8_t>(i)});
}

// Nothing but an index: the cost of a thread.
KERNEL(emulation_nothing)(uint32_t* out) {
    out[blockIdx.x * blockDim.x + threadIdx.x] = threadIdx.x;
}

// Nothing but barriers: the cost of a switch.
KERNEL(emulation_barriers)(uint32_t* out, uint32_t count) {
    for (uint32_t i = 0; i < count; ++i) {
        __syncthreads();
    }
    out[blockIdx.x * blockDim.x + threadIdx.x] = threadIdx.x;
}
