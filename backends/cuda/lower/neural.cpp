// SPDX-License-Identifier: Apache-2.0
/// Pooling, normalisation, resampling and the rest of vision.
#include "lower/context.hpp"

namespace ai_vmm::cuda {

void add_neural(Table&) {}

}  // namespace ai_vmm::cuda
