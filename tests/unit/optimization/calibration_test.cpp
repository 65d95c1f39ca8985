// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <set>

#include "ai_vmm/elements.hpp"
#include "ai_vmm/error.hpp"
#include "optimization/equivalence.hpp"

namespace ai_vmm::optimization {
namespace {

TensorInfo info(std::string name, ElementType type, Shape shape) { return {.name = std::move(name), .type = type, .shape = std::move(shape)}; }

std::vector<std::vector<Tensor>> make(std::vector<TensorInfo> infos, const ModelProfile& profile = {}, int count = 4,
                                      std::vector<std::pair<std::string, Shape>> shapes = {}) {
    return make_calibration_inputs(infos, profile, shapes, count, 1);
}

std::pair<double, double> range_of(const Tensor& tensor) {
    double low = element_at(tensor.type(), tensor.data(), 0);
    double high = low;
    for (std::size_t i = 0; i < tensor.element_count(); ++i) {
        low = std::min(low, element_at(tensor.type(), tensor.data(), i));
        high = std::max(high, element_at(tensor.type(), tensor.data(), i));
    }
    return {low, high};
}

bool same_bytes(const Tensor& a, const Tensor& b) { return a.size_bytes() == b.size_bytes() && std::memcmp(a.data(), b.data(), a.size_bytes()) == 0; }

TEST(Calibration, IsDeterministicAndSetsDiffer) {
    const auto a = make({info("x", ElementType::f32, {1, 64}), info("ids", ElementType::i64, {1, 64})});
    const auto b = make({info("x", ElementType::f32, {1, 64}), info("ids", ElementType::i64, {1, 64})});
    ASSERT_EQ(a.size(), 4U);
    for (std::size_t set = 0; set < a.size(); ++set) {
        for (std::size_t i = 0; i < 2; ++i) {
            EXPECT_TRUE(same_bytes(a[set][i], b[set][i]));
            for (std::size_t other = 0; other < set; ++other) EXPECT_FALSE(same_bytes(a[set][i], a[other][i]));
        }
    }
    const std::vector infos{info("x", ElementType::f32, {1, 64}), info("ids", ElementType::i64, {1, 64})};
    const std::vector<Tensor> alone = make_calibration_set(infos, {}, {}, 2, 1);
    ASSERT_EQ(alone.size(), 2U);
    for (std::size_t i = 0; i < 2; ++i) EXPECT_TRUE(same_bytes(alone[i], a[2][i]));
    const auto seeded = make_calibration_inputs(std::vector{info("x", ElementType::f32, {1, 64})}, {}, {}, 1, 2);
    EXPECT_FALSE(same_bytes(seeded[0][0], a[0][0]));
}

TEST(Calibration, ImagesCoverTheUsualRanges) {
    const auto sets = make({info("image", ElementType::f32, {1, 3, 32, 32})});
    EXPECT_LE(range_of(sets[0][0]).second, 1);
    EXPECT_LT(range_of(sets[1][0]).first, 0);
    EXPECT_GT(range_of(sets[2][0]).second, 100);
    const auto bytes = make({info("image", ElementType::u8, {1, 32, 32, 3})});
    for (const auto& set : bytes) EXPECT_GT(range_of(set[0]).second, 150);
}

TEST(Calibration, IdsStayInTheSmallestTableAndReachBeyondBf16) {
    ModelProfile profile;
    const auto table = [](std::int64_t rows, std::int64_t width) {
        return NodeProfile{.name = "emb", .type = "Gather", .precision = "f32", .bytes_written = width * 4, .parameters = rows * width};
    };
    profile.nodes = {table(1000, 32), table(600, 16), table(2, 32)};
    std::set<std::int64_t> seen;
    for (const auto& set : make({info("user", ElementType::i64, {1}), info("item", ElementType::i64, {1})}, profile, 64)) {
        for (const Tensor& tensor : set) {
            const std::int64_t id = tensor.as<std::int64_t>()[0];
            EXPECT_GE(id, 0);
            EXPECT_LT(id, 600);
            seen.insert(id);
        }
    }
    EXPECT_TRUE(seen.contains(257));
    EXPECT_TRUE(std::ranges::any_of(seen, [](std::int64_t id) { return id > 300 && id % 2 == 1; }));
}

TEST(Calibration, TablesOfColumns) {
    ModelProfile profile;  // [1,30] ids, split into 30 columns, each with a table of 16 rows of 4
    profile.nodes.assign(30, NodeProfile{.name = "emb", .type = "Gather", .precision = "f32", .bytes_written = 16, .parameters = 64});
    for (const auto& set : make({info("ids", ElementType::i64, {-1, 30})}, profile)) EXPECT_LT(range_of(set[0]).second, 16);
}

/// A recommender in bf16 gave user 257 the score of user 256, as ids pass through floats there.
TEST(Calibration, IdsThatPassThroughBf16AreFoundOut) {
    ModelProfile profile;
    profile.nodes = {NodeProfile{.name = "emb", .type = "Gather", .precision = "f32", .bytes_written = 32, .parameters = 8000}};
    const TensorInfo output{.name = "score", .type = ElementType::f32, .shape = {1}};
    const Tolerance tolerance = tolerance_for(ModelCategory::recommendation_system, {&output, 1});
    const auto score_of = [](double id) { return Tensor::from<float>({1}, {static_cast<float>(std::sin(id * 12.9898))}); };
    int found = 0;
    for (const auto& set : make({info("user", ElementType::i64, {1})}, profile)) {
        const double id = element_at(ElementType::i64, set[0].data(), 0);
        std::uint16_t rounded = 0;
        store_element(ElementType::bf16, &rounded, 0, id);
        const Tensor exact = score_of(id);
        const Tensor lossy = score_of(bf16_to_double(rounded));
        found += compare({&output, 1}, {&lossy, 1}, {&exact, 1}, tolerance).agrees ? 0 : 1;
    }
    EXPECT_GE(found, 2);
}

TEST(Calibration, UnknownVocabularyGetsSmallIds) {
    for (const auto& set : make({info("input_ids", ElementType::i64, {1, 200})})) EXPECT_LT(range_of(set[0]).second, 100);
    for (const auto& set : make({info("bytes", ElementType::i32, {1, 200})})) EXPECT_LT(range_of(set[0]).second, 256);
    EXPECT_GT(range_of(make({info("bytes", ElementType::i32, {1, 200})})[0][0]).second, 200);
    ModelProfile no_table;
    no_table.nodes = {NodeProfile{.name = "m", .type = "MatMul", .parameters = 100}};
    EXPECT_GT(range_of(make({info("counts", ElementType::i64, {1, 200})}, no_table)[0][0]).second, 257);
}

TEST(Calibration, RolesByName) {
    const auto sets =
        make({info("attention_mask", ElementType::i64, {1, 7}), info("token_type_ids", ElementType::i64, {1, 7}),
              info("position_ids", ElementType::i64, {1, 7}), info("sr", ElementType::i64, {}), info("state", ElementType::f32, {2, 1, 8}),
              info("lengths", ElementType::i32, {1}), info("input_ids", ElementType::i64, {1, 7}), info("beam_idx", ElementType::i32, {1})});
    for (const auto& set : sets) {
        EXPECT_EQ(range_of(set[0]), std::make_pair(1.0, 1.0));
        EXPECT_EQ(range_of(set[1]), std::make_pair(0.0, 0.0));
        EXPECT_EQ(range_of(set[2]), std::make_pair(0.0, 6.0));
        EXPECT_TRUE(set[3].as<std::int64_t>()[0] == 16000 || set[3].as<std::int64_t>()[0] == 8000);
        EXPECT_EQ(range_of(set[4]), std::make_pair(0.0, 0.0));
        EXPECT_EQ(set[5].as<std::int32_t>()[0], 7);
        EXPECT_EQ(set[7].as<std::int32_t>()[0], 0);
    }
}

TEST(Calibration, SwitchesTakeTheValuesThatTheModelKnows) {
    ModelProfile profile;
    profile.compared_values = {{"mode", {7, -3}}, {"sr", {24000}}};
    std::set<std::int64_t> modes;
    std::set<std::int64_t> rates;
    std::set<std::pair<std::size_t, std::int64_t>> kinds;  // of the other inputs, with the mode beside them
    const auto sets = make({info("mode", ElementType::i64, {}), info("sr", ElementType::i32, {1}), info("x", ElementType::f32, {4})}, profile, 8);
    for (std::size_t set = 0; set < sets.size(); ++set) {
        modes.insert(sets[set][0].as<std::int64_t>()[0]);
        rates.insert(sets[set][1].as<std::int32_t>()[0]);
        kinds.emplace(set % 4, sets[set][0].as<std::int64_t>()[0]);
    }
    EXPECT_EQ(sets[0][0].as<std::int64_t>()[0], 7);
    EXPECT_EQ(sets[0][1].as<std::int32_t>()[0], 24000);
    EXPECT_EQ(modes, (std::set<std::int64_t>{7, -3}));
    EXPECT_EQ(rates, (std::set<std::int64_t>{24000, 16000, 8000}));
    EXPECT_EQ(kinds.size(), 8U);
}

TEST(Calibration, DynamicDimensions) {
    const std::vector<TensorInfo> infos{info("x", ElementType::f32, {-1, -1, 7})};
    EXPECT_EQ(make(infos)[0][0].shape(), (Shape{1, 16, 7}));
    ModelProfile profile;
    profile.assumed_shapes = {{"x", {1, 512, 7}}};
    EXPECT_EQ(make(infos, profile)[0][0].shape(), (Shape{1, 512, 7}));
    EXPECT_EQ(make(infos, profile, 1, {{"x", {2, -1, 7}}})[0][0].shape(), (Shape{2, 512, 7}));
    EXPECT_EQ(make({info("image", ElementType::f32, {-1, 3, -1, -1})})[0][0].shape(), (Shape{1, 3, 224, 224}));
}

TEST(Calibration, RefusesShapesThatDoNotFit) {
    const std::vector<TensorInfo> infos{info("x", ElementType::f32, {-1, 4})};
    const auto code_of = [&](std::vector<TensorInfo> of, std::vector<std::pair<std::string, Shape>> shapes) {
        try {
            (void)make(std::move(of), {}, 1, std::move(shapes));
        } catch (const Error& error) {
            return error.code();
        }
        return ErrorCode::ok;
    };
    EXPECT_EQ(code_of(infos, {{"x", {1}}}), ErrorCode::invalid_argument);
    EXPECT_EQ(code_of(infos, {{"x", {1, 5}}}), ErrorCode::invalid_argument);
    EXPECT_EQ(code_of(infos, {{"x", {3, 4}}}), ErrorCode::ok);
    TensorInfo unranked = info("u", ElementType::f32, {});
    unranked.rank_known = false;
    EXPECT_EQ(code_of({unranked}, {}), ErrorCode::invalid_argument);
    EXPECT_EQ(code_of({unranked}, {{"u", {2, 2}}}), ErrorCode::ok);
}

TEST(CalibrationProperty, EveryTypeAndShapeIsMadeAndFinite) {
    ASSERT_TRUE(rc::check([] {
        const auto type = static_cast<ElementType>(*rc::gen::inRange(1, static_cast<int>(ElementType::string) + 1));
        const Shape shape = *rc::gen::container<std::vector<std::int64_t>>(*rc::gen::inRange(0, 5), rc::gen::inRange<std::int64_t>(-1, 9));
        const auto name = *rc::gen::element<std::string>("x", "input_ids", "mask", "sr", "state", "positions", "", "audio", "image");
        const auto sets = make({info(name, type, shape)}, {}, 5);
        RC_ASSERT(sets.size() == 5U);
        for (const auto& set : sets) {
            RC_ASSERT(set.size() == 1U);
            RC_ASSERT(set[0].type() == type);
            RC_ASSERT(set[0].shape().size() == shape.size());
            RC_ASSERT(set[0].shape() == sets[0][0].shape());
            for (std::size_t i = 0; i < set[0].element_count(); ++i) RC_ASSERT(std::isfinite(element_at(type, set[0].data(), i)));
        }
    }));
}

}  // namespace
}  // namespace ai_vmm::optimization
