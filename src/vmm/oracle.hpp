// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "ai_vmm/backend/backend.hpp"
#include "runtime/tuner.hpp"

namespace ai_vmm {

/// Evaluates ONNX models with the reference evaluator of the `onnx` Python package in a separate process with limits. Empty for other formats.
/// The interpreter is $AI_VMM_PYTHON, else the one the library was built with. Gives nothing (and logs why) if that lacks the package, the model has
/// operators it doesn't know, or a minute passes.
[[nodiscard]] runtime::Oracle make_oracle(const backend::Model& model);

}  // namespace ai_vmm
