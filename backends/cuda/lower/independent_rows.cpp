// SPDX-License-Identifier: Apache-2.0
#include "lower/independent_rows.hpp"

#include <algorithm>
#include <cstring>
#include <string_view>
#include <unordered_map>

#include "ai_vmm/error.hpp"
#include "lower/context.hpp"
#include "openvino/op/ops.hpp"
#include "openvino/op/util/gather_base.hpp"
#include "openvino/op/util/multi_subgraph_base.hpp"
#include "openvino/op/util/topk_base.hpp"

namespace ai_vmm::cuda {
namespace {

/// How a value with few rows relates to the one with many.
struct Place {
    enum class Kind { same, rows, differs };
    Kind kind = Kind::same;
    /// rows: dimension `axis` counts (outer, rows, inner), and where the row is one that both have, the elements are equal.
    int axis = 0;
    std::int64_t outer = 1, inner = 1;

    bool operator==(const Place&) const = default;
};

std::vector<std::int64_t> integers_of(const ov::op::v0::Constant& constant) { return constant.cast_vector<std::int64_t>(); }

std::int64_t product(const Dims& dims, std::size_t begin, std::size_t end) {
    std::int64_t all = 1;
    for (std::size_t d = begin; d < end; ++d) all *= dims[d];
    return all;
}

/// One operation in both models.
struct Pair {
    const ov::Node& few;
    const ov::Node& many;
    std::vector<Place> in;
    std::int64_t rows, bucket;

