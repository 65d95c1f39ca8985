// SPDX-License-Identifier: Apache-2.0
// Field numbers are those of saved_model.proto, meta_graph.proto, graph.proto, node_def.proto, attr_value.proto and tensor_shape.proto.
#include "graph/formats/tensorflow_file.hpp"

#include <algorithm>
#include <map>
#include <set>

#include "base/protobuf.hpp"
#include "graph/bytes.hpp"

namespace ai_vmm::graph {
namespace {

using base::ProtobufReader;

constexpr std::size_t kMaxRank = 1024;

ElementType element_type(std::int32_t type) {
    switch (type % 100) {  // a reference type is its base plus 100
        case 1: return ElementType::f32;
        case 2: return ElementType::f64;
        case 3: return ElementType::i32;
        case 4: return ElementType::u8;
        case 5: return ElementType::i16;
        case 6: return ElementType::i8;
        case 7: return ElementType::string;
        case 8: return ElementType::complex64;
        case 9: return ElementType::i64;
        case 10: return ElementType::boolean;
        case 14: return ElementType::bf16;
        case 17: return ElementType::u16;
        case 18: return ElementType::complex128;
        case 19: return ElementType::f16;
        case 22: return ElementType::u32;
        case 23: return ElementType::u64;
        default: return ElementType::undefined;
    }
}

void read_shape(ProtobufReader message, TensorInfo& info) {
    info.rank_known = true;
    info.shape.clear();
    while (message.next()) {
        switch (message.tag()) {
            case 2: {
                std::int64_t size = 0;
                ProtobufReader dimension = message.get_message();
                while (dimension.next()) {
                    if (dimension.tag() == 1) {
                        size = std::max<std::int64_t>(dimension.get_int64(), -1);
                    } else {
                        dimension.skip();
                    }
                }
                info.shape.push_back(size);
                if (info.shape.size() > kMaxRank) throw malformed("'" + printable(info.name) + "' has too many dimensions");
                break;
            }
            case 3: info.rank_known = !message.get_bool(); break;
            default: message.skip();
        }
    }
    if (!info.rank_known) info.shape.clear();
}

TensorInfo unknown_tensor(std::string name) {
    return {.name = std::move(name), .type = ElementType::undefined, .shape = {}, .rank_known = false, .optional = false};
}

struct Signature {
    std::map<std::string, TensorInfo> inputs;  // sorted by key
    std::map<std::string, TensorInfo> outputs;
};

/// An entry of map<string, TensorInfo>.
void read_signature_entry(ProtobufReader message, std::map<std::string, TensorInfo>& ports) {
    std::string key;
    TensorInfo info = unknown_tensor({});
    while (message.next()) {
        switch (message.tag()) {
            case 1: key = message.get_string(); break;
            case 2: {
                ProtobufReader tensor = message.get_message();
                while (tensor.next()) {
                    switch (tensor.tag()) {
                        case 2: info.type = element_type(tensor.get_enum()); break;
                        case 3: read_shape(tensor.get_message(), info); break;
                        default: tensor.skip();
                    }
                }
                break;
            }
            default: message.skip();
        }
    }
    info.name = key;
    ports[key] = std::move(info);
}

Signature read_signature(ProtobufReader message) {
    Signature signature;
    while (message.next()) {
        switch (message.tag()) {
            case 1: read_signature_entry(message.get_message(), signature.inputs); break;
            case 2: read_signature_entry(message.get_message(), signature.outputs); break;
            default: message.skip();
        }
    }
    return signature;
}

struct Node {
    std::string name;
    std::string op;
    std::vector<std::string> inputs;
    TensorInfo info;  ///< from the attributes dtype and shape
};

/// Which fields of a message are texts, and which are messages, to the depth that matters.
struct Schema {
    struct Field {
        std::uint32_t tag;
        const Schema* message;  ///< null: a text
    };
    std::vector<Field> fields;
};

/// The vendor's parser refuses a message that is cut off or has a text that isn't UTF-8, and prints: look first.
void check(ProtobufReader message, const Schema& schema, int depth = 0) {
    if (depth > 90) throw malformed("the TensorFlow graph is nested too deeply", "at most 90 levels");
    while (message.next()) {
        const auto field = std::ranges::find(schema.fields, message.tag(), &Schema::Field::tag);
        if (field == schema.fields.end() || message.wire_type() != protozero::pbf_wire_type::length_delimited) {
            message.skip();
        } else if (field->message) {
            check(message.get_message(), *field->message, depth + 1);
        } else if (const auto text = message.get_view(); !is_utf8(text)) {
            throw malformed("the TensorFlow graph is damaged", "names in UTF-8", "'" + printable(text, 40) + "'", "get the file again");
        }
    }
}

/// graph.proto with what it includes.
const Schema& graph_schema() {
    static const Schema kDimension{{{2, nullptr}}};
    static const Schema kShape{{{2, &kDimension}}};
    static const Schema kHandle{{{1, nullptr}, {2, nullptr}, {3, nullptr}, {5, nullptr}}};
    static const Schema kVariant{{{1, nullptr}}};
    static const Schema kTensor{{{2, &kShape}, {14, &kHandle}, {15, &kVariant}}};
    static Schema value, name_list, value_entry;
    static const Schema kList{{{7, &kShape}, {8, &kTensor}, {9, &name_list}}};
    static const Schema kDebug{{{1, nullptr}, {2, nullptr}}};
    static const Schema kNode{{{1, nullptr}, {2, nullptr}, {3, nullptr}, {4, nullptr}, {5, &value_entry}, {6, &kDebug}}};
    static const Schema kArgument{{{1, nullptr}, {2, nullptr}, {4, nullptr}, {5, nullptr}, {6, nullptr}}};
    static const Schema kDefinitionAttribute{{{1, nullptr}, {2, nullptr}, {3, &value}, {4, nullptr}, {7, &value}}};
    static const Schema kSignature{
        {{1, nullptr}, {2, &kArgument}, {3, &kArgument}, {4, &kDefinitionAttribute}, {5, nullptr}, {6, nullptr}, {20, nullptr}}};
    static const Schema kPair{{{1, nullptr}, {2, nullptr}}};
    static const Schema kFunction{{{1, &kSignature}, {3, &kNode}, {4, &kPair}, {5, &value_entry}, {6, &kPair}}};
    static const Schema kGradient{{{1, nullptr}, {2, nullptr}}};
    static const Schema kLibrary{{{1, &kFunction}, {2, &kGradient}}};
    static const Schema kVersions{{}};
    static const Schema kGraph = [] {
        value.fields = {{1, &kList}, {7, &kShape}, {8, &kTensor}, {9, nullptr}, {10, &name_list}};
        value_entry.fields = {{1, nullptr}, {2, &value}};
        name_list.fields = {{1, nullptr}, {2, &value_entry}};
        return Schema{{{1, &kNode}, {2, &kLibrary}, {4, &kVersions}}};
    }();
    return kGraph;
}

Node read_node(ProtobufReader message) {
    Node node;
    node.info = unknown_tensor({});
    while (message.next()) {
        switch (message.tag()) {
            case 1: node.name = message.get_string(); break;
            case 2: node.op = message.get_string(); break;
            case 3: node.inputs.push_back(message.get_string()); break;
            case 5: {
                ProtobufReader entry = message.get_message();
                std::string key;
                while (entry.next()) {
                    if (entry.tag() == 1) {
                        key = entry.get_string();
                    } else if (entry.tag() == 2 && (key == "dtype" || key == "shape")) {
                        ProtobufReader value = entry.get_message();
                        while (value.next()) {
                            switch (value.tag()) {
                                case 6: node.info.type = element_type(value.get_enum()); break;
                                case 7: read_shape(value.get_message(), node.info); break;
                                default: value.skip();
                            }
                        }
                    } else {
                        entry.skip();
                    }
                }
                break;
            }
            default: message.skip();
        }
    }
    node.info.name = node.name;
    return node;
}

/// Runs `parse`, whose protozero exceptions become ours.
template <typename Parse>
auto guarded(std::string_view what, Parse parse) {
    try {
        return parse();
    } catch (const protozero::exception& error) {
        throw malformed("the " + std::string(what) + " is truncated or damaged", "a whole protobuf message", error.what(), "get the file again");
    }
}

/// Nodes whose result nobody wants.
bool is_result(const Node& node) {
    static const std::set<std::string, std::less<>> kNoResults = {"Const", "NoOp", "Assert", "Placeholder", "PlaceholderWithDefault", "Print"};
    return !kNoResults.contains(node.op);
}

}  // namespace

TensorflowFile parse_saved_model(std::string_view bytes) {
    return guarded("TensorFlow SavedModel", [&] {
        std::map<std::string, Signature> signatures;
        bool has_graph = false;
        ProtobufReader model(bytes);
        while (model.next()) {
            if (model.tag() != 2) {
                model.skip();
                continue;
            }
            ProtobufReader meta = model.get_message();
            while (meta.next()) {
                switch (meta.tag()) {
                    case 2:
                        has_graph = true;
                        check(meta.get_message(), graph_schema());
                        break;
                    case 5: {
                        ProtobufReader entry = meta.get_message();
                        std::string key;
                        while (entry.next()) {
                            switch (entry.tag()) {
                                case 1: key = entry.get_string(); break;
                                case 2: signatures[key] = read_signature(entry.get_message()); break;
                                default: entry.skip();
                            }
                        }
                        break;
                    }
                    default: meta.skip();
                }
            }
        }
        if (!has_graph) throw malformed("the TensorFlow SavedModel has no graph", "a meta graph", {}, "export the model again");
        TensorflowFile file;
        signatures.erase("__saved_model_init_op");
        auto chosen = signatures.find("serving_default");
        if (chosen == signatures.end() && signatures.size() == 1) chosen = signatures.begin();
        if (chosen != signatures.end()) {
            for (auto& [key, info] : chosen->second.inputs) file.inputs.push_back(std::move(info));
            for (auto& [key, info] : chosen->second.outputs) file.outputs.push_back(std::move(info));
        }
        return file;
    });
}

TensorflowFile parse_graph_def(std::string_view bytes) {
    return guarded("frozen TensorFlow graph", [&] {
        check(ProtobufReader(bytes), graph_schema());
        std::vector<Node> nodes;
        std::set<std::string, std::less<>> consumed;
        ProtobufReader graph(bytes);
        while (graph.next()) {
            if (graph.tag() != 1) {
                graph.skip();
                continue;
            }
            nodes.push_back(read_node(graph.get_message()));
            for (const std::string& input : nodes.back().inputs) {
                // "node", "node:1", or "^node" for a control dependency.
                std::string_view name = input;
                if (name.starts_with('^')) name.remove_prefix(1);
                consumed.emplace(name.substr(0, name.find(':')));
            }
        }
        if (nodes.empty()) throw malformed("the frozen TensorFlow graph has no nodes");
        TensorflowFile file;
        for (const Node& node : nodes) {
            if (node.op == "Placeholder" || node.op == "PlaceholderWithDefault") {
                file.inputs.push_back(node.info);
            } else if (is_result(node) && !consumed.contains(node.name)) {
                file.outputs.push_back(unknown_tensor(node.name));
            }
        }
        return file;
    });
}

}  // namespace ai_vmm::graph
