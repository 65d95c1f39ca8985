// SPDX-License-Identifier: Apache-2.0
/// Convolutions of quantised models in integers.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <functional>
#include <span>
#include <sstream>

#include "cuda/nvrtc_fixture.hpp"
#include "cuda/on_device.hpp"
#include "cuda/quantised_models.hpp"
#include "driver/kernel_compiler.hpp"
#include "program/program.hpp"
#include "program/stored_program.hpp"

namespace ai_vmm::cuda::test {
namespace {

using namespace ov::op;
using ov::element::f32;
using ov::element::i32;
using ov::element::i8;
using ov::element::u8;

struct Window {
    ov::Strides stride{1, 1};
    ov::CoordinateDiff before{1, 1}, behind{1, 1};
    ov::Strides dilation{1, 1};
};

Output convolved(const Output& x, const Output& w, const Window& window = {}) {
    return make<v1::Convolution>(x, w, window.stride, window.before, window.behind, window.dilation);
}

/// Filters of (out, in, kernel..) with a scale for each of `out`.
Output filters(const ov::Shape& shape, const ov::element::Type& type = i8, int zero = 0, unsigned seed = 1) {
    return weights(type, shape, {shape[0], 1, 1, 1}, zero, seed);
}

bool is_integer(const ConvolutionSpec& spec) { return spec.type == Type::i8; }

/// A library that takes no convolution for which `refused` holds.
std::shared_ptr<LibraryDevice> refusing(const std::function<bool(const ConvolutionSpec&)>& refused) {
    auto device = std::make_shared<LibraryDevice>();
    device->takes_convolution = [refused](const ConvolutionSpec& spec) { return !refused(spec); };
    return device;
}

/// The convolutions of i8 that are run.
std::vector<ConvolutionSpec> integer_convolutions(const Schedule& schedule) {
    std::vector<ConvolutionSpec> found;
    for (const Step& step : schedule.steps) {
        if (step.kind != Step::Kind::library) continue;
        const auto* spec = std::get_if<ConvolutionSpec>(&schedule.specs.at(step.index));
        if (spec != nullptr && is_integer(*spec)) found.push_back(*spec);
    }
    return found;
}

std::vector<ConvolutionSpec> integer_convolutions(const Output& x, const Output& y, Type type = Type::f32) {
    LibraryDevice device;
    return integer_convolutions(make_schedule(lowered({x}, y, {.float_type = type}), device));
}

struct Outcome {
    std::vector<float> values;
    Schedule schedule;
};

/// `y` of the one input `x`, whose values lie near the middles of steps of 0.02, where no rounding goes another way in 16 bits.
Outcome run(const std::shared_ptr<Device>& device, const Output& x, const Output& y, Type type) {
    const auto program = std::make_shared<Program>(device, lowered({x}, y, {.float_type = type}), std::make_shared<WeightStore>(device));
    std::vector<float> in(ov::shape_size(x.get_shape())), out(ov::shape_size(y.get_shape()));
    for (std::size_t i = 0; i < in.size(); ++i) in[i] = 0.02F * static_cast<float>(static_cast<int>(i * 37 % 256) - 120) + 0.003F;
    const void* inputs[] = {in.data()};
    void* outputs[] = {out.data()};
    Execution(program).run(inputs, outputs);
    return {std::move(out), program->schedule()};
}

void expect_same(const std::vector<float>& a, const std::vector<float>& b, double tolerance) {
    ASSERT_EQ(a.size(), b.size());
    for (std::size_t i = 0; i < a.size(); ++i) ASSERT_NEAR(a[i], b[i], tolerance * (1 + std::abs(b[i]))) << i;
}

/// As a whole: floats are rounded on their way to the sums, and some to the step beside theirs. @param limit  of the difference's norm; without its
/// correction a border alone is off by ten times that.
void expect_close(const std::vector<float>& a, const std::vector<float>& b, double limit) {
    ASSERT_EQ(a.size(), b.size());
    double difference = 0, size = 0;
    for (std::size_t i = 0; i < a.size(); ++i) {
        difference += std::pow(static_cast<double>(a[i]) - static_cast<double>(b[i]), 2);
        size += std::pow(static_cast<double>(b[i]), 2);
    }
    EXPECT_GT(size, 0);
    EXPECT_LE(std::sqrt(difference / size), limit);
}
constexpr double kHalvesLimit = 5e-3;

/// Runs `y` in integers and in floats. @returns the convolutions of integers
std::vector<ConvolutionSpec> expect_as_in_floats(
    const Output& x, const Output& y, Type type, const std::function<bool(const ConvolutionSpec&)>& refused = [](const auto&) { return false; }) {
    const auto device = refusing(refused);
    const Outcome integers = run(device, x, y, type), floats = run(refusing(is_integer), x, y, type);
    EXPECT_TRUE(integer_convolutions(floats.schedule).empty());
    if (type == Type::f32) {
        expect_same(integers.values, floats.values, 1e-5);
    } else {
        expect_close(integers.values, floats.values, type == Type::f16 ? kHalvesLimit : 2e-2);
    }
    EXPECT_EQ(device->problems(), std::vector<std::string>{});
    return integer_convolutions(integers.schedule);
}

std::shared_ptr<v0::Parameter> image(std::size_t channels = 64, std::size_t height = 9, std::size_t width = 7) {
    return std::make_shared<v0::Parameter>(f32, ov::Shape{2, channels, height, width});
}

TEST(CudaIntegerConvolutions, EveryKindOfQuantisation) {
    const auto x = image();
    const std::pair<const char*, Output> all[] = {
        {"symmetric i8", through_integers(x, 0.02, 0, i8)},       {"i8 with a zero", through_integers(x, 0.02, -7, i8)},
        {"symmetric u8", through_integers(x, 0.02, 128, u8)},     {"u8 with a zero", through_integers(x, 0.02, 120, u8)},
        {"u8 from 0", through_integers(x, 0.02, 0, u8)},          {"FakeQuantize from 0", fake_quantized(x, 0, 2.4)},
        {"symmetric, 255", fake_quantized(x, -1.27, 1.27, 255)},  {"symmetric, 256", fake_quantized(x, -1.28, 1.27)},
        {"no zero among the steps", fake_quantized(x, -0.3, 2.4)}};
    for (const auto& [name, q] : all) {
        SCOPED_TRACE(name);
        const bool has_zero = !std::string(name).starts_with("no zero");
        for (const Type type : {Type::f32, Type::f16, Type::bf16}) {
            const auto made = expect_as_in_floats(x, convolved(q, filters({24, 64, 3, 3})), type);
            ASSERT_EQ(made.size(), has_zero ? 1U : 0U);
            // The library scales to what floats would be stored as.
            if (has_zero) {
                EXPECT_EQ(made[0].result, type);
            }
        }
    }
}

TEST(CudaIntegerConvolutions, EveryKindOfWindow) {
    struct Form {
        const char* name;
        ov::Shape kernel;
        Window window;
    };
    const Form forms[] = {{"no padding", {3, 3}, {{1, 1}, {0, 0}, {0, 0}, {1, 1}}},
                          {"stride", {3, 3}, {{2, 2}, {1, 1}, {1, 1}, {1, 1}}},
                          {"dilation", {3, 3}, {{1, 1}, {2, 2}, {2, 2}, {2, 2}}},
                          {"uneven padding", {3, 3}, {{2, 1}, {0, 1}, {1, 2}, {1, 1}}},
                          {"uneven kernel", {5, 2}, {{1, 1}, {2, 0}, {2, 1}, {1, 1}}},
                          {"padding in one dimension", {1, 3}, {{1, 1}, {0, 1}, {0, 1}, {1, 1}}},
                          {"windows outside", {3, 3}, {{1, 1}, {3, 3}, {3, 3}, {1, 1}}},
                          {"larger than the image", {7, 7}, {{1, 1}, {5, 5}, {5, 5}, {1, 1}}},
                          {"large", {7, 7}, {{2, 2}, {3, 3}, {3, 3}, {1, 1}}}};
    for (const Form& form : forms) {
        SCOPED_TRACE(form.name);
        const bool small = std::string(form.name).starts_with("larger");
        const auto x = small ? image(32, 3, 3) : image();
        const std::size_t channels = x->get_shape()[1];
        for (const int zero : {0, 121}) {
            const Output q = through_integers(x, 0.02, zero, zero == 0 ? i8 : u8);
            const Output y = convolved(q, filters({24, channels, form.kernel[0], form.kernel[1]}), form.window);
            for (const Type type : {Type::f32, Type::f16}) EXPECT_EQ(expect_as_in_floats(x, y, type).size(), 1U);
        }
    }
}

TEST(CudaIntegerConvolutions, WeightsWithoutASign) {
    const auto x = image();
    const Output q = through_integers(x, 0.02, 120, u8);
    // One zero and one scale for all, and a scale for each.
    for (const Output& w :
         {weights(u8, {24, 64, 3, 3}, {1, 1, 1, 1}, 128), filters({24, 64, 3, 3}, u8, 128), weights(i8, {24, 64, 3, 3}, {1, 1, 1, 1})})
        EXPECT_EQ(expect_as_in_floats(x, convolved(q, w), Type::f32).size(), 1U);
    // Without a scale at all.
    const Output plain = make<v0::Convert>(integers(i8, {24, 64, 3, 3}, -2, 2), f32);
    for (const int zero : {0, 3}) {
        for (const Type type : {Type::f32, Type::f16})
            EXPECT_EQ(expect_as_in_floats(x, convolved(through_integers(x, 0.02, zero, i8), plain), type).size(), 1U);
    }
}

/// Two layers as ONNX has them: bias, ReLU and the next quantisation behind each.
Output two_layers(const Output& x, int zero, const ov::element::Type& type) {
    const Output first = with_bias(convolved(through_integers(x, 0.02, zero, type), filters({64, 64, 3, 3})), 64);
    return with_bias(convolved(through_integers(first, 0.05, zero, type), filters({32, 64, 3, 3}, i8, 0, 2)), 32);
}

TEST(CudaIntegerConvolutions, TheLibraryScalesAndAddsBiases) {
    const auto x = image();
    for (const int zero : {0, 120, 128}) {
        SCOPED_TRACE(zero);
        const Output y = two_layers(x, zero, u8);
        const auto made = expect_as_in_floats(x, y, Type::f16);
        ASSERT_EQ(made.size(), 2U);
        for (const ConvolutionSpec& spec : made) {
            EXPECT_TRUE(spec.scale && spec.bias);
            EXPECT_EQ(spec.bias_type, Type::f32);
            EXPECT_EQ(spec.activation, Activation::relu);
            // Where zero has a number the image is padded with that.
            EXPECT_EQ(spec.pad_begin, (zero == 128 ? Dims{1, 1} : Dims{0, 0}));
        }
        // One that knows no activation scales still, and adds what the offset comes to.
        const auto bare =
            expect_as_in_floats(x, y, Type::f16, [](const auto& spec) { return is_integer(spec) && spec.activation != Activation::none; });
        ASSERT_EQ(bare.size(), 2U);
        EXPECT_TRUE(bare[0].scale && bare[0].bias && bare[0].activation == Activation::none);
    }
}

TEST(CudaIntegerConvolutions, OneKernelStandsBetweenTwo) {
    const auto x = image();
    for (const Type type : {Type::f32, Type::f16}) {
        for (const int zero : {0, 128}) {
            const Outcome outcome = run(std::make_shared<LibraryDevice>(), x, two_layers(x, zero, u8), type);
            EXPECT_EQ(integer_convolutions(outcome.schedule).size(), 2U);
            // To integers, both convolutions, and what stands behind each.
            EXPECT_EQ(outcome.schedule.steps.size(), 5U) << print(outcome.schedule);
        }
    }
}

TEST(CudaIntegerConvolutions, AResidualIsAdded) {
    const auto x = image();
    for (const int zero : {0, 128}) {
        const Output q = through_integers(x, 0.02, zero, u8);
        const Output bias = std::make_shared<v0::Constant>(spread(f32, {1, 64, 1, 1}, -1, 1, 8));
        const Output y = make<v0::Relu>(make<v1::Add>(make<v1::Add>(convolved(q, filters({64, 64, 3, 3})), bias), q));
        EXPECT_EQ(expect_as_in_floats(x, y, Type::f32).size(), 1U);
        const auto made = expect_as_in_floats(x, y, Type::f16);
        ASSERT_EQ(made.size(), 1U);
        EXPECT_TRUE(made[0].residual);
        EXPECT_EQ(expect_as_in_floats(x, y, Type::f16, [](const auto& spec) { return is_integer(spec) && spec.residual; }).size(), 1U);
    }
}

TEST(CudaIntegerConvolutions, SinglePixelsWithAStride) {
    const auto x = image(128);
    for (const int zero : {0, 7}) {
        const Output y = convolved(through_integers(x, 0.02, zero, i8), filters({64, 128, 1, 1}), {{2, 2}, {0, 0}, {0, 0}, {1, 1}});
        for (const Type type : {Type::f32, Type::f16}) EXPECT_EQ(expect_as_in_floats(x, y, type).size(), 1U);
    }
}

TEST(CudaIntegerConvolutions, AreWhatOpenVINOComputes) {
    const auto x = image();
    for (const int zero : {120, 128}) {
        const auto device = std::make_shared<LibraryDevice>();
        const Schedule schedule = compare_in_f16(device, x, two_layers(x, zero, u8), 5e-2);
        EXPECT_EQ(integer_convolutions(schedule).size(), 2U);
    }
}

TEST(CudaIntegerConvolutions, WhatALibraryDoesNotTakeStaysInFloats) {
    const auto x = image();
    const Output y = two_layers(x, 120, u8);
    for (const Type type : {Type::f32, Type::f16}) {
        const Outcome outcome = run(refusing(is_integer), x, y, type);
        const auto& steps = outcome.schedule.steps;
        EXPECT_EQ(std::ranges::count_if(steps, [](const Step& step) { return step.kind == Step::Kind::library; }), 2) << "by the library, in floats";
    }
    // No library at all: kernels, of floats.
    LibraryDevice device;
    device.takes_convolution = [](const ConvolutionSpec&) { return false; };
    EXPECT_TRUE(integer_convolutions(make_schedule(lowered({x}, y), device)).empty());
}

TEST(CudaIntegerConvolutions, ALibraryThatChangesItsMindIsReplaced) {
    const auto x = image();
    for (const auto& [zero, type] : {std::pair{120, Type::f32}, {120, Type::f16}, {128, Type::f16}}) {
        const Output y = two_layers(x, zero, u8);
        int asked = 0;
        // The pass asks for each once.
        const auto device = refusing([&](const ConvolutionSpec& spec) { return is_integer(spec) && ++asked > 2; });
        const Outcome kernels = run(device, x, y, type);
        EXPECT_GT(asked, 2);
        EXPECT_TRUE(integer_convolutions(kernels.schedule).empty());
        expect_close(kernels.values, run(std::make_shared<LibraryDevice>(), x, y, type).values, type == Type::f32 ? 1e-6 : kHalvesLimit);
    }
}

TEST(CudaIntegerConvolutions, WhatIsNotIntegersStaysInFloats) {
    const auto x = image();
    const Output q = through_integers(x, 0.02, 120, u8);
    const Output w = filters({24, 64, 3, 3});
    const auto count = [&](const Output& y, Type type = Type::f32) { return integer_convolutions(x, y, type).size(); };
    EXPECT_EQ(count(convolved(q, w)), 1U);
    EXPECT_EQ(count(convolved(x, w)), 0U) << "weights alone";
    EXPECT_EQ(count(convolved(q, std::make_shared<v0::Constant>(spread(f32, {24, 64, 3, 3}, -1, 1, 2)))), 0U) << "values alone";
    EXPECT_EQ(count(convolved(fake_quantized(x, -1, 1, 16), w)), 0U) << "4 bits";
    EXPECT_EQ(count(convolved(q, filters({24, 64, 3, 3}, u8, 7))), 0U) << "weights up to 248";
    EXPECT_EQ(count(convolved(q, weights(i8, {24, 64, 3, 3}, {1, 64, 1, 1}))), 0U) << "a scale for each channel of the image";
    EXPECT_EQ(count(convolved(q, weights(i8, {24, 64, 3, 3}, {1, 1, 3, 3}))), 0U) << "a scale for each tap";
    EXPECT_EQ(count(convolved(q, filters({20, 64, 3, 3}))), 0U) << "results not in eights";
    const Output low = Trial::constant(f32, {1, 64, 1, 1}, std::vector<double>(64, -1)),
                 high = Trial::constant(f32, {1, 64, 1, 1}, std::vector<double>(64, 1));
    EXPECT_EQ(count(convolved(make<v0::FakeQuantize>(x, low, high, low, high, 256), w)), 0U) << "every channel with a range of its own";
    const Output groups = make<v1::GroupConvolution>(q, weights(i8, {2, 16, 32, 3, 3}, {2, 16, 1, 1, 1}), ov::Strides{1, 1}, ov::CoordinateDiff{1, 1},
                                                     ov::CoordinateDiff{1, 1}, ov::Strides{1, 1});
    EXPECT_EQ(count(groups), 0U);
    const Output transposed = make<v1::ConvolutionBackpropData>(q, weights(i8, {64, 32, 2, 2}, {1, 32, 1, 1}), ov::Strides{2, 2},
                                                                ov::CoordinateDiff{0, 0}, ov::CoordinateDiff{0, 0}, ov::Strides{1, 1});
    EXPECT_EQ(count(transposed), 0U);
    const auto few = image(16);
    EXPECT_TRUE(integer_convolutions(few, convolved(through_integers(few, 0.02, 0, i8), filters({24, 16, 3, 3}))).empty()) << "few channels";
    const auto uneven = image(40);
    EXPECT_TRUE(integer_convolutions(uneven, convolved(through_integers(uneven, 0.02, 0, i8), filters({24, 40, 3, 3}))).empty());
}

TEST(CudaIntegerConvolutions, WhatLiesInMemory) {
    // A byte for each weight, a scale and a bias for each channel.
    const auto x = image(64, 28, 28);
    LibraryDevice device;
    const Schedule schedule = make_schedule(lowered({x}, convolved(through_integers(x, 0.02, 3, u8), filters({64, 64, 3, 3}))), device);
    EXPECT_LE(schedule.weight_bytes, 64 * 64 * 9 + 64 * 4 * 2) << print(schedule);
}

TEST(CudaIntegerConvolutions, AreStored) {
    const auto x = image();
    for (const auto& [zero, type] : {std::pair{120, Type::f32}, {128, Type::f16}}) {
        const Output y = two_layers(x, zero, u8);
        const auto device = std::make_shared<LibraryDevice>();
        const Program program(device, lowered({x}, y, {.float_type = type}), std::make_shared<WeightStore>(device));
        std::ostringstream out;
        program.write_to(out);
        const std::string bytes = std::move(out).str();
        const auto stored = read_program(std::as_bytes(std::span(bytes)));
        EXPECT_EQ(integer_convolutions(stored.schedule), integer_convolutions(program.schedule()));
        EXPECT_EQ(integer_convolutions(stored.schedule).size(), 2U);
    }
}

TEST(CudaIntegerConvolutions, KernelsCompileForGpus) {
    if (const std::string missing = nvrtc_missing(); !missing.empty()) GTEST_SKIP() << missing;
    LikeAGpu device;
    for (const Type type : {Type::f32, Type::f16}) {
        for (const int zero : {0, 128}) {
            const auto x = image(64, 56, 56);
            const Schedule schedule = make_schedule(lowered({x}, two_layers(x, zero, u8), {.float_type = type}), device);
            EXPECT_EQ(integer_convolutions(schedule).size(), 2U) << print(schedule);
            // What lies at borders is read and written in vectors too.
            EXPECT_EQ(std::ranges::any_of(schedule.kernels, [](const std::string& text) { return text.find("VECTOR") != std::string::npos; }),
                      zero == 0);
            EXPECT_NO_THROW((void)compile_kernels(module_source(schedule).text, {.compute = 90, .threads_per_block = 256, .driver_version = 13000}));
        }
    }
}

using IntegerConvolutionsOnDevice = OnDeviceAndHost;

TEST_F(IntegerConvolutionsOnDevice, AreWhatTheProcessorComputes) {
    for (const int zero : {0, 120, 128}) {
        for (const std::size_t height : {9U, 28U}) {
            const auto x = image(64, height, height);
            const Output y = two_layers(x, zero, u8);
            for (const Type type : {Type::f32, Type::f16}) {
                SCOPED_TRACE(fmt::format("zero {}, {}x{}, {}", zero, height, height, to_string(type)));
                const Outcome found = run(device_, x, y, type);
                EXPECT_EQ(integer_convolutions(found.schedule).size(), 2U) << "the library takes no i8 here: " << print(found.schedule);
                expect_close(found.values, run(host_, x, y, type).values, type == Type::f16 ? kHalvesLimit : 1e-3);
            }
        }
    }
}

TEST_F(IntegerConvolutionsOnDevice, BordersAndStrides) {
    const Window windows[] = {{}, {{2, 2}, {1, 1}, {1, 1}, {1, 1}}, {{1, 1}, {2, 2}, {2, 2}, {2, 2}}, {{2, 1}, {0, 1}, {1, 2}, {1, 1}}};
    for (const Window& window : windows) {
        for (const int zero : {0, 120, 128}) {
            const auto x = image(64, 15, 14);
            const Output y = convolved(through_integers(x, 0.02, zero, u8), filters({32, 64, 3, 3}), window);
            for (const Type type : {Type::f32, Type::f16}) {
                SCOPED_TRACE(fmt::format("stride {}, padding {}, zero {}, {}", window.stride[0], window.before[0], zero, to_string(type)));
                const Outcome found = run(device_, x, y, type);
                // Where the library has no engine for it the model runs all the same.
                if (integer_convolutions(found.schedule).empty()) std::printf("[in floats] %s\n", print(found.schedule).c_str());
                expect_close(found.values, run(host_, x, y, type).values, type == Type::f16 ? kHalvesLimit : 1e-5);
            }
        }
    }
}

}  // namespace
}  // namespace ai_vmm::cuda::test
