// SPDX-License-Identifier: Apache-2.0
#include "cache/artifact_store.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <ctime>
#include <exception>
#include <mutex>
#include <set>
#include <system_error>

#include "base/hash.hpp"
#include "base/log.hpp"
#include "base/memory.hpp"
#include "cache/entry_format.hpp"
#include "cache/folder.hpp"

namespace ai_vmm::cache {
namespace {

constexpr std::string_view kSuffix = ".artifact";
constexpr std::size_t kBlock = std::size_t{1} << 20;
constexpr int kLockTimeoutMs = 2000;

std::string file_name(std::string_view key) { return std::string(key).append(kSuffix); }

/// The key in an entry's file name; empty for other files.
std::string_view key_of(std::string_view name) {
    if (!name.ends_with(kSuffix)) return {};
    name.remove_suffix(kSuffix.size());
    return is_digest(name) ? name : std::string_view{};
}

/// Reads exactly `size` bytes into `out`. False if the file ends early or can't be read (then errno is set; 0 for an early end).
bool read_whole(int file, char* out, std::size_t size) {
    while (size > 0) {
        const ssize_t got = ::read(file, out, size);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) {
            if (got == 0) errno = 0;
            return false;
        }
        out += got;
        size -= static_cast<std::size_t>(got);
    }
    return true;
}

enum class ReadStatus { ok, missing, other_version, damaged, unreadable };

/// An entry file that was opened and whose manifest was verified.
struct OpenEntry {
    FileDescriptor file;
    struct ::stat status {};
    Manifest manifest;
    int error_number = 0;
};

ReadStatus open_entry(const Folder& folder, const std::string& name, OpenEntry& entry) {
    entry.file = folder.open_file(name, entry.status, entry.error_number);
    if (!entry.file) {
        if (entry.error_number == ENOENT) return ReadStatus::missing;
        // Something that no store has written: not to be trusted, and in the way.
        return entry.error_number == EPERM ? ReadStatus::damaged : ReadStatus::unreadable;
    }
    const auto failed = [&] {
        entry.error_number = errno;
        return errno == 0 ? ReadStatus::damaged : ReadStatus::unreadable;
    };
    const auto size = static_cast<std::uint64_t>(entry.status.st_size);
    if (size < kHeaderSize) return ReadStatus::damaged;
    std::string start(kHeaderSize, '\0');
    if (!read_whole(entry.file.get(), start.data(), start.size())) return failed();
    EntryHeader header;
    switch (parse_header(start, size, header)) {
        case ParseStatus::ok: break;
        case ParseStatus::other_version: return ReadStatus::other_version;
        case ParseStatus::damaged: return ReadStatus::damaged;
    }
    std::string text(header.manifest_size, '\0');
    if (!read_whole(entry.file.get(), text.data(), text.size())) return failed();
    std::optional<Manifest> manifest = parse_manifest(header, start, text);
    // The key inside must be the one of the name: a file that was copied or renamed is not what is asked for.
    if (!manifest || manifest->key != key_of(name)) return ReadStatus::damaged;
    entry.manifest = std::move(*manifest);
    return ReadStatus::ok;
}

/// Verifies every part; puts them into `artifact` unless it is null.
ReadStatus read_parts(OpenEntry& entry, Artifact* artifact) {
    std::string scratch;
    std::uint64_t at = static_cast<std::uint64_t>(entry.status.st_size) - entry.manifest.content_size();
    const auto failed = [&] {
        entry.error_number = errno;
        return errno == 0 ? ReadStatus::damaged : ReadStatus::unreadable;
    };
    for (const EntryPart& part : entry.manifest.parts) {
        std::string digest;
        if (artifact) {
            std::string content = base::zeros(part.size_bytes);
            digest = base::read_and_digest(entry.file.get(), at, std::as_writable_bytes(std::span(content)));
            if (digest.empty()) return failed();
            artifact->parts.emplace_back(part.name, std::move(content));
        } else {
            base::ContentDigest hash;
            scratch.resize(kBlock);
            for (std::uint64_t left = part.size_bytes; left > 0; left -= std::min<std::uint64_t>(left, kBlock)) {
                const std::span block(scratch.data(), static_cast<std::size_t>(std::min<std::uint64_t>(left, kBlock)));
                if (!read_whole(entry.file.get(), block.data(), block.size())) return failed();
                hash.update(std::as_bytes(block));
            }
            digest = hash.hex();
        }
        if (digest != part.digest) return ReadStatus::damaged;
        at += part.size_bytes;
    }
    return ReadStatus::ok;
}

/// Marks as used now: the modification time is the clock of eviction. Not UTIME_NOW, which has the resolution of the timer tick.
void touch(int file) {
    timespec now[2] = {};
    ::clock_gettime(CLOCK_REALTIME, &now[0]);
    now[1] = now[0];
    ::futimens(file, now);  // a folder that can't be written still serves reads
}

struct StoredFile {
    std::string name;
    std::int64_t size_bytes;
    timespec used;
    ino_t inode;
    [[nodiscard]] bool operator<(const StoredFile& other) const noexcept {
        if (used.tv_sec != other.used.tv_sec) return used.tv_sec < other.used.tv_sec;
        if (used.tv_nsec != other.used.tv_nsec) return used.tv_nsec < other.used.tv_nsec;
        return name < other.name;
    }
};

/// Entry files (of any format version), least recently used first.
std::vector<StoredFile> list(const Folder& folder) {
    std::vector<StoredFile> files;
    for (std::string& name : folder.names()) {
        if (key_of(name).empty()) continue;
        struct ::stat status {};
        if (::fstatat(folder.descriptor(), name.c_str(), &status, AT_SYMLINK_NOFOLLOW) != 0) continue;
        files.push_back({std::move(name), static_cast<std::int64_t>(status.st_size), status.st_mtim, status.st_ino});
    }
    std::sort(files.begin(), files.end());
    return files;
}

/// Removes least recently used entries until `limit` holds; `keep` stays. Bytes freed. The caller holds the folder's lock.
std::int64_t evict(const Folder& folder, std::int64_t limit, std::string_view keep) {
    const std::vector<StoredFile> files = list(folder);
    std::int64_t total = 0;
    for (const StoredFile& file : files) total += file.size_bytes;
    std::int64_t freed = 0;
    for (const StoredFile& file : files) {
        if (total - freed <= limit) break;
        if (file.name == keep) continue;
        if (folder.remove(file.name)) {
            freed += file.size_bytes;
            base::log_info("cache: evicted " + file.name);
        }
    }
    return freed;
}

}  // namespace

