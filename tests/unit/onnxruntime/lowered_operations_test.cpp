// SPDX-License-Identifier: Apache-2.0
// One operation at a time: lowered to ONNX against OpenVINO in f32, on random inputs.
#include <functional>

#include "lowering/lowering.hpp"
#include "lowering_support.hpp"
#include "openvino/opsets/opset1.hpp"
#include "openvino/opsets/opset15.hpp"
#include "openvino/opsets/opset5.hpp"

namespace ai_vmm::ort::test {
namespace {

namespace ops = ov::opset15;
using Node = std::shared_ptr<ov::Node>;
using ov::element::Type;

Node parameter(const ov::PartialShape& shape, Type type = ov::element::f32) { return std::make_shared<ops::Parameter>(type, shape); }

template <typename T>
Node constant(Type type, const ov::Shape& shape, const std::vector<T>& values) {
    return ops::Constant::create(type, shape, values);
}
Node ints(const std::vector<std::int64_t>& values) { return constant(ov::element::i64, {values.size()}, values); }
Node scalar(std::int64_t value) { return constant<std::int64_t>(ov::element::i64, {}, {value}); }
Node real(float value) { return constant<float>(ov::element::f32, {}, {value}); }
Node weights(const ov::Shape& shape, unsigned seed = 7) {
    std::mt19937 generator(seed);
    std::uniform_real_distribution<float> values(-1, 1);
    std::vector<float> numbers(ov::shape_size(shape));
    for (float& number : numbers) number = values(generator);
    return constant(ov::element::f32, shape, numbers);
}

template <typename Op, typename... Args>
Node make(Args&&... args) {
    return std::make_shared<Op>(std::forward<Args>(args)...);
}

struct Case {
    std::string name;
    std::function<Node()> build;  ///< the operation; its Parameters are found by walking
    std::vector<Shape> shapes;    ///< for dynamic parameters, in the order of the model's; empty: as declared
    double tolerance = 1e-4;
    std::function<void(std::vector<Tensor>&)> adjust;  ///< changes the inputs
};

std::shared_ptr<ov::Model> model_of(const Node& node) {
    ov::ParameterVector parameters;
    std::vector<ov::Node*> seen;
    std::function<void(const Node&)> walk = [&](const Node& at) {
        if (std::ranges::find(seen, at.get()) != seen.end()) return;
        seen.push_back(at.get());
        if (auto found = ov::as_type_ptr<ops::Parameter>(at)) parameters.push_back(found);
        for (const auto& input : at->input_values()) walk(input.get_node_shared_ptr());
    };
    walk(node);
    return std::make_shared<ov::Model>(node->outputs(), parameters);
}

template <typename Op>
Case unary(const char* name, Type type = ov::element::f32, std::function<void(std::vector<Tensor>&)> adjust = {}) {
    return {name, [type] { return make<Op>(parameter({2, 3, 4}, type)); }, {}, 1e-4, std::move(adjust)};
}
template <typename Op>
Case binary(const char* name, Type type = ov::element::f32, const ov::PartialShape& second = {3, 1}) {
    return {name, [type, second] { return make<Op>(parameter({2, 3, 4}, type), parameter(second, type)); }, {}, 1e-4, {}};
}
template <typename Op>
Case reduce(const char* name, std::vector<std::int64_t> axes, bool keep, Type type = ov::element::f32) {
    return {name, [=] { return make<Op>(parameter({2, 3, 4}, type), ints(axes), keep); }, {}, 1e-4, {}};
}

void positive(std::vector<Tensor>& inputs) {
    for (Tensor& input : inputs) {
        for (float& value : input.as<float>()) value = std::abs(value) + 1.1F;
    }
}
void wide(std::vector<Tensor>& inputs) {
    for (Tensor& input : inputs) {
        for (float& value : input.as<float>()) value *= 5;
    }
}
// Divisors must not be zero.
template <typename T>
void nonzero(std::vector<Tensor>& inputs) {
    for (std::size_t i = 0; i < inputs[1].element_count(); ++i) {
        inputs[0].as<T>()[i] = static_cast<T>(inputs[0].as<T>()[i] - 50);
        inputs[1].as<T>()[i] = static_cast<T>((i % 2 == 0 ? 1 : -1) * static_cast<int>(3 + i));
    }
}

std::vector<Case> elementwise() {
    std::vector<Case> cases{unary<ops::Abs>("Abs"),
                            unary<ops::Abs>("AbsI32", ov::element::i32),
                            unary<ops::Acos>("Acos"),
                            unary<ops::Acosh>("Acosh", ov::element::f32, positive),
                            unary<ops::Asin>("Asin"),
                            unary<ops::Asinh>("Asinh"),
                            unary<ops::Atan>("Atan"),
                            unary<ops::Atanh>("Atanh"),
                            unary<ops::Ceiling>("Ceiling", ov::element::f32, wide),
                            unary<ops::Cos>("Cos"),
                            unary<ops::Cosh>("Cosh"),
                            unary<ops::Erf>("Erf"),
                            unary<ops::Exp>("Exp"),
                            unary<ops::Floor>("Floor", ov::element::f32, wide),
                            unary<ops::HSigmoid>("HSigmoid", ov::element::f32, wide),
                            unary<ops::HSwish>("HSwish", ov::element::f32, wide),
                            unary<ops::Log>("Log", ov::element::f32, positive),
                            unary<ops::Mish>("Mish", ov::element::f32, wide),
                            unary<ops::Negative>("Negative"),
                            unary<ops::Negative>("NegativeI64", ov::element::i64),
                            unary<ops::Relu>("Relu"),
                            unary<ops::Sigmoid>("Sigmoid"),
                            unary<ops::Sign>("Sign"),
                            unary<ops::Sin>("Sin"),
                            unary<ops::Sinh>("Sinh"),
                            unary<ops::SoftPlus>("SoftPlus", ov::element::f32, wide),
                            unary<ops::SoftSign>("SoftSign"),
                            unary<ops::Sqrt>("Sqrt", ov::element::f32, positive),
                            unary<ops::Tan>("Tan"),
                            unary<ops::Tanh>("Tanh"),
                            unary<ops::LogicalNot>("LogicalNot", ov::element::boolean),
                            unary<ops::IsNaN>("IsNaN"),
                            unary<ops::IsFinite>("IsFinite"),
                            unary<ops::Swish>("Swish"),
                            unary<ops::BitwiseNot>("BitwiseNot", ov::element::i32),
                            binary<ops::Add>("Add"),
                            binary<ops::Add>("AddI32", ov::element::i32),
                            binary<ops::Add>("AddI64", ov::element::i64),
                            binary<ops::Subtract>("Subtract"),
                            binary<ops::Multiply>("Multiply"),
                            binary<ops::Divide>("Divide"),
                            binary<ops::Maximum>("Maximum"),
                            binary<ops::Minimum>("MinimumI32", ov::element::i32),
                            binary<ops::SquaredDifference>("SquaredDifference"),
                            binary<ops::Equal>("EqualI32", ov::element::i32),
                            binary<ops::Equal>("EqualBoolean", ov::element::boolean),
                            binary<ops::NotEqual>("NotEqual", ov::element::i64),
                            binary<ops::Greater>("Greater"),
                            binary<ops::GreaterEqual>("GreaterEqual", ov::element::i32),
                            binary<ops::Less>("Less"),
                            binary<ops::LessEqual>("LessEqual"),
                            binary<ops::LogicalAnd>("LogicalAnd", ov::element::boolean),
                            binary<ops::LogicalOr>("LogicalOr", ov::element::boolean),
                            binary<ops::LogicalXor>("LogicalXor", ov::element::boolean),
                            binary<ops::BitwiseAnd>("BitwiseAnd", ov::element::i32),
                            binary<ops::BitwiseOr>("BitwiseOr", ov::element::u8),
                            binary<ops::BitwiseXor>("BitwiseXor", ov::element::i32)};
    const auto add = [&](std::string name, std::function<Node()> build, std::function<void(std::vector<Tensor>&)> adjust = {}) {
        cases.push_back({std::move(name), std::move(build), {}, 1e-4, std::move(adjust)});
    };
    add(
        "Power",
        [] {
            return make<ops::Power>(parameter({2, 3}), real(2.5F));
        },
        positive);
    add(
        "FloorModI32", [] { return make<ops::FloorMod>(parameter({6}, ov::element::i32), parameter({6}, ov::element::i32)); }, nonzero<std::int32_t>);
    add(
        "FloorModF32", [] { return make<ops::FloorMod>(parameter({6}), parameter({6})); }, nonzero<float>);
    add(
        "ModI32", [] { return make<ops::Mod>(parameter({6}, ov::element::i32), parameter({6}, ov::element::i32)); }, nonzero<std::int32_t>);
    add(
        "ModF32", [] { return make<ops::Mod>(parameter({6}), parameter({6})); }, nonzero<float>);
    add(
        "GeluErf",
        [] {
            return make<ops::Gelu>(parameter({2, 9}), ov::op::GeluApproximationMode::ERF);
        },
        wide);
    add(
        "GeluTanh",
        [] {
            return make<ops::Gelu>(parameter({2, 9}), ov::op::GeluApproximationMode::TANH);
        },
        wide);
    add("SwishBeta", [] { return make<ops::Swish>(parameter({2, 9}), real(1.7F)); });
    add(
        "Elu",
        [] {
            return make<ops::Elu>(parameter({2, 9}), 0.7);
        },
        wide);
    add(
        "Selu",
        [] {
            return make<ops::Selu>(parameter({2, 9}), real(1.6F), real(1.1F));
        },
        wide);
    add(
        "HardSigmoid",
        [] {
            return make<ops::HardSigmoid>(parameter({2, 9}), real(0.3F), real(0.4F));
        },
        wide);
    add("Clamp", [] { return make<ops::Clamp>(parameter({2, 9}), -0.3, 0.4); });
    add("ClampI32", [] { return make<ops::Clamp>(parameter({2, 9}, ov::element::i32), 10.5, 60.5); });
    add("PReluChannel", [] { return make<ops::PRelu>(parameter({2, 3, 4, 5}), weights({3})); });
    add("PReluScalar", [] { return make<ops::PRelu>(parameter({2, 3, 4}), weights({1})); });
    add("RoundEven", [] { return make<ops::Round>(make<ops::Multiply>(parameter({2, 9}), real(4)), ops::Round::RoundMode::HALF_TO_EVEN); });
    add("RoundAway", [] {
        return make<ops::Round>(constant<float>(ov::element::f32, {6}, {-2.5F, -1.5F, -0.4F, 0.5F, 1.5F, 2.4F}),
                                ops::Round::RoundMode::HALF_AWAY_FROM_ZERO);
    });
    add(
        "ConvertF32I32",
        [] {
            return make<ops::Convert>(parameter({2, 9}), ov::element::i32);
        },
        wide);
    add("ConvertI32Boolean", [] { return make<ops::Convert>(parameter({2, 9}, ov::element::i32), ov::element::boolean); });
    add("ConvertI64F32", [] { return make<ops::Convert>(parameter({2, 9}, ov::element::i64), ov::element::f32); });
    add("Select", [] { return make<ops::Select>(parameter({3, 1}, ov::element::boolean), parameter({2, 3, 4}), parameter({4})); });
    add("IsInf", [] { return make<ops::IsInf>(make<ops::Divide>(parameter({2, 9}), real(0))); });
    add("AddPdpd", [] {
        return make<ops::Add>(parameter({2, 3, 4}), parameter({3}), ov::op::AutoBroadcastSpec(ov::op::AutoBroadcastType::PDPD, 1));
    });
    return cases;
}

std::vector<Case> shapes() {
    std::vector<Case> cases;
    const auto add = [&](std::string name, std::function<Node()> build, std::vector<Shape> run = {}) {
        cases.push_back({std::move(name), std::move(build), std::move(run), 1e-4, {}});
    };
    add("ReshapeZero", [] { return make<ops::Reshape>(parameter({2, 3, 4}), ints({0, -1}), true); });
    add("ReshapeDynamic", [] { return make<ops::Reshape>(parameter({-1, 3, 4}), ints({-1, 12}), false); }, {{5, 3, 4}});
    add("SqueezeAll", [] { return make<ops::Squeeze>(parameter({1, 3, 1})); });
    add("SqueezeAxis", [] { return make<ops::Squeeze>(parameter({1, 3, 1}), ints({-1})); });
    add("Unsqueeze", [] { return make<ops::Unsqueeze>(parameter({2, 3}), ints({0, -1})); });
    add("Transpose", [] { return make<ops::Transpose>(parameter({2, 3, 4}), ints({2, 0, 1})); });
    add("TransposeReverse", [] { return make<ops::Transpose>(parameter({2, 3, 4}), ints({})); });
    add("Concat", [] { return make<ops::Concat>(ov::OutputVector{parameter({2, 3}), parameter({2, 1})}, -1); });
    add("Split", [] { return make<ops::Split>(parameter({2, 6}), scalar(1), 3); });
    add("VariadicSplit", [] { return make<ops::VariadicSplit>(parameter({2, 7}), scalar(-1), ints({2, -1, 1})); });
    add("VariadicSplitDynamic", [] { return make<ops::VariadicSplit>(parameter({-1, 7}), scalar(0), ints({2, -1, 1})); }, {{6, 7}});
    add("Slice", [] { return make<ops::Slice>(parameter({5, 6}), ints({-1, 0}), ints({-100, 5}), ints({-2, 2}), ints({0, 1})); });
    add("SliceNoAxes", [] { return make<ops::Slice>(parameter({5, 6}), ints({1, 2}), ints({4, 100}), ints({1, 1})); });
    using Masks = std::vector<std::int64_t>;
    const auto strided = [](const std::shared_ptr<ov::Node>& x, Masks begin, Masks end, Masks stride, Masks begin_mask, Masks end_mask,
                            Masks added = {}, Masks shrink = {}, Masks ellipsis = {}) {
        return make<ops::StridedSlice>(x, ints(begin), ints(end), ints(stride), begin_mask, end_mask, added, shrink, ellipsis);
    };
    add("StridedSlice", [=] { return strided(parameter({5, 6, 4}), {1, 0}, {4, 5}, {1, 2}, {0, 0}, {0, 0}); });
    add("StridedSliceMasks", [=] { return strided(parameter({5, 6, 4}), {1, 3}, {2, 5}, {1, 1}, {1, 0}, {0, 1}); });
    add("StridedSliceBackwards", [=] { return strided(parameter({5, 6}), {0, -1}, {0, 1}, {-1, -2}, {1, 0}, {1, 0}); });
    add("StridedSliceShrink", [=] { return strided(parameter({5, 6, 4}), {2, -1}, {3, 0}, {1, 1}, {0, 0}, {0, 0}, {}, {1, 1}); });
    add("StridedSliceNewAxis", [=] { return strided(parameter({5, 6}), {0, 1}, {0, 3}, {1, 1}, {0, 0}, {0, 0}, {1, 0}); });
    add("StridedSliceEllipsis", [=] { return strided(parameter({5, 6, 4}), {0, 1}, {0, 3}, {1, 1}, {0, 0}, {0, 0}, {}, {}, {1, 0}); });
    cases.push_back({"StridedSliceRunTime",
                     [] {
                         return make<ops::StridedSlice>(parameter({5, 6}), parameter({2}, ov::element::i64), parameter({2}, ov::element::i64),
                                                        ints({1, 1}), Masks{0, 1}, Masks{0, 0});
                     },
                     {},
                     1e-4,
                     [](std::vector<Tensor>& inputs) {
                         inputs[1] = Tensor::from<std::int64_t>({2}, {1, 3});
                         inputs[2] = Tensor::from<std::int64_t>({2}, {4, 5});
                     }});
    add("BroadcastNumpy", [] { return make<ops::Broadcast>(parameter({3, 1}), ints({2, 3, 4})); });
    add("BroadcastBidirectional", [] { return make<ops::Broadcast>(parameter({3, 4}), ints({2, 1, 1}), ov::op::BroadcastType::BIDIRECTIONAL); });
    add("BroadcastExplicit", [] { return make<ops::Broadcast>(parameter({3}), ints({2, 3, 4}), ints({1})); });
    add("BroadcastBoolean", [] { return make<ops::Broadcast>(parameter({3, 1}, ov::element::boolean), ints({3, 4})); });
    add("Tile", [] { return make<ops::Tile>(parameter({2, 3}), ints({2, 1, 2})); });
    add("TileFewer", [] { return make<ops::Tile>(parameter({2, 3, 2}), ints({2, 3})); });
    add("PadConstant", [] { return make<ops::Pad>(parameter({2, 3}), ints({1, 0}), ints({0, 2}), real(3), ov::op::PadMode::CONSTANT); });
    add("PadEdge", [] { return make<ops::Pad>(parameter({2, 3}), ints({1, 0}), ints({0, 2}), ov::op::PadMode::EDGE); });
    add("PadReflect", [] { return make<ops::Pad>(parameter({4, 5}), ints({1, 2}), ints({2, 1}), ov::op::PadMode::REFLECT); });
    add("PadNegative", [] { return make<ops::Pad>(parameter({4, 5}), ints({-1, 2}), ints({2, -1}), real(0), ov::op::PadMode::CONSTANT); });
    add("Roll", [] { return make<ops::Roll>(parameter({4, 5}), ints({2, -1}), ints({0, 1})); });
    add("ReverseSequence", [] {
        return make<ops::ReverseSequence>(parameter({3, 4, 2}), constant<std::int32_t>(ov::element::i32, {3}, {2, 4, 1}), 0, 1);
    });
    add("ReverseSequenceLate", [] {
        return make<ops::ReverseSequence>(parameter({2, 4, 3}), constant<std::int32_t>(ov::element::i32, {3}, {2, 4, 1}), 2, 1);
    });
    add("DepthToSpaceBlocks", [] { return make<ops::DepthToSpace>(parameter({1, 8, 2, 3}), ops::DepthToSpace::DepthToSpaceMode::BLOCKS_FIRST, 2); });
    add("DepthToSpaceDepth", [] { return make<ops::DepthToSpace>(parameter({1, 8, 2, 3}), ops::DepthToSpace::DepthToSpaceMode::DEPTH_FIRST, 2); });
    add("DepthToSpace3D", [] { return make<ops::DepthToSpace>(parameter({1, 16, 2, 3, 2}), ops::DepthToSpace::DepthToSpaceMode::DEPTH_FIRST, 2); });
    add("DepthToSpace3DBlocks", [] {
        return make<ops::DepthToSpace>(parameter({1, 16, 2, 3, 2}), ops::DepthToSpace::DepthToSpaceMode::BLOCKS_FIRST, 2);
    });
    add("SpaceToDepthBlocks", [] { return make<ops::SpaceToDepth>(parameter({1, 2, 4, 6}), ops::SpaceToDepth::SpaceToDepthMode::BLOCKS_FIRST, 2); });
    add("SpaceToDepthDepth", [] { return make<ops::SpaceToDepth>(parameter({1, 2, 4, 6}), ops::SpaceToDepth::SpaceToDepthMode::DEPTH_FIRST, 2); });
    add("SpaceToBatch", [] { return make<ops::SpaceToBatch>(parameter({2, 4, 6, 3}), ints({1, 2, 3, 1}), ints({0, 1, 0, 0}), ints({0, 1, 3, 0})); });
    add("BatchToSpace", [] { return make<ops::BatchToSpace>(parameter({12, 4, 6, 3}), ints({1, 2, 3, 1}), ints({0, 1, 0, 0}), ints({0, 1, 3, 0})); });
    add("ShuffleChannels", [] { return make<ops::ShuffleChannels>(parameter({2, 6, 3}), 1, 3); });
    add("ShapeOf", [] { return make<ops::ShapeOf>(parameter({-1, 3}), ov::element::i32); }, {{4, 3}});
    cases.push_back({"Range",
                     [] {
                         return make<ops::Range>(parameter({}, ov::element::i32), parameter({}, ov::element::i32), parameter({}, ov::element::i32),
                                                 ov::element::i64);
                     },
                     {},
                     1e-4,
                     [](std::vector<Tensor>& inputs) {
                         inputs[0] = Tensor::from<std::int32_t>({}, {10});
                         inputs[1] = Tensor::from<std::int32_t>({}, {1});
                         inputs[2] = Tensor::from<std::int32_t>({}, {-3});
                     }});
    return cases;
}

std::vector<Case> reductions() {
    std::vector<Case> cases{reduce<ops::ReduceSum>("ReduceSum", {1}, true),
                            reduce<ops::ReduceSum>("ReduceSumI32", {0, -1}, false, ov::element::i32),
                            reduce<ops::ReduceMean>("ReduceMean", {-1}, false),
                            reduce<ops::ReduceMax>("ReduceMax", {0}, true),
                            reduce<ops::ReduceMax>("ReduceMaxI64", {1}, false, ov::element::i64),
                            reduce<ops::ReduceMin>("ReduceMin", {0, 2}, false),
                            reduce<ops::ReduceProd>("ReduceProd", {2}, true),
                            reduce<ops::ReduceL1>("ReduceL1", {1}, true),
                            reduce<ops::ReduceL2>("ReduceL2", {1, 2}, false),
                            reduce<ops::ReduceLogicalAnd>("ReduceLogicalAnd", {1}, true, ov::element::boolean),
                            reduce<ops::ReduceLogicalOr>("ReduceLogicalOr", {2}, false, ov::element::boolean)};
    const auto add = [&](std::string name, std::function<Node()> build) { cases.push_back({std::move(name), std::move(build), {}, 1e-4, {}}); };
    add("CumSum", [] { return make<ops::CumSum>(parameter({2, 5}), scalar(1)); });
    add("CumSumExclusiveReverse", [] { return make<ops::CumSum>(parameter({2, 5}), scalar(-1), true, true); });
    add("TopKMax", [] { return make<ops::TopK>(parameter({3, 9}), scalar(4), 1, ov::op::TopKMode::MAX, ov::op::TopKSortType::SORT_VALUES); });
    add("TopKMin", [] {
        return make<ops::TopK>(parameter({3, 9}), scalar(2), 0, ov::op::TopKMode::MIN, ov::op::TopKSortType::SORT_VALUES, ov::element::i64);
    });
    add("NonZero", [] { return make<ops::NonZero>(parameter({3, 4}, ov::element::boolean), ov::element::i32); });
    return cases;
}

std::vector<Case> indexing() {
    std::vector<Case> cases;
    const auto add = [&](std::string name, std::function<Node()> build) { cases.push_back({std::move(name), std::move(build), {}, 1e-4, {}}); };
    const auto i32 = [](const ov::Shape& shape, const std::vector<std::int32_t>& values) { return constant(ov::element::i32, shape, values); };
    add("Gather", [=] { return make<ops::Gather>(parameter({4, 5}), i32({2, 2}, {3, 0, -1, 1}), scalar(0)); });
    add("GatherAxis", [=] { return make<ops::Gather>(parameter({4, 5, 2}), i32({3}, {3, 0, 4}), scalar(1)); });
    add("GatherBatch", [=] { return make<ops::Gather>(parameter({2, 5, 3}), i32({2, 2}, {3, 0, 1, 4}), scalar(1), 1); });
    add("GatherElements", [=] { return make<ops::GatherElements>(parameter({3, 4}), i32({3, 2}, {3, 0, 1, 1, 2, 0}), 1); });
    add("GatherND", [=] { return make<ops::GatherND>(parameter({3, 4, 2}), i32({2, 2}, {2, 1, 0, 3})); });
    add("GatherNDBatch", [=] { return make<ops::GatherND>(parameter({2, 4, 3}), i32({2, 1}, {2, 1}), 1); });
    add("ScatterElements", [=] { return make<ops::ScatterElementsUpdate>(parameter({3, 4}), i32({1, 3}, {2, 0, 1}), parameter({1, 3}), scalar(0)); });
    add("ScatterElementsSum", [=] {
        return make<ops::ScatterElementsUpdate>(parameter({3, 4}), i32({3, 1}, {2, 0, 1}), parameter({3, 1}), scalar(1),
                                                ops::ScatterElementsUpdate::Reduction::SUM);
    });
    add("ScatterND", [=] { return make<ops::ScatterNDUpdate>(parameter({4, 3}), i32({2, 1}, {3, 1}), parameter({2, 3})); });
    add("ScatterUpdate0", [=] { return make<ops::ScatterUpdate>(parameter({4, 3}), i32({2}, {3, 1}), parameter({2, 3}), scalar(0)); });
    add("ScatterUpdate1", [=] { return make<ops::ScatterUpdate>(parameter({4, 3, 2}), i32({2}, {2, 0}), parameter({4, 2, 2}), scalar(1)); });
    add("OneHot", [=] { return make<ops::OneHot>(i32({2, 3}, {0, 2, 5, -1, 1, 3}), scalar(4), real(2), real(-1), 1); });
    return cases;
}

std::vector<Case> neural() {
    std::vector<Case> cases;
    const auto add = [&](std::string name, std::function<Node()> build, std::vector<Shape> run = {}) {
        cases.push_back({std::move(name), std::move(build), std::move(run), 1e-4, {}});
    };
    using Strides = ov::Strides;
    using Diff = ov::CoordinateDiff;
    using ov::op::PadType;
    add("Convolution", [] {
        return make<ops::Convolution>(parameter({1, 3, 8, 7}), weights({4, 3, 3, 3}), Strides{2, 1}, Diff{1, 0}, Diff{0, 2}, Strides{1, 2});
    });
    add("ConvolutionSameUpper",
        [] {
            return make<ops::Convolution>(parameter({-1, 3, -1, -1}), weights({4, 3, 3, 2}), Strides{2, 2}, Diff{}, Diff{}, Strides{1, 1},
                                          PadType::SAME_UPPER);
        },
        {{2, 3, 9, 8}});
    add("ConvolutionSameLower", [] {
        return make<ops::Convolution>(parameter({1, 3, 8, 8}), weights({4, 3, 4, 2}), Strides{1, 1}, Diff{}, Diff{}, Strides{1, 1},
                                      PadType::SAME_LOWER);
    });
    add("ConvolutionBias", [] {
        return make<ops::Relu>(make<ops::Add>(
            make<ops::Convolution>(parameter({1, 3, 8}), weights({4, 3, 3}), Strides{1}, Diff{1}, Diff{1}, Strides{1}), weights({1, 4, 1})));
    });
    add("ConvolutionAfterPad", [] {
        const auto padded = make<ops::Pad>(parameter({1, 3, 8, 8}), ints({0, 0, 1, 0}), ints({0, 0, 0, 2}), real(0), ov::op::PadMode::CONSTANT);
        return make<ops::Convolution>(padded, weights({4, 3, 3, 3}), Strides{1, 1}, Diff{0, 1}, Diff{1, 0}, Strides{1, 1});
    });
    add("GroupConvolution", [] {
        return make<ops::GroupConvolution>(parameter({1, 4, 8, 8}), weights({2, 3, 2, 3, 3}), Strides{1, 1}, Diff{1, 1}, Diff{1, 1}, Strides{1, 1});
    });
    add("ConvolutionBackprop", [] {
        return make<ops::ConvolutionBackpropData>(parameter({1, 3, 5, 5}), weights({3, 4, 3, 3}), Strides{2, 2}, Diff{1, 1}, Diff{1, 0},
                                                  Strides{1, 1});
    });
    add("ConvolutionBackpropShape", [] {
        return make<ops::ConvolutionBackpropData>(parameter({1, 3, 5, 5}), weights({3, 4, 3, 3}), ints({10, 10}), Strides{2, 2}, Diff{0, 0},
                                                  Diff{0, 0}, Strides{1, 1}, PadType::SAME_UPPER);
    });
    add("GroupConvolutionBackprop", [] {
        return make<ops::GroupConvolutionBackpropData>(parameter({1, 4, 5, 5}), weights({2, 2, 3, 3, 3}), Strides{2, 2}, Diff{1, 1}, Diff{1, 1},
                                                       Strides{1, 1});
    });
    add("MatMul", [] { return make<ops::MatMul>(parameter({2, 3, 4}), parameter({4, 5})); });
    add("MatMulTransposed", [] { return make<ops::MatMul>(parameter({2, 4, 3}), weights({5, 4}), true, true); });
    add("MatMulBias", [] { return make<ops::Add>(make<ops::MatMul>(parameter({-1, 4}), weights({5, 4}), false, true), weights({5})); }, {{3, 4}});
    add("MatMulVector", [] { return make<ops::MatMul>(parameter({4}), parameter({4, 5})); });
    add("MaxPool", [] {
        return make<ops::MaxPool>(parameter({1, 2, 7, 7}), Strides{2, 2}, Strides{1, 1}, ov::Shape{1, 0}, ov::Shape{0, 1}, ov::Shape{3, 2});
    });
    add("MaxPoolCeil", [] {
        return make<ov::opset1::MaxPool>(parameter({1, 2, 8, 8}), Strides{2, 2}, ov::Shape{0, 0}, ov::Shape{0, 0}, ov::Shape{3, 3},
                                         ov::op::RoundingType::CEIL);
    });
    add("AvgPool", [] {
        return make<ops::AvgPool>(parameter({1, 2, 7, 7}), Strides{2, 2}, ov::Shape{1, 1}, ov::Shape{1, 1}, ov::Shape{3, 3}, false);
    });
    add("AvgPoolExclude", [] {
        return make<ops::AvgPool>(parameter({1, 2, 7, 7}), Strides{2, 1}, ov::Shape{1, 1}, ov::Shape{1, 1}, ov::Shape{3, 3}, true);
    });
    add("AvgPoolSame", [] {
        return make<ops::AvgPool>(parameter({1, 2, 7, 7}), Strides{2, 2}, ov::Shape{}, ov::Shape{}, ov::Shape{2, 2}, true,
                                  ov::op::RoundingType::FLOOR, PadType::SAME_UPPER);
    });
    add("AdaptiveAvgPool", [] { return make<ops::AdaptiveAvgPool>(parameter({1, 2, 6, 8}), ints({3, 2})); });
    add("AdaptiveAvgPoolGlobal", [] { return make<ops::AdaptiveAvgPool>(parameter({1, 2, 5, 7}), ints({1, 1})); });
    add("Softmax", [] { return make<ops::Softmax>(parameter({2, 3, 4}), -2); });
    add("LogSoftmax", [] { return make<ops::LogSoftmax>(parameter({2, 3, 4}), 1); });
    add("BatchNorm", [] {
        return make<ops::BatchNormInference>(parameter({2, 3, 4}), weights({3}), weights({3}, 8), weights({3}, 9),
                                             constant<float>(ov::element::f32, {3}, {1, 2, 3}), 1e-3);
    });
    add("MvnInside", [] { return make<ops::MVN>(parameter({2, 3, 8}), ints({-1}), true, 1e-3F, ov::op::MVNEpsMode::INSIDE_SQRT); });
    add("MvnOutside", [] { return make<ops::MVN>(parameter({2, 3, 8}), ints({1, 2}), true, 1e-2F, ov::op::MVNEpsMode::OUTSIDE_SQRT); });
    add("NormalizeL2", [] { return make<ops::NormalizeL2>(parameter({2, 3, 4}), ints({1}), 1e-2F, ov::op::EpsMode::ADD); });
    add("NormalizeL2Max", [] { return make<ops::NormalizeL2>(parameter({2, 3, 4}), ints({1, 2}), 1e-2F, ov::op::EpsMode::MAX); });
    // A bias other than 1 is not compared: OpenVINO's processor plugin ignores it.
    add("Lrn", [] { return make<ops::LRN>(parameter({2, 6, 4, 4}), ints({1}), 1e-1, 0.75, 1.0, 3); });
    add("GroupNormalization", [] { return make<ops::GroupNormalization>(parameter({2, 6, 4, 4}), weights({6}), weights({6}, 9), 3, 1e-3); });
    add("Attention", [] {
        return make<ops::ScaledDotProductAttention>(parameter({1, 2, 5, 8}), parameter({1, 2, 6, 8}), parameter({1, 2, 6, 4}),
                                                    parameter({1, 1, 5, 6}), false);
    });
    add("AttentionCausal", [] {
        return make<ops::ScaledDotProductAttention>(parameter({1, 2, 5, 8}), parameter({1, 2, 5, 8}), parameter({1, 2, 5, 4}), true);
    });
    const auto resize = [](ops::Interpolate::InterpolateMode mode, ops::Interpolate::CoordinateTransformMode coordinates,
                           ops::Interpolate::NearestMode nearest) {
        ops::Interpolate::InterpolateAttrs attrs;
        attrs.mode = mode;
        attrs.shape_calculation_mode = ops::Interpolate::ShapeCalcMode::SIZES;
        attrs.coordinate_transformation_mode = coordinates;
        attrs.nearest_mode = nearest;
        return make<ops::Interpolate>(parameter({1, 2, 5, 6}), ints({9, 7}), ints({2, 3}), attrs);
    };
    using I = ops::Interpolate;
    add("InterpolateNearest", [=] { return resize(I::InterpolateMode::NEAREST, I::CoordinateTransformMode::ASYMMETRIC, I::NearestMode::FLOOR); });
    add("InterpolateNearestHalf",
        [=] { return resize(I::InterpolateMode::NEAREST, I::CoordinateTransformMode::HALF_PIXEL, I::NearestMode::ROUND_PREFER_CEIL); });
    add("InterpolateNearestTf",
        [=] { return resize(I::InterpolateMode::NEAREST, I::CoordinateTransformMode::TF_HALF_PIXEL_FOR_NN, I::NearestMode::FLOOR); });
    add("InterpolateLinear", [=] { return resize(I::InterpolateMode::LINEAR_ONNX, I::CoordinateTransformMode::HALF_PIXEL, I::NearestMode::FLOOR); });
    add("InterpolateLinearAlign",
        [=] { return resize(I::InterpolateMode::LINEAR_ONNX, I::CoordinateTransformMode::ALIGN_CORNERS, I::NearestMode::FLOOR); });
    add("InterpolateLinearOld", [=] { return resize(I::InterpolateMode::LINEAR, I::CoordinateTransformMode::HALF_PIXEL, I::NearestMode::FLOOR); });
    add("InterpolateCubic", [=] { return resize(I::InterpolateMode::CUBIC, I::CoordinateTransformMode::HALF_PIXEL, I::NearestMode::FLOOR); });
    add("Einsum", [] { return make<ops::Einsum>(ov::OutputVector{parameter({2, 3, 4}), parameter({2, 4, 5})}, "bij,bjk->bik"); });
    add("FakeQuantize", [] { return make<ops::FakeQuantize>(parameter({2, 3, 4}), real(-0.5F), real(0.75F), real(-0.5F), real(0.75F), 256); });
    add("FakeQuantizeChannels", [] {
        return make<ops::FakeQuantize>(parameter({2, 3, 4}), constant<float>(ov::element::f32, {3, 1}, {-1, -0.5F, 0}),
                                       constant<float>(ov::element::f32, {3, 1}, {1, 0.6F, 0.4F}), real(-2), real(2), 15);
    });
    return cases;
}

std::vector<Case> recurrent() {
    std::vector<Case> cases;
    const auto add = [&](std::string name, std::function<Node()> build) { cases.push_back({std::move(name), std::move(build), {}, 1e-4, {}}); };
    using Direction = ov::op::RecurrentSequenceDirection;
    for (const auto& [name, direction, d] :
         {std::tuple{"Forward", Direction::FORWARD, std::size_t{1}}, std::tuple{"Reverse", Direction::REVERSE, std::size_t{1}},
          std::tuple{"Bidirectional", Direction::BIDIRECTIONAL, std::size_t{2}}}) {
        const auto dd = static_cast<std::int64_t>(d);
        const auto lengths = constant<std::int32_t>(ov::element::i32, {2}, {5, 3});
        add(std::string("LstmSequence") + name, [=] {
            return make<ops::LSTMSequence>(parameter({2, 5, 3}), parameter({2, dd, 4}), parameter({2, dd, 4}), lengths, weights({d, 16, 3}),
                                           weights({d, 16, 4}, 8), weights({d, 16}, 9), 4, direction);
        });
        add(std::string("GruSequence") + name, [=] {
            return make<ops::GRUSequence>(parameter({2, 5, 3}), parameter({2, dd, 4}), lengths, weights({d, 12, 3}), weights({d, 12, 4}, 8),
                                          weights({d, 12}, 9), 4, direction);
        });
        add(std::string("GruSequenceBeforeReset") + name, [=] {
            return make<ops::GRUSequence>(parameter({2, 5, 3}), parameter({2, dd, 4}), lengths, weights({d, 12, 3}), weights({d, 12, 4}, 8),
                                          weights({d, 16}, 9), 4, direction, std::vector<std::string>{"sigmoid", "tanh"}, std::vector<float>{},
                                          std::vector<float>{}, 0.0F, true);
        });
        add(std::string("RnnSequence") + name, [=] {
            return make<ops::RNNSequence>(parameter({2, 5, 3}), parameter({2, dd, 4}), lengths, weights({d, 4, 3}), weights({d, 4, 4}, 8),
                                          weights({d, 4}, 9), 4, direction);
        });
    }
    add("LstmCell", [] {
        return make<ops::LSTMCell>(parameter({2, 3}), parameter({2, 4}), parameter({2, 4}), weights({16, 3}), weights({16, 4}, 8), weights({16}, 9),
                                   4);
    });
    add("GruCell", [] {
        return make<ops::GRUCell>(parameter({2, 3}), parameter({2, 4}), weights({12, 3}), weights({12, 4}, 8), weights({12}, 9), 4);
    });
    add("RnnCell", [] { return make<ops::RNNCell>(parameter({2, 3}), parameter({2, 4}), weights({4, 3}), weights({4, 4}, 8), weights({4}, 9), 4); });
    return cases;
}

class LoweredOperation : public testing::TestWithParam<Case> {};

TEST_P(LoweredOperation, AgreesWithOpenVino) {
    const std::shared_ptr<ov::Model> graph = model_of(GetParam().build());
    const backend::Model model = graph_model(graph);
    std::vector<Tensor> inputs;
    for (std::size_t i = 0; i < model.inputs.size(); ++i) {
        TensorInfo info = model.inputs[i];
        if (i < GetParam().shapes.size()) info.shape = GetParam().shapes[i];
        inputs.push_back(random_tensor(info, static_cast<unsigned>(i + 1)));
    }
    if (GetParam().adjust) GetParam().adjust(inputs);
    expect_same(graph, inputs, GetParam().tolerance);
}

/// Failures name the case instead of its bytes.
void PrintTo(const Case& test, std::ostream* out) { *out << test.name; }

std::string case_name(const testing::TestParamInfo<Case>& test) { return test.param.name; }
INSTANTIATE_TEST_SUITE_P(Elementwise, LoweredOperation, testing::ValuesIn(elementwise()), case_name);
INSTANTIATE_TEST_SUITE_P(Shapes, LoweredOperation, testing::ValuesIn(shapes()), case_name);
INSTANTIATE_TEST_SUITE_P(Reductions, LoweredOperation, testing::ValuesIn(reductions()), case_name);
INSTANTIATE_TEST_SUITE_P(Indexing, LoweredOperation, testing::ValuesIn(indexing()), case_name);
INSTANTIATE_TEST_SUITE_P(Neural, LoweredOperation, testing::ValuesIn(neural()), case_name);
INSTANTIATE_TEST_SUITE_P(Recurrent, LoweredOperation, testing::ValuesIn(recurrent()), case_name);

}  // namespace
}  // namespace ai_vmm::ort::test
