// SPDX-License-Identifier: Apache-2.0
#include "codegen/strided_rows.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "codegen/row_reads.hpp"
#include "codegen/text.hpp"

namespace ai_vmm::cuda {
namespace {

/// Reads that a thread has on their way at a time.
constexpr std::int64_t kInFlight = 8;
/// Bytes of shared memory that every GPU gives a block.
constexpr std::int64_t kMostShared = 40 << 10;

class StridedRows {
public:
    StridedRows(const Graph& graph, const Places& places, const Node& node, const CodegenTarget& target)
        : graph_(graph),
          places_(places),
          node_(node),
          what_(std::get<Rowwise>(node.what)),
          target_(target),
          output_(node.outputs.front()),
          functions_(graph, places),
          bodies_(graph, node) {}

    std::optional<KernelSource> make() {
        if (!what_.per_row || !arrange()) return std::nullopt;
        for (const Rowwise::Stage& stage : what_.stages) stages_.push_back(bodies_.rewritten(stage.body, true));
        if (!choose_width()) return std::nullopt;
        choose_lanes();
        const std::int64_t most = static_cast<std::int64_t>(stages_.size()) * partials() * width_ * across_ * bits(what_.accumulator) / 8;
        if (lanes_ > 1 && most > kMostShared) return std::nullopt;
        return emit();
    }

private:
    bool arrange() {
        const Dims& space = what_.space;
        Dims walk = row_major_strides(space);
        for (ValueId id : node_.inputs) {
            const auto& input = places_[static_cast<std::size_t>(id)];
            if (input && graph_.value(id).dims == space) {
                walk = input->strides;
                break;
            }
        }
        for (int d : memory_order(space, walk)) {
            (bodies_.reduced[static_cast<std::size_t>(d)] ? element_order_ : row_order_).push_back(d);
            if (space[static_cast<std::size_t>(d)] > 1) inner_ = d;
        }
        for (std::size_t d = 0; d < space.size(); ++d) (bodies_.reduced[d] ? length_ : rows_) *= space[d];
        return inner_ >= 0 && !bodies_.reduced[static_cast<std::size_t>(inner_)] && rows_ > 0 && length_ > 1;
    }

    [[nodiscard]] const Value& value_of(const RowReads::Read& read) const { return graph_.value(node_.inputs[read.input]); }

    /// False where nothing that differs along the reduction is read in vectors.
    bool choose_width() {
        bool narrow = false, wide = false;
        for (const RowReads::Read& read : bodies_.reads) {
            narrow = narrow || bits(value_of(read).type) <= 16;
            wide = wide || bits(value_of(read).type) == 64;
        }
        width_ = narrow ? 8 : wide ? 2 : 4;
        if (what_.space[static_cast<std::size_t>(inner_)] % width_ != 0) return false;
        bool any = false;
        for (RowReads::Read& read : bodies_.reads) {
            const ValueId id = node_.inputs[read.input];
            const auto& place = places_[static_cast<std::size_t>(id)];
            read.vector = read.element && place && lies_in_vectors(graph_.value(id), *place, read.at, inner_, width_);
            any = any || read.vector;
        }
        return any;
    }

    /// Threads of a block: `across_` neighbouring vectors by `lanes_` shares of the reduction. Whole sectors of memory are read (32 bytes); more
    /// lanes where the device would be idle.
    void choose_lanes() {
        const std::int64_t block = target_.threads_per_block, vectors = rows_ / width_;
        std::int64_t bytes = 16;
        for (const RowReads::Read& read : bodies_.reads) {
            if (read.vector) bytes = std::min<std::int64_t>(bytes, width_ * bits(value_of(read).type) / 8);
        }
        lanes_ = std::min<std::int64_t>({block, 8, power_of_two_at_least((length_ + 15) / 16)});
        while (lanes_ < block && lanes_ < length_ && block / lanes_ * bytes > 32 &&
               (vectors + block / lanes_ - 1) / (block / lanes_) < std::int64_t{2} * target_.multiprocessors)
            lanes_ *= 2;
        across_ = block / lanes_;
    }

    /// Parts of a row's reduction that shuffles leave: one per warp where a warp holds several lanes.
    [[nodiscard]] std::int64_t partials() const { return across_ < 32 ? std::max<std::int64_t>(1, target_.threads_per_block / 32) : lanes_; }

    /// Coordinates of the rows that a thread has: all but the innermost, which begins at b_.
    [[nodiscard]] std::string row_positions() const {
        Dims dims = what_.space;
        dims[static_cast<std::size_t>(inner_)] /= width_;
        std::string text = decompose(dims, row_order_, "vector");
        const std::string inner = fmt::format("const idx i{} = ", inner_);
        text.replace(text.find(inner), inner.size(), "const idx q_ = ");
        return text + fmt::format("const idx b_ = q_ * {}; ", width_);
    }

