// SPDX-License-Identifier: Apache-2.0
#include "deployment.hpp"

#include <chrono>
#include <cmath>

#include "convert.hpp"
#include "lifetime.hpp"
#include "values.hpp"

namespace ai_vmm::python {
namespace {

[[noreturn]] void throw_input(std::string message, ErrorDetail detail = {}) {
    throw Error(ErrorCode::invalid_argument, ErrorCategory::input, std::move(message), std::move(detail));
}

std::vector<Port> ports_of(std::span<const TensorInfo> infos) {
    std::vector<Port> ports;
    ports.reserve(infos.size());
    for (const TensorInfo& info : infos) {
        PyObject* name = PyUnicode_DecodeUTF8(info.name.data(), static_cast<Py_ssize_t>(info.name.size()), "surrogateescape");
        if (name == nullptr) throw nb::python_error();
        PyUnicode_InternInPlace(&name);
        ports.push_back({nb::steal(name), info.name, info.type, info.optional});
    }
    return ports;
}

std::string names_of(const std::vector<Port>& ports) {
    std::string names;
    for (const Port& port : ports) names.append(names.empty() ? "'" : ", '").append(port.text).append("'");
    return names;
}

RunOptions run_options(std::optional<double> timeout_ms, const std::stop_source* stop = nullptr) {
    constexpr double kLongestMs = 1e12;  // some 30 years: as good as none, and far from overflow
    RunOptions options;
    if (timeout_ms) {
        if (std::isnan(*timeout_ms) || *timeout_ms < 0) {
            throw_input("timeout_ms must not be negative",
                        {.expected = "milliseconds >= 0, or None", .found = std::to_string(*timeout_ms), .advice = {}});
        }
        if (*timeout_ms < kLongestMs) options.timeout = std::chrono::nanoseconds(static_cast<std::int64_t>(*timeout_ms * 1e6));
    }
    if (stop != nullptr) options.stop = stop->get_token();
    return options;
}

/// The tensors of one execution, taken from Python.
class Inputs {
public:
    /// `positional`: arrays in the file's order, or one mapping by name; `named`: further ones by name.
    /// @throws Error(invalid_argument) too many, given twice, not text as a name, or not convertible. Missing and unknown names are left to
    ///         the library, which says the same to everybody.
    Inputs(const PyDeployment& model, nb::handle positional, nb::handle named) : ports_(model.inputs()), ordered_(ports_.size()) {
        const Py_ssize_t count = PyTuple_GET_SIZE(positional.ptr());
        if (count == 1 && is_mapping(PyTuple_GET_ITEM(positional.ptr(), 0))) {
            give_all(PyTuple_GET_ITEM(positional.ptr(), 0));
        } else {
            if (static_cast<std::size_t>(count) > ports_.size()) {
                throw_input(
                    "too many inputs",
                    {.expected = std::to_string(ports_.size()) + " (" + names_of(ports_) + ")", .found = std::to_string(count), .advice = {}});
            }
            for (Py_ssize_t i = 0; i < count; ++i) give(static_cast<std::size_t>(i), PyTuple_GET_ITEM(positional.ptr(), i));
        }
        if (named.is_valid() && PyDict_GET_SIZE(named.ptr()) > 0) give_all(named);
    }

    /// Every input that must be there is, and nothing else. Optional ones that were left out are empty tensors.
    [[nodiscard]] bool complete() const noexcept {
        if (!unknown_.empty()) return false;
        for (std::size_t i = 0; i < ports_.size(); ++i) {
            if (ordered_[i].empty() && !ports_[i].optional) return false;
        }
        return true;
    }
    [[nodiscard]] std::span<const Tensor> ordered() const noexcept { return ordered_; }
    /// The first device that an input lies on: outputs are asked for there.
    [[nodiscard]] std::optional<MemoryPlace> device() const noexcept {
        for (const Tensor& tensor : ordered_) {
            if (!tensor.place().is_host()) return tensor.place();
        }
        return {};
    }

    /// By name, for what is not complete or needs names.
    [[nodiscard]] TensorMap named() const {
        TensorMap map;
        for (std::size_t i = 0; i < ports_.size(); ++i) {
            if (!ordered_[i].empty()) map.push_back(ports_[i].text, ordered_[i]);
        }
        for (const auto& [name, tensor] : unknown_) map.push_back(name, tensor);
        return map;
    }

private:
    static bool is_mapping(nb::handle value) {
        if (PyDict_Check(value.ptr())) return true;
        if (reinterpret_cast<PyObject*>(Py_TYPE(value.ptr())) == hooks().ndarray) return false;
        const int is = PyObject_IsInstance(value.ptr(), hooks().mapping);
        if (is < 0) throw nb::python_error();
        return is == 1;
    }

