// SPDX-License-Identifier: Apache-2.0
#include "codegen/kernels.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cassert>
#include <cstring>
#include <limits>
#include <map>
#include <numeric>

#include "ai_vmm/error.hpp"

namespace ai_vmm::cuda {
namespace {

/// The C type that values of `type` are computed in.
std::string_view compute_type(Type type) {
    switch (type) {
        case Type::f16:
        case Type::bf16:
        case Type::f8e4m3:
        case Type::f8e5m2: return "f32";
        case Type::i4: return "i8";
        case Type::u4: return "u8";
        default: return to_string(type);
    }
}

std::string_view storage_type(Type type) { return type == Type::i4 || type == Type::u4 ? "u8" : to_string(type); }

std::string load(Type type, const std::string& pointer, const std::string& at) {
    switch (type) {
        case Type::f16:
        case Type::bf16:
        case Type::f8e4m3:
        case Type::f8e5m2: return fmt::format("from_{}({}[{}])", to_string(type), pointer, at);
        case Type::i4: return fmt::format("(i8)((i8)({0}[({1}) >> 1] << ((({1}) & 1) ? 0 : 4)) >> 4)", pointer, at);
        case Type::u4: return fmt::format("(u8)(({0}[({1}) >> 1] >> ((({1}) & 1) ? 4 : 0)) & 15)", pointer, at);
        default: return fmt::format("{}[{}]", pointer, at);
    }
}

std::string store(Type type, const std::string& pointer, const std::string& at, const std::string& value) {
    switch (type) {
        case Type::f16:
        case Type::bf16:
        case Type::f8e4m3:
        case Type::f8e5m2: return fmt::format("{}[{}] = to_{}({});", pointer, at, to_string(type), value);
        case Type::boolean: return fmt::format("{}[{}] = (boolean)(({}) != 0);", pointer, at, value);
        case Type::i4:
        case Type::u4:
            // Two neighbours share a byte: compute_kernel() gives both to one thread.
            return fmt::format("store_nibble({}, {}, {});", pointer, at, value);
        default: return fmt::format("{}[{}] = ({})({});", pointer, at, to_string(type), value);
    }
}

std::string coordinates(std::size_t rank) {
    std::string text;
    for (std::size_t d = 0; d < rank; ++d) text += fmt::format(", idx i{}", d);
    return text;
}

std::string offset_expression(const Dims& dims, const Dims& strides) {
    std::string text;
    for (std::size_t d = 0; d < dims.size(); ++d) {
        if (dims[d] == 1 || strides[d] == 0) continue;
        if (!text.empty()) text += " + ";
        text += strides[d] == 1 ? fmt::format("(i{})", d) : fmt::format("(i{}) * (idx)({})", d, strides[d]);
    }
    return text.empty() ? "0" : text;
}

/// A one-element constant as a literal.
std::optional<std::string> scalar_literal(const Value& value) {
    if (value.source != Source::constant || elements(value.dims) != 1) return std::nullopt;
    const auto read = [&](auto sample) {
        std::memcpy(&sample, value.constant.data, sizeof sample);
        return sample;
    };
    switch (value.type) {
        case Type::f32: return literal(value.type, read(float{}));
        case Type::f64: return literal(value.type, read(double{}));
        case Type::i64: {
            const auto integer = read(std::int64_t{});
            return integer == std::numeric_limits<std::int64_t>::min() ? std::string("(-9223372036854775807ll - 1)") : fmt::format("({}ll)", integer);
        }
        case Type::i32: return fmt::format("((i32)({}ll))", read(std::int32_t{}));
        case Type::u64: return fmt::format("{}ull", read(std::uint64_t{}));
        case Type::u32: return fmt::format("{}u", read(std::uint32_t{}));
        case Type::i16: return fmt::format("({})", read(std::int16_t{}));
        case Type::i8: return fmt::format("({})", static_cast<int>(read(std::int8_t{})));
        case Type::u16: return fmt::format("{}", read(std::uint16_t{}));
        case Type::u8: return fmt::format("{}", static_cast<int>(read(std::uint8_t{})));
        case Type::boolean: return read(std::uint8_t{}) != 0 ? "1" : "0";
        default: return std::nullopt;
    }
}

/// Coordinates "const idx i0 = …;" of the linear position `from`, over the dimensions `order` from outermost to innermost.
std::string decompose(const Dims& dims, const std::vector<int>& order, const std::string& from) {
    std::string text;
    std::int64_t inner = 1;
    for (std::size_t k = order.size(); k-- > 0;) {
        const auto d = static_cast<std::size_t>(order[k]);
        if (dims[d] == 1) {
            text += fmt::format("const idx i{} = 0; ", d);
            continue;
        }
        std::string quotient = inner == 1 ? from : fmt::format("{} / (idx){}", from, inner);
        const bool outermost =
            std::all_of(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(k), [&](int o) { return dims[static_cast<std::size_t>(o)] == 1; });
        text += outermost ? fmt::format("const idx i{} = {}; ", d, quotient)
                          : fmt::format("const idx i{} = ({}) % (idx){}; ", d, quotient, std::max<std::int64_t>(dims[d], 1));
        inner *= std::max<std::int64_t>(dims[d], 1);
    }
    return text;
}

/// Dimensions from the widest stride to the narrowest.
std::vector<int> memory_order(const Dims& dims, const Dims& strides) {
    std::vector<int> order(dims.size());
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](int a, int b) {
        const auto at = [&](int d) {
            return dims[static_cast<std::size_t>(d)] == 1 ? std::numeric_limits<std::int64_t>::max() : std::abs(strides[static_cast<std::size_t>(d)]);
        };
        return at(a) > at(b);
    });
    return order;
}

/// Collects the functions that one kernel needs.
class Functions {
public:
    Functions(const Graph& graph, const Places& places) : graph_(graph), places_(places) {}

