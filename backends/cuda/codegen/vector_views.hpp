// SPDX-License-Identifier: Apache-2.0
/// Functions that read several neighbouring elements at once, through whatever views and elementwise operations stand between them and memory.
#pragma once

#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>

#include "codegen/text.hpp"

namespace ai_vmm::cuda {

/// Whether vectors of `width` elements along dimension `inner` of a placed value lie side by side at addresses that wide accesses take.
[[nodiscard]] bool aligned_vectors(const Value& value, const Place& place, int inner, std::int64_t width);

class VectorViews {
public:
    /// @param functions  takes the scalar readers and parameters that vectors need.
    VectorViews(const Graph& graph, const Places& places, Functions& functions, std::int64_t width)
        : graph_(graph), places_(places), functions_(functions), width_(width) {}

    /// The name of a function of coordinates that gives a structure whose `v` holds `width` elements of `id` from there on along dimension `inner`,
    /// where the coordinate is a multiple of the width; nothing where those don't lie side by side. @param placed  false: computes the value even if
    /// it has a place.
    std::optional<std::string> reader(ValueId id, int inner, bool placed = true);
    /// Whatever reads elements of the placed value `id` stores them where `to`, of the same dimensions, is placed; before any reader is asked for.
    void copy(ValueId id, ValueId to) {
        copied_ = id;
        copy_ = to;
    }
    /// The structure's name for elements of `type`.
    std::string structure(Type type);
    /// All functions, to stand behind those of `functions`.
    [[nodiscard]] const std::string& text() const noexcept { return text_; }

private:
    std::optional<std::string> body_of_placed(ValueId id, int inner);
    std::optional<std::string> body_of_view(const Node& node, const Compute& compute, int inner);
    std::optional<std::string> body_of_concat(const Node& node, const Compute& compute, int inner);
    std::optional<std::string> body_across(const Node& node, const Compute& compute, int inner);
    std::optional<std::string> body_of_pointwise(const Node& node, const Compute& compute, int inner);
    /// The macro inK for a body, by vectors along `inner` or, if that is negative, one element for all.
    std::optional<std::string> input_macro(const Node& node, std::size_t k, int inner);

    const Graph& graph_;
    const Places& places_;
    Functions& functions_;
    const std::int64_t width_;
    std::string text_;
    std::map<std::pair<ValueId, int>, std::optional<std::string>> names_;
    std::set<std::string> structures_;
    ValueId copied_ = -1, copy_ = -1;
    int count_ = 0;
};

}  // namespace ai_vmm::cuda
