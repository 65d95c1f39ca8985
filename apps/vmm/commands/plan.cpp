// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>

#include "cli.hpp"

namespace ai_vmm::cli {

Command add_plan(CLI::App& root) {
    CLI::App* app = add_subcommand(root, "plan", "say where and how a model would run, why, and what was rejected",
                                   "  vmm plan resnet50.onnx\n"
                                   "  vmm plan resnet50.onnx --max-latency-ms 10 --forbid bf16\n"
                                   "  vmm plan model.onnx --goal throughput --tune 10s\n"
                                   "  vmm plan bert.onnx --shape input_ids=1x128 --shape attention_mask=1x128\n"
                                   "  vmm plan model.onnx --tune 0 --json               # predictions only");
    struct Options {
        LibraryOptions library;
        ConstraintOptions constraints;
        std::string model;
    };
    auto options = std::make_shared<Options>();
    app->add_option("model", options->model, "model file or folder")->required()->type_name("MODEL");
    options->constraints.add_to(*app);
    options->library.add_to(*app);
    return {app, [options](Context& context) {
                const Constraints constraints = options->constraints.constraints();
                Explanation explanation;
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
