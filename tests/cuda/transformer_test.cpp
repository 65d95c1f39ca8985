// SPDX-License-Identifier: Apache-2.0
/// What transformers become where libraries run products and attention: the same numbers, and no step more than they need.
#include <gtest/gtest.h>

#include <cmath>
#include <numbers>
#include <openvino/runtime/core.hpp>

#include "cuda/library_device.hpp"
#include "cuda/trial.hpp"
#include "graph/passes.hpp"
#include "graph/views.hpp"
#include "lower/lower.hpp"
#include "program/program.hpp"

namespace ai_vmm::cuda::test {
namespace {

using namespace ov::op;
using Output = ov::Output<ov::Node>;
using ov::element::f32;

template <typename Op, typename... Arguments>
Output make(Arguments&&... arguments) {
    return std::make_shared<Op>(std::forward<Arguments>(arguments)...)->output(0);
}

/// A model of one or more inputs, its weights constants.
class Model {
public:
    Output input(const ov::Shape& shape) {
        parameters_.push_back(std::make_shared<v0::Parameter>(f32, shape));
        inputs_.push_back(spread(f32, shape, -1, 1, static_cast<unsigned>(inputs_.size())));
        return parameters_.back();
    }
    /// Different ones each time.
    Output weight(const ov::Shape& shape, double size = 0.3) { return make<v0::Constant>(spread(f32, shape, -size, size, seed_++)); }
    static Output number(double value) { return make<v0::Constant>(f32, ov::Shape{}, std::vector<double>{value}); }
    static Output ints(const std::vector<std::int64_t>& values) { return make<v0::Constant>(ov::element::i64, ov::Shape{values.size()}, values); }
    static Output add(const Output& a, const Output& b) { return make<v1::Add>(a, b); }
    static Output times(const Output& a, const Output& b) { return make<v1::Multiply>(a, b); }
    static Output reshape(const Output& x, const std::vector<std::int64_t>& to) { return make<v1::Reshape>(x, ints(to), false); }
    static Output transpose(const Output& x, const std::vector<std::int64_t>& order) { return make<v1::Transpose>(x, ints(order)); }
    static Output pick(const Output& x, std::int64_t at) {
        return make<v8::Gather>(x, make<v0::Constant>(ov::element::i64, ov::Shape{}, at), ints({0}));
    }
    Output linear(const Output& x, std::size_t from, std::size_t to, bool bias = true) {
        const Output y = make<v0::MatMul>(x, weight({from, to}));
        return bias ? add(weight({to}), y) : y;
    }
    /// As Gemm is read: a product, alpha, a bias.
    Output gemm(const Output& x, std::size_t from, std::size_t to) {
        return add(times(make<v0::MatMul>(x, weight({to, from}), false, true), number(1)), weight({to}));
    }
    Output norm(const Output& x, std::size_t size) {
        const Output y = make<v6::MVN>(x, ints({-1}), true, 1e-5F, MVNEpsMode::INSIDE_SQRT);
        return add(times(y, weight({size}, 1)), weight({size}));
    }
    static Output gelu(const Output& x) {
        const Output erf = make<v0::Erf>(make<v1::Divide>(x, number(std::numbers::sqrt2)));
        return times(times(x, add(erf, number(1))), number(0.5));
    }

