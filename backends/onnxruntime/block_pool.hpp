// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>

namespace ai_vmm::ort {

/// Memory for what sessions compute, in place of the library's arenas, whose lock and search cost a model of 2 microseconds a twentieth of its time.
///
/// Blocks up to kSmallBytes are kept by the thread that gives them back, without a lock, at most kThreadBytes of each size. Larger ones are kept for
/// all threads, so that no execution touches fresh pages; never more of them than were in use at once, and none beyond trim(). Thread-safe; blocks
/// may be given back by another thread than took them. All pools share the threads' caches.
class BlockPool {
public:
    static constexpr std::size_t kAlignment = 64;
    static constexpr std::size_t kSmallBytes = 32768;
    static constexpr std::size_t kThreadBytes = 65536;

    BlockPool() = default;
    ~BlockPool() { trim(); }
    BlockPool(const BlockPool&) = delete;
    BlockPool& operator=(const BlockPool&) = delete;

    /// `bytes` bytes, aligned to kAlignment; null for none.
    /// @throws std::bad_alloc
    [[nodiscard]] void* take(std::size_t bytes);
    void give_back(void* memory) noexcept;

    /// Frees the large blocks that nobody uses.
    void trim() noexcept;
    /// Bytes of large blocks that nobody uses.
    [[nodiscard]] std::size_t idle_bytes() const noexcept;

private:
    struct Block;
    struct ThreadCache;
    struct Idle {
        Block* block;
        std::uint64_t since;
    };

    [[nodiscard]] Block* take_large(std::size_t bytes);
    void give_back_large(Block* block) noexcept;

    mutable std::mutex mutex_;               // guards what follows, of large blocks
    std::multimap<std::size_t, Idle> idle_;  // by size
    std::size_t idle_bytes_ = 0;
    std::size_t used_bytes_ = 0;
    std::size_t most_used_bytes_ = 0;  // at once, since the last trim()
    std::uint64_t clock_ = 0;
};

}  // namespace ai_vmm::ort
