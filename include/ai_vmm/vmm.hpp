// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <exception>
#include <filesystem>
#include <functional>
#include <future>
#include <memory>
#include <optional>
#include <span>
#include <stop_token>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ai_vmm/constraints.hpp"
#include "ai_vmm/device.hpp"
#include "ai_vmm/error.hpp"
#include "ai_vmm/model.hpp"
#include "ai_vmm/tensor.hpp"

namespace ai_vmm {

/// Options of one execution.
struct RunOptions {
    std::optional<std::chrono::nanoseconds> timeout;  ///< waiting and running together
    std::stop_token stop;                             ///< cancels waiting or running
    std::optional<MemoryPlace> outputs_in;            ///< where outputs that are not given are made; else in host memory
};

/// Outcome of an asynchronous execution: outputs, or the error.
struct RunResult {
    TensorMap outputs;
    std::exception_ptr error;  ///< null on success; otherwise holds an Error
};

/// Counters and times of one deployment since it was made. Times are of successful executions.
struct DeploymentMetrics {
    std::string name;
    std::uint64_t executions = 0;  ///< succeeded
    std::uint64_t failures = 0;
    std::uint64_t cancelled = 0;    ///< cancelled or timed out
    std::uint64_t rejected = 0;     ///< refused because the queue was full
    std::uint64_t fallbacks = 0;    ///< times another candidate took over
    std::uint64_t queue_depth = 0;  ///< callers waiting now
    double latency_mean_ms = 0;
    double latency_p50_ms = 0;
    double latency_p90_ms = 0;
    double latency_p99_ms = 0;
    double predicted_latency_ms = 0;  ///< what the plan promised
    std::string active_candidate;     ///< e.g. "openvino/cpu:0/bf16/t2/s1/b1"
    std::vector<std::string> events;  ///< fallbacks and failures, newest last, at most 64; "... (3 times)" if one came in a row
};

/// What a deployment is: names, types, shapes, where it runs.
struct DeploymentDescription {
    std::string name;
    std::string source;  ///< path or "<memory>"
    ModelProfile profile;
    std::string engine;  ///< backend and version
    std::string device;  ///< device id
    std::string precision;
    int threads = 0;
    int streams = 0;
    int batch = 1;
    bool from_cache = false;                                      ///< compiled stage was imported rather than compiled
    double deploy_ms = 0;                                         ///< time deploy() took
    std::vector<std::pair<std::string, double>> deploy_steps_ms;  ///< "read", "analyse", "tune", "compile", …
};

/// A decision with every rejected candidate and its reason.
struct Explanation {
    std::string text;  ///< for people
    std::string json;  ///< the same as one JSON object; schema in docs/reference/plan-json.md
};

/// What an engine would make of a model on a device, before anything is loaded there.
struct CandidateOutline {
    std::string engine;
    std::string device;  ///< id
    std::string precision;
    MemoryEstimate memory;
    std::string steps;   ///< in order, with shapes and places: for people
    std::string reason;  ///< why there are none; else empty
};

/// A running model. Made by VMM::deploy(); every method may be called from any number of threads at once.
/// Stays usable until the last shared_ptr goes, even after VMM::undeploy() or the VMM's end; executions after undeploy() throw
/// Error(failed_precondition).
class AI_VMM_API Deployment {
public:
    Deployment(const Deployment&) = delete;
    Deployment& operator=(const Deployment&) = delete;
    ~Deployment();

    /// Inputs and outputs, in the file's order and under its names.
    [[nodiscard]] std::span<const TensorInfo> inputs() const noexcept;
    [[nodiscard]] std::span<const TensorInfo> outputs() const noexcept;

    /// Runs once, on the caller's thread. Names are the file's; every input must be there.
    /// @return outputs in the file's order; they own their memory.
    /// @throws Error(invalid_argument)   unknown, missing or repeated name; wrong type or shape.
    /// @throws Error(resource_exhausted) too many callers are waiting.
    /// @throws Error(deadline_exceeded)  `options.timeout` ran out.   @throws Error(cancelled) `options.stop` was requested.
    /// @throws Error(failed_precondition) after undeploy().
    /// @throws Error(internal)           every candidate engine failed; the message has the last engine's.
    [[nodiscard]] TensorMap execute(const TensorMap& inputs, const RunOptions& options = {});
    /// For models with one input; returns the first output.
    [[nodiscard]] Tensor execute(const Tensor& input, const RunOptions& options = {});
    /// As execute() by position. An empty element of `outputs` is allocated; a non-empty one of fitting type and shape is
    /// written in place. With all outputs given and static shapes no memory is allocated.
    void execute_into(std::span<const Tensor> inputs, std::span<Tensor> outputs, const RunOptions& options = {});

