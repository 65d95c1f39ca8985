// SPDX-License-Identifier: Apache-2.0
#include "codegen/pixel_products.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <string_view>
#include <utility>

#include "codegen/text.hpp"

namespace ai_vmm::cuda {
namespace {

constexpr std::int64_t kWarps = 8, kMostChannels = 128;
/// Of 1x1 convolutions that cuDNN takes longer for, and of their results that something is added to (on an H200; more were tried up to
/// kMostChannels).
constexpr std::int64_t kMostPointwise = 80, kMostAdded = 64;
constexpr std::int64_t kEights = PixelPlan::kWarpColumns / 8;

/// Elements of a pixel in shared memory: rows that start 16 bytes further in the banks each.
std::int64_t pitch(const PixelPlan& plan) { return plan.depth * 16 + 8; }

/// Lanes store eight columns side by side: those of EIGHTS products of eight columns each.
constexpr std::string_view kTensorCores = R"SOURCE(
FUNCTION void @_matrix(u32* a, const T* p) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
        : "=r"(a[0]), "=r"(a[1]), "=r"(a[2]), "=r"(a[3]) : "r"((u32)__cvta_generic_to_shared(p)) : "memory");
}
FUNCTION void @_copy(T* to, const T* from, int inside) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" :: "r"((u32)__cvta_generic_to_shared(to)), "l"(from), "r"(inside ? 16 : 0) : "memory");
}
FUNCTION void @_commit(void) { asm volatile("cp.async.commit_group;" ::: "memory"); }
FUNCTION void @_wait(void) { asm volatile("cp.async.wait_group 1;" ::: "memory"); }
FUNCTION void @_fetch(T* to, const T* x, i64 job) {
    UNROLL
    for (int u = 0; u < TILE * (CHANNELS / 8); u += BLOCK) {
        const int e = u + THREAD, row = e / (CHANNELS / 8), c = e % (CHANNELS / 8) * 8;
        const i64 pixel = job * TILE + row;
        if (e < TILE * (CHANNELS / 8)) @_copy(to + row * PITCH + c, x + ((idx)(pixel < PIXELS ? pixel : 0) * (idx)CHANNELS + c), pixel < PIXELS);
    }
}
KERNEL(@)(@_P) {
    SHARED words4 memory[2 * TILE * PITCH / 8];
    const int warp = THREAD / 32, lane = THREAD % 32, g = lane / 4, t = lane % 4;
    const int beside = warp % ACROSS, column = ((int)(GROUP % PARTS) * ACROSS + beside) * EIGHTS * 8;
    T* tiles = (T*)memory;
    if (CHANNELS % 16 != 0) {
        words4 zero;
        zero.w[0] = zero.w[1] = zero.w[2] = zero.w[3] = 0;
        for (int e = THREAD; e < 2 * TILE; e += BLOCK) store16(tiles + (e * PITCH + CHANNELS), zero);
    }
    const i64 step = (i64)(GROUPS / PARTS);
    i64 job = (i64)(GROUP / PARTS);
    @_fetch(tiles, X, job);
    @_commit();
    u32 b[DEPTH][EIGHTS][2];
    UNROLL
    for (int s = 0; s < DEPTH; ++s) {
        UNROLL
        for (int j = 0; j < EIGHTS; j += 2) {
            const words4 w = load16(WEIGHTS + (((((int)(GROUP % PARTS) * ACROSS + beside) * DEPTH + s) * (EIGHTS / 2) + j / 2) * 32 + lane) * 8);
            b[s][j][0] = w.w[0];
            b[s][j][1] = w.w[1];
            b[s][j + 1][0] = w.w[2];
            b[s][j + 1][1] = w.w[3];
        }
    }
    const int first = column + t * EIGHTS * 2, channel = first % OUT_CHANNELS;
    f32 start[EIGHTS * 2];
    UNROLL
    for (int j = 0; j < EIGHTS * 2; ++j) {
        const int e = channel + j;
        start[j] = first < COLUMNS ? BIAS : 0;
    }
    const idx to = first < COLUMNS ? COLUMN_OFFSET : -1;
    for (int buffer = 0; job < JOBS; job += step, buffer ^= 1) {
        if (job + step < JOBS) @_fetch(tiles + (buffer ^ 1) * TILE * PITCH, X, job + step);
        @_commit();
        @_wait();
        BARRIER();
        const T* tile = tiles + buffer * TILE * PITCH;
        for (int m = warp / ACROSS; m < TILE / 16; m += 8 / ACROSS) {
            f32 acc[EIGHTS][4];
            UNROLL
            for (int j = 0; j < EIGHTS; ++j) {
                acc[j][0] = acc[j][2] = start[2 * j];
                acc[j][1] = acc[j][3] = start[2 * j + 1];
            }
            words4 added[2];
            if (RESIDUAL) {
                UNROLL
                for (int h = 0; h < 2; ++h) {
                    const i64 pixel = job * TILE + m * 16 + g + 8 * h;
                    if (pixel < PIXELS && to >= 0) added[h] = load16(RESIDUAL_AT);
                }
            }
            UNROLL
            for (int s = 0; s < DEPTH; ++s) {
                u32 a[4];
                @_matrix(a, tile + ((m * 16 + lane % 16) * PITCH + s * 16 + lane / 16 * 8));
                UNROLL
                for (int j = 0; j < EIGHTS; ++j) @_mma(acc[j], a, b[s][j][0], b[s][j][1]);
            }
            UNROLL
            for (int h = 0; h < 2; ++h) {
                const i64 pixel = job * TILE + m * 16 + g + 8 * h;
                if (pixel < PIXELS && to >= 0) {
                    @_out o;
                    UNROLL
                    for (int j = 0; j < EIGHTS; ++j) {
                        o.v[2 * j] = TO(@_a(acc[j][2 * h] + (RESIDUAL ? FROM(LOW(added[h].w[j])) : 0)));
                        o.v[2 * j + 1] = TO(@_a(acc[j][2 * h + 1] + (RESIDUAL ? FROM(HIGH(added[h].w[j])) : 0)));
                    }
                    store16(OUT + PIXEL_OFFSET + to, o.w);
                }
            }
        }
        BARRIER();
    }
}
)SOURCE";

