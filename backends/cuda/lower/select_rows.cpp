// SPDX-License-Identifier: Apache-2.0
#include "lower/select_rows.hpp"

#include <algorithm>
#include <compare>
#include <functional>
#include <map>
#include <numeric>
#include <optional>
#include <set>
#include <tuple>
#include <utility>
#include <vector>

#include "openvino/core/graph_util.hpp"
#include "openvino/op/concat.hpp"
#include "openvino/op/constant.hpp"
#include "openvino/op/convert.hpp"
#include "openvino/op/gather.hpp"
#include "openvino/op/matmul.hpp"
#include "openvino/op/mvn.hpp"
#include "openvino/op/reshape.hpp"
#include "openvino/op/result.hpp"
#include "openvino/op/scaled_dot_product_attention.hpp"
#include "openvino/op/slice.hpp"
#include "openvino/op/softmax.hpp"
#include "openvino/op/squeeze.hpp"
#include "openvino/op/strided_slice.hpp"
#include "openvino/op/transpose.hpp"
#include "openvino/op/unsqueeze.hpp"
#include "openvino/op/util/arithmetic_reductions_keep_dims.hpp"
#include "openvino/op/util/binary_elementwise_arithmetic.hpp"
#include "openvino/op/util/gather_base.hpp"
#include "openvino/op/util/unary_elementwise_arithmetic.hpp"

