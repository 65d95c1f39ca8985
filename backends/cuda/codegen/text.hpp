// SPDX-License-Identifier: Apache-2.0
/// Pieces of kernel sources that the forms of kernels share.
#pragma once

#include <algorithm>
#include <cstdint>
#include <initializer_list>
#include <limits>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "codegen/kernels.hpp"

namespace ai_vmm::cuda {

/// The C type that values of `type` are computed in, and the one that they are stored in.
[[nodiscard]] std::string_view compute_type(Type type);
[[nodiscard]] std::string_view storage_type(Type type);
/// An expression for element `at` of `pointer`, and a statement that stores one.
[[nodiscard]] std::string load(Type type, const std::string& pointer, const std::string& at);
[[nodiscard]] std::string store(Type type, const std::string& pointer, const std::string& at, const std::string& value);
/// ", idx i0, idx i1" and ", i0, i1".
[[nodiscard]] std::string coordinates(std::size_t rank);
[[nodiscard]] std::string arguments_of(std::size_t rank);
/// ", s0, s1"
[[nodiscard]] std::string known_names(std::size_t stages);
/// Offset in elements of coordinates i0, i1, …
[[nodiscard]] std::string offset_expression(const Dims& dims, const Dims& strides);
/// Every `name` in `text` becomes `by`.
void replace_all(std::string& text, std::string_view name, std::string_view by);
/// A one-element constant as a literal.
[[nodiscard]] std::optional<std::string> scalar_literal(const Value& value);
/// Coordinates "const idx i0 = …;" of the linear position `from`, over the dimensions `order` from outermost to innermost.
[[nodiscard]] std::string decompose(const Dims& dims, const std::vector<int>& order, const std::string& from);
/// Dimensions from the widest stride to the narrowest.
[[nodiscard]] std::vector<int> memory_order(const Dims& dims, const Dims& strides);
/// A launch of `count` groups.
/// @param limit  what the kernel knows as limit_; nothing: it does not ask
[[nodiscard]] Launch groups(std::int64_t count, int threads, std::optional<std::int64_t> limit = {});
[[nodiscard]] int power_of_two_at_least(std::int64_t value);
/// The function @_mma(d, a, b0, b1), d += a * b on tensor cores, of MMA_TYPE. Fragments lie as the PTX ISA says for mma.m16n8k16: lane = 4 * g + t
/// holds, of d, columns 2t and 2t + 1 of rows g and g + 8.
[[nodiscard]] std::string multiply_add();

constexpr std::int64_t divided_up(std::int64_t value, std::int64_t by) { return (value + by - 1) / by; }
constexpr std::int64_t rounded_up(std::int64_t value, std::int64_t unit) { return divided_up(value, unit) * unit; }

/// Whether all of them are `value`.
[[nodiscard]] inline bool all(const Dims& dims, std::int64_t value) {
    return std::ranges::all_of(dims, [=](std::int64_t d) { return d == value; });
}

/// Definitions of the preprocessor around one kernel's text.
class Macros {
public:
    Macros() = default;
    Macros(std::initializer_list<std::pair<std::string_view, std::string>> all) {
        for (const auto& [name, value] : all) define(name, value);
    }
    /// @param name  with its parameters, if it has any
    void define(std::string_view name, const std::string& value);
    [[nodiscard]] std::string around(const std::string& text) const { return head_ + text + tail_; }

private:
    std::string head_, tail_;
};

struct CombineText {
    std::string identity;
    std::string expression;  ///< of x and y
};
[[nodiscard]] CombineText combine_text(Rowwise::Combine combine, Type accumulator);

/// Collects the functions that one kernel needs.
class Functions {
public:
    Functions(const Graph& graph, const Places& places) : graph_(graph), places_(places) {}

    /// The name of the function that gives an element of `id`.
    std::string reader(ValueId id);
    /// `body` with inK calls bound to the readers of the node's inputs.
    std::string bound(const Node& node, const std::string& body);
    /// The parameter that points to a placed value.
    std::string argument(ValueId id, bool written);
    /// Says that offsets of such a tensor are computed.
    void use(const Dims& dims, const Dims& strides);
    /// Everything together: `kernel` is what follows the functions.
    [[nodiscard]] KernelSource finish(const std::string& kernel, const Launch& launch) const;
    [[nodiscard]] bool wide() const noexcept { return wide_; }

private:
    static std::int64_t reach(const Dims& dims, const Dims& strides);

    const Graph& graph_;
    const Places& places_;
    std::string text_;
    std::map<ValueId, std::string> names_;
    std::map<std::pair<ValueId, bool>, int> arguments_;
    std::vector<std::pair<ValueId, bool>> order_;
    int count_ = 0;
    bool wide_ = false;
};

}  // namespace ai_vmm::cuda
