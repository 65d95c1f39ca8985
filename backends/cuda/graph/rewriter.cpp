// SPDX-License-Identifier: Apache-2.0
#include "graph/rewriter.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <cstring>

namespace ai_vmm::cuda {

std::optional<double> scalar(const Value& value) {
    if (value.source != Source::constant || elements(value.dims) != 1) return std::nullopt;
    if (value.type == Type::f32) {
        float number = 0;
        std::memcpy(&number, value.constant.data, sizeof number);
        return number;
    }
    if (value.type == Type::f16) {
        std::uint16_t half = 0;
        std::memcpy(&half, value.constant.data, sizeof half);
        const int exponent = (half >> 10) & 31;
        const double mantissa = half & 1023;
        if (exponent == 31) return std::nullopt;
        const double magnitude = exponent == 0 ? std::ldexp(mantissa, -24) : std::ldexp(1024 + mantissa, exponent - 25);
        return (half >> 15) != 0 ? -magnitude : magnitude;
    }
    return std::nullopt;
}

void remove_dead_nodes(Graph& graph) {
    std::vector<bool> needed(graph.values.size(), false), live(graph.nodes.size(), false);
    for (ValueId id : graph.outputs) needed[static_cast<std::size_t>(id)] = true;
    for (std::size_t n = graph.nodes.size(); n-- > 0;) {
        const Node& node = graph.nodes[n];
        live[n] = std::any_of(node.outputs.begin(), node.outputs.end(), [&](ValueId id) { return needed[static_cast<std::size_t>(id)]; });
        if (!live[n]) continue;
        for (ValueId id : node.inputs) needed[static_cast<std::size_t>(id)] = true;
    }
    std::vector<Node> kept;
    for (Value& value : graph.values) {
        if (value.source == Source::node) value.index = -1;
    }
    for (std::size_t n = 0; n < graph.nodes.size(); ++n) {
        if (live[n]) kept.push_back(std::move(graph.nodes[n]));
    }
    for (std::size_t n = 0; n < kept.size(); ++n) {
        for (ValueId id : kept[n].outputs) graph.values[static_cast<std::size_t>(id)].index = static_cast<int>(n);
    }
    graph.nodes = std::move(kept);
}

Rewriter::Rewriter(Graph graph) : old_(std::move(graph)), builder_(new_) {
    remove_dead_nodes(old_);
    uses_.assign(old_.values.size(), 0);
    for (const Node& node : old_.nodes) {
        for (ValueId id : node.inputs) ++uses_[static_cast<std::size_t>(id)];
    }
    for (ValueId id : old_.outputs) uses_[static_cast<std::size_t>(id)] += 1000;
    new_.values = std::move(old_.values);
    new_.inputs = old_.inputs;
    new_.input_names = std::move(old_.input_names);
    new_.output_names = std::move(old_.output_names);
    for (Value& value : new_.values) {
        if (value.source == Source::node) value.index = -1;
    }
}

bool Rewriter::constant(ValueId id) const {
    if (value(id).source == Source::constant) return true;
    const Node* node = producer(id);
    if (node == nullptr || node->inputs.empty()) return false;
    const auto* compute = std::get_if<Compute>(&node->what);
    if (compute == nullptr ? !std::holds_alternative<Matmul>(node->what) : compute->every_run) return false;
    return std::all_of(node->inputs.begin(), node->inputs.end(), [this](ValueId input) { return constant(input); });
}

Graph Rewriter::run() {
    for (Node& node : old_.nodes) {
        for (ValueId& id : node.inputs) id = current(id);
        builder_.set_name(node.name);
        if (node.outputs.size() == 1) {
            const std::size_t before = new_.values.size();
            if (const auto replacement = rewrite(node)) {
                replaced_[node.outputs.front()] = *replacement;
                // The new value is read where the old one was.
                if (uses_.size() < new_.values.size()) uses_.resize(new_.values.size(), 1);
                const bool existed = static_cast<std::size_t>(*replacement) < before;
                const int added = uses_[static_cast<std::size_t>(node.outputs.front())];
                uses_[static_cast<std::size_t>(*replacement)] = existed ? uses_[static_cast<std::size_t>(*replacement)] + added : added;
                continue;
            }
        }
        for (ValueId id : node.outputs) new_.values[static_cast<std::size_t>(id)].index = static_cast<int>(new_.nodes.size());
        new_.nodes.push_back(std::move(node));
    }
    for (ValueId id : old_.outputs) new_.outputs.push_back(current(id));
    return std::move(new_);
}

const Node* Rewriter::product_behind(ValueId id, ViewChain& chain) const {
    chain = view_chain(new_, id, [this](ValueId at) { return used_once(at); });
    const Node* node = producer(chain.source);
    return node != nullptr && std::holds_alternative<Matmul>(node->what) && used_once(chain.source) ? node : nullptr;
}

ValueId Rewriter::view(const ViewChain& chain) {
    const std::string key =
        fmt::format("{} ({}) ({}) ({})", chain.source, fmt::join(chain.factors, ","), fmt::join(chain.order, ","), fmt::join(chain.dims, ","));
    const auto [found, fresh] = views_.try_emplace(key, -1);
    if (fresh) found->second = append(builder_, chain);
    return found->second;
}

std::optional<ValueId> Rewriter::joined_views(const Node& node) {
    const auto* compute = std::get_if<Compute>(&node.what);
    if (compute == nullptr || (compute->view.kind != View::Kind::reshape && compute->view.kind != View::Kind::transpose)) return std::nullopt;
    const Dims& to = dims(node.outputs.front());
    if (elements(to) == 0) return std::nullopt;
    ViewChain chain = view_chain(new_, node.inputs.front(), [](ValueId) { return true; });
    if (compute->view.kind == View::Kind::transpose) {
        chain.transpose(compute->view.permutation);
    } else if (!chain.reshape(to)) {
        return std::nullopt;
    }
    bool shared = false;  // something else reads a view in between
    for (ValueId at = node.inputs.front(); at != chain.source; at = producer(at)->inputs.front()) shared = shared || !used_once(at);
    const ValueId result = view(chain);
    if (uses_.size() < new_.values.size()) uses_.resize(new_.values.size(), 1);
    // The source has one reader more then; one less where it is the result, whose readers run() adds.
    if (result == chain.source) {
        if (!shared) forget_use(chain.source);
    } else if (shared) {
        ++uses_[static_cast<std::size_t>(chain.source)];
    }
    return result;
}

}  // namespace ai_vmm::cuda
