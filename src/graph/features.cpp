// SPDX-License-Identifier: Apache-2.0
#include "graph/features.hpp"

#include <algorithm>
#include <openvino/core/model.hpp>
#include <openvino/op/constant.hpp>
#include <openvino/op/if.hpp>
#include <openvino/op/util/convolution_base.hpp>
#include <openvino/op/util/multi_subgraph_base.hpp>
#include <unordered_map>
#include <unordered_set>

#include "graph/costs.hpp"
#include "graph/weights.hpp"

namespace ai_vmm::graph {
namespace {

using TypeSet = std::unordered_set<std::string_view>;

const TypeSet kRecurrent = {"LSTMSequence", "GRUSequence", "RNNSequence", "LSTMCell", "GRUCell", "RNNCell", "AUGRUSequence", "AUGRUCell"};
const TypeSet kConvolutions = {"Convolution",           "GroupConvolution", "ConvolutionBackpropData", "GroupConvolutionBackpropData",
                               "DeformableConvolution", "BinaryConvolution"};
const TypeSet kSpectral = {"DFT", "IDFT", "RDFT", "IRDFT", "STFT", "ISTFT"};
const TypeSet kEmbeddingBags = {"EmbeddingBagOffsetsSum", "EmbeddingBagPackedSum", "EmbeddingSegmentsSum", "EmbeddingBagOffsets",
                                "EmbeddingBagPacked"};
const TypeSet kSmooth = {"Tanh", "Sin", "Cos", "Gelu", "Erf", "SoftPlus", "Swish", "Sigmoid"};

// What lies between a matrix product and the softmax of attention: scaling, masks, layout.
const TypeSet kAroundSoftmax = {"Add",       "Multiply",     "Divide",  "Subtract", "Select", "Reshape", "Transpose", "Convert", "Squeeze",
                                "Unsqueeze", "FakeQuantize", "Maximum", "Minimum",  "Clamp",  "Power",   "Concat",    "Slice",   "StridedSlice"};
// What may lie between an integer input and the lookup of a table.
const TypeSet kOnWayToLookup = {"Convert", "Reshape",       "Squeeze",   "Unsqueeze", "Clamp",   "Slice",   "StridedSlice",
                                "Split",   "VariadicSplit", "Gather",    "Add",       "Maximum", "Minimum", "FloorMod",
                                "Mod",     "Select",        "Broadcast", "Transpose", "Concat",  "Subtract"};

bool has_weights(std::string_view type) { return kConvolutions.contains(type) || type == "MatMul" || kRecurrent.contains(type); }

/// Whether a dimension beside the batch is open.
bool open_sides(const ov::PartialShape& shape) {
    if (shape.rank().is_dynamic()) return true;
    for (std::size_t i = 1; i < static_cast<std::size_t>(shape.rank().get_length()); ++i) {
        if (shape[i].is_dynamic()) return true;
    }
    return false;
}

/// Collects the features of one model or body.
class Walker {
public:
    /// @param open_lengths  inputs that have an open dimension beside the batch in the model.
    Walker(const ov::Model& model, Features& features, std::unordered_set<const ov::Node*> open_lengths)
        : model_(model), constants_(model), features_(features), open_lengths_(std::move(open_lengths)) {}

    void run(double trips, bool top) {
        for (const auto& node : model_.get_ordered_ops()) visit(*node, trips, top);
    }

    /// Tables looked up by a fixed number of integers per sample: fields, or a sequence of fixed length.
    [[nodiscard]] int fixed_sequences() const { return fixed_sequences_; }
    [[nodiscard]] std::int64_t token_width() const { return table_rows_.contains(token_width_) ? 0 : token_width_; }

    double convolution_1d = 0, convolution_2d = 0, dense = 0, recurrent = 0, total = 0;

private:
    bool constant(const ov::Node* node) const { return constants_.is_constant(node); }

    bool both_inputs_computed(const ov::Node& node) const {
        return node.get_input_size() >= 2 && !constant(node.get_input_node_ptr(0)) && !constant(node.get_input_node_ptr(1));
    }
    bool is_product_of_computed(const ov::Node& node) const {
        const std::string_view type = node.get_type_name();
        return (type == "MatMul" || type == "Einsum") && both_inputs_computed(node);
    }