const std::string* Artifact::find(std::string_view name) const noexcept {
    for (const auto& [part, content] : parts) {
        if (part == name) return &content;
    }
    return nullptr;
}

struct ArtifactStore::Impl {
    Options options;
    std::atomic<std::uint64_t> hits{0}, misses{0}, damaged{0};
    std::mutex warned_mutex;
    std::set<std::string> warned;  // guarded by warned_mutex

    /// Logs each message once in the store's life: a cache that can't be used is said, not repeated per deployment.
    void warn_once(const std::string& message) {
        const std::lock_guard lock(warned_mutex);
        if (warned.size() < 64 && warned.insert(message).second) base::log_warning(message);
    }

    std::optional<Folder> open(bool create) {
        if (!options.enabled || options.directory.empty()) return std::nullopt;
        std::string problem;
        std::optional<Folder> folder = Folder::open(options.directory, create, problem);
        if (!folder && !problem.empty()) {
            const bool told = problem.find('(') != std::string::npos;  // what makes it usable
            warn_once("cache: " + options.directory.string() + " is not used: " + problem +
                      (told ? "" : "; to do: choose a folder that you may write to (--cache-dir, AI_VMM_CACHE_DIR, the option cache_dir)"));
        }
        return folder;
    }

    /// Removes the damaged file that was seen, and no whole one that another process has put in its place since.
    std::int64_t remove_damaged(const Folder& folder, const std::string& name, const OpenEntry& entry) {
        damaged.fetch_add(1, std::memory_order_relaxed);
        base::log_warning("cache: entry " + name + " in " + options.directory.string() + " is damaged; it is removed and will be rebuilt");
        const FileDescriptor lock = folder.lock(kLockTimeoutMs);
        if (!lock) return 0;
        struct ::stat status {};
        if (::fstatat(folder.descriptor(), name.c_str(), &status, AT_SYMLINK_NOFOLLOW) != 0) return 0;
        if (entry.file && status.st_ino != entry.status.st_ino) return 0;
        return folder.remove(name) ? static_cast<std::int64_t>(status.st_size) : 0;
    }

