// SPDX-License-Identifier: Apache-2.0
#include "graph/bytes.hpp"

namespace ai_vmm::graph {

std::string printable(std::string_view text, std::size_t limit) {
    std::string result;
    for (const char c : text.substr(0, limit)) result += static_cast<unsigned char>(c) < 0x20 || c == 0x7f ? '?' : c;
    if (text.size() > limit) result += "…";
    return result;
}

void BoundedView::fail(std::uint64_t offset, std::uint64_t count) const {
    throw malformed("the " + std::string(what_) + " is truncated or damaged", std::to_string(count) + " bytes at offset " + std::to_string(offset),
                    "a size of " + std::to_string(bytes_.size()) + " bytes", "get the file again");
}

}  // namespace ai_vmm::graph
