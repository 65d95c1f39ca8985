// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>
#include <set>

#include "ai_vmm/error.hpp"
#include "planning/planner.hpp"

namespace ai_vmm::planning {
namespace {

#define PROPERTY(...) ASSERT_TRUE(rc::check(__VA_ARGS__))

double pick_double(double low, double high) { return low + (high - low) * *rc::gen::inRange(0, 1001) / 1000.0; }
bool pick_bool() { return *rc::gen::arbitrary<bool>(); }
int pick_int(int low, int high) { return *rc::gen::inRange(low, high + 1); }

PlanRequest any_request() {
    PlanRequest request;
    request.thread_budget = pick_int(1, 6);
    request.measure_limit = pick_int(1, 12);
    request.model = {.flops = pick_double(0, 1e9),
                     .bytes_moved = pick_double(0, 1e8),
                     .parameter_bytes = pick_int(0, 100'000'000),
                     .activation_bytes = pick_int(0, 10'000'000),
                     .nodes = pick_int(0, 300),
                     .batchable = pick_bool(),
                     .stateful = pick_bool()};
    const int engines = pick_int(1, 3);
    for (int i = 0; i < engines; ++i) {
        Route route;
        route.engine = "engine" + std::to_string(i);
        const bool cpu = i == 0 || pick_bool();
        route.device = cpu ? "cpu:0" : "gpu:0";
        route.kind = cpu ? "CPU" : "DISCRETE_GPU";
        route.vendor = cpu ? "AMD" : "NVIDIA";
        route.supported = pick_int(0, 5) > 0;
        route.reason = route.supported ? "" : "has an operator it does not know";
        route.gflops[Precision::f32] = pick_double(10, 500);
        if (pick_bool()) route.gflops[Precision::bf16] = pick_double(20, 1000);
        if (pick_bool()) route.gflops[Precision::f16] = pick_double(20, 1000);
        route.max_threads = cpu ? 6 : 1;
        route.memory_free_bytes = pick_bool() ? 0 : pick_int(1, 1 << 30);
        if (pick_bool()) route.active_power_w = pick_double(1, 300);
        request.routes.push_back(route);
    }
    Constraints& constraints = request.constraints;
    constraints.goal = static_cast<Goal>(pick_int(0, 2));
    if (pick_bool()) constraints.max_latency_ms = pick_double(0.01, 5);
    if (pick_bool()) constraints.min_throughput_per_s = pick_double(1, 5000);
    if (pick_int(0, 3) == 0) constraints.max_memory_mb = pick_double(1, 200);
    if (pick_int(0, 3) == 0) constraints.power_budget_watts = pick_double(1, 300);
    if (pick_int(0, 3) == 0) constraints.forbid_precisions = {Precision::bf16};
    if (pick_int(0, 3) == 0) constraints.preferred_hardware = {"NVIDIA_GPU", "cpu"};
    if (pick_int(0, 5) == 0) constraints.precision = Precision::f16;
    return request;
}

std::vector<Outcome> any_outcomes(const std::vector<Candidate>& candidates) {
    std::vector<Outcome> outcomes;
    for (const Candidate& candidate : candidates) {
        if (candidate.rejected || pick_int(0, 3) == 0) continue;
        Outcome outcome;
        outcome.key = candidate.key;
        outcome.compiled = pick_int(0, 6) > 0;
        outcome.failure = outcome.compiled ? "" : "out of luck";
        outcome.agrees = pick_int(0, 5) > 0;
        outcome.disagreement = outcome.agrees ? "" : "output 'y': relative error 0.2";
        if (pick_int(0, 9) > 0) outcome.latency_ms = pick_double(0.01, 5);
        if (pick_bool()) outcome.throughput_per_s = pick_double(1, 5000);
        if (pick_bool()) outcome.energy_mj_per_item = pick_double(1, 100);
        outcome.memory_bytes = pick_int(0, 200'000'000);
        outcomes.push_back(outcome);
    }
    return outcomes;
}

template <typename T>
std::vector<T> shuffled(std::vector<T> values) {
    std::mt19937 engine(static_cast<unsigned>(pick_int(0, 1'000'000)));
    std::ranges::shuffle(values, engine);
    return values;
}

TEST(PlannerProperty, DecisionDoesNotDependOnTheOrderOfCandidatesOrOutcomes) {
    PROPERTY([] {
        const PlanRequest request = any_request();
        const auto candidates = enumerate_candidates(request);
        const auto outcomes = any_outcomes(candidates);
        RC_ASSERT(to_json(decide(request, candidates, outcomes)) == to_json(decide(request, shuffled(candidates), shuffled(outcomes))));
    });
}

TEST(PlannerProperty, EveryCandidateHasOneVerdictWithAReason) {
    PROPERTY([] {
        const PlanRequest request = any_request();
        const auto candidates = enumerate_candidates(request);
        const Plan plan = decide(request, candidates, any_outcomes(candidates));
        std::multiset<CandidateKey> asked;
        std::multiset<CandidateKey> told;
        for (const auto& candidate : candidates) asked.insert(candidate.key);
        for (const auto& verdict : plan.verdicts) {
            told.insert(verdict.candidate.key);
            RC_ASSERT(!verdict.reason.empty());
        }
        RC_ASSERT(asked == told);
        RC_ASSERT(std::set<CandidateKey>(asked.begin(), asked.end()).size() == asked.size());
    });
}

// RapidCheck takes expressions apart with overloaded operators, which evaluate both sides of || and &&: such expressions stand in parentheses.
TEST(PlannerProperty, ChosenIsAdmittedAndKeepsEveryConstraint) {
    PROPERTY([] {
        const PlanRequest request = any_request();
        const auto candidates = enumerate_candidates(request);
        const Plan plan = decide(request, candidates, any_outcomes(candidates));
        const Constraints& limits = request.constraints;
        if (!plan.feasible) {
            RC_ASSERT(!plan.refusal.empty());
            RC_ASSERT(std::ranges::none_of(plan.verdicts, &Verdict::admitted));
            return;
        }
        const Verdict& chosen = plan.verdicts.front();
        RC_ASSERT(chosen.candidate.key == plan.chosen);
        RC_ASSERT(chosen.admitted);
        RC_ASSERT(!chosen.candidate.rejected);
        RC_ASSERT((!chosen.outcome || chosen.outcome->compiled));
        RC_ASSERT((!chosen.outcome || chosen.outcome->agrees || limits.precision == plan.chosen.precision));
        RC_ASSERT((!limits.max_latency_ms || plan.promised_latency_ms <= *limits.max_latency_ms));
        RC_ASSERT((!limits.min_throughput_per_s || plan.promised_throughput_per_s >= *limits.min_throughput_per_s));
        RC_ASSERT(std::ranges::find(limits.forbid_precisions, plan.chosen.precision) == limits.forbid_precisions.end());
        RC_ASSERT((limits.precision != Precision::automatic || chosen.outcome || plan.chosen.precision == Precision::f32));
        for (std::size_t i = 0; i < plan.fallbacks.size(); ++i) {
            RC_ASSERT(plan.verdicts[i + 1].candidate.key == plan.fallbacks[i]);
            RC_ASSERT(plan.verdicts[i + 1].admitted);
        }
    });
}

TEST(PlannerProperty, RelaxingALimitNeverMakesAPlanInfeasible) {
    PROPERTY([] {
        PlanRequest request = any_request();
        const auto candidates = enumerate_candidates(request);
        const auto outcomes = any_outcomes(candidates);
        const bool feasible = decide(request, candidates, outcomes).feasible;
        PlanRequest relaxed = request;
        const double factor = pick_double(1, 10);
        if (relaxed.constraints.max_latency_ms) *relaxed.constraints.max_latency_ms *= factor;
        if (relaxed.constraints.min_throughput_per_s) *relaxed.constraints.min_throughput_per_s /= factor;
        if (relaxed.constraints.max_memory_mb) *relaxed.constraints.max_memory_mb *= factor;
        if (relaxed.constraints.power_budget_watts) *relaxed.constraints.power_budget_watts *= factor;
        if (pick_bool()) relaxed.constraints.max_latency_ms.reset();
        if (pick_bool()) relaxed.constraints.power_budget_watts.reset();
        if (feasible) RC_ASSERT(decide(relaxed, enumerate_candidates(relaxed), outcomes).feasible);
    });
}

TEST(PlannerProperty, ShortListHoldsTheF32CandidateOfEveryEngine) {
    PROPERTY([] {
        const PlanRequest request = any_request();
        const auto candidates = enumerate_candidates(request);
        std::set<std::string> with_f32;
        std::set<std::string> listed;
        int marked = 0;
        for (const auto& candidate : candidates) {
            if (candidate.rejected) RC_ASSERT(!candidate.to_measure);
            if (candidate.rejected) RC_ASSERT(!candidate.reason.empty());
            marked += candidate.to_measure ? 1 : 0;
            if (candidate.rejected || candidate.key.precision != Precision::f32) continue;
            with_f32.insert(candidate.key.engine);
            if (candidate.to_measure) listed.insert(candidate.key.engine);
        }
        RC_ASSERT(with_f32 == listed);
        RC_ASSERT(marked <= std::max(request.measure_limit, static_cast<int>(with_f32.size())));
        for (const auto& candidate : candidates) {
            RC_ASSERT((std::isfinite(candidate.predicted_latency_ms) && candidate.predicted_latency_ms >= 0));
            if (candidate.rejected) continue;
            RC_ASSERT(candidate.key.streams * candidate.key.threads <= std::max(request.thread_budget, 4));
        }
    });
}

double any_double() {
    switch (pick_int(0, 5)) {
        case 0: return std::numeric_limits<double>::infinity();
        case 1: return -std::numeric_limits<double>::infinity();
        case 2: return 0;
        case 3: return std::numeric_limits<double>::denorm_min();
        default: return *rc::gen::arbitrary<double>();
    }
}

std::string any_text() { return *rc::gen::container<std::string>(rc::gen::inRange<char>(1, 127)); }

CandidateKey any_key() { return {any_text(), any_text(), static_cast<Precision>(pick_int(0, 3)), pick_int(1, 99), pick_int(1, 99), pick_int(1, 99)}; }

TEST(PlannerProperty, JsonRoundTripIsExact) {
    PROPERTY([] {
        Plan plan;
        plan.feasible = pick_bool();
        if (plan.feasible) plan.chosen = any_key();
        plan.promised_latency_ms = any_double();
        plan.promised_throughput_per_s = any_double();
        plan.goal = any_text();
        plan.refusal = any_text();
        plan.nearest_offer = any_text();
        for (int i = pick_int(0, 3); i > 0; --i) plan.fallbacks.push_back(any_key());
        for (int i = pick_int(0, 3); i > 0; --i) {
            Verdict verdict;
            verdict.candidate = {any_key(), any_double(), any_double(), *rc::gen::arbitrary<std::int64_t>(), pick_bool(), any_text(), pick_bool()};
            verdict.admitted = pick_bool();
            verdict.reason = any_text();
            if (pick_bool()) {
                Outcome outcome{.key = any_key(),
                                .compiled = pick_bool(),
                                .failure = any_text(),
                                .agrees = pick_bool(),
                                .disagreement = any_text(),
                                .relative_error = any_double()};
                if (pick_bool()) outcome.latency_ms = any_double();
                if (pick_bool()) outcome.latency_p90_ms = any_double();
                if (pick_bool()) outcome.throughput_per_s = any_double();
                if (pick_bool()) outcome.cpu_ms_per_item = any_double();
                if (pick_bool()) outcome.energy_mj_per_item = any_double();
                outcome.memory_bytes = *rc::gen::arbitrary<std::int64_t>();
                outcome.compile_ms = any_double();
                verdict.outcome = outcome;
            }
            plan.verdicts.push_back(verdict);
        }
        const std::string json = to_json(plan);
        const Plan back = plan_from_json(json);
        RC_ASSERT(to_json(back) == json);
        RC_ASSERT(back.chosen == plan.chosen);
        RC_ASSERT(back.fallbacks == plan.fallbacks);
        RC_ASSERT(back.verdicts.size() == plan.verdicts.size());
        RC_ASSERT(back.promised_latency_ms == plan.promised_latency_ms);
        for (std::size_t i = 0; i < plan.verdicts.size(); ++i) {
            const Verdict& a = plan.verdicts[i];
            const Verdict& b = back.verdicts[i];
            RC_ASSERT((a.candidate.key == b.candidate.key && a.candidate.predicted_memory_bytes == b.candidate.predicted_memory_bytes));
            RC_ASSERT((a.candidate.predicted_latency_ms == b.candidate.predicted_latency_ms && a.reason == b.reason));
            RC_ASSERT(a.outcome.has_value() == b.outcome.has_value());
            if (a.outcome) RC_ASSERT((a.outcome->latency_ms == b.outcome->latency_ms && a.outcome->memory_bytes == b.outcome->memory_bytes));
        }
    });
}

TEST(PlannerProperty, TextStaysWithinTheTerminal) {
    PROPERTY([] {
        const PlanRequest request = any_request();
        const auto candidates = enumerate_candidates(request);
        const Plan plan = decide(request, candidates, any_outcomes(candidates));
        for (const int columns : {80, 95, 110, 160}) {
            const std::string text = to_text(plan, columns);
            std::size_t begin = 0;
            for (std::size_t end = text.find('\n'); end != std::string::npos; end = text.find('\n', begin)) {
                RC_ASSERT(end - begin <= static_cast<std::size_t>(columns));
                begin = end + 1;
            }
        }
    });
}

TEST(PlannerProperty, CandidateNamesRoundTrip) {
    PROPERTY([] {
        CandidateKey key = any_key();
        for (std::string* text : {&key.engine, &key.device}) {
            std::erase(*text, '/');
            if (text->empty()) *text = "x";
        }
        RC_ASSERT(CandidateKey::parse(key.id()) == key);
    });
}

TEST(PlannerProperty, ParsingANameNeverCrashes) {
    PROPERTY([] {
        try {
            const std::string text = any_text();
            RC_ASSERT(CandidateKey::parse(text).id() == text);
        } catch (const Error& error) {
            RC_ASSERT(error.code() == ErrorCode::invalid_argument);
        }
        try {
            (void)plan_from_json(any_text());
        } catch (const Error& error) {
            RC_ASSERT(error.code() == ErrorCode::data_loss);
        }
    });
}

TEST(PlannerProperty, DividedThreadsAddUp) {
    PROPERTY([] {
        const int total = pick_int(1, 64);
        std::vector<double> priorities;
        for (int i = pick_int(1, 80); i > 0; --i) priorities.push_back(std::pow(10.0, pick_double(-6, 6)));
        const auto shares = divide_threads(total, priorities);
        RC_ASSERT(shares.size() == priorities.size());
        int sum = 0;
        bool shared = false;
        for (std::size_t i = 0; i < shares.size(); ++i) {
            RC_ASSERT(shares[i].threads >= 1);
            if (shares[i].shared) RC_ASSERT(shares[i].threads == 1);
            if (!shares[i].shared) sum += shares[i].threads;
            shared |= shares[i].shared;
            for (std::size_t j = 0; j < shares.size(); ++j) {  // more priority never gives less
                if (priorities[i] > priorities[j]) RC_ASSERT(shares[i].threads >= shares[j].threads);
                if (priorities[i] > priorities[j] && shares[i].shared) RC_ASSERT(shares[j].shared);
            }
        }
        RC_ASSERT(sum + (shared ? 1 : 0) == total);
        RC_ASSERT(shared == (priorities.size() > static_cast<std::size_t>(total)));
    });
}

}  // namespace
}  // namespace ai_vmm::planning
