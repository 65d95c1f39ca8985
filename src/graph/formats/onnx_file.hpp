// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "ai_vmm/model.hpp"

namespace ai_vmm::graph {

/// A tensor whose content lies in a file beside the model.
struct OnnxExternalTensor {
    std::string tensor;
    std::string location;      ///< relative to the model's folder, as the file has it
    std::int64_t offset = 0;   ///< bytes
    std::int64_t length = -1;  ///< bytes; -1: to the end of the file
    std::int64_t needed = -1;  ///< bytes that the tensor's type and shape need; -1: not known
};

/// What an ONNX file says about itself, read from its protobuf without an engine. Names are the file's, in its order.
struct OnnxFile {
    std::vector<TensorInfo> inputs;        ///< graph inputs; those with an initialiser of the same name are optional
    std::vector<TensorInfo> outputs;       ///< graph outputs; a name may be there twice
    std::vector<std::string> unsupported;  ///< inputs and outputs that are no dense tensors: "'seq' is a sequence", …
    std::vector<std::string> misread;  ///< what OpenVINO's reader passes over, so that its graph computes something else: "antialias of Resize", …
    std::vector<OnnxExternalTensor> external;
};

/// Walks the whole message, subgraphs and functions included.
/// @throws Error(invalid_argument, input) truncated or damaged, without a graph, nested too deeply, with a tensor whose values are fewer or more than
///         its shape has, or with one that is said to lie at an address of this process.
[[nodiscard]] OnnxFile parse_onnx(std::string_view bytes);

/// parse_onnx() of a file, of which the contents of large tensors are not read. @throws as parse_onnx() and base::read_file() do.
[[nodiscard]] OnnxFile skim_onnx(const std::filesystem::path& path);

/// An ONNX model in memory that stands for a file.
struct OnnxSkeleton {
    std::string bytes;
    bool whole = true;  ///< they are the file's content
};

/// A file's model whose large initialisers are external data that lies in the file itself, from where engines read it without the copies that
/// protobuf makes of its fields. Those of the main graph alone, whose bytes are as many as their type and shape need. Where there are none, or where
/// it is no protobuf message, the file's content. @throws as base::read_file() does, Error(resource_exhausted) above 2 GiB.
[[nodiscard]] OnnxSkeleton onnx_skeleton(const std::filesystem::path& path);

/// The files that hold external tensors, distinct, sorted by location: (location, path).
/// @param folder  where the model is.
/// @throws Error(invalid_argument) a location that is absolute or leads outside `folder`, by ".." or by a symbolic link; Error(not_found) a missing
///         file, naming tensor and file; Error(data_loss) a tensor that lies beyond the end of its file.
[[nodiscard]] std::vector<std::pair<std::string, std::filesystem::path>> external_files(const OnnxFile& file, const std::filesystem::path& folder);

}  // namespace ai_vmm::graph
