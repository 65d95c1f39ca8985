// SPDX-License-Identifier: Apache-2.0
#include "runtime/tuner.hpp"

#include <algorithm>
#include <atomic>
#include <ctime>
#include <functional>
#include <future>
#include <system_error>
#include <thread>
#include <utility>

#include "runtime/batching.hpp"
#include "runtime/rounds.hpp"

namespace ai_vmm::runtime {
namespace {

using Clock = std::chrono::steady_clock;
using planning::CandidateKey;
using planning::Outcome;

double ms_since(Clock::time_point start) { return std::chrono::duration<double, std::milli>(Clock::now() - start).count(); }

double process_cpu_ms() {
    timespec time{};
    ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
    return static_cast<double>(time.tv_sec) * 1e3 + static_cast<double>(time.tv_nsec) / 1e6;
}

double quantile(std::vector<double> values, double q) {
    if (values.empty()) return 0;
    const auto at = static_cast<std::ptrdiff_t>(q * static_cast<double>(values.size() - 1) + 0.5);
    std::nth_element(values.begin(), values.begin() + at, values.end());
    return values[static_cast<std::size_t>(at)];
}

/// What went wrong, for an outcome.
std::string current_reason() {
    try {
        throw;
    } catch (const Error& error) {
        return error.message();
    } catch (const std::exception& error) {
        return error.what();
    }
}

/// The tensors of calibration sets first, first+1, … (cyclic), side by side per input. Empty if their shapes differ, so that they make no batch.
std::vector<std::vector<const Tensor*>> parts_of_sets(const std::vector<std::vector<Tensor>>& sets, std::size_t first, int batch) {
    std::vector<std::vector<const Tensor*>> parts(sets[first].size());
    for (std::size_t k = 0; k < parts.size(); ++k) {
        for (std::size_t i = 0; i < static_cast<std::size_t>(batch); ++i) {
            const Tensor& part = sets[(first + i) % sets.size()][k];
            if (batch > 1 && (!joinable(sets[first][k], part) || part.shape() != sets[first][k].shape())) return {};
            parts[k].push_back(&part);
        }
    }
    return parts;
}

/// One batch of parts; the tensors themselves where there is one.
void join_all(const std::vector<std::vector<const Tensor*>>& parts, std::vector<Tensor>& joined) {
    joined.resize(parts.size());
    for (std::size_t k = 0; k < parts.size(); ++k) {
        if (parts[k].size() == 1) {
            joined[k] = *parts[k].front();
        } else {
            join(parts[k], joined[k]);
        }
    }
}

/// Part `index` of `batch` equal parts of each output; the whole output where it can't be divided.
std::vector<Tensor> part_of_batch(const std::vector<Tensor>& outputs, int batch, int index) {
    std::vector<Tensor> parts;
    for (const Tensor& output : outputs) {
        const bool divides = batch > 1 && !output.shape().empty() && output.shape()[0] % batch == 0;
        const std::int64_t rows = divides ? output.shape()[0] / batch : 0;
        parts.push_back(divides ? rows_of(output, index * rows, rows) : output);
    }
    return parts;
}

/// A candidate being measured.
struct Contender {
    Outcome outcome;
    std::shared_ptr<Stage> stage;
    std::vector<std::vector<const Tensor*>> parts;  ///< what one execution merges, per input
    std::vector<double> latencies_ms;
    std::vector<double> rates_per_s;
    double cpu_ms = 0;
    std::size_t items = 0;
    bool alive = true;

