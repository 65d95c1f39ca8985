// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "ai_vmm/error.hpp"
#include "planning/planner.hpp"

namespace ai_vmm::planning {

std::vector<ThreadShare> divide_threads(int total, const std::vector<double>& priorities) {
    if (total < 1) {
        throw Error(ErrorCode::invalid_argument, ErrorCategory::input, "there must be a thread to divide",
                    {.expected = "total >= 1", .found = std::to_string(total), .advice = {}});
    }
    for (const double priority : priorities) {
        if (std::isfinite(priority) && priority > 0) continue;
        throw Error(ErrorCode::invalid_argument, ErrorCategory::input, "priority must be a positive number",
                    {.expected = "a finite number > 0", .found = fmt::format("{}", priority), .advice = {}});
    }
    const std::size_t count = priorities.size();
    std::vector<ThreadShare> shares(count);
    std::vector<std::size_t> by_priority(count);  // the most important first; the earlier one of equals
    std::iota(by_priority.begin(), by_priority.end(), std::size_t{0});
    std::ranges::stable_sort(by_priority, [&](std::size_t a, std::size_t b) { return priorities[a] > priorities[b]; });

    if (count > static_cast<std::size_t>(total)) {
        for (std::size_t place = static_cast<std::size_t>(total) - 1; place < count; ++place) shares[by_priority[place]].shared = true;
        return shares;
    }
    // Who is due less than one thread gets one; the others divide what is left. Priorities are scaled so that their sum can't overflow.
    const double scale = count == 0 ? 1 : priorities[by_priority.front()];
    std::size_t sharing = count;
    int left = total;
    double sum = 0;
    for (const double priority : priorities) sum += priority / scale;
    while (sharing > 0) {
        const double least = priorities[by_priority[sharing - 1]] / scale;
        if (left * least / sum >= 1) break;
        --left;
        sum -= least;
        --sharing;
    }
    std::vector<std::pair<double, std::size_t>> remainders;  // negated, so that the largest comes first
    int given = 0;
    for (std::size_t place = 0; place < sharing; ++place) {
        const std::size_t index = by_priority[place];
        const double due = left * (priorities[index] / scale) / sum;
        shares[index].threads = std::max(1, static_cast<int>(due));
        given += shares[index].threads;
        remainders.emplace_back(shares[index].threads - due, place);
    }
    std::ranges::sort(remainders);
    for (std::size_t i = 0; given < left && !remainders.empty(); i = (i + 1) % remainders.size(), ++given) {
        ++shares[by_priority[remainders[i].second]].threads;
    }
    return shares;
}

}  // namespace ai_vmm::planning
