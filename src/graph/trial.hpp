// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stop_token>

#include "graph/reader.hpp"

namespace ai_vmm::graph {

/// Reads the model in a process of its own first, because the vendor's parser of its format ends the process on some malformed files (fuzzing found
/// aborts and divisions by zero in TensorFlow and TFLite, null and wild pointers in ONNX). Returns if that process came through, also if it refused
/// the file: this one will say why. What came through once is not tried again in this process. Thread-safe.
/// @throws Error(invalid_argument) the file ended it or took too long; Error(unavailable) the program ai_vmm_read_trial is not installed.
void try_reading(const Located& located, const std::stop_token& stop);

}  // namespace ai_vmm::graph
