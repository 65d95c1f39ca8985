// SPDX-License-Identifier: Apache-2.0
/// Arbitrary bytes as an ONNX or TFLite file: its operator list must come out, or nothing; and what comes out must be classifiable.
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "graph/category.hpp"
#include "graph/file_ops.hpp"

namespace {

void check(const std::optional<ai_vmm::graph::FileOps>& ops) {
    if (!ops) return;
    const ai_vmm::graph::CategoryResult result = ai_vmm::graph::classify(ops->features);
    if (!(result.confidence >= 0 && result.confidence < 1) || result.evidence.empty() || ops->parameters < 0 || ops->parameter_bytes < 0)
        std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
    const std::string_view content(reinterpret_cast<const char*>(bytes), size);
    check(ai_vmm::graph::read_onnx_ops(content));
    check(ai_vmm::graph::read_tflite_ops(content));
    // Most inputs are no FlatBuffers for want of four bytes: give them those.
    if (size >= 8) {
        std::string marked(content);
        marked.replace(4, 4, "TFL3");
        check(ai_vmm::graph::read_tflite_ops(marked));
    }
    return 0;
}
