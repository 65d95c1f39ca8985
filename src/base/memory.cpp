// SPDX-License-Identifier: Apache-2.0
#include "base/memory.hpp"

#include <sys/mman.h>

#include <algorithm>
#include <cstring>

namespace ai_vmm::base {
namespace {

constexpr std::uintptr_t kLargePage = std::uintptr_t{2} << 20;

}  // namespace

void prefer_large_pages(void* data, std::size_t size_bytes) noexcept {
    const auto begin = (reinterpret_cast<std::uintptr_t>(data) + kLargePage - 1) / kLargePage * kLargePage;
    const auto end = (reinterpret_cast<std::uintptr_t>(data) + size_bytes) / kLargePage * kLargePage;
    if (begin < end) (void)::madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);
}

std::string zeros(std::size_t size_bytes) {
    std::string text;
    text.reserve(size_bytes);
    prefer_large_pages(text.data(), size_bytes);
    text.resize(size_bytes);
    return text;
}

std::size_t PieceBuffer::size() const noexcept { return pieces_.empty() ? 0 : std::max(most_, position()); }

std::vector<std::span<const std::byte>> PieceBuffer::pieces() const {
    std::vector<std::span<const std::byte>> all;
    const std::size_t whole = size();
    for (std::size_t begin = 0; begin < whole; begin += kPieceBytes) {
        all.emplace_back(reinterpret_cast<const std::byte*>(pieces_[begin / kPieceBytes].get()), std::min(kPieceBytes, whole - begin));
    }
    return all;
}

/// To a position in a piece, or at the end of the last.
void PieceBuffer::move_to(std::size_t position) {
    most_ = size();
    at_ = std::min(position / kPieceBytes, pieces_.size() - 1);
    char* const piece = pieces_[at_].get();
    setp(piece, piece + kPieceBytes);
    pbump(static_cast<int>(position - at_ * kPieceBytes));
}

PieceBuffer::int_type PieceBuffer::overflow(int_type next) {
    if (traits_type::eq_int_type(next, traits_type::eof())) return traits_type::not_eof(next);
    const std::size_t position = pieces_.empty() ? 0 : this->position();
    if (position / kPieceBytes == pieces_.size()) {
        pieces_.push_back(std::make_unique_for_overwrite<char[]>(kPieceBytes));
        prefer_large_pages(pieces_.back().get(), kPieceBytes);
    }
    most_ = pieces_.size() == 1 ? 0 : std::max(most_, position);
    at_ = position / kPieceBytes;
    setp(pieces_[at_].get(), pieces_[at_].get() + kPieceBytes);
    return sputc(traits_type::to_char_type(next));
}

std::streamsize PieceBuffer::xsputn(const char* data, std::streamsize size) {
    std::streamsize left = size;
    while (left > 0) {
        if (pptr() == epptr()) {
            overflow(traits_type::to_int_type(*data++));
            --left;
            continue;
        }
        const std::streamsize part = std::min<std::streamsize>(left, epptr() - pptr());
        std::memcpy(pptr(), data, static_cast<std::size_t>(part));
        pbump(static_cast<int>(part));
        data += part;
        left -= part;
    }
    return size;
}

PieceBuffer::pos_type PieceBuffer::seekoff(off_type by, std::ios_base::seekdir from, std::ios_base::openmode which) {
    const std::size_t here = pieces_.empty() ? 0 : position();
    const std::size_t base = from == std::ios_base::beg ? 0 : from == std::ios_base::end ? size() : here;
    return seekpos(static_cast<off_type>(base) + by, which);
}

PieceBuffer::pos_type PieceBuffer::seekpos(pos_type to, std::ios_base::openmode which) {
    const auto target = static_cast<off_type>(to);
    if ((which & std::ios_base::out) == 0 || target < 0 || static_cast<std::size_t>(target) > size()) return pos_type(off_type(-1));
    if (!pieces_.empty()) move_to(static_cast<std::size_t>(target));
    return to;
}

}  // namespace ai_vmm::base
