// SPDX-License-Identifier: Apache-2.0
// Convolutions of libraries on a GPU against a plain reference. Skipped, saying so, where there is no GPU.
#include "cuda/libraries_on_device.hpp"

namespace ai_vmm::cuda::test {
namespace {

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
        return of_integers(test::convolution(2, channels_in, channels_out, 1, in, kernel, stride, dilation, pad, GetParam()), GetParam());
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

}  // namespace
}  // namespace ai_vmm::cuda::test
