// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <istream>
#include <string_view>

namespace ai_vmm::graph {

/// Checks the structure of a GGUF file of `size` bytes: header, every metadata value, every tensor's place inside the file. Reads metadata only, in
/// blocks, whatever the file's size.
/// Layout: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
/// @throws Error(invalid_argument) what is wrong and at which offset, or a file without tensors.
void check_gguf(std::istream& file, std::uint64_t size, std::string_view shown_name);

}  // namespace ai_vmm::graph
