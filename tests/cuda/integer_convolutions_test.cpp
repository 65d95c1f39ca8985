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

#include "codegen/kernels.hpp"
#include "cuda/nvrtc_fixture.hpp"
#include "cuda/on_device.hpp"
#include "cuda/quantised_models.hpp"
#include "driver/kernel_compiler.hpp"
#include "openvino/pass/constant_folding.hpp"
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
    std::vector<ConvolutionSpec> found = specs_of<ConvolutionSpec>(schedule);
    std::erase_if(found, [](const ConvolutionSpec& spec) { return !is_integer(spec); });
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

TEST(CudaIntegerConvolutions, EqualOnesShareTheLibrarysCall) {
    const auto x = image();
    const Output first = with_bias(convolved(through_integers(x, 0.02, 0, i8), filters({64, 64, 3, 3})), 64);
    const Output y = with_bias(convolved(through_integers(first, 0.05, 0, i8), filters({64, 64, 3, 3}, i8, 0, 2)), 64);
    EXPECT_EQ(expect_as_in_floats(x, y, Type::f16).size(), 2U);
    LibraryDevice device;
    const Schedule schedule = make_schedule(lowered({x}, y, {.float_type = Type::f16}), device);
    ASSERT_EQ(schedule.calls.size(), 2U);
    EXPECT_EQ(schedule.calls.begin()->second, schedule.calls.rbegin()->second);
    EXPECT_EQ(device.convolutions.size(), 2U) << "asked whether it takes it, and made";
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
    EXPECT_EQ(count(groups), 1U) << "where the library takes groups";
    const Output narrow = make<v1::GroupConvolution>(q, weights(i8, {8, 8, 8, 3, 3}, {8, 8, 1, 1, 1}), ov::Strides{1, 1}, ov::CoordinateDiff{1, 1},
                                                     ov::CoordinateDiff{1, 1}, ov::Strides{1, 1});
    EXPECT_EQ(count(narrow), 0U) << "few channels in a group";
    const Output transposed = make<v1::ConvolutionBackpropData>(q, weights(i8, {64, 32, 2, 2}, {1, 32, 1, 1}), ov::Strides{2, 2},
                                                                ov::CoordinateDiff{0, 0}, ov::CoordinateDiff{0, 0}, ov::Strides{1, 1});
    EXPECT_EQ(count(transposed), 0U);
    const auto few = image(16);
    EXPECT_TRUE(integer_convolutions(few, convolved(through_integers(few, 0.02, 0, i8), filters({24, 16, 3, 3}))).empty()) << "few channels";
    const auto uneven = image(40);
    EXPECT_TRUE(integer_convolutions(uneven, convolved(through_integers(uneven, 0.02, 0, i8), filters({24, 40, 3, 3}))).empty());
}

// --- A filter for each channel: a kernel of ours.

Output convolved_each(const Output& x, const Output& w, const Window& window = {}) {
    return make<v1::GroupConvolution>(x, w, window.stride, window.before, window.behind, window.dilation);
}

/// Filters of (channels, 1, 1, kernel..) with a scale for each channel.
Output filters_each(const ov::Shape& shape, const ov::element::Type& type = i8, int zero = 0) {
    return weights(type, shape, {shape[0], 1, 1, 1, 1}, zero);
}

/// The same weights as one constant of floats, with which nothing is computed in integers.
Output folded(const Output& w) {
    const auto model = std::make_shared<ov::Model>(ov::OutputVector{w}, ov::ParameterVector{});
    ov::pass::ConstantFolding().run_on_model(model);
    return model->get_results().front()->input_value(0);
}

/// Convolutions that a kernel runs on integers.
std::ptrdiff_t integer_kernels(const Schedule& schedule) {
    return std::ranges::count_if(schedule.graph.nodes, [&](const Node& node) {
        const auto* convolution = std::get_if<Convolution>(&node.what);
        return convolution != nullptr && is_integer(convolution->spec) && is_depthwise(convolution->spec) &&
               schedule.places[static_cast<std::size_t>(node.outputs.front())];
    });
}

