// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <exception>
#include <string>
#include <string_view>
#include <utility>

#include "ai_vmm/export.hpp"

namespace ai_vmm {

/// Stable error codes, numbered as in google.rpc.Code so that HTTP, gRPC and Python map one to one.
enum class ErrorCode : std::int32_t {
    ok = 0,
    cancelled = 1,
    unknown = 2,
    invalid_argument = 3,
    deadline_exceeded = 4,
    not_found = 5,
    already_exists = 6,
    permission_denied = 7,
    resource_exhausted = 8,
    failed_precondition = 9,
    aborted = 10,
    out_of_range = 11,
    unimplemented = 12,
    internal = 13,
    unavailable = 14,
    data_loss = 15,
    unauthenticated = 16,
};

/// Which part of a deployment's life an error belongs to.
enum class ErrorCategory : std::uint8_t {
    input,        ///< what the caller gave: a file, a tensor, an option
    compilation,  ///< reading, converting or compiling a model
    runtime,      ///< executing a deployed model
    performance,  ///< a constraint that can't be met
    system,       ///< the machine: disk, memory, libraries, permissions
};

/// "invalid_argument" and so on; "unknown" for a value outside the enumeration.
[[nodiscard]] constexpr std::string_view to_string(ErrorCode code) noexcept {
    switch (code) {
        case ErrorCode::ok: return "ok";
        case ErrorCode::cancelled: return "cancelled";
        case ErrorCode::unknown: return "unknown";
        case ErrorCode::invalid_argument: return "invalid_argument";
        case ErrorCode::deadline_exceeded: return "deadline_exceeded";
        case ErrorCode::not_found: return "not_found";
        case ErrorCode::already_exists: return "already_exists";
        case ErrorCode::permission_denied: return "permission_denied";
        case ErrorCode::resource_exhausted: return "resource_exhausted";
        case ErrorCode::failed_precondition: return "failed_precondition";
        case ErrorCode::aborted: return "aborted";
        case ErrorCode::out_of_range: return "out_of_range";
        case ErrorCode::unimplemented: return "unimplemented";
        case ErrorCode::internal: return "internal";
        case ErrorCode::unavailable: return "unavailable";
        case ErrorCode::data_loss: return "data_loss";
        case ErrorCode::unauthenticated: return "unauthenticated";
    }
    return "unknown";
}

[[nodiscard]] constexpr std::string_view to_string(ErrorCategory category) noexcept {
    switch (category) {
        case ErrorCategory::input: return "input";
        case ErrorCategory::compilation: return "compilation";
        case ErrorCategory::runtime: return "runtime";
        case ErrorCategory::performance: return "performance";
        case ErrorCategory::system: return "system";
    }
    return "runtime";
}

/// What an error tells beside its message. Any part may be empty.
struct ErrorDetail {
    std::string expected;  ///< what would have been accepted
    std::string found;     ///< what was there instead
    std::string advice;    ///< what to do about it

    bool operator==(const ErrorDetail&) const = default;
};

/// The only exception type that leaves the public API (std::bad_alloc from the caller's own containers aside).
/// Copyable without throwing away its parts; safe to pass between threads.
class AI_VMM_API Error : public std::exception {
public:
    Error(ErrorCode code, ErrorCategory category, std::string message, ErrorDetail detail = {})
        : code_(code), category_(category), message_(std::move(message)), detail_(std::move(detail)) {
        what_ = message_;
        append("expected", detail_.expected);
        append("found", detail_.found);
        append("to do", detail_.advice);
    }

    [[nodiscard]] ErrorCode code() const noexcept { return code_; }
    [[nodiscard]] ErrorCategory category() const noexcept { return category_; }
    /// One sentence without the details.
    [[nodiscard]] const std::string& message() const noexcept { return message_; }
    [[nodiscard]] const std::string& expected() const noexcept { return detail_.expected; }
    [[nodiscard]] const std::string& found() const noexcept { return detail_.found; }
    [[nodiscard]] const std::string& advice() const noexcept { return detail_.advice; }
    /// The message followed by every detail that is present: `message; expected: …; found: …; to do: …`.
    [[nodiscard]] const char* what() const noexcept override { return what_.c_str(); }

private:
    void append(std::string_view label, const std::string& text) {
        if (text.empty()) return;
        what_.append("; ").append(label).append(": ").append(text);
    }

    ErrorCode code_;
    ErrorCategory category_;
    std::string message_;
    ErrorDetail detail_;
    std::string what_;
};

}  // namespace ai_vmm
