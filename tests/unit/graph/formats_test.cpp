// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <fstream>
#include <functional>
#include <openvino/core/model.hpp>
#include <openvino/op/add.hpp>
#include <openvino/op/constant.hpp>
#include <openvino/op/parameter.hpp>
#include <openvino/op/relu.hpp>
#include <openvino/op/result.hpp>
#include <openvino/op/split.hpp>
#include <openvino/pass/serialize.hpp>
#include <random>
#include <sstream>

#include "graph/bytes.hpp"
#include "graph/formats/onnx_file.hpp"
#include "graph/openvino_import.hpp"
#include "support.hpp"

namespace ai_vmm::graph::testing {
namespace {

backend::Model read(const std::string& bytes) { return read_model(locate(ModelSource::from_bytes(bytes))); }

std::vector<std::string> names(const std::vector<TensorInfo>& infos) {
    std::vector<std::string> result;
    for (const TensorInfo& info : infos) result.push_back(info.name);
    return result;
}
using Names = std::vector<std::string>;

/// Every index is -1 (inputs only) or a port of its own; without a graph all are -1.
void expect_consistent(const backend::Model& model) {
    ASSERT_EQ(model.graph_inputs.size(), model.inputs.size());
    ASSERT_EQ(model.graph_outputs.size(), model.outputs.size());
    if (!model.graph) {
        EXPECT_FALSE(model.graph_refusal.empty());
        for (const int index : model.graph_inputs) EXPECT_EQ(index, -1);
        for (const int index : model.graph_outputs) EXPECT_EQ(index, -1);
        return;
    }
    std::vector<bool> taken(model.graph->inputs().size());
    for (const int index : model.graph_inputs) {
        if (index < 0) continue;
        ASSERT_LT(static_cast<std::size_t>(index), taken.size());
        EXPECT_FALSE(taken[static_cast<std::size_t>(index)]) << "one port for two inputs";
        taken[static_cast<std::size_t>(index)] = true;
    }
    EXPECT_EQ(std::ranges::count(taken, false), 0) << "an input of the graph that nothing feeds";
    for (const int index : model.graph_outputs) {
        EXPECT_GE(index, 0);
        EXPECT_LT(static_cast<std::size_t>(index), model.graph->outputs().size());
    }
}

// --- ONNX --------------------------------------------------------------------------------------------------------------------------------

TEST(Onnx, KeepsNamesOrderTypesAndShapes) {
    const auto model = read(onnx_model({.nodes = {onnx_node("Add", {"b", "a"}, {"z"}), onnx_node("Relu", {"z"}, {"c"})},
                                        .initializers = {},
                                        .inputs = {onnx_value("b", 1, Dims{-1, 2}), onnx_value("a", 1, std::nullopt)},
                                        .outputs = {onnx_value("z", 1, Dims{-1, 2}), onnx_value("c", 0, std::nullopt)}}));
    EXPECT_EQ(names(model.inputs), (Names{"b", "a"}));
    EXPECT_EQ(names(model.outputs), (Names{"z", "c"}));
    EXPECT_EQ(model.inputs[0].shape, (Shape{-1, 2}));
    EXPECT_TRUE(model.inputs[0].rank_known);
    EXPECT_FALSE(model.inputs[1].rank_known);
    ASSERT_NE(model.graph, nullptr) << model.graph_refusal;
    EXPECT_EQ(model.graph_inputs, (std::vector<int>{0, 1}));
    EXPECT_EQ(model.graph_outputs, (std::vector<int>{0, 1}));
    expect_consistent(model);
}

TEST(Onnx, TakesFromTheGraphWhatTheFileLeavesOpen) {
    const auto model = read(onnx_model({.nodes = {onnx_node("Relu", {"x"}, {"y"})},
                                        .initializers = {},
                                        .inputs = {onnx_value("x", 1, Dims{3})},
                                        .outputs = {onnx_value("y", 0, std::nullopt)}}));
    ASSERT_NE(model.graph, nullptr) << model.graph_refusal;
    EXPECT_EQ(model.outputs[0].type, ElementType::f32);
    EXPECT_TRUE(model.outputs[0].rank_known);
    EXPECT_EQ(model.outputs[0].shape, (Shape{3}));
}

TEST(Onnx, InitialisersMakeInputsOptional) {
    const auto model = read(onnx_model({.nodes = {onnx_node("Add", {"x", "b"}, {"y"})},
                                        .initializers = {onnx_tensor("b", {2}, {1, 2})},
                                        .inputs = {onnx_value("b", 1, Dims{2}), onnx_value("x", 1, Dims{2})},
                                        .outputs = {onnx_value("y", 1, Dims{2})}}));
    EXPECT_EQ(names(model.inputs), (Names{"b", "x"}));
    EXPECT_TRUE(model.inputs[0].optional);
    EXPECT_FALSE(model.inputs[1].optional);
    ASSERT_NE(model.graph, nullptr) << model.graph_refusal;
    EXPECT_EQ(model.graph_inputs, (std::vector<int>{-1, 0}));
}

TEST(Onnx, OutputsMayRepeatAndBeInputs) {
    const auto model = read(onnx_model({.nodes = {onnx_node("Relu", {"x"}, {"y"})},
                                        .initializers = {},
                                        .inputs = {onnx_value("x", 1, Dims{2})},
                                        .outputs = {onnx_value("y", 1, Dims{2}), onnx_value("x", 1, Dims{2}), onnx_value("y", 1, Dims{2})}}));
    EXPECT_EQ(names(model.outputs), (Names{"y", "x", "y"}));
    expect_consistent(model);
    if (model.graph) {
        const auto source = [&](std::size_t i) {
            return model.graph->outputs()[static_cast<std::size_t>(model.graph_outputs[i])].get_node()->get_input_node_ptr(0)->get_type_name();
        };
        EXPECT_STREQ(source(0), "Relu");
        EXPECT_STREQ(source(1), "Parameter");
        EXPECT_STREQ(source(2), "Relu");
    }
}

TEST(Onnx, InputsThatTheReaderDropsStay) {
    // OpenVINO folds axes of known size 0 ("all") into the operation.
    const auto model = read(onnx_model({.nodes = {onnx_node("ReduceSum", {"x", "axes"}, {"y"})},
                                        .initializers = {},
                                        .inputs = {onnx_value("axes", 7, Dims{0}), onnx_value("x", 1, Dims{2, 3})},
                                        .outputs = {onnx_value("y", 1, Dims{1, 1})}},
                                       13));
    ASSERT_NE(model.graph, nullptr) << model.graph_refusal;
    EXPECT_EQ(names(model.inputs), (Names{"axes", "x"}));
    EXPECT_EQ(model.inputs[0].type, ElementType::i64);
    EXPECT_EQ(model.graph_inputs, (std::vector<int>{-1, 0}));
}

TEST(Onnx, TypesThatOpenVinoLacks) {
    const auto model = read(onnx_model({.nodes = {onnx_node("Identity", {"x"}, {"y"})},
                                        .initializers = {},
                                        .inputs = {onnx_value("x", 14, Dims{2})},
                                        .outputs = {onnx_value("y", 14, Dims{2})}}));
    EXPECT_EQ(model.inputs[0].type, ElementType::complex64);
    expect_consistent(model);
}

TEST(Onnx, RefusalNamesTheOperation) {
    const auto model = read(onnx_model({.nodes = {onnx_node("Frobnicate", {"x"}, {"y"}, "test.domain")},
                                        .initializers = {},
                                        .inputs = {onnx_value("x", 1, Dims{2})},
                                        .outputs = {onnx_value("y", 1, Dims{2})}}));
    EXPECT_EQ(model.graph, nullptr);
    EXPECT_NE(model.graph_refusal.find("Frobnicate"), std::string::npos) << model.graph_refusal;
    EXPECT_EQ(model.graph_refusal.find(".cpp"), std::string::npos) << model.graph_refusal;
    EXPECT_EQ(names(model.outputs), Names{"y"});
}

TEST(Onnx, SequencesAreRefused) {
    const std::string sequence = message([](auto& value) {
        value.add_string(1, "s");
        value.add_message(2, message([](auto& type) { type.add_message(4, std::string()); }));
    });
    EXPECT_ERROR(
        error_reading(ModelSource::from_bytes(onnx_model(
            {.nodes = {onnx_node("Identity", {"s"}, {"y"})}, .initializers = {}, .inputs = {sequence}, .outputs = {onnx_value("y", 1, Dims{2})}}))),
        ErrorCode::unimplemented, "'s' is a sequence");
}

TEST(Onnx, WhatOpenVinoPassesOverIsKnown) {
    struct Attribute {
        std::string name;
        std::int64_t number = 0;
        std::string text;
    };
    const auto misread = [](std::string_view type, const std::vector<Attribute>& attributes, std::int64_t output_type = 1) {
        const std::string node = message([&](auto& n) {
            n.add_string(1, "x");
            n.add_string(2, "y");
            n.add_string(4, std::string(type));
            for (const Attribute& attribute : attributes) {
                n.add_message(5, message([&](auto& a) {
                                  a.add_string(1, attribute.name);
                                  a.add_int64(3, attribute.number);
                                  a.add_string(4, attribute.text);
                              }));
            }
        });
        return parse_onnx(
                   onnx_model(
                       {.nodes = {node}, .initializers = {}, .inputs = {}, .outputs = {onnx_value("y", static_cast<int>(output_type), Dims{2})}}))
            .misread;
    };
    EXPECT_EQ(misread("Resize", {}), Names{});
    EXPECT_EQ(misread("Resize", {{"antialias", 0, ""}, {"keep_aspect_ratio_policy", 0, "stretch"}}), Names{});
    EXPECT_EQ(misread("Resize", {{"antialias", 1, ""}}), Names{"antialias of Resize"});
    EXPECT_EQ(misread("Resize", {{"keep_aspect_ratio_policy", 0, "not_larger"}}), Names{"keep_aspect_ratio_policy of Resize"});
    EXPECT_EQ(misread("Cast", {{"to", 1, ""}}), Names{});
    EXPECT_EQ(misread("Cast", {{"to", 17, ""}}), Names{"saturation of Cast to 8-bit floats"});
    EXPECT_EQ(misread("Cast", {{"to", 19, ""}, {"saturate", 0, ""}}), Names{});
    EXPECT_EQ(misread("CastLike", {}), Names{});
    EXPECT_EQ(misread("CastLike", {}, 19), Names{"saturation of CastLike to 8-bit floats"});
    EXPECT_EQ(misread("CastLike", {{"saturate", 0, ""}}, 19), Names{});
}

TEST(Onnx, AFileThatOpenVinoDoesNotSurviveIsLeftToOthers) {
    // A convolution without weights: OpenVINO's reader takes them without looking whether there are any.
    const std::string node = message([](auto& n) {
        n.add_string(1, "x");
        n.add_string(2, "y");
        n.add_string(4, "Conv");
    });
    const backend::Model model = read(onnx_model(
        {.nodes = {node}, .initializers = {}, .inputs = {onnx_value("x", 1, Dims{1, 1, 8, 8})}, .outputs = {onnx_value("y", 1, Dims{1})}}));
    EXPECT_EQ(model.graph, nullptr);
    EXPECT_NE(model.graph_refusal.find("does not survive the file"), std::string::npos) << model.graph_refusal;
    EXPECT_EQ(names(model.inputs), Names{"x"});
    expect_consistent(model);
}

TEST(Onnx, CyclesAreRefused) {
    const auto node = [](std::string_view from, std::string_view to) {
        return message([&](auto& n) {
            n.add_string(1, std::string(from));
            n.add_string(2, std::string(to));
            n.add_string(4, "Relu");
        });
    };
    const auto model = [&](const std::vector<std::pair<std::string_view, std::string_view>>& edges) {
        return message([&](auto& m) {
            m.add_int64(1, 8);
            m.add_message(7, message([&](auto& graph) {
                              for (const auto& [from, to] : edges) graph.add_message(1, node(from, to));
                          }));
        });
    };
    EXPECT_ERROR(error_of([&] {
                     static_cast<void>(parse_onnx(model({{"x", "y"}, {"a", "a"}})));
                 }),
                 ErrorCode::invalid_argument, "'a' depends on itself");
    EXPECT_ERROR(error_of([&] { static_cast<void>(parse_onnx(model({{"b", "a"}, {"a", "b"}}))); }), ErrorCode::invalid_argument, "cycle");
    // Out of order is no cycle: engines sort.
    EXPECT_FALSE(error_of([&] { static_cast<void>(parse_onnx(model({{"y", "z"}, {"x", "y"}}))); }));
}

TEST(Onnx, SkimmingAFileFindsWhatReadingAllOfItFinds) {
    // Large tensors in the graph, in attributes and in a graph within one, with values of every kind that the schema has for them.
    const auto tensor = [](std::string_view name, int field, std::size_t size, bool external) {
        return message([&](auto& t) {
            t.add_int64(1, static_cast<std::int64_t>(size));
            t.add_string(static_cast<protozero::pbf_tag_type>(field), std::string(size, '\x01'));
            t.add_string(8, std::string(name));
            if (!external) return;
            t.add_message(13, message([](auto& entry) {
                              entry.add_string(1, "location");
                              entry.add_string(2, "data.bin");
                          }));
            t.add_int64(14, 1);
        });
    };
    const auto node = [&](std::string_view output, const std::string& attribute) {
        return message([&](auto& n) {
            n.add_string(2, std::string(output));
            n.add_string(4, "Constant");
            n.add_message(5, attribute);
        });
    };
    const std::string inner = message([&](auto& g) { g.add_message(5, tensor("inner", 9, 300'000, true)); });
    const std::string bytes = message([&](auto& model) {
        model.add_int64(1, 8);
        model.add_message(7, message([&](auto& g) {
                              for (const int field : {4, 5, 6, 7, 9, 10, 11})
                                  g.add_message(5, tensor("w" + std::to_string(field), field, 200'000, field == 10));
                              g.add_message(1, node("a", message([&](auto& a) { a.add_message(5, tensor("value", 9, 500'000, true)); })));
                              g.add_message(1, node("b", message([&](auto& a) { a.add_message(6, inner); })));
                              g.add_message(12, onnx_value("y", 1, Dims{2}));
                          }));
    });
    const base::TemporaryDirectory folder("ai_vmm_skim");
    const auto told = [](const std::function<OnnxFile()>& read) {
        try {
            const OnnxFile file = read();
            std::string text;
            for (const auto& one : file.external) text += one.tensor + " in " + one.location + "\n";
            for (const auto& port : file.outputs) text += port.name + " of rank " + std::to_string(port.shape.size()) + "\n";
            return text;
        } catch (const Error& error) {
            return std::string(error.what());
        }
    };
    const auto compare = [&](const std::string& content) {
        const auto path = folder.path() / "model.onnx";
        std::ofstream(path, std::ios::binary).write(content.data(), static_cast<std::streamsize>(content.size()));
        const std::string whole = told([&] { return parse_onnx(content); });
        EXPECT_EQ(told([&] { return skim_onnx(path); }), whole);
        return whole;
    };
    EXPECT_EQ(compare(bytes), "w10 in data.bin\nvalue in data.bin\ninner in data.bin\ny of rank 1\n");
    compare("");
    std::minstd_rand random(7);
    for (int i = 0; i < 300; ++i) {  // truncated anywhere, and damaged where the structure is
        std::string damaged = bytes;
        if (i % 3 == 0) {
            damaged.resize(random() % bytes.size());
        } else {
            std::size_t at = random() % bytes.size();
            while (damaged[at] == '\x01') at = (at + 1) % damaged.size();
            damaged[at] = static_cast<char>(random());
        }
        compare(damaged);
    }
}

TEST(Onnx, MalformedStructures) {
    EXPECT_ERROR(error_reading(ModelSource::from_bytes(onnx_model({}))), ErrorCode::invalid_argument, "no outputs");
    const std::string no_graph = message([](auto& model) {
        model.add_int64(1, 8);
        model.add_message(8, message([](auto& o) { o.add_int64(2, 17); }));
    });
    EXPECT_ERROR(error_reading(ModelSource::from_bytes(no_graph)), ErrorCode::invalid_argument, "no graph");
    EXPECT_ERROR(error_of([] { static_cast<void>(parse_onnx(message([](auto& model) { model.add_int64(7, 0); }))); }), ErrorCode::invalid_argument,
                 "another wire type");
    // Graphs within attributes within nodes, deeper than any real model.
    std::string graph;
    for (int depth = 0; depth < 500; ++depth) {
        const std::string node = message([&](auto& n) {
            n.add_string(2, "o");
            n.add_string(4, "If");
            n.add_message(5, message([&](auto& attribute) {
                              attribute.add_string(1, "then_branch");
                              attribute.add_message(6, graph);
                          }));
        });
        graph = message([&](auto& g) { g.add_message(1, node); });
    }
    const std::string deep = message([&](auto& model) {
        model.add_int64(1, 8);
        model.add_message(7, graph);
    });
    EXPECT_ERROR(error_reading(ModelSource::from_bytes(deep)), ErrorCode::invalid_argument, "too deeply");
}

// --- OpenVINO IR -------------------------------------------------------------------------------------------------------------------------

std::pair<std::string, std::string> ir_model() {
    const auto second = std::make_shared<ov::op::v0::Parameter>(ov::element::f32, ov::PartialShape{-1, 4});
    second->set_friendly_name("second");
    second->output(0).set_names({"second"});
    const auto first = std::make_shared<ov::op::v0::Parameter>(ov::element::f16, ov::PartialShape::dynamic());
    first->set_friendly_name("first");
    const auto bias = ov::op::v0::Constant::create(ov::element::f32, {4}, {1, 2, 3, 4});
    const auto sum = std::make_shared<ov::op::v1::Add>(second, bias);
    const auto split = std::make_shared<ov::op::v1::Split>(sum, ov::op::v0::Constant::create(ov::element::i64, {}, {1}), 2);
    split->set_friendly_name("halves");
    const auto relu = std::make_shared<ov::op::v0::Relu>(first);
    relu->set_friendly_name("relu");
    relu->output(0).set_names({"z", "activated"});
    auto model =
        std::make_shared<ov::Model>(ov::OutputVector{relu->output(0), split->output(1), split->output(0)}, ov::ParameterVector{second, first}, "m");
    std::stringstream xml, bin;
    ov::pass::Serialize(xml, bin).run_on_model(model);
    return {xml.str(), bin.str()};
}

TEST(Ir, KeepsTheOrderAndNames) {
    const base::TemporaryDirectory folder;
    const auto [xml, bin] = ir_model();
    write(folder.path() / "m.bin", bin);
    const auto model = read_model(locate(write(folder.path() / "m.xml", xml)));
    EXPECT_EQ(names(model.inputs), (Names{"second", "first"}));
    EXPECT_EQ(names(model.outputs), (Names{"activated", "halves.1", "halves.0"}));
    EXPECT_EQ(model.inputs[0].shape, (Shape{-1, 4}));
    EXPECT_FALSE(model.inputs[1].rank_known);
    EXPECT_EQ(model.inputs[1].type, ElementType::f16);
    expect_consistent(model);
    // Nothing is mapped: the files may go.
    std::ifstream maps("/proc/self/maps");
    const std::string mapped{std::istreambuf_iterator<char>(maps), {}};
    EXPECT_EQ(mapped.find(folder.path().string()), std::string::npos);
}

TEST(Ir, DamagedFilesAreRefused) {
    const base::TemporaryDirectory folder;
    const auto [xml, bin] = ir_model();
    write(folder.path() / "m.bin", bin);
    for (std::size_t cut = 0; cut < xml.size(); cut += std::max<std::size_t>(1, xml.size() / 60)) {
        const auto error = error_reading(write(folder.path() / "m.xml", xml.substr(0, cut)));
        ASSERT_TRUE(error) << "cut at " << cut << " was taken";
        EXPECT_EQ(error->code(), ErrorCode::invalid_argument) << error->what();
        EXPECT_EQ(std::string(error->what()).find("src/"), std::string::npos) << error->what();
    }
}

// --- TensorFlow, Paddle, GGUF ------------------------------------------------------------------------------------------------------------

TEST(TensorflowFrozen, KeepsPlaceholdersAndResults) {
    const auto model = read(frozen_graph());
    EXPECT_EQ(names(model.inputs), (Names{"b", "a"}));
    EXPECT_EQ(names(model.outputs), Names{"relu"});
    EXPECT_EQ(model.inputs[0].type, ElementType::f32);
    EXPECT_EQ(model.inputs[0].shape, (Shape{-1, 2}));
    expect_consistent(model);
    EXPECT_EQ(model.graph->inputs()[static_cast<std::size_t>(model.graph_inputs[1])].get_names().contains("a:0"), true);
}

TEST(Paddle, KeepsFeedAndFetch) {
    const auto model = read(paddle_program());
    EXPECT_EQ(names(model.inputs), Names{"image"});
    EXPECT_EQ(names(model.outputs), Names{"probability"});
    EXPECT_EQ(model.inputs[0].type, ElementType::f32);
    EXPECT_EQ(model.inputs[0].shape, (Shape{-1, 4}));
    expect_consistent(model);
}

TEST(Paddle, SaysThatParametersAreMissing) {
    const base::TemporaryDirectory folder;
    EXPECT_ERROR(error_reading(write(folder.path() / "m.pdmodel", paddle_program(true))), ErrorCode::not_found, ".pdiparams");
    write(folder.path() / "m.pdiparams", "damaged");
    EXPECT_EQ(locate(folder.path() / "m.pdmodel").files.size(), 2U);
    EXPECT_TRUE(error_reading(folder.path() / "m.pdmodel"));
}

TEST(Gguf, StructureIsChecked) {
    const std::string good = gguf_file();
    EXPECT_EQ(locate(ModelSource::from_bytes(good)).format, ModelFormat::gguf);
    EXPECT_TRUE(error_reading(ModelSource::from_bytes(good))) << "a graph was built of one tensor";
    for (std::size_t cut = 4; cut < good.size(); ++cut) {
        const auto error = error_of([&] { static_cast<void>(locate(ModelSource::from_bytes(good.substr(0, cut)))); });
        if (cut + 32 <= good.size()) {
            EXPECT_ERROR(error, ErrorCode::invalid_argument, "GGUF");
        }
    }
    std::string huge = good;
    for (int i = 0; i < 8; ++i) huge[8 + static_cast<std::size_t>(i)] = '\xff';  // tensor count
    EXPECT_ERROR(error_reading(ModelSource::from_bytes(huge)), ErrorCode::invalid_argument, "tensor count");
    // What readers size their graphs by.
    EXPECT_ERROR(error_reading(ModelSource::from_bytes(gguf_file(0x80000001u))), ErrorCode::invalid_argument, "block count");
    EXPECT_ERROR(error_reading(ModelSource::from_bytes(gguf_file(1, 0x62000008u))), ErrorCode::invalid_argument, "width");
}

// --- properties that hold for every format -----------------------------------------------------------------------------------------------

TEST(EveryFormat, TruncationsGiveErrorsOnly) {
    for (const std::string& whole : {onnx_add(), frozen_graph(), paddle_program(), gguf_file()}) {
        for (std::size_t cut = 0; cut < whole.size(); ++cut) {
            // A cut between two fields of the last message may leave a smaller model that is whole.
            try {
                expect_consistent(read(whole.substr(0, cut)));
            } catch (const Error& error) {
                EXPECT_TRUE(error.code() == ErrorCode::invalid_argument || error.code() == ErrorCode::unimplemented) << error.what();
                EXPECT_LT(std::string(error.what()).size(), 4000U);
            }
        }
    }
}

TEST(EveryFormat, FlippedBytesGiveErrorsOnly) {
    for (const std::string& whole : {onnx_add(), frozen_graph(), paddle_program(), gguf_file()}) {
        for (std::size_t at = 0; at < whole.size(); ++at) {
            for (const char bits : {'\x01', '\x02', '\x80', '\xff'}) {  // '\x02' swaps two wire types of a protobuf field
                std::string damaged = whole;
                damaged[at] = static_cast<char>(damaged[at] ^ bits);
                try {
                    expect_consistent(read(damaged));
                } catch (const Error&) {  // anything else fails the test
                }
            }
        }
    }
}

TEST(ReadModel, CanBeCancelled) {
    std::stop_source source;
    source.request_stop();
    EXPECT_ERROR(error_of([&] { static_cast<void>(read_model(locate(ModelSource::from_bytes(onnx_add())), {.stop = source.get_token()})); }),
                 ErrorCode::cancelled, "cancelled");
}

TEST(CleanMessage, DropsVendorPathsAndKeepsTheReason) {
    EXPECT_EQ(clean_message("Exception from src/inference/src/cpp/core.cpp:97:\nException from src/frontends/onnx/frontend.cpp:3:\nFrontEnd API "
                            "failed with OpConversionFailure:\n"
                            "No conversion rule found for operations: Foo-1\n"),
              "No conversion rule found for operations: Foo-1");
    EXPECT_EQ(clean_message("Check 'a == b' failed at src/core/src/x.cpp:42:\nShapes differ"), "Check 'a == b' failed; Shapes differ");
    EXPECT_EQ(clean_message(""), "no reason given");
    EXPECT_LE(clean_message(std::string(100000, 'x')).size(), 700U);
}

}  // namespace
}  // namespace ai_vmm::graph::testing
