// SPDX-License-Identifier: Apache-2.0
// Operations that move elements without looking at them.
#include <algorithm>
#include <limits>
#include <numeric>

#include "context.hpp"

namespace ai_vmm::ort {
namespace {

using Ints = std::vector<std::int64_t>;
using ov::element::Type;
constexpr std::int64_t kMax = std::numeric_limits<std::int64_t>::max();
constexpr std::int64_t kMin = std::numeric_limits<std::int64_t>::min();

Ints sequence(std::int64_t count, std::int64_t from = 0) {
    Ints values(static_cast<std::size_t>(count));
    std::iota(values.begin(), values.end(), from);
    return values;
}

// The engine moves elements of whole bytes only.
Type moved_type(Type type) { return type == ov::element::i4 ? Type(ov::element::i8) : type == ov::element::u4 ? Type(ov::element::u8) : type; }
std::string moved(Context& context, const ov::Node& node, std::size_t index) {
    return context.in_as(node, index, moved_type(node.get_input_element_type(index)));
}
void set_moved(Context& context, const ov::Node& node, std::size_t index, std::string name) {
    context.set_from(node, index, std::move(name), moved_type(node.get_output_element_type(index)));
}

void reshape(Context& context, const ov::Node& node) {
    const bool special_zero = NodeAttributes(node).flag("special_zero", true);
    set_moved(context, node, 0, context.graph.add("Reshape", {moved(context, node, 0), context.in_ints(node, 1)}, {{"allowzero", !special_zero}}));
}

void squeeze(Context& context, const ov::Node& node) {
    std::vector<std::string> inputs{moved(context, node, 0)};
    if (context.has_input(node, 1)) {
        if (const auto axes = context.constant_ints(node, 1)) {
            // OpenVINO leaves axes that are not 1 alone.
            const ov::PartialShape& shape = node.get_input_partial_shape(0);
            Ints kept;
            for (const std::int64_t axis : *axes) {
                if (shape.rank().is_static()) {
                    const ov::Dimension& size = shape[static_cast<std::size_t>(positive_axis(axis, shape.rank().get_length()))];
                    if (size.is_static() && size.get_length() != 1) continue;
                }
                kept.push_back(axis);
            }
            if (kept.empty() && !axes->empty()) return set_moved(context, node, 0, inputs[0]);
            if (!kept.empty()) inputs.push_back(context.graph.ints(kept));
        } else {
            inputs.push_back(context.in_ints(node, 1));
        }
    }
    set_moved(context, node, 0, context.graph.add("Squeeze", std::move(inputs)));
}

void unsqueeze(Context& context, const ov::Node& node) {
    set_moved(context, node, 0, context.graph.add("Unsqueeze", {moved(context, node, 0), context.in_ints(node, 1)}));
}

void transpose(Context& context, const ov::Node& node) {
    const auto order = context.constant_ints(node, 1);
    if (!order) refuse(node, "the order is not constant");
    OnnxAttributes attributes;
    if (!order->empty()) attributes.emplace_back("perm", *order);
    set_moved(context, node, 0, context.graph.add("Transpose", {moved(context, node, 0)}, std::move(attributes)));
}

void concat(Context& context, const ov::Node& node) {
    std::vector<std::string> inputs;
    for (std::size_t i = 0; i < node.get_input_size(); ++i) inputs.push_back(moved(context, node, i));
    if (inputs.size() == 1) return set_moved(context, node, 0, inputs[0]);
    set_moved(context, node, 0, context.graph.add("Concat", std::move(inputs), {{"axis", NodeAttributes(node).integer("axis")}}));
}

std::int64_t constant_axis(Context& context, const ov::Node& node, std::size_t index) {
    const Ints axis = context.need_ints(node, index);
    if (axis.size() != 1) refuse(node, "the axis is not one number");
    return axis.front();
}

void split(Context& context, const ov::Node& node) {
    const std::size_t count = node.get_output_size();
    const auto names = context.graph.add_many("Split", {moved(context, node, 0)}, count,
                                              {{"axis", constant_axis(context, node, 1)}, {"num_outputs", static_cast<std::int64_t>(count)}});
    for (std::size_t i = 0; i < count; ++i) set_moved(context, node, i, names[i]);
}

void variadic_split(Context& context, const ov::Node& node) {
    OnnxGraph& g = context.graph;
    const std::int64_t axis = constant_axis(context, node, 1);
    Ints lengths = context.need_ints(node, 2);
    const std::string x = moved(context, node, 0);
    std::string lengths_name;
    const auto rest = std::ranges::find(lengths, -1);
    if (rest != lengths.end()) {
        const std::int64_t others = std::accumulate(lengths.begin(), lengths.end(), std::int64_t{1});
        const ov::PartialShape& shape = node.get_input_partial_shape(0);
        const std::int64_t rank = rank_of(node, shape);
        const ov::Dimension& size = shape[static_cast<std::size_t>(positive_axis(axis, rank))];
        if (size.is_static()) {
            *rest = size.get_length() - others;
        } else {
            const auto position = rest - lengths.begin();
            const std::string total = g.add("Gather", {g.add("Shape", {x}), g.ints({positive_axis(axis, rank)})});
            *rest = 0;
            Ints mask(lengths.size(), 0);
            mask[static_cast<std::size_t>(position)] = 1;
            lengths_name = g.add("Add", {g.ints(lengths), g.add("Mul", {g.ints(mask), g.add("Sub", {total, g.ints({others})})})});
        }
    }
    if (lengths_name.empty()) lengths_name = g.ints(lengths);
    const auto names = g.add_many("Split", {x, lengths_name}, node.get_output_size(), {{"axis", axis}});
    for (std::size_t i = 0; i < names.size(); ++i) set_moved(context, node, i, names[i]);
}

void slice(Context& context, const ov::Node& node) {
    std::vector<std::string> inputs{moved(context, node, 0), context.in_ints(node, 1), context.in_ints(node, 2)};
    const std::string step = context.in_ints(node, 3);
    if (context.has_input(node, 4)) {
        inputs.push_back(context.in_ints(node, 4));
    } else {
        const ov::PartialShape& starts = node.get_input_partial_shape(1);
        if (starts.is_dynamic()) refuse(node, "the number of axes is not known");
        inputs.push_back(context.graph.ints(sequence(static_cast<std::int64_t>(ov::shape_size(starts.to_shape())))));
    }
    inputs.push_back(step);
    set_moved(context, node, 0, context.graph.add("Slice", std::move(inputs)));
}

// Masks follow tf.strided_slice: position i of begin, end and stride is position i of the specification.
void strided_slice(Context& context, const ov::Node& node) {
    OnnxGraph& g = context.graph;
    const NodeAttributes attributes(node);
    const ov::PartialShape& begin_shape = node.get_input_partial_shape(1);
    if (begin_shape.is_dynamic()) refuse(node, "the number of axes is not known");
    const std::size_t count = ov::shape_size(begin_shape.to_shape());
    const auto mask = [&](const char* name) {
        Ints values = attributes.integers(name);
        values.resize(count, 0);
        return values;
    };
    const Ints begin_mask = mask("begin_mask"), end_mask = mask("end_mask"), new_axis = mask("new_axis_mask"), shrink = mask("shrink_axis_mask"),
               ellipsis = mask("ellipsis_mask");
    Ints strides(count, 1);
    if (context.has_input(node, 3)) strides = context.need_ints(node, 3);

    // Which axis of the data each position is for.
    const std::int64_t used = std::count(new_axis.begin(), new_axis.end(), 0) - std::count(ellipsis.begin(), ellipsis.end(), 1);
    Ints axes, positions, added, removed;
    std::int64_t axis = 0, out_axis = 0;
    for (std::size_t i = 0; i < count; ++i) {
        if (ellipsis[i] != 0) {
            const std::int64_t skipped = rank_of(node, node.get_input_partial_shape(0)) - used;
            axis += skipped;
            out_axis += skipped;
        } else if (new_axis[i] != 0) {
            added.push_back(out_axis++);
        } else {
            axes.push_back(axis);
            positions.push_back(static_cast<std::int64_t>(i));
            if (shrink[i] != 0) {
                removed.push_back(axis);
            } else {
                ++out_axis;
            }
            ++axis;
        }
    }
    const auto begin = context.constant_ints(node, 1);
    const auto end = context.constant_ints(node, 2);
    Ints steps, first, last, first_open, last_open, shrunk;
    for (const std::int64_t position : positions) {
        const auto i = static_cast<std::size_t>(position);
        const bool backwards = strides[i] < 0;
        steps.push_back(shrink[i] != 0 ? 1 : strides[i]);
        shrunk.push_back(shrink[i]);
        first_open.push_back(begin_mask[i] != 0 && shrink[i] == 0 ? 1 : 0);
        last_open.push_back(end_mask[i] != 0 ? 1 : 0);
        first.push_back(backwards ? kMax : 0);
        last.push_back(backwards ? kMin : kMax);
    }
    std::string x = moved(context, node, 0);
    if (!axes.empty()) {
        std::string first_name, last_name;
        if (begin && end) {
            for (std::size_t k = 0; k < positions.size(); ++k) {
                const auto i = static_cast<std::size_t>(positions[k]);
                if (first_open[k] == 0) first[k] = (*begin)[i];
                if (last_open[k] == 0) last[k] = (*end)[i];
                if (shrink[i] != 0) last[k] = first[k] == -1 ? kMax : first[k] + 1;
            }
            first_name = g.ints(first);
            last_name = g.ints(last);
        } else {
            const auto choose = [&](std::size_t input, const Ints& open, const Ints& fallback) {
                const std::string given = g.add("Gather", {context.in_ints(node, input), g.ints(positions)});
                const std::string is_open = context.cast(g.ints(open), ov::element::i64, ov::element::boolean);
                return g.add("Where", {is_open, g.ints(fallback), given});
            };
            first_name = choose(1, first_open, first);
            last_name = choose(2, last_open, last);
            if (!removed.empty()) {
                const std::string next = g.add("Add", {first_name, g.ints({1})});
                const std::string wrapped = g.add("Where", {g.add("Equal", {next, g.ints({0})}), g.ints({kMax}), next});
                last_name = g.add("Where", {context.cast(g.ints(shrunk), ov::element::i64, ov::element::boolean), wrapped, last_name});
            }
        }
        x = g.add("Slice", {x, first_name, last_name, g.ints(axes), g.ints(steps)});
    }
    if (!removed.empty()) x = g.add("Squeeze", {x, g.ints(removed)});
    if (!added.empty()) x = g.add("Unsqueeze", {x, g.ints(added)});
    set_moved(context, node, 0, x);
}

void broadcast(Context& context, const ov::Node& node) {
    OnnxGraph& g = context.graph;
    const std::string mode = NodeAttributes(node).text("mode", node.get_input_size() > 2 ? "explicit" : "numpy");
    static constexpr Types kTypes = {ov::element::f32, ov::element::f64, ov::element::f16, ov::element::i8,  ov::element::i16, ov::element::i32,
                                     ov::element::i64, ov::element::u8,  ov::element::u16, ov::element::u32, ov::element::u64, ov::element::boolean};
    const ov::element::Type type = carrier(node.get_input_element_type(0), kTypes);
    std::string x = context.in_as(node, 0, type);
    if (mode == "explicit") {
        const Ints mapping = context.need_ints(node, 2);
        if (!std::ranges::is_sorted(mapping)) refuse(node, "the axes mapping is not ascending");
        const ov::PartialShape& target = node.get_output_partial_shape(0);
        const std::int64_t rank = rank_of(node, target);
        Ints added;
        for (std::int64_t axis = 0; axis < rank; ++axis) {
            if (std::ranges::find(mapping, axis) == mapping.end()) added.push_back(axis);
        }
        if (!added.empty()) {
            // A scalar may be mapped too, as if it had one axis.
            if (rank_of(node, node.get_input_partial_shape(0)) == 0 && !mapping.empty()) x = g.add("Reshape", {x, g.ints({1})});
            x = g.add("Unsqueeze", {x, g.ints(added)});
        }
    } else if (mode != "numpy" && mode != "bidirectional") {
        refuse(node, "broadcast mode " + mode);
    }
    context.set_from(node, 0, g.add("Expand", {x, context.in_ints(node, 1)}), type);
}

void tile(Context& context, const ov::Node& node) {
    OnnxGraph& g = context.graph;
    const ov::PartialShape& repeats_shape = node.get_input_partial_shape(1);
    if (repeats_shape.is_dynamic()) refuse(node, "the number of repeats is not known");
    const auto count = static_cast<std::int64_t>(ov::shape_size(repeats_shape.to_shape()));
    const std::int64_t rank = rank_of(node, node.get_input_partial_shape(0));
    static constexpr Types kTypes = {ov::element::f32, ov::element::f64, ov::element::i8,  ov::element::i16, ov::element::i32,    ov::element::i64,
                                     ov::element::u8,  ov::element::u16, ov::element::u32, ov::element::u64, ov::element::boolean};
    const ov::element::Type type = carrier(node.get_input_element_type(0), kTypes);
    std::string x = context.in_as(node, 0, type), repeats = context.in_ints(node, 1);
    if (count > rank) x = g.add("Unsqueeze", {x, g.ints(sequence(count - rank))});
    if (count < rank) repeats = g.add("Concat", {g.ints(Ints(static_cast<std::size_t>(rank - count), 1)), repeats}, {{"axis", 0}});
    context.set_from(node, 0, g.add("Tile", {x, repeats}), type);
}

void pad(Context& context, const ov::Node& node) {
    OnnxGraph& g = context.graph;
    const std::string mode = NodeAttributes(node).text("pad_mode", "constant");
    if (mode == "symmetric") refuse(node, "ONNX has no symmetric padding");
    static constexpr Types kTypes = {ov::element::f32, ov::element::f64, ov::element::i32, ov::element::i64,    ov::element::i8,
                                     ov::element::u8,  ov::element::u32, ov::element::u64, ov::element::boolean};
    const ov::element::Type type = carrier(node.get_input_element_type(0), kTypes);
    const auto begin = context.constant_ints(node, 1), end = context.constant_ints(node, 2);
    std::string pads;
    if (begin && end) {
        Ints both = *begin;
        both.insert(both.end(), end->begin(), end->end());
        if (std::ranges::all_of(both, [](std::int64_t size) { return size == 0; })) return context.set(node, 0, context.in(node, 0));
        pads = g.ints(both);
    } else {
        pads = g.add("Concat", {context.in_ints(node, 1), context.in_ints(node, 2)}, {{"axis", 0}});
    }
    std::vector<std::string> inputs{context.in_as(node, 0, type), pads};
    if (mode == "constant" && context.has_input(node, 3)) inputs.push_back(context.in_as(node, 3, type));
    context.set_from(node, 0, g.add("Pad", std::move(inputs), {{"mode", mode}}), type);
}

void roll(Context& context, const ov::Node& node) {
    OnnxGraph& g = context.graph;
    Ints shifts = context.need_ints(node, 1);
    const Ints axes = context.need_ints(node, 2);
    const ov::PartialShape& shape = node.get_input_partial_shape(0);
    const std::int64_t rank = rank_of(node, shape);
    if (shifts.size() == 1) shifts.resize(axes.size(), shifts[0]);
    std::string x = moved(context, node, 0);
    for (std::size_t i = 0; i < axes.size(); ++i) {
        const std::int64_t axis = positive_axis(axes[i], rank);
        const ov::Dimension& size = shape[static_cast<std::size_t>(axis)];
        if (size.is_dynamic()) refuse(node, "the rolled axis has no fixed size");
        const std::int64_t length = std::max<std::int64_t>(size.get_length(), 1);
        const std::int64_t shift = ((shifts[i] % length) + length) % length;
        if (shift == 0) continue;
        const std::string tail = g.add("Slice", {x, g.ints({length - shift}), g.ints({kMax}), g.ints({axis})});
        const std::string head = g.add("Slice", {x, g.ints({0}), g.ints({length - shift}), g.ints({axis})});
        x = g.add("Concat", {tail, head}, {{"axis", axis}});
    }
    set_moved(context, node, 0, x);
}

void reverse(Context& context, const ov::Node& node) {
    const std::int64_t rank = rank_of(node, node.get_input_partial_shape(0));
    Ints axes = context.need_ints(node, 1);
    if (NodeAttributes(node).text("mode", "index") == "mask") {
        Ints chosen;
        for (std::size_t i = 0; i < axes.size(); ++i) {
            if (axes[i] != 0) chosen.push_back(static_cast<std::int64_t>(i));
        }
        axes = chosen;
    }
    for (std::int64_t& axis : axes) axis = positive_axis(axis, rank);
    if (axes.empty()) return set_moved(context, node, 0, moved(context, node, 0));
    OnnxGraph& g = context.graph;
    const Ints first(axes.size(), kMax), last(axes.size(), kMin), steps(axes.size(), -1);
    set_moved(context, node, 0, g.add("Slice", {moved(context, node, 0), g.ints(first), g.ints(last), g.ints(axes), g.ints(steps)}));
}

void reverse_sequence(Context& context, const ov::Node& node) {
    OnnxGraph& g = context.graph;
    const NodeAttributes attributes(node);
    const std::int64_t rank = rank_of(node, node.get_input_partial_shape(0));
    const std::int64_t batch = positive_axis(attributes.integer("batch_axis"), rank), time = positive_axis(attributes.integer("seq_axis", 1), rank);
    // ONNX wants both among the first two axes.
    Ints order{batch, time}, back(static_cast<std::size_t>(rank));
    for (std::int64_t axis = 0; axis < rank; ++axis) {
        if (axis != batch && axis != time) order.push_back(axis);
    }
    for (std::size_t i = 0; i < order.size(); ++i) back[static_cast<std::size_t>(order[i])] = static_cast<std::int64_t>(i);
    const std::string x = g.add("Transpose", {moved(context, node, 0)}, {{"perm", order}});
    const std::string y = g.add("ReverseSequence", {x, context.in_ints(node, 1)}, {{"batch_axis", 0}, {"time_axis", 1}});
    set_moved(context, node, 0, g.add("Transpose", {y}, {{"perm", back}}));
}

// [N, C, D1.., Dk] with blocks on every spatial axis, for any k; sizes must be known but for the batch.
void depth_to_space(Context& context, const ov::Node& node, bool to_space) {
    OnnxGraph& g = context.graph;
    const NodeAttributes attributes(node);
    const std::int64_t block = attributes.integer("block_size", 1);
    const bool blocks_first = attributes.text("mode", "blocks_first") == "blocks_first";
    const ov::PartialShape& shape = node.get_input_partial_shape(0);
    const std::int64_t rank = rank_of(node, shape);
    if (rank == 4 && to_space) {
        return set_moved(context, node, 0,
                         g.add("DepthToSpace", {moved(context, node, 0)}, {{"blocksize", block}, {"mode", blocks_first ? "DCR" : "CRD"}}));
    }
    if (rank == 4 && blocks_first) return set_moved(context, node, 0, g.add("SpaceToDepth", {moved(context, node, 0)}, {{"blocksize", block}}));
    const Ints dims = dims_of(shape);
    if (std::count(dims.begin() + 1, dims.end(), -1) > 0) refuse(node, "sizes are not known");
    const std::int64_t spatial = rank - 2;
    std::int64_t volume = 1;
    for (std::int64_t i = 0; i < spatial; ++i) volume *= block;
    Ints split{-1}, order{0}, merged{-1};
    if (to_space) {
        const std::int64_t channels = dims[1] / volume;
        if (!blocks_first) split.push_back(channels);
        for (std::int64_t i = 0; i < spatial; ++i) split.push_back(block);
        if (blocks_first) split.push_back(channels);
        split.insert(split.end(), dims.begin() + 2, dims.end());
        const std::int64_t first_block = blocks_first ? 1 : 2;
        order.push_back(blocks_first ? spatial + 1 : 1);
        for (std::int64_t i = 0; i < spatial; ++i) {
            order.push_back(spatial + 2 + i);
            order.push_back(first_block + i);
        }
        merged.push_back(channels);
        for (std::int64_t i = 0; i < spatial; ++i) merged.push_back(dims[static_cast<std::size_t>(2 + i)] * block);
    } else {
        split.push_back(dims[1]);
        for (std::int64_t i = 0; i < spatial; ++i) {
            split.push_back(dims[static_cast<std::size_t>(2 + i)] / block);
            split.push_back(block);
        }
        if (!blocks_first) order.push_back(1);
        for (std::int64_t i = 0; i < spatial; ++i) order.push_back(3 + 2 * i);
        if (blocks_first) order.push_back(1);
        for (std::int64_t i = 0; i < spatial; ++i) order.push_back(2 + 2 * i);
        merged.push_back(dims[1] * volume);
        for (std::int64_t i = 0; i < spatial; ++i) merged.push_back(dims[static_cast<std::size_t>(2 + i)] / block);
    }
    const std::string x = g.add("Transpose", {g.add("Reshape", {moved(context, node, 0), g.ints(split)})}, {{"perm", order}});
    set_moved(context, node, 0, g.add("Reshape", {x, g.ints(merged)}));
}

// tf.space_to_batch_nd; sizes must be known but for the batch.
void space_to_batch(Context& context, const ov::Node& node) {
    OnnxGraph& g = context.graph;
    const Ints block = context.need_ints(node, 1), begin = context.need_ints(node, 2), end = context.need_ints(node, 3);
    const Ints dims = dims_of(node.get_input_partial_shape(0));
    if (dims.size() != block.size() || block[0] != 1 || std::count(dims.begin() + 1, dims.end(), -1) > 0) refuse(node, "sizes are not known");
    static constexpr Types kTypes = {ov::element::f32, ov::element::f64, ov::element::i32, ov::element::i64, ov::element::i8, ov::element::u8};
    const ov::element::Type type = carrier(node.get_input_element_type(0), kTypes);
    Ints pads = begin;
    pads.insert(pads.end(), end.begin(), end.end());
    Ints split{-1}, order, merged{-1};
    for (std::size_t i = 1; i < dims.size(); ++i) {
        const std::int64_t padded = dims[i] + begin[i] + end[i];
        split.push_back(padded / block[i]);
        split.push_back(block[i]);
        order.push_back(static_cast<std::int64_t>(2 * i));
        merged.push_back(padded / block[i]);
    }
    order.push_back(0);
    for (std::size_t i = 1; i < dims.size(); ++i) order.push_back(static_cast<std::int64_t>(2 * i - 1));
    std::string x = g.add("Pad", {context.in_as(node, 0, type), g.ints(pads)});
    x = g.add("Transpose", {g.add("Reshape", {x, g.ints(split)})}, {{"perm", order}});
    context.set_from(node, 0, g.add("Reshape", {x, g.ints(merged)}), type);
}

void batch_to_space(Context& context, const ov::Node& node) {
    OnnxGraph& g = context.graph;
    const Ints block = context.need_ints(node, 1), begin = context.need_ints(node, 2), end = context.need_ints(node, 3);
    const Ints dims = dims_of(node.get_input_partial_shape(0));
    if (dims.size() != block.size() || block[0] != 1 || std::count(dims.begin() + 1, dims.end(), -1) > 0) refuse(node, "sizes are not known");
    const auto spatial = static_cast<std::int64_t>(dims.size()) - 1;
    Ints split(block.begin() + 1, block.end()), order{spatial}, merged{-1}, axes, first, last;
    split.push_back(-1);
    split.insert(split.end(), dims.begin() + 1, dims.end());
    for (std::int64_t i = 0; i < spatial; ++i) {
        const auto k = static_cast<std::size_t>(i + 1);
        order.push_back(spatial + 1 + i);
        order.push_back(i);
        merged.push_back(dims[k] * block[k]);
        axes.push_back(i + 1);
        first.push_back(begin[k]);
        last.push_back(dims[k] * block[k] - end[k]);
    }
    std::string x = g.add("Transpose", {g.add("Reshape", {moved(context, node, 0), g.ints(split)})}, {{"perm", order}});
    x = g.add("Reshape", {x, g.ints(merged)});
    set_moved(context, node, 0, g.add("Slice", {x, g.ints(first), g.ints(last), g.ints(axes)}));
}

void shuffle_channels(Context& context, const ov::Node& node) {
    OnnxGraph& g = context.graph;
    const NodeAttributes attributes(node);
    const Ints dims = dims_of(node.get_input_partial_shape(0));
    const auto rank = static_cast<std::int64_t>(dims.size());
    const auto axis = static_cast<std::size_t>(positive_axis(attributes.integer("axis", 1), rank));
    const std::int64_t group = attributes.integer("group", 1);
    if (rank == 0 || std::count(dims.begin(), dims.end(), -1) > (dims[0] == -1 && axis != 0 ? 1 : 0)) refuse(node, "sizes are not known");
    Ints split(dims.begin(), dims.begin() + static_cast<std::ptrdiff_t>(axis));
    split.push_back(group);
    split.push_back(dims[axis] / group);
    split.insert(split.end(), dims.begin() + static_cast<std::ptrdiff_t>(axis) + 1, dims.end());
    Ints order = sequence(rank + 1);
    std::swap(order[axis], order[axis + 1]);
    const std::string x = g.add("Transpose", {g.add("Reshape", {moved(context, node, 0), g.ints(split)})}, {{"perm", order}});
    set_moved(context, node, 0, g.add("Reshape", {x, g.ints(dims)}));
}

void shape_of(Context& context, const ov::Node& node) {
    context.set_from(node, 0, context.graph.add("Shape", {context.in(node, 0)}), ov::element::i64);
}

void range(Context& context, const ov::Node& node) {
    static constexpr Types kTypes = {ov::element::f32, ov::element::f64, ov::element::i32, ov::element::i64};
    const ov::element::Type type = carrier(node.get_output_element_type(0), kTypes);
    std::vector<std::string> inputs;
    for (std::size_t i = 0; i < 3; ++i) {
        std::string name = context.in_as(node, i, type);
        if (rank_of(node, node.get_input_partial_shape(i)) != 0) name = context.graph.add("Reshape", {name, context.graph.ints({})});
        inputs.push_back(std::move(name));
    }
    context.set_from(node, 0, context.graph.add("Range", std::move(inputs)), type);
}

}  // namespace

void add_shape_handlers(HandlerTable& table) {
    table["Reshape"] = reshape;
    table["Squeeze"] = squeeze;
    table["Unsqueeze"] = unsqueeze;
    table["Transpose"] = transpose;
    table["Concat"] = concat;
    table["Split"] = split;
    table["VariadicSplit"] = variadic_split;
    table["Slice"] = slice;
    table["StridedSlice"] = strided_slice;
    table["Broadcast"] = broadcast;
    table["Tile"] = tile;
    table["Pad"] = pad;
    table["Roll"] = roll;
    table["Reverse"] = reverse;
    table["ReverseSequence"] = reverse_sequence;
    table["DepthToSpace"] = [](Context& c, const ov::Node& n) { depth_to_space(c, n, true); };
    table["SpaceToDepth"] = [](Context& c, const ov::Node& n) { depth_to_space(c, n, false); };
    table["SpaceToBatch"] = space_to_batch;
    table["BatchToSpace"] = batch_to_space;
    table["ShuffleChannels"] = shuffle_channels;
    table["ShapeOf"] = shape_of;
    table["Range"] = range;
}

}  // namespace ai_vmm::ort
