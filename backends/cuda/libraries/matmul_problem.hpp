// SPDX-License-Identifier: Apache-2.0
/// A row-major multiplication as cuBLASLt's column-major one. Pure; no vendor header.
#pragma once

#include <cstdint>
#include <optional>

#include "device/libraries.hpp"

namespace ai_vmm::cuda {

/// A stored column-major matrix: element (row, column) of batch b is at b * batch_stride + column * leading + row.
struct LtMatrix {
    std::int64_t rows = 0, columns = 0, leading = 0, batch_stride = 0;
    Type type = Type::f32;
    bool operator==(const LtMatrix&) const = default;
};

enum class LtCompute : std::uint8_t { f32, tf32, f64, i32 };
enum class LtEpilogue : std::uint8_t { none, bias, relu, relu_bias, gelu, gelu_bias };

/// D = epilogue(alpha * op(A) @ op(B) + beta * C + bias), column-major; C is stored as D. What is row-major m x n is column-major n x m, so A here is
/// the specification's B and B its A, and the bias, one value per column of a row-major D, is one per row here, as cuBLASLt has it.
struct LtProblem {
    LtMatrix a, b, d;
    bool transpose_a = false, transpose_b = false;
    std::int64_t batch = 1;
    LtCompute compute = LtCompute::f32;
    LtEpilogue epilogue = LtEpilogue::none;
    Type bias_type = Type::f32;
    float alpha = 1, beta = 0;
    bool operator==(const LtProblem&) const = default;
};

/// cuBLASLt's problem for a specification. Batches that share B and lie one after the other become rows of one multiplication.
/// @returns nothing for what cuBLASLt has no words for: an empty dimension, rows that overlap, a combination of types outside its table, an
/// activation
///   other than ReLU and GELU in its tanh form (its GELU), a bias of another type than the one it takes beside that result, a factor that is not an
///   integer for integers.
/// Source: cuBLAS documentation, cublasLtMatmul() and cublasLtEpilogue_t (activation after alpha * A @ B + beta * C + bias).
[[nodiscard]] std::optional<LtProblem> lt_problem(const MatmulSpec& spec);

}  // namespace ai_vmm::cuda
