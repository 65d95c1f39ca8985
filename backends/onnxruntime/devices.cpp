// SPDX-License-Identifier: Apache-2.0
#include "devices.hpp"

#include <dlfcn.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdio>
#include <fstream>
#include <string>
#include <string_view>

#include "base/log.hpp"
#include "library.hpp"

namespace ai_vmm::ort {
namespace {

/// An execution provider other than the processor's own. Written against the library's API and documentation; see
/// docs/guide/backend-onnxruntime.md for which of them were tried on real hardware.
struct Provider {
    std::string_view name;    ///< as GetAvailableProviders() lists it
    std::string_view device;  ///< our prefix of the device name: "CUDA" gives "CUDA:0"
    std::string_view vendor;
    DeviceKind kind;
    bool nvidia;  ///< devices are found through libcuda; else one device 0
};
constexpr std::array<Provider, 7> kProviders{{
    {"CUDAExecutionProvider", "CUDA", "NVIDIA", DeviceKind::discrete_gpu, true},
    {"TensorrtExecutionProvider", "TensorRT", "NVIDIA", DeviceKind::discrete_gpu, true},
    {"ROCMExecutionProvider", "ROCm", "AMD", DeviceKind::discrete_gpu, false},
    {"MIGraphXExecutionProvider", "MIGraphX", "AMD", DeviceKind::discrete_gpu, false},
    {"OpenVINOExecutionProvider", "OpenVINO", "Intel", DeviceKind::other, false},
    {"QNNExecutionProvider", "QNN", "Qualcomm", DeviceKind::npu, false},
    {"VitisAIExecutionProvider", "VitisAI", "AMD", DeviceKind::npu, false},
}};

struct DeviceName {
    const Provider* provider = nullptr;  ///< null: the processor
    int index = 0;
};

DeviceName parse(const std::string& device) {
    if (device == "CPU") return {};
    const std::string_view text = device;
    const std::size_t colon = text.find(':');
    const auto provider = std::ranges::find(kProviders, text.substr(0, colon), &Provider::device);
    int index = 0;
    bool good = provider != kProviders.end();
    if (good && colon != std::string_view::npos) {
        const char* const end = text.data() + text.size();
        const auto [rest, error] = std::from_chars(text.data() + colon + 1, end, index);
        good = error == std::errc{} && rest == end && index >= 0;
    }
    if (!good) {
        throw Error(ErrorCode::invalid_argument, ErrorCategory::input, "ONNX Runtime has no device '" + device + "'",
                    {.expected = "\"CPU\" or a name that enumerate() gave", .found = device, .advice = {}});
    }
    return {.provider = &*provider, .index = index};
}

void append(OrtSessionOptions* options, const Provider& provider, int index) {
    const OrtApi& api = *Library::get().api;
    const std::string id = std::to_string(index);
    const char* const key = "device_id";
    const char* const value = id.c_str();
    if (provider.device == "CUDA") {
        OrtCUDAProviderOptionsV2* cuda = nullptr;
        check(api.CreateCUDAProviderOptions(&cuda), Phase::compile);
        OrtStatus* status = api.UpdateCUDAProviderOptions(cuda, &key, &value, 1);
        if (status == nullptr) status = api.SessionOptionsAppendExecutionProvider_CUDA_V2(options, cuda);
        api.ReleaseCUDAProviderOptions(cuda);
        check(status, Phase::compile);
    } else if (provider.device == "TensorRT") {
        OrtTensorRTProviderOptionsV2* tensorrt = nullptr;
        check(api.CreateTensorRTProviderOptions(&tensorrt), Phase::compile);
        OrtStatus* status = api.UpdateTensorRTProviderOptions(tensorrt, &key, &value, 1);
        if (status == nullptr) status = api.SessionOptionsAppendExecutionProvider_TensorRT_V2(options, tensorrt);
        api.ReleaseTensorRTProviderOptions(tensorrt);
        check(status, Phase::compile);
    } else if (provider.device == "ROCm") {
        OrtROCMProviderOptions rocm;
        rocm.device_id = index;
        check(api.SessionOptionsAppendExecutionProvider_ROCM(options, &rocm), Phase::compile);
    } else if (provider.device == "MIGraphX") {
        OrtMIGraphXProviderOptions migraphx{};
        migraphx.device_id = index;
        check(api.SessionOptionsAppendExecutionProvider_MIGraphX(options, &migraphx), Phase::compile);
    } else {
        check(api.SessionOptionsAppendExecutionProvider(options, std::string(provider.device).c_str(), nullptr, nullptr, 0), Phase::compile);
    }
}

// Whether the provider's own library loads; its reason goes to the log.
bool opens(const Provider& provider, int index) {
    OrtSessionOptions* raw = nullptr;
    check(Library::get().api->CreateSessionOptions(&raw), Phase::compile);
    const Owner<OrtSessionOptions> options(raw);
    try {
        append(raw, provider, index);
        return true;
    } catch (const Error& error) {
        base::log_info("onnxruntime: " + std::string(provider.name) + " is left out: " + error.what());
        return false;
    }
}

DeviceRoute route_of(std::string device, std::vector<std::string> precisions, std::string_view provider) {
    return {.backend = "onnxruntime",
            .backend_device = std::move(device),
            .engine_version = Library::get().version,
            .precisions = std::move(precisions),
            .properties = {"EXECUTION_PROVIDER=" + std::string(provider)}};
}

// NVIDIA devices by the driver library, so that they merge with what other backends find (CUDA driver API, cuda.h).
std::vector<DeviceInfo> nvidia_devices() {
    static void* const driver = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
    if (driver == nullptr) return {};
    struct Uuid {
        unsigned char bytes[16];
    };
    const auto symbol = [](const char* name) { return dlsym(driver, name); };
    const auto init = reinterpret_cast<int (*)(unsigned)>(symbol("cuInit"));
    const auto get_count = reinterpret_cast<int (*)(int*)>(symbol("cuDeviceGetCount"));
    const auto get = reinterpret_cast<int (*)(int*, int)>(symbol("cuDeviceGet"));
    const auto get_name = reinterpret_cast<int (*)(char*, int, int)>(symbol("cuDeviceGetName"));
    const auto get_uuid = reinterpret_cast<int (*)(Uuid*, int)>(symbol("cuDeviceGetUuid"));
    const auto get_bus = reinterpret_cast<int (*)(char*, int, int)>(symbol("cuDeviceGetPCIBusId"));
    const auto get_total = reinterpret_cast<int (*)(std::size_t*, int)>(symbol("cuDeviceTotalMem_v2"));
    int count = 0;
    if (!init || !get_count || !get || !get_name || !get_uuid || !get_bus || !get_total || init(0) != 0 || get_count(&count) != 0) return {};
    std::vector<DeviceInfo> devices;
    for (int i = 0; i < count; ++i) {
        int handle = 0;
        if (get(&handle, i) != 0) continue;
        DeviceInfo info;
        info.kind = DeviceKind::discrete_gpu;
        info.vendor = "NVIDIA";
        std::array<char, 256> text{};
        if (get_name(text.data(), static_cast<int>(text.size()), handle) == 0) info.name = text.data();
        if (get_bus(text.data(), static_cast<int>(text.size()), handle) == 0) {
            info.pci_address = text.data();
            std::ranges::transform(info.pci_address, info.pci_address.begin(),
                                   [](char c) { return static_cast<char>(c >= 'A' && c <= 'F' ? c - 'A' + 'a' : c); });
        }
        Uuid uuid{};
        if (get_uuid(&uuid, handle) == 0) {
            for (const unsigned char byte : uuid.bytes) {
                std::snprintf(text.data(), text.size(), "%02x", byte);
                info.uuid += text.data();
            }
        }
        std::size_t total = 0;
        if (get_total(&total, handle) == 0) info.memory_total_bytes = static_cast<std::int64_t>(total);
        devices.push_back(std::move(info));
    }
    return devices;
}

DeviceInfo processor() {
    DeviceInfo cpu;
    cpu.kind = DeviceKind::cpu;
    std::ifstream cpuinfo("/proc/cpuinfo");
    for (std::string line; std::getline(cpuinfo, line);) {
        const std::size_t colon = line.find(": ");
        if (colon == std::string::npos) continue;
        if (line.starts_with("vendor_id")) cpu.vendor = line.substr(colon + 2);
        if (line.starts_with("model name")) {
            cpu.name = line.substr(colon + 2);
            break;
        }
    }
    if (cpu.vendor == "GenuineIntel") cpu.vendor = "Intel";
    if (cpu.vendor == "AuthenticAMD") cpu.vendor = "AMD";
    cpu_set_t usable;
    cpu.compute_units = sched_getaffinity(0, sizeof usable, &usable) == 0 ? CPU_COUNT(&usable) : 1;
    cpu.memory_total_bytes = static_cast<std::int64_t>(sysconf(_SC_PHYS_PAGES)) * sysconf(_SC_PAGESIZE);
    cpu.memory_free_bytes = static_cast<std::int64_t>(sysconf(_SC_AVPHYS_PAGES)) * sysconf(_SC_PAGESIZE);
    cpu.routes.push_back(route_of("CPU", {"f32", "i8"}, "CPUExecutionProvider"));
    return cpu;
}

}  // namespace

std::vector<DeviceInfo> enumerate_devices() {
    std::vector<DeviceInfo> devices{processor()};
    for (const Provider& provider : kProviders) {
        if (std::ranges::find(Library::get().providers, provider.name) == Library::get().providers.end()) continue;
        std::vector<DeviceInfo> found;
        if (provider.nvidia) {
            found = nvidia_devices();
        } else {
            DeviceInfo info;
            info.kind = provider.kind;
            info.vendor = provider.vendor;
            info.name = std::string(provider.vendor) + " device of " + std::string(provider.name);
            found.push_back(std::move(info));
        }
        for (std::size_t i = 0; i < found.size(); ++i) {
            if (!opens(provider, static_cast<int>(i))) continue;
            found[i].routes.push_back(route_of(std::string(provider.device) + ":" + std::to_string(i), {"f32"}, provider.name));
            devices.push_back(std::move(found[i]));
        }
    }
    return devices;
}

void append_provider(OrtSessionOptions* options, const backend::CompileConfig& config) {
    const DeviceName device = parse(config.device);
    if (device.provider != nullptr) append(options, *device.provider, device.index);
}

backend::Support supports_precision(const std::string& device, Precision precision) {
    try {
        (void)parse(device);
    } catch (const Error& error) {
        return {.supported = false, .reason = error.what(), .unsupported_nodes = {}};
    }
    if (precision == Precision::f32) return {.supported = true, .reason = {}, .unsupported_nodes = {}};
    return {.supported = false,
            .reason = "ONNX Runtime runs a model in the types it is written in: computing precision " + std::string(to_string(precision)) +
                      " is not offered on " + device,
            .unsupported_nodes = {}};
}

}  // namespace ai_vmm::ort
