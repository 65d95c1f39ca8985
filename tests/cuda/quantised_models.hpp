// SPDX-License-Identifier: Apache-2.0
/// Parts of quantised models, as readers give them.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "cuda/library_device.hpp"
#include "cuda/trial.hpp"
#include "lower/lower.hpp"

namespace ai_vmm::cuda::test {

/// Integers of [low, high].
inline Output integers(const ov::element::Type& type, const ov::Shape& shape, int low, int high, unsigned seed = 1) {
    std::vector<int> values(ov::shape_size(shape));
    std::uint32_t state = 4321U * seed;
    for (int& value : values) {
        state = state * 1664525U + 1013904223U;
        value = low + static_cast<int>((state >> 16) % static_cast<std::uint32_t>(high - low + 1));
    }
    return std::make_shared<ov::op::v0::Constant>(type, shape, values);
}

inline Output number(double value) { return Trial::constant(ov::element::f32, {}, {value}); }

/// (q - zero) * scale with a scale for each column.
inline Output weights(const ov::element::Type& type, const ov::Shape& shape, const ov::Shape& columns, int zero = 0, unsigned seed = 1) {
    const int low = type == ov::element::u8 ? 0 : -127, high = type == ov::element::u8 ? 255 : 127;
    Output w = make<ov::op::v0::Convert>(integers(type, shape, low, high, seed), ov::element::f32);
    if (zero != 0)
        w = make<ov::op::v1::Subtract>(
            w, make<ov::op::v0::Convert>(Trial::constant(type, columns, std::vector<double>(ov::shape_size(columns), zero)), ov::element::f32));
    return make<ov::op::v1::Multiply>(w, std::make_shared<ov::op::v0::Constant>(spread(ov::element::f32, columns, 0.001, 0.002, 3)));
}

inline Output fake_quantized(const Output& x, double low, double high, std::size_t levels = 256) {
    return make<ov::op::v0::FakeQuantize>(x, number(low), number(high), number(low), number(high), levels);
}

/// What OpenVINO's reader makes of QuantizeLinear and DequantizeLinear.
inline Output through_integers(const Output& x, double scale, int zero, const ov::element::Type& type) {
    const int least = type == ov::element::u8 ? 0 : -128;
    const auto bound = [&](int step) { return number((step - zero) * scale); };
    const auto steps = make<ov::op::v0::FakeQuantize>(x, bound(least), bound(least + 255), number(least), number(least + 255), 256);
    const Output q = make<ov::op::v0::Convert>(steps, type);
    return make<ov::op::v1::Multiply>(
        make<ov::op::v1::Subtract>(make<ov::op::v0::Convert>(q, ov::element::f32),
                                   make<ov::op::v0::Convert>(Trial::constant(type, {}, {static_cast<double>(zero)}), ov::element::f32)),
        number(scale));
}

inline std::shared_ptr<ov::Model> model(const ov::OutputVector& inputs, const Output& y) {
    ov::ParameterVector parameters;
    for (const Output& input : inputs) parameters.push_back(ov::as_type_ptr<ov::op::v0::Parameter>(input.get_node_shared_ptr()));
    return std::make_shared<ov::Model>(ov::OutputVector{y}, parameters);
}

inline Graph lowered(const ov::OutputVector& inputs, const Output& y, const LowerOptions& options = {}) {
    std::vector<Dims> shapes;
    for (const Output& input : inputs) shapes.emplace_back(input.get_shape().begin(), input.get_shape().end());
    return lower(with_shapes(*model(inputs, y), shapes), options);
}

/// What kernels are generated for a GPU.
class LikeAGpu : public LibraryDevice {
public:
    LikeAGpu() : capabilities_(LibraryDevice::capabilities()) {
        capabilities_.threads_per_block = 256;
        capabilities_.multiprocessors = 132;
        capabilities_.compute_major = 9;
    }
    [[nodiscard]] const Capabilities& capabilities() const noexcept override { return capabilities_; }

private:
    Capabilities capabilities_;
};

}  // namespace ai_vmm::cuda::test
