// SPDX-License-Identifier: Apache-2.0
#include "graph/passes.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <limits>
#include <map>
#include <optional>

#include "graph/rewriter.hpp"

namespace ai_vmm::cuda {
namespace {

std::optional<Activation> activation_of(const Node& node) {
    const auto* compute = std::get_if<Compute>(&node.what);
    if (compute == nullptr || node.inputs.size() != 1) return std::nullopt;
    static const std::map<std::string, Activation> kNames{
        {"Relu", Activation::relu}, {"GeluTanh", Activation::gelu_tanh}, {"GeluErf", Activation::gelu_erf}, {"Sigmoid", Activation::sigmoid},
        {"Tanh", Activation::tanh}, {"Swish", Activation::silu},         {"HSwish", Activation::hard_swish}};
    const auto found = kNames.find(compute->op);
    return found == kNames.end() ? std::nullopt : std::optional(found->second);
}

/// Replaces every "inK(" and "INK_T" by another number.
std::string renumbered(const std::string& body, const std::vector<int>& to) {
    std::string out;
    for (std::size_t at = 0; at < body.size();) {
        const bool boundary = at == 0 || (std::isalnum(static_cast<unsigned char>(body[at - 1])) == 0 && body[at - 1] != '_');
        const bool lower = boundary && body.compare(at, 2, "in") == 0, upper = boundary && body.compare(at, 2, "IN") == 0;
        if (lower || upper) {
            std::size_t end = at + 2;
            while (end < body.size() && std::isdigit(static_cast<unsigned char>(body[end])) != 0) ++end;
            const bool token = end > at + 2 && (lower ? end < body.size() && body[end] == '(' : body.compare(end, 2, "_T") == 0);
            if (token) {
                out += body.substr(at, 2) + std::to_string(to.at(static_cast<std::size_t>(std::stoi(body.substr(at + 2, end - at - 2)))));
                at = end;
                continue;
            }
        }
        out += body[at++];
    }
    return out;
}

class Fuse final : public Rewriter {
public:
    Fuse(Graph graph, const FuseOptions& options) : Rewriter(std::move(graph)), options_(options) {}

private:
    std::optional<ValueId> rewrite(const Node& node) override {
        const auto* compute = std::get_if<Compute>(&node.what);
        if (compute == nullptr) return std::nullopt;
        if (compute->view.kind != View::Kind::none) return joined_views(node);
        if (const auto x = swish_of(node, *compute)) {
            // x * sigmoid(x), as exporters write it.
            Node swish;
            swish.inputs = {*x};
            swish.outputs = node.outputs;
            if (auto done = activate(swish, Activation::silu)) return done;
            const Type type = value(node.outputs.front()).type;
            return builder().pointwise("Swish", type, {*x}, type == Type::f64 ? "a / (1 + exp(-a))" : "a / (1.0f + expf(-a))", 10);
        }
        if (const auto activation = activation_of(node)) {
            if (auto done = activate(node, *activation)) return done;
        }
        if (auto done = widened_product(node, *compute)) return done;
        if (compute->op == "Add" && node.inputs.size() == 2) {
            for (std::size_t k = 0; k < 2; ++k) {
                if (auto done = add_to_matmul(node, k)) return done;
                if (auto done = add_to_convolution(node, k)) return done;
            }
        }
        return into_rowwise(node, *compute);
    }

    std::optional<ValueId> swish_of(const Node& node, const Compute& compute) {
        if (compute.op != "Multiply" || node.inputs.size() != 2) return std::nullopt;
        for (std::size_t k = 0; k < 2; ++k) {
            const ValueId gate = node.inputs[k], x = node.inputs[1 - k];
            const Node* sigmoid = producer(gate);
            const auto* what = sigmoid == nullptr ? nullptr : std::get_if<Compute>(&sigmoid->what);
            if (what == nullptr || what->op != "Sigmoid" || sigmoid->inputs.front() != x || !used_once(gate) || !is_float(value(x).type)) continue;
            forget_use(x);
            return x;
        }
        return std::nullopt;
    }

