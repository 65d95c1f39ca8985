// SPDX-License-Identifier: Apache-2.0
#include "runtime/deployment_engine.hpp"

#include <algorithm>
#include <bit>
#include <exception>
#include <optional>
#include <utility>

#include "base/log.hpp"
#include "runtime/batching.hpp"
#include "runtime/watchdog.hpp"

namespace ai_vmm::runtime {
namespace {

constexpr std::size_t kMaxEvents = 64;

[[noreturn]] void throw_bad_input(std::string message, ErrorDetail detail = {}) {
    throw Error(ErrorCode::invalid_argument, ErrorCategory::input, std::move(message), std::move(detail));
}

std::string list_names(std::span<const TensorInfo> infos) {
    std::string names;
    for (const TensorInfo& info : infos) names.append(names.empty() ? "'" : ", '").append(info.name).append("'");
    return names.empty() ? "none" : names;
}

bool shape_fits(const TensorInfo& info, const Shape& shape) noexcept {
    if (!info.rank_known) return true;
    if (info.shape.size() != shape.size()) return false;
    for (std::size_t i = 0; i < shape.size(); ++i) {
        if (info.shape[i] >= 0 && info.shape[i] != shape[i]) return false;
    }
    return true;
}

std::string times_text(std::uint64_t times) { return " (" + std::to_string(times) + " times)"; }

std::string describe(ElementType type, const Shape& shape) { return std::string(to_string(type)) + " " + to_string(shape); }

/// Outputs that nothing was given for are made where the caller wants them.
void want_outputs_in(const RunOptions& options, std::span<Tensor> outputs) {
    if (!options.outputs_in) return;
    for (Tensor& output : outputs) {
        if (output.empty()) output = Tensor::wanted_in(*options.outputs_in);
    }
}

void check_tensor(const TensorInfo& info, const Tensor& tensor, const char* what) {
    if (tensor.type() == info.type && shape_fits(info, tensor.shape())) return;
    const std::string shape = info.rank_known ? to_string(info.shape) : "any shape";
    throw_bad_input(std::string(what) + " '" + info.name + "' has another " + (tensor.type() != info.type ? "element type" : "shape"),
                    {.expected = std::string(to_string(info.type)) + " " + shape, .found = describe(tensor.type(), tensor.shape()), .advice = {}});
}

void check_input(const TensorInfo& info, const Tensor& tensor) {
    if (!tensor.empty()) return check_tensor(info, tensor, "input");
    if (!info.optional) throw_bad_input("input '" + info.name + "' is not set");
}

bool is_engine_failure(ErrorCode code) noexcept {
    return code == ErrorCode::internal || code == ErrorCode::unavailable || code == ErrorCode::unknown || code == ErrorCode::resource_exhausted ||
           code == ErrorCode::unimplemented || code == ErrorCode::data_loss || code == ErrorCode::aborted;
}

/// The exception in flight as an Error.
Error current_error() {
    try {
        throw;
    } catch (const Error& error) {
        return error;
    } catch (const std::bad_alloc&) {
        return Error(ErrorCode::resource_exhausted, ErrorCategory::runtime, "out of memory");
    } catch (const std::exception& error) {
        return Error(ErrorCode::internal, ErrorCategory::runtime, error.what());
    }
}

Error stopped_error(const std::string& name) {
    return Error(ErrorCode::failed_precondition, ErrorCategory::runtime, "the deployment '" + name + "' was undeployed");
}

}  // namespace

/// A taken slot, given back at the end of life.
struct DeploymentEngine::Lease {
    Lease(DeploymentEngine* engine, std::unique_ptr<Held> held) : engine_(engine), held_(std::move(held)) {}
    Lease(const Lease&) = delete;
    Lease& operator=(const Lease&) = delete;
    ~Lease() { engine_->release(std::move(held_)); }

