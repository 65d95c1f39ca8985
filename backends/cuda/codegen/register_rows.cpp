// SPDX-License-Identifier: Apache-2.0
#include "codegen/register_rows.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "codegen/row_reads.hpp"
#include "codegen/text.hpp"

namespace ai_vmm::cuda {
namespace {

/// Elements that a thread of a GPU keeps, over all values that stages read.
constexpr std::int64_t kMostRegisters = 96;

class RegisterRows {
public:
    RegisterRows(const Graph& graph, const Places& places, const Node& node, const CodegenTarget& target)
        : graph_(graph),
          places_(places),
          node_(node),
          what_(std::get<Rowwise>(node.what)),
          target_(target),
          output_(node.outputs.front()),
          functions_(graph, places),
          bodies_(graph, node) {}

    std::optional<KernelSource> make() {
        if (!arrange()) return std::nullopt;
        for (const Rowwise::Stage& stage : what_.stages) stages_.push_back(bodies_.rewritten(stage.body, true));
        if (!what_.per_row) {
            result_ = bodies_.rewritten(what_.result, false);
            for (const std::string& epilogue : what_.epilogues) epilogues_.push_back(bodies_.rewritten(epilogue, false));
        }
        if (std::none_of(reads_.begin(), reads_.end(), [](const RowReads::Read& read) { return read.stage && read.element; })) return std::nullopt;
        choose_width();
        if (!choose_lanes()) return std::nullopt;
        return emit();
    }

private:
    bool arrange() {
        const Dims& space = what_.space;
        Dims walk = what_.per_row ? row_major_strides(space) : places_[static_cast<std::size_t>(output_)]->strides;
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
        return inner_ >= 0 && bodies_.reduced[static_cast<std::size_t>(inner_)] && rows_ > 0 && length_ > 1;
    }

    [[nodiscard]] const Value& value_of(const RowReads::Read& read) const { return graph_.value(node_.inputs[read.input]); }

    [[nodiscard]] bool aligned(ValueId id, const std::vector<std::string>& at) const {
        const auto& place = places_[static_cast<std::size_t>(id)];
        return place && lies_in_vectors(graph_.value(id), *place, at, inner_, width_);
    }

    void choose_width() {
        const Value& out = graph_.value(output_);
        bool narrow = !what_.per_row && bits(out.type) <= 16, wide = !what_.per_row && bits(out.type) == 64;
        for (const RowReads::Read& read : reads_) {
            if (!read.element) continue;
            narrow = narrow || bits(value_of(read).type) <= 16;
            wide = wide || bits(value_of(read).type) == 64;
        }
        width_ = narrow ? 8 : wide ? 2 : 4;
        bool any = what_.space[static_cast<std::size_t>(inner_)] % width_ == 0;
        if (any) {
            any = false;
            for (RowReads::Read& read : reads_) {
                read.vector = read.element && aligned(node_.inputs[read.input], read.at);
                any = any || read.vector;
            }
        }
        if (!any) {
            width_ = 1;
            return;
        }
        std::vector<std::string> own;
        for (std::size_t d = 0; d < out.dims.size(); ++d) own.push_back(out.dims[d] == 1 ? "0" : fmt::format("i{}", d));
        store_vector_ = !what_.per_row && aligned(output_, own);
    }

    bool choose_lanes() {
        const std::int64_t vectors = length_ / width_, block = target_.threads_per_block;
        lanes_ = 1;
        if (block > 1) {
            const std::int64_t most = power_of_two_at_least(vectors);
            // A warp's accesses are to be whole lines; then few elements a thread, fewer still where the device would be idle.
            while (lanes_ < block && lanes_ < most && (lanes_ * width_ < 32 || (vectors + lanes_ - 1) / lanes_ * width_ > 32)) lanes_ *= 2;
            while (lanes_ < block && lanes_ < most && rows_ * lanes_ < static_cast<std::int64_t>(target_.multiprocessors) * 512) lanes_ *= 2;
        }
        each_ = (vectors + lanes_ - 1) / lanes_;
        const std::int64_t kept = std::count_if(reads_.begin(), reads_.end(), [](const RowReads::Read& read) { return read.stage && read.element; });
        return block == 1 ? length_ * kept <= 1 << 16 : each_ * width_ * kept <= kMostRegisters;
    }

