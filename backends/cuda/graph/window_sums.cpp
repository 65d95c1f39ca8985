// SPDX-License-Identifier: Apache-2.0
#include "graph/window_sums.hpp"

#include <fmt/format.h>

#include <string>
#include <utility>
#include <vector>

namespace ai_vmm::cuda {
namespace {

/// Of a dimension; each is a comparison where a result is read. A filter of 7 that is padded by 3 has 7.
constexpr std::size_t kMostClasses = 8;

/// The first result along dimension `d` of each class: neighbours whose windows have the same taps inside the image.
Dims first_of_classes(const ConvolutionSpec& spec, std::size_t d) {
    const auto inside = [&](std::int64_t at) {
        std::vector<bool> taps;
        for (std::int64_t k = 0; k < spec.kernel[d]; ++k) {
            const std::int64_t x = at * spec.stride[d] + k * spec.dilation[d] - spec.pad_begin[d];
            taps.push_back(x >= 0 && x < spec.in[d]);
        }
        return taps;
    };
    Dims first{0};
    std::vector<bool> last = inside(0);
    for (std::int64_t at = 1; at < spec.out[d]; ++at) {
        std::vector<bool> taps = inside(at);
        if (taps == last) continue;
        first.push_back(at);
        last = std::move(taps);
    }
    return first;
}

/// The first result of class `index`, and the class of result `index`, as C.
std::string first_in(const Dims& first, const std::string& index) {
    std::string text = fmt::format("(idx){}", first.back());
    for (std::size_t k = first.size() - 1; k-- > 0;) text = fmt::format("({} == {} ? (idx){} : {})", index, k, first[k], text);
    return text;
}
std::string class_of(const Dims& first, const std::string& index) {
    std::string text;
    for (std::size_t k = 1; k < first.size(); ++k) text += fmt::format("{}({} >= (idx){})", k == 1 ? "" : " + ", index, first[k]);
    return text.empty() ? "0" : fmt::format("(idx)({})", text);
}

/// (classes, classes, K)
ValueId table(Builder& builder, ValueId weights, const ConvolutionSpec& spec, const Dims& rows, const Dims& columns) {
    const std::int64_t area = elements(spec.kernel);
    std::string body = fmt::format("const idx tap = i3 % (idx){}; ", area);
    for (std::size_t d = 0; d < 2; ++d) {
        const std::string tap = d == 0 ? fmt::format("tap / (idx){}", spec.kernel[1]) : fmt::format("tap % (idx){}", spec.kernel[1]);
        body += fmt::format(
            "const idx k{0} = {1}, x{0} = {2} * (idx){3} + k{0} * (idx){4} - (idx)({5}); if (x{0} < 0 || x{0} >= (idx){6}) return 0; ", d, tap,
            first_in(d == 0 ? rows : columns, d == 0 ? "i0" : "i1"), spec.stride[d], spec.dilation[d], spec.pad_begin[d], spec.in[d]);
    }
    const Dims space{static_cast<std::int64_t>(rows.size()), static_cast<std::int64_t>(columns.size()), spec.channels_out, spec.channels_in * area};
    Rowwise sums{"WindowSums", space, {3}, Type::i64, {}, "return s0;", true, 1, {}};
    sums.stages.push_back({Rowwise::Combine::sum, body + fmt::format("return in0(i2, i3 / (idx){}, k0, k1);", area), ""});
    return builder.rowwise(Type::i32, {weights}, std::move(sums));
}

}  // namespace

std::optional<ValueId> window_sums(Builder& builder, ValueId weights, const ConvolutionSpec& spec) {
    const Dims rows = first_of_classes(spec, 0), columns = first_of_classes(spec, 1);
    if (rows.size() > kMostClasses || columns.size() > kMostClasses) return std::nullopt;
    const auto classes = [](const Dims& first) { return static_cast<std::int64_t>(first.size()); };
    const ValueId sums = table(builder, weights, spec, rows, columns);
    if (rows.size() == 1 && columns.size() == 1) return builder.reshape(sums, {1, spec.channels_out, 1, 1});
    // Channels lie side by side, and stand where they do in the result.
    const ValueId by_channel = builder.transpose(builder.reshape(sums, {classes(rows), classes(columns), spec.channels_out}), {0, 2, 1});
    Compute at;
    at.op = "WindowSumsAt";
    at.body = at.across = fmt::format("return in0({}, i1, {});", class_of(rows, "i2"), class_of(columns, "i3"));
    at.cost = 0;
    at.every_run = true;  // spread over the result it is as large
    return builder.compute(Type::i32, {1, spec.channels_out, spec.out[0], spec.out[1]}, {by_channel}, std::move(at));
}

}  // namespace ai_vmm::cuda
