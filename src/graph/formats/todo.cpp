// SPDX-License-Identifier: Apache-2.0
#include "graph/bytes.hpp"
#include "graph/readers.hpp"

namespace ai_vmm::graph {
namespace {
[[noreturn]] void not_yet(const Located& located) {
    throw Error(ErrorCode::unimplemented, ErrorCategory::compilation, shown(located.path) + ": this format is recognised but not read yet");
}
}  // namespace
void read_tflite(const Located& located, backend::Model&) { not_yet(located); }
void read_saved_model(const Located& located, backend::Model&) { not_yet(located); }
void read_frozen_graph(const Located& located, backend::Model&) { not_yet(located); }
void read_paddle(const Located& located, backend::Model&) { not_yet(located); }
void read_gguf(const Located& located, backend::Model&) { not_yet(located); }
void read_converted(const Located& located, const ReadOptions&, backend::Model&) { not_yet(located); }
}  // namespace ai_vmm::graph
