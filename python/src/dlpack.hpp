// SPDX-License-Identifier: Apache-2.0
/// DLPack both ways; https://dmlc.github.io/dlpack/latest/python_spec.html
#pragma once

#include "convert.hpp"

namespace ai_vmm::python {

/// The tensor over an object with __dlpack__, in host memory or CUDA's; in host memory it is copied if it is not contiguous. `what` names it in
/// errors.
/// @throws Error(invalid_argument) it is elsewhere, not contiguous in a GPU's memory, or of a type that tensors don't have.
[[nodiscard]] PyTensor dlpack_import(nb::handle value, std::string_view what);

/// What Tensor.__dlpack_device__ returns.
[[nodiscard]] nb::tuple dlpack_device(const PyTensor& tensor);

/// What Tensor.__dlpack__ returns. @throws nb::python_error (BufferError) types without a DLPack form; another device.
[[nodiscard]] nb::object dlpack_export(nb::handle self, nb::object stream, nb::object max_version, nb::object dl_device, nb::object copy);

}  // namespace ai_vmm::python
