// SPDX-License-Identifier: Apache-2.0
/// Branches and loops, unrolled, and the state of stateful models.
#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "lower/text.hpp"
#include "openvino/op/ops.hpp"
#include "openvino/op/util/multi_subgraph_base.hpp"
#include "openvino/op/util/sub_graph_base.hpp"
#include "openvino/pass/constant_folding.hpp"
#include "openvino/pass/manager.hpp"

namespace ai_vmm::cuda {
namespace {

using ov::op::util::MultiSubGraphOp;

/// Unrolled loops may grow a graph by as many nodes.
constexpr std::size_t kMostNodes = 20'000;
/// Larger constants decide no shapes; they stay arguments, so that each iteration reads the same memory.
constexpr std::int64_t kMostFolded = 256;

/// A body for given arguments: their shapes are its parameters' shapes, and what depends on small constants alone is computed. Iterations with the
/// same shapes and constants share one.
class Body {
public:
    Body(Context& c, const ov::Model& model) : c_(c), model_(model) {}

    std::vector<ValueId> operator()(const std::vector<ValueId>& arguments) {
        if (c_.b.graph().nodes.size() > first_node_ + kMostNodes) c_.unsupported(fmt::format("unrolling takes more than {} nodes", kMostNodes));
        std::string key;
        for (ValueId id : arguments) {
            key += fmt::format("{}[{}]", to_string(c_.b.type(id)), fmt::join(c_.b.dims(id), ","));
            if (folded(id)) {
                const ConstantData& data = c_.b.value(id).constant;
                key.append(reinterpret_cast<const char*>(data.data), data.bytes);
            }
        }
        if (!prepared_ || key != key_) prepare(arguments);
        key_ = std::move(key);
        return lower_body(c_.b, *prepared_, arguments);
    }

private:
    [[nodiscard]] bool folded(ValueId id) const { return c_.b.value(id).source == Source::constant && elements(c_.b.dims(id)) <= kMostFolded; }

    void prepare(const std::vector<ValueId>& arguments) {
        try {
            prepared_ = model_.clone();
            const auto& parameters = prepared_->get_parameters();
            for (std::size_t p = 0; p < parameters.size(); ++p) {
                const Value& value = c_.b.value(arguments[p]);
                const ov::Shape shape(value.dims.begin(), value.dims.end());
                parameters[p]->set_partial_shape(shape);
                if (!folded(arguments[p]) || from_openvino(parameters[p]->get_element_type()) != value.type) continue;
                parameters[p]->output(0).replace(
                    std::make_shared<ov::op::v0::Constant>(parameters[p]->get_element_type(), shape, value.constant.data)->output(0));
            }
            prepared_->validate_nodes_and_infer_types();
            ov::pass::Manager manager;
            manager.register_pass<ov::pass::ConstantFolding>();
            manager.run_passes(prepared_);
            prepared_->validate_nodes_and_infer_types();
        } catch (const ov::Exception& error) {
            c_.unsupported(error.what());
        }
    }

