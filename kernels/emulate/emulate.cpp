#include "emulate.h"

#include "context.h"

#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <memory>
#include <vector>

namespace sconce {

__thread Dim3 thread_index, block_index, block_size, grid_size;

namespace {

// Before and behind the shared memory of a block: what is written there is found when the block has ended.
constexpr size_t GUARD_BYTES = 4096;
constexpr unsigned char POISON = 0xff;

// SplitMix64.
struct Random {
    uint64_t state;
    uint64_t next() {
        uint64_t z = state += 0x9e3779b97f4a7c15;
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
        z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
        return z ^ (z >> 31);
    }
    uint32_t below(uint32_t limit) { return static_cast<uint32_t>(((next() >> 32) * limit) >> 32); }
    template <class T> void shuffle(T* values, uint32_t length) {
        for (uint32_t last = length; last > 1; --last) {
            std::swap(values[last - 1], values[below(last)]);
        }
    }
};

struct Stack {
    Context context;
    // Has not run yet, or was left in the middle of a thread by a fault.
    bool is_fresh = true;
};

enum class State : uint8_t { READY, AT_BARRIER, IN_COLLECTIVE, EXITED };

struct Copy {
    void* to;
    const void* from;
    uint32_t group;
};

struct Thread {
    Dim3 index;
    State state;
    int line;
    // Null before its first instruction and after its last.
    Stack* stack;
    std::vector<Copy> copies;
    uint32_t copy_groups;
};

// The lanes of a warp that have come to one operation.
struct Warp {
    uint32_t arrived;
    uint32_t num_lanes;
    int line;
    Operation operation;
    void* lanes[LANES];
};

// The threads that can go on, in the order in which they will.
class ReadyQueue {
public:
    bool is_empty() const { return length_ == 0; }
    void clear() { first_ = length_ = 0; }
    void push_back(uint16_t thread) { threads_[(first_ + length_++) % THREADS_MAX] = thread; }
    void push_front(uint16_t thread) {
        first_ = (first_ + THREADS_MAX - 1) % THREADS_MAX;
        threads_[first_] = thread;
        ++length_;
    }
    uint16_t pop() {
        uint16_t thread = threads_[first_];
        first_ = (first_ + 1) % THREADS_MAX;
        --length_;
        return thread;
    }

private:
    uint16_t threads_[THREADS_MAX];
    uint32_t first_ = 0, length_ = 0;
};

// What one operating system thread needs to run blocks; reused from launch to launch.
class Machine {
public:
    static Machine& of_this_thread() {
        static thread_local std::unique_ptr<Machine> machine = std::make_unique<Machine>();
        return *machine;
    }

    // The faults that follow are found by the running thread.
    int launch(const Kernel& kernel, void** arguments, uint32_t shared_bytes, Random random);
    void barrier(int line);
    void collective(Operation operation, void* operands, uint32_t mask, int line);
    [[noreturn]] void fail(Fault fault, const char* format, va_list values);

    Thread& current() { return threads_[current_]; }
    uint32_t lane() const { return current_ % LANES; }
    unsigned char* shared_memory() { return shared_; }
    bool is_shared(const void* address, size_t bytes) const {
        const auto* at = static_cast<const unsigned char*>(address);
        return at >= shared_ && at + bytes <= shared_ + shared_bytes_;
    }
    const char* message() const { return message_; }

private:
    bool run_block();
    void reset_threads();
    void work();
    void leave();
    void suspend(int line);
    // False: nobody can go on.
    bool next();
    Stack* take_stack();
    void make_ready(uint32_t thread);
    void release_warp(uint32_t warp);
    void release_barrier();
    void shuffle_threads();
    void report_standstill();
    void check_guards();
    void set_fault(Fault fault, const char* format, ...) __attribute__((format(printf, 3, 4)));
    void set_fault_from(Fault fault, const char* format, va_list values);
    void take_back_all_stacks();

    const Kernel* kernel_ = nullptr;
    void** arguments_ = nullptr;
    Random random_ = {0};
    int fault_ = 0;
    char message_[512] = {};

    uint32_t num_threads_ = 0, num_live_ = 0, num_at_barrier_ = 0, current_ = 0;
    int barrier_line_ = 0;
    std::vector<Thread> threads_;
    Warp warps_[THREADS_MAX / LANES] = {};
    ReadyQueue ready_;
    uint16_t order_[THREADS_MAX] = {};

    Context main_;
    std::vector<std::unique_ptr<Stack>> stacks_;
    std::vector<Stack*> free_stacks_;

