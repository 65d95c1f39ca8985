// SPDX-License-Identifier: Apache-2.0
/// Boxes: suppression, proposals, regions of interest.
#include "lower/context.hpp"

namespace ai_vmm::cuda {

void add_detection(Table&) {}

}  // namespace ai_vmm::cuda
