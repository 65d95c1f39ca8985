// SPDX-License-Identifier: Apache-2.0
/// Kernels of Compute nodes: an element or several side by side per thread.
#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "codegen/vector_views.hpp"

namespace ai_vmm::cuda {
namespace {

/// Elementwise trees whose leaves lie contiguous along the result's innermost dimension, by themselves or through views: each thread loads and stores
/// several elements at once.
class VectorKernel {
public:
    /// @param copy  where what the output's node reads is stored too; -1: nowhere
    VectorKernel(const Graph& graph, const Places& places, ValueId output, const CodegenTarget& target, ValueId copy = -1)
        : graph_(graph), places_(places), target_(target), output_(output), copy_(copy), functions_(graph, places) {}

    std::optional<KernelSource> make() {
        const Value& value = graph_.value(output_);
        const Place& place = *places_[static_cast<std::size_t>(output_)];
        const std::vector<int> order = memory_order(value.dims, place.strides);
        inner_ = -1;
        for (int d : order) {
            if (value.dims[static_cast<std::size_t>(d)] > 1) inner_ = d;
        }
        if (inner_ < 0 || place.strides[static_cast<std::size_t>(inner_)] != 1 || bits(value.type) == 4) return std::nullopt;
        narrow_ = bits(value.type) <= 16;
        if (!collect(output_)) return std::nullopt;
        width_ = narrow_ ? 8 : 4;
        views_.emplace(graph_, places_, functions_, width_);
        if (copy_ >= 0) views_->copy(graph_.producer(output_)->inputs.front(), copy_);
        const std::int64_t count = elements(value.dims), size = value.dims[static_cast<std::size_t>(inner_)];
        if (size % width_ != 0 || count / width_ < static_cast<std::int64_t>(target_.threads_per_block - 1) * target_.multiprocessors / 2)
            return std::nullopt;
        if (!aligned_vectors(value, place, inner_, width_)) return std::nullopt;
        if (nodes_.empty() && !views_->reader(output_, inner_, false)) return std::nullopt;
        for (ValueId leaf : leaves_) {
            const int d = inner_of(leaf);
            if (d < 0) continue;
            if (placed(leaf) ? !aligned_vectors(graph_.value(leaf), *places_[static_cast<std::size_t>(leaf)], d, width_) : !views_->reader(leaf, d))
                return std::nullopt;
        }
        functions_.use(value.dims, place.strides);
        return emit(order, count / width_);
    }

private:
    /// The leaf's dimension that runs along the result's innermost one; -1: the leaf is broadcast along it.
    [[nodiscard]] int inner_of(ValueId leaf) const {
        const Dims& dims = graph_.value(leaf).dims;
        const int d = inner_ + static_cast<int>(dims.size()) - static_cast<int>(graph_.value(output_).dims.size());
        return d < 0 || dims[static_cast<std::size_t>(d)] == 1 ? -1 : d;
    }

    [[nodiscard]] bool placed(ValueId id) const { return places_[static_cast<std::size_t>(id)].has_value(); }

    /// Whether elements of 16 bits or fewer are read behind the views below `id`.
    [[nodiscard]] bool narrow_below(ValueId id, std::set<ValueId>& seen) const {
        if (!seen.insert(id).second) return false;
        if (bits(graph_.value(id).type) <= 16) return true;
        const Node* node = id != output_ && placed(id) ? nullptr : graph_.producer(id);
        return node != nullptr && std::any_of(node->inputs.begin(), node->inputs.end(), [&](ValueId input) { return narrow_below(input, seen); });
    }

    /// What VectorViews may read.
    [[nodiscard]] static bool moves(const Compute& compute) {
        return compute.view.kind != View::Kind::none || compute.op == "Concat" || !compute.across.empty();
    }

    /// The tree below `id` in evaluation order; false if something in it isn't elementwise.
    bool collect(ValueId id) {
        if (std::find(nodes_.begin(), nodes_.end(), id) != nodes_.end() || std::find(leaves_.begin(), leaves_.end(), id) != leaves_.end())
            return true;
        const Value& value = graph_.value(id);
        if (id != output_ && scalar_literal(value)) return true;
        if (id != output_ && places_[static_cast<std::size_t>(id)]) {
            narrow_ = narrow_ || bits(value.type) <= 16;
            leaves_.push_back(id);
            return bits(value.type) >= 8;
        }
        const Node* node = graph_.producer(id);
        const auto* compute = node == nullptr ? nullptr : std::get_if<Compute>(&node->what);
        if (compute == nullptr) return false;
        if (moves(*compute)) {
            std::set<ValueId> seen;
            narrow_ = narrow_ || narrow_below(id, seen);
            if (id != output_) leaves_.push_back(id);
            return true;
        }
        if (compute->expression.empty() || node->inputs.size() > 8 || nodes_.size() > 32) return false;
        // A type of the input by name belongs to the other form.
        for (std::size_t k = 0; k < node->inputs.size(); ++k) {
            if (compute->expression.find(fmt::format("IN{}_T", k)) != std::string::npos) return false;
        }
        for (ValueId input : node->inputs) {
            if (!collect(input)) return false;
        }
        nodes_.push_back(id);
        return true;
    }

