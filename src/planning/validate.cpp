// SPDX-License-Identifier: Apache-2.0
#include "planning/validate.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "ai_vmm/error.hpp"
#include "planning/figures.hpp"
#include "planning/names.hpp"

namespace ai_vmm::planning {
namespace {

constexpr double kNoNumber = std::numeric_limits<double>::infinity();

[[noreturn]] void refuse(std::string message, ErrorDetail detail) {
    throw Error(ErrorCode::invalid_argument, ErrorCategory::input, std::move(message), std::move(detail));
}

void check_positive(std::string_view field, double value) {
    if (std::isfinite(value) && value > 0) return;
    refuse(fmt::format("{} must be a positive number", field), {.expected = "a finite number > 0", .found = fmt::format("{}", value), .advice = {}});
}

void check_not_negative(std::string_view field, double value) {
    if (std::isfinite(value) && value >= 0) return;
    refuse(fmt::format("{} must not be negative", field), {.expected = "a finite number >= 0", .found = fmt::format("{}", value), .advice = {}});
}

std::string list_of(const std::vector<std::string>& names) { return fmt::format("[{}]", fmt::join(names, ", ")); }

std::string list_of(const std::vector<Precision>& precisions) {
    std::vector<std::string> names;
    for (const Precision precision : precisions) names.emplace_back(to_string(precision));
    return list_of(names);
}

bool contains(const std::vector<Precision>& list, Precision precision) { return std::ranges::find(list, precision) != list.end(); }

/// Whether every stage of a cut model is on a route for which `allowed` holds.
template <typename Allowed>
bool every_stage(const PlanRequest& request, const Route& route, const Allowed& allowed) {
    return std::ranges::all_of(route.stages, [&](const PlannedStage& stage) {
        const Route* one = find_route(request, {.engine = stage.engine, .device = stage.device});
        return one != nullptr && allowed(request, *one);
    });
}

bool device_allowed(const PlanRequest& request, const Route& route) {
    const auto& devices = request.constraints.devices;
    if (!route.stages.empty()) return every_stage(request, route, device_allowed);
    if (devices.empty()) return true;
    // Of a route over several devices each must be allowed.
    return std::ranges::all_of(devices_of(route.device), [&](const std::string& device) {
        Route one = route;
        one.device = device;
        return std::ranges::any_of(devices, [&](const std::string& name) { return parse_hardware(name, "devices", request.routes).matches(one); });
    });
}

bool engine_allowed(const PlanRequest& request, const Route& route) {
    const auto& engines = request.constraints.engines;
    if (!route.stages.empty() && every_stage(request, route, engine_allowed)) return true;
    return engines.empty() || std::ranges::any_of(engines, [&](const std::string& name) { return lower(name) == lower(route.engine); });
}

void check_precisions(const Constraints& constraints) {
    const auto& forbidden = constraints.forbid_precisions;
    if (contains(forbidden, Precision::automatic)) {
        refuse("forbid_precisions can't hold 'automatic'", {.expected = "f32, bf16 or f16", .found = list_of(forbidden), .advice = {}});
    }
    if (constraints.precision != Precision::automatic && contains(forbidden, constraints.precision)) {
        refuse(fmt::format("precision={0} contradicts forbid_precisions={1}", to_string(constraints.precision), list_of(forbidden)),
               {.expected = {}, .found = {}, .advice = fmt::format("drop one of them: force {0}, or forbid it", to_string(constraints.precision))});
    }
    if (contains(forbidden, Precision::f32) && contains(forbidden, Precision::bf16) && contains(forbidden, Precision::f16)) {
        refuse("forbid_precisions leaves no precision",
               {.expected = "at least one of f32, bf16, f16 not forbidden", .found = list_of(forbidden), .advice = "allow f32"});
    }
}

void check_threads(const PlanRequest& request) {
    const auto& [threads, streams] = std::tie(request.constraints.threads, request.constraints.streams);
    const int budget = request.thread_budget;
    const auto in_range = [&](std::string_view field, const std::optional<int>& value) {
        if (!value || (*value >= 1 && *value <= budget)) return;
        refuse(fmt::format("{}={} is out of range", field, *value),
               {.expected = fmt::format("1 to {}, the processor threads this deployment may hold", budget),
                .found = std::to_string(*value),
                .advice = {}});
    };
    in_range("threads", threads);
    in_range("streams", streams);
    if (threads && streams && *threads * *streams > budget) {
        refuse(fmt::format("threads={} and streams={} contradict each other: together they need {} processor threads", *threads, *streams,
                           *threads * *streams),
               {.expected = fmt::format("threads x streams of at most {}", budget),
                .found = std::to_string(*threads * *streams),
                .advice = "lower one of them, or give only one and leave the other to the planner"});
    }
}

void check_names(const PlanRequest& request) {
    const auto& constraints = request.constraints;
    for (const auto& name : constraints.preferred_hardware) (void)parse_hardware(name, "preferred_hardware", request.routes);
    for (const auto& name : constraints.devices) {
        const HardwareName hardware = parse_hardware(name, "devices", request.routes);
        if (std::ranges::none_of(request.routes, [&](const Route& route) { return hardware.matches(route); })) {
            refuse("no such device: '" + name + "'",
                   {.expected = "one of " + known_devices(request.routes), .found = name, .advice = "`vmm devices` lists what this machine has"});
        }
    }
    for (const auto& name : constraints.engines) {
        if (std::ranges::none_of(request.routes, [&](const Route& route) { return lower(route.engine) == lower(name); })) {
            refuse("no such engine: '" + name + "'", {.expected = "one of " + known_engines(request.routes),
                                                      .found = name,
                                                      .advice = "`vmm doctor` tells which engines were loaded and why others were not"});
        }
    }
    if (constraints.devices.empty() || constraints.engines.empty()) return;
    if (std::ranges::none_of(request.routes, [&](const Route& route) { return device_allowed(request, route) && engine_allowed(request, route); })) {
        refuse(fmt::format("devices={} contradicts engines={}: none of these engines reaches any of these devices", list_of(constraints.devices),
                           list_of(constraints.engines)),
               {.expected = {}, .found = {}, .advice = "drop one of them"});
    }
}

void check_numbers(const PlanRequest& request) {
    const ModelNumbers& model = request.model;
    check_not_negative("model.flops", model.flops);
    check_not_negative("model.bytes_moved", model.bytes_moved);
    check_not_negative("model.parameter_bytes", static_cast<double>(model.parameter_bytes));
    check_not_negative("model.activation_bytes", static_cast<double>(model.activation_bytes));
    check_not_negative("model.nodes", model.nodes);
    for (const Route& route : request.routes) {
        if (!route.supported) continue;
        const std::string where = route.engine + "/" + route.device + ".";
        for (const auto& [precision, gflops] : route.gflops) check_positive(where + "gflops", gflops);
        check_positive(where + "memory_bandwidth_gb_s", route.memory_bandwidth_gb_s);
        check_not_negative(where + "call_overhead_us", route.call_overhead_us);
        check_not_negative(where + "node_overhead_us", route.node_overhead_us);
        check_positive(where + "efficiency", route.efficiency);
        check_positive(where + "max_threads", route.max_threads);
        check_not_negative(where + "memory_free_bytes", static_cast<double>(route.memory_free_bytes));
        if (route.active_power_w) check_not_negative(where + "active_power_w", *route.active_power_w);
    }
    for (const auto& [engine, factor] : request.bias) check_positive("bias of " + engine, factor);
    check_positive("thread_budget", request.thread_budget);
    check_positive("measure_limit", request.measure_limit);
}

}  // namespace

void validate(const PlanRequest& request) {
    const Constraints& constraints = request.constraints;
    const auto check_optional = [](std::string_view field, const std::optional<double>& value) {
        if (value) check_positive(field, *value);
    };
    check_optional("max_latency_ms", constraints.max_latency_ms);
    check_optional("min_throughput_per_s", constraints.min_throughput_per_s);
    check_optional("power_budget_watts", constraints.power_budget_watts);
    check_optional("max_memory_mb", constraints.max_memory_mb);
    check_positive("priority", constraints.priority);
    check_not_negative("tune", static_cast<double>(constraints.tune.count()));
    check_numbers(request);
    check_precisions(constraints);
    check_threads(request);
    check_names(request);
}

std::vector<Objection> static_objections(const PlanRequest& request, const Route& route, const CandidateKey& key, std::int64_t memory_bytes) {
    const Constraints& constraints = request.constraints;
    std::vector<Objection> objections;
    if (!device_allowed(request, route)) {
        objections.push_back({"devices", list_of(constraints.devices),
                              fmt::format("devices={} leaves out {}", list_of(constraints.devices), key.device), "devices=[] (any)", kNoNumber});
    }
    if (!engine_allowed(request, route)) {
        objections.push_back({"engines", list_of(constraints.engines),
                              fmt::format("engines={} leaves out {}", list_of(constraints.engines), key.engine), "engines=[] (any)", kNoNumber});
    }
    const std::string precision(to_string(key.precision));
    if (contains(constraints.forbid_precisions, key.precision)) {
        objections.push_back({"forbid_precisions", list_of(constraints.forbid_precisions), "forbid_precisions holds " + precision,
                              "forbid_precisions without " + precision, kNoNumber});
    }
    if (constraints.precision != Precision::automatic && constraints.precision != key.precision) {
        objections.push_back({"precision", std::string(to_string(constraints.precision)),
                              fmt::format("precision={} is forced", to_string(constraints.precision)), "precision=" + precision, kNoNumber});
    }
    if (constraints.max_memory_mb && static_cast<double>(memory_bytes) > *constraints.max_memory_mb * kMiB) {
        objections.push_back({"max_memory_mb", number(*constraints.max_memory_mb),
                              fmt::format("needs about {}, max_memory_mb is {}", mebibytes(memory_bytes), number(*constraints.max_memory_mb)),
                              "max_memory_mb=" + rounded_up(static_cast<double>(memory_bytes) / kMiB * 1.05),
                              static_cast<double>(memory_bytes) / (*constraints.max_memory_mb * kMiB)});
    }
    if (constraints.power_budget_watts) {
        const double budget = *constraints.power_budget_watts;
        if (!route.active_power_w) {
            objections.push_back({"power_budget_watts", number(budget),
                                  fmt::format("{} has no power meter, so power_budget_watts={} can't be kept", key.device, number(budget)),
                                  "no power_budget_watts at all", kNoNumber});
        } else if (*route.active_power_w > budget) {
            objections.push_back(
                {"power_budget_watts", number(budget),
                 fmt::format("{} takes {} W under load, power_budget_watts is {}", key.device, number(*route.active_power_w), number(budget)),
                 "power_budget_watts=" + rounded_up(*route.active_power_w), *route.active_power_w / budget});
        }
    }
    return objections;
}

}  // namespace ai_vmm::planning
