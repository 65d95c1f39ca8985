// SPDX-License-Identifier: Apache-2.0
// Quantised models: OpenVINO's FakeQuantize and integer weights as QuantizeLinear / DequantizeLinear pairs, from which the engine makes integer
// kernels. Where a pair would not give the same numbers, plain arithmetic is written instead.
#include "quantization.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <numeric>

namespace ai_vmm::ort {
namespace {

using Ints = std::vector<std::int64_t>;
using ov::element::Type;

std::string floats(OnnxGraph& graph, const Ints& shape, const std::vector<float>& values) {
    return graph.initializer(OnnxType::f32, shape, {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float)});
}

std::string bytes(OnnxGraph& graph, OnnxType type, const Ints& shape, const std::vector<std::int8_t>& values) {
    return graph.initializer(type, shape, {reinterpret_cast<const char*>(values.data()), values.size()});
}

bool is(const ov::Node& node, std::string_view name) { return name == node.get_type_name(); }

// Weights of one constant, element by element.
struct Elements {
    ov::Shape shape;
    std::vector<std::int8_t> values;
    std::vector<float> scales;  // as many as values
};

const ov::op::v0::Constant* constant_of(const ov::Output<ov::Node>& output) {
    return is(*output.get_node(), "Constant") ? static_cast<const ov::op::v0::Constant*>(output.get_node()) : nullptr;
}

// Values of `constant` repeated to `shape` as NumPy does; empty if it does not fit.
std::vector<float> spread(const ov::op::v0::Constant& constant, const ov::Shape& shape) {
    const std::vector<float> values = constant.cast_vector<float>();
    ov::Shape own = constant.get_shape();
    if (own.size() > shape.size()) return {};
    own.insert(own.begin(), shape.size() - own.size(), 1);
    std::vector<float> result(ov::shape_size(shape));
    for (std::size_t i = 0; i < result.size(); ++i) {
        std::size_t rest = i, from = 0, stride = 1;
        for (std::size_t axis = shape.size(); axis-- > 0;) {
            const std::size_t position = rest % shape[axis];
            rest /= shape[axis];
            if (own[axis] != 1 && own[axis] != shape[axis]) return {};
            if (own[axis] != 1) from += position * stride;
            stride *= own[axis];
        }
        result[i] = values[from];
    }
    return result;
}

template <typename T>
std::vector<T> permuted(const std::vector<T>& values, const ov::Shape& shape, const Ints& order) {
    ov::Shape strides(shape.size(), 1), target(shape.size());
    for (std::size_t axis = shape.size() - 1; axis-- > 0;) strides[axis] = strides[axis + 1] * shape[axis + 1];
    for (std::size_t axis = 0; axis < shape.size(); ++axis) target[axis] = shape[static_cast<std::size_t>(order[axis])];
    std::vector<T> result(values.size());
    for (std::size_t i = 0; i < values.size(); ++i) {
        std::size_t rest = i, from = 0;
        for (std::size_t axis = shape.size(); axis-- > 0;) {
            from += rest % target[axis] * strides[static_cast<std::size_t>(order[axis])];
            rest /= target[axis];
        }
        result[i] = values[from];
    }
    return result;
}

std::optional<Elements> elements_of(const Context& context, const ov::Output<ov::Node>& output, int depth = 0) {
    const ov::Node& node = *output.get_node();
    if (depth > 16 || output.get_partial_shape().is_dynamic()) return std::nullopt;
    if (is(node, "Reshape") || is(node, "Unsqueeze") || is(node, "Squeeze")) {
        auto elements = elements_of(context, node.input_value(0), depth + 1);
        if (elements) elements->shape = output.get_shape();
        return elements;
    }
    if (is(node, "Transpose")) {
        auto elements = elements_of(context, node.input_value(0), depth + 1);
        const auto order = context.constant_ints(node, 1);
        if (!elements || !order || order->size() != elements->shape.size() || order->empty()) return std::nullopt;
        elements->values = permuted(elements->values, elements->shape, *order);
        elements->scales = permuted(elements->scales, elements->shape, *order);
        elements->shape = output.get_shape();
        return elements;
    }
    if (!is(node, "Multiply")) return std::nullopt;
    const auto* scale = constant_of(node.input_value(1));
    const ov::Node* convert = node.get_input_node_ptr(0);
    if (scale == nullptr || !is(*convert, "Convert")) return std::nullopt;  // a zero point other than 0 is not symmetric
    const auto* integers = constant_of(convert->input_value(0));
    if (integers == nullptr || integers->get_element_type() != ov::element::i8 || integers->get_shape() != output.get_shape()) return std::nullopt;
    Elements elements{.shape = output.get_shape(), .values = integers->cast_vector<std::int8_t>(), .scales = spread(*scale, output.get_shape())};
    if (elements.scales.empty() || elements.values.empty()) return std::nullopt;
    return elements;
}

}  // namespace

