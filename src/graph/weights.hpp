// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <unordered_map>
#include <vector>

namespace ov {
class Model;
class Node;
namespace op::v0 {
class Constant;
}
}  // namespace ov

namespace ai_vmm::graph {

/// The constants behind one input of a node.
struct Weights {
    std::vector<const ov::op::v0::Constant*> roots;  ///< every constant that is read, scales and zero points included
    const ov::op::v0::Constant* main = nullptr;      ///< the weights proper: the largest low-bit root, else the largest real one; null: none
    bool quantized = false;                          ///< `main` holds integers of 8 bits or fewer, or it passes a FakeQuantize
    std::int64_t bytes = 0;                          ///< as stored
    std::int64_t parameters = 0;                     ///< elements of `main`, or of all real roots if nothing is quantised; scalars don't count
};

/// Bytes that a constant takes in the file.
[[nodiscard]] std::int64_t stored_bytes(const ov::op::v0::Constant& constant);
/// Whether it holds weights: reals, or integers of 8 bits or fewer; not axes, shapes, indices.
[[nodiscard]] bool holds_weights(const ov::op::v0::Constant& constant);
/// What counts as parameters among the constants behind an input: `main` alone where it is quantised, else every real one that is no scalar.
[[nodiscard]] bool holds_parameters(const Weights& weights, const ov::op::v0::Constant& root);

/// Knows which values of a model don't depend on its inputs' values: constants and what is computed from them (dequantisation, conversions,
/// shape arithmetic). Such nodes cost nothing: engines fold them; their constants belong to the nodes that consume them.
class ConstantAnalysis {
public:
    explicit ConstantAnalysis(const ov::Model& model);
    /// No input value reaches the node. Shapes do not count as values where they are static.
    [[nodiscard]] bool is_constant(const ov::Node* node) const;
    [[nodiscard]] Weights weights(const ov::Node* node, std::size_t input) const;

private:
    std::unordered_map<const ov::Node*, bool> constant_;
};

}  // namespace ai_vmm::graph
