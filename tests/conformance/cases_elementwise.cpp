// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <limits>

#include "cases.hpp"
#include "openvino/opsets/opset15.hpp"
#include "reference.hpp"

namespace ai_vmm::conformance {
namespace {

namespace op = ov::opset15;
using reference::Binary;
using reference::Unary;

using MakeUnary = std::function<ov::OutputVector(const ov::Output<ov::Node>&)>;
using MakeBinary = std::function<ov::OutputVector(const ov::Output<ov::Node>&, const ov::Output<ov::Node>&)>;

struct UnaryOp {
    std::string name;
    MakeUnary make;
    Unary f;
    double low = -3;
    double high = 3;
    double slack = 1;
};

struct BinaryOp {
    std::string name;
    MakeBinary make;
    Binary f;
    double low = -4;
    double high = 4;
    bool whole_numbers = true;  ///< defined for integers
    bool positive_divisor = false;
};

template <typename Op>
MakeUnary unary() {
    return [](const ov::Output<ov::Node>& x) { return one<Op>(x); };
}
template <typename Op>
MakeBinary binary() {
    return [](const ov::Output<ov::Node>& x, const ov::Output<ov::Node>& y) { return one<Op>(x, y); };
}

double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }
/// By halving.
double inverse_erf(double x) {
    double low = -6, high = 6;
    for (int k = 0; k < 100; ++k) (std::erf((low + high) / 2) < x ? low : high) = (low + high) / 2;
    return low;
}
double softplus(double x) { return std::log1p(std::exp(x)); }

std::vector<UnaryOp> unary_ops() {
    return {
        {"abs", unary<op::Abs>(), [](double x) { return std::abs(x); }},
        {"acos", unary<op::Acos>(), [](double x) { return std::acos(x); }, -0.9, 0.9},
        {"acosh", unary<op::Acosh>(), [](double x) { return std::acosh(x); }, 1.1, 5},
        {"asin", unary<op::Asin>(), [](double x) { return std::asin(x); }, -0.9, 0.9},
        {"asinh", unary<op::Asinh>(), [](double x) { return std::asinh(x); }},
        {"atan", unary<op::Atan>(), [](double x) { return std::atan(x); }},
        {"atanh", unary<op::Atanh>(), [](double x) { return std::atanh(x); }, -0.9, 0.9},
        {"ceiling", unary<op::Ceiling>(), [](double x) { return std::ceil(x); }},
        {"clamp", [](const auto& x) { return one<op::Clamp>(x, -1.0, 2.0); }, [](double x) { return std::min(2.0, std::max(-1.0, x)); }},
        {"cos", unary<op::Cos>(), [](double x) { return std::cos(x); }},
        {"cosh", unary<op::Cosh>(), [](double x) { return std::cosh(x); }},
        {"elu", [](const auto& x) { return one<op::Elu>(x, 0.5); }, [](double x) { return x < 0 ? 0.5 * std::expm1(x) : x; }},
        {"erf", unary<op::Erf>(), [](double x) { return std::erf(x); }, -3, 3, 2},
        {"erfinv", unary<ov::op::v17::ErfInv>(), inverse_erf, -0.9, 0.9, 6},
        {"exp", unary<op::Exp>(), [](double x) { return std::exp(x); }, -3, 3, 2},
        {"floor", unary<op::Floor>(), [](double x) { return std::floor(x); }},
        {"gelu_erf", [](const auto& x) { return one<op::Gelu>(x, ov::op::GeluApproximationMode::ERF); },
         [](double x) { return x / 2 * (1 + std::erf(x / std::sqrt(2))); }, -3, 3, 4},
        {"gelu_tanh", [](const auto& x) { return one<op::Gelu>(x, ov::op::GeluApproximationMode::TANH); },
         [](double x) { return x / 2 * (1 + std::tanh(std::sqrt(2 / 3.14159265358979) * (x + 0.044715 * x * x * x))); }, -3, 3, 4},
        {"hsigmoid", unary<op::HSigmoid>(), [](double x) { return std::min(std::max(x + 3, 0.0), 6.0) / 6; }},
        {"hswish", unary<op::HSwish>(), [](double x) { return x * std::min(std::max(x + 3, 0.0), 6.0) / 6; }},
        {"log", unary<op::Log>(), [](double x) { return std::log(x); }, 0.1, 5},
        {"mish", unary<op::Mish>(), [](double x) { return x * std::tanh(softplus(x)); }, -3, 3, 2},
        {"negative", unary<op::Negative>(), [](double x) { return -x; }},
        {"relu", unary<op::Relu>(), [](double x) { return std::max(0.0, x); }},
        {"round", [](const auto& x) { return one<op::Round>(x, op::Round::RoundMode::HALF_TO_EVEN); }, [](double x) { return std::nearbyint(x); }},
        {"sigmoid", unary<op::Sigmoid>(), sigmoid},
        {"sign", unary<op::Sign>(), [](double x) { return x > 0   ? 1.0
                                                          : x < 0 ? -1.0
                                                                  : 0.0; }},
        {"sin", unary<op::Sin>(), [](double x) { return std::sin(x); }},
        {"sinh", unary<op::Sinh>(), [](double x) { return std::sinh(x); }},
        {"softplus", unary<op::SoftPlus>(), softplus},
        {"softsign", unary<op::SoftSign>(), [](double x) { return x / (1 + std::abs(x)); }},
        {"sqrt", unary<op::Sqrt>(), [](double x) { return std::sqrt(x); }, 0, 9},
        {"swish", unary<op::Swish>(), [](double x) { return x * sigmoid(x); }},
        {"tan", unary<op::Tan>(), [](double x) { return std::tan(x); }, -1.2, 1.2, 2},
        {"tanh", unary<op::Tanh>(), [](double x) { return std::tanh(x); }},
    };
}

std::vector<BinaryOp> arithmetic_ops() {
    return {
        {"add", binary<op::Add>(), std::plus<>()},
        {"subtract", binary<op::Subtract>(), std::minus<>()},
        {"multiply", binary<op::Multiply>(), std::multiplies<>()},
        {"divide", binary<op::Divide>(), std::divides<>(), 1, 8, false, true},
        {"maximum", binary<op::Maximum>(), [](double x, double y) { return std::max(x, y); }},
        {"minimum", binary<op::Minimum>(), [](double x, double y) { return std::min(x, y); }},
        {"power", binary<op::Power>(), [](double x, double y) { return std::pow(x, y); }, 0.5, 2, false},
        {"mod", binary<op::Mod>(), [](double x, double y) { return std::fmod(x, y); }, -9, 9, true, true},
        {"floor_mod", binary<op::FloorMod>(), [](double x, double y) { return x - y * std::floor(x / y); }, -9, 9, true, true},
        {"squared_difference", binary<op::SquaredDifference>(), [](double x, double y) { return (x - y) * (x - y); }},
    };
}

std::vector<BinaryOp> comparison_ops() {
    return {
        {"equal", binary<op::Equal>(), std::equal_to<>()},    {"not_equal", binary<op::NotEqual>(), std::not_equal_to<>()},
        {"greater", binary<op::Greater>(), std::greater<>()}, {"greater_equal", binary<op::GreaterEqual>(), std::greater_equal<>()},
        {"less", binary<op::Less>(), std::less<>()},          {"less_equal", binary<op::LessEqual>(), std::less_equal<>()},
    };
}

std::vector<BinaryOp> logical_ops() {
    return {
        {"logical_and", binary<op::LogicalAnd>(), [](double x, double y) { return double(x != 0 && y != 0); }},
        {"logical_or", binary<op::LogicalOr>(), [](double x, double y) { return double(x != 0 || y != 0); }},
        {"logical_xor", binary<op::LogicalXor>(), [](double x, double y) { return double((x != 0) != (y != 0)); }},
    };
}

bool is_unsigned(ElementType type) { return to_string(type).starts_with('u'); }
bool is_float(ElementType type) { return to_string(type).starts_with('f') || type == ElementType::bf16; }

OpCase unary_case(const UnaryOp& o, ElementType type, const Shape& shape) {
    return {.name = o.name + "_" + std::string(to_string(type)) + "_" + name_of(shape),
            .feeds = {{type, spread(shape, o.low, o.high)}},
            .graph = [make = o.make](const ov::OutputVector& in) { return make(in[0]); },
            .expected = [f = o.f](const std::vector<Array>& in) { return std::vector{reference::map(in[0], f)}; },
            .slack = o.slack};
}

OpCase binary_case(const BinaryOp& o, ElementType type, const Shape& left, const Shape& right) {
    const double low = is_unsigned(type) ? 0 : o.low;
    const double high = type == ElementType::boolean ? 1 : o.high;
    const double low_right = o.positive_divisor ? 1 : low;
    const auto fill = [&](const Shape& shape, double from, double to, std::uint32_t seed) {
        return is_float(type) ? spread(shape, from, to, seed) : whole(shape, from, to, seed);
    };
    // Equal numbers occur on the left and right only if some are made so.
    Array b = fill(right, low_right, high, 2);
    Array a = fill(left, low, high, 1);
    for (std::size_t i = 0; i < a.size() && i < b.size(); i += 3) {
        if (a[i] >= low_right && left == right && !o.positive_divisor) b[i] = a[i];
    }
    return {.name = o.name + "_" + std::string(to_string(type)) + "_" + name_of(left) + "_" + name_of(right),
            .feeds = {{type, a}, {type, b}},
            .graph = [make = o.make](const ov::OutputVector& in) { return make(in[0], in[1]); },
            .expected = [f = o.f](const std::vector<Array>& in) { return std::vector{reference::combine(in[0], in[1], f)}; }};
}

/// The smallest graph with a difference between "computed" and "left over from last time".
OpCase shaped_add(const Shape& left, const Shape& right, const ov::PartialShape& declared_left, const ov::PartialShape& declared_right,
                  const std::string& suffix) {
    return {.name = "add_" + name_of(left) + "_" + name_of(right) + suffix,
            .feeds = {{ElementType::f32, spread(left, -2, 2, 3), declared_left}, {ElementType::f32, spread(right, -2, 2, 4), declared_right}},
            .graph = [](const ov::OutputVector& in) { return one<op::Add>(in[0], in[1]); },
            .expected = [](const std::vector<Array>& in) { return std::vector{reference::combine(in[0], in[1], std::plus<>())}; }};
}

void add_shape_tests(Tests& tests) {
    const std::vector<std::pair<Shape, Shape>> shapes{{{}, {}},
                                                      {{1}, {1}},
                                                      {{7}, {7}},
                                                      {{0}, {0}},
                                                      {{2, 0, 3}, {2, 0, 3}},
                                                      {{2, 3}, {3}},
                                                      {{3, 1}, {1, 4}},
                                                      {{}, {2, 3}},
                                                      {{2, 3, 4}, {1, 3, 1}},
                                                      {{1, 3, 5, 5}, {1, 3, 1, 1}},
                                                      {{2, 1, 3, 1, 4}, {2, 2, 1, 5, 4}},
                                                      {{0, 3}, {1, 3}},
                                                      {{1000}, {1}},
                                                      {{3, 70000}, {70000}}};
    for (const auto& [left, right] : shapes) {
        tests.reserve(tests.size() + 3);
        add_case(tests, "shape", shaped_add(left, right, {}, {}, "_static"));
        add_case(tests, "shape",
                 shaped_add(left, right, ov::PartialShape::dynamic(static_cast<std::int64_t>(left.size())),
                            ov::PartialShape::dynamic(static_cast<std::int64_t>(right.size())), "_dynamic"));
    }
    add_case(tests, "shape", shaped_add({2, 3}, {2, 3}, ov::PartialShape::dynamic(), ov::PartialShape::dynamic(), "_any_rank"));
    add_case(tests, "shape", shaped_add({5, 3}, {1, 3}, {-1, 3}, {1, 3}, "_batch"));
    add_case(tests, "shape", shaped_add({5, 3}, {5, 3}, {{1, 8}, 3}, {{1, 8}, 3}, "_bounded"));
}

}  // namespace

