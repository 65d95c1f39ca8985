// SPDX-License-Identifier: Apache-2.0
// Field numbers are those of onnx.proto (IR version 13).
#include "graph/formats/onnx_file.hpp"

#include <sys/mman.h>

#include <algorithm>
#include <charconv>
#include <map>
#include <new>
#include <optional>
#include <protozero/pbf_writer.hpp>
#include <set>
#include <span>
#include <string_view>
#include <system_error>
#include <unordered_map>
#include <vector>

#include "base/file.hpp"
#include "base/protobuf.hpp"
#include "graph/bytes.hpp"
#include "graph/formats/onnx_tensor.hpp"

namespace ai_vmm::graph {
namespace {

using base::ProtobufReader;

constexpr int kMaxDepth = 64;  // of graphs within graphs; engines refuse deeper ones too
constexpr std::size_t kMaxRank = 1024;

class Parser {
public:
    explicit Parser(OnnxFile& file) : file_(file) {}

    void model(ProtobufReader message) {
        bool has_graph = false;
        while (message.next()) {
            switch (message.tag()) {
                case 7:
                    has_graph = true;
                    graph(message.get_message(), 0);
                    break;
                case 25: function(message.get_message()); break;
                default: message.skip();
            }
        }
        if (!has_graph) throw malformed("the ONNX file has no graph", "a ModelProto with a graph", {}, "get the file again");
        const auto narrow = [](const TensorInfo& port) { return port.type == ElementType::f8e4m3 || port.type == ElementType::f8e5m2; };
        if (saturating_cast_like_ && (std::ranges::any_of(file_.inputs, narrow) || std::ranges::any_of(file_.outputs, narrow))) {
            misread("saturation of CastLike to 8-bit floats");
        }
    }

private:
    void function(ProtobufReader message) {
        std::vector<Edges> nodes;
        while (message.next()) {
            if (message.tag() == 7) {
                nodes.push_back(node(message.get_message(), 0));
            } else {
                message.skip();
            }
        }
        refuse_cycles(nodes);
    }

    void graph(ProtobufReader message, int depth) {
        if (depth > kMaxDepth) throw malformed("the ONNX model nests its graphs too deeply", "at most " + std::to_string(kMaxDepth) + " levels");
        const bool main = depth == 0;
        std::set<std::string, std::less<>> initializers;
        std::vector<Edges> nodes;
        while (message.next()) {
            switch (message.tag()) {
                case 1: nodes.push_back(node(message.get_message(), depth)); break;
                case 5: {
                    std::string name = tensor(message.get_message());
                    if (main) initializers.insert(std::move(name));
                    break;
                }
                case 11:
                case 12:
                    if (main) {
                        (message.tag() == 11 ? file_.inputs : file_.outputs).push_back(value_info(message.get_message()));
                    } else {
                        message.skip();
                    }
                    break;
                case 15: {
                    std::string name = sparse_tensor(message.get_message());
                    if (main) initializers.insert(std::move(name));
                    break;
                }
                default: message.skip();
            }
        }
        refuse_cycles(nodes);
        if (main) {
            for (TensorInfo& input : file_.inputs) input.optional = initializers.contains(input.name);
        }
    }

    /// What a node reads and writes, into the file's bytes.
    struct Edges {
        std::vector<std::string_view> inputs, outputs;
    };

    /// Of an attribute that has one.
    struct Scalar {
        std::int64_t integer = 0;
        std::string_view text;
    };

    Edges node(ProtobufReader message, int depth) {
        Edges edges;
        std::string_view type, domain;
        std::map<std::string_view, Scalar> attributes;
        while (message.next()) {
            switch (message.tag()) {
                case 1: edges.inputs.push_back(message.get_view()); break;
                case 2: edges.outputs.push_back(message.get_view()); break;
                case 4: type = message.get_view(); break;
                case 5: {
                    attributes.insert(attribute(message.get_message(), depth));
                    break;
                }
                case 7: domain = message.get_view(); break;
                default: message.skip();
            }
        }
        if (domain.empty() || domain == "ai.onnx") note_misread(type, attributes);
        return edges;
    }