    [[nodiscard]] const std::shared_ptr<Stage>& stage() const noexcept { return held_->stage; }
    [[nodiscard]] Stage::Slot& slot() const noexcept { return *held_->slot; }

private:
    DeploymentEngine* engine_;
    std::unique_ptr<Held> held_;
};

DeploymentEngine::DeploymentEngine(Options options, std::shared_ptr<Stage> active, std::shared_ptr<StageFactory> factory)
    : options_(std::move(options)), factory_(std::move(factory)), active_(std::move(active)), active_stage_(active_.get()) {}

DeploymentEngine::~DeploymentEngine() { stop(); }

template <typename Take>
void DeploymentEngine::match(const TensorMap& named, const Take& take) const {
    std::size_t used = 0;
    for (std::size_t i = 0; i < options_.inputs.size(); ++i) {
        const TensorInfo& info = options_.inputs[i];
        const Tensor* found = nullptr;
        for (const auto& [name, tensor] : named) {
            if (name != info.name) continue;
            if (found != nullptr) throw_bad_input("input '" + info.name + "' is given twice");
            found = &tensor;
        }
        if (found != nullptr) {
            take(i, *found);
            ++used;
        } else if (!info.optional) {
            throw_bad_input("input '" + info.name + "' is missing", {.expected = list_names(options_.inputs), .found = {}, .advice = {}});
        }
    }
    if (used == named.size()) return;
    for (const auto& [name, tensor] : named) {
        if (std::ranges::none_of(options_.inputs, [&](const TensorInfo& info) { return info.name == name; })) {
            throw_bad_input("the model has no input '" + name + "'", {.expected = list_names(options_.inputs), .found = {}, .advice = {}});
        }
    }
}

void DeploymentEngine::arrange(const TensorMap& named, std::span<Tensor> ordered) const {
    match(named, [&](std::size_t i, const Tensor& tensor) { ordered[i] = tensor; });
}

void DeploymentEngine::check(std::span<const Tensor> inputs, std::span<Tensor> outputs) const {
    if (inputs.size() != options_.inputs.size()) {
        throw_bad_input("wrong number of inputs", {.expected = std::to_string(options_.inputs.size()) + ": " + list_names(options_.inputs),
                                                   .found = std::to_string(inputs.size()),
                                                   .advice = {}});
    }
    if (outputs.size() != options_.outputs.size()) {
        throw_bad_input("wrong number of outputs", {.expected = std::to_string(options_.outputs.size()) + ": " + list_names(options_.outputs),
                                                    .found = std::to_string(outputs.size()),
                                                    .advice = {}});
    }
    for (std::size_t i = 0; i < inputs.size(); ++i) check_input(options_.inputs[i], inputs[i]);
    for (std::size_t i = 0; i < outputs.size(); ++i) {
        if (!outputs[i].empty()) check_tensor(options_.outputs[i], outputs[i], "output");
    }
}

std::unique_ptr<DeploymentEngine::Held> DeploymentEngine::take_parked() {
    std::uintptr_t word = parked_.load(std::memory_order_relaxed);
    while (word != 0 && word != kWanted) {
        if (!parked_.compare_exchange_weak(word, 0, std::memory_order_acquire, std::memory_order_relaxed)) continue;
        std::unique_ptr<Held> held(reinterpret_cast<Held*>(word));
        if (held->stage.get() == active_stage_.load(std::memory_order_relaxed)) return held;
        release(std::move(held));  // of a stage that was left since; not parked again
        return nullptr;
    }
    return nullptr;
}

void DeploymentEngine::release(std::unique_ptr<Held> held) noexcept {
    if (held->stage.get() == active_stage_.load(std::memory_order_relaxed)) {
        std::uintptr_t none = 0;
        const auto word = reinterpret_cast<std::uintptr_t>(held.get());
        if (parked_.compare_exchange_strong(none, word, std::memory_order_release, std::memory_order_relaxed)) {
            static_cast<void>(held.release());  // parked_ owns it
            return;
        }
    }
    held->stage->put_back(held->slot);
    bool wake = false;
    {
        const std::lock_guard lock(mutex_);
        --running_;
        wake = waiting_ > 0;
        if (running_ == 0 && stopped_) idle_.notify_all();  // under the lock: the engine may be gone right after it
    }
    if (wake) slot_freed_.notify_one();
}

void DeploymentEngine::hand_back(std::uintptr_t word) noexcept {
    if (word == 0 || word == kWanted) return;
    const std::unique_ptr<Held> held(reinterpret_cast<Held*>(word));
    held->stage->put_back(held->slot);
    --running_;
}

void DeploymentEngine::update_wanted() noexcept {
    if (waiting_ > 0 || stopped_) {
        hand_back(parked_.exchange(kWanted, std::memory_order_acq_rel));
    } else {
        std::uintptr_t wanted = kWanted;
        parked_.compare_exchange_strong(wanted, 0, std::memory_order_relaxed);
    }
}

DeploymentEngine::Lease DeploymentEngine::acquire(const RunOptions& options, Clock::time_point deadline, bool polite) {
    if (std::unique_ptr<Held> parked = take_parked()) return {this, std::move(parked)};
    auto held = std::make_unique<Held>();  // before the lock, and before anything is taken
    std::unique_lock lock(mutex_);
    if (stopped_) throw stopped_error(options_.name);
    // Those who wait go first.
    if (waiting_ == 0) {
        if (Stage::Slot* slot = active_->try_take()) {
            ++running_;
            *held = {active_, slot};
            return {this, std::move(held)};
        }
    }
    if (waiting_ >= options_.max_queue) {
        rejected_.fetch_add(1, std::memory_order_relaxed);
        throw Error(
            ErrorCode::resource_exhausted, ErrorCategory::runtime, "too many callers are waiting for '" + options_.name + "'",
            {.expected = "at most " + std::to_string(options_.max_queue), .found = {}, .advice = "try again later, or deploy with more streams"});
    }
    ++waiting_;
    polite_ += polite ? 1 : 0;
    update_wanted();
    const auto leave = [&] {
        --waiting_;
        polite_ -= polite ? 1 : 0;
        turns_ += polite ? 0 : 1;
        update_wanted();
        if (polite_ > 0) slot_freed_.notify_all();  // a wake-up that came before their turn was lost on them
    };
    Stage::Slot* slot = nullptr;
    std::shared_ptr<Stage> stage;
    const auto ready = [&, turns = turns_] {
        if (stopped_) return true;
        if (polite && waiting_ > polite_ && turns_ == turns) return false;
        stage = active_;
        slot = stage->try_take();
        return slot != nullptr;
    };
    try {
        if (deadline == Clock::time_point::max()) {
            slot_freed_.wait(lock, options.stop, ready);
        } else {
            slot_freed_.wait_until(lock, options.stop, deadline, ready);
        }
    } catch (...) {  // the engine could not make another slot
        leave();
        throw;
    }
    leave();
    if (slot != nullptr) {
        ++running_;
        *held = {std::move(stage), slot};
        return {this, std::move(held)};
    }
    if (stopped_) throw stopped_error(options_.name);
    cancelled_.fetch_add(1, std::memory_order_relaxed);
    if (options.stop.stop_requested())
        throw Error(ErrorCode::cancelled, ErrorCategory::runtime, "cancelled while waiting for '" + options_.name + "'");
    throw Error(ErrorCode::deadline_exceeded, ErrorCategory::runtime, "the time ran out while waiting for '" + options_.name + "'");
}

void DeploymentEngine::run_on(Stage& stage, Stage::Slot& slot, std::span<const Tensor> inputs, std::span<Tensor> outputs, const RunOptions& options,
                              Clock::time_point deadline) {
    const auto reachable = [&](const Tensor& tensor) { return tensor.place().is_host() || stage.executable().reads(tensor.place()); };
    if (!std::ranges::all_of(inputs, reachable) || !std::ranges::all_of(outputs, reachable)) {
        run_through_host(stage, slot, inputs, outputs, options, deadline);
        return;
    }
    const bool stoppable = options.stop.stop_possible();
    if (!stoppable && deadline == Clock::time_point::max()) {
        slot.request->run(inputs, outputs);
        return;
    }
    if (options.stop.stop_requested()) throw Error(ErrorCode::cancelled, ErrorCategory::runtime, "cancelled before it ran");
    if (deadline <= Clock::now()) throw Error(ErrorCode::deadline_exceeded, ErrorCategory::runtime, "the time ran out before it ran");
    std::optional<Watchdog::Guard> guard;
    if (deadline != Clock::time_point::max()) guard.emplace(*slot.request, deadline);
    const auto cancel = [&slot] { slot.request->cancel(); };
    try {
        const std::stop_callback<decltype(cancel)> callback(options.stop, cancel);
        slot.request->run(inputs, outputs);
    } catch (const Error& error) {
        if (error.code() == ErrorCode::cancelled && guard && guard->fired() && !options.stop.stop_requested()) {
            throw Error(ErrorCode::deadline_exceeded, ErrorCategory::runtime, "the time ran out while '" + options_.name + "' was running");
        }
        throw;
    }
}

void DeploymentEngine::run_through_host(Stage& stage, Stage::Slot& slot, std::span<const Tensor> inputs, std::span<Tensor> outputs,
                                        const RunOptions& options, Clock::time_point deadline) {
    if (!options_.copy) throw Error(ErrorCode::unimplemented, ErrorCategory::runtime, "tensors must be in host memory here");
    std::vector<Tensor> here(inputs.begin(), inputs.end()), results(outputs.begin(), outputs.end());
    for (Tensor& input : here) {
        if (input.place().is_host()) continue;
        Tensor copy;
        options_.copy(input, copy);
        input = std::move(copy);
    }
    for (Tensor& result : results) {
        if (!result.place().is_host()) result = Tensor{};
    }
    run_on(stage, slot, here, results, options, deadline);
    for (std::size_t i = 0; i < outputs.size(); ++i) {
        if (outputs[i].place().is_host()) {
            outputs[i] = std::move(results[i]);
            continue;
        }
        // An output of another shape than the one given is replaced, as everywhere.
        if (!outputs[i].empty() && (outputs[i].type() != results[i].type() || outputs[i].shape() != results[i].shape()))
            outputs[i] = Tensor::wanted_in(outputs[i].place());
        options_.copy(results[i], outputs[i]);
    }
}

std::shared_ptr<Stage> DeploymentEngine::fallback_after(const planning::CandidateKey& key) {
    const std::lock_guard lock(fallback_mutex_);
    // The order is the plan's: the candidates behind `key`, or all of them for the chosen one.
    auto next = std::ranges::find(options_.fallbacks, key);
    next = next == options_.fallbacks.end() ? options_.fallbacks.begin() : std::next(next);
    for (; next != options_.fallbacks.end(); ++next) {
        for (const std::shared_ptr<Stage>& stage : fallback_stages_) {
            if (stage->key() == *next) return stage;
        }
        try {
            std::shared_ptr<Stage> stage = factory_->make(*next);
            fallback_stages_.push_back(stage);
            return stage;
        } catch (const std::exception& error) {
            note("fallback " + next->id() + " can't be compiled: " + error.what());
        }
    }
    return nullptr;
}

bool DeploymentEngine::run_fallbacks(const Stage& failed, const Error& error, std::span<const Tensor> inputs, std::span<Tensor> outputs,
                                     const RunOptions& options, Clock::time_point deadline) {
    planning::CandidateKey key = failed.key();
    while (const std::shared_ptr<Stage> stage = fallback_after(key)) {
        key = stage->key();
        Stage::Slot* slot = stage->try_take();
        if (slot == nullptr) continue;
        try {
            for (Tensor& output : outputs) output = Tensor::wanted_in(output.place());
            run_on(*stage, *slot, inputs, outputs, options, deadline);
            stage->put_back(slot);
        } catch (const std::exception&) {
            stage->put_back(slot);
            if (current_error().code() == ErrorCode::cancelled || current_error().code() == ErrorCode::deadline_exceeded) throw;
            continue;
        }
        fallbacks_.fetch_add(1, std::memory_order_relaxed);
        bool demoted = false;
        {
            const std::lock_guard lock(mutex_);
            ++consecutive_failures_;
            if (active_.get() == &failed && (consecutive_failures_ >= kFailuresToDemote || error.code() == ErrorCode::unavailable)) {
                active_ = stage;
                active_stage_.store(active_.get(), std::memory_order_relaxed);
                std::uintptr_t word = parked_.load(std::memory_order_relaxed);
                while (word != kWanted && !parked_.compare_exchange_weak(word, 0, std::memory_order_acquire, std::memory_order_relaxed)) {
                }
                hand_back(word);  // of the stage that is left
                consecutive_failures_ = 0;
                demoted = true;
            }
        }
        note(failed.key().id() + " failed (" + error.message() + "); " + stage->key().id() + (demoted ? " took over" : " answered instead"));
        if (demoted) slot_freed_.notify_all();
        return true;
    }
    return false;
}

DeploymentEngine::Clock::time_point DeploymentEngine::deadline_of(const RunOptions& options) {
    return options.timeout ? Clock::now() + *options.timeout : Clock::time_point::max();
}

bool DeploymentEngine::run_leased(const Lease& lease, std::span<const Tensor> inputs, std::span<Tensor> outputs, const RunOptions& options,
                                  Clock::time_point deadline, int items) {
    want_outputs_in(options, outputs);
    const Clock::time_point start = Clock::now();
    bool itself = true;
    try {
        run_on(*lease.stage(), lease.slot(), inputs, outputs, options, deadline);
        if (consecutive_failures_.load(std::memory_order_relaxed) != 0) {  // rare; decided under the lock
            const std::lock_guard lock(mutex_);
            if (active_ == lease.stage()) consecutive_failures_ = 0;
        }
    } catch (...) {
        const Error error = current_error();
        if (error.code() == ErrorCode::cancelled || error.code() == ErrorCode::deadline_exceeded) {
            cancelled_.fetch_add(1, std::memory_order_relaxed);
            throw error;
        }
        const bool answered = is_engine_failure(error.code()) && run_fallbacks(*lease.stage(), error, inputs, outputs, options, deadline);
        if (!answered) {
            failures_.fetch_add(1, std::memory_order_relaxed);
            note(lease.stage()->key().id() + " failed: " + error.message());
            throw error;
        }
        itself = false;
    }
    latency_.record(Clock::now() - start);
    executions_.fetch_add(static_cast<std::uint64_t>(items), std::memory_order_relaxed);
    return itself;
}

void DeploymentEngine::run(std::span<const Tensor> inputs, std::span<Tensor> outputs, const RunOptions& options) {
    check(inputs, outputs);
    run_admitted(inputs, outputs, options);
}

void DeploymentEngine::run_admitted(std::span<const Tensor> inputs, std::span<Tensor> outputs, const RunOptions& options) {
    const Clock::time_point deadline = deadline_of(options);
    const Lease lease = acquire(options, deadline);
    run_leased(lease, inputs, outputs, options, deadline, 1);
}

template <typename Inputs>
void DeploymentEngine::run_in_turn(std::unique_ptr<Lease>& lease, const Inputs& inputs_for, std::span<Tensor> outputs, const RunOptions& options,
                                   int items) {
    const Clock::time_point deadline = deadline_of(options);
    const bool wanted = lease && parked_.load(std::memory_order_relaxed) == kWanted;
    if (wanted) lease.reset();
    if (!lease) lease.reset(new Lease(acquire(options, deadline, wanted)));  // a Lease is not moved
    try {
        if (!run_leased(*lease, inputs_for(lease->slot()), outputs, options, deadline, items)) lease.reset();
    } catch (...) {
        lease.reset();
        throw;
    }
}

TensorMap DeploymentEngine::name_outputs(std::vector<Tensor> outputs) const {
    TensorMap named;
    for (std::size_t i = 0; i < outputs.size(); ++i) named.push_back(options_.outputs[i].name, std::move(outputs[i]));
    return named;
}

void DeploymentEngine::submit(std::vector<Tensor> inputs, RunOptions options, std::function<void(RunResult)> done) {
    std::vector<Tensor> probe(options_.outputs.size());
    check(inputs, probe);
    auto task = std::make_shared<Task>(Task{std::move(inputs), std::move(options), std::move(done)});
    post(
        [this, task, queued = Clock::now()] {
            // Time in the queue counts.
            if (auto& timeout = task->options.timeout) *timeout = std::max<std::chrono::nanoseconds>(*timeout - (Clock::now() - queued), {});
            RunResult result;
            try {
                std::vector<Tensor> outputs(options_.outputs.size());
                run_admitted(task->inputs, outputs, task->options);
                result.outputs = name_outputs(std::move(outputs));
            } catch (...) {
                result.error = std::make_exception_ptr(current_error());
            }
            task->done(std::move(result));
        },
        true);
}

void DeploymentEngine::post(std::function<void()> work, bool bounded) {
    {
        const std::lock_guard lock(mutex_);
        if (stopped_) throw stopped_error(options_.name);
    }
    // The engine may be gone as soon as the queue is unlocked: the work's callback may destroy it.
    const std::shared_ptr<WorkQueue> queue = work_;
    const std::size_t worker_limit = static_cast<std::size_t>(active()->slot_limit());
    {
        const std::lock_guard lock(queue->mutex);
        if (bounded && queue->items.size() >= static_cast<std::size_t>(options_.max_queue)) {
            rejected_.fetch_add(1, std::memory_order_relaxed);
            throw Error(ErrorCode::resource_exhausted, ErrorCategory::runtime, "the queue of '" + options_.name + "' is full",
                        {.expected = "at most " + std::to_string(options_.max_queue) + " waiting",
                         .found = {},
                         .advice = "wait for results before sending more"});
        }
        queue->items.push_back(std::move(work));
        if (workers_.size() < worker_limit) {
            workers_.emplace_back([queue](const std::stop_token& stop) {
                for (;;) {
                    std::function<void()> item;
                    {
                        std::unique_lock queue_lock(queue->mutex);
                        if (!queue->ready.wait(queue_lock, stop, [&] { return !queue->items.empty(); })) return;
                        item = std::move(queue->items.front());
                        queue->items.pop_front();
                    }
                    item();
                }
            });
        }
    }
    queue->ready.notify_one();
}

void DeploymentEngine::run_group(std::span<const TensorMap> items, std::span<TensorMap> results, const RunOptions& options, GroupScratch& scratch,
                                 std::unique_ptr<Lease>& lease) {
    const std::size_t count = items.size();
    const std::size_t input_count = options_.inputs.size();
    // Elements of one input side by side, as they are joined.
    static const Tensor none;
    scratch.parts.assign(count * input_count, &none);
    for (std::size_t i = 0; i < count; ++i) {
        match(items[i], [&](std::size_t k, const Tensor& tensor) { scratch.parts[k * count + i] = &tensor; });
        for (std::size_t k = 0; k < input_count; ++k) check_input(options_.inputs[k], *scratch.parts[k * count + i]);
    }
    const auto parts_of = [&](std::size_t k) { return std::span<const Tensor* const>(scratch.parts).subspan(k * count, count); };
    const auto rows_of_item = [&](std::size_t i) { return scratch.parts[i]->shape()[0]; };
    bool merge = count > 1 && options_.batchable && input_count > 0;
    for (std::size_t k = 0; k < input_count && merge; ++k) {
        const std::span<const Tensor* const> parts = parts_of(k);
        for (std::size_t i = 0; i < count && merge; ++i) merge = joinable(*parts[0], *parts[i]) && parts[i]->shape()[0] == rows_of_item(i);
    }
    std::vector<Tensor>& outputs = scratch.outputs;
    outputs.assign(options_.outputs.size(), Tensor{});
    if (merge) {
        const auto joined = [&](Stage::Slot& slot) {
            slot.joined.resize(input_count);
            for (std::size_t k = 0; k < input_count; ++k) join(parts_of(k), slot.joined[k]);
            return std::span<const Tensor>(slot.joined);
        };
        run_in_turn(lease, joined, outputs, options, static_cast<int>(count));
        std::int64_t total = 0;
        for (std::size_t i = 0; i < count; ++i) total += rows_of_item(i);
        const bool splits = std::ranges::all_of(outputs, [&](const Tensor& t) { return !t.shape().empty() && t.shape()[0] == total && total > 0; });
        if (splits) {
            std::int64_t first = 0;
            for (std::size_t i = 0; i < count; ++i) {
                for (std::size_t k = 0; k < outputs.size(); ++k)
                    results[i].push_back(options_.outputs[k].name, rows_of(outputs[k], first, rows_of_item(i)));
                first += rows_of_item(i);
            }
            return;
        }
    }
    scratch.inputs.resize(input_count);
    for (std::size_t i = 0; i < count; ++i) {
        for (std::size_t k = 0; k < input_count; ++k) scratch.inputs[k] = *parts_of(k)[i];
        outputs.assign(options_.outputs.size(), Tensor{});
        run_in_turn(
            lease, [&](const Stage::Slot&) { return std::span<const Tensor>(scratch.inputs); }, outputs, options, 1);
        results[i].reserve(outputs.size());
        for (std::size_t k = 0; k < outputs.size(); ++k) results[i].push_back(options_.outputs[k].name, std::move(outputs[k]));
    }
}

std::vector<TensorMap> DeploymentEngine::run_batch(std::span<const TensorMap> batch, const RunOptions& options) {
    std::vector<TensorMap> results(batch.size());
    if (batch.empty()) return results;
    const std::shared_ptr<Stage> stage = active();
    const auto group = static_cast<std::size_t>(std::max(stage->key().batch, 1));
    const std::size_t groups = (batch.size() + group - 1) / group;
    const std::size_t helpers = std::min(groups, static_cast<std::size_t>(stage->slot_limit())) - 1;  // besides this thread

    // Shared with helpers that may only get to run when all is done; those find nothing left and touch nothing else.
    struct State {
        std::atomic<std::size_t> next{0};
        std::atomic<std::size_t> done{0};
        std::mutex mutex;  // guards what follows
        std::size_t error_group;
        std::exception_ptr error;
    };
    const auto state = std::make_shared<State>();
    state->error_group = groups;
    const auto drain = [this, state, batch, options, group, groups, results_span = std::span(results)] {
        GroupScratch scratch;
        std::unique_ptr<Lease> lease;
        for (std::size_t g = state->next.fetch_add(1); g < groups;) {
            const std::size_t begin = g * group;
            const std::size_t count = std::min(group, batch.size() - begin);
            try {
                run_group(batch.subspan(begin, count), results_span.subspan(begin, count), options, scratch, lease);
            } catch (...) {
                const std::lock_guard lock(state->mutex);
                if (g < state->error_group) {
                    state->error_group = g;
                    state->error = std::make_exception_ptr(current_error());
                }
            }
            g = state->next.fetch_add(1);
            if (g >= groups) lease.reset();  // before the caller may be told that all is done
            if (state->done.fetch_add(1) + 1 == groups) state->done.notify_all();
        }
    };
    try {
        for (std::size_t i = 0; i < helpers; ++i) post(drain, false);
    } catch (const Error&) {  // stopped meanwhile: the groups report it themselves
    }
    drain();
    for (std::size_t done = state->done; done < groups; done = state->done) state->done.wait(done);
    if (state->error) std::rethrow_exception(state->error);
    return results;
}

std::vector<StepTime> DeploymentEngine::profile(std::span<const Tensor> inputs, const RunOptions& options) {
    std::vector<Tensor> outputs(options_.outputs.size());
    check(inputs, outputs);
    const Lease lease = acquire(options, options.timeout ? Clock::now() + *options.timeout : Clock::time_point::max());
    return lease.slot().request->profile(inputs);
}

void DeploymentEngine::stop() {
    {
        std::unique_lock lock(mutex_);
        stopped_ = true;
        update_wanted();
        slot_freed_.notify_all();
        idle_.wait(lock, [this] { return running_ == 0; });
    }
    // Queued work still runs: it finds the deployment stopped and reports that to its owner.
    for (;;) {
        std::function<void()> item;
        {
            const std::lock_guard lock(work_->mutex);
            if (work_->items.empty()) break;
            item = std::move(work_->items.front());
            work_->items.pop_front();
        }
        item();
    }
    std::vector<std::jthread> workers;
    {
        const std::lock_guard lock(work_->mutex);
        workers.swap(workers_);
    }
    for (std::jthread& worker : workers) {
        if (worker.get_id() == std::this_thread::get_id()) {
            worker.request_stop();
            worker.detach();
        }
    }
}

void DeploymentEngine::note(std::string event) {
    std::string line = "deployment '" + options_.name + "': " + event;
    {
        const std::lock_guard lock(mutex_);
        if (!events_.empty() && events_.back().text == event) {
            const std::uint64_t times = ++events_.back().times;
            if (!std::has_single_bit(times)) return;  // one failing client must not flood the log
            line += times_text(times);
        } else {
            if (events_.size() >= kMaxEvents) events_.erase(events_.begin());
            events_.push_back({std::move(event), 1});
        }
    }
    base::log_warning(line);
}

std::shared_ptr<Stage> DeploymentEngine::active() const {
    const std::lock_guard lock(mutex_);
    return active_;
}

DeploymentMetrics DeploymentEngine::metrics() const {
    DeploymentMetrics metrics;
    metrics.name = options_.name;
    metrics.executions = executions_.load(std::memory_order_relaxed);
    metrics.failures = failures_.load(std::memory_order_relaxed);
    metrics.cancelled = cancelled_.load(std::memory_order_relaxed);
    metrics.rejected = rejected_.load(std::memory_order_relaxed);
    metrics.fallbacks = fallbacks_.load(std::memory_order_relaxed);
    metrics.latency_mean_ms = latency_.mean_ms();
    metrics.latency_p50_ms = latency_.quantile_ms(0.50);
    metrics.latency_p90_ms = latency_.quantile_ms(0.90);
    metrics.latency_p99_ms = latency_.quantile_ms(0.99);
    metrics.predicted_latency_ms = options_.promised_latency_ms;
    const std::lock_guard lock(mutex_);
    metrics.queue_depth = static_cast<std::uint64_t>(waiting_);
    metrics.active_candidate = active_->key().id();
    for (const Event& event : events_) metrics.events.push_back(event.times == 1 ? event.text : event.text + times_text(event.times));
    return metrics;
}

}  // namespace ai_vmm::runtime
