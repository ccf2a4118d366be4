// The driver's functions for devices, contexts, memory and modules. Names, arguments and numbers are those of the CUDA
// driver API reference.
#include "driver.h"

#include <cstdio>
#include <cstring>

using namespace sconce::driver;

namespace {

constexpr int ATTRIBUTE_MULTIPROCESSORS = 16;
constexpr int ATTRIBUTE_CAPABILITY_MAJOR = 75;
constexpr int ATTRIBUTE_CAPABILITY_MINOR = 76;
constexpr int ATTRIBUTE_SHARED_BYTES_MAX = 97;
constexpr int FUNCTION_ATTRIBUTE_SHARED_BYTES_MAX = 8;

struct ErrorText {
    int result;
    const char *name, *meaning;
};
constexpr ErrorText ERROR_TEXTS[] = {
    {SUCCESS, "CUDA_SUCCESS", "no error"},
    {INVALID_VALUE, "CUDA_ERROR_INVALID_VALUE", "invalid argument"},
    {OUT_OF_MEMORY, "CUDA_ERROR_OUT_OF_MEMORY", "out of memory"},
    {NOT_INITIALIZED, "CUDA_ERROR_NOT_INITIALIZED", "cuInit was not called"},
    {NO_DEVICE, "CUDA_ERROR_NO_DEVICE", "no device was found"},
    {INVALID_DEVICE, "CUDA_ERROR_INVALID_DEVICE", "no such device"},
    {INVALID_IMAGE, "CUDA_ERROR_INVALID_IMAGE", "the image is no cubin"},
    {INVALID_CONTEXT, "CUDA_ERROR_INVALID_CONTEXT", "no context is current"},
    {NO_BINARY_FOR_GPU, "CUDA_ERROR_NO_BINARY_FOR_GPU", "the image is for another device"},
    {HOST_MEMORY_ALREADY_REGISTERED, "CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED", "registered already"},
    {HOST_MEMORY_NOT_REGISTERED, "CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED", "not registered"},
    {INVALID_HANDLE, "CUDA_ERROR_INVALID_HANDLE", "no such object"},
    {ILLEGAL_STATE, "CUDA_ERROR_ILLEGAL_STATE", "not in this state"},
    {NOT_FOUND, "CUDA_ERROR_NOT_FOUND", "no such name"},
    {NOT_READY, "CUDA_ERROR_NOT_READY", "not ready"},
    {ILLEGAL_ADDRESS, "CUDA_ERROR_ILLEGAL_ADDRESS", "an illegal memory access"},
    {CONTEXT_IS_DESTROYED, "CUDA_ERROR_CONTEXT_IS_DESTROYED", "the context is destroyed"},
    {LAUNCH_FAILED, "CUDA_ERROR_LAUNCH_FAILED", "a launch failed"},
    {STREAM_CAPTURE_UNSUPPORTED, "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED", "not while a stream is captured"},
    {STREAM_CAPTURE_INVALIDATED, "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED", "an earlier call spoilt the capture"},
    {CAPTURED_EVENT, "CUDA_ERROR_CAPTURED_EVENT", "the event belongs to a capture"},
    {STREAM_CAPTURE_WRONG_THREAD, "CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD", "another thread began the capture"},
};

int error_text(int result, const char** text, const char* ErrorText::* part) {
    for (const ErrorText& entry : ERROR_TEXTS) {
        if (entry.result == result) {
            *text = entry.*part;
            return SUCCESS;
        }
    }
    *text = nullptr;
    return INVALID_VALUE;
}

// Runs a call about a device, which needs no context.
template <class Body> int on_device(int device, Body body) {
    std::unique_lock<std::mutex> held(state().lock);
    if (!state().is_initialised) {
        return NOT_INITIALIZED;
    }
    if (device < 0 || device >= state().settings.devices || device >= DEVICES_MAX) {
        return misuse(INVALID_DEVICE);
    }
    return body(state().devices[device], held);
}

} // namespace

