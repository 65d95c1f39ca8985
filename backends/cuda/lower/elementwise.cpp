// SPDX-License-Identifier: Apache-2.0
/// Elementwise arithmetic, comparison, logic, activations and conversions.
#include <fmt/format.h>

#include <cmath>
#include <limits>

#include "graph/passes.hpp"
#include "lower/text.hpp"
#include "openvino/op/ops.hpp"

namespace ai_vmm::cuda {
namespace {

Type wide(Type type) { return type == Type::f64 ? Type::f64 : Type::f32; }

std::string number(Type type, double value) { return literal(wide(type), value); }

/// One input; `real` for floats with {f} for the suffix, `integer` for integers (empty: not defined).
void unary(Context& c, const char* real, const char* integer = "", int cost = 8) {
    const Type type = c.type(0);
    if (!is_float(type) && *integer == 0) c.unsupported("not defined for integers");
    const std::string expression =
        is_float(type) ? fmt::format(fmt::runtime(real), fmt::arg("f", suffix(type)), fmt::arg("T", to_string(wide(type)))) : std::string(integer);
    c.set(0, c.b.pointwise(c.node().get_type_name(), c.out_type(), {c.in(0)}, expression, cost));
}

/// Input 1 beside input 0: of PaddlePaddle's broadcasting, whose second operand starts at a dimension of the first; NumPy's needs nothing.
ValueId aligned(Context& c) {
    const ov::op::AutoBroadcastSpec spec = c.node().get_autob();
    if (spec.m_type != ov::op::AutoBroadcastType::PDPD || c.dims(0) == c.dims(1)) return c.in(1);
    const Dims from = c.dims(1);
    const std::size_t rank = c.dims(0).size(), start = spec.m_axis < 0 ? rank - from.size() : static_cast<std::size_t>(spec.m_axis);
    Dims to(rank, 1);
    for (std::size_t d = 0; d < from.size() && start + d < rank; ++d) to[start + d] = from[d];
    return c.b.reshape(c.in(1), to);
}

void binary(Context& c, const std::string& expression, int cost = 1) {
    c.set(0, c.b.pointwise(c.node().get_type_name(), c.out_type(), {c.in(0), aligned(c)}, expression, cost));
}

/// Integers by `integer`, floats by `real` with {f}.
void binary(Context& c, const char* real, const char* integer, int cost) {
    const Type type = c.type(0);
    binary(c, is_float(type) ? fmt::format(fmt::runtime(real), fmt::arg("f", suffix(type))) : std::string(integer), cost);
}

void lower_divide(Context& c) {
    const auto& divide = c.as<ov::op::v1::Divide>();
    const Type type = c.type(0);
    if (is_float(type)) return binary(c, "a / b", 4);
    if (!is_signed(type)) return binary(c, "b == 0 ? 0 : a / b", 8);
    // Division by zero is a fault on processors; -2^63 / -1 overflows.
    const std::string safe = "(b == 0 ? 0 : b == -1 ? 0 - a : a / b)";
    binary(c, divide.is_pythondiv() ? "(b == 0 ? 0 : b == -1 ? 0 - a : a / b - ((a % b != 0) && ((a < 0) != (b < 0)) ? 1 : 0))" : safe, 8);
}

void lower_power(Context& c) {
    const Type type = c.type(0);
    if (is_float(type)) {
        if (const auto exponent = c.numbers(1); exponent && exponent->size() == 1) {
            if (exponent->front() == 2) return binary(c, "a * a + 0 * b", 1);
            if (exponent->front() == 1) return binary(c, "a + 0 * b", 1);
            if (exponent->front() == 0.5) return binary(c, fmt::format("sqrt{}(a) + 0 * b", suffix(type)), 4);
            if (exponent->front() == -1) return binary(c, "1 / a + 0 * b", 4);
            if (exponent->front() == 3) return binary(c, "a * a * a + 0 * b", 1);
        }
        return binary(c, fmt::format("pow{}(a, b)", suffix(type)), 20);
    }
    binary(c, "(i64)pow((f64)a, (f64)b)", 40);
}

void lower_convert(Context& c) {
    const Type from = c.type(0), to = c.out_type();
    if (from == to) return c.set(0, c.in(0));
    std::string expression = "a";
    if (to == Type::boolean) {
        expression = "a != 0";
    } else if (is_float(from) && !is_float(to)) {
        // Through 64 bits: negative values wrap in unsigned types, as conversions on processors do.
        expression = to == Type::u64 ? "a < 0 ? (u64)(i64)a : (u64)a" : "(i64)a";
    } else if (from == Type::f64 && is_float(to)) {
        expression = "a";
    } else if (!is_float(from) && is_float(to) && bits(from) == 64 && to != Type::f64) {
        expression = "(f32)a";
    }
    // A value that stays inside a kernel is f32 there: the model's own narrowing must still be seen.
    if (is_float(to) && bits(to) < 32) expression = fmt::format("from_{0}(to_{0}({1}))", to_string(to), expression);
    c.set(0, c.b.pointwise("Convert", to, {c.in(0)}, expression, 0));
}

void lower_clamp(Context& c) {
    const auto& clamp = c.as<ov::op::v0::Clamp>();
    const Type type = c.type(0);
    double low = clamp.get_min(), high = clamp.get_max();
    if (is_float(type))
        return c.set(
            0, c.b.pointwise("Clamp", type, {c.in(0)}, fmt::format("a < {0} ? {0} : (a > {1} ? {1} : a)", number(type, low), number(type, high)), 2));
    low = std::ceil(low);
    high = std::floor(high);
    if (!is_signed(type)) low = std::max(low, 0.0);
    std::string expression = "a";
    const double smallest = is_signed(type) ? -std::ldexp(1.0, bits(type) - 1) : 0,
                 largest = std::ldexp(1.0, is_signed(type) ? bits(type) - 1 : bits(type)) - 1;
    if (high < largest) expression = fmt::format("({0} > ({1}ll) ? ({1}ll) : {0})", expression, static_cast<std::int64_t>(high));
    if (low > smallest) expression = fmt::format("(a < ({0}ll) ? ({0}ll) : {1})", static_cast<std::int64_t>(low), expression);
    c.set(0, c.b.pointwise("Clamp", type, {c.in(0)}, expression, 2));
}

void lower_prelu(Context& c) {
    // The slope lies along the channel dimension unless it has as many dimensions as the data.
    ValueId slope = c.in(1);
    const int rank = c.rank(0);
    if (c.rank(1) == 1 && rank >= 2 && c.dims(1)[0] != 1 && c.dims(1)[0] == c.dims(0)[1]) {
        Dims dims(static_cast<std::size_t>(rank), 1);
        dims[1] = c.dims(1)[0];
        slope = c.b.reshape(slope, dims);
    }
    c.set(0, c.b.pointwise("PRelu", c.out_type(), {c.in(0), slope}, "a < 0 ? a * b : a", 2));
}

void lower_fake_quantize(Context& c) {
    const auto& op = c.as<ov::op::v0::FakeQuantize>();
    const Type type = c.type(0);
    // Of one range for all the bounds are numbers in the code: less to do, and little enough that two such steps stay one kernel.
    bool one_range = true;
    for (int k = 1; k < 5; ++k) one_range = one_range && elements(c.dims(k)) == 1;
    c.set(0, c.b.pointwise("FakeQuantize", c.out_type(), {c.in(0), c.in(1), c.in(2), c.in(3), c.in(4)},
                           fake_quantize_expression(type, static_cast<std::int64_t>(op.get_levels())), one_range ? 8 : 12));
}

void lower_gelu(Context& c) {
    bool tanh_form = false;
    if (c.is<ov::op::v7::Gelu>()) tanh_form = c.as<ov::op::v7::Gelu>().get_approximation_mode() == ov::op::GeluApproximationMode::TANH;
    const Type type = c.type(0);
    const std::string f = suffix(type);
    c.set(0, c.b.pointwise(tanh_form ? "GeluTanh" : "GeluErf", type, {c.in(0)},
                           tanh_form ? fmt::format("{1} * a * ({2} + tanh{0}({3} * (a + {4} * a * a * a)))", f, number(type, 0.5), number(type, 1),
                                                   number(type, 0.7978845608028654), number(type, 0.044715))
                                     : fmt::format("{1} * a * ({2} + erf{0}(a * {3}))", f, number(type, 0.5), number(type, 1),
                                                   number(type, 0.70710678118654752)),
                           12));
}

void lower_round(Context& c) {
    if (!is_float(c.type(0))) return c.set(0, c.in(0));
    const auto& op = c.as<ov::op::v5::Round>();
    unary(c, op.get_mode() == ov::op::v5::Round::RoundMode::HALF_TO_EVEN ? "rint{f}(a)" : "round{f}(a)", "a", 2);
}

void lower_swish(Context& c) {
    const Type type = c.type(0);
    std::vector<ValueId> inputs{c.in(0)};
    if (c.inputs() > 1) inputs.push_back(c.in(1));
    c.set(0, c.b.pointwise("Swish", type, inputs,
                           fmt::format("a / ({1} + exp{0}(-a{2}))", suffix(type), number(type, 1), inputs.size() > 1 ? " * b" : ""), 10));
}

void lower_hard_sigmoid(Context& c) {
    c.set(0, c.b.pointwise("HardSigmoid", c.out_type(), {c.in(0), c.in(1), c.in(2)},
                           fmt::format("fmin{0}(fmax{0}(a * b + c, 0), 1)", suffix(c.type(0))), 4));
}

void lower_selu(Context& c) {
    c.set(0, c.b.pointwise("Selu", c.out_type(), {c.in(0), c.in(1), c.in(2)},
                           fmt::format("a > 0 ? c * a : c * b * (exp{}(a) - 1)", suffix(c.type(0))), 10));
}

void lower_elu(Context& c) {
    const double alpha = c.as<ov::op::v0::Elu>().get_alpha();
    c.set(0, c.b.pointwise("Elu", c.out_type(), {c.in(0)},
                           fmt::format("a < 0 ? {} * (exp{}(a) - 1) : a", number(c.type(0), alpha), suffix(c.type(0))), 10));
}

void lower_is_inf(Context& c) {
    const auto& attributes = c.as<ov::op::v10::IsInf>().get_attributes();
    std::string test = "0";
    if (attributes.detect_negative) test += fmt::format(" || a == -{}", number(c.type(0), std::numeric_limits<double>::infinity()));
    if (attributes.detect_positive) test += fmt::format(" || a == {}", number(c.type(0), std::numeric_limits<double>::infinity()));
    c.set(0, c.b.pointwise("IsInf", Type::boolean, {c.in(0)}, test, 2));
}

void lower_select(Context& c) {
    const auto& op = c.as<ov::op::v1::Select>();
    if (op.get_auto_broadcast().m_type == ov::op::AutoBroadcastType::PDPD) c.unsupported("PDPD broadcasting");
    c.set(0, c.b.pointwise("Select", c.out_type(), {c.in(0), c.in(1), c.in(2)}, "a ? b : c", 1));
}

/// Giles, Approximating the erfinv function (2012): polynomials near 0 and at the ends. f64 goes on from there by Halley's method.
void lower_erfinv(Context& c) {
    const Type type = c.type(0);
    if (!is_float(type)) c.unsupported("not defined for integers");
    const auto polynomial = [&](const std::vector<double>& all) {
        std::string text = number(type, all.front());
        for (std::size_t k = 1; k < all.size(); ++k) text = fmt::format("({} * s + {})", text, number(type, all[k]));
        return text;
    };
    const std::string near = polynomial({2.81022636e-08, 3.43273939e-07, -3.5233877e-06, -4.39150654e-06, 0.00021858087, -0.00125372503,
                                         -0.00417768164, 0.246640727, 1.50140941}),
                      far = polynomial({-0.000200214257, 0.000100950558, 0.00134934322, -0.00367342844, 0.00573950773, -0.0076224613, 0.00943887047,
                                        1.00167406, 2.83297682});
    std::string body = fmt::format(
        "const {0} a = {1}; if (fabs{2}(a) == 1) return a * {5}; const {0} w = -log{2}((1 - a) * (1 + a)), s = w < 5 ? w - 2.5f : sqrt{2}(w) - "
        "3; "
        "{0} y = (w < 5 ? {3} : {4}) * a; ",
        to_string(wide(type)), element(c.rank(0)), suffix(type), near, far, number(type, std::numeric_limits<double>::infinity()));
    if (type == Type::f64) {
        body += fmt::format(
            "for (int k = 0; k < 2; ++k) {{ const f64 e = a < -0.5 ? erfc(-y) - (1 + a) : a > 0.5 ? (1 - a) - erfc(y) : erf(y) - a, u = e / ({} * "
            "exp(-y "
            "* y)); y -= u / (1 + y * u); }} ",
            number(type, 1.1283791670955126));
    }
    c.set(0, c.b.compute(c.out_type(), c.out_dims(), {c.in(0)}, {"ErfInv", body + "return y;", type == Type::f64 ? 150 : 40, {}, {}}));
}

void lower_mod(Context& c) { binary(c, "fmod{f}(a, b)", is_signed(c.type(0)) ? "b == 0 || b == -1 ? 0 : a % b" : "b == 0 ? 0 : a % b", 8); }

void lower_floor_mod(Context& c) {
    const Type type = c.type(0);
    if (is_float(type)) return binary(c, fmt::format("a - floor{}(a / b) * b", suffix(type)), 8);
    binary(c, is_signed(type) ? "b == 0 || b == -1 ? 0 : (a % b != 0 && (a % b < 0) != (b < 0) ? a % b + b : a % b)" : "b == 0 ? 0 : a % b", 8);
}

}  // namespace

void add_elementwise(Table& t) {
    t["Add"] = [](Context& c) { binary(c, "a + b", "a + b", 1); };
    t["Subtract"] = [](Context& c) { binary(c, "a - b", "a - b", 1); };
    // Operations round one by one: what is added to a product must not see more of it than its rounded value.
    t["Multiply"] = [](Context& c) { binary(c, "times{f}(a, b)", "a * b", 1); };
    t["Divide"] = lower_divide;
    t["Maximum"] = [](Context& c) { binary(c, "a > b || a != a ? a : b", "a > b ? a : b", 1); };
    t["Minimum"] = [](Context& c) { binary(c, "a < b || a != a ? a : b", "a < b ? a : b", 1); };
    t["Power"] = lower_power;
    t["SquaredDifference"] = [](Context& c) { binary(c, "(a - b) * (a - b)", "(a - b) * (a - b)", 2); };
    t["Mod"] = lower_mod;
    t["FloorMod"] = lower_floor_mod;
    t["Equal"] = [](Context& c) { binary(c, "a == b"); };
    t["NotEqual"] = [](Context& c) { binary(c, "a != b"); };
    t["Greater"] = [](Context& c) { binary(c, "a > b"); };
    t["GreaterEqual"] = [](Context& c) { binary(c, "a >= b"); };
    t["Less"] = [](Context& c) { binary(c, "a < b"); };
    t["LessEqual"] = [](Context& c) { binary(c, "a <= b"); };
    t["LogicalAnd"] = [](Context& c) { binary(c, "a && b"); };
    t["LogicalOr"] = [](Context& c) { binary(c, "a || b"); };
    t["LogicalXor"] = t["Xor"] = [](Context& c) { binary(c, "(a != 0) != (b != 0)"); };
    t["LogicalNot"] = [](Context& c) { c.set(0, c.b.pointwise("LogicalNot", c.out_type(), {c.in(0)}, "!a")); };
    t["BitwiseAnd"] = [](Context& c) { binary(c, "a & b"); };
    t["BitwiseOr"] = [](Context& c) { binary(c, "a | b"); };
    t["BitwiseXor"] = [](Context& c) { binary(c, "a ^ b"); };
    t["BitwiseNot"] = [](Context& c) { c.set(0, c.b.pointwise("BitwiseNot", c.out_type(), {c.in(0)}, c.type(0) == Type::boolean ? "!a" : "~a")); };
    t["BitwiseLeftShift"] = [](Context& c) { binary(c, "a << b"); };
    t["BitwiseRightShift"] = [](Context& c) { binary(c, "a >> b"); };
    t["Select"] = lower_select;
    t["Convert"] = lower_convert;
    t["ConvertLike"] = lower_convert;
    t["Clamp"] = lower_clamp;
    t["PRelu"] = lower_prelu;
    t["FakeQuantize"] = lower_fake_quantize;
    t["Gelu"] = lower_gelu;
    t["Round"] = lower_round;
    t["Swish"] = lower_swish;
    t["HardSigmoid"] = lower_hard_sigmoid;
    t["Selu"] = lower_selu;
    t["Elu"] = lower_elu;
    t["IsInf"] = lower_is_inf;
    t["IsNaN"] = [](Context& c) { c.set(0, c.b.pointwise("IsNaN", Type::boolean, {c.in(0)}, "a != a")); };
    t["IsFinite"] = [](Context& c) { c.set(0, c.b.pointwise("IsFinite", Type::boolean, {c.in(0)}, "a - a == 0")); };
    t["Relu"] = [](Context& c) { unary(c, "a > 0 ? a : (a == a ? 0 : a)", "a > 0 ? a : 0", 1); };
    t["Sigmoid"] = [](Context& c) { unary(c, "1 / (1 + exp{f}(-a))"); };
    t["Tanh"] = [](Context& c) { unary(c, "tanh{f}(a)"); };
    t["Exp"] = [](Context& c) { unary(c, "exp{f}(a)", "exp((f64)a)"); };
    t["Log"] = [](Context& c) { unary(c, "log{f}(a)", "log((f64)a)"); };
    t["Sqrt"] = [](Context& c) { unary(c, "sqrt{f}(a)", "rint(sqrt((f64)a))", 4); };
    t["Erf"] = [](Context& c) { unary(c, "erf{f}(a)", "erf((f64)a)"); };
    t["ErfInv"] = lower_erfinv;
    t["Abs"] = [](Context& c) { unary(c, "fabs{f}(a)", is_signed(c.type(0)) ? "a < 0 ? 0 - a : a" : "a", 1); };
    t["Negative"] = [](Context& c) { unary(c, "-a", "0 - a", 1); };
    t["Floor"] = [](Context& c) { unary(c, "floor{f}(a)", "a", 1); };
    t["Ceiling"] = [](Context& c) { unary(c, "ceil{f}(a)", "a", 1); };
    t["Sign"] = [](Context& c) {
        unary(c, "a > 0 ? 1 : (a < 0 ? -1 : a)", is_signed(c.type(0)) ? "a > 0 ? 1 : (a < 0 ? -1 : 0)" : "a > 0 ? 1 : 0", 2);
    };
    t["Sin"] = [](Context& c) { unary(c, "sin{f}(a)", "sin((f64)a)", 20); };
    t["Cos"] = [](Context& c) { unary(c, "cos{f}(a)", "cos((f64)a)", 20); };
    t["Tan"] = [](Context& c) { unary(c, "tan{f}(a)", "tan((f64)a)", 20); };
    t["Asin"] = [](Context& c) { unary(c, "asin{f}(a)", "asin((f64)a)", 20); };
    t["Acos"] = [](Context& c) { unary(c, "acos{f}(a)", "acos((f64)a)", 20); };
    t["Atan"] = [](Context& c) { unary(c, "atan{f}(a)", "atan((f64)a)", 20); };
    t["Sinh"] = [](Context& c) { unary(c, "sinh{f}(a)", "sinh((f64)a)", 20); };
    t["Cosh"] = [](Context& c) { unary(c, "cosh{f}(a)", "cosh((f64)a)", 20); };
    t["Asinh"] = [](Context& c) { unary(c, "asinh{f}(a)", "asinh((f64)a)", 20); };
    t["Acosh"] = [](Context& c) { unary(c, "acosh{f}(a)", "acosh((f64)a)", 20); };
    t["Atanh"] = [](Context& c) { unary(c, "atanh{f}(a)", "atanh((f64)a)", 20); };
    t["HSwish"] = [](Context& c) { unary(c, "a * fmin{f}(fmax{f}(a + 3, 0), 6) / 6", "", 4); };
    t["HSigmoid"] = [](Context& c) { unary(c, "fmin{f}(fmax{f}(a + 3, 0), 6) / 6", "", 4); };
    t["Mish"] = [](Context& c) { unary(c, "a * tanh{f}(a > 20 ? a : log1p{f}(exp{f}(a)))", "", 20); };
    t["SoftPlus"] = [](Context& c) { unary(c, "a > 20 ? a : log1p{f}(exp{f}(a))", "", 16); };
    t["SoftSign"] = [](Context& c) { unary(c, "a / (1 + fabs{f}(a))", "", 4); };
}

}  // namespace ai_vmm::cuda
