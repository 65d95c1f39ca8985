// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <memory>
#include <string_view>

#include "base/file.hpp"
#include "graph/reader.hpp"

namespace ai_vmm::graph {

/// The model's file under a name with the extension that a reader of OpenVINO insists on: the file itself if it has it, else a link in a
/// temporary folder, or a temporary file for a model in memory. Lives as long as the object.
class NamedFile {
public:
    NamedFile(const Located& located, std::string_view extension);
    [[nodiscard]] const std::filesystem::path& path() const noexcept { return path_; }

private:
    std::unique_ptr<base::TemporaryDirectory> folder_;
    std::filesystem::path path_;
};

}  // namespace ai_vmm::graph
