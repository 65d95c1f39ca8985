// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>

namespace ai_vmm::base {

/// SHA-256 (FIPS 180-4), incrementally. Not thread-safe.
class Sha256 {
public:
    Sha256();
    ~Sha256();
    Sha256(Sha256&&) noexcept;
    Sha256& operator=(Sha256&&) noexcept;

    Sha256& update(const void* data, std::size_t size_bytes);
    Sha256& update(std::string_view text) { return update(text.data(), text.size()); }
    /// 64 lower-case hex digits. The object can't be used afterwards.
    [[nodiscard]] std::string hex();

private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

[[nodiscard]] std::string sha256_hex(std::span<const std::byte> bytes);
[[nodiscard]] std::string sha256_hex(std::string_view text);

/// A digest of large contents that several threads compute: the SHA-256 of the SHA-256 digests, in hex, of pieces of 16 MiB. 64 lower-case hex
/// digits.
[[nodiscard]] std::string content_digest(std::span<const std::byte> bytes);
/// Of a file's content, read in blocks (never memory-mapped).
/// @throws Error(not_found / permission_denied / data_loss).
[[nodiscard]] std::string content_digest(const std::filesystem::path& path);
/// Of contents that lie in pieces. By one thread unless it is one piece, or all but the last have 16 MiB (PieceBuffer).
[[nodiscard]] std::string content_digest(std::span<const std::span<const std::byte>> pieces);
/// Reads a file from `offset` on until `into` is full; of what was read. Empty if it ends early or can't be read (then errno is set; 0 for an early
/// end). Each thread digests what it has just read.
[[nodiscard]] std::string read_and_digest(int file, std::uint64_t offset, std::span<std::byte> into);

/// The same of contents that come block by block, by one thread. Not thread-safe.
class ContentDigest {
public:
    void update(std::span<const std::byte> block);
    /// The object can't be used afterwards.
    [[nodiscard]] std::string hex();

private:
    Sha256 piece_, all_;
    std::size_t in_piece_ = 0;
    bool any_ = false;
};

}  // namespace ai_vmm::base
