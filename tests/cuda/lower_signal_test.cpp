// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <complex>
#include <numbers>

#include "cuda/trial.hpp"

namespace ai_vmm::cuda::test {
namespace {

using namespace ov::op;
using ov::element::f16;
using ov::element::f32;
using ov::element::f64;
using ov::element::i32;
using ov::element::i64;

TEST(CudaSignal, FourierTransforms) {
    Trial t("dft");
    const auto x = t.in(f32, {3, 4, 5, 2});
    t.compare({make<v7::DFT>(x, Trial::ints({1})), make<v7::DFT>(x, Trial::ints({0, 2})), make<v7::DFT>(x, Trial::ints({-1, 0}), Trial::ints({7, 2})),
               make<v7::IDFT>(x, Trial::ints({1})), make<v7::IDFT>(x, Trial::ints({0, 1, 2})), make<v7::IDFT>(x, Trial::ints({2}), Trial::ints({3})),
               make<v7::DFT>(x, Trial::ints({0, 1}), Trial::ints({-1, 6}))},
              1e-5);
    Trial r("rdft");
    const auto y = r.in(f32, {3, 4, 6});
    r.compare({make<v9::RDFT>(y, Trial::ints({2})), make<v9::RDFT>(y, Trial::ints({1, 2})),
               make<v9::RDFT>(y, Trial::ints({0, -1}), Trial::ints({2, 5})), make<v9::RDFT>(y, Trial::ints({2, 0}), Trial::ints({4, 2}))},
              1e-5);
    Trial i("irdft");
    const auto z = i.in(f32, {3, 4, 6, 2});
    i.compare({make<v9::IRDFT>(z, Trial::ints({2}), Trial::ints({11})), make<v9::IRDFT>(z, Trial::ints({1, 2}), Trial::ints({4, 9})),
               make<v9::IRDFT>(z, Trial::ints({0, 2}), Trial::ints({2, 11}))},
              1e-5);
}

/// Sizes beyond the data's continue it with zeros, where OpenVINO's CPU plugin refuses or reads beyond its memory.
TEST(CudaSignal, LongerThanTheData) {
    Trial t("longer");
    const auto x = t.in(f32, {3, 4, 6, 2}), y = t.in(f32, {3, 5});
    const auto zeros = make<v1::Pad>(x, Trial::ints({0, 0, 0, 0}), Trial::ints({1, 0, 2, 0}), PadMode::CONSTANT);
    const auto more = make<v1::Pad>(y, Trial::ints({0, 0}), Trial::ints({1, 4}), PadMode::CONSTANT);
    t.expect({make<v9::IRDFT>(x, Trial::ints({0, 2}), Trial::ints({4, 14})), make<v9::RDFT>(y, Trial::ints({0, 1}), Trial::ints({4, 9}))},
             t.run({make<v9::IRDFT>(zeros, Trial::ints({0, 2}), Trial::ints({4, 14})), make<v9::RDFT>(more, Trial::ints({0, 1}))}));
}

/// Longer than one direct sum: factors, a power of two, a prime, a prime times a factor; against sums in f64, which OpenVINO's are not.
TEST(CudaSignal, LongTransforms) {
    for (const std::size_t size : {128, 1000, 1009, 2048, 202}) {
        const ov::Tensor values = spread(f32, {size, 2}, -1, 1, 0);
        std::vector<double> sums, inverse;
        for (std::size_t k = 0; k < size; ++k) {
            std::complex<double> sum, back;
            for (std::size_t n = 0; n < size; ++n) {
                const std::complex<double> x(static_cast<double>(values.data<float>()[2 * n]), static_cast<double>(values.data<float>()[2 * n + 1]));
                const auto root = std::polar(1.0, 2 * std::numbers::pi * static_cast<double>(k * n % size) / static_cast<double>(size));
                sum += x * std::conj(root);
                back += x * root / static_cast<double>(size);
            }
            sums.insert(sums.end(), {sum.real(), sum.imag()});
            inverse.insert(inverse.end(), {back.real(), back.imag()});
        }
        Trial t("dft of " + std::to_string(size));
        const auto x = t.in(f32, {size, 2}, -1, 1);
        t.expect({make<v7::DFT>(x, Trial::ints({0})), make<v7::IDFT>(x, Trial::ints({0}))},
                 {tensor(f32, {size, 2}, sums), tensor(f32, {size, 2}, inverse)}, 2e-5);
    }
}

TEST(CudaSignal, ShortTimeTransforms) {
    for (const bool transpose : {false, true}) {
        Trial t("stft");
        const auto signal = t.in(f32, {2, 48}), window = t.in(f32, {16}, 0.1, 1), narrow = t.in(f32, {7}, 0.1, 1);
        t.compare({make<v15::STFT>(signal, window, Trial::scalar(16), Trial::scalar(8), transpose),
                   make<v15::STFT>(signal, narrow, Trial::scalar(11), Trial::scalar(3), transpose),
                   make<v15::STFT>(t.in(f32, {30}), narrow, Trial::scalar(10), Trial::scalar(4), transpose)},
                  1e-5);
    }
    for (const bool centre : {false, true}) {
        for (const bool normalized : {false, true}) {
            Trial t("istft");
            const auto data = t.in(f32, {2, 9, 5, 2}), window = t.in(f32, {16}, 0.1, 1), narrow = t.in(f32, {7}, 0.1, 1);
            t.compare({make<v16::ISTFT>(data, window, Trial::scalar(16), Trial::scalar(4), centre, normalized),
                       make<v16::ISTFT>(data, window, Trial::scalar(16), Trial::scalar(8), Trial::scalar(40), centre, normalized),
                       make<v16::ISTFT>(t.in(f32, {6, 4, 2}), narrow, Trial::scalar(11), Trial::scalar(3), centre, normalized)},
                      1e-4);
        }
    }
}

TEST(CudaSignal, Einsum) {
    struct Case {
        std::string equation;
        std::vector<ov::Shape> shapes;
    };
    for (const Case& k : std::vector<Case>{{"ij,jk->ik", {{2, 3}, {3, 4}}},
                                           {"bij,bjk->bik", {{2, 3, 4}, {2, 4, 5}}},
                                           {"bhqd,bhkd->bhqk", {{2, 3, 4, 5}, {2, 3, 6, 5}}},
                                           {"i,j->ij", {{3}, {4}}},
                                           {"i,i->", {{5}, {5}}},
                                           {"ijk->kji", {{2, 3, 4}}},
                                           {"ijk->j", {{2, 3, 4}}},
                                           {"ii->i", {{4, 4}}},
                                           {"iji->j", {{3, 4, 3}}},
                                           {"ij,jk,kl->il", {{2, 3}, {3, 4}, {4, 5}}},
                                           {"...ij,...jk->...ik", {{2, 1, 3, 4}, {5, 4, 2}}},
                                           {"a...b,b...->a...", {{2, 3, 4}, {4, 3}}},
                                           {"ij,ij->ij", {{2, 3}, {2, 3}}},
                                           {"abc,cd->da", {{2, 3, 4}, {4, 5}}},
                                           {"b,a->ab", {{3}, {2}}},
                                           {"ji,kj", {{2, 3}, {4, 2}}}}) {
        Trial t("einsum " + k.equation);
        ov::OutputVector inputs;
        for (const auto& shape : k.shapes) inputs.push_back(t.in(f32, shape));
        t.compare(make<v7::Einsum>(inputs, k.equation), 1e-5);
    }
    Trial i("integers");
    i.compare(make<v7::Einsum>(ov::OutputVector{i.in(i32, {2, 3}), i.in(i32, {3, 4})}, "ij,jk->ik"));
}

TEST(CudaSignal, RandomNumbers) {
    for (const auto& type : {f32, f16, i32, i64}) {
        Trial t("random " + type.get_type_name());
        const auto low = Trial::constant(type, {}, {-5}), high = Trial::constant(type, {}, {40});
        const auto random = make<v8::RandomUniform>(Trial::ints({3, 50}), low, high, type, 150, 10);
        t.compare(make<v1::Add>(random, t.in(type, {1}, 0, 0)));
    }
}

/// The numbers are those that the CPU plugin draws.
TEST(CudaSignal, Multinomial) {
    for (const auto& type : {f32, f16}) {
        for (const bool replace : {true, false}) {
            for (const bool logarithms : {true, false}) {
                Trial t("multinomial " + type.get_type_name());
                const auto odds = logarithms ? t.in(type, {3, 17}, -3, 0) : t.in(type, {3, 17}, 0.1, 1);
                const auto sure = t.given(type, {1, 4}, logarithms ? std::vector<double>{-3, -1, 0, -2} : std::vector<double>{0, 1, 0, 3});
                t.compare({make<v13::Multinomial>(odds, Trial::ints({9}), i32, replace, logarithms, 7, 11),
                           make<v13::Multinomial>(odds, Trial::ints({15}), i64, replace, logarithms, 1, 0),
                           make<v13::Multinomial>(sure, Trial::ints({2}), i64, replace, logarithms, 1ULL << 40U, 3)});
            }
        }
    }
}

TEST(CudaSignal, Inverses) {
    for (const bool adjoint : {false, true}) {
        Trial t("inverse");
        t.compare({make<v14::Inverse>(t.in(f32, {3, 4, 4}), adjoint), make<v14::Inverse>(t.in(f32, {7, 7}), adjoint),
                   make<v14::Inverse>(t.in(f32, {2, 2, 1, 1}, 1, 3), adjoint),
                   make<v14::Inverse>(t.given(f32, {3, 3}, {0, 2, 1, 1, 0, 3, 4, -3, 8}), adjoint)},
                  1e-3);
    }
}

}  // namespace
}  // namespace ai_vmm::cuda::test
