// SPDX-License-Identifier: Apache-2.0
/// What passes over device graphs share.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "graph/graph.hpp"
#include "graph/views.hpp"

namespace ai_vmm::cuda {

/// A constant of one element as a number.
[[nodiscard]] std::optional<double> scalar(const Value& value);

/// Takes out the nodes that no output needs. Values stay.
void remove_dead_nodes(Graph& graph);

/// Walks a graph's nodes in order and writes them, or others in their place, into a new graph with the same values. Nodes that no output needs are
/// left out.
class Rewriter {
public:
    explicit Rewriter(Graph graph);
    virtual ~Rewriter() = default;
    Rewriter(const Rewriter&) = delete;
    Rewriter& operator=(const Rewriter&) = delete;

    [[nodiscard]] Graph run();

protected:
    /// What computes the node's result instead; none: the node stays.
    virtual std::optional<ValueId> rewrite(const Node& node) = 0;

    [[nodiscard]] const Value& value(ValueId id) const { return new_.value(id); }
    [[nodiscard]] const Dims& dims(ValueId id) const { return new_.value(id).dims; }
    [[nodiscard]] const Node* producer(ValueId id) const { return new_.producer(id); }
    [[nodiscard]] bool used_once(ValueId id) const {
        return static_cast<std::size_t>(id) >= uses_.size() || uses_[static_cast<std::size_t>(id)] <= 1;
    }

    /// Whether a value is computed from constants alone, once.
    [[nodiscard]] bool constant(ValueId id) const;

    /// The producer of `id` seen through reshapes that nothing else reads, if it is a `What`. `id` becomes its own result.
    template <typename What>
    const Node* through_reshapes(ValueId& id) const {
        for (;;) {
            const Node* node = producer(id);
            if (node == nullptr || !used_once(id)) return nullptr;
            if (std::holds_alternative<What>(node->what)) return node;
            const auto* compute = std::get_if<Compute>(&node->what);
            if (compute == nullptr || compute->view.kind != View::Kind::reshape) return nullptr;
            id = node->inputs.front();
        }
    }

    /// The product that `id` shows through reshapes and transposes, none of which anything else reads. `chain` leads from its result to `id`.
    const Node* product_behind(ValueId id, ViewChain& chain) const;
    /// A chain's result; equal chains are made once.
    [[nodiscard]] ValueId view(const ViewChain& chain);
    /// Reshapes and transposes of reshapes and transposes become one chain.
    [[nodiscard]] std::optional<ValueId> joined_views(const Node& node);

    void forget_use(ValueId id) {
        if (static_cast<std::size_t>(id) < uses_.size()) --uses_[static_cast<std::size_t>(id)];
    }

    Builder& builder() { return builder_; }
    Graph& graph() { return new_; }

private:
    [[nodiscard]] ValueId current(ValueId id) const {
        for (auto found = replaced_.find(id); found != replaced_.end(); found = replaced_.find(id)) id = found->second;
        return id;
    }

    Graph old_, new_;
    Builder builder_;
    std::vector<int> uses_;
    std::map<ValueId, ValueId> replaced_;
    std::map<std::string, ValueId> views_;
};

}  // namespace ai_vmm::cuda
