// SPDX-License-Identifier: Apache-2.0
/// The ends of detectors: boxes of several classes, decoded, chosen per class and then per image.
#include <algorithm>
#include <cctype>
#include <limits>
#include <tuple>

#include "lower/suppression.hpp"
#include "lower/text.hpp"
#include "lower/top_k.hpp"
#include "openvino/op/ops.hpp"

namespace ai_vmm::cuda {
namespace {

std::string number(double value) { return literal(Type::f32, value); }

/// The score of what is no candidate.
std::string nothing() { return number(-std::numeric_limits<double>::infinity()); }

/// "const idx place = …": of the row's r-th box behind those of the rows before, if every row has `count`(row) of them.
std::string place_among_rows(const std::string& count) {
    return fmt::format("idx place = r; for (idx q = 0; q < row; ++q) place += (idx){}(q); ", count);
}

/// SSD's last layer, after Caffe (a candidate per prior and class, above a threshold) or MXNet (each prior's best class, at it).
class DetectionOutput {
public:
    explicit DetectionOutput(Context& c) : c_(c), a_(attributes(c)) {
        prior_size_ = a_.normalized ? 4 : 5;
        priors_ = c.dims(2).back() / prior_size_;
        images_ = c.dims(1)[0];
        classes_ = priors_ == 0 ? 0 : c.dims(1).back() / priors_;
        check();
        candidates_ = a_.top_k < 0 ? priors_ : std::min<std::int64_t>(a_.top_k, priors_);
    }

    void lower() {
        Ranking ranking;
        if (a_.decrease_label_id) {
            best_class_ = best_of_classes(true);
            ranking = {true,
                       false,
                       "in1((idx)row, (idx)(p)) < in1((idx)row, (idx)(q)) || (in1((idx)row, (idx)(p)) == in1((idx)row, (idx)(q)) && (p) < (q))",
                       {best_class_}};
        }
        const ValueId scores = a_.decrease_label_id ? best_of_classes(false) : scores_of_classes();
        std::tie(scores_, order_) = top_k(c_.b, scores, 1, candidates_, Type::i32, ranking);
        choose();
    }

private:
    using Attributes = ov::op::util::DetectionOutputBase::AttributesBase;

    static Attributes attributes(Context& c) {
        if (c.is<ov::op::v0::DetectionOutput>()) return c.as<ov::op::v0::DetectionOutput>().get_attrs();
        return c.as<ov::op::v8::DetectionOutput>().get_attrs();
    }

    void check() {
        std::string code = a_.code_type;
        std::ranges::transform(code, code.begin(), [](unsigned char letter) { return static_cast<char>(std::tolower(letter)); });
        by_corners_ = code == "caffe.priorboxparameter.corner";
        if (!by_corners_ && code != "caffe.priorboxparameter.center_size") c_.unsupported("code type \"" + a_.code_type + "\"");
        if (a_.decrease_label_id && a_.background_label_id != 0) c_.unsupported("decreased labels with a background other than class 0");
        if (a_.top_k == 0 || a_.top_k < -1 || priors_ == 0) c_.unsupported("no candidates");
    }

    [[nodiscard]] bool refined() const { return c_.inputs() == 5; }

    /// The score of class c of prior p of image n: inputs 0 (scores) and 1 (of priors being objects, with which they are overruled).
    [[nodiscard]] std::string score(const char* n, const char* c, const char* p) const {
        const std::string own = fmt::format("(f32)in0({}, {} * (idx){} + {})", n, p, classes_, c);
        if (!refined()) return own;
        return fmt::format("((f32)in1({}, {} * 2 + 1) < {} ? ({} == {} ? 1.0f : 0.0f) : {})", n, p, number(a_.objectness_score), c,
                           a_.background_label_id, own);
    }

    [[nodiscard]] std::vector<ValueId> score_inputs() {
        std::vector<ValueId> inputs{c_.in(1)};
        if (refined()) inputs.push_back(c_.in(3));
        if (!a_.normalized) inputs.push_back(real_priors());
        return inputs;
    }

    /// "if (PRIOR is none) return VALUE; " for scores.
    [[nodiscard]] std::string unless_real(const char* n, const char* prior, const std::string& value) const {
        if (a_.normalized) return {};
        return fmt::format("if ({} >= (idx)in{}({}, 0)) return {}; ", prior, refined() ? 2 : 1, priors_per_image() ? n : "0", value);
    }

    [[nodiscard]] bool priors_per_image() const { return c_.dims(2)[0] != 1; }