    std::optional<Artifact> find(const std::string& key) {
        const std::optional<Folder> folder = open(false);
        if (!folder) return std::nullopt;
        const std::string name = file_name(key);
        OpenEntry entry;
        Artifact artifact{key, {}};
        ReadStatus status = open_entry(*folder, name, entry);
        if (status == ReadStatus::ok) status = read_parts(entry, &artifact);
        switch (status) {
            case ReadStatus::ok: touch(entry.file.get()); return artifact;
            case ReadStatus::damaged: remove_damaged(*folder, name, entry); break;
            case ReadStatus::unreadable: warn_once("cache: can't read " + name + ": " + std::generic_category().message(entry.error_number)); break;
            case ReadStatus::missing:
            case ReadStatus::other_version: break;
        }
        return std::nullopt;
    }
};

ArtifactStore::ArtifactStore(Options options) : impl_(std::make_unique<Impl>()) { impl_->options = std::move(options); }
ArtifactStore::~ArtifactStore() = default;

std::string ArtifactStore::make_key(const KeyParts& parts) {
    base::Sha256 hash;
    // Lengths keep ("a", "bc") apart from ("ab", "c"); the version keeps releases with other formats out of each other's way.
    const auto add = [&](std::string_view text) { hash.update(std::to_string(text.size())).update(":").update(text); };
    add("ai_vmm artifact " + std::to_string(kFormatVersion));
    for (const auto& [name, value] : parts) {
        add(name);
        add(value);
    }
    return hash.hex();
}

std::optional<Artifact> ArtifactStore::find(const KeyParts& parts) {
    if (!impl_->options.enabled) return std::nullopt;
    std::optional<Artifact> artifact;
    try {
        artifact = impl_->find(make_key(parts));
    } catch (const std::exception& error) {  // no memory
        impl_->warn_once(std::string("cache: reading failed: ") + error.what());
    }
    (artifact ? impl_->hits : impl_->misses).fetch_add(1, std::memory_order_relaxed);
    return artifact;
}

bool ArtifactStore::put(const KeyParts& parts, std::string_view model_name, const std::vector<NewPart>& contents) {
    if (!impl_->options.enabled) return false;
    try {
        Manifest manifest;
        manifest.key = make_key(parts);
        manifest.model = model_name;
        manifest.key_parts = parts;
        for (const auto& [name, value] : parts) {
            if (name == "kind") manifest.kind = value;
        }
        for (const NewPart& part : contents) {
            std::uint64_t size = 0;
            for (const auto& piece : part.pieces) size += piece.size();
            manifest.parts.push_back({part.name, size, base::content_digest(part.pieces)});
        }
        const std::string head = make_head(manifest);
        if (head.empty()) {
            base::log_warning("cache: an entry for " + std::string(model_name) + " has too many or too long names and is not stored");
            return false;
        }
        const std::uint64_t size = head.size() + manifest.content_size();
        if (impl_->options.limit_bytes < 0 || size > static_cast<std::uint64_t>(impl_->options.limit_bytes)) {
            base::log_info("cache: an entry of " + std::to_string(size) + " bytes for " + std::string(model_name) + " is above the limit");
            return false;
        }
        const std::optional<Folder> folder = impl_->open(true);
        if (!folder) return false;

        const std::string name = file_name(manifest.key);
        TemporaryFile file(*folder);
        file.write(std::as_bytes(std::span(head)));
        for (const NewPart& part : contents) {
            for (const auto& piece : part.pieces) file.write(piece);
        }
        // Not flushed to the disk: an entry that a loss of power leaves damaged is found by its checksums, and waiting for hundreds of megabytes is
        // most of what storing them takes.
        // The lock keeps the removal of a damaged entry from taking this one; renaming alone is safe without it.
        const FileDescriptor lock = folder->lock(kLockTimeoutMs);
        file.publish(name);
        if (lock) evict(*folder, impl_->options.limit_bytes, name);
        return true;
    } catch (const std::exception& error) {
        impl_->warn_once("cache: an entry could not be stored in " + impl_->options.directory.string() + ": " + error.what());
        return false;
    }
}

