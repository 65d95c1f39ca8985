// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ai_vmm/model.hpp"

namespace ai_vmm::graph {

/// What a TensorFlow Lite file says about itself: the first subgraph's inputs and outputs, in its order, under its tensors' names. An unnamed
/// tensor is called "input_N" or "output_N".
struct TfliteFile {
    std::vector<TensorInfo> inputs;
    std::vector<TensorInfo> outputs;
    /// (byte position, 32-bit value): what has to change so that OpenVINO's reader takes the file with the same meaning. A vector's quantisation
    /// axis, which can only be 0, becomes 0; states of float LSTMs, which start at 0, become absent (see tflite_lstm.hpp).
    std::vector<std::pair<std::uint64_t, std::int32_t>> repairs;
    bool time_major = false;  ///< of the LSTMs among the operations: data is [time, batch, features]
    float cell_clip = 0;      ///< of the LSTMs: their cells stay within plus and minus this; 0: unbounded
    std::string refusal;      ///< which operation OpenVINO's reader can't take and why, where its own words would not tell; else empty
};

/// Reads the flatbuffer with every offset, table, vector and index checked; quantisation, buffers and operator inputs too, so that what follows
/// them stays inside the file.
/// @throws Error(invalid_argument, input) truncated or damaged.
[[nodiscard]] TfliteFile parse_tflite(std::string_view bytes);

/// The bytes with the file's repairs made.
[[nodiscard]] std::string repaired(std::string bytes, const TfliteFile& file);

}  // namespace ai_vmm::graph
