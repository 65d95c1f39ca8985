// SPDX-License-Identifier: Apache-2.0
/// Fourier transforms, windows, random numbers.
#include "lower/context.hpp"

namespace ai_vmm::cuda {

void add_signal(Table&) {}

}  // namespace ai_vmm::cuda
