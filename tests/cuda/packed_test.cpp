// SPDX-License-Identifier: Apache-2.0
/// Weights of 8 and 4 bits: products and tables that read them as they lie in memory.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <span>
#include <sstream>

#include "ai_vmm/error.hpp"
#include "codegen/packed.hpp"
#include "cuda/host_device.hpp"
#include "cuda/nvrtc_fixture.hpp"
#include "cuda/on_device.hpp"
#include "cuda/trial.hpp"
#include "driver/kernel_compiler.hpp"
#include "graph/passes.hpp"
#include "lower/lower.hpp"
#include "program/program.hpp"
#include "program/schedule.hpp"

namespace ai_vmm::cuda::test {
namespace {

using namespace ov::op;
using ov::element::f16;
using ov::element::f32;
using ov::element::i4;
using ov::element::i8;
using ov::element::u4;
using ov::element::u8;

/// Integers of every value that the type has.
Output integers(const ov::element::Type& type, const ov::Shape& shape, int seed = 0) {
    const int bits = static_cast<int>(type.bitwidth()), count = 1 << bits, least = type.is_signed() ? -count / 2 : 0;
    std::vector<int> values(ov::shape_size(shape));
    std::uint32_t state = 12345U + static_cast<std::uint32_t>(seed);
    for (int& value : values) {
        state = state * 1664525U + 1013904223U;
        value = least + static_cast<int>((state >> 16) % static_cast<std::uint32_t>(count));
    }
    return std::make_shared<v0::Constant>(type, shape, values);
}

Output numbers(const ov::element::Type& type, const ov::Shape& shape, double low, double high, unsigned seed) {
    return std::make_shared<v0::Constant>(spread(type, shape, low, high, seed));
}

enum class Zero : std::uint8_t { none, integers, numbers };

/// (packed - zero) * scale, as compressed models have it.
Output decompressed(const ov::element::Type& packed, const ov::element::Type& type, const ov::Shape& shape, const ov::Shape& factors, Zero zero) {
    Output w = make<v0::Convert>(integers(packed, shape), type);
    if (zero == Zero::integers) w = make<v1::Subtract>(w, make<v0::Convert>(integers(packed, factors, 7), type));
    if (zero == Zero::numbers) w = make<v1::Subtract>(w, numbers(type, factors, 1, 3, 5));
    return make<v1::Multiply>(w, numbers(type, factors, 0.002, 0.004, 3));
}

Output reshaped(const Output& x, const std::vector<std::int64_t>& to) { return make<v1::Reshape>(x, Trial::ints(to), false); }

/// Where `x` was an input of `type`.
Schedule scheduled(const Output& x, const Output& y, const LowerOptions& options = {}) {
    static HostDevice device;
    const auto parameter = ov::as_type_ptr<v0::Parameter>(x.get_node_shared_ptr());
    const ov::Model model(ov::OutputVector{y}, {parameter});
    const ov::Shape shape = x.get_shape();
    return make_schedule(lower(with_shapes(model, {Dims(shape.begin(), shape.end())}), options), device);
}

bool has_packed_product(const Schedule& schedule) {
    return std::any_of(schedule.graph.nodes.begin(), schedule.graph.nodes.end(),
                       [](const Node& node) { return std::holds_alternative<PackedProduct>(node.what); });
}

TEST(CudaPacked, ProductsOfEveryTypeRowsAndGroups) {
    for (const auto& packed : {i8, u8, i4, u4}) {
        for (const Zero zero : {Zero::none, Zero::integers, Zero::numbers}) {
            for (const std::size_t rows : {1, 3, 8}) {
                for (const std::size_t group : {8, 16, 32, 96}) {
                    Trial t(fmt::format("{} in groups of {}, zero {}, {} rows", packed.get_type_name(), group, static_cast<int>(zero), rows));
                    const std::size_t n = 20, k = 96;
                    const auto x = t.in(f32, {rows, k}, -1, 1);
                    Output w = decompressed(packed, f32, {n, k / group, group}, {n, k / group, 1}, zero);
                    w = reshaped(w, {20, 96});
                    const auto y = make<v0::MatMul>(x, w, false, true);
                    t.compare(y, 2e-6);
                    EXPECT_TRUE(has_packed_product(scheduled(x, y)));
                }
            }
        }
    }
}

TEST(CudaPacked, OneScaleForAllAndColumnsAcross) {
    for (const auto& packed : {i8, u8, i4, u4}) {
        Trial t(packed.get_type_name());
        const auto x = t.in(f32, {2, 2, 64}, -1, 1);
        // ONNX's order: k first.
        t.compare(make<v0::MatMul>(x, decompressed(packed, f32, {64, 12}, {1, 12}, Zero::integers), false, false), 2e-6);
        t.compare(make<v0::MatMul>(x, decompressed(packed, f32, {64, 12}, {1, 1}, Zero::none), false, false), 2e-6);
        t.compare(make<v0::MatMul>(x, decompressed(packed, f32, {12, 64}, {1, 1}, Zero::integers), false, true), 2e-6);
        // Groups of k where k is first.
        const Output w = decompressed(packed, f32, {4, 16, 12}, {4, 1, 12}, Zero::integers);
        const auto y = make<v0::MatMul>(x, reshaped(w, {64, 12}), false, false);
        t.compare(y, 2e-6);
        EXPECT_TRUE(has_packed_product(scheduled(x, y)));
        // The scale alone, and nothing but integers (whose sums are kept as small as those of the others).
        t.compare(make<v0::MatMul>(x, make<v1::Multiply>(make<v0::Convert>(integers(packed, {12, 64}), f32), Trial::constant(f32, {}, {0.01})), false,
                                   true),
                  2e-6);
        Trial plain(packed.get_type_name() + " alone");
        plain.compare(make<v0::MatMul>(plain.in(f32, {3, 64}, -0.002, 0.002), make<v0::Convert>(integers(packed, {12, 64}), f32), false, true), 2e-6);
    }
}

TEST(CudaPacked, HalvesWithBiasResidualAndActivation) {
    for (const auto& packed : {i8, u4}) {
        Trial t(packed.get_type_name());
        const auto x = t.in(f16, {4, 64}, -1, 1), added = t.in(f16, {4, 24});
        const Output w = make<v0::Convert>(reshaped(decompressed(packed, f16, {24, 2, 32}, {24, 2, 1}, Zero::integers), {24, 64}), f32);
        const auto y = make<v0::MatMul>(x, make<v0::Convert>(w, f16), false, true);
        const auto biased = make<v1::Add>(y, numbers(f16, {24}, -1, 1, 9));
        t.compare(make<v0::Relu>(biased), 5e-3);
        t.compare(make<v1::Add>(biased, added), 5e-3);
        t.compare(make<v0::MatMul>(make<v1::Transpose>(x, Trial::ints({1, 0})), make<v0::Convert>(w, f16), true, true), 5e-3);
    }
}

TEST(CudaPacked, ManyRowsReadNumbersThatWereMadeOnce) {
    for (const auto& packed : {i8, u4}) {
        Trial t(packed.get_type_name());
        const std::size_t n = 260, k = 256;
        const auto x = t.in(f32, {11, k}, -1, 1);
        const Output w = reshaped(decompressed(packed, f32, {n, 2, 128}, {n, 2, 1}, Zero::integers), {260, 256});
        const auto y = make<v0::MatMul>(x, w, false, true);
        t.compare(y, 1e-5);
        const Schedule schedule = scheduled(x, y);
        EXPECT_FALSE(has_packed_product(schedule));
        EXPECT_EQ(schedule.steps.size(), 1U) << print(schedule);
        EXPECT_EQ(schedule.weight_bytes, static_cast<std::int64_t>(n * k) * 4) << "and the integers are not kept";
    }
}

TEST(CudaPacked, NothingIsExpandedInMemory) {
    for (const auto& packed : {i8, u8, i4, u4}) {
        for (const Type type : {Type::f32, Type::f16}) {
            const std::size_t n = 64, k = 1024;
            const auto x = std::make_shared<v0::Parameter>(f32, ov::Shape{1, k});
            const Output w = reshaped(decompressed(packed, f32, {n, 8, 128}, {n, 8, 1}, Zero::integers), {64, 1024});
            const Schedule schedule = scheduled(x, make<v0::MatMul>(x, w, false, true), {.float_type = type});
            const std::string text = print(schedule);
            EXPECT_TRUE(has_packed_product(schedule)) << text;
            EXPECT_NE(text.find(fmt::format("{}[1,64,1024]", packed.get_type_name())), std::string::npos) << text;
            const auto held = static_cast<std::int64_t>(n * k * packed.bitwidth() / 8);
            EXPECT_LE(schedule.weight_bytes, held + static_cast<std::int64_t>(n) * 8 * 5) << text;
            EXPECT_LT(schedule.preparation_bytes + schedule.preparation_weight_bytes, static_cast<std::int64_t>(n * k) / 2) << text;
        }
    }
}

TEST(CudaPacked, TablesGiveRowsAsNumbers) {
    for (const auto& packed : {i8, u4}) {
        Trial t(packed.get_type_name());
        const auto at = t.given(ov::element::i64, {5}, {3, 0, 39, 7, 3});
        const Output rows = reshaped(decompressed(packed, f32, {40, 2, 32}, {40, 2, 1}, Zero::integers), {40, 64});
        const auto y = make<v8::Gather>(rows, at, Trial::scalar(0));
        t.compare(y);
        const Schedule schedule = scheduled(at, y);
        EXPECT_EQ(schedule.steps.size(), 1U) << print(schedule);
        EXPECT_LT(schedule.weight_bytes, static_cast<std::int64_t>(40 * 64 * packed.bitwidth() / 8 + 2048)) << print(schedule);
    }
}

TEST(CudaPacked, OneTableForWordsAndLogits) {
    Trial t("tied");
    const auto at = t.given(ov::element::i64, {2}, {3, 11});
    const Output table = decompressed(u8, f32, {48, 64}, {48, 1}, Zero::integers);
    const auto rows = make<v8::Gather>(table, at, Trial::scalar(0));
    t.compare(make<v0::MatMul>(make<v0::Tanh>(rows), table, false, true), 1e-5);
}

TEST(CudaPacked, ProductsOfOneInputStayApart) {
    // Three matrices side by side would be a copy of each in every run.
    Trial t("queries, keys, values");
    const auto x = t.in(f32, {2, 64}, -1, 1);
    ov::OutputVector all;
    for (int k = 0; k < 3; ++k) all.push_back(make<v0::MatMul>(x, decompressed(i8, f32, {16, 64}, {16, 1}, Zero::none), false, true));
    t.compare(all, 2e-6);
}

TEST(CudaPacked, WhatDoesNotComeInEightsIsExpandedOnce) {
    Trial t("groups of 4");
    const auto x = t.in(f32, {2, 64}, -1, 1);
    const auto y = make<v0::MatMul>(x, reshaped(decompressed(u4, f32, {10, 16, 4}, {10, 16, 1}, Zero::integers), {10, 64}), false, true);
    t.compare(y, 2e-6);
    EXPECT_FALSE(has_packed_product(scheduled(x, y)));
}

TEST(CudaPacked, BlocksAsOnnxHasThem) {
    // The integers are seen in blocks before they are converted.
    Trial t("blocks");
    const auto x = t.in(f32, {1, 64}, -1, 1);
    const Output blocks = reshaped(integers(i4, {64, 16}), {2, 32, 16});
    const Output weights = make<v1::Multiply>(make<v0::Convert>(blocks, f32), numbers(f32, {2, 1, 16}, 0.002, 0.004, 3));
    const auto y = make<v0::MatMul>(x, reshaped(weights, {64, 16}));
    t.compare(y, 2e-6);
    EXPECT_TRUE(has_packed_product(scheduled(x, y)));
}

TEST(CudaPacked, FoldingLeavesThemAsTheyAre) {
    const auto x = std::make_shared<v0::Parameter>(f32, ov::Shape{1, 64});
    const ov::Model model(ov::OutputVector{make<v0::MatMul>(x, decompressed(u8, f32, {8, 64}, {8, 1}, Zero::integers), false, true)}, {x});
    const auto fixed = with_shapes(model, {{1, 64}});
    EXPECT_TRUE(std::ranges::any_of(fixed->get_ordered_ops(), [](const auto& node) {
        return ov::is_type<v0::Constant>(node) && node->get_output_element_type(0) == u8 && node->get_output_shape(0) == ov::Shape{8, 64};
    }));
}

TEST(CudaPacked, WhatIsNoMatrixIsFolded) {
    // Recurrences, for one, take constants alone.
    const auto x = std::make_shared<v0::Parameter>(f32, ov::Shape{8, 64});
    const ov::Model model(ov::OutputVector{make<v1::Add>(x, decompressed(u8, f32, {8, 64}, {8, 1}, Zero::integers))}, {x});
    const auto fixed = with_shapes(model, {{8, 64}});
    EXPECT_TRUE(std::ranges::none_of(fixed->get_ordered_ops(), [](const auto& node) { return ov::is_type<v0::Convert>(node); }));
}

TEST(CudaPacked, StoredProgramsHoldThemAsTheyAre) {
    const auto device = std::make_shared<HostDevice>();
    const auto x = std::make_shared<v0::Parameter>(f32, ov::Shape{2, 1024});
    const auto rows = std::make_shared<v0::Parameter>(f32, ov::Shape{12, 1024});
    const Output w = reshaped(decompressed(u4, f32, {64, 8, 128}, {64, 8, 1}, Zero::integers), {64, 1024});
    const Output q = make<v0::FakeQuantize>(rows, Trial::constant(f32, {}, {-1}), Trial::constant(f32, {}, {1}), Trial::constant(f32, {}, {-1}),
                                            Trial::constant(f32, {}, {1}), 256);
    // Packed in the first, numbers in the second, integers in the third.
    const ov::Model model(ov::OutputVector{make<v0::MatMul>(x, w, false, true), make<v0::MatMul>(rows, w, false, true),
                                           make<v0::MatMul>(q, decompressed(i8, f32, {16, 1024}, {16, 1}, Zero::none), false, true)},
                          ov::ParameterVector{x, rows});
    const auto program =
        std::make_shared<const Program>(device, lower(with_shapes(model, {{2, 1024}, {12, 1024}})), std::make_shared<WeightStore>(device));
    std::ostringstream out;
    program->write_to(out);
    const std::string text = std::move(out).str();
    EXPECT_LT(text.size(), 64U * 1024 * (4 + 1) + 16U * 1024) << "of one expanded matrix, and one packed";
    const auto stored = std::make_shared<const Program>(device, read_program(std::as_bytes(std::span(text))), std::make_shared<WeightStore>(device));
    EXPECT_EQ(stored->weight_bytes(), program->weight_bytes());
    const ov::Tensor a = spread(f32, {2, 1024}, -1, 1, 3), b = spread(f32, {12, 1024}, -1, 1, 4);
    std::vector<std::vector<float>> results[2];
    for (int k = 0; k < 2; ++k) {
        auto& made = results[k] = {std::vector<float>(2 * 64), std::vector<float>(12 * 64), std::vector<float>(12 * 16)};
        const void* inputs[] = {a.data(), b.data()};
        void* outputs[] = {made[0].data(), made[1].data(), made[2].data()};
        Execution(k == 0 ? program : stored).run(inputs, outputs);
    }
    EXPECT_EQ(results[0], results[1]);
}

/// A product with everything. @returns its graph
Graph product(Type type, Type packed, std::int64_t rows, std::int64_t columns, std::int64_t depth, std::int64_t group,
              std::vector<std::vector<std::byte>>& kept) {
    Graph graph;
    Builder b(graph);
    PackedProduct what;
    what.packed = packed;
    what.group = group;
    what.scale = what.zero = true;
    what.spec.m = rows;
    what.spec.n = columns;
    what.spec.k = depth;
    what.spec.transpose_b = true;
    what.spec.type = what.spec.result = what.spec.bias_type = type;
    what.spec.bias = true;
    what.spec.activation = Activation::relu;
    const auto random = [&](Type of, const Dims& dims) {
        std::vector<std::byte> data(static_cast<std::size_t>(bytes(of, dims)));
        std::uint32_t state = 77;
        for (std::byte& byte : data) byte = static_cast<std::byte>((state = state * 1664525U + 1013904223U) >> 24);
        kept.push_back(std::move(data));
        const auto owner = std::make_shared<std::vector<std::byte>>(kept.back());
        return b.constant(of, dims, {owner, owner->data(), owner->size()});
    };
    std::vector<float> scales(static_cast<std::size_t>(columns * depth / group)), bias(static_cast<std::size_t>(columns), 0.5F);
    std::iota(scales.begin(), scales.end(), 1.0F);
    for (float& scale : scales) scale = 0.001F + std::fmod(scale, 1000.0F) * 1e-6F;
    const ValueId x = b.cast(b.input(Type::f32, {1, rows, depth}, "x"), type);
    const std::vector<ValueId> inputs{x, random(packed, {1, columns, depth}), b.constant_f32({1, columns, depth / group}, scales),
                                      random(Type::u8, {1, columns, depth / group}), b.cast(b.constant_f32({columns}, bias), type)};
    b.output(b.cast(b.packed_product(inputs, what), Type::f32), "y");
    return graph;
}

TEST(CudaPacked, KernelsCompileForGpus) {
    if (const std::string missing = nvrtc_missing(); !missing.empty()) GTEST_SKIP() << missing;
    Schedule schedule;
    std::vector<std::vector<std::byte>> kept;
    for (const Type type : {Type::f16, Type::bf16, Type::f32}) {
        for (const Type packed : {Type::i8, Type::u8, Type::i4, Type::u4}) {
            for (const auto& [columns, group] :
                 {std::pair<std::int64_t, std::int64_t>{100, 8}, {100, 16}, {100, 32}, {1061, 8}, {1061, 32}, {1061, 256}}) {
                const Graph graph = product(type, packed, 4, columns, 256, group, kept);
                Places places;
                for (std::size_t id = 0; id < graph.values.size(); ++id) {
                    const auto value = static_cast<ValueId>(id);
                    places.push_back(Place{value, row_major_strides(graph.value(value).dims), 0});
                }
                const auto node = std::ranges::find_if(graph.nodes, [](const Node& one) { return std::holds_alternative<PackedProduct>(one.what); });
                PackedProduct what = std::get<PackedProduct>(node->what);
                if (packed_together(what) == 0) continue;
                what.spec.row_stride_a = what.spec.k;
                schedule.kernels.push_back(packed_kernel(graph, places, *node, what, {256, 132, true}).text);
            }
        }
    }
    EXPECT_EQ(schedule.kernels.size(), 72U);
    EXPECT_EQ(std::ranges::count_if(schedule.kernels, [](const std::string& text) { return text.find("@_mma") != std::string::npos; }), 24);
    for (const int compute : {80, 90})
        EXPECT_NO_THROW((void)compile_kernels(module_source(schedule).text, {.compute = compute, .threads_per_block = 256, .driver_version = 13000}));
}

std::vector<float> run_on(const std::shared_ptr<Device>& device, const Graph& graph, const std::vector<float>& x, std::size_t count) {
    Execution execution(std::make_shared<Program>(device, graph, std::make_shared<WeightStore>(device)));
    std::vector<float> y(count);
    const void* inputs[] = {x.data()};
    void* outputs[] = {y.data()};
    execution.run(inputs, outputs);
    return y;
}

struct Form {
    std::int64_t columns, depth, group;
};

using PackedOnDevice = OnDeviceAndHost;

TEST_F(PackedOnDevice, KernelsComputeWhatTheProcessorDoes) {
    std::vector<std::vector<std::byte>> kept;
    for (const Type type : {Type::f16, Type::bf16, Type::f32}) {
        for (const Type packed : {Type::i8, Type::u8, Type::i4, Type::u4}) {
            for (const std::int64_t rows : {1, 2, 7, 8}) {
                for (const Form& f :
                     {Form{100, 256, 8}, {100, 256, 32}, {100, 256, 256}, {1061, 256, 8}, {1061, 328, 8}, {1061, 512, 32}, {1061, 512, 512}}) {
                    const Graph graph = product(type, packed, rows, f.columns, f.depth, f.group, kept);
                    std::vector<float> x(static_cast<std::size_t>(rows * f.depth));
                    for (std::size_t i = 0; i < x.size(); ++i) x[i] = std::sin(static_cast<float>(i));
                    const auto found = run_on(device_, graph, x, static_cast<std::size_t>(rows * f.columns)),
                               wanted = run_on(host_, graph, x, found.size());
                    // On tensor cores weights with scales of their own are rounded to 16 bits before they are multiplied; bf16 has no room for
                    // integers of 9 bits either, which 8 less a zero point are.
                    const bool rounded = f.columns > 1000 && rows > 1 && (f.group < f.depth || type == Type::bf16);
                    const double tolerance = (type == Type::f32 ? 1e-5 : type == Type::f16 ? 2e-3 : 1.6e-2) * (rounded ? 2 : 1);
                    for (std::size_t i = 0; i < found.size(); ++i)
                        ASSERT_NEAR(found[i], wanted[i], tolerance * (1 + std::abs(wanted[i])))
                            << to_string(type) << " " << to_string(packed) << " " << rows << " rows, " << f.columns << " columns of " << f.depth
                            << " in groups of " << f.group << ", element " << i;
                }
            }
        }
    }
}

}  // namespace
}  // namespace ai_vmm::cuda::test
