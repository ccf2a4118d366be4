// Device memory, with guard zones around it.
#include "driver.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>

namespace sconce::driver {
namespace {

constexpr size_t GUARD_BYTES = 256;
constexpr uint8_t GUARD = 0xa5;
// Not a number in every format. Only so much of it, because memory that is never touched costs nothing.
constexpr uint8_t POISON = 0xff;
constexpr size_t POISON_BYTES_MAX = size_t{16} << 20;

uint8_t* bytes_at(Pointer pointer) {
    return reinterpret_cast<uint8_t*>(pointer);
}

bool is_guarded(Pointer start) {
    const uint8_t* guard = bytes_at(start);
    return std::all_of(guard, guard + GUARD_BYTES, [](uint8_t byte) { return byte == GUARD; });
}

void release(Pointer pointer, size_t bytes) {
    memset(bytes_at(pointer), POISON, std::min(bytes, POISON_BYTES_MAX));
    free(bytes_at(pointer - GUARD_BYTES));
}

} // namespace

Result allocate(Context& context, size_t bytes, Pointer* pointer) {
    if (bytes == 0) {
        return INVALID_VALUE;
    }
    const auto total = static_cast<size_t>(state().settings.memory_bytes);
    if (bytes > total || context.allocated_bytes > total - bytes) {
        return OUT_OF_MEMORY;
    }
    const size_t rounded = (bytes + GUARD_BYTES - 1) / GUARD_BYTES * GUARD_BYTES;
    auto* start = static_cast<uint8_t*>(aligned_alloc(GUARD_BYTES, rounded + 2 * GUARD_BYTES));
    if (start == nullptr) {
        return OUT_OF_MEMORY;
    }
    memset(start, GUARD, GUARD_BYTES);
    memset(start + GUARD_BYTES, POISON, std::min(bytes, POISON_BYTES_MAX));
    memset(start + GUARD_BYTES + bytes, GUARD, GUARD_BYTES);
    *pointer = reinterpret_cast<Pointer>(start) + GUARD_BYTES;
    context.allocations[*pointer] = bytes;
    context.allocated_bytes += bytes;
    return SUCCESS;
}

Result free_memory(Context& context, Pointer pointer) {
    const auto found = context.allocations.find(pointer);
    if (found == context.allocations.end()) {
        return misuse(INVALID_VALUE);
    }
    release(pointer, found->second);
    context.allocated_bytes -= found->second;
    context.allocations.erase(found);
    return SUCCESS;
}

bool is_allocated(const Context& context, Pointer start, size_t bytes) {
    auto behind = context.allocations.upper_bound(start);
    if (behind == context.allocations.begin()) {
        return false;
    }
    const auto& [first, length] = *--behind;
    return start - first <= length && bytes <= length - (start - first);
}

std::string broken_guard(const Context& context) {
    for (const auto& [pointer, bytes] : context.allocations) {
        for (const bool is_behind : {false, true}) {
            if (!is_guarded(is_behind ? pointer + bytes : pointer - GUARD_BYTES)) {
                return std::string("wrote ") + (is_behind ? "behind" : "before") + " an allocation of " +
                       std::to_string(bytes) + " bytes";
            }
        }
    }
    return {};
}

void free_all(const Context& context) {
    for (const auto& [pointer, bytes] : context.allocations) {
        release(pointer, bytes);
    }
}

} // namespace sconce::driver