    [[nodiscard]] static Dims dims(const ov::Node& node, std::size_t k) { return from_openvino(node.get_input_shape(k)); }
    [[nodiscard]] int rank(std::size_t k) const { return static_cast<int>(many.get_input_shape(k).size()); }
    [[nodiscard]] int out_rank() const { return static_cast<int>(many.get_output_shape(0).size()); }
    [[nodiscard]] bool same(std::size_t k) const { return in[k].kind == Place::Kind::same; }
    [[nodiscard]] bool has_rows(std::size_t k) const { return k < in.size() && in[k].kind == Place::Kind::rows; }
    [[nodiscard]] bool same_from(std::size_t first) const {
        for (std::size_t k = first; k < in.size(); ++k) {
            if (!same(k)) return false;
        }
        return true;
    }
    [[nodiscard]] static std::optional<std::vector<std::int64_t>> integers(const ov::Node& node, std::size_t k) {
        if (k >= node.get_input_size()) return std::nullopt;
        const auto* constant = ov::as_type<const ov::op::v0::Constant>(node.get_input_node_ptr(k));
        if (constant == nullptr) return std::nullopt;
        return integers_of(*constant);
    }
    /// A constant of both models.
    [[nodiscard]] std::optional<std::vector<std::int64_t>> integers(std::size_t k) const {
        if (k >= in.size() || !same(k)) return std::nullopt;
        return integers(many, k);
    }
};

using Found = std::optional<Place>;

/// True if `axes`, which may count from the end, has none of the batch.
bool spare(const std::vector<std::int64_t>& axes, int rank, int axis) {
    return std::ranges::none_of(axes, [&](std::int64_t a) { return (a < 0 ? a + rank : a) == axis; });
}

/// Results have the elements' places of the first input; nothing else is looked at row by row.
Found first_alone(const Pair& p) {
    if (!p.has_rows(0) || !p.same_from(1)) return std::nullopt;
    return p.in[0];
}

/// Dimensions are aligned at the end, so that the batch meets itself or nothing.
Found elementwise(const Pair& p) {
    const auto is_paddle = [](const ov::op::AutoBroadcastSpec& spec) { return spec.m_type == ov::op::AutoBroadcastType::PDPD; };
    if (is_paddle(p.many.get_autob())) return std::nullopt;
    if (const auto* select = ov::as_type<const ov::op::v1::Select>(&p.many); select != nullptr && is_paddle(select->get_auto_broadcast()))
        return std::nullopt;
    if (const auto* quantize = ov::as_type<const ov::op::v0::FakeQuantize>(&p.many); quantize != nullptr && is_paddle(quantize->get_auto_broadcast()))
        return std::nullopt;
    Found found;
    for (std::size_t k = 0; k < p.in.size(); ++k) {
        if (p.same(k)) continue;
        if (!p.has_rows(k)) return std::nullopt;
        Place place = p.in[k];
        place.axis += p.out_rank() - p.rank(k);
        if (found && *found != place) return std::nullopt;
        found = place;
    }
    return found;
}

/// Only the type of the second input matters.
Found convert_like(const Pair& p) { return p.has_rows(0) ? Found(p.in[0]) : std::nullopt; }

/// Images of a batch, each by itself.
Found samples(const Pair& p) {
    const Found found = first_alone(p);
    return found && found->axis == 0 ? found : std::nullopt;
}

Found matmul(const Pair& p) {
    const auto* node = ov::as_type<const ov::op::v0::MatMul>(&p.many);
    if (node == nullptr) return std::nullopt;
    const int full = std::max({p.rank(0), p.rank(1), 2});
    Found found;
    for (std::size_t k = 0; k < 2; ++k) {
        if (p.same(k)) continue;
        const int rank = p.rank(k);
        if (!p.has_rows(k) || rank < 2) return std::nullopt;
        Place place = p.in[k];
        const bool transposed = k == 0 ? node->get_transpose_a() : node->get_transpose_b();
        const int kept = (k == 0) != transposed ? rank - 2 : rank - 1;  // the other one is summed over
        if (place.axis < rank - 2) {
            place.axis += full - rank;
        } else if (place.axis == kept) {
            const bool before_vector = p.rank(1 - k) == 1;
            place.axis = k == 0 || before_vector ? full - 2 : full - 1;
        } else {
            return std::nullopt;
        }
        if (found && *found != place) return std::nullopt;
        found = place;
    }
    return found;
}

/// Elements keep their order, so the batch is where as many elements lie before it and in each of its rows.
Found reshape(const Pair& p) {
    if (!p.has_rows(0)) return std::nullopt;
    const Dims from = Pair::dims(p.many, 0), few = from_openvino(p.few.get_output_shape(0)), many = from_openvino(p.many.get_output_shape(0));
    if (few.size() != many.size() || product(many, 0, many.size()) == 0 || product(few, 0, few.size()) == 0) return std::nullopt;
    const std::int64_t before = product(from, 0, static_cast<std::size_t>(p.in[0].axis)) * p.in[0].outer;
    for (std::size_t axis = 0; axis < many.size(); ++axis) {
        const std::int64_t ahead = product(many, 0, axis);
        if (product(few, 0, axis) != ahead || before % ahead != 0) return std::nullopt;
        const std::int64_t outer = before / ahead, inner = many[axis] / (outer * p.bucket);
        if (inner > 0 && many[axis] == outer * p.bucket * inner && few[axis] == outer * p.rows * inner)
            return Place{Place::Kind::rows, static_cast<int>(axis), outer, inner};
    }
    return std::nullopt;
}

Found transpose(const Pair& p) {
    auto order = p.integers(1);
    if (!p.has_rows(0) || !order) return std::nullopt;
    if (order->empty()) {
        for (int axis = p.rank(0); axis-- > 0;) order->push_back(axis);
    }
    Place place = p.in[0];
    place.axis = static_cast<int>(std::ranges::find(*order, place.axis) - order->begin());
    return place;
}

Found concat(const Pair& p) {
    const auto* node = ov::as_type<const ov::op::v0::Concat>(&p.many);
    if (node == nullptr) return std::nullopt;
    Found found;
    for (std::size_t k = 0; k < p.in.size(); ++k) {
        // A part that has no rows can't be as long as those that have.
        if (!p.has_rows(k) || !spare({node->get_axis()}, p.rank(k), p.in[k].axis) || (found && *found != p.in[k])) return std::nullopt;
        found = p.in[k];
    }
    return found;
}

/// Operations along axes that input `k` holds; the batch is none of them.
Found along_input(const Pair& p, std::size_t k) {
    const auto axes = p.integers(k);
    const Found found = first_alone(p);
    return found && axes && spare(*axes, p.rank(0), found->axis) ? found : std::nullopt;
}

Found along_second(const Pair& p) { return along_input(p, 1); }

Found along_attribute(const Pair& p) {
    const auto axis_of = [](const ov::Node& node) -> std::optional<std::int64_t> {
        if (const auto* op = ov::as_type<const ov::op::v1::Softmax>(&node)) return static_cast<std::int64_t>(op->get_axis());
        if (const auto* op = ov::as_type<const ov::op::v8::Softmax>(&node)) return op->get_axis();
        if (const auto* op = ov::as_type<const ov::op::v5::LogSoftmax>(&node)) return op->get_axis();
        if (const auto* op = ov::as_type<const ov::op::util::TopKBase>(&node)) return static_cast<std::int64_t>(op->get_axis());
        return std::nullopt;
    };
    const auto axis = axis_of(p.many);
    const Found found = first_alone(p);
    return found && axis && spare({*axis}, p.rank(0), found->axis) ? found : std::nullopt;
}

Found reduction(const Pair& p) {
    Found found = along_input(p, 1);
    if (!found || p.out_rank() == p.rank(0)) return found;
    std::vector<bool> gone(static_cast<std::size_t>(p.rank(0)), false);
    const auto axes = p.integers(1);
    for (const std::int64_t axis : *axes) gone[static_cast<std::size_t>(axis < 0 ? axis + p.rank(0) : axis)] = true;
    found->axis -= static_cast<int>(std::count(gone.begin(), gone.begin() + found->axis, true));
    return found;
}

/// A slice of one dimension in both models: the whole one where it is the batch, else the same.
struct Bounds {
    std::int64_t begin_few, begin_many, end_few, end_many, step_few, step_many;
    [[nodiscard]] bool whole(std::int64_t few, std::int64_t many) const {
        return (begin_few == 0 || begin_few <= -few) && (begin_many == 0 || begin_many <= -many) && end_few >= few && end_many >= many &&
               step_few == 1 && step_many == 1;
    }
    [[nodiscard]] bool same() const { return begin_few == begin_many && end_few == end_many && step_few == step_many; }
};

/// Begins, ends and steps of slices, inputs 1 to 3 of a slice, which may depend on the batch.
std::optional<std::vector<Bounds>> bounds_of(const Pair& p) {
    std::vector<Bounds> all;
    const auto begin_few = Pair::integers(p.few, 1), begin_many = Pair::integers(p.many, 1);
    const auto end_few = Pair::integers(p.few, 2), end_many = Pair::integers(p.many, 2);
    if (!begin_few || !begin_many || !end_few || !end_many) return std::nullopt;
    const std::vector<std::int64_t> ones(begin_many->size(), 1);
    if (p.in.size() > 3 && (!Pair::integers(p.few, 3) || !Pair::integers(p.many, 3))) return std::nullopt;
    const auto step_few = Pair::integers(p.few, 3).value_or(ones), step_many = Pair::integers(p.many, 3).value_or(ones);
    const std::size_t count = begin_many->size();
    for (const auto* one : {&*begin_few, &*end_few, &*end_many, &step_few, &step_many}) {
        if (one->size() != count) return std::nullopt;
    }
    for (std::size_t k = 0; k < count; ++k)
        all.push_back({(*begin_few)[k], (*begin_many)[k], (*end_few)[k], (*end_many)[k], step_few[k], step_many[k]});
    return all;
}

Found slice(const Pair& p) {
    const auto bounds = bounds_of(p);
    if (!p.has_rows(0) || !bounds) return std::nullopt;
    std::vector<std::int64_t> axes;
    if (p.in.size() > 4) {
        const auto given = p.integers(4);
        if (!given || given->size() != bounds->size()) return std::nullopt;
        axes = *given;
    } else {
        for (std::size_t k = 0; k < bounds->size(); ++k) axes.push_back(static_cast<std::int64_t>(k));
    }
    const auto batch = static_cast<std::size_t>(p.in[0].axis);
    for (std::size_t k = 0; k < axes.size(); ++k) {
        const bool kept = spare({axes[k]}, p.rank(0), p.in[0].axis) ? (*bounds)[k].same()
                                                                    : (*bounds)[k].whole(Pair::dims(p.few, 0)[batch], Pair::dims(p.many, 0)[batch]);
        if (!kept) return std::nullopt;
    }
    return p.in[0];
}

Found strided_slice(const Pair& p) {
    const auto* node = ov::as_type<const ov::op::v1::StridedSlice>(&p.many);
    auto bounds = bounds_of(p);
    if (node == nullptr || !p.has_rows(0) || !bounds) return std::nullopt;
    const auto set = [](const std::vector<std::int64_t>& mask, std::size_t k) { return k < mask.size() && mask[k] != 0; };
    const Dims few = Pair::dims(p.few, 0), many = Pair::dims(p.many, 0);
    Place place = p.in[0];
    const int batch = place.axis;
    int axis = 0;
    for (std::size_t k = 0; k < bounds->size(); ++k) {
        Bounds& at = (*bounds)[k];
        if (set(node->get_ellipsis_mask(), k)) return std::nullopt;
        if (set(node->get_new_axis_mask(), k)) {
            if (axis <= batch) ++place.axis;
            continue;
        }
        if (axis >= p.rank(0)) return std::nullopt;
        const auto d = static_cast<std::size_t>(axis);
        const bool shrinks = set(node->get_shrink_axis_mask(), k);
        if (set(node->get_begin_mask(), k) && !shrinks) at.begin_few = at.begin_many = 0;
        if (set(node->get_end_mask(), k) && !shrinks) at.end_few = few[d], at.end_many = many[d];
        if (axis == batch) {
            if (shrinks || !at.whole(few[d], many[d])) return std::nullopt;
        } else if (!at.same()) {
            return std::nullopt;
        } else if (shrinks && axis < batch) {
            --place.axis;
        }
        ++axis;
    }
    return place;
}

/// Rows of a table, by indices of each row; or the same places of each row.
Found gather(const Pair& p) {
    const auto axes = p.integers(2);
    if (!axes || axes->size() != 1) return std::nullopt;
    const int axis = static_cast<int>(axes->front() < 0 ? axes->front() + p.rank(0) : axes->front());
    std::int64_t shared = 0;
    if (const auto* node = ov::as_type<const ov::op::v7::Gather>(&p.many)) shared = node->get_batch_dims();
    if (const auto* node = ov::as_type<const ov::op::v8::Gather>(&p.many)) shared = node->get_batch_dims();
    if (shared < 0) return std::nullopt;
    const int common = static_cast<int>(shared);
    Place place;
    if (p.has_rows(0) && p.has_rows(1)) return p.in[0] == p.in[1] && p.in[0].axis < common ? Found(p.in[0]) : std::nullopt;
    if (p.has_rows(0) && p.same(1)) {
        place = p.in[0];
        if (place.axis == axis || place.axis < common) return std::nullopt;
        if (place.axis > axis) place.axis += p.rank(1) - common - 1;
        return place;
    }
    if (!p.same(0) || !p.has_rows(1) || p.in[1].axis < common) return std::nullopt;
    place = p.in[1];
    place.axis += axis - common;
    return place;
}

Found gather_elements(const Pair& p) {
    const auto* node = ov::as_type<const ov::op::v6::GatherElements>(&p.many);
    if (node == nullptr || !p.has_rows(0) || p.in[0] != p.in[1] || !spare({node->get_axis()}, p.rank(0), p.in[0].axis)) return std::nullopt;
    return p.in[0];
}

Found pad(const Pair& p) {
    const auto begin = p.integers(1), end = p.integers(2);
    const Found found = first_alone(p);
    if (!found || !begin || !end) return std::nullopt;
    const auto axis = static_cast<std::size_t>(found->axis);
    return begin->at(axis) == 0 && end->at(axis) == 0 ? found : std::nullopt;
}

/// Where the only dimension is that has other sizes in the two results: as many equal ones as the batch has rows.
Found repeated(const Pair& p) {
    const Dims few = from_openvino(p.few.get_output_shape(0)), many = from_openvino(p.many.get_output_shape(0));
    if (few.size() != many.size()) return std::nullopt;
    const auto differ = std::ranges::mismatch(few, many).in1 - few.begin();
    if (differ == static_cast<std::ptrdiff_t>(few.size()) || few[static_cast<std::size_t>(differ)] % p.rows != 0) return std::nullopt;
    return Place{Place::Kind::rows, static_cast<int>(differ), 1, few[static_cast<std::size_t>(differ)] / p.rows};
}

Found broadcast(const Pair& p) {
    if (const auto* node = ov::as_type<const ov::op::v3::Broadcast>(&p.many)) {
        const auto mode = node->get_broadcast_spec().m_type;
        if (mode != ov::op::BroadcastType::NUMPY && mode != ov::op::BroadcastType::BIDIRECTIONAL) return std::nullopt;
    } else if (const auto* older = ov::as_type<const ov::op::v1::Broadcast>(&p.many);
               older == nullptr || older->get_broadcast_spec().m_type != ov::op::AutoBroadcastType::NUMPY) {
        return std::nullopt;
    }
    if (p.same(0)) return repeated(p);
    if (!p.has_rows(0)) return std::nullopt;
    Place place = p.in[0];
    place.axis += p.out_rank() - p.rank(0);
    return place;
}

Found tile(const Pair& p) {
    const auto few = Pair::integers(p.few, 1), many = Pair::integers(p.many, 1);
    if (!few || !many || few->size() != many->size()) return std::nullopt;
    const auto times = [&](int out_axis) {
        const std::size_t at = static_cast<std::size_t>(out_axis) + many->size() - static_cast<std::size_t>(p.out_rank());
        return many->size() + static_cast<std::size_t>(out_axis) < static_cast<std::size_t>(p.out_rank()) ? 1 : (*many)[at];
    };
    if (p.has_rows(0)) {
        Place place = p.in[0];
        place.axis += p.out_rank() - p.rank(0);
        return p.same(1) && times(place.axis) == 1 ? Found(place) : std::nullopt;
    }
    const Found found = repeated(p);
    if (!p.same(0) || !found) return std::nullopt;
    const int from = found->axis - (p.out_rank() - p.rank(0));
    return from < 0 || p.many.get_input_shape(0)[static_cast<std::size_t>(from)] == 1 ? found : std::nullopt;
}

Found split(const Pair& p) { return along_input(p, 1); }

Found cum_sum(const Pair& p) {
    if (p.in.size() > 1) return along_input(p, 1);
    return p.has_rows(0) && p.in[0].axis != 0 ? Found(p.in[0]) : std::nullopt;
}

Found one_hot(const Pair& p) {
    const auto* node = ov::as_type<const ov::op::v1::OneHot>(&p.many);
    Found found = first_alone(p);
    if (node == nullptr || !found) return std::nullopt;
    const std::int64_t axis = node->get_axis() < 0 ? node->get_axis() + p.out_rank() : node->get_axis();
    if (found->axis >= axis) ++found->axis;
    return found;
}

/// Queries, keys and values of a row; a mask that is the same for all, or the row's.
Found attention(const Pair& p) {
    if (p.in.size() < 3) return std::nullopt;
    for (std::size_t k = 0; k < 3; ++k) {
        if (!p.has_rows(k) || p.in[k] != p.in[0] || p.rank(k) != p.rank(0) || p.in[k].axis >= p.rank(k) - 2) return std::nullopt;
    }
    if (p.in.size() > 3 && !p.same(3)) {
        Place mask = p.in[3];
        mask.axis += p.rank(0) - p.rank(3);
        if (mask != p.in[0]) return std::nullopt;
    }
    return p.same_from(4) ? Found(p.in[0]) : std::nullopt;
}

/// Sequences and cells: `states` inputs of the row, and its length where `sequences`; matrices are shared. Only lengths that are constants: those
/// of rows that nobody asked for would be 0, which not every library takes.
Found recurrent(const Pair& p, std::size_t states, bool sequences) {
    const Place first{Place::Kind::rows, 0, 1, 1};
    const std::size_t own = 1 + states + (sequences ? 1 : 0);
    if (p.in.size() < own) return std::nullopt;
    for (std::size_t k = 0; k < own; ++k) {
        if (p.in[k] != first) return std::nullopt;
    }
    if (sequences && !ov::is_type<ov::op::v0::Constant>(p.many.get_input_node_ptr(own - 1))) return std::nullopt;
    return p.same_from(own) ? Found(first) : std::nullopt;
}

template <std::size_t States, bool Sequences>
Found recurrent(const Pair& p) {
    return recurrent(p, States, Sequences);
}

/// The batch is not resized: not named, or by exactly 1.
Found interpolate(const Pair& p) {
    const auto* node = ov::as_type<const ov::op::util::InterpolateBase>(&p.many);
    if (node == nullptr || !p.has_rows(0)) return std::nullopt;
    const auto& attributes = node->get_attrs();
    const auto axis = static_cast<std::size_t>(p.in[0].axis);
    for (const auto* pads : {&attributes.pads_begin, &attributes.pads_end}) {
        if (std::ranges::any_of(*pads, [](std::size_t one) { return one != 0; })) return std::nullopt;
    }
    const bool fourth = ov::is_type<ov::op::v4::Interpolate>(&p.many);
    const std::size_t axes_at = fourth ? 3 : 2;
    if (p.in.size() > axes_at) {
        const auto axes = p.integers(axes_at);
        if (!axes) return std::nullopt;
        // Sizes and scales of the axes alone, none of which is the batch: all of it must be the same.
        if (spare(*axes, p.rank(0), p.in[0].axis)) return first_alone(p);
        if (axes->size() != static_cast<std::size_t>(p.rank(0)) || !std::ranges::is_sorted(*axes) || axes->front() != 0) return std::nullopt;
    }
    using Mode = ov::op::util::InterpolateBase::ShapeCalcMode;
    const std::size_t at = fourth && attributes.shape_calculation_mode == Mode::SCALES ? 2 : 1;
    const auto sized = [&](const ov::Node& which) -> std::optional<std::vector<double>> {
        const auto* constant = ov::as_type<const ov::op::v0::Constant>(which.get_input_node_ptr(at));
        if (constant == nullptr) return std::nullopt;
        std::vector<double> values = constant->cast_vector<double>();
        const double whole = attributes.shape_calculation_mode == Mode::SCALES ? 1 : static_cast<double>(Pair::dims(which, 0)[axis]);
        if (values.size() != static_cast<std::size_t>(p.rank(0)) || values[axis] != whole) return std::nullopt;
        values[axis] = 1;
        return values;
    };
    const auto few = sized(p.few), many = sized(p.many);
    return few && many && *few == *many ? Found(p.in[0]) : std::nullopt;
}

/// Sums of a table's rows that each row of the indices names.
Found embedding_bag(const Pair& p) {
    const Place first{Place::Kind::rows, 0, 1, 1};
    if (!p.same(0) || p.in[1] != first) return std::nullopt;
    for (std::size_t k = 2; k < p.in.size(); ++k) {
        if (p.in[k] != first) return std::nullopt;
    }
    return first;
}

using Rule = Found (*)(const Pair&);

/// What is known to keep rows apart, by the operation's type. Operations whose inputs are all the same need no rule.
const std::unordered_map<std::string_view, Rule>& rules() {
    static const auto all = [] {
        std::unordered_map<std::string_view, Rule> made;
        const auto add = [&](Rule rule, std::initializer_list<std::string_view> types) {
            for (const std::string_view type : types) made.emplace(type, rule);
        };
        add(first_alone,
            {"Abs",     "Acos",  "Acosh", "Asin",       "Asinh",      "Atan",     "Atanh",    "Ceiling", "Clamp",       "Convert",  "Cos",
             "Cosh",    "Elu",   "Erf",   "Exp",        "Floor",      "Gelu",     "HSigmoid", "HSwish",  "HardSigmoid", "Identity", "IsFinite",
             "IsInf",   "IsNaN", "Log",   "LogicalNot", "BitwiseNot", "Mish",     "Negative", "PRelu",   "Relu",        "Round",    "Selu",
             "Sigmoid", "Sign",  "Sin",   "Sinh",       "SoftPlus",   "SoftSign", "Sqrt",     "Swish",   "Tan",         "Tanh",     "Result"});
        add(elementwise, {"Add",        "Subtract",         "Multiply",          "Divide",    "Power",       "Maximum",    "Minimum",
                          "Mod",        "FloorMod",         "SquaredDifference", "Equal",     "NotEqual",    "Greater",    "GreaterEqual",
                          "Less",       "LessEqual",        "LogicalAnd",        "LogicalOr", "LogicalXor",  "BitwiseAnd", "BitwiseOr",
                          "BitwiseXor", "BitwiseLeftShift", "BitwiseRightShift", "Select",    "FakeQuantize"});
        add(convert_like, {"ConvertLike"});
        add(samples, {"Convolution", "GroupConvolution", "ConvolutionBackpropData", "GroupConvolutionBackpropData", "MaxPool", "AvgPool",
                      "AdaptiveAvgPool", "BatchNormInference", "GroupNormalization", "DepthToSpace", "SpaceToDepth"});
        add(matmul, {"MatMul"});
        add(reshape, {"Reshape", "Squeeze", "Unsqueeze"});
        add(transpose, {"Transpose"});
        add(concat, {"Concat"});
        add(split, {"Split", "VariadicSplit"});
        add(slice, {"Slice"});
        add(strided_slice, {"StridedSlice"});
        add(gather, {"Gather"});
        add(gather_elements, {"GatherElements"});
        add(pad, {"Pad"});
        add(broadcast, {"Broadcast"});
        add(tile, {"Tile"});
        add(reduction,
            {"ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2", "ReduceLogicalAnd", "ReduceLogicalOr"});
        add(along_attribute, {"Softmax", "LogSoftmax", "TopK"});
        add(along_second, {"MVN", "NormalizeL2", "LRN"});
        add(cum_sum, {"CumSum"});
        add(one_hot, {"OneHot"});
        add(attention, {"ScaledDotProductAttention"});
        add(interpolate, {"Interpolate"});
        add(embedding_bag, {"EmbeddingBagPackedSum", "EmbeddingBagPacked"});
        add(recurrent<2, true>, {"LSTMSequence"});
        add(recurrent<1, true>, {"GRUSequence", "RNNSequence"});
        add(recurrent<2, false>, {"LSTMCell"});
        add(recurrent<1, false>, {"GRUCell", "RNNCell"});
        return made;
    }();
    return all;
}

/// Results that differ between runs, depend on earlier ones or come out of bodies.
bool is_beyond(const ov::Node& node) {
    const std::string_view type = node.get_type_name();
    return type.starts_with("Random") || type == "Multinomial" || type == "ReadValue" || type == "Assign" ||
           ov::as_type<const ov::op::util::MultiSubGraphOp>(&node) != nullptr;
}

/// Shapes where `place` claims the batch, and nothing else differs.
bool fits(const Place& place, const ov::Shape& few, const ov::Shape& many, const RowBatch& batch) {
    if (few.size() != many.size()) return false;
    if (place.kind == Place::Kind::rows && (place.axis < 0 || place.axis >= static_cast<int>(few.size()))) return false;
    for (std::size_t d = 0; d < few.size(); ++d) {
        const bool here = place.kind == Place::Kind::rows && place.axis == static_cast<int>(d);
        const std::int64_t each = place.outer * place.inner;
        const bool as_claimed =
            here ? static_cast<std::int64_t>(few[d]) == each * batch.rows && static_cast<std::int64_t>(many[d]) == each * batch.bucket
                 : few[d] == many[d];
        if (!as_claimed) return false;
    }
    return true;
}

/// What folding made of the batch's size: the same, equal rows (a broadcast number, a count), or a size.
Place of_constants(const ov::op::v0::Constant& few, const ov::op::v0::Constant& many, const RowBatch& batch) {
    const Place differs{Place::Kind::differs, 0, 1, 1};
    const ov::Shape& small = few.get_shape();
    const ov::Shape& large = many.get_shape();
    const auto& type = many.get_element_type();
    if (type != few.get_element_type() || small.size() != large.size() || type == ov::element::string) return differs;
    const auto* from = static_cast<const std::byte*>(few.get_data_ptr());
    const auto* to = static_cast<const std::byte*>(many.get_data_ptr());
    if (small == large) return std::memcmp(from, to, many.get_byte_size()) == 0 ? Place{} : differs;
    const auto axis = static_cast<std::size_t>(std::ranges::mismatch(small, large).in1 - small.begin());
    Place place{Place::Kind::rows, static_cast<int>(axis), 1, static_cast<std::int64_t>(small[axis]) / batch.rows};
    if (type.bitwidth() % 8 != 0 || !fits(place, small, large, batch)) return differs;
    std::size_t before = 1, after = type.size();
    for (std::size_t d = 0; d < small.size(); ++d) (d < axis ? before : after) *= d == axis ? 1 : small[d];
    for (std::size_t k = 0; k < before; ++k) {
        if (std::memcmp(from + k * small[axis] * after, to + k * large[axis] * after, small[axis] * after) != 0) return differs;
    }
    return place;
}

/// A copy whose weights are inputs behind its own: they need not be folded to know where the rows are.
std::shared_ptr<ov::Model> without_weights(const ov::Model& model) {
    constexpr std::size_t kMostElements = 1024;  // shapes, axes and small vectors stay
    const std::shared_ptr<ov::Model> copy = model.clone();
    ov::ParameterVector weights;
    for (const auto& node : copy->get_ordered_ops()) {
        const auto constant = ov::as_type_ptr<ov::op::v0::Constant>(node);
        if (constant == nullptr || ov::shape_size(constant->get_shape()) <= kMostElements) continue;
        weights.push_back(std::make_shared<ov::op::v0::Parameter>(constant->get_element_type(), constant->get_shape()));
        weights.back()->set_friendly_name(constant->get_friendly_name());
        constant->output(0).replace(weights.back()->output(0));
    }
    copy->add_parameters(weights);
    return copy;
}

/// Places of all values, operation by operation in both models.
class Proof {
public:
    explicit Proof(const RowBatch& batch) : batch_(batch) {}

