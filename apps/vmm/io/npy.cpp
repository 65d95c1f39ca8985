// SPDX-License-Identifier: Apache-2.0
#include "io/npy.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdint>
#include <cstring>
#include <vector>

#include "io/file.hpp"

namespace ai_vmm::cli {
namespace {

constexpr std::string_view kMagic = "\x93NUMPY";
constexpr std::size_t kHeaderLimit = 1 << 16;
constexpr std::size_t kRankLimit = 64;

struct Header {
    std::string descr;
    bool fortran = false;
    Shape shape;
    std::size_t data_at = 0;
};

/// Reads the Python dictionary of a header: string keys; values that are a string, True, False or a tuple of integers.
class HeaderParser {
public:
    HeaderParser(std::string_view text, std::string_view name) : text_(text), name_(name) {}

    Header parse() {
        Header header;
        bool descr = false;
        bool order = false;
        bool shape = false;
        expect('{');
        while (!accept('}')) {
            const std::string key = quoted();
            expect(':');
            if (key == "descr" && !descr) {
                blanks();
                if (at_ < text_.size() && text_[at_] == '[') {
                    throw Error(ErrorCode::unimplemented, ErrorCategory::input, fmt::format("'{}' holds records (a structured type)", name_),
                                {.expected = "an array of numbers, booleans or strings",
                                 .found = std::string(elided()),
                                 .advice = "save each field as its own array"});
                }
                header.descr = quoted();
                descr = true;
            } else if (key == "fortran_order" && !order) {
                header.fortran = boolean();
                order = true;
            } else if (key == "shape" && !shape) {
                header.shape = tuple();
                shape = true;
            } else {
                fail("the keys descr, fortran_order and shape once each");
            }
            if (!accept(',')) {
                expect('}');
                break;
            }
        }
        blanks();
        if (at_ != text_.size()) fail("nothing after the dictionary");
        if (!descr || !order || !shape) fail("the keys descr, fortran_order and shape");
        return header;
    }

private:
    [[noreturn]] void fail(std::string_view expected) const {
        throw input_error(fmt::format("the array header of '{}' is malformed", name_),
                          {.expected = std::string(expected), .found = std::string(elided()), .advice = "write the file with numpy.save"});
    }
    [[nodiscard]] std::string_view elided() const { return text_.substr(std::min(at_, text_.size()), 40); }
    void blanks() {
        while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\n' || text_[at_] == '\t' || text_[at_] == '\r')) ++at_;
    }
    bool accept(char wanted) {
        blanks();
        if (at_ >= text_.size() || text_[at_] != wanted) return false;
        ++at_;
        return true;
    }
    void expect(char wanted) {
        if (!accept(wanted)) fail(fmt::format("'{}'", wanted));
    }
    std::string quoted() {
        blanks();
        if (at_ >= text_.size() || (text_[at_] != '\'' && text_[at_] != '"')) fail("a quoted word");
        const char quote = text_[at_++];
        const std::size_t end = text_.find(quote, at_);
        if (end == std::string_view::npos || text_.substr(at_, end - at_).find('\\') != std::string_view::npos) fail("a quoted word");
        std::string word(text_.substr(at_, end - at_));
        at_ = end + 1;
        return word;
    }
    bool boolean() {
        blanks();
        for (const auto& [word, value] : {std::pair<std::string_view, bool>{"True", true}, {"False", false}}) {
            if (text_.substr(at_).starts_with(word)) {
                at_ += word.size();
                return value;
            }
        }
        fail("True or False");
    }
    Shape tuple() {
        Shape shape;
        expect('(');
        while (!accept(')')) {
            blanks();
            std::int64_t size = -1;
            const auto [stop, error] = std::from_chars(text_.data() + at_, text_.data() + text_.size(), size);
            if (error != std::errc{} || size < 0) fail("dimensions of 0 or more");
            at_ = static_cast<std::size_t>(stop - text_.data());
            if (at_ < text_.size() && text_[at_] == 'L') ++at_;  // written by Python 2
            shape.push_back(size);
            if (shape.size() > kRankLimit) fail(fmt::format("at most {} dimensions", kRankLimit));
            if (!accept(',')) {
                if (shape.size() == 1) fail("a tuple: '(3,)'");
                expect(')');
                break;
            }
        }
        return shape;
    }

