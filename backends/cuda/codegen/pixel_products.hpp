// SPDX-License-Identifier: Apache-2.0
/// Convolutions that are a product of each pixel with all filters, on tensor cores: 1x1, and transposed ones whose kernel is their stride, as
/// decoders double an image with. The filters stay in registers while the pixels go by, and a result is stored where it belongs, among the channels
/// of a concatenation too.
#pragma once

#include <optional>

#include "codegen/kernels.hpp"

namespace ai_vmm::cuda {

/// How pixel_product_kernel() shares its work. Columns are channels of the result times the kernel's area; a warp has kWarpColumns of them.
struct PixelPlan {
    static constexpr std::int64_t kWarpColumns = 32;
    std::int64_t columns = 0;  ///< all
    std::int64_t depth = 0;    ///< steps of 16 channels
    std::int64_t across = 0;   ///< warps side by side; the others of a block's eight take other pixels
    std::int64_t parts = 0;    ///< blocks side by side
    std::int64_t pixels = 0;   ///< of the input per tile
    bool operator==(const PixelPlan&) const = default;
};

/// Nothing: pixel_product_kernel() does not take the convolution. It takes 16-bit floats, one group, at most 128 channels in eights and channels of
/// the result in eights: kernels of one element without stride or padding, or transposed convolutions of two spatial dimensions whose kernel is their
/// stride, without a residual.
[[nodiscard]] std::optional<PixelPlan> plan_pixel_product(const ConvolutionSpec& spec);

/// Whether it is expected to beat a library's product and what stands behind that: where tensor cores have enough pixels.
[[nodiscard]] bool prefers_pixel_product(const ConvolutionSpec& spec, const CodegenTarget& target);

/// The filters as lanes hold them for mma.m16n8k16, zeros where there are none: a Compute body over W.
[[nodiscard]] Fragments pixel_product_weights(const ConvolutionSpec& spec, const PixelPlan& plan);

/// The convolution of `node`, whose second input is what pixel_product_weights() says, row-major. X lies channels-last at a multiple of 16 bytes, the
/// residual channels-last, the bias is placed, the output channels-last or among the channels of more.
[[nodiscard]] KernelSource pixel_product_kernel(const Graph& graph, const Places& places, const Node& node, const PixelPlan& plan,
                                                const CodegenTarget& target);

}  // namespace ai_vmm::cuda
