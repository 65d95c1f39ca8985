// SPDX-License-Identifier: Apache-2.0
#include "codegen/vector_views.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace ai_vmm::cuda {

bool aligned_vectors(const Value& value, const Place& place, int inner, std::int64_t width) {
    const std::int64_t bytes = bits(value.type) / 8, unit = std::min<std::int64_t>(16, width * bytes);
    if (bytes == 0 || place.strides[static_cast<std::size_t>(inner)] != 1 || place.offset * bytes % unit != 0) return false;
    for (std::size_t d = 0; d < value.dims.size(); ++d) {
        if (static_cast<int>(d) != inner && value.dims[d] > 1 && place.strides[d] * bytes % unit != 0) return false;
    }
    return true;
}

std::string VectorViews::structure(Type type) {
    const std::string element(compute_type(type)), name = "@_V" + element;
    if (structures_.insert(element).second)
        text_ += fmt::format(
            "typedef struct {{ {0} v[{1}]; }} {2};\nFUNCTION {2} @_S{0}({0} x) {{ {2} r; UNROLL for (int u = 0; u < {1}; ++u) r.v[u] = x; return r; "
            "}}\n",
            element, width_, name);
    return name;
}

std::optional<std::string> VectorViews::reader(ValueId id, int inner, bool placed) {
    const Value& value = graph_.value(id);
    if (inner < 0 || value.dims[static_cast<std::size_t>(inner)] % width_ != 0 || bits(value.type) < 8) return std::nullopt;
    const std::pair key(id, inner);
    if (const auto found = names_.find(key); found != names_.end()) return found->second;
    std::optional<std::string>& name = names_[key];
    std::optional<std::string> body;
    if (placed && places_[static_cast<std::size_t>(id)]) {
        body = body_of_placed(id, inner);
    } else if (const Node* node = graph_.producer(id)) {
        if (const auto* compute = std::get_if<Compute>(&node->what)) {
            if (compute->view.kind != View::Kind::none) {
                body = body_of_view(*node, *compute, inner);
            } else if (compute->op == "Concat") {
                body = body_of_concat(*node, *compute, inner);
            } else if (!compute->across.empty()) {
                body = body_across(*node, *compute, inner);
            } else if (!compute->expression.empty()) {
                body = body_of_pointwise(*node, *compute, inner);
            }
        }
    }
    if (!body) return std::nullopt;
    functions_.use(value.dims, row_major_strides(value.dims));
    name = fmt::format("@_w{}", count_++);
    const std::string type = structure(value.type);
    text_ += fmt::format("FUNCTION {} {}(@_P{}) {{ {} }}\n", type, *name, coordinates(value.dims.size()), *body);
    return name;
}

std::optional<std::string> VectorViews::body_of_placed(ValueId id, int inner) {
    const Value& value = graph_.value(id);
    const Place& place = *places_[static_cast<std::size_t>(id)];
    if (!aligned_vectors(value, place, inner, width_)) return std::nullopt;
    functions_.use(value.dims, place.strides);
    const std::int64_t bytes = width_ * bits(value.type) / 8, unit = std::min<std::int64_t>(bytes, 16), parts = bytes / unit;
    std::string text = fmt::format("{} r; union {{ {} w[{}]; {} v[{}]; }} t; ", structure(value.type),
                                   unit == 4   ? "u32"
                                   : unit == 8 ? "words2"
                                               : "words4",
                                   parts, storage_type(value.type), width_);
    for (std::int64_t part = 0; part < parts; ++part)
        text += fmt::format("t.w[{}] = load{}({} + ({} + {})); ", part, unit, functions_.argument(id, false),
                            offset_expression(value.dims, place.strides), part * unit * 8 / bits(value.type));
    if (id == copied_) {
        const Place& copy = *places_[static_cast<std::size_t>(copy_)];
        if (!aligned_vectors(value, copy, inner, width_)) return std::nullopt;
        functions_.use(value.dims, copy.strides);
        for (std::int64_t part = 0; part < parts; ++part)
            text += fmt::format("store{}({} + ({} + {}), t.w[{}]); ", unit, functions_.argument(copy_, true),
                                offset_expression(value.dims, copy.strides), part * unit * 8 / bits(value.type), part);
    }
    return text + fmt::format("UNROLL for (int u = 0; u < {}; ++u) r.v[u] = {}; return r;", width_, load(value.type, "t.v", "u"));
}

std::optional<std::string> VectorViews::input_macro(const Node& node, std::size_t k, int inner) {
    const Value& value = graph_.value(node.inputs[k]);
    std::string formal;
    for (std::size_t d = 0; d < value.dims.size(); ++d) formal += fmt::format("{}c{}", d == 0 ? "" : ", ", d);
    const std::string given = value.dims.empty() ? "@_A" : "@_A, " + formal;
    if (inner < 0) {
        (void)structure(value.type);
        return fmt::format("\n#undef in{0}\n#define in{0}({1}) @_S{2}({3}({4}))\n", k, formal, compute_type(value.type),
                           functions_.reader(node.inputs[k]), given);
    }
    const auto name = reader(node.inputs[k], inner);
    if (!name) return std::nullopt;
    return fmt::format("\n#undef in{0}\n#define in{0}({1}) {2}({3})\n", k, formal, *name, given);
}

