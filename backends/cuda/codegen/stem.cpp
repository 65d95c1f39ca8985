// SPDX-License-Identifier: Apache-2.0
#include "codegen/stem.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <string_view>
#include <utility>

#include "codegen/text.hpp"

namespace ai_vmm::cuda {
namespace {

/// Pixels of a row that are a fragment's rows.
constexpr std::int64_t kAcross = 16;
/// Of shared memory: what every device has, less some for the bias.
constexpr std::int64_t kSharedBytes = 47 << 10, kWeightBytes = 34 << 10;
constexpr std::int64_t kWarps = 8;

struct Tile {
    std::int64_t rows = 0, columns = 0;  ///< of the input, under a tile of the result
    std::int64_t elements = 0;           ///< in shared memory, with what fragments read behind it and throw away
};

Tile tile_of(const ConvolutionSpec& spec, const StemPlan& plan) {
    Tile tile;
    tile.rows = (plan.rows() - 1) * spec.stride[0] + (spec.kernel[0] - 1) * spec.dilation[0] + 1;
    tile.columns = (kAcross - 1) * spec.stride[1] + (spec.kernel[1] - 1) * spec.dilation[1] + 1;
    const std::int64_t read = (kAcross - 1) * spec.stride[1] + (plan.depth * 16 / plan.pixel - 1) * spec.dilation[1] + 1;
    tile.elements = rounded_up((tile.rows * tile.columns + std::max<std::int64_t>(read - tile.columns, 0)) * plan.pixel, 8);
    return tile;
}

std::int64_t weight_bytes(const ConvolutionSpec& spec, const StemPlan& plan) { return spec.kernel[0] * plan.depth * 16 * plan.part * 2; }

std::int64_t tiles_of(const ConvolutionSpec& spec, const StemPlan& plan) {
    return spec.batch * divided_up(spec.out[0], plan.rows()) * divided_up(spec.out[1], kAcross);
}

/// Channels per block: as many as are useful, best in 32s, which make stores of whole sectors.
std::int64_t part_of(const ConvolutionSpec& spec, const StemPlan& plan) {
    for (const std::int64_t unit : {32, 16, 8}) {
        for (std::int64_t parts = 1; parts <= spec.channels_out / unit; ++parts) {
            if (spec.channels_out % parts != 0) continue;
            StemPlan with = plan;
            with.part = spec.channels_out / parts;
            if (with.part % unit == 0 && with.part <= 64 && weight_bytes(spec, with) <= kWeightBytes) return with.part;
        }
    }
    return 0;
}

/// Of tile, channels of a part, and what both forms of the kernel know.
constexpr std::string_view kTensorCores = R"SOURCE(
// What `left` of eight products of a fragment's row are of the filter: the others are zero, whatever lies there.
#define @_some(left, at) ((left) >= 8 || 2 * t < (left) ? load4(at) : 0u)
KERNEL(@)(@_P) {
    SHARED words4 weights[STEPS * PART / 8 * 16];
    SHARED words4 memory[TILE_ELEMENTS / 8];
    SHARED f32 start[PART];
    const int warp = THREAD / 32, lane = THREAD % 32, g = lane / 4, t = lane % 4;
    const int beside = warp % ACROSS, first = warp / ACROSS * EACH;
    const int part = (int)(GROUP % PARTS);
    T* tile = (T*)memory;
    for (int e = THREAD; e < STEPS * PART / 8 * 16; e += BLOCK) weights[e] = load16(WEIGHTS + ((idx)part * STEPS * PART * 16 + e * 8));
    for (int e = THREAD; e < PART; e += BLOCK) start[e] = BIAS;
    for (i64 job = (i64)(GROUP / PARTS); job < TILES; job += (i64)(GROUPS / PARTS)) {
        const idx n = (idx)(job / (TILES_DOWN * TILES_ALONG));
        const int y0 = (int)(job / TILES_ALONG % TILES_DOWN) * TILE_ROWS, x0 = (int)(job % TILES_ALONG) * 16;
        BARRIER();
        for (int from = 0; from < IN_ROWS * IN_COLUMNS; from += AT_ONCE * BLOCK) {
            f32 v[AT_ONCE][CHANNELS];
            UNROLL
            for (int u = 0; u < AT_ONCE; ++u) {
                const int e = from + u * BLOCK + THREAD, r = y0 * STRIDE_Y - PAD_Y + e / IN_COLUMNS, c = x0 * STRIDE_X - PAD_X + e % IN_COLUMNS;
                const int inside = e < IN_ROWS * IN_COLUMNS && r >= 0 && r < ROWS && c >= 0 && c < COLUMNS;
                UNROLL
                for (int k = 0; k < CHANNELS; ++k) v[u][k] = inside ? READ(n, k, r, c) : 0;
            }
            UNROLL
            for (int u = 0; u < AT_ONCE; ++u) {
                const int e = from + u * BLOCK + THREAD;
                @_pixel p;
                UNROLL
                for (int k = 0; k < PIXEL; ++k) p.v[k] = TO(k < CHANNELS ? v[u][k < CHANNELS ? k : 0] : 0);
                if (e < IN_ROWS * IN_COLUMNS) STORE_PIXEL(tile + e * PIXEL, p.w);
            }
        }
        BARRIER();
        f32 acc[EACH][WARP_EIGHTS][4];
        UNROLL
        for (int r = 0; r < EACH; ++r) {
            UNROLL
            for (int j = 0; j < WARP_EIGHTS; ++j) {
                const f32* s = start + (beside * WARP_EIGHTS * 8 + j / TOGETHER * TOGETHER * 8 + t * TOGETHER * 2 + j % TOGETHER * 2);
                acc[r][j][0] = acc[r][j][2] = s[0];
                acc[r][j][1] = acc[r][j][3] = s[1];
            }
        }
        const T* under = tile + ((first * STRIDE_Y * IN_COLUMNS + g * STRIDE_X) * PIXEL + 2 * t / PIXEL * DILATION_X * PIXEL + 2 * t % PIXEL);
        UNROLL_ROWS
        for (int i = 0; i < FILTER_ROWS; ++i) {
            UNROLL
            for (int s = 0; s < DEPTH; ++s) {
                u32 b[WARP_EIGHTS][2];
                UNROLL
                for (int j = 0; j < WARP_EIGHTS; j += FETCH) {
                    const @_fetch w = LOAD_FETCH((const T*)weights + ((((i * DEPTH + s) * (PART / 8) + beside * WARP_EIGHTS + j) / FETCH * 32 + lane) * FETCH * 4));
                    UNROLL
                    for (int f = 0; f < FETCH; ++f) {
                        b[j + f][0] = w.w[f * 2];
                        b[j + f][1] = w.w[f * 2 + 1];
                    }
                }
                UNROLL
                for (int r = 0; r < EACH; ++r) {
                    const T* at = under + (((r * STRIDE_Y + i * DILATION_Y) * IN_COLUMNS + s * 16 / PIXEL * DILATION_X) * PIXEL);
                    const int left = FILTER_COLUMNS * PIXEL - s * 16;
                    u32 a[4];
                    a[0] = @_some(left, at);
                    a[1] = @_some(left, at + 8 * STRIDE_X * PIXEL);
                    a[2] = left <= 8 ? 0u : @_some(left - 8, at + 8 / PIXEL * DILATION_X * PIXEL);
                    a[3] = left <= 8 ? 0u : @_some(left - 8, at + (8 * STRIDE_X + 8 / PIXEL * DILATION_X) * PIXEL);
                    UNROLL
                    for (int j = 0; j < WARP_EIGHTS; ++j) @_mma(acc[r][j], a, b[j][0], b[j][1]);
                }
            }
        }
        UNROLL
        for (int r = 0; r < EACH; ++r) {
            UNROLL
            for (int h = 0; h < 2; ++h) {
                const int y = y0 + first + r, x = x0 + g + 8 * h;
                if (y < OUT_ROWS && x < OUT_COLUMNS) {
                    T* to = OUT + (((n * (idx)OUT_ROWS + y) * (idx)OUT_COLUMNS + x) * (idx)OUT_STRIDE + (part * PART + beside * WARP_EIGHTS * 8 + t * TOGETHER * 2));
                    UNROLL
                    for (int q = 0; q < WARP_EIGHTS / TOGETHER; ++q) {
                        @_out o;
                        UNROLL
                        for (int j = 0; j < TOGETHER; ++j) {
                            o.v[2 * j] = TO(@_a(acc[r][q * TOGETHER + j][2 * h]));
                            o.v[2 * j + 1] = TO(@_a(acc[r][q * TOGETHER + j][2 * h + 1]));
                        }
                        STORE_OUT(to + q * TOGETHER * 8, o.w);
                    }
                }
            }
        }
    }
}
#undef @_some
)SOURCE";

/// The same for any device: a thread per element of the result.
constexpr std::string_view kScalar = R"SOURCE(
KERNEL(@)(@_P) {
    const i64 index = (i64)GROUP * BLOCK + THREAD;
    if (index < COUNT) {
        const int channel = (int)(index % (PARTS * PART)), x = (int)(index / (PARTS * PART) % OUT_COLUMNS);
        const int y = (int)(index / (PARTS * PART) / OUT_COLUMNS % OUT_ROWS);
        const idx n = (idx)(index / (PARTS * PART) / OUT_COLUMNS / OUT_ROWS);
        const int part = channel / PART, within = channel % PART % (TOGETHER * 8);
        const int eighth = channel % PART / (TOGETHER * 8) * TOGETHER + within % (TOGETHER * 2) / 2, column = within / (TOGETHER * 2) * 2 + within % 2;
        f32 sum;
        {
            const int e = channel % PART;
            sum = BIAS;
        }
        for (int i = 0; i < FILTER_ROWS; ++i) {
            const int r = y * STRIDE_Y - PAD_Y + i * DILATION_Y;
            for (int j = 0; j < FILTER_COLUMNS; ++j) {
                const int c = x * STRIDE_X - PAD_X + j * DILATION_X;
                if (r < 0 || r >= ROWS || c < 0 || c >= COLUMNS) continue;
                for (int k = 0; k < CHANNELS; ++k) {
                    const int deep = j * PIXEL + k, step = i * DEPTH + deep / 16, lane = column * 4 + deep % 8 / 2;
                    const idx at = (((idx)(part * STEPS + step) * (PART / 8) + eighth) / FETCH * 32 + lane) * (FETCH * 4) + eighth % FETCH * 4 +
                                   deep % 16 / 8 * 2 + deep % 2;
                    sum += FROM(TO(READ(n, k, r, c))) * FROM(WEIGHTS[at]);
                }
            }
        }
        OUT[((n * (idx)OUT_ROWS + y) * (idx)OUT_COLUMNS + x) * (idx)OUT_STRIDE + channel] = TO(@_a(sum));
    }
}
)SOURCE";

