// The driver's functions for streams, events, launches and graphs.
#include "driver.h"

#include "../emulate.h"

#include <cstring>

using namespace sconce::driver;

namespace {

constexpr int CAPTURE_MODE_THREAD_LOCAL = 1;
constexpr int CAPTURE_MODE_RELAXED = 2;

// Runs a call about a stream.
template <class Body> int on_stream(void* handle, Body body) {
    return in_context([&](Context& context) {
        Stream* stream = find(context.streams, handle);
        return stream == nullptr ? misuse(INVALID_HANDLE) : body(context, *stream);
    });
}

Result submit_copy(Context&, Stream& stream, Pointer to, Pointer from, size_t bytes) {
    Work work = {};
    work.kind = Work::COPY;
    work.to = to;
    work.from = from;
    work.bytes = bytes;
    return submit(stream, work);
}

bool is_size(const uint32_t (&size)[3], uint64_t x_max, uint64_t y_max, uint64_t z_max) {
    return size[0] > 0 && size[0] <= x_max && size[1] > 0 && size[1] <= y_max && size[2] > 0 && size[2] <= z_max;
}

// What a driver refuses at once.
bool is_within_limits(const Launch& launch, const Function& function) {
    const uint64_t threads = uint64_t{launch.block[0]} * launch.block[1] * launch.block[2];
    return is_size(launch.grid, INT32_MAX, 65535, 65535) && is_size(launch.block, 1024, 1024, 64) && threads <= 1024 &&
           launch.shared_bytes <= function.shared_bytes_max;
}

// The values are read now: the caller's are gone when the launch runs.
std::vector<std::vector<uint8_t>> values_of(const std::string& kernel, void** arguments) {
    uint8_t bytes[64];
    const size_t num_parameters = sconce_emulate_parameters(kernel.c_str(), bytes, sizeof bytes);
    std::vector<std::vector<uint8_t>> values;
    for (size_t index = 0; num_parameters <= sizeof bytes && index < num_parameters; ++index) {
        const auto* value = static_cast<const uint8_t*>(arguments[index]);
        values.emplace_back(value, value + bytes[index]);
    }
    return values;
}

} // namespace

DRIVER_CALL cuStreamCreate(void** stream, unsigned) {
    return in_context([&](Context& context) {
        const Handle handle = state().new_handle();
        context.streams[handle];
        *stream = reinterpret_cast<void*>(handle);
        return SUCCESS;
    });
}

DRIVER_CALL cuStreamDestroy_v2(void* stream) {
    return in_context_waiting([&](Context& context) {
        Stream* found = find(context.streams, stream);
        if (found == nullptr) {
            return misuse(INVALID_HANDLE);
        }
        run_all(context, *found);
        context.streams.erase(reinterpret_cast<Handle>(stream));
        return SUCCESS;
    });
}

DRIVER_CALL cuStreamSynchronize(void* stream) {
    return in_context_waiting([&](Context& context) {
        Stream* found = find(context.streams, stream);
        if (found == nullptr) {
            return misuse(INVALID_HANDLE);
        }
        if (invalidate_capture(*found) || disturbs_capture(context)) {
            return STREAM_CAPTURE_UNSUPPORTED;
        }
        run_all(context, *found);
        return context.failure;
    });
}

DRIVER_CALL cuMemcpyHtoDAsync_v2(Pointer to, const void* from, size_t bytes, void* stream) {
    return on_stream(stream, [&](Context& context, Stream& found) {
        return is_allocated(context, to, bytes)
                   ? submit_copy(context, found, to, reinterpret_cast<Pointer>(from), bytes)
                   : misuse(INVALID_VALUE);
    });
}

DRIVER_CALL cuMemcpyDtoHAsync_v2(void* to, Pointer from, size_t bytes, void* stream) {
    return on_stream(stream, [&](Context& context, Stream& found) {
        return is_allocated(context, from, bytes)
                   ? submit_copy(context, found, reinterpret_cast<Pointer>(to), from, bytes)
                   : misuse(INVALID_VALUE);
    });
}

