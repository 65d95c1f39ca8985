// SPDX-License-Identifier: Apache-2.0
#include "graph/formats/tflite_lstm.hpp"

#include <openvino/core/model.hpp>
#include <openvino/frontend/tensorflow_lite/extension/conversion.hpp>
#include <openvino/opsets/opset8.hpp>

namespace ai_vmm::graph {
namespace {

namespace op = ov::opset8;
using Value = ov::Output<ov::Node>;

std::shared_ptr<op::Constant> integers(const std::vector<std::int64_t>& values) {
    return op::Constant::create(ov::element::i64, {values.size()}, values);
}
std::shared_ptr<op::Constant> integer(std::int64_t value) { return op::Constant::create(ov::element::i64, {}, {value}); }

Value swap_batch_and_time(const Value& value) { return std::make_shared<op::Transpose>(value, integers({1, 0, 2})); }

/// What the input, forget, cell and output gate have, one after the other in OpenVINO's order: forget, input, cell, output.
Value joined(const ov::frontend::NodeContext& node, int first) {
    return std::make_shared<op::Concat>(
        ov::OutputVector{node.get_input(first + 1), node.get_input(first), node.get_input(first + 2), node.get_input(first + 3)}, 0);
}

/// An LSTM over data [batch, time, features], its weights joined.
struct Lstm {
    Value data, weights, recurrent, bias, batch, length;
    std::int64_t hidden;
};

Value zeros(const ov::OutputVector& dimensions) {
    return std::make_shared<op::Broadcast>(op::Constant::create(ov::element::f32, {}, {0.0F}), std::make_shared<op::Concat>(dimensions, 0));
}

/// [batch, time, hidden]
Value sequence(const Lstm& lstm) {
    const auto directed = [](const Value& value) { return std::make_shared<op::Unsqueeze>(value, integers({0})); };
    const Value state = zeros({lstm.batch, integers({1, lstm.hidden})});
    const auto all =
        std::make_shared<op::LSTMSequence>(lstm.data, state, state, std::make_shared<op::Broadcast>(lstm.length, lstm.batch), directed(lstm.weights),
                                           directed(lstm.recurrent), directed(lstm.bias), lstm.hidden, ov::op::RecurrentSequenceDirection::FORWARD);
    return std::make_shared<op::Squeeze>(all->output(0), integers({1}));
}

/// The same step by step, each cell bounded: [batch, time, hidden]
Value bounded_sequence(const Lstm& lstm, float clip) {
    // What the data adds to the gates needs no loop.
    const Value gates = std::make_shared<op::Add>(std::make_shared<op::MatMul>(lstm.data, lstm.weights, false, true), lstm.bias);
    const auto step = std::make_shared<op::Parameter>(ov::element::f32, ov::PartialShape{-1, 1, 4 * lstm.hidden});
    const auto state = std::make_shared<op::Parameter>(ov::element::f32, ov::PartialShape{-1, lstm.hidden});
    const auto cell = std::make_shared<op::Parameter>(ov::element::f32, ov::PartialShape{-1, lstm.hidden});
    const auto recurrent = std::make_shared<op::Parameter>(ov::element::f32, lstm.recurrent.get_partial_shape());
    const auto sum =
        std::make_shared<op::Add>(std::make_shared<op::Squeeze>(step, integers({1})), std::make_shared<op::MatMul>(state, recurrent, false, true));
    const auto parts = std::make_shared<op::Split>(sum, integer(1), 4);
    const auto kept = std::make_shared<op::Multiply>(std::make_shared<op::Sigmoid>(parts->output(0)), cell);
    const auto added = std::make_shared<op::Multiply>(std::make_shared<op::Sigmoid>(parts->output(1)), std::make_shared<op::Tanh>(parts->output(2)));
    const auto next_cell = std::make_shared<op::Clamp>(std::make_shared<op::Add>(kept, added), -clip, clip);
    const auto next_state = std::make_shared<op::Multiply>(std::make_shared<op::Sigmoid>(parts->output(3)), std::make_shared<op::Tanh>(next_cell));
    const auto row = std::make_shared<op::Unsqueeze>(next_state, integers({1}));
    const ov::ResultVector results{std::make_shared<op::Result>(next_state), std::make_shared<op::Result>(next_cell),
                                   std::make_shared<op::Result>(row)};
    const auto body = std::make_shared<ov::Model>(results, ov::ParameterVector{step, state, cell, recurrent});

    const auto loop = std::make_shared<op::TensorIterator>();
    loop->set_function(body);
    loop->set_sliced_input(step, gates, 0, 1, 1, -1, 1);
    const Value start = zeros({lstm.batch, integers({lstm.hidden})});
    loop->set_merged_input(state, start, results[0]);
    loop->set_merged_input(cell, start, results[1]);
    loop->set_invariant_input(recurrent, lstm.recurrent);
    return loop->get_concatenated_slices(results[2], 0, 1, 1, -1, 1);
}

ov::OutputVector convert(const ov::frontend::NodeContext& node, bool time_major, float clip) {
    constexpr std::size_t kInputs = 13;  // data, four input weights, four recurrent weights, four biases
    FRONT_END_GENERAL_CHECK(node.get_input_size() == kInputs, "an LSTM with ", node.get_input_size(), " inputs rather than ", kInputs);
    const ov::PartialShape recurrent = node.get_input(5).get_partial_shape();
    FRONT_END_GENERAL_CHECK(recurrent.is_static() && recurrent.size() == 2 && recurrent[0] == recurrent[1], "an LSTM with recurrent weights ",
                            recurrent);
    Lstm lstm{.data = time_major ? swap_batch_and_time(node.get_input(0)) : node.get_input(0),
              .weights = joined(node, 1),
              .recurrent = joined(node, 5),
              .bias = joined(node, 9),
              .batch = {},
              .length = {},
              .hidden = recurrent[0].get_length()};
    const auto shape = std::make_shared<op::ShapeOf>(lstm.data);
    lstm.batch = std::make_shared<op::Gather>(shape, integers({0}), integer(0));
    lstm.length = std::make_shared<op::Gather>(shape, integers({1}), integer(0));
    // A cell grows by less than 1 a step.
    const ov::Dimension length = lstm.data.get_partial_shape()[1];
    const bool within = clip <= 0 || (length.is_static() && static_cast<float>(length.get_length()) <= clip);
    const Value output = within ? sequence(lstm) : bounded_sequence(lstm, clip);
    return {time_major ? swap_batch_and_time(output) : output};
}

}  // namespace

std::shared_ptr<ov::Extension> convert_tflite_lstm(bool time_major, float cell_clip) {
    return std::make_shared<ov::frontend::tensorflow_lite::ConversionExtension>(
        "UNIDIRECTIONAL_SEQUENCE_LSTM", [=](const ov::frontend::NodeContext& node) { return convert(node, time_major, cell_clip); });
}

}  // namespace ai_vmm::graph
