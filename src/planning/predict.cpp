// SPDX-License-Identifier: Apache-2.0
#include "planning/predict.hpp"

#include <algorithm>
#include <cmath>

namespace ai_vmm::planning {
namespace {

// The constants are starting points: the calibration store's bias corrects them by engine and device, and what matters is measured anyway.
constexpr double kThreadLoss = 0.10;            // each further thread adds 1/(1 + loss * (threads - 1)) of one
constexpr double kForkUs = 0.35;                // starting and joining threads at one node, per doubling of the threads
constexpr double kCacheBytes = 4 << 20;         // working sets below stay in the processor's cache...
constexpr double kCacheSpeedup = 4;             // ...which is so much faster than memory
constexpr double kOneThreadBandwidth = 0.6;     // share of the memory bandwidth that one thread of several reaches
constexpr double kBatchEfficiency = 0.25;       // batching fills vector units better, by up to this share
constexpr std::int64_t kEngineBytes = 2 << 20;  // an engine's own structures per compiled model
constexpr std::int64_t kNodeBytes = 4 << 10;    // and per node
constexpr double kTransferUs = 8;               // a copy between a device and the host, waited for
constexpr double kTransferGBs = 12;             // over PCI Express, pageable memory

bool is_cpu(const Route& route) { return route.kind == "CPU"; }

double peak_gflops(const Route& route, Precision precision) {
    if (const auto found = route.gflops.find(precision); found != route.gflops.end()) return found->second;
    double slowest = 0;
    for (const auto& [other, gflops] : route.gflops) slowest = slowest == 0 ? gflops : std::min(slowest, gflops);
    return slowest > 0 ? slowest : 1;
}

}  // namespace

void predict(const ModelNumbers& model, const Route& route, double bias, Candidate& candidate) {
    const CandidateKey& key = candidate.key;
    const bool cpu = is_cpu(route);
    const double threads = cpu ? std::clamp(key.threads, 1, route.max_threads) : 1;
    const double streams = key.streams;
    const double batch = key.batch;
    const double width = key.precision == Precision::f32 ? 1.0 : 0.5;  // bytes against f32

    const double whole = cpu ? route.max_threads : 1;
    const double speedup = threads / (1 + kThreadLoss * (threads - 1));
    const double filled = 1 + kBatchEfficiency * (1 - 1 / batch);
    const double compute_us = model.flops * batch / (peak_gflops(route, key.precision) / whole * speedup * route.efficiency * filled * 1e3);

    const double weights = static_cast<double>(model.parameter_bytes);
    const double moved = (weights + std::max(0.0, model.bytes_moved - weights) * batch) * width;
    const double working_set = (weights + static_cast<double>(model.activation_bytes) * batch) * width;
    double bandwidth = route.memory_bandwidth_gb_s * 1e3;  // bytes per microsecond
    if (cpu && whole > 1) bandwidth *= kOneThreadBandwidth + (1 - kOneThreadBandwidth) * (threads - 1) / (whole - 1);
    if (working_set < kCacheBytes) {
        bandwidth *= kCacheSpeedup;
    } else {
        bandwidth /= std::max(1.0, streams * threads / whole);  // streams share the memory
    }
    double work_us = std::max(compute_us, moved / bandwidth);
    if (!cpu) work_us *= std::max(1.0, streams / route.replicas);  // streams of an accelerator share its units and hide each other's overhead

    const double meeting_us = threads > 1 ? model.nodes * kForkUs * std::log2(threads) : 0;
    const double overhead_us = route.call_overhead_us + model.nodes * route.node_overhead_us + meeting_us;
    const double latency_us = std::max(1e-3, (work_us + overhead_us) * bias);
    candidate.predicted_latency_ms = latency_us / 1e3;
    candidate.predicted_throughput_per_s = streams * batch * 1e6 / latency_us;

    const double memory = weights * width * route.replicas + static_cast<double>(model.activation_bytes) * batch * streams * width;
    candidate.predicted_memory_bytes =
        static_cast<std::int64_t>(std::min(memory, 1e18)) + route.replicas * (kEngineBytes + static_cast<std::int64_t>(model.nodes) * kNodeBytes);
}

double transfer_us(double bytes) { return kTransferUs + bytes / (kTransferGBs * 1e3); }

void predict_stages(const ModelNumbers& model, const std::vector<Route>& routes, const Route& route, double bias, Candidate& candidate) {
    double latency_ms = 0;
    for (const PlannedStage& stage : route.stages) {
        const auto found = std::ranges::find_if(routes, [&](const Route& one) { return one.engine == stage.engine && one.device == stage.device; });
        if (found == routes.end()) continue;
        Candidate part;
        part.key = candidate.key;
        part.key.engine = stage.engine;
        part.key.device = stage.device;
        if (!found->gflops.contains(part.key.precision)) part.key.precision = Precision::f32;
        predict({.flops = stage.flops, .bytes_moved = stage.bytes_moved, .nodes = stage.operations}, *found, bias, part);
        latency_ms += part.predicted_latency_ms;
        const double batch = candidate.key.batch;
        if (stage.bytes_in > 0) latency_ms += transfer_us(static_cast<double>(stage.bytes_in) * batch) / 1e3;
        if (stage.bytes_out > 0) latency_ms += transfer_us(static_cast<double>(stage.bytes_out) * batch) / 1e3;
    }
    predict(model, route, bias, candidate);  // for the memory
    candidate.predicted_latency_ms = std::max(1e-6, latency_ms);
    candidate.predicted_throughput_per_s = candidate.key.streams * candidate.key.batch * 1e3 / candidate.predicted_latency_ms;
    candidate.stages = route.stages;
}

}  // namespace ai_vmm::planning