    [[nodiscard]] std::string name_of(ValueId id) const {
        if (id != output_) {
            if (const auto constant = scalar_literal(graph_.value(id))) return *constant;
        }
        const auto leaf = std::find(leaves_.begin(), leaves_.end(), id);
        if (leaf != leaves_.end()) return fmt::format("l{}", leaf - leaves_.begin());
        return fmt::format("x{}", std::find(nodes_.begin(), nodes_.end(), id) - nodes_.begin());
    }

    /// The leaf's offset at the coordinates of the thread's first element.
    [[nodiscard]] std::string offset(ValueId id) const {
        const Dims& dims = graph_.value(id).dims;
        const Dims& strides = places_[static_cast<std::size_t>(id)]->strides;
        const std::size_t shift = graph_.value(output_).dims.size() - dims.size();
        std::string text;
        for (std::size_t d = 0; d < dims.size(); ++d) {
            if (dims[d] == 1 || strides[d] == 0) continue;
            text += fmt::format("{}i{} * (idx){}", text.empty() ? "" : " + ", d + shift, strides[d]);
        }
        return text.empty() ? "0" : text;
    }

    /// What a function of coordinates is called with for a value of `dims`.
    [[nodiscard]] std::string coordinates_of(const Dims& dims) const {
        const std::size_t shift = graph_.value(output_).dims.size() - dims.size();
        std::string text = "@_A";
        for (std::size_t d = 0; d < dims.size(); ++d) text += dims[d] == 1 ? ", 0" : fmt::format(", i{}", d + shift);
        return text;
    }

