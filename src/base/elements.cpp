// SPDX-License-Identifier: Apache-2.0
#include "ai_vmm/elements.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

namespace ai_vmm {
namespace {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
constexpr double kInfinity = std::numeric_limits<double>::infinity();

/// sign, `exponent_bits`, `mantissa_bits` with subnormals; the caller has dealt with special codes.
double minifloat(unsigned bits, int exponent_bits, int mantissa_bits, int bias) noexcept {
    const unsigned mantissa = bits & ((1U << mantissa_bits) - 1U);
    const int exponent = static_cast<int>((bits >> mantissa_bits) & ((1U << exponent_bits) - 1U));
    const bool negative = ((bits >> (mantissa_bits + exponent_bits)) & 1U) != 0;
    const double fraction = std::ldexp(static_cast<double>(mantissa), -mantissa_bits);
    const double value = exponent == 0 ? std::ldexp(fraction, 1 - bias) : std::ldexp(1 + fraction, exponent - bias);
    return negative ? -value : value;
}

template <typename T>
T load(const void* data, std::size_t index) noexcept {
    T value;
    std::memcpy(&value, static_cast<const std::byte*>(data) + index * sizeof(T), sizeof(T));
    return value;
}

template <typename T>
void store(void* data, std::size_t index, T value) noexcept {
    std::memcpy(static_cast<std::byte*>(data) + index * sizeof(T), &value, sizeof(T));
}

template <typename T>
void store_integer(void* data, std::size_t index, double value) noexcept {
    const double rounded = std::isnan(value) ? 0 : std::nearbyint(value);
    T result;
    if (rounded <= static_cast<double>(std::numeric_limits<T>::min())) {
        result = std::numeric_limits<T>::min();
    } else if (rounded >= static_cast<double>(std::numeric_limits<T>::max())) {
        result = std::numeric_limits<T>::max();
    } else {
        result = static_cast<T>(rounded);
    }
    store(data, index, result);
}

/// The first element is in the low bits.
unsigned packed_at(const void* data, std::size_t index, unsigned width) noexcept {
    const std::size_t bit = index * width;
    return (load<std::uint8_t>(data, bit / 8) >> (bit % 8)) & ((1U << width) - 1U);
}

void store_packed(void* data, std::size_t index, unsigned width, unsigned code) noexcept {
    const std::size_t bit = index * width;
    const unsigned mask = ((1U << width) - 1U) << (bit % 8);
    const unsigned old = load<std::uint8_t>(data, bit / 8);
    store(data, bit / 8, static_cast<std::uint8_t>((old & ~mask) | ((code << (bit % 8)) & mask)));
}

double signed_code(unsigned code, unsigned width) noexcept {
    const int value = static_cast<int>(code);
    return value >= (1 << (width - 1)) ? value - (1 << width) : value;
}

std::uint16_t to_bf16(double value) noexcept {
    const auto bits = std::bit_cast<std::uint32_t>(static_cast<float>(value));
    if (std::isnan(value)) return static_cast<std::uint16_t>((bits >> 16) | 0x40U);
    return static_cast<std::uint16_t>((bits + 0x7FFFU + ((bits >> 16) & 1U)) >> 16);
}

std::uint16_t to_f16(double value) noexcept {
    const unsigned sign = std::signbit(value) ? 0x8000U : 0;
    const double magnitude = std::fabs(value);
    if (std::isnan(value)) return static_cast<std::uint16_t>(sign | 0x7E00U);
    if (magnitude >= 65520) return static_cast<std::uint16_t>(sign | 0x7C00U);  // rounds to infinity
    if (magnitude == 0) return static_cast<std::uint16_t>(sign);
    int exponent = 0;
    (void)std::frexp(magnitude, &exponent);         // magnitude = m * 2^exponent, m in [0.5, 1)
    const int unit = std::max(exponent - 11, -24);  // the power of two of the last bit
    const auto steps = static_cast<unsigned>(std::nearbyint(std::ldexp(magnitude, -unit)));
    // `steps` counts units of the last place: from the subnormals on, codes are consecutive.
    const unsigned code = unit == -24 ? steps : (static_cast<unsigned>(unit + 24) << 10U) + steps;
    return static_cast<std::uint16_t>(sign | code);
}

/// The code of `width` bits whose value is nearest; small tables, so looking at all is fine.
template <typename Decode>
unsigned nearest_code(double value, unsigned width, Decode decode) noexcept {
    unsigned best = 0;
    double error = kInfinity;
    for (unsigned code = 0; code < (1U << width); ++code) {
        const double distance = std::fabs(decode(code) - value);
        if (distance < error) {
            error = distance;
            best = code;
        }
    }
    return best;
}

}  // namespace

double f16_to_double(std::uint16_t bits) noexcept {
    if ((bits & 0x7C00U) != 0x7C00U) return minifloat(bits, 5, 10, 15);
    if ((bits & 0x3FFU) != 0) return kNaN;
    return (bits & 0x8000U) != 0 ? -kInfinity : kInfinity;
}

double bf16_to_double(std::uint16_t bits) noexcept { return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16); }

