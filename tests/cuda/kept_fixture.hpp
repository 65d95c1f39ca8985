// SPDX-License-Identifier: Apache-2.0
/// A folder that the backend keeps things in for a test.
#pragma once

#include <memory>

#include "base/file.hpp"
#include "cache/backend_cache.hpp"
#include "driver/kept.hpp"

namespace ai_vmm::cuda::test {

class KeptInAFolder {
public:
    KeptInAFolder() { keep_in(std::make_shared<cache::BackendCache>(store_, "cuda")); }
    ~KeptInAFolder() { keep_in(nullptr); }
    KeptInAFolder(const KeptInAFolder&) = delete;
    KeptInAFolder& operator=(const KeptInAFolder&) = delete;
    [[nodiscard]] const std::filesystem::path& path() const { return folder_.path(); }
    [[nodiscard]] cache::ArtifactStore& store() { return *store_; }

private:
    base::TemporaryDirectory folder_;
    std::shared_ptr<cache::ArtifactStore> store_ = std::make_shared<cache::ArtifactStore>(cache::ArtifactStore::Options{.directory = folder_.path()});
};

}  // namespace ai_vmm::cuda::test
