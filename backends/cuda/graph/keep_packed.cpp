// SPDX-License-Identifier: Apache-2.0
/// Weights of 8 and 4 bits stay as they are in memory.
#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <optional>

#include "graph/passes.hpp"
#include "graph/rewriter.hpp"

namespace ai_vmm::cuda {
namespace {

/// A matrix that many rows are multiplied with is made numbers in every run: not where that takes a launch for a few bytes saved.
constexpr std::int64_t kLeastUnpacked = 1 << 16;

[[nodiscard]] bool is_small_integer(Type type) { return type == Type::i8 || type == Type::u8 || type == Type::i4 || type == Type::u4; }

/// (packed - zero) * scale, all of which broadcast to the packed constant's shape; -1: absent.
struct Compressed {
    ValueId packed = -1, scale = -1, zero = -1;
};

/// The same as a matrix (1, n, k) whose scales and zeros (1, n, k / group) serve neighbours along k.
struct PackedMatrix {
    ValueId weights = -1, scale = -1, zero = -1;
    std::int64_t group = 0;
    Type packed = Type::i8;
};

class KeepPacked final : public Rewriter {
public:
    using Rewriter::Rewriter;

private:
    std::optional<ValueId> rewrite(const Node& node) override {
        if (const auto* matmul = std::get_if<Matmul>(&node.what)) return product(node, matmul->spec);
        const auto* compute = std::get_if<Compute>(&node.what);
        if (compute != nullptr && compute->op == "Gather" && compute->view.kind == View::Kind::none) return table(node, *compute);
        return std::nullopt;
    }

    /// Whether a value is computed from constants alone.
    [[nodiscard]] bool constant(ValueId id) const {
        if (value(id).source == Source::constant) return true;
        const Node* node = producer(id);
        return node != nullptr && !node->inputs.empty() && std::holds_alternative<Compute>(node->what) &&
               std::all_of(node->inputs.begin(), node->inputs.end(), [this](ValueId input) { return constant(input); });
    }

    [[nodiscard]] const Compute* operation(ValueId id, const char* op) const {
        const Node* node = producer(id);
        const auto* compute = node == nullptr ? nullptr : std::get_if<Compute>(&node->what);
        return compute != nullptr && compute->op == op && compute->view.kind == View::Kind::none ? compute : nullptr;
    }

    /// Behind conversions to floats.
    [[nodiscard]] ValueId unconverted(ValueId id) const {
        while (operation(id, "Convert") != nullptr && is_float(value(id).type)) id = producer(id)->inputs.front();
        return id;
    }

    /// The integer constant whose elements `id` has as floats, through views; -1: there is none.
    [[nodiscard]] ValueId integers_behind(ValueId id) const {
        for (const Node* node = producer(id); node != nullptr; node = producer(id)) {
            const auto* compute = std::get_if<Compute>(&node->what);
            const bool passes = compute != nullptr && node->inputs.size() == 1 &&
                                (compute->view.kind != View::Kind::none || (compute->op == "Convert" && is_float(value(id).type)));
            if (!passes) return -1;
            id = node->inputs.front();
        }
        return value(id).source == Source::constant && is_small_integer(value(id).type) ? id : -1;
    }

    [[nodiscard]] bool all_zero(ValueId id) const {
        const Value& at = value(id);
        return std::all_of(at.constant.data, at.constant.data + bytes(at.type, at.dims), [](std::byte byte) { return byte == std::byte{0}; });
    }

    [[nodiscard]] bool is_factor(ValueId id) const {
        const Type type = value(id).type;
        return constant(id) && (type == Type::f32 || type == Type::f16 || type == Type::bf16);
    }

    [[nodiscard]] std::optional<Compressed> shifted(ValueId id) const {
        Compressed found;
        if (operation(id, "Subtract") != nullptr) {
            const Node& node = *producer(id);
            if (dims(node.inputs[0]) != dims(id) || !is_factor(node.inputs[1])) return std::nullopt;
            const ValueId integers = integers_behind(node.inputs[1]);
            if (integers < 0 || !all_zero(integers)) found.zero = node.inputs[1];
            id = node.inputs[0];
        }
        if (!is_float(value(id).type)) return std::nullopt;
        found.packed = unconverted(id);
        if (value(found.packed).source != Source::constant || !is_small_integer(value(found.packed).type)) return std::nullopt;
        return found;
    }