    [[nodiscard]] std::string offset(const RowReads::Read& read) const {
        const Place& place = *places_[static_cast<std::size_t>(node_.inputs[read.input])];
        std::string text;
        for (std::size_t d = 0; d < read.at.size(); ++d) {
            if (read.at[d] == "0" || place.strides[d] == 0) continue;
            const bool inner = read.at[d] == fmt::format("i{}", inner_);
            text += fmt::format("{}{} * (idx)({})", text.empty() ? "" : " + ", inner ? "b_" : read.at[d], place.strides[d]);
        }
        return text.empty() ? "0" : text;
    }

    /// s{j}[v] over the thread's share of the reduction.
    std::string accumulate(std::size_t j, const std::string& known, const CombineText& combine) {
        const std::string_view accumulator = to_string(what_.accumulator);
        const std::int64_t at_once = std::min(kInFlight, (length_ + lanes_ - 1) / lanes_);
        std::string text =
            fmt::format("  {0} s{1}[{2}];\n  UNROLL for (int v = 0; v < {2}; ++v) s{1}[v] = {3};\n", accumulator, j, width_, combine.identity);
        text += fmt::format("  if (active) for (idx first = lane; first < (idx){}; first += {}) {{\n", length_, lanes_ * at_once);
        const std::string each = fmt::format("    UNROLL for (int u = 0; u < {}; ++u) {{ const idx e = first + u * {}; if (e < (idx){}) {{ {}\n",
                                             at_once, lanes_, length_, decompose(what_.space, element_order_, "e"));
        std::string fetched, arguments;
        for (std::size_t n = 0; n < bodies_.reads.size(); ++n) {
            const RowReads::Read& read = bodies_.reads[n];
            const ValueId id = node_.inputs[read.input];
            const Value& value = graph_.value(id);
            if (!read.vector) {
                std::string at;
                for (const std::string& coordinate : read.at) at += ", " + coordinate;
                arguments += fmt::format(", {}(@_A{})", functions_.reader(id), at);
                continue;
            }
            const std::int64_t bytes = width_ * bits(value.type) / 8, unit = std::min<std::int64_t>(bytes, 16), parts = bytes / unit;
            functions_.use(value.dims, places_[static_cast<std::size_t>(id)]->strides);
            text += fmt::format("    union {{ {} w[{}]; {} v[{}]; }} t{}[{}];\n", unit == 8 ? "words2" : "words4", parts, storage_type(value.type),
                                width_, n, at_once);
            for (std::int64_t part = 0; part < parts; ++part)
                fetched += fmt::format("      t{}[u].w[{}] = load{}({} + ({} + {}));\n", n, part, unit, functions_.argument(id, false), offset(read),
                                       part * unit * 8 / bits(value.type));
            arguments += ", " + load(value.type, fmt::format("t{}[u].v", n), "v");
        }
        text += each + fetched + "    } }\n" + each;
        return text + fmt::format(
                          "      UNROLL for (int v = 0; v < {0}; ++v) {{ const idx i{1} = b_ + v; const {2} x = s{3}[v], y = @_s{3}(@_A{4}{5}{6}); "
                          "s{3}[v] = {7}; }}\n    }} }}\n  }}\n",
                          width_, inner_, accumulator, j, arguments_of(what_.space.size()), known, arguments, combine.expression);
    }

    /// s{j}[v] over all lanes, in every thread.
    [[nodiscard]] std::string reduce(std::size_t j, const std::string& expression) const {
        if (lanes_ == 1) return {};
        const Type type = what_.accumulator;
        const std::string name(to_string(type)), suffix = type == Type::f64 ? "F64" : type == Type::f32 ? "F32" : "I64";
        std::string text, writes, part = "lane";
        if (across_ < 32) {
            text = fmt::format(
                "  UNROLL for (int w = {0}; w < 32; w *= 2) {{ UNROLL for (int v = 0; v < {1}; ++v) {{ const {2} x = s{3}[v], y = "
                "({2})SHUFFLE_XOR_{4}(s{3}[v], w); s{3}[v] = {5}; }} }}\n",
                across_, width_, name, j, suffix, expression);
            writes = fmt::format("if (THREAD % 32 < {}) ", across_);
            part = "THREAD / 32";
        }
        text += fmt::format("  {0}{{ UNROLL for (int v = 0; v < {1}; ++v) scratch[{2}][{3}][v][line] = s{2}[v]; }}\n  BARRIER();\n", writes, width_,
                            j, part);
        return text +
               fmt::format(
                   "  UNROLL for (int v = 0; v < {0}; ++v) {{\n    s{1}[v] = scratch[{1}][0][v][line];\n    for (int w = 1; w < {2}; ++w) {{ const "
                   "{3} x = s{1}[v], y = scratch[{1}][w][v][line]; s{1}[v] = {4}; }}\n  }}\n",
                   width_, j, partials(), name, expression);
    }

