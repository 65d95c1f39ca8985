// SPDX-License-Identifier: Apache-2.0
/// What a backend implements. Versioned by kInterfaceVersion; changes are listed in include/ai_vmm/backend/CHANGELOG.md.
/// How to write one: docs/guide/write-a-backend.md; the smallest complete one: backends/null.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <iosfwd>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ai_vmm/constraints.hpp"
#include "ai_vmm/device.hpp"
#include "ai_vmm/error.hpp"
#include "ai_vmm/model.hpp"
#include "ai_vmm/tensor.hpp"

namespace ov {
class Model;
}

namespace ai_vmm::backend {

/// Grows when this header changes in a way that old backends can't be loaded with.
inline constexpr std::uint32_t kInterfaceVersion = 4;

/// A model as readers hand it to backends. The graph is shared and must not be changed: clone it first.
struct Model {
    std::shared_ptr<const ov::Model> graph;     ///< null if OpenVINO's readers refuse the file
    std::string graph_refusal;                  ///< why `graph` is null
    ModelFormat format = ModelFormat::unknown;  ///< of `path` / `bytes`
    std::filesystem::path path;                 ///< the file or directory; empty for a model in memory
    std::shared_ptr<const std::string> bytes;   ///< content of a single-file format if it was given in memory; else null
    std::string name;
    std::string content_hash;        ///< SHA-256 over every file of the model, hex
    std::vector<TensorInfo> inputs;  ///< the file's names, in its order
    std::vector<TensorInfo> outputs;
    std::vector<int> graph_inputs;   ///< per `inputs`: index into graph->inputs(), or -1 if the reader dropped it as unused
    std::vector<int> graph_outputs;  ///< per `outputs`: index into graph->outputs()
    /// For import_blob(), where `graph` is null: reads the model from where it was, for an executable that needs the graph after all, as for shapes
    /// that it was not exported for. Callable from any thread as long as the executable lives; takes as long as reading takes. Null: there is no way.
    /// Throws as reading does; Error(failed_precondition) the model has changed since.
    std::function<std::shared_ptr<const Model>()> read_again;
};

/// How to compile. Everything is decided; a backend that can't keep a field says so by Error(unimplemented).
struct CompileConfig {
    std::string device;                    ///< the backend's own device name, from DeviceRoute::backend_device
    Precision precision = Precision::f32;  ///< never `automatic`; f32 means without any lossy option
    int threads = 1;                       ///< processor threads per stream, >= 1
    int streams = 1;                       ///< executions that will run at once, >= 1
    bool throughput = false;               ///< tune for many executions at once rather than for one
    /// Per Model::inputs, the shapes that most executions will have (empty: unknown). A hint to specialise for: every other shape that the model
    /// allows must still run.
    std::vector<Shape> typical_shapes;
};

/// Whether a model can be compiled, decided without compiling where that is possible.
struct Support {
    bool supported = false;
    std::string reason;  ///< if not: why, naming op, type and shape where known
    std::vector<std::string> unsupported_nodes;
};

/// What a backend would make of a model.
struct Outline {
    MemoryEstimate memory;
    std::string text;  ///< steps in order, with shapes and places: for people
};

/// Which nodes of a graph a backend runs, so that a model which it does not take whole can be cut.
struct NodeSupport {
    struct Refusal {
        std::string node;  ///< its name in the graph; where several nodes have that name, all of them
        std::string reason;
    };
    bool any = true;                ///< false: none, for `reason`
    std::string reason;             ///< if none: why
    std::vector<Refusal> refusals;  ///< nodes that are not run; every other one is, in a graph of such nodes
};

/// One execution slot: not thread-safe but for cancel(). Made by Executable::create_request(), which must outlive it.
class Request {
public:
    virtual ~Request() = default;

    /// Runs once on the calling thread and returns when the outputs are there. State of stateful models starts afresh. The same inputs give the same
    /// outputs, bit for bit, in every run of every request of one executable.
    /// @param inputs   one per Model::inputs, checked for type and shape already; an empty Tensor for an optional input left out.
    ///                 Memory stays valid and unchanged until return. In host memory, or in a place that Executable::reads() names.
    /// @param outputs  one per Model::outputs. A non-empty element of the right type and shape is written in place; otherwise it is
    ///                 replaced by a Tensor that owns its memory (and stays valid after the next run()), in the element's place().
    /// @throws Error(cancelled) after cancel(); Error(invalid_argument) if the engine refuses the values; Error(internal) otherwise.
    virtual void run(std::span<const Tensor> inputs, std::span<Tensor> outputs) = 0;

