// SPDX-License-Identifier: Apache-2.0
/// Choosing among a library's engines by measuring them.
#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "device/device.hpp"
#include "libraries/specs.hpp"

namespace ai_vmm::cuda {

/// How an engine is chosen.
struct Tuning {
    bool measure = false;                            ///< time the candidates on the device; otherwise the library's first
    std::string choice;                              ///< LibraryCall::choice() of an equal specification; taken without a search where it still fits
    std::size_t workspace_limit_bytes = 64U << 20U;  ///< engines that need more are left out
    int candidates = 16;                             ///< at most this many are tried
    int limit_ms = 300;                              ///< no further candidate is begun after this: building one may take as long by itself
};

/// Device memory for every buffer of a specification, filled with values of magnitude 1/2 to 1 (integers: all values).
/// @throws Error(resource_exhausted).
class Scratch {
public:
    Scratch(Device& device, Stream& stream, std::span<const BufferExtent> extents, std::size_t workspace_bytes);
    ~Scratch();
    Scratch(const Scratch&) = delete;
    Scratch& operator=(const Scratch&) = delete;
    [[nodiscard]] std::span<const std::uint64_t> buffers() const noexcept { return addresses_; }
    [[nodiscard]] std::uint64_t workspace() const noexcept { return workspace_; }

private:
    void fill(Stream& stream, DevicePtr to, const BufferExtent& extent);
    void release() noexcept;
    Device& device_;
    std::vector<std::uint64_t> addresses_;
    DevicePtr workspace_ = 0;
};

/// Device time of one run in microseconds, taken from runs that were recorded into a graph where the device can record, so that what the host takes
/// to enqueue is not counted. @throws what `run` throws, and Error(internal).
/// @param hopeless_us  what a first run must stay below for the others to be worth their time; its own time is returned then
[[nodiscard]] double measure_us(Device& device, Stream& stream, const std::function<void()>& run,
                                double hopeless_us = std::numeric_limits<double>::infinity());

/// Index of the fastest of `count` candidates, or nothing if none runs. `prepare` makes a candidate ready and says what it needs; nothing: it isn't
/// one. A candidate that fails is passed over, unless the device failed with it.
/// @throws Error(internal) the device failed.
struct PreparedCandidate {
    std::size_t workspace_bytes = 0;
    std::function<void(Stream& stream, std::span<const std::uint64_t> buffers, std::uint64_t workspace)> run;
};
[[nodiscard]] std::optional<int> fastest(Device& device, const Tuning& tuning, std::span<const BufferExtent> extents, int count,
                                         const std::function<std::optional<PreparedCandidate>(int)>& prepare);

}  // namespace ai_vmm::cuda
