// SPDX-License-Identifier: Apache-2.0
#include "backend.hpp"

AI_VMM_DEFINE_BACKEND(ai_vmm::ort::OrtBackend)
