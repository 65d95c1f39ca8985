// SPDX-License-Identifier: Apache-2.0
#include "driver/overlap.hpp"

#include <string_view>

namespace ai_vmm::cuda {

std::string with_overlap(const std::string& source) {
    constexpr std::string_view kKernel = "KERNEL(";
    std::string out;
    std::size_t from = 0;
    for (std::size_t at = 0; (at = source.find(kKernel, at)) != std::string::npos;) {
        at += kKernel.size();
        // Past both pairs of parentheses, the name's and the parameters'.
        int depth = 1, pairs = 0;
        while (at < source.size() && pairs < 2) {
            const char c = source[at++];
            if (c == '(') ++depth;
            if (c == ')' && --depth == 0) ++pairs;
        }
        at = source.find('{', at);
        if (at == std::string::npos) break;
        ++at;
        out.append(source, from, at - from).append(" OVERLAP();");
        from = at;
    }
    return out.append(source, from);
}

}  // namespace ai_vmm::cuda
