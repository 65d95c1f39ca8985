// SPDX-License-Identifier: Apache-2.0
// Field numbers are those of onnx.proto (IR version 13).
#include "graph/formats/onnx_tensor.hpp"

#include <optional>
#include <utility>

#include "graph/bytes.hpp"

namespace ai_vmm::graph {
namespace {

constexpr const char* kAdvice = "get the file again, or export the model again";

/// Values of a repeated field of numbers, packed or not; of varints at most as many.
std::uint64_t count_values(base::ProtobufReader& message, std::uint64_t value_bytes) {
    if (message.wire_type() == protozero::pbf_wire_type::length_delimited) return message.get_view().size() / value_bytes;
    message.skip();
    return 1;
}

}  // namespace

ElementType onnx_element_type(std::int64_t type) noexcept {
    switch (type) {
        case 1: return ElementType::f32;
        case 2: return ElementType::u8;
        case 3: return ElementType::i8;
        case 4: return ElementType::u16;
        case 5: return ElementType::i16;
        case 6: return ElementType::i32;
        case 7: return ElementType::i64;
        case 8: return ElementType::string;
        case 9: return ElementType::boolean;
        case 10: return ElementType::f16;
        case 11: return ElementType::f64;
        case 12: return ElementType::u32;
        case 13: return ElementType::u64;
        case 14: return ElementType::complex64;
        case 15: return ElementType::complex128;
        case 16: return ElementType::bf16;
        case 17: return ElementType::f8e4m3;
        case 18: return ElementType::f8e4m3fnuz;
        case 19: return ElementType::f8e5m2;
        case 20: return ElementType::f8e5m2fnuz;
        case 21: return ElementType::u4;
        case 22: return ElementType::i4;
        case 23: return ElementType::f4e2m1;
        case 24: return ElementType::f8e8m0;
        case 25: return ElementType::u2;
        case 26: return ElementType::i2;
        default: return ElementType::undefined;
    }
}

void OnnxTensorContent::add_dimension(std::int64_t size) {
    constexpr std::size_t kShown = 16;
    if (first_dimensions_.size() < kShown) first_dimensions_.push_back(size);
    negative_ = negative_ || size < 0;
    no_elements_ = no_elements_ || size == 0;
    if (size <= 0 || elements_ == kTooMany) return;
    if (__builtin_mul_overflow(elements_, size, &elements_)) elements_ = kTooMany;
}

bool OnnxTensorContent::take(base::ProtobufReader& message) {
    switch (message.tag()) {
        case 1:
            if (message.wire_type() == protozero::pbf_wire_type::length_delimited) {
                for (const std::int64_t size : message.get_packed_int64()) add_dimension(size);
            } else {
                add_dimension(message.get_int64());
            }
            return true;
        case 2: type_ = onnx_element_type(message.get_enum()); return true;
        case 3: in_segments_ = true; return false;
        case 4: floats_ += count_values(message, 4); return true;
        case 5: most_int32_ += count_values(message, 1); return true;
        case 6: ++strings_; return false;
        case 7: most_int64_ += count_values(message, 1); return true;
        case 9:
            has_raw_ = true;
            raw_bytes_ = message.get_view().size();
            return true;
        case 10: doubles_ += count_values(message, 8); return true;
        case 11: most_uint64_ += count_values(message, 1); return true;
        default: return false;
    }
}

std::int64_t OnnxTensorContent::size_bytes() const noexcept {
    if (type_ == ElementType::undefined || type_ == ElementType::string) return -1;
    if (no_elements_) return 0;
    std::int64_t bits = 0;
    if (elements_ == kTooMany || __builtin_mul_overflow(elements_, static_cast<std::int64_t>(bit_width(type_)), &bits)) return -1;
    return bits / 8 + (bits % 8 != 0 ? 1 : 0);
}

std::string OnnxTensorContent::shape_text() const { return std::string(to_string(type_)) + to_string(Shape(first_dimensions_)); }

void OnnxTensorContent::check_shape(const std::string& name) const {
    if (negative_) throw malformed("tensor '" + printable(name) + "' has a negative dimension", "sizes from 0 on", shape_text(), kAdvice);
}

void OnnxTensorContent::check(const std::string& name) const {
    check_shape(name);
    if (type_ == ElementType::undefined || in_segments_) return;  // engines say what they make of it
    const auto refuse = [&](const std::string& expected, const std::string& found) {
        throw malformed("the content of tensor '" + printable(name) + "' does not fit its shape", expected + " for " + shape_text(), found, kAdvice);
    };
    if (!no_elements_ && elements_ == kTooMany) refuse("at most 2^63 elements", "more");
    const std::uint64_t elements = no_elements_ ? 0 : static_cast<std::uint64_t>(elements_);
    const std::int64_t size = size_bytes();
    if (has_raw_ && type_ != ElementType::string) {
        if (size < 0) refuse("at most 2^63 bits", "more");
        if (raw_bytes_ != static_cast<std::uint64_t>(size)) refuse(std::to_string(size) + " bytes", std::to_string(raw_bytes_) + " bytes");
        return;
    }
    const auto exactly = [&](std::uint64_t wanted, std::uint64_t there) {
        if (wanted != there) refuse(std::to_string(wanted) + " values", std::to_string(there));
    };
    const auto at_least = [&](std::uint64_t wanted, std::uint64_t most) {
        if (wanted > most) refuse(std::to_string(wanted) + " values", "at most " + std::to_string(most));
    };
    switch (type_) {
        case ElementType::f32: return exactly(elements, floats_);
        case ElementType::complex64: return exactly(2 * elements, floats_);
        case ElementType::f64: return exactly(elements, doubles_);
        case ElementType::complex128: return exactly(2 * elements, doubles_);
        case ElementType::string: return exactly(elements, strings_);
        case ElementType::i64: return at_least(elements, most_int64_);
        case ElementType::u32:
        case ElementType::u64: return at_least(elements, most_uint64_);
        default:
            // Types below a byte lie there packed, a byte in each value.
            return at_least(bit_width(type_) < 8 ? static_cast<std::uint64_t>(size) : elements, most_int32_);
    }
}

}  // namespace ai_vmm::graph
