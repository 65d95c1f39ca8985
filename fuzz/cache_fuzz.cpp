// SPDX-License-Identifier: Apache-2.0
/// Arbitrary bytes in the place of a cache entry: find() must neither crash nor return anything that the checksums don't cover.
/// The first byte chooses how deep to go: 0 the file as it is; 1 a manifest with its digest made right; 2 a well-formed entry, damaged in places.
#include <fcntl.h>
#include <fuzzer/FuzzedDataProvider.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <string>

#include "base/file.hpp"
#include "base/hash.hpp"
#include "cache/artifact_store.hpp"
#include "cache/entry_format.hpp"

namespace {

using namespace ai_vmm;

const cache::KeyParts kKey = {{"kind", "fuzz"}};

void require(bool condition) {
    if (!condition) std::abort();
}

const std::filesystem::path& folder() {
    static const base::TemporaryDirectory directory("ai_vmm_cache_fuzz");
    static const std::filesystem::path path = directory.path() / "cache";
    return path;
}

void write_entry(const std::string& content) {
    ::mkdir(folder().c_str(), 0700);
    const std::string path = (folder() / (cache::ArtifactStore::make_key(kKey) + ".artifact")).string();
    ::unlink(path.c_str());
    const int file = ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
    require(file >= 0 && ::write(file, content.data(), content.size()) == static_cast<ssize_t>(content.size()));
    ::close(file);
}

std::string little_endian(std::uint64_t value, int size) {
    std::string bytes;
    for (int i = 0; i < size; ++i) bytes.push_back(static_cast<char>(value >> (8 * i)));
    return bytes;
}

/// A header whose sizes and digest fit, before any manifest.
std::string with_header(const std::string& manifest, const std::string& content) {
    std::string head = "AIVMMART" + little_endian(cache::kFormatVersion, 4) + little_endian(manifest.size(), 4) + little_endian(content.size(), 8);
    head += base::Sha256().update(head).update(manifest).hex();
    return head + manifest + content;
}

std::string make_entry(FuzzedDataProvider& data, bool& whole) {
    cache::Manifest manifest;
    manifest.key = cache::ArtifactStore::make_key(kKey);
    manifest.model = data.ConsumeRandomLengthString(16);
    manifest.kind = "fuzz";
    manifest.key_parts = kKey;
    std::string content;
    for (int parts = data.ConsumeIntegralInRange(0, 4); parts > 0; --parts) {
        const std::string part = data.ConsumeRandomLengthString(64);
        std::string digest = base::content_digest(std::as_bytes(std::span(part)));
        std::uint64_t size = part.size();
        if (data.ConsumeIntegralInRange(0, 15) == 0) {
            digest[data.ConsumeIntegralInRange<std::size_t>(0, 63)] ^= 1;
            whole = false;
        }
        if (data.ConsumeIntegralInRange(0, 15) == 0) {
            size = data.ConsumeIntegral<std::uint64_t>();
            whole = whole && size == part.size();
        }
        manifest.parts.push_back({"part" + std::to_string(parts), size, digest});
        content += part;
    }
    std::string head = cache::make_head(manifest);
    require(!head.empty());
    std::string file = head + content;
    if (data.ConsumeBool() && !file.empty()) {
        const auto at = data.ConsumeIntegralInRange<std::size_t>(0, file.size() - 1);
        const char flip = data.ConsumeIntegral<char>();
        file[at] = static_cast<char>(file[at] ^ flip);
        whole = whole && flip == 0;
    }
    if (data.ConsumeIntegralInRange(0, 15) == 0) {
        const auto length = data.ConsumeIntegralInRange<std::size_t>(0, file.size());
        whole = whole && length == file.size();
        file.resize(length);
    }
    return file;
}

}  // namespace

extern "C" int LLVMFuzzerInitialize(int*, char***) {
    ::setenv("AI_VMM_LOG", "off", 1);
    return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
    FuzzedDataProvider data(bytes, size);
    std::string file;
    bool whole = true;
    const int mode = data.ConsumeIntegralInRange(0, 2);
    switch (mode) {
        case 0: file = data.ConsumeRemainingBytesAsString(); break;
        case 1: {
            const std::string content = data.ConsumeRandomLengthString(64);
            file = with_header(data.ConsumeRemainingBytesAsString(), content);
            break;
        }
        default: file = make_entry(data, whole);
    }
    write_entry(file);
    cache::ArtifactStore store({.directory = folder()});
    const auto artifact = store.find(kKey);
    if (mode == 2) require(artifact.has_value() == whole);
    if (artifact) {
        // Every part that comes back is covered: its digest stands in the file before the contents, and the contents end the file.
        std::size_t total = 0;
        for (const auto& [name, content] : artifact->parts) {
            require(file.find(base::content_digest(std::as_bytes(std::span(content)))) != std::string::npos);
            total += content.size();
        }
        require(total <= file.size() - cache::kHeaderSize);
        require(store.counters().hits == 1 && store.counters().damaged == 0);
    }
    static_cast<void>(store.report());
    static_cast<void>(store.collect(0));
    return 0;
}
