// SPDX-License-Identifier: Apache-2.0
// Control flow. Bodies become ONNX subgraphs, which see the values around them: what a body takes unchanged needs no input.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <numeric>

#include "context.hpp"
#include "openvino/op/if.hpp"
#include "openvino/op/loop.hpp"
#include "openvino/op/tensor_iterator.hpp"

namespace ai_vmm::ort {
namespace {

using Ints = std::vector<std::int64_t>;
using Subgraph = ov::op::util::MultiSubGraphOp;

std::string outer_value(Context& context, const ov::Node& node, std::size_t index) {
    std::string name = context.in(node, index);
    context.graph.keep(name);
    return name;
}

// Body operations that are not lowered refuse the node around them.
void lower_inner(Context& inner, const ov::Model& body) {
    std::vector<std::string> refusals;
    lower_body(inner, body, inner.dry() ? &refusals : nullptr);
    if (!refusals.empty()) throw Refusal(refusals.front());
}

void if_op(Context& context, const ov::Node& node) {
    const auto& op = static_cast<const ov::op::v8::If&>(node);
    GraphBytes branches[2];
    for (int branch = 0; branch < 2; ++branch) {
        const std::shared_ptr<const ov::Model> body = op.get_function(branch);
        Context inner(context.dry(), context.graph.counter());
        for (const auto& input : op.get_input_descriptions(branch)) {
            inner.set(*body->get_parameters()[input->m_body_parameter_index], 0, outer_value(context, node, input->m_input_index));
        }
        lower_inner(inner, *body);
        // Outputs of both branches in the order of the node's own.
        std::vector<std::size_t> results(node.get_output_size());
        for (const auto& output : op.get_output_descriptions(branch)) results[output->m_output_index] = output->m_body_value_index;
        for (std::size_t i = 0; i < results.size(); ++i) {
            const ov::Output<ov::Node> value = body->get_results()[results[i]]->input_value(0);
            const std::string name = inner.cast(inner.value(value), value.get_element_type(), node.get_output_element_type(i));
            inner.graph.output(context.graph.fresh(), name, onnx_type(node.get_output_element_type(i)), {}, false);
        }
        branches[branch] = inner.graph.serialize(branch == 0 ? "then" : "else");
    }
    std::string condition = context.in_as(node, 0, ov::element::boolean);
    if (rank_of(node, node.get_input_partial_shape(0)) != 0) condition = context.graph.add("Reshape", {condition, context.graph.ints({})});
    const auto names =
        context.graph.add_many("If", {condition}, node.get_output_size(), {{"then_branch", branches[0]}, {"else_branch", branches[1]}});
    for (std::size_t i = 0; i < names.size(); ++i) context.set(node, i, names[i]);
}

/// Part number `iteration` (i64, rank 0, in `inner`) of the outer value `source`.
std::string part_of(Context& inner, const ov::Node& node, const std::string& source, const Subgraph::SliceInputDescription& slice,
                    const std::string& iteration) {
    OnnxGraph& g = inner.graph;
    const ov::PartialShape& shape = node.get_input_partial_shape(slice.m_input_index);
    const std::int64_t axis = positive_axis(slice.m_axis, rank_of(node, shape));
    const std::string offset = g.add("Mul", {g.add("Unsqueeze", {iteration, g.ints({0})}), g.ints({slice.m_stride})});
    std::string first, last;
    if (slice.m_stride > 0) {
        if (slice.m_start < 0) refuse(node, "forward slices from the end");
        first = g.add("Add", {offset, g.ints({slice.m_start})});
        last = g.add("Add", {first, g.ints({slice.m_part_size})});
    } else {
        // Start -1 is behind the last element.
        if (slice.m_start >= 0) refuse(node, "backward slices from the front");
        const std::string size = g.add("Gather", {g.add("Shape", {source}), g.ints({axis})});
        last = g.add("Add", {g.add("Add", {size, g.ints({slice.m_start + 1})}), offset});
        first = g.add("Sub", {last, g.ints({slice.m_part_size})});
    }
    return g.add("Slice", {source, first, last, g.ints({axis})});
}

/// What ONNX stacks along a new first axis, as OpenVINO joins it along `axis`.
std::string joined(OnnxGraph& g, std::string stacked, std::int64_t rank, std::int64_t axis, bool backwards) {
    constexpr std::int64_t kMax = INT64_MAX, kMin = INT64_MIN;
    if (backwards) stacked = g.add("Slice", {stacked, g.ints({kMax}), g.ints({kMin}), g.ints({0}), g.ints({-1})});
    if (axis == 0) return stacked;
    Ints order(static_cast<std::size_t>(rank));
    std::iota(order.begin(), order.end(), 0);
    order.erase(order.begin());
    order.insert(order.begin() + axis, 0);
    return g.add("Transpose", {stacked}, {{"perm", order}});
}

/// Loop and TensorIterator.
void iterate(Context& context, const ov::Node& node, std::int64_t iteration_port, std::int64_t condition_port, std::string trips,
             std::string condition) {
    const auto& op = static_cast<const ov::op::util::SubGraphOp&>(node);
    const std::shared_ptr<const ov::Model> body = op.get_function();
    OnnxGraph& g = context.graph;
    Context inner(context.dry(), g.counter());
    const std::string iteration = g.fresh(), running = g.fresh();
    inner.graph.input(iteration, OnnxType::i64, {});
    inner.graph.input(running, OnnxType::boolean, {});
    std::vector<std::string> inputs{"", condition};
    std::vector<std::size_t> carried;  // body value of each loop-carried value
    for (const auto& input : op.get_input_descriptions()) {
        const auto& parameter = *body->get_parameters()[input->m_body_parameter_index];
        if (const auto* slice = dynamic_cast<const Subgraph::SliceInputDescription*>(input.get())) {
            inner.set(parameter, 0, part_of(inner, node, outer_value(context, node, slice->m_input_index), *slice, iteration));
            if (trips.empty()) {  // as many as there are parts
                const std::int64_t axis = positive_axis(slice->m_axis, rank_of(node, node.get_input_partial_shape(slice->m_input_index)));
                const std::string size = g.add("Gather", {g.add("Shape", {context.in(node, slice->m_input_index)}), g.scalar(axis)});
                trips = g.add("Div", {size, g.scalar(std::abs(slice->m_stride))});
            }
        } else if (const auto* merged = dynamic_cast<const Subgraph::MergedInputDescription*>(input.get())) {
            const std::string name = g.fresh();
            inner.graph.input(name, onnx_type(parameter.get_element_type()), {}, false);
            inner.set(parameter, 0, name);
            inputs.push_back(context.in(node, merged->m_input_index));
            carried.push_back(merged->m_body_value_index);
        } else {
            inner.set(parameter, 0, outer_value(context, node, input->m_input_index));
        }
    }
    if (iteration_port >= 0) {
        const auto& parameter = *body->get_parameters()[static_cast<std::size_t>(iteration_port)];
        std::string name = inner.cast(iteration, ov::element::i64, parameter.get_element_type());
        if (rank_of(node, parameter.get_partial_shape()) != 0) name = inner.graph.add("Reshape", {name, inner.graph.ints({1})});
        inner.set(parameter, 0, name);
    }
    inputs[0] = trips;
    lower_inner(inner, *body);

    const auto result = [&](std::size_t index) { return body->get_results()[index]->input_value(0); };
    const auto give = [&](const std::string& name, ov::element::Type type) { inner.graph.output(g.fresh(), name, onnx_type(type), {}, false); };
    if (condition_port >= 0) {
        const ov::Output<ov::Node> value = result(static_cast<std::size_t>(condition_port));
        std::string name = inner.cast(inner.value(value), value.get_element_type(), ov::element::boolean);
        if (value.get_partial_shape().rank() != 0) name = inner.graph.add("Reshape", {name, inner.graph.ints({})});
        inner.graph.output(g.fresh(), name, OnnxType::boolean, {});
    } else {
        inner.graph.output(g.fresh(), inner.graph.add("Identity", {running}), OnnxType::boolean, {});
    }
    for (const std::size_t index : carried) give(inner.value(result(index)), result(index).get_element_type());

    // Last values that are carried are the loop's own outputs; everything else is collected.
    struct Output {
        std::size_t index;     // of the node
        std::size_t position;  // among the loop's outputs
        const Subgraph::ConcatOutputDescription* concat;
        bool last;  // only the last of what is collected is wanted
    };
    std::vector<Output> outputs;
    std::size_t count = carried.size();
    for (const auto& output : op.get_output_descriptions()) {
        const ov::Output<ov::Node> value = result(output->m_body_value_index);
        if (const auto* concat = dynamic_cast<const Subgraph::ConcatOutputDescription*>(output.get())) {
            if (concat->m_part_size != 1 || std::abs(concat->m_stride) != 1) refuse(node, "joins parts of more than one element");
            give(inner.graph.add("Squeeze", {inner.value(value), inner.graph.ints({concat->m_axis})}), value.get_element_type());
            outputs.push_back({output->m_output_index, count++, concat, false});
            continue;
        }
        const auto* plain = dynamic_cast<const Subgraph::BodyOutputDescription*>(output.get());
        if (plain == nullptr || plain->m_iteration != -1) refuse(node, "gives the value of one iteration");
        const auto found = std::ranges::find(carried, output->m_body_value_index);
        if (found != carried.end()) {
            outputs.push_back({output->m_output_index, static_cast<std::size_t>(found - carried.begin()), nullptr, false});
        } else {
            give(inner.value(value), value.get_element_type());
            outputs.push_back({output->m_output_index, count++, nullptr, true});
        }
    }
    const auto names = g.add_many("Loop", std::move(inputs), count, {{"body", inner.graph.serialize("body")}});
    for (const Output& output : outputs) {
        std::string name = names[output.position];
        if (output.concat != nullptr) {
            const std::int64_t rank = rank_of(node, node.get_output_partial_shape(output.index));
            name = joined(g, name, rank, positive_axis(output.concat->m_axis, rank), output.concat->m_stride < 0);
        } else if (output.last) {
            name = g.add("Gather", {name, g.scalar(-1)});
        }
        context.set(node, output.index, name);
    }
}

void loop(Context& context, const ov::Node& node) {
    const auto& op = static_cast<const ov::op::v5::Loop&>(node);
    const auto ports = op.get_special_body_ports();
    const auto limit = context.constant_ints(node, 0);
    // -1: until the condition fails.
    const std::string trips = limit && limit->size() == 1 && limit->front() < 0 ? context.graph.scalar(INT64_MAX) : context.in_scalar(node, 0);
    std::string condition = context.in_as(node, 1, ov::element::boolean);
    if (rank_of(node, node.get_input_partial_shape(1)) != 0) condition = context.graph.add("Reshape", {condition, context.graph.ints({})});
    iterate(context, node, ports.current_iteration_input_idx, ports.body_condition_output_idx, trips, condition);
}

void tensor_iterator(Context& context, const ov::Node& node) {
    const std::string always = context.graph.initializer(OnnxType::boolean, {}, std::string_view("\1", 1));
    iterate(context, node, -1, -1, {}, always);
}

void stateful(Context&, const ov::Node& node) { refuse(node, "the model keeps state between executions"); }

}  // namespace

void add_control_handlers(HandlerTable& table) {
    table["If"] = if_op;
    table["Loop"] = loop;
    table["TensorIterator"] = tensor_iterator;
    table["ReadValue"] = stateful;
    table["Assign"] = stateful;
}

}  // namespace ai_vmm::ort
