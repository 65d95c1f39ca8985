// SPDX-License-Identifier: Apache-2.0
#include "runtime/rounds.hpp"

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <limits>

namespace ai_vmm::runtime {
namespace {

double quantile(std::vector<double> values, double q) {
    if (values.empty()) return std::numeric_limits<double>::infinity();
    const auto at = static_cast<std::ptrdiff_t>(q * static_cast<double>(values.size() - 1) + 0.5);
    std::nth_element(values.begin(), values.begin() + at, values.end());
    return values[static_cast<std::size_t>(at)];
}

}  // namespace

double Standing::median() const { return quantile(costs, 0.5); }

double Standing::undisturbed() const { return quantile(costs, 0.1); }

std::optional<std::chrono::milliseconds> Rounds::next(std::span<const Standing> standings, std::chrono::milliseconds left) const {
    const auto alive = std::ranges::count_if(standings, &Standing::alive);
    if (alive == 0 || done_ >= kMost || (done_ >= kSure && left.count() <= 0)) return std::nullopt;
    if (done_ >= kPlanned) {
        const bool sure = std::ranges::all_of(standings, [](const Standing& s) { return !s.alive || s.costs.size() >= kEnough; });
        if (alive == 1 || sure) return std::nullopt;
    }
    // Long bursts serve the few that are left: the first 20 ms of one go by while the scheduler spreads an engine's threads over the processors.
    return std::chrono::milliseconds(std::clamp<std::int64_t>(left.count() / (alive * std::max(kPlanned - done_, 1)), 2, 120));
}

void Rounds::finish(std::span<Standing> standings) {
    constexpr double kMargins[] = {1.5, 1.2, 1.1};
    constexpr double kLastMargin = 1.04;
    double best = std::numeric_limits<double>::infinity();
    for (const Standing& standing : standings) {
        if (standing.alive) best = std::min(best, standing.median());
    }
    const double margin = done_ < static_cast<int>(std::size(kMargins)) ? kMargins[done_] : kLastMargin;
    for (Standing& standing : standings) standing.alive = standing.alive && standing.undisturbed() <= best * margin;
    ++done_;
}

}  // namespace ai_vmm::runtime
