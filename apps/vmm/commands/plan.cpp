// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>

#include "cli.hpp"

namespace ai_vmm::cli {

namespace {

int dump(Context& context, const std::string& model, const Constraints& constraints, const LibraryOptions& library) {
    VMM vmm(library.options());
    const std::vector<CandidateOutline> outlines = vmm.outlines(model, constraints);
    Json list = Json::array();
    std::string text;
    for (const CandidateOutline& outline : outlines) {
        const MemoryEstimate& memory = outline.memory;
        list.push_back({{"engine", outline.engine}, {"device", outline.device}, {"precision", outline.precision}});
        text += context.paint(fmt::format("{} on {} in {}", outline.engine, outline.device, outline.precision), Tone::accent) + "\n";
        if (!outline.reason.empty()) {
            list.back()["reason"] = outline.reason;
            text += fmt::format("  {}\n", printable(outline.reason));
            continue;
        }
        list.back()["memory"] = {{"device_bytes", memory.device_bytes()}, {"weight_bytes", memory.weights},  {"arena_bytes", memory.arena},
                                 {"workspace_bytes", memory.workspace},   {"staging_bytes", memory.staging}, {"context_bytes", memory.context}};
        list.back()["steps"] = outline.steps;
        text += fmt::format("  {} on the device: weights {}, arena {}, workspace {}; {} pinned on the host\n", format_bytes(memory.device_bytes()),
                            format_bytes(memory.weights), format_bytes(memory.arena), format_bytes(memory.workspace), format_bytes(memory.staging));
        if (memory.context != 0)
            text += fmt::format("  {} more on the device, once for the process: context and libraries\n", format_bytes(memory.context));
        text += outline.steps.ends_with('\n') ? outline.steps : outline.steps + "\n";
    }
    if (context.json) {
        context.emit(Json{{"schema", "vmm.outlines/1"}, {"model", model}, {"outlines", std::move(list)}});
    } else {
        context.print(text);
    }
    return kOk;
}

}  // namespace

Command add_plan(CLI::App& root) {
    CLI::App* app = add_subcommand(root, "plan", "say where and how a model would run, why, and what was rejected",
                                   "  vmm plan resnet50.onnx\n"
                                   "  vmm plan resnet50.onnx --max-latency-ms 10 --forbid bf16\n"
                                   "  vmm plan model.onnx --goal throughput --tune 10s\n"
                                   "  vmm plan bert.onnx --shape input_ids=1x128 --shape attention_mask=1x128\n"
                                   "  vmm plan model.onnx --tune 0 --json               # predictions only\n"
                                   "  vmm plan model.onnx --dump --engine cuda          # steps and bytes; nothing is loaded");
    struct Options {
        LibraryOptions library;
        ConstraintOptions constraints;
        std::string model;
        bool dump = false;
    };
    auto options = std::make_shared<Options>();
    app->add_option("model", options->model, "model file or folder")->required()->type_name("MODEL");
    app->add_flag("--dump", options->dump, "instead: steps and bytes that engines would make of it, where they tell");
    options->constraints.add_to(*app);
    options->library.add_to(*app);
    return {app, [options](Context& context) -> int {
                const Constraints constraints = options->constraints.constraints();
                Explanation explanation;
                if (options->dump) return dump(context, options->model, constraints, options->library);
                {
                    ProgressBar bar(context.terminal, !context.quiet);
                    VMM vmm(options->library.options([&bar](std::string_view stage, double fraction) { bar.update(stage, fraction); }));
                    constexpr int kReadable = 130;  // wider lines are hard to follow
                    explanation = context.terminal.width > 0 ? vmm.plan(options->model, constraints, std::min(context.terminal.width, kReadable))
                                                             : vmm.plan(options->model, constraints);
                }
                if (context.json) {
                    context.emit(Json{{"schema", "vmm.plan/1"}, {"model", options->model}, {"plan", Json::parse(explanation.json)}});
                } else {
                    context.print(explanation.text.ends_with('\n') ? explanation.text : explanation.text + "\n");
                }
                return kOk;
            }};
}

}  // namespace ai_vmm::cli
