// SPDX-License-Identifier: Apache-2.0
/// Fourier transforms, sums over named dimensions, inverses.
#include <algorithm>
#include <cmath>
#include <map>
#include <numbers>
#include <numeric>
#include <set>

#include "lower/text.hpp"
#include "openvino/op/ops.hpp"

namespace ai_vmm::cuda {
namespace {

Type wide(Type type) { return type == Type::f64 ? Type::f64 : Type::f32; }

/// cos and sin of 2 pi r / size for r of 0..size - 1, (size, 2).
ValueId roots_of_unity(Builder& b, Type type, std::int64_t size) {
    std::vector<double> all;
    for (std::int64_t r = 0; r < size; ++r) {
        const double angle = 2 * std::numbers::pi * static_cast<double>(r) / static_cast<double>(size);
        all.push_back(std::cos(angle));
        all.push_back(std::sin(angle));
    }
    if (type != Type::f64) return b.constant_f32({size, 2}, std::vector<float>(all.begin(), all.end()));
    const auto owner = std::make_shared<std::vector<double>>(std::move(all));
    return b.constant(Type::f64, {size, 2}, {owner, reinterpret_cast<const std::byte*>(owner->data()), owner->size() * sizeof(double)});
}

/// Terms of one direct sum; longer transforms are split where their length has factors.
constexpr std::int64_t kLongestDirect = 64;

/// Sums over dimension 1 of x (outer, size, inner, 2), times twiddles of the whole transform of `whole` = size * rest elements, where dimension 2
/// starts with rest positions: what a split needs between its steps. `rest` 1: a plain transform.
ValueId direct_sums(Builder& b, ValueId x, std::int64_t rest, bool inverse) {
    const Dims dims = b.dims(x);
    const Type type = b.type(x);
    const std::int64_t size = dims[1], whole = size * rest, inner = dims[2] / std::max<std::int64_t>(rest, 1);
    const std::string_view t = to_string(type);
    // (a + ib)(c -+ is), for the real or the imaginary part.
    const auto part = [&](const std::string& re, const std::string& im, const std::string& at) {
        return fmt::format("(i3 == 0 ? {0} * in1({2}, 0) {3} {1} * in1({2}, 1) : {1} * in1({2}, 0) {4} {0} * in1({2}, 1))", re, im, at,
                           inverse ? "-" : "+", inverse ? "+" : "-");
    };
    std::string body;
    if (rest == 1) {
        body = fmt::format("{0} sum = 0; for (idx n = 0; n < (idx){1}; ++n) {{ const idx r = (idx)((i64)i1 * n % {1}ll); sum += {2}; }} return sum;",
                           t, size, part("in0(i0, n, i2, 0)", "in0(i0, n, i2, 1)", "r"));
    } else {
        // Root r of `size` is root r * rest of `whole`.
        const std::string sign = inverse ? "" : "-";
        body = fmt::format(
            "{0} re = 0, im = 0; for (idx n = 0; n < (idx){1}; ++n) {{ const idx r = (idx)((i64)i1 * n % {1}ll) * (idx){2}; "
            "const {0} a = in0(i0, n, i2, 0), b = in0(i0, n, i2, 1), c = in1(r, 0), s = {3}in1(r, 1); re += a * c - b * s; im += a * s + b * c; }} "
            "const idx r = (idx)((i64)i1 * (i2 / (idx){4}) % {5}ll); return {6};",
            t, size, rest, sign, inner, whole, part("re", "im", "r"));
    }
    const double reads = 2 * static_cast<double>(size);
    return b.compute(type, dims, {x, roots_of_unity(b, type, whole)}, {"DFT", body, static_cast<int>(4 * reads), {reads, reads}, {}});
}

/// The unscaled transform along dimension 1 of (outer, size, inner, 2).
ValueId transform(Builder& b, ValueId x, bool inverse) {
    const Dims dims = b.dims(x);
    const std::int64_t outer = dims[0], size = dims[1], inner = dims[2];
    std::int64_t factor = 1;
    for (std::int64_t f = 2; f * f <= size && f <= kLongestDirect; ++f) {
        if (size % f == 0) factor = f;
    }
    if (size <= kLongestDirect || factor == 1) return direct_sums(b, x, 1, inverse);
    // Position n = rest * n1 + n2 and frequency k = k1 + factor * k2 (Cooley and Tukey).
    const std::int64_t rest = size / factor;
    x = direct_sums(b, b.reshape(x, {outer, factor, rest * inner, 2}), rest, inverse);
    x = transform(b, b.reshape(x, {outer * factor, rest, inner, 2}), inverse);
    return b.reshape(b.transpose(b.reshape(x, {outer, factor, rest, inner, 2}), {0, 2, 1, 3, 4}), dims);
}

/// Along `axis` of a complex value (…, 2).
ValueId transform_axis(Builder& b, ValueId x, std::size_t axis, bool inverse) {
    const Dims dims = b.dims(x);
    const std::int64_t size = dims[axis];
    const ValueId flat = b.reshape(x, {product(dims, 0, axis), size, product(dims, axis + 1, dims.size() - 1), 2});
    ValueId y = transform(b, flat, inverse);
    if (inverse) y = b.pointwise("Scale", b.type(y), {y}, fmt::format("a * {}", literal(b.type(y), 1.0 / static_cast<double>(size))));
    return b.reshape(y, dims);
}

/// Cut at the end or continued with zeros to `size` along `axis`.
ValueId resize(Builder& b, ValueId x, std::size_t axis, std::int64_t size) {
    Dims dims = b.dims(x);
    const std::int64_t have = dims[axis];
    if (have == size) return x;
    dims[axis] = size;
    if (size < have) return b.slice(x, Dims(dims.size(), 0), Dims(dims.size(), 1), dims);
    const std::string body = fmt::format("if (i{} >= (idx){}) return 0; return {};", axis, have, element(static_cast<int>(dims.size())));
    return b.compute(b.type(x), dims, {x}, {"Pad", body, 1, {}, {}});
}

/// (…) to (…, 2) with zeros for the imaginary parts.
ValueId complex(Builder& b, ValueId x) {
    Dims dims = b.dims(x);
    const int rank = static_cast<int>(dims.size());
    dims.push_back(2);
    return b.compute(b.type(x), dims, {x}, {"Complex", fmt::format("if (i{} != 0) return 0; return {};", rank, element(rank)), 1, {0.5}, {}});
}

/// The first size / 2 + 1 frequencies of real values along `axis`.
ValueId real_transform(Builder& b, ValueId x, std::size_t axis) {
    const std::int64_t size = b.dims(x)[axis];
    return resize(b, transform_axis(b, complex(b, x), axis, false), axis, size / 2 + 1);
}

/// Real values of length `size` along `axis` from their first frequencies (…, 2).
ValueId real_inverse(Builder& b, ValueId x, std::size_t axis, std::int64_t size) {
    x = resize(b, x, axis, size / 2 + 1);
    Dims dims = b.dims(x);
    const int rank = static_cast<int>(dims.size());
    dims[axis] = size;
    auto mirrored = coordinates(rank);
    mirrored[axis] = fmt::format("(idx){} - i{}", size, axis);
    const std::string body = fmt::format("if (i{} <= (idx){}) return {}; const IN0_T x = {}; return i{} == 0 ? x : -x;", axis, size / 2,
                                         element(rank), read(0, mirrored), rank - 1);
    x = b.compute(b.type(x), dims, {x}, {"Mirror", body, 2, {2}, {}});
    x = transform_axis(b, x, axis, true);
    Dims part = b.dims(x);
    part.back() = 1;
    x = b.slice(x, Dims(part.size(), 0), Dims(part.size(), 1), part);
    part.pop_back();
    return b.reshape(x, part);
}

struct Axes {
    std::vector<std::size_t> axes;
    std::vector<std::int64_t> sizes;  ///< -1: as it is
};

Axes read_axes(Context& c, int rank) {
    Axes result;
    const auto axes = c.need_integers(1);
    for (std::int64_t axis : axes) result.axes.push_back(static_cast<std::size_t>(c.axis(axis, rank)));
    result.sizes = c.inputs() > 2 ? c.need_integers(2) : std::vector<std::int64_t>(axes.size(), -1);
    return result;
}

void finish(Context& c, ValueId x) { c.set(0, c.b.cast(x, c.out_type())); }

void lower_dft(Context& c) {
    const bool inverse = c.is<ov::op::v7::IDFT>();
    const auto [axes, sizes] = read_axes(c, c.rank(0) - 1);
    ValueId x = c.b.cast(c.in(0), wide(c.type(0)));
    for (std::size_t k = 0; k < axes.size(); ++k) {
        if (sizes[k] >= 0) x = resize(c.b, x, axes[k], sizes[k]);
    }
    for (std::size_t axis : axes) x = transform_axis(c.b, x, axis, inverse);
    finish(c, x);
}

void lower_rdft(Context& c) {
    const auto [axes, sizes] = read_axes(c, c.rank(0));
    ValueId x = c.b.cast(c.in(0), wide(c.type(0)));
    for (std::size_t k = 0; k < axes.size(); ++k) {
        if (sizes[k] >= 0) x = resize(c.b, x, axes[k], sizes[k]);
    }
    x = real_transform(c.b, x, axes.back());
    for (std::size_t k = 0; k + 1 < axes.size(); ++k) x = transform_axis(c.b, x, axes[k], false);
    finish(c, x);
}

void lower_irdft(Context& c) {
    const auto [axes, sizes] = read_axes(c, c.rank(0) - 1);
    ValueId x = c.b.cast(c.in(0), wide(c.type(0)));
    for (std::size_t k = 0; k + 1 < axes.size(); ++k) {
        if (sizes[k] >= 0) x = resize(c.b, x, axes[k], sizes[k]);
        x = transform_axis(c.b, x, axes[k], true);
    }
    finish(c, real_inverse(c.b, x, axes.back(), c.out_dims()[axes.back()]));
}

/// The window in the middle of a frame, zeros around it.
ValueId centred_window(Context& c, int input, std::int64_t frame) {
    const std::int64_t size = c.dims(input)[0], before = (frame - size) / 2;
    const ValueId window = c.b.cast(c.in(input), wide(c.type(input)));
    if (size == frame) return window;
    return c.b.compute(
        c.b.type(window), {frame}, {window},
        {"Pad", fmt::format("const idx x = i0 - (idx){}; if (x < 0 || x >= (idx){}) return 0; return in0(x);", before, size), 1, {}, {}});
}

void lower_stft(Context& c) {
    const auto frame = c.need_integers(2).front(), step = c.need_integers(3).front();
    const Dims out = c.out_dims();
    const bool batched = c.rank(0) == 2;
    ValueId signal = c.b.cast(c.in(0), wide(c.type(0)));
    if (!batched) signal = c.b.reshape(signal, {1, c.dims(0)[0]});
    const Dims dims = c.b.dims(signal);
    const ValueId window = centred_window(c, 1, frame);
    const std::int64_t frames = (dims[1] - frame) / step + 1;
    const Type type = c.b.type(signal);
    const double overlap = static_cast<double>(frame) / static_cast<double>(step);
    ValueId x = c.b.compute(type, {dims[0], frames, frame}, {signal, window},
                            {"Frames", fmt::format("return in0(i0, i1 * (idx){} + i2) * in1(i2);", step), 2, {std::min(overlap, 1.0), 1}, {}});
    x = real_transform(c.b, x, 2);
    if (c.as<ov::op::v15::STFT>().get_transpose_frames()) x = c.b.transpose(x, {0, 2, 1, 3});
    finish(c, c.b.reshape(x, out));
}

void lower_istft(Context& c) {
    const auto& op = c.as<ov::op::v16::ISTFT>();
    const auto frame = c.need_integers(2).front(), step = c.need_integers(3).front();
    const Dims out = c.out_dims();
    ValueId x = c.b.cast(c.in(0), wide(c.type(0)));
    if (c.rank(0) == 3) {
        Dims dims = c.dims(0);
        dims.insert(dims.begin(), 1);
        x = c.b.reshape(x, dims);
    }
    const ValueId window = centred_window(c, 1, frame);
    const std::int64_t batch = c.b.dims(x)[0], frames = c.b.dims(x)[2], whole = (frames - 1) * step + frame, length = out.back();
    x = real_inverse(c.b, c.b.transpose(x, {0, 2, 1, 3}), 2, frame);
    const Type type = c.b.type(x);
    const std::string scale = op.get_normalized() ? literal(type, std::sqrt(static_cast<double>(frame))) : literal(type, 1);
    // Each sample gathers the frames that cover it, over the sum of their squared windows.
    const std::string body = fmt::format(
        "const i64 at = (i64)i1 + {0}ll; if (at >= {1}ll) return 0; i64 first = at < {2}ll ? 0 : (at - {2}ll) / {3}ll + 1, last = at / {3}ll; "
        "if (last >= {4}ll) last = {4}ll - 1; {5} sum = 0, weight = 0; for (i64 f = first; f <= last; ++f) {{ "
        "const idx j = (idx)(at - f * {3}ll); const {5} w = in1(j); sum += in0(i0, (idx)f, j) * w; weight += w * w; }} "
        "return weight > {6} ? {7} * sum / weight : {7} * sum;",
        op.get_center() ? frame / 2 : 0, whole, frame, step, frames, to_string(type), literal(type, 1e-11), scale);
    const double reads = static_cast<double>(frame) / static_cast<double>(step);
    x = c.b.compute(type, {batch, length}, {x, window}, {"OverlapAdd", body, static_cast<int>(std::min(6 * reads, 1e5)) + 8, {reads, reads}, {}});
    finish(c, c.b.reshape(x, out));
}

/// A value whose dimensions have names.
struct Named {
    ValueId value = -1;
    std::vector<int> labels;
};

std::size_t position(const std::vector<int>& labels, int label) {
    return static_cast<std::size_t>(std::find(labels.begin(), labels.end(), label) - labels.begin());
}

bool contains(const std::vector<int>& labels, int label) { return position(labels, label) < labels.size(); }

/// Subscripts of a term: letters as themselves, "..." as -count, …, -1.
std::vector<int> subscripts(const std::string& term, std::size_t rank) {
    std::size_t letters = 0;
    for (char letter : term) letters += letter != '.' ? 1 : 0;
    std::vector<int> labels;
    for (std::size_t at = 0; at < term.size(); ++at) {
        if (term[at] != '.') {
            labels.push_back(term[at]);
            continue;
        }
        at += 2;
        for (std::size_t k = rank - std::min(rank, letters); k > 0; --k) labels.push_back(-static_cast<int>(k));
    }
    return labels;
}

/// A dimension of each label: the diagonal of repeated ones.
void take_diagonals(Builder& b, Named& x) {
    std::vector<int> once;
    std::vector<std::string> at;
    Dims dims;
    for (std::size_t d = 0; d < x.labels.size(); ++d) {
        if (!contains(once, x.labels[d])) {
            once.push_back(x.labels[d]);
            dims.push_back(b.dims(x.value)[d]);
        }
        at.push_back(fmt::format("i{}", position(once, x.labels[d])));
    }
    if (once.size() == x.labels.size()) return;
    x = {b.compute(b.type(x.value), dims, {x.value}, {"Diagonal", "return " + read(0, at) + ";", 0, {}, {}}), once};
}

void arrange(Builder& b, Named& x, const std::vector<int>& order) {
    std::vector<int> permutation;
    for (int label : order) permutation.push_back(static_cast<int>(position(x.labels, label)));
    x = {b.transpose(x.value, permutation), order};
}

/// Drops dimensions of size 1 that broadcast (the label is longer elsewhere), and sums over labels that nothing needs.
void simplify(Builder& b, Named& x, const std::map<int, std::int64_t>& sizes, const std::set<int>& needed) {
    Dims kept;
    std::vector<int> labels, axes;
    for (std::size_t d = 0; d < x.labels.size(); ++d) {
        const std::int64_t size = b.dims(x.value)[d];
        if (size == 1 && (sizes.at(x.labels[d]) != 1 || needed.count(x.labels[d]) == 0)) continue;
        kept.push_back(size);
        labels.push_back(x.labels[d]);
    }
    x = {b.reshape(x.value, kept), labels};
    Dims rest;
    labels.clear();
    for (std::size_t d = 0; d < x.labels.size(); ++d) {
        if (needed.count(x.labels[d]) == 0) {
            axes.push_back(static_cast<int>(d));
        } else {
            rest.push_back(kept[d]);
            labels.push_back(x.labels[d]);
        }
    }
    if (axes.empty()) return;
    const Type type = b.type(x.value);
    Rowwise sum{"ReduceSum",
                kept,
                axes,
                accumulator(type),
                {{Rowwise::Combine::sum, "return " + element(static_cast<int>(kept.size())) + ";", ""}},
                "return s0;",
                true,
                4,
                {}};
    x = {b.reshape(b.rowwise(type, {x.value}, std::move(sum)), rest), labels};
}

Named contract(Builder& b, Named x, Named y, const std::set<int>& needed) {
    std::vector<int> batch, inner, left, right;
    for (int label : x.labels) (!contains(y.labels, label) ? left : needed.count(label) != 0 ? batch : inner).push_back(label);
    for (int label : y.labels) {
        if (!contains(x.labels, label)) right.push_back(label);
    }
    Dims dims;
    const auto size = [&](const Named& of, const std::vector<int>& labels) {
        std::int64_t all = 1;
        for (int label : labels) all *= b.dims(of.value)[position(of.labels, label)];
        return all;
    };
    std::vector<int> labels = batch;
    labels.insert(labels.end(), left.begin(), left.end());
    labels.insert(labels.end(), right.begin(), right.end());
    for (int label : labels)
        dims.push_back(contains(x.labels, label) ? b.dims(x.value)[position(x.labels, label)] : b.dims(y.value)[position(y.labels, label)]);
    MatmulSpec spec;
    spec.batch = size(x, batch);
    spec.m = size(x, left);
    spec.k = size(x, inner);
    spec.n = size(y, right);
    spec.type = spec.result = b.type(x.value);
    std::vector<int> order_x = batch, order_y = batch;
    order_x.insert(order_x.end(), left.begin(), left.end());
    order_x.insert(order_x.end(), inner.begin(), inner.end());
    order_y.insert(order_y.end(), inner.begin(), inner.end());
    order_y.insert(order_y.end(), right.begin(), right.end());
    arrange(b, x, order_x);
    arrange(b, y, order_y);
    const ValueId a = b.reshape(x.value, {spec.batch, spec.m, spec.k}), w = b.reshape(y.value, {spec.batch, spec.k, spec.n});
    const ValueId product = inner.empty() ? b.pointwise("Multiply", spec.type, {a, w}, "a * b") : b.matmul(a, w, spec);
    return {b.reshape(product, dims), labels};
}

void lower_einsum(Context& c) {
    std::string equation = c.as<ov::op::v7::Einsum>().get_equation();
    equation.erase(std::remove(equation.begin(), equation.end(), ' '), equation.end());
    const std::size_t arrow = equation.find("->");
    std::vector<std::string> terms{""};
    for (char letter : equation.substr(0, arrow)) {
        if (letter == ',') {
            terms.emplace_back();
        } else {
            terms.back() += letter;
        }
    }
    std::vector<Named> operands;
    std::map<int, std::int64_t> sizes;
    std::map<int, int> uses;
    std::size_t ellipsis = 0;
    for (std::size_t k = 0; k < terms.size(); ++k) {
        Named x{c.in(static_cast<int>(k)), subscripts(terms[k], c.dims(static_cast<int>(k)).size())};
        for (std::size_t d = 0; d < x.labels.size(); ++d) {
            auto& size = sizes[x.labels[d]];
            size = size == 0 || size == 1 ? c.b.dims(x.value)[d] : size;
            ++uses[x.labels[d]];
            if (x.labels[d] < 0) ellipsis = std::max(ellipsis, static_cast<std::size_t>(-x.labels[d]));
        }
        take_diagonals(c.b, x);
        operands.push_back(x);
    }
    std::vector<int> out;
    if (arrow != std::string::npos) {
        const std::string term = equation.substr(arrow + 2);
        std::size_t letters = 0;
        for (char letter : term) letters += letter != '.' ? 1 : 0;
        out = subscripts(term, letters + ellipsis);
    } else {  // the ellipsis, then labels that occur once, in their order
        for (std::size_t k = ellipsis; k > 0; --k) out.push_back(-static_cast<int>(k));
        for (const auto& [label, count] : uses) {
            if (label > 0 && count == 1) out.push_back(label);
        }
    }
    const auto needed_after = [&](std::size_t k) {
        std::set<int> needed(out.begin(), out.end());
        for (; k < operands.size(); ++k) needed.insert(operands[k].labels.begin(), operands[k].labels.end());
        return needed;
    };
    Named x = operands.front();
    simplify(c.b, x, sizes, needed_after(1));
    for (std::size_t k = 1; k < operands.size(); ++k) {
        Named y = operands[k];
        std::set<int> needed = needed_after(k + 1);
        needed.insert(x.labels.begin(), x.labels.end());
        simplify(c.b, y, sizes, needed);
        x = contract(c.b, x, y, needed_after(k + 1));
        simplify(c.b, x, sizes, needed_after(k + 1));
    }
    // What broadcasts to the result but has size 1 everywhere, or was dropped.
    for (int label : out) {
        if (contains(x.labels, label)) continue;
        Dims dims = c.b.dims(x.value);
        dims.push_back(1);
        x.value = c.b.reshape(x.value, dims);
        x.labels.push_back(label);
    }
    arrange(c.b, x, out);
    c.set(0, c.b.broadcast(x.value, c.out_dims()));
}

/// Gauss and Jordan with row pivots, a matrix a thread. Results: the inverse, the matrix as it is eliminated.
void lower_inverse(Context& c) {
    const bool adjoint = c.as<ov::op::v14::Inverse>().get_adjoint();
    const Dims dims = c.dims(0);
    const std::int64_t n = dims.back(), count = product(dims, 0, dims.size() - 2);
    const Type type = wide(c.type(0));
    const ValueId data = c.b.reshape(c.b.cast(c.in(0), type), {count, n, n});
    const std::string body = fmt::format(
        "const idx m = (idx)t; const idx n = {0}; "
        "for (idx r = 0; r < n; ++r) for (idx k = 0; k < n; ++k) {{ out1(in0(m, r, k), m, r, k); out0(r == k ? 1 : 0, m, r, k); }} "
        "for (idx p = 0; p < n; ++p) {{ idx best = p; for (idx r = p + 1; r < n; ++r) if (fabs{2}(get1(m, r, p)) > fabs{2}(get1(m, best, p))) best = "
        "r; "
        "if (best != p) {{ for (idx k = 0; k < n; ++k) {{ const {1} x = get1(m, p, k), y = get0(m, p, k); out1(get1(m, best, k), m, p, "
        "k); "
        "out0(get0(m, best, k), m, p, k); out1(x, m, best, k); out0(y, m, best, k); }} }} "
        "const {1} pivot = get1(m, p, p); "
        "for (idx k = 0; k < n; ++k) {{ out1(get1(m, p, k) / pivot, m, p, k); out0(get0(m, p, k) / pivot, m, p, k); }} "
        "for (idx r = 0; r < n; ++r) {{ if (r == p) continue; const {1} f = get1(m, r, p); if (f == 0) continue; for (idx k = 0; k < n; ++k) {{ "
        "out1(get1(m, r, k) - f * get1(m, p, k), m, r, k); out0(get0(m, r, k) - f * get0(m, p, k), m, r, k); }} }} }} ",
        n, to_string(type), suffix(type));
    const auto results = c.b.custom({{type, {count, n, n}}, {type, {count, n, n}}}, {data}, {"Inverse", {{count, body}}, ""});
    // The adjoint's inverse is the inverse's adjoint: of real numbers, the transpose.
    finish(c, c.b.reshape(adjoint ? c.b.transpose(results[0], {0, 2, 1}) : results[0], dims));
}

}  // namespace

void add_signal(Table& t) {
    t["DFT"] = t["IDFT"] = lower_dft;
    t["RDFT"] = lower_rdft;
    t["IRDFT"] = lower_irdft;
    t["STFT"] = lower_stft;
    t["ISTFT"] = lower_istft;
    t["Einsum"] = lower_einsum;
    t["Inverse"] = lower_inverse;
}

}  // namespace ai_vmm::cuda
