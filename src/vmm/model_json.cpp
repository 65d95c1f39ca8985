// SPDX-License-Identifier: Apache-2.0
#include "vmm/model_json.hpp"

#include <cstring>
#include <nlohmann/json.hpp>
#include <utility>

namespace ai_vmm {
namespace {

using Json = nlohmann::json;

template <typename Enum>
Enum enum_from(const Json& json, Enum last) {
    const int value = json.get<int>();
    if (value < 0 || value > static_cast<int>(last)) throw Error(ErrorCode::data_loss, ErrorCategory::system, "an enumeration is out of range");
    return static_cast<Enum>(value);
}

void append_raw(std::string& out, const void* data, std::size_t size) { out.append(static_cast<const char*>(data), size); }
void append_number(std::string& out, std::int64_t value) { append_raw(out, &value, sizeof value); }

class Reader {
public:
    explicit Reader(const std::string& bytes) : bytes_(bytes) {}
    std::int64_t number() {
        std::int64_t value = 0;
        std::memcpy(&value, take(sizeof value), sizeof value);
        return value;
    }
    std::size_t count(std::size_t unit) {
        const std::int64_t value = number();
        if (value < 0 || static_cast<std::uint64_t>(value) > (bytes_.size() - at_) / unit) throw damaged();
        return static_cast<std::size_t>(value);
    }
    const char* take(std::size_t size) {
        if (size > bytes_.size() - at_) throw damaged();
        const char* data = bytes_.data() + at_;
        at_ += size;
        return data;
    }
    static Error damaged() { return {ErrorCode::data_loss, ErrorCategory::system, "packed tensors are damaged"}; }

private:
    const std::string& bytes_;
    std::size_t at_ = 0;
};

}  // namespace

Json tensor_infos_to_json(const std::vector<TensorInfo>& infos) {
    Json list = Json::array();
    for (const TensorInfo& info : infos) {
        list.push_back({{"name", info.name},
                        {"type", static_cast<int>(info.type)},
                        {"shape", info.shape},
                        {"rank_known", info.rank_known},
                        {"optional", info.optional}});
    }
    return list;
}

std::vector<TensorInfo> tensor_infos_from_json(const Json& json) {
    std::vector<TensorInfo> infos;
    for (const Json& entry : json) {
        infos.push_back({entry.at("name").get<std::string>(), enum_from(entry.at("type"), ElementType::string), entry.at("shape").get<Shape>(),
                         entry.at("rank_known").get<bool>(), entry.at("optional").get<bool>()});
    }
    return infos;
}

Json profile_to_json(const ModelProfile& p) {
    Json nodes = Json::array();
    for (const NodeProfile& node : p.nodes) {
        nodes.push_back(
            {node.name, node.type, node.precision, node.flops, node.bytes_read, node.bytes_written, node.parameters, node.parameter_bytes});
    }
    Json shapes = Json::array();
    for (const auto& [name, shape] : p.assumed_shapes) shapes.push_back({name, shape});
    Json compared = Json::array();
    for (const auto& [name, values] : p.compared_values) compared.push_back({name, values});
    return {{"name", p.name},
            {"format", static_cast<int>(p.format)},
            {"file_size_bytes", p.file_size_bytes},
            {"category", static_cast<int>(p.category)},
            {"category_confidence", p.category_confidence},
            {"evidence", p.evidence},
            {"inputs", tensor_infos_to_json(p.inputs)},
            {"outputs", tensor_infos_to_json(p.outputs)},
            {"dynamic_dimensions", p.dynamic_dimensions},
            {"assumed_shapes", std::move(shapes)},
            {"compared_values", std::move(compared)},
            {"shape_deciding_inputs", p.shape_deciding_inputs},
            {"hidden_width", p.hidden_width},
            {"precision", p.precision},
            {"quantized", p.quantized},
            {"quantization", p.quantization},
            {"stateful", p.stateful},
            {"flops", p.flops},
            {"parameters", p.parameters},
            {"parameter_bytes", p.parameter_bytes},
            {"activation_bytes", p.activation_bytes},
            {"bytes_moved", p.bytes_moved},
            {"nodes", std::move(nodes)},
            {"notes", p.notes}};
}

ModelProfile profile_from_json(const Json& json) {
    ModelProfile p;
    json.at("name").get_to(p.name);
    p.format = enum_from(json.at("format"), ModelFormat::huggingface);
    json.at("file_size_bytes").get_to(p.file_size_bytes);
    p.category = enum_from(json.at("category"), ModelCategory::scientific_ml);
    json.at("category_confidence").get_to(p.category_confidence);
    json.at("evidence").get_to(p.evidence);
    p.inputs = tensor_infos_from_json(json.at("inputs"));
    p.outputs = tensor_infos_from_json(json.at("outputs"));
    json.at("dynamic_dimensions").get_to(p.dynamic_dimensions);
    for (const Json& entry : json.at("assumed_shapes")) p.assumed_shapes.emplace_back(entry.at(0).get<std::string>(), entry.at(1).get<Shape>());
    for (const Json& entry : json.at("compared_values"))
        p.compared_values.emplace_back(entry.at(0).get<std::string>(), entry.at(1).get<std::vector<std::int64_t>>());
    json.at("shape_deciding_inputs").get_to(p.shape_deciding_inputs);
    json.at("hidden_width").get_to(p.hidden_width);
    json.at("precision").get_to(p.precision);
    json.at("quantized").get_to(p.quantized);
    json.at("quantization").get_to(p.quantization);
    json.at("stateful").get_to(p.stateful);
    json.at("flops").get_to(p.flops);
    json.at("parameters").get_to(p.parameters);
    json.at("parameter_bytes").get_to(p.parameter_bytes);
    json.at("activation_bytes").get_to(p.activation_bytes);
    json.at("bytes_moved").get_to(p.bytes_moved);
    for (const Json& n : json.at("nodes")) {
        p.nodes.push_back({n.at(0).get<std::string>(), n.at(1).get<std::string>(), n.at(2).get<std::string>(), n.at(3).get<std::int64_t>(),
                           n.at(4).get<std::int64_t>(), n.at(5).get<std::int64_t>(), n.at(6).get<std::int64_t>(), n.at(7).get<std::int64_t>()});
    }
    json.at("notes").get_to(p.notes);
    return p;
}

std::string pack_tensors(const std::vector<Tensor>& tensors) {
    std::string out;
    append_number(out, static_cast<std::int64_t>(tensors.size()));
    for (const Tensor& tensor : tensors) {
        append_number(out, static_cast<std::int64_t>(tensor.type()));
        append_number(out, static_cast<std::int64_t>(tensor.shape().size()));
        for (const std::int64_t size : tensor.shape()) append_number(out, size);
        if (tensor.type() == ElementType::string) {
            for (const std::string& text : tensor.as<std::string>()) {
                append_number(out, static_cast<std::int64_t>(text.size()));
                out += text;
            }
        } else {
            append_raw(out, tensor.data(), tensor.size_bytes());
        }
    }
    return out;
}

std::vector<Tensor> unpack_tensors(const std::string& bytes) {
    Reader reader(bytes);
    std::vector<Tensor> tensors(reader.count(16));
    for (Tensor& tensor : tensors) {
        const std::int64_t type = reader.number();
        if (type <= 0 || type > static_cast<std::int64_t>(ElementType::string)) throw Reader::damaged();
        Shape shape(reader.count(8));
        for (std::int64_t& size : shape) size = reader.number();
        if (static_cast<ElementType>(type) == ElementType::string) {
            if (element_count(shape) > bytes.size()) throw Reader::damaged();
            tensor = Tensor(ElementType::string, std::move(shape));
            for (std::string& text : tensor.as<std::string>()) {
                const std::size_t size = reader.count(1);
                text.assign(reader.take(size), size);
            }
        } else {
            if (size_bytes(static_cast<ElementType>(type), shape) > bytes.size()) throw Reader::damaged();
            tensor = Tensor(static_cast<ElementType>(type), std::move(shape));
            std::memcpy(tensor.data(), reader.take(tensor.size_bytes()), tensor.size_bytes());
        }
    }
    return tensors;
}

}  // namespace ai_vmm
