// SPDX-License-Identifier: Apache-2.0
/// An engine of one's own in one file: walks the graph in order and computes each node in f32 with plain loops.
///
/// It knows Add, Multiply, MatMul and Relu, refuses everything else by name, and passes the conformance suite.
/// docs/guide/write-a-backend.md goes through it.
#include <algorithm>
#include <atomic>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ai_vmm/backend/backend.hpp"
#include "openvino/core/model.hpp"
#include "openvino/op/add.hpp"
#include "openvino/op/constant.hpp"
#include "openvino/op/matmul.hpp"
#include "openvino/op/multiply.hpp"
#include "openvino/op/parameter.hpp"
#include "openvino/op/relu.hpp"
#include "openvino/op/result.hpp"

namespace naive {

using ai_vmm::ElementType;
using ai_vmm::Error;
using ai_vmm::ErrorCategory;
using ai_vmm::ErrorCode;
using ai_vmm::Precision;
using ai_vmm::Shape;
using ai_vmm::Tensor;
using ai_vmm::TensorInfo;
using ai_vmm::backend::CompileConfig;
using ai_vmm::backend::Model;
using ai_vmm::backend::Support;

constexpr const char* kName = "naive";
constexpr const char* kDevice = "loops";

// ---- Computing -------------------------------------------------------------------------------------------------------------------

/// An operand while a graph runs: dimensions, and elements that are either borrowed or in `own`.
struct Value {
    Shape shape;
    const float* data = nullptr;
    std::vector<float> own;

