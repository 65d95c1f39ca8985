// SPDX-License-Identifier: Apache-2.0
/// The backend `cuda`: our own lowering of `ov::Model` for NVIDIA GPUs.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "ai_vmm/backend/backend.hpp"
#include "device/device.hpp"
#include "executable.hpp"

namespace ai_vmm::cuda {

/// A device that can be opened.
struct DeviceEntry {
    DeviceInfo info;  ///< with one route, to this backend
    std::function<std::shared_ptr<Device>()> open;
    int ordinal = 0;  ///< what Device::ordinal() will be
};

/// What enumerates devices; called by every enumerate().
using Discover = std::function<std::vector<DeviceEntry>()>;

class Backend : public backend::Backend {
public:
    /// @param engine_version  of the driver and the libraries that results depend on
    Backend(Discover discover, std::string engine_version) : discover_(std::move(discover)), engine_version_(std::move(engine_version)) {}

    [[nodiscard]] std::string_view name() const noexcept override { return "cuda"; }
    [[nodiscard]] std::string_view version() const noexcept override { return "0.1.0"; }
    [[nodiscard]] std::string engine_version() const override { return engine_version_; }
    [[nodiscard]] std::vector<DeviceInfo> enumerate() override;
    void prepare(const std::string& device) noexcept override;
    [[nodiscard]] backend::Support supports(const backend::Model& model, const backend::CompileConfig& config) override;
    [[nodiscard]] backend::NodeSupport node_support(const backend::Model& model, const backend::CompileConfig& config) override;
    [[nodiscard]] std::unique_ptr<backend::Executable> compile(const backend::Model& model, const backend::CompileConfig& config) override;
    [[nodiscard]] std::unique_ptr<backend::Executable> import_blob(std::span<const std::byte> blob, const backend::Model& model,
                                                                   const backend::CompileConfig& config) override;
    [[nodiscard]] backend::Outline outline(const backend::Model& model, const backend::CompileConfig& config) override;
    void copy(const Tensor& from, Tensor& to) override;

private:
    /// Opened at first use and kept. @throws Error(unimplemented) no such device; Error(unavailable) it has failed.
    const Home& home(const std::string& name);
    /// @throws Error(invalid_argument) no device of that number; Error(unavailable) it has failed.
    TensorMemory& memory(int ordinal);
    const Home& opened(const DeviceEntry& entry);  // under mutex_
    void check_compilable(const backend::Model& model, const backend::CompileConfig& config) const;

    const Discover discover_;
    const std::string engine_version_;
    std::mutex mutex_;                   // guards homes_
    std::map<std::string, Home> homes_;  // by the backend's device name; never removed
};

}  // namespace ai_vmm::cuda
