// SPDX-License-Identifier: Apache-2.0
#include <cstdint>
#include <future>
#include <istream>
#include <string>

#include "graph/bytes.hpp"
#include "graph/formats/onnx_file.hpp"
#include "graph/openvino_import.hpp"
#include "graph/readers.hpp"
#include "graph/trial.hpp"
#include "openvino/op/constant.hpp"
#include "openvino/op/divide.hpp"
#include "openvino/op/gather.hpp"
#include "openvino/op/util/multi_subgraph_base.hpp"

namespace ai_vmm::graph {
namespace {

/// ONNX's integers divide towards zero; the reader leaves the operation's default, which rounds down.
void divide_towards_zero(const ov::Model& model) {
    for (const auto& node : model.get_ops()) {
        if (const auto divide = ov::as_type_ptr<ov::op::v1::Divide>(node)) divide->set_is_pythondiv(false);
        if (const auto bodies = ov::as_type_ptr<ov::op::util::MultiSubGraphOp>(node)) {
            for (const auto& body : bodies->get_functions()) divide_towards_zero(*body);
        }
    }
}

/// ONNX's Gather has no rows outside of its data, OpenVINO's gives zeros for them.
/// @throws Error(invalid_argument) constant indices that name some. Bodies are left alone: what a branch takes may never be run.
void check_indices(const ov::Model& model) {
    for (const auto& node : model.get_ops()) {
        if (!ov::is_type<ov::op::v8::Gather>(node)) continue;
        const auto indices = ov::as_type_ptr<ov::op::v0::Constant>(node->get_input_node_shared_ptr(1));
        const auto axis = ov::as_type_ptr<ov::op::v0::Constant>(node->get_input_node_shared_ptr(2));
        const ov::PartialShape& data = node->get_input_partial_shape(0);
        if (!indices || !axis || data.rank().is_dynamic()) continue;
        const std::int64_t at = axis->cast_vector<std::int64_t>().front(), rank = data.rank().get_length();
        if (at < -rank || at >= rank) continue;
        const ov::Dimension& rows = data[static_cast<std::size_t>(at < 0 ? at + rank : at)];
        if (rows.is_dynamic()) continue;
        const std::int64_t count = rows.get_length();
        for (const std::int64_t index : indices->cast_vector<std::int64_t>()) {
            if (index >= -count && index < count) continue;
            throw malformed(
                "Gather '" + node->get_friendly_name() + "' takes what its data does not have",
                count == 0 ? "no index: there are no rows" : "indices from " + std::to_string(-count) + " to " + std::to_string(count - 1),
                std::to_string(index), "export the model again");
        }
    }
}

/// Why OpenVINO's reader must not see the file in this process; empty if it may.
std::string danger(const Located& located, const ReadOptions& options) {
    try {
        try_reading(located, options.stop);
        return {};
    } catch (const Error& error) {
        if (error.code() != ErrorCode::invalid_argument) throw;
        return "it does not survive the file: " + error.found();
    }
}

}  // namespace

void read_onnx(const Located& located, const ReadOptions& options, backend::Model& model) {
    // The trial takes as long as the reading itself: beside it we read and check the file.
    std::future<std::string> trial;
    if (!options.without_trial) trial = std::async(std::launch::async, danger, std::cref(located), std::cref(options));
    // Large weights go from the file into the graph's memory at once, as weights beside a model do.
    OnnxSkeleton skeleton;
    if (!located.bytes) skeleton = onnx_skeleton(located.path);
    const std::string_view bytes = located.bytes ? *main_bytes(located, kProtobufLimitBytes) : std::string_view(skeleton.bytes);
    OnnxFile file = parse_onnx(bytes);
    if (!file.unsupported.empty()) {
        throw Error(
            ErrorCode::unimplemented, ErrorCategory::compilation, "inputs and outputs of an ONNX model must be tensors",
            {.expected = "dense tensors", .found = file.unsupported.front(), .advice = "export the model with tensors as its inputs and outputs"});
    }
    if (file.outputs.empty()) throw malformed("the ONNX model has no outputs", "a graph with outputs", {}, "export the model again");
    model.inputs = std::move(file.inputs);
    model.outputs = std::move(file.outputs);

    // Read from our bytes, so that what is checked is what is converted. The path tells where external data is.
    const auto import = [&](std::string_view content) {
        ViewBuffer buffer(content);
        std::istream stream(&buffer);
        ov::AnyVector arguments{static_cast<std::istream*>(&stream)};
        if (!located.path.empty()) arguments.emplace_back(located.path.string());
        arguments.emplace_back(options.without_trial);  // memory mapping: what the trial does not read costs it nothing
        return import_with("onnx", arguments);
    };
    Imported imported;
    if (trial.valid()) imported.refusal = trial.get();
    if (!file.misread.empty()) imported.refusal = "it passes over " + file.misread.front() + " and would compute something else";
    if (imported.refusal.empty()) {
        imported = import(bytes);
        if (!imported.graph && !skeleton.whole)
            imported = import(*main_bytes(located, kProtobufLimitBytes));  // what it says of the file itself counts
    }
    model.graph = std::move(imported.graph);
    model.graph_refusal = std::move(imported.refusal);
    if (model.graph) {
        divide_towards_zero(*model.graph);
        check_indices(*model.graph);
        map_ports(model);
    } else {
        model.graph_inputs.assign(model.inputs.size(), -1);
        model.graph_outputs.assign(model.outputs.size(), -1);
    }
}

}  // namespace ai_vmm::graph
