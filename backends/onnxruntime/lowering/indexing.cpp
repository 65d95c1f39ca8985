// SPDX-License-Identifier: Apache-2.0
// Gathering and scattering.
#include <algorithm>
#include <numeric>

#include "context.hpp"

namespace ai_vmm::ort {
namespace {

using Ints = std::vector<std::int64_t>;

std::int64_t constant_axis(Context& context, const ov::Node& node, std::size_t index) {
    const Ints axis = context.need_ints(node, index);
    if (axis.size() != 1) refuse(node, "the axis is not one number");
    return axis.front();
}

std::string indices(Context& context, const ov::Node& node, std::size_t index) {
    const ov::element::Type type = node.get_input_element_type(index);
    return context.in_as(node, index, type == ov::element::i32 ? type : ov::element::Type(ov::element::i64));
}

void gather(Context& context, const ov::Node& node) {
    OnnxGraph& g = context.graph;
    std::int64_t axis = constant_axis(context, node, 2);
    std::int64_t batch = NodeAttributes(node).integer("batch_dims");
    const std::string x = context.in(node, 0);
    if (batch == 0) return context.set(node, 0, g.add("Gather", {x, indices(context, node, 1)}, {{"axis", axis}}));
    const std::int64_t data_rank = rank_of(node, node.get_input_partial_shape(0)), index_rank = rank_of(node, node.get_input_partial_shape(1));
    axis = positive_axis(axis, data_rank);
    batch = positive_axis(batch, index_rank);
    if (axis != batch) refuse(node, "an axis after the batch axes");
    const std::string index = context.in_as(node, 1, ov::element::i64);
    // GatherND takes [.., 1] positions behind the batch axes.
    context.set(node, 0, g.add("GatherND", {x, g.add("Unsqueeze", {index, g.ints({index_rank})})}, {{"batch_dims", batch}}));
}

void gather_elements(Context& context, const ov::Node& node) {
    context.set(
        node, 0,
        context.graph.add("GatherElements", {context.in(node, 0), indices(context, node, 1)}, {{"axis", NodeAttributes(node).integer("axis")}}));
}

void gather_nd(Context& context, const ov::Node& node) {
    const std::int64_t batch = NodeAttributes(node).integer("batch_dims");
    if (batch > 1 && std::string_view(node.get_type_info().version_id) == "opset5") refuse(node, "several batch axes are merged by this version");
    context.set(node, 0, context.graph.add("GatherND", {context.in(node, 0), context.in_as(node, 1, ov::element::i64)}, {{"batch_dims", batch}}));
}

std::string reduction_of(const ov::Node& node, const NodeAttributes& attributes) {
    const std::string reduction = attributes.text("reduction", "none");
    if (reduction == "none") return "none";
    if (reduction == "sum") return "add";
    if (reduction == "prod") return "mul";
    if (reduction == "max" || reduction == "min") return reduction;
    refuse(node, "reduction " + reduction);
}

void scatter_elements(Context& context, const ov::Node& node) {
    const NodeAttributes attributes(node);
    const std::string reduction = reduction_of(node, attributes);
    if (reduction != "none" && !attributes.flag("use_init_val", true)) refuse(node, "without the initial value");
    context.set(node, 0,
                context.graph.add("ScatterElements", {context.in(node, 0), indices(context, node, 1), context.in(node, 2)},
                                  {{"axis", constant_axis(context, node, 3)}, {"reduction", reduction}}));
}

void scatter_nd(Context& context, const ov::Node& node) {
    const NodeAttributes attributes(node);
    if (attributes.text("reduction", "none") == "sub") refuse(node, "reduction sub");
    context.set(node, 0,
                context.graph.add("ScatterND", {context.in(node, 0), context.in_as(node, 1, ov::element::i64), context.in(node, 2)},
                                  {{"reduction", reduction_of(node, attributes)}}));
}

// Whole slices along one axis.
void scatter_update(Context& context, const ov::Node& node) {
    OnnxGraph& g = context.graph;
    const std::int64_t rank = rank_of(node, node.get_input_partial_shape(0)), index_rank = rank_of(node, node.get_input_partial_shape(1));
    const std::int64_t axis = positive_axis(constant_axis(context, node, 3), rank);
    std::string data = context.in(node, 0), updates = context.in(node, 2);
    Ints order(static_cast<std::size_t>(rank)), back = order;
    std::iota(order.begin(), order.end(), 0);
    std::rotate(order.begin(), order.begin() + axis, order.begin() + axis + 1);
    for (std::size_t i = 0; i < order.size(); ++i) back[static_cast<std::size_t>(order[i])] = static_cast<std::int64_t>(i);
    if (axis != 0) {
        data = g.add("Transpose", {data}, {{"perm", order}});
        // Updates have the index axes in place of the data's axis: bring them first.
        Ints update_order;
        for (std::int64_t i = 0; i < index_rank; ++i) update_order.push_back(axis + i);
        for (std::int64_t i = 0; i < axis; ++i) update_order.push_back(i);
        for (std::int64_t i = axis + index_rank; i < rank - 1 + index_rank; ++i) update_order.push_back(i);
        updates = g.add("Transpose", {updates}, {{"perm", update_order}});
    }
    const std::string index = g.add("Unsqueeze", {context.in_as(node, 1, ov::element::i64), g.ints({index_rank})});
    std::string y = g.add("ScatterND", {data, index, updates});
    if (axis != 0) y = g.add("Transpose", {y}, {{"perm", back}});
    context.set(node, 0, y);
}

// Compared rather than ONNX's OneHot: indices out of range are off, not wrapped.
void one_hot(Context& context, const ov::Node& node) {
    OnnxGraph& g = context.graph;
    const NodeAttributes attributes(node);
    const std::int64_t rank = rank_of(node, node.get_input_partial_shape(0)) + 1;
    const std::int64_t axis = positive_axis(attributes.integer("axis"), rank);
    std::string index = context.in_as(node, 0, ov::element::i64);
    const std::string depth = context.in_scalar(node, 1);
    if (attributes.text("negative_indices_mode", "ignore_negative") == "normalize") {
        index = g.add("Where", {g.add("Less", {index, g.scalar(0)}), g.add("Add", {index, depth}), index});
    }
    Ints shape(static_cast<std::size_t>(rank - axis), 1);
    shape[0] = -1;
    const std::string classes = g.add("Reshape", {g.add("Range", {g.scalar(0), depth, g.scalar(1)}), g.ints(shape)});
    const std::string hit = g.add("Equal", {g.add("Unsqueeze", {index, g.ints({axis})}), classes});
    const ov::element::Type type =
        carrier(node.get_output_element_type(0), {ov::element::f32, ov::element::f64, ov::element::i32, ov::element::i64, ov::element::u8});
    context.set_from(node, 0, g.add("Where", {hit, context.in_as(node, 2, type), context.in_as(node, 3, type)}), type);
}

}  // namespace

void add_indexing_handlers(HandlerTable& table) {
    table["Gather"] = gather;
    table["GatherElements"] = gather_elements;
    table["GatherND"] = gather_nd;
    table["ScatterElementsUpdate"] = scatter_elements;
    table["ScatterNDUpdate"] = scatter_nd;
    table["ScatterUpdate"] = scatter_update;
    table["OneHot"] = one_hot;
}

}  // namespace ai_vmm::ort
