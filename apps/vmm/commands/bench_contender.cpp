// SPDX-License-Identifier: Apache-2.0
#include "commands/bench_contender.hpp"

#include <dlfcn.h>
#include <fmt/format.h>
#include <sys/prctl.h>

#include <algorithm>
#include <atomic>
#include <barrier>
#include <condition_variable>
#include <exception>
#include <filesystem>
#include <mutex>
#include <random>
#include <thread>

#include "bench/statistics.hpp"
#include "io/values.hpp"

namespace ai_vmm::cli {
namespace {

using Clock = std::chrono::steady_clock;

double milliseconds(Clock::duration duration) { return std::chrono::duration<double, std::milli>(duration).count(); }

class OwnCaller final : public native::Caller {
public:
    OwnCaller(std::shared_ptr<Deployment> deployment, std::vector<Tensor> inputs)
        : deployment_(std::move(deployment)), inputs_(std::move(inputs)), outputs_(deployment_->outputs().size()) {}
    void run() override { deployment_->execute_into(inputs_, outputs_); }  // the first run allocates, the next ones write in place
    std::vector<Tensor> outputs() override { return outputs_; }

private:
    std::shared_ptr<Deployment> deployment_;
    std::vector<Tensor> inputs_;
    std::vector<Tensor> outputs_;
};

native::LoadFunction load_function(const std::string& name) {
    if (name != "openvino" && name != "onnxruntime") {
        throw usage_error(fmt::format("no engine '{}' to compare with", name), {.expected = "openvino or onnxruntime", .found = name, .advice = {}});
    }
    std::error_code ignored;
    const std::filesystem::path folder = std::filesystem::read_symlink("/proc/self/exe", ignored).parent_path().parent_path();
    const std::string file = fmt::format("libvmm_native_{}.so", name);
    std::string reasons;
    for (const char* place : {"lib/vmm", "lib/ai_vmm/vmm", "lib64/ai_vmm/vmm"}) {
        const std::filesystem::path path = folder / place / file;
        if (!std::filesystem::exists(path, ignored)) continue;
        // Never unloaded: engines leave threads behind.
        if (void* library = ::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE)) {
            if (void* symbol = ::dlsym(library, native::kLoadSymbol)) return reinterpret_cast<native::LoadFunction>(symbol);
        }
        const char* reason = ::dlerror();
        reasons += fmt::format("{}{}", reasons.empty() ? "" : "; ", reason != nullptr ? reason : "no such symbol");
    }
    throw Error(ErrorCode::unavailable, ErrorCategory::system, fmt::format("can't load {} for the comparison", name),
                {.expected = fmt::format("{} under {}", file, (folder / "lib").string()),
                 .found = reasons.empty() ? "no such file" : reasons,
                 .advice = "build or install AI VMM with its native comparisons"});
}

}  // namespace

Contender own_contender(const std::shared_ptr<Deployment>& deployment, const std::vector<Tensor>& inputs) {
    const DeploymentDescription description = deployment->describe();
    Contender contender{.name = "ai_vmm", .version = description.engine};
    contender.settings =
        fmt::format("{}, {}, {} thread{}, {} stream{}, batch {}", description.device, description.precision, description.threads,
                    description.threads == 1 ? "" : "s", description.streams, description.streams == 1 ? "" : "s", description.batch);
    contender.callers = std::max(1, description.streams);
    for (const TensorInfo& info : deployment->outputs()) contender.output_names.push_back(info.name);
    contender.make_caller = [deployment, inputs] { return std::make_unique<OwnCaller>(deployment, inputs); };
    contender.full_batch = static_cast<std::size_t>(std::max(1, description.streams) * std::max(1, description.batch));
    TensorMap named;
    for (std::size_t i = 0; i < inputs.size(); ++i) named.push_back(deployment->inputs()[i].name, inputs[i]);
    contender.make_batch = [deployment, named](std::size_t items) {
        return [deployment, batch = std::vector<TensorMap>(items, named)] { static_cast<void>(deployment->execute_batch(batch)); };
    };
    return contender;
}

