// SPDX-License-Identifier: Apache-2.0
#include "cache/folder.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <ctime>
#include <random>
#include <system_error>
#include <thread>

#include "base/file.hpp"
#include "cache/artifact_store.hpp"

namespace ai_vmm::cache {
namespace {

constexpr const char* kLockName = "lock";
// Errors name the purpose: the random name says nothing, and would make every message a new one.
constexpr const char* kWhat = "a temporary file";

/// Keeps SIGXFSZ (a write beyond RLIMIT_FSIZE), which ends a process by default, from this thread; write() then just fails with EFBIG.
class FileSizeSignalGuard {
public:
    FileSizeSignalGuard() noexcept {
        sigemptyset(&signal_);
        sigaddset(&signal_, SIGXFSZ);
        sigset_t pending;
        sigemptyset(&pending);
        sigpending(&pending);
        was_pending_ = sigismember(&pending, SIGXFSZ) == 1;
        pthread_sigmask(SIG_BLOCK, &signal_, &before_);
    }
    ~FileSizeSignalGuard() {
        if (!was_pending_) {
            const timespec now{};
            while (sigtimedwait(&signal_, nullptr, &now) < 0 && errno == EINTR) {
            }
        }
        pthread_sigmask(SIG_SETMASK, &before_, nullptr);
    }
    FileSizeSignalGuard(const FileSizeSignalGuard&) = delete;
    FileSizeSignalGuard& operator=(const FileSizeSignalGuard&) = delete;

private:
    sigset_t signal_{};
    sigset_t before_{};
    bool was_pending_ = false;
};

/// mkdir -p; every folder made is 0700, as the XDG base directory specification asks.
int make_folders(const std::filesystem::path& path) {
    std::filesystem::path so_far;
    for (const auto& element : path) {
        so_far /= element;
        if (so_far == so_far.root_path()) continue;
        if (::mkdir(so_far.c_str(), 0700) != 0 && errno != EEXIST && errno != EISDIR) {
            // An ancestor on a read-only file system may exist all the same.
            const int error_number = errno;
            struct ::stat status {};
            if (::stat(so_far.c_str(), &status) != 0 || !S_ISDIR(status.st_mode)) return error_number;
        }
    }
    return 0;
}

std::string random_name() {
    std::random_device device;
    static constexpr char kDigits[] = "0123456789abcdef";
    std::string name(TemporaryFile::kPrefix);
    for (int word = 0; word < 4; ++word) {
        std::uint32_t value = device();
        for (int digit = 0; digit < 8; ++digit, value >>= 4) name.push_back(kDigits[value & 15]);
    }
    return name;
}

}  // namespace

FileDescriptor::~FileDescriptor() {
    if (value_ >= 0) ::close(value_);
}

FileDescriptor& FileDescriptor::operator=(FileDescriptor&& other) noexcept {
    std::swap(value_, other.value_);
    return *this;
}

std::optional<Folder> Folder::open(const std::filesystem::path& path, bool create, std::string& problem) {
    problem.clear();
    const auto open_it = [&] { return FileDescriptor(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)); };
    FileDescriptor descriptor = open_it();
    if (!descriptor && errno == ENOENT) {
        if (!create) return std::nullopt;
        if (const int error_number = make_folders(path); error_number != 0) {
            problem = "can't make it: " + std::generic_category().message(error_number);
            return std::nullopt;
        }
        descriptor = open_it();
    }
    if (!descriptor) {
        problem = "can't open it: " + std::generic_category().message(errno);
        return std::nullopt;
    }
    struct ::stat status {};
    if (::fstat(descriptor.get(), &status) != 0) {
        problem = "can't look at it: " + std::generic_category().message(errno);
        return std::nullopt;
    }
    if (status.st_uid != ::geteuid()) {
        problem = "it belongs to user " + std::to_string(status.st_uid) + ", not to user " + std::to_string(::geteuid());
        return std::nullopt;
    }
    if ((status.st_mode & (S_IWGRP | S_IWOTH)) != 0) {
        problem = "other users may write to it (chmod 700 makes it usable)";
        return std::nullopt;
    }
    return Folder(std::move(descriptor));
}

