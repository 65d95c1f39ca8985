// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include "cuda/trial.hpp"

namespace ai_vmm::cuda::test {
namespace {

using namespace ov::op;
using ov::element::f16;
using ov::element::f32;
using ov::element::i32;
using ov::element::i64;

std::vector<ov::element::Type> types() {
    auto all = number_types();
    all.push_back(ov::element::boolean);
    return all;
}

TEST(CudaMovement, ReshapesAndTransposesEveryType) {
    for (const auto& type : types()) {
        Trial t("transpose " + type.get_type_name());
        const auto x = t.in(type, {2, 3, 4});
        t.compare({make<v1::Transpose>(x, Trial::ints({2, 0, 1})), make<v1::Reshape>(x, Trial::ints({4, 6}), false), make<v0::Squeeze>(x),
                   make<v0::Unsqueeze>(x, Trial::ints({0, -1})), make<v1::Transpose>(x, Trial::ints({})), make<v16::Identity>(x)});
    }
    Trial zero("nothing");
    const auto x = zero.in(f32, {0, 3});
    zero.compare({make<v1::Transpose>(x, Trial::ints({1, 0})), make<v1::Reshape>(x, Trial::ints({0, 5, 0}), false), x});
}

TEST(CudaMovement, Concat) {
    for (const auto& type : types()) {
        Trial t("concat " + type.get_type_name());
        const auto a = t.in(type, {2, 3}), b = t.in(type, {2, 1}), none = t.in(type, {2, 0});
        t.compare({make<v0::Concat>(ov::OutputVector{a, none, b, a}, 1), make<v0::Concat>(ov::OutputVector{a, a}, -2),
                   make<v0::Concat>(ov::OutputVector{none, none}, 1)});
    }
}

TEST(CudaMovement, Slices) {
    struct Case {
        std::vector<std::int64_t> start, stop, step, axes;
    };
    for (const Case& k : std::vector<Case>{{{1}, {3}, {1}, {0}},
                                           {{-1, 0}, {-100, 3}, {-1, 2}, {0, 2}},
                                           {{100}, {-100}, {-2}, {1}},
                                           {{-100, 2}, {100, 2}, {3, 1}, {-1, 0}},
                                           {{2}, {0}, {-1}, {0}}}) {
        Trial t("slice");
        const auto x = t.in(f32, {4, 3, 5});
        t.compare(make<v8::Slice>(x, Trial::ints(k.start), Trial::ints(k.stop), Trial::ints(k.step), Trial::ints(k.axes)));
        if (k.start.front() == -100) continue;
        Trial s("scatter");
        const auto y = s.in(f32, {4, 3, 5});
        const auto slice = make<v8::Slice>(y, Trial::ints(k.start), Trial::ints(k.stop), Trial::ints(k.step), Trial::ints(k.axes));
        const auto updates = s.in(f32, slice->get_output_shape(0), 10, 20);
        s.compare(make<v15::SliceScatter>(y, updates, Trial::ints(k.start), Trial::ints(k.stop), Trial::ints(k.step), Trial::ints(k.axes)));
    }
}

TEST(CudaMovement, StridedSlices) {
    using Mask = std::vector<std::int64_t>;
    struct Case {
        Mask begin, end, step, begin_mask, end_mask, new_axis, shrink, ellipsis;
    };
    for (const Case& k :
         std::vector<Case>{{{1, 0}, {3, 2}, {1, 1}, {0, 0}, {0, 0}, {}, {}, {}},
                           {{1, 0}, {3, 2}, {1, 1}, {1, 0}, {0, 1}, {}, {}, {}},
                           {{0, -1}, {0, 0}, {1, 1}, {0, 0}, {0, 0}, {1, 0}, {0, 1}, {0, 0}},
                           {{-1, 5, 4}, {-9, 0, -9}, {-1, -2, -3}, {0, 0, 1}, {0, 0, 1}, {}, {}, {}},
                           {{0, 0, 1}, {0, 0, 2}, {1, 1, 1}, {0, 0, 0}, {0, 0, 0}, {0, 0, 0}, {0, 0, 0}, {0, 1, 0}},
                           {{0, 1, 0, -2}, {0, 2, 0, 3}, {1, 1, 1, 2}, {0, 0, 0, 0}, {0, 0, 0, 0}, {1, 0, 0, 0}, {0, 1, 0, 0}, {0, 0, 1, 0}},
                           {{3, 2}, {1, 1}, {1, 1}, {}, {}, {}, {}, {}}}) {
        Trial t("strided slice");
        const auto x = t.in(i32, {4, 3, 5});
        t.compare(make<v1::StridedSlice>(x, Trial::ints(k.begin), Trial::ints(k.end), Trial::ints(k.step), k.begin_mask, k.end_mask, k.new_axis,
                                         k.shrink, k.ellipsis));
    }
}

TEST(CudaMovement, Splits) {
    Trial t("split");
    const auto x = t.in(f32, {2, 6, 3});
    t.compare(make<v1::Split>(x, Trial::scalar(1), 3));
    Trial v("variadic");
    const auto y = v.in(f16, {2, 6, 3});
    v.compare(make<v1::VariadicSplit>(y, Trial::scalar(-2), Trial::ints({1, -1, 0, 3})));
}

TEST(CudaMovement, Pads) {
    for (const auto mode : {PadMode::CONSTANT, PadMode::EDGE, PadMode::REFLECT, PadMode::SYMMETRIC}) {
        for (const auto& type : types()) {
            Trial t("pad " + type.get_type_name());
            const auto x = t.in(type, {3, 4});
            ov::OutputVector results{make<v1::Pad>(x, Trial::ints({2, 1}), Trial::ints({1, 3}), mode)};
            if (mode == PadMode::CONSTANT) results.push_back(make<v1::Pad>(x, Trial::ints({2, 0}), Trial::ints({0, 3}), t.in(type, {}, 1, 2), mode));
            t.compare(results);
        }
        Trial n("negative");
        const auto x = n.in(f32, {5, 4});
        n.compare(make<v12::Pad>(x, Trial::ints({-1, 2}), Trial::ints({2, -1}), Trial::constant(f32, {}, {7}), mode));
    }
    Trial e("empty");
    e.compare(make<v1::Pad>(e.in(f32, {0, 2}), Trial::ints({1, 1}), Trial::ints({1, 0}), Trial::constant(f32, {}, {3}), PadMode::CONSTANT));
}

TEST(CudaMovement, TilesAndBroadcasts) {
    for (const auto& type : types()) {
        Trial t("tile " + type.get_type_name());
        const auto x = t.in(type, {2, 1, 3}), row = t.in(type, {3});
        t.compare({make<v0::Tile>(x, Trial::ints({2, 1, 3})), make<v0::Tile>(x, Trial::ints({4})), make<v0::Tile>(x, Trial::ints({2, 1, 2, 1})),
                   make<v0::Tile>(x, Trial::ints({1, 5, 1})), make<v0::Tile>(x, Trial::ints({1, 0, 1})),
                   make<v3::Broadcast>(x, Trial::ints({5, 2, 4, 3}), BroadcastType::NUMPY),
                   make<v3::Broadcast>(row, Trial::ints({2, 3, 4}), Trial::ints({1}), BroadcastType::EXPLICIT),
                   make<v3::Broadcast>(x, Trial::ints({2, 4, 1}), BroadcastType::BIDIRECTIONAL),
                   make<v3::Broadcast>(t.in(type, {3, 4}), Trial::ints({2, 3, 4}), ov::op::BroadcastModeSpec(BroadcastType::PDPD, 1)),
                   make<v1::Broadcast>(row, Trial::ints({2, 5, 3}))});
    }
}

TEST(CudaMovement, ReversesAndRolls) {
    Trial t("reverse");
    const auto x = t.in(f32, {2, 3, 4});
    t.compare({make<v1::Reverse>(x, Trial::ints({0, 2}), v1::Reverse::Mode::INDEX),
               make<v1::Reverse>(x, Trial::constant(ov::element::boolean, {3}, {0, 1, 1}), v1::Reverse::Mode::MASK),
               make<v0::ReverseSequence>(x, t.given(i64, {2}, {3, 1}), 0, 1), make<v0::ReverseSequence>(x, t.given(i32, {4}, {1, 2, 0, 2}), -1, 0),
               make<v7::Roll>(x, Trial::ints({1, -5}), Trial::ints({0, -1})),
               make<v7::Roll>(x, t.given(i32, {3}, {3, 1, -2}), Trial::ints({1, 1, 2})), make<v7::Roll>(x, t.given(i32, {}, {3}), Trial::ints({1}))});
}

TEST(CudaMovement, BlocksAndSpace) {
    using D = v0::DepthToSpace::DepthToSpaceMode;
    using S = v0::SpaceToDepth::SpaceToDepthMode;
    Trial t("blocks");
    const auto depth = t.in(f32, {2, 12, 3, 2}), space = t.in(f32, {2, 3, 4, 6}), line = t.in(f32, {1, 6, 4});
    t.compare({make<v0::DepthToSpace>(depth, D::BLOCKS_FIRST, 2), make<v0::DepthToSpace>(depth, D::DEPTH_FIRST, 2),
               make<v0::SpaceToDepth>(space, S::BLOCKS_FIRST, 2), make<v0::SpaceToDepth>(space, S::DEPTH_FIRST, 2),
               make<v0::DepthToSpace>(line, D::DEPTH_FIRST, 3), make<v0::SpaceToDepth>(line, S::BLOCKS_FIRST, 2),
               make<v0::ShuffleChannels>(depth, 1, 3), make<v0::ShuffleChannels>(space, -1, 2)});
    Trial b("batch");
    const auto x = b.in(f32, {12, 3, 2, 4}), y = b.in(f32, {2, 3, 4, 5});
    b.compare({make<v1::BatchToSpace>(x, Trial::ints({1, 1, 2, 3}), Trial::ints({0, 0, 1, 0}), Trial::ints({0, 0, 0, 2})),
               make<v1::SpaceToBatch>(y, Trial::ints({1, 1, 2, 3}), Trial::ints({0, 0, 1, 0}), Trial::ints({0, 0, 1, 1})),
               make<v1::SpaceToBatch>(y, Trial::ints({1, 3, 1, 1}), Trial::ints({0, 0, 0, 0}), Trial::ints({0, 0, 0, 0}))});
}

TEST(CudaMovement, Patches) {
    for (const auto pad : {PadType::VALID, PadType::SAME_UPPER, PadType::SAME_LOWER}) {
        Trial t("patches");
        t.compare(make<v3::ExtractImagePatches>(t.in(f32, {2, 3, 7, 8}), ov::Shape{3, 2}, ov::Strides{2, 3}, ov::Shape{1, 2}, pad));
    }
    Trial t("col2im");
    t.compare({make<v15::Col2Im>(t.in(f32, {2, 12, 12}), Trial::ints({6, 5}), Trial::ints({2, 2}), ov::Strides{2, 1}, ov::Strides{1, 1},
                                 ov::Shape{1, 0}, ov::Shape{0, 0}),
               make<v15::Col2Im>(t.in(f32, {18, 9}), Trial::ints({7, 5}), Trial::ints({3, 3}), ov::Strides{2, 1}, ov::Strides{1, 2}, ov::Shape{0, 1},
                                 ov::Shape{0, 1})});
}

TEST(CudaMovement, Generators) {
    for (const auto& type : types()) {
        Trial t("one hot " + type.get_type_name());
        const auto on = t.in(type, {}, 1, 2), off = t.in(type, {}, 0, 0);
        t.compare({make<v1::OneHot>(t.in(i64, {2, 3}, 0, 5), Trial::scalar(4), on, off, 1),
                   make<v1::OneHot>(t.in(i32, {3}, 0, 5), Trial::scalar(3), on, off, -1),
                   make<v16::OneHot>(t.in(i64, {4}, -3, 3), Trial::scalar(3), on, off, 0, v16::OneHot::NegativeIndicesMode::NORMALIZE)});
        Trial s("shape " + type.get_type_name());
        const auto x = s.in(type, {2, 0, 5});
        s.compare({make<v0::ShapeOf>(x), make<v3::ShapeOf>(x, i32)});
    }
    Trial e("eye");
    e.compare({make<v9::Eye>(Trial::scalar(3), Trial::scalar(4), e.given(i64, {}, {1}), f32),
               make<v9::Eye>(Trial::scalar(3), Trial::scalar(4), Trial::ints({-1}), Trial::ints({2}), i32)});
    Trial p("promote");
    p.compare(make<v14::ConvertPromoteTypes>(p.in(f16, {3}), p.in(i32, {2}), true, true, f32));
}

}  // namespace
}  // namespace ai_vmm::cuda::test
