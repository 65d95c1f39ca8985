// SPDX-License-Identifier: Apache-2.0
#include "program/schedule.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cstring>
#include <set>

#include "ai_vmm/elements.hpp"
#include "base/hash.hpp"
#include "codegen/kernels.hpp"
#include "codegen/pixel_products.hpp"
#include "codegen/stem.hpp"
#include "graph/passes.hpp"
#include "program/scheduler.hpp"

namespace ai_vmm::cuda {
namespace {

/// Numbers of another float type, rounded to nearest, halves to even.
std::vector<std::byte> converted(const ConstantData& f32, Type type) {
    const std::size_t count = f32.bytes / sizeof(float);
    std::vector<std::byte> out(count * static_cast<std::size_t>(bits(type)) / 8);
    for (std::size_t i = 0; i < count; ++i) {
        float number = 0;
        std::memcpy(&number, f32.data + i * sizeof number, sizeof number);
        store_element(type == Type::f16 ? ElementType::f16 : type == Type::bf16 ? ElementType::bf16 : ElementType::f32, out.data(), i, number);
    }
    return out;
}

/// Recurrences that the device has a library for read packed weights; the others become their alternative.
Graph choose_recurrences(Graph graph, Device& device) {
    std::map<ValueId, ValueId> replaced;
    const auto current = [&](ValueId id) {
        for (auto found = replaced.find(id); found != replaced.end(); found = replaced.find(id)) id = found->second;
        return id;
    };
    for (Node& node : graph.nodes) {
        for (ValueId& id : node.inputs) id = current(id);
        auto* recurrent = std::get_if<Recurrent>(&node.what);
        if (recurrent == nullptr) continue;
        const std::size_t states = recurrent->spec.cell == RecurrentSpec::Cell::lstm ? 3 : 2;
        const std::vector<ValueId> alternative(node.inputs.begin() + static_cast<std::ptrdiff_t>(states), node.inputs.end());
        node.inputs.resize(states);
        const Type type = recurrent->spec.type;
        if (type == Type::f32 || type == Type::f16 || type == Type::bf16) recurrent->call = device.make(recurrent->spec);
        if (!recurrent->call) {
            for (std::size_t k = 0; k < node.outputs.size(); ++k) replaced[node.outputs[k]] = alternative[k];
            continue;
        }
        auto packed = std::make_shared<std::vector<std::byte>>(
            recurrent->call->pack_weights(converted(recurrent->w, type), converted(recurrent->r, type), converted(recurrent->b, type)));
        graph.values.push_back(
            {Type::u8, {static_cast<std::int64_t>(packed->size())}, Source::constant, 0, {packed, packed->data(), packed->size()}});
        node.inputs.push_back(static_cast<ValueId>(graph.values.size() - 1));
    }
    for (ValueId& id : graph.outputs) id = current(id);
    return graph;
}

std::string replace_name(const std::string& text, const std::string& name) {
    std::string out;
    out.reserve(text.size() + 64 * name.size());
    for (char c : text) {
        if (c == '@') {
            out += name;
        } else {
            out += c;
        }
    }
    return out;
}

}  // namespace

bool Schedule::has_host_steps() const {
    return std::any_of(steps.begin(), steps.end(), [](const Step& step) { return step.kind == Step::Kind::host; });
}

Schedule make_schedule(Graph graph, Device& device) {
    std::vector<std::pair<ConvolutionSpec, bool>> asked;  // a network has the same ones many times
    const auto takes = [&](const ConvolutionSpec& spec) {
        if (is_depthwise(spec)) return true;
        const auto known = std::ranges::find(asked, spec, [](const auto& one) { return one.first; });
        return known != asked.end() ? known->second : asked.emplace_back(spec, device.takes(spec)).second;
    };
    graph = recognise_attention(simplify(integer_products(choose_recurrences(std::move(graph), device), takes)));
    graph = expand_attention(std::move(graph), [](const AttentionSpec& spec) { return spec.type != Type::f16 && spec.type != Type::bf16; });
    const CodegenTarget target = target_of(device);
    const auto generated = [&](const ConvolutionSpec& spec) { return prefers_stem(spec, target) || prefers_pixel_product(spec, target); };
    graph = products_of_patches(fuse(wide_sums(std::move(graph))), generated);
    graph = pad_depths(merge_products(keep_packed(recognise_excitation(std::move(graph)))), generated);
    for (;;) {
        try {
            return Scheduler(graph, device).run();
        } catch (const NoAttention& refused) {
            // Others of the graph may be taken.
            graph = fuse(expand_attention(std::move(graph), [&](const AttentionSpec& spec) { return spec == refused.spec; }));
        }
    }
}

ModuleSource module_source(const Schedule& schedule) {
    ModuleSource source;
    source.text = R"(#define F32_INFINITY bits_f32(0x7f800000u)
#define F32_NAN bits_f32(0x7fc00000u)
#define F64_INFINITY bits_f64(0x7ff0000000000000ull)
#define F64_NAN bits_f64(0x7ff8000000000000ull)
FUNCTION void store_nibble(u8* p, i64 at, int value) {
    p[at >> 1] = (u8)((at & 1) ? p[at >> 1] | ((value & 15) << 4) : value & 15);
}
)";
    std::set<std::string> there;
    for (std::size_t k = 0; k < schedule.kernels.size(); ++k) {
        source.names.push_back("k" + base::sha256_hex(schedule.kernels[k]).substr(0, 16));
        if (!there.insert(source.names.back()).second) continue;
        source.text.append(kModulePart).append(replace_name(schedule.kernels[k], source.names.back()));
    }
    return source;
}

std::string print(const Schedule& schedule) {
    std::string text;
    const auto list = [&](const char* title, const std::vector<Step>& steps) {
        text += fmt::format("{}: {} steps\n", title, steps.size());
        for (const Step& step : steps) {
            std::vector<std::string> arguments;
            for (ValueId id : step.arguments) {
                const Value& value = schedule.graph.value(id);
                const Place& place = *schedule.places[static_cast<std::size_t>(id)];
                const bool plain = place.root == id && place.strides == row_major_strides(value.dims);
                arguments.push_back(
                    fmt::format("%{} {}[{}]{}", id, to_string(value.type), fmt::join(value.dims, ","),
                                plain ? "" : fmt::format(" in %{}+{} by ({})", place.root, place.offset, fmt::join(place.strides, ","))));
            }
            const char* kind = step.kind == Step::Kind::kernel ? "kernel" : step.kind == Step::Kind::library ? "library" : "host";
            std::string what = step.kind == Step::Kind::kernel ? fmt::format("k{} <{}x{}>", step.index, step.launch.grid[0], step.launch.block[0])
                                                               : std::string(op_name(schedule.graph.nodes[static_cast<std::size_t>(step.index)]));
            if (const auto call = schedule.calls.find(step.index); step.kind == Step::Kind::library && call != schedule.calls.end())
                what += " " + call->second->describe();
            text += fmt::format("  {} {} {} ({})\n", kind, what, step.label, fmt::join(arguments, ", "));
        }
    };
    list("prepare", schedule.prepare);
    list("run", schedule.steps);
    text += fmt::format("kernels {}, weights {} B, arena {} B, workspace {} B\n", schedule.kernels.size(), schedule.weight_bytes,
                        schedule.arena_bytes, schedule.workspace_bytes);
    return text;
}

}  // namespace ai_vmm::cuda
