// SPDX-License-Identifier: Apache-2.0
/// What the backend says of a model's nodes one by one.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <string>

#include "lower/lower.hpp"
#include "openvino/op/ops.hpp"

namespace ai_vmm::cuda {
namespace {

using ov::element::f32;
using ov::element::i64;

std::map<std::string, std::string> refused(const ov::OutputVector& results, const ov::ParameterVector& parameters, const std::vector<Dims>& shapes) {
    const ov::Model model(results, parameters);
    std::map<std::string, std::string> all;
    for (auto& [node, why] : refused_nodes(model, shapes)) all[node] = why;
    return all;
}

template <typename Op>
std::shared_ptr<Op> named(std::shared_ptr<Op> node, const char* name) {
    node->set_friendly_name(name);
    return node;
}

TEST(RefusedNodes, OperationsWithoutALowering) {
    const auto x = std::make_shared<ov::op::v0::Parameter>(f32, ov::PartialShape{-1, 3});
    const auto relu = named(std::make_shared<ov::op::v0::Relu>(x), "relu");
    const auto found = named(std::make_shared<ov::op::v3::NonZero>(relu, i64), "found");
    const auto after = named(std::make_shared<ov::op::v0::Abs>(found), "after");
    const auto list = refused({relu, after}, {x}, {{2, 3}});
    ASSERT_EQ(list.size(), 1U) << "an operation at an open shape is decided by its type";
    EXPECT_EQ(list.at("found"), "no lowering for NonZero");
}

TEST(RefusedNodes, AttributesAndInputsThatMustBeKnown) {
    const auto x = std::make_shared<ov::op::v0::Parameter>(f32, ov::Shape{1, 4});
    const auto y = std::make_shared<ov::op::v0::Parameter>(f32, ov::Shape{4});
    const auto sum = named(std::make_shared<ov::op::v1::Add>(x, y), "sum");
    const auto sign = std::make_shared<ov::op::v1::Greater>(x, y);
    const auto old = named(std::make_shared<ov::op::v1::Select>(sign, x, y, ov::op::AutoBroadcastSpec(ov::op::AutoBroadcastType::PDPD, -1)), "old");
    const auto list = refused({sum, old}, {x, y}, {{1, 4}, {4}});
    ASSERT_EQ(list.size(), 1U);
    EXPECT_NE(list.at("old").find("PDPD"), std::string::npos) << list.at("old");
}

TEST(RefusedNodes, LoopsByTheirBodies) {
    const auto make = [](bool lowered) {
        const auto x = std::make_shared<ov::op::v0::Parameter>(f32, ov::Shape{1, 4});
        const auto state = std::make_shared<ov::op::v0::Parameter>(f32, ov::Shape{1, 4});
        std::shared_ptr<ov::Node> next = std::make_shared<ov::op::v0::Exp>(state);
        if (!lowered) {
            const auto found = std::make_shared<ov::op::v3::NonZero>(state, i64);
            const auto many = std::make_shared<ov::op::v1::ReduceMax>(found, ov::op::v0::Constant::create(i64, {2}, {0, 1}), false);
            next = std::make_shared<ov::op::v1::Add>(next, std::make_shared<ov::op::v0::Convert>(many, f32));
        }
        const auto go_on = ov::op::v0::Constant::create(ov::element::boolean, {}, {true});
        const auto loop = std::make_shared<ov::op::v5::Loop>(ov::op::v0::Constant::create(i64, {}, {2}), go_on);
        loop->set_function(std::make_shared<ov::Model>(ov::OutputVector{go_on, next}, ov::ParameterVector{state}));
        loop->set_special_body_ports({-1, 0});
        loop->set_merged_input(state, x, next);
        const auto result = loop->get_iter_value(next, -1);
        loop->set_friendly_name("loop");
        return refused({result}, {x}, {{1, 4}});
    };
    EXPECT_TRUE(make(true).empty());
    const auto list = make(false);
    ASSERT_EQ(list.count("loop"), 1U);
    EXPECT_NE(list.at("loop").find("NonZero"), std::string::npos) << list.at("loop");
}

TEST(RefusedNodes, ElementTypesThatNoDeviceHas) {
    const auto text = std::make_shared<ov::op::v0::Parameter>(ov::element::string, ov::Shape{3});
    const auto x = std::make_shared<ov::op::v0::Parameter>(f32, ov::Shape{3});
    const auto words = named(
        std::make_shared<ov::op::v8::Gather>(text, ov::op::v0::Constant::create(i64, {1}, {1}), ov::op::v0::Constant::create(i64, {}, {0})), "words");
    const auto list = refused({words, std::make_shared<ov::op::v0::Relu>(x)}, {text, x}, {{3}, {3}});
    ASSERT_EQ(list.size(), 1U);
    EXPECT_NE(list.at("words").find("string"), std::string::npos) << list.at("words");
}

}  // namespace
}  // namespace ai_vmm::cuda
