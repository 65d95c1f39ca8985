// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "ai_vmm/backend/backend.hpp"
#include "planning/planner.hpp"

namespace ai_vmm::runtime {

/// A compiled candidate and its execution slots, spread evenly over its replicas. Slots are made on demand, at most `slot_limit`. Thread-safe.
class Stage {
public:
    /// A slot: used by one caller at a time.
    struct Slot {
        std::unique_ptr<backend::Request> request;
        std::vector<Tensor> joined;  ///< inputs of the last merged batch; their memory serves the next one
        std::size_t replica = 0;
    };

    Stage(planning::CandidateKey key, std::shared_ptr<backend::Executable> executable, int slot_limit, bool imported = false);
    /// @param replicas  the same model compiled for several devices; at least one
    Stage(planning::CandidateKey key, std::vector<std::shared_ptr<backend::Executable>> replicas, int slot_limit, bool imported = false);

    [[nodiscard]] const planning::CandidateKey& key() const noexcept { return key_; }
    /// Of the first replica.
    [[nodiscard]] backend::Executable& executable() const noexcept { return *replicas_.front(); }
    [[nodiscard]] std::size_t replica_count() const noexcept { return replicas_.size(); }
    /// Of all replicas.
    [[nodiscard]] std::int64_t memory_bytes() const;
    [[nodiscard]] bool imported() const noexcept { return imported_; }
    [[nodiscard]] int slot_limit() const noexcept { return slot_limit_; }

    /// A free or new slot, of the replica that is least busy; nullptr if all are taken.
    [[nodiscard]] Slot* try_take();
    void put_back(Slot* slot) noexcept;

private:
    const planning::CandidateKey key_;
    const std::vector<std::shared_ptr<backend::Executable>> replicas_;
    const int slot_limit_;
    const bool imported_;
    std::mutex mutex_;  // guards the vectors
    std::vector<std::unique_ptr<Slot>> slots_;
    std::vector<std::vector<Slot*>> free_;  // per replica
    std::vector<int> made_, busy_;          // per replica
};

/// Compiles or imports candidates of one model. Thread-safe.
class StageFactory {
public:
    virtual ~StageFactory() = default;
    /// Called from several threads, for different keys at once. @throws Error as backend::Backend::compile().
    [[nodiscard]] virtual std::shared_ptr<Stage> make(const planning::CandidateKey& key) = 0;
};

}  // namespace ai_vmm::runtime
