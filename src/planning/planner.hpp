// SPDX-License-Identifier: Apache-2.0
/// The planner: a pure function of numbers. It includes no ov:: type, reads no clock, file, environment or device; equal inputs give
/// equal plans. Its tests are text files (tests/planning/*.txt).
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "ai_vmm/constraints.hpp"

namespace ai_vmm::planning {

/// Where and how a model could run.
struct CandidateKey {
    std::string engine;  ///< backend name; "cuda+openvino" for a model cut between two
    std::string device;  ///< device id, "cpu:0"; "gpu:0+cpu:0" for a cut, "gpu:0+gpu:1" for a replica on each
    Precision precision = Precision::f32;
    int threads = 1;  ///< per stream
    int streams = 1;  ///< over all replicas
    int batch = 1;    ///< executions merged into one

    /// "openvino/cpu:0/bf16/t2/s1/b1"
    [[nodiscard]] std::string id() const;
    /// @throws Error(invalid_argument).
    [[nodiscard]] static CandidateKey parse(const std::string& id);
    auto operator<=>(const CandidateKey&) const = default;
};

/// One part of a model that is cut: what runs where, in order.
struct PlannedStage {
    std::string engine;
    std::string device;
    std::vector<int> nodes;  ///< of the CostGraph, ascending
    int operations = 0;
    std::int64_t bytes_in = 0;   ///< that cross from other stages
    std::int64_t bytes_out = 0;  ///< that cross to other stages
    double flops = 0;
    double bytes_moved = 0;
    std::string reason;  ///< why it is there
};

/// One engine on one device, as numbers; or a model cut between an accelerator and a processor.
struct Route {
    std::string engine;
    std::string device;  ///< device id; of several at once: "gpu:0+gpu:1"
    int replicas = 1;    ///< devices that work at once, each with the whole model; rates and bandwidth are those of one
    std::string kind;    ///< to_string(DeviceKind): "CPU", …
    std::string vendor;  ///< "AMD", "NVIDIA", …
    std::string model;   ///< the device's product name
    bool supported = true;
    std::string reason;                  ///< why not
    std::map<Precision, double> gflops;  ///< peak per precision that runs natively; a precision that is absent is not offered
    double memory_bandwidth_gb_s = 10;
    double call_overhead_us = 10;   ///< of one execution
    double node_overhead_us = 0.5;  ///< per node
    double efficiency = 0.5;        ///< share of the peak that is usually reached
    int max_threads = 1;
    std::int64_t memory_free_bytes = 0;    ///< of each replica's device; 0: unknown
    std::optional<double> active_power_w;  ///< of the device under load, if metered
    std::vector<PlannedStage> stages;      ///< of a cut model, in order; empty: whole on this engine
};

/// Operations that can't be placed apart, as numbers.
struct CostNode {
    double flops = 0;
    double bytes_moved = 0;
    int operations = 1;
    bool open_shape = false;  ///< the shape of a result depends on the values of inputs
};

/// What one node computes and others, or the caller, read.
struct CostTensor {
    int producer = -1;           ///< node, or -1: an input of the model
    std::vector<int> consumers;  ///< nodes
    std::int64_t bytes = 0;
    bool output = false;
    bool open_shape = false;
};

/// A model in the parts that can be placed, in an order in which they can run.
struct CostGraph {
    std::vector<CostNode> nodes;
    std::vector<CostTensor> tensors;
};

/// Which nodes of a CostGraph an engine runs on a device.
struct NodeSet {
    std::vector<bool> runs;           ///< per node
    std::vector<std::string> reason;  ///< per node that it does not run; may be shorter
};

/// Divides a model between an accelerator that does not run all of it and a processor: stages in an order in which they can run, each as large as
/// its neighbours allow. What is downstream of a shape that values decide stays on the processor, and so does what costs more to send than to
/// compute, unless the accelerator would be left with nothing. Pure.
/// @returns a route with stages, or one that is not supported and says why
[[nodiscard]] Route cut_route(const CostGraph& graph, const Route& accelerator, const NodeSet& on_accelerator, const Route& processor,
                              const NodeSet& on_processor);
/// Appends such a route for each accelerator of `routes` that does not take the model whole, with each processor.
/// @param runs  by engine and device; a route that is not in it is left alone
void add_cut_routes(std::vector<Route>& routes, const CostGraph& graph, const std::map<std::pair<std::string, std::string>, NodeSet>& runs);

/// "gpu:0+gpu:1" as its devices; one for a plain id.
[[nodiscard]] std::vector<std::string> devices_of(const std::string& device);

/// For each engine, a route over all of its devices that are alike and have a kind other than the processor's, where there are several: for callers
/// who come many at once.
[[nodiscard]] std::vector<Route> replica_routes(const std::vector<Route>& routes);

/// The model, as numbers.
struct ModelNumbers {
    double flops = 0;
    double bytes_moved = 0;
    std::int64_t parameter_bytes = 0;
    std::int64_t activation_bytes = 0;
    int nodes = 0;
    bool batchable = false;  ///< first dimension of every input and output is a free batch
    bool stateful = false;
};

/// Everything a plan is made from.
struct PlanRequest {
    ModelNumbers model;
    std::vector<Route> routes;
    Constraints constraints;             ///< shapes and calibration tensors are not looked at
    int thread_budget = 1;               ///< processor threads this deployment may hold
    int measure_limit = 8;               ///< candidates worth compiling and measuring
    std::string trusted_engine;          ///< set if outputs could not be compared: this engine's candidates go first
    std::map<std::string, double> bias;  ///< measured / predicted latency by bias_key(), from the calibration store; 1 where absent
};

/// A candidate with its prediction, or the reason why it is out before anything was compiled.
struct Candidate {
    CandidateKey key;
    double predicted_latency_ms = 0;
    double predicted_throughput_per_s = 0;  ///< items per second over all streams
    std::int64_t predicted_memory_bytes = 0;
    bool rejected = false;
    std::string reason;
    bool to_measure = false;           ///< in the short list
    std::vector<PlannedStage> stages;  ///< of a cut model, in order
};

/// What compiling and measuring a candidate gave. Numbers are medians.
struct Outcome {
    CandidateKey key;
    bool compiled = false;
    std::string failure;                     ///< why compiling or running failed
    ErrorCode failure_code = ErrorCode::ok;  ///< of an engine that did not compile it; not kept with a plan
    bool agrees = true;                      ///< with the f32 reference on calibration inputs
    std::string disagreement;                ///< why not
    double relative_error = 0;
    std::optional<double> latency_ms;
    std::optional<double> latency_p90_ms;
    std::optional<double> throughput_per_s;
    std::optional<double> cpu_ms_per_item;  ///< processor time per item
    std::optional<double> energy_mj_per_item;
    std::int64_t memory_bytes = 0;
    double compile_ms = 0;
};

/// A candidate's place in the decision.
struct Verdict {
    Candidate candidate;
    std::optional<Outcome> outcome;
    bool admitted = false;
    std::string reason;  ///< why rejected or not preferred; for the chosen one: why it won
};

/// The decision. `verdicts` is ordered: chosen, fallbacks by preference, then rejected.
struct Plan {
    bool feasible = false;
    CandidateKey chosen;
    std::vector<CandidateKey> fallbacks;  ///< distinct engines or devices, to take over when the chosen one fails
    double promised_latency_ms = 0;
    double promised_throughput_per_s = 0;
    std::string goal;  ///< what was optimised
    std::vector<Verdict> verdicts;
    std::string refusal;        ///< if !feasible: which constraint no candidate meets
    std::string nearest_offer;  ///< if !feasible: the closest admitted candidate and its figures
};

/// Of PlanRequest::bias: an engine may be right about one device and wrong about another.
[[nodiscard]] std::string bias_key(const std::string& engine, const std::string& device);

/// All candidates with predictions; the short list marked `to_measure`, best first within the constraints.
/// @throws Error(invalid_argument) contradictory or out-of-range constraints; unknown device or engine names (with the known ones).
[[nodiscard]] std::vector<Candidate> enumerate_candidates(const PlanRequest& request);

/// Chooses among the candidates. Outcomes may be missing (not measured): predictions count then.
[[nodiscard]] Plan decide(const PlanRequest& request, const std::vector<Candidate>& candidates, const std::vector<Outcome>& outcomes);

/// For people: the choice, why, and every rejected candidate with its reason, as an aligned table of at most `columns` columns (fewer than 80 count
/// as 80). Where that leaves a reason too little room it stands on lines of its own.
[[nodiscard]] std::string to_text(const Plan& plan, int columns = 110);
/// "  label        text …" in lines of at most `columns` columns, as to_text() has them.
[[nodiscard]] std::string labelled_text(std::string_view label, std::string_view text, int columns = 110);
/// The same as one JSON object (schema: docs/reference/plan-json.md), stable key order, and back.
[[nodiscard]] std::string to_json(const Plan& plan);
/// @throws Error(data_loss) not such JSON.
[[nodiscard]] Plan plan_from_json(const std::string& json);

/// Divides `total` processor threads among deployments: disjoint, at least 1 each while they last, in proportion to the priorities
/// (largest remainder). With more deployments than threads the ones of least priority share the last thread (marked by `shared`).
struct ThreadShare {
    int threads = 1;
    bool shared = false;
};
[[nodiscard]] std::vector<ThreadShare> divide_threads(int total, const std::vector<double>& priorities);

}  // namespace ai_vmm::planning