    /// As OpenVINO 2026.4 reads them, by the ONNX node tests.
    void note_misread(std::string_view type, const std::map<std::string_view, Scalar>& attributes) {
        const auto integer = [&](std::string_view name, std::int64_t otherwise) {
            const auto found = attributes.find(name);
            return found == attributes.end() ? otherwise : found->second.integer;
        };
        if (type == "Resize") {
            if (integer("antialias", 0) != 0) misread("antialias of Resize");
            const auto policy = attributes.find("keep_aspect_ratio_policy");
            if (policy != attributes.end() && policy->second.text != "stretch") misread("keep_aspect_ratio_policy of Resize");
        }
        const bool narrow = type == "Cast" && (onnx_element_type(integer("to", 0)) == ElementType::f8e4m3 ||
                                               onnx_element_type(integer("to", 0)) == ElementType::f8e5m2);
        if (narrow && integer("saturate", 1) != 0) misread("saturation of Cast to 8-bit floats");
        // What CastLike casts to shows at the model's ports alone.
        if (type == "CastLike" && integer("saturate", 1) != 0) saturating_cast_like_ = true;
    }

    void misread(std::string what) {
        if (std::ranges::find(file_.misread, what) == file_.misread.end()) file_.misread.push_back(std::move(what));
    }

    /// Engines order a graph's nodes themselves, and some never come to an end where a value depends on itself.
    static void refuse_cycles(const std::vector<Edges>& nodes) {
        std::unordered_map<std::string_view, std::size_t> producers;
        for (std::size_t n = 0; n < nodes.size(); ++n) {
            for (std::string_view output : nodes[n].outputs) {
                if (!output.empty()) producers.emplace(output, n);
            }
        }
        std::vector<std::vector<std::size_t>> readers(nodes.size());
        std::vector<std::size_t> waits(nodes.size(), 0), ready;
        for (std::size_t n = 0; n < nodes.size(); ++n) {
            for (std::string_view input : nodes[n].inputs) {
                const auto producer = producers.find(input);
                if (producer == producers.end()) continue;
                readers[producer->second].push_back(n);
                ++waits[n];
            }
            if (waits[n] == 0) ready.push_back(n);
        }
        std::size_t done = 0;
        for (; !ready.empty(); ++done) {
            const std::size_t n = ready.back();
            ready.pop_back();
            for (std::size_t reader : readers[n]) {
                if (--waits[reader] == 0) ready.push_back(reader);
            }
        }
        if (done == nodes.size()) return;
        for (std::size_t n = 0; n < nodes.size(); ++n) {
            if (waits[n] == 0) continue;
            const std::string value(nodes[n].outputs.empty() ? std::string_view() : nodes[n].outputs.front());
            throw malformed("the ONNX graph has a cycle", "nodes that can be put in order", "'" + printable(value) + "' depends on itself",
                            "export the model again");
        }
    }

    /// @returns its name, and its value if it is an integer or a text
    std::pair<std::string_view, Scalar> attribute(ProtobufReader message, int depth) {
        std::pair<std::string_view, Scalar> result;
        while (message.next()) {
            switch (message.tag()) {
                case 1: result.first = message.get_view(); break;
                case 3: result.second.integer = message.get_int64(); break;
                case 4: result.second.text = message.get_view(); break;
                case 5:
                case 10: tensor(message.get_message()); break;
                case 6:
                case 11: graph(message.get_message(), depth + 1); break;
                case 22:
                case 23: sparse_tensor(message.get_message()); break;
                default: message.skip();
            }
        }
        return result;
    }

    std::string sparse_tensor(ProtobufReader message) {
        std::string name;
        while (message.next()) {
            switch (message.tag()) {
                case 1: name = tensor(message.get_message()); break;
                case 2: tensor(message.get_message()); break;
                default: message.skip();
            }
        }
        return name;
    }

