// The decoder step of the Llama family for CPUs, once per instruction set, behind a C interface.
//
// Called through ctypes, so nothing here knows Python. Which of the instruction sets is used is
// decided when the library is loaded. A call owns the threads and the scratch memory while it runs.

#include <algorithm>
#include <cmath>
#include <cstring>
#include <exception>
#include <memory>
#include <mutex>
#include <type_traits>

#if defined(__x86_64__)
#include <immintrin.h>
#endif
#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
#endif

#include "scratch.h"
#include "shapes.h"
#include "team.h"

#define PRAGMA(text) _Pragma(#text)
#if defined(__clang__)
#define TARGET_BEGIN(features) \
    PRAGMA(clang attribute push(__attribute__((target(features))), apply_to = function))
#define TARGET_END PRAGMA(clang attribute pop)
#else
#define TARGET_BEGIN(features) PRAGMA(GCC push_options) PRAGMA(GCC target(features))
#define TARGET_END PRAGMA(GCC pop_options)
#endif

namespace llmserver {

inline float widened(Half half) {
    const uint32_t sign = (half & 0x8000u) << 16, magnitude = half & 0x7FFFu;
    uint32_t bits = sign | ((magnitude << 13) + (112u << 23));
    if (magnitude >= 0x7C00u) bits = sign | 0x7F800000u | (magnitude << 13);
    float value;
    std::memcpy(&value, &bits, sizeof value);
    if (magnitude < 0x0400u) {
        value = static_cast<float>(magnitude) * 5.9604644775390625e-8f;
        return sign != 0 ? -value : value;
    }
    return value;
}

namespace portable {
#include "lanes_portable.inl"
#include "linear.inl"
#include "attention.inl"
#include "decoder.inl"
}  // namespace portable

#if defined(__x86_64__)
TARGET_BEGIN("avx2,fma,f16c")
namespace avx2 {
#include "lanes_avx2.inl"
#include "linear.inl"
#include "attention.inl"
#include "decoder.inl"
}  // namespace avx2
TARGET_END

// bf16 is used by name only, where `has_bf16` says that it is there.
TARGET_BEGIN("avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512bf16")
namespace avx512 {
#include "lanes_avx512.inl"
#include "linear.inl"
#include "attention.inl"
#include "decoder.inl"
}  // namespace avx512
TARGET_END
#endif

namespace {

struct InstructionSet {
    const char* name;
    bool (*is_here)();
    bool (*has_bf16)();
    void (*step)(const Model&, const Step&, Scratch&, Team&);
    void (*linear)(const Linear&, const float*, int, Rows&, float*, Team&);
};

const InstructionSet ALL[] = {
#if defined(__x86_64__)
    {"avx512",
     [] {
         return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
                __builtin_cpu_supports("avx512vnni");
     },
     [] { return __builtin_cpu_supports("avx512bf16") != 0; }, avx512::run_step,
     avx512::run_linear},
    {"avx2",
     [] {
         return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                __builtin_cpu_supports("f16c");
     },
     [] { return false; }, avx2::run_step, avx2::run_linear},
#endif
    {"portable", [] { return true; }, [] { return false; }, portable::run_step,
     portable::run_linear},
};

const InstructionSet* chosen = nullptr;

struct Workshop {
    std::mutex in_use;
    std::unique_ptr<Team> team;
    Scratch scratch;

    Team& team_of(int threads) {
        if (team == nullptr || team->size() != threads) {
            team.reset();
            team = std::make_unique<Team>(threads);
        }
        return *team;
    }
};

// Never destroyed: a process may end in the middle of a step, and a forked one has none of the
// threads, so it begins with a workshop of its own.
Workshop* workshop = nullptr;

Workshop& opened() {
    static const bool once = [] {
        const auto open = [] { workshop = new Workshop; };
        open();
#if defined(__unix__) || defined(__APPLE__)
        pthread_atfork(nullptr, nullptr, open);
#endif
        return true;
    }();
    (void)once;
    return *workshop;
}

// 0, or 1 when memory or threads cannot be had; Python raises MemoryError then.
template <class Work>
int guarded(Work work) {
    try {
        Workshop& here = opened();
        const std::lock_guard<std::mutex> hold(here.in_use);
        work(here);
        return 0;
    } catch (const std::exception&) {
        return 1;
    }
}

}  // namespace
}  // namespace llmserver

extern "C" {

using namespace llmserver;

// The fastest instruction set here that `wanted` allows (null: any); null where there is none of
// that name. Not while a step runs.
const char* llmserver_choose(const char* wanted) {
    for (const InstructionSet& one : ALL) {
        if (wanted != nullptr && std::strcmp(wanted, one.name) != 0) continue;
        if (!one.is_here()) continue;
        chosen = &one;
        return one.name;
    }
    return nullptr;
}

// Of the instruction set that was chosen.
int llmserver_has_bf16() { return chosen->has_bf16() ? 1 : 0; }

int llmserver_step(const Model* model, const Step* step, int threads) {
    return guarded([&](Workshop& here) {
        here.scratch.fit(*model, *step);
        chosen->step(*model, *step, here.scratch, here.team_of(threads));
    });
}

int llmserver_linear(const Linear* layer, const float* x, int tokens, float* out, int threads) {
    return guarded([&](Workshop& here) {
        here.scratch.wide.fit(tokens, layer->inputs);
        chosen->linear(*layer, x, tokens, here.scratch.wide, out, here.team_of(threads));
    });
}
}
