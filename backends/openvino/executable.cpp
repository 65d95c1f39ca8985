// SPDX-License-Identifier: Apache-2.0
#include "executable.hpp"

#include <algorithm>
#include <cstring>
#include <ostream>
#include <unordered_set>

#include "convert.hpp"
#include "devices.hpp"
#include "openvino/core/model.hpp"
#include "openvino/op/constant.hpp"
#include "openvino/op/parameter.hpp"
#include "openvino/runtime/infer_request.hpp"
#include "openvino/runtime/properties.hpp"
#include "request.hpp"

namespace ai_vmm::openvino {
namespace {

[[noreturn]] void throw_map(std::string message) { throw Error(ErrorCode::invalid_argument, ErrorCategory::compilation, std::move(message)); }
[[noreturn]] void throw_blob(std::string message) {
    throw Error(ErrorCode::data_loss, ErrorCategory::compilation, std::move(message),
                {.expected = {}, .found = {}, .advice = "compile the model again"});
}

void check_type(ov::element::Type type) {
    // Packed types have a name on both sides, but the CPU plugin writes one byte per element at a model's boundary and overruns the caller's memory.
    if (!type.is_static() || (from_openvino(type) && type.bitwidth() >= 8)) return;
    throw Error(ErrorCode::unimplemented, ErrorCategory::compilation,
                "a tensor of type " + type.get_type_name() + " can't cross the engine's boundary");
}

/// Bytes of distinct constants.
std::int64_t constant_bytes(const ov::Model& graph) {
    std::unordered_set<const void*> seen;
    std::int64_t total = 0;
    for (const auto& node : graph.get_ops()) {
        const auto* constant = dynamic_cast<const ov::op::v0::Constant*>(node.get());
        if (constant == nullptr || constant->get_byte_size() == 0 || !seen.insert(constant->get_data_ptr()).second) continue;
        total += static_cast<std::int64_t>(constant->get_byte_size());
    }
    return total;
}

void put(std::ostream& out, std::int64_t value) { out.write(reinterpret_cast<const char*>(&value), sizeof value); }

std::int64_t take(std::span<const std::byte>& blob) {
    std::int64_t value = 0;
    if (blob.size() < sizeof value) throw_blob("the compiled model is cut off");
    std::memcpy(&value, blob.data(), sizeof value);
    blob = blob.subspan(sizeof value);
    return value;
}

void put(std::ostream& out, const std::vector<int>& values) {
    put(out, static_cast<std::int64_t>(values.size()));
    for (const int value : values) put(out, value);
}

std::vector<int> take_indices(std::span<const std::byte>& blob, std::size_t expected, std::string_view what) {
    if (take(blob) != static_cast<std::int64_t>(expected)) throw_blob("the compiled model has another number of " + std::string(what));
    std::vector<int> values(expected);
    for (int& value : values) value = static_cast<int>(take(blob));
    return values;
}

/// Bytes of the static ports; dynamic ones count nothing.
template <typename Ports>
std::int64_t port_bytes(const Ports& ports) {
    std::int64_t total = 0;
    for (const auto& port : ports) {
        if (!port.get_partial_shape().is_static()) continue;
        total += static_cast<std::int64_t>(ov::shape_size(port.get_shape()) * port.get_element_type().bitwidth() / 8);
    }
    return total;
}

}  // namespace

PortMap make_port_map(const backend::Model& model) {
    const auto input_count = static_cast<int>(model.graph->inputs().size());
    const auto output_count = static_cast<int>(model.graph->outputs().size());
    PortMap map{.inputs = model.graph_inputs, .outputs = model.graph_outputs, .constant_bytes = constant_bytes(*model.graph)};
    if (map.inputs.size() != model.inputs.size() || map.outputs.size() != model.outputs.size()) {
        throw_map("the model maps " + std::to_string(map.inputs.size()) + " inputs and " + std::to_string(map.outputs.size()) + " outputs of " +
                  std::to_string(model.inputs.size()) + " and " + std::to_string(model.outputs.size()));
    }
    std::vector<bool> fed(static_cast<std::size_t>(input_count));
    for (const int index : map.inputs) {
        if (index < -1 || index >= input_count) throw_map("graph input " + std::to_string(index) + " doesn't exist");
        if (index >= 0) fed[static_cast<std::size_t>(index)] = true;
    }
    if (const auto unfed = std::ranges::find(fed, false); unfed != fed.end()) {
        throw_map("no input of the model feeds graph input " + std::to_string(unfed - fed.begin()));
    }
    for (const int index : map.outputs) {
        if (index < 0 || index >= output_count) throw_map("graph output " + std::to_string(index) + " doesn't exist");
        const auto* source = model.graph->get_results()[static_cast<std::size_t>(index)]->get_input_node_ptr(0);
        map.direct.push_back(dynamic_cast<const ov::op::v0::Parameter*>(source) != nullptr ? 1 : 0);
    }
    for (const auto& port : model.graph->inputs()) check_type(port.get_element_type());
    for (const auto& port : model.graph->outputs()) check_type(port.get_element_type());
    return map;
}

void write_port_map(std::ostream& out, const PortMap& map) {
    out.write(kBlobFormat.data(), static_cast<std::streamsize>(kBlobFormat.size()));
    put(out, map.inputs);
    put(out, map.outputs);
    put(out, map.direct);
    put(out, map.constant_bytes);
}

PortMap read_port_map(std::span<const std::byte>& blob, const backend::Model& model) {
    if (blob.size() < kBlobFormat.size() || std::memcmp(blob.data(), kBlobFormat.data(), kBlobFormat.size()) != 0) {
        throw_blob("the bytes are no compiled model of this backend");
    }
    blob = blob.subspan(kBlobFormat.size());
    PortMap map;
    map.inputs = take_indices(blob, model.inputs.size(), "inputs");
    map.outputs = take_indices(blob, model.outputs.size(), "outputs");
    map.direct = take_indices(blob, model.outputs.size(), "outputs");
    map.constant_bytes = take(blob);
    return map;
}

int models_for(const backend::CompileConfig& config, std::int64_t constant_bytes) noexcept {
    constexpr std::int64_t kAllBytes = std::int64_t{64} << 20;  // of all copies
    constexpr int kMost = 8;
    if (!is_cpu(config.device) || config.threads != 1 || config.streams > kMost || constant_bytes * config.streams > kAllBytes) return 1;
    return config.streams;
}

backend::CompileConfig share_of(const backend::CompileConfig& config, int models) {
    backend::CompileConfig share = config;
    share.streams = config.streams / models;
    return share;
}

Executable::Executable(std::vector<ov::CompiledModel> compiled, PortMap map, const backend::CompileConfig& config)
    : compiled_(std::move(compiled)), map_(std::move(map)) {
    const auto fits = [](const std::vector<int>& indices, std::size_t count) {
        return std::ranges::all_of(indices, [&](int index) { return index < static_cast<int>(count); });
    };
    for (const ov::CompiledModel& each : compiled_) {
        if (!fits(map_.inputs, each.inputs().size()) || !fits(map_.outputs, each.outputs().size())) {
            throw_blob("the compiled model has fewer inputs or outputs than its model");
        }
        check_config(each, share_of(config, static_cast<int>(compiled_.size())));
    }
}

void Executable::check_config(const ov::CompiledModel& compiled, const backend::CompileConfig& config) {
    std::vector<ov::PropertyName> supported;
    try {
        supported = compiled.get_property(ov::supported_properties);
    } catch (...) {
        return;  // an engine that tells nothing about itself can't be checked
    }
    const auto offers = [&](const char* name) { return std::ranges::find(supported, std::string_view(name)) != supported.end(); };
    const auto refuse = [&](std::string_view what, const std::string& expected, const std::string& found) {
        throw Error(ErrorCode::unimplemented, ErrorCategory::compilation, "OpenVINO doesn't keep the " + std::string(what) + " on " + config.device,
                    {.expected = expected, .found = found, .advice = {}});
    };
    if (offers(ov::hint::inference_precision.name())) {
        const ov::element::Type used = compiled.get_property(ov::hint::inference_precision);
        const ov::element::Type wanted = precision_type(config.precision);
        if (used != wanted) refuse("precision", wanted.get_type_name(), used.get_type_name());
    }
    if (!is_cpu(config.device)) return;
    if (offers(ov::inference_num_threads.name())) {
        const int used = compiled.get_property(ov::inference_num_threads);
        const int wanted = config.threads * config.streams;
        if (used < wanted) refuse("thread count", std::to_string(wanted), std::to_string(used));
    }
    if (offers(ov::num_streams.name())) {
        const int used = compiled.get_property(ov::num_streams).num;
        if (used < config.streams) refuse("stream count", std::to_string(config.streams), std::to_string(used));
    }
}

std::unique_ptr<backend::Request> Executable::create_request() {
    try {
        return std::make_unique<Request>(compiled_[requests_.fetch_add(1, std::memory_order_relaxed) % compiled_.size()], map_);
    } catch (...) {
        rethrow_as_error(Phase::create_request);
    }
}

std::int64_t Executable::memory_bytes() const {
    // Constants as the file has them, and the ports of one request; what the engine packs or keeps between nodes is its secret.
    const auto copies = static_cast<std::int64_t>(compiled_.size());
    return map_.constant_bytes * copies + port_bytes(compiled_.front().inputs()) + port_bytes(compiled_.front().outputs());
}

std::vector<std::pair<std::string, std::string>> Executable::properties() const {
    const ov::CompiledModel& compiled = compiled_.front();
    std::vector<std::pair<std::string, std::string>> pairs{{"MODELS", std::to_string(compiled_.size())}};
    try {
        for (const ov::PropertyName& name : compiled.get_property(ov::supported_properties)) {
            if (name == ov::supported_properties.name()) continue;
            try {
                pairs.emplace_back(name, compiled.get_property(name).as<std::string>());
            } catch (...) {  // a property without a printable value
            }
        }
    } catch (...) {
    }
    return pairs;
}

void Executable::export_blob(std::ostream& out) const {
    try {
        write_port_map(out, map_);
        // CompiledModel's methods are thread-safe, but this one isn't const.
        ov::CompiledModel(compiled_.front()).export_model(out);
    } catch (...) {
        rethrow_as_error(Phase::export_blob);
    }
    if (!out) throw Error(ErrorCode::resource_exhausted, ErrorCategory::system, "the compiled model could not be written");
}

}  // namespace ai_vmm::openvino
