// SPDX-License-Identifier: Apache-2.0
#include "program/memory_plan.hpp"

#include <algorithm>
#include <map>
#include <numeric>

namespace ai_vmm::cuda {

MemoryPlan plan_memory(const std::vector<Lifetime>& buffers) {
    constexpr std::int64_t kAlignment = 256;
    const auto size_of = [&](std::size_t b) { return (buffers[b].bytes + kAlignment - 1) / kAlignment * kAlignment; };
    MemoryPlan plan;
    plan.offsets.assign(buffers.size(), 0);
    std::vector<std::size_t> order(buffers.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return buffers[a].bytes > buffers[b].bytes; });
    std::vector<std::size_t> placed;
    for (std::size_t b : order) {
        if (buffers[b].bytes == 0) continue;
        std::vector<std::pair<std::int64_t, std::int64_t>> taken;  // begin, end
        for (std::size_t other : placed) {
            if (buffers[other].first <= buffers[b].last && buffers[b].first <= buffers[other].last)
                taken.emplace_back(plan.offsets[other], plan.offsets[other] + size_of(other));
        }
        std::sort(taken.begin(), taken.end());
        std::int64_t at = 0;
        for (const auto& [begin, end] : taken) {
            if (begin - at >= size_of(b)) break;
            at = std::max(at, end);
        }
        plan.offsets[b] = at;
        plan.bytes = std::max(plan.bytes, at + size_of(b));
        placed.push_back(b);
    }
    std::map<int, std::int64_t> changes;
    for (std::size_t b = 0; b < buffers.size(); ++b) {
        changes[buffers[b].first] += size_of(b);
        changes[buffers[b].last + 1] -= size_of(b);
    }
    std::int64_t alive = 0;
    for (const auto& [step, change] : changes) plan.lower_bound = std::max(plan.lower_bound, alive += change);
    return plan;
}

}  // namespace ai_vmm::cuda
