// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "ai_vmm/vmm.hpp"
#include "planning/planner.hpp"
#include "runtime/latency_histogram.hpp"
#include "runtime/stage.hpp"

namespace ai_vmm::runtime {

/// Runs a plan: hands callers the slots of the active stage, bounds the queue, keeps time-outs, falls back to the next candidate.
///
/// Threads: run() works on the caller's thread. submit() and run_batch() use worker threads, started by their first use.
/// Locks: `mutex_` guards the active stage, the queue and the counters that waiting depends on; it is never held while an engine runs.
/// A caller that nobody waits for leaves its slot taken for the next one, in `parked_`: one exchange each instead of four locks. Whoever has to wait,
/// and stop(), sets kWanted there, which hands a parked slot back and keeps others from being parked.
/// Shutdown: stop() refuses new callers, wakes waiting ones with failed_precondition, and returns when running ones have ended.
///
/// Places: tensors that a stage doesn't read where they are, it gets as copies in the host's memory, and its outputs are copied to where they are
/// asked for.
///
/// Fallback: an execution that fails in the engine (not: bad input, cancelled) is repeated on the next candidate. If that succeeds the caller gets
/// its outputs; after `kFailuresToDemote` such failures in a row (or at once if the device is unavailable) the next candidate becomes the active one.
/// If every candidate fails on the same input the first error is the caller's and nothing changes: the input is to blame.
class DeploymentEngine {
public:
    struct Options {
        std::string name;
        std::vector<TensorInfo> inputs;
        std::vector<TensorInfo> outputs;
        std::vector<planning::CandidateKey> fallbacks;
        double promised_latency_ms = 0;
        bool batchable = false;
        int max_queue = 1024;
        /// As backend::Backend::copy(), over all backends. Needed for tensors in places that a stage doesn't read.
        std::function<void(const Tensor& from, Tensor& to)> copy;
    };

    DeploymentEngine(Options options, std::shared_ptr<Stage> active, std::shared_ptr<StageFactory> factory);
    ~DeploymentEngine();

    [[nodiscard]] const std::vector<TensorInfo>& inputs() const noexcept { return options_.inputs; }
    [[nodiscard]] const std::vector<TensorInfo>& outputs() const noexcept { return options_.outputs; }

    /// Orders named tensors as the model's inputs. @throws Error(invalid_argument) unknown, missing or repeated names.
    void arrange(const TensorMap& named, std::span<Tensor> ordered) const;

    /// See Deployment::execute_into().
    void run(std::span<const Tensor> inputs, std::span<Tensor> outputs, const RunOptions& options);
    /// See Deployment::execute_async(). `done` runs on a worker thread.
    void submit(std::vector<Tensor> inputs, RunOptions options, std::function<void(RunResult)> done);
    /// See Deployment::execute_batch().
    [[nodiscard]] std::vector<TensorMap> run_batch(std::span<const TensorMap> batch, const RunOptions& options);

    /// See Deployment::profile().
    [[nodiscard]] std::vector<StepTime> profile(std::span<const Tensor> inputs, const RunOptions& options);

    void stop();
    [[nodiscard]] DeploymentMetrics metrics() const;
    [[nodiscard]] std::shared_ptr<Stage> active() const;

    static constexpr int kFailuresToDemote = 3;

private:
    using Clock = std::chrono::steady_clock;
    struct Lease;
    /// A slot that is taken.
    struct Held {
        std::shared_ptr<Stage> stage;
        Stage::Slot* slot;
    };
    struct Task {
        std::vector<Tensor> inputs;
        RunOptions options;
        std::function<void(RunResult)> done;
    };

    /// What the groups of one batch use again.
    struct GroupScratch {
        std::vector<const Tensor*> parts;  ///< every input's tensors, side by side
        std::vector<Tensor> inputs;
        std::vector<Tensor> outputs;
    };

