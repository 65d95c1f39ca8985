// SPDX-License-Identifier: Apache-2.0
/// Operators in their plainest form, in double, written from the operator specifications
/// (docs.openvino.ai, "Available Operation Sets"). Slow on purpose.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "arrays.hpp"

namespace ai_vmm::conformance::reference {

using Unary = std::function<double(double)>;
using Binary = std::function<double(double, double)>;

[[nodiscard]] Array map(const Array& a, const Unary& f);
/// With numpy's broadcasting.
[[nodiscard]] Array combine(const Array& a, const Array& b, const Binary& f);
[[nodiscard]] Array broadcast(const Array& a, const Shape& shape);
[[nodiscard]] Array transpose(const Array& a, const std::vector<std::int64_t>& order);
[[nodiscard]] Array reshape(Array a, Shape shape);
[[nodiscard]] Array concat(const std::vector<Array>& parts, std::int64_t axis);
/// Elements start, start + step, … (`count` of them) along `axis`.
[[nodiscard]] Array slice(const Array& a, std::int64_t axis, std::int64_t start, std::int64_t count, std::int64_t step = 1);
[[nodiscard]] Array pad(const Array& a, const Shape& begin, const Shape& end, double value);
[[nodiscard]] Array gather(const Array& a, const Array& indices, std::int64_t axis);

/// Folds along `axes` starting from `start`; `finish` gets the fold and the count.
[[nodiscard]] Array reduce(
    const Array& a, const std::vector<std::int64_t>& axes, bool keep, double start, const Binary& fold,
    const std::function<double(double, double)>& finish = [](double value, double) { return value; });
[[nodiscard]] Array sum(const Array& a, const std::vector<std::int64_t>& axes, bool keep);
[[nodiscard]] Array mean(const Array& a, const std::vector<std::int64_t>& axes, bool keep);
[[nodiscard]] Array softmax(const Array& a, std::int64_t axis);
/// (a - mean) / sqrt(variance + epsilon) over `axes`.
[[nodiscard]] Array normalise(const Array& a, const std::vector<std::int64_t>& axes, double epsilon);

/// Batched product with broadcast batch dimensions; both of rank 2 or more.
[[nodiscard]] Array matmul(const Array& a, const Array& b, bool transpose_a = false, bool transpose_b = false);

struct Window {
    std::vector<std::int64_t> stride{1, 1};
    std::vector<std::int64_t> dilation{1, 1};
    std::vector<std::int64_t> pad_begin{0, 0};
    std::vector<std::int64_t> pad_end{0, 0};
};
/// x [N,C,H,W], filters [O,C/groups,kh,kw].
[[nodiscard]] Array conv2d(const Array& x, const Array& filters, const Window& window, std::int64_t groups = 1);
/// x [N,C,H,W], filters [C,O,kh,kw]; no output padding.
[[nodiscard]] Array deconv2d(const Array& x, const Array& filters, const Window& window);
/// Pools of `kernel` [kh,kw]; padding counts for nothing.
[[nodiscard]] Array pool2d(const Array& x, const std::vector<std::int64_t>& kernel, const Window& window, bool average);

/// One step of an LSTM cell, gates in the order f, i, c, o. Returns h, c.
[[nodiscard]] std::vector<Array> lstm_cell(const Array& x, const Array& h, const Array& c, const Array& w, const Array& r, const Array& b);
/// One step of a GRU cell, gates in the order z, r, h; linear_before_reset false.
[[nodiscard]] Array gru_cell(const Array& x, const Array& h, const Array& w, const Array& r, const Array& b);
/// softmax(q k^T * scale + mask) v over the last two dimensions.
[[nodiscard]] Array attention(const Array& q, const Array& k, const Array& v, double scale, const Array* mask, bool causal);

struct Box {
    double x0 = 0, y0 = 0, x1 = 0, y1 = 0;
};
struct Candidate {
    double score = 0;
    std::int64_t kind = 0;    ///< its class
    std::int64_t number = 0;  ///< of the box it came from; of equal scores the lower comes first
    Box box;
};
/// A box whose centre goes dx, dy of its size and whose size grows by exp(dw), exp(dh). @param offset  what a width is more than the difference of
/// its ends
[[nodiscard]] Box moved(const Box& box, double dx, double dy, double dw, double dh, double offset);
/// Within 0 and the given ends.
[[nodiscard]] Box clipped(const Box& box, double right, double bottom);
/// By falling scores; no more than `most` stay, unless it is -1.
void sort(std::vector<Candidate>& all, std::int64_t most);
/// The `before` best, without those that overlap a better one by more than `threshold`; no more than `after`. -1: all.
[[nodiscard]] std::vector<Candidate> suppress(std::vector<Candidate> all, std::int64_t before, std::int64_t after, double threshold, double offset);

}  // namespace ai_vmm::conformance::reference
