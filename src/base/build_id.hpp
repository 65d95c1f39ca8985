// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

namespace ai_vmm::base {

/// The linker's build id of the library or program that holds `address`, as hexadecimal digits: it changes with the code. Empty if there is none.
[[nodiscard]] std::string build_id(const void* address);

}  // namespace ai_vmm::base
