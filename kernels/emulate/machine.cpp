#include "machine.h"

#include <algorithm>
#include <cstdio>
#include <cstring>

namespace sconce {

__thread Dim3 thread_index, block_index, block_size, grid_size;

namespace {

// Before and behind the shared memory of a block: what is written there is found when the block has ended.
constexpr size_t GUARD_BYTES = 4096;
constexpr unsigned char POISON = 0xff;

// The first byte of a guard that is not as it was, or null.
const unsigned char* first_written(const unsigned char* guard) {
    if (guard[0] == POISON && memcmp(guard, guard + 1, GUARD_BYTES - 1) == 0) {
        return nullptr;
    }
    return std::find_if_not(guard, guard + GUARD_BYTES, [](unsigned char byte) { return byte == POISON; });
}

} // namespace

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
    is_sticky_ = random_.below(2) == 0;
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
        const uint32_t line = thread / block_size.x;
        threads_[thread].index = {thread % block_size.x, line % block_size.y, line / block_size.y};
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
        sconce::fail(DIVERGENCE, "a warp operation at line %d has the mask %08x, only full masks are emulated", line,
                     mask);
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

// All lanes but the running one, in a seeded order, before or behind those who are ready already. In a sticky block
// always before: its warps run as far as they can, rounds ahead of others where no barrier holds them.
void Machine::release_warp(uint32_t warp) {
    const uint64_t bits = random_.next();
    const uint32_t factor = static_cast<uint32_t>(bits) | 1, offset = static_cast<uint32_t>(bits >> 32);
    const bool goes_ahead = is_sticky_ || (bits >> 63) != 0;
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
    const unsigned char* end = shared_ + shared_bytes_;
    if (const unsigned char* written = first_written(end)) {
        set_fault(MEMORY, "byte %td of %u bytes of shared memory was written", written - shared_, shared_bytes_);
    } else if (const unsigned char* before = first_written(shared_ - GUARD_BYTES)) {
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
    const int length = snprintf(message_, sizeof message_, "block (%u, %u, %u): ", block_index.x,
                                block_index.y, block_index.z);
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
