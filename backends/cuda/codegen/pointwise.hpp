// SPDX-License-Identifier: Apache-2.0
/// Convolutions of 1x1 over few channels and few images: bound by writing their result, which the libraries' tiles are slow to begin with.
#pragma once

#include "codegen/kernels.hpp"

namespace ai_vmm::cuda {

/// Whether pointwise_kernel() takes `spec` and is likely the fastest: 1x1 without stride in f16 or bf16, at most 24 channels in (40 where cuDNN has
/// no such activation), channels in eights, little work altogether.
[[nodiscard]] bool is_small_pointwise(const ConvolutionSpec& spec);
/// Strides that it wants of the weights (K, C, 1, ...): output channels side by side.
[[nodiscard]] Dims pointwise_weight_strides(const ConvolutionSpec& spec);
/// The convolution with all that is fused into it: eight channels of some neighbouring pixels per thread. X and the residual are
/// channels-last at addresses that are multiples of 16 bytes; the placed output too, or some channels of what is; the bias is placed.
[[nodiscard]] KernelSource pointwise_kernel(const Graph& graph, const Places& places, const Node& node, const CodegenTarget& target);

}  // namespace ai_vmm::cuda
