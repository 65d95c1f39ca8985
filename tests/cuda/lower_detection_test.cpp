// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include "cuda/trial.hpp"

namespace ai_vmm::cuda::test {
namespace {

using namespace ov::op;
using ov::element::f32;
using ov::element::i32;
using ov::element::i64;

TEST(CudaDetection, RegionAlignment) {
    for (const int samples : {0, 2}) {
        for (const bool maximum : {false, true}) {
            Trial t("roi align");
            const auto maps = t.in(f32, {2, 3, 8, 9}), boxes = t.given(f32, {3, 4}, {1, 2, 11, 13, 0, 0, 30, 28, 7, 5, 7.5, 5.5});
            const auto batch = t.given(i32, {3}, {0, 1, 1});
            using A = v9::ROIAlign::AlignedMode;
            ov::OutputVector results{make<v3::ROIAlign>(maps, boxes, batch, 3, 2, samples, 0.5F,
                                                        maximum ? v3::ROIAlign::PoolingMode::MAX : v3::ROIAlign::PoolingMode::AVG)};
            for (const auto aligned : {A::ASYMMETRIC, A::HALF_PIXEL, A::HALF_PIXEL_FOR_NN}) {
                results.push_back(make<v9::ROIAlign>(maps, boxes, batch, 2, 3, samples, 0.25F,
                                                     maximum ? v9::ROIAlign::PoolingMode::MAX : v9::ROIAlign::PoolingMode::AVG, aligned));
            }
            t.compare(results, 1e-5);
        }
        Trial r("rotated");
        const auto boxes = r.given(f32, {3, 5}, {8, 7, 9, 6, 0.3, 15, 12, 20, 10, -1.2, 3, 3, 1, 1, 2});
        r.compare({make<v15::ROIAlignRotated>(r.in(f32, {2, 3, 8, 9}), boxes, r.given(i32, {3}, {1, 0, 1}), 3, 2, samples, 0.5F, true),
                   make<v15::ROIAlignRotated>(r.in(f32, {2, 3, 8, 9}), boxes, r.given(i32, {3}, {1, 0, 1}), 2, 2, samples, 0.5F, false)},
                  1e-5);
    }
}

TEST(CudaDetection, RegionPooling) {
    Trial t("pooling");
    const auto maps = t.in(f32, {2, 12, 8, 9});
    const auto boxes = t.given(f32, {3, 5}, {0, 1, 2, 11, 13, 1, 0, 0, 15, 15, 1, 6, 5, 7, 5});
    const auto unit = t.given(f32, {3, 5}, {0, 0.1, 0.2, 0.9, 0.8, 1, 0, 0, 1, 1, 1, 0.4, 0.4, 0.5, 0.6});
    t.compare({make<v0::ROIPooling>(maps, boxes, ov::Shape{3, 2}, 0.5F, "max"), make<v0::ROIPooling>(maps, unit, ov::Shape{3, 2}, 1.0F, "bilinear"),
               make<v0::ROIPooling>(maps, unit, ov::Shape{1, 1}, 1.0F, "bilinear"), make<v0::PSROIPooling>(maps, boxes, 3, 2, 0.5F, 1, 1, "average"),
               make<v0::PSROIPooling>(maps, unit, 2, 3, 1.0F, 3, 2, "bilinear")},
              1e-5);
    Trial d("deformable");
    const auto data = d.in(f32, {2, 12, 8, 9});
    const auto rois = d.given(f32, {3, 5}, {0, 1, 2, 11, 13, 1, 0, 0, 15, 15, 1, 6, 5, 7, 5});
    d.compare({make<v1::DeformablePSROIPooling>(data, rois, 3, 0.5F, 2, "bilinear_deformable", 2, 3, 0.1F, 2),
               make<v1::DeformablePSROIPooling>(data, rois, d.in(f32, {3, 2, 2, 2}, -1, 1), 3, 0.5F, 2, "bilinear_deformable", 2, 2, 0.2F, 2)},
              1e-5);
}

TEST(CudaDetection, Yolo) {
    Trial t("yolo");
    t.compare({make<v0::RegionYolo>(t.in(f32, {2, 27, 3, 4}), 4, 4, 3, false, std::vector<std::int64_t>{0, 1, 2}, 1, 3),
               make<v0::RegionYolo>(t.in(f32, {2, 27, 3, 4}), 4, 4, 3, true, std::vector<std::int64_t>{}, 1, 3),
               make<v0::RegionYolo>(t.in(f32, {1, 27, 3, 4}), 4, 4, 9, false, std::vector<std::int64_t>{3, 4, 5}, 0, 3),
               make<v0::ReorgYolo>(t.in(f32, {2, 8, 4, 6}), ov::Strides{2})},
              1e-5);
}

TEST(CudaDetection, Anchors) {
    Trial t("prior boxes");
    v8::PriorBox::Attributes attributes;
    attributes.min_size = {16, 32};
    attributes.max_size = {24, 40};
    attributes.aspect_ratio = {2};
    attributes.flip = true;
    attributes.variance = {0.1F, 0.1F, 0.2F, 0.2F};
    const auto boxes = make<v8::PriorBox>(Trial::ints({3, 4}), Trial::ints({60, 80}), attributes);
    t.compare(make<v1::Multiply>(boxes, t.in(f32, {1})), 1e-5);
    Trial g("grid");
    v6::ExperimentalDetectronPriorGridGenerator::Attributes grid{true, 0, 0, 0, 0};
    v6::ExperimentalDetectronPriorGridGenerator::Attributes fixed{false, 4, 5, 16, 8};
    const auto priors = g.in(f32, {3, 4});
    const auto features = g.in(f32, {1, 2, 4, 5}), image = g.in(f32, {1, 3, 64, 75});
    g.compare({make<v6::ExperimentalDetectronPriorGridGenerator>(priors, features, image, grid),
               make<v6::ExperimentalDetectronPriorGridGenerator>(priors, features, image, fixed)});
    Trial r("rois");
    r.compare(make<v6::ExperimentalDetectronTopKROIs>(r.in(f32, {9, 4}), r.given(f32, {9}, {3, 1, 4, 1.5, 9, 2, 6, 5, 8}), 4));
}

TEST(CudaDetection, PyramidFeatures) {
    for (const bool aligned : {false, true}) {
        Trial t("features");
        v6::ExperimentalDetectronROIFeatureExtractor::Attributes attributes;
        attributes.output_size = 3;
        attributes.sampling_ratio = 2;
        attributes.pyramid_scales = {4, 8, 16};
        attributes.aligned = aligned;
        const auto boxes = t.given(f32, {4, 4}, {5, 6, 40, 50, 0, 0, 200, 240, 10, 20, 500, 460, 3, 3, 3, 9});
        t.compare(make<v6::ExperimentalDetectronROIFeatureExtractor>(
                      ov::OutputVector{boxes, t.in(f32, {1, 2, 64, 64}), t.in(f32, {1, 2, 32, 32}), t.in(f32, {1, 2, 16, 16})}, attributes),
                  1e-5);
    }
}

}  // namespace
}  // namespace ai_vmm::cuda::test
