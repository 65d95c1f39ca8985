// SPDX-License-Identifier: Apache-2.0
/// Tensors in the memory of GPUs: those that callers give, and those that they are given.
#pragma once

#include <cstddef>
#include <functional>
#include <map>
#include <memory>
#include <mutex>

#include "ai_vmm/tensor.hpp"
#include "device/device.hpp"
#include "program/program.hpp"

namespace ai_vmm::cuda {

/// Memory for tensors that leave the backend. What a caller lets go of serves again, as allocating waits for the device and takes long. Thread-safe.
class TensorMemory : public std::enable_shared_from_this<TensorMemory> {
public:
    explicit TensorMemory(std::shared_ptr<Device> device) : device_(std::move(device)) {}
    /// Not cleared. @throws Error(resource_exhausted, internal).
    [[nodiscard]] Tensor make(ElementType type, const Shape& shape);
    [[nodiscard]] Device& device() const noexcept { return *device_; }

private:
    /// Kept beyond what callers hold.
    static constexpr std::size_t kMostIdleBytes = std::size_t{256} << 20;
    void put_back(Buffer buffer) noexcept;

    const std::shared_ptr<Device> device_;
    std::mutex mutex_;  // guards the rest
    std::multimap<std::size_t, Buffer> idle_;
    std::size_t idle_bytes_ = 0;
};

/// Finds devices by their number. @throws Error(invalid_argument) there is none of that number.
using FindMemory = std::function<TensorMemory&(int ordinal)>;

/// Where a tensor lies, seen from `home`. @throws Error(invalid_argument) the address is not of the device that the tensor names.
[[nodiscard]] Endpoint endpoint_of(const Tensor& tensor, const Device& home, const FindMemory& find);

/// Copies elements between places; see backend::Backend::copy().
void copy_tensor(const Tensor& from, Tensor& to, const FindMemory& find);

}  // namespace ai_vmm::cuda