double f8_to_double(ElementType type, std::uint8_t bits) noexcept {
    const unsigned magnitude = bits & 0x7FU;
    switch (type) {
        case ElementType::f8e4m3: return magnitude == 0x7F ? kNaN : minifloat(bits, 4, 3, 7);
        case ElementType::f8e4m3fnuz: return bits == 0x80 ? kNaN : minifloat(bits, 4, 3, 8);
        case ElementType::f8e5m2:
            if (magnitude > 0x7C) return kNaN;
            if (magnitude == 0x7C) return bits == magnitude ? kInfinity : -kInfinity;
            return minifloat(bits, 5, 2, 15);
        case ElementType::f8e5m2fnuz: return bits == 0x80 ? kNaN : minifloat(bits, 5, 2, 16);
        case ElementType::f8e8m0: return bits == 0xFF ? kNaN : std::ldexp(1.0, static_cast<int>(bits) - 127);
        default: return kNaN;
    }
}

double f4_to_double(ElementType type, unsigned nibble) noexcept {
    static constexpr std::array<double, 16> kNormal{-1.0,
                                                    -0.6961928009986877,
                                                    -0.5250730514526367,
                                                    -0.39491748809814453,
                                                    -0.28444138169288635,
                                                    -0.18477343022823334,
                                                    -0.09105003625154495,
                                                    0.0,
                                                    0.07958029955625534,
                                                    0.16093020141124725,
                                                    0.24611230194568634,
                                                    0.33791524171829224,
                                                    0.44070982933044434,
                                                    0.5626170039176941,
                                                    0.7229568362236023,
                                                    1.0};
    return type == ElementType::nf4 ? kNormal[nibble & 15U] : minifloat(nibble & 15U, 2, 1, 1);
}

bool is_complex(ElementType type) noexcept { return type == ElementType::complex64 || type == ElementType::complex128; }

bool is_float(ElementType type) noexcept {
    switch (type) {
        case ElementType::bf16:
        case ElementType::f16:
        case ElementType::f32:
        case ElementType::f64:
        case ElementType::f8e4m3:
        case ElementType::f8e4m3fnuz:
        case ElementType::f8e5m2:
        case ElementType::f8e5m2fnuz:
        case ElementType::f8e8m0:
        case ElementType::f4e2m1:
        case ElementType::nf4:
        case ElementType::complex64:
        case ElementType::complex128: return true;
        default: return false;
    }
}

