// SPDX-License-Identifier: Apache-2.0
#include "reference.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

namespace ai_vmm::conformance::reference {
namespace {

std::size_t at(std::int64_t index) { return static_cast<std::size_t>(index); }

double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

Shape broadcast_shape(const Shape& a, const Shape& b) {
    Shape shape(std::max(a.size(), b.size()), 1);
    for (std::size_t i = 0; i < shape.size(); ++i) {
        const std::int64_t x = i < a.size() ? a[a.size() - 1 - i] : 1;
        const std::int64_t y = i < b.size() ? b[b.size() - 1 - i] : 1;
        shape[shape.size() - 1 - i] = x == 1 ? y : x;
    }
    return shape;
}

}  // namespace

Array map(const Array& a, const Unary& f) {
    Array result = a;
    for (double& value : result.values) value = f(value);
    return result;
}

Array broadcast(const Array& a, const Shape& shape) {
    Array result(shape);
    std::size_t n = 0;
    for_each_index(shape, [&](const Shape& index) {
        Shape from(a.shape.size());
        for (std::size_t d = 0; d < from.size(); ++d) from[d] = a.shape[d] == 1 ? 0 : index[index.size() - from.size() + d];
        result[n++] = a[offset_of(a.shape, from)];
    });
    return result;
}

Array combine(const Array& a, const Array& b, const Binary& f) {
    const Shape shape = broadcast_shape(a.shape, b.shape);
    Array result = broadcast(a, shape);
    const Array right = broadcast(b, shape);
    for (std::size_t i = 0; i < result.size(); ++i) result[i] = f(result[i], right[i]);
    return result;
}

Array transpose(const Array& a, const std::vector<std::int64_t>& order) {
    Shape shape(order.size());
    for (std::size_t d = 0; d < order.size(); ++d) shape[d] = a.shape[at(order[d])];
    Array result(shape);
    std::size_t n = 0;
    for_each_index(shape, [&](const Shape& index) {
        Shape from(order.size());
        for (std::size_t d = 0; d < order.size(); ++d) from[at(order[d])] = index[d];
        result[n++] = a[offset_of(a.shape, from)];
    });
    return result;
}

Array reshape(Array a, Shape shape) {
    a.shape = std::move(shape);
    return a;
}

Array concat(const std::vector<Array>& parts, std::int64_t axis) {
    Shape shape = parts.front().shape;
    shape[at(axis)] = 0;
    for (const Array& part : parts) shape[at(axis)] += part.shape[at(axis)];
    Array result(shape);
    std::int64_t start = 0;
    for (const Array& part : parts) {
        std::size_t n = 0;
        for_each_index(part.shape, [&](Shape index) {
            index[at(axis)] += start;
            result[offset_of(shape, index)] = part[n++];
        });
        start += part.shape[at(axis)];
    }
    return result;
}

Array slice(const Array& a, std::int64_t axis, std::int64_t start, std::int64_t count, std::int64_t step) {
    Shape shape = a.shape;
    shape[at(axis)] = count;
    Array result(shape);
    std::size_t n = 0;
    for_each_index(shape, [&](Shape index) {
        index[at(axis)] = start + index[at(axis)] * step;
        result[n++] = a[offset_of(a.shape, index)];
    });
    return result;
}

Array pad(const Array& a, const Shape& begin, const Shape& end, double value) {
    Shape shape = a.shape;
    for (std::size_t d = 0; d < shape.size(); ++d) shape[d] += begin[d] + end[d];
    Array result(shape, value);
    std::size_t n = 0;
    for_each_index(a.shape, [&](Shape index) {
        for (std::size_t d = 0; d < shape.size(); ++d) index[d] += begin[d];
        result[offset_of(shape, index)] = a[n++];
    });
    return result;
}

Array gather(const Array& a, const Array& indices, std::int64_t axis) {
    Shape shape(a.shape.begin(), a.shape.begin() + axis);
    shape.insert(shape.end(), indices.shape.begin(), indices.shape.end());
    shape.insert(shape.end(), a.shape.begin() + axis + 1, a.shape.end());
    Array result(shape);
    std::size_t n = 0;
    for_each_index(shape, [&](const Shape& index) {
        const Shape which(index.begin() + axis, index.begin() + axis + indices.rank());
        double picked = indices[offset_of(indices.shape, which)];
        if (picked < 0) picked += static_cast<double>(a.shape[at(axis)]);
        Shape from(index.begin(), index.begin() + axis);
        from.push_back(static_cast<std::int64_t>(picked));
        from.insert(from.end(), index.begin() + axis + indices.rank(), index.end());
        result[n++] = a[offset_of(a.shape, from)];
    });
    return result;
}

Array reduce(const Array& a, const std::vector<std::int64_t>& axes, bool keep, double start, const Binary& fold,
             const std::function<double(double, double)>& finish) {
    Shape kept = a.shape;
    double count = 1;
    for (const std::int64_t axis : axes) {
        count *= static_cast<double>(kept[at(axis)]);
        kept[at(axis)] = 1;
    }
    Array result(kept, start);
    std::size_t n = 0;
    for_each_index(a.shape, [&](Shape index) {
        for (const std::int64_t axis : axes) index[at(axis)] = 0;
        double& value = result[offset_of(kept, index)];
        value = fold(value, a[n++]);
    });
    for (double& value : result.values) value = finish(value, count);
    if (!keep) {
        Shape shape;
        for (std::int64_t d = 0; d < a.rank(); ++d) {
            if (std::ranges::find(axes, d) == axes.end()) shape.push_back(a.shape[at(d)]);
        }
        result.shape = shape;
    }
    return result;
}

Array sum(const Array& a, const std::vector<std::int64_t>& axes, bool keep) { return reduce(a, axes, keep, 0, std::plus<>()); }

Array mean(const Array& a, const std::vector<std::int64_t>& axes, bool keep) {
    return reduce(a, axes, keep, 0, std::plus<>(), [](double value, double count) { return value / count; });
}

Array softmax(const Array& a, std::int64_t axis) {
    const Array top = reduce(a, {axis}, true, -std::numeric_limits<double>::infinity(), [](double x, double y) { return std::max(x, y); });
    const Array powers = combine(a, top, [](double x, double y) { return std::exp(x - y); });
    return combine(powers, sum(powers, {axis}, true), std::divides<>());
}

Array normalise(const Array& a, const std::vector<std::int64_t>& axes, double epsilon) {
    const Array centred = combine(a, mean(a, axes, true), std::minus<>());
    const Array variance = mean(map(centred, [](double x) { return x * x; }), axes, true);
    return combine(centred, variance, [&](double x, double v) { return x / std::sqrt(v + epsilon); });
}

Array matmul(const Array& a, const Array& b, bool transpose_a, bool transpose_b) {
    const auto flip = [](const Array& x, bool wanted) {
        if (!wanted) return x;
        std::vector<std::int64_t> order(x.shape.size());
        std::iota(order.begin(), order.end(), 0);
        std::swap(order[order.size() - 1], order[order.size() - 2]);
        return transpose(x, order);
    };
    const Array left = flip(a, transpose_a);
    const Array right = flip(b, transpose_b);
    const std::int64_t rows = left.shape[left.shape.size() - 2];
    const std::int64_t inner = left.shape.back();
    const std::int64_t columns = right.shape.back();
    const Shape batch = broadcast_shape(Shape(left.shape.begin(), left.shape.end() - 2), Shape(right.shape.begin(), right.shape.end() - 2));
    const auto with = [&](std::int64_t x, std::int64_t y) {
        Shape shape = batch;
        shape.push_back(x);
        shape.push_back(y);
        return shape;
    };
    const Array l = broadcast(left, with(rows, inner));
    const Array r = broadcast(right, with(inner, columns));
    Array result(with(rows, columns));
    const std::size_t batches = element_count(batch);
    const auto m = at(rows);
    const auto k = at(inner);
    const auto n = at(columns);
    for (std::size_t p = 0; p < batches; ++p) {
        for (std::size_t i = 0; i < m; ++i) {
            for (std::size_t j = 0; j < n; ++j) {
                double total = 0;
                for (std::size_t q = 0; q < k; ++q) total += l[(p * m + i) * k + q] * r[(p * k + q) * n + j];
                result[(p * m + i) * n + j] = total;
            }
        }
    }
    return result;
}

Array conv2d(const Array& x, const Array& filters, const Window& w, std::int64_t groups) {
    const std::int64_t outputs = filters.shape[0];
    const std::int64_t channels = filters.shape[1];
    Shape shape{x.shape[0], outputs, 0, 0};
    for (std::size_t d = 0; d < 2; ++d) {
        const std::int64_t reach = (filters.shape[d + 2] - 1) * w.dilation[d] + 1;
        shape[d + 2] = (x.shape[d + 2] + w.pad_begin[d] + w.pad_end[d] - reach) / w.stride[d] + 1;
    }
    Array result(shape);
    std::size_t n = 0;
    for_each_index(shape, [&](const Shape& o) {
        double total = 0;
        const std::int64_t first = o[1] / (outputs / groups) * channels;
        for_each_index({channels, filters.shape[2], filters.shape[3]}, [&](const Shape& f) {
            const std::int64_t row = o[2] * w.stride[0] + f[1] * w.dilation[0] - w.pad_begin[0];
            const std::int64_t column = o[3] * w.stride[1] + f[2] * w.dilation[1] - w.pad_begin[1];
            if (row < 0 || row >= x.shape[2] || column < 0 || column >= x.shape[3]) return;
            total += x[offset_of(x.shape, {o[0], first + f[0], row, column})] * filters[offset_of(filters.shape, {o[1], f[0], f[1], f[2]})];
        });
        result[n++] = total;
    });
    return result;
}

Array deconv2d(const Array& x, const Array& filters, const Window& w) {
    Shape shape{x.shape[0], filters.shape[1], 0, 0};
    for (std::size_t d = 0; d < 2; ++d) {
        const std::int64_t reach = (filters.shape[d + 2] - 1) * w.dilation[d] + 1;
        shape[d + 2] = (x.shape[d + 2] - 1) * w.stride[d] + reach - w.pad_begin[d] - w.pad_end[d];
    }
    Array result(shape);
    std::size_t n = 0;
    for_each_index(x.shape, [&](const Shape& i) {
        const double value = x[n++];
        for_each_index({shape[1], filters.shape[2], filters.shape[3]}, [&](const Shape& f) {
            const std::int64_t row = i[2] * w.stride[0] + f[1] * w.dilation[0] - w.pad_begin[0];
            const std::int64_t column = i[3] * w.stride[1] + f[2] * w.dilation[1] - w.pad_begin[1];
            if (row < 0 || row >= shape[2] || column < 0 || column >= shape[3]) return;
            result[offset_of(shape, {i[0], f[0], row, column})] += value * filters[offset_of(filters.shape, {i[1], f[0], f[1], f[2]})];
        });
    });
    return result;
}

Array pool2d(const Array& x, const std::vector<std::int64_t>& kernel, const Window& w, bool average) {
    Shape shape = x.shape;
    for (std::size_t d = 0; d < 2; ++d) shape[d + 2] = (x.shape[d + 2] + w.pad_begin[d] + w.pad_end[d] - kernel[d]) / w.stride[d] + 1;
    Array result(shape);
    std::size_t n = 0;
    for_each_index(shape, [&](const Shape& o) {
        double total = 0;
        double top = -std::numeric_limits<double>::infinity();
        double count = 0;
        for_each_index({kernel[0], kernel[1]}, [&](const Shape& f) {
            const std::int64_t row = o[2] * w.stride[0] + f[0] - w.pad_begin[0];
            const std::int64_t column = o[3] * w.stride[1] + f[1] - w.pad_begin[1];
            if (row < 0 || row >= x.shape[2] || column < 0 || column >= x.shape[3]) return;
            const double value = x[offset_of(x.shape, {o[0], o[1], row, column})];
            total += value;
            top = std::max(top, value);
            ++count;
        });
        result[n++] = average ? total / count : top;
    });
    return result;
}

std::vector<Array> lstm_cell(const Array& x, const Array& h, const Array& c, const Array& w, const Array& r, const Array& b) {
    const Array gates = combine(combine(matmul(x, w, false, true), matmul(h, r, false, true), std::plus<>()), b, std::plus<>());
    const std::int64_t hidden = h.shape[1];
    const Array forget = map(slice(gates, 1, 0, hidden), sigmoid);
    const Array input = map(slice(gates, 1, hidden, hidden), sigmoid);
    const Array cell = map(slice(gates, 1, 2 * hidden, hidden), [](double v) { return std::tanh(v); });
    const Array output = map(slice(gates, 1, 3 * hidden, hidden), sigmoid);
    const Array next = combine(combine(forget, c, std::multiplies<>()), combine(input, cell, std::multiplies<>()), std::plus<>());
    return {combine(output, map(next, [](double v) { return std::tanh(v); }), std::multiplies<>()), next};
}

Array gru_cell(const Array& x, const Array& h, const Array& w, const Array& r, const Array& b) {
    const std::int64_t hidden = h.shape[1];
    const Array xw = combine(matmul(x, w, false, true), b, std::plus<>());
    const auto part = [&](const Array& a, std::int64_t gate, std::int64_t axis) { return slice(a, axis, gate * hidden, hidden); };
    const auto gate = [&](std::int64_t index) {
        return map(combine(part(xw, index, 1), matmul(h, part(r, index, 0), false, true), std::plus<>()), sigmoid);
    };
    const Array update = gate(0);
    const Array reset = combine(gate(1), h, std::multiplies<>());
    const Array fresh = map(combine(part(xw, 2, 1), matmul(reset, part(r, 2, 0), false, true), std::plus<>()), [](double v) { return std::tanh(v); });
    const Array kept = combine(update, h, std::multiplies<>());
    return combine(combine(map(update, [](double z) { return 1 - z; }), fresh, std::multiplies<>()), kept, std::plus<>());
}

Array attention(const Array& q, const Array& k, const Array& v, double scale, const Array* mask, bool causal) {
    Array scores = map(matmul(q, k, false, true), [&](double value) { return value * scale; });
    if (mask != nullptr) scores = combine(scores, *mask, std::plus<>());
    if (causal) {
        const auto rows = static_cast<std::size_t>(scores.shape[scores.shape.size() - 2]);
        const auto columns = static_cast<std::size_t>(scores.shape.back());
        for (std::size_t i = 0; i < scores.size(); ++i) {
            if (i % columns > i / columns % rows) scores[i] = -std::numeric_limits<double>::infinity();
        }
    }
    return matmul(softmax(scores, scores.rank() - 1), v);
}

Box moved(const Box& box, double dx, double dy, double dw, double dh, double offset) {
    const double width = box.x1 - box.x0 + offset, height = box.y1 - box.y0 + offset;
    const double x = box.x0 + width / 2 + dx * width, y = box.y0 + height / 2 + dy * height;
    const double new_width = std::exp(dw) * width, new_height = std::exp(dh) * height;
    return {x - new_width / 2, y - new_height / 2, x + new_width / 2, y + new_height / 2};
}

Box clipped(const Box& box, double right, double bottom) {
    return {std::clamp(box.x0, 0.0, right), std::clamp(box.y0, 0.0, bottom), std::clamp(box.x1, 0.0, right), std::clamp(box.y1, 0.0, bottom)};
}

void sort(std::vector<Candidate>& all, std::int64_t most) {
    std::ranges::sort(all, [](const Candidate& a, const Candidate& b) { return a.score > b.score || (a.score == b.score && a.number < b.number); });
    if (most >= 0 && all.size() > static_cast<std::size_t>(most)) all.resize(static_cast<std::size_t>(most));
}

std::vector<Candidate> suppress(std::vector<Candidate> all, std::int64_t before, std::int64_t after, double threshold, double offset) {
    const auto area = [=](const Box& box) { return (box.x1 - box.x0 + offset) * (box.y1 - box.y0 + offset); };
    sort(all, before);
    std::vector<Candidate> chosen;
    for (const Candidate& candidate : all) {
        if (after >= 0 && chosen.size() == static_cast<std::size_t>(after)) break;
        const Box& a = candidate.box;
        const bool covered = std::ranges::any_of(chosen, [&](const Candidate& better) {
            const Box& b = better.box;
            if (b.x0 > a.x1 || b.x1 < a.x0 || b.y0 > a.y1 || b.y1 < a.y0) return false;
            const Box both{std::max(a.x0, b.x0), std::max(a.y0, b.y0), std::min(a.x1, b.x1), std::min(a.y1, b.y1)};
            return area(both) / (area(a) + area(b) - area(both)) > threshold;
        });
        if (!covered) chosen.push_back(candidate);
    }
    return chosen;
}

}  // namespace ai_vmm::conformance::reference
