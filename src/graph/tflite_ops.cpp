// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cstring>

#include "graph/file_ops.hpp"

namespace ai_vmm::graph {
namespace {

/// A FlatBuffer read by offsets, each checked; what lies outside reads as absent. Format: flatbuffers.dev/internals.
class Buffer {
public:
    explicit Buffer(std::string_view content) : content_(content) {}

    template <typename T>
    [[nodiscard]] std::optional<T> read(std::uint64_t position) const {
        if (position > content_.size() || content_.size() - position < sizeof(T)) return std::nullopt;
        T value;
        std::memcpy(&value, content_.data() + position, sizeof(T));
        return value;
    }
    [[nodiscard]] std::string_view bytes(std::uint64_t position, std::uint64_t size) const {
        if (position > content_.size() || content_.size() - position < size) return {};
        return content_.substr(position, size);
    }
    [[nodiscard]] std::uint64_t size() const { return content_.size(); }

private:
    std::string_view content_;
};

class Table;

/// A vector of scalars (4 bytes each unless told) or of tables.
class Vector {
public:
    Vector() = default;
    Vector(const Buffer* buffer, std::uint64_t position) : buffer_(buffer) {
        const auto count = buffer->read<std::uint32_t>(position);
        // Elements have at least one byte: a count above what is left is a lie.
        if (!count || *count > buffer->size() - position) return;
        count_ = *count;
        first_ = position + 4;
    }
    [[nodiscard]] std::uint32_t size() const { return count_; }
    template <typename T>
    [[nodiscard]] T scalar(std::uint32_t index, T otherwise) const {
        return index < count_ ? buffer_->read<T>(first_ + std::uint64_t{index} * sizeof(T)).value_or(otherwise) : otherwise;
    }
    [[nodiscard]] Table table(std::uint32_t index) const;
    [[nodiscard]] std::string_view text() const { return count_ ? buffer_->bytes(first_, count_) : std::string_view{}; }

private:
    const Buffer* buffer_ = nullptr;
    std::uint32_t count_ = 0;
    std::uint64_t first_ = 0;
};

class Table {
public:
    Table() = default;
    Table(const Buffer* buffer, std::uint64_t position) : buffer_(buffer), position_(position) {
        const auto back = buffer->read<std::int32_t>(position);
        if (!back) return;
        const std::int64_t vtable = static_cast<std::int64_t>(position) - *back;
        if (vtable < 0) return;
        const auto size = buffer->read<std::uint16_t>(static_cast<std::uint64_t>(vtable));
        if (!size || *size < 4) return;
        vtable_ = static_cast<std::uint64_t>(vtable);
        fields_ = static_cast<std::uint16_t>((*size - 4) / 2);
    }
    [[nodiscard]] bool valid() const { return buffer_ && vtable_; }
    template <typename T>
    [[nodiscard]] T scalar(std::uint16_t field, T otherwise) const {
        const std::uint64_t at = locate(field);
        return at ? buffer_->read<T>(at).value_or(otherwise) : otherwise;
    }
    [[nodiscard]] Vector vector(std::uint16_t field) const {
        const std::uint64_t at = follow(field);
        return at ? Vector(buffer_, at) : Vector();
    }
    [[nodiscard]] Table table(std::uint16_t field) const {
        const std::uint64_t at = follow(field);
        return at ? Table(buffer_, at) : Table();
    }
    [[nodiscard]] std::string text(std::uint16_t field) const { return std::string(vector(field).text().substr(0, 1024)); }

private:
    [[nodiscard]] std::uint64_t locate(std::uint16_t field) const {
        if (!vtable_ || field >= fields_) return 0;
        const auto offset = buffer_->read<std::uint16_t>(*vtable_ + 4 + std::uint64_t{field} * 2);
        return offset && *offset ? position_ + *offset : 0;
    }
    [[nodiscard]] std::uint64_t follow(std::uint16_t field) const {
        const std::uint64_t at = locate(field);
        const auto offset = at ? buffer_->read<std::uint32_t>(at) : std::nullopt;
        return offset && *offset && at + *offset < buffer_->size() ? at + *offset : 0;
    }