    /// How many priors come before the first one that is marked with -1 (images or 1, 1).
    ValueId real_priors() {
        if (real_priors_ >= 0) return real_priors_;
        Rowwise first{"RealPriors",
                      {c_.dims(2)[0], priors_},
                      {1},
                      Type::i64,
                      {{Rowwise::Combine::min, fmt::format("return in0(i0, 0, i1 * {}) == -1 ? i1 : (idx){};", prior_size_, priors_), ""}},
                      "return s0;",
                      true,
                      4,
                      {}};
        real_priors_ = c_.b.rowwise(Type::i32, {c_.in(2)}, std::move(first));
        return real_priors_;
    }

    /// (images * classes, priors)
    ValueId scores_of_classes() {
        std::string body =
            fmt::format("const idx n = i0 / (idx){0}, c = i0 % (idx){0}; if (c == {1}) return {2}; ", classes_, a_.background_label_id, nothing());
        body += unless_real("n", "i1", nothing());
        body += fmt::format("const f32 x = {}; return x > {} ? x : {};", score("n", "c", "i1"), number(a_.confidence_threshold), nothing());
        return c_.b.compute(c_.type(1), {images_ * classes_, priors_}, score_inputs(), {"Scores", body, 4, {}, {}});
    }

    /// (images, priors): the best class, or its score.
    ValueId best_of_classes(bool which) {
        std::string body = unless_real("i0", "i1", which ? "0" : nothing());
        body += fmt::format(
            "f32 most = -1; idx at = 0; for (idx c = 1; c < (idx){}; ++c) {{ const f32 x = {}; if (x >= {} && x > most) {{ most = x; at = c; }} }} ",
            classes_, score("i0", "c", "i1"), number(a_.confidence_threshold));
        body += which ? "return at;" : fmt::format("return at > 0 ? most : {};", nothing());
        const double reads = static_cast<double>(classes_);
        return c_.b.compute(which ? Type::i32 : c_.type(1), {images_, priors_}, score_inputs(),
                            {"BestClass", body, static_cast<int>(std::min(4 * reads, 1e6)), {reads}, {}});
    }

    /// @_decode(box, by, variance): a box from a prior, in place.
    [[nodiscard]] std::string decoding() const {
        std::string text = "\nFUNCTION void @_decode(f32* box, const f32* by, const f32* variance) {\n";
        if (!a_.normalized) {
            text += fmt::format("    box[0] = box[0] / {0}; box[1] = box[1] / {1}; box[2] = box[2] / {0}; box[3] = box[3] / {1};\n",
                                number(static_cast<double>(a_.input_width)), number(static_cast<double>(a_.input_height)));
        }
        if (by_corners_) {
            text += "    for (int k = 0; k < 4; ++k) box[k] = box[k] + timesf(variance[k], by[k]);\n";
        } else {
            text += R"SOURCE(
    const f32 from_width = box[2] - box[0], from_height = box[3] - box[1], from_x = (box[0] + box[2]) / 2.0f, from_y = (box[1] + box[3]) / 2.0f;
    const f32 x = timesf(timesf(variance[0], by[0]), from_width) + from_x, y = timesf(timesf(variance[1], by[1]), from_height) + from_y;
    const f32 width = timesf(expf(timesf(variance[2], by[2])), from_width), height = timesf(expf(timesf(variance[3], by[3])), from_height);
    box[0] = x - width / 2.0f; box[1] = y - height / 2.0f; box[2] = x + width / 2.0f; box[3] = y + height / 2.0f;
)SOURCE";
        }
        if (a_.clip_before_nms) text += "    for (int k = 0; k < 4; ++k) box[k] = fmaxf(0.0f, fminf(1.0f, box[k]));\n";
        return text + "}\n";
    }

    /// Inputs of the node that chooses: 0 locations, 1 priors, 2 the lists' scores, 3 their priors, then the locations that refine priors first, then
    /// the best classes, where there are such.
    [[nodiscard]] std::vector<ValueId> inputs() const {
        std::vector<ValueId> all{c_.in(0), c_.in(2), scores_, order_};
        if (refined()) all.push_back(c_.in(4));
        if (a_.decrease_label_id) all.push_back(best_class_);
        return all;
    }

    [[nodiscard]] std::string class_of(const std::string& n, const std::string& prior) const {
        return fmt::format("(idx)in{}({}, {})", refined() ? 5 : 4, n, prior);
    }