    Context& c_;
    const ov::Model& model_;
    const std::size_t first_node_ = c_.b.graph().nodes.size();
    std::string key_;
    std::shared_ptr<ov::Model> prepared_;
};

/// A condition's value if it is a constant.
std::optional<bool> known(const Builder& b, ValueId id) {
    const Value& value = b.value(id);
    if (value.source != Source::constant) return std::nullopt;
    return std::any_of(value.constant.data, value.constant.data + bytes(value.type, value.dims), [](std::byte byte) { return byte != std::byte{0}; });
}

ValueId scalar(Builder& b, ValueId id) { return b.reshape(id, {}); }

ValueId select(Context& c, ValueId condition, ValueId yes, ValueId no) {
    if (yes == no) return yes;
    if (c.b.dims(yes) != c.b.dims(no)) c.unsupported("a condition that is computed decides the shape of a result");
    return c.b.pointwise("Select", c.b.type(yes), {condition, yes, no}, "a ? b : c", 1);
}

/// Both branches are computed where the condition is known only when running: no operation has effects.
void lower_if(Context& c) {
    const auto& op = c.as<ov::op::v8::If>();
    const std::optional<bool> condition = known(c.b, c.in(0));
    const auto branch = [&](int which) {
        const ov::Model& model = *op.get_function(static_cast<std::size_t>(which));
        std::vector<ValueId> arguments(model.get_parameters().size(), -1);
        for (const auto& input : op.get_input_descriptions(which))
            arguments[input->m_body_parameter_index] = c.in(static_cast<int>(input->m_input_index));
        const std::vector<ValueId> results = Body(c, model)(arguments);
        std::vector<ValueId> outputs(op.get_output_size(), -1);
        for (const auto& output : op.get_output_descriptions(which)) outputs[output->m_output_index] = results[output->m_body_value_index];
        return outputs;
    };
    std::vector<ValueId> outputs;
    if (condition) {
        outputs = branch(*condition ? 0 : 1);
    } else {
        outputs = branch(0);
        const std::vector<ValueId> otherwise = branch(1);
        const ValueId chosen = scalar(c.b, c.in(0));
        for (std::size_t k = 0; k < outputs.size(); ++k) outputs[k] = select(c, chosen, outputs[k], otherwise[k]);
    }
    for (std::size_t k = 0; k < outputs.size(); ++k) c.set(static_cast<int>(k), outputs[k]);
}

/// What tells Loop and TensorIterator apart.
struct Schedule {
    std::int64_t most = -1;          ///< iterations; -1: no bound
    std::optional<ValueId> active;   ///< boolean scalar: whether the next iteration runs; none: it does
    bool ended = false;              ///< no iteration follows
    std::int64_t number_at = -1;     ///< the parameter that gets the iteration's number, or -1
    std::int64_t condition_at = -1;  ///< the result that says whether to go on, or -1
};

/// Iterations one after the other. Where only a computed condition ends the loop, all are computed and those after the end change nothing.
void unroll(Context& c, const ov::op::util::SubGraphOp& op, Schedule schedule) {
    Builder& b = c.b;
    const ov::Model& model = *op.get_function();
    Body body(c, model);
    const auto& inputs = op.get_input_descriptions();
    std::vector<ValueId> arguments(model.get_parameters().size(), -1), results, last(model.get_results().size(), -1);
    std::vector<std::vector<ValueId>> parts(op.get_output_size());
    for (const auto& input : inputs) arguments[input->m_body_parameter_index] = c.in(static_cast<int>(input->m_input_index));

    std::int64_t iteration = 0;
    for (; !schedule.ended && (schedule.most < 0 || iteration < schedule.most); ++iteration) {
        if (schedule.most < 0 && schedule.active) c.unsupported("no bound of the iterations is known when compiling");
        for (const auto& input : inputs) {
            const auto* slice = ov::as_type<const MultiSubGraphOp::SliceInputDescription>(input.get());
            if (slice == nullptr) continue;
            const ValueId whole = c.in(static_cast<int>(input->m_input_index));
            const auto axis = static_cast<std::size_t>(c.axis(slice->m_axis, b.rank(whole)));
            Dims begin(b.dims(whole).size(), 0), dims = b.dims(whole);
            const std::int64_t start = slice->m_start < 0 ? slice->m_start + dims[axis] : slice->m_start;
            begin[axis] = start + iteration * slice->m_stride - (slice->m_stride < 0 ? slice->m_part_size - 1 : 0);
            dims[axis] = slice->m_part_size;
            arguments[input->m_body_parameter_index] = b.slice(whole, begin, Dims(begin.size(), 1), dims);
        }
        if (schedule.number_at >= 0) {
            const auto& parameter = model.get_parameters()[static_cast<std::size_t>(schedule.number_at)];
            const auto constant = std::make_shared<ov::op::v0::Constant>(
                parameter->get_element_type(), parameter->get_partial_shape().is_static() ? parameter->get_shape() : ov::Shape{},
                std::vector<std::int64_t>{iteration});
            arguments[static_cast<std::size_t>(schedule.number_at)] =
                b.constant(*from_openvino(constant->get_element_type()), from_openvino(constant->get_shape()),
                           {constant, static_cast<const std::byte*>(constant->get_data_ptr()), constant->get_byte_size()});
        }
        results = body(arguments);
        for (std::size_t k = 0; k < results.size(); ++k)
            last[k] = schedule.active && last[k] >= 0 ? select(c, *schedule.active, results[k], last[k]) : results[k];
        for (const auto& input : inputs) {
            const auto* merged = ov::as_type<const MultiSubGraphOp::MergedInputDescription>(input.get());
            if (merged == nullptr) continue;
            ValueId& argument = arguments[input->m_body_parameter_index];
            const ValueId next = results[merged->m_body_value_index];
            argument = schedule.active ? select(c, *schedule.active, next, argument) : next;
        }
        for (const auto& output : op.get_output_descriptions()) {
            if (ov::as_type<const MultiSubGraphOp::ConcatOutputDescription>(output.get()) == nullptr) continue;
            if (schedule.active) c.unsupported("the number of collected iterations depends on values");
            parts[output->m_output_index].push_back(results[output->m_body_value_index]);
        }
        if (schedule.condition_at < 0) continue;
        const ValueId on = results[static_cast<std::size_t>(schedule.condition_at)];
        if (const auto value = known(b, on)) {
            schedule.ended = !*value;
        } else {
            schedule.active = schedule.active ? b.pointwise("LogicalAnd", Type::boolean, {*schedule.active, scalar(b, on)}, "a && b") : scalar(b, on);
        }
    }
    for (const auto& output : op.get_output_descriptions()) {
        const int k = static_cast<int>(output->m_output_index);
        if (const auto* joined = ov::as_type<const MultiSubGraphOp::ConcatOutputDescription>(output.get())) {
            std::vector<ValueId>& all = parts[output->m_output_index];
            if (joined->m_stride < 0) std::reverse(all.begin(), all.end());
            if (all.empty()) {
                c.set(k, filled(b, c.out_type(k), c.out_dims(k), 0));
            } else {
                c.set(k, b.concat(all, c.axis(joined->m_axis, b.rank(all.front()))));
            }
        } else {
            // Carried values are there without an iteration too.
            const auto carried = std::find_if(inputs.begin(), inputs.end(), [&](const auto& input) {
                const auto* merged = ov::as_type<const MultiSubGraphOp::MergedInputDescription>(input.get());
                return merged != nullptr && merged->m_body_value_index == output->m_body_value_index;
            });
            const ValueId value = carried != inputs.end() ? arguments[(*carried)->m_body_parameter_index] : last[output->m_body_value_index];
            if (value < 0) c.unsupported("a result of a loop that never runs");
            c.set(k, value);
        }
    }
}

void lower_tensor_iterator(Context& c) {
    const auto& op = c.as<ov::op::v0::TensorIterator>();
    if (op.get_num_iterations() < 0) c.unsupported("the number of iterations is not known when compiling");
    Schedule schedule;
    schedule.most = op.get_num_iterations();
    unroll(c, op, schedule);
}

void lower_loop(Context& c) {
    const auto& op = c.as<ov::op::v5::Loop>();
    Schedule schedule;
    if (const auto count = c.integers(0); count && !count->empty()) schedule.most = std::max<std::int64_t>(count->front(), -1);
    if (!c.integers(0)) c.unsupported("the largest number of iterations is not known when compiling");
    if (const auto begins = known(c.b, c.in(1))) {
        schedule.ended = !*begins;
    } else {
        schedule.active = scalar(c.b, c.in(1));
    }
    schedule.number_at = op.get_special_body_ports().current_iteration_input_idx;
    schedule.condition_at = op.get_special_body_ports().body_condition_output_idx;
    unroll(c, op, schedule);
}

}  // namespace

void add_control(Table& t) {
    t["If"] = lower_if;
    t["Loop"] = lower_loop;
    t["TensorIterator"] = lower_tensor_iterator;
    // Every run starts afresh: a variable is read as its initial value, and what is assigned is read by nobody.
    t["ReadValue"] = [](Context& c) { c.set(0, c.inputs() > 0 ? c.in(0) : filled(c.b, c.out_type(), c.out_dims(), 0)); };
    t["Assign"] = [](Context& c) { c.set(0, c.in(0)); };
}

}  // namespace ai_vmm::cuda
