// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <string_view>

namespace ai_vmm::graph {

/// What a zip file is, told from the names in it. Nothing is unpacked or unpickled.
enum class ZipContent : std::uint8_t { torchscript, torch_export, state_dict, keras, numpy, other };

/// Looks at the zip file at `path`, or at `bytes` if there is no path.
/// @throws Error(invalid_argument) truncated or damaged, or more entries than any model has.
[[nodiscard]] ZipContent look_into_zip(const std::filesystem::path& path, std::string_view bytes);

}  // namespace ai_vmm::graph
