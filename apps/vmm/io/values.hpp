// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "ai_vmm/elements.hpp"
#include "ai_vmm/model.hpp"
#include "ai_vmm/tensor.hpp"

namespace ai_vmm::cli {

[[nodiscard]] bool is_floating(ElementType type) noexcept;
[[nodiscard]] bool is_integer(ElementType type) noexcept;

/// Element `index` as a double: the modulus of a complex number, NaN for a string. 64-bit integers are rounded.
[[nodiscard]] double value_at(const Tensor& tensor, std::size_t index);
/// Element `index` as text, integers exactly.
[[nodiscard]] std::string text_at(const Tensor& tensor, std::size_t index);
/// Stores a number, rounded to the nearest and clipped to the range of the element type.
/// @throws Error(invalid_argument) the type holds no real numbers that can be written (string, complex, 8-bit and 4-bit floats).
void store(Tensor& tensor, std::size_t index, double value);

/// The tensor in another element type: integers exactly, floats rounded to the nearest.
/// @throws Error(invalid_argument) a value does not fit, or no conversion between the types is offered; the index is given.
[[nodiscard]] Tensor cast(const Tensor& tensor, ElementType type);

/// A tensor from comma-separated numbers (or, for `string`, the text itself). The shape is the input's if the count fits it,
/// with one free dimension solved for and any further ones 1.
/// @throws Error(invalid_argument) not a number, out of range, or a count that the shape can't have.
[[nodiscard]] Tensor tensor_from_text(std::string_view text, const TensorInfo& info);

/// Whether all of the text is comma-separated numbers.
[[nodiscard]] bool looks_like_numbers(std::string_view text);

/// What a person wants to know of many values. NaN and infinities are counted, not averaged.
struct Summary {
    std::size_t count = 0;
    std::size_t nan = 0;
    std::size_t infinite = 0;
    double min = 0;
    double max = 0;
    double mean = 0;
    double deviation = 0;
};
[[nodiscard]] Summary summarise(const Tensor& tensor);
/// "[0.1, 0.2, 0.3, … 4 more]" in row-major order.
[[nodiscard]] std::string preview(const Tensor& tensor, std::size_t limit);

/// One class of a classifier's answer.
struct Ranked {
    std::size_t index = 0;
    double score = 0;
};
/// The `k` largest values of row `row` along the last axis (or the last axis that is not 1), largest first, ties by index.
/// @throws Error(invalid_argument) strings or complex numbers.
[[nodiscard]] std::vector<Ranked> top_k(const Tensor& tensor, std::size_t row, std::size_t k, bool softmax);
/// Length of the axis that top_k() ranks.
[[nodiscard]] std::size_t class_count(const Tensor& tensor);

/// How far outputs are apart. Integers, booleans and strings must be equal.
struct Difference {
    bool comparable = true;         ///< same type class, shape
    double relative_error = 0;      ///< ||a-b||2 / ||b||2
    double max_scaled_error = 0;    ///< max |a-b| / max |b|
    std::size_t unequal_exact = 0;  ///< integer, boolean or string elements that differ
    bool same_top = true;           ///< same largest element per row of the last axis, ties within 1e-6 of the scale excepted
    std::string reason;             ///< why not comparable
};
[[nodiscard]] Difference compare(const Tensor& tensor, const Tensor& reference);

}  // namespace ai_vmm::cli
