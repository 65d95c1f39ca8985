// SPDX-License-Identifier: Apache-2.0
// The backend on ONNX models made here: what graphs lowered from OpenVINO do not show.
#include "backend.hpp"

#include <gmock/gmock.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <fstream>
#include <protozero/pbf_writer.hpp>
#include <sstream>
#include <thread>

#include "base/file.hpp"
#include "blob.hpp"
#include "devices.hpp"
#include "external_data.hpp"
#include "library.hpp"
#include "lowering/onnx_graph.hpp"
#include "support.hpp"

namespace ai_vmm::ort::test {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

backend::Model in_memory(std::string onnx) {
    backend::Model model;
    model.format = ModelFormat::onnx;
    model.bytes = std::make_shared<const std::string>(std::move(onnx));
    return model;
}

TEST(OrtBlob, ItsFormatIsPartOfTheVersion) {
    std::ostringstream out;
    write_blob(out, {.binding = {.input_names = {"x"}, .output_names = {"y", ""}}, .model = std::make_shared<const std::string>("MODEL")});
    // Caches of earlier versions hold these bytes: who changes them changes kBlobFormat.
    const auto number = [](char value) { return std::string(1, value) + std::string(7, '\0'); };
    EXPECT_EQ(out.str(), "AVMORT01" + number(1) + number(1) + "x" + number(2) + number(1) + "y" + number(0) + "MODEL");
    EXPECT_EQ(out.str().substr(0, kBlobFormat.size()), kBlobFormat);
    EXPECT_THAT(std::string(OrtBackend().version()), HasSubstr(std::string(kBlobFormat)));
}

TEST(OrtMessages, DoNotNameTheLibrarysSource) {
    EXPECT_EQ(without_source("Invalid model. Node input 'x' is missing."), "Invalid model. Node input 'x' is missing.");
    EXPECT_EQ(without_source("/src/onnxruntime/core/graph/graph.cc:1587 void onnxruntime::Graph::Load() This is an invalid model.\n"),
              "This is an invalid model.");
    EXPECT_EQ(without_source("/src/graph.cc:1 ns::Graph::Graph(const ns::Model&, std::function<int(int)>, bool) Bad (graph)."), "Bad (graph).");
    EXPECT_EQ(without_source("/src/graph.h:12 int ns::Graph::at(int) const No index 3"), "No index 3");
    EXPECT_EQ(without_source("utils.cc:1534 Validate Initializer 'w': raw_data size (572 bytes) is wrong"),
              "Initializer 'w': raw_data size (572 bytes) is wrong");
    EXPECT_EQ(
        without_source("Non-zero status code. Name:'r' Status Message: /src/cpu/reshape_helper.h:91 ns::Helper::Helper(bool) a == b was false.\n"),
        "Non-zero status code. Name:'r' Status Message: a == b was false.");
    for (const std::string_view whole : {"", " ", "graph.cc:", "graph.cc:1", "12:30 is a time", "a.cc:x b", "Op ns::Foo(x) failed"}) {
        EXPECT_EQ(without_source(whole), whole == " " ? "" : whole);
    }
    EXPECT_EQ(without_source("graph.cc:1 void ns::unclosed("), "graph.cc:1 void ns::unclosed(") << "better than nothing";
}

// y = x + w, w an initialiser that is an input too.
std::string optional_input_model() {
    OnnxGraph graph;
    const float ten = 10;
    const std::string w = graph.initializer(OnnxType::f32, {1}, {reinterpret_cast<const char*>(&ten), sizeof ten});
    graph.input("x", OnnxType::f32, {-1});
    graph.input(w, OnnxType::f32, {1});
    graph.output("y", graph.add("Add", {"x", w}), OnnxType::f32, {-1});
    return model_proto(graph.serialize("optional"), 21);
}

// y = x + w with w in the file `location`.
std::string external_model(const std::string& location) {
    std::string tensor;
    protozero::pbf_writer writer(tensor);
    writer.add_int64(1, 2);
    writer.add_int32(2, 1);
    writer.add_string(8, "w");
    std::string entry;
    protozero::pbf_writer entry_writer(entry);
    entry_writer.add_string(1, "location");
    entry_writer.add_string(2, location);
    writer.add_message(13, entry);
    writer.add_enum(14, 1);  // data_location: EXTERNAL
    OnnxGraph graph;
    graph.input("x", OnnxType::f32, {2});
    graph.output("y", graph.add("Add", {"x", "w"}), OnnxType::f32, {2});
    GraphBytes bytes = graph.serialize("external");
    protozero::pbf_writer(bytes.bytes).add_message(5, tensor);
    return model_proto(bytes, 21);
}

TEST(OrtBackend, ShapesThatDoNotFitAreTheModelsFault) {
    OnnxGraph graph;
    const std::vector<float> values(20, 1);
    const std::string w = graph.initializer(OnnxType::f32, {5, 4}, {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float)});
    graph.input("x", OnnxType::f32, {-1, 3});
    graph.output("y", graph.add("MatMul", {"x", w}), OnnxType::f32, {-1, 4});
    OrtBackend engine;
    EXPECT_EQ(code_of([&] { (void)engine.compile(in_memory(model_proto(graph.serialize("misfit"), 21)), {.device = "CPU"}); }),
              ErrorCode::invalid_argument);
}

