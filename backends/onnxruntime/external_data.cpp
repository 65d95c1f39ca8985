// SPDX-License-Identifier: Apache-2.0
#include "external_data.hpp"

#include <algorithm>

#include "ai_vmm/error.hpp"
#include "base/protobuf.hpp"

namespace ai_vmm::ort {
namespace {

using base::ProtobufReader;

constexpr int kMaxDepth = 64;  // of subgraphs within subgraphs; the engine refuses deeper ones too

struct Scan {
    std::vector<std::string>& locations;

    void tensor(ProtobufReader message) {
        while (message.next(13)) {  // external_data: StringStringEntryProto
            ProtobufReader entry = message.get_message();
            std::string key, value;
            while (entry.next()) {
                if (entry.tag() == 1) {
                    key = entry.get_string();
                } else if (entry.tag() == 2) {
                    value = entry.get_string();
                } else {
                    entry.skip();
                }
            }
            if (key == "location" && std::ranges::find(locations, value) == locations.end()) locations.push_back(value);
        }
    }

    void sparse(ProtobufReader message) {
        while (message.next()) {
            if (message.tag() == 1 || message.tag() == 2) {
                tensor(message.get_message());
            } else {
                message.skip();
            }
        }
    }

    void attribute(ProtobufReader message, int depth) {
        while (message.next()) {
            switch (message.tag()) {
                case 5:
                case 10: tensor(message.get_message()); break;  // t, tensors
                case 6:
                case 11: graph(message.get_message(), depth + 1); break;  // g, graphs
                case 22:
                case 23: sparse(message.get_message()); break;
                default: message.skip();
            }
        }
    }

    void node(ProtobufReader message, int depth) {
        while (message.next(5)) attribute(message.get_message(), depth);
    }

    void graph(ProtobufReader message, int depth) {
        if (depth > kMaxDepth) throw Error(ErrorCode::invalid_argument, ErrorCategory::input, "the ONNX model nests its graphs too deeply");
        while (message.next()) {
            switch (message.tag()) {
                case 1: node(message.get_message(), depth); break;
                case 5: tensor(message.get_message()); break;   // initializer
                case 15: sparse(message.get_message()); break;  // sparse_initializer
                default: message.skip();
            }
        }
    }

    void model(ProtobufReader message) {
        while (message.next()) {
            if (message.tag() == 7) {
                graph(message.get_message(), 0);
            } else if (message.tag() == 25) {  // functions
                ProtobufReader function = message.get_message();
                while (function.next(7)) node(function.get_message(), 0);
            } else {
                message.skip();
            }
        }
    }
};

}  // namespace

std::vector<std::string> external_data_locations(std::string_view onnx) {
    std::vector<std::string> locations;
    try {
        Scan{locations}.model(ProtobufReader(onnx));
    } catch (const protozero::exception& error) {
        throw Error(ErrorCode::invalid_argument, ErrorCategory::input, "the ONNX model is damaged",
                    {.expected = "a protobuf message", .found = error.what(), .advice = "get the file again"});
    }
    return locations;
}

}  // namespace ai_vmm::ort
