// SPDX-License-Identifier: Apache-2.0
#include "base/build_id.hpp"

#include <gtest/gtest.h>

#include <cctype>
#include <cstdlib>
#include <memory>

namespace ai_vmm::base {
namespace {

const char here = 0;

TEST(BuildId, IsThatOfTheLibraryWhichHoldsTheAddress) {
    const std::string own = build_id(&here);
    EXPECT_EQ(own.size(), 40U);
    for (const char c : own) EXPECT_TRUE(std::isxdigit(static_cast<unsigned char>(c)) != 0) << own;
    EXPECT_EQ(build_id(reinterpret_cast<const void*>(&build_id)), own);
    EXPECT_NE(build_id(reinterpret_cast<const void*>(&::getenv)), own);
}

TEST(BuildId, IsEmptyForMemoryOfNoLibrary) {
    const auto memory = std::make_unique<char>();
    EXPECT_EQ(build_id(memory.get()), "");
    EXPECT_EQ(build_id(nullptr), "");
}

}  // namespace
}  // namespace ai_vmm::base