TEST(OrtBackend, DescribesItself) {
    OrtBackend engine;
    EXPECT_EQ(engine.name(), "onnxruntime");
    EXPECT_FALSE(engine.engine_version().empty());
    const std::vector<DeviceInfo> devices = engine.enumerate();
    ASSERT_FALSE(devices.empty());
    EXPECT_EQ(devices[0].kind, DeviceKind::cpu);
    ASSERT_EQ(devices[0].routes.size(), 1U);
    EXPECT_EQ(devices[0].routes[0].backend_device, "CPU");
    EXPECT_THAT(devices[0].routes[0].precisions, ElementsAre("f32", "i8"));
}

TEST(OrtBackend, OptionalInputsMayBeLeftOut) {
    OrtBackend engine;
    const backend::Model model = onnx_model(in_memory(optional_input_model()));
    ASSERT_EQ(model.inputs.size(), 2U);
    EXPECT_TRUE(model.inputs[1].optional);
    const auto request = engine.compile(model, {.device = "CPU"})->create_request();
    std::vector<Tensor> outputs(1);
    request->run(std::vector{Tensor::from<float>({2}, {1, 2}), Tensor()}, outputs);
    EXPECT_THAT(outputs[0].as<float>(), ElementsAre(11, 12));
    request->run(std::vector{Tensor::from<float>({2}, {1, 2}), Tensor::from<float>({1}, {5})}, outputs);
    EXPECT_THAT(outputs[0].as<float>(), ElementsAre(6, 7));
    EXPECT_EQ(code_of([&] { request->run(std::vector{Tensor(), Tensor()}, outputs); }), ErrorCode::invalid_argument);
}

TEST(OrtBackend, StreamsOfOneThreadHaveSessionsOfTheirOwn) {
    OrtBackend engine;
    const backend::Model model = onnx_model(in_memory(optional_input_model()));
    const auto sessions = [&](int threads, int streams) {
        const auto executable = engine.compile(model, {.device = "CPU", .threads = threads, .streams = streams});
        const auto properties = executable->properties();
        return std::ranges::find(properties, "SESSIONS", &std::pair<std::string, std::string>::first)->second;
    };
    EXPECT_EQ(sessions(1, 1), "1");
    EXPECT_EQ(sessions(1, 3), "3");
    EXPECT_EQ(sessions(2, 2), "1");
    EXPECT_EQ(sessions(1, 100), "8");
    EXPECT_EQ(sessions_for({.device = "CPU", .threads = 1, .streams = 4}, std::size_t{30} << 20), 2);
    EXPECT_EQ(sessions_for({.device = "CPU", .threads = 1, .streams = 4}, std::size_t{1} << 30), 1);

    const auto executable = engine.compile(model, {.device = "CPU", .threads = 1, .streams = 2});
    std::ostringstream blob;
    executable->export_blob(blob);
    const std::string bytes = blob.str();
    const auto imported = engine.import_blob(std::as_bytes(std::span(bytes)), model, {.device = "CPU", .threads = 1, .streams = 2});
    for (backend::Executable* each : {executable.get(), imported.get()}) {
        const auto first = each->create_request();
        const auto second = each->create_request();
        for (backend::Request* request : {first.get(), second.get()}) {
            std::vector<Tensor> outputs(1);
            request->run(std::vector{Tensor::from<float>({2}, {1, 2}), Tensor()}, outputs);
            EXPECT_THAT(outputs[0].as<float>(), ElementsAre(11, 12));
            EXPECT_TRUE(outputs[0].owns_memory());
        }
    }
}

