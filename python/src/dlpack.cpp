// SPDX-License-Identifier: Apache-2.0
#include "dlpack.hpp"

#include <nanobind/ndarray.h>

#include <array>
#include <cstring>

#include "lifetime.hpp"

namespace ai_vmm::python {
namespace {

using Code = nb::dlpack::dtype_code;

struct Row {
    ElementType type;
    Code code;
    std::uint8_t bits;
};

constexpr std::array kRows{
    Row{ElementType::boolean, Code::Bool, 8},
    Row{ElementType::bf16, Code::Bfloat, 16},
    Row{ElementType::f16, Code::Float, 16},
    Row{ElementType::f32, Code::Float, 32},
    Row{ElementType::f64, Code::Float, 64},
    Row{ElementType::f8e4m3, Code::Float8_E4M3FN, 8},
    Row{ElementType::f8e4m3fnuz, Code::Float8_E4M3FNUZ, 8},
    Row{ElementType::f8e5m2, Code::Float8_E5M2, 8},
    Row{ElementType::f8e5m2fnuz, Code::Float8_E5M2FNUZ, 8},
    Row{ElementType::f8e8m0, Code::Float8_E8M0FNU, 8},
    Row{ElementType::i8, Code::Int, 8},
    Row{ElementType::i16, Code::Int, 16},
    Row{ElementType::i32, Code::Int, 32},
    Row{ElementType::i64, Code::Int, 64},
    Row{ElementType::u8, Code::UInt, 8},
    Row{ElementType::u16, Code::UInt, 16},
    Row{ElementType::u32, Code::UInt, 32},
    Row{ElementType::u64, Code::UInt, 64},
    Row{ElementType::complex64, Code::Complex, 64},
    Row{ElementType::complex128, Code::Complex, 128},
};

constexpr std::int64_t kHost = 1;       // kDLCPU
constexpr std::int64_t kCuda = 2;       // kDLCUDA
constexpr std::int64_t kCudaHost = 3;   // pinned host memory
constexpr std::int64_t kRocmHost = 11;  // pinned host memory

std::string device_name(std::int64_t type, std::int64_t id) {
    constexpr std::array<std::pair<int, const char*>, 8> kNames{
        {{2, "cuda"}, {4, "opencl"}, {7, "vulkan"}, {8, "metal"}, {10, "rocm"}, {13, "cuda_managed"}, {14, "oneapi"}, {16, "hexagon"}}};
    std::string name = "dlpack device type " + std::to_string(type);
    for (const auto& [number, text] : kNames) {
        if (number == type) name = text;
    }
    return name + ":" + std::to_string(id);
}

/// Copies the elements of a strided array into row-major order. Strides count elements.
void copy_strided(const std::byte* from, std::byte*& to, std::span<const std::int64_t> shape, std::span<const std::int64_t> strides,
                  std::size_t item) {
    if (shape.empty()) {
        std::memcpy(to, from, item);
        to += item;
        return;
    }
    const auto step = strides[0] * static_cast<std::int64_t>(item);
    for (std::int64_t i = 0; i < shape[0]; ++i) copy_strided(from + i * step, to, shape.subspan(1), strides.subspan(1), item);
}

template <typename Array>
Tensor tensor_over(Array array, std::string_view what) {
    const auto dtype = array.dtype();
    const Row* row = nullptr;
    for (const Row& candidate : kRows) {
        if (static_cast<std::uint8_t>(candidate.code) == dtype.code && candidate.bits == dtype.bits && dtype.lanes == 1) row = &candidate;
    }
    if (row == nullptr) {
        throw Error(ErrorCode::invalid_argument, ErrorCategory::input, std::string(what) + " has an element type that DLPack can't hand over",
                    {.expected = "whole-byte numbers of one lane",
                     .found = "type code " + std::to_string(dtype.code) + ", " + std::to_string(dtype.bits) + " bits, " +
                              std::to_string(dtype.lanes) + " lanes",
                     .advice = "make the tensor with ai_vmm.Tensor.from_bytes()"});
    }
    Shape shape(array.ndim());
    Shape strides(array.ndim());
    bool contiguous = true;
    std::int64_t expected_stride = 1;
    for (std::size_t i = array.ndim(); i-- > 0;) {
        shape[i] = static_cast<std::int64_t>(array.shape(i));
        strides[i] = array.stride(i);
        contiguous &= shape[i] <= 1 || strides[i] == expected_stride;
        expected_stride *= shape[i];
    }
    const std::size_t item = row->bits / 8U;
    auto* const data = const_cast<void*>(static_cast<const void*>(array.data()));
    const bool aligned = reinterpret_cast<std::uintptr_t>(data) % std::min<std::size_t>(item, 8) == 0;
    if (array.device_type() == kCuda) {
        if (!contiguous || !aligned) {
            throw Error(ErrorCode::invalid_argument, ErrorCategory::input, std::string(what) + " is not contiguous in the GPU's memory",
                        {.expected = "row-major elements without gaps", .found = {}, .advice = "give value.contiguous()"});
        }
        return Tensor::borrow(row->type, std::move(shape), data, MemoryPlace{MemoryKind::cuda, array.device_id()}, keep(std::move(array)));
    }
    if (element_count(shape) == 0) return Tensor(row->type, std::move(shape));
    if (contiguous && aligned) return Tensor::borrow(row->type, std::move(shape), data, keep(std::move(array)));
    Tensor copy(row->type, shape);
    auto* to = static_cast<std::byte*>(copy.data());
    copy_strided(static_cast<const std::byte*>(data), to, shape, strides, item);
    return copy;
}

}  // namespace

nb::tuple dlpack_device(const PyTensor& tensor) {
    return nb::make_tuple(static_cast<std::int64_t>(tensor.tensor.place().kind), tensor.tensor.place().device);
}

PyTensor dlpack_import(nb::handle value, std::string_view what) {
    if (nb::hasattr(value, "__dlpack_device__")) {
        const nb::object device = value.attr("__dlpack_device__")();
        const auto type = nb::cast<std::int64_t>(nb::int_(nb::object(device[0])));
        const auto id = nb::cast<std::int64_t>(nb::int_(nb::object(device[1])));
        if (type != kHost && type != kCuda && type != kCudaHost && type != kRocmHost) {
            throw Error(ErrorCode::invalid_argument, ErrorCategory::input,
                        std::string(what) + " is neither in host memory nor in that of an NVIDIA GPU",
                        {.expected = "an array in host memory, or in CUDA's",
                         .found = device_name(type, id),
                         .advice = "copy it to the host first, e.g. value.cpu()"});
        }
    }
    if (nb::ndarray<> writable; nb::try_cast(value, writable, false)) return {tensor_over(std::move(writable), what), false};
    if (nb::ndarray<nb::ro> readonly; nb::try_cast(value, readonly, false)) return {tensor_over(std::move(readonly), what), true};
    // Ask the object itself, for its own reason.
    value.attr("__dlpack__")();
    throw Error(ErrorCode::invalid_argument, ErrorCategory::input, std::string(what) + " could not be taken over through DLPack");
}

nb::object dlpack_export(nb::handle self, nb::object stream, nb::object max_version, nb::object dl_device, nb::object copy) {
    const auto& held = nb::cast<const PyTensor&>(self);
    const Row* row = nullptr;
    for (const Row& candidate : kRows) {
        if (candidate.type == held.tensor.type()) row = &candidate;
    }
    if (row == nullptr) throw nb::buffer_error("DLPack has no form for packed types and strings; use numpy() or tobytes()");
    const MemoryPlace& place = held.tensor.place();
    // What an execution has put into a GPU's memory is complete: no stream of the consumer has to wait.
    if (place.is_host() && !stream.is_none()) throw nb::buffer_error("stream must be None for host memory");
    if (!dl_device.is_none() && !dl_device.equal(dlpack_device(held))) throw nb::buffer_error("the tensor can only be exported where it is");
    if (!place.is_host() && !copy.is_none() && nb::cast<bool>(copy)) throw nb::buffer_error("memory of a GPU is exported without a copy");

    const bool versioned = !max_version.is_none() && nb::cast<int>(nb::object(max_version[0])) >= 1;
    const bool copied = !copy.is_none() && nb::cast<bool>(copy);
    if (held.readonly && !versioned && !copied) throw nb::buffer_error("a read-only tensor needs a consumer of DLPack 1.0 or later, or copy=True");
    Tensor tensor = held.tensor;
    bool readonly = held.readonly;
    nb::object owner = nb::borrow(self);
    if (copied) {
        tensor = tensor.clone();
        readonly = false;
        owner = nb::cast(PyTensor{tensor, false});
    }
    const std::vector<std::size_t> shape(tensor.shape().begin(), tensor.shape().end());
    const nb::dlpack::dtype dtype{static_cast<std::uint8_t>(row->code), row->bits, 1};
    const auto type = static_cast<std::int32_t>(place.kind);
    nb::object array;
    if (readonly) {
        array = nb::cast(nb::ndarray<nb::array_api, nb::ro>(tensor.data(), shape.size(), shape.data(), owner, nullptr, dtype, type, place.device));
    } else {
        array = nb::cast(nb::ndarray<nb::array_api>(tensor.data(), shape.size(), shape.data(), owner, nullptr, dtype, type, place.device));
    }
    return array.attr("__dlpack__")(nb::arg("max_version") = max_version);
}

}  // namespace ai_vmm::python
