// SPDX-License-Identifier: Apache-2.0
/// Convolutions that are a product of each pixel by a generated kernel: 1x1, and transposed ones whose kernel is their stride.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "codegen/pixel_products.hpp"
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

bool is_pixel_product(const std::string& kernel) { return kernel.find("COLUMN_OFFSET") != std::string::npos; }

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

/// A convolution of one element, with a bias, then `residual` and the activation.
struct Pointwise {
    std::size_t channels = 16, out = 96;
    ov::Shape image{9, 13};
    Activation activation = Activation::silu;
    bool residual = false;
};

std::string text(const Pointwise& f) {
    return fmt::format("{} to {} of {} dimensions, activation {}{}", f.channels, f.out, f.image.size(), static_cast<int>(f.activation),
                       f.residual ? ", residual" : "");
}

std::vector<Pointwise> pointwise_forms() {
    return {
        {},
        {.channels = 24, .out = 24, .activation = Activation::relu, .residual = true},
        {.channels = 40, .out = 240, .activation = Activation::hard_swish},
        {.channels = 40, .out = 40, .image = {5, 31}, .activation = Activation::none, .residual = true},
        {.channels = 128, .out = 64, .image = {5, 31}, .activation = Activation::hard_swish},
        {.channels = 8, .out = 272, .image = {70}, .activation = Activation::sigmoid},
        {.channels = 72, .out = 8, .image = {3, 5, 7}, .activation = Activation::gelu_tanh},
    };
}

Output pointwise(const Output& x, const Output& w, const Output& b, const Pointwise& f) {
    const std::size_t rank = f.image.size();
    const ov::CoordinateDiff none(rank, 0);
    Output y = make<v1::Add>(make<v1::Convolution>(x, w, ov::Strides(rank, 1), none, none, ov::Strides(rank, 1)), b);
    if (f.residual) y = make<v1::Add>(y, x);
    switch (f.activation) {
        case Activation::silu: return make<v4::Swish>(y);
        case Activation::relu: return make<v0::Relu>(y);
        case Activation::hard_swish: return make<v4::HSwish>(y);
        case Activation::sigmoid: return make<v0::Sigmoid>(y);
        case Activation::gelu_tanh: return make<v7::Gelu>(y, ov::op::GeluApproximationMode::TANH);
        default: return y;
    }
}

ov::Shape pixels(const Pointwise& f, std::size_t batch, std::size_t channels) {
    ov::Shape shape{batch, channels};
    shape.insert(shape.end(), f.image.begin(), f.image.end());
    return shape;
}

ov::Shape ones_after(std::initializer_list<std::size_t> first, const Pointwise& f) {
    ov::Shape shape(first);
    shape.resize(first.size() + f.image.size(), 1);
    return shape;
}

/// @param fewest  pixels; there are more where pointwise_kernel() would take so few
Schedule compare_pointwise(const std::shared_ptr<Device>& device, Pointwise f, std::size_t fewest) {
    f.image[0] *= 1 + std::max(fewest, (std::size_t{33} << 20) / (f.channels * f.out)) / ov::shape_size(f.image);
    const Output x = std::make_shared<v0::Parameter>(f32, pixels(f, 2, f.channels));
    const Output w = make<v0::Constant>(spread(f32, ones_after({f.out, f.channels}, f), -0.2, 0.2, 5));
    return compare_in_f16(device, x, pointwise(x, w, make<v0::Constant>(spread(f32, ones_after({1, f.out}, f), -1, 1, 7)), f), 2e-2);
}

ConvolutionSpec spec_of(const Pointwise& f, std::int64_t batch, Type type = Type::f16) {
    ConvolutionSpec spec{.batch = batch, .channels_in = static_cast<std::int64_t>(f.channels), .channels_out = static_cast<std::int64_t>(f.out)};
    spec.in = spec.out = {f.image.begin(), f.image.end()};
    spec.kernel = spec.stride = spec.dilation = Dims(f.image.size(), 1);
    spec.pad_begin = spec.pad_end = Dims(f.image.size(), 0);
    spec.type = spec.result = spec.bias_type = type;
    spec.activation = f.activation;
    spec.residual = f.residual;
    return spec;
}

