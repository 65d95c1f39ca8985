// SPDX-License-Identifier: Apache-2.0
#include "node/cases.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <chrono>
#include <cstdlib>
#include <cstring>
#include <initializer_list>
#include <limits>
#include <map>
#include <thread>

#include "node/workers.hpp"

namespace ai_vmm::node_test {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;

constexpr double kRtol = 1e-3, kAtol = 1e-7;
constexpr float kNan = std::numeric_limits<float>::quiet_NaN(), kInf = std::numeric_limits<float>::infinity();

std::string compare_f32(std::initializer_list<float> actual, std::initializer_list<float> expected) {
    const auto count = static_cast<std::int64_t>(actual.size());
    return compare(Tensor::from<float>({count}, actual), Tensor::from<float>({count}, expected), kRtol, kAtol);
}

/// A tensor of the given bytes.
Tensor of_bytes(ElementType type, Shape shape, std::initializer_list<std::uint8_t> bytes) {
    Tensor tensor(type, std::move(shape));
    EXPECT_EQ(tensor.size_bytes(), bytes.size());
    std::memcpy(tensor.data(), bytes.begin(), bytes.size());
    return tensor;
}

TEST(NodeCompare, FollowsTheRelativeAndAbsoluteTolerance) {
    EXPECT_THAT(compare_f32({1.0009F, 0.9e-7F}, {1, 0}), IsEmpty());
    EXPECT_THAT(compare_f32({1.0011F, 0}, {1, 0}), HasSubstr("1 of 2 elements differ, first at element 0"));
    EXPECT_THAT(compare_f32({1, 2e-7F}, {1, 0}), HasSubstr("first at element 1"));
}

TEST(NodeCompare, NanEqualsNanAndInfinityItselfOnly) {
    EXPECT_THAT(compare_f32({kNan, kInf, -kInf}, {kNan, kInf, -kInf}), IsEmpty());
    EXPECT_THAT(compare_f32({kNan, kInf, 1, kInf}, {1, -kInf, kNan, 1e30F}), HasSubstr("4 of 4"));
}

TEST(NodeCompare, ShapesAndTypesMustBeEqual) {
    EXPECT_THAT(compare(Tensor(ElementType::f32, {2, 1}), Tensor(ElementType::f32, {2}), kRtol, kAtol), HasSubstr("shape [2,1], expected [2]"));
    EXPECT_THAT(compare(Tensor(ElementType::i32, {2}), Tensor(ElementType::i64, {2}), kRtol, kAtol), HasSubstr("type i32, expected i64"));
}

TEST(NodeCompare, StringsAreComparedExactly) {
    const Tensor a = Tensor::from<std::string>({2}, {"a", "b"}), b = Tensor::from<std::string>({2}, {"a", "c"});
    EXPECT_THAT(compare(a, a, kRtol, kAtol), IsEmpty());
    EXPECT_THAT(compare(a, b, kRtol, kAtol), HasSubstr("first at element 1: 'b', expected 'c'"));
}

TEST(NodeCompare, ReadsNarrowTypes) {
    const auto shown = [](const Tensor& found, const Tensor& zero) { return compare(found, zero, kRtol, kAtol); };
    const auto shows = [&](ElementType type, std::initializer_list<std::uint8_t> bytes, const char* value) {
        const Shape shape{bit_width(type) < 8 ? static_cast<std::int64_t>(8 / bit_width(type)) : 1};
        EXPECT_THAT(shown(of_bytes(type, shape, bytes), Tensor(type, shape)), HasSubstr(std::string(": ") + value + ",")) << to_string(type);
    };
    shows(ElementType::f16, {0x00, 0xC1}, "-2.5");
    shows(ElementType::f16, {0x01, 0x3C}, "1.0009765625");
    shows(ElementType::f16, {0x00, 0x7C}, "inf");
    shows(ElementType::bf16, {0x20, 0xC0}, "-2.5");
    shows(ElementType::f8e4m3, {0x7E}, "448");
    shows(ElementType::f8e4m3, {0x7F}, "nan");
    shows(ElementType::f8e4m3fnuz, {0x7F}, "240");
    shows(ElementType::f8e4m3fnuz, {0x80}, "nan");
    shows(ElementType::f8e5m2, {0x7B}, "57344");
    shows(ElementType::f8e5m2, {0x7C}, "inf");
    shows(ElementType::f8e5m2fnuz, {0x7F}, "57344");
    shows(ElementType::f4e2m1, {0x0F}, "-6");
    shows(ElementType::f4e2m1, {0x01}, "0.5");
    shows(ElementType::i4, {0x08}, "-8");
    shows(ElementType::u4, {0xF0}, "15");
    shows(ElementType::i2, {0b00001000}, "-2");
    const Tensor one = of_bytes(ElementType::f8e8m0, {1}, {127});
    EXPECT_THAT(shown(of_bytes(ElementType::f8e8m0, {1}, {128}), one), HasSubstr(": 2, expected 1"));
}

TEST(NodeWorkers, AnItemThatEndsItsProcessCostsNoOther) {
    std::map<std::size_t, std::string> results;
    const auto work = [](std::size_t index) -> Outcome {
        if (index == 2) ::raise(SIGKILL);
        if (index == 5) {
            std::fprintf(stderr, "last words");
            std::_Exit(7);
        }
        if (index == 7) std::this_thread::sleep_for(std::chrono::hours(1));
        return {"passed", std::to_string(index), {}, index == 4};
    };
    run_in_workers(
        12, 2, std::chrono::seconds(1), [&] { return work; },
        [&](std::size_t index, const Outcome& outcome) { EXPECT_TRUE(results.emplace(index, outcome.status + " " + outcome.why).second) << index; });
    ASSERT_EQ(results.size(), 12U);
    EXPECT_EQ(results[2], "crashed the process ended with signal 9");
    EXPECT_EQ(results[5], "crashed the process ended with status 7: last words");
    EXPECT_EQ(results[7], "crashed no result within 1 s");
    for (const std::size_t index : {0, 1, 3, 4, 6, 8, 9, 10, 11}) EXPECT_EQ(results[index], "passed " + std::to_string(index));
}

TEST(NodeWorkers, ProcessesThatCannotStartEndTheRun) {
    std::size_t crashed = 0;
    run_in_workers(
        3, 2, std::chrono::seconds(5), []() -> Work { throw std::runtime_error("no device"); },
        [&](std::size_t, const Outcome& outcome) {
            EXPECT_EQ(outcome.status, "crashed");
            EXPECT_THAT(outcome.why, HasSubstr("no device"));
            ++crashed;
        });
    EXPECT_EQ(crashed, 3U);
}

}  // namespace
}  // namespace ai_vmm::node_test
