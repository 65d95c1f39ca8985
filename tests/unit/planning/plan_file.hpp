// SPDX-License-Identifier: Apache-2.0
/// The text files of tests/planning: a planning case as numbers, and the explanation expected of it. Format: tests/planning/README.md.
#pragma once

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "ai_vmm/error.hpp"
#include "planning/planner.hpp"

namespace ai_vmm::planning {

struct PlanFile {
    std::string input;     ///< everything before [expected], to be kept when the rest is written anew
    std::string expected;  ///< what follows
    PlanRequest request;
    std::vector<Outcome> outcomes;
};

class PlanFileReader {
public:
    static PlanFile read(const std::filesystem::path& path) {
        std::ifstream stream(path);
        if (!stream) throw std::runtime_error("can't read " + path.string());
        PlanFileReader reader;
        std::string line;
        bool expected = false;
        int number = 0;
        while (std::getline(stream, line)) {
            ++number;
            if (line == "[expected]") {
                expected = true;
                continue;
            }
            (expected ? reader.file_.expected : reader.file_.input) += line + "\n";
            if (expected) continue;
            try {
                reader.line(line);
            } catch (const std::exception& error) {
                throw std::runtime_error(path.string() + ":" + std::to_string(number) + ": " + error.what());
            }
        }
        reader.finish();
        return std::move(reader.file_);
    }

private:
    void line(const std::string& raw) {
        const std::string text = raw.substr(0, raw.find('#'));
        if (text.find_first_not_of(' ') == std::string::npos) return;
        if (text.front() == '[') {
            std::istringstream words(text.substr(1, text.find(']') - 1));
            words >> section_;
            std::string a;
            std::string b;
            words >> a >> b;
            if (section_ == "route") file_.request.routes.push_back(Route{.engine = a, .device = b, .kind = "CPU"});
            if (section_ == "node") {
                nodes_.push_back({.name = a, .numbers = {}});
            }
            if (section_ == "outcome") {
                file_.outcomes.emplace_back();
                file_.outcomes.back().key = CandidateKey::parse(a);
                file_.outcomes.back().compiled = true;
            }
            return;
        }
        const auto equals = text.find('=');
        if (equals == std::string::npos) throw std::runtime_error("expected key = value");
        set(trimmed(text.substr(0, equals)), trimmed(text.substr(equals + 1)));
    }

    static std::string trimmed(const std::string& text) {
        const auto first = text.find_first_not_of(' ');
        return first == std::string::npos ? "" : text.substr(first, text.find_last_not_of(' ') - first + 1);
    }
    static double real(const std::string& text) { return std::stod(text); }
    static bool yes(const std::string& text) {
        if (text != "yes" && text != "no") throw std::runtime_error("expected yes or no");
        return text == "yes";
    }
    static std::vector<std::string> list(const std::string& text) {
        std::vector<std::string> words;
        std::istringstream stream(text);
        for (std::string word; std::getline(stream, word, ',');) words.push_back(trimmed(word));
        return words;
    }
    static Precision precision(const std::string& text) {
        const auto value = precision_from_string(text);
        if (!value) throw std::runtime_error("unknown precision " + text);
        return *value;
    }

    void set(const std::string& key, const std::string& value) {
        const bool known = section_ == "model"         ? model(key, value)
                           : section_ == "route"       ? route(file_.request.routes.back(), key, value)
                           : section_ == "constraints" ? constraints(key, value)
                           : section_ == "request"     ? request(key, value)
                           : section_ == "node"        ? node(nodes_.back(), key, value)
                           : section_ == "outcome"     ? outcome(file_.outcomes.back(), key, value)
                                                       : false;
        if (!known) throw std::runtime_error("unknown key '" + key + "' in [" + section_ + "]");
    }

