// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ai_vmm/tensor.hpp"

namespace ai_vmm {

/// What a plan is chosen for, inside the constraints.
enum class Goal : std::uint8_t {
    latency,     ///< the shortest time of one execution
    throughput,  ///< the most executions per second from many callers
    efficiency,  ///< the least energy per execution; where no energy meter exists, the least processor time
};
[[nodiscard]] AI_VMM_API std::string_view to_string(Goal goal) noexcept;
[[nodiscard]] AI_VMM_API std::optional<Goal> goal_from_string(std::string_view name) noexcept;

/// Computing precision. `automatic`: the fastest whose outputs agree with the f32 reference.
enum class Precision : std::uint8_t { automatic, f32, bf16, f16 };
[[nodiscard]] AI_VMM_API std::string_view to_string(Precision precision) noexcept;
[[nodiscard]] AI_VMM_API std::optional<Precision> precision_from_string(std::string_view name) noexcept;

/// How a deployment must behave. A deployment is admitted under all of these or refused with the nearest offer
/// (Error failed_precondition, category performance); never silently something else. All fields have defaults.
struct Constraints {
    std::optional<double> max_latency_ms;        ///< median time of one execution
    std::optional<double> min_throughput_per_s;  ///< items (executions x batch) per second
    std::optional<double> power_budget_watts;    ///< refused where no meter can keep it
    std::optional<double> max_memory_mb;         ///< host memory of the compiled model, MiB
    Goal goal = Goal::latency;
    std::vector<std::string> preferred_hardware;              ///< tried first, in order: "cpu", "cpu:0", "NVIDIA_GPU", "INTEL_NPU", …
    std::vector<std::string> devices;                         ///< if not empty: only these devices
    std::vector<std::string> engines;                         ///< if not empty: only these backends
    Precision precision = Precision::automatic;               ///< force one
    std::vector<Precision> forbid_precisions;                 ///< never these
    std::optional<int> threads;                               ///< processor threads per stream; otherwise the planner's choice
    std::optional<int> streams;                               ///< parallel executions; otherwise the planner's choice
    std::vector<std::pair<std::string, Shape>> input_shapes;  ///< typical shapes of dynamic inputs, for measuring
    std::vector<std::pair<std::string, Tensor>> calibration;  ///< typical inputs; generated where absent
    std::chrono::milliseconds tune{2000};                     ///< time for measuring candidates; 0: predict only
    double priority = 1.0;                                    ///< weight when deployments share the machine; > 0
};

}  // namespace ai_vmm
