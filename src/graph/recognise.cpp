// SPDX-License-Identifier: Apache-2.0
#include "graph/recognise.hpp"

#include <algorithm>
#include <array>
#include <optional>

namespace ai_vmm::graph {
namespace {

using namespace std::string_view_literals;

enum WireType : std::uint32_t { kVarint = 0, kFixed64 = 1, kLength = 2, kFixed32 = 5 };

/// One field of a protobuf message, of which only a prefix may be at hand.
struct Field {
    std::uint32_t tag = 0;
    std::uint32_t wire = 0;
    std::string_view payload;  ///< what is at hand of a length-delimited field
    bool complete = false;
};

/// Walks the fields of a message as far as the bytes go. Unlike protozero it stops, rather than throws, where the prefix ends.
class FieldWalk {
public:
    explicit FieldWalk(std::string_view bytes) : bytes_(bytes) {}

    std::optional<Field> next() {
        if (position_ >= bytes_.size() || bad_) return std::nullopt;
        Field field;
        const auto key = varint();
        if (!key) return std::nullopt;
        field.tag = static_cast<std::uint32_t>(*key >> 3);
        field.wire = static_cast<std::uint32_t>(*key & 7);
        if (field.tag == 0 || *key > 0xffffffffu) return fail();
        std::uint64_t length = 0;
        switch (field.wire) {
            case kVarint: {
                if (!varint()) return std::nullopt;
                field.complete = true;
                return field;
            }
            case kFixed64: length = 8; break;
            case kFixed32: length = 4; break;
            case kLength: {
                const auto value = varint();
                if (!value) return std::nullopt;
                length = *value;
                break;
            }
            default: return fail();
        }
        const std::uint64_t left = bytes_.size() - position_;
        field.complete = length <= left;
        field.payload = bytes_.substr(position_, static_cast<std::size_t>(std::min(length, left)));
        position_ = static_cast<std::size_t>(std::min<std::uint64_t>(bytes_.size(), position_ + std::min(length, left)));
        return field;
    }
    /// The bytes are no protobuf message.
    [[nodiscard]] bool bad() const noexcept { return bad_; }

private:
    std::optional<Field> fail() {
        bad_ = true;
        return std::nullopt;
    }
    std::optional<std::uint64_t> varint() {
        std::uint64_t value = 0;
        for (int shift = 0; shift < 64; shift += 7) {
            if (position_ >= bytes_.size()) return std::nullopt;
            const auto byte = static_cast<unsigned char>(bytes_[position_++]);
            value |= static_cast<std::uint64_t>(byte & 0x7f) << shift;
            if (!(byte & 0x80)) return value;
        }
        bad_ = true;
        return std::nullopt;
    }

