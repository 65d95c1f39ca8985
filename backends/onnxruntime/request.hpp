// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <mutex>
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
    OrtStatus* execute();
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

    std::mutex mutex_;  // guards what follows; run() holds it only on entry and exit
    bool running_ = false;
    bool cancelled_ = false;
};

}  // namespace ai_vmm::ort
