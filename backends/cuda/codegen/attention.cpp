// SPDX-License-Identifier: Apache-2.0
#include "codegen/attention.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <string_view>

#include "codegen/text.hpp"

namespace ai_vmm::cuda {
namespace {

/// The threads' work on a device with tensor cores. Fragments are laid out as the PTX ISA says for mma.m16n8k16: lane = 4 * g + t holds, of an
/// accumulator, columns 2t and 2t + 1 of rows g and g + 8.
constexpr std::string_view kTensorCores = R"SOURCE(
#define @_S (FEATURES + 8)
#define @_NT (KEYS16 / 8)
FUNCTION void @_rows(u32* b0, u32* b1, const T* p) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0, %1}, [%2];" : "=r"(*b0), "=r"(*b1) : "r"((u32)__cvta_generic_to_shared(p)) : "memory");
}
FUNCTION void @_columns(u32* b0, u32* b1, const T* p) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0, %1}, [%2];" : "=r"(*b0), "=r"(*b1) : "r"((u32)__cvta_generic_to_shared(p)) : "memory");
}
FUNCTION f32 @_exp2(f32 x) { f32 r; asm("ex2.approx.f32 %0, %1;" : "=f"(r) : "f"(x)); return r; }
FUNCTION f32 @_score(f32 x, f32 added, int row, int column, int keys) {
    if (column >= keys || (CAUSAL && column > row)) return -F32_INFINITY;
    return x * SCALE + added;
}
KERNEL(@)(PARAMETERS) {
    SHARED words4 memory[PAIRS * 2 * KEYS16 * @_S / 8];
    const int warp = THREAD / 32, lane = THREAD % 32, g = lane / 4, t = lane % 4;
    const int slot = warp / WARPS, part = warp % WARPS;
    const i64 pair = (i64)(GROUP / SPLITS) * PAIRS + slot;
    const int split = (int)(GROUP % SPLITS);
    const int active = pair < COUNT;
    const i64 b = active ? pair / HEADS : 0, h = active ? pair % HEADS : 0;
    T* ks = (T*)memory + slot * 2 * KEYS16 * @_S;
    T* vs = ks + KEYS16 * @_S;
    const T* kp = k + b * KB + h / GROUP_HEADS * KH;
    const T* vp = v + b * VB + h / GROUP_HEADS * VH;
    if (active) for (int e = part * 32 + lane; e < KEYS16 * (FEATURES / 8); e += WARPS * 32) {
        const int row = e / (FEATURES / 8), column = e % (FEATURES / 8) * 8;
        words4 x, y;
        x.w[0] = x.w[1] = x.w[2] = x.w[3] = 0;
        y = x;
        if (row < KEYS) {
            x = load16(kp + (row * (i64)KP + column));
            y = load16(vp + (row * (i64)VP + column));
        }
        store16(ks + row * @_S + column, x);
        store16(vs + row * @_S + column, y);
    }
    BARRIER();
    if (!active) return;
    const T* qp = q + b * QB + h * QH;
    T* op = o + b * OB + h * OH;
    MASK_POINTER
    for (int tile = split * TILES_EACH + part; tile < (split + 1) * TILES_EACH && tile < TILES; tile += WARPS) {
        const int r0 = tile * 16 + g, r1 = r0 + 8;
        u32 a[FEATURES / 16][4];
        UNROLL
        for (int c = 0; c < FEATURES / 16; ++c) {
            a[c][0] = r0 < QUERIES ? *(const u32*)(qp + (r0 * (i64)QP + (c * 16 + 2 * t))) : 0u;
            a[c][1] = r1 < QUERIES ? *(const u32*)(qp + (r1 * (i64)QP + (c * 16 + 2 * t))) : 0u;
            a[c][2] = r0 < QUERIES ? *(const u32*)(qp + (r0 * (i64)QP + (c * 16 + 8 + 2 * t))) : 0u;
            a[c][3] = r1 < QUERIES ? *(const u32*)(qp + (r1 * (i64)QP + (c * 16 + 8 + 2 * t))) : 0u;
        }
        MASK_ROWS
        f32 s[@_NT][4], m0 = -F32_INFINITY, m1 = -F32_INFINITY, l0 = 0, l1 = 0;
        UNROLL
        for (int j = 0; j < @_NT; ++j) {
            s[j][0] = s[j][1] = s[j][2] = s[j][3] = 0;
            UNROLL
            for (int c = 0; c < FEATURES / 16; ++c) {
                u32 b0, b1;
                @_rows(&b0, &b1, ks + ((j * 8 + lane % 8) * @_S + c * 16 + lane / 8 % 2 * 8));
                @_mma(s[j], a[c], b0, b1);
            }
            const int keys = j + 2 < @_NT ? KEYS16 : KEYS;
            UNROLL
            for (int c = 0; c < 2; ++c) {
                const int column = j * 8 + 2 * t + c;
                s[j][c] = @_score(s[j][c], MASK_0, r0, column, keys);
                s[j][2 + c] = @_score(s[j][2 + c], MASK_1, r1, column, keys);
                m0 = fmaxf(m0, s[j][c]);
                m1 = fmaxf(m1, s[j][2 + c]);
            }
        }
        m0 = fmaxf(m0, SHUFFLE_XOR_F32(m0, 1));
        m1 = fmaxf(m1, SHUFFLE_XOR_F32(m1, 1));
        m0 = fmaxf(m0, SHUFFLE_XOR_F32(m0, 2));
        m1 = fmaxf(m1, SHUFFLE_XOR_F32(m1, 2));
        if (m0 == -F32_INFINITY) m0 = 0;
        if (m1 == -F32_INFINITY) m1 = 0;
        UNROLL
        for (int j = 0; j < @_NT; ++j) {
            UNROLL
            for (int c = 0; c < 2; ++c) {
                s[j][c] = @_exp2((s[j][c] - m0) * 1.4426950408889634f);
                s[j][2 + c] = @_exp2((s[j][2 + c] - m1) * 1.4426950408889634f);
                l0 += s[j][c];
                l1 += s[j][2 + c];
            }
        }
        l0 += SHUFFLE_XOR_F32(l0, 1);
        l1 += SHUFFLE_XOR_F32(l1, 1);
        l0 += SHUFFLE_XOR_F32(l0, 2);
        l1 += SHUFFLE_XOR_F32(l1, 2);
        const f32 w0 = 1.0f / l0, w1 = 1.0f / l1;
        f32 r[FEATURES / 8][4];
        UNROLL
        for (int n = 0; n < FEATURES / 8; ++n) r[n][0] = r[n][1] = r[n][2] = r[n][3] = 0;
        UNROLL
        for (int j = 0; j < @_NT / 2; ++j) {
            u32 p[4];
            p[0] = PACK(TO(s[2 * j][0]), TO(s[2 * j][1]));
            p[1] = PACK(TO(s[2 * j][2]), TO(s[2 * j][3]));
            p[2] = PACK(TO(s[2 * j + 1][0]), TO(s[2 * j + 1][1]));
            p[3] = PACK(TO(s[2 * j + 1][2]), TO(s[2 * j + 1][3]));
            UNROLL
            for (int n = 0; n < FEATURES / 8; ++n) {
                u32 b0, b1;
                @_columns(&b0, &b1, vs + ((j * 16 + lane % 16) * @_S + n * 8));
                @_mma(r[n], p, b0, b1);
            }
        }
        UNROLL
        for (int n = 0; n < FEATURES / 8; ++n) {
            if (r0 < QUERIES) *(u32*)(op + (r0 * (i64)OP + (n * 8 + 2 * t))) = PACK(TO(r[n][0] * w0), TO(r[n][1] * w0));
            if (r1 < QUERIES) *(u32*)(op + (r1 * (i64)OP + (n * 8 + 2 * t))) = PACK(TO(r[n][2] * w1), TO(r[n][3] * w1));
        }
    }
}
)SOURCE";

