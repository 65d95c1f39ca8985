// SPDX-License-Identifier: Apache-2.0
/// Sums of a convolution's weights over what of each window lies inside the image: what a number added to every pixel adds to the result, where
/// padding stays 0.
#pragma once

#include <optional>

#include "graph/graph.hpp"

namespace ai_vmm::cuda {

/// Adds the sums in i32, which broadcast to the result of `spec`: (1, K, spatial..), or (1, K, 1..) where every window lies inside. Windows at the
/// same distance from a border share theirs, so that what is kept is a small table; where a result stands in it is computed where it is read.
/// @param weights  (K, C, spatial..) of i8; two spatial dimensions, one group, not transposed
/// @returns none, with nothing added, where windows reach beyond the borders in too many ways for that
[[nodiscard]] std::optional<ValueId> window_sums(Builder& builder, ValueId weights, const ConvolutionSpec& spec);

}  // namespace ai_vmm::cuda
