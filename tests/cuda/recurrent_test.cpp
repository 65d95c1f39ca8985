// SPDX-License-Identifier: Apache-2.0
/// Recurrent cells and sequences, branches, loops and state, against OpenVINO.
#include <gtest/gtest.h>

#include <cmath>

#include "ai_vmm/error.hpp"
#include "cuda/host_device.hpp"
#include "cuda/trial.hpp"
#include "lower/lower.hpp"
#include "openvino/op/util/variable.hpp"
#include "program/schedule.hpp"

namespace ai_vmm::cuda::test {
namespace {

using namespace ov::op;
using ov::element::boolean;
using ov::element::f16;
using ov::element::f32;
using ov::element::f64;
using ov::element::i32;
using ov::element::i64;
using Direction = RecurrentSequenceDirection;

constexpr std::size_t kBatch = 3, kSteps = 5, kInput = 4, kHidden = 6;

struct Weights {
    ov::Output<ov::Node> w, r, b;
};

/// (gates * hidden, …), with `directions` in front unless it is 0.
Weights weights(Trial& t, const ov::element::Type& type, std::size_t gates, std::size_t biases, std::size_t directions) {
    const auto shape = [&](ov::Shape inner) {
        if (directions != 0) inner.insert(inner.begin(), directions);
        return inner;
    };
    return {t.in(type, shape({gates * kHidden, kInput}), -0.6, 0.6), t.in(type, shape({gates * kHidden, kHidden}), -0.6, 0.6),
            t.in(type, shape({biases * kHidden}), -0.5, 0.5)};
}

TEST(CudaRecurrent, Cells) {
    for (const auto& type : {f32, f16}) {
        Trial t("cells " + type.get_type_name());
        const auto x = t.in(type, {kBatch, kInput}), h = t.in(type, {kBatch, kHidden}, -1, 1), c = t.in(type, {kBatch, kHidden}, -1, 1);
        const Weights lstm = weights(t, type, 4, 4, 0), gru = weights(t, type, 3, 3, 0), reset = weights(t, type, 3, 4, 0),
                      rnn = weights(t, type, 1, 1, 0);
        const double tolerance = type == f16 ? 6e-3 : 1e-5;
        t.compare(make<v4::LSTMCell>(x, h, c, lstm.w, lstm.r, lstm.b, kHidden), tolerance);
        t.compare(make<v4::LSTMCell>(x, h, c, lstm.w, lstm.r, lstm.b, kHidden, std::vector<std::string>{"relu", "sigmoid", "tanh"},
                                     std::vector<float>{}, std::vector<float>{}, 0.7F),
                  tolerance);
        t.compare(make<v3::GRUCell>(x, h, gru.w, gru.r, gru.b, kHidden), tolerance);
        t.compare(make<v3::GRUCell>(x, h, reset.w, reset.r, reset.b, kHidden, std::vector<std::string>{"sigmoid", "relu"}, std::vector<float>{},
                                    std::vector<float>{}, 0.9F, true),
                  tolerance);
        t.compare(make<v0::RNNCell>(x, h, rnn.w, rnn.r, rnn.b, kHidden), tolerance);
        t.compare(
            make<v0::RNNCell>(x, h, rnn.w, rnn.r, rnn.b, kHidden, std::vector<std::string>{"relu"}, std::vector<float>{}, std::vector<float>{}, 0.8F),
            tolerance);
    }
}

double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

TEST(CudaRecurrent, FirstLstmCellHasPeepholesAndCoupledGates) {
    // One sequence, one unit, weights of 1 for x and 0 for h: gates are x plus bias plus peephole times state.
    for (const bool coupled : {false, true}) {
        for (const auto format : {LSTMWeightsFormat::FICO, LSTMWeightsFormat::IOFC}) {
            Trial t("peepholes");
            const auto x = t.given(f64, {1, 1}, std::vector<double>{0.3}), h = t.given(f64, {1, 1}, std::vector<double>{0.9}),
                       c = t.given(f64, {1, 1}, std::vector<double>{-0.4}), w = t.given(f64, {4, 1}, std::vector<double>{1, 1, 1, 1}),
                       r = t.given(f64, {4, 1}, std::vector<double>{0, 0, 0, 0}), p = t.given(f64, {3}, std::vector<double>{0.5, -0.7, 1.1});
            const bool iofc = format == LSTMWeightsFormat::IOFC;
            const std::vector<double> fico{0.1, 0.2, 0.3, 0.4};
            const auto b = t.given(f64, {4}, iofc ? std::vector<double>{0.2, 0.4, 0.1, 0.3} : fico);
            const double f = sigmoid(0.3 + 0.1 + 0.5 * -0.4), i = coupled ? 1 - f : sigmoid(0.3 + 0.2 - 0.7 * -0.4), g = std::tanh(0.3 + 0.3);
            const double state = f * -0.4 + i * g, o = sigmoid(0.3 + 0.4 + 1.1 * state);
            t.expect(make<v0::LSTMCell>(x, h, c, w, r, b, p, std::size_t{1}, format, std::vector<std::string>{"sigmoid", "tanh", "tanh"},
                                        std::vector<float>{}, std::vector<float>{}, 0.F, coupled)
                         ->outputs(),
                     {tensor(f64, {1, 1}, {o * std::tanh(state)}), tensor(f64, {1, 1}, {state})}, 1e-12);
        }
    }
}

void sequences(Direction direction, const ov::element::Type& type, const std::vector<double>& lengths, bool known) {
    Trial t("sequences, direction " + std::to_string(static_cast<int>(direction)) + (known ? ", known lengths " : ", lengths ") +
            std::to_string(lengths[1]));
    const std::size_t directions = direction == Direction::BIDIRECTIONAL ? 2 : 1;
    const double tolerance = type == f16 ? 1e-2 : 1e-5;
    const auto x = t.in(type, {kBatch, kSteps, kInput}), h = t.in(type, {kBatch, directions, kHidden}, -1, 1),
               c = t.in(type, {kBatch, directions, kHidden}, -1, 1);
    const ov::Output<ov::Node> n = known ? Trial::constant(i32, {kBatch}, lengths) : t.given(i64, {kBatch}, lengths);
    const Weights lstm = weights(t, type, 4, 4, directions), gru = weights(t, type, 3, 3, directions), reset = weights(t, type, 3, 4, directions),
                  rnn = weights(t, type, 1, 1, directions);
    const auto hidden = static_cast<std::int64_t>(kHidden);
    t.compare(make<v5::LSTMSequence>(x, h, c, n, lstm.w, lstm.r, lstm.b, hidden, direction), tolerance);
    t.compare(make<v5::GRUSequence>(x, h, n, gru.w, gru.r, gru.b, kHidden, direction), tolerance);
    t.compare(make<v5::GRUSequence>(x, h, n, reset.w, reset.r, reset.b, kHidden, direction, std::vector<std::string>{"sigmoid", "tanh"},
                                    std::vector<float>{}, std::vector<float>{}, 0.F, true),
              tolerance);
    t.compare(make<v5::RNNSequence>(x, h, n, rnn.w, rnn.r, rnn.b, kHidden, direction), tolerance);
}

TEST(CudaRecurrent, SequencesInEveryDirection) {
    for (const auto direction : {Direction::FORWARD, Direction::REVERSE, Direction::BIDIRECTIONAL}) {
        sequences(direction, f32, {5, 5, 5}, true);
        sequences(direction, f32, {5, 5, 5}, false);
        sequences(direction, f32, {5, 2, 1}, true);
        sequences(direction, f32, {3, 4, 2}, false);
        sequences(direction, f16, {5, 5, 5}, true);
    }
}

TEST(CudaRecurrent, EmptySequencesEndInZeros) {
    Trial t("empty sequence");
    const auto x = t.in(f32, {2, 2, 1}), h = t.given(f32, {2, 1, 1}, std::vector<double>{0.5, 0.5});
    const auto n = t.given(i64, {2}, std::vector<double>{0, 1});
    const auto w = t.given(f32, {1, 1, 1}, std::vector<double>{0}), r = t.given(f32, {1, 1, 1}, std::vector<double>{1}),
               b = t.given(f32, {1, 1}, std::vector<double>{0});
    const double y = std::tanh(0.5);
    t.expect(make<v5::RNNSequence>(x, h, n, w, r, b, std::size_t{1}, Direction::FORWARD)->outputs(),
             {tensor(f32, {2, 1, 2, 1}, {0, 0, y, 0}), tensor(f32, {2, 1, 1}, {0, y})});
}

TEST(CudaRecurrent, LongSequencesShareTheirKernels) {
    Trial t("long");
    constexpr std::size_t steps = 300;
    const auto x = t.in(f32, {1, steps, 2}), h = t.in(f32, {1, 2, 3}, -1, 1), n = t.given(i64, {1}, {250});
    const auto w = t.in(f32, {2, 9, 2}, -0.5, 0.5), r = t.in(f32, {2, 9, 3}, -0.5, 0.5), b = t.in(f32, {2, 9}, -0.5, 0.5);
    for (const auto& lengths : {n, Trial::constant(i64, {1}, {steps})}) {
        const auto node = make<v5::GRUSequence>(x, h, lengths, w, r, b, std::size_t{3}, Direction::BIDIRECTIONAL);
        t.compare(node, 1e-5);
        ov::ParameterVector parameters;
        for (const auto& input : {x, h, n, w, r, b}) parameters.push_back(ov::as_type_ptr<v0::Parameter>(input.get_node_shared_ptr()));
        HostDevice device;
        EXPECT_LT(make_schedule(lower(std::make_shared<ov::Model>(node->outputs(), parameters)), device).kernels.size(), 30U);
    }
}

std::shared_ptr<v0::Parameter> parameter(const ov::element::Type& type, const ov::PartialShape& shape) {
    return std::make_shared<v0::Parameter>(type, shape);
}

TEST(CudaControl, BranchesByKnownAndComputedConditions) {
    for (const bool known : {false, true}) {
        for (const bool yes : {false, true}) {
            Trial t("if");
            const auto x = t.in(f32, {2, 3}), y = t.in(f32, {3});
            const auto condition = known ? Trial::constant(boolean, {1}, {yes ? 1. : 0.}) : t.given(boolean, {1}, std::vector<double>{yes ? 1. : 0.});
            const auto a = parameter(f32, {2, 3}), b = parameter(f32, {3}), a2 = parameter(f32, {2, 3}), b2 = parameter(f32, {3});
            const auto sum = std::make_shared<v0::Result>(make<v1::Add>(a, b)), product = std::make_shared<v0::Result>(make<v1::Multiply>(a2, b2));
            const auto op = std::make_shared<v8::If>(condition);
            op->set_then_body(std::make_shared<ov::Model>(ov::ResultVector{sum}, ov::ParameterVector{a, b}));
            op->set_else_body(std::make_shared<ov::Model>(ov::ResultVector{product}, ov::ParameterVector{a2, b2}));
            op->set_input(x, a, a2);
            op->set_input(y, b, b2);
            op->set_output(sum, product);
            op->validate_and_infer_types();
            t.compare(op);
        }
    }
}

TEST(CudaControl, TensorIteratorSlicesCarriesAndCollects) {
    for (const bool backwards : {false, true}) {
        Trial t("tensor iterator");
        const auto x = t.in(f32, {2, 6, 3}), start = t.in(f32, {2, 2, 3}), factor = t.in(f32, {1}, 0.5, 2);
        const auto part = parameter(f32, {2, 2, 3}), carried = parameter(f32, {2, 2, 3}), scale = parameter(f32, {1});
        const auto next = make<v1::Add>(make<v1::Multiply>(part, scale), carried);
        const auto result = std::make_shared<v0::Result>(next);
        const auto op = std::make_shared<v0::TensorIterator>();
        op->set_body(std::make_shared<ov::Model>(ov::ResultVector{result}, ov::ParameterVector{part, carried, scale}));
        op->set_sliced_input(part, x, backwards ? -1 : 0, backwards ? -2 : 2, 2, backwards ? 0 : -1, 1);
        op->set_merged_input(carried, start, result);
        op->set_invariant_input(scale, factor);
        const auto last = op->get_iter_value(result, -1);
        const auto all = op->get_concatenated_slices(result, backwards ? -1 : 0, backwards ? -2 : 2, 2, backwards ? 0 : -1, 1);
        op->validate_and_infer_types();
        t.compare({last, all});
    }
}

/// Doubles the carried value until it passes `limit` or `most` iterations are done, and counts.
ov::OutputVector doubling(const ov::Output<ov::Node>& x, const ov::Output<ov::Node>& most, const ov::Output<ov::Node>& begin,
                          const ov::Output<ov::Node>& limit) {
    const auto value = parameter(f32, {1}), bound = parameter(f32, {1}), number = parameter(i64, {1}), count = parameter(i64, {1});
    const auto twice = make<v1::Add>(value, value);
    const auto r_value = std::make_shared<v0::Result>(twice), r_count = std::make_shared<v0::Result>(make<v1::Add>(number, Trial::ints({1}))),
               r_condition = std::make_shared<v0::Result>(make<v1::Less>(twice, bound));
    const auto op = std::make_shared<v5::Loop>(most, begin);
    op->set_function(std::make_shared<ov::Model>(ov::ResultVector{r_value, r_count, r_condition}, ov::ParameterVector{value, bound, number, count}));
    op->set_special_body_ports({2, 2});
    op->set_merged_input(value, x, r_value);
    op->set_merged_input(count, Trial::ints({0}), r_count);
    op->set_invariant_input(bound, limit);
    const ov::OutputVector outputs{op->get_iter_value(r_value, -1), op->get_iter_value(r_count, -1)};
    op->validate_and_infer_types();
    return outputs;
}

TEST(CudaControl, LoopsEndByComputedConditions) {
    for (const double limit : {1.0, 5.0, 100.0}) {
        for (const bool begin : {false, true}) {
            Trial t("loop");
            const auto x = t.given(f32, {1}, std::vector<double>{0.75}), bound = t.given(f32, {1}, std::vector<double>{limit});
            const auto go = t.given(boolean, {1}, std::vector<double>{begin ? 1. : 0.});
            double value = 0.75, count = 0;
            for (bool on = begin; on && count < 6; on = value < limit) {
                value += value;
                ++count;
            }
            t.expect(doubling(x, Trial::scalar(6), go, bound), {tensor(f32, {1}, {value}), tensor(i64, {1}, {count})});
        }
    }
    Trial t("loop");
    const auto x = t.given(f32, {1}, std::vector<double>{0.75}), bound = t.given(f32, {1}, std::vector<double>{3.});
    EXPECT_THROW((void)t.run(doubling(x, Trial::scalar(-1), Trial::constant(boolean, {}, {1}), bound)), Error);
    // Known from the start: iterations end where they end.
    Trial known("known loop");
    const auto y = Trial::constant(f32, {1}, {0.75});
    known.expect(doubling(y, Trial::scalar(-1), Trial::constant(boolean, {}, {1}), Trial::constant(f32, {1}, {5})),
                 {tensor(f32, {1}, {6}), tensor(i64, {1}, {3})});
}

TEST(CudaControl, LoopsCollectByIterationNumber) {
    Trial t("loop");
    const auto x = t.in(f32, {1, 2});
    const auto table = parameter(f32, {1, 2}), number = parameter(i64, {}), sum = parameter(f32, {1, 2});
    const auto row = make<v1::Multiply>(table, make<v0::Convert>(number, f32));
    const auto next = make<v1::Add>(row, sum);
    const auto r_next = std::make_shared<v0::Result>(next), r_on = std::make_shared<v0::Result>(Trial::constant(boolean, {}, {1}));
    const auto op = std::make_shared<v5::Loop>(Trial::scalar(4), Trial::constant(boolean, {}, {1}));
    op->set_function(std::make_shared<ov::Model>(ov::ResultVector{r_next, r_on}, ov::ParameterVector{table, number, sum}));
    op->set_special_body_ports({1, 1});
    op->set_invariant_input(table, x);
    op->set_merged_input(sum, Trial::constant(f32, {1, 2}, {1, -1}), r_next);
    const auto all = op->get_concatenated_slices(r_next, 0, 1, 1, -1, 0), last = op->get_iter_value(r_next, -1);
    op->validate_and_infer_types();
    t.compare({all, last});
}

TEST(CudaControl, StateStartsAfresh) {
    Trial t("state");
    const auto x = t.in(f32, {2, 3}), initial = t.in(f32, {2, 3});
    const auto variable = std::make_shared<util::Variable>(util::VariableInfo{ov::PartialShape{-1, 3}, f32, "state"});
    const auto fixed = std::make_shared<util::Variable>(util::VariableInfo{ov::PartialShape{2, 3}, f32, "zeros"});
    const auto read = make<v6::ReadValue>(initial, variable), zeros = make<v6::ReadValue>(fixed);
    const auto sum = make<v1::Add>(x, make<v1::Add>(read, zeros));
    const auto assign = make<v6::Assign>(sum, variable), again = make<v6::Assign>(sum, fixed);
    const auto a = spread(f32, {2, 3}, -3, 3, 0), b = spread(f32, {2, 3}, -3, 3, 1);
    std::vector<double> expected(6);
    for (std::size_t i = 0; i < 6; ++i) expected[i] = static_cast<double>(a.data<float>()[i]) + static_cast<double>(b.data<float>()[i]);
    t.expect({assign, again}, {tensor(f32, {2, 3}, expected), tensor(f32, {2, 3}, expected)});
}

}  // namespace
}  // namespace ai_vmm::cuda::test
