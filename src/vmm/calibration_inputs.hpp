// SPDX-License-Identifier: Apache-2.0
/// The inputs on which candidates of a model are compared and measured: made up, or given by the caller.
#pragma once

#include <string>
#include <vector>

#include "ai_vmm/constraints.hpp"
#include "ai_vmm/model.hpp"
#include "ai_vmm/tensor.hpp"

namespace ai_vmm {

constexpr int kCalibrationSets = 8;

/// @throws Error(invalid_argument) `input_shapes` or `calibration` names what is no input of the model, or a tensor is of another type than the
/// input.
void check_shape_names(const Constraints& constraints, const std::vector<TensorInfo>& inputs);

/// Inputs whose values decide shapes and for which the caller gave no calibration tensor.
[[nodiscard]] std::vector<std::string> undecided_shape_inputs(const ModelProfile& profile, const Constraints& constraints);

/// The first `count` sets of calibration inputs, or the one that holds what the caller gave.
[[nodiscard]] std::vector<std::vector<Tensor>> calibration_sets(const Constraints& constraints, const std::vector<TensorInfo>& inputs,
                                                                const ModelProfile& profile, int count = kCalibrationSets);

/// Whether a model that refuses its calibration inputs is at fault: floats of the shapes that it declares may have any value, and what the caller
/// gave is known to be typical. Made-up integers may be indices past the end of a table, made-up sizes may fit nothing, and a few floats in a row may
/// be parameters of an operation (the scales of ONNX's Resize).
[[nodiscard]] bool inputs_must_run(const Constraints& constraints, const std::vector<TensorInfo>& inputs);

[[nodiscard]] std::vector<Shape> shapes_of(const std::vector<Tensor>& tensors);

}  // namespace ai_vmm
