// SPDX-License-Identifier: Apache-2.0
/// Pooling, resampling and the other lowerings of vision and speech, against OpenVINO.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "cuda/library_device.hpp"
#include "cuda/trial.hpp"
#include "lower/lower.hpp"
#include "program/schedule.hpp"

namespace ai_vmm::cuda::test {
namespace {

using namespace ov::op;
using ov::element::f16;
using ov::element::f32;
using ov::element::i32;
using ov::element::i64;
using ov::element::i8;
using ov::element::u8;
using Interpolation = v4::Interpolate::InterpolateMode;
using Coordinates = v4::Interpolate::CoordinateTransformMode;
using Nearest = v4::Interpolate::NearestMode;
using Shapes = v4::Interpolate::ShapeCalcMode;

TEST(CudaPooling, MaximaOfEveryTypeAndPadding) {
    for (const auto& type : {f32, f16, i32, i64, i8, u8}) {
        for (const auto rounding : {RoundingType::FLOOR, RoundingType::CEIL}) {
            for (const auto pad : {PadType::EXPLICIT, PadType::SAME_UPPER, PadType::SAME_LOWER, PadType::VALID}) {
                Trial t("max pool " + type.get_type_name());
                const auto x = t.in(type, {2, 3, 9, 8}, -100, 100);
                const ov::Strides strides{2, 1}, dilations{1, 2};
                const ov::Shape begin{1, 1}, end{1, 0}, kernel{3, 2};
                t.compare({make<v1::MaxPool>(x, strides, begin, end, kernel, rounding, pad)});
                t.compare(make<v8::MaxPool>(x, strides, dilations, begin, end, kernel, rounding, pad, i64, 2));
                t.compare(make<v14::MaxPool>(x, strides, dilations, begin, end, kernel, rounding, pad, i32, 0));
            }
        }
    }
}

/// Of channels side by side in memory, which are read in vectors.
TEST(CudaPooling, ChannelsLast) {
    for (const auto& type : {f32, f16, ov::element::bf16, i32, u8}) {
        for (const std::size_t channels : {3, 8, 24}) {
            for (const std::size_t kernel : {2, 3}) {
                for (const std::size_t pad : {0, 1}) {
                    Trial t(fmt::format("{} channels of {}, kernel {}, pad {}", channels, type.get_type_name(), kernel, pad));
                    const auto lines = t.in(type, {2, 9, 8, channels}, -100, 100);
                    const auto x = make<v1::Transpose>(lines, Trial::ints({0, 3, 1, 2}));
                    const ov::Strides strides{2, 2};
                    const ov::Shape pads{pad, pad}, size{kernel, kernel};
                    ov::OutputVector results{make<v1::MaxPool>(x, strides, pads, pads, size, RoundingType::CEIL)};
                    if (type.is_real()) results.push_back(make<v1::AvgPool>(x, strides, pads, pads, size, pad == 0, RoundingType::CEIL));
                    t.compare(results, type == f32 ? 2e-6 : 1e-2);
                }
            }
        }
    }
}

TEST(CudaPooling, NaNStaysWhereItIsTheFirst) {
    const double nan = std::numeric_limits<double>::quiet_NaN();
    std::vector<double> values(4 * 8, 1);
    values[2] = values[8 + 3] = nan;
    std::vector<double> expected(8, 1);
    expected[2] = nan;
    Trial t("NaN");
    const auto x = make<v1::Transpose>(t.given(f32, {1, 2, 2, 8}, values), Trial::ints({0, 3, 1, 2}));
    const auto y = make<v1::MaxPool>(x, ov::Strides{2, 2}, ov::Shape{0, 0}, ov::Shape{0, 0}, ov::Shape{2, 2});
    t.expect({y}, {tensor(f32, {1, 8, 1, 1}, expected)});
}

TEST(CudaPooling, VectorsOfChannelsAreReadAtOnce) {
    LibraryDevice device;
    const auto x = std::make_shared<v0::Parameter>(f32, ov::Shape{1, 8, 12, 12});
    const auto convolved = [&](const ov::Output<ov::Node>& from, std::size_t channels) {
        return make<v1::Convolution>(from, Trial::constant(f32, {16, channels, 1, 1}, {0.5}), ov::Strides{1, 1}, ov::CoordinateDiff{0, 0},
                                     ov::CoordinateDiff{0, 0}, ov::Strides{1, 1});
    };
    const auto pooled = make<v1::MaxPool>(convolved(x, 8), ov::Strides{2, 2}, ov::Shape{0, 0}, ov::Shape{0, 0}, ov::Shape{2, 2});
    const auto model = std::make_shared<ov::Model>(ov::OutputVector{convolved(pooled, 16)}, ov::ParameterVector{x});
    const Schedule schedule = make_schedule(lower(model), device);
    EXPECT_TRUE(std::any_of(schedule.kernels.begin(), schedule.kernels.end(), [](const std::string& text) {
        return text.find("VECTOR best") != std::string::npos && text.find("load16") != std::string::npos;
    }));
}

TEST(CudaPooling, MaximaInOneAndThreeDimensions) {
    Trial t("max pool");
    const auto line = t.in(f32, {2, 3, 17}), volume = t.in(f32, {1, 2, 5, 6, 7});
    t.compare(
        make<v14::MaxPool>(line, ov::Strides{3}, ov::Strides{2}, ov::Shape{1}, ov::Shape{1}, ov::Shape{2}, RoundingType::CEIL_TORCH)->outputs());
    t.compare(make<v8::MaxPool>(volume, ov::Strides{1, 2, 2}, ov::Strides{1, 1, 2}, ov::Shape{0, 1, 1}, ov::Shape{0, 1, 1}, ov::Shape{2, 3, 3},
                                RoundingType::FLOOR, PadType::EXPLICIT, i32, -2));
}

TEST(CudaPooling, Averages) {
    for (const bool exclude : {false, true}) {
        for (const auto rounding : {RoundingType::FLOOR, RoundingType::CEIL}) {
            for (const auto& begin : {ov::Shape{0, 0}, ov::Shape{1, 1}}) {
                Trial t("average pool");
                const auto x = t.in(f32, {2, 3, 9, 8});
                t.compare(make<v1::AvgPool>(x, ov::Strides{2, 2}, begin, ov::Shape{1, 0}, ov::Shape{3, 3}, exclude, rounding));
                t.compare(make<v14::AvgPool>(x, ov::Strides{2, 3}, begin, begin, ov::Shape{2, 4}, exclude, rounding, PadType::SAME_UPPER));
                t.compare(make<v16::AvgPool>(x, ov::Strides{1, 2}, ov::Strides{2, 1}, begin, begin, ov::Shape{3, 2}, exclude, rounding));
            }
        }
        Trial t("average pool");
        const auto line = t.in(f32, {2, 3, 17}), volume = t.in(f32, {1, 2, 5, 6, 7});
        t.compare(make<v1::AvgPool>(line, ov::Strides{3}, ov::Shape{1}, ov::Shape{2}, ov::Shape{4}, exclude));
        t.compare(make<v1::AvgPool>(volume, ov::Strides{1, 2, 2}, ov::Shape{0, 1, 1}, ov::Shape{0, 1, 1}, ov::Shape{2, 3, 3}, exclude));
    }
    Trial t("integers");
    const auto x = t.given(i32, {1, 1, 4}, std::vector<double>{1, 2, 4, -5});
    t.expect({make<v1::AvgPool>(x, ov::Strides{1}, ov::Shape{0}, ov::Shape{0}, ov::Shape{2}, true)}, {tensor(i32, {1, 1, 3}, {2, 3, 0})});
}

TEST(CudaPooling, Adaptive) {
    Trial t("adaptive");
    const auto line = t.in(f32, {2, 3, 17}), plane = t.in(f32, {2, 2, 9, 10}), volume = t.in(f32, {1, 2, 5, 6, 7});
    t.compare({make<v8::AdaptiveAvgPool>(line, Trial::ints({5})), make<v8::AdaptiveAvgPool>(plane, Trial::ints({4, 3})),
               make<v8::AdaptiveAvgPool>(volume, Trial::ints({2, 4, 7}))});
    t.compare(make<v8::AdaptiveMaxPool>(line, Trial::ints({5}), i32));
    t.compare(make<v8::AdaptiveMaxPool>(plane, Trial::ints({4, 3}), i32));
    t.compare(make<v8::AdaptiveMaxPool>(volume, Trial::ints({2, 4, 7}), i32));
}

struct Resize {
    Interpolation mode = Interpolation::NEAREST;
    Coordinates coordinates = Coordinates::HALF_PIXEL;
    Nearest nearest = Nearest::ROUND_PREFER_FLOOR;
    bool antialias = false;
    std::vector<std::size_t> pads;
};

void resize(const Resize& how, const ov::element::Type& type, const ov::Shape& in, const std::vector<std::int64_t>& axes,
            const std::vector<std::int64_t>& sizes, double tolerance = 1e-5) {
    Trial t("interpolate mode " + std::to_string(static_cast<int>(how.mode)) + " coordinates " + std::to_string(static_cast<int>(how.coordinates)) +
            " nearest " + std::to_string(static_cast<int>(how.nearest)) + (how.antialias ? " antialias" : "") + " to " + std::to_string(sizes[0]));
    const auto x = t.in(type, in, type.is_real() ? -3 : 0, type.is_real() ? 3 : 100);
    v4::Interpolate::InterpolateAttrs attributes(how.mode, Shapes::SIZES, how.pads, how.pads, how.coordinates, how.nearest, how.antialias);
    t.compare(make<v11::Interpolate>(x, Trial::ints(sizes), Trial::ints(axes), attributes), tolerance);
}

TEST(CudaInterpolate, NearestInEveryMode) {
    for (const auto coordinates : {Coordinates::HALF_PIXEL, Coordinates::PYTORCH_HALF_PIXEL, Coordinates::ASYMMETRIC,
                                   Coordinates::TF_HALF_PIXEL_FOR_NN, Coordinates::ALIGN_CORNERS}) {
        for (const auto nearest : {Nearest::ROUND_PREFER_FLOOR, Nearest::ROUND_PREFER_CEIL, Nearest::FLOOR, Nearest::CEIL, Nearest::SIMPLE}) {
            for (const auto& sizes : std::vector<std::vector<std::int64_t>>{{10, 12}, {7, 3}, {5, 1}, {3, 9}})
                resize({Interpolation::NEAREST, coordinates, nearest}, f32, {2, 3, 5, 6}, {2, 3}, sizes);
        }
    }
    resize({}, i64, {2, 3, 5, 6}, {2, 3}, {10, 12});
    resize({Interpolation::NEAREST, Coordinates::ASYMMETRIC, Nearest::FLOOR}, u8, {3, 4}, {0}, {7});
}

TEST(CudaInterpolate, LinearAndCubic) {
    for (const auto coordinates : {Coordinates::HALF_PIXEL, Coordinates::PYTORCH_HALF_PIXEL, Coordinates::ASYMMETRIC, Coordinates::ALIGN_CORNERS}) {
        for (const auto& sizes : std::vector<std::vector<std::int64_t>>{{10, 12}, {7, 3}, {5, 1}, {3, 9}}) {
            for (const auto mode : {Interpolation::LINEAR_ONNX, Interpolation::LINEAR, Interpolation::CUBIC}) {
                resize({mode, coordinates}, f32, {2, 3, 5, 6}, {2, 3}, sizes);
                resize({mode, coordinates}, f16, {1, 2, 5, 6}, {2, 3}, sizes, 4e-3);
            }
            resize({Interpolation::LINEAR, coordinates, Nearest::FLOOR, true}, f32, {2, 3, 5, 6}, {2, 3}, sizes);
        }
    }
    resize({Interpolation::LINEAR_ONNX}, f32, {1, 2, 3, 4, 5}, {2, 3, 4}, {6, 3, 7});
    resize({Interpolation::CUBIC}, f32, {2, 3, 7}, {2}, {12});
    resize({Interpolation::LINEAR}, f32, {4, 6}, {0, 1}, {9, 2});
}

TEST(CudaInterpolate, Pillow) {
    for (const auto mode : {Interpolation::BILINEAR_PILLOW, Interpolation::BICUBIC_PILLOW}) {
        for (const auto& sizes : std::vector<std::vector<std::int64_t>>{{10, 12}, {2, 3}, {5, 1}, {3, 9}}) {
            resize({mode}, f32, {2, 3, 5, 6}, {2, 3}, sizes);
            resize({mode}, u8, {1, 2, 5, 6}, {2, 3}, sizes);
        }
        resize({mode}, f32, {5, 6, 3}, {0, 1}, {3, 9});
    }
}

TEST(CudaInterpolate, PadsAndScales) {
    for (const auto mode : {Interpolation::NEAREST, Interpolation::LINEAR, Interpolation::CUBIC})
        resize({mode, Coordinates::HALF_PIXEL, Nearest::FLOOR, false, {0, 0, 1, 2}}, f32, {1, 2, 4, 5}, {2, 3}, {9, 13});
    for (const auto mode : {Interpolation::NEAREST, Interpolation::LINEAR_ONNX, Interpolation::CUBIC}) {
        Trial t("scales");
        const auto x = t.in(f32, {1, 2, 4, 5});
        v4::Interpolate::InterpolateAttrs attributes(mode, Shapes::SCALES, {}, {}, Coordinates::ASYMMETRIC);
        t.compare(make<v4::Interpolate>(x, Trial::ints({9, 6}), Trial::constant(f32, {2}, {2.4, 1.3}), Trial::ints({2, 3}), attributes), 1e-5);
        t.compare(make<v11::Interpolate>(x, Trial::constant(f32, {2}, {0.6, 1.7}), Trial::ints({2, 3}), attributes), 1e-5);
    }
    for (const char* mode : {"nearest", "linear", "cubic"}) {
        for (const bool align : {false, true}) {
            Trial t(std::string("first version, ") + mode);
            const auto x = t.in(f32, {1, 2, 4, 5});
            v0::Interpolate::Attributes attributes;
            attributes.axes = {2, 3};
            attributes.mode = mode;
            attributes.align_corners = align;
            attributes.pads_begin = attributes.pads_end = {0};
            t.compare(make<v0::Interpolate>(x, Trial::ints({7, 8}), attributes), 1e-5);
        }
    }
}

TEST(CudaGridSample, EveryMode) {
    using Op = v9::GridSample;
    for (const auto mode : {Op::InterpolationMode::BILINEAR, Op::InterpolationMode::NEAREST, Op::InterpolationMode::BICUBIC}) {
        for (const auto padding : {Op::PaddingMode::ZEROS, Op::PaddingMode::BORDER, Op::PaddingMode::REFLECTION}) {
            for (const bool align : {false, true}) {
                Trial t("grid sample " + std::to_string(static_cast<int>(mode)) + " " + std::to_string(static_cast<int>(padding)));
                const auto x = t.in(f32, {2, 3, 5, 4}), grid = t.in(f32, {2, 3, 7, 2}, -1.8, 1.8);
                t.compare(make<Op>(x, grid, Op::Attributes(align, mode, padding)), 2e-5);
            }
        }
    }
}

TEST(CudaDeformableConvolution, OffsetsGroupsAndMasks) {
    for (const std::int64_t groups : {1, 2}) {
        for (const std::int64_t deformable : {1, 2}) {
            for (const bool pad : {false, true}) {
                Trial t("deformable convolution");
                const auto g = static_cast<std::size_t>(groups), d = static_cast<std::size_t>(deformable);
                const auto x = t.in(f32, {2, 4, 7, 6}), offsets = t.in(f32, {2, d * 12, 4, 5}, -2.5, 2.5), w = t.in(f32, {6, 4 / g, 3, 2}),
                           mask = t.in(f32, {2, d * 6, 4, 5}, 0, 1);
                const ov::Strides strides{2, 1}, dilations{1, 2};
                const ov::CoordinateDiff begin{1, 1}, end{1, 0};
                t.compare(
                    make<v8::DeformableConvolution>(x, offsets, w, mask, strides, begin, end, dilations, PadType::EXPLICIT, groups, deformable, pad),
                    1e-5);
                if (!pad)
                    t.compare(make<v1::DeformableConvolution>(x, offsets, w, strides, begin, end, dilations, PadType::EXPLICIT, groups, deformable),
                              1e-5);
            }
        }
    }
}

TEST(CudaBinaryConvolution, CountsEqualBits) {
    for (const float pad : {0.0F, 1.0F}) {
        Trial t("binary convolution");
        std::vector<double> bits(2 * 3 * 5 * 5);
        for (std::size_t i = 0; i < bits.size(); ++i) bits[i] = static_cast<double>((i * i + i / 3) % 2);
        const auto x = t.given(f32, {2, 3, 5, 5}, bits);
        std::vector<std::int8_t> filter(4 * 3 * 3 * 3);
        for (std::size_t i = 0; i < filter.size(); ++i) filter[i] = static_cast<std::int8_t>((i * 7 + i / 4) % 2);
        const auto w = std::make_shared<v0::Constant>(ov::element::u1, ov::Shape{4, 3, 3, 3}, filter);
        const auto node = make<v1::BinaryConvolution>(x, w, ov::Strides{2, 1}, ov::CoordinateDiff{1, 1}, ov::CoordinateDiff{1, 1}, ov::Strides{1, 1},
                                                      v1::BinaryConvolution::BinaryConvolutionMode::XNOR_POPCOUNT, pad);
        std::vector<double> expected;
        for (std::size_t n = 0; n < 2; ++n) {
            for (std::size_t k = 0; k < 4; ++k) {
                for (int y = 0; y < 3; ++y) {
                    for (int z = 0; z < 5; ++z) {
                        double sum = 0;
                        for (std::size_t c = 0; c < 3; ++c) {
                            for (int i = 0; i < 3; ++i) {
                                for (int j = 0; j < 3; ++j) {
                                    const int a = y * 2 + i - 1, b = z + j - 1;
                                    const bool inside = a >= 0 && a < 5 && b >= 0 && b < 5;
                                    const double value = inside
                                                             ? bits[((n * 3 + c) * 5 + static_cast<std::size_t>(a)) * 5 + static_cast<std::size_t>(b)]
                                                             : static_cast<double>(pad);
                                    const auto at = ((k * 3 + c) * 3 + static_cast<std::size_t>(i)) * 3 + static_cast<std::size_t>(j);
                                    sum += value == filter[at] ? 1 : -1;
                                }
                            }
                        }
                        expected.push_back(sum);
                    }
                }
            }
        }
        t.expect({node}, {tensor(f32, {2, 4, 3, 5}, expected)});
    }
}

TEST(CudaGroupedMatMul, GroupsOfRows) {
    for (const auto& type : {f32, f16}) {
        Trial t("groups of " + type.get_type_name());
        const auto weights = make<v0::Constant>(spread(type, {3, 16, 32}, -1, 1, 5));
        t.compare({make<v17::GroupedMatMul>(t.in(type, {3, 5, 32}), weights),
                   make<v17::GroupedMatMul>(t.in(type, {9, 32}), weights, t.given(i32, {3}, {4, 4, 9}))},
                  1e-5);
    }
}

TEST(CudaFakeConvert, RoundsToEightBits) {
    for (const auto& to : {ov::element::f8e4m3, ov::element::f8e5m2}) {
        for (const auto& type : {f32, f16}) {
            Trial t("fake convert");
            const auto x = t.in(type, {2, 3, 40}, -60, 60), scale = t.in(type, {1, 3, 1}, 2, 30), shift = t.in(type, {1, 3, 1}, -1, 1);
            t.compare({make<v13::FakeConvert>(x, scale, to), make<v13::FakeConvert>(x, scale, shift, to)}, 1e-6);
        }
    }
}

TEST(CudaCtcLoss, SumsOverAlignments) {
    for (const bool merge : {false, true}) {
        for (const bool collapse : {false, true}) {
            for (const bool unique : {false, true}) {
                Trial t("ctc " + std::to_string(merge) + std::to_string(collapse) + std::to_string(unique));
                const auto x = t.in(f32, {3, 7, 5});
                const auto lengths = t.given(i32, {3}, std::vector<double>{7, 5, 6}), count = t.given(i32, {3}, std::vector<double>{4, 2, 1});
                const auto labels = t.given(i32, {3, 7}, std::vector<double>{0, 1, 1, 2, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0});
                t.compare(make<v4::CTCLoss>(x, lengths, labels, count, collapse, merge, unique), 1e-4);
                t.compare(make<v4::CTCLoss>(x, lengths, labels, count, Trial::constant(i32, {}, {4}), collapse, merge, unique), 1e-4);
            }
        }
    }
}

}  // namespace
}  // namespace ai_vmm::cuda::test
