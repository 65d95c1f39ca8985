// SPDX-License-Identifier: Apache-2.0
#include "codegen/few_queries.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <string_view>
#include <utility>

#include "codegen/attention.hpp"
#include "codegen/text.hpp"

namespace ai_vmm::cuda {
namespace {

constexpr std::int64_t kMostQueries = 4, kMostFeatures = 256;

// LANES lanes have a key's VECTORS * LANES vectors of eight features, VALUE_LANES and VALUE_VECTORS a value's; AT_ONCE keys are on their way per
// lane.
constexpr std::string_view kText = R"SOURCE(
#define @_WARPS (BLOCK / WARP)
#define @_GROUPS (BLOCK / LANES)
#define @_VALUE_GROUPS (BLOCK / VALUE_LANES)
FUNCTION words4 @_load(const T* p, int there) {
    words4 w;
    w.w[0] = w.w[1] = w.w[2] = w.w[3] = 0;
    if (there) w = load16(p);
    return w;
}
KERNEL(@)(PARAMETERS) {
    SHARED f32 scores[QUERIES * CHUNK];
    SHARED f32 parts[@_VALUE_GROUPS * VALUE_FEATURES];
    SHARED f32 warps[QUERIES * @_WARPS];
    const int lane = THREAD % LANES, group = THREAD / LANES, value_lane = THREAD % VALUE_LANES, value_group = THREAD / VALUE_LANES;
    if ((i64)GROUP >= COUNT) return;
    const i64 b = (i64)GROUP / HEADS, h = (i64)GROUP % HEADS;
    const T* qp = q + b * QB + h * QH;
    const T* kp = k + b * KB + h / GROUP_HEADS * KH;
    const T* vp = v + b * VB + h / GROUP_HEADS * VH;
    T* op = o + b * OB + h * OH;
    MASK_POINTER
    f32 query[QUERIES][VECTORS * 8], top[QUERIES], total[QUERIES], sum[QUERIES][VALUE_VECTORS * 8];
    UNROLL
    for (int r = 0; r < QUERIES; ++r) {
        UNROLL
        for (int i = 0; i < VECTORS; ++i) {
            const int at = (lane + i * LANES) * 8;
            const words4 w = @_load(qp + (r * (i64)QP + at), at < FEATURES);
            UNROLL
            for (int u = 0; u < 4; ++u) {
                query[r][i * 8 + 2 * u] = FROM(LOW(w.w[u]));
                query[r][i * 8 + 2 * u + 1] = FROM(HIGH(w.w[u]));
            }
        }
        top[r] = -F32_INFINITY;
        total[r] = 0;
        UNROLL
        for (int i = 0; i < VALUE_VECTORS * 8; ++i) sum[r][i] = 0;
    }
    for (i64 from = 0; from < KEYS; from += CHUNK) {
        const int count = KEYS - from < CHUNK ? (int)(KEYS - from) : CHUNK;
        for (int base = 0; base < count; base += AT_ONCE * @_GROUPS) {
            words4 w[AT_ONCE][VECTORS];
            UNROLL
            for (int j = 0; j < AT_ONCE; ++j) {
                const int key = base + j * @_GROUPS + group;
                UNROLL
                for (int i = 0; i < VECTORS; ++i) {
                    const int at = (lane + i * LANES) * 8;
                    w[j][i] = @_load(kp + ((from + key) * (i64)KP + at), key < count && at < FEATURES);
                }
            }
            UNROLL
            for (int j = 0; j < AT_ONCE; ++j) {
                const int key = base + j * @_GROUPS + group;
                UNROLL
                for (int r = 0; r < QUERIES; ++r) {
                    f32 dot = 0;
                    UNROLL
                    for (int i = 0; i < VECTORS * 4; ++i) {
                        dot += query[r][2 * i] * FROM(LOW(w[j][i / 4].w[i % 4]));
                        dot += query[r][2 * i + 1] * FROM(HIGH(w[j][i / 4].w[i % 4]));
                    }
                    for (int s = LANES / 2; s > 0; s >>= 1) dot += SHUFFLE_XOR_F32(dot, s);
                    if (key < count && lane == 0) scores[r * CHUNK + key] = CAUSAL && from + key > r ? -F32_INFINITY : dot * SCALE MASK_TERM;
                }
            }
        }
        BARRIER();
        UNROLL
        for (int r = 0; r < QUERIES; ++r) {
            f32 most = -F32_INFINITY;
            for (int key = THREAD; key < count; key += BLOCK) most = fmaxf(most, scores[r * CHUNK + key]);
            for (int s = WARP / 2; s > 0; s >>= 1) most = fmaxf(most, SHUFFLE_XOR_F32(most, s));
            if (THREAD % WARP == 0) warps[r * @_WARPS + THREAD / WARP] = most;
        }
        BARRIER();
        UNROLL
        for (int r = 0; r < QUERIES; ++r) {
            f32 most = top[r];
            for (int w = 0; w < @_WARPS; ++w) most = fmaxf(most, warps[r * @_WARPS + w]);
            // Where all so far are masked there is nothing to be far from.
            const f32 level = most == -F32_INFINITY ? 0 : most, carried = expf(top[r] - level);
            top[r] = most;
            total[r] *= carried;
            UNROLL
            for (int i = 0; i < VALUE_VECTORS * 8; ++i) sum[r][i] *= carried;
            for (int key = THREAD; key < count; key += BLOCK) {
                const f32 p = expf(scores[r * CHUNK + key] - level);
                scores[r * CHUNK + key] = p;
                total[r] += p;
            }
        }
        BARRIER();
        for (int base = 0; base < count; base += AT_ONCE * @_VALUE_GROUPS) {
            words4 w[AT_ONCE][VALUE_VECTORS];
            UNROLL
            for (int j = 0; j < AT_ONCE; ++j) {
                const int key = base + j * @_VALUE_GROUPS + value_group;
                UNROLL
                for (int i = 0; i < VALUE_VECTORS; ++i) {
                    const int at = (value_lane + i * VALUE_LANES) * 8;
                    w[j][i] = @_load(vp + ((from + key) * (i64)VP + at), key < count && at < VALUE_FEATURES);
                }
            }
            UNROLL
            for (int j = 0; j < AT_ONCE; ++j) {
                const int key = base + j * @_VALUE_GROUPS + value_group;
                UNROLL
                for (int r = 0; r < QUERIES; ++r) {
                    const f32 p = key < count ? scores[r * CHUNK + key] : 0;
                    UNROLL
                    for (int i = 0; i < VALUE_VECTORS * 4; ++i) {
                        sum[r][2 * i] += p * FROM(LOW(w[j][i / 4].w[i % 4]));
                        sum[r][2 * i + 1] += p * FROM(HIGH(w[j][i / 4].w[i % 4]));
                    }
                }
            }
        }
        BARRIER();
    }
    UNROLL
    for (int r = 0; r < QUERIES; ++r) {
        f32 all = total[r];
        for (int s = WARP / 2; s > 0; s >>= 1) all += SHUFFLE_XOR_F32(all, s);
        if (THREAD % WARP == 0) warps[r * @_WARPS + THREAD / WARP] = all;
        UNROLL
        for (int i = 0; i < VALUE_VECTORS * 8; ++i) {
            const int at = (value_lane + i / 8 * VALUE_LANES) * 8 + i % 8;
            if (at < VALUE_FEATURES) parts[value_group * VALUE_FEATURES + at] = sum[r][i];
        }
        BARRIER();
        for (int f = THREAD; f < VALUE_FEATURES; f += BLOCK) {
            f32 x = 0, by = 0;
            for (int g = 0; g < @_VALUE_GROUPS; ++g) x += parts[g * VALUE_FEATURES + f];
            for (int w = 0; w < @_WARPS; ++w) by += warps[r * @_WARPS + w];
            op[r * (i64)OP + f] = TO(x / by);
        }
        BARRIER();
    }
}
)SOURCE";

}  // namespace

