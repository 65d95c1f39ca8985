// SPDX-License-Identifier: Apache-2.0
#include "io/media.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <random>

#include "io/file.hpp"
#include "io/values.hpp"

namespace ai_vmm::cli {
namespace {

void put(std::string& out, std::uint32_t value, int bytes) {
    for (int i = 0; i < bytes; ++i) out += static_cast<char>(value >> 8 * i & 0xFFU);
}

/// A 24-bit BMP; `pixels` are rows from the top, RGB.
std::string bmp(int width, int height, const std::vector<std::uint8_t>& pixels) {
    const int row = (width * 3 + 3) / 4 * 4;
    std::string out = "BM";
    put(out, static_cast<std::uint32_t>(54 + row * height), 4);
    put(out, 0, 4);
    put(out, 54, 4);
    put(out, 40, 4);
    put(out, static_cast<std::uint32_t>(width), 4);
    put(out, static_cast<std::uint32_t>(height), 4);
    put(out, 1, 2);
    put(out, 24, 2);
    for (int i = 0; i < 6; ++i) put(out, 0, 4);
    for (int y = height; y-- > 0;) {
        for (int x = 0; x < width; ++x) {
            for (int c = 2; c >= 0; --c) out += static_cast<char>(pixels[static_cast<std::size_t>((y * width + x) * 3 + c)]);
        }
        out.append(static_cast<std::size_t>(row - width * 3), '\0');
    }
    return out;
}

/// 16-bit PCM.
std::string wav(int rate, int channels, const std::vector<std::int16_t>& samples) {
    std::string out = "RIFF";
    put(out, static_cast<std::uint32_t>(36 + samples.size() * 2), 4);
    out += "WAVEfmt ";
    put(out, 16, 4);
    put(out, 1, 2);
    put(out, static_cast<std::uint32_t>(channels), 2);
    put(out, static_cast<std::uint32_t>(rate), 4);
    put(out, static_cast<std::uint32_t>(rate * channels * 2), 4);
    put(out, static_cast<std::uint32_t>(channels * 2), 2);
    put(out, 16, 2);
    out += "data";
    put(out, static_cast<std::uint32_t>(samples.size() * 2), 4);
    for (const std::int16_t sample : samples) put(out, static_cast<std::uint16_t>(sample), 2);
    return out;
}

// Red, green / blue, white.
const std::string kFour = bmp(2, 2, {255, 0, 0, 0, 255, 0, 0, 0, 255, 255, 255, 255});

TEST(Image, ChannelsGoWhereTheShapeHasThem) {
    const Tensor planar = image_tensor(kFour, "t", {.name = "x", .type = ElementType::f32, .shape = {1, 3, 2, 2}}, {});
    const auto p = planar.as<float>();
    EXPECT_EQ(std::vector<float>(p.begin(), p.end()), (std::vector<float>{1, 0, 0, 1, 0, 1, 0, 1, 0, 0, 1, 1}));
    const Tensor mixed = image_tensor(kFour, "t", {.name = "x", .type = ElementType::u8, .shape = {1, 2, 2, 3}}, {});
    const auto m = mixed.as<std::uint8_t>();
    EXPECT_EQ(std::vector<int>(m.begin(), m.begin() + 6), (std::vector<int>{255, 0, 0, 0, 255, 0}));
    const Tensor bgr = image_tensor(kFour, "t", {.name = "x", .type = ElementType::u8, .shape = {1, 2, 2, 3}}, {.bgr = true});
    EXPECT_EQ(bgr.as<std::uint8_t>()[2], 255);
    const Tensor free = image_tensor(kFour, "t", {.name = "x", .type = ElementType::f32, .shape = {-1, 3, -1, -1}}, {});
    EXPECT_EQ(free.shape(), (Shape{1, 3, 2, 2}));
    EXPECT_EQ(image_tensor(kFour, "t", {.name = "x", .type = ElementType::f32, .shape = {2, 2}}, {}).shape(), (Shape{2, 2}));
}

TEST(Image, NumbersFollowTheFormula) {
    const ImageOptions options{.mean = {0.5, 0.25, 0}, .deviation = {0.5}};
    const Tensor tensor = image_tensor(kFour, "t", {.name = "x", .type = ElementType::f32, .shape = {1, 3, 2, 2}}, options);
    EXPECT_FLOAT_EQ(tensor.as<float>()[0], 1);
    EXPECT_FLOAT_EQ(tensor.as<float>()[1], -1);
    EXPECT_FLOAT_EQ(tensor.as<float>()[4], -0.5F);
    const Tensor quantised =
        image_tensor(kFour, "t", {.name = "x", .type = ElementType::i8, .shape = {1, 2, 2, 3}}, {.quantum = 1.0 / 128, .zero_point = -10});
    EXPECT_EQ(quantised.as<std::int8_t>()[0], 118);
    EXPECT_EQ(quantised.as<std::int8_t>()[1], -10);
}

TEST(Image, ResizingKeepsAPlainColourAndCropsTheMiddle) {
    const std::string plain = bmp(5, 3, std::vector<std::uint8_t>(45, 100));
    const Tensor tensor = image_tensor(plain, "t", {.name = "x", .type = ElementType::u8, .shape = {1, 7, 11, 3}}, {});
    for (const std::uint8_t value : tensor.as<std::uint8_t>()) EXPECT_EQ(value, 100);
    std::vector<std::uint8_t> stripes(4 * 2 * 3, 0);
    for (const std::size_t pixel : {1, 2, 5, 6}) {
        for (std::size_t c = 0; c < 3; ++c) stripes[pixel * 3 + c] = 255;
    }
    const ImageOptions shorter{.fit = ImageOptions::Fit::shorter_side, .side = 2};
    const Tensor middle = image_tensor(bmp(4, 2, stripes), "t", {.name = "x", .type = ElementType::u8, .shape = {1, 2, 2, 3}}, shorter);
    for (const std::uint8_t value : middle.as<std::uint8_t>()) EXPECT_EQ(value, 255);
    const ImageOptions small{.fit = ImageOptions::Fit::shorter_side, .side = 1};
    EXPECT_THROW(static_cast<void>(image_tensor(kFour, "t", {.name = "x", .type = ElementType::u8, .shape = {1, 2, 2, 3}}, small)), Error);
}

TEST(Image, RefusesShapesOfNoImage) {
    for (const Shape& shape : {Shape{}, Shape{5}, Shape{1, 5, 7, 9}, Shape{2, 3, 4, 4}, Shape{1, 1, 1, 1, 1}}) {
        EXPECT_THROW(static_cast<void>(image_tensor(kFour, "t", {.name = "x", .type = ElementType::f32, .shape = shape}, {})), Error)
            << to_string(shape);
    }
    EXPECT_THROW(static_cast<void>(image_tensor(kFour, "t", {.name = "x", .type = ElementType::string, .shape = {1, 3, 2, 2}}, {})), Error);
    const ImageOptions wrong{.mean = {1, 2}};
    EXPECT_THROW(static_cast<void>(image_tensor(kFour, "t", {.name = "x", .type = ElementType::f32, .shape = {1, 3, 2, 2}}, wrong)), Error);
}

TEST(Image, DamageIsAnErrorOrAnImage) {
    std::mt19937 engine(1);
    const TensorInfo info{.name = "x", .type = ElementType::f32, .shape = {1, 3, 4, 4}};
    for (std::size_t size = 0; size < 54; ++size) EXPECT_THROW(static_cast<void>(image_tensor(kFour.substr(0, size), "t", info, {})), Error) << size;
    for (int i = 0; i < 2000; ++i) {
        std::string damaged = kFour;
        damaged[engine() % damaged.size()] = static_cast<char>(engine());
        try {
            EXPECT_EQ(image_tensor(damaged, "t", info, {}).element_count(), 48U);
        } catch (const Error&) {
        }
    }
}

TEST(Audio, ChannelsAreAveragedAndFramesPadded) {
    const std::string stereo = wav(16000, 2, {16384, 0, -16384, -16384, 8192, 8192});
    int rate = 0;
    const Tensor tensor = audio_tensor(stereo, "t", {.name = "x", .type = ElementType::f32, .shape = {1, 5}}, {}, &rate);
    EXPECT_EQ(rate, 16000);
    const auto samples = tensor.as<float>();
    EXPECT_EQ(std::vector<float>(samples.begin(), samples.end()), (std::vector<float>{0.25F, -0.5F, 0.25F, 0, 0}));
    const Tensor second = audio_tensor(stereo, "t", {.name = "x", .type = ElementType::f32, .shape = {1, 2}}, {.frame = 1});
    EXPECT_EQ(second.as<float>()[0], 0.25F);
    EXPECT_EQ(second.as<float>()[1], 0);
    EXPECT_THROW(static_cast<void>(audio_tensor(stereo, "t", {.name = "x", .type = ElementType::f32, .shape = {1, 2}}, {.frame = 2})), Error);
    EXPECT_EQ(audio_tensor(stereo, "t", {.name = "x", .type = ElementType::f32, .shape = {1, -1}}, {}).shape(), (Shape{1, 3}));
    EXPECT_EQ(audio_tensor(stereo, "t", {.name = "x", .type = ElementType::f32, .shape = {-1, 2}}, {}).shape(), (Shape{1, 2}));
    EXPECT_EQ(audio_tensor(stereo, "t", {.name = "x", .type = ElementType::i16, .shape = {3}}, {}).as<std::int16_t>()[1], -16384);
}

TEST(Audio, AnotherRateIsRefusedWithAdvice) {
    try {
        static_cast<void>(audio_tensor(wav(44100, 1, {1, 2}), "t", {.name = "x", .type = ElementType::f32, .shape = {2}}, {.sample_rate = 16000}));
        FAIL();
    } catch (const Error& error) {
        EXPECT_EQ(error.code(), ErrorCode::invalid_argument);
        EXPECT_NE(error.advice().find("16000"), std::string::npos);
    }
}

TEST(Audio, DamageIsAnErrorOrSamples) {
    const std::string file = wav(8000, 1, std::vector<std::int16_t>(50, 1000));
    const TensorInfo info{.name = "x", .type = ElementType::f32, .shape = {1, 64}};
    std::mt19937 engine(1);
    for (int i = 0; i < 2000; ++i) {
        std::string damaged = file;
        damaged[engine() % 60] = static_cast<char>(engine());
        try {
            EXPECT_EQ(audio_tensor(damaged, "t", info, {}).element_count(), 64U);
        } catch (const Error&) {
        }
    }
    EXPECT_THROW(static_cast<void>(audio_tensor(file.substr(0, 40), "t", info, {})), Error);
}

TEST(Media, RealFilesDecode) {
    const char* chosen = std::getenv("AI_VMM_TEST_MODELS");
    const std::filesystem::path models = chosen != nullptr ? chosen : AI_VMM_TEST_MODELS;
    if (!std::filesystem::exists(models / "samples")) GTEST_SKIP() << "no real samples at " << models;
    const std::string zebra = read_input(models / "samples/images/imagenet/zebra.jpeg");
    ASSERT_TRUE(is_image(zebra));
    EXPECT_EQ(image_tensor(zebra, "zebra", {.name = "x", .type = ElementType::f32, .shape = {1, 3, 224, 224}}, {}).element_count(), 150528U);
    const Image digit = decode_image(read_input(models / "samples/mnist/sample3.png"), "digit", 1);
    EXPECT_EQ(digit.width, 28);
    EXPECT_EQ(digit.height, 28);
    const std::string yes = read_input(models / "samples/audio/yes_1000ms.wav");
    ASSERT_TRUE(is_audio(yes));
    const Tensor speech = audio_tensor(yes, "yes", {.name = "x", .type = ElementType::f32, .shape = {1, -1}}, {.sample_rate = 16000});
    EXPECT_EQ(speech.element_count(), 16000U);
    EXPECT_GT(summarise(speech).deviation, 0.001);
}

}  // namespace
}  // namespace ai_vmm::cli
