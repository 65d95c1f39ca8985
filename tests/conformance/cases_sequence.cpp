// SPDX-License-Identifier: Apache-2.0
/// Recurrent cells and sequences, branches and loops.
#include <cmath>

#include "cases.hpp"
#include "openvino/opsets/opset15.hpp"
#include "reference.hpp"

namespace ai_vmm::conformance {
namespace {

namespace op = ov::opset15;

constexpr std::int64_t kBatch = 2;
constexpr std::int64_t kSteps = 5;
constexpr std::int64_t kInput = 4;
constexpr std::int64_t kHidden = 3;

Array weights(std::int64_t gates, std::int64_t columns, std::uint32_t seed) { return spread({gates * kHidden, columns}, -0.7, 0.7, seed); }
Array bias(std::int64_t gates) { return spread({gates * kHidden}, -0.5, 0.5, 9); }
Array stacked(const Array& a) {
    Shape shape = a.shape;
    shape.insert(shape.begin(), 1);
    return reference::reshape(a, shape);
}

void add_cells(Tests& tests) {
    add_case(tests, "recurrent",
             {.name = "lstm_cell",
              .feeds = {{ElementType::f32, spread({kBatch, kInput}, -1, 1)},
                        {ElementType::f32, spread({kBatch, kHidden}, -1, 1, 2)},
                        {ElementType::f32, spread({kBatch, kHidden}, -1, 1, 3)}},
              .graph =
                  [](const ov::OutputVector& in) {
                      return one<op::LSTMCell>(in[0], in[1], in[2], constant(weights(4, kInput, 4)), constant(weights(4, kHidden, 5)),
                                               constant(bias(4)), std::size_t{kHidden});
                  },
              .expected =
                  [](const std::vector<Array>& in) {
                      return reference::lstm_cell(in[0], in[1], in[2], weights(4, kInput, 4), weights(4, kHidden, 5), bias(4));
                  },
              .slack = 2});
    add_case(tests, "recurrent",
             {.name = "gru_cell",
              .feeds = {{ElementType::f32, spread({kBatch, kInput}, -1, 1)}, {ElementType::f32, spread({kBatch, kHidden}, -1, 1, 2)}},
              .graph =
                  [](const ov::OutputVector& in) {
                      return one<op::GRUCell>(in[0], in[1], constant(weights(3, kInput, 4)), constant(weights(3, kHidden, 5)), constant(bias(3)),
                                              std::size_t{kHidden});
                  },
              .expected =
                  [](const std::vector<Array>& in) {
                      return std::vector{reference::gru_cell(in[0], in[1], weights(3, kInput, 4), weights(3, kHidden, 5), bias(3))};
                  },
              .slack = 2});
}

/// Runs `step` over x [batch, steps, input]; rows shorter than the sequence stop early and give zeros.
struct Unrolled {
    std::vector<Array> outputs;  // per step, [batch, hidden]
    Array hidden;
    Array cell;
};

template <typename Step>
Unrolled unroll(const Array& x, Array hidden, Array cell, const std::vector<std::int64_t>& lengths, Step step) {
    Unrolled result;
    for (std::int64_t t = 0; t < kSteps; ++t) {
        const Array now = reference::reshape(reference::slice(x, 1, t, 1), {kBatch, kInput});
        const auto [next_hidden, next_cell] = step(now, hidden, cell);
        Array out(Shape{kBatch, kHidden});
        for (std::size_t i = 0; i < out.size(); ++i) {
            if (t >= lengths[i / kHidden]) continue;
            hidden[i] = out[i] = next_hidden[i];
            if (cell.size() > 0) cell[i] = next_cell[i];
        }
        result.outputs.push_back(reference::reshape(out, {kBatch, 1, 1, kHidden}));
    }
    result.hidden = reference::reshape(hidden, {kBatch, 1, kHidden});
    if (cell.size() > 0) result.cell = reference::reshape(cell, {kBatch, 1, kHidden});
    return result;
}

void add_sequences(Tests& tests) {
    for (const std::vector<std::int64_t>& lengths : {std::vector<std::int64_t>{kSteps, kSteps}, {kSteps, 2}}) {
        const std::string suffix = lengths[1] == kSteps ? "" : "_ragged";
        add_case(tests, "recurrent",
                 {.name = "lstm_sequence" + suffix,
                  .feeds = {{ElementType::f32, spread({kBatch, kSteps, kInput}, -1, 1)},
                            {ElementType::f32, spread({kBatch, 1, kHidden}, -1, 1, 2)},
                            {ElementType::f32, spread({kBatch, 1, kHidden}, -1, 1, 3)}},
                  .graph =
                      [=](const ov::OutputVector& in) {
                          return one<op::LSTMSequence>(in[0], in[1], in[2], list(lengths), constant(stacked(weights(4, kInput, 4))),
                                                       constant(stacked(weights(4, kHidden, 5))), constant(stacked(bias(4))), kHidden,
                                                       ov::op::RecurrentSequenceDirection::FORWARD);
                      },
                  .expected =
                      [=](const std::vector<Array>& in) {
                          const auto step = [](const Array& x, const Array& h, const Array& c) {
                              auto both = reference::lstm_cell(x, h, c, weights(4, kInput, 4), weights(4, kHidden, 5), bias(4));
                              return std::pair{both[0], both[1]};
                          };
                          const auto flat = [](const Array& a) { return reference::reshape(a, {kBatch, kHidden}); };
                          const Unrolled all = unroll(in[0], flat(in[1]), flat(in[2]), lengths, step);
                          return std::vector{reference::concat(all.outputs, 2), all.hidden, all.cell};
                      },
                  .slack = 4});
        add_case(tests, "recurrent",
                 {.name = "gru_sequence" + suffix,
                  .feeds = {{ElementType::f32, spread({kBatch, kSteps, kInput}, -1, 1)}, {ElementType::f32, spread({kBatch, 1, kHidden}, -1, 1, 2)}},
                  .graph =
                      [=](const ov::OutputVector& in) {
                          return one<op::GRUSequence>(in[0], in[1], list(lengths), constant(stacked(weights(3, kInput, 4))),
                                                      constant(stacked(weights(3, kHidden, 5))), constant(stacked(bias(3))), std::size_t{kHidden},
                                                      ov::op::RecurrentSequenceDirection::FORWARD);
                      },
                  .expected =
                      [=](const std::vector<Array>& in) {
                          const auto step = [](const Array& x, const Array& h, const Array&) {
                              return std::pair{reference::gru_cell(x, h, weights(3, kInput, 4), weights(3, kHidden, 5), bias(3)), Array()};
                          };
                          const Unrolled all = unroll(in[0], reference::reshape(in[1], {kBatch, kHidden}), Array(Shape{0}), lengths, step);
                          return std::vector{reference::concat(all.outputs, 2), all.hidden};
                      },
                  .slack = 4});
    }
}

void add_control_flow(Tests& tests) {
    for (const bool condition : {true, false}) {
        add_case(tests, "control",
                 {.name = condition ? "if_true" : "if_false",
                  .feeds = {{ElementType::boolean, Array({}, {condition ? 1.0 : 0.0})}, {ElementType::f32, spread({2, 3}, -1, 1)}},
                  .graph =
                      [](const ov::OutputVector& in) {
                          const auto body = [&](double factor) {
                              const auto x = std::make_shared<op::Parameter>(ov::element::f32, ov::PartialShape{2, 3});
                              const auto y = std::make_shared<op::Multiply>(x, constant(Array({}, {factor})));
                              return std::pair{x, std::make_shared<op::Result>(y)};
                          };
                          const auto [then_x, then_y] = body(2);
                          const auto [else_x, else_y] = body(-3);
                          const auto branch = std::make_shared<op::If>(in[0]);
                          branch->set_then_body(std::make_shared<ov::Model>(ov::ResultVector{then_y}, ov::ParameterVector{then_x}));
                          branch->set_else_body(std::make_shared<ov::Model>(ov::ResultVector{else_y}, ov::ParameterVector{else_x}));
                          branch->set_input(in[1], then_x, else_x);
                          return ov::OutputVector{branch->set_output(then_y, else_y)};
                      },
                  .expected =
                      [=](const std::vector<Array>& in) {
                          return std::vector{reference::map(in[1], [=](double x) { return x * (condition ? 2 : -3); })};
                      }});
    }
    for (const std::int64_t trips : {0, 1, 7}) {
        add_case(tests, "control",
                 {.name = "loop_" + std::to_string(trips) + "_trips",
                  .feeds = {{ElementType::i64, Array({}, {static_cast<double>(trips)})}, {ElementType::f32, spread({2, 3}, -1, 1)}},
                  .graph =
                      [](const ov::OutputVector& in) {
                          const auto x = std::make_shared<op::Parameter>(ov::element::f32, ov::PartialShape{2, 3});
                          const auto next = std::make_shared<op::Add>(x, constant(Array({}, {0.5})));
                          const auto go_on = op::Constant::create(ov::element::boolean, ov::Shape{}, {true});
                          const auto body = std::make_shared<ov::Model>(ov::OutputVector{go_on, next}, ov::ParameterVector{x});
                          const auto loop = std::make_shared<op::Loop>(in[0], op::Constant::create(ov::element::boolean, ov::Shape{}, {true}));
                          loop->set_function(body);
                          loop->set_special_body_ports({-1, 0});
                          loop->set_merged_input(x, in[1], next);
                          return ov::OutputVector{loop->get_iter_value(next, -1)};
                      },
                  .expected =
                      [=](const std::vector<Array>& in) {
                          return std::vector{reference::map(in[1], [=](double v) { return v + 0.5 * static_cast<double>(trips); })};
                      }});
    }
    add_case(tests, "control",
             {.name = "loop_until_condition",
              .feeds = {{ElementType::f32, Array({1}, {1})}},
              .graph =
                  [](const ov::OutputVector& in) {
                      const auto x = std::make_shared<op::Parameter>(ov::element::f32, ov::PartialShape{1});
                      const auto next = std::make_shared<op::Multiply>(x, constant(Array({}, {2})));
                      const auto below = std::make_shared<op::Squeeze>(std::make_shared<op::Less>(next, constant(Array({}, {100}))), list({0}));
                      const auto body = std::make_shared<ov::Model>(ov::OutputVector{below, next}, ov::ParameterVector{x});
                      const auto loop = std::make_shared<op::Loop>(number(-1), op::Constant::create(ov::element::boolean, ov::Shape{}, {true}));
                      loop->set_function(body);
                      loop->set_special_body_ports({-1, 0});
                      loop->set_merged_input(x, in[0], next);
                      return ov::OutputVector{loop->get_iter_value(next, -1)};
                  },
              .expected = [](const std::vector<Array>&) { return std::vector{Array({1}, {128})}; }});
    add_case(tests, "control",
             {.name = "tensor_iterator",
              .feeds = {{ElementType::f32, spread({2, 4, 3}, -1, 1)}},
              .graph =
                  [](const ov::OutputVector& in) {
                      const auto x = std::make_shared<op::Parameter>(ov::element::f32, ov::PartialShape{2, 1, 3});
                      const auto doubled = std::make_shared<op::Multiply>(x, constant(Array({}, {2})));
                      const auto body = std::make_shared<ov::Model>(ov::OutputVector{doubled}, ov::ParameterVector{x});
                      const auto iterator = std::make_shared<op::TensorIterator>();
                      iterator->set_function(body);
                      iterator->set_sliced_input(x, in[0], 0, 1, 1, -1, 1);
                      return ov::OutputVector{iterator->get_concatenated_slices(doubled, 0, 1, 1, -1, 1)};
                  },
              .expected = [](const std::vector<Array>& in) { return std::vector{reference::map(in[0], [](double v) { return v * 2; })}; }});
}

}  // namespace

void add_sequence_tests(Tests& tests) {
    add_cells(tests);
    add_sequences(tests);
    add_control_flow(tests);
}

}  // namespace ai_vmm::conformance
