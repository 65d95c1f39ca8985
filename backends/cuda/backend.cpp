// SPDX-License-Identifier: Apache-2.0
#include "backend.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "base/log.hpp"
#include "executable.hpp"
#include "lower/context.hpp"
#include "lower/lower.hpp"
#include "openvino/core/except.hpp"

namespace ai_vmm::cuda {

std::vector<DeviceInfo> Backend::enumerate() {
    std::vector<DeviceInfo> all;
    for (DeviceEntry& entry : discover_()) all.push_back(std::move(entry.info));
    return all;
}

namespace {

void check_alive(const std::string& name, const Device& device) {
    if (const std::string failure = device.failure(); !failure.empty()) {
        throw Error(ErrorCode::unavailable, ErrorCategory::system, fmt::format("device {} has failed: {}", name, failure),
                    {.expected = {}, .found = {}, .advice = "restart the process to use it again"});
    }
}

}  // namespace

const Home& Backend::opened(const DeviceEntry& entry) {
    const std::string& name = entry.info.routes.front().backend_device;
    if (const auto found = homes_.find(name); found != homes_.end()) return found->second;
    Home home{
        .device = entry.open(), .weights = nullptr, .memory = nullptr, .find = [this](int ordinal) -> TensorMemory& { return memory(ordinal); }};
    home.weights = std::make_shared<WeightStore>(home.device);
    home.memory = std::make_shared<TensorMemory>(home.device);
    return homes_.emplace(name, std::move(home)).first->second;
}

const Home& Backend::home(const std::string& name) {
    const std::lock_guard lock(mutex_);
    if (const auto found = homes_.find(name); found != homes_.end()) {
        check_alive(name, *found->second.device);
        return found->second;
    }
    std::string names;
    for (const DeviceEntry& entry : discover_()) {
        const std::string& device = entry.info.routes.front().backend_device;
        if (device == name) return opened(entry);
        names += (names.empty() ? "" : ", ") + device;
    }
    throw Error(ErrorCode::unimplemented, ErrorCategory::compilation, fmt::format("the cuda backend has no device \"{}\"", name),
                {.expected = names.empty() ? "a device; there is none" : names, .found = name, .advice = {}});
}

TensorMemory& Backend::memory(int ordinal) {
    const std::lock_guard lock(mutex_);
    for (const auto& [name, home] : homes_) {
        if (home.device->ordinal() != ordinal) continue;
        check_alive(name, *home.device);
        return *home.memory;
    }
    const std::vector<DeviceEntry> entries = discover_();
    const auto entry = std::find_if(entries.begin(), entries.end(), [&](const DeviceEntry& one) { return one.ordinal == ordinal; });
    if (entry != entries.end()) return *opened(*entry).memory;
    throw Error(ErrorCode::invalid_argument, ErrorCategory::input, "a tensor names a device that is not there",
                {.expected = fmt::format("one of {}", entries.size()), .found = fmt::format("cuda:{}", ordinal), .advice = "see `vmm devices`"});
}

void Backend::copy(const Tensor& from, Tensor& to) {
    copy_tensor(from, to, [this](int ordinal) -> TensorMemory& { return memory(ordinal); });
}

void Backend::prepare(const std::string& device) noexcept {
    try {
        home(device).device->warm_up();
    } catch (const std::exception& error) {  // compile() says it to whom it concerns
        base::log_debug(std::string("cuda: not opened ahead: ") + error.what());
    }
}

backend::Support Backend::supports(const backend::Model& model, const backend::CompileConfig& config) {
    if (!model.graph) return {false, "the cuda backend lowers OpenVINO's graph, and there is none: " + model.graph_refusal, {}};
    if (config.threads < 1 || config.streams < 1)
        throw Error(ErrorCode::invalid_argument, ErrorCategory::compilation, "threads and streams must be positive");
    const std::vector<DeviceInfo> devices = enumerate();
    const bool known = std::ranges::any_of(devices, [&](const DeviceInfo& info) { return info.routes.front().backend_device == config.device; });
    if (!known) return {false, fmt::format("the cuda backend has no device \"{}\"", config.device), {}};
    {
        const std::lock_guard lock(mutex_);
        const auto found = homes_.find(config.device);
        const std::string failure = found == homes_.end() ? "" : found->second.device->failure();
        if (!failure.empty()) return {false, fmt::format("device {} has failed: {}", config.device, failure), {}};
    }
    backend::Support support{true, {}, {}};
    for (const auto& port : model.graph->inputs()) {
        if (!from_openvino(port.get_element_type()))
            return {false,
                    fmt::format("input \"{}\" of element type {}", port.get_node()->get_friendly_name(), port.get_element_type().get_type_name()),
                    {}};
    }
    for (const auto& port : model.graph->outputs()) {
        if (!from_openvino(port.get_element_type()))
            return {false,
                    fmt::format("output \"{}\" of element type {}", port.get_node()->get_friendly_name(), port.get_element_type().get_type_name()),
                    {}};
    }
    // Attributes, types and shapes show themselves in the lowering, which costs no device time; where they depend on what is not known yet,
    // operations that have no lowering at all decide.
    try {
        std::vector<Dims> shapes;
        for (const auto& port : model.graph->inputs()) {
            if (port.get_partial_shape().is_dynamic()) break;
            shapes.push_back(from_openvino(port.get_shape()));
        }
        const auto static_model = with_shapes(*model.graph, shapes.size() == model.graph->inputs().size() ? shapes : std::vector<Dims>{});
        support.unsupported_nodes = missing_operations(*static_model);
        if (!support.unsupported_nodes.empty())
            return {false, fmt::format("no lowering for {}", support.unsupported_nodes.front()), support.unsupported_nodes};
        if (shapes.size() == model.graph->inputs().size()) Executable::check(*model.graph, shapes);
    } catch (const Error& error) {
        return {false, error.what(), {}};
    }
    return support;
}

backend::NodeSupport Backend::node_support(const backend::Model& model, const backend::CompileConfig& config) {
    const auto none = [](std::string why) { return backend::NodeSupport{.any = false, .reason = std::move(why), .refusals = {}}; };
    if (!model.graph) return none("the cuda backend lowers OpenVINO's graph, and there is none: " + model.graph_refusal);
    const std::vector<DeviceInfo> devices = enumerate();
    const bool known = std::ranges::any_of(devices, [&](const DeviceInfo& info) { return info.routes.front().backend_device == config.device; });
    if (!known) return none(fmt::format("the cuda backend has no device \"{}\"", config.device));
    const auto nodes_at = [&](const std::vector<Dims>& shapes) {
        backend::NodeSupport support;
        for (auto& [node, reason] : refused_nodes(*model.graph, shapes)) support.refusals.push_back({std::move(node), std::move(reason)});
        return support;
    };
    std::vector<Dims> shapes(model.graph->inputs().size());
    bool known_shapes = true;
    for (std::size_t k = 0; k < shapes.size(); ++k) {
        const auto& shape = model.graph->input(k).get_partial_shape();
        const auto port = static_cast<std::size_t>(std::ranges::find(model.graph_inputs, static_cast<int>(k)) - model.graph_inputs.begin());
        if (shape.is_static()) {
            shapes[k] = from_openvino(shape.to_shape());
        } else if (port < config.typical_shapes.size()) {
            shapes[k] = config.typical_shapes[port];
        } else {
            known_shapes = false;
        }
    }
    try {
        return nodes_at(known_shapes ? shapes : std::vector<Dims>{});
    } catch (const std::exception& error) {
        return none(error.what());
    }
}

namespace {

template <typename Work>
auto without_openvino_exceptions(const Work& work) {
    try {
        return work();
    } catch (const ov::Exception& error) {
        throw Error(ErrorCode::internal, ErrorCategory::compilation, std::string("OpenVINO refuses the graph: ") + error.what());
    } catch (const std::bad_alloc&) {
        throw Error(ErrorCode::resource_exhausted, ErrorCategory::compilation, "no memory to compile");
    }
}

}  // namespace

void Backend::check_compilable(const backend::Model& model, const backend::CompileConfig& config) const {
    if (!model.graph)
        throw Error(ErrorCode::unimplemented, ErrorCategory::compilation,
                    "the cuda backend lowers OpenVINO's graph, and there is none: " + model.graph_refusal);
    if (config.threads < 1 || config.streams < 1)
        throw Error(ErrorCode::invalid_argument, ErrorCategory::compilation, "threads and streams must be positive");
    if (config.precision == Precision::automatic)
        throw Error(ErrorCode::invalid_argument, ErrorCategory::compilation, "the precision must be decided before compiling");
}

std::unique_ptr<backend::Executable> Backend::compile(const backend::Model& model, const backend::CompileConfig& config) {
    return without_openvino_exceptions([&] {
        check_compilable(model, config);
        return std::make_unique<Executable>(home(config.device), model, config);
    });
}

std::unique_ptr<backend::Executable> Backend::import_blob(std::span<const std::byte> blob, const backend::Model& model,
                                                          const backend::CompileConfig& config) {
    return without_openvino_exceptions([&] { return std::make_unique<Executable>(home(config.device), blob, model, config); });
}

backend::Outline Backend::outline(const backend::Model& model, const backend::CompileConfig& config) {
    return without_openvino_exceptions([&] {
        check_compilable(model, config);
        return Executable::outline(home(config.device), model, config);
    });
}

}  // namespace ai_vmm::cuda
