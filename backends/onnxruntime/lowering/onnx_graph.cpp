// SPDX-License-Identifier: Apache-2.0
#include "onnx_graph.hpp"

#include <algorithm>
#include <cstring>
#include <protozero/pbf_writer.hpp>
#include <set>

namespace ai_vmm::ort {
namespace {

constexpr int kIrVersion = 10;

std::string attribute_proto(const OnnxAttribute& attribute) {
    std::string bytes;
    protozero::pbf_writer writer(bytes);
    writer.add_string(1, attribute.name);
    struct Visitor {
        protozero::pbf_writer& writer;
        int operator()(std::int64_t value) const { return writer.add_int64(3, value), 2; }
        int operator()(float value) const { return writer.add_float(2, value), 1; }
        int operator()(const std::string& value) const { return writer.add_bytes(4, value), 3; }
        int operator()(const std::vector<std::int64_t>& values) const {
            for (const std::int64_t value : values) writer.add_int64(8, value);
            return 7;
        }
        int operator()(const std::vector<float>& values) const {
            for (const float value : values) writer.add_float(7, value);
            return 6;
        }
        int operator()(const std::vector<std::string>& values) const {
            for (const std::string& value : values) writer.add_bytes(9, value);
            return 8;
        }
        int operator()(const TensorBytes& tensor) const { return writer.add_message(5, tensor.bytes), 4; }
        int operator()(const GraphBytes& graph) const { return writer.add_message(6, graph.bytes), 5; }
    };
    const int type = std::visit(Visitor{writer}, attribute.value);
    writer.add_enum(20, type);
    return bytes;
}

}  // namespace

TensorBytes tensor_proto(std::string_view name, OnnxType type, const std::vector<std::int64_t>& shape, std::string_view raw) {
    TensorBytes tensor;
    tensor.bytes.reserve(raw.size() + 64);
    protozero::pbf_writer writer(tensor.bytes);
    for (const std::int64_t size : shape) writer.add_int64(1, size);
    writer.add_int32(2, static_cast<std::int32_t>(type));
    if (!name.empty()) writer.add_string(8, name.data(), name.size());
    writer.add_bytes(9, raw.data(), raw.size());
    return tensor;
}

std::string OnnxGraph::fresh() { return "v" + std::to_string((*counter_)++); }

std::vector<std::string> OnnxGraph::add_many(std::string_view op, std::vector<std::string> inputs, std::size_t outputs, OnnxAttributes attributes,
                                             std::string_view domain) {
    Node node{.op = std::string(op),
              .domain = std::string(domain),
              .origin = origin_,
              .inputs = std::move(inputs),
              .outputs = {},
              .attributes = std::move(attributes)};
    while (!node.inputs.empty() && node.inputs.back().empty()) node.inputs.pop_back();
    for (std::size_t i = 0; i < outputs; ++i) node.outputs.push_back(fresh());
    nodes_.push_back(std::move(node));
    return nodes_.back().outputs;
}

std::string OnnxGraph::add(std::string_view op, std::vector<std::string> inputs, OnnxAttributes attributes, std::string_view domain) {
    return add_many(op, std::move(inputs), 1, std::move(attributes), domain).front();
}

std::string OnnxGraph::initializer(OnnxType type, const std::vector<std::int64_t>& shape, std::string_view raw) {
    std::string name = fresh();
    initializers_.emplace_back(name, tensor_proto(name, type, shape, raw).bytes);
    return name;
}

std::string OnnxGraph::string_initializer(const std::vector<std::int64_t>& shape, const std::vector<std::string>& values) {
    std::string name = fresh();
    std::string bytes;
    protozero::pbf_writer writer(bytes);
    for (const std::int64_t size : shape) writer.add_int64(1, size);
    writer.add_int32(2, static_cast<std::int32_t>(OnnxType::string));
    for (const std::string& value : values) writer.add_bytes(6, value);
    writer.add_string(8, name);
    initializers_.emplace_back(name, std::move(bytes));
    return name;
}

std::string OnnxGraph::ints(const std::vector<std::int64_t>& values) {
    const std::string_view raw(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(std::int64_t));
    std::string& name = small_["ints" + std::string(raw)];
    if (name.empty()) name = initializer(OnnxType::i64, {static_cast<std::int64_t>(values.size())}, raw);
    return name;
}

std::string OnnxGraph::scalar(std::int64_t value) {
    const std::string_view raw(reinterpret_cast<const char*>(&value), sizeof value);
    std::string& name = small_["int" + std::string(raw)];
    if (name.empty()) name = initializer(OnnxType::i64, {}, raw);
    return name;
}

std::string OnnxGraph::real(float value) {
    const std::string_view raw(reinterpret_cast<const char*>(&value), sizeof value);
    std::string& name = small_["real" + std::string(raw)];
    if (name.empty()) name = initializer(OnnxType::f32, {}, raw);
    return name;
}

std::string OnnxGraph::value_info(const std::string& name, OnnxType type, const std::vector<std::int64_t>& shape, bool ranked) const {
    std::string dims;
    protozero::pbf_writer shape_writer(dims);
    for (const std::int64_t size : shape) {
        std::string dim;
        if (size >= 0) protozero::pbf_writer(dim).add_int64(1, size);
        shape_writer.add_message(1, dim);
    }
    std::string tensor;
    protozero::pbf_writer tensor_writer(tensor);
    tensor_writer.add_int32(1, static_cast<std::int32_t>(type));
    if (ranked) tensor_writer.add_message(2, dims);
    std::string type_bytes;
    protozero::pbf_writer(type_bytes).add_message(1, tensor);
    std::string info;
    protozero::pbf_writer writer(info);
    writer.add_string(1, name);
    writer.add_message(2, type_bytes);
    return info;
}

void OnnxGraph::input(const std::string& name, OnnxType type, const std::vector<std::int64_t>& shape, bool ranked) {
    inputs_.push_back(value_info(name, type, shape, ranked));
}

void OnnxGraph::output(const std::string& name, const std::string& value, OnnxType type, const std::vector<std::int64_t>& shape, bool ranked) {
    outputs_.push_back(value_info(name, type, shape, ranked));
    const bool produced = std::ranges::any_of(nodes_, [&](const Node& node) { return std::ranges::find(node.outputs, value) != node.outputs.end(); });
    if (produced && !renamed_.contains(value)) {
        renamed_[value] = name;
    } else {  // an input, an initialiser, an outer value, or a second output of the same value
        renamed_[add("Identity", {value})] = name;
    }
}

GraphBytes OnnxGraph::serialize(std::string_view name) const {
    const auto final_name = [this](const std::string& value) -> const std::string& {
        const auto found = renamed_.find(value);
        return found == renamed_.end() ? value : found->second;
    };
    // Nodes are in topological order: one pass backwards finds all that is needed.
    std::set<std::string_view> needed(kept_.begin(), kept_.end());
    for (const auto& [value, output] : renamed_) needed.insert(value);
    std::vector<bool> live(nodes_.size(), false);
    for (std::size_t i = nodes_.size(); i-- > 0;) {
        live[i] = std::ranges::any_of(nodes_[i].outputs, [&](const std::string& output) { return needed.contains(output); });
        if (live[i]) needed.insert(nodes_[i].inputs.begin(), nodes_[i].inputs.end());
    }
    std::size_t size = 1024 + nodes_.size() * 128;
    for (const auto& [tensor_name, tensor] : initializers_) size += tensor.size() + 16;
    GraphBytes graph;
    graph.bytes.reserve(size);
    protozero::pbf_writer writer(graph.bytes);
    for (std::size_t i = 0; i < nodes_.size(); ++i) {
        if (!live[i]) continue;
        const Node& node = nodes_[i];
        std::string bytes;
        protozero::pbf_writer node_writer(bytes);
        for (const std::string& input : node.inputs) node_writer.add_string(1, final_name(input));
        for (const std::string& output : node.outputs) node_writer.add_string(2, final_name(output));
        node_writer.add_string(3, node.origin + "/" + node.outputs.front());
        node_writer.add_string(4, node.op);
        for (const OnnxAttribute& attribute : node.attributes) node_writer.add_message(5, attribute_proto(attribute));
        if (!node.domain.empty()) node_writer.add_string(7, node.domain);
        writer.add_message(1, bytes);
    }
    writer.add_string(2, name.data(), name.size());
    for (const auto& [tensor_name, tensor] : initializers_) {
        if (needed.contains(tensor_name)) writer.add_message(5, tensor);
    }
    for (const std::string& info : inputs_) writer.add_message(11, info);
    for (const std::string& info : outputs_) writer.add_message(12, info);
    return graph;
}

std::string model_proto(const GraphBytes& graph, int opset) {
    std::string bytes;
    bytes.reserve(graph.bytes.size() + 256);
    protozero::pbf_writer writer(bytes);
    writer.add_int64(1, kIrVersion);
    writer.add_string(2, "ai_vmm");
    const auto import = [&](std::string_view domain, std::int64_t version) {
        std::string id;
        protozero::pbf_writer id_writer(id);
        id_writer.add_string(1, domain.data(), domain.size());
        id_writer.add_int64(2, version);
        writer.add_message(8, id);
    };
    import("", opset);
    import("com.microsoft", 1);
    writer.add_message(7, graph.bytes);
    return bytes;
}

}  // namespace ai_vmm::ort
