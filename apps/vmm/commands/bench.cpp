// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <thread>

#include "bench/statistics.hpp"
#include "cli.hpp"
#include "commands/bench_contender.hpp"
#include "commands/build_info.hpp"
#include "commands/input_options.hpp"
#include "io/values.hpp"

namespace ai_vmm::cli {
namespace {

struct Options : DeployFlags {
    std::vector<std::string> scenarios;
    std::vector<std::string> against;
    bool same_config = false;
    double seconds = 5;
    std::size_t requests = 0;
    std::size_t warmup = 10;
    std::size_t rounds = 0;
    int callers = 0;
    double rate = 0;
    double tolerance = 1e-2;
    bool samples = false;
};

/// A contender with what was measured.
struct Entry {
    Contender contender;
    std::optional<Verification> verification;
    std::optional<Error> error;  ///< why it could not be loaded
    std::vector<std::unique_ptr<native::Caller>> callers;
    std::vector<double> samples_ms;
    std::vector<double> round_p50_ms;
    std::vector<double> round_per_s;
    std::size_t batch_items = 0;      ///< of one offline call
    std::function<void()> run_batch;  ///< that call
    std::function<void()> run_few;    ///< a short one, to warm up
    [[nodiscard]] bool timed() const { return !round_p50_ms.empty() || !round_per_s.empty(); }
};

struct Scenario {
    std::string name;
    bool throughput = false;  ///< what counts
    DeploymentDescription description;
    std::vector<Entry> entries;  ///< AI VMM first
    std::optional<ServerRound> server;
    double server_rate = 0;
    double server_bound_ms = 0;  ///< of the 99th percentile, while the rate was searched
    std::size_t rounds = 0;
};

std::vector<std::string> split_names(const std::vector<std::string>& lists) {
    std::vector<std::string> names;
    for (const std::string& list : lists) {
        for (std::size_t at = 0; at <= list.size();) {
            const std::size_t end = std::min(list.find(',', at), list.size());
            if (end > at) names.push_back(list.substr(at, end - at));
            at = end + 1;
        }
    }
    return names;
}

/// A throughput contender takes the better of the engine's throughput settings and its default settings.
Contender best_for_throughput(const std::string& name, const Options& options, native::Settings settings, const TensorMap& inputs) {
    std::optional<Contender> best;
    double most = 0;
    for (const native::Aim aim : {native::Aim::throughput, native::Aim::latency}) {
        settings.aim = aim;
        Contender contender = native_contender(name, options.model, settings, inputs);
        std::vector<std::unique_ptr<native::Caller>> callers;
        for (int i = 0; i < contender.callers; ++i) callers.push_back(contender.make_caller());
        static_cast<void>(run_parallel(callers, {.executions = callers.size() * 3}));
        const double rate = run_parallel(callers, {.time = std::chrono::milliseconds(300)}).throughput_per_s;
        if (best && rate <= most) continue;
        most = rate;
        best = std::move(contender);
    }
    return std::move(*best);
}

/// Lets spinning worker threads of the previous contender go to sleep.
void settle() { std::this_thread::sleep_for(std::chrono::milliseconds(20)); }

/// Prepares the offline call: of so many items that it takes about half of a round, since starting and ending one is not what is measured. The
/// natives' inputs are bound before their time starts, so the items are made before it, too.
void prepare_batch(Entry& entry, const Limit& limit) {
    constexpr std::size_t kItemLimit = 65536;
    const auto prepare = [&](std::size_t items) {
        entry.batch_items = items;
        entry.run_batch = entry.contender.make_batch(items);
    };
    entry.run_few = entry.contender.make_batch(2 * entry.contender.full_batch);
    prepare(limit.executions > 0 ? limit.executions : 64);
    for (;;) {
        const auto before = std::chrono::steady_clock::now();
        entry.run_batch();
        const auto took = std::chrono::steady_clock::now() - before;
        if (limit.executions > 0 || took >= limit.time / 3 || entry.batch_items >= kItemLimit) return;
        prepare(entry.batch_items * 2);
    }
}

Round timed_round(Entry& entry, const Limit& limit) {
    if (entry.run_batch) {
        const auto start = std::chrono::steady_clock::now();
        Round round;
        for (;;) {
            const auto before = std::chrono::steady_clock::now();
            entry.run_batch();
            const auto after = std::chrono::steady_clock::now();
            round.executions += entry.batch_items;
            round.samples_ms.push_back(std::chrono::duration<double, std::milli>(after - before).count() / static_cast<double>(entry.batch_items));
            if (limit.executions > 0 || after - start >= limit.time) {
                round.throughput_per_s = static_cast<double>(round.executions) / std::chrono::duration<double>(after - start).count();
                return round;
            }
        }
    }
    return entry.callers.size() == 1 ? run_single(*entry.callers.front(), limit) : run_parallel(entry.callers, limit);
}

/// Some executions that don't count, as they are timed: side by side where callers run side by side.
void warm_up(Entry& entry, std::size_t executions) {
    if (executions == 0) return;
    if (entry.run_few) {
        entry.run_few();
    } else if (entry.callers.size() == 1) {
        for (std::size_t i = 0; i < executions; ++i) entry.callers.front()->run();
    } else {
        static_cast<void>(run_parallel(entry.callers, {.executions = executions * entry.callers.size()}));
    }
}

void run_rounds(Scenario& scenario, const Options& options, ProgressBar& bar) {
    std::vector<Entry*> running;
    for (Entry& entry : scenario.entries) {
        if (!entry.error && (!entry.verification || entry.verification->agrees)) running.push_back(&entry);
    }
    scenario.rounds = options.rounds > 0 ? options.rounds : running.size() == 1 ? 1 : options.same_config ? 20 : 5;
    const Limit limit{.time = std::chrono::nanoseconds(static_cast<std::int64_t>(options.seconds * 1e9 / static_cast<double>(scenario.rounds))),
                      .executions = options.requests == 0 ? 0 : std::max<std::size_t>(1, options.requests / scenario.rounds)};
    for (Entry* entry : running) {
        if (scenario.name == "offline" && entry->contender.make_batch) {
            prepare_batch(*entry, limit);
        } else {
            const int wanted = scenario.name == "multi-stream" ? options.callers : scenario.name == "offline" ? entry->contender.callers : 1;
            for (int i = 0; i < wanted; ++i) entry->callers.push_back(entry->contender.make_caller());
            entry->callers.front()->run();
        }
        warm_up(*entry, options.warmup);
    }
    for (std::size_t round = 0; round < scenario.rounds; ++round) {
        for (std::size_t turn = 0; turn < running.size(); ++turn) {
            Entry& entry = *running[(turn + round) % running.size()];  // another one first each time
            bar.update(fmt::format("{}: {}", scenario.name, entry.contender.name),
                       static_cast<double>(round * running.size() + turn) / static_cast<double>(scenario.rounds * running.size()));
            settle();
            if (running.size() > 1) warm_up(entry, 2);
            Round result = timed_round(entry, limit);
            entry.round_p50_ms.push_back(median(result.samples_ms));
            entry.round_per_s.push_back(result.throughput_per_s);
            entry.samples_ms.insert(entry.samples_ms.end(), result.samples_ms.begin(), result.samples_ms.end());
        }
    }
    bar.clear();
}

/// The rate that was asked for; otherwise the highest found whose 99th percentile stays within the bound.
void run_server_scenario(Scenario& scenario, const Options& options, Deployment& deployment, const TensorMap& inputs, ProgressBar& bar) {
    const auto probe = [&](double rate, double seconds) {
        return run_server(deployment, inputs, rate,
                          {.time = std::chrono::nanoseconds(static_cast<std::int64_t>(seconds * 1e9)), .executions = options.requests},
                          options.inputs.seed + 1);
    };
    if (options.rate > 0) {
        bar.update("server", 0);
        scenario.server_rate = options.rate;
        scenario.server = probe(options.rate, options.seconds);
        bar.clear();
        return;
    }
    native::Caller& caller = *scenario.entries.front().callers.front();
    const Percentiles alone = percentiles(run_single(caller, {.time = std::chrono::milliseconds(300)}).samples_ms);
    const double alone_ms = std::max(1e-3, alone.p50);
    scenario.server_bound_ms =
        options.constraints.max_latency_ms > 0 ? options.constraints.max_latency_ms : std::max(5 * alone_ms + 1, 2 * alone.p99);
    constexpr int kProbes = 8;
    double good = 0;
    double bad = 0;
    double rate = 500 / alone_ms;  // half of what one caller gets
    for (int i = 0; i < kProbes; ++i) {
        bar.update(fmt::format("server: {} per second", format_number(rate)), static_cast<double>(i) / kProbes);
        ServerRound round = probe(rate, options.seconds / kProbes);
        const bool within = !round.samples_ms.empty() && round.refused == 0 && round.failed == 0 &&
                            percentiles(round.samples_ms).p99 <= scenario.server_bound_ms && round.achieved_per_s > 0.9 * rate;
        if (within && rate > good) {
            good = rate;
            scenario.server_rate = rate;
            scenario.server = std::move(round);
        } else if (!within && (bad == 0 || rate < bad)) {
            bad = rate;
        }
        rate = bad == 0 ? rate * 1.6 : good == 0 ? rate / 2 : (good + bad) / 2;
    }
    bar.clear();
    if (!scenario.server) {
        throw Error(ErrorCode::failed_precondition, ErrorCategory::performance, "no arrival rate keeps the 99th percentile within the bound",
                    {.expected = fmt::format("at most {} ms", format_number(scenario.server_bound_ms)),
                     .found = fmt::format("more even at {} per second", format_number(rate)),
                     .advice = "give --rate, or a larger --max-latency-ms"});
    }
}

Scenario run_scenario(const Context& context, const Options& options, const std::string& name) {
    Scenario scenario{.name = name, .throughput = name == "offline" || name == "multi-stream"};
    Constraints constraints = options.constraints.constraints();
    if (options.constraints.goal.empty() && scenario.throughput) constraints.goal = Goal::throughput;
    const InputOptions input_options = options.inputs.options({}, options.inputs.given.empty());
    const std::shared_ptr<Deployment> deployment = options.deploy(context, constraints);
    ProgressBar bar(context.terminal, !context.quiet);
    scenario.description = deployment->describe();

    const Inputs inputs = options.inputs.inputs_for(*deployment, input_options, constraints.input_shapes);
    std::vector<Tensor> ordered;
    for (const auto& [input, tensor] : inputs.tensors) ordered.push_back(tensor);

    scenario.entries.push_back({.contender = own_contender(deployment, ordered)});
    native::Settings settings;
    for (const TensorInfo& info : deployment->inputs()) {
        if (info.is_dynamic()) settings.input_shapes.emplace_back(info.name, inputs.tensors.at(info.name).shape());
    }
    std::vector<std::string> names = split_names(options.against);
    if (options.same_config) {
        names = {scenario.description.engine.substr(0, scenario.description.engine.find(' '))};
        settings.aim = native::Aim::as_given;
        settings.precision = scenario.description.precision;
        settings.threads = scenario.description.threads;
        settings.streams = scenario.description.streams;
    }
    for (const std::string& engine : names) {
        bar.update("loading " + engine, 0);
        Entry entry{.contender = {.name = engine}};
        try {
            entry.contender = scenario.throughput && !options.same_config ? best_for_throughput(engine, options, settings, inputs.tensors)
                                                                          : native_contender(engine, options.model, settings, inputs.tensors);
            entry.verification = verify(scenario.entries.front().contender, entry.contender, options.tolerance);
        } catch (const Error& error) {
            if (error.code() == ErrorCode::invalid_argument) throw;
            entry.error = error;
        }
        scenario.entries.push_back(std::move(entry));
    }
    bar.clear();
    if (name == "server") {
        Entry& own = scenario.entries.front();
        own.callers.push_back(own.contender.make_caller());
        warm_up(own, options.warmup);
        run_server_scenario(scenario, options, *deployment, inputs.tensors, bar);
        own.samples_ms = scenario.server->samples_ms;
        own.round_per_s.push_back(scenario.server->achieved_per_s);
        scenario.rounds = 1;
    } else {
        run_rounds(scenario, options, bar);
    }
    for (Entry& entry : scenario.entries) entry.callers.clear();
    return scenario;
}

Ratio speed_over(const Scenario& scenario, const Entry& other) {
    const Entry& own = scenario.entries.front();
    if (scenario.throughput) return ratio_of(own.round_per_s, other.round_per_s, median(own.round_per_s), median(other.round_per_s));
    return ratio_of(other.round_p50_ms, own.round_p50_ms, median(other.samples_ms), median(own.samples_ms));
}

/// What AI VMM adds to one execution, in microseconds: the difference of the medians, and of the rounds' medians at least and most.
Ratio added_us(const Entry& own, const Entry& other) {
    Ratio added{.value = 1000 * (median(own.samples_ms) - median(other.samples_ms))};
    for (std::size_t i = 0; i < std::min(own.round_p50_ms.size(), other.round_p50_ms.size()); ++i) {
        const double value = 1000 * (own.round_p50_ms[i] - other.round_p50_ms[i]);
        added.low = i == 0 ? value : std::min(added.low, value);
        added.high = i == 0 ? value : std::max(added.high, value);
    }
    return added;
}

Json scenario_json(const Scenario& scenario, const Options& options) {
    Json contenders = Json::array();
    Json ratios = Json::array();
    for (const Entry& entry : scenario.entries) {
        const bool own = &entry == &scenario.entries.front();
        Json object{{"name", entry.contender.name},
                    {"version", entry.contender.version},
                    {"settings", entry.contender.settings},
                    {"status", entry.error     ? "not_loaded"
                               : entry.timed() ? "timed"
                                               : "not_verified"}};
        if (entry.error) object["error"] = to_json(*entry.error)["error"];
        if (entry.verification) {
            const auto finite = [](double value) { return std::isfinite(value) ? Json(value) : Json(nullptr); };
            object["verification"] = {{"agrees", entry.verification->agrees},
                                      {"relative_error", finite(entry.verification->relative_error)},
                                      {"max_scaled_error", finite(entry.verification->max_scaled_error)},
                                      {"same_top", entry.verification->same_top},
                                      {"tolerance", options.tolerance},
                                      {"reason", entry.verification->reason}};
        }
        if (entry.timed()) {
            object["latency"] = to_json(percentiles(entry.samples_ms));
            object["throughput_per_s"] = median(entry.round_per_s);
            object["rounds"] = {{"p50_ms", entry.round_p50_ms}, {"throughput_per_s", entry.round_per_s}};
            if (options.samples) object["samples_ms"] = entry.samples_ms;
            if (!own) {
                Json ratio{{"over", entry.contender.name}, {"of", scenario.throughput ? "throughput" : "latency"}};
                ratio.update(to_json(speed_over(scenario, entry)));
                ratios.push_back(std::move(ratio));
            }
        }
        contenders.push_back(std::move(object));
    }
    Json object{{"scenario", scenario.name},
                {"deployment", to_json(scenario.description)},
                {"rounds", scenario.rounds},
                {"contenders", std::move(contenders)},
                {"ratios", std::move(ratios)}};
    if (options.same_config && scenario.entries.size() > 1 && scenario.entries[1].timed()) {
        const Ratio added = added_us(scenario.entries[0], scenario.entries[1]);
        object["added_latency_us"] = to_json(added);
    }
    if (scenario.server) {
        object["server"] = {{"rate_per_s", scenario.server_rate},
                            {"bound_p99_ms", scenario.server_bound_ms > 0 ? Json(scenario.server_bound_ms) : Json(nullptr)},
                            {"refused", scenario.server->refused},
                            {"failed", scenario.server->failed},
                            {"generator_lag_p99_ms", scenario.server->generator_lag_p99_ms}};
    }
    return object;
}

/// An engine's report cut to what a person reads; the JSON has all of it.
std::string one_line(std::string text) {
    std::ranges::replace(text, '\n', ' ');
    return elide(printable(text), 240);
}

/// Indented lines that fit the terminal.
std::string folded(const Context& context, const std::string& text, Tone tone) {
    const std::size_t room = context.terminal.width > 24 ? static_cast<std::size_t>(context.terminal.width) - 4 : 0;
    std::string out;
    for (const std::string& line : wrap(printable(text), room)) out += (out.empty() ? "  " : "    ") + context.paint(line, tone) + "\n";
    return out;
}

std::string scenario_text(const Context& context, const Scenario& scenario, const Options& options) {
    std::string out =
        fmt::format("{}  {} on {} in {}, {} thread{} x {} stream{}\n", context.paint(scenario.name, Tone::bold),
                    printable(scenario.description.engine), scenario.description.device, scenario.description.precision, scenario.description.threads,
                    scenario.description.threads == 1 ? "" : "s", scenario.description.streams, scenario.description.streams == 1 ? "" : "s");
    std::string settings;
    Table table;
    table.column("")
        .column("P50", Table::Align::right)
        .column("P90", Table::Align::right)
        .column("P95", Table::Align::right)
        .column("P99", Table::Align::right);
    table.column("P99.9", Table::Align::right).column("PER SECOND", Table::Align::right).column("RUNS", Table::Align::right);
    for (const Entry& entry : scenario.entries) {
        if (!entry.timed()) continue;
        const Percentiles times = percentiles(entry.samples_ms);
        table.row({{entry.contender.name, Tone::accent},
                   format_ms(times.p50),
                   format_ms(times.p90),
                   format_ms(times.p95),
                   format_ms(times.p99),
                   format_ms(times.p99_9),
                   format_number(median(entry.round_per_s)),
                   std::to_string(times.count)});
        settings += folded(context, fmt::format("{}: {}", entry.contender.name, entry.contender.settings), Tone::dim);
    }
    out += context.render(table, 2) + settings;
    for (std::size_t i = 1; i < scenario.entries.size(); ++i) {
        const Entry& entry = scenario.entries[i];
        if (entry.error) {
            out += fmt::format("  {} {}: {}\n", context.paint("not compared", Tone::warning), entry.contender.name, one_line(entry.error->message()));
            continue;
        }
        if (!entry.timed()) {
            out += fmt::format("  {} {}: {}\n", context.paint("not timed", Tone::bad), entry.contender.name, printable(entry.verification->reason));
            continue;
        }
        const Ratio ratio = speed_over(scenario, entry);
        out += fmt::format("  {} {} natively ({:.2f} to {:.2f} in {} rounds); outputs agree within {:.2g}{}\n",
                           context.paint(fmt::format("{:.2f}x", ratio.value), ratio.value >= 1 ? Tone::good : Tone::warning), entry.contender.name,
                           ratio.low, ratio.high, scenario.rounds, entry.verification->relative_error,
                           entry.verification->same_top ? "" : ", another class leads");
        if (options.same_config) {
            const Ratio added = added_us(scenario.entries.front(), entry);
            const double base = 1000 * median(entry.samples_ms);
            out += fmt::format("  added latency {} µs ({:+.2f} %), {} to {} over the rounds\n", format_number(added.value),
                               base > 0 ? 100 * added.value / base : 0, format_number(added.low), format_number(added.high));
        }
    }
    if (scenario.server) {
        out +=
            fmt::format("  {} arrivals per second{}; {} refused, {} failed; sent at most {} late (p99)\n", format_number(scenario.server_rate),
                        scenario.server_bound_ms > 0 ? fmt::format(", the most found with p99 within {}", format_ms(scenario.server_bound_ms)) : "",
                        scenario.server->refused, scenario.server->failed, format_ms(scenario.server->generator_lag_p99_ms));
    }
    return out;
}

int execute(Context& context, Options options) {
    std::vector<std::string> scenarios = split_names(options.scenarios);
    if (scenarios.empty()) scenarios.emplace_back("single-stream");
    const std::vector<std::string> known{"single-stream", "multi-stream", "offline", "server"};
    for (const std::string& name : scenarios) {
        if (std::ranges::find(known, name) != known.end()) continue;
        const std::string near = suggestion(name, known);
        throw usage_error(fmt::format("no scenario '{}'", name), {.expected = "single-stream, multi-stream, offline or server",
                                                                  .found = name,
                                                                  .advice = near.empty() ? "" : fmt::format("did you mean '{}'?", near)});
    }
    for (const std::string& engine : split_names(options.against)) {
        if (engine != "openvino" && engine != "onnxruntime")
            throw usage_error(fmt::format("no engine '{}' to compare with", engine),
                              {.expected = "openvino or onnxruntime", .found = engine, .advice = {}});
    }
    const bool server = std::ranges::find(scenarios, "server") != scenarios.end();
    if (server && (!options.against.empty() || options.same_config)) {
        throw usage_error("the engines have no server of their own to compare with",
                          {.expected = "single-stream, multi-stream or offline with --against and --same-config", .found = "server", .advice = {}});
    }
    if (options.same_config && !options.against.empty())
        throw usage_error("--same-config compares with the engine that the plan chose: leave --against out");
    if (options.same_config && scenarios != std::vector<std::string>{"single-stream"}) throw usage_error("--same-config is for single-stream");
    if (options.callers == 0) options.callers = std::max(2, static_cast<int>(std::thread::hardware_concurrency()));
    if (options.inputs.seed == 0) options.inputs.seed = 1;

    std::vector<Scenario> results;
    bool agree = true;
    for (const std::string& name : scenarios) {
        const Scenario& result = results.emplace_back(run_scenario(context, options, name));
        for (const Entry& entry : result.entries) agree = agree && (!entry.verification || entry.verification->agrees);
        if (!context.json) context.print(scenario_text(context, result, options));
    }
    if (context.json) {
        Json list = Json::array();
        for (const Scenario& scenario : results) list.push_back(scenario_json(scenario, options));
        char host[256] = {};
        ::gethostname(host, sizeof(host) - 1);
        context.emit(Json{{"schema", "vmm.bench/1"},
                          {"model", options.model},
                          {"version", version()},
                          {"commit", commit()},
                          {"compiler", compiler()},
                          {"host", {{"name", host}, {"processors", std::thread::hardware_concurrency()}}},
                          {"agree", agree},
                          {"scenarios", std::move(list)}});
    }
    return agree ? kOk : kNo;
}

}  // namespace

Command add_bench(CLI::App& root) {
    CLI::App* app = add_subcommand(root, "bench", "time a model, and compare with the engines called natively",
                                   "  vmm bench resnet50.onnx\n"
                                   "  vmm bench resnet50.onnx --against openvino,onnxruntime\n"
                                   "  vmm bench resnet50.onnx --scenario offline --against openvino --seconds 20\n"
                                   "  vmm bench resnet50.onnx --scenario server --rate 200\n"
                                   "  vmm bench resnet50.onnx --same-config        # what AI VMM adds to one call\n"
                                   "  vmm bench bert.onnx --shape input_ids=1x128 --json\n"
                                   "\n"
                                   "Engines run natively in this process with their own recommended settings in\n"
                                   "f32, in turns with AI VMM. Outputs are compared first: what does not agree is\n"
                                   "not timed, and the exit status is 1. A ratio above 1 means AI VMM is faster.");
    auto options = std::make_shared<Options>();
    options->add_model_to(*app);
    const auto group = [](CLI::Option* option) { option->group("Measurement"); };
    group(app->add_option("-s,--scenario", options->scenarios, "single-stream (default), multi-stream, offline, server (repeatable)")
              ->type_name("S")
              ->take_all()
              ->expected(1));
    group(app->add_option("--against", options->against, "run natively beside it: openvino,onnxruntime")->type_name("E")->take_all()->expected(1));
    group(app->add_flag("--same-config", options->same_config, "compare with the chosen engine, configured as the plan says"));
    group(app->add_option("--seconds", options->seconds, "time per scenario and contender (default 5)")
              ->type_name("N")
              ->check(in_range(0.01, 86400.0)));
    group(app->add_option("--requests", options->requests, "so many executions per scenario and contender instead")->type_name("N"));
    group(app->add_option("--warmup", options->warmup, "executions before (default 10)")->type_name("N"));
    group(app->add_option("--rounds", options->rounds, "turns of each contender (default 5; 20 with --same-config)")
              ->type_name("N")
              ->check(in_range(1, 10000)));
    group(app->add_option("--callers", options->callers, "multi-stream: threads that call at once (default: processors)")
              ->type_name("N")
              ->check(in_range(1, 1024)));
    group(app->add_option("--rate", options->rate, "server: arrivals per second (default: searched)")->type_name("R")->check(in_range(0.001, 1e7)));
    group(app->add_option("--tolerance", options->tolerance, "relative error up to which outputs agree (default 0.01)")
              ->type_name("F")
              ->check(in_range(0.0, 1.0)));
    group(app->add_flag("--samples", options->samples, "JSON with every sample"));
    options->inputs.add_to(*app);
    options->add_deployment_to(*app);
    return {app, [options](Context& context) { return execute(context, *options); }};
}

}  // namespace ai_vmm::cli
