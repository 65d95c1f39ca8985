// SPDX-License-Identifier: Apache-2.0
// Convolutions, pooling, matrix products, normalisation, attention, resizing.
#include <algorithm>
#include <cmath>
#include <numeric>

#include "context.hpp"
#include "quantization.hpp"

namespace ai_vmm::ort {
namespace {

using Ints = std::vector<std::int64_t>;
using ov::element::Type;

Ints joined(Ints first, const Ints& second) {
    first.insert(first.end(), second.begin(), second.end());
    return first;
}

/// "auto_pad" or "pads"; `change` may alter explicit padding.
template <typename Change>
void add_padding(OnnxAttributes& result, const NodeAttributes& attributes, Change&& change) {
    const std::string auto_pad = attributes.text("auto_pad", "explicit");
    if (auto_pad == "same_upper" || auto_pad == "same_lower") {
        result.emplace_back("auto_pad", auto_pad == "same_upper" ? "SAME_UPPER" : "SAME_LOWER");
        return;
    }
    Ints begin = attributes.integers("pads_begin"), end = attributes.integers("pads_end");
    const std::size_t axes = attributes.integers("strides").size();
    if (auto_pad == "valid") begin.clear(), end.clear();
    begin.resize(axes, 0);
    end.resize(axes, 0);
    change(begin, end);
    result.emplace_back("pads", joined(begin, end));
}

/// "strides", "dilations" and padding of a pool.
OnnxAttributes window_attributes(const NodeAttributes& attributes) {
    OnnxAttributes result{{"strides", attributes.integers("strides")}};
    if (!attributes.integers("dilations").empty()) result.emplace_back("dilations", attributes.integers("dilations"));
    add_padding(result, attributes, [](Ints&, Ints&) {});
    return result;
}

/// A constant bias that is added to `node`'s only use, one number per channel of axis 1: the Add and its numbers.
struct Bias {
    const ov::Node* add = nullptr;
    std::vector<float> values;
};
std::optional<Bias> following_bias(const Context& context, const ov::Node& node, std::int64_t channel_axis_from_end) {
    const auto targets = node.output(0).get_target_inputs();
    if (targets.size() != 1 || node.get_output_element_type(0) != ov::element::f32) return std::nullopt;
    const ov::Node* add = targets.begin()->get_node();
    if (std::string_view(add->get_type_name()) != "Add" || add->get_autob().m_type != ov::op::AutoBroadcastType::NUMPY) return std::nullopt;
    const std::size_t other = targets.begin()->get_index() == 0 ? 1 : 0;
    const ov::PartialShape& shape = add->get_input_partial_shape(other);
    const ov::PartialShape& output = node.get_output_partial_shape(0);
    if (shape.is_dynamic() || output.rank().is_dynamic() || shape.size() > output.size()) return std::nullopt;
    const std::size_t channel = output.size() - static_cast<std::size_t>(channel_axis_from_end);
    if (output[channel].is_dynamic()) return std::nullopt;
    const std::int64_t channels = output[channel].get_length();
    for (std::size_t i = 0; i < shape.size(); ++i) {
        const bool is_channel = i + output.size() - shape.size() == channel;
        if (shape[i].get_length() != (is_channel ? channels : 1)) return std::nullopt;
    }
    if (static_cast<std::int64_t>(ov::shape_size(shape.to_shape())) != channels) return std::nullopt;
    auto values = context.constant_reals(*add, other);
    if (!values) return std::nullopt;
    return Bias{.add = add, .values = std::move(*values)};
}

std::string floats(OnnxGraph& graph, const std::vector<float>& values) {
    return graph.initializer(OnnxType::f32, {static_cast<std::int64_t>(values.size())},
                             {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float)});
}

// [G, A, B, ...] as [G * A, B, ...].
std::string merge_groups(Context& context, const ov::Node& node, const std::string& weights) {
    const Ints dims = dims_of(node.get_input_partial_shape(1));
    if (dims.size() < 3 || std::count(dims.begin(), dims.end(), -1) > 0) refuse(node, "the weights have no fixed shape");
    Ints merged{dims[0] * dims[1]};
    merged.insert(merged.end(), dims.begin() + 2, dims.end());
    return context.graph.add("Reshape", {weights, context.graph.ints(merged)});
}

void convolution(Context& context, const ov::Node& node, bool grouped) {
    OnnxGraph& g = context.graph;
    const NodeAttributes own(node);
    OnnxAttributes attributes{{"strides", own.integers("strides")}, {"dilations", own.integers("dilations")}};
    ov::Output<ov::Node> input = node.input_value(0);
    add_padding(attributes, own, [&](Ints& begin, Ints& end) { input = without_padding(context, input, begin, end); });
    const Ints dims = dims_of(node.get_input_partial_shape(1));
    if (dims.empty() || std::count(dims.begin(), dims.end(), -1) > 0) refuse(node, "the weights have no fixed shape");
    if (node.get_input_partial_shape(0).rank().is_dynamic()) refuse(node, "the rank is not known");
    if (grouped) attributes.emplace_back("group", dims[0]);
    const Type type = carrier(node.get_input_element_type(0), {ov::element::f32});
    const std::string x = context.cast(context.value(input), input.get_element_type(), type);
    // Weights alone are dequantised beforehand: the engine's kernels for them would quantise the input too.
    const auto quantized = activation_scale(context, input) ? quantized_weights(context, node.input_value(1), grouped ? 2 : 1) : std::nullopt;
    std::string weights;
    if (quantized) {
        weights = quantized->name;
    } else {
        weights = context.in_as(node, 1, type);
        if (grouped) weights = merge_groups(context, node, weights);
    }
    std::vector<std::string> inputs{x, weights};
    const auto bias = following_bias(context, node, static_cast<std::int64_t>(dims_of(node.get_output_partial_shape(0)).size()) - 1);
    if (bias) {
        std::string name;
        if (quantized) name = quantized_bias(context, input, *quantized, bias->values);
        inputs.push_back(name.empty() ? floats(g, bias->values) : name);
    }
    const std::string y = g.add("Conv", std::move(inputs), std::move(attributes));
    if (bias) {
        context.set(*bias->add, 0, y);
        context.mark_done(*bias->add);
    }
    context.set_from(node, 0, y, type);
}

void transposed_convolution(Context& context, const ov::Node& node, bool grouped) {
    OnnxGraph& g = context.graph;
    const NodeAttributes attributes(node);
    const Ints strides = attributes.integers("strides"), dilations = attributes.integers("dilations");
    Ints output_padding = attributes.integers("output_padding");
    output_padding.resize(strides.size(), 0);
    Ints begin = attributes.integers("pads_begin"), end = attributes.integers("pads_end");
    const std::string auto_pad = attributes.text("auto_pad", "explicit");
    const Ints weights_dims = dims_of(node.get_input_partial_shape(1));
    if (std::count(weights_dims.begin(), weights_dims.end(), -1) > 0 || weights_dims.empty()) refuse(node, "the weights have no fixed shape");
    if (auto_pad == "valid") {
        begin.assign(strides.size(), 0);
        end = begin;
    }
    if (node.get_input_size() > 2 || auto_pad == "same_upper" || auto_pad == "same_lower") {
        // Padding that gives the wanted output size (operation specification, ConvolutionBackpropData).
        const Ints in = dims_of(node.get_input_partial_shape(0)), out = dims_of(node.get_output_partial_shape(0));
        const std::size_t kernel_at = weights_dims.size() - strides.size();
        if (in.size() < 3 || out.size() < 3) refuse(node, "the sizes are not known");
        begin.resize(strides.size());
        end.resize(strides.size());
        for (std::size_t i = 0; i < strides.size(); ++i) {
            if (in[i + 2] < 0 || out[i + 2] < 0) refuse(node, "the sizes are not known");
            const std::int64_t kernel = (weights_dims[kernel_at + i] - 1) * dilations[i] + 1;
            const std::int64_t total = strides[i] * (in[i + 2] - 1) + output_padding[i] + kernel - out[i + 2];
            if (total < 0) {
                begin[i] = end[i] = 0;
                output_padding[i] -= total;
            } else {
                begin[i] = auto_pad == "same_upper" ? total - total / 2 : total / 2;
                end[i] = total - begin[i];
            }
        }
    }
    const Type type = carrier(node.get_input_element_type(0), {ov::element::f32});
    std::string weights = context.in_as(node, 1, type);
    if (grouped) weights = merge_groups(context, node, weights);
    OnnxAttributes result{{"strides", strides}, {"dilations", dilations}, {"pads", joined(begin, end)}, {"output_padding", output_padding}};
    if (grouped) result.emplace_back("group", weights_dims[0]);
    context.set_from(node, 0, g.add("ConvTranspose", {context.in_as(node, 0, type), weights}, std::move(result)), type);
}

void matmul(Context& context, const ov::Node& node) {
    OnnxGraph& g = context.graph;
    const NodeAttributes attributes(node);
    const ov::PartialShape &a_shape = node.get_input_partial_shape(0), &b_shape = node.get_input_partial_shape(1);
    const bool transpose_a = attributes.flag("transpose_a") && rank_of(node, a_shape) > 1;
    const bool transpose_b = attributes.flag("transpose_b") && rank_of(node, b_shape) > 1;
    const Type type = carrier(node.get_input_element_type(0), {ov::element::f32, ov::element::f64, ov::element::i32, ov::element::i64});
    const std::string a = context.in_as(node, 0, type);
    const bool flat =
        a_shape.rank().is_static() && a_shape.size() == 2 && b_shape.rank().is_static() && b_shape.size() == 2 && type == ov::element::f32;
    const auto quantized = flat && !transpose_a && activation_scale(context, node.input_value(0))
                               ? quantized_weights(context, node.input_value(1), transpose_b ? 1 : -1)
                               : std::nullopt;
    const std::string b = quantized ? quantized->name : context.in_as(node, 1, type);
    const auto bias = flat ? following_bias(context, node, 1) : std::nullopt;
    if (bias) {
        std::string name;
        if (quantized) name = quantized_bias(context, node.input_value(0), *quantized, bias->values);
        const std::string y =
            g.add("Gemm", {a, b, name.empty() ? floats(g, bias->values) : name}, {{"transA", transpose_a}, {"transB", transpose_b}});
        context.set(*bias->add, 0, y);
        context.mark_done(*bias->add);
        return context.set(node, 0, y);
    }
    const auto transposed = [&](const std::string& name, const ov::PartialShape& shape) {
        Ints order(static_cast<std::size_t>(rank_of(node, shape)));
        std::iota(order.begin(), order.end(), 0);
        std::swap(order[order.size() - 1], order[order.size() - 2]);
        return g.add("Transpose", {name}, {{"perm", order}});
    };
    context.set_from(node, 0, g.add("MatMul", {transpose_a ? transposed(a, a_shape) : a, transpose_b ? transposed(b, b_shape) : b}), type);
}

// Whether rounding up changes nothing, or does what ONNX does: a last window must start inside the data or its leading padding.
bool needs_ceil(const ov::Node& node, const NodeAttributes& attributes) {
    const std::string rounding = attributes.text("rounding_type", "floor");
    if (rounding == "floor") return false;
    const std::string auto_pad = attributes.text("auto_pad", "explicit");
    if (auto_pad == "same_upper" || auto_pad == "same_lower") return false;
    const Ints in = dims_of(node.get_input_partial_shape(0)), kernel = attributes.integers("kernel"), strides = attributes.integers("strides"),
               begin = attributes.integers("pads_begin"), end = attributes.integers("pads_end");
    Ints dilations = attributes.integers("dilations");
    dilations.resize(kernel.size(), 1);
    bool changes = false, known = true;
    for (std::size_t i = 0; i < kernel.size(); ++i) {
        if (in[i + 2] < 0) {
            known = false;
            continue;
        }
        const std::int64_t extent = in[i + 2] + begin[i] + end[i] - ((kernel[i] - 1) * dilations[i] + 1);
        if (extent % strides[i] == 0) continue;
        changes = true;
        const std::int64_t last_start = (extent / strides[i] + 1) * strides[i];
        if (rounding == "ceil" && last_start >= in[i + 2] + begin[i]) refuse(node, "rounding up adds a window that ONNX leaves out");
    }
    if (!known && rounding == "ceil") refuse(node, "rounding up of sizes that are not known");
    return changes || !known;
}

void pool(Context& context, const ov::Node& node, bool maximum) {
    OnnxGraph& g = context.graph;
    const NodeAttributes attributes(node);
    if (node.get_input_partial_shape(0).rank().is_dynamic()) refuse(node, "the rank is not known");
    const Type declared = node.get_input_element_type(0);
    OnnxAttributes result = window_attributes(attributes);
    result.emplace_back("kernel_shape", attributes.integers("kernel"));
    const bool ceil = needs_ceil(node, attributes);
    if (ceil) result.emplace_back("ceil_mode", 1);
    if (maximum) {
        const Type type = carrier(declared, {ov::element::f32, ov::element::f64, ov::element::i8, ov::element::u8});
        const bool indices = node.get_output_size() > 1 && !node.output(1).get_target_inputs().empty();
        if (indices && attributes.integer("axis", 0) != 0) refuse(node, "indices that do not count from the first axis");
        const auto names = g.add_many("MaxPool", {context.in_as(node, 0, type)}, indices ? 2 : 1, std::move(result));
        context.set_from(node, 0, names[0], type);
        if (indices) context.set_from(node, 1, names[1], ov::element::i64);
        return;
    }
    const bool count_padding = !attributes.flag("exclude-pad", true);
    if (ceil && count_padding) refuse(node, "rounding up with padding counted");
    result.emplace_back("count_include_pad", count_padding);
    const Type type = carrier(declared, {ov::element::f32});
    context.set_from(node, 0, g.add("AveragePool", {context.in_as(node, 0, type)}, std::move(result)), type);
}

void adaptive_pool(Context& context, const ov::Node& node, bool maximum) {
    OnnxGraph& g = context.graph;
    const Ints in = dims_of(node.get_input_partial_shape(0)), sizes = context.need_ints(node, 1);
    if (maximum && !node.output(1).get_target_inputs().empty()) refuse(node, "its indices are used");
    if (in.size() != sizes.size() + 2) refuse(node, "the rank is not known");
    const Type type = carrier(node.get_input_element_type(0), {ov::element::f32});
    const std::string x = context.in_as(node, 0, type);
    if (std::ranges::all_of(sizes, [](std::int64_t size) { return size == 1; })) {
        return context.set_from(node, 0, g.add(maximum ? "GlobalMaxPool" : "GlobalAveragePool", {x}), type);
    }
    Ints kernel;
    for (std::size_t i = 0; i < sizes.size(); ++i) {
        if (in[i + 2] < 0 || in[i + 2] % sizes[i] != 0) refuse(node, "windows of unequal size");
        kernel.push_back(in[i + 2] / sizes[i]);
    }
    context.set_from(node, 0, g.add(maximum ? "MaxPool" : "AveragePool", {x}, {{"kernel_shape", kernel}, {"strides", kernel}}), type);
}

void softmax(Context& context, const ov::Node& node, const char* op) {
    const Type type = carrier(node.get_input_element_type(0), {ov::element::f32, ov::element::f64});
    context.set_from(node, 0, context.graph.add(op, {context.in_as(node, 0, type)}, {{"axis", NodeAttributes(node).integer("axis", 1)}}), type);
}

void batch_norm(Context& context, const ov::Node& node) {
    // Version 0 (opset1) has the data third, version 5 first.
    const bool old = std::string_view(node.get_type_info().version_id) == "opset1";
    const Type type = carrier(node.get_input_element_type(0), {ov::element::f32, ov::element::f64});
    std::vector<std::string> inputs;
    for (const std::size_t index : old ? std::vector<std::size_t>{2, 0, 1, 3, 4} : std::vector<std::size_t>{0, 1, 2, 3, 4}) {
        inputs.push_back(context.in_as(node, index, type));
    }
    context.set_from(
        node, 0, context.graph.add("BatchNormalization", std::move(inputs), {{"epsilon", static_cast<float>(NodeAttributes(node).real("epsilon"))}}),
        type);
}

void normalize_mean(Context& context, const ov::Node& node) {
    OnnxGraph& g = context.graph;
    const NodeAttributes attributes(node);
    const Type type = carrier(node.get_input_element_type(0), {ov::element::f32, ov::element::f64});
    const std::string x = context.in_as(node, 0, type);
    std::string axes;
    if (context.has_input(node, 1)) {
        axes = context.in_ints(node, 1);
    } else {
        const std::int64_t rank = rank_of(node, node.get_input_partial_shape(0));
        Ints values;
        for (std::int64_t axis = attributes.flag("across_channels") ? 1 : 2; axis < rank; ++axis) values.push_back(axis);
        axes = g.ints(values);
    }
    const std::string centred = g.add("Sub", {x, g.add("ReduceMean", {x, axes})});
    if (!attributes.flag("normalize_variance", true)) return context.set_from(node, 0, centred, type);
    const std::string variance = g.add("ReduceMean", {g.add("Mul", {centred, centred}), axes});
    const std::string epsilon = context.number(attributes.real("eps"), type);
    const std::string deviation = attributes.text("eps_mode", "inside_sqrt") == "inside_sqrt" ? g.add("Sqrt", {g.add("Add", {variance, epsilon})})
                                                                                              : g.add("Add", {g.add("Sqrt", {variance}), epsilon});
    context.set_from(node, 0, g.add("Div", {centred, deviation}), type);
}

void normalize_l2(Context& context, const ov::Node& node) {
    OnnxGraph& g = context.graph;
    const NodeAttributes attributes(node);
    const Type type = carrier(node.get_input_element_type(0), {ov::element::f32, ov::element::f64});
    const std::string x = context.in_as(node, 0, type);
    const std::string square = g.add("Mul", {x, x});
    // Without axes every element is normalised by itself.
    const std::string sum = g.add("ReduceSum", {square, context.in_ints(node, 1)}, {{"noop_with_empty_axes", 1}});
    const std::string epsilon = context.number(attributes.real("eps"), type);
    const std::string length = g.add("Sqrt", {g.add(attributes.text("eps_mode", "add") == "max" ? "Max" : "Add", {sum, epsilon})});
    context.set_from(node, 0, g.add("Div", {x, length}), type);
}

void lrn(Context& context, const ov::Node& node) {
    const NodeAttributes attributes(node);
    if (context.need_ints(node, 1) != Ints{1}) refuse(node, "ONNX normalises over the channels only");
    const Type type = carrier(node.get_input_element_type(0), {ov::element::f32});
    context.set_from(node, 0,
                     context.graph.add("LRN", {context.in_as(node, 0, type)},
                                       {{"alpha", static_cast<float>(attributes.real("alpha"))},
                                        {"beta", static_cast<float>(attributes.real("beta"))},
                                        {"bias", static_cast<float>(attributes.real("bias"))},
                                        {"size", attributes.integer("size")}}),
                     type);
}

void group_norm(Context& context, const ov::Node& node) {
    OnnxGraph& g = context.graph;
    const NodeAttributes attributes(node);
    const Type type = carrier(node.get_input_element_type(0), {ov::element::f32});
    const std::int64_t rank = rank_of(node, node.get_input_partial_shape(0)), groups = attributes.integer("num_groups", 1);
    const std::string x = context.in_as(node, 0, type);
    const std::string split = g.add("Reshape", {x, g.ints({0, groups, -1})});
    const std::string centred = g.add("Sub", {split, g.add("ReduceMean", {split, g.ints({2})})});
    const std::string variance = g.add("ReduceMean", {g.add("Mul", {centred, centred}), g.ints({2})});
    const std::string deviation = g.add("Sqrt", {g.add("Add", {variance, context.number(attributes.real("epsilon"), type)})});
    const std::string normal = g.add("Reshape", {g.add("Div", {centred, deviation}), g.add("Shape", {x})});
    Ints channel(static_cast<std::size_t>(rank - 1), 1);
    channel[0] = -1;
    const auto per_channel = [&](std::size_t index) { return g.add("Reshape", {context.in_as(node, index, type), g.ints(channel)}); };
    context.set_from(node, 0, g.add("Add", {g.add("Mul", {normal, per_channel(1)}), per_channel(2)}), type);
}

// softmax(Q K^T * scale + mask) V
void attention(Context& context, const ov::Node& node) {
    OnnxGraph& g = context.graph;
    const bool causal = NodeAttributes(node).flag("causal");
    if (node.get_input_size() > 5) refuse(node, "attention sinks");
    const Type type = carrier(node.get_input_element_type(0), {ov::element::f32, ov::element::f64});
    const ov::PartialShape& key_shape = node.get_input_partial_shape(1);
    const std::int64_t rank = rank_of(node, key_shape);
    std::string q = context.in_as(node, 0, type);
    const std::string k = context.in_as(node, 1, type), v = context.in_as(node, 2, type);
    std::string scale;
    if (context.has_input(node, 4)) {
        scale = context.in_as(node, 4, type);
    } else {
        const ov::PartialShape& query_shape = node.get_input_partial_shape(0);
        if (query_shape.rank().is_static() && query_shape[query_shape.size() - 1].is_static()) {
            scale = context.number(1.0 / std::sqrt(static_cast<double>(query_shape[query_shape.size() - 1].get_length())), type);
        } else {
            const std::string size = context.cast(g.add("Gather", {g.add("Shape", {q}), g.scalar(-1)}), ov::element::i64, type);
            scale = g.add("Reciprocal", {g.add("Sqrt", {size})});
        }
    }
    Ints order(static_cast<std::size_t>(rank));
    std::iota(order.begin(), order.end(), 0);
    std::swap(order[order.size() - 1], order[order.size() - 2]);
    std::string scores = g.add("MatMul", {g.add("Mul", {q, scale}), g.add("Transpose", {k}, {{"perm", order}})});
    if (causal) {
        const auto size = [&](const std::string& name) { return g.add("Gather", {g.add("Shape", {name}), g.scalar(-2)}); };
        const auto range = [&](const std::string& count) { return g.add("Range", {g.scalar(0), count, g.scalar(1)}); };
        const std::string rows = g.add("Unsqueeze", {range(size(q)), g.ints({1})});
        const std::string hidden = g.add("Greater", {range(size(k)), rows});
        scores = g.add("Where", {hidden, context.number(-INFINITY, type), scores});
    } else if (context.has_input(node, 3)) {
        if (node.get_input_element_type(3) == ov::element::boolean) {
            scores = g.add("Where", {context.in(node, 3), scores, context.number(-INFINITY, type)});
        } else {
            scores = g.add("Add", {scores, context.in_as(node, 3, type)});
        }
    }
    context.set_from(node, 0, g.add("MatMul", {g.add("Softmax", {scores}, {{"axis", -1}}), v}), type);
}

void interpolate(Context& context, const ov::Node& node) {
    OnnxGraph& g = context.graph;
    const NodeAttributes attributes(node);
    const std::string version = node.get_type_info().version_id;
    if (version == "opset1") refuse(node, "the first version of the operation");
    const bool newest = version == "opset11";
    const std::string mode = attributes.text("mode");
    std::string coordinates = attributes.text("coordinate_transformation_mode", "half_pixel"),
                nearest = attributes.text("nearest_mode", "round_prefer_floor");
    const bool antialias = attributes.flag("antialias");
    for (const char* name : {"pads_begin", "pads_end"}) {
        const Ints pads = attributes.integers(name);
        if (std::ranges::any_of(pads, [](std::int64_t size) { return size != 0; })) refuse(node, "padding");
    }
    if (antialias) refuse(node, "antialiasing");
    OnnxAttributes result;
    const Ints in = dims_of(node.get_input_partial_shape(0)), out = dims_of(node.get_output_partial_shape(0));
    bool grows = in.size() == out.size();
    for (std::size_t i = 0; grows && i < in.size(); ++i) grows = in[i] == out[i] || (in[i] > 0 && out[i] >= in[i]);
    if (mode == "nearest") {
        if (coordinates == "tf_half_pixel_for_nn") {  // floor((x + 0.5) * scale) is half_pixel rounded, halves up
            if (nearest != "floor" && nearest != "simple") refuse(node, "nearest_mode " + nearest);
            coordinates = "half_pixel";
            nearest = "round_prefer_ceil";
        }
        if (nearest == "simple") {
            if (!grows) refuse(node, "nearest_mode simple");
            nearest = "floor";
        }
        result = {{"mode", "nearest"}, {"nearest_mode", nearest}};
    } else if (mode == "linear_onnx" || mode == "linear") {
        if (mode == "linear" && !grows) refuse(node, "mode linear that shrinks");
        result = {{"mode", "linear"}};
    } else if (mode == "cubic") {
        result = {{"mode", "cubic"}, {"cubic_coeff_a", static_cast<float>(attributes.real("cube_coeff", -0.75))}};
    } else {
        refuse(node, "mode " + mode);
    }
    if (coordinates == "tf_half_pixel_for_nn") refuse(node, "tf_half_pixel_for_nn");
    result.emplace_back("coordinate_transformation_mode", coordinates);
    const bool by_sizes = attributes.text("shape_calculation_mode", "sizes") == "sizes";
    const std::size_t axes_index = newest ? 2 : 3;
    if (context.has_input(node, axes_index)) result.emplace_back("axes", context.need_ints(node, axes_index));
    const Type type = carrier(node.get_input_element_type(0), {ov::element::f32});
    std::vector<std::string> inputs{context.in_as(node, 0, type), "", "", ""};
    if (by_sizes) {
        inputs[3] = context.in_ints(node, 1);
    } else {
        inputs[2] = context.in_as(node, newest ? 1 : 2, ov::element::f32);
    }
    context.set_from(node, 0, g.add("Resize", std::move(inputs), std::move(result)), type);
}

void einsum(Context& context, const ov::Node& node) {
    const Type type = carrier(node.get_input_element_type(0), {ov::element::f32, ov::element::f64, ov::element::i32, ov::element::i64});
    std::vector<std::string> inputs;
    for (std::size_t i = 0; i < node.get_input_size(); ++i) inputs.push_back(context.in_as(node, i, type));
    context.set_from(node, 0, context.graph.add("Einsum", std::move(inputs), {{"equation", NodeAttributes(node).text("equation")}}), type);
}

void grid_sample(Context& context, const ov::Node& node) {
    const NodeAttributes attributes(node);
    const std::string mode = attributes.text("mode", "bilinear");
    const Type type = carrier(node.get_input_element_type(0), {ov::element::f32});
    context.set_from(node, 0,
                     context.graph.add("GridSample", {context.in_as(node, 0, type), context.in_as(node, 1, type)},
                                       {{"mode", mode == "bilinear"  ? "linear"
                                                 : mode == "bicubic" ? "cubic"
                                                                     : "nearest"},
                                        {"padding_mode", attributes.text("padding_mode", "zeros")},
                                        {"align_corners", attributes.flag("align_corners")}}),
                     type);
}

}  // namespace