// y of a shape that the values of x decide: x expanded to n.
std::string expand_model() {
    OnnxGraph graph;
    graph.input("x", OnnxType::f32, {1});
    graph.input("n", OnnxType::i64, {1});
    graph.output("y", graph.add("Expand", {"x", "n"}), OnnxType::f32, {-1});
    return model_proto(graph.serialize("expand"), 21);
}

TEST(OrtBackend, TensorsThatStayAreComputedOnEveryTime) {
    OrtBackend engine;
    const auto request = engine.compile(onnx_model(in_memory(optional_input_model())), {.device = "CPU"})->create_request();
    std::vector<Tensor> inputs{Tensor::from<float>({2}, {1, 2}), Tensor::from<float>({1}, {5})};
    std::vector<Tensor> outputs{Tensor(ElementType::f32, {2})};
    const void* const memory = outputs[0].data();
    for (int i = 0; i < 40; ++i) {  // bound after some of them
        inputs[0].as<float>()[0] = static_cast<float>(i);
        request->run(inputs, outputs);
        EXPECT_THAT(outputs[0].as<float>(), ElementsAre(static_cast<float>(i) + 5, 7));
        EXPECT_EQ(outputs[0].data(), memory);
    }
    const Tensor w = inputs[1];
    inputs[1] = Tensor();  // the initialiser's
    for (int i = 0; i < 20; ++i) request->run(inputs, outputs);
    EXPECT_THAT(outputs[0].as<float>(), ElementsAre(49, 12));
    inputs[1] = w;
    request->run(inputs, outputs);
    EXPECT_THAT(outputs[0].as<float>(), ElementsAre(44, 7));
    inputs[0] = Tensor::from<float>({2}, {3, 4});  // elsewhere
    request->run(inputs, outputs);
    EXPECT_THAT(outputs[0].as<float>(), ElementsAre(8, 9));
    outputs[0] = Tensor();
    request->run(inputs, outputs);
    EXPECT_THAT(outputs[0].as<float>(), ElementsAre(8, 9));
    for (int i = 0; i < 20; ++i) request->run(inputs, outputs);
    inputs[0] = Tensor::from<float>({3}, {1, 2, 3});  // of another shape, with an output that doesn't fit
    request->run(inputs, outputs);
    EXPECT_THAT(outputs[0].as<float>(), ElementsAre(6, 7, 8));
}

TEST(OrtBackend, OutputsThatTurnOutLargerAreReplacedAlsoWhenBound) {
    OrtBackend engine;
    const auto request = engine.compile(onnx_model(in_memory(expand_model())), {.device = "CPU"})->create_request();
    std::vector<Tensor> inputs{Tensor::from<float>({1}, {7}), Tensor::from<std::int64_t>({1}, {2})};
    std::vector<Tensor> outputs(1);
    for (int i = 0; i < 20; ++i) request->run(inputs, outputs);
    EXPECT_THAT(outputs[0].as<float>(), ElementsAre(7, 7));
    inputs[1].as<std::int64_t>()[0] = 3;
    for (int i = 0; i < 3; ++i) {
        request->run(inputs, outputs);
        EXPECT_THAT(outputs[0].as<float>(), ElementsAre(7, 7, 7));
    }
}

