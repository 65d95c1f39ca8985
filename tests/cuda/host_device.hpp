// SPDX-License-Identifier: Apache-2.0
/// A Device for machines without a GPU: memory of the process, kernels compiled by a C compiler and run one group after the other. It is stricter
/// than a GPU: work waits in the stream until something synchronizes, fresh memory is poisoned, every allocation has red zones, copies must lie
/// within one allocation, downloads of what nothing wrote are reported, and what a GPU refuses while recording is refused.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "device/device.hpp"

namespace ai_vmm::cuda::test {

/// What failures can be injected into.
enum class Call : std::uint8_t {
    allocate,
    allocate_pinned,
    load,
    upload,
    download,
    copy,
    fill,
    launch,
    launch_graph,
    synchronize,
    begin_recording,
    end_recording
};
inline constexpr std::size_t kCalls = 12;

enum class Failure : std::uint8_t {
    once,          ///< Error(internal); the device goes on
    sticky,        ///< Error(internal); the device has failed, and every later call fails too
    out_of_memory  ///< Error(resource_exhausted); the device goes on
};

struct HostDeviceOptions {
    std::int64_t memory_bytes = std::int64_t{8} << 30;  ///< what the device says it has
    bool recording = true;
    int ordinal = 0;
    /// Told about damaged red zones, downloads of fresh memory, leaks, releases of what isn't allocated. Default: a line on standard error.
    /// problems() keeps them too.
    std::function<void(const std::string&)> on_problem;
};

/// Thread-safe, but for inject() and reset_counters(), which nothing may race with.
class HostDevice : public Device {
public:
    struct Counters {
        std::array<std::int64_t, kCalls> calls{};
        std::int64_t allocated_bytes = 0;  ///< now
        std::int64_t peak_allocated_bytes = 0;
        std::int64_t taken_bytes = 0;         ///< now, in whole pages as a GPU gives them (allocation_bytes())
        std::int64_t allocations = 0;         ///< now
        std::int64_t pinned_allocations = 0;  ///< now
        std::int64_t kernels_run = 0;         ///< those of launched graphs too
        std::int64_t waits_for_default = 0;
        std::int64_t compilations = 0;  ///< by the C compiler; not what its cache had
        [[nodiscard]] std::int64_t of(Call call) const { return calls[static_cast<std::size_t>(call)]; }
    };

    explicit HostDevice(HostDeviceOptions options = {});
    /// Reports what is still allocated as problems.
    ~HostDevice() override;

    [[nodiscard]] const Capabilities& capabilities() const noexcept override;
    [[nodiscard]] DevicePtr allocate(std::size_t bytes) override;
    void release(DevicePtr pointer) noexcept override;
    [[nodiscard]] void* allocate_pinned(std::size_t bytes) override;
    void release_pinned(void* pointer) noexcept override;
    [[nodiscard]] bool is_pinned(const void* pointer) const override;
    [[nodiscard]] int ordinal() const noexcept override;
    [[nodiscard]] bool owns(DevicePtr pointer, std::size_t bytes) const override;
    void synchronize() override;
    [[nodiscard]] std::shared_ptr<Module> load(const std::string& source) override;
    [[nodiscard]] std::unique_ptr<Stream> create_stream() override;
    [[nodiscard]] std::string failure() const override;
    [[nodiscard]] std::int64_t free_bytes() const override;

    /// The call after the next `after` calls of this kind fails so. @param after  0: the next one.
    void inject(Call call, Failure failure, int after = 0);
    /// Runs what waits in every stream and looks at every red zone.
    void check();
    [[nodiscard]] std::vector<std::string> problems() const;
    [[nodiscard]] Counters counters() const;
    void reset_counters();

    struct Impl;

private:
    std::shared_ptr<Impl> impl_;
};

/// `source` behind the host's prelude, with an entry for each KERNEL that takes the addresses of its arguments: what HostDevice compiles.
[[nodiscard]] std::string host_source(const std::string& source);
/// Why kernels can't be compiled for the processor: on a machine where the tests run but were not built. Empty if they can.
[[nodiscard]] std::string host_compiler_missing();
/// Compiles C to a shared library, which a process-wide cache in the build folder keeps. @param compiled  whether the compiler ran.
/// @returns its path. @throws Error(internal) with the compiler's messages.
[[nodiscard]] std::string compile_host_library(const std::string& c_source, bool& compiled);

}  // namespace ai_vmm::cuda::test