std::optional<QuantizedWeights> quantized_weights(Context& context, const ov::Output<ov::Node>& weights, int channel_axes) {
    const auto elements = elements_of(context, weights);
    if (!elements) return std::nullopt;
    Ints shape;
    std::size_t channels = 1, inner = 1;
    bool last = channel_axes < 0;
    if (last) {
        shape.assign(elements->shape.begin(), elements->shape.end());
        channels = elements->shape.back();
    } else {
        for (int axis = 0; axis < channel_axes; ++axis) channels *= elements->shape[static_cast<std::size_t>(axis)];
        shape.push_back(static_cast<std::int64_t>(channels));
        shape.insert(shape.end(), elements->shape.begin() + channel_axes, elements->shape.end());
        inner = elements->values.size() / channels;
    }
    QuantizedWeights result;
    for (std::size_t channel = 0; channel < channels; ++channel) result.scales.push_back(elements->scales[last ? channel : channel * inner]);
    for (std::size_t i = 0; i < elements->scales.size(); ++i) {
        if (elements->scales[i] != result.scales[last ? i % channels : i / inner]) return std::nullopt;
    }
    if (std::ranges::any_of(result.scales, [](float scale) { return !(scale > 0); })) return std::nullopt;
    if (std::ranges::all_of(result.scales, [&](float scale) { return scale == result.scales[0]; })) result.scales.resize(1);
    OnnxGraph& g = context.graph;
    const bool single = result.scales.size() == 1;
    const Ints scale_shape = single ? Ints{} : Ints{static_cast<std::int64_t>(channels)};
    const std::string values = bytes(g, OnnxType::i8, shape, elements->values);
    const std::string zero = bytes(g, OnnxType::i8, scale_shape, std::vector<std::int8_t>(result.scales.size(), 0));
    OnnxAttributes attributes;
    if (!single) attributes.emplace_back("axis", last ? static_cast<int>(shape.size()) - 1 : 0);
    result.name = g.add("DequantizeLinear", {values, floats(g, scale_shape, result.scales), zero}, std::move(attributes));
    return result;
}

std::optional<float> activation_scale(const Context& context, const ov::Output<ov::Node>& value) {
    ov::Output<ov::Node> source = value;
    while (is(*source.get_node(), "Reshape") || is(*source.get_node(), "Transpose") || is(*source.get_node(), "Squeeze") ||
           is(*source.get_node(), "Unsqueeze") || is(*source.get_node(), "MaxPool")) {
        source = source.get_node()->input_value(0);
    }
    const auto found = context.scales.find({source.get_node(), source.get_index()});
    if (found == context.scales.end()) return std::nullopt;
    return found->second;
}

std::string quantized_bias(Context& context, const ov::Output<ov::Node>& input, const QuantizedWeights& weights, const std::vector<float>& bias) {
    const auto input_scale = activation_scale(context, input);
    if (!input_scale) return {};
    std::vector<float> scales;
    std::vector<std::int32_t> values;
    for (std::size_t i = 0; i < bias.size(); ++i) {
        const float scale = *input_scale * weights.scales[weights.scales.size() == 1 ? 0 : i];
        const double value = std::nearbyint(static_cast<double>(bias[i]) / scale);
        if (std::abs(value) > 2147483000.0) return {};
        values.push_back(static_cast<std::int32_t>(value));
        if (weights.scales.size() > 1 || i == 0) scales.push_back(scale);
    }
    OnnxGraph& g = context.graph;
    const auto count = static_cast<std::int64_t>(bias.size());
    const std::string integers =
        g.initializer(OnnxType::i32, {count}, {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(std::int32_t)});
    const bool single = scales.size() == 1 && weights.scales.size() == 1;
    OnnxAttributes attributes;
    if (!single) attributes.emplace_back("axis", 0);
    return g.add("DequantizeLinear", {integers, floats(g, single ? Ints{} : Ints{count}, scales)}, std::move(attributes));
}

