// SPDX-License-Identifier: Apache-2.0
#include "codegen/excitation.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "codegen/text.hpp"

namespace ai_vmm::cuda {
KernelSource excitation_kernel(const Graph& graph, const Places& places, const Node& node, const CodegenTarget& target) {
    const Excitation& what = std::get<Excitation>(node.what);
    const Dims& dims = graph.value(node.inputs[0]).dims;
    const std::int64_t images = dims[0], channels = dims[1], pixels = elements(dims) / (images * channels), squeezed = what.squeezed;
    const std::int64_t block = target.threads_per_block, width = 128 / bits(what.type);

    // A block's channels: all, or about 64 side by side. Its pixels: two vectors per thread, but not more blocks than run at once.
    const std::int64_t slices = divided_up(channels, 64), slice = divided_up(divided_up(channels, slices), 8) * 8, across = slice / width;
    const std::int64_t most = std::max<std::int64_t>(1, 2 * target.multiprocessors / (slices * images));
    const std::int64_t share = divided_up(pixels, std::clamp<std::int64_t>(divided_up(pixels * across, 2 * block), 1, most));
    const std::int64_t chunks = divided_up(pixels, share);
    // Vectors that each thread has of X: the first ones are on their way while the gates are computed.
    const std::int64_t mine = divided_up(share * across, block), early = std::min<std::int64_t>(mine, 4);
    // Lanes of a squeezed value, four vectors each, and values that a lane has on their way at once.
    const std::int64_t vectors = channels / width;
    const auto lanes_for = [&](std::int64_t count) { return std::min<std::int64_t>({32, block, power_of_two_at_least(count)}); };
    const std::int64_t lanes1 = lanes_for(divided_up(vectors, 4)), rows1 = block / lanes1, reads = divided_up(vectors, lanes1);
    const std::int64_t at_once = std::clamp<std::int64_t>(divided_up(squeezed, rows1), 1, std::max<std::int64_t>(1, 16 / reads));
    const std::int64_t lanes2 = std::min<std::int64_t>(lanes_for(squeezed), std::max<std::int64_t>(1, block / power_of_two_at_least(slice)));
    const std::int64_t rows2 = block / lanes2;

    Functions functions(graph, places);
    functions.use(dims, row_major_strides(dims));
    const std::string x = functions.argument(node.inputs[0], false), pooled = functions.argument(node.inputs[1], false);
    const std::string w1 = functions.argument(node.inputs[2], false), w2 = functions.argument(node.inputs[3], false);
    std::string sum1 = "acc[u]", sum2 = "acc";
    std::size_t next = 4;
    if (what.bias1) sum1 += " + " + load(what.type, functions.argument(node.inputs[next++], false), "j");
    if (what.bias2) sum2 += " + " + load(what.type, functions.argument(node.inputs[next], false), "c0 + c");
    const std::string out = functions.argument(node.outputs.front(), true);

    std::string text = fmt::format("typedef union {{ words4 w; {} v[{}]; }} @_t;\n", storage_type(what.type), width);
    text += fmt::format("FUNCTION f32 @_a1(f32 x) {{ return {}; }}\nFUNCTION f32 @_a2(f32 x) {{ return {}; }}\n",
                        activation_expression(what.first, Type::f32), activation_expression(what.second, Type::f32));
    std::string gate = fmt::format("@_a2({})", sum2);
    for (std::size_t g = 0; g < what.gate.size(); ++g) {
        text += fmt::format("FUNCTION f32 @_g{}(f32 a) {{ {} }}\n", g, what.gate[g]);
        gate = fmt::format("@_g{}({})", g, gate);
    }
    if (what.parts > 0) text += fmt::format("FUNCTION f32 @_m(f32 s0) {{ {} }}\n", what.pooled);
    const auto shuffled = [](const std::string& variable, std::int64_t lanes) {
        return lanes == 1 ? std::string() : fmt::format("for (int w = {0}; w > 0; w >>= 1) {1} += SHUFFLE_XOR_F32({1}, w);", lanes / 2, variable);
    };

    text += fmt::format(
        "KERNEL(@)(@_P) {{\n  SHARED f32 squeezed[{}];\n  SHARED f32 gates[{}];\n  const int group = (int)GROUP, n = group / {};\n  const idx c0 = "
        "group "
        "% {} * (idx){}, p0 = group / {} % {} * (idx){};\n",
        squeezed, slice, slices * chunks, slices, slice, slices, chunks, share);
    // Vector t of the block: pixel p, channels from c on.
    const std::string position = fmt::format(
        "const int c = t % {0} * {1}; const idx p = p0 + t / {0}; const int inside = t < {2} && p < (idx){3} && c0 + c < (idx){4}; const idx at = "
        "inside ? (n * (idx){3} + p) * (idx){4} + c0 + c : 0;",
        across, width, share * across, pixels, channels);
    text += fmt::format(
        "  @_t early[{0}];\n  UNROLL\n  for (int i = 0; i < {0}; ++i) {{\n    const int t = THREAD + i * BLOCK;\n    {1}\n    early[i].w = "
        "load16({2} + "
        "at);\n  }}\n",
        early, position, x);

    if (what.parts > 0) {
        text += fmt::format(
            "  SHARED f32 means[{0}];\n  for (int c = THREAD; c < {0}; c += BLOCK) {{\n    f32 sum = 0;\n    UNROLL for (int i = 0; i < {1}; ++i) "
            "sum += "
            "{2}[(n * (idx){1} + i) * (idx){0} + c];\n    means[c] = @_m(sum);\n  }}\n  BARRIER();\n",
            channels, what.parts, pooled);
    }
    // Neighbouring pooled values from e on.
    const std::string fetched = what.parts > 0 ? std::string() : fmt::format("@_t a; a.w = load16({} + (n * (idx){} + e));", pooled, channels);
    const std::string element = what.parts > 0 ? "means[e + v]" : load(what.type, "a.v", "v");
    text += fmt::format(
        "  for (int first = THREAD / {0}; first - THREAD / {0} < {1}; first += {2}) {{\n    const int lane = THREAD % {0};\n    f32 acc[{3}];\n    "
        "UNROLL\n    for (int u = 0; u < {3}; ++u) acc[u] = 0;\n",
        lanes1, squeezed, rows1 * at_once, at_once);
    text += fmt::format(
        "    UNROLL\n    for (int i = 0; i < {0}; ++i) {{\n      const idx e = (lane + i * {1}) * (idx){2};\n      if (e < (idx){3}) {{\n        "
        "{4}\n        "
        "UNROLL\n        for (int u = 0; u < {5}; ++u) {{\n          const int j = first + u * {6};\n          @_t b;\n          b.w = load16({7} + "
        "((idx)(j < {8} ? j : 0) * (idx){3} + e));\n          UNROLL\n          for (int v = 0; v < {2}; ++v) acc[u] += {9} * {10};\n        }}\n    "
        "  "
        "}}\n    }}\n",
        reads, lanes1, width, channels, fetched, at_once, rows1, w1, squeezed, element, load(what.type, "b.v", "v"));
    text += fmt::format(
        "    UNROLL\n    for (int u = 0; u < {}; ++u) {{\n      const int j = first + u * {};\n      {}\n      if (j < {} && lane == 0) squeezed[j] "
        "= "
        "@_a1({});\n    }}\n  }}\n  BARRIER();\n",
        at_once, rows1, shuffled("acc[u]", lanes1), squeezed, sum1);

    text += fmt::format(
        "  for (int c = THREAD / {0}; c - THREAD / {0} < {1}; c += {2}) {{\n    const int lane = THREAD % {0}, active = c < {1} && c0 + c < "
        "(idx){3};\n  "
        "  f32 acc = 0;\n    {9}\n    for (int i = 0; i < {4}; ++i) {{\n      const int j = lane + i * {0};\n      if (active && j < {5}) acc += "
        "squeezed[j] * {6};\n    }}\n    {7}\n    if (active && lane == 0) gates[c] = {8};\n  }}\n  BARRIER();\n",
        lanes2, slice, rows2, channels, divided_up(squeezed, lanes2), squeezed, load(what.type, w2, fmt::format("(c0 + c) * (idx){} + j", squeezed)),
        shuffled("acc", lanes2), gate, divided_up(squeezed, lanes2) <= 32 ? "UNROLL" : "");

    const std::string scaled =
        fmt::format("if (inside) {{ @_t o; UNROLL for (int v = 0; v < {}; ++v) {{ const f32 r = {} * gates[c + v]; {} }} store16({} + at, o.w); }}",
                    width, load(what.type, "y.v", "v"), store(what.type, "o.v", "v", "r"), out);
    text += fmt::format(
        "  UNROLL\n  for (int i = 0; i < {}; ++i) {{\n    const int t = THREAD + i * BLOCK;\n    {}\n    const @_t y = early[i];\n    {}\n  }}\n",
        early, position, scaled);
    if (mine > early) {
        text +=
            fmt::format("  for (int t = THREAD + {} * BLOCK; t < {}; t += BLOCK) {{\n    {}\n    @_t y;\n    y.w = load16({} + at);\n    {}\n  }}\n",
                        early, share * across, position, x, scaled);
    }
    text += "}\n";
    return functions.finish(text, groups(images * slices * chunks, target.threads_per_block));
}

}  // namespace ai_vmm::cuda
