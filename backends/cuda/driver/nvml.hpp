// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace ai_vmm::cuda {

/// What NVML tells about a GPU; what it doesn't tell, or needs a permission for, is empty.
struct NvmlInfo {
    std::optional<std::int64_t> memory_total_bytes, memory_free_bytes;
    std::optional<unsigned> clock_mhz, memory_clock_mhz;  ///< highest, of the multiprocessors and of the memory
    std::optional<double> power_limit_w;
    std::optional<bool> ecc, mig;
    std::optional<int> nvlinks;  ///< active links
    std::optional<unsigned> pcie_generation, pcie_width;
};

/// NVIDIA's management library, which needs no context and no driver call. Thread-safe.
/// @param pci_address  "0000:3b:00.0"
/// @returns nothing where the library is missing or knows no such GPU.
[[nodiscard]] std::optional<NvmlInfo> ask_nvml(const std::string& pci_address);
/// Of the memory alone.
[[nodiscard]] std::optional<NvmlInfo> ask_nvml_memory(const std::string& pci_address);
/// "580.65.06"; empty where the library is missing.
[[nodiscard]] std::string driver_release();

}  // namespace ai_vmm::cuda