namespace {

/// 256 levels from low to high as real = scale * (integer - zero point), unsigned; std::nullopt if zero is not one of the levels.
struct Grid {
    float scale;
    int zero;
};
std::optional<Grid> grid_of(float low, float high) {
    const double scale = (static_cast<double>(high) - low) / 255.0;
    if (!(scale > 0)) return std::nullopt;
    const double zero = -low / scale;
    const double rounded = std::nearbyint(zero);
    constexpr double kTolerance = 0.02;  // of a level: ranges in files are rounded to f32
    if (std::abs(zero - rounded) > kTolerance || rounded < 0 || rounded > 255) return std::nullopt;
    return Grid{.scale = static_cast<float>(scale), .zero = static_cast<int>(rounded)};
}

// The four bounds if each is one number and there are 256 levels.
std::optional<std::array<float, 4>> bounds_of(const Context& context, const ov::Node& node) {
    if (!is(node, "FakeQuantize") || NodeAttributes(node).integer("levels") != 256) return std::nullopt;
    std::array<float, 4> bounds{};
    for (std::size_t i = 0; i < 4; ++i) {
        const auto values = context.constant_reals(node, i + 1);
        if (!values || values->size() != 1) return std::nullopt;
        bounds[i] = values->front();
    }
    return bounds;
}

/// A clamp before quantisation as one of its levels: the levels that stay; std::nullopt if a bound is between two levels.
struct Levels {
    int low = 0;
    int high = 255;
};
std::optional<Levels> clamped_levels(const ov::Node& node, const Grid& grid) {
    double low = 0, high = INFINITY;
    if (is(node, "Clamp")) {
        const NodeAttributes attributes(node);
        low = attributes.real("min");
        high = attributes.real("max");
    } else if (!is(node, "Relu")) {
        return std::nullopt;
    }
    Levels levels;
    const double low_level = low / grid.scale + grid.zero, high_level = high / grid.scale + grid.zero;
    constexpr double kTolerance = 0.02;
    if (low_level > 0) {
        levels.low = static_cast<int>(std::nearbyint(low_level));
        if (std::abs(low_level - levels.low) > kTolerance) return std::nullopt;
    }
    if (high_level < 255) {
        levels.high = static_cast<int>(std::nearbyint(high_level));
        if (std::abs(high_level - levels.high) > kTolerance) return std::nullopt;
    }
    if (levels.low > levels.high || levels.low > 255 || levels.high < 0) return std::nullopt;
    return levels;
}

std::string zero_point(OnnxGraph& graph, int zero, bool is_signed) {
    return bytes(graph, is_signed ? OnnxType::i8 : OnnxType::u8, {}, {static_cast<std::int8_t>(is_signed ? zero - 128 : zero)});
}

// Level by level in floating point (operation specification, FakeQuantize).
void arithmetic_fake_quantize(Context& context, const ov::Node& node, std::int64_t levels) {
    OnnxGraph& g = context.graph;
    const Type type = carrier(node.get_input_element_type(0), {ov::element::f32, ov::element::f64});
    const auto at = [&](std::size_t index) { return context.in_as(node, index, type); };
    const std::string steps = context.number(static_cast<double>(levels - 1), type);
    const std::string x = g.add("Min", {g.add("Max", {at(0), g.add("Min", {at(1), at(2)})}), g.add("Max", {at(1), at(2)})});
    // Equal bounds would divide by zero: everything is then at the low or the high level.
    const std::string in_range = g.add("Sub", {at(2), at(1)}), out_range = g.add("Sub", {at(4), at(3)});
    const std::string level = g.add("Round", {g.add("Mul", {g.add("Div", {g.add("Sub", {x, at(1)}), in_range}), steps})});
    context.set_from(node, 0, g.add("Add", {g.add("Mul", {g.add("Div", {level, steps}), out_range}), at(3)}), type);
}

void fake_quantize(Context& context, const ov::Node& node) {
    OnnxGraph& g = context.graph;
    const std::int64_t levels = NodeAttributes(node).integer("levels");
    const auto bounds = bounds_of(context, node);
    if (!bounds || node.get_input_element_type(0) != ov::element::f32) return arithmetic_fake_quantize(context, node, levels);
    const auto [in_low, in_high, out_low, out_high] = *bounds;
    const ov::Node& producer = *node.get_input_node_ptr(0);
    const auto consumers = node.output(0).get_target_inputs();

    // The integers of an integer input are the levels.
    const bool from_integers = in_low == -128 && in_high == 127 && is(producer, "Convert") && producer.get_input_element_type(0) == ov::element::i8;
    const bool from_unsigned = in_low == 0 && in_high == 255 && is(producer, "Convert") && producer.get_input_element_type(0) == ov::element::u8;
    // The levels are wanted as integers: every use is a conversion to them.
    const auto wants = [&](ov::element::Type_t type) {
        return std::ranges::all_of(consumers, [&](const ov::Input<ov::Node>& use) {
            return is(*use.get_node(), "Convert") && use.get_node()->get_output_element_type(0) == type;
        });
    };
    const bool to_integers = out_low == -128 && out_high == 127 && !consumers.empty() && wants(ov::element::i8);
    const bool to_unsigned = out_low == 0 && out_high == 255 && !consumers.empty() && wants(ov::element::u8);

    const auto in_grid = grid_of(in_low, in_high), out_grid = grid_of(out_low, out_high);
    if (to_integers || to_unsigned) {
        if (!in_grid) return arithmetic_fake_quantize(context, node, levels);
        const std::string y = g.add("QuantizeLinear", {context.in(node, 0), g.real(in_grid->scale), zero_point(g, in_grid->zero, to_integers)});
        for (const ov::Input<ov::Node>& use : consumers) {
            context.set(*use.get_node(), 0, y);
            context.mark_done(*use.get_node());
        }
        return context.set(node, 0, context.cast(y, to_integers ? ov::element::i8 : ov::element::u8, ov::element::f32));
    }
    if (!out_grid || (!in_grid && !from_integers && !from_unsigned)) return arithmetic_fake_quantize(context, node, levels);
    std::string y;
    bool is_signed = false;
    if (from_integers || from_unsigned) {
        y = context.in(producer, 0);
        is_signed = from_integers;
    } else {
        // A clamp becomes one of the integers, so that what is before it can be joined with the quantisation.
        const auto clamped = clamped_levels(producer, *in_grid);
        const std::string x = clamped ? context.in(producer, 0) : context.in(node, 0);
        y = g.add("QuantizeLinear", {x, g.real(in_grid->scale), zero_point(g, in_grid->zero, false)});
        if (clamped && (clamped->low > 0 || clamped->high < 255)) {
            y = g.add("Clip", {y, zero_point(g, clamped->low, false), zero_point(g, clamped->high, false)});
        }
    }
    y = g.add("DequantizeLinear", {y, g.real(out_grid->scale), zero_point(g, out_grid->zero, is_signed)});
    if (is_signed) {
        // On x86 the integer kernels take unsigned activations: the engine would change the others to them.
        y = g.add("QuantizeLinear", {y, g.real(out_grid->scale), zero_point(g, out_grid->zero, false)});
        y = g.add("DequantizeLinear", {y, g.real(out_grid->scale), zero_point(g, out_grid->zero, false)});
    }
    context.scales[{&node, 0}] = out_grid->scale;
    context.set(node, 0, y);
}

}  // namespace