DRIVER_CALL cuGetErrorName(int result, const char** text) {
    return error_text(result, text, &ErrorText::name);
}

DRIVER_CALL cuGetErrorString(int result, const char** text) {
    return error_text(result, text, &ErrorText::meaning);
}

DRIVER_CALL cuInit(unsigned flags) {
    const std::lock_guard<std::mutex> held(state().lock);
    if (flags != 0) {
        return INVALID_VALUE;
    }
    // So it is where a driver is installed and no device is to be seen.
    if (state().settings.devices == 0) {
        return NO_DEVICE;
    }
    state().is_initialised = true;
    return SUCCESS;
}

DRIVER_CALL cuDriverGetVersion(int* version) {
    const std::lock_guard<std::mutex> held(state().lock);
    *version = static_cast<int>(state().settings.driver_version);
    return SUCCESS;
}

DRIVER_CALL cuDeviceGetCount(int* count) {
    const std::lock_guard<std::mutex> held(state().lock);
    *count = static_cast<int>(state().settings.devices);
    return state().is_initialised ? SUCCESS : NOT_INITIALIZED;
}

DRIVER_CALL cuDeviceGet(int* device, int ordinal) {
    return on_device(ordinal, [&](Device&, auto&) {
        *device = ordinal;
        return SUCCESS;
    });
}

DRIVER_CALL cuDeviceGetName(char* name, int length, int device) {
    return on_device(device, [&](Device&, auto&) {
        snprintf(name, static_cast<size_t>(length), "stand-in for a GPU %d", device);
        return SUCCESS;
    });
}

DRIVER_CALL cuDeviceTotalMem_v2(size_t* bytes, int device) {
    return on_device(device, [&](Device&, auto&) {
        *bytes = static_cast<size_t>(state().settings.memory_bytes);
        return SUCCESS;
    });
}

DRIVER_CALL cuDeviceGetAttribute(int* value, int attribute, int device) {
    return on_device(device, [&](Device&, auto&) {
        const auto capability = static_cast<int>(state().settings.capability);
        switch (attribute) {
        case ATTRIBUTE_MULTIPROCESSORS: *value = 4; return SUCCESS;
        case ATTRIBUTE_CAPABILITY_MAJOR: *value = capability / 10; return SUCCESS;
        case ATTRIBUTE_CAPABILITY_MINOR: *value = capability % 10; return SUCCESS;
        case ATTRIBUTE_SHARED_BYTES_MAX: *value = static_cast<int>(shared_bytes_max()); return SUCCESS;
        default: return misuse(INVALID_VALUE);
        }
    });
}

DRIVER_CALL cuDevicePrimaryCtxRetain(void** context, int device) {
    return on_device(device, [&](Device& found, auto&) {
        if (!found.context) {
            make_context(found, device);
        }
        ++found.num_retained;
        *context = reinterpret_cast<void*>(FIRST_CONTEXT_HANDLE + static_cast<Handle>(device));
        return SUCCESS;
    });
}

DRIVER_CALL cuDevicePrimaryCtxRelease_v2(int device) {
    return on_device(device, [&](Device& found, auto& held) {
        if (found.num_retained == 0) {
            return misuse(INVALID_CONTEXT);
        }
        wait_until_unhung(held);
        if (--found.num_retained == 0) {
            destroy_context(found);
        }
        return SUCCESS;
    });
}

// Ends the context and leaves it retained as often as it was.
DRIVER_CALL cuDevicePrimaryCtxReset_v2(int device) {
    return on_device(device, [&](Device& found, auto& held) {
        wait_until_unhung(held);
        destroy_context(found);
        return SUCCESS;
    });
}

DRIVER_CALL cuCtxSetCurrent(void* context) {
    const std::lock_guard<std::mutex> held(state().lock);
    return state().is_initialised ? set_current_context(reinterpret_cast<Handle>(context)) : NOT_INITIALIZED;
}

