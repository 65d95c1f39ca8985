// SPDX-License-Identifier: Apache-2.0
/// What programs run on: one GPU, seen through as little as they need. The CUDA driver implements it (driver_device.hpp); tests implement it on the
/// processor, where the generated kernels are compiled as C and run one thread after the other (tests/cuda/host_device.hpp).
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "device/libraries.hpp"
#include "device/types.hpp"

namespace ai_vmm::cuda {

using DevicePtr = std::uint64_t;  ///< an address in device memory; 0: none

/// Grid and block of a launch. Dynamic shared memory is not used.
struct Launch {
    unsigned grid[3] = {1, 1, 1};
    unsigned block[3] = {1, 1, 1};
    /// What the kernel's last parameter, an i64 behind its pointers, is given: how many elements or rows there are, so that kernels for other numbers
    /// of them are the same. Nothing: it has no such parameter.
    std::optional<std::int64_t> limit;
};

/// Stands between the parts of a module's source. Each part compiles without the others, behind what stands before the first: devices may compile
/// them at once.
inline constexpr std::string_view kModulePart = "\n//part\n";

/// A kernel of a loaded module. Lives as long as its Module.
using Kernel = void*;

/// Compiled kernels. Thread-safe.
class Module {
public:
    virtual ~Module() = default;
    /// @throws Error(internal) no kernel of that name.
    [[nodiscard]] virtual Kernel kernel(const std::string& name) = 0;
};

/// Work recorded once and launched often. Not thread-safe; one launch at a time.
class RecordedGraph {
public:
    virtual ~RecordedGraph() = default;
};

class Device;

/// An ordered queue of device work. Not thread-safe. Every call returns before the work is done, but for synchronize().
/// Each throws Error(internal) with the driver's own name of the failure; a failure that poisons the context (illegal access, lost device, launch
/// failure) also marks the Device as failed.
class Stream {
public:
    virtual ~Stream() = default;
    virtual void upload(DevicePtr to, const void* from, std::size_t bytes) = 0;  ///< overlaps with the caller only from pinned memory
    virtual void download(void* to, DevicePtr from, std::size_t bytes) = 0;      ///< likewise
    virtual void copy(DevicePtr to, DevicePtr from, std::size_t bytes) = 0;      ///< within the device
    /// Between devices of one kind. @throws Error(unimplemented) there is no way between these.
    virtual void copy_across(DevicePtr to, const Device& to_device, DevicePtr from, const Device& from_device, std::size_t bytes) = 0;
    /// What comes later waits for what other code of the process has put into the device's default stream so far.
    virtual void wait_for_default() = 0;
    virtual void fill(DevicePtr to, std::uint8_t value, std::size_t bytes) = 0;
    /// @param arguments  addresses of the kernel's arguments, in order
    virtual void launch(Kernel kernel, const Launch& launch, std::span<void* const> arguments) = 0;
    virtual void synchronize() = 0;
    /// Everything done so far since the last call of this, in microseconds of device time: for profiles. Synchronizes.
    [[nodiscard]] virtual double lap_us() = 0;

    /// Records instead of running, until end_recording(). Uploads from and downloads to memory that is not pinned can't be recorded; those that are
    /// recorded read and write it at each launch.
    virtual void begin_recording() = 0;
    /// @returns the work since begin_recording(), ready to be launched.
    [[nodiscard]] virtual std::unique_ptr<RecordedGraph> end_recording() = 0;
    virtual void launch(RecordedGraph& graph) = 0;
    /// The driver's handle (CUstream) for libraries; null where there is none. Makes the device's context current on the calling thread.
    [[nodiscard]] virtual void* native() noexcept { return nullptr; }
};

/// What a device can do, as far as programs are chosen by it.
struct Capabilities {
    std::string name;
    int compute_major = 0;  ///< 9 for Hopper
    int compute_minor = 0;
    int multiprocessors = 1;
    int threads_per_block = 1;  ///< the block size that generated kernels are written for: a power of two
    std::int64_t shared_bytes_per_block = 48 << 10;
    std::int64_t l2_bytes = 0;
    bool recording = false;  ///< begin_recording() works
};

/// One device. Thread-safe.
class Device {
public:
    virtual ~Device() = default;
    [[nodiscard]] virtual const Capabilities& capabilities() const noexcept = 0;

    /// Device memory, aligned to 256 bytes, not cleared. 0 for 0 bytes.
    /// @throws Error(resource_exhausted) naming the bytes needed and free; the device stays usable.
    [[nodiscard]] virtual DevicePtr allocate(std::size_t bytes) = 0;
    virtual void release(DevicePtr pointer) noexcept = 0;
    /// Host memory that transfers overlap with. @throws Error(resource_exhausted).
    [[nodiscard]] virtual void* allocate_pinned(std::size_t bytes) = 0;
    virtual void release_pinned(void* pointer) noexcept = 0;