    /// Queues one execution; runs on the deployment's worker threads. Input memory must stay unchanged until it is done.
    /// @throws Error(resource_exhausted) the queue is full.
    [[nodiscard]] std::future<TensorMap> execute_async(TensorMap inputs, RunOptions options = {});
    /// As above; `done` is called once, on a worker thread, and must not throw.
    void execute_async(TensorMap inputs, std::function<void(RunResult)> done, RunOptions options = {});

    /// Runs every element, as many at once as the plan has streams; results in the order of `batch`.
    /// The first error is thrown after all have ended.
    [[nodiscard]] std::vector<TensorMap> execute_batch(std::span<const TensorMap> batch, const RunOptions& options = {});

    /// Inputs to try the model with: `given`, and generated values for the rest, as those that the plan was verified with (ids below the vocabulary,
    /// values that the model compares an input with, images, audio). Deterministic for a seed. Runs the model, which metrics() counts, to see that it
    /// takes them; up to eight kinds of values are tried.
    /// @param shapes  by name, of generated inputs with free dimensions; else what the analyser assumed
    /// @throws Error(invalid_argument) an unknown name, a shape that does not fit, or an input whose values decide shapes is not given.
    /// @throws Error as execute(), with advice: the model refuses every set.
    [[nodiscard]] TensorMap sample_inputs(const TensorMap& given = {}, const std::vector<std::pair<std::string, Shape>>& shapes = {},
                                          std::uint64_t seed = 0);

    /// What each step of an execution takes on the device, by the engine that is active now, in order. metrics() doesn't count it. What else the
    /// device does meanwhile disturbs it.
    /// @throws Error(unimplemented) the engine doesn't tell; Error(invalid_argument) inputs that are not in host memory; as execute().
    [[nodiscard]] std::vector<StepTime> profile(const TensorMap& inputs, const RunOptions& options = {});

    [[nodiscard]] DeploymentDescription describe() const;
    /// @param columns  of the text; fewer than 80 count as 80
    [[nodiscard]] Explanation explain(int columns = 110) const;
    [[nodiscard]] DeploymentMetrics metrics() const;

private:
    friend class VMM;
    struct Impl;
    explicit Deployment(std::unique_ptr<Impl> impl);
    std::unique_ptr<Impl> impl_;
};

/// A model to deploy: a file or directory, or bytes in memory.
struct ModelSource {
    std::filesystem::path path;                ///< file or directory
    std::shared_ptr<const std::string> bytes;  ///< if set: the file's content (ONNX, TFLite, …; single-file formats)

    ModelSource(const char* path_) : path(path_) {}
    ModelSource(std::string path_) : path(std::move(path_)) {}
    ModelSource(std::filesystem::path path_) : path(std::move(path_)) {}
    /// Takes the content itself.
    [[nodiscard]] static ModelSource from_bytes(std::string content) {
        ModelSource source{std::filesystem::path{}};
        source.bytes = std::make_shared<const std::string>(std::move(content));
        return source;
    }
};

/// One model of deploy_all().
struct DeployRequest {
    ModelSource source;
    Constraints constraints;
    std::string name;  ///< default: the file's stem
};

/// Called during long work: a stage name ("read", "tune", …) and how much of the whole is done, 0 to 1.
using Progress = std::function<void(std::string_view stage, double fraction)>;

/// What is in the artifact cache.
struct CacheEntry {
    std::string key;
    std::string model;  ///< name of the model it was built for
    std::string kind;   ///< "plan", "import", …
    std::int64_t size_bytes = 0;
    std::int64_t last_used_unix_s = 0;
};

struct CacheReport {
    std::filesystem::path directory;
    std::int64_t size_bytes = 0;
    std::int64_t limit_bytes = 0;
    bool writable = false;
    std::vector<CacheEntry> entries;  ///< newest use first
};

/// Totals over the deployments that are alive, and of the cache.
struct Metrics {
    std::vector<DeploymentMetrics> deployments;
    std::uint64_t cache_hits = 0;
    std::uint64_t cache_misses = 0;
    std::uint64_t cache_damaged = 0;  ///< entries that failed their checksum and were rebuilt
    int threads_total = 0;            ///< processor threads of the machine-wide account
    int threads_in_use = 0;           ///< of which deployments hold
};

/// The AI virtual machine manager: finds hardware, deploys models on it. Thread-safe.
class AI_VMM_API VMM {
public:
    struct Options {
        std::filesystem::path cache_dir;  ///< default: $AI_VMM_CACHE_DIR, else $XDG_CACHE_HOME/ai_vmm, else ~/.cache/ai_vmm
        std::int64_t cache_limit_bytes = std::int64_t{8} << 30;
        bool use_cache = true;
        std::vector<std::filesystem::path> backend_paths;  ///< libraries or folders to load besides the installed ones
        bool load_installed_backends = true;
        int max_queue = 1024;  ///< callers that may wait per deployment
        Progress progress;     ///< may be empty; called on the deploying thread
    };

