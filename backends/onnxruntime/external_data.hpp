// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace ai_vmm::ort {

/// Locations of the external data that an ONNX model names (TensorProto.external_data of onnx.proto), each once, in the order of first use.
/// Looks into subgraphs, attributes and functions.
/// @throws Error(invalid_argument) the bytes are no protobuf message.
[[nodiscard]] std::vector<std::string> external_data_locations(std::string_view onnx);

}  // namespace ai_vmm::ort
