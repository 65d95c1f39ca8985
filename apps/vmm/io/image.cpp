// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <climits>
#include <cmath>
#include <cstring>
#include <memory>

#include "io/file.hpp"
#include "io/media.hpp"
#include "io/values.hpp"

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wall"
#pragma GCC diagnostic ignored "-Wextra"
#pragma GCC diagnostic ignored "-Wpedantic"
#pragma GCC diagnostic ignored "-Wshadow"
#pragma GCC diagnostic ignored "-Wunused-function"
#define STB_IMAGE_STATIC
#define STB_IMAGE_IMPLEMENTATION
#define STBI_ONLY_PNG
#define STBI_ONLY_JPEG
#define STBI_ONLY_BMP
#define STBI_NO_STDIO
#include <stb/stb_image.h>
#if __has_include(<stb/stb_image_resize2.h>)
#define AI_VMM_STB_RESIZE2
#define STB_IMAGE_RESIZE_STATIC
#define STB_IMAGE_RESIZE_IMPLEMENTATION
#include <stb/stb_image_resize2.h>
#else
#define STB_IMAGE_RESIZE_STATIC
#define STB_IMAGE_RESIZE_IMPLEMENTATION
#include <stb/stb_image_resize.h>
#endif
#pragma GCC diagnostic pop

