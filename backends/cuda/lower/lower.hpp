// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "graph/graph.hpp"
#include "openvino/core/model.hpp"

namespace ai_vmm::cuda {

/// What floats are computed and stored in.
struct LowerOptions {
    Type float_type = Type::f32;  ///< f32 keeps each value's own type; f16 and bf16 narrow f32 values between inputs and outputs
};

/// The device graph of a model whose shapes are all static. Inputs and outputs are the model's, in its order. Constants are shared with the model,
/// which the graph keeps alive.
/// @throws Error(unimplemented) naming the operation and the reason.
[[nodiscard]] Graph lower(const std::shared_ptr<const ov::Model>& model, const LowerOptions& options = {});

/// Values of an input that decide shapes or attributes: row-major bytes of the input's type.
using InputValues = std::vector<std::byte>;

/// A copy of `model` with these input shapes, constants folded and shapes inferred; every input the model has stays.
/// @param values  per input; where not empty, what reads the input sees these values as a constant. May be shorter than the inputs.
/// @throws Error(invalid_argument) the model does not take these shapes.
[[nodiscard]] std::shared_ptr<ov::Model> with_shapes(const ov::Model& model, const std::vector<Dims>& shapes,
                                                     const std::vector<InputValues>& values = {});

/// Operations, those in bodies of others too, that have no lowering, "TYPE NAME" each: what supports() reports. Looks at types alone.
[[nodiscard]] std::vector<std::string> missing_operations(const ov::Model& model);

/// Nodes that can't be lowered and why, by name: each is lowered alone at the shapes it has when the model's inputs have `shapes`. Where a shape
/// stays open, the operation and its element types decide.
[[nodiscard]] std::vector<std::pair<std::string, std::string>> refused_nodes(const ov::Model& model, const std::vector<Dims>& shapes);

}  // namespace ai_vmm::cuda
