// SPDX-License-Identifier: Apache-2.0
#include "libraries/cudnn_handle.hpp"

#include <fmt/format.h>

#include "ai_vmm/error.hpp"

namespace ai_vmm::cuda {

bool CudnnFunctions::load(const SharedLibrary& library, std::string& missing) {
    return library.find(get_version, "cudnnGetVersion", missing) && library.find(error_string, "cudnnGetErrorString", missing) &&
           library.find(create, "cudnnCreate", missing) && library.find(destroy, "cudnnDestroy", missing) &&
           library.find(set_stream, "cudnnSetStream", missing) && library.find(tensor_create, "cudnnCreateTensorDescriptor", missing) &&
           library.find(tensor_destroy, "cudnnDestroyTensorDescriptor", missing) && library.find(tensor_set, "cudnnSetTensorNdDescriptor", missing) &&
           library.find(dropout_create, "cudnnCreateDropoutDescriptor", missing) &&
           library.find(dropout_destroy, "cudnnDestroyDropoutDescriptor", missing) &&
           library.find(dropout_set, "cudnnSetDropoutDescriptor", missing) && library.find(rnn_create, "cudnnCreateRNNDescriptor", missing) &&
           library.find(rnn_destroy, "cudnnDestroyRNNDescriptor", missing) && library.find(rnn_set, "cudnnSetRNNDescriptor_v8", missing) &&
           library.find(rnn_data_create, "cudnnCreateRNNDataDescriptor", missing) &&
           library.find(rnn_data_destroy, "cudnnDestroyRNNDataDescriptor", missing) &&
           library.find(rnn_data_set, "cudnnSetRNNDataDescriptor", missing) && library.find(rnn_temp_space, "cudnnGetRNNTempSpaceSizes", missing) &&
           library.find(rnn_weight_space, "cudnnGetRNNWeightSpaceSize", missing) &&
           library.find(rnn_weight_params, "cudnnGetRNNWeightParams", missing) && library.find(rnn_forward, "cudnnRNNForward", missing);
}

void CudnnFunctions::check(cudnnStatus_t status, std::string_view what) const {
    if (status == CUDNN_STATUS_SUCCESS) [[likely]]
        return;
    throw Error(ErrorCode::internal, ErrorCategory::runtime, fmt::format("cuDNN: {} failed: {}", what, error_string(status)));
}

CudnnHandle::~CudnnHandle() {
    if (handle != nullptr) (void)dnn.destroy(handle);
}

void CudnnHandle::use(Stream& stream) { dnn.check(dnn.set_stream(handle, static_cast<cudaStream_t>(stream.native())), "cudnnSetStream"); }

void require_buffers(std::size_t expected, std::size_t found, const std::string& spec) {
    if (expected == found) return;
    throw Error(ErrorCode::internal, ErrorCategory::runtime, "cuDNN: '" + spec + "' got another number of buffers",
                {.expected = std::to_string(expected), .found = std::to_string(found), .advice = {}});
}

}  // namespace ai_vmm::cuda
