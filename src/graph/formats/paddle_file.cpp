// SPDX-License-Identifier: Apache-2.0
// Field numbers are those of paddle/fluid/framework/framework.proto.
#include "graph/formats/paddle_file.hpp"

#include <algorithm>
#include <map>

#include "base/protobuf.hpp"
#include "graph/bytes.hpp"

namespace ai_vmm::graph {
namespace {

using base::ProtobufReader;

constexpr std::size_t kMaxRank = 1024;
constexpr int kDenseTensor = 7;  // VarType::LOD_TENSOR

ElementType element_type(std::int32_t type) {
    switch (type) {
        case 0: return ElementType::boolean;
        case 1: return ElementType::i16;
        case 2: return ElementType::i32;
        case 3: return ElementType::i64;
        case 4: return ElementType::f16;
        case 5: return ElementType::f32;
        case 6: return ElementType::f64;
        case 20: return ElementType::u8;
        case 21: return ElementType::i8;
        case 22: return ElementType::bf16;
        case 23: return ElementType::complex64;
        case 24: return ElementType::complex128;
        default: return ElementType::undefined;
    }
}

struct Variable {
    TensorInfo info{.name = {}, .type = ElementType::undefined, .shape = {}, .rank_known = false, .optional = false};
    std::int32_t kind = -1;
    bool persistable = false;
};

void read_tensor(ProtobufReader message, TensorInfo& info) {
    info.rank_known = true;
    const auto add = [&](std::int64_t size) {
        info.shape.push_back(std::max<std::int64_t>(size, -1));
        if (info.shape.size() > kMaxRank) throw malformed("'" + printable(info.name) + "' has too many dimensions");
    };
    while (message.next()) {
        switch (message.tag()) {
            case 1: info.type = element_type(message.get_enum()); break;
            case 2:
                if (message.wire_type() == protozero::pbf_wire_type::length_delimited) {
                    for (const std::int64_t size : message.get_packed_int64()) add(size);
                } else {
                    add(message.get_int64());
                }
                break;
            default: message.skip();
        }
    }
}

Variable read_variable(ProtobufReader message) {
    Variable variable;
    while (message.next()) {
        switch (message.tag()) {
            case 1: variable.info.name = message.get_string(); break;
            case 2: {
                ProtobufReader type = message.get_message();
                while (type.next()) {
                    switch (type.tag()) {
                        case 1: variable.kind = type.get_enum(); break;
                        case 3: {
                            ProtobufReader dense = type.get_message();
                            while (dense.next()) {
                                if (dense.tag() == 1) {
                                    read_tensor(dense.get_message(), variable.info);
                                } else {
                                    dense.skip();
                                }
                            }
                            break;
                        }
                        default: type.skip();
                    }
                }
                break;
            }
            case 3: variable.persistable = message.get_bool(); break;
            default: message.skip();
        }
    }
    return variable;
}

struct Operation {
    std::string type;
    std::map<std::string, std::vector<std::string>> inputs;
    std::map<std::string, std::vector<std::string>> outputs;
    std::int64_t column = 0;
};

void read_arguments(ProtobufReader message, std::map<std::string, std::vector<std::string>>& arguments) {
    std::string parameter;
    std::vector<std::string> names;
    while (message.next()) {
        switch (message.tag()) {
            case 1: parameter = message.get_string(); break;
            case 2: names.push_back(message.get_string()); break;
            default: message.skip();
        }
    }
    arguments[parameter] = std::move(names);
}

Operation read_operation(ProtobufReader message) {
    Operation operation;
    while (message.next()) {
        switch (message.tag()) {
            case 1: read_arguments(message.get_message(), operation.inputs); break;
            case 2: read_arguments(message.get_message(), operation.outputs); break;
            case 3: operation.type = message.get_string(); break;
            case 4: {
                ProtobufReader attribute = message.get_message();
                std::string name;
                std::int64_t value = 0;
                while (attribute.next()) {
                    switch (attribute.tag()) {
                        case 1: name = attribute.get_string(); break;
                        case 3: value = attribute.get_int32(); break;
                        default: attribute.skip();
                    }
                }
                if (name == "col") operation.column = value;
                break;
            }
            default: message.skip();
        }
    }
    return operation;
}

}  // namespace

PaddleFile parse_paddle(std::string_view bytes) {
    PaddleFile file;
    std::map<std::string, Variable> variables;
    std::multimap<std::int64_t, std::string> feeds, fetches;  // by column
    try {
        ProtobufReader program(bytes);
        bool main = true;
        while (program.next()) {
            if (program.tag() != 1) {
                program.skip();
                continue;
            }
            ProtobufReader block = program.get_message();
            while (block.next()) {
                switch (block.tag()) {
                    case 3: {
                        Variable variable = read_variable(block.get_message());
                        if (main) variables[variable.info.name] = std::move(variable);
                        break;
                    }
                    case 4: {
                        const Operation operation = read_operation(block.get_message());
                        if (main && operation.type == "feed") {
                            if (const auto out = operation.outputs.find("Out"); out != operation.outputs.end() && !out->second.empty())
                                feeds.emplace(operation.column, out->second.front());
                        } else if (main && operation.type == "fetch") {
                            if (const auto in = operation.inputs.find("X"); in != operation.inputs.end() && !in->second.empty())
                                fetches.emplace(operation.column, in->second.front());
                        }
                        break;
                    }
                    default: block.skip();
                }
            }
            main = false;
        }
    } catch (const protozero::exception& error) {
        throw malformed("the PaddlePaddle program is truncated or damaged", "a whole protobuf message", error.what(), "get the file again");
    }
    const auto port = [&](const std::string& name) {
        const auto found = variables.find(name);
        if (found != variables.end()) return found->second.info;
        return TensorInfo{.name = name, .type = ElementType::undefined, .shape = {}, .rank_known = false, .optional = false};
    };
    for (const auto& [column, name] : feeds) file.inputs.push_back(port(name));
    for (const auto& [column, name] : fetches) file.outputs.push_back(port(name));
    for (const auto& [name, variable] : variables) {
        if (variable.persistable && variable.kind == kDenseTensor) file.parameters.push_back(name);
    }
    return file;
}

}  // namespace ai_vmm::graph
