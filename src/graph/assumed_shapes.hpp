// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "ai_vmm/backend/backend.hpp"
#include "ai_vmm/tensor.hpp"

namespace ai_vmm::graph {

/// A graph with shapes to count at.
struct ShapedGraph {
    std::shared_ptr<const ov::Model> graph;             ///< the model's own if it is static; else a reshaped copy
    std::vector<std::pair<std::string, Shape>> shapes;  ///< of the inputs that are dynamic in the model
    std::vector<std::string> notes;
};

/// Gives every dynamic input a shape: the caller's, or the defaults of docs/design/0005-analyser.md. States count as empty at the start.
/// Where the graph refuses the defaults, other sequence lengths are tried; where it refuses all, its own dynamic shapes stay, with a note.
[[nodiscard]] ShapedGraph assume_shapes(const backend::Model& model, const std::vector<std::pair<std::string, Shape>>& input_shapes);

}  // namespace ai_vmm::graph
