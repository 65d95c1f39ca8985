// SPDX-License-Identifier: Apache-2.0
#include "graph/bytes.hpp"
#include "graph/readers.hpp"

namespace ai_vmm::graph {
void read_converted(const Located& located, const ReadOptions&, backend::Model&) {
    throw Error(ErrorCode::unimplemented, ErrorCategory::compilation, shown(located.path) + ": this format is recognised but not read yet");
}
}  // namespace ai_vmm::graph
