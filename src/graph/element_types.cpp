// SPDX-License-Identifier: Apache-2.0
#include "graph/element_types.hpp"

namespace ai_vmm::graph {

ElementType from_openvino(const ov::element::Type& type) noexcept {
    using Type = ov::element::Type_t;
    switch (static_cast<Type>(type)) {
        case Type::boolean: return ElementType::boolean;
        case Type::bf16: return ElementType::bf16;
        case Type::f16: return ElementType::f16;
        case Type::f32: return ElementType::f32;
        case Type::f64: return ElementType::f64;
        case Type::i4: return ElementType::i4;
        case Type::i8: return ElementType::i8;
        case Type::i16: return ElementType::i16;
        case Type::i32: return ElementType::i32;
        case Type::i64: return ElementType::i64;
        case Type::u1: return ElementType::u1;
        case Type::u2: return ElementType::u2;
        case Type::u4: return ElementType::u4;
        case Type::u8: return ElementType::u8;
        case Type::u16: return ElementType::u16;
        case Type::u32: return ElementType::u32;
        case Type::u64: return ElementType::u64;
        case Type::nf4: return ElementType::nf4;
        case Type::f8e4m3: return ElementType::f8e4m3;
        case Type::f8e5m2: return ElementType::f8e5m2;
        case Type::f4e2m1: return ElementType::f4e2m1;
        case Type::f8e8m0: return ElementType::f8e8m0;
        case Type::string: return ElementType::string;
        default: return ElementType::undefined;
    }
}

}  // namespace ai_vmm::graph