    std::string tensor(ProtobufReader message) {
        std::string name;
        OnnxExternalTensor external;
        OnnxTensorContent content;
        bool is_external = false;
        while (message.next()) {
            switch (message.tag()) {
                case 8: name = message.get_string(); break;
                case 13: external_entry(message.get_message(), external); break;
                case 14: is_external = message.get_enum() == 1; break;
                default:
                    if (!content.take(message)) message.skip();
            }
        }
        if (!is_external && external.location.empty()) {
            content.check(name);
            return name;
        }
        content.check_shape(name);
        external.tensor = name;
        external.needed = content.size_bytes();
        if (external.location.empty()) throw malformed("tensor '" + printable(name) + "' has external data without a location");
        // By such a location engines are told that the offset is an address, in a model that a program hands them: a file must not have them read the
        // memory of this process, whatever file of that name lies beside it.
        if (external.location.find("_MEM_ADDR_") != std::string::npos) {
            throw malformed("tensor '" + printable(name) + "' is said to lie at an address in memory", "external data in a file beside the model",
                            "'" + printable(external.location) + "'", "save the model with its data in files");
        }
        if (external.length >= 0 && external.length < external.needed) {
            throw malformed("the external data of tensor '" + printable(name) + "' is shorter than its shape needs",
                            std::to_string(external.needed) + " bytes", std::to_string(external.length) + " bytes",
                            "get the file again, or export the model again");
        }
        file_.external.push_back(std::move(external));
        return name;
    }

    static void external_entry(ProtobufReader message, OnnxExternalTensor& external) {
        std::string key, value;
        while (message.next()) {
            switch (message.tag()) {
                case 1: key = message.get_string(); break;
                case 2: value = message.get_string(); break;
                default: message.skip();
            }
        }
        const auto number = [&](std::int64_t& out) {
            const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), out);
            if (error != std::errc{} || end != value.data() + value.size() || out < 0) {
                throw malformed("external data of the ONNX model has a bad " + key, "a number of bytes", "'" + printable(value) + "'");
            }
        };
        if (key == "location") external.location = std::move(value);
        if (key == "offset") number(external.offset);
        if (key == "length") number(external.length);
    }

    TensorInfo value_info(ProtobufReader message) {
        TensorInfo info{.name = {}, .type = ElementType::undefined, .shape = {}, .rank_known = false, .optional = false};
        std::string odd;
        while (message.next()) {
            switch (message.tag()) {
                case 1: info.name = message.get_string(); break;
                case 2: type(message.get_message(), info, odd); break;
                default: message.skip();
            }
        }
        if (!odd.empty()) file_.unsupported.push_back("'" + printable(info.name) + "' is " + odd);
        return info;
    }

    static void type(ProtobufReader message, TensorInfo& info, std::string& odd) {
        while (message.next()) {
            switch (message.tag()) {
                case 1: tensor_type(message.get_message(), info); break;
                case 4: odd = "a sequence", message.skip(); break;
                case 5: odd = "a map", message.skip(); break;
                case 8: odd = "a sparse tensor", message.skip(); break;
                case 9: odd = "an optional", message.skip(); break;
                case 7: odd = "opaque", message.skip(); break;
                default: message.skip();
            }
        }
    }

    static void tensor_type(ProtobufReader message, TensorInfo& info) {
        while (message.next()) {
            switch (message.tag()) {
                case 1: info.type = onnx_element_type(message.get_enum()); break;
                case 2: shape(message.get_message(), info); break;
                default: message.skip();
            }
        }
    }

    static void shape(ProtobufReader message, TensorInfo& info) {
        info.rank_known = true;
        info.shape.clear();
        while (message.next()) {
            if (message.tag() != 1) {
                message.skip();
                continue;
            }
            std::int64_t size = -1;
            ProtobufReader dimension = message.get_message();
            while (dimension.next()) {
                switch (dimension.tag()) {
                    case 1: size = std::max<std::int64_t>(dimension.get_int64(), -1); break;
                    case 2: size = -1, dimension.skip(); break;
                    default: dimension.skip();
                }
            }
            info.shape.push_back(size);
            if (info.shape.size() > kMaxRank) throw malformed("'" + printable(info.name) + "' has too many dimensions");
        }
    }

    OnnxFile& file_;
    bool saturating_cast_like_ = false;
};

bool is_inside(const std::filesystem::path& path, const std::filesystem::path& folder) {
    const auto [rest, unused] = std::mismatch(folder.begin(), folder.end(), path.begin(), path.end());
    return rest == folder.end();
}

}  // namespace

OnnxFile parse_onnx(std::string_view bytes) {
    OnnxFile file;
    try {
        Parser(file).model(ProtobufReader(bytes));
    } catch (const protozero::end_of_buffer_exception&) {
        throw malformed("the ONNX file is truncated or damaged", "a whole protobuf message",
                        "an end after " + std::to_string(bytes.size()) + " bytes", "get the file again");
    } catch (const protozero::exception& error) {
        throw malformed("the ONNX file is damaged", "a protobuf message", error.what(), "get the file again");
    }
    return file;
}

