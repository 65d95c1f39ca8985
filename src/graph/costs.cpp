// SPDX-License-Identifier: Apache-2.0
#include "graph/costs.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <openvino/core/model.hpp>
#include <openvino/op/constant.hpp>
#include <openvino/op/einsum.hpp>
#include <openvino/op/gru_cell.hpp>
#include <openvino/op/gru_sequence.hpp>
#include <openvino/op/if.hpp>
#include <openvino/op/interpolate.hpp>
#include <openvino/op/loop.hpp>
#include <openvino/op/matmul.hpp>
#include <openvino/op/tensor_iterator.hpp>
#include <openvino/op/util/avg_pool_base.hpp>
#include <openvino/op/util/max_pool_base.hpp>
#include <openvino/op/util/rnn_cell_base.hpp>
#include <string_view>
#include <unordered_map>

#include "graph/weights.hpp"

namespace ai_vmm::graph {
namespace {

double dimension(const ov::Dimension& value) {
    return static_cast<double>(value.is_static() ? value.get_length() : std::max<std::int64_t>(1, value.get_min_length()));
}

/// Dimension `index` (from the end if negative) of an input; 1 where there is none.
double input_dimension(const ov::Node& node, std::size_t input, std::int64_t index) {
    if (input >= node.get_input_size()) return 1;
    const ov::PartialShape& shape = node.get_input_partial_shape(input);
    if (shape.rank().is_dynamic()) return 1;
    const std::int64_t rank = shape.rank().get_length();
    if (index < 0) index += rank;
    return index >= 0 && index < rank ? dimension(shape[static_cast<std::size_t>(index)]) : 1;
}

double input_elements(const ov::Node& node, std::size_t input) {
    return input < node.get_input_size() ? elements_of(node.get_input_partial_shape(input)) : 0;
}
double output_elements(const ov::Node& node) { return node.get_output_size() > 0 ? elements_of(node.get_output_partial_shape(0)) : 0; }

/// Elements of input `input` from dimension `from` on.
double tail_elements(const ov::Node& node, std::size_t input, std::size_t from) {
    const ov::PartialShape& shape = node.get_input_partial_shape(input);
    if (shape.rank().is_dynamic()) return 1;
    double product = 1;
    for (std::size_t i = from; i < static_cast<std::size_t>(shape.rank().get_length()); ++i) product *= dimension(shape[i]);
    return product;
}

// ---- formulas; weights of Convolution are [C_out, C_in, k...], of GroupConvolution [G, C_out/G, C_in/G, k...]

double convolution(const ov::Node& node) { return 2 * output_elements(node) * tail_elements(node, 1, 1); }
double group_convolution(const ov::Node& node) { return 2 * output_elements(node) * tail_elements(node, 1, 2); }
// Backward data: weights are [C_in, C_out, k...] and [G, C_in/G, C_out/G, k...]; every input element meets a kernel.
double convolution_backprop(const ov::Node& node) { return 2 * input_elements(node, 0) * tail_elements(node, 1, 1); }
double group_convolution_backprop(const ov::Node& node) { return 2 * input_elements(node, 0) * tail_elements(node, 1, 2); }
// Inputs: data, offsets, filter. Each filter tap is sampled bilinearly (7 operations) before it is multiplied.
double deformable_convolution(const ov::Node& node) {
    const double taps = input_dimension(node, 2, 1) * tail_elements(node, 2, 2);
    const double outputs_per_channel = output_elements(node) / std::max(1.0, input_dimension(node, 2, 0));
    return 2 * output_elements(node) * taps + 7 * outputs_per_channel * taps;
}

double matmul(const ov::Node& node) {
    const auto* op = ov::as_type<const ov::op::v0::MatMul>(&node);
    const bool transposed = op && op->get_transpose_a();
    const ov::PartialShape& a = node.get_input_partial_shape(0);
    const bool vector = a.rank().is_static() && a.rank().get_length() == 1;
    return 2 * output_elements(node) * input_dimension(node, 0, transposed && !vector ? -2 : -1);
}

double einsum(const ov::Node& node) {
    const auto* op = ov::as_type<const ov::op::v7::Einsum>(&node);
    if (!op) return 0;
    // Every label once: the size of the iteration space. One multiplication per further operand and one addition.
    const std::string& equation = op->get_equation();
    std::unordered_map<char, double> labels;
    std::size_t input = 0;
    std::size_t position = 0;
    for (std::size_t i = 0; i < equation.size() && input < node.get_input_size(); ++i) {
        const char c = equation[i];
        if (c == ',') {
            ++input;
            position = 0;
        } else if (c == '-') {
            break;
        } else if (std::isalpha(static_cast<unsigned char>(c))) {
            labels[c] = input_dimension(node, input, static_cast<std::int64_t>(position++));
        } else if (c == '.') {
            return 2 * output_elements(node) * input_dimension(node, 0, -1);  // broadcast batch: taken as a matrix product
        }
    }
    double space = 1;
    for (const auto& [label, size] : labels) space *= size;
    return space * static_cast<double>(std::max<std::size_t>(1, node.get_input_size()));
}

/// `gates` matrix products per step with input and recurrent weights, and `pointwise` operations per hidden element.
double recurrent(const ov::Node& node, bool sequence, double gates, double pointwise) {
    const auto* op = dynamic_cast<const ov::op::util::RNNCellBase*>(&node);
    const double hidden = op ? static_cast<double>(op->get_hidden_size()) : input_dimension(node, 1, -1);
    const double batch = input_dimension(node, 0, 0);
    const double steps = sequence ? input_dimension(node, 0, 1) : 1;
    const double directions = sequence ? input_dimension(node, 1, 1) : 1;  // initial state: [batch, directions, hidden]
    const double width = input_dimension(node, 0, -1);
    return batch * steps * directions * (2 * gates * hidden * (width + hidden) + pointwise * hidden);
}
// LSTM per hidden element: 4 biases, 4 gate functions, 3 for c = f c + i g, tanh, product. GRU: 3 or 4 biases, 3 functions, r h, 4 for the blend.
double lstm(const ov::Node& node, bool sequence) { return recurrent(node, sequence, 4, 13); }
double gru(const ov::Node& node, bool sequence) { return recurrent(node, sequence, 3, 11); }
double rnn(const ov::Node& node, bool sequence) { return recurrent(node, sequence, 1, 2); }

double attention(const ov::Node& node) {
    // query [.., L, E], key [.., S, E], value [.., S, Ev]: two matrix products, softmax, scaling of the query; a mask is one addition.
    const double queries = input_elements(node, 0) / std::max(1.0, input_dimension(node, 0, -1));  // batch, heads and L
    const double keys = input_dimension(node, 1, -2);
    const double width = input_dimension(node, 0, -1);
    const double value_width = input_dimension(node, 2, -1);
    const double mask = node.get_input_size() > 3 ? 1 : 0;
    return queries * (2 * keys * (width + value_width) + keys * (5 + mask) + width);
}

double pooling(const ov::Node& node) {
    double window = 1;
    if (const auto* op = dynamic_cast<const ov::op::util::MaxPoolBase*>(&node)) window = static_cast<double>(ov::shape_size(op->get_kernel()));
    if (const auto* op = dynamic_cast<const ov::op::util::AvgPoolBase*>(&node)) window = static_cast<double>(ov::shape_size(op->get_kernel()));
    return output_elements(node) * window;
}

double interpolate(const ov::Node& node) {
    double per_element = 7;  // bilinear: three linear blends of two operations each, and the weight
    if (const auto* op = dynamic_cast<const ov::op::util::InterpolateBase*>(&node)) {
        using Mode = ov::op::util::InterpolateBase::InterpolateMode;
        switch (op->get_attrs().mode) {
            case Mode::NEAREST: per_element = 0; break;
            case Mode::CUBIC:
            case Mode::BICUBIC_PILLOW: per_element = 2 * 16 + 8; break;
            default: break;
        }
    }
    return per_element * output_elements(node);
}

double fourier(const ov::Node& node) {
    // 5 N log2 N for a complex transform of N points in all (Cooley and Tukey 1965, as FFTW counts); half of it for real data.
    const double n = std::max(input_elements(node, 0), output_elements(node)) / 2;
    const bool real = std::string_view(node.get_type_name()) == "RDFT" || std::string_view(node.get_type_name()) == "IRDFT";
    const double length = std::max(2.0, input_dimension(node, 0, -2));
    return (real ? 2.5 : 5.0) * n * std::log2(length);
}

double short_time_fourier(const ov::Node& node) {
    // Output [.., bins, frames, 2]: each bin of each frame costs about 2.5 log2 of the frame, after the window.
    const double values = output_elements(node) / 2;
    return values * 2 * (2.5 * std::log2(std::max(2.0, input_elements(node, 1))) + 1);
}

enum class Per { output, input };
struct Pointwise {
    Per per;
    double flops;
};

/// Operations per element of the first output or first input. What is not here and has no formula moves data and costs none.
const std::unordered_map<std::string_view, Pointwise>& pointwise_table() {
    static const std::unordered_map<std::string_view, Pointwise> table = [] {
        std::unordered_map<std::string_view, Pointwise> t;
        for (const char* type :
             {"Add",        "Subtract",   "Multiply",   "Divide",    "Power",        "Maximum",    "Minimum",   "Mod",        "FloorMod",
              "Negative",   "Abs",        "Sign",       "Relu",      "PRelu",        "Elu",        "Exp",       "Log",        "Sqrt",
              "Sin",        "Cos",        "Tan",        "Asin",      "Acos",         "Atan",       "Sinh",      "Cosh",       "Tanh",
              "Asinh",      "Acosh",      "Atanh",      "Erf",       "Sigmoid",      "SoftPlus",   "SoftSign",  "Floor",      "Ceiling",
              "Round",      "Equal",      "NotEqual",   "Greater",   "GreaterEqual", "Less",       "LessEqual", "LogicalAnd", "LogicalOr",
              "LogicalNot", "LogicalXor", "BitwiseAnd", "BitwiseOr", "BitwiseXor",   "BitwiseNot", "IsNaN",     "IsInf",      "IsFinite"}) {
            t[type] = {Per::output, 1};
        }
        for (const char* type : {"ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceLogicalAnd", "ReduceLogicalOr",
                                 "CumSum", "TopK", "AdaptiveAvgPool", "AdaptiveMaxPool"}) {
            t[type] = {Per::input, 1};
        }
        t["ReduceL2"] = {Per::input, 2};
        t["SquaredDifference"] = {Per::output, 2};
        t["Clamp"] = {Per::output, 2};
        t["Swish"] = {Per::output, 2};
        t["HSwish"] = {Per::output, 4};
        t["HSigmoid"] = {Per::output, 4};
        t["HardSigmoid"] = {Per::output, 4};
        t["Selu"] = {Per::output, 3};
        t["Mish"] = {Per::output, 4};
        t["Gelu"] = {Per::output, 5};
        t["Softmax"] = {Per::output, 5};     // maximum, difference, exponential, sum, quotient
        t["LogSoftmax"] = {Per::output, 5};  // maximum, difference, exponential, sum, difference
        t["MVN"] = {Per::output, 6};         // mean, difference, square, mean, root, quotient
        t["NormalizeL2"] = {Per::output, 3};
        t["RMS"] = {Per::output, 4};
        t["RMSNorm"] = {Per::output, 4};
        t["GroupNormalization"] = {Per::output, 8};  // as MVN, scale and shift
        t["BatchNormInference"] = {Per::output, 2};  // engines fold the statistics
        t["GRN"] = {Per::output, 3};
        t["LRN"] = {Per::output, 13};          // a window of five, usually
        t["FakeQuantize"] = {Per::output, 7};  // clamp 2, shift, scale, round, scale, shift
        t["FakeConvert"] = {Per::output, 3};
        t["EmbeddingBagOffsetsSum"] = t["EmbeddingBagPackedSum"] = t["EmbeddingSegmentsSum"] = {Per::output, 1};
        t["EmbeddingBagOffsets"] = t["EmbeddingBagPacked"] = {Per::output, 1};
        t["ROIAlign"] = t["ROIAlignRotated"] = {Per::output, 28};  // four bilinear samples
        t["ROIPooling"] = t["PSROIPooling"] = {Per::output, 8};
        t["GridSample"] = {Per::output, 11};
        return t;
    }();
    return table;
}

using Formula = double (*)(const ov::Node&);
const std::unordered_map<std::string_view, Formula>& formula_table() {
    static const std::unordered_map<std::string_view, Formula> table = {
        {"Convolution", convolution},
        {"BinaryConvolution", convolution},
        {"GroupConvolution", group_convolution},
        {"ConvolutionBackpropData", convolution_backprop},
        {"GroupConvolutionBackpropData", group_convolution_backprop},
        {"DeformableConvolution", deformable_convolution},
        {"MatMul", matmul},
        {"Einsum", einsum},
        {"LSTMSequence", [](const ov::Node& n) { return lstm(n, true); }},
        {"LSTMCell", [](const ov::Node& n) { return lstm(n, false); }},
        {"GRUSequence", [](const ov::Node& n) { return gru(n, true); }},
        {"GRUCell", [](const ov::Node& n) { return gru(n, false); }},
        {"AUGRUSequence", [](const ov::Node& n) { return gru(n, true); }},
        {"AUGRUCell", [](const ov::Node& n) { return gru(n, false); }},
        {"RNNSequence", [](const ov::Node& n) { return rnn(n, true); }},
        {"RNNCell", [](const ov::Node& n) { return rnn(n, false); }},
        {"ScaledDotProductAttention", attention},
        {"MaxPool", pooling},
        {"AvgPool", pooling},
        {"Interpolate", interpolate},
        {"DFT", fourier},
        {"IDFT", fourier},
        {"RDFT", fourier},
        {"IRDFT", fourier},
        {"STFT", short_time_fourier},
        {"ISTFT", short_time_fourier},
    };
    return table;
}

/// Reads rows of the data, not all of it.
bool reads_rows(std::string_view type) {
    return type == "Gather" || type == "GatherND" || type == "GatherElements" || type == "EmbeddingBagOffsetsSum" ||
           type == "EmbeddingBagPackedSum" || type == "EmbeddingSegmentsSum" || type == "EmbeddingBagOffsets" || type == "EmbeddingBagPacked" ||
           type == "Slice" || type == "StridedSlice";
}

/// The result is the input's memory under another shape.
bool moves_nothing(std::string_view type) {
    return type == "Reshape" || type == "Squeeze" || type == "Unsqueeze" || type == "ShapeOf" || type == "Result" || type == "Parameter" ||
           type == "Constant";
}

Cost body_cost(const ov::Model& body) {
    const ConstantAnalysis constants(body);
    Cost sum;
    for (const auto& node : body.get_ordered_ops()) {
        const Cost cost = cost_of(*node, constants);
        sum.flops += cost.flops;
        sum.bytes_read += cost.bytes_read;
        sum.bytes_written += cost.bytes_written;
        sum.parameters += cost.parameters;
        sum.parameter_bytes += cost.parameter_bytes;
    }
    return sum;
}

}  // namespace

double elements_of(const ov::PartialShape& shape) {
    if (shape.rank().is_dynamic()) return 1;
    double product = 1;
    for (const ov::Dimension& value : shape) product *= dimension(value);
    return product;
}

double bytes_of(const ov::Node& node, std::size_t output) {
    const ov::element::Type& type = node.get_output_element_type(output);
    if (type.is_dynamic()) return 0;
    return std::ceil(elements_of(node.get_output_partial_shape(output)) * static_cast<double>(type.bitwidth()) / 8);
}

double flops_of(const ov::Node& node) {
    const std::string_view type = node.get_type_name();
    if (const auto formula = formula_table().find(type); formula != formula_table().end()) return formula->second(node);
    if (const auto entry = pointwise_table().find(type); entry != pointwise_table().end()) {
        return entry->second.flops * (entry->second.per == Per::output ? output_elements(node) : input_elements(node, 0));
    }
    return 0;
}

double trip_count(const ov::Node& node, bool& known) {
    const auto* op = dynamic_cast<const ov::op::util::SubGraphOp*>(&node);
    if (!op) return 1;
    // Slices are exact; a Loop's limit comes as a constant; the operation itself knows both once it was inferred.
    std::int64_t trips = op->get_num_iterations();
    if (const auto* loop = ov::as_type<const ov::op::v5::Loop>(&node); loop && trips <= 0) {
        if (const auto* limit = ov::as_type<const ov::op::v0::Constant>(node.get_input_node_ptr(0))) {
            const auto values = limit->cast_vector<std::int64_t>();
            if (!values.empty() && values[0] != std::numeric_limits<std::int64_t>::max()) trips = values[0];
        }
    }
    if (trips < 0) {
        for (const auto& description : op->get_input_descriptions()) {
            const auto slice = ov::as_type_ptr<ov::op::util::MultiSubGraphOp::SliceInputDescription>(description);
            if (!slice) continue;
            const ov::PartialShape& shape = node.get_input_partial_shape(slice->m_input_index);
            if (shape.rank().is_dynamic() || slice->m_axis >= shape.rank().get_length()) continue;
            const ov::Dimension& length = shape[static_cast<std::size_t>(slice->m_axis)];
            if (length.is_static())
                return std::ceil(static_cast<double>(length.get_length()) / std::max<double>(1, static_cast<double>(slice->m_part_size)));
        }
        known = false;
        return 1;
    }
    return static_cast<double>(trips);
}

Cost cost_of(const ov::Node& node, const ConstantAnalysis& constants) {
    Cost cost;
    if (constants.is_constant(&node)) return cost;
    const std::string_view type = node.get_type_name();
    if (moves_nothing(type)) return cost;

    for (std::size_t i = 0; i < node.get_input_size(); ++i) {
        // Ranges of FakeQuantize are not weights.
        if (type == "FakeQuantize" && i > 0) break;
        if (constants.is_constant(node.get_input_node_ptr(i))) {
            const Weights weights = constants.weights(&node, i);
            cost.parameters += static_cast<double>(weights.parameters);
            cost.parameter_bytes += static_cast<double>(weights.bytes);
            if (i == 0 && reads_rows(type)) continue;
            cost.bytes_read += static_cast<double>(weights.bytes);
        } else if (!(i == 0 && reads_rows(type))) {
            const auto source = node.input_value(i);
            cost.bytes_read += bytes_of(*source.get_node(), source.get_index());
        }
    }
    for (std::size_t i = 0; i < node.get_output_size(); ++i) cost.bytes_written += bytes_of(node, i);
    if (reads_rows(type)) cost.bytes_read += cost.bytes_written;

    if (const auto* branch = ov::as_type<const ov::op::v8::If>(&node)) {
        const Cost a = branch->get_then_body() ? body_cost(*branch->get_then_body()) : Cost{};
        const Cost b = branch->get_else_body() ? body_cost(*branch->get_else_body()) : Cost{};
        const Cost& costlier = a.flops >= b.flops ? a : b;
        cost.flops += costlier.flops;
        cost.bytes_read += costlier.bytes_read;
        cost.bytes_written += costlier.bytes_written;
        cost.parameters += a.parameters + b.parameters;
        cost.parameter_bytes += a.parameter_bytes + b.parameter_bytes;
    } else if (const auto* loop = dynamic_cast<const ov::op::util::SubGraphOp*>(&node); loop && loop->get_function()) {
        bool known = true;
        const double trips = trip_count(node, known);
        const Cost body = body_cost(*loop->get_function());
        cost.flops += trips * body.flops;
        cost.bytes_read += trips * body.bytes_read;
        cost.bytes_written += trips * body.bytes_written;
        cost.parameters += body.parameters;
        cost.parameter_bytes += body.parameter_bytes;
    } else {
        cost.flops = flops_of(node);
    }
    return cost;
}

}  // namespace ai_vmm::graph
