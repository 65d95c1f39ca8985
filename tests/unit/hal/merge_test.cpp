// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <fstream>

#include "base/file.hpp"
#include "hal/registry.hpp"

namespace ai_vmm::hal {
namespace {

DeviceInfo device(DeviceKind kind, std::string backend, std::string name, std::string uuid = {}, std::string pci = {}) {
    DeviceInfo info;
    info.kind = kind;
    info.uuid = std::move(uuid);
    info.pci_address = std::move(pci);
    info.routes.push_back({.backend = std::move(backend), .backend_device = std::move(name)});
    return info;
}

TEST(MergeDevices, TheHostCpuIsOneDevice) {
    const auto merged = merge_devices({device(DeviceKind::cpu, "openvino", "CPU"), device(DeviceKind::cpu, "onnxruntime", "CPU")});
    ASSERT_EQ(merged.size(), 1U);
    EXPECT_EQ(merged[0].id, "cpu:0");
    ASSERT_EQ(merged[0].routes.size(), 2U);
    EXPECT_EQ(merged[0].routes[1].backend, "onnxruntime");
}

TEST(MergeDevices, ByPciAddressThenUuid) {
    const auto merged = merge_devices({device(DeviceKind::discrete_gpu, "openvino", "GPU.0", "aa", "0000:01:00.0"),
                                       device(DeviceKind::discrete_gpu, "cuda", "0", "bb", "0000:01:00.0"),
                                       device(DeviceKind::discrete_gpu, "cuda", "1", "cc", "0000:02:00.0"),
                                       device(DeviceKind::discrete_gpu, "openvino", "GPU.1", "cc")});
    ASSERT_EQ(merged.size(), 2U);
    EXPECT_EQ(merged[0].routes.size(), 2U);
    EXPECT_EQ(merged[1].routes.size(), 2U);
    EXPECT_EQ(merged[1].id, "gpu:1");
}

TEST(MergeDevices, DevicesWithoutIdentityStayApart) {
    const auto merged =
        merge_devices({device(DeviceKind::npu, "a", "NPU"), device(DeviceKind::npu, "b", "NPU"), device(DeviceKind::integrated_gpu, "a", "GPU")});
    ASSERT_EQ(merged.size(), 3U);
    EXPECT_EQ(merged[0].id, "npu:0");
    EXPECT_EQ(merged[1].id, "npu:1");
    EXPECT_EQ(merged[2].id, "gpu:0");
}

TEST(HostCpu, IsDescribed) {
    const DeviceInfo cpu = host_cpu();
    EXPECT_GE(cpu.compute_units, 1);
    EXPECT_GT(cpu.memory_total_bytes, 0);
    EXPECT_FALSE(cpu.name.empty());
    const DeviceScores scores = measure_host_scores();
    EXPECT_GT(scores.f32_gflops, 0.1);
    EXPECT_GT(scores.memory_bandwidth_gb_s, 0.1);
}

TEST(Registry, ReportsAndSkipsWhatIsNoBackend) {
    const base::TemporaryDirectory directory;
    std::ofstream(directory.path() / "libai_vmm_backend_text.so") << "not a library";
    Registry registry({.paths = {directory.path(), directory.path() / "libai_vmm_backend_missing.so"}, .load_installed = false});
    const Hardware hardware = registry.discover();
    ASSERT_EQ(hardware.backends.size(), 2U);
    for (const BackendReport& report : hardware.backends) {
        EXPECT_FALSE(report.loaded);
        EXPECT_FALSE(report.reason.empty());
    }
    EXPECT_EQ(hardware.devices.size(), 1U);  // the host itself, without a route
    EXPECT_EQ(registry.find("text"), nullptr);
}

}  // namespace
}  // namespace ai_vmm::hal
