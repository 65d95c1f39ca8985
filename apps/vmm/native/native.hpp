// SPDX-License-Identifier: Apache-2.0
/// The interface to engines called without AI VMM, for comparisons. Each lives in a library of its own (libvmm_native_NAME.so) that is loaded on
/// demand; it is built with the same compiler as `vmm` and is no stable interface.
#pragma once

#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "ai_vmm/model.hpp"
#include "ai_vmm/tensor.hpp"

namespace ai_vmm::cli::native {

enum class Aim : std::uint8_t {
    latency,     ///< the engine's documented settings for the shortest time of one execution
    throughput,  ///< … for the most executions per second
    as_given,    ///< exactly Settings::threads and ::streams, for the same configuration as a plan
};

struct Settings {
    Aim aim = Aim::latency;
    std::string precision = "f32";                            ///< computing precision
    int threads = 0;                                          ///< per stream; 0: the engine's choice
    int streams = 0;                                          ///< 0: the engine's choice
    std::vector<std::pair<std::string, Shape>> input_shapes;  ///< fixed while loading, where the model leaves them free
};

/// One caller's place: inputs bound once, outputs allocated once, then run() as often as wanted on one thread.
class Caller {
public:
    virtual ~Caller() = default;
    /// Runs once; throws Error(internal) with the engine's words.
    virtual void run() = 0;
    /// Outputs of the last run, in the engine's order; valid until the next.
    [[nodiscard]] virtual std::vector<Tensor> outputs() = 0;
};

/// A model loaded by an engine.
class Engine {
public:
    virtual ~Engine() = default;
    [[nodiscard]] virtual std::string version() const = 0;
    [[nodiscard]] virtual std::string device() const = 0;
    /// The settings in force, as "NAME=VALUE, …".
    [[nodiscard]] virtual std::string settings() const = 0;
    [[nodiscard]] virtual std::vector<TensorInfo> inputs() const = 0;
    [[nodiscard]] virtual std::vector<TensorInfo> outputs() const = 0;
    /// Callers at once that the engine asks for under Aim::throughput.
    [[nodiscard]] virtual int preferred_callers() const = 0;
    /// @param inputs  in the engine's order; the memory must outlive the caller
    [[nodiscard]] virtual std::unique_ptr<Caller> make_caller(std::span<const Tensor> inputs) = 0;
};

/// What each library exports as `vmm_native_load`. Throws Error(unimplemented) if the engine has no reader for the file, Error(internal) with the
/// engine's words otherwise.
using LoadFunction = Engine* (*)(const std::filesystem::path& model, const Settings& settings);
inline constexpr const char* kLoadSymbol = "vmm_native_load";

}  // namespace ai_vmm::cli::native
