// SPDX-License-Identifier: Apache-2.0
/// Copies and elementwise operations through views: the same numbers as OpenVINO's, and several elements at a time wherever they lie side by side.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cstdlib>

#include "ai_vmm/error.hpp"
#include "base/file.hpp"
#include "cuda/host_device.hpp"
#include "cuda/nvrtc_fixture.hpp"
#include "cuda/trial.hpp"
#include "driver/kernel_compiler.hpp"
#include "program/schedule.hpp"

namespace ai_vmm::cuda::test {
namespace {

using namespace ov::op;
using ov::element::f16;
using ov::element::f32;

std::shared_ptr<ov::Node> reshape(const ov::Output<ov::Node>& x, const std::vector<std::int64_t>& shape) {
    return make<v1::Reshape>(x, Trial::ints(shape), false);
}

TEST(CudaVectorViews, WindowsHeadsAndJoins) {
    for (const auto& type : number_types()) {
        for (const std::int64_t c : {1, 4, 8, 12, 16}) {
            Trial t(fmt::format("{} channels of {}", c, type.get_type_name()));
            const auto channels = static_cast<std::size_t>(c);
            const auto x = t.in(type, {2, 6, 8, channels}, 0, 5), y = t.in(type, {2, 6, 8, channels}, 0, 5), row = t.in(type, {channels}, 0, 5);
            // Windows of 3x4, cut and put together again.
            const auto windows = make<v1::Transpose>(reshape(x, {2, 2, 3, 2, 4, c}), Trial::ints({0, 1, 3, 2, 4, 5}));
            t.compare(reshape(windows, {8, 12, c}));
            const auto back =
                make<v1::Transpose>(reshape(make<v1::Add>(reshape(windows, {8, 12, c}), row), {2, 2, 2, 3, 4, c}), Trial::ints({0, 1, 3, 2, 4, 5}));
            t.compare(make<v1::Add>(y, reshape(back, {2, 6, 8, c})));
            // Heads.
            t.compare(make<v1::Transpose>(reshape(x, {2, 12, 4, c}), Trial::ints({0, 2, 1, 3})));
            t.compare(make<v1::Transpose>(x, Trial::ints({0, 3, 1, 2})));
            // Joins and parts, along memory and across.
            const auto joined = make<v0::Concat>(ov::OutputVector{x, y}, 3), stacked = make<v0::Concat>(ov::OutputVector{x, y}, 1);
            t.compare(make<v1::Add>(joined, Trial::constant(type, {1}, {1})));
            t.compare(make<v1::Transpose>(reshape(stacked, {2, 6, 16, c}), Trial::ints({0, 2, 1, 3})));
            if (c > 4) {
                const auto part = make<v8::Slice>(x, Trial::ints({c - 4}), Trial::ints({c}), Trial::ints({1}), Trial::ints({3}));
                t.compare(make<v1::Add>(part, make<v8::Slice>(y, Trial::ints({0}), Trial::ints({4}), Trial::ints({1}), Trial::ints({3}))));
                t.compare(make<v1::Add>(x, make<v3::Broadcast>(row, Trial::ints({2, 6, 8, c}))));
            }
        }
    }
}

/// Windows of 7x7 pixels cut out of a map of 96 channels, as Swin does.
Schedule windows(Type type, std::int64_t channels, HostDevice& device) {
    Graph graph;
    Builder b(graph);
    const ValueId x = b.input(type, {2, 14, 14, channels}, "x"), y = b.input(type, {8, 49, channels}, "y");
    b.output(b.reshape(b.transpose(b.reshape(x, {2, 2, 7, 2, 7, channels}), {0, 1, 3, 2, 4, 5}), {8, 49, channels}), "cut");
    const ValueId joined = b.reshape(b.transpose(b.reshape(y, {2, 2, 2, 7, 7, channels}), {0, 1, 3, 2, 4, 5}), {2, 14, 14, channels});
    b.output(b.pointwise("Add", type, {x, joined}, "a + b"), "put");
    return make_schedule(graph, device);
}

TEST(CudaVectorViews, WindowsAreReadInVectors) {
    HostDevice device;
    for (const Type type : {Type::f16, Type::f32}) {
        const Schedule schedule = windows(type, 96, device);
        ASSERT_FALSE(schedule.kernels.empty());
        for (const std::string& kernel : schedule.kernels) EXPECT_NE(kernel.find("store16("), std::string::npos) << kernel;
        for (const std::string& kernel : windows(type, 3, device).kernels) EXPECT_EQ(kernel.find("store16("), std::string::npos) << kernel;
    }
}

TEST(CudaVectorViews, NvrtcTakesThem) {
    if (const std::string missing = nvrtc_missing(); !missing.empty()) GTEST_SKIP() << missing;
    HostDevice device;
    for (const Type type : {Type::f16, Type::bf16, Type::f32, Type::i64, Type::u8}) {
        EXPECT_NO_THROW(
            (void)compile_kernels(module_source(windows(type, 96, device)).text, {.compute = 90, .threads_per_block = 256, .driver_version = 13000}));
    }
}

}  // namespace
}  // namespace ai_vmm::cuda::test