    /// Asks a run() that is under way to stop soon. Callable from any thread, at any time; without effect if none is running.
    virtual void cancel() noexcept = 0;

    /// What each step takes, in order, for inputs as run() takes them, all in host memory. Other executions of the device disturb it.
    /// @throws Error(unimplemented) the engine doesn't tell; as run().
    [[nodiscard]] virtual std::vector<StepTime> profile(std::span<const Tensor> inputs);
};

/// A compiled model. Thread-safe.
class Executable {
public:
    virtual ~Executable() = default;

    /// @throws Error(resource_exhausted) no memory.
    [[nodiscard]] virtual std::unique_ptr<Request> create_request() = 0;
    /// Memory held for weights and one request, bytes; 0 if unknown.
    [[nodiscard]] virtual std::int64_t memory_bytes() const { return 0; }
    /// Whether requests take inputs and give outputs in this memory, besides the host's.
    [[nodiscard]] virtual bool reads(const MemoryPlace& place) const noexcept { return place.is_host(); }
    /// What memory_bytes() is made of, where the engine tells.
    [[nodiscard]] virtual MemoryEstimate memory() const { return {}; }
    /// "NAME", "value" pairs for explain(): what the engine really uses.
    [[nodiscard]] virtual std::vector<std::pair<std::string, std::string>> properties() const { return {}; }
    /// Writes what import_blob() reads back faster than compile().
    /// @throws Error(unimplemented) this executable can't be exported.
    virtual void export_blob(std::ostream& out) const;
};

/// What a backend keeps between processes because it takes long to work out: a part of the VMM's artifact cache, in its folder and under its limit.
/// An entry appears whole or not at all, is checked for damage before it is returned, and may be gone at any time. Thread-safe; a folder that can't
/// be used is an empty one.
class Cache {
public:
    /// Everything that an entry depends on, as name and value: versions, devices, options. "kind" is what people are shown.
    using Key = std::vector<std::pair<std::string, std::string>>;

    virtual ~Cache() = default;
    /// The pieces that were put under an equal key by a backend of this name, or nothing.
    [[nodiscard]] virtual std::optional<std::vector<std::string>> find(const Key& key) = 0;
    virtual void put(const Key& key, std::span<const std::string> pieces) = 0;
};

/// An engine on the devices it reaches. Thread-safe; lives until the process ends.
class Backend {
public:
    virtual ~Backend() = default;

    [[nodiscard]] virtual std::string_view name() const noexcept = 0;     ///< "openvino"
    [[nodiscard]] virtual std::string_view version() const noexcept = 0;  ///< of this backend
    [[nodiscard]] virtual std::string engine_version() const = 0;         ///< of the vendor library

    /// Devices this backend reaches. Cheap: no kernel is compiled. `id` is left empty; each has exactly one route.
    [[nodiscard]] virtual std::vector<DeviceInfo> enumerate() = 0;

    /// Opens a device (contexts, vendor libraries) that compile() or import_blob() will soon be asked for, so that they find it open. Called on a
    /// thread of its own beside other calls, as often as there are deployments; may take as long as opening takes. A hint: what fails here fails
    /// again there.
    /// @param device  the backend's own device name
    virtual void prepare(const std::string& /*device*/) noexcept {}

    /// @param config  device and precision are looked at.
    [[nodiscard]] virtual Support supports(const Model& model, const CompileConfig& config) = 0;

    /// supports() node by node. Decided without compiling; an answer that is too hopeful costs a candidate, none that is wrong is ever run.
    /// @param config  device and precision are looked at, and `typical_shapes` where support depends on shapes.
    [[nodiscard]] virtual NodeSupport node_support(const Model& model, const CompileConfig& config);

    /// @throws Error(unimplemented) the model or the configuration can't be run; Error(resource_exhausted) no memory;
    ///         Error(internal) the engine failed. No vendor exception leaves.
    [[nodiscard]] virtual std::unique_ptr<Executable> compile(const Model& model, const CompileConfig& config) = 0;

    /// Restores what export_blob() wrote under the same backend, engine version, device and config. The bytes were checked for
    /// damage by the caller. `model.graph` may be null here; `model.inputs` and `model.outputs` are set, and `model.read_again` where the model can
    /// be read again.
    /// @throws Error(unimplemented) not offered; any other Error: rebuild with compile().
    [[nodiscard]] virtual std::unique_ptr<Executable> import_blob(std::span<const std::byte> blob, const Model& model, const CompileConfig& config);

