// The queues of streams: what is in them runs when somebody waits, and not before.
#include "driver.h"

#include "../emulate.h"

#include <cstdio>
#include <cstring>

namespace sconce::driver {
namespace {

void report(const Launch& launch, const char* message) {
    fprintf(stderr, "stand-in for libcuda: kernel %s: %s\n", launch.kernel.c_str(), message);
}

// Arguments of eight bytes are addresses of device memory.
bool has_valid_pointers(const Context& context, const Launch& launch) {
    for (const auto& argument : launch.arguments) {
        Pointer pointer = 0;
        if (argument.size() == sizeof pointer) {
            memcpy(&pointer, argument.data(), sizeof pointer);
            if (pointer != 0 && !is_allocated(context, pointer, 0)) {
                return false;
            }
        }
    }
    return true;
}

Result run_launch(Context& context, const Launch& launch) {
    State& all = state();
    const uint64_t number = ++all.num_launches;
    if (all.settings.launches_before_failure == 0) {
        all.settings.launches_before_failure = -1;
        return ILLEGAL_ADDRESS;
    }
    if (all.settings.launches_before_failure > 0) {
        --all.settings.launches_before_failure;
    }
    if (!has_valid_pointers(context, launch)) {
        report(launch, "an argument points at no memory");
        return ILLEGAL_ADDRESS;
    }
    std::vector<void*> arguments;
    for (const auto& argument : launch.arguments) {
        arguments.push_back(const_cast<uint8_t*>(argument.data()));
    }
    char message[512] = {};
    const uint64_t seed = static_cast<uint64_t>(all.settings.seed) ^ number;
    if (sconce_emulate_launch(launch.kernel.c_str(), launch.grid, launch.block, launch.shared_bytes, arguments.data(),
                              seed, message, sizeof message) != 0) {
        report(launch, message);
        return LAUNCH_FAILED;
    }
    const std::string broken = broken_guard(context);
    if (!broken.empty()) {
        report(launch, broken.c_str());
        return ILLEGAL_ADDRESS;
    }
    return SUCCESS;
}

void run(Context& context, const Work& work) {
    switch (work.kind) {
    case Work::LAUNCH:
        context.failure = run_launch(context, *work.launch);
        break;
    case Work::COPY:
        memcpy(reinterpret_cast<void*>(work.to), reinterpret_cast<const void*>(work.from), work.bytes);
        break;
    case Work::FILL:
        memset(reinterpret_cast<void*>(work.to), work.byte, work.bytes);
        break;
    case Work::EVENT:
        const auto event = context.events.find(work.event);
        if (event != context.events.end()) {
            event->second.passed = work.record;
            event->second.passed_at = std::chrono::steady_clock::now();
        }
        break;
    }
}

bool run_next(Context& context, Stream& stream) {
    if (context.failure != SUCCESS || stream.queue.empty()) {
        stream.queue.clear();
        return false;
    }
    const Work work = std::move(stream.queue.front());
    stream.queue.pop_front();
    run(context, work);
    return true;
}

} // namespace

Result submit(Stream& stream, Work work) {
    switch (stream.capture) {
    case Capture::NONE:
        stream.queue.push_back(std::move(work));
        return SUCCESS;
    case Capture::ACTIVE:
        stream.recorded.push_back(std::move(work));
        return SUCCESS;
    case Capture::INVALIDATED: break;
    }
    return STREAM_CAPTURE_INVALIDATED;
}

void run_all(Context& context, Stream& stream) {
    while (run_next(context, stream)) {
    }
}

void run_all(Context& context) {
    for (auto& [handle, stream] : context.streams) {
        run_all(context, stream);
    }
}

void run_until(Context& context, Handle handle) {
    const Event& event = context.events[handle];
    for (auto& [_, stream] : context.streams) {
        bool is_here = false;
        for (const Work& work : stream.queue) {
            is_here = is_here || (work.kind == Work::EVENT && work.event == handle);
        }
        while (is_here && event.passed < event.recorded && run_next(context, stream)) {
        }
    }
}

bool invalidate_capture(Stream& stream) {
    if (stream.capture == Capture::NONE) {
        return false;
    }
    stream.capture = Capture::INVALIDATED;
    return true;
}

bool disturbs_capture(Context& context) {
    bool disturbs = false;
    for (auto& [handle, stream] : context.streams) {
        if (!stream.is_thread_local || stream.capturing_thread == std::this_thread::get_id()) {
            disturbs = invalidate_capture(stream) || disturbs;
        }
    }
    return disturbs;
}

} // namespace sconce::driver
