// SPDX-License-Identifier: Apache-2.0
/// The extension module ai_vmm._core: a thin layer over the public C++ API. What users see is in ai_vmm/*.py.
#include "ai_vmm/vmm.hpp"
#include "convert.hpp"
#include "deployment.hpp"
#include "lifetime.hpp"
#include "vmm.hpp"

namespace ai_vmm::python {
namespace {

/// Takes the Python parts that C++ calls. They live as long as the process.
void install(nb::object make_error, nb::object to_tensor, nb::object to_numpy, nb::object tensor_array, nb::object ndarray, nb::object mapping,
             nb::dict dtypes) {
    Hooks& hook = hooks();
    hook.make_error = make_error.release().ptr();
    hook.to_tensor = to_tensor.release().ptr();
    hook.to_numpy = to_numpy.release().ptr();
    hook.tensor_array = tensor_array.release().ptr();
    hook.ndarray = ndarray.release().ptr();
    hook.mapping = mapping.release().ptr();
    for (auto [name, dtype] : dtypes) {
        const auto type = element_type_from_string(nb::cast<std::string_view>(name));
        if (!type || static_cast<std::size_t>(*type) >= std::size(hook.dtypes)) throw nb::value_error("unknown element type");
        hook.dtypes[static_cast<std::size_t>(*type)] = nb::borrow(dtype).release().ptr();
    }
}

void translate(const std::exception_ptr& exception, void*) {
    try {
        std::rethrow_exception(exception);
    } catch (const Error& error) {
        const nb::object value = make_python_error(error);
        PyErr_SetObject(reinterpret_cast<PyObject*>(Py_TYPE(value.ptr())), value.ptr());
    }
}

}  // namespace
}  // namespace ai_vmm::python

NB_MODULE(_core, module) {
    namespace py = ai_vmm::python;
    namespace nb = nanobind;
    // The hooks above live until the process ends, and types and functions with them.
    nb::set_leak_warnings(false);
    nb::register_exception_translator(&py::translate);
    module.doc() = "The compiled part of ai_vmm.";
    module.def("_install", &py::install, nb::arg("make_error"), nb::arg("to_tensor"), nb::arg("to_numpy"), nb::arg("tensor_array"),
               nb::arg("ndarray"), nb::arg("mapping"), nb::arg("dtypes"));
    module.def("_close", &py::close);
    module.def(
        "version", [] { return ai_vmm::version(); }, "Version of the library, 'major.minor.patch'.");
    py::bind_tensor(module);
    py::bind_deployment(module);
    py::bind_vmm(module);
}
