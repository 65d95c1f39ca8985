// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "cache/artifact_store.hpp"

/// Layout of an entry file, without any file access. Described in docs/design/0003-artifact-cache.md.
namespace ai_vmm::cache {

/// Other versions are misses, not damage: they may belong to another release that shares the folder.
inline constexpr std::uint32_t kFormatVersion = 2;
/// magic 8, version 4, manifest size 4, content size 8, SHA-256 of those 24 bytes and the manifest as 64 hex digits.
inline constexpr std::size_t kHeaderSize = 88;
inline constexpr std::size_t kManifestLimit = std::size_t{1} << 20;
inline constexpr std::size_t kPartLimit = 4096;
inline constexpr std::size_t kNameLimit = 255;

/// The fixed part of a file's start, its sizes checked against the limits and the file's size; the digest is checked by parse_manifest().
struct EntryHeader {
    std::uint32_t manifest_size = 0;
    std::uint64_t content_size = 0;
    std::string digest;
};

struct EntryPart {
    std::string name;
    std::uint64_t size_bytes = 0;
    std::string digest;  ///< base::content_digest()
};

struct Manifest {
    std::string key;
    std::string model;
    std::string kind;
    KeyParts key_parts;  ///< for people; bytes that are not UTF-8 are replaced
    std::vector<EntryPart> parts;
    [[nodiscard]] std::uint64_t content_size() const noexcept;
};

enum class ParseStatus {
    ok,
    other_version,  ///< ours, of another format version
    damaged,
};

/// @param start  the file's first kHeaderSize bytes (fewer if it is shorter).
[[nodiscard]] ParseStatus parse_header(std::string_view start, std::uint64_t file_size, EntryHeader& header);

/// Verifies `manifest` against the digest and checks every size and count in it. Nothing if any of it is wrong.
/// @param start  the same bytes that `header` came from.
[[nodiscard]] std::optional<Manifest> parse_manifest(const EntryHeader& header, std::string_view start, std::string_view manifest);

/// Header and manifest as they stand in the file. Empty if a name or a count is above its limit.
[[nodiscard]] std::string make_head(const Manifest& manifest);

/// 64 lower-case hex digits?
[[nodiscard]] bool is_digest(std::string_view text) noexcept;

}  // namespace ai_vmm::cache
