// SPDX-License-Identifier: Apache-2.0
#include "driver/discovery.hpp"

#include <algorithm>
#include <array>
#include <cctype>
#include <future>
#include <optional>
#include <system_error>

#include "ai_vmm/error.hpp"
#include "base/log.hpp"
#include "driver/cuda_api.hpp"
#include "driver/nvml.hpp"

namespace ai_vmm::cuda {
namespace {

std::optional<int> attribute(const CudaApi& api, CUdevice device, CUdevice_attribute which) {
    int value = 0;
    if (api.device_attribute(&value, which, device) != CUDA_SUCCESS) return {};
    return value;
}

/// Lower-case hex digits without dashes, as the other backends give it.
std::string uuid_text(const CudaApi& api, CUdevice device) {
    CUuuid uuid{};
    if (api.device_uuid(&uuid, device) != CUDA_SUCCESS) return {};
    std::string text;
    for (const char c : uuid.bytes) {
        constexpr std::string_view kDigits = "0123456789abcdef";
        const auto byte = static_cast<unsigned char>(c);
        text += kDigits[byte >> 4U];
        text += kDigits[byte & 15U];
    }
    return text;
}

std::string pci_text(const CudaApi& api, CUdevice device) {
    std::array<char, 32> text{};
    if (api.device_pci_bus_id(text.data(), static_cast<int>(text.size()), device) != CUDA_SUCCESS) return {};
    std::string address = text.data();
    std::transform(address.begin(), address.end(), address.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    return address;
}

std::string cuda_version(int version) { return std::to_string(version / 1000) + '.' + std::to_string(version % 1000 / 10); }

DeviceInfo describe(const CudaApi& api, int ordinal, int count) {
    CUdevice device = 0;
    api.check(api.device_get(&device, ordinal), "cuDeviceGet");
    DeviceInfo info;
    info.kind = attribute(api, device, CU_DEVICE_ATTRIBUTE_INTEGRATED).value_or(0) != 0 ? DeviceKind::integrated_gpu : DeviceKind::discrete_gpu;
    info.vendor = "NVIDIA";
    std::array<char, 256> name{};
    api.check(api.device_name(name.data(), static_cast<int>(name.size()) - 1, device), "cuDeviceGetName");
    info.name = name.data();
    info.uuid = uuid_text(api, device);
    info.pci_address = pci_text(api, device);
    std::size_t total = 0;
    api.check(api.device_total_memory(&total, device), "cuDeviceTotalMem");
    info.memory_total_bytes = static_cast<std::int64_t>(total);
    info.compute_units = attribute(api, device, CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT).value_or(0);
    const int compute = 10 * attribute(api, device, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR).value_or(0) +
                        attribute(api, device, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR).value_or(0);
    info.features.push_back("sm_" + std::to_string(compute));
    if (compute >= 70) info.features.emplace_back("tensor_cores");

    DeviceRoute route{.backend = "cuda",
                      .backend_device = "GPU." + std::to_string(ordinal),
                      .engine_version = driver_description(),
                      .precisions = native_precisions(compute)};
    const auto tell = [&](const char* key, const std::string& value) { route.properties.push_back(std::string(key) + '=' + value); };
    const auto tell_attribute = [&](const char* key, CUdevice_attribute which, int divisor = 1) {
        if (const auto value = attribute(api, device, which); value && *value != 0) tell(key, std::to_string(*value / divisor));
    };
    tell("COMPUTE_CAPABILITY", std::to_string(compute / 10) + '.' + std::to_string(compute % 10));
    tell("CUDA_VERSION", cuda_version(api.version));
    if (const auto release = driver_release(); !release.empty()) tell("DRIVER_VERSION", release);
    tell_attribute("MULTIPROCESSORS", CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT);
    tell_attribute("L2_CACHE_BYTES", CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE);
    tell_attribute("MEMORY_BUS_BITS", CU_DEVICE_ATTRIBUTE_GLOBAL_MEMORY_BUS_WIDTH);

    const auto nvml = ask_nvml(info.pci_address);
    if (!nvml) {
        tell_attribute("CLOCK_MAX_MHZ", CU_DEVICE_ATTRIBUTE_CLOCK_RATE, 1000);
        tell_attribute("MEMORY_CLOCK_MAX_MHZ", CU_DEVICE_ATTRIBUTE_MEMORY_CLOCK_RATE, 1000);
        tell_attribute("ECC", CU_DEVICE_ATTRIBUTE_ECC_ENABLED);
    } else {
        const auto tell_number = [&](const char* key, const auto& value) {
            if (value) tell(key, std::to_string(*value));
        };
        // A slice of a GPU shares the whole one's PCI address: its memory is what the driver says.
        const bool slice = nvml->mig.value_or(false);
        if (!slice) info.memory_free_bytes = nvml->memory_free_bytes.value_or(0);
        tell_number("CLOCK_MAX_MHZ", nvml->clock_mhz);
        tell_number("MEMORY_CLOCK_MAX_MHZ", nvml->memory_clock_mhz);
        if (nvml->power_limit_w) tell("POWER_LIMIT_W", std::to_string(static_cast<long>(*nvml->power_limit_w + 0.5)));
        if (nvml->ecc) tell("ECC", *nvml->ecc ? "1" : "0");
        if (nvml->mig) tell("MIG", slice ? "1" : "0");
        tell_number("NVLINK_LINKS", nvml->nvlinks);
        tell_number("PCIE_GENERATION", nvml->pcie_generation);
        tell_number("PCIE_WIDTH", nvml->pcie_width);
    }
    std::string peers;
    for (int other = 0; other < count; ++other) {
        CUdevice peer = 0;
        int reachable = 0;
        if (other == ordinal || api.device_get(&peer, other) != CUDA_SUCCESS) continue;
        if (api.device_can_access_peer(&reachable, device, peer) != CUDA_SUCCESS || reachable == 0) continue;
        peers += (peers.empty() ? "GPU." : ",GPU.") + std::to_string(other);
    }
    if (!peers.empty()) tell("PEER_ACCESS", peers);
    info.routes.push_back(std::move(route));
    return info;
}

}  // namespace

std::vector<std::string> native_precisions(int compute) {
    std::vector<std::string> precisions{"f32"};
    if (compute >= 53) precisions.emplace_back("f16");
    if (compute >= 80) precisions.emplace_back("bf16");
    if (compute >= 61) precisions.emplace_back("i8");
    if (compute >= 89) precisions.emplace_back("f8e4m3");
    return precisions;
}

std::string driver_description() {
    static const std::string description = [] {
        std::future<std::string> asked;
        try {
            asked = std::async(std::launch::async, driver_release);  // NVML opens while the driver does
        } catch (const std::system_error&) {                         // no thread
        }
        const auto& api = CudaApi::get();
        const std::string release = asked.valid() ? asked.get() : driver_release();
        return "CUDA " + cuda_version(api.version) + (release.empty() ? "" : ", driver " + release);
    }();
    return description;
}

std::vector<DeviceInfo> discover_devices() {
    const auto& api = CudaApi::get();
    int count = 0;
    api.check(api.device_count(&count), "cuDeviceGetCount");
    std::vector<DeviceInfo> devices;
    for (int ordinal = 0; ordinal < count; ++ordinal) {
        try {
            devices.push_back(describe(api, ordinal, count));
        } catch (const Error& error) {  // one broken device must not hide the others
            base::log_warning("CUDA device " + std::to_string(ordinal) + " is left out: " + error.what());
        }
    }
    return devices;
}

}  // namespace ai_vmm::cuda