    /// ", f32 e0_, …" of what a body may read: declared, or at element [u][v], or at [v] where the result reads it.
    [[nodiscard]] std::string parameters(bool stage) const {
        std::string text;
        for (std::size_t n = 0; n < reads_.size(); ++n) {
            if (!stage || reads_[n].stage) text += fmt::format(", const {} e{}_", compute_type(value_of(reads_[n]).type), n);
        }
        return text;
    }
    [[nodiscard]] std::string arguments(bool stage) const {
        std::string text;
        for (std::size_t n = 0; n < reads_.size(); ++n) {
            if (stage && !reads_[n].stage) continue;
            text += !reads_[n].element ? fmt::format(", e{}_", n) : reads_[n].stage ? fmt::format(", e{}_[u][v]", n) : fmt::format(", e{}_[v]", n);
        }
        return text;
    }

    /// An element by its reader.
    std::string scalar_read(const RowReads::Read& read) {
        std::string at;
        for (const std::string& coordinate : read.at) at += ", " + coordinate;
        return fmt::format("{}(@_A{})", functions_.reader(node_.inputs[read.input]), at);
    }

    /// Statements that fill `name` (an array of width_) with the elements from position b_ on.
    std::string fetch(std::size_t n, const std::string& name) {
        const RowReads::Read& read = reads_[n];
        const Value& value = value_of(read);
        if (!read.vector)
            return fmt::format("UNROLL for (int v = 0; v < {}; ++v) {{ const idx i{} = b_ + v; {}[v] = {}; }}\n", width_, inner_, name,
                               scalar_read(read));
        const ValueId id = node_.inputs[read.input];
        const Place& place = *places_[static_cast<std::size_t>(id)];
        const int bytes = static_cast<int>(width_) * bits(value.type) / 8, parts = bytes <= 8 ? 1 : bytes / 16, unit = bytes <= 8 ? 8 : 16;
        functions_.use(value.dims, place.strides);
        std::string offset;
        for (std::size_t d = 0; d < read.at.size(); ++d) {
            if (read.at[d] == "0" || place.strides[d] == 0) continue;
            offset += fmt::format("{}{} * (idx)({})", offset.empty() ? "" : " + ", read.at[d], place.strides[d]);
        }
        std::string text = fmt::format("{{ const idx i{} = b_; union {{ {} w[{}]; {} v[{}]; }} t; ", inner_, unit == 8 ? "words2" : "words4", parts,
                                       storage_type(value.type), width_);
        const std::string pointer = functions_.argument(id, false);
        for (int part = 0; part < parts; ++part)
            text += fmt::format("t.w[{}] = load{}({} + ({} + {})); ", part, unit, pointer, offset.empty() ? "0" : offset,
                                part * unit * 8 / bits(value.type));
        return text + fmt::format("UNROLL for (int v = 0; v < {}; ++v) {}[v] = {}; }}\n", width_, name, load(value.type, "t.v", "v"));
    }

    /// The loop over the thread's vectors; `body` knows u, b_ and the coordinates of the first element but the innermost.
    std::string loop(const std::string& body) const {
        std::string positions = decompose(what_.space, element_order_, "e");
        const std::string inner = fmt::format("const idx i{} = ", inner_);
        positions.replace(positions.find(inner), inner.size(), "const idx b_ = ");
        const bool whole = each_ * lanes_ * width_ == length_;
        return fmt::format(
            "  UNROLL\n  for (int u = 0; u < {}; ++u) {{\n    const idx e = (lane + u * {}) * {};\n    if (active{}) {{ {}\n{}    }}\n  }}\n", each_,
            lanes_, width_, whole ? "" : fmt::format(" && e < (idx){}", length_), positions, body);
    }

