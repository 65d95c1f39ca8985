// SPDX-License-Identifier: Apache-2.0
/// Operations that decode boxes and choose among them, against OpenVINO's CPU plugin.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>

#include "cuda/host_device.hpp"
#include "cuda/on_device.hpp"
#include "cuda/trial.hpp"

namespace ai_vmm::cuda::test {
namespace {

using namespace ov::op;
using ov::element::f16;
using ov::element::f32;

/// Numbers that follow each other without a pattern, in [low, high].
class Numbers {
public:
    explicit Numbers(unsigned seed) : state_(seed) {}
    double next(double low, double high) {
        state_ = state_ * 1664525U + 1013904223U;
        return low + (high - low) * static_cast<double>(state_ >> 8U) / static_cast<double>(1U << 24U);
    }

private:
    unsigned state_;
};

/// Corners of `count` boxes within (0, 0) and (width, height), `before` numbers ahead of each.
std::vector<double> boxes(int count, double width, double height, unsigned seed, const std::vector<double>& before = {}) {
    Numbers numbers(seed);
    std::vector<double> all;
    for (int k = 0; k < count; ++k) {
        all.insert(all.end(), before.begin(), before.end());
        const double x = numbers.next(0, 0.7), y = numbers.next(0, 0.7), w = numbers.next(0.1, 0.3), h = numbers.next(0.1, 0.3);
        for (const auto& [at, size] : {std::pair{x, width}, {y, height}, {x + w, width}, {y + h, height}}) all.push_back(at * size);
    }
    return all;
}

/// Scores in steps: with few of them, many are equal, but never two of one box, which no specification puts in an order. f16 has them all.
std::vector<double> scores(std::size_t count, std::size_t classes, unsigned seed, std::size_t steps) {
    Numbers numbers(seed);
    std::vector<double> all;
    for (std::size_t k = 0; k < count; ++k) {
        const auto first = static_cast<std::size_t>(numbers.next(0, static_cast<double>(steps)));
        for (std::size_t c = 0; c < classes; ++c)
            all.push_back(static_cast<double>((first + c * (steps / classes)) % steps) / static_cast<double>(steps));
    }
    return all;
}

struct Ssd {
    std::string what;
    v8::DetectionOutput::Attributes attributes{};
    std::size_t images = 2, priors = 40, classes = 4;
    bool refined = false, priors_per_image = false;
    std::size_t steps = 1024;  ///< of scores
    std::size_t absent = 0;    ///< priors at the end that are marked so
    bool first_version = false;
};

v8::DetectionOutput::Attributes ssd(float overlap = 0.4F, float confidence = 0.3F) {
    v8::DetectionOutput::Attributes a;
    a.keep_top_k = {20};
    a.top_k = 15;
    a.nms_threshold = overlap;
    a.confidence_threshold = confidence;
    a.code_type = "caffe.PriorBoxParameter.CENTER_SIZE";
    a.normalized = true;
    return a;
}

Ssd with(std::string what, const std::function<void(Ssd&)>& change) {
    Ssd made{std::move(what), ssd()};
    change(made);
    return made;
}

std::vector<double> priors_of(const Ssd& s) {
    const auto& a = s.attributes;
    std::vector<double> all;
    for (std::size_t n = 0; n < (s.priors_per_image ? s.images : 1); ++n) {
        const std::vector<double> before = a.normalized ? std::vector<double>{} : std::vector<double>{0};
        auto own = boxes(static_cast<int>(s.priors), static_cast<double>(a.input_width), static_cast<double>(a.input_height),
                         static_cast<unsigned>(5 + n), before);
        for (std::size_t k = s.priors - s.absent; k < s.priors; ++k) own[k * 5] = -1;
        all.insert(all.end(), own.begin(), own.end());
        if (a.variance_encoded_in_target) continue;
        // Of 5 numbers a prior, the variances fill the first four fifths.
        for (std::size_t k = 0; k < own.size(); ++k) all.push_back(k % 4 < 2 ? 0.1 : 0.2);
    }
    return all;
}

void compare_ssd(const Ssd& s, const ov::element::Type& type, const std::shared_ptr<Device>& device) {
    Trial t(s.what + " " + type.get_type_name(), device);
    const auto& a = s.attributes;
    const std::size_t located = s.priors * 4 * (a.share_location ? 1 : s.classes);
    const auto locations = t.in(type, {s.images, located}, -1, 1);
    const auto confidences = t.given(type, {s.images, s.priors * s.classes}, scores(s.images * s.priors, s.classes, 3, s.steps));
    const auto priors =
        t.given(type, {s.priors_per_image ? s.images : 1, a.variance_encoded_in_target ? 1U : 2U, s.priors * (a.normalized ? 4 : 5)}, priors_of(s));
    ov::OutputVector inputs{locations, confidences, priors};
    if (s.refined) {
        inputs.push_back(t.given(type, {s.images, s.priors * 2}, scores(s.images * s.priors, 2, 9, 128)));
        inputs.push_back(t.in(type, {s.images, located}, -0.5, 0.5));
    }
    if (s.first_version) {
        v0::DetectionOutput::Attributes old;
        static_cast<util::DetectionOutputBase::AttributesBase&>(old) = a;
        old.num_classes = static_cast<int>(s.classes);
        t.compare(make<v0::DetectionOutput>(inputs[0], inputs[1], inputs[2], old), 1e-5);
    } else if (s.refined) {
        t.compare(make<v8::DetectionOutput>(inputs[0], inputs[1], inputs[2], inputs[3], inputs[4], a), 1e-5);
    } else {
        t.compare(make<v8::DetectionOutput>(inputs[0], inputs[1], inputs[2], a), 1e-5);
    }
}

std::vector<Ssd> every_ssd() {
    return {
        with("as it is", [](Ssd&) {}),
        with("first version", [](Ssd& s) { s.first_version = true; }),
        with("corners", [](Ssd& s) { s.attributes.code_type = "caffe.PriorBoxParameter.CORNER"; }),
        with("locations per class", [](Ssd& s) { s.attributes.share_location = false; }),
        with("variance in the target", [](Ssd& s) { s.attributes.variance_encoded_in_target = true; }),
        with("corners, variance in the target, no background",
             [](Ssd& s) {
                 s.attributes.code_type = "caffe.PriorBoxParameter.CORNER";
                 s.attributes.variance_encoded_in_target = true;
                 s.attributes.background_label_id = -1;
             }),
        with("another background, one image",
             [](Ssd& s) {
                 s.attributes.background_label_id = 2;
                 s.images = 1;
             }),
        with("priors per image, in pixels, some absent",
             [](Ssd& s) {
                 s.attributes.normalized = false;
                 s.attributes.input_width = 300;
                 s.attributes.input_height = 200;
                 s.priors_per_image = true;
                 s.absent = 13;
             }),
        with("clipped before", [](Ssd& s) { s.attributes.clip_before_nms = true; }),
        with("clipped after", [](Ssd& s) { s.attributes.clip_after_nms = true; }),
        with("all candidates, few kept",
             [](Ssd& s) {
                 s.attributes.top_k = -1;
                 s.attributes.keep_top_k = {5};
             }),
        with("all kept", [](Ssd& s) { s.attributes.keep_top_k = {-1}; }),
        with("all of all",
             [](Ssd& s) {
                 s.attributes.top_k = -1;
                 s.attributes.keep_top_k = {-1};
                 s.attributes.nms_threshold = 1;
                 s.attributes.confidence_threshold = -1;
             }),
        with("none", [](Ssd& s) { s.attributes.confidence_threshold = 2; }),
        with("equal scores",
             [](Ssd& s) {
                 s.steps = 5;
                 s.attributes.top_k = 7;
             }),
        with("best classes", [](Ssd& s) { s.attributes.decrease_label_id = true; }),
        with("best classes, equal scores, locations per class",
             [](Ssd& s) {
                 s.attributes.decrease_label_id = true;
                 s.attributes.share_location = false;
                 s.attributes.keep_top_k = {6};
                 s.steps = 4;
             }),
        with("best classes, all kept",
             [](Ssd& s) {
                 s.attributes.decrease_label_id = true;
                 s.attributes.top_k = -1;
                 s.attributes.keep_top_k = {-1};
                 s.attributes.confidence_threshold = 0.6F;
             }),
        with("refined",
             [](Ssd& s) {
                 s.refined = true;
                 s.attributes.objectness_score = 0.3F;
             }),
        with("refined, locations per class, clipped, priors per image",
             [](Ssd& s) {
                 s.refined = s.priors_per_image = true;
                 s.attributes.objectness_score = 0.5F;
                 s.attributes.share_location = false;
                 s.attributes.clip_before_nms = true;
             }),
        with("refined, best classes, in pixels",
             [](Ssd& s) {
                 s.refined = true;
                 s.attributes.objectness_score = 0.4F;
                 s.attributes.decrease_label_id = true;
                 s.attributes.normalized = false;
                 s.attributes.input_width = s.attributes.input_height = 2;
             }),
        with("many",
             [](Ssd& s) {
                 s.priors = 2600;
                 s.classes = 3;
                 s.images = 1;
                 s.attributes.top_k = 600;
                 s.attributes.keep_top_k = {50};
             }),
    };
}

/// Narrowing floats between kernels leaves boxes and their overlaps alone.
TEST(CudaBoxes, DetectionOutputInF16) {
    const Ssd s = with("f16", [](Ssd& own) { own.images = 1; });
    const auto x = make<v0::Parameter>(f32, ov::Shape{1, s.priors * 4});
    const auto confidences = Trial::constant(f32, {1, s.priors * s.classes}, scores(s.priors, s.classes, 3, 64));
    const auto priors = Trial::constant(f32, {1, 2, s.priors * 4}, priors_of(s));
    compare_in_f16(std::make_shared<HostDevice>(), x, make<v8::DetectionOutput>(x, confidences, priors, s.attributes), 1e-2);
}

v4::Proposal::Attributes proposal() {
    v4::Proposal::Attributes a;
    a.base_size = 16;
    a.pre_nms_topn = 60;
    a.post_nms_topn = 12;
    a.nms_thresh = 0.6F;
    a.feat_stride = 16;
    a.min_size = 1;
    a.ratio = {0.5F, 1, 2};
    a.scale = {2, 4};
    return a;
}

void compare_proposals(const std::shared_ptr<Device>& device) {
    struct Case {
        std::string what;
        std::function<void(v4::Proposal::Attributes&)> change;
        std::vector<double> image{100, 130, 1};
        bool first_version = false;
        std::size_t height = 5, width = 6;
    };
    const std::vector<Case> all{
        {"as it is", [](auto&) {}},
        {"first version", [](auto&) {}, {100, 130, 1}, true},
        {"few, clipped before and after",
         [](auto& a) {
             a.clip_after_nms = true;
             a.pre_nms_topn = 25;
         }},
        {"not clipped, normalised",
         [](auto& a) {
             a.clip_before_nms = false;
             a.normalize = true;
         }},
        {"not clipped before but after",
         [](auto& a) {
             a.clip_before_nms = false;
             a.clip_after_nms = true;
         }},
        {"scales of boxes",
         [](auto& a) {
             a.box_coordinate_scale = 10;
             a.box_size_scale = 5;
         }},
        {"large ones", [](auto& a) { a.min_size = 12; }, {100, 130, 2, 2.5}},
        {"TensorFlow's",
         [](auto& a) {
             a.framework = "tensorflow";
             a.box_coordinate_scale = 10;
             a.box_size_scale = 5;
             a.normalize = true;
         }},
        {"TensorFlow's, not clipped",
         [](auto& a) {
             a.framework = "tensorflow";
             a.clip_before_nms = false;
         }},
        {"many",
         [](auto& a) {
             a.pre_nms_topn = 900;
             a.post_nms_topn = 60;
         },
         {300, 400, 1},
         false,
         20,
         25},
        {"fewer than there are places",
         [](auto& a) {
             a.post_nms_topn = 300;
             a.nms_thresh = 0.1F;
             a.pre_nms_topn = 1000;
         },
         {100, 130, 1},
         true},
    };
    for (const auto& type : {f32, f16}) {
        for (const Case& one : all) {
            Trial t(one.what + " " + type.get_type_name(), device);
            v4::Proposal::Attributes a = proposal();
            one.change(a);
            // Equal scores would stand in an order that no specification tells.
            const std::size_t h = one.height, w = one.width;
            if (type == f16 && h * w > 100) continue;  // there are not as many numbers
            std::vector<double> probabilities(2U * 12 * h * w);
            for (std::size_t k = 0; k < probabilities.size(); ++k)
                probabilities[k] = static_cast<double>((k * 7919 + 11) % probabilities.size() + 1) / static_cast<double>(probabilities.size());
            const auto p = t.given(type, {2, 12, h, w}, probabilities), deltas = t.in(type, {2, 24, h, w}, -0.6, 0.6),
                       image = t.given(type, {one.image.size()}, one.image);
            if (one.first_version) {
                t.compare(make<v0::Proposal>(p, deltas, image, a), 1e-4);
            } else {
                t.compare(make<v4::Proposal>(p, deltas, image, a), 1e-4);
            }
        }
    }
}

void compare_detectron_proposals(const std::shared_ptr<Device>& device) {
    for (const auto& type : {f32, f16}) {
        for (const auto& [after, before, least, overlap] : {std::tuple{10, 40, 0.0F, 0.7F}, {40, 1000, 0.0F, 0.2F}, {6, 30, 9.0F, 0.5F}}) {
            Trial t(fmt::format("proposals {} {}", after, type.get_type_name()), device);
            v6::ExperimentalDetectronGenerateProposalsSingleImage::Attributes a{};
            a.min_size = least;
            a.nms_threshold = overlap;
            a.post_nms_count = after;
            a.pre_nms_count = before;
            std::vector<double> s(3U * 4 * 5);
            for (std::size_t k = 0; k < s.size(); ++k) s[k] = static_cast<double>((k * 37 + 5) % 60 + 1) / 64;
            t.compare(make<v6::ExperimentalDetectronGenerateProposalsSingleImage>(t.given(type, {3}, {90, 120, 1}),
                                                                                  t.given(type, {60, 4}, boxes(60, 120, 90, 4)),
                                                                                  t.in(type, {12, 4, 5}, -1, 1), t.given(type, {3, 4, 5}, s), a),
                      1e-4);
        }
    }
}

void compare_detectron_detections(const std::shared_ptr<Device>& device) {
    struct Case {
        std::string what;
        float score = 0.3F, overlap = 0.3F;
        std::int64_t per_class = 20;
        std::size_t per_image = 30;
        std::size_t steps = 1024;
        bool flat = false;
    };
    for (const auto& type : {f32, f16}) {
        for (const Case& one : {Case{"fewer than wanted", 0.8F}, Case{"more than wanted", 0.1F, 0.6F, 20, 9}, Case{"few of a class", 0.2F, 0.5F, 2},
                                Case{"all of a class", 0.1F, 0.9F, -1, 200}, Case{"equal scores", 0.1F, 0.4F, 20, 12, 6},
                                Case{"boxes without area", -1, 0.4F, 20, 50, 1024, true}, Case{"none", 2}}) {
            Trial t(one.what + " " + type.get_type_name(), device);
            v6::ExperimentalDetectronDetectionOutput::Attributes a{};
            a.score_threshold = one.score;
            a.nms_threshold = one.overlap;
            a.max_delta_log_wh = 0.5F;
            a.num_classes = 5;
            a.post_nms_count = one.per_class;
            a.max_detections_per_image = one.per_image;
            a.class_agnostic_box_regression = true;
            a.deltas_weights = {10, 10, 5, 5};
            auto rois = boxes(25, 200, 150, 8);
            for (const std::size_t k : {3U, 4U, 11U}) {
                if (one.flat) rois[k * 4 + 2] = rois[k * 4];
            }
            t.compare(make<v6::ExperimentalDetectronDetectionOutput>(t.given(type, {25, 4}, rois), t.in(type, {25, 20}, -4, 4),
                                                                     t.given(type, {25, 5}, scores(25, 5, 6, one.steps)),
                                                                     t.given(type, {1, 3}, {150, 200, 1}), a),
                      1e-4);
        }
    }
}

TEST(CudaBoxes, DetectionOutput) {
    for (const Ssd& s : every_ssd()) {
        compare_ssd(s, f32, nullptr);
        compare_ssd(s, f16, nullptr);
    }
}

TEST(CudaBoxes, Proposal) { compare_proposals(nullptr); }
TEST(CudaBoxes, DetectronProposals) { compare_detectron_proposals(nullptr); }
TEST(CudaBoxes, DetectronDetectionOutput) { compare_detectron_detections(nullptr); }

/// Where blocks of threads choose together.
using BoxesOnDevice = OnDevice;

TEST_F(BoxesOnDevice, AreChosenAlike) {
    for (const Ssd& s : every_ssd()) {
        compare_ssd(s, f32, device_);
        compare_ssd(s, f16, device_);
    }
    compare_proposals(device_);
    compare_detectron_proposals(device_);
    compare_detectron_detections(device_);
}

}  // namespace
}  // namespace ai_vmm::cuda::test
