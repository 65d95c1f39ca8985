// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "context.hpp"

namespace ai_vmm::ort {

/// Weights as the output of a DequantizeLinear node, which the engine's integer kernels recognise.
struct QuantizedWeights {
    std::string name;
    std::vector<float> scales;  ///< one, or one per output channel
};

/// The scale of a quantised value, looked for through operations that only move elements; std::nullopt if it is not quantised.
[[nodiscard]] std::optional<float> activation_scale(const Context& context, const ov::Output<ov::Node>& value);

/// Recognises (Convert(integers) [- zero point]) * scale, moved about by reshapes and transpositions, as i8 weights with one scale, or one per
/// output channel.
/// @param channel_axes  how many leading axes make up the output channel: they are merged into one (2 for [group, channel, ...]);
///                      -1: the last of two axes is.
[[nodiscard]] std::optional<QuantizedWeights> quantized_weights(Context& context, const ov::Output<ov::Node>& weights, int channel_axes);

/// A bias in units of input scale x weight scale, as integer kernels add it; empty if the input's scale is not known.
[[nodiscard]] std::string quantized_bias(Context& context, const ov::Output<ov::Node>& input, const QuantizedWeights& weights,
                                         const std::vector<float>& bias);

/// The value that `input` is after padding with zeros, the padding being added to `begin` and `end` (one per spatial axis): through a Pad operation,
/// and through a FakeQuantize that repeats the one before the padding. `input` itself if there is no such padding.
[[nodiscard]] ov::Output<ov::Node> without_padding(const Context& context, const ov::Output<ov::Node>& input, std::vector<std::int64_t>& begin,
                                                   std::vector<std::int64_t>& end);

}  // namespace ai_vmm::ort
