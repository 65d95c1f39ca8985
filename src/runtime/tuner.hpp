// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <stop_token>
#include <string>
#include <vector>

#include "ai_vmm/vmm.hpp"
#include "optimization/equivalence.hpp"
#include "planning/planner.hpp"
#include "runtime/stage.hpp"

namespace ai_vmm::runtime {

/// Computes what a model's author meant, slowly: asked only where engines differ. Nothing if it can't.
using Oracle = std::function<std::optional<std::vector<Tensor>>(std::span<const Tensor> inputs)>;

struct TuneRequest {
    const std::vector<TensorInfo>* outputs = nullptr;
    std::vector<planning::Candidate> candidates;         ///< from planning::enumerate_candidates(), best first
    std::vector<planning::CandidateKey> reference_keys;  ///< f32 on the CPU, one per engine, the one to believe first where nothing decides
    std::vector<std::string> processors;                 ///< device ids: what is compiled for other devices is compiled beside the reference
    std::vector<std::vector<Tensor>> calibration;        ///< sets of inputs, one Tensor per model input
    optimization::Tolerance tolerance;
    std::chrono::milliseconds budget{2000};
    bool accept_lossy = false;       ///< the caller forced a lossy precision: a disagreement is told, not held against it
    bool foreign_reference = false;  ///< by engines that the caller excluded: other engines' f32 is not held against them where it differs, but told
    bool throughput = false;         ///< measure items per second over all streams besides latency
    Oracle oracle;
    Progress progress;
    std::stop_token stop;
};

struct TuneResult {
    std::vector<planning::Outcome> outcomes;
    std::map<planning::CandidateKey, std::shared_ptr<Stage>> stages;  ///< compiled and still alive
    std::vector<std::vector<Tensor>> reference;  ///< outputs per calibration set; an empty vector where no engine could run the set
    std::string reference_note;                  ///< which engines agreed, or who decided and how
    std::string failure;                         ///< "engine: why" of those that ran none of the sets, where no engine ran any
};

/// Settles the f32 reference, then compiles, verifies and measures the short list within the budget (the reference engines' own candidates are always
/// compiled; what is predicted to be far better than they are is tried whatever the time). Candidates are measured interleaved; those far behind drop
/// out early (rounds.hpp). Never throws for a candidate that fails: its outcome says why.
/// @throws Error(cancelled) if `stop` was requested.
[[nodiscard]] TuneResult tune(const TuneRequest& request, StageFactory& factory);

/// Compiles (if `stage` is null) and verifies one candidate against the reference, without measuring.
[[nodiscard]] planning::Outcome verify(const planning::CandidateKey& key, std::shared_ptr<Stage>& stage, const TuneRequest& request,
                                       const std::vector<std::vector<Tensor>>& reference, StageFactory& factory);

/// What one execution gives. @throws Error of the engine.
[[nodiscard]] std::vector<Tensor> run_once(Stage& stage, const std::vector<Tensor>& inputs, std::size_t output_count);

}  // namespace ai_vmm::runtime
