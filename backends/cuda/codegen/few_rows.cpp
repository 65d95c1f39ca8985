// SPDX-License-Identifier: Apache-2.0
#include "codegen/few_rows.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <string_view>

namespace ai_vmm::cuda {
namespace {

constexpr std::int64_t kWarps = 8, kColumns = 16;

/// The matrix goes by the first cache, which keeps the rows.
constexpr std::string_view kLoads = R"SOURCE(
FUNCTION words4 @_load16(const void* p) {
    words4 r;
    asm volatile("ld.global.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];" : "=r"(r.w[0]), "=r"(r.w[1]), "=r"(r.w[2]), "=r"(r.w[3]) : "l"(p));
    return r;
}
FUNCTION words2 @_load8(const void* p) {
    words2 r;
    asm volatile("ld.global.L1::no_allocate.v2.u32 {%0, %1}, [%2];" : "=r"(r.w[0]), "=r"(r.w[1]) : "l"(p));
    return r;
}
)SOURCE";

/// Four lanes take neighbouring elements of a column, and the same of a row, so that every access is one of 16 bytes: the order along k is another
/// than the fragments' own, but the same on both sides. Warps take turns along k.
constexpr std::string_view kSource = R"SOURCE(
KERNEL(@)(@_P) {
    SHARED f32 parts[8 * COLUMNS * ROWS];
    const int warp = THREAD / 32, lane = THREAD % 32, g = lane / 4, t = lane % 4;
    const i64 first = (i64)GROUP * COLUMNS;
    idx columns[TILES][2];
    f32 acc[TILES][4];
    UNROLL
    for (int i = 0; i < TILES; ++i) {
        UNROLL
        for (int h = 0; h < 2; ++h) {
            const i64 column = first + i * 16 + h * 8 + g;
            columns[i][h] = (idx)(column < N ? column : N - 1);
        }
        acc[i][0] = acc[i][1] = acc[i][2] = acc[i][3] = 0;
    }
    for (idx base = warp * STEP; base < (idx)K; base += 8 * DEPTH * STEP) {
        @_raw q[DEPTH][TILES][2];
        words4 x[DEPTH][TOGETHER / 8];
        UNROLL
        for (int u = 0; u < DEPTH; ++u) {
            const idx e = base + u * 8 * STEP + t * TOGETHER;
            if (e < (idx)K) {
                UNROLL
                for (int i = 0; i < TILES; ++i) {
                    UNROLL
                    for (int h = 0; h < 2; ++h) q[u][i][h] = @_fetch(@_A, columns[i][h], e);
                }
            }
            UNROLL
            for (int c = 0; c < TOGETHER / 8; ++c) {
                if (e < (idx)K && g < ROWS) x[u][c] = load16(X + (g * (idx)STRIDE + e + c * 8));
                else x[u][c].w[0] = x[u][c].w[1] = x[u][c].w[2] = x[u][c].w[3] = 0;
            }
        }
        UNROLL
        for (int u = 0; u < DEPTH; ++u) {
            const int inside = base + u * 8 * STEP + t * TOGETHER < (idx)K;
            UNROLL
            for (int i = 0; i < TILES; ++i) {
                u32 both[2][TOGETHER / 2];
                UNROLL
                for (int h = 0; h < 2; ++h) {
                    @_unpack(both[h], q[u][i][h]);
                    UNROLL
                    for (int v = 0; v < TOGETHER / 2; ++v) both[h][v] = inside ? both[h][v] : 0;
                }
                UNROLL
                for (int s = 0; s < TOGETHER / 4; ++s) {
                    const u32 a[4] = {both[0][2 * s], both[1][2 * s], both[0][2 * s + 1], both[1][2 * s + 1]};
                    @_mma(acc[i], a, x[u][s / 2].w[s % 2 * 2], x[u][s / 2].w[s % 2 * 2 + 1]);
                }
            }
        }
    }
    UNROLL
    for (int i = 0; i < TILES; ++i) {
        UNROLL
        for (int v = 0; v < 4; ++v) {
            const int r = 2 * t + v % 2;
            if (r < ROWS) parts[(warp * ROWS + r) * COLUMNS + i * 16 + v / 2 * 8 + g] = acc[i][v];
        }
    }
    BARRIER();
    for (int at = THREAD; at < COLUMNS * ROWS; at += BLOCK) {
        const int r = at / COLUMNS;
        const i64 column64 = first + at % COLUMNS;
        if (column64 < N) {
            const idx column = (idx)column64;
            f32 total = 0;
            UNROLL
            for (int w = 0; w < 8; ++w) total += parts[w * COLUMNS * ROWS + at];
            const f32 d = @_a(SUM);
            STORE
        }
    }
}
)SOURCE";

}  // namespace

bool on_tensor_cores(const MatmulSpec& spec, const CodegenTarget& target) {
    return has_fast_form(target) && (spec.type == Type::f16 || spec.type == Type::bf16) && spec.m >= 2 && spec.m <= 8 && spec.k % 8 == 0 &&
           spec.k >= kWarps * 32 && spec.n >= kColumns * target.multiprocessors / 2;
}

KernelSource few_rows_kernel(const MatmulSpec& spec, const FewRows& what, const Functions& functions, const CodegenTarget& target) {
    const std::int64_t tiles = 1, columns = tiles * kColumns;
    const std::string type(to_string(spec.type));
    const Macros macros{
        {"T", type},
        {"MMA_TYPE", spec.type == Type::f16 ? "\"f16\"" : "\"bf16\""},
        {"ROWS", std::to_string(spec.m)},
        {"N", fmt::format("{}ll", spec.n)},
        {"K", std::to_string(spec.k)},
        {"STRIDE", std::to_string(spec.row_stride_a)},
        {"TILES", std::to_string(tiles)},
        {"COLUMNS", std::to_string(columns)},
        {"TOGETHER", std::to_string(what.together)},
        {"STEP", std::to_string(4 * what.together)},
        {"DEPTH", std::to_string(std::max<std::int64_t>(2, 32 / what.together))},
        {"X", what.x},
        {"SUM", what.sum},
        {"STORE", what.store},
    };
    const std::string activation = fmt::format("FUNCTION f32 @_a(f32 x) {{ return {}; }}", activation_expression(spec.activation, spec.result));
    return functions.finish(macros.around(activation + multiply_add() + std::string(kLoads) + what.column + std::string(kSource)),
                            groups(divided_up(spec.n, columns), target.threads_per_block));
}

}  // namespace ai_vmm::cuda
