// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <limits>

#include "cuda/trial.hpp"

namespace ai_vmm::cuda::test {
namespace {

using namespace ov::op;
using ov::element::bf16;
using ov::element::boolean;
using ov::element::f16;
using ov::element::f32;
using ov::element::f64;

double tolerance(const ov::element::Type& type) { return type == f16 ? 4e-3 : type == bf16 ? 3e-2 : 1e-5; }

/// Several shapes that broadcast.
template <typename Op>
void binary(const std::string& name, const std::vector<ov::element::Type>& types, double low = -5, double high = 5, double low_b = -5,
            double high_b = 5) {
    for (const auto& type : types) {
        Trial t(name + " " + type.get_type_name());
        const auto x = t.in(type, {2, 3, 4}, low, high);
        t.compare({make<Op>(x, t.in(type, {2, 3, 4}, low_b, high_b)), make<Op>(x, t.in(type, {3, 1}, low_b, high_b)),
                   make<Op>(x, t.in(type, {}, low_b, high_b)), make<Op>(t.in(type, {4}, low, high), t.in(type, {5, 1, 1}, low_b, high_b)),
                   make<Op>(t.in(type, {0, 4}, low, high), t.in(type, {1}, low_b, high_b))},
                  tolerance(type));
    }
}

template <typename Op>
void unary(const std::string& name, const std::vector<ov::element::Type>& types, double low = -5, double high = 5) {
    for (const auto& type : types) {
        Trial t(name + " " + type.get_type_name());
        t.compare({make<Op>(t.in(type, {2, 3, 4}, low, high)), make<Op>(t.in(type, {}, low, high)), make<Op>(t.in(type, {200}, low, high))},
                  tolerance(type));
    }
}

std::vector<ov::element::Type> with(std::vector<ov::element::Type> types, std::initializer_list<ov::element::Type> more) {
    types.insert(types.end(), more);
    return types;
}

TEST(CudaElementwise, Arithmetic) {
    binary<v1::Add>("add", number_types());
    binary<v1::Subtract>("subtract", number_types(), 5, 9, 0, 5);
    binary<v1::Multiply>("multiply", number_types());
    // Integers round down; OpenVINO's CPU plugin rounds 8 and 16 bits to zero, against the specification.
    binary<v1::Divide>("divide", number_types(), 0, 9, 1, 3);
    binary<v1::Divide>("divide", {ov::element::i32, ov::element::i64, f32}, -9, 9, -4, -1);
    binary<v1::Divide>("divide", {ov::element::i32, ov::element::i64, f32}, -9, 9, 1, 4);
    binary<v1::Maximum>("maximum", number_types());
    binary<v1::Minimum>("minimum", number_types());
    binary<v1::Power>("power", float_types(), 0.1, 3, -2, 2);
    binary<v1::Power>("power", {ov::element::i32, ov::element::i64}, -4, 4, 0, 5);
    binary<v0::SquaredDifference>("squared difference", float_types());
    binary<v1::Mod>("mod", number_types(), -9, 9, 1, 4);
    binary<v1::Mod>("mod", {ov::element::i32, f32}, -9, 9, -4, -1);
    binary<v1::FloorMod>("floor mod", number_types(), -9, 9, 1, 4);
    binary<v1::FloorMod>("floor mod", {ov::element::i32, f32}, -9, 9, -4, -1);
}

TEST(CudaElementwise, ComparisonsAndLogic) {
    const auto types = with(number_types(), {boolean});
    binary<v1::Equal>("equal", types, -1, 1, -1, 1);
    binary<v1::NotEqual>("not equal", types, -1, 1, -1, 1);
    binary<v1::Greater>("greater", types, -1, 1, -1, 1);
    binary<v1::GreaterEqual>("greater equal", types, -1, 1, -1, 1);
    binary<v1::Less>("less", types, -1, 1, -1, 1);
    binary<v1::LessEqual>("less equal", types, -1, 1, -1, 1);
    binary<v1::LogicalAnd>("and", {boolean});
    binary<v1::LogicalOr>("or", {boolean});
    binary<v1::LogicalXor>("xor", {boolean});
    Trial old("xor");
    old.compare(make<v0::Xor>(old.in(boolean, {3, 4}), old.in(boolean, {3, 4})));
    unary<v1::LogicalNot>("not", {boolean});
    const auto integers = with(integer_types(), {boolean});
    binary<v13::BitwiseAnd>("bitwise and", integers);
    binary<v13::BitwiseOr>("bitwise or", integers);
    binary<v13::BitwiseXor>("bitwise xor", integers);
    unary<v13::BitwiseNot>("bitwise not", integers);
    binary<v15::BitwiseLeftShift>("left shift", integer_types(), 0, 9, 0, 3);
    binary<v15::BitwiseRightShift>("right shift", integer_types(), 0, 100, 0, 3);
}

TEST(CudaElementwise, Functions) {
    unary<v0::Abs>("abs", number_types());
    unary<v0::Negative>("negative", with(float_types(), {ov::element::i32, ov::element::i64, ov::element::i8}));
    unary<v0::Sign>("sign", number_types());
    unary<v0::Floor>("floor", number_types());
    unary<v0::Ceiling>("ceiling", number_types());
    unary<v0::Exp>("exp", float_types());
    unary<v0::Log>("log", float_types(), 0.1, 9);
    unary<v0::Sqrt>("sqrt", float_types(), 0, 9);
    unary<v0::Erf>("erf", float_types());
    // The CPU plugin's is coarse, more so towards its ends.
    for (const auto& type : float_types()) {
        Trial inverse("inverse of erf, " + type.get_type_name());
        inverse.compare({make<v17::ErfInv>(inverse.in(type, {2, 3, 50}, -0.99, 0.99)), make<v17::ErfInv>(inverse.in(type, {}, -0.9, 0.9))}, 5e-5);
    }
    Trial ends("inverse of erf at its ends");
    const auto at = ends.given(f32, {8}, {-1, 1, 0, 1e-8, 0.9999999, -0.9999999, 2, -3});
    const double infinity = std::numeric_limits<double>::infinity(), none = std::numeric_limits<double>::quiet_NaN();
    ends.expect({make<v17::ErfInv>(at)}, {tensor(f32, {8}, {-infinity, infinity, 0, 8.8622692e-9, 3.7439213, -3.7439213, none, none})}, 2e-6);
    Trial wide("inverse of erf in f64");
    wide.expect({make<v17::ErfInv>(wide.given(f64, {4}, {0.5, -0.1, 0.999, -0.84270079294971489}))},
                {tensor(f64, {4}, {0.47693627620446987, -0.088855990494257687, 2.3267537655135246, -1})}, 1e-12);
    unary<v0::Sin>("sin", float_types());
    unary<v0::Cos>("cos", float_types());
    unary<v0::Tan>("tan", float_types(), -1.4, 1.4);
    unary<v0::Asin>("asin", float_types(), -1, 1);
    unary<v0::Acos>("acos", float_types(), -1, 1);
    unary<v0::Atan>("atan", float_types());
    unary<v0::Sinh>("sinh", float_types());
    unary<v0::Cosh>("cosh", float_types());
    unary<v0::Tanh>("tanh", float_types());
    unary<v3::Asinh>("asinh", float_types());
    unary<v3::Acosh>("acosh", float_types(), 1, 9);
    unary<v3::Atanh>("atanh", float_types(), -0.9, 0.9);
    for (const auto mode : {v5::Round::RoundMode::HALF_TO_EVEN, v5::Round::RoundMode::HALF_AWAY_FROM_ZERO}) {
        for (const auto& type : with(float_types(), {ov::element::i32})) {
            Trial t("round " + type.get_type_name());
            t.compare(make<v5::Round>(t.given(type, {7}, {-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 2.75}), mode));
        }
    }
}

TEST(CudaElementwise, IntegerFunctions) {
    const std::vector<ov::element::Type> types{ov::element::i32, ov::element::i64};
    unary<v0::Exp>("exp", types, 0, 5);
    unary<v0::Sqrt>("sqrt", types, 0, 60);
    unary<v0::Log>("log", types, 1, 60);
    unary<v0::Sin>("sin", types, -3, 3);
}

TEST(CudaElementwise, Activations) {
    unary<v0::Relu>("relu", with(float_types(), {ov::element::i32, ov::element::i8, ov::element::u8}));
    unary<v0::Sigmoid>("sigmoid", float_types(), -9, 9);
    unary<v4::Mish>("mish", float_types(), -9, 30);
    unary<v4::SoftPlus>("softplus", float_types(), -9, 30);
    unary<v9::SoftSign>("softsign", float_types());
    unary<v4::HSwish>("hswish", float_types());
    unary<v5::HSigmoid>("hsigmoid", float_types());
    unary<v0::Gelu>("gelu", float_types());
    unary<v4::Swish>("swish", float_types());
    for (const auto& type : float_types()) {
        Trial t("activations " + type.get_type_name());
        const auto x = t.in(type, {2, 3, 4});
        const auto a = Trial::constant(type, {}, {0.25}), b = Trial::constant(type, {}, {0.5});
        t.compare({make<v4::Swish>(x, a), make<v7::Gelu>(x, GeluApproximationMode::TANH), make<v7::Gelu>(x, GeluApproximationMode::ERF),
                   make<v0::Elu>(x, 0.7), make<v0::Selu>(x, a, b), make<v0::HardSigmoid>(x, a, b), make<v0::PRelu>(x, t.in(type, {3}, 0.1, 0.9)),
                   make<v0::PRelu>(x, t.in(type, {1}, 0.1, 0.9)), make<v0::PRelu>(x, t.in(type, {3, 1}, 0.1, 0.9)), make<v0::Clamp>(x, -1.5, 2.0)},
                  tolerance(type));
    }
    for (const auto& type : integer_types()) {
        Trial t("clamp " + type.get_type_name());
        t.compare({make<v0::Clamp>(t.in(type, {20}, -9, 9), -1.5, 2.5), make<v0::Clamp>(t.in(type, {20}, -9, 9), 1, 1e30)});
    }
}

TEST(CudaElementwise, Conversions) {
    for (const auto& from : with(number_types(), {boolean})) {
        for (const auto& to : with(number_types(), {boolean})) {
            Trial t("convert " + from.get_type_name() + " to " + to.get_type_name());
            const double low = to.is_signed() ? -100 : 0;
            t.compare({make<v0::Convert>(t.in(from, {3, 5}, low, 100), to), make<v1::ConvertLike>(t.in(from, {3}, low, 1), t.in(to, {1}))});
        }
    }
    for (const auto& narrow : {ov::element::f8e4m3, ov::element::f8e5m2}) {
        Trial t("convert " + narrow.get_type_name());
        t.compare({make<v0::Convert>(t.in(narrow, {50}, -400, 400), f32), make<v0::Convert>(t.in(f32, {50}, -300, 300), narrow),
                   make<v0::Convert>(t.in(f16, {50}, -3, 3), narrow)});
    }
    for (const auto& narrow : {ov::element::i4, ov::element::u4}) {
        Trial t("convert " + narrow.get_type_name());
        const auto x = Trial::constant(narrow, {5}, {1, 2, 7, 0, 5});
        t.compare({make<v1::Add>(make<v0::Convert>(x, f32), t.in(f32, {5})),
                   make<v1::Add>(make<v0::Convert>(x, ov::element::i32), t.in(ov::element::i32, {5}))});
    }
}

TEST(CudaElementwise, Selection) {
    for (const auto& type : with(number_types(), {boolean})) {
        Trial t("select " + type.get_type_name());
        t.compare({make<v1::Select>(t.in(boolean, {3, 1}), t.in(type, {2, 3, 4}), t.in(type, {4})),
                   make<v1::Select>(t.in(boolean, {2, 3}), t.in(type, {2, 3}), t.in(type, {2, 3}))});
    }
    const double infinity = std::numeric_limits<double>::infinity();
    for (const auto& type : {f32, f16, bf16}) {
        Trial t("classes " + type.get_type_name());
        const auto x = t.given(type, {6}, {1, infinity, -infinity, std::nan(""), 0, -2});
        t.compare({make<v10::IsNaN>(x), make<v10::IsFinite>(x), make<v10::IsInf>(x), make<v10::IsInf>(x, v10::IsInf::Attributes{false, true}),
                   make<v10::IsInf>(x, v10::IsInf::Attributes{true, false})});
    }
}

TEST(CudaElementwise, Quantization) {
    for (const auto& type : {f32, f16}) {
        for (const std::size_t levels : {2, 16, 255, 256}) {
            Trial t("fake quantize " + type.get_type_name());
            const auto x = t.in(type, {2, 3, 8}, -4, 4);
            t.compare(
                {make<v0::FakeQuantize>(x, t.given(type, {}, {-2}), t.given(type, {}, {2}), t.given(type, {}, {-1}), t.given(type, {}, {3}), levels),
                 make<v0::FakeQuantize>(x, t.in(type, {1, 3, 1}, -3, -1), t.in(type, {1, 3, 1}, 1, 3), t.in(type, {1, 3, 1}, 0, 1),
                                        t.in(type, {1, 3, 1}, 4, 5), levels)},
                1e-5);
        }
    }
    for (const auto& narrow : {ov::element::f8e4m3, ov::element::f8e5m2}) {
        Trial t("fake convert " + narrow.get_type_name());
        const auto x = t.in(f32, {2, 3, 40}, -700, 700);
        t.compare({make<v13::FakeConvert>(x, t.given(f32, {}, {1}), narrow),
                   make<v13::FakeConvert>(x, t.in(f32, {1, 3, 1}, 0.01, 2), t.in(f32, {1, 3, 1}, -1, 1), narrow),
                   make<v13::FakeConvert>(t.in(f16, {50}, -500, 500), t.given(f16, {}, {0.5}), narrow)});
    }
}

TEST(CudaElementwise, PaddleBroadcasting) {
    Trial t("pdpd");
    const auto x = t.in(f32, {2, 3, 4});
    t.compare({make<v1::Add>(x, t.in(f32, {3}), AutoBroadcastSpec(AutoBroadcastType::PDPD, 1)),
               make<v1::Multiply>(x, t.in(f32, {2, 3}), AutoBroadcastSpec(AutoBroadcastType::PDPD, 0)),
               make<v1::Subtract>(x, t.in(f32, {4}), AutoBroadcastSpec(AutoBroadcastType::PDPD, -1))});
}

}  // namespace
}  // namespace ai_vmm::cuda::test
