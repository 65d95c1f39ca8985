// SPDX-License-Identifier: Apache-2.0
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <cstring>
#include <fstream>
#include <map>
#include <sstream>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "hal/registry.hpp"

namespace ai_vmm::hal {
namespace {

/// "key : value" lines of a /proc file, the first of each key.
std::map<std::string, std::string> read_colon_file(const char* path) {
    std::map<std::string, std::string> values;
    std::ifstream file(path);
    for (std::string line; std::getline(file, line);) {
        const std::size_t colon = line.find(':');
        if (colon == std::string::npos) continue;
        std::string key = line.substr(0, colon);
        key.erase(key.find_last_not_of(" \t") + 1);
        std::string value = line.substr(colon + 1);
        value.erase(0, value.find_first_not_of(" \t"));
        values.emplace(std::move(key), std::move(value));
    }
    return values;
}

std::int64_t kib_value(const std::map<std::string, std::string>& values, const char* key) {
    const auto found = values.find(key);
    return found == values.end() ? 0 : std::atoll(found->second.c_str()) * 1024;
}

/// Cores this process may use: its affinity mask, less a cgroup v2 CPU quota.
int usable_cores() {
    int cores = static_cast<int>(std::thread::hardware_concurrency());
    cpu_set_t set;
    if (::sched_getaffinity(0, sizeof set, &set) == 0) cores = CPU_COUNT(&set);
    std::ifstream quota_file("/sys/fs/cgroup/cpu.max");
    std::string quota;
    double period = 0;
    if (quota_file >> quota >> period && quota != "max" && period > 0) {
        const double limit = std::atof(quota.c_str()) / period;
        if (limit >= 1) cores = std::min(cores, static_cast<int>(std::floor(limit)));
    }
    return std::max(cores, 1);
}

/// Bytes a cgroup v2 allows this process, or 0 if there is no limit.
std::int64_t cgroup_memory_limit() {
    std::ifstream file("/sys/fs/cgroup/memory.max");
    std::string text;
    if (!(file >> text) || text == "max") return 0;
    return std::atoll(text.c_str());
}

std::string vendor_of(const std::string& vendor_id) {
    if (vendor_id == "GenuineIntel") return "Intel";
    if (vendor_id == "AuthenticAMD") return "AMD";
    return vendor_id;
}

constexpr std::array<std::string_view, 14> kFeatures{"avx2",        "fma",         "f16c",     "avx_vnni", "avx512f",  "avx512bw", "avx512_vnni",
                                                     "avx512_bf16", "avx512_fp16", "amx_tile", "amx_int8", "amx_bf16", "amx_fp16", "sse4_2"};

std::string prefix_of(DeviceKind kind) {
    switch (kind) {
        case DeviceKind::cpu: return "cpu";
        case DeviceKind::integrated_gpu:
        case DeviceKind::discrete_gpu: return "gpu";
        case DeviceKind::npu: return "npu";
        case DeviceKind::other: return "other";
    }
    return "other";
}

bool same_device(const DeviceInfo& a, const DeviceInfo& b) {
    if (a.kind == DeviceKind::cpu || b.kind == DeviceKind::cpu) return a.kind == b.kind;  // one host, one CPU device
    if (!a.pci_address.empty() && !b.pci_address.empty()) return a.pci_address == b.pci_address;
    return !a.uuid.empty() && a.uuid == b.uuid;
}

/// Adds what `from` knows and `into` does not.
void absorb(DeviceInfo& into, DeviceInfo&& from) {
    const auto fill = [](std::string& mine, std::string& other) {
        if (mine.empty()) mine = std::move(other);
    };
    fill(into.vendor, from.vendor);
    fill(into.name, from.name);
    fill(into.uuid, from.uuid);
    fill(into.pci_address, from.pci_address);
    into.memory_total_bytes = std::max(into.memory_total_bytes, from.memory_total_bytes);
    into.memory_free_bytes = std::max(into.memory_free_bytes, from.memory_free_bytes);
    into.compute_units = std::max(into.compute_units, from.compute_units);
    for (std::string& feature : from.features) {
        if (std::ranges::find(into.features, feature) == into.features.end()) into.features.push_back(std::move(feature));
    }
    for (DeviceRoute& route : from.routes) into.routes.push_back(std::move(route));
}

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define AI_VMM_CLONES __attribute__((target_clones("avx512f", "avx2,fma", "default")))
#else
#define AI_VMM_CLONES
#endif

constexpr std::size_t kLanes = 256;

AI_VMM_CLONES void multiply_add(float* values, std::size_t rounds) {
    float a[kLanes];
    std::memcpy(a, values, sizeof a);
    for (std::size_t r = 0; r < rounds; ++r) {
        for (std::size_t i = 0; i < kLanes; ++i) a[i] = a[i] * 0.999f + 0.001f;
    }
    std::memcpy(values, a, sizeof a);
}

}  // namespace

std::vector<DeviceInfo> merge_devices(std::vector<DeviceInfo> found) {
    std::vector<DeviceInfo> merged;
    for (DeviceInfo& device : found) {
        const auto same = std::ranges::find_if(merged, [&](const DeviceInfo& known) { return same_device(known, device); });
        if (same == merged.end()) {
            merged.push_back(std::move(device));
        } else {
            absorb(*same, std::move(device));
        }
    }
    std::map<std::string, int> counts;
    for (DeviceInfo& device : merged) {
        const std::string prefix = prefix_of(device.kind);
        device.id = prefix + ":" + std::to_string(counts[prefix]++);
    }
    return merged;
}

DeviceInfo host_cpu() {
    DeviceInfo device;
    device.kind = DeviceKind::cpu;
    const auto cpu = read_colon_file("/proc/cpuinfo");
    const auto memory = read_colon_file("/proc/meminfo");
    if (const auto name = cpu.find("model name"); name != cpu.end()) device.name = name->second;
    if (const auto vendor = cpu.find("vendor_id"); vendor != cpu.end()) device.vendor = vendor_of(vendor->second);
    if (const auto flags = cpu.find("flags"); flags != cpu.end()) {
        std::istringstream words(flags->second);
        for (std::string word; words >> word;) {
            if (std::ranges::find(kFeatures, word) != kFeatures.end()) device.features.push_back(word);
        }
    }
    device.memory_total_bytes = kib_value(memory, "MemTotal");
    device.memory_free_bytes = kib_value(memory, "MemAvailable");
    if (const std::int64_t limit = cgroup_memory_limit(); limit > 0) {
        device.memory_total_bytes = std::min(device.memory_total_bytes, limit);
        device.memory_free_bytes = std::min(device.memory_free_bytes, limit);
    }
    device.compute_units = usable_cores();
    return device;
}

DeviceScores measure_host_scores() {
    static const DeviceScores scores = [] {
        using Clock = std::chrono::steady_clock;
        const auto seconds = [](Clock::time_point from) { return std::max(std::chrono::duration<double>(Clock::now() - from).count(), 1e-9); };
        const int cores = usable_cores();
        DeviceScores result;
        // f32 rate: independent multiply-adds in registers on every core.
        constexpr std::size_t kRounds = 200000;
        std::vector<double> rates(static_cast<std::size_t>(cores));
        {
            std::vector<std::jthread> threads;
            for (int t = 0; t < cores; ++t) {
                threads.emplace_back([&rates, t, &seconds] {
                    alignas(64) std::array<float, kLanes> values{};
                    double best = 0;
                    for (int repeat = 0; repeat < 3; ++repeat) {
                        const auto start = Clock::now();
                        multiply_add(values.data(), kRounds / 10);
                        best = std::max(best, 2.0 * kLanes * (kRounds / 10.0) / seconds(start));
                    }
                    rates[static_cast<std::size_t>(t)] = best + values[0] * 1e-30;
                });
            }
        }
        for (const double rate : rates) result.f32_gflops += rate / 1e9;
        // Bandwidth: copies larger than most last-level caches' share.
        std::vector<char> source(std::size_t{32} << 20, 1);
        std::vector<char> target(source.size());
        for (int repeat = 0; repeat < 3; ++repeat) {
            const auto start = Clock::now();
            std::memcpy(target.data(), source.data(), source.size());
            result.memory_bandwidth_gb_s = std::max(result.memory_bandwidth_gb_s, 2.0 * static_cast<double>(source.size()) / seconds(start) / 1e9);
        }
        return result;
    }();
    return scores;
}

}  // namespace ai_vmm::hal
