// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>

#include "device/device.hpp"

namespace ai_vmm::cuda {

/// A GPU through the CUDA driver: its primary context, which is shared with other CUDA code of the process. Thread-safe; any thread may call, and
/// finds its own current context unchanged afterwards (Stream::native() excepted). Memory is plain: what is released is free for others at once.
/// Vendor libraries' operations are left to a class derived from this one.
class DriverDevice : public Device {
public:
    /// @param ordinal  as the driver counts, CUDA_VISIBLE_DEVICES respected
    /// @throws Error(unavailable) no driver, or no such device; Error(internal, resource_exhausted) no context can be made.
    explicit DriverDevice(int ordinal);
    /// Everything made by this device must be gone.
    ~DriverDevice() override;

    [[nodiscard]] const Capabilities& capabilities() const noexcept override;
    [[nodiscard]] DevicePtr allocate(std::size_t bytes) override;
    void release(DevicePtr pointer) noexcept override;
    [[nodiscard]] void* allocate_pinned(std::size_t bytes) override;
    void release_pinned(void* pointer) noexcept override;
    [[nodiscard]] std::shared_ptr<Module> load(const std::string& source) override;
    [[nodiscard]] std::unique_ptr<Stream> create_stream() override;
    [[nodiscard]] std::string failure() const override;
    [[nodiscard]] std::int64_t free_bytes() const override;
    [[nodiscard]] std::int64_t context_bytes() const override;

    /// Bytes that allocate() gave and release() did not take back yet.
    [[nodiscard]] std::int64_t allocated_bytes() const;
    [[nodiscard]] bool is_pinned(const void* pointer) const override;
    [[nodiscard]] int ordinal() const noexcept override;
    [[nodiscard]] bool owns(DevicePtr pointer, std::size_t bytes) const override;
    void synchronize() override;
    /// Of the driver: 13000 for CUDA 13.0.
    [[nodiscard]] int driver_version() const noexcept;
    /// Makes the device's context current on the calling thread for good. @throws Error(internal).
    void make_current() const;

    struct Impl;
    [[nodiscard]] const Impl& impl() const noexcept { return *impl_; }

private:
    std::shared_ptr<Impl> impl_;
};

}  // namespace ai_vmm::cuda