    KernelSource emit() {
        const Value& value = graph_.value(output_);
        const Place& place = *places_[static_cast<std::size_t>(output_)];
        const std::string_view accumulator = to_string(what_.accumulator);
        const std::size_t rank = what_.space.size();
        functions_.use(value.dims, place.strides);
        functions_.use(what_.space, row_major_strides(what_.space));
        const std::string out = functions_.argument(output_, true);

        // The functions: stages, the result, what follows it.
        std::string text, known;
        for (std::size_t j = 0; j < stages_.size(); ++j) {
            text += fmt::format("FUNCTION {} @_s{}(@_P{}{}{}) {{ {} }}\n", accumulator, j, coordinates(rank), known, parameters(true),
                                functions_.bound(node_, stages_[j]));
            known += fmt::format(", {} s{}", accumulator, j);
        }
        const std::string_view result_type = what_.accumulator == Type::f64 ? "f64" : is_float(value.type) ? "f32" : compute_type(value.type);
        const std::string given = what_.per_row ? "" : parameters(false);
        text += fmt::format("FUNCTION {} @_r0(@_P{}{}{}) {{ {} }}\n", result_type, coordinates(rank), known, given,
                            functions_.bound(node_, what_.per_row ? what_.result : result_));
        std::string chain = fmt::format("@_r0(@_A{}{}{})", arguments_of(rank), known_names(stages_.size()), what_.per_row ? "" : arguments(false));
        const auto& epilogues = what_.per_row ? what_.epilogues : epilogues_;
        for (std::size_t j = 0; j < epilogues.size(); ++j) {
            const std::string_view type = j + 1 == epilogues.size() ? compute_type(value.type) : result_type;
            text += fmt::format("FUNCTION {} @_e{}(@_P{}{}, {} r) {{ {} }}\n", type, j, coordinates(rank), given, result_type,
                                functions_.bound(node_, epilogues[j]));
            chain = fmt::format("@_e{}(@_A{}{}, {})", j, arguments_of(rank), what_.per_row ? "" : arguments(false), chain);
        }

        const std::int64_t block = target_.threads_per_block, across = block / lanes_, warps = lanes_ / 32;
        text += "KERNEL(@)(@_P) {\n";
        if (warps > 1) text += fmt::format("  SHARED {} scratch[{}][BLOCK / 32];\n", accumulator, stages_.size());
        text += fmt::format("  const int lane = THREAD % {0}, line = THREAD / {0};\n", lanes_);
        text += fmt::format(
            "  const i64 row64 = (i64)GROUP * {} + line;\n  const int active = row64 < limit_;\n  const idx row = active ? (idx)row64 : 0;\n  {}\n",
            across, decompose(what_.space, row_order_, "row"));
        std::string fetched;
        for (std::size_t n = 0; n < reads_.size(); ++n) {
            const RowReads::Read& read = reads_[n];
            const std::string_view type = compute_type(value_of(read).type);
            if (!read.element) {
                text += fmt::format("  const {} e{}_ = {};\n", type, n, scalar_read(read));
            } else if (read.stage) {
                text += fmt::format("  {} e{}_[{}][{}];\n", type, n, each_, width_);
                fetched += "      " + fetch(n, fmt::format("e{}_[u]", n));
            }
        }
        text += loop(fetched);
        std::string known_arguments;
        for (std::size_t j = 0; j < stages_.size(); ++j) {
            const CombineText combine = combine_text(what_.stages[j].combine, what_.accumulator);
            text += fmt::format("  {} s{} = {};\n", accumulator, j, combine.identity);
            text += loop(fmt::format(
                "      UNROLL\n      for (int v = 0; v < {}; ++v) {{ const idx i{} = b_ + v; const {} x = s{}, y = @_s{}(@_A{}{}{}); s{} = {}; }}\n",
                width_, inner_, accumulator, j, j, arguments_of(rank), known_arguments, arguments(true), j, combine.expression));
            text += reduce(j, combine.expression);
            if (!what_.stages[j].finish.empty())
                text += fmt::format("  {{ const {0} s = s{1}; s{1} = {2}; }}\n", accumulator, j, what_.stages[j].finish);
            known_arguments += fmt::format(", s{}", j);
        }
        if (what_.per_row) {
            std::string zeros;
            for (int axis : what_.axes) zeros += fmt::format("const idx i{} = 0; ", axis);
            text += fmt::format("  if (active && lane == 0) {{ {} const {} v = {}; {} }}\n", zeros, compute_type(value.type), chain,
                                store(value.type, out, offset_expression(value.dims, place.strides), "v"));
        } else {
            text += loop(write(value, place, out, chain));
        }
        text += "}\n";
        return functions_.finish(text, groups((rows_ + across - 1) / across, target_.threads_per_block, rows_));
    }