/// Eights of channels whose fragments one access gets.
std::int64_t fetched(const StemPlan& plan) { return plan.together >= 2 ? 2 : 1; }

}  // namespace

std::optional<StemPlan> plan_stem(const ConvolutionSpec& spec, const CodegenTarget& target) {
    if ((spec.type != Type::f16 && spec.type != Type::bf16) || spec.groups != 1 || spec.transposed || spec.residual || spec.kernel.size() != 2 ||
        spec.channels_in > 4 || spec.channels_out % 8 != 0 || std::max(spec.in[0], spec.in[1]) >= 1 << 24)
        return std::nullopt;
    StemPlan plan;
    plan.pixel = spec.channels_in <= 2 ? 2 : 4;
    plan.depth = divided_up(spec.kernel[1] * plan.pixel, 16);
    plan.part = part_of(spec, plan);
    if (plan.part == 0) return std::nullopt;
    const std::int64_t eights = plan.part / 8;
    plan.across = eights % 4 == 0 ? 2 : 1;
    plan.each = 4;
    // Filters of more than three rows gain from more rows per warp where there are tiles enough; smaller ones don't.
    const auto fits = [&] { return tile_of(spec, plan).elements * 2 + weight_bytes(spec, plan) <= kSharedBytes; };
    if (plan.across == 1 || spec.kernel[0] <= 3 || !fits() || tiles_of(spec, plan) < 2 * target.multiprocessors) plan.each = 2;
    if (!fits()) plan.each = 1;
    if (!fits()) return std::nullopt;
    const std::int64_t of_warp = eights / plan.across;
    plan.together = of_warp % 4 == 0 ? 4 : of_warp % 2 == 0 ? 2 : 1;
    return plan;
}