    std::optional<std::vector<bool>> run(const ov::Model& few, const ov::Model& many) {
        const auto few_nodes = few.get_ordered_ops(), many_nodes = many.get_ordered_ops();
        if (few_nodes.size() != many_nodes.size() || !few.get_sinks().empty() || !few.get_variables().empty()) return std::nullopt;
        set_inputs(many);
        for (std::size_t k = 0; k < many_nodes.size(); ++k) {
            if (!add(*few_nodes[k], *many_nodes[k])) return std::nullopt;
        }
        std::vector<bool> by_rows;
        for (const auto& result : many.get_results()) {
            const Place place = places_.at(result.get()).at(0);
            const bool rows = place == Place{Place::Kind::rows, 0, 1, 1};
            if (!rows && place.kind != Place::Kind::same) return std::nullopt;
            by_rows.push_back(rows);
        }
        return by_rows;
    }

private:
    void set_inputs(const ov::Model& model) {
        const auto& parameters = model.get_parameters();
        for (std::size_t p = 0; p < parameters.size(); ++p) {
            const bool rows = p < batch_.by_rows.size() && batch_.by_rows[p];
            places_[parameters[p].get()] = {rows ? Place{Place::Kind::rows, 0, 1, 1} : Place{}};
        }
    }

    bool add(const ov::Node& few, const ov::Node& many) {
        if (few.get_type_info() != many.get_type_info() || few.get_output_size() != many.get_output_size() || is_beyond(many)) return false;
        counterpart_[&few] = &many;
        if (const auto* constant = ov::as_type<const ov::op::v0::Constant>(&many)) {
            places_[&many] = {of_constants(*ov::as_type<const ov::op::v0::Constant>(&few), *constant, batch_)};
            return true;
        }
        if (!ov::is_type<ov::op::v0::Parameter>(&many)) {
            const auto place = place_of(few, many);
            if (!place) return false;
            places_[&many].assign(many.get_output_size(), *place);
        }
        for (std::size_t k = 0; k < many.get_output_size(); ++k) {
            if (few.get_output_partial_shape(k).is_dynamic() || many.get_output_partial_shape(k).is_dynamic()) return false;
            if (!fits(places_[&many][k], few.get_output_shape(k), many.get_output_shape(k), batch_)) return false;
        }
        return true;
    }