TEST(CudaPixelProducts, EveryPointwiseFormComputesWhatTheModelSays) {
    for (const Pointwise& f : pointwise_forms()) {
        SCOPED_TRACE(text(f));
        const auto device = std::make_shared<WithTensorCores>();
        const Schedule done = compare_pointwise(device, f, 2048);
        EXPECT_EQ(std::ranges::count_if(done.kernels, is_pixel_product), 1) << print(done);
        EXPECT_TRUE(done.calls.empty()) << print(done);
        device->check();
        EXPECT_EQ(device->problems(), std::vector<std::string>{});
    }
}

TEST(CudaPixelProducts, EveryFormComputesWhatTheModelSays) {
    for (Form f : forms()) {
        SCOPED_TRACE(text(f));
        const auto device = std::make_shared<WithTensorCores>();
        f.image[0] *= 1 + 2048 / (f.image[0] * f.image[1]);  // enough pixels for the kernel to be preferred
        const Output x = std::make_shared<v0::Parameter>(f32, ov::Shape{2, f.channels, f.image[0], f.image[1]});
        const Schedule done = compare_in_f16(device, x, with_bias(spread_out(x, filters(f), f), f.out), 2e-2);
        EXPECT_EQ(std::ranges::count_if(done.kernels, is_pixel_product), 1) << print(done);
        EXPECT_TRUE(done.calls.empty()) << print(done);
        device->check();
        EXPECT_EQ(device->problems(), std::vector<std::string>{});
    }
}

