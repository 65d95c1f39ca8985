// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>
#include <vector>

namespace ai_vmm::cuda {

/// Device code of one source: images that together hold its kernels. Those that were compiled for another source may hold some of that too.
using DeviceCode = std::vector<std::shared_ptr<const std::string>>;

/// What code depends on besides its source.
struct CodeTarget {
    int compute = 0;  ///< compute capability times 10
    int threads_per_block = 0;
    int driver_version = 0;
};

/// Compiles `source` behind the device's prelude, its parts (kModulePart) shared out over several threads. Each part is compiled once for a process,
/// whatever sources it stands in, so that it must depend on nothing but what stands before the first, and no two of one text may differ.
/// Code is kept for the process, and in the cache (driver/kept.hpp) for later ones, under the source, the prelude, the target and NVRTC's version.
/// @throws Error(unavailable) no NVRTC; Error(internal) with the compiler's messages.
[[nodiscard]] DeviceCode compile_kernels(const std::string& source, const CodeTarget& target);

/// Parts that compile_kernels() had compiled, and that the store or the process had the code of.
struct CompilerCounters {
    long compiled = 0, from_store = 0, from_process = 0;
};
[[nodiscard]] CompilerCounters compiler_counters();
/// Forgets the process's code, not the store's: for tests.
void forget_compiled_kernels();

}  // namespace ai_vmm::cuda