double element_at(ElementType type, const void* data, std::size_t index) noexcept {
    switch (type) {
        case ElementType::boolean: return load<std::uint8_t>(data, index) != 0 ? 1 : 0;
        case ElementType::bf16: return bf16_to_double(load<std::uint16_t>(data, index));
        case ElementType::f16: return f16_to_double(load<std::uint16_t>(data, index));
        case ElementType::f32:
        case ElementType::complex64: return load<float>(data, index);
        case ElementType::f64:
        case ElementType::complex128: return load<double>(data, index);
        case ElementType::f8e4m3:
        case ElementType::f8e4m3fnuz:
        case ElementType::f8e5m2:
        case ElementType::f8e5m2fnuz:
        case ElementType::f8e8m0: return f8_to_double(type, load<std::uint8_t>(data, index));
        case ElementType::f4e2m1:
        case ElementType::nf4: return f4_to_double(type, packed_at(data, index, 4));
        case ElementType::i2: return signed_code(packed_at(data, index, 2), 2);
        case ElementType::i4: return signed_code(packed_at(data, index, 4), 4);
        case ElementType::u1: return packed_at(data, index, 1);
        case ElementType::u2: return packed_at(data, index, 2);
        case ElementType::u4: return packed_at(data, index, 4);
        case ElementType::i8: return load<std::int8_t>(data, index);
        case ElementType::i16: return load<std::int16_t>(data, index);
        case ElementType::i32: return load<std::int32_t>(data, index);
        case ElementType::i64: return static_cast<double>(load<std::int64_t>(data, index));
        case ElementType::u8: return load<std::uint8_t>(data, index);
        case ElementType::u16: return load<std::uint16_t>(data, index);
        case ElementType::u32: return load<std::uint32_t>(data, index);
        case ElementType::u64: return static_cast<double>(load<std::uint64_t>(data, index));
        case ElementType::undefined:
        case ElementType::string: return 0;
    }
    return 0;
}

void store_element(ElementType type, void* data, std::size_t index, double value) noexcept {
    const auto clamped = [&](double low, double high) {
        return std::isnan(value) ? 0 : static_cast<int>(std::nearbyint(std::clamp(value, low, high)));
    };
    switch (type) {
        case ElementType::boolean: store<std::uint8_t>(data, index, value != 0 ? 1 : 0); break;
        case ElementType::bf16: store(data, index, to_bf16(value)); break;
        case ElementType::f16: store(data, index, to_f16(value)); break;
        case ElementType::f32:
        case ElementType::complex64: store(data, index, static_cast<float>(value)); break;
        case ElementType::f64:
        case ElementType::complex128: store(data, index, value); break;
        case ElementType::f8e4m3:
        case ElementType::f8e4m3fnuz:
        case ElementType::f8e5m2:
        case ElementType::f8e5m2fnuz:
        case ElementType::f8e8m0:
            store(data, index,
                  static_cast<std::uint8_t>(nearest_code(value, 8, [&](unsigned c) { return f8_to_double(type, static_cast<std::uint8_t>(c)); })));
            break;
        case ElementType::f4e2m1:
        case ElementType::nf4: store_packed(data, index, 4, nearest_code(value, 4, [&](unsigned c) { return f4_to_double(type, c); })); break;
        case ElementType::i2: store_packed(data, index, 2, static_cast<unsigned>(clamped(-2, 1)) & 3U); break;
        case ElementType::i4: store_packed(data, index, 4, static_cast<unsigned>(clamped(-8, 7)) & 15U); break;
        case ElementType::u1: store_packed(data, index, 1, static_cast<unsigned>(clamped(0, 1))); break;
        case ElementType::u2: store_packed(data, index, 2, static_cast<unsigned>(clamped(0, 3))); break;
        case ElementType::u4: store_packed(data, index, 4, static_cast<unsigned>(clamped(0, 15))); break;
        case ElementType::i8: store_integer<std::int8_t>(data, index, value); break;
        case ElementType::i16: store_integer<std::int16_t>(data, index, value); break;
        case ElementType::i32: store_integer<std::int32_t>(data, index, value); break;
        case ElementType::i64: store_integer<std::int64_t>(data, index, value); break;
        case ElementType::u8: store_integer<std::uint8_t>(data, index, value); break;
        case ElementType::u16: store_integer<std::uint16_t>(data, index, value); break;
        case ElementType::u32: store_integer<std::uint32_t>(data, index, value); break;
        case ElementType::u64: store_integer<std::uint64_t>(data, index, value); break;
        case ElementType::undefined:
        case ElementType::string: break;
    }
}

}  // namespace ai_vmm
