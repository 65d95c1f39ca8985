// SPDX-License-Identifier: Apache-2.0
/// Operations whose positions come from data: gathers, scatters, sorting, ranges.
#include "lower/context.hpp"

namespace ai_vmm::cuda {

void add_indexing(Table&) {}

}  // namespace ai_vmm::cuda
