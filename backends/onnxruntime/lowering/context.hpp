// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <initializer_list>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <stdexcept>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "onnx_graph.hpp"
#include "openvino/core/model.hpp"
#include "openvino/core/node.hpp"
#include "openvino/op/constant.hpp"

namespace ai_vmm::ort {

/// Why one node can't be lowered. Stays inside the lowering.
class Refusal : public std::runtime_error {
public:
    using std::runtime_error::runtime_error;
};

/// A node's attributes by OpenVINO's names, whichever version of the operation it is.
class NodeAttributes {
public:
    explicit NodeAttributes(const ov::Node& node);
    [[nodiscard]] std::string text(const std::string& name, std::string fallback = {}) const;  ///< lower case
    [[nodiscard]] std::int64_t integer(const std::string& name, std::int64_t fallback = 0) const;
    [[nodiscard]] double real(const std::string& name, double fallback = 0) const;
    [[nodiscard]] bool flag(const std::string& name, bool fallback = false) const;
    [[nodiscard]] std::vector<std::int64_t> integers(const std::string& name) const;
    [[nodiscard]] std::vector<float> reals(const std::string& name) const;
    [[nodiscard]] std::vector<std::string> texts(const std::string& name) const;

    using Value = std::variant<std::int64_t, double, bool, std::string, std::vector<std::int64_t>, std::vector<float>, std::vector<std::string>>;

private:
    std::map<std::string, Value> values_;
};

using Types = std::initializer_list<ov::element::Type_t>;

/// The state of lowering one ov::Model (or body of a control-flow operation) to one ONNX graph. Not thread-safe.
///
/// Handlers read the operation's inputs with in() or in_as(), add ONNX nodes to `graph`, and name each output with set(). An operation that
/// can't be lowered exactly is refused by refuse(): never approximated.
class Context {
public:
    explicit Context(bool dry, std::shared_ptr<int> counter = std::make_shared<int>(0)) : graph(std::move(counter)), dry_(dry) {}

    OnnxGraph graph;

    /// Value of an input, output or constant.
    std::string in(const ov::Node& node, std::size_t index);
    std::string value(const ov::Output<const ov::Node>& output);
    /// in(), cast to `type`.
    std::string in_as(const ov::Node& node, std::size_t index, ov::element::Type type);
    [[nodiscard]] bool has_input(const ov::Node& node, std::size_t index) const { return index < node.get_input_size(); }
    void set(const ov::Node& node, std::size_t index, std::string name);
    void set(const ov::Output<const ov::Node>& output, std::string name);
    /// set() of a value of type `from`, cast to what the output is declared as.
    void set_from(const ov::Node& node, std::size_t index, std::string name, ov::element::Type from);
    std::string cast(std::string name, ov::element::Type from, ov::element::Type to);
    /// i64 and of rank 1, as ONNX wants shapes, axes and counts.
    std::string in_ints(const ov::Node& node, std::size_t index);
    /// i64 and of rank 0.
    std::string in_scalar(const ov::Node& node, std::size_t index);
    /// A floating-point constant of `type`, rank 0.
    std::string number(double value, ov::element::Type type);

    /// Integers of an input that is constant (or computed from constants); std::nullopt otherwise.
    [[nodiscard]] std::optional<std::vector<std::int64_t>> constant_ints(const ov::Node& node, std::size_t index) const;
    [[nodiscard]] std::optional<std::vector<float>> constant_reals(const ov::Node& node, std::size_t index) const;
    /// As above; refuses the node otherwise.
    [[nodiscard]] std::vector<std::int64_t> need_ints(const ov::Node& node, std::size_t index) const;

    /// Nodes that another one has absorbed.
    [[nodiscard]] bool is_done(const ov::Node& node) const { return done_.contains(&node); }
    void mark_done(const ov::Node& node) { done_.insert(&node); }
    [[nodiscard]] bool dry() const noexcept { return dry_; }
    [[nodiscard]] bool known(const ov::Output<const ov::Node>& output) const;

    /// Per-tensor scale of a value that a DequantizeLinear node gives.
    std::map<std::pair<const ov::Node*, std::size_t>, float> scales;

private:
    std::string constant(const ov::Node& node);
    /// The value of an output that depends on constants and static shapes only, if it is small; else null.
    std::shared_ptr<const ov::op::v0::Constant> fold(const ov::Output<ov::Node>& output, int depth) const;
    static bool is_dynamic_size(const ov::Output<ov::Node>& output);

    bool dry_;
    mutable std::map<std::pair<const ov::Node*, std::size_t>, std::shared_ptr<const ov::op::v0::Constant>> folded_;
    std::map<std::pair<const ov::Node*, std::size_t>, std::string> values_;
    std::set<const ov::Node*> done_;
};

[[noreturn]] void refuse(const ov::Node& node, std::string_view why);
/// ONNX's number of a type. @throws Refusal ONNX has none.
[[nodiscard]] OnnxType onnx_type(ov::element::Type type);
/// The type of `supported` that holds every value of `type`: itself if it is there.
[[nodiscard]] ov::element::Type carrier(ov::element::Type type, Types supported);
/// Rank of an input or output. Refuses the node if it is not known.
[[nodiscard]] std::int64_t rank_of(const ov::Node& node, const ov::PartialShape& shape);
/// -1 for any size.
[[nodiscard]] std::vector<std::int64_t> dims_of(const ov::PartialShape& shape);
[[nodiscard]] std::int64_t positive_axis(std::int64_t axis, std::int64_t rank);

/// Lowers every operation of `model` into `context`; in a dry context all refusals are collected, else the first is thrown.
void lower_body(Context& context, const ov::Model& model, std::vector<std::string>* refusals);

using Handler = void (*)(Context&, const ov::Node&);
using HandlerTable = std::unordered_map<std::string_view, Handler>;  ///< by operation name, e.g. "Add"

void add_elementwise_handlers(HandlerTable& table);
void add_neural_handlers(HandlerTable& table);
void add_reduction_handlers(HandlerTable& table);
void add_shape_handlers(HandlerTable& table);
void add_indexing_handlers(HandlerTable& table);
void add_recurrent_handlers(HandlerTable& table);
void add_quantization_handlers(HandlerTable& table);
void add_control_handlers(HandlerTable& table);

}  // namespace ai_vmm::ort
