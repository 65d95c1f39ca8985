// SPDX-License-Identifier: Apache-2.0
#include "devices.hpp"

#include <algorithm>
#include <array>
#include <cstdio>
#include <optional>
#include <utility>

#include "openvino/runtime/core.hpp"
#include "openvino/runtime/intel_gpu/properties.hpp"
#include "openvino/runtime/intel_npu/properties.hpp"
#include "openvino/runtime/properties.hpp"

namespace ai_vmm::openvino {
namespace {

/// Asks one property; std::nullopt if the device doesn't know it or fails.
template <typename T>
std::optional<T> ask(const ov::Core& core, const std::string& device, const std::string& property) {
    try {
        return core.get_property(device, property).as<T>();
    } catch (...) {
        return std::nullopt;
    }
}

DeviceKind kind_of(const ov::Core& core, const std::string& device) {
    if (is_cpu(device)) return DeviceKind::cpu;
    if (device.starts_with("NPU")) return DeviceKind::npu;
    if (!device.starts_with("GPU")) return DeviceKind::other;
    const auto type = ask<ov::device::Type>(core, device, ov::device::type.name());
    return type == ov::device::Type::INTEGRATED ? DeviceKind::integrated_gpu : DeviceKind::discrete_gpu;
}

std::string vendor_of(std::string_view device, std::string_view name) {
    for (const std::string_view vendor : {"Intel", "AMD", "NVIDIA", "Qualcomm", "Apple", "Ampere"}) {
        if (name.find(vendor) != std::string_view::npos) return std::string(vendor);
    }
    if (name.find("Radeon") != std::string_view::npos) return "AMD";
    // The NPU plugin drives Intel's only, whatever the name says.
    return device.starts_with("NPU") ? "Intel" : "";
}

/// Lowercase hex digits; empty for an all-zero UUID, which is what a driver without one reports.
std::string uuid_text(const ov::device::UUID& id) {
    if (std::ranges::all_of(id.uuid, [](std::uint8_t byte) { return byte == 0; })) return {};
    std::string text;
    for (const std::uint8_t byte : id.uuid) {
        constexpr std::string_view kDigits = "0123456789abcdef";
        text += kDigits[byte >> 4];
        text += kDigits[byte & 15];
    }
    return text;
}

std::string pci_text(const ov::device::PCIInfo& pci) {
    std::array<char, 64> text{};
    std::snprintf(text.data(), text.size(), "%04x:%02x:%02x.%x", pci.domain, pci.bus, pci.device, pci.function);
    return text.data();
}

/// False if the host's processor would emulate the type: the plugin lists some types for whole instruction set families.
bool processor_runs(std::string_view precision) {
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (precision == "bf16") return __builtin_cpu_supports("avx512bf16") || __builtin_cpu_supports("amx-bf16");
    if (precision == "f16") return __builtin_cpu_supports("avx512fp16");
    if (precision == "i8") return __builtin_cpu_supports("avx512vnni") || __builtin_cpu_supports("avxvnni") || __builtin_cpu_supports("amx-int8");
#endif
    return precision == "f32" || precision == "bf16" || precision == "f16" || precision == "i8";
}

}  // namespace

bool adds_bytes_exactly() { return processor_runs("i8"); }

std::vector<std::string> device_names(const ov::Core& core) {
    std::vector<std::string> names;
    try {
        names = core.get_available_devices();
    } catch (...) {
        names = {"CPU"};  // one broken plugin must not hide the processor
    }
    std::erase_if(names, [](std::string_view name) {
        return name.starts_with("AUTO") || name.starts_with("MULTI") || name.starts_with("HETERO") || name.starts_with("BATCH");
    });
    return names;
}

std::vector<std::string> native_precisions(const ov::Core& core, const std::string& device) {
    constexpr std::array<std::pair<std::string_view, std::string_view>, 4> kNames{
        {{"FP32", "f32"}, {"BF16", "bf16"}, {"FP16", "f16"}, {"INT8", "i8"}}};
    const auto capabilities = ask<std::vector<std::string>>(core, device, ov::device::capabilities.name()).value_or(std::vector<std::string>{});
    std::vector<std::string> precisions;
    for (const auto& [theirs, ours] : kNames) {
        if (std::ranges::find(capabilities, theirs) == capabilities.end()) continue;
        if (is_cpu(device) && !processor_runs(ours)) continue;
        precisions.emplace_back(ours);
    }
    return precisions;
}

DeviceInfo describe_device(const ov::Core& core, const std::string& device, const std::string& engine_version) {
    DeviceInfo info;
    info.kind = kind_of(core, device);
    info.name = ask<std::string>(core, device, ov::device::full_name.name()).value_or(device);
    info.vendor = vendor_of(device, info.name);
    // The host's processor is merged by kind, and its memory and cores are the host's own to tell.
    if (!is_cpu(device)) {
        if (const auto id = ask<ov::device::UUID>(core, device, ov::device::uuid.name())) info.uuid = uuid_text(*id);
        if (const auto pci = ask<ov::device::PCIInfo>(core, device, ov::device::pci_info.name())) info.pci_address = pci_text(*pci);
        const char* memory = info.kind == DeviceKind::npu ? ov::intel_npu::device_total_mem_size.name() : ov::intel_gpu::device_total_mem_size.name();
        info.memory_total_bytes = static_cast<std::int64_t>(ask<std::uint64_t>(core, device, memory).value_or(0));
        if (info.kind == DeviceKind::npu) {
            const auto used = ask<std::uint64_t>(core, device, ov::intel_npu::device_alloc_mem_size.name()).value_or(0);
            info.memory_free_bytes = std::max<std::int64_t>(0, info.memory_total_bytes - static_cast<std::int64_t>(used));
            info.compute_units = static_cast<int>(ask<std::int64_t>(core, device, ov::intel_npu::max_tiles.name()).value_or(0));
        } else {
            info.memory_free_bytes = ask<std::int64_t>(core, device, ov::intel_gpu::hint::available_device_mem.name()).value_or(0);
            info.compute_units = ask<std::int32_t>(core, device, ov::intel_gpu::execution_units_count.name()).value_or(0);
        }
    }
    DeviceRoute route{.backend = "openvino", .backend_device = device, .engine_version = engine_version};
    route.precisions = native_precisions(core, device);
    const auto names = ask<std::vector<ov::PropertyName>>(core, device, ov::supported_properties.name());
    for (const ov::PropertyName& name : names.value_or(std::vector<ov::PropertyName>{})) {
        if (name == ov::supported_properties.name()) continue;
        if (auto value = ask<std::string>(core, device, name)) route.properties.push_back(static_cast<const std::string&>(name) + "=" + *value);
    }
    info.routes.push_back(std::move(route));
    return info;
}

}  // namespace ai_vmm::openvino
