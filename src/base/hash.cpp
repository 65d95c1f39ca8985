// SPDX-License-Identifier: Apache-2.0
#include "base/hash.hpp"

#include <openssl/evp.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <future>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "base/file.hpp"
#include "base/memory.hpp"

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

namespace {

constexpr std::size_t kPieceBytes = PieceBuffer::kPieceBytes;
constexpr std::size_t kBlockBytes = std::size_t{256} << 10;  // stays in a processor's own cache

template <typename DigestOf>
std::string digest_of_pieces(std::size_t size, const DigestOf& digest_of) {
    std::vector<std::string> digests(std::max<std::size_t>((size + kPieceBytes - 1) / kPieceBytes, 1));
    std::atomic<std::size_t> next = 0;
    const auto work = [&] {
        for (std::size_t k = next++; k < digests.size(); k = next++) digests[k] = digest_of(k * kPieceBytes);
    };
    const std::size_t threads = std::min<std::size_t>({8, std::max(std::thread::hardware_concurrency(), 1U), digests.size()});
    std::vector<std::future<void>> others;
    for (std::size_t t = 1; t < threads; ++t) others.push_back(std::async(std::launch::async, work));
    work();
    for (auto& other : others) other.get();
    Sha256 all;
    for (const std::string& digest : digests) all.update(digest);
    return all.hex();
}

}  // namespace

std::string content_digest(std::span<const std::byte> bytes) {
    return digest_of_pieces(bytes.size(),
                            [&](std::size_t begin) { return sha256_hex(bytes.subspan(begin, std::min(kPieceBytes, bytes.size() - begin))); });
}

std::string content_digest(const std::filesystem::path& path) {
    std::error_code error;
    const std::uintmax_t size = std::filesystem::file_size(path, error);
    if (error) throw system_error(error.value(), "can't inspect", path);
    return digest_of_pieces(size, [&](std::size_t begin) {
        Sha256 piece;
        for_each_block(
            path, [&](std::span<const std::byte> block) { piece.update(block.data(), block.size()); }, begin, kPieceBytes);
        return piece.hex();
    });
}

std::string content_digest(std::span<const std::span<const std::byte>> pieces) {
    if (pieces.size() == 1) return content_digest(pieces.front());
    const bool even =
        std::ranges::all_of(pieces.first(std::max<std::size_t>(pieces.size(), 1) - 1), [](const auto& piece) { return piece.size() == kPieceBytes; });
    if (!even || pieces.empty() || pieces.back().size() > kPieceBytes) {
        ContentDigest digest;
        for (const auto& piece : pieces) digest.update(piece);
        return digest.hex();
    }
    return digest_of_pieces((pieces.size() - 1) * kPieceBytes + pieces.back().size(),
                            [&](std::size_t begin) { return sha256_hex(pieces[begin / kPieceBytes]); });
}

std::string read_and_digest(int file, std::uint64_t offset, std::span<std::byte> into) {
    std::atomic<int> failure = -1;
    std::string digest = digest_of_pieces(into.size(), [&](std::size_t begin) {
        Sha256 piece;
        const std::size_t end = std::min(begin + kPieceBytes, into.size());
        while (begin < end && failure < 0) {
            const ssize_t got = ::pread(file, into.data() + begin, std::min(kBlockBytes, end - begin), static_cast<off_t>(offset + begin));
            if (got < 0 && errno == EINTR) continue;
            if (got <= 0) {
                failure = got == 0 ? 0 : errno;
                break;
            }
            piece.update(into.data() + begin, static_cast<std::size_t>(got));
            begin += static_cast<std::size_t>(got);
        }
        return piece.hex();
    });
    if (failure < 0) return digest;
    errno = failure;
    return {};
}

void ContentDigest::update(std::span<const std::byte> block) {
    while (!block.empty()) {
        const std::span<const std::byte> part = block.first(std::min(block.size(), kPieceBytes - in_piece_));
        piece_.update(part.data(), part.size());
        block = block.subspan(part.size());
        in_piece_ += part.size();
        if (in_piece_ < kPieceBytes) continue;
        all_.update(std::exchange(piece_, Sha256()).hex());
        in_piece_ = 0;
        any_ = true;
    }
}

std::string ContentDigest::hex() {
    if (in_piece_ > 0 || !any_) all_.update(piece_.hex());
    return all_.hex();
}

}  // namespace ai_vmm::base
