// SPDX-License-Identifier: Apache-2.0
// Every kind of library call on a GPU against a plain reference in double precision on the host. Skipped, saying so, where there is no GPU.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <functional>
#include <openvino/core/type/bfloat16.hpp>
#include <openvino/core/type/float16.hpp>
#include <openvino/core/type/float8_e4m3.hpp>
#include <random>

#include "cuda/trial.hpp"
#include "libraries/recurrent_weights.hpp"
#include "libraries/specs.hpp"
#include "libraries/vendor_libraries.hpp"

namespace ai_vmm::cuda {
namespace {

using Values = std::vector<double>;

template <typename T>
std::vector<std::byte> encoded_as(const Values& values) {
    std::vector<std::byte> bytes(values.size() * sizeof(T));
    for (std::size_t i = 0; i < values.size(); ++i) {
        const T value = [&] {
            if constexpr (std::is_arithmetic_v<T>) {
                return static_cast<T>(values[i]);
            } else {
                return T(static_cast<float>(values[i]));
            }
        }();
        std::memcpy(bytes.data() + i * sizeof(T), &value, sizeof(T));
    }
    return bytes;
}

template <typename T>
Values decoded_as(const std::vector<std::byte>& bytes) {
    Values values(bytes.size() / sizeof(T));
    for (std::size_t i = 0; i < values.size(); ++i) {
        T value{};
        std::memcpy(&value, bytes.data() + i * sizeof(T), sizeof(T));
        if constexpr (std::is_arithmetic_v<T>) {
            values[i] = static_cast<double>(value);
        } else {
            values[i] = static_cast<double>(static_cast<float>(value));
        }
    }
    return values;
}

std::vector<std::byte> encode(Type type, const Values& values) {
    switch (type) {
        case Type::f64: return encoded_as<double>(values);
        case Type::f16: return encoded_as<ov::float16>(values);
        case Type::bf16: return encoded_as<ov::bfloat16>(values);
        case Type::f8e4m3: return encoded_as<ov::float8_e4m3>(values);
        case Type::i8: return encoded_as<std::int8_t>(values);
        case Type::i32: return encoded_as<std::int32_t>(values);
        default: return encoded_as<float>(values);
    }
}

Values decode(Type type, const std::vector<std::byte>& bytes) {
    switch (type) {
        case Type::f64: return decoded_as<double>(bytes);
        case Type::f16: return decoded_as<ov::float16>(bytes);
        case Type::bf16: return decoded_as<ov::bfloat16>(bytes);
        case Type::f8e4m3: return decoded_as<ov::float8_e4m3>(bytes);
        case Type::i8: return decoded_as<std::int8_t>(bytes);
        case Type::i32: return decoded_as<std::int32_t>(bytes);
        default: return decoded_as<float>(bytes);
    }
}

/// Of the difference's norm to the expectation's.
double tolerance(Type type, bool tf32 = false) {
    switch (type) {
        case Type::f64: return 1e-13;
        case Type::f16: return 5e-3;
        case Type::bf16: return 3e-2;
        case Type::i32: return 0;
        default: return tf32 ? 2e-3 : 1e-5;
    }
}

double relative_error(const Values& found, const Values& expected) {
    double difference = 0;
    double norm = 0;
    for (std::size_t i = 0; i < expected.size(); ++i) {
        if (!std::isfinite(found[i])) return INFINITY;
        difference += (found[i] - expected[i]) * (found[i] - expected[i]);
        norm += expected[i] * expected[i];
    }
    return norm == 0 ? std::sqrt(difference) : std::sqrt(difference / norm);
}

double activated(double x, Activation activation) {
    switch (activation) {
        case Activation::none: return x;
        case Activation::relu: return std::max(x, 0.0);
        case Activation::relu6: return std::min(std::max(x, 0.0), 6.0);
        case Activation::gelu_tanh: return 0.5 * x * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
        case Activation::gelu_erf: return 0.5 * x * (1 + std::erf(x / std::sqrt(2.0)));
        case Activation::sigmoid: return 1 / (1 + std::exp(-x));
        case Activation::tanh: return std::tanh(x);
        case Activation::silu: return x / (1 + std::exp(-x));
        case Activation::hard_swish: return x * std::min(std::max(x + 3, 0.0), 6.0) / 6;
    }
    return x;
}

class LibrariesOnDevice : public testing::Test {
protected:
    static void SetUpTestSuite() { device_ = test::first_gpu(reason_); }
    static void TearDownTestSuite() { device_.reset(); }
    void SetUp() override {
        if (!device_) GTEST_SKIP() << reason_;
    }