    void give_all(nb::handle mapping) {
        if (PyDict_CheckExact(mapping.ptr())) {
            for (auto [name, value] : nb::borrow<nb::dict>(mapping)) give(name, value);
            return;
        }
        for (nb::handle name : mapping) give(name, nb::object(mapping[name]));
    }

    void give(nb::handle name, nb::handle value) {
        if (!PyUnicode_Check(name.ptr())) {
            throw_input("the name of an input is not text",
                        {.expected = "str", .found = nb::cast<std::string>(nb::repr(name)), .advice = "the model's inputs are " + names_of(ports_)});
        }
        for (std::size_t i = 0; i < ports_.size(); ++i) {
            if (ports_[i].name.is(name) || PyUnicode_Compare(ports_[i].name.ptr(), name.ptr()) == 0) return give(i, value);
        }
        const auto text = nb::cast<std::string>(name);
        unknown_.emplace_back(text, to_tensor(value, ElementType::undefined, "input", text));
    }

    void give(std::size_t index, nb::handle value) {
        const Port& port = ports_[index];
        if (port.optional && value.is_none()) return;
        if (!ordered_[index].empty())
            throw_input("input '" + port.text + "' is given twice", {.expected = "once", .found = "by position and by name", .advice = {}});
        ordered_[index] = to_tensor(value, port.type, "input", port.text);
    }

