// SPDX-License-Identifier: Apache-2.0
/// Rows in registers: the same numbers as OpenVINO's for lengths around every limit, and the form for GPUs compiles and reads wide.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cstdlib>

#include "ai_vmm/error.hpp"
#include "base/file.hpp"
#include "codegen/register_rows.hpp"
#include "cuda/nvrtc_fixture.hpp"
#include "cuda/trial.hpp"
#include "driver/kernel_compiler.hpp"
#include "program/schedule.hpp"

namespace ai_vmm::cuda::test {
namespace {

using namespace ov::op;

TEST(CudaRegisterRows, NormalisationsAndSoftmaxOfEveryLength) {
    for (const auto& type : float_types()) {
        for (const std::size_t length : {1, 2, 7, 8, 49, 64, 197, 768, 1000, 4096, 5000}) {
            Trial t(fmt::format("rows of {} in {}", length, type.get_type_name()));
            const auto x = t.in(type, {3, 2, length}), residual = t.in(type, {3, 2, length}), scale = t.in(type, {length}),
                       shift = t.in(type, {1, 1, length});
            const double tolerance = type == ov::element::f16 ? 6e-3 : type == ov::element::bf16 ? 4e-2 : 4e-6;
            if (length > 1) {
                const auto normal = make<v6::MVN>(x, Trial::ints({2}), true, 1e-5F, MVNEpsMode::INSIDE_SQRT);
                t.compare(make<v1::Add>(make<v1::Multiply>(normal, scale), shift), tolerance);
                t.compare(make<v6::MVN>(make<v1::Add>(x, residual), Trial::ints({1, 2}), true, 1e-5F, MVNEpsMode::INSIDE_SQRT), tolerance);
            }
            t.compare(make<v8::Softmax>(make<v1::Add>(x, residual), 2), tolerance);
            t.compare(make<v1::ReduceMax>(x, Trial::ints({2}), true), tolerance);
        }
    }
}

/// The kernel that a GPU of 132 multiprocessors gets for a normalisation with scale and shift.
std::optional<KernelSource> normalisation(Type type, std::int64_t rows, std::int64_t length, std::int64_t row_stride) {
    Graph graph;
    Builder b(graph);
    const ValueId x = b.input(type, {rows, length}, "x"), scale = b.input(type, {length}, "scale");
    Rowwise what{"MVN", {rows, length}, {1}, Type::f32, {{Rowwise::Combine::sum, "return in0(i0, i1);", "s / 768"}}, "", false, 8, {}};
    what.stages.push_back({Rowwise::Combine::sum, "return (in0(i0, i1) - s0) * (in0(i0, i1) - s0);", "1 / sqrtf(s + 0.1f)"});
    what.result = "return (in0(i0, i1) - s0) * s1;";
    what.epilogues = {"return r * in1(i1);"};
    const ValueId y = b.rowwise(type, {x, scale}, std::move(what));
    Places places(graph.values.size());
    places[static_cast<std::size_t>(x)] = Place{x, {row_stride, 1}, 0};
    places[static_cast<std::size_t>(scale)] = Place{scale, {1}, 0};
    places[static_cast<std::size_t>(y)] = Place{y, {length, 1}, 0};
    return register_rows_kernel(graph, places, *graph.producer(y), {256, 132, true});
}

TEST(CudaRegisterRows, AGpuReadsSixteenBytesWhereTheyLieSo) {
    EXPECT_NE(normalisation(Type::f16, 4096, 768, 768)->text.find("load16"), std::string::npos);
    EXPECT_NE(normalisation(Type::f32, 4096, 768, 2304)->text.find("load16"), std::string::npos);
    EXPECT_NE(normalisation(Type::f16, 4096, 768, 770)->text.find("store16"), std::string::npos);  // the scale and the result at least
    EXPECT_EQ(normalisation(Type::f16, 4096, 197, 197)->text.find("load16"), std::string::npos);   // lines end anywhere
    EXPECT_EQ(normalisation(Type::f16, 4096, 768, 768)->launch.grid[0], 512U);                     // a warp a row
    EXPECT_EQ(normalisation(Type::f16, 4, 768, 768)->launch.grid[0], 2U);                          // more threads where rows are few
    EXPECT_FALSE(normalisation(Type::f16, 4, 1 << 20, 1 << 20));                                   // no registers for that
}

TEST(CudaRegisterRows, TheFormForGpusCompiles) {
    if (const std::string missing = nvrtc_missing(); !missing.empty()) GTEST_SKIP() << missing;
    Schedule schedule;
    for (const Type type : {Type::f16, Type::bf16, Type::f32}) {
        for (const std::int64_t length : {2, 49, 96, 197, 768, 1000, 4096, 5000}) {
            for (const std::int64_t rows : {1, 100, 100000}) {
                if (const auto kernel = normalisation(type, rows, length, length)) schedule.kernels.push_back(kernel->text);
            }
        }
    }
    EXPECT_NO_THROW((void)compile_kernels(module_source(schedule).text, {.compute = 90, .threads_per_block = 256, .driver_version = 13000}));
}

}  // namespace
}  // namespace ai_vmm::cuda::test
