// SPDX-License-Identifier: Apache-2.0
#include "graph/bytes.hpp"

#include <algorithm>

namespace ai_vmm::graph {

std::string printable(std::string_view text, std::size_t limit) {
    std::string result;
    const bool readable = is_utf8(text);
    std::size_t end = std::min(text.size(), limit);
    while (readable && end < text.size() && end > 0 && (static_cast<unsigned char>(text[end]) & 0xc0) == 0x80) --end;
    for (const char c : text.substr(0, end)) {
        const auto byte = static_cast<unsigned char>(c);
        result += byte < 0x20 || byte == 0x7f || (!readable && byte >= 0x80) ? '?' : c;
    }
    if (end < text.size()) result += "…";
    return result;
}

bool is_utf8(std::string_view text) noexcept {
    for (std::size_t i = 0; i < text.size();) {
        const auto lead = static_cast<unsigned char>(text[i]);
        const std::size_t length = lead < 0x80                   ? 1
                                   : lead >= 0xc2 && lead < 0xe0 ? 2
                                   : lead >= 0xe0 && lead < 0xf0 ? 3
                                   : lead >= 0xf0 && lead < 0xf5 ? 4
                                                                 : 0;
        if (length == 0 || length > text.size() - i) return false;
        for (std::size_t k = 1; k < length; ++k) {
            if ((static_cast<unsigned char>(text[i + k]) & 0xc0) != 0x80) return false;
        }
        const auto second = length > 1 ? static_cast<unsigned char>(text[i + 1]) : 0;
        // Overlong forms, surrogates, and beyond U+10FFFF.
        if ((lead == 0xe0 && second < 0xa0) || (lead == 0xed && second > 0x9f) || (lead == 0xf0 && second < 0x90) || (lead == 0xf4 && second > 0x8f))
            return false;
        i += length;
    }
    return true;
}

void BoundedView::fail(std::uint64_t offset, std::uint64_t count) const {
    throw malformed("the " + std::string(what_) + " is truncated or damaged", std::to_string(count) + " bytes at offset " + std::to_string(offset),
                    "a size of " + std::to_string(bytes_.size()) + " bytes", "get the file again");
}

}  // namespace ai_vmm::graph
