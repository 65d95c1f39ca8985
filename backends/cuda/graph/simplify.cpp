// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "graph/passes.hpp"
#include "graph/rewriter.hpp"

namespace ai_vmm::cuda {
namespace {

/// What is multiplied: a number and values.
struct Terms {
    double number = 1;
    std::vector<ValueId> values;
};

/// Numbers as models write them, after a rounding to f16 too.
bool about(double a, double b) { return std::abs(a - b) <= 1e-3 * std::abs(b); }

bool finite_factor(double c) { return std::isfinite(c) && c != 0 && std::isfinite(static_cast<float>(c)) && std::isnormal(static_cast<float>(c)); }

class Simplify final : public Rewriter {
public:
    using Rewriter::Rewriter;

private:
    std::optional<ValueId> rewrite(const Node& node) override {
        if (std::holds_alternative<Matmul>(node.what)) {
            if (auto done = scaled_operands(node)) return done;
            return rows_in_order(node);
        }
        const auto* compute = std::get_if<Compute>(&node.what);
        if (compute == nullptr) return std::nullopt;
        if (compute->view.kind != View::Kind::none) return joined_views(node);
        if (compute->op == "Multiply" || compute->op == "Divide") {
            if (auto done = gelu(node)) return done;
            return scaled_product(node);
        }
        return std::nullopt;
    }

    [[nodiscard]] const Compute* operation(ValueId id, const char* op) const {
        const Node* node = producer(id);
        const auto* compute = node == nullptr ? nullptr : std::get_if<Compute>(&node->what);
        return compute != nullptr && compute->op == op ? compute : nullptr;
    }

    /// `id` = factor * result, for a factor other than 0 and infinity.
    std::optional<std::pair<double, ValueId>> factor_of(const Node& node) const {
        const auto* compute = std::get_if<Compute>(&node.what);
        if (compute == nullptr || node.inputs.size() != 2 || !is_float(value(node.outputs.front()).type)) return std::nullopt;
        const auto left = scalar(value(node.inputs[0])), right = scalar(value(node.inputs[1]));
        if (left.has_value() == right.has_value()) return std::nullopt;
        if (compute->op != "Multiply" && (compute->op != "Divide" || left)) return std::nullopt;
        const double factor = left ? *left : compute->op == "Divide" ? 1 / *right : *right;
        const ValueId rest = node.inputs[left ? 1 : 0];
        if (!finite_factor(factor) || dims(rest) != dims(node.outputs.front())) return std::nullopt;
        return std::pair(factor, rest);
    }

    /// Collects what is multiplied to give the node's result, through products of products.
    void multiply_out(const Node& node, Terms& terms) const {
        const auto* compute = std::get_if<Compute>(&node.what);
        for (std::size_t k = 0; k < node.inputs.size(); ++k) {
            const ValueId id = node.inputs[k];
            if (const auto number = scalar(value(id))) {
                terms.number *= compute->op == "Divide" && k == 1 ? 1 / *number : *number;
            } else if (const Node* inner = producer(id); terms.values.size() < 4 && is_product(inner)) {
                multiply_out(*inner, terms);
            } else {
                terms.values.push_back(id);
            }
        }
    }
    [[nodiscard]] bool is_product(const Node* node) const {
        const auto* compute = node == nullptr ? nullptr : std::get_if<Compute>(&node->what);
        return compute != nullptr && node->inputs.size() == 2 &&
               (compute->op == "Multiply" || (compute->op == "Divide" && scalar(value(node->inputs[1]))));
    }
    [[nodiscard]] Terms terms_of(ValueId id) const {
        Terms terms;
        if (const Node* node = producer(id); is_product(node)) {
            multiply_out(*node, terms);
        } else {
            terms.values = {id};
        }
        return terms;
    }

    /// The other side of a sum with this number.
    [[nodiscard]] ValueId plus(ValueId id, double number) const {
        if (operation(id, "Add") == nullptr) return -1;
        const Node& node = *producer(id);
        for (std::size_t k = 0; k < 2; ++k) {
            if (const auto at = scalar(value(node.inputs[k])); at && about(*at, number)) return node.inputs[1 - k];
        }
        return -1;
    }

