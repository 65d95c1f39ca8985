// SPDX-License-Identifier: Apache-2.0
/// Programs as bytes: what a later process runs without the model.
#include "program/stored_program.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <functional>
#include <random>
#include <sstream>
#include <thread>

#include "backend.hpp"
#include "cuda/backend_fixture.hpp"
#include "cuda/library_device.hpp"
#include "lower/context.hpp"
#include "lower/lower.hpp"
#include "openvino/op/ops.hpp"
#include "program/program.hpp"

namespace ai_vmm::cuda::test {
namespace {

std::string blob_of(const backend::Executable& executable) {
    std::ostringstream out;
    executable.export_blob(out);
    return std::move(out).str();
}

std::span<const std::byte> bytes_of(const std::string& text) { return std::as_bytes(std::span(text)); }

class StoredProgramOf : public ::testing::TestWithParam<Precision> {};

TEST_P(StoredProgramOf, ComputesTheSameWithoutTheModel) {
    TwoDevices first;
    const backend::Model model = layer(64, 3);
    backend::CompileConfig config = TwoDevices::config();
    config.precision = GetParam();
    const auto compiled = first.backend.compile(model, config);
    const std::string blob = blob_of(*compiled);
    backend::Model light;
    light.inputs = model.inputs;
    light.outputs = model.outputs;
    TwoDevices later;
    const auto imported = later.backend.import_blob(bytes_of(blob), light, config);
    const Tensor x = ramp({4, 64}, 1);
    std::vector<Tensor> expected(1), actual(1);
    compiled->create_request()->run({&x, 1}, expected);
    imported->create_request()->run({&x, 1}, actual);
    EXPECT_EQ(first.values(expected[0]), later.values(actual[0]));
    EXPECT_EQ(imported->memory(), compiled->memory());
    // What was imported can be exported again.
    const std::string second = blob_of(*imported);
    std::vector<Tensor> again(1);
    later.backend.import_blob(bytes_of(second), light, config)->create_request()->run({&x, 1}, again);
    EXPECT_EQ(first.values(expected[0]), later.values(again[0]));
}

TEST_P(StoredProgramOf, SharesWeightsWithWhatIsThere) {
    TwoDevices two;
    backend::CompileConfig config = TwoDevices::config();
    config.precision = GetParam();
    const auto bytes = [&] { return two.devices[0]->counters().allocated_bytes; };
    const auto compiled = two.backend.compile(layer(128, 2), config);
    const std::string blob = blob_of(*compiled);
    const auto imported = two.backend.import_blob(bytes_of(blob), {}, config);
    const std::int64_t one = bytes();
    const auto again = two.backend.import_blob(bytes_of(blob), {}, config);
    EXPECT_EQ(bytes(), one);
}

INSTANTIATE_TEST_SUITE_P(Precisions, StoredProgramOf, ::testing::Values(Precision::f32, Precision::f16),
                         [](const auto& which) { return std::string(to_string(which.param)); });

TEST(StoredProgram, HasTheTextThatWasCompiled) {
    TwoDevices two;
    const auto& device = two.devices[0];
    Graph graph = lower(with_shapes(*layer(64).graph, {{4, 64}}), {.float_type = Type::f16});
    const Program program(device, std::move(graph), std::make_shared<WeightStore>(device));
    ASSERT_FALSE(program.schedule().prepare.empty()) << "kernels that ran once are part of it";
    std::ostringstream out;
    program.write_to(out);
    const std::string bytes = std::move(out).str();
    EXPECT_EQ(module_source(read_program(bytes_of(bytes)).schedule).text, module_source(program.schedule()).text);
}

ErrorCode refusal(TwoDevices& two, const std::string& blob, const backend::CompileConfig& config) {
    try {
        (void)two.backend.import_blob(bytes_of(blob), {}, config);
    } catch (const Error& error) {
        return error.code();
    }
    return ErrorCode::ok;
}

TEST(StoredProgram, ASingleRowIsRestored) {
    // Strides of dimensions of one are anything.
    const auto x = std::make_shared<ov::op::v0::Parameter>(ov::element::f32, ov::Shape{1, 32, 1, 1});
    const auto shape = ov::op::v0::Constant::create(ov::element::i64, {2}, {1, 32});
    const auto flat = std::make_shared<ov::op::v1::Reshape>(x, shape, false);
    const auto weights = ov::op::v0::Constant::create(ov::element::f32, {32, 10}, std::vector<float>(320, 0.5F));
    const auto model = std::make_shared<ov::Model>(ov::OutputVector{std::make_shared<ov::op::v0::MatMul>(flat, weights)}, ov::ParameterVector{x});
    for (const Type type : {Type::f32, Type::f16}) {
        TwoDevices two;
        const Program program(two.devices[0], lower(with_shapes(*model, {{1, 32, 1, 1}}), {.float_type = type}),
                              std::make_shared<WeightStore>(two.devices[0]));
        std::ostringstream out;
        program.write_to(out);
        const std::string bytes = std::move(out).str();
        EXPECT_NO_THROW((void)read_program(bytes_of(bytes)));
    }
}

TEST(StoredProgram, OtherConfigurationsAreRefused) {
    TwoDevices two;
    const std::string blob = blob_of(*two.compile(layer(16)));
    backend::CompileConfig config = TwoDevices::config();
    EXPECT_EQ(refusal(two, blob, config), ErrorCode::ok);
    config.precision = Precision::f16;
    EXPECT_EQ(refusal(two, blob, config), ErrorCode::data_loss);
}

TEST(StoredProgram, OtherShapesThanItsOwnAreRefused) {
    TwoDevices two;
    const auto imported = two.backend.import_blob(bytes_of(blob_of(*two.compile(layer(16)))), {}, TwoDevices::config());
    const Tensor x = ramp({5, 16}, 1);
    std::vector<Tensor> outputs(1);
    try {
        imported->create_request()->run({&x, 1}, outputs);
        FAIL() << "it ran";
    } catch (const Error& error) {
        EXPECT_EQ(error.code(), ErrorCode::invalid_argument) << error.what();
    }
}

/// The layer with an open batch.
backend::Model open_layer(std::size_t size) {
    const backend::Model whole = layer(size);
    const auto graph = whole.graph->clone();
    graph->reshape(ov::PartialShape{-1, static_cast<std::int64_t>(size)});
    return wrapped(graph);
}

TEST(StoredProgram, OpenShapesReadTheModelAgainForOthers) {
    TwoDevices two;
    const backend::Model model = open_layer(64);
    backend::CompileConfig config = TwoDevices::config();
    config.typical_shapes = {{4, 64}};
    const auto compiled = two.backend.compile(model, config);
    const auto result = [&](backend::Executable& executable, std::int64_t rows) {
        const Tensor x = ramp({rows, 64}, 1);
        std::vector<Tensor> outputs(1);
        executable.create_request()->run({&x, 1}, outputs);
        return two.values(outputs[0]);
    };
    const std::vector<float> four = result(*compiled, 4), one = result(*compiled, 1), seven = result(*compiled, 7);
    const std::string blob = blob_of(*compiled);

    std::atomic<int> reads = 0;
    backend::Model light;
    light.inputs = model.inputs;
    light.outputs = model.outputs;
    light.read_again = [&] {
        ++reads;
        return std::make_shared<const backend::Model>(model);
    };
    TwoDevices later;
    const auto imported = later.backend.import_blob(bytes_of(blob), light, config);
    EXPECT_EQ(result(*imported, 4), four);
    EXPECT_EQ(result(*imported, 1), one) << "the second program was exported too";
    EXPECT_EQ(result(*imported, 7), seven);
    EXPECT_EQ(result(*imported, 6), result(*compiled, 6));
    EXPECT_EQ(reads, 1);
    // What was imported is exported with what came since, and weights are there once.
    const std::string again = blob_of(*imported);
    EXPECT_LT(again.size(), blob.size() + 64 * 64 * sizeof(float));
    EXPECT_EQ(result(*later.backend.import_blob(bytes_of(again), light, config), 4), four);

    // A model that is gone leaves what was exported.
    light.read_again = []() -> std::shared_ptr<const backend::Model> {
        throw Error(ErrorCode::failed_precondition, ErrorCategory::compilation, "it changed");
    };
    const auto alone = later.backend.import_blob(bytes_of(blob), light, config);
    try {
        (void)result(*alone, 7);
        ADD_FAILURE() << "it ran";
    } catch (const Error& error) {
        EXPECT_EQ(error.code(), ErrorCode::failed_precondition);
    }
    EXPECT_EQ(result(*alone, 4), four);
    const auto a = std::make_shared<ov::op::v0::Parameter>(ov::element::f32, ov::PartialShape{-1, 64});
    const auto b = std::make_shared<ov::op::v0::Parameter>(ov::element::f32, ov::PartialShape{-1, 64});
    const backend::Model other =
        wrapped(std::make_shared<ov::Model>(ov::OutputVector{std::make_shared<ov::op::v1::Add>(a, b)}, ov::ParameterVector{a, b}));
    light.read_again = [&] { return std::make_shared<const backend::Model>(other); };
    const auto mistaken = later.backend.import_blob(bytes_of(blob), light, config);
    EXPECT_THROW((void)result(*mistaken, 7), Error);
    light.read_again = nullptr;
    try {
        (void)later.backend.import_blob(bytes_of(blob), light, config);
        ADD_FAILURE() << "shapes that were not exported could never run";
    } catch (const Error& error) {
        EXPECT_EQ(error.code(), ErrorCode::unimplemented);
    }
}

TEST(StoredProgram, OpenShapesOutliveTheModelsFile) {
    TwoDevices two;
    const backend::Model model = open_layer(64);
    backend::CompileConfig config = TwoDevices::config();
    config.typical_shapes = {{4, 64}};
    const std::string blob = blob_of(*two.backend.compile(model, config));
    std::atomic<int> reads = 0;
    backend::Model light;
    light.read_again = [&]() -> std::shared_ptr<const backend::Model> {
        if (++reads == 1) return std::make_shared<const backend::Model>(model);
        throw Error(ErrorCode::not_found, ErrorCategory::input, "the file is gone");
    };
    const auto imported = two.backend.import_blob(bytes_of(blob), light, config);
    const auto until = std::chrono::steady_clock::now() + std::chrono::minutes(1);
    while (reads == 0 && std::chrono::steady_clock::now() < until) std::this_thread::sleep_for(std::chrono::milliseconds(20));
    const Tensor x = ramp({7, 64}, 1);
    std::vector<Tensor> outputs(1);
    imported->create_request()->run({&x, 1}, outputs);
    EXPECT_EQ(outputs[0].shape(), (Shape{7, 64}));
    EXPECT_EQ(reads, 1);
}

TEST(StoredProgram, DamageIsAnError) {
    TwoDevices two;
    const std::string blob = blob_of(*two.compile(layer(16)));
    for (std::size_t size = 0; size < blob.size(); size += std::max<std::size_t>(blob.size() / 97, 1)) {
        EXPECT_EQ(refusal(two, blob.substr(0, size), TwoDevices::config()), ErrorCode::data_loss) << size << " of " << blob.size() << " bytes";
    }
    EXPECT_EQ(refusal(two, blob + "x", TwoDevices::config()), ErrorCode::data_loss);
    // Numbers turned into others: an error or a program, nothing else. Reading alone: a damaged kernel would be compiled.
    const std::size_t begin = blob.find("ai_vmm cuda program");
    ASSERT_NE(begin, std::string::npos);
    const std::string program = blob.substr(begin);
    std::mt19937 random(7);
    int refused = 0;
    for (int k = 0; k < 3000; ++k) {
        std::string other = program;
        for (int flips = 1 + k % 3; flips > 0; --flips) other[random() % other.size()] = static_cast<char>(random());
        try {
            (void)read_program(bytes_of(other));
        } catch (const Error& error) {
            EXPECT_EQ(error.code(), ErrorCode::data_loss) << error.what();
            ++refused;
        }
    }
    EXPECT_GT(refused, 100);
}

/// What write_program() makes of a schedule, weights being zeros.
ErrorCode refusal(const Schedule& schedule) {
    std::ostringstream out;
    write_program(out, schedule, [&](ValueId root, std::string&, std::vector<std::byte>& content) {
        const Value& value = schedule.graph.value(root);
        content.assign(static_cast<std::size_t>(bytes(value.type, value.dims)), std::byte{0});
    });
    try {
        (void)read_program(bytes_of(out.str()));
    } catch (const Error& error) {
        return error.code();
    }
    return ErrorCode::ok;
}

TEST(StoredProgram, WhatCouldNotBeRunIsRefused) {
    const auto device = std::make_shared<LibraryDevice>();
    const auto x = std::make_shared<ov::op::v0::Parameter>(ov::element::f32, ov::Shape{1, 8, 6, 6});
    const auto w = ov::op::v0::Constant::create(ov::element::f32, {8, 8, 3, 3}, std::vector<float>(576, 0.5F));
    const auto y =
        std::make_shared<ov::op::v1::Convolution>(x, w, ov::Strides{1, 1}, ov::CoordinateDiff{1, 1}, ov::CoordinateDiff{1, 1}, ov::Strides{1, 1});
    const ov::Model model(ov::OutputVector{std::make_shared<ov::op::v0::Relu>(y)}, ov::ParameterVector{x});
    const Schedule whole = make_schedule(lower(with_shapes(model, {{1, 8, 6, 6}})), *device);
    ASSERT_EQ(device->convolutions.size(), 1U);
    EXPECT_EQ(refusal(whole), ErrorCode::ok);

    const auto changed = [&](const std::function<void(Schedule&)>& change) {
        Schedule schedule = whole;
        change(schedule);
        return refusal(schedule);
    };
    // A library would read past lists of sizes that are too short.
    const auto convolution = [&](const std::function<void(ConvolutionSpec&)>& change) {
        return changed([&](Schedule& schedule) {
            for (auto& [node, spec] : schedule.specs) {
                if (auto* const call = std::get_if<ConvolutionSpec>(&spec)) change(*call);
            }
        });
    };
    EXPECT_EQ(convolution([](ConvolutionSpec&) {}), ErrorCode::ok);
    EXPECT_EQ(convolution([](ConvolutionSpec& call) { call.stride.pop_back(); }), ErrorCode::data_loss);
    EXPECT_EQ(convolution([](ConvolutionSpec& call) { call.in.assign(4, 6); }), ErrorCode::data_loss);
    EXPECT_EQ(convolution([](ConvolutionSpec& call) { call.groups = 0; }), ErrorCode::data_loss);
    EXPECT_EQ(convolution([](ConvolutionSpec& call) { call.residual = !call.residual; }), ErrorCode::data_loss) << "another number of buffers";
    EXPECT_EQ(changed([&](Schedule& schedule) {
                  for (Step& step : schedule.steps) {
                      if (step.kind == Step::Kind::library) step.arguments.pop_back();
                  }
              }),
              ErrorCode::data_loss);
    // Outputs are copied as they lie, and in whole 256 bytes.
    const auto output = whole.graph.outputs.front();
    EXPECT_EQ(changed([&](Schedule& schedule) { schedule.places[static_cast<std::size_t>(output)]->strides.assign(4, 0); }), ErrorCode::data_loss);
    EXPECT_EQ(changed([&](Schedule& schedule) { schedule.arena_bytes -= 1; }), ErrorCode::data_loss);
    EXPECT_EQ(changed([&](Schedule& schedule) { schedule.arena_offsets.begin()->second += 16; }), ErrorCode::data_loss);
}

}  // namespace
}  // namespace ai_vmm::cuda::test
