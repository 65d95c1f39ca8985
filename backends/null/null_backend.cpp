// SPDX-License-Identifier: Apache-2.0
/// The smallest complete backend: a template to clone, and a place to inject faults.
///
/// It has one device, takes every model and answers zeros, so it needs no engine. Copy this file, then replace, from top to bottom:
/// what a compiled model is (Executable), how one execution happens (Request), and which devices there are (Backend). Rules that hold
/// for every backend are in docs/guide/write-a-backend.md and include/ai_vmm/backend/backend.hpp.
///
/// Faults come from the environment variable AI_VMM_NULL_FAULT, or from the device name after a question mark ("null?run:3"), which
/// wins. The variable is read at each call of the backend, so a test may change it. The language is in faults.hpp.
/// AI_VMM_NULL_REFUSES names operations (OpenVINO's types, separated by commas) that this backend then does not run, so that models are cut.
/// AI_VMM_NULL_TRACE names a file to which every compile() and import_blob() adds a line, for tests that count them.
#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <memory>
#include <mutex>
#include <ostream>
#include <span>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "ai_vmm/backend/backend.hpp"
#include "faults.hpp"
#include "openvino/core/model.hpp"

namespace ai_vmm::null_backend {

using backend::CompileConfig;
using backend::Model;
using backend::NodeSupport;
using backend::Support;

constexpr std::string_view kDevice = "null";
constexpr std::string_view kVersion = "1.0 AIVMM-NULL1";
constexpr std::string_view kBlobFormat = kVersion.substr(4);  // first bytes of a blob; part of the version, which cached blobs are filed under

/// The faults in force for a call about `device`.
Faults current_faults(std::string_view device) {
    if (const std::size_t at = device.find('?'); at != std::string_view::npos) return Faults(device.substr(at + 1));
    const char* text = std::getenv("AI_VMM_NULL_FAULT");
    return text == nullptr ? Faults{} : Faults(text);
}

/// The nodes of a graph that are refused.
NodeSupport refused_nodes(const Model& model) {
    NodeSupport support;
    const char* text = std::getenv("AI_VMM_NULL_REFUSES");
    if (text == nullptr || model.graph == nullptr) return support;
    const std::string list = "," + std::string(text) + ",";
    for (const auto& node : model.graph->get_ordered_ops()) {
        const std::string type = node->get_type_name();
        if (list.find("," + type + ",") != std::string::npos)
            support.refusals.push_back({node->get_friendly_name(), "no " + type + " on this device"});
    }
    return support;
}

/// "compile null f32 threads=2 streams=1 typical=[1,1,8,8]" into the trace.
void trace(std::string_view what, const CompileConfig& config) {
    const char* path = std::getenv("AI_VMM_NULL_TRACE");
    if (path == nullptr) return;
    std::ostringstream line;
    line << what << ' ' << config.device << ' ' << to_string(config.precision) << " threads=" << config.threads << " streams=" << config.streams;
    for (const Shape& shape : config.typical_shapes) line << " typical=" << to_string(shape);
    line << '\n';
    std::ofstream(path, std::ios::app) << line.str();
}

/// What the requests of one executable share.
struct Compiled {
    std::vector<TensorInfo> inputs;
    std::vector<TensorInfo> outputs;
    Faults faults;
    bool from_cache = false;  ///< what compiling takes was found instead of worked out
    std::atomic<int> requests = 0;
    std::atomic<int> runs = 0;
};

/// One execution slot. Only cancel() may be called while run() is under way.
class Request final : public backend::Request {
public:
    explicit Request(std::shared_ptr<Compiled> compiled) : compiled_(std::move(compiled)) {}

    void run(std::span<const Tensor> inputs, std::span<Tensor> outputs) override {
        const int call = ++compiled_->runs;
        if (const Fault* fault = compiled_->faults.at("stall", call)) stall(fault->duration);
        if (compiled_->faults.at("run", call) != nullptr) {
            throw Error(ErrorCode::internal, ErrorCategory::runtime, "injected fault: run " + std::to_string(call));
        }
        const int fill = compiled_->faults.at("garbage", call) != nullptr ? 0x55 : 0;
        for (std::size_t i = 0; i < outputs.size(); ++i) {
            const TensorInfo& info = compiled_->outputs[i];
            // A given output of the right type and shape is written in place, any other is replaced by one that owns its memory.
            if (outputs[i].type() != info.type || !matches(outputs[i].shape(), info)) outputs[i] = Tensor(info.type, guess_shape(info, inputs));
            if (info.type == ElementType::string) {
                std::ranges::fill(outputs[i].as<std::string>(), std::string{});
            } else if (outputs[i].size_bytes() > 0) {
                std::memset(outputs[i].data(), fill, outputs[i].size_bytes());
            }
        }
    }

