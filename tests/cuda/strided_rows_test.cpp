// SPDX-License-Identifier: Apache-2.0
/// Reductions across memory and depthwise convolutions: the same numbers as OpenVINO's around every limit, and the forms for GPUs compile and read
/// wide.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <limits>

#include "ai_vmm/error.hpp"
#include "base/file.hpp"
#include "codegen/strided_rows.hpp"
#include "cuda/nvrtc_fixture.hpp"
#include "cuda/trial.hpp"
#include "driver/kernel_compiler.hpp"
#include "program/schedule.hpp"

namespace ai_vmm::cuda::test {
namespace {

using namespace ov::op;
using ov::element::f16;
using ov::element::f32;

TEST(CudaStridedRows, ReductionsOfEveryLength) {
    for (const auto& type : number_types()) {
        for (const std::size_t length : {1, 2, 7, 49, 196, 1000}) {
            for (const std::size_t channels : {2, 8, 20, 24}) {
                Trial t(fmt::format("{} x {} of {}", length, channels, type.get_type_name()));
                const bool narrow = type.is_integral_number() && type.bitwidth() < 32;
                const auto x = t.in(type, {2, length, channels}), y = t.in(type, {3, 4, 2, channels}, 0, 1);
                const double tolerance = type == f16 ? 6e-3 : type == ov::element::bf16 ? 4e-2 : 1e-5;
                ov::OutputVector results{make<v1::ReduceMax>(x, Trial::ints({1}), true), make<v1::ReduceMin>(y, Trial::ints({0, 2}), false)};
                if (type.is_real()) results.push_back(make<v1::ReduceMean>(x, Trial::ints({0, 1}), false));
                if (!type.is_real() && !narrow)
                    results.push_back(make<v1::ReduceSum>(x, Trial::ints({0, 1}), false));  // OpenVINO saturates narrow ones
                t.compare(results, tolerance);
            }
        }
    }
}

TEST(CudaStridedRows, WhatIsReducedIsComputedWhereItIsRead) {
    Trial t("sums of products");
    const auto x = t.in(f16, {2, 50, 16}), y = t.in(f32, {2, 50, 1}), scale = t.in(f32, {16});
    const auto wide = make<v1::Multiply>(make<v1::Multiply>(make<v0::Convert>(x, f32), y), scale);
    t.compare({make<v1::ReduceMean>(wide, Trial::ints({1}), false), make<v4::ReduceL2>(wide, Trial::ints({1}), true)}, 1e-5);
}

TEST(CudaStridedRows, NaNWins) {
    const double nan = std::numeric_limits<double>::quiet_NaN();
    Trial t("NaN");
    std::vector<double> values(3 * 8, 1);
    values[8 + 2] = nan;
    values[5] = nan;
    std::vector<double> expected(8, 1);
    expected[2] = expected[5] = nan;
    const auto x = t.given(f32, {3, 8}, values);
    t.expect({make<v1::ReduceMax>(x, Trial::ints({0}), false), make<v1::ReduceMin>(x, Trial::ints({0}), false)},
             {tensor(f32, {8}, expected), tensor(f32, {8}, expected)});
}

TEST(CudaDepthwise, SharesOfEverySize) {
    for (const auto& type : {f32, f16}) {
        for (const std::size_t width : {1, 3, 8, 21, 64}) {
            for (const std::size_t kernel : {1, 2, 3, 5, 7}) {
                for (const std::size_t stride : {1, 2, 3}) {
                    Trial t(fmt::format("depthwise {} of {}, stride {}, {}", kernel, width, stride, type.get_type_name()));
                    const auto edge = static_cast<std::ptrdiff_t>(kernel / 2);
                    const auto x = t.in(type, {2, 24, 9, width}, -1, 1), w = t.in(type, {24, 1, 1, kernel, kernel}, -0.3, 0.3);
                    const auto y = make<v1::GroupConvolution>(x, w, ov::Strides{stride, stride}, ov::CoordinateDiff{edge, edge},
                                                              ov::CoordinateDiff{edge, edge}, ov::Strides{1, 1});
                    t.compare(make<v0::Relu>(make<v1::Add>(y, t.in(type, {1, 24, 1, 1}))), type == f16 ? 4e-3 : 2e-6);
                }
            }
        }
    }
}

std::optional<KernelSource> mean(Type type, const Dims& dims) {
    Graph graph;
    Builder b(graph);
    const ValueId x = b.input(type, dims, "x");
    Rowwise what{"ReduceMean", dims, {1}, Type::f32, {{Rowwise::Combine::sum, "return in0(i0, i1, i2);", "s / 49"}}, "return s0;", true, 2, {}};
    const ValueId y = b.rowwise(type, {x}, std::move(what));
    Places places(graph.values.size());
    places[static_cast<std::size_t>(x)] = Place{x, row_major_strides(dims), 0};
    places[static_cast<std::size_t>(y)] = Place{y, {dims[2], dims[2], 1}, 0};
    return strided_rows_kernel(graph, places, *graph.producer(y), {256, 132, true});
}

KernelSource depthwise(Type type, std::int64_t batch, std::int64_t channels, std::int64_t size, std::int64_t kernel, std::int64_t stride) {
    Graph graph;
    Builder b(graph);
    const std::int64_t out = (size + 2 * (kernel / 2) - kernel) / stride + 1;
    ConvolutionSpec spec{.batch = batch, .channels_in = channels, .channels_out = channels, .groups = channels};
    spec.type = spec.result = type;
    spec.in = {size, size};
    spec.out = {out, out};
    spec.kernel = {kernel, kernel};
    spec.stride = {stride, stride};
    spec.dilation = {1, 1};
    spec.pad_begin = {kernel / 2, kernel / 2};
    spec.bias = true;
    spec.bias_type = type;
    spec.activation = Activation::silu;
    Node node;
    node.inputs = {b.input(type, {batch, channels, size, size}, "x"), b.input(type, {channels, 1, kernel, kernel}, "w"),
                   b.input(type, {channels}, "b")};
    node.outputs = {b.input(type, {batch, channels, out, out}, "y")};
    node.what = Convolution{spec};
    Places places(graph.values.size());
    return depthwise_kernel(graph, places, node, {256, 132, true});
}

TEST(CudaStridedRows, AGpuReadsVectorsInManyBlocks) {
    const auto large = mean(Type::f16, {64, 112 * 112, 32});
    EXPECT_NE(large->text.find("load16"), std::string::npos);
    EXPECT_GE(large->launch.grid[0], 128U);
    EXPECT_GE(mean(Type::f16, {64, 49, 1152})->launch.grid[0], 132U);
    EXPECT_FALSE(mean(Type::f16, {64, 49, 20}));  // no whole vectors
    // Small results take more threads, large ones read less.
    const auto few = depthwise(Type::f16, 1, 1152, 7, 5, 1), many = depthwise(Type::f16, 64, 120, 28, 5, 1);
    EXPECT_NE(few.text.find("load4"), std::string::npos);
    EXPECT_NE(many.text.find("acc[8][4]"), std::string::npos);
    EXPECT_NE(depthwise(Type::f16, 64, 120, 56, 5, 2).text.find("acc[4][4]"), std::string::npos) << "as many columns of the input at once";
}

TEST(CudaStridedRows, TheFormsForGpusCompile) {
    if (const std::string missing = nvrtc_missing(); !missing.empty()) GTEST_SKIP() << missing;
    Schedule schedule;
    for (const Type type : {Type::f16, Type::bf16, Type::f32}) {
        for (const std::int64_t rows : {1, 64}) {
            for (const std::int64_t length : {2, 7, 49, 196, 3136}) {
                for (const std::int64_t channels : {8, 32, 1152}) {
                    if (const auto kernel = mean(type, {rows, length, channels})) schedule.kernels.push_back(kernel->text);
                }
            }
            for (const std::int64_t kernel : {3, 5}) {
                for (const std::int64_t stride : {1, 2}) {
                    for (const std::int64_t size : {7, 56}) schedule.kernels.push_back(depthwise(type, rows, 120, size, kernel, stride).text);
                }
            }
        }
    }
    EXPECT_NO_THROW((void)compile_kernels(module_source(schedule).text, {.compute = 90, .threads_per_block = 256, .driver_version = 13000}));
}

}  // namespace
}  // namespace ai_vmm::cuda::test
