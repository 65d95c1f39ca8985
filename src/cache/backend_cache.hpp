// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>

#include "ai_vmm/backend/backend.hpp"
#include "cache/artifact_store.hpp"

namespace ai_vmm::cache {

/// The part of a store that one backend keeps things in: entries like any other, which are listed, limited and removed with the rest.
class BackendCache final : public backend::Cache {
public:
    /// @param backend  its name: keys of different backends don't meet, and lists show it for the model.
    BackendCache(std::shared_ptr<ArtifactStore> store, std::string backend) : store_(std::move(store)), backend_(std::move(backend)) {}

    [[nodiscard]] std::optional<std::vector<std::string>> find(const Key& key) override;
    void put(const Key& key, std::span<const std::string> pieces) override;

private:
    [[nodiscard]] KeyParts parts(const Key& key) const;

    const std::shared_ptr<ArtifactStore> store_;
    const std::string backend_;
};

}  // namespace ai_vmm::cache
