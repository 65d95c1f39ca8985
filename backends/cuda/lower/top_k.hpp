// SPDX-License-Identifier: Apache-2.0
/// The best elements of lines: what TopK, and the operations that choose boxes by their scores, are made of.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "graph/graph.hpp"

namespace ai_vmm::cuda {

struct Ranking {
    bool most = true;          ///< the greatest first
    bool by_position = false;  ///< what is chosen stands in the order of its positions
    std::string
        first;  ///< C: of equal values, whether position `p` (i64) ranks before `q` in line `row`; may read `more` as in1, in2, …; empty: p < q
    std::vector<ValueId> more;
};

/// The best `count` values of each line of `data` along `axis`, best first, and their positions in it. NaN ranks above all numbers.
/// @param count  of 1 to the lines' length
[[nodiscard]] std::pair<ValueId, ValueId> top_k(Builder& b, ValueId data, std::size_t axis, std::int64_t count, Type positions,
                                                const Ranking& ranking);

}  // namespace ai_vmm::cuda
