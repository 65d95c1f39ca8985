// SPDX-License-Identifier: Apache-2.0
/// Recurrent cells and sequences, loops and branches.
#include "lower/context.hpp"

namespace ai_vmm::cuda {

void add_recurrent(Table&) {}

}  // namespace ai_vmm::cuda
