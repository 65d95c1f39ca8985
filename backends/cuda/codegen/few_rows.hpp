// SPDX-License-Identifier: Apache-2.0
/// Products of a few rows on tensor cores, which multiply all rows with a column at once: the matrix's 16 columns are a fragment's rows.
#pragma once

#include <cstdint>
#include <string>

#include "codegen/text.hpp"

namespace ai_vmm::cuda {

/// Whether a product is computed so: 2 to 8 rows of 16-bit floats, k in eights, and columns for half the multiprocessors. (A single row is as fast in
/// threads, measured on an H100.)
[[nodiscard]] bool on_tensor_cores(const MatmulSpec& spec, const CodegenTarget& target);

/// What is particular to one.
struct FewRows {
    std::int64_t together = 8;  ///< elements of a column that a lane takes at once: eights, which divide k
    /// The type @_raw, @_fetch(@_P, column, e), which reads those from e on (by @_load16 or @_load8), and @_unpack(w, raw), which makes `together /
    /// 2` pairs of T of them.
    std::string column;
    std::string x;      ///< the pointer to A
    std::string sum;    ///< of `total`, `column` and `r`, before the activation
    std::string store;  ///< of `d`, `column` and `r`
};

/// The kernel. @param spec  takes on_tensor_cores(); its row_stride_a is filled in
[[nodiscard]] KernelSource few_rows_kernel(const MatmulSpec& spec, const FewRows& what, const Functions& functions, const CodegenTarget& target);

}  // namespace ai_vmm::cuda
