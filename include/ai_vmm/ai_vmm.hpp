// SPDX-License-Identifier: Apache-2.0
/// The whole public C++ API.
#pragma once

#include "ai_vmm/constraints.hpp"  // IWYU pragma: export
#include "ai_vmm/device.hpp"       // IWYU pragma: export
#include "ai_vmm/elements.hpp"     // IWYU pragma: export
#include "ai_vmm/error.hpp"        // IWYU pragma: export
#include "ai_vmm/model.hpp"        // IWYU pragma: export
#include "ai_vmm/tensor.hpp"       // IWYU pragma: export
#include "ai_vmm/vmm.hpp"          // IWYU pragma: export