    /// What compile() would make of the model for its typical shapes. Loads nothing onto the device, but may time parts on it.
    /// @throws Error(unimplemented) not offered, or as compile().
    [[nodiscard]] virtual Outline outline(const Model& model, const CompileConfig& config);

    /// Copies elements between the host's memory and that of a device that this backend reaches, or between two such devices; they are there when it
    /// returns. A non-empty `to` has the same type and shape and is written; an empty one is replaced by a new tensor in its place().
    /// @throws Error(unimplemented) a place that this backend doesn't reach; Error(invalid_argument) an address that is not there;
    ///         Error(resource_exhausted) no memory.
    virtual void copy(const Tensor& from, Tensor& to);

    /// Where to keep things from now on, instead of where it was told before; null: nowhere. Called before a VMM lets it compile, from any thread: of
    /// several VMMs in a process the one that deployed last decides.
    virtual void use_cache(std::shared_ptr<Cache> /*cache*/) {}
};

/// What a backend library exports under the C symbol `ai_vmm_backend_entry` (a function returning a pointer to one of these).
struct EntryPoint {
    std::uint32_t interface_version;  ///< kInterfaceVersion it was compiled with
    const char* abi;                  ///< AI_VMM_BACKEND_ABI it was compiled with; must equal the loader's
    /// Makes the backend. Throws Error(unavailable) with the reason if the vendor library or the hardware is missing.
    Backend* (*create)();
    void (*destroy)(Backend*);
};
using EntryFunction = const EntryPoint* (*)();
inline constexpr const char* kEntrySymbol = "ai_vmm_backend_entry";

/// Compiler ABI and OpenVINO version that C++ objects crossing the boundary depend on.
#if defined(__GXX_ABI_VERSION)
#define AI_VMM_BACKEND_STR2(x) #x
#define AI_VMM_BACKEND_STR(x) AI_VMM_BACKEND_STR2(x)
#define AI_VMM_BACKEND_ABI "itanium-" AI_VMM_BACKEND_STR(__GXX_ABI_VERSION) "-openvino-2026.4.1"
#endif

/// Defines the entry point of a backend library for class `Type`, whose default constructor may throw Error(unavailable).
#define AI_VMM_DEFINE_BACKEND(Type)                                                                                     \
    extern "C" __attribute__((visibility("default"))) const ::ai_vmm::backend::EntryPoint* ai_vmm_backend_entry() {     \
        static const ::ai_vmm::backend::EntryPoint entry{::ai_vmm::backend::kInterfaceVersion, AI_VMM_BACKEND_ABI,      \
                                                         +[]() -> ::ai_vmm::backend::Backend* { return new Type(); },   \
                                                         +[](::ai_vmm::backend::Backend* backend) { delete backend; }}; \
        return &entry;                                                                                                  \
    }

inline void Executable::export_blob(std::ostream&) const {
    throw Error(ErrorCode::unimplemented, ErrorCategory::compilation, "this executable can't be exported");
}
inline std::vector<StepTime> Request::profile(std::span<const Tensor>) {
    throw Error(ErrorCode::unimplemented, ErrorCategory::runtime, "this engine doesn't tell what its steps take");
}
inline Outline Backend::outline(const Model&, const CompileConfig&) {
    throw Error(ErrorCode::unimplemented, ErrorCategory::compilation, "this backend doesn't tell what it would make of a model");
}
inline void Backend::copy(const Tensor& from, Tensor& to) {
    throw Error(ErrorCode::unimplemented, ErrorCategory::runtime, "this backend copies no tensors",
                {.expected = {}, .found = to_string(from.place()) + " to " + to_string(to.place()), .advice = {}});
}
/// All or nothing, by supports().
inline NodeSupport Backend::node_support(const Model& model, const CompileConfig& config) {
    const Support support = supports(model, config);
    return {.any = support.supported, .reason = support.reason, .refusals = {}};
}
inline std::unique_ptr<Executable> Backend::import_blob(std::span<const std::byte>, const Model&, const CompileConfig&) {
    throw Error(ErrorCode::unimplemented, ErrorCategory::compilation, "this backend imports no compiled models");
}

}  // namespace ai_vmm::backend
