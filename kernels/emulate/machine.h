// What runs the blocks of a launch on one operating system thread. Knows kernels only as functions to call.
#pragma once

#include "context.h"
#include "emulate.h"

#include <cstdarg>
#include <memory>
#include <utility>
#include <vector>

namespace sconce {

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
    // Of the running block: whether a warp that can go on goes on before all others.
    bool is_sticky_ = false;
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

} // namespace sconce
