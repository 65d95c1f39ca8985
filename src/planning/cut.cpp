// SPDX-License-Identifier: Apache-2.0
/// Which part of a model runs on an accelerator that does not run all of it.
#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <set>

#include "planning/planner.hpp"
#include "planning/predict.hpp"

namespace ai_vmm::planning {
namespace {

enum Place : int { kAccelerator = 0, kProcessor = 1 };

// An accelerator's program is made for shapes: one that it has not seen yet is planned and perhaps compiled anew.
constexpr double kReplanUs = 2e5;
constexpr std::size_t kMostStages = 64;  // each is an executable of its own

/// One side of a cut, and the nodes in it.
struct Cuts {
    const CostGraph& graph;
    const Route& accelerator;
    const Route& processor;
    std::vector<std::vector<int>> reads;  ///< per node: the tensors it reads

    /// Stages of a placement: nodes that are ready and on the same side run together, as many as there are, beginning on `first`.
    [[nodiscard]] std::vector<std::pair<Place, std::vector<int>>> stages(const std::vector<Place>& place, Place first) const {
        std::vector<std::pair<Place, std::vector<int>>> result;
        std::vector<bool> done(graph.nodes.size());
        std::size_t left = graph.nodes.size();
        for (Place side = first; left > 0; side = side == kAccelerator ? kProcessor : kAccelerator) {
            std::vector<int> stage;
            for (std::size_t n = 0; n < graph.nodes.size(); ++n) {  // in order: what becomes ready on the way comes later
                if (done[n] || place[n] != side) continue;
                const bool ready = std::ranges::all_of(reads[n], [&](int t) {
                    const int from = graph.tensors[static_cast<std::size_t>(t)].producer;
                    return from < 0 || done[static_cast<std::size_t>(from)];
                });
                if (!ready) continue;
                done[n] = true;
                --left;
                stage.push_back(static_cast<int>(n));
            }
            if (!stage.empty()) result.emplace_back(side, std::move(stage));
        }
        return result;
    }

    [[nodiscard]] std::vector<PlannedStage> planned(const std::vector<Place>& place) const {
        auto best = stages(place, kProcessor);
        if (auto other = stages(place, kAccelerator); other.size() < best.size()) best = std::move(other);
        std::vector<int> stage_of(graph.nodes.size());
        for (std::size_t s = 0; s < best.size(); ++s) {
            for (int n : best[s].second) stage_of[static_cast<std::size_t>(n)] = static_cast<int>(s);
        }
        std::vector<PlannedStage> result(best.size());
        for (std::size_t s = 0; s < best.size(); ++s) {
            const Route& route = best[s].first == kAccelerator ? accelerator : processor;
            result[s].engine = route.engine;
            result[s].device = route.device;
            for (int n : best[s].second) {
                const CostNode& node = graph.nodes[static_cast<std::size_t>(n)];
                result[s].operations += node.operations;
                result[s].flops += node.flops;
                result[s].bytes_moved += node.bytes_moved;
            }
            result[s].nodes = std::move(best[s].second);
        }
        for (const CostTensor& tensor : graph.tensors) {
            if (tensor.producer < 0) continue;
            const int from = stage_of[static_cast<std::size_t>(tensor.producer)];
            std::set<int> to;
            for (int reader : tensor.consumers) {
                const int stage = stage_of[static_cast<std::size_t>(reader)];
                if (stage != from && to.insert(stage).second) result[static_cast<std::size_t>(stage)].bytes_in += tensor.bytes;
            }
            if (!to.empty()) result[static_cast<std::size_t>(from)].bytes_out += tensor.bytes;
        }
        return result;
    }

