// SPDX-License-Identifier: Apache-2.0
/// The plain results of the C++ API as dicts with the same field names; ai_vmm/_values.py makes dataclasses of them.
#pragma once

#include "ai_vmm/vmm.hpp"
#include "nanobind_includes.hpp"

namespace ai_vmm::python {

[[nodiscard]] nb::dict to_dict(const TensorInfo& info);
[[nodiscard]] nb::dict to_dict(const ModelProfile& profile);
[[nodiscard]] nb::dict to_dict(const Hardware& hardware);
[[nodiscard]] nb::dict to_dict(const DeploymentDescription& description);
[[nodiscard]] nb::dict to_dict(const DeploymentMetrics& metrics);
[[nodiscard]] nb::dict to_dict(const Metrics& metrics);
[[nodiscard]] nb::dict to_dict(const Explanation& explanation);
[[nodiscard]] nb::dict to_dict(const CacheReport& report);

}  // namespace ai_vmm::python