    [[nodiscard]] std::optional<Compressed> compressed(ValueId id) const {
        id = unconverted_float(id);
        if (operation(id, "Multiply") == nullptr) return shifted(id);
        const Node& node = *producer(id);
        for (std::size_t k = 0; k < 2; ++k) {
            const ValueId x = node.inputs[k], scale = node.inputs[1 - k];
            if (dims(x) != dims(id) || !is_factor(scale)) continue;
            if (auto found = shifted(x)) {
                found->scale = scale;
                return found;
            }
        }
        return std::nullopt;
    }

    /// Behind conversions from floats to floats.
    [[nodiscard]] ValueId unconverted_float(ValueId id) const {
        while (operation(id, "Convert") != nullptr && is_float(value(id).type) && is_float(value(producer(id)->inputs.front()).type))
            id = producer(id)->inputs.front();
        return id;
    }

    /// `id` as views over something compressed; conversions between floats may stand between them. `chain`'s source is the packed constant.
    std::optional<Compressed> compressed_behind(ValueId id, ViewChain& chain) {
        std::vector<ValueId> views;
        for (;;) {
            id = unconverted_float(id);
            const Node* node = producer(id);
            const auto* compute = node == nullptr ? nullptr : std::get_if<Compute>(&node->what);
            if (compute == nullptr) return std::nullopt;
            if (compute->view.kind == View::Kind::none) break;
            if (compute->view.kind != View::Kind::reshape && compute->view.kind != View::Kind::transpose) return std::nullopt;
            views.push_back(id);
            id = node->inputs.front();
        }
        const auto found = compressed(id);
        if (!found || elements(dims(found->packed)) == 0) return std::nullopt;
        chain = ViewChain::of(graph(), found->packed);
        for (std::size_t k = views.size(); k-- > 0;) {
            const View& view = std::get<Compute>(producer(views[k])->what).view;
            if (view.kind == View::Kind::transpose) {
                chain.transpose(view.permutation);
            } else if (!chain.reshape(dims(views[k]))) {
                return std::nullopt;
            }
        }
        return found;
    }

