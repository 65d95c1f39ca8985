// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstddef>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "ai_vmm/backend/backend.hpp"
#include "library.hpp"
#include "session.hpp"

namespace ai_vmm::ort {

/// Which of Model::inputs and Model::outputs a session's ports are, under the session's names.
struct Binding {
    std::vector<std::string> input_names;  ///< per Model::inputs; empty: the session has no such input
    std::vector<std::string> output_names;
};

/// What requests share; kept alive by every tensor whose memory the session allocated.
struct SharedSession {
    Owner<OrtSession> session;
    Owner<OrtMemoryInfo> memory;  ///< the caller's memory
    bool bindable = false;        ///< tensors are computed on where they are, so that they may be bound for many executions
    std::vector<TensorInfo> inputs;
    std::vector<TensorInfo> outputs;
    Binding binding;
    std::vector<std::size_t> same_as;  ///< per Model::outputs: the first one under the same session name, often itself
};

/// How to get the model's bytes again for export_blob(), so that they need not be kept; empty: there is no way.
using Reload = std::function<ModelBytes()>;

class OrtExecutable final : public backend::Executable {
public:
    /// @param sessions  at least one, all of the same model; requests take turns with them
    /// @throws Error(unimplemented) an input or output is no tensor; Error(invalid_argument) names or types differ from the model's.
    OrtExecutable(std::vector<Owner<OrtSession>> sessions, const backend::Model& model, Binding binding, backend::CompileConfig config,
                  std::size_t bytes, std::string source, Reload reload);

    std::unique_ptr<backend::Request> create_request() override;
    std::int64_t memory_bytes() const override { return memory_bytes_; }
    std::vector<std::pair<std::string, std::string>> properties() const override;
    void export_blob(std::ostream& out) const override;

private:
    std::vector<std::shared_ptr<const SharedSession>> shared_;
    std::atomic<std::size_t> requests_{0};
    backend::CompileConfig config_;
    std::int64_t memory_bytes_;
    std::string source_;  ///< "onnx", "lowered graph" or "import"
    Reload reload_;
};

}  // namespace ai_vmm::ort
