// SPDX-License-Identifier: Apache-2.0
/// Attention of a few queries over any number of keys: bound by reading K and V once. A library's kernels for one query divide the keys among blocks
/// and add up what each has as it comes, so that results do not repeat.
#pragma once

#include "codegen/kernels.hpp"

namespace ai_vmm::cuda {

/// Whether few_queries_kernel() takes `spec`: f16 or bf16, at most 4 queries, heads of at most 256 features in eights. Strides are not looked at.
[[nodiscard]] bool has_few_queries(const AttentionSpec& spec);

/// A block of threads per head: some lanes of a warp per key, scores in shared memory, a part of the keys at a time (the maximum and the sum are
/// carried on: Milakov and Gimelshein, "Online normalizer calculation for softmax", 2018). Everything is computed in f32 and added up in the same
/// order each time. Spec's strides are filled in, K, Q and V as fits_short_attention() wants; the inputs and the output of `node` are placed.
[[nodiscard]] KernelSource few_queries_kernel(const Node& node, const AttentionSpec& spec, const CodegenTarget& target);

}  // namespace ai_vmm::cuda
