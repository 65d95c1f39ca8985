// SPDX-License-Identifier: Apache-2.0
/// The store among processes: writers at once, writers that are killed, folders and disks that can't be used.
#include <grp.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <functional>
#include <random>

#include "unit/cache/store_fixture.hpp"

namespace ai_vmm::cache {
namespace {

class StoreProcessTest : public StoreFixture {
protected:
    /// Runs `work` in a child process; its result is the exit code.
    static pid_t start(const std::function<int()>& work) {
        const pid_t child = ::fork();
        if (child == 0) {
            int code = 99;
            try {
                code = work();
            } catch (...) {
            }
            ::_exit(code);
        }
        return child;
    }
    /// Exit code, or minus the signal that ended it.
    static int wait(pid_t child) {
        int status = 0;
        ::waitpid(child, &status, 0);
        return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
    }
    static int run(const std::function<int()>& work) { return wait(start(work)); }
};

TEST_F(StoreProcessTest, ProcessesReadWriteEvictAndCollectAtOnce) {
    std::vector<pid_t> children;
    for (unsigned seed = 0; seed < 4; ++seed) {
        children.push_back(start([this, seed] {
            ArtifactStore store = make_store(60'000);
            std::mt19937 random(seed);
            for (int round = 0; round < 80; ++round) {
                const std::string name = "entry" + std::to_string(random() % 8);
                const std::string content = content_of(name);
                if (random() % 2) {
                    if (!store.put(key(name), "net", {{"part", bytes(content)}})) return 1;
                } else if (const auto artifact = store.find(key(name))) {
                    if (artifact->parts.size() != 1 || *artifact->find("part") != content) return 2;
                }
                if (round % 20 == 19) store.collect();
                if (store.counters().damaged != 0) return 3;
            }
            return 0;
        }));
    }
    for (const pid_t child : children) EXPECT_EQ(wait(child), 0);
    EXPECT_LE(make_store().report().size_bytes, 60'000);
    for (const auto& item : std::filesystem::directory_iterator(directory())) {
        EXPECT_FALSE(item.path().filename().string().starts_with("tmp-")) << item.path();
    }
}

TEST_F(StoreProcessTest, KilledWritersLeaveNoDamagedEntry) {
    std::mt19937 random(11);
    for (int round = 0; round < 60; ++round) {
        const pid_t child = start([this, round] {
            ArtifactStore store = make_store();
            for (unsigned i = 0;; ++i) {
                const std::string name = "entry" + std::to_string((static_cast<unsigned>(round) + i) % 5);
                static_cast<void>(store.put(key(name), "net", {{"part", bytes(content_of(name))}}));
            }
            return 0;
        });
        ::usleep(static_cast<useconds_t>(200 + random() % 4000));
        ::kill(child, SIGKILL);
        EXPECT_EQ(wait(child), -SIGKILL);
    }
    ArtifactStore store = make_store();
    int found = 0;
    for (int i = 0; i < 5; ++i) {
        const std::string name = "entry" + std::to_string(i);
        if (const auto artifact = store.find(key(name))) {
            ++found;
            EXPECT_EQ(*artifact->find("part"), content_of(name));
        }
    }
    EXPECT_GT(found, 0);
    EXPECT_EQ(store.counters().damaged, 0u);
    store.collect();
    for (const auto& item : std::filesystem::directory_iterator(directory())) {
        const std::string name = item.path().filename().string();
        EXPECT_TRUE(name == "lock" || name.ends_with(".artifact")) << name;
    }
    // A lock that died with its holder hinders nobody.
    EXPECT_TRUE(put("after", "content"));
    EXPECT_EQ(get("after"), "content");
}

TEST_F(StoreProcessTest, AFileSizeLimitFailsThePutAndNotTheProcess) {
    EXPECT_EQ(run([this] {
                  const rlimit limit{5000, 5000};
                  if (::setrlimit(RLIMIT_FSIZE, &limit) != 0) return 1;
                  ArtifactStore store = make_store();
                  const std::string large(100'000, 'l');
                  if (store.put(key("large"), "net", {{"part", bytes(large)}})) return 2;
                  if (store.find(key("large"))) return 3;
                  if (!store.put(key("small"), "net", {{"part", bytes("s")}})) return 4;
                  if (!store.find(key("small"))) return 5;
                  return 0;
              }),
              0);
    for (const auto& item : std::filesystem::directory_iterator(directory())) {
        EXPECT_FALSE(item.path().filename().string().starts_with("tmp-")) << item.path();
    }
}

TEST_F(StoreProcessTest, AFullDiskFailsThePutAndLeavesNothingBehind) {
    constexpr int kNoMount = 77;
    const int code = run([this] {
        // Private mounts: as root directly, else inside a user namespace where the system allows one.
        if (::unshare(CLONE_NEWNS) != 0 && ::unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0) return kNoMount;
        std::filesystem::create_directory(directory());
        if (::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) return kNoMount;
        if (::mount("tmpfs", directory().c_str(), "tmpfs", 0, "size=256k,mode=0700") != 0) return kNoMount;
        struct ::stat status {};
        if (::stat(directory().c_str(), &status) != 0 || status.st_uid != ::geteuid()) return kNoMount;
        ArtifactStore store = make_store();
        if (!store.put(key("small"), "net", {{"part", bytes("s")}})) return 1;
        const std::string large(1'000'000, 'l');
        if (store.put(key("large"), "net", {{"part", bytes(large)}})) return 2;
        if (store.find(key("large"))) return 3;
        if (!store.find(key("small"))) return 4;
        for (const auto& item : std::filesystem::directory_iterator(directory())) {
            if (item.path().filename().string().starts_with("tmp-")) return 5;
        }
        // Read-only from here on: reading goes on, writing is refused quietly.
        if (::mount("tmpfs", directory().c_str(), nullptr, MS_REMOUNT | MS_RDONLY, "size=256k") != 0) return kNoMount;
        if (store.put(key("other"), "net", {{"part", bytes("o")}})) return 6;
        if (!store.find(key("small"))) return 7;
        if (store.report().writable) return 8;
        if (store.report().entries.size() != 1) return 9;
        store.erase(key("small"));
        if (store.collect(0) != 0) return 10;
        if (store.clear() != 0) return 11;
        if (!store.find(key("small"))) return 12;
        return 0;
    });
    if (code == kNoMount) GTEST_SKIP() << "no file system can be mounted here";
    EXPECT_EQ(code, 0);
}

TEST_F(StoreProcessTest, AFolderWithoutWritePermissionServesReadsOnly) {
    const int code = run([this] {
        if (::geteuid() == 0) {  // root is not held back by mode bits
            constexpr uid_t kNobody = 65534;
            if (::chown(temporary_.path().c_str(), kNobody, kNobody) != 0 || ::setgroups(0, nullptr) != 0) return 77;
            if (::setresgid(kNobody, kNobody, kNobody) != 0 || ::setresuid(kNobody, kNobody, kNobody) != 0) return 77;
        }
        if (!put("a", "content")) return 1;
        if (::chmod(directory().c_str(), 0500) != 0) return 2;
        ArtifactStore store = make_store();
        if (store.put(key("b"), "net", {{"part", bytes("x")}})) return 3;
        if (get("a") != "content") return 4;
        if (store.find(key("b"))) return 5;
        if (store.report().writable) return 6;
        if (::chmod(directory().c_str(), 0000) != 0) return 7;
        if (store.find(key("a"))) return 8;
        if (store.report().writable || !store.report().entries.empty()) return 9;
        if (::chmod(directory().c_str(), 0700) != 0) return 10;
        if (!store.find(key("a"))) return 11;
        return 0;
    });
    if (code == 77) GTEST_SKIP() << "can't become another user here";
    EXPECT_EQ(code, 0);
}

TEST_F(StoreProcessTest, AFolderThatOthersMayWriteToIsNotTrusted) {
    ASSERT_TRUE(put("a", "content"));
    for (const mode_t mode : {0770, 0707, 0777, 01777}) {
        ASSERT_EQ(::chmod(directory().c_str(), mode), 0);
        EXPECT_FALSE(get("a")) << mode;
        EXPECT_FALSE(put("b", "x")) << mode;
        EXPECT_TRUE(make_store().report().entries.empty());
    }
    ASSERT_EQ(::chmod(directory().c_str(), 0700), 0);
    EXPECT_EQ(get("a"), "content");
    EXPECT_FALSE(get("b"));
}

TEST_F(StoreProcessTest, AFolderOfAnotherUserIsNotTrusted) {
    if (::geteuid() != 0) GTEST_SKIP() << "needs root to give the folder away";
    ASSERT_TRUE(put("a", "content"));
    if (::chown(directory().c_str(), 65534, 65534) != 0) GTEST_SKIP() << "can't change owners here";
    EXPECT_FALSE(get("a"));
    EXPECT_FALSE(put("b", "x"));
    ASSERT_EQ(::chown(directory().c_str(), 0, 0), 0);
    EXPECT_EQ(get("a"), "content");
}

TEST_F(StoreProcessTest, AFileInTheFoldersPlaceOrAnUnusablePathIsAnEmptyStore) {
    overwrite(directory(), "a file");
    EXPECT_FALSE(put("a", "x"));
    EXPECT_FALSE(get("a"));
    EXPECT_FALSE(make_store().report().writable);
    EXPECT_EQ(make_store().collect(), 0);
    EXPECT_EQ(make_store().clear(), 0);

    for (const char* path : {"", "/proc/no/such/place", "/dev/null/cache"}) {
        ArtifactStore store({.directory = path});
        EXPECT_FALSE(store.put(key("a"), "net", {{"part", bytes("x")}})) << path;
        EXPECT_FALSE(store.find(key("a"))) << path;
        EXPECT_TRUE(store.report().entries.empty()) << path;
    }
}

TEST_F(StoreProcessTest, AFolderRemovedMeanwhileIsMadeAgain) {
    ArtifactStore store = make_store();
    ASSERT_TRUE(store.put(key("a"), "net", {{"part", bytes("x")}}));
    std::filesystem::remove_all(directory());
    EXPECT_FALSE(store.find(key("a")));
    EXPECT_TRUE(store.put(key("a"), "net", {{"part", bytes("x")}}));
    EXPECT_TRUE(store.find(key("a")));
}

}  // namespace
}  // namespace ai_vmm::cache
