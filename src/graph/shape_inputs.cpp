// SPDX-License-Identifier: Apache-2.0
#include "graph/shape_inputs.hpp"

#include <algorithm>
#include <array>
#include <set>
#include <string_view>

#include "openvino/core/model.hpp"
#include "openvino/core/node.hpp"

namespace ai_vmm::graph {
namespace {

bool is_integer(ElementType type) {
    return type == ElementType::i64 || type == ElementType::i32 || type == ElementType::u64 || type == ElementType::u32;
}

/// Input ports, from `first` on, whose values decide a shape, a count or a position.
struct Decider {
    std::string_view type;
    std::size_t first;
};
constexpr std::array<Decider, 22> kDeciders{{{"Reshape", 1},       {"Broadcast", 1},
                                             {"Tile", 1},          {"Pad", 1},
                                             {"StridedSlice", 1},  {"Slice", 1},
                                             {"Interpolate", 1},   {"Range", 0},
                                             {"OneHot", 1},        {"TopK", 1},
                                             {"Loop", 0},          {"Col2Im", 1},
                                             {"VariadicSplit", 1}, {"SpaceToBatch", 1},
                                             {"BatchToSpace", 1},  {"RandomUniform", 0},
                                             {"Eye", 0},           {"Roll", 1},
                                             {"MaxPool", 1},       {"ScatterNDUpdate", 1},
                                             {"ROIPooling", 1},    {"ConvolutionBackpropData", 2}}};

bool decides(const ov::Input<ov::Node>& target) {
    const std::string_view type = target.get_node()->get_type_name();
    return std::ranges::any_of(kDeciders, [&](const Decider& decider) { return decider.type == type && target.get_index() >= decider.first; });
}

template <typename Port>
bool reaches_decider(const Port& from, std::set<const ov::Node*>& seen) {
    for (const ov::Input<ov::Node>& target : from.get_target_inputs()) {
        if (decides(target)) return true;
        const ov::Node* node = target.get_node();
        if (!seen.insert(node).second) continue;
        for (const ov::Output<ov::Node>& output : target.get_node()->outputs()) {
            // Scalars and vectors may still be on their way to a shape; what has become a matrix is data.
            const ov::Rank rank = output.get_partial_shape().rank();
            if (rank.is_static() && rank.get_length() > 1) continue;
            if (reaches_decider(output, seen)) return true;
        }
    }
    return false;
}

}  // namespace

std::vector<std::string> inputs_that_set_shapes(const backend::Model& model) {
    std::vector<std::string> names;
    for (std::size_t i = 0; i < model.inputs.size(); ++i) {
        const TensorInfo& info = model.inputs[i];
        if (!is_integer(info.type) || (info.rank_known && info.shape.size() > 1)) continue;
        bool found = false;
        if (model.graph == nullptr) {
            found = info.name != "sr" && info.name != "sample_rate" && info.name != "sampling_rate";
        } else if (i < model.graph_inputs.size() && model.graph_inputs[i] >= 0) {
            std::set<const ov::Node*> seen;
            found = reaches_decider(model.graph->inputs()[static_cast<std::size_t>(model.graph_inputs[i])], seen);
        }
        if (found) names.push_back(info.name);
    }
    return names;
}

}  // namespace ai_vmm::graph
