// SPDX-License-Identifier: Apache-2.0
/// Attention over few keys: recognised with all that exporters put around it, computed by one kernel, which every generation's compiler takes.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <tuple>

#include "ai_vmm/error.hpp"
#include "base/file.hpp"
#include "codegen/attention.hpp"
#include "codegen/few_queries.hpp"
#include "cuda/host_device.hpp"
#include "cuda/nvrtc_fixture.hpp"
#include "cuda/on_device.hpp"
#include "cuda/trial.hpp"
#include "driver/kernel_compiler.hpp"
#include "gpu.hpp"
#include "graph/passes.hpp"
#include "program/program.hpp"
#include "program/schedule.hpp"

namespace ai_vmm::cuda::test {
namespace {

using namespace ov::op;
using ov::element::bf16;
using ov::element::f16;
using ov::element::i64;

/// Shifted windows as exporters write them: packed projections, a bias per head, a mask per window in five dimensions.
TEST(CudaAttention, ShiftedWindows) {
    for (const auto& type : {f16, bf16}) {
        for (const std::size_t queries : {49, 16, 5}) {
            const std::size_t images = 2, windows = 4, heads = 3, features = 32, batch = images * windows;
            Trial t(fmt::format("windows of {} in {}", queries, type.get_type_name()));
            const auto packed = make<v1::Transpose>(t.in(type, {batch, queries, 3, heads, features}, -1, 1), Trial::ints({2, 0, 3, 1, 4}));
            const auto part = [&](std::int64_t k) { return make<v8::Gather>(packed, Trial::scalar(k), Trial::scalar(0)); };
            const auto product = make<v0::MatMul>(part(0), make<v1::Transpose>(part(1), Trial::ints({0, 1, 3, 2})), false, false);
            const auto scaled = make<v1::Multiply>(product, Trial::constant(type, {}, {0.25}));
            const auto biased = make<v1::Add>(scaled, t.in(type, {1, heads, queries, queries}, -1, 1));
            const auto n = [](std::size_t size) { return static_cast<std::int64_t>(size); };
            const auto apart = make<v1::Reshape>(biased, Trial::ints({n(images), n(windows), n(heads), n(queries), n(queries)}), false);
            const auto masked = make<v1::Add>(apart, t.in(type, {1, windows, 1, queries, queries}, -4, 0));
            const auto together = make<v1::Reshape>(masked, Trial::ints({n(batch), n(heads), n(queries), n(queries)}), false);
            const auto result = make<v0::MatMul>(make<v8::Softmax>(together, 3), part(2), false, false);
            t.compare(make<v1::Transpose>(result, Trial::ints({0, 2, 1, 3})), type == f16 ? 4e-3 : 3e-2);
        }
    }
}

/// Signs and magnitudes from 0.25 to 1.
std::vector<std::uint16_t> random_bits(Type type, std::int64_t count) {
    std::vector<std::uint16_t> all(static_cast<std::size_t>(count));
    unsigned state = 1;
    for (auto& bits : all) {
        state = state * 1664525U + 1013904223U;
        const unsigned random = state >> 16;
        bits = static_cast<std::uint16_t>((random & 0x8000U) | (type == Type::f16 ? 0x3400U + (random & 0x7ffU) : 0x3e80U + (random & 0xffU)));
    }
    return all;
}

Graph windows(Type type, std::int64_t queries, std::int64_t keys, bool causal, std::int64_t period, bool constant_mask = false,
              std::int64_t features = 16) {
    constexpr std::int64_t batch = 4;
    Graph graph;
    Builder b(graph);
    AttentionSpec spec;
    spec.batch = batch;
    spec.heads = 2;
    spec.kv_heads = 1;
    spec.queries = queries;
    spec.keys = keys;
    spec.head_size = spec.value_size = features;
    spec.type = type;
    spec.scale = 0.5F;
    spec.causal = causal;
    std::vector<ValueId> inputs{b.input(type, {batch, 2, queries, features}, "q"), b.input(type, {batch, 1, keys, features}, "k"),
                                b.input(type, {batch, 1, keys, features}, "v")};
    if (period > 0) {
        spec.mask = true;
        const Dims dims{period, 1, queries, keys};
        if (constant_mask) {
            auto bits = std::make_shared<std::vector<std::uint16_t>>(random_bits(type, elements(dims)));
            inputs.push_back(b.constant(type, dims, {bits, reinterpret_cast<const std::byte*>(bits->data()), bits->size() * 2}));
        } else {
            inputs.push_back(b.input(type, dims, "mask"));
        }
    }
    b.output(b.attention(std::move(inputs), spec), "o");
    return graph;
}

TEST(CudaAttention, FewKeysAreOneKernel) {
    HostDevice device;
    const auto kernels = [&](Graph graph) {
        const Schedule schedule = make_schedule(std::move(graph), device);
        return std::count_if(schedule.kernels.begin(), schedule.kernels.end(),
                             [](const std::string& text) { return text.find("KEYS") != std::string::npos; });
    };
    EXPECT_EQ(kernels(windows(Type::f16, 49, 49, false, 2)), 1);
    EXPECT_EQ(kernels(windows(Type::bf16, 1, 64, true, 0)), 1);
    EXPECT_EQ(kernels(windows(Type::f16, 7, 129, false, 0)), 0);
    EXPECT_EQ(kernels(windows(Type::f16, 4, 6, true, 0, false, 8)), 1);
    EXPECT_EQ(kernels(windows(Type::f16, 5, 6, true, 0, false, 24)), 0);
    EXPECT_EQ(kernels(windows(Type::f32, 49, 49, false, 2)), 0);
    // Few queries are, however many keys there are.
    EXPECT_EQ(kernels(windows(Type::f16, 1, 129, false, 0)), 1);
    EXPECT_EQ(kernels(windows(Type::bf16, 4, 3000, true, 1)), 1);
    EXPECT_EQ(kernels(windows(Type::f16, 5, 129, false, 0)), 0);
    EXPECT_EQ(kernels(windows(Type::f16, 1, 129, false, 0, false, 20)), 0);
}

/// The graph's one output for inputs that depend on its shapes alone.
std::vector<float> run(Graph graph, const std::shared_ptr<Device>& device) {
    const Type type = graph.value(graph.inputs.front()).type;
    std::vector<std::vector<std::uint16_t>> inputs;
    std::vector<const void*> pointers;
    for (ValueId id : graph.inputs) {
        inputs.push_back(random_bits(type, elements(graph.value(id).dims)));
        pointers.push_back(inputs.back().data());
    }
    std::vector<std::uint16_t> output(static_cast<std::size_t>(elements(graph.value(graph.outputs.front()).dims)));
    void* out = output.data();
    Execution execution(std::make_shared<const Program>(device, std::move(graph), std::make_shared<WeightStore>(device)));
    execution.run(pointers, {&out, 1});
    std::vector<float> result;
    for (const std::uint16_t bits : output) {
        if (type == Type::f16) {
            _Float16 half = 0;
            std::memcpy(&half, &bits, sizeof bits);
            result.push_back(static_cast<float>(half));
        } else {
            const std::uint32_t word = static_cast<std::uint32_t>(bits) << 16;
            float wide = 0;
            std::memcpy(&wide, &word, sizeof wide);
            result.push_back(wide);
        }
    }
    return result;
}

/// Compares the kernel with the expanded form.
void compare_forms(const std::shared_ptr<Device>& device) {
    for (const Type type : {Type::f16, Type::bf16}) {
        for (const auto& [queries, keys] : {std::pair{49, 49}, {1, 1}, {17, 64}, {33, 100}, {5, 128}}) {
            for (const bool causal : {false, true}) {
                for (const int period : {0, 1, 2, 4}) {
                    SCOPED_TRACE(fmt::format("{} {}x{} causal {} period {}", to_string(type), queries, keys, causal, period));
                    for (const bool constant : {false, true}) {
                        const Graph graph = windows(type, queries, keys, causal, period, constant);
                        const std::vector<float> actual = run(graph, device);
                        const std::vector<float> expected = run(expand_attention(graph, [](const AttentionSpec&) { return true; }), device);
                        for (std::size_t i = 0; i < actual.size(); ++i) ASSERT_NEAR(actual[i], expected[i], type == Type::f16 ? 2e-3 : 2e-2) << i;
                    }
                }
            }
        }
    }
}

/// The same for few queries, whose keys may be more than are looked at together; and again, for the same bits.
void compare_few_queries(const std::shared_ptr<Device>& device) {
    for (const Type type : {Type::f16, Type::bf16}) {
        for (const auto& [queries, keys, features] :
             {std::tuple{1, 130, 64}, {1, 197, 64}, {2, 1025, 8}, {3, 2500, 24}, {4, 300, 128}, {1, 150, 256}}) {
            for (const bool causal : {false, true}) {
                for (const int period : {0, 1, 4}) {
                    SCOPED_TRACE(fmt::format("{} {}x{}x{} causal {} period {}", to_string(type), queries, keys, features, causal, period));
                    const Graph graph = windows(type, queries, keys, causal, period, period == 1, features);
                    const std::vector<float> actual = run(graph, device);
                    const std::vector<float> expected = run(expand_attention(graph, [](const AttentionSpec&) { return true; }), device);
                    for (std::size_t i = 0; i < actual.size(); ++i) ASSERT_NEAR(actual[i], expected[i], type == Type::f16 ? 2e-3 : 2e-2) << i;
                    EXPECT_EQ(run(graph, device), actual);
                }
            }
        }
    }
}

/// Keys that are masked out, the first ones among them, count for nothing.
void mask_keys(const std::shared_ptr<Device>& device) {
    constexpr std::int64_t kKeys = 1500, kFeatures = 16;
    Graph graph;
    Builder b(graph);
    AttentionSpec spec{.batch = 1, .heads = 1, .kv_heads = 1, .queries = 1, .keys = kKeys, .head_size = kFeatures, .value_size = kFeatures};
    spec.mask = true;
    const auto constant = [&](Dims dims, const std::function<std::uint16_t(std::int64_t)>& at) {
        auto bits = std::make_shared<std::vector<std::uint16_t>>();
        for (std::int64_t i = 0; i < elements(dims); ++i) bits->push_back(at(i));
        return b.constant(Type::f16, std::move(dims), {bits, reinterpret_cast<const std::byte*>(bits->data()), bits->size() * 2});
    };
    // Values are 1 for the keys that count and 2 for the others.
    const auto counts = [](std::int64_t key) { return key >= 1200 && key < 1300; };
    const ValueId mask = constant({1, 1, 1, kKeys}, [&](std::int64_t key) { return counts(key) ? std::uint16_t{0} : std::uint16_t{0xFC00}; });
    const ValueId values = constant({1, 1, kKeys, kFeatures}, [&](std::int64_t i) { return counts(i / kFeatures) ? 0x3C00 : 0x4000; });
    b.output(b.attention({b.input(Type::f16, {1, 1, 1, kFeatures}, "q"), b.input(Type::f16, {1, 1, kKeys, kFeatures}, "k"), values, mask}, spec),
             "o");
    EXPECT_EQ(run(std::move(graph), device), std::vector<float>(kFeatures, 1.0F));
}

/// Probabilities of narrow heads are not rounded to what tensor cores take: the result is off by one rounding alone.
void compare_narrow_heads(const std::shared_ptr<Device>& device) {
    for (const bool causal : {false, true}) {
        for (const std::int64_t features : {1, 8, 12}) {
            constexpr std::int64_t queries = 5, keys = 7;
            SCOPED_TRACE(fmt::format("{} features, causal {}", features, causal));
            const std::vector<float> actual = run(windows(Type::f16, queries, keys, causal, 0, false, features), device);
            const auto numbers = [&](std::int64_t count) {
                std::vector<double> all;
                for (const std::uint16_t bits : random_bits(Type::f16, count)) {
                    _Float16 half = 0;
                    std::memcpy(&half, &bits, sizeof bits);
                    all.push_back(static_cast<double>(half));
                }
                return all;
            };
            const std::vector<double> q = numbers(4 * 2 * queries * features), kv = numbers(4 * keys * features);
            for (std::int64_t row = 0; row < 4 * 2 * queries; ++row) {
                const std::int64_t image = row / (2 * queries), at = row % queries;
                std::vector<double> weights;
                double sum = 0;
                for (std::int64_t j = 0; j < keys; ++j) {
                    double score = 0;
                    for (std::int64_t f = 0; f < features; ++f)
                        score += q[static_cast<std::size_t>(row * features + f)] * kv[static_cast<std::size_t>((image * keys + j) * features + f)];
                    weights.push_back(causal && j > at ? 0 : std::exp(0.5 * score));
                    sum += weights.back();
                }
                for (std::int64_t f = 0; f < features; ++f) {
                    double expected = 0;
                    for (std::int64_t j = 0; j < keys; ++j)
                        expected += weights[static_cast<std::size_t>(j)] / sum * kv[static_cast<std::size_t>((image * keys + j) * features + f)];
                    ASSERT_NEAR(actual[static_cast<std::size_t>(row * features + f)], expected, 5e-4 * std::abs(expected) + 1e-6) << row << ", " << f;
                }
            }
        }
    }
}

TEST(CudaAttention, NarrowHeadsRoundOnce) { compare_narrow_heads(std::make_shared<HostDevice>()); }

using AttentionOnDevice = OnDevice;

TEST_F(AttentionOnDevice, NarrowHeadsRoundOnce) { compare_narrow_heads(device_); }

TEST(CudaAttention, TheKernelIsWhatTheExpandedFormComputes) { compare_forms(std::make_shared<HostDevice>()); }

TEST_F(AttentionOnDevice, TheKernelIsWhatTheExpandedFormComputes) { compare_forms(device_); }

TEST(CudaAttention, FewQueriesAreWhatTheExpandedFormComputes) { compare_few_queries(std::make_shared<HostDevice>()); }

TEST_F(AttentionOnDevice, FewQueriesAreWhatTheExpandedFormComputes) { compare_few_queries(device_); }

TEST(CudaAttention, MaskedKeysCountForNothing) { mask_keys(std::make_shared<HostDevice>()); }

TEST_F(AttentionOnDevice, MaskedKeysCountForNothing) { mask_keys(device_); }

TEST(CudaAttention, TheFormForFewQueriesCompiles) {
    if (const std::string missing = nvrtc_missing(); !missing.empty()) GTEST_SKIP() << missing;
    for (const Type type : {Type::f16, Type::bf16}) {
        for (const auto& [queries, head, mask] : {std::tuple{1, 64, true}, {4, 256, false}, {2, 80, true}}) {
            AttentionSpec spec{.batch = 8, .heads = 4, .kv_heads = 2, .queries = queries, .keys = 5000, .head_size = head, .value_size = 64};
            spec.type = type;
            spec.mask = mask;
            spec.q_strides = spec.k_strides = spec.v_strides = spec.o_strides = {5000 * 4 * head, head, 4 * head, 1};
            spec.mask_dims = {8, 1, queries, 5000};
            spec.mask_strides = {queries * 5000, 0, 5000, 1};
            Node node;
            node.inputs = {0, 1, 2, 3};
            node.outputs = {4};
            Schedule schedule;
            schedule.kernels.push_back(few_queries_kernel(node, spec, {256, 132, true}).text);
            for (const int compute : {80, 90})
                EXPECT_NO_THROW(
                    (void)compile_kernels(module_source(schedule).text, {.compute = compute, .threads_per_block = 256, .driver_version = 13000}));
        }
    }
}

TEST(CudaAttention, TheTensorCoresFormCompiles) {
    if (const std::string missing = nvrtc_missing(); !missing.empty()) GTEST_SKIP() << missing;
    for (const Type type : {Type::f16, Type::bf16}) {
        for (const auto& [keys, head, mask] : {std::tuple{49, 32, true}, {128, 64, false}, {16, 16, true}, {100, 48, true}}) {
            AttentionSpec spec;
            spec.batch = 8;
            spec.heads = spec.kv_heads = 4;
            spec.queries = spec.keys = keys;
            spec.head_size = spec.value_size = head;
            spec.type = type;
            spec.mask = mask;
            spec.q_strides = spec.k_strides = spec.v_strides = spec.o_strides = {keys * 4 * head, head, 4 * head, 1};
            spec.mask_dims = {2, 1, keys, keys};
            spec.mask_strides = {keys * keys, 0, keys, 1};
            Node node;
            node.inputs = {0, 1, 2, 3};
            node.outputs = {4};
            Schedule schedule;
            for (const bool fragments : {false, true})
                schedule.kernels.push_back(short_attention_kernel(node, spec, fragments, {256, 132, true}).text);
            for (const int compute : {80, 90})
                EXPECT_NO_THROW(
                    (void)compile_kernels(module_source(schedule).text, {.compute = compute, .threads_per_block = 256, .driver_version = 13000}));
        }
    }
}

TEST(CudaAttention, LengthsOfOneTileHaveOneKernel) {
    const auto text = [](std::int64_t keys) {
        AttentionSpec spec;
        spec.heads = spec.kv_heads = 12;
        spec.queries = spec.keys = keys;
        spec.head_size = spec.value_size = 64;
        spec.q_strides = spec.k_strides = spec.v_strides = {keys * 2304, 64, 2304, 1};
        spec.o_strides = {keys * 768, 64, 768, 1};
        Node node;
        node.inputs = {0, 1, 2};
        node.outputs = {3};
        const KernelSource kernel = short_attention_kernel(node, spec, false, {256, 132, true});
        EXPECT_EQ(kernel.launch.limit, keys % 16 == 0 ? std::optional<std::int64_t>() : keys);
        return kernel.text;
    };
    EXPECT_EQ(text(97), text(111));
    EXPECT_EQ(text(101), text(100));
    EXPECT_NE(text(96), text(97));
    EXPECT_NE(text(112), text(111)) << "whole tiles are compared with nothing";
}

}  // namespace
}  // namespace ai_vmm::cuda::test
