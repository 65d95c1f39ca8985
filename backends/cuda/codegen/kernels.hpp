// SPDX-License-Identifier: Apache-2.0
/// Kernel sources from device graphs. A value either has a place in memory or is computed inside the kernel that reads it; the source is the C subset
/// that both preludes (driver/prelude.hpp, tests/cuda/host_prelude.hpp) understand.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "device/device.hpp"
#include "graph/graph.hpp"

namespace ai_vmm::cuda {

/// Where a value's elements are: element (i0, i1, …) at offset + sum of i * stride, in elements, of the memory of value `root`.
struct Place {
    ValueId root = -1;
    Dims strides;
    std::int64_t offset = 0;
};

/// Per value; none: computed where it is read.
using Places = std::vector<std::optional<Place>>;

/// A kernel's text with `@` for its name, so that equal kernels have equal text, and how to launch it.
struct KernelSource {
    std::string text;
    Launch launch;
    std::vector<ValueId> arguments;  ///< one pointer each, to the value's first element (root + offset)
};

/// What sources depend on besides the graph.
struct CodegenTarget {
    int threads_per_block = 1;
    int multiprocessors = 1;
    bool tensor_cores = false;  ///< mma.m16n8k16 and ldmatrix: compute capability 8.0 and later
};
/// Whether kernels that are written for tensor cores run on them there, in blocks of eight warps.
[[nodiscard]] bool has_fast_form(const CodegenTarget& target);

/// A tensor in the order in which lanes of a warp hold it for tensor cores: a Compute body over that tensor, and what it gives.
struct Fragments {
    Dims dims;
    std::string body;
};

/// The kernel that computes a placed output of a Compute node.
[[nodiscard]] KernelSource compute_kernel(const Graph& graph, const Places& places, ValueId output, const CodegenTarget& target);
/// Likewise of a node that reads each element of its placed input once, which it also stores where `copy`, a value like the input, is placed.
/// Nothing: the elements don't lie so that it could move several at once.
[[nodiscard]] std::optional<KernelSource> copying_kernel(const Graph& graph, const Places& places, ValueId output, ValueId copy,
                                                         const CodegenTarget& target);
/// The kernel of a Rowwise node, whose output is placed.
[[nodiscard]] KernelSource rowwise_kernel(const Graph& graph, const Places& places, const Node& node, const CodegenTarget& target);
/// One kernel per phase of a Custom node, whose outputs are placed.
[[nodiscard]] std::vector<KernelSource> custom_kernels(const Graph& graph, const Places& places, const Node& node, const CodegenTarget& target);

/// Whether depthwise_kernel() takes a convolution: one filter per channel, two spatial dimensions, 16- or 32-bit floats or i8
/// that are scaled, channels in eights.
[[nodiscard]] bool is_depthwise(const ConvolutionSpec& spec);
/// Strides that it wants of the weights (K, 1, height, width): channels side by side.
[[nodiscard]] Dims depthwise_weight_strides(const ConvolutionSpec& spec);
/// A depthwise convolution with all that is fused into it. X, the residual and the placed output are channels-last, scale and bias are placed.
[[nodiscard]] KernelSource depthwise_kernel(const Graph& graph, const Places& places, const Node& node, const CodegenTarget& target);

/// The forms that generated kernels run where no library does: a Compute body over the node's inputs.
[[nodiscard]] Compute generic_matmul(const Graph& graph, const Node& node);
[[nodiscard]] Compute generic_convolution(const Graph& graph, const Node& node);
/// C expression of `activation` applied to the variable `x`, which is f64 for results of `type` f64, else f32. For results of 16 bits it is as exact
/// as they are.
[[nodiscard]] std::string activation_expression(Activation activation, Type type);

}  // namespace ai_vmm::cuda