bool prefers_stem(const ConvolutionSpec& spec, const CodegenTarget& target) { return target.tensor_cores && plan_stem(spec, target).has_value(); }

Fragments stem_weights(const ConvolutionSpec& spec, const StemPlan& plan) {
    const std::int64_t fetch = fetched(plan), eights = plan.part / 8;
    Fragments out;
    out.dims = {spec.channels_out / plan.part, spec.kernel[0] * plan.depth, eights / fetch, 32, fetch * 4};
    out.body = fmt::format(
        "const idx eighth = i2 * {0} + i4 / 4, column = i3 / 4, deep = i1 % {1} * 16 + i4 % 4 / 2 * 8 + i3 % 4 * 2 + i4 % 2; "
        "const idx channel = i0 * {2} + eighth / {3} * {4} + column / 2 * {5} + eighth % {3} * 2 + column % 2; "
        "return deep / {6} < {7} && deep % {6} < {8} ? in0(channel, deep % {6}, i1 / {1}, deep / {6}) : 0;",
        fetch, plan.depth, plan.part, plan.together, plan.together * 8, plan.together * 2, plan.pixel, spec.kernel[1], spec.channels_in);
    return out;
}

KernelSource stem_kernel(const Graph& graph, const Places& places, const Node& node, const StemPlan& plan, const CodegenTarget& target) {
    const ConvolutionSpec& spec = std::get<Convolution>(node.what).spec;
    const bool fast = has_fast_form(target);
    const Tile tile = tile_of(spec, plan);
    const std::int64_t parts = spec.channels_out / plan.part, fetch = fetched(plan), steps = spec.kernel[0] * plan.depth;
    const auto& place = places[static_cast<std::size_t>(node.outputs.front())];
    const std::int64_t stride = place ? place->strides.back() : spec.channels_out;
    const std::int64_t pixels = spec.batch * elements(spec.out);

    Functions functions(graph, places);
    functions.use({pixels, stride}, {stride, 1});
    functions.use({spec.batch, spec.channels_in, spec.in[0], spec.in[1]}, row_major_strides({spec.batch, spec.channels_in, spec.in[0], spec.in[1]}));
    const std::string read = functions.reader(node.inputs[0]);
    const std::string weights = functions.argument(node.inputs[1], false);
    const std::string bias =
        spec.bias ? load(spec.bias_type, functions.argument(node.inputs[2], false), fmt::format("part * {} + e", plan.part)) : "0";
    const std::string out = functions.argument(node.outputs.front(), true);

    const std::int64_t in_tile = divided_up(tile.rows * tile.columns, target.threads_per_block), rounds = divided_up(in_tile, 6);
    const std::string type(to_string(spec.type));
    const Macros macros{
        {"T", type},
        {"TO", "to_" + type},
        {"FROM", "from_" + type},
        {"MMA_TYPE", spec.type == Type::f16 ? "\"f16\"" : "\"bf16\""},
        {"READ(n, k, r, c)", fmt::format("{}(@_A, n, k, r, c)", read)},
        {"WEIGHTS", weights},
        {"BIAS", bias},
        {"OUT", out},
        {"CHANNELS", std::to_string(spec.channels_in)},
        {"PIXEL", std::to_string(plan.pixel)},
        {"STORE_PIXEL", plan.pixel == 2 ? "store4" : "store8"},
        {"ROWS", std::to_string(spec.in[0])},
        {"COLUMNS", std::to_string(spec.in[1])},
        {"OUT_ROWS", std::to_string(spec.out[0])},
        {"OUT_COLUMNS", std::to_string(spec.out[1])},
        {"OUT_STRIDE", std::to_string(stride)},
        {"FILTER_ROWS", std::to_string(spec.kernel[0])},
        {"FILTER_COLUMNS", std::to_string(spec.kernel[1])},
        {"STRIDE_Y", std::to_string(spec.stride[0])},
        {"STRIDE_X", std::to_string(spec.stride[1])},
        {"DILATION_Y", std::to_string(spec.dilation[0])},
        {"DILATION_X", std::to_string(spec.dilation[1])},
        {"PAD_Y", fmt::format("({})", spec.pad_begin[0])},
        {"PAD_X", fmt::format("({})", spec.pad_begin[1])},
        {"DEPTH", std::to_string(plan.depth)},
        {"STEPS", std::to_string(steps)},
        {"PART", std::to_string(plan.part)},
        {"PARTS", std::to_string(parts)},
        {"ACROSS", std::to_string(plan.across)},
        {"EACH", std::to_string(plan.each)},
        {"WARP_EIGHTS", std::to_string(plan.part / 8 / plan.across)},
        {"TOGETHER", std::to_string(plan.together)},
        {"FETCH", std::to_string(fetch)},
        {"LOAD_FETCH", fetch == 2 ? "load16" : "load8"},
        {"STORE_OUT", plan.together == 4   ? "store16"
                      : plan.together == 2 ? "store8"
                                           : "store4"},
        {"TILE_ROWS", std::to_string(plan.rows())},
        {"TILE_ELEMENTS", std::to_string(tile.elements)},
        {"IN_ROWS", std::to_string(tile.rows)},
        {"IN_COLUMNS", std::to_string(tile.columns)},
        {"AT_ONCE", std::to_string(divided_up(in_tile, rounds))},
        {"TILES", std::to_string(tiles_of(spec, plan))},
        {"TILES_DOWN", std::to_string(divided_up(spec.out[0], plan.rows()))},
        {"TILES_ALONG", std::to_string(divided_up(spec.out[1], kAcross))},
        {"COUNT", fmt::format("{}ll", pixels * spec.channels_out)},
        {"UNROLL_ROWS", steps <= 40 ? "UNROLL" : ""},
    };
    const auto words = [](std::int64_t elements) { return elements == 2 ? "u32" : elements == 4 ? "words2" : "words4"; };
    std::string types = fmt::format("typedef union {{ {} w; {} v[{}]; }} @_pixel;\ntypedef union {{ {} w; {} v[{}]; }} @_out;\ntypedef {} @_fetch;\n",
                                    words(plan.pixel), type, plan.pixel, words(plan.together * 2), type, plan.together * 2, words(fetch * 4));
    types += fmt::format("FUNCTION f32 @_a(f32 x) {{ return {}; }}", activation_expression(spec.activation, spec.result));

    if (!fast) {
        const std::int64_t count = pixels * spec.channels_out;
        return functions.finish(macros.around(types + std::string(kScalar)),
                                groups(divided_up(count, target.threads_per_block), target.threads_per_block));
    }
    // Weights are read once for several tiles.
    const std::int64_t tiles = tiles_of(spec, plan), most = divided_up(std::int64_t{8} * target.multiprocessors, parts);
    const std::int64_t blocks = divided_up(tiles, divided_up(tiles, most));
    return functions.finish(macros.around(types + multiply_add() + std::string(kTensorCores)), groups(blocks * parts, target.threads_per_block));
}

}  // namespace ai_vmm::cuda
