// SPDX-License-Identifier: Apache-2.0
/// Weights of a recurrence between OpenVINO's layout and a library's. Pure; no vendor header.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "device/libraries.hpp"

namespace ai_vmm::cuda {

/// Where a library keeps one gate's matrix and bias, in bytes from the start of its weights.
struct GateOffsets {
    std::size_t matrix = 0, bias = 0;
};

/// Offsets of every matrix, by direction and then by matrix number as cuDNN counts them: first those applied to the input, then those to the state.
/// LSTM: i, f, c, o; GRU: r, z, h; else one.
struct RecurrentLayout {
    std::size_t bytes = 0;
    std::vector<std::vector<GateOffsets>> directions;
};

/// Matrices applied to the input, as many as to the state: 4 (LSTM), 3 (GRU), 1.
[[nodiscard]] int gates(RecurrentSpec::Cell cell) noexcept;

/// RecurrentCall::pack_weights() for a layout. What the layout leaves free is zero; both biases are kept apart, the second being zero but for the
/// GRU's h.
/// @throws Error(invalid_argument) a size differs.
[[nodiscard]] std::vector<std::byte> pack_weights(const RecurrentSpec& spec, const RecurrentLayout& layout, std::span<const std::byte> w,
                                                  std::span<const std::byte> r, std::span<const std::byte> b);

}  // namespace ai_vmm::cuda
