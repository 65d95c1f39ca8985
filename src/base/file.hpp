// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <string_view>

#include "ai_vmm/error.hpp"

namespace ai_vmm::base {

/// The Error for a failed system call on `path`: not_found, permission_denied, resource_exhausted (disk full, quota, too many
/// files) or unknown, category system; `doing` reads like "can't open".
[[nodiscard]] Error system_error(int error_number, std::string_view doing, const std::filesystem::path& path);

/// Whole content. Reads, never maps: a file that shrinks meanwhile gives Error(data_loss) instead of SIGBUS.
/// @throws Error(not_found, permission_denied, invalid_argument for a directory, resource_exhausted above `limit_bytes`).
[[nodiscard]] std::string read_file(const std::filesystem::path& path, std::size_t limit_bytes = SIZE_MAX);
/// At most the first `count` bytes.
[[nodiscard]] std::string read_prefix(const std::filesystem::path& path, std::size_t count);
/// A regular file that is read here and there. Reading is thread-safe.
class RandomAccessFile {
public:
    /// @throws as read_file() does.
    explicit RandomAccessFile(const std::filesystem::path& path, std::size_t limit_bytes = SIZE_MAX);
    ~RandomAccessFile();
    RandomAccessFile(const RandomAccessFile&) = delete;
    RandomAccessFile& operator=(const RandomAccessFile&) = delete;
    /// As it was when the file was opened, bytes.
    [[nodiscard]] std::size_t size() const noexcept { return size_; }
    /// Fills `into` from `offset` on. @throws Error(data_loss) the file has become shorter; system_error().
    void read(std::size_t offset, std::span<std::byte> into) const;

private:
    const std::filesystem::path path_;
    int descriptor_ = -1;
    std::size_t size_ = 0;
};
/// Calls `visit` with consecutive blocks of the file.
void for_each_block(const std::filesystem::path& path, const std::function<void(std::span<const std::byte>)>& visit, std::size_t begin = 0,
                    std::size_t most = SIZE_MAX);
/// Writes a new file. Nothing is flushed to the disk: for what another process reads and nobody keeps. @throws system_error().
void write_file(const std::filesystem::path& path, std::span<const std::byte> content);

/// A fresh directory under the system's temporary folder, removed with everything in it at the end of life.
class TemporaryDirectory {
public:
    explicit TemporaryDirectory(std::string_view prefix = "ai_vmm");
    ~TemporaryDirectory();
    TemporaryDirectory(const TemporaryDirectory&) = delete;
    TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;
    [[nodiscard]] const std::filesystem::path& path() const noexcept { return path_; }

private:
    std::filesystem::path path_;
};

/// Folder that holds the library file with `address` in it (dladdr).
[[nodiscard]] std::filesystem::path library_directory(const void* address);

}  // namespace ai_vmm::base
