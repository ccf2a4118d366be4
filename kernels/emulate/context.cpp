#include "context.h"

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <sys/mman.h>
#include <unistd.h>

namespace {

// Room for the largest register tiles of a kernel; pages that are never touched cost nothing.
constexpr size_t STACK_BYTES = 128 * 1024;

size_t page_bytes() {
    static const size_t bytes = static_cast<size_t>(sysconf(_SC_PAGESIZE));
    return bytes;
}

// The lowest page cannot be touched: a stack that is too small ends the process instead of another thread's values.
unsigned char* new_stack() {
    const int access = PROT_READ | PROT_WRITE;
    void* memory = mmap(nullptr, STACK_BYTES + page_bytes(), access, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) {
        return nullptr;
    }
    mprotect(memory, page_bytes(), PROT_NONE);
    return static_cast<unsigned char*>(memory);
}

} // namespace

#ifdef SCONCE_SWITCH_IN_ASSEMBLY
// Saves what the System V calling convention asks a function to keep, changes stacks, restores and returns there.
extern "C" void sconce_switch_stacks(void** from, void* to);
asm(R"(
.text
.globl sconce_switch_stacks
.hidden sconce_switch_stacks
.type sconce_switch_stacks, @function
sconce_switch_stacks:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
.size sconce_switch_stacks, .-sconce_switch_stacks
)");
#endif

namespace sconce {

Context::~Context() {
    if (stack_ != nullptr) {
        munmap(stack_, STACK_BYTES + page_bytes());
    }
}

bool Context::start(void (*entry)()) {
    if (stack_ == nullptr) {
        stack_ = new_stack();
        if (stack_ == nullptr) {
            return false;
        }
    }
#ifdef SCONCE_SWITCH_IN_ASSEMBLY
    // From the top: a return address that is never used, the entry, six registers. At the entry the stack is then
    // eight bytes off a multiple of 16, as after any call.
    void* image[8] = {};
    image[6] = reinterpret_cast<void*>(entry);
    unsigned char* top = stack_ + page_bytes() + STACK_BYTES;
    stack_pointer_ = top - sizeof image;
    memcpy(stack_pointer_, image, sizeof image);
#else
    getcontext(&context_);
    context_.uc_stack.ss_sp = stack_ + page_bytes();
    context_.uc_stack.ss_size = STACK_BYTES;
    context_.uc_link = nullptr;
    makecontext(&context_, entry, 0);
#endif
    return true;
}

void Context::switch_to(Context& from, Context& to) {
#ifdef SCONCE_SWITCH_IN_ASSEMBLY
    sconce_switch_stacks(&from.stack_pointer_, to.stack_pointer_);
#else
    swapcontext(&from.context_, &to.context_);
#endif
}

} // namespace sconce
