// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
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
    /// Adds a file's content, read in blocks (never memory-mapped).
    /// @throws Error(not_found / permission_denied / data_loss).
    Sha256& update_file(const std::filesystem::path& path);
    /// 64 lower-case hex digits. The object can't be used afterwards.
    [[nodiscard]] std::string hex();

private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

[[nodiscard]] std::string sha256_hex(std::span<const std::byte> bytes);
[[nodiscard]] std::string sha256_hex(std::string_view text);

}  // namespace ai_vmm::base
