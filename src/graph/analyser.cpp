// SPDX-License-Identifier: Apache-2.0
#include "graph/analyser.hpp"

#include <algorithm>
#include <cmath>
#include <exception>
#include <map>
#include <openvino/core/model.hpp>
#include <openvino/op/constant.hpp>
#include <openvino/op/util/multi_subgraph_base.hpp>
#include <unordered_map>
#include <unordered_set>

#include "base/file.hpp"
#include "graph/assumed_shapes.hpp"
#include "graph/category.hpp"
#include "graph/compared_values.hpp"
#include "graph/costs.hpp"
#include "graph/features.hpp"
#include "graph/file_ops.hpp"
#include "graph/shape_inputs.hpp"
#include "graph/weights.hpp"

namespace ai_vmm::graph {
namespace {

std::int64_t to_integer(double value) { return value < 9.2e18 ? static_cast<std::int64_t>(std::llround(value)) : INT64_MAX; }

std::string count(std::int64_t number, std::string_view singular, std::string_view plural) {
    return std::to_string(number).append(" ").append(number == 1 ? singular : plural);
}

void add_dynamic_dimensions(ModelProfile& profile) {
    for (const TensorInfo& input : profile.inputs) {
        if (!input.rank_known) profile.dynamic_dimensions.push_back(input.name + "[...]");
        for (std::size_t i = 0; i < input.shape.size(); ++i) {
            if (input.shape[i] < 0) profile.dynamic_dimensions.push_back(input.name + "[" + std::to_string(i) + "]");
        }
    }
}

/// Largest sum of tensors that live at once when the nodes run in order. Constants and views take nothing; bodies are not looked into.
double activation_peak(const ov::Model& model, const ConstantAnalysis& constants) {
    // A view keeps its source alive: both count as one tensor.
    std::unordered_map<const ov::Node*, const ov::Node*> owner;
    std::unordered_map<const ov::Node*, std::size_t> last_use;
    const auto nodes = model.get_ordered_ops();
    for (std::size_t step = 0; step < nodes.size(); ++step) {
        const ov::Node* node = nodes[step].get();
        if (constants.is_constant(node)) continue;
        const std::string_view type = node->get_type_name();
        const bool view = (type == "Reshape" || type == "Squeeze" || type == "Unsqueeze" || type == "Result") && node->get_input_size() > 0 &&
                          !constants.is_constant(node->get_input_node_ptr(0));
        const ov::Node* source = view ? node->get_input_node_ptr(0) : nullptr;
        owner[node] = source && owner.contains(source) ? owner[source] : node;
        for (std::size_t i = 0; i < node->get_input_size(); ++i) {
            const auto found = owner.find(node->get_input_node_ptr(i));
            if (found != owner.end()) last_use[found->second] = type == "Result" ? nodes.size() : std::max(last_use[found->second], step);
        }
    }
    std::unordered_map<std::size_t, double> freed_after;
    double live = 0;
    double peak = 0;
    for (std::size_t step = 0; step < nodes.size(); ++step) {
        const ov::Node* node = nodes[step].get();
        const auto found = owner.find(node);
        if (found != owner.end() && found->second == node) {
            double bytes = 0;
            for (std::size_t i = 0; i < node->get_output_size(); ++i) bytes += bytes_of(*node, i);
            live += bytes;
            const auto use = last_use.find(node);
            freed_after[use == last_use.end() ? step : use->second] += bytes;
        }
        peak = std::max(peak, live);
        const auto freed = freed_after.find(step);
        if (freed != freed_after.end()) live -= freed->second;
    }
    return peak;
}

/// Sums over the constants of a graph, each counted once however many nodes use it.
struct WeightTotals {
    std::unordered_set<const void*> seen;
    std::int64_t parameters = 0;
    std::int64_t bytes = 0;
    std::map<std::string, std::int64_t> by_type;                   // elements
    std::map<std::pair<std::string, std::string>, int> quantized;  // (type of the weights, kind of node) -> nodes
    int fake_quantizes = 0;
    bool stateful = false;

    void add(const ov::Model& model) {
        const ConstantAnalysis constants(model);
        for (const auto& node : model.get_ordered_ops()) {
            const std::string type = node->get_type_name();
            if (type == "ReadValue" || type == "Assign") stateful = true;
            if (const auto* sub = dynamic_cast<const ov::op::util::MultiSubGraphOp*>(node.get())) {
                for (std::size_t i = 0; i < sub->get_internal_subgraphs_size(); ++i) {
                    if (sub->get_function(i)) add(*sub->get_function(i));
                }
            }
            if (constants.is_constant(node.get())) continue;
            if (type == "FakeQuantize") ++fake_quantizes;
            bool low_bit = false;
            std::string low_bit_type;
            for (std::size_t i = 0; i < node->get_input_size(); ++i) {
                if (type == "FakeQuantize" && i > 0) break;
                if (!constants.is_constant(node->get_input_node_ptr(i))) continue;
                const Weights weights = constants.weights(node.get(), i);
                if (!weights.main) continue;
                // A constant counts at the first node that reads it.
                for (const auto* root : weights.roots) {
                    if (!holds_weights(*root) || !seen.insert(key(*root)).second) continue;
                    bytes += stored_bytes(*root);
                    if (!holds_parameters(weights, *root)) continue;
                    const auto elements = static_cast<std::int64_t>(ov::shape_size(root->get_shape()));
                    parameters += elements;
                    by_type[root->get_element_type().get_type_name()] += elements;
                }
                if (weights.quantized && weights.parameters > 1) {
                    low_bit = true;
                    low_bit_type = weights.main->get_element_type().get_type_name();
                }
            }
            if (low_bit) ++quantized[{low_bit_type, type}];
        }
    }

