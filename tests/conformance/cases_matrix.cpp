// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <numeric>

#include "cases.hpp"
#include "openvino/opsets/opset15.hpp"
#include "reference.hpp"

namespace ai_vmm::conformance {
namespace {

namespace op = ov::opset15;
using reference::Window;

ov::Strides strides(const std::vector<std::int64_t>& values) { return {values.begin(), values.end()}; }
ov::CoordinateDiff diffs(const std::vector<std::int64_t>& values) { return {values.begin(), values.end()}; }
ov::Shape sizes(const std::vector<std::int64_t>& values) { return {values.begin(), values.end()}; }

std::string precision_suffix(Precision precision) { return precision == Precision::f32 ? "" : "_in_" + std::string(to_string(precision)); }

OpCase matmul_case(const Shape& a, const Shape& b, bool ta, bool tb, bool constant_b, ElementType type, Precision precision = Precision::f32) {
    OpCase test{.name = "matmul_" + std::string(to_string(type)) + "_" + name_of(a) + (ta ? "t_" : "_") + name_of(b) + (tb ? "t" : "") +
                        (constant_b ? "_constant" : "") + precision_suffix(precision)};
    const Array right = spread(b, -1, 1, 2);
    test.feeds = {{type, spread(a, -1, 1)}};
    if (!constant_b) test.feeds.push_back({type, right});
    test.graph = [=](const ov::OutputVector& in) { return one<op::MatMul>(in[0], constant_b ? constant(right, type) : in[1], ta, tb); };
    test.expected = [=](const std::vector<Array>& in) {
        const Array r = to_array(to_tensor(right, type));
        return std::vector{reference::matmul(in[0], constant_b ? r : in[1], ta, tb)};
    };
    test.slack = 4;
    test.precision = precision;
    return test;
}

OpCase conv_case(const std::string& name, const Shape& x, const Shape& filters, const Window& w, std::int64_t groups,
                 Precision precision = Precision::f32, const ov::PartialShape& declared = {}) {
    OpCase test{.name = "conv_" + name + precision_suffix(precision), .feeds = {{ElementType::f32, spread(x, -1, 1), declared}}};
    const Array weights = spread(filters, -1, 1, 2);
    test.graph = [=](const ov::OutputVector& in) {
        if (groups == 1) {
            return one<op::Convolution>(in[0], constant(weights), strides(w.stride), diffs(w.pad_begin), diffs(w.pad_end), strides(w.dilation));
        }
        Shape grouped = filters;
        grouped[0] /= groups;
        grouped.insert(grouped.begin(), groups);
        return one<op::GroupConvolution>(in[0], constant(reference::reshape(weights, grouped)), strides(w.stride), diffs(w.pad_begin),
                                         diffs(w.pad_end), strides(w.dilation));
    };
    test.expected = [=](const std::vector<Array>& in) { return std::vector{reference::conv2d(in[0], weights, w, groups)}; };
    test.slack = 4;
    test.precision = precision;
    return test;
}

OpCase conv_1d() {
    const Array weights = spread({4, 3, 5}, -1, 1, 2);
    return {.name = "conv_1d",
            .feeds = {{ElementType::f32, spread({2, 3, 20}, -1, 1)}},
            .graph =
                [=](const ov::OutputVector& in) {
                    return one<op::Convolution>(in[0], constant(weights), ov::Strides{2}, ov::CoordinateDiff{2}, ov::CoordinateDiff{2},
                                                ov::Strides{1});
                },
            .expected =
                [=](const std::vector<Array>& in) {
                    const Array y = reference::conv2d(reference::reshape(in[0], {2, 3, 1, 20}), reference::reshape(weights, {4, 3, 1, 5}),
                                                      {.stride = {1, 2}, .pad_begin = {0, 2}, .pad_end = {0, 2}});
                    return std::vector{reference::reshape(y, {2, 4, y.shape[3]})};
                },
            .slack = 4};
}

OpCase deconv_case() {
    const Array weights = spread({3, 4, 3, 3}, -1, 1, 2);
    const Window w{.stride = {2, 2}, .pad_begin = {1, 1}, .pad_end = {1, 1}};
    return {.name = "conv_transposed",
            .feeds = {{ElementType::f32, spread({1, 3, 5, 6}, -1, 1)}},
            .graph =
                [=](const ov::OutputVector& in) {
                    return one<op::ConvolutionBackpropData>(in[0], constant(weights), strides(w.stride), diffs(w.pad_begin), diffs(w.pad_end),
                                                            strides(w.dilation));
                },
            .expected = [=](const std::vector<Array>& in) { return std::vector{reference::deconv2d(in[0], weights, w)}; },
            .slack = 4};
}

/// Convolution, bias, addition of a branch and an activation: what every engine fuses.
OpCase fused_conv_case() {
    const Array weights = spread({8, 8, 3, 3}, -0.3, 0.3, 2);
    const Array bias = spread({1, 8, 1, 1}, -1, 1, 3);
    return {.name = "conv_bias_add_relu",
            .feeds = {{ElementType::f32, spread({1, 8, 9, 9}, -1, 1)}},
            .graph =
                [=](const ov::OutputVector& in) {
                    const auto conv = std::make_shared<op::Convolution>(in[0], constant(weights), ov::Strides{1, 1}, ov::CoordinateDiff{1, 1},
                                                                        ov::CoordinateDiff{1, 1}, ov::Strides{1, 1});
                    const auto biased = std::make_shared<op::Add>(conv, constant(bias));
                    return one<op::Relu>(std::make_shared<op::Add>(biased, in[0]));
                },
            .expected =
                [=](const std::vector<Array>& in) {
                    Array y = reference::conv2d(in[0], weights, {.pad_begin = {1, 1}, .pad_end = {1, 1}});
                    y = reference::combine(reference::combine(y, bias, std::plus<>()), in[0], std::plus<>());
                    return std::vector{reference::map(y, [](double v) { return std::max(0.0, v); })};
                },
            .slack = 4};
}

OpCase pool_case(bool average, const Window& w, const std::string& name) {
    OpCase test{.name = (average ? "pool_average_" : "pool_max_") + name, .feeds = {{ElementType::f32, spread({2, 3, 9, 8}, -1, 1)}}};
    test.graph = [=](const ov::OutputVector& in) -> ov::OutputVector {
        if (average) return one<op::AvgPool>(in[0], strides(w.stride), sizes(w.pad_begin), sizes(w.pad_end), ov::Shape{3, 3}, true);
        const auto pool = std::make_shared<op::MaxPool>(in[0], strides(w.stride), strides(w.dilation), sizes(w.pad_begin), sizes(w.pad_end),
                                                        ov::Shape{3, 3}, ov::op::RoundingType::FLOOR, ov::op::PadType::EXPLICIT);
        return {pool->output(0)};
    };
    test.expected = [=](const std::vector<Array>& in) { return std::vector{reference::pool2d(in[0], {3, 3}, w, average)}; };
    return test;
}

OpCase attention_case(const std::string& name, bool masked, bool causal, bool own_scale, std::int64_t queries = 6, std::int64_t keys = 7,
                      Precision precision = Precision::f32) {
    OpCase test{.name = "attention_" + name};
    test.feeds = {{ElementType::f32, spread({2, 3, queries, 8}, -1, 1)},
                  {ElementType::f32, spread({2, 3, keys, 8}, -1, 1, 2)},
                  {ElementType::f32, spread({2, 3, keys, 8}, -1, 1, 3)}};
    if (masked) test.feeds.push_back({ElementType::f32, spread({2, 1, queries, keys}, -2, 2, 4)});
    test.precision = precision;
    test.graph = [=](const ov::OutputVector& in) {
        if (own_scale) return one<op::ScaledDotProductAttention>(in[0], in[1], in[2], in[3], constant(Array({}, {0.5})), causal);
        if (masked) return one<op::ScaledDotProductAttention>(in[0], in[1], in[2], in[3], causal);
        return one<op::ScaledDotProductAttention>(in[0], in[1], in[2], causal);
    };
    test.expected = [=](const std::vector<Array>& in) {
        return std::vector{reference::attention(in[0], in[1], in[2], own_scale ? 0.5 : 1 / std::sqrt(8.0), masked ? &in[3] : nullptr, causal)};
    };
    test.slack = 2;
    return test;
}

/// Weights kept as small integers with a scale per row, as weight compression leaves them.
OpCase compressed_weights_case(ElementType type, double low, double high) {
    const Array weights = whole({16, 32}, low, high, 2);
    const Array scale = spread({16, 1}, 0.01, 0.03, 3);
    return {.name = "matmul_weights_" + std::string(to_string(type)),
            .feeds = {{ElementType::f32, spread({4, 32}, -1, 1)}},
            .graph =
                [=](const ov::OutputVector& in) {
                    const auto wide = std::make_shared<op::Convert>(constant(weights, type), ov::element::f32);
                    const auto scaled = std::make_shared<op::Multiply>(wide, constant(scale));
                    return one<op::MatMul>(in[0], scaled, false, true);
                },
            .expected =
                [=](const std::vector<Array>& in) {
                    return std::vector{reference::matmul(in[0], reference::combine(weights, scale, std::multiplies<>()), false, true)};
                },
            .slack = 4};
}

Array quantised(const Array& x, double low, double high, double levels) {
    return reference::map(x, [=](double v) {
        if (v <= std::min(low, high)) return low;
        if (v > std::max(low, high)) return high;
        return std::nearbyint((v - low) / (high - low) * (levels - 1)) / (levels - 1) * (high - low) + low;
    });
}

OpCase fake_quantise_case() {
    return {.name = "fake_quantize",
            .feeds = {{ElementType::f32, spread({2, 3, 8}, -2, 2)}},
            .graph =
                [](const ov::OutputVector& in) {
                    return one<op::FakeQuantize>(in[0], constant(Array({}, {-1})), constant(Array({}, {1})), constant(Array({}, {-1})),
                                                 constant(Array({}, {1})), 256);
                },
            .expected = [](const std::vector<Array>& in) { return std::vector{quantised(in[0], -1, 1, 256)}; }};
}

/// A whole quantised layer, for which engines have integer kernels: activations of 256 levels, weights of 255.
OpCase quantised_matmul_case() {
    const Array weights = whole({16, 32}, -127, 127, 2);
    return {.name = "matmul_quantised",
            .feeds = {{ElementType::f32, reference::map(whole({4, 32}, 0, 255), [](double v) { return v / 255; })}},
            .graph =
                [=](const ov::OutputVector& in) {
                    const auto zero = constant(Array({}, {0}));
                    const auto unit = constant(Array({}, {1}));
                    const auto x = std::make_shared<op::FakeQuantize>(in[0], zero, unit, zero, unit, 256);
                    const auto wide = std::make_shared<op::Convert>(constant(weights, ElementType::i8), ov::element::f32);
                    const auto w = std::make_shared<op::Multiply>(wide, constant(Array({}, {0.01})));
                    return one<op::MatMul>(x, w, false, true);
                },
            .expected =
                [=](const std::vector<Array>& in) {
                    return std::vector{reference::matmul(in[0], reference::map(weights, [](double v) { return v * 0.01; }), false, true)};
                },
            .slack = 4};
}

/// A quantised convolution whose image has another number than 0 for 0, so that its border needs a correction in integers. @param each  a filter for
/// each channel
OpCase quantised_conv_case(bool each) {
    const std::int64_t channels = each ? 16 : 32, groups = each ? 16 : 1;
    const Array weights = whole({16, channels / groups, 3, 3}, -127, 127, 2);
    return {.name = each ? "conv_quantised_depthwise" : "conv_quantised",
            .feeds = {{ElementType::f32, reference::map(whole({2, channels, 7, 6}, 0, 255), [](double v) { return v / 255; })}},
            .graph =
                [=](const ov::OutputVector& in) {
                    const auto zero = constant(Array({}, {0}));
                    const auto unit = constant(Array({}, {1}));
                    const auto x = std::make_shared<op::FakeQuantize>(in[0], zero, unit, zero, unit, 256);
                    const Array filters = each ? reference::reshape(weights, {16, 1, 1, 3, 3}) : weights;
                    const auto wide = std::make_shared<op::Convert>(constant(filters, ElementType::i8), ov::element::f32);
                    const auto w = std::make_shared<op::Multiply>(wide, constant(Array({}, {0.01})));
                    const ov::Strides ones{1, 1};
                    const ov::CoordinateDiff pads{1, 1};
                    return each ? one<op::GroupConvolution>(x, w, ones, pads, pads, ones) : one<op::Convolution>(x, w, ones, pads, pads, ones);
                },
            .expected =
                [=](const std::vector<Array>& in) {
                    const Array scaled = reference::map(weights, [](double v) { return v * 0.01; });
                    return std::vector{reference::conv2d(in[0], scaled, {.pad_begin = {1, 1}, .pad_end = {1, 1}}, groups)};
                },
            .slack = 4};
}

OpCase einsum_case() {
    return {.name = "einsum",
            .feeds = {{ElementType::f32, spread({2, 3, 4}, -1, 1)}, {ElementType::f32, spread({2, 4, 5}, -1, 1, 2)}},
            .graph = [](const ov::OutputVector& in) { return one<op::Einsum>(in, "bij,bjk->bik"); },
            .expected = [](const std::vector<Array>& in) { return std::vector{reference::matmul(in[0], in[1])}; }};
}

}  // namespace

void add_matrix_tests(Tests& tests) {
    const auto add = [&](OpCase test) { add_case(tests, "matrix", std::move(test)); };
    for (const ElementType type : {ElementType::f32, ElementType::f16, ElementType::bf16, ElementType::f64}) {
        add(matmul_case({5, 7}, {7, 9}, false, false, false, type));
        add(matmul_case({5, 7}, {7, 9}, false, false, true, type));
    }
    add(matmul_case({7, 5}, {9, 7}, true, true, false, ElementType::f32));
    add(matmul_case({2, 3, 5, 7}, {3, 7, 4}, false, false, false, ElementType::f32));
    add(matmul_case({2, 1, 5, 7}, {3, 4, 7}, false, true, true, ElementType::f32));
    add(matmul_case({1, 256}, {256, 64}, false, false, true, ElementType::f32));
    add(matmul_case({0, 7}, {7, 9}, false, false, true, ElementType::f32));
    const Window same{.pad_begin = {1, 1}, .pad_end = {1, 1}};
    const Window odd{.stride = {2, 1}, .dilation = {1, 2}, .pad_begin = {0, 2}, .pad_end = {1, 1}};
    for (const Precision precision : {Precision::f32, Precision::bf16, Precision::f16}) {
        const auto narrow = [&](OpCase test) {
            tests.push_back({"matrix", test.name, [=](const Subject& subject) {
                                 if (!subject.runs(to_string(precision)))
                                     throw Skipped("the device doesn't compute in " + std::string(to_string(precision)));
                                 run_case(subject, test);
                             }});
        };
        narrow(conv_case("3x3", {1, 3, 8, 8}, {4, 3, 3, 3}, same, 1, precision));
        narrow(conv_case("1x1_of_many_pixels", {1, 48, 132, 130}, {8, 48, 1, 1}, {}, 1, precision));
        narrow(matmul_case({16, 32}, {32, 24}, false, false, true, ElementType::f32, precision));
        narrow(attention_case("of_many_keys_" + std::string(to_string(precision)), true, false, false, 20, 150, precision));
        narrow(attention_case("of_one_query_" + std::string(to_string(precision)), true, false, false, 1, 1200, precision));
    }
    add(conv_case("1x1", {2, 16, 5, 5}, {8, 16, 1, 1}, {}, 1));
    add(conv_case("strided_dilated", {1, 3, 9, 11}, {5, 3, 2, 3}, odd, 1));
    add(conv_case("grouped", {1, 6, 7, 7}, {8, 3, 3, 3}, same, 2));
    add(conv_case("depthwise", {1, 16, 7, 7}, {16, 1, 3, 3}, same, 16));
    add(conv_case("dynamic_batch", {3, 3, 8, 8}, {4, 3, 3, 3}, same, 1, Precision::f32, {-1, 3, 8, 8}));
    add(conv_case("dynamic_size", {1, 3, 6, 10}, {4, 3, 3, 3}, same, 1, Precision::f32, {1, 3, -1, -1}));
    add(conv_1d());
    add(deconv_case());
    add(fused_conv_case());
    for (const bool average : {false, true}) {
        add(pool_case(average, {.stride = {2, 2}}, "strided"));
        add(pool_case(average, {.pad_begin = {1, 1}, .pad_end = {1, 1}}, "padded"));
    }
    add(attention_case("plain", false, false, false));
    add(attention_case("causal", false, true, false));
    add(attention_case("masked", true, false, false));
    add(attention_case("scaled", true, false, true));
    add(compressed_weights_case(ElementType::i8, -127, 127));
    add(compressed_weights_case(ElementType::u8, 0, 255));
    add(compressed_weights_case(ElementType::i4, -8, 7));
    add(compressed_weights_case(ElementType::u4, 0, 15));
    add(fake_quantise_case());
    add(quantised_matmul_case());
    add(quantised_conv_case(false));
    add(quantised_conv_case(true));
    add(einsum_case());
}

}  // namespace ai_vmm::conformance
