// SPDX-License-Identifier: Apache-2.0
/// Deformable and binary convolutions, conversions to 8-bit floats and back, CTC.
#include <algorithm>

#include "lower/text.hpp"
#include "openvino/op/ops.hpp"
#include "openvino/op/util/deformable_convolution_base.hpp"

namespace ai_vmm::cuda {
namespace {

/// Samples the input where the offsets say, one column per output position; then a matrix product per group.
void lower_deformable_convolution(Context& c) {
    const auto& op = c.as<ov::op::util::DeformableConvolutionBase>();
    Builder& b = c.b;
    const Dims in = c.dims(0), weights = c.dims(2), out = c.out_dims();
    const std::int64_t groups = op.get_group(), deformable_groups = op.get_deformable_group();
    const std::int64_t kernel[2] = {weights[2], weights[3]}, taps = kernel[0] * kernel[1];
    bool pad = false;
    if (c.is<ov::op::v8::DeformableConvolution>()) pad = c.as<ov::op::v8::DeformableConvolution>().get_bilinear_interpolation_pad();
    const Type type = c.type(0), wide = type == Type::f64 ? Type::f64 : Type::f32;
    const std::string acc(to_string(wide)), f = suffix(wide);

    std::string body = fmt::format("const idx offset = (i1 / (idx){} * (idx){} + i2) * 2; ", in[1] / deformable_groups, taps);
    for (int d = 0; d < 2; ++d) {
        const auto at = static_cast<std::size_t>(d);
        const char* name = d == 0 ? "y" : "x";
        const std::int64_t size = in[at + 2];
        body +=
            fmt::format("const {0} {1} = ({0})(i{2} * (idx){3} + i2 {4} (idx){5} * (idx){6} - (idx){7}) + ({0})in1(i0, offset + {8}, i3, i4); ", acc,
                        name, d + 3, op.get_strides()[at], d == 0 ? "/" : "%", kernel[1], op.get_dilations()[at], op.get_pads_begin()[at], d);
        body += fmt::format("if (!({0} {1} && {0} < {2})) return 0; ", name, pad ? "> -1" : ">= 0", literal(wide, static_cast<double>(size)));
        body += fmt::format(
            "const idx {0}low = (idx)floor{1}({0}), {0}high = {2}; const {3} {0}part = {0} - ({3}){0}low; ", name, f,
            pad ? fmt::format("{}low + 1", name) : fmt::format("(idx)ceil{0}({1}) < (idx){2} ? (idx)ceil{0}({1}) : (idx){2}", f, name, size - 1),
            acc);
    }
    // Positions from -1 to the size have neighbours outside, which are 0.
    body += fmt::format("{} sum = 0; ", acc);
    for (const char* y : {"low", "high"}) {
        for (const char* x : {"low", "high"}) {
            const auto weight = [](const char* name, const char* end) {
                return end[0] == 'l' ? fmt::format("(1 - {}part)", name) : fmt::format("{}part", name);
            };
            body += fmt::format("if (y{0} >= 0 && y{0} < (idx){2} && x{1} >= 0 && x{1} < (idx){3}) sum += {4} * {5} * ({6})in0(i0, i1, y{0}, x{1}); ",
                                y, x, in[2], in[3], weight("y", y), weight("x", x), acc);
        }
    }
    std::vector<ValueId> inputs{c.in(0), c.in(1)};
    if (c.inputs() > 3) inputs.push_back(c.in(3));
    body += c.inputs() > 3 ? fmt::format("return sum * ({})in2(i0, offset / 2, i3, i4);", acc) : "return sum;";
    ValueId columns = b.compute(type, {in[0], in[1], taps, out[2], out[3]}, inputs, {"DeformableColumns", body, 60, {4, 2, 1}, {}});

    // (N, groups, …): both operands flattened to one batch of matrices.
    MatmulSpec spec;
    spec.batch = in[0] * groups;
    spec.m = out[1] / groups;
    spec.k = in[1] / groups * taps;
    spec.n = out[2] * out[3];
    spec.type = spec.result = type;
    columns = b.reshape(columns, {spec.batch, spec.k, spec.n});
    ValueId filters = b.reshape(c.in(2), {1, groups, spec.m, spec.k});
    if (groups != 1 && in[0] != 1) filters = b.broadcast(filters, {in[0], groups, spec.m, spec.k});
    filters = b.reshape(filters, {groups == 1 ? 1 : spec.batch, spec.m, spec.k});
    c.set(0, b.reshape(b.matmul(filters, columns, spec), out));
}

/// Each product is 1 where input and filter bit are equal, else -1.
void lower_binary_convolution(Context& c) {
    const auto& op = c.as<ov::op::v1::BinaryConvolution>();
    const Dims in = c.dims(0), filters = c.dims(1);
    const std::size_t spatial = in.size() - 2;
    std::string body = fmt::format("i64 sum = 0; for (idx c = 0; c < (idx){}; ++c) {{ ", in[1]), close = "} ", inside = "1";
    std::vector<std::string> at{"i0", "c"}, tap{"i1", "c"};
    double taps = static_cast<double>(in[1]);
    for (std::size_t d = 0; d < spatial; ++d) {
        body += fmt::format("for (idx k{0} = 0; k{0} < (idx){1}; ++k{0}) {{ const idx x{0} = i{2} * (idx){3} + k{0} * (idx){4} - (idx)({5}); ", d,
                            filters[d + 2], d + 2, op.get_strides()[d], op.get_dilations()[d], op.get_pads_begin()[d]);
        inside += fmt::format(" && x{0} >= 0 && x{0} < (idx){1}", d, in[d + 2]);
        at.push_back(fmt::format("x{}", d));
        tap.push_back(fmt::format("k{}", d));
        close += "} ";
        taps *= static_cast<double>(filters[d + 2]);
    }
    body += fmt::format("const IN0_T x = {} ? {} : (IN0_T){}; sum += x == (IN0_T){} ? 1 : -1; {}return sum;", inside, read(0, at),
                        literal(is_float(c.type(0)) ? c.type(0) : Type::f32, op.get_pad_value()), read(1, tap), close);
    c.set(0, c.b.compute(c.out_type(), c.out_dims(), {c.in(0), c.in(1)},
                         {"BinaryConvolution", body, static_cast<int>(std::min(3 * taps, 1e6)), {taps, taps}, {}}));
}

/// Through the 8-bit type's values, the largest of which stands for all beyond.
void lower_fake_convert(Context& c) {
    const auto& op = c.as<ov::op::v13::FakeConvert>();
    const Type type = c.type(0), to = *from_openvino(op.get_destination_element_type());
    const std::string largest = literal(Type::f32, to == Type::f8e4m3 ? 448 : 57344);
    std::vector<ValueId> before{c.in(0), c.in(1)}, after{-1, c.in(1)};
    const bool shift = c.inputs() > 2;
    if (shift) {
        before.push_back(c.in(2));
        after.push_back(c.in(2));
    }
    // Rounded by hand: between two nodes of one kernel values stay f32.
    after[0] = c.b.pointwise("FakeConvert", Type::f32, before, shift ? "from_f16(to_f16(timesf(a, b) - c))" : "from_f16(to_f16(a * b))", 8);
    const std::string rounded = fmt::format("from_{0}(to_{0}(a > {1} ? {1} : a < -{1} ? -{1} : a))", to_string(to), largest);
    c.set(0, c.b.pointwise("FakeConvert", type, after, shift ? fmt::format("({} + c) / b", rounded) : fmt::format("{} / b", rounded), 16));
}

/// Negative logarithm of the probability of all alignments (Graves et al. 2006), one thread per sequence.
void lower_ctc_loss(Context& c) {
    const auto& op = c.as<ov::op::v4::CTCLoss>();
    const Dims in = c.dims(0);
    const std::int64_t batch = in[0], steps = in[1], classes = in[2], states = 2 * steps + 1;
    std::vector<ValueId> inputs{c.in(0), c.in(1), c.in(2), c.in(3)};
    std::string blank = fmt::format("(idx){}", classes - 1);
    if (c.inputs() > 4) {
        inputs.push_back(c.in(4));
        blank = c.rank(4) == 0 ? "(idx)in4()" : "(idx)in4(0)";
    }
    const std::string functions =
        "FUNCTION f64 @_ctc_sum(f64 x, f64 y) { if (x < y) { const f64 z = x; x = y; y = z; } if (isinf(y)) return x; return x + log1p(exp(y - x)); "
        "}\n";
    // Output 1: logarithm of the sum of exponentials per step; 2: labels to align; 3: logarithms of the states' probabilities.
    const std::string normalizer = fmt::format(
        "const idx n = (idx)(t / {0}), step = (idx)(t % {0}); f64 most = -F64_INFINITY, sum = 0; "
        "for (idx k = 0; k < (idx){1}; ++k) {{ const f64 x = in0(n, step, k); if (x > most) most = x; }} "
        "for (idx k = 0; k < (idx){1}; ++k) sum += exp((f64)in0(n, step, k) - most); out1(most + log(sum), n, step);",
        steps, classes);
    std::string labels =
        "const idx n = (idx)t, all = (idx)in3(n), length = (idx)in1(n); idx count = 0; for (idx k = 0; k < all; ++k) { "
        "const i64 label = (i64)in2(n, k); int keep = 1; ";
    if (op.get_unique()) {
        labels += "for (idx j = 0; j < count; ++j) if (get2(n, j) == label) keep = 0; ";
    } else if (op.get_preprocess_collapse_repeated()) {
        labels += "if (count > 0 && get2(n, count - 1) == label) keep = 0; ";
    }
    labels += "if (keep) { out2(label, n, count); ++count; } } ";
    // Even states are blanks, odd ones labels. Later states first: each reads what the step before left.
    const bool merge = op.get_ctc_merge_repeated();
    const std::string align = fmt::format(
        "for (idx s = 0; s < 2 * count + 1; ++s) out3(s == 0 ? 0.0 : -F64_INFINITY, n, s); "
        "for (idx step = 0; step < length; ++step) for (idx s = 2 * count; s >= 0; --s) {{ "
        "const idx label = s % 2 == 1 ? (idx)get2(n, s / 2) : {0}; f64 x = -F64_INFINITY; "
        // At the first step only the first blank and the first label can be reached.
        "if (s % 2 == 0 || {1}) {{ if (step > 0 || s == 0) x = get3(n, s); }} "
        "if (s > 0 && (step > 0 || s == 1)) x = @_ctc_sum(x, get3(n, s - 1)); "
        "if (s > 1 && s % 2 == 1 && step > 0 && ({2} || get2(n, s / 2) != get2(n, s / 2 - 1))) x = @_ctc_sum(x, get3(n, s - 2)); "
        "out3(x + (f64)in0(n, step, label) - get1(n, step), n, s); }} "
        "f64 total = get3(n, 2 * count); if (count > 0) total = @_ctc_sum(total, get3(n, 2 * count - 1)); out0(-total, n);",
        blank, merge ? "1" : "0", merge ? "0" : "1");
    c.set(0, c.b.custom({{c.out_type(), c.out_dims()}, {Type::f64, {batch, steps}}, {Type::i64, {batch, steps}}, {Type::f64, {batch, states}}},
                        inputs, {"CTCLoss", {{batch * steps, normalizer}, {batch, labels + align}}, functions})
                 .front());
}

}  // namespace

void add_neural(Table& t) {
    t["DeformableConvolution"] = lower_deformable_convolution;
    t["BinaryConvolution"] = lower_binary_convolution;
    t["FakeConvert"] = lower_fake_convert;
    t["CTCLoss"] = lower_ctc_loss;
}

}  // namespace ai_vmm::cuda
