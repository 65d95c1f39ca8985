// SPDX-License-Identifier: Apache-2.0
/// Counts against values worked out by hand.
#include "graph/costs.hpp"

#include <gtest/gtest.h>

#include <openvino/opsets/opset13.hpp>
#include <openvino/runtime/core.hpp>

#include "unit/graph/analyser_helpers.hpp"

namespace ai_vmm::graph {
namespace {

namespace op = ov::opset13;
using ov::element::f32;

const ov::Strides kOnes{1, 1};

ov::Output<ov::Node> convolve(const ov::Output<ov::Node>& x, const ov::Output<ov::Node>& kernel, std::ptrdiff_t pad, std::size_t stride = 1) {
    return std::make_shared<op::Convolution>(x, kernel, ov::Strides{stride, stride}, ov::CoordinateDiff{pad, pad}, ov::CoordinateDiff{pad, pad},
                                             kOnes);
}

TEST(Costs, Convolution) {
    const auto x = input("x", {1, 16, 32, 32});
    const ModelProfile profile = profile_of({convolve(x, weights({24, 16, 3, 3}), 1)}, {x});
    const NodeProfile node = node_of(profile, "Convolution");
    EXPECT_EQ(node.flops, 2LL * 24 * 32 * 32 * 16 * 3 * 3);
    EXPECT_EQ(node.bytes_read, 4LL * (16 * 32 * 32 + 24 * 16 * 9));
    EXPECT_EQ(node.bytes_written, 4LL * 24 * 32 * 32);
    EXPECT_EQ(node.parameters, 24 * 16 * 9);
    EXPECT_EQ(node.parameter_bytes, 4 * 24 * 16 * 9);
    EXPECT_EQ(node.precision, "f32");
    EXPECT_EQ(profile.flops, node.flops);
    EXPECT_EQ(profile.parameters, node.parameters);
    EXPECT_EQ(profile.activation_bytes, 4LL * (16 + 24) * 32 * 32);
    EXPECT_EQ(profile.precision, "f32");
    EXPECT_FALSE(profile.quantized);
    EXPECT_TRUE(profile.dynamic_dimensions.empty());
}

TEST(Costs, DepthwiseAndStridedConvolution) {
    const auto x = input("x", {1, 8, 16, 16});
    const auto depthwise = std::make_shared<op::GroupConvolution>(x, weights({8, 1, 1, 3, 3}), ov::Strides{2, 2}, ov::CoordinateDiff{1, 1},
                                                                  ov::CoordinateDiff{1, 1}, kOnes);
    EXPECT_EQ(node_of(profile_of({depthwise}, {x}), "GroupConvolution").flops, 2LL * 8 * 8 * 8 * 9);
}

TEST(Costs, TransposedConvolutionCountsEveryInputElementTimesItsKernel) {
    const auto x = input("x", {1, 8, 10, 10});
    const auto up = std::make_shared<op::ConvolutionBackpropData>(x, weights({8, 4, 2, 2}), ov::Strides{2, 2}, ov::CoordinateDiff{0, 0},
                                                                  ov::CoordinateDiff{0, 0}, kOnes);
    EXPECT_EQ(node_of(profile_of({up}, {x}), "ConvolutionBackpropData").flops, 2LL * 8 * 10 * 10 * 4 * 2 * 2);
}

TEST(Costs, MatrixProducts) {
    const auto a = input("a", {3, 5, 7});
    const auto plain = std::make_shared<op::MatMul>(a, weights({7, 11}));
    EXPECT_EQ(node_of(profile_of({plain}, {a}), "MatMul").flops, 2LL * 3 * 5 * 7 * 11);
    const auto at = input("a", {3, 7, 5});
    const auto transposed = std::make_shared<op::MatMul>(at, weights({11, 7}), true, true);
    EXPECT_EQ(node_of(profile_of({transposed}, {at}), "MatMul").flops, 2LL * 3 * 5 * 7 * 11);
    const auto v = input("v", {7});
    EXPECT_EQ(node_of(profile_of({std::make_shared<op::MatMul>(v, weights({7, 2}))}, {v}), "MatMul").flops, 2LL * 7 * 2);
    const auto x = input("x", {4, 6});
    const auto y = input("y", {6, 8});
    const auto einsum = std::make_shared<op::Einsum>(ov::OutputVector{x, y}, "ij,jk->ik");
    EXPECT_EQ(node_of(profile_of({einsum}, {x, y}), "Einsum").flops, 2LL * 4 * 6 * 8);
}

TEST(Costs, RecurrentLayers) {
    constexpr std::int64_t kBatch = 2, kSteps = 10, kWidth = 40, kHidden = 64;
    const auto x = input("x", {kBatch, kSteps, kWidth});
    const auto lengths = input("n", {kBatch}, ov::element::i64);
    const auto state = weights({kBatch, 2, kHidden});
    const auto lstm =
        std::make_shared<op::LSTMSequence>(x, state, state, lengths, weights({2, 4 * kHidden, kWidth}), weights({2, 4 * kHidden, kHidden}),
                                           weights({2, 4 * kHidden}), kHidden, ov::op::RecurrentSequenceDirection::BIDIRECTIONAL);
    EXPECT_EQ(node_of(profile_of({lstm->output(0)}, {x, lengths}), "LSTMSequence").flops,
              2 * kBatch * kSteps * (2 * 4 * kHidden * (kWidth + kHidden) + 13 * kHidden));

    const auto frame = input("x", {kBatch, kWidth});
    const auto gru = std::make_shared<op::GRUCell>(frame, weights({kBatch, kHidden}), weights({3 * kHidden, kWidth}), weights({3 * kHidden, kHidden}),
                                                   weights({3 * kHidden}), kHidden);
    const NodeProfile node = node_of(profile_of({gru}, {frame}), "GRUCell");
    EXPECT_EQ(node.flops, kBatch * (2 * 3 * kHidden * (kWidth + kHidden) + 11 * kHidden));
    EXPECT_EQ(node.parameters, kBatch * kHidden + 3 * kHidden * (kWidth + kHidden + 1));
    const auto rnn = std::make_shared<op::RNNCell>(frame, weights({kBatch, kHidden}), weights({kHidden, kWidth}), weights({kHidden, kHidden}),
                                                   weights({kHidden}), kHidden);
    EXPECT_EQ(node_of(profile_of({rnn}, {frame}), "RNNCell").flops, kBatch * (2 * kHidden * (kWidth + kHidden) + 2 * kHidden));
}

TEST(Costs, Attention) {
    const auto q = input("q", {2, 4, 16, 32});
    const auto k = input("k", {2, 4, 48, 32});
    const auto v = input("v", {2, 4, 48, 64});
    const auto attention = std::make_shared<op::ScaledDotProductAttention>(q, k, v, false);
    EXPECT_EQ(node_of(profile_of({attention}, {q, k, v}), "ScaledDotProductAttention").flops, 2LL * 4 * 16 * (2 * 48 * (32 + 64) + 5 * 48 + 32));
}

TEST(Costs, PointwiseReductionsPoolsAndMovement) {
    const auto x = input("x", {1, 4, 6, 6});
    const auto flops = [&](const ov::Output<ov::Node>& y) { return profile_of({y}, {x}).flops; };
    EXPECT_EQ(flops(std::make_shared<op::Relu>(x)), 144);
    EXPECT_EQ(flops(std::make_shared<op::Add>(x, weights({1, 4, 1, 1}))), 144);
    EXPECT_EQ(flops(std::make_shared<op::Softmax>(x, 1)), 5 * 144);
    EXPECT_EQ(flops(std::make_shared<op::ReduceMean>(x, integers({2, 3}), true)), 144);
    EXPECT_EQ(flops(std::make_shared<op::MaxPool>(x, ov::Strides{2, 2}, kOnes, ov::Shape{0, 0}, ov::Shape{0, 0}, ov::Shape{2, 2})), 4 * 3 * 3 * 4);
    EXPECT_EQ(flops(std::make_shared<op::Transpose>(x, integers({0, 2, 3, 1}))), 0);
    EXPECT_EQ(flops(std::make_shared<op::Reshape>(x, integers({1, -1}), false)), 0);
    EXPECT_EQ(flops(std::make_shared<op::FakeQuantize>(x, weights({}), weights({}), weights({}), weights({}), 256)), 7 * 144);
    // Broadcasting: every output element counts.
    const auto y = input("y", {8, 1});
    EXPECT_EQ(profile_of({std::make_shared<op::Multiply>(y, weights({1, 5}))}, {y}).flops, 40);
    // A transpose moves its tensor once in and once out; a reshape moves nothing.
    EXPECT_EQ(profile_of({std::make_shared<op::Transpose>(x, integers({0, 2, 3, 1}))}, {x}).bytes_moved, 2 * 144 * 4);
    EXPECT_EQ(profile_of({std::make_shared<op::Reshape>(x, integers({1, -1}), false)}, {x}).bytes_moved, 0);
}

TEST(Costs, LoopsCountTheirBodyOncePerTrip) {
    // Slices of one step of 10 go through x W.
    const auto x = input("x", {1, 10, 6});
    const auto slice = std::make_shared<op::Parameter>(f32, ov::PartialShape{1, 1, 6});
    const auto product = std::make_shared<op::MatMul>(slice, weights({6, 3}));
    const auto body = std::make_shared<ov::Model>(ov::OutputVector{product}, ov::ParameterVector{slice});
    const auto iterator = std::make_shared<op::TensorIterator>();
    iterator->set_function(body);
    iterator->set_sliced_input(slice, x, 0, 1, 1, -1, 1);
    const auto joined = iterator->get_concatenated_slices(body->output(0), 0, 1, 1, -1, 1);
    const ModelProfile profile = profile_of({joined}, {x});
    EXPECT_EQ(node_of(profile, "TensorIterator").flops, 10 * 2 * 6 * 3);
    EXPECT_EQ(node_of(profile, "TensorIterator").parameters, 18);
    EXPECT_EQ(profile.parameters, 18);
}

TEST(Costs, LoopWithAConstantLimit) {
    const auto x = input("x", {4, 4});
    const auto carried = std::make_shared<op::Parameter>(f32, ov::PartialShape{4, 4});
    const auto product = std::make_shared<op::MatMul>(carried, weights({4, 4}));
    const auto go_on = op::Constant::create(ov::element::boolean, {}, {true});
    const auto body = std::make_shared<ov::Model>(ov::OutputVector{go_on, product}, ov::ParameterVector{carried});
    const auto loop =
        std::make_shared<op::Loop>(op::Constant::create(ov::element::i64, {}, {7}), op::Constant::create(ov::element::boolean, {}, {true}));
    loop->set_function(body);
    loop->set_special_body_ports({-1, 0});
    loop->set_merged_input(carried, x, product);
    const auto last = loop->get_iter_value(product, -1);
    EXPECT_EQ(node_of(profile_of({last}, {x}), "Loop").flops, 7 * 2 * 4 * 4 * 4);
}

TEST(Costs, ABranchCountsItsCostlierSide) {
    const auto x = input("x", {4, 4});
    const auto condition = input("c", {}, ov::element::boolean);
    const auto make_body = [](bool product) {
        const auto p = std::make_shared<op::Parameter>(f32, ov::PartialShape{4, 4});
        const ov::Output<ov::Node> y =
            product ? std::make_shared<op::MatMul>(p, weights({4, 4}))->output(0) : std::make_shared<op::Relu>(p)->output(0);
        return std::pair(std::make_shared<ov::Model>(ov::OutputVector{y}, ov::ParameterVector{p}), p);
    };
    const auto [then_body, then_input] = make_body(false);
    const auto [else_body, else_input] = make_body(true);
    const auto branch = std::make_shared<op::If>(condition);
    branch->set_then_body(then_body);
    branch->set_else_body(else_body);
    branch->set_input(x, then_input, else_input);
    const auto y = branch->set_output(then_body->get_results()[0], else_body->get_results()[0]);
    EXPECT_EQ(node_of(profile_of({y}, {x, condition}), "If").flops, 2 * 4 * 4 * 4);
}

TEST(Weights, DequantisationBelongsToTheConsumer) {
    // u8 weights -> Convert -> minus zero point -> times scale -> product.
    const auto x = input("x", {1, 64});
    const auto low = weights({64, 32}, ov::element::u8);
    const auto converted = std::make_shared<op::Convert>(low, f32);
    const auto shifted = std::make_shared<op::Subtract>(converted, weights({1, 32}));
    const auto scaled = std::make_shared<op::Multiply>(shifted, weights({1, 32}));
    const ModelProfile profile = profile_of({std::make_shared<op::MatMul>(x, scaled)}, {x});
    const NodeProfile node = node_of(profile, "MatMul");
    EXPECT_EQ(node.parameters, 64 * 32);
    EXPECT_EQ(node.parameter_bytes, 64 * 32 + 2 * 32 * 4);
    EXPECT_EQ(node.bytes_read, 64 * 4 + node.parameter_bytes);
    EXPECT_EQ(node_of(profile, "Multiply").flops, 0);  // folded
    EXPECT_EQ(node_of(profile, "Convert").bytes_written, 0);
    EXPECT_EQ(profile.parameters, 64 * 32);
    EXPECT_EQ(profile.precision, "u8");
    EXPECT_TRUE(profile.quantized);
    ASSERT_EQ(profile.quantization.size(), 1u);
    EXPECT_EQ(profile.quantization[0], "int8 weights in 1 matrix product");
}

TEST(Weights, HalfPrecisionIsNotQuantisation) {
    const auto x = input("x", {1, 64});
    const auto converted = std::make_shared<op::Convert>(weights({64, 32}, ov::element::f16), f32);
    const ModelProfile profile = profile_of({std::make_shared<op::MatMul>(x, converted)}, {x});
    EXPECT_EQ(profile.precision, "f16");
    EXPECT_EQ(profile.parameter_bytes, 64 * 32 * 2);
    EXPECT_FALSE(profile.quantized);
}

TEST(Weights, FourBitsArePacked) {
    const auto x = input("x", {1, 64});
    const auto converted = std::make_shared<op::Convert>(weights({64, 32}, ov::element::u4), f32);
    const auto scaled = std::make_shared<op::Multiply>(converted, weights({1, 32}));
    const ModelProfile profile = profile_of({std::make_shared<op::MatMul>(x, scaled)}, {x});
    EXPECT_EQ(profile.parameter_bytes, 64 * 32 / 2 + 32 * 4);
    EXPECT_EQ(profile.quantization.at(0), "int4 weights in 1 matrix product");
}

TEST(Weights, SharedConstantsCountOnceInTheTotal) {
    const auto x = input("x", {1, 8});
    const auto shared = weights({8, 8});
    const auto first = std::make_shared<op::MatMul>(x, shared);
    const auto second = std::make_shared<op::MatMul>(first, shared);
    const ModelProfile profile = profile_of({second}, {x});
    EXPECT_EQ(profile.parameters, 64);
    for (const NodeProfile& node : profile.nodes) EXPECT_EQ(node.parameters, 64) << node.type;
}

TEST(Weights, ALookupReadsItsRowsOnly) {
    const auto ids = input("ids", {1, 3}, ov::element::i64);
    const auto lookup = std::make_shared<op::Gather>(weights({1000, 16}), ids, op::Constant::create(ov::element::i64, {}, {0}));
    const NodeProfile node = node_of(profile_of({lookup}, {ids}), "Gather");
    EXPECT_EQ(node.parameters, 16000);
    EXPECT_EQ(node.bytes_written, 3 * 16 * 4);
    EXPECT_EQ(node.bytes_read, 3 * 16 * 4 + 3 * 8);
}

TEST(Activations, PeakCountsWhatLivesAtOnce) {
    // x (100) -> a (100) -> b (100), then a + b: x dies after a, so at most a, b and their sum live.
    const auto x = input("x", {25});
    const auto a = std::make_shared<op::Relu>(x);
    const auto b = std::make_shared<op::Relu>(a);
    const auto sum = std::make_shared<op::Add>(a, b);
    EXPECT_EQ(profile_of({sum}, {x}).activation_bytes, 300);
    // A view takes nothing.
    const auto view = std::make_shared<op::Reshape>(x, integers({5, 5}), false);
    EXPECT_EQ(profile_of({std::make_shared<op::Relu>(view)}, {x}).activation_bytes, 200);
}

// ---- shapes to count at

TEST(AssumedShapes, BatchImagesTokensAndTheCallers) {
    const auto image = input("image", {-1, 3, -1, -1});
    const ModelProfile vision = profile_of({convolve(image, weights({8, 3, 3, 3}), 1)}, {image});
    EXPECT_EQ(vision.dynamic_dimensions, (std::vector<std::string>{"image[0]", "image[2]", "image[3]"}));
    ASSERT_EQ(vision.assumed_shapes.size(), 1u);
    EXPECT_EQ(vision.assumed_shapes[0], (std::pair<std::string, Shape>{"image", {1, 3, 224, 224}}));
    EXPECT_EQ(vision.flops, 2LL * 8 * 224 * 224 * 27);

    const ModelProfile given = profile_of({convolve(image, weights({8, 3, 3, 3}), 1)}, {image}, {{"image", {2, 3, 10, 10}}});
    EXPECT_EQ(given.flops, 2LL * 2 * 8 * 10 * 10 * 27);
    EXPECT_EQ(given.assumed_shapes[0].second, (Shape{2, 3, 10, 10}));

    const auto ids = input("ids", {-1, -1}, ov::element::i64);
    const auto lookup = std::make_shared<op::Gather>(weights({50, 16}), ids, op::Constant::create(ov::element::i64, {}, {0}));
    EXPECT_EQ(profile_of({lookup}, {ids}).assumed_shapes[0].second, (Shape{1, 128}));

    const auto wave = input("wave", {-1, -1});
    EXPECT_EQ(profile_of({std::make_shared<op::Relu>(wave)}, {wave}).assumed_shapes[0].second, (Shape{1, 16000}));

    const auto last = input("image", {-1, -1, -1, 3});
    EXPECT_EQ(profile_of({std::make_shared<op::Relu>(last)}, {last}).assumed_shapes[0].second, (Shape{1, 224, 224, 3}));

    const auto bounded = input("x", {ov::Dimension(4, 8), ov::Dimension(1, 64), 16});
    EXPECT_EQ(profile_of({std::make_shared<op::Relu>(bounded)}, {bounded}).assumed_shapes[0].second, (Shape{4, 64, 16}));
}

TEST(AssumedShapes, ALengthThatTheGraphHasBuiltInIsFound) {
    const auto x = input("x", {-1, -1, 4});
    const auto transposed = std::make_shared<op::Transpose>(x, integers({0, 2, 1}));
    const auto product = std::make_shared<op::MatMul>(transposed, weights({512, 96}));
    const ModelProfile profile = profile_of({product}, {x});
    EXPECT_EQ(profile.assumed_shapes.at(0).second, (Shape{1, 512, 4}));
    EXPECT_EQ(profile.flops, 2LL * 4 * 512 * 96);
}

TEST(AssumedShapes, ChannelsAreThoseOfTheFirstConvolution) {
    const auto shape_of = [](const ov::Output<ov::Node>& result, const std::shared_ptr<op::Parameter>& x) {
        return profile_of({result}, {x}).assumed_shapes.at(0).second;
    };
    const auto open = ov::PartialShape::dynamic(4);
    const auto scaled = [](const ov::Output<ov::Node>& x) {
        return std::make_shared<op::Divide>(std::make_shared<op::Subtract>(x, weights({1})), weights({1}));
    };
    const auto grey = input("grey", open);
    EXPECT_EQ(shape_of(convolve(scaled(grey), weights({8, 1, 3, 3}), 1), grey), (Shape{1, 1, 224, 224}));

    const auto last = input("last", open);
    const auto first = std::make_shared<op::Transpose>(scaled(last), integers({0, 3, 1, 2}));
    EXPECT_EQ(shape_of(convolve(first, weights({8, 5, 3, 3}), 1), last), (Shape{1, 224, 224, 5}));

    const auto grouped = input("grouped", open);
    const auto by_group =
        std::make_shared<op::GroupConvolution>(grouped, weights({4, 2, 3, 3, 3}), kOnes, ov::CoordinateDiff{0, 0}, ov::CoordinateDiff{0, 0}, kOnes);
    EXPECT_EQ(shape_of(by_group, grouped), (Shape{1, 12, 224, 224}));

    for (const auto& [channels, length] : {std::pair{80, 128}, {1, 16000}}) {
        const auto sound = input("sound", ov::PartialShape::dynamic(3));
        const auto filters = weights({8, static_cast<std::size_t>(channels), 3});
        const auto filtered =
            std::make_shared<op::Convolution>(sound, filters, ov::Strides{1}, ov::CoordinateDiff{1}, ov::CoordinateDiff{1}, ov::Strides{1});
        EXPECT_EQ(shape_of(filtered, sound), (Shape{1, channels, length}));
    }

    // A side that the graph has built in.
    const auto sized = input("sized", open);
    const auto placed = std::make_shared<op::Add>(convolve(sized, weights({2, 3, 3, 3}), 1), weights({1, 2, 32, 32}));
    EXPECT_EQ(shape_of(placed, sized), (Shape{1, 3, 32, 32}));
}

TEST(AssumedShapes, WhatCanNotBeShapedIsCountedAtItsLeastWithANote) {
    const auto x = input("x", {-1, -1, 4});
    const auto transposed = std::make_shared<op::Transpose>(x, integers({0, 2, 1}));
    const auto product = std::make_shared<op::MatMul>(transposed, weights({777, 10}));
    const ModelProfile profile = profile_of({product}, {x});
    EXPECT_TRUE(profile.assumed_shapes.empty());
    ASSERT_FALSE(profile.notes.empty());
    EXPECT_NE(profile.notes[0].find("could not be given static shapes"), std::string::npos) << profile.notes[0];
    EXPECT_GT(profile.flops, 0);

    const auto unknown = input("u", ov::PartialShape::dynamic());
    const ModelProfile odd = profile_of({std::make_shared<op::Relu>(unknown)}, {unknown});
    EXPECT_EQ(odd.dynamic_dimensions, (std::vector<std::string>{"u[...]"}));
    EXPECT_FALSE(odd.notes.empty());
}

TEST(AssumedShapes, OddModelsGiveNotesAndNeverThrow) {
    // No input at all; a value-dependent shape; an empty tensor; a huge one.
    EXPECT_NO_THROW(static_cast<void>(profile_of({std::make_shared<op::Relu>(weights({3}))}, {})));
    const auto x = input("x", {4, 4});
    const ModelProfile values = profile_of({std::make_shared<op::NonZero>(x)}, {x});
    EXPECT_FALSE(values.notes.empty());
    const auto empty = input("e", {0, 4});
    EXPECT_EQ(profile_of({std::make_shared<op::MatMul>(empty, weights({4, 4}))}, {empty}).flops, 0);
    const auto huge = input("h", {1LL << 31, 1LL << 31});
    const ModelProfile large = profile_of({std::make_shared<op::Relu>(std::make_shared<op::Relu>(huge))}, {huge});
    EXPECT_EQ(large.flops, INT64_MAX);
    EXPECT_EQ(large.bytes_moved, INT64_MAX);
}

TEST(AssumedShapes, StatesCountAsTheyAreAtTheStart) {
    const auto x = input("x", {-1, 4, -1, 8});
    const auto variable = std::make_shared<ov::op::util::Variable>(ov::op::util::VariableInfo{ov::PartialShape{-1, 4, -1, 8}, f32, "past"});
    const auto past = std::make_shared<op::ReadValue>(variable);
    const auto joined = std::make_shared<op::Concat>(ov::OutputVector{past, x}, 2);
    const auto assign = std::make_shared<op::Assign>(joined, variable);
    const auto result = std::make_shared<op::Result>(std::make_shared<op::Relu>(joined));
    const auto graph = std::make_shared<ov::Model>(ov::ResultVector{result}, ov::SinkVector{assign}, ov::ParameterVector{x});
    const std::size_t before = graph->get_ordered_ops().size();
    const ModelProfile profile = profile_of(graph, {{"x", {1, 4, 5, 8}}});
    EXPECT_TRUE(profile.stateful);
    EXPECT_EQ(node_of(profile, "Relu").flops, 4 * 5 * 8);
    EXPECT_EQ(graph->get_ordered_ops().size(), before);  // the caller's model is as it was
    EXPECT_EQ(graph->get_sinks().size(), 1u);
    EXPECT_TRUE(graph->input(0).get_partial_shape().is_dynamic());
}

// ---- real networks, against published or hand-counted totals

std::int64_t multiply_adds(const ModelProfile& profile) {
    std::int64_t flops = 0;
    for (const NodeProfile& node : profile.nodes) {
        if (node.type == "Convolution" || node.type == "GroupConvolution" || node.type == "MatMul") flops += node.flops;
    }
    return flops / 2;
}

ModelProfile real_profile(const std::string& name) {
    ov::Core core;
    return profile_of(core.read_model((real_models() / name).string()));
}

TEST(RealTotals, ResNet8AndMobileNetV2) {
    if (real_models().empty()) GTEST_SKIP() << "no real models at " << AI_VMM_TEST_MODELS;
    // ResNet-8 (MLPerf Tiny), layer by layer: 442368 + 2 x 2359296 + (1179648 + 2359296 + 131072) twice + 640.
    EXPECT_EQ(multiply_adds(real_profile("vision/mlperf_resnet8.tflite")), 12'501'632);
    EXPECT_EQ(multiply_adds(real_profile("vision/mlperf_resnet8_int8.tflite")), 12'501'632);
    EXPECT_EQ(real_profile("vision/mlperf_resnet8.tflite").parameters, 77'706);
    // MobileNetV2 at 224: 300 million multiply-adds, 3.4 million parameters (Sandler et al. 2018, table 4).
    const ModelProfile mobilenet = real_profile("vision/mobilenet_v2_int8.tflite");
    EXPECT_EQ(multiply_adds(mobilenet), 300'774'272);
    EXPECT_NEAR(static_cast<double>(mobilenet.parameters), 3.49e6, 0.02e6);
    EXPECT_EQ(mobilenet.precision, "i8");
    EXPECT_TRUE(mobilenet.quantized);
    // 10 dense layers: 640-128-128-128-128-8-128-128-128-128-640.
    EXPECT_EQ(multiply_adds(real_profile("science/mlperf_ad01_fp32.tflite")), 2 * (640 * 128 + 3 * 128 * 128 + 128 * 8));
}

}  // namespace
}  // namespace ai_vmm::graph