    /// Values of `extent` as the device will have them, rounded to its type.
    static Values input(const BufferExtent& extent, unsigned seed) {
        std::mt19937 random(seed);
        Values values(static_cast<std::size_t>(extent.elements));
        for (double& value : values) {
            value = extent.type == Type::i8 ? std::uniform_int_distribution<int>(-100, 100)(random)
                                            : std::uniform_real_distribution<double>(-1, 1)(random);
        }
        return decode(extent.type, encode(extent.type, values));
    }

    /// Runs a call as it is and from a recorded graph, in exactly the workspace that it asks for. `outputs` are replaced by what the device has
    /// there.
    static void run(LibraryCall& call, const std::vector<BufferExtent>& extents, const std::vector<std::vector<std::byte>>& contents,
                    const std::vector<std::size_t>& outputs, const std::function<void(const std::vector<std::vector<std::byte>>&)>& check) {
        const auto stream = device_->create_stream();
        std::vector<Buffer> memory;
        std::vector<std::uint64_t> addresses;
        for (std::size_t i = 0; i < extents.size(); ++i) {
            memory.emplace_back(device_, contents[i].size());
            addresses.push_back(memory.back().get());
        }
        const Buffer workspace(device_, call.workspace_bytes());
        const auto upload = [&] {
            for (std::size_t i = 0; i < extents.size(); ++i) stream->upload(addresses[i], contents[i].data(), contents[i].size());
        };
        const auto compare = [&](const char* how) {
            SCOPED_TRACE(how);
            std::vector<std::vector<std::byte>> results;
            for (const std::size_t output : outputs) {
                results.emplace_back(contents[output].size());
                stream->download(results.back().data(), addresses[output], results.back().size());
            }
            stream->synchronize();
            check(results);
        };
        upload();
        call.run(*stream, addresses, workspace.get());
        compare("enqueued");
        upload();
        stream->synchronize();
        stream->begin_recording();
        call.run(*stream, addresses, workspace.get());
        const auto graph = stream->end_recording();
        stream->launch(*graph);
        compare("recorded");
    }

    /// Makes the call by measuring and again from its choice, and checks both. Says so where the library takes no such specification; `required` ones
    /// must be.
    template <typename Spec>
    static void verify(const Spec& spec, bool required, double limit, const std::function<Values(const std::vector<Values>&)>& reference) {
        SCOPED_TRACE(to_string(spec));
        VendorLibraries second(*device_, false);
        auto call = device_->make(spec);
        if constexpr (std::is_same_v<Spec, ConvolutionSpec>) {
            EXPECT_EQ(device_->takes(spec), call != nullptr);
        }
        if (call == nullptr) {
            EXPECT_FALSE(required) << "no engine takes it";
            std::printf("[not taken] %s\n", to_string(spec).c_str());
            return;
        }
        const auto extents = buffers(spec);
        std::vector<Values> inputs;
        std::vector<std::vector<std::byte>> contents;
        for (std::size_t i = 0; i < extents.size(); ++i) {
            inputs.push_back(input(extents[i], static_cast<unsigned>(i + 1)));
            if constexpr (std::is_same_v<Spec, ConvolutionSpec>) {
                // Sums of products of up to 100 are no halves.
                if (spec.scale && i == 3)
                    std::ranges::transform(inputs.back(), inputs.back().begin(), [](double one) { return std::ldexp(one, -16); });
            }
            contents.push_back(encode(extents[i].type, inputs.back()));
        }
        constexpr bool kAttention = std::is_same_v<Spec, AttentionSpec>;
        const std::size_t output = kAttention ? 3 : 2;
        const Values expected = reference(inputs);
        const auto check = [&](const std::vector<std::vector<std::byte>>& results) {
            EXPECT_LE(relative_error(decode(extents[output].type, results[0]), expected), limit);
        };
        std::printf("[ %s ] %s\n", call->describe().c_str(), to_string(spec).c_str());
        run(*call, extents, contents, {output}, check);
        ASSERT_TRUE(second.add_choices(device_->choices()));
        auto again = second.make(spec);
        ASSERT_NE(again, nullptr) << "a choice was made and is not taken back";
        EXPECT_TRUE(again->choice() == call->choice()) << "another choice";
        EXPECT_EQ(again->workspace_bytes(), call->workspace_bytes());
        run(*again, extents, contents, {output}, check);
    }

