// SPDX-License-Identifier: Apache-2.0
#include "base/log.hpp"

#include <unistd.h>

#include <cstdlib>
#include <string>

namespace ai_vmm::base {
namespace {

LogLevel threshold() noexcept {
    static const LogLevel level = [] {
        const char* text = std::getenv("AI_VMM_LOG");
        const std::string_view name = text ? text : "";
        if (name == "debug") return LogLevel::debug;
        if (name == "info") return LogLevel::info;
        if (name == "error") return LogLevel::error;
        if (name == "off") return LogLevel::off;
        return LogLevel::warning;
    }();
    return level;
}

}  // namespace

bool log_enabled(LogLevel level) noexcept { return level != LogLevel::off && level >= threshold(); }

void log(LogLevel level, std::string_view message) noexcept {
    if (!log_enabled(level)) return;
    static constexpr std::string_view kNames[] = {"debug", "info", "warning", "error"};
    try {
        std::string line = "ai_vmm ";
        line.append(kNames[static_cast<int>(level)]).append(" ").append(message).append("\n");
        [[maybe_unused]] const ssize_t written = ::write(STDERR_FILENO, line.data(), line.size());
    } catch (...) {  // no memory for the line: nothing useful to do
    }
}

}  // namespace ai_vmm::base
