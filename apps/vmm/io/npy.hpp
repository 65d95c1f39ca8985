// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

#include "ai_vmm/tensor.hpp"

namespace ai_vmm::cli {

/// Reads one array in NumPy's format, versions 1 to 3 (numpy.lib.format), from `content`; bytes after the array are ignored as NumPy does.
/// Every numeric type, booleans, `U` and `S` strings (to UTF-8), both byte orders, both memory orders. Nothing is allocated before the
/// content is known to hold it. The two-byte void type is bfloat16, as ml_dtypes writes it.
///
/// @param name    for messages
/// @param wanted  what one-byte void elements mean (8-bit floats and, one per byte, 4-bit and 2-bit types of ml_dtypes)
/// @throws Error(invalid_argument) not such a file; a header that isn't plain; Error(unimplemented) an element type without equal here
///         (objects, records, dates, long double); Error(data_loss) the file ends early.
[[nodiscard]] Tensor parse_npy(std::string_view content, std::string_view name, std::optional<ElementType> wanted = {});

/// The array as a version 1 file (2 where the header needs it), little endian, C order. bf16 and 8-bit floats are written as ml_dtypes
/// does (void types); types under 8 bits one element per byte; strings as `U`, or as `S` where they aren't UTF-8.
[[nodiscard]] std::string format_npy(const Tensor& tensor);

/// Whether the content starts like an array file.
[[nodiscard]] bool is_npy(std::string_view content) noexcept;

/// Reads an archive of arrays (numpy.savez); names without ".npy", in the archive's order.
/// @throws as parse_npy(), and Error(data_loss) for a damaged archive; Error(resource_exhausted) if it unpacks to more than kInputLimit.
[[nodiscard]] TensorMap parse_npz(std::string_view content, std::string_view name);
/// Whether the content starts like a zip archive.
[[nodiscard]] bool is_npz(std::string_view content) noexcept;
/// An uncompressed archive that numpy.load reads.
[[nodiscard]] std::string format_npz(const TensorMap& tensors);

}  // namespace ai_vmm::cli
