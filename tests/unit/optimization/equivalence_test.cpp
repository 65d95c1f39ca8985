// SPDX-License-Identifier: Apache-2.0
#include "optimization/equivalence.hpp"
#include "ai_vmm/elements.hpp"

#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <cmath>
#include <cstring>
#include <limits>

namespace ai_vmm::optimization {
namespace {

constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
constexpr float kInf = std::numeric_limits<float>::infinity();

constexpr ElementType kAllTypes[] = {
    ElementType::boolean,    ElementType::bf16,      ElementType::f16,        ElementType::f32,    ElementType::f64,    ElementType::f8e4m3,
    ElementType::f8e4m3fnuz, ElementType::f8e5m2,    ElementType::f8e5m2fnuz, ElementType::f8e8m0, ElementType::f4e2m1, ElementType::nf4,
    ElementType::i2,         ElementType::i4,        ElementType::i8,         ElementType::i16,    ElementType::i32,    ElementType::i64,
    ElementType::u1,         ElementType::u2,        ElementType::u4,         ElementType::u8,     ElementType::u16,    ElementType::u32,
    ElementType::u64,        ElementType::complex64, ElementType::complex128, ElementType::string};

Agreement compare_one(const Tensor& output, const Tensor& reference, const Tolerance& tolerance = {}) {
    const TensorInfo info{.name = "y", .type = output.type(), .shape = output.shape()};
    return compare({&info, 1}, {&output, 1}, {&reference, 1}, tolerance);
}

Tensor floats(std::initializer_list<float> values) { return Tensor::from<float>({static_cast<std::int64_t>(values.size())}, values); }

TEST(Compare, EqualOutputsAgree) {
    const Agreement agreement = compare_one(floats({1, 2, 3}), floats({1, 2, 3}));
    EXPECT_TRUE(agreement.agrees);
    EXPECT_EQ(agreement.relative_error, 0);
    EXPECT_EQ(agreement.reason, "");
}

TEST(Compare, RelativeErrorDecides) {
    EXPECT_TRUE(compare_one(floats({1.005F, 2, 3}), floats({1, 2, 3})).agrees);
    const Agreement agreement = compare_one(floats({1.2F, 2, 3}), floats({1, 2, 3}));
    EXPECT_FALSE(agreement.agrees);
    EXPECT_NEAR(agreement.relative_error, 0.2 / std::sqrt(14.0), 1e-6);
    EXPECT_NEAR(agreement.max_absolute_error, 0.2, 1e-6);
    EXPECT_NE(agreement.reason.find("output 'y': relative error 0.0535, 0.0025 allowed"), std::string::npos) << agreement.reason;
}

TEST(Compare, OneWrongElementOfManyIsFound) {
    Tensor reference(ElementType::f32, {1, 1, 100, 1000});
    for (float& value : reference.as<float>()) value = 1;
    Tensor output = reference.clone();
    output.as<float>()[77] = 1.5F;  // relative error of the whole: 0.0016
    const Agreement agreement = compare_one(output, reference);
    EXPECT_FALSE(agreement.agrees);
    EXPECT_NE(agreement.reason.find("element 77"), std::string::npos) << agreement.reason;
}

TEST(Compare, NonFiniteAgreesOnlyWithItsLike) {
    EXPECT_TRUE(compare_one(floats({kNaN, kInf, -kInf, 1}), floats({kNaN, kInf, -kInf, 1})).agrees);
    EXPECT_FALSE(compare_one(floats({kNaN, 1}), floats({1, 1})).agrees);
    EXPECT_FALSE(compare_one(floats({1, 1}), floats({kNaN, 1})).agrees);
    EXPECT_FALSE(compare_one(floats({kInf, 1}), floats({-kInf, 1})).agrees);
    EXPECT_FALSE(compare_one(floats({kInf, 1}), floats({3e38F, 1})).agrees);
}

TEST(Compare, NearZeroTheAbsoluteErrorDecides) {
    Tolerance tolerance;
    EXPECT_FALSE(compare_one(floats({1e-8F, 0}), floats({0, 0}), tolerance).agrees);
    tolerance.max_absolute_error = 1e-6;
    EXPECT_TRUE(compare_one(floats({1e-8F, 0}), floats({0, 0}), tolerance).agrees);
    EXPECT_FALSE(compare_one(floats({1e-5F, 0}), floats({0, 0}), tolerance).agrees);
}

TEST(Compare, HugeDoublesNeitherOverflowNorVanish) {
    EXPECT_TRUE(compare_one(Tensor::from<double>({2}, {1e300, 2e300}), Tensor::from<double>({2}, {1e300, 2e300})).agrees);
    EXPECT_FALSE(compare_one(Tensor::from<double>({2}, {1e300, 2e300}), Tensor::from<double>({2}, {1e300, 3e300})).agrees);
    EXPECT_FALSE(compare_one(Tensor::from<double>({2}, {1e-300, 2e-300}), Tensor::from<double>({2}, {1e-300, 3e-300})).agrees);
}

TEST(Compare, ShapesTypesAndCountsMustBeEqual) {
    EXPECT_FALSE(compare_one(floats({1, 2}), floats({1, 2, 3})).agrees);
    EXPECT_FALSE(compare_one(Tensor::from<float>({1, 2}, {1, 2}), floats({1, 2})).agrees);
    EXPECT_FALSE(compare_one(Tensor::from<double>({2}, {1, 2}), floats({1, 2})).agrees);
    EXPECT_FALSE(compare_one(Tensor{}, floats({1})).agrees);
    EXPECT_TRUE(compare_one(Tensor{}, Tensor{}).agrees);
    const Tensor one = floats({1});
    EXPECT_FALSE(compare({}, {&one, 1}, {}, {}).agrees);
    EXPECT_TRUE(compare({}, {}, {}, {}).agrees);
}

TEST(Compare, ScalarsAndZeroSize) {
    EXPECT_TRUE(compare_one(Tensor(ElementType::f32, {0, 5}), Tensor(ElementType::f32, {0, 5})).agrees);
    EXPECT_TRUE(compare_one(Tensor::from<float>({}, {2}), Tensor::from<float>({}, {2})).agrees);
    EXPECT_FALSE(compare_one(Tensor::from<float>({}, {2}), Tensor::from<float>({}, {3})).agrees);
}

TEST(Compare, IntegersAreExact) {
    EXPECT_TRUE(compare_one(Tensor::from<std::int64_t>({2}, {5, 6}), Tensor::from<std::int64_t>({2}, {5, 6})).agrees);
    const Agreement agreement = compare_one(Tensor::from<std::int64_t>({2}, {5, 7}), Tensor::from<std::int64_t>({2}, {5, 6}));
    EXPECT_FALSE(agreement.agrees);
    EXPECT_NE(agreement.reason.find("1 of 2 elements differ"), std::string::npos) << agreement.reason;
    // Equal as doubles, but not equal.
    const std::int64_t big = std::int64_t{1} << 60;
    EXPECT_FALSE(compare_one(Tensor::from<std::int64_t>({1}, {big + 1}), Tensor::from<std::int64_t>({1}, {big})).agrees);
    EXPECT_FALSE(compare_one(Tensor::from<bool>({1}, {true}), Tensor::from<bool>({1}, {false})).agrees);
    EXPECT_FALSE(compare_one(Tensor::from<std::string>({1}, {"a"}), Tensor::from<std::string>({1}, {"b"})).agrees);
    EXPECT_TRUE(compare_one(Tensor::from<std::string>({1}, {"a"}), Tensor::from<std::string>({1}, {"a"})).agrees);
}

TEST(Compare, QuantisedBytesMayBeAStepApart) {
    const auto reference = Tensor::from<std::int8_t>({1, 3}, {10, -20, 100});
    EXPECT_TRUE(compare_one(Tensor::from<std::int8_t>({1, 3}, {11, -20, 99}), reference).agrees);
    EXPECT_FALSE(compare_one(Tensor::from<std::int8_t>({1, 3}, {12, -20, 100}), reference).agrees);
    const Tolerance quantised = tolerance_for(ModelCategory::vision_cnn, {}, true);
    EXPECT_TRUE(compare_one(Tensor::from<std::int8_t>({1, 3}, {12, -20, 100}), reference, quantised).agrees);
    EXPECT_FALSE(compare_one(Tensor::from<std::int8_t>({1, 3}, {13, -20, 100}), reference, quantised).agrees);
}

TEST(Compare, OrderOfLeadingScores) {
    const TensorInfo info{.name = "logits", .type = ElementType::f32, .shape = {1, 4}};
    const Tolerance tolerance = tolerance_for(ModelCategory::vision_cnn, {&info, 1});
    ASSERT_TRUE(tolerance.order);
    const auto reference = Tensor::from<float>({1, 4}, {10.00F, 9.95F, 1, 0});
    // 0.4 % off, but the first two changed places.
    const Agreement swapped = compare_one(Tensor::from<float>({1, 4}, {9.96F, 9.98F, 1, 0}), reference, tolerance);
    EXPECT_FALSE(swapped.agrees);
    EXPECT_NE(swapped.reason.find("ranks 1 above 0"), std::string::npos) << swapped.reason;
    // A tie within noise may go either way.
    const auto tied = Tensor::from<float>({1, 4}, {10.000F, 9.995F, 1, 0});
    EXPECT_TRUE(compare_one(Tensor::from<float>({1, 4}, {9.995F, 10.000F, 1, 0}), tied, tolerance).agrees);
}

TEST(Compare, SaturatedProbabilitiesDoNotHideAnError) {
    // Certain in both, relative error 2e-4, but the odds of the runner-up are off by 22 %.
    const auto reference = Tensor::from<float>({1, 3}, {0.9990F, 0.0009F, 0.0001F});
    const auto output = Tensor::from<float>({1, 3}, {0.9988F, 0.0011F, 0.0001F});
    const Agreement agreement = compare_one(output, reference);
    EXPECT_LT(agreement.relative_error, 1e-3);
    EXPECT_FALSE(agreement.agrees);
    EXPECT_NE(agreement.reason.find("log-odds"), std::string::npos) << agreement.reason;
}

TEST(Compare, NamesTheRowOfABatch) {
    const auto reference = Tensor::from<float>({2, 2}, {0.9F, 0.1F, 0.501F, 0.499F});
    const auto output = Tensor::from<float>({2, 2}, {0.9F, 0.1F, 0.4998F, 0.5002F});
    const Agreement agreement = compare_one(output, reference);
    EXPECT_FALSE(agreement.agrees);
    EXPECT_NE(agreement.reason.find("row 1 ranks 1 above 0"), std::string::npos) << agreement.reason;
}

TEST(Compare, TokenChoicesOfLanguageModels) {
    const TensorInfo info{.name = "logits", .type = ElementType::f32, .shape = {-1, -1, 3}};
    const Tolerance tolerance = tolerance_for(ModelCategory::llm_transformer, {&info, 1});
    const auto reference = Tensor::from<float>({1, 2, 3}, {100, 0, 0, 50, 49.8F, 0});
    EXPECT_TRUE(compare_one(reference.clone(), reference, tolerance).agrees);
    EXPECT_FALSE(compare_one(Tensor::from<float>({1, 2, 3}, {100, 0, 0, 49.85F, 49.95F, 0}), reference, tolerance).agrees);
}

TEST(Compare, HiddenStatesHaveNoOrder) {
    const TensorInfo info{.name = "last_hidden_state", .type = ElementType::f32, .shape = {-1, -1, 3}};
    ModelProfile profile;
    profile.category = ModelCategory::llm_transformer;
    const auto reference = Tensor::from<float>({1, 2, 3}, {100, 0, 0, 50, 49.94F, 0});
    const auto other = Tensor::from<float>({1, 2, 3}, {100, 0, 0, 49.96F, 49.98F, 0});
    EXPECT_FALSE(compare_one(other, reference, tolerance_for(profile, {&info, 1})).agrees) << "scores of three tokens, for all that is known";
    profile.hidden_width = 3;
    EXPECT_TRUE(compare_one(other, reference, tolerance_for(profile, {&info, 1})).agrees);
    const auto far = Tensor::from<float>({1, 2, 3}, {100, 0, 0, 51, 49.94F, 0});
    EXPECT_FALSE(compare_one(far, reference, tolerance_for(profile, {&info, 1})).agrees) << "values are compared as before";
}

TEST(Compare, PackedTypes) {
    Tensor a(ElementType::i4, {3});
    Tensor b(ElementType::i4, {3});
    store_element(ElementType::i4, a.data(), 1, -8);
    EXPECT_FALSE(compare_one(a, b).agrees);
    store_element(ElementType::i4, b.data(), 1, -8);
    EXPECT_TRUE(compare_one(a, b).agrees);
}

TEST(Compare, SmallOutputsAreHeldToHalf) {
    Tensor reference(ElementType::f32, {32});
    for (float& value : reference.as<float>()) value = 1;
    Tensor output = reference.clone();
    for (float& value : output.as<float>()) value = 1.004F;
    EXPECT_TRUE(compare_one(output, reference).agrees);
    EXPECT_FALSE(compare_one(floats({1.004F, 1.004F}), floats({1, 1})).agrees);
}

TEST(Tolerance, IsStricterWhereErrorsAddUp) {
    const double vision = tolerance_for(ModelCategory::vision_cnn, {}).max_relative_error;
    EXPECT_LT(tolerance_for(ModelCategory::llm_transformer, {}).max_relative_error, vision);
    EXPECT_LT(tolerance_for(ModelCategory::speech_rnn, {}).max_relative_error, vision);
    EXPECT_LT(tolerance_for(ModelCategory::recommendation_system, {}).max_relative_error, vision);
    EXPECT_FALSE(tolerance_for(ModelCategory::vision_cnn, {}).order);
}

TEST(Elements, KnownValues) {
    EXPECT_EQ(f16_to_double(0x3C00), 1);
    EXPECT_EQ(f16_to_double(0x7BFF), 65504);
    EXPECT_EQ(f16_to_double(0x0001), std::ldexp(1.0, -24));
    EXPECT_EQ(f16_to_double(0xFC00), -std::numeric_limits<double>::infinity());
    EXPECT_TRUE(std::isnan(f16_to_double(0x7E00)));
    EXPECT_EQ(bf16_to_double(0x3F80), 1);
    EXPECT_EQ(bf16_to_double(0x4380), 256);
    EXPECT_EQ(f8_to_double(ElementType::f8e4m3, 0x7E), 448);
    EXPECT_TRUE(std::isnan(f8_to_double(ElementType::f8e4m3, 0xFF)));
    EXPECT_EQ(f8_to_double(ElementType::f8e4m3fnuz, 0x7F), 240);
    EXPECT_TRUE(std::isnan(f8_to_double(ElementType::f8e4m3fnuz, 0x80)));
    EXPECT_EQ(f8_to_double(ElementType::f8e5m2, 0x7B), 57344);
    EXPECT_EQ(f8_to_double(ElementType::f8e5m2, 0xFC), -std::numeric_limits<double>::infinity());
    EXPECT_EQ(f8_to_double(ElementType::f8e5m2fnuz, 0x7F), 57344);
    EXPECT_EQ(f8_to_double(ElementType::f8e8m0, 127), 1);
    EXPECT_EQ(f4_to_double(ElementType::f4e2m1, 7), 6);
    EXPECT_EQ(f4_to_double(ElementType::f4e2m1, 15), -6);
    EXPECT_EQ(f4_to_double(ElementType::nf4, 15), 1);
}

TEST(Elements, EveryF16CodeRoundTrips) {
    for (unsigned code = 0; code < 0x10000; ++code) {
        const auto bits = static_cast<std::uint16_t>(code);
        const double value = f16_to_double(bits);
        std::uint16_t stored = 0;
        store_element(ElementType::f16, &stored, 0, value);
        if (std::isnan(value)) {
            EXPECT_TRUE(std::isnan(f16_to_double(stored)));
        } else {
            ASSERT_EQ(stored, bits) << value;
        }
    }
}

TEST(Elements, RoundsToNearest) {
    std::uint16_t bits = 0;
    store_element(ElementType::bf16, &bits, 0, 257);
    EXPECT_EQ(bf16_to_double(bits), 256);  // why user 257 got the score of user 256
    store_element(ElementType::f16, &bits, 0, 2049);
    EXPECT_EQ(f16_to_double(bits), 2048);
    store_element(ElementType::f16, &bits, 0, 1e6);
    EXPECT_TRUE(std::isinf(f16_to_double(bits)));
    std::int8_t byte = 0;
    store_element(ElementType::i8, &byte, 0, 1000);
    EXPECT_EQ(byte, 127);
}

TEST(CompareProperty, EveryTypeAgreesWithItself) {
    ASSERT_TRUE(rc::check([] {
        const ElementType type = *rc::gen::elementOf(std::vector<ElementType>(std::begin(kAllTypes), std::end(kAllTypes)));
        const Shape shape = *rc::gen::container<std::vector<std::int64_t>>(*rc::gen::inRange(0, 4), rc::gen::inRange<std::int64_t>(0, 5));
        Tensor tensor(type, shape);
        if (type == ElementType::string) {
            for (std::string& text : tensor.as<std::string>()) text = *rc::gen::arbitrary<std::string>();
        } else {
            for (std::size_t i = 0; i < tensor.size_bytes(); ++i) static_cast<std::uint8_t*>(tensor.data())[i] = *rc::gen::arbitrary<std::uint8_t>();
        }
        const Agreement agreement = compare_one(tensor.clone(), tensor, *rc::gen::element(Tolerance{}, tolerance_for(ModelCategory::vision_cnn, {})));
        RC_ASSERT(agreement.agrees);
        RC_ASSERT(agreement.relative_error == 0);
    }));
}

TEST(CompareProperty, NeverThrowsOnArbitraryBytes) {
    ASSERT_TRUE(rc::check([] {
        const ElementType type = *rc::gen::elementOf(std::vector<ElementType>(std::begin(kAllTypes), std::end(kAllTypes)));
        if (type == ElementType::string) return;
        Tensor a(type, {2, 3});
        Tensor b(type, {2, 3});
        for (Tensor* tensor : {&a, &b}) {
            for (std::size_t i = 0; i < tensor->size_bytes(); ++i)
                static_cast<std::uint8_t*>(tensor->data())[i] = *rc::gen::arbitrary<std::uint8_t>();
        }
        const Agreement agreement = compare_one(a, b, tolerance_for(ModelCategory::llm_transformer, {}));
        RC_ASSERT(agreement.agrees == agreement.reason.empty());
    }));
}

TEST(CompareProperty, WideningToleranceNeverTurnsAgreementAround) {
    ASSERT_TRUE(rc::check([] {
        Tensor reference(ElementType::f32, {4, 5});
        Tensor output(ElementType::f32, {4, 5});
        for (std::size_t i = 0; i < 20; ++i) {
            reference.as<float>()[i] = static_cast<float>(*rc::gen::inRange(-1000, 1000)) / 100;
            output.as<float>()[i] = reference.as<float>()[i] + static_cast<float>(*rc::gen::inRange(-100, 100)) / 5000;
        }
        Tolerance narrow;
        narrow.max_relative_error = *rc::gen::inRange(1, 100) / 10000.0;
        Tolerance wide = narrow;
        wide.max_relative_error *= 2;
        if (compare_one(output, reference, narrow).agrees) RC_ASSERT(compare_one(output, reference, wide).agrees);
    }));
}

}  // namespace
}  // namespace ai_vmm::optimization
