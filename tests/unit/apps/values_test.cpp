// SPDX-License-Identifier: Apache-2.0
#include "io/values.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "ai_vmm/error.hpp"

namespace ai_vmm::cli {
namespace {

float f16_to_f32(std::uint16_t bits) { return static_cast<float>(element_at(ElementType::f16, &bits, 0)); }
float bf16_to_f32(std::uint16_t bits) { return static_cast<float>(element_at(ElementType::bf16, &bits, 0)); }

template <ElementType type>
std::uint16_t bits_of(float value) {
    std::uint16_t bits = 0;
    store_element(type, &bits, 0, value);
    return bits;
}
constexpr auto f32_to_f16 = bits_of<ElementType::f16>;
constexpr auto f32_to_bf16 = bits_of<ElementType::bf16>;

TEST(Halves, EveryF16ComesBack) {
    for (unsigned bits = 0; bits < 0x10000; ++bits) {
        const float value = f16_to_f32(static_cast<std::uint16_t>(bits));
        if (std::isnan(value)) {
            EXPECT_TRUE(std::isnan(f16_to_f32(f32_to_f16(value))));
        } else {
            EXPECT_EQ(f32_to_f16(value), bits) << bits;
        }
    }
}

TEST(Halves, RoundToNearestEven) {
    EXPECT_EQ(f32_to_f16(1.0F), 0x3C00);
    EXPECT_EQ(f32_to_f16(65504.0F), 0x7BFF);
    EXPECT_EQ(f32_to_f16(65519.99F), 0x7BFF);
    EXPECT_EQ(f32_to_f16(65520.0F), 0x7C00);
    EXPECT_EQ(f32_to_f16(1.0F + 1.0F / 2048), 0x3C00);     // halfway, to even
    EXPECT_EQ(f32_to_f16(1.0F + 3.0F / 2048), 0x3C02);     // halfway, to even
    EXPECT_EQ(f32_to_f16(std::ldexp(1.0F, -25)), 0x0000);  // halfway to the least subnormal
    EXPECT_EQ(f32_to_f16(std::ldexp(1.5F, -25)), 0x0001);
    EXPECT_EQ(f32_to_bf16(1.0F), 0x3F80);
    EXPECT_EQ(f32_to_bf16(1.00390625F), 0x3F80);
    EXPECT_EQ(f32_to_bf16(1.01171875F), 0x3F82);
    EXPECT_TRUE(std::isnan(bf16_to_f32(f32_to_bf16(std::numeric_limits<float>::quiet_NaN()))));
    for (unsigned bits = 0; bits < 0x10000; ++bits) {
        const float value = bf16_to_f32(static_cast<std::uint16_t>(bits));
        if (std::isnan(value)) continue;
        EXPECT_EQ(f32_to_bf16(value), bits);
    }
}

TEST(Values, SmallFloatsAsTheirSpecificationsSay) {
    const auto decoded = [](ElementType type, unsigned bits) {
        Tensor tensor(type, {1});
        *static_cast<std::uint8_t*>(tensor.data()) = static_cast<std::uint8_t>(bits);
        return value_at(tensor, 0);
    };
    EXPECT_EQ(decoded(ElementType::f8e4m3, 0x7E), 448);
    EXPECT_TRUE(std::isnan(decoded(ElementType::f8e4m3, 0x7F)));
    EXPECT_EQ(decoded(ElementType::f8e4m3, 0x01), std::ldexp(1.0, -9));
    EXPECT_EQ(decoded(ElementType::f8e4m3fnuz, 0x7F), 240);
    EXPECT_TRUE(std::isnan(decoded(ElementType::f8e4m3fnuz, 0x80)));
    EXPECT_EQ(decoded(ElementType::f8e5m2, 0x7B), 57344);
    EXPECT_TRUE(std::isinf(decoded(ElementType::f8e5m2, 0x7C)));
    EXPECT_EQ(decoded(ElementType::f8e5m2fnuz, 0x7F), 57344);
    EXPECT_EQ(decoded(ElementType::f8e8m0, 127), 1);
    EXPECT_EQ(decoded(ElementType::f4e2m1, 0x7), 6);
    EXPECT_EQ(decoded(ElementType::f4e2m1, 0x1), 0.5);
    EXPECT_EQ(decoded(ElementType::f4e2m1, 0xF), -6);
}

TEST(Values, CastKeepsOrRefuses) {
    const Tensor numbers = Tensor::from<std::int64_t>({3}, {-1, 0, 127});
    EXPECT_EQ(cast(numbers, ElementType::i8).as<std::int8_t>()[0], -1);
    EXPECT_EQ(cast(numbers, ElementType::f16).type(), ElementType::f16);
    EXPECT_THROW(static_cast<void>(cast(numbers, ElementType::u8)), Error);
    EXPECT_THROW(static_cast<void>(cast(Tensor::from<float>({1}, {0.5F}), ElementType::i32)), Error);
    EXPECT_THROW(static_cast<void>(cast(Tensor::from<float>({1}, {NAN}), ElementType::i32)), Error);
    EXPECT_THROW(static_cast<void>(cast(numbers, ElementType::string)), Error);
    EXPECT_THROW(static_cast<void>(cast(Tensor(ElementType::string, {1}), ElementType::f32)), Error);
    const std::int64_t exact = (std::int64_t{1} << 62) + 1;
    EXPECT_EQ(cast(Tensor::from<std::int64_t>({}, {exact}), ElementType::u64).as<std::uint64_t>()[0], static_cast<std::uint64_t>(exact));
    EXPECT_THROW(static_cast<void>(cast(Tensor::from<std::uint64_t>({}, {~std::uint64_t{0}}), ElementType::i64)), Error);
    EXPECT_THROW(static_cast<void>(cast(Tensor::from<std::int64_t>({}, {-1}), ElementType::u64)), Error);
}

TEST(Values, TextFillsTheShape) {
    const TensorInfo row{.name = "x", .type = ElementType::f32, .shape = {1, 3}};
    EXPECT_EQ(tensor_from_text("1.5, 2,+3e1", row).as<float>()[2], 30);
    EXPECT_THROW(static_cast<void>(tensor_from_text("1,2", row)), Error);
    EXPECT_THROW(static_cast<void>(tensor_from_text("1,,2", row)), Error);
    EXPECT_THROW(static_cast<void>(tensor_from_text("1,2,x", row)), Error);
    EXPECT_EQ(tensor_from_text("1,2,3,4", {.name = "x", .type = ElementType::i64, .shape = {-1, -1}}).shape(), (Shape{1, 4}));
    EXPECT_EQ(tensor_from_text("1,2,3,4", {.name = "x", .type = ElementType::i64, .shape = {-1, 2}}).shape(), (Shape{2, 2}));
    EXPECT_THROW(static_cast<void>(tensor_from_text("256", {.name = "x", .type = ElementType::u8, .shape = {1}})), Error);
    EXPECT_THROW(static_cast<void>(tensor_from_text("1.5", {.name = "x", .type = ElementType::i32, .shape = {1}})), Error);
    EXPECT_EQ(tensor_from_text("true", {.name = "x", .type = ElementType::boolean, .shape = {}}).element_count(), 1U);
    EXPECT_EQ(tensor_from_text("a, b", {.name = "x", .type = ElementType::string, .shape = {-1}}).as<std::string>()[0], "a, b");
}

TEST(Values, NumbersAreToldFromNames) {
    for (const char* text : {"1", "-1.5e-3", "1,2,3", "+1, 2", "true,false", "nan", "inf"}) EXPECT_TRUE(looks_like_numbers(text)) << text;
    for (const char* text : {"", "1,", ",1", "a", "1.npy", "1 2", "0x10", "infinite"}) EXPECT_FALSE(looks_like_numbers(text)) << text;
}

TEST(Values, SummaryCountsWhatIsNoNumber) {
    const Summary summary = summarise(Tensor::from<float>({5}, {1, 3, NAN, INFINITY, -1}));
    EXPECT_EQ(summary.nan, 1U);
    EXPECT_EQ(summary.infinite, 1U);
    EXPECT_EQ(summary.min, -1);
    EXPECT_EQ(summary.max, 3);
    EXPECT_DOUBLE_EQ(summary.mean, 1);
    EXPECT_NEAR(summary.deviation, std::sqrt(8.0 / 3), 1e-12);
    EXPECT_EQ(preview(Tensor::from<std::int32_t>({4}, {1, 2, 3, 4}), 2), "[1, 2, … 2 more]");
}

TEST(Values, TopKOrdersWithinARow) {
    const Tensor scores = Tensor::from<float>({2, 4, 1}, {0, 5, 5, NAN, 1, 2, 3, 4});
    const auto first = top_k(scores, 0, 3, false);
    ASSERT_EQ(first.size(), 3U);
    EXPECT_EQ(first[0].index, 1U);
    EXPECT_EQ(first[1].index, 2U);
    EXPECT_EQ(first[2].index, 0U);
    EXPECT_EQ(top_k(scores, 1, 1, false)[0].index, 3U);
    EXPECT_TRUE(top_k(scores, 2, 1, false).empty());
    EXPECT_EQ(top_k(scores, 1, 100, false).size(), 4U);
    double sum = 0;
    for (const Ranked& entry : top_k(scores, 1, 4, true)) sum += entry.score;
    EXPECT_NEAR(sum, 1, 1e-12);
}

TEST(Values, CompareSeesEachKindOfDifference) {
    const Tensor reference = Tensor::from<float>({1, 3}, {3, 4, 0});
    EXPECT_EQ(compare(reference, reference.clone()).relative_error, 0);
    const Difference near = compare(Tensor::from<float>({1, 3}, {3, 4, 0.5F}), reference);
    EXPECT_NEAR(near.relative_error, 0.1, 1e-7);
    EXPECT_NEAR(near.max_scaled_error, 0.125, 1e-7);
    EXPECT_TRUE(near.same_top);
    EXPECT_FALSE(compare(Tensor::from<float>({1, 3}, {4.1F, 4, 0}), reference).same_top);
    EXPECT_FALSE(compare(reference, Tensor::from<float>({3}, {3, 4, 0})).comparable);
    EXPECT_EQ(compare(Tensor::from<std::int32_t>({2}, {1, 2}), Tensor::from<std::int32_t>({2}, {1, 3})).unequal_exact, 1U);
    EXPECT_TRUE(std::isinf(compare(Tensor::from<float>({1}, {NAN}), Tensor::from<float>({1}, {1})).max_scaled_error));
    EXPECT_EQ(compare(Tensor::from<float>({1}, {NAN}), Tensor::from<float>({1}, {NAN})).relative_error, 0);
}

}  // namespace
}  // namespace ai_vmm::cli
