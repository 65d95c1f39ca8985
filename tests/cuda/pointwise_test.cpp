// SPDX-License-Identifier: Apache-2.0
/// Small 1x1 convolutions by a generated kernel.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cstdlib>

#include "ai_vmm/error.hpp"
#include "base/file.hpp"
#include "codegen/pointwise.hpp"
#include "cuda/library_device.hpp"
#include "cuda/nvrtc_fixture.hpp"
#include "cuda/trial.hpp"
#include "driver/kernel_compiler.hpp"
#include "program/schedule.hpp"

namespace ai_vmm::cuda::test {
namespace {

using namespace ov::op;
using ov::element::f16;

TEST(CudaPointwise, EverySizeWithAllThatIsFused) {
    for (const auto& type : {f16, ov::element::bf16}) {
        const double tolerance = type == f16 ? 6e-3 : 5e-2;
        for (const std::size_t in : {8, 24, 40}) {
            for (const std::size_t out : {8, 24}) {
                Trial t(fmt::format("{} to {} of {}", in, out, type.get_type_name()));
                const auto x = t.in(type, {2, in, 3, 7}, -1, 1), w = t.in(type, {out, in, 1, 1}, -0.2, 0.2), b = t.in(type, {1, out, 1, 1});
                const ov::CoordinateDiff none{0, 0};
                const auto y = make<v1::Convolution>(x, w, ov::Strides{1, 1}, none, none, ov::Strides{1, 1});
                t.compare(y, tolerance);
                const auto biased = make<v1::Add>(y, b), added = make<v1::Add>(biased, t.in(type, {2, out, 3, 7}));
                t.compare(make<v0::Relu>(added), tolerance);
                t.compare(make<v4::HSwish>(biased), tolerance);
                t.compare(make<v4::Swish>(biased), tolerance);
                const auto line = make<v1::Convolution>(t.in(type, {2, in, 9}, -1, 1), t.in(type, {out, in, 1}, -0.2, 0.2), ov::Strides{1},
                                                        ov::CoordinateDiff{0}, ov::CoordinateDiff{0}, ov::Strides{1});
                t.compare(line, tolerance);
            }
        }
    }
}

TEST(CudaPointwise, SinglePixelsOfAnyDepth) {
    for (const auto& type : {f16, ov::element::bf16}) {
        for (const std::size_t in : {4, 10, 48}) {
            Trial t(fmt::format("pixels of {} {}", in, type.get_type_name()));
            const auto x = t.in(type, {20, in, 1, 1}, -1, 1), w = t.in(type, {24, in, 1, 1}, -0.2, 0.2);
            const ov::CoordinateDiff none{0, 0};
            const auto y = make<v1::Convolution>(x, w, ov::Strides{1, 1}, none, none, ov::Strides{1, 1});
            t.compare(make<v0::Sigmoid>(make<v1::Add>(y, t.in(type, {1, 24, 1, 1}))), type == f16 ? 6e-3 : 5e-2);
        }
    }
}

ConvolutionSpec pointwise(std::int64_t batch, std::int64_t in, std::int64_t out, std::int64_t size, Activation activation = Activation::silu) {
    ConvolutionSpec spec{.batch = batch, .channels_in = in, .channels_out = out};
    spec.type = spec.result = spec.bias_type = Type::f16;
    spec.in = spec.out = {size, size};
    spec.kernel = spec.stride = spec.dilation = {1, 1};
    spec.pad_begin = spec.pad_end = {0, 0};
    spec.bias = true;
    spec.activation = activation;
    return spec;
}

TEST(CudaPointwise, IsForLittleWorkOfFewChannels) {
    EXPECT_TRUE(is_small_pointwise(pointwise(1, 16, 96, 112)));
    EXPECT_TRUE(is_small_pointwise(pointwise(1, 40, 240, 28, Activation::hard_swish)));
    EXPECT_FALSE(is_small_pointwise(pointwise(1, 80, 480, 14, Activation::hard_swish)));
    EXPECT_FALSE(is_small_pointwise(pointwise(1, 40, 240, 28)));
    EXPECT_FALSE(is_small_pointwise(pointwise(64, 16, 96, 112)));
    EXPECT_FALSE(is_small_pointwise(pointwise(1, 12, 96, 112)));
    EXPECT_TRUE(is_small_pointwise(pointwise(64, 28, 672, 1)));
    EXPECT_FALSE(is_small_pointwise(pointwise(64, 672, 32, 1)));
    ConvolutionSpec strided = pointwise(1, 16, 96, 112);
    strided.stride = {2, 2};
    EXPECT_FALSE(is_small_pointwise(strided));
    ConvolutionSpec wide = pointwise(1, 16, 96, 112);
    wide.type = wide.result = Type::f32;
    EXPECT_FALSE(is_small_pointwise(wide));

    LibraryDevice device;
    Graph graph;
    Builder b(graph);
    ConvolutionSpec spec = pointwise(1, 16, 32, 8, Activation::hard_swish);
    b.output(b.convolution({b.input(Type::f16, {1, 16, 8, 8}, "x"), b.input(Type::f16, {32, 16, 1, 1}, "w"), b.input(Type::f16, {32}, "b")}, spec),
             "y");
    (void)make_schedule(graph, device);
    EXPECT_TRUE(device.convolutions.empty());
}

TEST(CudaPointwise, TheFormForGpusCompiles) {
    if (const std::string missing = nvrtc_missing(); !missing.empty()) GTEST_SKIP() << missing;
    Schedule schedule;
    for (const Type type : {Type::f16, Type::bf16}) {
        for (const std::int64_t in : {16, 28, 40, 64}) {
            for (const std::int64_t size : {1, 7, 112}) {
                Graph graph;
                Builder b(graph);
                ConvolutionSpec spec = pointwise(1, in, 96, size);
                spec.type = spec.result = spec.bias_type = type;
                spec.residual = true;
                const ValueId y = b.convolution({b.input(type, {1, in, size, size}, "x"), b.input(type, {96, in, 1, 1}, "w"),
                                                 b.input(type, {96}, "b"), b.input(type, {1, 96, size, size}, "r")},
                                                spec);
                Places places(graph.values.size());
                schedule.kernels.push_back(pointwise_kernel(graph, places, *graph.producer(y), {256, 132, true}).text);
            }
        }
    }
    EXPECT_NO_THROW((void)compile_kernels(module_source(schedule).text, {.compute = 90, .threads_per_block = 256, .driver_version = 13000}));
}

}  // namespace
}  // namespace ai_vmm::cuda::test
