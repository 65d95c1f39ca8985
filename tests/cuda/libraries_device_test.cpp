// SPDX-License-Identifier: Apache-2.0
// Attention and recurrences of libraries on a GPU against plain references. Skipped, saying so, where there is no GPU.
#include "cuda/libraries_on_device.hpp"
#include "libraries/recurrent_weights.hpp"

namespace ai_vmm::cuda::test {
namespace {

Values attention_reference(const AttentionSpec& s, const std::vector<Values>& in) {
    const auto at = [](const Values& values, const Dims& strides, std::int64_t b, std::int64_t h, std::int64_t i, std::int64_t j) {
        return values[static_cast<std::size_t>(b * strides[0] + h * strides[1] + i * strides[2] + j * strides[3])];
    };
    Values o = in[3];
    const std::int64_t shared = s.heads / s.kv_heads;
    Values scores(static_cast<std::size_t>(s.keys));
    for (std::int64_t b = 0; b < s.batch; ++b) {
        for (std::int64_t h = 0; h < s.heads; ++h) {
            for (std::int64_t q = 0; q < s.queries; ++q) {
                const std::int64_t keys = s.causal ? std::min(q + 1, s.keys) : s.keys;
                double greatest = -INFINITY;
                for (std::int64_t k = 0; k < keys; ++k) {
                    double score = 0;
                    for (std::int64_t d = 0; d < s.head_size; ++d)
                        score += at(in[0], s.q_strides, b, h, q, d) * at(in[1], s.k_strides, b, h / shared, k, d);
                    score *= s.scale;
                    if (s.mask) {
                        score += at(in[4], s.mask_strides, s.mask_dims[0] == 1 ? 0 : b, s.mask_dims[1] == 1 ? 0 : h, s.mask_dims[2] == 1 ? 0 : q,
                                    s.mask_dims[3] == 1 ? 0 : k);
                    }
                    scores[static_cast<std::size_t>(k)] = score;
                    greatest = std::max(greatest, score);
                }
                double sum = 0;
                for (std::int64_t k = 0; k < keys; ++k)
                    sum += scores[static_cast<std::size_t>(k)] = std::exp(scores[static_cast<std::size_t>(k)] - greatest);
                for (std::int64_t d = 0; d < s.value_size; ++d) {
                    double value = 0;
                    for (std::int64_t k = 0; k < keys; ++k)
                        value += scores[static_cast<std::size_t>(k)] * at(in[2], s.v_strides, b, h / shared, k, d);
                    o[static_cast<std::size_t>(b * s.o_strides[0] + h * s.o_strides[1] + q * s.o_strides[2] + d * s.o_strides[3])] = value / sum;
                }
            }
        }
    }
    return o;
}

Dims dense_strides(const Dims& dims) {
    Dims strides(dims.size(), 1);
    for (std::size_t i = dims.size() - 1; i-- > 0;) strides[i] = strides[i + 1] * dims[i + 1];
    return strides;
}

AttentionSpec attention(std::int64_t batch, std::int64_t heads, std::int64_t kv_heads, std::int64_t queries, std::int64_t keys, std::int64_t size,
                        Type type) {
    AttentionSpec s = {.batch = batch, .heads = heads, .kv_heads = kv_heads, .queries = queries, .keys = keys, .head_size = size, .value_size = size};
    s.q_strides = s.o_strides = dense_strides({batch, heads, queries, size});
    s.k_strides = s.v_strides = dense_strides({batch, kv_heads, keys, size});
    s.type = type;
    s.scale = static_cast<float>(1 / std::sqrt(static_cast<double>(size)));
    return s;
}

class AttentionOnDevice : public LibrariesOnDevice, public testing::WithParamInterface<Type> {
protected:
    void verify(const AttentionSpec& spec, bool required = true) {
        LibrariesOnDevice::verify(spec, required, tolerance(spec.type),
                                  [&spec](const std::vector<Values>& in) { return attention_reference(spec, in); });
    }
};

TEST_P(AttentionOnDevice, Plain) {
    verify(attention(2, 4, 4, 128, 128, 64, GetParam()));
    verify(attention(1, 2, 2, 77, 130, 64, GetParam()), false);
    verify(attention(2, 4, 4, 1, 200, 128, GetParam()), false);
    verify(attention(1, 2, 2, 64, 64, 40, GetParam()), false);
}

TEST_P(AttentionOnDevice, HeadsThatLieInterleaved) {
    AttentionSpec spec = attention(2, 4, 4, 128, 128, 64, GetParam());
    for (Dims* strides : {&spec.q_strides, &spec.k_strides, &spec.v_strides, &spec.o_strides}) *strides = {128 * 4 * 64, 64, 4 * 64, 1};
    verify(spec);
}

TEST_P(AttentionOnDevice, Causal) {
    AttentionSpec spec = attention(2, 4, 4, 128, 128, 64, GetParam());
    spec.causal = true;
    verify(spec);
    AttentionSpec uneven = attention(1, 2, 2, 64, 128, 64, GetParam());
    uneven.causal = true;
    verify(uneven, false);
}

TEST_P(AttentionOnDevice, SharedKeys) {
    AttentionSpec spec = attention(2, 8, 2, 128, 128, 64, GetParam());
    verify(spec);
    spec.causal = true;
    verify(spec);
}

TEST_P(AttentionOnDevice, Mask) {
    for (const Dims& dims : {Dims{2, 4, 128, 128}, Dims{1, 1, 128, 128}, Dims{2, 1, 128, 128}, Dims{2, 1, 1, 128}}) {
        AttentionSpec spec = attention(2, 4, 4, 128, 128, 64, GetParam());
        spec.mask = true;
        spec.mask_dims = dims;
        spec.mask_strides = dense_strides(dims);
        verify(spec, dims[2] != 1);
    }
}

INSTANTIATE_TEST_SUITE_P(Types, AttentionOnDevice, testing::Values(Type::f16, Type::bf16),
                         [](const auto& tested) { return std::string(to_string(tested.param)); });

// ---------------------------------------------------------------- recurrences

struct Recurrent {
    Values y, hn, cn;
};

/// OpenVINO's LSTMSequence, GRUSequence (linear_before_reset) and RNNSequence, forward and then backward.
Recurrent recurrent_reference(const RecurrentSpec& s, const Values& x, const Values& h0, const Values& c0, const Values& w, const Values& r,
                              const Values& b) {
    const auto size = [](std::int64_t value) { return static_cast<std::size_t>(value); };
    const auto sigmoid = [](double v) { return 1 / (1 + std::exp(-v)); };
    const std::int64_t count = gates(s.cell), hidden = s.hidden;
    const bool gru = s.cell == RecurrentSpec::Cell::gru_reset_after, lstm = s.cell == RecurrentSpec::Cell::lstm;
    const std::int64_t biases = gru ? 4 : count;
    Recurrent result{Values(size(s.steps * s.batch * s.directions * hidden)), h0, c0};
    for (std::int64_t direction = 0; direction < s.directions; ++direction) {
        for (std::int64_t n = 0; n < s.batch; ++n) {
            Values h(size(hidden)), c(size(hidden));
            for (std::int64_t j = 0; j < hidden; ++j) {
                h[size(j)] = h0[size((direction * s.batch + n) * hidden + j)];
                if (lstm) c[size(j)] = c0[size((direction * s.batch + n) * hidden + j)];
            }
            for (std::int64_t step = 0; step < s.steps; ++step) {
                const std::int64_t t = direction == 0 ? step : s.steps - 1 - step;
                Values input(size(count * hidden)), state(size(count * hidden));
                for (std::int64_t g = 0; g < count * hidden; ++g) {
                    for (std::int64_t i = 0; i < s.input; ++i) {
                        input[size(g)] += x[size((t * s.batch + n) * s.input + i)] * w[size((direction * count * hidden + g) * s.input + i)];
                    }
                    for (std::int64_t i = 0; i < hidden; ++i) state[size(g)] += h[size(i)] * r[size((direction * count * hidden + g) * hidden + i)];
                    input[size(g)] += b[size(direction * biases * hidden + g)];
                }
                for (std::int64_t j = 0; j < hidden; ++j) {
                    const auto gate = [&](std::int64_t g) { return input[size(g * hidden + j)] + state[size(g * hidden + j)]; };
                    if (lstm) {
                        c[size(j)] = sigmoid(gate(0)) * c[size(j)] + sigmoid(gate(1)) * std::tanh(gate(2));
                        h[size(j)] = sigmoid(gate(3)) * std::tanh(c[size(j)]);
                    } else if (gru) {
                        const double z = sigmoid(gate(0)), reset = sigmoid(gate(1));
                        const double recurrent = state[size(2 * hidden + j)] + b[size((direction * biases + 3) * hidden + j)];
                        h[size(j)] = (1 - z) * std::tanh(input[size(2 * hidden + j)] + reset * recurrent) + z * h[size(j)];
                    } else {
                        h[size(j)] = s.cell == RecurrentSpec::Cell::tanh ? std::tanh(gate(0)) : std::max(gate(0), 0.0);
                    }
                    result.y[size(((t * s.batch + n) * s.directions + direction) * hidden + j)] = h[size(j)];
                }
            }
            for (std::int64_t j = 0; j < hidden; ++j) {
                result.hn[size((direction * s.batch + n) * hidden + j)] = h[size(j)];
                if (lstm) result.cn[size((direction * s.batch + n) * hidden + j)] = c[size(j)];
            }
        }
    }
    return result;
}

class RecurrenceOnDevice : public LibrariesOnDevice {
protected:
    static void verify(const RecurrentSpec& spec) {
        SCOPED_TRACE(to_string(spec));
        const auto call = device_->make(spec);
        ASSERT_NE(call, nullptr);
        std::printf("[ %s ] %s\n", call->describe().c_str(), to_string(spec).c_str());
        const std::int64_t count = gates(spec.cell), biases = spec.cell == RecurrentSpec::Cell::gru_reset_after ? 4 : count;
        const bool lstm = spec.cell == RecurrentSpec::Cell::lstm;
        const auto scaled = [&](std::int64_t elements, unsigned seed, double scale) {
            Values values = input({Type::f32, elements}, seed);
            for (double& value : values) value *= scale;
            return decode(spec.type, encode(spec.type, values));
        };
        const double scale = 1 / std::sqrt(static_cast<double>(spec.hidden));
        const Values w = scaled(spec.directions * count * spec.hidden * spec.input, 1, scale);
        const Values r = scaled(spec.directions * count * spec.hidden * spec.hidden, 2, scale);
        const Values b = scaled(spec.directions * biases * spec.hidden, 3, 1);
        const auto extents = buffers(spec, call->weight_bytes());
        const Values x = scaled(extents[0].elements, 4, 1), h0 = scaled(extents[1].elements, 5, 1),
                     c0 = lstm ? scaled(extents[2].elements, 6, 1) : Values();
        const std::size_t weights = lstm ? 3 : 2;
        std::vector<std::vector<std::byte>> contents;
        for (const BufferExtent& extent : extents) contents.emplace_back(static_cast<std::size_t>(extent.elements * bits(extent.type) / 8));
        contents[0] = encode(spec.type, x);
        contents[1] = encode(spec.type, h0);
        if (lstm) contents[2] = encode(spec.type, c0);
        contents[weights] = call->pack_weights(encode(spec.type, w), encode(spec.type, r), encode(spec.type, b));
        const Recurrent expected = recurrent_reference(spec, x, h0, c0, w, r, b);
        std::vector<std::size_t> outputs = {weights + 1, weights + 2};
        if (lstm) outputs.push_back(weights + 3);
        const auto check = [&](const std::vector<std::vector<std::byte>>& results) {
            const double limit = tolerance(spec.type, spec.tf32);
            EXPECT_LE(relative_error(decode(spec.type, results[0]), expected.y), limit) << "Y";
            EXPECT_LE(relative_error(decode(spec.type, results[1]), expected.hn), limit) << "HN";
            if (!lstm) return;
            EXPECT_LE(relative_error(decode(spec.type, results[2]), expected.cn), limit) << "CN";
        };
        run(*call, extents, contents, outputs, check);
        VendorLibraries second(*device_, false);
        ASSERT_TRUE(second.add_choices(device_->choices()));
        const auto again = second.make(spec);
        ASSERT_NE(again, nullptr);
        EXPECT_TRUE(again->choice() == call->choice()) << "another choice";
        run(*again, extents, contents, outputs, check);
    }
};

TEST_F(RecurrenceOnDevice, EveryCell) {
    using Cell = RecurrentSpec::Cell;
    for (const Type type : {Type::f32, Type::f16}) {
        for (const Cell cell : {Cell::lstm, Cell::gru_reset_after, Cell::relu, Cell::tanh}) {
            for (const int directions : {1, 2}) {
                verify({.cell = cell, .steps = 7, .batch = 3, .input = 24, .hidden = 32, .directions = directions, .type = type});
            }
        }
    }
}

TEST_F(RecurrenceOnDevice, OfOtherSizes) {
    using Cell = RecurrentSpec::Cell;
    verify({.cell = Cell::lstm, .steps = 1, .batch = 1, .input = 5, .hidden = 7});
    verify({.cell = Cell::gru_reset_after, .steps = 20, .batch = 8, .input = 64, .hidden = 256, .directions = 2, .type = Type::bf16});
}

}  // namespace
}  // namespace ai_vmm::cuda::test
