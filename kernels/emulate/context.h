// One stack to run on, and the switch between two of them: a few instructions on x86-64 Linux, ucontext elsewhere.
// Knows nothing of kernels. A context stays on the operating system thread that made it.
#pragma once

#if defined(__x86_64__) && defined(__linux__) && !defined(SCONCE_UCONTEXT)
#define SCONCE_SWITCH_IN_ASSEMBLY 1
#else
#include <ucontext.h>
#endif

namespace sconce {

class Context {
public:
    // A context for the caller's own stack: only ever switched away from and back to.
    Context() = default;
    ~Context();
    Context(const Context&) = delete;
    Context& operator=(const Context&) = delete;

    // Lets the next switch to this context call `entry`, which must not return. Gives it a stack the first time;
    // whatever ran on that stack before is forgotten. False: no memory for a stack.
    bool start(void (*entry)());

    // Goes on where `to` stopped; returns when another context switches back.
    static void switch_to(Context& from, Context& to);

private:
    unsigned char* stack_ = nullptr;
#ifdef SCONCE_SWITCH_IN_ASSEMBLY
    void* stack_pointer_ = nullptr;
#else
    ucontext_t context_ = {};
#endif
};

} // namespace sconce
