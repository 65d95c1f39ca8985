// SPDX-License-Identifier: Apache-2.0
/// Python objects to tensors and back. The common cases (a contiguous NumPy array of the right type; an output that NumPy has a type for)
/// are done here without a copy; the rest is decided in ai_vmm/_convert.py, which builds tensors through the functions bound below.
#pragma once

#include <Python.h>

#include "ai_vmm/model.hpp"
#include "ai_vmm/tensor.hpp"
#include "nanobind_includes.hpp"

namespace ai_vmm::python {

/// What Python sees as ai_vmm.Tensor: a handle, and whether its memory may be written through Python.
struct PyTensor {
    Tensor tensor;
    bool readonly = false;
};

/// The Python parts that C++ calls; set once by ai_vmm/__init__.py through _core._install().
struct Hooks {
    PyObject* make_error = nullptr;    ///< (code, category, message, expected, found, advice) -> Error instance
    PyObject* to_tensor = nullptr;     ///< (value, type name or None, what) -> Tensor
    PyObject* to_numpy = nullptr;      ///< (Tensor) -> array, or the Tensor where NumPy has no such type
    PyObject* tensor_array = nullptr;  ///< (Tensor, dtype or None, copy or None) -> array
    PyObject* ndarray = nullptr;       ///< numpy.ndarray
    PyObject* mapping = nullptr;       ///< collections.abc.Mapping
    PyObject* dtypes[32] = {nullptr};  ///< numpy.dtype by ElementType, where the layouts are equal; else null
};
[[nodiscard]] Hooks& hooks() noexcept;

/// The new exception instance for `error`.
[[nodiscard]] nb::object make_python_error(const Error& error);

/// A tensor of `value`. `expected` undefined: the type that the value itself has. `what` names it in errors, e.g. "input 'x'".
/// Borrows the memory of contiguous, aligned arrays of the expected type, keeping the array alive; copies where layouts differ.
/// @throws Error(invalid_argument) another element type, or not convertible.  @throws nb::python_error
[[nodiscard]] Tensor to_tensor(nb::handle value, ElementType expected, std::string_view what_kind, std::string_view what_name);

/// As to_tensor() for memory that an execution writes: a writable, contiguous NumPy array or Tensor of the type; never a copy.
[[nodiscard]] Tensor to_output_tensor(nb::handle value, ElementType expected, std::string_view name);

/// A NumPy array over the tensor's memory, owning a handle; a Tensor where NumPy has no such type.
[[nodiscard]] nb::object to_numpy(Tensor tensor);

void bind_tensor(nb::module_& module);

}  // namespace ai_vmm::python