    /// Per factor of the chain whether a value that broadcasts to its source differs along it.
    [[nodiscard]] std::vector<bool> varies(ValueId id, const ViewChain& chain) const {
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
    ValueId first_of_groups(ValueId part, const ViewChain& chain, std::int64_t group) {
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

    /// Matrix B of a product, (1, n, k) if `transposed`, else (1, k, n).
    std::optional<PackedMatrix> matrix(ValueId id, bool transposed) {
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
        if (made.group % 8 != 0) return std::nullopt;
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

    std::optional<ValueId> product(const Node& node, MatmulSpec spec) {
        const bool floats = spec.type == Type::f32 || spec.type == Type::f16 || spec.type == Type::bf16;
        if (!floats || spec.batch != 1 || constant(node.inputs[0]) || spec.m <= 0 || spec.n <= 0 || spec.k <= 0) return std::nullopt;
        const ValueId b = node.inputs[1];
        auto known = matrices_.find(b);
        if (known == matrices_.end() || known->second.transposed != spec.transpose_b) {
            const auto made = matrix(b, spec.transpose_b);
            known = matrices_.insert_or_assign(b, Known{spec.transpose_b, made, {}}).first;
        }
        if (!known->second.matrix) return std::nullopt;
        const PackedMatrix& packed = *known->second.matrix;
        std::vector<ValueId> rest(node.inputs.begin() + 2, node.inputs.end());
        spec.transpose_b = true;
        PackedProduct what{spec, packed.packed, packed.group, packed.scale >= 0, packed.zero >= 0};
        if (packed_together(what) != 0) {
            std::vector<ValueId> inputs{node.inputs[0], packed.weights};
            if (what.scale) inputs.push_back(packed.scale);
            if (what.zero) inputs.push_back(packed.zero);
            inputs.insert(inputs.end(), rest.begin(), rest.end());
            return builder().packed_product(std::move(inputs), what);
        }
        if (spec.n * spec.k < kLeastUnpacked) return std::nullopt;
        ValueId& numbers = known->second.numbers.try_emplace(spec.type, -1).first->second;
        if (numbers < 0) numbers = unpacked(packed, spec);
        std::vector<ValueId> inputs{node.inputs[0], numbers};
        inputs.insert(inputs.end(), rest.begin(), rest.end());
        const ValueId result = builder().matmul(inputs[0], inputs[1], spec);
        graph().nodes.back().inputs = std::move(inputs);
        return result;
    }

    /// The matrix as numbers, computed in every run.
    ValueId unpacked(const PackedMatrix& matrix, const MatmulSpec& spec) {
        std::vector<ValueId> inputs{matrix.weights};
        std::string body = "(f32)in0(0, i1, i2)";
        const std::string at = matrix.group == spec.k ? "0, i1, 0" : fmt::format("0, i1, i2 / (idx){}", matrix.group);
        if (matrix.zero >= 0) {
            body = fmt::format("({} - (f32)in{}({}))", body, inputs.size(), at);
            inputs.push_back(matrix.zero);
        }
        if (matrix.scale >= 0) {
            body += fmt::format(" * in{}({})", inputs.size(), at);
            inputs.push_back(matrix.scale);
        }
        Compute what{"Unpack", "return " + body + ";", 4, {}, {}};
        what.every_run = true;
        return builder().compute(spec.type, {1, spec.n, spec.k}, std::move(inputs), std::move(what));
    }

    /// Rows of a table of small integers: only those that are asked for become numbers.
    std::optional<ValueId> table(const Node& node, const Compute& gather) {
        ViewChain chain;
        const ValueId rows = node.inputs.front();
        if (!is_float(value(rows).type) || elements(dims(node.outputs.front())) >= elements(dims(rows)) || !constant(rows)) return std::nullopt;
        const auto found = compressed_behind(rows, chain);
        if (!found) return std::nullopt;
        std::vector<ValueId> inputs{found->packed};
        std::string expression = "(f32)a";
        if (found->zero >= 0) {
            expression = "((f32)a - b)";
            inputs.push_back(found->zero);
        }
        if (found->scale >= 0) {
            expression += fmt::format(" * {}", static_cast<char>('a' + inputs.size()));
            inputs.push_back(found->scale);
        }
        const Compute copy = gather;
        const ValueId numbers = builder().pointwise("Unpack", value(rows).type, std::move(inputs), expression, 4);
        std::get<Compute>(graph().nodes.back().what).every_run = true;
        chain.source = numbers;
        std::vector<ValueId> operands(node.inputs);
        operands.front() = append(builder(), chain);
        return builder().compute(value(node.outputs.front()).type, dims(node.outputs.front()), std::move(operands), copy);
    }

    struct Known {
        bool transposed = false;
        std::optional<PackedMatrix> matrix;
        std::map<Type, ValueId> numbers;  // of each type that products wanted
    };
    std::map<ValueId, Known> matrices_;
};

}  // namespace

std::int64_t packed_together(const PackedProduct& what) {
    const MatmulSpec& spec = what.spec;
    const bool types =
        (spec.type == Type::f32 || spec.type == Type::f16 || spec.type == Type::bf16) && is_float(spec.result) && spec.result != Type::f64;
    if (!types || spec.batch != 1 || spec.m < 1 || spec.m > 8 || spec.n < 1 || spec.k < 1 || !spec.transpose_b || what.group < 1) return 0;
    for (std::int64_t bytes = 16; bytes >= 4; bytes /= 2) {
        const std::int64_t count = bytes * 8 / bits(what.packed);
        if (count >= 8 && spec.k % count == 0 && what.group % count == 0) return count;
    }
    return 0;
}

Graph keep_packed(Graph graph) { return KeepPacked(std::move(graph)).run(); }

}  // namespace ai_vmm::cuda
