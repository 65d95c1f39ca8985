// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "ai_vmm/backend/backend.hpp"

namespace ai_vmm::ort {

/// ONNX Runtime. ONNX models run from their own bytes; every other format, and only those, through the lowering of their graph.
class OrtBackend final : public backend::Backend {
public:
    /// @throws Error(unavailable) the vendor library can't be opened.
    OrtBackend();

    std::string_view name() const noexcept override { return "onnxruntime"; }
    std::string_view version() const noexcept override;
    std::string engine_version() const override;
    std::vector<DeviceInfo> enumerate() override;
    backend::Support supports(const backend::Model& model, const backend::CompileConfig& config) override;
    std::unique_ptr<backend::Executable> compile(const backend::Model& model, const backend::CompileConfig& config) override;
    std::unique_ptr<backend::Executable> import_blob(std::span<const std::byte> blob, const backend::Model& model,
                                                     const backend::CompileConfig& config) override;
};

}  // namespace ai_vmm::ort
