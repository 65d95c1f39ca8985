// SPDX-License-Identifier: Apache-2.0
/// Squeeze and excitation behind the mean: both products and the channels' scaling in one kernel.
#pragma once

#include "codegen/kernels.hpp"

namespace ai_vmm::cuda {

/// The kernel of an Excitation node. X and the output are placed channels-last, the other inputs row-major, at addresses that are multiples of 16
/// bytes. Each block computes all squeezed values of its image, the gates of its channels, and scales these in its pixels.
[[nodiscard]] KernelSource excitation_kernel(const Graph& graph, const Places& places, const Node& node, const CodegenTarget& target);

}  // namespace ai_vmm::cuda