    float* allocate(Shape dimensions) {
        shape = std::move(dimensions);
        own.resize(ai_vmm::element_count(shape));
        data = own.data();
        return own.data();
    }
};

[[noreturn]] void throw_shapes(const char* operation, const Shape& a, const Shape& b) {
    throw Error(ErrorCode::invalid_argument, ErrorCategory::runtime,
                std::string(operation) + " can't take the shapes " + ai_vmm::to_string(a) + " and " + ai_vmm::to_string(b));
}

/// The shape that numpy's broadcasting gives.
Shape broadcast(const char* operation, const Shape& a, const Shape& b) {
    Shape shape(std::max(a.size(), b.size()));
    for (std::size_t i = 0; i < shape.size(); ++i) {
        const std::int64_t x = i < a.size() ? a[a.size() - 1 - i] : 1;
        const std::int64_t y = i < b.size() ? b[b.size() - 1 - i] : 1;
        if (x != y && x != 1 && y != 1) throw_shapes(operation, a, b);
        shape[shape.size() - 1 - i] = x == 1 ? y : x;
    }
    return shape;
}

/// Steps through `from` as `to`, which it broadcasts to, is stepped through in order.
std::vector<std::size_t> broadcast_offsets(const Shape& from, const Shape& to) {
    std::vector<std::size_t> strides(to.size(), 0);
    std::size_t stride = 1;
    for (std::size_t i = 0; i < from.size(); ++i) {
        const auto size = static_cast<std::size_t>(from[from.size() - 1 - i]);
        if (size != 1) strides[to.size() - 1 - i] = stride;
        stride *= size;
    }
    std::vector<std::size_t> offsets(ai_vmm::element_count(to));
    Shape index(to.size(), 0);
    std::size_t offset = 0;
    for (std::size_t& out : offsets) {
        out = offset;
        for (std::size_t d = to.size(); d-- > 0;) {
            offset += strides[d];
            if (++index[d] < to[d]) break;
            offset -= strides[d] * static_cast<std::size_t>(to[d]);
            index[d] = 0;
        }
    }
    return offsets;
}

template <typename F>
void combine(const char* operation, const Value& a, const Value& b, Value& out, F f) {
    const Shape shape = broadcast(operation, a.shape, b.shape);
    float* result = out.allocate(shape);
    if (a.shape == b.shape) {
        for (std::size_t i = 0; i < out.own.size(); ++i) result[i] = f(a.data[i], b.data[i]);
        return;
    }
    const auto left = broadcast_offsets(a.shape, shape);
    const auto right = broadcast_offsets(b.shape, shape);
    for (std::size_t i = 0; i < out.own.size(); ++i) result[i] = f(a.data[left[i]], b.data[right[i]]);
}

void multiply_matrices(const Value& a, const Value& b, bool transpose_a, bool transpose_b, Value& out) {
    const std::size_t ranks[]{a.shape.size(), b.shape.size()};
    const auto dimension = [](const Value& v, std::size_t from_end) { return v.shape[v.shape.size() - from_end]; };
    const std::int64_t rows = dimension(a, transpose_a ? 1 : 2);
    const std::int64_t inner = dimension(a, transpose_a ? 2 : 1);
    const std::int64_t columns = dimension(b, transpose_b ? 2 : 1);
    if (inner != dimension(b, transpose_b ? 1 : 2)) throw_shapes("MatMul", a.shape, b.shape);
    const Shape batch_a(a.shape.begin(), a.shape.begin() + static_cast<std::ptrdiff_t>(ranks[0] - 2));
    const Shape batch_b(b.shape.begin(), b.shape.begin() + static_cast<std::ptrdiff_t>(ranks[1] - 2));
    Shape shape = broadcast("MatMul", batch_a, batch_b);
    const auto left = broadcast_offsets(batch_a, shape);
    const auto right = broadcast_offsets(batch_b, shape);
    shape.push_back(rows);
    shape.push_back(columns);
    float* result = out.allocate(shape);
    std::fill_n(result, out.own.size(), 0.0F);

    const auto m = static_cast<std::size_t>(rows);
    const auto k = static_cast<std::size_t>(inner);
    const auto n = static_cast<std::size_t>(columns);
    for (std::size_t batch = 0; batch < left.size(); ++batch) {
        const float* x = a.data + left[batch] * m * k;
        const float* y = b.data + right[batch] * k * n;
        float* z = result + batch * m * n;
        for (std::size_t i = 0; i < m; ++i) {
            for (std::size_t p = 0; p < k; ++p) {
                const float factor = transpose_a ? x[p * m + i] : x[i * k + p];
                for (std::size_t j = 0; j < n; ++j) z[i * n + j] += factor * (transpose_b ? y[j * k + p] : y[p * n + j]);
            }
        }
    }
}

// ---- Compiling -------------------------------------------------------------------------------------------------------------------

/// One node to compute: reads slots, writes one.
struct Step {
    std::function<void(const std::vector<Value*>& inputs, Value& out)> compute;
    std::vector<std::size_t> inputs;
    std::size_t output = 0;
};

/// A compiled model: values live in numbered slots. Unchanged once made, so requests share it freely.
struct Program {
    std::shared_ptr<const ov::Model> graph;  ///< owns the elements of the constants
    std::vector<TensorInfo> outputs;
    std::vector<int> input_slots;  ///< per Model::inputs; -1: not used by the graph
    std::vector<std::size_t> output_slots;
    std::vector<std::pair<std::size_t, Value>> constants;
    std::vector<Step> steps;
    std::size_t slots = 0;
    std::int64_t constant_bytes = 0;
};

/// Why `node` can't be computed here; empty if it can.
std::string refusal(const ov::Node& node) {
    static const std::set<std::string_view> known{"Parameter", "Constant", "Result", "Add", "Multiply", "MatMul", "Relu"};
    const std::string type = node.get_type_name();
    if (!known.contains(type)) return "the operator " + type + " ('" + node.get_friendly_name() + "') is not implemented";
    const ov::element::Type element = node.get_output_element_type(0);
    if (element != ov::element::f32)
        return type + " ('" + node.get_friendly_name() + "') has the element type " + element.get_type_name() + ", not f32";
    if (type == "Add" || type == "Multiply") {
        if (node.get_autob().m_type != ov::op::AutoBroadcastType::NUMPY) return type + " with a broadcasting other than numpy's";
    }
    if (type == "MatMul") {
        for (std::size_t i = 0; i < 2; ++i) {
            const ov::Rank rank = node.get_input_partial_shape(i).rank();
            if (rank.is_dynamic() || rank.get_length() < 2) return "MatMul ('" + node.get_friendly_name() + "') of vectors or of unknown rank";
        }
    }
    return {};
}

Step make_step(const ov::Node& node) {
    Step step;
    const std::string_view type = node.get_type_name();
    if (type == "Add") {
        step.compute = [](const auto& in, Value& out) { combine("Add", *in[0], *in[1], out, std::plus<>()); };
    } else if (type == "Multiply") {
        step.compute = [](const auto& in, Value& out) { combine("Multiply", *in[0], *in[1], out, std::multiplies<>()); };
    } else if (type == "MatMul") {
        const auto& matmul = dynamic_cast<const ov::op::v0::MatMul&>(node);
        step.compute = [ta = matmul.get_transpose_a(), tb = matmul.get_transpose_b()](const auto& in, Value& out) {
            multiply_matrices(*in[0], *in[1], ta, tb, out);
        };
    } else {
        step.compute = [](const auto& in, Value& out) {
            float* result = out.allocate(in[0]->shape);
            for (std::size_t i = 0; i < out.own.size(); ++i) result[i] = std::max(0.0F, in[0]->data[i]);
        };
    }
    return step;
}

std::shared_ptr<const Program> compile_program(const Model& model) {
    auto program = std::make_shared<Program>();
    program->graph = model.graph;
    program->outputs = model.outputs;
    std::map<const ov::Node*, std::size_t> slot_of;
    for (const auto& node : model.graph->get_ordered_ops()) {
        if (ov::as_type_ptr<ov::op::v0::Result>(node)) continue;
        const std::size_t slot = slot_of[node.get()] = program->slots++;
        if (const auto constant = ov::as_type_ptr<ov::op::v0::Constant>(node)) {
            const ov::Shape& shape = constant->get_shape();
            program->constants.emplace_back(
                slot, Value{.shape = Shape(shape.begin(), shape.end()), .data = static_cast<const float*>(constant->get_data_ptr()), .own = {}});
            program->constant_bytes += static_cast<std::int64_t>(constant->get_byte_size());
        } else if (!ov::as_type_ptr<ov::op::v0::Parameter>(node)) {
            Step step = make_step(*node);
            for (std::size_t i = 0; i < node->get_input_size(); ++i) step.inputs.push_back(slot_of.at(node->get_input_node_ptr(i)));
            step.output = slot;
            program->steps.push_back(std::move(step));
        }
    }
    for (const int index : model.graph_inputs) {
        const auto port = static_cast<std::size_t>(index);
        program->input_slots.push_back(index < 0 ? -1 : static_cast<int>(slot_of.at(model.graph->get_parameters().at(port).get())));
    }
    for (const int index : model.graph_outputs) {
        const auto& result = model.graph->get_results().at(static_cast<std::size_t>(index));
        program->output_slots.push_back(slot_of.at(result->get_input_node_ptr(0)));
    }
    return program;
}

// ---- The interface ---------------------------------------------------------------------------------------------------------------

class Request final : public ai_vmm::backend::Request {
public:
    explicit Request(std::shared_ptr<const Program> program) : program_(std::move(program)), values_(program_->slots) {
        for (const auto& [slot, value] : program_->constants) values_[slot] = value;
    }

