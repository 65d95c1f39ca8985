// SPDX-License-Identifier: Apache-2.0
/// A schedule made ready on a device, and its executions.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <iosfwd>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "ai_vmm/model.hpp"
#include "device/device.hpp"
#include "program/schedule.hpp"
#include "program/stored_program.hpp"
#include "program/weights.hpp"

namespace ai_vmm::cuda {

/// Constants that are on the device.
using HeldWeights = std::map<ValueId, std::shared_ptr<const Weight>>;

/// Per root of Schedule::prepared what its content follows from, as a digest: the constants' bytes and the text, launch and operands of every kernel
/// that touched it. Equal recipes, equal contents. Those that a library computed have none.
[[nodiscard]] std::map<ValueId, std::string> recipes(const Schedule& schedule, const HeldWeights& held = {});

/// Compiled for one set of shapes. Immutable after construction; several executions may share it.
class Program {
public:
    enum class Keep : std::uint8_t {
        what_runs,  ///< constants that steps read; what weights of other types are made from leaves the device again
        everything  ///< so that a program of the same model for other shapes uploads nothing
    };
    /// Schedules, compiles the kernels, uploads the constants and computes what depends on them alone.
    /// @throws Error(unimplemented, resource_exhausted, internal).
    Program(std::shared_ptr<Device> device, Graph graph, std::shared_ptr<WeightStore> weights, Keep keep = Keep::what_runs);

    /// What write_to() wrote: makes the library calls and kernels and uploads the weights, each unless another program holds the same.
    /// @throws Error(data_loss) a library does not take a call; Error(resource_exhausted, internal).
    Program(std::shared_ptr<Device> device, StoredProgram stored, std::shared_ptr<WeightStore> weights);

    /// For a program in another process on the same kind of device with the same libraries: the schedule and the weights as they lie on the device.
    /// @param written  recipes of weights that programs before it in `out` have, which are not written again; those of this one are added. Null: it
    /// stands alone
    /// @throws Error(unimplemented) it has steps on the host; Error(internal).
    void write_to(std::ostream& out, std::set<std::string>* written = nullptr) const;

    [[nodiscard]] const Schedule& schedule() const noexcept { return schedule_; }
    [[nodiscard]] Device& device() const noexcept { return *device_; }
    /// Of weights and of results computed from them, without what pages leave over.
    [[nodiscard]] std::int64_t weight_bytes() const noexcept;

private:
    friend class Execution;
    void enqueue(const std::vector<Step>& steps, std::size_t begin, std::size_t end, const std::vector<DevicePtr>& roots, DevicePtr workspace,
                 Stream& stream) const;
    void hold(const std::vector<ValueId>& constants, Stream& stream);
    void load_kernels();
    void prepare(Stream& stream);
    [[nodiscard]] std::vector<DevicePtr> roots(DevicePtr arena) const;

    const std::shared_ptr<Device> device_;
    const std::shared_ptr<WeightStore> weights_;
    const Keep keep_;
    Schedule schedule_;
    std::shared_ptr<Module> module_;
    std::vector<Kernel> kernels_;
    std::vector<DevicePtr> fixed_;  ///< per value: the address of a constant or prepared root, else 0
    HeldWeights held_;
    std::vector<std::shared_ptr<const PreparedWeight>> prepared_;
    std::map<ValueId, std::string> recipes_;  ///< of what was prepared; of all weights, where the program was stored
    mutable std::mutex calls_mutex_;          ///< library calls run from one thread at a time
};

/// What a program and one execution of it take, in whole pages of the device; without the context.
[[nodiscard]] MemoryEstimate memory_of(const Schedule& schedule, Program::Keep keep);

/// Where a caller's tensor lies: in the host's memory, or in that of a device.
struct Endpoint {
    void* host = nullptr;
    DevicePtr device = 0;     ///< if `host` is null
    Device* owner = nullptr;  ///< whose memory `device` is; null: the program's device
    [[nodiscard]] bool on_device() const noexcept { return device != 0; }
};

/// One execution at a time of a program, with its own memory and stream. Not thread-safe but for cancel().
class Execution {
public:
    /// @throws Error(resource_exhausted, internal).
    explicit Execution(std::shared_ptr<const Program> program);
    ~Execution();
    Execution(const Execution&) = delete;
    Execution& operator=(const Execution&) = delete;

    /// Copies inputs in, runs, copies outputs out; returns when they are there. Inputs on the program's device whose addresses come again are read
    /// where they are; others are copied within the device. What the default stream of their device has been given so far is waited for first.
    /// @param inputs   per Graph::inputs, row-major; host memory is only read
    /// @param outputs  per Graph::outputs, to be written
    /// @throws Error(cancelled, internal).
    void run(std::span<const Endpoint> inputs, std::span<const Endpoint> outputs);
    /// With everything in the host's memory.
    void run(std::span<const void* const> inputs, std::span<void* const> outputs);
    void cancel() noexcept { cancelled_ = true; }
    [[nodiscard]] const Program& program() const noexcept { return *program_; }

    /// Runs again on what the last run left, without copies from or to the host; gives the device's microseconds. For benchmarks.
    [[nodiscard]] double replay_us();
    /// Device microseconds per step, each alone and again and again, so that what it reads is in the cache if it fits: for profiles. Values that the
    /// last run left are overwritten.
    [[nodiscard]] std::vector<std::pair<std::string, double>> profile();

    /// Pinned memory of the host between callers' tensors and the device, bytes.
    [[nodiscard]] static std::int64_t staging_bytes(const Schedule& schedule);

private:
    struct Segment {
        std::size_t begin = 0, end = 0;
        bool host = false;
        std::unique_ptr<RecordedGraph> recording;
    };
    /// The program's steps over some addresses of its inputs.
    struct Bound {
        std::vector<DevicePtr> inputs;  ///< 0: in the arena
        std::vector<DevicePtr> roots;
        std::vector<Segment> segments;
        int uses = 0;
    };
    /// One of a caller's outputs, or a part of it, on its way through the staging memory.
    struct Piece {
        void* to = nullptr;
        const std::byte* from = nullptr;
        std::size_t bytes = 0;
    };
    [[nodiscard]] std::vector<Segment> segments() const;
    [[nodiscard]] std::unique_ptr<RecordedGraph> record(const std::function<void()>& work);
    void run_host(const Step& step, const std::vector<DevicePtr>& roots);
    void run_segments(Bound& bound);
    void stop_if_cancelled();
    /// Uploads, steps and downloads as one recording, as far as the tensors are small. For programs of one segment.
    void run_call();
    [[nodiscard]] Bound& bound_for(std::span<const Endpoint> inputs);
    void take_in(std::span<const Endpoint> inputs, const Bound& bound, bool uploads_recorded);
    void give_out(std::span<const Endpoint> outputs, bool downloads_recorded);

    const std::shared_ptr<const Program> program_;
    std::unique_ptr<Stream> stream_;
    Buffer arena_, workspace_;
    std::byte* staging_ = nullptr;  ///< pinned: inputs, then outputs, as in the arena; then outputs that are not there
    std::vector<std::size_t> input_at_, output_at_, input_bytes_, output_bytes_;
    std::size_t inputs_total_ = 0, outputs_total_ = 0;  ///< in the arena
    Bound in_arena_;
    std::list<Bound> elsewhere_;  ///< last used first
    std::unique_ptr<RecordedGraph> call_;
    std::vector<Endpoint> endpoints_;
    std::vector<DevicePtr> wanted_;
    std::vector<Piece> pieces_;
    bool ran_ = false;
    std::atomic<bool> cancelled_ = false;
};

}  // namespace ai_vmm::cuda
