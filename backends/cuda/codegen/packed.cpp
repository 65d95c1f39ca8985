// SPDX-License-Identifier: Apache-2.0
#include "codegen/packed.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "codegen/few_rows.hpp"
#include "codegen/skinny.hpp"
#include "codegen/text.hpp"
#include "graph/passes.hpp"

namespace ai_vmm::cuda {

KernelSource packed_kernel(const Graph& graph, const Places& places, const Node& node, const PackedProduct& what, const CodegenTarget& target) {
    const MatmulSpec& spec = what.spec;
    const std::int64_t width = packed_together(what), groups_of_row = spec.k / what.group;
    const int unit = static_cast<int>(width) * bits(what.packed) / 8, wide = 128 / bits(spec.type);
    const bool tensor_cores = on_tensor_cores(spec, target);

    Functions functions(graph, places);
    functions.use({spec.n, spec.k}, {spec.k, 1});
    functions.use({spec.m, spec.k}, {spec.row_stride_a, 1});
    std::size_t input = 0;
    const auto next = [&] { return functions.argument(node.inputs[input++], false); };
    const auto type_of = [&](std::size_t k) { return graph.value(node.inputs[k]).type; };
    const std::string a = next(), b = next();
    const std::string group = groups_of_row == 1 ? "column" : fmt::format("column * (idx){} + e / (idx){}", groups_of_row, what.group);
    std::string scale, zero;
    if (what.scale) {
        const Type type = type_of(input);
        scale = load(type, next(), group);
    }
    if (what.zero) {
        const Type type = type_of(input);
        zero = "(f32)" + load(type, next(), group);
    }
    std::string sum = tensor_cores ? "total" : "acc[r]";
    if (tensor_cores && what.scale && groups_of_row == 1) {  // of whole columns: once they are added up
        sum += " * " + scale;
        scale.clear();
    }
    if (spec.alpha != 1) sum += fmt::format(" * {}", literal(Type::f32, spec.alpha));
    if (spec.bias) sum += " + " + load(spec.bias_type, next(), "column");
    const std::string at = fmt::format("r * (idx){} + column", spec.n);
    if (spec.residual) sum += " + " + load(spec.result, next(), at);
    const std::string stored = store(spec.result, functions.argument(node.outputs.front(), true), at, "d");

    // Eight integers after one another: those of one word, or of two.
    std::string integer;
    if (bits(what.packed) == 4) {
        integer = what.packed == Type::u4 ? "(q.w[c] >> (4 * v)) & 15u" : "(i32)(q.w[c] << (28 - 4 * v)) >> 28";
    } else {
        integer = what.packed == Type::u8 ? "(q.w[c * 2 + v / 4] >> (8 * (v % 4))) & 255u" : "(i32)(q.w[c * 2 + v / 4] << (24 - 8 * (v % 4))) >> 24";
    }
    const std::string from = fmt::format("(const u8*){} + (column * (idx){} + e) / {}", b, spec.k, 8 / bits(what.packed));
    const std::string words = unit == 16 ? "words4" : "words2";
    const std::string by = tensor_cores ? "@_" : "";
    const std::string fetch = unit == 16  ? fmt::format("q = {}load16({});", by, from)
                              : unit == 8 ? fmt::format("q = {}load8({});", by, from)
                                          : fmt::format("q.w[0] = load4({}); q.w[1] = 0;", from);

    if (tensor_cores) {
        FewRows kernel{.together = width, .x = a, .sum = sum, .store = stored};
        const auto factor = [](const std::string& value, const char* name) {
            return value.empty() ? std::string() : fmt::format(" raw.{} = {};", name, value);
        };
        const std::string number = fmt::format("((f32)({}){}){}", integer, zero.empty() ? "" : " - raw.z", scale.empty() ? "" : " * raw.s");
        const std::string type(to_string(spec.type));
        kernel.column = fmt::format(
            "typedef struct {{ {0} q; f32 s, z; }} @_raw;\nFUNCTION @_raw @_fetch(@_P, idx column, idx e) {{ @_raw raw; {0} q; {1} raw.q = q;{2}{3} "
            "return raw; }}\n"
            "FUNCTION void @_unpack(u32* w, @_raw raw) {{\n  const {0} q = raw.q;\n  UNROLL\n  for (int c = 0; c < {4}; ++c) {{\n    {5} y[8];\n    "
            "UNROLL\n    for (int v = 0; v < 8; ++v) y[v] = to_{5}({6});\n    UNROLL\n    for (int v = 0; v < 4; ++v) w[c * 4 + v] = "
            "pack_{5}(y[2 * v], y[2 * v + 1]);\n  }}\n}}\n",
            words, fetch, factor(scale, "s"), factor(zero, "z"), width / 8, type, number);
        return few_rows_kernel(spec, kernel, functions, target);
    }

    const ColumnSums columns(spec, spec.k / width, target);
    std::string factors;
    if (!scale.empty()) factors += fmt::format("    const f32 s = {};\n", scale);
    if (!zero.empty()) factors += fmt::format("    const f32 z = {};\n", zero);
    std::string text = fmt::format("typedef union {{ words4 w; {} v[{}]; }} @_t;\nFUNCTION f32 @_a(f32 x) {{ return {}; }}\n",
                                   storage_type(spec.type), wide, activation_expression(spec.activation, spec.result));
    text += columns.begin();
    text += fmt::format("  if (active) for (idx e = lane * {0}; e < (idx){1}; e += {2}) {{\n    {3} q;\n    {4}\n{5}    UNROLL\n", width, spec.k,
                        columns.lanes() * width, words, fetch, factors);
    text += fmt::format(
        "    for (int c = 0; c < {}; ++c) {{\n      f32 y[8];\n      UNROLL\n      for (int v = 0; v < 8; ++v) y[v] = (f32)({}){};\n      UNROLL\n",
        width / 8, integer, what.zero ? " - z" : "");
    text += fmt::format(
        "      for (int r = 0; r < {0}; ++r) {{\n        f32 part = 0;\n        UNROLL\n        for (int h = 0; h < {1}; ++h) {{\n          @_t x;\n "
        "    "
        "     x.w = load16({2} + (r * (idx){3} + e + c * 8 + h * {4}));\n          UNROLL\n          for (int v = 0; v < {4}; ++v) part += {5} * y[h "
        "* "
        "{4} + v];\n        }}\n        acc[r] += part{6};\n      }}\n    }}\n  }}\n",
        spec.m, 8 / wide, a, spec.row_stride_a, wide, load(spec.type, "x.v", "v"), what.scale ? " * s" : "");
    text += columns.end(sum, stored);
    return functions.finish(text, columns.launch());
}

}  // namespace ai_vmm::cuda