namespace {

/// A file's bytes at their places in memory, read as they are wanted; what nobody wants stays zero and takes no memory.
class SparseFile {
public:
    explicit SparseFile(const std::filesystem::path& path) : file_(path, kProtobufLimitBytes), size_(file_.size()) {
        if (size_ == 0) return;
        void* const memory = ::mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (memory == MAP_FAILED) throw std::bad_alloc();
        bytes_ = static_cast<char*>(memory);
        read_.resize((size_ + kBlock - 1) / kBlock);
    }
    ~SparseFile() {
        if (bytes_ != nullptr) ::munmap(bytes_, size_);
    }
    SparseFile(const SparseFile&) = delete;
    SparseFile& operator=(const SparseFile&) = delete;
    [[nodiscard]] std::size_t size() const noexcept { return size_; }
    [[nodiscard]] std::string_view all() const noexcept { return {bytes_, size_}; }

    /// Reads [begin, end), as far as it lies in the file.
    void want(std::size_t begin, std::size_t end) {
        end = std::min(end, size_);
        for (std::size_t block = begin / kBlock; begin < end && block <= (end - 1) / kBlock; ++block) {
            if (read_[block]) continue;
            const std::size_t at = block * kBlock;
            file_.read(at, std::as_writable_bytes(std::span(bytes_ + at, std::min(kBlock, size_ - at))));
            read_[block] = true;
        }
    }

private:
    static constexpr std::size_t kBlock = std::size_t{16} << 10;
    const base::RandomAccessFile file_;
    const std::size_t size_;
    char* bytes_ = nullptr;
    std::vector<bool> read_;
};

/// Goes through messages of a SparseFile without reading all of them.
class Fields {
protected:
    struct Field {
        protozero::pbf_tag_type tag = 0;
        bool delimited = false;          ///< a message, string or array: its content is not read yet
        std::size_t from = 0;            ///< where its key is
        std::size_t begin = 0, end = 0;  ///< of the content
    };
    static constexpr std::size_t kSmall = std::size_t{64} << 10;

    explicit Fields(SparseFile& file) : file_(file) {}

    /// Calls `visit` with each field of the message at [begin, end). @throws protozero::exception  it is none
    template <typename Visit>
    void each_field(std::size_t begin, std::size_t end, const Visit& visit) {
        constexpr std::size_t kMostHead = 20;  // a key and a length, or a key and a number
        for (std::size_t at = begin; at < end;) {
            file_.want(at, std::min(end, at + kMostHead));
            const char* const start = file_.all().data();
            const char* position = start + at;
            const char* const limit = start + end;
            const std::uint64_t key = protozero::decode_varint(&position, limit);
            Field field{.tag = static_cast<protozero::pbf_tag_type>(key >> 3), .delimited = (key & 7) == 2, .from = at};
            std::uint64_t length = 0;
            switch (key & 7) {
                case 0: (void)protozero::decode_varint(&position, limit); break;
                case 1: length = 8; break;
                case 2: length = protozero::decode_varint(&position, limit); break;
                case 5: length = 4; break;
                default: throw protozero::unknown_pbf_wire_type_exception{};
            }
            field.begin = static_cast<std::size_t>(position - start);
            if (length > end - field.begin) throw protozero::end_of_buffer_exception{};
            field.end = at = field.begin + static_cast<std::size_t>(length);
            visit(field);
        }
    }

    SparseFile& file_;
};

/// Makes a SparseFile hold all of an ONNX model but the contents of large tensors. It follows the messages only as far as they are as the schema has
/// them; whatever else there is, parse_onnx() finds.
class Skimmer : Fields {
public:
    explicit Skimmer(SparseFile& file) : Fields(file) {}
    void model() {
        each_content(0, file_.size(), [this](const Field& field) {
            if (field.tag == 7) return graph(field.begin, field.end, 0);
            file_.want(field.begin, field.end);
        });
    }

private:
    /// Calls `visit` with each length-delimited field of the message at [begin, end); the others are read. Reads all of it if it is no message.
    template <typename Visit>
    void each_content(std::size_t begin, std::size_t end, const Visit& visit) {
        try {
            each_field(begin, end, [&](const Field& field) {
                if (field.delimited) visit(field);
            });
        } catch (const protozero::exception&) {
            file_.want(begin, end);
        }
    }

