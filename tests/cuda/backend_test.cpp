// SPDX-License-Identifier: Apache-2.0
/// The backend over two devices of the host: tensors in their memory, bytes, shared weights, profiles, devices that fail.
#include <gtest/gtest.h>

#include <cstring>

#include "cuda/backend_fixture.hpp"

namespace ai_vmm::cuda::test {
namespace {

using ov::element::f32;

ErrorCode code_of(const std::function<void()>& work) {
    try {
        work();
    } catch (const Error& error) {
        return error.code();
    }
    return ErrorCode::ok;
}

TEST(CudaBackend, TensorsStayOnTheirDevice) {
    TwoDevices two;
    const auto executable = two.compile(layer(16));
    EXPECT_TRUE(executable->reads({MemoryKind::cuda, 0}));
    const auto request = executable->create_request();
    const Tensor x = ramp({4, 16}, 1);
    std::vector<Tensor> expected(1);
    request->run({&x, 1}, expected);
    const auto span = expected[0].as<float>();
    const std::vector<float> wanted(span.begin(), span.end());
    for (const int from : {0, 1}) {
        for (const int to : {0, 1}) {
            const Tensor there = two.on(from, x);
            EXPECT_EQ(there.place(), (MemoryPlace{MemoryKind::cuda, from}));
            for (int call = 0; call < 3; ++call) {
                std::vector<Tensor> outputs{Tensor::wanted_in({MemoryKind::cuda, to})};
                request->run({&there, 1}, outputs);
                ASSERT_EQ(outputs[0].place(), (MemoryPlace{MemoryKind::cuda, to}));
                EXPECT_EQ(two.values(outputs[0]), wanted);
                // Given again, it is written in place.
                const void* const address = outputs[0].data();
                request->run({&there, 1}, outputs);
                EXPECT_EQ(outputs[0].data(), address);
            }
        }
    }
}

TEST(CudaBackend, MemoryThatCallersLetGoOfServesAgain) {
    TwoDevices two;
    const auto request_owner = two.compile(layer(16));
    const auto request = request_owner->create_request();
    const Tensor x = two.on(0, ramp({4, 16}, 1));
    const auto call = [&] {
        std::vector<Tensor> outputs{Tensor::wanted_in({MemoryKind::cuda, 0})};
        request->run({&x, 1}, outputs);
        return outputs[0];
    };
    const Tensor kept = call();
    { const Tensor other = call(); }
    two.devices[0]->reset_counters();
    for (int k = 0; k < 5; ++k) (void)call();
    EXPECT_EQ(two.devices[0]->counters().of(Call::allocate), 0);
    EXPECT_EQ(two.values(kept), two.values(call()));
}

TEST(CudaBackend, TensorsOutliveTheirExecutable) {
    TwoDevices two;
    std::vector<Tensor> outputs{Tensor::wanted_in({MemoryKind::cuda, 0})};
    {
        const auto executable = two.compile(layer(16));
        const auto request = executable->create_request();
        const Tensor x = ramp({4, 16}, 1);
        request->run({&x, 1}, outputs);
    }
    EXPECT_EQ(two.values(outputs[0]).size(), 64U);
}

TEST(CudaBackend, AddressesAreChecked) {
    TwoDevices two;
    const auto executable = two.compile(layer(16));
    const auto request = executable->create_request();
    Tensor on_host = ramp({4, 16}, 1);
    const Tensor there = two.on(0, on_host);
    const auto run = [&](const Tensor& x) {
        std::vector<Tensor> outputs(1);
        request->run({&x, 1}, outputs);
    };
    const auto claimed = [&](void* address, int device) {
        return Tensor::borrow(ElementType::f32, {4, 16}, address, MemoryPlace{MemoryKind::cuda, device}, nullptr);
    };
    EXPECT_EQ(code_of([&] { run(claimed(on_host.data(), 0)); }), ErrorCode::invalid_argument);
    EXPECT_EQ(code_of([&] { run(claimed(const_cast<void*>(there.data()), 1)); }), ErrorCode::invalid_argument);
    EXPECT_EQ(code_of([&] { run(claimed(static_cast<std::byte*>(const_cast<void*>(there.data())) + 4, 0)); }), ErrorCode::invalid_argument)
        << "the last element lies behind the end";
    EXPECT_EQ(code_of([&] { run(claimed(const_cast<void*>(there.data()), 2)); }), ErrorCode::invalid_argument);
    Tensor nowhere = Tensor::wanted_in({MemoryKind::cuda, 7});
    EXPECT_EQ(code_of([&] { two.backend.copy(on_host, nowhere); }), ErrorCode::invalid_argument);
    Tensor other = two.on(0, ramp({16, 4}, 1));
    EXPECT_EQ(code_of([&] { two.backend.copy(on_host, other); }), ErrorCode::invalid_argument);
    EXPECT_NO_THROW(run(there));
}

TEST(CudaBackend, ValuesThatDecideShapesMayLieOnADevice) {
    TwoDevices two;
    const auto x = std::make_shared<ov::op::v0::Parameter>(f32, ov::Shape{2, 6});
    const auto shape = std::make_shared<ov::op::v0::Parameter>(ov::element::i64, ov::Shape{2});
    const auto reshaped = std::make_shared<ov::op::v1::Reshape>(x, shape, false);
    const auto executable = two.compile(wrapped(std::make_shared<ov::Model>(ov::OutputVector{reshaped}, ov::ParameterVector{x, shape})));
    const auto request = executable->create_request();
    for (const Shape& target : {Shape{3, 4}, Shape{12, 1}}) {
        const std::vector<Tensor> inputs{two.on(0, ramp({2, 6}, 1)),
                                         two.on(0, Tensor::from<std::int64_t>({2}, std::span<const std::int64_t>(target.data(), 2)))};
        std::vector<Tensor> outputs(1);
        request->run(inputs, outputs);
        EXPECT_EQ(outputs[0].shape(), target);
        EXPECT_EQ(two.values(outputs[0]), two.values(inputs[0]));
    }
}

TEST(CudaBackend, TellsItsBytesBeforeAnythingIsLoaded) {
    TwoDevices two;
    // Large matrices, two of which are equal, and small vectors.
    const backend::Model model = layer(300, 15);
    const backend::Outline outline = two.backend.outline(model, TwoDevices::config());
    EXPECT_EQ(two.devices[0]->counters().allocated_bytes, 0);
    EXPECT_NE(outline.text.find("weights"), std::string::npos);
    const auto executable = two.compile(model);
    const auto first = executable->create_request(), second = executable->create_request();
    const Tensor x = ramp({4, 300}, 1);
    std::vector<Tensor> outputs(1);
    first->run({&x, 1}, outputs);
    EXPECT_EQ(outline.memory.device_bytes(), two.devices[0]->counters().taken_bytes);
    second->run({&x, 1}, outputs);
    EXPECT_EQ(outline.memory.device_bytes(2), two.devices[0]->counters().taken_bytes);
    EXPECT_EQ(executable->memory(), outline.memory);
    EXPECT_EQ(executable->memory_bytes(), outline.memory.device_bytes());
}

class CudaWeights : public ::testing::TestWithParam<Precision> {};

TEST_P(CudaWeights, OfOneModelAreThereOnce) {
    TwoDevices two;
    const auto make = [&](int layers) { return two.compile(layer(128, layers), 0, GetParam()); };
    const auto bytes = [&] { return two.devices[0]->counters().allocated_bytes; };
    {
        const auto first = make(2);
        const std::int64_t alone = bytes();
        EXPECT_GE(alone, 2 * 128 * 128 * (GetParam() == Precision::f32 ? 4 : 2));
        const auto second = make(2);  // other memory of equal content
        EXPECT_EQ(bytes(), alone);
        const auto other = make(3);
        EXPECT_GT(bytes(), alone) << "its third layer is its own";
        EXPECT_LT(bytes(), 2 * alone);
        const Tensor x = ramp({4, 128}, 1);
        std::vector<std::vector<float>> results;
        for (const auto* executable : {&first, &second}) {
            const auto request = (*executable)->create_request();
            std::vector<Tensor> outputs(1);
            request->run({&x, 1}, outputs);
            results.push_back(two.values(outputs[0]));
        }
        EXPECT_EQ(results[0], results[1]);
    }
    EXPECT_EQ(bytes(), 0) << "what nobody holds is freed";
}

// f32 weights are uploaded, or laid out for the products that read them; f16 ones are made from them.
INSTANTIATE_TEST_SUITE_P(Precisions, CudaWeights, ::testing::Values(Precision::f32, Precision::f16),
                         [](const auto& which) { return std::string(to_string(which.param)); });

TEST(CudaBackend, ProfilesEachStep) {
    TwoDevices two;
    const auto executable = two.compile(layer(32, 2));
    const auto request = executable->create_request();
    const Tensor x = ramp({4, 32}, 1);
    const std::vector<StepTime> steps = request->profile({&x, 1});
    EXPECT_GE(steps.size(), 2U);
    for (const StepTime& step : steps) EXPECT_FALSE(step.name.empty());
    // The request still computes what it did.
    std::vector<Tensor> before(1), after(1);
    request->run({&x, 1}, before);
    (void)request->profile({&x, 1});
    request->run({&x, 1}, after);
    EXPECT_EQ(std::memcmp(before[0].data(), after[0].data(), before[0].size_bytes()), 0);
}

TEST(CudaBackend, AFailedDeviceIsRefusedAndOthersGoOn) {
    TwoDevices two;
    const auto executable = two.compile(layer(16)), other = two.compile(layer(16), 1);
    const auto request = executable->create_request(), other_request = other->create_request();
    const Tensor x = ramp({4, 16}, 1);
    std::vector<Tensor> outputs(1);
    for (int call = 0; call < 3; ++call) request->run({&x, 1}, outputs);
    two.devices[0]->inject(Call::synchronize, Failure::sticky);
    EXPECT_EQ(code_of([&] { request->run({&x, 1}, outputs); }), ErrorCode::unavailable) << "so that the runtime turns away at once";
    EXPECT_EQ(code_of([&] { request->run({&x, 1}, outputs); }), ErrorCode::unavailable);
    EXPECT_EQ(code_of([&] { (void)two.compile(layer(16)); }), ErrorCode::unavailable);
    const backend::Support support = two.backend.supports(layer(16), TwoDevices::config());
    EXPECT_FALSE(support.supported);
    EXPECT_NE(support.reason.find("has failed"), std::string::npos);
    EXPECT_TRUE(two.backend.supports(layer(16), TwoDevices::config(1)).supported);
    EXPECT_EQ(code_of([&] { (void)two.on(0, x); }), ErrorCode::unavailable);
    EXPECT_NO_THROW(other_request->run({&x, 1}, outputs));
    EXPECT_NO_THROW((void)two.compile(layer(16), 1));
}

TEST(CudaBackend, AnErrorThatPassesLeavesTheDeviceUsable) {
    TwoDevices two;
    const auto executable = two.compile(layer(16));
    const auto request = executable->create_request();
    const Tensor x = ramp({4, 16}, 1);
    std::vector<Tensor> outputs(1);
    two.devices[0]->inject(Call::allocate, Failure::out_of_memory);
    EXPECT_EQ(code_of([&] { request->run({&x, 1}, outputs); }), ErrorCode::resource_exhausted);
    two.devices[0]->inject(Call::launch_graph, Failure::once);
    EXPECT_EQ(code_of([&] { request->run({&x, 1}, outputs); }), ErrorCode::internal);
    EXPECT_NO_THROW(request->run({&x, 1}, outputs));
    EXPECT_NO_THROW((void)two.compile(layer(24)));
}

}  // namespace
}  // namespace ai_vmm::cuda::test
