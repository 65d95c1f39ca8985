// SPDX-License-Identifier: Apache-2.0
#include "base/hash.hpp"

#include <openssl/evp.h>

#include <array>
#include <utility>
#include <vector>

#include "base/file.hpp"

namespace ai_vmm::base {

struct Sha256::Impl {
    EVP_MD_CTX* context = EVP_MD_CTX_new();
    Impl() { EVP_DigestInit_ex(context, EVP_sha256(), nullptr); }
    ~Impl() { EVP_MD_CTX_free(context); }
    Impl(const Impl&) = delete;
    Impl& operator=(const Impl&) = delete;
};

Sha256::Sha256() : impl_(std::make_unique<Impl>()) {}
Sha256::~Sha256() = default;
Sha256::Sha256(Sha256&&) noexcept = default;
Sha256& Sha256::operator=(Sha256&&) noexcept = default;

Sha256& Sha256::update(const void* data, std::size_t size_bytes) {
    EVP_DigestUpdate(impl_->context, data, size_bytes);
    return *this;
}

Sha256& Sha256::update_file(const std::filesystem::path& path) {
    for_each_block(path, [this](std::span<const std::byte> block) { update(block.data(), block.size()); });
    return *this;
}

std::string Sha256::hex() {
    std::array<unsigned char, 32> digest{};
    EVP_DigestFinal_ex(impl_->context, digest.data(), nullptr);
    static constexpr char kDigits[] = "0123456789abcdef";
    std::string text;
    text.reserve(64);
    for (unsigned char byte : digest) {
        text.push_back(kDigits[byte >> 4]);
        text.push_back(kDigits[byte & 15]);
    }
    return text;
}

std::string sha256_hex(std::span<const std::byte> bytes) { return Sha256().update(bytes.data(), bytes.size()).hex(); }
std::string sha256_hex(std::string_view text) { return Sha256().update(text).hex(); }

}  // namespace ai_vmm::base
