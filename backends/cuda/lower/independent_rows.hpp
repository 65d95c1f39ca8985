// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "lower/lower.hpp"

namespace ai_vmm::cuda {

/// What changes where a call with `rows` rows runs in a program for `bucket` rows.
struct RowBatch {
    std::int64_t rows = 0;        ///< 2 or more
    std::int64_t bucket = 0;      ///< more than `rows`
    std::vector<bool> by_rows{};  ///< per input: its first dimension is the batch; all other inputs are the same in both
};

/// Whether the model, run with `bucket` rows of which the first are a call's, gives the call's results in its outputs' first rows.
/// A proof over the operations: both shapes are inferred, and for each value the rows are followed through operations that are known to keep
/// them apart. What is not known counts as a no.
/// @param shapes  of the inputs, with `rows` rows
/// @return per output: its first dimension is the batch (else it is the same whatever the batch). Nothing: not proven, or the model refuses the
/// shapes.
[[nodiscard]] std::optional<std::vector<bool>> independent_rows(const ov::Model& model, const std::vector<Dims>& shapes, const RowBatch& batch);

}  // namespace ai_vmm::cuda
