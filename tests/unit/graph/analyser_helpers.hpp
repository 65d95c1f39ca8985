// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <memory>
#include <openvino/core/model.hpp>
#include <openvino/op/constant.hpp>
#include <openvino/op/parameter.hpp>
#include <string>
#include <vector>

#include "ai_vmm/model.hpp"
#include "graph/analyser.hpp"

namespace ai_vmm::graph {

inline std::shared_ptr<ov::op::v0::Constant> weights(const ov::Shape& shape, ov::element::Type type = ov::element::f32) {
    return ov::op::v0::Constant::create(type, shape, std::vector<float>(ov::shape_size(shape), 1.0f));
}
inline std::shared_ptr<ov::op::v0::Constant> integers(const std::vector<std::int64_t>& values) {
    return ov::op::v0::Constant::create(ov::element::i64, {values.size()}, values);
}
inline std::shared_ptr<ov::op::v0::Parameter> input(const std::string& name, const ov::PartialShape& shape,
                                                    ov::element::Type type = ov::element::f32) {
    auto parameter = std::make_shared<ov::op::v0::Parameter>(type, shape);
    parameter->set_friendly_name(name);
    parameter->output(0).set_names({name});
    return parameter;
}

inline TensorInfo info_of(const ov::Output<const ov::Node>& port, const std::string& fallback) {
    TensorInfo info;
    info.name = port.get_names().empty() ? fallback : *port.get_names().begin();
    if (const auto type = element_type_from_string(port.get_element_type().get_type_name())) info.type = *type;
    info.rank_known = port.get_partial_shape().rank().is_static();
    if (info.rank_known) {
        for (const ov::Dimension& value : port.get_partial_shape()) info.shape.push_back(value.is_static() ? value.get_length() : -1);
    }
    return info;
}

inline backend::Model as_model(const std::shared_ptr<const ov::Model>& graph) {
    backend::Model model;
    model.graph = graph;
    for (const auto& port : graph->inputs()) {
        model.graph_inputs.push_back(static_cast<int>(model.inputs.size()));
        model.inputs.push_back(info_of(port, "input" + std::to_string(model.inputs.size())));
    }
    for (const auto& port : graph->outputs()) {
        model.graph_outputs.push_back(static_cast<int>(model.outputs.size()));
        model.outputs.push_back(info_of(port, "output" + std::to_string(model.outputs.size())));
    }
    return model;
}

inline ModelProfile profile_of(const std::shared_ptr<const ov::Model>& graph, const std::vector<std::pair<std::string, Shape>>& shapes = {}) {
    return analyse({}, as_model(graph), shapes);
}

inline ModelProfile profile_of(const ov::OutputVector& results, const ov::ParameterVector& parameters,
                               const std::vector<std::pair<std::string, Shape>>& shapes = {}) {
    return profile_of(std::make_shared<ov::Model>(results, parameters), shapes);
}

/// The first node of that type, which must be there.
inline NodeProfile node_of(const ModelProfile& profile, const std::string& type) {
    for (const NodeProfile& node : profile.nodes) {
        if (node.type == type) return node;
    }
    ADD_FAILURE() << "no " << type;
    return {};
}

/// Folder with the real models; empty where it is missing.
inline std::filesystem::path real_models() {
    const char* variable = std::getenv("AI_VMM_TEST_MODELS");
    std::filesystem::path path = variable && *variable ? variable : AI_VMM_TEST_MODELS;
    return std::filesystem::exists(path / "MANIFEST.md") ? path : std::filesystem::path();
}

}  // namespace ai_vmm::graph
