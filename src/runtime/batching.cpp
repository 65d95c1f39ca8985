// SPDX-License-Identifier: Apache-2.0
#include "runtime/batching.hpp"

#include <algorithm>
#include <cstring>
#include <utility>

namespace ai_vmm::runtime {

bool joinable(const Tensor& a, const Tensor& b) noexcept {
    return !a.empty() && a.place().is_host() && b.place().is_host() && a.type() != ElementType::string && bit_width(a.type()) % 8 == 0 &&
           !a.shape().empty() && a.type() == b.type() && a.shape().size() == b.shape().size() &&
           std::equal(a.shape().begin() + 1, a.shape().end(), b.shape().begin() + 1);
}

void join(std::span<const Tensor* const> parts, Tensor& into) {
    const Tensor& model = *parts.front();
    std::int64_t rows = 0;
    for (const Tensor* part : parts) rows += part->shape()[0];
    if (into.empty() || into.shape().empty() || into.shape()[0] != rows || !joinable(model, into)) {
        Shape shape = model.shape();
        shape[0] = rows;
        into = Tensor(model.type(), std::move(shape));
    }
    auto* out = static_cast<std::byte*>(into.data());
    for (const Tensor* part : parts) {
        if (part->size_bytes() == 0) continue;
        std::memcpy(out, part->data(), part->size_bytes());
        out += part->size_bytes();
    }
}

Tensor rows_of(const Tensor& whole, std::int64_t first, std::int64_t count) {
    Shape shape = whole.shape();
    const std::size_t row_bytes = shape[0] > 0 ? whole.size_bytes() / static_cast<std::size_t>(shape[0]) : 0;
    shape[0] = count;
    auto* data = const_cast<std::byte*>(static_cast<const std::byte*>(whole.data())) + static_cast<std::size_t>(first) * row_bytes;
    if (whole.owns_memory() && whole.place().is_host()) return Tensor::adopt(whole.type(), std::move(shape), data, whole.keep_alive());
    return Tensor::borrow(whole.type(), std::move(shape), data, whole.place(), whole.keep_alive());
}

}  // namespace ai_vmm::runtime
