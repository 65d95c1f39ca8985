// SPDX-License-Identifier: Apache-2.0
#include "codegen/skinny.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "codegen/few_rows.hpp"
#include "codegen/text.hpp"

namespace ai_vmm::cuda {
namespace {

/// Elements of an access: 16 bytes, or one where k doesn't come out even.
std::int64_t width(const MatmulSpec& spec) {
    const std::int64_t most = 128 / bits(spec.type);
    return spec.k % most == 0 ? most : 1;
}

}  // namespace

ColumnSums::ColumnSums(const MatmulSpec& spec, std::int64_t vectors, const CodegenTarget& target)
    : rows_(spec.m), columns_(spec.n), block_(target.threads_per_block) {
    // Four vectors a lane, but enough threads for the device where columns are few.
    while (lanes_ < std::min<std::int64_t>(32, block_) && lanes_ < vectors &&
           (lanes_ * 4 < vectors || columns_ * lanes_ < target.multiprocessors * block_ / 2))
        lanes_ *= 2;
}

std::string ColumnSums::begin() const {
    return fmt::format(
        "KERNEL(@)(@_P) {{\n  const int lane = THREAD % {0};\n  const i64 column64 = (i64)GROUP * {1} + THREAD / {0};\n  const int active = column64 "
        "< {2}ll;\n  const idx column = active ? (idx)column64 : 0;\n  f32 acc[{3}];\n  UNROLL\n  for (int r = 0; r < {3}; ++r) acc[r] = 0;\n",
        lanes_, block_ / lanes_, columns_, rows_);
}

std::string ColumnSums::end(const std::string& sum, const std::string& store) const {
    std::string text;
    if (lanes_ > 1) {
        text = fmt::format(
            "  for (int w = {}; w > 0; w >>= 1) {{\n    UNROLL\n    for (int r = 0; r < {}; ++r) acc[r] += SHUFFLE_XOR_F32(acc[r], w);\n  }}\n",
            lanes_ / 2, rows_);
    }
    return text +
           fmt::format("  if (active && lane == 0) {{\n    UNROLL\n    for (int r = 0; r < {}; ++r) {{ const f32 d = @_a({}); {} }}\n  }}\n}}\n",
                       rows_, sum, store);
}

Launch ColumnSums::launch() const {
    const std::int64_t across = block_ / lanes_;
    return groups((columns_ + across - 1) / across, block_);
}

bool is_skinny(const MatmulSpec& spec) {
    const bool type = spec.type == Type::f16 || spec.type == Type::bf16 || spec.type == Type::f32;
    return type && is_float(spec.result) && spec.result != Type::f64 && spec.batch == 1 && spec.m >= 1 && spec.m <= 8 && spec.n >= 1 && spec.k >= 1 &&
           (width(spec) > 1 || spec.k <= 256);
}

bool fits_skinny(const MatmulSpec& spec, std::int64_t rows, std::int64_t inner, std::int64_t offset) {
    return inner == 1 && rows % width(spec) == 0 && offset % width(spec) == 0;
}

KernelSource skinny_kernel(const Graph& graph, const Places& places, const Node& node, const MatmulSpec& spec, const CodegenTarget& target) {
    const bool tensor_cores = on_tensor_cores(spec, target);

    Functions functions(graph, places);
    functions.use({spec.n, spec.k}, {spec.row_stride_b, 1});
    functions.use({spec.m, spec.k}, {spec.row_stride_a, 1});
    const std::string a = functions.argument(node.inputs[0], false), b = functions.argument(node.inputs[1], false);
    const std::size_t residual_input = spec.bias ? 3 : 2;
    std::string sum = tensor_cores ? "total" : "acc[r]";
    if (spec.alpha != 1) sum += fmt::format(" * {}", literal(Type::f32, spec.alpha));
    if (spec.bias) sum += " + " + load(spec.bias_type, functions.argument(node.inputs[2], false), "column");
    const std::string at = fmt::format("r * (idx){} + column", spec.n);
    if (spec.residual) sum += " + " + load(spec.result, functions.argument(node.inputs[residual_input], false), at);
    const std::string stored = store(spec.result, functions.argument(node.outputs.front(), true), at, "d");
    if (tensor_cores) {
        FewRows what{.x = a, .sum = sum, .store = stored};
        what.column = fmt::format(
            "typedef words4 @_raw;\nFUNCTION @_raw @_fetch(@_P, idx column, idx e) {{ return @_load16({} + (column * (idx){} + e)); }}\n"
            "FUNCTION void @_unpack(u32* w, @_raw q) {{ UNROLL for (int v = 0; v < 4; ++v) w[v] = q.w[v]; }}\n",
            b, spec.row_stride_b);
        return few_rows_kernel(spec, what, functions, target);
    }

    const ColumnSums columns(spec, spec.k / width(spec), target);
    std::string text =
        fmt::format("typedef union {{ {}{} v[{}]; }} @_t;\nFUNCTION f32 @_a(f32 x) {{ return {}; }}\n", width(spec) > 1 ? "words4 w; " : "",
                    storage_type(spec.type), width(spec), activation_expression(spec.activation, spec.result));
    text += columns.begin();
    const auto fetch = [&](const char* name, const std::string& pointer, const std::string& offset) {
        return width(spec) == 1 ? fmt::format("{}.v[0] = {}[{}];", name, pointer, offset)
                                : fmt::format("{}.w = load16({} + ({}));", name, pointer, offset);
    };
    text += fmt::format("  if (active) for (idx e = lane * {0}; e < (idx){1}; e += {2}) {{\n    @_t y;\n    {3}\n    UNROLL\n", width(spec), spec.k,
                        columns.lanes() * width(spec), fetch("y", b, fmt::format("column * (idx){} + e", spec.row_stride_b)));
    text += fmt::format(
        "    for (int r = 0; r < {}; ++r) {{\n      @_t x;\n      {}\n      UNROLL\n      for (int v = 0; v < {}; ++v) acc[r] += {} * {};\n    }}\n  "
        "}}\n",
        spec.m, fetch("x", a, fmt::format("r * (idx){} + e", spec.row_stride_a)), width(spec), load(spec.type, "x.v", "v"),
        load(spec.type, "y.v", "v"));
    text += columns.end(sum, stored);
    return functions.finish(text, columns.launch());
}

}  // namespace ai_vmm::cuda
