// SPDX-License-Identifier: Apache-2.0
/// What backend.hpp promises beside values: devices, refusals, state, blobs.
#include <algorithm>
#include <set>
#include <sstream>

#include "cases.hpp"
#include "models.hpp"
#include "openvino/opsets/opset15.hpp"
#include "reference.hpp"

namespace ai_vmm::conformance {
namespace {

namespace op = ov::opset15;

void names(const Subject& subject) {
    require(!subject.backend->name().empty(), "name() is empty");
    require(!subject.backend->version().empty(), "version() is empty");
    require(!subject.backend->engine_version().empty(), "engine_version() is empty");
}

void devices(const Subject& subject) {
    const std::vector<DeviceInfo> found = subject.backend->enumerate();
    require(!found.empty(), "no device");
    std::set<std::string> seen;
    for (const DeviceInfo& device : found) {
        require(device.id.empty(), "a backend gives no ids: " + device.id);
        require(!device.name.empty(), "a device without a name");
        require(device.routes.size() == 1, device.name + " has " + std::to_string(device.routes.size()) + " routes instead of one");
        const DeviceRoute& route = device.routes.front();
        require(route.backend == subject.backend->name(), device.name + " says that its backend is " + route.backend);
        require(!route.backend_device.empty() && seen.insert(route.backend_device).second, "device names must differ: " + route.backend_device);
        require(route.engine_version == subject.backend->engine_version(), device.name + " has another engine version");
        require(!route.precisions.empty(), device.name + " computes in no precision");
        require(device.memory_total_bytes >= 0 && device.memory_free_bytes >= 0, device.name + " has negative memory");
        for (const std::string& property : route.properties) require(property.find('=') != std::string::npos, "not NAME=VALUE: " + property);
    }
    require(subject.backend->enumerate().size() == found.size(), "a second enumerate() finds other devices");
}

void no_graph(const Subject& subject) {
    backend::Model model;
    model.graph_refusal = "the operator Frobnicate is not known";
    model.name = "refused";
    const backend::Support support = subject.backend->supports(model, subject.config());
    require(!support.supported, "a model without graph, file or bytes is supported");
    require(!support.reason.empty(), "supports() refuses without a reason");
    require_error([&] { static_cast<void>(subject.backend->compile(model, subject.config())); }, {ErrorCode::unimplemented},
                  "compile() without a graph");
}

void unknown_device(const Subject& subject) {
    const backend::Model model = affine_model({4});
    for (const std::string device : {"NO_SUCH_DEVICE", "", "CPU:99", "AUTO", "../../etc/passwd"}) {
        backend::CompileConfig config = subject.config();
        config.device = device;
        require(!subject.backend->supports(model, config).supported, "device '" + device + "' is supported");
        require_error([&] { static_cast<void>(subject.backend->compile(model, config)); }, {ErrorCode::unimplemented, ErrorCode::invalid_argument},
                      "compile() for device '" + device + "'");
    }
}

void precisions(const Subject& subject) {
    const backend::Model model = affine_model({4});
    static_cast<void>(start(subject, model));  // or the test is skipped: the backend takes no graphs
    for (const Precision precision : {Precision::f32, Precision::bf16, Precision::f16, Precision::automatic}) {
        backend::CompileConfig config = subject.config();
        config.precision = precision;
        const std::string name(to_string(precision));
        if (subject.runs(name)) {
            require(subject.backend->compile(model, config) != nullptr, "compile() in " + name);
        } else {
            require_error([&] { static_cast<void>(subject.backend->compile(model, config)); },
                          {ErrorCode::unimplemented, ErrorCode::invalid_argument}, "compile() in " + name + ", which the device doesn't list,");
        }
    }
}

void threads_and_streams(const Subject& subject) {
    const backend::Model model = affine_model({4});
    static_cast<void>(start(subject, model));  // or the test is skipped: the backend takes no graphs
    for (const auto& [threads, streams] : {std::pair{0, 1}, {1, 0}, {-1, 1}}) {
        backend::CompileConfig config = subject.config();
        config.threads = threads;
        config.streams = streams;
        require_error([&] { static_cast<void>(subject.backend->compile(model, config)); }, {ErrorCode::invalid_argument, ErrorCode::unimplemented},
                      "compile() with " + std::to_string(threads) + " threads and " + std::to_string(streams) + " streams");
    }
    backend::CompileConfig config = subject.config();
    config.throughput = true;
    const auto executable = subject.backend->compile(model, config);
    std::vector<Tensor> outputs(1);
    const Array x = spread({4}, -1, 1);
    executable->create_request()->run(std::vector{f32(x)}, outputs);
    require_f32(subject, outputs[0], affine(x), "tuned for throughput");
}

void unknown_operator(const Subject& subject) {
    if (!subject.computes) throw Skipped("the backend runs any model");
    static_cast<void>(start(subject, affine_model({4})));  // or the test is skipped: the backend takes no graphs
    const backend::Model model = unknown_operator_model();
    const backend::Support support = subject.backend->supports(model, subject.config());
    require(!support.supported, "an operator that nobody knows is supported");
    require(support.reason.find("UnknownToEveryEngine") != std::string::npos, "the reason doesn't name the operator: " + support.reason);
    require_error([&] { static_cast<void>(subject.backend->compile(model, subject.config())); }, {ErrorCode::unimplemented},
                  "compile() of an unknown operator");
    static_cast<void>(start(subject, affine_model({4})));  // and the backend goes on
}

void graph_unchanged(const Subject& subject) {
    const backend::Model model = affine_model({-1, 3});
    const auto print = [&] {
        std::string text;
        for (const auto& node : model.graph->get_ordered_ops()) {
            text += node->get_friendly_name() + ":" + node->get_type_name() + ":" + std::to_string(node->get_output_size()) + ";";
        }
        return text;
    };
    const std::string before = print();
    static_cast<void>(compile_supported(subject, model, subject.config()));
    static_cast<void>(compile_supported(subject, model, subject.config()));
    require(print() == before, "the shared graph was changed");
}

void description(const Subject& subject) {
    const Running running = start(subject, affine_model({4}));
    require(running.executable->memory_bytes() >= 0, "memory_bytes() is negative");
    for (const auto& [name, value] : running.executable->properties()) require(!name.empty(), "a property without a name: " + value);
}

void state_starts_afresh(const Subject& subject) {
    const Running running = start(subject, stateful_model());
    for (const double value : {3.0, 5.0, 3.0}) {
        const auto outputs = running.run({f32(Array({1}, {value}))});
        require_f32(subject, outputs[0], Array({1}, {value}), "a run after others");
    }
}

void inputs_permuted(const Subject& subject) {
    const auto a = std::make_shared<op::Parameter>(ov::element::f32, ov::PartialShape{3});
    const auto b = std::make_shared<op::Parameter>(ov::element::f32, ov::PartialShape{3});
    const auto difference_of = std::make_shared<op::Subtract>(a, b);
    const auto product = std::make_shared<op::Multiply>(a, b);
    auto model = make_model(std::make_shared<ov::Model>(ov::OutputVector{difference_of, product}, ov::ParameterVector{a, b}));
    // The file lists the second graph input first, one that the reader dropped, then the first; and its outputs the other way round.
    model.inputs = {model.inputs[1], {.name = "dropped", .type = ElementType::i64, .shape = {2, 2}}, model.inputs[0]};
    model.graph_inputs = {1, -1, 0};
    std::swap(model.outputs[0], model.outputs[1]);
    model.graph_outputs = {1, 0};
    const Running running = start(subject, model);
    const Array first = spread({3}, 1, 2);
    const Array second = spread({3}, 5, 6, 2);
    const auto outputs = running.run({f32(second), Tensor(ElementType::i64, {2, 2}), f32(first)});
    require_f32(subject, outputs[0], reference::combine(first, second, std::multiplies<>()), "output 0");
    require_f32(subject, outputs[1], reference::combine(first, second, std::minus<>()), "output 1");
    const auto again = running.run({f32(second), Tensor(), f32(first)});
    require_f32(subject, again[1], reference::combine(first, second, std::minus<>()), "with the dropped input left out, output 1");
}

void round_trip(const Subject& subject) {
    int exported = 0;
    for (const bool dynamic : {false, true}) {
        backend::Model model = affine_model(dynamic ? ov::PartialShape{-1, 5} : ov::PartialShape{2, 5});
        backend::CompileConfig config = subject.config();
        if (dynamic) config.typical_shapes = {{2, 5}};
        const auto executable = compile_supported(subject, model, config);
        std::ostringstream out;
        try {
            executable->export_blob(out);
        } catch (const Error& error) {
            require(error.code() == ErrorCode::unimplemented, std::string("export_blob() failed: ") + error.what());
            continue;
        }
        ++exported;
        const std::string blob = out.str();
        require(!blob.empty(), "the blob is empty");
        // As after a restart: the graph was never read, but can be.
        const auto whole = std::make_shared<const backend::Model>(model);
        model.read_again = [whole] { return whole; };
        model.graph = nullptr;
        model.graph_inputs.clear();
        model.graph_outputs.clear();
        // A copy that goes away: nothing may point into the caller's bytes.
        auto bytes = std::make_unique<std::string>(blob);
        const auto imported = subject.backend->import_blob(std::as_bytes(std::span(*bytes)), model, config);
        std::ranges::fill(*bytes, '\x5a');
        bytes.reset();
        const auto request = imported->create_request();
        for (const std::int64_t rows : dynamic ? std::vector<std::int64_t>{2, 3, 2, 1} : std::vector<std::int64_t>{2}) {
            const Array x = spread({rows, 5}, -1, 1);
            std::vector<Tensor> outputs(1);
            request->run(std::vector{f32(x)}, outputs);
            require_f32(subject, outputs[0], affine(x), "the imported model, " + std::to_string(rows) + " rows");
        }
        std::ostringstream again;
        try {
            imported->export_blob(again);
            require(!again.str().empty(), "what was imported is exported as nothing");
        } catch (const Error& error) {
            require(error.code() == ErrorCode::unimplemented, std::string("export_blob() of what was imported: ") + error.what());
        }
    }
    if (exported == 0) throw Skipped("exports nothing");
}

void broken_blobs(const Subject& subject) {
    const Running running = start(subject, affine_model({2, 5}));
    std::string blob;
    try {
        std::ostringstream out;
        running.executable->export_blob(out);
        blob = out.str();
    } catch (const Error&) {  // importing must still refuse garbage
    }
    std::vector<std::string> cases{"", "x", std::string(64, '\0'), std::string(4096, 'A')};
    if (blob.size() > 1) {
        cases.push_back(blob.substr(0, blob.size() / 2));
        cases.push_back(blob.substr(0, blob.size() - 1).substr(0, 12));
        cases.push_back("garbage" + blob);
    }
    for (const std::string& bytes : cases) {
        require_error([&] { static_cast<void>(subject.backend->import_blob(std::as_bytes(std::span(bytes)), running.model, subject.config())); }, {},
                      "import_blob() of " + std::to_string(bytes.size()) + " broken bytes");
    }
    require_f32(subject, running.run({f32(Array({2, 5}, 1.0))})[0], Array({2, 5}, 3.0), "a run after broken imports");
}

void blob_of_other_model(const Subject& subject) {
    const Running running = start(subject, affine_model({2, 5}));
    std::ostringstream out;
    try {
        running.executable->export_blob(out);
    } catch (const Error&) {
        throw Skipped("exports nothing");
    }
    if (!subject.computes) throw Skipped("the backend's blobs hold nothing");
    const std::string blob = out.str();
    backend::Model other = running.model;
    other.inputs.push_back(other.inputs.front());
    other.graph_inputs.push_back(0);
    // The cache keeps this from happening; if it does all the same, the answer is an Error or right.
    std::vector<Tensor> outputs(1);
    const Array x = spread({2, 5}, -1, 1);
    try {
        const auto imported = subject.backend->import_blob(std::as_bytes(std::span(blob)), other, subject.config());
        imported->create_request()->run(std::vector{f32(x), f32(x)}, outputs);
    } catch (const Error&) {
        return;
    }
    require_f32(subject, outputs[0], affine(x), "a blob run with an input too many");
}

}  // namespace

void add_interface_tests(Tests& tests) {
    tests.push_back({"interface", "names", names});
    tests.push_back({"interface", "devices", devices});
    tests.push_back({"interface", "no_graph", no_graph});
    tests.push_back({"interface", "unknown_device", unknown_device});
    tests.push_back({"interface", "precisions", precisions});
    tests.push_back({"interface", "threads_and_streams", threads_and_streams});
    tests.push_back({"interface", "unknown_operator", unknown_operator});
    tests.push_back({"interface", "graph_unchanged", graph_unchanged});
    tests.push_back({"interface", "description", description});
    tests.push_back({"interface", "state_starts_afresh", state_starts_afresh});
    tests.push_back({"interface", "inputs_permuted", inputs_permuted});
    tests.push_back({"blob", "round_trip", round_trip});
    tests.push_back({"blob", "broken", broken_blobs});
    tests.push_back({"blob", "of_other_model", blob_of_other_model});
}

}  // namespace ai_vmm::conformance