TEST(CudaPixelProducts, StandsInForALibrary) {
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

TEST(CudaPixelProducts, StandsInForALibraryOfPointwise) {
    for (const auto& type : {f16, ov::element::bf16}) {
        for (const Pointwise& f : pointwise_forms()) {
            Trial t(text(f) + " of " + type.get_type_name());
            const auto x = t.in(type, pixels(f, 3, f.channels), -1, 1), w = t.in(type, ones_after({f.out, f.channels}, f), -0.2, 0.2);
            t.compare({pointwise(x, w, t.in(type, ones_after({1, f.out}, f)), f)}, type == f16 ? 8e-3 : 6e-2);
        }
    }
}

TEST(CudaPixelProducts, StoresIntoTheConcatenation) {
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

TEST(CudaPixelProducts, IsForFewChannelsAndManyPixels) {
    const Form unet{.channels = 128, .out = 64, .image = {128, 128}};
    EXPECT_TRUE(prefers_pixel_product(spec_of(unet, 4), kGpu));
    EXPECT_FALSE(prefers_pixel_product(spec_of(unet, 4), {256, 132, false}));
    EXPECT_FALSE(prefers_pixel_product(spec_of(Form{.channels = 128, .out = 64, .image = {16, 16}}, 1), kGpu)) << "the library's product";
    EXPECT_EQ(*plan_pixel_product(spec_of(unet, 4)), (PixelPlan{.columns = 256, .depth = 8, .across = 8, .parts = 1, .pixels = 64}));
    const auto preferred = [](const Pointwise& f) { return prefers_pixel_product(spec_of(f, 64), kGpu); };
    EXPECT_TRUE(preferred({.channels = 16, .out = 96, .image = {112, 112}}));
    EXPECT_TRUE(preferred({.channels = 80, .out = 480, .image = {14, 14}}));
    EXPECT_FALSE(preferred({.channels = 96, .out = 24, .image = {56, 56}})) << "the library's";
    EXPECT_TRUE(preferred({.channels = 112, .out = 672, .image = {14, 14}, .activation = Activation::hard_swish})) << "which takes cuDNN two";
    EXPECT_TRUE(preferred({.channels = 24, .out = 24, .image = {56, 56}, .residual = true}));
    EXPECT_FALSE(preferred({.channels = 64, .out = 256, .image = {56, 56}, .residual = true}));
    const auto refused = [](const auto& change) {
        ConvolutionSpec spec = spec_of(Form{}, 2);
        change(spec);
        return !plan_pixel_product(spec);
    };
    EXPECT_FALSE(refused([](ConvolutionSpec&) {}));
    EXPECT_TRUE(refused([](ConvolutionSpec& s) { s.channels_in = 12; }));
    EXPECT_TRUE(refused([](ConvolutionSpec& s) { s.channels_in = 136; }));
    EXPECT_TRUE(refused([](ConvolutionSpec& s) { s.channels_out = 12; }));
    EXPECT_TRUE(refused([](ConvolutionSpec& s) { s.groups = 2; }));
    EXPECT_TRUE(refused([](ConvolutionSpec& s) { s.transposed = false; })) << "its windows are apart, too, but read more than a pixel";
    EXPECT_TRUE(refused([](ConvolutionSpec& s) { s.residual = true; }));
    EXPECT_TRUE(refused([](ConvolutionSpec& s) { s.type = Type::f32; }));
    EXPECT_TRUE(refused([](ConvolutionSpec& s) { s.stride = {2, 1}; }));
    EXPECT_TRUE(refused([](ConvolutionSpec& s) { s.dilation = {1, 2}; }));
    EXPECT_TRUE(refused([](ConvolutionSpec& s) { s.pad_begin = {1, 0}; }));
    EXPECT_TRUE(refused([](ConvolutionSpec& s) { s.out[1] += 1; })) << "output padding";
}

TEST(CudaPixelProducts, TheFormForTensorCoresCompiles) {
    if (const std::string missing = nvrtc_missing(); !missing.empty()) GTEST_SKIP() << missing;
    Schedule schedule;
    const auto add = [&](const ConvolutionSpec& spec) {
        const PixelPlan plan = *plan_pixel_product(spec);
        Graph graph;
        Builder b(graph);
        Dims x{spec.batch, spec.channels_in}, y{spec.batch, spec.channels_out};
        x.insert(x.end(), spec.in.begin(), spec.in.end());
        y.insert(y.end(), spec.out.begin(), spec.out.end());
        std::vector<ValueId> inputs{b.input(spec.type, x, "x"), b.input(spec.type, pixel_product_weights(spec, plan).dims, "w")};
        if (spec.bias) inputs.push_back(b.input(spec.bias_type, {spec.channels_out}, "b"));
        if (spec.residual) inputs.push_back(b.input(spec.type, y, "r"));
        const ValueId made = b.convolution(std::move(inputs), spec);
        schedule.kernels.push_back(pixel_product_kernel(graph, Places(graph.values.size()), *graph.producer(made), plan, kGpu).text);
    };
    for (const Type type : {Type::f16, Type::bf16}) {
        for (const Form& f : forms()) {
            ConvolutionSpec spec = spec_of(f, 2, type);
            spec.bias = true;
            spec.bias_type = Type::f32;
            spec.activation = Activation::silu;
            add(spec);
        }
        for (const Pointwise& f : pointwise_forms()) add(spec_of(f, 2, type));
    }
    for (const int compute : {80, 90})
        EXPECT_NO_THROW((void)compile_kernels(module_source(schedule).text, {.compute = compute, .threads_per_block = 256, .driver_version = 13000}));
}

using PixelProductsOnDevice = OnDevice;

TEST_F(PixelProductsOnDevice, PointwiseComputesTheSame) {
    for (const Pointwise& f : pointwise_forms()) {
        SCOPED_TRACE(text(f));
        EXPECT_EQ(std::ranges::count_if(compare_pointwise(device_, f, 20'000).kernels, is_pixel_product), 1);
    }
}

TEST_F(PixelProductsOnDevice, TheFormForTensorCoresComputesTheSame) {
    for (Form f : forms()) {
        SCOPED_TRACE(text(f));
        f.image = {121, 150};
        const Output x = std::make_shared<v0::Parameter>(f32, ov::Shape{3, f.channels, f.image[0], f.image[1]});
        const Schedule done = compare_in_f16(device_, x, with_bias(spread_out(x, filters(f), f), f.out), 2e-2);
        EXPECT_EQ(std::ranges::count_if(done.kernels, is_pixel_product), 1) << print(done);
    }
}

}  // namespace
}  // namespace ai_vmm::cuda::test
