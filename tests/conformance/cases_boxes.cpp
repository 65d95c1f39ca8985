// SPDX-License-Identifier: Apache-2.0
/// The ends of detectors, whose results have known shapes; pictures with chrominance at half the resolution.
#include <algorithm>
#include <cmath>
#include <numeric>

#include "cases.hpp"
#include "openvino/opsets/opset15.hpp"
#include "reference.hpp"

namespace ai_vmm::conformance {
namespace {

namespace op = ov::opset15;

using reference::Box;
using reference::Candidate;

/// Corners of `count` boxes within a square of the given side, side by side or over each other.
Array boxes(std::int64_t count, double side) {
    const Array at = spread({count, 2}, 0, 0.7 * side, 5), size = spread({count, 2}, 0.1 * side, 0.3 * side, 6);
    Array all({count, 4});
    for (std::size_t k = 0; k < static_cast<std::size_t>(count); ++k) {
        for (std::size_t d = 0; d < 2; ++d) {
            all[k * 4 + d] = at[k * 2 + d];
            all[k * 4 + 2 + d] = at[k * 2 + d] + size[k * 2 + d];
        }
    }
    return all;
}

/// Scores of which no two are equal, without order, in (0, 1).
Array scores(const Shape& shape) {
    Array all(shape);
    const std::size_t count = all.size();
    std::size_t step = count / 2 + 3;
    while (std::gcd(step, count) != 1) ++step;
    for (std::size_t k = 0; k < count; ++k) all[k] = static_cast<double>(k * step % count + 1) / static_cast<double>(count + 1);
    return all;
}

struct Ssd {
    std::string name;
    bool best_class = false;  ///< MXNet's way: of each prior only its best class counts
    bool corners = false;
    bool shared = true;  ///< one location for all classes
    std::int64_t top_k = 10, keep_top_k = 8;
};

constexpr std::int64_t kPriors = 24, kClasses = 3, kImages = 2;

/// Rows of [image, class, score, box], then one that starts with -1.
Array detect(const Ssd& s, const Array& locations, const Array& confidences, const Array& priors) {
    const std::int64_t located = s.shared ? 1 : kClasses;
    const auto decoded = [&](std::int64_t n, std::int64_t c, std::int64_t p) {
        const double* by = &locations.values[static_cast<std::size_t>(((n * kPriors + p) * located + (s.shared ? 0 : c)) * 4)];
        const double* from = &priors.values[static_cast<std::size_t>(p * 4)];
        const double* variance = &priors.values[static_cast<std::size_t>((kPriors + p) * 4)];
        if (s.corners)
            return Box{from[0] + variance[0] * by[0], from[1] + variance[1] * by[1], from[2] + variance[2] * by[2], from[3] + variance[3] * by[3]};
        return reference::moved({from[0], from[1], from[2], from[3]}, variance[0] * by[0], variance[1] * by[1], variance[2] * by[2],
                                variance[3] * by[3], 0);
    };
    const auto score = [&](std::int64_t n, std::int64_t c, std::int64_t p) {
        return confidences[static_cast<std::size_t>((n * kPriors + p) * kClasses + c)];
    };
    Array rows({1, 1, kImages * s.keep_top_k, 7});
    std::size_t row = 0;
    for (std::int64_t n = 0; n < kImages; ++n) {
        std::vector<Candidate> all;
        std::vector<Candidate> of_image;
        for (std::int64_t c = 1; c < kClasses; ++c) {
            std::vector<Candidate> list;
            for (std::int64_t p = 0; p < kPriors; ++p) {
                bool takes_part = score(n, c, p) > 0.2;
                for (std::int64_t other = 1; other < kClasses && s.best_class; ++other)
                    takes_part = takes_part && score(n, other, p) <= score(n, c, p);
                if (takes_part) list.push_back({score(n, c, p), c, p, decoded(n, c, p)});
            }
            if (s.best_class) {
                of_image.insert(of_image.end(), list.begin(), list.end());
                continue;
            }
            const auto chosen = reference::suppress(std::move(list), s.top_k, -1, 0.45, 0);
            all.insert(all.end(), chosen.begin(), chosen.end());
        }
        reference::sort(of_image, s.top_k);
        for (std::int64_t c = 1; c < kClasses && s.best_class; ++c) {
            std::vector<Candidate> list;
            std::ranges::copy_if(of_image, std::back_inserter(list), [=](const Candidate& x) { return x.kind == c; });
            const auto chosen = reference::suppress(std::move(list), -1, -1, 0.45, 0);
            all.insert(all.end(), chosen.begin(), chosen.end());
        }
        reference::sort(all, s.keep_top_k);
        std::ranges::stable_sort(all, {}, &Candidate::kind);
        for (const Candidate& x : all) {
            const double label = static_cast<double>(x.kind - (s.best_class ? 1 : 0));
            for (const double v : {static_cast<double>(n), label, x.score, x.box.x0, x.box.y0, x.box.x1, x.box.y1}) rows[row++] = v;
        }
    }
    if (row < rows.size()) rows[row] = -1;
    return rows;
}

void add_detection_outputs(Tests& tests) {
    const Array priors = reference::reshape(reference::concat({boxes(kPriors, 1), Array({kPriors, 4}, 0.1)}, 0), {1, 2, kPriors * 4});
    for (const Ssd& s : {Ssd{"caffe"}, Ssd{"caffe_corners_per_class", false, true, false, 5, 8}, Ssd{"caffe_room_left", false, false, true, 6, 100},
                         Ssd{"mxnet", true}, Ssd{"mxnet_per_class", true, false, false, 12, 4}}) {
        const std::int64_t located = kPriors * 4 * (s.shared ? 1 : kClasses);
        add_case(tests, "boxes",
                 {.name = "detection_output_" + s.name,
                  .feeds = {{ElementType::f32, spread({kImages, located}, -2, 2)}, {ElementType::f32, scores({kImages, kPriors * kClasses})}},
                  .graph =
                      [=](const ov::OutputVector& in) {
                          op::DetectionOutput::Attributes a;
                          a.background_label_id = 0;
                          a.top_k = static_cast<int>(s.top_k);
                          a.keep_top_k = {static_cast<int>(s.keep_top_k)};
                          a.code_type = s.corners ? "caffe.PriorBoxParameter.CORNER" : "caffe.PriorBoxParameter.CENTER_SIZE";
                          a.share_location = s.shared;
                          a.nms_threshold = 0.45F;
                          a.confidence_threshold = 0.2F;
                          a.decrease_label_id = s.best_class;
                          a.normalized = true;
                          return one<op::DetectionOutput>(in[0], in[1], constant(priors), a);
                      },
                  .expected = [=](const std::vector<Array>& in) { return std::vector{detect(s, in[0], in[1], priors)}; },
                  .slack = 4});
    }
}

void add_proposals(Tests& tests) {
    constexpr std::int64_t kHeight = 4, kWidth = 5, kAnchors = 3, kAfter = 7;
    add_case(tests, "boxes",
             {.name = "proposal",
              .feeds = {{ElementType::f32, scores({1, 2 * kAnchors, kHeight, kWidth})},
                        {ElementType::f32, spread({1, 4 * kAnchors, kHeight, kWidth}, -0.5, 0.5)},
                        {ElementType::f32, Array({3}, {64, 80, 1})}},
              .graph =
                  [=](const ov::OutputVector& in) {
                      op::Proposal::Attributes a;
                      a.base_size = 16;
                      a.pre_nms_topn = 30;
                      a.post_nms_topn = kAfter;
                      a.nms_thresh = 0.5F;
                      a.feat_stride = 16;
                      a.min_size = 4;
                      a.ratio = {1};
                      a.scale = {1, 2, 3};
                      return one<op::Proposal>(in[0], in[1], in[2], a);
                  },
              .expected =
                  [=](const std::vector<Array>& in) {
                      std::vector<Candidate> list;
                      for (std::int64_t e = 0; e < kAnchors * kHeight * kWidth; ++e) {
                          const std::int64_t a = e % kAnchors, w = e / kAnchors % kWidth, h = e / kAnchors / kWidth;
                          const auto at = [&](std::int64_t channel) { return static_cast<std::size_t>((channel * kHeight + h) * kWidth + w); };
                          const double half = 8 * static_cast<double>(a + 1) - 0.5, x = 16 * static_cast<double>(w) + 7.5,
                                       y = 16 * static_cast<double>(h) + 7.5;
                          Box box = reference::moved({x - half, y - half, x + half, y + half}, in[1][at(a * 4)], in[1][at(a * 4 + 1)],
                                                     in[1][at(a * 4 + 2)], in[1][at(a * 4 + 3)], 1);
                          box = reference::clipped(box, 79, 63);
                          const bool large = box.x1 - box.x0 + 1 >= 4 && box.y1 - box.y0 + 1 >= 4;
                          list.push_back({large ? in[0][at(kAnchors + a)] : 0, 0, e, box});
                      }
                      Array rois({kAfter, 5}), probabilities({kAfter});
                      std::size_t k = 0;
                      for (const Candidate& c : reference::suppress(std::move(list), 30, kAfter, 0.5, 1)) {
                          probabilities[k] = c.score;
                          std::ranges::copy(std::vector{0.0, c.box.x0, c.box.y0, c.box.x1, c.box.y1},
                                            rois.values.begin() + static_cast<std::ptrdiff_t>(5 * k++));
                      }
                      return std::vector{rois, probabilities};
                  },
              .slack = 4});
    add_case(tests, "boxes",
             {.name = "detectron_proposals",
              .feeds = {{ElementType::f32, boxes(kAnchors * kHeight * kWidth, 80)},
                        {ElementType::f32, spread({4 * kAnchors, kHeight, kWidth}, -0.5, 0.5)},
                        {ElementType::f32, scores({kAnchors, kHeight, kWidth})}},
              .graph =
                  [=](const ov::OutputVector& in) {
                      op::ExperimentalDetectronGenerateProposalsSingleImage::Attributes a{};
                      a.min_size = 2;
                      a.nms_threshold = 0.3F;
                      a.post_nms_count = 40;
                      a.pre_nms_count = 50;
                      return one<op::ExperimentalDetectronGenerateProposalsSingleImage>(constant(Array({3}, {70, 80, 1})), in[0], in[1], in[2], a);
                  },
              .expected =
                  [=](const std::vector<Array>& in) {
                      std::vector<Candidate> list;
                      for (std::int64_t e = 0; e < kAnchors * kHeight * kWidth; ++e) {
                          const std::int64_t a = e % kAnchors, place = e / kAnchors;
                          const auto at = [&](std::int64_t channel) { return static_cast<std::size_t>(channel * kHeight * kWidth + place); };
                          const double* from = &in[0].values[static_cast<std::size_t>(e * 4)];
                          Box box = reference::moved({from[0], from[1], from[2], from[3]}, in[1][at(a * 4)], in[1][at(a * 4 + 1)],
                                                     in[1][at(a * 4 + 2)], in[1][at(a * 4 + 3)], 1);
                          box.x1 -= 1;
                          box.y1 -= 1;
                          list.push_back({in[2][at(a)], 0, e, reference::clipped(box, 79, 69)});
                      }
                      Array rois({40, 4}), found({40});
                      std::size_t k = 0;
                      for (const Candidate& c : reference::suppress(std::move(list), 50, 40, 0.3, 0)) {
                          found[k] = c.score;
                          std::ranges::copy(std::vector{c.box.x0, c.box.y0, c.box.x1, c.box.y1},
                                            rois.values.begin() + static_cast<std::ptrdiff_t>(4 * k++));
                      }
                      return std::vector{rois, found};
                  },
              .slack = 4});
}

void add_detectron_detections(Tests& tests) {
    constexpr std::int64_t kBoxes = 20, kKinds = 4;
    // More than wanted stand in the order of their scores, others class after class.
    for (const std::int64_t wanted : {9, 60}) {
        add_case(
            tests, "boxes",
            {.name = "detectron_detections_" + std::to_string(wanted),
             .feeds = {{ElementType::f32, boxes(kBoxes, 100)},
                       {ElementType::f32, spread({kBoxes, kKinds * 4}, -2, 2)},
                       {ElementType::f32, scores({kBoxes, kKinds})}},
             .graph =
                 [=](const ov::OutputVector& in) {
                     op::ExperimentalDetectronDetectionOutput::Attributes a{};
                     a.score_threshold = 0.3F;
                     a.nms_threshold = 0.4F;
                     a.max_delta_log_wh = 0.3F;
                     a.num_classes = kKinds;
                     a.post_nms_count = 8;
                     a.max_detections_per_image = static_cast<std::size_t>(wanted);
                     a.deltas_weights = {10, 10, 5, 5};
                     return one<op::ExperimentalDetectronDetectionOutput>(in[0], in[1], in[2], constant(Array({1, 3}, {100, 100, 1})), a);
                 },
             .expected =
                 [=](const std::vector<Array>& in) {
                     std::vector<Candidate> all;
                     for (std::int64_t c = 1; c < kKinds; ++c) {
                         std::vector<Candidate> list;
                         for (std::int64_t b = 0; b < kBoxes; ++b) {
                             const double score = in[2][static_cast<std::size_t>(b * kKinds + c)];
                             if (score <= 0.3) continue;
                             const double* from = &in[0].values[static_cast<std::size_t>(b * 4)];
                             const double* by = &in[1].values[static_cast<std::size_t>((b * kKinds + c) * 4)];
                             Box box = reference::moved({from[0], from[1], from[2], from[3]}, by[0] / 10, by[1] / 10, std::min(by[2] / 5, 0.3),
                                                        std::min(by[3] / 5, 0.3), 1);
                             box.x1 -= 1;
                             box.y1 -= 1;
                             list.push_back({score, c, b, reference::clipped(box, 1e9, 1e9)});
                         }
                         const auto chosen = reference::suppress(std::move(list), -1, 8, 0.4, 1);
                         all.insert(all.end(), chosen.begin(), chosen.end());
                     }
                     if (static_cast<std::int64_t>(all.size()) > wanted) reference::sort(all, wanted);
                     Array found({wanted, 4}), kinds({wanted}), points({wanted});
                     for (std::size_t k = 0; k < all.size(); ++k) {
                         kinds[k] = static_cast<double>(all[k].kind);
                         points[k] = all[k].score;
                         const Box& box = all[k].box;
                         std::ranges::copy(std::vector{box.x0, box.y0, box.x1, box.y1}, found.values.begin() + static_cast<std::ptrdiff_t>(4 * k));
                     }
                     return std::vector{found, kinds, points};
                 },
             .slack = 4});
    }
}

/// Red, green and blue of luminance (N, H, W, 1) and chrominance (N, H/2, W/2, 2), by BT.601.
Array rgb(const Array& y, const Array& uv, bool blue_first, bool whole_numbers) {
    const std::int64_t height = y.shape[1], width = y.shape[2];
    Array all({y.shape[0], height, width, 3});
    for_each_index(y.shape, [&](const Shape& at) {
        const double c = 1.164 * (y[offset_of(y.shape, at)] - 16);
        const std::size_t chrominance = offset_of(uv.shape, {at[0], at[1] / 2, at[2] / 2, 0});
        const double u = uv[chrominance] - 128, v = uv[chrominance + 1] - 128;
        const std::vector<double> colours{c + 1.596 * v, c - 0.391 * u - 0.813 * v, c + 2.018 * u};
        for (std::size_t k = 0; k < 3; ++k) {
            const double clipped = std::clamp(colours[k], 0.0, 255.0);
            all[offset_of(y.shape, at) * 3 + (blue_first ? 2 - k : k)] = whole_numbers ? std::round(clipped) : clipped;
        }
    });
    return all;
}

/// Halves are rounded as an engine likes: luminance that is one more where a colour would be nearly one.
Array without_halves(Array y, const Array& uv) {
    const Array colours = rgb(y, uv, false, false);
    for (std::size_t k = 0; k < colours.size(); ++k) {
        if (std::abs(colours[k] - std::floor(colours[k]) - 0.5) < 0.01) y[k / 3] += 1;
    }
    return y;
}

template <typename Op>
void add_colour(Tests& tests, const std::string& name, bool nv12, bool blue_first) {
    constexpr std::int64_t kHeight = 6, kWidth = 10;
    for (const ElementType type : {ElementType::u8, ElementType::f32}) {
        const bool whole_numbers = type == ElementType::u8;
        const auto shown = [=](const Array& y, const Array& uv) { return std::vector{rgb(y, uv, blue_first, whole_numbers)}; };
        const Array uv = whole({2, kHeight / 2, kWidth / 2, 2}, 0, 255, 2), y = without_halves(whole({2, kHeight, kWidth, 1}, 0, 254), uv);
        const std::string id = name + "_" + std::string(to_string(type));
        if (nv12) {
            const Array one_plane = reference::concat({y, reference::reshape(uv, {2, kHeight / 2, kWidth, 1})}, 1);
            add_case(tests, "colour",
                     {.name = id + "_planes",
                      .feeds = {{type, y}, {type, uv}},
                      .graph =
                          [](const ov::OutputVector& in) {
                              if constexpr (std::is_constructible_v<Op, ov::Output<ov::Node>, ov::Output<ov::Node>>) return one<Op>(in[0], in[1]);
                              return ov::OutputVector{};
                          },
                      .expected = [=](const std::vector<Array>& in) { return shown(in[0], in[1]); }});
            add_case(tests, "colour",
                     {.name = id,
                      .feeds = {{type, one_plane}},
                      .graph = [](const ov::OutputVector& in) { return one<Op>(in[0]); },
                      .expected = [=](const std::vector<Array>&) { return shown(y, uv); }});
            continue;
        }
        const Array planes = reference::transpose(uv, {3, 0, 1, 2});
        const Array u = reference::reshape(reference::slice(planes, 0, 0, 1), {2, kHeight / 2, kWidth / 2, 1}),
                    v = reference::reshape(reference::slice(planes, 0, 1, 1), {2, kHeight / 2, kWidth / 2, 1});
        const Array behind = reference::reshape(
            reference::concat({reference::reshape(u, {2, kHeight * kWidth / 4}), reference::reshape(v, {2, kHeight * kWidth / 4})}, 1),
            {2, kHeight / 2, kWidth, 1});
        add_case(tests, "colour",
                 {.name = id + "_planes",
                  .feeds = {{type, y}, {type, u}, {type, v}},
                  .graph =
                      [](const ov::OutputVector& in) {
                          if constexpr (std::is_constructible_v<Op, ov::Output<ov::Node>, ov::Output<ov::Node>, ov::Output<ov::Node>>)
                              return one<Op>(in[0], in[1], in[2]);
                          return ov::OutputVector{};
                      },
                  .expected = [=](const std::vector<Array>&) { return shown(y, uv); }});
        add_case(tests, "colour",
                 {.name = id,
                  .feeds = {{type, reference::concat({y, behind}, 1)}},
                  .graph = [](const ov::OutputVector& in) { return one<Op>(in[0]); },
                  .expected = [=](const std::vector<Array>&) { return shown(y, uv); }});
    }
}

}  // namespace

void add_box_tests(Tests& tests) {
    add_detection_outputs(tests);
    add_proposals(tests);
    add_detectron_detections(tests);
    add_colour<op::NV12toRGB>(tests, "nv12_to_rgb", true, false);
    add_colour<op::NV12toBGR>(tests, "nv12_to_bgr", true, true);
    add_colour<op::I420toRGB>(tests, "i420_to_rgb", false, false);
    add_colour<op::I420toBGR>(tests, "i420_to_bgr", false, true);
}

}  // namespace ai_vmm::conformance
