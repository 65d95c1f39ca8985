// SPDX-License-Identifier: Apache-2.0
// Field numbers are those of tensorflow/compiler/mlir/lite/schema/schema.fbs (version 3).
#include "graph/formats/tflite_file.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <optional>

#include "graph/bytes.hpp"

namespace ai_vmm::graph {
namespace {

constexpr std::string_view kWhat = "TensorFlow Lite file";
constexpr std::uint32_t kMaxItems = 1u << 24;
constexpr std::uint32_t kMaxRank = 64;

constexpr std::int32_t kSvdf = 27;  // BuiltinOperator
constexpr std::int32_t kSequenceLstm = 44;
constexpr std::uint8_t kSequenceLstmOptions = 71;  // BuiltinOptions
constexpr std::int8_t kTanh = 4;                   // ActivationFunctionType

[[noreturn]] void damaged(const std::string& why) {
    throw malformed("the TensorFlow Lite file is damaged: " + why, "a valid TensorFlow Lite model", {}, "get the file again");
}

/// A flatbuffer table: fields are found through its vtable. https://flatbuffers.dev/internals/
class Table {
public:
    Table(const BoundedView& view, std::uint64_t position) : view_(&view), position_(position) {
        const std::int64_t vtable = static_cast<std::int64_t>(position) - view.at<std::int32_t>(position);
        if (vtable < 0) damaged("a table without its layout");
        vtable_ = static_cast<std::uint64_t>(vtable);
        vtable_size_ = view.at<std::uint16_t>(vtable_);
        const auto table_size = view.at<std::uint16_t>(vtable_ + 2);
        if (vtable_size_ < 4 || vtable_size_ % 2 != 0) damaged("a table with a bad layout");
        static_cast<void>(view.slice(vtable_, vtable_size_));
        static_cast<void>(view.slice(position, table_size));
    }

    /// Where a field's value lies; nothing if the field has its default.
    [[nodiscard]] std::optional<std::uint64_t> field(std::uint32_t number) const {
        const std::uint64_t slot = 4 + 2 * std::uint64_t{number};
        if (slot + 2 > vtable_size_) return std::nullopt;
        const auto offset = view_->at<std::uint16_t>(vtable_ + slot);
        if (offset == 0) return std::nullopt;
        return position_ + offset;
    }
    template <typename T>
    [[nodiscard]] T scalar(std::uint32_t number, T fallback) const {
        const auto at = field(number);
        return at ? view_->at<T>(*at) : fallback;
    }
    [[nodiscard]] std::optional<std::uint64_t> reference(std::uint32_t number) const {
        const auto at = field(number);
        if (!at) return std::nullopt;
        return *at + view_->at<std::uint32_t>(*at);
    }
    [[nodiscard]] std::optional<std::string> text(std::uint32_t number) const {
        const auto at = reference(number);
        if (!at) return std::nullopt;
        const auto length = view_->at<std::uint32_t>(*at);
        static_cast<void>(view_->slice(*at + 4, std::uint64_t{length} + 1));  // and the null at its end
        return std::string(view_->slice(*at + 4, length));
    }
    /// Number of elements and position of the first; checked to lie inside the file.
    [[nodiscard]] std::pair<std::uint32_t, std::uint64_t> vector(std::uint32_t number, std::uint64_t element_size) const {
        const auto at = reference(number);
        if (!at) return {0, 0};
        const auto count = view_->at<std::uint32_t>(*at);
        static_cast<void>(view_->slice(*at + 4, count * element_size));
        return {count, *at + 4};
    }
    template <typename T>
    [[nodiscard]] std::vector<T> scalars(std::uint32_t number, std::uint32_t limit = kMaxItems) const {
        const auto [count, begin] = vector(number, sizeof(T));
        if (count > limit) damaged("a list of " + std::to_string(count) + " items");
        std::vector<T> values(count);
        for (std::uint32_t i = 0; i < count; ++i) values[i] = view_->at<T>(begin + i * sizeof(T));
        return values;
    }
    template <typename Visit>
    void tables(std::uint32_t number, Visit visit) const {
        const auto [count, begin] = vector(number, 4);
        for (std::uint32_t i = 0; i < count; ++i) {
            const std::uint64_t at = begin + std::uint64_t{i} * 4;
            visit(i, Table(*view_, at + view_->at<std::uint32_t>(at)));
        }
    }

private:
    const BoundedView* view_;
    std::uint64_t position_;
    std::uint64_t vtable_ = 0;
    std::uint64_t vtable_size_ = 0;
};

ElementType element_type(std::int8_t type) {
    static constexpr ElementType kTypes[] = {
        ElementType::f32,    ElementType::f16,        ElementType::i32, ElementType::u8,        ElementType::i64,
        ElementType::string, ElementType::boolean,    ElementType::i16, ElementType::complex64, ElementType::i8,
        ElementType::f64,    ElementType::complex128, ElementType::u64, ElementType::undefined, ElementType::undefined,
        ElementType::u32,    ElementType::u16,        ElementType::i4,  ElementType::bf16,      ElementType::i2,
    };
    return type >= 0 && static_cast<std::size_t>(type) < std::size(kTypes) ? kTypes[type] : ElementType::undefined;
}

TensorInfo tensor_info(const Table& tensor) {
    TensorInfo info{.name = tensor.text(3).value_or(""),
                    .type = element_type(tensor.scalar<std::int8_t>(1, 0)),
                    .shape = {},
                    .rank_known = true,
                    .optional = false};
    const auto shape = tensor.scalars<std::int32_t>(0, kMaxRank);
    const auto signature = tensor.scalars<std::int32_t>(7, kMaxRank);  // like the shape, with -1 for what may vary
    for (const std::int32_t size : signature.empty() ? shape : signature) info.shape.push_back(size < 0 ? -1 : size);
    return info;
}

class Parser {
public:
    explicit Parser(std::string_view bytes) : view_(bytes, kWhat) {}

