// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <map>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "graph/passes.hpp"
#include "graph/rewriter.hpp"

namespace ai_vmm::cuda {
namespace {

bool is_narrow(Type type) { return type == Type::f16 || type == Type::bf16; }

const Compute* compute_of(const Node* node) { return node == nullptr ? nullptr : std::get_if<Compute>(&node->what); }

/// A reshape or a transpose.
bool rearranges(const Node* node) {
    const Compute* compute = compute_of(node);
    return compute != nullptr && (compute->view.kind == View::Kind::reshape || compute->view.kind == View::Kind::transpose);
}

class WideSums {
public:
    explicit WideSums(Graph graph) : graph_(std::move(graph)) {
        remove_dead_nodes(graph_);
        for (const Value& value : graph_.values) types_.push_back(value.type);
        uses_.assign(graph_.values.size(), 0);
        for (const Node& node : graph_.nodes) {
            for (ValueId id : node.inputs) ++uses_[static_cast<std::size_t>(id)];
        }
        outputs_.insert(graph_.outputs.begin(), graph_.outputs.end());
    }

    Graph run() {
        std::set<ValueId> stream;
        for (const Node& node : graph_.nodes) {
            if (!is_sum(node)) continue;
            for (ValueId operand : node.inputs) {
                const ValueId before = behind_views(operand);
                const Node* sum = graph_.producer(before);
                if (sum == nullptr || !is_sum(*sum) || uses_[static_cast<std::size_t>(before)] < 2) continue;
                if (adds_product(*sum) && adds_product(node)) stream.insert({before, node.outputs.front()});
            }
        }
        if (stream.empty()) return std::move(graph_);
        for (ValueId id : stream) widen(id);
        for (Node& node : graph_.nodes) {
            if (!stream.contains(node.outputs.front())) continue;
            for (ValueId& operand : node.inputs) {
                if (!stream.contains(behind_views(operand))) widen_operand(operand);
            }
        }
        return with_types_that_fit();
    }

private:
    [[nodiscard]] bool is_sum(const Node& node) const {
        const Compute* compute = compute_of(&node);
        if (compute == nullptr || compute->op != "Add" || node.inputs.size() != 2 || outputs_.contains(node.outputs.front())) return false;
        const Value& sum = graph_.value(node.outputs.front());
        return is_narrow(sum.type) && std::all_of(node.inputs.begin(), node.inputs.end(),
                                                  [&](ValueId id) { return graph_.value(id).dims == sum.dims && graph_.value(id).type == sum.type; });
    }
    [[nodiscard]] ValueId behind_views(ValueId id) const {
        for (const Node* node = graph_.producer(id); rearranges(node); node = graph_.producer(id)) id = node->inputs.front();
        return id;
    }
    /// The other operand where `node` adds a constant to each row.
    [[nodiscard]] std::optional<std::size_t> beside_bias(const Node& node) const {
        const Compute* compute = compute_of(&node);
        if (compute == nullptr || compute->op != "Add" || node.inputs.size() != 2) return std::nullopt;
        for (std::size_t k = 0; k < 2; ++k) {
            if (graph_.value(from_f32(node.inputs[1 - k])).source != Source::constant) continue;
            if (graph_.value(node.inputs[k]).dims == graph_.value(node.outputs.front()).dims) return k;
        }
        return std::nullopt;
    }
    /// What was narrowed to `id`, if it was.
    [[nodiscard]] ValueId from_f32(ValueId id) const {
        const Compute* compute = compute_of(graph_.producer(id));
        if (compute == nullptr || compute->op != "Convert") return id;
        const ValueId wide = graph_.producer(id)->inputs.front();
        return graph_.value(wide).type == Type::f32 ? wide : id;
    }
    /// Values between an operand and the product that it is, with a bias and seen otherwise; the product's result last. Nothing else reads them.
    /// Empty: it is none.
    [[nodiscard]] std::vector<ValueId> way_to_product(ValueId id) const {
        std::vector<ValueId> way;
        for (;;) {
            const Node* node = graph_.producer(id);
            if (node == nullptr || uses_[static_cast<std::size_t>(id)] != 1 || outputs_.contains(id)) return {};
            way.push_back(id);
            if (const auto* product = std::get_if<Matmul>(&node->what)) {
                const MatmulSpec& spec = product->spec;
                const bool plain =
                    is_narrow(spec.type) && spec.result == spec.type && spec.activation == Activation::none && !spec.bias && !spec.residual;
                return plain ? way : std::vector<ValueId>{};
            }
            if (const auto operand = beside_bias(*node)) {
                id = node->inputs[*operand];
            } else if (rearranges(node)) {
                id = node->inputs.front();
            } else {
                return {};
            }
        }
    }
    [[nodiscard]] bool adds_product(const Node& sum) const {
        return std::any_of(sum.inputs.begin(), sum.inputs.end(), [this](ValueId id) { return !way_to_product(id).empty(); });
    }

