// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "graph/passes.hpp"
#include "graph/rewriter.hpp"

namespace ai_vmm::cuda {
namespace {

/// Rows of a product that the generated kernel for few of them takes, with any activation (codegen/skinny.hpp).
constexpr std::int64_t kFewRows = 8;

class PatchesToProducts final : public Rewriter {
public:
    PatchesToProducts(Graph graph, const std::function<bool(const ConvolutionSpec&)>& taken) : Rewriter(std::move(graph)), taken_(taken) {}

private:
    /// Whether a value is an input of the graph, seen or converted otherwise.
    [[nodiscard]] bool from_input(ValueId id) const {
        for (;;) {
            if (value(id).source == Source::input) return true;
            const Node* node = producer(id);
            if (node == nullptr || !std::holds_alternative<Compute>(node->what) || node->inputs.size() != 1) return false;
            id = node->inputs.front();
        }
    }

    /// A convolution of single pixels, as squeeze-and-excitation has them: (N, C) @ (K, C)^T.
    ValueId product_of_pixels(const Node& node, const ConvolutionSpec& spec) {
        MatmulSpec product;
        product.m = spec.batch;
        product.n = spec.channels_out;
        product.k = spec.channels_in;
        product.transpose_b = true;
        product.type = product.result = spec.type;
        product.bias_type = spec.bias_type;
        product.bias = spec.bias;
        product.residual = spec.residual;
        product.activation = spec.activation;
        const ValueId rows = builder().reshape(node.inputs[0], {1, spec.batch, spec.channels_in});
        const ValueId weights = builder().reshape(node.inputs[1], {1, spec.channels_out, spec.channels_in});
        std::vector<ValueId> rest(node.inputs.begin() + 2, node.inputs.end());
        if (spec.residual) rest.back() = builder().reshape(rest.back(), {1, spec.batch, spec.channels_out});
        const ValueId result = builder().matmul(rows, weights, product);
        auto& inputs = graph().nodes.back().inputs;
        inputs.insert(inputs.end(), rest.begin(), rest.end());
        return builder().reshape(result, dims(node.outputs.front()));
    }

    /// A transposed convolution whose kernel is its stride: each pixel gives a patch, (N * h * w, C) @ (C, p * q * K).
    ValueId product_of_transposed(const Node& node, const ConvolutionSpec& spec) {
        const std::size_t spatial = spec.kernel.size();
        const std::int64_t area = elements(spec.kernel), pixels = elements(spec.in);
        std::vector<int> last{0}, of_weights{0}, between{0}, back{0, static_cast<int>(spatial) + 1};
        Dims split{spec.batch}, joined{spec.batch};
        for (std::size_t d = 0; d < spatial; ++d) {
            const int at = static_cast<int>(d);
            last.push_back(at + 2);
            of_weights.push_back(at + 2);
            split.push_back(spec.in[d]);
            between.push_back(at + 1);
            between.push_back(at + 1 + static_cast<int>(spatial));
            joined.push_back(spec.out[d]);
            back.push_back(at + 1);
        }
        last.push_back(1);
        of_weights.push_back(1);
        split.insert(split.end(), spec.kernel.begin(), spec.kernel.end());
        split.push_back(spec.channels_out);
        between.push_back(static_cast<int>(2 * spatial) + 1);
        joined.push_back(spec.channels_out);
        MatmulSpec product;
        product.m = spec.batch * pixels;
        product.n = area * spec.channels_out;
        product.k = spec.channels_in;
        product.type = product.result = spec.type;
        product.bias_type = spec.bias_type;
        product.bias = spec.bias;
        product.activation = spec.activation;
        const ValueId rows = builder().reshape(builder().transpose(node.inputs[0], last), {1, product.m, product.k});
        const ValueId weights = builder().reshape(builder().transpose(node.inputs[1], of_weights), {1, product.k, product.n});
        ValueId bias = -1;
        if (spec.bias) bias = builder().reshape(builder().broadcast(node.inputs[2], {area, spec.channels_out}), {product.n});
        const ValueId result = builder().matmul(rows, weights, product);
        if (spec.bias) graph().nodes.back().inputs.push_back(bias);
        return builder().transpose(builder().reshape(builder().transpose(builder().reshape(result, split), between), joined), back);
    }

