// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "ai_vmm/model.hpp"
#include "ai_vmm/tensor.hpp"

namespace ai_vmm::cli {

/// Pixels of 8 bits, rows from the top, channels interleaved.
struct Image {
    int width = 0;
    int height = 0;
    int channels = 0;  ///< 1 grey, 3 RGB, 4 RGBA
    std::vector<std::uint8_t> pixels;
};

/// How an image becomes a tensor: resized and cropped, then (pixel * scale - mean) / deviation, then, for integer inputs with `quantum`,
/// value / quantum + zero_point, rounded and clipped.
struct ImageOptions {
    enum class Fit : std::uint8_t {
        exact,         ///< to the input's height and width, whatever that does to the proportions
        shorter_side,  ///< the shorter side to `side`, then the middle of it
    };
    Fit fit = Fit::exact;
    int side = 0;                   ///< for shorter_side; 0: the input's smaller dimension
    int before_crop = 0;            ///< for exact: resize to this square first, then crop the middle; 0: no crop
    std::optional<double> scale;    ///< default 1/255 for floating inputs, 1 for integers
    std::vector<double> mean;       ///< one value or one per channel; default 0
    std::vector<double> deviation;  ///< likewise; default 1
    std::optional<double> quantum;  ///< step of a quantised input
    double zero_point = 0;
    bool bgr = false;
    std::string layout;  ///< "", "nchw" or "nhwc"
};

[[nodiscard]] bool is_image(std::string_view content) noexcept;

/// Decodes PNG, JPEG or BMP.
/// @throws Error(data_loss) damaged; Error(resource_exhausted) above 100 million pixels.
[[nodiscard]] Image decode_image(std::string_view content, std::string_view name, int channels);

/// The image as `info` wants it: [N,C,H,W], [N,H,W,C], [C,H,W], [H,W,C], [N,H,W] or [H,W]. Which one is told by the shape (a dimension of
/// 1, 3 or 4 is the channels) or by options.layout. Free dimensions take the image's size; a free batch is 1.
/// @throws Error(invalid_argument) the input's shape or type is none of an image's.
[[nodiscard]] Tensor image_tensor(std::string_view content, std::string_view name, const TensorInfo& info, const ImageOptions& options);

[[nodiscard]] bool is_audio(std::string_view content) noexcept;

struct AudioOptions {
    std::optional<int> sample_rate;  ///< refuse recordings of another rate
    std::size_t frame = 0;           ///< which window of the input's length, when the recording is longer
};

/// A recording (WAV, FLAC, Ogg) as the samples that `info` wants, -1 to 1, channels averaged: the frame's samples, zeros after the end. Integer
/// inputs take the samples times their largest value. A free dimension takes the whole recording.
/// @param rate  if given, receives the recording's samples per second
/// @throws Error(data_loss) damaged; Error(invalid_argument) another rate than the options', a frame after the end, an input that is no row of
/// samples.
[[nodiscard]] Tensor audio_tensor(std::string_view content, std::string_view name, const TensorInfo& info, const AudioOptions& options,
                                  int* rate = nullptr);

}  // namespace ai_vmm::cli
