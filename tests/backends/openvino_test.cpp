// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <cstring>
#include <new>
#include <sstream>
#include <stdexcept>
#include <thread>

#include "conformance/cases.hpp"
#include "conformance/models.hpp"
#include "conformance/suite.hpp"
#include "openvino/convert.hpp"
#include "openvino/executable.hpp"
#include "openvino/opsets/opset15.hpp"

namespace ai_vmm {
namespace {

namespace op = ov::opset15;
using openvino::Phase;

const conformance::Subject& subject() {
    static const conformance::Subject loaded = conformance::load_subject(OPENVINO_BACKEND, "CPU");
    return loaded;
}

template <typename Exception>
Error converted(const Exception& exception, Phase phase) {
    try {
        try {
            throw exception;
        } catch (...) {
            openvino::rethrow_as_error(phase);
        }
    } catch (const Error& error) {
        return error;
    }
}

Error compile_error(const backend::Model& model, const backend::CompileConfig& config) {
    try {
        static_cast<void>(subject().backend->compile(model, config));
    } catch (const Error& error) {
        return error;
    }
    return {ErrorCode::ok, ErrorCategory::compilation, "compiled"};
}

TEST(OpenVinoMessages, LoseTheVendorsSourcePaths) {
    EXPECT_EQ(openvino::clean_message("Exception from src/inference/src/cpp/core.cpp:133:\nException from src/inference/src/dev/plugin.cpp:53:\n"
                                      "Check 'x > 0' failed at src/plugins/intel_cpu/src/node.cpp:1623:\n[CPU] the reason\n\n"),
              "Check 'x > 0' failed: [CPU] the reason");
    EXPECT_EQ(openvino::clean_message("Check 'false' failed at src/a/b.hpp:7:\nonly this"), "only this");
    EXPECT_EQ(openvino::clean_message("src/common/file.cpp:12: text"), "text");
    EXPECT_EQ(openvino::clean_message("a ratio of 3:4 in model.cpp stays"), "a ratio of 3:4 in model.cpp stays");
    EXPECT_EQ(openvino::clean_message(""), "");
}

/// Caches of earlier versions hold blobs that begin so: who changes what a blob holds changes its first bytes, and the version with them.
TEST(OpenVinoBlobs, TheirFormatsArePartOfTheVersion) {
    const std::string version(subject().backend->version());
    EXPECT_EQ(version, "1.2 AIVMM-OV1 AIVMM-OS1");
    for (const bool open : {false, true}) {
        const backend::Model model = conformance::affine_model(open ? ov::PartialShape{-1} : ov::PartialShape{3});
        backend::CompileConfig config = subject().config();
        if (open) config.typical_shapes = {{3}};
        std::ostringstream blob;
        subject().backend->compile(model, config)->export_blob(blob);
        const std::string bytes = blob.str();
        EXPECT_EQ(bytes.substr(0, 9), open ? "AIVMM-OS1" : "AIVMM-OV1");
        if (open) continue;
        // One input, one output, none passed through, and the bytes of the constants, each a 64-bit number.
        std::vector<std::int64_t> numbers(7);
        ASSERT_GT(bytes.size(), 9 + sizeof(std::int64_t) * numbers.size());
        std::memcpy(numbers.data(), bytes.data() + 9, sizeof(std::int64_t) * numbers.size());
        EXPECT_EQ(std::vector(numbers.begin(), numbers.end() - 1), (std::vector<std::int64_t>{1, 0, 1, 0, 1, 0}));
        EXPECT_GT(numbers.back(), 0);
    }
}

TEST(OpenVinoErrors, HaveCodesByPhaseAndText) {
    using Text = std::runtime_error;
    EXPECT_EQ(converted(std::bad_alloc(), Phase::compile).code(), ErrorCode::resource_exhausted);
    EXPECT_EQ(converted(Text("caught std::bad_alloc somewhere"), Phase::run).code(), ErrorCode::resource_exhausted);
    EXPECT_EQ(converted(Text("operation X is Not Supported"), Phase::compile).code(), ErrorCode::unimplemented);
    EXPECT_EQ(converted(Text("the moon is full"), Phase::compile).code(), ErrorCode::internal);
    EXPECT_EQ(converted(Text("Argument shapes are inconsistent"), Phase::run).code(), ErrorCode::invalid_argument);
    EXPECT_EQ(converted(Text("the moon is full"), Phase::run).code(), ErrorCode::internal);
    EXPECT_EQ(converted(Text("anything"), Phase::import_blob).code(), ErrorCode::data_loss);
    EXPECT_EQ(converted(Error(ErrorCode::not_found, ErrorCategory::input, "mine"), Phase::run).code(), ErrorCode::not_found);
    EXPECT_EQ(converted(42, Phase::run).code(), ErrorCode::internal);
}

TEST(OpenVinoTypes, MapBothWays) {
    for (int i = 0; i <= static_cast<int>(ElementType::string); ++i) {
        const auto type = static_cast<ElementType>(i);
        const auto theirs = openvino::to_openvino(type);
        if (!theirs) continue;
        EXPECT_EQ(theirs->get_type_name(), to_string(type));
        EXPECT_EQ(openvino::from_openvino(*theirs), type);
        if (type == ElementType::string) continue;
        EXPECT_EQ(theirs->bitwidth(), bit_width(type));
    }
    EXPECT_FALSE(openvino::to_openvino(ElementType::complex64));
    EXPECT_FALSE(openvino::from_openvino(ov::element::u1)) << "packed from the other end";
}

TEST(OpenVinoConfig, ThreadsThatTheEngineWouldDropAreRefused) {
    backend::CompileConfig config = subject().config();
    config.threads = 100000;
    const Error error = compile_error(conformance::affine_model({4}), config);
    EXPECT_EQ(error.code(), ErrorCode::unimplemented) << error.what();
    EXPECT_EQ(error.expected(), "100000");
}

TEST(OpenVinoConfig, TheEngineUsesWhatWasAsked) {
    const auto executable = subject().backend->compile(conformance::affine_model({4}), subject().config());
    const auto properties = executable->properties();
    const auto value = [&](std::string_view name) {
        for (const auto& [key, text] : properties) {
            if (key == name) return text;
        }
        return std::string("missing");
    };
    EXPECT_EQ(value("INFERENCE_PRECISION_HINT"), "f32");
    EXPECT_EQ(value("INFERENCE_NUM_THREADS"), "1");
    EXPECT_EQ(value("NUM_STREAMS"), "1");
    EXPECT_EQ(value("DYNAMIC_QUANTIZATION_GROUP_SIZE"), "0");
    EXPECT_EQ(value("KV_CACHE_PRECISION"), "f32");
    EXPECT_EQ(value("ENABLE_CPU_PINNING"), "NO");
}

TEST(OpenVinoConfig, StreamsOfOneThreadHaveModelsOfTheirOwn) {
    EXPECT_EQ(openvino::models_for({.device = "CPU", .threads = 1, .streams = 1}, 1000), 1);
    EXPECT_EQ(openvino::models_for({.device = "CPU", .threads = 1, .streams = 4}, std::int64_t{16} << 20), 4);
    EXPECT_EQ(openvino::models_for({.device = "CPU", .threads = 1, .streams = 4}, std::int64_t{17} << 20), 1) << "too much for four copies";
    EXPECT_EQ(openvino::models_for({.device = "CPU", .threads = 1, .streams = 9}, 1000), 1);
    EXPECT_EQ(openvino::models_for({.device = "CPU", .threads = 2, .streams = 2}, 1000), 1);
    EXPECT_EQ(openvino::models_for({.device = "GPU", .threads = 1, .streams = 2}, 1000), 1);

    backend::CompileConfig config = subject().config();
    config.streams = 3;
    const auto count = [](const backend::Executable& executable, std::string_view name) {
        const auto properties = executable.properties();
        const auto found = std::ranges::find(properties, name, &std::pair<std::string, std::string>::first);
        return found == properties.end() ? std::string("missing") : found->second;
    };
    for (const bool open : {false, true}) {
        const backend::Model model = conformance::affine_model(open ? ov::PartialShape{-1} : ov::PartialShape{3});
        config.typical_shapes.clear();
        if (open) config.typical_shapes = {{3}};
        const auto compiled = subject().backend->compile(model, config);
        std::ostringstream blob;
        compiled->export_blob(blob);
        const std::string bytes = blob.str();
        const auto imported = subject().backend->import_blob(std::as_bytes(std::span(bytes)), model, config);
        for (backend::Executable* executable : {compiled.get(), imported.get()}) {
            EXPECT_EQ(count(*executable, "MODELS"), "3");
            EXPECT_EQ(count(*executable, "NUM_STREAMS"), "1");
            EXPECT_EQ(count(*executable, "INFERENCE_NUM_THREADS"), "1");
            std::vector<std::unique_ptr<backend::Request>> requests;
            for (int i = 0; i < 4; ++i) requests.push_back(executable->create_request());  // the fourth shares the first one's model
            std::vector<Tensor> expected(1);
            requests.front()->run(std::vector{Tensor::from<float>({3}, {1, 2, 3})}, expected);
            for (const auto& request : requests) {
                std::vector<Tensor> outputs(1);
                request->run(std::vector{Tensor::from<float>({3}, {1, 2, 3})}, outputs);
                EXPECT_TRUE(std::ranges::equal(outputs[0].as<float>(), expected[0].as<float>()));
            }
        }
    }
}

TEST(OpenVinoPorts, HaveTheTypesThatTheFileDeclares) {
    // The reader made f32 of what the file has in f16 and i64.
    backend::Model model = conformance::affine_model({3});
    model.inputs[0].type = ElementType::i64;
    model.outputs[0].type = ElementType::f16;
    const auto running = conformance::start(subject(), model);
    const auto outputs = running.run({Tensor::from<std::int64_t>({3}, {1, -2, 3})});
    ASSERT_EQ(outputs[0].type(), ElementType::f16);
    EXPECT_FALSE(conformance::difference(outputs[0], conformance::Array({3}, {3, -3, 7}), {}));
    EXPECT_EQ(model.graph->input(0).get_element_type(), ov::element::f32) << "the shared graph was changed";
}

TEST(OpenVinoPorts, TypesThatItLacksAreRefused) {
    backend::Model model = conformance::affine_model({3});
    for (const ElementType type : {ElementType::complex64, ElementType::f8e4m3fnuz, ElementType::string}) {
        model.outputs[0].type = type;
        EXPECT_EQ(compile_error(model, subject().config()).code(), ErrorCode::unimplemented) << to_string(type);
        EXPECT_FALSE(subject().backend->supports(model, subject().config()).supported);
    }
}

TEST(OpenVinoPorts, MapsThatDontFitAreRefused) {
    const backend::Model good = conformance::affine_model({3});
    for (const std::vector<int>& inputs : {std::vector<int>{1}, {-2}, {-1}, {}}) {
        backend::Model model = good;
        model.graph_inputs = inputs;
        EXPECT_EQ(compile_error(model, subject().config()).code(), ErrorCode::invalid_argument);
    }
    for (const std::vector<int>& outputs : {std::vector<int>{1}, {-1}, {}}) {
        backend::Model model = good;
        model.graph_outputs = outputs;
        EXPECT_EQ(compile_error(model, subject().config()).code(), ErrorCode::invalid_argument);
    }
}

TEST(OpenVinoRequest, ACancelBetweenRunsIsForgotten) {
    const auto running = conformance::start(subject(), conformance::deep_model(64, 4));
    const Tensor x = conformance::f32(conformance::spread({64, 64}, -1, 1));
    for (int i = 0; i < 20; ++i) {
        running.request->cancel();
        EXPECT_NO_THROW(static_cast<void>(running.run({x})));
    }
}

TEST(OpenVinoRequest, ValuesThatDontFitTogetherAreTheCallersError) {
    const auto a = std::make_shared<op::Parameter>(ov::element::f32, ov::PartialShape{-1});
    const auto b = std::make_shared<op::Parameter>(ov::element::f32, ov::PartialShape{-1});
    const auto sum = std::make_shared<op::Add>(a, b);
    const auto running =
        conformance::start(subject(), conformance::make_model(std::make_shared<ov::Model>(ov::OutputVector{sum}, ov::ParameterVector{a, b})));
    try {
        static_cast<void>(running.run({Tensor(ElementType::f32, {2}), Tensor(ElementType::f32, {3})}));
        FAIL() << "[2] + [3] was computed";
    } catch (const Error& error) {
        EXPECT_EQ(error.code(), ErrorCode::invalid_argument) << error.what();
        EXPECT_EQ(std::string_view(error.what()).find(".cpp"), std::string_view::npos) << error.what();
    }
    EXPECT_EQ(running.run({Tensor(ElementType::f32, {3}), Tensor(ElementType::f32, {3})})[0].shape(), Shape{3});
}

}  // namespace
}  // namespace ai_vmm
