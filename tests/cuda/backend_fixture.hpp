// SPDX-License-Identifier: Apache-2.0
/// The backend over two devices of the host, and models for it.
#pragma once

#include <memory>
#include <numeric>
#include <string>
#include <vector>

#include "ai_vmm/error.hpp"
#include "backend.hpp"
#include "cuda/host_device.hpp"
#include "openvino/core/model.hpp"
#include "openvino/op/ops.hpp"

namespace ai_vmm::cuda::test {

struct TwoDevices {
    std::vector<std::shared_ptr<HostDevice>> devices{std::make_shared<HostDevice>(), std::make_shared<HostDevice>(HostDeviceOptions{.ordinal = 1})};
    Backend backend{[this] {
                        std::vector<DeviceEntry> entries;
                        for (std::size_t n = 0; n < devices.size(); ++n) {
                            DeviceInfo info;
                            info.routes.push_back({"cuda", "GPU." + std::to_string(n), "test", {"f32"}, {}});
                            entries.push_back({info, [device = devices[n]] { return device; }, static_cast<int>(n)});
                        }
                        return entries;
                    },
                    "test"};
    [[nodiscard]] std::unique_ptr<backend::Executable> compile(const backend::Model& model, int device = 0, Precision precision = Precision::f32) {
        backend::CompileConfig how = config(device);
        how.precision = precision;
        return backend.compile(model, how);
    }
    [[nodiscard]] static backend::CompileConfig config(int device = 0) {
        backend::CompileConfig config;
        config.device = "GPU." + std::to_string(device);
        return config;
    }
    [[nodiscard]] Tensor on(int device, const Tensor& tensor) {
        Tensor there = Tensor::wanted_in({MemoryKind::cuda, device});
        backend.copy(tensor, there);
        return there;
    }
    [[nodiscard]] std::vector<float> values(const Tensor& tensor) {
        Tensor here;
        backend.copy(tensor, here);
        const auto span = here.as<float>();
        return {span.begin(), span.end()};
    }
};

inline backend::Model wrapped(const std::shared_ptr<ov::Model>& graph) {
    backend::Model model;
    model.graph = graph;
    const auto describe = [](const ov::Output<const ov::Node>& port, const std::string& name) {
        TensorInfo info{.name = name, .type = port.get_element_type() == ov::element::f32 ? ElementType::f32 : ElementType::i64, .shape = {}};
        for (const auto& size : port.get_partial_shape()) info.shape.push_back(size.is_static() ? size.get_length() : -1);
        return info;
    };
    const ov::Model& seen = *graph;
    for (std::size_t k = 0; k < seen.inputs().size(); ++k) {
        model.inputs.push_back(describe(seen.input(k), "in" + std::to_string(k)));
        model.graph_inputs.push_back(static_cast<int>(k));
    }
    for (std::size_t k = 0; k < seen.outputs().size(); ++k) {
        model.outputs.push_back(describe(seen.output(k), "out" + std::to_string(k)));
        model.graph_outputs.push_back(static_cast<int>(k));
    }
    return model;
}

/// relu(x w + b) with weights of `size` x `size`, made anew by each call.
inline backend::Model layer(std::size_t size, std::size_t layers = 1) {
    const auto x = std::make_shared<ov::op::v0::Parameter>(ov::element::f32, ov::Shape{4, size});
    ov::Output<ov::Node> y = x;
    for (std::size_t n = 0; n < layers; ++n) {
        std::vector<float> w(size * size), b(size);
        for (std::size_t i = 0; i < w.size(); ++i) w[i] = static_cast<float>(static_cast<double>((i * 7 + n) % 13) / 13 - 0.5);
        std::iota(b.begin(), b.end(), static_cast<float>(n));
        const auto product =
            std::make_shared<ov::op::v0::MatMul>(y, std::make_shared<ov::op::v0::Constant>(ov::element::f32, ov::Shape{size, size}, w));
        y = std::make_shared<ov::op::v0::Relu>(
            std::make_shared<ov::op::v1::Add>(product, std::make_shared<ov::op::v0::Constant>(ov::element::f32, ov::Shape{size}, b)));
    }
    return wrapped(std::make_shared<ov::Model>(ov::OutputVector{y}, ov::ParameterVector{x}));
}

inline Tensor ramp(const Shape& shape, float first) {
    Tensor tensor(ElementType::f32, shape);
    const auto span = tensor.as<float>();
    for (std::size_t i = 0; i < span.size(); ++i) span[i] = first + static_cast<float>(i % 17);
    return tensor;
}

}  // namespace ai_vmm::cuda::test
