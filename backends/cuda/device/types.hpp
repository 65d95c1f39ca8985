// SPDX-License-Identifier: Apache-2.0
/// Element types and shapes below the lowering: nothing of OpenVINO from here on.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

namespace ai_vmm::cuda {

/// Element types that device memory holds. Booleans are one byte, 0 or 1; i4 and u4 two to a byte, the first in the low half.
enum class Type : std::uint8_t { f64, f32, f16, bf16, f8e4m3, f8e5m2, i64, i32, i16, i8, i4, u64, u32, u16, u8, u4, boolean };

[[nodiscard]] std::string_view to_string(Type type) noexcept;  ///< "f32", "boolean", …
[[nodiscard]] int bits(Type type) noexcept;                    ///< 4 to 64
[[nodiscard]] bool is_float(Type type) noexcept;
[[nodiscard]] bool is_signed(Type type) noexcept;  ///< floats and signed integers

using Dims = std::vector<std::int64_t>;  ///< static, each >= 0
[[nodiscard]] std::int64_t elements(const Dims& dims) noexcept;
[[nodiscard]] std::int64_t bytes(Type type, const Dims& dims) noexcept;  ///< 4-bit types are rounded up to whole bytes

}  // namespace ai_vmm::cuda
