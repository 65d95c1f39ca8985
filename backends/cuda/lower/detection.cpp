// SPDX-License-Identifier: Apache-2.0
/// Regions of feature maps, anchors and boxes, decoders of detectors. What selects a number of boxes that depends on data has no static shape.
#include <algorithm>
#include <cmath>

#include "lower/text.hpp"
#include "openvino/op/ops.hpp"
#include "openvino/runtime/tensor.hpp"

namespace ai_vmm::cuda {
namespace {

std::string number(double value) { return literal(Type::f32, value); }

/// Four corners weighted by distance: the value of in{input}(n, k, …) at (y, x) within the map; helper text after "y" and "x" are set.
std::string bilinear(int input, const std::string& n, const std::string& k, std::int64_t height, std::int64_t width) {
    return fmt::format(
        "idx y0 = (idx)y, x0 = (idx)x, y1, x1; if (y0 >= (idx){3} - 1) {{ y0 = y1 = (idx){3} - 1; y = (f32)y0; }} else y1 = y0 + 1; "
        "if (x0 >= (idx){4} - 1) {{ x0 = x1 = (idx){4} - 1; x = (f32)x0; }} else x1 = x0 + 1; const f32 ly = y - (f32)y0, lx = x - (f32)x0; "
        "const f32 sample = (1 - ly) * (1 - lx) * in{0}({1}, {2}, y0, x0) + (1 - ly) * lx * in{0}({1}, {2}, y0, x1) + "
        "ly * (1 - lx) * in{0}({1}, {2}, y1, x0) + ly * lx * in{0}({1}, {2}, y1, x1); ",
        input, n, k, height, width);
}

/// Averages or maxima of samples of a box divided into bins. `box` declares f32 x_begin, y_begin, box_width, box_height; `turn` changes (y, x).
struct Pooling {
    std::int64_t bins_y = 1, bins_x = 1, samples = 0;
    bool maximum = false;
    std::string box, turn;
};

std::string pool(const Pooling& what, int input, const std::string& n, std::int64_t height, std::int64_t width) {
    const std::string count_y = what.samples > 0 ? std::to_string(what.samples) : "(idx)ceilf(bin_y)",
                      count_x = what.samples > 0 ? std::to_string(what.samples) : "(idx)ceilf(bin_x)";
    std::string body = what.box;
    body += fmt::format("const f32 bin_y = box_height / {}, bin_x = box_width / {}; const idx count_y = {}, count_x = {}; f32 result = 0; ",
                        what.bins_y, what.bins_x, count_y, count_x);
    body += fmt::format(
        "for (idx sy = 0; sy < count_y; ++sy) for (idx sx = 0; sx < count_x; ++sx) {{ "
        "f32 y = y_begin + (f32)i2 * bin_y + bin_y / (f32)count_y * ((f32)sy + 0.5f), x = x_begin + (f32)i3 * bin_x + bin_x / (f32)count_x * "
        "((f32)sx + 0.5f); "
        "{} if (x < -1 || x > {} || y < -1 || y > {}) continue; if (x < 0) x = 0; if (y < 0) y = 0; ",
        what.turn, width, height);
    body += bilinear(input, n, "i1", height, width);
    body += what.maximum ? "if (sample > result) result = sample; } return result;"
                         : "result += sample; } return count_y * count_x == 0 ? 0 : result / (f32)(count_y * count_x);";
    return body;
}

void lower_roi_align(Context& c) {
    Pooling what;
    double scale = 1, before = 0, after = 0;
    bool aligned = false;
    if (c.is<ov::op::v9::ROIAlign>()) {
        const auto& op = c.as<ov::op::v9::ROIAlign>();
        what.bins_y = op.get_pooled_h();
        what.bins_x = op.get_pooled_w();
        what.samples = op.get_sampling_ratio();
        what.maximum = op.get_mode() == ov::op::v9::ROIAlign::PoolingMode::MAX;
        scale = static_cast<double>(op.get_spatial_scale());
        aligned = op.get_aligned_mode() != ov::op::v9::ROIAlign::AlignedMode::ASYMMETRIC;
        before = op.get_aligned_mode() == ov::op::v9::ROIAlign::AlignedMode::HALF_PIXEL ? 0.5 : 0;
        after = aligned ? -0.5 : 0;
    } else {
        const auto& op = c.as<ov::op::v3::ROIAlign>();
        what.bins_y = op.get_pooled_h();
        what.bins_x = op.get_pooled_w();
        what.samples = op.get_sampling_ratio();
        what.maximum = op.get_mode() == ov::op::v3::ROIAlign::PoolingMode::MAX;
        scale = static_cast<double>(op.get_spatial_scale());
    }
    const auto corner = [&](int k) { return fmt::format("(in1(i0, {}) + {}) * {} + {}", k, number(before), number(scale), number(after)); };
    what.box = fmt::format("const f32 x_begin = {}, y_begin = {}; f32 box_width = {} - x_begin, box_height = {} - y_begin; ", corner(0), corner(1),
                           corner(2), corner(3));
    if (!aligned) what.box += "if (box_width < 1) box_width = 1; if (box_height < 1) box_height = 1; ";
    const Dims data = c.dims(0);
    c.set(0, c.b.compute(c.out_type(), c.out_dims(), {c.in(0), c.in(1), c.in(2)},
                         {"ROIAlign", pool(what, 0, "(idx)in2(i0)", data[2], data[3]), 200, {16, 4, 1}, {}}));
}

void lower_roi_align_rotated(Context& c) {
    const auto& op = c.as<ov::op::v15::ROIAlignRotated>();
    Pooling what;
    what.bins_y = op.get_pooled_h();
    what.bins_x = op.get_pooled_w();
    what.samples = op.get_sampling_ratio();
    const std::string scale = number(static_cast<double>(op.get_spatial_scale()));
    what.box = fmt::format(
        "const f32 centre_x = in1(i0, 0) * {0} - 0.5f, centre_y = in1(i0, 1) * {0} - 0.5f, box_width = in1(i0, 2) * {0}, box_height = in1(i0, 3) * "
        "{0}; "
        "const f32 angle = {1}in1(i0, 4), cosine = cosf(angle), sine = sinf(angle), x_begin = -box_width / 2, y_begin = -box_height / 2; ",
        scale, op.get_clockwise_mode() ? "-" : "");
    what.turn = "const f32 turned = y * cosine - x * sine + centre_y; x = y * sine + x * cosine + centre_x; y = turned;";
    const Dims data = c.dims(0);
    c.set(0, c.b.compute(c.out_type(), c.out_dims(), {c.in(0), c.in(1), c.in(2)},
                         {"ROIAlignRotated", pool(what, 0, "(idx)in2(i0)", data[2], data[3]), 250, {16, 5, 1}, {}}));
}

/// Rows of maps from a pyramid; each box is read from the level that fits its area (Lin et al., Feature Pyramid Networks).
void lower_roi_features(Context& c) {
    const auto& attributes = c.as<ov::op::v6::ExperimentalDetectronROIFeatureExtractor>().get_attrs();
    const int levels = c.inputs() - 1;
    std::vector<ValueId> inputs;
    for (int k = 0; k < c.inputs(); ++k) inputs.push_back(c.in(k));
    std::string body = fmt::format(
        "const f32 left = in0(i0, 0), top = in0(i0, 1), right = in0(i0, 2), bottom = in0(i0, 3); const f32 area = (right - left) * (bottom - top); "
        "if (!(area > 0)) return 0; f32 fits = floorf(log2f(sqrtf(area) / 224.0f + 1e-6f) + 2.0f); if (fits > {0}) fits = {0}; if (fits < 0) fits = "
        "0; const int level = (int)fits; ",
        levels - 1);
    for (int level = 0; level < levels; ++level) {
        Pooling what;
        what.bins_y = what.bins_x = attributes.output_size;
        what.samples = attributes.sampling_ratio;
        const std::string scale = number(1.0 / static_cast<double>(attributes.pyramid_scales[static_cast<std::size_t>(level)]));
        const std::string offset = attributes.aligned ? " - 0.5f" : "";
        what.box = fmt::format(
            "const f32 x_begin = left * {0}{1}, y_begin = top * {0}{1}; f32 box_width = right * {0}{1} - x_begin, box_height = bottom * {0}{1} - "
            "y_begin; "
            "if (box_width < 1) box_width = 1; if (box_height < 1) box_height = 1; ",
            scale, offset);
        const Dims data = c.dims(level + 1);
        body += fmt::format("if (level == {}) {{ {} }} ", level, pool(what, level + 1, "0", data[2], data[3]));
    }
    std::vector<double> reads(inputs.size(), 16);
    c.set(0, c.b.compute(c.out_type(), c.out_dims(), inputs, {"ROIFeatures", body + "return 0;", 300, reads, {}}));
    c.set(1, c.in(0));
}

void lower_roi_pooling(Context& c) {
    const auto& op = c.as<ov::op::v0::ROIPooling>();
    const Dims data = c.dims(0), out = c.out_dims();
    std::string body = "const idx n = (idx)in1(i0, 0); ";
    if (op.get_method() == "max") {
        const std::string scale = number(static_cast<double>(op.get_spatial_scale()));
        body += fmt::format(
            "const int left = (int)roundf(in1(i0, 1) * {0}), top = (int)roundf(in1(i0, 2) * {0}), right = (int)roundf(in1(i0, 3) * {0}), bottom = "
            "(int)roundf(in1(i0, 4) * {0}); ",
            scale);
        body += "const int rows = bottom - top + 1 > 1 ? bottom - top + 1 : 1, columns = right - left + 1 > 1 ? right - left + 1 : 1; ";
        const auto range = [&](const char* name, const char* start, const char* count, int d, std::int64_t bins, std::int64_t size) {
            body += fmt::format(
                "const f32 bin_{0} = (f32){2} / {4}; int {0}0 = (int)floorf((f32)i{3} * bin_{0}) + {1}, {0}1 = (int)ceilf((f32)(i{3} + 1) * bin_{0}) "
                "+ {1}; "
                "{0}0 = {0}0 < 0 ? 0 : {0}0 > {5} ? {5} : {0}0; {0}1 = {0}1 < 0 ? 0 : {0}1 > {5} ? {5} : {0}1; ",
                name, start, count, d, bins, size);
        };
        range("y", "top", "rows", 2, out[2], data[2]);
        range("x", "left", "columns", 3, out[3], data[3]);
        body +=
            "if (y1 <= y0 || x1 <= x0) return 0; IN0_T most = in0(n, i1, y0, x0); for (int y = y0; y < y1; ++y) for (int x = x0; x < x1; ++x) { "
            "const IN0_T v = in0(n, i1, y, x); if (v > most) most = v; } return most;";
    } else {
        const auto place = [&](const char* name, int d, int first, std::int64_t bins, std::int64_t size) {
            if (bins > 1) {
                body += fmt::format(
                    "f32 {0} = i{1} == {2} ? {3} * in1(i0, {5}) : (f32)i{1} * ((in1(i0, {5}) - in1(i0, {4})) * {3} / {2}) + in1(i0, {4}) * {3}; ",
                    name, d, bins - 1, number(static_cast<double>(size - 1)), first, first + 2);
            } else {
                body += fmt::format("f32 {0} = 0.5f * (in1(i0, {1}) + in1(i0, {2})) * {3}; ", name, first, first + 2,
                                    number(static_cast<double>(size - 1)));
            }
        };
        place("y", 2, 2, out[2], data[2]);
        place("x", 3, 1, out[3], data[3]);
        body += fmt::format("if (y < 0 || y > {} || x < 0 || x > {}) return 0; ", data[2] - 1, data[3] - 1);
        body += bilinear(0, "n", "i1", data[2], data[3]) + "return sample;";
    }
    c.set(0, c.b.compute(c.out_type(), out, {c.in(0), c.in(1)}, {"ROIPooling", body, 100, {4, 8}, {}}));
}

void lower_psroi_pooling(Context& c) {
    const auto& op = c.as<ov::op::v0::PSROIPooling>();
    const Dims data = c.dims(0), out = c.out_dims();
    const std::string scale = number(static_cast<double>(op.get_spatial_scale()));
    std::string body = "const idx n = (idx)in1(i0, 0); ";
    if (op.get_mode() == "average") {
        // Each bin of each class has a channel of its own.
        const auto range = [&](const char* name, int d, int first, std::int64_t size) {
            body += fmt::format(
                "const f32 {0}_begin = roundf(in1(i0, {1})) * {3}, {0}_bin = ((roundf(in1(i0, {2})) + 1) * {3} - {0}_begin) / {4}; "
                "idx {0}0 = (idx)floorf({0}_begin + (f32)i{5} * {0}_bin), {0}1 = (idx)ceilf({0}_begin + (f32)(i{5} + 1) * {0}_bin); "
                "if ({0}0 < 0) {0}0 = 0; if ({0}0 > (idx){6} - 1) {0}0 = (idx){6} - 1; if ({0}1 > (idx){6}) {0}1 = (idx){6}; ",
                name, first, first + 2, scale, out[static_cast<std::size_t>(d)], d, size);
        };
        range("y", 2, 2, data[2]);
        range("x", 3, 1, data[3]);
        body += fmt::format(
            "const idx k = (i1 * (idx){0} + i2) * (idx){1} + i3; f32 sum = 0; for (idx y = y0; y < y1; ++y) for (idx x = x0; x < x1; ++x) sum += "
            "in0(n, k, y, x); "
            "return y1 > y0 && x1 > x0 ? sum / (f32)((y1 - y0) * (x1 - x0)) : 0;",
            out[2], out[3]);
    } else {
        const auto place = [&](const char* name, int d, int first, int bins, std::int64_t size) {
            const std::int64_t pooled = out[static_cast<std::size_t>(d)];
            body += fmt::format("const f32 {0}_begin = in1(i0, {1}) * {3}, {0}_bin = (in1(i0, {2}) * {3} - {0}_begin) / {4}; ", name, first,
                                first + 2, scale, bins);
            return pooled > 1 ? fmt::format("f32 {0} = (f32)i{1} * ({0}_bin * {2} / {3}) + ({0}_begin + (f32)b{0} * {0}_bin) * {2}; ", name, d,
                                            number(static_cast<double>(size - 1)), pooled - 1)
                              : fmt::format("f32 {0} = (2 * ({0}_begin + (f32)b{0} * {0}_bin) + {0}_bin) * {1} / 2; ", name,
                                            number(static_cast<double>(size - 1)));
        };
        const int bins_y = op.get_spatial_bins_y(), bins_x = op.get_spatial_bins_x();
        const std::string y = place("y", 2, 2, bins_y, data[2]), x = place("x", 3, 1, bins_x, data[3]);
        body += fmt::format(
            "f32 sum = 0; for (idx by = 0; by < {0}; ++by) for (idx bx = 0; bx < {1}; ++bx) {{ {2}{3}if (!(x < {4} && y < {5}) || x < 0 || y < 0) "
            "continue; const idx k = (by * {1} + bx) * (idx){6} + i1; ",
            bins_y, bins_x, y, x, data[3], data[2], out[1]);
        body += bilinear(0, "n", "k", data[2], data[3]) + fmt::format("sum += sample; }} return sum / {};", bins_y * bins_x);
    }
    c.set(0, c.b.compute(c.out_type(), out, {c.in(0), c.in(1)}, {"PSROIPooling", body, 100, {8, 8}, {}}));
}

void lower_deformable_psroi_pooling(Context& c) {
    const auto& op = c.as<ov::op::v1::DeformablePSROIPooling>();
    const Dims data = c.dims(0), out = c.out_dims();
    const std::string scale = number(static_cast<double>(op.get_spatial_scale()));
    std::vector<ValueId> inputs{c.in(0), c.in(1)};
    std::string body = "const i64 batch = (i64)in1(i0, 0); if (batch < 0) return 0; const idx n = (idx)batch; ";
    const auto side = [&](const char* name, int d, int first) {
        body += fmt::format(
            "const f32 {0}_begin = roundf(in1(i0, {1})) * {3} - 0.5f; f32 {0}_size = (roundf(in1(i0, {2})) + 1) * {3} - 0.5f - {0}_begin; if "
            "({0}_size < 0.1f) {0}_size = 0.1f; "
            "const f32 {0}_bin = {0}_size / {4}; f32 {0}_at = {0}_begin + (f32)i{5} * {0}_bin; ",
            name, first, first + 2, scale, out[static_cast<std::size_t>(d)], d);
    };
    side("y", 2, 2);
    side("x", 3, 1);
    if (c.inputs() > 2) {
        inputs.push_back(c.in(2));
        const std::int64_t parts = op.get_part_size(), per_class = std::max<std::int64_t>(1, out[1] / std::max<std::int64_t>(1, c.dims(2)[1] / 2));
        body += fmt::format(
            "const idx p = i1 / (idx){0} * 2, py = i2 * (idx){1} / (idx){2}, px = i3 * (idx){1} / (idx){3}; x_at += in2(i0, p, py, px) * {4} * "
            "x_size; y_at += in2(i0, p + 1, py, px) * {4} * y_size; ",
            per_class, parts, out[2], out[3], number(static_cast<double>(op.get_trans_std())));
    }
    body += fmt::format(
        "const idx k = (i1 * (idx){0} + i2) * (idx){1} + i3; f32 sum = 0; idx count = 0; for (idx by = 0; by < {2}; ++by) {{ f32 y_sub = y_at + "
        "(f32)by * (y_bin / {2}); if (y_sub < -0.5f || y_sub > {4} - 0.5f) continue; "
        "for (idx bx = 0; bx < {3}; ++bx) {{ f32 x = x_at + (f32)bx * (x_bin / {3}), y = y_sub; if (x < -0.5f || x > {5} - 0.5f) continue; if (x < "
        "0) x = 0; if (y < 0) y = 0; ",
        out[2], out[3], op.get_spatial_bins_y(), op.get_spatial_bins_x(), data[2], data[3]);
    body += bilinear(0, "n", "k", data[2], data[3]) + "sum += sample; ++count; } } return count == 0 ? 0 : sum / (f32)count;";
    c.set(0, c.b.compute(c.out_type(), out, inputs, {"DeformablePSROIPooling", body, 100, {16, 8, 2}, {}}));
}

void lower_region_yolo(Context& c) {
    const auto& op = c.as<ov::op::v0::RegionYolo>();
    const Dims in = c.dims(0);
    const auto coordinates_count = static_cast<std::int64_t>(op.get_num_coords()), classes = static_cast<std::int64_t>(op.get_num_classes());
    const bool softmax = op.get_do_softmax();
    const std::int64_t regions = softmax ? static_cast<std::int64_t>(op.get_num_regions()) : static_cast<std::int64_t>(op.get_mask().size());
    const std::int64_t entries = coordinates_count + classes + 1;
    // Of each region: x, y through a sigmoid, sizes as they are, the objectness through a sigmoid, classes through sigmoids or a softmax.
    const std::string sigmoid = fmt::format("1 / (1 + exp{}(-x))", suffix(c.type(0)));
    std::string body = fmt::format("const idx e = i1 % (idx){}; const IN0_T x = in0(i0, i1, i2, i3); ", entries);
    const std::int64_t whole = regions * entries;
    if (whole < in[1]) body += fmt::format("if (i1 >= (idx){}) return x; ", whole);
    if (softmax) {
        body += fmt::format(
            "if (e > (idx){0}) {{ const idx k = i1 - e + (idx){0} + 1; IN0_T most = in0(i0, k, i2, i3), sum = 0; for (idx j = 1; j < (idx){1}; ++j) "
            "{{ const IN0_T v = in0(i0, k + j, i2, i3); if (v > most) most = v; }} "
            "for (idx j = 0; j < (idx){1}; ++j) sum += exp{2}(in0(i0, k + j, i2, i3) - most); return exp{2}(x - most) / sum; }} ",
            coordinates_count, classes, suffix(c.type(0)));
    }
    body += fmt::format("return e < 2 || e >= (idx){} ? {} : x;", coordinates_count, sigmoid);
    const double reads = softmax ? 1 + 2 * static_cast<double>(classes) : 1;
    Dims same = in;
    if (elements(c.out_dims()) != elements(in)) same[1] = elements(c.out_dims()) / (in[0] * in[2] * in[3]);
    c.set(0, c.b.reshape(c.b.compute(c.out_type(), same, {c.in(0)}, {"RegionYolo", body, static_cast<int>(20 + 10 * reads), {reads}, {}}),
                         c.out_dims()));
}

void lower_reorg_yolo(Context& c) {
    const auto stride = static_cast<std::int64_t>(c.as<ov::op::v0::ReorgYolo>().get_strides()[0]);
    const Dims in = c.dims(0);
    // The data seen as (N, C / s^2, H * s, W * s), whatever its shape says: Darknet's order.
    const std::int64_t channels = in[1] / (stride * stride);
    const ValueId seen = c.b.reshape(c.in(0), {in[0], channels, in[2], stride, in[3], stride});
    const ValueId moved = c.b.transpose(seen, {0, 3, 5, 1, 2, 4});
    c.set(0, c.b.reshape(moved, c.out_dims()));
}

/// The centres of cells plus priors: (H * W * priors, 4) or (H, W, priors, 4).
void lower_prior_grid(Context& c) {
    const auto& attributes = c.as<ov::op::v6::ExperimentalDetectronPriorGridGenerator>().get_attrs();
    const std::int64_t priors = c.dims(0)[0];
    const std::int64_t height = c.dims(1)[2], width = c.dims(1)[3];
    const double step_x =
        attributes.stride_x != 0 ? static_cast<double>(attributes.stride_x) : static_cast<double>(c.dims(2)[3]) / static_cast<double>(width);
    const double step_y =
        attributes.stride_y != 0 ? static_cast<double>(attributes.stride_y) : static_cast<double>(c.dims(2)[2]) / static_cast<double>(height);
    const std::string body =
        fmt::format("return in0(i2, i3) + (i3 % 2 == 0 ? {} * ((f32)i1 + 0.5f) : {} * ((f32)i0 + 0.5f));", number(step_x), number(step_y));
    const ValueId grid = c.b.compute(c.out_type(), {height, width, priors, 4}, {c.in(0)}, {"PriorGrid", body, 6, {}, {}});
    c.set(0, c.b.reshape(grid, c.out_dims()));
}

/// Computed now: it depends on attributes and shapes that are known.
void lower_known(Context& c) {
    ov::TensorVector inputs, outputs;
    for (const auto& input : c.node().input_values()) {
        const auto* constant = ov::as_type<const ov::op::v0::Constant>(input.get_node());
        if (constant == nullptr) c.unsupported("inputs must be known when compiling");
        inputs.push_back(constant->get_tensor_view());
    }
    outputs.emplace_back(c.node().get_output_element_type(0), c.node().get_output_shape(0));
    if (!c.node().evaluate(outputs, inputs)) c.unsupported("OpenVINO does not evaluate it");
    const auto owner = std::make_shared<ov::Tensor>(outputs.front());
    c.set(0, c.b.constant(c.out_type(), c.out_dims(), {owner, static_cast<const std::byte*>(owner->data()), owner->get_byte_size()}));
}

/// Boxes with the highest scores, in their order.
void lower_topk_rois(Context& c) {
    const std::int64_t count = c.dims(0)[0], kept = c.out_dims()[0];
    const std::string rank = fmt::format(
        "const f32 x = in1((idx)t); i64 rank = 0; for (idx e = 0; e < (idx){0}; ++e) {{ const f32 y = in1(e); if (y > x || (y == x && e < t)) "
        "++rank; }} "
        "if (rank < {1}ll) for (idx k = 0; k < 4; ++k) out0(in0((idx)t, k), (idx)rank, k);",
        count, kept);
    Custom what{"TopKROIs", {{kept * 4, "out0(0, (idx)(t / 4), (idx)(t % 4));"}, {count, rank}}, ""};
    c.set(0, c.b.custom({{c.out_type(), c.out_dims()}}, {c.in(0), c.in(1)}, std::move(what)).front());
}

}  // namespace

void add_detection(Table& t) {
    t["ROIAlign"] = lower_roi_align;
    t["ROIAlignRotated"] = lower_roi_align_rotated;
    t["ExperimentalDetectronROIFeatureExtractor"] = lower_roi_features;
    t["ROIPooling"] = lower_roi_pooling;
    t["PSROIPooling"] = lower_psroi_pooling;
    t["DeformablePSROIPooling"] = lower_deformable_psroi_pooling;
    t["RegionYolo"] = lower_region_yolo;
    t["ReorgYolo"] = lower_reorg_yolo;
    t["PriorBox"] = t["PriorBoxClustered"] = lower_known;
    t["ExperimentalDetectronPriorGridGenerator"] = lower_prior_grid;
    t["ExperimentalDetectronTopKROIs"] = lower_topk_rois;
}

}  // namespace ai_vmm::cuda
