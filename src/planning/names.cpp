// SPDX-License-Identifier: Apache-2.0
#include "planning/names.hpp"

#include <algorithm>
#include <array>
#include <cctype>

#include "ai_vmm/error.hpp"

namespace ai_vmm::planning {
namespace {

constexpr std::array<std::pair<std::string_view, std::string_view>, 9> kKinds{{
    {"cpu", "cpu"},
    {"gpu", "gpu"},
    {"npu", "npu"},
    {"igpu", "integrated_gpu"},
    {"dgpu", "discrete_gpu"},
    {"integrated_gpu", "integrated_gpu"},
    {"discrete_gpu", "discrete_gpu"},
    {"other", "other"},
    {"any", ""},
}};

/// Vendors whose hardware may be asked for where there is none of it (a preference, not an order).
constexpr std::array<std::string_view, 6> kVendors{"amd", "intel", "nvidia", "arm", "apple", "qualcomm"};

/// "gpu" -> "gpu", "igpu" -> "integrated_gpu"; nullptr if it is no kind.
const std::string_view* kind_named(std::string_view text) {
    const auto found = std::ranges::find(kKinds, text, &std::pair<std::string_view, std::string_view>::first);
    return found == kKinds.end() ? nullptr : &found->second;
}

bool digits(std::string_view text) {
    return !text.empty() && std::ranges::all_of(text, [](unsigned char c) { return std::isdigit(c) != 0; });
}

/// Parses what is left of an engine prefix; false if it is no device name.
bool parse_device(std::string_view text, const std::vector<Route>& routes, HardwareName& name) {
    for (const Route& route : routes) {
        if (lower(route.device) == text) {
            name.device = text;
            return true;
        }
    }
    if (const auto* kind = kind_named(text)) {
        name.kind = *kind;
        return true;
    }
    if (const auto colon = text.find(':'); colon != std::string_view::npos) {
        if (kind_named(text.substr(0, colon)) == nullptr || !digits(text.substr(colon + 1))) return false;
        name.device = text;  // well-formed, though not on this machine
        return true;
    }
    const auto underscore = text.find('_');
    if (underscore == std::string_view::npos) return false;
    const std::string_view vendor = text.substr(0, underscore);
    const bool known = std::ranges::find(kVendors, vendor) != kVendors.end() ||
                       std::ranges::any_of(routes, [&](const Route& route) { return lower(route.vendor) == vendor; });
    const auto* kind = kind_named(text.substr(underscore + 1));
    if (!known || kind == nullptr) return false;
    name.vendor = vendor;
    name.kind = *kind;
    return true;
}

void append_distinct(std::vector<std::string>& list, std::string text) {
    if (std::ranges::find(list, text) == list.end()) list.push_back(std::move(text));
}

std::string joined(const std::vector<std::string>& list) {
    std::string text;
    for (const auto& entry : list) text.append(text.empty() ? "" : ", ").append(entry);
    return text.empty() ? "none" : text;
}

}  // namespace

std::string lower(std::string_view text) {
    std::string result(text);
    std::ranges::transform(result, result.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    return result;
}

bool HardwareName::matches(const Route& route) const {
    // A cut model is on its accelerator, which is named first.
    const auto named = [&route](const std::string& own, const std::string& asked) {
        return lower(own) == asked || (!route.stages.empty() && lower(own).starts_with(asked + "+"));
    };
    if (!engine.empty() && !named(route.engine, engine)) return false;
    if (!device.empty() && !named(route.device, device)) return false;
    if (!vendor.empty() && lower(route.vendor) != vendor) return false;
    if (kind.empty()) return true;
    const std::string actual = lower(route.kind);
    return actual == kind || (kind == "gpu" && (actual == "integrated_gpu" || actual == "discrete_gpu"));
}

HardwareName parse_hardware(std::string_view text, std::string_view field, const std::vector<Route>& routes) {
    const std::string wanted = lower(text);
    HardwareName name;
    for (const Route& route : routes) {
        const std::string engine = lower(route.engine);
        if (wanted == engine) {
            name.engine = engine;
            return name;
        }
        if (wanted.starts_with(engine + ":") && parse_device(std::string_view(wanted).substr(engine.size() + 1), routes, name)) {
            name.engine = engine;
            return name;
        }
    }
    if (parse_device(wanted, routes, name)) return name;
    throw Error(ErrorCode::invalid_argument, ErrorCategory::input, std::string(field) + " has an unknown name: '" + std::string(text) + "'",
                {.expected = "a device (" + known_devices(routes) + "), a kind (cpu, gpu, npu), vendor and kind (INTEL_NPU), an engine (" +
                             known_engines(routes) + ") or engine:device",
                 .found = std::string(text),
                 .advice = "`vmm devices` lists what this machine has"});
}

std::string known_devices(const std::vector<Route>& routes) {
    std::vector<std::string> list;
    for (const Route& route : routes) {
        if (route.device.find('+') != std::string::npos) continue;  // two devices that are listed
        append_distinct(list, route.device + " (" + (route.vendor.empty() ? "" : route.vendor + " ") + route.kind + ")");
    }
    return joined(list);
}

std::string known_engines(const std::vector<Route>& routes) {
    std::vector<std::string> list;
    for (const Route& route : routes) {
        if (route.engine.find('+') == std::string::npos) append_distinct(list, route.engine);
    }
    return joined(list);
}

int preference_rank(const PlanRequest& request, const Route& route) {
    const auto& preferred = request.constraints.preferred_hardware;
    for (std::size_t i = 0; i < preferred.size(); ++i) {
        if (parse_hardware(preferred[i], "preferred_hardware", request.routes).matches(route)) return static_cast<int>(i);
    }
    return static_cast<int>(preferred.size());
}

std::vector<std::string> devices_of(const std::string& device) {
    std::vector<std::string> all;
    std::size_t begin = 0;
    for (std::size_t end = device.find('+'); end != std::string::npos; end = device.find('+', begin)) {
        all.push_back(device.substr(begin, end - begin));
        begin = end + 1;
    }
    all.push_back(device.substr(begin));
    return all;
}

std::vector<Route> replica_routes(const std::vector<Route>& routes) {
    const auto precision_of = [](const auto& entry) { return entry.first; };
    std::vector<Route> all;
    std::vector<bool> taken(routes.size(), false);
    for (std::size_t i = 0; i < routes.size(); ++i) {
        if (taken[i] || !routes[i].supported || routes[i].kind == "CPU" || routes[i].replicas != 1) continue;
        Route whole = routes[i];
        for (std::size_t k = i + 1; k < routes.size(); ++k) {
            const Route& other = routes[k];
            const bool alike = other.engine == whole.engine && other.kind == whole.kind && other.vendor == whole.vendor &&
                               other.model == whole.model && std::ranges::equal(other.gflops, whole.gflops, {}, precision_of, precision_of);
            if (taken[k] || !other.supported || other.replicas != 1 || other.device == routes[i].device || !alike) continue;
            for (auto& [precision, gflops] : whole.gflops) gflops = std::min(gflops, other.gflops.at(precision));  // measured: never quite equal
            whole.memory_bandwidth_gb_s = std::min(whole.memory_bandwidth_gb_s, other.memory_bandwidth_gb_s);
            taken[k] = true;
            whole.device += "+" + other.device;
            ++whole.replicas;
            whole.memory_free_bytes = std::min(whole.memory_free_bytes, other.memory_free_bytes);
            if (whole.active_power_w && other.active_power_w) {
                *whole.active_power_w += *other.active_power_w;
            } else {
                whole.active_power_w.reset();
            }
        }
        if (whole.replicas > 1) all.push_back(std::move(whole));
    }
    return all;
}

const Route* find_route(const PlanRequest& request, const CandidateKey& key) {
    const auto found =
        std::ranges::find_if(request.routes, [&](const Route& route) { return route.engine == key.engine && route.device == key.device; });
    return found == request.routes.end() ? nullptr : &*found;
}

}  // namespace ai_vmm::planning
