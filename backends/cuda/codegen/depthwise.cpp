// SPDX-License-Identifier: Apache-2.0
/// Depthwise convolutions over channels-last data.
#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "codegen/text.hpp"

namespace ai_vmm::cuda {
namespace {

/// What a thread computes: `channels` side by side of `columns` neighbouring pixels. More columns read less: a column of the input meets every output
/// that it lies under while it is in registers. Small results need threads more than that, since what takes time then is the first byte's way.
struct Share {
    std::int64_t channels = 8, columns = 4;
};

Share share_of(const ConvolutionSpec& spec, std::int64_t enough_threads) {
    Share share;
    const auto threads = [&] {
        return spec.batch * spec.out[0] * ((spec.out[1] + share.columns - 1) / share.columns) * (spec.groups / share.channels);
    };
    // Taps that lie apart share no column of the input.
    if (spec.dilation[1] != 1 || spec.stride[1] >= spec.kernel[1]) share.columns = 1;
    while (share.columns > 1 && (share.columns >= 2 * spec.out[1] || threads() < enough_threads)) share.columns /= 2;
    while (share.channels > 2 && threads() < enough_threads) share.channels /= 2;
    return share;
}

}  // namespace

bool is_depthwise(const ConvolutionSpec& spec) {
    const bool type = spec.type == Type::f16 || spec.type == Type::bf16 || spec.type == Type::f32;
    return type && !spec.transposed && spec.kernel.size() == 2 && spec.groups == spec.channels_in && spec.channels_out == spec.groups &&
           spec.groups % 8 == 0;
}

Dims depthwise_weight_strides(const ConvolutionSpec& spec) { return {1, 1, spec.kernel[1] * spec.groups, spec.groups}; }

KernelSource depthwise_kernel(const Graph& graph, const Places& places, const Node& node, const CodegenTarget& target) {
    const ConvolutionSpec& spec = std::get<Convolution>(node.what).spec;
    constexpr std::int64_t kEnough = 256;  // threads of a multiprocessor
    const Share share = share_of(spec, kEnough * target.multiprocessors);
    Functions functions(graph, places);
    const std::int64_t bytes = share.channels * bits(spec.type) / 8, unit = std::min<std::int64_t>(bytes, 16), parts = bytes / unit;
    const std::string_view type = storage_type(spec.type);
    const std::string x = functions.argument(node.inputs[0], false), w = functions.argument(node.inputs[1], false);
    std::string bias, residual;
    if (spec.bias) bias = functions.argument(node.inputs[2], false);
    if (spec.residual) residual = functions.argument(node.inputs[spec.bias ? 3 : 2], false);
    const std::string out = functions.argument(node.outputs.front(), true);
    const std::int64_t channels = spec.groups, rows = spec.in[0], columns = spec.in[1], blocks = channels / share.channels;
    const std::int64_t across = (spec.out[1] + share.columns - 1) / share.columns;
    functions.use({spec.batch, channels, rows, columns}, {rows * columns * channels, 1, columns * channels, channels});
    functions.use({spec.batch, channels, spec.out[0], spec.out[1]}, {spec.out[0] * spec.out[1] * channels, 1, spec.out[1] * channels, channels});
    const auto fetch = [&](const std::string& name, const std::string& pointer, const std::string& at) {
        std::string text = fmt::format("@_t {};", name);
        for (std::int64_t part = 0; part < parts; ++part)
            text += fmt::format(" {0}.w[{1}] = load{2}({3} + ({4} + {5}));", name, part, unit, pointer, at, part * share.channels / parts);
        return text;
    };
    const std::string each = fmt::format("UNROLL for (int u = 0; u < {}; ++u)", share.channels);

    const std::int64_t threads = spec.batch * spec.out[0] * across * blocks;
    std::string text = fmt::format("typedef union {{ {} w[{}]; u32 r[{}]; {} v[{}]; }} @_t;\nFUNCTION f32 @_a(f32 x) {{ return {}; }}\n",
                                   unit == 4   ? "u32"
                                   : unit == 8 ? "words2"
                                               : "words4",
                                   parts, bytes / 4, type, share.channels, activation_expression(spec.activation, Type::f32));
    text += "KERNEL(@)(@_P) {\n  const i64 t64 = (i64)GROUP * BLOCK + THREAD;\n  if (t64 < limit_) {\n    const idx t = (idx)t64;\n";
    text += fmt::format(
        "    const idx c = t % (idx){0} * {1}, column = t / (idx){0} % (idx){2} * {3}, row = t / (idx){4} % (idx){5}, n = t / (idx){6};\n", blocks,
        share.channels, across, share.columns, blocks * across, spec.out[0], blocks * across * spec.out[0]);
    text += fmt::format("    f32 acc[{}][{}];\n    UNROLL for (int k = 0; k < {}; ++k) {{ {} acc[k][u] = 0; }}\n", share.columns, share.channels,
                        share.columns, each);
    text += fmt::format(
        "    UNROLL\n    for (int i = 0; i < {}; ++i) {{\n      const idx y = row * (idx){} + i * (idx){} - (idx)({});\n      const int inside = y "
        ">= "
        "0 && y < (idx){};\n      const idx line = (n * (idx){} + (inside ? y : 0)) * (idx){} * (idx){} + c;\n",
        spec.kernel[0], spec.stride[0], spec.dilation[0], spec.pad_begin[0], rows, rows, columns, channels);
    // All of a line is asked for before any of it is used. What lies outside is asked for at the edge and made zero, so that nothing waits for a
    // branch.
    std::set<std::int64_t> offsets;
    for (std::int64_t k = 0; k < share.columns; ++k) {
        for (std::int64_t j = 0; j < spec.kernel[1]; ++j) offsets.insert(k * spec.stride[1] + j * spec.dilation[1]);
    }
    for (std::int64_t j = 0; j < spec.kernel[1]; ++j)
        text +=
            fmt::format("      {}\n", fetch(fmt::format("b{}", j), w, fmt::format("(idx)(i * {} + {}) * (idx){} + c", spec.kernel[1], j, channels)));
    for (std::int64_t at : offsets) {
        text += fmt::format(
            "      const idx x{0} = column * (idx){1} + (idx)({2});\n      const int on{0} = inside && x{0} >= 0 && x{0} < (idx){3};\n      {4}\n",
            at, spec.stride[1], at - spec.pad_begin[1], columns,
            fetch(fmt::format("a{}", at), x, fmt::format("line + (on{0} ? x{0} : 0) * (idx){1}", at, channels)));
    }
    for (std::int64_t at : offsets)
        text += fmt::format("      UNROLL for (int z = 0; z < {0}; ++z) a{1}.r[z] = on{1} ? a{1}.r[z] : 0u;\n", bytes / 4, at);
    text += fmt::format("      f32 taps[{}][{}];\n", spec.kernel[1], share.channels);
    for (std::int64_t j = 0; j < spec.kernel[1]; ++j)
        text += fmt::format("      {} taps[{}][u] = {};\n", each, j, load(spec.type, fmt::format("b{}.v", j), "u"));
    for (std::int64_t at : offsets) {
        text += fmt::format("      {} {{ const f32 value = {};", each, load(spec.type, fmt::format("a{}.v", at), "u"));
        for (std::int64_t k = 0; k < share.columns; ++k) {
            for (std::int64_t j = 0; j < spec.kernel[1]; ++j) {
                if (k * spec.stride[1] + j * spec.dilation[1] == at) text += fmt::format(" acc[{}][u] += value * taps[{}][u];", k, j);
            }
        }
        text += " }\n";
    }
    text += "    }\n";
    if (spec.bias && spec.bias_type == spec.type) text += "    " + fetch("bias", bias, "c") + "\n";
    std::string sum = "acc[k][u]";
    if (spec.bias) sum += " + " + (spec.bias_type == spec.type ? load(spec.type, "bias.v", "u") : load(spec.bias_type, bias, "c + u"));
    if (spec.residual) sum += " + " + load(spec.type, "added.v", "u");
    text += fmt::format(
        "    UNROLL for (int k = 0; k < {}; ++k) {{\n      if (column + k < (idx){}) {{\n        const idx at = ((n * (idx){} + row) * (idx){} + "
        "column + k) * (idx){} + c;\n        @_t o;\n",
        share.columns, spec.out[1], spec.out[0], spec.out[1], channels);
    if (spec.residual) text += "        " + fetch("added", residual, "at") + "\n";
    text += fmt::format("        {} {{ const f32 r = @_a({}); {} }}\n", each, sum, store(spec.type, "o.v", "u", "r"));
    for (std::int64_t part = 0; part < parts; ++part)
        text += fmt::format("        store{}({} + (at + {}), o.w[{}]);\n", unit, out, part * share.channels / parts, part);
    text += "      }\n    }\n  }\n}\n";
    return functions.finish(text, groups((threads + target.threads_per_block - 1) / target.threads_per_block, target.threads_per_block, threads));
}

}  // namespace ai_vmm::cuda
