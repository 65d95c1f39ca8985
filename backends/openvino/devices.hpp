// SPDX-License-Identifier: Apache-2.0
/// What OpenVINO says of the devices it reaches.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "ai_vmm/constraints.hpp"
#include "ai_vmm/device.hpp"

namespace ov {
class Core;
}

namespace ai_vmm::openvino {

[[nodiscard]] inline bool is_cpu(std::string_view device) noexcept { return device.starts_with("CPU"); }

/// Names of the real devices ("CPU", "GPU.0", "NPU", …): no AUTO, MULTI, HETERO or BATCH. Loads the device plugins; never throws for
/// a plugin that lacks its driver.
[[nodiscard]] std::vector<std::string> device_names(const ov::Core& core);

/// Everything `device` answers. Properties that it doesn't offer or fails to answer are left out. Compiles nothing.
[[nodiscard]] DeviceInfo describe_device(const ov::Core& core, const std::string& device, const std::string& engine_version);

/// Whether the host's processor adds products of 8-bit integers without saturating: x86 before VNNI adds them in pairs, in 16 bits.
[[nodiscard]] bool adds_bytes_exactly();

/// Compute types that run natively: what the plugin lists, less what the processor only emulates.
[[nodiscard]] std::vector<std::string> native_precisions(const ov::Core& core, const std::string& device);

}  // namespace ai_vmm::openvino
