// SPDX-License-Identifier: Apache-2.0
/// What the libraries of native engines share: element types and errors.
#pragma once

#include <fmt/format.h>

#include <exception>
#include <span>
#include <string_view>

#include "native/native.hpp"

namespace ai_vmm::cli::native {

/// An engine's element type and ours.
template <typename Theirs>
struct TypeRow {
    Theirs theirs;
    ElementType ours;
};

/// @throws Error(unimplemented) `rows` lacks the type.
template <typename Theirs>
[[nodiscard]] ElementType to_ours(std::span<const TypeRow<Theirs>> rows, Theirs type, std::string_view shown) {
    for (const auto& row : rows) {
        if (row.theirs == type) return row.ours;
    }
    throw Error(ErrorCode::unimplemented, ErrorCategory::runtime, fmt::format("the comparison has no tensors of {}", shown));
}

/// @throws Error(unimplemented) `rows` lacks the type.
template <typename Theirs>
[[nodiscard]] Theirs to_theirs(std::span<const TypeRow<Theirs>> rows, ElementType type, std::string_view engine) {
    for (const auto& row : rows) {
        if (row.ours == type) return row.theirs;
    }
    throw Error(ErrorCode::unimplemented, ErrorCategory::runtime,
                fmt::format("the comparison has no {} tensors of type {}", engine, to_string(type)));
}

/// The function's result; the engine's exceptions become Error(internal) with its words.
template <typename Function>
auto translated(std::string_view engine, std::string_view doing, Function&& function) {
    try {
        return function();
    } catch (const Error&) {
        throw;
    } catch (const std::exception& error) {
        throw Error(ErrorCode::internal, ErrorCategory::runtime, fmt::format("{} can't {}: {}", engine, doing, error.what()));
    }
}

/// @throws Error(invalid_argument) the counts differ.
inline void check_count(std::size_t given, std::size_t wanted, std::string_view engine) {
    if (given == wanted) return;
    throw Error(ErrorCode::invalid_argument, ErrorCategory::input, fmt::format("another number of inputs than {} sees", engine),
                {.expected = std::to_string(wanted), .found = std::to_string(given), .advice = {}});
}

}  // namespace ai_vmm::cli::native
