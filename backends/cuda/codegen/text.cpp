// SPDX-License-Identifier: Apache-2.0
#include "codegen/text.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cassert>
#include <cstring>
#include <numeric>

namespace ai_vmm::cuda {

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
            // Two neighbours share a byte: compute_kernel() gives both to one thread, the lower one first, which needs no byte that is there.
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

void replace_all(std::string& text, std::string_view name, std::string_view by) {
    for (std::size_t at = 0; (at = text.find(name, at)) != std::string::npos; at += by.size()) text.replace(at, name.size(), by);
}

Launch groups(std::int64_t count, int threads, std::optional<std::int64_t> limit) {
    Launch launch;
    launch.limit = limit;
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

void Macros::define(std::string_view name, const std::string& value) {
    head_ += fmt::format("#define {} {}\n", name, value);
    tail_ += fmt::format("#undef {}\n", name.substr(0, name.find('(')));
}

std::string multiply_add() {
    return R"SOURCE(
FUNCTION void @_mma(f32* d, const u32* a, u32 b0, u32 b1) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32." MMA_TYPE "." MMA_TYPE ".f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]) : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
)SOURCE";
}

std::string Functions::reader(ValueId id) {
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

std::string Functions::bound(const Node& node, const std::string& body) {
    std::string text;
    for (std::size_t k = 0; k < node.inputs.size(); ++k) {
        const std::string token = fmt::format("in{}(", k);
        if (body.find(token) == std::string::npos && body.find(fmt::format("IN{}_T", k)) == std::string::npos) continue;
        const std::string name = reader(node.inputs[k]);
        text += fmt::format("\n#undef in{0}\n#undef IN{0}_T\n#define IN{0}_T {1}\n", k, compute_type(graph_.value(node.inputs[k]).type));
        const std::size_t rank = graph_.value(node.inputs[k]).dims.size();
        std::string formal;
        for (std::size_t d = 0; d < rank; ++d) formal += fmt::format("{}c{}", d == 0 ? "" : ", ", d);
        text += rank == 0 ? fmt::format("#define in{}() {}(@_A)\n", k, name) : fmt::format("#define in{}({}) {}(@_A, {})\n", k, formal, name, formal);
    }
    return text + body;
}

std::string Functions::argument(ValueId id, bool written) {
    const auto [found, fresh] = arguments_.try_emplace({id, written}, static_cast<int>(order_.size()));
    if (fresh) order_.emplace_back(id, written);
    return fmt::format("p{}_", found->second);
}

void Functions::use(const Dims& dims, const Dims& strides) { wide_ = wide_ || reach(dims, strides) > std::numeric_limits<std::int32_t>::max(); }

KernelSource Functions::finish(const std::string& kernel, const Launch& launch) const {
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
        with_parameters.replace(at, kHead.size(), "KERNEL(@)(" + list + (launch.limit ? ", const i64 limit_)" : ")"));
    out.text = fmt::format("#undef idx\n#define idx {}\n#define @_P {}\n#define @_A {}\n{}{}", wide_ ? "i64" : "i32", list, fmt::join(names, ", "),
                           text_, with_parameters);
    out.launch = launch;
    return out;
}

std::int64_t Functions::reach(const Dims& dims, const Dims& strides) {
    std::int64_t most = 0;
    for (std::size_t d = 0; d < dims.size(); ++d) most += std::max<std::int64_t>(dims[d] - 1, 0) * std::abs(strides[d]);
    return std::max(most, elements(dims));
}

}  // namespace ai_vmm::cuda
