// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>

#include "ai_vmm/backend/backend.hpp"

namespace ai_vmm::cuda {

/// Where compiled kernels, choices of library engines and calibrations outlive the process; null, as at first: nowhere. Thread-safe.
[[nodiscard]] std::shared_ptr<backend::Cache> kept();
void keep_in(std::shared_ptr<backend::Cache> cache);

}  // namespace ai_vmm::cuda