    std::optional<ValueId> activate(const Node& node, Activation activation) {
        const ValueId id = node.inputs.front();
        const Dims out = dims(node.outputs.front());
        if (ViewChain chain; const Node* found = product_behind(id, chain)) {
            Matmul what = std::get<Matmul>(found->what);
            if (what.spec.activation != Activation::none || !is_float(what.spec.type)) return std::nullopt;
            const bool narrow = what.spec.result == Type::f16 || what.spec.result == Type::bf16;
            if (activation == Activation::gelu_erf && narrow && options_.tanh_for_narrow_gelu) activation = Activation::gelu_tanh;
            // What libraries have; the rest is one pass over the result either way.
            if (activation != Activation::relu && activation != Activation::gelu_tanh) return std::nullopt;
            what.spec.activation = activation;
            return with_product(chain, std::vector<ValueId>(found->inputs), what);
        }
        if (!used_once(id)) return std::nullopt;
        const Node* found = producer(id);
        if (found == nullptr || !std::holds_alternative<Convolution>(found->what)) return std::nullopt;
        Convolution what = std::get<Convolution>(found->what);
        if (what.spec.activation != Activation::none) return std::nullopt;
        what.spec.activation = activation;
        return builder().convolution(std::vector<ValueId>(found->inputs), what.spec);
    }

    std::optional<ValueId> add_to_matmul(const Node& node, std::size_t k) {
        const ValueId id = node.inputs[k], other = node.inputs[1 - k];
        ViewChain chain;
        const Node* found = product_behind(id, chain);
        if (found == nullptr) return std::nullopt;
        Matmul what = std::get<Matmul>(found->what);
        const Dims out = dims(node.outputs.front());
        if (what.spec.activation != Activation::none || !is_float(what.spec.type) || elements(out) != elements(dims(id)) ||
            value(node.outputs.front()).type != what.spec.result)
            return std::nullopt;
        // The innermost dimension is the product's columns still.
        const bool columns = chain.dims.back() == what.spec.n && !chain.order.empty() &&
                             chain.order.back() == static_cast<int>(chain.factors.size()) - 1 && chain.factors.back() == what.spec.n;
        std::vector<ValueId> inputs(found->inputs);
        const Dims& added = dims(other);
        if (!what.spec.bias && !what.spec.residual && (columns || what.spec.n == 1) && elements(added) == what.spec.n && !added.empty() &&
            added.back() == what.spec.n && out.back() == what.spec.n &&
            (value(other).type == what.spec.type || value(other).type == what.spec.result)) {
            what.spec.bias = true;
            what.spec.bias_type = value(other).type;
            inputs.insert(inputs.begin() + 2, builder().reshape(other, {what.spec.n}));
        } else if (!what.spec.residual && chain.in_order() && elements(added) == elements(out) && value(other).type == what.spec.result &&
                   (what.spec.type == what.spec.result || what.spec.result == Type::f32)) {
            what.spec.residual = true;
            inputs.push_back(builder().reshape(other, dims(chain.source)));
        } else {
            return std::nullopt;
        }
        if (!chain.reshape(out)) return std::nullopt;
        return with_product(chain, std::move(inputs), what);
    }

    /// A product of halves that is converted to f32 is stored so.
    std::optional<ValueId> widened_product(const Node& node, const Compute& compute) {
        if (compute.op != "Convert" || compute.expression != "a" || value(node.outputs.front()).type != Type::f32) return std::nullopt;
        ViewChain chain;
        const Node* found = product_behind(node.inputs.front(), chain);
        if (found == nullptr || !chain.in_order()) return std::nullopt;
        Matmul what = std::get<Matmul>(found->what);
        if ((what.spec.result != Type::f16 && what.spec.result != Type::bf16) || what.spec.type != what.spec.result || what.spec.residual)
            return std::nullopt;
        what.spec.result = Type::f32;
        std::vector<ValueId> inputs(found->inputs);
        if (what.spec.bias) {
            what.spec.bias_type = Type::f32;
            inputs[2] = builder().cast(inputs[2], Type::f32);
        }
        return with_product(chain, std::move(inputs), what);
    }

    /// The chain of views over another product.
    ValueId with_product(ViewChain chain, std::vector<ValueId> inputs, const Matmul& what) {
        chain.source = builder().matmul(inputs[0], inputs[1], what.spec);
        graph().nodes.back().inputs = std::move(inputs);
        return view(chain);
    }

