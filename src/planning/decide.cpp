// SPDX-License-Identifier: Apache-2.0
/// The decision: who is admitted, who wins, who takes over, and what is told about everybody else.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <set>
#include <tuple>

#include "planning/figures.hpp"
#include "planning/names.hpp"
#include "planning/planner.hpp"
#include "planning/validate.hpp"

namespace ai_vmm::planning {
namespace {

constexpr double kExactBand = 0.03;   // what exactness is worth
constexpr double kThreadBand = 0.01;  // what fewer threads are worth: measured medians of a quiet machine repeat within this
constexpr std::size_t kSameEngineFallbacks = 2;

/// A candidate on its way to a verdict.
struct Entry {
    const Candidate* candidate = nullptr;
    const Outcome* outcome = nullptr;
    const Route* route = nullptr;
    int route_index = 0;
    int preference = 0;
    bool doubted = false;  ///< outputs could not be compared, and another engine is trusted
    bool measured = false;
    double latency_ms = 0;
    double throughput_per_s = 0;
    double cost = 0;  ///< what the goal makes small
    std::int64_t memory_bytes = 0;
    std::vector<Objection> objections;
    std::string obstacle;  ///< what no constraint could be relaxed for: unsupported, failed, differs
    bool admitted = false;

    [[nodiscard]] const CandidateKey& key() const { return candidate->key; }
};

bool usable(const std::optional<double>& value) { return value && std::isfinite(*value) && *value > 0; }

int inexactness(Precision precision) {
    switch (precision) {
        case Precision::f32: return 0;
        case Precision::f16: return 1;  // three more bits than bf16
        case Precision::bf16: return 2;
        case Precision::automatic: return 3;
    }
    return 3;
}

double percent(double ratio) { return ratio * 100; }

/// Of several outcomes of one candidate the least favourable counts, whatever their order.
bool less_favourable(const Outcome& a, const Outcome& b) {
    const auto badness = [](const Outcome& outcome) {
        return std::make_tuple(!outcome.compiled, !outcome.agrees, usable(outcome.latency_ms) ? *outcome.latency_ms : 0.0, outcome.relative_error);
    };
    return badness(a) > badness(b);
}

std::string error_note(const Outcome& outcome) {
    return outcome.disagreement.empty() ? fmt::format("relative error {}", number(outcome.relative_error)) : outcome.disagreement;
}

void measure_against(const PlanRequest& request, Entry& entry) {
    const CandidateKey& key = entry.key();
    const Outcome* outcome = entry.outcome;
    entry.measured = outcome != nullptr && outcome->compiled && (usable(outcome->latency_ms) || usable(outcome->throughput_per_s));
    entry.latency_ms = entry.candidate->predicted_latency_ms;
    entry.throughput_per_s = entry.candidate->predicted_throughput_per_s;
    entry.memory_bytes = entry.candidate->predicted_memory_bytes;
    double cpu_ms = entry.latency_ms * key.threads / key.batch;
    if (entry.measured) {
        const double at_once = static_cast<double>(key.streams) * key.batch;
        entry.latency_ms = usable(outcome->latency_ms) ? *outcome->latency_ms : at_once * 1e3 / *outcome->throughput_per_s;
        entry.throughput_per_s = usable(outcome->throughput_per_s) ? *outcome->throughput_per_s : at_once * 1e3 / entry.latency_ms;
        cpu_ms = usable(outcome->cpu_ms_per_item) ? *outcome->cpu_ms_per_item : entry.latency_ms * key.threads / key.batch;
    }
    if (outcome != nullptr && outcome->memory_bytes > 0) entry.memory_bytes = outcome->memory_bytes;
    switch (request.constraints.goal) {
        case Goal::latency: entry.cost = entry.latency_ms; break;
        case Goal::throughput: entry.cost = 1e3 / std::max(entry.throughput_per_s, 1e-300); break;
        case Goal::efficiency: entry.cost = cpu_ms; break;
    }
}

/// Why the candidate is out whatever the constraints; empty if it isn't.
/// @param kin  an outcome of the same engine on the same device in f32, of one item or as many, whose outputs differ; null: none does
std::string obstacle_of(const PlanRequest& request, const Entry& entry, const Outcome* kin) {
    if (entry.candidate->rejected && entry.objections.empty()) return entry.candidate->reason;
    const Outcome* outcome = entry.outcome;
    const bool lossy = entry.key().precision != Precision::f32;
    const bool forced = request.constraints.precision == entry.key().precision;
    if (outcome == nullptr) {
        if (lossy && !forced && entry.objections.empty()) return "not measured, so its agreement with the f32 reference is not proved";
        if (!lossy && kin != nullptr) return "not measured, and outputs of its engine differ from the f32 reference: " + error_note(*kin);
        return {};
    }
    if (!outcome->compiled) return "does not run: " + (outcome->failure.empty() ? "the engine gave no reason" : outcome->failure);
    if (!outcome->agrees && !(lossy && forced)) return "outputs differ from the f32 reference: " + error_note(*outcome);
    return {};
}

void add_measured_objections(const PlanRequest& request, Entry& entry) {
    const Constraints& constraints = request.constraints;
    const char* how = entry.measured ? "measured" : "predicted";
    if (constraints.max_latency_ms && entry.latency_ms > *constraints.max_latency_ms) {
        entry.objections.push_back(
            {"max_latency_ms", number(*constraints.max_latency_ms),
             fmt::format("{} {}, max_latency_ms is {}", milliseconds(entry.latency_ms), how, number(*constraints.max_latency_ms)),
             "max_latency_ms=" + rounded_up(entry.latency_ms * 1.05), entry.latency_ms / *constraints.max_latency_ms});
    }
    if (constraints.min_throughput_per_s && entry.throughput_per_s < *constraints.min_throughput_per_s) {
        entry.objections.push_back(
            {"min_throughput_per_s", number(*constraints.min_throughput_per_s),
             fmt::format("{} items/s {}, min_throughput_per_s is {}", number(entry.throughput_per_s), how, number(*constraints.min_throughput_per_s)),
             "min_throughput_per_s=" + rounded_down(entry.throughput_per_s * 0.95),
             *constraints.min_throughput_per_s / std::max(entry.throughput_per_s, 1e-300)});
    }
}

std::vector<Entry> make_entries(const PlanRequest& request, const std::vector<Candidate>& candidates, const std::vector<Outcome>& outcomes) {
    std::map<CandidateKey, const Outcome*> outcome_of;
    for (const Outcome& outcome : outcomes) {
        const Outcome*& place = outcome_of[outcome.key];
        if (place == nullptr || less_favourable(outcome, *place)) place = &outcome;
    }
    std::map<std::tuple<std::string, std::string, int>, const Outcome*> differing;  // by engine, device and batch
    for (const auto& [key, outcome] : outcome_of) {
        if (key.precision == Precision::f32 && outcome->compiled && !outcome->agrees)
            differing.emplace(std::tuple(key.engine, key.device, key.batch), outcome);
    }
    const auto differing_kin = [&](const CandidateKey& key) -> const Outcome* {
        for (const int batch : {1, key.batch}) {  // rows that are mixed in a batch are none alone
            if (const auto found = differing.find({key.engine, key.device, batch}); found != differing.end()) return found->second;
        }
        return nullptr;
    };
    std::map<CandidateKey, const Candidate*> unique;  // ordered: the decision can't depend on the candidates' order
    for (const Candidate& candidate : candidates) unique.emplace(candidate.key, &candidate);

    std::vector<Entry> entries;
    for (const auto& [key, candidate] : unique) {
        Entry entry;
        entry.candidate = candidate;
        if (const auto found = outcome_of.find(key); found != outcome_of.end()) entry.outcome = found->second;
        entry.route = find_route(request, key);
        entry.route_index = entry.route == nullptr ? std::numeric_limits<int>::max() : static_cast<int>(entry.route - request.routes.data());
        entry.preference =
            entry.route == nullptr ? static_cast<int>(request.constraints.preferred_hardware.size()) : preference_rank(request, *entry.route);
        entry.doubted = !request.trusted_engine.empty() && key.engine != request.trusted_engine;
        measure_against(request, entry);
        if (entry.route != nullptr && entry.route->supported) entry.objections = static_objections(request, *entry.route, key, entry.memory_bytes);
        // A route's own limits, e.g. memory that isn't there, are told by the candidate and are no constraint of the caller.
        if (candidate->rejected &&
            std::ranges::none_of(entry.objections, [&reason = candidate->reason](const Objection& o) { return o.text == reason; }) &&
            (entry.outcome == nullptr || !entry.outcome->compiled)) {
            const bool memory_only = std::ranges::all_of(entry.objections, [](const Objection& o) { return o.constraint == "max_memory_mb"; });
            if (memory_only) entry.objections.clear();
        }
        entry.obstacle = obstacle_of(request, entry, differing_kin(key));
        if (entry.obstacle.empty()) add_measured_objections(request, entry);
        entry.admitted = entry.obstacle.empty() && entry.objections.empty() && !candidate->rejected;
        entries.push_back(std::move(entry));
    }
    const Constraints& limits = request.constraints;
    if ((limits.max_latency_ms || limits.min_throughput_per_s) && std::ranges::any_of(entries, &Entry::measured)) {
        // Where there was time to measure, a limit is not promised on a prediction.
        for (Entry& entry : entries) {
            if (entry.measured || !entry.admitted) continue;
            entry.obstacle = fmt::format("not measured, so {} can't be promised (predicted {}, {} items/s)",
                                         limits.max_latency_ms ? "max_latency_ms" : "min_throughput_per_s", milliseconds(entry.latency_ms),
                                         number(entry.throughput_per_s));
            entry.admitted = false;
        }
    }
    if (request.constraints.goal == Goal::efficiency) {
        // Energy decides where every measured candidate has it; otherwise processor time for all, so that like is compared with like.
        const bool metered =
            std::ranges::all_of(entries, [](const Entry& e) { return !e.measured || !e.admitted || usable(e.outcome->energy_mj_per_item); });
        if (metered) {
            for (Entry& entry : entries) {
                if (entry.measured && entry.admitted) entry.cost = *entry.outcome->energy_mj_per_item;
            }
        }
    }
    return entries;
}

/// The next best of `pool`: preferred hardware, then the trusted engine, then measured ones, then cost. What is more exact may cost a little more,
/// and of those that are equally exact what takes fewer threads a little again; engine and batch alone are worth no loss.
std::size_t best_of(const std::vector<const Entry*>& pool) {
    const auto group = [](const Entry* entry) { return std::make_tuple(entry->preference, entry->doubted, !entry->measured); };
    const auto first_group = group(*std::ranges::min_element(pool, {}, group));
    const auto lowest_cost = [&](const auto& counts) {
        double cost = std::numeric_limits<double>::infinity();
        for (const Entry* entry : pool) {
            if (group(entry) == first_group && counts(*entry)) cost = std::min(cost, entry->cost);
        }
        return cost;
    };
    const double fastest = lowest_cost([](const Entry&) { return true; });
    int exactness = std::numeric_limits<int>::max();
    for (const Entry* entry : pool) {
        if (group(entry) == first_group && entry->cost <= fastest * (1 + kExactBand))
            exactness = std::min(exactness, inexactness(entry->key().precision));
    }
    const auto as_exact = [&](const Entry& entry) { return inexactness(entry.key().precision) == exactness; };
    const double limit = lowest_cost(as_exact) * (1 + kThreadBand);
    const auto tie_rank = [](const Entry* entry) {
        const CandidateKey& key = entry->key();
        return std::make_tuple(key.threads * key.streams, entry->cost, entry->route_index, key.batch, key);
    };
    const auto rank = [&](const Entry* entry) {
        const bool in_question = group(entry) == first_group && as_exact(*entry) && entry->cost <= limit;
        return std::make_pair(!in_question, tie_rank(entry));
    };
    return static_cast<std::size_t>(std::ranges::min_element(pool, {}, rank) - pool.begin());
}

std::vector<const Entry*> ranked(const std::vector<Entry>& entries) {
    std::vector<const Entry*> pool;
    for (const Entry& entry : entries) {
        if (entry.admitted) pool.push_back(&entry);
    }
    std::vector<const Entry*> order;
    order.reserve(pool.size());
    while (!pool.empty()) {
        const std::size_t best = best_of(pool);
        order.push_back(pool[best]);
        pool.erase(pool.begin() + static_cast<std::ptrdiff_t>(best));
    }
    return order;
}

/// "0.42 ms", "5400 items/s", "0.8 ms of processor time per item", "12 mJ per item"
std::string cost_text(Goal goal, const Entry& entry, bool energy) {
    switch (goal) {
        case Goal::latency: return milliseconds(entry.cost);
        case Goal::throughput: return number(entry.throughput_per_s) + " items/s";
        case Goal::efficiency: return energy ? number(entry.cost) + " mJ per item" : milliseconds(entry.cost) + " of CPU time per item";
    }
    return {};
}

struct Words {
    const char* best;   // "fastest"
    const char* worse;  // "slower"
};

Words words_of(Goal goal, bool energy) {
    switch (goal) {
        case Goal::latency: return {"fastest", "slower"};
        case Goal::throughput: return {"most throughput", "less throughput"};
        case Goal::efficiency: return energy ? Words{"least energy", "more energy"} : Words{"least CPU time", "more CPU time"};
    }
    return {"best", "worse"};
}

/// By how much the winner may be worse.
double band_of(const Entry& winner, const Entry& loser) {
    return inexactness(winner.key().precision) < inexactness(loser.key().precision) ? kExactBand : kThreadBand;
}

/// What decided between two that are within band_of(); empty if the cost did.
std::string tie_breaker(const Entry& winner, const Entry& loser) {
    const CandidateKey& a = winner.key();
    const CandidateKey& b = loser.key();
    if (inexactness(a.precision) != inexactness(b.precision))
        return fmt::format("is more exact ({} before {})", to_string(a.precision), to_string(b.precision));
    if (a.threads * a.streams != b.threads * b.streams)
        return fmt::format("takes fewer threads ({} against {})", a.threads * a.streams, b.threads * b.streams);
    if (winner.cost < loser.cost) return {};
    if (winner.route_index != loser.route_index) return "is of the engine that comes first";
    if (a.batch != b.batch) return fmt::format("has a smaller batch ({} against {})", a.batch, b.batch);
    return "comes first by name";
}

bool uses_energy(const PlanRequest& request, const Entry& entry) {
    return request.constraints.goal == Goal::efficiency && entry.measured && usable(entry.outcome->energy_mj_per_item) &&
           entry.cost == *entry.outcome->energy_mj_per_item;
}

std::string chosen_reason(const PlanRequest& request, const std::vector<const Entry*>& order) {
    const Goal goal = request.constraints.goal;
    const Entry& chosen = *order.front();
    const bool energy = uses_energy(request, chosen);
    const Words words = words_of(goal, energy);
    const auto same_group = [&](const Entry* entry) {
        return entry->preference == chosen.preference && entry->doubted == chosen.doubted && entry->measured == chosen.measured;
    };
    const auto peers = std::ranges::count_if(order, same_group);
    const Entry* fastest =
        *std::ranges::min_element(order, {}, [&](const Entry* e) { return same_group(e) ? e->cost : std::numeric_limits<double>::infinity(); });

    std::string reason;
    const auto& preferred = request.constraints.preferred_hardware;
    const bool by_preference = !preferred.empty() && chosen.preference < static_cast<int>(preferred.size());
    if (by_preference) reason += fmt::format("preferred hardware {}; ", preferred[static_cast<std::size_t>(chosen.preference)]);
    if (!preferred.empty() && !by_preference) {
        const bool here = std::ranges::any_of(
            request.routes, [&](const Route& route) { return preference_rank(request, route) < static_cast<int>(preferred.size()); });
        reason += here ? "nothing on the preferred hardware is feasible; " : "none of the preferred hardware is here; ";
    }
    if (!request.trusted_engine.empty() && !chosen.doubted) reason += "outputs could not be compared, the format's own runtime is believed; ";
    const char* how = chosen.measured ? "measured" : "predicted (not measured)";
    if (fastest != &chosen) {
        reason += fmt::format("{}, within {:.0f} % of the best ({}, {}) and {}", cost_text(goal, chosen, energy), percent(band_of(chosen, *fastest)),
                              fastest->key().id(), cost_text(goal, *fastest, energy), tie_breaker(chosen, *fastest));
    } else if (peers == 1) {
        reason += fmt::format("the only one {}{}: {}", how, by_preference ? " there" : "", cost_text(goal, chosen, energy));
    } else {
        reason += fmt::format("{} of {} {}: {}", words.best, peers, how, cost_text(goal, chosen, energy));
    }
    if (chosen.outcome != nullptr && !chosen.outcome->disagreement.empty()) {
        reason +=
            fmt::format("; precision={} is forced although its outputs differ: {}", to_string(chosen.key().precision), chosen.outcome->disagreement);
    }
    return reason;
}

std::string other_reason(const PlanRequest& request, const Entry& chosen, const Entry& entry) {
    const Goal goal = request.constraints.goal;
    if (entry.doubted && !chosen.doubted) return "outputs could not be compared, and " + request.trusted_engine + " is the format's own runtime";
    if (entry.measured != chosen.measured && !entry.measured) {
        Entry predicted;  // predictions are compared with predictions
        predicted.candidate = chosen.candidate;
        measure_against(request, predicted);
        const double ratio = entry.cost / predicted.cost;
        const Words words = words_of(goal, false);
        const std::string figure = cost_text(goal, entry, false);
        if (ratio > 1.005) return fmt::format("not measured: predicted {}x {} ({})", number(ratio), words.worse, figure);
        return fmt::format("not measured: predicted {}, as good or better, but measured ones go first", figure);
    }
    const bool energy = uses_energy(request, chosen);
    const bool same_unit = energy == uses_energy(request, entry);
    const Words words = words_of(goal, energy);
    const std::string prefix = entry.measured ? "" : "predicted ";
    const std::string figures =
        fmt::format("{} against {}", cost_text(goal, entry, energy && same_unit), cost_text(goal, chosen, energy && same_unit));
    if (entry.preference > chosen.preference) {
        const double ratio = chosen.cost / entry.cost;
        if (ratio > 1.005) return fmt::format("{}better ({}), but not the preferred hardware", prefix, figures);
    }
    const double ratio = entry.cost / chosen.cost;
    const double band = band_of(chosen, entry);
    if (const std::string breaker = ratio <= 1 + band ? tie_breaker(chosen, entry) : std::string(); !breaker.empty()) {
        return fmt::format("{}{}, a tie within {:.0f} %; the chosen one {}", prefix, figures, percent(band), breaker);
    }
    if (ratio <= 1.005) return fmt::format("{}hardly {}: {}", prefix, words.worse, figures);
    return fmt::format("{}{}x {}: {}", prefix, number(ratio), words.worse, figures);
}

std::vector<const Entry*> fallbacks_of(const std::vector<const Entry*>& order) {
    std::vector<const Entry*> fallbacks;
    const CandidateKey& chosen = order.front()->key();
    std::set<std::pair<std::string, std::string>> seen{{chosen.engine, chosen.device}};
    for (const Entry* entry : order) {
        if (seen.emplace(entry->key().engine, entry->key().device).second) fallbacks.push_back(entry);
    }
    std::size_t same = 0;
    for (const Entry* entry : order) {
        const CandidateKey& key = entry->key();
        if (entry == order.front() || key.engine != chosen.engine || key.device != chosen.device || key.precision != Precision::f32) continue;
        if (same++ == kSameEngineFallbacks) break;
        fallbacks.push_back(entry);
    }
    return fallbacks;
}

std::string figures_of(const Entry& entry) {
    return fmt::format("{}: {}, {} items/s, {} ({})", entry.key().id(), milliseconds(entry.latency_ms), number(entry.throughput_per_s),
                       mebibytes(entry.memory_bytes), entry.measured ? "measured" : "predicted");
}

/// "openvino/cpu:0/f32: does not run: …", one per engine, device and precision that no constraint could be relaxed for.
std::string obstacles_of(const std::vector<Entry>& entries) {
    std::map<std::string, std::string> reasons;
    for (const Entry& entry : entries) {
        const CandidateKey& key = entry.key();
        if (!entry.obstacle.empty()) reasons.emplace(fmt::format("{}/{}/{}", key.engine, key.device, to_string(key.precision)), entry.obstacle);
    }
    std::string text;
    for (const auto& [where, reason] : reasons) text += (text.empty() ? "" : "; ") + where + ": " + reason;
    return text;
}

/// Which constraint nobody meets, and who comes closest.
void explain_refusal(const std::vector<Entry>& entries, Plan& plan) {
    std::vector<const Entry*> near;  // what a constraint keeps out, and nothing else
    for (const Entry& entry : entries) {
        if (entry.obstacle.empty() && !entry.objections.empty()) near.push_back(&entry);
    }
    if (near.empty()) {
        plan.refusal =
            entries.empty() ? "no engine takes this model" : "no candidate runs and agrees with the f32 reference: " + obstacles_of(entries);
        return;
    }
    const auto unproved = [](const Entry* entry) { return entry->key().precision != Precision::f32 && entry->outcome == nullptr; };
    const auto distance = [&](const Entry* entry) {
        double worst = 0;
        int selections = 0;
        for (const Objection& objection : entry->objections) {
            if (std::isfinite(objection.excess)) {
                worst = std::max(worst, objection.excess);
            } else {
                ++selections;
            }
        }
        return std::make_tuple(unproved(entry), selections, worst, !entry->measured, entry->cost, entry->key());
    };
    const Entry& closest = **std::ranges::min_element(near, {}, distance);
    // The constraints of the closest that nobody at all meets; all of its own if each is met by somebody.
    std::vector<const Objection*> named;
    for (const Objection& objection : closest.objections) {
        const bool nobody = std::ranges::all_of(near, [&](const Entry* entry) {
            return std::ranges::any_of(entry->objections, [&](const Objection& other) { return other.constraint == objection.constraint; });
        });
        if (nobody) named.push_back(&objection);
    }
    const bool together = named.empty() && closest.objections.size() < 2;
    if (named.empty()) {
        for (const Objection& objection : closest.objections) named.push_back(&objection);
    }
    std::string names;
    std::string texts;
    for (const Objection* objection : named) {
        names += (names.empty() ? "" : " and ") + objection->constraint + "=" + objection->limit;
        texts += (texts.empty() ? "" : "; ") + objection->text;
    }
    const bool selection =
        std::ranges::all_of(named, [](const Objection* o) { return !std::isfinite(o->excess) && o->constraint != "power_budget_watts"; });
    const std::string obstacles = obstacles_of(entries);
    if (selection && !obstacles.empty()) {
        plan.refusal = fmt::format("{} leaves no candidate that runs and agrees with the f32 reference: {}", names, obstacles);
    } else {
        plan.refusal = fmt::format("{} can't be kept{}: the closest of {} candidates, {}: {}", names,
                                   together ? " together with the other constraints" : "", near.size(), closest.key().id(), texts);
    }
    std::string relaxed;
    for (const Objection& objection : closest.objections) relaxed += (relaxed.empty() ? "" : " and ") + objection.relaxed;
    plan.nearest_offer = figures_of(closest) + (unproved(&closest) ? ", if it proves to agree with f32" : "") + "; to have it, set " + relaxed;
}

std::string rejected_reason(const Entry& entry) {
    if (!entry.obstacle.empty()) return entry.obstacle;
    std::string text;
    for (const Objection& objection : entry.objections) text += (text.empty() ? "" : "; ") + objection.text;
    return text.empty() ? entry.candidate->reason : text;
}

Verdict verdict_of(const Entry& entry, std::string reason) {
    Verdict verdict;
    verdict.candidate = *entry.candidate;
    if (entry.outcome != nullptr) verdict.outcome = *entry.outcome;
    verdict.admitted = entry.admitted;
    verdict.reason = std::move(reason);
    return verdict;
}

}  // namespace

Plan decide(const PlanRequest& request, const std::vector<Candidate>& candidates, const std::vector<Outcome>& outcomes) {
    validate(request);
    const std::vector<Entry> entries = make_entries(request, candidates, outcomes);
    const std::vector<const Entry*> order = ranked(entries);
    Plan plan;
    plan.goal = to_string(request.constraints.goal);
    plan.feasible = !order.empty();
    if (plan.feasible) {
        const Entry& chosen = *order.front();
        plan.chosen = chosen.key();
        plan.promised_latency_ms = chosen.latency_ms;
        plan.promised_throughput_per_s = chosen.throughput_per_s;
        plan.verdicts.push_back(verdict_of(chosen, chosen_reason(request, order)));
        const std::vector<const Entry*> fallbacks = fallbacks_of(order);
        for (const Entry* entry : fallbacks) {
            plan.fallbacks.push_back(entry->key());
            plan.verdicts.push_back(verdict_of(*entry, other_reason(request, chosen, *entry)));
        }
        for (const Entry* entry : order) {
            if (entry == &chosen || std::ranges::find(fallbacks, entry) != fallbacks.end()) continue;
            plan.verdicts.push_back(verdict_of(*entry, other_reason(request, chosen, *entry)));
        }
    } else {
        explain_refusal(entries, plan);
    }
    std::vector<const Entry*> rejected;
    for (const Entry& entry : entries) {
        if (!entry.admitted) rejected.push_back(&entry);
    }
    // What was tried comes before what was ruled out on paper.
    std::ranges::stable_sort(rejected, {}, [](const Entry* e) { return std::make_tuple(e->outcome == nullptr, e->candidate->rejected, e->cost); });
    for (const Entry* entry : rejected) plan.verdicts.push_back(verdict_of(*entry, rejected_reason(*entry)));
    return plan;
}

}  // namespace ai_vmm::planning