    // Without effect when idle: run() clears what it finds. noexcept, so it must not throw whatever happens.
    void cancel() noexcept override {
        const std::scoped_lock lock(mutex_);
        cancelled_ = running_;
        wake_.notify_all();
    }

private:
    /// Hangs as a broken device does, but listens to cancel().
    void stall(std::chrono::milliseconds duration) {
        std::unique_lock lock(mutex_);
        running_ = true;
        cancelled_ = false;
        wake_.wait_for(lock, duration, [this] { return cancelled_; });
        running_ = false;
        if (std::exchange(cancelled_, false)) throw Error(ErrorCode::cancelled, ErrorCategory::runtime, "the execution was cancelled");
    }

    static bool matches(const Shape& shape, const TensorInfo& info) {
        if (!info.rank_known) return true;
        return std::ranges::equal(shape, info.shape, [](std::int64_t is, std::int64_t wanted) { return wanted < 0 || is == wanted; });
    }

    /// Dynamic dimensions become 1, but a dynamic first one that some input has too takes that input's.
    Shape guess_shape(const TensorInfo& info, std::span<const Tensor> inputs) const {
        if (!info.rank_known) return {};
        Shape shape = info.shape;
        if (!shape.empty() && shape.front() < 0) {
            for (std::size_t i = 0; i < inputs.size(); ++i) {
                const Shape& declared = compiled_->inputs[i].shape;
                if (declared.empty() || declared.front() >= 0 || inputs[i].shape().empty()) continue;
                shape.front() = inputs[i].shape().front();
                break;
            }
        }
        for (std::int64_t& size : shape) size = size < 0 ? 1 : size;
        return shape;
    }

    std::shared_ptr<Compiled> compiled_;
    std::mutex mutex_;  // guards the flags
    std::condition_variable wake_;
    bool running_ = false;
    bool cancelled_ = false;
};

/// A compiled model. Every method may be called from several threads at once.
class Executable final : public backend::Executable {
public:
    explicit Executable(std::shared_ptr<Compiled> compiled) : compiled_(std::move(compiled)) {}

    [[nodiscard]] std::unique_ptr<backend::Request> create_request() override {
        if (compiled_->faults.at("request", ++compiled_->requests) != nullptr) {
            throw Error(ErrorCode::resource_exhausted, ErrorCategory::system, "injected fault: no memory for a request");
        }
        return std::make_unique<Request>(compiled_);
    }

    [[nodiscard]] std::vector<std::pair<std::string, std::string>> properties() const override {
        return {{"COMPUTES", "NO"}, {"FROM_CACHE", compiled_->from_cache ? "YES" : "NO"}};
    }

    void export_blob(std::ostream& out) const override { out << kBlobFormat; }

private:
    std::shared_ptr<Compiled> compiled_;
};

/// The engine. Thread-safe; lives until the process ends.
class Backend final : public backend::Backend {
public:
    // The constructor is where a vendor library is loaded; without it, Error(unavailable) makes the loader report and skip the backend.
    Backend() {
        if (current_faults({}).at("create", 1) != nullptr) {
            throw Error(ErrorCode::unavailable, ErrorCategory::system, "injected fault: the vendor library is missing");
        }
    }

    [[nodiscard]] std::string_view name() const noexcept override { return "null"; }
    [[nodiscard]] std::string_view version() const noexcept override { return kVersion; }
    [[nodiscard]] std::string engine_version() const override { return "none"; }

    // Cheap: ask, don't initialise. `id` and `scores` are filled in by the caller.
    [[nodiscard]] std::vector<DeviceInfo> enumerate() override {
        if (current_faults({}).at("enumerate", 1) != nullptr) return {};
        DeviceInfo device{.kind = DeviceKind::other, .vendor = "AI VMM", .name = "Null device"};
        device.routes.push_back({.backend = "null",
                                 .backend_device = std::string(kDevice),
                                 .engine_version = "none",
                                 .precisions = {"f32", "bf16", "f16"},
                                 .properties = {"COMPUTES=NO"}});
        return {device};
    }

    // Agrees with compile(): what is supported compiles, what isn't is refused there too.
    [[nodiscard]] Support supports(const Model& model, const CompileConfig& config) override {
        try {
            check(model, config);
        } catch (const Error& error) {
            return {.supported = false, .reason = error.what()};
        }
        if (current_faults(config.device).at("supports", ++supports_) != nullptr) return {.supported = false, .reason = "injected fault: refused"};
        return {.supported = true};
    }