    TfliteFile parse() {
        if (view_.slice(4, 4) != "TFL3") damaged("no TFL3 identifier");
        const Table model(view_, view_.at<std::uint32_t>(0));
        const auto version = model.scalar<std::uint32_t>(0, 0);
        if (version != 3) {
            throw malformed("the TensorFlow Lite file has an unknown schema version", "3", std::to_string(version), "convert the model again");
        }
        std::vector<std::int32_t> codes;
        model.tables(1, [&](std::uint32_t, const Table& code) {
            static_cast<void>(code.text(1));
            codes.push_back(std::max<std::int32_t>(code.scalar<std::int8_t>(0, 0), code.scalar<std::int32_t>(3, 0)));
        });
        std::uint32_t buffers = 0;
        model.tables(4, [&](std::uint32_t, const Table& buffer) {
            ++buffers;
            static_cast<void>(buffer.vector(0, 1));
            const auto offset = buffer.scalar<std::uint64_t>(1, 0);  // data after the flatbuffer, in files above 2 GB
            if (offset > 1) static_cast<void>(view_.slice(offset, buffer.scalar<std::uint64_t>(2, 0)));
        });
        std::uint32_t subgraphs = 0;
        model.tables(2, [&](std::uint32_t index, const Table& graph) {
            ++subgraphs;
            subgraph(graph, index == 0, codes, buffers);
        });
        if (subgraphs == 0) damaged("no graph in it");
        if (file_.outputs.empty()) damaged("the graph has no outputs");
        return std::move(file_);
    }

private:
    void subgraph(const Table& graph, bool main, const std::vector<std::int32_t>& codes, std::uint32_t buffers) {
        std::vector<TensorInfo> tensors;
        graph.tables(0, [&](std::uint32_t, const Table& tensor) {
            tensors.push_back(tensor_info(tensor));
            if (tensor.scalar<std::uint32_t>(2, 0) >= std::max(buffers, 1u)) damaged("a tensor refers to a buffer that isn't there");
            if (const auto quantisation = tensor.reference(4)) {
                const Table table(view_, *quantisation);
                static_cast<void>(table.vector(0, 4));
                static_cast<void>(table.vector(1, 4));
                static_cast<void>(table.vector(2, 4));
                static_cast<void>(table.vector(3, 8));
                const auto axis = table.field(6);
                if (tensors.back().shape.size() == 1 && axis && view_.at<std::int32_t>(*axis) != 0) file_.repairs.emplace_back(*axis, 0);
            }
        });
        const auto check = [&](std::int32_t index, bool may_be_absent) {
            if (index < (may_be_absent ? -1 : 0) || (index >= 0 && static_cast<std::size_t>(index) >= tensors.size())) {
                damaged("a reference to tensor " + std::to_string(index) + " of " + std::to_string(tensors.size()));
            }
        };
        graph.tables(3, [&](std::uint32_t number, const Table& operation) {
            const auto code = operation.scalar<std::uint32_t>(0, 0);
            if (code >= codes.size()) damaged("an operation without a type");
            for (const std::int32_t index : operation.scalars<std::int32_t>(1)) check(index, true);
            for (const std::int32_t index : operation.scalars<std::int32_t>(2)) check(index, true);
            if (!file_.refusal.empty()) return;
            if (codes[code] == kSvdf) file_.refusal = "SVDF (operation " + std::to_string(number) + ") has no counterpart in OpenVINO";
            if (codes[code] == kSequenceLstm) lstm(operation, number, tensors);
        });
        for (std::size_t i = 0; i < tensors.size() && file_.refusal.empty(); ++i) {
            if (tensors[i].name.empty()) file_.refusal = "tensor " + std::to_string(i) + " has no name, which OpenVINO's reader insists on";
        }
        const auto ports = [&](std::uint32_t number, const char* unnamed, std::vector<TensorInfo>& out) {
            for (const std::int32_t index : graph.scalars<std::int32_t>(number)) {
                check(index, false);
                if (!main) continue;
                out.push_back(tensors[static_cast<std::size_t>(index)]);
                if (out.back().name.empty()) out.back().name = unnamed + std::to_string(out.size() - 1);
            }
        };
        ports(1, "input_", file_.inputs);
        ports(2, "output_", file_.outputs);
    }

