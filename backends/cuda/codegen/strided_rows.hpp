// SPDX-License-Identifier: Apache-2.0
/// Reductions across memory: rows side by side are reduced together, several to a thread.
#pragma once

#include <optional>

#include "codegen/kernels.hpp"

namespace ai_vmm::cuda {

/// The kernel of a Rowwise node with a result per row whose neighbouring elements in memory belong to different rows, as a mean over the pixels of
/// channels-last data does; none: the node has another form.
[[nodiscard]] std::optional<KernelSource> strided_rows_kernel(const Graph& graph, const Places& places, const Node& node,
                                                              const CodegenTarget& target);

}  // namespace ai_vmm::cuda
