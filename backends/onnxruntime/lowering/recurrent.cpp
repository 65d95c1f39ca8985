// SPDX-License-Identifier: Apache-2.0
// LSTM, GRU and RNN, as sequences and as single cells. OpenVINO puts the batch first and keeps its own order of gates; ONNX has time first
// (its batch-first layout has no kernel).
#include <algorithm>

#include "context.hpp"

namespace ai_vmm::ort {
namespace {

using Ints = std::vector<std::int64_t>;
using ov::element::Type;

struct Kind {
    const char* onnx;
    std::vector<int> gates;                        ///< OpenVINO's position of each of ONNX's gates
    std::vector<std::string> default_activations;  ///< of one direction
    bool cell_state;
};
const Kind kLstm{"LSTM", {1, 3, 0, 2}, {"sigmoid", "tanh", "tanh"}, true};  // f, i, c, o to i, o, f, c
const Kind kGru{"GRU", {0, 1, 2}, {"sigmoid", "tanh"}, false};
const Kind kRnn{"RNN", {0}, {"tanh"}, false};

std::string onnx_activation(const ov::Node& node, const std::string& name) {
    static const std::pair<const char*, const char*> kNames[] = {{"sigmoid", "Sigmoid"},     {"tanh", "Tanh"},
                                                                 {"relu", "Relu"},           {"elu", "Elu"},
                                                                 {"softsign", "Softsign"},   {"hardsigmoid", "HardSigmoid"},
                                                                 {"affine", "Affine"},       {"thresholdedrelu", "ThresholdedRelu"},
                                                                 {"leakyrelu", "LeakyRelu"}, {"scaledtanh", "ScaledTanh"}};
    for (const auto& [openvino, onnx] : kNames) {
        if (name == openvino) return onnx;
    }
    refuse(node, "activation " + name);
}

std::string reordered(OnnxGraph& g, const std::string& weights, const std::vector<int>& gates) {
    if (std::ranges::is_sorted(gates)) return weights;
    const auto parts = g.add_many("Split", {weights}, gates.size(), {{"axis", 1}, {"num_outputs", static_cast<int>(gates.size())}});
    std::vector<std::string> ordered;
    for (const int gate : gates) ordered.push_back(parts[static_cast<std::size_t>(gate)]);
    return g.add("Concat", ordered, {{"axis", 1}});
}

void recurrent(Context& context, const ov::Node& node, const Kind& kind, bool sequence) {
    OnnxGraph& g = context.graph;
    const NodeAttributes attributes(node);
    const std::string version = node.get_type_info().version_id;
    if (kind.cell_state && version == "opset1") refuse(node, "the version with peepholes");
    const Type type = carrier(node.get_input_element_type(0), {ov::element::f32});
    const std::size_t states = kind.cell_state ? 2 : 1;
    const std::size_t weights_at = 1 + states + (sequence ? 1 : 0);
    const std::string direction = attributes.text("direction", "forward");
    const std::int64_t directions = direction == "bidirectional" ? 2 : 1;
    const std::int64_t hidden = attributes.integer("hidden_size");
    const bool before_reset = attributes.flag("linear_before_reset");

    // Cells get an axis for their one step, and one for their one direction.
    const auto with_direction = [&](std::size_t index) {
        const std::string name = context.in_as(node, index, type);
        return sequence ? name : g.add("Unsqueeze", {name, g.ints({0})});
    };
    std::string x = context.in_as(node, 0, type);
    x = sequence ? g.add("Transpose", {x}, {{"perm", Ints{1, 0, 2}}}) : g.add("Unsqueeze", {x, g.ints({0})});
    std::vector<std::string> initial;
    for (std::size_t i = 0; i < states; ++i) {
        const std::string state = with_direction(1 + i);
        initial.push_back(sequence ? g.add("Transpose", {state}, {{"perm", Ints{1, 0, 2}}}) : state);
    }
    const std::string w = reordered(g, with_direction(weights_at), kind.gates), r = reordered(g, with_direction(weights_at + 1), kind.gates);
    std::string b;
    if (context.has_input(node, weights_at + 2)) {
        // ONNX has two biases, of the input and of the state; OpenVINO their sum, but for the last gate of linear_before_reset.
        const std::string bias = with_direction(weights_at + 2);
        const auto gates = static_cast<std::int64_t>(kind.gates.size());
        const auto zeros = [&](std::int64_t count) {
            const std::vector<float> values(static_cast<std::size_t>(directions * count), 0.0F);
            return g.initializer(OnnxType::f32, {directions, count}, {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float)});
        };
        if (before_reset) {
            const auto parts = g.add_many("Split", {bias, g.ints({3 * hidden, hidden})}, 2, {{"axis", 1}});
            b = g.add("Concat", {parts[0], zeros(2 * hidden), parts[1]}, {{"axis", 1}});
        } else {
            b = g.add("Concat", {reordered(g, bias, kind.gates), zeros(gates * hidden)}, {{"axis", 1}});
        }
    }
    std::string lengths;
    if (sequence) {
        const std::size_t at = 1 + states;
        const auto constant = context.constant_ints(node, at);
        const ov::PartialShape& shape = node.get_input_partial_shape(0);
        const bool full = constant && shape.rank().is_static() && shape[1].is_static() &&
                          std::ranges::all_of(*constant, [&](std::int64_t length) { return length == shape[1].get_length(); });
        if (!full) lengths = context.in_as(node, at, ov::element::i32);
    }