    /// Whether `accept` holds for a node that is reached from `start` upwards through nodes of `through`.
    template <typename Accept>
    bool reaches_up(const ov::Node* start, const TypeSet& through, const Accept& accept) const {
        std::vector<const ov::Node*> pending{start};
        std::unordered_set<const ov::Node*> seen;
        while (!pending.empty() && seen.size() < 64) {
            const ov::Node* node = pending.back();
            pending.pop_back();
            if (!seen.insert(node).second) continue;
            if (accept(*node)) return true;
            if (node != start && !through.contains(node->get_type_name())) continue;
            for (std::size_t i = 0; i < node->get_input_size(); ++i) {
                if (!constant(node->get_input_node_ptr(i))) pending.push_back(node->get_input_node_ptr(i));
            }
        }
        return false;
    }
    template <typename Accept>
    bool reaches_down(const ov::Node* start, const TypeSet& through, const Accept& accept) const {
        std::vector<const ov::Node*> pending{start};
        std::unordered_set<const ov::Node*> seen;
        while (!pending.empty() && seen.size() < 64) {
            const ov::Node* node = pending.back();
            pending.pop_back();
            if (!seen.insert(node).second) continue;
            if (node != start && accept(*node)) return true;
            if (node != start && !through.contains(node->get_type_name())) continue;
            for (const auto& output : node->outputs()) {
                for (const auto& input : output.get_target_inputs()) pending.push_back(input.get_node());
            }
        }
        return false;
    }

    bool is_attention(const ov::Node& softmax) const {
        const auto product = [this](const ov::Node& node) { return is_product_of_computed(node); };
        return reaches_up(&softmax, kAroundSoftmax, product) && reaches_down(&softmax, kAroundSoftmax, product);
    }

    void visit_lookup(const ov::Node& node) {
        const Weights table = constants_.weights(&node, 0);
        if (!table.main) return;
        const ov::PartialShape& shape = node.get_input_partial_shape(0);
        if (shape.rank().is_dynamic() || shape.rank().get_length() != 2 || shape[0].is_dynamic() || shape[0].get_length() < 2) return;
        if (constant(node.get_input_node_ptr(1))) return;
        const ov::Node* origin = nullptr;
        reaches_up(node.get_input_node_ptr(1), kOnWayToLookup, [&](const ov::Node& source) {
            if (std::string_view(source.get_type_name()) == "Parameter") origin = &source;
            return origin != nullptr;
        });
        if (!origin) return;
        const bool fresh = tables_.insert(table.main).second;  // one table may serve several lookups
        // Positions looked up per sample, at the counted shapes: batch is 1.
        const double positions = elements_of(node.get_input_partial_shape(1));
        if (positions > 1 && open_lengths_.contains(origin)) {
            features_.token_tables += fresh;
        } else {
            features_.id_tables += fresh;
            features_.id_fields += static_cast<std::int64_t>(positions);
            fixed_sequences_ += fresh && positions > 1;
        }
        features_.table_rows = std::max<std::int64_t>(features_.table_rows, shape[0].get_length());
        table_rows_.insert(shape[0].get_length());
        if (positions > 1 && shape[1].is_static()) token_width_ = std::max(token_width_, shape[1].get_length());
    }

    void visit_convolution(const ov::Node& node, double flops) {
        ++features_.convolutions;
        const ov::PartialShape& data = node.get_input_partial_shape(0);
        if (data.rank().is_dynamic() || data.rank().get_length() < 3) {
            convolution_2d += flops;
            return;
        }
        int wide = 0;
        for (std::size_t i = 2; i < static_cast<std::size_t>(data.rank().get_length()); ++i) wide += !data[i].is_static() || data[i].get_length() > 1;
        (wide >= 2 ? convolution_2d : convolution_1d) += flops;
    }