/// A layer of such filters over what was quantised with `zero`, bias and ReLU behind it.
Output layer_of_each(const Output& x, int zero, const ov::element::Type& type, const Window& window, const Output& w) {
    return with_bias(convolved_each(through_integers(x, 0.02, zero, type), w, window), w.get_shape()[0]);
}

TEST(CudaIntegerConvolutions, AFilterForEachChannel) {
    const std::pair<ov::Shape, Window> forms[] = {{{3, 3}, {}},
                                                  {{3, 3}, {{2, 2}, {0, 0}, {1, 1}, {1, 1}}},
                                                  {{5, 5}, {{2, 2}, {2, 2}, {2, 2}, {1, 1}}},
                                                  {{3, 3}, {{1, 1}, {2, 2}, {2, 2}, {2, 2}}},
                                                  {{1, 1}, {{1, 1}, {0, 0}, {0, 0}, {1, 1}}},
                                                  {{7, 2}, {{2, 1}, {3, 0}, {3, 1}, {1, 1}}}};
    for (const auto& [kernel, window] : forms) {
        for (const std::size_t channels : {8, 24, 64}) {
            const auto x = image(channels);
            const ov::Shape shape{channels, 1, 1, kernel[0], kernel[1]};
            for (const auto& [zero, type] : {std::pair{0, i8}, {-7, i8}, {128, u8}, {0, u8}}) {
                SCOPED_TRACE(fmt::format("{}x{} of {} channels, stride {}, zero {} of {}", kernel[0], kernel[1], channels, window.stride[0], zero,
                                         type.get_type_name()));
                const Output y = layer_of_each(x, zero, type, window, filters_each(shape)),
                             plain = layer_of_each(x, zero, type, window, folded(filters_each(shape)));
                for (const Type floats : {Type::f32, Type::f16, Type::bf16}) {
                    const auto device = std::make_shared<LibraryDevice>();
                    const Outcome integers = run(device, x, y, floats), reference = run(device, x, plain, floats);
                    EXPECT_EQ(integer_kernels(integers.schedule), 1) << print(integers.schedule);
                    EXPECT_EQ(integer_kernels(reference.schedule), 0);
                    if (floats == Type::f32) {
                        expect_same(integers.values, reference.values, 1e-5);
                    } else {
                        expect_close(integers.values, reference.values, floats == Type::f16 ? kHalvesLimit : 2e-2);
                    }
                    EXPECT_EQ(device->problems(), std::vector<std::string>{});
                }
            }
        }
    }
}

/// An inverted bottleneck as quantised networks have it: to more channels, a filter for each, back to fewer, and what it began with is added.
Output bottleneck(const Output& x, int zero) {
    const Output wide = with_bias(convolved(through_integers(x, 0.02, zero, u8), filters({192, 32, 1, 1}), {{1, 1}, {0, 0}, {0, 0}, {1, 1}}), 192);
    const Output each = layer_of_each(wide, zero, u8, {}, filters_each({192, 1, 1, 3, 3}));
    const Output narrow = convolved(through_integers(each, 0.02, zero, u8), filters({32, 192, 1, 1}, i8, 0, 2), {{1, 1}, {0, 0}, {0, 0}, {1, 1}});
    return make<v1::Add>(make<v1::Add>(narrow, std::make_shared<v0::Constant>(spread(f32, {1, 32, 1, 1}, -1, 1, 8))), x);
}

TEST(CudaIntegerConvolutions, ABottleneckStaysInIntegers) {
    const auto x = image(32);
    for (const int zero : {0, 128}) {
        const auto device = std::make_shared<LibraryDevice>();
        const Schedule schedule = compare_in_f16(device, x, bottleneck(x, zero), 5e-2);
        EXPECT_EQ(integer_kernels(schedule), 1) << print(schedule);
    }
}

