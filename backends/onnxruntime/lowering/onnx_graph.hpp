// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

namespace ai_vmm::ort {

/// Field and type numbers below are those of onnx.proto (ONNX IR specification, version 10).
enum class OnnxType : std::int32_t {
    undefined = 0,
    f32 = 1,
    u8 = 2,
    i8 = 3,
    u16 = 4,
    i16 = 5,
    i32 = 6,
    i64 = 7,
    string = 8,
    boolean = 9,
    f16 = 10,
    f64 = 11,
    u32 = 12,
    u64 = 13,
    bf16 = 16,
    f8e4m3 = 17,
    f8e5m2 = 19,
    u4 = 21,
    i4 = 22,
};

/// A serialised message: GraphProto or TensorProto.
struct GraphBytes {
    std::string bytes;
};
struct TensorBytes {
    std::string bytes;
};

using AttributeValue =
    std::variant<std::int64_t, float, std::string, std::vector<std::int64_t>, std::vector<float>, std::vector<std::string>, TensorBytes, GraphBytes>;
struct OnnxAttribute {
    std::string name;
    AttributeValue value;

    /// Every whole number and truth value is an INT, text is a STRING.
    template <typename T>
    OnnxAttribute(std::string name_, T value_) : name(std::move(name_)) {
        if constexpr (std::is_integral_v<T>) {
            value = static_cast<std::int64_t>(value_);
        } else if constexpr (std::is_convertible_v<T, const char*>) {
            value = std::string(value_);
        } else {
            value = std::move(value_);
        }
    }
};
using OnnxAttributes = std::vector<OnnxAttribute>;

/// A TensorProto of raw little-endian bytes (packed if under 8 bits).
[[nodiscard]] TensorBytes tensor_proto(std::string_view name, OnnxType type, const std::vector<std::int64_t>& shape, std::string_view raw);

/// Collects the nodes of one ONNX graph and writes them as GraphProto. Values are named by number, unique over a graph and its subgraphs.
class OnnxGraph {
public:
    explicit OnnxGraph(std::shared_ptr<int> counter = std::make_shared<int>(0)) : counter_(std::move(counter)) {}

    /// Adds a node with one output; its name.
    std::string add(std::string_view op, std::vector<std::string> inputs, OnnxAttributes attributes = {}, std::string_view domain = {});
    /// Adds a node with `outputs` outputs.
    std::vector<std::string> add_many(std::string_view op, std::vector<std::string> inputs, std::size_t outputs, OnnxAttributes attributes = {},
                                      std::string_view domain = {});
    /// Adds an initialiser.
    std::string initializer(OnnxType type, const std::vector<std::int64_t>& shape, std::string_view raw);
    std::string string_initializer(const std::vector<std::int64_t>& shape, const std::vector<std::string>& values);
    /// Small constants, each value once per graph.
    std::string ints(const std::vector<std::int64_t>& values);  ///< i64, rank 1
    std::string scalar(std::int64_t value);                     ///< i64, rank 0
    /// f32, rank 0.
    std::string real(float value);

    /// Shape: -1 for any size; `ranked` false: any rank.
    void input(const std::string& name, OnnxType type, const std::vector<std::int64_t>& shape, bool ranked = true);
    /// Makes `value` an output called `name`.
    void output(const std::string& name, const std::string& value, OnnxType type, const std::vector<std::int64_t>& shape, bool ranked = true);

    /// Keeps the node that gives `name` although no node of this graph uses it: a subgraph does.
    void keep(const std::string& name) { kept_.push_back(name); }

    [[nodiscard]] std::string fresh();
    [[nodiscard]] const std::shared_ptr<int>& counter() const noexcept { return counter_; }
    /// Name given to the nodes that are added from now on.
    void set_origin(std::string origin) { origin_ = std::move(origin); }

    /// GraphProto. Nodes and initialisers that no output depends on are left out: the engine would compute them.
    [[nodiscard]] GraphBytes serialize(std::string_view name) const;

private:
    struct Node {
        std::string op, domain, origin;
        std::vector<std::string> inputs, outputs;
        OnnxAttributes attributes;
    };
    std::string value_info(const std::string& name, OnnxType type, const std::vector<std::int64_t>& shape, bool ranked) const;

    std::shared_ptr<int> counter_;
    std::string origin_;
    std::vector<Node> nodes_;
    std::vector<std::pair<std::string, std::string>> initializers_;  // name, TensorProto
    std::vector<std::string> inputs_;                                // ValueInfoProto
    std::vector<std::string> outputs_;                               // ValueInfoProto
    std::vector<std::string> kept_;
    std::map<std::string, std::string> renamed_;
    std::map<std::string, std::string> small_;
};

/// ModelProto around a graph, of operator set `opset` of the default domain and com.microsoft's.
[[nodiscard]] std::string model_proto(const GraphBytes& graph, int opset);

}  // namespace ai_vmm::ort