    void visit(const ov::Node& node, double trips, bool top) {
        const std::string_view type = node.get_type_name();
        if (constant(&node)) return;
        if (const auto* sub = dynamic_cast<const ov::op::util::MultiSubGraphOp*>(&node)) {
            bool known = true;
            const double inner = trips * trip_count(node, known);
            for (std::size_t i = 0; i < sub->get_internal_subgraphs_size(); ++i) {
                if (!sub->get_function(i)) continue;
                Walker body(*sub->get_function(i), features_, {});
                body.run(inner, false);
                convolution_1d += body.convolution_1d;
                convolution_2d += body.convolution_2d;
                dense += body.dense;
                recurrent += body.recurrent;
                total += body.total;
            }
            return;
        }
        const double flops = trips * flops_of(node);
        total += flops;
        if (kConvolutions.contains(type)) {
            visit_convolution(node, flops);
        } else if (type == "MatMul" || type == "Einsum") {
            ++features_.matmuls;
            dense += flops;
        } else if (kRecurrent.contains(type)) {
            ++features_.recurrent_ops;
            recurrent += flops;
        } else if (type == "ScaledDotProductAttention") {
            ++features_.attention_blocks;
            dense += flops;
        } else if (type == "Softmax") {
            if (is_attention(node)) ++features_.attention_blocks;
        } else if (type == "Gather") {
            visit_lookup(node);
        } else if (kEmbeddingBags.contains(type)) {
            ++features_.embedding_bags;
        } else if (kSpectral.contains(type)) {
            ++features_.spectral_ops;
        } else if (type == "ReadValue") {
            const ov::PartialShape& shape = node.get_output_partial_shape(0);
            if (shape.rank().is_static() && shape.rank().get_length() == 4) ++features_.state_caches;
        } else if (type == "Result" && top) {
            const auto source = node.input_value(0);
            const ov::PartialShape& shape = source.get_partial_shape();
            if (shape.rank().is_static() && shape.rank().get_length() >= 2) {
                const ov::Dimension& last = shape[static_cast<std::size_t>(shape.rank().get_length() - 1)];
                if (last.is_static() && table_rows_.contains(last.get_length()) && last.get_length() >= 32) features_.vocabulary_logits = true;
            }
        }
        if (kSmooth.contains(type)) {
            static const TypeSet kBias = {"Add", "Reshape", "Multiply"};
            const auto product = [](const ov::Node& n) { return std::string_view(n.get_type_name()) == "MatMul"; };
            if (reaches_up(&node, kBias, product)) ++features_.smooth_activations;
        }
    }