    /// The name of the function that gives an element of `id`.
    std::string reader(ValueId id) {
        if (const auto found = names_.find(id); found != names_.end()) return found->second;
        const Value& value = graph_.value(id);
        const auto& place = places_[static_cast<std::size_t>(id)];
        std::string body;
        if (const auto constant = scalar_literal(value)) {
            body = fmt::format("return {};", *constant);
        } else if (place) {
            wide_ = wide_ || reach(value.dims, place->strides) > std::numeric_limits<std::int32_t>::max();
            body = fmt::format("return {};", load(value.type, argument(id, false), offset_expression(value.dims, place->strides)));
        } else {
            const Node* node = graph_.producer(id);
            assert(node != nullptr && std::holds_alternative<Compute>(node->what));
            wide_ = wide_ || elements(value.dims) > std::numeric_limits<std::int32_t>::max();
            body = bound(*node, std::get<Compute>(node->what).body);
        }
        std::string name = fmt::format("@_v{}", count_++);
        text_ += fmt::format("FUNCTION {} {}(@_P{}) {{ {} }}\n", compute_type(value.type), name, coordinates(value.dims.size()), body);
        names_[id] = name;
        return name;
    }

    /// `body` with inK calls bound to the readers of the node's inputs.
    std::string bound(const Node& node, const std::string& body) {
        std::string text;
        for (std::size_t k = 0; k < node.inputs.size(); ++k) {
            const std::string token = fmt::format("in{}(", k);
            if (body.find(token) == std::string::npos && body.find(fmt::format("IN{}_T", k)) == std::string::npos) continue;
            const std::string name = reader(node.inputs[k]);
            text += fmt::format("\n#undef in{0}\n#undef IN{0}_T\n#define IN{0}_T {1}\n", k, compute_type(graph_.value(node.inputs[k]).type));
            const std::size_t rank = graph_.value(node.inputs[k]).dims.size();
            std::string formal;
            for (std::size_t d = 0; d < rank; ++d) formal += fmt::format("{}c{}", d == 0 ? "" : ", ", d);
            text +=
                rank == 0 ? fmt::format("#define in{}() {}(@_A)\n", k, name) : fmt::format("#define in{}({}) {}(@_A, {})\n", k, formal, name, formal);
        }
        return text + body;
    }

    /// The parameter that points to a placed value.
    std::string argument(ValueId id, bool written) {
        const auto [found, fresh] = arguments_.try_emplace({id, written}, static_cast<int>(order_.size()));
        if (fresh) order_.emplace_back(id, written);
        return fmt::format("p{}_", found->second);
    }

    void use(const Dims& dims, const Dims& strides) { wide_ = wide_ || reach(dims, strides) > std::numeric_limits<std::int32_t>::max(); }

    /// Everything together: `kernel` is what follows the functions.
    [[nodiscard]] KernelSource finish(const std::string& kernel, const Launch& launch) const {
        KernelSource out;
        std::vector<std::string> parameters, names;
        for (std::size_t p = 0; p < order_.size(); ++p) {
            const auto& [id, written] = order_[p];
            parameters.push_back(fmt::format("{}{}* RESTRICT p{}_", written ? "" : "const ", storage_type(graph_.value(id).type), p));
            names.push_back(fmt::format("p{}_", p));
            out.arguments.push_back(id);
        }
        const std::string list = fmt::format("{}", fmt::join(parameters, ", "));
        std::string with_parameters = kernel;  // the kernel itself names its parameters, functions use the macro
        constexpr std::string_view kHead = "KERNEL(@)(@_P)";
        if (const auto at = with_parameters.find(kHead); at != std::string::npos)
            with_parameters.replace(at, kHead.size(), "KERNEL(@)(" + list + ")");
        out.text = fmt::format("#undef idx\n#define idx {}\n#define @_P {}\n#define @_A {}\n{}{}", wide_ ? "i64" : "i32", list,
                               fmt::join(names, ", "), text_, with_parameters);
        out.launch = launch;
        return out;
    }

    [[nodiscard]] bool wide() const noexcept { return wide_; }

private:
    static std::int64_t reach(const Dims& dims, const Dims& strides) {
        std::int64_t most = 0;
        for (std::size_t d = 0; d < dims.size(); ++d) most += std::max<std::int64_t>(dims[d] - 1, 0) * std::abs(strides[d]);
        return std::max(most, elements(dims));
    }

    const Graph& graph_;
    const Places& places_;
    std::string text_;
    std::map<ValueId, std::string> names_;
    std::map<std::pair<ValueId, bool>, int> arguments_;
    std::vector<std::pair<ValueId, bool>> order_;
    int count_ = 0;
    bool wide_ = false;
};

Launch groups(std::int64_t count, int threads) {
    Launch launch;
    // The x dimension goes to 2^31 - 1; GROUP combines both.
    constexpr std::int64_t kMost = 1 << 30;
    launch.grid[0] = static_cast<unsigned>(std::min(count, kMost));
    launch.grid[1] = static_cast<unsigned>((count + kMost - 1) / kMost);
    launch.block[0] = static_cast<unsigned>(threads);
    return launch;
}

std::string arguments_of(std::size_t rank) {
    std::string text;
    for (std::size_t d = 0; d < rank; ++d) text += fmt::format(", i{}", d);
    return text;
}

std::string known_names(std::size_t stages) {
    std::string text;
    for (std::size_t j = 0; j < stages; ++j) text += fmt::format(", s{}", j);
    return text;
}

struct CombineText {
    std::string identity;
    std::string expression;  // of x and y
};

