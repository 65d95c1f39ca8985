// SPDX-License-Identifier: Apache-2.0
/// Maxima and averages over windows.
#include <algorithm>
#include <limits>

#include "lower/text.hpp"
#include "openvino/op/ops.hpp"
#include "openvino/op/util/avg_pool_base.hpp"
#include "openvino/op/util/max_pool_base.hpp"

namespace ai_vmm::cuda {
namespace {

/// Loops over the input elements of a window, one per spatial dimension d (dimension d + 2 of the input), that leave their coordinate in x{d}.
struct Window {
    std::string open, close;
    double taps = 1;
    bool apart = false;  ///< windows share no element and leave none out
};

template <typename Op>
Window strided_window(const Op& op, const Dims& in, const Dims& out, const ov::Strides& dilations) {
    Window window;
    window.apart = true;
    for (std::size_t d = 0; d < op.get_kernel().size(); ++d) {
        const auto kernel = static_cast<std::int64_t>(op.get_kernel()[d]), stride = static_cast<std::int64_t>(op.get_strides()[d]);
        const auto dilation = d < dilations.size() ? static_cast<std::int64_t>(dilations[d]) : 1;
        const auto pad = static_cast<std::int64_t>(op.get_pads_begin()[d]);
        // Reads that no branch stands before are on their way together.
        const bool before = pad > 0, behind = (out[d + 2] - 1) * stride + (kernel - 1) * dilation - pad >= in[d + 2];
        if (kernel <= 8) window.open += "UNROLL ";
        window.open += fmt::format("for (idx k{0} = 0; k{0} < (idx){1}; ++k{0}) {{ const idx x{0} = i{2} * (idx){3} + k{0} * (idx){4} - (idx){5}; ",
                                   d, kernel, d + 2, stride, dilation, pad);
        if (before || behind)
            window.open += fmt::format("if ({}{}{}) continue; ", before ? fmt::format("x{} < 0", d) : "", before && behind ? " || " : "",
                                       behind ? fmt::format("x{} >= (idx){}", d, in[d + 2]) : "");
        window.close += "} ";
        window.taps *= static_cast<double>(op.get_kernel()[d]);
        window.apart = window.apart && kernel == stride && dilation == 1 && pad == 0 && out[d + 2] * stride == in[d + 2];
    }
    return window;
}

/// Output o of a dimension covers floor(o * in / out) up to ceil((o + 1) * in / out).
Window adaptive_window(const Dims& in, const Dims& out) {
    Window window;
    for (std::size_t d = 0; d + 2 < in.size(); ++d) {
        window.open += fmt::format(
            "const idx b{0} = (idx)((i64)i{1} * {2}ll / {3}ll), e{0} = (idx)((((i64)i{1} + 1) * {2}ll + {4}ll) / {3}ll); "
            "for (idx x{0} = b{0}; x{0} < e{0}; ++x{0}) {{ ",
            d, d + 2, in[d + 2], out[d + 2], out[d + 2] - 1);
        window.close += "} ";
        window.taps *= static_cast<double>(in[d + 2]) / static_cast<double>(out[d + 2]) + 1;
    }
    return window;
}

/// The window's element.
std::string tap(std::size_t spatial) {
    std::vector<std::string> at{"i0", "i1"};
    for (std::size_t d = 0; d < spatial; ++d) at.push_back(fmt::format("x{}", d));
    return read(0, at);
}

Compute windowed(const char* op, const Window& window, std::string body, std::string across = {}) {
    return {op, std::move(body), static_cast<int>(std::min(2 * window.taps, 1e6)), {window.taps}, {}, {}, std::move(across), false, window.apart};
}

double lowest(Type type) {
    switch (type) {
        case Type::f64: return std::numeric_limits<double>::lowest();
        case Type::f16: return -65504;
        case Type::f8e4m3: return -448;
        case Type::f8e5m2: return -57344;
        case Type::f32: return std::numeric_limits<float>::lowest();
        case Type::bf16: return -0x1.fep127;  // the lowest f32 would round to an infinity
        default: return is_signed(type) ? -std::ldexp(1.0, bits(type) - 1) : 0;
    }
}

/// The first of the largest elements, and where it lies in the dimensions from `axis` on. A window without elements has the type's lowest value.
void maxima(Context& c, const Window& window, const char* op, std::size_t axis, bool indices) {
    const Dims in = c.dims(0);
    const std::size_t spatial = in.size() - 2;
    // IN0_T: what elements are computed in.
    const std::string search =
        fmt::format("int any = 0; IN0_T best = {}; i64 where = 0; {}const IN0_T x = {}; if (!any || x > best) {{ best = x; any = 1; ",
                    literal(c.type(0), lowest(c.type(0))), window.open, tap(spatial));
    const std::string across = fmt::format(
        "int any = 0; VECTOR best = FILLED({}); {}const VECTOR x = {}; EACH best.v[u] = !any || x.v[u] > best.v[u] ? x.v[u] : best.v[u]; any = 1; "
        "{}return best;",
        literal(c.type(0), lowest(c.type(0))), window.open, tap(spatial), window.close);
    c.set(0, c.b.compute(c.out_type(), c.out_dims(), {c.in(0)},
                         windowed(op, window, search + "} " + window.close + "(void)where; return best;", across)));
    if (!indices) return;
    std::string at = "0", coordinate = "0ll";
    const Dims strides = row_major_strides(in);
    for (std::size_t d = axis; d < in.size(); ++d)
        coordinate += d < 2 ? fmt::format(" + (i64)i{} * {}ll", d, strides[d]) : fmt::format(" + (i64)x{} * {}ll", d - 2, strides[d]);
    c.set(1, c.b.compute(c.out_type(1), c.out_dims(1), {c.in(0)},
                         windowed(op, window, search + "where = " + coordinate + "; } " + window.close + "return where;")));
}

void lower_max_pool(Context& c) {
    ov::Strides dilations;
    std::int64_t axis = 0;
    if (c.is<ov::op::v8::MaxPool>()) {
        dilations = c.as<ov::op::v8::MaxPool>().get_dilations();
        axis = c.as<ov::op::v8::MaxPool>().get_axis();
    } else if (c.is<ov::op::v14::MaxPool>()) {
        dilations = c.as<ov::op::v14::MaxPool>().get_dilations();
        axis = c.as<ov::op::v14::MaxPool>().get_axis();
    }
    const auto& op = c.as<ov::op::util::MaxPoolBase>();
    maxima(c, strided_window(op, c.dims(0), c.out_dims(), dilations), "MaxPool", static_cast<std::size_t>(c.axis(axis, c.rank(0))),
           c.node().get_output_size() > 1);
}

/// Integers: rounded to the nearest, ties to even.
void averages(Context& c, const Window& window, const char* op, const std::string& count) {
    const Type type = c.type(0);
    const std::string acc(to_string(accumulator(type)));
    std::string body = fmt::format("{} sum = 0; i64 n = 0; {}sum += {}; ++n; {}", acc, window.open, tap(c.dims(0).size() - 2), window.close);
    if (!count.empty()) body += fmt::format("n = {}; ", count);
    body += is_float(type) ? fmt::format("return n == 0 ? 0 : sum / ({})n;", acc) : "return n == 0 ? 0 : (i64)rint((f64)sum / (f64)n);";
    std::string across;
    if (is_float(type) && type != Type::f64) {
        across = fmt::format("VECTOR sum = FILLED(0); i64 n = 0; {}const VECTOR x = {}; EACH sum.v[u] += x.v[u]; ++n; {}", window.open,
                             tap(c.dims(0).size() - 2), window.close);
        if (!count.empty()) across += fmt::format("n = {}; ", count);
        across += "EACH sum.v[u] = n == 0 ? 0 : sum.v[u] / (f32)n; return sum;";
    }
    c.set(0, c.b.compute(c.out_type(), c.out_dims(), {c.in(0)}, windowed(op, window, body, std::move(across))));
}

void lower_avg_pool(Context& c) {
    ov::Strides dilations;
    if (c.is<ov::op::v16::AvgPool>()) dilations = c.as<ov::op::v16::AvgPool>().get_dilations();
    const auto& op = c.as<ov::op::util::AvgPoolBase>();
    const Window window = strided_window(op, c.dims(0), c.out_dims(), dilations);
    const auto any = [](const ov::Shape& pads) { return std::any_of(pads.begin(), pads.end(), [](std::size_t pad) { return pad != 0; }); };
    // Where padding counts, it counts in every window, also beyond what the padding covers.
    const bool whole = !op.get_exclude_pad() && (any(op.get_pads_begin()) || any(op.get_pads_end()));
    averages(c, window, "AvgPool", whole ? fmt::format("{}", static_cast<std::int64_t>(window.taps)) : "");
}

void lower_adaptive_avg_pool(Context& c) { averages(c, adaptive_window(c.dims(0), c.out_dims()), "AdaptiveAvgPool", ""); }

void lower_adaptive_max_pool(Context& c) { maxima(c, adaptive_window(c.dims(0), c.out_dims()), "AdaptiveMaxPool", 2, true); }

}  // namespace

void add_pooling(Table& t) {
    t["MaxPool"] = lower_max_pool;
    t["AvgPool"] = lower_avg_pool;
    t["AdaptiveAvgPool"] = lower_adaptive_avg_pool;
    t["AdaptiveMaxPool"] = lower_adaptive_max_pool;
}

}  // namespace ai_vmm::cuda