    /// `id` = 0.044715 x^3, or with `power` 2: 0.044715 x^2
    [[nodiscard]] bool is_cubic_part(ValueId id, ValueId x, int power) const {
        const Terms terms = terms_of(id);
        int found = 0;
        for (ValueId part : terms.values) {
            if (part == x) {
                ++found;
            } else if (part >= 0 && operation(part, "Power") != nullptr && producer(part)->inputs.front() == x) {
                const auto exponent = scalar(value(producer(part)->inputs[1]));
                if (!exponent || (*exponent != 2 && *exponent != 3)) return false;
                found += static_cast<int>(*exponent);
            } else {
                return false;
            }
        }
        return found == power && about(terms.number, 0.044715);
    }

    /// Whether `id` is erf(x / sqrt(2)), or tanh(sqrt(2 / pi) (x + 0.044715 x^3)).
    [[nodiscard]] bool is_erf_of(ValueId id, ValueId x) const {
        if (operation(id, "Erf") == nullptr) return false;
        const Terms terms = terms_of(producer(id)->inputs.front());
        return terms.values == std::vector<ValueId>{x} && about(terms.number, std::sqrt(0.5));
    }
    [[nodiscard]] bool is_gelu_tanh_of(ValueId id, ValueId x) const {
        if (operation(id, "Tanh") == nullptr) return false;
        Terms terms = terms_of(producer(id)->inputs.front());
        if (!about(terms.number, 0.7978845608028654)) return false;
        if (terms.values.size() == 1 && terms.values[0] >= 0 && operation(terms.values[0], "Add") != nullptr) {
            const auto& sum = producer(terms.values[0])->inputs;
            return (sum[0] == x && is_cubic_part(sum[1], x, 3)) || (sum[1] == x && is_cubic_part(sum[0], x, 3));
        }
        if (terms.values.size() != 2) return false;
        if (terms.values[0] != x) std::swap(terms.values[0], terms.values[1]);
        const ValueId square = terms.values[1] < 0 ? -1 : plus(terms.values[1], 1);
        return terms.values[0] == x && square >= 0 && is_cubic_part(square, x, 2);
    }

    /// 0.5 x (1 + erf(x / sqrt(2))) and its tanh form, in any order.
    std::optional<ValueId> gelu(const Node& node) {
        const Type type = value(node.outputs.front()).type;
        if (!is_float(type) || type == Type::f64 || !is_product(&node)) return std::nullopt;
        Terms terms;
        multiply_out(node, terms);
        if (terms.values.size() != 2 || !about(terms.number, 0.5)) return std::nullopt;
        for (std::size_t k = 0; k < 2; ++k) {
            const ValueId x = terms.values[k], sum = terms.values[1 - k];
            if (x < 0 || sum < 0 || dims(x) != dims(node.outputs.front()) || value(x).type != type) continue;
            const ValueId curve = plus(sum, 1);
            if (curve < 0) continue;
            if (is_erf_of(curve, x)) return builder().pointwise("GeluErf", type, {x}, "0.5f * a * (1.0f + erff(a * 0.707106769f))", 12);
            if (is_gelu_tanh_of(curve, x))
                return builder().pointwise("GeluTanh", type, {x}, "0.5f * a * (1.0f + tanhf(0.797884583f * (a + 0.0447149985f * a * a * a)))", 12);
        }
        return std::nullopt;
    }

    [[nodiscard]] static bool scalable(const MatmulSpec& spec) {
        return (spec.type == Type::f32 || spec.type == Type::f16 || spec.type == Type::bf16) && spec.activation == Activation::none && !spec.bias &&
               !spec.residual;
    }

