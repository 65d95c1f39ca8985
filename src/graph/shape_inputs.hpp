// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "ai_vmm/backend/backend.hpp"

namespace ai_vmm::graph {

/// Names of the inputs whose values decide shapes, counts or positions: a Reshape's pattern, a Resize's sizes, a Loop's trip count, an image shape of
/// Col2Im. Engines trust such values; made-up ones can take all memory or end the process. Without a graph every integer vector or scalar counts but
/// for sample rates.
[[nodiscard]] std::vector<std::string> inputs_that_set_shapes(const backend::Model& model);

}  // namespace ai_vmm::graph