DRIVER_CALL cuMemcpyDtoDAsync_v2(Pointer to, Pointer from, size_t bytes, void* stream) {
    return on_stream(stream, [&](Context& context, Stream& found) {
        return is_allocated(context, to, bytes) && is_allocated(context, from, bytes)
                   ? submit_copy(context, found, to, from, bytes)
                   : misuse(INVALID_VALUE);
    });
}

DRIVER_CALL cuMemsetD8Async(Pointer to, unsigned char byte, size_t bytes, void* stream) {
    return on_stream(stream, [&](Context& context, Stream& found) {
        if (!is_allocated(context, to, bytes)) {
            return misuse(INVALID_VALUE);
        }
        Work work = {};
        work.kind = Work::FILL;
        work.to = to;
        work.bytes = bytes;
        work.byte = byte;
        return submit(found, work);
    });
}

DRIVER_CALL cuLaunchKernel(void* function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x,
                           unsigned block_y, unsigned block_z, unsigned shared_bytes, void* stream, void** arguments,
                           void**) {
    return on_stream(stream, [&](Context& context, Stream& found) {
        const Function* kernel = find(context.functions, function);
        if (kernel == nullptr) {
            return misuse(INVALID_HANDLE);
        }
        auto launch = std::make_shared<Launch>();
        *launch = {kernel->name,
                   {grid_x, grid_y, grid_z},
                   {block_x, block_y, block_z},
                   shared_bytes,
                   values_of(kernel->name, arguments)};
        if (!is_within_limits(*launch, *kernel)) {
            return misuse(INVALID_VALUE);
        }
        Work work = {};
        work.kind = Work::LAUNCH;
        work.launch = launch;
        return submit(found, work);
    });
}

DRIVER_CALL cuEventCreate(void** event, unsigned) {
    return in_context([&](Context& context) {
        const Handle handle = state().new_handle();
        context.events[handle];
        *event = reinterpret_cast<void*>(handle);
        return SUCCESS;
    });
}

DRIVER_CALL cuEventDestroy_v2(void* event) {
    return in_context([&](Context& context) {
        return context.events.erase(reinterpret_cast<Handle>(event)) == 1 ? SUCCESS : misuse(INVALID_HANDLE);
    });
}

DRIVER_CALL cuEventRecord(void* event, void* stream) {
    return on_stream(stream, [&](Context& context, Stream& found) {
        Event* recorded = find(context.events, event);
        if (recorded == nullptr) {
            return misuse(INVALID_HANDLE);
        }
        recorded->is_captured = found.capture != Capture::NONE;
        recorded->polls = 0;
        Work work = {};
        work.kind = Work::EVENT;
        work.event = reinterpret_cast<Handle>(event);
        work.record = ++recorded->recorded;
        return submit(found, work);
    });
}

DRIVER_CALL cuEventQuery(void* event) {
    return in_context([&](Context& context) {
        Event* found = find(context.events, event);
        if (found == nullptr) {
            return misuse(INVALID_HANDLE);
        }
        if (disturbs_capture(context)) {
            return STREAM_CAPTURE_UNSUPPORTED;
        }
        if (found->is_captured) {
            return misuse(CAPTURED_EVENT);
        }
        const Settings& settings = state().settings;
        if (found->passed < found->recorded && (settings.is_hung != 0 || found->polls < settings.polls_before_ready)) {
            ++found->polls;
            return NOT_READY;
        }
        run_until(context, reinterpret_cast<Handle>(event));
        return context.failure;
    });
}

