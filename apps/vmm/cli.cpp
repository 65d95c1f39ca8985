// SPDX-License-Identifier: Apache-2.0
#include "cli.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <cstdlib>

#include "io/inputs.hpp"

namespace ai_vmm::cli {
namespace {

constexpr Json::error_handler_t kReplace = Json::error_handler_t::replace;  // names in a model file need not be UTF-8

std::vector<std::string> split(const std::vector<std::string>& lists) {
    std::vector<std::string> words;
    for (const std::string& list : lists) {
        for (std::size_t at = 0; at <= list.size();) {
            const std::size_t end = std::min(list.find(',', at), list.size());
            if (end > at) words.push_back(list.substr(at, end - at));
            at = end + 1;
        }
    }
    return words;
}

Precision precision_of(const std::string& name) {
    const auto precision = precision_from_string(name);
    if (!precision) throw usage_error(fmt::format("'{}' is no precision", name), {.expected = "auto, f32, bf16 or f16", .found = name, .advice = {}});
    return *precision;
}

std::string exit_class(const Error& error) {
    return error.code() == ErrorCode::failed_precondition && error.category() == ErrorCategory::performance ? "constraint refused"
                                                                                                            : std::string(to_string(error.code()));
}

}  // namespace

int exit_status_of(const Error& error) noexcept {
    switch (error.code()) {
        case ErrorCode::ok: return kOk;
        case ErrorCode::invalid_argument:
        case ErrorCode::out_of_range: return kUsage;
        case ErrorCode::not_found: return kNotFound;
        case ErrorCode::permission_denied:
        case ErrorCode::unauthenticated: return kPermission;
        case ErrorCode::unimplemented: return kUnsupported;
        case ErrorCode::failed_precondition: return error.category() == ErrorCategory::performance ? kRefused : kState;
        case ErrorCode::already_exists: return kState;
        case ErrorCode::resource_exhausted: return kResources;
        case ErrorCode::data_loss: return kDataLoss;
        case ErrorCode::cancelled:
        case ErrorCode::deadline_exceeded:
        case ErrorCode::aborted: return kCancelled;
        case ErrorCode::unavailable: return kUnavailable;
        case ErrorCode::internal:
        case ErrorCode::unknown: return kInternal;
    }
    return kInternal;
}

void Context::print(std::string_view text) const {
    if (std::fwrite(text.data(), 1, text.size(), stdout) == text.size() && std::fflush(stdout) == 0) return;
    if (errno == EPIPE) std::_Exit(kOk);  // the reader has gone; SIGPIPE is ignored by some parents
    throw Error(ErrorCode::resource_exhausted, ErrorCategory::system, fmt::format("can't write to standard output (error {})", errno));
}

void Context::emit(const Json& object) const { print(object.dump(terminal.out_is_terminal ? 2 : -1, ' ', false, kReplace) + "\n"); }

void Context::note(std::string_view text) const {
    if (quiet || json) return;
    constexpr std::size_t kLabel = 6;
    const auto columns = static_cast<std::size_t>(std::max(terminal.width, 0));
    std::string folded;
    for (const std::string& line : wrap(printable(text), columns > 2 * kLabel ? columns - kLabel : 0))
        folded += (folded.empty() ? "" : "\n      ") + line;
    fmt::print(stderr, "{} {}\n", cli::paint("note:", Tone::dim, terminal.err_colour), folded);
}

Json to_json(const Error& error) {
    return {{"error",
             {{"code", to_string(error.code())},
              {"category", to_string(error.category())},
              {"message", error.message()},
              {"expected", error.expected()},
              {"found", error.found()},
              {"advice", error.advice()},
              {"exit_status", exit_status_of(error)}}}};
}

int report(const Context& context, const Error& error) {
    if (context.json) {
        context.emit(to_json(error));
        return exit_status_of(error);
    }
    const bool colour = context.terminal.err_colour;
    std::string text = fmt::format("{} {} {}\n", paint("vmm: error:", Tone::bad, colour), printable(error.message()),
                                   paint(fmt::format("[{}]", exit_class(error)), Tone::dim, colour));
    for (const auto& [label, value] :
         {std::pair<std::string_view, const std::string&>{"expected", error.expected()}, {"found", error.found()}, {"to do", error.advice()}}) {
        if (value.empty()) continue;
        std::string_view rest = value;
        bool first = true;
        while (!rest.empty()) {  // several lines stay several lines
            const std::size_t end = std::min(rest.find('\n'), rest.size());
            text += fmt::format("  {} {}\n", paint(fmt::format("{:<9}", first ? fmt::format("{}:", label) : ""), Tone::dim, colour),
                                printable(rest.substr(0, end)));
            rest.remove_prefix(std::min(end + 1, rest.size()));
            first = false;
        }
    }
    std::fwrite(text.data(), 1, text.size(), stderr);
    return exit_status_of(error);
}

Error usage_error(std::string message, ErrorDetail detail) {
    return {ErrorCode::invalid_argument, ErrorCategory::input, std::move(message), std::move(detail)};
}

CLI::App* add_subcommand(CLI::App& root, const std::string& name, const std::string& description, const std::string& examples) {
    CLI::App* app = root.add_subcommand(name, description);
    app->footer(examples.empty() ? examples : "Examples:\n" + examples);
    app->allow_extras();  // reported by us, with suggestions
    return app;
}

CLI::Option* add_choice(CLI::App& app, const std::string& flags, std::string& target, const std::vector<std::string>& choices,
                        const std::string& description) {
    std::string list;
    for (const std::string& choice : choices) list += (list.empty() ? "" : "|") + choice;
    CLI::Option* option = app.add_option(flags, target, description)->type_name(list);
    option->check(CLI::Validator(
        [choices, list](std::string& value) {
            if (std::ranges::find(choices, value) != choices.end()) return std::string();
            const std::string near = suggestion(value, choices);
            return fmt::format("'{}' is none of {}{}", value, list, near.empty() ? "" : fmt::format("; did you mean '{}'?", near));
        },
        ""));
    return option;
}

CLI::Validator in_range(double low, double high) {
    return CLI::Validator(
        [low, high](std::string& text) {
            double value = 0;
            const auto [stop, error] = std::from_chars(text.data(), text.data() + text.size(), value);
            const bool ok = error == std::errc{} && stop == text.data() + text.size() && value >= low && value <= high;
            return ok ? std::string() : fmt::format("'{}' is no number from {} to {}", text, low, high);
        },
        "");
}

void add_output_options(CLI::App& app, Context& context) {
    app.add_flag("--json", context.json, "one JSON object on standard output, errors too")->group("Output");
    app.add_flag("-q,--quiet", context.quiet, "no progress and no remarks")->group("Output");
    add_choice(app, "--color", context.colour, {"auto", "always", "never"}, "colours (auto: on a terminal, unless NO_COLOR is set)")->group("Output");
}

void LibraryOptions::add_to(CLI::App& app) {
    app.add_option("--cache-dir", cache_dir, "folder of the artifact cache (default: $AI_VMM_CACHE_DIR, ~/.cache/ai_vmm)")
        ->type_name("DIR")
        ->group("Library");
    app.add_flag("--no-cache", no_cache, "neither read nor write the cache")->group("Library");
    app.add_option("--backend", backends, "load this backend library or folder too (repeatable)")
        ->type_name("PATH")
        ->take_all()
        ->expected(1)
        ->group("Library");
}

VMM::Options LibraryOptions::options(const Progress& progress) const {
    VMM::Options options;
    options.cache_dir = cache_dir;
    options.use_cache = !no_cache;
    for (const std::string& path : backends) options.backend_paths.emplace_back(path);
    options.progress = progress;
    return options;
}

void ConstraintOptions::add_to(CLI::App& app) {
    const auto group = [](CLI::Option* option) { option->group("Constraints"); };
    const auto number = [&](const std::string& flag, double& target, const std::string& text) {
        group(app.add_option(flag, target, text)->type_name("N")->check(in_range(1e-9, 1e15)));
    };
    number("--max-latency-ms", max_latency_ms, "median time of one execution, or refuse");
    number("--min-throughput", min_throughput, "items per second, or refuse");
    number("--power-watts", power_watts, "power budget, or refuse");
    number("--max-memory-mb", max_memory_mb, "host memory of the compiled model in MiB, or refuse");
    group(add_choice(app, "--goal", goal, {"latency", "throughput", "efficiency"}, "what to choose for (default: latency)"));
    group(add_choice(app, "--precision", precision, {"auto", "f32", "bf16", "f16"}, "auto: the fastest that agrees with f32; else force one"));
    group(app.add_option("--forbid", forbid, "never this precision: f32, bf16, f16 (repeatable)")->type_name("P")->take_all()->expected(1));
    group(app.add_option("--device", devices, "only this device: cpu, cpu:0, NVIDIA_GPU, … (repeatable)")->type_name("D")->take_all()->expected(1));
    group(app.add_option("--engine", engines, "only this engine: openvino, onnxruntime (repeatable)")->type_name("E")->take_all()->expected(1));
    group(app.add_option("--prefer", prefer, "hardware to try first (repeatable)")->type_name("D")->take_all()->expected(1));
    group(app.add_option("--threads", threads, "processor threads per stream")->type_name("N")->check(in_range(1, 4096)));
    group(app.add_option("--streams", streams, "parallel executions")->type_name("N")->check(in_range(1, 4096)));
    group(app.add_option("--tune", tune, "time to measure candidates: 5s, 500ms, 0 to predict only (default: 2s)")->type_name("TIME"));
    group(app.add_option("--shape", shapes, "typical shape of a dynamic input: name=1x3x224x224 (repeatable)")
              ->type_name("NAME=SHAPE")
              ->take_all()
              ->expected(1));
}

Constraints ConstraintOptions::constraints() const {
    Constraints constraints;
    if (max_latency_ms > 0) constraints.max_latency_ms = max_latency_ms;
    if (min_throughput > 0) constraints.min_throughput_per_s = min_throughput;
    if (power_watts > 0) constraints.power_budget_watts = power_watts;
    if (max_memory_mb > 0) constraints.max_memory_mb = max_memory_mb;
    if (!goal.empty()) constraints.goal = goal_from_string(goal).value();
    if (!precision.empty()) constraints.precision = precision_of(precision);
    for (const std::string& name : split(forbid)) constraints.forbid_precisions.push_back(precision_of(name));
    constraints.devices = split(devices);
    constraints.engines = split(engines);
    constraints.preferred_hardware = split(prefer);
    if (threads > 0) constraints.threads = threads;
    if (streams > 0) constraints.streams = streams;
    if (!tune.empty()) constraints.tune = parse_duration(tune);
    for (const std::string& text : shapes) constraints.input_shapes.push_back(parse_shape(text));
    return constraints;
}

std::chrono::milliseconds parse_duration(std::string_view text) {
    double value = 0;
    const auto [stop, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    const std::string_view unit = text.substr(static_cast<std::size_t>(stop - text.data()));
    const double factor = unit == "ms" ? 1 : unit == "s" || unit.empty() ? 1000 : unit == "min" ? 60000 : 0;
    if (error != std::errc{} || factor == 0 || !(value >= 0) || value * factor > 8.64e7) {
        throw usage_error(fmt::format("'{}' is no time", text),
                          {.expected = "such as 5s, 500ms, 2.5 (seconds) or 0, at most a day", .found = std::string(text), .advice = {}});
    }
    return std::chrono::milliseconds(static_cast<std::int64_t>(value * factor + 0.5));
}

std::string describe(const TensorInfo& info) {
    std::string shape = info.rank_known ? to_string(info.shape) : "[…]";
    return fmt::format("{}{}", to_string(info.type), shape);
}

Json to_json(const Shape& shape) {
    Json sizes = Json::array();
    for (const std::int64_t size : shape) sizes.push_back(size);
    return sizes;
}

Json to_json(const TensorInfo& info) {
    return {{"name", info.name},
            {"type", to_string(info.type)},
            {"shape", info.rank_known ? to_json(info.shape) : Json(nullptr)},
            {"optional", info.optional}};
}

Json to_json(const DeploymentDescription& description) {
    Json steps = Json::object();
    for (const auto& [name, milliseconds] : description.deploy_steps_ms) steps[name] = milliseconds;
    return {{"name", description.name},           {"source", description.source},       {"engine", description.engine},
            {"device", description.device},       {"precision", description.precision}, {"threads", description.threads},
            {"streams", description.streams},     {"batch", description.batch},         {"from_cache", description.from_cache},
            {"deploy_ms", description.deploy_ms}, {"deploy_steps_ms", std::move(steps)}};
}

std::string suggestion(std::string_view typed, const std::vector<std::string>& names) {
    std::string best;
    const std::size_t letters = typed.size() - std::min(typed.find_first_not_of('-'), typed.size());
    std::size_t least = letters / 3 + 2;  // further away is no likely slip
    for (const std::string& name : names) {
        std::vector<std::size_t> row(name.size() + 1);
        for (std::size_t j = 0; j <= name.size(); ++j) row[j] = j;
        for (std::size_t i = 1; i <= typed.size(); ++i) {
            std::size_t diagonal = row[0];
            row[0] = i;
            for (std::size_t j = 1; j <= name.size(); ++j) {
                const std::size_t substituted = diagonal + (typed[i - 1] == name[j - 1] ? 0 : 1);
                diagonal = row[j];
                row[j] = std::min({row[j] + 1, row[j - 1] + 1, substituted});
            }
        }
        const std::size_t distance = name.starts_with(typed) && typed.size() >= 2 ? 1 : row.back();
        if (distance < least) {
            least = distance;
            best = name;
        }
    }
    return best;
}

}  // namespace ai_vmm::cli