Contender native_contender(const std::string& name, const std::string& model, const native::Settings& settings, const TensorMap& inputs) {
    const native::LoadFunction load = load_function(name);
    const std::shared_ptr<native::Engine> engine(load(model, settings));
    Contender contender{
        .name = name, .version = engine->version(), .settings = engine->settings(), .callers = engine->preferred_callers(), .owner = engine};
    const std::vector<TensorInfo> infos = engine->inputs();
    std::vector<Tensor> ordered;
    for (std::size_t i = 0; i < infos.size(); ++i) {
        const Tensor* tensor = inputs.find(infos[i].name);
        if (tensor == nullptr && infos.size() == inputs.size()) tensor = &(inputs.begin() + static_cast<std::ptrdiff_t>(i))->second;
        if (tensor == nullptr)
            throw Error(ErrorCode::failed_precondition, ErrorCategory::runtime,
                        fmt::format("{} has an input '{}' that AI VMM's deployment lacks", name, infos[i].name));
        if (tensor->type() != infos[i].type) {
            throw Error(
                ErrorCode::failed_precondition, ErrorCategory::runtime,
                fmt::format("{} takes {} for input '{}', AI VMM {}", name, to_string(infos[i].type), infos[i].name, to_string(tensor->type())));
        }
        ordered.push_back(*tensor);
    }
    for (const TensorInfo& info : engine->outputs()) contender.output_names.push_back(info.name);
    contender.make_caller = [engine, ordered] { return engine->make_caller(ordered); };
    return contender;
}

Verification verify(const Contender& own, const Contender& other, double tolerance) {
    Verification result;
    const auto mine = own.make_caller();
    const auto theirs = other.make_caller();
    mine->run();
    theirs->run();
    const std::vector<Tensor> outputs = mine->outputs();
    const std::vector<Tensor> reference = theirs->outputs();
    if (outputs.size() != reference.size()) {
        result.reason = fmt::format("{} outputs and {}", outputs.size(), reference.size());
        return result;
    }
    for (std::size_t i = 0; i < outputs.size(); ++i) {
        const auto named = std::ranges::find(other.output_names, own.output_names[i]);
        const std::size_t at = named == other.output_names.end() ? i : static_cast<std::size_t>(named - other.output_names.begin());
        const Difference difference = compare(outputs[i], reference[at]);
        const std::string output = fmt::format("output '{}'", own.output_names[i]);
        if (!difference.comparable) {
            result.reason = fmt::format("{}: {}", output, difference.reason);
            return result;
        }
        result.relative_error = std::max(result.relative_error, difference.relative_error);
        result.max_scaled_error = std::max(result.max_scaled_error, difference.max_scaled_error);
        result.same_top = result.same_top && difference.same_top;
        if (difference.unequal_exact > 0 && result.reason.empty())
            result.reason = fmt::format("{}: {} of {} elements differ", output, difference.unequal_exact, outputs[i].element_count());
        if (!(difference.relative_error <= tolerance) && result.reason.empty())
            result.reason = fmt::format("{}: relative error {:.3g} above {:.3g}", output, difference.relative_error, tolerance);
    }
    result.agrees = result.reason.empty();
    return result;
}

Round run_single(native::Caller& caller, const Limit& limit) {
    constexpr std::size_t kSampleLimit = 2'000'000;
    Round round;
    round.samples_ms.reserve(limit.executions > 0 ? std::min(limit.executions, kSampleLimit) : 65536);
    const Clock::time_point start = Clock::now();
    const Clock::time_point deadline = start + limit.time;
    Clock::time_point before = start;
    std::size_t done = 0;
    for (;;) {
        caller.run();
        const Clock::time_point after = Clock::now();
        if (round.samples_ms.size() < kSampleLimit) round.samples_ms.push_back(milliseconds(after - before));
        ++done;
        if (limit.executions > 0 ? done >= limit.executions : after >= deadline) {
            round.executions = done;
            round.throughput_per_s = static_cast<double>(done) / std::chrono::duration<double>(after - start).count();
            return round;
        }
        before = Clock::now();
    }
}

