// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/stat.h>

#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

/// What the store needs of the file system: descriptors with owners, a folder opened once and used by descriptor, locks.
namespace ai_vmm::cache {

class FileDescriptor {
public:
    explicit FileDescriptor(int value = -1) noexcept : value_(value) {}
    ~FileDescriptor();
    FileDescriptor(FileDescriptor&& other) noexcept : value_(std::exchange(other.value_, -1)) {}
    FileDescriptor& operator=(FileDescriptor&& other) noexcept;
    [[nodiscard]] int get() const noexcept { return value_; }
    [[nodiscard]] explicit operator bool() const noexcept { return value_ >= 0; }

private:
    int value_;
};

/// The folder, opened. Everything below goes through the descriptor, so that renaming or replacing the path meanwhile can't redirect it.
class Folder {
public:
    /// Opens the folder if it can be trusted: a folder of this user that nobody else may write to. `create`: makes it (0700) where it is missing.
    /// @param problem  why it can't be used; empty if it is merely missing.
    [[nodiscard]] static std::optional<Folder> open(const std::filesystem::path& path, bool create, std::string& problem);

    [[nodiscard]] int descriptor() const noexcept { return descriptor_.get(); }
    [[nodiscard]] std::vector<std::string> names() const;
    [[nodiscard]] bool writable() const noexcept;
    /// A regular file of this user, for reading; never follows a link.
    /// @param error_number  ENOENT, or EPERM for what is not such a file, or what open() said.
    [[nodiscard]] FileDescriptor open_file(const std::string& name, struct ::stat& status, int& error_number) const;
    bool remove(const std::string& name) const noexcept;
    /// Takes the folder's lock, waiting up to `timeout_ms`; released with the descriptor, also when the process is killed.
    [[nodiscard]] FileDescriptor lock(int timeout_ms) const;

private:
    explicit Folder(FileDescriptor descriptor) noexcept : descriptor_(std::move(descriptor)) {}
    FileDescriptor descriptor_;
};

/// A file under a temporary name that becomes an entry by publish(), or goes away. Locked while its writer lives.
class TemporaryFile {
public:
    static constexpr std::string_view kPrefix = "tmp-";

    /// @throws base::system_error().
    explicit TemporaryFile(const Folder& folder);
    ~TemporaryFile();
    TemporaryFile(const TemporaryFile&) = delete;
    TemporaryFile& operator=(const TemporaryFile&) = delete;

    /// @throws base::system_error(), also where a file size limit of the process is reached (SIGXFSZ is kept from the process).
    void write(std::span<const std::byte> bytes);
    /// Renames it to `name`, replacing what is there. @throws base::system_error().
    void publish(const std::string& name);

private:
    const Folder& folder_;
    std::string name_;
    FileDescriptor file_;
};

/// Bytes freed by removing temporary files whose writers are gone.
std::int64_t remove_dead_temporaries(const Folder& folder);

}  // namespace ai_vmm::cache
