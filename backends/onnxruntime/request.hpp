// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "executable.hpp"

namespace ai_vmm::ort {

class OrtRequest final : public backend::Request {
public:
    explicit OrtRequest(std::shared_ptr<const SharedSession> shared);

    void run(std::span<const Tensor> inputs, std::span<Tensor> outputs) override;
    void cancel() noexcept override;

private:
    /// An OrtValue over the caller's memory, kept as long as the caller gives the same memory and shape.
    struct Slot {
        Owner<OrtValue> value;
        const void* data = nullptr;
        Shape shape;
    };

    OrtValue* bind(Slot& slot, const Tensor& tensor);
    /// Runs on input_values_ and output_values_; null ones are allocated by the engine.
    OrtStatus* execute();
    /// As execute(), for a caller who gives the same tensors again and again: the engine looks their names up once.
    /// @param all_given  no output is left to the engine
    OrtStatus* execute_bound(bool all_given);
    /// Ends what cancel() may reach. @return whether it was called meanwhile
    bool end_cancellable() noexcept;
    Tensor take(std::size_t index, Owner<OrtValue> value, std::span<const Tensor> inputs) const;

    std::shared_ptr<const SharedSession> shared_;
    Owner<OrtRunOptions> options_;
    std::vector<Slot> input_slots_;   // per Model::inputs
    std::vector<Slot> output_slots_;  // per Model::outputs
    std::vector<const char*> input_names_;
    std::vector<std::size_t> output_index_;  // which of Model::outputs the session is asked for: each of its outputs once
    std::vector<const char*> output_names_;  // per output_index_
    std::vector<const OrtValue*> input_values_;
    std::vector<OrtValue*> output_values_;  // per output_index_

    Owner<OrtIoBinding> binding_;           // null until it is worth having one
    std::vector<const char*> bound_names_;  // of the inputs in it
    std::uint64_t values_made_ = 0;         // counts the values that bind() made
    std::uint64_t bound_at_ = 0;            // values_made_ when binding_ was filled
    std::uint64_t last_made_ = 0;           // values_made_ in the execution before
    int repeats_ = 0;                       // executions since it changed

    enum class State { idle, running, cancelling, cancelled };
    std::atomic<State> state_ = State::idle;
};

}  // namespace ai_vmm::ort
