// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "ai_vmm/tensor.hpp"
#include "base/protobuf.hpp"

namespace ai_vmm::graph {

/// The element type of a TensorProto.DataType; `undefined` for what has none here.
[[nodiscard]] ElementType onnx_element_type(std::int64_t type) noexcept;

/// How much a TensorProto holds beside how much its type and shape need. Looks at sizes only, so the contents need not be there.
class OnnxTensorContent {
public:
    /// Takes the field that `message` stands at. @returns false if it tells nothing here; it must be skipped then.
    bool take(base::ProtobufReader& message);

    /// Bytes of the values as they lie in raw_data or in another file; -1 where that can't be told: strings, unknown types, more than 2^63.
    [[nodiscard]] std::int64_t size_bytes() const noexcept;

    /// @throws Error(invalid_argument, input) a negative dimension, or the values in the message are fewer or more than the shape has.
    void check(const std::string& name) const;

    /// @throws Error(invalid_argument, input) a negative dimension.
    void check_shape(const std::string& name) const;

private:
    void add_dimension(std::int64_t size);
    [[nodiscard]] std::string shape_text() const;

    static constexpr std::int64_t kTooMany = -1;
    ElementType type_ = ElementType::undefined;
    std::vector<std::int64_t> first_dimensions_;  // for messages
    std::int64_t elements_ = 1;                   // or kTooMany
    bool no_elements_ = false;                    // a dimension is 0
    bool negative_ = false;
    bool in_segments_ = false;
    bool has_raw_ = false;
    std::uint64_t raw_bytes_ = 0;
    std::uint64_t floats_ = 0, doubles_ = 0, strings_ = 0;
    std::uint64_t most_int32_ = 0, most_int64_ = 0, most_uint64_ = 0;  // a varint has at least one byte
};

}  // namespace ai_vmm::graph
