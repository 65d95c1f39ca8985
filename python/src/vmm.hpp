// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "nanobind_includes.hpp"

namespace ai_vmm::python {

void bind_vmm(nb::module_& module);

}  // namespace ai_vmm::python
