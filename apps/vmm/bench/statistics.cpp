// SPDX-License-Identifier: Apache-2.0
#include "bench/statistics.hpp"

#include <algorithm>
#include <cmath>

namespace ai_vmm::cli {

double percentile(std::span<const double> sorted, double percent) {
    if (sorted.empty()) return 0;
    const double rank = std::ceil(percent / 100 * static_cast<double>(sorted.size()) - 1e-9);  // 99.9 % of 1000 is 999
    return sorted[static_cast<std::size_t>(std::clamp(rank, 1.0, static_cast<double>(sorted.size()))) - 1];
}

Percentiles percentiles(std::vector<double> samples) {
    Percentiles result;
    result.count = samples.size();
    if (samples.empty()) return result;
    std::ranges::sort(samples);
    double mean = 0;
    double squares = 0;
    std::size_t seen = 0;
    for (const double sample : samples) {
        const double delta = sample - mean;
        mean += delta / static_cast<double>(++seen);
        squares += delta * (sample - mean);
    }
    result.mean = mean;
    result.deviation = std::sqrt(squares / static_cast<double>(samples.size()));
    result.min = samples.front();
    result.p50 = percentile(samples, 50);
    result.p90 = percentile(samples, 90);
    result.p95 = percentile(samples, 95);
    result.p99 = percentile(samples, 99);
    result.p99_9 = percentile(samples, 99.9);
    result.max = samples.back();
    return result;
}

double median(std::vector<double> samples) {
    std::ranges::sort(samples);
    return percentile(samples, 50);
}

Ratio ratio_of(const std::vector<double>& first, const std::vector<double>& second, double all_first, double all_second) {
    Ratio ratio;
    ratio.value = all_second > 0 ? all_first / all_second : 0;
    bool any = false;
    for (std::size_t i = 0; i < std::min(first.size(), second.size()); ++i) {
        if (!(second[i] > 0)) continue;
        const double value = first[i] / second[i];
        ratio.low = any ? std::min(ratio.low, value) : value;
        ratio.high = any ? std::max(ratio.high, value) : value;
        any = true;
    }
    return ratio;
}

nlohmann::ordered_json to_json(const Percentiles& percentiles) {
    return {{"count", percentiles.count}, {"mean_ms", percentiles.mean}, {"deviation_ms", percentiles.deviation},
            {"min_ms", percentiles.min},  {"p50_ms", percentiles.p50},   {"p90_ms", percentiles.p90},
            {"p95_ms", percentiles.p95},  {"p99_ms", percentiles.p99},   {"p99_9_ms", percentiles.p99_9},
            {"max_ms", percentiles.max}};
}

nlohmann::ordered_json to_json(const Ratio& ratio) { return {{"value", ratio.value}, {"low", ratio.low}, {"high", ratio.high}}; }

}  // namespace ai_vmm::cli
