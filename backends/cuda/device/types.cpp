// SPDX-License-Identifier: Apache-2.0
#include "device/types.hpp"

namespace ai_vmm::cuda {

std::string_view to_string(Type type) noexcept {
    switch (type) {
        case Type::f64: return "f64";
        case Type::f32: return "f32";
        case Type::f16: return "f16";
        case Type::bf16: return "bf16";
        case Type::f8e4m3: return "f8e4m3";
        case Type::f8e5m2: return "f8e5m2";
        case Type::i64: return "i64";
        case Type::i32: return "i32";
        case Type::i16: return "i16";
        case Type::i8: return "i8";
        case Type::i4: return "i4";
        case Type::u64: return "u64";
        case Type::u32: return "u32";
        case Type::u16: return "u16";
        case Type::u8: return "u8";
        case Type::u4: return "u4";
        case Type::boolean: return "boolean";
    }
    return "unknown";
}

int bits(Type type) noexcept {
    switch (type) {
        case Type::f64:
        case Type::i64:
        case Type::u64: return 64;
        case Type::f32:
        case Type::i32:
        case Type::u32: return 32;
        case Type::f16:
        case Type::bf16:
        case Type::i16:
        case Type::u16: return 16;
        case Type::f8e4m3:
        case Type::f8e5m2:
        case Type::i8:
        case Type::u8:
        case Type::boolean: return 8;
        case Type::i4:
        case Type::u4: return 4;
    }
    return 8;
}

bool is_float(Type type) noexcept { return type <= Type::f8e5m2; }

bool is_signed(Type type) noexcept { return type <= Type::i4; }

std::int64_t elements(const Dims& dims) noexcept {
    std::int64_t count = 1;
    for (const auto dim : dims) count *= dim;
    return count;
}

std::int64_t bytes(Type type, const Dims& dims) noexcept { return (elements(dims) * bits(type) + 7) / 8; }

}  // namespace ai_vmm::cuda