    void run(std::span<const Tensor> inputs, std::span<Tensor> outputs) override {
        if (inputs.size() != program_->input_slots.size() || outputs.size() != program_->output_slots.size()) {
            throw Error(ErrorCode::invalid_argument, ErrorCategory::runtime, "run() needs one tensor per input and output of the model");
        }
        cancelled_ = false;
        for (std::size_t i = 0; i < inputs.size(); ++i) {
            if (program_->input_slots[i] < 0) continue;
            if (inputs[i].type() != ElementType::f32)
                throw Error(ErrorCode::invalid_argument, ErrorCategory::runtime, "an input is missing or not f32");
            Value& value = values_[static_cast<std::size_t>(program_->input_slots[i])];
            value.shape = inputs[i].shape();
            value.data = static_cast<const float*>(inputs[i].data());
        }
        std::vector<Value*> operands;
        for (const Step& step : program_->steps) {
            if (cancelled_) throw Error(ErrorCode::cancelled, ErrorCategory::runtime, "the execution was cancelled");
            operands.clear();
            for (const std::size_t slot : step.inputs) operands.push_back(&values_[slot]);
            step.compute(operands, values_[step.output]);
        }
        for (std::size_t i = 0; i < outputs.size(); ++i) {
            const Value& value = values_[program_->output_slots[i]];
            // Given memory that fits is written in place, everything else is replaced.
            if (outputs[i].type() != ElementType::f32 || outputs[i].shape() != value.shape) outputs[i] = Tensor(ElementType::f32, value.shape);
            if (outputs[i].size_bytes() > 0) std::memcpy(outputs[i].data(), value.data, outputs[i].size_bytes());
        }
    }

