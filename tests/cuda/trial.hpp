// SPDX-License-Identifier: Apache-2.0
/// Operations run as generated kernels on a HostDevice, compared with OpenVINO.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "openvino/core/model.hpp"
#include "openvino/op/ops.hpp"
#include "openvino/runtime/tensor.hpp"
#include "program/schedule.hpp"

namespace ai_vmm::cuda::test {

using Output = ov::Output<ov::Node>;

/// A node of OpenVINO's, to be another one's input.
template <typename Op, typename... Arguments>
std::shared_ptr<ov::Node> make(Arguments&&... arguments) {
    return std::make_shared<Op>(std::forward<Arguments>(arguments)...);
}

/// Every element type that values of a model may have and both sides compute with.
[[nodiscard]] const std::vector<ov::element::Type>& float_types();    ///< f32 f16 bf16 f64
[[nodiscard]] const std::vector<ov::element::Type>& integer_types();  ///< i8 to i64, u8 to u64
[[nodiscard]] std::vector<ov::element::Type> number_types();          ///< both

/// A tensor with these values.
[[nodiscard]] ov::Tensor tensor(const ov::element::Type& type, const ov::Shape& shape, const std::vector<double>& values);
/// A tensor of values spread evenly over [low, high] by a fixed sequence, integers for integer types.
[[nodiscard]] ov::Tensor spread(const ov::element::Type& type, const ov::Shape& shape, double low, double high, unsigned seed);

/// One small model: inputs are made as they are asked for, spread or given, then compare() runs it on both sides. A failure of a comparison is a test
/// failure.
class Trial {
public:
    /// @param device  what runs it; nullptr: a HostDevice
    explicit Trial(std::string what, std::shared_ptr<Device> device = nullptr) : what_(std::move(what)), device_(std::move(device)) {}
    ov::Output<ov::Node> in(const ov::element::Type& type, const ov::Shape& shape, double low = -3, double high = 3);
    ov::Output<ov::Node> given(const ov::element::Type& type, const ov::Shape& shape, const std::vector<double>& values);
    static ov::Output<ov::Node> constant(const ov::element::Type& type, const ov::Shape& shape, const std::vector<double>& values);
    static ov::Output<ov::Node> ints(const std::vector<std::int64_t>& values);  ///< i64, one dimension
    static ov::Output<ov::Node> scalar(std::int64_t value);                     ///< i64

    /// Where OpenVINO has no evaluation of an operation its CPU plugin computes it, in f32. @param tolerance  of floats: |a - b| <= tolerance * (1 +
    /// |b|), and no less than the element type's own precision.
    void compare(const ov::OutputVector& results, double tolerance = 2e-6);
    void compare(const std::shared_ptr<ov::Node>& node, double tolerance = 2e-6) { compare(node->outputs(), tolerance); }
    /// Against values known from elsewhere, per result.
    void expect(const ov::OutputVector& results, const std::vector<ov::Tensor>& expected, double tolerance = 2e-6);
    /// What the device computes.
    [[nodiscard]] std::vector<ov::Tensor> run(const ov::OutputVector& results);

private:
    [[nodiscard]] std::shared_ptr<ov::Model> model(const ov::OutputVector& results) const;

    std::string what_;
    std::shared_ptr<Device> device_;
    ov::ParameterVector parameters_;
    std::vector<ov::Tensor> inputs_;
};

/// Runs a network of the one input `x`, spread over [-1, 1], with its floats in f16 on `device`, compares with OpenVINO in f32, and gives what ran.
/// @param tolerance  |a - b| <= tolerance * (1 + |b|)
Schedule compare_in_f16(const std::shared_ptr<Device>& device, const Output& x, const Output& y, double tolerance);
/// `y` with a bias per channel and ReLU.
[[nodiscard]] Output with_bias(const Output& y, std::size_t channels);
/// This machine's first GPU; nullptr where there is none, and in `missing` why.
[[nodiscard]] std::shared_ptr<Device> first_gpu(std::string& missing);

}  // namespace ai_vmm::cuda::test