TEST(OrtBackend, MemoryThatCantBeHadIsAnErrorOfTheExecution) {
    OrtBackend engine;
    const auto request = engine.compile(onnx_model(in_memory(expand_model())), {.device = "CPU"})->create_request();
    std::vector<Tensor> outputs(1);
    const auto run = [&](std::int64_t n) { request->run(std::vector{Tensor::from<float>({1}, {7}), Tensor::from<std::int64_t>({1}, {n})}, outputs); };
    EXPECT_EQ(code_of([&] { run(std::int64_t{1} << 50); }), ErrorCode::resource_exhausted);
    run(2);
    EXPECT_THAT(outputs[0].as<float>(), ElementsAre(7, 7));
}

TEST(OrtBackend, CancellingAtAnyTimeHarmsNoLaterExecution) {
    OrtBackend engine;
    const auto request = engine.compile(onnx_model(in_memory(optional_input_model())), {.device = "CPU"})->create_request();
    const std::vector<Tensor> inputs{Tensor::from<float>({2}, {1, 2}), Tensor()};
    std::vector<Tensor> outputs{Tensor(ElementType::f32, {2})};
    std::atomic<bool> ended = false;
    {
        const std::jthread canceller([&] {
            while (!ended) request->cancel();
        });
        for (int i = 0; i < 2000; ++i) {
            try {
                request->run(inputs, outputs);
            } catch (const Error& error) {
                EXPECT_EQ(error.code(), ErrorCode::cancelled);
            }
        }
        ended = true;
    }
    request->run(inputs, outputs);
    EXPECT_THAT(outputs[0].as<float>(), ElementsAre(11, 12));
}

TEST(OrtBackend, SessionsGiveTheirMemoryBack) {
    if (Library::get().pool_allocator == nullptr) GTEST_SKIP() << "the process has another allocator";
    OrtBackend engine;
    {
        const auto executable = engine.compile(onnx_model(in_memory(expand_model())), {.device = "CPU"});
        const auto properties = executable->properties();
        EXPECT_EQ(std::ranges::find(properties, "MEMORY", &std::pair<std::string, std::string>::first)->second, "POOL");
        std::vector<Tensor> outputs(1);
        executable->create_request()->run(std::vector{Tensor::from<float>({1}, {7}), Tensor::from<std::int64_t>({1}, {1 << 20})}, outputs);
        EXPECT_EQ(outputs[0].as<float>()[12345], 7);
        outputs[0] = Tensor();
        EXPECT_GE(Library::pool().idle_bytes(), std::size_t{4} << 20) << "kept for the next execution";
    }
    EXPECT_EQ(Library::pool().idle_bytes(), 0U);
}

TEST(OrtBackend, StringsKeepZeroBytesAndAllCharacters) {
    OnnxGraph graph;
    graph.input("x", OnnxType::string, {-1});
    graph.output("y", graph.add("Concat", {"x", "x"}, {{"axis", 0}}), OnnxType::string, {-1});
    OrtBackend engine;
    const backend::Model model = onnx_model(in_memory(model_proto(graph.serialize("strings"), 21)));
    std::vector<Tensor> outputs(1);
    const std::string zero("a\0b", 3);
    const auto executable = engine.compile(model, {.device = "CPU"});
    executable->create_request()->run(std::vector{Tensor::from<std::string>({2}, {zero, "\xc3\xa9"})}, outputs);
    EXPECT_THAT(outputs[0].as<std::string>(), ElementsAre(zero, "\xc3\xa9", zero, "\xc3\xa9"));
}

