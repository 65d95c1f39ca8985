// SPDX-License-Identifier: Apache-2.0
/// Any element type as double and back. Small pure functions, thread-safe; nothing here allocates or throws.
#pragma once

#include <cstddef>
#include <cstdint>

#include "ai_vmm/tensor.hpp"

namespace ai_vmm {

/// IEEE 754 binary16. https://standards.ieee.org/ieee/754/6210/
[[nodiscard]] AI_VMM_API double f16_to_double(std::uint16_t bits) noexcept;
/// The upper half of an f32.
[[nodiscard]] AI_VMM_API double bf16_to_double(std::uint16_t bits) noexcept;
/// 8-bit floats. E4M3FN and E5M2: OCP 8-bit Floating Point Specification 1.0; the FNUZ forms and E8M0: ONNX "Float stored in 8 bits".
[[nodiscard]] AI_VMM_API double f8_to_double(ElementType type, std::uint8_t bits) noexcept;
/// OCP E2M1 and the 4-bit normal float of QLoRA (arXiv:2305.14314, appendix E).
[[nodiscard]] AI_VMM_API double f4_to_double(ElementType type, unsigned nibble) noexcept;

/// True for the types whose values are compared within a tolerance.
[[nodiscard]] AI_VMM_API bool is_float(ElementType type) noexcept;
[[nodiscard]] AI_VMM_API bool is_complex(ElementType type) noexcept;

/// Element `index` of a buffer of `type`; of a complex type its parts count as two elements. 0 for strings.
/// 64-bit integers beyond 2^53 are rounded: compare those as integers.
[[nodiscard]] AI_VMM_API double element_at(ElementType type, const void* data, std::size_t index) noexcept;

/// Stores `value` as element `index`, rounded to nearest; integers saturate. Types under 8 bits and 8-bit floats take the bits of the
/// nearest code. Strings are left alone.
AI_VMM_API void store_element(ElementType type, void* data, std::size_t index, double value) noexcept;

}  // namespace ai_vmm
