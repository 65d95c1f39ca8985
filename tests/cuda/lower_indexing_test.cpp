// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include "cuda/trial.hpp"

namespace ai_vmm::cuda::test {
namespace {

using namespace ov::op;
using ov::element::boolean;
using ov::element::f16;
using ov::element::f32;
using ov::element::f64;
using ov::element::i32;
using ov::element::i64;
using ov::element::u8;

/// Different values, no two equal but where the type is narrow.
std::vector<double> shuffled(std::size_t count, std::size_t stride, double scale = 1) {
    std::vector<double> all;
    for (std::size_t k = 0; k < count; ++k) all.push_back(scale * static_cast<double>(k * stride % count));
    return all;
}

TEST(CudaIndexing, Gathers) {
    for (const auto& type : number_types()) {
        Trial t("gather " + type.get_type_name());
        const auto x = t.in(type, {3, 4, 5});
        const auto at = t.in(i64, {2, 3}, -3, 2), out_of_range = t.given(i32, {6}, {0, -4, 3, -5, 4, 1}), batched = t.in(i32, {3, 2}, -4, 3);
        t.compare({make<v8::Gather>(x, at, Trial::scalar(0)), make<v8::Gather>(x, at, Trial::scalar(-1)),
                   make<v8::Gather>(x, out_of_range, Trial::scalar(1)), make<v8::Gather>(x, batched, Trial::scalar(1), 1),
                   make<v8::Gather>(x, batched, Trial::scalar(2), -1), make<v8::Gather>(x, Trial::scalar(-2), Trial::scalar(1)),
                   make<v8::Gather>(x, Trial::ints({3, 1}), Trial::scalar(1)), make<v8::Gather>(x, Trial::ints({0, 3, 1}), Trial::scalar(1)),
                   make<v1::Gather>(x, t.in(u8, {2}, 0, 2), Trial::scalar(0)), make<v7::Gather>(x, t.in(i32, {}, 0, 3), Trial::scalar(1))});
    }
    Trial t("elements");
    const auto x = t.in(f32, {3, 4, 5});
    t.compare({make<v6::GatherElements>(x, t.in(i64, {3, 2, 5}, -4, 3), 1), make<v6::GatherElements>(x, t.in(i32, {3, 4, 9}, 0, 4), -1),
               make<v6::GatherElements>(x, t.in(i32, {3, 0, 5}, 0, 4), 1)});
    Trial n("nd");
    const auto y = n.in(f16, {3, 4, 5});
    n.compare({make<v8::GatherND>(y, n.in(i32, {2, 2}, -3, 2)), make<v8::GatherND>(y, n.in(i64, {6, 3}, 0, 2)),
               make<v8::GatherND>(y, n.in(i32, {3, 2, 1}, 0, 3), 1), make<v8::GatherND>(y, n.in(i32, {3, 4, 2, 1}, 0, 4), 2),
               make<v5::GatherND>(y, n.in(i32, {3, 4, 1}, 0, 4), 2), make<v8::GatherND>(y, n.in(i32, {1}, 0, 2))});
}

TEST(CudaIndexing, GatherTree) {
    for (const auto& type : {f32, i32}) {
        Trial t("tree");
        const auto steps = t.in(type, {6, 3, 4}, 1, 9), parents = t.in(type, {6, 3, 4}, 0, 3);
        if (type == f32) continue;
        t.compare(make<v1::GatherTree>(steps, parents, t.given(type, {3}, {6, 4, 1}), t.given(type, {}, {7})));
    }
}

TEST(CudaIndexing, ScatterUpdates) {
    for (const auto& type : number_types()) {
        Trial t("update " + type.get_type_name());
        const auto x = t.in(type, {3, 4, 2});
        t.compare({make<v3::ScatterUpdate>(x, t.given(i64, {3}, {2, 0, 2}), t.in(type, {3, 3, 2}), Trial::scalar(1)),
                   make<v3::ScatterUpdate>(x, t.given(i32, {2}, {2, 0}), t.in(type, {2, 4, 2}), Trial::scalar(0)),
                   make<v3::ScatterUpdate>(x, t.given(i32, {1}, {1}), t.in(type, {3, 4, 1}), Trial::scalar(-1))});
        Trial e("elements " + type.get_type_name());
        const auto y = e.in(type, {3, 4, 2});
        e.compare({make<v3::ScatterElementsUpdate>(y, e.in(i64, {2, 3, 2}, 0, 3), e.in(type, {2, 3, 2}), Trial::scalar(1)),
                   make<v12::ScatterElementsUpdate>(y, e.in(i64, {3, 4, 5}, -2, 1), e.in(type, {3, 4, 5}), Trial::scalar(2))});
        Trial n("nd " + type.get_type_name());
        // No index twice: which of two updates stays is nobody's promise, and OpenVINO's threads differ from run to run.
        const auto z = n.in(type, {5, 4, 2});
        n.compare({make<v3::ScatterNDUpdate>(z, n.given(i64, {4, 2}, {0, 1, 2, 3, 4, 0, 1, 1}), n.in(type, {4, 2})),
                   make<v3::ScatterNDUpdate>(z, n.given(i32, {2, 2, 1}, {3, 0, 4, 1}), n.in(type, {2, 2, 4, 2})),
                   make<v3::ScatterNDUpdate>(z, n.given(i32, {5, 3}, {0, 0, 0, 1, 2, 1, 4, 3, 0, 2, 2, 1, 3, 0, 1}), n.in(type, {5}))});
    }
}

/// OpenVINO's evaluation takes the second index's updates from the wrong place; its CPU plugin and the specification agree with this.
TEST(CudaIndexing, ScatterUpdateByAMatrix) {
    Trial t("matrix");
    const auto x = t.given(f32, {3, 2}, {0, 1, 2, 3, 4, 5});
    t.expect({make<v3::ScatterUpdate>(x, t.given(i32, {2, 1}, {2, 0}), t.given(f32, {2, 1, 2}, {10, 11, 12, 13}), Trial::scalar(0))},
             {tensor(f32, {3, 2}, {12, 13, 2, 3, 10, 11})});
}

TEST(CudaIndexing, ScatterReductions) {
    using E = v12::ScatterElementsUpdate::Reduction;
    using N = v15::ScatterNDUpdate::Reduction;
    for (const auto& type : {f32, f16, f64, i32, i64, u8}) {
        for (const auto reduction : {E::SUM, E::PROD, E::MIN, E::MAX, E::MEAN}) {
            for (const bool with_data : {true, false}) {
                Trial t("elements " + type.get_type_name());
                const auto x = t.in(type, {3, 4, 2}, 1, 3);
                t.compare({make<v12::ScatterElementsUpdate>(x, t.in(i64, {2, 6, 2}, -4, 3), t.in(type, {2, 6, 2}, 1, 3), Trial::scalar(1), reduction,
                                                            with_data),
                           make<v12::ScatterElementsUpdate>(x, t.in(i32, {5, 1, 2}, 0, 2), t.in(type, {5, 1, 2}, 1, 3), Trial::scalar(0), reduction,
                                                            with_data)},
                          4e-6);
            }
        }
        for (const auto reduction : {N::SUM, N::SUB, N::PROD, N::MIN, N::MAX}) {
            Trial t("nd " + type.get_type_name());
            const auto x = t.in(type, {3, 4, 2}, 1, 3);
            t.compare({make<v15::ScatterNDUpdate>(x, t.in(i64, {4, 2}, 0, 2), t.in(type, {4, 2}, 1, 3), reduction),
                       make<v15::ScatterNDUpdate>(x, t.in(i64, {7, 3}, 0, 1), t.in(type, {7}, 1, 3), reduction)},
                      4e-6);
        }
    }
}

TEST(CudaIndexing, EmbeddingBags) {
    for (const auto& type : {f32, f16, f64, i32}) {
        Trial t("bags " + type.get_type_name());
        const auto table = t.in(type, {5, 3, 2});
        const auto at = t.in(i32, {6}, 0, 4), offsets = t.given(i32, {4}, {0, 2, 2, 5}), weights = t.in(type, {6}, 1, 2);
        const auto segments = t.given(i32, {6}, {0, 0, 2, 2, 2, 4});
        const auto instead = t.given(i32, {}, {3}), nothing = t.given(i32, {}, {-1});
        const auto five = Trial::constant(i32, {}, {5});
        t.compare({make<v3::EmbeddingBagOffsetsSum>(table, at, offsets), make<v3::EmbeddingBagOffsetsSum>(table, at, offsets, instead, weights),
                   make<v3::EmbeddingBagOffsetsSum>(table, at, offsets, instead), make<v3::EmbeddingSegmentsSum>(table, at, segments, five),
                   make<v3::EmbeddingSegmentsSum>(table, at, segments, five, instead),
                   make<v3::EmbeddingSegmentsSum>(table, at, segments, five, instead, weights),
                   make<v3::EmbeddingBagPackedSum>(table, t.in(i32, {2, 3}, 0, 4)),
                   make<v3::EmbeddingBagPackedSum>(table, t.in(i64, {2, 3}, 0, 4), t.in(type, {2, 3}, 1, 2)),
                   make<v15::EmbeddingBagOffsets>(table, at, offsets, nothing, v15::EmbeddingBagOffsets::Reduction::SUM)});
        if (type != f32) continue;
        Trial m("means");
        const auto rows = m.in(type, {5, 2});
        m.compare(
            {make<v15::EmbeddingBagOffsets>(rows, m.in(i32, {6}, 0, 4), m.given(i32, {3}, {0, 2, 5}), v15::EmbeddingBagOffsets::Reduction::MEAN),
             make<v15::EmbeddingBagPacked>(rows, m.in(i32, {2, 3}, 0, 4), v15::EmbeddingBagPacked::Reduction::MEAN)});
    }
}

TEST(CudaIndexing, Searches) {
    for (const auto& type : {f32, f16, i32, i64, u8}) {
        for (const bool right : {true, false}) {
            Trial t("bucketize " + type.get_type_name());
            t.compare({make<v3::Bucketize>(t.in(type, {3, 7}, 0, 9), t.given(type, {4}, {1, 3, 5, 8}), i64, right),
                       make<v3::Bucketize>(t.in(type, {3}, 0, 9), t.given(type, {0}, std::vector<double>{}), i32, right)});
            Trial s("sorted " + type.get_type_name());
            const auto edges = s.given(type, {2, 5}, {1, 2, 2, 4, 9, 0, 1, 2, 7, 7}), line = s.given(type, {4}, {1, 2, 2, 6});
            s.compare({make<v15::SearchSorted>(edges, s.in(type, {2, 6}, 0, 9), right),
                       make<v15::SearchSorted>(line, s.in(type, {3, 2, 2}, 0, 9), right, i32)});
        }
    }
}

TEST(CudaIndexing, CumSums) {
    for (const auto& type : number_types()) {
        for (const bool exclusive : {false, true}) {
            for (const bool reverse : {false, true}) {
                Trial t("cumsum " + type.get_type_name());
                const auto x = t.in(type, {3, 5, 4});
                ov::OutputVector results{make<v0::CumSum>(x, Trial::scalar(1), exclusive, reverse),
                                         make<v0::CumSum>(x, Trial::scalar(-1), exclusive, reverse)};
                // OpenVINO adds in the element type, which long lines of narrow floats are too much for.
                if (type != f16 && type != ov::element::bf16) {
                    results.push_back(make<v0::CumSum>(t.in(type, {1000}, 0, 1), Trial::scalar(0), exclusive, reverse));
                    results.push_back(make<v0::CumSum>(t.in(type, {2, 131, 2}, 0, 1), Trial::scalar(1), exclusive, reverse));
                }
                t.compare(results, 1e-5);
            }
        }
    }
}

TEST(CudaIndexing, TopK) {
    for (const auto& type : {f32, f16, f64, i32, i64, u8}) {
        for (const auto mode : {TopKMode::MAX, TopKMode::MIN}) {
            for (const auto sort : {TopKSortType::SORT_VALUES, TopKSortType::SORT_INDICES}) {
                Trial t("topk " + type.get_type_name());
                const auto x = t.in(type, {3, 7, 4}, -2, 4);
                ov::OutputVector results;
                for (const auto& [axis, k] : std::vector<std::pair<int, int>>{{1, 3}, {1, 7}, {0, 1}, {-1, 2}}) {
                    const auto node = std::make_shared<v11::TopK>(x, Trial::scalar(k), axis, mode, sort, axis == 0 ? i64 : i32, true);
                    results.push_back(node->output(0));
                    results.push_back(node->output(1));
                }
                t.compare(results);
            }
        }
    }
    Trial t("long lines");
    const auto x = t.given(f32, {2, 5003}, shuffled(10006, 3571)), ties = t.in(i32, {3000}, 0, 4);
    ov::OutputVector results;
    for (const std::int64_t k : {1, 5, 700, 5003}) {
        for (const auto sort : {TopKSortType::SORT_VALUES, TopKSortType::SORT_INDICES}) {
            const auto node = std::make_shared<v11::TopK>(x, Trial::scalar(k), 1, TopKMode::MAX, sort, i32, true);
            results.push_back(node->output(0));
            results.push_back(node->output(1));
        }
    }
    const auto node = std::make_shared<v11::TopK>(ties, Trial::scalar(900), 0, TopKMode::MIN, TopKSortType::SORT_VALUES, i64, true);
    results.push_back(node->output(0));
    results.push_back(node->output(1));
    t.compare(results);
}

TEST(CudaIndexing, TopKPutsNanFirst) {
    Trial t("nan");
    const double nan = std::nan("");
    const auto x = t.given(f32, {6}, {1, nan, 3, nan, -1, 2});
    const auto most = std::make_shared<v11::TopK>(x, Trial::scalar(4), 0, TopKMode::MAX, TopKSortType::SORT_VALUES);
    const auto least = std::make_shared<v11::TopK>(x, Trial::scalar(5), 0, TopKMode::MIN, TopKSortType::SORT_VALUES);
    t.expect({most->output(1), least->output(1)}, {tensor(i32, {4}, {1, 3, 2, 5}), tensor(i32, {5}, {4, 0, 5, 2, 1})});
}

TEST(CudaIndexing, Segments) {
    for (const auto& type : {f32, i32}) {
        for (const auto mode : {FillMode::ZERO, FillMode::LOWEST}) {
            Trial t("segments " + type.get_type_name());
            t.compare(make<v16::SegmentMax>(t.in(type, {5, 3}), Trial::constant(i32, {5}, {0, 0, 2, 2, 5}), Trial::constant(i32, {}, {7}), mode));
        }
    }
}

TEST(CudaIndexing, GreedyDecoders) {
    for (const bool merge : {true, false}) {
        Trial t("ctc");
        const auto lengths = std::make_shared<v6::CTCGreedyDecoderSeqLen>(t.in(f32, {3, 9, 4}, 0, 1), t.given(i32, {3}, {9, 4, 6}), merge, i32, i64);
        const auto blank =
            std::make_shared<v6::CTCGreedyDecoderSeqLen>(t.in(f32, {2, 9, 3}, 0, 1), t.given(i32, {2}, {9, 7}), Trial::constant(i32, {}, {0}), merge);
        std::vector<double> mask(18, 1);
        mask[17] = mask[15] = mask[13] = 0;
        t.compare({lengths->output(0), lengths->output(1), blank->output(0), blank->output(1),
                   make<v0::CTCGreedyDecoder>(t.in(f32, {9, 2, 4}, 0, 1), t.given(f32, {9, 2}, mask), merge)});
    }
}

}  // namespace
}  // namespace ai_vmm::cuda::test
