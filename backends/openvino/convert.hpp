// SPDX-License-Identifier: Apache-2.0
/// OpenVINO's types, shapes and exceptions in AI VMM's terms.
#pragma once

#include <exception>
#include <optional>
#include <string>
#include <string_view>

#include "ai_vmm/constraints.hpp"
#include "ai_vmm/error.hpp"
#include "ai_vmm/tensor.hpp"
#include "openvino/core/shape.hpp"
#include "openvino/core/type/element_type.hpp"

namespace ai_vmm::openvino {

/// std::nullopt for what only one side has (OpenVINO's u3 and u6, the complex types and the FNUZ forms of f8) and for u1, whose first
/// element OpenVINO keeps in the high bit.
[[nodiscard]] std::optional<ov::element::Type> to_openvino(ElementType type) noexcept;
[[nodiscard]] std::optional<ElementType> from_openvino(ov::element::Type type) noexcept;

/// The element type that a compute precision stands for.
/// @throws Error(invalid_argument) `automatic`, which is to be decided before a backend is asked.
[[nodiscard]] ov::element::Type precision_type(Precision precision);

[[nodiscard]] Shape from_openvino(const ov::Shape& shape);
/// True if both name the same dimensions. Allocates nothing.
[[nodiscard]] bool equal(const Shape& left, const ov::Shape& right) noexcept;
/// Writes `from` into `to`, reusing its memory.
void assign(ov::Shape& to, const Shape& from);

/// A vendor message on one line, without "Exception from file:line" and the vendor's source paths.
[[nodiscard]] std::string clean_message(std::string_view message);

enum class Phase { query, compile, import_blob, export_blob, create_request, run };

/// Rethrows the exception being handled as ai_vmm::Error; to be called in a catch block only. An Error passes unchanged.
[[noreturn]] void rethrow_as_error(Phase phase);

}  // namespace ai_vmm::openvino
