// SPDX-License-Identifier: Apache-2.0
/// Products of a few rows: bound by reading the matrix once, which a library's tiles of 64 rows don't do faster.
#pragma once

#include "codegen/kernels.hpp"

namespace ai_vmm::cuda {

/// Whether skinny_kernel() takes `spec`: at most 8 rows, one batch, 16- or 32-bit floats, k in vectors of 16 bytes or at most 256.
[[nodiscard]] bool is_skinny(const MatmulSpec& spec);

/// Whether A (1, m, k) or B seen as (1, n, k) may lie so: k side by side, rows at multiples of 16 bytes where k comes in those. @param rows  their
/// stride in elements
[[nodiscard]] bool fits_skinny(const MatmulSpec& spec, std::int64_t rows, std::int64_t inner, std::int64_t offset);

/// D = activation(alpha * A @ B^T + bias + residual): some lanes of a warp per column, all rows at once. Inputs and the row-major output of `node`
/// are placed, A and B as fits_skinny() wants; spec's row strides are filled in.
[[nodiscard]] KernelSource skinny_kernel(const Graph& graph, const Places& places, const Node& node, const MatmulSpec& spec,
                                         const CodegenTarget& target);

}  // namespace ai_vmm::cuda
