// SPDX-License-Identifier: Apache-2.0
/// Interpolate and GridSample.
#include <algorithm>
#include <cmath>
#include <numeric>

#include "lower/text.hpp"
#include "openvino/op/ops.hpp"

namespace ai_vmm::cuda {
namespace {

using Attributes = ov::op::v4::Interpolate::InterpolateAttrs;
using Mode = ov::op::v4::Interpolate::InterpolateMode;
using Transform = ov::op::v4::Interpolate::CoordinateTransformMode;
using Nearest = ov::op::v4::Interpolate::NearestMode;

/// One dimension's resampling: output o is the sum over k < taps of weight[o * taps + k] times input element first[o] + k, moved into the input where
/// it lies outside. Made when compiling, so that kernels are the same for all modes.
struct Resampling {
    std::size_t dimension = 0;
    std::int64_t in = 0, out = 0;
    std::int64_t taps = 1;
    std::vector<std::int32_t> first;
    std::vector<float> weight;
};

/// One dimension's sizes: `in` with both pads.
struct Extent {
    float scale = 1;
    std::int64_t in = 0, out = 0;
};

/// Where output `o` lies in the input. In f32 throughout, as the operation's reference: roundings decide which element is the nearest.
float source(Transform mode, const Extent& e, std::int64_t o) {
    const auto x = static_cast<float>(o), in = static_cast<float>(e.in), out = static_cast<float>(e.out);
    if (e.scale == 1.0F || e.in == e.out) return x;
    switch (mode) {
        case Transform::PYTORCH_HALF_PIXEL: return e.out > 1 ? (x + 0.5F) / e.scale - 0.5F : 0.0F;
        case Transform::ASYMMETRIC: return x / e.scale;
        case Transform::TF_HALF_PIXEL_FOR_NN: return (x + 0.5F) / e.scale;
        case Transform::ALIGN_CORNERS: return e.out == 1 ? 0.0F : x * (in - 1) / (out - 1);
        case Transform::HALF_PIXEL: break;
    }
    return (x + 0.5F) / e.scale - 0.5F;
}

std::int64_t nearest(Nearest mode, float x, bool shrinks) {
    switch (mode) {
        case Nearest::ROUND_PREFER_CEIL: return static_cast<std::int64_t>(std::round(x));
        case Nearest::FLOOR: return static_cast<std::int64_t>(std::floor(x));
        case Nearest::CEIL: return static_cast<std::int64_t>(std::ceil(x));
        case Nearest::SIMPLE: return shrinks ? static_cast<std::int64_t>(std::ceil(x)) : static_cast<std::int64_t>(x);
        case Nearest::ROUND_PREFER_FLOOR: break;
    }
    const float whole = std::trunc(x);
    return static_cast<std::int64_t>(x == whole + 0.5F ? std::floor(x) : std::round(x));
}

/// Weights of the elements from `first` on.
struct Taps {
    std::int64_t first = 0;
    std::vector<double> weights;
};

void normalize(std::vector<double>& weights) {
    const double sum = std::accumulate(weights.begin(), weights.end(), 0.0);
    if (sum != 0) {
        for (double& w : weights) w /= sum;
    }
}

Taps linear_taps(float x, std::int64_t in) {
    x = std::clamp(x, 0.0F, static_cast<float>(in - 1));
    const auto first = static_cast<std::int64_t>(x);
    return {first, {1.0 - (x - static_cast<float>(first)), x - static_cast<float>(first)}};
}

/// A triangle around x, wider where `antialias` shrinks; only elements of the input count.
Taps triangle_taps(float x, const Extent& e, bool antialias) {
    const float a = antialias ? e.scale : 1.0F;
    const std::int64_t radius = e.scale > 1.0F ? 2 : static_cast<std::int64_t>(std::ceil(2.0F / a));
    Taps taps{static_cast<std::int64_t>(std::round(x)) - radius, {}};
    for (std::int64_t k = 0; k <= 2 * radius; ++k) {
        const std::int64_t at = taps.first + k;
        taps.weights.push_back(at < 0 || at >= e.in ? 0.0F : std::max(0.0F, 1.0F - std::fabs(a * (x - static_cast<float>(at)))));
    }
    normalize(taps.weights);
    return taps;
}

/// Cubic convolution with parameter `a` (Keys 1981).
double cubic(double x, double a) {
    x = std::fabs(x);
    if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
    return x < 2 ? (((x - 5) * x + 8) * x - 4) * a : 0;
}

Taps cubic_taps(float x, double a) {
    const auto base = static_cast<std::int64_t>(std::floor(x));
    Taps taps{base - 1, {}};
    for (std::int64_t k = 0; k < 4; ++k) taps.weights.push_back(cubic(x - static_cast<float>(base - 1 + k), a));
    return taps;
}

/// Pillow's filters: their support grows with the step between outputs.
Taps pillow_taps(std::int64_t o, const Extent& e, bool bicubic, double a) {
    const double step = static_cast<double>(static_cast<float>(e.in)) / static_cast<double>(e.out), wide = std::max(step, 1.0);
    const double support = (bicubic ? 2.0 : 1.0) * wide, center = (static_cast<double>(o) + 0.5) * step;
    const auto begin = std::max<std::int64_t>(static_cast<std::int64_t>(center - support + 0.5), 0);
    const auto end = std::min<std::int64_t>(static_cast<std::int64_t>(center + support + 0.5), e.in);
    Taps taps{begin, {}};
    for (std::int64_t at = begin; at < end; ++at) {
        const double x = (static_cast<double>(at) - center + 0.5) / wide;
        taps.weights.push_back(bicubic ? cubic(x, a) : std::max(0.0, 1.0 - std::fabs(x)));
    }
    normalize(taps.weights);
    return taps;
}

/// @param pad     before the input; elements of the padding are 0
/// @param resize  false: a dimension that is padded alone
Resampling make_resampling(const Attributes& attributes, std::size_t dimension, const Extent& e, std::int64_t in, std::int64_t pad, bool resize,
                           bool antialias) {
    std::vector<Taps> all;
    for (std::int64_t o = 0; o < e.out; ++o) {
        const float x = resize ? source(attributes.coordinate_transformation_mode, e, o) : static_cast<float>(o);
        Taps taps{o, {1.0}};
        if (resize) {
            switch (attributes.mode) {
                case Mode::NEAREST: taps.first = std::clamp<std::int64_t>(nearest(attributes.nearest_mode, x, e.scale < 1.0F), 0, e.in - 1); break;
                case Mode::LINEAR: taps = triangle_taps(x, e, antialias); break;
                case Mode::LINEAR_ONNX: taps = linear_taps(x, e.in); break;
                case Mode::CUBIC: taps = cubic_taps(x, static_cast<float>(attributes.cube_coeff)); break;
                case Mode::BILINEAR_PILLOW: taps = pillow_taps(o, e, false, attributes.cube_coeff); break;
                case Mode::BICUBIC_PILLOW: taps = pillow_taps(o, e, true, attributes.cube_coeff); break;
            }
        }
        // Elements beyond the padded input repeat its border; the border itself may be padding.
        std::vector<double> moved;
        std::int64_t first = std::numeric_limits<std::int64_t>::max();
        for (std::size_t k = 0; k < taps.weights.size(); ++k) {
            if (taps.weights[k] != 0) first = std::min(first, std::clamp<std::int64_t>(taps.first + static_cast<std::int64_t>(k), 0, e.in - 1) - pad);
        }
        if (first == std::numeric_limits<std::int64_t>::max()) first = 0;
        for (std::size_t k = 0; k < taps.weights.size(); ++k) {
            if (taps.weights[k] == 0) continue;
            const std::int64_t at = std::clamp<std::int64_t>(taps.first + static_cast<std::int64_t>(k), 0, e.in - 1) - pad;
            const auto position = static_cast<std::size_t>(at - first);
            if (moved.size() <= position) moved.resize(position + 1, 0.0);
            if (at >= 0 && at < in) moved[position] += taps.weights[k];
        }
        if (moved.empty()) moved.push_back(0.0);
        all.push_back({first, std::move(moved)});
    }
    Resampling result{dimension, in, e.out, 1, {}, {}};
    for (const Taps& taps : all) result.taps = std::max(result.taps, static_cast<std::int64_t>(taps.weights.size()));
    for (Taps& taps : all) {
        taps.weights.resize(static_cast<std::size_t>(result.taps), 0.0);
        result.first.push_back(static_cast<std::int32_t>(taps.first));
        for (double w : taps.weights) result.weight.push_back(static_cast<float>(w));
    }
    return result;
}

template <typename T>
ValueId table(Builder& b, Type type, Dims dims, const std::vector<T>& values) {
    const auto owner = std::make_shared<std::vector<T>>(values);
    return b.constant(type, std::move(dims), {owner, reinterpret_cast<const std::byte*>(owner->data()), owner->size() * sizeof(T)});
}

bool is_copy(const Resampling& r) {
    return r.taps == 1 && std::all_of(r.weight.begin(), r.weight.end(), [](float w) { return w == 1.0F; });
}

/// "inK(o)" of the first elements, or the quotient that they are.
std::string first_text(Builder& b, const Resampling& r, std::vector<ValueId>& inputs) {
    bool quotient = r.in * r.out <= std::numeric_limits<std::int32_t>::max();
    for (std::int64_t o = 0; o < r.out && quotient; ++o) quotient = r.first[static_cast<std::size_t>(o)] == o * r.in / r.out;
    if (quotient) {
        const std::int64_t divisor = std::gcd(r.in, r.out);
        const std::string product = r.in == divisor ? fmt::format("i{}", r.dimension) : fmt::format("i{} * {}", r.dimension, r.in / divisor);
        return r.out == divisor ? product : fmt::format("{} / {}", product, r.out / divisor);
    }
    inputs.push_back(table(b, Type::i32, {r.out}, r.first));
    return fmt::format("(idx)in{}(i{})", inputs.size() - 1, r.dimension);
}

/// Resamples some dimensions in one kernel.
/// @param rounding  of sums to integers: "rint", "round", "trunc"
ValueId resample(Builder& b, ValueId data, const std::vector<Resampling>& dimensions, Type type, const char* rounding) {
    const Type from = b.type(data);
    const Type wide = from == Type::f64 ? Type::f64 : Type::f32;
    const std::string acc(to_string(wide));
    Dims out = b.dims(data);
    std::vector<ValueId> inputs{data};
    std::vector<double> reads{1};
    std::string open, close, product;
    auto at = coordinates(b.rank(data));
    const bool copies = std::all_of(dimensions.begin(), dimensions.end(), is_copy);
    for (const Resampling& r : dimensions) {
        out[r.dimension] = r.out;
        at[r.dimension] = fmt::format("x{}", r.dimension);
        const std::string first = first_text(b, r, inputs);
        reads.resize(inputs.size(), 1);
        if (is_copy(r)) {
            open += fmt::format("const idx x{} = {}; ", r.dimension, first);
            continue;
        }
        inputs.push_back(table(b, Type::f32, {r.out, r.taps}, r.weight));
        reads.push_back(static_cast<double>(r.taps));
        reads[0] *= static_cast<double>(r.taps);
        open += fmt::format(
            "const idx f{0} = {1}; for (idx k{0} = 0; k{0} < {2}; ++k{0}) {{ idx x{0} = f{0} + k{0}; if (x{0} < 0) x{0} = 0; "
            "if (x{0} > (idx){3}) x{0} = (idx){3}; const f32 w{0} = in{4}(i{0}, k{0}); ",
            r.dimension, first, r.taps, r.in - 1, inputs.size() - 1);
        close += "} ";
        product += fmt::format("w{} * ", r.dimension);
    }
    std::string body;
    if (copies) {
        body = open + "return " + read(0, at) + ";";
    } else {
        body = fmt::format("{0} sum = 0; {1}sum += {2}({0}){3}; {4}", acc, open, product, read(0, at), close);
        if (is_float(type)) {
            body += "return sum;";
        } else {
            // Cubic weights overshoot.
            const double least = is_signed(type) ? -std::ldexp(1.0, bits(type) - 1) : 0,
                         most = std::ldexp(1.0, is_signed(type) ? bits(type) - 1 : bits(type)) - 1;
            body += fmt::format("const f64 whole = {}((f64)sum); return whole < {} ? ({}){} : whole > {} ? ({}){} : ({})whole;", rounding,
                                literal(Type::f64, least), to_string(type), literal(type, least), literal(Type::f64, most), to_string(type),
                                literal(type, most), to_string(type));
        }
    }
    return b.compute(type, out, inputs, {"Interpolate", body, copies ? 1 : static_cast<int>(std::min(4 * reads[0], 1e6)), reads, {}});
}

/// Attributes of the first version in terms of the later ones.
Attributes attributes_of(Context& c, const ov::op::v0::Interpolate::Attributes& old) {
    Attributes now;
    const int rank = c.rank(0);
    if (old.mode == "nearest") {
        now.mode = Mode::NEAREST;
    } else if (old.mode == "linear") {
        now.mode = rank < 5 ? Mode::LINEAR_ONNX : Mode::LINEAR;
    } else if (old.mode == "linear_onnx") {
        now.mode = Mode::LINEAR_ONNX;
    } else if (old.mode == "cubic") {
        now.mode = Mode::CUBIC;
    } else {
        c.unsupported("mode \"" + old.mode + "\"");
    }
    now.nearest_mode = Nearest::SIMPLE;
    now.pads_begin = old.pads_begin;
    now.pads_end = old.pads_end;
    now.antialias = old.antialias;
    const auto none = [](const auto& pads) { return std::all_of(pads.begin(), pads.end(), [](std::size_t pad) { return pad == 0; }); };
    const bool linear = now.mode == Mode::LINEAR || now.mode == Mode::LINEAR_ONNX;
    now.coordinate_transformation_mode = old.align_corners ? Transform::ALIGN_CORNERS
                                         : linear && none(old.pads_begin) && none(old.pads_end) && !(rank == 4 && old.axes == ov::AxisSet{2, 3})
                                             ? Transform::HALF_PIXEL
                                             : Transform::ASYMMETRIC;
    return now;
}

void lower_interpolate(Context& c) {
    const Dims in = c.dims(0), out = c.out_dims();
    const std::size_t rank = in.size();
    Attributes attributes;
    std::vector<std::int64_t> axes;
    std::optional<std::vector<double>> scales;
    if (c.is<ov::op::v0::Interpolate>()) {
        const auto& old = c.as<ov::op::v0::Interpolate>().get_attrs();
        attributes = attributes_of(c, old);
        axes.assign(old.axes.begin(), old.axes.end());
    } else {
        const bool v4 = c.is<ov::op::v4::Interpolate>();
        attributes = v4 ? c.as<ov::op::v4::Interpolate>().get_attrs() : c.as<ov::op::v11::Interpolate>().get_attrs();
        const int axes_at = v4 ? 3 : 2;
        if (c.inputs() > axes_at) {
            for (std::int64_t axis : c.need_integers(axes_at)) axes.push_back(c.axis(axis, c.rank(0)));
        } else {
            axes.resize(rank);
            std::iota(axes.begin(), axes.end(), 0);
        }
        if (attributes.shape_calculation_mode == ov::op::v4::Interpolate::ShapeCalcMode::SCALES) scales = c.need_numbers(v4 ? 2 : 1);
    }
    attributes.pads_begin.resize(rank, 0);
    attributes.pads_end.resize(rank, 0);
    std::vector<Extent> extents(rank);
    bool shrinks = false;
    for (std::size_t d = 0; d < rank; ++d)
        extents[d] = {1.0F, in[d] + static_cast<std::int64_t>(attributes.pads_begin[d] + attributes.pads_end[d]), out[d]};
    for (std::size_t k = 0; k < axes.size(); ++k) {
        Extent& e = extents[static_cast<std::size_t>(axes[k])];
        e.scale = scales ? static_cast<float>((*scales)[k]) : static_cast<float>(e.out) / static_cast<float>(e.in);
        shrinks = shrinks || e.scale < 1.0F;
    }
    const bool pillow = attributes.mode == Mode::BILINEAR_PILLOW || attributes.mode == Mode::BICUBIC_PILLOW;
    // The last axis first: Pillow's order, which shows where passes round to integers.
    std::vector<Resampling> dimensions;
    double taps = 1;
    for (std::size_t d = rank; d-- > 0;) {
        const bool resize = std::find(axes.begin(), axes.end(), static_cast<std::int64_t>(d)) != axes.end();
        Resampling r = make_resampling(attributes, d, extents[d], in[d], static_cast<std::int64_t>(attributes.pads_begin[d]), resize,
                                       attributes.antialias && shrinks);
        bool same = r.in == r.out && is_copy(r);
        for (std::int64_t o = 0; o < r.out && same; ++o) same = r.first[static_cast<std::size_t>(o)] == o;
        if (same) continue;
        taps *= static_cast<double>(r.taps);
        dimensions.push_back(std::move(r));
    }
    const Type type = c.out_type(), wide = type == Type::f64 ? Type::f64 : Type::f32;
    if (dimensions.empty()) return c.set(0, c.in(0));
    const char* rounding = attributes.mode == Mode::LINEAR || pillow ? "round" : "trunc";
    constexpr double kMostTapsAtOnce = 16;
    if (taps <= kMostTapsAtOnce && !(pillow && !is_float(type))) return c.set(0, resample(c.b, c.in(0), dimensions, type, rounding));
    ValueId value = c.in(0);
    for (std::size_t k = 0; k < dimensions.size(); ++k) {
        const bool last = k + 1 == dimensions.size();
        value = resample(c.b, value, {dimensions[k]}, last || (pillow && !is_float(type)) ? type : wide, rounding);
    }
    c.set(0, value);
}

/// Statements that give element positions y0, y1, … (-1: none) in a dimension of `size` for the integers from `base` on.
std::string grid_positions(const char* name, int taps, const std::string& base, std::int64_t size, ov::op::v9::GridSample::PaddingMode padding,
                           bool align) {
    using Padding = ov::op::v9::GridSample::PaddingMode;
    std::string text = fmt::format("i64 {0}at[{1}]; for (int k = 0; k < {1}; ++k) {{ i64 at = {2} + k; ", name, taps, base);
    if (padding == Padding::ZEROS) {
        text += fmt::format("if (at < 0 || at >= {}) at = -1; ", size);
    } else if (padding == Padding::BORDER) {
        text += fmt::format("if (at < 0) at = 0; if (at >= {0}) at = {1}; ", size, size - 1);
    } else if (align) {
        const std::int64_t period = size == 1 ? 1 : 2 * (size - 1);
        text += fmt::format("at = (at < 0 ? -at : at) % {0}; if (at >= {1}) at = {0} - at; ", period, size);
    } else {
        text += fmt::format("at = (at % {0} + {0}) % {0}; if (at >= {1}) at = {2} - at; ", 2 * size, size, 2 * size - 1);
    }
    return text + fmt::format("{}at[k] = at; }} ", name);
}

void lower_grid_sample(Context& c) {
    using Interpolation = ov::op::v9::GridSample::InterpolationMode;
    const auto& attributes = c.as<ov::op::v9::GridSample>().get_attributes();
    const Type type = c.type(0), wide = c.type(1) == Type::f64 || type == Type::f64 ? Type::f64 : Type::f32;
    const std::string acc(to_string(wide)), f = suffix(wide);
    const int taps = attributes.mode == Interpolation::NEAREST ? 1 : attributes.mode == Interpolation::BILINEAR ? 2 : 4;
    std::string body;
    for (int d = 0; d < 2; ++d) {
        const char* name = d == 0 ? "y" : "x";
        const std::int64_t size = c.dims(0)[static_cast<std::size_t>(d) + 2];
        body += fmt::format("{0} {1} = ({0})in1(i0, i2, i3, {2}); ", acc, name, 1 - d);
        body += attributes.align_corners ? fmt::format("{0} = ({0} + 1) * {1} / 2; ", name, literal(wide, static_cast<double>(size - 1)))
                                         : fmt::format("{0} = (({0} + 1) * {1} - 1) / 2; ", name, literal(wide, static_cast<double>(size)));
        // Beyond these nothing is near any element; integers could not hold what lies farther.
        body += fmt::format("{0} = fmin{1}(fmax{1}({0}, {2}), {3}); ", name, f, literal(wide, -1e9), literal(wide, 1e9));
        body += fmt::format("const i64 {0}base = (i64){1}{2}({0}){3}; {4} {0}w[{5}]; ", name, taps == 1 ? "rint" : "floor", f,
                            taps == 4 ? " - 1" : "", acc, taps);
        if (taps == 1) body += fmt::format("{}w[0] = 1; ", name);
        if (taps == 2) body += fmt::format("{0}w[1] = {0} - ({1}){0}base; {0}w[0] = 1 - {0}w[1]; ", name, acc);
        if (taps == 4) {
            body += fmt::format("for (int k = 0; k < 4; ++k) {{ const {0} e = fabs{1}({2} - ({0})({2}base + k)), a = {3}; ", acc, f, name,
                                literal(wide, -0.75));
            body += fmt::format("{}w[k] = e < 1 ? ((a + 2) * e - (a + 3)) * e * e + 1 : e < 2 ? (((e - 5) * e + 8) * e - 4) * a : 0; }} ", name);
        }
        body += grid_positions(name, taps, fmt::format("{}base", name), size, attributes.padding_mode, attributes.align_corners);
    }
    if (taps == 1) {
        body += "return yat[0] < 0 || xat[0] < 0 ? 0 : in0(i0, i1, (idx)yat[0], (idx)xat[0]);";
    } else {
        body += fmt::format(
            "{0} sum = 0; for (int j = 0; j < {1}; ++j) for (int k = 0; k < {1}; ++k) if (yat[j] >= 0 && xat[k] >= 0) "
            "sum += yw[j] * xw[k] * ({0})in0(i0, i1, (idx)yat[j], (idx)xat[k]); return sum;",
            acc, taps);
    }
    const double reads = taps * taps;
    c.set(0, c.b.compute(c.out_type(), c.out_dims(), {c.in(0), c.in(1)}, {"GridSample", body, 40 + 10 * taps * taps, {reads, 2}, {}}));
}

}  // namespace

void add_resampling(Table& t) {
    t["Interpolate"] = lower_interpolate;
    t["GridSample"] = lower_grid_sample;
}

}  // namespace ai_vmm::cuda