    /// Whether transfers from and to this host memory, whoever allocated it, go without a copy in between.
    [[nodiscard]] virtual bool is_pinned(const void* pointer) const = 0;
    /// The device's number among those of the process, as callers name it; -1 where there is none.
    [[nodiscard]] virtual int ordinal() const noexcept = 0;
    /// Whether the whole range is memory of this device, whoever allocated it.
    [[nodiscard]] virtual bool owns(DevicePtr pointer, std::size_t bytes) const = 0;
    /// Waits for all work on the device, other code's too.
    virtual void synchronize() = 0;

    /// Compiles `source` (the C subset that codegen/ writes; the device puts its own prelude before it) and loads it. Compiled code is kept by
    /// (source, architecture, library version) for the process.
    /// @throws Error(internal) with the compiler's messages.
    [[nodiscard]] virtual std::shared_ptr<Module> load(const std::string& source) = 0;
    [[nodiscard]] virtual std::unique_ptr<Stream> create_stream() = 0;

    /// Vendor libraries' operations. nullptr: this device has no library for it, or none of its engines takes the case; programs then use generated
    /// kernels. Choosing an engine may time candidates on the device. @throws Error(internal, resource_exhausted).
    [[nodiscard]] virtual std::unique_ptr<LibraryCall> make(const MatmulSpec&) { return nullptr; }
    [[nodiscard]] virtual std::unique_ptr<LibraryCall> make(const ConvolutionSpec&) { return nullptr; }
    [[nodiscard]] virtual std::unique_ptr<LibraryCall> make(const AttentionSpec&) { return nullptr; }
    [[nodiscard]] virtual std::unique_ptr<RecurrentCall> make(const RecurrentSpec&) { return nullptr; }

    /// Opens what load() and make() open at their first calls. Takes as long as that takes; what fails here fails again there.
    virtual void warm_up() noexcept {}

    /// Whether make() would give a call, asked without timing candidates.
    [[nodiscard]] virtual bool takes(const ConvolutionSpec& spec) { return make(spec) != nullptr; }

    /// What make() chose so far, as bytes: given to add_choices() in another process on such a device, they spare it the search and its timings.
    /// Damaged bytes and choices of other versions of a library are ignored.
    [[nodiscard]] virtual std::string choices() const { return {}; }
    virtual void add_choices(std::string_view) {}

    /// Why the device can't be used any more; empty while it can.
    [[nodiscard]] virtual std::string failure() const { return {}; }
    [[nodiscard]] virtual std::int64_t free_bytes() const = 0;
    /// What the process has taken of the device's memory beyond what allocate() gave: the driver's context, kernels, the libraries' own. Told from
    /// how much of the device is in use, so that what other processes do since the device was opened counts too. 0: unknown.
    [[nodiscard]] virtual std::int64_t context_bytes() const { return 0; }
};

/// What an allocation takes of a GPU's memory: the driver gives whole pages of 2 MiB to large ones and packs small ones into such pages.
[[nodiscard]] constexpr std::int64_t allocation_bytes(std::int64_t bytes) noexcept {
    constexpr std::int64_t kPage = std::int64_t{2} << 20, kSmall = kPage / 2, kUnit = 512;
    const std::int64_t unit = bytes < kSmall ? kUnit : kPage;
    return (bytes + unit - 1) / unit * unit;
}

/// Device memory with an owner. Not thread-safe.
class Buffer {
public:
    Buffer() = default;
    Buffer(std::shared_ptr<Device> device, std::size_t bytes) : device_(std::move(device)), pointer_(device_->allocate(bytes)), bytes_(bytes) {}
    ~Buffer() { reset(); }
    Buffer(Buffer&& other) noexcept { *this = std::move(other); }
    Buffer& operator=(Buffer&& other) noexcept {
        if (this != &other) {
            reset();
            device_ = std::move(other.device_);
            pointer_ = std::exchange(other.pointer_, 0);
            bytes_ = std::exchange(other.bytes_, 0);
        }
        return *this;
    }
    [[nodiscard]] DevicePtr get() const noexcept { return pointer_; }
    [[nodiscard]] std::size_t bytes() const noexcept { return bytes_; }

private:
    void reset() noexcept {
        if (pointer_ != 0) device_->release(pointer_);
        pointer_ = 0;
    }
    std::shared_ptr<Device> device_;
    DevicePtr pointer_ = 0;
    std::size_t bytes_ = 0;
};

}  // namespace ai_vmm::cuda
