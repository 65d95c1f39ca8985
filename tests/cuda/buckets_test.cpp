// SPDX-License-Identifier: Apache-2.0
/// Batches that run in programs for more rows: what the proof takes and refuses, and that results are those of programs of their own.
#include <gtest/gtest.h>

#include <functional>
#include <random>

#include "cuda/backend_fixture.hpp"
#include "cuda/on_device.hpp"
#include "cuda/trial.hpp"
#include "lower/independent_rows.hpp"

namespace ai_vmm::cuda::test {
namespace {

using namespace ov::op;
using ov::element::f32;
using ov::element::i64;

Output constant(const ov::Shape& shape, unsigned seed) { return std::make_shared<v0::Constant>(spread(f32, shape, -1, 1, seed)); }
Output ints(const std::vector<std::int64_t>& values) { return Trial::ints(values); }
Output scalar(std::int64_t value) { return Trial::scalar(value); }

/// A network of inputs whose first dimension is open.
struct Net {
    std::string name;
    std::vector<std::pair<ov::element::Type, Dims>> inputs;  ///< of one row
    std::function<ov::OutputVector(const ov::OutputVector&)> body;

    /// @param rows  -1: any
    [[nodiscard]] std::shared_ptr<ov::Model> model(std::int64_t rows = -1) const {
        ov::ParameterVector parameters;
        ov::OutputVector seen;
        for (const auto& [type, row] : inputs) {
            std::vector<ov::Dimension> shape(row.begin(), row.end());
            shape.insert(shape.begin(), ov::Dimension(rows));
            parameters.push_back(std::make_shared<v0::Parameter>(type, ov::PartialShape(shape)));
            seen.emplace_back(parameters.back());
        }
        return std::make_shared<ov::Model>(body(seen), parameters);
    }
    [[nodiscard]] std::vector<Dims> shapes(std::int64_t rows) const {
        std::vector<Dims> all;
        for (const auto& input : inputs) {
            all.push_back(input.second);
            all.back().insert(all.back().begin(), rows);
        }
        return all;
    }
    [[nodiscard]] std::vector<Tensor> tensors(std::int64_t rows, unsigned seed) const {
        std::vector<Tensor> all;
        for (const Dims& shape : shapes(rows)) {
            const bool whole = inputs[all.size()].first == i64;
            const ov::Tensor values = spread(inputs[all.size()].first, ov::Shape(shape.begin(), shape.end()), whole ? 0 : -1, whole ? 4 : 1, seed++);
            Tensor made(whole ? ElementType::i64 : ElementType::f32, shape);
            std::memcpy(made.data(), values.data(), made.size_bytes());
            all.push_back(made);
        }
        return all;
    }
    [[nodiscard]] bool proven(std::int64_t rows = 5, std::int64_t bucket = 6) const {
        return independent_rows(*model(), shapes(rows), {rows, bucket, std::vector<bool>(inputs.size(), true)}).has_value();
    }
};

/// A size of the batch as exporters write it.
Output rows_of(const Output& x) { return make<v8::Gather>(make<v3::ShapeOf>(x), ints({0}), scalar(0)); }

Net cnn(bool by_shape) {
    return {by_shape ? "cnn by shape" : "cnn", {{f32, {3, 8, 8}}}, [by_shape](const ov::OutputVector& in) {
                Output y = make<v1::Convolution>(in[0], constant({8, 3, 3, 3}, 1), ov::Strides{1, 1}, ov::CoordinateDiff{1, 1},
                                                 ov::CoordinateDiff{1, 1}, ov::Strides{1, 1});
                y = make<v0::Relu>(make<v1::Add>(y, constant({1, 8, 1, 1}, 2)));
                y = make<v1::MaxPool>(y, ov::Strides{2, 2}, ov::Shape{0, 0}, ov::Shape{0, 0}, ov::Shape{2, 2});
                const Output target = by_shape ? Output(make<v0::Concat>(ov::OutputVector{rows_of(y), ints({-1})}, 0)) : ints({-1, 128});
                y = make<v0::MatMul>(make<v1::Reshape>(y, target, false), constant({128, 10}, 3));
                return ov::OutputVector{make<v8::Softmax>(y, -1)};
            }};
}

/// Attention over six tokens with a mask of the row, merged heads, residuals and normalisations.
Net transformer() {
    return {"transformer", {{f32, {6, 16}}, {i64, {6}}}, [](const ov::OutputVector& in) {
                const auto heads = [&](unsigned seed) {
                    const Output flat = make<v1::Reshape>(in[0], ints({-1, 16}), false);  // tokens of all rows
                    const Output wide = make<v0::MatMul>(flat, constant({16, 16}, seed));
                    const Output split = make<v1::Reshape>(wide, make<v0::Concat>(ov::OutputVector{rows_of(in[0]), ints({6, 2, 8})}, 0), false);
                    return Output(make<v1::Transpose>(split, ints({0, 2, 1, 3})));
                };
                Output mask = make<v0::Convert>(make<v1::Equal>(in[1], scalar(0)), f32);
                mask = make<v1::Multiply>(mask, v0::Constant::create(f32, {}, {-1e4F}));
                mask = make<v0::Unsqueeze>(mask, ints({1, 2}));
                Output y = make<v0::MatMul>(heads(1), heads(2), false, true);
                y = make<v8::Softmax>(make<v1::Add>(make<v1::Multiply>(y, v0::Constant::create(f32, {}, {0.35F})), mask), 3);
                y = make<v1::Transpose>(make<v0::MatMul>(y, heads(3)), ints({0, 2, 1, 3}));
                y = make<v1::Add>(make<v1::Reshape>(y, ints({0, 0, 16}), true), in[0]);
                y = make<v6::MVN>(y, ints({-1}), true, 1e-5F, MVNEpsMode::INSIDE_SQRT);
                const Output first = make<v8::Gather>(y, scalar(0), scalar(1));
                return ov::OutputVector{y, make<v0::Tanh>(first)};
            }};
}

Net embedding() {
    return {"embedding", {{i64, {5}}}, [](const ov::OutputVector& in) {
                const Output rows = make<v8::Gather>(constant({11, 8}, 1), in[0], scalar(0));
                const Output mean = make<v1::ReduceMean>(make<v1::Add>(rows, constant({5, 8}, 2)), ints({1}), false);
                return ov::OutputVector{make<v0::MatMul>(mean, constant({8, 4}, 3)), constant({3}, 4)};
            }};
}

Net recurrent() {
    return {"recurrent", {{f32, {7, 4}}}, [](const ov::OutputVector& in) {
                const Output state =
                    make<v3::Broadcast>(v0::Constant::create(f32, {}, {0.F}), make<v0::Concat>(ov::OutputVector{rows_of(in[0]), ints({1, 8})}, 0));
                const Output lengths = make<v3::Broadcast>(scalar(7), rows_of(in[0]));
                const auto lstm = std::make_shared<v5::LSTMSequence>(in[0], state, state, lengths, constant({1, 32, 4}, 1), constant({1, 32, 8}, 2),
                                                                     constant({1, 32}, 3), 8, RecurrentSequenceDirection::FORWARD);
                return ov::OutputVector{make<v0::Squeeze>(lstm->output(0), ints({1})), lstm->output(1)};
            }};
}

std::vector<Net> good_nets() { return {cnn(false), cnn(true), transformer(), embedding(), recurrent()}; }

std::string programs(const backend::Executable& executable) {
    for (const auto& [name, value] : executable.properties()) {
        if (name == "PROGRAMS") return value;
    }
    return {};
}

void expect_equal(const Tensor& one, const Tensor& other, const std::string& where) {
    ASSERT_EQ(one.shape(), other.shape()) << where;
    const auto a = one.as<float>(), b = other.as<float>();
    for (std::size_t i = 0; i < a.size(); ++i) ASSERT_NEAR(a[i], b[i], 1e-5) << where << ", element " << i;
}

TEST(CudaBuckets, GiveTheResultsOfProgramsOfTheirOwn) {
    for (const Net& net : good_nets()) {
        TwoDevices two;
        const auto executable = two.compile(wrapped(net.model()));
        const auto request = executable->create_request();
        std::vector<Tensor> outputs(net.model()->outputs().size());
        // Up and down again, so that rows of earlier calls lie behind those of later ones.
        for (const std::int64_t rows : {1, 5, 8, 7, 2, 3, 13, 5, 20, 17}) {
            const auto inputs = net.tensors(rows, static_cast<unsigned>(rows));
            const auto alone = two.compile(wrapped(net.model(rows)));
            std::vector<Tensor> expected(outputs.size());
            alone->create_request()->run(inputs, expected);
            request->run(inputs, outputs);
            for (std::size_t k = 0; k < outputs.size(); ++k)
                expect_equal(outputs[k], expected[k], net.name + " with " + std::to_string(rows) + " rows, output " + std::to_string(k));
        }
    }
}

TEST(CudaBuckets, AreFewerThanBatchSizes) {
    for (const Net& net : good_nets()) {
        TwoDevices two;
        const auto executable = two.compile(wrapped(net.model()));
        const auto request = executable->create_request();
        for (std::int64_t rows = 1; rows <= 20; ++rows) {
            std::vector<Tensor> outputs(net.model()->outputs().size());
            request->run(net.tensors(rows, 1), outputs);
        }
        EXPECT_EQ(programs(*executable), "9") << net.name << ": 1, 2, 3, 4, 6, 8, 12, 16 and 24 rows";
    }
}

using BucketsOnDevice = OnDeviceAndHost;

/// The GPU's programs for more rows against the processor's for just those; libraries choose other algorithms for other numbers of rows.
TEST_F(BucketsOnDevice, GiveWhatTheProcessorGives) {
    Backend gpu{[this] {
                    DeviceInfo info;
                    info.routes.push_back({"cuda", "GPU.0", "test", {"f32"}, {}});
                    return std::vector<DeviceEntry>{{info, [this] { return device_; }, 0}};
                },
                "test"};
    for (const Net& net : good_nets()) {
        TwoDevices two;
        const auto executable = gpu.compile(wrapped(net.model()), TwoDevices::config());
        const auto request = executable->create_request();
        std::vector<Tensor> outputs(net.model()->outputs().size());
        for (const std::int64_t rows : {1, 40, 5, 8, 7, 2, 3, 13, 33, 5, 20, 17}) {
            const auto inputs = net.tensors(rows, static_cast<unsigned>(rows));
            std::vector<Tensor> expected(outputs.size());
            two.compile(wrapped(net.model(rows)))->create_request()->run(inputs, expected);
            request->run(inputs, outputs);
            for (std::size_t k = 0; k < outputs.size(); ++k)
                expect_equal(outputs[k], expected[k], net.name + " with " + std::to_string(rows) + " rows, output " + std::to_string(k));
        }
        EXPECT_EQ(programs(*executable), "8") << net.name << ": 1, 2, 3, 6, 8, 16, 24 and 48 rows";
    }
}

TEST(CudaBuckets, LeaveTheTypicalShapesAlone) {
    TwoDevices two;
    backend::CompileConfig config = TwoDevices::config();
    const Net net = cnn(false);
    config.typical_shapes = net.shapes(5);
    const auto executable = two.backend.compile(wrapped(net.model()), config);
    const auto request = executable->create_request();
    std::vector<Tensor> outputs(1);
    request->run(net.tensors(5, 1), outputs);
    EXPECT_EQ(programs(*executable), "1");
    request->run(net.tensors(6, 1), outputs);
    EXPECT_EQ(programs(*executable), "2");
}

TEST(CudaBuckets, AreNotForTensorsOnADevice) {
    TwoDevices two;
    const Net net = cnn(false);
    const auto executable = two.compile(wrapped(net.model()));
    const auto request = executable->create_request();
    std::vector<Tensor> expected(1);
    request->run(net.tensors(5, 1), expected);
    const Tensor there = two.on(0, net.tensors(5, 1)[0]);
    std::vector<Tensor> outputs{Tensor::wanted_in({MemoryKind::cuda, 0})};
    request->run({&there, 1}, outputs);
    EXPECT_EQ(programs(*executable), "2") << "of 6 rows and of 5";
    Tensor here;
    two.backend.copy(outputs[0], here);
    expect_equal(here, expected[0], "on a device");
}

TEST(CudaBuckets, NameTheCallersShapes) {
    TwoDevices two;
    const Net net = transformer();
    const auto request_owner = two.compile(wrapped(net.model()));
    const auto request = request_owner->create_request();
    std::vector<Tensor> inputs = net.tensors(5, 1), outputs(2);
    inputs[0] = Tensor(ElementType::f32, {5, 6, 17});
    try {
        request->run(inputs, outputs);
        FAIL() << "17 features are not 16";
    } catch (const Error& error) {
        EXPECT_EQ(error.code(), ErrorCode::invalid_argument) << error.message();
        EXPECT_NE(error.message().find("5,6,17"), std::string::npos) << error.message();
    }
    inputs = net.tensors(5, 1);
    inputs[1] = net.tensors(4, 1)[1];
    EXPECT_THROW(request->run(inputs, outputs), Error) << "rows of two sizes";
    request->run(net.tensors(5, 1), outputs);
    EXPECT_EQ(outputs[0].shape(), (Shape{5, 6, 16}));
}

TEST(CudaBuckets, DoNotOutgrowTheModel) {
    TwoDevices two;
    const auto x = std::make_shared<v0::Parameter>(f32, ov::PartialShape{ov::Dimension(1, 7), 4});
    const auto executable = two.compile(wrapped(std::make_shared<ov::Model>(ov::OutputVector{make<v0::Relu>(x)}, ov::ParameterVector{x})));
    const auto request = executable->create_request();
    std::vector<Tensor> outputs(1);
    for (const std::int64_t rows : {5, 7, 6}) {
        const Tensor given = ramp({rows, 4}, 1);
        request->run({&given, 1}, outputs);
        expect_equal(outputs[0], given, std::to_string(rows) + " rows");
    }
    EXPECT_EQ(programs(*executable), "2") << "of 6 and of 7 rows";
}

TEST(IndependentRows, AreProven) {
    for (const Net& net : good_nets()) EXPECT_TRUE(net.proven()) << net.name;
    const auto one = [](const std::function<Output(const Output&)>& body) {
        return Net{"", {{f32, {4, 6}}}, [body](const ov::OutputVector& in) { return ov::OutputVector{body(in[0])}; }};
    };
    EXPECT_TRUE(one([](const Output& x) { return make<v0::Concat>(ov::OutputVector{x, x}, 2); }).proven());
    EXPECT_TRUE(one([](const Output& x) { return make<v1::Split>(x, scalar(1), 2)->output(1); }).proven());
    EXPECT_TRUE(one([](const Output& x) { return make<v8::Slice>(x, ints({1}), ints({3}), ints({1}), ints({2})); }).proven());
    EXPECT_TRUE(one([](const Output& x) { return make<v0::Tile>(x, ints({1, 2, 1})); }).proven());
    EXPECT_TRUE(one([](const Output& x) {
                    return make<v1::StridedSlice>(x, ints({0, 1}), ints({0, 0}), ints({1, 1}), std::vector<std::int64_t>{1, 0},
                                                  std::vector<std::int64_t>{1, 0}, std::vector<std::int64_t>{}, std::vector<std::int64_t>{0, 1});
                }).proven());
    EXPECT_TRUE(one([](const Output& x) {  // sequences first and back
                    return make<v1::Transpose>(make<v0::Relu>(make<v1::Transpose>(x, ints({1, 0, 2}))), ints({1, 0, 2}));
                })
                    .proven());
}

TEST(IndependentRows, AreRefusedWhereRowsMeet) {
    const auto refused = [](const std::string& what, const std::function<Output(const Output&)>& body) {
        const Net net{what, {{f32, {4, 6}}}, [&](const ov::OutputVector& in) { return ov::OutputVector{body(in[0])}; }};
        EXPECT_FALSE(net.proven()) << what;
    };
    refused("softmax over rows", [](const Output& x) { return make<v8::Softmax>(x, 0); });
    refused("softmax over rows from the end", [](const Output& x) { return make<v8::Softmax>(x, -3); });
    refused("a sum over rows", [](const Output& x) { return make<v1::ReduceSum>(x, ints({0}), true); });
    refused("less the mean of all", [](const Output& x) { return make<v1::Subtract>(x, make<v1::ReduceMean>(x, ints({0, 1, 2}), true)); });
    refused("a running sum", [](const Output& x) { return make<v0::CumSum>(x, scalar(0)); });
    refused("x times its transpose", [](const Output& x) {
        const Output flat = make<v1::Reshape>(x, ints({-1, 24}), false);
        return make<v0::MatMul>(flat, flat, false, true);
    });
    refused("the transpose times x", [](const Output& x) {
        const Output flat = make<v1::Reshape>(x, ints({-1, 24}), false);
        return make<v0::MatMul>(flat, flat, true, false);
    });
    refused("softmax over tokens of all rows", [](const Output& x) {
        const Output merged = make<v8::Softmax>(make<v1::Reshape>(x, ints({-1, 6}), false), 0);
        return make<v1::Reshape>(merged, ints({-1, 4, 6}), false);
    });
    refused("a reshape that ignores rows", [](const Output& x) {
        return make<v1::Reshape>(make<v8::Softmax>(make<v1::Reshape>(x, ints({4, -1, 6}), false), 2), ints({-1, 4, 6}), false);
    });
    refused("a reversal", [](const Output& x) { return make<v1::Reverse>(x, ints({0}), v1::Reverse::Mode::INDEX); });
    refused("the last row", [](const Output& x) { return make<v8::Gather>(x, ints({-1}), scalar(0)); });
    refused("divided by the number of rows", [](const Output& x) { return make<v1::Divide>(x, make<v0::Convert>(rows_of(x), f32)); });
    refused("all but the first row", [](const Output& x) { return make<v8::Slice>(x, ints({1}), ints({1000}), ints({1}), ints({0})); });
    refused("a row more", [](const Output& x) { return make<v0::Concat>(ov::OutputVector{x, constant({1, 4, 6}, 1)}, 0); });
    refused("random numbers", [](const Output& x) {
        return make<v1::Add>(x,
                             make<v8::RandomUniform>(ints({4, 6}), v0::Constant::create(f32, {}, {0.F}), v0::Constant::create(f32, {}, {1.F}), f32));
    });
    refused("rows behind tokens", [](const Output& x) { return make<v1::Transpose>(x, ints({1, 0, 2})); });
}

/// What the model gives for `values` as its rows.
std::vector<float> evaluate(const ov::Model& model, std::size_t rows, std::vector<float> values) {
    ov::TensorVector outputs(1);
    const ov::TensorVector inputs{ov::Tensor(f32, {rows, 4, 6}, values.data())};
    if (!model.evaluate(outputs, inputs)) throw std::runtime_error("not evaluated");
    const auto* data = outputs[0].data<float>();
    return {data, data + outputs[0].get_size()};
}

/// One random operation upon a value; some mix rows.
Output random_step(const Output& x, const Output& first, std::mt19937& random) {
    const auto pick = [&](int count) { return static_cast<std::int64_t>(random() % static_cast<unsigned>(count)); };
    const auto rank = static_cast<int>(x.get_partial_shape().size());
    switch (pick(13)) {
        case 0: return make<v0::Tanh>(x);
        case 1: return make<v8::Softmax>(x, pick(rank));
        case 2: {
            std::vector<std::int64_t> order(static_cast<std::size_t>(rank));
            std::iota(order.begin(), order.end(), 0);
            std::swap(order[static_cast<std::size_t>(pick(rank))], order[static_cast<std::size_t>(pick(rank))]);
            return make<v1::Transpose>(x, ints(order));
        }
        case 3: return make<v1::Reshape>(x, ints({-1, 6}), false);
        case 4: return make<v1::Reshape>(x, ints({-1, 4, 6}), false);
        case 5: return make<v1::Reshape>(x, ints({4, -1, 6}), false);
        case 6: return make<v1::Reshape>(x, ints({-1, 2, 12}), false);
        case 7: return make<v1::Add>(x, make<v1::ReduceSum>(x, ints({pick(rank)}), true));
        case 8: return make<v0::CumSum>(x, scalar(pick(rank)));
        case 9: return make<v1::Add>(x, first);
        case 10: return make<v0::MatMul>(make<v0::MatMul>(x, x, false, true), x);
        case 11: return make<v1::Multiply>(x, constant({6}, 3));
        default: {
            const Output twice = make<v0::Concat>(ov::OutputVector{x, make<v0::Relu>(x)}, pick(rank));
            return make<v8::Slice>(twice, ints({0}), ints({6}), ints({1}), ints({rank - 1}));
        }
    }
}

TEST(IndependentRows, OfRandomGraphsAgreeWithRowsAlone) {
    int proven = 0, refused = 0;
    for (unsigned seed = 0; seed < 1500; ++seed) {
        std::mt19937 random(seed);
        const auto x = std::make_shared<v0::Parameter>(f32, ov::PartialShape{-1, 4, 6});
        std::shared_ptr<ov::Model> model;
        try {
            Output y = x;
            for (unsigned step = 0; step < 2 + seed % 4; ++step) y = random_step(y, x, random);
            model = std::make_shared<ov::Model>(ov::OutputVector{y}, ov::ParameterVector{x});
        } catch (const ov::Exception&) {  // shapes that don't fit
            continue;
        }
        const auto by_rows = independent_rows(*model, {{3, 4, 6}}, {3, 4, {true}});
        if (!by_rows) {
            ++refused;
            continue;
        }
        ++proven;
        ASSERT_TRUE(by_rows->front());
        std::vector<float> values(std::size_t{4} * 24);
        for (float& value : values) value = static_cast<float>(random() % 1000) / 500 - 1;
        const std::vector<float> four = evaluate(*model, 4, values);
        const std::size_t row = four.size() / 4;
        const std::vector<float> three = evaluate(*model, 3, {values.begin(), values.begin() + 72});
        ASSERT_EQ(three.size(), 3 * row) << seed;
        for (std::size_t i = 0; i < three.size(); ++i) ASSERT_NEAR(three[i], four[i], 1e-4 * (1 + std::abs(four[i]))) << seed;
        for (std::size_t r = 0; r < 4; ++r) {
            const auto from = values.begin() + static_cast<std::ptrdiff_t>(r * 24);
            const std::vector<float> alone = evaluate(*model, 1, {from, from + 24});
            ASSERT_EQ(alone.size(), row) << seed;
            for (std::size_t i = 0; i < row; ++i) ASSERT_NEAR(alone[i], four[r * row + i], 1e-4 * (1 + std::abs(alone[i]))) << seed;
        }
    }
    EXPECT_GT(proven, 100);
    EXPECT_GT(refused, 100);
}

}  // namespace
}  // namespace ai_vmm::cuda::test
