// SPDX-License-Identifier: Apache-2.0
#include "libraries/specs.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

namespace ai_vmm::cuda {
namespace {

std::string list(const Dims& dims) { return fmt::format("{}", fmt::join(dims, "x")); }

/// Distance from the first element to one past the last.
std::int64_t extent(const Dims& dims, const Dims& strides) {
    std::int64_t last = 0;
    for (std::size_t i = 0; i < dims.size(); ++i) last += (dims[i] - 1) * strides[i];
    return last + 1;
}

std::int64_t extent(std::int64_t rows, std::int64_t columns, std::int64_t row_stride, std::int64_t batch, std::int64_t batch_stride) {
    return extent({batch, rows, columns}, {batch_stride, row_stride, 1});
}

}  // namespace

std::string_view to_string(Activation activation) noexcept {
    switch (activation) {
        case Activation::none: return "none";
        case Activation::relu: return "relu";
        case Activation::gelu_tanh: return "gelu_tanh";
        case Activation::gelu_erf: return "gelu_erf";
        case Activation::sigmoid: return "sigmoid";
        case Activation::tanh: return "tanh";
        case Activation::silu: return "silu";
        case Activation::relu6: return "relu6";
        case Activation::hard_swish: return "hard_swish";
    }
    return "unknown";
}

std::string to_string(const MatmulSpec& s) {
    return fmt::format(
        "matmul m={} n={} k={} batch={} ta={} tb={} rows={},{},{} batches={},{},{} type={} result={} bias={} residual={} tf32={} alpha={} act={}",
        s.m, s.n, s.k, s.batch, int{s.transpose_a}, int{s.transpose_b}, s.row_stride_a, s.row_stride_b, s.row_stride_d, s.batch_stride_a,
        s.batch_stride_b, s.batch_stride_d, to_string(s.type), to_string(s.result), s.bias ? to_string(s.bias_type) : "no", int{s.residual},
        int{s.tf32}, s.alpha, to_string(s.activation));
}

std::string to_string(const ConvolutionSpec& s) {
    return fmt::format(
        "{} batch={} in={} out={} groups={} x={} w={} y={} stride={} dilation={} pad={},{} type={} result={} scale={} bias={} residual={} tf32={} "
        "act={}",
        s.transposed ? "deconvolution" : "convolution", s.batch, s.channels_in, s.channels_out, s.groups, list(s.in), list(s.kernel), list(s.out),
        list(s.stride), list(s.dilation), list(s.pad_begin), list(s.pad_end), to_string(s.type), to_string(s.result), int{s.scale},
        s.bias ? to_string(s.bias_type) : "no", int{s.residual}, int{s.tf32}, to_string(s.activation));
}

std::string to_string(const AttentionSpec& s) {
    return fmt::format(
        "attention batch={} heads={} kv_heads={} queries={} keys={} size={},{} q={} k={} v={} o={} type={} scale={} causal={} mask={}:{}", s.batch,
        s.heads, s.kv_heads, s.queries, s.keys, s.head_size, s.value_size, list(s.q_strides), list(s.k_strides), list(s.v_strides), list(s.o_strides),
        to_string(s.type), s.scale, int{s.causal}, s.mask ? list(s.mask_dims) : "no", s.mask ? list(s.mask_strides) : "");
}

std::string to_string(const RecurrentSpec& s) {
    constexpr std::string_view kCells[] = {"lstm", "gru_reset_after", "relu", "tanh"};
    return fmt::format("recurrence cell={} steps={} batch={} input={} hidden={} directions={} type={} tf32={}",
                       kCells[static_cast<std::size_t>(s.cell)], s.steps, s.batch, s.input, s.hidden, s.directions, to_string(s.type), int{s.tf32});
}

std::vector<BufferExtent> buffers(const MatmulSpec& s) {
    const std::int64_t d = extent(s.m, s.n, s.row_stride_d, s.batch, s.batch_stride_d);
    std::vector<BufferExtent> result = {
        {s.type, extent(s.transpose_a ? s.k : s.m, s.transpose_a ? s.m : s.k, s.row_stride_a, s.batch, s.batch_stride_a)},
        {s.type, extent(s.transpose_b ? s.n : s.k, s.transpose_b ? s.k : s.n, s.row_stride_b, s.batch, s.batch_stride_b)},
        {s.result, d}};
    if (s.bias) result.push_back({s.bias_type, s.n});
    if (s.residual) result.push_back({s.result, d});
    return result;
}

std::vector<BufferExtent> buffers(const ConvolutionSpec& s) {
    const std::int64_t y = s.batch * s.channels_out * elements(s.out);
    const std::int64_t w = s.channels_in * s.channels_out / std::max<std::int64_t>(s.groups, 1) * elements(s.kernel);
    std::vector<BufferExtent> result = {{s.type, s.batch * s.channels_in * elements(s.in)}, {s.type, w}, {s.result, y}};
    if (s.scale) result.push_back({Type::f32, s.channels_out});
    if (s.bias) result.push_back({s.bias_type, s.channels_out});
    if (s.residual) result.push_back({s.result, y});
    return result;
}

std::vector<BufferExtent> buffers(const AttentionSpec& s) {
    std::vector<BufferExtent> result = {{s.type, extent({s.batch, s.heads, s.queries, s.head_size}, s.q_strides)},
                                        {s.type, extent({s.batch, s.kv_heads, s.keys, s.head_size}, s.k_strides)},
                                        {s.type, extent({s.batch, s.kv_heads, s.keys, s.value_size}, s.v_strides)},
                                        {s.type, extent({s.batch, s.heads, s.queries, s.value_size}, s.o_strides)}};
    if (s.mask) result.push_back({s.type, extent(s.mask_dims, s.mask_strides)});
    return result;
}

std::vector<BufferExtent> buffers(const RecurrentSpec& s, std::size_t weight_bytes) {
    const BufferExtent state = {s.type, s.directions * s.batch * s.hidden};
    const bool lstm = s.cell == RecurrentSpec::Cell::lstm;
    std::vector<BufferExtent> result = {{s.type, s.steps * s.batch * s.input}, state};
    if (lstm) result.push_back(state);
    result.push_back({s.type, static_cast<std::int64_t>(weight_bytes) * 8 / bits(s.type)});
    result.push_back({s.type, s.steps * s.batch * s.directions * s.hidden});
    result.push_back(state);
    if (lstm) result.push_back(state);
    return result;
}

}  // namespace ai_vmm::cuda
