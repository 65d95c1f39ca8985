// SPDX-License-Identifier: Apache-2.0
/// Operations whose positions come from data: gathers, scatters, searches, scans, selection.
#include <algorithm>
#include <cmath>

#include "lower/text.hpp"
#include "lower/top_k.hpp"
#include "openvino/op/ops.hpp"

namespace ai_vmm::cuda {
namespace {

/// "const i64 NAME = index, from the end where negative;"
std::string index(const std::string& name, const std::string& value, std::int64_t size) {
    return fmt::format("i64 {0} = (i64){1}; if ({0} < 0) {0} += {2}ll; ", name, value, size);
}

std::string outside(const std::string& name, std::int64_t size) { return fmt::format("({0} < 0 || {0} >= {1}ll)", name, size); }

void lower_gather(Context& c) {
    const auto axis = static_cast<std::size_t>(c.axis(c.need_integers(2).front(), c.rank(0)));
    std::int64_t batch = 0;
    if (c.is<ov::op::v7::Gather>()) batch = c.as<ov::op::v7::Gather>().get_batch_dims();
    if (c.is<ov::op::v8::Gather>()) batch = c.as<ov::op::v8::Gather>().get_batch_dims();
    const Dims data = c.dims(0), indices = c.dims(1), out = c.out_dims();
    // One known index, or several at equal distances, is a slice.
    if (const auto known = c.integers(1); known && !known->empty() && indices.size() <= 1 && batch == 0) {
        std::vector<std::int64_t> at = *known;
        bool even = true;
        for (std::int64_t& value : at) {
            if (value < 0) value += data[axis];
            even = even && value >= 0 && value < data[axis];
        }
        const std::int64_t step = at.size() > 1 ? at[1] - at[0] : 1;
        for (std::size_t k = 1; k < at.size(); ++k) even = even && at[k] - at[k - 1] == step;
        if (even && step != 0) {
            Dims begin(data.size(), 0), steps(data.size(), 1), part = data;
            begin[axis] = at.front();
            steps[axis] = step;
            part[axis] = static_cast<std::int64_t>(at.size());
            return c.set(0, c.b.reshape(c.b.slice(c.in(0), begin, steps, part), out));
        }
    }
    if (batch < 0) batch += c.rank(1);
    const int own = c.rank(1) - static_cast<int>(batch);
    std::vector<std::string> chosen = coordinates(static_cast<int>(batch)), at = coordinates(static_cast<int>(axis));
    for (int k = 0; k < own; ++k) chosen.push_back(fmt::format("i{}", static_cast<int>(axis) + k));
    at.emplace_back("(idx)at");
    for (std::size_t d = axis + 1; d < data.size(); ++d) at.push_back(fmt::format("i{}", static_cast<int>(d) + own - 1));
    if (data[axis] == 0) return c.set(0, filled(c.b, c.out_type(), out, 0));
    const std::string body =
        index("at", read(1, chosen), data[axis]) + fmt::format("if {} return 0; return {};", outside("at", data[axis]), read(0, at));
    c.set(0, c.b.compute(c.out_type(), out, {c.in(0), c.in(1)}, {"Gather", body, 3, {1, 1}, {}}));
}

void lower_gather_elements(Context& c) {
    const auto axis = static_cast<std::size_t>(c.axis(c.as<ov::op::v6::GatherElements>().get_axis(), c.rank(0)));
    const std::int64_t size = c.dims(0)[axis];
    auto at = coordinates(c.rank(0));
    at[axis] = "(idx)at";
    const std::string body = index("at", element(c.rank(1), 1), size) + fmt::format("if {} return 0; return {};", outside("at", size), read(0, at));
    c.set(0, c.b.compute(c.out_type(), c.out_dims(), {c.in(0), c.in(1)}, {"GatherElements", body, 3, {1, 1}, {}}));
}

void lower_gather_nd(Context& c) {
    const std::size_t batch =
        c.is<ov::op::v8::GatherND>() ? c.as<ov::op::v8::GatherND>().get_batch_dims() : c.as<ov::op::v5::GatherND>().get_batch_dims();
    const Dims data = c.dims(0), indices = c.dims(1);
    const auto depth = static_cast<std::size_t>(indices.back());
    Dims out(indices.begin(), indices.end() - 1);
    const std::size_t lead = out.size();
    out.insert(out.end(), data.begin() + static_cast<std::ptrdiff_t>(batch + depth), data.end());
    auto at = coordinates(static_cast<int>(batch));
    std::string body;
    for (std::size_t k = 0; k < depth; ++k) {
        auto from = coordinates(static_cast<int>(lead));
        from.push_back(std::to_string(k));
        const std::string name = fmt::format("x{}", k);
        body += index(name, read(1, from), data[batch + k]) + fmt::format("if {} return 0; ", outside(name, data[batch + k]));
        at.push_back("(idx)" + name);
    }
    for (std::size_t k = lead; k < out.size(); ++k) at.push_back(fmt::format("i{}", k));
    const ValueId value =
        c.b.compute(c.out_type(), out, {c.in(0), c.in(1)},
                    {"GatherND", body + "return " + read(0, at) + ";", 3 * static_cast<int>(depth), {1, static_cast<double>(depth)}, {}});
    c.set(0, c.b.reshape(value, c.out_dims()));
}

void lower_gather_tree(Context& c) {
    const Dims dims = c.dims(0);
    const std::string end = read(3, std::vector<std::string>(static_cast<std::size_t>(c.rank(3)), "0"));
    // One beam a thread, from its last step to its first; then nothing but the end token after the first one.
    const std::string body = fmt::format(
        "const idx b = (idx)(t / {0}ll), w = (idx)(t % {0}ll); i64 length = (i64)in2(b); if (length > {1}ll) length = {1}ll; "
        "const OUT0_T end = {2}; for (idx s = 0; s < (idx){1}; ++s) out0(end, s, b, w); if (length > 0) {{ "
        "out0(in0((idx)(length - 1), b, w), (idx)(length - 1), b, w); idx parent = (idx)in1((idx)(length - 1), b, w); "
        "for (idx s = (idx)(length - 2); s >= 0; --s) {{ if (parent < 0 || parent >= (idx){0}) break; out0(in0(s, b, parent), s, b, w); parent = "
        "(idx)in1(s, b, parent); }} "
        "int over = 0; for (idx s = 0; s < (idx)length; ++s) {{ if (over) out0(end, s, b, w); else if (get0(s, b, w) == end) over = 1; }} }}",
        dims[2], dims[0], end);
    c.set(0, c.b.custom({{c.out_type(), dims}}, {c.in(0), c.in(1), c.in(2), c.in(3)}, {"GatherTree", {{dims[1] * dims[2], body}}, ""}).front());
}

/// For each place of `places`, the number of the last update that goes there, or -1. `find` computes the coordinates p0, p1, … (i64) and `number`
/// (i32) of update t, with in0(…) for the indices, and skips (goto nothing: `if (…) return;`) what lies outside.
ValueId last_writers(Context& c, const Dims& places, ValueId indices, std::int64_t updates, const std::string& find) {
    const auto at = names("(idx)p", places.size());
    std::vector<std::string> own = names("c", places.size());
    Custom what{"LastWriter", {}, ""};
    what.phases.push_back(
        {elements(places), unravel("c", "t", places) + fmt::format("out0(-1{}{});", own.empty() ? "" : ", ", fmt::join(own, ", "))});
    if (updates > 0) what.phases.push_back({updates, find + fmt::format("ATOMIC_MAX_I32(at0({}), number);", fmt::join(at, ", "))});
    return c.b.custom({{Type::i32, places}}, {indices}, std::move(what)).front();
}

void lower_scatter_update(Context& c) {
    const auto axis = static_cast<std::size_t>(c.axis(c.need_integers(3).front(), c.rank(0)));
    const Dims data = c.dims(0), indices = c.dims(1);
    const std::int64_t count = elements(indices);
    if (count == 0) return c.set(0, c.in(0));
    const ValueId last = last_writers(c, {data[axis]}, c.in(1), count,
                                      unravel("k", "t", indices) + index("p0", read(0, names("k", indices.size())), data[axis]) +
                                          fmt::format("if {} return; const i32 number = (i32)t; ", outside("p0", data[axis])));
    auto at = coordinates(static_cast<int>(axis));
    std::string body = fmt::format("const i64 from = (i64)in2(i{}); if (from < 0) return {}; ", axis, element(c.rank(0)));
    body += unravel("k", "from", indices);
    for (std::size_t d = 0; d < indices.size(); ++d) at.push_back(fmt::format("k{}", d));
    for (std::size_t d = axis + 1; d < data.size(); ++d) at.push_back(fmt::format("i{}", d));
    c.set(0, c.b.compute(c.out_type(), c.out_dims(), {c.in(0), c.in(2), last},
                         {"ScatterUpdate", body + "return " + read(1, at) + ";", 3, {1, 1, 1}, {}}));
}

enum class Fold : std::uint8_t { none, sum, difference, product, least, most, mean };

/// "x with y folded in"
std::string fold_expression(Fold fold, Type type) {
    switch (fold) {
        case Fold::sum:
        case Fold::mean: return type == Type::boolean ? "x || y" : "x + y";
        case Fold::difference: return "x - y";
        case Fold::product: return type == Type::boolean ? "x && y" : "x * y";
        case Fold::least: return "y < x ? y : x";
        case Fold::most: return "y > x ? y : x";
        case Fold::none: break;
    }
    return "y";
}

void scatter_elements(Context& c, Fold fold, bool with_data) {
    const auto axis = static_cast<std::size_t>(c.axis(c.need_integers(3).front(), c.rank(0)));
    const Dims data = c.dims(0), indices = c.dims(1);
    if (elements(indices) == 0) return c.set(0, c.in(0));
    const Type type = c.out_type();
    if (fold == Fold::none) {
        std::string find = unravel("k", "t", indices);
        find += index(fmt::format("p{}", axis), read(0, names("k", data.size())), data[axis]) +
                fmt::format("if {} return; ", outside(fmt::format("p{}", axis), data[axis]));
        for (std::size_t d = 0; d < data.size(); ++d) {
            if (d != axis) find += fmt::format("const idx p{0} = k{0}; ", d);
        }
        find += fmt::format("const i32 number = (i32)k{}; ", axis);
        const ValueId last = last_writers(c, data, c.in(1), elements(indices), find);
        auto from = coordinates(c.rank(0));
        from[axis] = "(idx)from";
        c.set(0, c.b.compute(type, data, {c.in(0), c.in(2), last},
                             {"ScatterElementsUpdate",
                              fmt::format("const i64 from = (i64){}; if (from < 0) return {}; return {};", element(c.rank(0), 2), element(c.rank(0)),
                                          read(1, from)),
                              3,
                              {1, 1, 1},
                              {}}));
        return;
    }
    // A line along the axis has one thread: its updates are folded in their order. The second result counts them.
    Dims lines = indices;
    lines[axis] = 1;
    auto at = names("k", data.size()), from = at;
    at[axis] = "(idx)p";
    from[axis] = "k";
    const Type wide = accumulator(type);
    const std::string target = fmt::format("{}", fmt::join(at, ", "));
    const std::string find = index("p", read(1, from), data[axis]) + fmt::format("if {} continue; ", outside("p", data[axis]));
    const std::string loop = fmt::format("for (idx k = 0; k < (idx){}; ++k) {{ {}", indices[axis], find);
    std::string fold_line = unravel("k", "t", lines);
    fold_line +=
        loop + fmt::format("const {0} y = {1}; const i32 seen = get1({2}); const {0} x = get2({2}); ", to_string(wide), read(2, from), target);
    // Without the data, the first update starts the fold.
    fold_line += with_data ? fmt::format("out2({}, {}); ", fold_expression(fold, type), target)
                           : fmt::format("if (seen == 0) out2(y, {1}); else out2({0}, {1}); ", fold_expression(fold, type), target);
    fold_line += fmt::format("out1(seen + 1, {}); }}", target);
    const std::string all = unravel("k", "t", data), own = fmt::format("{}", fmt::join(names("k", data.size()), ", "));
    std::string value = fmt::format("get2({})", own);
    if (fold == Fold::mean) {
        const int more = with_data ? 1 : 0;
        value = is_float(type) ? fmt::format("get1({0}) == 0 ? get2({0}) : get2({0}) / (get1({0}) + {1})", own, more)
                               : fmt::format("get1({0}) == 0 ? get2({0}) : (i64)floor((f64)get2({0}) / (get1({0}) + {1}))", own, more);
    }
    Custom what{"ScatterElementsUpdate",
                {{elements(data), all + fmt::format("out1(0, {0}); out2(in0({0}), {0});", own)},
                 {elements(lines), fold_line},
                 {elements(data), all + fmt::format("out0({}, {});", value, own)}},
                ""};
    c.set(0, c.b.custom({{type, data}, {Type::i32, data}, {wide, data}}, {c.in(0), c.in(1), c.in(2)}, std::move(what)).front());
}

void lower_scatter_elements(Context& c) {
    Fold fold = Fold::none;
    bool with_data = true;
    if (c.is<ov::op::v12::ScatterElementsUpdate>()) {
        using Reduction = ov::op::v12::ScatterElementsUpdate::Reduction;
        const auto& op = c.as<ov::op::v12::ScatterElementsUpdate>();
        with_data = op.get_use_init_val();
        switch (op.get_reduction()) {
            case Reduction::NONE: break;
            case Reduction::SUM: fold = Fold::sum; break;
            case Reduction::PROD: fold = Fold::product; break;
            case Reduction::MIN: fold = Fold::least; break;
            case Reduction::MAX: fold = Fold::most; break;
            case Reduction::MEAN: fold = Fold::mean; break;
        }
    }
    scatter_elements(c, fold, with_data);
}

void lower_scatter_nd(Context& c) {
    Fold fold = Fold::none;
    if (c.is<ov::op::v15::ScatterNDUpdate>()) {
        using Reduction = ov::op::v15::ScatterNDUpdate::Reduction;
        switch (c.as<ov::op::v15::ScatterNDUpdate>().get_reduction()) {
            case Reduction::NONE: break;
            case Reduction::SUM: fold = Fold::sum; break;
            case Reduction::SUB: fold = Fold::difference; break;
            case Reduction::PROD: fold = Fold::product; break;
            case Reduction::MIN: fold = Fold::least; break;
            case Reduction::MAX: fold = Fold::most; break;
        }
    }
    const Dims data = c.dims(0), indices = c.dims(1);
    const auto depth = static_cast<std::size_t>(indices.back());
    const Dims lead(indices.begin(), indices.end() - 1), places(data.begin(), data.begin() + static_cast<std::ptrdiff_t>(depth)),
        inner(data.begin() + static_cast<std::ptrdiff_t>(depth), data.end());
    const std::int64_t count = elements(lead);
    if (count == 0) return c.set(0, c.in(0));
    const auto position = [&](int input, const std::string& leave) {
        std::string text;
        for (std::size_t d = 0; d < depth; ++d) {
            auto at = names("k", lead.size());
            at.push_back(std::to_string(d));
            const std::string name = fmt::format("p{}", d);
            text += index(name, read(input, at), data[d]) + fmt::format("if {} {}; ", outside(name, data[d]), leave);
        }
        return text;
    };
    if (fold == Fold::none) {
        const ValueId last = last_writers(c, places, c.in(1), count, unravel("k", "t", lead) + position(0, "return") + "const i32 number = (i32)t; ");
        auto at = names("k", lead.size());
        for (std::size_t d = depth; d < data.size(); ++d) at.push_back(fmt::format("i{}", d));
        c.set(0, c.b.compute(c.out_type(), data, {c.in(0), c.in(2), last},
                             {"ScatterNDUpdate",
                              fmt::format("const i64 from = (i64){}; if (from < 0) return {}; {}return {};",
                                          read(2, coordinates(static_cast<int>(depth))), element(c.rank(0)), unravel("k", "from", lead), read(1, at)),
                              4,
                              {1, 1, 1},
                              {}}));
        return;
    }
    // Each thread has one element of the updated slices and folds its updates in their order.
    const Type type = c.out_type(), wide = accumulator(type);
    auto at = names("(idx)p", depth), from = names("k", lead.size());
    for (std::size_t d = 0; d < inner.size(); ++d) {
        at.push_back(fmt::format("j{}", d));
        from.push_back(fmt::format("j{}", d));
    }
    const std::string all = unravel("k", "t", data), own = fmt::format("{}", fmt::join(names("k", data.size()), ", ")),
                      separator = data.empty() ? "" : ", ";
    std::string fold_line =
        unravel("j", "t", inner) + fmt::format("for (i64 u = 0; u < {}ll; ++u) {{ {}{}", count, unravel("k", "u", lead), position(1, "continue"));
    fold_line += fmt::format("const {0} y = {1}, x = get1({2}); out1({3}, {2}); }}", to_string(wide), read(2, from), fmt::join(at, ", "),
                             fold_expression(fold, type));
    Custom what{"ScatterNDUpdate",
                {{elements(data), all + fmt::format("out1(in0({0}), {0});", own)},
                 {elements(inner), fold_line},
                 {elements(data), all + fmt::format("out0(get1({0}), {0});", own)}},
                ""};
    c.set(0, c.b.custom({{type, data}, {wide, data}}, {c.in(0), c.in(1), c.in(2)}, std::move(what)).front());
}

/// Sums table rows: `begin` and `end` (i64) of a bag's entries, `index` of entry e (i64), `weight` or "". `instead`: the row of an empty bag, or "".
void embedding(Context& c, std::vector<ValueId> inputs, const std::string& bounds, const std::string& entry, const std::string& weight, bool mean,
               const std::string& instead, double entries) {
    const Dims out = c.out_dims();
    auto at = coordinates(static_cast<int>(out.size()));
    at[0] = "(idx)row";
    const std::string acc(to_string(accumulator(c.type(0))));
    const std::string row = read(0, at);
    std::string body = bounds;
    if (!instead.empty()) body += fmt::format("if (begin >= end) {{ const i64 row = (i64){}; if (row < 0) return 0; return {}; }} ", instead, row);
    body += fmt::format(
        "{0} sum = 0; for (i64 e = begin; e < end; ++e) {{ i64 row = (i64){1}; if (row < 0) row += {2}ll; if (row < 0 || row >= {2}ll) continue; sum "
        "+= ({0}){3}{4}; }} ",
        acc, entry, c.dims(0)[0], row, weight.empty() ? "" : " * (" + acc + ")" + weight);
    body += mean ? "return end > begin ? sum / (end - begin) : sum;" : "return sum;";
    if (c.dims(0)[0] == 0) return c.set(0, filled(c.b, c.out_type(), out, 0));
    std::vector<double> reads(inputs.size(), entries);
    c.set(0, c.b.compute(c.out_type(), out, std::move(inputs),
                         {c.node().get_type_name(), body, static_cast<int>(8 + 4 * std::min(entries, 1e5)), reads, {}}));
}

std::string one(Context& c, int k, int as) { return read(as, std::vector<std::string>(static_cast<std::size_t>(c.rank(k)), "0")); }

void lower_embedding_offsets(Context& c) {
    bool mean = false;
    if (c.is<ov::op::v15::EmbeddingBagOffsets>()) {
        auto& op = const_cast<ov::op::v15::EmbeddingBagOffsets&>(c.as<ov::op::v15::EmbeddingBagOffsets>());
        mean = op.get_reduction() == ov::op::v15::EmbeddingBagOffsets::Reduction::MEAN;
    }
    const std::int64_t count = c.dims(1)[0], bags = c.dims(2)[0];
    std::vector<ValueId> inputs{c.in(0), c.in(1), c.in(2)};
    for (int k = 3; k < c.inputs(); ++k) inputs.push_back(c.in(k));
    embedding(c, inputs, fmt::format("const i64 begin = (i64)in2(i0), end = i0 + 1 < (idx){} ? (i64)in2(i0 + 1) : {}ll; ", bags, count),
              "in1((idx)e)", c.inputs() > 4 ? "in4((idx)e)" : "", mean, c.inputs() > 3 ? one(c, 3, 3) : "",
              static_cast<double>(count) / static_cast<double>(bags));
}

void lower_embedding_packed(Context& c) {
    bool mean = false;
    if (c.is<ov::op::v15::EmbeddingBagPacked>()) {
        auto& op = const_cast<ov::op::v15::EmbeddingBagPacked&>(c.as<ov::op::v15::EmbeddingBagPacked>());
        mean = op.get_reduction() == ov::op::v15::EmbeddingBagPacked::Reduction::MEAN;
    }
    std::vector<ValueId> inputs{c.in(0), c.in(1)};
    if (c.inputs() > 2) inputs.push_back(c.in(2));
    embedding(c, inputs, fmt::format("const i64 begin = 0, end = {}ll; ", c.dims(1)[1]), "in1(i0, (idx)e)", c.inputs() > 2 ? "in2(i0, (idx)e)" : "",
              mean, "", static_cast<double>(c.dims(1)[1]));
}

/// The first entry of sorted `in{input}` with COMPARISON false, by halving: declares `name`.
std::string search(const std::string& name, const std::string& entry, const std::string& comparison, std::int64_t size) {
    return fmt::format(
        "i64 {0} = 0; {{ i64 top = {1}ll; while ({0} < top) {{ const i64 m = {0} + (top - {0}) / 2; if ({2} {3}) {0} = m + 1; else top = m; }} }} ",
        name, size, entry, comparison);
}

/// Bounds of segment i0 in sorted segment numbers.
std::string segment(int input, std::int64_t size) {
    const std::string entry = fmt::format("(i64)in{}((idx)m)", input);
    return search("begin", entry, "< i0", size) + search("end", entry, "<= i0", size);
}

void lower_embedding_segments(Context& c) {
    const std::int64_t count = c.dims(1)[0];
    std::vector<ValueId> inputs{c.in(0), c.in(1), c.in(2)};
    for (int k = 4; k < c.inputs(); ++k) inputs.push_back(c.in(k));
    embedding(c, inputs, segment(2, count), "in1((idx)e)", c.inputs() > 5 ? "in4((idx)e)" : "", false, c.inputs() > 4 ? one(c, 4, 3) : "",
              static_cast<double>(count) / static_cast<double>(c.out_dims()[0]));
}

void lower_segment_max(Context& c) {
    const Type type = c.type(0);
    const bool lowest = c.as<ov::op::v16::SegmentMax>().get_fill_mode() == ov::op::FillMode::LOWEST;
    std::string least = "0";
    if (lowest) {
        least = is_float(type)    ? literal(accumulator(type), type == Type::f64    ? -1.7976931348623157e308
                                                               : type == Type::f16  ? -65504
                                                               : type == Type::bf16 ? -std::ldexp(255, 120)
                                                                                    : -3.4028234663852886e38)
                : is_signed(type) ? literal(Type::i64, -std::ldexp(1.0, bits(type) - 1))
                                  : "0";
    }
    auto at = coordinates(c.rank(0));
    at[0] = "(idx)begin";
    const std::string first = read(0, at);
    at[0] = "(idx)e";
    const std::int64_t count = c.dims(0)[0];
    const std::string body = segment(1, count) + fmt::format(
                                                     "if (begin >= end) return {}; IN0_T most = {}; for (i64 e = begin + 1; e < end; ++e) {{ const "
                                                     "IN0_T x = {}; if (x > most) most = x; }} return most;",
                                                     least, first, read(0, at));
    if (count == 0) return c.set(0, c.b.compute(type, c.out_dims(), {}, {"Fill", "return " + least + ";", 0, {}, {}}));
    c.set(0, c.b.compute(type, c.out_dims(), {c.in(0), c.in(1)}, {"SegmentMax", body, 20, {1, 8}, {}}));
}

void lower_bucketize(Context& c) {
    // Buckets with their right bound: the first edge >= x; else the first edge > x.
    const bool right = c.as<ov::op::v3::Bucketize>().get_with_right_bound();
    const std::int64_t edges = c.dims(1)[0];
    if (edges == 0) return c.set(0, filled(c.b, c.out_type(), c.out_dims(), 0));
    const std::string body =
        fmt::format("const IN0_T x = {}; ", element(c.rank(0))) + search("at", "in1((idx)m)", right ? "< x" : "<= x", edges) + "return at;";
    c.set(0,
          c.b.compute(c.out_type(), c.out_dims(), {c.in(0), c.in(1)}, {"Bucketize", body, 20, {1, std::log2(static_cast<double>(edges) + 1)}, {}}));
}

void lower_search_sorted(Context& c) {
    const bool right = c.as<ov::op::v15::SearchSorted>().get_right_mode();
    const std::int64_t size = c.dims(0).back();
    auto at = coordinates(c.rank(0));
    at.back() = "(idx)m";
    if (size == 0) return c.set(0, filled(c.b, c.out_type(), c.out_dims(), 0));
    const std::string body =
        fmt::format("const IN1_T x = {}; ", element(c.rank(1), 1)) + search("at", read(0, at), right ? "<= x" : "< x", size) + "return at;";
    c.set(0,
          c.b.compute(c.out_type(), c.out_dims(), {c.in(0), c.in(1)}, {"SearchSorted", body, 20, {std::log2(static_cast<double>(size) + 1), 1}, {}}));
}

/// Lines along the axis in chunks of about the square root of their length: first the chunks' sums, then each chunk from the sums before it.
void lower_cum_sum(Context& c) {
    const auto& op = c.as<ov::op::v0::CumSum>();
    const Dims dims = c.dims(0);
    if (dims.empty()) return c.set(0, op.is_exclusive() ? filled(c.b, c.out_type(), {}, 0) : c.in(0));
    const auto axis = static_cast<std::size_t>(c.axis(c.inputs() > 1 ? c.need_integers(1).front() : 0, c.rank(0)));
    const std::int64_t length = dims[axis];
    Dims lines = dims;
    lines[axis] = 1;
    const std::int64_t rows = elements(lines);
    const bool enough = rows >= 16384 || length <= 16;
    const std::int64_t chunk = enough ? length : std::max<std::int64_t>(8, static_cast<std::int64_t>(std::sqrt(static_cast<double>(length))));
    const std::int64_t chunks = (length + chunk - 1) / chunk;
    const std::string acc(to_string(accumulator(c.type(0))));
    auto at = names("k", dims.size());
    at[axis] = op.is_reverse() ? fmt::format("(idx)({}ll - e)", length - 1) : "(idx)e";
    const std::string data = read(0, at), target = fmt::format("{}", fmt::join(at, ", "));
    const std::string start = fmt::format(
        "const i64 row = t % {0}ll, part = t / {0}ll, begin = part * {1}ll, end = begin + {1}ll < {2}ll ? begin + {1}ll : {2}ll; {3}{4} sum = 0; ",
        rows, chunk, length, unravel("k", "row", lines), acc);
    Custom what{"CumSum", {}, ""};
    if (chunks > 1)
        what.phases.push_back(
            {rows * chunks, start + fmt::format("for (i64 e = begin; e < end; ++e) sum += {}; out1(sum, (idx)part, (idx)row);", data)});
    std::string scan = start;
    if (chunks > 1) scan += "for (idx q = 0; q < (idx)part; ++q) sum += get1(q, (idx)row); ";
    scan += fmt::format("for (i64 e = begin; e < end; ++e) {{ const {} x = {}; ", acc, data);
    scan += op.is_exclusive() ? fmt::format("out0(sum, {}); sum += x; }}", target) : fmt::format("sum += x; out0(sum, {}); }}", target);
    what.phases.push_back({rows * chunks, scan});
    c.set(0, c.b.custom({{c.out_type(), dims}, {accumulator(c.type(0)), {chunks, rows}}}, {c.in(0)}, std::move(what)).front());
}

void lower_topk(Context& c) {
    const auto& op = dynamic_cast<const ov::op::util::TopKBase&>(c.node());
    const auto axis = static_cast<std::size_t>(c.axis(op.get_provided_axis(), c.rank(0)));
    const Ranking ranking{op.get_mode() == ov::op::TopKMode::MAX, op.get_sort_type() == ov::op::TopKSortType::SORT_INDICES, "", {}};
    const auto [values, positions] = top_k(c.b, c.in(0), axis, c.out_dims(0)[axis], c.out_type(1), ranking);
    c.set(0, values);
    c.set(1, positions);
}

/// The best class of each step, then the classes of each sequence without blanks and, where asked, repetitions. `data` reads class k of step s of
/// sequence n; `length` declares the sequence's.
void greedy_decoder(Context& c, std::int64_t steps, std::int64_t sequences, std::int64_t classes, const std::string& data, const std::string& length,
                    const std::string& blank, bool merge, bool old) {
    std::vector<ValueId> inputs;
    for (int k = 0; k < c.inputs(); ++k) inputs.push_back(c.in(k));
    // Results: the classes; their count (the old form has none); the best classes.
    const std::string best = fmt::format(
        "const idx n = (idx)(t / {0}ll), s = (idx)(t % {0}ll); idx k = 0, at = 0; IN0_T most = {1}; "
        "for (k = 1; k < (idx){2}; ++k) {{ const IN0_T x = {1}; if (x > most) {{ most = x; at = k; }} }} out2((i32)at, n, s);",
        steps, data, classes);
    const std::string at = old ? "n, (idx)count, 0, 0" : "n, (idx)count";
    const std::string decode = fmt::format(
        "const idx n = (idx)t; i64 count = 0; i32 previous = -1; {0} const i64 blank = {1}; "
        "for (idx s = 0; s < (idx)length; ++s) {{ const i32 x = get2(n, s); if (x != blank && !({2} && x == previous)) {{ out0(x, {3}); ++count; }} "
        "previous = x; }} "
        "out1(count, n); for (; count < {4}ll; ++count) out0(-1, {3});",
        length, blank, merge ? 1 : 0, at, steps);
    const auto results = c.b.custom({{c.out_type(0), c.out_dims(0)}, {old ? Type::i32 : c.out_type(1), {sequences}}, {Type::i32, {sequences, steps}}},
                                    inputs, {c.node().get_type_name(), {{sequences * steps, best}, {sequences, decode}}, ""});
    c.set(0, results[0]);
    if (!old) c.set(1, results[1]);
}

void lower_ctc_greedy_decoder(Context& c) {
    const Dims dims = c.dims(0);
    // The sequence goes on while the mask is 1.
    const std::string length = fmt::format("i64 length = 0; while (length < {}ll && in1((idx)length, n) != 0) ++length;", dims[0]);
    greedy_decoder(c, dims[0], dims[1], dims[2], "in0(s, n, k)", length, fmt::format("{}ll", dims[2] - 1),
                   c.as<ov::op::v0::CTCGreedyDecoder>().get_ctc_merge_repeated(), true);
}

void lower_ctc_greedy_decoder_lengths(Context& c) {
    const Dims dims = c.dims(0);
    greedy_decoder(c, dims[1], dims[0], dims[2], "in0(n, s, k)",
                   fmt::format("i64 length = (i64)in1(n); if (length > {0}ll) length = {0}ll;", dims[1]),
                   c.inputs() > 2 ? "(i64)" + one(c, 2, 2) : fmt::format("{}ll", dims[2] - 1),
                   c.as<ov::op::v6::CTCGreedyDecoderSeqLen>().get_merge_repeated(), false);
}

}  // namespace

void add_indexing(Table& t) {
    t["Gather"] = lower_gather;
    t["GatherElements"] = lower_gather_elements;
    t["GatherND"] = lower_gather_nd;
    t["GatherTree"] = lower_gather_tree;
    t["ScatterUpdate"] = lower_scatter_update;
    t["ScatterElementsUpdate"] = lower_scatter_elements;
    t["ScatterNDUpdate"] = lower_scatter_nd;
    t["EmbeddingBagOffsetsSum"] = t["EmbeddingBagOffsets"] = lower_embedding_offsets;
    t["EmbeddingBagPackedSum"] = t["EmbeddingBagPacked"] = lower_embedding_packed;
    t["EmbeddingSegmentsSum"] = lower_embedding_segments;
    t["SegmentMax"] = lower_segment_max;
    t["Bucketize"] = lower_bucketize;
    t["SearchSorted"] = lower_search_sorted;
    t["CumSum"] = lower_cum_sum;
    t["TopK"] = lower_topk;
    t["CTCGreedyDecoder"] = lower_ctc_greedy_decoder;
    t["CTCGreedyDecoderSeqLen"] = lower_ctc_greedy_decoder_lengths;
}

}  // namespace ai_vmm::cuda
