// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "ai_vmm/model.hpp"
#include "graph/compared_values.hpp"
#include "graph/features.hpp"

namespace ai_vmm::graph {

/// a + b for counts that come from a file: at most INT64_MAX, never below zero.
[[nodiscard]] inline std::int64_t add_counts(std::int64_t a, std::int64_t b) noexcept {
    return b > INT64_MAX - a ? INT64_MAX : a + std::max<std::int64_t>(0, b);
}

/// What a model file tells about itself without any engine: its own operator list and constant tensors.
struct FileOps {
    std::map<std::string, int> operators;  ///< the file's own names, sub-graphs included
    std::int64_t parameters = 0;           ///< elements of constant tensors of real or low-bit types
    std::int64_t parameter_bytes = 0;
    std::map<ElementType, std::int64_t> parameters_by_type;
    bool quantized = false;
    bool stateful = false;
    std::vector<TensorInfo> inputs;
    std::vector<TensorInfo> outputs;
    ComparedValues compared_values;  ///< as compared_values(); of ONNX files only
    Features features;
};

/// Both walk the bytes with every offset, size and count checked; nothing is allocated by a number from the file. Nothing if malformed.
/// @param content  an ONNX ModelProto (onnx.proto3 of onnx 1.23).
[[nodiscard]] std::optional<FileOps> read_onnx_ops(std::string_view content);
/// @param content  a TFLite FlatBuffer (schema version 3).
[[nodiscard]] std::optional<FileOps> read_tflite_ops(std::string_view content);

}  // namespace ai_vmm::graph
