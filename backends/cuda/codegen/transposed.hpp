// SPDX-License-Identifier: Apache-2.0
/// Transposed convolutions of few channels whose kernel is their stride, as decoders double an image with, on tensor cores: a product of each pixel
/// with all filters, which stay in registers while the pixels go by. Its result is stored where it belongs, among the channels of a concatenation
/// too; what a library makes of the product would have to be brought there.
#pragma once

#include <optional>

#include "codegen/kernels.hpp"

namespace ai_vmm::cuda {

/// How transposed_kernel() shares its work. Columns are channels of the result times the kernel's area; a warp has kWarpColumns of them.
struct TransposedPlan {
    static constexpr std::int64_t kWarpColumns = 32;
    std::int64_t columns = 0;  ///< all
    std::int64_t depth = 0;    ///< steps of 16 channels
    std::int64_t across = 0;   ///< warps side by side; the others of a block's eight take other pixels
    std::int64_t parts = 0;    ///< blocks side by side
    std::int64_t pixels = 0;   ///< of the input per tile
    bool operator==(const TransposedPlan&) const = default;
};

/// Nothing: transposed_kernel() does not take the convolution, which is transposed, has two spatial dimensions, a kernel that is its stride, 16-bit
/// floats, one group, at most 128 channels in eights, channels of the result in eights and no residual.
[[nodiscard]] std::optional<TransposedPlan> plan_transposed(const ConvolutionSpec& spec);

/// Whether it is expected to beat a library's product and what stands behind that: where tensor cores have enough pixels.
[[nodiscard]] bool prefers_transposed(const ConvolutionSpec& spec, const CodegenTarget& target);

/// The filters as lanes hold them for mma.m16n8k16, zeros where there are none: a Compute body over W.
[[nodiscard]] Fragments transposed_weights(const ConvolutionSpec& spec, const TransposedPlan& plan);

/// The convolution of `node`, whose second input is what transposed_weights() says, row-major. X lies channels-last at a multiple of 16 bytes, the
/// bias is placed, the output channels-last or among the channels of more.
[[nodiscard]] KernelSource transposed_kernel(const Graph& graph, const Places& places, const Node& node, const TransposedPlan& plan,
                                             const CodegenTarget& target);

}  // namespace ai_vmm::cuda
