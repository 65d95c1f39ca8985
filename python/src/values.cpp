// SPDX-License-Identifier: Apache-2.0
#include "values.hpp"

#include <utility>

namespace ai_vmm::python {
namespace {

nb::object value_of(std::string_view text) {
    // Names come from files and devices: bytes that are not UTF-8 must not end in an error of their own.
    nb::object value = nb::steal(PyUnicode_DecodeUTF8(text.data(), static_cast<Py_ssize_t>(text.size()), "surrogateescape"));
    if (!value.is_valid()) throw nb::python_error();
    return value;
}
nb::object value_of(const std::string& text) { return value_of(std::string_view(text)); }
nb::object value_of(bool value) { return nb::bool_(value); }
nb::object value_of(double value) { return nb::float_(value); }
template <typename T>
requires std::is_integral_v<T> nb::object value_of(T value) { return nb::int_(value); }
nb::object value_of(nb::dict value) { return value; }

template <typename T>
nb::object tuple_of(const std::vector<T>& values);

nb::object value_of(const std::vector<std::string>& values) { return tuple_of(values); }
nb::object value_of(const Shape& shape) { return tuple_of(shape); }
template <typename T>
nb::object value_of(const std::pair<std::string, T>& pair) {
    return nb::make_tuple(value_of(pair.first), value_of(pair.second));
}

nb::dict dict_of(const NodeProfile& node);
nb::dict dict_of(const DeviceRoute& route);
nb::dict dict_of(const DeviceInfo& device);
nb::dict dict_of(const BackendReport& backend);
nb::dict dict_of(const CacheEntry& entry);
nb::dict dict_of(const TensorInfo& info) { return to_dict(info); }
nb::dict dict_of(const DeploymentMetrics& metrics) { return to_dict(metrics); }

template <typename T>
nb::object tuple_of(const std::vector<T>& values) {
    nb::list list;
    for (const auto& value : values) {
        if constexpr (requires { value_of(value); }) {
            list.append(value_of(value));
        } else {
            list.append(dict_of(value));
        }
    }
    return nb::tuple(list);
}

template <typename T>
void put(nb::dict& dict, const char* key, const T& value) {
    if constexpr (requires { value_of(value); }) {
        dict[key] = value_of(value);
    } else {
        dict[key] = tuple_of(value);
    }
}

nb::dict dict_of(const NodeProfile& node) {
    nb::dict dict;
    put(dict, "name", node.name);
    put(dict, "type", node.type);
    put(dict, "precision", node.precision);
    put(dict, "flops", node.flops);
    put(dict, "bytes_read", node.bytes_read);
    put(dict, "bytes_written", node.bytes_written);
    put(dict, "parameters", node.parameters);
    put(dict, "parameter_bytes", node.parameter_bytes);
    return dict;
}

nb::dict dict_of(const DeviceRoute& route) {
    nb::dict dict;
    put(dict, "backend", route.backend);
    put(dict, "backend_device", route.backend_device);
    put(dict, "engine_version", route.engine_version);
    put(dict, "precisions", route.precisions);
    put(dict, "properties", route.properties);
    return dict;
}

nb::dict dict_of(const DeviceInfo& device) {
    nb::dict scores;
    put(scores, "memory_bandwidth_gb_s", device.scores.memory_bandwidth_gb_s);
    put(scores, "f32_gflops", device.scores.f32_gflops);
    nb::dict dict;
    put(dict, "id", device.id);
    put(dict, "kind", to_string(device.kind));
    put(dict, "vendor", device.vendor);
    put(dict, "name", device.name);
    put(dict, "uuid", device.uuid);
    put(dict, "pci_address", device.pci_address);
    put(dict, "memory_total_bytes", device.memory_total_bytes);
    put(dict, "memory_free_bytes", device.memory_free_bytes);
    put(dict, "compute_units", device.compute_units);
    put(dict, "features", device.features);
    put(dict, "scores", scores);
    put(dict, "routes", device.routes);
    return dict;
}

nb::dict dict_of(const BackendReport& backend) {
    nb::dict dict;
    put(dict, "name", backend.name);
    put(dict, "path", backend.path);
    put(dict, "version", backend.version);
    put(dict, "engine_version", backend.engine_version);
    put(dict, "loaded", backend.loaded);
    put(dict, "reason", backend.reason);
    return dict;
}

nb::dict dict_of(const CacheEntry& entry) {
    nb::dict dict;
    put(dict, "key", entry.key);
    put(dict, "model", entry.model);
    put(dict, "kind", entry.kind);
    put(dict, "size_bytes", entry.size_bytes);
    put(dict, "last_used_unix_s", entry.last_used_unix_s);
    return dict;
}

}  // namespace

nb::dict to_dict(const TensorInfo& info) {
    nb::dict dict;
    put(dict, "name", info.name);
    put(dict, "type", to_string(info.type));
    if (info.rank_known) {
        put(dict, "shape", info.shape);
    } else {
        dict["shape"] = nb::none();
    }
    put(dict, "optional", info.optional);
    return dict;
}

nb::dict to_dict(const ModelProfile& profile) {
    nb::dict dict;
    put(dict, "name", profile.name);
    put(dict, "format", to_string(profile.format));
    put(dict, "file_size_bytes", profile.file_size_bytes);
    put(dict, "category", to_string(profile.category));
    put(dict, "category_confidence", profile.category_confidence);
    put(dict, "evidence", profile.evidence);
    put(dict, "inputs", profile.inputs);
    put(dict, "outputs", profile.outputs);
    put(dict, "dynamic_dimensions", profile.dynamic_dimensions);
    put(dict, "assumed_shapes", profile.assumed_shapes);
    put(dict, "precision", profile.precision);
    put(dict, "quantized", profile.quantized);
    put(dict, "quantization", profile.quantization);
    put(dict, "hidden_width", profile.hidden_width);
    put(dict, "stateful", profile.stateful);
    put(dict, "flops", profile.flops);
    put(dict, "parameters", profile.parameters);
    put(dict, "parameter_bytes", profile.parameter_bytes);
    put(dict, "activation_bytes", profile.activation_bytes);
    put(dict, "bytes_moved", profile.bytes_moved);
    put(dict, "nodes", profile.nodes);
    put(dict, "notes", profile.notes);
    return dict;
}

nb::dict to_dict(const Hardware& hardware) {
    nb::dict dict;
    put(dict, "devices", hardware.devices);
    put(dict, "backends", hardware.backends);
    return dict;
}

nb::dict to_dict(const DeploymentDescription& description) {
    nb::dict dict;
    put(dict, "name", description.name);
    put(dict, "source", description.source);
    put(dict, "profile", to_dict(description.profile));
    put(dict, "engine", description.engine);
    put(dict, "device", description.device);
    put(dict, "precision", description.precision);
    put(dict, "threads", description.threads);
    put(dict, "streams", description.streams);
    put(dict, "batch", description.batch);
    put(dict, "from_cache", description.from_cache);
    put(dict, "deploy_ms", description.deploy_ms);
    put(dict, "deploy_steps_ms", description.deploy_steps_ms);
    return dict;
}

nb::dict to_dict(const DeploymentMetrics& metrics) {
    nb::dict dict;
    put(dict, "name", metrics.name);
    put(dict, "executions", metrics.executions);
    put(dict, "failures", metrics.failures);
    put(dict, "cancelled", metrics.cancelled);
    put(dict, "rejected", metrics.rejected);
    put(dict, "fallbacks", metrics.fallbacks);
    put(dict, "queue_depth", metrics.queue_depth);
    put(dict, "latency_mean_ms", metrics.latency_mean_ms);
    put(dict, "latency_p50_ms", metrics.latency_p50_ms);
    put(dict, "latency_p90_ms", metrics.latency_p90_ms);
    put(dict, "latency_p99_ms", metrics.latency_p99_ms);
    put(dict, "predicted_latency_ms", metrics.predicted_latency_ms);
    put(dict, "active_candidate", metrics.active_candidate);
    put(dict, "events", metrics.events);
    return dict;
}

nb::dict to_dict(const Metrics& metrics) {
    nb::dict dict;
    put(dict, "deployments", metrics.deployments);
    put(dict, "cache_hits", metrics.cache_hits);
    put(dict, "cache_misses", metrics.cache_misses);
    put(dict, "cache_damaged", metrics.cache_damaged);
    put(dict, "threads_total", metrics.threads_total);
    put(dict, "threads_in_use", metrics.threads_in_use);
    return dict;
}

nb::dict to_dict(const Explanation& explanation) {
    nb::dict dict;
    put(dict, "text", explanation.text);
    put(dict, "json", explanation.json);
    return dict;
}

nb::dict to_dict(const CacheReport& report) {
    nb::dict dict;
    put(dict, "directory", report.directory.string());
    put(dict, "size_bytes", report.size_bytes);
    put(dict, "limit_bytes", report.limit_bytes);
    put(dict, "writable", report.writable);
    put(dict, "entries", report.entries);
    return dict;
}

}  // namespace ai_vmm::python