void add_elementwise_tests(Tests& tests) {
    for (const UnaryOp& o : unary_ops()) {
        for (const ElementType type : {ElementType::f32, ElementType::f16, ElementType::bf16})
            add_case(tests, "unary", unary_case(o, type, {2, 3, 5}));
        add_case(tests, "unary", unary_case(o, ElementType::f32, {}));
    }
    for (const BinaryOp& o : arithmetic_ops()) {
        for (const ElementType type : {ElementType::f32, ElementType::f16, ElementType::bf16, ElementType::f64, ElementType::i32, ElementType::i64,
                                       ElementType::u8, ElementType::i8}) {
            if (!is_float(type) && !o.whole_numbers) continue;
            if (o.name == "squared_difference" && is_unsigned(type)) continue;
            if (o.name == "subtract" && is_unsigned(type)) continue;  // below zero
            add_case(tests, "binary", binary_case(o, type, {2, 3, 4}, {2, 3, 4}));
        }
        add_case(tests, "binary", binary_case(o, ElementType::f32, {2, 3, 4}, {3, 1}));
    }
    for (const BinaryOp& o : comparison_ops()) {
        for (const ElementType type :
             {ElementType::f32, ElementType::f16, ElementType::i32, ElementType::i64, ElementType::u8, ElementType::boolean}) {
            if (type == ElementType::boolean && o.name != "equal" && o.name != "not_equal") continue;
            add_case(tests, "compare", binary_case(o, type, {4, 6}, {4, 6}));
        }
        add_case(tests, "compare", binary_case(o, ElementType::f32, {4, 6}, {6}));
    }
    for (const BinaryOp& o : logical_ops()) add_case(tests, "logical", binary_case(o, ElementType::boolean, {3, 5}, {3, 5}));
    add_case(tests, "logical",
             {.name = "logical_not",
              .feeds = {{ElementType::boolean, whole({11}, 0, 1)}},
              .graph = [](const ov::OutputVector& in) { return one<op::LogicalNot>(in[0]); },
              .expected = [](const std::vector<Array>& in) { return std::vector{reference::map(in[0], [](double x) { return double(x == 0); })}; }});
    for (const ElementType type : {ElementType::f32, ElementType::i64, ElementType::u8, ElementType::f16}) {
        add_case(tests, "logical",
                 {.name = "select_" + std::string(to_string(type)),
                  .feeds = {{ElementType::boolean, whole({2, 1, 4}, 0, 1)}, {type, whole({2, 3, 4}, 0, 9, 2)}, {type, whole({3, 1}, 10, 19, 3)}},
                  .graph = [](const ov::OutputVector& in) { return one<op::Select>(in[0], in[1], in[2]); },
                  .expected =
                      [](const std::vector<Array>& in) {
                          const Shape shape{2, 3, 4};
                          const Array c = reference::broadcast(in[0], shape);
                          const Array b = reference::broadcast(in[2], shape);
                          Array result = in[1];
                          for (std::size_t i = 0; i < result.size(); ++i) result[i] = c[i] != 0 ? result[i] : b[i];
                          return std::vector{result};
                      }});
    }
    add_case(tests, "unary",
             {.name = "prelu_f32",
              .feeds = {{ElementType::f32, spread({2, 3, 4}, -2, 2)}},
              .graph = [](const ov::OutputVector& in) { return one<op::PRelu>(in[0], constant(spread({3}, 0.1, 0.9))); },
              .expected =
                  [](const std::vector<Array>& in) {
                      const Array slope = reference::reshape(spread({3}, 0.1, 0.9), {1, 3, 1});
                      return std::vector{reference::combine(in[0], slope, [](double x, double s) { return x < 0 ? x * s : x; })};
                  }});
    add_case(tests, "unary",
             {.name = "not_finite_f32",
              .feeds = {{ElementType::f32, Array({5}, {1, std::numeric_limits<double>::infinity(), -std::numeric_limits<double>::infinity(),
                                                       std::numeric_limits<double>::quiet_NaN(), 0})}},
              .graph = [](const ov::OutputVector& in) { return one<op::Multiply>(in[0], constant(Array({1}, {2}))); },
              .expected = [](const std::vector<Array>& in) { return std::vector{reference::map(in[0], [](double x) { return x * 2; })}; }});
    add_shape_tests(tests);
}

}  // namespace ai_vmm::conformance
