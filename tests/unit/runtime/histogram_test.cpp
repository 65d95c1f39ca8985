// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>
#include <rapidcheck.h>

#include "runtime/latency_histogram.hpp"
#include "runtime/thread_account.hpp"

namespace ai_vmm::runtime {
namespace {

TEST(LatencyHistogram, QuantilesAreWithinABucket) {
    rc::check("the median of equal samples is that sample within 7 %", [] {
        const auto ns = *rc::gen::inRange<std::int64_t>(1, 1'000'000'000'000);
        LatencyHistogram histogram;
        for (int i = 0; i < 5; ++i) histogram.record(std::chrono::nanoseconds(ns));
        const double expected = static_cast<double>(ns) / 1e6;
        RC_ASSERT(std::abs(histogram.quantile_ms(0.5) - expected) <= 0.07 * expected + 1e-6);
        RC_ASSERT(std::abs(histogram.mean_ms() - expected) <= 1e-6 * expected + 1e-9);
    });
}

TEST(LatencyHistogram, OrdersQuantiles) {
    LatencyHistogram histogram;
    EXPECT_EQ(histogram.quantile_ms(0.5), 0);
    for (int i = 1; i <= 1000; ++i) histogram.record(std::chrono::microseconds(i));
    EXPECT_NEAR(histogram.quantile_ms(0.5), 0.5, 0.04);
    EXPECT_NEAR(histogram.quantile_ms(0.99), 0.99, 0.07);
    EXPECT_EQ(histogram.count(), 1000U);
}

TEST(ThreadAccount, HoldingsComeBack) {
    const auto account = std::make_shared<ThreadAccount>(4);
    {
        ThreadAccount::Holding a = account->hold(3);
        ThreadAccount::Holding b = account->hold(2);
        EXPECT_EQ(account->in_use(), 5);
        a = std::move(b);
        EXPECT_EQ(account->in_use(), 2);
    }
    EXPECT_EQ(account->in_use(), 0);
}

}  // namespace
}  // namespace ai_vmm::runtime
