// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cstring>
#include <exception>
#include <initializer_list>
#include <unordered_map>
#include <unordered_set>

#include "base/protobuf.hpp"
#include "graph/file_ops.hpp"

// Field numbers are those of onnx.proto3 (onnx 1.23).
namespace ai_vmm::graph {
namespace {

using base::ProtobufReader;

constexpr int kDepthLimit = 32;
constexpr std::size_t kRankLimit = 64;

ElementType element_type(std::int32_t type) {
    static constexpr ElementType kTypes[] = {
        ElementType::undefined,  ElementType::f32,    ElementType::u8,         ElementType::i8,         ElementType::u16,  ElementType::i16,
        ElementType::i32,        ElementType::i64,    ElementType::string,     ElementType::boolean,    ElementType::f16,  ElementType::f64,
        ElementType::u32,        ElementType::u64,    ElementType::complex64,  ElementType::complex128, ElementType::bf16, ElementType::f8e4m3,
        ElementType::f8e4m3fnuz, ElementType::f8e5m2, ElementType::f8e5m2fnuz, ElementType::u4,         ElementType::i4,   ElementType::f4e2m1,
        ElementType::f8e8m0,     ElementType::u2,     ElementType::i2};
    return type >= 0 && static_cast<std::size_t>(type) < std::size(kTypes) ? kTypes[static_cast<std::size_t>(type)] : ElementType::undefined;
}

bool is_low_bit(ElementType type) {
    switch (type) {
        case ElementType::i8:
        case ElementType::u8:
        case ElementType::i4:
        case ElementType::u4:
        case ElementType::i2:
        case ElementType::u2:
        case ElementType::f4e2m1:
        case ElementType::f8e4m3:
        case ElementType::f8e4m3fnuz:
        case ElementType::f8e5m2:
        case ElementType::f8e5m2fnuz: return true;
        default: return false;
    }
}
bool is_real(ElementType type) {
    return type == ElementType::f32 || type == ElementType::f16 || type == ElementType::bf16 || type == ElementType::f64;
}

struct Constant {
    ElementType type = ElementType::undefined;
    Shape shape;
    std::optional<std::int64_t> value;  ///< of an integer tensor of one element
};

/// The element of an integer tensor that holds one, from whichever field it is in.
std::optional<std::int64_t> single_integer(const Constant& tensor, const std::vector<std::int64_t>& listed, const std::string& raw) {
    if (tensor.type != ElementType::i64 && tensor.type != ElementType::i32) return std::nullopt;
    if (std::ranges::any_of(tensor.shape, [](std::int64_t size) { return size != 1; })) return std::nullopt;
    if (listed.size() == 1) return listed[0];
    std::int64_t wide = 0;
    std::int32_t narrow = 0;
    if (tensor.type == ElementType::i64 && raw.size() == sizeof wide) {
        std::memcpy(&wide, raw.data(), sizeof wide);
        return wide;
    }
    if (tensor.type == ElementType::i32 && raw.size() == sizeof narrow) {
        std::memcpy(&narrow, raw.data(), sizeof narrow);
        return narrow;
    }
    return std::nullopt;
}

Constant read_tensor(ProtobufReader message, std::string* name) {
    Constant tensor;
    std::vector<std::int64_t> listed;
    std::string raw;
    while (message.next()) {
        switch (message.tag()) {
            case 5:  // int32_data and int64_data; both are varints
            case 7:
                if (message.wire_type() == protozero::pbf_wire_type::length_delimited) {
                    for (const std::int64_t value : message.get_packed_int64()) {
                        listed.push_back(value);
                        if (listed.size() > 1) break;
                    }
                } else {
                    const std::int64_t value = message.get_int64();
                    if (listed.size() <= 1) listed.push_back(value);
                }
                break;
            case 9: {
                const std::string_view view = message.get_view();
                if (view.size() <= sizeof(std::int64_t)) raw.assign(view.data(), view.size());
                break;
            }
            case 1:  // dims: packed or not
                if (message.wire_type() == protozero::pbf_wire_type::length_delimited) {
                    for (const std::int64_t value : message.get_packed_int64()) {
                        if (tensor.shape.size() < kRankLimit) tensor.shape.push_back(value);
                    }
                } else {
                    const std::int64_t value = message.get_int64();
                    if (tensor.shape.size() < kRankLimit) tensor.shape.push_back(value);
                }
                break;
            case 2: tensor.type = element_type(static_cast<std::int32_t>(message.get_int64())); break;
            case 8: {
                const std::string text = message.get_string();
                if (name) *name = text;
                break;
            }
            default: message.skip();
        }
    }
    tensor.value = single_integer(tensor, listed, raw);
    return tensor;
}

/// Type and shape out of a TypeProto; of the element type of an optional one.
void read_type(ProtobufReader message, TensorInfo& info, int depth) {
    info.rank_known = false;
    while (message.next()) {
        if (message.tag() == 1) {  // tensor_type
            ProtobufReader tensor = message.get_message();
            while (tensor.next()) {
                if (tensor.tag() == 1) {
                    info.type = element_type(static_cast<std::int32_t>(tensor.get_int64()));
                } else if (tensor.tag() == 2) {
                    info.rank_known = true;
                    ProtobufReader shape = tensor.get_message();
                    while (shape.next(1)) {
                        ProtobufReader dimension = shape.get_message();
                        std::int64_t value = -1;
                        while (dimension.next()) {
                            if (dimension.tag() == 1) {
                                value = dimension.get_int64();
                            } else {
                                dimension.skip();
                            }
                        }
                        if (info.shape.size() < kRankLimit) info.shape.push_back(value < 0 ? -1 : value);
                    }
                } else {
                    tensor.skip();
                }
            }
        } else if (message.tag() == 9 && depth < 2) {  // optional_type { elem_type }
            ProtobufReader optional = message.get_message();
            while (optional.next()) {
                if (optional.tag() == 1) {
                    read_type(optional.get_message(), info, depth + 1);
                    info.optional = true;
                } else {
                    optional.skip();
                }
            }
        } else {
            message.skip();
        }
    }
}

TensorInfo read_value_info(ProtobufReader message) {
    TensorInfo info;
    info.rank_known = false;
    while (message.next()) {
        switch (message.tag()) {
            case 1: info.name = message.get_string(); break;
            case 2: read_type(message.get_message(), info, 0); break;
            default: message.skip();
        }
    }
    return info;
}

const std::unordered_set<std::string_view> kConvolutions = {"Conv", "ConvTranspose", "ConvInteger", "QLinearConv", "FusedConv", "DeformConv"};
const std::unordered_set<std::string_view> kProducts = {
    "MatMul",      "Gemm",      "MatMulInteger", "QLinearMatMul", "MatMulNBits", "DynamicQuantizeMatMul", "MatMulIntegerToFloat",
    "FusedMatMul", "FusedGemm", "Einsum"};
const std::unordered_set<std::string_view> kAttention = {"Attention",     "MultiHeadAttention", "GroupQueryAttention", "LinearAttention",
                                                         "FlexAttention", "PagedAttention",     "QAttention",          "PackedMultiHeadAttention"};
const std::unordered_set<std::string_view> kRecurrent = {"LSTM", "GRU", "RNN", "DynamicQuantizeLSTM"};
const std::unordered_set<std::string_view> kSpectral = {"STFT",  "DFT",        "MelWeightMatrix", "Rfft",
                                                        "Irfft", "HannWindow", "HammingWindow",   "BlackmanWindow"};
const std::unordered_set<std::string_view> kPassing = {
    "Cast",     "Reshape", "Unsqueeze", "Squeeze", "Slice", "Gather",         "Split",           "Clip", "Add", "Transpose", "Pad", "Concat",
    "Identity", "Div",     "Sub",       "Mul",     "Mod",   "QuantizeLinear", "DequantizeLinear"};

struct Node {
    std::string type;
    std::string domain;
    std::vector<std::string> inputs;
    std::vector<std::string> outputs;
    std::int64_t group = 1;
};

class OnnxWalker {
public:
    FileOps result;