    const Buffer* buffer_ = nullptr;
    std::uint64_t position_ = 0;
    std::optional<std::uint64_t> vtable_;
    std::uint16_t fields_ = 0;
};

Table Vector::table(std::uint32_t index) const {
    if (index >= count_) return Table();
    const std::uint64_t at = first_ + std::uint64_t{index} * 4;
    const auto offset = buffer_->read<std::uint32_t>(at);
    return offset && *offset && at + *offset < buffer_->size() ? Table(buffer_, at + *offset) : Table();
}

// BuiltinOperator of the TFLite schema (tensorflow/compiler/mlir/lite/schema/schema.fbs), in its order.
constexpr std::string_view kBuiltins[] = {"ADD",
                                          "AVERAGE_POOL_2D",
                                          "CONCATENATION",
                                          "CONV_2D",
                                          "DEPTHWISE_CONV_2D",
                                          "DEPTH_TO_SPACE",
                                          "DEQUANTIZE",
                                          "EMBEDDING_LOOKUP",
                                          "FLOOR",
                                          "FULLY_CONNECTED",
                                          "HASHTABLE_LOOKUP",
                                          "L2_NORMALIZATION",
                                          "L2_POOL_2D",
                                          "LOCAL_RESPONSE_NORMALIZATION",
                                          "LOGISTIC",
                                          "LSH_PROJECTION",
                                          "LSTM",
                                          "MAX_POOL_2D",
                                          "MUL",
                                          "RELU",
                                          "RELU_N1_TO_1",
                                          "RELU6",
                                          "RESHAPE",
                                          "RESIZE_BILINEAR",
                                          "RNN",
                                          "SOFTMAX",
                                          "SPACE_TO_DEPTH",
                                          "SVDF",
                                          "TANH",
                                          "CONCAT_EMBEDDINGS",
                                          "SKIP_GRAM",
                                          "CALL",
                                          "CUSTOM",
                                          "EMBEDDING_LOOKUP_SPARSE",
                                          "PAD",
                                          "UNIDIRECTIONAL_SEQUENCE_RNN",
                                          "GATHER",
                                          "BATCH_TO_SPACE_ND",
                                          "SPACE_TO_BATCH_ND",
                                          "TRANSPOSE",
                                          "MEAN",
                                          "SUB",
                                          "DIV",
                                          "SQUEEZE",
                                          "UNIDIRECTIONAL_SEQUENCE_LSTM",
                                          "STRIDED_SLICE",
                                          "BIDIRECTIONAL_SEQUENCE_RNN",
                                          "EXP",
                                          "TOPK_V2",
                                          "SPLIT",
                                          "LOG_SOFTMAX",
                                          "DELEGATE",
                                          "BIDIRECTIONAL_SEQUENCE_LSTM",
                                          "CAST",
                                          "PRELU",
                                          "MAXIMUM",
                                          "ARG_MAX",
                                          "MINIMUM",
                                          "LESS",
                                          "NEG",
                                          "PADV2",
                                          "GREATER",
                                          "GREATER_EQUAL",
                                          "LESS_EQUAL",
                                          "SELECT",
                                          "SLICE",
                                          "SIN",
                                          "TRANSPOSE_CONV",
                                          "SPARSE_TO_DENSE",
                                          "TILE",
                                          "EXPAND_DIMS",
                                          "EQUAL",
                                          "NOT_EQUAL",
                                          "LOG",
                                          "SUM",
                                          "SQRT",
                                          "RSQRT",
                                          "SHAPE",
                                          "POW",
                                          "ARG_MIN",
                                          "FAKE_QUANT",
                                          "REDUCE_PROD",
                                          "REDUCE_MAX",
                                          "PACK",
                                          "LOGICAL_OR",
                                          "ONE_HOT",
                                          "LOGICAL_AND",
                                          "LOGICAL_NOT",
                                          "UNPACK",
                                          "REDUCE_MIN",
                                          "FLOOR_DIV",
                                          "REDUCE_ANY",
                                          "SQUARE",
                                          "ZEROS_LIKE",
                                          "FILL",
                                          "FLOOR_MOD",
                                          "RANGE",
                                          "RESIZE_NEAREST_NEIGHBOR",
                                          "LEAKY_RELU",
                                          "SQUARED_DIFFERENCE",
                                          "MIRROR_PAD",
                                          "ABS",
                                          "SPLIT_V",
                                          "UNIQUE",
                                          "CEIL",
                                          "REVERSE_V2",
                                          "ADD_N",
                                          "GATHER_ND",
                                          "COS",
                                          "WHERE",
                                          "RANK",
                                          "ELU",
                                          "REVERSE_SEQUENCE",
                                          "MATRIX_DIAG",
                                          "QUANTIZE",
                                          "MATRIX_SET_DIAG",
                                          "ROUND",
                                          "HARD_SWISH",
                                          "IF",
                                          "WHILE",
                                          "NON_MAX_SUPPRESSION_V4",
                                          "NON_MAX_SUPPRESSION_V5",
                                          "SCATTER_ND",
                                          "SELECT_V2",
                                          "DENSIFY",
                                          "SEGMENT_SUM",
                                          "BATCH_MATMUL",
                                          "PLACEHOLDER",
                                          "CUMSUM",
                                          "CALL_ONCE",
                                          "BROADCAST_TO",
                                          "RFFT2D",
                                          "CONV_3D",
                                          "IMAG",
                                          "REAL",
                                          "COMPLEX_ABS",
                                          "HASHTABLE",
                                          "HASHTABLE_FIND",
                                          "HASHTABLE_IMPORT",
                                          "HASHTABLE_SIZE",
                                          "REDUCE_ALL",
                                          "CONV_3D_TRANSPOSE",
                                          "VAR_HANDLE",
                                          "READ_VARIABLE",
                                          "ASSIGN_VARIABLE",
                                          "BROADCAST_ARGS",
                                          "RANDOM_STANDARD_NORMAL",
                                          "BUCKETIZE",
                                          "RANDOM_UNIFORM",
                                          "MULTINOMIAL",
                                          "GELU"};

ElementType element_type(std::int8_t type) {
    static constexpr ElementType kTypes[] = {ElementType::f32,       ElementType::f16,       ElementType::i32,       ElementType::u8,
                                             ElementType::i64,       ElementType::string,    ElementType::boolean,   ElementType::i16,
                                             ElementType::complex64, ElementType::i8,        ElementType::f64,       ElementType::complex128,
                                             ElementType::u64,       ElementType::undefined, ElementType::undefined, ElementType::u32,
                                             ElementType::u16,       ElementType::i4,        ElementType::bf16};
    return type >= 0 && static_cast<std::size_t>(type) < std::size(kTypes) ? kTypes[static_cast<std::size_t>(type)] : ElementType::undefined;
}

struct Tensor {
    std::string name;
    ElementType type = ElementType::undefined;
    Shape shape;
    Shape signature;  // with -1 for open dimensions
    bool constant = false;
    bool variable = false;
    bool scaled = false;  // has quantisation parameters
    std::uint64_t stored_bytes = 0;
};

constexpr std::uint32_t kRankLimit = 16;

Shape read_shape(const Vector& vector) {
    Shape shape;
    for (std::uint32_t i = 0; i < std::min(vector.size(), kRankLimit); ++i) shape.push_back(vector.scalar<std::int32_t>(i, 0));
    return shape;
}

Tensor read_tensor(const Table& table, const Vector& buffers, std::uint64_t file_size) {
    Tensor tensor;
    tensor.shape = read_shape(table.vector(0));
    tensor.type = element_type(table.scalar<std::int8_t>(1, 0));
    tensor.name = table.text(3);
    tensor.scaled = table.table(4).vector(2).size() > 0;
    tensor.variable = table.scalar<std::uint8_t>(5, 0) != 0;
    tensor.signature = read_shape(table.vector(7));
    if (tensor.signature.size() != tensor.shape.size()) tensor.signature = tensor.shape;
    const auto buffer = table.scalar<std::uint32_t>(2, 0);
    if (buffer > 0) {  // buffer 0 is empty by definition
        const Table data = buffers.table(buffer);
        tensor.stored_bytes = data.vector(0).size();
        // Large files keep the content outside of the tables: offset and size in the file.
        const auto offset = data.scalar<std::uint64_t>(1, 0);
        const auto size = data.scalar<std::uint64_t>(2, 0);
        if (tensor.stored_bytes == 0 && offset > 1 && offset < file_size && size <= file_size - offset) tensor.stored_bytes = size;
        tensor.constant = tensor.stored_bytes > 0;
    }
    return tensor;
}

TensorInfo to_info(const Tensor& tensor) { return {tensor.name, tensor.type, tensor.signature}; }

std::string operator_name(const Table& code) {
    // Codes above 127 stand in the newer field; the older one is 127 then.
    const auto builtin = std::max<std::int32_t>(code.scalar<std::int8_t>(0, 0), code.scalar<std::int32_t>(3, 0));
    if (builtin == 32) return code.text(1);
    if (builtin >= 0 && static_cast<std::size_t>(builtin) < std::size(kBuiltins)) return std::string(kBuiltins[static_cast<std::size_t>(builtin)]);
    return "BUILTIN_" + std::to_string(builtin);
}

bool is_recurrent(std::string_view name) {
    return name == "LSTM" || name == "RNN" || name.starts_with("UNIDIRECTIONAL_SEQUENCE_") || name.starts_with("BIDIRECTIONAL_SEQUENCE_");
}
bool is_signal(std::string_view name) { return name == "RFFT2D" || name.starts_with("Signal") || name == "AudioSpectrogram" || name == "Mfcc"; }

/// What the operator adds to the features; `work` sums weighted operations by kind.
struct Work {
    double convolution_1d = 0, convolution_2d = 0, dense = 0, recurrent = 0;
};

void add_features(const std::string& name, const std::vector<const Tensor*>& inputs, const Tensor* output, bool first_convolution, Features& features,
                  Work& work) {
    const bool transposed = name == "TRANSPOSE_CONV" || name == "CONV_3D_TRANSPOSE";
    if (name == "CONV_2D" || name == "DEPTHWISE_CONV_2D" || name == "CONV_3D" || transposed) {
        ++features.convolutions;
        const std::size_t data_index = transposed ? 2 : 0;
        const Tensor* data = data_index < inputs.size() ? inputs[data_index] : nullptr;
        bool flat = false;
        if (data && data->shape.size() >= 4) {  // [batch, sides..., channels]
            std::vector<std::int64_t> sides(data->signature.begin() + 1, data->signature.end() - 1);
            flat = std::count(sides.begin(), sides.end(), 1) > 0;
            if (first_convolution) features.planes.push_back(classify_plane(data->shape.back(), sides));
            const Tensor* filter = inputs.size() > 1 ? inputs[1] : nullptr;
            if (first_convolution && name == "CONV_2D" && filter && filter->shape.size() == 4 && output && output->shape.size() == 4) {
                const std::int64_t kernel = filter->shape[1];
                features.patch_embedding = kernel > 1 && data->shape[1] > 0 && output->shape[1] * kernel == data->shape[1];
            }
        }
        (flat ? work.convolution_1d : work.convolution_2d) += 1;
    } else if (name == "FULLY_CONNECTED" || name == "BATCH_MATMUL") {
        ++features.matmuls;
        work.dense += 1;
    } else if (is_recurrent(name)) {
        ++features.recurrent_ops;
        work.recurrent += 1;
    } else if (name == "SVDF") {
        ++features.svdf_ops;
        work.recurrent += 1;
    } else if (is_signal(name)) {
        ++features.spectral_ops;
    } else if (name == "EMBEDDING_LOOKUP_SPARSE") {
        ++features.embedding_bags;
    } else if (name == "GATHER" || name == "EMBEDDING_LOOKUP") {
        const std::size_t table = name == "GATHER" ? 0 : 1;
        const std::size_t index = 1 - table;
        if (inputs.size() > 1 && inputs[table] && inputs[index] && inputs[table]->constant && inputs[table]->shape.size() == 2 &&
            !inputs[index]->constant) {
            std::int64_t positions = 1;
            for (std::size_t i = 1; i < inputs[index]->signature.size(); ++i)
                positions = std::max<std::int64_t>(positions, std::abs(inputs[index]->shape[i]));
            ++(positions > 1 ? features.token_tables : features.id_tables);
            features.id_fields += positions == 1;
            features.table_rows = std::max(features.table_rows, inputs[table]->shape[0]);
        }
    }
}

}  // namespace

std::optional<FileOps> read_tflite_ops(std::string_view content) {
    const Buffer buffer(content);
    if (buffer.bytes(4, 4) != "TFL3") return std::nullopt;
    const auto root_offset = buffer.read<std::uint32_t>(0);
    if (!root_offset || *root_offset >= buffer.size()) return std::nullopt;
    const Table root(&buffer, *root_offset);
    if (!root.valid()) return std::nullopt;
    const Vector codes = root.vector(1);
    const Vector graphs = root.vector(2);
    const Vector buffers = root.vector(4);
    if (graphs.size() == 0) return std::nullopt;

    FileOps result;
    Work work;
    int softmax = 0;
    int products_of_computed = 0;
    // A file can't hold more elements than bytes, but tables may be shared: bound the walk by the file's size.
    std::uint64_t budget = buffer.size();
    std::map<std::uint32_t, bool> counted;  // constant buffers, which sub-graphs may share
    for (std::uint32_t g = 0; g < graphs.size() && budget > 0; ++g) {
        const Table graph = graphs.table(g);
        const Vector tensor_tables = graph.vector(0);
        std::vector<Tensor> tensors;
        for (std::uint32_t t = 0; t < tensor_tables.size() && budget > 0; ++t, --budget) {
            const Table table = tensor_tables.table(t);
            tensors.push_back(read_tensor(table, buffers, buffer.size()));
            const Tensor& tensor = tensors.back();
            result.stateful = result.stateful || tensor.variable;
            const std::size_t bits = bit_width(tensor.type);
            const bool real = tensor.type == ElementType::f32 || tensor.type == ElementType::f16 || tensor.type == ElementType::bf16 ||
                              tensor.type == ElementType::f64;
            const bool low_bit = tensor.type == ElementType::i8 || tensor.type == ElementType::u8 || tensor.type == ElementType::i4;
            const bool scaled = tensor.scaled && (low_bit || tensor.type == ElementType::i16 || tensor.type == ElementType::i32);
            result.quantized = result.quantized || (tensor.scaled && low_bit);
            if (!tensor.constant || tensor.shape.empty() || bits == 0 || !(real || low_bit || scaled)) continue;
            if (!counted.emplace(table.scalar<std::uint32_t>(2, 0), true).second) continue;
            const auto elements = static_cast<std::int64_t>(tensor.stored_bytes * 8 / bits);
            result.parameters = add_counts(result.parameters, elements);
            result.parameter_bytes = add_counts(result.parameter_bytes, static_cast<std::int64_t>(tensor.stored_bytes));
            auto& of_type = result.parameters_by_type[tensor.type];
            of_type = add_counts(of_type, elements);
        }
        const auto tensor_at = [&](std::int32_t index) -> const Tensor* {
            return index >= 0 && static_cast<std::size_t>(index) < tensors.size() ? &tensors[static_cast<std::size_t>(index)] : nullptr;
        };
        if (g == 0) {
            const auto add_infos = [&](const Vector& indices, std::vector<TensorInfo>& infos) {
                for (std::uint32_t i = 0; i < indices.size() && budget > 0; ++i, --budget) {
                    if (const Tensor* tensor = tensor_at(indices.scalar<std::int32_t>(i, -1))) infos.push_back(to_info(*tensor));
                }
            };
            add_infos(graph.vector(1), result.inputs);
            add_infos(graph.vector(2), result.outputs);
        }
        bool first_convolution = g == 0;
        const Vector operators = graph.vector(3);
        for (std::uint32_t o = 0; o < operators.size() && budget > 0; ++o, --budget) {
            const Table op = operators.table(o);
            const std::string name = operator_name(codes.table(op.scalar<std::uint32_t>(0, 0)));
            ++result.operators[name];
            std::vector<const Tensor*> inputs;
            const Vector indices = op.vector(1);
            for (std::uint32_t i = 0; i < std::min<std::uint32_t>(indices.size(), 64); ++i)
                inputs.push_back(tensor_at(indices.scalar<std::int32_t>(i, -1)));
            const Tensor* output = tensor_at(op.vector(2).scalar<std::int32_t>(0, -1));
            const int before = result.features.convolutions;
            add_features(name, inputs, output, first_convolution, result.features, work);
            if (result.features.convolutions > before) first_convolution = false;
            if (name == "SOFTMAX") ++softmax;
            if (name == "BATCH_MATMUL" && inputs.size() > 1 && inputs[0] && inputs[1] && !inputs[0]->constant && !inputs[1]->constant)
                ++products_of_computed;
        }
    }
    result.features.attention_blocks = std::min(softmax, products_of_computed / 2);
    const double total = work.convolution_1d + work.convolution_2d + work.dense + work.recurrent;
    if (total > 0) {
        result.features.convolution_1d = work.convolution_1d / total;
        result.features.convolution_2d = work.convolution_2d / total;
        result.features.dense = work.dense / total;
        result.features.recurrent = work.recurrent / total;
    }
    result.features.inputs = result.inputs;
    result.features.outputs = result.outputs;
    return result;
}

}  // namespace ai_vmm::graph
