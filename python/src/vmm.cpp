// SPDX-License-Identifier: Apache-2.0
#include "vmm.hpp"

#include <memory>
#include <mutex>

#include "ai_vmm/vmm.hpp"
#include "convert.hpp"
#include "deployment.hpp"
#include "lifetime.hpp"
#include "values.hpp"

namespace ai_vmm::python {
namespace {

/// What Python sees as _core.VMM.
class PyVMM {
public:
    explicit PyVMM(std::shared_ptr<VMM> vmm) : vmm_(std::move(vmm)) {}
    PyVMM(const PyVMM&) = delete;
    PyVMM& operator=(const PyVMM&) = delete;
    ~PyVMM() { drop_without_gil(std::move(vmm_)); }

    [[nodiscard]] VMM& operator*() const noexcept { return *vmm_; }
    [[nodiscard]] VMM* operator->() const noexcept { return vmm_.get(); }

private:
    std::shared_ptr<VMM> vmm_;
};

std::filesystem::path path_of(nb::bytes path) { return std::string(path.c_str(), path.size()); }

/// Paths come as bytes in the file system's encoding, contents as bytes too: `in_memory` tells them apart.
ModelSource source_of(nb::bytes source, bool in_memory) {
    if (in_memory) return ModelSource::from_bytes(std::string(source.c_str(), source.size()));
    return ModelSource(path_of(source));
}

/// Runs the Python function between the library's steps; also where Ctrl-C is noticed, as the interpreter can't look itself meanwhile.
Progress progress_of(nb::object function) {
    return [function = keep(std::move(function))](std::string_view stage, double fraction) {
        if (closed()) return;
        nb::gil_scoped_acquire gil;
        CallbackError* const call = CallbackError::current();
        try {
            if (PyErr_CheckSignals() != 0) throw nb::python_error();
            if (!function->is_none()) (*function)(stage, fraction);
        } catch (nb::python_error& error) {
            if (call == nullptr) {  // not a thread that Python called from
                error.discard_as_unraisable("ai_vmm: progress function");
                return;
            }
            call->set(std::move(error));
            throw Error(ErrorCode::cancelled, ErrorCategory::runtime, "stopped by an exception of the progress function");
        }
    };
}

template <typename T>
std::optional<T> optional_of(const nb::dict& values, const char* key) {
    const nb::object value = values[key];
    if (value.is_none()) return std::nullopt;
    return nb::cast<T>(value);
}

Precision precision_of(std::string_view name) {
    if (const auto precision = precision_from_string(name)) return *precision;
    throw Error(ErrorCode::invalid_argument, ErrorCategory::input, "unknown precision",
                {.expected = "'automatic', 'f32', 'bf16' or 'f16'", .found = std::string(name), .advice = {}});
}

/// From the normalised dict of ai_vmm/_constraints.py: every field is there and has its type.
Constraints constraints_of(const nb::dict& values) {
    Constraints constraints;
    constraints.max_latency_ms = optional_of<double>(values, "max_latency_ms");
    constraints.min_throughput_per_s = optional_of<double>(values, "min_throughput_per_s");
    constraints.power_budget_watts = optional_of<double>(values, "power_budget_watts");
    constraints.max_memory_mb = optional_of<double>(values, "max_memory_mb");
    const auto goal_name = nb::cast<std::string>(values["goal"]);
    const auto goal = goal_from_string(goal_name);
    if (!goal) {
        throw Error(ErrorCode::invalid_argument, ErrorCategory::input, "unknown goal",
                    {.expected = "'latency', 'throughput' or 'efficiency'", .found = goal_name, .advice = {}});
    }
    constraints.goal = *goal;
    constraints.preferred_hardware = nb::cast<std::vector<std::string>>(values["preferred_hardware"]);
    constraints.devices = nb::cast<std::vector<std::string>>(values["devices"]);
    constraints.engines = nb::cast<std::vector<std::string>>(values["engines"]);
    constraints.precision = precision_of(nb::cast<std::string>(values["precision"]));
    for (const auto& name : nb::cast<std::vector<std::string>>(values["forbid_precisions"]))
        constraints.forbid_precisions.push_back(precision_of(name));
    constraints.threads = optional_of<int>(values, "threads");
    constraints.streams = optional_of<int>(values, "streams");
    for (auto [name, shape] : nb::cast<nb::dict>(values["input_shapes"])) {
        constraints.input_shapes.emplace_back(nb::cast<std::string>(name), nb::cast<Shape>(shape));
    }
    for (auto [name, value] : nb::cast<nb::dict>(values["calibration"])) {
        const auto text = nb::cast<std::string>(name);
        constraints.calibration.emplace_back(text, to_tensor(value, ElementType::undefined, "calibration input", text));
    }
    constraints.tune = std::chrono::milliseconds(nb::cast<std::int64_t>(values["tune_ms"]));
    constraints.priority = nb::cast<double>(values["priority"]);
    return constraints;
}

nb::object wrap(std::shared_ptr<Deployment> deployment) {
    return nb::cast(std::make_unique<PyDeployment>(std::move(deployment)).release(), nb::rv_policy::take_ownership);
}

PyVMM* make_vmm(std::optional<nb::bytes> cache_dir, std::optional<std::int64_t> cache_limit_bytes, bool use_cache, nb::list backend_paths,
                bool load_installed_backends, std::optional<int> max_queue, nb::object progress) {
    VMM::Options options;
    if (cache_dir) options.cache_dir = path_of(*cache_dir);
    if (cache_limit_bytes) options.cache_limit_bytes = *cache_limit_bytes;
    options.use_cache = use_cache;
    for (nb::handle path : backend_paths) options.backend_paths.push_back(path_of(nb::cast<nb::bytes>(path)));
    options.load_installed_backends = load_installed_backends;
    if (max_queue) options.max_queue = *max_queue;
    options.progress = progress_of(std::move(progress));
    auto vmm = without_gil([&] { return std::make_shared<VMM>(std::move(options)); });
    return new PyVMM(std::move(vmm));
}

nb::object deploy(const PyVMM& self, nb::bytes source, bool in_memory, nb::dict constraints, const std::string& name) {
    release_abandoned();
    const ModelSource model = source_of(source, in_memory);
    const Constraints wanted = constraints_of(constraints);
    return wrap(without_gil([&] { return self->deploy(model, wanted, name); }));
}

/// `requests`: (source, in_memory, constraints, name) each.
nb::list deploy_all(const PyVMM& self, nb::list requests) {
    release_abandoned();
    std::vector<DeployRequest> wanted;
    for (nb::handle request : requests) {
        const auto parts = nb::cast<nb::tuple>(request);
        wanted.push_back({source_of(nb::cast<nb::bytes>(parts[0]), nb::cast<bool>(parts[1])), constraints_of(nb::cast<nb::dict>(parts[2])),
                          nb::cast<std::string>(parts[3])});
    }
    auto deployments = without_gil([&] { return self->deploy_all(wanted); });
    nb::list list;
    for (auto& deployment : deployments) list.append(wrap(std::move(deployment)));
    return list;
}

nb::dict inspect(const PyVMM& self, nb::bytes source, bool in_memory) {
    const ModelSource model = source_of(source, in_memory);
    return to_dict(without_gil([&] { return self->inspect(model); }));
}

nb::dict plan(const PyVMM& self, nb::bytes source, bool in_memory, nb::dict constraints) {
    const ModelSource model = source_of(source, in_memory);
    const Constraints wanted = constraints_of(constraints);
    return to_dict(without_gil([&] { return self->plan(model, wanted); }));
}

PyTensor copy(const PyVMM& self, nb::handle value, std::int64_t kind, int device) {
    const Tensor from = to_tensor(value, ElementType::undefined, "the tensor", {});
    const MemoryPlace place{kind == 2 ? MemoryKind::cuda : MemoryKind::host, device};
    return {without_gil([&] { return self->copy(from, place); }), false};
}

}  // namespace

void bind_vmm(nb::module_& module) {
    nb::class_<PyVMM>(module, "VMM", "The virtual machine manager; ai_vmm.VMM is what users see.")
        .def(nb::new_(&make_vmm), nb::arg("cache_dir").none(), nb::arg("cache_limit_bytes").none(), nb::arg("use_cache"), nb::arg("backend_paths"),
             nb::arg("load_installed_backends"), nb::arg("max_queue").none(), nb::arg("progress").none())
        .def(
            "discover_hardware",
            [](const PyVMM& self, bool refresh) { return to_dict(without_gil([&] { return self->discover_hardware(refresh); })); },
            nb::arg("refresh"))
        .def("deploy", &deploy, nb::arg("source"), nb::arg("in_memory"), nb::arg("constraints"), nb::arg("name"))
        .def("deploy_all", &deploy_all, nb::arg("requests"))
        .def(
            "undeploy", [](const PyVMM& self, const PyDeployment& deployment) { without_gil([&] { self->undeploy(deployment.get()); }); },
            nb::arg("deployment"))
        .def("inspect", &inspect, nb::arg("source"), nb::arg("in_memory"))
        .def("plan", &plan, nb::arg("source"), nb::arg("in_memory"), nb::arg("constraints"))
        .def("copy", &copy, nb::arg("value"), nb::arg("kind"), nb::arg("device"))
        .def("metrics", [](const PyVMM& self) { return to_dict(without_gil([&] { return self->metrics(); })); })
        .def("cache_report", [](const PyVMM& self) { return to_dict(without_gil([&] { return self->cache_report(); })); })
        .def(
            "cache_collect",
            [](const PyVMM& self, std::optional<std::int64_t> limit_bytes) { return without_gil([&] { return self->cache_collect(limit_bytes); }); },
            nb::arg("limit_bytes").none())
        .def("cache_clear", [](const PyVMM& self) { return without_gil([&] { return self->cache_clear(); }); });
}

}  // namespace ai_vmm::python
