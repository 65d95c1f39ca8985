// SPDX-License-Identifier: Apache-2.0
/// Who may touch Python, when. The library runs without the GIL and lets go of input memory, callbacks and deployments on threads of its
/// own; these helpers see to it that Python objects are only released where the GIL is held, and that nothing waits for the GIL while
/// holding what a GIL holder waits for.
#pragma once

#include <Python.h>

#include <exception>
#include <memory>
#include <optional>
#include <utility>

#include "nanobind_includes.hpp"

namespace ai_vmm::python {

/// Something that must be destroyed under the GIL.
class Kept {
public:
    Kept() = default;
    Kept(const Kept&) = delete;
    Kept& operator=(const Kept&) = delete;
    virtual ~Kept() = default;
};

/// Destroys `kept` now if this thread holds the GIL; otherwise hands it to the next thread that calls release_abandoned(), which the
/// interpreter is asked to do soon. Never takes the GIL itself. After close() the object is leaked: the process is about to end.
void destroy_under_gil(Kept* kept) noexcept;

/// A shared owner of `value` that any thread may let go of.
template <typename T>
[[nodiscard]] std::shared_ptr<T> keep(T value) {
    struct Holder final : Kept {
        explicit Holder(T&& value_) : value(std::move(value_)) {}
        T value;
    };
    auto* holder = new Holder(std::move(value));
    const std::shared_ptr<Holder> owner(holder, [](Holder* dead) { destroy_under_gil(dead); });
    return {owner, &owner->value};
}

/// Destroys what other threads handed over. Needs the GIL; cheap when there is nothing.
void release_abandoned() noexcept;

/// Lets go of `owner`, whose destructor may wait for threads that need the GIL: releases the GIL meanwhile, and moves to a thread of its own
/// when called from inside a completion (a worker thread can't wait for itself).
void drop_without_gil(std::shared_ptr<void> owner) noexcept;

/// Marks the scope in which a worker thread of the library runs Python code.
class CompletionScope {
public:
    CompletionScope() noexcept;
    ~CompletionScope();
    CompletionScope(const CompletionScope&) = delete;
    CompletionScope& operator=(const CompletionScope&) = delete;
};

/// Counts executions whose completion will call Python.
void begin_pending() noexcept;
void end_pending() noexcept;

/// Called at interpreter exit with the GIL held: waits (GIL released) until no completion is pending, then forbids new ones.
/// An interrupt (Ctrl-C) ends the waiting.
void close();
/// True after close().
[[nodiscard]] bool closed() noexcept;

/// Where a callback that runs inside a library call leaves its Python exception. One per call, found through the thread.
class CallbackError {
public:
    CallbackError() noexcept;
    ~CallbackError();
    CallbackError(const CallbackError&) = delete;
    CallbackError& operator=(const CallbackError&) = delete;

    /// The innermost call on this thread; null outside.
    [[nodiscard]] static CallbackError* current() noexcept;
    void set(nb::python_error error) { error_.emplace(std::move(error)); }
    [[nodiscard]] bool is_set() const noexcept { return error_.has_value(); }
    /// Needs the GIL. @throws the exception that a callback left, if one did.
    void rethrow();

private:
    CallbackError* outer_;
    std::optional<nb::python_error> error_;
};

/// Runs `work` with the GIL released. An exception that a callback left wins over the one that `work` throws because of it.
template <typename F>
auto without_gil(F&& work) {
    CallbackError callback_error;
    try {
        if constexpr (std::is_void_v<decltype(work())>) {
            {
                nb::gil_scoped_release release;
                work();
            }
            callback_error.rethrow();
        } else {
            auto result = [&] {
                nb::gil_scoped_release release;
                return work();
            }();
            callback_error.rethrow();
            return result;
        }
    } catch (const nb::python_error&) {
        throw;
    } catch (...) {
        callback_error.rethrow();
        throw;
    }
}

}  // namespace ai_vmm::python
