// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <openvino/core/extension.hpp>

namespace ai_vmm::graph {

/// Converts UNIDIRECTIONAL_SEQUENCE_LSTM, which OpenVINO's TensorFlow Lite reader lacks: f32, tanh, four gates, no peepholes, projection or
/// normalisation, as parse_tflite() checks. The state starts at 0 in every execution; TensorFlow Lite's interpreter keeps it from one to the next
/// unless it is told to reset it. Inputs are in the kernel's order without the absent ones. https://ai.google.dev/edge/litert
/// @param time_major  data is [time, batch, features] rather than [batch, time, features].
/// @param cell_clip   bound of the cells' magnitude after each step; 0: none. A bound that the cells may reach makes a loop of the sequence.
[[nodiscard]] std::shared_ptr<ov::Extension> convert_tflite_lstm(bool time_major, float cell_clip);

}  // namespace ai_vmm::graph
