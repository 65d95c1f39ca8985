// SPDX-License-Identifier: Apache-2.0
#include "executable.hpp"

#include <algorithm>
#include <ostream>

#include "base/file.hpp"
#include "blob.hpp"
#include "request.hpp"
#include "types.hpp"

namespace ai_vmm::ort {
namespace {

const Port& find_port(const std::vector<Port>& first, const std::vector<Port>* second, const std::string& name, std::string_view what) {
    for (const Port& port : first) {
        if (port.name == name) return port;
    }
    if (second != nullptr) {
        for (const Port& port : *second) {
            if (port.name == name) return port;
        }
    }
    throw Error(ErrorCode::invalid_argument, ErrorCategory::compilation,
                "the session of ONNX Runtime has no " + std::string(what) + " '" + name + "'");
}

void expect_type(const Port& port, const TensorInfo& info, std::string_view what) {
    if (port.kind != "tensor") {
        throw Error(ErrorCode::unimplemented, ErrorCategory::compilation, std::string(what) + " '" + info.name + "' is a " + port.kind,
                    {.expected = "tensors only", .found = port.kind, .advice = {}});
    }
    if (port.type != info.type || !to_ort(info.type)) {
        throw Error(ErrorCode::unimplemented, ErrorCategory::compilation, std::string(what) + " '" + info.name + "' has another type in ONNX Runtime",
                    {.expected = std::string(to_string(info.type)), .found = std::string(to_string(port.type)), .advice = {}});
    }
}

}  // namespace

OrtExecutable::OrtExecutable(std::vector<Owner<OrtSession>> sessions, const backend::Model& model, Binding binding, backend::CompileConfig config,
                             std::size_t bytes, std::string source, Reload reload)
    : config_(std::move(config)),
      memory_bytes_(static_cast<std::int64_t>(bytes * sessions.size())),
      source_(std::move(source)),
      reload_(std::move(reload)) {
    const OrtApi& api = *Library::get().api;
    const Ports ports = ports_of(sessions.front().get());
    for (std::size_t i = 0; i < model.inputs.size(); ++i) {
        if (binding.input_names[i].empty()) continue;
        expect_type(find_port(ports.inputs, &ports.defaults, binding.input_names[i], "input"), model.inputs[i], "input");
    }
    for (std::size_t i = 0; i < model.outputs.size(); ++i) {
        expect_type(find_port(ports.outputs, nullptr, binding.output_names[i], "output"), model.outputs[i], "output");
    }
    for (const Port& port : ports.inputs) {
        if (std::ranges::find(binding.input_names, port.name) == binding.input_names.end()) {
            throw Error(ErrorCode::unimplemented, ErrorCategory::compilation,
                        "input '" + port.name + "' (" + port.kind + ") is not among the model's inputs");
        }
    }
    // What the engine packs or keeps between nodes is its secret.
    for (const auto* infos : {&model.inputs, &model.outputs}) {
        for (const TensorInfo& info : *infos) {
            if (info.rank_known && !info.is_dynamic()) memory_bytes_ += static_cast<std::int64_t>(size_bytes(info.type, info.shape));
        }
    }
    std::vector<std::size_t> same_as;
    for (const std::string& name : binding.output_names) {
        same_as.push_back(static_cast<std::size_t>(std::ranges::find(binding.output_names, name) - binding.output_names.begin()));
    }
    for (Owner<OrtSession>& session : sessions) {
        OrtMemoryInfo* memory = nullptr;
        check(api.CreateCpuMemoryInfo(OrtDeviceAllocator, OrtMemTypeDefault, &memory), Phase::compile);
        auto shared = std::make_shared<SharedSession>();
        shared->memory.reset(memory);
        shared->bindable = config_.device == "CPU";
        shared->session = std::move(session);
        shared->inputs = model.inputs;
        shared->outputs = model.outputs;
        shared->binding = binding;
        shared->same_as = same_as;
        shared_.push_back(std::move(shared));
    }
}

std::unique_ptr<backend::Request> OrtExecutable::create_request() {
    return std::make_unique<OrtRequest>(shared_[requests_.fetch_add(1, std::memory_order_relaxed) % shared_.size()]);
}

std::vector<std::pair<std::string, std::string>> OrtExecutable::properties() const {
    return {{"ENGINE_LIBRARY", Library::get().path},
            {"DEVICE", config_.device},
            {"SOURCE", source_},
            {"SESSIONS", std::to_string(shared_.size())},
            {"INTRA_OP_THREADS", std::to_string(intra_op_threads(config_))},
            {"INTER_OP_THREADS", "1"},
            {"EXECUTION_MODE", "SEQUENTIAL"},
            {"GRAPH_OPTIMIZATION", "ALL"},
            {"SPINNING", spinning(config_) ? "YES" : "NO"},
            {"MEMORY", config_.device == "CPU" && Library::get().pool_allocator != nullptr ? "POOL" : "ARENA"}};
}

void OrtExecutable::export_blob(std::ostream& out) const {
    const SharedSession& shared = *shared_.front();
    if (!reload_) throw Error(ErrorCode::unimplemented, ErrorCategory::compilation, "what was imported is not exported again");
    if (config_.device != "CPU") {
        throw Error(ErrorCode::unimplemented, ErrorCategory::compilation, "models of ONNX Runtime are exported for the CPU only");
    }
    const ModelBytes bytes = reload_();
    // Flatbuffers, which the format is made of, end at 2 GiB.
    if (bytes.size_bytes() > std::size_t{2000} << 20) {
        throw Error(ErrorCode::unimplemented, ErrorCategory::compilation, "models above 2 GB can't be exported in ORT format",
                    {.expected = "at most 2000 MiB", .found = std::to_string(bytes.size_bytes() >> 20) + " MiB", .advice = {}});
    }
    const base::TemporaryDirectory folder;
    const std::filesystem::path file = folder.path() / "model.ort";
    (void)make_session(bytes, config_, {.prepared = false, .save_prepared = file});
    write_blob(out, {.binding = shared.binding, .model = std::make_shared<const std::string>(base::read_file(file))});
}

}  // namespace ai_vmm::ort
