// SPDX-License-Identifier: Apache-2.0
/// Kernels of Rowwise nodes.
#include <fmt/format.h>

#include <algorithm>

#include "codegen/register_rows.hpp"
#include "codegen/strided_rows.hpp"
#include "codegen/text.hpp"

namespace ai_vmm::cuda {

KernelSource rowwise_kernel(const Graph& graph, const Places& places, const Node& node, const CodegenTarget& target) {
    if (auto kernel = register_rows_kernel(graph, places, node, target)) return *std::move(kernel);
    if (auto kernel = strided_rows_kernel(graph, places, node, target)) return *std::move(kernel);
    const Rowwise& what = std::get<Rowwise>(node.what);
    const ValueId output = node.outputs.front();
    const Value& value = graph.value(output);
    const Place& place = *places[static_cast<std::size_t>(output)];
    const std::string_view accumulator = to_string(what.accumulator);
    Functions functions(graph, places);
    functions.use(value.dims, place.strides);
    functions.use(what.space, row_major_strides(what.space));
    const std::string out = functions.argument(output, true);

    std::vector<bool> reduced(what.space.size(), false);
    for (int axis : what.axes) reduced[static_cast<std::size_t>(axis)] = true;
    std::vector<int> row_order, element_order;
    // Walk memory as the first placed input of the space's shape lies; else as the output does.
    Dims walk = what.per_row ? row_major_strides(what.space) : place.strides;
    for (ValueId id : node.inputs) {
        const auto& input = places[static_cast<std::size_t>(id)];
        if (input && graph.value(id).dims == what.space) {
            walk = input->strides;
            break;
        }
    }
    for (int d : memory_order(what.space, walk)) (reduced[static_cast<std::size_t>(d)] ? element_order : row_order).push_back(d);
    std::int64_t rows = 1, length = 1;
    for (std::size_t d = 0; d < what.space.size(); ++d) (reduced[d] ? length : rows) *= what.space[d];

    // A block is `lanes` threads along the reduction by `across` rows. The dimension that is contiguous in memory goes to neighbouring threads.
    const std::vector<int> whole = memory_order(what.space, walk);
    bool along = true;  // neighbouring threads reduce one row
    for (std::size_t k = whole.size(); k-- > 0;) {
        if (what.space[static_cast<std::size_t>(whole[k])] == 1) continue;
        along = reduced[static_cast<std::size_t>(whole[k])];
        break;
    }
    const int block = target.threads_per_block;
    int lanes = std::min(block, power_of_two_at_least(along ? (length + 3) / 4 : (length + 15) / 16));
    if (!along) lanes = std::min(lanes, std::max(1, block / 32));
    if (rows < target.multiprocessors) lanes = std::min(block, power_of_two_at_least(length));
    lanes = std::max(lanes, 1);
    const int across = std::max(1, block / lanes);

    std::string stages;
    std::string known, known_arguments;
    for (std::size_t j = 0; j < what.stages.size(); ++j) {
        stages += fmt::format("FUNCTION {} @_s{}(@_P{}{}) {{ {} }}\n", accumulator, j, coordinates(what.space.size()), known,
                              functions.bound(node, what.stages[j].body));
        known += fmt::format(", {} s{}", accumulator, j);
    }
    // The result, then what follows it, each reading the one before as `r`.
    const std::string_view result_type = what.accumulator == Type::f64 ? "f64" : is_float(value.type) ? "f32" : compute_type(value.type);
    stages +=
        fmt::format("FUNCTION {} @_r0(@_P{}{}) {{ {} }}\n", result_type, coordinates(what.space.size()), known, functions.bound(node, what.result));
    std::string chain = fmt::format("@_r0(@_A{}{})", arguments_of(what.space.size()), known_names(what.stages.size()));
    for (std::size_t j = 0; j < what.epilogues.size(); ++j) {
        const bool last = j + 1 == what.epilogues.size();
        const std::string_view type = last ? compute_type(value.type) : result_type;
        stages += fmt::format("FUNCTION {} @_e{}(@_P{}, {} r) {{ {} }}\n", type, j, coordinates(what.space.size()), result_type,
                              functions.bound(node, what.epilogues[j]));
        chain = fmt::format("@_e{}(@_A{}, {})", j, arguments_of(what.space.size()), chain);
    }
    stages += fmt::format("FUNCTION {} @_r(@_P{}{}) {{ return {}; }}\n", compute_type(value.type), coordinates(what.space.size()), known, chain);

    std::string text = stages + "KERNEL(@)(@_P) {\n";
    if (lanes > 1) text += fmt::format("  SHARED {} scratch[BLOCK];\n", accumulator);
    text += along ? fmt::format("  const int lane = THREAD % {0}, line = THREAD / {0};\n", lanes)
                  : fmt::format("  const int line = THREAD % {0}, lane = THREAD / {0};\n", across);
    text += fmt::format(
        "  const i64 row64 = (i64)GROUP * {} + line;\n  const int active = row64 < limit_;\n  const idx row = active ? (idx)row64 : 0;\n  {}\n",
        across, decompose(what.space, row_order, "row"));
    for (std::size_t j = 0; j < what.stages.size(); ++j) {
        const CombineText combine = combine_text(what.stages[j].combine, what.accumulator);
        text += fmt::format("  {} s{} = {};\n", accumulator, j, combine.identity);
        text += fmt::format("  if (active) for (idx e = lane; e < (idx){}; e += {}) {{ {} const {} x = s{}, y = @_s{}(@_A{}{}); s{} = {}; }}\n",
                            length, lanes, decompose(what.space, element_order, "e"), accumulator, j, j, arguments_of(what.space.size()),
                            known_arguments, j, combine.expression);
        if (lanes > 1) {
            const int spread = along ? 1 : across;
            text += fmt::format("  scratch[THREAD] = s{}; BARRIER();\n", j);
            text += fmt::format(
                "  for (int w = {}; w > 0; w >>= 1) {{ if (lane < w) {{ const {} x = scratch[THREAD], y = scratch[THREAD + w * {}]; scratch[THREAD] "
                "= {}; }} BARRIER(); }}\n",
                lanes / 2, accumulator, spread, combine.expression);
            text += fmt::format("  s{} = scratch[{}]; BARRIER();\n", j, along ? fmt::format("line * {}", lanes) : std::string("line"));
        }
        if (!what.stages[j].finish.empty()) text += fmt::format("  {{ const {0} s = s{1}; s{1} = {2}; }}\n", accumulator, j, what.stages[j].finish);
        known_arguments += fmt::format(", s{}", j);
    }
    const std::string write = fmt::format("const {} v = @_r(@_A{}{}); {}", compute_type(value.type), arguments_of(what.space.size()), known_arguments,
                                          store(value.type, out, offset_expression(value.dims, place.strides), "v"));
    if (what.per_row) {
        std::string zeros;
        for (int axis : what.axes) zeros += fmt::format("const idx i{} = 0; ", axis);
        text += fmt::format("  if (active && lane == 0) {{ {} {} }}\n", zeros, write);
    } else {
        text += fmt::format("  if (active) for (idx e = lane; e < (idx){}; e += {}) {{ {} {} }}\n", length, lanes,
                            decompose(what.space, element_order, "e"), write);
    }
    text += "}\n";
    return functions.finish(text, groups((rows + across - 1) / across, block, rows));
}

}  // namespace ai_vmm::cuda
