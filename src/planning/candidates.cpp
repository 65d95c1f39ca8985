// SPDX-License-Identifier: Apache-2.0
/// Keys, the list of all candidates, and the short list worth measuring.
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <set>
#include <tuple>

#include "ai_vmm/error.hpp"
#include "planning/figures.hpp"
#include "planning/names.hpp"
#include "planning/planner.hpp"
#include "planning/predict.hpp"
#include "planning/validate.hpp"

namespace ai_vmm::planning {
namespace {

constexpr int kBatches[] = {4, 16, 32};

/// Powers of two up to `limit`, and `limit` itself, ascending.
std::vector<int> counts_up_to(int limit) {
    std::vector<int> counts;
    for (int count = 1; count < limit; count *= 2) counts.push_back(count);
    counts.push_back(limit);
    return counts;
}

struct Shape3 {
    int threads, streams, batch;
    auto operator<=>(const Shape3&) const = default;
};

/// Threads x streams x batch worth looking at on a route, by goal and constraints.
std::vector<Shape3> configurations(const PlanRequest& request, const Route& route) {
    const Constraints& constraints = request.constraints;
    const bool cpu = route.kind == "CPU" || !route.stages.empty();
    const int budget = cpu ? std::max(1, std::min(request.thread_budget, route.max_threads)) : 1;
    const bool many = constraints.goal == Goal::throughput || constraints.min_throughput_per_s.has_value();
    const bool batchable = request.model.batchable && !request.model.stateful;

    if (route.replicas > 1) {  // streams are spread evenly, and each device needs one
        std::set<Shape3> spread;
        if (many && constraints.threads.value_or(1) == 1) {
            for (const int each : {1, 2, 4}) {
                const int streams = each * route.replicas;
                if (constraints.streams && *constraints.streams != streams) continue;
                spread.insert({1, streams, 1});
                if (!batchable) continue;
                for (const int batch : kBatches) spread.insert({1, streams, batch});
            }
        }
        return {spread.begin(), spread.end()};
    }

    std::set<Shape3> shapes;
    const auto add = [&](int threads, int streams) {
        shapes.insert({threads, streams, 1});
        if (!many || !batchable) return;
        for (const int batch : kBatches) shapes.insert({threads, streams, batch});
    };
    const auto add_threads = [&](int streams) {  // every thread count that leaves room for `streams`
        const int room = std::max(1, budget / streams);
        for (const int threads : counts_up_to(room)) {
            if (constraints.goal == Goal::efficiency && threads > 2 && threads != room) continue;
            add(threads, streams);
        }
    };
    if (constraints.threads && constraints.streams) {
        add(*constraints.threads, *constraints.streams);
    } else if (constraints.threads) {
        add(*constraints.threads, 1);
        if (many) {
            for (const int streams : counts_up_to(cpu ? std::max(1, budget / *constraints.threads) : 4)) add(*constraints.threads, streams);
        }
    } else if (constraints.streams) {
        add_threads(*constraints.streams);
    } else {
        if (constraints.goal != Goal::throughput) add_threads(1);
        if (many) {
            for (const int streams : counts_up_to(cpu ? budget : 4)) add(std::max(1, budget / streams), streams);
        }
    }
    return {shapes.begin(), shapes.end()};
}

double bias_of(const PlanRequest& request, const Route& route) {
    const auto found = request.bias.find(bias_key(route.engine, route.device));
    return found == request.bias.end() ? 1 : found->second;
}

Candidate make_candidate(const PlanRequest& request, const Route& route, Precision precision, const Shape3& shape) {
    Candidate candidate;
    candidate.key = {route.engine, route.device, precision, shape.threads, shape.streams, shape.batch};
    const double bias = bias_of(request, route);
    if (route.stages.empty()) {
        predict(request.model, route, bias, candidate);
    } else {
        predict_stages(request.model, request.routes, route, bias, candidate);
    }
    return candidate;
}

void reject(Candidate& candidate, std::string reason) {
    candidate.rejected = true;
    candidate.reason = std::move(reason);
}

/// What the device itself rules out.
std::string device_objection(const Route& route, const Candidate& candidate) {
    const std::int64_t each = candidate.predicted_memory_bytes / route.replicas;
    if (route.memory_free_bytes > 0 && each > route.memory_free_bytes) {
        return fmt::format("needs about {}{}, {} free on {}", mebibytes(each), route.replicas > 1 ? " on each" : "",
                           mebibytes(route.memory_free_bytes), route.device);
    }
    if (route.kind == "CPU" && candidate.key.threads > route.max_threads) {
        return fmt::format("threads={} is more than the {} that {} has here", candidate.key.threads, route.max_threads, route.engine);
    }
    return {};
}

void add_route(const PlanRequest& request, const Route& route, std::vector<Candidate>& candidates) {
    const std::vector<Shape3> shapes = configurations(request, route);
    if (route.replicas > 1 && shapes.empty()) return;  // nothing that a caller who comes alone could use
    const Shape3 first{std::max(1, request.constraints.threads.value_or(1)), std::max(1, request.constraints.streams.value_or(1)), 1};
    if (!route.supported || route.gflops.empty()) {
        Candidate candidate;
        candidate.key = {route.engine, route.device, Precision::f32, first.threads, first.streams, 1};
        reject(candidate, !route.supported ? (route.reason.empty() ? route.engine + " does not support this model" : route.reason)
                                           : route.engine + " offers no floating-point precision on " + route.device);
        candidates.push_back(std::move(candidate));
        return;
    }
    const Precision forced = request.constraints.precision;
    if (forced != Precision::automatic && !route.gflops.contains(forced)) {
        Candidate candidate = make_candidate(request, route, forced, first);
        std::vector<std::string> offered;
        for (const auto& [precision, gflops] : route.gflops) offered.emplace_back(to_string(precision));
        reject(candidate,
               fmt::format("{} does not run natively on {}, {} offers {}", to_string(forced), route.device, route.engine, fmt::join(offered, ", ")));
        candidates.push_back(std::move(candidate));
    }
    for (const auto& [precision, gflops] : route.gflops) {
        for (const Shape3& shape : shapes) {
            Candidate candidate = make_candidate(request, route, precision, shape);
            if (std::string reason = device_objection(route, candidate); !reason.empty()) reject(candidate, std::move(reason));
            const auto objections = static_objections(request, route, candidate.key, candidate.predicted_memory_bytes);
            if (!objections.empty() && !candidate.rejected) reject(candidate, objections.front().text);
            candidates.push_back(candidate);
            // What a selection rules out is told once, not once per thread count.
            const bool selection = !objections.empty() && objections.front().constraint != "max_memory_mb";
            if (selection) break;
        }
    }
}

/// What the goal makes smaller: milliseconds, negative throughput, or processor time per item.
double predicted_cost(Goal goal, const Candidate& candidate) {
    switch (goal) {
        case Goal::latency: return candidate.predicted_latency_ms;
        case Goal::throughput: return -candidate.predicted_throughput_per_s;
        case Goal::efficiency: return candidate.predicted_latency_ms * candidate.key.threads / candidate.key.batch;
    }
    return candidate.predicted_latency_ms;
}

/// Orders `candidates` best first and marks the short list: the f32 best of every engine and device, then the best of the other
/// precisions and of batches, then the next best of any kind.
void choose_short_list(const PlanRequest& request, std::vector<Candidate>& candidates) {
    const auto rank = [&](const Candidate& candidate) {
        const Route* route = find_route(request, candidate.key);
        // Prediction can't know better than the constraints: what it thinks will break one is measured late.
        const auto& limits = request.constraints;
        const bool breaks = (limits.max_latency_ms && candidate.predicted_latency_ms > *limits.max_latency_ms) ||
                            (limits.min_throughput_per_s && candidate.predicted_throughput_per_s < *limits.min_throughput_per_s);
        return std::make_tuple(candidate.rejected, route == nullptr ? 0 : preference_rank(request, *route), breaks,
                               predicted_cost(limits.goal, candidate), candidate.key);
    };
    std::vector<std::pair<decltype(rank(candidates.front())), Candidate>> ranked;
    ranked.reserve(candidates.size());
    for (auto& candidate : candidates) {
        auto place = rank(candidate);
        ranked.emplace_back(std::move(place), std::move(candidate));
    }
    std::ranges::sort(ranked, {}, &decltype(ranked)::value_type::first);

    std::vector<Candidate> leaders;
    std::vector<Candidate> others;
    std::set<std::tuple<std::string, std::string, Precision, bool>> seen;
    for (auto& [place, candidate] : ranked) {
        const bool first =
            !candidate.rejected && seen.emplace(candidate.key.engine, candidate.key.device, candidate.key.precision, candidate.key.batch > 1).second;
        (first ? leaders : others).push_back(std::move(candidate));
    }
    int left = request.measure_limit;
    for (Candidate& candidate : leaders) {
        if (candidate.key.precision != Precision::f32 || candidate.key.batch > 1) continue;
        candidate.to_measure = true;  // needed even beyond the limit: it is the exact fallback
        --left;
    }
    for (auto* group : {&leaders, &others}) {
        for (Candidate& candidate : *group) {
            if (candidate.rejected || candidate.to_measure || left <= 0) continue;
            candidate.to_measure = true;
            --left;
        }
    }
    candidates = std::move(leaders);
    std::ranges::move(others, std::back_inserter(candidates));
    std::stable_partition(candidates.begin(), candidates.end(), [](const Candidate& candidate) { return candidate.to_measure; });
    // What every other one is compared with is compiled first: time may run out.
    std::stable_partition(candidates.begin(), candidates.end(), [](const Candidate& candidate) {
        return candidate.to_measure && candidate.key.precision == Precision::f32 && candidate.key.batch == 1;
    });
}

[[noreturn]] void bad_key(const std::string& id) {
    throw Error(ErrorCode::invalid_argument, ErrorCategory::input, "not a candidate's name: '" + id + "'",
                {.expected = "engine/device/precision/tN/sN/bN, e.g. openvino/cpu:0/bf16/t2/s1/b1", .found = id, .advice = {}});
}

}  // namespace

std::string bias_key(const std::string& engine, const std::string& device) { return engine + "/" + device; }

std::string CandidateKey::id() const { return fmt::format("{}/{}/{}/t{}/s{}/b{}", engine, device, to_string(precision), threads, streams, batch); }

CandidateKey CandidateKey::parse(const std::string& id) {
    std::vector<std::string_view> parts;
    std::string_view rest = id;
    for (auto slash = rest.find('/'); slash != std::string_view::npos; slash = rest.find('/')) {
        parts.push_back(rest.substr(0, slash));
        rest.remove_prefix(slash + 1);
    }
    parts.push_back(rest);
    if (parts.size() != 6 || parts[0].empty() || parts[1].empty()) bad_key(id);
    const auto count = [&](std::string_view text, char letter) {
        int value = 0;
        if (text.size() < 2 || text[0] != letter || text[1] == '0') bad_key(id);
        const auto [end, error] = std::from_chars(text.data() + 1, text.data() + text.size(), value);
        if (error != std::errc{} || end != text.data() + text.size() || value < 1) bad_key(id);
        return value;
    };
    const auto precision = precision_from_string(parts[2]);
    if (!precision || to_string(*precision) != parts[2]) bad_key(id);
    return {std::string(parts[0]), std::string(parts[1]), *precision, count(parts[3], 't'), count(parts[4], 's'), count(parts[5], 'b')};
}

std::vector<Candidate> enumerate_candidates(const PlanRequest& request) {
    validate(request);
    std::vector<Candidate> candidates;
    for (const Route& route : request.routes) add_route(request, route, candidates);
    // The same engine and device listed twice would give the same key twice: the first route counts.
    std::set<CandidateKey> seen;
    std::erase_if(candidates, [&](const Candidate& candidate) { return !seen.insert(candidate.key).second; });
    choose_short_list(request, candidates);
    return candidates;
}

}  // namespace ai_vmm::planning
