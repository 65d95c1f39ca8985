// SPDX-License-Identifier: Apache-2.0
#include "graph/compared_values.hpp"

#include <algorithm>
#include <openvino/core/model.hpp>
#include <openvino/op/constant.hpp>
#include <openvino/op/util/multi_subgraph_base.hpp>
#include <set>
#include <string_view>

namespace ai_vmm::graph {
namespace {

/// Operations behind which a switch is still the same number.
bool passes(std::string_view type) {
    return type == "Convert" || type == "ConvertLike" || type == "Squeeze" || type == "Unsqueeze" || type == "Reshape" || type == "Identity";
}

std::shared_ptr<ov::op::v0::Constant> constant_behind(ov::Output<ov::Node> value) {
    while (passes(value.get_node()->get_type_name())) value = value.get_node()->input_value(0);
    return ov::as_type_ptr<ov::op::v0::Constant>(value.get_node_shared_ptr());
}

void follow(const ov::Output<ov::Node>& value, const std::string& name, std::set<ov::Output<ov::Node>>& seen, ComparedValues& found) {
    if (!seen.insert(value).second) return;
    for (const ov::Input<ov::Node>& target : value.get_target_inputs()) {
        ov::Node* node = target.get_node();
        const std::string_view type = node->get_type_name();
        if (type == "Equal" || type == "NotEqual") {
            const auto constant = constant_behind(node->input_value(1 - target.get_index()));
            if (constant && ov::shape_size(constant->get_shape()) == 1) add_value(found, name, constant->cast_vector<std::int64_t>().front());
        } else if (passes(type) && target.get_index() == 0) {
            follow(node->output(0), name, seen, found);
        } else if (auto* nested = dynamic_cast<ov::op::util::MultiSubGraphOp*>(node)) {
            for (std::size_t body = 0; body < nested->get_internal_subgraphs_size(); ++body) {
                for (const auto& input : nested->get_input_descriptions(static_cast<int>(body))) {
                    if (input->m_input_index != target.get_index()) continue;
                    follow(nested->get_function(body)->get_parameters().at(input->m_body_parameter_index)->output(0), name, seen, found);
                }
            }
        }
    }
}

}  // namespace

bool may_be_switch(const TensorInfo& info) noexcept {
    const bool integer =
        info.type == ElementType::i64 || info.type == ElementType::i32 || info.type == ElementType::u64 || info.type == ElementType::u32;
    return integer && info.rank_known && (info.shape.empty() || info.shape == Shape{1});
}

void add_value(ComparedValues& values, const std::string& name, std::int64_t value) {
    auto entry = std::ranges::find(values, name, &ComparedValues::value_type::first);
    if (entry == values.end()) entry = values.insert(values.end(), {name, {}});
    if (std::ranges::find(entry->second, value) == entry->second.end()) entry->second.push_back(value);
}

ComparedValues compared_values(const backend::Model& model) {
    ComparedValues found;
    if (!model.graph) return found;
    for (std::size_t i = 0; i < model.inputs.size() && i < model.graph_inputs.size(); ++i) {
        if (model.graph_inputs[i] < 0 || !may_be_switch(model.inputs[i])) continue;
        std::set<ov::Output<ov::Node>> seen;
        const auto& parameter = model.graph->get_parameters().at(static_cast<std::size_t>(model.graph_inputs[i]));
        follow(parameter->output(0), model.inputs[i].name, seen, found);
    }
    return found;
}

}  // namespace ai_vmm::graph