void add_neural_handlers(HandlerTable& table) {
    table["Convolution"] = [](Context& c, const ov::Node& n) { convolution(c, n, false); };
    table["GroupConvolution"] = [](Context& c, const ov::Node& n) { convolution(c, n, true); };
    table["ConvolutionBackpropData"] = [](Context& c, const ov::Node& n) { transposed_convolution(c, n, false); };
    table["GroupConvolutionBackpropData"] = [](Context& c, const ov::Node& n) { transposed_convolution(c, n, true); };
    table["MatMul"] = matmul;
    table["MaxPool"] = [](Context& c, const ov::Node& n) { pool(c, n, true); };
    table["AvgPool"] = [](Context& c, const ov::Node& n) { pool(c, n, false); };
    table["AdaptiveAvgPool"] = [](Context& c, const ov::Node& n) { adaptive_pool(c, n, false); };
    table["AdaptiveMaxPool"] = [](Context& c, const ov::Node& n) { adaptive_pool(c, n, true); };
    table["Softmax"] = [](Context& c, const ov::Node& n) { softmax(c, n, "Softmax"); };
    table["LogSoftmax"] = [](Context& c, const ov::Node& n) { softmax(c, n, "LogSoftmax"); };
    table["BatchNormInference"] = batch_norm;
    table["MVN"] = normalize_mean;
    table["NormalizeL2"] = normalize_l2;
    table["LRN"] = lrn;
    table["GroupNormalization"] = group_norm;
    table["ScaledDotProductAttention"] = attention;
    table["Interpolate"] = interpolate;
    table["Einsum"] = einsum;
    table["GridSample"] = grid_sample;
}

}  // namespace ai_vmm::ort
