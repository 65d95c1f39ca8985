// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <exception>
#include <memory>
#include <openvino/core/any.hpp>
#include <openvino/runtime/tensor.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "ai_vmm/backend/backend.hpp"
#include "ai_vmm/model.hpp"

namespace ov {
class Extension;
class Model;
}  // namespace ov

namespace ai_vmm::graph {

/// How a conversion ended: a graph, or why OpenVINO refused.
struct Imported {
    std::shared_ptr<ov::Model> graph;
    std::string refusal;  ///< fit for people; empty if there is a graph
};

/// Loads and converts with the OpenVINO reader of that name ("onnx", "tf", "tflite", "paddle", "gguf"). Nothing else is probed, no extension
/// but `extensions` is used. Thread-safe. Vendor exceptions become `refusal`.
/// @throws Error(unavailable) the reader's library is missing; Error(resource_exhausted) out of memory.
[[nodiscard]] Imported import_with(std::string_view frontend, const ov::AnyVector& arguments,
                                   const std::vector<std::shared_ptr<ov::Extension>>& extensions = {});

/// Reads OpenVINO IR from memory. The graph's constants lie in `weights`, u8 [bytes], whose memory it keeps; it may be empty.
[[nodiscard]] Imported import_ir(const std::string& xml, const ov::Tensor& weights);

/// What a vendor's exception says, without its source paths and headings, in at most some 600 characters.
[[nodiscard]] std::string clean_message(std::string_view text);
/// The message of the exception under way, cleaned. Call inside a catch block only.
/// Throws Error(resource_exhausted) for std::bad_alloc and passes on an Error.
[[nodiscard]] std::string current_refusal();

/// Error(unimplemented, compilation): no reader converts the model.
[[nodiscard]] Error not_convertible(const std::string& subject, const std::string& refusal, std::string advice);

/// Inputs and outputs of a graph under its own names and in its order, for formats whose files name nothing else.
/// A name is the port's first tensor name, else that of its node; repeated names of nodes get their output's number.
void describe_graph(backend::Model& model);

/// Fills `graph_inputs` and `graph_outputs` for `inputs` and `outputs` that the file declares: by tensor name; what is left over by position
/// if as many ports as names are left. Inputs that the graph lacks get -1. Types and shapes that the file leaves open are taken from the graph.
/// Where that leaves doubt the graph is dropped and `graph_refusal` says why.
void map_ports(backend::Model& model);

}  // namespace ai_vmm::graph
