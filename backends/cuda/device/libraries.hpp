// SPDX-License-Identifier: Apache-2.0
/// Operations that vendor libraries do best, as plain values. Strides are in elements.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "device/types.hpp"

namespace ai_vmm::cuda {

class Stream;

/// What a library applies to a result before it is stored.
enum class Activation : std::uint8_t { none, relu, gelu_tanh, gelu_erf, sigmoid, tanh, silu, relu6, hard_swish };

/// D[b] = activation(alpha * op(A[b]) @ op(B[b]) + bias + residual[b]), row-major. op(A) is m x k, op(B) k x n, D m x n; op transposes the stored
/// matrix. Buffers, in order: A, B, D, then bias (n values, added to each row) and residual (as D, which it may be) where present; each aligned to 16
/// bytes.
struct MatmulSpec {
    std::int64_t m = 0, n = 0, k = 0, batch = 1;
    bool transpose_a = false, transpose_b = false;
    std::int64_t row_stride_a = 0, row_stride_b = 0, row_stride_d = 0;        ///< of the stored matrices
    std::int64_t batch_stride_a = 0, batch_stride_b = 0, batch_stride_d = 0;  ///< 0: the same matrix for every batch
    Type type = Type::f32;                                                    ///< of A and B
    Type result = Type::f32;                                                  ///< of D and residual
    Type bias_type = Type::f32;
    bool bias = false, residual = false;
    bool tf32 = false;  ///< allowed for f32; otherwise products are true f32
    float alpha = 1;
    Activation activation = Activation::none;
    bool operator==(const MatmulSpec&) const = default;
};

/// Y = activation(scale * conv(X, W) + bias + residual), cross-correlation with 1 to 3 spatial dimensions. Every tensor is channels-last in memory: X
/// is (N, spatial.., C), W (K, spatial.., C / groups), Y and residual (N, spatial.., K). Buffers, in order: X, W, Y, then scale (K values of f32),
/// bias (K values) and residual where present. X and W of i8 are added up in i32, and what lies outside X counts as 0.
struct ConvolutionSpec {
    std::int64_t batch = 1, channels_in = 0, channels_out = 0, groups = 1;
    Dims in, kernel, out;  ///< spatial sizes
    Dims stride, dilation, pad_begin, pad_end;
    Type type = Type::f32;    ///< of X and W
    Type result = Type::f32;  ///< of Y and residual: `type`; a float where X and W are of i8
    Type bias_type = Type::f32;
    bool scale = false;  ///< of sums of i8, which have one
    bool bias = false, residual = false;
    bool tf32 = false;
    bool transposed = false;  ///< the gradient with respect to the input: X and Y change places, W stays (C_in, spatial.., C_out / groups)
    Activation activation = Activation::none;
    bool operator==(const ConvolutionSpec&) const = default;
};

/// O = softmax(scale * Q @ K^T + mask) @ V per head; K and V heads serve heads / kv_heads query heads each.
/// Buffers, in order: Q, K, V, O, then the mask where present.
struct AttentionSpec {
    std::int64_t batch = 1, heads = 1, kv_heads = 1, queries = 0, keys = 0, head_size = 0, value_size = 0;
    Dims q_strides, k_strides, v_strides, o_strides;  ///< (batch, head, position, feature)
    Type type = Type::f16;                            ///< of Q, K, V, O and mask
    float scale = 1;
    bool causal = false;  ///< query i sees keys 0 to i
    bool mask = false;
    Dims mask_dims, mask_strides;  ///< (batch, head, query, key), 1 where broadcast; batch may be a divisor: batch b is masked by b modulo it
    bool operator==(const AttentionSpec&) const = default;
};

/// One or two directions of an LSTM, GRU or tanh/ReLU recurrence over a whole sequence. Every sequence has the full length.
/// Buffers, in order: X (steps, batch, input), H0 (directions, batch, hidden), C0 (LSTM alone), weights as RecurrentCall::pack_weights() returned
/// them, Y (steps, batch, directions * hidden), HN (as H0), CN (LSTM alone).
struct RecurrentSpec {
    enum class Cell : std::uint8_t { lstm, gru_reset_after, relu, tanh };
    Cell cell = Cell::lstm;
    std::int64_t steps = 0, batch = 0, input = 0, hidden = 0;
    int directions = 1;
    Type type = Type::f32;
    bool tf32 = false;
    bool operator==(const RecurrentSpec&) const = default;
};

/// An operation prepared for one specification: descriptors made, engine chosen. run() from one thread at a time. Outlives every RecordedGraph that
/// it was recorded into: its kernels may be unloaded with it.
class LibraryCall {
public:
    virtual ~LibraryCall() = default;
    [[nodiscard]] virtual std::size_t workspace_bytes() const = 0;
    /// Enqueues. @param buffers  device addresses in the specification's order. @throws Error(internal).
    virtual void run(Stream& stream, std::span<const std::uint64_t> buffers, std::uint64_t workspace) = 0;
    /// For reports: library, engine, tile, as far as known.
    [[nodiscard]] virtual std::string describe() const = 0;
    /// What was chosen, as bytes that spare another process the search (libraries/vendor_libraries.hpp); empty: nothing to keep.
    [[nodiscard]] virtual std::string choice() const { return {}; }
};

/// A recurrence, whose weights have a layout of the library's own.
class RecurrentCall : public LibraryCall {
public:
    [[nodiscard]] virtual std::size_t weight_bytes() const = 0;
    /// Weights in the library's layout, `weight_bytes()` of them. Runs on the host.
    /// @param w  (directions, gates * hidden, input) of the specification's type, row-major; gates in OpenVINO's order: f, i, c, o (LSTM), z, r, h
    /// (GRU)
    /// @param r  (directions, gates * hidden, hidden)
    /// @param b  (directions, gates * hidden), the sum of both biases; GRU: (directions, 4 * hidden), the fourth being the recurrent bias of h
    /// @throws Error(invalid_argument) a size differs.
    [[nodiscard]] virtual std::vector<std::byte> pack_weights(std::span<const std::byte> w, std::span<const std::byte> r,
                                                              std::span<const std::byte> b) const = 0;
};

}  // namespace ai_vmm::cuda
