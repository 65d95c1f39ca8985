// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string_view>

namespace ai_vmm::base {

/// Lines go to standard error as `ai_vmm LEVEL message`, at or above the level in AI_VMM_LOG (debug, info, warning, error, off;
/// default warning). One line is one write; safe from any thread.
enum class LogLevel { debug, info, warning, error, off };

[[nodiscard]] bool log_enabled(LogLevel level) noexcept;
void log(LogLevel level, std::string_view message) noexcept;

inline void log_debug(std::string_view message) noexcept { log(LogLevel::debug, message); }
inline void log_info(std::string_view message) noexcept { log(LogLevel::info, message); }
inline void log_warning(std::string_view message) noexcept { log(LogLevel::warning, message); }
inline void log_error(std::string_view message) noexcept { log(LogLevel::error, message); }

}  // namespace ai_vmm::base
