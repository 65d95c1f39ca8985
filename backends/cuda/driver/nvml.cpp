// SPDX-License-Identifier: Apache-2.0
#include "driver/nvml.hpp"

#include <nvml.h>

#include <array>

#include "base/log.hpp"
#include "device/shared_library.hpp"

namespace ai_vmm::cuda {
namespace {

/// Each function may be missing: older drivers lack the newer ones.
struct Nvml {
    decltype(&nvmlInit_v2) init = nullptr;
    decltype(&nvmlSystemGetDriverVersion) driver_version = nullptr;
    decltype(&nvmlDeviceGetHandleByPciBusId_v2) handle = nullptr;
    decltype(&nvmlDeviceGetMemoryInfo) memory = nullptr;
    decltype(&nvmlDeviceGetMaxClockInfo) max_clock = nullptr;
    decltype(&nvmlDeviceGetEnforcedPowerLimit) power_limit = nullptr;
    decltype(&nvmlDeviceGetEccMode) ecc = nullptr;
    decltype(&nvmlDeviceGetMigMode) mig = nullptr;
    decltype(&nvmlDeviceGetNvLinkState) nvlink = nullptr;
    decltype(&nvmlDeviceGetMaxPcieLinkGeneration) pcie_generation = nullptr;
    decltype(&nvmlDeviceGetMaxPcieLinkWidth) pcie_width = nullptr;
    bool ready = false;

    Nvml() {
        const auto library = SharedLibrary::open("NVML", "libnvidia-ml.so.1");
        if (!library) {
            base::log_info(library.reason());
            return;
        }
        std::string missing;
        library.find(init, "nvmlInit_v2", missing);
        library.find(driver_version, "nvmlSystemGetDriverVersion", missing);
        library.find(handle, "nvmlDeviceGetHandleByPciBusId_v2", missing);
        library.find(memory, "nvmlDeviceGetMemoryInfo", missing);
        library.find(max_clock, "nvmlDeviceGetMaxClockInfo", missing);
        library.find(power_limit, "nvmlDeviceGetEnforcedPowerLimit", missing);
        library.find(ecc, "nvmlDeviceGetEccMode", missing);
        library.find(mig, "nvmlDeviceGetMigMode", missing);
        library.find(nvlink, "nvmlDeviceGetNvLinkState", missing);
        library.find(pcie_generation, "nvmlDeviceGetMaxPcieLinkGeneration", missing);
        library.find(pcie_width, "nvmlDeviceGetMaxPcieLinkWidth", missing);
        const auto result = init != nullptr ? init() : NVML_ERROR_FUNCTION_NOT_FOUND;
        ready = result == NVML_SUCCESS;
        if (!ready) base::log_info("NVML can't be initialized: error " + std::to_string(static_cast<int>(result)));
    }

    static const Nvml& get() {
        static const Nvml* const nvml = new Nvml();  // never shut down: other code of the process may use it
        return *nvml;
    }
};

/// The value that `function(arguments.., &value)` gives, if it gives one.
template <typename T, typename Function, typename... Arguments>
std::optional<T> ask(Function function, Arguments... arguments) {
    T value{};
    if (function == nullptr || function(arguments..., &value) != NVML_SUCCESS) return {};
    return value;
}

}  // namespace

std::optional<NvmlInfo> ask_nvml_memory(const std::string& pci_address) {
    const auto& nvml = Nvml::get();
    nvmlDevice_t device = nullptr;
    if (!nvml.ready || nvml.handle == nullptr || nvml.handle(pci_address.c_str(), &device) != NVML_SUCCESS) return {};
    NvmlInfo info;
    if (const auto memory = ask<nvmlMemory_t>(nvml.memory, device)) {
        info.memory_total_bytes = static_cast<std::int64_t>(memory->total);
        info.memory_free_bytes = static_cast<std::int64_t>(memory->free);
    }
    return info;
}

std::optional<NvmlInfo> ask_nvml(const std::string& pci_address) {
    const auto& nvml = Nvml::get();
    nvmlDevice_t device = nullptr;
    auto told = ask_nvml_memory(pci_address);
    if (!told || nvml.handle(pci_address.c_str(), &device) != NVML_SUCCESS) return {};
    NvmlInfo info = *std::move(told);
    info.clock_mhz = ask<unsigned>(nvml.max_clock, device, NVML_CLOCK_SM);
    info.memory_clock_mhz = ask<unsigned>(nvml.max_clock, device, NVML_CLOCK_MEM);
    if (const auto limit_mw = ask<unsigned>(nvml.power_limit, device)) info.power_limit_w = *limit_mw / 1e3;
    nvmlEnableState_t current_ecc{}, pending_ecc{};
    if (nvml.ecc != nullptr && nvml.ecc(device, &current_ecc, &pending_ecc) == NVML_SUCCESS) info.ecc = current_ecc == NVML_FEATURE_ENABLED;
    unsigned current_mig = 0, pending_mig = 0;
    if (nvml.mig != nullptr && nvml.mig(device, &current_mig, &pending_mig) == NVML_SUCCESS) info.mig = current_mig == NVML_DEVICE_MIG_ENABLE;
    for (unsigned link = 0; link < NVML_NVLINK_MAX_LINKS; ++link) {
        const auto state = ask<nvmlEnableState_t>(nvml.nvlink, device, link);
        if (state) info.nvlinks = info.nvlinks.value_or(0) + (*state == NVML_FEATURE_ENABLED ? 1 : 0);
    }
    info.pcie_generation = ask<unsigned>(nvml.pcie_generation, device);
    info.pcie_width = ask<unsigned>(nvml.pcie_width, device);
    return info;
}

std::string driver_release() {
    const auto& nvml = Nvml::get();
    std::array<char, 96> text{};
    if (!nvml.ready || nvml.driver_version == nullptr || nvml.driver_version(text.data(), static_cast<unsigned>(text.size())) != NVML_SUCCESS)
        return {};
    return text.data();
}

}  // namespace ai_vmm::cuda