Round run_parallel(std::vector<std::unique_ptr<native::Caller>>& callers, const Limit& limit) {
    const std::size_t count = callers.size();
    std::vector<Round> rounds(count);
    std::vector<std::exception_ptr> errors(count);
    std::barrier<> start(static_cast<std::ptrdiff_t>(count) + 1);
    std::vector<std::jthread> threads;
    Clock::time_point begin;
    for (std::size_t i = 0; i < count; ++i) {
        threads.emplace_back([&, i] {
            start.arrive_and_wait();
            try {
                Limit own = limit;
                if (limit.executions > 0)
                    own.executions = std::max<std::size_t>(1, limit.executions / count + (i < limit.executions % count ? 1 : 0));
                rounds[i] = run_single(*callers[i], own);
            } catch (...) {
                errors[i] = std::current_exception();
            }
        });
    }
    begin = Clock::now();
    start.arrive_and_wait();
    threads.clear();  // joins
    const double seconds = std::chrono::duration<double>(Clock::now() - begin).count();
    Round all;
    for (std::size_t i = 0; i < count; ++i) {
        if (errors[i]) std::rethrow_exception(errors[i]);
        all.samples_ms.insert(all.samples_ms.end(), rounds[i].samples_ms.begin(), rounds[i].samples_ms.end());
    }
    for (const Round& round : rounds) all.executions += round.executions;
    all.throughput_per_s = static_cast<double>(all.executions) / seconds;
    return all;
}

ServerRound run_server(Deployment& deployment, const TensorMap& inputs, double rate, const Limit& limit, std::uint64_t seed) {
    ::prctl(PR_SET_TIMERSLACK, 1UL);  // wake on time, not within 50 µs
    std::mt19937_64 engine(seed);
    std::exponential_distribution<double> gap_s(rate);
    struct State {
        std::mutex mutex;
        std::condition_variable changed;
        std::vector<double> samples;
        std::size_t failed = 0;
        std::size_t running = 0;
    };
    const auto state = std::make_shared<State>();
    ServerRound round;
    std::vector<double> lags;
    const Clock::time_point start = Clock::now();
    Clock::time_point due = start;
    std::size_t sent = 0;
    for (;;) {
        due += std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(gap_s(engine)));
        if (limit.executions > 0 ? sent >= limit.executions : due - start >= limit.time) break;
        std::this_thread::sleep_until(due);
        lags.push_back(milliseconds(Clock::now() - due));
        ++sent;
        {
            const std::scoped_lock lock(state->mutex);
            ++state->running;
        }
        const auto finish = [state, due](bool ok) {
            const double elapsed = milliseconds(Clock::now() - due);
            const std::scoped_lock lock(state->mutex);
            --state->running;
            if (ok) {
                state->samples.push_back(elapsed);
            } else {
                ++state->failed;
            }
            state->changed.notify_one();
        };
        try {
            deployment.execute_async(inputs, [finish](const RunResult& result) { finish(result.error == nullptr); });
        } catch (const Error& error) {
            const std::scoped_lock lock(state->mutex);
            --state->running;
            if (error.code() != ErrorCode::resource_exhausted) throw;
            ++round.refused;
        }
    }
    std::unique_lock lock(state->mutex);
    state->changed.wait(lock, [&] { return state->running == 0; });
    round.achieved_per_s = static_cast<double>(state->samples.size()) / std::chrono::duration<double>(Clock::now() - start).count();
    round.samples_ms = state->samples;
    round.failed = state->failed;
    std::ranges::sort(lags);
    round.generator_lag_p99_ms = percentile(lags, 99);
    return round;
}

}  // namespace ai_vmm::cli
