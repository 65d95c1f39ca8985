// SPDX-License-Identifier: Apache-2.0
// Control flow. Bodies become ONNX subgraphs, which see the values around them: what a body takes unchanged needs no input.
#include "context.hpp"
#include "openvino/op/if.hpp"

namespace ai_vmm::ort {
namespace {

void if_op(Context& context, const ov::Node& node) {
    const auto& op = static_cast<const ov::op::v8::If&>(node);
    std::vector<std::string> refusals;
    GraphBytes branches[2];
    for (int branch = 0; branch < 2; ++branch) {
        const std::shared_ptr<const ov::Model> body = op.get_function(branch);
        Context inner(context.dry(), context.graph.counter());
        for (const auto& input : op.get_input_descriptions(branch)) {
            const auto& parameter = body->get_parameters()[input->m_body_parameter_index];
            const std::string outer = context.in(node, input->m_input_index);
            context.graph.keep(outer);
            inner.set(*parameter, 0, outer);
        }
        lower_body(inner, *body, context.dry() ? &refusals : nullptr);
        // Outputs of both branches in the order of the node's own.
        std::vector<std::size_t> results(node.get_output_size());
        for (const auto& output : op.get_output_descriptions(branch)) results[output->m_output_index] = output->m_body_value_index;
        for (std::size_t i = 0; i < results.size(); ++i) {
            const ov::Output<ov::Node> value = body->get_results()[results[i]]->input_value(0);
            std::string name = inner.cast(inner.value(value), value.get_element_type(), node.get_output_element_type(i));
            inner.graph.output(context.graph.fresh(), name, onnx_type(node.get_output_element_type(i)), {}, false);
        }
        branches[branch] = inner.graph.serialize(branch == 0 ? "then" : "else");
    }
    if (!refusals.empty()) throw Refusal(refusals.front());
    std::string condition = context.in_as(node, 0, ov::element::boolean);
    if (rank_of(node, node.get_input_partial_shape(0)) != 0) condition = context.graph.add("Reshape", {condition, context.graph.ints({})});
    const auto names =
        context.graph.add_many("If", {condition}, node.get_output_size(), {{"then_branch", branches[0]}, {"else_branch", branches[1]}});
    for (std::size_t i = 0; i < names.size(); ++i) context.set(node, i, names[i]);
}

void stateful(Context&, const ov::Node& node) { refuse(node, "the model keeps state between executions"); }

}  // namespace

void add_control_handlers(HandlerTable& table) {
    table["If"] = if_op;
    table["ReadValue"] = stateful;
    table["Assign"] = stateful;
}

}  // namespace ai_vmm::ort
