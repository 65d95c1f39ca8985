// SPDX-License-Identifier: Apache-2.0
/// Products of a few rows: bound by reading the matrix once, which a library's tiles of 64 rows don't do faster.
#pragma once

#include "codegen/kernels.hpp"

namespace ai_vmm::cuda {

/// What kernels share that give each column of a product of few rows to some lanes of a warp: `acc[r]` are a lane's sums, `e` counts along k,
/// `column` says whose they are, `active` whether there is such a column; `@_a` is the activation.
class ColumnSums {
public:
    /// @param vectors  accesses along k per column
    ColumnSums(const MatmulSpec& spec, std::int64_t vectors, const CodegenTarget& target);
    [[nodiscard]] std::int64_t lanes() const noexcept { return lanes_; }
    /// The kernel's head, the sums zero.
    [[nodiscard]] std::string begin() const;
    /// Adds up what the lanes have, and the kernel's end. @param sum  of acc[r] and `column`, before the activation. @param store  of `d` behind it
    [[nodiscard]] std::string end(const std::string& sum, const std::string& store) const;
    [[nodiscard]] Launch launch() const;

private:
    std::int64_t rows_, columns_, lanes_ = 1;
    int block_;
};

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
