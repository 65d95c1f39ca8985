// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "ai_vmm/backend/backend.hpp"
#include "ai_vmm/device.hpp"

namespace ai_vmm::hal {

/// Loads backend libraries and knows the devices they reach. Thread-safe. A library that can't be loaded, was built for another interface or
/// whose vendor library is missing is reported and skipped. Libraries stay loaded until the process ends (engines keep threads).
class Registry {
public:
    struct Options {
        std::vector<std::filesystem::path> paths;  ///< libraries, or folders with libai_vmm_backend_*.so
        bool load_installed = true;                ///< `backends/` beside this library, and $AI_VMM_BACKEND_PATH
    };
    explicit Registry(const Options& options);
    ~Registry();

    /// Merged devices and the report on every backend looked at. Cached; `refresh` asks the backends again.
    [[nodiscard]] Hardware discover(bool refresh = false);
    /// nullptr if not loaded.
    [[nodiscard]] backend::Backend* find(std::string_view name) const noexcept;
    [[nodiscard]] std::vector<backend::Backend*> backends() const;
    /// backend::Backend::copy() of the first backend that reaches both places. @throws Error(unimplemented) none does.
    void copy(const Tensor& from, Tensor& to) const;

private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

/// Merges lists of devices as backends report them: the same UUID, PCI address or (for CPUs) the host become one device with several routes.
/// Ids are given by kind in order. Pure.
[[nodiscard]] std::vector<DeviceInfo> merge_devices(std::vector<DeviceInfo> found);

/// The processor of this machine: name, vendor, cores usable by this process (affinity and cgroup quota), memory, features.
[[nodiscard]] DeviceInfo host_cpu();

/// Measures the host's memory bandwidth and f32 rate, some 30 ms; the result is cached in the process.
[[nodiscard]] DeviceScores measure_host_scores();

}  // namespace ai_vmm::hal
