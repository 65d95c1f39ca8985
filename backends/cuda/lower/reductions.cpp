// SPDX-License-Identifier: Apache-2.0
/// Reductions, softmax and normalisations over rows.
#include <algorithm>
#include <cmath>
#include <set>

#include "lower/text.hpp"
#include "openvino/op/ops.hpp"

namespace ai_vmm::cuda {
namespace {

using Combine = Rowwise::Combine;

/// Ascending, each once.
std::vector<int> ascending(Context& c, const std::vector<std::int64_t>& axes) {
    std::set<int> all;
    for (std::int64_t axis : axes) all.insert(c.axis(axis, c.rank(0)));
    return {all.begin(), all.end()};
}

std::int64_t count_along(const Dims& dims, const std::vector<int>& axes) {
    std::int64_t count = 1;
    for (int axis : axes) count *= dims[static_cast<std::size_t>(axis)];
    return count;
}

std::string number(Context& c, double value) { return literal(accumulator(c.type(0)), value); }

/// Reduces input 0 over the axes of input 1. `of` reads the element as x, `result` the reduction as s0. `identity`: of an empty reduction.
void reduce(Context& c, Combine combine, const std::string& of, const std::string& result, double identity) {
    const std::vector<int> axes = ascending(c, c.need_integers(1));
    if (axes.empty() && of == "x") return c.set(0, c.in(0));
    const Dims dims = c.dims(0);
    if (elements(dims) == 0) return c.set(0, filled(c.b, c.out_type(), c.out_dims(), identity));
    const std::string body = fmt::format("const IN0_T x = {}; return {};", element(c.rank(0)), of);
    Rowwise what{c.node().get_type_name(), dims, axes, accumulator(c.type(0)), {{combine, body, ""}}, "return " + result + ";", true, 4, {}};
    c.set(0, c.b.reshape(c.b.rowwise(c.out_type(), {c.in(0)}, std::move(what)), c.out_dims()));
}

/// The identity of max (sign -1) and min (1) in an element type.
double extreme(Type type, int sign) {
    if (is_float(type)) return sign * INFINITY;
    if (type == Type::boolean) return sign > 0 ? 1 : 0;
    const double half = std::ldexp(1.0, bits(type) - 1);
    if (!is_signed(type)) return sign < 0 ? 0 : 2 * half - 1;
    return sign < 0 ? -half : half - 1;
}

void lower_reduce_mean(Context& c) {
    const std::int64_t count = count_along(c.dims(0), ascending(c, c.need_integers(1)));
    reduce(c, Combine::sum, "x", fmt::format("s0 / {}", number(c, static_cast<double>(std::max<std::int64_t>(count, 1)))),
           is_float(c.type(0)) ? NAN : 0);
}

void lower_reduce_l2(Context& c) {
    const Type type = c.type(0);
    reduce(c, Combine::sum, fmt::format("({0})x * ({0})x", to_string(accumulator(type))),
           is_float(type) ? fmt::format("sqrt{}(s0)", suffix(type)) : "(i64)sqrt((f64)s0)", 0);
}

void lower_softmax(Context& c) {
    std::int64_t axis = 0;
    const bool logarithm = c.is<ov::op::v5::LogSoftmax>();
    if (logarithm) {
        axis = c.as<ov::op::v5::LogSoftmax>().get_axis();
    } else if (c.is<ov::op::v1::Softmax>()) {
        axis = static_cast<std::int64_t>(c.as<ov::op::v1::Softmax>().get_axis());
    } else {
        axis = c.as<ov::op::v8::Softmax>().get_axis();
    }
    const int rank = c.rank(0);
    const std::string x = element(rank), f = suffix(c.type(0));
    Rowwise what{logarithm ? "LogSoftmax" : "Softmax",
                 c.dims(0),
                 {c.axis(axis, rank)},
                 accumulator(c.type(0)),
                 {{Combine::max, "return " + x + ";", ""}, {Combine::sum, fmt::format("return exp{}({} - s0);", f, x), ""}},
                 logarithm ? fmt::format("return {} - s0 - log{}(s1);", x, f) : fmt::format("return exp{}({} - s0) / s1;", f, x),
                 false,
                 12,
                 {}};
    if (rank == 0) what.axes.clear();
    c.set(0, c.b.rowwise(c.out_type(), {c.in(0)}, std::move(what)));
}

/// (x - mean) / sqrt(variance + eps), or mean alone.
void lower_mvn(Context& c) {
    std::vector<int> axes;
    bool variance = true, inside = true;
    double eps = 0;
    if (c.is<ov::op::v6::MVN>()) {
        const auto& op = c.as<ov::op::v6::MVN>();
        axes = ascending(c, c.need_integers(1));
        variance = op.get_normalize_variance();
        eps = static_cast<double>(op.get_eps());
        inside = op.get_eps_mode() == ov::op::MVNEpsMode::INSIDE_SQRT;
    } else {
        const auto& op = c.as<ov::op::v0::MVN>();
        for (std::size_t axis : op.get_reduction_axes()) axes.push_back(static_cast<int>(axis));
        variance = op.get_normalize_variance();
        eps = op.get_eps();
    }
    const std::string x = element(c.rank(0)), f = suffix(c.type(0));
    const std::string count = number(c, static_cast<double>(count_along(c.dims(0), axes)));
    Rowwise what{"MVN", c.dims(0), axes, accumulator(c.type(0)), {{Combine::sum, "return " + x + ";", "s / " + count}}, "", false, 8, {}};
    if (variance) {
        const std::string scale = inside ? fmt::format("1 / sqrt{}(s / {} + {})", f, count, number(c, eps))
                                         : fmt::format("1 / (sqrt{}(s / {}) + {})", f, count, number(c, eps));
        what.stages.push_back({Combine::sum, fmt::format("return ({0} - s0) * ({0} - s0);", x), scale});
    }
    what.result = fmt::format("return ({} - s0){};", x, variance ? " * s1" : "");
    c.set(0, c.b.rowwise(c.out_type(), {c.in(0)}, std::move(what)));
}

/// x over the square root of the sum of squares along `axes`, with eps added or as the least.
void normalize(Context& c, const std::vector<int>& axes, const std::string& finish) {
    const std::string x = element(c.rank(0));
    Rowwise what{c.node().get_type_name(),
                 c.dims(0),
                 axes,
                 accumulator(c.type(0)),
                 {{Combine::sum, fmt::format("return {0} * {0};", x), finish}},
                 fmt::format("return {} / sqrt{}(s0);", x, suffix(c.type(0))),
                 false,
                 6,
                 {}};
    c.set(0, c.b.rowwise(c.out_type(), {c.in(0)}, std::move(what)));
}

void lower_normalize_l2(Context& c) {
    const auto& op = c.as<ov::op::v0::NormalizeL2>();
    const std::string eps = number(c, static_cast<double>(op.get_eps()));
    normalize(c, ascending(c, c.need_integers(1)),
              op.get_eps_mode() == ov::op::EpsMode::ADD ? "s + " + eps : fmt::format("(s > {0} ? s : {0})", eps));
}

void lower_grn(Context& c) { normalize(c, {1}, "s + " + number(c, static_cast<double>(c.as<ov::op::v0::GRN>().get_bias()))); }

/// x / (bias + alpha / size^axes * sum of squares in the window around x)^beta
void lower_lrn(Context& c) {
    const auto& op = c.as<ov::op::v0::LRN>();
    const std::vector<int> axes = ascending(c, c.need_integers(1));
    const auto size = static_cast<std::int64_t>(op.get_nsize());
    std::string body = fmt::format("{} sum = 0; ", to_string(accumulator(c.type(0)))), close;
    auto at = coordinates(c.rank(0));
    double reads = 1;
    for (int axis : axes) {
        body += fmt::format("for (idx w{0} = i{0} - (idx){1}; w{0} <= i{0} + (idx){1}; ++w{0}) {{ if (w{0} < 0 || w{0} >= (idx){2}) continue; ", axis,
                            (size - 1) / 2, c.dims(0)[static_cast<std::size_t>(axis)]);
        at[static_cast<std::size_t>(axis)] = fmt::format("w{}", axis);
        close += "}";
        reads *= static_cast<double>(size);
    }
    body += fmt::format("const IN0_T x = {}; sum += x * x; {} return {} / pow{}({} + {} * sum, {});", read(0, at), close, element(c.rank(0)),
                        suffix(c.type(0)), number(c, op.get_bias()), number(c, op.get_alpha() / reads), number(c, op.get_beta()));
    c.set(0, c.b.compute(c.out_type(), c.out_dims(), {c.in(0)}, {"LRN", body, static_cast<int>(std::min(30 + 3 * reads, 1e6)), {reads + 1}, {}}));
}

void lower_group_normalization(Context& c) {
    const auto& op = c.as<ov::op::v12::GroupNormalization>();
    const Dims in = c.dims(0);
    const std::int64_t groups = op.get_num_groups(), channels = in[1] / groups;
    Dims split{in[0], groups, channels};
    split.insert(split.end(), in.begin() + 2, in.end());
    std::vector<int> axes;
    for (int d = 2; d < static_cast<int>(split.size()); ++d) axes.push_back(d);
    const std::string x = element(static_cast<int>(split.size())), count = number(c, static_cast<double>(count_along(split, axes)));
    Rowwise what{"GroupNormalization",
                 split,
                 axes,
                 accumulator(c.type(0)),
                 {{Combine::sum, "return " + x + ";", "s / " + count},
                  {Combine::sum, fmt::format("return ({0} - s0) * ({0} - s0);", x),
                   fmt::format("1 / sqrt{}(s / {} + {})", suffix(c.type(0)), count, number(c, op.get_epsilon()))}},
                 fmt::format("const idx k = i1 * (idx){} + i2; return ({} - s0) * s1 * in1(k) + in2(k);", channels, x),
                 false,
                 10,
                 {}};
    const ValueId data = c.b.reshape(c.in(0), split);
    c.set(0, c.b.reshape(c.b.rowwise(c.out_type(), {data, c.in(1), c.in(2)}, std::move(what)), in));
}

void lower_batch_norm(Context& c) {
    const bool old = c.is<ov::op::v0::BatchNormInference>();
    const double eps = old ? c.as<ov::op::v0::BatchNormInference>().get_eps_value() : c.as<ov::op::v5::BatchNormInference>().get_eps_value();
    const int x = old ? 2 : 0, gamma = old ? 0 : 1, beta = old ? 1 : 2;
    c.set(0, c.b.compute(c.out_type(), c.out_dims(), {c.in(x), c.in(gamma), c.in(beta), c.in(3), c.in(4)},
                         {"BatchNorm",
                          fmt::format("return ({} - in3(i1)) / sqrt{}(in4(i1) + {}) * in1(i1) + in2(i1);", element(c.rank(x)), suffix(c.type(x)),
                                      literal(accumulator(c.type(x)), eps)),
                          8,
                          {},
                          {}}));
}

}  // namespace

void add_reductions(Table& t) {
    t["ReduceSum"] = [](Context& c) { reduce(c, Combine::sum, "x", "s0", 0); };
    t["ReduceProd"] = [](Context& c) { reduce(c, Combine::product, "x", "s0", 1); };
    t["ReduceMax"] = [](Context& c) { reduce(c, Combine::max, "x", "s0", extreme(c.type(0), -1)); };
    t["ReduceMin"] = [](Context& c) { reduce(c, Combine::min, "x", "s0", extreme(c.type(0), 1)); };
    t["ReduceMean"] = lower_reduce_mean;
    t["ReduceLogicalAnd"] = [](Context& c) { reduce(c, Combine::min, "x != 0", "s0 != 0", 1); };
    t["ReduceLogicalOr"] = [](Context& c) { reduce(c, Combine::max, "x != 0", "s0 > 0", 0); };
    t["ReduceL1"] = [](Context& c) { reduce(c, Combine::sum, is_signed(c.type(0)) ? "x < 0 ? -x : x" : "x", "s0", 0); };
    t["ReduceL2"] = lower_reduce_l2;
    t["Softmax"] = t["LogSoftmax"] = lower_softmax;
    t["MVN"] = lower_mvn;
    t["NormalizeL2"] = lower_normalize_l2;
    t["GRN"] = lower_grn;
    t["LRN"] = lower_lrn;
    t["GroupNormalization"] = lower_group_normalization;
    t["BatchNormInference"] = lower_batch_norm;
}

}  // namespace ai_vmm::cuda
