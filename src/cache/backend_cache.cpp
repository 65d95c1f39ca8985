// SPDX-License-Identifier: Apache-2.0
#include "cache/backend_cache.hpp"

#include <utility>

namespace ai_vmm::cache {

KeyParts BackendCache::parts(const Key& key) const {
    KeyParts parts{{"backend", backend_}};
    parts.insert(parts.end(), key.begin(), key.end());
    return parts;
}

std::optional<std::vector<std::string>> BackendCache::find(const Key& key) {
    std::optional<Artifact> artifact = store_->find(parts(key));
    if (!artifact) return std::nullopt;
    std::vector<std::string> pieces;
    pieces.reserve(artifact->parts.size());
    for (auto& [name, content] : artifact->parts) pieces.push_back(std::move(content));
    return pieces;
}

void BackendCache::put(const Key& key, std::span<const std::string> pieces) {
    std::vector<NewPart> contents;
    contents.reserve(pieces.size());
    for (const std::string& piece : pieces) contents.emplace_back(std::to_string(contents.size()), std::as_bytes(std::span(piece)));
    (void)store_->put(parts(key), backend_, contents);
}

}  // namespace ai_vmm::cache
