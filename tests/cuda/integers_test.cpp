// SPDX-License-Identifier: Apache-2.0
/// Products of quantised models in integers.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "ai_vmm/error.hpp"
#include "cuda/host_device.hpp"
#include "cuda/library_device.hpp"
#include "cuda/nvrtc_fixture.hpp"
#include "cuda/on_device.hpp"
#include "cuda/quantised_models.hpp"
#include "driver/kernel_compiler.hpp"
#include "lower/lower.hpp"
#include "program/program.hpp"
#include "program/schedule.hpp"

namespace ai_vmm::cuda::test {
namespace {

using namespace ov::op;
using ov::element::f32;
using ov::element::i32;
using ov::element::i8;
using ov::element::u8;

/// Products of i8 that the library runs.
std::vector<MatmulSpec> integer_products_of(const ov::OutputVector& inputs, const Output& y, const LowerOptions& options = {}) {
    LibraryDevice device;
    std::vector<MatmulSpec> found = specs_of<MatmulSpec>(make_schedule(lowered(inputs, y, options), device));
    std::erase_if(found, [](const MatmulSpec& spec) { return spec.type != Type::i8; });
    return found;
}

TEST(CudaIntegers, BehindFakeQuantize) {
    for (const auto& [low, high] : {std::pair{-1.0, 1.0}, {0.0, 2.0}, {-0.3, 2.4}}) {
        for (const std::size_t levels : {255, 256}) {
            Trial t(fmt::format("[{}, {}] in {}", low, high, levels));
            const auto x = t.in(f32, {3, 5, 64}, -1.5, 2.5);
            const auto y = make<v0::MatMul>(fake_quantized(x, low, high, levels), weights(i8, {20, 64}, {20, 1}), false, true);
            t.compare(y, 5e-6);
            EXPECT_EQ(integer_products_of({x}, y).size(), 1U);
        }
    }
}

TEST(CudaIntegers, BehindQuantizeLinear) {
    for (const auto& type : {u8, i8}) {
        for (const int zero : {0, 7, 120}) {
            Trial t(fmt::format("{} with zero {}", type.get_type_name(), zero));
            const auto x = t.in(f32, {12, 64}, -2, 3);
            const Output q = through_integers(x, 0.02, zero, type);
            // ONNX's order: k first.
            const Output y = make<v0::MatMul>(q, weights(i8, {64, 24}, {1, 24}), false, false);
            const Output biased = make<v1::Add>(y, std::make_shared<v0::Constant>(spread(f32, {24}, -1, 1, 8)));
            t.compare(make<v0::Relu>(biased), 5e-6);
            t.compare(through_integers(make<v0::Relu>(biased), 0.5, 0, u8).get_node_shared_ptr(), 5e-6);
            EXPECT_EQ(integer_products_of({x}, make<v0::Relu>(biased)).size(), 1U);
        }
    }
}

TEST(CudaIntegers, OneKernelStandsBetweenTwoProducts) {
    const auto x = std::make_shared<v0::Parameter>(f32, ov::Shape{12, 64});
    const Output first = make<v0::MatMul>(through_integers(x, 0.02, 120, u8), weights(i8, {64, 64}, {64, 1}), false, true);
    const Output biased = make<v1::Add>(through_integers(first, 0.03, 128, u8), std::make_shared<v0::Constant>(spread(f32, {64}, -1, 1, 8)));
    const Output y = make<v0::MatMul>(through_integers(make<v0::Relu>(biased), 0.02, 0, u8), weights(i8, {16, 64}, {16, 1}), false, true);
    LibraryDevice device;
    const Schedule schedule = make_schedule(lowered({x}, y), device);
    EXPECT_EQ(schedule.steps.size(), 5U) << print(schedule);
    EXPECT_EQ(std::ranges::count_if(specs_of<MatmulSpec>(schedule), [](const MatmulSpec& spec) { return spec.type == Type::i8; }), 2);
}

Output convolution(const Output& x, const Output& w, std::ptrdiff_t pad = 0) {
    return make<v1::Convolution>(x, w, ov::Strides{1, 1}, ov::CoordinateDiff{pad, pad}, ov::CoordinateDiff{pad, pad}, ov::Strides{1, 1});
}

TEST(CudaIntegers, ConvolutionsOfSinglePixels) {
    Trial t("1x1");
    const auto x = t.in(f32, {2, 128, 5, 3}, -2, 3);
    const Output bias = std::make_shared<v0::Constant>(spread(f32, {1, 128, 1, 1}, -1, 1, 8));
    const Output first =
        make<v0::Relu>(make<v1::Add>(convolution(through_integers(x, 0.02, 120, u8), weights(i8, {128, 128, 1, 1}, {128, 1, 1, 1})), bias));
    t.compare(first.get_node_shared_ptr(), 1e-5);
    const Output second = convolution(through_integers(first, 0.03, 0, u8), weights(u8, {16, 128, 1, 1}, {1, 1, 1, 1}, 128));
    // Another one reads it, which wants channels side by side.
    const Output y = convolution(make<v0::Relu>(second), std::make_shared<v0::Constant>(spread(f32, {8, 16, 3, 3}, -1, 1, 2)), 1);
    EXPECT_EQ(integer_products_of({x}, y).size(), 2U);
    LibraryDevice device;
    const Schedule schedule = make_schedule(lowered({x}, y), device);
    // To integers, where channels come to lie side by side (two steps), both products, what stands behind each, the convolution, and its result in
    // order.
    EXPECT_EQ(schedule.steps.size(), 8U) << print(schedule);
    // Halves save less.
    EXPECT_TRUE(integer_products_of({x}, first, {.float_type = Type::f16}).empty());
    const auto wide = std::make_shared<v0::Parameter>(f32, ov::Shape{2, 512, 5, 3});
    const Output narrow = convolution(through_integers(wide, 0.02, 120, u8), weights(i8, {64, 512, 1, 1}, {64, 1, 1, 1}));
    EXPECT_EQ(integer_products_of({wide}, narrow, {.float_type = Type::f16}).size(), 1U);
    Trial small("few channels");
    const auto few = small.in(f32, {2, 64, 5, 3}, -2, 3);
    const Output z = convolution(through_integers(few, 0.02, 120, u8), weights(i8, {16, 64, 1, 1}, {16, 1, 1, 1}));
    small.compare(z.get_node_shared_ptr(), 1e-5);
    EXPECT_TRUE(integer_products_of({few}, z).empty());
}

TEST(CudaIntegers, ZerosOfColumnsAreReadFromVectors) {
    // ONNX's reader: a zero for each column in one dimension, which is folded to floats, and then reshaped.
    for (const int zero : {0, 130}) {
        const auto type = zero == 0 ? i8 : u8;
        Trial t(fmt::format("zero {}", zero));
        const auto x = t.in(f32, {12, 64}, -2, 3);
        const auto column = [](const Output& vector) { return make<v1::Reshape>(vector, Trial::ints({1, 24}), false); };
        const Output q = make<v0::Convert>(integers(type, {64, 24}, zero == 0 ? -127 : 3, zero == 0 ? 127 : 257 - 2), f32);
        const Output zeros = make<v0::Convert>(Trial::constant(type, {24}, std::vector<double>(24, zero)), f32);
        const Output scales = std::make_shared<v0::Constant>(spread(f32, {24}, 0.001, 0.002, 3));
        const Output w = make<v1::Multiply>(make<v1::Subtract>(q, column(zeros)), column(scales));
        const Output y = make<v0::MatMul>(through_integers(x, 0.02, 120, u8), w, false, false);
        t.compare(y.get_node_shared_ptr(), 5e-6);
        for (const Type precision : {Type::f32, Type::f16}) EXPECT_EQ(integer_products_of({x}, y, {.float_type = precision}).size(), 1U);
    }
}

TEST(CudaIntegers, IntegersThatAreGiven) {
    Trial t("inputs of u8 and i8");
    const auto a = t.in(u8, {10, 64}, 0, 255), b = t.in(i8, {10, 64}, -128, 127);
    const auto scaled = [](const Output& q, int zero) {
        return make<v1::Multiply>(make<v1::Subtract>(make<v0::Convert>(q, f32), number(zero)), number(0.01));
    };
    const auto y = make<v1::Add>(make<v0::MatMul>(scaled(a, 3), weights(i8, {64, 16}, {1, 16}), false, false),
                                 make<v0::MatMul>(scaled(b, 0), weights(u8, {16, 64}, {1, 1}, 128), false, true));
    t.compare(y, 1e-5);
    EXPECT_EQ(integer_products_of({a, b}, y).size(), 2U);
}

TEST(CudaIntegers, ViewsStandBetween) {
    Trial t("views");
    const auto x = t.in(f32, {8, 16, 8}, -2, 2);
    const Output q = make<v1::Transpose>(through_integers(x, 0.02, 128, u8), Trial::ints({0, 2, 1}));
    const Output rows = make<v1::Reshape>(q, Trial::ints({16, 64}), false);
    const Output w = make<v1::Reshape>(weights(i8, {12, 4, 16}, {12, 1, 1}), Trial::ints({12, 64}), false);
    const auto y = make<v0::MatMul>(rows, w, false, true);
    t.compare(y, 5e-6);
    EXPECT_EQ(integer_products_of({x}, y).size(), 1U);
}

TEST(CudaIntegers, OneValueIsQuantisedOnce) {
    Trial t("queries, keys, values");
    const auto x = t.in(f32, {12, 64}, -2, 2);
    const Output q = fake_quantized(x, -2, 2);
    Output sum = make<v0::MatMul>(q, weights(i8, {16, 64}, {16, 1}), false, true);
    for (unsigned k = 2; k < 4; ++k) sum = make<v1::Add>(sum, make<v0::MatMul>(q, weights(i8, {16, 64}, {16, 1}, 0, k), false, true));
    t.compare(sum.get_node_shared_ptr(), 1e-5);
    LibraryDevice device;
    const Schedule schedule = make_schedule(lowered({x}, sum), device);
    EXPECT_NE(print(schedule).find("i8[1,12,64]"), std::string::npos) << print(schedule);
    // To integers, a product of all three matrices, and their sum.
    EXPECT_EQ(schedule.steps.size(), 3U) << print(schedule);
}

TEST(CudaIntegers, WhatIsAskedOfTheLibrary) {
    const auto x = std::make_shared<v0::Parameter>(f32, ov::Shape{32, 128});
    for (const Type type : {Type::f32, Type::f16, Type::bf16}) {
        const auto made = integer_products_of({x}, make<v0::MatMul>(through_integers(x, 0.02, 3, u8), weights(i8, {128, 64}, {1, 64}), false, false),
                                              {.float_type = type});
        ASSERT_EQ(made.size(), 1U);
        EXPECT_EQ(made[0].result, Type::i32);
        EXPECT_TRUE(made[0].transpose_b && !made[0].transpose_a);
        EXPECT_EQ(made[0].row_stride_a, 128);
        EXPECT_EQ(made[0].row_stride_b, 128);
    }
    // The matrix itself is what lies in memory: one byte an element, and a scale and a sum for each of 64 columns.
    LibraryDevice device;
    const Schedule schedule =
        make_schedule(lowered({x}, make<v0::MatMul>(through_integers(x, 0.02, 3, u8), weights(i8, {64, 128}, {64, 1}), false, true)), device);
    EXPECT_LE(schedule.weight_bytes, 64 * 128 + 64 * 8) << print(schedule);
}

TEST(CudaIntegers, ALibraryComputesThem) {
    const auto x = std::make_shared<v0::Parameter>(f32, ov::Shape{32, 128});
    const Output y = make<v0::MatMul>(through_integers(x, 0.02, 3, u8), weights(i8, {128, 64}, {1, 64}), false, false);
    const ov::Tensor in = spread(f32, {32, 128}, -2, 2, 5);
    std::vector<std::vector<float>> results;
    for (const auto& device : {std::shared_ptr<Device>(std::make_shared<LibraryDevice>()), std::shared_ptr<Device>(std::make_shared<HostDevice>())}) {
        Execution execution(std::make_shared<Program>(device, lowered({x}, y), std::make_shared<WeightStore>(device)));
        std::vector<float> out(32 * 64);
        const void* inputs[] = {in.data()};
        void* outputs[] = {out.data()};
        execution.run(inputs, outputs);
        results.push_back(std::move(out));
    }
    EXPECT_EQ(results[0], results[1]);
}

TEST(CudaIntegers, KernelsCompileForGpus) {
    if (const std::string missing = nvrtc_missing(); !missing.empty()) GTEST_SKIP() << missing;
    LikeAGpu device;
    for (const Type type : {Type::f32, Type::f16}) {
        for (const std::size_t rows : {12, 4096}) {
            const auto x = std::make_shared<v0::Parameter>(f32, ov::Shape{rows, 768});
            const Output y = make<v0::MatMul>(through_integers(x, 0.02, 3, u8), weights(i8, {768, 768}, {1, 768}), false, false);
            const Output again = make<v0::MatMul>(fake_quantized(make<v0::Relu>(y), 0, 3), weights(u8, {64, 768}, {1, 1}, 128), false, true);
            const Schedule schedule = make_schedule(lowered({x}, again, {.float_type = type}), device);
            EXPECT_EQ(schedule.steps.size(), 5U) << print(schedule);
            EXPECT_NO_THROW((void)compile_kernels(module_source(schedule).text, {.compute = 90, .threads_per_block = 256, .driver_version = 13000}));
        }
    }
}

TEST(CudaIntegers, MatMulInteger) {
    for (const bool known : {false, true}) {
        Trial t(known ? "known zero" : "computed zero");
        const auto q = t.in(u8, {12, 64}, 0, 255), zero = t.given(u8, {}, {131});
        const Output shift = known ? Trial::constant(i32, {1}, {131}) : Output(make<v0::Convert>(zero, i32));
        const Output a = make<v1::Subtract>(make<v0::Convert>(q, i32), shift);
        const Output b = make<v1::Subtract>(make<v0::Convert>(integers(i8, {64, 20}, -120, 120), i32), Trial::constant(i32, {1}, {2}));
        const Output y = make<v0::MatMul>(a, b, false, false);
        t.compare(make<v1::Add>(y, make<v0::Convert>(zero, i32)));
        EXPECT_EQ(integer_products_of({q, zero}, make<v1::Add>(y, make<v0::Convert>(zero, i32))).size(), 1U);
        const auto row = t.in(u8, {1, 64}, 0, 255);  // nothing else multiplies integers fast
        const Output one = make<v0::MatMul>(make<v1::Subtract>(make<v0::Convert>(row, i32), shift), b, false, false);
        t.compare(make<v1::Add>(one, make<v0::Convert>(zero, i32)));
        EXPECT_EQ(integer_products_of({row, zero}, make<v1::Add>(one, make<v0::Convert>(zero, i32))).size(), 1U);
    }
}

TEST(CudaIntegers, WhatIsNotIntegersStaysInFloats) {
    const auto x = std::make_shared<v0::Parameter>(f32, ov::Shape{12, 64});
    const auto few = std::make_shared<v0::Parameter>(f32, ov::Shape{4, 64});
    const auto product = [](const Output& a, const Output& b) { return make<v0::MatMul>(a, b, false, true); };
    const auto count = [&](const Output& y) { return integer_products_of({x}, y).size(); };
    EXPECT_EQ(count(product(fake_quantized(x, -1, 1), weights(i8, {16, 64}, {16, 1}))), 1U);
    EXPECT_EQ(count(product(x, weights(i8, {16, 64}, {16, 1}))), 0U);                             // weights alone
    EXPECT_EQ(count(product(fake_quantized(x, -1, 1, 16), weights(i8, {16, 64}, {16, 1}))), 0U);  // 4 bits
    EXPECT_EQ(count(product(fake_quantized(x, -1, 1), weights(u8, {16, 64}, {16, 1}, 7))), 0U);   // weights up to 248
    EXPECT_EQ(count(product(fake_quantized(x, -1, 1), weights(i8, {15, 64}, {15, 1}))), 0U);      // columns not in fours
    const Output groups = make<v1::Reshape>(weights(i8, {16, 2, 32}, {16, 2, 1}), Trial::ints({16, 64}), false);
    EXPECT_EQ(count(product(fake_quantized(x, -1, 1), groups)), 0U);
    // Every channel of a row with a range of its own.
    const Output low = Trial::constant(f32, {1, 64}, std::vector<double>(64, -1)), high = Trial::constant(f32, {1, 64}, std::vector<double>(64, 1));
    EXPECT_EQ(count(product(make<v0::FakeQuantize>(x, low, high, low, high, 256), weights(i8, {16, 64}, {16, 1}))), 0U);
    EXPECT_TRUE(integer_products_of({few}, product(fake_quantized(few, -1, 1), weights(i8, {16, 64}, {16, 1}))).empty());
}

TEST(CudaIntegers, ASmallScaleSurvivesHalves) {
    // 1e-7 is nothing in f16; what it multiplies is.
    const auto x = std::make_shared<v0::Parameter>(f32, ov::Shape{12, 64});
    for (const std::size_t rows : {2, 12}) {
        const auto given = std::make_shared<v0::Parameter>(f32, ov::Shape{rows, 64});
        const Output w = make<v1::Multiply>(make<v0::Convert>(integers(i8, {16, 64}, 100, 127), f32),
                                            Trial::constant(f32, {16, 1}, std::vector<double>(16, 1e-7)));
        const Output y = make<v0::MatMul>(fake_quantized(given, -100, 100), w, false, true);
        const auto device = std::make_shared<HostDevice>();
        Execution execution(std::make_shared<Program>(device, lowered({given}, y, {.float_type = Type::f16}), std::make_shared<WeightStore>(device)));
        const std::vector<float> in(rows * 64, 100.0F);
        std::vector<float> out(rows * 16);
        const void* inputs[] = {in.data()};
        void* outputs[] = {out.data()};
        execution.run(inputs, outputs);
        for (float one : out) EXPECT_NEAR(one, 64 * 100 * 113.5e-7, 64 * 100 * 14e-7);
    }
}

using IntegersOnDevice = OnDeviceAndHost;

TEST_F(IntegersOnDevice, ProductsAreWhatTheProcessorComputes) {
    for (const auto& [rows, depth, columns] : {std::tuple{12U, 64U, 24U}, {100U, 256U, 512U}, {33U, 1024U, 4U}}) {
        const auto x = std::make_shared<v0::Parameter>(f32, ov::Shape{rows, depth});
        const Output y = make<v0::MatMul>(through_integers(x, 0.02, 120, u8), weights(i8, {depth, columns}, {1, columns}), false, false);
        for (const Type type : {Type::f32, Type::f16}) {
            // Near the middles of steps: no rounding goes the other way on one side.
            std::vector<float> in(std::size_t{rows} * depth);
            for (std::size_t i = 0; i < in.size(); ++i) in[i] = 0.02F * static_cast<float>(static_cast<int>(i * 37 % 256) - 120) + 0.003F;
            std::vector<std::vector<float>> results;
            for (const auto& device : {device_, std::shared_ptr<Device>(host_)}) {
                const auto program = std::make_shared<Program>(device, lowered({x}, y, {.float_type = type}), std::make_shared<WeightStore>(device));
                if (device == device_) {
                    const auto& steps = program->schedule().steps;
                    EXPECT_TRUE(std::ranges::any_of(steps, [](const Step& step) { return step.kind == Step::Kind::library; }))
                        << "the library takes no i8 here: " << print(program->schedule());
                }
                Execution execution(program);
                std::vector<float> out(std::size_t{rows} * columns);
                const void* inputs[] = {in.data()};
                void* outputs[] = {out.data()};
                execution.run(inputs, outputs);
                results.push_back(std::move(out));
            }
            const double tolerance = type == Type::f16 ? 2e-3 : 1e-6;
            for (std::size_t i = 0; i < results[0].size(); ++i) ASSERT_NEAR(results[0][i], results[1][i], tolerance * (1 + std::abs(results[1][i])));
        }
    }
}

}  // namespace
}  // namespace ai_vmm::cuda::test
