// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "ai_vmm/device.hpp"
#include "device/device.hpp"

namespace ai_vmm::cuda {

/// Every GPU that the CUDA driver shows (CUDA_VISIBLE_DEVICES respected), in its order, each with one route to the backend "cuda" as "GPU.<ordinal>".
/// Makes no context. NVML adds memory, clocks, power and links where it is there. A device that answers oddly is left out, with a warning.
/// @throws Error(unavailable) no driver.
[[nodiscard]] std::vector<DeviceInfo> discover_devices();

/// Driver, and the version of CUDA that it runs: "CUDA 13.0, driver 580.65.06". @throws Error(unavailable) no driver.
[[nodiscard]] std::string driver_description();

/// Compute types with instructions of their own on a compute capability (times 10).
[[nodiscard]] std::vector<std::string> native_precisions(int compute);

/// What was measured on a device.
struct Calibration {
    double copy_gb_s = 0;        ///< read and written by a copy within the device's memory, far above its caches
    double upload_gb_s = 0;      ///< from pinned memory
    double download_gb_s = 0;    ///< to pinned memory
    double launch_us = 0;        ///< an empty kernel, enqueued one by one
    double graph_node_us = 0;    ///< an empty kernel among others in a recording
    double graph_launch_us = 0;  ///< a recording of one empty kernel, until it is done
    bool operator==(const Calibration&) const = default;
};

/// Measures; takes some 100 ms and a 32nd of the free memory, 512 MiB at most. The device should be idle.
/// @throws Error(internal, resource_exhausted).
[[nodiscard]] Calibration measure(Device& device);
/// As measured before under this identity (UUID and driver), else measured now and kept in the cache (driver/kept.hpp).
[[nodiscard]] Calibration calibration(Device& device, const std::string& identity);

}  // namespace ai_vmm::cuda