CombineText combine_text(Rowwise::Combine combine, Type accumulator) {
    const bool real = is_float(accumulator);
    switch (combine) {
        case Rowwise::Combine::sum: return {"0", "x + y"};
        case Rowwise::Combine::product: return {"1", "x * y"};
        // NaN wins, as in OpenVINO and ONNX Runtime: a maximum over data with NaN is NaN.
        case Rowwise::Combine::max:
            return {real                       ? literal(accumulator, -std::numeric_limits<double>::infinity())
                    : accumulator == Type::u64 ? "0"
                                               : "(-9223372036854775807ll - 1)",
                    real ? "(x > y || x != x) ? x : y" : "x > y ? x : y"};
        case Rowwise::Combine::min:
            return {real                       ? literal(accumulator, std::numeric_limits<double>::infinity())
                    : accumulator == Type::u64 ? "18446744073709551615ull"
                                               : "9223372036854775807ll",
                    real ? "(x < y || x != x) ? x : y" : "x < y ? x : y"};
    }
    return {};
}

int power_of_two_at_least(std::int64_t value) {
    int power = 1;
    while (power < value && power < (1 << 30)) power *= 2;
    return power;
}

/// Elementwise trees whose leaves lie contiguous along the result's innermost dimension: each thread loads and stores several elements at once.
class VectorKernel {
public:
    VectorKernel(const Graph& graph, const Places& places, ValueId output, const CodegenTarget& target)
        : graph_(graph), places_(places), target_(target), output_(output), functions_(graph, places) {}

    std::optional<KernelSource> make() {
        const Value& value = graph_.value(output_);
        const Place& place = *places_[static_cast<std::size_t>(output_)];
        const std::vector<int> order = memory_order(value.dims, place.strides);
        inner_ = -1;
        for (int d : order) {
            if (value.dims[static_cast<std::size_t>(d)] > 1) inner_ = d;
        }
        if (inner_ < 0 || place.strides[static_cast<std::size_t>(inner_)] != 1 || bits(value.type) == 4) return std::nullopt;
        narrow_ = bits(value.type) <= 16;
        if (!collect(output_)) return std::nullopt;
        width_ = narrow_ ? 8 : 4;
        const std::int64_t count = elements(value.dims), size = value.dims[static_cast<std::size_t>(inner_)];
        if (size % width_ != 0 || count / width_ < static_cast<std::int64_t>(target_.threads_per_block - 1) * target_.multiprocessors / 2)
            return std::nullopt;
        if (!aligned(output_, inner_)) return std::nullopt;
        for (ValueId leaf : leaves_) {
            const int d = inner_of(leaf);
            if (d >= 0 && !aligned(leaf, d)) return std::nullopt;
        }
        functions_.use(value.dims, place.strides);
        return emit(order, count / width_);
    }

private:
    /// The leaf's dimension that runs along the result's innermost one; -1: the leaf is broadcast along it.
    [[nodiscard]] int inner_of(ValueId leaf) const {
        const Dims& dims = graph_.value(leaf).dims;
        const int d = inner_ + static_cast<int>(dims.size()) - static_cast<int>(graph_.value(output_).dims.size());
        return d < 0 || dims[static_cast<std::size_t>(d)] == 1 ? -1 : d;
    }

    /// Whether `width_` elements from every multiple of it lie side by side at an address that one access takes.
    [[nodiscard]] bool aligned(ValueId id, int inner) const {
        const Value& value = graph_.value(id);
        const Place& place = *places_[static_cast<std::size_t>(id)];
        const std::int64_t bytes = bits(value.type) / 8, unit = std::min<std::int64_t>(16, width_ * bytes);
        if (bytes == 0 || place.strides[static_cast<std::size_t>(inner)] != 1 || place.offset * bytes % unit != 0) return false;
        for (std::size_t d = 0; d < value.dims.size(); ++d) {
            if (static_cast<int>(d) != inner && value.dims[d] > 1 && place.strides[d] * bytes % unit != 0) return false;
        }
        return true;
    }

    /// The tree below `id` in evaluation order; false if something in it isn't elementwise.
    bool collect(ValueId id) {
        if (std::find(nodes_.begin(), nodes_.end(), id) != nodes_.end() || std::find(leaves_.begin(), leaves_.end(), id) != leaves_.end())
            return true;
        const Value& value = graph_.value(id);
        if (id != output_ && scalar_literal(value)) return true;
        if (id != output_ && places_[static_cast<std::size_t>(id)]) {
            narrow_ = narrow_ || bits(value.type) <= 16;
            leaves_.push_back(id);
            return bits(value.type) >= 8;
        }
        const Node* node = graph_.producer(id);
        const auto* compute = node == nullptr ? nullptr : std::get_if<Compute>(&node->what);
        if (compute == nullptr || compute->expression.empty() || node->inputs.size() > 8 || nodes_.size() > 32) return false;
        // A type of the input by name belongs to the other form.
        for (std::size_t k = 0; k < node->inputs.size(); ++k) {
            if (compute->expression.find(fmt::format("IN{}_T", k)) != std::string::npos) return false;
        }
        for (ValueId input : node->inputs) {
            if (!collect(input)) return false;
        }
        nodes_.push_back(id);
        return true;
    }

    [[nodiscard]] std::string name_of(ValueId id) const {
        if (id != output_) {
            if (const auto constant = scalar_literal(graph_.value(id))) return *constant;
        }
        const auto leaf = std::find(leaves_.begin(), leaves_.end(), id);
        if (leaf != leaves_.end()) return fmt::format("l{}", leaf - leaves_.begin());
        return fmt::format("x{}", std::find(nodes_.begin(), nodes_.end(), id) - nodes_.begin());
    }

