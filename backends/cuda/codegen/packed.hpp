// SPDX-License-Identifier: Apache-2.0
/// Products of a few rows with a matrix of 4- or 8-bit integers, which are read as they lie and become numbers in registers.
#pragma once

#include "codegen/kernels.hpp"

namespace ai_vmm::cuda {

/// As skinny_kernel() where B is PackedProduct's and packed_together() says how many of it. Inputs and the row-major output of `node` are placed, A
/// as fits_skinny() wants, the others row-major, the matrix at a multiple of 16 bytes; the spec's row_stride_a is filled in.
[[nodiscard]] KernelSource packed_kernel(const Graph& graph, const Places& places, const Node& node, const PackedProduct& what,
                                         const CodegenTarget& target);

}  // namespace ai_vmm::cuda
