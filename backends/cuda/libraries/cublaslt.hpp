// SPDX-License-Identifier: Apache-2.0
/// Matrix multiplications by cuBLASLt, opened at run time. No vendor header is needed to include this.
#pragma once

#include <memory>
#include <string>

#include "device/device.hpp"
#include "libraries/tuning.hpp"

namespace ai_vmm::cuda {

/// cuBLASLt with a handle for one device. Thread-safe.
class CublasLt {
public:
    /// Opens the library and makes a handle; the device's context is current.
    /// @returns null with `reason`, which names the library, what was tried and what to do, where it can't be used.
    [[nodiscard]] static std::shared_ptr<CublasLt> open(Device& device, std::string& reason);
    virtual ~CublasLt() = default;

    /// The library's version, e.g. 130100.
    [[nodiscard]] virtual std::size_t version() const noexcept = 0;
    /// Prepares a multiplication; the device's context is current. The call keeps the handle.
    /// @returns null where lt_problem() has none or no algorithm takes it.
    /// @throws Error(internal) the library failed, or the device did while candidates were timed.
    [[nodiscard]] virtual std::unique_ptr<LibraryCall> make(const MatmulSpec& spec, const Tuning& tuning) = 0;
};

}  // namespace ai_vmm::cuda
