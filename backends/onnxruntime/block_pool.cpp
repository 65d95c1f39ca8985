// SPDX-License-Identifier: Apache-2.0
#include "block_pool.hpp"

#include <algorithm>
#include <bit>
#include <cstdlib>
#include <limits>
#include <new>
#include <utility>
#include <vector>

namespace ai_vmm::ort {
namespace {

constexpr std::size_t kNear = 1024;  // up to here every multiple of the alignment is a size of its own, then four sizes per power of two
constexpr std::size_t kNearClasses = kNear / BlockPool::kAlignment;
constexpr std::size_t kSteps = 4;

/// Which size of small blocks serves `bytes`, from 1 on.
constexpr std::size_t class_of(std::size_t bytes) {
    if (bytes <= kNear) return (bytes - 1) / BlockPool::kAlignment;
    const auto power = static_cast<std::size_t>(std::bit_width(bytes - 1) - 1);  // bytes - 1 is in [2^power, 2^(power+1))
    const std::size_t step = ((bytes - 1) >> (power - 2)) & (kSteps - 1);
    return kNearClasses + (power - 10) * kSteps + step;
}

/// The most bytes of a class.
constexpr std::size_t class_bytes(std::size_t index) {
    if (index < kNearClasses) return (index + 1) * BlockPool::kAlignment;
    const std::size_t power = 10 + (index - kNearClasses) / kSteps;
    return (kSteps + (index - kNearClasses) % kSteps + 1) << (power - 2);
}

constexpr std::size_t kClasses = class_of(BlockPool::kSmallBytes) + 1;
static_assert(class_bytes(kClasses - 1) == BlockPool::kSmallBytes && class_of(1025) == kNearClasses && class_bytes(kNearClasses) == 1280);

}  // namespace

/// In front of the memory that is given out.
struct alignas(BlockPool::kAlignment) BlockPool::Block {
    Block* next;
    std::size_t bytes;  // behind this

    [[nodiscard]] void* memory() noexcept { return this + 1; }
    [[nodiscard]] static Block* of(void* memory) noexcept { return static_cast<Block*>(memory) - 1; }
    [[nodiscard]] static Block* make(std::size_t bytes) {
        const std::size_t whole = sizeof(Block) + (bytes + kAlignment - 1) / kAlignment * kAlignment;
        void* const memory = std::aligned_alloc(kAlignment, whole);
        if (memory == nullptr) throw std::bad_alloc();
        return new (memory) Block{.next = nullptr, .bytes = whole - sizeof(Block)};
    }
};

/// Small blocks that a thread gave back.
struct BlockPool::ThreadCache {
    Block* first[kClasses] = {};
    std::size_t count[kClasses] = {};

    ~ThreadCache() {
        ended() = true;
        for (Block* block : first) {
            while (block != nullptr) std::free(std::exchange(block, block->next));
        }
    }
    static ThreadCache& get() {
        thread_local ThreadCache cache;
        return cache;
    }
    /// Whether the thread has destroyed its cache: destructors of other objects of the thread may still give blocks back.
    static bool& ended() {
        thread_local constinit bool value = false;
        return value;
    }
};

void* BlockPool::take(std::size_t bytes) {
    if (bytes == 0) return nullptr;
    if (bytes > kSmallBytes) return take_large(bytes)->memory();
    const std::size_t index = class_of(bytes);
    if (!ThreadCache::ended()) {
        ThreadCache& cache = ThreadCache::get();
        if (Block* block = cache.first[index]) {
            cache.first[index] = block->next;
            --cache.count[index];
            return block->memory();
        }
    }
    return Block::make(class_bytes(index))->memory();
}

void BlockPool::give_back(void* memory) noexcept {
    if (memory == nullptr) return;
    Block* const block = Block::of(memory);
    if (block->bytes > kSmallBytes) return give_back_large(block);
    if (!ThreadCache::ended()) {
        ThreadCache& cache = ThreadCache::get();
        const std::size_t index = class_of(block->bytes);
        if ((cache.count[index] + 1) * block->bytes <= kThreadBytes) {
            block->next = cache.first[index];
            cache.first[index] = block;
            ++cache.count[index];
            return;
        }
    }
    std::free(block);
}

BlockPool::Block* BlockPool::take_large(std::size_t bytes) {
    if (bytes > std::numeric_limits<std::size_t>::max() / 2) throw std::bad_alloc();
    Block* block = nullptr;
    {
        const std::lock_guard lock(mutex_);
        // One that is up to an eighth larger will do.
        if (const auto found = idle_.lower_bound(bytes); found != idle_.end() && found->first - bytes <= bytes / 8) {
            block = found->second.block;
            idle_bytes_ -= block->bytes;
            idle_.erase(found);
            used_bytes_ += block->bytes;
            most_used_bytes_ = std::max(most_used_bytes_, used_bytes_);
            return block;
        }
    }
    try {
        block = Block::make(bytes);
    } catch (const std::bad_alloc&) {
        trim();
        block = Block::make(bytes);
    }
    const std::lock_guard lock(mutex_);
    used_bytes_ += block->bytes;
    most_used_bytes_ = std::max(most_used_bytes_, used_bytes_);
    return block;
}

void BlockPool::give_back_large(Block* block) noexcept {
    std::vector<Block*> surplus;  // freed without the lock: returning pages takes long
    try {
        const std::lock_guard lock(mutex_);
        used_bytes_ -= block->bytes;
        idle_.emplace(block->bytes, Idle{block, ++clock_});
        idle_bytes_ += block->bytes;
        block = nullptr;
        while (idle_bytes_ > most_used_bytes_) {
            const auto oldest = std::ranges::min_element(idle_, {}, [](const auto& entry) { return entry.second.since; });
            surplus.push_back(oldest->second.block);
            idle_bytes_ -= oldest->first;
            idle_.erase(oldest);
        }
    } catch (const std::bad_alloc&) {  // no memory to remember it, or the last of the surplus
    }
    std::free(block);
    for (Block* each : surplus) std::free(each);
}

void BlockPool::trim() noexcept {
    std::multimap<std::size_t, Idle> idle;
    {
        const std::lock_guard lock(mutex_);
        idle.swap(idle_);
        idle_bytes_ = 0;
        most_used_bytes_ = used_bytes_;
    }
    for (const auto& [bytes, entry] : idle) std::free(entry.block);
}

std::size_t BlockPool::idle_bytes() const noexcept {
    const std::lock_guard lock(mutex_);
    return idle_bytes_;
}

}  // namespace ai_vmm::ort
