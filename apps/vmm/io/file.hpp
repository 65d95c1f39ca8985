// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>

#include "ai_vmm/error.hpp"

namespace ai_vmm::cli {

/// Largest input file or unpacked array that is read, 4 GiB.
inline constexpr std::uint64_t kInputLimit = std::uint64_t{4} << 30;

/// Error(invalid_argument, input): the form of everything these readers refuse.
[[nodiscard]] Error input_error(std::string message, ErrorDetail detail = {});
/// Error(data_loss, input): a file that ends early or contradicts itself.
[[nodiscard]] Error damaged(std::string message, ErrorDetail detail = {});
/// The Error for `errno` after `doing` ("can't open") something to `path`.
[[nodiscard]] Error file_error(int error_number, std::string_view doing, const std::filesystem::path& path);

/// The whole file; "-" is standard input.
/// @throws Error(not_found, permission_denied); Error(invalid_argument) a directory; Error(resource_exhausted) above `limit`.
[[nodiscard]] std::string read_input(const std::filesystem::path& path, std::uint64_t limit = kInputLimit);
/// Replaces the file, or leaves it as it was on an error; "-" is standard output.
void write_output(const std::filesystem::path& path, std::string_view content);

}  // namespace ai_vmm::cli
