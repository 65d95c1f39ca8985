// SPDX-License-Identifier: Apache-2.0
/// What graphs become: convolutions and products with all that follows them, depthwise kernels, elementwise kernels of several elements per thread.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>

#include "ai_vmm/error.hpp"
#include "base/file.hpp"
#include "codegen/skinny.hpp"
#include "cuda/host_device.hpp"
#include "cuda/library_device.hpp"
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

TEST(CudaFusion, DepthwiseConvolutions) {
    for (const auto& type : {f32, f16}) {
        for (const std::size_t kernel : {3, 5}) {
            for (const std::size_t stride : {1, 2}) {
                for (const std::size_t dilation : {1, 2}) {
                    Trial t("depthwise " + type.get_type_name());
                    const auto x = t.in(type, {2, 16, 9, 11}, -1, 1), w = t.in(type, {16, 1, 1, kernel, kernel}, -0.3, 0.3),
                               b = t.in(type, {1, 16, 1, 1});
                    const auto edge = static_cast<std::ptrdiff_t>(kernel / 2);
                    const auto y = make<v1::GroupConvolution>(x, w, ov::Strides{stride, stride}, ov::CoordinateDiff{edge, edge - 1},
                                                              ov::CoordinateDiff{edge, edge}, ov::Strides{dilation, dilation});
                    const double tolerance = type == f16 ? 4e-3 : 2e-6;
                    t.compare(y, tolerance);
                    const auto biased = make<v1::Add>(y, b);
                    t.compare(make<v4::HSwish>(biased), tolerance);
                    t.compare(make<v0::Relu>(make<v1::Add>(biased, t.in(type, y->get_output_shape(0)))), tolerance);
                }
            }
        }
    }
}

TEST(CudaFusion, ConvolutionsWithBiasResidualAndActivation) {
    Trial t("convolution");
    const auto x = t.in(f32, {2, 6, 8, 8}, -1, 1), w = t.in(f32, {8, 6, 3, 3}, -0.3, 0.3), b = t.in(f32, {8, 1, 1}), added = t.in(f32, {2, 8, 8, 8});
    const auto y = make<v1::Convolution>(x, w, ov::Strides{1, 1}, ov::CoordinateDiff{1, 1}, ov::CoordinateDiff{1, 1}, ov::Strides{1, 1});
    const auto biased = make<v1::Add>(b, y);
    t.compare(make<v0::Relu>(make<v1::Add>(biased, added)), 1e-5);
    t.compare(make<v1::Multiply>(biased, make<v0::Sigmoid>(biased)), 1e-5);
    // Read twice: what comes before the activation must stay.
    t.compare({make<v0::Relu>(biased), make<v0::Tanh>(biased)}, 1e-5);
}

TEST(CudaFusion, ConvolutionsOfPatchesAreProducts) {
    for (const auto& type : {f32, f16}) {
        const double tolerance = type == f16 ? 4e-3 : 4e-6;
        Trial t("patches " + type.get_type_name());
        const auto x = t.in(type, {2, 3, 12, 8}, -1, 1), w = t.in(type, {16, 3, 4, 2}, -0.3, 0.3), b = t.in(type, {1, 16, 1, 1});
        const auto strides = ov::Strides{4, 2}, ones = ov::Strides{1, 1};
        const auto none = ov::CoordinateDiff{0, 0};
        const auto y = make<v0::Relu>(make<v1::Add>(make<v1::Convolution>(x, w, strides, none, none, ones), b));
        t.compare(y, tolerance);
        // Inside a network, and along one dimension.
        const auto v = t.in(type, {24, 16, 3, 2}, -0.3, 0.3);
        t.compare(make<v1::Convolution>(y, v, ov::Strides{3, 2}, none, none, ones), 4 * tolerance);
        t.compare(make<v1::Convolution>(t.in(type, {2, 4, 20}), t.in(type, {8, 4, 4}), ov::Strides{4}, ov::CoordinateDiff{0}, ov::CoordinateDiff{0},
                                        ov::Strides{1}),
                  4 * tolerance);
    }
    Graph graph;
    Builder b(graph);
    ConvolutionSpec spec;
    spec.channels_in = 3;
    spec.channels_out = 8;
    spec.in = {8, 8};
    spec.kernel = spec.stride = {4, 4};
    spec.out = {2, 2};
    spec.dilation = {1, 1};
    spec.pad_begin = spec.pad_end = {0, 0};
    b.output(b.convolution({b.input(Type::f32, {1, 3, 8, 8}, "x"), b.input(Type::f32, {8, 3, 4, 4}, "w")}, spec), "y");
    const Graph products = products_of_patches(graph);
    EXPECT_TRUE(
        std::any_of(products.nodes.begin(), products.nodes.end(), [](const Node& node) { return std::holds_alternative<Matmul>(node.what); }));
    EXPECT_TRUE(
        std::none_of(products.nodes.begin(), products.nodes.end(), [](const Node& node) { return std::holds_alternative<Convolution>(node.what); }));
}

