// SPDX-License-Identifier: Apache-2.0
#include "vmm/deployer.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <future>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>
#include <system_error>
#include <utility>

#include "base/build_id.hpp"
#include "base/hash.hpp"
#include "base/log.hpp"
#include "base/memory.hpp"
#include "cache/backend_cache.hpp"
#include "graph/analyser.hpp"
#include "graph/cutter.hpp"
#include "optimization/equivalence.hpp"
#include "runtime/tuner.hpp"
#include "vmm/calibration_inputs.hpp"
#include "vmm/model_json.hpp"
#include "vmm/oracle.hpp"

namespace ai_vmm {
namespace {

using Json = nlohmann::json;
using Clock = std::chrono::steady_clock;
using planning::CandidateKey;

constexpr int kArtifactVersion = 4;
constexpr std::size_t kMaxCheckBytes = std::size_t{4} << 20;

double ms_since(Clock::time_point start) { return std::chrono::duration<double, std::milli>(Clock::now() - start).count(); }

/// What an engine costs besides arithmetic, microseconds: starting values, corrected by the bias that is learned from measurements.
struct EngineCosts {
    double call_us;
    double node_us;
    double efficiency;
};

EngineCosts costs_of(const std::string& engine) {
    if (engine == "onnxruntime") return {5, 0.4, 0.45};
    if (engine == "openvino") return {10, 1.0, 0.5};
    return {10, 1.0, 0.5};
}

/// Peak rates where a device was not measured, by kind.
double default_gflops(DeviceKind kind) {
    switch (kind) {
        case DeviceKind::discrete_gpu: return 20000;
        case DeviceKind::integrated_gpu: return 1500;
        case DeviceKind::npu: return 5000;
        case DeviceKind::cpu:
        case DeviceKind::other: return 50;
    }
    return 50;
}

double default_bandwidth(DeviceKind kind) { return kind == DeviceKind::discrete_gpu ? 500 : 40; }

std::string hardware_fingerprint(const Hardware& hardware) {
    std::ostringstream text;
    for (const BackendReport& backend : hardware.backends) {
        if (backend.loaded) text << backend.name << ' ' << backend.version << ' ' << backend.engine_version << ';';
    }
    for (const DeviceInfo& device : hardware.devices) {
        text << device.id << ' ' << device.name << ' ' << device.uuid << ' ' << device.compute_units << ' ';
        for (const std::string& feature : device.features) text << feature << ' ';
        for (const DeviceRoute& route : device.routes) text << route.backend << '=' << route.backend_device << ' ';
        text << ';';
    }
    return base::sha256_hex(text.str());
}

/// Which code this is: what readers, planner and backends of one build made is not trusted by another one, whatever their version numbers say.
std::string build_fingerprint(const Hardware& hardware) {
    static const char here = 0;
    std::string text = base::build_id(&here);
    for (const BackendReport& backend : hardware.backends) {
        if (backend.loaded) text += ' ' + backend.build;
    }
    return text;
}

/// Everything in the constraints that a plan depends on.
std::string constraints_key(const Constraints& c, int thread_budget) {
    Json json{{"goal", to_string(c.goal)},
              {"preferred", c.preferred_hardware},
              {"devices", c.devices},
              {"engines", c.engines},
              {"precision", to_string(c.precision)},
              {"budget", thread_budget},
              {"predict_only", c.tune.count() == 0}};
    const auto put = [&](const char* name, const auto& value) {
        if (value) json[name] = *value;
    };
    put("max_latency_ms", c.max_latency_ms);
    put("min_throughput_per_s", c.min_throughput_per_s);
    put("power_budget_watts", c.power_budget_watts);
    put("max_memory_mb", c.max_memory_mb);
    put("threads", c.threads);
    put("streams", c.streams);
    for (const Precision precision : c.forbid_precisions) json["forbid"].push_back(to_string(precision));
    for (const auto& [name, shape] : c.input_shapes) json["shapes"].push_back({name, shape});
    if (!c.calibration.empty()) {
        std::vector<Tensor> tensors;
        for (const auto& [name, tensor] : c.calibration) {
            json["calibration_names"].push_back(name);
            tensors.push_back(tensor);
        }
        json["calibration"] = base::sha256_hex(pack_tensors(tensors));
    }
    return json.dump();
}

/// First dimension of every input and output is a free batch.
bool is_batchable(const std::vector<TensorInfo>& inputs, const std::vector<TensorInfo>& outputs, bool stateful) {
    const auto free_first = [](const TensorInfo& info) {
        return info.rank_known && !info.shape.empty() && info.shape[0] < 0 && info.type != ElementType::string && bit_width(info.type) % 8 == 0;
    };
    return !stateful && !inputs.empty() && std::ranges::all_of(inputs, free_first) && std::ranges::all_of(outputs, free_first);
}

/// Whether `whole`, "gpu:0" or "gpu:0+cpu:0", has the part.
bool has_part(const std::string& whole, const std::string& part) {
    const std::vector<std::string> parts = planning::devices_of(whole);  // engines are joined as devices are
    return std::ranges::find(parts, part) != parts.end();
}

/// Whether some of `names`, which may name several at once, has the part, or there are none and any will do.
bool any_has_part(const std::vector<std::string>& names, const std::string& part) {
    return names.empty() || std::ranges::any_of(names, [&](const std::string& name) { return has_part(name, part); });
}

std::span<const std::byte> bytes_of(const std::string& text) { return {reinterpret_cast<const std::byte*>(text.data()), text.size()}; }

}  // namespace

struct Deployer::Job {
    const Constraints& constraints;
    int thread_budget;
    Clock::time_point step_start;
    graph::Located located;
    Hardware hardware;
    std::map<std::pair<std::string, std::string>, std::string> routes;  // backend device by engine and device
    cache::KeyParts key;
    Deployed out;
    std::vector<std::vector<Tensor>> check_outputs;  // reference outputs of the first calibration set that ran, or empty
    std::vector<std::future<void>> preparations;     // of devices; waited for at the end