ov::Output<ov::Node> without_padding(const Context& context, const ov::Output<ov::Node>& input, std::vector<std::int64_t>& begin,
                                     std::vector<std::int64_t>& end) {
    const ov::Node* pad = input.get_node();
    if (const auto bounds = bounds_of(context, *pad)) {
        if (!grid_of((*bounds)[0], (*bounds)[1]) || (*bounds)[0] != (*bounds)[2] || (*bounds)[1] != (*bounds)[3]) return input;
        pad = pad->get_input_node_ptr(0);
        if (!is(*pad, "Pad") || bounds_of(context, *pad->get_input_node_ptr(0)) != bounds) return input;
    }
    if (!is(*pad, "Pad") || NodeAttributes(*pad).text("pad_mode", "constant") != "constant") return input;
    const auto first = context.constant_ints(*pad, 1), last = context.constant_ints(*pad, 2);
    const auto value = pad->get_input_size() > 3 ? context.constant_reals(*pad, 3) : std::vector<float>{0.0F};
    if (!first || !last || !value || value->size() != 1 || value->front() != 0.0F || first->size() != begin.size() + 2) return input;
    for (const auto* sizes : {&*first, &*last}) {
        if ((*sizes)[0] != 0 || (*sizes)[1] != 0 || std::ranges::any_of(*sizes, [](std::int64_t size) { return size < 0; })) return input;
    }
    for (std::size_t i = 0; i < begin.size(); ++i) {
        begin[i] += (*first)[i + 2];
        end[i] += (*last)[i + 2];
    }
    return pad->input_value(0);
}

void add_quantization_handlers(HandlerTable& table) { table["FakeQuantize"] = fake_quantize; }

}  // namespace ai_vmm::ort
