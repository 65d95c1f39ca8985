// SPDX-License-Identifier: Apache-2.0
/// Convolutions, attention and recurrences by cuDNN, opened at run time. No vendor header is needed to include this.
#pragma once

#include <memory>
#include <string>

#include "device/device.hpp"
#include "libraries/tuning.hpp"

namespace ai_vmm::cuda {

/// cuDNN with a handle for one device. Thread-safe: one call prepares or enqueues at a time.
class Cudnn {
public:
    /// Opens the library and makes a handle; the device's context is current.
    /// @returns null with `reason`, which names the library, what was tried and what to do, where it can't be used.
    [[nodiscard]] static std::shared_ptr<Cudnn> open(Device& device, std::string& reason);
    virtual ~Cudnn() = default;

    /// The library's version, e.g. 91400.
    [[nodiscard]] virtual std::size_t version() const noexcept = 0;
    /// Each prepares an operation; the device's context is current. The call keeps the handle.
    /// @returns null where no engine takes the specification whole; with fewer operations fused there may be one. Never taken: types other than f32,
    /// f16
    ///   and bf16 (convolutions: i8 too, see ConvolutionSpec), empty dimensions, hard_swish, attention in f32, features that don't lie side by side.
    /// @throws Error(internal) the device failed while candidates were timed.
    [[nodiscard]] virtual std::unique_ptr<LibraryCall> make(const ConvolutionSpec& spec, const Tuning& tuning) = 0;
    [[nodiscard]] virtual std::unique_ptr<LibraryCall> make(const AttentionSpec& spec, const Tuning& tuning) = 0;
    [[nodiscard]] virtual std::unique_ptr<RecurrentCall> make(const RecurrentSpec& spec, const Tuning& tuning) = 0;
};

}  // namespace ai_vmm::cuda
