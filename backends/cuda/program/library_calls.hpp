// SPDX-License-Identifier: Apache-2.0
/// Library calls of one program. Internal to program/.
#pragma once

#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include "device/device.hpp"
#include "program/schedule.hpp"

namespace ai_vmm::cuda {

/// Equal specifications share one call: a program runs its steps one after another, and a network asks for the same again and again. Not thread-safe.
class LibraryCalls {
public:
    /// @param device  outlives this
    explicit LibraryCalls(Device& device) : device_(device) {}

    /// @returns nullptr where no library takes it. @throws Error(internal) a library failed; Error(resource_exhausted)
    template <typename Spec>
    std::shared_ptr<LibraryCall> make(const Spec& spec) {
        const auto known = std::ranges::find(made_, CallSpec(spec), [](const auto& one) { return one.first; });
        if (known != made_.end()) return known->second;
        return made_.emplace_back(spec, device_.make(spec)).second;
    }

private:
    Device& device_;
    std::vector<std::pair<CallSpec, std::shared_ptr<LibraryCall>>> made_;
};

}  // namespace ai_vmm::cuda