    /// Takes the states of a float LSTM out of its inputs, or says why that LSTM can't be converted.
    void lstm(const Table& operation, std::uint32_t number, const std::vector<TensorInfo>& tensors) {
        const auto refuse = [&](const std::string& why) {
            file_.refusal = "UNIDIRECTIONAL_SEQUENCE_LSTM (operation " + std::to_string(number) + ") " + why;
        };
        const auto [count, begin] = operation.vector(1, 4);
        const std::vector<std::int32_t> inputs = operation.scalars<std::int32_t>(1);
        if (count != 20 && count != 24) return refuse("has " + std::to_string(count) + " inputs rather than 20 or 24");
        for (std::uint32_t i = 0; i < count; ++i) {
            const bool optional = (i >= 9 && i <= 11) || i == 16 || i == 17 || i >= 20;  // peepholes, projection, normalisation
            if (optional != (inputs[i] < 0)) {
                return refuse(optional ? "has peepholes, a projection or normalisation, which are not converted" : "lacks one of its four gates");
            }
            if (optional) continue;
            const ElementType type = tensors[static_cast<std::size_t>(inputs[i])].type;
            if (type != ElementType::f32)
                return refuse("computes in " + std::string(to_string(type)) + ", whose integer steps no other operation repeats; f32 is converted");
        }
        const auto options = operation.reference(4);
        if (!options || operation.scalar<std::uint8_t>(3, 0) != kSequenceLstmOptions) return refuse("has no options");
        const Table table(view_, *options);
        if (table.scalar<std::int8_t>(0, 0) != kTanh) return refuse("has another activation than tanh");
        if (table.scalar<std::uint8_t>(5, 0) != 0) return refuse("has diagonal recurrent weights, which are not converted");
        const bool time_major = table.scalar<std::uint8_t>(3, 0) != 0;
        const auto cell_clip = std::bit_cast<float>(table.scalar<std::uint32_t>(1, 0));
        if (!std::isfinite(cell_clip)) return refuse("has a bound of its cells that is no number");
        if (has_lstm_ && (time_major != file_.time_major || cell_clip != file_.cell_clip)) return refuse("and another one have different options");
        has_lstm_ = true;
        file_.time_major = time_major;
        file_.cell_clip = cell_clip;
        for (const std::uint32_t state : {18U, 19U}) file_.repairs.emplace_back(begin + 4 * std::uint64_t{state}, -1);
    }

    BoundedView view_;
    TfliteFile file_;
    bool has_lstm_ = false;
};

}  // namespace

TfliteFile parse_tflite(std::string_view bytes) { return Parser(bytes).parse(); }

std::string repaired(std::string bytes, const TfliteFile& file) {
    for (const auto& [position, value] : file.repairs) std::memcpy(bytes.data() + position, &value, sizeof value);
    return bytes;
}

}  // namespace ai_vmm::graph
