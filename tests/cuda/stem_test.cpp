// SPDX-License-Identifier: Apache-2.0
/// Convolutions of an image's few channels by a generated kernel.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>

#include "base/file.hpp"
#include "codegen/stem.hpp"
#include "cuda/library_device.hpp"
#include "cuda/nvrtc_fixture.hpp"
#include "cuda/on_device.hpp"
#include "cuda/trial.hpp"
#include "driver/kernel_compiler.hpp"
#include "lower/lower.hpp"
#include "program/program.hpp"

namespace ai_vmm::cuda::test {
namespace {

using namespace ov::op;
using ov::element::f16;
using ov::element::f32;
using ov::element::u8;

constexpr CodegenTarget kGpu{256, 132, true};

struct Form {
    std::size_t channels = 3, out = 8;
    ov::Shape image{13, 21}, kernel{3, 3};
    ov::Strides stride{1, 1}, dilation{1, 1};
    ov::CoordinateDiff begin{1, 1}, end{1, 1};
};

std::string text(const Form& f) {
    return fmt::format("{}x{}x{} to {} by {}x{} stride {}x{} dilation {}x{} pads {},{} {},{}", f.channels, f.image[0], f.image[1], f.out, f.kernel[0],
                       f.kernel[1], f.stride[0], f.stride[1], f.dilation[0], f.dilation[1], f.begin[0], f.begin[1], f.end[0], f.end[1]);
}

/// Odd sizes, strides, dilations and pads, channels that are stored 2, 4 and 8 together, and more of them than a block computes.
std::vector<Form> forms() {
    return {
        {},
        {.channels = 3, .out = 64, .image = {37, 35}, .kernel = {7, 7}, .stride = {2, 2}, .begin = {3, 3}, .end = {3, 3}},
        {.channels = 1, .out = 16, .kernel = {5, 5}, .begin = {2, 2}, .end = {2, 2}},
        {.channels = 2, .out = 24, .kernel = {3, 5}, .stride = {2, 1}, .begin = {0, 4}, .end = {1, 0}},
        {.channels = 4, .out = 32, .kernel = {1, 1}, .begin = {0, 0}, .end = {0, 0}},
        {.channels = 3, .out = 96, .image = {9, 40}, .kernel = {3, 3}, .stride = {2, 2}, .dilation = {2, 3}, .begin = {2, 3}, .end = {1, 4}},
        {.channels = 3, .out = 128, .image = {60, 50}, .kernel = {11, 11}, .stride = {4, 4}, .begin = {2, 2}, .end = {2, 2}},
        {.channels = 4, .out = 40, .image = {20, 20}, .kernel = {2, 9}, .dilation = {3, 2}, .begin = {1, 7}, .end = {2, 8}},
        {.channels = 1, .out = 48, .image = {5, 100}, .kernel = {5, 4}, .stride = {5, 4}, .begin = {0, 0}, .end = {0, 0}},
        {.channels = 3, .out = 8, .image = {2, 3}, .kernel = {3, 3}, .begin = {2, 2}, .end = {2, 2}},
    };
}

std::shared_ptr<ov::Node> convolved(const Output& x, const Output& w, const Form& f) {
    return make<v1::Convolution>(x, w, f.stride, f.begin, f.end, f.dilation);
}

Output filters(const ov::element::Type& type, const Form& f, double size = 0.2) {
    return make<v0::Constant>(spread(type, {f.out, f.channels, f.kernel[0], f.kernel[1]}, -size, size, 5));
}

TEST(CudaStem, EveryFormWithAllThatIsFused) {
    for (const auto& type : {f16, ov::element::bf16}) {
        const double tolerance = type == f16 ? 8e-3 : 6e-2;
        for (const Form& f : forms()) {
            Trial t(text(f) + " of " + type.get_type_name());
            const auto x = t.in(type, {2, f.channels, f.image[0], f.image[1]}, -1, 1), b = t.in(type, {1, f.out, 1, 1});
            const auto y = convolved(x, filters(type, f), f);
            t.compare(y, tolerance);
            const auto biased = make<v1::Add>(y, b);
            t.compare(make<v0::Relu>(biased), tolerance);
            t.compare(make<v4::HSwish>(biased), tolerance);
            t.compare(make<v4::Swish>(y), tolerance);
        }
    }
}

TEST(CudaStem, FiltersMayBeComputed) {
    for (const Form& f : forms()) {
        Trial t("computed filters: " + text(f));
        const auto x = t.in(f16, {1, f.channels, f.image[0], f.image[1]}, -1, 1);
        const auto w = t.in(f16, {f.out, f.channels, f.kernel[0], f.kernel[1]}, -0.2, 0.2);
        t.compare(convolved(x, w, f), 8e-3);
    }
}

bool is_stem(const std::string& kernel) { return kernel.find("FILTER_ROWS") != std::string::npos; }

TEST(CudaStem, TheImageIsReadAsItLies) {
    for (const Form& f : forms()) {
        SCOPED_TRACE(text(f));
        const auto device = std::make_shared<WithTensorCores>();
        const Output x = std::make_shared<v0::Parameter>(f32, ov::Shape{2, f.channels, f.image[0], f.image[1]});
        const Schedule done = compare_in_f16(device, x, with_bias(convolved(x, filters(f32, f), f), f.out), 1e-2);
        EXPECT_EQ(done.calls.size(), 0U);
        EXPECT_EQ(done.steps.size(), 2U) << "the convolution, and the result as f32\n" << print(done);
        EXPECT_EQ(std::ranges::count_if(done.kernels, is_stem), 1);
        device->check();
        EXPECT_EQ(device->problems(), std::vector<std::string>{});
    }
}

TEST(CudaStem, BytesAndChannelsLastAreReadAsTheyLieToo) {
    const Form f{.channels = 3, .out = 16, .kernel = {3, 3}, .stride = {2, 2}};
    const Output x = std::make_shared<v0::Parameter>(u8, ov::Shape{2, 13, 21, 3});
    const Output image = make<v1::Transpose>(make<v0::Convert>(x, f32), Trial::ints({0, 3, 1, 2}));
    const Output scaled = make<v1::Multiply>(image, make<v0::Constant>(tensor(f32, {}, {1.0 / 255})));
    const Schedule done = compare_in_f16(std::make_shared<WithTensorCores>(), x, with_bias(convolved(scaled, filters(f32, f), f), f.out), 1e-2);
    EXPECT_EQ(done.steps.size(), 2U) << print(done);
}

TEST(CudaStem, WhatComesBehindAndBesideWorksToo) {
    const Form f{.channels = 3, .out = 16, .image = {160, 112}, .kernel = {3, 3}};
    const Output x = std::make_shared<v0::Parameter>(f32, ov::Shape{1, 3, 160, 112});
    // Two of one image, joined for a library's convolution: both parts are stored where they belong.
    const Output left = with_bias(convolved(x, filters(f32, f), f), f.out), right = convolved(x, filters(f32, f, 0.1), f);
    const Form next{.channels = 32, .out = 8};
    const Schedule done = compare_in_f16(std::make_shared<WithTensorCores>(), x,
                                         convolved(make<v0::Concat>(ov::OutputVector{left, right}, 1), filters(f32, next, 0.1), next), 2e-2);
    EXPECT_EQ(done.calls.size(), 1U) << print(done);
    EXPECT_EQ(done.steps.size(), 4U) << print(done);
    EXPECT_EQ(std::ranges::count_if(done.steps, [](const Step& step) { return step.label.starts_with("Concat"); }), 0);
}

TEST(CudaStem, DevicesWithoutTensorCoresHaveTheLibrary) {
    const auto device = std::make_shared<LibraryDevice>();
    const Form f{.channels = 3, .out = 16};
    const Output x = std::make_shared<v0::Parameter>(f32, ov::Shape{1, 3, 13, 21});
    EXPECT_EQ(compare_in_f16(device, x, convolved(x, filters(f32, f), f), 1e-2).calls.size(), 1U);
}

ConvolutionSpec spec_of(const Form& f, Type type = Type::f16) {
    const auto dims = [](const auto& from) { return Dims(from.begin(), from.end()); };
    ConvolutionSpec spec{.batch = 2, .channels_in = static_cast<std::int64_t>(f.channels), .channels_out = static_cast<std::int64_t>(f.out)};
    spec.in = dims(f.image);
    spec.kernel = dims(f.kernel);
    spec.stride = dims(f.stride);
    spec.dilation = dims(f.dilation);
    spec.pad_begin = dims(f.begin);
    spec.pad_end = dims(f.end);
    for (std::size_t d = 0; d < 2; ++d)
        spec.out.push_back((spec.in[d] + spec.pad_begin[d] + spec.pad_end[d] - (spec.kernel[d] - 1) * spec.dilation[d] - 1) / spec.stride[d] + 1);
    spec.type = spec.result = spec.bias_type = type;
    return spec;
}

TEST(CudaStem, IsForFewChannelsOfImages) {
    EXPECT_TRUE(prefers_stem(spec_of({}), kGpu));
    EXPECT_FALSE(prefers_stem(spec_of({}), {256, 132, false}));
    const auto refused = [](const auto& change) {
        ConvolutionSpec spec = spec_of({});
        change(spec);
        return !plan_stem(spec, kGpu);
    };
    EXPECT_TRUE(refused([](ConvolutionSpec& s) { s.channels_in = 5; }));
    EXPECT_TRUE(refused([](ConvolutionSpec& s) { s.channels_out = 12; }));
    EXPECT_TRUE(refused([](ConvolutionSpec& s) { s.groups = 3; }));
    EXPECT_TRUE(refused([](ConvolutionSpec& s) { s.transposed = true; }));
    EXPECT_TRUE(refused([](ConvolutionSpec& s) { s.residual = true; }));
    EXPECT_TRUE(refused([](ConvolutionSpec& s) { s.type = Type::f32; }));
    EXPECT_TRUE(refused([](ConvolutionSpec& s) { s.stride = {1, 400}; })) << "no room for the tile";
    EXPECT_TRUE(refused([](ConvolutionSpec& s) { s.kernel = {60, 60}; })) << "no room for the filters";
    EXPECT_TRUE(refused([](ConvolutionSpec& s) {
        for (Dims* dims : {&s.in, &s.kernel, &s.out, &s.stride, &s.dilation, &s.pad_begin, &s.pad_end}) dims->pop_back();
    }));
}

TEST(CudaStem, PlansFitSharedMemoryAndFillTheDevice) {
    for (const Form& f : forms()) {
        const ConvolutionSpec spec = spec_of(f);
        const auto plan = plan_stem(spec, kGpu);
        ASSERT_TRUE(plan) << text(f);
        EXPECT_EQ(spec.channels_out % plan->part, 0);
        EXPECT_EQ(plan->part / 8 % (plan->across * plan->together), 0);
        EXPECT_GE(plan->depth * 16, spec.kernel[1] * plan->pixel);
        EXPECT_EQ(elements(stem_weights(spec, *plan).dims), spec.channels_out * spec.kernel[0] * plan->depth * 16);
    }
    Form resnet{.channels = 3, .out = 64, .image = {224, 224}, .kernel = {7, 7}, .stride = {2, 2}, .begin = {3, 3}, .end = {3, 3}};
    ConvolutionSpec spec = spec_of(resnet);
    spec.batch = 64;
    EXPECT_EQ(*plan_stem(spec, kGpu), (StemPlan{.pixel = 4, .depth = 2, .part = 64, .across = 2, .each = 4, .together = 4}));
    spec.batch = 1;
    EXPECT_EQ(plan_stem(spec, kGpu)->each, 2) << "more blocks of fewer rows";
}

TEST(CudaStem, TheFormForTensorCoresCompiles) {
    if (const std::string missing = nvrtc_missing(); !missing.empty()) GTEST_SKIP() << missing;
    Schedule schedule;
    for (const Type type : {Type::f16, Type::bf16}) {
        for (const Form& f : forms()) {
            const ConvolutionSpec spec = [&] {
                ConvolutionSpec made = spec_of(f, type);
                made.bias = true;
                made.bias_type = Type::f32;
                made.activation = Activation::silu;
                return made;
            }();
            const StemPlan plan = *plan_stem(spec, kGpu);
            Graph graph;
            Builder b(graph);
            const ValueId x = b.input(type, {spec.batch, spec.channels_in, spec.in[0], spec.in[1]}, "x");
            const ValueId y =
                b.convolution({x, b.input(type, stem_weights(spec, plan).dims, "w"), b.input(Type::f32, {spec.channels_out}, "b")}, spec);
            Places places(graph.values.size());
            places[static_cast<std::size_t>(x)] = Place{x, row_major_strides(graph.value(x).dims), 0};
            schedule.kernels.push_back(stem_kernel(graph, places, *graph.producer(y), plan, kGpu).text);
        }
    }
    for (const int compute : {80, 90})
        EXPECT_NO_THROW((void)compile_kernels(module_source(schedule).text, {.compute = compute, .threads_per_block = 256, .driver_version = 13000}));
}

using StemOnDevice = OnDevice;

TEST_F(StemOnDevice, TheFormForTensorCoresComputesTheSame) {
    for (Form f : forms()) {
        for (const std::size_t batch : {1, 7}) {
            SCOPED_TRACE(text(f));
            const Output x = std::make_shared<v0::Parameter>(f32, ov::Shape{batch, f.channels, f.image[0], f.image[1]});
            const Schedule done = compare_in_f16(device_, x, with_bias(convolved(x, filters(f32, f), f), f.out), 1e-2);
            EXPECT_EQ(done.calls.size(), 0U);
        }
    }
}

}  // namespace
}  // namespace ai_vmm::cuda::test
