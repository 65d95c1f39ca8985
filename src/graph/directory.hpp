// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "ai_vmm/model.hpp"

namespace ai_vmm::graph {

/// What a directory holds: a model made of several files, or one model file.
struct DirectoryModel {
    ModelFormat format = ModelFormat::unknown;  ///< huggingface or tensorflow_saved_model; unknown: `file` is the model
    std::filesystem::path file;
    std::vector<std::filesystem::path> files;  ///< of a model made of several files, sorted
};

/// @throws Error(invalid_argument) no model in it, or several: the message says what was seen; Error(permission_denied).
[[nodiscard]] DirectoryModel look_into_directory(const std::filesystem::path& path);

}  // namespace ai_vmm::graph