    void graph(ProtobufReader message, int depth) {
        if (depth > kDepthLimit) return;
        std::vector<ProtobufReader> nodes;
        std::vector<TensorInfo> inputs;
        while (message.next()) {
            switch (message.tag()) {
                case 1: nodes.push_back(message.get_message()); break;
                case 5: {
                    std::string name;
                    const Constant tensor = read_tensor(message.get_message(), &name);
                    add_constant(name, tensor);
                    break;
                }
                case 11: inputs.push_back(read_value_info(message.get_message())); break;
                case 12: {
                    const TensorInfo output = read_value_info(message.get_message());
                    if (depth == 0) result.outputs.push_back(output);
                    break;
                }
                default: message.skip();
            }
        }
        if (depth == 0) {
            for (TensorInfo& input : inputs) {
                // Old files list initializers among the inputs.
                if (constants_.contains(input.name)) continue;
                input_shapes_[input.name] = input;
                result.inputs.push_back(std::move(input));
            }
        }
        for (const ProtobufReader& node : nodes) this->node(node, depth);
    }

    void finish() {
        Features& f = result.features;
        f.attention_blocks += std::min(softmax_, products_of_computed_ / 2);
        const double total = convolution_1d_ + convolution_2d_ + f.matmuls + f.recurrent_ops;
        if (total > 0) {
            f.convolution_1d = convolution_1d_ / total;
            f.convolution_2d = convolution_2d_ / total;
            f.dense = f.matmuls / total;
            f.recurrent = f.recurrent_ops / total;
        }
        f.inputs = result.inputs;
        f.outputs = result.outputs;
    }

private:
    void add_constant(const std::string& name, const Constant& tensor) {
        if (!name.empty()) constants_[name] = tensor.shape;
        if (!name.empty() && tensor.value) integers_[name] = *tensor.value;
        const bool low_bit = is_low_bit(tensor.type);
        if (tensor.shape.empty() || !(is_real(tensor.type) || low_bit)) return;
        double elements = 1;
        for (const std::int64_t value : tensor.shape) elements *= static_cast<double>(std::max<std::int64_t>(0, value));
        if (elements > 1e15) return;  // no file holds that
        const auto count = static_cast<std::int64_t>(elements);
        result.parameters = add_counts(result.parameters, count);
        result.parameter_bytes = add_counts(result.parameter_bytes, (count * static_cast<std::int64_t>(bit_width(tensor.type)) + 7) / 8);
        auto& of_type = result.parameters_by_type[tensor.type];
        of_type = add_counts(of_type, count);
    }

