// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "openvino/core/model.hpp"

namespace ai_vmm::ort {

/// ONNX input and output names of a lowered graph: by position, as OpenVINO's names need be neither there nor unique.
[[nodiscard]] std::string lowered_input_name(std::size_t index);
[[nodiscard]] std::string lowered_output_name(std::size_t index);

/// The graph as an ONNX model (operator set 21, com.microsoft operators nowhere), computing the same numbers. Thread-safe; `model` is only read.
/// @throws Error(unimplemented) an operation has no exact counterpart, or the weights exceed 2 GB; the message names op, type and shape.
[[nodiscard]] std::string lower_to_onnx(const ov::Model& model);

/// Why the graph can't be lowered, one sentence per node; empty if it can. Decided without copying weights, in milliseconds.
[[nodiscard]] std::vector<std::string> lowering_refusals(const ov::Model& model);

}  // namespace ai_vmm::ort
