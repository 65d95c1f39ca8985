// SPDX-License-Identifier: Apache-2.0
// What of the vendor libraries needs no GPU: specifications in their terms, weights in their layout, the choice among candidates, and their absence.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <numeric>
#include <random>
#include <set>

#include "ai_vmm/error.hpp"
#include "cuda/host_device.hpp"
#include "libraries/cublaslt.hpp"
#include "libraries/cudnn.hpp"
#include "libraries/matmul_problem.hpp"
#include "libraries/recurrent_weights.hpp"
#include "libraries/specs.hpp"
#include "libraries/tuning.hpp"
#include "libraries/vendor_libraries.hpp"

namespace ai_vmm::cuda {
namespace {

using Values = std::vector<double>;

double activated(double x, Activation activation) {
    if (activation == Activation::relu) return std::max(x, 0.0);
    if (activation == Activation::gelu_tanh) return 0.5 * x * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
    return x;
}

Activation activation_of(LtEpilogue epilogue) {
    switch (epilogue) {
        case LtEpilogue::relu:
        case LtEpilogue::relu_bias: return Activation::relu;
        case LtEpilogue::gelu:
        case LtEpilogue::gelu_bias: return Activation::gelu_tanh;
        default: return Activation::none;
    }
}

bool has_bias(LtEpilogue epilogue) { return epilogue == LtEpilogue::bias || epilogue == LtEpilogue::relu_bias || epilogue == LtEpilogue::gelu_bias; }

/// The specification itself.
void row_major(const MatmulSpec& s, const Values& a, const Values& b, const Values& bias, const Values& residual, Values& d) {
    for (std::int64_t batch = 0; batch < s.batch; ++batch) {
        for (std::int64_t i = 0; i < s.m; ++i) {
            for (std::int64_t j = 0; j < s.n; ++j) {
                double sum = 0;
                for (std::int64_t k = 0; k < s.k; ++k) {
                    const auto at_a = batch * s.batch_stride_a + (s.transpose_a ? k * s.row_stride_a + i : i * s.row_stride_a + k);
                    const auto at_b = batch * s.batch_stride_b + (s.transpose_b ? j * s.row_stride_b + k : k * s.row_stride_b + j);
                    sum += a.at(static_cast<std::size_t>(at_a)) * b.at(static_cast<std::size_t>(at_b));
                }
                const auto at = static_cast<std::size_t>(batch * s.batch_stride_d + i * s.row_stride_d + j);
                double value = s.alpha * sum;
                if (s.bias) value += bias.at(static_cast<std::size_t>(j));
                if (s.residual) value += residual.at(at);
                d.at(at) = activated(value, s.activation);
            }
        }
    }
}

/// What cuBLASLt documents for a problem: column-major matrices, the bias one value per row.
void column_major(const LtProblem& p, const Values& a, const Values& b, const Values& bias, const Values& c, Values& d) {
    const auto at = [](const Values& values, const LtMatrix& m, std::int64_t batch, std::int64_t row, std::int64_t column) {
        EXPECT_LT(row, m.rows);
        EXPECT_LT(column, m.columns);
        return values.at(static_cast<std::size_t>(batch * m.batch_stride + column * m.leading + row));
    };
    const std::int64_t depth = p.transpose_a ? p.a.rows : p.a.columns;
    ASSERT_EQ(depth, p.transpose_b ? p.b.columns : p.b.rows);
    ASSERT_EQ(p.d.rows, p.transpose_a ? p.a.columns : p.a.rows);
    ASSERT_EQ(p.d.columns, p.transpose_b ? p.b.rows : p.b.columns);
    for (const LtMatrix* m : {&p.a, &p.b, &p.d}) ASSERT_GE(m->leading, m->rows);
    for (std::int64_t batch = 0; batch < p.batch; ++batch) {
        for (std::int64_t row = 0; row < p.d.rows; ++row) {
            for (std::int64_t column = 0; column < p.d.columns; ++column) {
                double sum = 0;
                for (std::int64_t k = 0; k < depth; ++k) {
                    sum += (p.transpose_a ? at(a, p.a, batch, k, row) : at(a, p.a, batch, row, k)) *
                           (p.transpose_b ? at(b, p.b, batch, column, k) : at(b, p.b, batch, k, column));
                }
                const auto to = static_cast<std::size_t>(batch * p.d.batch_stride + column * p.d.leading + row);
                double value = p.alpha * sum;
                if (p.beta != 0) value += p.beta * c.at(to);
                if (has_bias(p.epilogue)) value += bias.at(static_cast<std::size_t>(row));
                d.at(to) = activated(value, activation_of(p.epilogue));
            }
        }
    }
}

Values random_values(std::int64_t count, std::mt19937& random) {
    Values values(static_cast<std::size_t>(count));
    for (double& value : values) value = std::uniform_real_distribution<double>(-1, 1)(random);
    return values;
}

void expect_same(const MatmulSpec& spec) {
    SCOPED_TRACE(to_string(spec));
    const auto problem = lt_problem(spec);
    ASSERT_TRUE(problem);
    const auto extents = buffers(spec);
    std::mt19937 random(7);
    const Values a = random_values(extents[0].elements, random);
    const Values b = random_values(extents[1].elements, random);
    const Values bias = random_values(spec.n, random);
    const Values residual = random_values(extents[2].elements, random);
    Values expected(static_cast<std::size_t>(extents[2].elements), 77);
    Values found = expected;  // what lies between the rows must stay
    row_major(spec, a, b, bias, residual, expected);
    column_major(*problem, b, a, bias, residual, found);
    for (std::size_t i = 0; i < expected.size(); ++i) ASSERT_NEAR(found[i], expected[i], 1e-12) << i;
}

MatmulSpec dense(std::int64_t m, std::int64_t n, std::int64_t k, bool transpose_a = false, bool transpose_b = false, std::int64_t batch = 1) {
    return {.m = m,
            .n = n,
            .k = k,
            .batch = batch,
            .transpose_a = transpose_a,
            .transpose_b = transpose_b,
            .row_stride_a = transpose_a ? m : k,
            .row_stride_b = transpose_b ? k : n,
            .row_stride_d = n,
            .batch_stride_a = m * k,
            .batch_stride_b = k * n,
            .batch_stride_d = m * n};
}

TEST(LtProblem, IsTheRowMajorProduct) {
    std::mt19937 random(1);
    const auto pick = [&random](int low, int high) { return std::uniform_int_distribution<std::int64_t>(low, high)(random); };
    for (int i = 0; i < 300; ++i) {
        MatmulSpec spec = dense(pick(1, 5), pick(1, 5), pick(1, 5), pick(0, 1) == 1, pick(0, 1) == 1, pick(1, 3));
        spec.row_stride_a += pick(0, 2);
        spec.row_stride_b += pick(0, 2);
        spec.row_stride_d += pick(0, 2);
        spec.batch_stride_a = pick(0, 2) == 0 ? 0 : spec.row_stride_a * (spec.transpose_a ? spec.k : spec.m) + pick(0, 1);
        spec.batch_stride_b = pick(0, 1) == 0 ? 0 : spec.row_stride_b * (spec.transpose_b ? spec.n : spec.k) + pick(0, 1);
        spec.batch_stride_d = spec.row_stride_d * spec.m + pick(0, 1);
        spec.bias = pick(0, 1) == 1;
        spec.residual = pick(0, 1) == 1;
        spec.alpha = pick(0, 1) == 1 ? 1.0F : -0.5F;
        spec.activation = std::array{Activation::none, Activation::relu, Activation::gelu_tanh}[static_cast<std::size_t>(pick(0, 2))];
        expect_same(spec);
        if (HasFatalFailure()) return;
    }
}

TEST(LtProblem, BatchesThatShareBBecomeRows) {
    MatmulSpec spec = dense(3, 4, 5, false, true, 6);
    spec.batch_stride_b = 0;
    ASSERT_TRUE(lt_problem(spec));
    EXPECT_EQ(lt_problem(spec)->batch, 1);
    EXPECT_EQ(lt_problem(spec)->d.columns, 18);
    expect_same(spec);
    spec.batch_stride_a += 1;  // rows no longer follow one another
    EXPECT_EQ(lt_problem(spec)->batch, 6);
    expect_same(spec);
    MatmulSpec single = dense(1, 4, 5, false, false, 6);  // one row each: any distance will do
    single.batch_stride_b = 0;
    single.batch_stride_a = 9;
    single.batch_stride_d = 11;
    EXPECT_EQ(lt_problem(single)->batch, 1);
    expect_same(single);
}

TEST(LtProblem, RowsOfOneRowMatricesNeedNoStride) {
    MatmulSpec spec = dense(1, 4, 5);
    spec.row_stride_a = spec.row_stride_d = 0;
    expect_same(spec);
}

TEST(LtProblem, RefusesWhatTheLibraryHasNoWordsFor) {
    const MatmulSpec good = dense(2, 3, 4);
    ASSERT_TRUE(lt_problem(good));
    const auto refused = [&good](auto change) {
        MatmulSpec spec = good;
        change(spec);
        return !lt_problem(spec).has_value();
    };
    EXPECT_TRUE(refused([](MatmulSpec& s) { s.m = 0; }));
    EXPECT_TRUE(refused([](MatmulSpec& s) { s.k = 0; }));
    EXPECT_TRUE(refused([](MatmulSpec& s) { s.row_stride_a = 3; }));
    EXPECT_TRUE(refused([](MatmulSpec& s) { s.batch = 2, s.batch_stride_d = 0; }));
    EXPECT_TRUE(refused([](MatmulSpec& s) { s.activation = Activation::gelu_erf; }));
    EXPECT_TRUE(refused([](MatmulSpec& s) { s.activation = Activation::silu; }));
    EXPECT_TRUE(refused([](MatmulSpec& s) { s.type = Type::i16; }));
    EXPECT_TRUE(refused([](MatmulSpec& s) { s.result = Type::f16; }));
    EXPECT_TRUE(refused([](MatmulSpec& s) { s.type = s.result = Type::f16, s.bias = true, s.bias_type = Type::f32; }));
    EXPECT_TRUE(refused([](MatmulSpec& s) { s.type = s.result = Type::f64, s.activation = Activation::relu; }));
    EXPECT_TRUE(refused([](MatmulSpec& s) { s.type = Type::i8, s.result = Type::i32, s.alpha = 0.5F; }));
    EXPECT_TRUE(refused([](MatmulSpec& s) { s.type = Type::i8, s.result = Type::i32, s.bias = true, s.bias_type = Type::i32; }));
}

TEST(LtProblem, ChoosesTheComputationByType) {
    const auto compute = [](Type type, Type result, bool tf32 = false) {
        MatmulSpec spec = dense(2, 3, 4);
        spec.type = type;
        spec.result = result;
        spec.tf32 = tf32;
        const auto problem = lt_problem(spec);
        return problem ? std::optional(problem->compute) : std::nullopt;
    };
    EXPECT_EQ(compute(Type::f32, Type::f32), LtCompute::f32);
    EXPECT_EQ(compute(Type::f32, Type::f32, true), LtCompute::tf32);
    EXPECT_EQ(compute(Type::f16, Type::f16, true), LtCompute::f32);
    EXPECT_EQ(compute(Type::bf16, Type::f32), LtCompute::f32);
    EXPECT_EQ(compute(Type::f8e4m3, Type::bf16), LtCompute::f32);
    EXPECT_EQ(compute(Type::f8e4m3, Type::f32), std::nullopt) << "added up with fewer bits than f32 has";
    EXPECT_EQ(compute(Type::f64, Type::f64), LtCompute::f64);
    EXPECT_EQ(compute(Type::i8, Type::i32), LtCompute::i32);
}

TEST(Specs, TextTellsThemApart) {
    std::vector<MatmulSpec> specs(1, dense(2, 3, 4));
    const auto add = [&specs](auto change) {
        specs.push_back(specs.front());
        change(specs.back());
    };
    add([](MatmulSpec& s) { s.transpose_a = true; });
    add([](MatmulSpec& s) { s.row_stride_b = 9; });
    add([](MatmulSpec& s) { s.batch_stride_d = 9; });
    add([](MatmulSpec& s) { s.type = Type::f16; });
    add([](MatmulSpec& s) { s.bias = true; });
    add([](MatmulSpec& s) { s.residual = true; });
    add([](MatmulSpec& s) { s.tf32 = true; });
    add([](MatmulSpec& s) { s.alpha = 1.0000001F; });
    add([](MatmulSpec& s) { s.activation = Activation::relu6; });
    std::set<std::string> lines;
    for (const MatmulSpec& spec : specs) lines.insert(to_string(spec));
    EXPECT_EQ(lines.size(), specs.size());
}

TEST(Specs, ExtentsCoverWhatIsTouched) {
    MatmulSpec matmul = dense(2, 3, 4, true, false, 2);
    matmul.row_stride_a = 5;
    matmul.batch_stride_a = 30;
    matmul.batch_stride_b = 0;
    EXPECT_EQ(buffers(matmul)[0], (BufferExtent{Type::f32, 30 + 3 * 5 + 2}));
    EXPECT_EQ(buffers(matmul)[1], (BufferExtent{Type::f32, 12}));
    const ConvolutionSpec convolution = {.batch = 2,
                                         .channels_in = 6,
                                         .channels_out = 4,
                                         .groups = 2,
                                         .in = {8, 9},
                                         .kernel = {3, 3},
                                         .out = {6, 7},
                                         .type = Type::f16,
                                         .result = Type::f16,
                                         .bias = true,
                                         .residual = true};
    EXPECT_EQ(buffers(convolution),
              (std::vector<BufferExtent>{
                  {Type::f16, 2 * 6 * 72}, {Type::f16, 4 * 3 * 9}, {Type::f16, 2 * 4 * 42}, {Type::f32, 4}, {Type::f16, 2 * 4 * 42}}));
    ConvolutionSpec integers = convolution;
    integers.type = Type::i8;
    integers.scale = true;
    EXPECT_EQ(buffers(integers),
              (std::vector<BufferExtent>{
                  {Type::i8, 2 * 6 * 72}, {Type::i8, 4 * 3 * 9}, {Type::f16, 2 * 4 * 42}, {Type::f32, 4}, {Type::f32, 4}, {Type::f16, 2 * 4 * 42}}));
    EXPECT_NE(to_string(integers), to_string(convolution));
    const RecurrentSpec recurrence = {.cell = RecurrentSpec::Cell::lstm, .steps = 5, .batch = 2, .input = 3, .hidden = 4, .directions = 2};
    const auto extents = buffers(recurrence, 1000);
    ASSERT_EQ(extents.size(), 7U);
    EXPECT_EQ(extents[3].elements, 250);
    EXPECT_EQ(extents[4].elements, 5 * 2 * 2 * 4);
}

std::vector<std::byte> as_bytes(const std::vector<float>& values) {
    std::vector<std::byte> bytes(values.size() * sizeof(float));
    std::memcpy(bytes.data(), values.data(), bytes.size());
    return bytes;
}

/// A layout that puts gates apart and in falling order, so that nothing fits by chance.
RecurrentLayout scattered(const RecurrentSpec& spec) {
    RecurrentLayout layout;
    const int count = gates(spec.cell);
    const auto matrix = static_cast<std::size_t>(spec.hidden * std::max(spec.input, spec.hidden)) * sizeof(float);
    const auto bias = static_cast<std::size_t>(spec.hidden) * sizeof(float);
    layout.directions.assign(static_cast<std::size_t>(spec.directions), std::vector<GateOffsets>(static_cast<std::size_t>(2 * count)));
    for (auto& direction : layout.directions) {
        for (auto gate = direction.rbegin(); gate != direction.rend(); ++gate) {
            gate->bias = layout.bytes + 4;
            gate->matrix = gate->bias + bias;
            layout.bytes = gate->matrix + matrix;
        }
    }
    return layout;
}

float read(const std::vector<std::byte>& bytes, std::size_t offset, std::size_t index) {
    float value = 0;
    std::memcpy(&value, bytes.data() + offset + index * sizeof(float), sizeof(value));
    return value;
}

void expect_packed(RecurrentSpec::Cell cell, const std::vector<std::size_t>& source) {
    const RecurrentSpec spec = {.cell = cell, .steps = 1, .batch = 1, .input = 3, .hidden = 2, .directions = 2};
    const std::size_t count = source.size();
    const bool gru = cell == RecurrentSpec::Cell::gru_reset_after;
    const std::size_t biases = gru ? 4 : count;
    std::vector<float> w(2 * count * 2 * 3);
    std::vector<float> r(2 * count * 2 * 2);
    std::vector<float> b(2 * biases * 2);
    std::iota(w.begin(), w.end(), 1000.0F);
    std::iota(r.begin(), r.end(), 2000.0F);
    std::iota(b.begin(), b.end(), 3000.0F);
    const RecurrentLayout layout = scattered(spec);
    const auto packed = pack_weights(spec, layout, as_bytes(w), as_bytes(r), as_bytes(b));
    ASSERT_EQ(packed.size(), layout.bytes);
    for (std::size_t direction = 0; direction < 2; ++direction) {
        for (std::size_t gate = 0; gate < count; ++gate) {
            const GateOffsets& input = layout.directions[direction][gate];
            const GateOffsets& state = layout.directions[direction][count + gate];
            const std::size_t from = direction * count + source[gate];
            for (std::size_t i = 0; i < 6; ++i) EXPECT_EQ(read(packed, input.matrix, i), w[from * 6 + i]);
            for (std::size_t i = 0; i < 4; ++i) EXPECT_EQ(read(packed, state.matrix, i), r[from * 4 + i]);
            for (std::size_t i = 0; i < 2; ++i) {
                const std::size_t bias = direction * biases + source[gate];
                EXPECT_EQ(read(packed, input.bias, i), b[bias * 2 + i]);
                EXPECT_EQ(read(packed, state.bias, i), gru && gate == 2 ? b[(bias + 1) * 2 + i] : 0.0F);
            }
        }
    }
}

// OpenVINO keeps f, i, c, o and z, r, h; cuDNN i, f, c, o and r, z, h.
TEST(RecurrentWeights, GoWhereTheLibraryHasThem) {
    expect_packed(RecurrentSpec::Cell::lstm, {1, 0, 2, 3});
    expect_packed(RecurrentSpec::Cell::gru_reset_after, {1, 0, 2});
    expect_packed(RecurrentSpec::Cell::relu, {0});
}

TEST(RecurrentWeights, OfAnotherSizeAreRefused) {
    const RecurrentSpec spec = {.cell = RecurrentSpec::Cell::tanh, .steps = 1, .batch = 1, .input = 3, .hidden = 2};
    const RecurrentLayout layout = scattered(spec);
    const std::vector<std::byte> w(24), r(16), b(8);
    EXPECT_NO_THROW((void)pack_weights(spec, layout, w, r, b));
    for (int which = 0; which < 3; ++which) {
        try {
            const std::vector<std::byte> wrong(4);
            (void)pack_weights(spec, layout, which == 0 ? wrong : w, which == 1 ? wrong : r, which == 2 ? wrong : b);
            ADD_FAILURE() << which;
        } catch (const Error& error) {
            EXPECT_EQ(error.code(), ErrorCode::invalid_argument);
        }
    }
}

TEST(Choices, ComeBack) {
    const std::map<std::string, std::string> choices = {{"a", std::string("\0\1\n", 3)}, {"b", ""}, {"matmul m=1", "x"}};
    const std::string bytes = pack_choices(choices);
    EXPECT_EQ(unpack_choices(bytes), choices);
    EXPECT_EQ(unpack_choices(pack_choices({})), (std::map<std::string, std::string>{}));
}

TEST(Choices, DamagedAreNone) {
    const std::map<std::string, std::string> choices = {{"a", "1234"}, {"b", "5678"}};
    const std::string bytes = pack_choices(choices);
    for (std::size_t size = 0; size < bytes.size(); ++size) {
        const auto read = unpack_choices(bytes.substr(0, size));
        EXPECT_TRUE(!read || read->size() < choices.size()) << size;  // cut between two entries
    }
    EXPECT_FALSE(unpack_choices("something else"));
    std::string huge = bytes;
    huge[bytes.find("1234") - 1] = '\x7f';  // a size far past the end
    EXPECT_FALSE(unpack_choices(huge));
    test::HostDevice device;
    VendorLibraries libraries(device, false);
    EXPECT_FALSE(libraries.add_choices(huge));
    EXPECT_TRUE(libraries.add_choices(bytes));
    EXPECT_EQ(libraries.choices(), bytes);
}

// A device without CUDA: the libraries are missing or find no GPU; either way they say so by name and nothing is made.
TEST(VendorLibraries, ThatCannotBeUsedSayWhy) {
    test::HostDevice device;
    std::string reason;
    if (CublasLt::open(device, reason) != nullptr) GTEST_SKIP() << "this machine has a GPU; products_device_test.cpp uses it";
    EXPECT_THAT(reason, testing::HasSubstr("cuBLASLt"));
    EXPECT_EQ(Cudnn::open(device, reason), nullptr);
    EXPECT_THAT(reason, testing::HasSubstr("cuDNN"));
    VendorLibraries libraries(device, true);
    EXPECT_EQ(libraries.make(dense(2, 3, 4)), nullptr);
    EXPECT_EQ(libraries.make(ConvolutionSpec{}), nullptr);
    EXPECT_FALSE(libraries.takes(ConvolutionSpec{}));
    EXPECT_EQ(libraries.make(AttentionSpec{}), nullptr);
    EXPECT_EQ(libraries.make(RecurrentSpec{}), nullptr);
    EXPECT_THAT(libraries.describe(), testing::ElementsAre(testing::HasSubstr("cuBLASLt"), testing::HasSubstr("cuDNN")));
}

TEST(Scratch, HoldsFiniteValuesInEveryElement) {
    test::HostDevice device;
    const auto stream = device.create_stream();
    const std::vector<BufferExtent> extents = {{Type::f32, 200001}, {Type::f16, 70000}, {Type::f64, 3}, {Type::f8e4m3, 100}, {Type::bf16, 1}};
    const Scratch scratch(device, *stream, extents, 64);
    std::vector<float> values(200001);
    stream->download(values.data(), scratch.buffers()[0], values.size() * sizeof(float));
    std::vector<std::uint16_t> halves(70000);
    stream->download(halves.data(), scratch.buffers()[1], halves.size() * 2);
    stream->synchronize();
    EXPECT_TRUE(std::all_of(values.begin(), values.end(), [](float v) { return std::abs(v) >= 0.5F && std::abs(v) < 1; }));
    EXPECT_TRUE(std::all_of(halves.begin(), halves.end(), [](std::uint16_t v) { return (v & 0x7C00U) == 0x3800U; }));
    EXPECT_NE(values[0], values[1]);
}

TEST(Fastest, PassesOverWhatFailsOrNeedsTooMuch) {
    test::HostDevice device;
    const Tuning tuning{.measure = true, .choice = {}, .workspace_limit_bytes = 1000};
    const std::vector<BufferExtent> extents = {{Type::f32, 16}};
    std::vector<int> ran(4);
    const auto best = fastest(device, tuning, extents, 4, [&ran](int i) -> std::optional<PreparedCandidate> {
        if (i == 0) return {};
        return PreparedCandidate{i == 1 ? 1001U : 0U, [&ran, i](Stream& stream, std::span<const std::uint64_t> addresses, std::uint64_t) {
                                     ++ran[static_cast<std::size_t>(i)];
                                     if (i == 2) throw Error(ErrorCode::internal, ErrorCategory::runtime, "no such kernel");
                                     stream.fill(addresses[0], 0, 64);
                                 }};
    });
    EXPECT_EQ(best, 3);
    EXPECT_EQ(ran[1], 0);
    EXPECT_EQ(ran[2], 1);
    EXPECT_GT(ran[3], 1);
}

TEST(Fastest, FailsWithTheDevice) {
    test::HostDevice device;
    const std::vector<BufferExtent> extents = {{Type::f32, 16}};
    EXPECT_THROW((void)fastest(device, Tuning{.measure = true, .choice = {}}, extents, 2,
                               [&device](int) -> std::optional<PreparedCandidate> {
                                   return PreparedCandidate{0, [&device](Stream& stream, std::span<const std::uint64_t> addresses, std::uint64_t) {
                                                                device.inject(test::Call::fill, test::Failure::sticky);
                                                                stream.fill(addresses[0], 0, 64);
                                                                stream.synchronize();
                                                            }};
                               }),
                 Error);
}

TEST(Fastest, IsNoneWhereNothingRuns) {
    test::HostDevice device;
    const std::vector<BufferExtent> extents = {{Type::f32, 16}};
    EXPECT_EQ(fastest(device, Tuning{}, extents, 3, [](int) { return std::optional<PreparedCandidate>(); }), std::nullopt);
    EXPECT_EQ(device.counters().allocations, 0);
}

}  // namespace
}  // namespace ai_vmm::cuda
