// SPDX-License-Identifier: Apache-2.0
/// Every element type across the boundary, and conversions between them.
#include <cmath>

#include "cases.hpp"
#include "openvino/opsets/opset15.hpp"
#include "reference.hpp"

namespace ai_vmm::conformance {
namespace {

namespace op = ov::opset15;

std::string text(ElementType type) { return std::string(to_string(type)); }

/// Values that the type holds exactly.
Array exact_values(ElementType type, const Shape& shape) {
    switch (type) {
        case ElementType::boolean:
        case ElementType::u1: return whole(shape, 0, 1);
        case ElementType::u2: return whole(shape, 0, 3);
        case ElementType::u4: return whole(shape, 0, 15);
        case ElementType::i4: return whole(shape, -8, 7);
        case ElementType::f8e8m0: return reference::map(whole(shape, -3, 3), [](double x) { return std::exp2(x); });
        case ElementType::f8e4m3:
        case ElementType::f8e5m2: return whole(shape, -4, 4);
        case ElementType::u8:
        case ElementType::u16:
        case ElementType::u32:
        case ElementType::u64: return whole(shape, 0, 100);
        default: return whole(shape, -100, 100);
    }
}

void add_identity_tests(Tests& tests) {
    for (const ElementType type :
         {ElementType::boolean, ElementType::bf16, ElementType::f16, ElementType::f32, ElementType::f64, ElementType::f8e4m3, ElementType::f8e5m2,
          ElementType::f8e8m0,  ElementType::i4,   ElementType::i8,  ElementType::i16, ElementType::i32, ElementType::i64,    ElementType::u1,
          ElementType::u2,      ElementType::u4,   ElementType::u8,  ElementType::u16, ElementType::u32, ElementType::u64}) {
        const auto same = [](const std::vector<Array>& in) { return std::vector{reference::reshape(in[0], {12, 2})}; };
        add_case(tests, "type",
                 {.name = "reshape_" + text(type),
                  .feeds = {{type, exact_values(type, {2, 3, 4})}},
                  .graph =
                      [](const ov::OutputVector& in) {
                          return one<op::Reshape>(in[0], list({-1, 2}), false);
                      },
                  .expected = same});
    }
    // Large enough to be shared with the engine rather than copied.
    for (const ElementType type : {ElementType::f32, ElementType::f16, ElementType::i64, ElementType::u8, ElementType::i16}) {
        add_case(tests, "type",
                 {.name = "large_reshape_" + text(type),
                  .feeds = {{type, exact_values(type, {40, 1000})}},
                  .graph = [](const ov::OutputVector& in) { return one<op::Reshape>(in[0], list({-1}), false); },
                  .expected = [](const std::vector<Array>& in) { return std::vector{reference::reshape(in[0], {40000})}; }});
    }
    // Whole numbers beyond what f32 holds.
    add_case(tests, "type",
             {.name = "i64_keeps_large_values",
              .feeds = {{ElementType::i64, Array({3}, {16777217, -16777219, 2147483647})}},
              .graph = [](const ov::OutputVector& in) { return one<op::Add>(in[0], constant(Array({1}, {-1}), ElementType::i64)); },
              .expected =
                  [](const std::vector<Array>&) {
                      return std::vector{Array({3}, {16777216, -16777220, 2147483646})};
                  }});
    add_case(tests, "type",
             {.name = "i64_beyond_32_bits",
              .feeds = {{ElementType::i64, Array({2}, {4294967296.0 * 5, -4294967296.0 * 3})}},
              .graph = [](const ov::OutputVector& in) { return one<op::Add>(in[0], constant(Array({1}, {1}), ElementType::i64)); },
              .expected =
                  [](const std::vector<Array>&) {
                      return std::vector{Array({2}, {4294967296.0 * 5 + 1, -4294967296.0 * 3 + 1})};
                  }});
    add_case(tests, "type",
             {.name = "f64_keeps_its_digits",
              .feeds = {{ElementType::f64, Array({2}, {1.0000000001, 3})}},
              .graph = [](const ov::OutputVector& in) { return one<op::Subtract>(in[0], constant(Array({1}, {1}), ElementType::f64)); },
              .expected =
                  [](const std::vector<Array>&) {
                      return std::vector{Array({2}, {1e-10, 2})};
                  },
              .slack = 1e-9});
}

void add_conversion_tests(Tests& tests) {
    const std::vector<ElementType> types{ElementType::boolean, ElementType::bf16, ElementType::f16, ElementType::f32, ElementType::f64,
                                         ElementType::i8,      ElementType::i16,  ElementType::i32, ElementType::i64, ElementType::u8,
                                         ElementType::u16,     ElementType::u32,  ElementType::u64};
    for (const ElementType from : types) {
        for (const ElementType to : types) {
            if (from == to) continue;
            add_case(tests, "convert",
                     {.name = text(from) + "_to_" + text(to),
                      .feeds = {{from, from == ElementType::boolean ? whole({3, 5}, 0, 1) : whole({3, 5}, 0, 100)}},
                      .graph = [to](const ov::OutputVector& in) { return one<op::Convert>(in[0], engine_type(to)); },
                      .expected =
                          [to](const std::vector<Array>& in) {
                              return std::vector{to == ElementType::boolean ? reference::map(in[0], [](double x) { return double(x != 0); }) : in[0]};
                          }});
        }
    }
    for (const ElementType from : {ElementType::f32, ElementType::f16}) {
        add_case(
            tests, "convert",
            {.name = text(from) + "_to_i32_cuts_off",
             .feeds = {{from, Array({6}, {1.5, -1.5, 2.75, -2.75, 0.5, -0.5})}},
             .graph = [](const ov::OutputVector& in) { return one<op::Convert>(in[0], ov::element::i32); },
             .expected = [](const std::vector<Array>& in) { return std::vector{reference::map(in[0], [](double x) { return std::trunc(x); })}; }});
    }
    add_case(tests, "convert",
             {.name = "f32_to_boolean_of_fractions",
              .feeds = {{ElementType::f32, Array({4}, {0.25, -0.25, 0, 1})}},
              .graph = [](const ov::OutputVector& in) { return one<op::Convert>(in[0], ov::element::boolean); },
              .expected =
                  [](const std::vector<Array>&) {
                      return std::vector{Array({4}, {1, 1, 0, 1})};
                  }});
    for (const ElementType type : {ElementType::f8e4m3, ElementType::f8e5m2}) {
        add_case(tests, "convert",
                 {.name = text(type) + "_to_f32",
                  .feeds = {{type, whole({3, 5}, -4, 4)}},
                  .graph = [](const ov::OutputVector& in) { return one<op::Convert>(in[0], ov::element::f32); },
                  .expected = [](const std::vector<Array>& in) { return std::vector{in[0]}; }});
        add_case(tests, "convert",
                 {.name = "f32_to_" + text(type),
                  .feeds = {{ElementType::f32, spread({3, 5}, -4, 4)}},
                  .graph = [type](const ov::OutputVector& in) { return one<op::Convert>(in[0], engine_type(type)); },
                  .expected = [](const std::vector<Array>& in) { return std::vector{in[0]}; }});
    }
}

void strings_pass(const Subject& subject) {
    const auto x = std::make_shared<op::Parameter>(ov::element::string, ov::PartialShape{2, 3});
    const auto y = std::make_shared<op::Reshape>(x, list({3, 2}), false);
    const auto model = make_model(std::make_shared<ov::Model>(ov::OutputVector{y}, ov::ParameterVector{x}));
    const auto executable = compile_supported(subject, model, subject.config());
    const auto request = executable->create_request();
    const std::vector<Tensor> inputs{
        Tensor::from<std::string>({2, 3}, {"", "a", "longer than what a std::string keeps inside", "zwölf", std::string("nul\0inside", 10), "end"})};
    std::vector<Tensor> outputs(1);
    request->run(inputs, outputs);
    request->run(inputs, outputs);
    require(outputs[0].type() == ElementType::string, "the output holds no strings");
    if (!subject.computes) return;
    require(outputs[0].shape() == Shape{3, 2}, "the shape is " + to_string(outputs[0].shape()));
    require(std::ranges::equal(inputs[0].as<std::string>(), std::as_const(outputs[0]).as<std::string>()), "the strings differ");
}

}  // namespace

void add_type_tests(Tests& tests) {
    add_identity_tests(tests);
    add_conversion_tests(tests);
    tests.push_back({"type", "reshape_string", strings_pass});
}

}  // namespace ai_vmm::conformance
