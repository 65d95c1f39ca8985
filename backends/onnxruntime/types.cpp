// SPDX-License-Identifier: Apache-2.0
#include "types.hpp"

#include <algorithm>
#include <array>
#include <utility>

namespace ai_vmm::ort {
namespace {

// The headers end at 1.21; later libraries append FLOAT4E2M1, UINT2 and INT2 in this order.
constexpr auto kFloat4E2M1 = static_cast<ONNXTensorElementDataType>(ONNX_TENSOR_ELEMENT_DATA_TYPE_INT4 + 1);
constexpr auto kUint2 = static_cast<ONNXTensorElementDataType>(ONNX_TENSOR_ELEMENT_DATA_TYPE_INT4 + 2);
constexpr auto kInt2 = static_cast<ONNXTensorElementDataType>(ONNX_TENSOR_ELEMENT_DATA_TYPE_INT4 + 3);

constexpr std::array<std::pair<ElementType, ONNXTensorElementDataType>, 25> kTypes{{
    {ElementType::f32, ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT},
    {ElementType::i64, ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64},
    {ElementType::i32, ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32},
    {ElementType::boolean, ONNX_TENSOR_ELEMENT_DATA_TYPE_BOOL},
    {ElementType::u8, ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8},
    {ElementType::i8, ONNX_TENSOR_ELEMENT_DATA_TYPE_INT8},
    {ElementType::u16, ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT16},
    {ElementType::i16, ONNX_TENSOR_ELEMENT_DATA_TYPE_INT16},
    {ElementType::u32, ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT32},
    {ElementType::u64, ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT64},
    {ElementType::f16, ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16},
    {ElementType::bf16, ONNX_TENSOR_ELEMENT_DATA_TYPE_BFLOAT16},
    {ElementType::f64, ONNX_TENSOR_ELEMENT_DATA_TYPE_DOUBLE},
    {ElementType::string, ONNX_TENSOR_ELEMENT_DATA_TYPE_STRING},
    {ElementType::complex64, ONNX_TENSOR_ELEMENT_DATA_TYPE_COMPLEX64},
    {ElementType::complex128, ONNX_TENSOR_ELEMENT_DATA_TYPE_COMPLEX128},
    {ElementType::f8e4m3, ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT8E4M3FN},
    {ElementType::f8e4m3fnuz, ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT8E4M3FNUZ},
    {ElementType::f8e5m2, ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT8E5M2},
    {ElementType::f8e5m2fnuz, ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT8E5M2FNUZ},
    {ElementType::u4, ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT4},
    {ElementType::i4, ONNX_TENSOR_ELEMENT_DATA_TYPE_INT4},
    {ElementType::f4e2m1, kFloat4E2M1},
    {ElementType::u2, kUint2},
    {ElementType::i2, kInt2},
}};

}  // namespace

std::optional<ONNXTensorElementDataType> to_ort(ElementType type) noexcept {
    const auto found = std::ranges::find(kTypes, type, &std::pair<ElementType, ONNXTensorElementDataType>::first);
    if (found == kTypes.end()) return std::nullopt;
    return found->second;
}

ElementType from_ort(ONNXTensorElementDataType type) noexcept {
    const auto found = std::ranges::find(kTypes, type, &std::pair<ElementType, ONNXTensorElementDataType>::second);
    return found == kTypes.end() ? ElementType::undefined : found->first;
}

}  // namespace ai_vmm::ort
