// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>
#include <cstring>

#include "backend.hpp"
#include "openvino/runtime/core.hpp"
#include "openvino/runtime/properties.hpp"
#include "support.hpp"

namespace ai_vmm::ort::test {

inline ElementType element_type_of(ov::element::Type type) {
    const std::string name = type.get_type_name();
    return name == "boolean" ? ElementType::boolean : element_type_from_string(name).value_or(ElementType::undefined);
}

inline TensorInfo info_of(const std::string& name, const ov::Output<const ov::Node>& port) {
    TensorInfo info{.name = name, .type = element_type_of(port.get_element_type())};
    const ov::PartialShape& shape = port.get_partial_shape();
    info.rank_known = shape.rank().is_static();
    if (info.rank_known) {
        for (const ov::Dimension& dim : shape) info.shape.push_back(dim.is_static() ? dim.get_length() : -1);
    }
    return info;
}

/// A model that is known by its graph only.
inline backend::Model graph_model(const std::shared_ptr<const ov::Model>& graph) {
    backend::Model model;
    model.graph = graph;
    model.format = ModelFormat::openvino_ir;
    model.name = graph->get_friendly_name();
    for (std::size_t i = 0; i < graph->inputs().size(); ++i) {
        model.inputs.push_back(info_of("in" + std::to_string(i), graph->input(i)));
        model.graph_inputs.push_back(static_cast<int>(i));
    }
    for (std::size_t i = 0; i < graph->outputs().size(); ++i) {
        model.outputs.push_back(info_of("out" + std::to_string(i), graph->output(i)));
        model.graph_outputs.push_back(static_cast<int>(i));
    }
    return model;
}

/// Never destroyed: it would unload the readers' libraries, of whose leaks a sanitizer could then not tell whose they are.
inline ov::Core& core() {
    static ov::Core* const instance = new ov::Core();
    return *instance;
}

inline std::vector<Tensor> run_openvino(const backend::Model& model, const std::vector<Tensor>& inputs) {
    const std::shared_ptr<ov::Model> copy = model.graph->clone();
    // Both engines in integers where the processor adds those up exactly; elsewhere OpenVINO in f32 between a quantised model's own roundings.
    const bool exact = __builtin_cpu_supports("avx512vnni") || __builtin_cpu_supports("avxvnni") || __builtin_cpu_supports("amx-int8");
    ov::CompiledModel compiled = core().compile_model(copy, "CPU", ov::hint::inference_precision(ov::element::f32), ov::inference_num_threads(1),
                                                      ov::num_streams(1), std::pair<std::string, ov::Any>{"LP_TRANSFORMS_MODE", exact});
    ov::InferRequest request = compiled.create_infer_request();
    for (std::size_t i = 0; i < inputs.size(); ++i) {
        const ov::Shape shape(inputs[i].shape().begin(), inputs[i].shape().end());
        request.set_input_tensor(i, ov::Tensor(model.graph->input(i).get_element_type(), shape, const_cast<void*>(inputs[i].data())));
    }
    request.infer();
    std::vector<Tensor> outputs;
    for (std::size_t i = 0; i < model.outputs.size(); ++i) {
        ov::Tensor tensor = request.get_output_tensor(i);
        const ov::Shape shape = tensor.get_shape();
        Tensor output(model.outputs[i].type, Shape(shape.begin(), shape.end()));
        std::memcpy(output.data(), tensor.data(), tensor.get_byte_size());
        outputs.push_back(std::move(output));
    }
    return outputs;
}

inline std::vector<Tensor> run_onnxruntime(const backend::Model& model, const std::vector<Tensor>& inputs) {
    OrtBackend engine;
    const auto executable = engine.compile(model, {.device = "CPU"});
    std::vector<Tensor> outputs(model.outputs.size());
    executable->create_request()->run(inputs, outputs);
    return outputs;
}

inline double element(const Tensor& tensor, std::size_t i) {
    switch (tensor.type()) {
        case ElementType::f32: return static_cast<double>(tensor.as<float>()[i]);
        case ElementType::f64: return tensor.as<double>()[i];
        case ElementType::i8: return tensor.as<std::int8_t>()[i];
        case ElementType::u8: return tensor.as<std::uint8_t>()[i];
        case ElementType::i16: return tensor.as<std::int16_t>()[i];
        case ElementType::u16: return tensor.as<std::uint16_t>()[i];
        case ElementType::i32: return tensor.as<std::int32_t>()[i];
        case ElementType::u32: return tensor.as<std::uint32_t>()[i];
        case ElementType::i64: return static_cast<double>(tensor.as<std::int64_t>()[i]);
        case ElementType::u64: return static_cast<double>(tensor.as<std::uint64_t>()[i]);
        case ElementType::boolean: return tensor.as<bool>()[i] ? 1 : 0;
        case ElementType::f16: return static_cast<double>(static_cast<float>(static_cast<const ov::float16*>(tensor.data())[i]));
        default: return NAN;
    }
}

/// Largest difference relative to the largest magnitude of the output (at least 1e-3); infinity if shapes, types or non-finite values differ.
inline double difference(const Tensor& want, const Tensor& got) {
    if (want.shape() != got.shape() || want.type() != got.type()) return INFINITY;
    double worst = 0, scale = 1e-3;
    for (std::size_t i = 0; i < want.element_count(); ++i) {
        const double a = element(want, i), b = element(got, i);
        if (std::isfinite(a)) scale = std::max(scale, std::abs(a));
        if (a == b || (std::isnan(a) && std::isnan(b))) continue;
        if (!std::isfinite(a) || !std::isfinite(b)) return INFINITY;
        worst = std::max(worst, std::abs(a - b));
    }
    return worst / scale;
}

/// Compiles `graph` with both engines, runs both on `inputs`, expects each output within `tolerance` (see difference()).
inline void expect_same(const std::shared_ptr<const ov::Model>& graph, const std::vector<Tensor>& inputs, double tolerance = 1e-4) {
    const backend::Model model = graph_model(graph);
    std::vector<Tensor> got;
    try {
        got = run_onnxruntime(model, inputs);
    } catch (const Error& error) {
        FAIL() << error.what();
    }
    const std::vector<Tensor> want = run_openvino(model, inputs);
    for (std::size_t i = 0; i < want.size(); ++i) {
        EXPECT_EQ(to_string(want[i].shape()), to_string(got[i].shape())) << "output " << i;
        EXPECT_LE(difference(want[i], got[i]), tolerance) << "output " << i;
    }
}

}  // namespace ai_vmm::ort::test
