// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "ai_vmm/vmm.hpp"
#include "cache/artifact_store.hpp"
#include "graph/reader.hpp"
#include "hal/registry.hpp"
#include "planning/planner.hpp"
#include "runtime/deployment_engine.hpp"
#include "vmm/model_stages.hpp"

namespace ai_vmm {

/// What deploy() made: everything a Deployment is built from.
struct Deployed {
    std::shared_ptr<ModelStages> stages;
    std::shared_ptr<runtime::Stage> chosen;
    planning::Plan plan;
    ModelProfile profile;
    std::vector<TensorInfo> inputs;
    std::vector<TensorInfo> outputs;
    std::string reference_note;
    std::string engine_version;
    bool batchable = false;
    bool plan_from_cache = false;
    bool imported = false;
    std::vector<std::pair<std::string, double>> steps_ms;
    double total_ms = 0;
};

/// The way from a source to a running stage: locate, look into the cache, read, analyse, plan, tune, decide, store. Thread-safe.
class Deployer {
public:
    /// @param backends_store  where backends keep what they work out
    Deployer(std::shared_ptr<hal::Registry> registry, std::shared_ptr<cache::ArtifactStore> store,
             std::shared_ptr<cache::ArtifactStore> backends_store, Progress progress);

    /// Hardware with scores.
    [[nodiscard]] Hardware hardware(bool refresh = false);
    /// @param thread_budget  processor threads the deployment may use
    /// @throws Error as VMM::deploy().
    [[nodiscard]] Deployed deploy(const ModelSource& source, const Constraints& constraints, int thread_budget);
    /// See VMM::outlines().
    [[nodiscard]] std::vector<CandidateOutline> outlines(const ModelSource& source, const Constraints& constraints);
    [[nodiscard]] ModelProfile inspect(const ModelSource& source);

private:
    struct Job;
    [[nodiscard]] std::shared_ptr<ModelStages> new_stages(const Job& job) const;
    /// Lets the backends of accelerators that `wanted(engine, device)` open them, beside what follows.
    template <typename Wanted>
    void prepare_devices(Job& job, const Wanted& wanted);
    /// Fills `job.out` from the store. False, and as before but for a step "cache", if there is no entry or it is no good; it is erased then.
    [[nodiscard]] bool restore(Job& job);
    void build(Job& job);
    void store(const Job& job);
    [[nodiscard]] planning::PlanRequest plan_request(Job& job);
    void add_cuts(Job& job, planning::PlanRequest& request);
    [[nodiscard]] std::map<std::string, double> load_bias();
    /// Backends are the process's: what they keep belongs into the cache of the VMM that is about to let them compile.
    void lend_cache();
    void learn_bias(const std::vector<planning::Candidate>& candidates, const std::vector<planning::Outcome>& outcomes);

    const std::shared_ptr<hal::Registry> registry_;
    const std::shared_ptr<cache::ArtifactStore> store_;
    const Progress progress_;
    std::vector<std::pair<backend::Backend*, std::shared_ptr<backend::Cache>>> caches_;
};

/// The decision and what it stands on, for people and as JSON.
[[nodiscard]] Explanation explain(const Deployed& deployed, int columns);

}  // namespace ai_vmm