/// The same for any device: a thread per query.
constexpr std::string_view kScalar = R"SOURCE(
KERNEL(@)(PARAMETERS) {
    const i64 index = (i64)GROUP * BLOCK + THREAD;
    if (index >= (i64)COUNT * QUERIES) return;
    const i64 b = index / ((i64)HEADS * QUERIES), h = index / QUERIES % HEADS;
    const int row = (int)(index % QUERIES);
    const T* qp = q + (b * QB + h * QH + row * (i64)QP);
    const T* kp = k + (b * KB + h / GROUP_HEADS * KH);
    const T* vp = v + (b * VB + h / GROUP_HEADS * VH);
    T* op = o + (b * OB + h * OH + row * (i64)OP);
    MASK_POINTER
    f32 s[KEYS], most = -F32_INFINITY, sum = 0;
    for (int column = 0; column < KEYS; ++column) {
        f32 x = 0;
        for (int f = 0; f < FEATURES; ++f) x += FROM(qp[f]) * FROM(kp[column * (i64)KP + f]);
        x = CAUSAL && column > row ? -F32_INFINITY : x * SCALE MASK_TERM;
        s[column] = x;
        most = x > most || x != x ? x : most;
    }
    if (most == -F32_INFINITY) most = 0;
    for (int column = 0; column < KEYS; ++column) {
        s[column] = expf(s[column] - most);
        sum += s[column];
    }
    for (int f = 0; f < FEATURES; ++f) {
        f32 x = 0;
        for (int column = 0; column < KEYS; ++column) x += s[column] * FROM(vp[column * (i64)VP + f]);
        op[f] = TO(x / sum);
    }
}
)SOURCE";

}  // namespace

