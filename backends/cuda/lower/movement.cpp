// SPDX-License-Identifier: Apache-2.0
/// Operations that move elements without looking at them.
#include <algorithm>
#include <numeric>

#include "lower/text.hpp"
#include "openvino/op/ops.hpp"

namespace ai_vmm::cuda {
namespace {

void lower_reshape(Context& c) { c.set(0, c.b.reshape(c.in(0), c.out_dims())); }

void lower_transpose(Context& c) {
    std::vector<int> permutation;
    for (std::int64_t d : c.need_integers(1)) permutation.push_back(static_cast<int>(d));
    if (permutation.empty()) {
        for (int d = c.rank(0); d-- > 0;) permutation.push_back(d);
    }
    c.set(0, c.b.transpose(c.in(0), std::move(permutation)));
}

void lower_concat(Context& c) {
    std::vector<ValueId> values;
    for (int k = 0; k < c.inputs(); ++k) values.push_back(c.in(k));
    c.set(0, c.b.concat(values, c.axis(c.as<ov::op::v0::Concat>().get_axis(), c.rank(0))));
}

/// Where a slice with `start` and `step` begins in a dimension of `size`: starts beyond the ends are moved to them.
std::int64_t slice_begin(std::int64_t start, std::int64_t step, std::int64_t size) {
    if (start < 0) start += size;
    return std::clamp<std::int64_t>(start, 0, std::max<std::int64_t>(step > 0 ? size : size - 1, 0));
}

struct Slice {
    Dims begin, step;
};

/// Start and step per dimension from a Slice's inputs `first` (start), `first` + 2 (step) and `first` + 3 (axes, optional).
Slice read_slice(Context& c, int first) {
    const auto rank = static_cast<std::size_t>(c.rank(0));
    Slice slice{Dims(rank, 0), Dims(rank, 1)};
    const auto start = c.need_integers(first), step = c.need_integers(first + 2);
    std::vector<std::int64_t> axes(start.size());
    std::iota(axes.begin(), axes.end(), 0);
    if (c.inputs() > first + 3) axes = c.need_integers(first + 3);
    for (std::size_t k = 0; k < axes.size(); ++k) {
        const auto d = static_cast<std::size_t>(c.axis(axes[k], c.rank(0)));
        slice.begin[d] = slice_begin(start[k], step[k], c.dims(0)[d]);
        slice.step[d] = step[k];
    }
    return slice;
}

void lower_slice(Context& c) {
    const Slice slice = read_slice(c, 1);
    c.set(0, c.b.slice(c.in(0), slice.begin, slice.step, c.out_dims()));
}

/// Data, updates, start, stop, step, axes: the updates where the slice reads, else the data.
void lower_slice_scatter(Context& c) {
    const Slice slice = read_slice(c, 2);
    const Dims updates = c.dims(1);
    std::string inside = "1";
    std::vector<std::string> at;
    for (std::size_t d = 0; d < updates.size(); ++d) {
        const std::int64_t step = slice.step[d];
        if (step == 1 && slice.begin[d] == 0 && updates[d] == c.dims(0)[d]) {
            at.push_back(fmt::format("i{}", d));
            continue;
        }
        const std::string distance = step > 0 ? fmt::format("(i{} - (idx){})", d, slice.begin[d]) : fmt::format("((idx){} - i{})", slice.begin[d], d);
        const std::int64_t stride = std::abs(step);
        at.push_back(stride == 1 ? distance : fmt::format("{} / (idx){}", distance, stride));
        inside += fmt::format(" && {0} >= 0 && {0} < (idx){1}", distance, updates[d] * stride);
        if (stride != 1) inside += fmt::format(" && {} % (idx){} == 0", distance, stride);
    }
    if (elements(updates) == 0) return c.set(0, c.in(0));
    c.set(0, c.b.compute(c.out_type(), c.out_dims(), {c.in(0), c.in(1)},
                         {"SliceScatter", fmt::format("if ({}) return {}; return {};", inside, read(1, at), element(c.rank(0))), 2, {1, 1}, {}}));
}

void lower_strided_slice(Context& c) {
    const auto& op = c.as<ov::op::v1::StridedSlice>();
    const auto start = c.need_integers(1);
    const auto steps = c.inputs() > 3 ? c.need_integers(3) : std::vector<std::int64_t>(start.size(), 1);
    const auto set = [](const std::vector<std::int64_t>& mask, std::size_t k) { return k < mask.size() && mask[k] != 0; };
    const Dims& in = c.dims(0);
    // Entries that stand for dimensions of the input; an ellipsis stands for the rest.
    std::size_t named = 0;
    for (std::size_t k = 0; k < start.size(); ++k) named += !set(op.get_ellipsis_mask(), k) && !set(op.get_new_axis_mask(), k) ? 1 : 0;
    Dims begin(in.size(), 0), step(in.size(), 1), sliced = in;
    const auto ends = c.need_integers(2);
    std::size_t d = 0;
    for (std::size_t k = 0; k < start.size() && d < in.size(); ++k) {
        if (set(op.get_ellipsis_mask(), k)) {
            d += in.size() - named;
            continue;
        }
        if (set(op.get_new_axis_mask(), k)) continue;
        if (set(op.get_shrink_axis_mask(), k)) {
            begin[d] = set(op.get_begin_mask(), k) ? 0 : start[k] < 0 ? start[k] + in[d] : start[k];
            sliced[d] = 1;
        } else {
            step[d] = steps[k];
            const bool forward = steps[k] > 0;
            begin[d] = set(op.get_begin_mask(), k) ? (forward ? 0 : std::max<std::int64_t>(in[d] - 1, 0)) : slice_begin(start[k], steps[k], in[d]);
            std::int64_t end = ends[k] < 0 ? ends[k] + in[d] : ends[k];
            end = set(op.get_end_mask(), k) ? (forward ? in[d] : -1) : std::clamp<std::int64_t>(end, forward ? 0 : -1, in[d]);
            const std::int64_t distance = forward ? end - begin[d] : begin[d] - end, stride = std::abs(steps[k]);
            sliced[d] = std::max<std::int64_t>(0, (distance + stride - 1) / stride);
        }
        ++d;
    }
    c.set(0, c.b.reshape(c.b.slice(c.in(0), begin, step, sliced), c.out_dims()));
}

/// Consecutive parts along the axis of input 1.
void lower_split(Context& c) {
    const auto axis = static_cast<std::size_t>(c.axis(c.need_integers(1).front(), c.rank(0)));
    Dims begin(c.dims(0).size(), 0);
    const Dims step(begin.size(), 1);
    for (std::size_t k = 0; k < c.node().get_output_size(); ++k) {
        const Dims part = c.out_dims(static_cast<int>(k));
        c.set(static_cast<int>(k), c.b.slice(c.in(0), begin, step, part));
        begin[axis] += part[axis];
    }
}

void lower_pad(Context& c) {
    const auto& op = dynamic_cast<const ov::op::util::PadBase&>(c.node());
    const Dims in = c.dims(0), out = c.out_dims();
    const auto before = c.need_integers(1);
    const ov::op::PadMode mode = op.get_pad_mode();
    const bool constant = mode == ov::op::PadMode::CONSTANT, valued = constant && c.inputs() > 3;
    const std::string outside = valued ? read(1, std::vector<std::string>(static_cast<std::size_t>(c.rank(3)), "0")) : "0";
    std::vector<ValueId> inputs{c.in(0)};
    if (valued) inputs.push_back(c.in(3));
    std::string body, inside;
    std::vector<std::string> at;
    for (std::size_t d = 0; d < in.size(); ++d) {
        if (before[d] == 0 && in[d] == out[d]) {
            at.push_back(fmt::format("i{}", d));
            continue;
        }
        at.push_back(fmt::format("x{}", d));
        body += fmt::format("idx x{0} = i{0} - (idx)({1}); ", d, before[d]);
        switch (mode) {
            case ov::op::PadMode::CONSTANT: inside += fmt::format(" && x{0} >= 0 && x{0} < (idx){1}", d, in[d]); break;
            case ov::op::PadMode::EDGE: body += fmt::format("x{0} = x{0} < 0 ? 0 : x{0} >= (idx){1} ? (idx){1} - 1 : x{0}; ", d, in[d]); break;
            case ov::op::PadMode::REFLECT:
                body += fmt::format("x{0} = x{0} < 0 ? -x{0} : x{0}; x{0} = x{0} >= (idx){1} ? (idx){2} - x{0} : x{0}; ", d, in[d], 2 * (in[d] - 1));
                break;
            case ov::op::PadMode::SYMMETRIC:
                body +=
                    fmt::format("x{0} = x{0} < 0 ? -1 - x{0} : x{0}; x{0} = x{0} >= (idx){1} ? (idx){2} - x{0} : x{0}; ", d, in[d], 2 * in[d] - 1);
                break;
        }
    }
    if (elements(in) == 0) {
        if (!constant) c.unsupported("no elements to pad with");
        return c.set(0, valued ? c.b.broadcast(c.in(3), out) : filled(c.b, c.out_type(), out, 0));
    }
    if (constant && !inside.empty()) body += fmt::format("if (!({})) return {}; ", inside.substr(4), outside);
    c.set(0, c.b.compute(c.out_type(), out, std::move(inputs), {"Pad", body + "return " + read(0, at) + ";", 2, {1, 1}, {}}));
}

void lower_tile(Context& c) {
    const Dims out = c.out_dims();
    Dims in = c.dims(0);
    in.insert(in.begin(), out.size() - in.size(), 1);
    const ValueId data = c.b.reshape(c.in(0), in);
    std::vector<std::string> at;
    bool broadcasts = true;
    for (std::size_t d = 0; d < in.size(); ++d) {
        const bool whole = in[d] == out[d];
        broadcasts = broadcasts && (whole || in[d] == 1);
        at.push_back(whole ? fmt::format("i{}", d) : in[d] == 1 ? "0" : fmt::format("i{} % (idx){}", d, in[d]));
    }
    if (broadcasts) return c.set(0, c.b.broadcast(data, out));
    c.set(0, c.b.compute(c.out_type(), out, {data}, {"Tile", "return " + read(0, at) + ";", 1, {}, {}}));
}

void lower_broadcast(Context& c) {
    const Dims out = c.out_dims();
    ov::op::BroadcastType mode = ov::op::BroadcastType::NUMPY;
    std::int64_t start = 0;
    if (c.is<ov::op::v3::Broadcast>()) {
        const auto& spec = c.as<ov::op::v3::Broadcast>().get_broadcast_spec();
        mode = spec.m_type;
        start = spec.m_axis;
    } else {
        const auto& spec = c.as<ov::op::v1::Broadcast>().get_broadcast_spec();
        start = spec.m_axis;
        mode = spec.m_type == ov::op::AutoBroadcastType::PDPD    ? ov::op::BroadcastType::PDPD
               : spec.m_type == ov::op::AutoBroadcastType::NUMPY ? ov::op::BroadcastType::NUMPY
                                                                 : ov::op::BroadcastType::EXPLICIT;
    }
    ValueId data = c.in(0);
    Dims in = c.dims(0), aligned(out.size(), 1);
    if (mode == ov::op::BroadcastType::EXPLICIT) {
        const auto axes = c.need_integers(2);
        std::vector<int> order(in.size());
        std::iota(order.begin(), order.end(), 0);
        std::sort(order.begin(), order.end(), [&](int a, int b) { return axes[static_cast<std::size_t>(a)] < axes[static_cast<std::size_t>(b)]; });
        data = c.b.transpose(data, order);
        for (std::size_t d = 0; d < in.size(); ++d) aligned[static_cast<std::size_t>(axes[d])] = in[d];
        data = c.b.reshape(data, aligned);
    } else if (mode == ov::op::BroadcastType::PDPD) {
        if (start < 0) start = static_cast<std::int64_t>(out.size() - in.size());
        for (std::size_t d = 0; d < in.size() && d + static_cast<std::size_t>(start) < out.size(); ++d)
            aligned[d + static_cast<std::size_t>(start)] = in[d];
        data = c.b.reshape(data, aligned);
    }
    c.set(0, c.b.broadcast(data, out));
}

void lower_reverse(Context& c) {
    const auto& op = c.as<ov::op::v1::Reverse>();
    const auto chosen = c.need_integers(1);
    const Dims in = c.dims(0);
    Dims begin(in.size(), 0), step(in.size(), 1);
    for (std::size_t k = 0; k < chosen.size(); ++k) {
        const bool mask = op.get_mode() == ov::op::v1::Reverse::Mode::MASK;
        if (mask && chosen[k] == 0) continue;
        const std::size_t d = mask ? k : static_cast<std::size_t>(c.axis(chosen[k], c.rank(0)));
        begin[d] = std::max<std::int64_t>(in[d] - 1, 0);
        step[d] = -1;
    }
    c.set(0, c.b.slice(c.in(0), begin, step, in));
}

void lower_reverse_sequence(Context& c) {
    const auto& op = c.as<ov::op::v0::ReverseSequence>();
    const int batch = c.axis(op.get_origin_batch_axis(), c.rank(0)), sequence = c.axis(op.get_origin_sequence_axis(), c.rank(0));
    auto at = coordinates(c.rank(0));
    at[static_cast<std::size_t>(sequence)] = fmt::format("i{0} < length ? length - 1 - i{0} : i{0}", sequence);
    c.set(0, c.b.compute(c.out_type(), c.out_dims(), {c.in(0), c.in(1)},
                         {"ReverseSequence", fmt::format("const idx length = (idx)in1(i{}); return {};", batch, read(0, at)), 2, {}, {}}));
}

void lower_roll(Context& c) {
    const auto axes = c.need_integers(2);
    const Dims in = c.dims(0);
    const bool one = elements(c.dims(1)) == 1;
    std::vector<std::string> shifts(in.size());
    for (std::size_t k = 0; k < axes.size(); ++k) {
        const std::string at = c.rank(1) == 0 ? "" : one ? "0" : std::to_string(k);
        shifts[static_cast<std::size_t>(c.axis(axes[k], c.rank(0)))] += fmt::format(" + (i64)in1({})", at);
    }
    std::string body;
    auto at = coordinates(c.rank(0));
    for (std::size_t d = 0; d < in.size(); ++d) {
        if (shifts[d].empty()) continue;
        body += fmt::format("const i64 x{0} = (i{0} - ({1})) % {2}ll; ", d, shifts[d].substr(3), in[d]);
        at[d] = fmt::format("(idx)(x{0} < 0 ? x{0} + {1}ll : x{0})", d, in[d]);
    }
    c.set(0, c.b.compute(c.out_type(), in, {c.in(0), c.in(1)}, {"Roll", body + "return " + read(0, at) + ";", 2, {1, 1}, {}}));
}

/// reshape, transpose, reshape to the result's shape.
void rearrange(Context& c, const Dims& from, std::vector<int> permutation) {
    c.set(0, c.b.reshape(c.b.transpose(c.b.reshape(c.in(0), from), std::move(permutation)), c.out_dims()));
}

void lower_depth_to_space(Context& c) {
    const auto& op = c.as<ov::op::v0::DepthToSpace>();
    const auto block = static_cast<std::int64_t>(op.get_block_size());
    const Dims in = c.dims(0);
    const int spatial = c.rank(0) - 2;
    const bool blocks_first = op.get_mode() == ov::op::v0::DepthToSpace::DepthToSpaceMode::BLOCKS_FIRST;
    // (N, C, D…) as (N, block…, C', D…) or (N, C', block…, D…), then each block beside its dimension.
    std::int64_t channels = in[1];
    Dims from{in[0]};
    for (int d = 0; d < spatial; ++d) {
        from.push_back(block);
        channels /= block;
    }
    from.insert(blocks_first ? from.end() : from.begin() + 1, channels);
    from.insert(from.end(), in.begin() + 2, in.end());
    std::vector<int> permutation{0, blocks_first ? spatial + 1 : 1};
    for (int d = 0; d < spatial; ++d) {
        permutation.push_back(spatial + 2 + d);
        permutation.push_back(blocks_first ? 1 + d : 2 + d);
    }
    rearrange(c, from, std::move(permutation));
}

void lower_space_to_depth(Context& c) {
    const auto& op = c.as<ov::op::v0::SpaceToDepth>();
    const auto block = static_cast<std::int64_t>(op.get_block_size());
    const Dims in = c.dims(0);
    const int spatial = c.rank(0) - 2;
    Dims from{in[0], in[1]};
    std::vector<int> blocks, rest;
    for (int d = 0; d < spatial; ++d) {
        from.push_back(in[static_cast<std::size_t>(d) + 2] / block);
        from.push_back(block);
        rest.push_back(2 + 2 * d);
        blocks.push_back(3 + 2 * d);
    }
    const bool blocks_first = op.get_mode() == ov::op::v0::SpaceToDepth::SpaceToDepthMode::BLOCKS_FIRST;
    std::vector<int> permutation{0};
    if (!blocks_first) permutation.push_back(1);
    permutation.insert(permutation.end(), blocks.begin(), blocks.end());
    if (blocks_first) permutation.push_back(1);
    permutation.insert(permutation.end(), rest.begin(), rest.end());
    rearrange(c, from, std::move(permutation));
}

void lower_batch_to_space(Context& c) {
    const auto block = c.need_integers(1), crops = c.need_integers(2);
    const Dims in = c.dims(0);
    const std::size_t rank = in.size();
    // Blocks come first in the batch: (block1, …, N / blocks, D1, …) to (N / blocks, D1, block1, …).
    Dims from, whole{in[0]};
    for (std::size_t d = 1; d < rank; ++d) {
        from.push_back(block[d]);
        whole[0] /= block[d];
        whole.push_back(in[d] * block[d]);
    }
    from.push_back(whole[0]);
    from.insert(from.end(), in.begin() + 1, in.end());
    std::vector<int> permutation{static_cast<int>(rank) - 1};
    for (int d = 1; d < static_cast<int>(rank); ++d) {
        permutation.push_back(static_cast<int>(rank) - 1 + d);
        permutation.push_back(d - 1);
    }
    const ValueId data = c.b.reshape(c.b.transpose(c.b.reshape(c.in(0), from), permutation), whole);
    c.set(0, c.b.slice(data, Dims(crops.begin(), crops.end()), Dims(rank, 1), c.out_dims()));
}

void lower_space_to_batch(Context& c) {
    const auto block = c.need_integers(1), begin = c.need_integers(2), end = c.need_integers(3);
    const Dims in = c.dims(0);
    const std::size_t rank = in.size();
    std::string inside = "1";
    auto at = coordinates(c.rank(0));
    Dims padded = in, from{in[0]};
    for (std::size_t d = 0; d < rank; ++d) {
        padded[d] += begin[d] + end[d];
        if (padded[d] == in[d]) continue;
        at[d] = fmt::format("i{} - (idx){}", d, begin[d]);
        inside += fmt::format(" && i{0} >= (idx){1} && i{0} < (idx){2}", d, begin[d], begin[d] + in[d]);
    }
    ValueId data = c.in(0);
    if (padded != in)
        data = c.b.compute(c.type(0), padded, {data}, {"Pad", fmt::format("if ({}) return {}; return 0;", inside, read(0, at)), 2, {}, {}});
    std::vector<int> permutation;
    for (std::size_t d = 1; d < rank; ++d) {
        from.push_back(padded[d] / block[d]);
        from.push_back(block[d]);
        permutation.push_back(static_cast<int>(2 * d));
    }
    permutation.push_back(0);
    for (std::size_t d = 1; d < rank; ++d) permutation.push_back(static_cast<int>(2 * d) - 1);
    c.set(0, c.b.reshape(c.b.transpose(c.b.reshape(data, from), permutation), c.out_dims()));
}

void lower_shuffle_channels(Context& c) {
    const auto& op = c.as<ov::op::v0::ShuffleChannels>();
    const auto axis = static_cast<std::size_t>(c.axis(op.get_axis(), c.rank(0)));
    const Dims in = c.dims(0);
    rearrange(c, {product(in, 0, axis), op.get_group(), in[axis] / op.get_group(), product(in, axis + 1, in.size())}, {0, 2, 1, 3});
}

void lower_shape_of(Context& c) { c.set(0, c.b.cast(c.b.constant_i64(c.out_dims(), c.dims(0)), c.out_type())); }

void lower_extract_image_patches(Context& c) {
    const auto& op = c.as<ov::op::v3::ExtractImagePatches>();
    const Dims in = c.dims(0), out = c.out_dims();
    const auto& sizes = op.get_sizes();
    std::string body = fmt::format("const idx tap = i1 / (idx){}; ", in[1]), inside;
    for (std::size_t d = 0; d < 2; ++d) {
        const auto size = static_cast<std::int64_t>(sizes[d]), stride = static_cast<std::int64_t>(op.get_strides()[d]),
                   rate = static_cast<std::int64_t>(op.get_rates()[d]);
        std::int64_t pad = 0;
        if (op.get_auto_pad() == ov::op::PadType::SAME_UPPER || op.get_auto_pad() == ov::op::PadType::SAME_LOWER) {
            const std::int64_t all = std::max<std::int64_t>(0, (out[d + 2] - 1) * stride + (size - 1) * rate + 1 - in[d + 2]);
            pad = op.get_auto_pad() == ov::op::PadType::SAME_LOWER ? all - all / 2 : all / 2;
        }
        body += fmt::format("const idx x{0} = i{1} * (idx){2} + (tap {3} (idx){4}) * (idx){5} - (idx){6}; ", d, d + 2, stride, d == 0 ? "/" : "%",
                            sizes[1], rate, pad);
        inside += fmt::format("{0}x{1} >= 0 && x{1} < (idx){2}", d == 0 ? "" : " && ", d, in[d + 2]);
    }
    body += fmt::format("if (!({})) return 0; return in0(i0, i1 % (idx){}, x0, x1);", inside, in[1]);
    c.set(0, c.b.compute(c.out_type(), out, {c.in(0)}, {"ExtractImagePatches", body, 6, {}, {}}));
}

/// Each pixel gathers the patches that cover it.
void lower_col2im(Context& c) {
    const auto& op = c.as<ov::op::v15::Col2Im>();
    const auto size = c.need_integers(1), kernel = c.need_integers(2);
    const bool batched = c.rank(0) == 3;
    const std::string n = batched ? "i0, " : "";
    const int first = batched ? 1 : 0;
    std::int64_t count[2];
    for (std::size_t d = 0; d < 2; ++d) {
        const auto stride = static_cast<std::int64_t>(op.get_strides()[d]), dilation = static_cast<std::int64_t>(op.get_dilations()[d]);
        const auto pads = static_cast<std::int64_t>(op.get_pads_begin()[d] + op.get_pads_end()[d]);
        count[d] = (size[d] + pads - dilation * (kernel[d] - 1) - 1) / stride + 1;
    }
    const std::string acc(to_string(accumulator(c.type(0))));
    std::string body = acc + " sum = 0; ";
    for (std::size_t d = 0; d < 2; ++d) {
        body += fmt::format(
            "for (idx k{0} = 0; k{0} < (idx){1}; ++k{0}) {{ const idx y{0} = i{2} + (idx){3} - k{0} * (idx){4}; "
            "if (y{0} < 0 || y{0} % (idx){5} != 0 || y{0} / (idx){5} >= (idx){6}) continue; ",
            d, kernel[d], first + 1 + static_cast<int>(d), op.get_pads_begin()[d], op.get_dilations()[d], op.get_strides()[d], count[d]);
    }
    body += fmt::format("sum += in0({0}(i{1} * (idx){2} + k0) * (idx){3} + k1, y0 / (idx){4} * (idx){5} + y1 / (idx){6}); }} }} return sum;", n,
                        first, kernel[0], kernel[1], op.get_strides()[0], count[1], op.get_strides()[1]);
    const double reads = static_cast<double>(kernel[0] * kernel[1]);
    c.set(0, c.b.compute(c.out_type(), c.out_dims(), {c.in(0)}, {"Col2Im", body, static_cast<int>(std::min(reads * 6, 1e6)), {reads}, {}}));
}

void lower_one_hot(Context& c) {
    const Dims out = c.out_dims();
    std::int64_t axis = 0;
    bool wraps = false;
    if (c.is<ov::op::v16::OneHot>()) {
        const auto& op = c.as<ov::op::v16::OneHot>();
        axis = op.get_axis();
        wraps = op.get_negative_indices_mode() == ov::op::v16::OneHot::NegativeIndicesMode::NORMALIZE;
    } else {
        axis = c.as<ov::op::v1::OneHot>().get_axis();
    }
    const auto at = static_cast<std::size_t>(c.axis(axis, static_cast<int>(out.size())));
    auto index = coordinates(static_cast<int>(out.size()));
    index.erase(index.begin() + static_cast<std::ptrdiff_t>(at));
    const auto scalar = [&](int k) { return read(k - 1, std::vector<std::string>(static_cast<std::size_t>(c.rank(k)), "0")); };
    const std::string test = wraps ? fmt::format("x == i{0} || x + {1}ll == i{0}", at, out[at]) : fmt::format("x == i{}", at);
    c.set(0,
          c.b.compute(
              c.out_type(), out, {c.in(0), c.in(2), c.in(3)},
              {"OneHot", fmt::format("const i64 x = (i64){}; return {} ? {} : {};", read(0, index), test, scalar(2), scalar(3)), 2, {1, 1, 1}, {}}));
}

void lower_eye(Context& c) {
    const Dims out = c.out_dims();
    const std::size_t rank = out.size();
    c.set(0, c.b.compute(c.out_type(), out, {c.in(2)},
                         {"Eye", fmt::format("return (i64)i{} - i{} == (i64)in0({});", rank - 1, rank - 2, c.rank(2) == 0 ? "" : "0"), 1, {}, {}}));
}

void lower_range(Context& c) {
    const Type type = c.out_type();
    const std::string_view wide = to_string(accumulator(type));
    c.set(0, c.b.compute(type, c.out_dims(), {c.b.cast(c.in(0), type), c.b.cast(c.in(2), type)},
                         {"Range", fmt::format("return ({0})in0() + ({0})i0 * ({0})in1();", wide), 1, {}, {}}));
}

void lower_convert_promote_types(Context& c) {
    for (int k = 0; k < 2; ++k) c.set(k, c.b.cast(c.in(k), c.out_type(k)));
}

}  // namespace

void add_movement(Table& t) {
    t["Reshape"] = t["Squeeze"] = t["Unsqueeze"] = lower_reshape;
    t["Transpose"] = lower_transpose;
    t["Concat"] = lower_concat;
    t["Slice"] = lower_slice;
    t["SliceScatter"] = lower_slice_scatter;
    t["StridedSlice"] = lower_strided_slice;
    t["Split"] = t["VariadicSplit"] = lower_split;
    t["Pad"] = lower_pad;
    t["Tile"] = lower_tile;
    t["Broadcast"] = lower_broadcast;
    t["Reverse"] = lower_reverse;
    t["ReverseSequence"] = lower_reverse_sequence;
    t["Roll"] = lower_roll;
    t["DepthToSpace"] = lower_depth_to_space;
    t["SpaceToDepth"] = lower_space_to_depth;
    t["BatchToSpace"] = lower_batch_to_space;
    t["SpaceToBatch"] = lower_space_to_batch;
    t["ShuffleChannels"] = lower_shuffle_channels;
    t["ShapeOf"] = lower_shape_of;
    t["Identity"] = [](Context& c) { c.set(0, c.in(0)); };
    t["ExtractImagePatches"] = lower_extract_image_patches;
    t["Col2Im"] = lower_col2im;
    t["OneHot"] = lower_one_hot;
    t["Eye"] = lower_eye;
    t["Range"] = lower_range;
    t["ConvertPromoteTypes"] = lower_convert_promote_types;
}

}  // namespace ai_vmm::cuda
