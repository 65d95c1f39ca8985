// SPDX-License-Identifier: Apache-2.0
/// Transposed convolutions whose kernel is their stride by a generated kernel.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "codegen/transposed.hpp"
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

constexpr CodegenTarget kGpu{256, 132, true};

struct Form {
    std::size_t channels = 16, out = 32;
    ov::Shape image{9, 13}, kernel{2, 2};
};

std::string text(const Form& f) {
    return fmt::format("{}x{}x{} to {} by {}x{}", f.channels, f.image[0], f.image[1], f.out, f.kernel[0], f.kernel[1]);
}

/// Half steps of channels, kernels that aren't square, columns that leave a warp or a block partly empty, and more than one block's.
std::vector<Form> forms() {
    return {
        {},
        {.channels = 128, .out = 64},
        {.channels = 8, .out = 8, .kernel = {1, 2}},
        {.channels = 24, .out = 40, .kernel = {3, 2}},
        {.channels = 72, .out = 16, .image = {1, 70}, .kernel = {2, 3}},
        {.channels = 120, .out = 96, .image = {17, 3}},
    };
}

Output spread_out(const Output& x, const Output& w, const Form& f) {
    const ov::Strides stride(f.kernel.begin(), f.kernel.end());
    return make<v1::ConvolutionBackpropData>(x, w, stride, ov::CoordinateDiff{0, 0}, ov::CoordinateDiff{0, 0}, ov::Strides{1, 1});
}

Output filters(const Form& f) { return make<v0::Constant>(spread(f32, {f.channels, f.out, f.kernel[0], f.kernel[1]}, -0.2, 0.2, 5)); }

bool is_transposed(const std::string& kernel) { return kernel.find("COLUMN_OFFSET") != std::string::npos; }

ConvolutionSpec spec_of(const Form& f, std::int64_t batch, Type type = Type::f16) {
    ConvolutionSpec spec{.batch = batch, .channels_in = static_cast<std::int64_t>(f.channels), .channels_out = static_cast<std::int64_t>(f.out)};
    spec.in = {f.image.begin(), f.image.end()};
    spec.kernel = spec.stride = {f.kernel.begin(), f.kernel.end()};
    spec.dilation = {1, 1};
    spec.pad_begin = spec.pad_end = {0, 0};
    for (std::size_t d = 0; d < 2; ++d) spec.out.push_back(spec.in[d] * spec.kernel[d]);
    spec.type = spec.result = spec.bias_type = type;
    spec.transposed = true;
    return spec;
}

TEST(CudaTransposed, EveryFormComputesWhatTheModelSays) {
    for (Form f : forms()) {
        SCOPED_TRACE(text(f));
        const auto device = std::make_shared<WithTensorCores>();
        f.image[0] *= 1 + 2048 / (f.image[0] * f.image[1]);  // enough pixels for the kernel to be preferred
        const Output x = std::make_shared<v0::Parameter>(f32, ov::Shape{2, f.channels, f.image[0], f.image[1]});
        const Schedule done = compare_in_f16(device, x, with_bias(spread_out(x, filters(f), f), f.out), 2e-2);
        EXPECT_EQ(std::ranges::count_if(done.kernels, is_transposed), 1) << print(done);
        EXPECT_TRUE(done.calls.empty()) << print(done);
        device->check();
        EXPECT_EQ(device->problems(), std::vector<std::string>{});
    }
}

TEST(CudaTransposed, StandsInForALibrary) {
    // As products of patches cannot take it: of an activation that products have no epilogue for.
    for (const auto& type : {f16, ov::element::bf16}) {
        for (const Form& f : forms()) {
            Trial t(text(f) + " of " + type.get_type_name());
            const auto x = t.in(type, {1, f.channels, f.image[0], f.image[1]}, -1, 1), b = t.in(type, {1, f.out, 1, 1});
            const auto w = t.in(type, {f.channels, f.out, f.kernel[0], f.kernel[1]}, -0.2, 0.2);
            t.compare(make<v4::Swish>(make<v1::Add>(spread_out(x, w, f), b)), type == f16 ? 8e-3 : 6e-2);
        }
    }
}