DRIVER_CALL cuEventElapsedTime_v2(float* milliseconds, void* start, void* end) {
    return in_context([&](Context& context) {
        const Event *first = find(context.events, start), *last = find(context.events, end);
        if (first == nullptr || last == nullptr || first->recorded == 0 || last->recorded == 0) {
            return misuse(INVALID_HANDLE);
        }
        if (first->passed < first->recorded || last->passed < last->recorded) {
            return NOT_READY;
        }
        *milliseconds = std::chrono::duration<float, std::milli>(last->passed_at - first->passed_at).count();
        return SUCCESS;
    });
}

DRIVER_CALL cuStreamBeginCapture_v2(void* stream, int mode) {
    return on_stream(stream, [&](Context&, Stream& found) {
        if (found.capture != Capture::NONE) {
            return misuse(ILLEGAL_STATE);
        }
        // Only the modes that keep others from disturbing are known here.
        if (mode < 0 || mode >= CAPTURE_MODE_RELAXED) {
            return INVALID_VALUE;
        }
        found.capture = Capture::ACTIVE;
        found.is_thread_local = mode == CAPTURE_MODE_THREAD_LOCAL;
        found.capturing_thread = std::this_thread::get_id();
        found.recorded.clear();
        return SUCCESS;
    });
}

DRIVER_CALL cuStreamEndCapture(void* stream, void** graph) {
    return on_stream(stream, [&](Context& context, Stream& found) {
        *graph = nullptr;
        if (found.capture == Capture::NONE) {
            return misuse(ILLEGAL_STATE);
        }
        if (found.is_thread_local && found.capturing_thread != std::this_thread::get_id()) {
            return misuse(STREAM_CAPTURE_WRONG_THREAD);
        }
        const bool is_whole = found.capture == Capture::ACTIVE;
        found.capture = Capture::NONE;
        if (!is_whole) {
            return STREAM_CAPTURE_INVALIDATED;
        }
        const Handle handle = state().new_handle();
        context.graphs[handle] = std::move(found.recorded);
        *graph = reinterpret_cast<void*>(handle);
        return SUCCESS;
    });
}

DRIVER_CALL cuGraphInstantiateWithFlags(void** instance, void* graph, unsigned long long) {
    return in_context([&](Context& context) {
        const Recording* found = find(context.graphs, graph);
        if (found == nullptr) {
            return misuse(INVALID_HANDLE);
        }
        const Handle handle = state().new_handle();
        context.graph_instances[handle] = *found;
        *instance = reinterpret_cast<void*>(handle);
        return SUCCESS;
    });
}

DRIVER_CALL cuGraphDestroy(void* graph) {
    return in_context([&](Context& context) {
        return context.graphs.erase(reinterpret_cast<Handle>(graph)) == 1 ? SUCCESS : misuse(INVALID_HANDLE);
    });
}

DRIVER_CALL cuGraphUpload(void* instance, void* stream) {
    return on_stream(stream, [&](Context& context, Stream& found) {
        if (find(context.graph_instances, instance) == nullptr) {
            return misuse(INVALID_HANDLE);
        }
        return invalidate_capture(found) ? STREAM_CAPTURE_UNSUPPORTED : SUCCESS;
    });
}

DRIVER_CALL cuGraphLaunch(void* instance, void* stream) {
    return on_stream(stream, [&](Context& context, Stream& found) {
        const Recording* recording = find(context.graph_instances, instance);
        if (recording == nullptr) {
            return misuse(INVALID_HANDLE);
        }
        if (invalidate_capture(found)) {
            return STREAM_CAPTURE_UNSUPPORTED;
        }
        found.queue.insert(found.queue.end(), recording->begin(), recording->end());
        return SUCCESS;
    });
}

// An instance that runs is kept by its stream until it has ended.
DRIVER_CALL cuGraphExecDestroy(void* instance) {
    return in_context([&](Context& context) {
        const bool was_there = context.graph_instances.erase(reinterpret_cast<Handle>(instance)) == 1;
        return was_there ? SUCCESS : misuse(INVALID_HANDLE);
    });
}
