// SPDX-License-Identifier: Apache-2.0
// Field numbers are those of saved_model.proto, meta_graph.proto, graph.proto, node_def.proto, attr_value.proto and tensor_shape.proto.
#include "graph/formats/tensorflow_file.hpp"

#include <algorithm>
#include <map>
#include <protozero/pbf_reader.hpp>
#include <set>

#include "graph/bytes.hpp"

namespace ai_vmm::graph {
namespace {

using protozero::pbf_reader;

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

void read_shape(pbf_reader message, TensorInfo& info) {
    info.rank_known = true;
    info.shape.clear();
    while (message.next()) {
        switch (message.tag()) {
            case 2: {
                std::int64_t size = 0;
                pbf_reader dimension = message.get_message();
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
void read_signature_entry(pbf_reader message, std::map<std::string, TensorInfo>& ports) {
    std::string key;
    TensorInfo info = unknown_tensor({});
    while (message.next()) {
        switch (message.tag()) {
            case 1: key = message.get_string(); break;
            case 2: {
                pbf_reader tensor = message.get_message();
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

Signature read_signature(pbf_reader message) {
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

Node read_node(pbf_reader message) {
    Node node;
    node.info = unknown_tensor({});
    while (message.next()) {
        switch (message.tag()) {
            case 1: node.name = message.get_string(); break;
            case 2: node.op = message.get_string(); break;
            case 3: node.inputs.push_back(message.get_string()); break;
            case 5: {
                pbf_reader entry = message.get_message();
                std::string key;
                while (entry.next()) {
                    if (entry.tag() == 1) {
                        key = entry.get_string();
                    } else if (entry.tag() == 2 && (key == "dtype" || key == "shape")) {
                        pbf_reader value = entry.get_message();
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
        pbf_reader model(bytes.data(), bytes.size());
        while (model.next()) {
            if (model.tag() != 2) {
                model.skip();
                continue;
            }
            pbf_reader meta = model.get_message();
            while (meta.next()) {
                switch (meta.tag()) {
                    case 2:
                        has_graph = true;
                        meta.skip();
                        break;
                    case 5: {
                        pbf_reader entry = meta.get_message();
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
        std::vector<Node> nodes;
        std::set<std::string, std::less<>> consumed;
        pbf_reader graph(bytes.data(), bytes.size());
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
