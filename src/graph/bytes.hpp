// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <streambuf>
#include <string>
#include <string_view>

#include "ai_vmm/error.hpp"

namespace ai_vmm::graph {

/// The largest protobuf message that any implementation reads.
inline constexpr std::size_t kProtobufLimitBytes = (std::size_t{1} << 31) - 1;

/// Error(invalid_argument, input) about the content of a model file.
[[nodiscard]] inline Error malformed(std::string message, std::string expected = {}, std::string found = {}, std::string advice = {}) {
    return Error(ErrorCode::invalid_argument, ErrorCategory::input, std::move(message),
                 {.expected = std::move(expected), .found = std::move(found), .advice = std::move(advice)});
}

/// How a model is called in messages: its path, or "the model in memory".
[[nodiscard]] inline std::string shown(const std::filesystem::path& path) {
    return path.empty() ? std::string("the model in memory") : "'" + path.string() + "'";
}

/// Text from a file made fit for a message: control characters replaced, at most `limit` bytes.
[[nodiscard]] std::string printable(std::string_view text, std::size_t limit = 120);

/// Whether the text is well-formed UTF-8 (RFC 3629).
[[nodiscard]] bool is_utf8(std::string_view text) noexcept;

/// Little-endian integers at an offset, for readers of binary layouts. Every access is checked.
/// @throws Error(invalid_argument) the bytes end before.
class BoundedView {
public:
    BoundedView(std::string_view bytes, std::string_view what) : bytes_(bytes), what_(what) {}

    [[nodiscard]] std::size_t size() const noexcept { return bytes_.size(); }
    [[nodiscard]] std::string_view slice(std::uint64_t offset, std::uint64_t count) const {
        if (offset > bytes_.size() || count > bytes_.size() - offset) fail(offset, count);
        return bytes_.substr(static_cast<std::size_t>(offset), static_cast<std::size_t>(count));
    }
    template <typename T>
    [[nodiscard]] T at(std::uint64_t offset) const {
        const std::string_view raw = slice(offset, sizeof(T));
        std::uint64_t value = 0;
        for (std::size_t i = sizeof(T); i-- > 0;) value = value << 8 | static_cast<unsigned char>(raw[i]);
        return static_cast<T>(value);
    }

private:
    [[noreturn]] void fail(std::uint64_t offset, std::uint64_t count) const;

    std::string_view bytes_;
    std::string_view what_;
};

/// A seekable buffer over bytes that it doesn't copy; make a std::istream of it.
class ViewBuffer : public std::streambuf {
public:
    explicit ViewBuffer(std::string_view bytes) {
        char* begin = const_cast<char*>(bytes.data());  // never written through: no put area is set
        setg(begin, begin, begin + bytes.size());
    }

protected:
    pos_type seekoff(off_type offset, std::ios_base::seekdir direction, std::ios_base::openmode) override {
        const off_type base = direction == std::ios_base::beg ? 0 : direction == std::ios_base::cur ? gptr() - eback() : egptr() - eback();
        const off_type target = base + offset;
        if (target < 0 || target > egptr() - eback()) return pos_type(off_type(-1));
        setg(eback(), eback() + target, egptr());
        return pos_type(target);
    }
    pos_type seekpos(pos_type position, std::ios_base::openmode mode) override { return seekoff(off_type(position), std::ios_base::beg, mode); }
};

}  // namespace ai_vmm::graph
