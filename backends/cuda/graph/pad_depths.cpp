// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>

#include "graph/passes.hpp"
#include "graph/rewriter.hpp"

namespace ai_vmm::cuda {
namespace {

/// Smaller products take a launch's time either way.
constexpr std::int64_t kLeastDepth = 64, kLeastRows = 9;
/// Of 16 bits: what engines read at once.
constexpr std::int64_t kVector = 8;
/// Below, a convolution takes a launch's time either way; and engines for a few elements per result lose less than wider pixels cost.
constexpr std::int64_t kLeastPixels = 4096, kLeastTaps = 64;

class PadDepths final : public Rewriter {
public:
    PadDepths(Graph graph, const std::function<bool(const ConvolutionSpec&)>& taken) : Rewriter(std::move(graph)), taken_(taken) {}

private:
    /// `id` with `count` zeros behind it along `axis`.
    ValueId padded(ValueId id, std::size_t axis, std::int64_t count) {
        Dims zeros = dims(id);
        zeros[axis] = count;
        const Type type = value(id).type;
        return builder().concat({id, builder().compute(type, std::move(zeros), {}, {"Zeros", "return 0;", 0, {}, {}})}, static_cast<int>(axis));
    }

    /// A convolution of few channels, as of an image, with zeros behind them in each pixel.
    std::optional<ValueId> of_channels(const Node& node, ConvolutionSpec spec) {
        const std::int64_t channels = spec.channels_in, pixels = spec.batch * elements(spec.out);
        if (channels >= kVector || (spec.type != Type::f16 && spec.type != Type::bf16) || spec.groups != 1 || spec.transposed ||
            pixels < kLeastPixels || channels * elements(spec.kernel) < kLeastTaps || !constant(node.inputs[1]) || (taken_ && taken_(spec)))
            return std::nullopt;
        Dims wide = dims(node.inputs[0]);
        wide[1] = kVector;
        std::string indices;
        for (std::size_t d = 0; d < wide.size(); ++d) indices += fmt::format("{}i{}", d == 0 ? "" : ", ", d);
        std::vector<ValueId> inputs(node.inputs);
        inputs[0] = builder().compute(spec.type, std::move(wide), {node.inputs[0]},
                                      {"PadChannels",
                                       fmt::format("if (i1 < (idx){}) return in0({}); return 0;", channels, indices),
                                       0,
                                       {static_cast<double>(channels) / kVector},
                                       {}});
        inputs[1] = padded(node.inputs[1], 1, kVector - channels);
        spec.channels_in = kVector;
        return builder().convolution(std::move(inputs), std::move(spec));
    }

    std::optional<ValueId> rewrite(const Node& node) override {
        if (const auto* convolution = std::get_if<Convolution>(&node.what)) return of_channels(node, convolution->spec);
        const auto* matmul = std::get_if<Matmul>(&node.what);
        if (matmul == nullptr) return std::nullopt;
        MatmulSpec spec = matmul->spec;
        const std::int64_t pad = (8 - spec.k % 8) % 8;
        if (pad == 0 || (spec.type != Type::f16 && spec.type != Type::bf16) || spec.batch != 1 || spec.transpose_a || spec.k < kLeastDepth ||
            spec.m < kLeastRows || !constant(node.inputs[1]))
            return std::nullopt;
        ValueId rows = node.inputs[0];
        const Node* found = through_reshapes<Compute>(rows);
        // Reshapes are Compute nodes too.
        while (found != nullptr && std::get<Compute>(found->what).view.kind == View::Kind::reshape) {
            rows = found->inputs.front();
            found = through_reshapes<Compute>(rows);
        }
        if (found == nullptr || std::get<Compute>(found->what).op != "Concat" || dims(rows).back() != spec.k || value(rows).type != spec.type)
            return std::nullopt;
        const std::size_t axis = dims(rows).size() - 1;
        std::int64_t total = 0;
        for (ValueId part : found->inputs) total += dims(part)[axis];
        if (total != spec.k) return std::nullopt;  // joined along another dimension
        std::vector<ValueId> parts(found->inputs);
        parts.back() = padded(parts.back(), axis, pad);
        const ValueId a = builder().reshape(builder().concat(parts, static_cast<int>(axis)), {1, spec.m, spec.k + pad});
        const ValueId b = padded(node.inputs[1], spec.transpose_b ? 2 : 1, pad);
        spec.k += pad;
        std::vector<ValueId> inputs(node.inputs);
        inputs[0] = a;
        inputs[1] = b;
        const ValueId result = builder().matmul(a, b, spec);
        graph().nodes.back().inputs = std::move(inputs);
        return result;
    }

    const std::function<bool(const ConvolutionSpec&)>& taken_;
};

}  // namespace

Graph pad_depths(Graph graph, const std::function<bool(const ConvolutionSpec&)>& taken) { return PadDepths(std::move(graph), taken).run(); }

}  // namespace ai_vmm::cuda
