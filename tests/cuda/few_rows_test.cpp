// SPDX-License-Identifier: Apache-2.0
/// Products of a few rows on tensor cores.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "codegen/few_rows.hpp"
#include "codegen/skinny.hpp"
#include "cuda/nvrtc_fixture.hpp"
#include "cuda/on_device.hpp"
#include "cuda/trial.hpp"
#include "driver/kernel_compiler.hpp"

namespace ai_vmm::cuda::test {
namespace {

using namespace ov::op;
using ov::element::f32;

constexpr CodegenTarget kGpu{256, 132, true};

MatmulSpec spec_of(std::int64_t m, std::int64_t n, std::int64_t k, Type type = Type::f16) {
    MatmulSpec spec;
    spec.m = m;
    spec.n = n;
    spec.k = k;
    spec.transpose_b = true;
    spec.type = spec.result = spec.bias_type = type;
    spec.row_stride_a = spec.row_stride_b = k;
    return spec;
}

bool is_few_rows(const std::string& kernel) { return kernel.find("@_mma") != std::string::npos; }

TEST(CudaFewRows, AreForTensorCoresWhereThereAreColumnsForAllOfThem) {
    EXPECT_TRUE(on_tensor_cores(spec_of(8, 4096, 4096), kGpu));
    EXPECT_TRUE(on_tensor_cores(spec_of(2, 4096, 4096, Type::bf16), kGpu));
    EXPECT_FALSE(on_tensor_cores(spec_of(1, 4096, 4096), kGpu));
    EXPECT_FALSE(on_tensor_cores(spec_of(8, 4096, 4096), {256, 132, false}));
    EXPECT_FALSE(on_tensor_cores(spec_of(8, 4096, 4096, Type::f32), kGpu)) << "which f32 is not";
    EXPECT_FALSE(on_tensor_cores(spec_of(9, 4096, 4096), kGpu));
    EXPECT_FALSE(on_tensor_cores(spec_of(8, 768, 4096), kGpu)) << "fewer blocks than half the multiprocessors";
    EXPECT_FALSE(on_tensor_cores(spec_of(8, 4096, 4092), kGpu));
    EXPECT_FALSE(on_tensor_cores(spec_of(8, 4096, 128), kGpu)) << "less than a step of every warp";
}

TEST(CudaFewRows, KernelsCompileForGpus) {
    if (const std::string missing = nvrtc_missing(); !missing.empty()) GTEST_SKIP() << missing;
    Schedule schedule;
    for (const Type type : {Type::f16, Type::bf16}) {
        for (const std::int64_t m : {2, 5, 8}) {
            MatmulSpec spec = spec_of(m, 1061, 328, type);
            spec.activation = Activation::silu;
            Graph graph;
            Builder b(graph);
            const ValueId y = b.matmul(b.input(type, {1, m, spec.k}, "x"), b.input(type, {1, spec.n, spec.k}, "w"), spec);
            Places places;
            for (std::size_t id = 0; id < graph.values.size(); ++id) {
                const auto value = static_cast<ValueId>(id);
                places.push_back(Place{value, row_major_strides(graph.value(value).dims), 0});
            }
            schedule.kernels.push_back(skinny_kernel(graph, places, *graph.producer(y), spec, kGpu).text);
        }
    }
    EXPECT_TRUE(std::ranges::all_of(schedule.kernels, is_few_rows));
    for (const int compute : {80, 90})
        EXPECT_NO_THROW((void)compile_kernels(module_source(schedule).text, {.compute = compute, .threads_per_block = 256, .driver_version = 13000}));
}

using FewRowsOnDevice = OnDevice;

TEST_F(FewRowsOnDevice, ComputeWhatTheModelSays) {
    for (const std::size_t rows : {2, 3, 5, 8}) {
        for (const std::size_t columns : {1056, 1061, 4096}) {
            for (const std::size_t depth : {256, 328, 1032, 4096}) {
                SCOPED_TRACE(fmt::format("{} rows, {} columns of {}", rows, columns, depth));
                const Output x = std::make_shared<v0::Parameter>(f32, ov::Shape{rows, depth});
                const auto w = make<v0::Constant>(spread(f32, {columns, depth}, -0.1, 0.1, 5)),
                           b = make<v0::Constant>(spread(f32, {columns}, -1, 1, 6));
                const Schedule done = compare_in_f16(device_, x, make<v0::Relu>(make<v1::Add>(make<v0::MatMul>(x, w, false, true), b)), 2e-2);
                EXPECT_EQ(std::ranges::count_if(done.kernels, is_few_rows), 1) << print(done);
            }
        }
    }
}

}  // namespace
}  // namespace ai_vmm::cuda::test
