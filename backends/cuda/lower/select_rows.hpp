// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>

#include "openvino/core/model.hpp"

namespace ai_vmm::cuda {

/// Where a model takes few rows of a value and nothing reads the others, as classifiers take one token of a sequence, the rows are taken before what
/// is computed row by row: of the last layer of a vision transformer only attention's keys and values are left for all tokens. Elementwise
/// operations, normalisations, products, softmax, concatenations and views along other dimensions are gone through, as long as a product with less to
/// do is behind them.
/// @returns the model itself where there is no such place; else a copy with the same inputs and outputs
[[nodiscard]] std::shared_ptr<const ov::Model> select_rows(const std::shared_ptr<const ov::Model>& model);

}  // namespace ai_vmm::cuda
