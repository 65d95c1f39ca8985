// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>

#include "cli.hpp"

namespace ai_vmm::cli {
namespace {

struct Options {
    LibraryOptions library;
    std::string model;
    bool nodes = false;
    std::size_t limit = 0;
};

Json profile_json(const ModelProfile& profile, bool nodes) {
    Json inputs = Json::array();
    Json outputs = Json::array();
    for (const TensorInfo& info : profile.inputs) inputs.push_back(to_json(info));
    for (const TensorInfo& info : profile.outputs) outputs.push_back(to_json(info));
    Json shapes = Json::object();
    for (const auto& [name, shape] : profile.assumed_shapes) shapes[name] = to_json(shape);
    Json object{{"schema", "vmm.inspect/1"},
                {"name", profile.name},
                {"format", to_string(profile.format)},
                {"file_size_bytes", profile.file_size_bytes},
                {"category", to_string(profile.category)},
                {"category_confidence", profile.category_confidence},
                {"evidence", profile.evidence},
                {"inputs", std::move(inputs)},
                {"outputs", std::move(outputs)},
                {"dynamic_dimensions", profile.dynamic_dimensions},
                {"assumed_shapes", std::move(shapes)},
                {"precision", profile.precision},
                {"quantized", profile.quantized},
                {"quantization", profile.quantization},
                {"hidden_width", profile.hidden_width},
                {"stateful", profile.stateful},
                {"flops", profile.flops},
                {"parameters", profile.parameters},
                {"parameter_bytes", profile.parameter_bytes},
                {"activation_bytes", profile.activation_bytes},
                {"bytes_moved", profile.bytes_moved},
                {"node_count", profile.nodes.size()},
                {"notes", profile.notes}};
    if (nodes) {
        Json list = Json::array();
        for (const NodeProfile& node : profile.nodes) {
            list.push_back({{"name", node.name},
                            {"type", node.type},
                            {"precision", node.precision},
                            {"flops", node.flops},
                            {"bytes_read", node.bytes_read},
                            {"bytes_written", node.bytes_written},
                            {"parameters", node.parameters},
                            {"parameter_bytes", node.parameter_bytes}});
        }
        object["nodes"] = std::move(list);
    }
    return object;
}

/// A node's share of the cost: operations and bytes count by the balance of a usual processor, some ten operations per byte.
double cost_of(const NodeProfile& node) {
    constexpr double kFlopsPerByte = 10;
    return std::max(static_cast<double>(node.flops), kFlopsPerByte * static_cast<double>(node.bytes_read + node.bytes_written));
}

std::string node_table(const Context& context, const ModelProfile& profile, std::size_t limit) {
    std::vector<const NodeProfile*> nodes;
    double total = 0;
    for (const NodeProfile& node : profile.nodes) {
        nodes.push_back(&node);
        total += cost_of(node);
    }
    std::ranges::stable_sort(nodes, std::greater<>{}, [](const NodeProfile* node) { return cost_of(*node); });
    Table table;
    table.column("NODE", Table::Align::left, true).column("TYPE", Table::Align::left, true).column("OUT").column("FLOPS", Table::Align::right);
    table.column("READ", Table::Align::right)
        .column("WRITTEN", Table::Align::right)
        .column("PARAMS", Table::Align::right)
        .column("COST", Table::Align::right);
    for (std::size_t i = 0; i < nodes.size() && (limit == 0 || i < limit); ++i) {
        const NodeProfile& node = *nodes[i];
        table.row({node.name, node.type, node.precision, format_count(static_cast<double>(node.flops)), format_bytes(node.bytes_read),
                   format_bytes(node.bytes_written), format_count(static_cast<double>(node.parameters)),
                   total > 0 ? fmt::format("{:.1f} %", 100 * cost_of(node) / total) : ""});
    }
    std::string out = context.render(table);
    if (limit > 0 && nodes.size() > limit) out += context.paint(fmt::format("… {} more (--limit 0 shows all)\n", nodes.size() - limit), Tone::dim);
    return out;
}

std::string for_people(const Context& context, const ModelProfile& profile) {
    std::string out;
    const auto line = [&](std::string_view label, const std::string& text) {
        const std::size_t room = context.terminal.width > 30 ? static_cast<std::size_t>(context.terminal.width) - 13 : 0;
        bool first = true;
        for (const std::string& part : wrap(printable(text), room)) {
            out += fmt::format("{} {}\n", context.paint(fmt::format("{:<12}", first ? label : std::string_view{}), Tone::dim), part);
            first = false;
        }
    };
    line("model", fmt::format("{} ({}, {})", profile.name, to_string(profile.format), format_bytes(profile.file_size_bytes)));
    line("category", fmt::format("{} ({:.0f} % sure)", to_string(profile.category), 100 * profile.category_confidence));
    for (const std::string& evidence : profile.evidence) line("", "- " + evidence);
    line("parameters", fmt::format("{} ({}), mostly {}", format_count(static_cast<double>(profile.parameters)), format_bytes(profile.parameter_bytes),
                                   profile.precision.empty() ? "none" : profile.precision));
    if (!profile.nodes.empty()) {
        line("work", fmt::format("{}FLOP in {} nodes, {} moved, {} of activations",
                                 format_count(static_cast<double>(profile.flops)) + (profile.flops < 1000 ? " " : ""), profile.nodes.size(),
                                 format_bytes(profile.bytes_moved), format_bytes(profile.activation_bytes)));
    }
    line("quantised", profile.quantized ? "yes" : "no");
    for (const std::string& text : profile.quantization) line("", "- " + text);
    if (profile.hidden_width > 0) line("hidden", fmt::format("states of {} features", profile.hidden_width));
    if (profile.stateful) line("state", "keeps state between executions");
    if (!profile.dynamic_dimensions.empty()) {
        std::string text;
        for (const std::string& dimension : profile.dynamic_dimensions) text += (text.empty() ? "" : ", ") + dimension;
        line("dynamic", text);
        std::string shapes;
        for (const auto& [name, shape] : profile.assumed_shapes) shapes += (shapes.empty() ? "" : ", ") + name + to_string(shape);
        if (!shapes.empty()) line("costed at", shapes);
    }
    for (const std::string& note : profile.notes) line("note", note);
    Table table;
    table.column("").column("NAME", Table::Align::left, true).column("TYPE").column("SHAPE");
    for (const TensorInfo& info : profile.inputs) {
        table.row({info.optional ? "optional" : "input",
                   {info.name, Tone::accent},
                   to_string(info.type),
                   info.rank_known ? to_string(info.shape) : "any rank"});
    }
    for (const TensorInfo& info : profile.outputs)
        table.row({"output", {info.name, Tone::accent}, to_string(info.type), info.rank_known ? to_string(info.shape) : "any rank"});
    return out + "\n" + context.render(table);
}

}  // namespace

Command add_inspect(CLI::App& root) {
    CLI::App* app = add_subcommand(root, "inspect", "say what a model is: kind, inputs, outputs, work, parameters",
                                   "  vmm inspect resnet50.onnx\n"
                                   "  vmm inspect saved_model_dir/ --nodes --limit 20   # where the work is\n"
                                   "  vmm inspect model.tflite --json | jq .category");
    auto options = std::make_shared<Options>();
    app->add_option("model", options->model, "model file or folder")->required()->type_name("MODEL");
    app->add_flag("--nodes", options->nodes, "a table of the nodes, the costliest first");
    app->add_option("--limit", options->limit, "at most so many nodes; 0: all")->type_name("N");
    options->library.add_to(*app);
    return {app, [options](Context& context) {
                ModelProfile profile;
                {
                    ProgressBar bar(context.terminal, !context.quiet);
                    VMM vmm(options->library.options([&bar](std::string_view stage, double fraction) { bar.update(stage, fraction); }));
                    profile = vmm.inspect(options->model);
                }
                if (context.json) {
                    context.emit(profile_json(profile, options->nodes));
                    return kOk;
                }
                std::string out = for_people(context, profile);
                if (options->nodes) out += "\n" + node_table(context, profile, options->limit);
                context.print(out);
                return kOk;
            }};
}

}  // namespace ai_vmm::cli