KernelSource attention_kernel(const Node& node, const AttentionSpec& spec, std::string text, Macros macros, const Launch& launch) {
    const std::string type(to_string(spec.type));
    std::string parameters = fmt::format("const {0}* RESTRICT q, const {0}* RESTRICT k, const {0}* RESTRICT v, ", type), mask_pointer;
    if (spec.mask) {
        const auto stride = [&](std::size_t d) { return spec.mask_dims[d] == 1 ? 0 : spec.mask_strides[d]; };
        parameters += fmt::format("const {}* RESTRICT mask, ", type);
        mask_pointer = fmt::format("const T* mp = mask + (b % {} * (i64){} + h * (i64){});", spec.mask_dims[0], stride(0), stride(1));
    }
    parameters += fmt::format("{}* RESTRICT o{}", type, launch.limit ? ", const i64 limit_" : "");
    const auto length = [&](std::int64_t value) { return launch.limit ? std::string("((int)limit_)") : std::to_string(value); };
    replace_all(text, "PARAMETERS", parameters);
    replace_all(text, "MASK_POINTER", mask_pointer);
    const std::pair<const char*, std::string> shared[] = {
        {"T", type},
        {"TO", "to_" + type},
        {"FROM", "from_" + type},
        {"KEYS", length(spec.keys)},
        {"QUERIES", length(spec.queries)},
        {"FEATURES", std::to_string(spec.head_size)},
        {"HEADS", std::to_string(spec.heads)},
        {"GROUP_HEADS", std::to_string(spec.heads / spec.kv_heads)},
        {"COUNT", std::to_string(spec.batch * spec.heads)},
        {"SCALE", literal(Type::f32, spec.scale)},
        {"CAUSAL", spec.causal ? "1" : "0"},
    };
    for (const auto& [name, value] : shared) macros.define(name, value);
    const std::pair<const char*, const Dims*> strides[] = {
        {"Q", &spec.q_strides}, {"K", &spec.k_strides}, {"V", &spec.v_strides}, {"O", &spec.o_strides}};
    for (const auto& [of, all] : strides) {
        constexpr const char* kLetters[] = {"B", "H", "P"};
        for (std::size_t d = 0; d < 3; ++d) {
            const bool matters = d > 0 || spec.batch > 1;
            macros.define(fmt::format("{}{}", of, kLetters[d]), fmt::format("((i64){})", matters ? (*all)[d] : 0));
        }
    }
    KernelSource out;
    out.text = macros.around(text);
    out.arguments = {node.inputs[0], node.inputs[1], node.inputs[2]};
    if (spec.mask) out.arguments.push_back(node.inputs[3]);
    out.arguments.push_back(node.outputs.front());
    out.launch = launch;
    return out;
}

bool prefers_short_attention(const AttentionSpec& spec, const CodegenTarget& target) {
    if (!is_short_attention(spec)) return false;
    const std::int64_t tiles = spec.batch * spec.heads * ((spec.queries + 15) / 16);
    return spec.keys <= 64 || is_narrow_attention(spec) ||
           (has_fast_form(spec, target) && tiles <= 2 * static_cast<std::int64_t>(target.multiprocessors));
}

Fragments mask_fragments(const AttentionSpec& spec, const Dims& mask) {
    const std::int64_t tiles = (spec.queries + 15) / 16, columns = (spec.keys + 15) / 16 * 16;
    Fragments out;
    out.dims = {mask[0], mask[1], tiles, 32, columns / 2};
    out.body = fmt::format(
        "const idx row = i2 * 16 + i3 / 4 + i4 % 4 / 2 * 8, column = i4 / 4 * 8 + i3 % 4 * 2 + i4 % 2; return row < (idx){} && column < (idx){} ? "
        "in0(i0, "
        "i1, {}, {}) : 0;",
        spec.queries, spec.keys, mask[2] == 1 ? "0" : "row", mask[3] == 1 ? "0" : "column");
    return out;
}