    OnnxAttributes result{{"hidden_size", hidden}, {"direction", direction}};
    std::vector<std::string> activations = attributes.texts("activations");
    for (std::string& name : activations)
        std::ranges::transform(name, name.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    if (activations.empty()) activations = kind.default_activations;
    if (activations != kind.default_activations) {
        std::vector<std::string> names;
        for (std::int64_t i = 0; i < directions; ++i) {
            for (const std::string& name : activations) names.push_back(onnx_activation(node, name));
        }
        result.emplace_back("activations", names);
        for (const auto& [openvino, onnx] : {std::pair{"activations_alpha", "activation_alpha"}, std::pair{"activations_beta", "activation_beta"}}) {
            if (!attributes.reals(openvino).empty()) refuse(node, "activations with parameters");
            (void)onnx;
        }
    }
    if (attributes.real("clip") > 0) result.emplace_back("clip", static_cast<float>(attributes.real("clip")));
    if (before_reset) result.emplace_back("linear_before_reset", 1);
    std::vector<std::string> inputs{x, w, r, b, lengths};
    inputs.insert(inputs.end(), initial.begin(), initial.end());
    const auto names = g.add_many(kind.onnx, std::move(inputs), 1 + states, std::move(result));
    if (!sequence) {
        for (std::size_t i = 0; i < states; ++i) context.set_from(node, i, g.add("Squeeze", {names[1 + i], g.ints({0})}), type);
        return;
    }
    context.set_from(node, 0, g.add("Transpose", {names[0]}, {{"perm", Ints{2, 1, 0, 3}}}), type);  // [s, d, b, h] to [b, d, s, h]
    for (std::size_t i = 0; i < states; ++i) context.set_from(node, 1 + i, g.add("Transpose", {names[1 + i]}, {{"perm", Ints{1, 0, 2}}}), type);
}

}  // namespace

void add_recurrent_handlers(HandlerTable& table) {
    table["LSTMSequence"] = [](Context& c, const ov::Node& n) { recurrent(c, n, kLstm, true); };
    table["GRUSequence"] = [](Context& c, const ov::Node& n) { recurrent(c, n, kGru, true); };
    table["RNNSequence"] = [](Context& c, const ov::Node& n) { recurrent(c, n, kRnn, true); };
    table["LSTMCell"] = [](Context& c, const ov::Node& n) { recurrent(c, n, kLstm, false); };
    table["GRUCell"] = [](Context& c, const ov::Node& n) { recurrent(c, n, kGru, false); };
    table["RNNCell"] = [](Context& c, const ov::Node& n) { recurrent(c, n, kRnn, false); };
}

}  // namespace ai_vmm::ort