namespace ai_vmm::cuda {
namespace {

using Output = ov::Output<ov::Node>;

const ov::Shape& shape_of(const Output& value) { return value.get_shape(); }

std::optional<std::vector<std::int64_t>> integers(const Output& value) {
    const auto constant = ov::as_type_ptr<ov::op::v0::Constant>(value.get_node_shared_ptr());
    if (!constant || !constant->get_element_type().is_integral_number()) return std::nullopt;
    return constant->cast_vector<std::int64_t>();
}

/// Whether axes given by a constant leave `axis` alone.
bool spares(const Output& axes, std::size_t axis, std::size_t rank) {
    const auto given = integers(axes);
    return given && std::ranges::none_of(*given, [&](std::int64_t one) {
               return static_cast<std::size_t>(one < 0 ? one + static_cast<std::int64_t>(rank) : one) == axis;
           });
}

/// Where the rows of a sequence are in a value: dimension `axis` is (outer, rows, inner) in one, as reshapes join them.
struct Rows {
    std::size_t axis = 0, outer = 1, inner = 1;
    auto operator<=>(const Rows&) const = default;
};

/// Rows `begin` to `begin + count` along `axis` of input 0 of a node, which reshapes them.
struct Selection {
    std::size_t axis = 0;
    std::int64_t begin = 0, count = 0;
};

std::optional<Selection> selection_of(const ov::Node& node) {
    const ov::Shape& in = node.get_input_shape(0);
    const auto row = [&](std::size_t axis, std::int64_t at) -> std::optional<Selection> {
        // Before opset 8 a Gather's indices are not counted from the end.
        if (at < 0 && (ov::is_type<ov::op::v8::Gather>(&node) || ov::is_type<ov::op::v1::StridedSlice>(&node)))
            at += static_cast<std::int64_t>(in[axis]);
        if (at < 0 || at >= static_cast<std::int64_t>(in[axis])) return std::nullopt;
        return Selection{axis, at, 1};
    };
    if (const auto* gather = ov::as_type<const ov::op::util::GatherBase>(&node)) {
        const auto indices = integers(node.input_value(1)), axes = integers(node.input_value(2));
        if (!indices || indices->size() != 1 || !axes || axes->size() != 1 || gather->get_batch_dims() != 0) return std::nullopt;
        const std::int64_t axis = axes->front() < 0 ? axes->front() + static_cast<std::int64_t>(in.size()) : axes->front();
        if (axis < 0 || axis >= static_cast<std::int64_t>(in.size())) return std::nullopt;
        return row(static_cast<std::size_t>(axis), indices->front());
    }
    if (const auto* slice = ov::as_type<const ov::op::v1::StridedSlice>(&node)) {
        // x[:, 0]: one dimension is given up, the others are whole.
        const auto begin = integers(node.input_value(1));
        const auto steps = node.get_input_size() > 3 ? integers(node.input_value(3)) : std::vector<std::int64_t>{};
        const auto& shrinks = slice->get_shrink_axis_mask();
        const auto any = [](const std::vector<std::int64_t>& mask) { return std::ranges::any_of(mask, [](std::int64_t bit) { return bit != 0; }); };
        if (!begin || !steps || !std::ranges::all_of(*steps, [](std::int64_t step) { return step == 1; }) || any(slice->get_new_axis_mask()) ||
            any(slice->get_ellipsis_mask()))
            return std::nullopt;
        const auto shrunk = std::ranges::find_if(shrinks, [](std::int64_t bit) { return bit != 0; });
        const auto axis = static_cast<std::size_t>(shrunk - shrinks.begin());
        if (shrunk == shrinks.end() || std::ranges::count_if(shrinks, [](std::int64_t bit) { return bit != 0; }) != 1) return std::nullopt;
        if (axis >= begin->size() || axis >= in.size() || ov::shape_size(node.get_output_shape(0)) * in[axis] != ov::shape_size(in))
            return std::nullopt;
        const auto& masked = slice->get_begin_mask();
        return row(axis, axis < masked.size() && masked[axis] != 0 ? 0 : (*begin)[axis]);
    }
    if (ov::is_type<ov::op::v8::Slice>(&node)) {
        const auto begin = integers(node.input_value(1)), step = integers(node.input_value(3));
        const ov::Shape& out = node.get_output_shape(0);
        std::vector<std::int64_t> axes;
        if (node.get_input_size() > 4) {
            if (const auto given = integers(node.input_value(4))) axes = *given;
        } else if (begin) {
            axes.resize(begin->size());
            std::iota(axes.begin(), axes.end(), 0);
        }
        if (!begin || !step || begin->size() != 1 || axes.size() != 1 || step->front() != 1) return std::nullopt;
        const std::int64_t axis = axes.front() < 0 ? axes.front() + static_cast<std::int64_t>(in.size()) : axes.front();
        if (axis < 0 || axis >= static_cast<std::int64_t>(in.size())) return std::nullopt;
        const auto size = static_cast<std::int64_t>(in[static_cast<std::size_t>(axis)]);
        const std::int64_t first = std::clamp<std::int64_t>(begin->front() < 0 ? begin->front() + size : begin->front(), 0, size);
        return Selection{static_cast<std::size_t>(axis), first, static_cast<std::int64_t>(out[static_cast<std::size_t>(axis)])};
    }
    return std::nullopt;
}

/// The input's rows of a reshape, of `count`; none: they are cut up.
std::optional<Rows> reshaped(const ov::Shape& in, const ov::Shape& out, const Rows& rows, std::size_t count) {
    const auto before = [](const ov::Shape& shape, std::size_t end) {
        return std::accumulate(shape.begin(), shape.begin() + static_cast<std::ptrdiff_t>(end), std::size_t{1}, std::multiplies<>());
    };
    const std::size_t first = before(out, rows.axis) * rows.outer;
    for (std::size_t d = 0; d < in.size(); ++d) {
        const std::size_t start = before(in, d);
        if (start * in[d] <= first) continue;
        if (first % start != 0 || in[d] % (first / start * count) != 0) return std::nullopt;
        return Rows{d, first / start, in[d] / (first / start * count)};
    }
    return std::nullopt;
}

/// Per input of a node: its dimension from whose rows those along `axis` of the result are computed, each from its own; none: the input is needed
/// whole. Nothing at all: rows are not computed one by one, or it is not known here. Not of reshapes.
using InputAxes = std::vector<std::optional<std::size_t>>;

bool reshapes(const ov::Node& node) {
    return ov::is_type<ov::op::v1::Reshape>(&node) || ov::is_type<ov::op::v0::Squeeze>(&node) || ov::is_type<ov::op::v0::Unsqueeze>(&node);
}

/// Inputs that meet as NumPy broadcasts them.
InputAxes broadcast_axes(const ov::Node& node, std::size_t axis, std::size_t first_input, std::size_t last_input, InputAxes axes) {
    const ov::Shape& out = node.get_output_shape(0);
    for (std::size_t k = first_input; k < last_input; ++k) {
        const ov::Shape& in = node.get_input_shape(k);
        const std::size_t missing = out.size() - in.size();
        axes[k] = axis < missing || in[axis - missing] != out[axis] ? std::nullopt : std::optional(axis - missing);
    }
    return axes;
}

std::optional<InputAxes> input_axes(const ov::Node& node, std::size_t axis) {
    const ov::Shape& out = node.get_output_shape(0);
    InputAxes axes(node.get_input_size());
    if (ov::is_type<ov::op::util::UnaryElementwiseArithmetic>(&node) || ov::is_type<ov::op::v0::Convert>(&node)) {
        axes[0] = axis;
        return axes;
    }
    if (ov::is_type<ov::op::util::BinaryElementwiseArithmetic>(&node)) {
        if (node.get_autob().m_type != ov::op::AutoBroadcastType::NUMPY && node.get_autob().m_type != ov::op::AutoBroadcastType::NONE)
            return std::nullopt;
        return broadcast_axes(node, axis, 0, 2, std::move(axes));
    }
    if (const auto* product = ov::as_type<const ov::op::v0::MatMul>(&node)) {
        const std::size_t rank = out.size();
        const ov::Shape &a = node.get_input_shape(0), &b = node.get_input_shape(1);
        if (a.size() < 2 || b.size() < 2 || axis + 1 >= rank) return std::nullopt;
        if (axis + 2 == rank) {
            axes[0] = a.size() - (product->get_transpose_a() ? 1 : 2);
            return axes;
        }
        return broadcast_axes(node, axis, 0, 2, std::move(axes));
    }
    if (const auto* attention = ov::as_type<const ov::op::v13::ScaledDotProductAttention>(&node)) {
        if (attention->get_causal() || node.get_input_size() > 4 || axis + 2 != out.size()) return std::nullopt;
        axes[0] = node.get_input_shape(0).size() - 2;
        if (node.get_input_size() == 4 && node.get_input_shape(3).size() >= 2) {
            const ov::Shape& mask = node.get_input_shape(3);
            if (mask[mask.size() - 2] == out[axis]) axes[3] = mask.size() - 2;
        }
        return axes;
    }
    const auto whole_rows = [&](std::int64_t over) {
        return static_cast<std::size_t>(over < 0 ? over + static_cast<std::int64_t>(out.size()) : over) != axis;
    };
    bool row_by_row = false;
    if (const auto* softmax = ov::as_type<const ov::op::v1::Softmax>(&node)) {
        row_by_row = whole_rows(static_cast<std::int64_t>(softmax->get_axis()));
    } else if (const auto* signed_softmax = ov::as_type<const ov::op::v8::Softmax>(&node)) {
        row_by_row = whole_rows(signed_softmax->get_axis());
    } else if (ov::is_type<ov::op::v6::MVN>(&node)) {
        row_by_row = spares(node.input_value(1), axis, out.size());
    } else if (const auto* reduction = ov::as_type<const ov::op::util::ArithmeticReductionKeepDims>(&node)) {
        row_by_row = reduction->get_keep_dims() && spares(node.input_value(1), axis, out.size());
    }
    if (row_by_row) {
        axes[0] = axis;
        return axes;
    }
    if (ov::is_type<ov::op::v1::Transpose>(&node)) {
        const auto order = integers(node.input_value(1));
        if (!order || order->size() != out.size()) return std::nullopt;
        axes[0] = static_cast<std::size_t>((*order)[axis]);
        return axes;
    }
    if (const auto* concat = ov::as_type<const ov::op::v0::Concat>(&node)) {
        if (!whole_rows(concat->get_axis())) return std::nullopt;
        std::ranges::fill(axes, axis);
        return axes;
    }
    if (const auto chosen = ov::is_type<ov::op::util::GatherBase>(&node) ? selection_of(node) : std::nullopt) {
        const bool gone = out.size() + 1 == node.get_input_shape(0).size();
        if (!gone && chosen->axis == axis) return std::nullopt;
        if (!gone && out.size() != node.get_input_shape(0).size()) return std::nullopt;
        axes[0] = gone && axis >= chosen->axis ? axis + 1 : axis;
        return axes;
    }
    return std::nullopt;
}

/// What one selection can be moved before.
class Region {
public:
    Region(const std::shared_ptr<ov::Node>& root, const Selection& selection)
        : root_(root), selection_(selection), size_(root->get_input_shape(0)[selection.axis]) {
        find(root->input_value(0), {selection.axis});
        // Readers before what they read: a node stays where anything else reads it.
        std::vector<ov::Node*> order;
        std::set<ov::Node*> seen;
        for (const auto& [node, found] : found_) sort(node, seen, order);
        for (auto it = order.rbegin(); it != order.rend(); ++it) {
            if (only_read_by_rows(*it)) moved_.insert(*it);
        }
    }

