// SPDX-License-Identifier: Apache-2.0
/// Attention over few keys in one kernel: what windows and short sequences want, where libraries spend more on starting than on computing.
#pragma once

#include <string>

#include "codegen/text.hpp"
#include "graph/passes.hpp"

namespace ai_vmm::cuda {

/// What kernels of attention share. In `text`, PARAMETERS are q, k, v, mask where there is one, and o; MASK_POINTER defines mp, the mask of batch b
/// and head h; the specification is T, TO, FROM, KEYS, QUERIES, FEATURES, HEADS, GROUP_HEADS, COUNT (of heads in all batches), SCALE and CAUSAL, and
/// the strides of q are QB, QH and QP (batch, head, position), the others' likewise. @param macros  what else `text` reads
/// @param launch  if it has a limit, that is what KEYS and QUERIES, which are equal, are when the kernel runs
[[nodiscard]] KernelSource attention_kernel(const Node& node, const AttentionSpec& spec, std::string text, Macros macros, const Launch& launch);

/// Whether it is expected to beat the library: narrow heads and up to 64 keys always, beyond them where the device would not be filled.
[[nodiscard]] bool prefers_short_attention(const AttentionSpec& spec, const CodegenTarget& target);

/// Whether Q, K or V may lie so: features side by side, everything else in eights of elements, for accesses of 16 bytes. @param offset  in elements
[[nodiscard]] bool fits_short_attention(const Dims& strides, std::int64_t offset);

/// Whether the kernel runs on tensor cores there.
[[nodiscard]] bool has_fast_form(const AttentionSpec& spec, const CodegenTarget& target);

/// A mask as the tensor cores' form reads it fastest, in the order in which lanes hold scores.
[[nodiscard]] Fragments mask_fragments(const AttentionSpec& spec, const Dims& mask);

/// Scores stay in registers as f32, products of heads that are not narrow go through tensor cores; one read of Q, K and V, one write of the result
/// (after Dao et al., "FlashAttention", 2022, without its outer loop). Spec's strides are filled in. Inputs and the output of `node` are placed.
/// @param mask_in_fragments  its mask, of `spec.mask_dims`, was brought into the form of mask_fragments(), whose strides spec.mask_strides has
[[nodiscard]] KernelSource short_attention_kernel(const Node& node, const AttentionSpec& spec, bool mask_in_fragments, const CodegenTarget& target);

}  // namespace ai_vmm::cuda
