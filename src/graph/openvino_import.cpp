// SPDX-License-Identifier: Apache-2.0
#include "graph/openvino_import.hpp"

#include <algorithm>
#include <mutex>
#include <new>
#include <openvino/core/model.hpp>
#include <openvino/frontend/exception.hpp>
#include <openvino/frontend/frontend.hpp>
#include <openvino/frontend/manager.hpp>
#include <openvino/runtime/core.hpp>
#include <openvino/runtime/properties.hpp>
#include <optional>

#include "graph/bytes.hpp"
#include "graph/element_types.hpp"

namespace ai_vmm::graph {
namespace {

constexpr std::size_t kMessageLimit = 600;

ov::frontend::FrontEnd::Ptr load_frontend(std::string_view name) {
    static std::mutex mutex;
    static ov::frontend::FrontEndManager manager;
    const std::lock_guard lock(mutex);
    try {
        auto frontend = manager.load_by_framework(std::string(name));
        if (frontend) return frontend;
    } catch (const std::exception&) {
        // Said below: the reader's library can't be loaded.
    }
    throw Error(ErrorCode::unavailable, ErrorCategory::system, "OpenVINO's reader for '" + std::string(name) + "' models is missing",
                {.expected = "libopenvino_" + std::string(name) + "_frontend beside libopenvino",
                 .found = {},
                 .advice = "install the openvino package again"});
}

/// The process's Core for reading; made at first use.
ov::Core& core() {
    static ov::Core instance = [] {
        ov::Core made;
        made.set_property(ov::enable_mmap(false));
        return made;
    }();
    return instance;
}

TensorInfo info_of(const ov::Output<const ov::Node>& port, std::string name) {
    const ov::PartialShape& shape = port.get_partial_shape();
    TensorInfo info{.name = std::move(name),
                    .type = from_openvino(port.get_element_type()),
                    .shape = {},
                    .rank_known = shape.rank().is_static(),
                    .optional = false};
    if (info.rank_known) {
        for (const ov::Dimension& dimension : shape) info.shape.push_back(dimension.is_static() ? dimension.get_length() : -1);
    }
    return info;
}

/// The smallest of the port's tensor names that the exporter didn't make up; empty if there is none.
std::string tensor_name(const ov::Output<const ov::Node>& port, const std::string& preferred) {
    const auto& names = port.get_names();
    if (names.contains(preferred)) return preferred;
    return names.empty() ? std::string{} : *std::ranges::min_element(names);
}

/// What a port offers to be matched by.
struct Port {
    std::unordered_set<std::string> names;
    TensorInfo info;
    bool taken = false;
};

std::vector<Port> ports_of(const auto& outputs) {
    std::vector<Port> ports;
    for (const ov::Output<const ov::Node>& port : outputs) ports.push_back({.names = port.get_names(), .info = info_of(port, {}), .taken = false});
    return ports;
}

bool compatible(const TensorInfo& file, const TensorInfo& graph) {
    if (!file.rank_known || !graph.rank_known) return true;
    if (file.shape.size() != graph.shape.size()) return false;
    for (std::size_t i = 0; i < file.shape.size(); ++i) {
        if (file.shape[i] >= 0 && graph.shape[i] >= 0 && file.shape[i] != graph.shape[i]) return false;
    }
    return true;
}

/// Index of the port for each info, or -1.
std::vector<int> match(const std::vector<TensorInfo>& infos, std::vector<Port>& ports) {
    std::vector<int> result(infos.size(), -1);
    // TensorFlow calls the first output of a node "name" as well as "name:0".
    for (const std::string_view suffix : {"", ":0"}) {
        for (std::size_t i = 0; i < infos.size(); ++i) {
            const std::string name = infos[i].name + std::string(suffix);
            for (std::size_t p = 0; p < ports.size() && result[i] < 0; ++p) {
                if (ports[p].taken || !ports[p].names.contains(name)) continue;
                result[i] = static_cast<int>(p);
                ports[p].taken = true;
            }
        }
    }
    return result;
}

/// Pairs what match() left over by position, if the numbers agree and no shape contradicts. `required`: which infos count.
bool match_by_position(const std::vector<TensorInfo>& infos, std::vector<Port>& ports, std::vector<int>& indices, bool skip_optional) {
    std::vector<std::size_t> left, open;
    for (std::size_t i = 0; i < infos.size(); ++i) {
        if (indices[i] < 0 && !(skip_optional && infos[i].optional)) left.push_back(i);
    }
    for (std::size_t p = 0; p < ports.size(); ++p) {
        if (!ports[p].taken) open.push_back(p);
    }
    if (left.size() != open.size()) return false;
    for (std::size_t k = 0; k < left.size(); ++k) {
        if (!compatible(infos[left[k]], ports[open[k]].info)) return false;
    }
    for (std::size_t k = 0; k < left.size(); ++k) {
        indices[left[k]] = static_cast<int>(open[k]);
        ports[open[k]].taken = true;
    }
    return true;
}

void fill_open(TensorInfo& info, const TensorInfo& graph, bool is_output) {
    if (info.type == ElementType::undefined) info.type = graph.type;
    if (is_output && !info.rank_known && graph.rank_known) {
        info.rank_known = true;
        info.shape = graph.shape;
    }
}

}  // namespace

std::string clean_message(std::string_view text) {
    std::string result;
    while (!text.empty()) {
        const std::size_t end = text.find('\n');
        std::string line(text.substr(0, end));
        text = end == std::string_view::npos ? std::string_view{} : text.substr(end + 1);
        while (!line.empty() && (line.back() == ' ' || line.back() == '\r' || line.back() == ':')) line.pop_back();
        line.erase(0, line.find_first_not_of(" \t"));
        // Headings "Exception from src/x.cpp:42:", alone on a line or at the end of one, name the vendor's source.
        if (const std::size_t at = line.find("Exception from src/"); at != std::string::npos) {
            const std::size_t colon = line.find(": ", at);
            line.erase(at, colon == std::string::npos ? std::string::npos : colon + 2 - at);
        }
        if (const std::size_t at = line.find("CALLBACK HAS THROWN: "); at != std::string::npos) line.erase(0, at + 21);
        if (line.starts_with("FrontEnd API failed"))
            line.erase(0, std::min(line.size(), line.find(": ") == std::string::npos ? line.size() : line.find(": ") + 2));
        while (!line.empty() && (line.back() == ' ' || line.back() == ':')) line.pop_back();
        if (line.starts_with("To facilitate the conversion")) continue;
        // "Check 'condition' failed at src/core/src/x.cpp:42:" names the vendor's source, which tells a user nothing.
        if (const std::size_t at = line.find(" failed at "); at != std::string::npos) {
            std::size_t stop = line.find(": ", at);
            const std::size_t source = line.find("src/", at);
            if (source != std::string::npos) line.erase(at + 7, stop == std::string::npos ? std::string::npos : stop - at - 7);
        }
        // Headings of the conversion log; what was refused stands in the lines between.
        if (line == "Check 'false' failed" || line == "Summary" || line.starts_with("Model wasn't fully converted")) continue;
        if (line.starts_with("-- ")) line.erase(0, 3);
        if (line.ends_with(" with a message")) line.erase(line.size() - 15).append(":");
        if (line.empty() || line.find("developers guide") != std::string::npos || line.starts_with("Stack trace")) continue;
        if (!result.empty()) result += result.ends_with('.') || result.ends_with(':') ? " " : "; ";
        result += line;
    }
    if (result.empty()) result = "no reason given";
    return printable(result, kMessageLimit);
}

std::string current_refusal() {
    try {
        throw;
    } catch (const Error&) {
        throw;
    } catch (const std::bad_alloc&) {
        throw Error(ErrorCode::resource_exhausted, ErrorCategory::compilation, "not enough memory to read the model");
    } catch (const std::exception& error) {
        return clean_message(error.what());
    } catch (...) {
        return "OpenVINO's reader failed without a reason";
    }
}

Imported import_with(std::string_view frontend_name, const ov::AnyVector& arguments, const std::vector<std::shared_ptr<ov::Extension>>& extensions) {
    const auto frontend = load_frontend(frontend_name);
    try {
        for (const auto& extension : extensions) frontend->add_extension(extension);
        const auto input = frontend->load(arguments);
        if (!input) return {.graph = nullptr, .refusal = "OpenVINO's reader doesn't recognise the file"};
        auto graph = frontend->convert(input);
        if (!graph) return {.graph = nullptr, .refusal = "OpenVINO's reader gave no graph"};
        return {.graph = std::move(graph), .refusal = {}};
    } catch (...) {
        return {.graph = nullptr, .refusal = current_refusal()};
    }
}

Imported import_ir(const std::string& xml, const ov::Tensor& weights) {
    try {
        return {.graph = core().read_model(xml, weights && weights.get_size() > 0 ? weights : ov::Tensor()), .refusal = {}};
    } catch (...) {
        return {.graph = nullptr, .refusal = current_refusal()};
    }
}

Error not_convertible(const std::string& subject, const std::string& refusal, std::string advice) {
    // As the readers of TensorFlow's and Paddle's weights say it.
    if (refusal.find("exceed data size") != std::string::npos || refusal.find("wasn't successfully read") != std::string::npos) {
        return Error(ErrorCode::data_loss, ErrorCategory::input, "the weights of " + subject + " are truncated or damaged",
                     {.expected = "the files as they were exported", .found = refusal, .advice = "get the files of the weights again"});
    }
    return Error(ErrorCode::unimplemented, ErrorCategory::compilation, "OpenVINO can't convert " + subject,
                 {.expected = {}, .found = refusal, .advice = std::move(advice)});
}

void describe_graph(backend::Model& model) {
    const auto& graph = *model.graph;
    const auto add = [](std::vector<TensorInfo>& infos, std::vector<int>& indices, const ov::Output<const ov::Node>& port, std::string name) {
        if (std::ranges::any_of(infos, [&](const TensorInfo& info) { return info.name == name; })) name += "." + std::to_string(infos.size());
        indices.push_back(static_cast<int>(infos.size()));
        infos.push_back(info_of(port, std::move(name)));
    };
    for (const auto& port : graph.inputs()) {
        const std::string node = port.get_node()->get_friendly_name();
        const std::string name = tensor_name(port, node);
        add(model.inputs, model.graph_inputs, port, name.empty() ? node : name);
    }
    for (const auto& port : graph.outputs()) {
        const ov::Output<ov::Node> source = port.get_node()->input_value(0);
        std::string node = source.get_node()->get_friendly_name();
        if (source.get_node()->get_output_size() > 1) node += "." + std::to_string(source.get_index());
        const std::string name = tensor_name(port, node);
        add(model.outputs, model.graph_outputs, port, name.empty() ? node : name);
    }
}

void map_ports(backend::Model& model) {
    const auto refuse = [&](const std::string& why) {
        model.graph = nullptr;
        model.graph_refusal = why;
        model.graph_inputs.assign(model.inputs.size(), -1);
        model.graph_outputs.assign(model.outputs.size(), -1);
    };
    const auto& graph = *model.graph;
    std::vector<Port> inputs = ports_of(graph.inputs());
    std::vector<Port> outputs = ports_of(graph.outputs());
    model.graph_inputs = match(model.inputs, inputs);
    model.graph_outputs = match(model.outputs, outputs);

    const auto untaken = [](const std::vector<Port>& ports) { return std::ranges::any_of(ports, [](const Port& port) { return !port.taken; }); };
    if (untaken(inputs) && !match_by_position(model.inputs, inputs, model.graph_inputs, true)) {
        return refuse("OpenVINO's reader renames the model's inputs so that they can't be told apart");
    }
    // An output that shares its tensor with another one may have been merged with it.
    for (std::size_t i = 0; i < model.outputs.size(); ++i) {
        for (std::size_t p = 0; p < outputs.size() && model.graph_outputs[i] < 0; ++p) {
            if (outputs[p].names.contains(model.outputs[i].name)) model.graph_outputs[i] = static_cast<int>(p);
        }
    }
    const bool missing = std::ranges::find(model.graph_outputs, -1) != model.graph_outputs.end();
    if (missing && !match_by_position(model.outputs, outputs, model.graph_outputs, false)) {
        return refuse("OpenVINO's reader renames or drops outputs of the model so that they can't be told apart");
    }
    for (std::size_t i = 0; i < model.inputs.size(); ++i) {
        if (model.graph_inputs[i] >= 0) fill_open(model.inputs[i], inputs[static_cast<std::size_t>(model.graph_inputs[i])].info, false);
    }
    for (std::size_t i = 0; i < model.outputs.size(); ++i)
        fill_open(model.outputs[i], outputs[static_cast<std::size_t>(model.graph_outputs[i])].info, true);
}

}  // namespace ai_vmm::graph
