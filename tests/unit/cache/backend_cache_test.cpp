// SPDX-License-Identifier: Apache-2.0
#include "cache/backend_cache.hpp"

#include "store_fixture.hpp"

namespace ai_vmm::cache {
namespace {

class BackendCacheTest : public StoreFixture {
protected:
    [[nodiscard]] std::shared_ptr<ArtifactStore> shared_store(std::int64_t limit_bytes = std::int64_t{1} << 30, bool enabled = true) const {
        return std::make_shared<ArtifactStore>(ArtifactStore::Options{.directory = directory(), .limit_bytes = limit_bytes, .enabled = enabled});
    }
    static constexpr auto kPieces = [](std::initializer_list<std::string_view> texts) {
        return std::vector<std::string>(texts.begin(), texts.end());
    };
    const backend::Cache::Key key_{{"kind", "kernels"}, {"source", "a"}};
};

TEST_F(BackendCacheTest, PiecesComeBackInOrder) {
    std::vector<std::string> pieces(40, std::string("\0\xff", 2));  // more than ten: their names don't sort as numbers do
    for (std::size_t i = 0; i < pieces.size(); ++i) pieces[i] += std::to_string(i);
    pieces.emplace_back();
    BackendCache(shared_store(), "a").put(key_, pieces);
    EXPECT_EQ(BackendCache(shared_store(), "a").find(key_), pieces);
    EXPECT_EQ(BackendCache(shared_store(), "a").find({{"kind", "kernels"}, {"source", "b"}}), std::nullopt);
}

TEST_F(BackendCacheTest, BackendsDontMeet) {
    BackendCache(shared_store(), "a").put(key_, kPieces({"of a"}));
    EXPECT_EQ(BackendCache(shared_store(), "b").find(key_), std::nullopt);
    BackendCache(shared_store(), "b").put(key_, kPieces({"of b"}));
    EXPECT_EQ(BackendCache(shared_store(), "a").find(key_), kPieces({"of a"}));
}

TEST_F(BackendCacheTest, EntriesAreListedByKindAndLimitedWithTheRest) {
    const auto store = shared_store(2000);
    BackendCache cache(store, "a");
    ASSERT_TRUE(put("older", std::string(1000, 'x')));
    cache.put(key_, kPieces({"small"}));
    const CacheReport report = store->report();
    ASSERT_EQ(report.entries.size(), 2U);
    EXPECT_EQ(report.entries[0].kind, "kernels");
    EXPECT_EQ(report.entries[0].model, "a");
    cache.put({{"kind", "choices"}}, kPieces({std::string(500, 'y')}));
    EXPECT_EQ(get("older"), std::nullopt) << "least recently used, whoever put it";
    EXPECT_NE(cache.find(key_), std::nullopt);
    EXPECT_GT(store->collect(1), 0);
    EXPECT_EQ(cache.find(key_), std::nullopt);
}

TEST_F(BackendCacheTest, ADamagedEntryIsNone) {
    BackendCache cache(shared_store(), "a");
    cache.put(key_, kPieces({std::string(1000, 'x')}));
    for (const auto& entry : std::filesystem::directory_iterator(directory())) {
        if (entry.path().extension() != ".artifact") continue;
        std::fstream file(entry.path(), std::ios::in | std::ios::out | std::ios::binary);
        file.seekp(-10, std::ios::end);
        file.put('y');
    }
    EXPECT_EQ(cache.find(key_), std::nullopt);
    EXPECT_TRUE(shared_store()->report().entries.empty());
}

TEST_F(BackendCacheTest, NothingIsKeptInAStoreThatIsOff) {
    BackendCache cache(shared_store(1 << 20, false), "a");
    cache.put(key_, kPieces({"x"}));
    EXPECT_EQ(cache.find(key_), std::nullopt);
    EXPECT_FALSE(std::filesystem::exists(directory()));
}

}  // namespace
}  // namespace ai_vmm::cache