    std::optional<ValueId> add_to_convolution(const Node& node, std::size_t k) {
        const ValueId id = node.inputs[k], other = node.inputs[1 - k];
        const Node* found = producer(id);
        if (found == nullptr || !used_once(id) || !std::holds_alternative<Convolution>(found->what)) return std::nullopt;
        Convolution what = std::get<Convolution>(found->what);
        if (what.spec.activation != Activation::none || value(other).type != what.spec.result) return std::nullopt;
        const Dims& out = dims(node.outputs.front());
        if (out != dims(id)) return std::nullopt;
        const Dims& added = dims(other);
        std::vector<ValueId> inputs(found->inputs);
        // A value per channel: (1, K, 1, …) or (K, 1, …).
        const std::size_t spatial = out.size() - 2;
        const bool per_channel =
            elements(added) == what.spec.channels_out && added.size() >= spatial + 1 && added[added.size() - spatial - 1] == what.spec.channels_out;
        if (what.spec.scale && what.spec.bias && !what.spec.residual && per_channel) {
            const ValueId bias = inputs[3];
            inputs[3] = builder().pointwise("Add", what.spec.bias_type, {bias, builder().reshape(other, {what.spec.channels_out})}, "a + b");
        } else if (!what.spec.bias && !what.spec.residual && per_channel) {
            what.spec.bias = true;
            what.spec.bias_type = value(other).type;
            inputs.insert(inputs.begin() + (what.spec.scale ? 3 : 2), builder().reshape(other, {what.spec.channels_out}));
        } else if (!what.spec.residual && added == out && !what.spec.transposed) {
            what.spec.residual = true;
            inputs.push_back(other);
        } else {
            return std::nullopt;
        }
        return builder().convolution(std::move(inputs), what.spec);
    }

    /// An elementwise operation on a normalisation's result becomes its epilogue.
    std::optional<ValueId> into_rowwise(const Node& node, const Compute& compute) {
        if (compute.view.kind != View::Kind::none || compute.cost > 24) return std::nullopt;
        const Dims& out = dims(node.outputs.front());
        for (std::size_t k = 0; k < node.inputs.size(); ++k) {
            const ValueId id = node.inputs[k];
            const Node* found = producer(id);
            if (found == nullptr || !used_once(id) || dims(id) != out || !std::holds_alternative<Rowwise>(found->what)) continue;
            if (std::count(node.inputs.begin(), node.inputs.end(), id) != 1) continue;
            Rowwise what = std::get<Rowwise>(found->what);
            if (what.per_row || !is_float(value(id).type) || what.epilogues.size() >= 6) continue;
            // Only what reads the element itself.
            const std::string call = fmt::format("in{}(", k);
            std::string body = compute.body;
            bool plain = true;
            std::size_t at = 0;
            int reads = 0;
            while ((at = body.find(call, at)) != std::string::npos) {
                const std::size_t end = body.find(')', at);
                std::string expected;
                for (std::size_t d = 0; d < out.size(); ++d)
                    expected += (d == 0 ? "" : ", ") + (out[d] == 1 ? std::string("0") : fmt::format("i{}", d));
                if (body.substr(at + call.size(), end - at - call.size()) != expected) plain = false;
                body.replace(at, end + 1 - at, "r");
                ++reads;
            }
            if (!plain || reads != 1) continue;
            const std::string type_token = fmt::format("IN{}_T", k);
            while ((at = body.find(type_token)) != std::string::npos)
                body.replace(at, type_token.size(), value(id).type == Type::f64 ? "f64" : "f32");
            std::vector<ValueId> inputs(found->inputs);
            std::vector<int> numbers(node.inputs.size(), 0);
            for (std::size_t j = 0; j < node.inputs.size(); ++j) {
                if (j == k) continue;
                numbers[j] = static_cast<int>(inputs.size());
                inputs.push_back(node.inputs[j]);
            }
            what.epilogues.push_back(renumbered(body, numbers));
            what.op += "+" + compute.op;
            what.cost += compute.cost;
            return builder().rowwise(value(node.outputs.front()).type, std::move(inputs), std::move(what));
        }
        return std::nullopt;
    }

