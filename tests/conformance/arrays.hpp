// SPDX-License-Identifier: Apache-2.0
/// Numbers independent of any engine: what reference code computes with.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "ai_vmm/tensor.hpp"

namespace ai_vmm::conformance {

/// A dense array of doubles, row-major. Exact for every element type but the extremes of i64 and u64.
struct Array {
    Shape shape;
    std::vector<double> values;

    Array() = default;
    explicit Array(Shape dims, double fill = 0);
    Array(Shape dims, std::vector<double> data) : shape(std::move(dims)), values(std::move(data)) {}

    [[nodiscard]] std::int64_t rank() const { return static_cast<std::int64_t>(shape.size()); }
    [[nodiscard]] std::size_t size() const { return values.size(); }
    [[nodiscard]] double& operator[](std::size_t i) { return values[i]; }
    [[nodiscard]] double operator[](std::size_t i) const { return values[i]; }
};

/// Evenly spread values in [low, high], the same on every machine; different for different seeds.
[[nodiscard]] Array spread(const Shape& shape, double low, double high, std::uint32_t seed = 1);
/// spread() rounded to whole numbers.
[[nodiscard]] Array whole(const Shape& shape, double low, double high, std::uint32_t seed = 1);
/// 0, 1, 2, …
[[nodiscard]] Array counting(const Shape& shape, double start = 0);

/// Elements rounded to the type as a processor does it (to nearest even; whole numbers are cut off towards zero).
/// @throws Error(invalid_argument) strings and complex types.
[[nodiscard]] Tensor to_tensor(const Array& array, ElementType type);
[[nodiscard]] Array to_array(const Tensor& tensor);

/// How far a value may be off: |found - expected| <= absolute + relative * |expected|.
struct Tolerance {
    double absolute = 0;
    double relative = 0;
};
/// What one rounding of a result in `type` costs, and some more for sums in another order; zero for whole numbers.
[[nodiscard]] Tolerance default_tolerance(ElementType type);

/// std::nullopt if `found` has the shape and values of `expected`; otherwise the first difference in words. NaN equals NaN.
[[nodiscard]] std::optional<std::string> difference(const Tensor& found, const Array& expected, Tolerance tolerance);

/// Strides of a dense array.
[[nodiscard]] std::vector<std::size_t> strides_of(const Shape& shape);
/// Calls `visit` with every index of `shape` in order.
void for_each_index(const Shape& shape, const std::function<void(const Shape& index)>& visit);
[[nodiscard]] std::size_t offset_of(const Shape& shape, const Shape& index);

}  // namespace ai_vmm::conformance
