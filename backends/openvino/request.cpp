// SPDX-License-Identifier: Apache-2.0
#include "request.hpp"

#include <algorithm>
#include <cstring>
#include <memory>
#include <utility>

#include "convert.hpp"

namespace ai_vmm::openvino {
namespace {

/// Setting a tensor at a new address costs some 1.2 microseconds and an allocation, at an old address nothing; copying this much 0.3. So a
/// caller who changes addresses gains up to about 128 KiB, and one who doesn't loses little up to here.
constexpr std::size_t kCopyBytes = 16384;

/// From here on the cost of start_async() is under half a percent.
constexpr auto kLongRun = std::chrono::milliseconds(10);

/// OpenVINO wants an address even for no elements.
alignas(64) std::byte no_elements[64];

void* address_of(const Tensor& tensor) {
    // The engine doesn't write to inputs; its Tensor has no read-only form for all types.
    void* data = const_cast<void*>(tensor.data());
    return data == nullptr ? no_elements : data;
}

bool fits(const Tensor& tensor, ElementType type, const ov::Shape& shape) { return tensor.type() == type && equal(tensor.shape(), shape); }

void copy_elements(void* to, const void* from, ElementType type, std::size_t count, std::size_t bytes) {
    if (type == ElementType::string) {
        std::copy_n(static_cast<const std::string*>(from), count, static_cast<std::string*>(to));
    } else if (bytes > 0) {
        std::memcpy(to, from, bytes);
    }
}

}  // namespace

Request::Request(ov::CompiledModel compiled, const PortMap& map)
    : compiled_(std::move(compiled)), request_(compiled_.create_infer_request()), last_run_(kLongRun) {
    stateful_ = !request_.query_state().empty();
    for (const int index : map.inputs) inputs_.push_back(index < 0 ? Port{} : make_port(index, true));
    for (std::size_t i = 0; i < map.outputs.size(); ++i) {
        outputs_.push_back(make_port(map.outputs[i], false));
        Port& port = outputs_.back();
        port.direct = map.direct[i] != 0;
        port.copied = port.copied || (port.direct && port.type != ElementType::string);
        const auto first = std::ranges::find(map.outputs, map.outputs[i]) - map.outputs.begin();
        if (static_cast<std::size_t>(first) < i) port.same_as = static_cast<int>(first);
    }
}

Request::Port Request::make_port(int index, bool is_input) {
    const auto at = static_cast<std::size_t>(index);
    const ov::Output<const ov::Node> node = is_input ? compiled_.input(at) : compiled_.output(at);
    Port port{.index = index};
    port.engine_type = node.get_element_type();
    const auto type = from_openvino(port.engine_type);
    if (!type) {
        throw Error(ErrorCode::unimplemented, ErrorCategory::compilation,
                    "a tensor of element type " + port.engine_type.get_type_name() + " can't cross the engine's boundary");
    }
    port.type = *type;
    port.fixed = node.get_partial_shape().is_static();
    port.own = is_input ? request_.get_input_tensor(at) : request_.get_output_tensor(at);
    if (port.fixed) {
        port.shape = node.get_shape();
        port.declared = from_openvino(port.shape);
    }
    // Strings are shared: copying them would allocate.
    port.copied = port.type != ElementType::string && (!port.fixed || ai_vmm::size_bytes(port.type, port.declared) <= kCopyBytes);
    return port;
}

void Request::use_own(Port& port, bool is_input) {
    if (port.set == nullptr) return;
    const auto at = static_cast<std::size_t>(port.index);
    if (is_input) {
        request_.set_input_tensor(at, port.own);
    } else {
        request_.set_output_tensor(at, port.own);
    }
    port.set = nullptr;
    port.shape = port.own.get_shape();
}

void Request::give_input(Port& port, const Tensor& tensor) {
    if (port.index < 0) return;
    if (tensor.empty()) {
        throw Error(ErrorCode::invalid_argument, ErrorCategory::runtime, "OpenVINO needs a value for every input that the graph uses");
    }
    if (tensor.type() != port.type) {
        throw Error(ErrorCode::invalid_argument, ErrorCategory::runtime, "an input has another element type than the compiled model",
                    {.expected = std::string(to_string(port.type)), .found = std::string(to_string(tensor.type())), .advice = {}});
    }
    if (port.copied && tensor.size_bytes() <= kCopyBytes) {
        use_own(port, true);
        if (!equal(tensor.shape(), port.shape)) {
            ov::Shape shape;
            assign(shape, tensor.shape());
            port.own.set_shape(shape);  // throws for a fixed port
            port.shape = std::move(shape);
        }
        std::memcpy(port.own.data(), tensor.data(), tensor.size_bytes());
        return;
    }
    void* data = address_of(tensor);
    if (port.set == data && equal(tensor.shape(), port.shape)) return;
    ov::Shape shape;
    assign(shape, tensor.shape());
    request_.set_input_tensor(static_cast<std::size_t>(port.index), ov::Tensor(port.engine_type, shape, data));
    port.shape = std::move(shape);
    port.set = data;
}

void Request::give_output(Port& port, Tensor& tensor) {
    // The engine may find another shape than the caller foresaw, so dynamic outputs start in its memory.
    if (!port.fixed || port.copied || port.same_as >= 0) return;
    if (!fits(tensor, port.type, port.shape)) tensor = Tensor(port.type, port.declared);
    void* data = address_of(tensor);
    if (port.set == data) return;
    request_.set_output_tensor(static_cast<std::size_t>(port.index), ov::Tensor(port.engine_type, port.shape, data));
    port.set = data;
}

void Request::take_output(Port& port, Tensor& tensor) {
    if (port.same_as >= 0) {
        const Tensor& first = *(&tensor - (&port - outputs_.data()) + port.same_as);
        if (tensor.type() != first.type() || tensor.shape() != first.shape()) tensor = Tensor(first.type(), first.shape());
        copy_elements(tensor.data(), first.data(), first.type(), first.element_count(), first.size_bytes());
        return;
    }
    if (port.fixed) {
        if (!port.copied) return;  // written in place
        if (!fits(tensor, port.type, port.shape)) tensor = Tensor(port.type, port.declared);
        std::memcpy(tensor.data(), port.own.data(), tensor.size_bytes());
        return;
    }
    ov::Tensor result = request_.get_output_tensor(static_cast<std::size_t>(port.index));
    const ov::Shape& shape = result.get_shape();
    const bool given = fits(tensor, port.type, shape);
    if (given || port.direct || result.get_byte_size() <= kCopyBytes) {
        if (!given) tensor = Tensor(port.type, from_openvino(shape));
        copy_elements(tensor.data(), result.data(), port.type, tensor.element_count(), tensor.size_bytes());
        return;
    }
    // Large: hand the engine's memory out and give it new memory for the next run.
    auto owner = std::make_shared<ov::Tensor>(std::move(result));
    tensor = Tensor::adopt(port.type, from_openvino(owner->get_shape()), owner->data(), owner);
    request_.set_output_tensor(static_cast<std::size_t>(port.index), ov::Tensor(port.engine_type, ov::Shape(owner->get_shape().size(), 0)));
}

void Request::execute() {
    const auto start = std::chrono::steady_clock::now();
    if (last_run_ < kLongRun) {
        request_.infer();
    } else {
        request_.start_async();
        // A cancel() that came before start_async() met an idle engine.
        if (state_ == State::cancelled) request_.cancel();
        request_.wait();
    }
    last_run_ = std::chrono::steady_clock::now() - start;
}

void Request::run(std::span<const Tensor> inputs, std::span<Tensor> outputs) {
    if (inputs.size() != inputs_.size() || outputs.size() != outputs_.size()) {
        throw Error(ErrorCode::invalid_argument, ErrorCategory::runtime, "run() needs one tensor per input and output of the model");
    }
    state_ = State::running;
    try {
        for (std::size_t i = 0; i < inputs.size(); ++i) give_input(inputs_[i], inputs[i]);
        for (std::size_t i = 0; i < outputs.size(); ++i) give_output(outputs_[i], outputs[i]);
        if (stateful_) request_.reset_state();
        execute();
        for (std::size_t i = 0; i < outputs.size(); ++i) take_output(outputs_[i], outputs[i]);
        if (state_.exchange(State::idle) == State::cancelled)
            throw Error(ErrorCode::cancelled, ErrorCategory::runtime, "the execution was cancelled");
    } catch (...) {
        state_ = State::idle;
        rethrow_as_error(Phase::run);
    }
}

void Request::cancel() noexcept {
    State expected = State::running;
    if (!state_.compare_exchange_strong(expected, State::cancelled)) return;
    try {
        request_.cancel();
    } catch (...) {  // nothing was running
    }
}

}  // namespace ai_vmm::openvino