DRIVER_CALL cuMemGetInfo_v2(size_t* free, size_t* total) {
    return in_context([&](Context& context) {
        *total = static_cast<size_t>(state().settings.memory_bytes);
        *free = *total - context.allocated_bytes;
        return SUCCESS;
    });
}

DRIVER_CALL cuMemAlloc_v2(Pointer* pointer, size_t bytes) {
    return in_context([&](Context& context) {
        return disturbs_capture(context) ? STREAM_CAPTURE_UNSUPPORTED : allocate(context, bytes, pointer);
    });
}

DRIVER_CALL cuMemFree_v2(Pointer pointer) {
    return in_context_waiting([&](Context& context) {
        if (disturbs_capture(context)) {
            return STREAM_CAPTURE_UNSUPPORTED;
        }
        run_all(context);
        const Result freed = free_memory(context, pointer);
        return context.failure != SUCCESS ? context.failure : freed;
    });
}

DRIVER_CALL cuMemHostRegister_v2(void* pointer, size_t bytes, unsigned) {
    return in_context([&](Context& context) {
        if (disturbs_capture(context)) {
            return STREAM_CAPTURE_UNSUPPORTED;
        }
        if (pointer == nullptr || bytes == 0) {
            return INVALID_VALUE;
        }
        const bool is_new = context.host_ranges.emplace(reinterpret_cast<Pointer>(pointer), bytes).second;
        return is_new ? SUCCESS : misuse(HOST_MEMORY_ALREADY_REGISTERED);
    });
}

DRIVER_CALL cuMemHostUnregister(void* pointer) {
    return in_context_waiting([&](Context& context) {
        if (disturbs_capture(context)) {
            return STREAM_CAPTURE_UNSUPPORTED;
        }
        run_all(context);
        const bool was_registered = context.host_ranges.erase(reinterpret_cast<Pointer>(pointer)) != 0;
        return was_registered ? context.failure : misuse(HOST_MEMORY_NOT_REGISTERED);
    });
}

DRIVER_CALL cuModuleLoadData(void** module, const void* image) {
    return in_context([&](Context& context) {
        if (disturbs_capture(context)) {
            return STREAM_CAPTURE_UNSUPPORTED;
        }
        Module loaded;
        const Result read = read_cubin(image, state().settings.capability, loaded.kernels);
        if (read != SUCCESS) {
            return misuse(read);
        }
        const Handle handle = state().new_handle();
        context.modules[handle] = loaded;
        *module = reinterpret_cast<void*>(handle);
        return SUCCESS;
    });
}

DRIVER_CALL cuModuleUnload(void* module) {
    return in_context_waiting([&](Context& context) {
        run_all(context);
        const auto handle = reinterpret_cast<Handle>(module);
        if (context.modules.erase(handle) == 0) {
            return misuse(INVALID_HANDLE);
        }
        for (auto next = context.functions.begin(); next != context.functions.end();) {
            next = next->second.module == handle ? context.functions.erase(next) : std::next(next);
        }
        return context.failure;
    });
}

DRIVER_CALL cuModuleGetFunction(void** function, void* module, const char* name) {
    return in_context([&](Context& context) {
        const Module* found = find(context.modules, module);
        if (found == nullptr) {
            return misuse(INVALID_HANDLE);
        }
        if (found->kernels.count(name) == 0) {
            return NOT_FOUND;
        }
        const Handle handle = state().new_handle();
        context.functions[handle] = {reinterpret_cast<Handle>(module), name};
        *function = reinterpret_cast<void*>(handle);
        return SUCCESS;
    });
}

DRIVER_CALL cuFuncSetAttribute(void* function, int attribute, int value) {
    return in_context([&](Context& context) {
        Function* found = find(context.functions, function);
        if (found == nullptr) {
            return misuse(INVALID_HANDLE);
        }
        if (attribute != FUNCTION_ATTRIBUTE_SHARED_BYTES_MAX || value < 0 || value > shared_bytes_max()) {
            return INVALID_VALUE;
        }
        found->shared_bytes_max = value;
        return SUCCESS;
    });
}
