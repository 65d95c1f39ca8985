// SPDX-License-Identifier: Apache-2.0
#include "base/hash.hpp"

#include <gtest/gtest.h>

#include <fstream>
#include <string>

#include "base/file.hpp"

namespace ai_vmm::base {
namespace {

constexpr std::size_t kPiece = std::size_t{16} << 20;

std::string pattern(std::size_t size) {
    std::string text(size, '\0');
    for (std::size_t i = 0; i < size; ++i) text[i] = static_cast<char>(i * 2654435761U >> 13);
    return text;
}

TEST(ContentDigest, IsTheDigestOfThePiecesDigests) {
    EXPECT_EQ(content_digest(std::span<const std::byte>()), sha256_hex(sha256_hex(std::string_view())));
    const std::string text = pattern(2 * kPiece + 5);
    const std::string_view view = text;
    const std::string pieces = sha256_hex(view.substr(0, kPiece)) + sha256_hex(view.substr(kPiece, kPiece)) + sha256_hex(view.substr(2 * kPiece));
    EXPECT_EQ(content_digest(std::as_bytes(std::span(text))), sha256_hex(pieces));
}

TEST(ContentDigest, OfFilesIsThatOfTheirBytes) {
    const TemporaryDirectory folder("ai_vmm_hash");
    for (const std::size_t size : {std::size_t{0}, std::size_t{1000}, kPiece, kPiece + 1, 3 * kPiece}) {
        const std::string text = pattern(size);
        const auto path = folder.path() / "file";
        std::ofstream(path, std::ios::binary).write(text.data(), static_cast<std::streamsize>(text.size()));
        EXPECT_EQ(content_digest(path), content_digest(std::as_bytes(std::span(text)))) << size;
        ContentDigest digest;  // in blocks of odd sizes
        for (std::size_t begin = 0; begin < size; begin += 999'983)
            digest.update(std::as_bytes(std::span(text)).subspan(begin, std::min<std::size_t>(999'983, size - begin)));
        EXPECT_EQ(digest.hex(), content_digest(path)) << size;
        if (size == 0) continue;
        std::string other = text;
        other[size - 1] ^= 1;
        EXPECT_NE(content_digest(path), content_digest(std::as_bytes(std::span(other)))) << size;
    }
    EXPECT_ANY_THROW((void)content_digest(folder.path() / "none"));
}

}  // namespace
}  // namespace ai_vmm::base