bool has_few_queries(const AttentionSpec& spec) {
    const auto fits = [](std::int64_t features) { return features >= 8 && features % 8 == 0 && features <= kMostFeatures; };
    return (spec.type == Type::f16 || spec.type == Type::bf16) && spec.queries >= 1 && spec.queries <= kMostQueries && spec.keys >= 1 &&
           fits(spec.head_size) && fits(spec.value_size);
}

KernelSource few_queries_kernel(const Node& node, const AttentionSpec& spec, const CodegenTarget& target) {
    // On one thread a lane has all features.
    const std::int64_t most_lanes = std::min<std::int64_t>(32, target.threads_per_block);
    const auto lanes = [&](std::int64_t features) { return std::min<std::int64_t>(most_lanes, power_of_two_at_least(features / 8)); };
    const std::int64_t key_lanes = lanes(spec.head_size), value_lanes = lanes(spec.value_size);

    std::string text(kText), mask_term;
    const std::string type(to_string(spec.type));
    if (spec.mask) {
        const auto stride = [&](std::size_t d) { return spec.mask_dims[d] == 1 ? 0 : spec.mask_strides[d]; };
        mask_term = fmt::format("+ from_{}(mp[r * (i64){} + (from + key) * (i64){}])", type, stride(2), stride(3));
    }
    replace_all(text, "MASK_TERM", mask_term);
    Macros macros{
        {"LOW", "low_" + type},
        {"HIGH", "high_" + type},
        {"CHUNK", std::to_string(std::min<std::int64_t>(spec.keys, 1024))},
        {"VALUE_FEATURES", std::to_string(spec.value_size)},
        {"LANES", std::to_string(key_lanes)},
        {"VALUE_LANES", std::to_string(value_lanes)},
        {"VECTORS", std::to_string(divided_up(spec.head_size / 8, key_lanes))},
        {"VALUE_VECTORS", std::to_string(divided_up(spec.value_size / 8, value_lanes))},
        {"AT_ONCE", "4"},
    };
    return attention_kernel(node, spec, std::move(text), std::move(macros), groups(spec.batch * spec.heads, target.threads_per_block));
}

}  // namespace ai_vmm::cuda
