// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "ai_vmm/backend/backend.hpp"

namespace ai_vmm::graph {

/// Values that a model knows of an input, by the input's name.
using ComparedValues = std::vector<std::pair<std::string, std::vector<std::int64_t>>>;

/// True of integer scalars and vectors of one element: a switch such as a sample rate, not data.
[[nodiscard]] bool may_be_switch(const TensorInfo& info) noexcept;
/// Adds a value to those of `name`, once.
void add_value(ComparedValues& values, const std::string& name, std::int64_t value);

/// The constants that the graph compares each switch with (Equal, NotEqual), bodies of If and Loop included, in the graph's order. Inputs that are
/// compared with nothing are left out. Empty without a graph; read_onnx_ops() tells the same of an ONNX file.
[[nodiscard]] ComparedValues compared_values(const backend::Model& model);

}  // namespace ai_vmm::graph
