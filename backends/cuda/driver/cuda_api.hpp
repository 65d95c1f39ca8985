// SPDX-License-Identifier: Apache-2.0
/// The CUDA driver's functions, looked up at run time. Includes cuda.h: for driver/*.cpp alone.
#pragma once

#include <cuda.h>

#include <string>
#include <string_view>

#include "ai_vmm/error.hpp"

namespace ai_vmm::cuda {

// Member, symbol, and the declaration in cuda.h that has its type (cuda.h maps plain names to versioned ones).
#define AI_VMM_CUDA_FUNCTIONS(X)                                                            \
    X(init, "cuInit", cuInit)                                                               \
    X(driver_version, "cuDriverGetVersion", cuDriverGetVersion)                             \
    X(error_name, "cuGetErrorName", cuGetErrorName)                                         \
    X(error_string, "cuGetErrorString", cuGetErrorString)                                   \
    X(device_count, "cuDeviceGetCount", cuDeviceGetCount)                                   \
    X(device_get, "cuDeviceGet", cuDeviceGet)                                               \
    X(device_name, "cuDeviceGetName", cuDeviceGetName)                                      \
    X(device_uuid, "cuDeviceGetUuid_v2", cuDeviceGetUuid)                                   \
    X(device_pci_bus_id, "cuDeviceGetPCIBusId", cuDeviceGetPCIBusId)                        \
    X(device_total_memory, "cuDeviceTotalMem_v2", cuDeviceTotalMem)                         \
    X(device_attribute, "cuDeviceGetAttribute", cuDeviceGetAttribute)                       \
    X(device_can_access_peer, "cuDeviceCanAccessPeer", cuDeviceCanAccessPeer)               \
    X(context_retain, "cuDevicePrimaryCtxRetain", cuDevicePrimaryCtxRetain)                 \
    X(context_release, "cuDevicePrimaryCtxRelease_v2", cuDevicePrimaryCtxRelease)           \
    X(context_get, "cuCtxGetCurrent", cuCtxGetCurrent)                                      \
    X(context_set, "cuCtxSetCurrent", cuCtxSetCurrent)                                      \
    X(context_synchronize, "cuCtxSynchronize", cuCtxSynchronize)                            \
    X(memory_info, "cuMemGetInfo_v2", cuMemGetInfo)                                         \
    X(memory_allocate, "cuMemAlloc_v2", cuMemAlloc)                                         \
    X(memory_free, "cuMemFree_v2", cuMemFree)                                               \
    X(host_allocate, "cuMemHostAlloc", cuMemHostAlloc)                                      \
    X(host_free, "cuMemFreeHost", cuMemFreeHost)                                            \
    X(upload, "cuMemcpyHtoDAsync_v2", cuMemcpyHtoDAsync)                                    \
    X(download, "cuMemcpyDtoHAsync_v2", cuMemcpyDtoHAsync)                                  \
    X(copy, "cuMemcpyDtoDAsync_v2", cuMemcpyDtoDAsync)                                      \
    X(copy_peer, "cuMemcpyPeerAsync", cuMemcpyPeerAsync)                                    \
    X(pointer_attributes, "cuPointerGetAttributes", cuPointerGetAttributes)                 \
    X(pointer_range, "cuMemGetAddressRange_v2", cuMemGetAddressRange)                       \
    X(fill, "cuMemsetD8Async", cuMemsetD8Async)                                             \
    X(module_load, "cuModuleLoadData", cuModuleLoadData)                                    \
    X(module_unload, "cuModuleUnload", cuModuleUnload)                                      \
    X(module_function, "cuModuleGetFunction", cuModuleGetFunction)                          \
    X(launch, "cuLaunchKernelEx", cuLaunchKernelEx)                                         \
    X(stream_create, "cuStreamCreate", cuStreamCreate)                                      \
    X(stream_destroy, "cuStreamDestroy_v2", cuStreamDestroy)                                \
    X(stream_wait_event, "cuStreamWaitEvent", cuStreamWaitEvent)                            \
    X(stream_synchronize, "cuStreamSynchronize", cuStreamSynchronize)                       \
    X(capture_begin, "cuStreamBeginCapture_v2", cuStreamBeginCapture)                       \
    X(capture_end, "cuStreamEndCapture", cuStreamEndCapture)                                \
    X(capture_mode, "cuThreadExchangeStreamCaptureMode", cuThreadExchangeStreamCaptureMode) \
    X(graph_instantiate, "cuGraphInstantiateWithFlags", cuGraphInstantiateWithFlags)        \
    X(graph_launch, "cuGraphLaunch", cuGraphLaunch)                                         \
    X(graph_destroy, "cuGraphDestroy", cuGraphDestroy)                                      \
    X(graph_exec_destroy, "cuGraphExecDestroy", cuGraphExecDestroy)                         \
    X(event_create, "cuEventCreate", cuEventCreate)                                         \
    X(event_record, "cuEventRecord", cuEventRecord)                                         \
    X(event_synchronize, "cuEventSynchronize", cuEventSynchronize)                          \
    X(event_elapsed, "cuEventElapsedTime", cuEventElapsedTime)                              \
    X(event_destroy, "cuEventDestroy_v2", cuEventDestroy)

struct CudaApi {
#define AI_VMM_CUDA_MEMBER(member, symbol, declaration) decltype(&::declaration) member = nullptr;
    AI_VMM_CUDA_FUNCTIONS(AI_VMM_CUDA_MEMBER)
#undef AI_VMM_CUDA_MEMBER
    CUresult (*function_load)(CUfunction) = nullptr;  ///< cuFuncLoad, of CUDA 12.4; null before
    std::string path;                                 ///< the library
    int version = 0;                                  ///< the newest CUDA that the driver runs: 13000 for 13.0

    /// Opens and initializes the driver once. @throws Error(unavailable), each time, if there is none or it can't be initialized.
    [[nodiscard]] static const CudaApi& get();

    [[nodiscard]] std::string name(CUresult result) const;  ///< "CUDA_ERROR_OUT_OF_MEMORY"
    /// The Error for a failed call; `doing` reads like "cuLaunchKernelEx of k3".
    [[nodiscard]] Error error(CUresult result, std::string_view doing) const;
    void check(CUresult result, std::string_view doing) const {
        if (result != CUDA_SUCCESS) throw error(result, doing);
    }
};

/// The context can't be used any more after it.
[[nodiscard]] bool is_sticky(CUresult result) noexcept;
[[nodiscard]] ErrorCode code_of(CUresult result) noexcept;

}  // namespace ai_vmm::cuda
