// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <filesystem>
#include <memory>
#include <span>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include "ai_vmm/backend/backend.hpp"
#include "ai_vmm/model.hpp"
#include "ai_vmm/vmm.hpp"

namespace ai_vmm::graph {

/// Where a model is and what it is, found by content without parsing it whole.
struct Located {
    ModelFormat format = ModelFormat::unknown;
    std::filesystem::path path;                ///< the file or directory; the model file where a directory holds just one; empty for memory
    std::shared_ptr<const std::string> bytes;  ///< as given
    std::vector<std::filesystem::path> files;  ///< every file the model consists of (weights, external data), sorted
    std::string name;                          ///< stem of the path
    std::string content_hash;                  ///< SHA-256 over the files' relative names and contents, hex
    std::int64_t size_bytes = 0;
};

/// Recognises the format by content, finds the files that belong to the model, and hashes them. Runs no engine.
/// @throws Error(not_found) no such path; Error(permission_denied); Error(invalid_argument) not a model: the message says what it looks like
///         (an archive, a text file, a pickle, a state dictionary, …) and what to do; external data outside the model's folder.
[[nodiscard]] Located locate(const ModelSource& source);

/// Options of reading.
struct ReadOptions {
    std::filesystem::path
        converter_python;  ///< interpreter of the conversion environment; empty: found by AI_VMM_CONVERT_PYTHON or beside the library
    std::chrono::milliseconds convert_timeout{600000};
    bool without_trial = false;  ///< for the trial itself: read in this process only, external data mapped
    std::stop_token stop;
    Progress progress;
};

/// Reads the model into an ov::Model under the file's own names and order. What needs Python is converted in a separate process with limits;
/// nothing is unpickled in this one. A file that OpenVINO refuses but ONNX Runtime can load comes back with a null graph, `graph_refusal` set and
/// inputs and outputs taken from the file itself. Files are read, not mapped: changing them later does no harm.
/// Models converted by another process (PyTorch, Hugging Face) carry the converted graph.
/// @throws Error(invalid_argument, compilation) malformed; Error(unimplemented, compilation) no reader converts it, with the operations it lacks;
///         Error(unavailable) the conversion environment is missing: the advice says how to install it and its size.
[[nodiscard]] backend::Model read_model(const Located& located, const ReadOptions& options = {});

}  // namespace ai_vmm::graph
