// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string>

#include "device/device.hpp"

namespace ai_vmm::cuda {

/// Engines that vendor libraries were found to be fastest with, kept in the cache (driver/kept.hpp): another process need not time them again.
/// An entry belongs to a specification, a device's model and a driver; a choice names its library's version itself. Thread-safe, and safe among
/// processes. What can't be read or written is as if it were not there.
class ChoiceStore {
public:
    ChoiceStore(const Capabilities& device, int driver_version);
    [[nodiscard]] std::optional<std::string> find(const std::string& specification) const;
    void keep(const std::string& specification, const std::string& choice) const;

private:
    std::string device_, driver_;
};

}  // namespace ai_vmm::cuda
