// SPDX-License-Identifier: Apache-2.0
#include "backend.hpp"

#include <filesystem>
#include <system_error>

#include "blob.hpp"
#include "devices.hpp"
#include "executable.hpp"
#include "library.hpp"
#include "lowering/lowering.hpp"
#include "types.hpp"

namespace ai_vmm::ort {
namespace {

backend::Support refused(std::string reason) { return {.supported = false, .reason = std::move(reason), .unsupported_nodes = {}}; }

backend::Support supports_ports(const backend::Model& model) {
    for (const auto* list : {&model.inputs, &model.outputs}) {
        for (const TensorInfo& info : *list) {
            if (to_ort(info.type)) continue;
            return refused("'" + info.name + "' is of type " + std::string(to_string(info.type)) + ", which ONNX Runtime does not have");
        }
    }
    return {.supported = true, .reason = {}, .unsupported_nodes = {}};
}

void require(const backend::Support& support) {
    if (!support.supported) throw Error(ErrorCode::unimplemented, ErrorCategory::compilation, support.reason);
}

Binding file_names(const backend::Model& model) {
    Binding binding;
    for (const TensorInfo& info : model.inputs) binding.input_names.push_back(info.name);
    for (const TensorInfo& info : model.outputs) binding.output_names.push_back(info.name);
    return binding;
}

// A lowered graph numbers its ports; inputs that the reader dropped have none.
Binding graph_names(const backend::Model& model) {
    Binding binding;
    const auto position = [](const std::vector<int>& map, std::size_t i) { return i < map.size() ? map[i] : static_cast<int>(i); };
    for (std::size_t i = 0; i < model.inputs.size(); ++i) {
        const int at = position(model.graph_inputs, i);
        binding.input_names.push_back(at < 0 ? std::string() : lowered_input_name(static_cast<std::size_t>(at)));
    }
    for (std::size_t i = 0; i < model.outputs.size(); ++i) {
        const int at = position(model.graph_outputs, i);
        if (at < 0) {
            throw Error(ErrorCode::unimplemented, ErrorCategory::compilation, "output '" + model.outputs[i].name + "' is not in the graph");
        }
        binding.output_names.push_back(lowered_output_name(static_cast<std::size_t>(at)));
    }
    return binding;
}

void check_counts(const backend::CompileConfig& config) {
    if (config.threads >= 1 && config.streams >= 1) return;
    throw Error(ErrorCode::invalid_argument, ErrorCategory::input, "threads and streams are counted from 1",
                {.expected = {}, .found = std::to_string(config.threads) + " threads, " + std::to_string(config.streams) + " streams", .advice = {}});
}

// Loads the file again for an export, but not if it was changed since.
Reload reload_onnx(const backend::Model& model) {
    if (model.bytes) return [model] { return load_onnx(model); };
    std::error_code error;
    const auto written = std::filesystem::last_write_time(model.path, error);
    return [model, written] {
        std::error_code failure;
        if (std::filesystem::last_write_time(model.path, failure) != written || failure) {
            throw Error(ErrorCode::aborted, ErrorCategory::input, "'" + model.path.string() + "' was changed since it was compiled");
        }
        return load_onnx(model);
    };
}

}  // namespace

OrtBackend::OrtBackend() { (void)Library::get(); }

std::string_view OrtBackend::version() const noexcept {
    static const std::string version = std::string("0.1.1 ").append(kBlobFormat);
    return version;
}

std::string OrtBackend::engine_version() const { return Library::get().version; }

std::vector<DeviceInfo> OrtBackend::enumerate() { return enumerate_devices(); }

backend::Support OrtBackend::supports(const backend::Model& model, const backend::CompileConfig& config) {
    if (backend::Support precision = supports_precision(config.device, config.precision); !precision.supported) return precision;
    if (backend::Support ports = supports_ports(model); !ports.supported) return ports;
    if (model.format == ModelFormat::onnx) return {.supported = true, .reason = {}, .unsupported_nodes = {}};
    if (!model.graph) return refused("ONNX Runtime takes this format by its graph, which could not be read: " + model.graph_refusal);
    std::vector<std::string> refusals = lowering_refusals(*model.graph);
    if (refusals.empty()) return {.supported = true, .reason = {}, .unsupported_nodes = {}};
    return {.supported = false, .reason = refusals.front(), .unsupported_nodes = std::move(refusals)};
}

std::unique_ptr<backend::Executable> OrtBackend::compile(const backend::Model& model, const backend::CompileConfig& config) {
    check_counts(config);
    require(supports(model, config));
    if (model.format != ModelFormat::onnx) {
        const auto lowered = [graph = model.graph] {
            return ModelBytes{.model = std::make_shared<const std::string>(lower_to_onnx(*graph)), .external_data = {}};
        };
        const ModelBytes bytes = lowered();
        return std::make_unique<OrtExecutable>(make_sessions(bytes, config), model, graph_names(model), config, bytes.size_bytes(), "lowered graph",
                                               lowered);
    }
    const ModelBytes bytes = load_onnx(model);
    return std::make_unique<OrtExecutable>(make_sessions(bytes, config), model, file_names(model), config, bytes.size_bytes(), "onnx",
                                           reload_onnx(model));
}

std::unique_ptr<backend::Executable> OrtBackend::import_blob(std::span<const std::byte> blob, const backend::Model& model,
                                                             const backend::CompileConfig& config) {
    check_counts(config);
    require(supports_precision(config.device, config.precision));
    require(supports_ports(model));
    Blob content = read_blob(blob);
    if (content.binding.input_names.size() != model.inputs.size() || content.binding.output_names.size() != model.outputs.size()) {
        throw Error(ErrorCode::failed_precondition, ErrorCategory::compilation, "the compiled model has other inputs or outputs than the model");
    }
    const ModelBytes bytes{.model = content.model, .external_data = {}};
    return std::make_unique<OrtExecutable>(make_sessions(bytes, config, {.prepared = true, .save_prepared = {}}), model, std::move(content.binding),
                                           config, blob.size(), "import", Reload{});
}

}  // namespace ai_vmm::ort
