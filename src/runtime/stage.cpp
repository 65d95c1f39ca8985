// SPDX-License-Identifier: Apache-2.0
#include "runtime/stage.hpp"

#include <algorithm>

namespace ai_vmm::runtime {

Stage::Stage(planning::CandidateKey key, std::shared_ptr<backend::Executable> executable, int slot_limit, bool imported)
    : key_(std::move(key)), executable_(std::move(executable)), slot_limit_(std::max(slot_limit, 1)), imported_(imported) {
    slots_.reserve(static_cast<std::size_t>(slot_limit_));
    free_.reserve(static_cast<std::size_t>(slot_limit_));
}

Stage::Slot* Stage::try_take() {
    const std::lock_guard lock(mutex_);
    if (!free_.empty()) {
        Slot* slot = free_.back();
        free_.pop_back();
        return slot;
    }
    if (slots_.size() >= static_cast<std::size_t>(slot_limit_)) return nullptr;
    auto slot = std::make_unique<Slot>();
    slot->request = executable_->create_request();
    slots_.push_back(std::move(slot));
    return slots_.back().get();
}

void Stage::put_back(Slot* slot) noexcept {
    const std::lock_guard lock(mutex_);
    free_.push_back(slot);  // reserved: can't throw
}

}  // namespace ai_vmm::runtime
