// SPDX-License-Identifier: Apache-2.0
/// What can be said about specifications without a library: their text and the sizes of their buffers. Pure.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "device/libraries.hpp"

namespace ai_vmm::cuda {

[[nodiscard]] std::string_view to_string(Activation activation) noexcept;

/// One line that names every field: equal lines mean equal specifications. Keys of stored choices, and messages.
[[nodiscard]] std::string to_string(const MatmulSpec& spec);
[[nodiscard]] std::string to_string(const ConvolutionSpec& spec);
[[nodiscard]] std::string to_string(const AttentionSpec& spec);
[[nodiscard]] std::string to_string(const RecurrentSpec& spec);

/// Elements that a call may touch of one buffer, from its address on.
struct BufferExtent {
    Type type = Type::f32;
    std::int64_t elements = 0;
    bool operator==(const BufferExtent&) const = default;
};

/// One extent per buffer, in the specification's order.
[[nodiscard]] std::vector<BufferExtent> buffers(const MatmulSpec& spec);
[[nodiscard]] std::vector<BufferExtent> buffers(const ConvolutionSpec& spec);
[[nodiscard]] std::vector<BufferExtent> buffers(const AttentionSpec& spec);
/// @param weight_bytes  RecurrentCall::weight_bytes()
[[nodiscard]] std::vector<BufferExtent> buffers(const RecurrentSpec& spec, std::size_t weight_bytes);

}  // namespace ai_vmm::cuda
