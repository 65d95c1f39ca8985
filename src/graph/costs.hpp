// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace ov {
class Model;
class Node;
class PartialShape;
}  // namespace ov

namespace ai_vmm::graph {

class ConstantAnalysis;

/// Arithmetic and traffic of one node. Counted in double: exact to 9e15, and hostile shapes can't overflow it.
struct Cost {
    double flops = 0;
    double bytes_read = 0;
    double bytes_written = 0;
    double parameters = 0;
    double parameter_bytes = 0;
};

/// Elements of a shape; a dimension that is not known counts with its lower bound, at least 1.
[[nodiscard]] double elements_of(const ov::PartialShape& shape);
/// Bytes of a node's output tensor.
[[nodiscard]] double bytes_of(const ov::Node& node, std::size_t output);

/// FLOPs of a node that is not a sub-graph operation, by the formulas of docs/design/0005-analyser.md.
[[nodiscard]] double flops_of(const ov::Node& node);

/// How often the body of a Loop or TensorIterator runs; 1 if that is not known (`known` is set to false).
[[nodiscard]] double trip_count(const ov::Node& node, bool& known);

/// Everything of one node, bodies of Loop, TensorIterator (times their trip count) and If (the costlier branch) included.
/// Nodes that are constant cost nothing.
[[nodiscard]] Cost cost_of(const ov::Node& node, const ConstantAnalysis& constants);

}  // namespace ai_vmm::graph
