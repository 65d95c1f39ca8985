// SPDX-License-Identifier: Apache-2.0
#include "libraries/matmul_problem.hpp"

#include <cmath>

namespace ai_vmm::cuda {
namespace {

std::optional<LtCompute> compute_of(const MatmulSpec& s) {
    switch (s.type) {
        case Type::f32:
            if (s.result != Type::f32) return {};
            return s.tf32 ? LtCompute::tf32 : LtCompute::f32;
        case Type::f16:
        case Type::bf16:
            if (s.result != s.type && s.result != Type::f32) return {};
            return LtCompute::f32;
        case Type::f8e4m3:
            // Hopper adds products of 8-bit floats up with fewer bits than f32 has: enough for 16-bit results, not for f32 ones.
            if (s.result != Type::f16 && s.result != Type::bf16) return {};
            return LtCompute::f32;
        case Type::f64:
            if (s.result != Type::f64) return {};
            return LtCompute::f64;
        case Type::i8:
            if (s.result != Type::i32) return {};
            return LtCompute::i32;
        default: return {};
    }
}

std::optional<LtEpilogue> epilogue_of(const MatmulSpec& s) {
    switch (s.activation) {
        case Activation::none: return s.bias ? LtEpilogue::bias : LtEpilogue::none;
        case Activation::relu: return s.bias ? LtEpilogue::relu_bias : LtEpilogue::relu;
        case Activation::gelu_tanh: return s.bias ? LtEpilogue::gelu_bias : LtEpilogue::gelu;
        default: return {};
    }
}

/// The bias has the result's type.
bool bias_fits(const MatmulSpec& s) { return s.bias_type == s.result; }

/// A stored row-major matrix, seen column by column.
std::optional<LtMatrix> stored(std::int64_t rows, std::int64_t columns, std::int64_t row_stride, std::int64_t batch_stride, Type type) {
    if (rows == 1 && row_stride < columns) row_stride = columns;  // never used
    if (row_stride < columns || batch_stride < 0) return {};
    return LtMatrix{columns, rows, row_stride, batch_stride, type};
}

MatmulSpec with_batches_as_rows(MatmulSpec s) {
    if (s.batch == 1) {
        s.batch_stride_a = s.batch_stride_b = s.batch_stride_d = 0;
        return s;
    }
    if (s.batch_stride_b != 0 || s.transpose_a) return s;
    if (s.m == 1) {  // the stride between rows is free then
        s.row_stride_a = s.batch_stride_a;
        s.row_stride_d = s.batch_stride_d;
    }
    if (s.batch_stride_a == 0 || s.batch_stride_a != s.m * s.row_stride_a || s.batch_stride_d != s.m * s.row_stride_d) return s;
    s.m *= s.batch;
    s.batch = 1;
    s.batch_stride_a = s.batch_stride_d = 0;
    return s;
}

}  // namespace

std::optional<LtProblem> lt_problem(const MatmulSpec& spec) {
    if (spec.m <= 0 || spec.n <= 0 || spec.k <= 0 || spec.batch <= 0) return {};
    const auto compute = compute_of(spec);
    const auto epilogue = epilogue_of(spec);
    if (!compute || !epilogue || (spec.bias && !bias_fits(spec))) return {};
    const bool plain_only = *compute == LtCompute::i32 || *compute == LtCompute::f64;
    if (plain_only && *epilogue != LtEpilogue::none) return {};
    if (*compute == LtCompute::i32 && spec.alpha != std::nearbyint(spec.alpha)) return {};

    const MatmulSpec s = with_batches_as_rows(spec);
    if (s.batch > 1 && s.batch_stride_d == 0) return {};
    const auto a = stored(s.transpose_b ? s.n : s.k, s.transpose_b ? s.k : s.n, s.row_stride_b, s.batch_stride_b, s.type);
    const auto b = stored(s.transpose_a ? s.k : s.m, s.transpose_a ? s.m : s.k, s.row_stride_a, s.batch_stride_a, s.type);
    const auto d = stored(s.m, s.n, s.row_stride_d, s.batch_stride_d, s.result);
    if (!a || !b || !d) return {};
    return LtProblem{.a = *a,
                     .b = *b,
                     .d = *d,
                     .transpose_a = s.transpose_b,
                     .transpose_b = s.transpose_a,
                     .batch = s.batch,
                     .compute = *compute,
                     .epilogue = *epilogue,
                     .bias_type = s.bias_type,
                     .alpha = s.alpha,
                     .beta = s.residual ? 1.0F : 0.0F};
}

}  // namespace ai_vmm::cuda
