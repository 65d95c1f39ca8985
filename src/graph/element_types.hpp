// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <openvino/core/type/element_type.hpp>

#include "ai_vmm/tensor.hpp"

namespace ai_vmm::graph {

/// Our name of an OpenVINO element type; undefined for dynamic types and those that we lack.
[[nodiscard]] ElementType from_openvino(const ov::element::Type& type) noexcept;

}  // namespace ai_vmm::graph