TEST(CudaFusion, TransposedConvolutionsOfPatchesAreProducts) {
    for (const auto& type : {f16, ov::element::bf16, f32}) {
        const double tolerance = type == f16 ? 6e-3 : type == ov::element::bf16 ? 5e-2 : 4e-6;
        Trial t("patches from pixels, " + type.get_type_name());
        const auto x = t.in(type, {2, 16, 3, 5}, -1, 1), w = t.in(type, {16, 24, 2, 3}, -0.3, 0.3), b = t.in(type, {1, 24, 1, 1});
        const ov::CoordinateDiff none{0, 0};
        const auto y = make<v1::ConvolutionBackpropData>(x, w, ov::Strides{2, 3}, none, none, ov::Strides{1, 1});
        t.compare(y, tolerance);
        t.compare(make<v0::Relu>(make<v1::Add>(y, b)), tolerance);
        t.compare(make<v1::ConvolutionBackpropData>(t.in(type, {2, 8, 5}), t.in(type, {8, 8, 4}, -0.3, 0.3), ov::Strides{4}, ov::CoordinateDiff{0},
                                                    ov::CoordinateDiff{0}, ov::Strides{1}),
                  2 * tolerance);
    }
    Graph graph;
    Builder b(graph);
    ConvolutionSpec spec{.channels_in = 16, .channels_out = 8};
    spec.transposed = true;
    spec.type = spec.result = Type::f16;
    spec.in = {8, 8};
    spec.kernel = spec.stride = {2, 2};
    spec.out = {16, 16};
    spec.dilation = {1, 1};
    spec.pad_begin = spec.pad_end = {0, 0};
    b.output(b.convolution({b.input(Type::f16, {1, 16, 8, 8}, "x"), b.input(Type::f16, {16, 8, 2, 2}, "w")}, spec), "y");
    const Graph products = products_of_patches(graph);
    EXPECT_TRUE(
        std::none_of(products.nodes.begin(), products.nodes.end(), [](const Node& node) { return std::holds_alternative<Convolution>(node.what); }));
    // Between channels-last neighbours pixels go to their patches in vectors.
    LibraryDevice device;
    const ValueId up = products.outputs.front();
    Graph network = products;
    Builder more(network);
    ConvolutionSpec next{.channels_in = 8, .channels_out = 8};
    next.type = next.result = Type::f16;
    next.in = next.out = {16, 16};
    next.kernel = next.stride = next.dilation = {1, 1};
    next.pad_begin = next.pad_end = {0, 0};
    network.outputs.front() = more.convolution({up, more.input(Type::f16, {8, 8, 1, 1}, "v")}, next);
    const Schedule schedule = make_schedule(network, device);
    const auto copy = std::find_if(schedule.steps.begin(), schedule.steps.end(), [&](const Step& step) {
        return step.kind == Step::Kind::kernel && elements(schedule.graph.value(step.arguments.back()).dims) == 8 * 16 * 16;
    });
    ASSERT_NE(copy, schedule.steps.end());
    EXPECT_NE(schedule.kernels[static_cast<std::size_t>(copy->index)].find("store16"), std::string::npos)
        << print(schedule) << schedule.kernels[static_cast<std::size_t>(copy->index)];
}

