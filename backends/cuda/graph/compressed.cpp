// SPDX-License-Identifier: Apache-2.0
#include "graph/compressed.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>

namespace ai_vmm::cuda {

bool is_small_integer(Type type) { return type == Type::i8 || type == Type::u8 || type == Type::i4 || type == Type::u4; }

const Compute* CompressedRewriter::operation(ValueId id, const char* op) const {
    const Node* node = producer(id);
    const auto* compute = node == nullptr ? nullptr : std::get_if<Compute>(&node->what);
    return compute != nullptr && compute->op == op && compute->view.kind == View::Kind::none ? compute : nullptr;
}

ValueId CompressedRewriter::integers_behind(ValueId id) const {
    for (const Node* node = producer(id); node != nullptr; node = producer(id)) {
        const auto* compute = std::get_if<Compute>(&node->what);
        const bool passes = compute != nullptr && node->inputs.size() == 1 &&
                            (compute->view.kind != View::Kind::none || (compute->op == "Convert" && is_float(value(id).type)));
        if (!passes) return -1;
        id = node->inputs.front();
    }
    return value(id).source == Source::constant && is_small_integer(value(id).type) ? id : -1;
}

std::optional<double> CompressedRewriter::uniform(ValueId id) const {
    for (const Node* node = producer(id); node != nullptr; node = producer(id)) {
        const auto* compute = std::get_if<Compute>(&node->what);
        const bool passes = compute != nullptr && node->inputs.size() == 1 &&
                            (compute->view.kind != View::Kind::none || (compute->op == "Convert" && is_float(value(id).type)));
        if (!passes) return std::nullopt;
        id = node->inputs.front();
    }
    const Value& at = value(id);
    const std::int64_t count = elements(at.dims);
    if (at.source != Source::constant || count == 0) return std::nullopt;
    if (count == 1) {
        if (const auto known = scalar(at)) return known;
    }
    const std::byte* data = at.constant.data;
    const std::int64_t each = bits(at.type) / 8;
    if (at.type != Type::i8 && at.type != Type::u8 && at.type != Type::f32) {
        // Of 4 bits and 16, zeros alone.
        if (!is_small_integer(at.type) && at.type != Type::f16 && at.type != Type::bf16) return std::nullopt;
        const bool zeros = std::all_of(data, data + bytes(at.type, at.dims), [](std::byte byte) { return byte == std::byte{0}; });
        return zeros ? std::optional(0.0) : std::nullopt;
    }
    for (std::int64_t k = 1; k < count; ++k) {
        if (std::memcmp(data, data + k * each, static_cast<std::size_t>(each)) != 0) return std::nullopt;
    }
    if (at.type == Type::i8) return static_cast<double>(static_cast<std::int8_t>(*data));
    if (at.type == Type::u8) return static_cast<double>(static_cast<std::uint8_t>(*data));
    float number = 0;
    std::memcpy(&number, data, sizeof number);
    return static_cast<double>(number);
}

bool CompressedRewriter::is_factor(ValueId id) const {
    const Type type = value(id).type;
    return constant(id) && (type == Type::f32 || type == Type::f16 || type == Type::bf16);
}

std::optional<Compressed> CompressedRewriter::shifted(ValueId id) const {
    Compressed found;
    if (operation(id, "Subtract") != nullptr) {
        const Node& node = *producer(id);
        if (dims(node.inputs[0]) != dims(id) || !is_factor(node.inputs[1])) return std::nullopt;
        if (uniform(node.inputs[1]) != 0) found.zero = node.inputs[1];
        id = node.inputs[0];
    }
    if (!is_float(value(id).type)) return std::nullopt;
    while (operation(id, "Convert") != nullptr && is_float(value(id).type)) id = producer(id)->inputs.front();
    found.packed = id;
    if (value(found.packed).source != Source::constant || !is_small_integer(value(found.packed).type)) return std::nullopt;
    return found;
}

std::optional<Compressed> CompressedRewriter::compressed(ValueId id) const {
    if (operation(id, "Multiply") == nullptr) return shifted(id);
    const Node& node = *producer(id);
    for (std::size_t k = 0; k < 2; ++k) {
        const ValueId x = node.inputs[k], scale = node.inputs[1 - k];
        if (dims(x) != dims(id) || !is_factor(scale)) continue;
        if (auto found = shifted(x)) {
            found->scale = unrounded(scale);
            return found;
        }
    }
    return std::nullopt;
}

/// A factor that was rounded to f16 as it was, where f16 has too few digits for it.
ValueId CompressedRewriter::unrounded(ValueId id) const {
    if (operation(id, "Convert") == nullptr || value(id).type != Type::f16) return id;
    const ValueId from = producer(id)->inputs.front();
    const Value& factor = value(from);
    if (factor.source != Source::constant || factor.type != Type::f32) return id;
    for (std::int64_t k = 0; k < elements(factor.dims); ++k) {
        float number = 0;
        std::memcpy(&number, factor.constant.data + k * static_cast<std::int64_t>(sizeof number), sizeof number);
        const float size = std::abs(number);
        if (size != 0 && (size < 6.103515625e-5F || size > 65504.0F)) return from;
    }
    return id;
}

std::optional<ValueId> CompressedRewriter::behind_views(ValueId id, ViewChain& chain, bool narrowed) {
    std::vector<ValueId> views;
    const auto through_conversions = [&] {
        while (operation(id, "Convert") != nullptr && is_float(value(id).type)) {
            const ValueId from = producer(id)->inputs.front();
            if (!is_float(value(from).type) || (!narrowed && bits(value(from).type) > bits(value(id).type))) break;
            id = from;
        }
    };
    for (;;) {
        through_conversions();
        const Node* node = producer(id);
        const auto* compute = node == nullptr ? nullptr : std::get_if<Compute>(&node->what);
        if (compute == nullptr || compute->view.kind == View::Kind::none) break;
        if (compute->view.kind != View::Kind::reshape && compute->view.kind != View::Kind::transpose) return std::nullopt;
        views.push_back(id);
        id = node->inputs.front();
    }
    if (elements(dims(id)) == 0) return std::nullopt;
    chain = ViewChain::of(graph(), id);
    for (std::size_t k = views.size(); k-- > 0;) {
        const View& view = std::get<Compute>(producer(views[k])->what).view;
        if (view.kind == View::Kind::transpose) {
            chain.transpose(view.permutation);
        } else if (!chain.reshape(dims(views[k]))) {
            return std::nullopt;
        }
    }
    return id;
}

std::optional<Compressed> CompressedRewriter::compressed_behind(ValueId id, ViewChain& chain) {
    const auto root = behind_views(id, chain, true);
    if (!root) return std::nullopt;
    const auto found = compressed(*root);
    if (found) chain.source = found->packed;
    return found;
}

/// Per factor of the chain whether a value that broadcasts to its source differs along it.
std::vector<bool> CompressedRewriter::varies(ValueId id, const ViewChain& chain) const {
    std::vector<bool> all;
    const Dims &from = dims(id), &to = dims(chain.source);
    std::size_t factor = 0;
    for (std::size_t d = 0; d < to.size(); ++d) {
        const bool differs = d + from.size() >= to.size() && from[d + from.size() - to.size()] != 1;
        for (std::int64_t size = 1; size < to[d]; ++factor) {
            size *= chain.factors[factor];
            all.push_back(differs);
        }
    }
    return all;
}

/// What broadcasts to the chain's source, seen through the chain (1, n, k): the values at the first of every `group` neighbours along k.
ValueId CompressedRewriter::first_of_groups(ValueId part, const ViewChain& chain, std::int64_t group) {
    // Every factor's coordinate, from those of n and of the groups.
    std::vector<std::string> digits(chain.factors.size(), "0");
    for (const std::size_t d : {std::size_t{1}, std::size_t{2}}) {
        const auto [first, last] = chain.group(d);
        std::int64_t inner = 1, within = d == 2 ? group : 1;
        for (std::size_t at = last; at-- > first;) {
            const auto factor = static_cast<std::size_t>(chain.order[at]);
            const std::int64_t size = chain.factors[factor];
            if (within > 1) {
                within /= size;
                continue;
            }
            digits[factor] = fmt::format("i{} / (idx){} % (idx){}", d, inner, size);
            inner *= size;
        }
    }
    const Dims &from = dims(part), &to = dims(chain.source);
    std::string at;
    std::size_t factor = 0;
    for (std::size_t d = 0; d < to.size(); ++d) {
        std::string coordinate = "0";
        for (std::int64_t size = 1; size < to[d]; ++factor) {
            size *= chain.factors[factor];
            coordinate = fmt::format("({}) * (idx){} + {}", coordinate, chain.factors[factor], digits[factor]);
        }
        if (d + from.size() < to.size()) continue;
        at += fmt::format("{}{}", at.empty() ? "" : ", ", from[d + from.size() - to.size()] == 1 ? "0" : coordinate);
    }
    return builder().compute(value(part).type, {1, chain.dims[1], chain.dims[2] / group}, {part},
                             {"Factors", fmt::format("return in0({});", at), 2, {}, {}});
}

std::optional<PackedMatrix> CompressedRewriter::matrix(ValueId id, bool transposed, std::int64_t unit) {
    ViewChain chain;
    const auto found = compressed_behind(id, chain);
    if (!found || chain.dims.size() != 3 || chain.dims[0] != 1) return std::nullopt;
    if (!transposed) chain.transpose({0, 2, 1});
    PackedMatrix made;
    made.packed = value(found->packed).type;
    // Scales and zeros are the same over the innermost factors of k that neither differs along.
    std::vector<std::vector<bool>> differing;
    for (ValueId part : {found->scale, found->zero}) {
        if (part >= 0) differing.push_back(varies(part, chain));
    }
    const auto [first, last] = chain.group(2);
    made.group = 1;
    for (std::size_t at = last; at-- > first;) {
        const auto factor = static_cast<std::size_t>(chain.order[at]);
        if (std::any_of(differing.begin(), differing.end(), [&](const auto& one) { return one[factor]; })) break;
        made.group *= chain.factors[factor];
    }
    if (made.group % unit != 0) return std::nullopt;
    made.weights = append(builder(), chain);
    const auto per_group = [&](ValueId part) { return first_of_groups(part, chain, made.group); };
    if (found->scale >= 0) made.scale = per_group(found->scale);
    if (found->zero >= 0) {
        const ValueId integers = integers_behind(found->zero);
        made.zero = per_group(found->zero);
        if (integers >= 0) {
            const Type type = value(integers).type;
            made.zero = builder().cast(made.zero, type == Type::i4 || type == Type::i8 ? Type::i8 : Type::u8);
        }
    }
    return made;
}

}  // namespace ai_vmm::cuda