    static inline std::shared_ptr<Device> device_;
    static inline std::string reason_;
};

// ---------------------------------------------------------------- matrix products

Values matmul_reference(const MatmulSpec& s, const std::vector<Values>& in) {
    Values d = in[2];
    const Values* bias = s.bias ? &in[3] : nullptr;
    const Values* residual = s.residual ? &in.back() : nullptr;
    for (std::int64_t batch = 0; batch < s.batch; ++batch) {
        for (std::int64_t i = 0; i < s.m; ++i) {
            for (std::int64_t j = 0; j < s.n; ++j) {
                double sum = 0;
                for (std::int64_t k = 0; k < s.k; ++k) {
                    sum +=
                        in[0]
                          [static_cast<std::size_t>(batch * s.batch_stride_a + (s.transpose_a ? k * s.row_stride_a + i : i * s.row_stride_a + k))] *
                        in[1][static_cast<std::size_t>(batch * s.batch_stride_b + (s.transpose_b ? j * s.row_stride_b + k : k * s.row_stride_b + j))];
                }
                const auto at = static_cast<std::size_t>(batch * s.batch_stride_d + i * s.row_stride_d + j);
                double value = s.alpha * sum;
                if (bias != nullptr) value += (*bias)[static_cast<std::size_t>(j)];
                if (residual != nullptr) value += (*residual)[at];
                d[at] = activated(value, s.activation);
            }
        }
    }
    return d;
}

MatmulSpec dense(std::int64_t m, std::int64_t n, std::int64_t k, bool transpose_a, bool transpose_b, Type type, Type result) {
    MatmulSpec s = {.m = m, .n = n, .k = k, .transpose_a = transpose_a, .transpose_b = transpose_b};
    s.row_stride_a = transpose_a ? m : k;
    s.row_stride_b = transpose_b ? k : n;
    s.row_stride_d = n;
    s.batch_stride_a = m * k;
    s.batch_stride_b = k * n;
    s.batch_stride_d = m * n;
    s.type = type;
    s.result = s.bias_type = result;
    return s;
}

class MatmulOnDevice : public LibrariesOnDevice {
protected:
    static void verify(const MatmulSpec& spec, bool required = true) {
        LibrariesOnDevice::verify(spec, required, tolerance(spec.result, spec.tf32),
                                  [&spec](const std::vector<Values>& in) { return matmul_reference(spec, in); });
    }
};

TEST_F(MatmulOnDevice, TransposesInEveryType) {
    for (const Type type : {Type::f32, Type::f16, Type::bf16, Type::f64}) {
        for (const bool transpose_a : {false, true}) {
            for (const bool transpose_b : {false, true}) verify(dense(72, 40, 136, transpose_a, transpose_b, type, type));
        }
    }
    verify(dense(33, 17, 51, false, true, Type::f16, Type::f32));
    verify(dense(33, 17, 51, false, false, Type::f32, Type::f32));  // nothing aligned
}

TEST_F(MatmulOnDevice, Tf32WhereAllowed) {
    MatmulSpec spec = dense(128, 64, 256, false, true, Type::f32, Type::f32);
    spec.tf32 = true;
    verify(spec);
}

TEST_F(MatmulOnDevice, BatchesAndSharedMatrices) {
    for (const Type type : {Type::f32, Type::f16}) {
        MatmulSpec spec = dense(24, 40, 32, false, false, type, type);
        spec.batch = 5;
        verify(spec);
        MatmulSpec shared_b = spec;
        shared_b.batch_stride_b = 0;
        verify(shared_b);
        MatmulSpec shared_a = spec;
        shared_a.batch_stride_a = 0;
        verify(shared_a);
        MatmulSpec interleaved = dense(24, 24, 32, false, true, type, type);  // heads of attention: rows lie apart by all heads
        interleaved.batch = 4;
        interleaved.row_stride_a = interleaved.row_stride_b = 4 * 32;
        interleaved.batch_stride_a = interleaved.batch_stride_b = 32;
        interleaved.alpha = 0.125F;
        verify(interleaved);
    }
}

TEST_F(MatmulOnDevice, BiasResidualAndActivation) {
    for (const Type type : {Type::f32, Type::f16, Type::bf16}) {
        for (const Activation activation : {Activation::none, Activation::relu, Activation::gelu_tanh}) {
            for (const bool bias : {false, true}) {
                for (const bool residual : {false, true}) {
                    MatmulSpec spec = dense(48, 64, 96, false, true, type, type);
                    spec.activation = activation;
                    spec.bias = bias;
                    spec.residual = residual;
                    verify(spec, activation == Activation::none || type != Type::f32);
                }
            }
        }
    }
}

TEST_F(MatmulOnDevice, ResultsRepeat) {
    // Few rows and a long k, which libraries divide among blocks: the parts must be added up in the same order each time.
    struct Case {
        std::int64_t m, n, k;
        Type type, result;
    };
    for (const auto& [m, n, k, type, result] :
         {Case{32, 768, 3072, Type::f16, Type::f32}, Case{32, 768, 3072, Type::f16, Type::f16}, Case{16, 512, 8192, Type::bf16, Type::f32},
          Case{64, 256, 4096, Type::f16, Type::f32}, Case{32, 768, 3072, Type::f32, Type::f32}, Case{197, 768, 3072, Type::f32, Type::f32}}) {
        MatmulSpec spec = dense(m, n, k, false, false, type, result);
        spec.bias = spec.residual = true;
        SCOPED_TRACE(to_string(spec));
        const auto call = device_->make(spec);
        ASSERT_NE(call, nullptr);
        std::printf("[ %s ] %s\n", call->describe().c_str(), to_string(spec).c_str());
        const auto extents = buffers(spec);
        const auto stream = device_->create_stream();
        std::vector<Buffer> memory;
        std::vector<std::uint64_t> addresses;
        for (std::size_t i = 0; i < extents.size(); ++i) {
            const auto content = encode(extents[i].type, input(extents[i], static_cast<unsigned>(i + 1)));
            memory.emplace_back(device_, content.size());
            addresses.push_back(memory.back().get());
            stream->upload(addresses.back(), content.data(), content.size());
            stream->synchronize();
        }
        const Buffer workspace(device_, call->workspace_bytes());
        std::vector<std::byte> first(memory[2].bytes()), again(first.size());
        int differing = 0;
        for (int run = 0; run < 300; ++run) {
            call->run(*stream, addresses, workspace.get());
            auto& result_bytes = run == 0 ? first : again;
            stream->download(result_bytes.data(), addresses[2], result_bytes.size());
            stream->synchronize();
            differing += run != 0 && first != again ? 1 : 0;
        }
        EXPECT_EQ(differing, 0) << call->describe();
    }
}

TEST_F(MatmulOnDevice, OneRow) {
    for (const Type type : {Type::f32, Type::bf16}) {
        MatmulSpec spec = dense(1, 512, 768, false, true, type, type);
        spec.bias = true;
        verify(spec);
    }
}

TEST_F(MatmulOnDevice, Integers) {
    verify(dense(64, 32, 128, false, true, Type::i8, Type::i32));
    verify(dense(64, 32, 128, false, false, Type::i8, Type::i32), false);
    verify(dense(7, 5, 9, false, true, Type::i8, Type::i32), false);
}

TEST_F(MatmulOnDevice, NarrowFloats) {
    const Capabilities& c = device_->capabilities();
    const bool has_f8 = c.compute_major * 10 + c.compute_minor >= 89;
    for (const Type result : {Type::f32, Type::f16, Type::bf16})
        verify(dense(64, 32, 128, false, true, Type::f8e4m3, result), has_f8 && result != Type::f32);
    MatmulSpec spec = dense(64, 32, 128, false, true, Type::f8e4m3, Type::bf16);
    spec.bias = true;
    verify(spec, has_f8);
    verify(dense(64, 32, 128, false, false, Type::f8e4m3, Type::bf16), false);
}

// ---------------------------------------------------------------- convolutions

/// Calls `visit` with every index of `dims`, the last varying fastest.
void each(const Dims& dims, const std::function<void(const Dims&, std::int64_t linear)>& visit) {
    Dims index(dims.size());
    for (std::int64_t linear = 0; linear < elements(dims); ++linear) {
        visit(index, linear);
        for (std::size_t i = dims.size(); i-- > 0;) {
            if (++index[i] < dims[i]) break;
            index[i] = 0;
        }
    }
}

/// Position `larger` of a tap at `smaller`, linear in `dims`; nothing outside.
std::optional<std::int64_t> tap(const ConvolutionSpec& s, const Dims& smaller, const Dims& kernel, const Dims& dims) {
    std::int64_t linear = 0;
    for (std::size_t i = 0; i < dims.size(); ++i) {
        const std::int64_t at = smaller[i] * s.stride[i] - s.pad_begin[i] + kernel[i] * s.dilation[i];
        if (at < 0 || at >= dims[i]) return {};
        linear = linear * dims[i] + at;
    }
    return linear;
}

Values convolution_reference(const ConvolutionSpec& s, const std::vector<Values>& in) {
    Values y(in[2].size());
    const std::int64_t x_points = elements(s.in), y_points = elements(s.out), taps = elements(s.kernel);
    const std::int64_t x_group = s.channels_in / s.groups, y_group = s.channels_out / s.groups;
    const Dims& small = s.transposed ? s.in : s.out;
    const Dims& large = s.transposed ? s.out : s.in;
    for (std::int64_t n = 0; n < s.batch; ++n) {
        each(small, [&](const Dims& at, std::int64_t point) {
            each(s.kernel, [&](const Dims& kernel, std::int64_t tap_index) {
                const auto other = tap(s, at, kernel, large);
                if (!other) return;
                const std::int64_t x_at = (n * x_points + (s.transposed ? point : *other)) * s.channels_in;
                const std::int64_t y_at = (n * y_points + (s.transposed ? *other : point)) * s.channels_out;
                for (std::int64_t group = 0; group < s.groups; ++group) {
                    for (std::int64_t i = 0; i < x_group; ++i) {
                        for (std::int64_t o = 0; o < y_group; ++o) {
                            const std::int64_t ci = group * x_group + i, co = group * y_group + o;
                            const std::int64_t w = s.transposed ? (ci * taps + tap_index) * y_group + o : (co * taps + tap_index) * x_group + i;
                            y[static_cast<std::size_t>(y_at + co)] += in[0][static_cast<std::size_t>(x_at + ci)] * in[1][static_cast<std::size_t>(w)];
                        }
                    }
                }
            });
        });
    }
    for (std::size_t i = 0; i < y.size(); ++i) {
        if (s.scale) y[i] *= in[3][i % static_cast<std::size_t>(s.channels_out)];
        if (s.bias) y[i] += in[s.scale ? 4 : 3][i % static_cast<std::size_t>(s.channels_out)];
        if (s.residual) y[i] += in.back()[i];
        y[i] = activated(y[i], s.activation);
    }
    return y;
}

ConvolutionSpec convolution(std::int64_t batch, std::int64_t channels_in, std::int64_t channels_out, std::int64_t groups, const Dims& in,
                            const Dims& kernel, std::int64_t stride, std::int64_t dilation, std::int64_t pad, Type type) {
    ConvolutionSpec s = {.batch = batch, .channels_in = channels_in, .channels_out = channels_out, .groups = groups, .in = in, .kernel = kernel};
    s.stride.assign(in.size(), stride);
    s.dilation.assign(in.size(), dilation);
    s.pad_begin = s.pad_end = Dims(in.size(), pad);
    for (std::size_t i = 0; i < in.size(); ++i) s.out.push_back((in[i] + 2 * pad - dilation * (kernel[i] - 1) - 1) / stride + 1);
    s.type = s.result = type;
    s.bias_type = type;
    return s;
}

/// Of i8, scaled to `result` and with a bias.
ConvolutionSpec of_integers(ConvolutionSpec s, Type result) {
    s.type = Type::i8;
    s.result = result;
    s.scale = s.bias = true;
    s.bias_type = Type::f32;
    return s;
}

/// The same, from the smaller tensor to the larger one.
ConvolutionSpec transposed(ConvolutionSpec s) {
    std::swap(s.in, s.out);
    std::swap(s.channels_in, s.channels_out);
    s.transposed = true;
    return s;
}

class ConvolutionOnDevice : public LibrariesOnDevice, public testing::WithParamInterface<Type> {
protected:
    void verify(const ConvolutionSpec& spec, bool required = true) {
        LibrariesOnDevice::verify(spec, required, tolerance(spec.result, spec.tf32),
                                  [&spec](const std::vector<Values>& in) { return convolution_reference(spec, in); });
    }
    /// f32 without TF32 has fewer engines; what it lacks is reported, not failed.
    static bool narrow() { return GetParam() != Type::f32; }
};

TEST_P(ConvolutionOnDevice, Plain) {
    verify(convolution(2, 32, 64, 1, {14, 14}, {1, 1}, 1, 1, 0, GetParam()));
    verify(convolution(2, 32, 64, 1, {15, 15}, {3, 3}, 2, 1, 1, GetParam()));
    verify(convolution(2, 32, 32, 1, {14, 14}, {3, 3}, 1, 2, 2, GetParam()));
    verify(convolution(1, 3, 16, 1, {32, 32}, {7, 7}, 2, 1, 3, GetParam()), false);  // channels that fit no vector
}

TEST_P(ConvolutionOnDevice, Groups) {
    verify(convolution(2, 32, 64, 4, {14, 14}, {3, 3}, 1, 1, 1, GetParam()), narrow());
    verify(convolution(2, 64, 64, 64, {14, 14}, {3, 3}, 1, 1, 1, GetParam()), narrow());
}

TEST_P(ConvolutionOnDevice, OneAndThreeDimensions) {
    verify(convolution(2, 32, 48, 1, {50}, {3}, 2, 1, 1, GetParam()), narrow());
    verify(convolution(1, 16, 32, 1, {6, 8, 10}, {3, 3, 3}, 1, 1, 1, GetParam()), narrow());
}

TEST_P(ConvolutionOnDevice, UnevenPadding) {
    ConvolutionSpec spec = convolution(1, 32, 32, 1, {13, 13}, {3, 3}, 2, 1, 0, GetParam());
    spec.pad_end = {1, 1};
    for (std::size_t i = 0; i < 2; ++i) spec.out[i] = (spec.in[i] + 1 - 3) / 2 + 1;
    verify(spec, false);
}

TEST_P(ConvolutionOnDevice, BiasResidualAndActivation) {
    for (const Activation activation : {Activation::none, Activation::relu, Activation::relu6, Activation::gelu_erf, Activation::gelu_tanh,
                                        Activation::sigmoid, Activation::tanh, Activation::silu}) {
        for (const bool residual : {false, true}) {
            ConvolutionSpec spec = convolution(2, 32, 64, 1, {14, 14}, {3, 3}, 1, 1, 1, GetParam());
            spec.bias = true;
            spec.residual = residual;
            spec.activation = activation;
            verify(spec, narrow() && activation == Activation::relu);
        }
    }
    ConvolutionSpec depthwise = convolution(2, 64, 64, 64, {14, 14}, {3, 3}, 1, 1, 1, GetParam());
    depthwise.bias = true;
    depthwise.activation = Activation::relu;
    verify(depthwise, false);
}

TEST_P(ConvolutionOnDevice, Tf32WhereAllowed) {
    if (GetParam() != Type::f32) GTEST_SKIP() << "f32 alone";
    ConvolutionSpec spec = convolution(2, 32, 64, 1, {14, 14}, {3, 3}, 1, 1, 1, Type::f32);
    spec.tf32 = true;
    verify(spec);
    spec.bias = true;
    spec.activation = Activation::relu;
    verify(spec, false);
}

TEST_P(ConvolutionOnDevice, Transposed) {
    verify(transposed(convolution(2, 32, 64, 1, {15, 15}, {3, 3}, 2, 1, 1, GetParam())), narrow());
    verify(transposed(convolution(1, 16, 32, 1, {14, 14}, {2, 2}, 2, 1, 0, GetParam())), narrow());
    ConvolutionSpec biased = transposed(convolution(2, 32, 64, 1, {15, 15}, {3, 3}, 2, 1, 1, GetParam()));
    biased.bias = true;
    verify(biased, false);
    verify(transposed(convolution(1, 32, 32, 1, {40}, {4}, 2, 1, 1, GetParam())), false);
}

/// Integers scaled to floats; GPUs before Ampere have no engines for those.
class IntegerConvolutionOnDevice : public LibrariesOnDevice, public testing::WithParamInterface<Type> {
protected:
    static void verify(const ConvolutionSpec& spec, bool required) {
        LibrariesOnDevice::verify(spec, required && device_->capabilities().compute_major >= 8, tolerance(spec.result),
                                  [&spec](const std::vector<Values>& in) { return convolution_reference(spec, in); });
    }
    static ConvolutionSpec convolution(std::int64_t channels_in, std::int64_t channels_out, const Dims& in, const Dims& kernel, std::int64_t stride,
                                       std::int64_t dilation, std::int64_t pad) {
        return of_integers(cuda::convolution(2, channels_in, channels_out, 1, in, kernel, stride, dilation, pad, GetParam()), GetParam());
    }
};

TEST_P(IntegerConvolutionOnDevice, Plain) {
    verify(convolution(32, 64, {14, 14}, {3, 3}, 1, 1, 1), true);
    verify(convolution(128, 128, {28, 28}, {3, 3}, 1, 1, 1), true);
    verify(convolution(512, 64, {7, 7}, {3, 3}, 1, 1, 1), true);  // the largest sums
    verify(convolution(64, 32, {14, 14}, {1, 1}, 2, 1, 0), true);
}

TEST_P(IntegerConvolutionOnDevice, StridesDilationAndUnevenPadding) {
    verify(convolution(32, 64, {15, 15}, {3, 3}, 2, 1, 1), true);
    verify(convolution(32, 32, {14, 14}, {3, 3}, 1, 2, 2), false);
    verify(convolution(32, 32, {9, 20}, {5, 3}, 1, 1, 1), false);
    ConvolutionSpec uneven = convolution(32, 32, {13, 13}, {3, 3}, 2, 1, 0);
    uneven.pad_end = {1, 1};
    for (std::size_t i = 0; i < 2; ++i) uneven.out[i] = (uneven.in[i] + 1 - 3) / 2 + 1;
    verify(uneven, false);
}

TEST_P(IntegerConvolutionOnDevice, ChannelsThatFillNoVector) {
    verify(convolution(36, 40, {14, 14}, {3, 3}, 1, 1, 1), false);
    verify(convolution(48, 24, {14, 14}, {3, 3}, 1, 1, 1), false);
}

TEST_P(IntegerConvolutionOnDevice, ResidualAndActivation) {
    for (const Activation activation : {Activation::none, Activation::relu, Activation::relu6, Activation::silu}) {
        for (const bool residual : {false, true}) {
            ConvolutionSpec spec = convolution(32, 64, {14, 14}, {3, 3}, 1, 1, 1);
            spec.residual = residual;
            spec.activation = activation;
            verify(spec, false);
        }
    }
}

INSTANTIATE_TEST_SUITE_P(Results, IntegerConvolutionOnDevice, testing::Values(Type::f32, Type::f16, Type::bf16),
                         [](const auto& tested) { return std::string(to_string(tested.param)); });

INSTANTIATE_TEST_SUITE_P(Types, ConvolutionOnDevice, testing::Values(Type::f32, Type::f16, Type::bf16),
                         [](const auto& tested) { return std::string(to_string(tested.param)); });

// ---------------------------------------------------------------- attention

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
}  // namespace ai_vmm::cuda