    void node(ProtobufReader message, int depth) {
        Node node;
        std::vector<ProtobufReader> bodies;
        std::vector<ProtobufReader> tensors;
        std::optional<std::int64_t> value_int;
        while (message.next()) {
            switch (message.tag()) {
                case 1: node.inputs.push_back(message.get_string()); break;
                case 2: node.outputs.push_back(message.get_string()); break;
                case 4: node.type = message.get_string(); break;
                case 7: node.domain = message.get_string(); break;
                case 5: {
                    ProtobufReader attribute = message.get_message();
                    std::string name;
                    std::int64_t integer = 0;
                    while (attribute.next()) {
                        switch (attribute.tag()) {
                            case 1: name = attribute.get_string(); break;
                            case 3: integer = attribute.get_int64(); break;
                            case 5: tensors.push_back(attribute.get_message()); break;
                            case 6:
                            case 11: bodies.push_back(attribute.get_message()); break;
                            default: attribute.skip();
                        }
                    }
                    if (name == "group") node.group = integer;
                    if (name == "value_int") value_int = integer;
                    break;
                }
                default: message.skip();
            }
        }
        if (node.type == "Constant" && value_int && !node.outputs.empty()) integers_[node.outputs[0]] = *value_int;
        for (const ProtobufReader& tensor : tensors) {
            const Constant constant = read_tensor(tensor, nullptr);
            add_constant(node.type == "Constant" && !node.outputs.empty() ? node.outputs[0] : std::string(), constant);
        }
        ++result.operators[node.domain.empty() || node.domain == "ai.onnx" ? node.type : node.domain + "." + node.type];
        for (const std::string& output : node.outputs) producers_[output] = {node.type, node.inputs.empty() ? std::string() : node.inputs[0]};
        add_features(node);
        add_comparison(node);
        for (const ProtobufReader& body : bodies) graph(body, depth + 1);
    }

    const Shape* constant_shape(const Node& node, std::size_t input) const {
        if (input >= node.inputs.size()) return nullptr;
        auto found = constants_.find(node.inputs[input]);
        if (found == constants_.end()) {  // behind a DequantizeLinear or an Identity
            const auto producer = producers_.find(node.inputs[input]);
            if (producer != producers_.end() && (producer->second.first == "DequantizeLinear" || producer->second.first == "Identity")) {
                found = constants_.find(producer->second.second);
            }
        }
        return found == constants_.end() ? nullptr : &found->second;
    }

    /// The name at the start of a chain of `operations`.
    std::string source(std::string name, std::initializer_list<std::string_view> operations) const {
        for (int step = 0; step < 64; ++step) {
            const auto producer = producers_.find(name);
            if (producer == producers_.end() || std::ranges::find(operations, producer->second.first) == operations.end()) break;
            name = producer->second.second;
        }
        return name;
    }