    std::optional<ValueId> rewrite(const Node& node) override {
        const auto* convolution = std::get_if<Convolution>(&node.what);
        if (convolution == nullptr) return std::nullopt;
        const ConvolutionSpec& spec = convolution->spec;
        const std::size_t spatial = spec.kernel.size();
        const auto all = [](const Dims& dims, std::int64_t value) {
            return std::all_of(dims.begin(), dims.end(), [=](std::int64_t d) { return d == value; });
        };
        const std::int64_t area = elements(spec.kernel), depth = spec.channels_in * area;
        if (all(spec.in, 1) && all(spec.out, 1) && area == 1 && spec.groups == 1 && !spec.transposed && spec.batch <= kFewRows && is_float(spec.type))
            return product_of_pixels(node, spec);
        const bool apart = spec.kernel == spec.stride && all(spec.dilation, 1) && all(spec.pad_begin, 0) && all(spec.pad_end, 0);
        if (apart && spec.transposed && !spec.residual && spec.groups == 1 && area > 1 && spec.channels_in % 8 == 0 && spec.channels_out % 8 == 0 &&
            (spec.type == Type::f16 || spec.type == Type::bf16) &&
            (spec.activation == Activation::none || spec.activation == Activation::relu || spec.activation == Activation::gelu_tanh)) {
            bool whole = true;
            for (std::size_t d = 0; d < spatial; ++d) whole = whole && spec.out[d] == spec.in[d] * spec.kernel[d];
            if (whole && !(taken_ && taken_(spec))) return product_of_transposed(node, spec);
        }
        if (!apart || spec.transposed || spec.residual || spec.groups != 1 || area == 1 || !is_float(spec.type)) return std::nullopt;
        // What the products' engines want of rows; and what their epilogues have.
        if (depth % 8 != 0 || spec.channels_out % 8 != 0) return std::nullopt;
        if (spec.activation != Activation::none && spec.activation != Activation::relu && spec.activation != Activation::gelu_tanh)
            return std::nullopt;
        for (std::size_t d = 0; d < spatial; ++d) {
            if (spec.in[d] != spec.out[d] * spec.kernel[d]) return std::nullopt;
        }

        // (N, C, h, p, w, q) -> (N, h, w, C, p, q) -> (patches, C * p * q). Inside a network channels lie side by side: (N, h, w, p, q, C) there.
        const bool rows_first = from_input(node.inputs[0]);
        Dims split{spec.batch, spec.channels_in};
        std::vector<int> order{0}, within, of_weights{0};
        for (std::size_t d = 0; d < spatial; ++d) {
            split.push_back(spec.out[d]);
            split.push_back(spec.kernel[d]);
            order.push_back(static_cast<int>(2 + 2 * d));
            within.push_back(static_cast<int>(3 + 2 * d));
            of_weights.push_back(static_cast<int>(2 + d));
        }
        within.insert(rows_first ? within.begin() : within.end(), 1);
        order.insert(order.end(), within.begin(), within.end());
        of_weights.push_back(1);
        const std::int64_t patches = spec.batch * elements(spec.out);
        const ValueId rows = builder().reshape(builder().transpose(builder().reshape(node.inputs[0], split), order), {1, patches, depth});
        const ValueId weights =
            builder().reshape(rows_first ? node.inputs[1] : builder().transpose(node.inputs[1], of_weights), {1, spec.channels_out, depth});
        MatmulSpec product;
        product.m = patches;
        product.n = spec.channels_out;
        product.k = depth;
        product.transpose_b = true;
        product.type = product.result = spec.type;
        product.bias_type = spec.bias_type;
        product.bias = spec.bias;
        product.activation = spec.activation;
        ValueId result = builder().matmul(rows, weights, product);
        if (spec.bias) graph().nodes.back().inputs.push_back(node.inputs[2]);
        Dims last{spec.batch};
        last.insert(last.end(), spec.out.begin(), spec.out.end());
        last.push_back(spec.channels_out);
        std::vector<int> back{0, static_cast<int>(spatial) + 1};
        for (std::size_t d = 0; d < spatial; ++d) back.push_back(static_cast<int>(d) + 1);
        result = builder().transpose(builder().reshape(result, last), back);
        return result;
    }

    const std::function<bool(const ConvolutionSpec&)>& taken_;
};

}  // namespace

Graph products_of_patches(Graph graph, const std::function<bool(const ConvolutionSpec&)>& taken) {
    return PatchesToProducts(std::move(graph), taken).run();
}

}  // namespace ai_vmm::cuda
