// SPDX-License-Identifier: Apache-2.0
/// Weights of 8 and 4 bits stay as they are in memory.
#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <optional>

#include "graph/compressed.hpp"
#include "graph/passes.hpp"

namespace ai_vmm::cuda {
namespace {

constexpr std::int64_t kFewestTogether = 8;  // weights of one scale that a thread loads at once

class KeepPacked final : public CompressedRewriter {
public:
    using CompressedRewriter::CompressedRewriter;

private:
    std::optional<ValueId> rewrite(const Node& node) override {
        if (const auto* matmul = std::get_if<Matmul>(&node.what)) return product(node, matmul->spec);
        const auto* compute = std::get_if<Compute>(&node.what);
        if (compute != nullptr && compute->op == "Gather" && compute->view.kind == View::Kind::none) return table(node, *compute);
        return std::nullopt;
    }

    std::optional<ValueId> product(const Node& node, MatmulSpec spec) {
        const bool floats = spec.type == Type::f32 || spec.type == Type::f16 || spec.type == Type::bf16;
        if (!floats || spec.batch != 1 || constant(node.inputs[0]) || spec.m <= 0 || spec.n <= 0 || spec.k <= 0) return std::nullopt;
        const ValueId b = node.inputs[1];
        auto known = matrices_.find(b);
        if (known == matrices_.end() || known->second.transposed != spec.transpose_b) {
            const auto made = matrix(b, spec.transpose_b, kFewestTogether);
            known = matrices_.insert_or_assign(b, Known{spec.transpose_b, made}).first;
        }
        if (!known->second.matrix) return std::nullopt;
        const PackedMatrix& packed = *known->second.matrix;
        std::vector<ValueId> rest(node.inputs.begin() + 2, node.inputs.end());
        spec.transpose_b = true;
        PackedProduct what{spec, packed.packed, packed.group, packed.scale >= 0, packed.zero >= 0};
        // What many rows are multiplied with becomes numbers once: making them in every run took several times as long as the product (on an H100).
        if (packed_together(what) == 0) return std::nullopt;
        std::vector<ValueId> inputs{node.inputs[0], packed.weights};
        if (what.scale) inputs.push_back(packed.scale);
        if (what.zero) inputs.push_back(packed.zero);
        inputs.insert(inputs.end(), rest.begin(), rest.end());
        return builder().packed_product(std::move(inputs), what);
    }

    /// Rows of a table of small integers: only those that are asked for become numbers.
    std::optional<ValueId> table(const Node& node, const Compute& gather) {
        ViewChain chain;
        const ValueId rows = node.inputs.front();
        if (!is_float(value(rows).type) || elements(dims(node.outputs.front())) >= elements(dims(rows)) || !constant(rows)) return std::nullopt;
        const auto found = compressed_behind(rows, chain);
        if (!found) return std::nullopt;
        std::vector<ValueId> inputs{found->packed};
        std::string expression = "(f32)a";
        if (found->zero >= 0) {
            expression = "((f32)a - b)";
            inputs.push_back(found->zero);
        }
        if (found->scale >= 0) {
            expression += fmt::format(" * {}", static_cast<char>('a' + inputs.size()));
            inputs.push_back(found->scale);
        }
        const Compute copy = gather;
        const ValueId numbers = builder().pointwise("Unpack", value(rows).type, std::move(inputs), expression, 4);
        std::get<Compute>(graph().nodes.back().what).every_run = true;
        chain.source = numbers;
        std::vector<ValueId> operands(node.inputs);
        operands.front() = append(builder(), chain);
        return builder().compute(value(node.outputs.front()).type, dims(node.outputs.front()), std::move(operands), copy);
    }

    struct Known {
        bool transposed = false;
        std::optional<PackedMatrix> matrix;
    };
    std::map<ValueId, Known> matrices_;
};

}  // namespace

std::int64_t packed_together(const PackedProduct& what) {
    const MatmulSpec& spec = what.spec;
    const bool types =
        (spec.type == Type::f32 || spec.type == Type::f16 || spec.type == Type::bf16) && is_float(spec.result) && spec.result != Type::f64;
    if (!types || spec.batch != 1 || spec.m < 1 || spec.m > 8 || spec.n < 1 || spec.k < 1 || !spec.transpose_b || what.group < 1) return 0;
    for (std::int64_t bytes = 16; bytes >= 4; bytes /= 2) {
        const std::int64_t count = bytes * 8 / bits(what.packed);
        if (count >= kFewestTogether && spec.k % count == 0 && what.group % count == 0) return count;
    }
    return 0;
}

Graph keep_packed(Graph graph) { return KeepPacked(std::move(graph)).run(); }

}  // namespace ai_vmm::cuda
