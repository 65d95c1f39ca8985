// SPDX-License-Identifier: Apache-2.0
/// Operations round one by one on a GPU too, whose compiler makes one fused operation of a product and a sum where the source lets it.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <functional>

#include "ai_vmm/error.hpp"
#include "cuda/host_device.hpp"
#include "cuda/nvrtc_fixture.hpp"
#include "cuda/on_device.hpp"
#include "cuda/trial.hpp"
#include "driver/prelude.hpp"
#include "gpu.hpp"
#include "lower/lower.hpp"
#include "openvino/core/model.hpp"
#include "openvino/op/ops.hpp"
#include "program/program.hpp"

namespace ai_vmm::cuda::test {
namespace {

using namespace ov::op;
using ov::element::f32;

ov::Output<ov::Node> number(float value) { return std::make_shared<v0::Constant>(f32, ov::Shape{}, std::vector<float>{value}); }

/// Every step of `levels` between `low` and `high`, quantised, as integers.
std::shared_ptr<ov::Model> steps(int levels, float low, float high) {
    const auto x = std::make_shared<v0::Parameter>(f32, ov::Shape{static_cast<std::size_t>(levels)});
    const float bottom = -static_cast<float>(levels) / 2;
    const auto quantised = std::make_shared<v0::FakeQuantize>(x, number(low), number(high), number(bottom),
                                                              number(bottom + static_cast<float>(levels - 1)), static_cast<std::size_t>(levels));
    return std::make_shared<ov::Model>(ov::OutputVector{std::make_shared<v0::Convert>(quantised, ov::element::i32)}, ov::ParameterVector{x});
}

/// floor(a * b + c)
std::shared_ptr<ov::Model> floors() {
    ov::ParameterVector inputs;
    for (int k = 0; k < 3; ++k) inputs.push_back(std::make_shared<v0::Parameter>(f32, ov::Shape{1000}));
    const auto sum = std::make_shared<v1::Add>(std::make_shared<v1::Multiply>(inputs[0], inputs[1]), inputs[2]);
    return std::make_shared<ov::Model>(ov::OutputVector{std::make_shared<v0::Floor>(sum)}, inputs);
}

Graph lowered(const std::shared_ptr<ov::Model>& model) {
    std::vector<Dims> shapes;
    for (const auto& input : model->inputs()) shapes.emplace_back(input.get_shape().begin(), input.get_shape().end());
    return lower(with_shapes(*model, shapes));
}

TEST(CudaRounding, NoFusedOperationBetweenNodes) {
    if (const std::string missing = nvrtc_missing(); !missing.empty()) GTEST_SKIP() << missing;
    HostDevice device;
    const auto instructions = [&](const Schedule& schedule) {
        const std::string source = std::string(kDevicePrelude) + std::string(kConversions) + module_source(schedule).text;
        return Nvrtc::get().compile(source, 91, {"-DBLOCK=256", "-default-device", "-std=c++17"});  // there is no such GPU: text for sm_90
    };
    const auto has = [](const std::string& text, const char* part) { return text.find(part) != std::string::npos; };
    for (const auto& model : {steps(256, -1.3F, 0.7F), floors()}) {
        const std::string text = instructions(make_schedule(lowered(model), device));
        ASSERT_TRUE(has(text, ".entry k"));
        EXPECT_TRUE(has(text, "mul.rn.f32")) << text;
        EXPECT_FALSE(has(text, "fma.rn.f32")) << text;
    }
    Schedule fused;
    fused.kernels.push_back("KERNEL(@)(const f32* a, f32* b) { b[THREAD] = a[THREAD] * a[THREAD + 1] + a[THREAD + 2]; }\n");
    EXPECT_TRUE(has(instructions(fused), "fma.rn.f32")) << "the compiler's habit, without which this test says nothing";
}

void compare_steps(const std::shared_ptr<Device>& device) {
    for (const int levels : {16, 256, 65536}) {
        const float low = -1.3F, high = 0.7F;
        Execution execution(std::make_shared<const Program>(device, lowered(steps(levels, low, high)), std::make_shared<WeightStore>(device)));
        std::vector<float> x;
        for (int k = 0; k < levels; ++k) x.push_back(static_cast<float>(low + (static_cast<double>(high) - low) * k / (levels - 1)));
        std::vector<std::int32_t> y(x.size());
        const void* const in = x.data();
        void* const out = y.data();
        execution.run({&in, 1}, {&out, 1});
        for (int k = 0; k < levels; ++k) ASSERT_EQ(y[static_cast<std::size_t>(k)], k - levels / 2) << levels << " levels";
    }
}

TEST(CudaRounding, QuantisedStepsAreWholeNumbers) { compare_steps(std::make_shared<HostDevice>()); }

using RoundingOnDevice = OnDevice;

TEST_F(RoundingOnDevice, QuantisedStepsAreWholeNumbers) { compare_steps(device_); }

}  // namespace
}  // namespace ai_vmm::cuda::test
