// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>

#include "ai_vmm/backend/backend.hpp"

namespace ai_vmm::openvino {

/// `model.graph`, or a clone of it with conversions at those inputs and outputs whose element type in the graph is not the one that the
/// file declares (readers widen or narrow some types). An `undefined` declaration accepts the graph's type.
/// @throws Error(unimplemented) a declared type that OpenVINO lacks, or that can't be converted: strings.
[[nodiscard]] std::shared_ptr<const ov::Model> with_declared_types(const backend::Model& model);

}  // namespace ai_vmm::openvino
