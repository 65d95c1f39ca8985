// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>

#include "device/device.hpp"

namespace ai_vmm::cuda {

/// GPU `ordinal` of the CUDA driver's numbering, with the vendor's libraries behind make().
/// @throws Error(unavailable) no driver, no such GPU.
[[nodiscard]] std::shared_ptr<Device> open_gpu(int ordinal);

}  // namespace ai_vmm::cuda