    Found place_of(const ov::Node& few, const ov::Node& many) const {
        if (few.get_friendly_name() != many.get_friendly_name() || few.get_input_size() != many.get_input_size()) return std::nullopt;
        Pair pair{few, many, {}, batch_.rows, batch_.bucket};
        for (std::size_t k = 0; k < many.get_input_size(); ++k) {
            const auto from = many.input_value(k), other = few.input_value(k);
            if (counterpart_.at(other.get_node()) != from.get_node() || other.get_index() != from.get_index()) return std::nullopt;
            pair.in.push_back(places_.at(from.get_node()).at(from.get_index()));
        }
        if (pair.same_from(0)) return Place{};
        const auto rule = rules().find(many.get_type_name());
        return rule == rules().end() ? std::nullopt : rule->second(pair);
    }

    const RowBatch& batch_;
    std::unordered_map<const ov::Node*, std::vector<Place>> places_;    // of the model with many rows
    std::unordered_map<const ov::Node*, const ov::Node*> counterpart_;  // of the one with few
};

}  // namespace

std::optional<std::vector<bool>> independent_rows(const ov::Model& model, const std::vector<Dims>& shapes, const RowBatch& batch) {
    try {
        const auto bare = without_weights(model);
        std::vector<Dims> more = shapes;
        for (std::size_t k = 0; k < more.size(); ++k) {
            if (batch.by_rows[k]) more[k].at(0) = batch.bucket;
        }
        return Proof(batch).run(*with_shapes(*bare, shapes), *with_shapes(*bare, more));
    } catch (const std::exception&) {  // a program for the shapes as they are will tell
        return std::nullopt;
    }
}

}  // namespace ai_vmm::cuda
