// SPDX-License-Identifier: Apache-2.0
#include "runtime/deployment_engine.hpp"

#include <gtest/gtest.h>

#include <array>
#include <latch>
#include <thread>

#include "fake_stage.hpp"

namespace ai_vmm::runtime {
namespace {

using namespace testing;
using namespace std::chrono_literals;

const std::vector<TensorInfo> kIn{{.name = "x", .type = ElementType::f32, .shape = {-1, 2}}};
const std::vector<TensorInfo> kOut{{.name = "y", .type = ElementType::f32, .shape = {-1, 2}}};

struct Fixture {
    std::shared_ptr<FakeFactory> factory = std::make_shared<FakeFactory>();
    std::unique_ptr<DeploymentEngine> engine;

    Fixture(std::map<std::string, Behaviour> engines, const planning::CandidateKey& active, std::vector<planning::CandidateKey> fallbacks = {},
            bool batchable = false, int max_queue = 4) {
        factory->engines = std::move(engines);
        auto stage = factory->make(active);
        engine = std::make_unique<DeploymentEngine>(
            DeploymentEngine::Options{
                .name = "fake", .inputs = kIn, .outputs = kOut, .fallbacks = std::move(fallbacks), .batchable = batchable, .max_queue = max_queue},
            std::move(stage), factory);
    }
    Tensor run(const RunOptions& options = {}, float value = 1) {
        const Tensor x = Tensor::from<float>({1, 2}, {value, value});
        std::vector<Tensor> outputs(1);
        engine->run({&x, 1}, outputs, options);
        return outputs[0];
    }
};

template <typename Function>
Error error_of(Function&& function) {
    try {
        function();
    } catch (const Error& error) {
        return error;
    }
    return Error(ErrorCode::ok, ErrorCategory::runtime, "no error");
}

TEST(DeploymentEngine, RunsAndCounts) {
    Fixture f({{"a", scale_by(2)}}, key("a"));
    EXPECT_EQ(f.run().as<float>()[0], 2);
    EXPECT_EQ(f.engine->metrics().executions, 1U);
    EXPECT_EQ(f.engine->metrics().active_candidate, "a/cpu:0/f32/t1/s1/b1");
}

/// A fixture whose engine "host" sees host memory alone and "cuda" checks that it is given a device's.
struct PlacesFixture {
    std::shared_ptr<FakeFactory> factory = std::make_shared<FakeFactory>();
    std::shared_ptr<FakeCopies> copies = std::make_shared<FakeCopies>();
    std::unique_ptr<DeploymentEngine> engine;
    Tensor x, on_device = Tensor::wanted_in({MemoryKind::cuda, 1});

