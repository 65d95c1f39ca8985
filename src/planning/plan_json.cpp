// SPDX-License-Identifier: Apache-2.0
/// A plan as JSON and back; schema in docs/reference/plan-json.md.
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "ai_vmm/error.hpp"
#include "planning/planner.hpp"

namespace ai_vmm::planning {
namespace {

using Json = nlohmann::ordered_json;

constexpr const char* kSchema = "ai_vmm.plan/1";

/// JSON has no NaN and no infinities: they become strings.
Json real(double value) {
    if (std::isnan(value)) return "NaN";
    if (std::isinf(value)) return value > 0 ? "Infinity" : "-Infinity";
    return value;
}

Json real(const std::optional<double>& value) { return value ? real(*value) : Json(nullptr); }

double real_from(const Json& json) {
    if (json.is_number()) return json.get<double>();
    const auto text = json.get<std::string>();
    if (text == "NaN") return std::numeric_limits<double>::quiet_NaN();
    if (text == "Infinity") return std::numeric_limits<double>::infinity();
    if (text == "-Infinity") return -std::numeric_limits<double>::infinity();
    throw Error(ErrorCode::data_loss, ErrorCategory::system, "not a number in the plan", {.expected = "a number", .found = text, .advice = {}});
}

std::optional<double> optional_real_from(const Json& json) {
    if (json.is_null()) return std::nullopt;
    return real_from(json);
}

Json json_of(const CandidateKey& key) {
    return {{"id", key.id()},         {"engine", key.engine},   {"device", key.device}, {"precision", std::string(to_string(key.precision))},
            {"threads", key.threads}, {"streams", key.streams}, {"batch", key.batch}};
}

CandidateKey key_from(const Json& json) {
    CandidateKey key;
    key.engine = json.at("engine").get<std::string>();
    key.device = json.at("device").get<std::string>();
    const auto name = json.at("precision").get<std::string>();
    const auto precision = precision_from_string(name);
    if (!precision)
        throw Error(ErrorCode::data_loss, ErrorCategory::system, "unknown precision in the plan", {.expected = {}, .found = name, .advice = {}});
    key.precision = *precision;
    key.threads = json.at("threads").get<int>();
    key.streams = json.at("streams").get<int>();
    key.batch = json.at("batch").get<int>();
    return key;
}

Json json_of(const PlannedStage& stage) {
    return {{"engine", stage.engine},       {"device", stage.device},     {"operations", stage.operations},         {"bytes_in", stage.bytes_in},
            {"bytes_out", stage.bytes_out}, {"flops", real(stage.flops)}, {"bytes_moved", real(stage.bytes_moved)}, {"reason", stage.reason},
            {"groups", stage.nodes}};
}

PlannedStage stage_from(const Json& json) {
    PlannedStage stage;
    stage.engine = json.at("engine").get<std::string>();
    stage.device = json.at("device").get<std::string>();
    stage.operations = json.at("operations").get<int>();
    stage.bytes_in = json.at("bytes_in").get<std::int64_t>();
    stage.bytes_out = json.at("bytes_out").get<std::int64_t>();
    stage.flops = real_from(json.at("flops"));
    stage.bytes_moved = real_from(json.at("bytes_moved"));
    stage.reason = json.at("reason").get<std::string>();
    stage.nodes = json.at("groups").get<std::vector<int>>();
    return stage;
}

Json json_of(const Candidate& candidate) {
    Json stages = Json::array();
    for (const PlannedStage& stage : candidate.stages) stages.push_back(json_of(stage));
    return {{"key", json_of(candidate.key)},
            {"predicted_latency_ms", real(candidate.predicted_latency_ms)},
            {"predicted_throughput_per_s", real(candidate.predicted_throughput_per_s)},
            {"predicted_memory_bytes", candidate.predicted_memory_bytes},
            {"rejected", candidate.rejected},
            {"reason", candidate.reason},
            {"to_measure", candidate.to_measure},
            {"stages", std::move(stages)}};
}

Candidate candidate_from(const Json& json) {
    Candidate candidate;
    candidate.key = key_from(json.at("key"));
    candidate.predicted_latency_ms = real_from(json.at("predicted_latency_ms"));
    candidate.predicted_throughput_per_s = real_from(json.at("predicted_throughput_per_s"));
    candidate.predicted_memory_bytes = json.at("predicted_memory_bytes").get<std::int64_t>();
    candidate.rejected = json.at("rejected").get<bool>();
    candidate.reason = json.at("reason").get<std::string>();
    candidate.to_measure = json.at("to_measure").get<bool>();
    for (const Json& stage : json.at("stages")) candidate.stages.push_back(stage_from(stage));
    return candidate;
}

Json json_of(const Outcome& outcome) {
    return {{"key", json_of(outcome.key)},
            {"compiled", outcome.compiled},
            {"failure", outcome.failure},
            {"agrees", outcome.agrees},
            {"disagreement", outcome.disagreement},
            {"relative_error", real(outcome.relative_error)},
            {"latency_ms", real(outcome.latency_ms)},
            {"latency_p90_ms", real(outcome.latency_p90_ms)},
            {"throughput_per_s", real(outcome.throughput_per_s)},
            {"cpu_ms_per_item", real(outcome.cpu_ms_per_item)},
            {"energy_mj_per_item", real(outcome.energy_mj_per_item)},
            {"memory_bytes", outcome.memory_bytes},
            {"compile_ms", real(outcome.compile_ms)}};
}

Outcome outcome_from(const Json& json) {
    Outcome outcome;
    outcome.key = key_from(json.at("key"));
    outcome.compiled = json.at("compiled").get<bool>();
    outcome.failure = json.at("failure").get<std::string>();
    outcome.agrees = json.at("agrees").get<bool>();
    outcome.disagreement = json.at("disagreement").get<std::string>();
    outcome.relative_error = real_from(json.at("relative_error"));
    outcome.latency_ms = optional_real_from(json.at("latency_ms"));
    outcome.latency_p90_ms = optional_real_from(json.at("latency_p90_ms"));
    outcome.throughput_per_s = optional_real_from(json.at("throughput_per_s"));
    outcome.cpu_ms_per_item = optional_real_from(json.at("cpu_ms_per_item"));
    outcome.energy_mj_per_item = optional_real_from(json.at("energy_mj_per_item"));
    outcome.memory_bytes = json.at("memory_bytes").get<std::int64_t>();
    outcome.compile_ms = real_from(json.at("compile_ms"));
    return outcome;
}

}  // namespace

std::string to_json(const Plan& plan) {
    Json json;
    json["schema"] = kSchema;
    json["feasible"] = plan.feasible;
    json["goal"] = plan.goal;
    json["chosen"] = plan.chosen == CandidateKey{} ? Json(nullptr) : json_of(plan.chosen);
    json["promised_latency_ms"] = real(plan.promised_latency_ms);
    json["promised_throughput_per_s"] = real(plan.promised_throughput_per_s);
    json["fallbacks"] = Json::array();
    for (const CandidateKey& key : plan.fallbacks) json["fallbacks"].push_back(json_of(key));
    json["refusal"] = plan.refusal;
    json["nearest_offer"] = plan.nearest_offer;
    json["verdicts"] = Json::array();
    for (const Verdict& verdict : plan.verdicts) {
        json["verdicts"].push_back({{"candidate", json_of(verdict.candidate)},
                                    {"outcome", verdict.outcome ? json_of(*verdict.outcome) : Json(nullptr)},
                                    {"admitted", verdict.admitted},
                                    {"reason", verdict.reason}});
    }
    // Messages from elsewhere may hold bytes that are no UTF-8: those are replaced rather than refused.
    return json.dump(2, ' ', false, Json::error_handler_t::replace);
}

Plan plan_from_json(const std::string& text) {
    try {
        const Json json = Json::parse(text);
        if (json.at("schema").get<std::string>() != kSchema) {
            throw Error(ErrorCode::data_loss, ErrorCategory::system, "the plan has another schema",
                        {.expected = kSchema, .found = json.at("schema").get<std::string>(), .advice = {}});
        }
        Plan plan;
        plan.feasible = json.at("feasible").get<bool>();
        plan.goal = json.at("goal").get<std::string>();
        if (!json.at("chosen").is_null()) plan.chosen = key_from(json.at("chosen"));
        plan.promised_latency_ms = real_from(json.at("promised_latency_ms"));
        plan.promised_throughput_per_s = real_from(json.at("promised_throughput_per_s"));
        for (const Json& key : json.at("fallbacks")) plan.fallbacks.push_back(key_from(key));
        plan.refusal = json.at("refusal").get<std::string>();
        plan.nearest_offer = json.at("nearest_offer").get<std::string>();
        for (const Json& entry : json.at("verdicts")) {
            Verdict verdict;
            verdict.candidate = candidate_from(entry.at("candidate"));
            if (!entry.at("outcome").is_null()) verdict.outcome = outcome_from(entry.at("outcome"));
            verdict.admitted = entry.at("admitted").get<bool>();
            verdict.reason = entry.at("reason").get<std::string>();
            plan.verdicts.push_back(std::move(verdict));
        }
        return plan;
    } catch (const nlohmann::json::exception& error) {
        throw Error(ErrorCode::data_loss, ErrorCategory::system, "not a plan in JSON", {.expected = kSchema, .found = error.what(), .advice = {}});
    }
}

}  // namespace ai_vmm::planning
