// SPDX-License-Identifier: Apache-2.0
#include "graph/weights.hpp"

#include <algorithm>
#include <openvino/core/model.hpp>
#include <openvino/op/constant.hpp>
#include <string_view>
#include <unordered_set>

namespace ai_vmm::graph {
namespace {

bool is_source(const ov::Node& node) {
    const std::string_view type = node.get_type_name();
    return type == "Parameter" || type == "ReadValue" || type == "RandomUniform" || type == "Multinomial";
}

bool is_low_bit(const ov::element::Type& type) { return type.is_integral_number() && type.bitwidth() <= 8; }

}  // namespace

std::int64_t stored_bytes(const ov::op::v0::Constant& constant) {
    return static_cast<std::int64_t>((ov::shape_size(constant.get_shape()) * constant.get_element_type().bitwidth() + 7) / 8);
}

bool holds_weights(const ov::op::v0::Constant& constant) { return constant.get_element_type().is_real() || is_low_bit(constant.get_element_type()); }

bool holds_parameters(const Weights& weights, const ov::op::v0::Constant& root) {
    if (weights.main && is_low_bit(weights.main->get_element_type())) return &root == weights.main;  // not the scales and zero points
    return holds_weights(root) && !root.get_shape().empty();
}

ConstantAnalysis::ConstantAnalysis(const ov::Model& model) {
    for (const auto& node : model.get_ordered_ops()) {
        const std::string_view type = node->get_type_name();
        bool constant = false;
        if (type == "Constant") {
            constant = true;
        } else if (type == "ShapeOf") {
            constant = node->get_input_partial_shape(0).is_static();
        } else if (!is_source(*node) && node->get_input_size() > 0 && type != "Result" && type != "Assign") {
            constant = true;
            for (std::size_t i = 0; constant && i < node->get_input_size(); ++i) constant = is_constant(node->get_input_node_ptr(i));
        }
        constant_.emplace(node.get(), constant);
    }
}

bool ConstantAnalysis::is_constant(const ov::Node* node) const {
    const auto found = constant_.find(node);
    return found != constant_.end() && found->second;
}

Weights ConstantAnalysis::weights(const ov::Node* node, std::size_t input) const {
    Weights result;
    const ov::Node* source = node->get_input_node_ptr(input);
    if (!is_constant(source)) return result;
    bool fake_quantized = false;
    std::unordered_set<const ov::Node*> seen;
    std::vector<const ov::Node*> pending{source};
    while (!pending.empty()) {
        const ov::Node* current = pending.back();
        pending.pop_back();
        if (!seen.insert(current).second) continue;
        const std::string_view type = current->get_type_name();
        if (type == "Constant") {
            result.roots.push_back(static_cast<const ov::op::v0::Constant*>(current));
        } else if (type == "FakeQuantize") {
            fake_quantized = true;
            pending.push_back(current->get_input_node_ptr(0));  // the other inputs are its ranges
        } else if (type != "ShapeOf") {
            for (std::size_t i = 0; i < current->get_input_size(); ++i) pending.push_back(current->get_input_node_ptr(i));
        }
    }
    std::size_t largest = 0;
    bool low_bit = false;
    for (const auto* root : result.roots) {
        if (!holds_weights(*root)) continue;
        const std::size_t elements = ov::shape_size(root->get_shape());
        result.bytes += stored_bytes(*root);
        const bool root_low_bit = is_low_bit(root->get_element_type());
        if (!result.main || (root_low_bit && !low_bit) || (root_low_bit == low_bit && elements > largest)) {
            result.main = root;
            largest = elements;
            low_bit = root_low_bit;
        }
    }
    for (const auto* root : result.roots) {
        if (holds_parameters(result, *root)) result.parameters += static_cast<std::int64_t>(ov::shape_size(root->get_shape()));
    }
    result.quantized = low_bit || (fake_quantized && result.main);
    return result;
}

}  // namespace ai_vmm::graph