    const FuseOptions options_;
};

class RecogniseAttention final : public Rewriter {
public:
    using Rewriter::Rewriter;

private:
    /// A constant that adds nothing.
    [[nodiscard]] bool all_zero(ValueId id) const {
        const Node* node = producer(id);
        const auto* compute = node == nullptr ? nullptr : std::get_if<Compute>(&node->what);
        if (compute != nullptr && node->inputs.size() == 1 && (compute->op == "Convert" || compute->view.kind != View::Kind::none))
            return all_zero(node->inputs.front());
        const Value& at = value(id);
        if (at.source != Source::constant || !is_float(at.type)) return false;
        return std::all_of(at.constant.data, at.constant.data + bytes(at.type, at.dims), [](std::byte byte) { return byte == std::byte{0}; });
    }

    /// What is added to scores of shape `space` as (batch or a divisor or 1, heads or 1, queries or 1, keys or 1).
    std::optional<ValueId> as_mask(ValueId id, const Dims& space) {
        if (dims(id).size() > space.size()) return std::nullopt;
        Dims full(space.size() - dims(id).size(), 1);
        full.insert(full.end(), dims(id).begin(), dims(id).end());
        if (full.size() == 5) {
            if (full[0] != 1) return std::nullopt;
            full.erase(full.begin());
        }
        return builder().reshape(id, full);
    }

    /// Masks added up, with the dimensions of each.
    ValueId sum(const std::vector<ValueId>& masks, Type type) {
        ValueId all = masks.front();
        for (std::size_t k = 1; k < masks.size(); ++k) {
            Dims out(4);
            std::string at[2];
            for (std::size_t d = 0; d < 4; ++d) {
                out[d] = std::max(dims(all)[d], dims(masks[k])[d]);
                for (int side = 0; side < 2; ++side) {
                    const std::int64_t size = dims(side == 0 ? all : masks[k])[d];
                    at[side] += (d == 0 ? "" : ", ") + (size == 1        ? std::string("0")
                                                        : size == out[d] ? fmt::format("i{}", d)
                                                                         : fmt::format("i{} % (idx){}", d, size));
                }
            }
            all = builder().compute(type, out, {all, masks[k]}, {"Masks", fmt::format("return in0({}) + in1({});", at[0], at[1]), 1, {}, {}});
        }
        return all;
    }

