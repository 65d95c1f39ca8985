// SPDX-License-Identifier: Apache-2.0
#include "base/memory.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <ostream>
#include <random>
#include <sstream>
#include <string>

#include "base/hash.hpp"

namespace ai_vmm::base {
namespace {

constexpr std::size_t kPiece = PieceBuffer::kPieceBytes;

std::string joined(const PieceBuffer& buffer) {
    std::string all;
    for (const auto& piece : buffer.pieces()) all.append(reinterpret_cast<const char*>(piece.data()), piece.size());
    return all;
}

std::string noise(std::size_t size, unsigned seed) {
    std::string text(size, '\0');
    std::minstd_rand random(seed);
    for (char& c : text) c = static_cast<char>(random() >> 8);
    return text;
}

TEST(Zeros, AreZeros) {
    EXPECT_TRUE(zeros(0).empty());
    const std::string text = zeros((std::size_t{5} << 20) + 3);
    EXPECT_EQ(text.size(), (std::size_t{5} << 20) + 3);
    EXPECT_TRUE(std::ranges::all_of(text, [](char c) { return c == 0; }));
}

TEST(PieceBuffer, HoldsWhatWasWrittenInPieces) {
    PieceBuffer buffer;
    EXPECT_TRUE(buffer.pieces().empty());
    std::ostream out(&buffer);
    const std::string text = noise(2 * kPiece + 5, 1);
    out << text[0];
    out.write(text.data() + 1, static_cast<std::streamsize>(kPiece - 1));
    EXPECT_EQ(joined(buffer), text.substr(0, kPiece)) << "a full piece and no other";
    EXPECT_EQ(static_cast<std::size_t>(out.tellp()), kPiece);
    out.write(text.data() + kPiece, static_cast<std::streamsize>(text.size() - kPiece));
    ASSERT_TRUE(out.good());
    EXPECT_EQ(static_cast<std::size_t>(out.tellp()), text.size());
    EXPECT_EQ(buffer.pieces().size(), 3U);
    EXPECT_EQ(joined(buffer), text);
    EXPECT_EQ(content_digest(buffer.pieces()), content_digest(std::as_bytes(std::span(text))));
}

TEST(PieceBuffer, SeeksAsAStringStreamDoes) {
    PieceBuffer buffer;
    std::ostream out(&buffer);
    std::ostringstream expected;
    std::minstd_rand random(3);
    std::size_t size = 0;
    for (int i = 0; i < 90; ++i) {
        const std::string part = noise(random() % 900'000, static_cast<unsigned>(i));
        const bool back = i % 3 == 2;
        if (back) {
            const auto to = static_cast<std::streamoff>(random() % (size + 1));
            out.seekp(to);
            expected.seekp(to);
        }
        out.write(part.data(), static_cast<std::streamsize>(part.size()));
        expected.write(part.data(), static_cast<std::streamsize>(part.size()));
        ASSERT_EQ(out.tellp(), expected.tellp());
        if (back) {
            out.seekp(0, std::ios_base::end);
            expected.seekp(0, std::ios_base::end);
        }
        size = expected.str().size();
        ASSERT_EQ(static_cast<std::size_t>(out.tellp()), size) << i;
    }
    EXPECT_TRUE(joined(buffer) == expected.str());
    out.seekp(static_cast<std::streamoff>(size) + 1);
    EXPECT_TRUE(out.fail()) << "beyond the end there is nothing";
}

TEST(ContentDigest, OfUnevenPiecesIsThatOfTheWhole) {
    const std::string text = noise(kPiece + 1000, 2);
    const auto bytes = std::as_bytes(std::span(text));
    const std::vector<std::span<const std::byte>> pieces{bytes.first(10), bytes.subspan(10, kPiece), bytes.subspan(kPiece + 10)};
    EXPECT_EQ(content_digest(pieces), content_digest(bytes));
    EXPECT_EQ(content_digest(std::span<const std::span<const std::byte>>()), content_digest(std::span<const std::byte>()));
}

}  // namespace
}  // namespace ai_vmm::base