bool has_fast_form(const AttentionSpec& spec, const CodegenTarget& target) { return has_fast_form(target) && !is_narrow_attention(spec); }

bool fits_short_attention(const Dims& strides, std::int64_t offset) {
    return strides.size() == 4 && strides[3] == 1 && offset % 8 == 0 &&
           std::all_of(strides.begin(), strides.end() - 1, [](std::int64_t stride) { return stride % 8 == 0; });
}

KernelSource short_attention_kernel(const Node& node, const AttentionSpec& spec, bool mask_in_fragments, const CodegenTarget& target) {
    const bool fast = has_fast_form(spec, target);
    const std::int64_t count = spec.batch * spec.heads, tiles = (spec.queries + 15) / 16, keys = (spec.keys + 15) / 16 * 16;
    // A block has eight warps. Windows share a block; a pair of few tiles on an idle device is spread over blocks instead.
    std::int64_t warps = 1, pairs = 8, splits = 1;
    while (warps < 8 && warps < tiles) warps *= 2;
    const std::int64_t pair_bytes = 2 * keys * (spec.head_size + 8) * 2;
    while (8 / warps * pair_bytes > 40 << 10 && warps < 8) warps *= 2;
    if (count * tiles <= 4 * static_cast<std::int64_t>(target.multiprocessors)) {
        warps = 8;
        splits = tiles;
    }
    pairs = 8 / warps;
    const std::int64_t each = divided_up(tiles, splits);

    std::string text = fast ? multiply_add() + std::string(kTensorCores) : std::string(kScalar);
    std::string mask_rows, mask_0 = "0", mask_1 = "0", mask_term;
    const std::string type(to_string(spec.type));
    if (spec.mask) {
        const auto stride = [&](std::size_t d) { return spec.mask_dims[d] == 1 ? 0 : spec.mask_strides[d]; };
        mask_term = fmt::format("+ from_{}(mp[row * (i64){} + column * (i64){}])", type, stride(2), stride(3));
        if (mask_in_fragments) {
            // Whole fragments side by side per lane: accesses of 16 bytes, all of a warp's together.
            mask_rows = fmt::format(
                "words4 mw[@_NT / 2]; for (int j = 0; j < @_NT / 2; ++j) mw[j] = load16(mp + (((tile * 32 + lane) * @_NT + 2 * j) * 4));");
            const auto half = [&](int row) {
                return fmt::format("from_{0}(c == 0 ? low_{0}(mw[j / 2].w[j % 2 * 2 + {1}]) : high_{0}(mw[j / 2].w[j % 2 * 2 + {1}]))", type, row);
            };
            mask_0 = half(0);
            mask_1 = half(1);
        } else {
            // Rows beyond the last query are computed and thrown away: they read what the last one does.
            mask_rows = fmt::format(
                "const T* m0p = mp + (r0 < QUERIES ? r0 : QUERIES - 1) * (i64){0}; const T* m1p = mp + (r1 < QUERIES ? r1 : QUERIES - 1) * (i64){0};",
                stride(2));
            mask_0 = fmt::format("column < keys ? from_{}(m0p[column * {}]) : 0", type, stride(3));
            mask_1 = fmt::format("column < keys ? from_{}(m1p[column * {}]) : 0", type, stride(3));
        }
    }
    const std::pair<std::string_view, std::string> names[] = {
        {"MASK_ROWS", mask_rows}, {"MASK_0", mask_0}, {"MASK_1", mask_1}, {"MASK_TERM", mask_term}};
    for (const auto& [name, by] : names) replace_all(text, name, by);
    Macros macros{
        {"PACK", "pack_" + type},
        {"MMA_TYPE", spec.type == Type::f16 ? "\"f16\"" : "\"bf16\""},
        {"KEYS16", std::to_string(keys)},
        {"TILES", std::to_string(tiles)},
        {"TILES_EACH", std::to_string(each)},
        {"SPLITS", std::to_string(splits)},
        {"PAIRS", std::to_string(pairs)},
        {"WARPS", std::to_string(warps)},
    };
    const std::int64_t blocks = fast ? divided_up(count, pairs) * splits : divided_up(count * spec.queries, target.threads_per_block);
    Launch launch = groups(blocks, target.threads_per_block);
    // Lengths that end within a tile are told when they run, so that all in the same tile have the same kernel; whole tiles are compared with
    // nothing.
    if (fast && spec.keys == spec.queries && spec.keys != keys) launch.limit = spec.keys;
    return attention_kernel(node, spec, std::move(text), std::move(macros), launch);
}

}  // namespace ai_vmm::cuda
