// SPDX-License-Identifier: Apache-2.0
#include "graph/file_ops.hpp"

#include <flatbuffers/flatbuffers.h>
#include <gtest/gtest.h>

#include <openvino/op/convert.hpp>
#include <openvino/op/equal.hpp>
#include <openvino/op/if.hpp>
#include <openvino/op/not_equal.hpp>
#include <openvino/op/result.hpp>
#include <protozero/pbf_writer.hpp>
#include <random>

#include "base/file.hpp"
#include "graph/compared_values.hpp"
#include "unit/graph/analyser_helpers.hpp"

namespace ai_vmm::graph {
namespace {

using protozero::pbf_writer;

std::string tensor(const std::string& name, int type, const std::vector<std::int64_t>& shape) {
    std::string bytes;
    pbf_writer writer(bytes);
    writer.add_packed_int64(1, shape.begin(), shape.end());
    writer.add_int32(2, type);
    writer.add_string(8, name);
    return bytes;
}

std::string value_info(const std::string& name, int type, const std::vector<std::int64_t>& shape) {
    std::string bytes;
    pbf_writer writer(bytes);
    writer.add_string(1, name);
    pbf_writer type_proto(writer, 2);
    pbf_writer tensor_type(type_proto, 1);
    tensor_type.add_int32(1, type);
    if (shape.empty()) {  // a writer drops messages without fields
        tensor_type.add_message(2, "", 0);
        return bytes;
    }
    pbf_writer shape_proto(tensor_type, 2);
    for (const std::int64_t size : shape) {
        pbf_writer dimension(shape_proto, 1);
        if (size >= 0) {
            dimension.add_int64(1, size);
        } else {
            dimension.add_string(2, "n");
        }
    }
    return bytes;
}

std::string node(const std::string& type, const std::vector<std::string>& inputs, const std::vector<std::string>& outputs,
                 const std::string& body = {}) {
    std::string bytes;
    pbf_writer writer(bytes);
    for (const std::string& name : inputs) writer.add_string(1, name);
    for (const std::string& name : outputs) writer.add_string(2, name);
    writer.add_string(4, type);
    if (!body.empty()) {
        pbf_writer attribute(writer, 5);
        attribute.add_string(1, "body");
        attribute.add_message(6, body);
    }
    return bytes;
}

struct Graph {
    std::string bytes;
    Graph& add(int field, const std::string& message) {
        pbf_writer(bytes).add_message(static_cast<protozero::pbf_tag_type>(field), message);
        return *this;
    }
    [[nodiscard]] std::string model() const {
        std::string content;
        pbf_writer writer(content);
        writer.add_int64(1, 8);
        writer.add_message(7, bytes);
        return content;
    }
};

std::string sample_onnx() {
    Graph body;
    body.add(1, node("LSTM", {"x", "w", "r"}, {"y"})).add(5, tensor("w", 1, {1, 40, 10})).add(5, tensor("r", 1, {1, 40, 10}));
    return Graph()
        .add(1, node("Conv", {"in", "k"}, {"c"}))
        .add(1, node("Relu", {"c"}, {"d"}))
        .add(1, node("If", {"cond"}, {"out"}, body.bytes))
        .add(5, tensor("k", 1, {8, 1, 3, 3}))
        .add(5, tensor("axes", 7, {2}))  // int64: no parameters
        .add(11, value_info("in", 1, {-1, 1, 49, 40}))
        .add(11, value_info("k", 1, {8, 1, 3, 3}))  // old files list initializers as inputs
        .add(12, value_info("out", 1, {-1, 4}))
        .model();
}

TEST(OnnxOps, ListsOperatorsConstantsAndPorts) {
    const auto ops = read_onnx_ops(sample_onnx());
    ASSERT_TRUE(ops);
    EXPECT_EQ(ops->operators, (std::map<std::string, int>{{"Conv", 1}, {"If", 1}, {"LSTM", 1}, {"Relu", 1}}));
    EXPECT_EQ(ops->parameters, 72 + 400 + 400);
    EXPECT_EQ(ops->parameter_bytes, 4 * 872);
    ASSERT_EQ(ops->inputs.size(), 1u);
    EXPECT_EQ(ops->inputs[0], (TensorInfo{"in", ElementType::f32, {-1, 1, 49, 40}}));
    ASSERT_EQ(ops->outputs.size(), 1u);
    EXPECT_EQ(ops->features.recurrent_ops, 1);
    ASSERT_EQ(ops->features.planes.size(), 1u);
    EXPECT_EQ(ops->features.planes[0], Plane::time_frequency);
}

std::string integer(const std::string& name, int type, std::int64_t value, bool raw) {
    std::string bytes = tensor(name, type, {});
    pbf_writer writer(bytes);
    const auto narrow = static_cast<std::int32_t>(value);
    if (raw && type == 7) writer.add_bytes(9, reinterpret_cast<const char*>(&value), sizeof value);
    if (raw && type == 6) writer.add_bytes(9, reinterpret_cast<const char*>(&narrow), sizeof narrow);
    if (!raw) writer.add_packed_int64(type == 7 ? 7 : 5, &value, &value + 1);
    return bytes;
}

TEST(OnnxOps, TellsWhatSwitchesAreComparedWith) {
    Graph body;
    body.add(1, node("Equal", {"last", "as_i32"}, {"e"})).add(5, integer("last", 6, 5, true));
    const auto ops = read_onnx_ops(Graph()
                                       .add(1, node("Equal", {"sr", "rate"}, {"a"}))
                                       .add(1, node("Cast", {"sr"}, {"as_i32"}))
                                       .add(1, node("Equal", {"as_i32", "other"}, {"b"}))
                                       .add(1, node("Equal", {"ids", "rate"}, {"c"}))  // data, no switch
                                       .add(1, node("Equal", {"sr", "two"}, {"d"}))    // more than one value
                                       .add(1, node("Equal", {"sr", "rate"}, {"f"}))   // the same again
                                       .add(1, node("If", {"a"}, {"out"}, body.bytes))
                                       .add(5, integer("rate", 7, 16000, false))
                                       .add(5, integer("other", 6, -8000, false))
                                       .add(5, tensor("two", 7, {2}))
                                       .add(11, value_info("sr", 7, {}))
                                       .add(11, value_info("ids", 7, {-1, 16}))
                                       .add(12, value_info("out", 1, {-1, 4}))
                                       .model());
    ASSERT_TRUE(ops);
    EXPECT_EQ(ops->compared_values, (ComparedValues{{"sr", {16000, -8000, 5}}}));
}

TEST(ComparedValues, OfAGraphAndItsBodies) {
    namespace op = ov::op;
    const auto constant = [](std::int64_t value) { return op::v0::Constant::create(ov::element::i64, {}, {value}); };
    const auto sr = input("sr", ov::PartialShape{}, ov::element::i64);
    const auto ids = input("ids", ov::PartialShape{-1, 4}, ov::element::i64);
    const auto branch = [&](bool compares) {
        const auto inner = std::make_shared<op::v0::Parameter>(ov::element::i64, ov::Shape{});
        const std::shared_ptr<ov::Node> value = compares ? std::shared_ptr<ov::Node>(std::make_shared<op::v1::NotEqual>(constant(8000), inner))
                                                         : std::shared_ptr<ov::Node>(std::make_shared<op::v0::Convert>(inner, ov::element::boolean));
        return std::make_shared<ov::Model>(ov::ResultVector{std::make_shared<op::v0::Result>(value)}, ov::ParameterVector{inner});
    };
    const auto choice = std::make_shared<op::v8::If>(std::make_shared<op::v1::Equal>(sr, constant(16000)));
    const auto then_body = branch(false);
    const auto else_body = branch(true);
    choice->set_then_body(then_body);
    choice->set_else_body(else_body);
    choice->set_input(sr, then_body->get_parameters()[0], else_body->get_parameters()[0]);
    const auto chosen = choice->set_output(then_body->get_results()[0], else_body->get_results()[0]);
    const auto padding = std::make_shared<op::v1::Equal>(ids, constant(0));
    const backend::Model model = as_model(std::make_shared<ov::Model>(ov::OutputVector{chosen, padding}, ov::ParameterVector{sr, ids}));
    EXPECT_EQ(compared_values(model), (ComparedValues{{"sr", {16000, 8000}}}));
}

TEST(OnnxOps, NestingHasAnEnd) {
    std::string graph = Graph().add(1, node("Relu", {"x"}, {"y"})).bytes;
    for (int depth = 0; depth < 200; ++depth) graph = Graph().add(1, node("If", {"c"}, {"y"}, graph)).bytes;
    const auto ops = read_onnx_ops(Graph{graph}.model());
    ASSERT_TRUE(ops);
    EXPECT_LT(ops->operators.at("If"), 64);
    EXPECT_FALSE(ops->operators.contains("Relu"));
}

TEST(OnnxOps, LiesAboutSizesAreNotBelieved) {
    const auto ops = read_onnx_ops(Graph().add(5, tensor("w", 1, {1LL << 40, 1LL << 40})).add(5, tensor("v", 1, {-5, 3})).model());
    ASSERT_TRUE(ops);
    EXPECT_EQ(ops->parameters, 0);
}

/// A TFLite file with one CONV_2D and one custom operator, put together field by field.
std::string sample_tflite() {
    flatbuffers::FlatBufferBuilder builder;
    using Offset = flatbuffers::Offset<void>;
    const auto table = [&](const auto& fill) {
        const auto start = builder.StartTable();
        fill();
        return Offset(builder.EndTable(start));
    };
    const auto field = [](int index) { return flatbuffers::FieldIndexToOffset(static_cast<flatbuffers::voffset_t>(index)); };
    const auto custom = builder.CreateString("SignalWindow");
    const auto conv_code = table([&] { builder.AddElement<std::int32_t>(field(3), 3, 0); });
    const auto custom_code = table([&] {
        builder.AddElement<std::int32_t>(field(3), 32, 0);
        builder.AddOffset(field(1), custom);
    });
    const auto codes = builder.CreateVector(std::vector<Offset>{conv_code, custom_code});
    const auto data = builder.CreateVector(std::vector<std::uint8_t>(8 * 9 * 4));
    const auto empty = table([] {});
    const auto filled = table([&] { builder.AddOffset(field(0), data); });
    const auto buffers = builder.CreateVector(std::vector<Offset>{empty, filled});
    const auto make_tensor = [&](const std::vector<std::int32_t>& shape, const std::string& name, std::uint32_t buffer) {
        const auto shape_offset = builder.CreateVector(shape);
        const auto name_offset = builder.CreateString(name);
        return table([&] {
            builder.AddOffset(field(0), shape_offset);
            builder.AddElement<std::uint32_t>(field(2), buffer, 0);
            builder.AddOffset(field(3), name_offset);
        });
    };
    std::vector<Offset> tensor_offsets{make_tensor({1, 49, 40, 1}, "in", 0), make_tensor({8, 3, 3, 1}, "kernel", 1),
                                       make_tensor({1, 49, 40, 8}, "out", 0)};
    const auto tensors = builder.CreateVector(tensor_offsets);
    const auto make_operator = [&](std::uint32_t code, const std::vector<std::int32_t>& in, const std::vector<std::int32_t>& out) {
        const auto in_offset = builder.CreateVector(in);
        const auto out_offset = builder.CreateVector(out);
        return table([&] {
            builder.AddElement<std::uint32_t>(field(0), code, 0);
            builder.AddOffset(field(1), in_offset);
            builder.AddOffset(field(2), out_offset);
        });
    };
    const auto operators = builder.CreateVector(std::vector<Offset>{make_operator(0, {0, 1, -1}, {2}), make_operator(1, {2}, {2})});
    const auto inputs = builder.CreateVector(std::vector<std::int32_t>{0});
    const auto outputs = builder.CreateVector(std::vector<std::int32_t>{2, 99});  // 99: out of range, left out
    const auto graph = table([&] {
        builder.AddOffset(field(0), tensors);
        builder.AddOffset(field(1), inputs);
        builder.AddOffset(field(2), outputs);
        builder.AddOffset(field(3), operators);
    });
    const auto graphs = builder.CreateVector(std::vector<Offset>{graph});
    const auto root = table([&] {
        builder.AddElement<std::uint32_t>(field(0), 3, 0);
        builder.AddOffset(field(1), codes);
        builder.AddOffset(field(2), graphs);
        builder.AddOffset(field(4), buffers);
    });
    builder.Finish(root, "TFL3");
    return std::string(reinterpret_cast<const char*>(builder.GetBufferPointer()), builder.GetSize());
}

TEST(TfliteOps, ListsOperatorsConstantsAndPorts) {
    const auto ops = read_tflite_ops(sample_tflite());
    ASSERT_TRUE(ops);
    EXPECT_EQ(ops->operators, (std::map<std::string, int>{{"CONV_2D", 1}, {"SignalWindow", 1}}));
    EXPECT_EQ(ops->parameters, 72);
    EXPECT_EQ(ops->parameter_bytes, 288);
    ASSERT_EQ(ops->inputs.size(), 1u);
    EXPECT_EQ(ops->inputs[0], (TensorInfo{"in", ElementType::f32, {1, 49, 40, 1}}));
    ASSERT_EQ(ops->outputs.size(), 1u);
    EXPECT_EQ(ops->outputs[0].name, "out");
    EXPECT_EQ(ops->features.spectral_ops, 1);
    EXPECT_EQ(ops->features.planes, (std::vector<Plane>{Plane::time_frequency}));
}

TEST(FileOps, OtherContentIsNothing) {
    for (const std::string& content :
         {std::string(), std::string("TFL3"), std::string("\x08\x00\x00\x00TFL3", 8), std::string(100, '\xff'), std::string("hello, world")}) {
        EXPECT_FALSE(read_tflite_ops(content));
        EXPECT_FALSE(read_onnx_ops(content));
    }
}

TEST(FileOps, DamageAnywhereIsSurvived) {
    std::mt19937 random(3);
    for (const std::string& whole : {sample_onnx(), sample_tflite()}) {
        for (std::size_t length = 0; length < whole.size(); ++length) {
            static_cast<void>(read_onnx_ops(std::string_view(whole).substr(0, length)));
            static_cast<void>(read_tflite_ops(std::string_view(whole).substr(0, length)));
        }
        for (int round = 0; round < 20000; ++round) {
            std::string damaged = whole;
            for (unsigned flips = 1 + random() % 4; flips > 0; --flips) damaged[random() % damaged.size()] = static_cast<char>(random());
            static_cast<void>(read_onnx_ops(damaged));
            static_cast<void>(read_tflite_ops(damaged));
        }
    }
}

}  // namespace
}  // namespace ai_vmm::graph
