// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

namespace ai_vmm::cuda {

/// `source` with OVERLAP() as the first statement of every KERNEL(name)(…) { … }: where the device has programmatic dependent launch (CUDA C++
/// programming guide, same chapter), a kernel is launched while the one before it ends, waits there for the end of that one before it touches memory,
/// and then lets the next one be launched.
[[nodiscard]] std::string with_overlap(const std::string& source);

}  // namespace ai_vmm::cuda