    /// s{j} over all lanes of a row.
    [[nodiscard]] std::string reduce(std::size_t j, const std::string& expression) const {
        if (lanes_ == 1) return {};
        const Type type = what_.accumulator;
        const std::string name(to_string(type)), suffix = type == Type::f64 ? "F64" : type == Type::f32 ? "F32" : "I64";
        std::string text = fmt::format("  for (int w = {}; w > 0; w >>= 1) {{ const {} x = s{}, y = ({})SHUFFLE_XOR_{}(s{}, w); s{} = {}; }}\n",
                                       std::min<std::int64_t>(lanes_, 32) / 2, name, j, name, suffix, j, j, expression);
        if (lanes_ <= 32) return text;
        const std::int64_t warps = lanes_ / 32;
        text += fmt::format("  if (lane % 32 == 0) scratch[{0}][THREAD / 32] = s{0};\n  BARRIER();\n  s{0} = scratch[{0}][line * {1}];\n", j, warps);
        return text + fmt::format("  UNROLL\n  for (int w = 1; w < {}; ++w) {{ const {} x = s{}, y = scratch[{}][line * {} + w]; s{} = {}; }}\n",
                                  warps, name, j, j, warps, j, expression);
    }

    /// Stores the results of a vector.
    std::string write(const Value& value, const Place& place, const std::string& out, const std::string& chain) {
        std::string text;
        for (std::size_t n = 0; n < reads_.size(); ++n) {
            if (!reads_[n].element || reads_[n].stage) continue;
            text += fmt::format("      {} e{}_[{}];\n      ", compute_type(value_of(reads_[n]).type), n, width_) + fetch(n, fmt::format("e{}_", n));
        }
        const std::string at = offset_expression(value.dims, place.strides);
        if (!store_vector_) {
            return text + fmt::format("      UNROLL\n      for (int v = 0; v < {}; ++v) {{ const idx i{} = b_ + v; const {} r_ = {}; {} }}\n", width_,
                                      inner_, compute_type(value.type), chain, store(value.type, out, at, "r_"));
        }
        const int bytes = static_cast<int>(width_) * bits(value.type) / 8, parts = bytes <= 8 ? 1 : bytes / 16, unit = bytes <= 8 ? 8 : 16;
        text += fmt::format("      union {{ {} w[{}]; {} v[{}]; }} o_;\n", unit == 8 ? "words2" : "words4", parts, storage_type(value.type), width_);
        text += fmt::format("      UNROLL\n      for (int v = 0; v < {}; ++v) {{ const idx i{} = b_ + v; const {} r_ = {}; {} }}\n", width_, inner_,
                            compute_type(value.type), chain, store(value.type, "o_.v", "v", "r_"));
        text += fmt::format("      const idx i{} = b_;", inner_);
        for (int part = 0; part < parts; ++part)
            text += fmt::format(" store{}({} + ({} + {}), o_.w[{}]);", unit, out, at, part * unit * 8 / bits(value.type), part);
        return text + "\n";
    }

    const Graph& graph_;
    const Places& places_;
    const Node& node_;
    const Rowwise& what_;
    const CodegenTarget& target_;
    const ValueId output_;
    Functions functions_;
    std::vector<int> row_order_, element_order_;
    int inner_ = -1;  // the dimension along memory
    std::int64_t rows_ = 1, length_ = 1;
    std::int64_t width_ = 1;  // elements of a vector
    std::int64_t lanes_ = 1;  // threads of a row
    std::int64_t each_ = 1;   // vectors of a thread
    bool store_vector_ = false;
    RowReads bodies_;
    std::vector<RowReads::Read>& reads_ = bodies_.reads;
    std::vector<std::string> stages_, epilogues_;
    std::string result_;
};

}  // namespace

std::optional<KernelSource> register_rows_kernel(const Graph& graph, const Places& places, const Node& node, const CodegenTarget& target) {
    return RegisterRows(graph, places, node, target).make();
}

}  // namespace ai_vmm::cuda
