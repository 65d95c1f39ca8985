// SPDX-License-Identifier: Apache-2.0
#include <istream>

#include "graph/bytes.hpp"
#include "graph/formats/onnx_file.hpp"
#include "graph/openvino_import.hpp"
#include "graph/readers.hpp"

namespace ai_vmm::graph {

void read_onnx(const Located& located, backend::Model& model) {
    const auto bytes = main_bytes(located, kProtobufLimitBytes);
    OnnxFile file = parse_onnx(*bytes);
    if (!file.unsupported.empty()) {
        throw Error(
            ErrorCode::unimplemented, ErrorCategory::compilation, "inputs and outputs of an ONNX model must be tensors",
            {.expected = "dense tensors", .found = file.unsupported.front(), .advice = "export the model with tensors as its inputs and outputs"});
    }
    if (file.outputs.empty()) throw malformed("the ONNX model has no outputs", "a graph with outputs", {}, "export the model again");
    model.inputs = std::move(file.inputs);
    model.outputs = std::move(file.outputs);

    // Read from our bytes, so that what is checked is what is converted. The path tells where external data is.
    ViewBuffer buffer(*bytes);
    std::istream stream(&buffer);
    ov::AnyVector arguments{static_cast<std::istream*>(&stream)};
    if (!located.path.empty()) arguments.emplace_back(located.path.string());
    arguments.emplace_back(false);  // no memory mapping
    Imported imported = import_with("onnx", arguments);
    model.graph = std::move(imported.graph);
    model.graph_refusal = std::move(imported.refusal);
    if (model.graph) {
        map_ports(model);
    } else {
        model.graph_inputs.assign(model.inputs.size(), -1);
        model.graph_outputs.assign(model.outputs.size(), -1);
    }
}

}  // namespace ai_vmm::graph