    [[nodiscard]] Graph lowered(const ov::OutputVector& results, Type type) const {
        return lower(with_shapes(*std::make_shared<ov::Model>(results, parameters_), {}), {.float_type = type});
    }
    /// Runs on `device` and compares with OpenVINO. @returns the schedule's steps: "Matmul", "Attention", or "kernel"
    std::vector<std::string> run(const std::shared_ptr<LibraryDevice>& device, const ov::OutputVector& results, Type type, double tolerance) const {
        const Schedule schedule = compare(device, results, type, tolerance);
        std::vector<std::string> steps;
        for (const Step& step : schedule.steps) {
            steps.push_back(step.kind == Step::Kind::library ? std::string(op_name(schedule.graph.nodes[static_cast<std::size_t>(step.index)]))
                                                             : std::string("kernel"));
        }
        return steps;
    }
    /// The same. @returns the schedule
    Schedule compare(const std::shared_ptr<LibraryDevice>& device, const ov::OutputVector& results, Type type, double tolerance) const {
        const auto program = std::make_shared<const Program>(device, lowered(results, type), std::make_shared<WeightStore>(device));
        Execution execution(program);
        const Schedule& schedule = program->schedule();
        std::vector<const void*> in;
        for (const ov::Tensor& tensor : inputs_) in.push_back(tensor.data());
        ov::TensorVector out;
        std::vector<void*> pointers;
        for (const Output& result : results) {
            out.emplace_back(f32, result.get_shape());
            pointers.push_back(out.back().data());
        }
        execution.run(in, pointers);

        static ov::Core core;
        auto compiled = core.compile_model(std::make_shared<ov::Model>(results, parameters_), "CPU", ov::hint::inference_precision(f32));
        auto request = compiled.create_infer_request();
        for (std::size_t k = 0; k < inputs_.size(); ++k) request.set_input_tensor(k, inputs_[k]);
        request.infer();
        for (std::size_t k = 0; k < out.size(); ++k) {
            const auto* expected = request.get_output_tensor(k).data<float>();
            const auto* got = out[k].data<float>();
            double worst = 0;
            for (std::size_t i = 0; i < out[k].get_size(); ++i)
                worst = std::max(worst, static_cast<double>(std::abs(got[i] - expected[i])) / (1 + static_cast<double>(std::abs(expected[i]))));
            EXPECT_LE(worst, tolerance) << "output " << k << "\n" << print(schedule);
        }
        return schedule;
    }

private:
    ov::ParameterVector parameters_;
    std::vector<ov::Tensor> inputs_;
    unsigned seed_ = 100;
};

using Steps = std::vector<std::string>;
constexpr std::size_t kBatch = 2, kLength = 10, kWidth = 96, kHeads = 4, kHead = 24, kInner = 192;
constexpr double kHalf = 6e-3;  // of f16, after several roundings

/// nn.MultiheadAttention(batch_first=True) behind scaled_dot_product_attention, as torch.onnx.export writes it, with the rest of a layer.
Output vision_layer(Model& m, const Output& x) {
    constexpr auto kB = static_cast<std::int64_t>(kBatch), kL = static_cast<std::int64_t>(kLength), kE = static_cast<std::int64_t>(kWidth);
    const Output sequence_first = Model::transpose(m.norm(x, kWidth), {1, 0, 2});
    const Output packed = Model::reshape(m.linear(sequence_first, kWidth, 3 * kWidth), {kL, kB, 3, kE});
    const Output parts = make<v0::Squeeze>(Model::transpose(make<v0::Unsqueeze>(packed, Model::ints({0})), {3, 1, 2, 0, 4}), Model::ints({-2}));
    const auto heads = [&](std::int64_t part) {
        const Output flat = Model::transpose(Model::reshape(Model::pick(parts, part), {kL, kB * kHeads, kHead}), {1, 0, 2});
        return Model::reshape(flat, {kB, kHeads, kL, kHead});
    };
    const Output root = Model::number(std::pow(static_cast<double>(kHead), -0.25));
    const Output q = Model::times(heads(0), root), k = Model::times(Model::transpose(heads(1), {0, 1, 3, 2}), root);
    const Output probabilities = make<v8::Softmax>(make<v0::MatMul>(q, k), -1);
    const Output mixed = Model::reshape(Model::transpose(make<v0::MatMul>(probabilities, heads(2)), {2, 0, 1, 3}), {kL * kB, kE});
    const Output projected = Model::transpose(Model::reshape(m.gemm(mixed, kWidth, kWidth), {kL, kB, kE}), {1, 0, 2});
    const Output y = Model::add(projected, x);
    const Output inner = Model::gelu(m.linear(m.norm(y, kWidth), kWidth, kInner));
    return Model::add(y, m.linear(inner, kInner, kWidth));
}

/// A layer of BERT as transformers writes it. @param mask  added to the scores
Output text_layer(Model& m, const Output& x, const Output& mask) {
    constexpr auto kB = static_cast<std::int64_t>(kBatch), kL = static_cast<std::int64_t>(kLength);
    const auto heads = [&](std::vector<std::int64_t> order) {
        return Model::transpose(Model::reshape(m.linear(x, kWidth, kWidth), {kB, kL, kHeads, kHead}), order);
    };
    const Output q = heads({0, 2, 1, 3}), k = heads({0, 2, 3, 1}), v = heads({0, 2, 1, 3});
    const Output scores = Model::add(make<v1::Divide>(make<v0::MatMul>(q, k), Model::number(std::sqrt(static_cast<double>(kHead)))), mask);
    const Output mixed = Model::transpose(make<v0::MatMul>(make<v8::Softmax>(scores, -1), v), {0, 2, 1, 3});
    const Output y = m.norm(Model::add(m.linear(Model::reshape(mixed, {kB, kL, kWidth}), kWidth, kWidth), x), kWidth);
    const Output inner = Model::gelu(m.linear(y, kWidth, kInner));
    return m.norm(Model::add(m.linear(inner, kInner, kWidth), y), kWidth);
}

Steps times(const Steps& steps, int count, Steps last = {}) {
    Steps all;
    for (int i = 0; i < count; ++i) all.insert(all.end(), steps.begin(), steps.end());
    all.insert(all.end(), last.begin(), last.end());
    return all;
}

TEST(CudaTransformer, VisionLayersHaveSevenSteps) {
    Model m;
    const Output x = m.input({kBatch, kLength, kWidth});
    const auto device = std::make_shared<LibraryDevice>();
    // Norm, packed projection, attention, projection with residual, norm, the two products. What layers add up is f32, as the input and the output
    // are.
    const Steps layer{"kernel", "Matmul", "Attention", "Matmul", "kernel", "Matmul", "Matmul"};
    EXPECT_EQ(m.run(device, {vision_layer(m, vision_layer(m, x))}, Type::f16, kHalf), times(layer, 2));
    for (const MatmulSpec& spec : device->matmuls) EXPECT_TRUE(spec.bias);
    EXPECT_NEAR(device->attentions.front().scale, 1 / std::sqrt(static_cast<double>(kHead)), 1e-6);
    // Queries, keys and values are the projection's result, seen otherwise.
    EXPECT_EQ(device->attentions.front().k_strides, (Dims{3 * kWidth * kLength, kHead, 3 * kWidth, 1}));
}

TEST(CudaTransformer, TextLayersHaveSevenSteps) {
    Model m;
    const Output x = m.input({kBatch, kLength, kWidth}), mask = m.input({kBatch, 1, 1, kLength});
    const auto device = std::make_shared<LibraryDevice>();
    const Steps layer{"Matmul", "Attention", "Matmul", "kernel", "Matmul", "Matmul", "kernel"};
    const Steps steps = m.run(device, {text_layer(m, text_layer(m, x, mask), mask)}, Type::f16, kHalf);
    // The input and the mask change type first.
    EXPECT_EQ(steps.size(), times(layer, 2).size() + 2);
    EXPECT_EQ(device->matmuls.front().n, 3 * static_cast<std::int64_t>(kWidth));
    EXPECT_TRUE(device->attentions.front().mask);
}

TEST(CudaTransformer, TheLastLayerIsForTheTokenThatIsRead) {
    const auto scalar = [](std::int64_t at) { return make<v0::Constant>(ov::element::i64, ov::Shape{}, at); };
    const std::vector<std::function<Output(const Output&)>> ways{
        [&](const Output& x) { return make<v8::Gather>(x, scalar(0), scalar(1)); },
        [&](const Output& x) { return make<v8::Gather>(x, scalar(-1), scalar(-2)); },
        [&](const Output& x) {
            using Mask = std::vector<std::int64_t>;
            return make<v1::StridedSlice>(x, Model::ints({0, 3, 0}), Model::ints({0, 4, 0}), Model::ints({1, 1, 1}), Mask{1, 0, 1}, Mask{1, 0, 1},
                                          Mask{}, Mask{0, 1, 0});
        },
        [&](const Output& x) { return make<v8::Slice>(x, Model::ints({2}), Model::ints({5}), Model::ints({1}), Model::ints({1})); }};
    for (std::size_t way = 0; way < ways.size(); ++way) {
        for (const Type type : {Type::f32, Type::f16}) {
            SCOPED_TRACE(way);
            Model m;
            const Output x = m.input({kBatch, kLength, kWidth}), mask = m.input({kBatch, 1, 1, kLength});
            const auto vision = std::make_shared<LibraryDevice>(), text = std::make_shared<LibraryDevice>();
            const double tolerance = type == Type::f16 ? kHalf : 1e-5;
            const Schedule of_vision =
                m.compare(vision, {m.linear(ways[way](m.norm(vision_layer(m, vision_layer(m, x)), kWidth)), kWidth, 10)}, type, tolerance);
            const Schedule of_text = m.compare(text, {m.linear(ways[way](text_layer(m, text_layer(m, x, mask), mask)), kWidth, 10)}, type, tolerance);
            const auto all = [](const Schedule& schedule) {
                return std::ranges::count_if(specs_of<MatmulSpec>(schedule),
                                             [](const MatmulSpec& spec) { return spec.batch == 1 && spec.m == kBatch * kLength; });
            };
            // Four of the layer before, and what gives keys and values: with the queries in one product, or two.
            EXPECT_EQ(all(of_vision), 5);
            EXPECT_EQ(all(of_text), 5);
            // Attention of few queries is a kernel of its own.
            if (type == Type::f16) {
                EXPECT_EQ(specs_of<AttentionSpec>(of_vision).size(), 1U);
                EXPECT_EQ(specs_of<AttentionSpec>(of_text).size(), 1U);
            }
        }
    }
}

TEST(CudaTransformer, SelectionsAreWhatTheyWere) {
    // Other dimensions turned round, and attention of one set of queries over several of keys.
    using Mask = std::vector<std::int64_t>;
    Model m;
    const Output x = m.input({kBatch, kLength, kWidth}), q = m.input({1, kLength, kHead}), k = m.input({kBatch, kLength, kHead});
    const auto scalar = [](std::int64_t at) { return make<v0::Constant>(ov::element::i64, ov::Shape{}, at); };
    const Output turned = make<v1::StridedSlice>(m.linear(x, kWidth, kWidth), Model::ints({-1, 2, 0}), Model::ints({-100, 3, 0}),
                                                 Model::ints({-1, 1, 1}), Mask{0, 0, 1}, Mask{0, 0, 1}, Mask{}, Mask{0, 1, 0});
    const Output attention = make<v13::ScaledDotProductAttention>(m.linear(q, kHead, kHead), k, k, false);
    const Output row = make<v8::Gather>(attention, scalar(3), scalar(1));
    (void)m.run(std::make_shared<LibraryDevice>(), {turned, m.linear(row, kHead, 16)}, Type::f32, 1e-5);
}

TEST(CudaTransformer, RowsThatAreReadElsewhereAreComputed) {
    Model m;
    const Output x = m.input({kBatch, kLength, kWidth});
    const auto scalar = [](std::int64_t at) { return make<v0::Constant>(ov::element::i64, ov::Shape{}, at); };
    const Output layers = vision_layer(m, vision_layer(m, x)), token = make<v8::Gather>(layers, scalar(0), scalar(1));
    const auto both = std::make_shared<LibraryDevice>(), across = std::make_shared<LibraryDevice>();
    const auto of_all = [](const Schedule& schedule) {
        return std::ranges::count_if(specs_of<MatmulSpec>(schedule), [](const MatmulSpec& spec) { return spec.m == kBatch * kLength; });
    };
    EXPECT_EQ(of_all(m.compare(both, {m.linear(token, kWidth, 16), layers}, Type::f32, 1e-5)), 8);
    // Normalised over tokens: each needs all.
    const Output mixed = make<v6::MVN>(layers, Model::ints({1}), true, 1e-5F, MVNEpsMode::INSIDE_SQRT);
    EXPECT_EQ(of_all(m.compare(across, {m.linear(make<v8::Gather>(mixed, scalar(0), scalar(1)), kWidth, 16)}, Type::f32, 1e-4)), 8);
    // Half of the features are not half of the rows.
    const Output half = make<v8::Slice>(m.linear(x, kWidth, kWidth), Model::ints({0}), Model::ints({kWidth / 2}), Model::ints({1}), Model::ints({2}));
    (void)m.run(std::make_shared<LibraryDevice>(), {m.linear(half, kWidth / 2, 16)}, Type::f32, 1e-5);
}

TEST(CudaTransformer, SumsOfLayersAreWide) {
    // How many products that something is added to store this type.
    const auto stored = [](const Schedule& schedule, Type type) {
        return std::ranges::count_if(specs_of<MatmulSpec>(schedule), [&](const MatmulSpec& spec) {
            return spec.residual && spec.result == type && spec.bias_type == type && spec.type != Type::f32;
        });
    };
    for (const Type type : {Type::f16, Type::bf16}) {
        Model m;
        const Output x = m.input({kBatch, kLength, kWidth}), mask = m.input({kBatch, 1, 1, kLength});
        const auto vision = std::make_shared<LibraryDevice>(), text = std::make_shared<LibraryDevice>(), both = std::make_shared<LibraryDevice>();
        const double tolerance = (type == Type::f16 ? 1 : 8) * kHalf;  // bf16 has three bits less
        const Output embedded = Model::times(x, Model::number(0.5));
        const Output layers = vision_layer(m, vision_layer(m, embedded));
        const Schedule of_vision = m.compare(vision, {layers}, type, tolerance);
        EXPECT_EQ(stored(of_vision, Type::f32), 4);
        EXPECT_EQ(stored(of_vision, type), 0);
        // What is normalised is no sum of many.
        const Schedule of_text = m.compare(text, {text_layer(m, text_layer(m, x, mask), mask)}, type, tolerance);
        EXPECT_EQ(stored(of_text, Type::f32), 0);
        EXPECT_EQ(stored(of_text, type), 4);
        // Products, views and joins that read such sums, and an output in the middle.
        const Output rows = Model::reshape(Model::transpose(layers, {1, 0, 2}), {kLength, kBatch * kWidth});
        const Output middle = vision_layer(m, x);
        (void)m.run(both,
                    {make<v0::MatMul>(layers, m.weight({kWidth, 16}, 0.1)), rows, make<v0::Concat>(ov::OutputVector{middle, x}, 1), middle,
                     Model::pick(vision_layer(m, middle), 1)},
                    type, tolerance);
    }
}

TEST(CudaTransformer, SumsOfAnF16ModelKeepTheTypeOfOutputs) {
    Graph graph;
    Builder b(graph);
    const ValueId x = b.input(Type::f16, {1, 6, 8}, "x");
    const std::vector<std::uint16_t> ones(64, 0x3C00);
    const auto data = std::make_shared<std::vector<std::uint16_t>>(ones);
    const ValueId w = b.constant(Type::f16, {1, 8, 8}, {data, reinterpret_cast<const std::byte*>(data->data()), 128});
    ValueId sum = x;
    for (int layer = 0; layer < 3; ++layer) {
        MatmulSpec spec{.m = 6, .n = 8, .k = 8};
        spec.type = spec.result = spec.bias_type = Type::f16;
        sum = b.pointwise("Add", Type::f16, {sum, b.matmul(b.pointwise("Relu", Type::f16, {sum}, "fmaxf(a, 0)"), w, spec)}, "a + b");
        if (layer == 1) b.output(b.reshape(sum, {6, 8}), "middle");
    }
    b.output(sum, "last");
    const Graph wide = wide_sums(graph);
    for (std::size_t k = 0; k < 2; ++k) EXPECT_EQ(wide.value(wide.outputs[k]).type, Type::f16);
    const auto sums = std::ranges::count_if(
        wide.nodes, [&](const Node& node) { return op_name(node) == "Add" && wide.value(node.outputs.front()).type == Type::f32; });
    EXPECT_EQ(sums, 2) << print(wide);
}

TEST(CudaTransformer, LayersInF32AreExact) {
    Model m;
    const Output x = m.input({kBatch, kLength, kWidth}), mask = m.input({kBatch, 1, 1, kLength});
    const auto device = std::make_shared<LibraryDevice>();
    (void)m.run(device, {text_layer(m, vision_layer(m, x), mask)}, Type::f32, 1e-5);
    for (const MatmulSpec& spec : device->matmuls) EXPECT_EQ(spec.activation, Activation::none);
}

TEST(CudaTransformer, MasksOfZerosAreDropped) {
    Model m;
    const Output x = m.input({kBatch, kLength, kWidth});
    const auto device = std::make_shared<LibraryDevice>();
    const auto zeros = make<v0::Constant>(f32, ov::Shape{1, 1, kLength, kLength}, std::vector<float>(kLength * kLength, 0.0F));
    (void)m.run(device, {text_layer(m, x, zeros)}, Type::f16, kHalf);
    EXPECT_FALSE(device->attentions.front().mask);
    const auto other = std::make_shared<LibraryDevice>();
    std::vector<float> late(kLength * kLength, 0.0F);
    late.back() = -2;
    (void)m.run(other, {text_layer(m, x, make<v0::Constant>(f32, ov::Shape{1, 1, kLength, kLength}, late))}, Type::f16, kHalf);
    EXPECT_TRUE(other->attentions.front().mask);
}

TEST(CudaTransformer, GeluInEveryFormIsPartOfTheProduct) {
    const auto number = [](double value) { return Model::number(value); };
    const auto cubic = [&](const Output& x, const Output& cube) { return Model::add(x, Model::times(cube, number(0.044715))); };
    const auto half = [&](const Output& x, const Output& curve) { return Model::times(Model::times(x, number(0.5)), Model::add(curve, number(1))); };
    const std::vector<std::function<Output(const Output&)>> forms{
        [](const Output& x) { return Model::gelu(x); },
        [&](const Output& x) { return half(x, make<v0::Erf>(Model::times(x, number(std::sqrt(0.5))))); },
        [&](const Output& x) {
            return Model::times(x, Model::times(number(0.5), Model::add(number(1), make<v0::Erf>(make<v1::Divide>(x, number(std::numbers::sqrt2))))));
        },
        [](const Output& x) { return make<v7::Gelu>(x, ov::op::GeluApproximationMode::ERF); },
        [](const Output& x) { return make<v7::Gelu>(x, ov::op::GeluApproximationMode::TANH); },
        [&](const Output& x) { return half(x, make<v0::Tanh>(Model::times(cubic(x, make<v1::Power>(x, number(3))), number(0.7978845608)))); },
        [&](const Output& x) { return half(x, make<v0::Tanh>(Model::times(number(0.7978845608), cubic(x, Model::times(Model::times(x, x), x))))); },
        [&](const Output& x) {
            const Output inner = Model::add(number(1), Model::times(Model::times(number(0.044715), x), x));
            return half(x, make<v0::Tanh>(Model::times(Model::times(x, number(0.7978845608)), inner)));
        }};
    for (std::size_t form = 0; form < forms.size(); ++form) {
        for (const Type type : {Type::f16, Type::f32}) {
            Model m;
            const Output x = m.input({kLength, kWidth});
            const auto device = std::make_shared<LibraryDevice>();
            const Output y = forms[form](m.linear(x, kWidth, kInner));
            const Steps steps = m.run(device, {m.linear(y, kInner, kWidth)}, type, type == Type::f16 ? 4e-3 : 2e-6);
            SCOPED_TRACE(form);
            ASSERT_EQ(device->matmuls.size(), 2U);
            const bool tanh_form = form >= 4;
            EXPECT_EQ(device->matmuls.front().activation == Activation::gelu_tanh, type == Type::f16 || tanh_form);
            // The input is narrowed first; the last product stores f32.
            EXPECT_EQ(steps.size(), type == Type::f16 || !tanh_form ? 3U : 2U);
        }
    }
}

TEST(CudaTransformer, TheExactGeluCanBeAskedFor) {
    Model m;
    const Output x = m.input({kLength, kWidth});
    const Graph graph = m.lowered({Model::gelu(m.linear(x, kWidth, kInner))}, Type::f16);
    const auto has_tanh_form = [&](const FuseOptions& options) {
        const Graph fused = fuse(simplify(graph), options);
        return std::any_of(fused.nodes.begin(), fused.nodes.end(), [](const Node& node) {
            const auto* matmul = std::get_if<Matmul>(&node.what);
            return matmul != nullptr && matmul->spec.activation == Activation::gelu_tanh;
        });
    };
    EXPECT_TRUE(has_tanh_form({}));
    EXPECT_FALSE(has_tanh_form({.tanh_for_narrow_gelu = false}));
}

TEST(CudaTransformer, AlmostGeluStaysAsItIs) {
    for (const double wrong : {1.0, 2.0}) {
        Model m;
        const Output x = m.input({kLength, kWidth});
        const Output y = m.linear(x, kWidth, kInner);
        const Output erf = make<v0::Erf>(make<v1::Divide>(y, Model::number(wrong)));
        (void)m.run(std::make_shared<LibraryDevice>(), {Model::times(Model::times(y, Model::add(erf, Model::number(1))), Model::number(0.5))},
                    Type::f32, 1e-5);
        (void)m.run(std::make_shared<LibraryDevice>(), {Model::times(Model::gelu(y), y)}, Type::f32, 1e-5);
    }
}

TEST(CudaTransformer, NumbersJoinTheProduct) {
    Model m;
    const Output x = m.input({kLength, kWidth});
    const auto device = std::make_shared<LibraryDevice>();
    const Output y = make<v0::Relu>(m.gemm(Model::times(x, Model::number(0.5)), kWidth, kInner));
    EXPECT_EQ(m.run(device, {make<v1::Divide>(make<v0::MatMul>(y, m.weight({kInner, kWidth})), Model::number(4))}, Type::f32, 1e-5).size(), 2U);
    ASSERT_EQ(device->matmuls.size(), 2U);
    EXPECT_EQ(device->matmuls[0].alpha, 0.5F);
    EXPECT_EQ(device->matmuls[0].activation, Activation::relu);
    EXPECT_EQ(device->matmuls[1].alpha, 0.25F);
}

TEST(CudaTransformer, ProductsReadTwiceAreComputedOnce) {
    Model m;
    const Output x = m.input({4, 8, kWidth});
    const auto device = std::make_shared<LibraryDevice>();
    const Output y = make<v0::MatMul>(x, m.weight({kWidth, kInner}));
    const Output flat = Model::reshape(y, {32, kInner}), turned = Model::transpose(flat, {1, 0});
    const Schedule schedule = m.compare(
        device, {Model::times(turned, Model::number(3)), make<v0::Relu>(flat), Model::add(Model::transpose(y, {1, 0, 2}), m.weight({kInner}))},
        Type::f32, 1e-5);
    EXPECT_EQ(specs_of<MatmulSpec>(schedule).size(), 1U);
}

TEST(CudaTransformer, ProductsOfOneMatrixAreOne) {
    for (const Type type : {Type::f32, Type::f16}) {
        Model m;
        const Output x = m.input({2, 5, kWidth});
        const auto device = std::make_shared<LibraryDevice>();
        // With and without bias, of different widths; one whose width libraries can't take a slice of, one transposed, one with an activation.
        const Output a = m.linear(x, kWidth, 16), b = m.linear(x, kWidth, 24, false), c = m.linear(x, kWidth, 13);
        const Output d = make<v0::MatMul>(x, m.weight({16, kWidth}), false, true), e = make<v0::Relu>(m.linear(x, kWidth, 16));
        const ov::OutputVector results{Model::times(a, a), make<v0::Sigmoid>(b), make<v0::Sigmoid>(c), make<v0::Sigmoid>(d), make<v0::Sigmoid>(e)};
        (void)m.run(device, results, type, type == Type::f16 ? 5e-3 : 1e-5);
        ASSERT_EQ(device->matmuls.size(), 4U);
        EXPECT_TRUE(std::any_of(device->matmuls.begin(), device->matmuls.end(), [](const MatmulSpec& spec) { return spec.n == 40 && spec.bias; }));
    }
}

TEST(CudaTransformer, TransposedRowsMoveBehindTheProduct) {
    Model m;
    const Output x = m.input({3, 5, kWidth});
    const auto device = std::make_shared<LibraryDevice>();
    const Output y = m.linear(Model::reshape(Model::transpose(x, {1, 0, 2}), {15, kWidth}), kWidth, kWidth);
    const Output back = Model::transpose(Model::reshape(y, {5, 3, kWidth}), {1, 0, 2});
    EXPECT_EQ(m.run(device, {Model::add(back, x)}, Type::f32, 1e-5).size(), 1U);
    EXPECT_TRUE(device->matmuls.front().residual);
}

TEST(CudaTransformer, OneSequenceHasNoCopyEither) {
    // Swapping a dimension of 1 is no transpose: the residual is still the product's.
    Model m;
    const Output x = m.input({1, 9, kWidth});
    const auto device = std::make_shared<LibraryDevice>();
    const Output flat = Model::reshape(Model::transpose(Model::gelu(x), {1, 0, 2}), {9, kWidth});
    const Output back = Model::transpose(Model::reshape(m.gemm(flat, kWidth, kWidth), {9, 1, kWidth}), {1, 0, 2});
    EXPECT_EQ(m.run(device, {Model::add(back, x)}, Type::f32, 1e-5), (Steps{"kernel", "Matmul"}));
    EXPECT_TRUE(device->matmuls.front().residual);
}

TEST(CudaTransformer, OneRefusedAttentionLeavesTheOthers) {
    Model m;
    const Output q = m.input({2, 2, 9, 24}), k = m.input({2, 2, 9, 24}), v = m.input({2, 2, 9, 40});
    const auto attention = [](const Output& a, const Output& b, const Output& c) {
        return make<v0::MatMul>(make<v8::Softmax>(make<v0::MatMul>(a, Model::transpose(b, {0, 1, 3, 2})), -1), c);
    };
    const auto device = std::make_shared<LibraryDevice>();
    device->takes_attention = [](const AttentionSpec& spec) { return spec.value_size != 40; };
    const Steps steps = m.run(device, {attention(q, k, v), attention(q, k, k), attention(q, q, v)}, Type::f16, kHalf);
    EXPECT_EQ(std::count(steps.begin(), steps.end(), "Attention"), 1);
    EXPECT_EQ(std::count(steps.begin(), steps.end(), "Matmul"), 4);
}

TEST(CudaTransformer, OperandsAtOddAddressesAreCopied) {
    Model m;
    const Output x = m.input({1, 2, 9, 3 * 24 + 4}), w = m.input({24, 8});
    const auto cut = [&](std::int64_t from) {
        return make<v8::Slice>(x, Model::ints({from}), Model::ints({from + 24}), Model::ints({1}), Model::ints({3}));
    };
    const auto device = std::make_shared<LibraryDevice>();  // which refuses such addresses
    const Output scores = make<v0::MatMul>(cut(1), Model::transpose(cut(25), {0, 1, 3, 2}));
    (void)m.run(device, {make<v0::MatMul>(make<v8::Softmax>(scores, -1), cut(49)), make<v0::MatMul>(cut(3), w)}, Type::f16, kHalf);
    EXPECT_EQ(device->attentions.size(), 1U);
    EXPECT_EQ(device->matmuls.size(), 1U);
}

TEST(CudaTransformer, BatchesOfAnySizeAreMultiplied) {
    // Of matrices whose size is no multiple of 16 bytes.
    for (const Type type : {Type::f16, Type::f32}) {
        Model m;
        const Output x = m.input({3, 7, 9}), y = m.input({3, 9, 5});
        const auto device = std::make_shared<LibraryDevice>();
        (void)m.run(device, {make<v0::MatMul>(x, y), make<v0::MatMul>(y, x, true, true)}, type, type == Type::f16 ? 4e-3 : 1e-5);
        EXPECT_EQ(device->matmuls.size(), 2U);
    }
}

TEST(CudaTransformer, OutputsThatAreReshapedNeedNoCopy) {
    Model m;
    const Output x = m.input({4, 6, kWidth}), w = m.input({kWidth, 8});
    const auto device = std::make_shared<LibraryDevice>();
    const Output y = make<v0::MatMul>(x, w), z = Model::reshape(y, {3, 8, 8}), sum = make<v1::ReduceSum>(x, Model::ints({2}), false);
    EXPECT_EQ(m.run(device, {z, sum}, Type::f32, 1e-5).size(), 2U);
    // One place for two outputs is one too few; what other steps read may be an output as well.
    EXPECT_EQ(m.run(device, {z, y, Model::reshape(sum, {24}), make<v0::Relu>(z)}, Type::f32, 1e-5).size(), 4U);
    // A copy: the input, turned and not.
    EXPECT_EQ(m.run(device, {Model::reshape(x, {24, kWidth}), Model::reshape(Model::transpose(y, {1, 0, 2}), {24, 8})}, Type::f32, 1e-5).size(), 3U);
}

TEST(CudaTransformer, WindowsAreCutBeforeTheProduct) {
    Model m;
    const Output x = m.input({3, 4, 6, kWidth});
    const auto device = std::make_shared<LibraryDevice>();
    const Output windows = Model::transpose(Model::reshape(x, {3, 2, 2, 2, 3, kWidth}), {0, 1, 3, 2, 4, 5});
    const Output packed = Model::reshape(m.linear(Model::reshape(windows, {12, 6, kWidth}), kWidth, 3 * kWidth), {12, 6, 3, kHeads, kHead});
    const Output parts = Model::transpose(packed, {2, 0, 3, 1, 4});
    const auto part = [&](std::int64_t k) { return Model::pick(parts, k); };
    const Output scores = make<v0::MatMul>(Model::times(part(0), Model::number(0.3)), Model::transpose(part(1), {0, 1, 3, 2}));
    const Output mixed = make<v0::MatMul>(make<v8::Softmax>(scores, -1), part(2));
    // The input is narrowed and cut into windows; the output is widened.
    EXPECT_EQ(m.run(device, {mixed}, Type::f16, kHalf), (Steps{"kernel", "kernel", "Matmul", "Attention", "kernel"}));
    EXPECT_EQ(device->attentions.front().q_strides, (Dims{6 * 3 * kWidth, kHead, 3 * kWidth, 1}));
}

TEST(CudaTransformer, WeightsAreHeldOnce) {
    // 48 KiB of f32 in three products that become one.
    Model m;
    const Output x = m.input({4, 64});
    ov::OutputVector results;
    for (int k = 0; k < 3; ++k) results.push_back(make<v0::Sigmoid>(m.linear(x, 64, 64, false)));
    constexpr std::int64_t kWeights = 3 * 64 * 64;
    const auto device = std::make_shared<LibraryDevice>();
    for (const Type type : {Type::f32, Type::f16}) {
        for (const auto keep : {Program::Keep::what_runs, Program::Keep::everything}) {
            const Program program(device, m.lowered(results, type), std::make_shared<WeightStore>(device), keep);
            const std::int64_t merged = kWeights * bits(type) / 8, given = keep == Program::Keep::everything ? kWeights * 4 : 0;
            EXPECT_EQ(program.weight_bytes(), merged + given);
            EXPECT_EQ(device->counters().allocated_bytes, merged + given);
        }
        EXPECT_EQ(device->counters().allocated_bytes, 0);
    }
}

TEST(CudaViews, ChainsAreOneChain) {
    Graph graph;
    Builder b(graph);
    const ValueId x = b.input(Type::f32, {5, 4, 24}, "x");
    const auto chain_of = [&](ValueId id) { return view_chain(graph, id, [](ValueId) { return true; }); };
    // Splits what was joined: the middle dimension is two of the source's.
    const ValueId joined = b.transpose(b.reshape(x, {5, 12, 8}), {1, 0, 2});
    ViewChain chain = chain_of(b.reshape(joined, {4, 3, 5, 8}));
    EXPECT_EQ(chain.source, x);
    EXPECT_EQ(chain.factors, (Dims{5, 4, 3, 8}));
    EXPECT_EQ(chain.order, (std::vector<int>{1, 2, 0, 3}));
    EXPECT_EQ(chain.group(2), (std::pair<std::size_t, std::size_t>{2, 3}));
    // There and back.
    EXPECT_TRUE(chain_of(b.transpose(b.reshape(b.transpose(x, {2, 1, 0}), {24, 4, 5}), {2, 1, 0})).in_order());
    // Cuts through a dimension: the chain starts anew.
    const ValueId cut = b.reshape(b.transpose(b.reshape(x, {5, 96}), {1, 0}), {5, 96});
    EXPECT_EQ(chain_of(cut).source, cut);
    EXPECT_EQ(chain_of(b.transpose(cut, {1, 0})).source, cut);
    ViewChain same = ViewChain::of(graph, x);
    EXPECT_FALSE(same.reshape({7, 5}));
    EXPECT_EQ(same, ViewChain::of(graph, x));
    EXPECT_TRUE(same.reshape({1, 20, 1, 24, 1}));
    EXPECT_EQ(same.group(3), (std::pair<std::size_t, std::size_t>{2, 3}));
}

}  // namespace
}  // namespace ai_vmm::cuda::test
