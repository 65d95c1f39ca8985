// SPDX-License-Identifier: Apache-2.0
/// A schedule made ready on a device, and its executions.
#pragma once

#include <atomic>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "device/device.hpp"
#include "program/schedule.hpp"

namespace ai_vmm::cuda {

/// Constants on a device, uploaded once however many programs read them. Thread-safe.
class WeightStore {
public:
    explicit WeightStore(std::shared_ptr<Device> device) : device_(std::move(device)) {}
    /// The address of a copy of the constant on the device. @throws Error(resource_exhausted).
    [[nodiscard]] DevicePtr upload(const Value& value, Stream& stream);
    [[nodiscard]] std::int64_t bytes() const;

private:
    const std::shared_ptr<Device> device_;
    mutable std::mutex mutex_;  // guards the rest
    std::map<const std::byte*, std::pair<Buffer, std::shared_ptr<const void>>> buffers_;
    std::int64_t bytes_ = 0;
};

/// Compiled for one set of shapes. Immutable after construction; several executions may share it.
class Program {
public:
    /// Schedules, compiles the kernels, uploads the constants and computes what depends on them alone.
    /// @throws Error(unimplemented, resource_exhausted, internal).
    Program(std::shared_ptr<Device> device, Graph graph, std::shared_ptr<WeightStore> weights);

    [[nodiscard]] const Schedule& schedule() const noexcept { return schedule_; }
    [[nodiscard]] Device& device() const noexcept { return *device_; }
    /// Memory of weights, of results computed from them, and of one execution, bytes.
    [[nodiscard]] std::int64_t memory_bytes() const noexcept;

private:
    friend class Execution;
    void enqueue(const std::vector<Step>& steps, std::size_t begin, std::size_t end, const std::vector<DevicePtr>& roots, DevicePtr workspace,
                 Stream& stream) const;
    [[nodiscard]] std::vector<DevicePtr> roots(DevicePtr arena) const;

    const std::shared_ptr<Device> device_;
    const std::shared_ptr<WeightStore> weights_;
    Schedule schedule_;
    std::shared_ptr<Module> module_;
    std::vector<Kernel> kernels_;
    std::vector<DevicePtr> fixed_;  ///< per value: the address of a constant or prepared root, else 0
    std::vector<Buffer> prepared_;
    mutable std::mutex calls_mutex_;  ///< library calls run from one thread at a time
};

/// One execution at a time of a program, with its own memory and stream. Not thread-safe but for cancel().
class Execution {
public:
    /// @throws Error(resource_exhausted, internal).
    explicit Execution(std::shared_ptr<const Program> program);
    ~Execution();
    Execution(const Execution&) = delete;
    Execution& operator=(const Execution&) = delete;

    /// Copies inputs in, runs, copies outputs out; returns when they are there.
    /// @param inputs   host addresses, per Graph::inputs, row-major
    /// @param outputs  host addresses, per Graph::outputs, to be written
    /// @throws Error(cancelled, internal).
    void run(std::span<const void* const> inputs, std::span<void* const> outputs);
    void cancel() noexcept { cancelled_ = true; }
    [[nodiscard]] const Program& program() const noexcept { return *program_; }

    /// Runs again on what the last run left, without copies from or to the host; gives the device's microseconds. For benchmarks.
    [[nodiscard]] double replay_us();
    /// Device microseconds per step, each alone and again and again, so that what it reads is in the cache if it fits: for profiles. Values that the
    /// last run left are overwritten.
    [[nodiscard]] std::vector<std::pair<std::string, double>> profile();

private:
    struct Segment {
        std::size_t begin = 0, end = 0;
        bool host = false;
        std::unique_ptr<RecordedGraph> recording;
    };
    void run_host(const Step& step);
    void run_segments();

    const std::shared_ptr<const Program> program_;
    std::unique_ptr<Stream> stream_;
    Buffer arena_, workspace_;
    std::vector<DevicePtr> roots_;
    std::byte* staging_ = nullptr;  ///< pinned: inputs, then outputs
    std::vector<std::size_t> input_at_, output_at_;
    std::vector<Segment> segments_;
    bool ran_ = false;
    std::atomic<bool> cancelled_ = false;
};

}  // namespace ai_vmm::cuda