/// The same for any device: a thread per element of the result.
constexpr std::string_view kScalar = R"SOURCE(
KERNEL(@)(@_P) {
    const i64 index = (i64)GROUP * BLOCK + THREAD;
    if (index < (i64)PIXELS * COLUMNS) {
        const int first = (int)(index % COLUMNS), warp = first / (EIGHTS * 8), within = first % (EIGHTS * 8), e = first % OUT_CHANNELS, channel = e;
        const int eighth = within % (EIGHTS * 2) / 2, column = within / (EIGHTS * 2) * 2 + within % 2;
        const i64 pixel = index / COLUMNS;
        f32 sum = BIAS;
        for (int c = 0; c < CHANNELS; ++c) {
            const int lane = column * 4 + c % 8 / 2;
            sum += FROM(X[(idx)pixel * (idx)CHANNELS + c]) *
                   FROM(WEIGHTS[((((idx)warp * DEPTH + c / 16) * (EIGHTS / 2) + eighth / 2) * 32 + lane) * 8 + eighth % 2 * 4 + c % 16 / 8 * 2 + c % 2]);
        }
        if (RESIDUAL) sum += FROM(*(RESIDUAL_AT));
        T* row = OUT + PIXEL_OFFSET;
        row[COLUMN_OFFSET] = TO(@_a(sum));
    }
}
)SOURCE";

bool is_pointwise(const ConvolutionSpec& spec) { return !spec.transposed && all(spec.kernel, 1) && all(spec.stride, 1); }

/// Whether every pixel of X gives pixels of its own.
bool is_apart(const ConvolutionSpec& spec) {
    if (is_pointwise(spec)) return spec.in == spec.out;
    if (!spec.transposed || spec.residual || spec.kernel.size() != 2 || spec.kernel != spec.stride || !all(spec.dilation, 1)) return false;
    for (std::size_t d = 0; d < 2; ++d) {
        if (spec.out[d] != spec.in[d] * spec.kernel[d]) return false;
    }
    return true;
}

}  // namespace

std::optional<PixelPlan> plan_pixel_product(const ConvolutionSpec& spec) {
    if ((spec.type != Type::f16 && spec.type != Type::bf16) || spec.result != spec.type || spec.groups != 1 || !all(spec.pad_begin, 0) ||
        !all(spec.pad_end, 0) || !is_apart(spec) || spec.channels_in % 8 != 0 || spec.channels_in > kMostChannels || spec.channels_out % 8 != 0)
        return std::nullopt;
    PixelPlan plan;
    plan.columns = spec.channels_out * elements(spec.kernel);
    plan.depth = divided_up(spec.channels_in, 16);
    // Every block that shares a pixel reads it.
    plan.across = kWarps;
    while (plan.across > 1 && plan.across / 2 * PixelPlan::kWarpColumns >= plan.columns) plan.across /= 2;
    plan.parts = divided_up(plan.columns, plan.across * PixelPlan::kWarpColumns);
    plan.pixels = plan.depth > 4 ? 64 : 128;  // two tiles in shared memory
    return plan;
}

bool prefers_pixel_product(const ConvolutionSpec& spec, const CodegenTarget& target) {
    const auto plan = plan_pixel_product(spec);
    if (!target.tensor_cores || !plan) return false;
    if (is_pointwise(spec)) {
        const bool takes_two_kernels = spec.activation == Activation::hard_swish;  // cuDNN has none
        if (spec.channels_in > (takes_two_kernels ? kMostChannels : kMostPointwise) || (spec.residual && spec.channels_out > kMostAdded))
            return false;
    }
    // A tile for each multiprocessor, else reading the filters takes longer than computing.
    return spec.batch * elements(spec.in) * plan->parts >= target.multiprocessors * plan->pixels;
}