    KernelSource emit(const std::vector<int>& order, std::int64_t threads) {
        const Value& value = graph_.value(output_);
        std::string text;
        for (std::size_t n = 0; n < nodes_.size(); ++n) {
            const Node& node = *graph_.producer(nodes_[n]);
            std::string parameters;
            for (std::size_t k = 0; k < node.inputs.size(); ++k) {
                parameters +=
                    fmt::format("{}const {} {}", k == 0 ? "" : ", ", compute_type(graph_.value(node.inputs[k]).type), static_cast<char>('a' + k));
            }
            const std::string& expression = std::get<Compute>(node.what).expression;
            text +=
                fmt::format("FUNCTION {} @_f{}({}) {{ {} }}\n", compute_type(graph_.value(nodes_[n]).type), n,
                            parameters.empty() ? "void" : parameters, expression.starts_with("const ") ? expression : "return " + expression + ";");
        }
        std::string loads, each;
        const auto vector_type = [&](const std::string& name, Type type) {
            const int bytes = width_ * bits(type) / 8;
            text += fmt::format("typedef union {{ {} w[{}]; {} v[{}]; }} @_{};\n", bytes == 8 ? "words2" : "words4", bytes == 8 ? 1 : bytes / 16,
                                storage_type(type), width_, name);
            return std::pair(bytes == 8 ? 8 : 16, bytes == 8 ? 1 : bytes / 16);
        };
        for (std::size_t k = 0; k < leaves_.size(); ++k) {
            const Value& leaf = graph_.value(leaves_[k]);
            if (!placed(leaves_[k])) {
                const int d = inner_of(leaves_[k]);
                const std::string at = coordinates_of(leaf.dims);
                if (d < 0) {
                    loads += fmt::format("    const {} l{} = {}({});\n", compute_type(leaf.type), k, functions_.reader(leaves_[k]), at);
                } else {
                    loads += fmt::format("    const {} w{} = {}({});\n", views_->structure(leaf.type), k, *views_->reader(leaves_[k], d), at);
                    each += fmt::format("      const {} l{} = w{}.v[u];\n", compute_type(leaf.type), k, k);
                }
                continue;
            }
            const std::string pointer = functions_.argument(leaves_[k], false), at = offset(leaves_[k]);
            functions_.use(leaf.dims, places_[static_cast<std::size_t>(leaves_[k])]->strides);
            if (inner_of(leaves_[k]) < 0) {
                loads += fmt::format("    const {} l{} = {};\n", compute_type(leaf.type), k, load(leaf.type, pointer, at));
                continue;
            }
            const auto [unit, parts] = vector_type(fmt::format("t{}", k), leaf.type);
            loads += fmt::format("    @_t{0} w{0};", k);
            for (int part = 0; part < parts; ++part)
                loads += fmt::format(" w{0}.w[{1}] = load{2}({3} + ({4} + {5}));", k, part, unit, pointer, at, part * unit * 8 / bits(leaf.type));
            loads += "\n";
            each += fmt::format("      const {} l{} = {};\n", compute_type(leaf.type), k, load(leaf.type, fmt::format("w{}.v", k), "u"));
        }
        for (std::size_t n = 0; n < nodes_.size(); ++n) {
            const Node& node = *graph_.producer(nodes_[n]);
            std::string arguments;
            for (std::size_t k = 0; k < node.inputs.size(); ++k) arguments += (k == 0 ? "" : ", ") + name_of(node.inputs[k]);
            each += fmt::format("      const {} x{} = @_f{}({});\n", compute_type(graph_.value(nodes_[n]).type), n, n, arguments);
        }
        const auto [unit, parts] = vector_type("to", value.type);
        const std::string out = functions_.argument(output_, true);
        if (nodes_.empty()) {
            loads += fmt::format("    const {} moved = {}({});\n", views_->structure(value.type), *views_->reader(output_, inner_, false),
                                 coordinates_of(value.dims));
            each += "      " + store(value.type, "o.v", "u", "moved.v[u]") + "\n";
        } else {
            each += "      " + store(value.type, "o.v", "u", fmt::format("x{}", nodes_.size() - 1)) + "\n";
        }
        std::string stores;
        for (int part = 0; part < parts; ++part)
            stores += fmt::format("    store{}({} + ({} + {}), o.w[{}]);\n", unit, out, offset(output_), part * unit * 8 / bits(value.type), part);
        // The innermost dimension counts vectors.
        Dims dims = value.dims;
        dims[static_cast<std::size_t>(inner_)] /= width_;
        std::string positions = decompose(dims, order, "t");
        const std::string inner = fmt::format("const idx i{} = ", inner_);
        const std::size_t at = positions.find(inner);
        positions.replace(at, inner.size(), fmt::format("const idx i{} = (idx){} * ", inner_, width_));
        const std::size_t from = at + fmt::format("const idx i{} = (idx){} * ", inner_, width_).size(), end = positions.find(';', from);
        positions = positions.substr(0, from) + "(" + positions.substr(from, end - from) + ")" + positions.substr(end);
        text = views_->text() + text;
        text += fmt::format(
            "KERNEL(@)(@_P) {{\n  const i64 t64 = (i64)GROUP * BLOCK + THREAD;\n  if (t64 < limit_) {{\n    const idx t = (idx)t64;\n    {}\n{}    "
            "@_to o;\n    UNROLL\n    for (int u = 0; u < {}; ++u) {{\n{}    }}\n{}  }}\n}}\n",
            positions, loads, width_, each, stores);
        return functions_.finish(text,
                                 groups((threads + target_.threads_per_block - 1) / target_.threads_per_block, target_.threads_per_block, threads));
    }