    static const void* key(const ov::op::v0::Constant& constant) {
        return constant.get_byte_size() > 0 ? constant.get_data_ptr() : static_cast<const void*>(&constant);
    }
};

std::string kind_of(const std::string& type, int number) {
    static const std::map<std::string, std::pair<std::string, std::string>> names = {
        {"Convolution", {"convolution", "convolutions"}},
        {"GroupConvolution", {"group convolution", "group convolutions"}},
        {"MatMul", {"matrix product", "matrix products"}},
        {"Gather", {"table lookup", "table lookups"}},
    };
    const auto found = names.find(type);
    return found == names.end() ? count(number, type, type) : count(number, found->second.first, found->second.second);
}

std::string weight_type_name(const std::string& type) {
    if (type == "i8" || type == "u8") return "int8";
    if (type == "i4" || type == "u4") return "int4";
    if (type == "i2" || type == "u2") return "int2";
    return "fake-quantised " + type;
}

void describe_quantization(const WeightTotals& totals, ModelProfile& profile) {
    std::map<std::string, std::map<std::string, int>> by_name;
    for (const auto& [key, number] : totals.quantized) by_name[weight_type_name(key.first)][key.second] += number;
    for (const auto& [name, kinds] : by_name) {
        for (const auto& [kind, number] : kinds) profile.quantization.push_back(name + " weights in " + kind_of(kind, number));
    }
    if (totals.fake_quantizes > 0) {
        profile.quantization.push_back("activations are quantised and restored at " + count(totals.fake_quantizes, "place", "places"));
    }
    profile.quantized = !profile.quantization.empty();
}

std::string dominant(const std::map<std::string, std::int64_t>& by_type) {
    const auto most = std::max_element(by_type.begin(), by_type.end(), [](const auto& a, const auto& b) { return a.second < b.second; });
    return most == by_type.end() ? std::string() : most->first;
}

void set_category(const Features& features, ModelProfile& profile) {
    CategoryResult result = classify(features);
    profile.category = result.category;
    profile.category_confidence = result.confidence;
    profile.evidence = std::move(result.evidence);
    profile.hidden_width = features.token_width;
}

ModelProfile start_profile(const Located& located) {
    ModelProfile profile;
    profile.name = located.name;
    profile.format = located.format;
    profile.file_size_bytes = located.size_bytes;
    return profile;
}

void analyse_graph(const backend::Model& model, const std::vector<std::pair<std::string, Shape>>& input_shapes, ModelProfile& profile) {
    ShapedGraph shaped = assume_shapes(model, input_shapes);
    profile.assumed_shapes = std::move(shaped.shapes);
    profile.notes.insert(profile.notes.end(), shaped.notes.begin(), shaped.notes.end());

    const ConstantAnalysis constants(*shaped.graph);
    double flops = 0;
    double moved = 0;
    int open = 0;
    bool trips_known = true;
    for (const auto& node : shaped.graph->get_ordered_ops()) {
        const std::string type = node->get_type_name();
        if (type == "Parameter" || type == "Constant" || type == "Result") continue;
        const Cost cost = cost_of(*node, constants);
        static_cast<void>(trip_count(*node, trips_known));
        flops += cost.flops;
        moved += cost.bytes_read + cost.bytes_written;
        NodeProfile entry;
        entry.name = node->get_friendly_name();
        entry.type = type;
        if (node->get_output_size() > 0) {
            entry.precision = node->get_output_element_type(0).get_type_name();
            open += node->get_output_partial_shape(0).is_dynamic();
        }
        entry.flops = to_integer(cost.flops);
        entry.bytes_read = to_integer(cost.bytes_read);
        entry.bytes_written = to_integer(cost.bytes_written);
        entry.parameters = to_integer(cost.parameters);
        entry.parameter_bytes = to_integer(cost.parameter_bytes);
        profile.nodes.push_back(std::move(entry));
    }
    profile.flops = to_integer(flops);
    profile.bytes_moved = to_integer(moved);
    profile.activation_bytes = to_integer(activation_peak(*shaped.graph, constants));
    if (open > 0)
        profile.notes.push_back(count(open, "node has a shape", "nodes have shapes") +
                                " that depend on values; unknown dimensions count as their least value");
    if (!trips_known) profile.notes.push_back("a loop of unknown length is counted once");

    WeightTotals totals;
    totals.add(*model.graph);
    profile.parameters = totals.parameters;
    profile.parameter_bytes = totals.bytes;
    profile.stateful = totals.stateful;
    profile.precision = dominant(totals.by_type);
    if (profile.precision.empty()) {  // no weights: what it computes in
        for (const auto& output : model.graph->outputs()) {
            if (output.get_element_type().is_static()) profile.precision = output.get_element_type().get_type_name();
        }
    }
    describe_quantization(totals, profile);
    set_category(features_of(*model.graph, *shaped.graph, profile.inputs, profile.outputs), profile);
}

/// The file's operators, most frequent first: "3 CONV_2D, 1 SOFTMAX".
std::string list_operators(const std::map<std::string, int>& operators) {
    std::vector<std::pair<std::string, int>> sorted(operators.begin(), operators.end());
    std::stable_sort(sorted.begin(), sorted.end(), [](const auto& a, const auto& b) { return a.second > b.second; });
    std::string text;
    for (std::size_t i = 0; i < sorted.size(); ++i) {
        if (i == 24) return text + ", and " + std::to_string(sorted.size() - i) + " more kinds";
        text += (text.empty() ? "" : ", ") + std::to_string(sorted[i].second) + " " + sorted[i].first;
    }
    return text;
}

void analyse_content(const Located& located, ModelProfile& profile) {
    if (located.format != ModelFormat::onnx && located.format != ModelFormat::tflite) {
        profile.notes.push_back("the operators of this format can't be listed without converting the model");
        return;
    }
    const std::string content = located.bytes ? std::string() : base::read_file(located.path);
    const std::string_view view = located.bytes ? std::string_view(*located.bytes) : std::string_view(content);
    std::optional<FileOps> ops = located.format == ModelFormat::onnx ? read_onnx_ops(view) : read_tflite_ops(view);
    if (!ops) {
        profile.notes.push_back("the file's operator list can't be read: it is damaged");
        return;
    }
    if (profile.inputs.empty()) profile.inputs = ops->inputs;
    if (profile.outputs.empty()) profile.outputs = ops->outputs;
    ops->features.inputs = profile.inputs;
    ops->features.outputs = profile.outputs;
    profile.parameters = ops->parameters;
    profile.parameter_bytes = ops->parameter_bytes;
    profile.quantized = ops->quantized;
    if (ops->quantized) profile.quantization.push_back("the file holds quantised tensors or quantising operators");
    profile.stateful = ops->stateful;
    profile.compared_values = std::move(ops->compared_values);
    std::map<std::string, std::int64_t> by_type;
    for (const auto& [type, elements] : ops->parameters_by_type) by_type[std::string(to_string(type))] = elements;
    profile.precision = dominant(by_type);
    profile.notes.push_back("counted from the file's own operators (" + list_operators(ops->operators) + "); FLOPs per node are not known");
    set_category(ops->features, profile);
}

}  // namespace

namespace {

/// Shapes for dynamic inputs of a model without a graph to try them on: the caller's, else 1 for the first dimension and, for waveforms and tokens of
/// rank 2, one frame of streaming speech or a short text.
void assume_without_graph(const std::vector<std::pair<std::string, Shape>>& input_shapes, ModelProfile& profile) {
    constexpr std::int64_t kFrameSamples = 512;  // 32 ms at 16 kHz
    constexpr std::int64_t kTokens = 128;
    for (const TensorInfo& info : profile.inputs) {
        if (!info.is_dynamic()) continue;
        Shape shape = info.shape;
        const auto given = std::find_if(input_shapes.begin(), input_shapes.end(), [&](const auto& entry) { return entry.first == info.name; });
        if (given != input_shapes.end()) shape = given->second;
        for (std::size_t i = 0; i < shape.size(); ++i) {
            if (shape[i] >= 0) continue;
            const bool sequence = i > 0 && shape.size() == 2;
            shape[i] = !sequence ? 1 : profile.category == ModelCategory::speech_rnn ? kFrameSamples : kTokens;
        }
        profile.assumed_shapes.emplace_back(info.name, std::move(shape));
    }
}

}  // namespace

ModelProfile analyse(const Located& located, const backend::Model& model, const std::vector<std::pair<std::string, Shape>>& input_shapes) {
    ModelProfile profile = start_profile(located);
    profile.inputs = model.inputs;
    profile.outputs = model.outputs;
    profile.shape_deciding_inputs = inputs_that_set_shapes(model);
    try {
        add_dynamic_dimensions(profile);
        if (model.graph) {
            profile.compared_values = compared_values(model);
            analyse_graph(model, input_shapes, profile);
        } else {
            if (!model.graph_refusal.empty()) profile.notes.push_back("OpenVINO's reader refuses the model: " + model.graph_refusal);
            analyse_content(located, profile);
            assume_without_graph(input_shapes, profile);
        }
    } catch (const std::exception& error) {
        profile.notes.push_back(std::string("the analysis is incomplete: ") + error.what());
    }
    return profile;
}

ModelProfile analyse_file(const Located& located) {
    ModelProfile profile = start_profile(located);
    try {
        analyse_content(located, profile);
        add_dynamic_dimensions(profile);
    } catch (const std::exception& error) {
        profile.notes.push_back(std::string("the analysis is incomplete: ") + error.what());
    }
    return profile;
}

}  // namespace ai_vmm::graph
