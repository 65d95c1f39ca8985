// SPDX-License-Identifier: Apache-2.0
// One input or two, element by element, with broadcasting.
#include <cmath>
#include <limits>

#include "context.hpp"
#include "openvino/op/util/attr_types.hpp"

namespace ai_vmm::ort {
namespace {

using ov::element::Type;
constexpr Types kReal = {ov::element::f32, ov::element::f64};
constexpr Types kReal32 = {ov::element::f32};
constexpr Types kNumber = {ov::element::f32, ov::element::f64, ov::element::i32, ov::element::i64};

// What is left to do with integer inputs of functions that leave integers as they are.
template <Types const& supported>
void unary(Context& context, const ov::Node& node, const char* op, OnnxAttributes attributes = {}) {
    const Type type = carrier(node.get_input_element_type(0), supported);
    context.set_from(node, 0, context.graph.add(op, {context.in_as(node, 0, type)}, std::move(attributes)), type);
}

constexpr struct {
    const char* openvino;
    const char* onnx;
} kRealUnary[] = {{"Acos", "Acos"}, {"Acosh", "Acosh"}, {"Asin", "Asin"}, {"Asinh", "Asinh"}, {"Atan", "Atan"},       {"Atanh", "Atanh"},
                  {"Cos", "Cos"},   {"Cosh", "Cosh"},   {"Exp", "Exp"},   {"Log", "Log"},     {"Sigmoid", "Sigmoid"}, {"Sin", "Sin"},
                  {"Sinh", "Sinh"}, {"Sqrt", "Sqrt"},   {"Tan", "Tan"},   {"Tanh", "Tanh"}};

// These have a table entry each, so the operation is read back from the node.
void real_unary(Context& context, const ov::Node& node) {
    for (const auto& [openvino, onnx] : kRealUnary) {
        if (std::string_view(openvino) != node.get_type_name()) continue;
        // Several of them lack a double kernel.
        const std::string_view op = onnx;
        const bool f64 = op == "Exp" || op == "Log" || op == "Sigmoid" || op == "Sqrt" || op == "Tanh" || op == "Sin" || op == "Cos";
        return f64 ? unary<kReal>(context, node, onnx) : unary<kReal32>(context, node, onnx);
    }
}

void rounding(Context& context, const ov::Node& node, const char* op) {
    if (!node.get_input_element_type(0).is_real()) return context.set(node, 0, context.in(node, 0));
    unary<kReal>(context, node, op);
}

void round_op(Context& context, const ov::Node& node) {
    if (!node.get_input_element_type(0).is_real() || NodeAttributes(node).text("mode", "half_to_even") == "half_to_even")
        return rounding(context, node, "Round");
    const Type type = carrier(node.get_input_element_type(0), kReal);
    const std::string x = context.in_as(node, 0, type);
    OnnxGraph& g = context.graph;
    const std::string magnitude = g.add("Floor", {g.add("Add", {g.add("Abs", {x}), context.number(0.5, type)})});
    context.set_from(node, 0, g.add("Mul", {g.add("Sign", {x}), magnitude}), type);
}

void same_types(Context& context, const ov::Node& node, const char* op) { unary<kNumber>(context, node, op); }

void gelu(Context& context, const ov::Node& node) {
    const bool tanh = NodeAttributes(node).text("approximation_mode", "erf") == "tanh";
    unary<kReal32>(context, node, "Gelu", {{"approximate", tanh ? "tanh" : "none"}});
}

void swish(Context& context, const ov::Node& node) {
    const Type type = carrier(node.get_input_element_type(0), kReal);
    const std::string x = context.in_as(node, 0, type);
    std::string scaled = x;
    if (context.has_input(node, 1)) {
        const auto beta = context.constant_reals(node, 1);
        if (!beta || beta->size() != 1 || beta->front() != 1.0F) scaled = context.graph.add("Mul", {x, context.in_as(node, 1, type)});
    }
    context.set_from(node, 0, context.graph.add("Mul", {x, context.graph.add("Sigmoid", {scaled})}), type);
}

void hswish(Context& context, const ov::Node& node) {
    const Type type = carrier(node.get_input_element_type(0), kReal32);
    const std::string x = context.in_as(node, 0, type);
    const std::string gate = context.graph.add("HardSigmoid", {x}, {{"alpha", 1.0F / 6.0F}, {"beta", 0.5F}});
    context.set_from(node, 0, context.graph.add("Mul", {x, gate}), type);
}

void hsigmoid(Context& context, const ov::Node& node) { unary<kReal32>(context, node, "HardSigmoid", {{"alpha", 1.0F / 6.0F}, {"beta", 0.5F}}); }

float scalar_input(Context& context, const ov::Node& node, std::size_t index) {
    const auto values = context.constant_reals(node, index);
    if (!values || values->size() != 1) refuse(node, "its parameters are not constant scalars");
    return values->front();
}

void hard_sigmoid(Context& context, const ov::Node& node) {
    unary<kReal32>(context, node, "HardSigmoid", {{"alpha", scalar_input(context, node, 1)}, {"beta", scalar_input(context, node, 2)}});
}

void selu(Context& context, const ov::Node& node) {
    unary<kReal32>(context, node, "Selu", {{"alpha", scalar_input(context, node, 1)}, {"gamma", scalar_input(context, node, 2)}});
}

void elu(Context& context, const ov::Node& node) {
    unary<kReal32>(context, node, "Elu", {{"alpha", static_cast<float>(NodeAttributes(node).real("alpha", 1))}});
}

void mish(Context& context, const ov::Node& node) {
    const Type type = carrier(node.get_input_element_type(0), kReal32);
    const std::string x = context.in_as(node, 0, type);
    OnnxGraph& g = context.graph;
    context.set_from(node, 0, g.add("Mul", {x, g.add("Tanh", {g.add("Softplus", {x})})}), type);
}

void clamp(Context& context, const ov::Node& node) {
    const NodeAttributes attributes(node);
    const double low = attributes.real("min"), high = attributes.real("max");
    const Type type = carrier(node.get_input_element_type(0), kNumber);
    std::string low_name, high_name;
    if (type.is_real()) {
        low_name = context.number(low, type);
        high_name = context.number(high, type);
    } else {
        const auto bound = [&](double value) {
            constexpr double kLimit = 9.2e18;
            const auto limited = static_cast<std::int64_t>(std::min(std::max(value, -kLimit), kLimit));
            const std::int64_t narrow =
                type == ov::element::i32 ? std::min<std::int64_t>(std::max<std::int64_t>(limited, INT32_MIN), INT32_MAX) : limited;
            return context.cast(context.graph.scalar(narrow), ov::element::i64, type);
        };
        low_name = bound(std::ceil(low));
        high_name = bound(std::floor(high));
    }
    context.set_from(node, 0, context.graph.add("Clip", {context.in_as(node, 0, type), low_name, high_name}), type);
}

void prelu(Context& context, const ov::Node& node) {
    const Type type = carrier(node.get_input_element_type(0), kReal32);
    const std::int64_t rank = rank_of(node, node.get_input_partial_shape(0));
    const std::int64_t slope_rank = rank_of(node, node.get_input_partial_shape(1));
    std::string slope = context.in_as(node, 1, type);
    // A slope of rank 1 belongs to axis 1, not to the last axis, unless it is a scalar.
    if (slope_rank == 1 && rank > 2 && node.get_input_partial_shape(1)[0] != 1) {
        std::vector<std::int64_t> shape(static_cast<std::size_t>(rank - 1), 1);
        shape[0] = -1;
        slope = context.graph.add("Reshape", {slope, context.graph.ints(shape)});
    }
    context.set_from(node, 0, context.graph.add("PRelu", {context.in_as(node, 0, type), slope}), type);
}

void convert(Context& context, const ov::Node& node) {
    const Type from = node.get_input_element_type(0), to = node.get_output_element_type(0);
    std::string x = context.in(node, 0);
    // Wrapping of negative numbers into unsigned types goes through a signed type of the same width or wider.
    if (from.is_real() && to.is_integral_number() && !to.is_signed() && to.bitwidth() <= 32) {
        x = context.cast(x, from, ov::element::i64);
        return context.set(node, 0, context.cast(x, ov::element::i64, to));
    }
    context.set(node, 0, context.cast(x, from, to));
}

/// Both inputs in `type`, with shapes that ONNX broadcasts alike.
std::pair<std::string, std::string> operands(Context& context, const ov::Node& node, Type type) {
    std::string a = context.in_as(node, 0, type), b = context.in_as(node, 1, type);
    const ov::op::AutoBroadcastSpec& spec = node.get_autob();
    if (spec.m_type == ov::op::AutoBroadcastType::PDPD) {
        const std::int64_t rank_a = rank_of(node, node.get_input_partial_shape(0)), rank_b = rank_of(node, node.get_input_partial_shape(1));
        const std::int64_t axis = spec.m_axis < 0 ? rank_a - rank_b : spec.m_axis;
        std::vector<std::int64_t> trailing;
        for (std::int64_t i = rank_b; i < rank_a - axis; ++i) trailing.push_back(i);
        if (!trailing.empty()) b = context.graph.add("Unsqueeze", {b, context.graph.ints(trailing)});
    }
    return {a, b};
}

void arithmetic(Context& context, const ov::Node& node, const char* op) {
    const Type type = carrier(node.get_input_element_type(0), kNumber);
    const auto [a, b] = operands(context, node, type);
    context.set_from(node, 0, context.graph.add(op, {a, b}), type);
}

void divide(Context& context, const ov::Node& node) {
    const Type type = carrier(node.get_input_element_type(0), kNumber);
    const auto [a, b] = operands(context, node, type);
    OnnxGraph& g = context.graph;
    std::string quotient = g.add("Div", {a, b});
    if (node.get_input_element_type(0).is_integral() && node.get_input_element_type(0).is_signed() &&
        NodeAttributes(node).flag("m_pythondiv", true)) {
        // Division rounds down: one less where a remainder is left and the signs differ.
        const std::string rest = g.add("Sub", {a, g.add("Mul", {quotient, b})});
        const std::string zero = context.cast(g.scalar(0), ov::element::i64, type);
        const std::string differ = g.add("Xor", {g.add("Less", {rest, zero}), g.add("Less", {b, zero})});
        const std::string inexact = g.add("Not", {g.add("Equal", {rest, zero})});
        quotient = g.add("Sub", {quotient, context.cast(g.add("And", {differ, inexact}), ov::element::boolean, type)});
    }
    context.set_from(node, 0, quotient, type);
}

void squared_difference(Context& context, const ov::Node& node) {
    const Type type = carrier(node.get_input_element_type(0), kNumber);
    const auto [a, b] = operands(context, node, type);
    const std::string difference = context.graph.add("Sub", {a, b});
    context.set_from(node, 0, context.graph.add("Mul", {difference, difference}), type);
}

void mod(Context& context, const ov::Node& node) {
    const Type type = carrier(node.get_input_element_type(0), kNumber);
    const auto [a, b] = operands(context, node, type);
    context.set_from(node, 0, context.graph.add("Mod", {a, b}, {{"fmod", 1}}), type);
}

void floor_mod(Context& context, const ov::Node& node) {
    const Type type = carrier(node.get_input_element_type(0), kNumber);
    const auto [a, b] = operands(context, node, type);
    OnnxGraph& g = context.graph;
    if (!type.is_real()) return context.set_from(node, 0, g.add("Mod", {a, b}, {{"fmod", 0}}), type);
    context.set_from(node, 0, g.add("Sub", {a, g.add("Mul", {b, g.add("Floor", {g.add("Div", {a, b})})})}), type);
}

void compare(Context& context, const ov::Node& node, const char* op) {
    const Type declared = node.get_input_element_type(0);
    const bool equality = std::string_view(op) == "Equal";
    const Type type = equality && (declared == ov::element::boolean || declared == ov::element::string) ? declared : carrier(declared, kNumber);
    const auto [a, b] = operands(context, node, type);
    context.set(node, 0, context.graph.add(op, {a, b}));
}

void not_equal(Context& context, const ov::Node& node) {
    const Type declared = node.get_input_element_type(0);
    const Type type = declared == ov::element::boolean || declared == ov::element::string ? declared : carrier(declared, kNumber);
    const auto [a, b] = operands(context, node, type);
    context.set(node, 0, context.graph.add("Not", {context.graph.add("Equal", {a, b})}));
}

void logical(Context& context, const ov::Node& node, const char* op) {
    const auto [a, b] = operands(context, node, ov::element::boolean);
    context.set_from(node, 0, context.graph.add(op, {a, b}), ov::element::boolean);
}

void bitwise(Context& context, const ov::Node& node, const char* op, const char* boolean_op) {
    const Type type = node.get_input_element_type(0);
    const auto [a, b] = operands(context, node, type);
    context.set(node, 0, context.graph.add(type == ov::element::boolean ? boolean_op : op, {a, b}));
}

void bitwise_not(Context& context, const ov::Node& node) {
    const bool boolean = node.get_input_element_type(0) == ov::element::boolean;
    context.set(node, 0, context.graph.add(boolean ? "Not" : "BitwiseNot", {context.in(node, 0)}));
}

void bit_shift(Context& context, const ov::Node& node, const char* direction) {
    const Type type = node.get_input_element_type(0);
    if (type.is_signed()) refuse(node, "ONNX shifts unsigned integers only");
    const Type wide = type.bitwidth() == 16 ? Type(ov::element::u32) : type;  // no 16-bit kernel
    const auto [a, b] = operands(context, node, wide);
    context.set_from(node, 0, context.graph.add("BitShift", {a, b}, {{"direction", direction}}), wide);
}

void select(Context& context, const ov::Node& node) {
    static constexpr Types kTypes = {ov::element::f32, ov::element::f64, ov::element::i32, ov::element::i64, ov::element::u8, ov::element::string};
    if (node.get_autob().m_type == ov::op::AutoBroadcastType::PDPD) refuse(node, "PDPD broadcasting");
    const Type type = carrier(node.get_input_element_type(1), kTypes);
    context.set_from(
        node, 0,
        context.graph.add("Where", {context.in_as(node, 0, ov::element::boolean), context.in_as(node, 1, type), context.in_as(node, 2, type)}), type);
}

void is_inf(Context& context, const ov::Node& node) {
    const NodeAttributes attributes(node);
    const Type type = carrier(node.get_input_element_type(0), kReal);
    context.set(node, 0,
                context.graph.add(
                    "IsInf", {context.in_as(node, 0, type)},
                    {{"detect_negative", attributes.flag("detect_negative", true)}, {"detect_positive", attributes.flag("detect_positive", true)}}));
}

void is_nan(Context& context, const ov::Node& node) {
    context.set(node, 0, context.graph.add("IsNaN", {context.in_as(node, 0, carrier(node.get_input_element_type(0), kReal))}));
}

void is_finite(Context& context, const ov::Node& node) {
    const std::string x = context.in_as(node, 0, carrier(node.get_input_element_type(0), kReal));
    OnnxGraph& g = context.graph;
    context.set(node, 0, g.add("Not", {g.add("Or", {g.add("IsNaN", {x}), g.add("IsInf", {x})})}));
}

void pass(Context& context, const ov::Node& node) { context.set(node, 0, context.in(node, 0)); }

}  // namespace

void add_elementwise_handlers(HandlerTable& table) {
    for (const auto& [openvino, onnx] : kRealUnary) table[openvino] = real_unary;
    const auto add = [&table](std::string_view name, Handler handler) { table[name] = handler; };
    add("Abs", [](Context& c, const ov::Node& n) { same_types(c, n, "Abs"); });
    add("Negative", [](Context& c, const ov::Node& n) { same_types(c, n, "Neg"); });
    add("Sign", [](Context& c, const ov::Node& n) { same_types(c, n, "Sign"); });
    add("Relu", [](Context& c, const ov::Node& n) {
        static constexpr Types kTypes = {ov::element::f32, ov::element::f64, ov::element::i32};
        if (n.get_input_element_type(0) == ov::element::i64) {
            c.set(n, 0, c.graph.add("Max", {c.in(n, 0), c.graph.scalar(0)}));
        } else {
            unary<kTypes>(c, n, "Relu");
        }
    });
    add("Erf", [](Context& c, const ov::Node& n) { unary<kReal32>(c, n, "Erf"); });
    add("SoftPlus", [](Context& c, const ov::Node& n) { unary<kReal32>(c, n, "Softplus"); });
    add("SoftSign", [](Context& c, const ov::Node& n) { unary<kReal32>(c, n, "Softsign"); });
    add("Ceiling", [](Context& c, const ov::Node& n) { rounding(c, n, "Ceil"); });
    add("Floor", [](Context& c, const ov::Node& n) { rounding(c, n, "Floor"); });
    add("Round", round_op);
    add("Gelu", gelu);
    add("Swish", swish);
    add("HSwish", hswish);
    add("HSigmoid", hsigmoid);
    add("HardSigmoid", hard_sigmoid);
    add("Selu", selu);
    add("Elu", elu);
    add("Mish", mish);
    add("Clamp", clamp);
    add("PRelu", prelu);
    add("Convert", convert);
    add("ConvertLike", convert);
    add("Identity", pass);
    add("Subtract", [](Context& c, const ov::Node& n) { arithmetic(c, n, "Sub"); });
    add("Add", [](Context& c, const ov::Node& n) { arithmetic(c, n, "Add"); });
    add("Multiply", [](Context& c, const ov::Node& n) { arithmetic(c, n, "Mul"); });
    add("Power", [](Context& c, const ov::Node& n) { arithmetic(c, n, "Pow"); });
    add("Maximum", [](Context& c, const ov::Node& n) { arithmetic(c, n, "Max"); });
    add("Minimum", [](Context& c, const ov::Node& n) { arithmetic(c, n, "Min"); });
    add("Divide", divide);
    add("SquaredDifference", squared_difference);
    add("Mod", mod);
    add("FloorMod", floor_mod);
    add("Equal", [](Context& c, const ov::Node& n) { compare(c, n, "Equal"); });
    add("NotEqual", not_equal);
    add("Greater", [](Context& c, const ov::Node& n) { compare(c, n, "Greater"); });
    add("GreaterEqual", [](Context& c, const ov::Node& n) { compare(c, n, "GreaterOrEqual"); });
    add("Less", [](Context& c, const ov::Node& n) { compare(c, n, "Less"); });
    add("LessEqual", [](Context& c, const ov::Node& n) { compare(c, n, "LessOrEqual"); });
    add("LogicalAnd", [](Context& c, const ov::Node& n) { logical(c, n, "And"); });
    add("LogicalOr", [](Context& c, const ov::Node& n) { logical(c, n, "Or"); });
    add("LogicalXor", [](Context& c, const ov::Node& n) { logical(c, n, "Xor"); });
    add("Xor", [](Context& c, const ov::Node& n) { logical(c, n, "Xor"); });
    add("LogicalNot",
        [](Context& c, const ov::Node& n) { c.set_from(n, 0, c.graph.add("Not", {c.in_as(n, 0, ov::element::boolean)}), ov::element::boolean); });
    add("BitwiseAnd", [](Context& c, const ov::Node& n) { bitwise(c, n, "BitwiseAnd", "And"); });
    add("BitwiseOr", [](Context& c, const ov::Node& n) { bitwise(c, n, "BitwiseOr", "Or"); });
    add("BitwiseXor", [](Context& c, const ov::Node& n) { bitwise(c, n, "BitwiseXor", "Xor"); });
    add("BitwiseNot", bitwise_not);
    add("BitwiseLeftShift", [](Context& c, const ov::Node& n) { bit_shift(c, n, "LEFT"); });
    add("BitwiseRightShift", [](Context& c, const ov::Node& n) { bit_shift(c, n, "RIGHT"); });
    add("Select", select);
    add("IsInf", is_inf);
    add("IsNaN", is_nan);
    add("IsFinite", is_finite);
}

}  // namespace ai_vmm::ort
