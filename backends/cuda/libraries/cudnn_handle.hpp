// SPDX-License-Identifier: Apache-2.0
/// What the calls of cuDNN share. Includes vendor headers; for cudnn*.cpp alone.
#pragma once

#include <cudnn.h>

#include <memory>
#include <mutex>
#include <string>
#include <string_view>

#include "device/device.hpp"
#include "device/shared_library.hpp"
#include "libraries/tuning.hpp"

namespace ai_vmm::cuda {

/// Functions outside cuDNN's graph interface, which has a loader of its own.
struct CudnnFunctions {
    decltype(&cudnnGetVersion) get_version = nullptr;
    decltype(&cudnnGetErrorString) error_string = nullptr;
    decltype(&cudnnCreate) create = nullptr;
    decltype(&cudnnDestroy) destroy = nullptr;
    decltype(&cudnnSetStream) set_stream = nullptr;
    decltype(&cudnnCreateTensorDescriptor) tensor_create = nullptr;
    decltype(&cudnnDestroyTensorDescriptor) tensor_destroy = nullptr;
    decltype(&cudnnSetTensorNdDescriptor) tensor_set = nullptr;
    decltype(&cudnnCreateDropoutDescriptor) dropout_create = nullptr;
    decltype(&cudnnDestroyDropoutDescriptor) dropout_destroy = nullptr;
    decltype(&cudnnSetDropoutDescriptor) dropout_set = nullptr;
    decltype(&cudnnCreateRNNDescriptor) rnn_create = nullptr;
    decltype(&cudnnDestroyRNNDescriptor) rnn_destroy = nullptr;
    decltype(&cudnnSetRNNDescriptor_v8) rnn_set = nullptr;
    decltype(&cudnnCreateRNNDataDescriptor) rnn_data_create = nullptr;
    decltype(&cudnnDestroyRNNDataDescriptor) rnn_data_destroy = nullptr;
    decltype(&cudnnSetRNNDataDescriptor) rnn_data_set = nullptr;
    decltype(&cudnnGetRNNTempSpaceSizes) rnn_temp_space = nullptr;
    decltype(&cudnnGetRNNWeightSpaceSize) rnn_weight_space = nullptr;
    decltype(&cudnnGetRNNWeightParams) rnn_weight_params = nullptr;
    decltype(&cudnnRNNForward) rnn_forward = nullptr;

    /// False with the name of the first that is missing.
    bool load(const SharedLibrary& library, std::string& missing);
    /// @throws Error(internal) with the library's name of the failure.
    void check(cudnnStatus_t status, std::string_view what) const;
};

/// One handle of one device, as long as any call needs it.
struct CudnnHandle {
    CudnnFunctions dnn;
    std::size_t version = 0;
    cudnnHandle_t handle = nullptr;
    std::recursive_mutex mutex;  ///< guards `handle`: its stream, and the engines built with it

    CudnnHandle() = default;
    CudnnHandle(const CudnnHandle&) = delete;
    CudnnHandle& operator=(const CudnnHandle&) = delete;
    ~CudnnHandle();
    /// Makes the device's context current and the stream the handle's; the lock is held. @throws Error(internal).
    void use(Stream& stream);
};

[[nodiscard]] std::unique_ptr<RecurrentCall> make_recurrent(const std::shared_ptr<CudnnHandle>& handle, Device& device, const RecurrentSpec& spec,
                                                            const Tuning& tuning);

/// @throws Error(internal) unless there are `expected` buffers.
void require_buffers(std::size_t expected, std::size_t found, const std::string& spec);

}  // namespace ai_vmm::cuda
