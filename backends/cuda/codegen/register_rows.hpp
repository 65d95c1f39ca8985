// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>

#include "codegen/kernels.hpp"

namespace ai_vmm::cuda {

/// The kernel of a Rowwise node whose rows lie along memory: every thread reads its part of a row once, several elements at a time, keeps it in
/// registers through all stages and the result, and lanes reduce by shuffles. None: rows lie across memory, or are too long for registers.
[[nodiscard]] std::optional<KernelSource> register_rows_kernel(const Graph& graph, const Places& places, const Node& node,
                                                               const CodegenTarget& target);

}  // namespace ai_vmm::cuda
