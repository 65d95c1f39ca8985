// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <protozero/pbf_reader.hpp>
#include <string>
#include <string_view>

namespace ai_vmm::base {

/// A field's wire type is not the one that its schema gives it.
struct WireTypeError : protozero::exception {
    [[nodiscard]] const char* what() const noexcept override { return "a field of another wire type than its schema's"; }
};

/// protozero's reader for bytes that nobody vouches for. protozero only asserts that a field has the wire type that is asked for: it ends
/// the process in builds with assertions and misreads in others. Here the file decides, so every access checks. Does not own the bytes.
/// @throws protozero::exception  from every member but tag() and wire_type(): the bytes end early, or are no protobuf message.
/// @throws WireTypeError         (one of those) from every get_ member.
class ProtobufReader : private protozero::pbf_reader {
public:
    explicit ProtobufReader(std::string_view bytes) noexcept : pbf_reader(bytes.data(), bytes.size()) {}

    using pbf_reader::next;
    using pbf_reader::skip;
    using pbf_reader::tag;
    using pbf_reader::wire_type;

    [[nodiscard]] ProtobufReader get_message() { return ProtobufReader(get_view()); }
    [[nodiscard]] std::string get_string() { return std::string(get_view()); }
    /// Into the bytes of the message.
    [[nodiscard]] std::string_view get_view() {
        const protozero::data_view view = checked(protozero::pbf_wire_type::length_delimited).pbf_reader::get_view();
        return {view.data(), view.size()};
    }
    [[nodiscard]] auto get_packed_int64() { return checked(protozero::pbf_wire_type::length_delimited).pbf_reader::get_packed_int64(); }
    [[nodiscard]] std::int32_t get_int32() { return checked(protozero::pbf_wire_type::varint).pbf_reader::get_int32(); }
    [[nodiscard]] std::int64_t get_int64() { return checked(protozero::pbf_wire_type::varint).pbf_reader::get_int64(); }
    [[nodiscard]] std::int32_t get_enum() { return checked(protozero::pbf_wire_type::varint).pbf_reader::get_enum(); }
    [[nodiscard]] bool get_bool() { return get_int64() != 0; }  // protozero's own looks at a byte before it looks for the end

private:
    ProtobufReader& checked(protozero::pbf_wire_type type) {
        if (wire_type() != type) throw WireTypeError();
        return *this;
    }
};

}  // namespace ai_vmm::base