    void add_comparison(const Node& node) {
        if (node.type != "Equal" || node.inputs.size() != 2) return;
        for (const std::size_t side : {std::size_t{0}, std::size_t{1}}) {
            const auto passing = {std::string_view("Cast"), std::string_view("Squeeze"), std::string_view("Unsqueeze"), std::string_view("Reshape"),
                                  std::string_view("Identity")};
            const auto input = input_shapes_.find(source(node.inputs[side], passing));
            const auto value = integers_.find(source(node.inputs[1 - side], passing));
            if (input == input_shapes_.end() || value == integers_.end() || !may_be_switch(input->second)) continue;
            add_value(result.compared_values, input->first, value->second);
        }
    }

    /// The input that a value comes from through operations that only convert or move.
    const TensorInfo* origin(std::string name) const {
        for (int step = 0; step < 64; ++step) {
            if (const auto input = input_shapes_.find(name); input != input_shapes_.end()) return &input->second;
            const auto producer = producers_.find(name);
            if (producer == producers_.end() || !kPassing.contains(producer->second.first)) return nullptr;
            name = producer->second.second;
        }
        return nullptr;
    }

    void add_convolution(const Node& node) {
        Features& f = result.features;
        ++f.convolutions;
        const Shape* weights = constant_shape(node, node.type == "QLinearConv" ? 3 : 1);
        const bool line = weights && weights->size() == 3;
        (line ? convolution_1d_ : convolution_2d_) += 1;
        if (seen_convolution_ || !weights || weights->size() < 3 || node.type == "ConvTranspose") return;
        seen_convolution_ = true;
        const std::int64_t channels = std::clamp<std::int64_t>((*weights)[1], 0, 1 << 20) * std::clamp<std::int64_t>(node.group, 1, 1 << 20);
        std::vector<std::int64_t> sides(weights->size() - 2, -1);
        if (const TensorInfo* input = node.inputs.empty() ? nullptr : origin(node.inputs[0]); input && input->shape.size() == weights->size()) {
            sides.assign(input->shape.begin() + 2, input->shape.end());
        }
        f.planes.push_back(classify_plane(channels, sides));
    }

    void add_features(const Node& node) {
        Features& f = result.features;
        if (node.domain == "ai.onnx.ml") {
            ++f.estimator_ops;
        } else if (kConvolutions.contains(node.type)) {
            add_convolution(node);
        } else if (kProducts.contains(node.type)) {
            ++f.matmuls;
            if (!constant_shape(node, 0) && !constant_shape(node, 1)) ++products_of_computed_;
        } else if (kRecurrent.contains(node.type)) {
            ++f.recurrent_ops;
        } else if (kAttention.contains(node.type)) {
            ++f.attention_blocks;
        } else if (kSpectral.contains(node.type)) {
            ++f.spectral_ops;
        } else if (node.type == "Softmax") {
            ++softmax_;
        } else if (node.type == "Gather" && node.inputs.size() > 1) {
            const Shape* table = constant_shape(node, 0);
            const TensorInfo* input = origin(node.inputs[1]);
            if (table && table->size() == 2 && input && !is_real(input->type)) {
                bool sequence = false;
                for (std::size_t i = 1; i < input->shape.size(); ++i) sequence = sequence || input->shape[i] != 1;
                ++(sequence ? f.token_tables : f.id_tables);
                f.id_fields += !sequence;
                f.table_rows = std::max(f.table_rows, (*table)[0]);
            }
        } else if (node.type.find("Quantize") != std::string::npos || node.type.starts_with("QLinear")) {
            result.quantized = true;
        }
        if (node.type == "MatMulNBits" || node.type.ends_with("Integer")) result.quantized = true;
    }

    std::unordered_map<std::string, Shape> constants_;
    std::unordered_map<std::string, std::int64_t> integers_;  // constants of one integer
    std::unordered_map<std::string, TensorInfo> input_shapes_;
    std::unordered_map<std::string, std::pair<std::string, std::string>> producers_;  // value -> operation, its first input
    int softmax_ = 0;
    int products_of_computed_ = 0;
    bool seen_convolution_ = false;
    double convolution_1d_ = 0;
    double convolution_2d_ = 0;
};

}  // namespace

std::optional<FileOps> read_onnx_ops(std::string_view content) {
    try {
        OnnxWalker walker;
        bool has_graph = false;
        ProtobufReader model(content);
        while (model.next()) {
            if (model.tag() == 7) {
                walker.graph(model.get_message(), 0);
                has_graph = true;
            } else {
                model.skip();
            }
        }
        if (!has_graph) return std::nullopt;
        walker.finish();
        return std::move(walker.result);
    } catch (const std::exception&) {  // protozero: truncated, wrong wire type, …
        return std::nullopt;
    }
}

}  // namespace ai_vmm::graph
