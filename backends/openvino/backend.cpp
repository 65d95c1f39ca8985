// SPDX-License-Identifier: Apache-2.0
/// The backend `openvino`: CPU, GPU and NPU through one ov::Core.
#include <algorithm>
#include <istream>
#include <map>
#include <memory>
#include <mutex>
#include <streambuf>
#include <string>
#include <utility>
#include <vector>

#include "ai_vmm/backend/backend.hpp"
#include "convert.hpp"
#include "declared_types.hpp"
#include "devices.hpp"
#include "executable.hpp"
#include "openvino/core/version.hpp"
#include "openvino/runtime/core.hpp"
#include "openvino/runtime/properties.hpp"
#include "specialised.hpp"

namespace ai_vmm::openvino {
namespace {

using backend::CompileConfig;
using backend::Model;
using backend::NodeSupport;
using backend::Support;

/// Reads a span of bytes; seekable, as importing a blob needs.
class SpanBuffer final : public std::streambuf {
public:
    explicit SpanBuffer(std::span<const std::byte> bytes) {
        char* begin = const_cast<char*>(reinterpret_cast<const char*>(bytes.data()));
        setg(begin, begin, begin + bytes.size());
    }

protected:
    pos_type seekoff(off_type offset, std::ios_base::seekdir from, std::ios_base::openmode) override {
        char* base = from == std::ios_base::beg ? eback() : from == std::ios_base::cur ? gptr() : egptr();
        if (offset < eback() - base || offset > egptr() - base) return pos_type(off_type(-1));
        setg(eback(), base + offset, egptr());
        return gptr() - eback();
    }
    pos_type seekpos(pos_type position, std::ios_base::openmode mode) override { return seekoff(off_type(position), std::ios_base::beg, mode); }
};

}  // namespace

class Backend final : public backend::Backend {
public:
    Backend();

    [[nodiscard]] std::string_view name() const noexcept override { return "openvino"; }
    [[nodiscard]] std::string_view version() const noexcept override { return version_; }
    [[nodiscard]] std::string engine_version() const override { return engine_version_; }
    [[nodiscard]] std::vector<DeviceInfo> enumerate() override;
    [[nodiscard]] Support supports(const Model& model, const CompileConfig& config) override;
    [[nodiscard]] NodeSupport node_support(const Model& model, const CompileConfig& config) override;
    [[nodiscard]] std::unique_ptr<backend::Executable> compile(const Model& model, const CompileConfig& config) override;
    [[nodiscard]] std::unique_ptr<backend::Executable> import_blob(std::span<const std::byte> blob, const Model& model,
                                                                   const CompileConfig& config) override;

private:
    /// What a device allows to be set and which precisions it runs.
    struct DeviceFacts {
        std::vector<std::string> settable;
        std::vector<std::string> precisions;
    };

    /// @throws Error(unimplemented) no such device, or it doesn't run the precision.
    const DeviceFacts& checked_device(const CompileConfig& config);
    /// Asks the device about every node. Costs about as much as half a compilation.
    Support query(const std::shared_ptr<const ov::Model>& graph, const CompileConfig& config, const DeviceFacts& facts);
    std::unique_ptr<Executable> import_one(std::span<const std::byte> blob, const Model& model, const CompileConfig& config);
    static ov::AnyMap engine_options(const CompileConfig& config, const DeviceFacts& facts);

