// SPDX-License-Identifier: Apache-2.0
/// Models cut in every way must compute what they compute whole. OpenVINO's CPU device runs both.
#include "graph/cutter.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <openvino/openvino.hpp>
#include <openvino/opsets/opset13.hpp>
#include <random>
#include <set>

#include "unit/graph/support.hpp"

namespace ai_vmm::graph {
namespace {

namespace op = ov::opset13;
using ov::element::f32;
using ov::element::i64;

std::shared_ptr<op::Constant> values(const ov::Shape& shape, unsigned seed = 1) {
    std::mt19937 engine(seed);
    std::vector<float> data(ov::shape_size(shape));
    for (float& value : data) value = static_cast<float>(engine() % 2001) / 1000.0F - 1;
    return op::Constant::create(f32, shape, data);
}
std::shared_ptr<op::Constant> integers(const std::vector<std::int64_t>& list) { return op::Constant::create(i64, {list.size()}, list); }

backend::Model described(const std::shared_ptr<ov::Model>& graph) {
    backend::Model model;
    model.graph = graph;
    model.name = "model";
    model.content_hash = "hash";
    const auto describe = [](const auto& ports, std::vector<TensorInfo>& infos, std::vector<int>& at) {
        for (const auto& port : ports) {
            TensorInfo info{.name = "port" + std::to_string(at.size()), .type = port.get_element_type() == i64 ? ElementType::i64 : ElementType::f32};
            for (const auto& dimension : port.get_partial_shape()) info.shape.push_back(dimension.is_static() ? dimension.get_length() : -1);
            infos.push_back(info);
            at.push_back(static_cast<int>(at.size()));
        }
    };
    describe(graph->inputs(), model.inputs, model.graph_inputs);
    describe(graph->outputs(), model.outputs, model.graph_outputs);
    return model;
}

std::vector<ov::Tensor> run(const std::shared_ptr<const ov::Model>& graph, const std::vector<ov::Tensor>& inputs) {
    static ov::Core core;
    auto request = core.compile_model(graph, "CPU", ov::hint::inference_precision(f32)).create_infer_request();
    for (std::size_t i = 0; i < inputs.size(); ++i) request.set_input_tensor(i, inputs[i]);
    request.infer();
    std::vector<ov::Tensor> outputs;
    for (std::size_t i = 0; i < graph->outputs().size(); ++i) {
        const ov::Tensor output = request.get_output_tensor(i);
        outputs.emplace_back(output.get_element_type(), output.get_shape());
        output.copy_to(outputs.back());
    }
    return outputs;
}

std::vector<ov::Tensor> run(const Cut& cut, const std::vector<ov::Tensor>& inputs) {
    std::vector<ov::Tensor> all(static_cast<std::size_t>(cut.values));
    for (std::size_t k = 0; k < inputs.size(); ++k) {
        if (cut.inputs[k] >= 0) all[static_cast<std::size_t>(cut.inputs[k])] = inputs[k];
    }
    for (const CutStage& stage : cut.stages) {
        std::vector<ov::Tensor> given;
        for (int value : stage.inputs) {
            EXPECT_TRUE(all[static_cast<std::size_t>(value)]) << "read before it was computed";
            given.push_back(all[static_cast<std::size_t>(value)]);
        }
        const auto results = run(stage.model.graph, given);
        for (std::size_t k = 0; k < results.size(); ++k) all[static_cast<std::size_t>(stage.outputs[k])] = results[k];
    }
    std::vector<ov::Tensor> outputs;
    for (int value : cut.outputs) outputs.push_back(all[static_cast<std::size_t>(value)]);
    return outputs;
}

void expect_equal(const std::vector<ov::Tensor>& actual, const std::vector<ov::Tensor>& expected) {
    ASSERT_EQ(actual.size(), expected.size());
    for (std::size_t k = 0; k < actual.size(); ++k) {
        ASSERT_EQ(actual[k].get_shape(), expected[k].get_shape());
        ASSERT_EQ(actual[k].get_element_type(), expected[k].get_element_type());
        if (actual[k].get_element_type() == f32) {
            for (std::size_t i = 0; i < actual[k].get_size(); ++i)
                ASSERT_NEAR(actual[k].data<const float>()[i], expected[k].data<const float>()[i],
                            1e-5F * (1 + std::abs(expected[k].data<const float>()[i])));
        } else {
            ASSERT_EQ(std::memcmp(actual[k].data(), expected[k].data(), actual[k].get_byte_size()), 0);
        }
    }
}

/// Cuts `graph` in two at every place, and into as many stages as there are groups.
void expect_cuts_agree(const std::shared_ptr<ov::Model>& graph, const std::vector<ov::Tensor>& inputs) {
    const Cutter cutter(described(graph));
    const std::size_t count = cutter.groups().size();
    ASSERT_GE(count, 2U);
    const auto expected = run(graph, inputs);
    std::vector<int> placement(count, 1);
    for (std::size_t first = 1; first < count; ++first) {
        placement[first - 1] = 0;
        SCOPED_TRACE("cut before group " + std::to_string(first) + ", " + cutter.groups()[first].nodes.front());
        expect_equal(run(cutter.cut(placement), inputs), expected);
    }
    for (std::size_t g = 0; g < count; ++g) placement[g] = static_cast<int>(g);
    expect_equal(run(cutter.cut(placement), inputs), expected);
}

std::shared_ptr<ov::Model> residual_net() {
    const auto x = std::make_shared<op::Parameter>(f32, ov::PartialShape{-1, 3, 8, 8});
    // Weights behind operations on constants, as importers leave them.
    const auto weights = std::make_shared<op::Reshape>(values({4, 27}), integers({4, 3, 3, 3}), false);
    const ov::Strides one{1, 1};
    const ov::CoordinateDiff pad{1, 1};
    const auto a = std::make_shared<op::Convolution>(x, weights, one, pad, pad, one);
    const auto b = std::make_shared<op::Relu>(a);
    const auto c = std::make_shared<op::Convolution>(b, values({4, 4, 3, 3}, 2), one, pad, pad, one);
    const auto d = std::make_shared<op::Add>(c, b);
    const auto pooled = std::make_shared<op::ReduceMean>(d, integers({2, 3}), false);
    const auto logits = std::make_shared<op::MatMul>(pooled, values({4, 5}, 3));
    const auto best = std::make_shared<op::TopK>(logits, op::Constant::create(i64, {}, {2}), 1, "max", "value", i64);
    return std::make_shared<ov::Model>(ov::OutputVector{std::make_shared<op::Softmax>(logits, 1), best->output(0), best->output(1), b},
                                       ov::ParameterVector{x}, "residual");
}

ov::Tensor input(const ov::Shape& shape) {
    const auto constant = values(shape, 7);
    ov::Tensor tensor(f32, shape);
    std::memcpy(tensor.data(), constant->get_data_ptr(), tensor.get_byte_size());
    return tensor;
}

TEST(Cutter, AResidualNetworkOfSeveralOutputsCutsAnywhere) { expect_cuts_agree(residual_net(), {input({2, 3, 8, 8})}); }

TEST(Cutter, WeightsGoWithWhatReadsThem) {
    const Cutter cutter(described(residual_net()), {{1, 3, 8, 8}});
    for (const CutGroup& group : cutter.groups()) EXPECT_EQ(group.nodes.size(), 1U);
    EXPECT_EQ(cutter.groups().size(), 8U);
    EXPECT_EQ(cutter.groups().front().copied.size(), 3U) << "the weights, their shape and the Reshape";
    for (const CutTensor& tensor : cutter.tensors()) {
        EXPECT_FALSE(tensor.open_shape);
        EXPECT_GT(tensor.bytes, 0);
    }
    std::vector<int> placement(8, 1);
    placement[0] = 0;
    const Cut cut = cutter.cut(placement);
    EXPECT_EQ(cut.stages[0].model.inputs.size(), 1U);
    EXPECT_EQ(cut.stages[1].model.inputs.size(), 1U) << "no weights cross";
    EXPECT_EQ(cut.stages[0].model.inputs.front().name, "port0");
    EXPECT_NE(cut.stages[0].model.content_hash, cut.stages[1].model.content_hash);
}

TEST(Cutter, GroupsAreTheSameEveryTime) {
    const auto graph = residual_net();
    const Cutter a(described(graph)), b(described(graph->clone()));
    ASSERT_EQ(a.groups().size(), b.groups().size());
    for (std::size_t g = 0; g < a.groups().size(); ++g) EXPECT_EQ(a.groups()[g].nodes, b.groups()[g].nodes);
}

TEST(Cutter, ConstantsAndInputsMayBeOutputs) {
    const auto x = std::make_shared<op::Parameter>(f32, ov::Shape{2, 3});
    const auto unread = std::make_shared<op::Parameter>(f32, ov::Shape{1});
    const auto table = values({2, 3});
    const auto sum = std::make_shared<op::Add>(x, table);
    const auto graph = std::make_shared<ov::Model>(ov::OutputVector{x, table, std::make_shared<op::Relu>(sum), std::make_shared<op::Relu>(sum)},
                                                   ov::ParameterVector{x, unread});
    expect_cuts_agree(graph, {input({2, 3}), input({1})});
}

TEST(Cutter, AVariableStaysInOneStage) {
    const auto x = std::make_shared<op::Parameter>(f32, ov::Shape{1, 3});
    const auto variable = std::make_shared<ov::op::util::Variable>(ov::op::util::VariableInfo{ov::PartialShape{1, 3}, ov::element::f32, "state"});
    const auto before = std::make_shared<op::Tanh>(x);
    const auto read = std::make_shared<op::ReadValue>(values({1, 3}), variable);
    const auto next = std::make_shared<op::Sigmoid>(std::make_shared<op::Add>(read, before));
    const auto assign = std::make_shared<op::Assign>(next, variable);
    const auto after = std::make_shared<op::Relu>(next);
    const auto graph = std::make_shared<ov::Model>(ov::ResultVector{std::make_shared<op::Result>(after)}, ov::SinkVector{assign},
                                                   ov::ParameterVector{x}, "stateful");
    const Cutter cutter(described(graph));
    const auto holds = [](const CutGroup& group, const std::shared_ptr<ov::Node>& node) {
        return std::ranges::find(group.nodes, node->get_friendly_name()) != group.nodes.end();
    };
    const auto group = std::ranges::find_if(cutter.groups(), [&](const CutGroup& one) { return holds(one, read); });
    ASSERT_NE(group, cutter.groups().end());
    EXPECT_TRUE(holds(*group, assign));
    EXPECT_TRUE(holds(*group, next));
    EXPECT_FALSE(holds(*group, before));
    expect_cuts_agree(graph, {input({1, 3})});
    EXPECT_EQ(graph->get_variables().size(), 1U);
}

TEST(Cutter, BodiesOfLoopsStayWhole) {
    const auto x = std::make_shared<op::Parameter>(f32, ov::Shape{1, 4});
    const auto scale = std::make_shared<op::Parameter>(f32, ov::Shape{1, 4});
    const auto state = std::make_shared<op::Parameter>(f32, ov::Shape{1, 4});
    const auto factor = std::make_shared<op::Parameter>(f32, ov::Shape{1, 4});
    const auto next = std::make_shared<op::Multiply>(state, factor);
    const auto again = op::Constant::create(ov::element::boolean, {}, {true});
    const auto body = std::make_shared<ov::Model>(ov::OutputVector{again, next}, ov::ParameterVector{state, factor});
    const auto loop = std::make_shared<op::Loop>(op::Constant::create(i64, {}, {3}), again);
    loop->set_function(body);
    loop->set_special_body_ports({-1, 0});
    loop->set_merged_input(state, std::make_shared<op::Abs>(x), next);
    loop->set_invariant_input(factor, std::make_shared<op::Exp>(scale));
    const auto result = loop->get_iter_value(next, -1);
    const auto graph = std::make_shared<ov::Model>(ov::OutputVector{std::make_shared<op::Relu>(result)}, ov::ParameterVector{x, scale});
    expect_cuts_agree(graph, {input({1, 4}), input({1, 4})});
}

TEST(Cutter, KnowsShapesThatValuesDecide) {
    const auto x = std::make_shared<op::Parameter>(f32, ov::PartialShape{-1, 3});
    const auto found = std::make_shared<op::NonZero>(std::make_shared<op::Relu>(x), i64);
    const auto rows = std::make_shared<op::Transpose>(found, integers({1, 0}));
    const auto graph = std::make_shared<ov::Model>(ov::OutputVector{std::make_shared<op::GatherND>(x, rows)}, ov::ParameterVector{x});
    const Cutter cutter(described(graph), {{2, 3}});
    ASSERT_EQ(cutter.groups().size(), 4U);
    EXPECT_FALSE(cutter.groups()[0].open_shape);
    for (std::size_t g = 1; g < 4; ++g) EXPECT_TRUE(cutter.groups()[g].open_shape) << cutter.groups()[g].nodes.front();
    expect_cuts_agree(graph, {input({2, 3})});
}

TEST(Cutter, RefusesPlacementsThatCantRun) {
    const Cutter cutter(described(residual_net()));
    std::vector<int> backwards(cutter.groups().size(), 0);
    backwards.front() = 1;
    EXPECT_THROW((void)cutter.cut(backwards), Error);
    EXPECT_THROW((void)cutter.cut({0, 1}), Error);
    std::vector<int> gap(cutter.groups().size(), 2);
    gap.front() = 0;
    EXPECT_THROW((void)cutter.cut(gap), Error);
    backend::Model model = described(residual_net());
    model.inputs.front().optional = true;
    EXPECT_THROW(Cutter{model}, Error);
}

TEST(Cutter, ShapesOfAStage) {
    const backend::Model model = described(residual_net());
    EXPECT_EQ(output_shapes(model, {{5, 3, 8, 8}}), (std::vector<Shape>{{5, 5}, {5, 2}, {5, 2}, {5, 4, 8, 8}}));
    EXPECT_TRUE(output_shapes(model, {{5, 3}}).empty());
}

}  // namespace
}  // namespace ai_vmm::graph