    std::vector<unsigned char> shared_buffer_;
    unsigned char* shared_ = nullptr;
    uint32_t shared_bytes_ = 0;
};

int Machine::launch(const Kernel& kernel, void** arguments, uint32_t shared_bytes, Random random) {
    kernel_ = &kernel;
    arguments_ = arguments;
    random_ = random;
    fault_ = 0;
    shared_bytes_ = shared_bytes;
    num_threads_ = block_size.x * block_size.y * block_size.z;
    if (threads_.size() < num_threads_) {
        threads_.resize(num_threads_);
    }
    constexpr size_t ALIGNMENT = 1024;
    shared_buffer_.resize(SHARED_BYTES_MAX + 2 * GUARD_BYTES + ALIGNMENT);
    auto address = reinterpret_cast<uintptr_t>(shared_buffer_.data()) + GUARD_BYTES;
    shared_ = shared_buffer_.data() + GUARD_BYTES + (ALIGNMENT - address % ALIGNMENT) % ALIGNMENT;

    const uint32_t num_blocks = grid_size.x * grid_size.y * grid_size.z;
    std::vector<uint32_t> blocks(num_blocks);
    for (uint32_t block = 0; block < num_blocks; ++block) {
        blocks[block] = block;
    }
    random_.shuffle(blocks.data(), num_blocks);
    for (uint32_t block : blocks) {
        block_index = {block % grid_size.x, block / grid_size.x % grid_size.y, block / grid_size.x / grid_size.y};
        if (!run_block()) {
            take_back_all_stacks();
            break;
        }
    }
    return fault_;
}

bool Machine::run_block() {
    reset_threads();
    std::fill(shared_ - GUARD_BYTES, shared_ + shared_bytes_ + GUARD_BYTES, POISON);
    shuffle_threads();
    for (uint32_t index = 0; index < num_threads_; ++index) {
        ready_.push_back(order_[index]);
    }
    if (next()) {
        Context::switch_to(main_, current().stack->context);
    }
    if (fault_ == 0) {
        check_guards();
    }
    return fault_ == 0;
}

void Machine::reset_threads() {
    ready_.clear();
    num_live_ = num_threads_;
    num_at_barrier_ = 0;
    for (uint32_t thread = 0; thread < num_threads_; ++thread) {
        Dim3 index = {thread % block_size.x, thread / block_size.x % block_size.y, thread / block_size.x / block_size.y};
        threads_[thread].index = index;
        threads_[thread].state = State::READY;
        threads_[thread].stack = nullptr;
        threads_[thread].copies.clear();
        threads_[thread].copy_groups = 0;
    }
    for (uint32_t warp = 0; warp * LANES < num_threads_; ++warp) {
        warps_[warp] = {};
        warps_[warp].num_lanes = std::min(LANES, num_threads_ - warp * LANES);
    }
}

// Either all threads in any order, or warp by warp, so that some warps run far ahead of others.
void Machine::shuffle_threads() {
    const uint32_t num_warps = (num_threads_ + LANES - 1) / LANES;
    if (random_.below(2) == 0) {
        for (uint32_t thread = 0; thread < num_threads_; ++thread) {
            order_[thread] = static_cast<uint16_t>(thread);
        }
        random_.shuffle(order_, num_threads_);
        return;
    }
    uint16_t warps[THREADS_MAX / LANES];
    for (uint32_t warp = 0; warp < num_warps; ++warp) {
        warps[warp] = static_cast<uint16_t>(warp);
    }
    random_.shuffle(warps, num_warps);
    uint32_t length = 0;
    for (uint32_t warp = 0; warp < num_warps; ++warp) {
        const uint32_t start = length;
        for (uint32_t lane = 0; lane < warps_[warps[warp]].num_lanes; ++lane) {
            order_[length++] = static_cast<uint16_t>(warps[warp] * LANES + lane);
        }
        random_.shuffle(order_ + start, length - start);
    }
}

// Runs threads on one stack. Goes on to the next without a switch as long as they have not started elsewhere.
void Machine::work() {
    for (;;) {
        kernel_->call(arguments_);
        leave();
    }
}

void Machine::leave() {
    Stack* stack = current().stack;
    current().stack = nullptr;
    current().state = State::EXITED;
    --num_live_;
    if (num_live_ > 0 && num_at_barrier_ == num_live_) {
        release_barrier();
    }
    free_stacks_.push_back(stack);
    if (!next()) {
        if (num_live_ > 0) {
            report_standstill();
        }
        Context::switch_to(stack->context, main_);
    } else if (current().stack != stack) {
        Context::switch_to(stack->context, current().stack->context);
    }
}

// Returns when the thread can go on.
void Machine::suspend(int line) {
    Stack* stack = current().stack;
    current().line = line;
    if (!next()) {
        report_standstill();
        Context::switch_to(stack->context, main_);
    } else if (current().stack != stack) {
        Context::switch_to(stack->context, current().stack->context);
    }
}

bool Machine::next() {
    if (ready_.is_empty()) {
        return false;
    }
    current_ = ready_.pop();
    thread_index = current().index;
    if (current().stack == nullptr) {
        current().stack = take_stack();
    }
    return current().stack != nullptr;
}

Stack* Machine::take_stack() {
    if (free_stacks_.empty()) {
        stacks_.push_back(std::make_unique<Stack>());
        free_stacks_.push_back(stacks_.back().get());
    }
    Stack* stack = free_stacks_.back();
    if (stack->is_fresh && !stack->context.start([] { of_this_thread().work(); })) {
        set_fault(MEMORY, "no memory for the stack of a thread");
        return nullptr;
    }
    stack->is_fresh = false;
    free_stacks_.pop_back();
    return stack;
}

void Machine::take_back_all_stacks() {
    free_stacks_.clear();
    for (auto& stack : stacks_) {
        stack->is_fresh = true;
        free_stacks_.push_back(stack.get());
    }
}

void Machine::make_ready(uint32_t thread) {
    threads_[thread].state = State::READY;
    ready_.push_back(static_cast<uint16_t>(thread));
}

void Machine::barrier(int line) {
    if (num_at_barrier_ > 0 && line != barrier_line_) {
        sconce::fail(DIVERGENCE, "threads wait at different __syncthreads: %u at line %d, one at line %d",
                     num_at_barrier_, barrier_line_, line);
    }
    barrier_line_ = line;
    current().state = State::AT_BARRIER;
    if (++num_at_barrier_ == num_live_) {
        release_barrier();
    }
    suspend(line);
}

void Machine::release_barrier() {
    num_at_barrier_ = 0;
    shuffle_threads();
    for (uint32_t index = 0; index < num_threads_; ++index) {
        if (threads_[order_[index]].state == State::AT_BARRIER) {
            make_ready(order_[index]);
        }
    }
}

void Machine::collective(Operation operation, void* operands, uint32_t mask, int line) {
    const uint32_t index = current_ / LANES;
    Warp& warp = warps_[index];
    if (mask != ALL_LANES) {
        sconce::fail(DIVERGENCE, "a warp operation at line %d has the mask %08x, only full masks are emulated", line, mask);
    }
    if (warp.arrived > 0 && (warp.operation != operation || warp.line != line)) {
        sconce::fail(DIVERGENCE, "lanes of warp %u are at different warp operations: %u at line %d, one at line %d",
                     index, warp.arrived, warp.line, line);
    }
    warp.operation = operation;
    warp.line = line;
    warp.lanes[current_ % LANES] = operands;
    if (++warp.arrived < warp.num_lanes) {
        current().state = State::IN_COLLECTIVE;
        suspend(line);
        return;
    }
    warp.arrived = 0;
    if (operation != nullptr) {
        operation(warp.lanes);
    }
    release_warp(index);
}

// All lanes but the running one, in a seeded order, before or behind those who are ready already.
void Machine::release_warp(uint32_t warp) {
    const uint64_t bits = random_.next();
    const uint32_t factor = static_cast<uint32_t>(bits) | 1, offset = static_cast<uint32_t>(bits >> 32);
    const bool goes_ahead = (bits >> 63) != 0;
    for (uint32_t step = 0; step < LANES; ++step) {
        const uint32_t lane = (step * factor + offset) % LANES, thread = warp * LANES + lane;
        if (lane >= warps_[warp].num_lanes || thread == current_) {
            continue;
        }
        if (goes_ahead) {
            threads_[thread].state = State::READY;
            ready_.push_front(static_cast<uint16_t>(thread));
        } else {
            make_ready(thread);
        }
    }
}

void Machine::report_standstill() {
    uint32_t at_barrier = 0, in_collective = 0, exited = 0;
    const Thread* waiting = nullptr;
    for (uint32_t thread = 0; thread < num_threads_; ++thread) {
        at_barrier += threads_[thread].state == State::AT_BARRIER;
        exited += threads_[thread].state == State::EXITED;
        if (threads_[thread].state == State::IN_COLLECTIVE) {
            ++in_collective;
            waiting = waiting == nullptr ? &threads_[thread] : waiting;
        }
    }
    if (fault_ != 0) {
        return;
    }
    char barrier_text[48] = "", collective_text[64] = "";
    if (at_barrier > 0) {
        snprintf(barrier_text, sizeof barrier_text, " (line %d)", barrier_line_);
    }
    if (waiting != nullptr) {
        const auto first = static_cast<uint32_t>(waiting - threads_.data()) / LANES;
        snprintf(collective_text, sizeof collective_text, " (the first in warp %u, line %d)", first, waiting->line);
    }
    set_fault(DIVERGENCE,
              "nobody can go on: of %u threads %u wait at __syncthreads%s, %u at a warp operation%s, %u have returned",
              num_threads_, at_barrier, barrier_text, in_collective, collective_text, exited);
}

void Machine::check_guards() {
    const auto is_poison = [](unsigned char byte) { return byte == POISON; };
    const unsigned char* end = shared_ + shared_bytes_;
    const unsigned char* behind = std::find_if_not(end, end + GUARD_BYTES, is_poison);
    const unsigned char* before = std::find_if_not(shared_ - GUARD_BYTES, shared_, is_poison);
    if (behind != end + GUARD_BYTES) {
        set_fault(MEMORY, "byte %td of %u bytes of shared memory was written", behind - shared_, shared_bytes_);
    } else if (before != shared_) {
        set_fault(MEMORY, "byte %td before the shared memory was written", before - shared_);
    }
}

void Machine::set_fault(Fault fault, const char* format, ...) {
    va_list values;
    va_start(values, format);
    set_fault_from(fault, format, values);
    va_end(values);
}

void Machine::set_fault_from(Fault fault, const char* format, va_list values) {
    fault_ = fault;
    const int length = snprintf(message_, sizeof message_, "kernel %s, block (%u, %u, %u): ", kernel_->name,
                                block_index.x, block_index.y, block_index.z);
    if (length > 0 && static_cast<size_t>(length) < sizeof message_) {
        vsnprintf(message_ + length, sizeof message_ - static_cast<size_t>(length), format, values);
    }
}

void Machine::fail(Fault fault, const char* format, va_list values) {
    set_fault_from(fault, format, values);
    Context abandoned;
    Context::switch_to(abandoned, main_);
    __builtin_unreachable();
}

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
    if (threads == 0 || block[0] > THREADS_MAX || block[1] > THREADS_MAX || block[2] > 64 || threads > kernel.threads_max) {
        snprintf(text, text_bytes, "kernel %s: a block of %u x %u x %u threads, at most %u are allowed", kernel.name,
                 block[0], block[1], block[2], kernel.threads_max);
    } else if (grid[0] == 0 || grid[1] == 0 || grid[2] == 0 || grid[0] > INT32_MAX || grid[1] > 65535 ||
               grid[2] > 65535 || blocks > UINT32_MAX) {
        snprintf(text, text_bytes, "kernel %s: a grid of %u x %u x %u blocks, 1 to 2147483647 x 65535 x 65535 are allowed",
                 kernel.name, grid[0], grid[1], grid[2]);
    } else if (shared_bytes > SHARED_BYTES_MAX) {
        snprintf(text, text_bytes, "kernel %s: %u bytes of shared memory, at most %u are allowed", kernel.name,
                 shared_bytes, SHARED_BYTES_MAX);
    }
}

} // namespace

