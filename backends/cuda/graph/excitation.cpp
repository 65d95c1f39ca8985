// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include <fmt/format.h>

#include "graph/passes.hpp"
#include "graph/rewriter.hpp"

namespace ai_vmm::cuda {
namespace {

/// Every block of the kernel reads the first matrix: what that takes must stay below what launches take.
constexpr std::int64_t kMostBytes = 128 << 10;
constexpr std::int64_t kMostImages = 8;
/// The squeezed values and a block's gates lie in shared memory.
constexpr std::int64_t kMostSqueezed = 1024;

class RecogniseExcitation final : public Rewriter {
public:
    using Rewriter::Rewriter;

private:
    /// A constant of one element, also if it is converted.
    [[nodiscard]] std::optional<double> number(ValueId id) const {
        const Node* node = producer(id);
        const auto* compute = node == nullptr ? nullptr : std::get_if<Compute>(&node->what);
        if (compute != nullptr && compute->op == "Convert" && is_float(value(id).type)) return number(node->inputs.front());
        return scalar(value(id));
    }

    /// The body of a function of `a` for an elementwise node of one value; empty: it is none.
    [[nodiscard]] std::string function_of(const Node& node, const Compute& compute) const {
        if (compute.expression.empty() || compute.expression.find("IN") != std::string::npos || compute.view.kind != View::Kind::none) return {};
        std::string body;
        for (std::size_t k = 1; k < node.inputs.size(); ++k) {
            const auto constant = number(node.inputs[k]);
            if (!constant || !is_float(value(node.inputs[k]).type)) return {};
            body += fmt::format("const f32 {} = {}; ", static_cast<char>('a' + k), literal(Type::f32, *constant));
        }
        return body + (compute.expression.starts_with("const ") ? compute.expression : "return " + compute.expression + ";");
    }

    /// The gate behind `id`: fills in what follows the second product. @returns the product
    const Node* second_product(ValueId id, Excitation& what) const {
        for (;;) {
            const Node* node = producer(id);
            if (node == nullptr || !used_once(id) || value(id).type != what.type) return nullptr;
            if (std::holds_alternative<Matmul>(node->what)) return node;
            const auto* compute = std::get_if<Compute>(&node->what);
            if (compute == nullptr || elements(dims(node->inputs.front())) != elements(dims(id))) return nullptr;
            if (compute->view.kind != View::Kind::reshape) {
                std::string body = function_of(*node, *compute);
                if (body.empty()) return nullptr;
                what.gate.insert(what.gate.begin(), std::move(body));
            }
            id = node->inputs.front();
        }
    }

    /// Means over many pixels of few channels are a few blocks' work: sums of parts of the pixels instead, which the kernel adds up.
    /// @returns what is read instead of `pooled`
    ValueId parts_of(ValueId pooled, ValueId x, Excitation& what) {
        constexpr std::int64_t kLeastPixels = 2048, kLeastOfPart = 256, kMostParts = 16, kEnoughChannels = 1024;
        const Dims& shape = dims(x);
        const std::int64_t pixels = elements(shape) / (shape[0] * shape[1]);
        ValueId mean = pooled;
        const Node* node = through_reshapes<Rowwise>(mean);
        if (node == nullptr || node->inputs != std::vector<ValueId>{x} || pixels < kLeastPixels || shape[0] * shape[1] > kEnoughChannels)
            return pooled;
        const Rowwise& rows = std::get<Rowwise>(node->what);
        std::vector<int> spatial;
        for (std::size_t d = 2; d < shape.size(); ++d) spatial.push_back(static_cast<int>(d));
        if (rows.op != "ReduceMean" || rows.axes != spatial || !rows.per_row || !rows.epilogues.empty() || rows.stages.size() != 1 ||
            rows.accumulator != Type::f32 || !rows.stages.front().finish.empty() || rows.result.find("in0(") != std::string::npos)
            return pooled;
        std::int64_t parts = kMostParts;
        while (parts > 1 && (pixels % parts != 0 || pixels / parts < kLeastOfPart)) --parts;
        if (parts == 1) return pooled;
        what.parts = parts;
        what.pooled = rows.result;
        Rowwise sums{"PartialSums", {shape[0], shape[1], parts, pixels / parts}, {3}, Type::f32, {}, "return s0;", true, 2, {}};
        sums.stages.push_back({Rowwise::Combine::sum, "return in0(i0, i1, i2, i3);", ""});
        const ValueId pixels_in_parts = builder().reshape(x, sums.space);
        return builder().rowwise(Type::f32, {pixels_in_parts}, std::move(sums));
    }

    [[nodiscard]] static bool plain(const MatmulSpec& spec, Type type, std::int64_t images) {
        return spec.batch == 1 && spec.m == images && !spec.transpose_a && spec.transpose_b && !spec.residual && spec.alpha == 1 &&
               spec.type == type && spec.result == type && (!spec.bias || spec.bias_type == type);
    }

    std::optional<ValueId> rewrite(const Node& node) override {
        const auto* compute = std::get_if<Compute>(&node.what);
        if (compute == nullptr || compute->op != "Multiply" || node.inputs.size() != 2) return std::nullopt;
        for (std::size_t k = 0; k < 2; ++k) {
            const ValueId x = node.inputs[1 - k], gate = node.inputs[k];
            const Dims& shape = dims(x);
            Excitation what;
            what.type = value(x).type;
            if (what.type != Type::f16 && what.type != Type::bf16 && what.type != Type::f32) continue;
            if (shape.size() < 3 || shape[1] % 8 != 0 || shape[0] > kMostImages || elements(shape) == 0) continue;
            Dims per_channel(shape.size(), 1);
            std::copy(shape.begin(), shape.begin() + 2, per_channel.begin());
            if (dims(gate) != per_channel || dims(node.outputs.front()) != shape || value(node.outputs.front()).type != what.type) continue;
            const Node* second = second_product(gate, what);
            if (second == nullptr) continue;
            ValueId inner = second->inputs[0];
            const Node* first = through_reshapes<Matmul>(inner);
            if (first == nullptr) continue;
            const MatmulSpec &one = std::get<Matmul>(first->what).spec, &two = std::get<Matmul>(second->what).spec;
            if (!plain(one, what.type, shape[0]) || !plain(two, what.type, shape[0]) || one.k != shape[1] || two.n != shape[1] || one.n != two.k)
                continue;
            if (one.n > kMostSqueezed || one.n * one.k * bits(what.type) / 8 > kMostBytes) continue;
            what.squeezed = one.n;
            what.first = one.activation;
            what.second = two.activation;
            what.bias1 = one.bias;
            what.bias2 = two.bias;
            std::vector<ValueId> inputs{x, first->inputs[0], first->inputs[1], second->inputs[1]};
            if (one.bias) inputs.push_back(first->inputs[2]);
            if (two.bias) inputs.push_back(second->inputs[2]);
            inputs[1] = parts_of(inputs[1], x, what);  // adds nodes: the ones above are not to be looked at again
            return builder().excitation(std::move(inputs), std::move(what));
        }
        return std::nullopt;
    }
};

}  // namespace

Graph recognise_excitation(Graph graph) { return RecogniseExcitation(std::move(graph)).run(); }

}  // namespace ai_vmm::cuda