namespace ai_vmm::cli {
namespace {

constexpr std::int64_t kPixelLimit = 100'000'000;

/// Triangle filter, widened when shrinking: what most image libraries call bilinear with antialiasing.
Image resize(const Image& image, int width, int height) {
    if (image.width == width && image.height == height) return image;
    if (width < 1 || height < 1 || std::int64_t{width} * height > kPixelLimit) {
        throw input_error(fmt::format("can't resize an image to {}x{}", width, height));
    }
    Image out{width, height, image.channels, {}};
    out.pixels.resize(static_cast<std::size_t>(width) * static_cast<std::size_t>(height) * static_cast<std::size_t>(image.channels));
#ifdef AI_VMM_STB_RESIZE2
    const void* done = stbir_resize(image.pixels.data(), image.width, image.height, 0, out.pixels.data(), width, height, 0,
                                    static_cast<stbir_pixel_layout>(image.channels), STBIR_TYPE_UINT8, STBIR_EDGE_CLAMP, STBIR_FILTER_TRIANGLE);
    const bool ok = done != nullptr;
#else
    const bool ok =
        stbir_resize_uint8_generic(image.pixels.data(), image.width, image.height, 0, out.pixels.data(), width, height, 0, image.channels,
                                   STBIR_ALPHA_CHANNEL_NONE, 0, STBIR_EDGE_CLAMP, STBIR_FILTER_TRIANGLE, STBIR_COLORSPACE_LINEAR, nullptr) != 0;
#endif
    if (!ok) throw Error(ErrorCode::resource_exhausted, ErrorCategory::system, "no memory to resize an image");
    return out;
}

Image crop_middle(const Image& image, int width, int height) {
    if (image.width < width || image.height < height) {
        throw input_error(fmt::format("can't cut {}x{} out of an image of {}x{}", width, height, image.width, image.height),
                          {.expected = {}, .found = {}, .advice = "give a larger size to --resize"});
    }
    Image out{width, height, image.channels, {}};
    const auto channels = static_cast<std::size_t>(image.channels);
    const std::size_t row_bytes = static_cast<std::size_t>(width) * channels;
    out.pixels.resize(row_bytes * static_cast<std::size_t>(height));
    const auto left = static_cast<std::size_t>((image.width - width) / 2);
    const auto top = static_cast<std::size_t>((image.height - height) / 2);
    for (std::size_t y = 0; y < static_cast<std::size_t>(height); ++y) {
        std::memcpy(out.pixels.data() + y * row_bytes, image.pixels.data() + ((top + y) * static_cast<std::size_t>(image.width) + left) * channels,
                    row_bytes);
    }
    return out;
}

/// Where batch, channels, height and width are in a shape; -1: not there.
struct ImageLayout {
    int batch = -1;
    int channels = -1;
    int height = -1;
    int width = -1;
};

ImageLayout layout_of(const TensorInfo& info, const std::string& wanted) {
    const auto refuse = [&] {
        return input_error(fmt::format("input '{}' doesn't take an image", info.name),
                           {.expected = "[N,C,H,W], [N,H,W,C], [C,H,W], [H,W,C], [N,H,W] or [H,W] with 1, 3 or 4 channels",
                            .found = info.rank_known ? to_string(info.shape) : "any rank",
                            .advice = "give the values as .npy"});
    };
    const Shape& shape = info.shape;
    if (!info.rank_known || shape.size() < 2 || shape.size() > 4) throw refuse();
    const auto could_be_channels = [&](std::size_t at) { return shape[at] == 1 || shape[at] == 3 || shape[at] == 4; };
    if (shape.size() == 2) return {.height = 0, .width = 1};
    const int batch = shape.size() == 4 ? 0 : -1;
    const std::size_t first = shape.size() == 4 ? 1 : 0;
    bool channels_first = could_be_channels(first);
    if (!wanted.empty()) {
        channels_first = wanted == "nchw";
    } else if (!channels_first && !could_be_channels(shape.size() - 1)) {
        if (shape[first] >= 0 && shape.back() >= 0) throw refuse();
        channels_first = shape[first] < 0;
    }
    ImageLayout layout{.batch = batch};
    layout.channels = static_cast<int>(channels_first ? first : shape.size() - 1);
    layout.height = static_cast<int>(channels_first ? first + 1 : first);
    layout.width = layout.height + 1;
    return layout;
}

}  // namespace

bool is_image(std::string_view content) noexcept {
    return content.starts_with("\x89PNG\r\n\x1a\n") || content.starts_with("\xFF\xD8\xFF") || (content.starts_with("BM") && content.size() > 26);
}

Image decode_image(std::string_view content, std::string_view name, int channels) {
    const auto* bytes = reinterpret_cast<const stbi_uc*>(content.data());
    const int size = content.size() > INT_MAX ? INT_MAX : static_cast<int>(content.size());
    Image image;
    int found = 0;
    const auto fail = [&] {
        const char* reason = stbi_failure_reason();
        return damaged(fmt::format("can't decode the image '{}': {}", name, reason != nullptr ? reason : "unknown"),
                       {.expected = "a PNG, JPEG or BMP file", .found = {}, .advice = "save the image again"});
    };
    if (stbi_info_from_memory(bytes, size, &image.width, &image.height, &found) == 0) throw fail();
    if (std::int64_t{image.width} * image.height > kPixelLimit) {
        throw Error(ErrorCode::resource_exhausted, ErrorCategory::input, fmt::format("the image '{}' is too large", name),
                    {.expected = fmt::format("at most {} pixels", kPixelLimit),
                     .found = fmt::format("{}x{}", image.width, image.height),
                     .advice = "shrink it first"});
    }
    // A few damaged bytes of a header must not cost seconds: the pixels that so many bytes can hold at the best compression of the format.
    const std::uint64_t per_byte = content.starts_with("BM") ? 8 : content.starts_with("\xFF\xD8") ? 512 : 8256;
    if (static_cast<std::uint64_t>(image.width) * static_cast<std::uint64_t>(image.height) > content.size() * per_byte) {
        throw damaged(fmt::format("the image '{}' ends early", name), {.expected = fmt::format("{}x{} pixels", image.width, image.height),
                                                                       .found = fmt::format("{} bytes", content.size()),
                                                                       .advice = "save the image again"});
    }
    image.channels = channels == 0 ? found : channels;
    const std::unique_ptr<stbi_uc, decltype(&stbi_image_free)> pixels(
        stbi_load_from_memory(bytes, size, &image.width, &image.height, &found, image.channels), &stbi_image_free);
    if (!pixels) throw fail();
    image.pixels.assign(pixels.get(), pixels.get() + static_cast<std::size_t>(image.width) * static_cast<std::size_t>(image.height) *
                                                         static_cast<std::size_t>(image.channels));
    return image;
}

Tensor image_tensor(std::string_view content, std::string_view name, const TensorInfo& info, const ImageOptions& options) {
    const ImageLayout layout = layout_of(info, options.layout);
    Shape shape = info.shape;
    const auto dimension = [&](int at) -> std::int64_t& { return shape[static_cast<std::size_t>(at)]; };
    if (layout.batch >= 0 && dimension(layout.batch) < 0) dimension(layout.batch) = 1;
    if (layout.batch >= 0 && dimension(layout.batch) != 1) {
        throw input_error(
            fmt::format("input '{}' takes {} images at once", info.name, dimension(layout.batch)),
            {.expected = "a model with a batch of 1, or free", .found = to_string(info.shape), .advice = "give the whole batch as .npy"});
    }
    if (layout.channels >= 0 && dimension(layout.channels) < 0) dimension(layout.channels) = 3;
    const std::int64_t channels = layout.channels >= 0 ? dimension(layout.channels) : 1;
    if (channels != 1 && channels != 3 && channels != 4) {
        throw input_error(fmt::format("input '{}' has {} channels, which no image has", info.name, channels),
                          {.expected = "1, 3 or 4", .found = to_string(info.shape), .advice = "give --layout nchw or nhwc, or the values as .npy"});
    }
    Image image = decode_image(content, name, static_cast<int>(channels));
    if (dimension(layout.height) < 0) dimension(layout.height) = options.side > 0 ? options.side : image.height;
    if (dimension(layout.width) < 0) dimension(layout.width) = options.side > 0 ? options.side : image.width;
    if (dimension(layout.height) > 32768 || dimension(layout.width) > 32768)
        throw input_error("the input is too large for an image", {.expected = {}, .found = to_string(shape), .advice = {}});
    const int height = static_cast<int>(dimension(layout.height));
    const int width = static_cast<int>(dimension(layout.width));
    if (options.fit == ImageOptions::Fit::shorter_side) {
        const int side = options.side > 0 ? options.side : std::max(width, height);
        const double factor = static_cast<double>(side) / std::min(image.width, image.height);
        image = resize(image, std::max(side, static_cast<int>(std::lround(image.width * factor))),
                       std::max(side, static_cast<int>(std::lround(image.height * factor))));
        image = crop_middle(image, width, height);
    } else if (options.before_crop > 0) {
        image = crop_middle(resize(image, options.before_crop, options.before_crop), width, height);
    } else {
        image = resize(image, width, height);
    }
    Tensor tensor(info.type, shape);
    const bool integer = is_integer(info.type);
    const double scale = options.scale.value_or(integer && !options.quantum ? 1.0 : 1.0 / 255);
    const auto per_channel = [&](const std::vector<double>& values, std::size_t channel, double otherwise) {
        if (values.empty()) return otherwise;
        if (values.size() == 1) return values[0];
        if (values.size() != static_cast<std::size_t>(channels)) {
            throw input_error("as many values of --mean and --std as channels are needed",
                              {.expected = fmt::format("1 or {}", channels), .found = std::to_string(values.size()), .advice = {}});
        }
        return values[channel];
    };
    const bool interleaved = layout.channels >= 0 && layout.channels > layout.height;
    const auto count = static_cast<std::size_t>(channels);
    const std::size_t area = static_cast<std::size_t>(height) * static_cast<std::size_t>(width);
    for (std::size_t c = 0; c < count; ++c) {
        const std::size_t source = options.bgr && c < 3 && count >= 3 ? 2 - c : c;
        const double mean = per_channel(options.mean, c, 0);
        const double deviation = per_channel(options.deviation, c, 1);
        if (deviation == 0) throw input_error("--std must not be 0");
        for (std::size_t i = 0; i < area; ++i) {
            double value = (image.pixels[i * count + source] * scale - mean) / deviation;
            if (options.quantum) value = value / *options.quantum + options.zero_point;
            store(tensor, interleaved ? i * count + c : c * area + i, value);
        }
    }
    return tensor;
}

}  // namespace ai_vmm::cli