    void widen(ValueId id) { graph_.values[static_cast<std::size_t>(id)].type = Type::f32; }

    void widen_operand(ValueId& operand) {
        if (const auto way = way_to_product(operand); !way.empty()) {
            for (ValueId id : way) {
                widen(id);
                Node& node = graph_.nodes[static_cast<std::size_t>(graph_.value(id).index)];
                if (auto* product = std::get_if<Matmul>(&node.what)) {
                    product->spec.result = Type::f32;
                } else if (const auto beside = beside_bias(node)) {
                    node.inputs[1 - *beside] = from_f32(node.inputs[1 - *beside]);
                }
            }
            return;
        }
        if (const ValueId wide = from_f32(operand); wide != operand) {
            operand = wide;
            return;
        }
        // What kernels are generated for can store either.
        const ValueId source = behind_views(operand);
        const Node* node = graph_.producer(source);
        const bool generated = node != nullptr && (std::holds_alternative<Compute>(node->what) || std::holds_alternative<Rowwise>(node->what));
        if (generated && is_narrow(graph_.value(source).type) && !outputs_.contains(source)) widen(source);
    }

    /// Views of what became wide are wide; what takes one type alone is given that.
    Graph with_types_that_fit() {
        Graph result;
        result.values = std::move(graph_.values);
        result.inputs = graph_.inputs;
        result.outputs = graph_.outputs;
        result.input_names = std::move(graph_.input_names);
        result.output_names = std::move(graph_.output_names);
        Builder builder(result);
        std::map<std::pair<ValueId, Type>, ValueId> converted;
        const auto as = [&](ValueId id, Type type) {
            const auto [found, fresh] = converted.try_emplace({id, type}, -1);
            if (fresh) found->second = builder.cast(id, type);
            return found->second;
        };
        std::map<ValueId, ValueId> same;
        for (Node& node : graph_.nodes) {
            builder.set_name(node.name);
            for (ValueId& in : node.inputs) {
                if (const auto found = same.find(in); found != same.end()) in = found->second;
            }
            if (const Compute* compute = compute_of(&node)) {
                if (compute->op == "Convert" && compute->expression == "a" &&
                    result.value(node.inputs.front()).type == result.value(node.outputs.front()).type) {
                    same[node.outputs.front()] = node.inputs.front();
                    continue;
                }
                if (compute->view.kind != View::Kind::none) {
                    Value& out = result.values[static_cast<std::size_t>(node.outputs.front())];
                    ValueId& in = node.inputs.front();
                    if (result.value(in).type != out.type && outputs_.contains(node.outputs.front())) {
                        const Type declared = out.type;
                        in = as(in, declared);
                    } else {
                        out.type = result.value(in).type;
                    }
                }
            } else if (!std::holds_alternative<Rowwise>(node.what)) {
                for (ValueId& in : node.inputs) {
                    const Type expected = types_[static_cast<std::size_t>(in)];
                    if (result.value(in).type != expected) in = as(in, expected);
                }
            }
            for (ValueId id : node.outputs) result.values[static_cast<std::size_t>(id)].index = static_cast<int>(result.nodes.size());
            result.nodes.push_back(std::move(node));
        }
        for (ValueId& id : result.outputs) {
            if (const auto found = same.find(id); found != same.end()) id = found->second;
        }
        return result;
    }

    Graph graph_;
    std::vector<Type> types_;  // as they were
    std::vector<int> uses_;
    std::set<ValueId> outputs_;
};

}  // namespace

Graph wide_sums(Graph graph) { return WideSums(std::move(graph)).run(); }

}  // namespace ai_vmm::cuda
