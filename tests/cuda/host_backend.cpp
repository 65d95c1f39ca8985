// SPDX-License-Identifier: Apache-2.0
/// The backend `cuda` over the processor: everything but the driver and the vendor's libraries, for the conformance suite and the ONNX node tests
/// on machines without a GPU.
#include <memory>

#include "backend.hpp"
#include "cuda/host_device.hpp"

namespace ai_vmm::cuda::test {
namespace {

std::vector<DeviceEntry> discover() {
    DeviceInfo info;
    info.kind = DeviceKind::other;
    info.vendor = "none";
    info.name = "kernels run on the processor";
    info.memory_total_bytes = std::int64_t{8} << 30;
    info.memory_free_bytes = info.memory_total_bytes;
    info.compute_units = 1;
    info.routes.push_back({"cuda", "HOST", "test", {"f32", "f16", "bf16"}, {}});
    return {{info, [] { return std::make_shared<HostDevice>(); }, 0}};
}

class HostBackend final : public Backend {
public:
    HostBackend() : Backend(discover, "test") {}
};

}  // namespace
}  // namespace ai_vmm::cuda::test

AI_VMM_DEFINE_BACKEND(ai_vmm::cuda::test::HostBackend)