    /// Calls take(index, tensor) for every named tensor; see arrange().
    template <typename Take>
    void match(const TensorMap& named, const Take& take) const;
    void check(std::span<const Tensor> inputs, std::span<Tensor> outputs) const;
    /// @param polite  not before one of those who wait already has had its turn. Otherwise who comes first takes it: to wake another thread for every
    ///                slot takes longer than small models do.
    [[nodiscard]] Lease acquire(const RunOptions& options, Clock::time_point deadline, bool polite = false);
    /// The slot that the last caller left; null if there is none.
    [[nodiscard]] std::unique_ptr<Held> take_parked();
    /// Leaves the slot to the next caller, or to who waits for it. The engine may be gone when it returns.
    void release(std::unique_ptr<Held> held) noexcept;
    /// Call with mutex_ held: hands back what `word` of parked_ names.
    void hand_back(std::uintptr_t word) noexcept;
    void run_on(Stage& stage, Stage::Slot& slot, std::span<const Tensor> inputs, std::span<Tensor> outputs, const RunOptions& options,
                Clock::time_point deadline);
    /// As run_on() for a stage that can't reach all the tensors: through copies in the host's memory.
    void run_through_host(Stage& stage, Stage::Slot& slot, std::span<const Tensor> inputs, std::span<Tensor> outputs, const RunOptions& options,
                          Clock::time_point deadline);
    void run_admitted(std::span<const Tensor> inputs, std::span<Tensor> outputs, const RunOptions& options);
    /// Runs on a slot that is taken. @return whether the slot's stage itself answered, so that it may be used again
    bool run_leased(const Lease& lease, std::span<const Tensor> inputs, std::span<Tensor> outputs, const RunOptions& options,
                    Clock::time_point deadline, int items);
    /// Runs groups of a batch on one slot as long as nobody waits for it.
    /// @param inputs_for  gives the inputs when the slot is there, and may use its scratch
    template <typename Inputs>
    void run_in_turn(std::unique_ptr<Lease>& lease, const Inputs& inputs_for, std::span<Tensor> outputs, const RunOptions& options, int items);
    [[nodiscard]] static Clock::time_point deadline_of(const RunOptions& options);
    /// Call with mutex_ held whenever waiting_ or stopped_ changed.
    void update_wanted() noexcept;
    bool run_fallbacks(const Stage& failed, const Error& error, std::span<const Tensor> inputs, std::span<Tensor> outputs, const RunOptions& options,
                       Clock::time_point deadline);
    [[nodiscard]] std::shared_ptr<Stage> fallback_after(const planning::CandidateKey& key);
    void run_group(std::span<const TensorMap> items, std::span<TensorMap> results, const RunOptions& options, GroupScratch& scratch,
                   std::unique_ptr<Lease>& lease);
    [[nodiscard]] TensorMap name_outputs(std::vector<Tensor> outputs) const;
    void post(std::function<void()> work, bool bounded);
    void note(std::string event);

    const Options options_;
    const std::shared_ptr<StageFactory> factory_;

    mutable std::mutex mutex_;
    std::condition_variable_any slot_freed_;
    std::condition_variable_any idle_;
    std::shared_ptr<Stage> active_;
    int running_ = 0;
    int waiting_ = 0;
    int polite_ = 0;           ///< of them
    std::uint64_t turns_ = 0;  ///< counts the others who ended waiting
    bool stopped_ = false;
    std::atomic<const Stage*> active_stage_;  ///< active_, to compare with
    static constexpr std::uintptr_t kWanted = 1;
    std::atomic<std::uintptr_t> parked_{0};  ///< a Held*, counted in running_; or kWanted: somebody waits for a slot, or for all to be given back
    std::atomic<int> consecutive_failures_{0};
    struct Event {
        std::string text;
        std::uint64_t times = 1;  // in a row
    };
    std::vector<Event> events_;

    std::mutex fallback_mutex_;  // guards the stages made for fallbacks; held while one compiles
    std::vector<std::shared_ptr<Stage>> fallback_stages_;

    /// Outlives the engine if a callback destroys it: the worker that runs it still looks at its queue.
    struct WorkQueue {
        std::mutex mutex;
        std::condition_variable_any ready;
        std::deque<std::function<void()>> items;
    };
    const std::shared_ptr<WorkQueue> work_ = std::make_shared<WorkQueue>();
    std::vector<std::jthread> workers_;  // guarded by work_->mutex

    LatencyHistogram latency_;
    std::atomic<std::uint64_t> executions_{0};
    std::atomic<std::uint64_t> failures_{0};
    std::atomic<std::uint64_t> cancelled_{0};
    std::atomic<std::uint64_t> rejected_{0};
    std::atomic<std::uint64_t> fallbacks_{0};
};

}  // namespace ai_vmm::runtime
