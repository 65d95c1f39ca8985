// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "cases.hpp"
#include "openvino/opsets/opset15.hpp"
#include "reference.hpp"

namespace ai_vmm::conformance {
namespace {

namespace op = ov::opset15;

constexpr double kInfinity = std::numeric_limits<double>::infinity();

using Reference = std::function<Array(const Array&, const std::vector<std::int64_t>&, bool)>;

template <typename Op>
void add_reduce(Tests& tests, const std::string& name, ElementType type, const Array& values, const Reference& f) {
    for (const std::vector<std::int64_t>& axes : {std::vector<std::int64_t>{1}, {0, 2}, {0, 1, 2}, {}}) {
        for (const bool keep : {false, true}) {
            std::string id = name + "_" + std::string(to_string(type)) + "_axes";
            for (const std::int64_t axis : axes) id += std::to_string(axis);
            add_case(tests, "reduce",
                     {.name = id + (keep ? "_keep" : ""),
                      .feeds = {{type, values}},
                      .graph = [=](const ov::OutputVector& in) { return one<Op>(in[0], list(axes), keep); },
                      .expected = [=](const std::vector<Array>& in) { return std::vector{f(in[0], axes, keep)}; },
                      .slack = 2});
        }
    }
}

void add_reductions(Tests& tests) {
    const Array values = spread({3, 4, 5}, 0.5, 2);
    const Array integers = whole({3, 4, 5}, -6, 9);
    const auto fold = [](double start, reference::Binary f, reference::Binary finish) {
        return [=](const Array& a, const std::vector<std::int64_t>& axes, bool keep) {
            if (axes.empty()) return reference::map(a, [&](double x) { return finish(f(start, x), 1); });
            return reference::reduce(a, axes, keep, start, f, finish);
        };
    };
    const auto plain = [](double x, double) { return x; };
    const auto top = fold(
        -kInfinity, [](double x, double y) { return std::max(x, y); }, plain);
    const auto bottom = fold(
        kInfinity, [](double x, double y) { return std::min(x, y); }, plain);
    const auto total = fold(0, std::plus<>(), plain);
    for (const ElementType type : {ElementType::f32, ElementType::i32, ElementType::i64}) {
        const Array& data = type == ElementType::f32 ? values : integers;
        add_reduce<op::ReduceSum>(tests, "sum", type, data, total);
        add_reduce<op::ReduceMax>(tests, "max", type, data, top);
        add_reduce<op::ReduceMin>(tests, "min", type, data, bottom);
    }
    add_reduce<op::ReduceMean>(tests, "mean", ElementType::f32, values, fold(0, std::plus<>(), [](double x, double n) { return x / n; }));
    add_reduce<op::ReduceProd>(tests, "prod", ElementType::f32, spread({3, 4, 5}, 0.9, 1.1), fold(1, std::multiplies<>(), plain));
    add_reduce<op::ReduceL1>(tests, "l1", ElementType::f32, values,
                             fold(
                                 0, [](double x, double y) { return x + std::abs(y); }, plain));
    add_reduce<op::ReduceL2>(tests, "l2", ElementType::f32, values,
                             fold(
                                 0, [](double x, double y) { return x + y * y; }, [](double x, double) { return std::sqrt(x); }));
    add_reduce<op::ReduceLogicalAnd>(tests, "all", ElementType::boolean, whole({3, 4, 5}, 0, 1),
                                     fold(
                                         1, [](double x, double y) { return double(x != 0 && y != 0); }, plain));
    add_reduce<op::ReduceLogicalOr>(tests, "any", ElementType::boolean, whole({3, 4, 5}, 0, 1),
                                    fold(
                                        0, [](double x, double y) { return double(x != 0 || y != 0); }, plain));
    add_case(tests, "reduce",
             {.name = "sum_of_nothing",
              .feeds = {{ElementType::f32, Array(Shape{2, 0}), {2, -1}}},
              .graph = [](const ov::OutputVector& in) { return one<op::ReduceSum>(in[0], list({1}), false); },
              .expected =
                  [](const std::vector<Array>&) {
                      return std::vector{Array({2}, {0, 0})};
                  }});
}

void add_normalisations(Tests& tests) {
    for (const std::int64_t axis : {0, 1, 2, -1}) {
        add_case(tests, "normalise",
                 {.name = "softmax_axis" + (axis < 0 ? std::string("_last") : std::to_string(axis)),
                  .feeds = {{ElementType::f32, spread({3, 4, 5}, -4, 4)}},
                  .graph = [=](const ov::OutputVector& in) { return one<ov::op::v8::Softmax>(in[0], axis); },
                  .expected = [=](const std::vector<Array>& in) { return std::vector{reference::softmax(in[0], axis < 0 ? 2 : axis)}; }});
    }
    for (const ElementType type : {ElementType::f16, ElementType::bf16}) {
        add_case(tests, "normalise",
                 {.name = "softmax_" + std::string(to_string(type)),
                  .feeds = {{type, spread({4, 9}, -4, 4)}},
                  .graph = [](const ov::OutputVector& in) { return one<ov::op::v8::Softmax>(in[0], 1); },
                  .expected = [](const std::vector<Array>& in) { return std::vector{reference::softmax(in[0], 1)}; }});
    }
    add_case(tests, "normalise",
             {.name = "softmax_large_values",
              .feeds = {{ElementType::f32, spread({2, 6}, 900, 1000)}},
              .graph = [](const ov::OutputVector& in) { return one<ov::op::v8::Softmax>(in[0], 1); },
              .expected = [](const std::vector<Array>& in) { return std::vector{reference::softmax(in[0], 1)}; },
              .slack = 10});
    add_case(tests, "normalise",
             {.name = "log_softmax",
              .feeds = {{ElementType::f32, spread({3, 7}, -4, 4)}},
              .graph = [](const ov::OutputVector& in) { return one<op::LogSoftmax>(in[0], 1); },
              .expected =
                  [](const std::vector<Array>& in) {
                      return std::vector{reference::map(reference::softmax(in[0], 1), [](double x) { return std::log(x); })};
                  },
              .slack = 2});
    add_case(tests, "normalise",
             {.name = "layer_norm",
              .feeds = {{ElementType::f32, spread({2, 4, 16}, -3, 5)}},
              .graph =
                  [](const ov::OutputVector& in) {
                      const auto normal = std::make_shared<op::MVN>(in[0], list({-1}), true, 1e-5F, ov::op::MVNEpsMode::INSIDE_SQRT);
                      const auto scaled = std::make_shared<op::Multiply>(normal, constant(spread({16}, 0.5, 1.5, 2)));
                      return one<op::Add>(scaled, constant(spread({16}, -1, 1, 3)));
                  },
              .expected =
                  [](const std::vector<Array>& in) {
                      const Array y = reference::combine(reference::normalise(in[0], {2}, 1e-5), spread({16}, 0.5, 1.5, 2), std::multiplies<>());
                      return std::vector{reference::combine(y, spread({16}, -1, 1, 3), std::plus<>())};
                  },
              .slack = 4});
    add_case(tests, "normalise",
             {.name = "rms_norm",
              .feeds = {{ElementType::f32, spread({2, 4, 16}, -3, 5)}},
              .graph =
                  [](const ov::OutputVector& in) {
                      const auto square = std::make_shared<op::Power>(in[0], constant(Array({}, {2})));
                      const auto mean = std::make_shared<op::ReduceMean>(square, list({-1}), true);
                      const auto root = std::make_shared<op::Sqrt>(std::make_shared<op::Add>(mean, constant(Array({}, {1e-6}))));
                      const auto inverse = std::make_shared<op::Divide>(constant(Array({}, {1})), root);
                      return one<op::Multiply>(constant(spread({16}, 0.5, 1.5, 2)), std::make_shared<op::Multiply>(in[0], inverse));
                  },
              .expected =
                  [](const std::vector<Array>& in) {
                      const Array mean = reference::mean(reference::map(in[0], [](double x) { return x * x; }), {2}, true);
                      const Array y = reference::combine(in[0], mean, [](double x, double m) { return x / std::sqrt(m + 1e-6); });
                      return std::vector{reference::combine(y, spread({16}, 0.5, 1.5, 2), std::multiplies<>())};
                  },
              .slack = 4});
    add_case(tests, "normalise",
             {.name = "batch_norm",
              .feeds = {{ElementType::f32, spread({2, 3, 4, 4}, -2, 2)}},
              .graph =
                  [](const ov::OutputVector& in) {
                      return one<op::BatchNormInference>(in[0], constant(spread({3}, 0.5, 1.5, 2)), constant(spread({3}, -1, 1, 3)),
                                                         constant(spread({3}, -1, 1, 4)), constant(spread({3}, 0.5, 2, 5)), 1e-3);
                  },
              .expected =
                  [](const std::vector<Array>& in) {
                      const auto channel = [](double low, double high, std::uint32_t seed) {
                          return reference::reshape(spread({3}, low, high, seed), {1, 3, 1, 1});
                      };
                      Array y = reference::combine(in[0], channel(-1, 1, 4), std::minus<>());
                      y = reference::combine(y, channel(0.5, 2, 5), [](double x, double v) { return x / std::sqrt(v + 1e-3); });
                      y = reference::combine(y, channel(0.5, 1.5, 2), std::multiplies<>());
                      return std::vector{reference::combine(y, channel(-1, 1, 3), std::plus<>())};
                  },
              .slack = 2});
    add_case(tests, "normalise",
             {.name = "group_norm",
              .feeds = {{ElementType::f32, spread({2, 4, 3, 3}, -2, 2)}},
              .graph =
                  [](const ov::OutputVector& in) {
                      return one<op::GroupNormalization>(in[0], constant(spread({4}, 0.5, 1.5, 2)), constant(spread({4}, -1, 1, 3)), 2, 1e-5);
                  },
              .expected =
                  [](const std::vector<Array>& in) {
                      Array y = reference::reshape(reference::normalise(reference::reshape(in[0], {4, 18}), {1}, 1e-5), in[0].shape);
                      y = reference::combine(y, reference::reshape(spread({4}, 0.5, 1.5, 2), {1, 4, 1, 1}), std::multiplies<>());
                      return std::vector{reference::combine(y, reference::reshape(spread({4}, -1, 1, 3), {1, 4, 1, 1}), std::plus<>())};
                  },
              .slack = 4});
    add_case(tests, "normalise",
             {.name = "normalize_l2",
              .feeds = {{ElementType::f32, spread({2, 8}, 0.5, 2)}},
              .graph = [](const ov::OutputVector& in) { return one<op::NormalizeL2>(in[0], list({1}), 1e-8F, ov::op::EpsMode::ADD); },
              .expected =
                  [](const std::vector<Array>& in) {
                      const Array norm = reference::sum(reference::map(in[0], [](double x) { return x * x; }), {1}, true);
                      return std::vector{reference::combine(in[0], norm, [](double x, double n) { return x / std::sqrt(n + 1e-8); })};
                  }});
}

/// Indices of row `row` of [rows, columns] in falling or rising order of value.
std::vector<std::size_t> sorted(const Array& a, std::size_t row, std::size_t columns, bool falling) {
    std::vector<std::size_t> order(columns);
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::ranges::stable_sort(order, [&](std::size_t x, std::size_t y) {
        const double l = a[row * columns + x];
        const double r = a[row * columns + y];
        return falling ? l > r : l < r;
    });
    return order;
}

void add_selections(Tests& tests) {
    for (const bool falling : {true, false}) {
        add_case(tests, "reduce",
                 {.name = falling ? "top_k_max" : "top_k_min",
                  .feeds = {{ElementType::f32, spread({3, 8}, -1, 1)}},
                  .graph =
                      [=](const ov::OutputVector& in) {
                          return one<op::TopK>(in[0], number(3), 1, falling ? ov::op::TopKMode::MAX : ov::op::TopKMode::MIN,
                                               ov::op::TopKSortType::SORT_VALUES, ov::element::i64, true);
                      },
                  .expected =
                      [=](const std::vector<Array>& in) {
                          Array values({3, 3});
                          Array indices({3, 3});
                          for (std::size_t row = 0; row < 3; ++row) {
                              const auto order = sorted(in[0], row, 8, falling);
                              for (std::size_t i = 0; i < 3; ++i) {
                                  values[row * 3 + i] = in[0][row * 8 + order[i]];
                                  indices[row * 3 + i] = static_cast<double>(order[i]);
                              }
                          }
                          return std::vector{values, indices};
                      }});
    }
    for (const bool exclusive : {false, true}) {
        for (const bool reverse : {false, true}) {
            add_case(tests, "reduce",
                     {.name = std::string("cumulative_sum") + (exclusive ? "_exclusive" : "") + (reverse ? "_reverse" : ""),
                      .feeds = {{ElementType::f32, spread({2, 6}, -1, 1)}},
                      .graph = [=](const ov::OutputVector& in) { return one<op::CumSum>(in[0], number(1), exclusive, reverse); },
                      .expected =
                          [=](const std::vector<Array>& in) {
                              Array result(Shape{2, 6});
                              for (std::size_t row = 0; row < 2; ++row) {
                                  double total = 0;
                                  for (std::size_t i = 0; i < 6; ++i) {
                                      const std::size_t at = row * 6 + (reverse ? 5 - i : i);
                                      if (exclusive) result[at] = total;
                                      total += in[0][at];
                                      if (!exclusive) result[at] = total;
                                  }
                              }
                              return std::vector{result};
                          }});
        }
    }
}

/// Whose numbers an engine draws is its own affair; where one class has all the probability they all choose it.
void add_draws(Tests& tests) {
    for (const bool logarithms : {false, true}) {
        const double never = logarithms ? -200 : 0;
        add_case(
            tests, "reduce",
            {.name = logarithms ? "multinomial_logarithms" : "multinomial",
             .feeds = {{ElementType::f32, Array({2, 3}, {never, logarithms ? 1.0 : 2.0, never, never, never, 0.5})}},
             .graph = [=](const ov::OutputVector& in) { return one<op::Multinomial>(in[0], list({5}), ov::element::i64, true, logarithms, 3, 4); },
             .expected =
                 [](const std::vector<Array>&) {
                     return std::vector{Array({2, 5}, {1, 1, 1, 1, 1, 2, 2, 2, 2, 2})};
                 }});
    }
}

}  // namespace

void add_reduction_tests(Tests& tests) {
    add_reductions(tests);
    add_normalisations(tests);
    add_selections(tests);
    add_draws(tests);
}

}  // namespace ai_vmm::conformance
