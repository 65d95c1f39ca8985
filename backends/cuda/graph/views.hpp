// SPDX-License-Identifier: Apache-2.0
/// Chains of reshapes and transposes as one: what exporters write around attention splits, swaps and joins the same dimensions several times.
#pragma once

#include <functional>
#include <utility>
#include <vector>

#include "graph/graph.hpp"

namespace ai_vmm::cuda {

/// A value as reshape(transpose(reshape(source, factors), order), dims). No factor is 1, and each dimension in `dims` is the product of neighbours in
/// `order`.
struct ViewChain {
    ValueId source = -1;
    Dims factors;
    std::vector<int> order;
    Dims dims;

    /// The source itself.
    [[nodiscard]] static ViewChain of(const Graph& graph, ValueId source);
    /// Appends a reshape. @returns false, with nothing changed, where the new dimensions cut through factors.
    [[nodiscard]] bool reshape(const Dims& to);
    void transpose(const std::vector<int>& permutation);

    /// Elements come in the source's order.
    [[nodiscard]] bool in_order() const;
    /// Positions in `order` of the factors of dimension `d`: first, and behind the last.
    [[nodiscard]] std::pair<std::size_t, std::size_t> group(std::size_t d) const;
    bool operator==(const ViewChain&) const = default;
};

/// The longest chain of reshapes and transposes that ends in `id`. @param through  whether to look behind a value
[[nodiscard]] ViewChain view_chain(const Graph& graph, ValueId id, const std::function<bool(ValueId)>& through);

/// Adds the chain to a graph with as few nodes and dimensions as it takes. @returns its result
[[nodiscard]] ValueId append(Builder& builder, const ViewChain& chain);

}  // namespace ai_vmm::cuda
