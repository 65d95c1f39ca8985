// SPDX-License-Identifier: Apache-2.0
#include "graph/views.hpp"

#include <algorithm>
#include <numeric>

namespace ai_vmm::cuda {

ViewChain ViewChain::of(const Graph& graph, ValueId source) {
    ViewChain chain;
    chain.source = source;
    chain.dims = graph.value(source).dims;
    for (std::int64_t size : chain.dims) {
        if (size != 1) chain.factors.push_back(size);
    }
    chain.order.resize(chain.factors.size());
    std::iota(chain.order.begin(), chain.order.end(), 0);
    return chain;
}

bool ViewChain::reshape(const Dims& to) {
    if (elements(to) == 0) return false;
    // What each factor falls apart into, outermost first.
    std::vector<Dims> parts(factors.size());
    std::size_t position = 0;
    std::int64_t left = 0;  // of the factor at `position`, which is not yet part of a dimension
    for (std::int64_t size : to) {
        while (size > 1) {
            if (left <= 1) {
                if (position == order.size()) return false;
                left = factors[static_cast<std::size_t>(order[position])];
            }
            const std::int64_t part = std::min(size, left);
            if (size % part != 0 || left % part != 0) return false;
            parts[static_cast<std::size_t>(order[position])].push_back(part);
            size /= part;
            left /= part;
            if (left == 1) ++position;
        }
    }
    if (position != order.size()) return false;
    std::vector<int> first(factors.size(), 0);
    Dims split;
    for (std::size_t f = 0; f < factors.size(); ++f) {
        first[f] = static_cast<int>(split.size());
        split.insert(split.end(), parts[f].begin(), parts[f].end());
    }
    std::vector<int> split_order;
    for (int f : order) {
        for (std::size_t k = 0; k < parts[static_cast<std::size_t>(f)].size(); ++k)
            split_order.push_back(first[static_cast<std::size_t>(f)] + static_cast<int>(k));
    }
    factors = std::move(split);
    order = std::move(split_order);
    dims = to;
    return true;
}

std::pair<std::size_t, std::size_t> ViewChain::group(std::size_t d) const {
    std::size_t begin = 0, end = 0;
    for (std::size_t k = 0; k <= d; ++k) {
        begin = end;
        for (std::int64_t size = 1; size < dims[k]; ++end) size *= factors[static_cast<std::size_t>(order[end])];
    }
    return {begin, end};
}

void ViewChain::transpose(const std::vector<int>& permutation) {
    std::vector<int> moved;
    Dims to;
    for (int from : permutation) {
        const auto [begin, end] = group(static_cast<std::size_t>(from));
        moved.insert(moved.end(), order.begin() + static_cast<std::ptrdiff_t>(begin), order.begin() + static_cast<std::ptrdiff_t>(end));
        to.push_back(dims[static_cast<std::size_t>(from)]);
    }
    order = std::move(moved);
    dims = std::move(to);
}

bool ViewChain::in_order() const { return std::is_sorted(order.begin(), order.end()); }

ValueId append(Builder& builder, const ViewChain& chain) {
    if (chain.in_order()) return builder.reshape(chain.source, chain.dims);
    // Factors of one dimension that follow each other on both sides stay one. Dimensions of the source stay apart: in memory there may be gaps.
    std::vector<bool> starts(chain.order.size(), false);
    for (std::size_t k = 0; k < chain.order.size(); ++k)
        starts[static_cast<std::size_t>(chain.order[k])] = k == 0 || chain.order[k] != chain.order[k - 1] + 1;
    std::size_t next = 0;
    for (std::int64_t size : builder.dims(chain.source)) {
        if (size > 1) starts[next] = true;
        for (std::int64_t part = 1; part < size; ++next) part *= chain.factors[next];
    }
    Dims joined;
    std::vector<int> index;
    for (std::size_t f = 0; f < chain.factors.size(); ++f) {
        if (starts[f]) {
            joined.push_back(chain.factors[f]);
        } else {
            joined.back() *= chain.factors[f];
        }
        index.push_back(static_cast<int>(joined.size()) - 1);
    }
    std::vector<int> order;
    for (int f : chain.order) {
        if (starts[static_cast<std::size_t>(f)]) order.push_back(index[static_cast<std::size_t>(f)]);
    }
    return builder.reshape(builder.transpose(builder.reshape(chain.source, joined), order), chain.dims);
}

ViewChain view_chain(const Graph& graph, ValueId id, const std::function<bool(ValueId)>& through) {
    std::vector<const Node*> nodes;
    for (ValueId at = id; through(at); at = nodes.back()->inputs.front()) {
        const Node* node = graph.producer(at);
        const auto* compute = node == nullptr ? nullptr : std::get_if<Compute>(&node->what);
        if (compute == nullptr || (compute->view.kind != View::Kind::reshape && compute->view.kind != View::Kind::transpose)) break;
        nodes.push_back(node);
    }
    ViewChain chain = ViewChain::of(graph, nodes.empty() ? id : nodes.back()->inputs.front());
    while (!nodes.empty()) {
        const Node& node = *nodes.back();
        nodes.pop_back();
        const View& view = std::get<Compute>(node.what).view;
        const ValueId result = node.outputs.front();
        if (view.kind == View::Kind::transpose && elements(chain.dims) != 0) {
            chain.transpose(view.permutation);
        } else if (view.kind == View::Kind::transpose || !chain.reshape(graph.value(result).dims)) {
            chain = ViewChain::of(graph, result);
        }
    }
    return chain;
}

}  // namespace ai_vmm::cuda
