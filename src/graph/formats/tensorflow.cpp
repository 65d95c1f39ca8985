// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "graph/bytes.hpp"
#include "graph/formats/named_file.hpp"
#include "graph/formats/tensorflow_file.hpp"
#include "graph/openvino_import.hpp"
#include "graph/readers.hpp"

namespace ai_vmm::graph {
namespace {

constexpr auto kAdvice = "convert the network to ONNX with tf2onnx and deploy that";

void convert(const Located& located, const std::string& path, TensorflowFile file, backend::Model& model) {
    Imported imported = import_with("tf", {path, false});
    if (!imported.graph) throw not_convertible(shown(located.path), imported.refusal, kAdvice);
    const std::shared_ptr<const ov::Model> graph = imported.graph;
    model.graph = graph;
    model.inputs = std::move(file.inputs);
    model.outputs = std::move(file.outputs);
    if (!model.outputs.empty()) map_ports(model);
    if (!model.graph || model.outputs.empty()) {
        // Nothing that the file declares, or not what the reader took: the reader's own names.
        model.graph = graph;
        model.graph_refusal.clear();
        model.inputs.clear();
        model.outputs.clear();
        model.graph_inputs.clear();
        model.graph_outputs.clear();
        describe_graph(model);
    }
}

}  // namespace

void read_saved_model(const Located& located, backend::Model& model) {
    TensorflowFile file = parse_saved_model(base::read_file(located.path / "saved_model.pb", kProtobufLimitBytes));
    convert(located, located.path.string(), std::move(file), model);
}

void read_frozen_graph(const Located& located, backend::Model& model) {
    TensorflowFile file = parse_graph_def(*main_bytes(located, kProtobufLimitBytes));
    const NamedFile named(located, ".pb");
    convert(located, named.path().string(), std::move(file), model);
}

}  // namespace ai_vmm::graph
