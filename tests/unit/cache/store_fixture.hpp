// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gtest/gtest.h>
#include <sys/file.h>
#include <sys/stat.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/file.hpp"
#include "cache/artifact_store.hpp"

namespace ai_vmm::cache {

/// A store in a folder of its own that does not exist yet.
class StoreFixture : public ::testing::Test {
protected:
    [[nodiscard]] std::filesystem::path directory() const { return temporary_.path() / "cache"; }

    [[nodiscard]] ArtifactStore make_store(std::int64_t limit_bytes = std::int64_t{1} << 30) const {
        return ArtifactStore({.directory = directory(), .limit_bytes = limit_bytes});
    }
    [[nodiscard]] static KeyParts key(std::string_view name) { return {{"kind", "test"}, {"name", std::string(name)}}; }
    [[nodiscard]] static std::span<const std::byte> bytes(std::string_view text) { return std::as_bytes(std::span(text)); }

    [[nodiscard]] bool put(std::string_view name, std::string_view content) const {
        return make_store().put(key(name), "net", {{"part", bytes(content)}});
    }
    [[nodiscard]] std::optional<std::string> get(std::string_view name) const {
        const auto artifact = make_store().find(key(name));
        if (!artifact || !artifact->find("part")) return std::nullopt;
        return *artifact->find("part");
    }

    /// What is always stored under `name` by tests with several writers: 1 to 20 kB, told apart by every byte.
    [[nodiscard]] static std::string content_of(const std::string& name) {
        const std::size_t seed = std::hash<std::string>{}(name);
        std::string content(1000 + seed % 19'000, '\0');
        for (std::size_t i = 0; i < content.size(); ++i) content[i] = static_cast<char>((seed >> (8 * (i % 8))) + i);
        return content;
    }

    [[nodiscard]] std::vector<std::filesystem::path> entry_files() const {
        std::vector<std::filesystem::path> files;
        if (!std::filesystem::exists(directory())) return files;
        for (const auto& item : std::filesystem::directory_iterator(directory())) {
            if (item.path().extension() == ".artifact") files.push_back(item.path());
        }
        std::sort(files.begin(), files.end());
        return files;
    }

    static void overwrite(const std::filesystem::path& path, std::string_view content) {
        const mode_t before = ::umask(0077);
        std::ofstream(path, std::ios::binary | std::ios::trunc) << content;
        ::umask(before);
    }

    base::TemporaryDirectory temporary_{"ai_vmm_cache_test"};
};

}  // namespace ai_vmm::cache
