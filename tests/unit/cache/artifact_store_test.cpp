// SPDX-License-Identifier: Apache-2.0
#include "cache/artifact_store.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <fstream>
#include <random>
#include <thread>

#include "base/file.hpp"
#include "cache/entry_format.hpp"
#include "unit/cache/store_fixture.hpp"

namespace ai_vmm::cache {
namespace {

using ArtifactStoreTest = StoreFixture;

TEST_F(ArtifactStoreTest, GivesBackWhatWasStored) {
    ArtifactStore store = make_store();
    const std::string graph = "graph bytes";
    const std::string blob(3'000'000, '\x5a');  // several blocks
    ASSERT_TRUE(store.put(key("a"), "net", {{"graph", bytes(graph)}, {"blob", bytes(blob)}, {"empty", bytes({})}}));

    const std::optional<Artifact> artifact = store.find(key("a"));
    ASSERT_TRUE(artifact);
    EXPECT_EQ(artifact->key, ArtifactStore::make_key(key("a")));
    ASSERT_EQ(artifact->parts.size(), 3u);
    ASSERT_NE(artifact->find("graph"), nullptr);
    EXPECT_EQ(*artifact->find("graph"), graph);
    EXPECT_EQ(*artifact->find("blob"), blob);
    EXPECT_EQ(*artifact->find("empty"), "");
    EXPECT_EQ(artifact->find("other"), nullptr);
    EXPECT_FALSE(store.find(key("b")));
    const auto counters = store.counters();
    EXPECT_EQ(counters.hits, 1u);
    EXPECT_EQ(counters.misses, 1u);
    EXPECT_EQ(counters.damaged, 0u);
}

TEST_F(ArtifactStoreTest, AnotherStoreOnTheFolderSeesTheEntry) {
    ASSERT_TRUE(put("a", "content"));
    EXPECT_EQ(get("a"), "content");
}

TEST_F(ArtifactStoreTest, PutReplaces) {
    ASSERT_TRUE(put("a", "old"));
    ASSERT_TRUE(put("a", "new"));
    EXPECT_EQ(get("a"), "new");
    EXPECT_EQ(entry_files().size(), 1u);
}

TEST_F(ArtifactStoreTest, EntryWithoutPartsAndBinaryKeys) {
    ArtifactStore store = make_store();
    const KeyParts odd = {{"kind", "plan"}, {"path", std::string("\xff\xfe\0x", 4)}};
    ASSERT_TRUE(store.put(odd, "\xc3\x28", {}));
    ASSERT_TRUE(store.find(odd));
    EXPECT_TRUE(store.find(odd)->parts.empty());
    EXPECT_EQ(store.report().entries.at(0).kind, "plan");
}

TEST_F(ArtifactStoreTest, EraseRemovesOnlyThatEntry) {
    ASSERT_TRUE(put("a", "1"));
    ASSERT_TRUE(put("b", "2"));
    ArtifactStore store = make_store();
    store.erase(key("a"));
    store.erase(key("missing"));
    EXPECT_FALSE(get("a"));
    EXPECT_EQ(get("b"), "2");
}

TEST(ArtifactKey, DependsOnNamesValuesAndTheirBorders) {
    const std::string base = ArtifactStore::make_key({{"a", "bc"}, {"d", "e"}});
    EXPECT_TRUE(is_digest(base));
    EXPECT_EQ(base, ArtifactStore::make_key({{"a", "bc"}, {"d", "e"}}));
    EXPECT_NE(base, ArtifactStore::make_key({{"ab", "c"}, {"d", "e"}}));
    EXPECT_NE(base, ArtifactStore::make_key({{"d", "e"}, {"a", "bc"}}));
    EXPECT_NE(base, ArtifactStore::make_key({{"a", "bc"}, {"d", ""}, {"e", ""}}));
    EXPECT_NE(base, ArtifactStore::make_key({{"a", "bc"}}));
    EXPECT_NE(ArtifactStore::make_key({}), ArtifactStore::make_key({{"", ""}}));
}

TEST_F(ArtifactStoreTest, FolderAndFilesArePrivate) {
    ASSERT_TRUE(put("a", "content"));
    struct ::stat status {};
    ASSERT_EQ(::stat(directory().c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & 0777, 0700u);
    for (const auto& path : entry_files()) {
        ASSERT_EQ(::stat(path.c_str(), &status), 0);
        EXPECT_EQ(status.st_mode & 0777, 0600u);
    }
}

// ---- damage

TEST_F(ArtifactStoreTest, DamageAtEveryByteIsAMissAndIsRebuilt) {
    ASSERT_TRUE(put("a", "some content"));
    const std::filesystem::path file = entry_files().at(0);
    const std::string whole = base::read_file(file);
    std::mt19937 random(7);
    for (std::size_t position = 0; position < whole.size(); ++position) {
        for (const int flip : {1 << (random() % 8), 0xff}) {
            std::string damaged = whole;
            damaged[position] = static_cast<char>(damaged[position] ^ flip);
            overwrite(file, damaged);
            ArtifactStore store = make_store();
            ASSERT_FALSE(store.find(key("a"))) << "flip " << flip << " at " << position;
            // A changed version may be another release's file: missed, but neither counted as damage nor removed.
            const bool version = position >= 8 && position < 12;
            ASSERT_EQ(store.counters().damaged, version ? 0u : 1u) << "at " << position;
            ASSERT_EQ(std::filesystem::exists(file), version) << "at " << position;
            ASSERT_TRUE(store.put(key("a"), "net", {{"part", bytes("some content")}}));
            ASSERT_EQ(get("a"), "some content");
        }
    }
}

TEST_F(ArtifactStoreTest, TruncationAtEveryLengthAndAppendedBytesAreMisses) {
    ASSERT_TRUE(put("a", "some content"));
    const std::filesystem::path file = entry_files().at(0);
    const std::string whole = base::read_file(file);
    for (std::size_t length = 0; length < whole.size(); ++length) {
        overwrite(file, whole.substr(0, length));
        ArtifactStore store = make_store();
        ASSERT_FALSE(store.find(key("a"))) << length;
        ASSERT_EQ(store.counters().damaged, 1u) << length;
        ASSERT_FALSE(std::filesystem::exists(file)) << length;
    }
    overwrite(file, whole + '\0');
    EXPECT_FALSE(get("a"));
    overwrite(file, whole);
    EXPECT_EQ(get("a"), "some content");
}

TEST_F(ArtifactStoreTest, EntryUnderAnotherNameIsNotTrusted) {
    ASSERT_TRUE(put("a", "content of a"));
    const std::filesystem::path file = entry_files().at(0);
    std::filesystem::rename(file, directory() / (ArtifactStore::make_key(key("b")) + ".artifact"));
    EXPECT_FALSE(get("b"));
    EXPECT_TRUE(entry_files().empty());
}

TEST_F(ArtifactStoreTest, LinksPipesAndFilesThatOthersMayWriteAreNotRead) {
    ASSERT_TRUE(put("a", "content"));
    const std::filesystem::path file = entry_files().at(0);
    const std::filesystem::path aside = temporary_.path() / "aside";
    std::filesystem::rename(file, aside);
    std::filesystem::create_symlink(aside, file);
    EXPECT_FALSE(get("a"));
    EXPECT_TRUE(std::filesystem::exists(aside));  // the link went, not what it points at

    ASSERT_EQ(::mkfifo(file.c_str(), 0600), 0);
    EXPECT_FALSE(get("a"));

    std::filesystem::rename(aside, file);
    ASSERT_EQ(::chmod(file.c_str(), 0666), 0);
    EXPECT_FALSE(get("a"));
}

TEST_F(ArtifactStoreTest, CollectRemovesDamagedEntries) {
    ASSERT_TRUE(put("good", "good"));
    ASSERT_TRUE(put("bad", std::string(2'500'000, 'x')));
    const std::filesystem::path bad = directory() / (ArtifactStore::make_key(key("bad")) + ".artifact");
    std::string content = base::read_file(bad);
    content.back() ^= 1;  // the last byte of a part: the manifest is whole
    overwrite(bad, content);
    ArtifactStore store = make_store();
    EXPECT_EQ(store.collect(), static_cast<std::int64_t>(content.size()));
    EXPECT_EQ(store.counters().damaged, 1u);
    EXPECT_FALSE(std::filesystem::exists(bad));
    EXPECT_EQ(get("good"), "good");
}

// ---- size

TEST_F(ArtifactStoreTest, EvictsLeastRecentlyUsedFirst) {
    const std::string content(100'000, 'c');
    ArtifactStore store = make_store(450'000);
    for (const char* name : {"a", "b", "c", "d"}) ASSERT_TRUE(store.put(key(name), "net", {{"part", bytes(content)}}));
    ASSERT_TRUE(store.find(key("a")));  // used again: "b" is now the oldest
    ASSERT_TRUE(store.put(key("e"), "net", {{"part", bytes(content)}}));
    EXPECT_FALSE(store.find(key("b")));
    for (const char* name : {"a", "c", "d", "e"}) EXPECT_TRUE(store.find(key(name))) << name;
    const CacheReport report = store.report();
    EXPECT_LE(report.size_bytes, report.limit_bytes);
    ASSERT_EQ(report.entries.size(), 4u);
    EXPECT_EQ(report.entries.front().key, ArtifactStore::make_key(key("e")));
    EXPECT_EQ(report.entries.back().key, ArtifactStore::make_key(key("a")));

    EXPECT_GT(store.collect(250'000), 0);
    EXPECT_FALSE(store.find(key("a")));
    EXPECT_FALSE(store.find(key("c")));
    EXPECT_TRUE(store.find(key("d")));
    EXPECT_TRUE(store.find(key("e")));
    EXPECT_GT(store.collect(0), 0);
    EXPECT_TRUE(entry_files().empty());
}

TEST_F(ArtifactStoreTest, AnEntryAboveTheLimitIsNotStoredAndEvictsNothing) {
    ArtifactStore store = make_store(10'000);
    ASSERT_TRUE(store.put(key("small"), "net", {{"part", bytes("s")}}));
    const std::string large(20'000, 'l');
    EXPECT_FALSE(store.put(key("large"), "net", {{"part", bytes(large)}}));
    EXPECT_TRUE(store.find(key("small")));
}

TEST_F(ArtifactStoreTest, NamesAboveTheLimitsAreRefused) {
    ArtifactStore store = make_store();
    const std::string name(kNameLimit + 1, 'n');
    EXPECT_FALSE(store.put(key("a"), "net", {{name, bytes("x")}}));
    EXPECT_FALSE(store.put(key("a"), std::string(kManifestLimit, 'm'), {}));
    EXPECT_TRUE(store.put(key("a"), "net", {{name.substr(1), bytes("x")}}));
    EXPECT_TRUE(store.find(key("a")));
}

TEST_F(ArtifactStoreTest, ClearRemovesEntriesAndLeavesForeignFilesAlone) {
    ASSERT_TRUE(put("a", "1"));
    ASSERT_TRUE(put("b", "2"));
    overwrite(directory() / "notes.txt", "mine");
    const std::int64_t size = make_store().report().size_bytes;
    EXPECT_EQ(make_store().clear(), size);
    EXPECT_TRUE(entry_files().empty());
    EXPECT_TRUE(std::filesystem::exists(directory() / "notes.txt"));
    EXPECT_EQ(make_store().report().size_bytes, 0);
}

TEST_F(ArtifactStoreTest, ReportNamesModelKindAndSize) {
    ArtifactStore store = make_store();
    const auto before = make_store().report();
    EXPECT_TRUE(before.writable);  // not there yet, but can be made
    EXPECT_FALSE(std::filesystem::exists(directory()));
    ASSERT_TRUE(store.put({{"kind", "import"}, {"model", "abc"}}, "resnet", {{"blob", bytes("12345")}}));
    const CacheReport report = store.report();
    EXPECT_EQ(report.directory, directory());
    EXPECT_TRUE(report.writable);
    ASSERT_EQ(report.entries.size(), 1u);
    EXPECT_EQ(report.entries[0].model, "resnet");
    EXPECT_EQ(report.entries[0].kind, "import");
    EXPECT_EQ(report.entries[0].size_bytes, report.size_bytes);
    EXPECT_EQ(report.size_bytes, static_cast<std::int64_t>(std::filesystem::file_size(entry_files().at(0))));
    EXPECT_GT(report.entries[0].last_used_unix_s, 1'600'000'000);
}

TEST_F(ArtifactStoreTest, DisabledStoreTouchesNothing) {
    ArtifactStore store({.directory = directory(), .enabled = false});
    EXPECT_FALSE(store.put(key("a"), "net", {{"part", bytes("x")}}));
    EXPECT_FALSE(store.find(key("a")));
    store.erase(key("a"));
    EXPECT_EQ(store.collect(), 0);
    EXPECT_EQ(store.clear(), 0);
    EXPECT_FALSE(store.report().writable);
    EXPECT_FALSE(std::filesystem::exists(directory()));
}

// ---- temporary files

TEST_F(ArtifactStoreTest, CollectRemovesTemporariesOfDeadWritersOnly) {
    ASSERT_TRUE(put("a", "1"));
    overwrite(directory() / "tmp-0123456789abcdef", std::string(1000, 't'));
    const std::filesystem::path alive = directory() / "tmp-alive";
    overwrite(alive, "being written");
    const int writer = ::open(alive.c_str(), O_WRONLY);
    ASSERT_GE(writer, 0);
    ASSERT_EQ(::flock(writer, LOCK_EX), 0);
    EXPECT_EQ(make_store().collect(), 1000);
    EXPECT_FALSE(std::filesystem::exists(directory() / "tmp-0123456789abcdef"));
    EXPECT_TRUE(std::filesystem::exists(alive));
    ::close(writer);
    EXPECT_EQ(make_store().collect(), 13);
    EXPECT_EQ(get("a"), "1");
}

// ---- threads

TEST_F(ArtifactStoreTest, ThreadsReadWriteAndCollectAtOnce) {
    ArtifactStore store = make_store(60'000);  // small: eviction runs all the time
    std::atomic<int> wrong{0};
    std::atomic<std::uint64_t> found{0};
    std::vector<std::jthread> threads;
    for (int thread = 0; thread < 4; ++thread) {
        threads.emplace_back([&, thread] {
            std::mt19937 random(static_cast<unsigned>(thread));
            for (int round = 0; round < 60; ++round) {
                const std::string name = "entry" + std::to_string(random() % 8);
                const std::string content = content_of(name);
                if (random() % 2) {
                    if (!store.put(key(name), "net", {{"part", bytes(content)}})) ++wrong;
                } else if (const auto artifact = store.find(key(name))) {
                    ++found;
                    if (*artifact->find("part") != content) ++wrong;
                }
                if (round % 20 == 19) store.collect();
            }
        });
    }
    threads.clear();
    EXPECT_EQ(wrong, 0);
    EXPECT_EQ(store.counters().damaged, 0u);
    EXPECT_EQ(store.counters().hits, found);
    EXPECT_LE(store.report().size_bytes, 60'000);
}

// ---- where it lives

class DefaultDirectory : public ::testing::Test {
protected:
    void SetUp() override {
        for (const char* name : kNames) {
            const char* value = std::getenv(name);
            saved_.emplace_back(name, value ? std::optional<std::string>(value) : std::nullopt);
            ::unsetenv(name);
        }
    }
    void TearDown() override {
        for (const auto& [name, value] : saved_) value ? ::setenv(name, value->c_str(), 1) : ::unsetenv(name);
    }
    static constexpr const char* kNames[] = {"AI_VMM_CACHE_DIR", "XDG_CACHE_HOME", "HOME", "TMPDIR"};
    std::vector<std::pair<const char*, std::optional<std::string>>> saved_;
};

TEST_F(DefaultDirectory, FollowsTheEnvironment) {
    ::setenv("TMPDIR", "/tmp", 1);
    EXPECT_EQ(default_directory(), "/tmp/ai_vmm-" + std::to_string(::geteuid()));
    ::setenv("HOME", "/home/someone", 1);
    EXPECT_EQ(default_directory(), "/home/someone/.cache/ai_vmm");
    ::setenv("XDG_CACHE_HOME", "relative", 1);
    EXPECT_EQ(default_directory(), "/home/someone/.cache/ai_vmm");
    ::setenv("XDG_CACHE_HOME", "/xdg", 1);
    EXPECT_EQ(default_directory(), "/xdg/ai_vmm");
    ::setenv("AI_VMM_CACHE_DIR", "/elsewhere", 1);
    EXPECT_EQ(default_directory(), "/elsewhere");
}

}  // namespace
}  // namespace ai_vmm::cache