    VMM();
    explicit VMM(Options options);
    VMM(const VMM&) = delete;
    VMM& operator=(const VMM&) = delete;
    ~VMM();

    /// Devices and backends. Cheap after the first call; `refresh` looks again.
    [[nodiscard]] Hardware discover_hardware(bool refresh = false);

    /// Reads, analyses, plans, compiles, checks against the reference, and starts a model.
    /// @throws Error(not_found) no such file.  @throws Error(invalid_argument) unknown, truncated or malformed file, unknown device or
    ///         engine, contradictory constraints.  @throws Error(unimplemented) no engine runs it; the message has each engine's reason.
    /// @throws Error(failed_precondition, performance) a constraint can't be met; the advice has the nearest offer.
    [[nodiscard]] std::shared_ptr<Deployment> deploy(const ModelSource& source, const Constraints& constraints = {}, std::string name = {});
    /// Deploys several models with disjoint thread budgets from one machine-wide account, in proportion to their priorities.
    /// All or nothing: if one is refused the others are undeployed and its error is thrown.
    [[nodiscard]] std::vector<std::shared_ptr<Deployment>> deploy_all(std::span<const DeployRequest> requests);
    /// Stops a deployment: waits for running executions, refuses new ones, returns its threads to the account.
    /// @throws Error(not_found) not deployed here (or already undeployed).
    void undeploy(const std::shared_ptr<Deployment>& deployment);

    /// Reads and analyses without deploying.
    [[nodiscard]] ModelProfile inspect(const ModelSource& source);
    /// Plans as deploy() would (measuring within `constraints.tune`) without starting anything. Same errors as deploy().
    /// @param columns  of the text; fewer than 80 count as 80
    [[nodiscard]] Explanation plan(const ModelSource& source, const Constraints& constraints = {}, int columns = 110);

    /// What engines that tell it would make of the model on the devices, engines and precision that the constraints allow (any precision: f32, f16
    /// and bf16): bytes and steps. Loads nothing there.
    /// @throws Error as inspect().
    [[nodiscard]] std::vector<CandidateOutline> outlines(const ModelSource& source, const Constraints& constraints = {});

    /// The same elements in another place. `from` itself if it lies there already.
    /// @throws Error(unimplemented) no backend reaches the place; Error(invalid_argument) an empty tensor, an address that is not where the tensor
    /// says,
    ///         no such device; Error(resource_exhausted) no memory there.
    [[nodiscard]] Tensor copy(const Tensor& from, const MemoryPlace& place = {});

    [[nodiscard]] Metrics metrics() const;

    [[nodiscard]] CacheReport cache_report() const;
    /// Removes damaged and least recently used entries until `limit_bytes` (default: the limit in force) holds; bytes freed.
    std::int64_t cache_collect(std::optional<std::int64_t> limit_bytes = {});
    /// Removes everything; bytes freed.
    std::int64_t cache_clear();

private:
    struct Impl;
    std::shared_ptr<Impl> impl_;
};

/// "0.1.0"
[[nodiscard]] AI_VMM_API std::string_view version() noexcept;

}  // namespace ai_vmm
