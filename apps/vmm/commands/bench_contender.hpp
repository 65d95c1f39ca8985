// SPDX-License-Identifier: Apache-2.0
/// The parts of `vmm bench`: who competes, and the loops that time them.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "ai_vmm/vmm.hpp"
#include "cli.hpp"
#include "native/native.hpp"

namespace ai_vmm::cli {

/// One that runs the model: AI VMM itself or an engine called natively.
struct Contender {
    std::string name;      ///< "ai_vmm", "openvino", "onnxruntime"
    std::string version;   ///< of the engine
    std::string settings;  ///< in force
    int callers = 1;       ///< that it asks for under a throughput goal
    std::shared_ptr<void> owner;
    std::function<std::unique_ptr<native::Caller>()> make_caller;
    std::vector<std::string> output_names;
    /// Prepares a call that runs so many items at once and returns when all are done, if it has such a call.
    std::function<std::function<void()>(std::size_t items)> make_batch;
    std::size_t full_batch = 1;  ///< items that such a call runs at a time
};

/// AI VMM through Deployment::execute_into with outputs allocated once. `inputs` in the deployment's order.
[[nodiscard]] Contender own_contender(const std::shared_ptr<Deployment>& deployment, const std::vector<Tensor>& inputs);

/// An engine from its library beside this program.
/// @param inputs  by the deployment's names; taken by name, or by position where the engine has other names
/// @throws Error(invalid_argument) no such engine; Error(unavailable) its library can't be loaded; as native::LoadFunction.
[[nodiscard]] Contender native_contender(const std::string& name, const std::string& model, const native::Settings& settings,
                                         const TensorMap& inputs);

/// How the outputs of a contender compare with AI VMM's on the same inputs.
struct Verification {
    bool agrees = false;
    double relative_error = 0;    ///< ||a-b||2 / ||b||2, the worst output's; b is the native engine's
    double max_scaled_error = 0;  ///< max |a-b| / max |b|
    bool same_top = true;         ///< largest element of each row
    std::string reason;           ///< why not
};
[[nodiscard]] Verification verify(const Contender& own, const Contender& other, double tolerance);

/// When a timed loop ends: after so many executions, or else so much time.
struct Limit {
    std::chrono::nanoseconds time{};
    std::size_t executions = 0;  ///< 0: by time
};

/// What one round gave.
struct Round {
    std::vector<double> samples_ms;  ///< at most two million
    std::size_t executions = 0;
    double throughput_per_s = 0;
};
/// One caller, one execution after the other.
[[nodiscard]] Round run_single(native::Caller& caller, const Limit& limit);
/// `callers.size()` threads, each as run_single(). The limit's executions are of all together.
[[nodiscard]] Round run_parallel(std::vector<std::unique_ptr<native::Caller>>& callers, const Limit& limit);

/// Poisson arrivals at `rate` per second; a sample is from the moment a request was due to its end.
struct ServerRound {
    std::vector<double> samples_ms;
    std::size_t refused = 0;  ///< because the queue was full
    std::size_t failed = 0;
    double achieved_per_s = 0;
    double generator_lag_p99_ms = 0;  ///< how late requests were sent: above a few percent of the latencies the figures are the generator's
};
[[nodiscard]] ServerRound run_server(Deployment& deployment, const TensorMap& inputs, double rate, const Limit& limit, std::uint64_t seed);

}  // namespace ai_vmm::cli
