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
    std::int64_t channels = 4, columns = 8;
};

Share share_of(const ConvolutionSpec& spec, std::int64_t enough_threads) {
    Share share;
    // Registers for twice as many of either would leave a multiprocessor too few threads (on an H200). Of integers, a load of eight bytes is eight.
    if (spec.type == Type::i8) share = {8, 4};
    constexpr std::int64_t kMostUnder = 17;  // columns of the input
    while (share.columns > 1 && (share.columns - 1) * spec.stride[1] + spec.kernel[1] > kMostUnder) share.columns /= 2;
    const std::int64_t fewest = spec.type == Type::i8 ? 4 : 2;  // channels of a load of four bytes
    const auto threads = [&] {
        return spec.batch * spec.out[0] * ((spec.out[1] + share.columns - 1) / share.columns) * (spec.groups / share.channels);
    };
    // Taps that lie apart share no column of the input.
    if (spec.dilation[1] != 1 || spec.stride[1] >= spec.kernel[1]) share.columns = 1;
    while (share.columns > 1 && (share.columns >= 2 * spec.out[1] || threads() < enough_threads)) share.columns /= 2;
    while (share.channels > fewest && threads() < enough_threads) share.channels /= 2;
    return share;
}

/// A thread's neighbours of one type in registers: a union that loads and stores fill in parts of at most 16 bytes.
struct Neighbours {
    std::string name;
    Type type = Type::f32;
    std::int64_t count = 0;

    [[nodiscard]] std::int64_t bytes() const { return count * bits(type) / 8; }
    [[nodiscard]] std::int64_t unit() const { return std::min<std::int64_t>(bytes(), 16); }
    [[nodiscard]] std::int64_t parts() const { return bytes() / unit(); }
    [[nodiscard]] std::string definition() const {
        return fmt::format("typedef union {{ {} w[{}]; u32 r[{}]; {} v[{}]; }} {};\n",
                           unit() == 4   ? "u32"
                           : unit() == 8 ? "words2"
                                         : "words4",
                           parts(), bytes() / 4, storage_type(type), count, name);
    }
    [[nodiscard]] std::string fetch(const std::string& variable, const std::string& pointer, const std::string& at) const {
        std::string text = fmt::format("{} {};", name, variable);
        for (std::int64_t part = 0; part < parts(); ++part)
            text += fmt::format(" {0}.w[{1}] = load{2}({3} + ({4} + {5}));", variable, part, unit(), pointer, at, part * count / parts());
        return text;
    }
};

}  // namespace

bool is_depthwise(const ConvolutionSpec& spec) {
    const bool type = spec.type == Type::f16 || spec.type == Type::bf16 || spec.type == Type::f32 || (spec.type == Type::i8 && spec.scale);
    return type && !spec.transposed && spec.kernel.size() == 2 && spec.groups == spec.channels_in && spec.channels_out == spec.groups &&
           spec.groups % 8 == 0;
}

Dims depthwise_weight_strides(const ConvolutionSpec& spec) { return {1, 1, spec.kernel[1] * spec.groups, spec.groups}; }

