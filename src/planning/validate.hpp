// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "planning/planner.hpp"

namespace ai_vmm::planning {

/// Refuses a request that no plan could follow.
/// @throws Error(invalid_argument) a number that is NaN, infinite, negative or zero where that has no meaning; two constraints that
///         contradict each other (both are named, with what to do); unknown devices or engines (with the known ones).
void validate(const PlanRequest& request);

/// A constraint that a candidate does not meet.
struct Objection {
    std::string constraint;  ///< the field, "max_latency_ms"
    std::string limit;       ///< as given, "0.5"
    std::string text;        ///< "0.82 ms measured, max_latency_ms is 0.5"
    std::string relaxed;     ///< what to set instead so that the candidate passes, "max_latency_ms=0.87"
    double excess = 1;       ///< how far it is off, > 1; infinite where no number tells
};

/// What speaks against a candidate before anything is compiled: devices, engines, precision, threads, memory, power.
[[nodiscard]] std::vector<Objection> static_objections(const PlanRequest& request, const Route& route, const CandidateKey& key,
                                                       std::int64_t memory_bytes);

}  // namespace ai_vmm::planning