    KernelSource emit() {
        const Value& value = graph_.value(output_);
        const Place& place = *places_[static_cast<std::size_t>(output_)];
        const std::string_view accumulator = to_string(what_.accumulator);
        const std::size_t rank = what_.space.size();
        functions_.use(value.dims, place.strides);
        functions_.use(what_.space, row_major_strides(what_.space));
        const std::string out = functions_.argument(output_, true);

        std::string text, known, given;
        for (std::size_t n = 0; n < bodies_.reads.size(); ++n)
            given += fmt::format(", const {} e{}_", compute_type(value_of(bodies_.reads[n]).type), n);
        for (std::size_t j = 0; j < stages_.size(); ++j) {
            text += fmt::format("FUNCTION {} @_s{}(@_P{}{}{}) {{ {} }}\n", accumulator, j, coordinates(rank), known, given,
                                functions_.bound(node_, stages_[j]));
            known += fmt::format(", {} s{}", accumulator, j);
        }
        const std::string_view result_type = what_.accumulator == Type::f64 ? "f64" : is_float(value.type) ? "f32" : compute_type(value.type);
        text += fmt::format("FUNCTION {} @_r0(@_P{}{}) {{ {} }}\n", result_type, coordinates(rank), known, functions_.bound(node_, what_.result));
        std::string chain = fmt::format("@_r0(@_A{}", arguments_of(rank));
        for (std::size_t j = 0; j < stages_.size(); ++j) chain += fmt::format(", s{}[v]", j);
        chain += ")";
        for (std::size_t j = 0; j < what_.epilogues.size(); ++j) {
            const std::string_view type = j + 1 == what_.epilogues.size() ? compute_type(value.type) : result_type;
            text += fmt::format("FUNCTION {} @_e{}(@_P{}, {} r) {{ {} }}\n", type, j, coordinates(rank), result_type,
                                functions_.bound(node_, what_.epilogues[j]));
            chain = fmt::format("@_e{}(@_A{}, {})", j, arguments_of(rank), chain);
        }

        const std::int64_t vectors = rows_ / width_;
        text += "KERNEL(@)(@_P) {\n";
        if (lanes_ > 1) text += fmt::format("  SHARED {} scratch[{}][{}][{}][{}];\n", accumulator, stages_.size(), partials(), width_, across_);
        text += fmt::format("  const int line = THREAD % {0}, lane = THREAD / {0};\n", across_);
        text += fmt::format(
            "  const i64 vector64 = (i64)GROUP * {} + line;\n  const int active = vector64 < limit_;\n  const idx vector = active ? (idx)vector64 : "
            "0;\n  "
            "{}\n",
            across_, row_positions());
        std::string known_values;
        for (std::size_t j = 0; j < stages_.size(); ++j) {
            const CombineText combine = combine_text(what_.stages[j].combine, what_.accumulator);
            text += accumulate(j, known_values, combine) + reduce(j, combine.expression);
            if (!what_.stages[j].finish.empty())
                text += fmt::format("  UNROLL for (int v = 0; v < {0}; ++v) {{ const {1} s = s{2}[v]; s{2}[v] = {3}; }}\n", width_, accumulator, j,
                                    what_.stages[j].finish);
            known_values += fmt::format(", s{}[v]", j);
        }
        std::string zeros;
        for (int axis : what_.axes) zeros += fmt::format("const idx i{} = 0; ", axis);
        text += fmt::format(
            "  if (active && lane == 0) {{ {}UNROLL for (int v = 0; v < {}; ++v) {{ const idx i{} = b_ + v; const {} r_ = {}; {} }} }}\n}}\n", zeros,
            width_, inner_, compute_type(value.type), chain, store(value.type, out, offset_expression(value.dims, place.strides), "r_"));
        return functions_.finish(text, groups((vectors + across_ - 1) / across_, target_.threads_per_block, vectors));
    }

    const Graph& graph_;
    const Places& places_;
    const Node& node_;
    const Rowwise& what_;
    const CodegenTarget& target_;
    const ValueId output_;
    Functions functions_;
    RowReads bodies_;
    std::vector<int> row_order_, element_order_;
    int inner_ = -1;  // the dimension along memory
    std::int64_t rows_ = 1, length_ = 1;
    std::int64_t width_ = 1;   // rows of a thread
    std::int64_t lanes_ = 1;   // threads of a row
    std::int64_t across_ = 1;  // vectors of a block
    std::vector<std::string> stages_;
};

}  // namespace

std::optional<KernelSource> strided_rows_kernel(const Graph& graph, const Places& places, const Node& node, const CodegenTarget& target) {
    return StridedRows(graph, places, node, target).make();
}

}  // namespace ai_vmm::cuda
