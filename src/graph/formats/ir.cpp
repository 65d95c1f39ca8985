// SPDX-License-Identifier: Apache-2.0
#include "base/file.hpp"
#include "graph/bytes.hpp"
#include "graph/formats/ir_file.hpp"
#include "graph/openvino_import.hpp"
#include "graph/readers.hpp"

namespace ai_vmm::graph {
namespace {

void import(const std::string& xml, std::shared_ptr<const std::string> weights, const std::string& subject, backend::Model& model) {
    Imported imported = import_ir(xml, std::move(weights));
    if (!imported.graph) {
        throw Error(ErrorCode::invalid_argument, ErrorCategory::compilation, "OpenVINO can't read " + subject,
                    {.expected = "an OpenVINO IR model",
                     .found = imported.refusal,
                     .advice = "get the file again, or export it with this version of OpenVINO"});
    }
    model.graph = std::move(imported.graph);
    describe_graph(model);
}

}  // namespace

void read_ir_file(const std::filesystem::path& xml, backend::Model& model) {
    std::filesystem::path weights = xml;
    weights.replace_extension(".bin");
    std::error_code error;
    auto content = std::filesystem::exists(weights, error) ? std::make_shared<const std::string>(base::read_file(weights)) : nullptr;
    import(base::read_file(xml, kIrLimitBytes), std::move(content), shown(xml), model);
}

void read_ir(const Located& located, backend::Model& model) {
    if (located.bytes) {
        import(*main_bytes(located, kIrLimitBytes), nullptr, shown({}), model);
    } else {
        read_ir_file(located.path, model);
    }
}

}  // namespace ai_vmm::graph
