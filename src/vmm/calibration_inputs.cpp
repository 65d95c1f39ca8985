// SPDX-License-Identifier: Apache-2.0
#include "vmm/calibration_inputs.hpp"

#include <algorithm>
#include <cstdint>

#include "ai_vmm/elements.hpp"
#include "ai_vmm/error.hpp"
#include "optimization/equivalence.hpp"

namespace ai_vmm {
namespace {

constexpr std::uint64_t kCalibrationSeed = 20240601;

}  // namespace

void check_shape_names(const Constraints& constraints, const std::vector<TensorInfo>& inputs) {
    const auto check = [&](const std::string& name, const char* where) {
        if (std::ranges::any_of(inputs, [&](const TensorInfo& info) { return info.name == name; })) return;
        std::string names;
        for (const TensorInfo& info : inputs) names.append(names.empty() ? "'" : ", '").append(info.name).append("'");
        throw Error(ErrorCode::invalid_argument, ErrorCategory::input, std::string(where) + " names '" + name + "', which is no input of the model",
                    {.expected = names, .found = name, .advice = "use one of these names"});
    };
    for (const auto& [name, shape] : constraints.input_shapes) check(name, "input_shapes");
    for (const auto& [name, tensor] : constraints.calibration) {
        check(name, "calibration");
        const auto info = std::ranges::find(inputs, name, &TensorInfo::name);
        if (tensor.type() == info->type) continue;
        throw Error(ErrorCode::invalid_argument, ErrorCategory::input, "the calibration tensor '" + name + "' has another element type",
                    {.expected = std::string(to_string(info->type)), .found = std::string(to_string(tensor.type())), .advice = {}});
    }
}

std::vector<std::string> undecided_shape_inputs(const ModelProfile& profile, const Constraints& constraints) {
    std::vector<std::string> names = profile.shape_deciding_inputs;
    std::erase_if(names, [&](const std::string& name) {
        return std::ranges::any_of(constraints.calibration, [&](const auto& entry) { return entry.first == name; });
    });
    return names;
}

std::vector<std::vector<Tensor>> calibration_sets(const Constraints& constraints, const std::vector<TensorInfo>& inputs, const ModelProfile& profile,
                                                  int count) {
    auto sets = optimization::make_calibration_inputs(inputs, profile, constraints.input_shapes, count, kCalibrationSeed);
    if (constraints.calibration.empty()) return sets;
    // What the caller gave replaces the generated tensors of those names in the first set; it is the only one then.
    sets.resize(1);
    for (std::size_t i = 0; i < inputs.size(); ++i) {
        for (const auto& [name, tensor] : constraints.calibration) {
            if (name == inputs[i].name) sets[0][i] = tensor;
        }
    }
    return sets;
}

bool inputs_must_run(const Constraints& constraints, const std::vector<TensorInfo>& inputs) {
    return std::ranges::all_of(inputs, [&](const TensorInfo& input) {
        const auto names_it = [&](const auto& entry) { return entry.first == input.name; };
        if (std::ranges::any_of(constraints.calibration, names_it)) return true;
        const bool sized = !input.is_dynamic() || std::ranges::any_of(constraints.input_shapes, names_it);
        return sized && is_float(input.type) && input.shape.size() >= 2;
    });
}

std::vector<Shape> shapes_of(const std::vector<Tensor>& tensors) {
    std::vector<Shape> shapes;
    for (const Tensor& tensor : tensors) shapes.push_back(tensor.shape());
    return shapes;
}

}  // namespace ai_vmm
