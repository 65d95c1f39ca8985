// SPDX-License-Identifier: Apache-2.0
#include "suite.hpp"

#include <dlfcn.h>

#include <algorithm>
#include <atomic>

#include "openvino/op/parameter.hpp"

namespace ai_vmm::conformance {
namespace {

/// OpenVINO's name of a type is ours, but for "boolean" being the same too and types that only one has.
ElementType type_of(const ov::element::Type& type) { return element_type_from_string(type.get_type_name()).value_or(ElementType::undefined); }

TensorInfo describe(std::string name, const ov::element::Type& type, const ov::PartialShape& shape) {
    TensorInfo info{.name = std::move(name), .type = type_of(type)};
    info.rank_known = shape.rank().is_static();
    if (info.rank_known) {
        for (const auto& dimension : shape) info.shape.push_back(dimension.is_static() ? dimension.get_length() : -1);
    }
    return info;
}

[[noreturn]] void throw_unavailable(std::string message) { throw Error(ErrorCode::unavailable, ErrorCategory::system, std::move(message)); }

}  // namespace

bool Subject::runs(std::string_view precision) const { return std::ranges::find(route().precisions, precision) != route().precisions.end(); }

backend::CompileConfig Subject::config() const { return {.device = route().backend_device}; }

Subject load_subject(const std::filesystem::path& library, const std::string& device) {
    void* handle = dlopen(library.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (handle == nullptr) throw_unavailable(std::string("the library can't be loaded: ") + dlerror());
    const auto function = reinterpret_cast<backend::EntryFunction>(dlsym(handle, backend::kEntrySymbol));
    if (function == nullptr) throw_unavailable(library.string() + " exports no " + backend::kEntrySymbol);
    const backend::EntryPoint* entry = function();
    if (entry == nullptr || entry->interface_version != backend::kInterfaceVersion) throw_unavailable("the backend has another interface version");
    if (std::string_view(entry->abi) != AI_VMM_BACKEND_ABI) throw_unavailable(std::string("the backend has another ABI: ") + entry->abi);

    Subject subject{.library = library, .backend = entry->create()};  // never destroyed: engines keep threads
    std::string names;
    for (DeviceInfo& found : subject.backend->enumerate()) {
        if (found.routes.empty()) throw_unavailable("a device without a route: " + found.name);
        const std::string& name = found.routes.front().backend_device;
        names += (names.empty() ? "" : ", ") + name;
        if (!subject.device.routes.empty() || (!device.empty() && device != name)) continue;
        subject.device = std::move(found);
    }
    if (subject.device.routes.empty()) throw_unavailable("no device '" + device + "'; there are: " + names);
    const auto& properties = subject.route().properties;
    subject.computes = std::ranges::find(properties, "COMPUTES=NO") == properties.end();
    return subject;
}

void require(bool condition, const std::string& message) {
    if (!condition) throw Failure(message);
}

backend::Model make_model(std::shared_ptr<const ov::Model> graph) {
    static std::atomic<int> counter = 0;
    backend::Model model;
    for (const auto& input : graph->inputs()) {
        model.graph_inputs.push_back(static_cast<int>(model.inputs.size()));
        model.inputs.push_back(describe("in" + std::to_string(model.inputs.size()), input.get_element_type(), input.get_partial_shape()));
    }
    for (const auto& output : graph->outputs()) {
        model.graph_outputs.push_back(static_cast<int>(model.outputs.size()));
        model.outputs.push_back(describe("out" + std::to_string(model.outputs.size()), output.get_element_type(), output.get_partial_shape()));
    }
    model.name = graph->get_friendly_name();
    model.content_hash = "conformance-" + std::to_string(++counter);
    model.graph = std::move(graph);
    return model;
}

std::unique_ptr<backend::Executable> compile_supported(const Subject& subject, const backend::Model& model, const backend::CompileConfig& config) {
    const backend::Support support = subject.backend->supports(model, config);
    if (!support.supported) {
        require(!support.reason.empty(), "supports() refuses without a reason");
        require_error([&] { static_cast<void>(subject.backend->compile(model, config)); }, {ErrorCode::unimplemented, ErrorCode::invalid_argument},
                      "compile() of what supports() refuses (" + support.reason + ")");
        throw Refused("not supported: " + support.reason);
    }
    auto executable = subject.backend->compile(model, config);
    require(executable != nullptr, "compile() returned nothing");
    return executable;
}

Error require_error(const std::function<void()>& action, const std::vector<ErrorCode>& codes, const std::string& what) {
    try {
        action();
    } catch (const Error& error) {
        const bool known = codes.empty() || std::ranges::find(codes, error.code()) != codes.end();
        require(known, what + " gave the code " + std::string(to_string(error.code())) + ": " + error.what());
        require(!error.message().empty(), what + " gave an error without a message");
        return error;
    } catch (const std::exception& error) {
        throw Failure(what + " let a foreign exception out: " + error.what());
    }
    throw Failure(what + " was no error");
}

void run_case(const Subject& subject, const OpCase& test) {
    ov::ParameterVector parameters;
    ov::OutputVector inputs;
    std::vector<Tensor> tensors;
    std::vector<Array> arrays;
    for (const Feed& feed : test.feeds) {
        const ov::element::Type type{std::string(to_string(feed.type))};
        const ov::PartialShape shape =
            feed.declared == ov::PartialShape{} ? ov::PartialShape(ov::Shape(feed.values.shape.begin(), feed.values.shape.end())) : feed.declared;
        parameters.push_back(std::make_shared<ov::op::v0::Parameter>(type, shape));
        inputs.push_back(parameters.back());
        tensors.push_back(to_tensor(feed.values, feed.type));
        arrays.push_back(to_array(tensors.back()));
    }
    const auto model = make_model(std::make_shared<ov::Model>(test.graph(inputs), parameters, test.name));
    backend::CompileConfig config = subject.config();
    config.precision = test.precision;
    const auto executable = compile_supported(subject, model, config);
    const auto request = executable->create_request();
    std::vector<Tensor> outputs(model.outputs.size());

    const auto check = [&](const std::string& when) {
        const std::vector<Array> expected = test.expected(arrays);
        require(expected.size() == outputs.size(), "the test expects another number of outputs");
        for (std::size_t i = 0; i < outputs.size(); ++i) {
            const std::string where = when + ", output " + std::to_string(i) + ": ";
            const ElementType type = model.outputs[i].type;
            require(outputs[i].type() == type,
                    where + "type " + std::string(to_string(outputs[i].type())) + " instead of " + std::string(to_string(type)));
            if (!subject.computes) continue;
            const ElementType accuracy = test.precision == Precision::bf16  ? ElementType::bf16
                                         : test.precision == Precision::f16 ? ElementType::f16
                                                                            : type;
            Tolerance tolerance = default_tolerance(accuracy);
            tolerance.absolute *= test.slack;
            tolerance.relative *= test.slack;
            if (const auto text = difference(outputs[i], expected[i], tolerance)) throw Failure(where + *text);
        }
    };
    request->run(tensors, outputs);
    check("first run");
    for (std::size_t i = 0; i < tensors.size(); ++i) {
        const std::optional<std::string> change = difference(tensors[i], arrays[i], {});
        require(!change, "the run changed input " + std::to_string(i) + ": " + change.value_or(""));
    }
    request->run(tensors, outputs);
    check("second run");
}

void add_case(Tests& tests, std::string suite, OpCase test) {
    std::string name = test.name;
    tests.push_back({std::move(suite), std::move(name), [test = std::move(test)](const Subject& subject) { run_case(subject, test); }});
}

}  // namespace ai_vmm::conformance
