// SPDX-License-Identifier: Apache-2.0
#include "lower/top_k.hpp"

#include <algorithm>

#include "lower/text.hpp"

namespace ai_vmm::cuda {
namespace {

/// Defines BEFORE(x, p, y, q), whether element (x, p) comes before (y, q).
std::string define_before(const Ranking& ranking) {
    const std::string first = ranking.first.empty() ? "(p) < (q)" : ranking.first;
    return "\n#undef BEFORE\n#define BEFORE(x, p, y, q) " +
           (ranking.most ? "((x) > (y) || ((x) != (x) && (y) == (y)) || (!((y) > (x)) && !((y) != (y) && (x) == (x)) && (" + first + ")))\n"
                         : "((x) < (y) || ((y) != (y) && (x) == (x)) || (!((y) < (x)) && !((x) != (x) && (y) == (y)) && (" + first + ")))\n");
}

}  // namespace

/// Each element's rank in its chunk is counted, which sorts the chunks; then each chunk's best find their rank among all chunks by halving.
std::pair<ValueId, ValueId> top_k(Builder& b, ValueId data, std::size_t axis, std::int64_t count, Type positions, const Ranking& ranking) {
    const Dims in = b.dims(data);
    Dims out = in, lines = in;
    out[axis] = count;
    lines[axis] = 1;
    const std::int64_t length = in[axis], k = count, rows = elements(lines);
    const std::int64_t chunk = length <= 2048 ? length : 512;
    const std::int64_t chunks = (length + chunk - 1) / chunk, kept = std::min(k, chunk);
    const auto value = [&](const std::string& at) {
        auto all = names("k", in.size());
        all[axis] = at;
        return read(0, all);
    };
    const std::string before = define_before(ranking);
    Custom what{"TopK", {}, ""};
    // Results: 0 values, 1 positions, 2 the chunks' best (row, chunk, rank), 3 the best by rank (row, rank).
    what.phases.push_back(
        {rows * length, before + fmt::format("const i64 row = t / {0}ll, own = t % {0}ll; {1}const i64 begin = own / {2}ll * {2}ll, end = "
                                             "begin + {2}ll < {0}ll ? begin + {2}ll : {0}ll; "
                                             "const IN0_T x = {3}; i32 rank = 0; for (i64 e = begin; e < end; ++e) {{ const IN0_T y = {4}; "
                                             "if (e != own && BEFORE(y, e, x, own)) ++rank; }} "
                                             "if (rank < {5}) out2((i32)own, (idx)row, (idx)(own / {2}ll), (idx)rank);",
                                             length, unravel("k", "row", lines), chunk, value("(idx)own"), value("(idx)e"), kept)});
    auto target = names("k", in.size());
    target[axis] = "(idx)rank";
    const std::string write = fmt::format("out0({}, {}); out1(own, {});", value("(idx)own"), fmt::join(target, ", "), fmt::join(target, ", "));
    const std::int64_t tail = std::min(kept, length - (chunks - 1) * chunk);  // what the last chunk has
    std::string merge = fmt::format(
        "const i64 row = t / {0}ll, part = t / {1}ll % {2}ll; i64 rank = t % {1}ll; {3}if (part == {4}ll && rank >= {5}ll) return; "
        "const i64 own = (i64)get2((idx)row, (idx)part, (idx)rank); const IN0_T x = {6}; ",
        chunks * kept, kept, chunks, unravel("k", "row", lines), chunks - 1, tail, value("(idx)own"));
    if (chunks > 1) {
        merge += fmt::format(
            "for (idx q = 0; q < (idx){0} && rank < {1}ll; ++q) {{ if (q == part) continue; i64 low = 0, top = q == (idx){2} ? {3}ll : {4}ll; "
            "while (low < top) {{ const i64 m = (low + top) / 2, e = (i64)get2((idx)row, q, (idx)m); const IN0_T y = {5}; "
            "if (BEFORE(y, e, x, own)) low = m + 1; else top = m; }} rank += low; }} ",
            chunks, k, chunks - 1, tail, kept, value("(idx)e"));
    }
    merge += fmt::format("if (rank < {}ll) {{ {} }}", k, ranking.by_position ? "out3((i32)own, (idx)row, (idx)rank);" : write);
    what.phases.push_back({rows * chunks * kept, before + merge});
    if (ranking.by_position) {
        what.phases.push_back({rows * k, fmt::format("const i64 row = t / {0}ll, own = (i64)get3((idx)row, (idx)(t % {0}ll)); i64 rank = 0; {1}"
                                                     "for (idx e = 0; e < (idx){0}; ++e) if (get3((idx)row, e) < own) ++rank; {2}",
                                                     k, unravel("k", "row", lines), write)});
    }
    std::vector<ValueId> inputs{data};
    inputs.insert(inputs.end(), ranking.more.begin(), ranking.more.end());
    const auto results = b.custom(
        {{b.type(data), out}, {positions, out}, {Type::i32, {rows, chunks, kept}}, {Type::i32, ranking.by_position ? Dims{rows, k} : Dims{1, 1}}},
        std::move(inputs), std::move(what));
    return {results[0], results[1]};
}

}  // namespace ai_vmm::cuda