    /// Predicted microseconds of one execution, and what an accelerator pays for shapes it can't know.
    [[nodiscard]] double cost_us(const std::vector<PlannedStage>& planned) const {
        const std::vector<Route> routes{accelerator, processor};
        Route whole = accelerator;
        whole.stages = planned;
        Candidate candidate;
        candidate.key.threads = processor.max_threads;
        predict_stages({}, routes, whole, 1, candidate);
        double cost = candidate.predicted_latency_ms * 1e3;
        for (const PlannedStage& stage : planned) {
            if (stage.device == processor.device && stage.engine == processor.engine) continue;
            const bool open = std::ranges::any_of(stage.nodes, [&](int n) {
                return graph.nodes[static_cast<std::size_t>(n)].open_shape || std::ranges::any_of(reads[static_cast<std::size_t>(n)], [&](int t) {
                           return graph.tensors[static_cast<std::size_t>(t)].open_shape;
                       });
            });
            if (open) cost += kReplanUs;
        }
        return cost;
    }
};

Route refused(Route route, std::string reason) {
    route.supported = false;
    route.reason = std::move(reason);
    return route;
}

std::string share_of(double part, double whole) { return fmt::format("{:.0f} % of the arithmetic", whole > 0 ? 100 * part / whole : 0); }

}  // namespace

Route cut_route(const CostGraph& graph, const Route& accelerator, const NodeSet& on_accelerator, const Route& processor,
                const NodeSet& on_processor) {
    Route route = accelerator;
    route.engine += "+" + processor.engine;
    route.device += "+" + processor.device;
    route.supported = true;
    route.reason.clear();
    route.max_threads = processor.max_threads;
    route.active_power_w.reset();  // two devices are under load
    const std::size_t count = graph.nodes.size();
    const auto runs = [](const NodeSet& set, std::size_t n) { return n < set.runs.size() && set.runs[n]; };
    const auto why_not = [](const NodeSet& set, std::size_t n) { return n < set.reason.size() ? set.reason[n] : std::string(); };

    Cuts cuts{graph, accelerator, processor, std::vector<std::vector<int>>(count)};
    for (std::size_t t = 0; t < graph.tensors.size(); ++t) {
        for (int reader : graph.tensors[t].consumers) cuts.reads[static_cast<std::size_t>(reader)].push_back(static_cast<int>(t));
    }
    // As much as possible on the accelerator, once with and once without what lies behind open shapes.
    std::vector<Place> shaped(count, kProcessor), everything(count, kProcessor);
    std::vector<bool> open(count);
    for (std::size_t n = 0; n < count; ++n) {
        open[n] = graph.nodes[n].open_shape;
        for (int t : cuts.reads[n]) {
            const int from = graph.tensors[static_cast<std::size_t>(t)].producer;
            open[n] = open[n] || graph.tensors[static_cast<std::size_t>(t)].open_shape || (from >= 0 && open[static_cast<std::size_t>(from)]);
        }
        if (!runs(on_accelerator, n)) {
            if (!runs(on_processor, n)) return refused(std::move(route), "an operation runs on neither: " + why_not(on_processor, n));
            continue;
        }
        everything[n] = kAccelerator;
        if (!open[n] || !runs(on_processor, n)) shaped[n] = kAccelerator;
    }
    const auto any = [](const std::vector<Place>& place) { return std::ranges::find(place, kAccelerator) != place.end(); };
    std::vector<Place> place = shaped;
    if (!any(shaped) || (everything != shaped && cuts.cost_us(cuts.planned(everything)) < cuts.cost_us(cuts.planned(shaped)))) place = everything;
    if (!any(place)) return refused(std::move(route), fmt::format("{} runs none of its operations on {}", accelerator.engine, accelerator.device));

    // A stage of the accelerator that does not pay for its transfers goes back, the least worthwhile first.
    std::vector<PlannedStage> planned = cuts.planned(place);
    double cost = cuts.cost_us(planned);
    for (std::size_t round = 0; round < kMostStages; ++round) {
        std::vector<Place> best_place;
        double best_cost = planned.size() > kMostStages ? 1e300 : cost;
        for (const PlannedStage& stage : planned) {
            if (stage.engine != accelerator.engine || stage.device != accelerator.device) continue;
            std::vector<Place> tried = place;
            for (int n : stage.nodes) {
                if (runs(on_processor, static_cast<std::size_t>(n))) tried[static_cast<std::size_t>(n)] = kProcessor;
            }
            if (tried == place || !any(tried)) continue;
            const double tried_cost = cuts.cost_us(cuts.planned(tried));
            if (tried_cost < best_cost) best_cost = tried_cost, best_place = std::move(tried);
        }
        if (best_place.empty()) break;
        place = std::move(best_place);
        planned = cuts.planned(place);
        cost = cuts.cost_us(planned);
    }
    if (planned.size() > kMostStages) return refused(std::move(route), fmt::format("it would take {} stages", planned.size()));

    double flops = 0;
    for (const CostNode& node : graph.nodes) flops += node.flops;
    for (PlannedStage& stage : planned) {
        if (stage.engine == accelerator.engine && stage.device == accelerator.device) {
            stage.reason = fmt::format("{} runs it, {}", accelerator.engine, share_of(stage.flops, flops));
            continue;
        }
        const auto first = std::ranges::find_if(stage.nodes, [&](int n) { return !runs(on_accelerator, static_cast<std::size_t>(n)); });
        if (first != stage.nodes.end()) {
            const std::string why = why_not(on_accelerator, static_cast<std::size_t>(*first));
            const auto others = std::ranges::count_if(stage.nodes, [&](int n) { return !runs(on_accelerator, static_cast<std::size_t>(n)); }) - 1;
            stage.reason = fmt::format("{}: {}{}", accelerator.engine, why.empty() ? "does not run it" : why,
                                       others > 0 ? fmt::format(", and {} others", others) : "");
        } else if (std::ranges::any_of(stage.nodes, [&](int n) { return open[static_cast<std::size_t>(n)]; })) {
            stage.reason = "it comes after shapes that depend on values";
        } else {
            stage.reason = "sending it would cost more than computing it here";
        }
    }
    route.stages = std::move(planned);
    return route;
}

void add_cut_routes(std::vector<Route>& routes, const CostGraph& graph, const std::map<std::pair<std::string, std::string>, NodeSet>& runs) {
    std::vector<Route> cut;
    for (const Route& accelerator : routes) {
        const auto there = runs.find({accelerator.engine, accelerator.device});
        if (accelerator.kind == "CPU" || accelerator.supported || !accelerator.stages.empty() || there == runs.end()) continue;
        for (const Route& processor : routes) {
            const auto here = runs.find({processor.engine, processor.device});
            if (processor.kind != "CPU" || here == runs.end()) continue;
            cut.push_back(cut_route(graph, accelerator, there->second, processor, here->second));
        }
    }
    std::ranges::move(cut, std::back_inserter(routes));
}

}  // namespace ai_vmm::planning