    /// A number times a product.
    std::optional<ValueId> scaled_product(const Node& node) {
        const auto factor = factor_of(node);
        if (!factor) return std::nullopt;
        ViewChain chain;
        const Node* found = product_behind(factor->second, chain);
        if (found == nullptr || value(node.outputs.front()).type != value(chain.source).type) return std::nullopt;
        MatmulSpec spec = std::get<Matmul>(found->what).spec;
        if (!scalable(spec)) return std::nullopt;
        const double alpha = static_cast<double>(spec.alpha) * factor->first;
        if (!finite_factor(alpha)) return std::nullopt;
        spec.alpha = static_cast<float>(alpha);
        const ValueId a = found->inputs[0], b = found->inputs[1];
        chain.source = builder().matmul(a, b, spec);
        return view(chain);
    }

    /// A product of something times a number.
    std::optional<ValueId> scaled_operands(const Node& node) {
        MatmulSpec spec = std::get<Matmul>(node.what).spec;
        if (!scalable(spec)) return std::nullopt;
        std::vector<ValueId> inputs = node.inputs;
        bool changed = false;
        for (ValueId& input : inputs) {
            ViewChain chain = view_chain(graph(), input, [this](ValueId at) { return used_once(at); });
            const Node* scaling = producer(chain.source);
            if (scaling == nullptr || !used_once(chain.source)) continue;
            const auto factor = factor_of(*scaling);
            if (!factor || value(factor->second).type != spec.type) continue;
            const double alpha = static_cast<double>(spec.alpha) * factor->first;
            if (!finite_factor(alpha)) continue;
            spec.alpha = static_cast<float>(alpha);
            chain.source = factor->second;
            input = view(chain);
            changed = true;
        }
        if (!changed) return std::nullopt;
        return builder().matmul(inputs[0], inputs[1], spec);
    }

    /// Where rows are those of a matrix of rows, transposed (sequence and batch swapped, say): the product in the source's order, then the transpose.
    /// It moves from what a library must be given a copy of to the result, where it meets the one that undoes it. Other permutations, as of windows,
    /// stay: behind the product they are dimensions that no stride describes, and there is more to copy.
    std::optional<ValueId> rows_in_order(const Node& node) {
        const MatmulSpec& spec = std::get<Matmul>(node.what).spec;
        if (spec.batch != 1 || spec.transpose_a || spec.residual || dims(node.inputs[0]).size() != 3 || spec.m <= 1) return std::nullopt;
        ViewChain rows = view_chain(graph(), node.inputs[0], [](ValueId) { return true; });
        if (rows.in_order() || elements(rows.dims) == 0) return std::nullopt;
        const auto [first, last] = rows.group(1);
        std::vector<int> sorted(rows.order.begin() + static_cast<std::ptrdiff_t>(first), rows.order.begin() + static_cast<std::ptrdiff_t>(last));
        const std::vector<int> before = sorted;
        std::sort(sorted.begin(), sorted.end());
        if (sorted == before || sorted.size() != 2) return std::nullopt;
        ViewChain result;
        std::vector<std::size_t> at;
        for (int f : sorted) result.factors.push_back(rows.factors[static_cast<std::size_t>(f)]);
        for (int f : before) result.order.push_back(static_cast<int>(std::find(sorted.begin(), sorted.end(), f) - sorted.begin()));
        if (spec.n != 1) {
            result.order.push_back(static_cast<int>(result.factors.size()));
            result.factors.push_back(spec.n);
        }
        result.dims = {1, spec.m, spec.n};
        std::copy(sorted.begin(), sorted.end(), rows.order.begin() + static_cast<std::ptrdiff_t>(first));
        std::vector<ValueId> inputs = node.inputs;
        const MatmulSpec copy = spec;
        inputs[0] = view(rows);
        result.source = builder().matmul(inputs[0], inputs[1], copy);
        graph().nodes.back().inputs = std::move(inputs);
        return view(result);
    }
};

}  // namespace

Graph simplify(Graph graph) {
    // What one walk leaves unused may stand in the way of another rewrite.
    return Simplify(Simplify(std::move(graph)).run()).run();
}

}  // namespace ai_vmm::cuda
