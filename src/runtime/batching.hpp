// SPDX-License-Identifier: Apache-2.0
/// Executions merged into one: their tensors joined along the first dimension, and the results divided again.
#pragma once

#include <cstdint>
#include <span>

#include "ai_vmm/tensor.hpp"

namespace ai_vmm::runtime {

/// Whether two tensors differ in nothing but their first dimension (and their values), lie in host memory, and can be joined along it.
[[nodiscard]] bool joinable(const Tensor& a, const Tensor& b) noexcept;

/// Copies the elements of joinable `parts`, one after the other, into `into`. Its memory is used again if it has the right type and shape, so it must
/// not be shared with anybody who still reads it.
/// @throws Error(resource_exhausted) no memory.
void join(std::span<const Tensor* const> parts, Tensor& into);

/// Rows `first` to `first + count` of `whole`, whose memory the part keeps alive. Elements must be whole bytes.
[[nodiscard]] Tensor rows_of(const Tensor& whole, std::int64_t first, std::int64_t count);

}  // namespace ai_vmm::runtime
