// SPDX-License-Identifier: Apache-2.0
#include "faults.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <optional>

#include "ai_vmm/error.hpp"

namespace ai_vmm::null_backend {
namespace {

constexpr std::array<std::string_view, 10> kPoints{"create", "enumerate", "supports", "compile", "oom",
                                                   "import", "request",   "run",      "stall",   "garbage"};

/// Splits off what stands before `separator`.
std::string_view take_until(std::string_view& text, char separator) {
    const std::size_t at = text.find(separator);
    const std::string_view head = text.substr(0, at);
    text = at == std::string_view::npos ? std::string_view{} : text.substr(at + 1);
    return head;
}

/// A whole positive number and what follows it.
std::optional<int> take_number(std::string_view& text) {
    int value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc{} || value < 1) return std::nullopt;
    text.remove_prefix(static_cast<std::size_t>(end - text.data()));
    return value;
}

[[noreturn]] void throw_syntax(std::string_view found) {
    throw Error(ErrorCode::invalid_argument, ErrorCategory::input, "a fault of the null backend can't be read",
                {.expected = "point[:n][:duration], e.g. run:3 or stall:2:500ms", .found = std::string(found), .advice = {}});
}

Fault parse_fault(std::string_view text) {
    std::string_view rest = text;
    Fault fault{.point = std::string(take_until(rest, ':'))};
    if (std::ranges::find(kPoints, fault.point) == kPoints.end()) throw_syntax(text);
    while (!rest.empty()) {
        std::string_view part = take_until(rest, ':');
        const auto number = take_number(part);
        if (!number) throw_syntax(text);
        if (part.empty()) {
            fault.call = *number;
        } else if (part == "ms") {
            fault.duration = std::chrono::milliseconds(*number);
        } else if (part == "s") {
            fault.duration = std::chrono::seconds(*number);
        } else {
            throw_syntax(text);
        }
    }
    return fault;
}

}  // namespace

Faults::Faults(std::string_view text) {
    while (!text.empty()) {
        if (const std::string_view part = take_until(text, ','); !part.empty()) faults_.push_back(parse_fault(part));
    }
}

const Fault* Faults::at(std::string_view point, int call) const noexcept {
    const auto found =
        std::ranges::find_if(faults_, [&](const Fault& fault) { return fault.point == point && (fault.call == 0 || fault.call == call); });
    return found == faults_.end() ? nullptr : &*found;
}

}  // namespace ai_vmm::null_backend
