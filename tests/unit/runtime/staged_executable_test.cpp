// SPDX-License-Identifier: Apache-2.0
#include "runtime/staged_executable.hpp"

#include <gtest/gtest.h>

#include <thread>

#include "runtime/deployment_engine.hpp"
#include "unit/runtime/fake_stage.hpp"

namespace ai_vmm::runtime {
namespace {

using namespace testing;

StagePart part(Behaviour behaviour, std::vector<int> inputs, std::vector<int> outputs, std::string where = "fake on cpu:0") {
    return {std::make_shared<FakeExecutable>(std::move(behaviour)), std::move(where), std::move(inputs), std::move(outputs)};
}

Tensor f32(std::initializer_list<float> values) { return Tensor::from<float>({static_cast<std::int64_t>(values.size())}, values); }
std::vector<float> list(const Tensor& tensor) { return {tensor.as<float>().begin(), tensor.as<float>().end()}; }

std::vector<Tensor> run_once(StagedExecutable& executable, std::vector<Tensor> inputs, std::size_t outputs) {
    std::vector<Tensor> results(outputs);
    executable.create_request()->run(inputs, results);
    return results;
}

/// a + b, elementwise.
Behaviour adds() {
    return [](std::span<const Tensor> inputs, std::span<Tensor> outputs, const std::atomic<bool>&) {
        if (outputs[0].empty() || outputs[0].shape() != inputs[0].shape()) outputs[0] = Tensor(ElementType::f32, inputs[0].shape());
        for (std::size_t i = 0; i < inputs[0].element_count(); ++i) outputs[0].as<float>()[i] = inputs[0].as<float>()[i] + inputs[1].as<float>()[i];
    };
}

TEST(StagedExecutable, ValuesPassFromStageToStage) {
    // x -> 2x -> 6x; 6x + x.
    StagedExecutable executable({part(scale_by(2), {0}, {1}), part(scale_by(3), {1}, {2}), part(adds(), {2, 0}, {3})},
                                {.count = 4, .inputs = {0}, .outputs = {3, 1}});
    const auto outputs = run_once(executable, {f32({1, 2})}, 2);
    EXPECT_EQ(list(outputs[0]), (std::vector<float>{7, 14}));
    EXPECT_EQ(list(outputs[1]), (std::vector<float>{2, 4})) << "a value between stages may be an output, too";
}

TEST(StagedExecutable, WritesIntoWhatTheCallerGives) {
    StagedExecutable executable({part(scale_by(2), {0}, {1}), part(scale_by(3), {1}, {2})}, {.count = 3, .inputs = {0}, .outputs = {2, 1}});
    const auto request = executable.create_request();
    const std::vector<Tensor> inputs{f32({1, 2})};
    std::vector<Tensor> outputs{f32({0, 0}), f32({0, 0})};
    const void* first = outputs[0].data();
    const void* second = outputs[1].data();
    for (int i = 0; i < 2; ++i) {
        request->run(inputs, outputs);
        EXPECT_EQ(outputs[0].data(), first);
        EXPECT_EQ(outputs[1].data(), second);
        EXPECT_EQ(list(outputs[0]), (std::vector<float>{6, 12}));
    }
}

TEST(StagedExecutable, OutputsOutliveTheNextRun) {
    StagedExecutable executable({part(scale_by(2), {0}, {1}), part(scale_by(3), {1}, {2})}, {.count = 3, .inputs = {0}, .outputs = {2, 1}});
    const auto request = executable.create_request();
    std::vector<Tensor> outputs(2), later(2);
    request->run(std::vector<Tensor>{f32({1})}, outputs);
    request->run(std::vector<Tensor>{f32({5})}, later);
    EXPECT_EQ(list(outputs[0]), std::vector<float>{6});
    EXPECT_EQ(list(outputs[1]), std::vector<float>{2});
    EXPECT_EQ(list(later[0]), std::vector<float>{30});
}

TEST(StagedExecutable, MemoryBetweenStagesIsUsedAgain) {
    std::vector<const void*> seen;
    const Behaviour watch = [&seen](std::span<const Tensor> inputs, std::span<Tensor> outputs, const std::atomic<bool>& cancelled) {
        seen.push_back(inputs[0].data());
        scale_by(1)(inputs, outputs, cancelled);
    };
    StagedExecutable executable({part(scale_by(2), {0}, {1}), part(watch, {1}, {2})}, {.count = 3, .inputs = {0}, .outputs = {2}});
    const auto request = executable.create_request();
    std::vector<Tensor> outputs(1);
    for (int i = 0; i < 3; ++i) request->run(std::vector<Tensor>{f32({1, 2, 3})}, outputs);
    ASSERT_EQ(seen.size(), 3U);
    EXPECT_EQ(seen[0], seen[1]);
    EXPECT_EQ(seen[1], seen[2]);
}

TEST(StagedExecutable, InputsAndRepeatedValuesAsOutputsAreCopies) {
    StagedExecutable executable({part(scale_by(2), {0}, {1})}, {.count = 2, .inputs = {0, -1}, .outputs = {0, 1, 1}});
    const Tensor x = f32({4});
    const auto outputs = run_once(executable, {x, f32({9})}, 3);
    EXPECT_EQ(list(outputs[0]), std::vector<float>{4});
    EXPECT_NE(outputs[0].data(), x.data());
    EXPECT_EQ(list(outputs[1]), std::vector<float>{8});
    EXPECT_EQ(list(outputs[2]), std::vector<float>{8});
    EXPECT_NE(outputs[1].data(), outputs[2].data());
}

TEST(StagedExecutable, AFailureNamesItsStageAndLeavesTheRequestUsable) {
    int calls = 0;
    const Behaviour once = [&calls](std::span<const Tensor> inputs, std::span<Tensor> outputs, const std::atomic<bool>& cancelled) {
        if (++calls == 1) throw Error(ErrorCode::invalid_argument, ErrorCategory::runtime, "odd values");
        scale_by(3)(inputs, outputs, cancelled);
    };
    StagedExecutable executable({part(scale_by(2), {0}, {1}), part(once, {1}, {2}, "fake on gpu:0")}, {.count = 3, .inputs = {0}, .outputs = {2}});
    const auto request = executable.create_request();
    std::vector<Tensor> outputs{f32({0})};
    const void* given = outputs[0].data();
    try {
        request->run(std::vector<Tensor>{f32({1})}, outputs);
        FAIL() << "no error";
    } catch (const Error& error) {
        EXPECT_EQ(error.code(), ErrorCode::internal) << "the caller did not make those values";
        EXPECT_EQ(error.message(), "stage 2 of 2, fake on gpu:0: odd values");
    }
    EXPECT_EQ(outputs[0].data(), given) << "another engine writes there";
    request->run(std::vector<Tensor>{f32({1})}, outputs);
    EXPECT_EQ(list(outputs[0]), std::vector<float>{6});
}

TEST(StagedExecutable, CancelReachesTheStageThatRuns) {
    std::atomic<bool> stalling{false};
    const Behaviour stall = [&stalling](std::span<const Tensor> inputs, std::span<Tensor> outputs, const std::atomic<bool>& cancelled) {
        stalling = true;
        stalls()(inputs, outputs, cancelled);
    };
    StagedExecutable executable({part(scale_by(2), {0}, {1}), part(stall, {1}, {2})}, {.count = 3, .inputs = {0}, .outputs = {2}});
    const auto request = executable.create_request();
    request->cancel();  // nothing runs: without effect
    std::jthread canceller([&] {
        while (!stalling) std::this_thread::yield();
        request->cancel();
    });
    std::vector<Tensor> outputs(1);
    try {
        request->run(std::vector<Tensor>{f32({1})}, outputs);
        FAIL() << "no error";
    } catch (const Error& error) {
        EXPECT_EQ(error.code(), ErrorCode::cancelled);
    }
}

TEST(StagedExecutable, AFaultInAStageIsAnsweredByTheNextCandidate) {
    const planning::CandidateKey cut{.engine = "cuda+openvino", .device = "gpu:0+cpu:0"};
    const planning::CandidateKey whole{.engine = "openvino", .device = "cpu:0"};
    auto factory = std::make_shared<FakeFactory>();
    factory->engines["openvino"] = scale_by(6);
    auto executable = std::make_shared<StagedExecutable>(
        std::vector<StagePart>{part(scale_by(2), {0}, {1}), part(fails(ErrorCode::unavailable), {1}, {2}, "cuda on gpu:0")},
        StageValues{.count = 3, .inputs = {0}, .outputs = {2}});
    DeploymentEngine engine({.name = "model",
                             .inputs = {{.name = "x", .type = ElementType::f32, .shape = {-1}}},
                             .outputs = {{.name = "y", .type = ElementType::f32, .shape = {-1}}},
                             .fallbacks = {whole}},
                            std::make_shared<Stage>(cut, executable, 1), factory);
    std::vector<Tensor> outputs(1);
    engine.run(std::vector<Tensor>{f32({1, 2})}, outputs, {});
    EXPECT_EQ(list(outputs[0]), (std::vector<float>{6, 12}));
    EXPECT_EQ(engine.metrics().fallbacks, 1U);
    EXPECT_EQ(engine.active()->key(), whole) << "a device that is gone is left at once";
}

}  // namespace
}  // namespace ai_vmm::runtime