    /// A product is among them.
    [[nodiscard]] bool is_worth_it() const {
        return std::ranges::any_of(moved_, [](const ov::Node* node) { return ov::is_type<ov::op::v0::MatMul>(node); });
    }

    void apply() {
        const Output rows = taken(root_->input_value(0), {selection_.axis});
        const Output result = in_shape(rows, root_->get_output_shape(0));
        result.get_node()->set_friendly_name(root_->get_friendly_name());
        ov::replace_node(root_, result.get_node_shared_ptr());
    }

private:
    static constexpr std::size_t kMostNodes = 1000;
    struct Found {
        Rows rows;
        std::vector<std::optional<Rows>> inputs;
    };

    [[nodiscard]] std::optional<std::vector<std::optional<Rows>>> inputs_of(const ov::Node& node, const Rows& rows) const {
        std::vector<std::optional<Rows>> inputs(node.get_input_size());
        if (reshapes(node)) {
            inputs[0] = reshaped(node.get_input_shape(0), node.get_output_shape(0), rows, size_);
            return inputs[0] ? std::optional(inputs) : std::nullopt;
        }
        const auto axes = input_axes(node, rows.axis);
        if (!axes) return std::nullopt;
        for (std::size_t k = 0; k < inputs.size(); ++k) {
            if ((*axes)[k]) inputs[k] = Rows{*(*axes)[k], rows.outer, rows.inner};
        }
        return inputs;
    }

