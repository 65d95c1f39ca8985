// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>

namespace ai_vmm::graph {

/// Checks the structure of a GGUF file: header, every metadata value, every tensor's place inside the file. Reads metadata only, in
/// blocks, whatever the file's size.
/// Layout: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
/// @throws Error(invalid_argument) what is wrong and at which offset, or a file without tensors; errors of reading.
void check_gguf(const std::filesystem::path& path);

}  // namespace ai_vmm::graph