void barrier(int line) { Machine::of_this_thread().barrier(line); }

void collective(Operation operation, void* operands, uint32_t mask, int line) {
    Machine::of_this_thread().collective(operation, operands, mask, line);
}

uint32_t lane() { return Machine::of_this_thread().lane(); }

unsigned char* shared_memory() { return Machine::of_this_thread().shared_memory(); }

void copy_async(void* shared, const void* global) {
    Machine& machine = Machine::of_this_thread();
    Thread& thread = machine.current();
    if (!machine.is_shared(shared, 16)) {
        fail(MEMORY, "an asynchronous copy to %p, which is not in the shared memory of the block", shared);
    }
    if (reinterpret_cast<uintptr_t>(shared) % 16 != 0 || reinterpret_cast<uintptr_t>(global) % 16 != 0) {
        fail(MEMORY, "an asynchronous copy from %p to %p: both must be multiples of 16", global, shared);
    }
    memset(shared, POISON, 16);
    thread.copies.push_back({shared, global, thread.copy_groups});
}

void copy_async_commit() { ++Machine::of_this_thread().current().copy_groups; }

void copy_async_wait(uint32_t groups_in_flight_max) {
    Thread& thread = Machine::of_this_thread().current();
    size_t done = 0;
    for (const Copy& copy : thread.copies) {
        if (copy.group + groups_in_flight_max >= thread.copy_groups) {
            break;
        }
        memcpy(copy.to, copy.from, 16);
        ++done;
    }
    thread.copies.erase(thread.copies.begin(), thread.copies.begin() + static_cast<ptrdiff_t>(done));
}

void fail(Fault fault, const char* format, ...) {
    va_list values;
    va_start(values, format);
    Machine::of_this_thread().fail(fault, format, values);
}

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