TEST(OrtBackend, ExternalDataIsReadBeforeTheFileGoes) {
    const base::TemporaryDirectory folder;
    const float values[2] = {3, 4};
    base::write_file(folder.path() / "weights.bin", std::as_bytes(std::span(values)));
    const std::string onnx = external_model("weights.bin");
    base::write_file(folder.path() / "model.onnx", std::as_bytes(std::span(onnx)));
    EXPECT_THAT(external_data_locations(onnx), ElementsAre("weights.bin"));
    OrtBackend engine;
    backend::Model model;
    model.path = folder.path() / "model.onnx";
    model = onnx_model(model);
    const auto executable = engine.compile(model, {.device = "CPU"});
    std::ostringstream blob;
    executable->export_blob(blob);
    std::ofstream(folder.path() / "weights.bin", std::ios::trunc).close();
    std::vector<Tensor> outputs(1);
    executable->create_request()->run(std::vector{Tensor::from<float>({2}, {1, 1})}, outputs);
    EXPECT_THAT(outputs[0].as<float>(), ElementsAre(4, 5));
    // A blob holds its weights.
    const std::string bytes = blob.str();
    engine.import_blob(std::as_bytes(std::span(bytes)), model, {.device = "CPU"})
        ->create_request()
        ->run(std::vector{Tensor::from<float>({2}, {0, 0})}, outputs);
    EXPECT_THAT(outputs[0].as<float>(), ElementsAre(3, 4));
}

TEST(OrtBackend, ExternalDataStaysInTheModelsFolder) {
    OrtBackend engine;
    for (const char* location : {"../weights.bin", "/etc/passwd", "a/../../b"}) {
        const base::TemporaryDirectory folder;
        const std::string onnx = external_model(location);
        base::write_file(folder.path() / "model.onnx", std::as_bytes(std::span(onnx)));
        backend::Model model{.format = ModelFormat::onnx, .path = folder.path() / "model.onnx"};
        EXPECT_EQ(code_of([&] { (void)engine.compile(model, {.device = "CPU"}); }), ErrorCode::invalid_argument) << location;
    }
    EXPECT_EQ(code_of([&] { (void)engine.compile(in_memory(external_model("w.bin")), {.device = "CPU"}); }), ErrorCode::invalid_argument);
}

TEST(OrtBackend, ExternalDataOfDamagedModels) {
    using namespace std::string_literals;
    EXPECT_EQ(code_of([] { (void)external_data_locations("\x38\x00"s); }), ErrorCode::invalid_argument) << "a graph that is an integer";
    const std::string good = external_model("weights.bin");
    for (std::size_t at = 0; at < good.size(); ++at) {
        for (int bit = 0; bit < 8; ++bit) {
            std::string damaged = good;
            damaged[at] = static_cast<char>(damaged[at] ^ 1 << bit);
            try {  // some damage does no harm; none may do more than throw Error
                (void)external_data_locations(damaged);
            } catch (const Error&) {
            }
        }
    }
}

TEST(OrtBackend, DamagedModelsGiveErrors) {
    OrtBackend engine;
    const std::string good = optional_input_model();
    std::mt19937 random(3);
    for (std::size_t size : {std::size_t{0}, std::size_t{1}, good.size() / 2, good.size() - 1}) {
        const ErrorCode code = code_of([&] { (void)engine.compile(in_memory(good.substr(0, size)), {.device = "CPU"}); });
        EXPECT_NE(code, ErrorCode::ok) << size;
    }
    for (int round = 0; round < 300; ++round) {
        std::string damaged = good;
        damaged[random() % damaged.size()] ^= static_cast<char>(1 << random() % 8);
        try {  // some damage does no harm; none may do more than throw Error
            (void)engine.compile(in_memory(damaged), {.device = "CPU"});
        } catch (const Error&) {
        }
    }
}

TEST(OrtBackend, UnknownOperatorIsUnimplemented) {
    OnnxGraph graph;
    graph.input("x", OnnxType::f32, {2});
    graph.output("y", graph.add("NoSuchOperator", {"x"}), OnnxType::f32, {2});
    OrtBackend engine;
    backend::Model model = in_memory(model_proto(graph.serialize("unknown"), 21));
    EXPECT_EQ(code_of([&] { (void)engine.compile(model, {.device = "CPU"}); }), ErrorCode::unimplemented);
}

