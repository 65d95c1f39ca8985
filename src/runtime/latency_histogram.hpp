// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <cstdint>

namespace ai_vmm::runtime {

/// Times in buckets of about 6 % width (16 per power of two), from 1 ns to about 5 hours. Recording is wait-free; reading while others record gives
/// a figure that is a few samples old.
class LatencyHistogram {
public:
    void record(std::chrono::nanoseconds time) noexcept {
        const auto ns = static_cast<std::uint64_t>(time.count() < 1 ? 1 : time.count());
        buckets_[index_of(ns)].fetch_add(1, std::memory_order_relaxed);
        sum_ns_.fetch_add(ns, std::memory_order_relaxed);
    }

    [[nodiscard]] std::uint64_t count() const noexcept {
        std::uint64_t count = 0;
        for (const auto& bucket : buckets_) count += bucket.load(std::memory_order_relaxed);
        return count;
    }
    [[nodiscard]] double mean_ms() const noexcept {
        const std::uint64_t n = count();
        return n == 0 ? 0 : static_cast<double>(sum_ns_.load(std::memory_order_relaxed)) / static_cast<double>(n) / 1e6;
    }
    /// @param quantile 0 to 1.  @return milliseconds, the middle of the bucket; 0 without samples.
    [[nodiscard]] double quantile_ms(double quantile) const noexcept {
        const std::uint64_t n = count();
        if (n == 0) return 0;
        const auto rank = static_cast<std::uint64_t>(std::ceil(quantile * static_cast<double>(n)));
        std::uint64_t seen = 0;
        for (std::size_t i = 0; i < buckets_.size(); ++i) {
            seen += buckets_[i].load(std::memory_order_relaxed);
            if (seen >= rank && seen > 0) return middle_ns(i) / 1e6;
        }
        return middle_ns(buckets_.size() - 1) / 1e6;
    }

private:
    static constexpr std::size_t kSteps = 16;  // per power of two
    static constexpr std::size_t kPowers = 44;

    static std::size_t index_of(std::uint64_t ns) noexcept {
        const auto power = static_cast<std::size_t>(std::bit_width(ns) - 1);
        const std::size_t step = power >= 4 ? (ns >> (power - 4)) & (kSteps - 1) : (ns << (4 - power)) & (kSteps - 1);
        return std::min(power * kSteps + step, kSteps * kPowers - 1);
    }
    static double middle_ns(std::size_t index) noexcept {
        return std::ldexp(1.0 + (static_cast<double>(index % kSteps) + 0.5) / kSteps, static_cast<int>(index / kSteps));
    }

    std::array<std::atomic<std::uint64_t>, kSteps * kPowers> buckets_{};
    std::atomic<std::uint64_t> sum_ns_{0};
};

}  // namespace ai_vmm::runtime
