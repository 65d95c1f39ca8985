// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "planning/planner.hpp"

namespace ai_vmm::planning {

/// Fills in the predictions of `candidate.key`: a roofline (the slower of computing and moving bytes) plus overheads per call, per node
/// and per thread that has to meet at every node, times `bias`. A precision that the route does not list is taken at its slowest peak.
void predict(const ModelNumbers& model, const Route& route, double bias, Candidate& candidate);

/// The same for a route with stages: the sum over them and of what crosses between them. `routes` holds those that the stages name; a stage whose
/// route lacks the candidate's precision computes in f32.
void predict_stages(const ModelNumbers& model, const std::vector<Route>& routes, const Route& route, double bias, Candidate& candidate);

/// Microseconds that sending `bytes` between two stages takes, once.
[[nodiscard]] double transfer_us(double bytes);

}  // namespace ai_vmm::planning
