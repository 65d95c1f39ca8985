// SPDX-License-Identifier: Apache-2.0
#include "commands/build_info.hpp"

#include "vmm_commit.hpp"  // generated: AI_VMM_COMMIT

namespace ai_vmm::cli {

std::string_view commit() noexcept { return AI_VMM_COMMIT; }

std::string_view compiler() noexcept {
#if defined(__clang__)
    return "Clang " __clang_version__;
#else
    return "GCC " __VERSION__;
#endif
}

}  // namespace ai_vmm::cli
