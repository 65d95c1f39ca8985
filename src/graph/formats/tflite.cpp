// SPDX-License-Identifier: Apache-2.0
#include "base/file.hpp"
#include "graph/bytes.hpp"
#include "graph/formats/named_file.hpp"
#include "graph/formats/tflite_file.hpp"
#include "graph/openvino_import.hpp"
#include "graph/readers.hpp"

namespace ai_vmm::graph {

void read_tflite(const Located& located, backend::Model& model) {
    TfliteFile file = parse_tflite(*main_bytes(located, kProtobufLimitBytes));
    const NamedFile named(located, ".tflite");
    Imported imported = import_with("tflite", {named.path().string(), false});
    const auto advice = "convert the original network to ONNX (tf2onnx converts TensorFlow Lite files too) and deploy that";
    if (!imported.graph) throw not_convertible(shown(located.path), imported.refusal, advice);
    model.graph = std::move(imported.graph);
    model.inputs = std::move(file.inputs);
    model.outputs = std::move(file.outputs);
    map_ports(model);
    if (!model.graph) throw not_convertible(shown(located.path), model.graph_refusal, advice);
}

}  // namespace ai_vmm::graph
