// SPDX-License-Identifier: Apache-2.0
/// Convolutions of an image's few channels, as networks begin with, on tensor cores: libraries want channels in eights, which is a pass over the
/// image and mostly zeros to multiply with.
#pragma once

#include <optional>

#include "codegen/kernels.hpp"

namespace ai_vmm::cuda {

/// How stem_kernel() shares its work. A tile of the result is `rows()` x 16 pixels with all channels of a part; a step is 16 products deep.
struct StemPlan {
    std::int64_t pixel = 4;     ///< elements that a pixel takes in shared memory: the channels in, rounded up to a power of two
    std::int64_t depth = 1;     ///< steps per row of the filter, each row by itself
    std::int64_t part = 0;      ///< channels of the result that a block computes
    std::int64_t across = 1;    ///< warps that share a part's channels, 1 or 2; the others of a block's eight take other rows
    std::int64_t each = 1;      ///< rows of the tile per warp: 2, or 4 of large filters, whose tiles overlap more, or 1 where no more fit
    std::int64_t together = 1;  ///< eights of channels whose neighbours a lane stores together: 1, 2 or 4
    [[nodiscard]] std::int64_t rows() const { return 8 / across * each; }
    bool operator==(const StemPlan&) const = default;
};

/// Nothing: stem_kernel() does not take the convolution, which has at most 4 channels, one group, two spatial dimensions, 16-bit floats, channels of
/// the result in eights, no residual, and filters and strides whose tiles fit shared memory.
[[nodiscard]] std::optional<StemPlan> plan_stem(const ConvolutionSpec& spec, const CodegenTarget& target);

/// Whether it is expected to beat the library: where it runs on tensor cores.
[[nodiscard]] bool prefers_stem(const ConvolutionSpec& spec, const CodegenTarget& target);

/// The filters as lanes of a warp hold them for mma.m16n8k16, zeros where there are none: a Compute body over W (K, C, height, width).
[[nodiscard]] Fragments stem_weights(const ConvolutionSpec& spec, const StemPlan& plan);

/// The convolution of `node`, whose second input is what stem_weights() says, row-major at a multiple of 16 bytes. X is read through whatever stands
/// before it, if it has no place, and lies anyhow if it has one; the bias is placed, the output channels-last or among the channels of more.
[[nodiscard]] KernelSource stem_kernel(const Graph& graph, const Places& places, const Node& node, const StemPlan& plan, const CodegenTarget& target);

}  // namespace ai_vmm::cuda
