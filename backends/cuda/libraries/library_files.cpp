// SPDX-License-Identifier: Apache-2.0
#include "libraries/library_files.hpp"

namespace ai_vmm::cuda {

const SharedLibrary& cublaslt_file() {
    static const SharedLibrary library = SharedLibrary::open("cuBLASLt", "libcublasLt.so.13");
    return library;
}

const SharedLibrary& cudnn_file() {
    (void)cublaslt_file();
    static const SharedLibrary library = SharedLibrary::open("cuDNN", "libcudnn.so.9");
    return library;
}

}  // namespace ai_vmm::cuda
