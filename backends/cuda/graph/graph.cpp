// SPDX-License-Identifier: Apache-2.0
#include "graph/graph.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cassert>
#include <cmath>
#include <cstring>

#include "ai_vmm/error.hpp"

namespace ai_vmm::cuda {
namespace {

template <typename T>
ConstantData copied(std::span<const T> values) {
    auto owner = std::make_shared<std::vector<T>>(values.begin(), values.end());
    return {owner, reinterpret_cast<const std::byte*>(owner->data()), owner->size() * sizeof(T)};
}

}  // namespace

std::string_view op_name(const Node& node) noexcept {
    struct Visitor {
        std::string_view operator()(const Compute& what) const { return what.op; }
        std::string_view operator()(const Rowwise& what) const { return what.op; }
        std::string_view operator()(const Matmul&) const { return "Matmul"; }
        std::string_view operator()(const PackedProduct&) const { return "PackedProduct"; }
        std::string_view operator()(const Convolution& what) const { return what.spec.transposed ? "ConvolutionTranspose" : "Convolution"; }
        std::string_view operator()(const Attention&) const { return "Attention"; }
        std::string_view operator()(const Excitation&) const { return "Excitation"; }
        std::string_view operator()(const Recurrent&) const { return "Recurrent"; }
        std::string_view operator()(const Custom& what) const { return what.op; }
        std::string_view operator()(const HostCall& what) const { return what.op; }
    };
    return std::visit(Visitor{}, node.what);
}

Dims row_major_strides(const Dims& dims) {
    Dims strides(dims.size(), 1);
    for (std::size_t d = dims.size(); d-- > 1;) strides[d - 1] = strides[d] * std::max<std::int64_t>(dims[d], 1);
    return strides;
}

Dims broadcast_dims(const Dims& a, const Dims& b) {
    Dims out(std::max(a.size(), b.size()), 1);
    for (std::size_t d = 0; d < out.size(); ++d) {
        const auto from = [&](const Dims& dims) { return d + dims.size() >= out.size() ? dims[d + dims.size() - out.size()] : 1; };
        const std::int64_t x = from(a), y = from(b);
        if (x != y && x != 1 && y != 1) {
            throw Error(ErrorCode::invalid_argument, ErrorCategory::compilation,
                        fmt::format("shapes [{}] and [{}] can't be broadcast", fmt::join(a, ","), fmt::join(b, ",")));
        }
        out[d] = x == 1 ? y : x;
    }
    return out;
}

std::string literal(Type type, double value) {
    if (!is_float(type)) {
        if (type == Type::boolean) return value != 0 ? "1" : "0";
        if (value >= 9.2233720368547758e18) return type == Type::u64 ? "18446744073709551615ull" : "9223372036854775807ll";
        if (value <= -9.2233720368547758e18) return "(-9223372036854775807ll - 1)";
        const auto integer = static_cast<std::int64_t>(value);
        return bits(type) == 64 ? fmt::format("({}ll)", integer) : fmt::format("({})", integer);
    }
    const char* suffix = type == Type::f64 ? "" : "f";
    if (std::isnan(value)) return type == Type::f64 ? "F64_NAN" : "F32_NAN";
    if (std::isinf(value)) return fmt::format("({}{})", value < 0 ? "-" : "", type == Type::f64 ? "F64_INFINITY" : "F32_INFINITY");
    std::string text = type == Type::f64 ? fmt::format("{:.17g}", value) : fmt::format("{:.9g}", static_cast<float>(value));
    if (text == "inf" || text == "-inf") return fmt::format("({}F32_INFINITY)", value < 0 ? "-" : "");
    if (text.find_first_of(".e") == std::string::npos) text += ".0";
    return value < 0 || std::signbit(value) ? fmt::format("({}{})", text, suffix) : text + suffix;
}

std::string print(const Graph& graph) {
    std::string text;
    const auto describe = [&](ValueId id) {
        const Value& value = graph.value(id);
        return fmt::format("%{} {}[{}]", id, to_string(value.type), fmt::join(value.dims, ","));
    };
    for (std::size_t i = 0; i < graph.inputs.size(); ++i) text += fmt::format("input {} \"{}\"\n", describe(graph.inputs[i]), graph.input_names[i]);
    for (std::size_t id = 0; id < graph.values.size(); ++id) {
        if (graph.values[id].source == Source::constant) text += fmt::format("constant {}\n", describe(static_cast<ValueId>(id)));
    }
    for (const Node& node : graph.nodes) {
        std::vector<std::string> outputs, inputs;
        for (ValueId id : node.outputs) outputs.push_back(describe(id));
        for (ValueId id : node.inputs) inputs.push_back(fmt::format("%{}", id));
        text += fmt::format("{} = {}({})", fmt::join(outputs, ", "), op_name(node), fmt::join(inputs, ", "));
        if (!node.name.empty()) text += fmt::format("  # {}", node.name);
        text += '\n';
    }
    for (std::size_t i = 0; i < graph.outputs.size(); ++i) text += fmt::format("output %{} \"{}\"\n", graph.outputs[i], graph.output_names[i]);
    return text;
}

ValueId Builder::add_value(Type type, Dims dims, Source source, int index) {
    graph_.values.push_back({type, std::move(dims), source, index, {}});
    return static_cast<ValueId>(graph_.values.size() - 1);
}

std::vector<ValueId> Builder::add_node(
    const std::vector<std::pair<Type, Dims>>& outputs, std::vector<ValueId> inputs,
    std::variant<Compute, Rowwise, Matmul, PackedProduct, Convolution, Attention, Excitation, Recurrent, Custom, HostCall> what) {
    Node node{std::move(what), std::move(inputs), {}, name_};
    for (const auto& [type, dims] : outputs) node.outputs.push_back(add_value(type, dims, Source::node, static_cast<int>(graph_.nodes.size())));
    graph_.nodes.push_back(node);
    return node.outputs;
}

ValueId Builder::input(Type type, Dims dims, std::string name) {
    const ValueId id = add_value(type, std::move(dims), Source::input, static_cast<int>(graph_.inputs.size()));
    graph_.inputs.push_back(id);
    graph_.input_names.push_back(std::move(name));
    return id;
}

ValueId Builder::constant(Type type, Dims dims, ConstantData data) {
    assert(static_cast<std::int64_t>(data.bytes) >= bytes(type, dims));
    const auto make = [&] {
        const ValueId id = add_value(type, std::move(dims), Source::constant, 0);
        graph_.values.back().constant = std::move(data);
        return id;
    };
    if (sharing_ == Sharing::none) return make();
    const std::string key = fmt::format("{} {} [{}]", fmt::ptr(data.data), to_string(type), fmt::join(dims, ","));
    const auto [found, fresh] = shared_.try_emplace(key, -1);
    if (fresh) found->second = make();
    return found->second;
}

ValueId Builder::constant_f32(Dims dims, std::span<const float> values) { return constant(Type::f32, std::move(dims), copied(values)); }
ValueId Builder::constant_i64(Dims dims, std::span<const std::int64_t> values) { return constant(Type::i64, std::move(dims), copied(values)); }

void Builder::output(ValueId value, std::string name) {
    graph_.outputs.push_back(value);
    graph_.output_names.push_back(std::move(name));
}

ValueId Builder::compute(Type type, Dims dims, std::vector<ValueId> inputs, Compute what) {
    const auto make = [&] { return add_node({{type, std::move(dims)}}, std::move(inputs), std::move(what)).front(); };
    if (sharing_ == Sharing::none || inputs.empty() || !std::all_of(inputs.begin(), inputs.end(), [&](ValueId id) { return constant(id); }))
        return make();
    const std::string key = fmt::format("{} [{}] ({}) {}", to_string(type), fmt::join(dims, ","), fmt::join(inputs, ","), what.body);
    const auto [found, fresh] = shared_.try_emplace(key, -1);
    if (fresh) {
        found->second = make();
        constant_.insert(found->second);
    }
    return found->second;
}

ValueId Builder::rowwise(Type type, std::vector<ValueId> inputs, Rowwise what) {
    Dims dims = what.space;
    if (what.per_row) {
        for (int axis : what.axes) dims[static_cast<std::size_t>(axis)] = 1;
    }
    return add_node({{type, std::move(dims)}}, std::move(inputs), std::move(what)).front();
}

ValueId Builder::matmul(ValueId a, ValueId b, MatmulSpec spec) {
    const Type result = spec.result;
    Dims out{spec.batch, spec.m, spec.n};
    return add_node({{result, std::move(out)}}, {a, b}, Matmul{std::move(spec)}).front();
}

ValueId Builder::packed_product(std::vector<ValueId> inputs, const PackedProduct& what) {
    return add_node({{what.spec.result, {1, what.spec.m, what.spec.n}}}, std::move(inputs), what).front();
}

ValueId Builder::convolution(std::vector<ValueId> inputs, ConvolutionSpec spec) {
    Dims out{spec.batch, spec.channels_out};
    out.insert(out.end(), spec.out.begin(), spec.out.end());
    const Type type = spec.result;
    return add_node({{type, std::move(out)}}, std::move(inputs), Convolution{std::move(spec)}).front();
}

ValueId Builder::attention(std::vector<ValueId> inputs, AttentionSpec spec) {
    Dims out{spec.batch, spec.heads, spec.queries, spec.value_size};
    const Type type = spec.type;
    return add_node({{type, std::move(out)}}, std::move(inputs), Attention{std::move(spec)}).front();
}

ValueId Builder::excitation(std::vector<ValueId> inputs, Excitation what) {
    const Type type = what.type;
    Dims out = dims(inputs.front());
    return add_node({{type, std::move(out)}}, std::move(inputs), std::move(what)).front();
}

std::vector<ValueId> Builder::recurrent(std::vector<ValueId> inputs, Recurrent what) {
    const RecurrentSpec& spec = what.spec;
    const Dims state{spec.directions, spec.batch, spec.hidden};
    std::vector<std::pair<Type, Dims>> outputs{{spec.type, {spec.steps, spec.batch, spec.directions * spec.hidden}}, {spec.type, state}};
    if (spec.cell == RecurrentSpec::Cell::lstm) outputs.emplace_back(spec.type, state);
    inputs.insert(inputs.end(), what.alternative.begin(), what.alternative.end());
    return add_node(outputs, std::move(inputs), std::move(what));
}

std::vector<ValueId> Builder::custom(const std::vector<std::pair<Type, Dims>>& outputs, std::vector<ValueId> inputs, Custom what) {
    return add_node(outputs, std::move(inputs), std::move(what));
}

std::vector<ValueId> Builder::host(const std::vector<std::pair<Type, Dims>>& outputs, std::vector<ValueId> inputs, HostCall what) {
    return add_node(outputs, std::move(inputs), std::move(what));
}

ValueId Builder::pointwise(std::string op, Type type, std::vector<ValueId> inputs, const std::string& expression, int cost) {
    Dims out;
    for (ValueId id : inputs) out = broadcast_dims(out, dims(id));
    std::string body;
    for (std::size_t k = 0; k < inputs.size(); ++k) {
        const Dims& in = dims(inputs[k]);
        std::string indices;
        for (std::size_t d = 0; d < in.size(); ++d) {
            if (d != 0) indices += ", ";
            indices += in[d] == 1 ? "0" : fmt::format("i{}", d + out.size() - in.size());
        }
        body += fmt::format("const IN{0}_T {1} = in{0}({2}); ", k, static_cast<char>('a' + k), indices);
    }
    body += fmt::format("return {};", expression);
    return compute(type, std::move(out), std::move(inputs), {std::move(op), std::move(body), cost, {}, {}, expression});
}

ValueId Builder::cast(ValueId value, Type to) {
    if (type(value) == to) return value;
    return pointwise("Convert", to, {value}, to == Type::boolean ? "a != 0" : "a", 0);
}

ValueId Builder::reshape(ValueId value, Dims to) {
    // Only the last of several reshapes counts.
    for (const Node* node = graph_.producer(value); node != nullptr; node = graph_.producer(value)) {
        const auto* before = std::get_if<Compute>(&node->what);
        if (before == nullptr || before->view.kind != View::Kind::reshape) break;
        value = node->inputs.front();
    }
    const Dims& from = dims(value);
    if (from == to) return value;
    assert(elements(from) == elements(to));
    // Linear position of the output element, then the input's coordinates.
    std::string body = "const idx linear = 0";
    const Dims strides = row_major_strides(to);
    for (std::size_t d = 0; d < to.size(); ++d) {
        if (to[d] != 1) body += fmt::format(" + i{} * (idx){}", d, strides[d]);
    }
    body += "; return in0(";
    const Dims source = row_major_strides(from);
    for (std::size_t d = 0; d < from.size(); ++d) {
        if (d != 0) body += ", ";
        if (from[d] == 1) {
            body += "0";
        } else {
            std::string quotient = source[d] == 1 ? "linear" : fmt::format("linear / {}", source[d]);
            const bool outermost =
                std::all_of(from.begin(), from.begin() + static_cast<std::ptrdiff_t>(d), [](std::int64_t size) { return size == 1; });
            body += outermost ? quotient : fmt::format("({}) % {}", quotient, std::max<std::int64_t>(from[d], 1));
        }
    }
    body += ");";
    return compute(type(value), std::move(to), {value}, {"Reshape", std::move(body), 0, {}, {View::Kind::reshape, {}, {}, {}}});
}

ValueId Builder::transpose(ValueId value, std::vector<int> permutation) {
    const Dims& from = dims(value);
    assert(permutation.size() == from.size());
    if (std::is_sorted(permutation.begin(), permutation.end())) return value;
    Dims to(from.size());
    std::vector<std::string> indices(from.size());
    for (std::size_t d = 0; d < from.size(); ++d) {
        to[d] = from[static_cast<std::size_t>(permutation[d])];
        indices[static_cast<std::size_t>(permutation[d])] = fmt::format("i{}", d);
    }
    return compute(
        type(value), std::move(to), {value},
        {"Transpose", fmt::format("return in0({});", fmt::join(indices, ", ")), 0, {}, {View::Kind::transpose, std::move(permutation), {}, {}}});
}

ValueId Builder::slice(ValueId value, Dims begin, Dims step, Dims to) {
    std::string body = "return in0(";
    for (std::size_t d = 0; d < to.size(); ++d) {
        body += d == 0 ? "" : ", ";
        if (begin[d] == 0 && step[d] == 1) {
            body += fmt::format("i{}", d);
        } else {
            body += fmt::format("(idx){} + i{} * (idx)({})", begin[d], d, step[d]);
        }
    }
    body += ");";
    return compute(type(value), std::move(to), {value},
                   {"Slice", std::move(body), 0, {}, {View::Kind::slice, {}, std::move(begin), std::move(step)}});
}

ValueId Builder::broadcast(ValueId value, Dims to) {
    const Dims& from = dims(value);
    if (from == to) return value;
    std::string indices;
    for (std::size_t d = 0; d < from.size(); ++d) {
        indices += d == 0 ? "" : ", ";
        const std::size_t out = d + to.size() - from.size();
        indices += from[d] == 1 ? "0" : fmt::format("i{}", out);
    }
    return compute(type(value), std::move(to), {value},
                   {"Broadcast", fmt::format("return in0({});", indices), 0, {}, {View::Kind::broadcast, {}, {}, {}}});
}

ValueId Builder::concat(const std::vector<ValueId>& values, int axis) {
    assert(!values.empty());
    // Each input is an argument of the kernel: many are joined in groups.
    constexpr std::size_t kMostAtOnce = 32;
    if (values.size() > kMostAtOnce) {
        const std::size_t size = std::max(kMostAtOnce, (values.size() + kMostAtOnce - 1) / kMostAtOnce);
        std::vector<ValueId> groups;
        for (std::size_t first = 0; first < values.size(); first += size) {
            const std::size_t end = std::min(first + size, values.size());
            groups.push_back(concat({values.begin() + static_cast<std::ptrdiff_t>(first), values.begin() + static_cast<std::ptrdiff_t>(end)}, axis));
        }
        return concat(groups, axis);
    }
    const auto at = static_cast<std::size_t>(axis);
    Dims to = dims(values.front());
    to[at] = 0;
    std::string body;
    std::vector<double> reads;
    std::vector<ValueId> used;
    for (ValueId id : values) {
        if (elements(dims(id)) == 0) continue;
        std::string indices;
        for (std::size_t d = 0; d < to.size(); ++d) {
            indices += d == 0 ? "" : ", ";
            indices += d == at ? fmt::format("i{} - (idx){}", d, to[at]) : fmt::format("i{}", d);
        }
        to[at] += dims(id)[at];
        body += fmt::format("if (i{} < (idx){}) return in{}({}); ", at, to[at], used.size(), indices);
        used.push_back(id);
    }
    if (used.size() == 1) return used.front();
    body += "return 0;";
    for (ValueId id : used) reads.push_back(static_cast<double>(dims(id)[at]) / static_cast<double>(std::max<std::int64_t>(to[at], 1)));
    const Type result = type(values.front());
    // Of an empty result any element type will do; nothing reads it.
    return compute(result, std::move(to), std::move(used), {"Concat", std::move(body), 0, std::move(reads), {}});
}

}  // namespace ai_vmm::cuda
