// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include "cuda/trial.hpp"

namespace ai_vmm::cuda::test {
namespace {

using namespace ov::op;
using ov::element::boolean;
using ov::element::f16;
using ov::element::f32;
using ov::element::f64;
using ov::element::i32;

template <typename Op>
void reduce(const std::string& name, const std::vector<ov::element::Type>& types, double low, double high) {
    for (const auto& type : types) {
        Trial t(name + " " + type.get_type_name());
        // The CPU plugin saturates where 8 and 16 bits overflow; nothing does here.
        const bool narrow = type.is_integral_number() && type.bitwidth() < 32;
        if (narrow) {
            low = 0;
            high = 1;
        }
        const auto x = t.in(type, {2, 3, 4, 5}, low, high);
        ov::OutputVector results;
        for (const bool keep : {true, false}) {
            for (const auto& axes : std::vector<std::vector<std::int64_t>>{{1}, {-1}, {0, 2}, {1, 2}, {3, 0}, {0, 1, 2, 3}, {}}) {
                // Types without an evaluation go to the CPU plugin, which needs an axis.
                const bool evaluated = type == f32 || type == f16 || type == ov::element::bf16 || type == i32 || type == ov::element::i64;
                if (!axes.empty() || evaluated) results.push_back(make<Op>(x, Trial::ints(axes), keep));
            }
        }
        if (!narrow) results.push_back(make<Op>(t.in(type, {1, 700}, low, high), Trial::ints({1}), false));
        results.push_back(make<Op>(t.in(type, {4, 1}, low, high), Trial::scalar(1), false));
        t.compare(results, type == f16 || type == ov::element::bf16 ? 2e-2 : 1e-5);
    }
}

TEST(CudaReductions, EveryKind) {
    reduce<v1::ReduceSum>("sum", number_types(), -3, 3);
    reduce<v1::ReduceMean>("mean", float_types(), -9, 9);
    reduce<v1::ReduceMean>("mean", {i32, ov::element::i64}, -9, 9);
    reduce<v1::ReduceMax>("max", number_types(), -9, 9);
    reduce<v1::ReduceMin>("min", number_types(), -9, 9);
    reduce<v4::ReduceL1>("l1", number_types(), -3, 3);
    reduce<v4::ReduceL2>("l2", {f32, f64}, -3, 3);
    reduce<v1::ReduceProd>("product", {f32, f64}, 0.95, 1.05);
    reduce<v1::ReduceProd>("product", {i32, ov::element::i64, ov::element::u32, ov::element::u64}, 1, 2);
    reduce<v1::ReduceLogicalAnd>("and", {boolean}, 0, 1);
    reduce<v1::ReduceLogicalOr>("or", {boolean}, 0, 1);
}

TEST(CudaReductions, OfNothing) {
    for (const auto& type : {f32, i32}) {
        Trial t("nothing");
        const auto x = t.in(type, {2, 0, 3});
        t.compare({make<v1::ReduceSum>(x, Trial::ints({1}), false), make<v1::ReduceProd>(x, Trial::ints({1}), true),
                   make<v1::ReduceSum>(x, Trial::ints({0}), true), make<v4::ReduceL1>(x, Trial::ints({0, 1, 2}), false),
                   make<v1::ReduceMax>(x, Trial::ints({0}), true)});
    }
}

TEST(CudaReductions, Softmax) {
    for (const auto& type : float_types()) {
        Trial t("softmax " + type.get_type_name());
        const auto x = t.in(type, {2, 3, 4}, -20, 20), line = t.in(type, {500}, -90, 90);
        t.compare({make<v1::Softmax>(x, 1), make<v8::Softmax>(x, -1), make<v8::Softmax>(x, 0), make<v5::LogSoftmax>(x, 1),
                   make<v5::LogSoftmax>(x, -1), make<v8::Softmax>(line, 0)},
                  1e-5);
    }
}

TEST(CudaReductions, Normalisations) {
    for (const auto& type : float_types()) {
        Trial t("mvn " + type.get_type_name());
        const auto x = t.in(type, {2, 6, 3, 4});
        const double tolerance = type == f16 ? 5e-3 : type == ov::element::bf16 ? 4e-2 : 1e-5;
        t.compare({make<v6::MVN>(x, Trial::ints({2, 3}), true, 1e-5F, MVNEpsMode::INSIDE_SQRT),
                   make<v6::MVN>(x, Trial::ints({1, -1}), true, 1e-2F, MVNEpsMode::OUTSIDE_SQRT),
                   make<v6::MVN>(x, Trial::ints({-1}), false, 1e-5F, MVNEpsMode::INSIDE_SQRT)},
                  tolerance);
        Trial o("old mvn " + type.get_type_name());
        const auto y = o.in(type, {2, 6, 3, 4});
        o.compare({make<v0::MVN>(y, true, true, 1e-3), make<v0::MVN>(y, false, true, 1e-3), make<v0::MVN>(y, false, false, 1e-3)}, tolerance);
        Trial n("l2 " + type.get_type_name());
        const auto z = n.in(type, {2, 6, 3, 4});
        n.compare(
            {make<v0::NormalizeL2>(z, Trial::ints({1}), 1e-2F, EpsMode::ADD), make<v0::NormalizeL2>(z, Trial::ints({1, 2, 3}), 3.0F, EpsMode::MAX),
             make<v0::NormalizeL2>(z, Trial::ints({-1}), 5.0F, EpsMode::MAX)},
            tolerance);
        Trial g("group " + type.get_type_name());
        const auto w = g.in(type, {2, 6, 3, 4});
        if (type != ov::element::bf16)
            g.compare({make<v12::GroupNormalization>(w, g.in(type, {6}), g.in(type, {6}), 3, 1e-3),
                       make<v12::GroupNormalization>(w, g.in(type, {6}), g.in(type, {6}), 1, 1e-3)},
                      tolerance);
        Trial b("batch " + type.get_type_name());
        const auto data = b.in(type, {2, 6, 3});
        const auto gamma = b.in(type, {6}), beta = b.in(type, {6}), mean = b.in(type, {6}), variance = b.in(type, {6}, 0.5, 3);
        b.compare({make<v0::BatchNormInference>(data, gamma, beta, mean, variance, 1e-3),
                   make<v5::BatchNormInference>(data, gamma, beta, mean, variance, 1e-3)},
                  tolerance);
        Trial r("lrn " + type.get_type_name());
        const auto v = r.in(type, {2, 6, 3, 4});
        r.compare({make<v0::LRN>(v, Trial::ints({1}), 0.5, 0.75, 1.0, 3)}, tolerance);
        Trial k("grn " + type.get_type_name());
        k.compare(make<v0::GRN>(k.in(type, {2, 6, 3, 4}), 0.5F), tolerance);
    }
}

/// Windows over several axes, from the specification: alpha / size^axes times the sum of squares.
TEST(CudaReductions, ResponseOverAPlane) {
    Trial t("lrn");
    const auto x = t.in(f32, {1, 1, 3, 3}, 1, 1);
    const double c = 1.0 / 5, e = 1.0 / 7;
    t.expect({make<v0::LRN>(x, Trial::ints({2, 3}), 9.0, 1.0, 1.0, 3)}, {tensor(f32, {1, 1, 3, 3}, {c, e, c, e, 0.1, e, c, e, c})});
}

}  // namespace
}  // namespace ai_vmm::cuda::test
