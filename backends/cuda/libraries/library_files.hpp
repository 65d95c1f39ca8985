// SPDX-License-Identifier: Apache-2.0
/// The vendor libraries' files.
#pragma once

#include "device/shared_library.hpp"

namespace ai_vmm::cuda {

/// Opened at the first call, for as long as the process lives; no context is needed. Thread-safe. Where one can't be opened it tells why.
[[nodiscard]] const SharedLibrary& cublaslt_file();
/// cuBLASLt's is opened before: cuDNN opens it by its bare name, which it finds outside the usual folders if it is open already.
[[nodiscard]] const SharedLibrary& cudnn_file();

}  // namespace ai_vmm::cuda