    const ov::Model& model_;
    ConstantAnalysis constants_;
    Features& features_;
    std::unordered_set<std::int64_t> table_rows_;
    std::int64_t token_width_ = 0;
    std::unordered_set<const void*> tables_;
    std::unordered_set<const ov::Node*> open_lengths_;
    int fixed_sequences_ = 0;
};

/// The convolutions that are first on a way from an input, and what they see.
void find_planes(const ov::Model& original, const ov::Model& shaped, Features& features) {
    const auto parameters = shaped.get_parameters();
    const auto originals = original.get_parameters();
    for (std::size_t index = 0; index < parameters.size(); ++index) {
        // Sides that were open in the model tell nothing about their proportions.
        const bool open = index < originals.size() && open_sides(originals[index]->get_partial_shape());
        std::vector<const ov::Node*> pending{parameters[index].get()};
        std::unordered_set<const ov::Node*> seen;
        while (!pending.empty() && seen.size() < 2048) {
            const ov::Node* node = pending.back();
            pending.pop_back();
            if (!seen.insert(node).second) continue;
            for (const auto& output : node->outputs()) {
                for (const auto& input : output.get_target_inputs()) {
                    const ov::Node* consumer = input.get_node();
                    const std::string_view type = consumer->get_type_name();
                    if (kConvolutions.contains(type) && input.get_index() == 0) {
                        const ov::PartialShape& data = consumer->get_input_partial_shape(0);
                        if (!seen.insert(consumer).second || data.rank().is_dynamic() || data.rank().get_length() < 3 || data[1].is_dynamic())
                            continue;
                        std::vector<std::int64_t> sides;
                        for (std::size_t i = 2; i < static_cast<std::size_t>(data.rank().get_length()); ++i) {
                            sides.push_back(data[i].is_dynamic() || (open && data[i].get_length() > 1) ? -1 : data[i].get_length());
                        }
                        features.planes.push_back(classify_plane(data[1].get_length(), sides));
                        if (const auto* convolution = dynamic_cast<const ov::op::util::ConvolutionBase*>(consumer)) {
                            const ov::PartialShape& kernel = consumer->get_input_partial_shape(1);
                            const auto& strides = convolution->get_strides();
                            bool patches = kernel.is_static() && !strides.empty();
                            for (std::size_t i = 0; patches && i < strides.size(); ++i) {
                                const std::size_t at = static_cast<std::size_t>(kernel.rank().get_length()) - strides.size() + i;
                                patches = strides[i] >= 2 && static_cast<std::int64_t>(strides[i]) == kernel[at].get_length();
                            }
                            features.patch_embedding = features.patch_embedding || patches;
                        }
                    } else if (!has_weights(type) && type != "Gather") {
                        pending.push_back(consumer);
                    }
                }
            }
        }
    }
}

}  // namespace

Plane classify_plane(std::int64_t channels, const std::vector<std::int64_t>& sides) {
    if (sides.size() >= 3) return Plane::volume;
    std::vector<std::int64_t> wide;  // open sides are wide
    for (const std::int64_t side : sides) {
        if (side != 1) wide.push_back(side);
    }
    constexpr std::int64_t kLongestFrame = 160;  // mel bands, cepstra and filter banks have 10 to 128 values
    constexpr std::int64_t kShortestWave = 256;  // 16 ms at 16 kHz
    if (wide.size() < 2) {
        const std::int64_t length = wide.empty() ? 1 : wide[0];
        if (channels == 1) return length < 0 || length >= kShortestWave ? Plane::waveform : Plane::other;
        return channels >= 8 && channels <= 512 && !wide.empty() ? Plane::feature_frames : Plane::other;
    }
    if (channels == 3) return Plane::colour_image;
    if (channels == 1) {
        const auto [low, high] = std::minmax(wide[0], wide[1]);
        if (low < 0) return high >= 8 && high <= 128 ? Plane::time_frequency : Plane::other;  // frames without end; both open: it can't be told
        if (low == high) return Plane::grey_image;
        if (low >= kLongestFrame && high / 2 <= low) return Plane::grey_image;
        return low >= 8 && low <= kLongestFrame ? Plane::time_frequency : Plane::other;
    }
    return Plane::other;
}

Features features_of(const ov::Model& original, const ov::Model& shaped, const std::vector<TensorInfo>& inputs,
                     const std::vector<TensorInfo>& outputs) {
    Features features;
    features.inputs = inputs;
    features.outputs = outputs;
    std::unordered_set<const ov::Node*> open_lengths;
    const auto originals = original.get_parameters();
    const auto parameters = shaped.get_parameters();
    for (std::size_t i = 0; i < originals.size() && i < parameters.size(); ++i) {
        if (open_sides(originals[i]->get_partial_shape())) open_lengths.insert(parameters[i].get());
    }
    Walker walker(shaped, features, std::move(open_lengths));
    walker.run(1, true);
    // What relates positions to each other makes a sequence of them.
    if (features.attention_blocks > 0 || features.recurrent_ops > 0 || features.convolutions > 0) {
        features.token_tables += walker.fixed_sequences();
        features.id_tables -= walker.fixed_sequences();
    }
    if (features.token_tables > 0) features.token_width = walker.token_width();
    features.has_flops = walker.total > 0;
    if (features.has_flops) {
        features.convolution_1d = walker.convolution_1d / walker.total;
        features.convolution_2d = walker.convolution_2d / walker.total;
        features.dense = walker.dense / walker.total;
        features.recurrent = walker.recurrent / walker.total;
    }
    // States that became inputs of the shaped copy.
    for (const auto& node : original.get_ordered_ops()) {
        if (std::string_view(node->get_type_name()) != "ReadValue") continue;
        const ov::PartialShape& shape = node->get_output_partial_shape(0);
        if (shape.rank().is_static() && shape.rank().get_length() == 4 && shape.is_dynamic()) ++features.state_caches;
    }
    // Caches that are passed by hand: an input of rank 4 with an open length beside as many outputs of rank 4.
    const auto is_cache = [](const TensorInfo& t) {
        return t.rank_known && t.shape.size() == 4 && t.shape[1] > 0 && t.shape[2] < 0 && t.shape[3] > 0;
    };
    const auto caches_in = std::count_if(inputs.begin(), inputs.end(), is_cache);
    const auto caches_out = std::count_if(outputs.begin(), outputs.end(), is_cache);
    if (caches_in > 1 && caches_out >= caches_in) features.state_caches += static_cast<int>(caches_in);
    find_planes(original, shaped, features);
    return features;
}

}  // namespace ai_vmm::graph
