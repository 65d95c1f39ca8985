// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <streambuf>
#include <string>
#include <vector>

namespace ai_vmm::base {

/// Asks for large pages under memory that was not touched yet: each page's first use costs a fault, which is most of the time of filling a large
/// buffer. Does nothing where the system has none.
void prefer_large_pages(void* data, std::size_t size_bytes) noexcept;

/// A text of `size_bytes` zeros, in large pages where it is large. @throws std::bad_alloc.
[[nodiscard]] std::string zeros(std::size_t size_bytes);

/// Keeps what is written to it in pieces of 16 MiB, so that growing copies nothing. Not thread-safe.
class PieceBuffer : public std::streambuf {
public:
    static constexpr std::size_t kPieceBytes = std::size_t{16} << 20;
    /// All that was written, in order; every piece but the last has kPieceBytes. Valid until more is written.
    [[nodiscard]] std::vector<std::span<const std::byte>> pieces() const;

protected:
    int_type overflow(int_type next) override;
    std::streamsize xsputn(const char* data, std::streamsize size) override;
    /// Anywhere in what was written, for writing alone.
    pos_type seekoff(off_type by, std::ios_base::seekdir from, std::ios_base::openmode which) override;
    pos_type seekpos(pos_type to, std::ios_base::openmode which) override;

private:
    [[nodiscard]] std::size_t position() const noexcept { return at_ * kPieceBytes + static_cast<std::size_t>(pptr() - pbase()); }
    [[nodiscard]] std::size_t size() const noexcept;
    void move_to(std::size_t position);
    std::vector<std::unique_ptr<char[]>> pieces_;
    std::size_t at_ = 0;    ///< the piece that is written to
    std::size_t most_ = 0;  ///< where writing had come to before it was moved back
};

}  // namespace ai_vmm::base
