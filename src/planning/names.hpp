// SPDX-License-Identifier: Apache-2.0
/// How people name hardware in constraints, and whether such a name means a route.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "planning/planner.hpp"

namespace ai_vmm::planning {

[[nodiscard]] std::string lower(std::string_view text);

/// A parsed hardware name. Empty parts match anything.
///   cpu, gpu, npu, igpu, dgpu      a kind            cpu:0, gpu:1            a device id
///   nvidia_gpu, INTEL_NPU          vendor and kind   openvino, openvino:cpu  an engine, an engine on a device
struct HardwareName {
    std::string engine;
    std::string device;  ///< exact id, lower case
    std::string vendor;
    std::string kind;  ///< "cpu", "gpu" (either), "integrated_gpu", "discrete_gpu", "npu", "other"

    [[nodiscard]] bool matches(const Route& route) const;
};

/// @throws Error(invalid_argument) not such a name; the advice lists the devices and engines of `routes`.
[[nodiscard]] HardwareName parse_hardware(std::string_view text, std::string_view field, const std::vector<Route>& routes);

/// "cpu:0 (AMD CPU), gpu:0 (NVIDIA DISCRETE_GPU)": the distinct devices of `routes`; "none" for no routes.
[[nodiscard]] std::string known_devices(const std::vector<Route>& routes);
/// "openvino, onnxruntime"; "none" for no routes.
[[nodiscard]] std::string known_engines(const std::vector<Route>& routes);

/// Index of the first preferred_hardware entry that `route` matches; the number of entries if none.
[[nodiscard]] int preference_rank(const PlanRequest& request, const Route& route);

/// The route of a candidate, or nullptr.
[[nodiscard]] const Route* find_route(const PlanRequest& request, const CandidateKey& key);

}  // namespace ai_vmm::planning
