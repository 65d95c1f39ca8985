// SPDX-License-Identifier: Apache-2.0
/// NVRTC for tests without a GPU, from the environment of `make cuda-env`.
#pragma once

#include <cstdlib>
#include <string>

#include "ai_vmm/error.hpp"
#include "driver/nvrtc.hpp"

namespace ai_vmm::cuda::test {

/// @returns why there is none; empty: there is
inline std::string nvrtc_missing() {
    if (std::getenv("AI_VMM_CUDA_LIBRARIES") == nullptr) ::setenv("AI_VMM_CUDA_LIBRARIES", AI_VMM_TEST_CUDA_ENV "/lib", 1);
    try {
        (void)Nvrtc::get();
    } catch (const Error& error) {
        return error.what();
    }
    return {};
}

}  // namespace ai_vmm::cuda::test
