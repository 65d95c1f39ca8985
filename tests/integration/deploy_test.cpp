// SPDX-License-Identifier: Apache-2.0
#include <atomic>
#include <cmath>
#include <latch>
#include <thread>

#include "fixture.hpp"

namespace ai_vmm::integration {
namespace {

class Deploy : public Fixture {};

std::vector<float> values(const Tensor& tensor) { return {tensor.as<float>().begin(), tensor.as<float>().end()}; }

TEST_F(Deploy, FindsTheHostAndItsEngines) {
    VMM vmm(options());
    const Hardware hardware = vmm.discover_hardware();
    ASSERT_FALSE(hardware.devices.empty());
    EXPECT_EQ(hardware.devices[0].id, "cpu:0");
    EXPECT_EQ(hardware.devices[0].routes.size(), 2U) << "both engines reach the CPU";
    EXPECT_GT(hardware.devices[0].scores.f32_gflops, 0);
    for (const BackendReport& backend : hardware.backends) {
        // A machine without NVIDIA's driver is told so, and goes on.
        EXPECT_TRUE(backend.loaded || (backend.name == "cuda" && !backend.reason.empty())) << backend.name << ": " << backend.reason;
    }
}

TEST_F(Deploy, RunsAModelUnderItsOwnNames) {
    VMM vmm(options());
    const auto model = vmm.deploy(bundled("digits_cnn.onnx"), quick());
    ASSERT_EQ(model->inputs().size(), 1U);
    ASSERT_EQ(model->outputs().size(), 1U);
    const TensorMap outputs = model->execute(ones(*model));
    EXPECT_EQ(outputs.begin()->first, model->outputs()[0].name);
    EXPECT_EQ(outputs.begin()->second.shape(), (Shape{1, 10}));
    EXPECT_EQ(model->metrics().executions, 1U);
    const DeploymentDescription description = model->describe();
    EXPECT_EQ(description.device, "cpu:0");
    EXPECT_EQ(description.profile.category, ModelCategory::vision_cnn);
    const Explanation explanation = model->explain();
    EXPECT_NE(explanation.text.find(description.precision), std::string::npos);
    EXPECT_EQ(explanation.json.front(), '{');
}

TEST_F(Deploy, EveryEngineGivesTheSameAnswer) {
    VMM vmm(options());
    std::vector<std::vector<float>> answers;
    for (const char* engine : {"openvino", "onnxruntime"}) {
        Constraints constraints = quick();
        constraints.engines = {engine};
        constraints.precision = Precision::f32;
        const auto model = vmm.deploy(bundled("digits_cnn.onnx"), constraints);
        EXPECT_TRUE(model->describe().engine.starts_with(engine));
        answers.push_back(values(model->execute(ones(*model)).begin()->second));
    }
    ASSERT_EQ(answers[0].size(), answers[1].size());
    for (std::size_t i = 0; i < answers[0].size(); ++i) EXPECT_NEAR(answers[0][i], answers[1][i], 1e-3F * (1 + std::abs(answers[0][i])));
}

TEST_F(Deploy, TakesTheContentItself) {
    VMM vmm(options());
    const auto from_file = vmm.deploy(bundled("digits_cnn.onnx"), quick());
    const auto from_bytes = vmm.deploy(ModelSource::from_bytes(slurp(bundled("digits_cnn.onnx"))), quick());
    EXPECT_EQ(from_bytes->describe().source, "<memory>");
    const auto a = values(from_file->execute(ones(*from_file)).begin()->second);
    const auto b = values(from_bytes->execute(ones(*from_bytes)).begin()->second);
    for (std::size_t i = 0; i < a.size(); ++i) EXPECT_NEAR(a[i], b[i], 1e-3F * (1 + std::abs(a[i])));
}

TEST_F(Deploy, SurvivesItsFileAndItsManager) {
    const fs::path copy = folder_ / "model.onnx";
    fs::copy_file(bundled("digits_cnn.onnx"), copy);
    std::shared_ptr<Deployment> model;
    {
        VMM vmm(options());
        model = vmm.deploy(copy, quick());
        fs::resize_file(copy, 10);
        fs::remove(copy);
    }
    EXPECT_EQ(model->execute(ones(*model)).size(), 1U);
}

TEST_F(Deploy, WritesIntoGivenOutputs) {
    VMM vmm(options());
    const auto model = vmm.deploy(bundled("digits_cnn.onnx"), quick());
    const TensorMap inputs = ones(*model);
    const std::vector<Tensor> given{inputs.begin()->second};
    std::vector<Tensor> outputs{Tensor(ElementType::f32, {1, 10})};
    const void* data = outputs[0].data();
    model->execute_into(given, outputs);
    EXPECT_EQ(outputs[0].data(), data);
    const auto expected = values(model->execute(inputs).begin()->second);
    EXPECT_EQ(values(outputs[0]), expected);
}

TEST_F(Deploy, AnswersManyThreadsAtOnce) {
    VMM vmm(options());
    Constraints constraints = quick();
    constraints.goal = Goal::throughput;
    const auto model = vmm.deploy(bundled("digits_cnn.onnx"), constraints);
    const auto expected = values(model->execute(ones(*model)).begin()->second);
    std::atomic<int> wrong{0};
    {
        std::vector<std::jthread> callers;
        for (int c = 0; c < 8; ++c) {
            callers.emplace_back([&] {
                const TensorMap inputs = ones(*model);
                for (int i = 0; i < 50; ++i) {
                    const auto got = values(model->execute(inputs).begin()->second);
                    for (std::size_t k = 0; k < got.size(); ++k) wrong += std::abs(got[k] - expected[k]) > 1e-2F * (1 + std::abs(expected[k]));
                }
            });
        }
    }
    EXPECT_EQ(wrong, 0);
    EXPECT_EQ(model->metrics().executions, 401U);
}

TEST_F(Deploy, BatchesGiveWhatSinglesGive) {
    VMM vmm(options());
    Constraints constraints = quick();
    constraints.goal = Goal::throughput;
    const auto model = vmm.deploy(bundled("digits_cnn.onnx"), constraints);
    std::vector<TensorMap> batch;
    for (int i = 0; i < 37; ++i) {
        TensorMap inputs = ones(*model);
        Tensor tensor = inputs.begin()->second;
        for (float& value : tensor.as<float>()) value = static_cast<float>(i % 16);
        batch.push_back(inputs);
    }
    const std::vector<TensorMap> results = model->execute_batch(batch);
    ASSERT_EQ(results.size(), batch.size());
    for (std::size_t i = 0; i < batch.size(); ++i) {
        const auto merged = values(results[i].begin()->second);
        const auto single = values(model->execute(batch[i]).begin()->second);
        ASSERT_EQ(merged.size(), single.size());
        for (std::size_t k = 0; k < merged.size(); ++k) EXPECT_NEAR(merged[k], single[k], 1e-2F * (1 + std::abs(single[k])));
    }
}

TEST_F(Deploy, AsyncAnswersByFutureAndCallback) {
    VMM vmm(options());
    const auto model = vmm.deploy(bundled("digits_cnn.onnx"), quick());
    auto future = model->execute_async(ones(*model));
    EXPECT_EQ(future.get().size(), 1U);
    std::latch done(1);
    model->execute_async(ones(*model), [&](RunResult result) {
        EXPECT_EQ(result.error, nullptr);
        done.count_down();
    });
    done.wait();
}

TEST_F(Deploy, SeveralModelsShareTheMachineByPriority) {
    VMM vmm(options());
    std::vector<DeployRequest> requests{{bundled("digits_cnn.onnx"), quick(), "first"}, {bundled("wine_mlp.onnx"), quick(), "second"}};
    const auto models = vmm.deploy_all(requests);
    ASSERT_EQ(models.size(), 2U);
    const Metrics metrics = vmm.metrics();
    EXPECT_EQ(metrics.deployments.size(), 2U);
    if (metrics.threads_total >= 2) {
        EXPECT_LE(metrics.threads_in_use, metrics.threads_total);
    }
    EXPECT_EQ(models[1]->describe().name, "second");
    for (const auto& model : models) EXPECT_GE(model->execute(ones(*model)).size(), 1U);
    vmm.undeploy(models[0]);
    vmm.undeploy(models[1]);
    EXPECT_EQ(vmm.metrics().threads_in_use, 0);
}

TEST_F(Deploy, OneRefusalTakesTheOthersBack) {
    VMM vmm(options());
    std::vector<DeployRequest> requests{{bundled("digits_cnn.onnx"), quick(), "first"}, {folder_ / "missing.onnx", quick(), "second"}};
    EXPECT_EQ(error_of([&] { (void)vmm.deploy_all(requests); }).code(), ErrorCode::not_found);
    EXPECT_EQ(vmm.metrics().deployments.size(), 0U);
    EXPECT_EQ(vmm.metrics().threads_in_use, 0);
}

TEST_F(Deploy, UndeployEndsIt) {
    VMM vmm(options());
    const auto model = vmm.deploy(bundled("digits_cnn.onnx"), quick());
    vmm.undeploy(model);
    EXPECT_EQ(error_of([&] { (void)model->execute(ones(*model)); }).code(), ErrorCode::failed_precondition);
    EXPECT_EQ(error_of([&] { vmm.undeploy(model); }).code(), ErrorCode::not_found);
}

TEST_F(Deploy, ThePlanIsShownWithoutDeploying) {
    VMM vmm(options());
    const Explanation explanation = vmm.plan(bundled("digits_cnn.onnx"), quick());
    EXPECT_NE(explanation.text.find("onnxruntime"), std::string::npos);
    EXPECT_NE(explanation.text.find("openvino"), std::string::npos);
    EXPECT_EQ(vmm.metrics().deployments.size(), 0U);
}

TEST_F(Deploy, PredictsWithoutMeasuring) {
    VMM vmm(options());
    const auto model = vmm.deploy(bundled("digits_cnn.onnx"), {.tune = std::chrono::milliseconds(0)});
    EXPECT_EQ(model->describe().precision, "f32");
    EXPECT_EQ(model->execute(ones(*model)).size(), 1U);
}

TEST_F(Deploy, OnnxRuntimeRunsWhatOpenVinoRefuses) {
    const fs::path models = real_models();
    if (models.empty()) GTEST_SKIP() << "no folder of real models";
    VMM vmm(options());
    const auto model = vmm.deploy(models / "speech/silero_vad.onnx", quick());
    EXPECT_TRUE(model->describe().engine.starts_with("onnxruntime"));
    EXPECT_EQ(model->inputs()[0].name, "input");
}

}  // namespace
}  // namespace ai_vmm::integration
