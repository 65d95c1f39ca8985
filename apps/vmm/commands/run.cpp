// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <chrono>

#include "cli.hpp"
#include "commands/input_options.hpp"
#include "io/file.hpp"
#include "io/npy.hpp"
#include "io/values.hpp"

namespace ai_vmm::cli {
namespace {

struct Options : DeployFlags {
    std::vector<std::string> files;
    std::string output;
    std::size_t top = 0;
    bool softmax = false;
    std::string labels;
    std::size_t values = 8;
    std::string timeout;
    bool profile = false;
};

Json profile_json(const std::vector<StepTime>& steps) {
    Json list = Json::array();
    for (const StepTime& step : steps) list.push_back({{"name", step.name}, {"us", step.microseconds}});
    return list;
}

/// Steps in order, with their share of the whole.
std::string profile_text(const Context& context, const std::vector<StepTime>& steps) {
    double total = 0;
    for (const StepTime& step : steps) total += step.microseconds;
    Table table;
    table.column("STEP", Table::Align::left, true).column("US", Table::Align::right).column("SHARE", Table::Align::right);
    for (const StepTime& step : steps) {
        table.row({printable(step.name), fmt::format("{:.2f}", step.microseconds),
                   fmt::format("{:.1f} %", total > 0 ? 100 * step.microseconds / total : 0)});
    }
    table.row({"all", fmt::format("{:.2f}", total), ""});
    return context.render(table);
}

std::vector<std::string> read_labels(const std::string& path) {
    std::vector<std::string> labels;
    if (path.empty()) return labels;
    const std::string content = read_input(path, 1 << 26);
    for (std::size_t at = 0; at < content.size();) {
        const std::size_t end = std::min(content.find('\n', at), content.size());
        std::string line = content.substr(at, end - at);
        if (line.ends_with('\r')) line.pop_back();
        labels.push_back(std::move(line));
        at = end + 1;
    }
    return labels;
}

Json number_json(double value) { return std::isfinite(value) ? Json(value) : Json(nullptr); }

Json element_json(const Tensor& tensor, std::size_t index) {
    if (tensor.type() == ElementType::string) return tensor.as<std::string>()[index];
    if (tensor.type() == ElementType::boolean) return value_at(tensor, index) != 0;
    if (tensor.type() == ElementType::u64) return tensor.as<std::uint64_t>()[index];
    if (tensor.type() == ElementType::i64) return tensor.as<std::int64_t>()[index];
    if (is_complex(tensor.type())) return text_at(tensor, index);
    const double value = value_at(tensor, index);
    if (!std::isfinite(value)) return text_at(tensor, index);
    if (is_integer(tensor.type())) return static_cast<std::int64_t>(value);
    return tensor.type() == ElementType::f64 ? Json(value) : Json(static_cast<float>(value));
}

std::size_t row_count(const Tensor& tensor) {
    const std::size_t classes = class_count(tensor);
    return classes == 0 ? 0 : tensor.element_count() / classes;
}

bool rankable(const Tensor& tensor) { return tensor.type() != ElementType::string && !is_complex(tensor.type()) && class_count(tensor) > 1; }

Json output_json(const std::string& name, const Tensor& tensor, const Options& options, const std::vector<std::string>& labels) {
    const Summary summary = summarise(tensor);
    Json values = Json::array();
    const std::size_t shown = options.values == 0 ? tensor.element_count() : std::min(options.values, tensor.element_count());
    for (std::size_t i = 0; i < shown; ++i) values.push_back(element_json(tensor, i));
    Json object{{"name", name}, {"type", to_string(tensor.type())}, {"shape", to_json(tensor.shape())}};
    if (tensor.type() != ElementType::string) {
        object["min"] = number_json(summary.min);
        object["max"] = number_json(summary.max);
        object["mean"] = number_json(summary.mean);
        object["deviation"] = number_json(summary.deviation);
        object["nan"] = summary.nan;
        object["infinite"] = summary.infinite;
    }
    object["values"] = std::move(values);
    object["values_total"] = tensor.element_count();
    if (options.top > 0 && rankable(tensor)) {
        Json rows = Json::array();
        for (std::size_t row = 0; row < row_count(tensor); ++row) {
            Json ranked = Json::array();
            for (const Ranked& entry : top_k(tensor, row, options.top, options.softmax)) {
                Json item{{"index", entry.index}, {"score", number_json(entry.score)}};
                if (entry.index < labels.size()) item["label"] = labels[entry.index];
                ranked.push_back(std::move(item));
            }
            rows.push_back(std::move(ranked));
        }
        object["top"] = std::move(rows);
    }
    return object;
}

std::string output_text(const Context& context, const std::string& name, const Tensor& tensor, const Options& options,
                        const std::vector<std::string>& labels) {
    std::string out = fmt::format("{} {}{}", context.paint(printable(name), Tone::accent), to_string(tensor.type()), to_string(tensor.shape()));
    if (options.top > 0 && rankable(tensor)) {
        out += "\n";
        constexpr std::size_t kRows = 16;
        const std::size_t rows = row_count(tensor);
        for (std::size_t row = 0; row < std::min(rows, kRows); ++row) {
            Table table;
            table.column("#", Table::Align::right)
                .column("CLASS", Table::Align::right)
                .column(options.softmax ? "SHARE" : "SCORE", Table::Align::right);
            if (!labels.empty()) table.column("LABEL", Table::Align::left, true);
            std::size_t rank = 0;
            for (const Ranked& entry : top_k(tensor, row, options.top, options.softmax)) {
                std::vector<Table::Cell> cells{std::to_string(++rank), std::to_string(entry.index), fmt::format("{:.5g}", entry.score)};
                if (!labels.empty()) cells.emplace_back(entry.index < labels.size() ? labels[entry.index] : "", rank == 1 ? Tone::bold : Tone::plain);
                table.row(std::move(cells));
            }
            if (rows > 1) out += context.paint(fmt::format("row {}\n", row), Tone::dim);
            out += context.render(table, 2);
        }
        if (rows > kRows) out += context.paint(fmt::format("… {} more rows\n", rows - kRows), Tone::dim);
        return out;
    }
    if (tensor.type() != ElementType::string && tensor.element_count() > 1) {
        const Summary summary = summarise(tensor);
        out += context.paint(fmt::format("  min {} max {} mean {} deviation {}", format_number(summary.min), format_number(summary.max),
                                         format_number(summary.mean), format_number(summary.deviation)),
                             Tone::dim);
        if (summary.nan > 0) out += context.paint(fmt::format("  {} NaN", summary.nan), Tone::bad);
        if (summary.infinite > 0) out += context.paint(fmt::format("  {} infinite", summary.infinite), Tone::warning);
    }
    const std::string values = printable(preview(tensor, options.values == 0 ? tensor.element_count() : options.values));
    out +=
        "\n  " + (context.terminal.width > 4 && options.values != 0 ? elide(values, static_cast<std::size_t>(context.terminal.width) - 2) : values);
    return out + "\n";
}

void save(const std::string& path, const TensorMap& outputs) {
    const bool archive = path.ends_with(".npz");
    if (!archive && !path.ends_with(".npy") && path != "-") {
        throw usage_error(fmt::format("--output '{}' has no known ending", path),
                          {.expected = "FILE.npz, FILE.npy, or - for .npy on standard output", .found = path, .advice = {}});
    }
    if (!archive && outputs.size() != 1) {
        throw usage_error(fmt::format("the model has {} outputs, which one .npy can't hold", outputs.size()),
                          {.expected = "--output FILE.npz", .found = path, .advice = {}});
    }
    write_output(path, archive ? format_npz(outputs) : format_npy(outputs.begin()->second));
}

int execute(Context& context, const Options& options) {
    const Constraints constraints = options.constraints.constraints();
    const InputOptions input_options = options.inputs.options(options.files);
    const std::vector<std::string> labels = read_labels(options.labels);
    RunOptions run_options;
    if (!options.timeout.empty()) run_options.timeout = parse_duration(options.timeout);
    if (options.output == "-" && context.json) throw usage_error("--output - and --json both want standard output");

    const std::shared_ptr<Deployment> deployment = options.deploy(context, constraints);
    const DeploymentDescription description = deployment->describe();
    const Inputs inputs = options.inputs.inputs_for(*deployment, input_options, constraints.input_shapes);
    for (const std::string& note : inputs.notes) context.note(note);
    const auto start = std::chrono::steady_clock::now();
    const TensorMap outputs = deployment->execute(inputs.tensors, run_options);
    const double milliseconds = std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
    if (!options.output.empty()) save(options.output, outputs);
    std::vector<StepTime> steps;
    if (options.profile) steps = deployment->profile(inputs.tensors, run_options);

    if (context.json) {
        Json list = Json::array();
        for (const auto& [name, tensor] : outputs) list.push_back(output_json(name, tensor, options, labels));
        Json object{{"schema", "vmm.run/1"}, {"deployment", to_json(description)}, {"latency_ms", milliseconds},
                    {"notes", inputs.notes}, {"outputs", std::move(list)},         {"output_file", options.output}};
        if (options.profile) object["profile"] = profile_json(steps);
        context.emit(object);
        return kOk;
    }
    if (options.output != "-") {
        std::string out;
        for (const auto& [name, tensor] : outputs) out += output_text(context, name, tensor, options, labels);
        if (options.profile) out += "\n" + profile_text(context, steps);
        context.print(out);
    }
    context.note(fmt::format("{} on {} in {}, {} thread{}; deployed in {}{}, ran in {}", description.engine, description.device,
                             description.precision, description.threads, description.threads == 1 ? "" : "s", format_ms(description.deploy_ms),
                             description.from_cache ? " from the cache" : "", format_ms(milliseconds)));
    return kOk;
}

}  // namespace

Command add_run(CLI::App& root) {
    CLI::App* app = add_subcommand(root, "run", "run a model once on files, numbers or generated inputs",
                                   "  vmm run resnet50.onnx cat.jpg --top 5 --labels imagenet.txt \\\n"
                                   "      --mean 0.485,0.456,0.406 --std 0.229,0.224,0.225\n"
                                   "  vmm run model.onnx --input a=a.npy --input b=0,1,2 --output out.npz\n"
                                   "  vmm run model.onnx --input arrays.npz             # arrays by name\n"
                                   "  vmm run vad.onnx speech.wav --sample-rate 16000 --input sr=16000\n"
                                   "  make-input | vmm run model.onnx @- --output -     # .npy in, .npy out\n"
                                   "  vmm run model.onnx --random --json");
    auto options = std::make_shared<Options>();
    options->add_model_to(*app);
    app->add_option("files", options->files, "inputs, as with --input")->type_name("FILE");
    options->inputs.add_to(*app);
    app->add_option("-o,--output", options->output, "write the outputs: FILE.npz, FILE.npy, or - (.npy)")->type_name("FILE")->group("Outputs");
    app->add_option("--top", options->top, "the K largest values of the last axis, with their index")
        ->type_name("K")
        ->check(in_range(1, 1000000))
        ->group("Outputs");
    app->add_option("--labels", options->labels, "names of the classes, one a line")->type_name("FILE")->group("Outputs");
    app->add_flag("--softmax", options->softmax, "scores as shares of 1")->group("Outputs");
    app->add_option("--values", options->values, "how many values to show (default 8; 0: all)")->type_name("N")->group("Outputs");
    app->add_option("--timeout", options->timeout, "give up an execution after this time: 5s, 500ms")->type_name("TIME")->group("Outputs");
    app->add_flag("--profile", options->profile, "what each step takes, where the engine tells")->group("Outputs");
    options->add_deployment_to(*app);
    return {app, [options](Context& context) {
                if (!options->labels.empty() && options->top == 0) options->top = 5;
                return execute(context, *options);
            }};
}

}  // namespace ai_vmm::cli
