// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "ai_vmm/model.hpp"
#include "graph/features.hpp"

namespace ai_vmm::graph {

struct CategoryResult {
    ModelCategory category = ModelCategory::unknown;
    double confidence = 0;              ///< 0 to 1; grows with the lead over the next category. Not a probability
    std::vector<std::string> evidence;  ///< sentences, the weightiest first
};

/// Adds up the weights of the rules that hold, per category; the best one wins if it reaches the threshold. Pure.
/// The rules, their weights and the threshold are one table in category.cpp; docs/design/0005-analyser.md has the reasons.
[[nodiscard]] CategoryResult classify(const Features& features);

}  // namespace ai_vmm::graph