    [[nodiscard]] double median_ms() const { return quantile(latencies_ms, 0.5); }
    [[nodiscard]] double median_rate() const { return quantile(rates_per_s, 0.5); }
};

/// Waits until this process is at rest: the threads of the engine measured before spin on a processor for up to some 30 ms, which an engine with
/// several threads pays for. Gives up after 50 ms, as the process may have work of its own.
void let_spinning_end() {
    for (int i = 0; i < 25; ++i) {
        const double before = process_cpu_ms();
        std::this_thread::sleep_for(std::chrono::milliseconds(2));
        if (process_cpu_ms() - before < 0.4) return;
    }
}

/// Runs for about `span`. For latency: one slot, memory as a caller who calls again and again keeps it. For throughput: every stream at once, each
/// merging its batch and taking new memory for its outputs, as execute_batch() does.
void burst(Contender& contender, std::size_t output_count, std::chrono::milliseconds span, bool throughput) {
    const int streams = throughput ? contender.stage->slot_limit() : 1;
    const auto batch = static_cast<std::size_t>(contender.outcome.key.batch);
    struct Stream {
        Stage::Slot* slot = nullptr;
        std::vector<Tensor> inputs;
        std::vector<Tensor> outputs;
        std::vector<double> times_ms;
        double busy_ms = 0;
    };
    std::vector<Stream> all(static_cast<std::size_t>(streams));
    for (Stream& stream : all) {
        stream.slot = contender.stage->try_take();
        stream.outputs.resize(output_count);
        join_all(contender.parts, stream.inputs);
    }
    const auto run = [&](Stream& stream) {
        if (throughput) {
            if (batch > 1) join_all(contender.parts, stream.inputs);
            std::ranges::fill(stream.outputs, Tensor{});
        }
        stream.slot->request->run(stream.inputs, stream.outputs);
    };
    std::atomic<bool> failed{false};
    std::string reason;
    let_spinning_end();
    // The first part isn't counted: it takes some 20 ms until the scheduler has spread an engine's threads over the processors.
    const Clock::duration warm = std::min(Clock::duration(span) / 2, Clock::duration(std::chrono::milliseconds(30)));
    const Clock::duration counted = Clock::duration(span) - warm;
    std::atomic<std::size_t> unmeasured{0};
    const double cpu_start = process_cpu_ms();
    const auto loop = [&](Stream& stream) {
        try {
            const Clock::time_point warm_start = Clock::now();
            do {
                run(stream);
                ++unmeasured;
            } while (Clock::now() - warm_start < warm);
            const Clock::time_point start = Clock::now();
            Clock::time_point before = start;
            do {
                run(stream);
                const Clock::time_point after = Clock::now();
                stream.times_ms.push_back(std::chrono::duration<double, std::milli>(after - before).count());
                before = after;
            } while (before - start < counted || (stream.times_ms.size() < 3 && before - start < 3 * span));
            stream.busy_ms = std::chrono::duration<double, std::milli>(before - start).count();
        } catch (...) {
            if (!failed.exchange(true)) reason = current_reason();
        }
    };
    {
        std::vector<std::jthread> threads;
        for (std::size_t s = 1; s < all.size(); ++s) threads.emplace_back(loop, std::ref(all[s]));
        loop(all[0]);
    }
    contender.cpu_ms += process_cpu_ms() - cpu_start;
    contender.items += unmeasured * batch;  // for the processor time per item
    double rate = 0;                        // of the streams' own times: they don't end together
    for (Stream& stream : all) {
        contender.stage->put_back(stream.slot);
        contender.items += stream.times_ms.size() * batch;
        if (stream.busy_ms > 0) rate += static_cast<double>(stream.times_ms.size() * batch) / stream.busy_ms * 1e3;
        contender.latencies_ms.insert(contender.latencies_ms.end(), stream.times_ms.begin(), stream.times_ms.end());
    }
    contender.rates_per_s.push_back(rate);
    if (failed) {
        contender.alive = false;
        contender.outcome.compiled = false;
        contender.outcome.failure = "it failed while it was measured: " + reason;
    }
}

void compile_into(Outcome& outcome, std::shared_ptr<Stage>& stage, StageFactory& factory) {
    if (stage) {
        outcome.compiled = true;
    } else {
        const Clock::time_point start = Clock::now();
        try {
            stage = factory.make(outcome.key);
            outcome.compiled = true;
        } catch (const Error& error) {
            outcome.failure = error.message();
            outcome.failure_code = error.code();
        } catch (...) {
            outcome.failure = current_reason();
        }
        outcome.compile_ms = ms_since(start);
    }
    if (stage) outcome.memory_bytes = stage->memory_bytes();
}

/// Outputs of every calibration set; an empty vector for a set that the engine refuses.
std::vector<std::vector<Tensor>> run_sets(Stage& stage, const TuneRequest& request, std::string& failure) {
    std::vector<std::vector<Tensor>> results;
    for (const std::vector<Tensor>& set : request.calibration) {
        try {
            results.push_back(run_once(stage, set, request.outputs->size()));
        } catch (...) {
            failure = current_reason();
            results.emplace_back();
        }
    }
    return results;
}

struct ReferenceRun {
    CandidateKey key;
    std::vector<std::vector<Tensor>> outputs;
};

bool any_output(const std::vector<std::vector<Tensor>>& sets, std::size_t output_count) {
    return output_count == 0 || std::ranges::any_of(sets, [](const std::vector<Tensor>& set) { return !set.empty(); });
}

/// The sets on which two runs differ, with the first reason.
std::string first_difference(const TuneRequest& request, const std::vector<std::vector<Tensor>>& a, const std::vector<std::vector<Tensor>>& b,
                             std::optional<std::size_t>& at) {
    for (std::size_t i = 0; i < a.size(); ++i) {
        if (a[i].empty() || b[i].empty()) continue;
        const optimization::Agreement agreement = optimization::compare(*request.outputs, a[i], b[i], request.tolerance);
        if (!agreement.agrees) {
            at = i;
            return agreement.reason;
        }
    }
    return {};
}

void settle_reference(TuneResult& result, const TuneRequest& request, std::vector<ReferenceRun>& runs) {
    if (runs.empty()) {
        result.reference.assign(request.calibration.size(), {});
        result.reference_note = "no engine could run the calibration inputs; outputs are not compared";
        return;
    }
    if (runs.size() == 1) {
        result.reference = std::move(runs[0].outputs);
        result.reference_note = runs[0].key.engine + " at f32; no second engine runs this model";
        return;
    }
    std::optional<std::size_t> at;
    const std::string difference = first_difference(request, runs[0].outputs, runs[1].outputs, at);
    if (!at) {
        // A set that one engine refuses is left out: its values are unsuited (an index past a table's end, say), though the other engine returned
        // something.
        for (std::size_t i = 0; i < runs[0].outputs.size(); ++i) {
            if (runs[1].outputs[i].empty()) runs[0].outputs[i].clear();
        }
        result.reference = std::move(runs[0].outputs);
        result.reference_note = runs[0].key.engine + " and " + runs[1].key.engine + " agree at f32";
        return;
    }
    // They differ: a model that is random differs from itself, too.
    const auto stage = result.stages.find(runs[0].key);
    if (stage != result.stages.end() && stage->second) {
        std::string ignored;
        const std::vector<std::vector<Tensor>> again = run_sets(*stage->second, request, ignored);
        std::optional<std::size_t> self_at;
        const std::string self_difference = first_difference(request, runs[0].outputs, again, self_at);
        if (self_at) {
            result.reference.assign(request.calibration.size(), {});
            result.reference_note = "the model is not deterministic (" + self_difference + "); outputs are not compared";
            return;
        }
    }
    if (request.oracle) {
        if (const auto truth = request.oracle(request.calibration[*at])) {
            for (ReferenceRun& run : runs) {
                if (run.outputs[*at].empty()) continue;
                if (optimization::compare(*request.outputs, run.outputs[*at], *truth, request.tolerance).agrees) {
                    result.reference_note =
                        run.key.engine + " at f32; the engines differ (" + difference + ") and the reference evaluator agrees with it";
                    result.reference = std::move(run.outputs);
                    return;
                }
            }
        }
    }
    result.reference_note = runs[0].key.engine + " at f32; the engines differ (" + difference + "), the format's own runtime is believed";
    result.reference = std::move(runs[0].outputs);
}

void judge(Outcome& outcome, const std::vector<std::vector<Tensor>>& outputs, const TuneRequest& request,
           const std::vector<std::vector<Tensor>>& reference) {
    for (std::size_t i = 0; i < outputs.size(); ++i) {
        if (reference[i].empty()) continue;
        if (outputs[i].empty()) {
            if (request.outputs->empty()) continue;
            outcome.agrees = false;
            outcome.disagreement = "it refuses inputs that the reference runs";
            return;
        }
        const optimization::Agreement agreement = optimization::compare(*request.outputs, outputs[i], reference[i], request.tolerance);
        outcome.relative_error = std::max(outcome.relative_error, agreement.relative_error);
        if (!agreement.agrees) {
            outcome.agrees = outcome.key.precision == Precision::f32 ? request.foreign_reference : request.accept_lossy;
            outcome.disagreement = agreement.reason;
            return;
        }
    }
}

/// Milliseconds of the second execution, since the first one may still load and choose; large where there is none.
double run_ms(Stage& stage, const TuneRequest& request, const std::vector<std::vector<Tensor>>& reference, int batch) {
    constexpr double kUnknown = 1e300;
    const auto set = std::ranges::find_if(reference, [](const std::vector<Tensor>& outputs) { return !outputs.empty(); });
    if (set == reference.end()) return kUnknown;
    try {
        const auto parts = parts_of_sets(request.calibration, static_cast<std::size_t>(set - reference.begin()), batch);
        if (parts.empty() && batch > 1) return kUnknown;
        std::vector<Tensor> inputs;
        join_all(parts, inputs);
        (void)run_once(stage, inputs, request.outputs->size());
        const Clock::time_point start = Clock::now();
        (void)run_once(stage, inputs, request.outputs->size());
        return ms_since(start);
    } catch (const std::exception&) {  // what fails now fails while it is measured, and is told then
        return kUnknown;
    }
}

/// The short list's candidates that are not compiled yet, in the order of trying them.
class Untried {
public:
    struct One {
        const planning::Candidate* candidate = nullptr;
        bool promising = false;  ///< predicted to be at least twice as good as everything that is compiled
    };
    template <typename IsCompiled>
    Untried(const TuneRequest& request, const IsCompiled& is_compiled) {
        const auto worth = [&](const planning::Candidate& candidate) {
            if (request.throughput) return candidate.predicted_throughput_per_s;
            return candidate.predicted_latency_ms > 0 ? 1 / candidate.predicted_latency_ms : 0;
        };
        double compiled = 0;
        for (const planning::Candidate& candidate : request.candidates) {
            if (is_compiled(candidate.key)) compiled = std::max(compiled, worth(candidate));
        }
        for (const planning::Candidate& candidate : request.candidates) {
            if (candidate.to_measure && !is_compiled(candidate.key)) order_.push_back({&candidate, worth(candidate) > 2 * compiled});
        }
        // Of equally good ones that with more digits: it is the likelier one to be admitted.
        const auto digits = [](Precision precision) { return precision == Precision::f16 ? 11 : precision == Precision::bf16 ? 8 : 24; };
        std::ranges::stable_sort(order_, [&](const One& a, const One& b) {
            if (!a.promising || !b.promising) return a.promising && !b.promising;
            const double left = worth(*a.candidate), right = worth(*b.candidate);
            return left != right ? left > right : digits(a.candidate->key.precision) > digits(b.candidate->key.precision);
        });
    }
    [[nodiscard]] const std::vector<One>& in_order() const noexcept { return order_; }
    /// The first, if it will be tried whatever the time and no processor has to do with it; else null.
    [[nodiscard]] const planning::Candidate* ahead(const TuneRequest& request) const {
        if (request.budget.count() == 0 || request.processors.empty() || order_.empty()) return nullptr;
        const planning::Candidate& first = *order_.front().candidate;
        const bool elsewhere = std::ranges::none_of(planning::devices_of(first.key.device), [&](const std::string& device) {
            return std::ranges::find(request.processors, device) != request.processors.end();
        });
        return order_.front().promising && elsewhere && first.key.batch == 1 ? &first : nullptr;
    }

private:
    std::vector<One> order_;
};

}  // namespace

std::vector<Tensor> run_once(Stage& stage, const std::vector<Tensor>& inputs, std::size_t output_count) {
    Stage::Slot* slot = stage.try_take();
    std::vector<Tensor> outputs(output_count);
    try {
        slot->request->run(inputs, outputs);
    } catch (...) {
        stage.put_back(slot);
        throw;
    }
    stage.put_back(slot);
    return outputs;
}

planning::Outcome verify(const CandidateKey& key, std::shared_ptr<Stage>& stage, const TuneRequest& request,
                         const std::vector<std::vector<Tensor>>& reference, StageFactory& factory) {
    Outcome outcome;
    outcome.key = key;
    compile_into(outcome, stage, factory);
    if (!stage) return outcome;
    std::vector<std::vector<Tensor>> outputs(request.calibration.size());
    std::string failure;
    // A batch holds different sets, so that a model which mixes its rows is found out.
    const int batch = key.batch;
    for (std::size_t first = 0; first < outputs.size(); first += static_cast<std::size_t>(batch)) {
        try {
            const std::vector<std::vector<const Tensor*>> parts = parts_of_sets(request.calibration, first, batch);
            if (parts.empty() && batch > 1)
                throw Error(ErrorCode::unimplemented, ErrorCategory::compilation, "calibration inputs of several shapes make no batch");
            std::vector<Tensor> inputs;
            join_all(parts, inputs);
            const std::vector<Tensor> merged = run_once(*stage, inputs, request.outputs->size());
            for (std::size_t i = first; i < std::min(outputs.size(), first + static_cast<std::size_t>(batch)); ++i) {
                outputs[i] = part_of_batch(merged, batch, static_cast<int>(i - first));
            }
        } catch (...) {
            failure = current_reason();
        }
    }
    if (!failure.empty() && any_output(reference, request.outputs->size()) && !any_output(outputs, request.outputs->size())) {
        outcome.compiled = false;
        outcome.failure = failure;
        return outcome;
    }
    judge(outcome, outputs, request, reference);
    return outcome;
}

TuneResult tune(const TuneRequest& request, StageFactory& factory) {
    TuneResult result;
    const Clock::time_point start = Clock::now();
    const Clock::time_point end = start + request.budget;
    const auto check_stop = [&] {
        if (request.stop.stop_requested()) throw Error(ErrorCode::cancelled, ErrorCategory::compilation, "planning was cancelled");
    };
    const auto progress = [&](double fraction) {
        if (request.progress) request.progress("tune", fraction);
    };

    std::vector<Contender> contenders;

    // What will be tried first, whatever the time, and runs elsewhere is compiled while the processor works on the reference.
    const Untried untried(request,
                          [&](const CandidateKey& key) { return std::ranges::find(request.reference_keys, key) != request.reference_keys.end(); });
    Contender ahead;
    std::future<void> compiling;
    if (const planning::Candidate* const first = untried.ahead(request)) {
        ahead.outcome.key = first->key;
        try {
            compiling = std::async(std::launch::async, [&] { compile_into(ahead.outcome, ahead.stage, factory); });
        } catch (const std::system_error&) {  // no thread: its turn comes
        }
    }

    // The reference engines first: every other outcome is judged by them.
    double item_ms = 0;  // of one execution, about: the quickest engine's
    std::vector<ReferenceRun> runs;
    std::map<CandidateKey, std::vector<std::vector<Tensor>>> outputs_of;
    for (const CandidateKey& key : request.reference_keys) {
        check_stop();
        Contender contender;
        contender.outcome.key = key;
        compile_into(contender.outcome, contender.stage, factory);
        if (contender.stage) {
            std::string failure;
            const Clock::time_point run_start = Clock::now();
            std::vector<std::vector<Tensor>> outputs = run_sets(*contender.stage, request, failure);
            const double run_ms = ms_since(run_start) / static_cast<double>(std::max<std::size_t>(outputs.size(), 1));
            item_ms = item_ms == 0 ? run_ms : std::min(item_ms, run_ms);
            if (any_output(outputs, request.outputs->size())) {
                outputs_of[key] = outputs;
                runs.push_back({key, std::move(outputs)});
            } else {
                contender.outcome.failure = failure;  // kept as compiled: the inputs may be unsuited
            }
            result.stages[key] = contender.stage;
        }
        contenders.push_back(std::move(contender));
    }
    settle_reference(result, request, runs);
    const bool comparable = any_output(result.reference, request.outputs->size());
    for (Contender& contender : contenders) {
        if (!contender.stage) continue;
        if (!contender.outcome.failure.empty()) {
            if (comparable) {
                contender.outcome.compiled = false;
            } else {
                result.failure += (result.failure.empty() ? "" : "; ") + contender.outcome.key.engine + ": " + contender.outcome.failure;
                contender.outcome.failure.clear();
            }
            contender.alive = false;
            continue;
        }
        if (const auto outputs = outputs_of.find(contender.outcome.key); outputs != outputs_of.end()) {
            judge(contender.outcome, outputs->second, request, result.reference);
        }
    }
    outputs_of.clear();

    // The rest of the short list, as far as time allows: compiling may take half of it; all of it for the plain ones (f32, no batch), which are the
    // exact fallbacks and often the best. What is predicted to be far better than all that is compiled comes first and is tried whatever the time,
    // as long as nothing that was tried has run as fast as it is predicted to: a device that nothing else keeps up with is not given up for a
    // compiler's seconds, nor for a prediction that another one did not keep. A batch that runs for long is left out: it would take the time of
    // several others and has the least to gain, since what batching saves is the overhead of a call.
    const Clock::time_point compile_end = start + request.budget / 2;
    const double longest_batch_ms = static_cast<double>(request.budget.count()) / 20;
    // What compiling takes, by what it took for the same engine and precision, or for anything.
    const auto compile_time = [&](const CandidateKey& key) {
        double alike_ms = 0, any_ms = 0;
        for (const Contender& contender : contenders) {
            const Outcome& known = contender.outcome;
            any_ms = std::max(any_ms, known.compile_ms);
            if (known.key.engine == key.engine && known.key.precision == key.precision) alike_ms = std::max(alike_ms, known.compile_ms);
        }
        return std::chrono::microseconds(static_cast<std::int64_t>(1e3 * (alike_ms > 0 ? alike_ms : any_ms)));
    };
    bool lossy_differs = false;
    double best_ms = 1e300;  // per item, of what agreed with the reference
    std::size_t seen = 0;
    for (const auto& [candidate, promising] : untried.in_order()) {
        progress(0.5 * static_cast<double>(++seen) / static_cast<double>(untried.in_order().size()));
        check_stop();
        const bool plain = candidate->key.precision == Precision::f32 && candidate->key.batch == 1;
        const double predicted_ms = candidate->predicted_latency_ms / candidate->key.batch;
        const bool needed = promising && predicted_ms < best_ms && (plain || !lossy_differs);
        const bool late = Clock::now() + compile_time(candidate->key) > (plain ? end : compile_end);
        if ((late && !needed) || request.budget.count() == 0) continue;
        if (candidate->key.batch > 1 && item_ms * candidate->key.batch > longest_batch_ms) continue;
        Contender contender;
        if (compiling.valid() && ahead.outcome.key == candidate->key) {
            compiling.get();
            contender = std::move(ahead);
        }
        if (contender.stage || contender.outcome.failure.empty()) {
            const double compiled_ms = contender.outcome.compile_ms;
            contender.outcome = verify(candidate->key, contender.stage, request, result.reference, factory);
            contender.outcome.compile_ms += compiled_ms;
        }
        if (promising && contender.outcome.compiled && contender.outcome.agrees) {
            best_ms = std::min(best_ms, run_ms(*contender.stage, request, result.reference, candidate->key.batch) / candidate->key.batch);
        }
        lossy_differs = lossy_differs || (!plain && contender.outcome.compiled && !contender.outcome.agrees);
        if (contender.stage && contender.outcome.compiled) result.stages[candidate->key] = contender.stage;
        contenders.push_back(std::move(contender));
    }

    // Interleaved rounds; who is far behind drops out.
    const auto set = std::ranges::find_if(result.reference, [](const std::vector<Tensor>& outputs) { return !outputs.empty(); });
    if (set != result.reference.end() && request.budget.count() > 0) {
        const auto chosen_set = static_cast<std::size_t>(set - result.reference.begin());
        for (Contender& contender : contenders) {
            const bool wanted =
                std::ranges::any_of(request.candidates, [&](const planning::Candidate& c) { return c.key == contender.outcome.key && !c.rejected; });
            contender.alive = contender.alive && wanted && contender.stage && contender.outcome.compiled && contender.outcome.agrees;
            if (!contender.alive) continue;
            contender.parts = parts_of_sets(request.calibration, chosen_set, contender.outcome.key.batch);
        }
        Rounds rounds;
        std::vector<Standing> standings(contenders.size());
        for (std::size_t i = 0; i < contenders.size(); ++i) standings[i].alive = contenders[i].alive;
        // Compiling may have taken all of the time: what was compiled is measured all the same.
        const Clock::time_point last = std::max(end, Clock::now() + request.budget / 10);
        const auto left = [end = last] { return std::chrono::duration_cast<std::chrono::milliseconds>(end - Clock::now()); };
        const double first_left = std::max(static_cast<double>(left().count()), 1.0);
        while (const auto span = rounds.next(standings, left())) {
            for (std::size_t i = 0; i < contenders.size(); ++i) {
                if (!standings[i].alive) continue;
                check_stop();
                burst(contenders[i], request.outputs->size(), *span, request.throughput);
                standings[i].alive = contenders[i].alive;
                standings[i].costs = contenders[i].latencies_ms;
                if (!request.throughput) continue;
                standings[i].costs.clear();
                for (const double rate : contenders[i].rates_per_s) standings[i].costs.push_back(rate > 0 ? 1 / rate : 1e300);
            }
            rounds.finish(standings);
            progress(0.5 + 0.5 * std::clamp(1 - static_cast<double>(left().count()) / first_left, 0.0, 1.0));
        }
    }
    for (Contender& contender : contenders) {
        if (!contender.latencies_ms.empty() && contender.outcome.compiled) {
            contender.outcome.latency_ms = contender.median_ms();
            contender.outcome.latency_p90_ms = quantile(contender.latencies_ms, 0.9);
            contender.outcome.throughput_per_s = contender.median_rate();
            contender.outcome.cpu_ms_per_item = contender.cpu_ms / static_cast<double>(std::max<std::size_t>(contender.items, 1));
        }
        result.outcomes.push_back(std::move(contender.outcome));
    }
    progress(1.0);
    return result;
}

}  // namespace ai_vmm::runtime
