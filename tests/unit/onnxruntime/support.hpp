// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <random>
#include <string>
#include <vector>

#include "ai_vmm/backend/backend.hpp"
#include "session.hpp"

namespace ai_vmm::ort::test {

inline std::filesystem::path models_folder() {
    const char* chosen = std::getenv("AI_VMM_TEST_MODELS");
    return chosen != nullptr ? chosen : AI_VMM_TEST_MODELS;
}

/// An ONNX model with inputs and outputs as the engine itself reports them.
inline backend::Model onnx_model(backend::Model model) {
    model.format = ModelFormat::onnx;
    const Ports ports = ports_of(make_session(load_onnx(model), {.device = "CPU"}).get());
    for (const Port& port : ports.inputs) model.inputs.push_back({.name = port.name, .type = port.type, .shape = port.shape});
    for (const Port& port : ports.defaults) {
        model.inputs.push_back({.name = port.name, .type = port.type, .shape = port.shape, .rank_known = true, .optional = true});
    }
    for (const Port& port : ports.outputs) model.outputs.push_back({.name = port.name, .type = port.type, .shape = port.shape});
    return model;
}

/// A tensor of reproducible values; unknown dimensions become 1.
inline Tensor random_tensor(const TensorInfo& info, unsigned seed = 1) {
    Shape shape = info.shape;
    for (auto& size : shape) size = size < 0 ? 1 : size;
    Tensor tensor(info.type, shape);
    std::mt19937 generator(seed);
    if (info.type == ElementType::f32) {
        std::uniform_real_distribution<float> values(-1, 1);
        for (float& value : tensor.as<float>()) value = values(generator);
    } else if (info.type == ElementType::i32) {
        for (auto& value : tensor.as<std::int32_t>()) value = static_cast<std::int32_t>(generator() % 100);
    } else if (info.type == ElementType::i64) {
        for (auto& value : tensor.as<std::int64_t>()) value = static_cast<std::int64_t>(generator() % 100);
    } else if (info.type == ElementType::i8 || info.type == ElementType::u8) {
        for (std::size_t i = 0; i < tensor.size_bytes(); ++i) static_cast<std::uint8_t*>(tensor.data())[i] = static_cast<std::uint8_t>(generator());
    } else if (info.type == ElementType::boolean) {
        for (bool& value : tensor.as<bool>()) value = generator() % 2 != 0;
    }
    return tensor;
}

inline std::vector<Tensor> random_inputs(const backend::Model& model, unsigned seed = 1) {
    std::vector<Tensor> inputs;
    for (const TensorInfo& info : model.inputs) inputs.push_back(random_tensor(info, seed++));
    return inputs;
}

/// The code of the Error that `function` throws; ok if none.
template <typename Function>
ErrorCode code_of(Function&& function) {
    try {
        function();
    } catch (const Error& error) {
        return error.code();
    }
    return ErrorCode::ok;
}

}  // namespace ai_vmm::ort::test
