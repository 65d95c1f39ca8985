// SPDX-License-Identifier: Apache-2.0
/// Routes over several devices alike, and the candidates that they give.
#include <gtest/gtest.h>

#include <algorithm>

#include "planning/planner.hpp"

namespace ai_vmm::planning {
namespace {

Route gpu(const std::string& device, const std::string& model = "H200") {
    Route route;
    route.engine = "cuda";
    route.device = device;
    route.kind = "DISCRETE_GPU";
    route.vendor = "NVIDIA";
    route.model = model;
    route.gflops = {{Precision::f32, 50000}, {Precision::f16, 700000}};
    route.memory_bandwidth_gb_s = 4000;
    route.memory_free_bytes = std::int64_t{100} << 30;
    return route;
}

TEST(Replicas, DevicesAlikeMakeOneRoute) {
    Route cpu;
    cpu.engine = "openvino";
    cpu.device = "cpu:0";
    cpu.kind = "CPU";
    cpu.gflops = {{Precision::f32, 100}};
    Route other = gpu("gpu:1"), unsupported = gpu("gpu:3");
    other.gflops[Precision::f32] = 49000;  // measured
    other.memory_free_bytes = std::int64_t{50} << 30;
    unsupported.supported = false;
    const std::vector<Route> all = replica_routes({cpu, gpu("gpu:0"), other, gpu("gpu:2", "L4"), unsupported});
    ASSERT_EQ(all.size(), 1U);
    EXPECT_EQ(all[0].device, "gpu:0+gpu:1");
    EXPECT_EQ(all[0].replicas, 2);
    EXPECT_EQ(all[0].gflops.at(Precision::f32), 49000);
    EXPECT_EQ(all[0].memory_free_bytes, std::int64_t{50} << 30);
    EXPECT_EQ(devices_of(all[0].device), (std::vector<std::string>{"gpu:0", "gpu:1"}));
    EXPECT_EQ(devices_of("cpu:0"), (std::vector<std::string>{"cpu:0"}));
    EXPECT_TRUE(replica_routes({cpu, gpu("gpu:0")}).empty());
}

PlanRequest request_for(Goal goal) {
    PlanRequest request;
    request.model = {.flops = 8e9, .bytes_moved = 2e8, .parameter_bytes = 50000000, .activation_bytes = 5000000, .nodes = 100};
    request.routes = {gpu("gpu:0"), gpu("gpu:1")};
    request.constraints.goal = goal;
    for (Route& route : replica_routes(request.routes)) request.routes.push_back(route);
    return request;
}

TEST(Replicas, AreOfferedToManyCallersWithAStreamForEach) {
    int offered = 0;
    const std::vector<Candidate> candidates = enumerate_candidates(request_for(Goal::throughput));
    const auto best = std::ranges::max_element(candidates, {}, &Candidate::predicted_throughput_per_s);
    EXPECT_EQ(best->key.device, "gpu:0+gpu:1");
    for (const Candidate& candidate : candidates) {
        if (candidate.key.device != "gpu:0+gpu:1") continue;
        ++offered;
        EXPECT_EQ(candidate.key.streams % 2, 0);
        EXPECT_EQ(CandidateKey::parse(candidate.key.id()), candidate.key);
    }
    EXPECT_GT(offered, 0);
    for (const Candidate& candidate : enumerate_candidates(request_for(Goal::latency))) EXPECT_NE(candidate.key.device, "gpu:0+gpu:1");
}

TEST(Replicas, EveryDeviceMustBeAllowed) {
    PlanRequest request = request_for(Goal::throughput);
    request.constraints.devices = {"gpu:0"};
    for (const Candidate& candidate : enumerate_candidates(request))
        EXPECT_EQ(candidate.rejected, candidate.key.device != "gpu:0") << candidate.key.id();
    request.constraints.devices = {"gpu:0", "gpu:1"};
    for (const Candidate& candidate : enumerate_candidates(request)) EXPECT_FALSE(candidate.rejected) << candidate.key.id();
}

}  // namespace
}  // namespace ai_vmm::planning
