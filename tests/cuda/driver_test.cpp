// SPDX-License-Identifier: Apache-2.0
/// What can be said of the driver without a GPU: how a machine without one is told, and calibration on a device of the processor.
#include <gtest/gtest.h>

#include "ai_vmm/error.hpp"
#include "cuda/host_device.hpp"
#include "cuda/kept_fixture.hpp"
#include "driver/discovery.hpp"
#include "driver/driver_device.hpp"
#include "driver/nvml.hpp"

namespace ai_vmm::cuda::test {
namespace {

TEST(CudaDriver, AMachineWithoutOneIsToldWhatToDo) {
    try {
        (void)discover_devices();
        GTEST_SKIP() << "this machine has a CUDA driver: " << driver_description();
    } catch (const Error& error) {
        EXPECT_EQ(error.code(), ErrorCode::unavailable);
        EXPECT_EQ(error.category(), ErrorCategory::system);
        EXPECT_FALSE(error.found().empty());
        EXPECT_FALSE(error.advice().empty());
    }
    EXPECT_THROW(DriverDevice(0), Error);
    EXPECT_THROW(DriverDevice(0), Error);  // not a crash the second time either
    EXPECT_FALSE(ask_nvml("0000:00:00.0"));
}

TEST(CudaDriver, PrecisionsFollowTheGeneration) {
    EXPECT_EQ(native_precisions(75), (std::vector<std::string>{"f32", "f16", "i8"}));
    EXPECT_EQ(native_precisions(80), (std::vector<std::string>{"f32", "f16", "bf16", "i8"}));
    EXPECT_EQ(native_precisions(90), (std::vector<std::string>{"f32", "f16", "bf16", "i8", "f8e4m3"}));
}

TEST(CudaCalibration, IsKept) {
    const KeptInAFolder folder;
    HostDevice device({.memory_bytes = 64 << 20});
    const auto first = calibration(device, "a device");
    EXPECT_GT(first.copy_gb_s, 0);
    EXPECT_GT(first.upload_gb_s, 0);
    EXPECT_GT(first.download_gb_s, 0);
    EXPECT_GT(first.launch_us, 0);
    EXPECT_GT(first.graph_launch_us, 0);
    const auto before = device.counters().of(Call::copy);
    EXPECT_EQ(calibration(device, "a device"), first);
    EXPECT_EQ(device.counters().of(Call::copy), before);
    (void)calibration(device, "another");
    EXPECT_GT(device.counters().of(Call::copy), before);
    EXPECT_EQ(device.counters().allocations, 0);
}

}  // namespace
}  // namespace ai_vmm::cuda::test
