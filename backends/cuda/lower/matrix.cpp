// SPDX-License-Identifier: Apache-2.0
/// Matrix products, convolutions and attention: what libraries do best.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "lower/context.hpp"
#include "openvino/op/ops.hpp"

namespace ai_vmm::cuda {
namespace {

std::int64_t product(const Dims& dims, std::size_t begin, std::size_t end) {
    std::int64_t all = 1;
    for (std::size_t d = begin; d < end; ++d) all *= dims[d];
    return all;
}

/// (batch…, rows, columns) with both batches flattened to one dimension.
void lower_matmul(Context& c) {
    const auto& op = c.as<ov::op::v0::MatMul>();
    Builder& b = c.b;
    ValueId x = c.in(0), y = c.in(1);
    bool transpose_a = op.get_transpose_a(), transpose_b = op.get_transpose_b();
    // Vectors: A becomes a row, B a column; transposition does not apply to them.
    if (b.rank(x) == 1) {
        x = b.reshape(x, {1, b.dims(x)[0]});
        transpose_a = false;
    }
    if (b.rank(y) == 1) {
        y = b.reshape(y, {b.dims(y)[0], 1});
        transpose_b = false;
    }
    const auto rank_a = static_cast<std::size_t>(b.rank(x)), rank_b = static_cast<std::size_t>(b.rank(y));
    const Dims batch_a(b.dims(x).begin(), b.dims(x).end() - 2), batch_b(b.dims(y).begin(), b.dims(y).end() - 2);
    const Dims batch = broadcast_dims(batch_a, batch_b);
    MatmulSpec spec;
    spec.m = b.dims(x)[rank_a - (transpose_a ? 1 : 2)];
    spec.k = b.dims(x)[rank_a - (transpose_a ? 2 : 1)];
    spec.n = b.dims(y)[rank_b - (transpose_b ? 2 : 1)];
    const std::int64_t count_a = product(batch_a, 0, batch_a.size()), count_b = product(batch_b, 0, batch_b.size());
    spec.batch = product(batch, 0, batch.size());
    // Rows of every batch against one matrix: one large product.
    const bool fold = count_b == 1 && spec.batch == count_a && !transpose_a;
    const auto flatten = [&](ValueId value, std::int64_t count, bool whole) {
        Dims dims = b.dims(value);
        const std::int64_t rows = dims[dims.size() - 2], columns = dims.back();
        if (count != 1 && count != spec.batch) {
            Dims to = batch;
            to.push_back(rows);
            to.push_back(columns);
            value = b.broadcast(value, to);
            count = spec.batch;
        }
        return whole ? b.reshape(value, {1, count * rows, columns}) : b.reshape(value, {count, rows, columns});
    };
    x = flatten(x, count_a, fold);
    y = flatten(y, count_b, false);
    if (fold) {
        spec.m *= count_a;
        spec.batch = 1;
    }
    spec.transpose_a = transpose_a;
    spec.transpose_b = transpose_b;
    spec.type = c.type(0);
    spec.result = c.out_type();
    c.set(0, b.reshape(b.matmul(x, y, spec), c.out_dims()));
}

/// A matrix of weights for each group of rows. `offsets`, where the rows are in one matrix, says where each group ends; rows behind the last are
/// zeros.
void lower_grouped_matmul(Context& c) {
    const Dims a = c.dims(0), w = c.dims(1);
    if (c.inputs() == 2) {
        MatmulSpec spec;
        spec.batch = w[0];
        spec.m = a[1];
        spec.n = w[1];
        spec.k = w[2];
        spec.transpose_b = true;
        spec.type = c.type(0);
        spec.result = c.out_type();
        return c.set(0, c.b.matmul(c.in(0), c.in(1), spec));
    }
    const double k = static_cast<double>(w[2]);
    const std::string body = fmt::format(
        "idx g = 0; while (g < (idx){0} && (i64)in2(g) <= i0) ++g; if (g == (idx){0}) return 0; {1} sum = 0; for (idx k = 0; k < (idx){2}; ++k) sum "
        "+= "
        "in0(i0, k) * in1(g, i1, k); return sum;",
        w[0], c.type(0) == Type::f64 ? "f64" : "f32", w[2]);
    c.set(0, c.b.compute(c.out_type(), c.out_dims(), {c.in(0), c.in(1), c.in(2)},
                         {"GroupedMatMul", body, static_cast<int>(std::min(2 * k, 1e6)), {k, k, 2}, {}}));
}

template <typename Op>
void read_windows(const Op& op, ConvolutionSpec& spec) {
    spec.stride.assign(op.get_strides().begin(), op.get_strides().end());
    spec.dilation.assign(op.get_dilations().begin(), op.get_dilations().end());
    spec.pad_begin.assign(op.get_pads_begin().begin(), op.get_pads_begin().end());
    spec.pad_end.assign(op.get_pads_end().begin(), op.get_pads_end().end());
}

/// Fills sizes from X (N, C, spatial..), W as Convolution says, and the result's shape; adds the node.
void convolution(Context& c, ConvolutionSpec spec, ValueId weights) {
    const Dims& x = c.dims(0);
    const Dims& w = c.b.dims(weights);
    const Dims out = c.out_dims();
    spec.batch = x[0];
    spec.channels_in = x[1];
    spec.channels_out = out[1];
    spec.in.assign(x.begin() + 2, x.end());
    spec.out.assign(out.begin() + 2, out.end());
    spec.kernel.assign(w.begin() + 2, w.end());
    spec.type = spec.result = c.type(0);
    c.set(0, c.b.convolution({c.in(0), weights}, std::move(spec)));
}

/// (G, A, B, spatial..) -> (G * A, B, spatial..)
ValueId merge_groups(Context& c, ConvolutionSpec& spec) {
    Dims w = c.dims(1);
    spec.groups = w[0];
    w[1] *= w[0];
    w.erase(w.begin());
    return c.b.reshape(c.in(1), w);
}

void lower_convolution(Context& c) {
    ConvolutionSpec spec;
    read_windows(c.as<ov::op::v1::Convolution>(), spec);
    convolution(c, spec, c.in(1));
}

void lower_group_convolution(Context& c) {
    ConvolutionSpec spec;
    read_windows(c.as<ov::op::v1::GroupConvolution>(), spec);
    const ValueId weights = merge_groups(c, spec);
    convolution(c, spec, weights);
}

void lower_convolution_backprop(Context& c) {
    ConvolutionSpec spec;
    spec.transposed = true;
    read_windows(c.as<ov::op::v1::ConvolutionBackpropData>(), spec);
    convolution(c, spec, c.in(1));
}

void lower_group_convolution_backprop(Context& c) {
    ConvolutionSpec spec;
    spec.transposed = true;
    read_windows(c.as<ov::op::v1::GroupConvolutionBackpropData>(), spec);
    const ValueId weights = merge_groups(c, spec);
    convolution(c, spec, weights);
}

/// (…, L, E) with leading dimensions as batch and heads.
void lower_attention(Context& c) {
    const auto& op = c.as<ov::op::v13::ScaledDotProductAttention>();
    Builder& b = c.b;
    const Dims out = c.out_dims();
    const auto four = [&](ValueId value, const Dims& leading) {
        const Dims& d = b.dims(value);
        Dims full = leading;
        full.push_back(d[d.size() - 2]);
        full.push_back(d.back());
        value = b.broadcast(value, full);
        std::int64_t heads = leading.empty() ? 1 : leading.back();
        return b.reshape(value, {product(leading, 0, leading.empty() ? 0 : leading.size() - 1), heads, d[d.size() - 2], d.back()});
    };
    const Dims leading(out.begin(), out.end() - 2);
    AttentionSpec spec;
    std::vector<ValueId> inputs{four(c.in(0), leading), four(c.in(1), leading), four(c.in(2), leading)};
    spec.batch = b.dims(inputs[0])[0];
    spec.heads = spec.kv_heads = b.dims(inputs[0])[1];
    spec.queries = b.dims(inputs[0])[2];
    spec.head_size = b.dims(inputs[0])[3];
    spec.keys = b.dims(inputs[1])[2];
    spec.value_size = b.dims(inputs[2])[3];
    spec.type = c.type(0);
    spec.causal = op.get_causal();
    spec.scale = static_cast<float>(1 / std::sqrt(static_cast<double>(spec.head_size)));
    if (c.inputs() > 4 && elements(c.dims(4)) > 0) {
        const auto scale = c.need_numbers(4);
        spec.scale = static_cast<float>(scale.front());
    }
    if (c.inputs() > 3 && !spec.causal && elements(c.dims(3)) > 0 && !(c.rank(3) == 0 && c.numbers(3) && c.numbers(3)->front() == 0)) {
        ValueId mask = c.in(3);
        if (b.type(mask) == Type::boolean) {
            mask = b.pointwise("Mask", spec.type, {mask}, "a ? 0.0f : (-F32_INFINITY)", 1);
        }
        Dims full = b.dims(mask);
        if (full.size() > 4) {
            Dims to = leading;
            to.insert(to.end(), {spec.queries, spec.keys});
            mask = b.reshape(b.broadcast(mask, to), {spec.batch, spec.heads, spec.queries, spec.keys});
        } else if (leading.size() == 2 || full.size() <= 2) {
            Dims padded(4 - full.size(), 1);
            padded.insert(padded.end(), full.begin(), full.end());
            mask = b.reshape(mask, padded);
        } else {
            Dims to = leading;
            to.insert(to.end(), {spec.queries, spec.keys});
            mask = b.reshape(b.broadcast(mask, to), {spec.batch, spec.heads, spec.queries, spec.keys});
        }
        inputs.push_back(mask);
        spec.mask = true;
    }
    c.set(0, b.reshape(b.attention(std::move(inputs), spec), out));
}

}  // namespace

void add_matrix(Table& t) {
    t["MatMul"] = lower_matmul;
    t["GroupedMatMul"] = lower_grouped_matmul;
    t["Convolution"] = lower_convolution;
    t["GroupConvolution"] = lower_group_convolution;
    t["ConvolutionBackpropData"] = lower_convolution_backprop;
    t["ScaledDotProductAttention"] = lower_attention;
    t["GroupConvolutionBackpropData"] = lower_group_convolution_backprop;
}

}  // namespace ai_vmm::cuda