KernelSource depthwise_kernel(const Graph& graph, const Places& places, const Node& node, const CodegenTarget& target) {
    const ConvolutionSpec& spec = std::get<Convolution>(node.what).spec;
    constexpr std::int64_t kEnough = 256;  // threads of a multiprocessor
    const Share share = share_of(spec, kEnough * target.multiprocessors);
    Functions functions(graph, places);
    const bool integers = spec.type == Type::i8;
    const Neighbours given{"@_t", spec.type, share.channels}, factors{"@_f", Type::f32, share.channels};
    const Neighbours result{spec.result == spec.type ? "@_t" : spec.result == Type::f32 && integers ? "@_f" : "@_o", spec.result, share.channels};
    const std::string x = functions.argument(node.inputs[0], false), w = functions.argument(node.inputs[1], false);
    std::string scale, bias, residual;
    std::size_t next = 2;
    if (spec.scale) scale = functions.argument(node.inputs[next++], false);
    if (spec.bias) bias = functions.argument(node.inputs[next++], false);
    if (spec.residual) residual = functions.argument(node.inputs[next++], false);
    const std::string out = functions.argument(node.outputs.front(), true);
    const std::int64_t channels = spec.groups, rows = spec.in[0], columns = spec.in[1], blocks = channels / share.channels;
    const std::int64_t across = (spec.out[1] + share.columns - 1) / share.columns;
    functions.use({spec.batch, channels, rows, columns}, {rows * columns * channels, 1, columns * channels, channels});
    functions.use({spec.batch, channels, spec.out[0], spec.out[1]}, {spec.out[0] * spec.out[1] * channels, 1, spec.out[1] * channels, channels});
    const std::string_view number = integers ? "i32" : "f32";  // products and their sums
    const std::string each = fmt::format("UNROLL for (int u = 0; u < {}; ++u)", share.channels);

    const std::int64_t threads = spec.batch * spec.out[0] * across * blocks;
    std::string text = given.definition();
    if (spec.scale) text += factors.definition();
    if (result.name == "@_o") text += result.definition();
    text += fmt::format("FUNCTION f32 @_a(f32 x) {{ return {}; }}\n", activation_expression(spec.activation, spec.result));
    text += "KERNEL(@)(@_P) {\n  const i64 t64 = (i64)GROUP * BLOCK + THREAD;\n  if (t64 < limit_) {\n    const idx t = (idx)t64;\n";
    text += fmt::format(
        "    const idx c = t % (idx){0} * {1}, column = t / (idx){0} % (idx){2} * {3}, row = t / (idx){4} % (idx){5}, n = t / (idx){6};\n", blocks,
        share.channels, across, share.columns, blocks * across, spec.out[0], blocks * across * spec.out[0]);
    text += fmt::format("    {} acc[{}][{}];\n    UNROLL for (int k = 0; k < {}; ++k) {{ {} acc[k][u] = 0; }}\n", number, share.columns,
                        share.channels, share.columns, each);
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
        text += fmt::format("      {}\n",
                            given.fetch(fmt::format("b{}", j), w, fmt::format("(idx)(i * {} + {}) * (idx){} + c", spec.kernel[1], j, channels)));
    for (std::int64_t at : offsets) {
        text += fmt::format(
            "      const idx x{0} = column * (idx){1} + (idx)({2});\n      const int on{0} = inside && x{0} >= 0 && x{0} < (idx){3};\n      {4}\n",
            at, spec.stride[1], at - spec.pad_begin[1], columns,
            given.fetch(fmt::format("a{}", at), x, fmt::format("line + (on{0} ? x{0} : 0) * (idx){1}", at, channels)));
    }
    for (std::int64_t at : offsets)
        text += fmt::format("      UNROLL for (int z = 0; z < {0}; ++z) a{1}.r[z] = on{1} ? a{1}.r[z] : 0u;\n", given.bytes() / 4, at);
    text += fmt::format("      {} taps[{}][{}];\n", number, spec.kernel[1], share.channels);
    for (std::int64_t j = 0; j < spec.kernel[1]; ++j)
        text += fmt::format("      {} taps[{}][u] = {};\n", each, j, load(spec.type, fmt::format("b{}.v", j), "u"));
    for (std::int64_t at : offsets) {
        text += fmt::format("      {} {{ const {} value = {};", each, number, load(spec.type, fmt::format("a{}.v", at), "u"));
        for (std::int64_t k = 0; k < share.columns; ++k) {
            for (std::int64_t j = 0; j < spec.kernel[1]; ++j) {
                if (k * spec.stride[1] + j * spec.dilation[1] == at) text += fmt::format(" acc[{}][u] += value * taps[{}][u];", k, j);
            }
        }
        text += " }\n";
    }
    text += "    }\n";
    const bool together = spec.bias && (spec.bias_type == spec.type || (spec.scale && spec.bias_type == Type::f32));
    if (spec.scale) text += "    " + factors.fetch("scale", scale, "c") + "\n";
    if (together) text += "    " + (spec.bias_type == spec.type ? given : factors).fetch("bias", bias, "c") + "\n";
    std::string sum = spec.scale ? "(f32)acc[k][u] * scale.v[u]" : "acc[k][u]";
    if (spec.bias) sum += " + " + (together ? load(spec.bias_type, "bias.v", "u") : load(spec.bias_type, bias, "c + u"));
    if (spec.residual) sum += " + " + load(spec.result, "added.v", "u");
    text += fmt::format(
        "    UNROLL for (int k = 0; k < {}; ++k) {{\n      if (column + k < (idx){}) {{\n        const idx at = ((n * (idx){} + row) * (idx){} + "
        "column + k) * (idx){} + c;\n        {} o;\n",
        share.columns, spec.out[1], spec.out[0], spec.out[1], channels, result.name);
    if (spec.residual) text += "        " + result.fetch("added", residual, "at") + "\n";
    text += fmt::format("        {} {{ const f32 r = @_a({}); {} }}\n", each, sum, store(spec.result, "o.v", "u", "r"));
    for (std::int64_t part = 0; part < result.parts(); ++part)
        text += fmt::format("        store{}({} + (at + {}), o.w[{}]);\n", result.unit(), out, part * share.channels / result.parts(), part);
    text += "      }\n    }\n  }\n}\n";
    return functions.finish(text, groups((threads + target.threads_per_block - 1) / target.threads_per_block, target.threads_per_block, threads));
}

}  // namespace ai_vmm::cuda
