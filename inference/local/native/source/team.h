// Threads that go through the same code side by side and share the work of each part of it.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

namespace llmserver {

inline void pause_briefly() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#else
    std::this_thread::yield();
#endif
}

// A short wait spins, as most are over in a microsecond; a long one sleeps, so that a thread
// whose neighbour lost its core does not take another one from it.
class Signal {
public:
    uint32_t now() const { return value_.load(std::memory_order_acquire); }

    void raise() {
        {
            const std::lock_guard<std::mutex> hold(mutex_);
            value_.fetch_add(1, std::memory_order_release);
        }
        changed_.notify_all();
    }

    void wait_past(uint32_t seen) {
        for (int spin = 0; spin < SPINS; ++spin) {
            if (now() != seen) return;
            pause_briefly();
        }
        std::unique_lock<std::mutex> hold(mutex_);
        changed_.wait(hold, [&] { return now() != seen; });
    }

private:
    static constexpr int SPINS = 2000;
    std::atomic<uint32_t> value_{0};
    std::mutex mutex_;
    std::condition_variable changed_;
};

// The caller of `run` is one of its `size` threads.
class Team {
public:
    explicit Team(int size) : size_(size) {
        try {
            for (int i = 1; i < size; ++i) threads_.emplace_back([this] { serve(); });
        } catch (...) {
            // A thread that nobody joins would end the process.
            dismiss();
            throw;
        }
    }

    ~Team() { dismiss(); }

    Team(const Team&) = delete;
    Team& operator=(const Team&) = delete;

    int size() const { return size_; }

    // Every thread calls `work`, which must make the same calls of `share` in each of them.
    void run(const std::function<void()>& work) {
        work_ = &work;
        if (size_ > 1) started_.raise();
        work();
        meet();
    }

    // `part(first, end)` is called for pieces of [0, count) until all are done, by whoever is free;
    // returns when all threads have come here and every piece is finished.
    template <class Part>
    void share(int count, int grain, Part part) {
        for (int first; (first = next_.fetch_add(grain, std::memory_order_relaxed)) < count;) {
            part(first, first + grain < count ? first + grain : count);
        }
        meet();
    }

private:
    void meet() {
        const uint32_t seen = met_.now();
        if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == size_) {
            arrived_.store(0, std::memory_order_relaxed);
            next_.store(0, std::memory_order_relaxed);
            met_.raise();
        } else {
            met_.wait_past(seen);
        }
    }

    void dismiss() {
        work_ = nullptr;
        started_.raise();
        for (auto& thread : threads_) thread.join();
    }

    void serve() {
        for (uint32_t seen = 0;; ++seen) {
            started_.wait_past(seen);
            if (work_ == nullptr) return;
            (*work_)();
            meet();
        }
    }

    const int size_;
    const std::function<void()>* work_ = nullptr;
    std::vector<std::thread> threads_;
    Signal started_, met_;
    std::atomic<int> arrived_{0}, next_{0};
};

}  // namespace llmserver
