// SPDX-License-Identifier: Apache-2.0
/// Tiny models made in the test, byte by byte, and what the reader tests share.
#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <optional>
#include <protozero/pbf_writer.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "ai_vmm/error.hpp"
#include "base/file.hpp"
#include "graph/reader.hpp"

namespace ai_vmm::graph::testing {

namespace fs = std::filesystem;

inline fs::path models_folder() {
    const char* chosen = std::getenv("AI_VMM_TEST_MODELS");
    return chosen ? fs::path(chosen) : fs::path(AI_VMM_TEST_MODELS);
}
/// Skips the test, saying so, where the real models are missing.
#define AI_VMM_NEED_MODELS()                                                                              \
    if (!::ai_vmm::graph::testing::fs::exists(::ai_vmm::graph::testing::models_folder() / "MANIFEST.md")) \
    GTEST_SKIP() << "no models in " << ::ai_vmm::graph::testing::models_folder()

inline fs::path write(const fs::path& path, std::string_view content) {
    fs::create_directories(path.parent_path());
    std::ofstream(path, std::ios::binary) << content;
    return path;
}

/// The error that `action` throws; anything else than an Error fails the test.
inline std::optional<Error> error_of(const std::function<void()>& action) {
    try {
        action();
    } catch (const Error& error) {
        return error;
    } catch (const std::exception& other) {
        ADD_FAILURE() << "a foreign exception left: " << other.what();
    }
    return std::nullopt;
}
inline std::optional<Error> error_reading(const ModelSource& source) {
    return error_of([&] { static_cast<void>(read_model(locate(source))); });
}
#define EXPECT_ERROR(error, expected_code, text)                                                                \
    do {                                                                                                        \
        const auto& caught_error = (error);                                                                     \
        if (!caught_error) {                                                                                    \
            ADD_FAILURE() << "no error";                                                                        \
        } else {                                                                                                \
            EXPECT_EQ(caught_error->code(), expected_code) << caught_error->what();                             \
            EXPECT_NE(std::string(caught_error->what()).find(text), std::string::npos) << caught_error->what(); \
        }                                                                                                       \
    } while (false)

// --- protobuf messages -------------------------------------------------------------------------------------------------------------------

inline std::string message(const std::function<void(protozero::pbf_writer&)>& fill) {
    std::string bytes;
    protozero::pbf_writer writer(bytes);
    fill(writer);
    return bytes;
}

using Dims = std::vector<std::int64_t>;

/// ONNX ValueInfoProto; no dims: unknown rank; -1: symbolic.
inline std::string onnx_value(const std::string& name, int type, const std::optional<Dims>& dims) {
    return message([&](auto& value) {
        value.add_string(1, name);
        value.add_message(2, message([&](auto& t) {
                              t.add_message(1, message([&](auto& tensor) {
                                                tensor.add_enum(1, type);
                                                if (!dims) return;
                                                tensor.add_message(2, message([&](auto& shape) {
                                                                       for (const auto dim : *dims) {
                                                                           shape.add_message(1, message([&](auto& d) {
                                                                                                 if (dim < 0) {
                                                                                                     d.add_string(2, "n");
                                                                                                 } else {
                                                                                                     d.add_int64(1, dim);
                                                                                                 }
                                                                                             }));
                                                                       }
                                                                   }));
                                            }));
                          }));
    });
}
inline std::string onnx_node(const std::string& op, const std::vector<std::string>& inputs, const std::vector<std::string>& outputs,
                             const std::string& domain = {}) {
    return message([&](auto& node) {
        for (const auto& name : inputs) node.add_string(1, name);
        for (const auto& name : outputs) node.add_string(2, name);
        node.add_string(3, outputs.front() + "_node");
        node.add_string(4, op);
        if (!domain.empty()) node.add_string(7, domain);
    });
}
/// A float initialiser, inline or in `location`.
inline std::string onnx_tensor(const std::string& name, const Dims& dims, const std::vector<float>& values, const std::string& location = {},
                               std::int64_t offset = 0, std::int64_t length = -1) {
    return message([&](auto& tensor) {
        for (const auto dim : dims) tensor.add_int64(1, dim);
        tensor.add_enum(2, 1);
        tensor.add_string(8, name);
        if (location.empty()) {
            tensor.add_bytes(9, reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float));
            return;
        }
        const auto entry = [&](const std::string& key, const std::string& value) {
            tensor.add_message(13, message([&](auto& e) {
                                   e.add_string(1, key);
                                   e.add_string(2, value);
                               }));
        };
        entry("location", location);
        if (offset) entry("offset", std::to_string(offset));
        if (length >= 0) entry("length", std::to_string(length));
        tensor.add_enum(14, 1);
    });
}
struct OnnxGraph {
    std::vector<std::string> nodes, initializers, inputs, outputs;
};
inline std::string onnx_model(const OnnxGraph& graph, int opset = 17) {
    return message([&](auto& model) {
        model.add_int64(1, 8);
        model.add_message(7, message([&](auto& g) {
                              for (const auto& node : graph.nodes) g.add_message(1, node);
                              g.add_string(2, "test");
                              for (const auto& tensor : graph.initializers) g.add_message(5, tensor);
                              for (const auto& value : graph.inputs) g.add_message(11, value);
                              for (const auto& value : graph.outputs) g.add_message(12, value);
                          }));
        model.add_message(8, message([&](auto& o) {
                              o.add_string(1, "");
                              o.add_int64(2, opset);
                          }));
        model.add_message(8, message([&](auto& o) {
                              o.add_string(1, "test.domain");
                              o.add_int64(2, 1);
                          }));
    });
}
/// y = x + b, x and y f32 [n, 2].
inline std::string onnx_add() {
    return onnx_model({.nodes = {onnx_node("Add", {"x", "b"}, {"y"})},
                       .initializers = {onnx_tensor("b", {2}, {1, 2})},
                       .inputs = {onnx_value("x", 1, Dims{-1, 2})},
                       .outputs = {onnx_value("y", 1, Dims{-1, 2})}});
}