void ArtifactStore::erase(const KeyParts& parts) {
    try {
        if (const std::optional<Folder> folder = impl_->open(false)) folder->remove(file_name(make_key(parts)));
    } catch (const std::exception& error) {
        impl_->warn_once(std::string("cache: removing failed: ") + error.what());
    }
}

CacheReport ArtifactStore::report() const {
    CacheReport report;
    report.directory = impl_->options.directory;
    report.limit_bytes = impl_->options.limit_bytes;
    const std::optional<Folder> folder = impl_->open(false);
    if (!folder) {
        // A folder that is merely missing will be made by the first put(): look at the nearest ancestor that is there.
        std::string problem;
        std::error_code error;
        std::filesystem::path path = std::filesystem::absolute(report.directory, error);
        if (!impl_->options.enabled || report.directory.empty() || std::filesystem::exists(path, error) || error) return report;
        while (path.has_relative_path() && !std::filesystem::exists(path, error)) path = path.parent_path();
        report.writable = std::filesystem::is_directory(path, error) && ::faccessat(AT_FDCWD, path.c_str(), W_OK | X_OK, AT_EACCESS) == 0;
        return report;
    }
    report.writable = folder->writable();
    for (const StoredFile& file : list(*folder)) {
        CacheEntry item;
        item.key = key_of(file.name);
        item.size_bytes = file.size_bytes;
        item.last_used_unix_s = file.used.tv_sec;
        OpenEntry entry;
        switch (open_entry(*folder, file.name, entry)) {
            case ReadStatus::ok:
                item.model = entry.manifest.model;
                item.kind = entry.manifest.kind;
                break;
            case ReadStatus::missing: continue;
            case ReadStatus::other_version: item.kind = "of another version"; break;
            case ReadStatus::damaged: item.kind = "damaged"; break;
            case ReadStatus::unreadable: item.kind = "unreadable"; break;
        }
        report.size_bytes += item.size_bytes;
        report.entries.push_back(std::move(item));
    }
    std::reverse(report.entries.begin(), report.entries.end());
    return report;
}

std::int64_t ArtifactStore::collect(std::optional<std::int64_t> limit_bytes) {
    std::int64_t freed = 0;
    try {
        const std::optional<Folder> folder = impl_->open(false);
        if (!folder) return 0;
        freed += remove_dead_temporaries(*folder);
        for (const StoredFile& file : list(*folder)) {
            OpenEntry entry;
            ReadStatus status = open_entry(*folder, file.name, entry);
            if (status == ReadStatus::ok) status = read_parts(entry, nullptr);
            if (status == ReadStatus::damaged) freed += impl_->remove_damaged(*folder, file.name, entry);
        }
        if (const FileDescriptor lock = folder->lock(kLockTimeoutMs)) {
            freed += evict(*folder, std::max<std::int64_t>(0, limit_bytes.value_or(impl_->options.limit_bytes)), {});
        }
    } catch (const std::exception& error) {
        impl_->warn_once(std::string("cache: collecting failed: ") + error.what());
    }
    return freed;
}

std::int64_t ArtifactStore::clear() {
    std::int64_t freed = 0;
    try {
        const std::optional<Folder> folder = impl_->open(false);
        if (!folder) return 0;
        freed += remove_dead_temporaries(*folder);
        const FileDescriptor lock = folder->lock(kLockTimeoutMs);
        for (const StoredFile& file : list(*folder)) {
            if (folder->remove(file.name)) freed += file.size_bytes;
        }
    } catch (const std::exception& error) {
        impl_->warn_once(std::string("cache: clearing failed: ") + error.what());
    }
    return freed;
}

bool ArtifactStore::enabled() const noexcept { return impl_->options.enabled; }

ArtifactStore::Counters ArtifactStore::counters() const noexcept {
    return {impl_->hits.load(std::memory_order_relaxed), impl_->misses.load(std::memory_order_relaxed),
            impl_->damaged.load(std::memory_order_relaxed)};
}

}  // namespace ai_vmm::cache
