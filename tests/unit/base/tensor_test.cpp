// SPDX-License-Identifier: Apache-2.0
#include "ai_vmm/tensor.hpp"

#include <gtest/gtest.h>

#include <rapidcheck.h>
#include <array>

#include <limits>

#include "ai_vmm/model.hpp"

namespace ai_vmm {
namespace {

TEST(Tensor, OwnsZeroedAlignedMemory) {
    const Tensor tensor(ElementType::f32, {2, 3});
    EXPECT_EQ(tensor.element_count(), 6U);
    EXPECT_EQ(tensor.size_bytes(), 24U);
    EXPECT_TRUE(tensor.owns_memory());
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(tensor.data()) % 64, 0U);
    for (const float value : tensor.as<float>()) EXPECT_EQ(value, 0.0F);
}

TEST(Tensor, CopiesShareAndClonesDoNot) {
    Tensor tensor = Tensor::from<float>({2}, {1, 2});
    Tensor same = tensor;
    const Tensor other = tensor.clone();
    same.as<float>()[0] = 9;
    EXPECT_EQ(tensor.as<float>()[0], 9);
    EXPECT_EQ(other.as<float>()[0], 1);
}

TEST(Tensor, BorrowKeepsTheOwnerAlive) {
    auto owner = std::make_shared<std::vector<float>>(4, 1.5F);
    const std::weak_ptr<std::vector<float>> watch = owner;
    {
        void* data = owner->data();
        const Tensor tensor = Tensor::borrow(ElementType::f32, {4}, data, std::move(owner));
        EXPECT_FALSE(tensor.owns_memory());
        EXPECT_FALSE(watch.expired());
        EXPECT_EQ(tensor.data(), data);
    }
    EXPECT_TRUE(watch.expired());
}

TEST(Tensor, AdoptTakesMemoryOver) {
    auto owner = std::make_shared<std::vector<float>>(4, 1.5F);
    const std::weak_ptr<std::vector<float>> watch = owner;
    {
        void* data = owner->data();
        const Tensor tensor = Tensor::adopt(ElementType::f32, {4}, data, std::move(owner));
        EXPECT_TRUE(tensor.owns_memory());
        EXPECT_EQ(tensor.data(), data);
    }
    EXPECT_TRUE(watch.expired());
    float value = 0;
    EXPECT_THROW((void)Tensor::adopt(ElementType::f32, {}, &value, nullptr), Error);
}

TEST(Tensor, ScalarsAndEmptyShapes) {
    EXPECT_EQ(Tensor(ElementType::i64, {}).element_count(), 1U);
    EXPECT_EQ(Tensor(ElementType::i64, {3, 0, 2}).element_count(), 0U);
    EXPECT_TRUE(Tensor().empty());
    EXPECT_FALSE(Tensor(ElementType::f32, {0}).empty());
}

TEST(Tensor, PackedTypesRoundUpToBytes) {
    EXPECT_EQ(Tensor(ElementType::i4, {3}).size_bytes(), 2U);
    EXPECT_EQ(Tensor(ElementType::u1, {9}).size_bytes(), 2U);
    EXPECT_EQ(Tensor(ElementType::u2, {5}).size_bytes(), 2U);
}

TEST(Tensor, Strings) {
    const Tensor tensor = Tensor::from<std::string>({2}, {"a", std::string(100, 'x')});
    EXPECT_EQ(tensor.as<std::string>()[1].size(), 100U);
    EXPECT_EQ(tensor.clone().as<std::string>()[0], "a");
}

TEST(Tensor, RefusesBadShapesAndTypes) {
    const auto code_of = [](auto&& make) {
        try {
            make();
        } catch (const Error& error) {
            return error.code();
        }
        return ErrorCode::ok;
    };
    EXPECT_EQ(code_of([] { (void)Tensor(ElementType::f32, {-1}); }), ErrorCode::invalid_argument);
    EXPECT_EQ(code_of([] { (void)Tensor(ElementType::undefined, {1}); }), ErrorCode::invalid_argument);
    const std::int64_t big = std::numeric_limits<std::int64_t>::max();
    EXPECT_EQ(code_of([&] { (void)Tensor(ElementType::f32, {big, big}); }), ErrorCode::invalid_argument);
    EXPECT_EQ(code_of([&] { (void)Tensor(ElementType::u8, {std::int64_t{1} << 58}); }), ErrorCode::resource_exhausted);
    EXPECT_EQ(code_of([] { (void)Tensor(ElementType::f32, {1}).as<double>(); }), ErrorCode::invalid_argument);
    EXPECT_EQ(code_of([] { (void)Tensor::from<float>({3}, {1, 2}); }), ErrorCode::invalid_argument);
    EXPECT_EQ(code_of([] { (void)Tensor(ElementType::f32, {4}).reshaped({3}); }), ErrorCode::invalid_argument);
    EXPECT_EQ(code_of([] { (void)Tensor::borrow(ElementType::f32, {4}, nullptr); }), ErrorCode::invalid_argument);
}

TEST(Tensor, EveryTypeHasANameThatReadsBack) {
    for (int i = 0; i <= static_cast<int>(ElementType::string); ++i) {
        const auto type = static_cast<ElementType>(i);
        EXPECT_EQ(element_type_from_string(to_string(type)), type);
        EXPECT_EQ(bit_width(type) == 0, type == ElementType::undefined) << to_string(type);
    }
    EXPECT_FALSE(element_type_from_string("f31").has_value());
}

TEST(Tensor, ReshapeKeepsElements) {
    rc::check("a reshaped tensor sees the same elements", [] {
        const auto rows = *rc::gen::inRange<std::int64_t>(0, 9);
        const auto columns = *rc::gen::inRange<std::int64_t>(0, 9);
        const Tensor tensor(ElementType::i32, {rows, columns});
        const Tensor flat = tensor.reshaped({rows * columns});
        const bool same = flat.data() == tensor.data();
        RC_ASSERT(same);
        RC_ASSERT(flat.element_count() == tensor.element_count());
    });
}

TEST(TensorMap, FindsInOrderAndNamesWhatThereIs) {
    TensorMap map{{"b", Tensor(ElementType::f32, {1})}, {"a", Tensor(ElementType::f32, {2})}};
    EXPECT_EQ(map.begin()->first, "b");
    EXPECT_EQ(map["a"].element_count(), 2U);
    map.set("a", Tensor(ElementType::f32, {7}));
    EXPECT_EQ(map.size(), 2U);
    EXPECT_EQ(map["a"].element_count(), 7U);
    try {
        (void)map.at("c");
        FAIL();
    } catch (const Error& error) {
        EXPECT_EQ(error.code(), ErrorCode::not_found);
        EXPECT_NE(std::string(error.what()).find("'b', 'a'"), std::string::npos);
    }
}

TEST(Error, SaysWhatWasExpectedFoundAndToDo) {
    const Error error(ErrorCode::invalid_argument, ErrorCategory::input, "bad", {.expected = "x", .found = "y", .advice = "z"});
    EXPECT_STREQ(error.what(), "bad; expected: x; found: y; to do: z");
    EXPECT_EQ(to_string(error.code()), "invalid_argument");
}

TEST(Tensor, KnowsItsPlace) {
    std::array<float, 4> memory{};
    const MemoryPlace there{MemoryKind::cuda, 1};
    const Tensor tensor = Tensor::borrow(ElementType::f32, {4}, memory.data(), there, nullptr);
    EXPECT_EQ(tensor.place(), there);
    EXPECT_EQ(tensor.reshaped({2, 2}).place(), there);
    EXPECT_EQ(to_string(there), "cuda:1");
    EXPECT_EQ(to_string(Tensor().place()), "host");
    EXPECT_THROW((void)tensor.as<float>(), Error);
    EXPECT_THROW((void)tensor.clone(), Error);
    EXPECT_TRUE(Tensor::wanted_in(there).empty());
    EXPECT_EQ(Tensor::wanted_in(there).place(), there);
    EXPECT_THROW((void)Tensor::borrow(ElementType::f32, {4}, memory.data(), MemoryPlace{MemoryKind::cuda, -1}, nullptr), Error);
    EXPECT_THROW((void)Tensor::borrow(ElementType::i4, {4}, memory.data(), there, nullptr), Error);
    std::array<std::string, 1> text;
    EXPECT_THROW((void)Tensor::borrow(ElementType::string, {1}, text.data(), there, nullptr), Error);
}

}  // namespace
}  // namespace ai_vmm
