// SPDX-License-Identifier: Apache-2.0
#include "block_pool.hpp"

#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <limits>
#include <new>
#include <random>
#include <thread>
#include <vector>

namespace ai_vmm::ort::test {
namespace {

TEST(BlockPool, BlocksOfAllSizesAreAlignedAndApart) {
    BlockPool pool;
    struct Taken {
        unsigned char* memory;
        std::size_t bytes;
        unsigned char mark;
    };
    std::vector<Taken> taken;
    std::mt19937_64 random(7);
    const auto give_back = [&](std::size_t i) {
        for (std::size_t at = 0; at < taken[i].bytes; ++at) ASSERT_EQ(taken[i].memory[at], taken[i].mark);
        pool.give_back(taken[i].memory);
        taken[i] = taken.back();
        taken.pop_back();
    };
    for (int round = 0; round < 3000; ++round) {
        const std::size_t bytes = 1 + random() % (std::size_t{1} << (random() % 18));
        auto* const memory = static_cast<unsigned char*>(pool.take(bytes));
        ASSERT_EQ(reinterpret_cast<std::uintptr_t>(memory) % BlockPool::kAlignment, 0U);
        taken.push_back({memory, bytes, static_cast<unsigned char>(round)});
        std::memset(memory, taken.back().mark, bytes);
        if (taken.size() > 40) give_back(random() % taken.size());
    }
    while (!taken.empty()) give_back(0);
    EXPECT_EQ(pool.take(0), nullptr);
    pool.give_back(nullptr);
}

TEST(BlockPool, WhatWasGivenBackIsUsedAgain) {
    BlockPool pool;
    for (const std::size_t bytes : {std::size_t{100}, std::size_t{5000}, std::size_t{32768}, std::size_t{40000}, std::size_t{3} << 20}) {
        void* const first = pool.take(bytes);
        pool.give_back(first);
        void* const second = pool.take(bytes - bytes / 16);  // a little less will do
        EXPECT_EQ(second, first) << bytes;
        pool.give_back(second);
    }
}

TEST(BlockPool, KeepsNoMoreThanWasInUseAtOnce) {
    BlockPool pool;
    for (std::size_t mib = 1; mib <= 64; ++mib) {  // each of another size, none fits the next
        pool.give_back(pool.take(mib << 20));
        EXPECT_LE(pool.idle_bytes(), mib << 20);
    }
    EXPECT_EQ(pool.idle_bytes(), std::size_t{64} << 20);
    void* const small = pool.take(std::size_t{1} << 20);
    EXPECT_EQ(pool.idle_bytes(), std::size_t{64} << 20) << "the large one is not spent on it";
    pool.trim();
    EXPECT_EQ(pool.idle_bytes(), 0U);
    pool.give_back(small);
    EXPECT_EQ(pool.idle_bytes(), std::size_t{1} << 20);
}

TEST(BlockPool, MoreThanThereIsThrows) {
    BlockPool pool;
    EXPECT_THROW((void)pool.take(std::numeric_limits<std::size_t>::max()), std::bad_alloc);
    EXPECT_THROW((void)pool.take(std::numeric_limits<std::size_t>::max() / 4), std::bad_alloc);
}

TEST(BlockPool, ServesThreadsThatGiveBackWhatOthersTook) {
    BlockPool pool;
    std::vector<void*> handed(400);
    std::jthread([&] {
        for (std::size_t i = 0; i < handed.size(); ++i) {
            handed[i] = pool.take(100 + 300 * i);
            std::memset(handed[i], static_cast<int>(i), 100 + 300 * i);
        }
    }).join();
    std::vector<std::jthread> threads;
    for (std::size_t t = 0; t < 4; ++t) {
        threads.emplace_back([&, t] {
            for (std::size_t i = t; i < handed.size(); i += 4) {
                EXPECT_EQ(*static_cast<unsigned char*>(handed[i]), static_cast<unsigned char>(i));
                pool.give_back(handed[i]);
                for (int again = 0; again < 20; ++again) pool.give_back(pool.take(64 + 1000 * static_cast<std::size_t>(again)));
            }
        });
    }
}

}  // namespace
}  // namespace ai_vmm::ort::test
