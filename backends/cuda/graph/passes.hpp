// SPDX-License-Identifier: Apache-2.0
/// Rewrites of device graphs. Each gives a graph that computes the same.
#pragma once

#include <functional>

#include "graph/graph.hpp"

namespace ai_vmm::cuda {

/// What several operations of a model say in a roundabout way becomes one: GELU written out; numbers that scale a product or its operands (they join
/// its alpha); chains of reshapes and transposes; rows that are permuted before a product and back behind it.
[[nodiscard]] Graph simplify(Graph graph);

/// In f16 and bf16, sums of sums of products, as layers of transformers pass on with their own result added, are kept in f32: each would be rounded
/// as often as there are layers. What else reads them reads f32, or a narrow copy. simplify() comes before, fuse() behind.
[[nodiscard]] Graph wide_sums(Graph graph);

struct FuseOptions {
    /// In f16 and bf16 a GELU behind a product is its tanh form, which libraries store with the product; the exact one costs a pass over the result.
    /// They differ by less than 5e-4, what f16 rounds by near 1 (docs/design/0006).
    bool tanh_for_narrow_gelu = true;
};

/// Biases, residuals and activations after matrix products and convolutions become part of them, as far as MatmulSpec and ConvolutionSpec say it;
/// elementwise operations after normalisations and softmax become part of those.
[[nodiscard]] Graph fuse(Graph graph, const FuseOptions& options = {});

/// Products of one matrix with several constant ones become one product with all of these side by side, and its results slices: queries, keys and
/// values, say. Of the model's order: fuse() comes before, so that biases join too.
[[nodiscard]] Graph merge_products(Graph graph);

/// Convolutions whose kernel is their stride, as embeddings of patches are, become products over the patches; so do those of few single pixels, as in
/// squeeze-and-excitation. fuse() comes before.
/// @param taken  asked with each transposed convolution whether something else takes it as it is; empty: never
[[nodiscard]] Graph products_of_patches(Graph graph, const std::function<bool(const ConvolutionSpec&)>& taken = {});

/// Squeeze and excitation, two products of few rows and the channels that their result scales, becomes Excitation where both matrices are small.
/// products_of_patches() comes before.
[[nodiscard]] Graph recognise_excitation(Graph graph);

/// Products in f16 or bf16 of rows that a concatenation gives with a constant matrix get a k of whole vectors, zeros behind both; convolutions of an
/// image's few channels get a vector of them per pixel. Engines read elements one by one else. fuse() comes before.
/// @param taken  asked with each convolution whether something else than an engine takes it as it is; empty: never
[[nodiscard]] Graph pad_depths(Graph graph, const std::function<bool(const ConvolutionSpec&)>& taken = {});

/// Products of many rows of quantised values, behind FakeQuantize or as 8-bit integers with a scale and a zero point, with 8-bit weights (or of such
/// integers alone) become products of i8 with sums in i32, and a pass over those; convolutions become such of i8 whose sums the library or the kernel
/// scales. Of the model's order: simplify() behind.
/// @param takes  asked with each convolution of i8 whether a library or a kernel of its own takes it: floats have more than the plain kernel
[[nodiscard]] Graph integer_products(Graph graph, const std::function<bool(const ConvolutionSpec&)>& takes);

/// FakeQuantize's expression of its inputs a to e, by which integer_products() knows it and its levels.
[[nodiscard]] std::string fake_quantize_expression(Type type, std::int64_t levels);

/// Matrices of 8- and 4-bit integers with scales (and zeros) stay so in memory where products of few rows read them (PackedProduct); tables from
/// which rows are taken become numbers where they are read. Products of many rows read numbers that are made once. fuse() comes before,
/// merge_products() behind.
[[nodiscard]] Graph keep_packed(Graph graph);

/// How many neighbours along k codegen's packed_kernel() takes at once: what 16, 8 or 4 bytes hold, at least 8; 0: it does not take the product,
/// which has at most 8 rows, one batch and 16- or 32-bit floats.
[[nodiscard]] std::int64_t packed_together(const PackedProduct& what);

/// softmax(scale * Q @ K^T + mask) @ V in f16 or bf16 becomes Attention.
[[nodiscard]] Graph recognise_attention(Graph graph);

/// Whether heads have less features than tensor cores take at once.
[[nodiscard]] bool is_narrow_attention(const AttentionSpec& spec);

/// Whether codegen's short_attention_kernel() takes `spec`: f16 or bf16, at most 128 keys, heads of at most 64 features in sixteens, or of fewer than
/// sixteen, as wide for values as for keys. Strides are not looked at. Of masks that come round again (AttentionSpec::mask_dims) only that kernel
/// knows.
[[nodiscard]] bool is_short_attention(const AttentionSpec& spec);

/// Attention becomes matrix products and a softmax. @param which  asked with the specification of each node, which has no strides yet
[[nodiscard]] Graph expand_attention(Graph graph, const std::function<bool(const AttentionSpec&)>& which);

/// Appends the expanded form of one Attention node, with these inputs, to a graph. @returns its result
[[nodiscard]] ValueId append_expanded_attention(Builder& builder, const AttentionSpec& spec, const std::vector<ValueId>& inputs);

}  // namespace ai_vmm::cuda
