// The C interface: finds kernels, refuses what a driver refuses, launches.
#include "emulate.h"

#include "machine.h"

#include <cstdio>
#include <cstring>

namespace sconce {
namespace {

const Kernel* find_kernel(const char* name) {
    for (const KernelTable* table = KERNEL_TABLES; table->kernels != nullptr; ++table) {
        for (const Kernel* kernel = table->kernels; kernel->name != nullptr; ++kernel) {
            if (strcmp(kernel->name, name) == 0) {
                return kernel;
            }
        }
    }
    return nullptr;
}

// What a driver refuses before any thread runs; empty when it does not.
void check_limits(const Kernel& kernel, const uint32_t grid[3], const uint32_t block[3], uint32_t shared_bytes,
                  char* text, size_t text_bytes) {
    const uint64_t threads = uint64_t{block[0]} * block[1] * block[2];
    const uint64_t blocks = uint64_t{grid[0]} * grid[1] * grid[2];
    text[0] = 0;
    if (threads == 0 || block[0] > THREADS_MAX || block[1] > THREADS_MAX || block[2] > 64 ||
        threads > kernel.threads_max) {
        snprintf(text, text_bytes, "a block of %u x %u x %u threads, at most %u are allowed", block[0], block[1],
                 block[2], kernel.threads_max);
    } else if (grid[0] == 0 || grid[1] == 0 || grid[2] == 0 || grid[0] > INT32_MAX || grid[1] > 65535 ||
               grid[2] > 65535 || blocks > UINT32_MAX) {
        snprintf(text, text_bytes, "a grid of %u x %u x %u blocks, 1 to 2147483647 x 65535 x 65535 are allowed",
                 grid[0], grid[1], grid[2]);
    } else if (shared_bytes > SHARED_BYTES_MAX) {
        snprintf(text, text_bytes, "%u bytes of shared memory, at most %u are allowed", shared_bytes, SHARED_BYTES_MAX);
    }
}

} // namespace
} // namespace sconce

int sconce_emulate_launch(const char* name, const uint32_t grid[3], const uint32_t block[3], uint32_t shared_bytes,
                          void** arguments, uint64_t seed, char* message, size_t message_bytes) {
    using namespace sconce;
    const Kernel* kernel = find_kernel(name);
    if (kernel == nullptr) {
        snprintf(message, message_bytes, "no kernel is called %s", name);
        return UNKNOWN_KERNEL;
    }
    char limits[256];
    check_limits(*kernel, grid, block, shared_bytes, limits, sizeof limits);
    if (limits[0] != 0) {
        snprintf(message, message_bytes, "%s", limits);
        return LAUNCH_LIMITS;
    }
    grid_size = {grid[0], grid[1], grid[2]};
    block_size = {block[0], block[1], block[2]};
    Machine& machine = Machine::of_this_thread();
    const int fault = machine.launch(*kernel, arguments, shared_bytes, {seed});
    if (fault != 0) {
        snprintf(message, message_bytes, "%s", machine.message());
    }
    return fault;
}

size_t sconce_emulate_kernels(const char** names, size_t capacity) {
    size_t length = 0;
    for (const sconce::KernelTable* table = sconce::KERNEL_TABLES; table->kernels != nullptr; ++table) {
        for (const sconce::Kernel* kernel = table->kernels; table->listed && kernel->name != nullptr; ++kernel) {
            if (length < capacity) {
                names[length] = kernel->name;
            }
            ++length;
        }
    }
    return length;
}

size_t sconce_emulate_parameters(const char* name, uint8_t* bytes, size_t capacity) {
    const sconce::Kernel* kernel = sconce::find_kernel(name);
    if (kernel == nullptr) {
        return SIZE_MAX;
    }
    for (size_t index = 0; index < kernel->num_parameters && index < capacity; ++index) {
        bytes[index] = kernel->parameter_bytes[index];
    }
    return kernel->num_parameters;
}