    void find(const Output& value, const Rows& rows) {
        ov::Node* node = value.get_node();
        if (conflicts_.contains(node)) return;
        if (const auto known = found_.find(node); known != found_.end()) {
            if (known->second.rows != rows) {
                conflicts_.insert(node);
                found_.erase(known);
            }
            return;
        }
        // As deep as layers are, not as models may be.
        if (node->get_output_size() != 1 || found_.size() >= kMostNodes) return;
        const auto open = [](const Output& one) { return one.get_partial_shape().is_dynamic(); };
        if (open(value) || std::ranges::any_of(node->input_values(), open)) return;
        const auto inputs = inputs_of(*node, rows);
        if (!inputs) return;
        found_.emplace(node, Found{rows, *inputs});
        for (std::size_t k = 0; k < inputs->size(); ++k) {
            if ((*inputs)[k]) find(node->input_value(k), *(*inputs)[k]);
        }
    }

    void sort(ov::Node* node, std::set<ov::Node*>& seen, std::vector<ov::Node*>& order) const {
        if (!found_.contains(node) || !seen.insert(node).second) return;
        for (const auto& input : node->input_values()) sort(input.get_node(), seen, order);
        order.push_back(node);
    }

    [[nodiscard]] bool only_read_by_rows(ov::Node* node) const {
        const Rows& rows = found_.at(node).rows;
        return std::ranges::all_of(node->output(0).get_target_inputs(), [&](const ov::Input<ov::Node>& reader) {
            ov::Node* by = reader.get_node();
            if (by == root_.get()) return reader.get_index() == 0 && rows == Rows{selection_.axis};
            return moved_.contains(by) && found_.at(by).inputs[reader.get_index()] == std::optional(rows);
        });
    }