    void cancel() noexcept override { cancelled_ = true; }

private:
    std::shared_ptr<const Program> program_;
    std::vector<Value> values_;            // by slot; memory is kept from run to run
    std::atomic<bool> cancelled_ = false;  // asked for by another thread; cleared when a run starts
};

class Executable final : public ai_vmm::backend::Executable {
public:
    explicit Executable(std::shared_ptr<const Program> program) : program_(std::move(program)) {}
    [[nodiscard]] std::unique_ptr<ai_vmm::backend::Request> create_request() override { return std::make_unique<Request>(program_); }
    [[nodiscard]] std::int64_t memory_bytes() const override { return program_->constant_bytes; }
    [[nodiscard]] std::vector<std::pair<std::string, std::string>> properties() const override {
        return {{"STEPS", std::to_string(program_->steps.size())}};
    }

private:
    std::shared_ptr<const Program> program_;
};

class Backend final : public ai_vmm::backend::Backend {
public:
    [[nodiscard]] std::string_view name() const noexcept override { return kName; }
    [[nodiscard]] std::string_view version() const noexcept override { return "1.0"; }
    [[nodiscard]] std::string engine_version() const override { return "1.0"; }

    [[nodiscard]] std::vector<ai_vmm::DeviceInfo> enumerate() override {
        ai_vmm::DeviceInfo device;
        device.kind = ai_vmm::DeviceKind::cpu;  // the host: merged with what other backends find there
        device.name = "Plain loops";
        ai_vmm::DeviceRoute route;
        route.backend = kName;
        route.backend_device = kDevice;
        route.engine_version = engine_version();
        route.precisions = {"f32"};
        device.routes.push_back(std::move(route));
        return {device};
    }

    [[nodiscard]] Support supports(const Model& model, const CompileConfig& config) override {
        Support support;
        support.reason = config_refusal(config);
        if (support.reason.empty() && !model.graph) support.reason = "there is no graph: " + model.graph_refusal;
        if (!support.reason.empty()) return support;
        for (const auto& node : model.graph->get_ordered_ops()) {
            const std::string text = refusal(*node);
            if (text.empty()) continue;
            if (support.reason.empty()) support.reason = text;
            support.unsupported_nodes.push_back(node->get_friendly_name());
        }
        support.supported = support.reason.empty();
        return support;
    }

    [[nodiscard]] std::unique_ptr<ai_vmm::backend::Executable> compile(const Model& model, const CompileConfig& config) override {
        if (const Support support = supports(model, config); !support.supported) {
            throw Error(ErrorCode::unimplemented, ErrorCategory::compilation, support.reason);
        }
        return std::make_unique<Executable>(compile_program(model));
    }

private:
    /// What of `config` can't be kept; empty if all can.
    static std::string config_refusal(const CompileConfig& config) {
        if (config.device != kDevice) return "there is no device '" + config.device + "', only '" + kDevice + "'";
        if (config.precision != Precision::f32) return "only f32 is computed, not " + std::string(to_string(config.precision));
        if (config.threads != 1 || config.streams < 1) return "each execution takes one thread";
        return {};
    }
};

}  // namespace naive

AI_VMM_DEFINE_BACKEND(naive::Backend)
