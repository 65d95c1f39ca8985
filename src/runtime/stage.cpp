// SPDX-License-Identifier: Apache-2.0
#include "runtime/stage.hpp"

#include <algorithm>

namespace ai_vmm::runtime {

Stage::Stage(planning::CandidateKey key, std::shared_ptr<backend::Executable> executable, int slot_limit, bool imported)
    : Stage(std::move(key), std::vector{std::move(executable)}, slot_limit, imported) {}

Stage::Stage(planning::CandidateKey key, std::vector<std::shared_ptr<backend::Executable>> replicas, int slot_limit, bool imported)
    : key_(std::move(key)),
      replicas_(std::move(replicas)),
      slot_limit_(std::max(slot_limit, 1)),
      imported_(imported),
      free_(replicas_.size()),
      made_(replicas_.size(), 0),
      busy_(replicas_.size(), 0) {
    slots_.reserve(static_cast<std::size_t>(slot_limit_));
    for (auto& free : free_) free.reserve(static_cast<std::size_t>(slot_limit_));
}

std::int64_t Stage::memory_bytes() const {
    std::int64_t total = 0;
    for (const auto& replica : replicas_) total += replica->memory_bytes();
    return total;
}

Stage::Slot* Stage::try_take() {
    const std::lock_guard lock(mutex_);
    // The slots of each replica: its share, the first ones one more where that doesn't come out even.
    const auto share = [&](std::size_t r) {
        const int count = static_cast<int>(replicas_.size());
        return slot_limit_ / count + (static_cast<int>(r) < slot_limit_ % count ? 1 : 0);
    };
    std::size_t best = replicas_.size();
    for (std::size_t r = 0; r < replicas_.size(); ++r) {
        const bool available = !free_[r].empty() || made_[r] < share(r);
        if (available && (best == replicas_.size() || busy_[r] < busy_[best])) best = r;
    }
    if (best == replicas_.size()) return nullptr;
    Slot* slot = nullptr;
    if (!free_[best].empty()) {
        slot = free_[best].back();
        free_[best].pop_back();
    } else {
        auto made = std::make_unique<Slot>();
        made->request = replicas_[best]->create_request();
        made->replica = best;
        slots_.push_back(std::move(made));
        slot = slots_.back().get();
        ++made_[best];
    }
    ++busy_[best];
    return slot;
}

void Stage::put_back(Slot* slot) noexcept {
    const std::lock_guard lock(mutex_);
    --busy_[slot->replica];
    free_[slot->replica].push_back(slot);  // reserved: can't throw
}

}  // namespace ai_vmm::runtime
