// SPDX-License-Identifier: Apache-2.0
#include "convert.hpp"

#include <algorithm>
#include <cstring>

#include "dlpack.hpp"
#include "lifetime.hpp"

namespace ai_vmm::python {
namespace {

[[noreturn]] void throw_input(std::string message, ErrorDetail detail = {}) {
    throw Error(ErrorCode::invalid_argument, ErrorCategory::input, std::move(message), std::move(detail));
}

/// Owner of a buffer that an object exports. Destroyed under the GIL.
struct Buffer {
    Py_buffer view{};

    Buffer() = default;
    Buffer(Buffer&& other) noexcept : view(std::exchange(other.view, Py_buffer{})) {}
    Buffer& operator=(Buffer&&) = delete;
    ~Buffer() {
        if (view.obj != nullptr) PyBuffer_Release(&view);
    }
};

Shape shape_of(const Py_buffer& view) { return Shape(view.shape, view.shape + view.ndim); }

bool is_aligned(const void* data, ElementType type) noexcept {
    const std::size_t bytes = std::clamp<std::size_t>(bit_width(type) / 8, 1, 8);
    return reinterpret_cast<std::uintptr_t>(data) % bytes == 0;
}

/// The tensor that borrows `array`, a numpy.ndarray whose dtype is the one of `type`; empty if its layout doesn't allow that.
Tensor borrow_array(nb::handle array, ElementType type, bool writable) {
    Buffer buffer;
    // The format is not asked for: NumPy has none for bf16 and the like, and the dtype has been compared.
    if (PyObject_GetBuffer(array.ptr(), &buffer.view, PyBUF_C_CONTIGUOUS | (writable ? PyBUF_WRITABLE : 0)) != 0) {
        PyErr_Clear();
        return {};
    }
    if (!is_aligned(buffer.view.buf, type)) return {};
    Shape shape = shape_of(buffer.view);
    void* const data = buffer.view.buf;
    return Tensor::borrow(type, std::move(shape), data, keep(std::move(buffer)));
}

/// Whether `value` is a numpy.ndarray itself (no subclass: those may mean more, such as masks) of the dtype of `type`.
bool is_plain_array(nb::handle value, ElementType type) {
    const Hooks& hook = hooks();
    PyObject* const wanted = hook.dtypes[static_cast<std::size_t>(type)];
    if (wanted == nullptr || reinterpret_cast<PyObject*>(Py_TYPE(value.ptr())) != hook.ndarray) return false;
    const nb::object dtype = value.attr("dtype");
    return dtype.ptr() == wanted;
}

std::string type_name_of(nb::handle value) {
    const auto text = nb::str(nb::handle(reinterpret_cast<PyObject*>(Py_TYPE(value.ptr()))).attr("__name__"));
    return text.c_str();
}

nb::object shape_tuple(const Shape& shape) {
    nb::object tuple = nb::steal(PyTuple_New(static_cast<Py_ssize_t>(shape.size())));
    if (!tuple.is_valid()) throw nb::python_error();
    for (std::size_t i = 0; i < shape.size(); ++i) {
        PyObject* const size = PyLong_FromLongLong(shape[i]);
        if (size == nullptr) throw nb::python_error();
        PyTuple_SET_ITEM(tuple.ptr(), static_cast<Py_ssize_t>(i), size);
    }
    return tuple;
}

ElementType type_from_name(std::string_view name) {
    const auto type = element_type_from_string(name);
    if (!type || *type == ElementType::undefined) {
        throw_input("unknown element type",
                    {.expected = "a name such as 'f32', 'bf16', 'i64', 'u4' or 'string'", .found = std::string(name), .advice = {}});
    }
    return *type;
}

// ---- the buffer protocol of ai_vmm.Tensor

const char* buffer_format(ElementType type) noexcept {
    switch (type) {
        case ElementType::boolean: return "?";
        case ElementType::f16: return "e";
        case ElementType::f32: return "f";
        case ElementType::f64: return "d";
        case ElementType::i8: return "b";
        case ElementType::i16: return "h";
        case ElementType::i32: return "i";
        case ElementType::i64: return "q";
        case ElementType::u8: return "B";
        case ElementType::u16: return "H";
        case ElementType::u32: return "I";
        case ElementType::u64: return "Q";
        case ElementType::complex64: return "Zf";
        case ElementType::complex128: return "Zd";
        default: return nullptr;
    }
}

int refuse_buffer(Py_buffer* view, const char* reason) noexcept {
    view->obj = nullptr;
    PyErr_SetString(PyExc_BufferError, reason);
    return -1;
}

/// Exports the elements. Types that the struct module has no letter for are exported to those who don't ask for a format; packed types only
/// as plain bytes; strings not at all.
int get_buffer(PyObject* self, Py_buffer* view, int flags) noexcept {
    if (!nb::inst_ready(nb::handle(self))) return refuse_buffer(view, "the tensor was never initialised");
    PyTensor* const held = nb::inst_ptr<PyTensor>(nb::handle(self));
    if (!held->tensor.place().is_host()) return refuse_buffer(view, "the elements are not in host memory; hand them over through DLPack");
    Tensor& tensor = held->tensor;
    const std::size_t bits = bit_width(tensor.type());
    const char* const format = buffer_format(tensor.type());
    const bool with_shape = (flags & PyBUF_ND) == PyBUF_ND;
    if (tensor.empty() || tensor.type() == ElementType::string) return refuse_buffer(view, "string tensors have no buffer; use numpy()");
    if (held->readonly && (flags & PyBUF_WRITABLE) == PyBUF_WRITABLE) return refuse_buffer(view, "the tensor is read-only");
    if ((flags & PyBUF_FORMAT) == PyBUF_FORMAT && format == nullptr) {
        return refuse_buffer(view, "the element type has no buffer format; use numpy() or tobytes()");
    }
    if (with_shape && bits < 8) return refuse_buffer(view, "packed elements have no strides; use numpy() or tobytes()");
    if (tensor.shape().size() > PyBUF_MAX_NDIM) return refuse_buffer(view, "too many dimensions for the buffer protocol");

    static char nothing = 0;
    view->buf = tensor.data() != nullptr ? tensor.data() : &nothing;
    view->len = static_cast<Py_ssize_t>(tensor.size_bytes());
    view->readonly = held->readonly ? 1 : 0;
    view->itemsize = with_shape ? static_cast<Py_ssize_t>(bits / 8) : 1;
    view->format = (flags & PyBUF_FORMAT) == PyBUF_FORMAT ? const_cast<char*>(format) : nullptr;
    view->ndim = with_shape ? static_cast<int>(tensor.shape().size()) : 1;
    view->shape = nullptr;
    view->strides = nullptr;
    view->suboffsets = nullptr;
    view->internal = nullptr;
    if (with_shape && !tensor.shape().empty()) {
        const std::size_t rank = tensor.shape().size();
        auto* const numbers = static_cast<Py_ssize_t*>(PyMem_Calloc(2 * rank, sizeof(Py_ssize_t)));
        if (numbers == nullptr) {
            view->obj = nullptr;
            PyErr_NoMemory();
            return -1;
        }
        Py_ssize_t stride = view->itemsize;
        for (std::size_t i = rank; i-- > 0;) {
            numbers[i] = static_cast<Py_ssize_t>(tensor.shape()[i]);
            numbers[rank + i] = stride;
            stride *= numbers[i];
        }
        view->internal = numbers;
        view->shape = numbers;
        if ((flags & PyBUF_STRIDES) == PyBUF_STRIDES) view->strides = numbers + rank;
    }
    Py_INCREF(self);
    view->obj = self;
    return 0;
}

void release_buffer(PyObject*, Py_buffer* view) noexcept { PyMem_Free(view->internal); }

PyType_Slot tensor_slots[] = {
    {Py_bf_getbuffer, reinterpret_cast<void*>(&get_buffer)},
    {Py_bf_releasebuffer, reinterpret_cast<void*>(&release_buffer)},
    {0, nullptr},
};

void check_host(const Tensor& tensor) {
    if (tensor.place().is_host()) return;
    throw_input("the tensor's elements are not in host memory",
                {.expected = "host", .found = to_string(tensor.place()), .advice = "copy it with VMM.copy(), or hand it over through DLPack"});
}

// ---- building tensors for _convert.py

/// The tensor over any contiguous buffer whose bytes are elements of `type`; `shape` may differ from the buffer's.
PyTensor borrow_buffer(nb::handle owner, std::string_view type_name, const Shape& shape) {
    const ElementType type = type_from_name(type_name);
    if (type == ElementType::string) throw_input("string tensors can't borrow a buffer");
    Buffer buffer;
    if (PyObject_GetBuffer(owner.ptr(), &buffer.view, PyBUF_C_CONTIGUOUS) != 0) throw nb::python_error();
    const std::size_t bytes = size_bytes(type, shape);
    if (static_cast<std::size_t>(buffer.view.len) != bytes) {
        throw_input("the buffer does not have the size of shape " + to_string(shape) + " of " + std::string(type_name),
                    {.expected = std::to_string(bytes) + " bytes", .found = std::to_string(buffer.view.len) + " bytes", .advice = {}});
    }
    if (!is_aligned(buffer.view.buf, type)) {
        Tensor copy(type, shape);
        if (bytes > 0) std::memcpy(copy.data(), buffer.view.buf, bytes);
        return {std::move(copy), false};
    }
    const bool readonly = buffer.view.readonly != 0;
    void* const data = buffer.view.buf;
    return {Tensor::borrow(type, shape, data, keep(std::move(buffer))), readonly};
}

PyTensor from_bytes(std::string_view type_name, const Shape& shape, nb::bytes content) {
    const ElementType type = type_from_name(type_name);
    if (type == ElementType::string)
        throw_input("string tensors can't be made of raw bytes", {.expected = {}, .found = {}, .advice = "pass a list of str"});
    const std::size_t bytes = size_bytes(type, shape);
    if (content.size() != bytes) {
        throw_input("the bytes do not have the size of shape " + to_string(shape) + " of " + std::string(type_name),
                    {.expected = std::to_string(bytes) + " bytes", .found = std::to_string(content.size()) + " bytes", .advice = {}});
    }
    Tensor tensor(type, shape);
    if (bytes > 0) std::memcpy(tensor.data(), content.c_str(), bytes);
    return {std::move(tensor), false};
}

/// Bytes that are not UTF-8 travel as lone surrogates, both ways.
PyTensor from_strings(nb::list values, const Shape& shape) {
    Tensor tensor(ElementType::string, shape);
    const auto strings = tensor.as<std::string>();
    if (values.size() != strings.size()) {
        throw_input("the number of strings differs from the shape " + to_string(shape),
                    {.expected = std::to_string(strings.size()), .found = std::to_string(values.size()), .advice = {}});
    }
    for (std::size_t i = 0; i < strings.size(); ++i) {
        const nb::object value = values[i];
        nb::object bytes = value;
        if (PyUnicode_Check(value.ptr())) {
            bytes = nb::steal(PyUnicode_AsEncodedString(value.ptr(), "utf-8", "surrogateescape"));
            if (!bytes.is_valid()) throw nb::python_error();
        } else if (!PyBytes_Check(value.ptr())) {
            throw_input("an element of a string tensor is not text", {.expected = "str or bytes", .found = type_name_of(value), .advice = {}});
        }
        strings[i].assign(PyBytes_AS_STRING(bytes.ptr()), static_cast<std::size_t>(PyBytes_GET_SIZE(bytes.ptr())));
    }
    return {std::move(tensor), false};
}

nb::list strings_of(const PyTensor& self) {
    nb::list list;
    for (const std::string& text : self.tensor.as<std::string>()) {
        nb::object value = nb::steal(PyUnicode_DecodeUTF8(text.data(), static_cast<Py_ssize_t>(text.size()), "surrogateescape"));
        if (!value.is_valid()) throw nb::python_error();
        list.append(value);
    }
    return list;
}

nb::bytes bytes_of(const PyTensor& self) {
    check_host(self.tensor);
    if (self.tensor.type() == ElementType::string)
        throw_input("string tensors have no raw bytes", {.expected = {}, .found = {}, .advice = "use numpy()"});
    return nb::bytes(self.tensor.data(), self.tensor.size_bytes());
}

std::string repr_of(const PyTensor& self) {
    const std::string place = self.tensor.place().is_host() ? "" : ", " + to_string(self.tensor.place());
    return "ai_vmm.Tensor(" + std::string(to_string(self.tensor.type())) + ", " + to_string(self.tensor.shape()) + place + ")";
}

nb::object dtype_of(const PyTensor& self) {
    PyObject* const dtype = hooks().dtypes[static_cast<std::size_t>(self.tensor.type())];
    return dtype == nullptr ? nb::none() : nb::borrow(dtype);
}

nb::object numpy_of(nb::handle self) {
    const Hooks& hook = hooks();
    const auto* const held = &nb::cast<const PyTensor&>(self);
    check_host(held->tensor);
    PyObject* const dtype = hook.dtypes[static_cast<std::size_t>(held->tensor.type())];
    PyObject* result = nullptr;
    if (dtype != nullptr) {
        const nb::object shape = shape_tuple(held->tensor.shape());
        PyObject* const arguments[] = {shape.ptr(), dtype, self.ptr()};
        result = PyObject_Vectorcall(hook.ndarray, arguments, 3, nullptr);
    } else {
        result = PyObject_CallOneArg(hook.to_numpy, self.ptr());
    }
    if (result == nullptr) throw nb::python_error();
    return nb::steal(result);
}

}  // namespace

Hooks& hooks() noexcept {
    static Hooks instance;
    return instance;
}

nb::object make_python_error(const Error& error) {
    return nb::borrow(hooks().make_error)(std::string_view(to_string(error.code())), std::string_view(to_string(error.category())), error.message(),
                                          error.expected(), error.found(), error.advice());
}

Tensor to_tensor(nb::handle value, ElementType expected, std::string_view what_kind, std::string_view what_name) {
    if (is_plain_array(value, expected)) {
        if (Tensor tensor = borrow_array(value, expected, false); !tensor.empty()) return tensor;
    }
    std::string what(what_kind);
    if (!what_name.empty()) what.append(" '").append(what_name).append("'");
    const nb::object type = expected == ElementType::undefined ? nb::none() : nb::cast(std::string_view(to_string(expected)));
    const nb::object tensor = nb::borrow(hooks().to_tensor)(value, type, what);
    return nb::cast<PyTensor&>(tensor).tensor;
}

Tensor to_output_tensor(nb::handle value, ElementType expected, std::string_view name) {
    if (nb::isinstance<PyTensor>(value)) {
        const auto& held = nb::cast<const PyTensor&>(value);
        if (held.readonly) throw_input("output '" + std::string(name) + "' can't be written into a read-only tensor");
        return held.tensor;  // a wrong type is the execution's to refuse
    }
    if (is_plain_array(value, expected)) {
        if (Tensor tensor = borrow_array(value, expected, true); !tensor.empty()) return tensor;
    }
    std::string found = type_name_of(value);
    if (nb::hasattr(value, "dtype")) found += " of " + std::string(nb::str(nb::object(value.attr("dtype"))).c_str());
    throw_input("output '" + std::string(name) + "' can't be written in place",
                {.expected = "a writable, aligned, C-contiguous numpy.ndarray or ai_vmm.Tensor of " + std::string(to_string(expected)),
                 .found = std::move(found),
                 .advice = "pass None to have it allocated"});
}

nb::object to_numpy(Tensor tensor) { return numpy_of(nb::cast(PyTensor{std::move(tensor), false})); }

void bind_tensor(nb::module_& module) {
    nb::class_<PyTensor>(module, "Tensor", nb::type_slots(tensor_slots), nb::is_weak_referenceable(),
                         "A dense, contiguous, row-major tensor in host memory or a GPU's, of any element type that the engines have.\n\n"
                         "Tensor(data, type=None) borrows the memory of contiguous arrays (NumPy, DLPack, buffer protocol), keeping them alive, and\n"
                         "copies what has another layout. `type` is an element type name such as 'f32'; it may be left out where the data has one.\n"
                         "Several tensors may see the same memory; writing to it while an execution reads it is a race of the caller's.\n"
                         "Errors: InvalidArgumentError if the data has another type or can't be converted exactly.")
        .def(
            "__init__",
            [](PyTensor* self, nb::handle data, std::optional<std::string_view> type) {
                const nb::object name = type ? nb::cast(to_string(type_from_name(*type))) : nb::none();
                const nb::object tensor = nb::borrow(hooks().to_tensor)(data, name, "the tensor");
                new (self) PyTensor(nb::cast<PyTensor&>(tensor));
            },
            nb::arg("data").none(), nb::arg("type") = nb::none())
        .def_static("from_bytes", &from_bytes, nb::arg("type"), nb::arg("shape"), nb::arg("content"),
                    "A tensor that owns a copy of raw, row-major element bytes. Types under 8 bits are packed, first element in the low bits.\n"
                    "Errors: InvalidArgumentError if the number of bytes doesn't fit the shape.")
        .def_static(
            "zeros",
            [](std::string_view type, const Shape& shape) {
                return PyTensor{Tensor(type_from_name(type), shape), false};
            },
            nb::arg("type"), nb::arg("shape"), "A tensor that owns new memory: zeros, False or empty strings.")
        .def_prop_ro(
            "type", [](const PyTensor& self) { return to_string(self.tensor.type()); }, "Element type name: 'f32', 'bf16', 'i4', …")
        .def_prop_ro("dtype", &dtype_of, nb::sig("def dtype(self) -> typing.Any"),
                     "The numpy.dtype of the same layout, or None (packed types, strings).")
        .def_prop_ro(
            "shape", [](const PyTensor& self) { return shape_tuple(self.tensor.shape()); }, "Sizes of the dimensions, outermost first.")
        .def_prop_ro(
            "ndim", [](const PyTensor& self) { return self.tensor.shape().size(); }, "Number of dimensions.")
        .def_prop_ro(
            "size", [](const PyTensor& self) { return self.tensor.element_count(); }, "Number of elements.")
        .def_prop_ro(
            "nbytes", [](const PyTensor& self) { return self.tensor.size_bytes(); }, "Bytes of the elements, packed.")
        .def_prop_ro(
            "data_ptr", [](const PyTensor& self) { return reinterpret_cast<std::uintptr_t>(self.tensor.data()); }, "Address of the elements.")
        .def_prop_ro(
            "owns_memory", [](const PyTensor& self) { return self.tensor.owns_memory(); }, "False if the memory belongs to another object.")
        .def_prop_ro(
            "readonly", [](const PyTensor& self) { return self.readonly; }, "True if the memory may not be written.")
        .def("numpy", &numpy_of,
             "A NumPy array over the same memory, which it keeps alive. Packed types come unpacked as ml_dtypes arrays and strings as an\n"
             "object array of str, both copied. Returns the tensor itself where NumPy has no such type.")
        .def(
            "__array__", [](nb::handle self, nb::object dtype, nb::object copy) { return nb::borrow(hooks().tensor_array)(self, dtype, copy); },
            nb::arg("dtype") = nb::none(), nb::arg("copy") = nb::none(), "numpy() for numpy.asarray().")
        .def("tobytes", &bytes_of, "A copy of the raw bytes. Errors: InvalidArgumentError for string tensors.")
        .def(
            "clone",
            [](const PyTensor& self) {
                return PyTensor{self.tensor.clone(), false};
            },
            "A tensor that owns a copy of the elements.")
        .def(
            "reshaped",
            [](const PyTensor& self, const Shape& shape) {
                return PyTensor{self.tensor.reshaped(shape), self.readonly};
            },
            nb::arg("shape"), "The same memory with another shape. Errors: InvalidArgumentError if the element counts differ.")
        .def("_strings", &strings_of)
        .def("__repr__", &repr_of)
        .def("__dlpack__", &dlpack_export, nb::kw_only(), nb::arg("stream") = nb::none(), nb::arg("max_version") = nb::none(),
             nb::arg("dl_device") = nb::none(), nb::arg("copy") = nb::none(),
             "A DLPack capsule over the same memory. Errors: BufferError for packed types and strings, or another device.")
        .def("__dlpack_device__", &dlpack_device, "(1, 0) for host memory, (2, n) for that of the n-th NVIDIA GPU.")
        .def_prop_ro(
            "place", [](const PyTensor& self) { return to_string(self.tensor.place()); }, "Where the elements lie: 'host', 'cuda:0', …");

    module.def("_borrow_buffer", &borrow_buffer, nb::arg("owner"), nb::arg("type"), nb::arg("shape"));
    module.def("_from_strings", &from_strings, nb::arg("values"), nb::arg("shape"));
    module.def("_from_dlpack", &dlpack_import, nb::arg("value"), nb::arg("what"));
}

}  // namespace ai_vmm::python