    /// The leaf's offset at the coordinates of the thread's first element.
    [[nodiscard]] std::string offset(ValueId id) const {
        const Dims& dims = graph_.value(id).dims;
        const Dims& strides = places_[static_cast<std::size_t>(id)]->strides;
        const std::size_t shift = graph_.value(output_).dims.size() - dims.size();
        std::string text;
        for (std::size_t d = 0; d < dims.size(); ++d) {
            if (dims[d] == 1 || strides[d] == 0) continue;
            text += fmt::format("{}i{} * (idx){}", text.empty() ? "" : " + ", d + shift, strides[d]);
        }
        return text.empty() ? "0" : text;
    }

    KernelSource emit(const std::vector<int>& order, std::int64_t threads) {
        const Value& value = graph_.value(output_);
        std::string text;
        for (std::size_t n = 0; n < nodes_.size(); ++n) {
            const Node& node = *graph_.producer(nodes_[n]);
            std::string parameters;
            for (std::size_t k = 0; k < node.inputs.size(); ++k) {
                parameters +=
                    fmt::format("{}const {} {}", k == 0 ? "" : ", ", compute_type(graph_.value(node.inputs[k]).type), static_cast<char>('a' + k));
            }
            const std::string& expression = std::get<Compute>(node.what).expression;
            text +=
                fmt::format("FUNCTION {} @_f{}({}) {{ {} }}\n", compute_type(graph_.value(nodes_[n]).type), n,
                            parameters.empty() ? "void" : parameters, expression.starts_with("const ") ? expression : "return " + expression + ";");
        }
        std::string loads, each;
        const auto vector_type = [&](const std::string& name, Type type) {
            const int bytes = width_ * bits(type) / 8;
            text += fmt::format("typedef union {{ {} w[{}]; {} v[{}]; }} @_{};\n", bytes == 8 ? "words2" : "words4", bytes == 8 ? 1 : bytes / 16,
                                storage_type(type), width_, name);
            return std::pair(bytes == 8 ? 8 : 16, bytes == 8 ? 1 : bytes / 16);
        };
        for (std::size_t k = 0; k < leaves_.size(); ++k) {
            const Value& leaf = graph_.value(leaves_[k]);
            const std::string pointer = functions_.argument(leaves_[k], false), at = offset(leaves_[k]);
            functions_.use(leaf.dims, places_[static_cast<std::size_t>(leaves_[k])]->strides);
            if (inner_of(leaves_[k]) < 0) {
                loads += fmt::format("    const {} l{} = {};\n", compute_type(leaf.type), k, load(leaf.type, pointer, at));
                continue;
            }
            const auto [unit, parts] = vector_type(fmt::format("t{}", k), leaf.type);
            loads += fmt::format("    @_t{0} w{0};", k);
            for (int part = 0; part < parts; ++part)
                loads += fmt::format(" w{0}.w[{1}] = load{2}({3} + ({4} + {5}));", k, part, unit, pointer, at, part * unit * 8 / bits(leaf.type));
            loads += "\n";
            each += fmt::format("      const {} l{} = {};\n", compute_type(leaf.type), k, load(leaf.type, fmt::format("w{}.v", k), "u"));
        }
        for (std::size_t n = 0; n < nodes_.size(); ++n) {
            const Node& node = *graph_.producer(nodes_[n]);
            std::string arguments;
            for (std::size_t k = 0; k < node.inputs.size(); ++k) arguments += (k == 0 ? "" : ", ") + name_of(node.inputs[k]);
            each += fmt::format("      const {} x{} = @_f{}({});\n", compute_type(graph_.value(nodes_[n]).type), n, n, arguments);
        }
        const auto [unit, parts] = vector_type("to", value.type);
        const std::string out = functions_.argument(output_, true);
        each += "      " + store(value.type, "o.v", "u", fmt::format("x{}", nodes_.size() - 1)) + "\n";
        std::string stores;
        for (int part = 0; part < parts; ++part)
            stores += fmt::format("    store{}({} + ({} + {}), o.w[{}]);\n", unit, out, offset(output_), part * unit * 8 / bits(value.type), part);
        // The innermost dimension counts vectors.
        Dims dims = value.dims;
        dims[static_cast<std::size_t>(inner_)] /= width_;
        std::string positions = decompose(dims, order, "t");
        const std::string inner = fmt::format("const idx i{} = ", inner_);
        const std::size_t at = positions.find(inner);
        positions.replace(at, inner.size(), fmt::format("const idx i{} = (idx){} * ", inner_, width_));
        const std::size_t from = at + fmt::format("const idx i{} = (idx){} * ", inner_, width_).size(), end = positions.find(';', from);
        positions = positions.substr(0, from) + "(" + positions.substr(from, end - from) + ")" + positions.substr(end);
        text += fmt::format(
            "KERNEL(@)(@_P) {{\n  const i64 t64 = (i64)GROUP * BLOCK + THREAD;\n  if (t64 < {}ll) {{\n    const idx t = (idx)t64;\n    {}\n{}    "
            "@_to o;\n    UNROLL\n    for (int u = 0; u < {}; ++u) {{\n{}    }}\n{}  }}\n}}\n",
            threads, positions, loads, width_, each, stores);
        return functions_.finish(text, groups((threads + target_.threads_per_block - 1) / target_.threads_per_block, target_.threads_per_block));
    }

    const Graph& graph_;
    const Places& places_;
    const CodegenTarget& target_;
    const ValueId output_;
    Functions functions_;
    std::vector<ValueId> nodes_, leaves_;
    int inner_ = -1;
    std::int64_t width_ = 4;
    bool narrow_ = false;  // some element takes 16 bits or fewer
};

}  // namespace