Fragments pixel_product_weights(const ConvolutionSpec& spec, const PixelPlan& plan) {
    Fragments out;
    out.dims = {plan.parts * plan.across, plan.depth, kEights / 2, 32, 8};
    std::string filter;
    if (is_pointwise(spec)) {
        filter = "in0(column, deep";
        for (std::size_t d = 0; d < spec.kernel.size(); ++d) filter += ", 0";
        filter += ")";
    } else {
        filter = fmt::format("in0(deep, column % {0}, column / {0} / {1}, column / {0} % {1})", spec.channels_out, spec.kernel[1]);
    }
    out.body = fmt::format(
        "const idx eighth = i2 * 2 + i4 / 4, within = i3 / 4, deep = i1 * 16 + i4 % 4 / 2 * 8 + i3 % 4 * 2 + i4 % 2; "
        "const idx column = i0 * {} + within / 2 * {} + eighth * 2 + within % 2; return column < (idx){} && deep < (idx){} ? {} : 0;",
        PixelPlan::kWarpColumns, kEights * 2, plan.columns, spec.channels_in, filter);
    return out;
}

KernelSource pixel_product_kernel(const Graph& graph, const Places& places, const Node& node, const PixelPlan& plan, const CodegenTarget& target) {
    const ConvolutionSpec& spec = std::get<Convolution>(node.what).spec;
    const auto& place = places[static_cast<std::size_t>(node.outputs.front())];
    const std::int64_t stride = place ? place->strides.back() : spec.channels_out;
    const std::int64_t pixels = spec.batch * elements(spec.in), results = spec.batch * elements(spec.out);

    Functions functions(graph, places);
    functions.use({pixels, spec.channels_in}, {spec.channels_in, 1});
    functions.use({results, stride}, {stride, 1});
    const std::string x = functions.argument(node.inputs[0], false), weights = functions.argument(node.inputs[1], false);
    const std::string bias = spec.bias ? load(spec.bias_type, functions.argument(node.inputs[2], false), "e") : "0";
    std::string residual;
    if (spec.residual) residual = functions.argument(node.inputs[spec.bias ? 3 : 2], false);
    const std::string out = functions.argument(node.outputs.front(), true);
    std::string pixel_offset = fmt::format("((idx)pixel * (idx){})", stride), column_offset = "(idx)channel";
    if (!is_pointwise(spec)) {
        pixel_offset = fmt::format("(((idx)(pixel / {0}) * (idx){1} + (idx)(pixel % {0}) * (idx){2}) * (idx){3})", spec.in[1],
                                   spec.kernel[0] * spec.out[1], spec.kernel[1], stride);
        column_offset = fmt::format("(((idx)(first / {0} / {1}) * (idx){2} + (idx)(first / {0} % {1})) * (idx){3} + (idx)channel)", spec.channels_out,
                                    spec.kernel[1], spec.out[1], stride);
    }
    const std::int64_t jobs = divided_up(pixels, plan.pixels);
    const std::string type(to_string(spec.type));
    const Macros macros{
        {"T", type},
        {"TO", "to_" + type},
        {"FROM", "from_" + type},
        {"LOW", "low_" + type},
        {"HIGH", "high_" + type},
        {"MMA_TYPE", spec.type == Type::f16 ? "\"f16\"" : "\"bf16\""},
        {"X", x},
        {"WEIGHTS", weights},
        {"BIAS", bias},
        {"OUT", out},
        {"RESIDUAL", spec.residual ? "1" : "0"},
        {"RESIDUAL_AT", spec.residual ? fmt::format("{} + ((idx)pixel * (idx){} + (idx)channel)", residual, spec.channels_out) : out},
        {"PIXEL_OFFSET", pixel_offset},
        {"COLUMN_OFFSET", column_offset},
        {"CHANNELS", std::to_string(spec.channels_in)},
        {"OUT_CHANNELS", std::to_string(spec.channels_out)},
        {"COLUMNS", std::to_string(plan.columns)},
        {"DEPTH", std::to_string(plan.depth)},
        {"EIGHTS", std::to_string(kEights)},
        {"ACROSS", std::to_string(plan.across)},
        {"PARTS", std::to_string(plan.parts)},
        {"TILE", std::to_string(plan.pixels)},
        {"PITCH", std::to_string(pitch(plan))},
        {"PIXELS", fmt::format("{}ll", pixels)},
        {"JOBS", fmt::format("{}ll", jobs)},
    };
    const std::string types = fmt::format("typedef union {{ words4 w; {} v[8]; }} @_out;\nFUNCTION f32 @_a(f32 x) {{ return {}; }}", type,
                                          activation_expression(spec.activation, spec.result));
    if (!has_fast_form(target)) {
        return functions.finish(macros.around(types + std::string(kScalar)),
                                groups(divided_up(pixels * plan.columns, target.threads_per_block), target.threads_per_block));
    }
    // As many blocks as a multiprocessor has registers for, each of which keeps its filters.
    const std::int64_t beside = plan.depth <= 3 ? 3 : 2;
    const std::int64_t blocks = std::min(jobs, divided_up(beside * target.multiprocessors, plan.parts));
    return functions.finish(macros.around(types + multiply_add() + std::string(kTensorCores)), groups(blocks * plan.parts, target.threads_per_block));
}

}  // namespace ai_vmm::cuda
