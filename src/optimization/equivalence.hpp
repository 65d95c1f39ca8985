// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "ai_vmm/model.hpp"
#include "ai_vmm/tensor.hpp"

namespace ai_vmm::optimization {

/// How close outputs must be to the f32 reference. Stated per task; see docs/design/0004-equivalence.md.
struct Tolerance {
    double max_relative_error = 5e-3;  ///< ||a-b||2 / ||b||2 per output; a single element may be off by 8 times that of the largest
    double small_output = 0.5;         ///< factor of max_relative_error for outputs under 16 elements, where few samples are seen
    double max_absolute_error = 0;     ///< elementwise |a-b| <= abs + max_relative_error*|b| passes too; 0: not used
    bool order = false;                ///< classification: the order of the leading scores must be the same, ties within noise excepted;
                                       ///< rows that are probability distributions are always ordered
    int order_depth = 5;               ///< how many leading scores are ordered
    int order_rank = 2;                ///< outputs of rank 1 to this hold one row of scores per last dimension
    std::int64_t feature_length = 0;   ///< rows of this length hold features, which have no order; 0: none do
    double tie = 1e-3;                 ///< scores closer than this share of the row's largest are a tie
    double max_log_error = 0.1;        ///< error of the log-odds of leading probabilities: finds what saturated inputs hide; 0: not used
    bool exact_integers = true;        ///< integer, boolean and string outputs (indices, token choices) must be equal
    int byte_steps = 1;                ///< i8 and u8 outputs are quantised scores or pixels: they may be off by so many steps
};

/// The tolerance for a model of that category with those outputs.
/// @param quantized  the model holds quantised operations: engines may then round a step apart, at f32 too.
[[nodiscard]] Tolerance tolerance_for(ModelCategory category, std::span<const TensorInfo> outputs, bool quantized = false);
/// The same as its profile tells; hidden states are no scores.
[[nodiscard]] Tolerance tolerance_for(const ModelProfile& profile, std::span<const TensorInfo> outputs);

/// Result of comparing one set of outputs.
struct Agreement {
    bool agrees = false;
    double relative_error = 0;  ///< the worst output's
    double max_absolute_error = 0;
    std::string reason;  ///< why not, naming the output: "output 'probs': row 3 ranks 17 above 4"
};

/// Compares outputs to the reference, both one per output, host memory. NaN agrees with NaN, infinities with equal infinities.
/// Shapes and types must be equal. Pure; a mismatch of any kind is reported, not thrown.
[[nodiscard]] Agreement compare(std::span<const TensorInfo> infos, std::span<const Tensor> outputs, std::span<const Tensor> reference,
                                const Tolerance& tolerance);

/// Generates calibration inputs for a model: `count` sets, deterministic for a seed. Values suit the input: token ids below a vocabulary bound,
/// masks of ones, lengths, the values that the model compares an input with, images in their range, audio; dynamic dimensions take `shapes` or the
/// defaults that the analyser uses. Ids go up to the smallest embedding table that the profile's nodes tell of; a model may still refuse a set, which
/// then tells nothing.
/// @param infos    the model's inputs
/// @param profile  evidence used for value ranges (category, nodes, assumed_shapes, compared_values)
/// @param shapes   by input name; -1 where any size does
/// @throws Error(invalid_argument) a shape does not fit its input, or an input has no known rank and no shape is given for it.
[[nodiscard]] std::vector<std::vector<Tensor>> make_calibration_inputs(std::span<const TensorInfo> infos, const ModelProfile& profile,
                                                                       const std::vector<std::pair<std::string, Shape>>& shapes, int count,
                                                                       std::uint64_t seed);
/// The set with that number alone, counted from 0; it is the same whatever others are made.
[[nodiscard]] std::vector<Tensor> make_calibration_set(std::span<const TensorInfo> infos, const ModelProfile& profile,
                                                       const std::vector<std::pair<std::string, Shape>>& shapes, int set, std::uint64_t seed);

}  // namespace ai_vmm::optimization
