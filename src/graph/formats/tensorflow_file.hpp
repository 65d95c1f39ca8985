// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "ai_vmm/model.hpp"

namespace ai_vmm::graph {

/// Inputs and outputs that a TensorFlow file declares.
struct TensorflowFile {
    std::vector<TensorInfo> inputs;
    std::vector<TensorInfo> outputs;
};

/// The signature `serving_default` of a SavedModel, or its only one, under the signature's keys, sorted: the file keeps them in a map without
/// an order. Nothing in `inputs` and `outputs` if there is no such signature.
/// @throws Error(invalid_argument, input) truncated, damaged or without a graph.
[[nodiscard]] TensorflowFile parse_saved_model(std::string_view bytes);

/// The placeholders of a frozen graph, and the nodes that no other consumes, under the nodes' names in the file's order.
/// @throws Error(invalid_argument, input) truncated, damaged or empty.
[[nodiscard]] TensorflowFile parse_graph_def(std::string_view bytes);

}  // namespace ai_vmm::graph
