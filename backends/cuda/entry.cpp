// SPDX-License-Identifier: Apache-2.0
/// The loadable backend: GPUs of this machine, with generated kernels and the vendor's libraries.
#include <string>
#include <utility>
#include <vector>

#include "backend.hpp"
#include "driver/discovery.hpp"
#include "driver/kept.hpp"
#include "driver/nvrtc.hpp"
#include "gpu.hpp"

namespace ai_vmm::cuda {
namespace {

/// What results depend on. @throws Error(unavailable) no driver, no GPU or no compiler.
std::string engines() {
    const auto driver = driver_description();  // first: without a driver nothing else matters
    return driver + ", NVRTC " + Nvrtc::get().version();
}

std::vector<DeviceEntry> discover() {
    std::vector<DeviceEntry> entries;
    for (auto& info : discover_devices()) {
        info.routes.front().engine_version = engines();
        const int ordinal = std::stoi(info.routes.front().backend_device.substr(4));  // "GPU.0"
        entries.push_back({std::move(info), [ordinal] { return open_gpu(ordinal); }, ordinal});
    }
    return entries;
}

class CudaBackend final : public Backend {
public:
    CudaBackend() : Backend(discover, engines()) {}
    void use_cache(std::shared_ptr<backend::Cache> cache) override { keep_in(std::move(cache)); }
};

}  // namespace
}  // namespace ai_vmm::cuda

AI_VMM_DEFINE_BACKEND(ai_vmm::cuda::CudaBackend)
