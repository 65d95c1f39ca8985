// SPDX-License-Identifier: Apache-2.0
#include "commands/input_options.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "cli.hpp"

namespace ai_vmm::cli {
namespace {

std::vector<double> numbers(const std::string& text, std::string_view flag) {
    std::vector<double> values;
    for (std::size_t at = 0; !text.empty() && at <= text.size();) {
        const std::size_t end = std::min(text.find(',', at), text.size());
        double value = 0;
        const auto [stop, error] = std::from_chars(text.data() + at, text.data() + end, value);
        if (error != std::errc{} || stop != text.data() + end) {
            throw usage_error(fmt::format("'{}' is no list of numbers for {}", text, flag),
                              {.expected = "such as 0.5 or 0.485,0.456,0.406", .found = text, .advice = {}});
        }
        values.push_back(value);
        at = end + 1;
    }
    return values;
}

/// "exact", "exact:256" (then the middle), "shorter-side:256".
void parse_resize(const std::string& text, ImageOptions& image) {
    const std::size_t colon = text.find(':');
    const std::string kind = text.substr(0, colon);
    int size = 0;
    bool ok = kind == "exact" || kind == "shorter-side";
    if (colon != std::string::npos) {
        std::string_view rest = std::string_view(text).substr(colon + 1);
        if (rest.ends_with(",crop")) rest.remove_suffix(5);
        const auto [stop, error] = std::from_chars(rest.data(), rest.data() + rest.size(), size);
        ok = ok && error == std::errc{} && stop == rest.data() + rest.size() && size >= 1 && size <= 16384;
    }
    if (!ok) {
        throw usage_error(fmt::format("'{}' is no way to resize", text),
                          {.expected = "exact, exact:256, shorter-side or shorter-side:256", .found = text, .advice = {}});
    }
    image.fit = kind == "exact" ? ImageOptions::Fit::exact : ImageOptions::Fit::shorter_side;
    (kind == "exact" ? image.before_crop : image.side) = size;
}

}  // namespace

void InputFlags::add_to(CLI::App& app) {
    const auto group = [](CLI::Option* option) { option->group("Inputs"); };
    group(app.add_option("-i,--input", given, "name=FILE, FILE, @- (standard input), name=1.5,2,3 (repeatable)")
              ->type_name("NAME=FILE")
              ->take_all()
              ->expected(1));
    group(app.add_flag("--random", random, "generate the inputs that are not given"));
    group(app.add_option("--seed", seed, "for generated inputs")->type_name("N"));
    group(app.add_option("--resize", resize, "images: exact (default), exact:256 or shorter-side:256, then the middle")->type_name("HOW"));
    group(app.add_option("--mean", mean, "images: subtracted after --scale, one value or one per channel")->type_name("A,B,C"));
    group(app.add_option("--std", deviation, "images: divisor after --mean")->type_name("A,B,C"));
    group(app.add_option("--scale", scale, "images: factor of pixels 0..255 (default 1/255; 1 for integer inputs)")->type_name("F"));
    group(app.add_option("--quantize", quantize, "images: STEP[,ZERO] of a quantised input")->type_name("S,Z"));
    group(app.add_flag("--bgr", bgr, "images: blue first"));
    group(add_choice(app, "--layout", layout, {"nchw", "nhwc"}, "images: where the channels are, if the shape doesn't tell"));
    group(app.add_option("--sample-rate", sample_rate, "recordings: refuse another rate")->type_name("HZ")->check(in_range(1, 10000000)));
    group(app.add_option("--frame", frame, "recordings: which window of the input's length (default 0)")
              ->type_name("N")
              ->check(in_range(0, 1000000000)));
}

InputOptions InputFlags::options(const std::vector<std::string>& files, bool generate) const {
    InputOptions options{.given = given, .random = random || generate};
    options.given.insert(options.given.end(), files.begin(), files.end());
    if (!resize.empty()) parse_resize(resize, options.image);
    options.image.mean = numbers(mean, "--mean");
    options.image.deviation = numbers(deviation, "--std");
    if (scale != 0) options.image.scale = scale;
    if (const std::vector<double> steps = numbers(quantize, "--quantize"); !steps.empty()) {
        if (steps.size() > 2 || !(steps[0] > 0))
            throw usage_error("--quantize needs STEP[,ZERO] with a positive step", {.expected = "such as 0.0186,0", .found = quantize, .advice = {}});
        options.image.quantum = steps[0];
        if (steps.size() == 2) options.image.zero_point = steps[1];
    }
    options.image.bgr = bgr;
    options.image.layout = layout;
    if (sample_rate > 0) options.audio.sample_rate = sample_rate;
    options.audio.frame = frame;
    return options;
}

Inputs InputFlags::inputs_for(Deployment& deployment, const InputOptions& options, const std::vector<std::pair<std::string, Shape>>& shapes) const {
    Inputs inputs = gather_inputs(deployment.inputs(), options);
    const auto missing = [&](const TensorInfo& info) { return inputs.tensors.find(info.name) == nullptr; };
    if (options.random && std::ranges::any_of(deployment.inputs(), missing)) inputs.tensors = deployment.sample_inputs(inputs.tensors, shapes, seed);
    return inputs;
}

void DeployFlags::add_model_to(CLI::App& app) { app.add_option("model", model, "model file or folder")->required()->type_name("MODEL"); }

void DeployFlags::add_deployment_to(CLI::App& app) {
    constraints.add_to(app);
    library.add_to(app);
}

std::shared_ptr<Deployment> DeployFlags::deploy(const Context& context, const Constraints& constraints_) const {
    ProgressBar bar(context.terminal, !context.quiet);
    VMM vmm(library.options([&bar](std::string_view stage, double fraction) { bar.update(stage, fraction); }));
    return vmm.deploy(model, constraints_);
}

}  // namespace ai_vmm::cli
