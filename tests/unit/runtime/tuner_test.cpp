// SPDX-License-Identifier: Apache-2.0
#include "runtime/tuner.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <mutex>
#include <thread>

#include "fake_stage.hpp"

namespace ai_vmm::runtime {
namespace {

using planning::CandidateKey;

/// Compiling takes longer than all of the time there is.
class SlowFactory final : public StageFactory {
public:
    explicit SlowFactory(std::chrono::milliseconds compile_time) : compile_time_(compile_time) {
        made_by.engines = {{"processor", testing::scale_by(2)}, {"accelerator", testing::scale_by(2)}, {"wrong", testing::scale_by(3)}};
    }
    std::shared_ptr<Stage> make(const CandidateKey& key) override {
        std::this_thread::sleep_for(compile_time_);
        return made_by.make(key);
    }
    testing::FakeFactory made_by;

private:
    const std::chrono::milliseconds compile_time_;
};

struct Tuning {
    std::vector<TensorInfo> outputs{TensorInfo{.name = "y", .type = ElementType::f32, .shape = {4}}};
    TuneRequest request;

    explicit Tuning(const std::vector<CandidateKey>& candidates) {
        Tensor x(ElementType::f32, {4});
        for (std::size_t i = 0; i < 4; ++i) x.as<float>()[i] = static_cast<float>(i) - 1.5F;
        request.outputs = &outputs;
        request.calibration = {{x}};
        request.budget = std::chrono::milliseconds(20);
        request.reference_keys = {{"processor", "cpu:0", Precision::f32, 1, 1, 1}};
        for (const CandidateKey& key : candidates) request.candidates.push_back({.key = key, .reason = {}, .to_measure = true, .stages = {}});
        predict(std::vector<double>(candidates.size(), 1.0));
    }
    void predict(const std::vector<double>& latencies_ms) {
        for (std::size_t i = 0; i < latencies_ms.size(); ++i) {
            request.candidates[i].predicted_latency_ms = latencies_ms[i];
            request.candidates[i].predicted_throughput_per_s = 1e3 / latencies_ms[i];
        }
    }
};

const planning::Outcome* outcome_of(const TuneResult& result, const std::string& engine, Precision precision) {
    for (const planning::Outcome& outcome : result.outcomes) {
        if (outcome.key.engine == engine && outcome.key.precision == precision) return &outcome;
    }
    return nullptr;
}

TEST(Tuner, WhatIsPredictedFarBetterIsTriedFirstAndWhateverTheTime) {
    // As the planner lists them: what is exact first.
    SlowFactory factory(std::chrono::milliseconds(30));
    Tuning tuning({{"processor", "cpu:0", Precision::f32, 1, 1, 1},
                   {"accelerator", "gpu:0", Precision::f32, 1, 1, 1},
                   {"accelerator", "gpu:0", Precision::bf16, 1, 1, 1},
                   {"accelerator", "gpu:0", Precision::f16, 1, 1, 1}});
    tuning.predict({10, 2, 1, 1});
    const TuneResult result = tune(tuning.request, factory);
    const planning::Outcome* best = outcome_of(result, "accelerator", Precision::f16);
    ASSERT_NE(best, nullptr) << "of equally good ones that with more digits";
    EXPECT_TRUE(best->compiled && best->agrees) << best->failure << best->disagreement;
    EXPECT_TRUE(best->latency_ms.has_value()) << "and measured, so that it can be chosen";
    EXPECT_EQ(outcome_of(result, "accelerator", Precision::bf16), nullptr) << "the second best has to be in time";
    EXPECT_EQ(outcome_of(result, "accelerator", Precision::f32), nullptr);
}

TEST(Tuner, IfTheBestIsNotAdmittedTheExactOneIsTriedWhateverTheTime) {
    SlowFactory factory(std::chrono::milliseconds(30));
    Tuning tuning({{"processor", "cpu:0", Precision::f32, 1, 1, 1},
                   {"accelerator", "gpu:0", Precision::f32, 1, 1, 1},
                   {"wrong", "gpu:1", Precision::bf16, 1, 1, 1},
                   {"wrong", "gpu:1", Precision::f16, 1, 1, 1}});
    tuning.predict({10, 2, 1, 1});
    const TuneResult result = tune(tuning.request, factory);
    ASSERT_NE(outcome_of(result, "wrong", Precision::f16), nullptr);
    EXPECT_FALSE(outcome_of(result, "wrong", Precision::f16)->agrees);
    EXPECT_EQ(outcome_of(result, "wrong", Precision::bf16), nullptr) << "where f16 differs, bf16 is not worth the time";
    const planning::Outcome* exact = outcome_of(result, "accelerator", Precision::f32);
    ASSERT_NE(exact, nullptr);
    EXPECT_TRUE(exact->latency_ms.has_value());
}

TEST(Tuner, APredictionThatIsNotKeptEndsNoSearch) {
    SlowFactory factory(std::chrono::milliseconds(30));
    factory.made_by.engines["slow"] = [](std::span<const Tensor> inputs, std::span<Tensor> outputs, const std::atomic<bool>& cancelled) {
        std::this_thread::sleep_for(std::chrono::milliseconds(5));
        testing::scale_by(2)(inputs, outputs, cancelled);
    };
    Tuning tuning({{"processor", "cpu:0", Precision::f32, 1, 1, 1},
                   {"slow", "gpu:0", Precision::f32, 1, 1, 1},
                   {"accelerator", "gpu:0", Precision::f32, 1, 1, 1}});
    tuning.predict({10, 1, 2});
    const TuneResult result = tune(tuning.request, factory);
    EXPECT_NE(outcome_of(result, "slow", Precision::f32), nullptr) << "predicted best";
    EXPECT_NE(outcome_of(result, "accelerator", Precision::f32), nullptr) << "and predicted to be faster than that one ran";
}

TEST(Tuner, WhatRunsElsewhereIsCompiledBesideTheReference) {
    // The reference is not there before the accelerator's compilation has begun, and the other way round.
    class Meeting final : public StageFactory {
    public:
        Meeting() { made_by.engines = {{"processor", testing::scale_by(2)}, {"accelerator", testing::scale_by(2)}, {"broken", testing::fails()}}; }
        std::shared_ptr<Stage> make(const CandidateKey& key) override {
            ++arrived;
            for (int i = 0; i < 10000 && arrived < 2; ++i) std::this_thread::sleep_for(std::chrono::milliseconds(1));
            const std::lock_guard lock(mutex);
            return made_by.make(key);
        }
        testing::FakeFactory made_by;
        std::atomic<int> arrived = 0;
        std::mutex mutex;
    };
    for (const std::string engine : {"accelerator", "broken", "missing"}) {
        Meeting factory;
        Tuning tuning({{"processor", "cpu:0", Precision::f32, 1, 1, 1}, {engine, "gpu:0", Precision::f16, 1, 1, 1}});
        tuning.predict({10, 1});
        tuning.request.processors = {"cpu:0"};
        const TuneResult result = tune(tuning.request, factory);
        EXPECT_EQ(factory.arrived, 2) << "neither is compiled twice";
        EXPECT_EQ(factory.made_by.made.size(), 2u);
        const planning::Outcome* outcome = outcome_of(result, engine, Precision::f16);
        ASSERT_NE(outcome, nullptr);
        EXPECT_EQ(outcome->compiled, engine == "accelerator") << engine;
        EXPECT_EQ(outcome->failure.empty(), engine == "accelerator") << outcome->failure;
        EXPECT_EQ(outcome->latency_ms.has_value(), engine == "accelerator");
        EXPECT_GT(outcome->compile_ms, 0);
    }
}

TEST(Tuner, CompilingIsExpectedToTakeWhatItTookTheSameEngine) {
    // Two seconds: 1.2 of them go to the first; an engine that compiles at once still has its turn.
    class OneIsSlow final : public StageFactory {
    public:
        OneIsSlow() { made_by.engines = {{"processor", testing::scale_by(2)}, {"wrong", testing::scale_by(3)}}; }
        std::shared_ptr<Stage> make(const CandidateKey& key) override {
            if (key.engine == "wrong") std::this_thread::sleep_for(std::chrono::milliseconds(1200));
            return made_by.make(key);
        }
        testing::FakeFactory made_by;
    } factory;
    Tuning tuning({{"processor", "cpu:0", Precision::f32, 1, 1, 1},
                   {"wrong", "cpu:0", Precision::bf16, 1, 1, 1},
                   {"processor", "cpu:0", Precision::f32, 1, 2, 1}});
    tuning.request.budget = std::chrono::milliseconds(2000);
    tuning.predict({10, 1, 10});
    const TuneResult result = tune(tuning.request, factory);
    const auto tried = [&](const CandidateKey& key) {
        return std::ranges::any_of(result.outcomes, [&](const planning::Outcome& outcome) { return outcome.key == key && outcome.compiled; });
    };
    EXPECT_TRUE(tried({"wrong", "cpu:0", Precision::bf16, 1, 1, 1}));
    EXPECT_TRUE(tried({"processor", "cpu:0", Precision::f32, 1, 2, 1}));
}

TEST(Tuner, WhatIsPredictedLittleBetterHasToBeInTime) {
    SlowFactory factory(std::chrono::milliseconds(30));
    Tuning tuning({{"processor", "cpu:0", Precision::f32, 1, 1, 1}, {"accelerator", "gpu:0", Precision::f16, 1, 1, 1}});
    tuning.predict({1.5, 1});
    EXPECT_EQ(tune(tuning.request, factory).outcomes.size(), 1U);
}

TEST(Tuner, WhatIsPredictedBestIsComparedAllTheSame) {
    SlowFactory factory(std::chrono::milliseconds(30));
    const Tuning tuning({{"wrong", "gpu:0", Precision::f16, 1, 1, 1}});
    const TuneResult result = tune(tuning.request, factory);
    const planning::Outcome* best = outcome_of(result, "wrong", Precision::f16);
    ASSERT_NE(best, nullptr);
    EXPECT_FALSE(best->agrees);
    EXPECT_FALSE(best->latency_ms.has_value());
}

TEST(Tuner, AnExcludedEnginesReferenceJudgesLossyPrecisionsAlone) {
    SlowFactory factory(std::chrono::milliseconds(0));
    Tuning tuning({{"wrong", "gpu:0", Precision::f32, 1, 1, 1}, {"wrong", "gpu:0", Precision::f16, 1, 1, 1}});
    tuning.request.budget = std::chrono::milliseconds(2000);
    tuning.request.foreign_reference = true;
    const TuneResult result = tune(tuning.request, factory);
    const planning::Outcome* exact = outcome_of(result, "wrong", Precision::f32);
    const planning::Outcome* lossy = outcome_of(result, "wrong", Precision::f16);
    ASSERT_TRUE(exact != nullptr && lossy != nullptr);
    EXPECT_TRUE(exact->agrees);
    EXPECT_FALSE(exact->disagreement.empty()) << "it is told";
    EXPECT_TRUE(exact->latency_ms.has_value());
    EXPECT_FALSE(lossy->agrees);
}

TEST(Tuner, WithoutTimeNothingButTheReferenceIsBuilt) {
    SlowFactory factory(std::chrono::milliseconds(0));
    Tuning tuning({{"accelerator", "gpu:0", Precision::f16, 1, 1, 1}});
    tuning.request.budget = std::chrono::milliseconds(0);
    const TuneResult result = tune(tuning.request, factory);
    EXPECT_EQ(result.outcomes.size(), 1U);
}

}  // namespace
}  // namespace ai_vmm::runtime
