// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "ai_vmm/backend/backend.hpp"
#include "ai_vmm/model.hpp"
#include "graph/reader.hpp"

namespace ai_vmm::graph {

/// Profiles a model: category with evidence, FLOPs, bytes and parameters per node, dynamic dimensions, precision, quantisation.
/// Models without a graph are profiled from the file's own operator list (no per-node FLOPs then).
/// @param input_shapes  shapes to cost dynamic inputs at; where absent: batch 1, and the sizes listed in docs/design.
/// Does not change the model. Never throws for an odd model: what can't be derived is left zero with a note.
[[nodiscard]] ModelProfile analyse(const Located& located, const backend::Model& model,
                                   const std::vector<std::pair<std::string, Shape>>& input_shapes = {});

/// Profiles a model from its file alone, with no reader or engine: for files that no reader converts. Operators, constants, inputs and outputs come
/// from the file itself where that is possible (ONNX, TFLite); nodes and FLOPs stay empty. Never throws: what can't be derived is left empty with a
/// note.
[[nodiscard]] ModelProfile analyse_file(const Located& located);

}  // namespace ai_vmm::graph