TEST(CudaTransposed, StoresIntoTheConcatenation) {
    const Form f{.channels = 32, .out = 32, .image = {72, 64}};
    const Output x = std::make_shared<v0::Parameter>(f32, ov::Shape{1, 32, 72, 64});
    const Output left = with_bias(spread_out(x, filters(f), f), f.out), right = spread_out(x, filters(f), f);
    const auto w = make<v0::Constant>(spread(f32, {8, 64, 3, 3}, -0.1, 0.1, 9));
    const Output y = make<v1::Convolution>(make<v0::Concat>(ov::OutputVector{left, right}, 1), w, ov::Strides{1, 1}, ov::CoordinateDiff{1, 1},
                                           ov::CoordinateDiff{1, 1}, ov::Strides{1, 1});
    const Schedule done = compare_in_f16(std::make_shared<WithTensorCores>(), x, y, 2e-2);
    EXPECT_EQ(done.calls.size(), 1U) << print(done);
    EXPECT_EQ(std::ranges::count_if(done.steps, [](const Step& step) { return step.label.starts_with("Concat"); }), 0) << print(done);
}

TEST(CudaTransposed, IsForFewChannelsAndManyPixels) {
    const Form unet{.channels = 128, .out = 64, .image = {128, 128}};
    EXPECT_TRUE(prefers_transposed(spec_of(unet, 4), kGpu));
    EXPECT_FALSE(prefers_transposed(spec_of(unet, 4), {256, 132, false}));
    EXPECT_FALSE(prefers_transposed(spec_of({.channels = 128, .out = 64, .image = {16, 16}}, 1), kGpu)) << "the library's product";
    EXPECT_EQ(*plan_transposed(spec_of(unet, 4)), (TransposedPlan{.columns = 256, .depth = 8, .across = 8, .parts = 1, .pixels = 64}));
    const auto refused = [](const auto& change) {
        ConvolutionSpec spec = spec_of({}, 2);
        change(spec);
        return !plan_transposed(spec);
    };
    EXPECT_FALSE(refused([](ConvolutionSpec&) {}));
    EXPECT_TRUE(refused([](ConvolutionSpec& s) { s.channels_in = 12; }));
    EXPECT_TRUE(refused([](ConvolutionSpec& s) { s.channels_in = 136; }));
    EXPECT_TRUE(refused([](ConvolutionSpec& s) { s.channels_out = 12; }));
    EXPECT_TRUE(refused([](ConvolutionSpec& s) { s.groups = 2; }));
    EXPECT_TRUE(refused([](ConvolutionSpec& s) { s.transposed = false; }));
    EXPECT_TRUE(refused([](ConvolutionSpec& s) { s.residual = true; }));
    EXPECT_TRUE(refused([](ConvolutionSpec& s) { s.type = Type::f32; }));
    EXPECT_TRUE(refused([](ConvolutionSpec& s) { s.stride = {2, 1}; }));
    EXPECT_TRUE(refused([](ConvolutionSpec& s) { s.dilation = {1, 2}; }));
    EXPECT_TRUE(refused([](ConvolutionSpec& s) { s.pad_begin = {1, 0}; }));
    EXPECT_TRUE(refused([](ConvolutionSpec& s) { s.out[1] += 1; })) << "output padding";
}

TEST(CudaTransposed, TheFormForTensorCoresCompiles) {
    if (const std::string missing = nvrtc_missing(); !missing.empty()) GTEST_SKIP() << missing;
    Schedule schedule;
    for (const Type type : {Type::f16, Type::bf16}) {
        for (const Form& f : forms()) {
            ConvolutionSpec spec = spec_of(f, 2, type);
            spec.bias = true;
            spec.bias_type = Type::f32;
            spec.activation = Activation::silu;
            const TransposedPlan plan = *plan_transposed(spec);
            Graph graph;
            Builder b(graph);
            const ValueId x = b.input(type, {spec.batch, spec.channels_in, spec.in[0], spec.in[1]}, "x");
            const ValueId y =
                b.convolution({x, b.input(type, transposed_weights(spec, plan).dims, "w"), b.input(Type::f32, {spec.channels_out}, "b")}, spec);
            schedule.kernels.push_back(transposed_kernel(graph, Places(graph.values.size()), *graph.producer(y), plan, kGpu).text);
        }
    }
    for (const int compute : {80, 90})
        EXPECT_NO_THROW((void)compile_kernels(module_source(schedule).text, {.compute = compute, .threads_per_block = 256, .driver_version = 13000}));
}

using TransposedOnDevice = OnDevice;

TEST_F(TransposedOnDevice, TheFormForTensorCoresComputesTheSame) {
    for (Form f : forms()) {
        SCOPED_TRACE(text(f));
        f.image = {121, 150};
        const Output x = std::make_shared<v0::Parameter>(f32, ov::Shape{3, f.channels, f.image[0], f.image[1]});
        const Schedule done = compare_in_f16(device_, x, with_bias(spread_out(x, filters(f), f), f.out), 2e-2);
        EXPECT_EQ(std::ranges::count_if(done.kernels, is_transposed), 1) << print(done);
    }
}

}  // namespace
}  // namespace ai_vmm::cuda::test
