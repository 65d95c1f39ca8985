// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "ai_vmm/model.hpp"

namespace ai_vmm::graph {

/// What a TensorFlow Lite file says about itself: the first subgraph's inputs and outputs, in its order, under its tensors' names. An unnamed
/// tensor is called "input_N" or "output_N".
struct TfliteFile {
    std::vector<TensorInfo> inputs;
    std::vector<TensorInfo> outputs;
};

/// Reads the flatbuffer with every offset, table, vector and index checked; quantisation, buffers and operator inputs too, so that what follows
/// them stays inside the file.
/// @throws Error(invalid_argument, input) truncated or damaged.
[[nodiscard]] TfliteFile parse_tflite(std::string_view bytes);

}  // namespace ai_vmm::graph