    void step(const char* name) {
        out.steps_ms.emplace_back(name, ms_since(step_start));
        step_start = Clock::now();
    }
};

Deployer::Deployer(std::shared_ptr<hal::Registry> registry, std::shared_ptr<cache::ArtifactStore> store,
                   std::shared_ptr<cache::ArtifactStore> backends_store, Progress progress)
    : registry_(std::move(registry)), store_(std::move(store)), progress_(std::move(progress)) {
    for (backend::Backend* backend : registry_->backends()) {
        std::shared_ptr<backend::Cache> cache;
        if (backends_store->enabled()) cache = std::make_shared<cache::BackendCache>(backends_store, std::string(backend->name()));
        caches_.emplace_back(backend, std::move(cache));
    }
}

void Deployer::lend_cache() {
    for (const auto& [backend, cache] : caches_) backend->use_cache(cache);
}

Hardware Deployer::hardware(bool refresh) { return registry_->discover(refresh); }

ModelProfile Deployer::inspect(const ModelSource& source) {
    const graph::Located located = graph::locate(source);
    try {
        return graph::analyse(located, graph::read_model(located, {.progress = progress_}));
    } catch (const Error& error) {
        // A file that no reader converts is still described from its own operator list.
        if (error.code() != ErrorCode::unimplemented && error.code() != ErrorCode::unavailable) throw;
        ModelProfile profile = graph::analyse_file(located);
        profile.notes.push_back(error.what());
        return profile;
    }
}

std::vector<CandidateOutline> Deployer::outlines(const ModelSource& source, const Constraints& constraints) {
    lend_cache();
    const graph::Located located = graph::locate(source);
    const backend::Model model = graph::read_model(located, {.progress = progress_});
    check_shape_names(constraints, model.inputs);
    const ModelProfile profile = graph::analyse(located, model, constraints.input_shapes);
    const std::vector<Shape> shapes = shapes_of(calibration_sets(constraints, model.inputs, profile, 1).front());
    std::vector<CandidateOutline> all;
    for (const DeviceInfo& device : hardware().devices) {
        for (const DeviceRoute& route : device.routes) {
            const auto named = [](const std::vector<std::string>& names, const std::string& name) {
                return names.empty() || std::ranges::find(names, name) != names.end();
            };
            if (!named(constraints.engines, route.backend) || !named(constraints.devices, device.id)) continue;
            for (const Precision precision : {Precision::f32, Precision::f16, Precision::bf16}) {
                if (constraints.precision != Precision::automatic && constraints.precision != precision) continue;
                if (std::ranges::find(route.precisions, to_string(precision)) == route.precisions.end()) continue;
                CandidateOutline outline{route.backend, device.id, std::string(to_string(precision)), {}, {}, {}};
                const backend::CompileConfig config{.device = route.backend_device, .precision = precision, .typical_shapes = shapes};
                backend::Backend* const engine = registry_->find(route.backend);
                try {
                    if (const backend::Support support = engine->supports(model, config); !support.supported)
                        throw Error(ErrorCode::unimplemented, ErrorCategory::compilation, support.reason);
                    backend::Outline made = engine->outline(model, config);
                    outline.memory = made.memory;
                    outline.steps = std::move(made.text);
                } catch (const Error& error) {
                    outline.reason = error.what();
                }
                all.push_back(std::move(outline));
            }
        }
    }
    return all;
}

Deployed Deployer::deploy(const ModelSource& source, const Constraints& constraints, int thread_budget) {
    const Clock::time_point start = Clock::now();
    lend_cache();
    const auto report = [&](const char* stage, double fraction) {
        if (progress_) progress_(stage, fraction);
    };
    report("read", 0.0);
    Job job{.constraints = constraints,
            .thread_budget = thread_budget,
            .step_start = start,
            .located = {},
            .hardware = hardware(),
            .routes = {},
            .key = {},
            .out = {},
            .check_outputs = {},
            .preparations = {}};
    std::set<std::pair<std::string, std::string>> alike;  // one of several devices of a kind: more may not be needed
    const auto allowed = [&](const std::string& engine, const DeviceInfo& device) {
        return any_has_part(constraints.engines, engine) && any_has_part(constraints.devices, device.id) && alike.emplace(engine, device.name).second;
    };
    const bool certain = constraints.engines.size() == 1 || constraints.devices.size() == 1;
    if (certain) prepare_devices(job, allowed);  // it will be needed whatever the cache says
    job.located = graph::locate(source);
    job.step("locate");
    for (const DeviceInfo& device : job.hardware.devices) {
        for (const DeviceRoute& route : device.routes) job.routes[{route.backend, device.id}] = route.backend_device;
    }
    if (job.routes.empty()) {
        std::string reasons;
        for (const BackendReport& backend : job.hardware.backends) reasons += (reasons.empty() ? "" : "; ") + backend.name + ": " + backend.reason;
        throw Error(ErrorCode::unavailable, ErrorCategory::system, "no backend could be loaded",
                    {.expected = "at least one", .found = reasons.empty() ? "none installed" : reasons, .advice = "run `vmm doctor`"});
    }
    job.key = {{"kind", "deployment"},
               {"format", std::to_string(kArtifactVersion)},
               {"library", std::string(version())},
               {"build", build_fingerprint(job.hardware)},
               {"model", job.located.content_hash},
               {"name", job.located.name},
               {"hardware", hardware_fingerprint(job.hardware)},
               {"constraints", constraints_key(constraints, thread_budget)}};
    job.out.stages = new_stages(job);
    if (!restore(job)) {
        if (!certain) prepare_devices(job, allowed);
        build(job);
        store(job);
        job.step("store");
    }
    job.out.engine_version = job.out.stages->engine_version(job.out.plan.chosen);
    job.out.stages->drop_model();
    job.out.total_ms = ms_since(start);
    report("ready", 1.0);
    return std::move(job.out);
}

std::shared_ptr<ModelStages> Deployer::new_stages(const Job& job) const {
    return std::make_shared<ModelStages>(registry_, job.located, job.routes, job.constraints.goal == Goal::throughput);
}

template <typename Wanted>
void Deployer::prepare_devices(Job& job, const Wanted& wanted) {
    for (const DeviceInfo& device : job.hardware.devices) {
        if (device.kind == DeviceKind::cpu) continue;  // there is nothing to open
        for (const DeviceRoute& route : device.routes) {
            if (!wanted(route.backend, device)) continue;
            backend::Backend* const backend = registry_->find(route.backend);
            if (backend == nullptr) continue;
            try {
                job.preparations.push_back(std::async(std::launch::async, [backend, name = route.backend_device] { backend->prepare(name); }));
            } catch (const std::system_error&) {  // no thread: it is opened when it is needed
            }
        }
    }
}

bool Deployer::restore(Job& job) {
    const std::optional<cache::Artifact> artifact = store_->find(job.key);
    if (!artifact) return false;
    Deployed& out = job.out;
    const std::vector<std::pair<std::string, double>> steps_before = out.steps_ms;
    const Clock::time_point start = job.step_start;
    const std::string* blob = artifact->find("blob");
    std::optional<std::vector<Tensor>> check;
    std::size_t check_set = 0;
    try {
        const std::string* plan = artifact->find("plan.json");
        const std::string* model = artifact->find("model.json");
        if (plan == nullptr || model == nullptr) throw Error(ErrorCode::data_loss, ErrorCategory::runtime, "it lacks its plan or its description");
        out.plan = planning::plan_from_json(*plan);
        prepare_devices(job, [&](const std::string& engine, const DeviceInfo& device) {
            return has_part(out.plan.chosen.engine, engine) && has_part(out.plan.chosen.device, device.id);
        });
        const Json json = Json::parse(*model);
        out.profile = profile_from_json(json.at("profile"));
        out.inputs = tensor_infos_from_json(json.at("inputs"));
        out.outputs = tensor_infos_from_json(json.at("outputs"));
        json.at("reference").get_to(out.reference_note);
        json.at("check_set").get_to(check_set);
        backend::Model light;
        light.format = job.located.format;
        light.path = job.located.path;
        light.bytes = job.located.bytes;
        light.name = job.located.name;
        light.content_hash = job.located.content_hash;
        light.inputs = out.inputs;
        light.outputs = out.outputs;
        json.at("graph_inputs").get_to(light.graph_inputs);
        json.at("graph_outputs").get_to(light.graph_outputs);
        if (const std::string* packed = artifact->find("check")) check = unpack_tensors(*packed);
        std::vector<std::vector<Tensor>> sets;
        if (undecided_shape_inputs(out.profile, job.constraints).empty()) {
            sets = calibration_sets(job.constraints, out.inputs, out.profile,
                                    check ? static_cast<int>(std::min<std::size_t>(check_set + 1, kCalibrationSets)) : 1);
            out.stages->set_typical_shapes(shapes_of(sets.front()));  // what isn't imported is compiled as it was when it was measured
        }
        job.step("cache");
        for (const planning::Verdict& verdict : out.plan.verdicts) {
            const planning::Candidate& candidate = verdict.candidate;
            if (!candidate.stages.empty()) out.stages->set_cut(candidate.key.engine, candidate.key.device, candidate.stages);
        }
        if (blob != nullptr) {
            out.chosen = out.stages->import_stage(out.plan.chosen, bytes_of(*blob), light);  // one that can't be imported is rebuilt below
            out.imported = true;
        }
        if (!out.chosen) out.chosen = out.stages->make(out.plan.chosen);
        job.step(out.imported ? "import" : "compile");
        if (check) {
            // Proves that what was restored still computes what was verified; warms the first slot up as well.
            runtime::TuneRequest request{.outputs = &out.outputs, .tolerance = optimization::tolerance_for(out.profile, out.outputs)};
            if (check_set < sets.size()) {
                request.calibration = {std::move(sets[check_set])};
                CandidateKey single = out.plan.chosen;
                single.batch = 1;
                const planning::Outcome outcome = runtime::verify(single, out.chosen, request, {*check}, *out.stages);
                if (!outcome.compiled || !outcome.agrees) {
                    throw Error(ErrorCode::data_loss, ErrorCategory::runtime,
                                "the restored executable does not give the verified outputs: " + outcome.failure + outcome.disagreement);
                }
            }
            job.step("verify");
        }
    } catch (const std::exception& error) {
        base::log_warning("the cached deployment of '" + job.located.name + "' is rebuilt: " + error.what());
        store_->erase(job.key);
        // Nothing of the entry may show in what is built instead, but the time that it took.
        out = {};
        out.stages = new_stages(job);
        out.steps_ms = steps_before;
        job.step_start = start;
        job.step("cache");
        return false;
    }
    out.batchable = is_batchable(out.inputs, out.outputs, out.profile.stateful);
    out.plan_from_cache = true;
    return true;
}

planning::PlanRequest Deployer::plan_request(Job& job) {
    const std::shared_ptr<const backend::Model> model = job.out.stages->model();
    planning::PlanRequest request;
    request.constraints = job.constraints;
    request.thread_budget = job.thread_budget;
    request.bias = load_bias();
    const ModelProfile& profile = job.out.profile;
    request.model = {.flops = static_cast<double>(profile.flops),
                     .bytes_moved = static_cast<double>(profile.bytes_moved),
                     .parameter_bytes = profile.parameter_bytes,
                     .activation_bytes = profile.activation_bytes,
                     .nodes = static_cast<int>(profile.nodes.size()),
                     .batchable = job.out.batchable,
                     .stateful = profile.stateful};
    const DeviceScores host = hal::measure_host_scores();
    for (const DeviceInfo& device : job.hardware.devices) {
        for (const DeviceRoute& from : device.routes) {
            planning::Route route;
            route.engine = from.backend;
            route.device = device.id;
            route.kind = std::string(to_string(device.kind));
            route.vendor = device.vendor;
            route.model = device.name;
            const bool is_host = device.kind == DeviceKind::cpu;
            const double f32 = is_host ? host.f32_gflops : device.scores.f32_gflops > 0 ? device.scores.f32_gflops : default_gflops(device.kind);
            for (const std::string& name : from.precisions) {
                const auto precision = precision_from_string(name);
                if (!precision || *precision == Precision::automatic) continue;
                route.gflops[*precision] = *precision == Precision::f32 ? f32 : 2 * f32;
            }
            route.memory_bandwidth_gb_s = is_host ? host.memory_bandwidth_gb_s : default_bandwidth(device.kind);
            const EngineCosts costs = costs_of(from.backend);
            route.call_overhead_us = costs.call_us;
            route.node_overhead_us = costs.node_us;
            route.efficiency = costs.efficiency;
            route.max_threads = is_host ? std::max(device.compute_units, 1) : 1;
            route.memory_free_bytes = device.memory_free_bytes;
            if (!is_host && !any_has_part(request.constraints.engines, from.backend)) {
                route.supported = true;  // the selection rules it out, whatever it runs
                request.routes.push_back(std::move(route));
                continue;
            }
            try {
                backend::Backend* backend = registry_->find(from.backend);
                const backend::Support support = backend->supports(*model, {.device = from.backend_device, .precision = Precision::f32});
                route.supported = support.supported;
                route.reason = support.reason;
            } catch (const std::exception& error) {
                route.supported = false;
                route.reason = error.what();
            }
            request.routes.push_back(std::move(route));
        }
    }
    if (job.constraints.goal == Goal::throughput || job.constraints.min_throughput_per_s) {
        for (planning::Route& route : planning::replica_routes(request.routes)) request.routes.push_back(std::move(route));
    }
    // The format's own runtime is believed where engines differ and nothing else decides: it comes first.
    if (job.located.format == ModelFormat::onnx) {
        std::ranges::stable_sort(request.routes, {}, [](const planning::Route& route) { return route.engine == "onnxruntime" ? 0 : 1; });
    }
    return request;
}

namespace {

/// A model's groups with the analyser's figures.
planning::CostGraph cost_graph(const graph::Cutter& cutter, const ModelProfile& profile) {
    std::map<std::string, const NodeProfile*> profiled;
    for (const NodeProfile& node : profile.nodes) profiled.emplace(node.name, &node);
    planning::CostGraph costs;
    for (const graph::CutGroup& group : cutter.groups()) {
        planning::CostNode node{.operations = static_cast<int>(group.nodes.size()), .open_shape = group.open_shape};
        for (const std::string& name : group.nodes) {
            const auto found = profiled.find(name);
            if (found == profiled.end()) continue;
            node.flops += static_cast<double>(found->second->flops);
            node.bytes_moved += static_cast<double>(found->second->bytes_read + found->second->bytes_written);
        }
        costs.nodes.push_back(node);
    }
    for (const graph::CutTensor& tensor : cutter.tensors()) {
        costs.tensors.push_back({.producer = tensor.producer,
                                 .consumers = tensor.consumers,
                                 .bytes = tensor.bytes,
                                 .output = tensor.output,
                                 .open_shape = tensor.open_shape});
    }
    return costs;
}

planning::NodeSet node_set(const graph::Cutter& cutter, const backend::NodeSupport& support) {
    std::map<std::string, std::string> refused;
    for (const backend::NodeSupport::Refusal& refusal : support.refusals) refused.emplace(refusal.node, refusal.reason);
    planning::NodeSet set;
    for (const graph::CutGroup& group : cutter.groups()) {
        set.runs.push_back(support.any);
        set.reason.push_back(support.reason);
        for (const std::string& name : group.nodes) {
            const auto found = refused.find(name);
            if (found == refused.end()) continue;
            set.runs.back() = false;
            set.reason.back() = found->second;
            break;
        }
    }
    return set;
}

/// Takes what a backend refuses of a stage out of `set`: the nodes that it names, else all of the stage.
void take_out(const graph::Cutter& cutter, const planning::PlannedStage& stage, const backend::Support& support, planning::NodeSet& set) {
    const auto refused = [&](const std::string& node) {
        return std::ranges::any_of(support.unsupported_nodes, [&](const std::string& text) { return text == node || text.ends_with(" " + node); });
    };
    bool found = false;
    for (const bool all : {false, true}) {
        for (int n : stage.nodes) {
            const auto at = static_cast<std::size_t>(n);
            if (!set.runs[at] || (!all && std::ranges::none_of(cutter.groups()[at].nodes, refused))) continue;
            set.runs[at] = false;
            set.reason[at] = support.reason;
            found = true;
        }
        if (found) return;
    }
}

}  // namespace

/// Adds routes for the model cut between accelerators that do not take it whole and processors. What backends say of nodes is held against what they
/// say of the stages that come of it.
void Deployer::add_cuts(Job& job, planning::PlanRequest& request) {
    const std::shared_ptr<const backend::Model> model = job.out.stages->model();
    const auto wanted = [&](const planning::Route& route) {
        const bool cpu = route.kind == to_string(DeviceKind::cpu);
        return any_has_part(job.constraints.engines, route.engine) && (cpu || !route.supported);
    };
    const auto count = [&](bool cpu) {
        return std::ranges::count_if(
            request.routes, [&](const planning::Route& route) { return wanted(route) && (route.kind == to_string(DeviceKind::cpu)) == cpu; });
    };
    if (!model->graph || count(true) == 0 || count(false) == 0) return;
    const std::size_t whole = request.routes.size();
    try {
        const graph::Cutter cutter(*model, job.out.stages->typical_shapes());
        const planning::CostGraph costs = cost_graph(cutter, job.out.profile);
        std::map<std::pair<std::string, std::string>, planning::NodeSet> runs;
        for (const planning::Route& route : request.routes) {
            if (!wanted(route)) continue;
            const backend::CompileConfig config = job.out.stages->config_for({.engine = route.engine, .device = route.device});
            runs[{route.engine, route.device}] = node_set(cutter, registry_->find(route.engine)->node_support(*model, config));
        }
        constexpr int kMostRounds = 32;
        for (int round = 0;; ++round) {
            request.routes.resize(whole);
            if (round == kMostRounds) return;
            planning::add_cut_routes(request.routes, costs, runs);
            bool refused = false;
            for (std::size_t r = whole; r < request.routes.size(); ++r) {
                const planning::Route& route = request.routes[r];
                if (!route.supported) continue;
                std::vector<int> stage_of(cutter.groups().size());
                for (std::size_t s = 0; s < route.stages.size(); ++s) {
                    for (int n : route.stages[s].nodes) stage_of[static_cast<std::size_t>(n)] = static_cast<int>(s);
                }
                const graph::Cut cut = cutter.cut(stage_of);
                for (std::size_t s = 0; s < route.stages.size(); ++s) {
                    const planning::PlannedStage& stage = route.stages[s];
                    backend::CompileConfig config = job.out.stages->config_for({.engine = stage.engine, .device = stage.device});
                    config.typical_shapes.clear();
                    const backend::Support support = registry_->find(stage.engine)->supports(cut.stages[s].model, config);
                    if (support.supported) continue;
                    take_out(cutter, stage, support, runs[{stage.engine, stage.device}]);
                    refused = true;
                }
            }
            if (!refused) break;
        }
        for (std::size_t r = whole; r < request.routes.size(); ++r) {
            const planning::Route& route = request.routes[r];
            if (route.supported) job.out.stages->set_cut(route.engine, route.device, route.stages);
        }
    } catch (const Error& error) {
        request.routes.resize(whole);
        base::log_debug("'" + job.located.name + "' is not cut: " + error.message());
    }
}

void Deployer::build(Job& job) {
    Deployed& out = job.out;
    const std::shared_ptr<const backend::Model> model = out.stages->model();
    out.inputs = model->inputs;
    out.outputs = model->outputs;
    check_shape_names(job.constraints, out.inputs);
    job.step("read");
    out.profile = graph::analyse(job.located, *model, job.constraints.input_shapes);
    out.batchable = is_batchable(out.inputs, out.outputs, out.profile.stateful);
    job.step("analyse");

    std::vector<std::vector<Tensor>> calibration = calibration_sets(job.constraints, out.inputs, out.profile);
    const std::vector<std::string> deciding = undecided_shape_inputs(out.profile, job.constraints);
    if (!deciding.empty()) calibration.clear();  // engines trust such values; generated ones could end the process
    if (!calibration.empty()) out.stages->set_typical_shapes(shapes_of(calibration.front()));
    planning::PlanRequest request = plan_request(job);
    add_cuts(job, request);
    std::vector<planning::Candidate> candidates = planning::enumerate_candidates(request);
    const bool predict_only = job.constraints.tune.count() == 0;
    if (predict_only && job.constraints.precision == Precision::automatic) {
        for (planning::Candidate& candidate : candidates) {
            if (candidate.rejected || candidate.key.precision == Precision::f32) continue;
            candidate.rejected = true;
            candidate.to_measure = false;
            candidate.reason = "not measured, so its agreement with f32 is not proved";
        }
    }
    if (std::ranges::none_of(request.routes, &planning::Route::supported)) {
        std::string reasons;
        for (const planning::Route& route : request.routes)
            reasons += (reasons.empty() ? "" : "; ") + route.engine + " on " + route.device + ": " + route.reason;
        throw Error(ErrorCode::unimplemented, ErrorCategory::compilation, "no engine runs the model '" + job.located.name + "'",
                    {.expected = {}, .found = reasons, .advice = "convert the model to another format, or replace the operations named"});
    }

    runtime::TuneRequest tune{.outputs = &out.outputs,
                              .candidates = candidates,
                              .calibration = std::move(calibration),
                              .tolerance = optimization::tolerance_for(out.profile, out.outputs),
                              .budget = job.constraints.tune,
                              .accept_lossy = job.constraints.precision != Precision::automatic,
                              .throughput = job.constraints.goal == Goal::throughput,
                              .oracle = make_oracle(*model),
                              .progress = progress_};
    for (const DeviceInfo& device : job.hardware.devices) {
        if (device.kind == DeviceKind::cpu) tune.processors.push_back(device.id);
    }
    const auto add_references = [&](bool excluded_too) {
        for (const planning::Route& route : request.routes) {
            const bool excluded =
                !job.constraints.engines.empty() && std::ranges::find(job.constraints.engines, route.engine) == job.constraints.engines.end();
            if (!route.supported || (excluded && !excluded_too) || route.kind != to_string(DeviceKind::cpu) || !route.gflops.contains(Precision::f32))
                continue;
            tune.reference_keys.push_back({route.engine, route.device, Precision::f32, std::min(job.thread_budget, route.max_threads), 1, 1});
        }
    };
    add_references(false);
    // Whoever wants accelerators alone is promised the same: lossy precisions are held against what the processor computes in f32, though nothing
    // will run there. An f32 that the caller asked for is not refused for what an engine makes of it that was not asked for.
    if (tune.reference_keys.empty()) {
        add_references(true);
        tune.foreign_reference = !tune.reference_keys.empty();
    }
    runtime::TuneResult tuned;
    if (predict_only) {
        tuned.reference.assign(tune.calibration.size(), {});
        tuned.reference_note = "not compared: no time was given for measuring";
    } else {
        tuned = runtime::tune(tune, *out.stages);
        if (!tuned.failure.empty() && inputs_must_run(job.constraints, out.inputs)) {
            throw Error(ErrorCode::invalid_argument, ErrorCategory::input, "the model '" + job.located.name + "' fails on every input that was tried",
                        {.expected = "a model that runs on inputs of the shapes and types that it declares",
                         .found = tuned.failure,
                         .advice = "check the shapes of its weights; if it wants particular values, give some as `calibration`"});
        }
    }
    out.reference_note = tuned.reference_note;
    if (!deciding.empty()) {
        out.reference_note =
            "not compared: the values of input '" + deciding.front() + "' decide shapes, so none were made up; give some as `calibration`";
    }
    const bool compared = std::ranges::any_of(tuned.reference, [](const std::vector<Tensor>& set) { return !set.empty(); });
    if (!compared && job.located.format == ModelFormat::onnx && registry_->find("onnxruntime") != nullptr) request.trusted_engine = "onnxruntime";

    // The choice must be compiled and verified; if that fails the next best is.
    for (;;) {
        out.plan = planning::decide(request, candidates, tuned.outcomes);
        if (!out.plan.feasible) {
            // Not a constraint but the engines: nothing compiled.
            if (!tuned.outcomes.empty() && std::ranges::none_of(tuned.outcomes, &planning::Outcome::compiled)) {
                std::string reasons;
                std::set<std::string> told;
                for (const planning::Outcome& outcome : tuned.outcomes) {
                    if (told.insert(outcome.key.engine).second)
                        reasons += (reasons.empty() ? "" : "; ") + outcome.key.engine + ": " + outcome.failure;
                }
                for (const planning::Route& route : request.routes) {
                    if (!route.supported && told.insert(route.engine).second) reasons += "; " + route.engine + ": " + route.reason;
                }
                // An engine that reads the file itself tells what it lacks from what is wrong with the file.
                const bool invalid = job.located.format == ModelFormat::onnx && std::ranges::any_of(tuned.outcomes, [](const planning::Outcome& o) {
                                         return o.failure_code == ErrorCode::invalid_argument;
                                     });
                if (invalid) {
                    throw Error(ErrorCode::invalid_argument, ErrorCategory::input, "the model '" + job.located.name + "' is not valid",
                                {.expected = "a valid ONNX model",
                                 .found = reasons,
                                 .advice = "get the file again, or export the model again; onnx.checker.check_model() in Python tells more"});
                }
                throw Error(ErrorCode::unimplemented, ErrorCategory::compilation, "no engine runs the model '" + job.located.name + "'",
                            {.expected = {}, .found = reasons, .advice = "convert the model to another format, or replace the operations named"});
            }
            throw Error(ErrorCode::failed_precondition, ErrorCategory::performance, out.plan.refusal,
                        {.expected = {},
                         .found = {},
                         .advice = out.plan.nearest_offer.empty() ? "see `vmm plan`" : "nearest offer: " + out.plan.nearest_offer});
        }
        std::shared_ptr<runtime::Stage>& stage = tuned.stages[out.plan.chosen];
        const bool known = std::ranges::any_of(tuned.outcomes, [&](const planning::Outcome& o) { return o.key == out.plan.chosen; });
        if (known && stage) break;
        planning::Outcome outcome = runtime::verify(out.plan.chosen, stage, tune, tuned.reference, *out.stages);
        if (known) std::erase_if(tuned.outcomes, [&](const planning::Outcome& o) { return o.key == out.plan.chosen; });
        const bool usable = outcome.compiled && outcome.agrees && stage;
        tuned.outcomes.push_back(std::move(outcome));
        if (usable) break;
    }
    out.chosen = tuned.stages[out.plan.chosen];
    if (!predict_only) learn_bias(candidates, tuned.outcomes);
    for (std::size_t i = 0; i < tuned.reference.size() && job.check_outputs.empty(); ++i) {
        std::size_t bytes = 0;
        for (const Tensor& tensor : tuned.reference[i]) bytes += tensor.size_bytes();
        if (!tuned.reference[i].empty() && bytes <= kMaxCheckBytes) {
            job.check_outputs.resize(i + 1);
            // What differs from the reference and was admitted all the same (a precision that was forced, an engine held against excluded ones) must
            // give again what it gave.
            const auto outcome = std::ranges::find(tuned.outcomes, out.plan.chosen, &planning::Outcome::key);
            const bool differs = outcome != tuned.outcomes.end() && !outcome->disagreement.empty();
            job.check_outputs[i] = differs ? runtime::run_once(*out.chosen, tune.calibration[i], out.outputs.size()) : std::move(tuned.reference[i]);
        }
    }
    job.step("tune");
}

void Deployer::store(const Job& job) {
    if (!store_->enabled()) return;
    const Deployed& out = job.out;
    const std::shared_ptr<const backend::Model> model = out.stages->model();
    base::PieceBuffer written;
    std::ostream blob(&written);
    bool exported = false;
    try {
        out.chosen->executable().export_blob(blob);
        exported = true;
    } catch (const Error& error) {
        base::log_debug("not exported: " + error.message());
    }
    std::size_t check_set = 0;
    std::string check;
    for (std::size_t i = 0; i < job.check_outputs.size(); ++i) {
        if (job.check_outputs[i].empty()) continue;
        check = pack_tensors(job.check_outputs[i]);
        check_set = i;
    }
    const std::string plan = planning::to_json(out.plan);
    const std::string description = Json{
        {"profile", profile_to_json(out.profile)},
        {"inputs", tensor_infos_to_json(out.inputs)},
        {"outputs", tensor_infos_to_json(out.outputs)},
        {"graph_inputs", model->graph_inputs},
        {"graph_outputs", model->graph_outputs},
        {"reference", out.reference_note},
        {"check_set", check_set}}.dump(-1, ' ', false, Json::error_handler_t::replace);
    std::vector<cache::NewPart> parts{{"plan.json", bytes_of(plan)}, {"model.json", bytes_of(description)}};
    if (exported) parts.emplace_back("blob", written.pieces());
    if (!check.empty()) parts.emplace_back("check", bytes_of(check));
    store_->put(job.key, job.located.name, parts);
}

std::map<std::string, double> Deployer::load_bias() {
    std::map<std::string, double> bias;
    const std::optional<cache::Artifact> artifact =
        store_->find({{"kind", "calibration"}, {"hardware", hardware_fingerprint(registry_->discover())}});
    if (!artifact) return bias;
    if (const std::string* text = artifact->find("bias.json")) {
        const Json json = Json::parse(*text, nullptr, false);
        if (!json.is_object()) return bias;
        for (const auto& [engine, value] : json.items()) {
            if (value.is_number() && value.get<double>() > 0 && std::isfinite(value.get<double>())) bias[engine] = value.get<double>();
        }
    }
    return bias;
}

void Deployer::learn_bias(const std::vector<planning::Candidate>& candidates, const std::vector<planning::Outcome>& outcomes) {
    // Moving average of measured / predicted in the logarithm; predictions already hold the old bias.
    std::map<std::string, double> bias = load_bias();
    bool changed = false;
    for (const planning::Outcome& outcome : outcomes) {
        const auto candidate = std::ranges::find(candidates, outcome.key, &planning::Candidate::key);
        if (candidate == candidates.end() || !outcome.latency_ms || *outcome.latency_ms <= 0 || candidate->predicted_latency_ms <= 0) continue;
        double& value = bias.try_emplace(planning::bias_key(outcome.key.engine, outcome.key.device), 1.0).first->second;
        value = std::clamp(value * std::pow(*outcome.latency_ms / candidate->predicted_latency_ms, 0.1), 0.05, 20.0);
        changed = true;
    }
    if (!changed) return;
    const std::string text = Json(bias).dump();
    store_->put({{"kind", "calibration"}, {"hardware", hardware_fingerprint(registry_->discover())}}, "calibration", {{"bias.json", bytes_of(text)}});
}

Explanation explain(const Deployed& deployed, int columns) {
    Explanation explanation;
    explanation.text = planning::to_text(deployed.plan, columns);
    explanation.text += "\n" + planning::labelled_text("reference", deployed.reference_note, columns);
    if (deployed.plan_from_cache)
        explanation.text += planning::labelled_text("from cache", "measured at an earlier deployment on this machine", columns);
    const Json json{{"model", {{"name", deployed.profile.name}, {"category", to_string(deployed.profile.category)}}},
                    {"plan", Json::parse(planning::to_json(deployed.plan))},
                    {"reference", deployed.reference_note},
                    {"engine_version", deployed.engine_version},
                    {"from_cache", deployed.plan_from_cache}};
    explanation.json = json.dump(-1, ' ', false, Json::error_handler_t::replace);
    return explanation;
}

}  // namespace ai_vmm
