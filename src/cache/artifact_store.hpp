// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ai_vmm/vmm.hpp"

namespace ai_vmm::cache {

/// What an artifact is valid for, as name and value pairs; equal parts in equal order give an equal key.
/// E.g. {"kind","plan"}, {"model",sha256}, {"engine","openvino 2026.4.1"}, {"device","AMD EPYC … avx512_bf16 …"}.
using KeyParts = std::vector<std::pair<std::string, std::string>>;

/// A verified entry that was read: named parts.
struct Artifact {
    std::string key;
    std::vector<std::pair<std::string, std::string>> parts;  ///< name, content
    [[nodiscard]] const std::string* find(std::string_view name) const noexcept;
};

/// What put() is given: a part's name and its bytes, which may lie in several places.
struct NewPart {
    NewPart(std::string part, std::span<const std::byte> bytes) : name(std::move(part)), pieces{bytes} {}
    NewPart(std::string part, std::vector<std::span<const std::byte>> bytes) : name(std::move(part)), pieces(std::move(bytes)) {}
    std::string name;
    std::vector<std::span<const std::byte>> pieces;  ///< borrowed
};

/// Content-addressed store of artifacts in a folder, shared by any number of processes and threads.
///
/// An entry appears whole or not at all (written aside, renamed). Each carries checksums over everything; a damaged one is removed,
/// logged and counted, never returned. `kill -9` at any moment leaves at worst temporary files, which collect() removes.
/// The folder is 0700. A store whose folder can't be used (read-only, full, missing permission) works as an empty one: find() misses, put()
/// returns false, with one warning in the log; nothing throws for that reason. File format: docs/design/0003-artifact-cache.md.
class ArtifactStore {
public:
    struct Options {
        std::filesystem::path directory;
        std::int64_t limit_bytes = std::int64_t{8} << 30;
        bool enabled = true;
    };
    struct Counters {
        std::uint64_t hits = 0, misses = 0, damaged = 0;
    };

    explicit ArtifactStore(Options options);
    ~ArtifactStore();

    [[nodiscard]] static std::string make_key(const KeyParts& parts);

    /// The entry, verified, or nothing. Marks it as used.
    [[nodiscard]] std::optional<Artifact> find(const KeyParts& parts);
    /// Stores (or replaces) an entry and evicts least recently used ones above the limit. False if it could not be stored (logged).
    bool put(const KeyParts& parts, std::string_view model_name, const std::vector<NewPart>& contents);
    /// Removes the entry if it is there.
    void erase(const KeyParts& parts);

    /// False: find() always misses and put() stores nothing, as the options say.
    [[nodiscard]] bool enabled() const noexcept;
    [[nodiscard]] CacheReport report() const;
    /// Removes damaged entries, left-over temporary files of dead writers and least recently used entries above the limit. Bytes freed.
    std::int64_t collect(std::optional<std::int64_t> limit_bytes = {});
    std::int64_t clear();
    [[nodiscard]] Counters counters() const noexcept;

private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

/// $AI_VMM_CACHE_DIR, else $XDG_CACHE_HOME/ai_vmm, else $HOME/.cache/ai_vmm, else a folder under the temporary directory.
[[nodiscard]] std::filesystem::path default_directory();

}  // namespace ai_vmm::cache
