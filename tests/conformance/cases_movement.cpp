// SPDX-License-Identifier: Apache-2.0
#include <numeric>

#include "cases.hpp"
#include "openvino/opsets/opset15.hpp"
#include "reference.hpp"

namespace ai_vmm::conformance {
namespace {

namespace op = ov::opset15;

using Graph = std::function<ov::OutputVector(const ov::OutputVector&)>;
using Expected = std::function<std::vector<Array>(const std::vector<Array>&)>;

std::string suffix(ElementType type) { return "_" + std::string(to_string(type)); }

/// The same test for every type that only has to be moved.
void add_moving(Tests& tests, const std::string& name, const Shape& shape, const Graph& graph, const Expected& expected) {
    for (const ElementType type : {ElementType::f32, ElementType::f16, ElementType::i64, ElementType::i32, ElementType::u8, ElementType::boolean}) {
        const Array values = type == ElementType::boolean ? whole(shape, 0, 1) : whole(shape, 0, 100);
        add_case(tests, "movement", {.name = name + suffix(type), .feeds = {{type, values}}, .graph = graph, .expected = expected});
    }
}

void add_reordering(Tests& tests) {
    add_moving(
        tests, "transpose", {2, 3, 4},
        [](const auto& in) {
            return one<op::Transpose>(in[0], list({2, 0, 1}));
        },
        [](const auto& in) {
            return std::vector{reference::transpose(in[0], {2, 0, 1})};
        });
    add_moving(
        tests, "reshape", {2, 3, 4},
        [](const auto& in) {
            return one<op::Reshape>(in[0], list({0, -1}), true);
        },
        [](const auto& in) {
            return std::vector{reference::reshape(in[0], {2, 12})};
        });
    add_moving(
        tests, "squeeze", {2, 1, 4}, [](const auto& in) { return one<op::Squeeze>(in[0], list({1})); },
        [](const auto& in) {
            return std::vector{reference::reshape(in[0], {2, 4})};
        });
    add_moving(
        tests, "unsqueeze", {2, 4},
        [](const auto& in) {
            return one<op::Unsqueeze>(in[0], list({0, 3}));
        },
        [](const auto& in) {
            return std::vector{reference::reshape(in[0], {1, 2, 4, 1})};
        });
    add_moving(
        tests, "concat", {2, 3, 4},
        [](const auto& in) {
            return one<op::Concat>(ov::OutputVector{in[0], in[0], in[0]}, 1);
        },
        [](const auto& in) {
            return std::vector{reference::concat({in[0], in[0], in[0]}, 1)};
        });
    add_moving(
        tests, "split", {2, 6, 4}, [](const auto& in) { return one<op::Split>(in[0], number(1), 3); },
        [](const auto& in) {
            return std::vector{reference::slice(in[0], 1, 0, 2), reference::slice(in[0], 1, 2, 2), reference::slice(in[0], 1, 4, 2)};
        });
    add_moving(
        tests, "variadic_split", {2, 6},
        [](const auto& in) {
            return one<op::VariadicSplit>(in[0], number(1), list({1, -1, 2}));
        },
        [](const auto& in) {
            return std::vector{reference::slice(in[0], 1, 0, 1), reference::slice(in[0], 1, 1, 3), reference::slice(in[0], 1, 4, 2)};
        });
    add_moving(
        tests, "slice", {2, 9}, [](const auto& in) { return one<op::Slice>(in[0], list({1}), list({8}), list({3}), list({1})); },
        [](const auto& in) { return std::vector{reference::slice(in[0], 1, 1, 3, 3)}; });
    add_moving(
        tests, "slice_backwards", {2, 5}, [](const auto& in) { return one<op::Slice>(in[0], list({-1}), list({-100}), list({-1}), list({1})); },
        [](const auto& in) { return std::vector{reference::slice(in[0], 1, 4, 5, -1)}; });
    add_moving(
        tests, "slice_to_nothing", {2, 5}, [](const auto& in) { return one<op::Slice>(in[0], list({3}), list({1}), list({1}), list({1})); },
        [](const auto& in) { return std::vector{reference::slice(in[0], 1, 3, 0)}; });
    add_moving(
        tests, "tile", {2, 3},
        [](const auto& in) {
            return one<op::Tile>(in[0], list({1, 2}));
        },
        [](const auto& in) {
            return std::vector{reference::concat({in[0], in[0]}, 1)};
        });
    add_moving(
        tests, "broadcast", {3, 1},
        [](const auto& in) {
            return one<op::Broadcast>(in[0], list({2, 3, 4}));
        },
        [](const auto& in) {
            return std::vector{reference::broadcast(in[0], {2, 3, 4})};
        });
    add_moving(
        tests, "pad_constant", {2, 3},
        [](const auto& in) {
            return one<op::Pad>(in[0], list({1, 0}), list({0, 2}), ov::op::PadMode::CONSTANT);
        },
        [](const auto& in) {
            return std::vector{reference::pad(in[0], {1, 0}, {0, 2}, 0)};
        });
}

/// Index of an element mirrored into [0, size).
std::int64_t mirrored(std::int64_t index, std::int64_t size) {
    if (index < 0) return -index;
    return index >= size ? 2 * size - 2 - index : index;
}

void add_indexing(Tests& tests) {
    for (const ElementType index_type : {ElementType::i32, ElementType::i64}) {
        add_case(tests, "movement",
                 {.name = "gather_by" + suffix(index_type),
                  .feeds = {{ElementType::f32, spread({4, 5, 3}, -1, 1)}, {index_type, Array({2, 2}, {4, 0, 3, 3})}},
                  .graph = [](const ov::OutputVector& in) { return one<op::Gather>(in[0], in[1], number(1)); },
                  .expected = [](const std::vector<Array>& in) { return std::vector{reference::gather(in[0], in[1], 1)}; }});
    }
    add_case(tests, "movement",
             {.name = "gather_negative",
              .feeds = {{ElementType::f32, spread({4, 3}, -1, 1)}, {ElementType::i64, Array({3}, {-1, -4, 0})}},
              .graph = [](const ov::OutputVector& in) { return one<op::Gather>(in[0], in[1], number(0)); },
              .expected = [](const std::vector<Array>& in) { return std::vector{reference::gather(in[0], in[1], 0)}; }});
    add_case(tests, "movement",
             {.name = "gather_scalar",
              .feeds = {{ElementType::f32, spread({4, 3}, -1, 1)}, {ElementType::i64, Array({}, {2})}},
              .graph = [](const ov::OutputVector& in) { return one<op::Gather>(in[0], in[1], number(0)); },
              .expected = [](const std::vector<Array>& in) { return std::vector{reference::gather(in[0], in[1], 0)}; }});
    add_case(tests, "movement",
             {.name = "embedding",
              .feeds = {{ElementType::i64, Array({2, 3}, {1, 9, 0, 4, 4, 7}), {-1, -1}}},
              .graph =
                  [](const ov::OutputVector& in) {
                      return one<op::Gather>(constant(spread({10, 6}, -1, 1)), in[0], number(0));
                  },
              .expected =
                  [](const std::vector<Array>& in) {
                      return std::vector{reference::gather(spread({10, 6}, -1, 1), in[0], 0)};
                  }});
    add_case(tests, "movement",
             {.name = "gather_elements",
              .feeds = {{ElementType::f32, spread({3, 4}, -1, 1)}, {ElementType::i64, Array({2, 4}, {0, 2, 1, 0, 2, 2, 0, 1})}},
              .graph = [](const ov::OutputVector& in) { return one<op::GatherElements>(in[0], in[1], 0); },
              .expected =
                  [](const std::vector<Array>& in) {
                      Array result({2, 4});
                      for (std::size_t i = 0; i < 8; ++i) result[i] = in[0][static_cast<std::size_t>(in[1][i]) * 4 + i % 4];
                      return std::vector{result};
                  }});
    add_case(tests, "movement",
             {.name = "gather_nd",
              .feeds = {{ElementType::f32, spread({3, 4, 2}, -1, 1)}, {ElementType::i64, Array({2, 2}, {0, 3, 2, 1})}},
              .graph = [](const ov::OutputVector& in) { return one<op::GatherND>(in[0], in[1]); },
              .expected =
                  [](const std::vector<Array>& in) {
                      return std::vector{Array({2, 2}, {in[0][6], in[0][7], in[0][18], in[0][19]})};
                  }});
    add_case(tests, "movement",
             {.name = "scatter_update",
              .feeds = {{ElementType::f32, spread({4, 3}, -1, 1)}, {ElementType::f32, spread({2, 3}, 5, 6, 2)}},
              .graph =
                  [](const ov::OutputVector& in) {
                      return one<op::ScatterUpdate>(in[0], list({3, 1}), in[1], number(0));
                  },
              .expected =
                  [](const std::vector<Array>& in) {
                      Array result = in[0];
                      for (std::size_t i = 0; i < 3; ++i) {
                          result[9 + i] = in[1][i];
                          result[3 + i] = in[1][3 + i];
                      }
                      return std::vector{result};
                  }});
    add_case(tests, "movement",
             {.name = "scatter_nd_update",
              .feeds = {{ElementType::f32, spread({4, 3}, -1, 1)}, {ElementType::f32, spread({2}, 5, 6, 2)}},
              .graph =
                  [](const ov::OutputVector& in) {
                      return one<op::ScatterNDUpdate>(in[0], constant(Array({2, 2}, {0, 2, 3, 1}), ElementType::i64), in[1]);
                  },
              .expected =
                  [](const std::vector<Array>& in) {
                      Array result = in[0];
                      result[2] = in[1][0];
                      result[10] = in[1][1];
                      return std::vector{result};
                  }});
    add_case(tests, "movement",
             {.name = "scatter_elements_sum",
              .feeds = {{ElementType::f32, spread({3, 3}, -1, 1)}, {ElementType::f32, spread({2, 3}, 1, 2, 2)}},
              .graph =
                  [](const ov::OutputVector& in) {
                      return one<op::ScatterElementsUpdate>(in[0], constant(Array({2, 3}, {0, 1, 2, 0, 0, 1}), ElementType::i64), in[1], number(0),
                                                            op::ScatterElementsUpdate::Reduction::SUM, true);
                  },
              .expected =
                  [](const std::vector<Array>& in) {
                      Array result = in[0];
                      const std::vector<std::size_t> rows{0, 1, 2, 0, 0, 1};
                      for (std::size_t i = 0; i < 6; ++i) result[rows[i] * 3 + i % 3] += in[1][i];
                      return std::vector{result};
                  }});
    add_case(
        tests, "movement",
        {.name = "one_hot",
         .feeds = {{ElementType::i64, Array({3}, {2, 0, 9})}},
         .graph =
             [](const ov::OutputVector& in) { return one<op::OneHot>(in[0], number(4), constant(Array({}, {5})), constant(Array({}, {-1})), -1); },
         .expected =
             [](const std::vector<Array>&) {
                 Array result({3, 4}, -1);
                 result[2] = result[4] = 5;  // 9 is out of range: all off
                 return std::vector{result};
             }});
    for (const auto& [mode, name] : {std::pair{ov::op::PadMode::REFLECT, "reflect"}, std::pair{ov::op::PadMode::EDGE, "edge"}}) {
        const bool reflect = mode == ov::op::PadMode::REFLECT;
        add_case(tests, "movement",
                 {.name = std::string("pad_") + name,
                  .feeds = {{ElementType::f32, spread({2, 5}, -1, 1)}},
                  .graph =
                      [mode = mode](const ov::OutputVector& in) {
                          return one<op::Pad>(in[0], list({0, 2}), list({0, 3}), mode);
                      },
                  .expected =
                      [=](const std::vector<Array>& in) {
                          Array result({2, 10});
                          for (std::int64_t i = 0; i < 20; ++i) {
                              const std::int64_t column = i % 10 - 2;
                              const std::int64_t from = reflect ? mirrored(column, 5) : std::min<std::int64_t>(4, std::max<std::int64_t>(0, column));
                              result[static_cast<std::size_t>(i)] = in[0][static_cast<std::size_t>(i / 10 * 5 + from)];
                          }
                          return std::vector{result};
                      }});
    }
}

void add_rearranging(Tests& tests) {
    add_case(tests, "movement",
             {.name = "depth_to_space",
              .feeds = {{ElementType::f32, spread({1, 8, 2, 3}, -1, 1)}},
              .graph = [](const ov::OutputVector& in) { return one<op::DepthToSpace>(in[0], op::DepthToSpace::DepthToSpaceMode::BLOCKS_FIRST, 2); },
              .expected =
                  [](const std::vector<Array>& in) {
                      const Array split = reference::reshape(in[0], {1, 2, 2, 2, 2, 3});
                      return std::vector{reference::reshape(reference::transpose(split, {0, 3, 4, 1, 5, 2}), {1, 2, 4, 6})};
                  }});
    add_case(
        tests, "movement",
        {.name = "interpolate_nearest",
         .feeds = {{ElementType::f32, spread({1, 2, 3, 4}, -1, 1)}},
         .graph =
             [](const ov::OutputVector& in) {
                 op::Interpolate::InterpolateAttrs attributes;
                 attributes.mode = op::Interpolate::InterpolateMode::NEAREST;
                 attributes.shape_calculation_mode = op::Interpolate::ShapeCalcMode::SCALES;
                 attributes.coordinate_transformation_mode = op::Interpolate::CoordinateTransformMode::ASYMMETRIC;
                 attributes.nearest_mode = op::Interpolate::NearestMode::FLOOR;
                 attributes.pads_begin = attributes.pads_end = {0, 0, 0, 0};
                 return one<op::Interpolate>(in[0], constant(Array({2}, {2, 2})), list({2, 3}), attributes);
             },
         .expected =
             [](const std::vector<Array>& in) {
                 Array result({1, 2, 6, 8});
                 std::size_t n = 0;
                 for_each_index(result.shape, [&](const Shape& i) { result[n++] = in[0][offset_of(in[0].shape, {0, i[1], i[2] / 2, i[3] / 2})]; });
                 return std::vector{result};
             }});
    add_case(tests, "movement",
             {.name = "shape_of",
              .feeds = {{ElementType::f32, Array(Shape{3, 2}), {-1, 2}}},
              .graph = [](const ov::OutputVector& in) { return one<op::ShapeOf>(in[0]); },
              .expected =
                  [](const std::vector<Array>&) {
                      return std::vector{Array({2}, {3, 2})};
                  }});
    add_case(tests, "movement",
             {.name = "range",
              .feeds = {{ElementType::i64, Array({}, {7})}},
              .graph = [](const ov::OutputVector& in) { return one<op::Range>(number(2), in[0], number(2), ov::element::i64); },
              .expected =
                  [](const std::vector<Array>&) {
                      return std::vector{Array({3}, {2, 4, 6})};
                  }});
    add_case(tests, "movement",
             {.name = "non_zero",
              .feeds = {{ElementType::f32, Array({2, 3}, {0, 1, 0, 2, 0, 3})}},
              .graph = [](const ov::OutputVector& in) { return one<op::NonZero>(in[0], ov::element::i64); },
              .expected =
                  [](const std::vector<Array>&) {
                      return std::vector{Array({2, 3}, {0, 1, 1, 1, 0, 2})};
                  }});
    add_case(tests, "movement",
             {.name = "non_zero_nothing",
              .feeds = {{ElementType::f32, Array({2, 3}, std::vector<double>(6, 0))}},
              .graph = [](const ov::OutputVector& in) { return one<op::NonZero>(in[0], ov::element::i64); },
              .expected =
                  [](const std::vector<Array>&) {
                      return std::vector{Array(Shape{2, 0})};
                  }});
    add_case(tests, "movement",
             {.name = "roll",
              .feeds = {{ElementType::f32, spread({2, 5}, -1, 1)}},
              .graph = [](const ov::OutputVector& in) { return one<op::Roll>(in[0], list({2}), list({1})); },
              .expected =
                  [](const std::vector<Array>& in) {
                      return std::vector{reference::concat({reference::slice(in[0], 1, 3, 2), reference::slice(in[0], 1, 0, 3)}, 1)};
                  }});
}

}  // namespace

void add_movement_tests(Tests& tests) {
    add_reordering(tests);
    add_indexing(tests);
    add_rearranging(tests);
}

}  // namespace ai_vmm::conformance