std::vector<std::string> Folder::names() const {
    std::vector<std::string> names;
    const int own = ::openat(descriptor(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);  // closedir() closes what it was given
    if (own < 0) return names;
    DIR* stream = ::fdopendir(own);
    if (!stream) {
        ::close(own);
        return names;
    }
    try {
        while (const dirent* item = ::readdir(stream)) names.emplace_back(item->d_name);
    } catch (...) {
        ::closedir(stream);
        throw;
    }
    ::closedir(stream);
    return names;
}

bool Folder::writable() const noexcept { return ::faccessat(descriptor(), ".", W_OK | X_OK, AT_EACCESS) == 0; }

FileDescriptor Folder::open_file(const std::string& name, struct ::stat& status, int& error_number) const {
    // O_NONBLOCK: a named pipe must not hang us.
    FileDescriptor file(::openat(descriptor(), name.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
    if (!file || ::fstat(file.get(), &status) != 0) {
        error_number = errno == ELOOP ? EPERM : errno;
        return FileDescriptor();
    }
    if (!S_ISREG(status.st_mode) || status.st_uid != ::geteuid() || (status.st_mode & (S_IWGRP | S_IWOTH)) != 0) {
        error_number = EPERM;
        return FileDescriptor();
    }
    error_number = 0;
    return file;
}

bool Folder::remove(const std::string& name) const noexcept { return ::unlinkat(descriptor(), name.c_str(), 0) == 0; }

FileDescriptor Folder::lock(int timeout_ms) const {
    FileDescriptor file(::openat(descriptor(), kLockName, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600));
    if (!file) return FileDescriptor();
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::milliseconds(timeout_ms);
    while (::flock(file.get(), LOCK_EX | LOCK_NB) != 0) {
        if (errno != EWOULDBLOCK && errno != EINTR) return FileDescriptor();
        if (std::chrono::steady_clock::now() >= deadline) return FileDescriptor();
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    return file;
}

TemporaryFile::TemporaryFile(const Folder& folder) : folder_(folder) {
    for (int attempt = 0; attempt < 16; ++attempt) {
        const std::string name = random_name();
        FileDescriptor file(::openat(folder.descriptor(), name.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
        if (!file) {
            if (errno == EEXIST) continue;
            throw base::system_error(errno, "can't make", kWhat);
        }
        // Between the two calls a collector may take the file for a dead writer's: then it is locked by it, or has no name left.
        struct ::stat status {};
        if (::flock(file.get(), LOCK_EX | LOCK_NB) == 0 && ::fstat(file.get(), &status) == 0 && status.st_nlink == 1) {
            name_ = name;
            file_ = std::move(file);
            return;
        }
        folder.remove(name);
    }
    throw base::system_error(EAGAIN, "can't make", kWhat);
}

TemporaryFile::~TemporaryFile() {
    if (!name_.empty()) folder_.remove(name_);
}

void TemporaryFile::write(std::span<const std::byte> bytes) {
    const FileSizeSignalGuard guard;
    while (!bytes.empty()) {
        const ssize_t written = ::write(file_.get(), bytes.data(), std::min(bytes.size(), std::size_t{1} << 26));
        if (written < 0) {
            if (errno == EINTR) continue;
            throw base::system_error(errno, "can't write", kWhat);
        }
        bytes = bytes.subspan(static_cast<std::size_t>(written));
    }
}

void TemporaryFile::publish(const std::string& name) {
    if (::renameat(folder_.descriptor(), name_.c_str(), folder_.descriptor(), name.c_str()) != 0) {
        throw base::system_error(errno, "can't rename", kWhat);
    }
    name_.clear();
}

std::int64_t remove_dead_temporaries(const Folder& folder) {
    std::int64_t freed = 0;
    for (const std::string& name : folder.names()) {
        if (!name.starts_with(TemporaryFile::kPrefix)) continue;
        struct ::stat status {};
        int error_number = 0;
        const FileDescriptor file = folder.open_file(name, status, error_number);
        if (!file || ::flock(file.get(), LOCK_EX | LOCK_NB) != 0) continue;  // its writer lives
        struct ::stat named {};
        // The writer may have published it, and another one taken the name, since it was opened.
        if (::fstatat(folder.descriptor(), name.c_str(), &named, AT_SYMLINK_NOFOLLOW) != 0 || named.st_ino != status.st_ino) continue;
        if (::fstat(file.get(), &status) == 0 && folder.remove(name)) freed += status.st_size;
    }
    return freed;
}

std::filesystem::path default_directory() {
    const auto variable = [](const char* name) -> std::filesystem::path {
        const char* text = std::getenv(name);
        return text && *text ? std::filesystem::path(text) : std::filesystem::path();
    };
    if (auto path = variable("AI_VMM_CACHE_DIR"); !path.empty()) return path;
    // The XDG base directory specification: relative paths are to be ignored.
    if (auto path = variable("XDG_CACHE_HOME"); path.is_absolute()) return path / "ai_vmm";
    if (auto path = variable("HOME"); path.is_absolute()) return path / ".cache" / "ai_vmm";
    std::error_code error;
    std::filesystem::path temporary = std::filesystem::temp_directory_path(error);
    if (error) temporary = "/tmp";
    // Others may have made it first: Folder::open() then refuses it.
    return temporary / ("ai_vmm-" + std::to_string(::geteuid()));
}

}  // namespace ai_vmm::cache
