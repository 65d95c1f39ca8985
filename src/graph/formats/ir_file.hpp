// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace ai_vmm::graph {

/// The largest .xml file that is read; real ones have up to some tens of MiB.
inline constexpr std::size_t kIrLimitBytes = std::size_t{1} << 30;

/// How large the .bin file must be at least: the end of the last constant. 0: the model has no constants outside the .xml file.
/// Reads the attributes `offset` and `size` of <data> elements; doesn't check the document.
[[nodiscard]] std::uint64_t ir_weights_bytes(std::string_view xml);

}  // namespace ai_vmm::graph