KernelSource compute_kernel(const Graph& graph, const Places& places, ValueId output, const CodegenTarget& target) {
    const Value& value = graph.value(output);
    const Node& node = *graph.producer(output);
    const Place& place = *places[static_cast<std::size_t>(output)];
    if (auto vector = VectorKernel(graph, places, output, target).make()) return *std::move(vector);
    Functions functions(graph, places);
    functions.use(value.dims, place.strides);
    const std::string body = functions.bound(node, std::get<Compute>(node.what).body);
    const std::string out = functions.argument(output, true);

    const std::int64_t count = elements(value.dims);
    // Enough independent work per thread to hide latency once the device is full.
    const std::int64_t full = static_cast<std::int64_t>(target.threads_per_block) * target.multiprocessors * 8;
    const bool nibbles = bits(value.type) == 4;  // a thread writes both halves of a byte
    const int unroll = nibbles ? 2 : target.threads_per_block > 1 && count >= full * 4 ? 4 : 1;
    const std::int64_t per_group = static_cast<std::int64_t>(target.threads_per_block) * unroll;
    const std::vector<int> order = memory_order(value.dims, place.strides);
    std::string text = fmt::format("FUNCTION {} @_r(@_P{}) {{ {} }}\n", compute_type(value.type), coordinates(value.dims.size()), body);
    text += fmt::format("KERNEL(@)(@_P) {{\n  const i64 base = (i64)GROUP * {} + THREAD;\n", per_group);
    if (unroll > 1) text += "  UNROLL\n";
    text +=
        fmt::format("  for (int u = 0; u < {}; ++u) {{\n    const i64 t64 = {};\n    if (t64 < {}ll) {{\n      const idx t = (idx)t64;\n      {}\n",
                    unroll, nibbles ? "base + THREAD + u" : "base + (i64)u * BLOCK", count, decompose(value.dims, order, "t"));
    text += fmt::format("      const {} v = @_r(@_A{});\n      {}\n    }}\n  }}\n}}\n", compute_type(value.type), arguments_of(value.dims.size()),
                        store(value.type, out, offset_expression(value.dims, place.strides), "v"));
    return functions.finish(text, groups((count + per_group - 1) / per_group, target.threads_per_block));
}

KernelSource rowwise_kernel(const Graph& graph, const Places& places, const Node& node, const CodegenTarget& target) {
    const Rowwise& what = std::get<Rowwise>(node.what);
    const ValueId output = node.outputs.front();
    const Value& value = graph.value(output);
    const Place& place = *places[static_cast<std::size_t>(output)];
    const std::string_view accumulator = to_string(what.accumulator);
    Functions functions(graph, places);
    functions.use(value.dims, place.strides);
    functions.use(what.space, row_major_strides(what.space));
    const std::string out = functions.argument(output, true);

    std::vector<bool> reduced(what.space.size(), false);
    for (int axis : what.axes) reduced[static_cast<std::size_t>(axis)] = true;
    std::vector<int> row_order, element_order;
    // Walk memory as the first placed input of the space's shape lies; else as the output does.
    Dims walk = what.per_row ? row_major_strides(what.space) : place.strides;
    for (ValueId id : node.inputs) {
        const auto& input = places[static_cast<std::size_t>(id)];
        if (input && graph.value(id).dims == what.space) {
            walk = input->strides;
            break;
        }
    }
    for (int d : memory_order(what.space, walk)) (reduced[static_cast<std::size_t>(d)] ? element_order : row_order).push_back(d);
    std::int64_t rows = 1, length = 1;
    for (std::size_t d = 0; d < what.space.size(); ++d) (reduced[d] ? length : rows) *= what.space[d];

    // A block is `lanes` threads along the reduction by `across` rows. The dimension that is contiguous in memory goes to neighbouring threads.
    const std::vector<int> whole = memory_order(what.space, walk);
    bool along = true;  // neighbouring threads reduce one row
    for (std::size_t k = whole.size(); k-- > 0;) {
        if (what.space[static_cast<std::size_t>(whole[k])] == 1) continue;
        along = reduced[static_cast<std::size_t>(whole[k])];
        break;
    }
    const int block = target.threads_per_block;
    int lanes = std::min(block, power_of_two_at_least(along ? (length + 3) / 4 : (length + 15) / 16));
    if (!along) lanes = std::min(lanes, std::max(1, block / 32));
    if (rows < target.multiprocessors) lanes = std::min(block, power_of_two_at_least(length));
    lanes = std::max(lanes, 1);
    const int across = std::max(1, block / lanes);

    std::string stages;
    std::string known, known_arguments;
    for (std::size_t j = 0; j < what.stages.size(); ++j) {
        stages += fmt::format("FUNCTION {} @_s{}(@_P{}{}) {{ {} }}\n", accumulator, j, coordinates(what.space.size()), known,
                              functions.bound(node, what.stages[j].body));
        known += fmt::format(", {} s{}", accumulator, j);
    }
    // The result, then what follows it, each reading the one before as `r`.
    const std::string_view result_type = what.accumulator == Type::f64 ? "f64" : is_float(value.type) ? "f32" : compute_type(value.type);
    stages +=
        fmt::format("FUNCTION {} @_r0(@_P{}{}) {{ {} }}\n", result_type, coordinates(what.space.size()), known, functions.bound(node, what.result));
    std::string chain = fmt::format("@_r0(@_A{}{})", arguments_of(what.space.size()), known_names(what.stages.size()));
    for (std::size_t j = 0; j < what.epilogues.size(); ++j) {
        const bool last = j + 1 == what.epilogues.size();
        const std::string_view type = last ? compute_type(value.type) : result_type;
        stages += fmt::format("FUNCTION {} @_e{}(@_P{}, {} r) {{ {} }}\n", type, j, coordinates(what.space.size()), result_type,
                              functions.bound(node, what.epilogues[j]));
        chain = fmt::format("@_e{}(@_A{}, {})", j, arguments_of(what.space.size()), chain);
    }
    stages += fmt::format("FUNCTION {} @_r(@_P{}{}) {{ return {}; }}\n", compute_type(value.type), coordinates(what.space.size()), known, chain);

    std::string text = stages + "KERNEL(@)(@_P) {\n";
    if (lanes > 1) text += fmt::format("  SHARED {} scratch[BLOCK];\n", accumulator);
    text += along ? fmt::format("  const int lane = THREAD % {0}, line = THREAD / {0};\n", lanes)
                  : fmt::format("  const int line = THREAD % {0}, lane = THREAD / {0};\n", across);
    text += fmt::format(
        "  const i64 row64 = (i64)GROUP * {} + line;\n  const int active = row64 < {}ll;\n  const idx row = active ? (idx)row64 : 0;\n  {}\n", across,
        rows, decompose(what.space, row_order, "row"));
    for (std::size_t j = 0; j < what.stages.size(); ++j) {
        const CombineText combine = combine_text(what.stages[j].combine, what.accumulator);
        text += fmt::format("  {} s{} = {};\n", accumulator, j, combine.identity);
        text += fmt::format("  if (active) for (idx e = lane; e < (idx){}; e += {}) {{ {} const {} x = s{}, y = @_s{}(@_A{}{}); s{} = {}; }}\n",
                            length, lanes, decompose(what.space, element_order, "e"), accumulator, j, j, arguments_of(what.space.size()),
                            known_arguments, j, combine.expression);
        if (lanes > 1) {
            const int spread = along ? 1 : across;
            text += fmt::format("  scratch[THREAD] = s{}; BARRIER();\n", j);
            text += fmt::format(
                "  for (int w = {}; w > 0; w >>= 1) {{ if (lane < w) {{ const {} x = scratch[THREAD], y = scratch[THREAD + w * {}]; scratch[THREAD] "
                "= {}; }} BARRIER(); }}\n",
                lanes / 2, accumulator, spread, combine.expression);
            text += fmt::format("  s{} = scratch[{}]; BARRIER();\n", j, along ? fmt::format("line * {}", lanes) : std::string("line"));
        }
        if (!what.stages[j].finish.empty()) text += fmt::format("  {{ const {0} s = s{1}; s{1} = {2}; }}\n", accumulator, j, what.stages[j].finish);
        known_arguments += fmt::format(", s{}", j);
    }
    const std::string write = fmt::format("const {} v = @_r(@_A{}{}); {}", compute_type(value.type), arguments_of(what.space.size()), known_arguments,
                                          store(value.type, out, offset_expression(value.dims, place.strides), "v"));
    if (what.per_row) {
        std::string zeros;
        for (int axis : what.axes) zeros += fmt::format("const idx i{} = 0; ", axis);
        text += fmt::format("  if (active && lane == 0) {{ {} {} }}\n", zeros, write);
    } else {
        text += fmt::format("  if (active) for (idx e = lane; e < (idx){}; e += {}) {{ {} {} }}\n", length, lanes,
                            decompose(what.space, element_order, "e"), write);
    }
    text += "}\n";
    return functions.finish(text, groups((rows + across - 1) / across, block));
}

