// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <cstdlib>
#include <sstream>
#include <thread>

#include "conformance/models.hpp"
#include "conformance/suite.hpp"

namespace ai_vmm {
namespace {

using conformance::affine_model;

const conformance::Subject& null_backend() {
    static const conformance::Subject subject = conformance::load_subject(NULL_BACKEND, "");
    return subject;
}

backend::CompileConfig with(const std::string& fault) {
    backend::CompileConfig config = null_backend().config();
    config.device += "?" + fault;
    return config;
}

template <typename Action>
ErrorCode code_of(Action action) {
    try {
        action();
    } catch (const Error& error) {
        return error.code();
    }
    return ErrorCode::ok;
}

ErrorCode compile(const backend::CompileConfig& config) {
    return code_of([&] { static_cast<void>(null_backend().backend->compile(affine_model({4}), config)); });
}

/// Codes of `count` runs of one executable.
std::vector<ErrorCode> runs(const std::string& fault, int count) {
    const auto executable = null_backend().backend->compile(affine_model({4}), with(fault));
    const auto request = executable->create_request();
    std::vector<ErrorCode> codes;
    for (int i = 0; i < count; ++i) {
        std::vector<Tensor> outputs(1);
        codes.push_back(code_of([&] { request->run(std::vector{Tensor(ElementType::f32, {4})}, outputs); }));
    }
    return codes;
}

TEST(NullBackend, IsOfKindOtherAndSaysThatItComputesNothing) {
    EXPECT_EQ(null_backend().device.kind, DeviceKind::other);
    EXPECT_EQ(null_backend().device.name, "Null device");
    EXPECT_FALSE(null_backend().computes);
}

TEST(NullBackend, AnswersZerosOfTheInputsBatch) {
    const auto running = conformance::start(null_backend(), affine_model({-1, 3}));
    const auto outputs = running.run({Tensor::from<float>({2, 3}, {1, 2, 3, 4, 5, 6})});
    ASSERT_EQ(outputs[0].shape(), (Shape{2, 3}));
    for (const float value : outputs[0].as<float>()) EXPECT_EQ(value, 0.0F);
}

TEST(NullFaults, StrikeEveryCallOrTheNthOne) {
    using enum ErrorCode;
    EXPECT_EQ(runs("run", 2), (std::vector{internal, internal}));
    EXPECT_EQ(runs("run:2", 3), (std::vector{ok, internal, ok}));
    EXPECT_EQ(runs("run:1,run:3", 3), (std::vector{internal, ok, internal}));
    EXPECT_EQ(runs("stall:2:1ms", 3), (std::vector{ok, ok, ok}));
}

TEST(NullFaults, HitTheNamedPoint) {
    EXPECT_EQ(compile(with("compile")), ErrorCode::internal);
    EXPECT_EQ(compile(with("oom")), ErrorCode::resource_exhausted);
    EXPECT_EQ(compile(with("run")), ErrorCode::ok);
    const auto executable = null_backend().backend->compile(affine_model({4}), with("request:2"));
    EXPECT_EQ(code_of([&] { static_cast<void>(executable->create_request()); }), ErrorCode::ok);
    EXPECT_EQ(code_of([&] { static_cast<void>(executable->create_request()); }), ErrorCode::resource_exhausted);
    EXPECT_FALSE(null_backend().backend->supports(affine_model({4}), with("supports")).supported);
    std::ostringstream blob;
    executable->export_blob(blob);
    const std::string bytes = blob.str();
    EXPECT_NE(null_backend().backend->version().find(bytes), std::string_view::npos) << "cached blobs are filed under the version";
    const auto import = [&](const std::string& fault) {
        return code_of(
            [&] { static_cast<void>(null_backend().backend->import_blob(std::as_bytes(std::span(bytes)), affine_model({4}), with(fault))); });
    };
    EXPECT_EQ(import("run"), ErrorCode::ok);
    EXPECT_EQ(import("import"), ErrorCode::data_loss);
}

TEST(NullFaults, GarbageIsNotZero) {
    const auto executable = null_backend().backend->compile(affine_model({4}), with("garbage"));
    std::vector<Tensor> outputs(1);
    executable->create_request()->run(std::vector{Tensor(ElementType::f32, {4})}, outputs);
    EXPECT_NE(outputs[0].as<float>()[0], 0.0F);
}

TEST(NullFaults, AStallEndsByCancel) {
    const auto executable = null_backend().backend->compile(affine_model({4}), with("stall"));
    const auto request = executable->create_request();
    std::atomic<bool> done = false;
    std::jthread canceller([&] {
        while (!done) {
            request->cancel();
            std::this_thread::yield();
        }
    });
    std::vector<Tensor> outputs(1);
    EXPECT_EQ(code_of([&] { request->run(std::vector{Tensor(ElementType::f32, {4})}, outputs); }), ErrorCode::cancelled);
    done = true;
}

TEST(NullFaults, ComeFromTheEnvironmentToo) {
    setenv("AI_VMM_NULL_FAULT", "oom", 1);
    EXPECT_EQ(compile(null_backend().config()), ErrorCode::resource_exhausted);
    EXPECT_EQ(compile(with("run")), ErrorCode::ok) << "the device name wins";
    setenv("AI_VMM_NULL_FAULT", "create", 1);
    EXPECT_EQ(code_of([] { static_cast<void>(conformance::load_subject(NULL_BACKEND, "")); }), ErrorCode::unavailable);
    setenv("AI_VMM_NULL_FAULT", "enumerate", 1);
    EXPECT_TRUE(null_backend().backend->enumerate().empty());
    unsetenv("AI_VMM_NULL_FAULT");
    EXPECT_EQ(compile(null_backend().config()), ErrorCode::ok);
}

TEST(NullFaults, UnknownWordsAreRefused) {
    for (const std::string text : {"explode", "run:x", "run:0", "stall:1:5minutes", "run:-1", "run:99999999999"}) {
        EXPECT_EQ(compile(with(text)), ErrorCode::invalid_argument) << text;
    }
    EXPECT_EQ(compile(with("")), ErrorCode::ok);
}

TEST(NullBackend, RefusesOperationsOnDemand) {
    const backend::Model model = affine_model({4});
    EXPECT_TRUE(null_backend().backend->node_support(model, null_backend().config()).refusals.empty());
    ::setenv("AI_VMM_NULL_REFUSES", "Softmax,Add", 1);
    const backend::NodeSupport nodes = null_backend().backend->node_support(model, null_backend().config());
    const backend::Support whole = null_backend().backend->supports(model, null_backend().config());
    const ErrorCode compiled = compile(null_backend().config());
    ::unsetenv("AI_VMM_NULL_REFUSES");
    EXPECT_TRUE(nodes.any);
    ASSERT_EQ(nodes.refusals.size(), 1U);
    EXPECT_EQ(nodes.refusals.front().reason, "no Add on this device");
    EXPECT_FALSE(whole.supported);
    EXPECT_EQ(compiled, ErrorCode::unimplemented);
}

}  // namespace
}  // namespace ai_vmm
