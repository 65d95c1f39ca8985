// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <string>
#include <vector>

#include "graph/passes.hpp"
#include "graph/rewriter.hpp"

namespace ai_vmm::cuda {
namespace {

/// Per value: whether it depends on constants alone.
std::vector<bool> constants_of(const Graph& graph) {
    std::vector<bool> constant(graph.values.size(), false);
    for (std::size_t id = 0; id < graph.values.size(); ++id) constant[id] = graph.values[id].source == Source::constant;
    for (const Node& node : graph.nodes) {
        const auto* compute = std::get_if<Compute>(&node.what);
        const bool all = !std::holds_alternative<HostCall>(node.what) && (compute == nullptr || !compute->every_run) &&
                         std::all_of(node.inputs.begin(), node.inputs.end(), [&](ValueId id) { return constant[static_cast<std::size_t>(id)]; });
        for (ValueId id : node.outputs) constant[static_cast<std::size_t>(id)] = all;
    }
    return constant;
}

/// What products share that can be one; empty: the node can't be part of any.
std::string key_of(const Graph& graph, const Node& node, const std::vector<bool>& constant) {
    const auto* matmul = std::get_if<Matmul>(&node.what);
    if (matmul == nullptr) return {};
    const MatmulSpec& s = matmul->spec;
    const auto fixed = [&](ValueId id) { return constant[static_cast<std::size_t>(id)]; };
    if (s.batch != 1 || s.residual || fixed(node.inputs[0]) || !fixed(node.inputs[1]) || (s.bias && !fixed(node.inputs[2]))) return {};
    // Libraries want addresses that are multiples of 16 bytes.
    if (bits(s.result) * s.n % 128 != 0 || s.m <= 0 || s.n <= 0 || s.k <= 0) return {};
    if (std::find(graph.outputs.begin(), graph.outputs.end(), node.outputs.front()) != graph.outputs.end()) return {};
    return fmt::format("{} {} {} {} {} {} {} {} {} {}", node.inputs[0], s.transpose_a, s.transpose_b, s.m, s.k, to_string(s.type),
                       to_string(s.result), s.alpha, static_cast<int>(s.activation), s.tf32);
}

/// The members' product, at the end of the graph, and what shows their results.
void append_merged(Builder& builder, const std::vector<Node>& members, std::map<ValueId, ValueId>& replaced) {
    MatmulSpec spec = std::get<Matmul>(members.front().what).spec;
    std::vector<ValueId> matrices, biases;
    const auto with_bias = std::find_if(members.begin(), members.end(), [](const Node& member) { return std::get<Matmul>(member.what).spec.bias; });
    if (with_bias != members.end()) {
        spec.bias = true;
        spec.bias_type = std::get<Matmul>(with_bias->what).spec.bias_type;
    }
    spec.n = 0;
    for (const Node& member : members) {
        const MatmulSpec& one = std::get<Matmul>(member.what).spec;
        spec.n += one.n;
        matrices.push_back(member.inputs[1]);
        if (!spec.bias) continue;
        ValueId bias = one.bias ? member.inputs[2] : builder.constant_f32({one.n}, std::vector<float>(static_cast<std::size_t>(one.n), 0.0F));
        biases.push_back(builder.cast(bias, spec.bias_type));
    }
    builder.set_name(members.front().name);
    const ValueId matrix = builder.concat(matrices, spec.transpose_b ? 1 : 2);
    const ValueId bias = spec.bias ? builder.concat(biases, 0) : -1;
    const ValueId product = builder.matmul(members.front().inputs[0], matrix, spec);
    if (spec.bias) builder.graph().nodes.back().inputs.push_back(bias);
    std::int64_t at = 0;
    for (const Node& member : members) {
        const std::int64_t n = std::get<Matmul>(member.what).spec.n;
        builder.set_name(member.name);
        replaced[member.outputs.front()] = builder.slice(product, {0, 0, at}, {1, 1, 1}, {1, spec.m, n});
        at += n;
    }
}

}  // namespace

Graph merge_products(Graph graph) {
    remove_dead_nodes(graph);
    const std::vector<bool> constant = constants_of(graph);
    std::map<std::string, std::vector<std::size_t>> groups;
    for (std::size_t n = 0; n < graph.nodes.size(); ++n) {
        if (std::string key = key_of(graph, graph.nodes[n], constant); !key.empty()) groups[std::move(key)].push_back(n);
    }
    std::map<std::size_t, std::vector<std::size_t>> by_first;
    std::vector<bool> member(graph.nodes.size(), false);
    for (auto& [key, nodes] : groups) {
        if (nodes.size() < 2) continue;
        for (std::size_t n : nodes) member[n] = true;
        by_first[nodes.front()] = nodes;
    }
    if (by_first.empty()) return graph;

    Graph merged;
    merged.values = std::move(graph.values);
    merged.inputs = graph.inputs;
    merged.input_names = std::move(graph.input_names);
    merged.output_names = std::move(graph.output_names);
    Builder builder(merged);
    std::map<ValueId, ValueId> replaced;
    const auto current = [&](ValueId id) {
        const auto found = replaced.find(id);
        return found == replaced.end() ? id : found->second;
    };
    const auto keep = [&](const Node& node) {
        for (ValueId id : node.outputs) merged.values[static_cast<std::size_t>(id)].index = static_cast<int>(merged.nodes.size());
        merged.nodes.push_back(node);
    };
    const auto fixed = [&](const Node& node) { return !node.outputs.empty() && constant[static_cast<std::size_t>(node.outputs.front())]; };
    // A product stands where the first of its members stood: all that depends on constants alone comes before.
    for (const Node& node : graph.nodes) {
        if (fixed(node)) keep(node);
    }
    for (std::size_t n = 0; n < graph.nodes.size(); ++n) {
        Node& node = graph.nodes[n];
        if (fixed(node)) continue;
        for (ValueId& id : node.inputs) id = current(id);
        if (!member[n]) {
            keep(node);
        } else if (const auto found = by_first.find(n); found != by_first.end()) {
            std::vector<Node> members;
            for (std::size_t m : found->second) members.push_back(graph.nodes[m]);
            members.front() = node;
            append_merged(builder, members, replaced);
        }
    }
    for (ValueId id : graph.outputs) merged.outputs.push_back(current(id));
    return merged;
}

}  // namespace ai_vmm::cuda
