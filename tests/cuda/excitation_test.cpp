// SPDX-License-Identifier: Apache-2.0
/// Squeeze and excitation as one kernel behind the mean.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>

#include "ai_vmm/error.hpp"
#include "base/file.hpp"
#include "codegen/excitation.hpp"
#include "cuda/host_device.hpp"
#include "cuda/nvrtc_fixture.hpp"
#include "cuda/trial.hpp"
#include "driver/kernel_compiler.hpp"
#include "graph/passes.hpp"
#include "program/schedule.hpp"

namespace ai_vmm::cuda::test {
namespace {

using namespace ov::op;
using ov::element::f16;
using ov::element::f32;

Output pixels_product(const Output& x, const Output& w) {
    return make<v1::Convolution>(x, w, ov::Strides{1, 1}, ov::CoordinateDiff{0, 0}, ov::CoordinateDiff{0, 0}, ov::Strides{1, 1});
}

enum class Gate : std::uint8_t { sigmoid, hard_sigmoid, none };

/// What an exporter makes of a block of channels, of which `y` are those that a convolution gave.
Output excitation(Trial& t, const Output& y, std::size_t squeezed, bool bias, Gate gate) {
    const auto type = y.get_element_type();
    const std::size_t channels = y.get_shape()[1];
    const auto pooled = make<v1::ReduceMean>(y, Trial::ints({2, 3}), true);
    Output h = pixels_product(pooled, t.in(type, {squeezed, channels, 1, 1}, -0.3, 0.3));
    if (bias) h = make<v1::Add>(h, t.in(type, {1, squeezed, 1, 1}, -1, 1));
    h = gate == Gate::sigmoid ? make<v4::Swish>(h) : make<v0::Relu>(h);
    Output g = pixels_product(h, t.in(type, {channels, squeezed, 1, 1}, -0.3, 0.3));
    if (bias) g = make<v1::Add>(g, t.in(type, {1, channels, 1, 1}, -1, 1));
    if (gate == Gate::sigmoid) g = make<v0::Sigmoid>(g);
    if (gate == Gate::hard_sigmoid) g = make<v0::HardSigmoid>(g, Trial::constant(type, {}, {1.0 / 6}), Trial::constant(type, {}, {0.5}));
    return make<v1::Multiply>(g, y);
}

TEST(CudaExcitation, EverySizeAndGate) {
    for (const auto& type : {f32, f16}) {
        for (const std::size_t images : {1, 3}) {
            for (const std::size_t channels : {8, 48, 72, 200}) {
                for (const std::size_t squeezed : {3, 8, 50}) {
                    for (const Gate gate : {Gate::sigmoid, Gate::hard_sigmoid, Gate::none}) {
                        Trial t(fmt::format("{} of {} channels, {} images, gate {}", squeezed, channels, images, static_cast<int>(gate)));
                        const auto x = t.in(type, {images, channels, 5, 7}, -1, 1), w = t.in(type, {channels, channels, 1, 1}, -0.1, 0.1);
                        const auto y = make<v0::Relu>(pixels_product(x, w));
                        t.compare(excitation(t, y, squeezed, squeezed != 8, gate).get_node_shared_ptr(), type == f16 ? 6e-3 : 1e-5);
                    }
                }
            }
        }
    }
}

TEST(CudaExcitation, MeansOfManyPixelsComeInParts) {
    for (const auto& type : {f32, f16}) {
        for (const std::size_t width : {64, 43, 47}) {  // 43: no part of it; 47: too few pixels
            Trial t(fmt::format("{} pixels of {}", 48 * width, type.get_type_name()));
            const auto x = t.in(type, {2, 16, width == 47 ? std::size_t{1} : std::size_t{48}, width}, -1, 1);
            const auto y = make<v0::Relu>(pixels_product(x, t.in(type, {16, 16, 1, 1}, -0.1, 0.1)));
            t.compare(excitation(t, y, 4, true, Gate::sigmoid).get_node_shared_ptr(), type == f16 ? 6e-3 : 1e-5);
        }
    }
}

TEST(CudaExcitation, PartsAreSummedByManyBlocks) {
    Graph graph;
    Builder b(graph);
    const ValueId x = b.input(Type::f16, {1, 32, 112, 112}, "x");
    Rowwise mean{"ReduceMean", {1, 32, 112, 112}, {2, 3}, Type::f32, {}, "return s0 / 12544.0f;", true, 4, {}};
    mean.stages.push_back({Rowwise::Combine::sum, "return in0(i0, i1, i2, i3);", ""});
    const ValueId pooled = b.reshape(b.rowwise(Type::f16, {x}, mean), {1, 1, 32});
    MatmulSpec first{.m = 1, .n = 8, .k = 32};
    first.transpose_b = true;
    first.type = first.result = Type::f16;
    MatmulSpec second = first;
    std::swap(second.n, second.k);
    const ValueId h = b.matmul(pooled, b.input(Type::f16, {1, 8, 32}, "w1"), first);
    const ValueId g = b.matmul(h, b.input(Type::f16, {1, 32, 8}, "w2"), second);
    b.output(b.pointwise("Multiply", Type::f16, {x, b.reshape(g, {1, 32, 1, 1})}, "a * b"), "y");
    const Graph made = recognise_excitation(graph);
    const auto* what = std::get_if<Excitation>(&made.producer(made.outputs.front())->what);
    ASSERT_NE(what, nullptr);
    EXPECT_EQ(what->parts, 16);
}

/// A graph of the same form. @returns its schedule's labels
Schedule scheduled(std::int64_t images, std::int64_t channels, std::int64_t squeezed) {
    static HostDevice device;
    Graph graph;
    Builder b(graph);
    const ValueId x = b.input(Type::f16, {images, channels, 6, 6}, "x"), pooled = b.input(Type::f16, {1, images, channels}, "pooled");
    MatmulSpec first{.m = images, .n = squeezed, .k = channels};
    first.transpose_b = true;
    first.type = first.result = Type::f16;
    MatmulSpec second = first;
    std::swap(second.n, second.k);
    const ValueId h = b.matmul(pooled, b.input(Type::f16, {1, squeezed, channels}, "w1"), first);
    const ValueId g = b.matmul(h, b.input(Type::f16, {1, channels, squeezed}, "w2"), second);
    const ValueId gate = b.pointwise("Sigmoid", Type::f16, {b.reshape(g, {images, channels, 1, 1})}, "1 / (1 + expf(-a))", 8);
    b.output(b.pointwise("Multiply", Type::f16, {x, gate}, "a * b"), "y");
    return make_schedule(graph, device);
}

bool excites(const Schedule& schedule) {
    return std::any_of(schedule.graph.nodes.begin(), schedule.graph.nodes.end(),
                       [](const Node& node) { return std::holds_alternative<Excitation>(node.what); });
}

TEST(CudaExcitation, IsOneKernelWhereTheMatrixIsSmall) {
    EXPECT_TRUE(excites(scheduled(1, 1152, 48)));
    EXPECT_TRUE(excites(scheduled(8, 240, 10)));
    EXPECT_FALSE(excites(scheduled(9, 240, 10)));    // not few images
    EXPECT_FALSE(excites(scheduled(1, 1152, 288)));  // every block would read this matrix
    EXPECT_FALSE(excites(scheduled(1, 20, 4)));      // no whole vectors
}

KernelSource kernel(Type type, std::int64_t images, std::int64_t channels, std::int64_t size, std::int64_t squeezed, std::int64_t parts = 0) {
    Graph graph;
    Builder b(graph);
    Excitation what;
    what.type = type;
    what.squeezed = squeezed;
    what.bias1 = what.bias2 = true;
    what.first = Activation::silu;
    what.second = Activation::sigmoid;
    what.gate = {"return fminf(a, 1);"};
    what.parts = parts;
    what.pooled = "return s0 / 49.0f;";
    const ValueId x = b.input(type, {images, channels, size, size}, "x");
    const ValueId y =
        b.excitation({x, parts > 0 ? b.input(Type::f32, {images, channels, parts, 1}, "parts") : b.input(type, {1, images, channels}, "pooled"),
                      b.input(type, {1, squeezed, channels}, "w1"), b.input(type, {1, channels, squeezed}, "w2"), b.input(type, {squeezed}, "b1"),
                      b.input(type, {channels}, "b2")},
                     what);
    Places places;
    for (std::size_t id = 0; id < graph.values.size(); ++id) {
        const auto value = static_cast<ValueId>(id);
        places.push_back(Place{value, row_major_strides(graph.value(value).dims), 0});
    }
    return excitation_kernel(graph, places, *graph.producer(y), {256, 132, true});
}

TEST(CudaExcitation, AGpuIsFilledByLargeImagesAlone) {
    EXPECT_GE(kernel(Type::f16, 1, 32, 112, 8).launch.grid[0], 66U);
    EXPECT_LE(kernel(Type::f16, 1, 32, 112, 8).launch.grid[0], 264U);
    EXPECT_LE(kernel(Type::f16, 8, 96, 112, 8).launch.grid[0], 272U);
    EXPECT_EQ(kernel(Type::f16, 1, 1152, 7, 48).launch.grid[0], 18U);
}

TEST(CudaExcitation, TheFormForGpusCompiles) {
    if (const std::string missing = nvrtc_missing(); !missing.empty()) GTEST_SKIP() << missing;
    Schedule schedule;
    for (const Type type : {Type::f16, Type::bf16, Type::f32}) {
        schedule.kernels.push_back(kernel(type, 1, 32, 112, 8).text);
        schedule.kernels.push_back(kernel(type, 1, 144, 56, 6).text);
        schedule.kernels.push_back(kernel(type, 2, 144, 56, 6, 16).text);
        schedule.kernels.push_back(kernel(type, 8, 1152, 7, 48).text);
    }
    EXPECT_NO_THROW((void)compile_kernels(module_source(schedule).text, {.compute = 90, .threads_per_block = 256, .driver_version = 13000}));
}

}  // namespace
}  // namespace ai_vmm::cuda::test
