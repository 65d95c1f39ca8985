// SPDX-License-Identifier: Apache-2.0
#include "cuda/library_device.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "ai_vmm/error.hpp"

namespace ai_vmm::cuda::test {
namespace {

double get(Type type, std::uint64_t base, std::int64_t at) {
    const auto* p = reinterpret_cast<const unsigned char*>(base) + at * bits(type) / 8;
    const auto read = [p](auto sample) {
        std::memcpy(&sample, p, sizeof sample);
        return static_cast<double>(sample);
    };
    switch (type) {
        case Type::f64: return read(double{});
        case Type::f16: return read(_Float16{});
        case Type::bf16: {
            std::uint16_t half = 0;
            std::memcpy(&half, p, sizeof half);
            const std::uint32_t word = std::uint32_t{half} << 16;
            float value = 0;
            std::memcpy(&value, &word, sizeof value);
            return value;
        }
        case Type::i8: return read(std::int8_t{});
        default: return read(float{});
    }
}

void put(Type type, std::uint64_t base, std::int64_t at, double value) {
    auto* p = reinterpret_cast<unsigned char*>(base) + at * bits(type) / 8;
    const auto write = [p](auto number) { std::memcpy(p, &number, sizeof number); };
    switch (type) {
        case Type::f64: return write(value);
        case Type::f16: return write(static_cast<_Float16>(value));
        case Type::bf16: {
            const auto narrow = static_cast<float>(value);
            std::uint32_t word = 0;
            std::memcpy(&word, &narrow, sizeof word);
            return write(static_cast<std::uint16_t>((word + 0x7fff + ((word >> 16) & 1)) >> 16));
        }
        case Type::i32: return write(static_cast<std::int32_t>(value));
        default: return write(static_cast<float>(value));
    }
}

double activated(Activation activation, double x) {
    switch (activation) {
        case Activation::none: return x;
        case Activation::relu: return std::max(x, 0.0);
        case Activation::gelu_tanh: return 0.5 * x * (1 + std::tanh(0.7978845608028654 * (x + 0.044715 * x * x * x)));
        case Activation::gelu_erf: return 0.5 * x * (1 + std::erf(x / std::sqrt(2.0)));
        case Activation::sigmoid: return 1 / (1 + std::exp(-x));
        case Activation::tanh: return std::tanh(x);
        case Activation::silu: return x / (1 + std::exp(-x));
        case Activation::relu6: return std::min(std::max(x, 0.0), 6.0);
        case Activation::hard_swish: return x * std::min(std::max(x + 3, 0.0), 6.0) / 6;
    }
    return x;
}

using Buffers = std::span<const std::uint64_t>;

template <typename Run>
class Call final : public LibraryCall {
public:
    explicit Call(Run run) : run_(std::move(run)) {}
    [[nodiscard]] std::size_t workspace_bytes() const override { return 0; }
    void run(Stream& stream, Buffers buffers, std::uint64_t) override {
        // Libraries choose engines for addresses that are multiples of 16 bytes.
        if (std::any_of(buffers.begin(), buffers.end(), [](std::uint64_t address) { return address % 16 != 0; }))
            throw Error(ErrorCode::internal, ErrorCategory::runtime, "a library was given an address that is no multiple of 16 bytes");
        stream.synchronize();
        run_(buffers);
    }
    [[nodiscard]] std::string describe() const override { return "loops"; }

private:
    Run run_;
};

template <typename Run>
std::unique_ptr<LibraryCall> call(Run run) {
    return std::make_unique<Call<Run>>(std::move(run));
}

bool taken(Type type) { return type == Type::f32 || type == Type::f16 || type == Type::bf16; }

void multiply(const MatmulSpec& s, Buffers p) {
    for (std::int64_t b = 0; b < s.batch; ++b) {
        for (std::int64_t i = 0; i < s.m; ++i) {
            for (std::int64_t j = 0; j < s.n; ++j) {
                double sum = 0;
                for (std::int64_t k = 0; k < s.k; ++k) {
                    sum += get(s.type, p[0], b * s.batch_stride_a + (s.transpose_a ? k * s.row_stride_a + i : i * s.row_stride_a + k)) *
                           get(s.type, p[1], b * s.batch_stride_b + (s.transpose_b ? j * s.row_stride_b + k : k * s.row_stride_b + j));
                }
                sum *= static_cast<double>(s.alpha);
                const std::int64_t at = b * s.batch_stride_d + i * s.row_stride_d + j;
                if (s.bias) sum += get(s.bias_type, p[3], j);
                if (s.residual) sum += get(s.result, p.back(), at);
                put(s.result, p[2], at, activated(s.activation, sum));
            }
        }
    }
}

/// One or two spatial dimensions become three, of which the first ones have size 1.
ConvolutionSpec with_three_dimensions(ConvolutionSpec s) {
    while (s.in.size() < 3) {
        for (Dims* ones : {&s.in, &s.kernel, &s.out, &s.stride, &s.dilation}) ones->insert(ones->begin(), 1);
        for (Dims* zeros : {&s.pad_begin, &s.pad_end}) zeros->insert(zeros->begin(), 0);
    }
    return s;
}

/// Channels-last.
void convolve(const ConvolutionSpec& given, Buffers p) {
    const ConvolutionSpec s = with_three_dimensions(given);
    const std::int64_t in = s.channels_in / s.groups, out = s.channels_out / s.groups, taps = elements(s.kernel), pixels = elements(s.out),
                       image = elements(s.in) * s.channels_in;
    for (std::int64_t n = 0; n < s.batch; ++n) {
        for (std::int64_t pixel = 0; pixel < pixels; ++pixel) {
            // Where each tap reads; -1: outside.
            std::vector<std::int64_t> reads;
            for (std::int64_t tap = 0; tap < taps; ++tap) {
                std::int64_t at = 0, pixel_left = pixel, tap_left = tap, unit = 1;
                for (std::size_t d = 3; d-- > 0 && at >= 0;) {
                    const std::int64_t x = pixel_left % s.out[d] * s.stride[d] + tap_left % s.kernel[d] * s.dilation[d] - s.pad_begin[d];
                    at = x < 0 || x >= s.in[d] ? -1 : at + x * unit;
                    unit *= s.in[d];
                    pixel_left /= s.out[d];
                    tap_left /= s.kernel[d];
                }
                reads.push_back(at);
            }
            for (std::int64_t k = 0; k < s.channels_out; ++k) {
                double sum = 0;
                for (std::int64_t tap = 0; tap < taps; ++tap) {
                    const std::int64_t from = reads[static_cast<std::size_t>(tap)];
                    for (std::int64_t c = 0; from >= 0 && c < in; ++c)
                        sum += get(s.type, p[0], n * image + from * s.channels_in + k / out * in + c) * get(s.type, p[1], (k * taps + tap) * in + c);
                }
                const std::int64_t at = (n * pixels + pixel) * s.channels_out + k;
                if (s.scale) sum *= get(Type::f32, p[3], k);
                if (s.bias) sum += get(s.bias_type, p[s.scale ? 4 : 3], k);
                if (s.residual) sum += get(s.result, p.back(), at);
                put(s.result, p[2], at, activated(s.activation, sum));
            }
        }
    }
}

void attend(const AttentionSpec& s, Buffers p) {
    const auto at = [](const Dims& strides, std::int64_t a, std::int64_t b, std::int64_t c, std::int64_t d) {
        return a * strides[0] + b * strides[1] + c * strides[2] + d * strides[3];
    };
    std::vector<double> scores(static_cast<std::size_t>(s.keys));
    for (std::int64_t b = 0; b < s.batch; ++b) {
        for (std::int64_t h = 0; h < s.heads; ++h) {
            const std::int64_t shared = h / (s.heads / s.kv_heads);
            for (std::int64_t i = 0; i < s.queries; ++i) {
                for (std::int64_t j = 0; j < s.keys; ++j) {
                    double sum = 0;
                    for (std::int64_t d = 0; d < s.head_size; ++d)
                        sum += get(s.type, p[0], at(s.q_strides, b, h, i, d)) * get(s.type, p[1], at(s.k_strides, b, shared, j, d));
                    sum *= static_cast<double>(s.scale);
                    if (s.mask) {
                        const auto index = [&](std::size_t k, std::int64_t value) { return s.mask_dims[k] == 1 ? 0 : value; };
                        sum += get(s.type, p[4], at(s.mask_strides, index(0, b), index(1, h), index(2, i), index(3, j)));
                    }
                    scores[static_cast<std::size_t>(j)] = s.causal && j > i ? -std::numeric_limits<double>::infinity() : sum;
                }
                const double most = *std::max_element(scores.begin(), scores.end());
                double total = 0;
                for (double& score : scores) total += score = std::exp(score - most);
                for (std::int64_t d = 0; d < s.value_size; ++d) {
                    double sum = 0;
                    for (std::int64_t j = 0; j < s.keys; ++j)
                        sum += scores[static_cast<std::size_t>(j)] * get(s.type, p[2], at(s.v_strides, b, shared, j, d));
                    put(s.type, p[3], at(s.o_strides, b, h, i, d), sum / total);
                }
            }
        }
    }
}

}  // namespace

// Its calls run at once, which nothing can record.
LibraryDevice::LibraryDevice() : HostDevice({.recording = false, .on_problem = {}}) {}

std::unique_ptr<LibraryCall> LibraryDevice::make(const MatmulSpec& spec) {
    // Integers as tensor cores take them: k side by side in both matrices.
    const bool integers = spec.type == Type::i8 && spec.result == Type::i32 && !spec.transpose_a && spec.transpose_b && spec.k % 4 == 0 &&
                          spec.n % 4 == 0 && spec.row_stride_a % 16 == 0 && spec.row_stride_b % 16 == 0;
    if (!taken(spec.type) && !integers) return nullptr;
    if (spec.activation != Activation::none && spec.activation != Activation::relu && spec.activation != Activation::gelu_tanh) return nullptr;
    matmuls.push_back(spec);
    return call([spec](Buffers buffers) { multiply(spec, buffers); });
}

std::unique_ptr<LibraryCall> LibraryDevice::make(const ConvolutionSpec& spec) {
    // Integers with all that cuDNN documents and more: channels in fours, sums that are scaled to floats.
    const bool integers = spec.type == Type::i8 && spec.channels_in % 4 == 0 && spec.channels_out % 4 == 0 && spec.scale && taken(spec.result);
    const bool floats = taken(spec.type) && spec.result == spec.type && !spec.scale;
    if ((!floats && !integers) || spec.transposed || (spec.kernel.size() != 2 && !integers) || spec.activation == Activation::hard_swish)
        return nullptr;
    if (takes_convolution && !takes_convolution(spec)) return nullptr;
    convolutions.push_back(spec);
    return call([spec](Buffers buffers) { convolve(spec, buffers); });
}

std::unique_ptr<LibraryCall> LibraryDevice::make(const AttentionSpec& spec) {
    if (takes_attention ? !takes_attention(spec) : spec.type != Type::f16 && spec.type != Type::bf16) return nullptr;
    attentions.push_back(spec);
    return call([spec](Buffers buffers) { attend(spec, buffers); });
}

}  // namespace ai_vmm::cuda::test