    static Output in_shape(const Output& value, const ov::Shape& shape) {
        return std::make_shared<ov::op::v1::Reshape>(value, ov::op::v0::Constant::create(ov::element::i64, ov::Shape{shape.size()}, shape), false);
    }

    /// The selected rows of `value`.
    Output taken(const Output& value, const Rows& rows) {
        ov::Node* node = value.get_node();
        const auto key = std::tuple(node, value.get_index(), rows);
        if (const auto known = taken_.find(key); known != taken_.end()) return known->second;
        const auto count = static_cast<std::size_t>(selection_.count);
        ov::Shape shape = shape_of(value);
        shape[rows.axis] = rows.outer * count * rows.inner;
        Output result;
        if (moved_.contains(node)) {
            const Found& found = found_.at(node);
            ov::OutputVector inputs = node->input_values();
            for (std::size_t k = 0; k < inputs.size(); ++k) {
                if (found.inputs[k]) inputs[k] = taken(inputs[k], *found.inputs[k]);
            }
            result = reshapes(*node) ? in_shape(inputs[0], shape) : Output(node->clone_with_new_inputs(inputs));
            result.get_node()->set_friendly_name(node->get_friendly_name());
        } else {
            const auto number = [](std::int64_t at) { return ov::op::v0::Constant::create(ov::element::i64, ov::Shape{1}, {at}); };
            ov::Shape split = shape_of(value);
            split[rows.axis] = rows.inner;
            split.insert(split.begin() + static_cast<std::ptrdiff_t>(rows.axis), {rows.outer, size_});
            const Output cut =
                std::make_shared<ov::op::v8::Slice>(in_shape(value, split), number(selection_.begin), number(selection_.begin + selection_.count),
                                                    number(1), number(static_cast<std::int64_t>(rows.axis) + 1));
            result = in_shape(cut, shape);
            result.get_node()->set_friendly_name(node->get_friendly_name() + "/rows");
        }
        taken_[key] = result;
        return result;
    }

    std::shared_ptr<ov::Node> root_;
    Selection selection_;
    std::size_t size_;  // of all rows
    std::map<ov::Node*, Found> found_;
    std::set<ov::Node*> conflicts_, moved_;
    std::map<std::tuple<ov::Node*, std::size_t, Rows>, Output> taken_;
};

/// The first place where less is to be computed.
std::optional<Region> find_region(const ov::Model& model) {
    for (const auto& node : model.get_ordered_ops()) {
        if (node->get_input_size() == 0 || node->get_input_partial_shape(0).is_dynamic() || node->get_output_size() != 1 ||
            node->get_output_partial_shape(0).is_dynamic())
            continue;
        if (node->input_value(0).get_target_inputs().size() != 1) continue;
        const auto selection = selection_of(*node);
        if (!selection || selection->count < 1 || 2 * selection->count > static_cast<std::int64_t>(node->get_input_shape(0)[selection->axis]))
            continue;
        Region region(node, *selection);
        if (region.is_worth_it()) return region;
    }
    return std::nullopt;
}

}  // namespace

std::shared_ptr<const ov::Model> select_rows(const std::shared_ptr<const ov::Model>& model) {
    if (model->is_dynamic() || !find_region(*model)) return model;
    const std::shared_ptr<ov::Model> copy = model->clone();
    // Each leaves fewer products of all rows than there were.
    while (auto region = find_region(*copy)) region->apply();
    copy->validate_nodes_and_infer_types();
    return copy;
}

}  // namespace ai_vmm::cuda
