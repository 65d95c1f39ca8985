// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <nlohmann/json.hpp>
#include <span>
#include <vector>

namespace ai_vmm::cli {

/// Times in milliseconds. Percentiles are of the samples themselves (nearest rank): never between two of them.
struct Percentiles {
    std::size_t count = 0;
    double mean = 0;
    double deviation = 0;
    double min = 0;
    double p50 = 0;
    double p90 = 0;
    double p95 = 0;
    double p99 = 0;
    double p99_9 = 0;
    double max = 0;
};
[[nodiscard]] Percentiles percentiles(std::vector<double> samples);
/// Nearest rank: the least sample that at least `percent` of them don't exceed. 0 for no samples.
[[nodiscard]] double percentile(std::span<const double> sorted, double percent);
[[nodiscard]] double median(std::vector<double> samples);

/// How two contenders compare over rounds.
struct Ratio {
    double value = 0;  ///< median of the first over median of the second
    double low = 0;    ///< least and largest of the rounds' own ratios
    double high = 0;
};
/// @param first, second  one figure a round, of the same rounds
/// @param all_first, all_second  every sample
[[nodiscard]] Ratio ratio_of(const std::vector<double>& first, const std::vector<double>& second, double all_first, double all_second);

[[nodiscard]] nlohmann::ordered_json to_json(const Percentiles& percentiles);
[[nodiscard]] nlohmann::ordered_json to_json(const Ratio& ratio);

}  // namespace ai_vmm::cli