    std::string_view bytes_;
    std::size_t position_ = 0;
    bool bad_ = false;
};

bool is_text(std::string_view text) {
    return std::ranges::none_of(text, [](char c) { return static_cast<unsigned char>(c) < 0x20 && c != '\n' && c != '\r' && c != '\t'; });
}

/// Wire types that a message may have per tag; 0xff: no such field.
template <std::size_t N>
bool fields_fit(std::string_view bytes, const std::array<std::uint8_t, N>& wires, std::uint64_t& seen) {
    FieldWalk walk(bytes);
    seen = 0;
    while (const auto field = walk.next()) {
        if (field->tag >= N || wires[field->tag] != field->wire) return false;
        seen |= std::uint64_t{1} << field->tag;
    }
    return !walk.bad();
}
bool has(std::uint64_t seen, unsigned tag) { return (seen >> tag & 1) != 0; }

constexpr std::uint8_t kNone = 0xff;

/// ModelProto of onnx.proto: ir_version 1, producer_name 2, …, graph 7, opset_import 8, metadata_props 14, training_info 20, functions 25,
/// configuration 26.
bool looks_like_onnx(std::string_view bytes) {
    static constexpr auto kWires = [] {
        std::array<std::uint8_t, 27> wires{};
        wires.fill(kNone);
        wires[1] = wires[5] = kVarint;
        for (const int tag : {2, 3, 4, 6, 7, 8, 14, 20, 25, 26}) wires[static_cast<std::size_t>(tag)] = kLength;
        return wires;
    }();
    std::uint64_t seen = 0;
    if (!fields_fit(bytes, kWires, seen)) return false;
    if (has(seen, 7)) return true;
    // A graph that is missing: only what else is telling makes it ONNX, so that it's refused as such.
    return has(seen, 1) && has(seen, 8);
}

/// SavedModel: saved_model_schema_version 1 (always 1), meta_graphs 2.
bool looks_like_saved_model(std::string_view bytes) {
    std::uint64_t seen = 0;
    return bytes.starts_with("\x08\x01"sv) && fields_fit(bytes, std::array<std::uint8_t, 3>{kNone, kVarint, kLength}, seen) && has(seen, 2);
}

/// GraphDef: node 1, library 2, version 3, versions 4; a NodeDef begins with name 1 and op 2.
bool looks_like_graph_def(std::string_view bytes) {
    std::uint64_t seen = 0;
    if (!fields_fit(bytes, std::array<std::uint8_t, 5>{kNone, kLength, kLength, kVarint, kLength}, seen) || !has(seen, 1)) return false;
    FieldWalk walk(bytes);
    while (const auto field = walk.next()) {
        if (field->tag != 1) continue;
        FieldWalk node(field->payload);
        const auto name = node.next();
        if (!name || name->tag != 1 || name->wire != kLength || name->payload.empty() || !is_text(name->payload)) return false;
        const auto op = node.next();
        return op ? op->tag == 2 && op->wire == kLength && is_text(op->payload) : !field->complete;
    }
    return false;
}

/// Paddle's ProgramDesc: blocks 1, version 4, op_version_map 5; a BlockDesc begins with idx 1 and parent_idx 2.
bool looks_like_paddle(std::string_view bytes) {
    std::uint64_t seen = 0;
    if (!fields_fit(bytes, std::array<std::uint8_t, 6>{kNone, kLength, kNone, kNone, kLength, kLength}, seen) || !has(seen, 1)) return false;
    FieldWalk walk(bytes);
    const auto block = walk.next();
    if (!block || block->tag != 1) return false;
    FieldWalk inner(block->payload);
    const auto index = inner.next();
    const auto parent = inner.next();
    return index && parent && index->tag == 1 && index->wire == kVarint && parent->tag == 2 && parent->wire == kVarint;
}

std::string_view without_bom_and_space(std::string_view text) {
    if (text.starts_with("\xef\xbb\xbf"sv)) text.remove_prefix(3);
    const std::size_t begin = text.find_first_not_of(" \t\r\n");
    return begin == std::string_view::npos ? std::string_view{} : text.substr(begin);
}

/// The root element of an XML document is <net …>.
bool is_ir(std::string_view text) {
    std::string_view rest = without_bom_and_space(text);
    while (rest.starts_with("<?") || rest.starts_with("<!")) {
        const std::string_view end = rest.starts_with("<!--") ? "-->"sv : ">"sv;
        const std::size_t at = rest.find(end);
        if (at == std::string_view::npos) return false;
        rest = without_bom_and_space(rest.substr(at + end.size()));
    }
    return rest.size() > 4 && rest.starts_with("<net") && " \t\r\n>"sv.find(rest[4]) != std::string_view::npos;
}

struct Magic {
    std::size_t offset;
    std::string_view bytes;
    Content content;
};
constexpr Magic kMagics[] = {
    {0, "GGUF"sv, Content::gguf},
    {4, "TFL3"sv, Content::tflite},
    {0, "\x89HDF\r\n\x1a\n"sv, Content::hdf5},
    {0, "PK\x03\x04"sv, Content::torch_zip},  // any zip file; locate() looks inside
    {0, "PK\x05\x06"sv, Content::archive},
    {0, "\x1f\x8b"sv, Content::archive},
    {0, "BZh"sv, Content::archive},
    {0,
     "\xfd"
     "7zXZ\0"sv,
     Content::archive},
    {0, "\x28\xb5\x2f\xfd"sv, Content::archive},
    {0, "7z\xbc\xaf\x27\x1c"sv, Content::archive},
    {0, "Rar!"sv, Content::archive},
    {257, "ustar"sv, Content::archive},
    {0, "\x89PNG"sv, Content::image_or_sound},
    {0, "\xff\xd8\xff"sv, Content::image_or_sound},
    {0, "GIF8"sv, Content::image_or_sound},
    {0, "RIFF"sv, Content::image_or_sound},
    {0, "%PDF"sv, Content::image_or_sound},
};

/// torch.save() up to 1.5: a pickled long with this value comes first.
constexpr std::string_view kTorchLegacyMagic = "\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19"sv;

}  // namespace

std::string_view describe(Content content) noexcept {
    switch (content) {
        case Content::onnx: return "an ONNX model";
        case Content::openvino_ir: return "an OpenVINO IR model";
        case Content::saved_model: return "a TensorFlow SavedModel";
        case Content::frozen_graph: return "a frozen TensorFlow graph";
        case Content::tflite: return "a TensorFlow Lite model";
        case Content::paddle_program: return "a PaddlePaddle program";
        case Content::torch_zip: return "a PyTorch zip archive";
        case Content::gguf: return "a GGUF model";
        case Content::empty: return "an empty file";
        case Content::hdf5: return "an HDF5 file (Keras weights or model)";
        case Content::pickle: return "a Python pickle";
        case Content::safetensors: return "a safetensors file (weights without a graph)";
        case Content::torch_legacy: return "a legacy torch.save() file (a pickle)";
        case Content::paddle_pir: return "a PaddlePaddle 3 program in JSON (PIR)";
        case Content::archive: return "an archive or compressed file";
        case Content::json: return "a JSON file";
        case Content::xml: return "an XML or HTML file that isn't OpenVINO IR";
        case Content::text: return "a text file";
        case Content::fragment: return "a file of a few bytes, too short for any model";
        case Content::image_or_sound: return "an image, sound or document";
        case Content::unknown: break;
    }
    return "an unknown binary file";
}

Content recognise(std::string_view prefix, std::uint64_t size_bytes) {
    if (size_bytes == 0 || prefix.empty()) return Content::empty;
    for (const Magic& magic : kMagics) {
        if (prefix.size() >= magic.offset && prefix.substr(magic.offset).starts_with(magic.bytes)) return magic.content;
    }
    // Pickle protocol 2 and later begins with PROTO and ends with STOP.
    if (prefix.size() > 2 && prefix[0] == '\x80' && prefix[1] >= 2 && prefix[1] <= 5) {
        return prefix.substr(2).starts_with(kTorchLegacyMagic) ? Content::torch_legacy : Content::pickle;
    }
    // safetensors: the length of a JSON header, then the header.
    if (prefix.size() > 9 && prefix[8] == '{' && prefix.substr(4, 4) == "\0\0\0\0"sv) return Content::safetensors;
    const std::string_view text = without_bom_and_space(prefix);
    if (text.starts_with('<')) return is_ir(prefix) ? Content::openvino_ir : Content::xml;
    if (text.starts_with('{') || text.starts_with('[')) {
        if (text.substr(0, 4096).find("\"base_code\"") != std::string_view::npos && text.substr(0, 4096).find("\"pir\"") != std::string_view::npos) {
            return Content::paddle_pir;
        }
        if (is_text(text)) return Content::json;
    }
    constexpr std::uint64_t kFewBytes = 8;  // "TFL3" cut off, say; tiny protobuf messages are told apart below
    if (is_text(prefix))
        return size_bytes < kFewBytes ? Content::fragment : Content::text;  // a protobuf message has control characters among its first bytes
    if (looks_like_saved_model(prefix)) return Content::saved_model;
    if (looks_like_paddle(prefix)) return Content::paddle_program;
    if (looks_like_graph_def(prefix)) return Content::frozen_graph;
    if (looks_like_onnx(prefix)) return Content::onnx;
    return Content::unknown;
}

}  // namespace ai_vmm::graph
