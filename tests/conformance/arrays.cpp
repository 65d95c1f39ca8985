// SPDX-License-Identifier: Apache-2.0
#include "arrays.hpp"

#include <array>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <limits>

#include "openvino/core/type/bfloat16.hpp"
#include "openvino/core/type/float16.hpp"
#include "openvino/core/type/float4_e2m1.hpp"
#include "openvino/core/type/float8_e4m3.hpp"
#include "openvino/core/type/float8_e5m2.hpp"
#include "openvino/core/type/float8_e8m0.hpp"

namespace ai_vmm::conformance {
namespace {

/// Calls `use` with a value of the C++ type that stores `type`.
template <typename Use>
auto with_stored_type(ElementType type, Use use) {
    switch (type) {
        case ElementType::f32: return use(float{});
        case ElementType::f64: return use(double{});
        case ElementType::f16: return use(ov::float16{});
        case ElementType::bf16: return use(ov::bfloat16{});
        case ElementType::f8e4m3: return use(ov::float8_e4m3{});
        case ElementType::f8e5m2: return use(ov::float8_e5m2{});
        case ElementType::f8e8m0: return use(ov::float8_e8m0{});
        case ElementType::i8: return use(std::int8_t{});
        case ElementType::i16: return use(std::int16_t{});
        case ElementType::i32: return use(std::int32_t{});
        case ElementType::i64: return use(std::int64_t{});
        case ElementType::boolean:
        case ElementType::u8: return use(std::uint8_t{});
        case ElementType::u16: return use(std::uint16_t{});
        case ElementType::u32: return use(std::uint32_t{});
        case ElementType::u64: return use(std::uint64_t{});
        default: throw Error(ErrorCode::invalid_argument, ErrorCategory::input, "no reference arithmetic for " + std::string(to_string(type)));
    }
}

bool is_packed(ElementType type) { return bit_width(type) < 8; }

std::uint64_t mix(std::uint64_t value) {  // splitmix64
    value += 0x9e3779b97f4a7c15ULL;
    value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9ULL;
    value = (value ^ (value >> 27)) * 0x94d049bb133111ebULL;
    return value ^ (value >> 31);
}

}  // namespace

Array::Array(Shape dims, double fill) : shape(std::move(dims)), values(element_count(shape), fill) {}

Array spread(const Shape& shape, double low, double high, std::uint32_t seed) {
    Array array(shape);
    for (std::size_t i = 0; i < array.size(); ++i) {
        const double unit = static_cast<double>(mix(i + (std::uint64_t{seed} << 32)) >> 11) * 0x1.0p-53;
        array[i] = low + (high - low) * unit;
    }
    return array;
}

Array whole(const Shape& shape, double low, double high, std::uint32_t seed) {
    Array array = spread(shape, low - 0.49, high + 0.49, seed);
    for (double& value : array.values) value = std::nearbyint(value);
    return array;
}

Array counting(const Shape& shape, double start) {
    Array array(shape);
    for (double& value : array.values) value = start++;
    return array;
}

Tensor to_tensor(const Array& array, ElementType type) {
    Tensor tensor(type, array.shape);
    if (is_packed(type)) {
        const std::size_t bits = bit_width(type);
        auto* bytes = static_cast<std::uint8_t*>(tensor.data());
        for (std::size_t i = 0; i < array.size(); ++i) {
            const auto element = static_cast<std::uint8_t>(static_cast<std::int64_t>(array[i]) & ((1 << bits) - 1));
            bytes[i * bits / 8] = static_cast<std::uint8_t>(bytes[i * bits / 8] | element << (i * bits % 8));
        }
        return tensor;
    }
    with_stored_type(type, [&]<typename T>(T) {
        T* data = static_cast<T*>(tensor.data());
        for (std::size_t i = 0; i < array.size(); ++i) {
            if (type == ElementType::boolean) {
                data[i] = static_cast<T>(array[i] != 0);
            } else if constexpr (std::is_integral_v<T>) {
                data[i] = static_cast<T>(array[i]);
            } else {
                data[i] = static_cast<T>(static_cast<std::conditional_t<std::is_same_v<T, double>, double, float>>(array[i]));
            }
        }
    });
    return tensor;
}

Array to_array(const Tensor& tensor) {
    Array array(tensor.shape());
    if (is_packed(tensor.type())) {
        const std::size_t bits = bit_width(tensor.type());
        const bool is_signed = tensor.type() == ElementType::i4 || tensor.type() == ElementType::i2;
        const auto* bytes = static_cast<const std::uint8_t*>(tensor.data());
        for (std::size_t i = 0; i < array.size(); ++i) {
            int element = bytes[i * bits / 8] >> (i * bits % 8) & ((1 << bits) - 1);
            if (is_signed && element >> (bits - 1) != 0) element -= 1 << bits;
            array[i] = element;
        }
        return array;
    }
    with_stored_type(tensor.type(), [&]<typename T>(T) {
        const T* data = static_cast<const T*>(tensor.data());
        for (std::size_t i = 0; i < array.size(); ++i) {
            if constexpr (std::is_arithmetic_v<T>) {
                array[i] = static_cast<double>(data[i]);
            } else {
                array[i] = static_cast<double>(static_cast<float>(data[i]));
            }
        }
    });
    return array;
}

Tolerance default_tolerance(ElementType type) {
    switch (type) {
        case ElementType::f64:  // engines may compute doubles in f32
        case ElementType::f32: return {1e-5, 2e-5};
        case ElementType::f16: return {2e-3, 2e-3};
        case ElementType::bf16: return {1e-2, 1.6e-2};
        case ElementType::f8e4m3: return {0.02, 0.13};
        case ElementType::f8e5m2: return {0.02, 0.26};
        default: return {};
    }
}

std::optional<std::string> difference(const Tensor& found, const Array& expected, Tolerance tolerance) {
    if (found.shape() != expected.shape) return "shape " + to_string(found.shape()) + " instead of " + to_string(expected.shape);
    const Array values = to_array(found);
    for (std::size_t i = 0; i < values.size(); ++i) {
        const double is = values[i];
        const double wanted = expected[i];
        if (is == wanted || (std::isnan(is) && std::isnan(wanted))) continue;
        if (std::abs(is - wanted) <= tolerance.absolute + tolerance.relative * std::abs(wanted)) continue;
        const auto text = [](double value) {
            std::array<char, 32> digits{};
            std::snprintf(digits.data(), digits.size(), "%.9g", value);
            return std::string(digits.data());
        };
        return "element " + std::to_string(i) + " of " + std::to_string(values.size()) + " is " + text(is) + " instead of " + text(wanted);
    }
    return std::nullopt;
}

std::vector<std::size_t> strides_of(const Shape& shape) {
    std::vector<std::size_t> strides(shape.size(), 1);
    for (std::size_t i = shape.size(); i-- > 1;) strides[i - 1] = strides[i] * static_cast<std::size_t>(shape[i]);
    return strides;
}

std::size_t offset_of(const Shape& shape, const Shape& index) {
    std::size_t offset = 0;
    for (std::size_t i = 0; i < shape.size(); ++i) offset = offset * static_cast<std::size_t>(shape[i]) + static_cast<std::size_t>(index[i]);
    return offset;
}

void for_each_index(const Shape& shape, const std::function<void(const Shape&)>& visit) {
    const std::size_t count = element_count(shape);
    Shape index(shape.size(), 0);
    for (std::size_t n = 0; n < count; ++n) {
        visit(index);
        for (std::size_t d = shape.size(); d-- > 0;) {
            if (++index[d] < shape[d]) break;
            index[d] = 0;
        }
    }
}

}  // namespace ai_vmm::conformance
