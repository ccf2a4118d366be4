// A stand-in for NVIDIA's libcuda.so.1, for tests on machines without a GPU: what it holds and how it is run.
//
// Test equipment: never installed, never on a search path by default; scripts/stand-in-driver.sh builds it. It has
// exactly the functions that `src/gpu/cuda.rs` calls, and runs kernels by the emulation beside this folder. Where the
// CUDA driver API reference leaves room it takes the harsher reading: work is late, host memory is read when a copy
// runs, handles are never used twice, and what a destroyed context owned is gone.
//
// One lock is held by every call, so that nothing below needs another.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <vector>

namespace sconce::driver {

// The numbers of CUresult.
enum Result {
    SUCCESS = 0,
    INVALID_VALUE = 1,
    OUT_OF_MEMORY = 2,
    NOT_INITIALIZED = 3,
    NO_DEVICE = 100,
    INVALID_DEVICE = 101,
    INVALID_IMAGE = 200,
    INVALID_CONTEXT = 201,
    NO_BINARY_FOR_GPU = 209,
    HOST_MEMORY_ALREADY_REGISTERED = 712,
    HOST_MEMORY_NOT_REGISTERED = 713,
    INVALID_HANDLE = 400,
    ILLEGAL_STATE = 401,
    NOT_FOUND = 500,
    NOT_READY = 600,
    ILLEGAL_ADDRESS = 700,
    CONTEXT_IS_DESTROYED = 709,
    LAUNCH_FAILED = 719,
    STREAM_CAPTURE_UNSUPPORTED = 900,
    STREAM_CAPTURE_INVALIDATED = 901,
    CAPTURED_EVENT = 907,
    STREAM_CAPTURE_WRONG_THREAD = 908,
};

using Handle = uint64_t;
using Pointer = uint64_t;

// What a test chooses: by environment variables (SCONCE_STAND_IN_DRIVER_VERSION and so on) before the library is
// loaded, by `sconce_stand_in_set` afterwards.
struct Settings {
    int64_t driver_version = 13000;
    int64_t devices = 1;
    int64_t capability = 90;
    int64_t memory_bytes = int64_t{4} << 30;
    // Launches that still work before one fails, and with it its context; below zero: all.
    int64_t launches_before_failure = -1;
    // How often an event answers that it is not ready before the work up to it is done.
    int64_t polls_before_ready = 2;
    // No work comes to an end; who waits for some waits until this is zero again.
    int64_t is_hung = 0;
    // Whether a context that has failed works again after a reset of its device.
    int64_t reset_heals = 1;
    int64_t seed = 1;

    // Null for a name that nobody has.
    int64_t* find(const std::string& name);
};

struct Launch {
    std::string kernel;
    uint32_t grid[3], block[3], shared_bytes;
    std::vector<std::vector<uint8_t>> arguments;
};

struct Work {
    enum Kind { LAUNCH, COPY, FILL, EVENT } kind;
    std::shared_ptr<const Launch> launch;
    Pointer to, from;
    size_t bytes;
    uint8_t byte;
    Handle event;
    uint64_t record;
};

enum class Capture { NONE, ACTIVE, INVALIDATED };

struct Stream {
    std::deque<Work> queue;
    Capture capture = Capture::NONE;
    // Whether other threads may do what could disturb the capture.
    bool is_thread_local = false;
    std::thread::id capturing_thread;
    std::vector<Work> recorded;
};

struct Event {
    // Counts its records, and the last of them that the stream has passed.
    uint64_t recorded = 0, passed = 0;
    int64_t polls = 0;
    bool is_captured = false;
    std::chrono::steady_clock::time_point passed_at;
};

struct Module {
    std::set<std::string> kernels;
};

struct Function {
    Handle module;
    std::string name;
    // What every launch may ask for; more has to be allowed.
    int64_t shared_bytes_max = 48 * 1024;
};

using Recording = std::vector<Work>;

// All that ends with a context.
struct Context {
    int device;
    uint64_t incarnation;
    Result failure = SUCCESS;
    size_t allocated_bytes = 0;
    std::map<Pointer, size_t> allocations, host_ranges;
    std::map<Handle, Stream> streams;
    std::map<Handle, Event> events;
    std::map<Handle, Module> modules;
    std::map<Handle, Function> functions;
    std::map<Handle, Recording> graphs, graph_instances;
};

struct Device {
    // The one primary context; its handle stays the same when the context is made anew.
    std::unique_ptr<Context> context;
    int64_t num_retained = 0;
    uint64_t num_incarnations = 0;
    // A failure that not even a reset has healed.
    Result failure = SUCCESS;
};

struct State {
    std::mutex lock;
    Settings settings;
    bool is_initialised = false;
    std::map<int, Device> devices;
    Handle last_handle = 0x5c0000000000;
    uint64_t num_launches = 0;
    // Calls with a handle, a pointer or a context that did not exist: a real driver may end the process there.
    int64_t num_misuses = 0;

    State();
    Handle new_handle() { return last_handle += 16; }
};

// Lives until the process ends, whatever ends before it.
State& state();

constexpr Handle FIRST_CONTEXT_HANDLE = 0xc0de00;
constexpr int DEVICES_MAX = 16;

// ---- contexts (device.cpp) ----

// The one that is current on this thread. Null, and why.
Context* current_context(Result& why);
Result set_current_context(Handle handle);
void make_context(Device& device, int ordinal);
void destroy_context(Device& device);
Result misuse(Result result);

// Dynamic shared memory of a block at most.
int64_t shared_bytes_max();

// ---- memory (memory.cpp) ----

Result allocate(Context& context, size_t bytes, Pointer* pointer);
Result free_memory(Context& context, Pointer pointer);
// Whether the range lies in one allocation.
bool is_allocated(const Context& context, Pointer start, size_t bytes);
// The first allocation that something was written beside of, and what is wrong there; empty if none.
std::string broken_guard(const Context& context);
void free_all(const Context& context);

// ---- work (work.cpp) ----

// To the end of the queue, or into the recording.
Result submit(Stream& stream, Work work);
// Runs a stream to its end, or past a record of an event.
void run_all(Context& context, Stream& stream);
void run_all(Context& context);
void run_until(Context& context, Handle event);
// What a captured stream does not allow this thread; ends the captures that it concerns.
bool disturbs_capture(Context& context);
bool invalidate_capture(Stream& stream);

// ---- images (cubin.cpp) ----

// Kernels of an ELF image for this capability.
Result read_cubin(const void* image, int64_t capability, std::set<std::string>& kernels);

// Runs a call in the current context. `body` is told the context.
template <class Body> int in_context(Body body) {
    std::unique_lock<std::mutex> held(state().lock);
    if (!state().is_initialised) {
        return NOT_INITIALIZED;
    }
    Result why = SUCCESS;
    Context* context = current_context(why);
    if (context == nullptr) {
        return misuse(why);
    }
    return context->failure != SUCCESS ? context->failure : body(*context);
}

// Gives the lock away until nothing hangs.
void wait_until_unhung(std::unique_lock<std::mutex>& held);

// The same for a call that waits for work.
template <class Body> int in_context_waiting(Body body) {
    std::unique_lock<std::mutex> held(state().lock);
    wait_until_unhung(held);
    held.unlock();
    return in_context(body);
}

template <class Value> Value* find(std::map<Handle, Value>& values, const void* handle) {
    auto found = values.find(reinterpret_cast<Handle>(handle));
    return found == values.end() ? nullptr : &found->second;
}

} // namespace sconce::driver

#define DRIVER_CALL extern "C" __attribute__((visibility("default"))) int