TEST(CudaIntegerConvolutions, FiltersForEachChannelThatAreNoIntegers) {
    const auto x = image(24);
    const Output w = filters_each({24, 1, 1, 3, 3});
    const auto count = [&](const Output& y) {
        LibraryDevice device;
        return integer_kernels(make_schedule(lowered({x}, y), device));
    };
    EXPECT_EQ(count(convolved_each(through_integers(x, 0.02, 0, i8), w)), 1);
    EXPECT_EQ(count(convolved_each(x, w)), 0) << "weights alone";
    EXPECT_EQ(count(convolved_each(through_integers(x, 0.02, 0, i8), folded(filters_each({24, 1, 1, 3, 3})))), 0) << "values alone";
    EXPECT_EQ(count(convolved_each(fake_quantized(x, -0.3, 2.4), w)), 0) << "no zero among the steps";
    EXPECT_EQ(count(convolved_each(through_integers(x, 0.02, 0, i8), weights(i8, {24, 1, 1, 3, 3}, {1, 1, 1, 3, 3}))), 0) << "a scale for each tap";
    EXPECT_EQ(count(convolved_each(through_integers(x, 0.02, 0, i8), weights(i8, {24, 2, 1, 3, 3}, {24, 2, 1, 1, 1}))), 0) << "two for each channel";
    const auto uneven = image(12);
    LibraryDevice device;
    EXPECT_EQ(integer_kernels(
                  make_schedule(lowered({uneven}, convolved_each(through_integers(uneven, 0.02, 0, i8), filters_each({12, 1, 1, 3, 3}))), device)),
              0)
        << "channels not in eights";
}

TEST(CudaIntegerConvolutions, ConvInteger) {
    const ov::CoordinateDiff pads{1, 2};
    // Computed, known, the middle of u8, and i8 with none: the last two need no correction.
    const std::pair<const char*, int> zeros[] = {{"computed", 131}, {"known", 131}, {"known", 128}, {"none", 0}};
    for (const auto& [kind, number] : zeros) {
        for (const bool each : {false, true}) {
            SCOPED_TRACE(fmt::format("{} zero {}, {}", kind, number, each ? "a filter for each channel" : "windows"));
            const auto device = std::make_shared<LibraryDevice>();
            Trial t("ConvInteger", device);
            const bool none = number == 0;
            const auto q = none ? t.in(i8, {2, 32, 7, 6}, -128, 127) : t.in(u8, {2, 32, 7, 6}, 0, 255);
            const auto zero = t.given(u8, {}, {static_cast<double>(number)});
            const Output shift =
                std::string(kind) == "computed" ? Output(make<v0::Convert>(zero, i32)) : Trial::constant(i32, {}, {static_cast<double>(number)});
            const Output wide = make<v0::Convert>(q, i32), x = none ? wide : Output(make<v1::Subtract>(wide, shift));
            const auto filter = [&](int low, int high) {
                const Output w = make<v0::Convert>(integers(i8, each ? ov::Shape{32, 1, 1, 3, 3} : ov::Shape{24, 32, 3, 3}, low, high), i32);
                return make<v1::Subtract>(w, Trial::constant(i32, {}, {2}));
            };
            const auto y = [&](const Output& w) -> Output {
                if (each) return make<v1::GroupConvolution>(x, w, ov::Strides{1, 1}, pads, pads, ov::Strides{1, 1});
                return make<v1::Convolution>(x, w, ov::Strides{2, 1}, pads, pads, ov::Strides{1, 1});
            };
            const Output done = make<v1::Add>(y(filter(-120, 120)), make<v0::Convert>(zero, i32));
            t.compare({done});
            const auto count = [&](const Output& result) {
                LibraryDevice like;
                const Schedule schedule = make_schedule(lowered({q, zero}, result), like);
                return static_cast<std::ptrdiff_t>(integer_convolutions(schedule).size()) + integer_kernels(schedule);
            };
            EXPECT_EQ(count(done), 1);
            EXPECT_EQ(device->problems(), std::vector<std::string>{});
            if (each) continue;
            // Sums that f32 does not have are added up as the integers they are.
            const Output large = make<v1::Add>(make<v1::Convolution>(x, make<v0::Convert>(integers(i8, {8, 32, 7, 6}, 126, 127), i32),
                                                                     ov::Strides{1, 1}, pads, pads, ov::Strides{1, 1}),
                                               make<v0::Convert>(zero, i32));
            t.compare({large});
            EXPECT_EQ(count(large), 0);
        }
    }
}

