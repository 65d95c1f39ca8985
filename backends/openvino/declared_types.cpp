// SPDX-License-Identifier: Apache-2.0
#include "declared_types.hpp"

#include <algorithm>
#include <string>

#include "convert.hpp"
#include "openvino/core/model.hpp"
#include "openvino/op/convert.hpp"

namespace ai_vmm::openvino {
namespace {

/// The declared type, or the graph's where none is declared.
ov::element::Type declared_type(const TensorInfo& info, ov::element::Type in_graph) {
    if (info.type == ElementType::undefined) return in_graph;
    const auto type = to_openvino(info.type);
    if (!type || (*type != in_graph && (*type == ov::element::string || in_graph == ov::element::string))) {
        throw Error(ErrorCode::unimplemented, ErrorCategory::compilation,
                    "OpenVINO can't take '" + info.name + "' in the element type that the file declares",
                    {.expected = type ? in_graph.get_type_name() : "", .found = std::string(to_string(info.type)), .advice = {}});
    }
    return *type;
}

}  // namespace

std::shared_ptr<const ov::Model> with_declared_types(const backend::Model& model) {
    const auto differs = [](const std::vector<TensorInfo>& infos, const std::vector<int>& indices, const auto& ports) {
        bool any = false;
        for (std::size_t i = 0; i < infos.size() && i < indices.size(); ++i) {
            if (indices[i] < 0 || static_cast<std::size_t>(indices[i]) >= ports.size()) continue;
            const ov::element::Type in_graph = ports[static_cast<std::size_t>(indices[i])].get_element_type();
            // A type that only the engine will know can't be compared.
            any |= in_graph.is_static() && declared_type(infos[i], in_graph) != in_graph;
        }
        return any;
    };
    const bool inputs_differ = differs(model.inputs, model.graph_inputs, model.graph->inputs());
    const bool outputs_differ = differs(model.outputs, model.graph_outputs, model.graph->outputs());
    if (!inputs_differ && !outputs_differ) return model.graph;

    const std::shared_ptr<ov::Model> clone = model.graph->clone();
    for (std::size_t i = 0; i < model.inputs.size(); ++i) {
        if (model.graph_inputs[i] < 0) continue;
        const auto parameter = clone->get_parameters().at(static_cast<std::size_t>(model.graph_inputs[i]));
        const ov::element::Type in_graph = parameter->get_element_type();
        const ov::element::Type declared = declared_type(model.inputs[i], in_graph);
        if (declared == in_graph || !in_graph.is_static()) continue;
        const auto readers = parameter->output(0).get_target_inputs();
        parameter->set_element_type(declared);
        parameter->validate_and_infer_types();
        const auto convert = std::make_shared<ov::op::v0::Convert>(parameter, in_graph);
        for (auto reader : readers) reader.replace_source_output(convert);
    }
    for (std::size_t i = 0; i < model.outputs.size(); ++i) {
        const auto result = clone->get_results().at(static_cast<std::size_t>(model.graph_outputs[i]));
        const ov::element::Type in_graph = result->get_input_element_type(0);
        const ov::element::Type declared = declared_type(model.outputs[i], in_graph);
        if (declared == in_graph || !in_graph.is_static()) continue;
        const auto convert = std::make_shared<ov::op::v0::Convert>(result->input_value(0), declared);
        result->input(0).replace_source_output(convert);
    }
    clone->validate_nodes_and_infer_types();
    return clone;
}

}  // namespace ai_vmm::openvino
