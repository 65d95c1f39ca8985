// SPDX-License-Identifier: Apache-2.0
#include "base/file.hpp"
#include "graph/bytes.hpp"
#include "graph/formats/ir_file.hpp"
#include "graph/openvino_import.hpp"
#include "graph/readers.hpp"
#include "openvino/runtime/tensor.hpp"

namespace ai_vmm::graph {
namespace {

void import(const std::string& xml, const ov::Tensor& weights, const std::string& subject, backend::Model& model) {
    Imported imported = import_ir(xml, weights);
    if (!imported.graph) {
        throw Error(ErrorCode::invalid_argument, ErrorCategory::compilation, "OpenVINO can't read " + subject,
                    {.expected = "an OpenVINO IR model",
                     .found = imported.refusal,
                     .advice = "get the file again, or export it with this version of OpenVINO"});
    }
    model.graph = std::move(imported.graph);
    describe_graph(model);
}

/// A file's content in memory that a graph can keep. Read, never mapped, as base::read_file() does.
ov::Tensor read_weights(const std::filesystem::path& path) {
    const base::RandomAccessFile file(path);
    ov::Tensor content(ov::element::u8, ov::Shape{file.size()});
    file.read(0, {static_cast<std::byte*>(content.data()), file.size()});
    return content;
}

}  // namespace

void read_ir_file(const std::filesystem::path& xml, backend::Model& model) {
    std::filesystem::path weights = xml;
    weights.replace_extension(".bin");
    std::error_code error;
    const ov::Tensor content = std::filesystem::exists(weights, error) ? read_weights(weights) : ov::Tensor();
    import(base::read_file(xml, kIrLimitBytes), content, shown(xml), model);
}

void read_ir(const Located& located, backend::Model& model) {
    if (located.bytes) {
        import(*main_bytes(located, kIrLimitBytes), {}, shown({}), model);
    } else {
        read_ir_file(located.path, model);
    }
}

}  // namespace ai_vmm::graph