    void graph(std::size_t begin, std::size_t end, int depth) {
        if (depth > kMaxDepth) return file_.want(begin, end);
        each_content(begin, end, [&](const Field& field) {
            switch (field.tag) {
                case 1: return node(field.begin, field.end, depth);
                case 5: return tensor(field.begin, field.end);
                default: file_.want(field.begin, field.end);
            }
        });
    }

    void node(std::size_t begin, std::size_t end, int depth) {
        if (end - begin <= kSmall) return file_.want(begin, end);
        each_content(begin, end, [&](const Field& field) {
            if (field.tag != 5) return file_.want(field.begin, field.end);
            each_content(field.begin, field.end, [&](const Field& part) {  // of an attribute
                switch (part.tag) {
                    case 5:
                    case 10: return tensor(part.begin, part.end);
                    case 6:
                    case 11: return graph(part.begin, part.end, depth + 1);
                    default: file_.want(part.begin, part.end);
                }
            });
        });
    }

    void tensor(std::size_t begin, std::size_t end) {
        if (end - begin <= kSmall) return file_.want(begin, end);
        each_content(begin, end, [&](const Field& field) {
            const bool values = (field.tag >= 4 && field.tag <= 7) || (field.tag >= 9 && field.tag <= 11);
            if (!values) file_.want(field.begin, field.end);
        });
    }
};

/// Writes the skeleton of an ONNX file: every field as it is, but the raw data of large initialisers.
class Outliner : Fields {
public:
    Outliner(SparseFile& file, std::string location) : Fields(file), location_(std::move(location)) {}

    /// Whether there may be something to leave out, which little of the file tells. @throws protozero::exception  no message, as far as it is looked
    /// into
    [[nodiscard]] bool any() {
        bool found = false;
        each_field(0, file_.size(), [&](const Field& field) {
            if (field.tag != kGraph || !field.delimited) return;
            each_field(field.begin, field.end, [&](const Field& part) {
                if (found || part.tag != kInitializer || !is_large(part)) return;
                each_field(part.begin, part.end, [&](const Field& value) { found = found || (value.tag == kRaw && is_large(value)); });
            });
        });
        return found;
    }
    /// @throws protozero::exception  no message, as far as it is looked into
    [[nodiscard]] std::string model() {
        std::string out;
        each_field(0, file_.size(), [&](const Field& field) {
            if (field.tag != kGraph || !field.delimited) return copy(field, out);
            std::string graph;
            each_field(field.begin, field.end, [&](const Field& part) {
                if (part.tag != kInitializer || !outline(part, graph)) copy(part, graph);
            });
            protozero::pbf_writer(out).add_message(kGraph, graph);
        });
        return out;
    }
    [[nodiscard]] bool found() const noexcept { return found_; }

private:
    static bool is_large(const Field& field) { return field.delimited && field.end - field.begin > kSmall; }

    static constexpr protozero::pbf_tag_type kGraph = 7, kInitializer = 5;              // ModelProto, GraphProto
    static constexpr protozero::pbf_tag_type kRaw = 9, kExternal = 13, kLocation = 14;  // TensorProto

    void copy(const Field& field, std::string& out) {
        file_.want(field.from, field.end);
        out.append(file_.all().substr(field.from, field.end - field.from));
    }

    /// Writes an initialiser without its raw data. @returns false, and writes nothing, where it must stay as it is
    bool outline(const Field& initializer, std::string& out) {
        if (!is_large(initializer)) return false;
        std::string tensor;
        std::optional<Field> raw;
        OnnxTensorContent content;
        bool plain = true;
        each_field(initializer.begin, initializer.end, [&](const Field& field) {
            if (field.tag == kRaw && field.delimited) {
                plain = plain && !raw;
                raw = field;
                return;
            }
            const bool values = field.tag >= 4 && field.tag <= 11 && field.tag != 8;
            plain = plain && !values && field.tag != 3 && field.tag != kExternal && field.tag != kLocation;
            if (!plain) return;
            copy(field, tensor);
            ProtobufReader one(file_.all().substr(field.from, field.end - field.from));
            if (one.next() && !content.take(one)) one.skip();
        });
        if (!plain || !raw || !is_large(*raw)) return false;
        if (content.size_bytes() != static_cast<std::int64_t>(raw->end - raw->begin)) return false;
        protozero::pbf_writer writer(tensor);
        const auto entry = [&](const char* key, const std::string& value) {
            protozero::pbf_writer one(writer, kExternal);
            one.add_string(1, key);
            one.add_string(2, value);
        };
        entry("location", location_);
        entry("offset", std::to_string(raw->begin));
        entry("length", std::to_string(raw->end - raw->begin));
        writer.add_enum(kLocation, 1);
        protozero::pbf_writer(out).add_message(kInitializer, tensor);
        return found_ = true;
    }

