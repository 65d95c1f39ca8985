// SPDX-License-Identifier: Apache-2.0
/// Constants on a device, and what is computed from them once.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "device/device.hpp"
#include "program/schedule.hpp"

namespace ai_vmm::cuda {

/// Where the next of several values in one allocation starts.
constexpr std::size_t aligned(std::size_t size) { return (size + 255) / 256 * 256; }

/// Memory of one value, alone or side by side with others': the whole is released with the last of them.
struct Part {
    std::shared_ptr<const Buffer> whole;
    DevicePtr address = 0;
};

/// Memory for values of these sizes: large ones side by side in one allocation, since a device gives whole pages to each; small ones, which equal
/// ones of other models are likelier to outlive, each by itself. @throws Error(resource_exhausted).
[[nodiscard]] std::vector<Part> allocate_parts(const std::shared_ptr<Device>& device, std::span<const std::size_t> sizes);
/// What allocate_parts() takes of a device.
[[nodiscard]] std::int64_t parts_bytes(std::span<const std::size_t> sizes);

/// A constant on a device.
class Weight {
public:
    Weight(ConstantData content, std::size_t size) : source(std::move(content)), bytes(size) {}
    /// SHA-256 of the content, hex; worked out once. Thread-safe.
    [[nodiscard]] std::string digest() const;

    Part memory;
    const ConstantData source;  ///< what was uploaded; kept, since it tells whether another constant is the same
    const std::size_t bytes;

private:
    mutable std::mutex mutex_;  // guards digest_
    mutable std::string digest_;
};

/// What a program computed from constants alone.
struct PreparedWeight {
    Part memory;
    std::size_t bytes = 0;
};

/// Constants on a device, uploaded once however many programs read them: those of equal bytes are one, whichever model they come from, as long as
/// anybody holds them; and so is what was computed from equal constants by equal kernels. Thread-safe.
class WeightStore {
public:
    explicit WeightStore(std::shared_ptr<Device> device) : device_(std::move(device)) {}
    /// A copy of each constant on the device. @throws Error(resource_exhausted, internal).
    [[nodiscard]] std::vector<std::shared_ptr<const Weight>> upload(std::span<const Value* const> values, Stream& stream);
    /// What was computed by a recipe (see recipes()); nullptr if nobody holds it.
    [[nodiscard]] std::shared_ptr<const PreparedWeight> find(const std::string& recipe) const;
    /// For find(), once its content is there. @returns what another program has added meanwhile, or `made`
    [[nodiscard]] std::shared_ptr<const PreparedWeight> add(const std::string& recipe, std::shared_ptr<const PreparedWeight> made);

private:
    [[nodiscard]] std::shared_ptr<const Weight> held(std::uint64_t hash, const Value& value);

    const std::shared_ptr<Device> device_;
    mutable std::mutex mutex_;                                             // guards what follows
    std::multimap<std::uint64_t, std::weak_ptr<const Weight>> weights_;    // by a hash of size and some bytes
    std::map<std::string, std::weak_ptr<const PreparedWeight>> prepared_;  // by recipe
};

/// What a program's weights take of a device that holds none of them: equal constants once, in whole pages.
/// @param preparation  also those that are read to prepare others
[[nodiscard]] std::int64_t weight_footprint(const Schedule& schedule, bool preparation);

}  // namespace ai_vmm::cuda