    std::string_view text_;
    std::string_view name_;
    std::size_t at_ = 0;
};

Header read_header(std::string_view content, std::string_view name) {
    if (!is_npy(content)) {
        throw input_error(
            fmt::format("'{}' is not a NumPy array file", name),
            {.expected = "a file that starts with \\x93NUMPY", .found = fmt::format("{} bytes of something else", content.size()), .advice = {}});
    }
    const auto short_file = [&](std::size_t needed) {
        return damaged(fmt::format("'{}' ends inside its header", name), {.expected = fmt::format("at least {} bytes", needed),
                                                                          .found = fmt::format("{} bytes", content.size()),
                                                                          .advice = "write or copy the file again"});
    };
    if (content.size() < 10) throw short_file(10);
    const int major = static_cast<unsigned char>(content[6]);
    if (major < 1 || major > 3 || content[7] != 0) {
        throw Error(ErrorCode::unimplemented, ErrorCategory::input, fmt::format("'{}' has an unknown version of NumPy's format", name),
                    {.expected = "1.0, 2.0 or 3.0", .found = fmt::format("{}.{}", major, static_cast<unsigned char>(content[7])), .advice = {}});
    }
    const std::size_t start = major == 1 ? 10 : 12;
    if (content.size() < start) throw short_file(start);
    std::size_t length = 0;
    for (std::size_t i = start; i-- > 8;) length = length << 8U | static_cast<unsigned char>(content[i]);
    if (length > kHeaderLimit) {
        throw input_error(fmt::format("the array header of '{}' is too long", name),
                          {.expected = fmt::format("at most {} bytes", kHeaderLimit), .found = fmt::format("{} bytes", length), .advice = {}});
    }
    if (content.size() < start + length) throw short_file(start + length);
    Header header = HeaderParser(content.substr(start, length), name).parse();
    header.data_at = start + length;
    return header;
}

/// An element as the file holds it.
struct Layout {
    ElementType type = ElementType::undefined;
    std::size_t item_bytes = 0;  ///< in the file
    std::size_t swap_bytes = 1;  ///< unit whose bytes are reversed in a big-endian file
    bool big_endian = false;
    char kind = 0;
};

Layout layout_of(const Header& header, std::string_view name, std::optional<ElementType> wanted) {
    const std::string& descr = header.descr;
    const auto unsupported = [&](std::string advice) {
        return Error(ErrorCode::unimplemented, ErrorCategory::input,
                     fmt::format("'{}' holds elements of NumPy type '{}', which no tensor has", name, descr),
                     {.expected = "b1, i1..i8, u1..u8, f2, f4, f8, c8, c16, U, S, or bfloat16 and 8-bit types of ml_dtypes",
                      .found = descr,
                      .advice = std::move(advice)});
    };
    if (descr.size() < 2 || std::string_view("<>|=").find(descr[0]) == std::string_view::npos) {
        if (descr == "|O" || descr == "O") throw unsupported("save plain arrays: object arrays are pickles, which are never loaded");
        throw input_error(fmt::format("the array header of '{}' has no element type", name),
                          {.expected = "such as '<f4'", .found = descr, .advice = {}});
    }
    Layout layout{.big_endian = descr[0] == '>', .kind = descr[1]};
    if (layout.kind == 'O') throw unsupported("save plain arrays: object arrays are pickles, which are never loaded");
    std::size_t size = 0;
    const auto [stop, error] = std::from_chars(descr.data() + 2, descr.data() + descr.size(), size);
    if (error != std::errc{} || stop != descr.data() + descr.size()) throw unsupported({});
    if ((layout.kind == 'U' || layout.kind == 'S') && size > (std::size_t{1} << 28)) throw unsupported("shorten the strings");
    struct Row {
        char kind;
        std::size_t size;
        ElementType type;
    };
    constexpr std::array kRows{
        Row{'b', 1, ElementType::boolean}, Row{'i', 1, ElementType::i8},        Row{'i', 2, ElementType::i16},         Row{'i', 4, ElementType::i32},
        Row{'i', 8, ElementType::i64},     Row{'u', 1, ElementType::u8},        Row{'u', 2, ElementType::u16},         Row{'u', 4, ElementType::u32},
        Row{'u', 8, ElementType::u64},     Row{'f', 1, ElementType::f8e5m2},    Row{'f', 2, ElementType::f16},         Row{'f', 4, ElementType::f32},
        Row{'f', 8, ElementType::f64},     Row{'c', 8, ElementType::complex64}, Row{'c', 16, ElementType::complex128}, Row{'V', 2, ElementType::bf16},
    };
    layout.item_bytes = layout.kind == 'U' ? size * 4 : size;
    layout.swap_bytes = layout.kind == 'c' ? size / 2 : layout.kind == 'U' ? 4 : layout.kind == 'S' ? 1 : size;
    if (layout.kind == 'U' || layout.kind == 'S') {
        layout.type = ElementType::string;
        return layout;
    }
    if (layout.kind == 'V' && size == 1) {
        if (!wanted || bit_width(*wanted) > 8 || bit_width(*wanted) == 0) throw unsupported("a one-byte void type has no meaning of its own here");
        layout.type = *wanted;
        return layout;
    }
    const auto found = std::ranges::find_if(kRows, [&](const Row& row) { return row.kind == layout.kind && row.size == size; });
    if (found == kRows.end()) throw unsupported("convert with array.astype('float32')");
    layout.type = found->type;
    return layout;
}

void append_utf8(std::string& out, std::uint32_t code) {
    if (code < 0x80) {
        out += static_cast<char>(code);
    } else if (code < 0x800) {
        out += static_cast<char>(0xC0U | code >> 6U);
        out += static_cast<char>(0x80U | (code & 0x3FU));
    } else if (code < 0x10000) {
        out += static_cast<char>(0xE0U | code >> 12U);
        out += static_cast<char>(0x80U | (code >> 6U & 0x3FU));
        out += static_cast<char>(0x80U | (code & 0x3FU));
    } else {
        out += static_cast<char>(0xF0U | code >> 18U);
        out += static_cast<char>(0x80U | (code >> 12U & 0x3FU));
        out += static_cast<char>(0x80U | (code >> 6U & 0x3FU));
        out += static_cast<char>(0x80U | (code & 0x3FU));
    }
}

/// Code points of UTF-8 text; false if it is none.
bool decode_utf8(std::string_view text, std::vector<std::uint32_t>& out) {
    out.clear();
    for (std::size_t at = 0; at < text.size();) {
        const auto first = static_cast<unsigned char>(text[at]);
        const std::size_t length = first < 0x80                    ? 1
                                   : first >= 0xC2 && first < 0xE0 ? 2
                                   : first >= 0xE0 && first < 0xF0 ? 3
                                   : first >= 0xF0 && first < 0xF5 ? 4
                                                                   : 0;
        if (length == 0 || at + length > text.size()) return false;
        std::uint32_t code = length == 1 ? first : first & (0xFFU >> (length + 1));
        for (std::size_t i = 1; i < length; ++i) {
            const auto next = static_cast<unsigned char>(text[at + i]);
            if ((next & 0xC0U) != 0x80U) return false;
            code = code << 6U | (next & 0x3FU);
        }
        if ((length == 3 && code < 0x800) || (length == 4 && code < 0x10000) || code > 0x10FFFF || (code >= 0xD800 && code < 0xE000)) return false;
        out.push_back(code);
        at += length;
    }
    return true;
}

std::string read_string(const char* item, const Layout& layout, std::string_view name) {
    if (layout.kind == 'S') {
        std::string_view text(item, layout.item_bytes);
        return std::string(text.substr(0, text.find_last_not_of('\0') + 1));
    }
    std::string out;
    std::size_t kept = 0;  // trailing NULs are padding
    for (std::size_t i = 0; i < layout.item_bytes; i += 4) {
        std::array<unsigned char, 4> bytes{};
        std::memcpy(bytes.data(), item + i, 4);
        if (layout.big_endian) std::ranges::reverse(bytes);
        const std::uint32_t code = bytes[0] | bytes[1] << 8U | bytes[2] << 16U | static_cast<std::uint32_t>(bytes[3]) << 24U;
        if (code > 0x10FFFF || (code >= 0xD800 && code < 0xE000)) {
            throw damaged(fmt::format("a string of '{}' holds no Unicode character", name),
                          {.expected = "a code point", .found = fmt::format("0x{:x}", code), .advice = {}});
        }
        append_utf8(out, code);
        if (code != 0) kept = out.size();
    }
    out.resize(kept);
    return out;
}

/// Position in the file (in items) of element `index` in C order, for an array in Fortran order.
class FortranOrder {
public:
    explicit FortranOrder(const Shape& shape) : shape_(shape), at_(shape.size(), 0), strides_(shape.size(), 1) {
        for (std::size_t d = 1; d < shape.size(); ++d) strides_[d] = strides_[d - 1] * static_cast<std::size_t>(shape[d - 1]);
    }
    std::size_t next() {
        const std::size_t position = position_;
        for (std::size_t d = shape_.size(); d-- > 0;) {
            position_ += strides_[d];
            if (++at_[d] < shape_[d]) break;
            position_ -= strides_[d] * static_cast<std::size_t>(shape_[d]);
            at_[d] = 0;
        }
        return position;
    }

private:
    const Shape& shape_;
    Shape at_;
    std::vector<std::size_t> strides_;
    std::size_t position_ = 0;
};

}  // namespace

bool is_npy(std::string_view content) noexcept { return content.starts_with(kMagic); }

Tensor parse_npy(std::string_view content, std::string_view name, std::optional<ElementType> wanted) {
    const Header header = read_header(content, name);
    const Layout layout = layout_of(header, name, wanted);
    const std::size_t count = element_count(header.shape);
    const std::string_view data = content.substr(header.data_at);
    if (layout.item_bytes != 0 ? count > data.size() / layout.item_bytes : count > kInputLimit / sizeof(std::string)) {
        throw damaged(fmt::format("'{}' ends before its last element", name),
                      {.expected = fmt::format("{} elements of {} bytes", count, layout.item_bytes),
                       .found = fmt::format("{} bytes", data.size()),
                       .advice = "write or copy the file again"});
    }
    if (layout.type == ElementType::string && count > kInputLimit / sizeof(std::string)) {
        throw Error(ErrorCode::resource_exhausted, ErrorCategory::input, fmt::format("'{}' has too many strings", name),
                    {.expected = fmt::format("at most {}", kInputLimit / sizeof(std::string)), .found = std::to_string(count), .advice = {}});
    }
    Tensor tensor(layout.type, header.shape);
    const bool permuted = header.fortran && header.shape.size() > 1;
    FortranOrder order(header.shape);
    const auto item_at = [&](std::size_t index) { return data.data() + (permuted ? order.next() : index) * layout.item_bytes; };
    if (layout.type == ElementType::string) {
        auto strings = tensor.as<std::string>();
        for (std::size_t i = 0; i < count; ++i) strings[i] = read_string(item_at(i), layout, name);
        return tensor;
    }
    auto* out = static_cast<char*>(tensor.data());
    const std::size_t bits = bit_width(layout.type);
    if (bits < 8) {  // one element per byte in the file, packed here
        for (std::size_t i = 0; i < count; ++i) {
            const unsigned value = static_cast<unsigned char>(*item_at(i)) & ((1U << bits) - 1);
            out[i * bits / 8] = static_cast<char>(static_cast<unsigned char>(out[i * bits / 8]) | value << (i * bits % 8));
        }
        return tensor;
    }
    if (!permuted) {
        if (count > 0) std::memcpy(out, data.data(), count * layout.item_bytes);
    } else {
        for (std::size_t i = 0; i < count; ++i) std::memcpy(out + i * layout.item_bytes, item_at(i), layout.item_bytes);
    }
    if (layout.big_endian && layout.swap_bytes > 1) {
        for (std::size_t at = 0; at < tensor.size_bytes(); at += layout.swap_bytes) std::reverse(out + at, out + at + layout.swap_bytes);
    }
    if (layout.type == ElementType::boolean) {
        for (std::size_t i = 0; i < count; ++i) out[i] = out[i] != 0 ? 1 : 0;
    }
    return tensor;
}

std::string format_npy(const Tensor& tensor) {
    std::string descr;
    std::string data;
    const auto copy = [&](std::string text) {
        descr = std::move(text);
        data.assign(static_cast<const char*>(tensor.data()), tensor.size_bytes());
    };
    const auto unpack = [&](std::string text, bool is_signed) {
        descr = std::move(text);
        const std::size_t bits = bit_width(tensor.type());
        const auto* bytes = static_cast<const unsigned char*>(tensor.data());
        for (std::size_t i = 0; i < tensor.element_count(); ++i) {
            unsigned value = bytes[i * bits / 8] >> (i * bits % 8) & ((1U << bits) - 1);
            if (is_signed && (value >> (bits - 1)) != 0) value |= 0xFFU << bits;
            data += static_cast<char>(value);
        }
    };
    switch (tensor.type()) {
        case ElementType::boolean: copy("|b1"); break;
        case ElementType::i8: copy("|i1"); break;
        case ElementType::u8: copy("|u1"); break;
        case ElementType::i16: copy("<i2"); break;
        case ElementType::u16: copy("<u2"); break;
        case ElementType::i32: copy("<i4"); break;
        case ElementType::u32: copy("<u4"); break;
        case ElementType::i64: copy("<i8"); break;
        case ElementType::u64: copy("<u8"); break;
        case ElementType::f16: copy("<f2"); break;
        case ElementType::f32: copy("<f4"); break;
        case ElementType::f64: copy("<f8"); break;
        case ElementType::bf16: copy("<V2"); break;
        case ElementType::complex64: copy("<c8"); break;
        case ElementType::complex128: copy("<c16"); break;
        case ElementType::f8e5m2:
        case ElementType::f8e4m3:
        case ElementType::f8e4m3fnuz:
        case ElementType::f8e5m2fnuz:
        case ElementType::f8e8m0: copy("<V1"); break;
        case ElementType::f4e2m1:
        case ElementType::nf4: unpack("<V1", false); break;
        case ElementType::i2:
        case ElementType::i4: unpack("|i1", true); break;
        case ElementType::u1:
        case ElementType::u2:
        case ElementType::u4: unpack("|u1", false); break;
        case ElementType::string: {
            const auto strings = tensor.as<std::string>();
            std::vector<std::vector<std::uint32_t>> decoded(strings.size());
            bool unicode = true;
            std::size_t longest = 1;
            std::size_t longest_bytes = 1;
            for (std::size_t i = 0; i < strings.size(); ++i) {
                unicode = decode_utf8(strings[i], decoded[i]) && unicode;
                longest = std::max(longest, decoded[i].size());
                longest_bytes = std::max(longest_bytes, strings[i].size());
            }
            descr = unicode ? fmt::format("<U{}", longest) : fmt::format("|S{}", longest_bytes);
            for (std::size_t i = 0; i < strings.size(); ++i) {
                if (unicode) {
                    decoded[i].resize(longest, 0);
                    for (const std::uint32_t code : decoded[i]) {
                        for (unsigned shift = 0; shift < 32; shift += 8) data += static_cast<char>(code >> shift & 0xFFU);
                    }
                } else {
                    data += strings[i] + std::string(longest_bytes - strings[i].size(), '\0');
                }
            }
            break;
        }
        case ElementType::undefined: throw input_error("an empty tensor can't be written to a file");
    }
    std::string shape;
    for (const std::int64_t size : tensor.shape()) shape += fmt::format("{}, ", size);
    if (shape.size() > 2) shape.resize(shape.size() - (tensor.shape().size() > 1 ? 2 : 1));
    std::string header = fmt::format("{{'descr': '{}', 'fortran_order': False, 'shape': ({}), }}", descr, shape);
    const bool large = header.size() + 64 > 0xFFFF;
    const std::size_t start = large ? 12 : 10;
    header.append((64 - (start + header.size() + 1) % 64) % 64, ' ');
    header += '\n';
    std::string out(kMagic);
    out += large ? '\2' : '\1';
    out += '\0';
    for (std::size_t i = 0; i < start - 8; ++i) out += static_cast<char>(header.size() >> 8 * i & 0xFFU);
    return out + header + data;
}

}  // namespace ai_vmm::cli