    const std::vector<Port>& ports_;
    std::vector<Tensor> ordered_;
    std::vector<std::pair<std::string, Tensor>> unknown_;
};

nb::object to_python(Tensor tensor, bool as_tensor) {
    if (as_tensor || !tensor.place().is_host()) return nb::cast(PyTensor{std::move(tensor), false});
    return to_numpy(std::move(tensor));
}

nb::object dict_of(const PyDeployment& model, std::span<Tensor> outputs, bool as_tensors) {
    nb::dict dict;
    for (std::size_t i = 0; i < outputs.size(); ++i) dict[model.outputs()[i].name] = to_python(std::move(outputs[i]), as_tensors);
    return dict;
}

nb::object dict_of(const TensorMap& outputs, bool as_tensors) {
    nb::dict dict;
    for (const auto& [name, tensor] : outputs) {
        nb::object key = nb::steal(PyUnicode_DecodeUTF8(name.data(), static_cast<Py_ssize_t>(name.size()), "surrogateescape"));
        if (!key.is_valid()) throw nb::python_error();
        dict[key] = to_python(tensor, as_tensors);
    }
    return dict;
}

/// One execution on this thread. `single`: the value itself where the model has one output.
nb::object run(const PyDeployment& self, nb::tuple positional, nb::dict named, std::optional<double> timeout_ms, bool as_tensors, bool single) {
    release_abandoned();
    RunOptions options = run_options(timeout_ms);
    const Inputs inputs(self, positional, named);
    options.outputs_in = inputs.device();
    std::vector<Tensor> outputs(self.outputs().size());
    if (inputs.complete()) {
        nb::gil_scoped_release release;
        self.get()->execute_into(inputs.ordered(), outputs, options);
    } else {
        const TensorMap map = inputs.named();
        nb::gil_scoped_release release;
        const TensorMap result = self.get()->execute(map, options);
        std::size_t i = 0;
        for (const auto& [name, tensor] : result) outputs.at(i++) = tensor;
    }
    if (single && outputs.size() == 1) return to_python(std::move(outputs[0]), as_tensors);
    return dict_of(self, outputs, as_tensors);
}

/// `targets`: per output the array to write, or None.
nb::object run_into(const PyDeployment& self, nb::tuple positional, nb::list targets, std::optional<double> timeout_ms) {
    release_abandoned();
    RunOptions options = run_options(timeout_ms);
    const Inputs inputs(self, positional, nb::handle());
    options.outputs_in = inputs.device();
    std::vector<Tensor> outputs(self.outputs().size());
    for (std::size_t i = 0; i < outputs.size(); ++i) {
        const nb::object target = targets[i];
        if (!target.is_none()) outputs[i] = to_output_tensor(target, self.outputs()[i].type, self.outputs()[i].text);
    }
    if (!inputs.complete()) {
        const TensorMap map = inputs.named();
        nb::gil_scoped_release release;
        (void)self.get()->execute(map, options);  // throws: it says which input is missing or unknown
    }
    {
        nb::gil_scoped_release release;
        self.get()->execute_into(inputs.ordered(), outputs, options);
    }
    nb::dict dict;
    for (std::size_t i = 0; i < outputs.size(); ++i) {
        const nb::object target = targets[i];
        dict[self.outputs()[i].name] = target.is_none() ? to_python(std::move(outputs[i]), false) : target;
    }
    return dict;
}

/// Calls `done(outputs, None)` or `done(None, error)` once, on a worker thread of the library.
void run_async(const PyDeployment& self, nb::tuple positional, std::optional<double> timeout_ms, bool as_tensors, const std::stop_source& stop,
               nb::object done) {
    release_abandoned();
    if (closed()) throw Error(ErrorCode::failed_precondition, ErrorCategory::runtime, "the interpreter is shutting down");
    RunOptions options = run_options(timeout_ms, &stop);
    const Inputs inputs(self, positional, nb::handle());
    options.outputs_in = inputs.device();
    TensorMap map = inputs.named();

    auto callback = keep(std::move(done));
    auto finish = [callback = std::move(callback), as_tensors](RunResult result) mutable {
        if (!closed()) {
            const CompletionScope scope;
            nb::gil_scoped_acquire gil;
            try {
                nb::object outputs = nb::none();
                nb::object error = nb::none();
                if (result.error) {
                    try {
                        std::rethrow_exception(result.error);
                    } catch (const Error& e) {
                        error = make_python_error(e);
                    } catch (const std::exception& e) {
                        error = make_python_error(Error(ErrorCode::internal, ErrorCategory::runtime, e.what()));
                    }
                } else {
                    outputs = dict_of(result.outputs, as_tensors);
                }
                (*callback)(outputs, error);
            } catch (nb::python_error& e) {
                e.discard_as_unraisable("ai_vmm: completion of an execution");
            } catch (const std::exception& e) {
                PyErr_SetString(PyExc_RuntimeError, e.what());
                PyErr_WriteUnraisable(nullptr);
            }
            callback.reset();
            result.outputs = {};
            release_abandoned();
        }
        end_pending();
    };
    begin_pending();
    try {
        nb::gil_scoped_release release;
        self.get()->execute_async(std::move(map), std::move(finish), options);
    } catch (...) {
        end_pending();
        throw;
    }
}

nb::list run_batch(const PyDeployment& self, nb::list items, std::optional<double> timeout_ms, bool as_tensors) {
    release_abandoned();
    const RunOptions options = run_options(timeout_ms);
    std::vector<TensorMap> batch;
    batch.reserve(items.size());
    for (nb::handle item : items) batch.push_back(Inputs(self, nb::make_tuple(item), nb::handle()).named());
    std::vector<TensorMap> results;
    {
        nb::gil_scoped_release release;
        results = self.get()->execute_batch(batch, options);
    }
    nb::list list;
    for (const TensorMap& result : results) list.append(dict_of(result, as_tensors));
    return list;
}

nb::list infos_of(std::span<const TensorInfo> infos) {
    nb::list list;
    for (const TensorInfo& info : infos) list.append(to_dict(info));
    return list;
}

}  // namespace

PyDeployment::PyDeployment(std::shared_ptr<Deployment> deployment)
    : deployment_(std::move(deployment)), inputs_(ports_of(deployment_->inputs())), outputs_(ports_of(deployment_->outputs())) {}

PyDeployment::~PyDeployment() { drop_without_gil(std::move(deployment_)); }

void bind_deployment(nb::module_& module) {
    nb::class_<std::stop_source>(module, "StopSource", "Cancels the execution that it was given to.")
        .def(nb::init<>())
        .def(
            "request_stop",
            [](std::stop_source& self) {
                nb::gil_scoped_release release;
                return self.request_stop();
            },
            "Thread-safe; the first call returns True.");

    nb::class_<PyDeployment>(module, "Deployment", nb::is_weak_referenceable(), "A running model; ai_vmm.Deployment is what users see.")
        .def("inputs", [](const PyDeployment& self) { return infos_of(self.get()->inputs()); })
        .def("outputs", [](const PyDeployment& self) { return infos_of(self.get()->outputs()); })
        .def("run", &run, nb::arg("positional"), nb::arg("named"), nb::arg("timeout_ms").none(), nb::arg("as_tensors"), nb::arg("single"))
        .def("run_into", &run_into, nb::arg("positional"), nb::arg("targets"), nb::arg("timeout_ms").none())
        .def("run_async", &run_async, nb::arg("positional"), nb::arg("timeout_ms").none(), nb::arg("as_tensors"), nb::arg("stop"), nb::arg("done"))
        .def("run_batch", &run_batch, nb::arg("items"), nb::arg("timeout_ms").none(), nb::arg("as_tensors"))
        .def("describe", [](const PyDeployment& self) { return to_dict(without_gil([&] { return self.get()->describe(); })); })
        .def("explain", [](const PyDeployment& self) { return to_dict(without_gil([&] { return self.get()->explain(); })); })
        .def("metrics", [](const PyDeployment& self) { return to_dict(without_gil([&] { return self.get()->metrics(); })); });
}

}  // namespace ai_vmm::python
