// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <onnxruntime_c_api.h>

#include <vector>

#include "ai_vmm/backend/backend.hpp"

namespace ai_vmm::ort {

/// The processor, and what the library's other execution providers reach. A provider whose own library or hardware is missing is left out.
[[nodiscard]] std::vector<DeviceInfo> enumerate_devices();

/// Puts the execution provider of `config.device` first; nothing for "CPU".
/// @throws Error(invalid_argument) no such device; Error(unavailable) its provider can't be loaded.
void append_provider(OrtSessionOptions* options, const backend::CompileConfig& config);

/// Whether `device` computes in `precision`; else why not.
[[nodiscard]] backend::Support supports_precision(const std::string& device, Precision precision);

}  // namespace ai_vmm::ort
