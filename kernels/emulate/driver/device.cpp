// Settings, devices and their contexts.
#include "driver.h"

#include <cctype>
#include <cstdlib>

namespace sconce::driver {
namespace {

// Which context a thread made current: a handle alone would not tell an old context from the one made after it.
struct Current {
    int device = -1;
    uint64_t incarnation = 0;
};
thread_local Current current;

struct Setting {
    const char* name;
    int64_t Settings::* value;
};
constexpr Setting SETTINGS[] = {
    {"driver_version", &Settings::driver_version},
    {"devices", &Settings::devices},
    {"capability", &Settings::capability},
    {"memory_bytes", &Settings::memory_bytes},
    {"launches_before_failure", &Settings::launches_before_failure},
    {"polls_before_ready", &Settings::polls_before_ready},
    {"is_hung", &Settings::is_hung},
    {"reset_heals", &Settings::reset_heals},
    {"seed", &Settings::seed},
};

bool has_work(const Context& context) {
    for (const auto& [handle, stream] : context.streams) {
        if (!stream.queue.empty()) {
            return true;
        }
    }
    return false;
}

} // namespace

int64_t* Settings::find(const std::string& name) {
    for (const Setting& setting : SETTINGS) {
        if (name == setting.name) {
            return &(this->*setting.value);
        }
    }
    return nullptr;
}

State::State() {
    for (const Setting& setting : SETTINGS) {
        std::string variable = std::string("SCONCE_STAND_IN_") + setting.name;
        for (char& letter : variable) {
            letter = static_cast<char>(toupper(letter));
        }
        if (const char* text = getenv(variable.c_str())) {
            settings.*setting.value = strtoll(text, nullptr, 10);
        }
    }
}

State& state() {
    static State& state = *new State;
    return state;
}

Result misuse(Result result) {
    ++state().num_misuses;
    return result;
}

Context* current_context(Result& why) {
    if (current.device < 0) {
        why = INVALID_CONTEXT;
        return nullptr;
    }
    Context* context = state().devices[current.device].context.get();
    if (context == nullptr || context->incarnation != current.incarnation) {
        why = CONTEXT_IS_DESTROYED;
        return nullptr;
    }
    return context;
}

Result set_current_context(Handle handle) {
    if (handle == 0) {
        current = {};
        return SUCCESS;
    }
    const int ordinal = static_cast<int>(handle - FIRST_CONTEXT_HANDLE);
    if (handle < FIRST_CONTEXT_HANDLE || ordinal >= DEVICES_MAX || !state().devices[ordinal].context) {
        return misuse(INVALID_CONTEXT);
    }
    current = {ordinal, state().devices[ordinal].context->incarnation};
    return SUCCESS;
}

void make_context(Device& device, int ordinal) {
    device.context = std::make_unique<Context>();
    device.context->device = ordinal;
    device.context->incarnation = ++device.num_incarnations;
    device.context->failure = device.failure;
}

void destroy_context(Device& device) {
    if (!device.context) {
        return;
    }
    run_all(*device.context);
    device.failure = state().settings.reset_heals != 0 ? SUCCESS : device.context->failure;
    free_all(*device.context);
    device.context.reset();
}

int64_t shared_bytes_max() {
    switch (state().settings.capability) {
    case 80: return 166912;
    case 90: return 232448;
    default: return 101376;
    }
}

void wait_until_unhung(std::unique_lock<std::mutex>& held) {
    const auto waits = [] {
        if (state().settings.is_hung == 0) {
            return false;
        }
        for (const auto& [ordinal, device] : state().devices) {
            if (device.context && has_work(*device.context)) {
                return true;
            }
        }
        return false;
    };
    while (waits()) {
        held.unlock();
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
        held.lock();
    }
}

} // namespace sconce::driver

// What tests choose and look at; no driver has these.

extern "C" __attribute__((visibility("default"))) int sconce_stand_in_set(const char* name, int64_t value) {
    using namespace sconce::driver;
    const std::lock_guard<std::mutex> held(state().lock);
    int64_t* setting = state().settings.find(name);
    if (setting == nullptr) {
        return 0;
    }
    *setting = value;
    return 1;
}

// A setting, or how many of something there are now; below zero for a name that nobody has.
extern "C" __attribute__((visibility("default"))) int64_t sconce_stand_in_get(const char* name) {
    using namespace sconce::driver;
    const std::lock_guard<std::mutex> held(state().lock);
    std::map<std::string, int64_t> counts = {{"misuses", state().num_misuses},
                                             {"launches", static_cast<int64_t>(state().num_launches)}};
    for (const char* kind : {"contexts", "retained", "allocations", "host_ranges", "streams", "events", "modules",
                             "graphs", "graph_instances"}) {
        counts[kind] = 0;
    }
    for (const auto& [ordinal, device] : state().devices) {
        counts["retained"] += device.num_retained;
        if (const Context* context = device.context.get()) {
            counts["contexts"] += 1;
            counts["allocations"] += static_cast<int64_t>(context->allocations.size());
            counts["host_ranges"] += static_cast<int64_t>(context->host_ranges.size());
            counts["streams"] += static_cast<int64_t>(context->streams.size());
            counts["events"] += static_cast<int64_t>(context->events.size());
            counts["modules"] += static_cast<int64_t>(context->modules.size());
            counts["graphs"] += static_cast<int64_t>(context->graphs.size());
            counts["graph_instances"] += static_cast<int64_t>(context->graph_instances.size());
        }
    }
    if (const int64_t* setting = state().settings.find(name)) {
        return *setting;
    }
    const auto found = counts.find(name);
    return found == counts.end() ? -1 : found->second;
}