    bool model(const std::string& key, const std::string& value) {
        ModelNumbers& m = file_.request.model;
        if (key == "flops") return m.flops = real(value), true;
        if (key == "bytes_moved") return m.bytes_moved = real(value), true;
        if (key == "parameter_bytes") return m.parameter_bytes = static_cast<std::int64_t>(real(value)), true;
        if (key == "activation_bytes") return m.activation_bytes = static_cast<std::int64_t>(real(value)), true;
        if (key == "nodes") return m.nodes = static_cast<int>(real(value)), true;
        if (key == "batchable") return m.batchable = yes(value), true;
        if (key == "stateful") return m.stateful = yes(value), true;
        return false;
    }
    static bool route(Route& r, const std::string& key, const std::string& value) {
        if (key == "kind") return r.kind = value, true;
        if (key == "replicas") return r.replicas = static_cast<int>(real(value)), true;
        if (key == "vendor") return r.vendor = value, true;
        if (key == "unsupported") return r.supported = false, r.reason = value, true;
        if (key == "bandwidth_gb_s") return r.memory_bandwidth_gb_s = real(value), true;
        if (key == "call_us") return r.call_overhead_us = real(value), true;
        if (key == "node_us") return r.node_overhead_us = real(value), true;
        if (key == "efficiency") return r.efficiency = real(value), true;
        if (key == "max_threads") return r.max_threads = static_cast<int>(real(value)), true;
        if (key == "memory_free_bytes") return r.memory_free_bytes = static_cast<std::int64_t>(real(value)), true;
        if (key == "active_power_w") return r.active_power_w = real(value), true;
        if (key.starts_with("gflops.")) return r.gflops[precision(key.substr(7))] = real(value), true;
        return false;
    }
    bool constraints(const std::string& key, const std::string& value) {
        Constraints& c = file_.request.constraints;
        if (key == "goal") {
            const auto goal = goal_from_string(value);
            if (!goal) throw std::runtime_error("unknown goal " + value);
            return c.goal = *goal, true;
        }
        if (key == "max_latency_ms") return c.max_latency_ms = real(value), true;
        if (key == "min_throughput_per_s") return c.min_throughput_per_s = real(value), true;
        if (key == "power_budget_watts") return c.power_budget_watts = real(value), true;
        if (key == "max_memory_mb") return c.max_memory_mb = real(value), true;
        if (key == "preferred_hardware") return c.preferred_hardware = list(value), true;
        if (key == "devices") return c.devices = list(value), true;
        if (key == "engines") return c.engines = list(value), true;
        if (key == "precision") return c.precision = precision(value), true;
        if (key == "threads") return c.threads = static_cast<int>(real(value)), true;
        if (key == "streams") return c.streams = static_cast<int>(real(value)), true;
        if (key == "tune_ms") return c.tune = std::chrono::milliseconds(static_cast<int>(real(value))), true;
        if (key == "priority") return c.priority = real(value), true;
        if (key == "forbid_precisions") {
            for (const auto& name : list(value)) c.forbid_precisions.push_back(precision(name));
            return true;
        }
        return false;
    }
    bool request(const std::string& key, const std::string& value) {
        PlanRequest& r = file_.request;
        if (key == "threads") return r.thread_budget = static_cast<int>(real(value)), true;
        if (key == "measure_limit") return r.measure_limit = static_cast<int>(real(value)), true;
        if (key.starts_with("bias.")) return r.bias[key.substr(5)] = real(value), true;
        return false;
    }
    static bool outcome(Outcome& o, const std::string& key, const std::string& value) {
        if (key == "latency_ms") return o.latency_ms = real(value), true;
        if (key == "latency_p90_ms") return o.latency_p90_ms = real(value), true;
        if (key == "throughput_per_s") return o.throughput_per_s = real(value), true;
        if (key == "cpu_ms_per_item") return o.cpu_ms_per_item = real(value), true;
        if (key == "energy_mj_per_item") return o.energy_mj_per_item = real(value), true;
        if (key == "memory_bytes") return o.memory_bytes = static_cast<std::int64_t>(real(value)), true;
        if (key == "relative_error") return o.relative_error = real(value), true;
        if (key == "failed") return o.compiled = false, o.failure = value, true;
        if (key == "differs") return o.agrees = false, o.disagreement = value, true;
        return false;
    }

    /// A part of the model that can be placed alone.
    struct Node {
        std::string name;
        CostNode numbers;
        std::vector<std::string> reads, runs;
        std::int64_t result_bytes = 0;
        bool output = false;
    };
    static bool node(Node& n, const std::string& key, const std::string& value) {
        if (key == "flops") return n.numbers.flops = real(value), true;
        if (key == "bytes_moved") return n.numbers.bytes_moved = real(value), true;
        if (key == "operations") return n.numbers.operations = static_cast<int>(real(value)), true;
        if (key == "open_shape") return n.numbers.open_shape = yes(value), true;
        if (key == "reads") return n.reads = list(value), true;
        if (key == "runs_on") return n.runs = list(value), true;
        if (key == "result_bytes") return n.result_bytes = static_cast<std::int64_t>(real(value)), true;
        if (key == "output") return n.output = yes(value), true;
        return false;
    }

    /// Makes routes of the nodes.
    void finish() {
        if (nodes_.empty()) return;
        CostGraph graph;
        std::map<std::string, std::size_t> tensors;
        for (const Node& one : nodes_) {
            const int index = static_cast<int>(graph.nodes.size());
            graph.nodes.push_back(one.numbers);
            for (const std::string& read : one.reads) {
                if (const auto [place, fresh] = tensors.try_emplace(read, graph.tensors.size()); fresh) graph.tensors.emplace_back();
                graph.tensors[tensors.at(read)].consumers.push_back(index);
            }
            tensors[one.name] = graph.tensors.size();
            graph.tensors.push_back(
                {.producer = index, .consumers = {}, .bytes = one.result_bytes, .output = one.output, .open_shape = one.numbers.open_shape});
        }
        std::map<std::pair<std::string, std::string>, NodeSet> runs;
        for (const Route& route : file_.request.routes) {
            NodeSet& set = runs[{route.engine, route.device}];
            for (const Node& one : nodes_) {
                set.runs.push_back(std::ranges::find(one.runs, route.engine) != one.runs.end());
                set.reason.push_back("no " + one.name);
            }
        }
        add_cut_routes(file_.request.routes, graph, runs);
    }

    PlanFile file_;
    std::vector<Node> nodes_;
    std::string section_;
};

/// What the planner says to a case: the short list, the text of the plan, or the error.
inline std::string explain(const PlanFile& file) {
    try {
        const auto candidates = enumerate_candidates(file.request);
        std::string text = "measure:";
        int rejected = 0;
        int others = 0;
        for (const Candidate& candidate : candidates) {
            if (candidate.to_measure) text += "\n  " + candidate.key.id();
            rejected += candidate.rejected ? 1 : 0;
            others += !candidate.rejected && !candidate.to_measure ? 1 : 0;
        }
        text += "\n  and not " + std::to_string(others) + " others and " + std::to_string(rejected) + " rejected\n\n";
        return text + to_text(decide(file.request, candidates, file.outcomes));
    } catch (const Error& error) {
        return "error " + std::string(to_string(error.code())) + "\n  " + error.message() + "\n  expected: " + error.expected() +
               "\n  found: " + error.found() + "\n  to do: " + error.advice() + "\n";
    }
}

}  // namespace ai_vmm::planning
