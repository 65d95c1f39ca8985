// SPDX-License-Identifier: Apache-2.0
/// Reductions, softmax and normalisations over rows.
#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "lower/context.hpp"
#include "openvino/op/ops.hpp"

namespace ai_vmm::cuda {
namespace {

/// "in0(i0, i1, …)" of a space of `rank` dimensions.
std::string element(int rank, int input = 0) {
    std::string text = fmt::format("in{}(", input);
    for (int d = 0; d < rank; ++d) text += fmt::format("{}i{}", d == 0 ? "" : ", ", d);
    return text + ")";
}

Type accumulator(Type type) { return type == Type::f64 ? Type::f64 : is_float(type) ? Type::f32 : Type::i64; }

/// Reduces input 0 over the axes of input 1.
void reduce(Context& c, Rowwise::Combine combine, const std::string& of, const std::string& finish, const std::string& result) {
    const Dims dims = c.dims(0);
    std::set<int> axes;
    for (std::int64_t axis : c.need_integers(1)) axes.insert(c.axis(axis, c.rank(0)));
    if (axes.empty()) {
        // Nothing is reduced, but each element goes through the formula.
        axes = {};
    }
    Rowwise what{c.node().get_type_name(),
                 dims,
                 {axes.begin(), axes.end()},
                 accumulator(c.type(0)),
                 {{combine, "return " + of + ";", finish}},
                 "return " + result + ";",
                 true,
                 4};
    c.set(0, c.b.reshape(c.b.rowwise(c.out_type(), {c.in(0)}, std::move(what)), c.out_dims()));
}

void lower_softmax(Context& c) {
    std::int64_t axis = 0;
    if (c.is<ov::op::v1::Softmax>()) {
        axis = static_cast<std::int64_t>(c.as<ov::op::v1::Softmax>().get_axis());
    } else {
        axis = c.as<ov::op::v8::Softmax>().get_axis();
    }
    const int rank = c.rank(0);
    const std::string x = element(rank), f = c.type(0) == Type::f64 ? "" : "f";
    Rowwise what{"Softmax",
                 c.dims(0),
                 {c.axis(axis, rank)},
                 accumulator(c.type(0)),
                 {{Rowwise::Combine::max, "return " + x + ";", ""}, {Rowwise::Combine::sum, fmt::format("return exp{}({} - s0);", f, x), ""}},
                 fmt::format("return exp{}({} - s0) / s1;", f, x),
                 false,
                 12};
    c.set(0, c.b.rowwise(c.out_type(), {c.in(0)}, std::move(what)));
}

std::int64_t reduced_count(Context& c) {
    std::int64_t count = 1;
    std::set<int> axes;
    for (std::int64_t axis : c.need_integers(1)) axes.insert(c.axis(axis, c.rank(0)));
    for (int axis : axes) count *= c.dims(0)[static_cast<std::size_t>(axis)];
    return count;
}

}  // namespace

void add_reductions(Table& t) {
    using Combine = Rowwise::Combine;
    t["ReduceSum"] = [](Context& c) { reduce(c, Combine::sum, element(c.rank(0)), "", "s0"); };
    t["ReduceProd"] = [](Context& c) { reduce(c, Combine::product, element(c.rank(0)), "", "s0"); };
    t["ReduceMax"] = [](Context& c) { reduce(c, Combine::max, element(c.rank(0)), "", "s0"); };
    t["ReduceMin"] = [](Context& c) { reduce(c, Combine::min, element(c.rank(0)), "", "s0"); };
    t["ReduceMean"] = [](Context& c) {
        reduce(c, Combine::sum, element(c.rank(0)), fmt::format("s / {}", literal(accumulator(c.type(0)), static_cast<double>(reduced_count(c)))),
               "s0");
    };
    t["ReduceLogicalAnd"] = [](Context& c) { reduce(c, Combine::min, element(c.rank(0)), "", "s0 != 0"); };
    t["ReduceLogicalOr"] = [](Context& c) { reduce(c, Combine::max, element(c.rank(0)), "", "s0 > 0"); };
    t["ReduceL1"] = [](Context& c) {
        const std::string x = element(c.rank(0));
        reduce(c, Combine::sum, fmt::format("({0} < 0 ? -{0} : {0})", x), "", "s0");
    };
    t["ReduceL2"] = [](Context& c) {
        const std::string x = element(c.rank(0));
        reduce(c, Combine::sum, fmt::format("{0} * {0}", x), "",
               c.type(0) == Type::f64 ? "sqrt(s0)"
               : is_float(c.type(0))  ? "sqrtf(s0)"
                                      : "(i64)sqrt((f64)s0)");
    };
    t["Softmax"] = lower_softmax;
}

}  // namespace ai_vmm::cuda
