// SPDX-License-Identifier: Apache-2.0
/// How tensors reach an execution and leave it: recorded with the steps, in pieces, on the device, on another device; many executions at once.
#include <gtest/gtest.h>

#include <cstring>
#include <numeric>
#include <thread>

#include "ai_vmm/error.hpp"
#include "cuda/host_device.hpp"
#include "lower/lower.hpp"
#include "openvino/core/model.hpp"
#include "openvino/op/ops.hpp"
#include "program/program.hpp"

namespace ai_vmm::cuda::test {
namespace {

using ov::element::f32;

/// Two inputs of n numbers: a + 2 b, a - b, and a constant that is an output.
std::shared_ptr<const Program> sums(const std::shared_ptr<Device>& device, std::size_t n) {
    const auto a = std::make_shared<ov::op::v0::Parameter>(f32, ov::Shape{n}), b = std::make_shared<ov::op::v0::Parameter>(f32, ov::Shape{n});
    const auto two = std::make_shared<ov::op::v0::Constant>(f32, ov::Shape{1}, std::vector<float>{2});
    const auto sum = std::make_shared<ov::op::v1::Add>(a, std::make_shared<ov::op::v1::Multiply>(b, two));
    const auto difference = std::make_shared<ov::op::v1::Subtract>(a, b);
    const auto constant = std::make_shared<ov::op::v0::Constant>(f32, ov::Shape{2}, std::vector<float>{3, 4});
    ov::ResultVector results;
    for (const ov::Output<ov::Node>& output : {sum->output(0), difference->output(0), constant->output(0)})
        results.push_back(std::make_shared<ov::op::v0::Result>(output));
    const ov::Model model(results, ov::ParameterVector{a, b});
    return std::make_shared<const Program>(device, lower(with_shapes(model, {{static_cast<std::int64_t>(n)}, {static_cast<std::int64_t>(n)}})),
                                           std::make_shared<WeightStore>(device));
}

std::vector<float> ramp(std::size_t n, float first) {
    std::vector<float> values(n);
    std::iota(values.begin(), values.end(), first);
    return values;
}

struct Results {
    std::vector<float> sum, difference, constant;
    explicit Results(std::size_t n) : sum(n, -1), difference(n, -1), constant(2, -1) {}
    std::vector<void*> pointers() { return {sum.data(), difference.data(), constant.data()}; }
    void expect(const std::vector<float>& a, const std::vector<float>& b) const {
        for (std::size_t i = 0; i < a.size(); ++i) {
            ASSERT_EQ(sum[i], a[i] + 2 * b[i]) << i;
            ASSERT_EQ(difference[i], a[i] - b[i]) << i;
        }
        EXPECT_EQ(constant, (std::vector<float>{3, 4}));
    }
};

void run(Execution& execution, const std::vector<float>& a, const std::vector<float>& b, Results& results) {
    const void* const inputs[] = {a.data(), b.data()};
    const auto outputs = results.pointers();
    execution.run(inputs, outputs);
}

/// Device memory with values in it.
class OnDevice {
public:
    OnDevice(const std::shared_ptr<HostDevice>& device, const std::vector<float>& values, std::size_t offset = 0)
        : device_(device), buffer_(device, offset + values.size() * sizeof(float)), offset_(offset), count_(values.size()) {
        set(values);
    }
    void set(const std::vector<float>& values) const {
        const auto stream = device_->create_stream();
        stream->upload(get(), values.data(), values.size() * sizeof(float));
        stream->synchronize();
    }
    [[nodiscard]] std::vector<float> values() const {
        std::vector<float> all(count_);
        const auto stream = device_->create_stream();
        stream->download(all.data(), get(), all.size() * sizeof(float));
        stream->synchronize();
        return all;
    }
    [[nodiscard]] DevicePtr get() const { return buffer_.get() + offset_; }

private:
    std::shared_ptr<HostDevice> device_;
    Buffer buffer_;
    std::size_t offset_, count_;
};

void expect_healthy(HostDevice& device) {
    device.check();
    EXPECT_EQ(device.problems(), std::vector<std::string>{});
}

TEST(CudaExecution, WhatOutputsLeaveOfTheirUnitsIsWritten) {
    for (const std::size_t n : {1U, 63U, 64U, 65U, 1000U}) {
        const auto device = std::make_shared<HostDevice>();
        Execution execution(sums(device, n));
        Results results(n);
        for (int call = 0; call < 2; ++call) run(execution, ramp(n, 0), ramp(n, 5), results);
        results.expect(ramp(n, 0), ramp(n, 5));
        expect_healthy(*device);
    }
}

TEST(CudaExecution, ACallWithSmallTensorsIsOneLaunch) {
    const auto device = std::make_shared<HostDevice>();
    Execution execution(sums(device, 100));
    Results results(100);
    run(execution, ramp(100, 0), ramp(100, 5), results);
    results.expect(ramp(100, 0), ramp(100, 5));
    device->reset_counters();
    const auto before = device->counters();
    run(execution, ramp(100, 7), ramp(100, -3), results);
    results.expect(ramp(100, 7), ramp(100, -3));
    const auto counters = device->counters();
    EXPECT_EQ(counters.of(Call::launch_graph), 1);
    EXPECT_EQ(counters.of(Call::synchronize), 1);
    EXPECT_EQ(counters.of(Call::upload), 0);
    EXPECT_EQ(counters.of(Call::download), 1) << "the constant, which is not in the arena";
    EXPECT_EQ(counters.of(Call::launch), 0);
    EXPECT_EQ(counters.allocations, before.allocations);
    EXPECT_EQ(counters.pinned_allocations, before.pinned_allocations);
    expect_healthy(*device);
}

TEST(CudaExecution, LargeTensorsGoInPieces) {
    for (const bool recording : {true, false}) {
        const auto device = std::make_shared<HostDevice>(HostDeviceOptions{.recording = recording});
        for (const std::size_t n : {std::size_t{40} << 10, std::size_t{100} << 10, (std::size_t{300} << 10) + 1}) {
            Execution execution(sums(device, n));
            Results results(n);
            for (const float first : {1.0F, 2.0F}) {
                device->reset_counters();
                run(execution, ramp(n, first), ramp(n, -first), results);
                results.expect(ramp(n, first), ramp(n, -first));
            }
            const auto pieces = static_cast<std::int64_t>((n * 4 + (256 << 10) - 1) / (256 << 10));
            EXPECT_EQ(device->counters().of(Call::upload), 2 * pieces) << n;
        }
        expect_healthy(*device);
    }
}

TEST(CudaExecution, PinnedMemoryOfTheCallerGoesWithoutACopyInBetween) {
    const auto device = std::make_shared<HostDevice>();
    constexpr std::size_t kCount = 200 << 10;
    const auto pinned = [&](float first) {
        auto* const memory = static_cast<float*>(device->allocate_pinned(kCount * sizeof(float)));
        std::iota(memory, memory + kCount, first);
        return memory;
    };
    float *a = pinned(1), *b = pinned(2), *out = pinned(0);
    {
        Execution execution(sums(device, kCount));
        Results results(kCount);
        const void* const inputs[] = {a, b};
        std::vector<void*> outputs = results.pointers();
        outputs[0] = out;
        device->reset_counters();
        execution.run(inputs, outputs);
        EXPECT_EQ(device->counters().of(Call::upload), 2);
        results.sum.assign(out, out + kCount);
        results.expect(ramp(kCount, 1), ramp(kCount, 2));
    }
    for (float* memory : {a, b, out}) device->release_pinned(memory);
    expect_healthy(*device);
}

TEST(CudaExecution, InputsOnTheDeviceAreReadWhereTheyAre) {
    const auto device = std::make_shared<HostDevice>();
    constexpr std::size_t kCount = 1000;
    {
        Execution execution(sums(device, kCount));
        const OnDevice a(device, ramp(kCount, 1)), b(device, ramp(kCount, 2));
        std::vector<float> on_host = ramp(kCount, 2);
        for (int call = 0; call < 4; ++call) {
            const float first = static_cast<float>(10 * call);
            a.set(ramp(kCount, first));
            Results results(kCount);
            const Endpoint inputs[] = {{.device = a.get()}, {.device = b.get()}};
            const Endpoint outputs[] = {{.host = results.sum.data()}, {.host = results.difference.data()}, {.host = results.constant.data()}};
            device->reset_counters();
            const auto waits = device->counters().waits_for_default;
            execution.run(inputs, outputs);
            results.expect(ramp(kCount, first), ramp(kCount, 2));
            EXPECT_EQ(device->counters().of(Call::copy), call == 0 ? 2 : 0) << "addresses that come again need no copy";
            EXPECT_EQ(device->counters().waits_for_default, waits + 1);
        }
        // Beside host memory, then all from the host again: what was recorded for other addresses must not be used.
        Results results(kCount);
        const Endpoint mixed[] = {{.host = on_host.data()}, {.device = b.get()}};
        const Endpoint outputs[] = {{.host = results.sum.data()}, {.host = results.difference.data()}, {.host = results.constant.data()}};
        for (int call = 0; call < 3; ++call) {
            execution.run(mixed, outputs);
            results.expect(on_host, ramp(kCount, 2));
        }
        run(execution, ramp(kCount, 50), ramp(kCount, 60), results);
        results.expect(ramp(kCount, 50), ramp(kCount, 60));
        // More sets of addresses than are kept.
        std::vector<OnDevice> many;
        for (int k = 0; k < 6; ++k) many.emplace_back(device, ramp(kCount, static_cast<float>(k)));
        for (int round = 0; round < 3; ++round) {
            for (int k = 0; k < 6; ++k) {
                const Endpoint inputs[] = {{.device = many[static_cast<std::size_t>(k)].get()}, {.device = b.get()}};
                execution.run(inputs, outputs);
                execution.run(inputs, outputs);
                results.expect(ramp(kCount, static_cast<float>(k)), ramp(kCount, 2));
            }
        }
    }
    expect_healthy(*device);
}

TEST(CudaExecution, UnalignedInputsAreCopied) {
    const auto device = std::make_shared<HostDevice>();
    {
        Execution execution(sums(device, 100));
        const OnDevice a(device, ramp(100, 1), 4), b(device, ramp(100, 2), 8);
        for (int call = 0; call < 3; ++call) {
            Results results(100);
            const Endpoint inputs[] = {{.device = a.get()}, {.device = b.get()}};
            const Endpoint outputs[] = {{.host = results.sum.data()}, {.host = results.difference.data()}, {.host = results.constant.data()}};
            device->reset_counters();
            execution.run(inputs, outputs);
            results.expect(ramp(100, 1), ramp(100, 2));
            EXPECT_EQ(device->counters().of(Call::copy), 2);
        }
    }
    expect_healthy(*device);
}

TEST(CudaExecution, OutputsStayOnTheDevice) {
    const auto device = std::make_shared<HostDevice>();
    {
        Execution execution(sums(device, 100));
        const OnDevice a(device, ramp(100, 1)), sum(device, ramp(100, 0)), constant(device, ramp(2, 0));
        const std::vector<float> b = ramp(100, 2);
        std::vector<float> difference(100);
        const Endpoint inputs[] = {{.device = a.get()}, {.host = const_cast<float*>(b.data())}};
        const Endpoint outputs[] = {{.device = sum.get()}, {.host = difference.data()}, {.device = constant.get()}};
        execution.run(inputs, outputs);
        Results results(100);
        results.sum = sum.values();
        results.difference = difference;
        results.constant = constant.values();
        results.expect(ramp(100, 1), b);
    }
    expect_healthy(*device);
}

TEST(CudaExecution, TensorsOfAnotherDeviceAreCopiedAcross) {
    const auto device = std::make_shared<HostDevice>(), other = std::make_shared<HostDevice>(HostDeviceOptions{.ordinal = 1});
    {
        Execution execution(sums(device, 100));
        const OnDevice a(other, ramp(100, 1)), b(device, ramp(100, 2)), sum(other, ramp(100, 0));
        for (int call = 0; call < 3; ++call) {
            Results results(100);
            const Endpoint inputs[] = {{.device = a.get(), .owner = other.get()}, {.device = b.get()}};
            const Endpoint outputs[] = {
                {.device = sum.get(), .owner = other.get()}, {.host = results.difference.data()}, {.host = results.constant.data()}};
            execution.run(inputs, outputs);
            results.sum = sum.values();
            results.expect(ramp(100, 1), ramp(100, 2));
        }
    }
    expect_healthy(*device);
    expect_healthy(*other);
}

TEST(CudaExecution, ManyAtOnce) {
    const auto device = std::make_shared<HostDevice>();
    {
        const auto program = sums(device, 500);
        std::vector<std::thread> threads;
        for (int t = 0; t < 4; ++t) {
            threads.emplace_back([&, t] {
                Execution execution(program);
                for (int call = 0; call < 20; ++call) {
                    Results results(500);
                    const auto a = ramp(500, static_cast<float>(100 * t + call)), b = ramp(500, static_cast<float>(t));
                    run(execution, a, b, results);
                    results.expect(a, b);
                }
            });
        }
        for (std::thread& thread : threads) thread.join();
    }
    expect_healthy(*device);
}

TEST(CudaExecution, AFailedCallLeavesNothingBehind) {
    const auto device = std::make_shared<HostDevice>();
    {
        const auto program = sums(device, 100);
        for (const Call call : {Call::begin_recording, Call::upload, Call::end_recording, Call::launch_graph, Call::synchronize}) {
            Execution execution(program);
            Results results(100);
            device->inject(call, Failure::once);
            EXPECT_THROW(run(execution, ramp(100, 0), ramp(100, 1), results), Error) << static_cast<int>(call);
            run(execution, ramp(100, 3), ramp(100, 1), results);
            results.expect(ramp(100, 3), ramp(100, 1));
        }
    }
    expect_healthy(*device);
}

}  // namespace
}  // namespace ai_vmm::cuda::test