    const Graph& graph_;
    const Places& places_;
    const CodegenTarget& target_;
    const ValueId output_, copy_;
    Functions functions_;
    std::optional<VectorViews> views_;
    std::vector<ValueId> nodes_, leaves_;
    int inner_ = -1;
    std::int64_t width_ = 4;
    bool narrow_ = false;  // some element takes 16 bits or fewer
};

}  // namespace

std::optional<KernelSource> copying_kernel(const Graph& graph, const Places& places, ValueId output, ValueId copy, const CodegenTarget& target) {
    const auto& compute = std::get<Compute>(graph.producer(output)->what);
    if (!compute.each_once || compute.across.empty()) return std::nullopt;
    return VectorKernel(graph, places, output, target, copy).make();
}

KernelSource compute_kernel(const Graph& graph, const Places& places, ValueId output, const CodegenTarget& target) {
    const Value& value = graph.value(output);
    const Node& node = *graph.producer(output);
    const Place& place = *places[static_cast<std::size_t>(output)];
    if (auto vector = VectorKernel(graph, places, output, target).make()) return *std::move(vector);
    Functions functions(graph, places);
    functions.use(value.dims, place.strides);
    const std::string body = functions.bound(node, std::get<Compute>(node.what).body);
    const std::string out = functions.argument(output, true);

    const std::int64_t count = elements(value.dims);
    // Enough independent work per thread to hide latency once the device is full.
    const std::int64_t full = static_cast<std::int64_t>(target.threads_per_block) * target.multiprocessors * 8;
    const bool nibbles = bits(value.type) == 4;  // a thread writes both halves of a byte
    const int unroll = nibbles ? 2 : target.threads_per_block > 1 && count >= full * 4 ? 4 : 1;
    const std::int64_t per_group = static_cast<std::int64_t>(target.threads_per_block) * unroll;
    const std::vector<int> order = memory_order(value.dims, place.strides);
    // A few elements side by side, as the channels of an image, that come from as many places: a thread takes them together, so that neighbouring
    // threads read neighbouring ones of each.
    int inner = -1;
    for (int d : order) {
        if (value.dims[static_cast<std::size_t>(d)] > 1) inner = d;
    }
    const std::int64_t together = inner < 0 ? 1 : value.dims[static_cast<std::size_t>(inner)];
    if (!nibbles && together >= 2 && together <= 8 && count >= full * together) {
        std::vector<int> rest(order);
        rest.erase(std::find(rest.begin(), rest.end(), inner));
        std::string kernel = fmt::format("FUNCTION {} @_r(@_P{}) {{ {} }}\n", compute_type(value.type), coordinates(value.dims.size()), body);
        kernel += fmt::format(
            "KERNEL(@)(@_P) {{\n  const i64 t64 = (i64)GROUP * BLOCK + THREAD;\n  if (t64 < limit_) {{\n    const idx t = (idx)t64;\n    {}\n    {} "
            "v[{}];\n    UNROLL\n    for (idx i{} = 0; i{} < {}; ++i{}) v[i{}] = @_r(@_A{});\n",
            decompose(value.dims, rest, "t"), compute_type(value.type), together, inner, inner, together, inner, inner,
            arguments_of(value.dims.size()));
        const std::int64_t whole = together * bits(value.type) / 8;
        if ((whole == 8 || whole == 16) && aligned_vectors(value, place, inner, together)) {
            kernel = fmt::format("typedef union {{ words{} w; {} v[{}]; }} @_to;\n", whole / 4, storage_type(value.type), together) + kernel;
            kernel += fmt::format("    @_to o;\n    UNROLL\n    for (idx i{0} = 0; i{0} < {1}; ++i{0}) {{ {2} }}\n", inner, together,
                                  store(value.type, "o.v", fmt::format("i{}", inner), fmt::format("v[i{}]", inner)));
            kernel += fmt::format("    {{ const idx i{} = 0; store{}({} + ({}), o.w); }}\n  }}\n}}\n", inner, whole, out,
                                  offset_expression(value.dims, place.strides));
        } else {
            kernel += fmt::format("    UNROLL\n    for (idx i{0} = 0; i{0} < {1}; ++i{0}) {{ {2} }}\n  }}\n}}\n", inner, together,
                                  store(value.type, out, offset_expression(value.dims, place.strides), fmt::format("v[i{}]", inner)));
        }
        return functions.finish(
            kernel, groups((count / together + target.threads_per_block - 1) / target.threads_per_block, target.threads_per_block, count / together));
    }
    std::string text = fmt::format("FUNCTION {} @_r(@_P{}) {{ {} }}\n", compute_type(value.type), coordinates(value.dims.size()), body);
    text += fmt::format("KERNEL(@)(@_P) {{\n  const i64 base = (i64)GROUP * {} + THREAD;\n", per_group);
    if (unroll > 1) text += "  UNROLL\n";
    text +=
        fmt::format("  for (int u = 0; u < {}; ++u) {{\n    const i64 t64 = {};\n    if (t64 < limit_) {{\n      const idx t = (idx)t64;\n      {}\n",
                    unroll, nibbles ? "base + THREAD + u" : "base + (i64)u * BLOCK", decompose(value.dims, order, "t"));
    text += fmt::format("      const {} v = @_r(@_A{});\n      {}\n    }}\n  }}\n}}\n", compute_type(value.type), arguments_of(value.dims.size()),
                        store(value.type, out, offset_expression(value.dims, place.strides), "v"));
    return functions.finish(text, groups((count + per_group - 1) / per_group, target.threads_per_block, count));
}

}  // namespace ai_vmm::cuda
