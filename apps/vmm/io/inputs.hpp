// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ai_vmm/model.hpp"
#include "ai_vmm/tensor.hpp"
#include "io/media.hpp"

namespace ai_vmm::cli {

/// How given files become a model's inputs.
struct InputOptions {
    std::vector<std::string> given;  ///< "name=value" or "value": a file, "@file", "@-" (standard input), numbers, or text for string inputs
    bool random = false;             ///< what is not given is generated later, so nothing is missing
    ImageOptions image;
    AudioOptions audio;
};

/// The inputs of a model in its order.
struct Inputs {
    TensorMap tensors;
    std::vector<std::string> notes;  ///< what was done to them: "'x': f64 converted to f32"
};

/// Reads and converts the inputs that `infos` ask for.
///
/// Files are recognised by content: .npy, .npz (arrays by name), PNG, JPEG, BMP, WAV, FLAC, Ogg. Arrays of another numeric type are converted
/// where each value fits; arrays that lack or have leading dimensions of 1 are reshaped.
/// @throws Error(invalid_argument) unknown, repeated or missing names; values that fit no input; unknown file content.
[[nodiscard]] Inputs gather_inputs(std::span<const TensorInfo> infos, const InputOptions& options);

/// "name=1x3x224x224" or with commas; "?" is refused. @throws Error(invalid_argument).
[[nodiscard]] std::pair<std::string, Shape> parse_shape(std::string_view text);

}  // namespace ai_vmm::cli