    const std::string location_;
    bool found_ = false;
};

}  // namespace

OnnxSkeleton onnx_skeleton(const std::filesystem::path& path) {
    const std::string name = path.filename().string();
    if (is_utf8(name)) {  // protobuf's strings are
        SparseFile file(path);
        Outliner outliner(file, name);
        try {
            if (outliner.any()) {
                std::string bytes = outliner.model();
                if (outliner.found()) return {std::move(bytes), false};
            }
        } catch (const protozero::exception&) {
            // Whoever reads all of it says what is wrong.
        }
    }
    return {base::read_file(path, kProtobufLimitBytes), true};
}

OnnxFile skim_onnx(const std::filesystem::path& path) {
    SparseFile file(path);
    Skimmer(file).model();
    return parse_onnx(file.all());
}

std::vector<std::pair<std::string, std::filesystem::path>> external_files(const OnnxFile& file, const std::filesystem::path& folder) {
    std::map<std::string, std::pair<std::filesystem::path, std::int64_t>> found;
    if (file.external.empty()) return {};
    std::error_code error;
    const std::filesystem::path root = std::filesystem::canonical(folder.empty() ? "." : folder, error);
    if (error) throw base::system_error(error.value(), "can't resolve", folder);
    for (const OnnxExternalTensor& tensor : file.external) {
        const std::string subject = "external data of tensor '" + printable(tensor.tensor) + "'";
        auto at = found.find(tensor.location);
        if (at == found.end()) {
            const auto outside = [&](const std::string& why) {
                return malformed(subject + " lies outside the model's folder", "a relative path inside the folder of the model",
                                 "'" + printable(tensor.location) + "'" + why,
                                 "put the data file beside the model and save the model with its plain name");
            };
            const std::filesystem::path relative(tensor.location);
            if (tensor.location.find('\0') != std::string::npos) throw malformed(subject + " has a location with a null character");
            if (relative.is_absolute()) throw outside("");
            if (!is_inside((root / relative).lexically_normal(), root)) throw outside("");
            const std::filesystem::path path = std::filesystem::canonical(root / relative, error);
            if (error == std::errc::no_such_file_or_directory || error == std::errc::not_a_directory) {
                throw Error(ErrorCode::not_found, ErrorCategory::input, subject + " is missing",
                            {.expected = "the file " + (root / relative).string(), .found = {}, .advice = "put that file beside the model"});
            }
            if (error) throw base::system_error(error.value(), "can't resolve", root / relative);
            if (!is_inside(path, root)) throw outside(", a link to " + path.string());
            if (!std::filesystem::is_regular_file(path, error)) throw malformed(subject + " isn't a regular file", "a file", path.string());
            const std::uintmax_t size = std::filesystem::file_size(path, error);
            if (error) throw base::system_error(error.value(), "can't inspect", path);
            at = found.emplace(tensor.location, std::pair{root / relative, static_cast<std::int64_t>(size)}).first;
        }
        const std::int64_t size = at->second.second;
        const std::int64_t needed = std::max<std::int64_t>({tensor.length, tensor.needed, 0});
        if (tensor.offset > size || needed > size - tensor.offset) {
            throw Error(ErrorCode::data_loss, ErrorCategory::input, subject + " lies beyond the end of its file",
                        {.expected = "at least " + std::to_string(static_cast<std::uint64_t>(tensor.offset) + static_cast<std::uint64_t>(needed)) +
                                     " bytes in " + at->second.first.string(),
                         .found = std::to_string(size) + " bytes",
                         .advice = "get the data file again"});
        }
    }
    std::vector<std::pair<std::string, std::filesystem::path>> files;
    for (auto& [location, entry] : found) files.emplace_back(location, entry.first);
    return files;
}

}  // namespace ai_vmm::graph
