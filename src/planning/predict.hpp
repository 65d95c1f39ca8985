// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "planning/planner.hpp"

namespace ai_vmm::planning {

/// Fills in the predictions of `candidate.key`: a roofline (the slower of computing and moving bytes) plus overheads per call, per node
/// and per thread that has to meet at every node, times `bias`. A precision that the route does not list is taken at its slowest peak.
void predict(const ModelNumbers& model, const Route& route, double bias, Candidate& candidate);

}  // namespace ai_vmm::planning