std::optional<std::string> VectorViews::body_of_view(const Node& node, const Compute& compute, int inner) {
    const Dims &to = graph_.value(node.outputs.front()).dims, &from = graph_.value(node.inputs.front()).dims;
    const auto d = static_cast<std::size_t>(inner);
    int source = -1;
    switch (compute.view.kind) {
        case View::Kind::transpose: source = compute.view.permutation[d]; break;
        case View::Kind::reshape:
            // A dimension of both, wherever it stands; else neighbours in the row-major order of both.
            for (std::size_t k = 0; k < from.size(); ++k) {
                const auto before = [](const Dims& dims, std::size_t end) {
                    return elements(Dims(dims.begin(), dims.begin() + static_cast<std::ptrdiff_t>(end)));
                };
                if (from[k] == to[d] && before(from, k) == before(to, d)) source = static_cast<int>(k);
            }
            if (source >= 0) break;
            if (std::any_of(to.begin() + inner + 1, to.end(), [](std::int64_t size) { return size != 1; })) return std::nullopt;
            for (std::size_t k = 0; k < from.size(); ++k) {
                if (from[k] > 1) source = static_cast<int>(k);
            }
            if (source < 0) return std::nullopt;
            break;
        case View::Kind::slice:
            if (compute.view.step[d] != 1 || compute.view.begin[d] % width_ != 0) return std::nullopt;
            source = inner;
            break;
        case View::Kind::broadcast:
            source = inner - static_cast<int>(to.size() - from.size());
            if (source >= 0 && from[static_cast<std::size_t>(source)] == 1) source = -1;
            break;
        case View::Kind::none: return std::nullopt;
    }
    const auto macro = input_macro(node, 0, source);
    return macro ? std::optional(*macro + compute.body) : std::nullopt;
}

std::optional<std::string> VectorViews::body_of_concat(const Node& node, const Compute& compute, int inner) {
    const Value& value = graph_.value(node.outputs.front());
    std::string text;
    for (std::size_t k = 0; k < node.inputs.size(); ++k) {
        // Along the axis, every part is whole vectors: reader() checks each.
        const auto macro = input_macro(node, k, inner);
        if (!macro) return std::nullopt;
        text += *macro;
    }
    const std::string last = "return 0;";
    const std::size_t at = compute.body.rfind(last);
    if (at == std::string::npos || at + last.size() != compute.body.size()) return std::nullopt;
    (void)structure(value.type);
    return text + compute.body.substr(0, at) + fmt::format("return @_S{}(0);", compute_type(value.type));
}

std::optional<std::string> VectorViews::body_across(const Node& node, const Compute& compute, int inner) {
    const auto macro = inner < 2 ? input_macro(node, 0, inner) : std::nullopt;
    if (!macro) return std::nullopt;
    const Type type = graph_.value(node.outputs.front()).type;
    const std::string vector = structure(type);
    return *macro + fmt::format(
                        "\n#undef VECTOR\n#undef EACH\n#undef FILLED\n#define VECTOR {}\n#define EACH UNROLL for (int u = 0; u < {}; ++u)\n#define "
                        "FILLED(x) @_S{}(x)\n{}",
                        vector, width_, compute_type(type), compute.across);
}

std::optional<std::string> VectorViews::body_of_pointwise(const Node& node, const Compute& compute, int inner) {
    const Value& value = graph_.value(node.outputs.front());
    if (node.inputs.size() > 8) return std::nullopt;
    const std::string result = structure(value.type);
    std::string fetch, each, parameters, arguments;
    for (std::size_t k = 0; k < node.inputs.size(); ++k) {
        // A type of the input by name belongs to the other form.
        if (compute.expression.find(fmt::format("IN{}_T", k)) != std::string::npos) return std::nullopt;
        const Value& input = graph_.value(node.inputs[k]);
        const int shift = static_cast<int>(value.dims.size()) - static_cast<int>(input.dims.size()), along = inner - shift;
        const char name = static_cast<char>('a' + k);
        std::string at = "@_A";
        for (std::size_t d = 0; d < input.dims.size(); ++d) at += input.dims[d] == 1 ? ", 0" : fmt::format(", i{}", static_cast<int>(d) + shift);
        if (along < 0 || input.dims[static_cast<std::size_t>(along)] == 1) {
            fetch += fmt::format("const {} {} = {}({}); ", compute_type(input.type), name, functions_.reader(node.inputs[k]), at);
        } else {
            const auto vector = reader(node.inputs[k], along);
            if (!vector) return std::nullopt;
            fetch += fmt::format("const {} {}_ = {}({}); ", structure(input.type), name, *vector, at);
            each += fmt::format("const {} {} = {}_.v[u]; ", compute_type(input.type), name, name);
        }
        parameters += fmt::format("{}const {} {}", k == 0 ? "" : ", ", compute_type(input.type), name);
        arguments += fmt::format("{}{}", k == 0 ? "" : ", ", name);
    }
    const std::string function = fmt::format("@_g{}", count_++);
    text_ += fmt::format("FUNCTION {} {}({}) {{ {} }}\n", compute_type(value.type), function, parameters.empty() ? "void" : parameters,
                         compute.expression.starts_with("const ") ? compute.expression : "return " + compute.expression + ";");
    return fetch +
           fmt::format("{} r; UNROLL for (int u = 0; u < {}; ++u) {{ {}r.v[u] = {}({}); }} return r;", result, width_, each, function, arguments);
}

}  // namespace ai_vmm::cuda