    ov::Core core_;
    const std::string version_ = std::string("1.2 ").append(kBlobFormat).append(" ").append(kSpecialisedBlobFormat);
    std::string engine_version_;
    std::mutex mutex_;                          // guards facts_; its elements never change or move
    std::map<std::string, DeviceFacts> facts_;  // by device name
};

Backend::Backend() try {
    const ov::Version version = ov::get_openvino_version();
    // "2026.4.1-22030-abc-releases/2026/4": the first part is what users know.
    engine_version_ = version.buildNumber;
    engine_version_.resize(std::min(engine_version_.find('-'), engine_version_.size()));
} catch (const std::exception& error) {
    throw Error(ErrorCode::unavailable, ErrorCategory::system, "OpenVINO can't start: " + clean_message(error.what()));
}

std::vector<DeviceInfo> Backend::enumerate() {
    std::vector<DeviceInfo> devices;
    for (const std::string& device : device_names(core_)) devices.push_back(describe_device(core_, device, engine_version_));
    return devices;
}

const Backend::DeviceFacts& Backend::checked_device(const CompileConfig& config) {
    if (config.threads < 1 || config.streams < 1) {
        throw Error(ErrorCode::invalid_argument, ErrorCategory::compilation, "threads and streams must be positive",
                    {.expected = {}, .found = std::to_string(config.threads) + " and " + std::to_string(config.streams), .advice = {}});
    }
    const std::string precision(precision_type(config.precision).get_type_name());
    const std::scoped_lock lock(mutex_);
    auto known = facts_.find(config.device);
    if (known == facts_.end()) {
        // "CPU" exists; asking for the list loads the plugins of all other devices.
        const std::vector<std::string> names = config.device == "CPU" ? std::vector<std::string>{"CPU"} : device_names(core_);
        if (std::ranges::find(names, config.device) == names.end()) {
            std::string list;
            for (const std::string& device : names) list += (list.empty() ? "" : ", ") + device;
            throw Error(ErrorCode::unimplemented, ErrorCategory::compilation, "OpenVINO has no device '" + config.device + "' here",
                        {.expected = list, .found = config.device, .advice = {}});
        }
        DeviceFacts facts{.settable = {}, .precisions = native_precisions(core_, config.device)};
        for (const ov::PropertyName& property : core_.get_property(config.device, ov::supported_properties)) {
            if (property.is_mutable()) facts.settable.push_back(property);
        }
        known = facts_.emplace(config.device, std::move(facts)).first;
    }
    if (std::ranges::find(known->second.precisions, precision) == known->second.precisions.end()) {
        std::string list;
        for (const std::string& offered : known->second.precisions) list += (list.empty() ? "" : ", ") + offered;
        throw Error(ErrorCode::unimplemented, ErrorCategory::compilation, "device " + config.device + " doesn't compute in " + precision,
                    {.expected = list, .found = precision, .advice = {}});
    }
    return known->second;
}

ov::AnyMap Backend::engine_options(const CompileConfig& config, const DeviceFacts& facts) {
    ov::AnyMap options;
    const auto set = [&](const std::pair<std::string, ov::Any>& option) {
        if (std::ranges::find(facts.settable, option.first) != facts.settable.end()) options.insert(option);
    };
    const ov::element::Type precision = precision_type(config.precision);
    set(ov::hint::inference_precision(precision));
    set(ov::hint::performance_mode(config.throughput ? ov::hint::PerformanceMode::THROUGHPUT : ov::hint::PerformanceMode::LATENCY));
    // Nothing beside the precision may change values: activations stay unquantised, and caches have the computing type.
    set(ov::hint::dynamic_quantization_group_size(0));
    set(ov::hint::kv_cache_precision(precision));
    // Quantised models: 8-bit kernels that saturate are off by up to the whole range of an output, so layers compute in f32 there, between the
    // model's own roundings. The plugin takes the option without listing it.
    if (is_cpu(config.device) && !adds_bytes_exactly()) options.emplace("LP_TRANSFORMS_MODE", false);
    set(ov::num_streams(ov::streams::Num(config.streams)));
    set(ov::inference_num_threads(config.threads * config.streams));
    // The count is decided; without this the engine halves it on processors with two threads per core.
    set(ov::hint::enable_hyper_threading(true));
    // Deployments share the machine: two that pin would pick the same cores.
    set(ov::hint::enable_cpu_pinning(false));
    if (config.throughput && !is_cpu(config.device)) options.insert(ov::hint::allow_auto_batching(false));
    return options;
}

Support Backend::query(const std::shared_ptr<const ov::Model>& graph, const CompileConfig& config, const DeviceFacts& facts) {
    Support support;
    if (!is_cpu(config.device)) {
        // The GPU plugin divides by the size of empty tensors, and Col2Im (2026.4) reads where nothing is: both end the process.
        for (const auto& node : graph->get_ordered_ops()) {
            if (std::string_view(node->get_type_name()) == "Col2Im") {
                support.unsupported_nodes.push_back(node->get_friendly_name());
                support.reason = "OpenVINO's device " + config.device + " does not survive Col2Im";
                return support;
            }
            for (const auto& output : node->outputs()) {
                if (!output.get_partial_shape().is_static() || ov::shape_size(output.get_shape()) > 0) continue;
                support.unsupported_nodes.push_back(node->get_friendly_name());
                support.reason = "OpenVINO's device " + config.device + " takes no empty tensors: " + node->get_type_name() + " of " +
                                 output.get_element_type().get_type_name() + output.get_partial_shape().to_string();
                return support;
            }
        }
    }
    const ov::SupportedOpsMap found = core_.query_model(graph, config.device, engine_options(config, facts));
    std::string first;
    for (const auto& node : graph->get_ordered_ops()) {
        if (found.contains(node->get_friendly_name())) continue;
        support.unsupported_nodes.push_back(node->get_friendly_name());
        // What feeds an operator that isn't run is often listed too; the operator is the news.
        const std::string_view type = node->get_type_name();
        if (!first.empty() || type == "Parameter" || type == "Constant" || node->get_output_size() == 0) continue;
        first = std::string(type) + " of " + node->get_output_element_type(0).get_type_name() + node->get_output_partial_shape(0).to_string();
    }
    support.supported = support.unsupported_nodes.empty();
    if (!support.supported) {
        support.reason = "OpenVINO's device " + config.device + " doesn't run " + (first.empty() ? support.unsupported_nodes.front() : first);
    }
    return support;
}

Support Backend::supports(const Model& model, const CompileConfig& config) {
    try {
        const DeviceFacts& facts = checked_device(config);
        if (model.graph == nullptr) return {.supported = false, .reason = "OpenVINO can't read the model: " + model.graph_refusal};
        static_cast<void>(make_port_map(model));
        return query(with_declared_types(model), config, facts);
    } catch (...) {
        try {
            rethrow_as_error(Phase::query);
        } catch (const Error& error) {
            return {.supported = false, .reason = error.what()};
        }
    }
}

NodeSupport Backend::node_support(const Model& model, const CompileConfig& config) {
    try {
        const DeviceFacts& facts = checked_device(config);
        if (model.graph == nullptr) return {.any = false, .reason = "OpenVINO can't read the model: " + model.graph_refusal, .refusals = {}};
        const Support support = query(model.graph, config, facts);
        NodeSupport nodes;
        for (const std::string& node : support.unsupported_nodes) nodes.refusals.push_back({node, support.reason});
        return nodes;
    } catch (...) {
        try {
            rethrow_as_error(Phase::query);
        } catch (const Error& error) {
            return {.any = false, .reason = error.what(), .refusals = {}};
        }
    }
}

namespace {

/// Two compiled forms of larger models would take too much memory.
constexpr std::int64_t kLargestSpecialisedBytes = std::int64_t{256} << 20;

/// A copy of `graph` with its open inputs fixed to `shapes`; null if there is nothing to fix or the graph can't be.
std::shared_ptr<const ov::Model> fix_shapes(const Model& model, const PortMap& map, const std::shared_ptr<const ov::Model>& graph,
                                            const std::vector<Shape>& shapes) {
    if (shapes.size() != model.inputs.size() || map.constant_bytes > kLargestSpecialisedBytes) return nullptr;
    if (std::ranges::none_of(graph->inputs(), [](const auto& port) { return port.get_partial_shape().is_dynamic(); })) return nullptr;
    try {
        const std::shared_ptr<ov::Model> fixed = graph->clone();
        std::map<std::size_t, ov::PartialShape> wanted;
        for (std::size_t i = 0; i < shapes.size(); ++i) {
            if (map.inputs[i] >= 0)
                wanted[static_cast<std::size_t>(map.inputs[i])] = ov::PartialShape(std::vector<ov::Dimension>(shapes[i].begin(), shapes[i].end()));
        }
        fixed->reshape(wanted);
        return fixed;
    } catch (const std::exception&) {  // the graph stays open then
        return nullptr;
    }
}

}  // namespace

std::unique_ptr<backend::Executable> Backend::compile(const Model& model, const CompileConfig& config) {
    try {
        const DeviceFacts& facts = checked_device(config);
        if (model.graph == nullptr) {
            throw Error(ErrorCode::unimplemented, ErrorCategory::compilation, "OpenVINO can't read the model: " + model.graph_refusal);
        }
        PortMap map = make_port_map(model);
        const auto graph = with_declared_types(model);
        // The CPU plugin refuses by itself what query_model() doesn't list; others compile some of it, and run it wrongly.
        if (!is_cpu(config.device)) {
            if (const Support support = query(graph, config, facts); !support.supported) {
                throw Error(ErrorCode::unimplemented, ErrorCategory::compilation, support.reason);
            }
        }
        const int models = models_for(config, map.constant_bytes);
        const auto make = [this, config, models, options = engine_options(share_of(config, models), facts),
                           map](const std::shared_ptr<const ov::Model>& source) {
            try {
                std::vector<ov::CompiledModel> compiled;
                for (int i = 0; i < models; ++i) compiled.push_back(core_.compile_model(source, config.device, options));
                return std::make_unique<Executable>(std::move(compiled), map, config);
            } catch (...) {
                rethrow_as_error(Phase::compile);
            }
        };
        if (const auto fixed = fix_shapes(model, map, graph, config.typical_shapes)) {
            return std::make_unique<SpecialisedExecutable>(config.typical_shapes, make(fixed), [make, graph] { return make(graph); });
        }
        return make(graph);
    } catch (...) {
        rethrow_as_error(Phase::compile);
    }
}

std::unique_ptr<Executable> Backend::import_one(std::span<const std::byte> blob, const Model& model, const CompileConfig& config) {
    const DeviceFacts& facts = checked_device(config);
    PortMap map = read_port_map(blob, model);
    const int models = models_for(config, map.constant_bytes);
    const ov::AnyMap options = engine_options(share_of(config, models), facts);
    std::vector<ov::CompiledModel> compiled;
    for (int i = 0; i < models; ++i) {
        SpanBuffer buffer(blob);
        std::istream stream(&buffer);
        compiled.push_back(core_.import_model(stream, config.device, options));
    }
    return std::make_unique<Executable>(std::move(compiled), std::move(map), config);
}

std::unique_ptr<backend::Executable> Backend::import_blob(std::span<const std::byte> blob, const Model& model, const CompileConfig& config) {
    try {
        const std::optional<SpecialisedBlob> parts = split_specialised(blob);
        if (!parts) return import_one(blob, model, config);
        // The general part is imported when a shape needs it; it must outlive the caller's bytes.
        auto general = std::make_shared<const std::vector<std::byte>>(parts->general.begin(), parts->general.end());
        auto light = std::make_shared<Model>();
        light->inputs = model.inputs;
        light->outputs = model.outputs;
        return std::make_unique<SpecialisedExecutable>(parts->shapes, import_one(parts->fixed, model, config), [this, general, light, config] {
            try {
                return import_one(*general, *light, config);
            } catch (...) {
                rethrow_as_error(Phase::import_blob);
            }
        });
    } catch (...) {
        rethrow_as_error(Phase::import_blob);
    }
}

}  // namespace ai_vmm::openvino

AI_VMM_DEFINE_BACKEND(ai_vmm::openvino::Backend)