    [[nodiscard]] Custom::Phase decode(const Suppression& what) const {
        std::string body = what.of_candidate() + fmt::format("if (!(in2(list, i) > {})) return; const idx p = (idx)in3(list, i); ", nothing());
        std::string location = fmt::format("p * {} + ", a_.share_location ? 4 : 4 * classes_);
        if (!a_.share_location) location += a_.decrease_label_id ? fmt::format("{} * 4 + ", class_of("n", "p")) : std::string("c * 4 + ");
        const auto four = [](const std::string& name, const std::string& input, const std::string& at) {
            return fmt::format("{0}[4] = {{(f32){1}{2}0), (f32){1}{2}1), (f32){1}{2}2), (f32){1}{2}3)}}", name, input, at);
        };
        const std::string prior = fmt::format("in1({}, ", priors_per_image() ? "n" : "0");
        body += "f32 " + four("box", prior, fmt::format("0, p * {} + {} + ", prior_size_, prior_size_ - 4)) + ", " + four("by", "in0(n, ", location) +
                ", ";
        // What is scaled by 1 is as if it were not scaled.
        body += a_.variance_encoded_in_target ? std::string("variance[4] = {1, 1, 1, 1}") : four("variance", prior, "1, p * 4 + ");
        if (refined()) body += ", " + four("first", "in4(n, ", location) + "; @_decode(box, first, variance)";
        body += "; @_decode(box, by, variance); const f32 x0 = box[0], y0 = box[1], x1 = box[2], y1 = box[3]; ";
        return {what.lists() * candidates_, body + store_box("timesf(x1 - x0, y1 - y0)")};
    }

    void choose() {
        Suppression what{images_, classes_, candidates_, !a_.decrease_label_id, candidates_, a_.nms_threshold, 0, ""};
        what.absent = fmt::format("!(in2(list, i) > {})", nothing());
        if (a_.decrease_label_id) what.absent += fmt::format(" || {} != c", class_of("n", "(idx)in3(list, i)"));
        const std::int64_t found = c_.out_dims()[2], keep = a_.keep_top_k.empty() ? -1 : a_.keep_top_k[0];
        // Results 0: boxes found, 1 to 4: suppression's, 5: how many of each row's are among the best of their image.
        std::vector<std::pair<Type, Dims>> results{{c_.out_type(), {found, 7}}};
        for (auto& result : suppression_results(what)) results.push_back(std::move(result));
        results.emplace_back(Type::i32, Dims{what.rows()});
        Custom custom{"DetectionOutput", {}, suppression_functions() + decoding()};
        const std::string count = keep > -1 ? "get5" : "get4";
        custom.phases.push_back({found * 7, "out0(0, (idx)(t / 7), (idx)(t % 7));"});
        custom.phases.push_back({what.rows(), "out5(0, (idx)t);"});
        custom.phases.push_back(decode(what));
        custom.phases.push_back(suppress(what));
        if (keep > -1) {
            custom.phases.push_back({what.rows() * candidates_, rank_among_classes(what, "in2({list}, {at})", "in3({list}, {at})") +
                                                                    fmt::format("if (rank < {}) ATOMIC_MAX_I32(at5(row), (i32)r + 1);", keep)});
        }
        custom.phases.push_back({what.rows() * candidates_, write(what, count, found)});
        custom.phases.push_back({1, fmt::format("const idx row = (idx){}, r = 0; {}if (place < (idx){}) out0(-1, place, 0);", what.rows(),
                                                place_among_rows(count), found)});
        c_.set(0, c_.b.reshape(c_.b.custom(results, inputs(), std::move(custom)).front(), c_.out_dims()));
    }

    /// Stores the boxes, image after image and class after class.
    [[nodiscard]] std::string write(const Suppression& what, const std::string& count, std::int64_t found) const {
        std::string body = fmt::format("const idx row = (idx)(t / {0}ll), r = (idx)(t % {0}ll); if (r >= (idx){1}(row)) return; {2}{3}", candidates_,
                                       count, what.of_row(), place_among_rows(count));
        body += fmt::format("if (place >= (idx){}) return; const idx at = (idx)get3(row, r); {}", found, load_box("box", "at"));
        body += fmt::format("out0(n, place, 0); out0(c - {}, place, 1); out0(in2(list, at), place, 2); ", a_.decrease_label_id ? 1 : 0);
        return body +
               fmt::format("for (int k = 0; k < 4; ++k) out0({}, place, 3 + k);", a_.clip_after_nms ? "fmaxf(0.0f, fminf(1.0f, box[k]))" : "box[k]");
    }

