// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string_view>

namespace ai_vmm::cli {

/// `git describe` of the source when it was built, or "unknown".
[[nodiscard]] std::string_view commit() noexcept;
/// "GCC 12.2.0"
[[nodiscard]] std::string_view compiler() noexcept;

}  // namespace ai_vmm::cli
