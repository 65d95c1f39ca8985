// SPDX-License-Identifier: Apache-2.0
/// Region proposals: anchors at every place of a feature map, moved by deltas; the best of them that overlap little.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "lower/suppression.hpp"
#include "lower/text.hpp"
#include "lower/top_k.hpp"
#include "openvino/op/ops.hpp"

namespace ai_vmm::cuda {
namespace {

std::string number(double value) { return literal(Type::f32, value); }

/// Inputs 0 scores, 1 deltas, 2 the image's size, 3 anchors, all as the operation has them. Candidate e is anchor `a` at row `h` and column `w`, in
/// the order (h, w, a).
struct Proposals {
    std::int64_t images = 1, anchors = 1, height = 1, width = 1;
    std::int64_t before = 1, after = 1;  ///< how many boxes are looked at, and how many there are at the end
    double threshold = 0;
    double offset = 0;   ///< what the width of a box that decides whether it overlaps is more than its ends' difference
    std::string decode;  ///< declares f32 x0, y0, x1, y1 and int large, whether the box may be proposed, for image n, h, w and a
    std::string score;

    [[nodiscard]] std::int64_t candidates() const { return anchors * height * width; }
    [[nodiscard]] std::string of_candidate(const std::string& e) const {
        return fmt::format("const idx a = {0} % (idx){1}, w = {0} / (idx){1} % (idx){2}, h = {0} / (idx){3}; ", e, anchors, width, anchors * width);
    }
};

/// The nearest to `value` of 0 to `most`.
std::string within(const std::string& value, const std::string& most) { return fmt::format("fmaxf(0.0f, fminf({}, {}))", value, most); }

/// `ends` are the operation's results, the boxes first: results 0, 5, … of the node that chooses, among suppression's. `write` stores place r of
/// image n: if `found`, the box `box`, whose score is x; there are `count` of them.
void choose(Context& c, const Proposals& what, std::vector<ValueId> inputs, const std::vector<std::pair<Type, Dims>>& ends,
            const std::string& write) {
    const std::string each = what.of_candidate("i1") + "const idx n = i0; (void)n; " + what.decode;
    const ValueId scores =
        c.b.compute(c.b.type(inputs[0]), {what.images, what.candidates()}, inputs,
                    {"Scores", each + fmt::format("return large ? (f32){0} : timesf(0.0f, {0});", what.score), 60, {1, 4, 3, 4}, {}});
    const std::int64_t kept = std::min(what.before, what.candidates());
    const auto [values, order] = top_k(c.b, scores, 1, kept, Type::i32, {});
    inputs.push_back(values);
    inputs.push_back(order);

    const Suppression lists{what.images, 1, kept, true, what.after, what.threshold, what.offset, "0"};
    std::vector<std::pair<Type, Dims>> results{ends.front()};
    for (auto& result : suppression_results(lists)) results.push_back(std::move(result));
    results.insert(results.end(), ends.begin() + 1, ends.end());
    const std::string area = fmt::format("timesf(x1 - x0 + {0}, y1 - y0 + {0})", number(what.offset));
    Custom custom{c.node().get_type_name(), {}, suppression_functions()};
    custom.phases.push_back(
        {lists.lists() * kept, lists.of_candidate() + "const idx e = (idx)in5(list, i); " + what.of_candidate("e") + what.decode + store_box(area)});
    custom.phases.push_back(suppress(lists));
    custom.phases.push_back(
        {what.images * what.after,
         fmt::format("const idx row = (idx)(t / {0}ll), r = (idx)(t % {0}ll); {1}const idx count = (idx)get4(row); const int found = r < count; "
                     "const idx at = found ? (idx)get3(row, r) : 0; const f32 x = found ? (f32)in4(list, at) : 0; {2}{3}",
                     what.after, lists.of_row(), load_box("box", "at"), write)});
    const auto made = c.b.custom(results, std::move(inputs), std::move(custom));
    c.set(0, made[0]);
    for (std::size_t k = 1; k < ends.size(); ++k) c.set(static_cast<int>(k), made[4 + k]);
}

/// Moves x0 … y1 by deltas dx, dy and the logarithms dw and dh. @param offset  what a width is more than the difference of its ends, before
std::string moved(const std::string& offset) {
    std::string text;
    for (const char* d : {"x", "y"}) {
        const char* size = *d == 'x' ? "w" : "h";
        text += fmt::format(
            "{{ const f32 size = {0}1 - {0}0 + {2}, centre = timesf(d{0}, size) + ({0}0 + 0.5f * size), half = 0.5f * timesf(expf(d{1}), size); {0}0 "
            "= "
            "centre - half; {0}1 = centre + half; }} ",
            d, size, offset);
    }
    return text;
}

/// Corners of the anchors around their place: a square of each ratio and scale.
std::vector<float> anchors_of(const ov::op::v0::Proposal::Attributes& a, bool tensorflow) {
    const float offset = tensorflow ? 0.0F : 1.0F, base = static_cast<float>(a.base_size), centre = 0.5F * (base - offset);
    const float shift = tensorflow ? 0.5F * base : 0.0F;
    std::vector<float> all;
    for (const float ratio : a.ratio) {
        float width = std::sqrt(base * base / ratio);
        if (!tensorflow) width = std::round(width);
        float height = width * ratio;
        if (!tensorflow) height = std::round(height);
        for (const float scale : a.scale) {
            const float x = 0.5F * (width * scale - offset), y = 0.5F * (height * scale - offset);
            for (const float corner : {centre - x, centre - y, centre + x, centre + y}) all.push_back(corner - shift);
        }
    }
    return all;
}

/// The bits of floats, which no f16 mode narrows.
ValueId bits_of(Builder& b, Dims dims, const std::vector<float>& values) {
    const auto owner = std::make_shared<std::vector<float>>(values);
    return b.constant(Type::u32, std::move(dims), {owner, reinterpret_cast<const std::byte*>(owner->data()), owner->size() * sizeof(float)});
}

void lower_proposal(Context& c) {
    const auto& a = c.as<ov::op::v0::Proposal>().get_attrs();
    const bool tensorflow = a.framework == "tensorflow";
    if (!tensorflow && !a.framework.empty()) c.unsupported("framework \"" + a.framework + "\"");
    const Dims dims = c.dims(0);
    Proposals what;
    what.images = dims[0];
    what.anchors = static_cast<std::int64_t>(a.ratio.size() * a.scale.size());
    what.height = dims[2];
    what.width = dims[3];
    what.before = static_cast<std::int64_t>(a.pre_nms_topn);
    what.after = static_cast<std::int64_t>(a.post_nms_topn);
    what.threshold = static_cast<double>(a.nms_thresh);
    what.offset = tensorflow ? 0 : 1;
    if (what.candidates() == 0 || what.before == 0) c.unsupported("no candidates");
    const std::string offset = number(what.offset);
    // TensorFlow's x and y are the other way round.
    const std::string image = fmt::format("const f32 image_h = in2({}), image_w = in2({}); ", tensorflow ? 1 : 0, tensorflow ? 0 : 1);
    what.decode = image + fmt::format(
                              "const f32 x = (f32)({} * {}), y = (f32)({} * {}); f32 x0 = x + bits_f32(in3(a, 0)), y0 = y + bits_f32(in3(a, "
                              "1)), x1 = x + bits_f32(in3(a, 2)), y1 = y + bits_f32(in3(a, 3)); ",
                              tensorflow ? "h" : "w", a.feat_stride, tensorflow ? "w" : "h", a.feat_stride);
    const auto clip = [](const std::string& width, const std::string& height) {
        return fmt::format("x0 = {}; y0 = {}; x1 = {}; y1 = {}; ", within("x0", width), within("y0", height), within("x1", width),
                           within("y1", height));
    };
    if (tensorflow) what.decode += clip("image_w", "image_h");
    for (int k = 0; k < 4; ++k) {
        what.decode +=
            fmt::format("const f32 d{} = (f32)in1(n, a * 4 + {}, h, w) / {}; ", std::vector{"x", "y", "w", "h"}[static_cast<std::size_t>(k)], k,
                        number(static_cast<double>(k < 2 ? a.box_coordinate_scale : a.box_size_scale)));
    }
    what.decode += moved(offset);
    if (a.clip_before_nms) what.decode += clip("image_w - " + offset, "image_h - " + offset);
    what.decode += fmt::format("const int large = timesf({0}, in2({1})) <= x1 - x0 + {2} && timesf({0}, in2(2)) <= y1 - y0 + {2}; ",
                               number(static_cast<double>(a.min_size)), c.dims(2)[0] == 4 ? 3 : 2, offset);
    what.score = fmt::format("in0(n, a + (idx){}, h, w)", what.anchors);  // behind those of being background

    std::vector<std::pair<Type, Dims>> ends{{c.out_type(0), c.out_dims(0)}};
    std::string write =
        image + fmt::format("const idx place = row * (idx){} + r; f32 x0 = box[0], y0 = box[1], x1 = box[2], y1 = box[3]; ", what.after);
    if (a.clip_after_nms) write += clip("image_w", "image_h");
    if (a.normalize) write += "x0 = x0 / image_w; y0 = y0 / image_h; x1 = x1 / image_w; y1 = y1 / image_h; ";
    write +=
        "out0(found ? n : r == count ? -1 : 0, place, 0); out0(found ? x0 : 0, place, 1); out0(found ? y0 : 0, place, 2); out0(found ? x1 : 0, "
        "place, 3); out0(found ? y1 : 0, place, 4); ";
    if (c.node().get_output_size() == 2) {
        ends.emplace_back(c.out_type(1), c.out_dims(1));
        write += "out5(x, place); ";
    }
    const ValueId anchors = bits_of(c.b, {what.anchors, 4}, anchors_of(a, tensorflow));
    choose(c, what, {c.in(0), c.in(1), c.in(2), anchors}, ends, write);
}

void lower_detectron_proposals(Context& c) {
    const auto& a = c.as<ov::op::v6::ExperimentalDetectronGenerateProposalsSingleImage>().get_attrs();
    const Dims dims = c.dims(3);
    Proposals what;
    what.anchors = dims[0];
    what.height = dims[1];
    what.width = dims[2];
    what.before = a.pre_nms_count;
    what.after = a.post_nms_count;
    what.threshold = static_cast<double>(a.nms_threshold);
    if (what.candidates() == 0 || what.before <= 0) c.unsupported("no candidates");
    what.decode = fmt::format(
        "const idx anchor = (h * (idx){} + w) * (idx){} + a; f32 x0 = in3(anchor, 0), y0 = in3(anchor, 1), x1 = in3(anchor, 2), y1 = in3(anchor, "
        "3); ",
        what.width, what.anchors);
    // No box grows more than from 16 to 1000 pixels.
    const std::string most = number(static_cast<double>(static_cast<float>(std::log(1000.0 / 16.0))));
    what.decode += fmt::format(
        "const f32 dx = in1(a * 4, h, w), dy = in1(a * 4 + 1, h, w), dw = fminf(in1(a * 4 + 2, h, w), {0}), dh = fminf(in1(a * 4 + 3, h, w), {0}); ",
        most);
    what.decode += moved("1.0f");
    what.decode += fmt::format("x0 = {}; y0 = {}; x1 = {}; y1 = {}; ", within("x0", "in2(1) - 1.0f"), within("y0", "in2(0) - 1.0f"),
                               within("x1 - 1.0f", "in2(1) - 1.0f"), within("y1 - 1.0f", "in2(0) - 1.0f"));
    what.decode += fmt::format("const int large = {0} <= x1 - x0 + 1.0f && {0} <= y1 - y0 + 1.0f; ", number(static_cast<double>(a.min_size)));
    what.score = "in0(a, h, w)";
    const std::string write = "(void)n; out5(x, r); for (int k = 0; k < 4; ++k) out0(found ? box[k] : 0, r, k);";
    choose(c, what, {c.in(3), c.in(2), c.in(0), c.in(1)}, {{c.out_type(0), c.out_dims(0)}, {c.out_type(1), c.out_dims(1)}}, write);
}

}  // namespace

void add_proposals(Table& t) {
    t["Proposal"] = lower_proposal;
    t["ExperimentalDetectronGenerateProposalsSingleImage"] = lower_detectron_proposals;
}

}  // namespace ai_vmm::cuda