    explicit PlacesFixture(const std::string& active, std::vector<planning::CandidateKey> fallbacks = {}, Behaviour cuda = nullptr) {
        factory->reads_cuda = "cuda";
        factory->engines = {{"host", scale_by(2)}, {"cuda", cuda ? std::move(cuda) : doubles_there()}};
        auto stage = factory->make(key(active));
        engine = std::make_unique<DeploymentEngine>(
            DeploymentEngine::Options{.name = "fake",
                                      .inputs = kIn,
                                      .outputs = kOut,
                                      .fallbacks = std::move(fallbacks),
                                      .copy = [copies = copies](const Tensor& from, Tensor& to) { (*copies)(from, to); }},
            std::move(stage), factory);
        x = Tensor::from<float>({1, 2}, {3, 4});
        (*copies)(x, on_device);
        copies->copies = 0;
    }
    static Behaviour doubles_there() {
        return [](std::span<const Tensor> inputs, std::span<Tensor> outputs, const std::atomic<bool>&) {
            ASSERT_EQ(inputs[0].place(), (MemoryPlace{MemoryKind::cuda, 1}));
            ASSERT_EQ(outputs[0].place(), (MemoryPlace{MemoryKind::cuda, 1}));
            auto memory = std::make_shared<std::vector<float>>(2);
            for (std::size_t i = 0; i < 2; ++i) (*memory)[i] = 2 * static_cast<const float*>(inputs[0].data())[i];
            outputs[0] = Tensor::borrow(ElementType::f32, {1, 2}, memory->data(), outputs[0].place(), memory);
        };
    }
    void expect_doubled(const Tensor& y, const MemoryPlace& place) const {
        ASSERT_EQ(y.place(), place);
        ASSERT_EQ(y.shape(), (Shape{1, 2}));
        const auto* const values = static_cast<const float*>(y.data());
        EXPECT_EQ(values[0], 6);
        EXPECT_EQ(values[1], 8);
    }
};

constexpr MemoryPlace kThere{MemoryKind::cuda, 1};

TEST(DeploymentEngine, TensorsOnADeviceReachAnEngineThatReadsThem) {
    PlacesFixture f("cuda");
    std::vector<Tensor> outputs(1);
    f.engine->run({&f.on_device, 1}, outputs, {.timeout = {}, .stop = {}, .outputs_in = kThere});
    f.expect_doubled(outputs[0], kThere);
    EXPECT_EQ(f.copies->copies, 0);
}

TEST(DeploymentEngine, AnEngineOfTheHostGetsCopies) {
    PlacesFixture f("host");
    std::vector<Tensor> outputs(1);
    f.engine->run({&f.on_device, 1}, outputs, {.timeout = {}, .stop = {}, .outputs_in = kThere});
    f.expect_doubled(outputs[0], kThere);
    EXPECT_EQ(f.copies->copies, 2);
    outputs.assign(1, {});
    f.engine->run({&f.on_device, 1}, outputs, {});
    f.expect_doubled(outputs[0], {});
    EXPECT_EQ(f.copies->copies, 3);
    // Given on the device: written there.
    std::vector<float> memory(2);
    outputs[0] = Tensor::borrow(ElementType::f32, {1, 2}, memory.data(), kThere, nullptr);
    f.engine->run({&f.x, 1}, outputs, {});
    EXPECT_EQ(memory, (std::vector<float>{6, 8}));
    EXPECT_EQ(outputs[0].data(), memory.data());
}

TEST(DeploymentEngine, AFallbackOnTheHostAnswersWhereItWasAsked) {
    PlacesFixture f("cuda", {key("host")}, fails(ErrorCode::unavailable));
    for (int call = 0; call < 3; ++call) {  // the second one finds the host's engine active
        std::vector<Tensor> outputs(1);
        f.engine->run({&f.on_device, 1}, outputs, {.timeout = {}, .stop = {}, .outputs_in = kThere});
        f.expect_doubled(outputs[0], kThere);
    }
    EXPECT_EQ(f.engine->metrics().fallbacks, 1U);
    EXPECT_EQ(f.engine->metrics().active_candidate, key("host").id());
}

TEST(DeploymentEngine, WithoutAWayBetweenPlacesADeviceTensorIsRefused) {
    Fixture f({{"a", scale_by(2)}}, key("a"));
    std::vector<float> memory(2);
    const Tensor x = Tensor::borrow(ElementType::f32, {1, 2}, memory.data(), kThere, nullptr);
    std::vector<Tensor> outputs(1);
    EXPECT_EQ(error_of([&] { f.engine->run({&x, 1}, outputs, {}); }).code(), ErrorCode::unimplemented);
}

/// Adds `mark` to its input and counts who is inside at once.
struct Replica {
    std::atomic<int> calls{0}, inside{0}, most{0};
    Behaviour behaviour(float mark) {
        return [this, mark](std::span<const Tensor> inputs, std::span<Tensor> outputs, const std::atomic<bool>&) {
            const int now = ++inside;
            for (int seen = most; now > seen && !most.compare_exchange_weak(seen, now);) {
            }
            std::this_thread::sleep_for(5ms);
            outputs[0] = inputs[0].clone();
            for (float& value : outputs[0].as<float>()) value += mark;
            ++calls;
            --inside;
        };
    }
};

TEST(DeploymentEngine, ReplicasShareOneQueueEvenly) {
    std::array<Replica, 3> replicas;
    std::vector<std::shared_ptr<backend::Executable>> executables;
    for (std::size_t r = 0; r < replicas.size(); ++r) executables.push_back(std::make_shared<FakeExecutable>(replicas[r].behaviour(0)));
    auto stage = std::make_shared<Stage>(key("a", 6), executables, 6);
    EXPECT_EQ(stage->replica_count(), 3U);
    {
        DeploymentEngine engine({.name = "fake", .inputs = kIn, .outputs = kOut, .fallbacks = {}, .max_queue = 100, .copy = {}}, stage,
                                std::make_shared<FakeFactory>());
        // One caller at a time: whichever replica is free. Twelve at once: two in each.
        std::vector<std::jthread> callers;
        for (int c = 0; c < 12; ++c) {
            callers.emplace_back([&] {
                for (int call = 0; call < 10; ++call) {
                    const Tensor x = Tensor::from<float>({1, 2}, {1, 2});
                    std::vector<Tensor> outputs(1);
                    engine.run({&x, 1}, outputs, {});
                }
            });
        }
        callers.clear();
        EXPECT_EQ(engine.metrics().executions, 120U);
    }
    for (const Replica& replica : replicas) {
        EXPECT_LE(replica.most, 2) << "no replica has more than its share of the slots";
        EXPECT_GE(replica.calls, 20) << "each works";
    }
}

TEST(Stage, SlotsGoToTheLeastBusyReplica) {
    std::vector<std::shared_ptr<backend::Executable>> executables;
    for (int r = 0; r < 2; ++r) executables.push_back(std::make_shared<FakeExecutable>(scale_by(1)));
    Stage stage(key("a", 5), executables, 5);
    std::vector<Stage::Slot*> slots;
    std::array<int, 2> held{};
    while (Stage::Slot* slot = stage.try_take()) {
        ++held[slot->replica];
        EXPECT_LE(std::abs(held[0] - held[1]), 1);
        slots.push_back(slot);
    }
    EXPECT_EQ(held, (std::array{3, 2}));
    for (Stage::Slot* slot : slots) {
        if (slot->replica == 1) stage.put_back(slot);
    }
    EXPECT_EQ(stage.try_take()->replica, 1U);
}

TEST(DeploymentEngine, WritesGivenOutputsInPlace) {
    Fixture f({{"a", scale_by(2)}}, key("a"));
    const Tensor x = Tensor::from<float>({1, 2}, {1, 2});
    std::vector<Tensor> outputs{Tensor(ElementType::f32, {1, 2})};
    void* data = outputs[0].data();
    f.engine->run({&x, 1}, outputs, {});
    EXPECT_EQ(outputs[0].data(), data);
    EXPECT_EQ(outputs[0].as<float>()[1], 4);
}

TEST(DeploymentEngine, ChecksInputsBeforeTheEngineSeesThem) {
    Fixture f({{"a", fails()}}, key("a"));  // an engine that is asked would fail as `internal`
    const auto run = [&](const Tensor& x) {
        return error_of([&] {
            std::vector<Tensor> outputs(1);
            f.engine->run({&x, 1}, outputs, {});
        });
    };
    EXPECT_EQ(run(Tensor(ElementType::f64, {1, 2})).code(), ErrorCode::invalid_argument);
    EXPECT_EQ(run(Tensor(ElementType::f32, {1, 3})).code(), ErrorCode::invalid_argument);
    EXPECT_EQ(run(Tensor(ElementType::f32, {2})).code(), ErrorCode::invalid_argument);
    EXPECT_EQ(run(Tensor()).code(), ErrorCode::invalid_argument);
    EXPECT_EQ(run(Tensor(ElementType::f32, {1, 3})).found(), "f32 [1,3]");
    EXPECT_EQ(run(Tensor(ElementType::f32, {1, 3})).expected(), "f32 [?,2]");
    EXPECT_EQ(error_of([&] { f.engine->run({}, {}, {}); }).code(), ErrorCode::invalid_argument);
    EXPECT_EQ(f.engine->metrics().failures, 0U);
}

TEST(DeploymentEngine, NamesAreCheckedOneByOne) {
    Fixture f({{"a", scale_by(1)}}, key("a"));
    std::vector<Tensor> ordered(1);
    const Tensor x(ElementType::f32, {1, 2});
    EXPECT_NE(error_of([&] { f.engine->arrange({}, ordered); }).message().find("'x' is missing"), std::string::npos);
    EXPECT_NE(error_of([&] { f.engine->arrange({{"x", x}, {"z", x}}, ordered); }).message().find("no input 'z'"), std::string::npos);
    TensorMap twice{{"x", x}};
    twice.push_back("x", x);
    EXPECT_NE(error_of([&] { f.engine->arrange(twice, ordered); }).message().find("given twice"), std::string::npos);
}

TEST(DeploymentEngine, FallsBackPerRequestThenForGood) {
    Fixture f({{"bad", fails()}, {"good", scale_by(3)}}, key("bad"), {key("missing"), key("good")});
    for (int i = 0; i < DeploymentEngine::kFailuresToDemote; ++i) {
        EXPECT_EQ(f.engine->metrics().active_candidate, key("bad").id());
        EXPECT_EQ(f.run().as<float>()[0], 3);
    }
    const DeploymentMetrics metrics = f.engine->metrics();
    EXPECT_EQ(metrics.active_candidate, key("good").id());
    EXPECT_EQ(metrics.fallbacks, 3U);
    EXPECT_EQ(metrics.failures, 0U);
    EXPECT_EQ(metrics.executions, 3U);
    ASSERT_FALSE(metrics.events.empty());
    EXPECT_NE(metrics.events.back().find("took over"), std::string::npos);
    EXPECT_EQ(f.run().as<float>()[0], 3);
    EXPECT_EQ(f.engine->metrics().fallbacks, 3U);
}

TEST(DeploymentEngine, ALostDeviceIsLeftAtOnce) {
    Fixture f({{"lost", fails(ErrorCode::unavailable)}, {"good", scale_by(3)}}, key("lost"), {key("good")});
    EXPECT_EQ(f.run().as<float>()[0], 3);
    EXPECT_EQ(f.engine->metrics().active_candidate, key("good").id());
}

TEST(DeploymentEngine, AnInputThatFailsEverywhereDemotesNobody) {
    Fixture f({{"a", fails()}, {"b", fails()}}, key("a"), {key("b")});
    for (int i = 0; i < 5; ++i) EXPECT_EQ(error_of([&] { f.run(); }).code(), ErrorCode::internal);
    EXPECT_EQ(f.engine->metrics().active_candidate, key("a").id());
    EXPECT_EQ(f.engine->metrics().failures, 5U);
    ASSERT_EQ(f.engine->metrics().events.size(), 1U);  // one that repeats does not push others out
    EXPECT_TRUE(f.engine->metrics().events[0].ends_with(" (5 times)")) << f.engine->metrics().events[0];
}

TEST(DeploymentEngine, BadInputFromTheEngineIsNoReasonToFallBack) {
    Fixture f({{"a", fails(ErrorCode::invalid_argument)}, {"b", scale_by(1)}}, key("a"), {key("b")});
    EXPECT_EQ(error_of([&] { f.run(); }).code(), ErrorCode::invalid_argument);
    EXPECT_EQ(f.engine->metrics().fallbacks, 0U);
}

TEST(DeploymentEngine, TimesOutAndStaysUsable) {
    std::atomic<bool> stall{true};
    const Behaviour behaviour = [&](std::span<const Tensor> in, std::span<Tensor> out, const std::atomic<bool>& cancelled) {
        (stall ? stalls() : scale_by(2))(in, out, cancelled);
    };
    Fixture f({{"a", behaviour}}, key("a"));
    EXPECT_EQ(error_of([&] { f.run({.timeout = 20ms}); }).code(), ErrorCode::deadline_exceeded);
    stall = false;
    EXPECT_EQ(f.run({.timeout = 20s}).as<float>()[0], 2);
    EXPECT_EQ(f.engine->metrics().cancelled, 1U);
}

TEST(DeploymentEngine, AStopTokenCancelsARunningExecution) {
    Fixture f({{"a", stalls()}}, key("a"));
    std::stop_source source;
    std::jthread canceller([&] {
        std::this_thread::sleep_for(10ms);
        source.request_stop();
    });
    EXPECT_EQ(error_of([&] { f.run({.stop = source.get_token()}); }).code(), ErrorCode::cancelled);
}

TEST(DeploymentEngine, TheQueueIsBoundedAndWaitersTimeOut) {
    Fixture f({{"a", stalls()}}, key("a"), {}, false, /*max_queue=*/1);
    std::stop_source source;
    std::jthread running([&] { (void)error_of([&] { f.run({.stop = source.get_token()}); }); });
    std::this_thread::sleep_for(20ms);
    std::jthread waiting([&] { EXPECT_EQ(error_of([&] { f.run({.timeout = 300ms}); }).code(), ErrorCode::deadline_exceeded); });
    while (f.engine->metrics().queue_depth == 0) std::this_thread::sleep_for(1ms);
    EXPECT_EQ(error_of([&] { f.run(); }).code(), ErrorCode::resource_exhausted);
    EXPECT_EQ(f.engine->metrics().rejected, 1U);
    waiting.join();
    source.request_stop();
}

TEST(DeploymentEngine, ManyCallersShareTheStreams) {
    std::atomic<int> now{0};
    std::atomic<int> most{0};
    const Behaviour behaviour = [&](std::span<const Tensor> in, std::span<Tensor> out, const std::atomic<bool>& cancelled) {
        const int n = ++now;
        for (int seen = most; seen < n && !most.compare_exchange_weak(seen, n);) {
        }
        std::this_thread::sleep_for(1ms);
        scale_by(2)(in, out, cancelled);
        --now;
    };
    Fixture f({{"a", behaviour}}, key("a", 3), {}, false, 100);
    {
        std::vector<std::jthread> callers;
        for (int c = 0; c < 12; ++c) {
            callers.emplace_back([&, c] {
                for (int i = 0; i < 10; ++i) EXPECT_EQ(f.run({}, static_cast<float>(c)).as<float>()[0], 2.0F * static_cast<float>(c));
            });
        }
    }
    EXPECT_LE(most, 3);
    EXPECT_GE(most, 2);
    EXPECT_EQ(f.engine->metrics().executions, 120U);
}

TEST(DeploymentEngine, NobodyWaitsForASlotThatALeavingCallerKept) {
    // Callers come, leave and wait at all moments: a slot that is kept for the next caller while somebody waits would leave that one waiting for
    // ever.
    const Behaviour behaviour = [](std::span<const Tensor> in, std::span<Tensor> out, const std::atomic<bool>& cancelled) {
        if (in[0].as<float>()[0] > 4) std::this_thread::yield();
        scale_by(2)(in, out, cancelled);
    };
    for (const int streams : {1, 2}) {
        Fixture f({{"a", behaviour}}, key("a", streams), {}, false, 100);
        {
            std::vector<std::jthread> callers;
            for (int c = 0; c < 6; ++c) {
                callers.emplace_back([&, c] {
                    const auto value = static_cast<float>(c);
                    for (int i = 0; i < 2000; ++i) {
                        if (i % 3 == 0) {
                            EXPECT_EQ(f.run({.timeout = 60s}, value).as<float>()[0], 2 * value);
                        } else {
                            EXPECT_EQ(f.run({}, value).as<float>()[0], 2 * value);
                        }
                    }
                });
            }
        }
        EXPECT_EQ(f.engine->metrics().executions, 12000U);
    }
}

TEST(DeploymentEngine, StopsBetweenCallersThatComeAndGo) {
    for (int round = 0; round < 200; ++round) {
        Fixture f({{"a", scale_by(2)}}, key("a", 2), {}, false, 100);
        std::latch started(3);
        std::vector<std::jthread> callers;
        for (int c = 0; c < 3; ++c) {
            callers.emplace_back([&] {
                static_cast<void>(f.run());
                started.count_down();
                while (error_of([&] { static_cast<void>(f.run()); }).code() == ErrorCode::ok) {
                }
            });
        }
        started.wait();
        f.engine->stop();
        EXPECT_EQ(error_of([&] { f.run(); }).code(), ErrorCode::failed_precondition);
    }
}

TEST(DeploymentEngine, AStageThatWasLeftIsLetGo) {
    std::atomic<bool> lost = false;
    const Behaviour behaviour = [&](std::span<const Tensor> in, std::span<Tensor> out, const std::atomic<bool>& cancelled) {
        (lost ? fails(ErrorCode::unavailable) : scale_by(2))(in, out, cancelled);
    };
    Fixture f({{"a", behaviour}, {"good", scale_by(3)}}, key("a"), {key("good")});
    EXPECT_EQ(f.run().as<float>()[0], 2);
    const std::weak_ptr<Stage> left = f.engine->active();
    lost = true;
    EXPECT_EQ(f.run().as<float>()[0], 3);
    EXPECT_TRUE(left.expired());
    EXPECT_EQ(f.run().as<float>()[0], 3);
}

TEST(DeploymentEngine, AsyncRunsCallbacksAndReportsErrors) {
    Fixture f({{"a", scale_by(2)}}, key("a", 2));
    std::latch done(20);
    std::atomic<int> good{0};
    for (int i = 0; i < 20; ++i) {
        for (;;) {  // the queue is bounded: a full one is told, and tried again
            const Error error = error_of([&] {
                f.engine->submit({Tensor::from<float>({1, 2}, {1, 1})}, {}, [&](RunResult result) {
                    good += !result.error && result.outputs["y"].as<float>()[0] == 2;
                    done.count_down();
                });
            });
            if (error.code() == ErrorCode::ok) break;
            ASSERT_EQ(error.code(), ErrorCode::resource_exhausted);
            std::this_thread::sleep_for(1ms);
        }
    }
    done.wait();
    EXPECT_EQ(good, 20);
    EXPECT_EQ(error_of([&] { f.engine->submit({Tensor(ElementType::f64, {1, 2})}, {}, [](RunResult) {}); }).code(), ErrorCode::invalid_argument);
}

TEST(DeploymentEngine, ACallbackMayDestroyTheEngine) {
    auto f = std::make_unique<Fixture>(std::map<std::string, Behaviour>{{"a", scale_by(2)}}, key("a"));
    std::latch done(1);
    auto* engine = f->engine.get();
    engine->submit({Tensor::from<float>({1, 2}, {1, 1})}, {}, [&](RunResult) {
        f.reset();
        done.count_down();
    });
    done.wait();
    EXPECT_EQ(f, nullptr);
}

TEST(DeploymentEngine, BatchesKeepTheirOrderMergedOrNot) {
    for (const int batch : {1, 4}) {
        Fixture f({{"a", scale_by(2)}}, key("a", 2, batch), {}, true, 100);
        std::vector<TensorMap> items;
        for (int i = 0; i < 11; ++i) items.push_back({{"x", Tensor::from<float>({1, 2}, {static_cast<float>(i), 0})}});
        const std::vector<TensorMap> results = f.engine->run_batch(items, {});
        ASSERT_EQ(results.size(), 11U);
        for (int i = 0; i < 11; ++i) {
            EXPECT_EQ(results[static_cast<std::size_t>(i)]["y"].shape(), (Shape{1, 2}));
            EXPECT_EQ(results[static_cast<std::size_t>(i)]["y"].as<float>()[0], 2.0F * static_cast<float>(i));
        }
        EXPECT_EQ(f.engine->metrics().executions, 11U);
    }
}

TEST(DeploymentEngine, ABatchGivesItsSlotToThoseWhoWait) {
    constexpr std::size_t kItems = 300;
    std::atomic<std::size_t> ran{0};
    std::atomic<std::size_t> ran_before_caller{kItems};
    const Behaviour behaviour = [&](std::span<const Tensor> in, std::span<Tensor> out, const std::atomic<bool>& cancelled) {
        if (in[0].as<float>()[0] == 9) ran_before_caller = ran.load();
        std::this_thread::sleep_for(1ms);
        scale_by(2)(in, out, cancelled);
        ++ran;
    };
    Fixture f({{"a", behaviour}}, key("a"));
    const std::vector<TensorMap> items(kItems, TensorMap{{"x", Tensor(ElementType::f32, {1, 2})}});
    std::jthread batch([&] { (void)f.engine->run_batch(items, {}); });
    while (ran == 0) std::this_thread::yield();
    std::jthread caller([&] { EXPECT_EQ(f.run({}, 9).as<float>()[0], 18); });
    while (f.engine->metrics().queue_depth == 0 && ran_before_caller == kItems) std::this_thread::yield();
    const std::size_t while_waiting = ran;
    caller.join();
    EXPECT_LE(ran_before_caller, while_waiting + 1) << "more than the one item that was running";
    EXPECT_LT(ran_before_caller, kItems);
}

TEST(DeploymentEngine, ABatchLeavesAStageThatFails) {
    std::atomic<int> asked{0};
    const Behaviour bad = [&](std::span<const Tensor>, std::span<Tensor>, const std::atomic<bool>&) {
        ++asked;
        throw Error(ErrorCode::internal, ErrorCategory::runtime, "the fake engine fails");
    };
    Fixture f({{"bad", bad}, {"good", scale_by(3)}}, key("bad"), {key("good")});
    const std::vector<TensorMap> items(20, TensorMap{{"x", Tensor::from<float>({1, 2}, {1, 1})}});
    for (const TensorMap& result : f.engine->run_batch(items, {})) EXPECT_EQ(result["y"].as<float>()[0], 3);
    EXPECT_EQ(asked, DeploymentEngine::kFailuresToDemote);
    EXPECT_EQ(f.engine->metrics().active_candidate, key("good").id());
}

TEST(DeploymentEngine, ABatchReportsItsFirstError) {
    Fixture f({{"a", scale_by(2)}}, key("a", 2), {}, true, 100);
    std::vector<TensorMap> items(5, TensorMap{{"x", Tensor(ElementType::f32, {1, 2})}});
    items[3] = TensorMap{{"wrong", Tensor(ElementType::f32, {1, 2})}};
    EXPECT_EQ(error_of([&] { (void)f.engine->run_batch(items, {}); }).code(), ErrorCode::invalid_argument);
}

TEST(DeploymentEngine, StopWaitsAndRefuses) {
    Fixture f({{"a", scale_by(2)}}, key("a"));
    (void)f.run();
    f.engine->stop();
    EXPECT_EQ(error_of([&] { f.run(); }).code(), ErrorCode::failed_precondition);
    EXPECT_EQ(error_of([&] { f.engine->submit({Tensor(ElementType::f32, {1, 2})}, {}, [](RunResult) {}); }).code(), ErrorCode::failed_precondition);
}

}  // namespace
}  // namespace ai_vmm::runtime
