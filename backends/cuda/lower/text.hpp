// SPDX-License-Identifier: Apache-2.0
/// Pieces of kernel bodies that lowerings write alike.
#pragma once

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <string>
#include <vector>

#include "lower/context.hpp"

namespace ai_vmm::cuda {

/// "i0", "i1", …: the coordinates of an element.
inline std::vector<std::string> coordinates(int rank, int first = 0) {
    std::vector<std::string> all;
    for (int d = 0; d < rank; ++d) all.push_back(fmt::format("i{}", first + d));
    return all;
}

/// Coordinates "const idx PREFIX0 = …" of the thread's part `from` in a space of `dims`.
inline std::string unravel(const std::string& prefix, const std::string& from, const Dims& dims) {
    std::string text;
    std::int64_t inner = 1;
    for (std::size_t d = dims.size(); d-- > 0;) {
        text += fmt::format("const idx {0}{1} = (idx)({2} / {3}ll % {4}ll); ", prefix, d, from, inner, std::max<std::int64_t>(dims[d], 1));
        inner *= std::max<std::int64_t>(dims[d], 1);
    }
    return text;
}

/// "PREFIX0", "PREFIX1", …
inline std::vector<std::string> names(const std::string& prefix, std::size_t count) {
    std::vector<std::string> all;
    for (std::size_t k = 0; k < count; ++k) all.push_back(fmt::format("{}{}", prefix, k));
    return all;
}

/// "in{input}(…)"; coordinates of other integer types are converted.
inline std::string read(int input, const std::vector<std::string>& at) { return fmt::format("in{}({})", input, fmt::join(at, ", ")); }

/// The element at the own coordinates.
inline std::string element(int rank, int input = 0) { return read(input, coordinates(rank)); }

/// A value whose element is "return EXPRESSION;" of no input.
inline ValueId filled(Builder& b, Type type, Dims dims, double value) {
    return b.compute(type, std::move(dims), {}, {"Fill", fmt::format("return {};", literal(type, value)), 0, {}, {}});
}

/// "f" for the f32 forms of C's mathematical functions, "" for f64.
inline const char* suffix(Type type) { return type == Type::f64 ? "" : "f"; }

/// What sums of `type` are kept in.
inline Type accumulator(Type type) { return type == Type::f64 || type == Type::u64 ? type : is_float(type) ? Type::f32 : Type::i64; }

inline std::int64_t product(const Dims& dims, std::size_t begin, std::size_t end) {
    std::int64_t all = 1;
    for (std::size_t d = begin; d < end; ++d) all *= dims[d];
    return all;
}

}  // namespace ai_vmm::cuda