TEST(CudaIntegerConvolutions, AZeroPointOfAnotherTypeIsNoBorder) {
    // 200 is no i8: it can't stand around an image of them.
    const auto device = std::make_shared<LibraryDevice>();
    Trial t("i8 less u8", device);
    const auto q = t.in(i8, {2, 32, 7, 6}, -128, 127), zero = t.given(u8, {}, {200});
    const Output x = make<v1::Subtract>(make<v0::Convert>(q, i32), make<v0::Convert>(zero, i32));
    const Output y = convolved(x, make<v0::Convert>(integers(i8, {8, 32, 3, 3}, -120, 120), i32));
    t.compare({make<v1::Add>(y, make<v0::Convert>(zero, i32))});
}

TEST(CudaIntegerConvolutions, OneAndThreeDimensions) {
    for (const std::size_t rank : {1U, 3U}) {
        ov::Shape shape{2, 32}, kernel{24, 32}, scales{24};
        shape.insert(shape.end(), rank, 6);
        kernel.insert(kernel.end(), rank, 3);
        scales.insert(scales.end(), rank + 1, 1);
        const auto x = std::make_shared<v0::Parameter>(f32, shape);
        const Window window{ov::Strides(rank, 1), ov::CoordinateDiff(rank, 1), ov::CoordinateDiff(rank, 0), ov::Strides(rank, 1)};
        for (const int zero : {0, 120}) {
            const Output y = convolved(through_integers(x, 0.02, zero, zero == 0 ? i8 : u8), weights(i8, kernel, scales), window);
            for (const Type type : {Type::f32, Type::f16}) EXPECT_EQ(expect_as_in_floats(x, y, type).size(), 1U) << rank;
        }
    }
}

TEST(CudaIntegerConvolutions, Groups) {
    const auto x = image(64);
    for (const int zero : {0, 120}) {
        const Output q = through_integers(x, 0.02, zero, zero == 0 ? i8 : u8);
        const Output y = convolved_each(q, weights(i8, {2, 16, 32, 3, 3}, {2, 16, 1, 1, 1}));
        for (const Type type : {Type::f32, Type::f16}) {
            const auto made = expect_as_in_floats(x, y, type);
            ASSERT_EQ(made.size(), 1U);
            EXPECT_EQ(made[0].groups, 2);
        }
    }
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
            for (const std::size_t size : {7U, 56U}) {
                const auto narrow = image(32, size, size);
                const Schedule each = make_schedule(lowered({narrow}, bottleneck(narrow, zero), {.float_type = type}), device);
                EXPECT_EQ(integer_kernels(each), 1);
                EXPECT_NO_THROW((void)compile_kernels(module_source(each).text, {.compute = 90, .threads_per_block = 256, .driver_version = 13000}));
            }
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

TEST_F(IntegerConvolutionsOnDevice, AFilterForEachChannel) {
    for (const int zero : {0, 128}) {
        for (const std::size_t size : {9U, 28U}) {
            const auto x = image(32, size, size);
            for (const Type type : {Type::f32, Type::f16}) {
                SCOPED_TRACE(fmt::format("zero {}, {}x{}, {}", zero, size, size, to_string(type)));
                const Outcome found = run(device_, x, bottleneck(x, zero), type);
                EXPECT_EQ(integer_kernels(found.schedule), 1);
                expect_close(found.values, run(host_, x, bottleneck(x, zero), type).values,
                             type == Type::f32   ? 1e-3
                             : type == Type::f16 ? kHalvesLimit
                                                 : 2e-2);
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
