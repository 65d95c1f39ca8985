// SPDX-License-Identifier: Apache-2.0
#include "graph/formats/ir_file.hpp"

#include <algorithm>
#include <charconv>
#include <optional>
#include <string>

namespace ai_vmm::graph {
namespace {

std::optional<std::uint64_t> number_attribute(std::string_view element, std::string_view name) {
    const std::string key = " " + std::string(name) + "=\"";
    const std::size_t at = element.find(key);
    if (at == std::string_view::npos) return std::nullopt;
    std::uint64_t value = 0;
    const char* begin = element.data() + at + key.size();
    const auto [end, error] = std::from_chars(begin, element.data() + element.size(), value);
    if (error != std::errc{} || end == begin) return std::nullopt;
    return value;
}

}  // namespace

std::uint64_t ir_weights_bytes(std::string_view xml) {
    constexpr std::string_view kElement = "<data ";
    std::uint64_t furthest = 0;
    for (std::size_t at = xml.find(kElement); at != std::string_view::npos; at = xml.find(kElement, at + 1)) {
        const std::string_view element = xml.substr(at, xml.find('>', at) - at);
        const auto offset = number_attribute(element, "offset");
        const auto size = number_attribute(element, "size");
        if (offset && size && *size > 0 && *offset <= UINT64_MAX - *size) furthest = std::max(furthest, *offset + *size);
    }
    return furthest;
}

}  // namespace ai_vmm::graph
