// SPDX-License-Identifier: Apache-2.0
#include "lifetime.hpp"

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>

namespace ai_vmm::python {
namespace {

/// Outlives the interpreter and every thread: never destroyed.
struct State {
    std::mutex mutex;  // guards abandoned, scheduled, pending; never held while Python runs
    std::condition_variable pending_ended;
    std::vector<Kept*> abandoned;
    bool scheduled = false;
    std::int64_t pending = 0;
    std::atomic<bool> any_abandoned{false};
    std::atomic<bool> closed{false};
};

State& state() {
    static auto* const instance = new State;
    return *instance;
}

thread_local int completion_depth = 0;
thread_local CallbackError* innermost_call = nullptr;

int release_soon(void*) {
    release_abandoned();
    return 0;
}

bool holds_gil() noexcept { return Py_IsInitialized() != 0 && PyGILState_Check() != 0; }

}  // namespace

void destroy_under_gil(Kept* kept) noexcept {
    if (holds_gil()) {
        delete kept;
        return;
    }
    State& shared = state();
    if (shared.closed) return;
    bool ask = false;
    {
        const std::lock_guard lock(shared.mutex);
        shared.abandoned.push_back(kept);
        shared.any_abandoned = true;
        ask = !std::exchange(shared.scheduled, true);
    }
    // Fails when the interpreter's short list is full; then the next call of the package releases it.
    if (ask && Py_AddPendingCall(&release_soon, nullptr) != 0) {
        const std::lock_guard lock(shared.mutex);
        shared.scheduled = false;
    }
}

void release_abandoned() noexcept {
    State& shared = state();
    if (!shared.any_abandoned) return;
    std::vector<Kept*> dead;
    {
        const std::lock_guard lock(shared.mutex);
        dead.swap(shared.abandoned);
        shared.any_abandoned = false;
        shared.scheduled = false;
    }
    for (Kept* kept : dead) delete kept;
}

void drop_without_gil(std::shared_ptr<void> owner) noexcept {
    if (!owner) return;
    if (completion_depth > 0) {
        auto* const last = new std::shared_ptr<void>(std::move(owner));
        try {
            std::thread([last] { delete last; }).detach();
        } catch (...) {  // NOLINT(bugprone-empty-catch): no thread to be had, so keep it rather than wait for ourselves
        }
        return;
    }
    if (holds_gil()) {
        nb::gil_scoped_release release;
        owner.reset();
    } else {
        owner.reset();
    }
}

CompletionScope::CompletionScope() noexcept { ++completion_depth; }
CompletionScope::~CompletionScope() { --completion_depth; }

void begin_pending() noexcept {
    State& shared = state();
    const std::lock_guard lock(shared.mutex);
    ++shared.pending;
}

void end_pending() noexcept {
    State& shared = state();
    const std::lock_guard lock(shared.mutex);
    if (--shared.pending == 0) shared.pending_ended.notify_all();
}

void close() {
    State& shared = state();
    bool interrupted = false;
    while (!interrupted) {
        {
            nb::gil_scoped_release release;
            std::unique_lock lock(shared.mutex);
            if (shared.pending_ended.wait_for(lock, std::chrono::milliseconds(50), [&] { return shared.pending == 0; })) break;
        }
        interrupted = PyErr_CheckSignals() != 0;
    }
    shared.closed = true;
    if (interrupted) throw nb::python_error();
}

bool closed() noexcept { return state().closed; }

CallbackError::CallbackError() noexcept : outer_(std::exchange(innermost_call, this)) {}
CallbackError::~CallbackError() { innermost_call = outer_; }
CallbackError* CallbackError::current() noexcept { return innermost_call; }

void CallbackError::rethrow() {
    if (!error_) return;
    nb::python_error error = std::move(*error_);
    error_.reset();
    throw error;  // NOLINT(misc-throw-by-value-catch-by-reference): moved out of the slot on purpose
}

}  // namespace ai_vmm::python