std::vector<KernelSource> custom_kernels(const Graph& graph, const Places& places, const Node& node, const CodegenTarget& target) {
    const Custom& what = std::get<Custom>(node.what);
    std::vector<KernelSource> kernels;
    for (const Custom::Phase& phase : what.phases) {
        if (phase.threads == 0) continue;
        Functions functions(graph, places);
        std::string text;
        for (std::size_t k = 0; k < node.outputs.size(); ++k) {
            const Value& value = graph.value(node.outputs[k]);
            const Place& place = *places[static_cast<std::size_t>(node.outputs[k])];
            functions.use(value.dims, place.strides);
            const std::string pointer = functions.argument(node.outputs[k], true);
            const std::string at = offset_expression(value.dims, place.strides);
            text += fmt::format("FUNCTION void @_w{}(@_P, {} v{}) {{ {} }}\n", k, compute_type(value.type), coordinates(value.dims.size()),
                                store(value.type, pointer, at, "v"));
            text += fmt::format("FUNCTION {} @_g{}(@_P{}) {{ return {}; }}\n", compute_type(value.type), k, coordinates(value.dims.size()),
                                load(value.type, pointer, at));
            std::string formal;
            for (std::size_t d = 0; d < value.dims.size(); ++d) formal += fmt::format(", c{}", d);
            text += fmt::format(
                "#undef out{0}\n#undef get{0}\n#undef at{0}\n#undef OUT{0}_T\n#define OUT{0}_T {1}\n#define out{0}(v{2}) @_w{0}(@_A, v{2})\n", k,
                compute_type(value.type), formal);
            text += fmt::format("FUNCTION {}* @_p{}(@_P{}) {{ return {} + ({}); }}\n", storage_type(value.type), k, coordinates(value.dims.size()),
                                pointer, at);
            text += value.dims.empty() ? fmt::format("#define get{0}() @_g{0}(@_A)\n", k)
                                       : fmt::format("#define get{0}({1}) @_g{0}(@_A{2})\n", k, formal.substr(2), formal);
            text += value.dims.empty() ? fmt::format("#define at{0}() @_p{0}(@_A)\n", k)
                                       : fmt::format("#define at{0}({1}) @_p{0}(@_A{2})\n", k, formal.substr(2), formal);
        }
        const std::string body = functions.bound(node, phase.body);
        text += what.functions;
        text += fmt::format("KERNEL(@)(@_P) {{\n  const i64 t = (i64)GROUP * BLOCK + THREAD;\n  if (t < {}ll) {{ {} }}\n}}\n", phase.threads, body);
        const std::int64_t threads = target.threads_per_block;
        kernels.push_back(functions.finish(text, groups((phase.threads + threads - 1) / threads, target.threads_per_block)));
    }
    return kernels;
}

