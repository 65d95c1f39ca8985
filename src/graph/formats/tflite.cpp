// SPDX-License-Identifier: Apache-2.0
#include "base/file.hpp"
#include "graph/bytes.hpp"
#include "graph/formats/named_file.hpp"
#include "graph/formats/tflite_file.hpp"
#include "graph/formats/tflite_lstm.hpp"
#include "graph/openvino_import.hpp"
#include "graph/readers.hpp"

namespace ai_vmm::graph {

void read_tflite(const Located& located, backend::Model& model) {
    const auto bytes = main_bytes(located, kProtobufLimitBytes);
    TfliteFile file = parse_tflite(*bytes);
    const auto advice = "convert the original network to ONNX (tf2onnx converts TensorFlow Lite files too) and deploy that";
    if (!file.refusal.empty()) throw not_convertible(shown(located.path), file.refusal, advice);
    Located source = located;
    if (!file.repairs.empty()) source.bytes = std::make_shared<const std::string>(repaired(*bytes, file));
    const NamedFile named(source, ".tflite");
    Imported imported = import_with("tflite", {named.path().string(), false}, {convert_tflite_lstm(file.time_major, file.cell_clip)});
    if (!imported.graph) throw not_convertible(shown(located.path), imported.refusal, advice);
    model.graph = std::move(imported.graph);
    model.inputs = std::move(file.inputs);
    model.outputs = std::move(file.outputs);
    map_ports(model);
    if (!model.graph) throw not_convertible(shown(located.path), model.graph_refusal, advice);
}

}  // namespace ai_vmm::graph