    Context& c_;
    Attributes a_;
    bool by_corners_ = false;
    std::int64_t prior_size_ = 4, priors_ = 0, images_ = 0, classes_ = 0, candidates_ = 0;
    ValueId real_priors_ = -1, best_class_ = -1, scores_ = -1, order_ = -1;
};

void lower_detection_output(Context& c) { DetectionOutput(c).lower(); }

/// Boxes that are refined for every class but the first. More of them than wanted stand in the order of their scores, others class after class.
void lower_detectron_detection_output(Context& c) {
    const auto& a = c.as<ov::op::v6::ExperimentalDetectronDetectionOutput>().get_attrs();
    const std::int64_t boxes = c.dims(0)[0], classes = a.num_classes, most = static_cast<std::int64_t>(a.max_detections_per_image);
    if (boxes == 0) c.unsupported("no boxes");
    // A box without area has no score and becomes one of zeros.
    const std::string flat = "const idx flat = in0({0}, 2) - in0({0}, 0) <= 0 || in0({0}, 3) - in0({0}, 1) <= 0; ";
    const std::string score = fmt::format("if (i0 == 0) return {0}; {1}const f32 x = flat ? 0 : (f32)in1(i1, i0); return x > {2} ? x : {0};",
                                          nothing(), fmt::format(fmt::runtime(flat), "i1"), number(a.score_threshold));
    const ValueId scores = c.b.compute(c.type(2), {classes, boxes}, {c.in(0), c.in(2)}, {"Scores", score, 8, {4, 1}, {}});
    const auto [values, order] = top_k(c.b, scores, 1, boxes, Type::i32, {});

    Suppression what{1, classes, boxes, true, a.post_nms_count < 0 ? boxes : a.post_nms_count, a.nms_threshold, 1, ""};
    what.absent = fmt::format("!(in2(list, i) > {})", nothing());
    // Inputs 0 boxes, 1 deltas, 2 the lists' scores, 3 their boxes; results 0 boxes found, 1 to 4 suppression's, 5 classes, 6 scores.
    std::string decode = what.of_candidate() + fmt::format("if (!(in2(list, i) > {})) return; const idx b = (idx)in3(list, i); ", nothing()) +
                         fmt::format(fmt::runtime(flat), "b") + "f32 x0 = 0, y0 = 0, x1 = 0, y1 = 0; if (!flat) { ";
    const auto side = [&](const char* d, int first) {
        const auto delta = [&](int k) {
            return fmt::format("(f32)in1(b, c * 4 + {}) / {}", k, number(static_cast<double>(a.deltas_weights[static_cast<std::size_t>(k)])));
        };
        return fmt::format(
            "const f32 from_{0} = (f32)in0(b, {1}) - (f32)in0(b, {2}) + 1.0f, centre_{0} = timesf({3}, from_{0}) + ((f32)in0(b, {2}) + 0.5f * "
            "from_{0}), half_{0} = 0.5f * timesf(expf(fminf({4}, {5})), from_{0}); {0}0 = fmaxf(0.0f, centre_{0} - half_{0}); {0}1 = fmaxf(0.0f, "
            "centre_{0} + half_{0} - 1.0f); ",
            d, first + 2, first, delta(first), delta(first + 2), number(a.max_delta_log_wh));
    };
    decode += side("x", 0) + side("y", 1) + "} " + store_box("flat ? 0.0f : timesf(x1 - x0 + 1.0f, y1 - y0 + 1.0f)");

    std::vector<std::pair<Type, Dims>> results{{c.out_type(0), c.out_dims(0)}};
    for (auto& result : suppression_results(what)) results.push_back(std::move(result));
    results.emplace_back(c.out_type(1), c.out_dims(1));
    results.emplace_back(c.out_type(2), c.out_dims(2));
    Custom custom{"DetectronDetectionOutput", {}, suppression_functions()};
    custom.phases.push_back({most, "out5(0, (idx)t); out6(0, (idx)t); for (int k = 0; k < 4; ++k) out0(0, (idx)t, k);"});
    custom.phases.push_back({what.lists() * boxes, decode});
    custom.phases.push_back(suppress(what));
    custom.phases.push_back(
        {what.rows() * boxes,
         rank_among_classes(what, "in2({list}, {at})", "in3({list}, {at})") + place_among_rows("get4") +
             fmt::format("idx all = 0; for (idx q = 0; q < (idx){}; ++q) all += (idx)get4(q); if (all > (idx){}) place = rank; if "
                         "(place >= (idx){}) return; {}out5(c, place); out6(x, place); for (int k = 0; k < 4; ++k) "
                         "out0(box[k], place, k);",
                         what.rows(), most, most, load_box("box", "at"))});
    const auto made = c.b.custom(results, {c.in(0), c.in(1), values, order}, std::move(custom));
    c.set(0, made[0]);
    c.set(1, made[5]);
    c.set(2, made[6]);
}

}  // namespace

void add_detection_output(Table& t) {
    t["DetectionOutput"] = lower_detection_output;
    t["ExperimentalDetectronDetectionOutput"] = lower_detectron_detection_output;
}

}  // namespace ai_vmm::cuda