TEST(OrtBackend, SequenceOutputsAreRefusedByName) {
    OnnxGraph graph;
    graph.input("x", OnnxType::f32, {2});
    const std::string sequence = graph.add("SequenceConstruct", {"x"});
    graph.output("y", graph.add("SequenceAt", {sequence, graph.scalar(0)}), OnnxType::f32, {2});
    OrtBackend engine;
    // Inside a model sequences are the engine's business.
    const backend::Model inside = onnx_model(in_memory(model_proto(graph.serialize("inside"), 21)));
    std::vector<Tensor> outputs(1);
    engine.compile(inside, {.device = "CPU"})->create_request()->run(std::vector{Tensor::from<float>({2}, {1, 2})}, outputs);
    EXPECT_THAT(outputs[0].as<float>(), ElementsAre(1, 2));
    backend::Model outside = inside;
    outside.outputs[0].type = ElementType::undefined;
    EXPECT_FALSE(engine.supports(outside, {.device = "CPU"}).supported);
    EXPECT_EQ(code_of([&] { (void)engine.compile(outside, {.device = "CPU"}); }), ErrorCode::unimplemented);
}

TEST(OrtBackend, PrecisionsOtherThanF32AreRefused) {
    OrtBackend engine;
    const backend::Model model = onnx_model(in_memory(optional_input_model()));
    for (const Precision precision : {Precision::bf16, Precision::f16}) {
        const backend::CompileConfig config{.device = "CPU", .precision = precision};
        EXPECT_FALSE(engine.supports(model, config).supported);
        EXPECT_EQ(code_of([&] { (void)engine.compile(model, config); }), ErrorCode::unimplemented);
    }
}

TEST(OrtBackend, ExportRefusesAChangedFile) {
    const base::TemporaryDirectory folder;
    const auto path = folder.path() / "model.onnx";
    const std::string onnx = optional_input_model();
    base::write_file(path, std::as_bytes(std::span(onnx)));
    OrtBackend engine;
    backend::Model model;
    model.path = path;
    model = onnx_model(model);
    const auto executable = engine.compile(model, {.device = "CPU"});
    std::filesystem::last_write_time(path, std::filesystem::last_write_time(path) + std::chrono::seconds(5));
    std::ostringstream blob;
    EXPECT_EQ(code_of([&] { executable->export_blob(blob); }), ErrorCode::aborted);
}

TEST(OrtBackend, OutputsOutliveTheirExecutable) {
    OrtBackend engine;
    std::vector<Tensor> outputs(1);
    {
        const backend::Model model = onnx_model(in_memory(optional_input_model()));
        const auto executable = engine.compile(model, {.device = "CPU"});
        executable->create_request()->run(std::vector{Tensor::from<float>({2}, {1, 2}), Tensor()}, outputs);
    }
    EXPECT_THAT(outputs[0].as<float>(), ElementsAre(11, 12));
}

TEST(OrtBackend, SharedSessionServesManyThreads) {
    OrtBackend engine;
    const backend::Model model = onnx_model(in_memory(optional_input_model()));
    const auto executable = engine.compile(model, {.device = "CPU", .threads = 2, .streams = 4});
    std::atomic<int> wrong = 0;
    {
        std::vector<std::jthread> threads;
        for (int t = 0; t < 4; ++t) {
            threads.emplace_back([&, t] {
                const auto request = executable->create_request();
                const std::vector<Tensor> inputs{Tensor::from<float>({1}, {static_cast<float>(t)}), Tensor()};
                for (int i = 0; i < 200; ++i) {
                    std::vector<Tensor> outputs(1);
                    request->run(inputs, outputs);
                    wrong += outputs[0].as<float>()[0] != static_cast<float>(t + 10);
                }
            });
        }
    }
    EXPECT_EQ(wrong, 0);
}

}  // namespace
}  // namespace ai_vmm::ort::test
