// SPDX-License-Identifier: Apache-2.0
// Reductions, cumulative sums, selection of the largest, positions of non-zero elements.
#include "context.hpp"

namespace ai_vmm::ort {
namespace {

using ov::element::Type;

void reduce(Context& context, const ov::Node& node, const char* op, Types types) {
    const Type type = carrier(node.get_input_element_type(0), types);
    // Without axes nothing is reduced.
    context.set_from(node, 0,
                     context.graph.add(op, {context.in_as(node, 0, type), context.in_ints(node, 1)},
                                       {{"keepdims", NodeAttributes(node).flag("keep_dims")}, {"noop_with_empty_axes", 1}}),
                     type);
}

void reduce_norm(Context& context, const ov::Node& node, bool square) {
    // Written out: the engine leaves the sign in place when there are no axes.
    OnnxGraph& g = context.graph;
    const Type type = carrier(node.get_input_element_type(0), {ov::element::f32, ov::element::f64, ov::element::i32, ov::element::i64});
    const std::string x = context.in_as(node, 0, type);
    std::string y = g.add("ReduceSum", {square ? g.add("Mul", {x, x}) : g.add("Abs", {x}), context.in_ints(node, 1)},
                          {{"keepdims", NodeAttributes(node).flag("keep_dims")}, {"noop_with_empty_axes", 1}});
    if (square) {
        const Type real = type.is_real() ? type : Type(ov::element::f64);
        y = context.cast(g.add("Sqrt", {context.cast(y, type, real)}), real, type);
    }
    context.set_from(node, 0, y, type);
}

void reduce_logical(Context& context, const ov::Node& node, const char* op) {
    const std::string x = context.cast(context.in_as(node, 0, ov::element::boolean), ov::element::boolean, ov::element::i32);
    const std::string y =
        context.graph.add(op, {x, context.in_ints(node, 1)}, {{"keepdims", NodeAttributes(node).flag("keep_dims")}, {"noop_with_empty_axes", 1}});
    context.set_from(node, 0, context.cast(y, ov::element::i32, ov::element::boolean), ov::element::boolean);
}

void cum_sum(Context& context, const ov::Node& node) {
    const NodeAttributes attributes(node);
    const Type type = carrier(node.get_input_element_type(0), {ov::element::f32, ov::element::f64, ov::element::i32, ov::element::i64});
    const std::string axis = context.has_input(node, 1) ? context.in_scalar(node, 1) : context.graph.scalar(0);
    context.set_from(node, 0,
                     context.graph.add("CumSum", {context.in_as(node, 0, type), axis},
                                       {{"exclusive", attributes.flag("exclusive")}, {"reverse", attributes.flag("reverse")}}),
                     type);
}

void top_k(Context& context, const ov::Node& node) {
    const NodeAttributes attributes(node);
    const std::string sort = attributes.text("sort", "value");
    if (sort == "index") refuse(node, "sorted by index");
    const Type type = carrier(node.get_input_element_type(0), {ov::element::f32, ov::element::f64, ov::element::i32, ov::element::i64});
    const auto names = context.graph.add_many(
        "TopK", {context.in_as(node, 0, type), context.graph.add("Reshape", {context.in_scalar(node, 1), context.graph.ints({1})})}, 2,
        {{"axis", attributes.integer("axis")}, {"largest", attributes.text("mode", "max") == "max"}, {"sorted", 1}});
    context.set_from(node, 0, names[0], type);
    context.set_from(node, 1, names[1], ov::element::i64);
}

void non_zero(Context& context, const ov::Node& node) {
    const Type type =
        carrier(node.get_input_element_type(0), {ov::element::boolean, ov::element::f32, ov::element::i32, ov::element::i64, ov::element::u8});
    context.set_from(node, 0, context.graph.add("NonZero", {context.in_as(node, 0, type)}), ov::element::i64);
}

}  // namespace

void add_reduction_handlers(HandlerTable& table) {
    static constexpr Types kSum = {ov::element::f32, ov::element::f64, ov::element::i32, ov::element::i64};
    static constexpr Types kMean = {ov::element::f32, ov::element::f64, ov::element::i32};
    static constexpr Types kProduct = {ov::element::f32, ov::element::i32, ov::element::i64};
    table["ReduceSum"] = [](Context& c, const ov::Node& n) { reduce(c, n, "ReduceSum", kSum); };
    table["ReduceMean"] = [](Context& c, const ov::Node& n) { reduce(c, n, "ReduceMean", kMean); };
    table["ReduceMax"] = [](Context& c, const ov::Node& n) { reduce(c, n, "ReduceMax", kSum); };
    table["ReduceMin"] = [](Context& c, const ov::Node& n) { reduce(c, n, "ReduceMin", kSum); };
    table["ReduceProd"] = [](Context& c, const ov::Node& n) { reduce(c, n, "ReduceProd", kProduct); };
    table["ReduceL1"] = [](Context& c, const ov::Node& n) { reduce_norm(c, n, false); };
    table["ReduceL2"] = [](Context& c, const ov::Node& n) { reduce_norm(c, n, true); };
    table["ReduceLogicalAnd"] = [](Context& c, const ov::Node& n) { reduce_logical(c, n, "ReduceMin"); };
    table["ReduceLogicalOr"] = [](Context& c, const ov::Node& n) { reduce_logical(c, n, "ReduceMax"); };
    table["CumSum"] = cum_sum;
    table["TopK"] = top_k;
    table["NonZero"] = non_zero;
}

}  // namespace ai_vmm::ort