bool is_depthwise(const ConvolutionSpec& spec) {
    const bool type = spec.type == Type::f16 || spec.type == Type::bf16 || spec.type == Type::f32;
    return type && !spec.transposed && spec.kernel.size() == 2 && spec.groups == spec.channels_in && spec.channels_out == spec.groups &&
           spec.groups % 8 == 0;
}

Dims depthwise_weight_strides(const ConvolutionSpec& spec) { return {1, 1, spec.kernel[1] * spec.groups, spec.groups}; }

KernelSource depthwise_kernel(const Graph& graph, const Places& places, const Node& node, const CodegenTarget& target) {
    const ConvolutionSpec& spec = std::get<Convolution>(node.what).spec;
    constexpr int kWidth = 8;  // channels of a thread
    Functions functions(graph, places);
    const int parts = kWidth * bits(spec.type) / 128;
    const std::string_view type = storage_type(spec.type);
    const std::string x = functions.argument(node.inputs[0], false), w = functions.argument(node.inputs[1], false);
    std::string bias, residual;
    if (spec.bias) bias = functions.argument(node.inputs[2], false);
    if (spec.residual) residual = functions.argument(node.inputs[spec.bias ? 3 : 2], false);
    const std::string out = functions.argument(node.outputs.front(), true);
    const std::int64_t channels = spec.groups, rows = spec.in[0], columns = spec.in[1], blocks = channels / kWidth;
    functions.use({spec.batch, channels, rows, columns}, {rows * columns * channels, 1, columns * channels, channels});
    functions.use({spec.batch, channels, spec.out[0], spec.out[1]}, {spec.out[0] * spec.out[1] * channels, 1, spec.out[1] * channels, channels});
    const auto fetch = [&](const char* name, const std::string& pointer, const std::string& at) {
        std::string text = fmt::format("@_t {};", name);
        for (int part = 0; part < parts; ++part)
            text += fmt::format(" {0}.w[{1}] = load16({2} + ({3} + {4}));", name, part, pointer, at, part * kWidth / parts);
        return text;
    };
    const std::int64_t threads = spec.batch * spec.out[0] * spec.out[1] * blocks;
    std::string text = fmt::format("typedef union {{ words4 w[{}]; {} v[{}]; }} @_t;\nFUNCTION f32 @_a(f32 x) {{ return {}; }}\n", parts, type,
                                   kWidth, activation_expression(spec.activation, Type::f32));
    text += fmt::format("KERNEL(@)(@_P) {{\n  const i64 t64 = (i64)GROUP * BLOCK + THREAD;\n  if (t64 < {}ll) {{\n    const idx t = (idx)t64;\n",
                        threads);
    text += fmt::format("    const idx c = t % (idx){0} * 8, column = t / (idx){0} % (idx){1}, row = t / (idx){2} % (idx){3}, n = t / (idx){4};\n",
                        blocks, spec.out[1], blocks * spec.out[1], spec.out[0], blocks * spec.out[1] * spec.out[0]);
    text += "    f32 acc[8];\n    UNROLL\n    for (int u = 0; u < 8; ++u) acc[u] = 0;\n";
    text += fmt::format(
        "    UNROLL\n    for (int i = 0; i < {}; ++i) {{\n      const idx y = row * (idx){} + i * (idx){} - (idx)({});\n      if (y < 0 || y >= "
        "(idx){}) continue;\n",
        spec.kernel[0], spec.stride[0], spec.dilation[0], spec.pad_begin[0], rows);
    text += fmt::format(
        "      UNROLL\n      for (int j = 0; j < {}; ++j) {{\n        const idx x = column * (idx){} + j * (idx){} - (idx)({});\n        if (x < 0 "
        "|| x >= (idx){}) continue;\n",
        spec.kernel[1], spec.stride[1], spec.dilation[1], spec.pad_begin[1], columns);
    text += fmt::format("        {}\n        {}\n",
                        fetch("a", x, fmt::format("((n * (idx){} + y) * (idx){} + x) * (idx){} + c", rows, columns, channels)),
                        fetch("b", w, fmt::format("(idx)(i * {} + j) * (idx){} + c", spec.kernel[1], channels)));
    text += fmt::format("        UNROLL\n        for (int u = 0; u < 8; ++u) acc[u] += {} * {};\n      }}\n    }}\n", load(spec.type, "a.v", "u"),
                        load(spec.type, "b.v", "u"));
    text += "    const idx at = t * 8;\n    @_t o;\n";
    if (spec.bias) text += "    " + (spec.bias_type == spec.type ? fetch("bias", bias, "c") : std::string()) + "\n";
    if (spec.residual) text += "    " + fetch("added", residual, "at") + "\n";
    std::string sum = "acc[u]";
    if (spec.bias) sum += " + " + (spec.bias_type == spec.type ? load(spec.type, "bias.v", "u") : load(spec.bias_type, bias, "c + u"));
    if (spec.residual) sum += " + " + load(spec.type, "added.v", "u");
    text += fmt::format("    UNROLL\n    for (int u = 0; u < 8; ++u) {{ const f32 r = @_a({}); {} }}\n", sum, store(spec.type, "o.v", "u", "r"));
    for (int part = 0; part < parts; ++part) text += fmt::format("    store16({} + (at + {}), o.w[{}]);\n", out, part * kWidth / parts, part);
    text += "  }\n}\n";
    return functions.finish(text, groups((threads + target.threads_per_block - 1) / target.threads_per_block, target.threads_per_block));
}