    /// Second product of the pattern: (batch, Lq, Lk) @ (batch, Lk, Dv).
    std::optional<ValueId> rewrite(const Node& node) override {
        const auto* second = std::get_if<Matmul>(&node.what);
        if (second == nullptr || (second->spec.type != Type::f16 && second->spec.type != Type::bf16)) return std::nullopt;
        if (second->spec.bias || second->spec.residual || second->spec.transpose_a || second->spec.transpose_b ||
            second->spec.activation != Activation::none || second->spec.alpha != 1)
            return std::nullopt;
        ValueId probabilities = node.inputs[0];
        const Node* softmax = through_reshapes<Rowwise>(probabilities);
        if (softmax == nullptr || std::get<Rowwise>(softmax->what).op != "Softmax") return std::nullopt;
        const Rowwise& rows = std::get<Rowwise>(softmax->what);
        if (rows.space.size() != 4 || rows.axes != std::vector<int>{3}) return std::nullopt;
        const std::int64_t batch = rows.space[0], heads = rows.space[1], queries = rows.space[2], keys = rows.space[3];
        if (batch * heads != second->spec.batch || queries != second->spec.m || keys != second->spec.k ||
            dims(node.inputs[1])[0] != second->spec.batch)
            return std::nullopt;

        // Scale and masks, in any order, between the first product and the softmax. Windows that are masked by their position stand in five
        // dimensions meanwhile: (images, windows, heads, queries, keys).
        ValueId scores = softmax->inputs.front();
        std::vector<ValueId> masks;
        double scale = 1;
        const Node* first = nullptr;
        Dims space = rows.space;
        for (int depth = 0; depth < 10; ++depth) {
            ValueId probe = scores;
            if ((first = through_reshapes<Matmul>(probe)) != nullptr) break;
            const Node* step = producer(scores);
            if (step == nullptr || !used_once(scores)) return std::nullopt;
            const auto* compute = std::get_if<Compute>(&step->what);
            if (compute == nullptr) return std::nullopt;
            if (compute->view.kind == View::Kind::reshape) {
                scores = step->inputs.front();
                space = dims(scores);
                const bool windows =
                    space.size() == 5 && space[0] * space[1] == batch && Dims(space.begin() + 2, space.end()) == Dims{heads, queries, keys};
                if (space != rows.space && !windows) return std::nullopt;
                continue;
            }
            if (step->inputs.size() != 2) return std::nullopt;
            const auto right = scalar(value(step->inputs[1])), left = scalar(value(step->inputs[0]));
            if (compute->op == "Multiply" && (left || right)) {
                scale *= left ? *left : *right;
                scores = step->inputs[left ? 1 : 0];
            } else if (compute->op == "Divide" && right) {
                scale /= *right;
                scores = step->inputs[0];
            } else if (compute->op == "Add" && scale == 1) {
                // The side that leads to the product is the one with the scores' shape.
                const bool left_full = dims(step->inputs[0]) == space;
                const ValueId other = step->inputs[left_full ? 1 : 0];
                scores = step->inputs[left_full ? 0 : 1];
                if (dims(scores) != space || (dims(other) == space && !left_full)) return std::nullopt;
                const auto mask = as_mask(other, space);
                if (!mask) return std::nullopt;
                // Models whose tokens are all valid carry a mask that masks nothing.
                if (!all_zero(other)) masks.push_back(*mask);
            } else {
                return std::nullopt;
            }
        }
        if (first == nullptr) return std::nullopt;
        const MatmulSpec& product = std::get<Matmul>(first->what).spec;
        if (product.bias || product.residual || product.transpose_a || product.activation != Activation::none ||
            product.batch != second->spec.batch || product.type != second->spec.type)
            return std::nullopt;
        if (dims(first->inputs[0])[0] != product.batch || dims(first->inputs[1])[0] != product.batch) return std::nullopt;
        AttentionSpec spec;
        spec.batch = batch;
        spec.heads = spec.kv_heads = heads;
        spec.queries = queries;
        spec.keys = keys;
        spec.head_size = product.k;
        spec.value_size = second->spec.n;
        spec.type = product.type;
        spec.scale = static_cast<float>(scale * product.alpha);
        const ValueId q = builder().reshape(first->inputs[0], {batch, heads, queries, spec.head_size});
        ValueId k = first->inputs[1];
        if (product.transpose_b) {
            k = builder().reshape(k, {batch, heads, keys, spec.head_size});
        } else {
            k = builder().transpose(builder().reshape(k, {batch, heads, spec.head_size, keys}), {0, 1, 3, 2});
        }
        const ValueId v = builder().reshape(node.inputs[1], {batch, heads, keys, spec.value_size});
        std::vector<ValueId> inputs{q, k, v};
        if (!masks.empty()) {
            const ValueId mask = sum(masks, spec.type);
            const std::int64_t period = dims(mask)[0];
            if (value(mask).type != spec.type || batch % period != 0) return std::nullopt;
            if (period != 1 && period != batch && !is_short_attention(spec)) return std::nullopt;
            inputs.push_back(mask);
            spec.mask = true;
        }
        return builder().reshape(builder().attention(std::move(inputs), spec), dims(node.outputs.front()));
    }
};

class ExpandAttention final : public Rewriter {
public:
    ExpandAttention(Graph graph, const std::function<bool(const AttentionSpec&)>& which) : Rewriter(std::move(graph)), which_(which) {}

private:
    std::optional<ValueId> rewrite(const Node& node) override {
        const auto* attention = std::get_if<Attention>(&node.what);
        if (attention == nullptr || !which_(attention->spec)) return std::nullopt;
        return append_expanded_attention(builder(), attention->spec, node.inputs);
    }
    const std::function<bool(const AttentionSpec&)>& which_;
};

}  // namespace

bool is_narrow_attention(const AttentionSpec& spec) { return spec.head_size >= 1 && spec.head_size < 16; }

bool is_short_attention(const AttentionSpec& spec) {
    return (spec.type == Type::f16 || spec.type == Type::bf16) && spec.keys >= 1 && spec.keys <= 128 && spec.queries >= 1 &&
           spec.head_size == spec.value_size && (is_narrow_attention(spec) || (spec.head_size % 16 == 0 && spec.head_size <= 64)) &&
           spec.queries < (1 << 20) && spec.heads % std::max<std::int64_t>(spec.kv_heads, 1) == 0;
}

ValueId append_expanded_attention(Builder& b, const AttentionSpec& spec, const std::vector<ValueId>& inputs) {
    ValueId k = inputs[1], v = inputs[2];
    if (spec.kv_heads != spec.heads) {
        // Every group of query heads reads the same keys and values.
        const std::int64_t group = spec.heads / spec.kv_heads;
        const auto repeat = [&](ValueId value, std::int64_t size) {
            value = b.reshape(value, {spec.batch, spec.kv_heads, 1, spec.keys, size});
            return b.reshape(b.broadcast(value, {spec.batch, spec.kv_heads, group, spec.keys, size}), {spec.batch, spec.heads, spec.keys, size});
        };
        k = repeat(k, spec.head_size);
        v = repeat(v, spec.value_size);
    }
    const std::int64_t count = spec.batch * spec.heads;
    MatmulSpec first;
    first.m = spec.queries;
    first.n = spec.keys;
    first.k = spec.head_size;
    first.batch = count;
    first.transpose_b = true;
    first.type = spec.type;
    // Scores keep all their bits: exponentials magnify what rounding does to them.
    first.result = spec.type == Type::f64 ? Type::f64 : Type::f32;
    const ValueId product =
        b.matmul(b.reshape(inputs[0], {count, spec.queries, spec.head_size}), b.reshape(k, {count, spec.keys, spec.head_size}), first);
    ValueId scores = b.reshape(product, {spec.batch, spec.heads, spec.queries, spec.keys});
    const Type wide = first.result;
    std::string f = wide == Type::f64 ? "" : "f", element = fmt::format("in0(i0, i1, i2, i3) * {}", literal(wide, spec.scale));
    std::vector<ValueId> read{scores};
    if (spec.mask) {
        Dims mask = b.dims(inputs[3]);
        std::string at;
        for (std::size_t d = 0; d < 4; ++d) at += (d == 0 ? "" : ", ") + (mask[d] == 1 ? std::string("0") : fmt::format("i{}", d));
        if (mask[0] != 1 && mask[0] != spec.batch) at.replace(0, 2, fmt::format("i0 % (idx){}", mask[0]));
        element += fmt::format(" + in1({})", at);
        read.push_back(inputs[3]);
    }
    // A row that is masked throughout has no largest score to subtract.
    const std::string lowest = literal(wide, -std::numeric_limits<double>::infinity());
    if (spec.causal) element = fmt::format("(i3 > i2 ? {} : {})", lowest, element);
    const std::string shifted = fmt::format("exp{}({} - (s0 == {} ? 0 : s0))", f, element, lowest);
    Rowwise softmax{"SoftmaxOfScores",  // not one that recognise_attention() may take for plain
                    {spec.batch, spec.heads, spec.queries, spec.keys},
                    {3},
                    wide,
                    {{Rowwise::Combine::max, "return " + element + ";", ""}, {Rowwise::Combine::sum, "return " + shifted + ";", ""}},
                    fmt::format("return {} / s1;", shifted),
                    false,
                    12,
                    {}};
    const ValueId probabilities = b.rowwise(spec.type, std::move(read), std::move(softmax));
    MatmulSpec second;
    second.m = spec.queries;
    second.n = spec.value_size;
    second.k = spec.keys;
    second.batch = count;
    second.type = second.result = spec.type;
    const ValueId result =
        b.matmul(b.reshape(probabilities, {count, spec.queries, spec.keys}), b.reshape(v, {count, spec.keys, spec.value_size}), second);
    return b.reshape(result, {spec.batch, spec.heads, spec.queries, spec.value_size});
}

Graph fuse(Graph graph, const FuseOptions& options) { return Fuse(std::move(graph), options).run(); }
Graph recognise_attention(Graph graph) { return RecogniseAttention(std::move(graph)).run(); }
Graph expand_attention(Graph graph, const std::function<bool(const AttentionSpec&)>& which) { return ExpandAttention(std::move(graph), which).run(); }

}  // namespace ai_vmm::cuda