TEST(CudaFusion, ProductsOfUnevenDepthArePadded) {
    for (const auto& type : {f16, ov::element::bf16, f32}) {
        const double tolerance = type == f16 ? 1e-2 : type == ov::element::bf16 ? 1e-1 : 1e-5;
        for (const bool transposed : {false, true}) {
            Trial t("depth of 75, " + type.get_type_name());
            const auto left = t.in(type, {20, 40}, -1, 1), right = t.in(type, {20, 5, 7}, -1, 1);
            const auto joined = make<v0::Concat>(ov::OutputVector{left, make<v1::Reshape>(right, Trial::ints({20, 35}), false)}, 1);
            const auto shape = transposed ? ov::Shape{24, 75} : ov::Shape{75, 24};
            const auto w = make<v0::Constant>(spread(type, shape, -0.3, 0.3, 3));
            t.compare(make<v0::Relu>(make<v1::Add>(make<v0::MatMul>(joined, w, false, transposed), t.in(type, {24}))), tolerance);
            // Joined along the rows.
            const auto tall = make<v0::Concat>(ov::OutputVector{t.in(type, {8, 75}, -1, 1), t.in(type, {12, 75}, -1, 1)}, 0);
            t.compare(make<v0::MatMul>(tall, w, false, transposed), tolerance);
        }
    }
    const auto depths = [](Type type, std::int64_t second, std::int64_t rows) {
        LibraryDevice device;
        Graph graph;
        Builder b(graph);
        MatmulSpec spec{.m = rows, .n = 16, .k = 40 + second};
        spec.type = spec.result = type;
        const auto zeros = std::make_shared<std::vector<std::byte>>(static_cast<std::size_t>(16 * spec.k * 4));
        const ValueId w = b.constant(type, {1, spec.k, 16}, {zeros, zeros->data(), zeros->size()});
        const ValueId joined = b.concat({b.input(type, {rows, 40}, "x"), b.input(type, {rows, second}, "y")}, 1);
        b.output(b.matmul(b.reshape(joined, {1, rows, spec.k}), w, spec), "z");
        (void)make_schedule(graph, device);
        return device.matmuls.empty() ? 0 : device.matmuls.front().k;
    };
    EXPECT_EQ(depths(Type::f16, 35, 20), 80);
    EXPECT_EQ(depths(Type::f16, 40, 20), 80);
    EXPECT_EQ(depths(Type::f32, 35, 20), 75);  // reads four bytes at a time anyway
    EXPECT_EQ(depths(Type::f16, 3, 20), 43);   // takes a launch's time either way
}

TEST(CudaFusion, ProductsOfFewRows) {
    for (const auto& type : {f32, f16}) {
        const double tolerance = type == f16 ? 4e-3 : 4e-6;
        Trial t("few rows " + type.get_type_name());
        for (const std::size_t rows : {1, 3, 8}) {
            for (const std::size_t depth : {6, 8, 24, 256}) {
                const auto x = t.in(type, {rows, depth}, -1, 1), w = t.in(type, {40, depth}, -0.2, 0.2), b = t.in(type, {40});
                const auto y = make<v0::MatMul>(x, w, false, true);
                t.compare(y, tolerance);
                t.compare(make<v0::Relu>(make<v1::Add>(y, b)), tolerance);
                t.compare(make<v0::MatMul>(x, t.in(type, {depth, 5}, -0.2, 0.2), false, false), tolerance);
                t.compare(make<v0::MatMul>(t.in(type, {depth, rows}, -1, 1), w, true, true), tolerance);
            }
            // Squeeze and excitation.
            const auto squeezed = t.in(type, {rows, 16, 1, 1}, -1, 1);
            const ov::CoordinateDiff none{0, 0};
            const ov::Strides ones{1, 1};
            const auto inner = make<v4::Swish>(
                make<v1::Add>(make<v1::Convolution>(squeezed, t.in(type, {8, 16, 1, 1}), ones, none, none, ones), t.in(type, {1, 8, 1, 1})));
            t.compare(make<v0::Sigmoid>(make<v1::Add>(make<v1::Convolution>(inner, t.in(type, {16, 8, 1, 1}, -0.2, 0.2), ones, none, none, ones),
                                                      t.in(type, {1, 16, 1, 1}))),
                      2 * tolerance);
        }
    }
}

/// Images to channels-last halves.
KernelSource channels_together() {
    Graph graph;
    Builder b(graph);
    const ValueId x = b.input(Type::f32, {64, 3, 224, 224}, "x");
    const ValueId y = b.pointwise("Convert", Type::f16, {x}, "a", 0);
    Places places(graph.values.size());
    places[static_cast<std::size_t>(x)] = Place{x, row_major_strides(graph.value(x).dims), 0};
    places[static_cast<std::size_t>(y)] = Place{y, {3 * 224 * 224, 1, 3 * 224, 3}, 0};
    return compute_kernel(graph, places, y, {256, 132, true});
}

