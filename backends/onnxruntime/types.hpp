// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <onnxruntime_c_api.h>

#include <optional>

#include "ai_vmm/tensor.hpp"

namespace ai_vmm::ort {

/// ONNX Runtime's number of an element type; std::nullopt if it has none.
[[nodiscard]] std::optional<ONNXTensorElementDataType> to_ort(ElementType type) noexcept;
/// The inverse; ElementType::undefined for an unknown number.
[[nodiscard]] ElementType from_ort(ONNXTensorElementDataType type) noexcept;

}  // namespace ai_vmm::ort
