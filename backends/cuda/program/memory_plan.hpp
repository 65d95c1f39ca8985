// SPDX-License-Identifier: Apache-2.0
/// Packs buffers with known lifetimes into one arena.
#pragma once

#include <cstdint>
#include <vector>

namespace ai_vmm::cuda {

/// A buffer that is alive from step `first` to step `last`, both included.
struct Lifetime {
    std::int64_t bytes = 0;
    int first = 0;
    int last = 0;
};

struct MemoryPlan {
    std::vector<std::int64_t> offsets;  ///< per buffer, multiples of 256
    std::int64_t bytes = 0;             ///< of the arena
    std::int64_t lower_bound = 0;       ///< the most that is alive at once
};

/// Places large buffers first, each at the lowest offset that is free over its lifetime (Pisarchyk and Lee, "Efficient Memory Management for Deep
/// Neural Net Inference", 2020: greedy by size). Buffers of 0 bytes get offset 0.
[[nodiscard]] MemoryPlan plan_memory(const std::vector<Lifetime>& buffers);

}  // namespace ai_vmm::cuda