std::string activation_expression(Activation activation, Type type) {
    const bool wide = type == Type::f64;
    const auto number = [&](double value) { return literal(type == Type::f64 ? Type::f64 : Type::f32, value); };
    const char* f = wide ? "" : "f";
    switch (activation) {
        case Activation::none: return "x";
        case Activation::relu: return "(x > 0 ? x : (x == x ? 0 : x))";
        case Activation::gelu_tanh:
            return fmt::format("{2} * x * ({3} + tanh{0}({1} * (x + {4} * x * x * x)))", f, number(0.7978845608028654), number(0.5), number(1),
                               number(0.044715));
        case Activation::gelu_erf: return fmt::format("{2} * x * ({3} + erf{0}(x * {1}))", f, number(0.70710678118654752), number(0.5), number(1));
        case Activation::sigmoid: return fmt::format("{1} / ({1} + exp{0}(-x))", f, number(1));
        case Activation::tanh: return fmt::format("tanh{}(x)", f);
        case Activation::silu: return fmt::format("x / ({1} + exp{0}(-x))", f, number(1));
        case Activation::relu6: return fmt::format("fmin{0}(fmax{0}(x, 0), {1})", f, number(6));
        case Activation::hard_swish: return fmt::format("x * fmin{0}(fmax{0}(x + {1}, 0), {2}) * {3}", f, number(3), number(6), number(1.0 / 6));
    }
    return "x";
}

namespace {

std::string accumulator_type(Type type) {
    if (type == Type::f64) return "f64";
    if (is_float(type)) return "f32";
    return bits(type) == 64 ? "i64" : "i32";
}

/// "return activation(acc + bias + residual);" with both where they are.
std::string finish_text(Type type, bool bias, const std::string& bias_read, bool residual, const std::string& residual_read, Activation activation) {
    std::string text = fmt::format("const {} x = acc", accumulator_type(type));
    if (bias) text += " + " + bias_read;
    if (residual) text += " + " + residual_read;
    return text + fmt::format("; return {};", activation_expression(activation, type));
}

}  // namespace

Compute generic_matmul(const Graph& graph, const Node& node) {
    const MatmulSpec& spec = std::get<Matmul>(node.what).spec;
    const auto batch = [&](std::size_t k) { return graph.value(node.inputs[k]).dims[0] == 1 ? "0" : "i0"; };
    const std::string acc = accumulator_type(spec.type);
    std::string body = fmt::format("{0} acc = 0; for (idx k = 0; k < (idx){1}; ++k) acc += ({0})in0({2}, {3}) * ({0})in1({4}, {5}); ", acc, spec.k,
                                   batch(0), spec.transpose_a ? "k, i1" : "i1, k", batch(1), spec.transpose_b ? "i2, k" : "k, i2");
    if (spec.alpha != 1) body += fmt::format("acc *= {}; ", literal(spec.type == Type::f64 ? Type::f64 : Type::f32, spec.alpha));
    body += finish_text(spec.type, spec.bias, "in2(i2)", spec.residual, spec.bias ? "in3(i0, i1, i2)" : "in2(i0, i1, i2)", spec.activation);
    const double k = static_cast<double>(spec.k);
    return {"Matmul", body, static_cast<int>(std::min<std::int64_t>(2 * spec.k, 1 << 20)), {k, k, 1, 1}, {}};
}

Compute generic_convolution(const Graph& graph, const Node& node) {
    (void)graph;
    const ConvolutionSpec& spec = std::get<Convolution>(node.what).spec;
    const std::size_t spatial = spec.kernel.size();
    const std::int64_t in_per_group = spec.channels_in / spec.groups, out_per_group = spec.channels_out / spec.groups;
    const std::string acc = accumulator_type(spec.type);
    std::string body = fmt::format("{} acc = 0; const idx g = i1 / (idx){}; ", acc, out_per_group);
    std::string close, x_at, w_at;
    double taps = static_cast<double>(in_per_group);
    for (std::size_t d = 0; d < spatial; ++d) {
        body += fmt::format("for (idx k{0} = 0; k{0} < (idx){1}; ++k{0}) {{ ", d, spec.kernel[d]);
        if (spec.transposed) {
            // Output o takes input x where x * stride + k * dilation - pad = o.
            body += fmt::format(
                "const idx n{0} = i{1} + (idx)({2}) - k{0} * (idx){3}; if (n{0} < 0 || n{0} % (idx){4} != 0) continue; const idx x{0} = n{0} / "
                "(idx){4}; if (x{0} >= (idx){5}) continue; ",
                d, d + 2, spec.pad_begin[d], spec.dilation[d], spec.stride[d], spec.in[d]);
        } else {
            body += fmt::format("const idx x{0} = i{1} * (idx){2} + k{0} * (idx){3} - (idx)({4}); if (x{0} < 0 || x{0} >= (idx){5}) continue; ", d,
                                d + 2, spec.stride[d], spec.dilation[d], spec.pad_begin[d], spec.in[d]);
        }
        x_at += fmt::format(", x{}", d);
        w_at += fmt::format(", k{}", d);
        close += "} ";
        taps *= static_cast<double>(spec.kernel[d]);
    }
    const std::string weight = spec.transposed ? fmt::format("in1(g * (idx){0} + c, i1 % (idx){1}{2})", in_per_group, out_per_group, w_at)
                                               : fmt::format("in1(i1, c{})", w_at);
    body += fmt::format("for (idx c = 0; c < (idx){0}; ++c) acc += ({1})in0(i0, g * (idx){0} + c{2}) * ({1}){3}; {4}", in_per_group, acc, x_at,
                        weight, close);
    std::string at;
    for (std::size_t d = 0; d < spatial; ++d) at += fmt::format(", i{}", d + 2);
    body += finish_text(spec.type, spec.bias, "in2(i1)", spec.residual, fmt::format("in{}(i0, i1{})", spec.bias ? 3 : 2, at), spec.activation);
    return {spec.transposed ? "ConvolutionTranspose" : "Convolution", body, static_cast<int>(std::min(2 * taps, 1e6)), {taps, taps, 1, 1}, {}};
}

}  // namespace ai_vmm::cuda
