// SPDX-License-Identifier: Apache-2.0
#include "driver/cuda_api.hpp"

#include <optional>
#include <utility>

#include "device/shared_library.hpp"

namespace ai_vmm::cuda {
namespace {

Error unavailable(std::string message, std::string found, std::string advice) {
    return Error(ErrorCode::unavailable, ErrorCategory::system, std::move(message),
                 {.expected = "an NVIDIA driver for CUDA 13.0 or later (version 580)", .found = std::move(found), .advice = std::move(advice)});
}

/// The functions, or why there are none: settled once for the process.
struct Opened {
    CudaApi api;
    std::optional<Error> failure;

    Opened() {
        const auto library = SharedLibrary::open("the CUDA driver", "libcuda.so.1");
        if (!library) {
            failure = unavailable("the CUDA driver's library is missing", library.reason(),
                                  "install NVIDIA's driver for this GPU; without one there are no CUDA devices");
            return;
        }
        api.path = library.path();
        std::string missing;
#define AI_VMM_CUDA_FIND(member, symbol, declaration) \
    if (missing.empty()) library.find(api.member, symbol, missing);
        AI_VMM_CUDA_FUNCTIONS(AI_VMM_CUDA_FIND)
#undef AI_VMM_CUDA_FIND
        if (!missing.empty()) {
            failure = unavailable("the CUDA driver is too old", api.path + " without " + missing, "update NVIDIA's driver");
            return;
        }
        std::string ignored;
        library.find(api.function_load, "cuFuncLoad", ignored);
        if (const auto result = api.init(0); result != CUDA_SUCCESS) {
            failure =
                unavailable("the CUDA driver can't be initialized", api.name(result), "run nvidia-smi: it says what is wrong with driver or device");
            return;
        }
        (void)api.driver_version(&api.version);
    }
};

}  // namespace

const CudaApi& CudaApi::get() {
    static const Opened* const opened = new Opened();  // never destroyed: devices may outlive static destruction
    if (opened->failure) throw *opened->failure;
    return opened->api;
}

std::string CudaApi::name(CUresult result) const {
    const char* text = nullptr;
    if (error_name == nullptr || error_name(result, &text) != CUDA_SUCCESS || text == nullptr)
        return "CUDA error " + std::to_string(static_cast<int>(result));
    return text;
}

Error CudaApi::error(CUresult result, std::string_view doing) const {
    const char* text = nullptr;
    (void)error_string(result, &text);
    const auto code = code_of(result);
    std::string advice;
    if (is_sticky(result))
        advice = "the device can't be used by this process any more; deploy elsewhere or restart the process";
    else if (code == ErrorCode::unavailable)
        advice = "run nvidia-smi: it says what is wrong with driver or device";
    return Error(code, ErrorCategory::runtime, std::string(doing) + " failed: " + name(result),
                 {.found = text != nullptr ? text : "", .advice = advice});
}

bool is_sticky(CUresult result) noexcept {
    switch (result) {
        case CUDA_ERROR_DEINITIALIZED:
        case CUDA_ERROR_ECC_UNCORRECTABLE:
        case CUDA_ERROR_NVLINK_UNCORRECTABLE:
        case CUDA_ERROR_ILLEGAL_ADDRESS:
        case CUDA_ERROR_LAUNCH_TIMEOUT:
        case CUDA_ERROR_CONTEXT_IS_DESTROYED:
        case CUDA_ERROR_ASSERT:
        case CUDA_ERROR_HARDWARE_STACK_ERROR:
        case CUDA_ERROR_ILLEGAL_INSTRUCTION:
        case CUDA_ERROR_MISALIGNED_ADDRESS:
        case CUDA_ERROR_INVALID_ADDRESS_SPACE:
        case CUDA_ERROR_INVALID_PC:
        case CUDA_ERROR_LAUNCH_FAILED:
        case CUDA_ERROR_EXTERNAL_DEVICE: return true;
        default: return false;
    }
}

ErrorCode code_of(CUresult result) noexcept {
    switch (result) {
        case CUDA_SUCCESS: return ErrorCode::ok;
        case CUDA_ERROR_OUT_OF_MEMORY:
        case CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES: return ErrorCode::resource_exhausted;
        case CUDA_ERROR_NO_DEVICE:
        case CUDA_ERROR_INVALID_DEVICE:
        case CUDA_ERROR_DEVICE_NOT_LICENSED:
        case CUDA_ERROR_DEVICE_UNAVAILABLE:
        case CUDA_ERROR_STUB_LIBRARY:
        case CUDA_ERROR_NOT_INITIALIZED:
        case CUDA_ERROR_SYSTEM_NOT_READY:
        case CUDA_ERROR_SYSTEM_DRIVER_MISMATCH:
        case CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE:
        case CUDA_ERROR_MPS_CONNECTION_FAILED:
        case CUDA_ERROR_MPS_SERVER_NOT_READY:
        case CUDA_ERROR_MPS_MAX_CLIENTS_REACHED:
        case CUDA_ERROR_MPS_MAX_CONNECTIONS_REACHED: return ErrorCode::unavailable;
        case CUDA_ERROR_NOT_PERMITTED: return ErrorCode::permission_denied;
        case CUDA_ERROR_NOT_SUPPORTED: return ErrorCode::unimplemented;
        default: return ErrorCode::internal;
    }
}

}  // namespace ai_vmm::cuda
