// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <istream>

#include "base/file.hpp"
#include "graph/bytes.hpp"
#include "graph/formats/paddle_file.hpp"
#include "graph/openvino_import.hpp"
#include "graph/readers.hpp"

namespace ai_vmm::graph {

void read_paddle(const Located& located, backend::Model& model) {
    const auto program = main_bytes(located, kProtobufLimitBytes);
    PaddleFile file = parse_paddle(*program);
    if (file.outputs.empty()) {
        throw malformed(shown(located.path) + " fetches nothing", "an inference program with feed and fetch operations", {},
                        "export it with paddle.jit.save or save_inference_model");
    }
    std::string parameters;
    const auto data = std::ranges::find_if(located.files, [&](const auto& path) { return path != located.path; });
    if (data != located.files.end()) {
        parameters = base::read_file(*data);
    } else if (!file.parameters.empty()) {
        throw Error(ErrorCode::not_found, ErrorCategory::input, "the weights of " + shown(located.path) + " are missing",
                    {.expected = "a .pdiparams file beside it with " + std::to_string(file.parameters.size()) + " parameters",
                     .found = {},
                     .advice = located.path.empty() ? "give the path of the program instead" : "put that file beside the program"});
    }
    ViewBuffer program_buffer(*program), parameter_buffer(parameters);
    std::istream program_stream(&program_buffer), parameter_stream(&parameter_buffer);
    ov::AnyVector arguments{static_cast<std::istream*>(&program_stream)};
    if (!parameters.empty()) arguments.emplace_back(static_cast<std::istream*>(&parameter_stream));
    Imported imported = import_with("paddle", arguments);
    const auto advice = "convert the network to ONNX with paddle2onnx and deploy that";
    if (!imported.graph) throw not_convertible(shown(located.path), imported.refusal, advice);
    model.graph = std::move(imported.graph);
    model.inputs = std::move(file.inputs);
    model.outputs = std::move(file.outputs);
    map_ports(model);
    if (!model.graph) throw not_convertible(shown(located.path), model.graph_refusal, advice);
}

}  // namespace ai_vmm::graph