/// A frozen TensorFlow graph: two placeholders a and b f32 [?,2], sum = a + b, relu = Relu(sum).
inline std::string frozen_graph() {
    const auto attribute = [](auto& node, const std::string& key, const std::string& value) {
        node.add_message(5, message([&](auto& entry) {
                             entry.add_string(1, key);
                             entry.add_message(2, value);
                         }));
    };
    const std::string f32 = message([](auto& value) { value.add_enum(6, 1); });
    const std::string shape = message([](auto& value) {
        value.add_message(7, message([](auto& s) {
                              s.add_message(2, message([](auto& d) { d.add_int64(1, -1); }));
                              s.add_message(2, message([](auto& d) { d.add_int64(1, 2); }));
                          }));
    });
    return message([&](auto& graph) {
        for (const char* name : {"b", "a"}) {
            graph.add_message(1, message([&](auto& node) {
                                  node.add_string(1, name);
                                  node.add_string(2, "Placeholder");
                                  attribute(node, "dtype", f32);
                                  attribute(node, "shape", shape);
                              }));
        }
        graph.add_message(1, message([&](auto& node) {
                              node.add_string(1, "sum");
                              node.add_string(2, "AddV2");
                              node.add_string(3, "a");
                              node.add_string(3, "b:0");
                              attribute(node, "T", f32);
                          }));
        graph.add_message(1, message([&](auto& node) {
                              node.add_string(1, "relu");
                              node.add_string(2, "Relu");
                              node.add_string(3, "sum");
                              attribute(node, "T", f32);
                          }));
        graph.add_message(4, message([](auto& versions) { versions.add_int32(1, 1000); }));
    });
}

/// A Paddle program: `image` f32 [-1,4] -> relu -> `probability`; with `parameter`, a persistable variable that a .pdiparams file must hold.
inline std::string paddle_program(bool parameter = false) {
    const auto variable = [](const std::string& name, int kind, bool persistable) {
        return message([&](auto& var) {
            var.add_string(1, name);
            var.add_message(2, message([&](auto& type) {
                                type.add_enum(1, kind);
                                if (kind != 7) return;
                                type.add_message(3, message([](auto& dense) {
                                                     dense.add_message(1, message([](auto& tensor) {
                                                                           tensor.add_enum(1, 5);
                                                                           tensor.add_int64(2, -1);
                                                                           tensor.add_int64(2, 4);
                                                                       }));
                                                 }));
                            }));
            var.add_bool(3, persistable);
        });
    };
    const auto arguments = [](const std::string& name, const std::string& value) {
        return message([&](auto& a) {
            a.add_string(1, name);
            a.add_string(2, value);
        });
    };
    const auto operation = [&](const std::string& type, const std::string& in_name, const std::string& in, const std::string& out_name,
                               const std::string& out, bool column) {
        return message([&](auto& op) {
            op.add_message(1, arguments(in_name, in));
            op.add_message(2, arguments(out_name, out));
            op.add_string(3, type);
            if (column) {
                op.add_message(4, message([](auto& a) {
                                   a.add_string(1, "col");
                                   a.add_enum(2, 0);
                                   a.add_int32(3, 0);
                               }));
            }
        });
    };
    return message([&](auto& program) {
        program.add_message(1, message([&](auto& block) {
                                block.add_int32(1, 0);
                                block.add_int32(2, -1);
                                block.add_message(3, variable("feed", 9, true));
                                block.add_message(3, variable("fetch", 10, true));
                                block.add_message(3, variable("image", 7, false));
                                block.add_message(3, variable("probability", 7, false));
                                if (parameter) block.add_message(3, variable("weight", 7, true));
                                block.add_message(4, operation("feed", "X", "feed", "Out", "image", true));
                                block.add_message(4, operation("relu", "X", "image", "Out", "probability", false));
                                block.add_message(4, operation("fetch", "X", "probability", "Out", "fetch", true));
                            }));
        program.add_message(4, message([](auto& version) { version.add_int64(1, 0); }));
    });
}

/// A GGUF file with one metadata string and one f32 tensor of 8 elements.
inline std::string gguf_file(std::uint32_t blocks = 1, std::uint32_t width = 8) {
    std::string bytes = "GGUF";
    const auto number = [&](std::uint64_t value, int size) {
        for (int i = 0; i < size; ++i) bytes += static_cast<char>(value >> (8 * i));
    };
    const auto text = [&](std::string_view value) {
        number(value.size(), 8);
        bytes += value;
    };
    number(3, 4);
    number(1, 8);  // tensors
    number(4, 8);  // metadata
    text("general.architecture");
    number(8, 4);
    text("llama");
    text("llama.block_count");
    number(4, 4);
    number(blocks, 4);
    text("llama.embedding_length");
    number(4, 4);
    number(width, 4);
    text("tokenizer.ggml.tokens");
    number(9, 4);
    number(8, 4);
    number(2, 8);
    text("a");
    text("b");
    text("token_embd.weight");
    number(1, 4);
    number(8, 8);
    number(0, 4);
    number(0, 8);
    bytes.resize((bytes.size() + 31) / 32 * 32, '\0');
    bytes.append(32, '\0');
    return bytes;
}

}  // namespace ai_vmm::graph::testing
