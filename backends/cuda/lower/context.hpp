// SPDX-License-Identifier: Apache-2.0
/// From `ov::Model` to the device graph: one function per operation, found by the operation's type.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "graph/graph.hpp"
#include "openvino/core/model.hpp"
#include "openvino/core/node.hpp"

namespace ai_vmm::cuda {

/// The device's element type, if it has one.
[[nodiscard]] std::optional<Type> from_openvino(const ov::element::Type& type);
[[nodiscard]] Dims from_openvino(const ov::Shape& shape);

/// What a lowering function sees: its operation, the inputs' values, and a builder to append to.
class Context {
public:
    Context(Builder& builder, const ov::Node& node, std::vector<ValueId> inputs) : b(builder), node_(node), inputs_(std::move(inputs)) {}

    Builder& b;

    [[nodiscard]] const ov::Node& node() const noexcept { return node_; }
    /// The operation as its class. @throws Error(internal) it is another one.
    template <typename Op>
    [[nodiscard]] const Op& as() const {
        if (const auto* op = ov::as_type<const Op>(&node_)) return *op;
        unsupported("version");
    }
    template <typename Op>
    [[nodiscard]] bool is() const {
        return ov::as_type<const Op>(&node_) != nullptr;
    }

    [[nodiscard]] int inputs() const noexcept { return static_cast<int>(inputs_.size()); }
    [[nodiscard]] ValueId in(int k) const { return inputs_[static_cast<std::size_t>(k)]; }
    [[nodiscard]] const Dims& dims(int k) const { return b.dims(in(k)); }
    [[nodiscard]] Type type(int k) const { return b.type(in(k)); }
    [[nodiscard]] int rank(int k) const { return b.rank(in(k)); }
    /// Input k's values if it is a constant: integers of any width, or floats.
    [[nodiscard]] std::optional<std::vector<std::int64_t>> integers(int k) const;
    [[nodiscard]] std::optional<std::vector<double>> numbers(int k) const;
    /// The same, required. @throws Error(unimplemented) naming the input.
    [[nodiscard]] std::vector<std::int64_t> need_integers(int k) const;
    [[nodiscard]] std::vector<double> need_numbers(int k) const;
    /// A dimension's number from one that may count from the end. @throws Error(invalid_argument) it is none of `rank` dimensions.
    [[nodiscard]] int axis(std::int64_t axis, int rank) const;

    [[nodiscard]] Type out_type(int k = 0) const;
    [[nodiscard]] Dims out_dims(int k = 0) const;
    void set(int output, ValueId value);
    [[nodiscard]] const std::vector<ValueId>& results() const noexcept { return results_; }

    /// @throws Error(unimplemented) "OP NAME: WHY".
    [[noreturn]] void unsupported(const std::string& why) const;

private:
    const ov::Node& node_;
    std::vector<ValueId> inputs_;
    std::vector<ValueId> results_;
};

using Lower = void (*)(Context&);
/// Operation type name ("Add", …) to its lowering. Files of this folder add theirs in add_*() below; versions are told apart inside.
using Table = std::unordered_map<std::string_view, Lower>;
void add_elementwise(Table& table);
void add_movement(Table& table);
void add_indexing(Table& table);
void add_reductions(Table& table);
void add_matrix(Table& table);
void add_neural(Table& table);
void add_pooling(Table& table);
void add_resampling(Table& table);
void add_recurrent(Table& table);
void add_control(Table& table);
void add_detection(Table& table);
void add_detection_output(Table& table);
void add_proposals(Table& table);
void add_colour(Table& table);
void add_signal(Table& table);
void add_random(Table& table);
[[nodiscard]] const Table& table();

/// Appends a model's operations with its parameters bound to `arguments`; gives its results. For bodies of If, Loop and TensorIterator too.
/// @throws Error(unimplemented) an operation that has no lowering, or a shape that isn't known; names the operation.
[[nodiscard]] std::vector<ValueId> lower_body(Builder& builder, const ov::Model& model, const std::vector<ValueId>& arguments);

}  // namespace ai_vmm::cuda
