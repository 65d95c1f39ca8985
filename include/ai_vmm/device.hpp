// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "ai_vmm/export.hpp"

namespace ai_vmm {

enum class DeviceKind : std::uint8_t { cpu, integrated_gpu, discrete_gpu, npu, other };
/// "CPU", "INTEGRATED_GPU", "DISCRETE_GPU", "NPU", "OTHER".
[[nodiscard]] AI_VMM_API std::string_view to_string(DeviceKind kind) noexcept;

/// One way to reach a physical device: a backend and the name it uses.
struct DeviceRoute {
    std::string backend;         ///< "openvino", "onnxruntime", …
    std::string backend_device;  ///< the backend's own name, e.g. "GPU.0"
    std::string engine_version;
    std::vector<std::string> precisions;  ///< compute types that run natively through this route: "f32", "bf16", "i8", …
    std::vector<std::string> properties;  ///< "NAME=VALUE" as the engine reports them

    bool operator==(const DeviceRoute&) const = default;
};

/// What was measured on a device rather than read from it. Zero: not measured.
struct DeviceScores {
    double memory_bandwidth_gb_s = 0;
    double f32_gflops = 0;

    bool operator==(const DeviceScores&) const = default;
};

/// One physical device, however many backends reach it.
struct DeviceInfo {
    std::string id;  ///< stable within a machine: "cpu:0", "gpu:0", "npu:0", …
    DeviceKind kind = DeviceKind::other;
    std::string vendor;       ///< "Intel", "AMD", "NVIDIA", …
    std::string name;         ///< full product name
    std::string uuid;         ///< empty if the device has none
    std::string pci_address;  ///< "0000:3b:00.0"; empty if not on PCI
    std::int64_t memory_total_bytes = 0;
    std::int64_t memory_free_bytes = 0;
    int compute_units = 0;              ///< cores usable by this process, or execution units or multiprocessors
    std::vector<std::string> features;  ///< "avx512_bf16", "amx", …
    DeviceScores scores;
    std::vector<DeviceRoute> routes;  ///< the preferred one first; more than one: alternatives

    bool operator==(const DeviceInfo&) const = default;
};

/// A backend that was looked at, loaded or not.
struct BackendReport {
    std::string name;
    std::string path;  ///< library file; empty if built in
    std::string version;
    std::string engine_version;
    std::string build;  ///< the linker's build id of the library, hexadecimal; empty if it has none
    bool loaded = false;
    std::string reason;  ///< why it was skipped; empty if loaded
};

/// Everything discover_hardware() found.
struct Hardware {
    std::vector<DeviceInfo> devices;
    std::vector<BackendReport> backends;
};

}  // namespace ai_vmm
