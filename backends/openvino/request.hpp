// SPDX-License-Identifier: Apache-2.0
/// One execution slot of OpenVINO.
#pragma once

#include <atomic>
#include <chrono>
#include <span>
#include <vector>

#include "ai_vmm/backend/backend.hpp"
#include "executable.hpp"
#include "openvino/runtime/compiled_model.hpp"
#include "openvino/runtime/infer_request.hpp"
#include "openvino/runtime/tensor.hpp"

namespace ai_vmm::openvino {

/// How tensors cross the boundary. Large tensors of the caller are given to the engine as they are: setting one costs about a
/// microsecond, and nothing while address and shape stay. Tensors up to kCopyBytes are copied through the engine's own memory
/// instead, which is cheaper than setting one and needs no allocation when the caller's addresses change.
///
/// InferRequest::infer() runs on the calling thread but feels no cancel(); start_async() does, between two nodes, and costs 20 to 45
/// microseconds more. So a run after one that took kLongRun or more (and the first one) goes through start_async(). cancel() during a
/// shorter run is felt when it ends.
class Request final : public backend::Request {
public:
    Request(ov::CompiledModel compiled, const PortMap& map);

    void run(std::span<const Tensor> inputs, std::span<Tensor> outputs) override;
    void cancel() noexcept override;

private:
    /// A port of the compiled model as it is set now.
    struct Port {
        int index = -1;  ///< of the compiled model; -1: there is none
        ElementType type = ElementType::undefined;
        ov::element::Type engine_type;
        bool fixed = false;         ///< the shape is static
        bool direct = false;        ///< an output that is an input: the engine ignores memory set for it, and may lend the input's
        bool copied = false;        ///< goes through `own` whenever it is small
        ov::Tensor own;             ///< the engine's memory
        ov::Shape shape;            ///< of `own` or of the caller's memory that is set
        Shape declared;             ///< `shape` in our terms, for fixed outputs
        const void* set = nullptr;  ///< the caller's memory that is set; null: `own` is
        int same_as = -1;           ///< an output that repeats this earlier one
    };

    Port make_port(int index, bool is_input);
    void give_input(Port& port, const Tensor& tensor);
    void give_output(Port& port, Tensor& tensor);
    void take_output(Port& port, Tensor& tensor);
    void use_own(Port& port, bool is_input);

    void execute();

    enum class State { idle, running, cancelled };

    ov::CompiledModel compiled_;
    ov::InferRequest request_;
    std::atomic<State> state_ = State::idle;
    std::chrono::steady_clock::duration last_run_;
    bool stateful_ = false;
    std::vector<Port> inputs_;   // per Model::inputs
    std::vector<Port> outputs_;  // per Model::outputs
};

}  // namespace ai_vmm::openvino