TEST(CudaFusion, TheFormsForGpusCompile) {
    if (const std::string missing = nvrtc_missing(); !missing.empty()) GTEST_SKIP() << missing;
    Schedule schedule;
    schedule.kernels.push_back(channels_together().text);
    for (const Type type : {Type::f16, Type::bf16, Type::f32}) {
        for (const std::int64_t k : {6, 48, 1280}) {
            Graph graph;
            Builder b(graph);
            MatmulSpec spec;
            spec.m = 4;
            spec.n = 100;
            spec.k = spec.row_stride_a = spec.row_stride_b = k;
            spec.transpose_b = true;
            spec.type = spec.result = type;
            spec.activation = Activation::silu;
            const ValueId y = b.matmul(b.input(type, {1, 4, k}, "a"), b.input(type, {1, 100, k}, "b"), spec);
            Places places;
            for (std::size_t id = 0; id < graph.values.size(); ++id) {
                const auto value = static_cast<ValueId>(id);
                places.push_back(Place{value, row_major_strides(graph.value(value).dims), 0});
            }
            schedule.kernels.push_back(skinny_kernel(graph, places, *graph.producer(y), spec, {256, 132, true}).text);
        }
    }
    EXPECT_NO_THROW((void)compile_kernels(module_source(schedule).text, {.compute = 90, .threads_per_block = 256, .driver_version = 13000}));
}

TEST(CudaFusion, ProductsWithBiasResidualAndActivation) {
    Trial t("product");
    const auto x = t.in(f32, {2, 5, 16}, -1, 1), w = t.in(f32, {24, 16}, -0.3, 0.3), b = t.in(f32, {24}), added = t.in(f32, {2, 5, 24});
    const auto y = make<v0::MatMul>(x, w, false, true);
    const auto biased = make<v1::Add>(y, b);
    t.compare(make<v7::Gelu>(biased, ov::op::GeluApproximationMode::TANH), 1e-5);
    t.compare(make<v1::Add>(biased, added), 1e-5);
    t.compare(make<v0::Relu>(make<v1::Add>(added, biased)), 1e-5);
}

TEST(CudaFusion, ElementwiseTreesOfEveryWidth) {
    for (const auto& type : number_types()) {
        Trial t("elementwise " + type.get_type_name());
        const auto x = t.in(type, {3, 5, 16}, 1, 5), y = t.in(type, {5, 16}, 1, 5), row = t.in(type, {3, 1, 1}, 1, 5), other = t.in(f16, {16}, 1, 5);
        const auto z = make<v1::Add>(make<v1::Multiply>(x, y), row);
        t.compare(make<v1::Maximum>(z, make<v0::Convert>(other, type)), 1e-2);
        // Between halves a kernel keeps more digits than OpenVINO does, which a conversion to integers may show.
        if (type != f16 && type != ov::element::bf16) t.compare(make<v0::Convert>(z, ov::element::u8));
    }
}

TEST(CudaFusion, AFewElementsSideBySideAreTakenTogether) {
    for (const std::size_t channels : {2, 3, 4, 5}) {
        Trial t(fmt::format("{} channels", channels));
        const auto x = t.in(f32, {2, channels, 24, 20});
        t.compare(make<v1::Transpose>(make<v0::Convert>(x, f16), Trial::ints({0, 2, 3, 1})));
        t.compare(make<v1::Transpose>(make<v1::Add>(x, t.in(f32, {channels, 1, 1})), Trial::ints({2, 0, 3, 1})));
    }
    EXPECT_EQ(channels_together().launch.grid[0], 64U * 224 * 224 / 256);
}

TEST(CudaFusion, NarrowingConversionsAreSeen) {
    Trial t("narrowing");
    const auto x = t.in(f32, {64}, -3, 3);
    t.compare(make<v1::Multiply>(make<v0::Convert>(make<v0::Convert>(x, f16), f32), Trial::constant(f32, {1}, {1024})), 0);
}

TEST(CudaFusion, ReshapesOfReshapesAreOne) {
    Graph graph;
    Builder b(graph);
    const ValueId x = b.input(Type::f32, {4, 6}, "x");
    EXPECT_EQ(b.reshape(b.reshape(x, {24}), {4, 6}), x);
    EXPECT_EQ(graph.producer(b.reshape(b.reshape(x, {24}), {2, 12}))->inputs.front(), x);
}

TEST(CudaFusion, LargeConcatenationsAreCopiedByParts) {
    HostDevice device;
    Graph graph;
    Builder b(graph);
    const ValueId x = b.input(Type::f32, {512, 256}, "x"), y = b.input(Type::f32, {512, 512}, "y");
    b.output(b.concat({x, y}, 1), "z");
    const Schedule schedule = make_schedule(graph, device);
    EXPECT_EQ(schedule.steps.size(), 2U);
}

}  // namespace
}  // namespace ai_vmm::cuda::test
