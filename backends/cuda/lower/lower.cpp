// SPDX-License-Identifier: Apache-2.0
#include "lower/lower.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <map>

#include "ai_vmm/error.hpp"
#include "lower/context.hpp"
#include "lower/select_rows.hpp"
#include "openvino/core/graph_util.hpp"
#include "openvino/op/constant.hpp"
#include "openvino/op/convert.hpp"
#include "openvino/op/parameter.hpp"
#include "openvino/op/reshape.hpp"
#include "openvino/op/result.hpp"
#include "openvino/op/util/multi_subgraph_base.hpp"
#include "openvino/op/util/read_value_base.hpp"
#include "openvino/pass/constant_folding.hpp"
#include "openvino/pass/manager.hpp"

namespace ai_vmm::cuda {

std::optional<Type> from_openvino(const ov::element::Type& type) {
    switch (static_cast<ov::element::Type_t>(type)) {
        case ov::element::Type_t::boolean: return Type::boolean;
        case ov::element::Type_t::f64: return Type::f64;
        case ov::element::Type_t::f32: return Type::f32;
        case ov::element::Type_t::f16: return Type::f16;
        case ov::element::Type_t::bf16: return Type::bf16;
        case ov::element::Type_t::f8e4m3: return Type::f8e4m3;
        case ov::element::Type_t::f8e5m2: return Type::f8e5m2;
        case ov::element::Type_t::i64: return Type::i64;
        case ov::element::Type_t::i32: return Type::i32;
        case ov::element::Type_t::i16: return Type::i16;
        case ov::element::Type_t::i8: return Type::i8;
        case ov::element::Type_t::i4: return Type::i4;
        case ov::element::Type_t::u64: return Type::u64;
        case ov::element::Type_t::u32: return Type::u32;
        case ov::element::Type_t::u16: return Type::u16;
        case ov::element::Type_t::u8: return Type::u8;
        case ov::element::Type_t::u4: return Type::u4;
        default: return std::nullopt;
    }
}

Dims from_openvino(const ov::Shape& shape) { return {shape.begin(), shape.end()}; }

std::optional<std::vector<std::int64_t>> Context::integers(int k) const {
    const auto* constant = ov::as_type<const ov::op::v0::Constant>(node_.get_input_node_ptr(static_cast<std::size_t>(k)));
    if (constant == nullptr) return std::nullopt;
    return constant->cast_vector<std::int64_t>();
}

std::optional<std::vector<double>> Context::numbers(int k) const {
    const auto* constant = ov::as_type<const ov::op::v0::Constant>(node_.get_input_node_ptr(static_cast<std::size_t>(k)));
    if (constant == nullptr) return std::nullopt;
    return constant->cast_vector<double>();
}

std::vector<std::int64_t> Context::need_integers(int k) const {
    if (auto values = integers(k)) return *values;
    unsupported(fmt::format("input {} must be known when compiling", k));
}

std::vector<double> Context::need_numbers(int k) const {
    if (auto values = numbers(k)) return *values;
    unsupported(fmt::format("input {} must be known when compiling", k));
}

int Context::axis(std::int64_t axis, int rank) const {
    // An input of the model may hold it: whatever a caller gives.
    if (axis < -std::max(rank, 1) || axis >= std::max(rank, 1)) {
        throw Error(ErrorCode::invalid_argument, ErrorCategory::input,
                    fmt::format("{} \"{}\": the axis is out of range", node_.get_type_name(), node_.get_friendly_name()),
                    {.expected = fmt::format("{} to {}", -rank, rank - 1), .found = std::to_string(axis), .advice = {}});
    }
    return static_cast<int>(axis < 0 ? axis + rank : axis);
}

Type Context::out_type(int k) const {
    const auto type = from_openvino(node_.get_output_element_type(static_cast<std::size_t>(k)));
    if (!type) unsupported("result of element type " + node_.get_output_element_type(static_cast<std::size_t>(k)).get_type_name());
    return *type;
}

Dims Context::out_dims(int k) const {
    const auto& shape = node_.get_output_partial_shape(static_cast<std::size_t>(k));
    if (shape.is_dynamic()) unsupported(fmt::format("the shape of result {} depends on values", k));
    return from_openvino(shape.to_shape());
}

void Context::set(int output, ValueId value) {
    if (results_.size() <= static_cast<std::size_t>(output)) results_.resize(static_cast<std::size_t>(output) + 1, -1);
    results_[static_cast<std::size_t>(output)] = value;
}

void Context::unsupported(const std::string& why) const {
    throw Error(ErrorCode::unimplemented, ErrorCategory::compilation,
                fmt::format("{} \"{}\": {}", node_.get_type_name(), node_.get_friendly_name(), why));
}

const Table& table() {
    static const Table all = [] {
        Table made;
        add_elementwise(made);
        add_movement(made);
        add_indexing(made);
        add_reductions(made);
        add_matrix(made);
        add_neural(made);
        add_pooling(made);
        add_resampling(made);
        add_recurrent(made);
        add_control(made);
        add_detection(made);
        add_detection_output(made);
        add_proposals(made);
        add_colour(made);
        add_signal(made);
        add_random(made);
        return made;
    }();
    return all;
}

namespace {

/// No result has elements: there is nothing to compute, and lowerings need not think of it.
bool empty(const ov::Node& node) {
    for (const auto& output : node.outputs()) {
        if (output.get_partial_shape().is_dynamic() || ov::shape_size(output.get_shape()) != 0) return false;
    }
    return node.get_output_size() != 0;
}

}  // namespace

std::vector<ValueId> lower_body(Builder& builder, const ov::Model& model, const std::vector<ValueId>& arguments) {
    std::map<std::pair<const ov::Node*, std::size_t>, ValueId> values;
    const auto& parameters = model.get_parameters();
    for (std::size_t p = 0; p < parameters.size(); ++p) values[{parameters[p].get(), 0}] = arguments[p];
    for (const auto& node : model.get_ordered_ops()) {
        if (ov::is_type<ov::op::v0::Parameter>(node.get()) || ov::is_type<ov::op::v0::Result>(node.get())) continue;
        builder.set_name(node->get_friendly_name());
        if (const auto constant = ov::as_type_ptr<ov::op::v0::Constant>(node)) {
            if (constant->get_element_type() == ov::element::u1) {
                // Bits get a byte each.
                const auto bits = std::make_shared<std::vector<std::uint8_t>>(constant->cast_vector<std::uint8_t>());
                values[{node.get(), 0}] = builder.constant(Type::u8, from_openvino(constant->get_shape()),
                                                           {bits, reinterpret_cast<const std::byte*>(bits->data()), bits->size()});
                continue;
            }
            const auto type = from_openvino(constant->get_element_type());
            // Left to the operation that reads it: strings and shapes are often folded into attributes.
            if (!type) continue;
            values[{node.get(), 0}] =
                builder.constant(*type, from_openvino(constant->get_shape()),
                                 {constant, static_cast<const std::byte*>(constant->get_data_ptr()), constant->get_byte_size()});
            continue;
        }
        const auto found = table().find(node->get_type_name());
        if (found == table().end()) {
            throw Error(
                ErrorCode::unimplemented, ErrorCategory::compilation,
                fmt::format("{} \"{}\": the cuda backend has no lowering for this operation", node->get_type_name(), node->get_friendly_name()));
        }
        std::vector<ValueId> inputs;
        for (const auto& input : node->input_values()) {
            const auto value = values.find({input.get_node(), input.get_index()});
            if (value == values.end()) {
                throw Error(ErrorCode::unimplemented, ErrorCategory::compilation,
                            fmt::format("{} \"{}\": input of element type {}", node->get_type_name(), node->get_friendly_name(),
                                        input.get_element_type().get_type_name()));
            }
            inputs.push_back(value->second);
        }
        Context context(builder, *node, std::move(inputs));
        if (empty(*node)) {
            for (std::size_t k = 0; k < node->get_output_size(); ++k) {
                const int output = static_cast<int>(k);
                context.set(output, builder.compute(context.out_type(output), context.out_dims(output), {}, {"Empty", "return 0;", 0, {}, {}}));
            }
        } else {
            found->second(context);
        }
        for (std::size_t k = 0; k < context.results().size(); ++k) {
            const ValueId value = context.results()[k];
            if (value < 0) continue;
            // A lowering that forgets a conversion or miscounts a dimension is caught here, not in a kernel.
            if (builder.type(value) != context.out_type(static_cast<int>(k)) || builder.dims(value) != context.out_dims(static_cast<int>(k))) {
                throw Error(
                    ErrorCode::internal, ErrorCategory::compilation,
                    fmt::format("{} \"{}\": result {} was lowered to another type or shape", node->get_type_name(), node->get_friendly_name(), k));
            }
            values[{node.get(), k}] = value;
        }
    }
    std::vector<ValueId> results;
    for (const auto& result : model.get_results()) {
        const auto input = result->input_value(0);
        const auto value = values.find({input.get_node(), input.get_index()});
        if (value == values.end()) {
            throw Error(ErrorCode::unimplemented, ErrorCategory::compilation,
                        fmt::format("output \"{}\" of element type {}", result->get_friendly_name(), input.get_element_type().get_type_name()));
        }
        results.push_back(value->second);
    }
    return results;
}

namespace {

/// Stores f32 results as `type`; inside a kernel they stay f32. Inputs and outputs keep their type.
void narrow(Graph& graph, Type type) {
    std::map<ValueId, ValueId> narrowed;
    std::vector<Type> declared;
    for (ValueId id : graph.outputs) declared.push_back(graph.value(id).type);
    Graph result;
    result.values = std::move(graph.values);
    result.inputs = graph.inputs;
    result.input_names = graph.input_names;
    result.output_names = graph.output_names;
    Builder builder(result);
    const auto read = [&](ValueId id) {
        const Value& value = result.value(id);
        // One-element constants become literals.
        if (value.type != Type::f32 || value.source == Source::node || (value.source == Source::constant && elements(value.dims) == 1)) return id;
        const auto [found, fresh] = narrowed.try_emplace(id, -1);
        if (fresh) found->second = builder.cast(id, type);
        return found->second;
    };
    for (Node& node : graph.nodes) {
        builder.set_name(node.name);
        for (ValueId& id : node.inputs) id = read(id);
        const int index = static_cast<int>(result.nodes.size());
        for (ValueId id : node.outputs) {
            Value& value = result.values[static_cast<std::size_t>(id)];
            value.index = index;
            if (value.type == Type::f32) value.type = type;
        }
        if (auto* matmul = std::get_if<Matmul>(&node.what); matmul != nullptr && matmul->spec.type == Type::f32) {
            matmul->spec.type = matmul->spec.result = matmul->spec.bias_type = type;
        } else if (auto* convolution = std::get_if<Convolution>(&node.what); convolution != nullptr && convolution->spec.type == Type::f32) {
            convolution->spec.type = convolution->spec.result = convolution->spec.bias_type = type;
        } else if (auto* attention = std::get_if<Attention>(&node.what); attention != nullptr && attention->spec.type == Type::f32) {
            attention->spec.type = type;
        } else if (auto* recurrent = std::get_if<Recurrent>(&node.what); recurrent != nullptr && recurrent->spec.type == Type::f32) {
            recurrent->spec.type = type;
        }
        result.nodes.push_back(std::move(node));
    }
    for (std::size_t k = 0; k < graph.outputs.size(); ++k) {
        const ValueId id = graph.outputs[k];
        result.outputs.push_back(result.value(id).type == declared[k] ? id : builder.cast(id, declared[k]));
    }
    graph = std::move(result);
}

}  // namespace

Graph lower(const std::shared_ptr<const ov::Model>& given, const LowerOptions& options) {
    const std::shared_ptr<const ov::Model> model = select_rows(given);
    Graph graph;
    Builder builder(graph, Builder::Sharing::constants);
    std::vector<ValueId> arguments;
    for (const auto& parameter : model->get_parameters()) {
        const auto type = from_openvino(parameter->get_element_type());
        if (!type || parameter->get_partial_shape().is_dynamic()) {
            throw Error(ErrorCode::unimplemented, ErrorCategory::compilation,
                        fmt::format("input \"{}\" of type {} and shape {}", parameter->get_friendly_name(),
                                    parameter->get_element_type().get_type_name(), parameter->get_partial_shape().to_string()));
        }
        arguments.push_back(builder.input(*type, from_openvino(parameter->get_shape()), parameter->get_friendly_name()));
    }
    const std::vector<ValueId> results = lower_body(builder, *model, arguments);
    for (std::size_t k = 0; k < results.size(); ++k) builder.output(results[k], model->get_results()[k]->get_friendly_name());
    if (options.float_type != Type::f32) narrow(graph, options.float_type);
    return graph;
}

namespace {

/// State starts afresh in every run: reading a variable gives its initial value, of that value's shape, where the variable's own may be open.
void read_initial_values(ov::Model& model) {
    for (const auto& node : model.get_ordered_ops()) {
        if (!ov::is_type<ov::op::util::ReadValueBase>(node) || node->get_input_size() != 1) continue;
        if (node->get_input_element_type(0) == node->get_output_element_type(0)) node->output(0).replace(node->input_value(0));
    }
}

/// Whether a value becomes the operand of a product, or a table, through what decompresses weights.
bool is_weight(const ov::Output<const ov::Node>& value, int depth = 0) {
    for (const auto& reader : value.get_target_inputs()) {
        const ov::Node* node = reader.get_node();
        const std::string_view type = node->get_type_name();
        if (type == "MatMul" || type == "Gather" || type == "Convolution" || type == "GroupConvolution") return true;
        const bool passes = type == "Convert" || type == "Subtract" || type == "Multiply" || type == "Reshape" || type == "Transpose";
        if (passes && depth < 8 && is_weight(node->output(0), depth + 1)) return true;
    }
    return false;
}

/// Whether `node` is a constant, or one seen in another shape.
bool is_constant(const ov::Node* node) {
    while (ov::is_type<ov::op::v1::Reshape>(node)) node = node->get_input_node_ptr(0);
    return ov::is_type<ov::op::v0::Constant>(node);
}

/// Weights of 8 and 4 bits stay what they are: folding would make floats of them here, in the host's memory already. Where others than products and
/// gathers read them it may: recurrences want constants.
void keep_small_integers(const ov::Model& model) {
    for (const auto& node : model.get_ordered_ops()) {
        if (!ov::is_type<ov::op::v0::Convert>(node) || !is_constant(node->get_input_node_ptr(0))) continue;
        const auto& from = node->get_input_element_type(0);
        const auto& to = node->get_output_element_type(0);
        const bool small = from == ov::element::i8 || from == ov::element::u8 || from == ov::element::i4 || from == ov::element::u4;
        if (small && (to.is_real() || to == ov::element::i32) && node->get_input_partial_shape(0).size() >= 2 && is_weight(node->output(0)))
            ov::pass::disable_constant_folding(node);
    }
}

/// Adds operations of `model` and of the bodies in it that have no lowering.
void find_missing(const ov::Model& model, std::vector<std::string>& missing) {
    for (const auto& node : model.get_ordered_ops()) {
        if (ov::is_type<ov::op::v0::Parameter>(node.get()) || ov::is_type<ov::op::v0::Result>(node.get()) ||
            ov::is_type<ov::op::v0::Constant>(node.get()))
            continue;
        if (table().find(node->get_type_name()) == table().end())
            missing.push_back(fmt::format("{} {}", node->get_type_name(), node->get_friendly_name()));
        if (const auto* bodies = ov::as_type<const ov::op::util::MultiSubGraphOp>(node.get())) {
            for (const auto& body : bodies->get_functions()) find_missing(*body, missing);
        }
    }
}

}  // namespace

std::shared_ptr<ov::Model> with_shapes(const ov::Model& model, const std::vector<Dims>& shapes, const std::vector<InputValues>& values) {
    const std::shared_ptr<ov::Model> copy = model.clone();
    const auto& parameters = copy->get_parameters();
    try {
        for (std::size_t p = 0; p < parameters.size() && p < shapes.size(); ++p) {
            parameters[p]->set_partial_shape(ov::PartialShape(std::vector<ov::Dimension>(shapes[p].begin(), shapes[p].end())));
            if (p >= values.size() || values[p].empty()) continue;
            ov::Tensor tensor(parameters[p]->get_element_type(), ov::Shape(shapes[p].begin(), shapes[p].end()));
            std::memcpy(tensor.data(), values[p].data(), std::min(values[p].size(), tensor.get_byte_size()));
            const auto constant = std::make_shared<ov::op::v0::Constant>(tensor);
            for (const auto& reader : parameters[p]->output(0).get_target_inputs()) reader.replace_source_output(constant->output(0));
        }
        read_initial_values(*copy);
        copy->validate_nodes_and_infer_types();
        keep_small_integers(*copy);
        ov::pass::Manager manager;
        manager.register_pass<ov::pass::ConstantFolding>();
        manager.run_passes(copy);
        copy->validate_nodes_and_infer_types();
    } catch (const ov::Exception& error) {
        throw Error(ErrorCode::invalid_argument, ErrorCategory::input, std::string("the model does not take these shapes: ") + error.what());
    }
    return copy;
}

namespace {

/// Why a node can't be lowered; empty if it can.
std::string refusal(const ov::Node& node) {
    std::vector<std::string> missing;
    if (table().find(node.get_type_name()) == table().end()) return fmt::format("no lowering for {}", node.get_type_name());
    if (const auto* bodies = ov::as_type<const ov::op::util::MultiSubGraphOp>(&node)) {
        for (const auto& body : bodies->get_functions()) find_missing(*body, missing);
        if (!missing.empty()) return fmt::format("no lowering for {} in its body", missing.front());
    }
    bool open = false;
    const auto look_at = [&](const auto& ports) -> std::string {
        for (const auto& port : ports) {
            open = open || port.get_partial_shape().is_dynamic();
            if (!from_openvino(port.get_element_type()) && !ov::is_type<ov::op::v0::Constant>(port.get_node()))
                return fmt::format("{} of element type {}", node.get_type_name(), port.get_element_type().get_type_name());
        }
        return {};
    };
    if (std::string why = look_at(node.input_values()); !why.empty()) return why;
    if (std::string why = look_at(node.outputs()); !why.empty()) return why;
    const bool stateful = ov::is_type<ov::op::util::ReadValueBase>(&node) || std::string_view(node.get_type_name()) == "Assign";
    if (open || stateful) return {};
    try {
        ov::OutputVector inputs;
        ov::ParameterVector parameters;
        for (const auto& input : node.input_values()) {
            if (ov::is_type<ov::op::v0::Constant>(input.get_node())) {
                inputs.push_back(input.get_node_shared_ptr()->clone_with_new_inputs({}));
                continue;
            }
            parameters.push_back(std::make_shared<ov::op::v0::Parameter>(input.get_element_type(), input.get_partial_shape()));
            inputs.emplace_back(parameters.back());
        }
        const auto copy = node.clone_with_new_inputs(inputs);
        copy->set_friendly_name(node.get_friendly_name());
        ov::OutputVector outputs;
        for (const auto& output : copy->outputs()) outputs.push_back(output);
        (void)lower(std::make_shared<ov::Model>(outputs, parameters));
    } catch (const std::exception& error) {
        return error.what();
    }
    return {};
}

}  // namespace

std::vector<std::pair<std::string, std::string>> refused_nodes(const ov::Model& model, const std::vector<Dims>& shapes) {
    std::vector<std::pair<std::string, std::string>> refused;
    const auto sized = with_shapes(model, shapes);
    for (const auto& node : sized->get_ordered_ops()) {
        if (ov::is_type<ov::op::v0::Parameter>(node.get()) || ov::is_type<ov::op::v0::Result>(node.get()) ||
            ov::is_type<ov::op::v0::Constant>(node.get()))
            continue;
        if (std::string why = refusal(*node); !why.empty()) refused.emplace_back(node->get_friendly_name(), std::move(why));
    }
    return refused;
}

std::vector<std::string> missing_operations(const ov::Model& model) {
    std::vector<std::string> missing;
    find_missing(model, missing);
    return missing;
}

}  // namespace ai_vmm::cuda
