// SPDX-License-Identifier: Apache-2.0
#include "context.hpp"

#include <algorithm>
#include <cctype>
#include <cstring>

#include "openvino/core/attribute_visitor.hpp"
#include "openvino/op/constant.hpp"
#include "openvino/op/shape_of.hpp"

namespace ai_vmm::ort {

namespace {
class Reader final : public ov::AttributeVisitor {
public:
    explicit Reader(std::map<std::string, NodeAttributes::Value>& values) : values_(values) {}
    void on_adapter(const std::string&, ov::ValueAccessor<void>&) override {}
    void on_adapter(const std::string& name, ov::ValueAccessor<std::string>& adapter) override { values_[name] = adapter.get(); }
    void on_adapter(const std::string& name, ov::ValueAccessor<bool>& adapter) override { values_[name] = adapter.get(); }
    void on_adapter(const std::string& name, ov::ValueAccessor<std::int32_t>& adapter) override { values_[name] = std::int64_t{adapter.get()}; }
    void on_adapter(const std::string& name, ov::ValueAccessor<std::int64_t>& adapter) override { values_[name] = adapter.get(); }
    void on_adapter(const std::string& name, ov::ValueAccessor<std::uint64_t>& adapter) override {
        values_[name] = static_cast<std::int64_t>(adapter.get());
    }
    void on_adapter(const std::string& name, ov::ValueAccessor<float>& adapter) override { values_[name] = double{adapter.get()}; }
    void on_adapter(const std::string& name, ov::ValueAccessor<double>& adapter) override { values_[name] = adapter.get(); }
    void on_adapter(const std::string& name, ov::ValueAccessor<std::vector<std::int32_t>>& adapter) override { integers(name, adapter.get()); }
    void on_adapter(const std::string& name, ov::ValueAccessor<std::vector<std::int64_t>>& adapter) override { integers(name, adapter.get()); }
    void on_adapter(const std::string& name, ov::ValueAccessor<std::vector<std::uint64_t>>& adapter) override { integers(name, adapter.get()); }
    void on_adapter(const std::string& name, ov::ValueAccessor<std::vector<float>>& adapter) override { values_[name] = adapter.get(); }
    void on_adapter(const std::string& name, ov::ValueAccessor<std::vector<std::string>>& adapter) override { values_[name] = adapter.get(); }
    void on_adapter(const std::string&, ov::ValueAccessor<std::shared_ptr<ov::Model>>&) override {}
    void on_adapter(const std::string&, ov::VisitorAdapter&) override {}

private:
    template <typename T>
    void integers(const std::string& name, const std::vector<T>& values) {
        values_[name] = std::vector<std::int64_t>(values.begin(), values.end());
    }
    std::map<std::string, NodeAttributes::Value>& values_;
};
}  // namespace

NodeAttributes::NodeAttributes(const ov::Node& node) {
    Reader reader(values_);
    // visit_attributes() is not const as it also deserialises; this visitor only reads.
    const_cast<ov::Node&>(node).visit_attributes(reader);
}

namespace {
template <typename T, typename Map>
const T* get_attribute(const Map& values, const std::string& name) {
    const auto found = values.find(name);
    return found == values.end() ? nullptr : std::get_if<T>(&found->second);
}
}  // namespace

std::string NodeAttributes::text(const std::string& name, std::string fallback) const {
    const auto* value = get_attribute<std::string>(values_, name);
    std::string result = value != nullptr ? *value : std::move(fallback);
    std::ranges::transform(result, result.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    return result;
}
std::int64_t NodeAttributes::integer(const std::string& name, std::int64_t fallback) const {
    const auto* value = get_attribute<std::int64_t>(values_, name);
    return value != nullptr ? *value : fallback;
}
double NodeAttributes::real(const std::string& name, double fallback) const {
    const auto* value = get_attribute<double>(values_, name);
    return value != nullptr ? *value : fallback;
}
bool NodeAttributes::flag(const std::string& name, bool fallback) const {
    const auto* value = get_attribute<bool>(values_, name);
    return value != nullptr ? *value : fallback;
}
std::vector<std::int64_t> NodeAttributes::integers(const std::string& name) const {
    const auto* value = get_attribute<std::vector<std::int64_t>>(values_, name);
    return value != nullptr ? *value : std::vector<std::int64_t>{};
}
std::vector<float> NodeAttributes::reals(const std::string& name) const {
    const auto* value = get_attribute<std::vector<float>>(values_, name);
    return value != nullptr ? *value : std::vector<float>{};
}
std::vector<std::string> NodeAttributes::texts(const std::string& name) const {
    const auto* value = get_attribute<std::vector<std::string>>(values_, name);
    return value != nullptr ? *value : std::vector<std::string>{};
}

void refuse(const ov::Node& node, std::string_view why) {
    std::string text = std::string(node.get_type_name()) + " '" + node.get_friendly_name() + "'";
    if (node.get_input_size() > 0) {
        text += " of " + node.get_input_element_type(0).get_type_name() + " " + node.get_input_partial_shape(0).to_string();
    }
    throw Refusal(text + ": " + std::string(why));
}

OnnxType onnx_type(ov::element::Type type) {
    switch (ov::element::Type_t(type)) {
        case ov::element::boolean: return OnnxType::boolean;
        case ov::element::bf16: return OnnxType::bf16;
        case ov::element::f16: return OnnxType::f16;
        case ov::element::f32: return OnnxType::f32;
        case ov::element::f64: return OnnxType::f64;
        case ov::element::i4: return OnnxType::i4;
        case ov::element::i8: return OnnxType::i8;
        case ov::element::i16: return OnnxType::i16;
        case ov::element::i32: return OnnxType::i32;
        case ov::element::i64: return OnnxType::i64;
        case ov::element::u4: return OnnxType::u4;
        case ov::element::u8: return OnnxType::u8;
        case ov::element::u16: return OnnxType::u16;
        case ov::element::u32: return OnnxType::u32;
        case ov::element::u64: return OnnxType::u64;
        case ov::element::f8e4m3: return OnnxType::f8e4m3;
        case ov::element::f8e5m2: return OnnxType::f8e5m2;
        case ov::element::string: return OnnxType::string;
        default: throw Refusal("ONNX has no element type for " + type.get_type_name());
    }
}

ov::element::Type carrier(ov::element::Type type, Types supported) {
    const auto has = [&](ov::element::Type_t wanted) { return std::ranges::find(supported, wanted) != supported.end(); };
    if (has(type)) return type;
    using ov::element::Type_t;
    std::vector<Type_t> order;
    switch (Type_t(type)) {
        case Type_t::f64: order = {Type_t::f32}; break;  // OpenVINO computes f64 in f32 too
        case Type_t::f16:
        case Type_t::bf16:
        case Type_t::f8e4m3:
        case Type_t::f8e5m2: order = {Type_t::f32}; break;
        case Type_t::i64:
        case Type_t::u64:
        case Type_t::u32: order = {Type_t::i64, Type_t::f64, Type_t::i32, Type_t::f32}; break;
        case Type_t::boolean: order = {Type_t::u8, Type_t::i32, Type_t::i64, Type_t::f32}; break;
        default: order = {Type_t::i32, Type_t::i64, Type_t::f32}; break;
    }
    for (const Type_t candidate : order) {
        if (has(candidate)) return candidate;
    }
    throw Refusal("no ONNX Runtime kernel for " + type.get_type_name());
}

std::int64_t rank_of(const ov::Node& node, const ov::PartialShape& shape) {
    if (shape.rank().is_dynamic()) refuse(node, "the rank is not known");
    return shape.rank().get_length();
}

std::vector<std::int64_t> dims_of(const ov::PartialShape& shape) {
    std::vector<std::int64_t> dims;
    if (shape.rank().is_dynamic()) return dims;
    for (const ov::Dimension& dim : shape) dims.push_back(dim.is_static() ? dim.get_length() : -1);
    return dims;
}

std::int64_t positive_axis(std::int64_t axis, std::int64_t rank) { return axis < 0 ? axis + rank : axis; }

std::string Context::constant(const ov::Node& node) {
    const auto& constant = static_cast<const ov::op::v0::Constant&>(node);
    std::vector<std::int64_t> shape(constant.get_shape().begin(), constant.get_shape().end());
    const ov::element::Type type = constant.get_element_type();
    const OnnxType onnx = onnx_type(type);
    if (type == ov::element::string) return graph.string_initializer(shape, constant.get_value_strings());
    if (dry_) return graph.fresh();
    return graph.initializer(onnx, shape, {static_cast<const char*>(constant.get_data_ptr()), constant.get_byte_size()});
}

bool Context::known(const ov::Output<const ov::Node>& output) const { return values_.contains({output.get_node(), output.get_index()}); }

std::string Context::value(const ov::Output<const ov::Node>& output) {
    std::string& name = values_[{output.get_node(), output.get_index()}];
    if (!name.empty()) return name;
    if (std::string_view(output.get_node()->get_type_name()) == "Constant") return name = constant(*output.get_node());
    return name = graph.fresh();  // its producer was refused: a dry run goes on to find every refusal
}

std::string Context::in(const ov::Node& node, std::size_t index) { return value(node.input_value(index)); }

std::string Context::in_as(const ov::Node& node, std::size_t index, ov::element::Type type) {
    return cast(in(node, index), node.get_input_element_type(index), type);
}

void Context::set(const ov::Node& node, std::size_t index, std::string name) { values_[{&node, index}] = std::move(name); }
void Context::set(const ov::Output<const ov::Node>& output, std::string name) { values_[{output.get_node(), output.get_index()}] = std::move(name); }

void Context::set_from(const ov::Node& node, std::size_t index, std::string name, ov::element::Type from) {
    set(node, index, cast(std::move(name), from, node.get_output_element_type(index)));
}

std::string Context::cast(std::string name, ov::element::Type from, ov::element::Type to) {
    if (from == to) return name;
    return graph.add("Cast", {std::move(name)}, {{"to", static_cast<int>(onnx_type(to))}});
}

std::string Context::in_ints(const ov::Node& node, std::size_t index) {
    if (const auto values = constant_ints(node, index)) return graph.ints(*values);
    const std::string name = in_as(node, index, ov::element::i64);
    if (rank_of(node, node.get_input_partial_shape(index)) == 1) return name;
    return graph.add("Reshape", {name, graph.ints({-1})});
}

std::string Context::in_scalar(const ov::Node& node, std::size_t index) {
    if (const auto values = constant_ints(node, index); values && values->size() == 1) return graph.scalar(values->front());
    const std::string name = in_as(node, index, ov::element::i64);
    if (rank_of(node, node.get_input_partial_shape(index)) == 0) return name;
    return graph.add("Reshape", {name, graph.ints({})});
}

std::string Context::number(double value, ov::element::Type type) { return cast(graph.real(static_cast<float>(value)), ov::element::f32, type); }

std::shared_ptr<const ov::op::v0::Constant> Context::fold(const ov::Output<ov::Node>& output, int depth) const {
    constexpr int kMaxDepth = 48;
    const std::shared_ptr<ov::Node> node = output.get_node_shared_ptr();
    if (auto constant = ov::as_type_ptr<ov::op::v0::Constant>(node)) return constant;
    if (depth > kMaxDepth || node->get_input_size() == 0 || is_dynamic_size(output)) return nullptr;
    const auto key = std::make_pair(static_cast<const ov::Node*>(node.get()), output.get_index());
    if (const auto found = folded_.find(key); found != folded_.end()) return found->second;
    std::shared_ptr<const ov::op::v0::Constant>& result = folded_[key];
    if (ov::is_type<ov::op::util::ShapeOfBase>(node)) {
        const ov::PartialShape& shape = node->get_input_partial_shape(0);
        if (shape.is_static()) {
            const ov::Shape sizes = shape.to_shape();
            result = std::make_shared<ov::op::v0::Constant>(output.get_element_type(), ov::Shape{sizes.size()}, std::vector<std::size_t>(sizes));
        }
        return result;
    }
    ov::TensorVector inputs;
    for (const ov::Output<ov::Node>& input : node->input_values()) {
        const auto constant = fold(input, depth + 1);
        if (!constant) return nullptr;
        inputs.push_back(constant->get_tensor_view());
    }
    ov::TensorVector outputs;
    for (std::size_t i = 0; i < node->get_output_size(); ++i) {
        const ov::PartialShape& shape = node->get_output_partial_shape(i);
        outputs.emplace_back(node->get_output_element_type(i), shape.is_static() ? shape.to_shape() : ov::Shape{0});
    }
    try {
        if (node->evaluate(outputs, inputs)) folded_[key] = std::make_shared<ov::op::v0::Constant>(outputs[output.get_index()]);
    } catch (const std::exception&) {
        // Not evaluated: not known.
    }
    return folded_[key];
}

bool Context::is_dynamic_size(const ov::Output<ov::Node>& output) {
    constexpr std::size_t kMaxElements = 1 << 16;  // shapes, axes, scales; not weights
    if (output.get_element_type().is_dynamic() || output.get_element_type() == ov::element::string) return true;
    const ov::PartialShape& shape = output.get_partial_shape();
    return shape.is_static() && ov::shape_size(shape.to_shape()) > kMaxElements;
}

std::optional<std::vector<std::int64_t>> Context::constant_ints(const ov::Node& node, std::size_t index) const {
    const auto constant = fold(node.input_value(index), 0);
    if (!constant) return std::nullopt;
    return constant->cast_vector<std::int64_t>();
}

std::optional<std::vector<float>> Context::constant_reals(const ov::Node& node, std::size_t index) const {
    const auto constant = fold(node.input_value(index), 0);
    if (!constant) return std::nullopt;
    return constant->cast_vector<float>();
}

std::vector<std::int64_t> Context::need_ints(const ov::Node& node, std::size_t index) const {
    auto values = constant_ints(node, index);
    if (!values) refuse(node, "input " + std::to_string(index) + " is not constant");
    return *values;
}

}  // namespace ai_vmm::ort
