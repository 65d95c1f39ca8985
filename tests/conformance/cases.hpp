// SPDX-License-Identifier: Apache-2.0
/// Short forms for writing operator tests. Included by files of cases only.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "openvino/op/constant.hpp"
#include "suite.hpp"

namespace ai_vmm::conformance {

inline ov::element::Type engine_type(ElementType type) { return ov::element::Type(std::string(to_string(type))); }

/// "2x3x4"; "scalar" for [].
inline std::string name_of(const Shape& shape) {
    std::string text;
    for (const std::int64_t size : shape) text += (text.empty() ? "" : "x") + std::to_string(size);
    return text.empty() ? "scalar" : text;
}

/// A Constant with the elements of `array`.
inline ov::Output<ov::Node> constant(const Array& array, ElementType type = ElementType::f32) {
    const Tensor tensor = to_tensor(array, type);
    return std::make_shared<ov::op::v0::Constant>(engine_type(type), ov::Shape(array.shape.begin(), array.shape.end()), tensor.data());
}
/// A Constant of rank 1 and type i64.
inline ov::Output<ov::Node> list(const std::vector<std::int64_t>& values) {
    return ov::op::v0::Constant::create(ov::element::i64, ov::Shape{values.size()}, values);
}
inline ov::Output<ov::Node> number(std::int64_t value) { return ov::op::v0::Constant::create(ov::element::i64, ov::Shape{}, {value}); }

template <typename Op, typename... Arguments>
ov::OutputVector one(Arguments&&... arguments) {
    return std::make_shared<Op>(std::forward<Arguments>(arguments)...)->outputs();
}

}  // namespace ai_vmm::conformance