    // What is refused here makes supports() refuse the model; what is left over can be cut out and run.
    [[nodiscard]] NodeSupport node_support(const Model& model, const CompileConfig& config) override {
        try {
            check_config(config);
        } catch (const Error& error) {
            return {.any = false, .reason = error.what(), .refusals = {}};
        }
        return refused_nodes(model);
    }

    [[nodiscard]] std::unique_ptr<backend::Executable> compile(const Model& model, const CompileConfig& config) override {
        check(model, config);
        trace("compile", config);
        const Faults faults = current_faults(config.device);
        const int call = ++compiles_;
        if (faults.at("oom", call) != nullptr) {
            throw Error(ErrorCode::resource_exhausted, ErrorCategory::system, "injected fault: no memory to compile");
        }
        if (faults.at("compile", call) != nullptr) {
            throw Error(ErrorCode::internal, ErrorCategory::compilation, "injected fault: compile " + std::to_string(call));
        }
        const bool found = find_or_keep(model);
        return make_executable(model, faults, found);
    }

    // What a search for the fastest kernels would find goes here, under everything that it depends on; it may be gone the next time.
    void use_cache(std::shared_ptr<backend::Cache> cache) override {
        const std::scoped_lock lock(cache_mutex_);
        cache_ = std::move(cache);
    }

    // The caller checked the bytes for damage; a blob of another version must be recognised here all the same.
    [[nodiscard]] std::unique_ptr<backend::Executable> import_blob(std::span<const std::byte> blob, const Model& model,
                                                                   const CompileConfig& config) override {
        check_config(config);
        trace("import", config);
        const Faults faults = current_faults(config.device);
        const bool known = blob.size() == kBlobFormat.size() && std::memcmp(blob.data(), kBlobFormat.data(), blob.size()) == 0;
        if (!known || faults.at("import", ++imports_) != nullptr) {
            throw Error(ErrorCode::data_loss, ErrorCategory::compilation, "the bytes are no compiled model of the null backend");
        }
        return make_executable(model, faults, false);
    }

private:
    /// True if what compiling this model takes was in the cache; it is afterwards.
    bool find_or_keep(const Model& model) {
        std::shared_ptr<backend::Cache> cache;
        {
            const std::scoped_lock lock(cache_mutex_);
            cache = cache_;
        }
        if (!cache) return false;
        const backend::Cache::Key key{{"kind", "null choice"}, {"version", std::string(kVersion)}, {"model", model.content_hash}};
        const std::string choice = "zeros";
        if (const auto pieces = cache->find(key); pieces && pieces->size() == 1 && pieces->front() == choice) return true;
        cache->put(key, {&choice, 1});
        return false;
    }

    /// Everything that CompileConfig asks for is kept or refused.
    static void check_config(const CompileConfig& config) {
        const std::string_view device = std::string_view(config.device).substr(0, config.device.find('?'));
        if (device != kDevice) {
            throw Error(ErrorCode::unimplemented, ErrorCategory::compilation, "the null backend has no device '" + config.device + "'",
                        {.expected = std::string(kDevice), .found = config.device, .advice = {}});
        }
        if (config.precision == Precision::automatic || config.threads < 1 || config.streams < 1) {
            throw Error(ErrorCode::invalid_argument, ErrorCategory::compilation, "precision, threads and streams must be decided");
        }
    }

    static void check(const Model& model, const CompileConfig& config) {
        check_config(config);
        if (model.graph == nullptr && model.path.empty() && model.bytes == nullptr) {
            throw Error(ErrorCode::unimplemented, ErrorCategory::compilation, "there is no model to run: " + model.graph_refusal);
        }
        if (const NodeSupport nodes = refused_nodes(model); !nodes.refusals.empty()) {
            throw Error(ErrorCode::unimplemented, ErrorCategory::compilation, nodes.refusals.front().reason);
        }
        for (const TensorInfo& output : model.outputs) {
            if (output.type != ElementType::undefined) continue;
            throw Error(ErrorCode::unimplemented, ErrorCategory::compilation, "output '" + output.name + "' has no element type");
        }
    }

    static std::unique_ptr<backend::Executable> make_executable(const Model& model, const Faults& faults, bool from_cache) {
        auto compiled = std::make_shared<Compiled>();
        compiled->inputs = model.inputs;
        compiled->outputs = model.outputs;
        compiled->faults = faults;
        compiled->from_cache = from_cache;
        return std::make_unique<Executable>(std::move(compiled));
    }

    std::mutex cache_mutex_;  // guards cache_
    std::shared_ptr<backend::Cache> cache_;
    std::atomic<int> supports_ = 0;
    std::atomic<int> compiles_ = 0;
    std::atomic<int> imports_ = 0;
};

}  // namespace ai_vmm::null_backend

AI_VMM_DEFINE_BACKEND(ai_vmm::null_backend::Backend)
