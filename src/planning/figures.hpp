// SPDX-License-Identifier: Apache-2.0
/// Numbers as people read them.
#pragma once

#include <cstdint>
#include <string>

namespace ai_vmm::planning {

inline constexpr double kMiB = 1024.0 * 1024.0;

/// Three significant digits without an exponent: "0.0114", "12.3", "90909".
[[nodiscard]] std::string number(double value);
/// "0.0114 ms"
[[nodiscard]] std::string milliseconds(double value);
/// "1.2 MiB", "34 GiB"
[[nodiscard]] std::string mebibytes(std::int64_t bytes);
/// "1.2 KiB", "34 MiB", "600 B"
[[nodiscard]] std::string kibibytes(std::int64_t bytes);
/// Two significant digits, never below `value`: what to relax a limit to.
[[nodiscard]] std::string rounded_up(double value);
/// The same, never above `value`.
[[nodiscard]] std::string rounded_down(double value);

}  // namespace ai_vmm::planning
