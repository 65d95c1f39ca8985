// SPDX-License-Identifier: Apache-2.0
#include "program/schedule.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cassert>
#include <cstring>
#include <numeric>

#include "ai_vmm/elements.hpp"
#include "ai_vmm/error.hpp"
#include "codegen/attention.hpp"
#include "codegen/excitation.hpp"
#include "codegen/packed.hpp"
#include "codegen/pointwise.hpp"
#include "codegen/skinny.hpp"
#include "graph/passes.hpp"

namespace ai_vmm::cuda {
namespace {

/// Inlined bodies beyond this many instructions are stored instead: registers and compile time.
constexpr int kMostInlinedCost = 24;
/// Different values in memory that one kernel reads at most.
constexpr std::ptrdiff_t kMostLeaves = 8;

bool is_library(const Node& node) {
    return std::holds_alternative<Matmul>(node.what) || std::holds_alternative<Convolution>(node.what) ||
           std::holds_alternative<Attention>(node.what) || std::holds_alternative<Recurrent>(node.what) ||
           std::holds_alternative<Excitation>(node.what) || std::holds_alternative<PackedProduct>(node.what);
}

/// Strides of `to` over memory that holds `from` with `strides`, if no copy is needed.
std::optional<Dims> reshaped_strides(const Dims& from, const Dims& strides, const Dims& to) {
    Dims result(to.size(), 0);
    if (elements(to) == 0) return row_major_strides(to);
    std::size_t i = 0, j = 0;
    while (i < from.size() || j < to.size()) {
        // The smallest groups with equal products.
        std::int64_t have = i < from.size() ? from[i] : 1, want = j < to.size() ? to[j] : 1;
        std::size_t i_end = std::min(i + 1, from.size()), j_end = std::min(j + 1, to.size());
        while (have != want) {
            if (have < want) {
                if (i_end >= from.size()) return std::nullopt;
                have *= from[i_end++];
            } else {
                if (j_end >= to.size()) return std::nullopt;
                want *= to[j_end++];
            }
        }
        // Trailing ones belong to nobody.
        std::int64_t expected = -1, innermost = 0;
        for (std::size_t d = i_end; d-- > i;) {
            if (from[d] == 1) continue;
            if (expected < 0) {
                innermost = strides[d];
            } else if (strides[d] != expected) {
                return std::nullopt;
            }
            expected = strides[d] * from[d];
        }
        std::int64_t stride = innermost;
        for (std::size_t d = j_end; d-- > j;) {
            result[d] = stride;
            stride *= to[d];
        }
        i = i_end;
        j = j_end;
    }
    return result;
}

Dims strides_in_order(const Dims& dims, const std::vector<int>& order) {
    Dims strides(dims.size(), 1);
    std::int64_t next = 1;
    for (std::size_t k = order.size(); k-- > 0;) {
        strides[static_cast<std::size_t>(order[k])] = next;
        next *= std::max<std::int64_t>(dims[static_cast<std::size_t>(order[k])], 1);
    }
    return strides;
}

std::vector<int> channels_last_order(std::size_t rank) {
    std::vector<int> order{0};
    for (std::size_t d = 2; d < rank; ++d) order.push_back(static_cast<int>(d));
    order.push_back(1);
    return order;
}

bool same_layout(const Dims& dims, const Dims& a, const Dims& b) {
    for (std::size_t d = 0; d < dims.size(); ++d) {
        if (dims[d] != 1 && a[d] != b[d]) return false;
    }
    return true;
}

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

/// No library takes an Attention node.
struct NoAttention {
    AttentionSpec spec;
};

class Scheduler {
public:
    Scheduler(Graph graph, Device& device) : device_(device) {
        out_.graph = std::move(graph);
        const Capabilities& capabilities = device.capabilities();
        target_ = {capabilities.threads_per_block, capabilities.multiprocessors, capabilities.compute_major >= 8};
    }

    Schedule run() {
        give_outputs_memory_of_their_own();
        remove_dead_nodes();
        find_consumers();
        out_.places.resize(graph().values.size());
        for (ValueId id : graph().inputs) place_row_major(id);
        for (std::size_t id = 0; id < graph().values.size(); ++id) {
            if (graph().values[id].source == Source::constant) place_row_major(static_cast<ValueId>(id));
        }
        const std::size_t original = graph().nodes.size();
        for (std::size_t n = 0; n < original; ++n) {
            if (live_[n]) visit(static_cast<int>(n));
        }
        plan();
        return std::move(out_);
    }

private:
    Graph& graph() { return out_.graph; }
    const Value& value(ValueId id) const { return out_.graph.value(id); }
    std::optional<Place>& place(ValueId id) {
        if (out_.places.size() <= static_cast<std::size_t>(id)) out_.places.resize(graph().values.size());
        return out_.places[static_cast<std::size_t>(id)];
    }

    void place_row_major(ValueId id) { place(id) = Place{id, row_major_strides(value(id).dims), 0}; }

    /// Every output is written by a node, row-major, and to one place.
    void give_outputs_memory_of_their_own() {
        std::set<ValueId> taken;
        Builder builder(graph());
        for (ValueId& id : graph().outputs) {
            const Node* node = graph().producer(id);
            const auto* compute = node != nullptr ? std::get_if<Compute>(&node->what) : nullptr;
            const bool view = compute != nullptr && compute->view.kind != View::Kind::none;
            // A reshape of what is row-major itself is the same memory.
            if (const ValueId behind = reshaped(id); behind != id && lies_row_major(behind) && taken.count(id) == 0 && taken.insert(behind).second) {
                taken.insert(id);
                shown_.insert(id);
                continue;
            }
            if (view || !lies_row_major(id) || !taken.insert(id).second) id = copy_of(builder, id);
            taken.insert(id);
        }
        outputs_ = std::move(taken);
    }

    /// What `id` shows through reshapes.
    ValueId reshaped(ValueId id) {
        for (const Node* node = graph().producer(id); node != nullptr; node = graph().producer(id)) {
            const auto* compute = std::get_if<Compute>(&node->what);
            if (compute == nullptr || compute->view.kind != View::Kind::reshape) break;
            id = node->inputs.front();
        }
        return id;
    }

    /// Whether a value can be stored row-major where it is made.
    bool lies_row_major(ValueId id) {
        const Node* node = graph().producer(id);
        if (node == nullptr || std::holds_alternative<Convolution>(node->what) || std::holds_alternative<Attention>(node->what) ||
            std::holds_alternative<Excitation>(node->what))
            return false;
        const auto* compute = std::get_if<Compute>(&node->what);
        return compute == nullptr || compute->view.kind == View::Kind::none;
    }

    ValueId copy_of(Builder& builder, ValueId id) {
        std::vector<std::string> indices;
        for (std::size_t d = 0; d < value(id).dims.size(); ++d) indices.push_back(fmt::format("i{}", d));
        return builder.compute(value(id).type, value(id).dims, {id},
                               {"Copy", fmt::format("return in0({});", fmt::join(indices, ", ")), 0, {}, {}, "a"});
    }

    void remove_dead_nodes() {
        live_.assign(graph().nodes.size(), false);
        std::vector<bool> needed(graph().values.size(), false);
        for (ValueId id : graph().outputs) needed[static_cast<std::size_t>(id)] = true;
        for (std::size_t n = graph().nodes.size(); n-- > 0;) {
            const Node& node = graph().nodes[n];
            live_[n] = std::any_of(node.outputs.begin(), node.outputs.end(), [&](ValueId id) { return needed[static_cast<std::size_t>(id)]; });
            if (!live_[n]) continue;
            for (ValueId id : node.inputs) needed[static_cast<std::size_t>(id)] = true;
        }
    }

    void find_consumers() {
        const std::size_t count = graph().values.size();
        consumers_.assign(count, {});
        prepared_.assign(count, false);
        needs_memory_.assign(count, false);
        for (std::size_t id = 0; id < count; ++id) prepared_[id] = graph().values[id].source == Source::constant;
        for (std::size_t n = 0; n < graph().nodes.size(); ++n) {
            if (!live_[n]) continue;
            const Node& node = graph().nodes[n];
            for (std::size_t k = 0; k < node.inputs.size(); ++k)
                consumers_[static_cast<std::size_t>(node.inputs[k])].emplace_back(static_cast<int>(n), static_cast<int>(k));
            const auto* fixed = std::get_if<Compute>(&node.what);
            const bool constant =
                !std::holds_alternative<HostCall>(node.what) && (fixed == nullptr || !fixed->every_run) &&
                std::all_of(node.inputs.begin(), node.inputs.end(), [&](ValueId id) { return prepared_[static_cast<std::size_t>(id)]; });
            for (ValueId id : node.outputs) prepared_[static_cast<std::size_t>(id)] = constant;
        }
        for (std::size_t n = graph().nodes.size(); n-- > 0;) {
            if (!live_[n]) continue;
            const Node& node = graph().nodes[n];
            const auto* compute = std::get_if<Compute>(&node.what);
            const bool view = compute != nullptr && compute->view.kind != View::Kind::none;
            const bool reads_memory = is_library(node) || std::holds_alternative<HostCall>(node.what);
            for (ValueId id : node.inputs) {
                if (reads_memory || (view && needs_memory_[static_cast<std::size_t>(node.outputs.front())]))
                    needs_memory_[static_cast<std::size_t>(id)] = true;
            }
        }
    }

    void visit(int n) {
        // Copies: nodes are appended while a reference would be held.
        const Node node = graph().nodes[static_cast<std::size_t>(n)];
        if (const auto* compute = std::get_if<Compute>(&node.what)) {
            visit_compute(n, node, *compute);
        } else if (std::holds_alternative<Rowwise>(node.what)) {
            place(node.outputs.front()) = Place{node.outputs.front(), strides_in_order(value(node.outputs.front()).dims, wanted_order(node)), 0};
            emit(rowwise_kernel(graph(), out_.places, graph().nodes[static_cast<std::size_t>(n)], target_), node);
        } else if (const auto* custom = std::get_if<Custom>(&node.what)) {
            (void)custom;
            for (ValueId id : node.outputs) place_row_major(id);
            for (KernelSource& kernel : custom_kernels(graph(), out_.places, graph().nodes[static_cast<std::size_t>(n)], target_))
                emit(std::move(kernel), node);
        } else if (std::holds_alternative<HostCall>(node.what)) {
            for (std::size_t k = 0; k < node.inputs.size(); ++k) require_layout(n, k, row_major_strides(value(node.inputs[k]).dims));
            for (ValueId id : node.outputs) place_row_major(id);
            steps_for(node).push_back({Step::Kind::host, n, {}, arguments_of(n), node.name.empty() ? std::string(op_name(node)) : node.name});
        } else if (std::holds_alternative<Recurrent>(node.what)) {
            for (std::size_t k = 0; k < node.inputs.size(); ++k) require_layout(n, k, row_major_strides(value(node.inputs[k]).dims));
            for (ValueId id : node.outputs) place_row_major(id);
            const auto& call = std::get<Recurrent>(node.what).call;
            out_.workspace_bytes = std::max(out_.workspace_bytes, static_cast<std::int64_t>(call->workspace_bytes()));
            out_.calls[n] = call;
            out_.specs.insert_or_assign(n, std::get<Recurrent>(node.what).spec);
            steps_for(node).push_back({Step::Kind::library, n, {}, arguments_of(n), node.name});
        } else if (std::holds_alternative<Excitation>(node.what)) {
            run_excitation(n);
        } else if (std::holds_alternative<PackedProduct>(node.what)) {
            run_packed(n);
        } else {
            visit_library(n);
        }
    }

    std::vector<ValueId> arguments_of(int n) {
        const Node& node = graph().nodes[static_cast<std::size_t>(n)];
        std::vector<ValueId> all = node.inputs;
        all.insert(all.end(), node.outputs.begin(), node.outputs.end());
        return all;
    }

    void visit_compute(int n, const Node& node, const Compute& compute) {
        const ValueId id = node.outputs.front();
        if (place_as_view(node, compute)) return;
        if (outputs_.count(id) != 0) {
            place_row_major(id);
        } else if (must_store(id, compute, node)) {
            auto among = compute.op == "Concat" ? std::nullopt : place_among_channels(id);
            place(id) = among ? *std::move(among) : Place{id, strides_in_order(value(id).dims, wanted_order(node)), 0};
        } else {
            cost_[id] = inlined_cost(node, compute);
            leaves_[id] = leaves(node);
            return;
        }
        (void)n;
        if (compute.op == "Concat" && store_by_parts(node)) return;
        emit(compute_kernel(graph(), out_.places, id, target_), node);
    }

    /// A large concatenation: one copy per part, each as fast as memory, instead of one kernel that asks for every element where it comes from.
    bool store_by_parts(const Node& node) {
        const ValueId id = node.outputs.front();
        const Value whole = value(id);
        const auto joined = axis_of_parts(node);
        if (!joined) return false;
        const std::size_t axis = *joined;
        std::int64_t at = 0;
        for (ValueId part : node.inputs) {
            if ((place(part) && place(part)->root == id) || copied_.count(part) != 0) {  // where it was made, or since then
                at += value(part).dims[axis];
                continue;
            }
            const Place target = *place(id);
            copy_to(part, Place{target.root, target.strides, target.offset + at * target.strides[axis]}, whole.type, node.name);
            at += value(part).dims[axis];
        }
        return true;
    }

    void copy_to(ValueId part, Place target, Type type, const std::string& name) {
        Builder builder(graph());
        builder.set_name(name);
        const ValueId copy = copy_of(builder, part);
        graph().values[static_cast<std::size_t>(copy)].type = type;
        grow_with(copy, prepared_[static_cast<std::size_t>(target.root)]);
        place(copy) = std::move(target);
        emit(compute_kernel(graph(), out_.places, copy, target_), Node(graph().nodes.back()));
    }

    /// What a library has made of a concatenation's channels is copied there at once, while it is in the device's cache.
    void copy_among_channels(ValueId id) {
        auto target = part_of_channels(id);
        if (!target) return;
        const std::string name = graph().producer(target->root)->name;
        copied_.insert(id);
        copy_to(id, *std::move(target), value(id).type, name);
    }

    /// The dimension that a concatenation which is stored by parts joins.
    [[nodiscard]] std::optional<std::size_t> axis_of_parts(const Node& node) const {
        constexpr std::int64_t kLarge = 1 << 20;
        const Value& whole = value(node.outputs.front());
        if (bytes(whole.type, whole.dims) < kLarge || node.inputs.size() > 8 || bits(whole.type) == 4) return std::nullopt;
        // The one that the parts' sizes add up to.
        std::size_t axis = 0;
        while (axis < whole.dims.size() && value(node.inputs.front()).dims[axis] == whole.dims[axis]) ++axis;
        if (axis == whole.dims.size()) return std::nullopt;
        std::int64_t total = 0;
        for (ValueId part : node.inputs) total += value(part).dims[axis];
        return total == whole.dims[axis] ? std::optional(axis) : std::nullopt;
    }

    /// The place of a value among the channels of the concatenation that reads it, where nothing asks for it elsewhere: a generated kernel may store
    /// it there. Not a library: cuDNN's engines for strided results are a pass over them slower than a copy.
    std::optional<Place> place_among_channels(ValueId id) {
        if (outputs_.count(id) != 0) return std::nullopt;
        for (const auto& [n, k] : consumers_[static_cast<std::size_t>(id)]) {
            const Node& consumer = graph().nodes[static_cast<std::size_t>(n)];
            const auto* compute = std::get_if<Compute>(&consumer.what);
            // Libraries want memory of its own, and views may show it to them.
            if (is_library(consumer) || (compute == nullptr && !std::holds_alternative<Rowwise>(consumer.what))) return std::nullopt;
            if (compute != nullptr && compute->view.kind != View::Kind::none) return std::nullopt;
        }
        return part_of_channels(id);
    }

    /// Where a value lies among the channels of the one concatenation that reads it, for a convolution to read.
    std::optional<Place> part_of_channels(ValueId id) {
        if (prepared_[static_cast<std::size_t>(id)]) return std::nullopt;
        const Node* join = nullptr;
        for (const auto& [n, k] : consumers_[static_cast<std::size_t>(id)]) {
            const Node& consumer = graph().nodes[static_cast<std::size_t>(n)];
            const auto* compute = std::get_if<Compute>(&consumer.what);
            if (compute == nullptr || compute->op != "Concat") continue;
            if (join != nullptr) return std::nullopt;
            join = &consumer;
        }
        if (join == nullptr || std::count(join->inputs.begin(), join->inputs.end(), id) != 1) return std::nullopt;
        const ValueId whole = join->outputs.front();
        const Dims& dims = value(whole).dims;
        const std::int64_t unit = 128 / bits(value(id).type);
        if (axis_of_parts(*join) != 1 || outputs_.count(whole) != 0 || value(whole).type != value(id).type || dims[1] % unit != 0)
            return std::nullopt;
        const auto& readers = consumers_[static_cast<std::size_t>(whole)];
        const bool convolved = std::any_of(readers.begin(), readers.end(), [&](const auto& use) {
            return use.second == 0 && std::holds_alternative<Convolution>(graph().nodes[static_cast<std::size_t>(use.first)].what);
        });
        if (!convolved) return std::nullopt;
        std::int64_t at = 0;
        for (ValueId part : join->inputs) {
            if (part == id) break;
            at += value(part).dims[1];
        }
        if (at % unit != 0 || value(id).dims[1] % unit != 0) return std::nullopt;
        return Place{whole, strides_in_order(dims, channels_last_order(dims.size())), at};
    }

    /// Keeps the tables of values as long as the values; for one that was just added.
    void grow_with(ValueId id, bool prepared) {
        prepared_.resize(static_cast<std::size_t>(id) + 1, prepared);
        consumers_.resize(static_cast<std::size_t>(id) + 1);
        needs_memory_.resize(static_cast<std::size_t>(id) + 1, true);
    }

    /// A transpose, reshape, slice or broadcast of something in memory is that memory, seen otherwise.
    bool place_as_view(const Node& node, const Compute& compute) {
        const ValueId shown = node.outputs.front();
        if (compute.view.kind == View::Kind::none || (outputs_.count(shown) != 0 && shown_.count(shown) == 0)) return false;
        const ValueId from = node.inputs.front(), to = node.outputs.front();
        const auto& source = place(from);
        // Halves of bytes have no address: only a look at all of them is one at the same memory.
        if (!source || (bits(value(from).type) == 4 && (compute.view.kind != View::Kind::reshape || source->offset != 0))) return false;
        const Dims& in = value(from).dims;
        const Dims& out = value(to).dims;
        Place result{source->root, Dims(out.size(), 0), source->offset};
        switch (compute.view.kind) {
            case View::Kind::transpose:
                for (std::size_t d = 0; d < out.size(); ++d)
                    result.strides[d] = source->strides[static_cast<std::size_t>(compute.view.permutation[d])];
                break;
            case View::Kind::slice:
                for (std::size_t d = 0; d < out.size(); ++d) {
                    result.strides[d] = source->strides[d] * compute.view.step[d];
                    result.offset += source->strides[d] * compute.view.begin[d];
                }
                break;
            case View::Kind::broadcast:
                for (std::size_t d = 0; d < in.size(); ++d) result.strides[d + out.size() - in.size()] = in[d] == 1 ? 0 : source->strides[d];
                break;
            case View::Kind::reshape: {
                const auto strides = reshaped_strides(in, source->strides, out);
                if (!strides) return false;
                result.strides = *strides;
                break;
            }
            case View::Kind::none: return false;
        }
        place(to) = std::move(result);
        return true;
    }

    double times_evaluated(ValueId id) const {
        double times = 0;
        const double size = static_cast<double>(std::max<std::int64_t>(elements(value(id).dims), 1));
        for (const auto& [n, k] : consumers_[static_cast<std::size_t>(id)]) {
            const Node& consumer = out_.graph.nodes[static_cast<std::size_t>(n)];
            double reads = 1, outputs = static_cast<double>(elements(value(consumer.outputs.front()).dims));
            if (const auto* compute = std::get_if<Compute>(&consumer.what)) {
                if (static_cast<std::size_t>(k) < compute->reads.size()) reads = compute->reads[static_cast<std::size_t>(k)];
            } else if (const auto* rowwise = std::get_if<Rowwise>(&consumer.what)) {
                reads = static_cast<double>(rowwise->stages.size()) + (rowwise->per_row ? 0 : 1);
                outputs = static_cast<double>(elements(rowwise->space));
            } else {
                reads = 8;  // unknown
            }
            times += reads * outputs / size;
        }
        return times;
    }

    int inlined_cost(const Node& node, const Compute& compute) const {
        int total = compute.cost;
        for (std::size_t k = 0; k < node.inputs.size(); ++k) {
            if (const auto found = cost_.find(node.inputs[k]); found != cost_.end()) {
                const double reads = k < compute.reads.size() ? compute.reads[k] : 1;
                total += static_cast<int>(found->second * std::max(1.0, reads));
            }
        }
        return total;
    }

    std::set<ValueId> leaves(const Node& node) const {
        std::set<ValueId> all;
        for (ValueId id : node.inputs) {
            if (const auto found = leaves_.find(id); found != leaves_.end()) {
                all.insert(found->second.begin(), found->second.end());
            } else {
                all.insert(id);
            }
        }
        return all;
    }

    bool must_store(ValueId id, const Compute& compute, const Node& node) const {
        if (needs_memory_[static_cast<std::size_t>(id)]) return true;
        if (prepared_[static_cast<std::size_t>(id)]) {
            // Once is better than every time, at the border between the two.
            return std::any_of(consumers_[static_cast<std::size_t>(id)].begin(), consumers_[static_cast<std::size_t>(id)].end(),
                               [&](const auto& use) {
                                   return !prepared_[static_cast<std::size_t>(out_.graph.nodes[static_cast<std::size_t>(use.first)].outputs.front())];
                               });
        }
        const int cost = inlined_cost(node, compute);
        const std::set<ValueId> read = leaves(node);
        const std::size_t distinct = read.size();
        // Numbers of one element are in the code.
        const auto in_memory = std::count_if(read.begin(), read.end(),
                                             [&](ValueId leaf) { return value(leaf).source != Source::constant || elements(value(leaf).dims) != 1; });
        if (cost > kMostInlinedCost || in_memory > kMostLeaves) return true;
        const double times = times_evaluated(id);
        if (times <= 1.01 || cost == 0) return times > 4 && distinct > 2;
        if (times <= 2.01) return cost > 12 || distinct > 2;
        return cost > 1 || distinct > 1;
    }

    /// The memory order for a new value: what its consumers want, else that of the first stored input of the same shape.
    std::vector<int> wanted_order(const Node& node) {
        const ValueId id = node.outputs.front();
        const Dims& dims = value(id).dims;
        std::vector<int> order(dims.size());
        std::iota(order.begin(), order.end(), 0);
        if (outputs_.count(id) != 0) return order;
        for (const auto& [n, k] : consumers_[static_cast<std::size_t>(id)]) {
            if (k == 0 && std::holds_alternative<Excitation>(graph().nodes[static_cast<std::size_t>(n)].what))
                return channels_last_order(dims.size());
            const auto* convolution = std::get_if<Convolution>(&graph().nodes[static_cast<std::size_t>(n)].what);
            if (convolution == nullptr || dims.size() < 3) continue;
            if (k != 2 || !convolution->spec.bias) return channels_last_order(dims.size());
        }
        if (prepared_[static_cast<std::size_t>(id)]) return order;
        std::vector<ValueId> candidates(node.inputs);
        for (std::size_t c = 0; c < candidates.size() && candidates.size() < 64; ++c) {
            const auto& input = place(candidates[c]);
            if (!input) {
                if (const Node* producer = graph().producer(candidates[c]))
                    candidates.insert(candidates.end(), producer->inputs.begin(), producer->inputs.end());
                continue;
            }
            const Value& from = value(candidates[c]);
            if (from.dims.size() != dims.size() || from.source == Source::constant || prepared_[static_cast<std::size_t>(candidates[c])]) continue;
            if (std::count_if(from.dims.begin(), from.dims.end(), [](std::int64_t size) { return size > 1; }) < 2) continue;
            if (dims.size() >= 3 && same_layout(from.dims, input->strides, strides_in_order(from.dims, channels_last_order(dims.size()))) &&
                !same_layout(from.dims, input->strides, row_major_strides(from.dims))) {
                return channels_last_order(dims.size());
            }
            if (from.dims == dims) break;
        }
        return order;
    }

    std::vector<Step>& steps_for(const Node& node) { return prepared_[static_cast<std::size_t>(node.outputs.front())] ? out_.prepare : out_.steps; }

    void emit(KernelSource kernel, const Node& node) {
        if (kernel.launch.grid[0] == 0 || kernel.launch.grid[1] == 0) return;  // no elements
        const auto [found, fresh] = kernel_index_.try_emplace(kernel.text, static_cast<int>(out_.kernels.size()));
        if (fresh) out_.kernels.push_back(std::move(kernel.text));
        steps_for(node).push_back({Step::Kind::kernel, found->second, kernel.launch, std::move(kernel.arguments),
                                   node.name.empty() ? std::string(op_name(node)) : node.name});
    }

    /// Replaces input k of node n by a copy if it does not lie as wanted.
    void require_layout(int n, std::size_t k, const Dims& strides) {
        const ValueId id = graph().nodes[static_cast<std::size_t>(n)].inputs[k];
        const auto& current = place(id);
        if (!current || !same_layout(value(id).dims, current->strides, strides)) copy_into(n, k, strides);
    }

    void copy_into(int n, std::size_t k, const Dims& strides) {
        const ValueId id = graph().nodes[static_cast<std::size_t>(n)].inputs[k];
        Builder builder(graph());
        builder.set_name(graph().nodes[static_cast<std::size_t>(n)].name);
        const ValueId copy = copy_of(builder, id);
        grow_with(copy, prepared_[static_cast<std::size_t>(id)]);
        consumers_[static_cast<std::size_t>(copy)] = {{n, static_cast<int>(k)}};
        place(copy) = Place{copy, strides, 0};
        emit(compute_kernel(graph(), out_.places, copy, target_), graph().nodes.back());
        graph().nodes[static_cast<std::size_t>(n)].inputs[k] = copy;
    }

    void visit_library(int n) {
        std::unique_ptr<LibraryCall> call;
        Node& node = graph().nodes[static_cast<std::size_t>(n)];
        const ValueId output = node.outputs.front();
        const bool empty = elements(value(output).dims) == 0 ||
                           std::any_of(node.inputs.begin(), node.inputs.end(), [&](ValueId id) { return elements(value(id).dims) == 0; });
        if (!empty && std::holds_alternative<Convolution>(node.what) && is_depthwise(std::get<Convolution>(node.what).spec)) return run_depthwise(n);
        if (!empty && std::holds_alternative<Convolution>(node.what) && !prepared_[static_cast<std::size_t>(output)] &&
            is_small_pointwise(std::get<Convolution>(node.what).spec))
            return run_pointwise(n);
        const auto* attention = std::get_if<Attention>(&node.what);
        if (attention != nullptr && !empty && prefers_short_attention(attention->spec, target_)) return run_short_attention(n);
        const auto* product = std::get_if<Matmul>(&node.what);
        if (product != nullptr && !empty && !prepared_[static_cast<std::size_t>(output)] && is_skinny(product->spec)) return run_skinny(n);
        if (!empty && !prepared_[static_cast<std::size_t>(output)]) {
            if (std::holds_alternative<Matmul>(node.what)) {
                call = matmul_call(n);
            } else if (std::holds_alternative<Convolution>(node.what)) {
                call = convolution_call(n);
            } else if (std::holds_alternative<Attention>(node.what)) {
                call = attention_call(n);
            }
        }
        if (call) {
            finish_library(n, std::move(call));
            if (!prepared_[static_cast<std::size_t>(output)]) copy_among_channels(output);
            return;
        }
        if (!empty && !prepared_[static_cast<std::size_t>(output)] && run_bare(n)) return;
        Node& generic = graph().nodes[static_cast<std::size_t>(n)];
        if (std::holds_alternative<Matmul>(generic.what)) {
            generic.what = generic_matmul(graph(), generic);
        } else if (std::holds_alternative<Convolution>(generic.what)) {
            generic.what = generic_convolution(graph(), generic);
        } else if (!empty && is_short_attention(std::get<Attention>(generic.what).spec)) {
            return run_short_attention(n);
        } else {
            throw NoAttention{std::get<Attention>(generic.what).spec};
        }
        place(output) = Place{output, strides_in_order(value(output).dims, wanted_order(Node(generic))), 0};
        const Node copy = graph().nodes[static_cast<std::size_t>(n)];
        emit(compute_kernel(graph(), out_.places, output, target_), copy);
    }

    /// As fast as memory, which the libraries' depthwise engines are far from.
    void run_depthwise(int n) {
        const ConvolutionSpec spec = std::get<Convolution>(graph().nodes[static_cast<std::size_t>(n)].what).spec;
        const Dims x = strides_in_order(value(graph().nodes[static_cast<std::size_t>(n)].inputs[0]).dims, channels_last_order(4));
        require_own_layout(n, 0, x);
        require_own_layout(n, 1, depthwise_weight_strides(spec));
        std::size_t k = 2;
        if (spec.bias) require_own_layout(n, k++, {1});
        const ValueId output = graph().nodes[static_cast<std::size_t>(n)].outputs.front();
        const Dims out = strides_in_order(value(output).dims, channels_last_order(4));
        if (spec.residual) require_own_layout(n, k, out);
        place(output) = Place{output, out, 0};
        emit(depthwise_kernel(graph(), out_.places, graph().nodes[static_cast<std::size_t>(n)], target_),
             Node(graph().nodes[static_cast<std::size_t>(n)]));
    }

    void run_pointwise(int n) {
        const ConvolutionSpec spec = std::get<Convolution>(graph().nodes[static_cast<std::size_t>(n)].what).spec;
        const std::size_t rank = spec.in.size() + 2;
        require_own_layout(n, 0, strides_in_order(value(graph().nodes[static_cast<std::size_t>(n)].inputs[0]).dims, channels_last_order(rank)));
        require_own_layout(n, 1, pointwise_weight_strides(spec));
        std::size_t k = 2;
        if (spec.bias) require_own_layout(n, k++, {1});
        const ValueId output = graph().nodes[static_cast<std::size_t>(n)].outputs.front();
        const Dims out = strides_in_order(value(output).dims, channels_last_order(rank));
        if (spec.residual) require_own_layout(n, k, out);
        auto among = place_among_channels(output);
        place(output) = among ? *std::move(among) : Place{output, out, 0};
        const Node node = graph().nodes[static_cast<std::size_t>(n)];
        emit(pointwise_kernel(graph(), out_.places, node, target_), node);
    }

    void run_excitation(int n) {
        const auto input = [&](std::size_t k) { return graph().nodes[static_cast<std::size_t>(n)].inputs[k]; };
        const Dims x = strides_in_order(value(input(0)).dims, channels_last_order(value(input(0)).dims.size()));
        require_own_layout(n, 0, x);
        const std::size_t inputs = graph().nodes[static_cast<std::size_t>(n)].inputs.size();
        for (std::size_t k = 1; k < inputs; ++k) {
            const Dims& dims = value(input(k)).dims;
            require_own_layout(n, k, dims.size() == 4 ? strides_in_order(dims, channels_last_order(4)) : row_major_strides(dims));
        }
        const ValueId output = graph().nodes[static_cast<std::size_t>(n)].outputs.front();
        place(output) = Place{output, x, 0};
        const Node node = graph().nodes[static_cast<std::size_t>(n)];
        emit(excitation_kernel(graph(), out_.places, node, target_), node);
    }

    /// require_layout(), and an address that 16-byte accesses take.
    void require_own_layout(int n, std::size_t k, const Dims& strides) {
        const ValueId id = graph().nodes[static_cast<std::size_t>(n)].inputs[k];
        const auto& current = place(id);
        if (current && same_layout(value(id).dims, current->strides, strides) && current->offset * bits(value(id).type) % 128 == 0) return;
        copy_into(n, k, strides);
    }

    template <typename Spec>
    std::unique_ptr<LibraryCall> make_call(int n, const Spec& spec) {
        auto call = device_.make(spec);
        if (call) out_.specs.insert_or_assign(n, spec);
        return call;
    }

    void finish_library(int n, std::unique_ptr<LibraryCall> call) {
        out_.workspace_bytes = std::max(out_.workspace_bytes, static_cast<std::int64_t>(call->workspace_bytes()));
        out_.calls[n] = std::move(call);
        const Node& done = graph().nodes[static_cast<std::size_t>(n)];
        // The libraries' order: A, B, result, then the rest.
        const std::size_t operands = std::holds_alternative<Attention>(done.what) ? 3 : 2;
        std::vector<ValueId> arguments(done.inputs.begin(), done.inputs.begin() + static_cast<std::ptrdiff_t>(operands));
        arguments.push_back(done.outputs.front());
        arguments.insert(arguments.end(), done.inputs.begin() + static_cast<std::ptrdiff_t>(operands), done.inputs.end());
        steps_for(done).push_back({Step::Kind::library, n, {}, std::move(arguments), done.name.empty() ? std::string(op_name(done)) : done.name});
    }

    /// The library refused the node with all that was fused into it: the product or convolution alone, then one elementwise kernel for the rest.
    bool run_bare(int n) {
        const Node node = graph().nodes[static_cast<std::size_t>(n)];
        Node bare = node;
        bool bias = false, residual = false;
        Activation activation = Activation::none;
        const auto strip = [&](auto& spec) {
            bias = spec.bias;
            residual = spec.residual;
            activation = spec.activation;
            spec.bias = spec.residual = false;
            spec.activation = Activation::none;
        };
        if (auto* matmul = std::get_if<Matmul>(&bare.what)) strip(matmul->spec);
        if (auto* convolution = std::get_if<Convolution>(&bare.what)) strip(convolution->spec);
        if (!bias && !residual && activation == Activation::none) return false;
        const bool matmul = std::holds_alternative<Matmul>(bare.what);
        bare.inputs.resize(2);
        const Value result = value(node.outputs.front());
        graph().values.push_back({result.type, result.dims, Source::node, static_cast<int>(graph().nodes.size()), {}});
        const auto product = static_cast<ValueId>(graph().values.size() - 1);
        bare.outputs = {product};
        graph().nodes.push_back(bare);
        live_.push_back(true);
        grow_with(product, false);
        consumers_[static_cast<std::size_t>(product)] = {{n, 0}};
        const int added = static_cast<int>(graph().nodes.size() - 1);
        std::unique_ptr<LibraryCall> call = matmul ? matmul_call(added) : convolution_call(added);
        if (!call) return false;
        finish_library(added, std::move(call));

        Compute rest;
        rest.op = "Epilogue";
        rest.cost = 12;
        const std::size_t rank = result.dims.size();
        std::string everywhere;
        for (std::size_t d = 0; d < rank; ++d) everywhere += fmt::format("{}i{}", d == 0 ? "" : ", ", d);
        std::vector<ValueId> inputs{product};
        rest.body = fmt::format("const {} x = in0({})", result.type == Type::f64 ? "f64" : "f32", everywhere);
        std::size_t given = 2;
        bool elementwise = true;
        if (bias) {
            // Seen with the dimensions that it is broadcast along, where it lies in memory.
            ValueId id = node.inputs[given++];
            const auto at = place(id);
            if (at && !matmul) {
                Dims dims(rank - 1, 1), strides(rank - 1, 0);
                dims[0] = value(id).dims[0];
                strides[0] = at->strides[0];
                graph().values.push_back({value(id).type, dims, Source::node, -1, {}});
                id = static_cast<ValueId>(graph().values.size() - 1);
                grow_with(id, prepared_[static_cast<std::size_t>(node.inputs[given - 1])]);
                place(id) = Place{at->root, strides, at->offset};
                rest.body += fmt::format(" + in{}(i1", inputs.size());
                for (std::size_t d = 2; d < rank; ++d) rest.body += ", 0";
                rest.body += ")";
            } else {
                elementwise = matmul;
                rest.body += fmt::format(" + in{}(i{})", inputs.size(), matmul ? rank - 1 : 1);
            }
            inputs.push_back(id);
        }
        if (residual) {
            rest.body += fmt::format(" + in{}({})", inputs.size(), everywhere);
            inputs.push_back(node.inputs[given++]);
        }
        rest.body += fmt::format("; return {};", activation_expression(activation, result.type));
        if (elementwise) {
            std::string sum = fmt::format("const {} x = a", result.type == Type::f64 ? "f64" : "f32");
            for (std::size_t k = 1; k < inputs.size(); ++k) sum += fmt::format(" + {}", static_cast<char>('a' + k));
            rest.expression = sum + fmt::format("; return {};", activation_expression(activation, result.type));
        }
        Node& final = graph().nodes[static_cast<std::size_t>(n)];
        final.what = std::move(rest);
        final.inputs = std::move(inputs);
        const ValueId output = final.outputs.front();
        if (outputs_.count(output) != 0 || matmul) {
            place_row_major(output);
        } else {
            place(output) = Place{output, strides_in_order(result.dims, channels_last_order(rank)), 0};
        }
        const Node done = graph().nodes[static_cast<std::size_t>(n)];
        emit(compute_kernel(graph(), out_.places, output, target_), done);
        return true;
    }

    std::unique_ptr<LibraryCall> matmul_call(int n) {
        Node& node = graph().nodes[static_cast<std::size_t>(n)];
        MatmulSpec spec = std::get<Matmul>(node.what).spec;
        const auto fit = [&](std::size_t k, std::int64_t& row_stride, std::int64_t& batch_stride, bool& transpose) {
            for (int attempt = 0; attempt < 2; ++attempt) {
                const ValueId id = graph().nodes[static_cast<std::size_t>(n)].inputs[k];
                const Dims& dims = value(id).dims;
                const auto& at = place(id);
                // Engines are chosen for addresses that are multiples of 16 bytes.
                if (at && at->offset * bits(value(id).type) % 128 == 0) {
                    const std::int64_t rows = dims[1], columns = dims[2];
                    const std::int64_t r = rows == 1 ? std::max<std::int64_t>(columns, 1) : at->strides[1], c = columns == 1 ? 1 : at->strides[2];
                    batch_stride = dims[0] == 1 ? 0 : at->strides[0];
                    // Integers: k side by side in both, in sixteens.
                    const bool whole = spec.type != Type::i8 || r % 16 == 0 || attempt == 1;
                    if (c == 1 && r >= columns && whole) {
                        row_stride = r;
                        return;
                    }
                    const std::int64_t c2 = columns == 1 ? std::max<std::int64_t>(rows, 1) : at->strides[2], r2 = rows == 1 ? 1 : at->strides[1];
                    if (r2 == 1 && c2 >= rows && spec.type != Type::i8) {  // stored transposed
                        row_stride = c2;
                        transpose = !transpose;
                        return;
                    }
                }
                require_own_layout(n, k, row_major_strides(dims));
            }
        };
        fit(0, spec.row_stride_a, spec.batch_stride_a, spec.transpose_a);
        fit(1, spec.row_stride_b, spec.batch_stride_b, spec.transpose_b);
        const std::size_t residual = spec.bias ? 3 : 2;
        if (spec.bias) require_own_layout(n, 2, {1});
        if (spec.residual)
            require_own_layout(n, residual, row_major_strides(value(graph().nodes[static_cast<std::size_t>(n)].inputs[residual]).dims));
        spec.row_stride_d = spec.n;
        spec.batch_stride_d = spec.m * spec.n;
        auto call = make_call(n, spec);
        if (call) place_row_major(graph().nodes[static_cast<std::size_t>(n)].outputs.front());
        return call;
    }

    std::unique_ptr<LibraryCall> convolution_call(int n) {
        const ConvolutionSpec spec = std::get<Convolution>(graph().nodes[static_cast<std::size_t>(n)].what).spec;
        auto call = make_call(n, spec);
        if (!call) return nullptr;
        const auto channels_last = [&](std::size_t k) {
            const Dims& dims = value(graph().nodes[static_cast<std::size_t>(n)].inputs[k]).dims;
            require_layout(n, k, strides_in_order(dims, channels_last_order(dims.size())));
        };
        channels_last(0);
        channels_last(1);
        if (spec.residual) channels_last(spec.bias ? 3 : 2);
        const ValueId output = graph().nodes[static_cast<std::size_t>(n)].outputs.front();
        place(output) = Place{output, strides_in_order(value(output).dims, channels_last_order(value(output).dims.size())), 0};
        return call;
    }

    void run_skinny(int n) {
        MatmulSpec spec = std::get<Matmul>(graph().nodes[static_cast<std::size_t>(n)].what).spec;
        const auto input = [&](std::size_t k) { return graph().nodes[static_cast<std::size_t>(n)].inputs[k]; };
        // Rows along k: of A, and of B as it stands for n columns.
        const auto fit = [&](std::size_t k, bool swapped, std::int64_t& row_stride) {
            const std::size_t rows = swapped ? 2 : 1, inner = 3 - rows;
            const Dims dims = value(input(k)).dims;  // a copy grows the graph
            const auto stride = [&](std::size_t d) { return dims[d] == 1 ? (d == inner ? 1 : spec.k) : place(input(k))->strides[d]; };
            if (!place(input(k)) || !fits_skinny(spec, stride(rows), stride(inner), place(input(k))->offset)) {
                Dims strides(3, spec.k);
                strides[0] = dims[1] * dims[2];
                strides[inner] = 1;
                copy_into(n, k, strides);
            }
            row_stride = stride(rows);
        };
        fit(0, spec.transpose_a, spec.row_stride_a);
        fit(1, !spec.transpose_b, spec.row_stride_b);
        std::size_t k = 2;
        if (spec.bias) require_layout(n, k++, {1});
        if (spec.residual) require_layout(n, k, row_major_strides(value(input(k)).dims));
        place_row_major(graph().nodes[static_cast<std::size_t>(n)].outputs.front());
        const Node node = graph().nodes[static_cast<std::size_t>(n)];
        emit(skinny_kernel(graph(), out_.places, node, spec, target_), node);
    }

    void run_packed(int n) {
        PackedProduct what = std::get<PackedProduct>(graph().nodes[static_cast<std::size_t>(n)].what);
        const auto input = [&](std::size_t k) { return graph().nodes[static_cast<std::size_t>(n)].inputs[k]; };
        const Dims dims = value(input(0)).dims;  // a copy grows the graph
        const std::size_t rows = what.spec.transpose_a ? 2 : 1, inner = 3 - rows;
        const auto stride = [&](std::size_t d) { return dims[d] == 1 ? (d == inner ? 1 : what.spec.k) : place(input(0))->strides[d]; };
        if (!place(input(0)) || !fits_skinny(what.spec, stride(rows), stride(inner), place(input(0))->offset)) {
            Dims strides(3, what.spec.k);
            strides[0] = dims[1] * dims[2];
            strides[inner] = 1;
            copy_into(n, 0, strides);
        }
        what.spec.row_stride_a = stride(rows);
        const std::size_t inputs = graph().nodes[static_cast<std::size_t>(n)].inputs.size();
        for (std::size_t k = 1; k < inputs; ++k) require_own_layout(n, k, row_major_strides(value(input(k)).dims));
        place_row_major(graph().nodes[static_cast<std::size_t>(n)].outputs.front());
        const Node node = graph().nodes[static_cast<std::size_t>(n)];
        emit(packed_kernel(graph(), out_.places, node, what, target_), node);
    }

    void run_short_attention(int n) {
        AttentionSpec spec = std::get<Attention>(graph().nodes[static_cast<std::size_t>(n)].what).spec;
        const auto input = [&](std::size_t k) { return graph().nodes[static_cast<std::size_t>(n)].inputs[k]; };
        Dims* strides[] = {&spec.q_strides, &spec.k_strides, &spec.v_strides};
        for (std::size_t k = 0; k < 3; ++k) {
            const auto& at = place(input(k));
            if (!at || !fits_short_attention(at->strides, at->offset)) copy_into(n, k, row_major_strides(value(input(k)).dims));
            *strides[k] = place(input(k))->strides;
        }
        bool fragments = false;
        if (spec.mask) {
            spec.mask_dims = value(input(3)).dims;
            fragments = has_fast_form(target_) && prepared_[static_cast<std::size_t>(input(3))];
            if (fragments) {
                const Fragments form = mask_fragments(spec, spec.mask_dims);
                Builder builder(graph());
                builder.set_name(graph().nodes[static_cast<std::size_t>(n)].name);
                const ValueId made = builder.compute(spec.type, form.dims, {input(3)}, {"Fragments", form.body, 1, {}, {}});
                grow_with(made, true);
                place_row_major(made);
                emit(compute_kernel(graph(), out_.places, made, target_), Node(graph().nodes.back()));
                graph().nodes[static_cast<std::size_t>(n)].inputs[3] = made;
            } else if (!place(input(3))) {
                require_layout(n, 3, row_major_strides(value(input(3)).dims));
            }
            spec.mask_strides = place(input(3))->strides;
        }
        // Heads side by side: what the transpose and reshape after it want.
        const ValueId output = graph().nodes[static_cast<std::size_t>(n)].outputs.front();
        place(output) = Place{output, strides_in_order(value(output).dims, {0, 2, 1, 3}), 0};
        spec.o_strides = place(output)->strides;
        const Node node = graph().nodes[static_cast<std::size_t>(n)];
        emit(short_attention_kernel(node, spec, fragments, target_), node);
    }

    std::unique_ptr<LibraryCall> attention_call(int n) {
        AttentionSpec spec = std::get<Attention>(graph().nodes[static_cast<std::size_t>(n)].what).spec;
        // Libraries know no masks that come round again.
        if (spec.mask && value(graph().nodes[static_cast<std::size_t>(n)].inputs[3]).dims[0] != 1 &&
            value(graph().nodes[static_cast<std::size_t>(n)].inputs[3]).dims[0] != spec.batch)
            return nullptr;
        Dims* strides[] = {&spec.q_strides, &spec.k_strides, &spec.v_strides};
        for (std::size_t k = 0; k < 3; ++k) {
            const auto input = [&] { return graph().nodes[static_cast<std::size_t>(n)].inputs[k]; };
            const auto& at = place(input());
            // Features side by side at addresses that are multiples of 16 bytes is all that the library asks.
            const std::int64_t unit = 128 / bits(value(input()).type);
            bool fits = at && at->strides[3] == 1 && at->strides[2] != 0 && at->offset % unit == 0;
            for (std::size_t d = 0; fits && d < 3; ++d) fits = value(input()).dims[d] == 1 || at->strides[d] % unit == 0;
            if (!fits) require_own_layout(n, k, row_major_strides(value(input()).dims));
            *strides[k] = place(input())->strides;
        }
        if (spec.mask) {
            const auto input = [&] { return graph().nodes[static_cast<std::size_t>(n)].inputs[3]; };
            if (!place(input())) require_layout(n, 3, row_major_strides(value(input()).dims));
            spec.mask_dims = value(input()).dims;
            spec.mask_strides = place(input())->strides;
        }
        // Heads side by side: what the transpose and reshape after it want.
        const ValueId output = graph().nodes[static_cast<std::size_t>(n)].outputs.front();
        place(output) = Place{output, strides_in_order(value(output).dims, {0, 2, 1, 3}), 0};
        spec.o_strides = place(output)->strides;
        return make_call(n, spec);
    }

    void plan() {
        // Roots that each list of steps touches, first and last.
        const auto lifetimes = [&](const std::vector<Step>& steps) {
            std::map<ValueId, Lifetime> all;
            for (std::size_t s = 0; s < steps.size(); ++s) {
                for (ValueId id : steps[s].arguments) {
                    if (!place(id)) continue;
                    const ValueId root = place(id)->root;
                    const auto [found, fresh] =
                        all.try_emplace(root, Lifetime{std::max<std::int64_t>(bytes(value(root).type, value(root).dims), 0), static_cast<int>(s), 0});
                    found->second.last = static_cast<int>(s);
                }
            }
            return all;
        };
        auto once = lifetimes(out_.prepare), always = lifetimes(out_.steps);
        std::set<ValueId> weights, preparation_weights, prepared;
        for (const auto& [root, life] : always) {
            if (value(root).source == Source::constant) weights.insert(root);
        }
        for (const auto& [root, life] : once) {
            if (value(root).source == Source::constant && weights.count(root) == 0) preparation_weights.insert(root);
        }
        for (const auto& [root, life] : always) {
            if (value(root).source == Source::node && prepared_[static_cast<std::size_t>(root)]) prepared.insert(root);
        }
        for (ValueId id : graph().outputs) {
            if (prepared_[static_cast<std::size_t>(id)]) prepared.insert(place(id)->root);
        }
        const auto pack = [&](const std::map<ValueId, Lifetime>& all, std::map<ValueId, std::int64_t>& offsets, std::int64_t& total,
                              const std::set<ValueId>& elsewhere) {
            std::vector<ValueId> roots;
            std::vector<Lifetime> lives;
            for (const auto& [root, life] : all) {
                if (value(root).source == Source::constant || elsewhere.count(root) != 0) continue;
                roots.push_back(root);
                lives.push_back(life);
            }
            const MemoryPlan memory = plan_memory(lives);
            for (std::size_t i = 0; i < roots.size(); ++i) offsets[roots[i]] = total + memory.offsets[i];
            total += memory.bytes;
        };
        // Inputs and outputs live from the first step to the last. They stand at the arena's beginning side by side: one copy moves all that are
        // small.
        std::int64_t bound = 0;
        const auto bind = [&](ValueId root) {
            if (prepared.count(root) != 0 || !out_.arena_offsets.emplace(root, bound).second) return;
            always.erase(root);
            bound += (bytes(value(root).type, value(root).dims) + 255) / 256 * 256;
        };
        for (ValueId id : graph().inputs) bind(id);
        for (ValueId id : graph().outputs) bind(place(id)->root);
        out_.arena_bytes = bound;
        pack(once, out_.preparation_offsets, out_.preparation_bytes, prepared);
        pack(always, out_.arena_offsets, out_.arena_bytes, prepared);
        out_.weights.assign(weights.begin(), weights.end());
        out_.preparation_weights.assign(preparation_weights.begin(), preparation_weights.end());
        out_.prepared.assign(prepared.begin(), prepared.end());
        const auto sum = [&](const std::vector<ValueId>& roots) {
            std::int64_t total = 0;
            for (ValueId root : roots) total += (bytes(value(root).type, value(root).dims) + 255) / 256 * 256;
            return total;
        };
        out_.weight_bytes = sum(out_.weights) + sum(out_.prepared);
        out_.preparation_weight_bytes = sum(out_.preparation_weights);
    }

    Device& device_;
    Schedule out_;
    CodegenTarget target_;
    std::set<ValueId> outputs_;  // the graph's, and what those of `shown_` show
    std::set<ValueId> shown_;    // outputs that are another value, reshaped
    std::set<ValueId> copied_;   // parts of concatenations that lie there already
    std::vector<bool> live_;
    std::vector<std::vector<std::pair<int, int>>> consumers_;  // per value: node, input
    std::vector<bool> prepared_;                               // depends on constants alone
    std::vector<bool> needs_memory_;
    std::map<ValueId, int> cost_;
    std::map<ValueId, std::set<ValueId>> leaves_;
    std::map<std::string, int> kernel_index_;
};

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
    graph = recognise_attention(simplify(integer_products(choose_recurrences(std::move(graph), device))));
    graph = expand_attention(std::move(graph), [](const AttentionSpec& spec) { return spec.type != Type::f16 && spec.type != Type::bf16; });
    graph = pad_depths(merge_products(keep_packed(recognise_excitation(products_of_patches(fuse(std::move(graph)))))));
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
    const int shift = (at & 1) ? 4 : 0;
    p[at >> 1] = (u8)((p[at >> 1] & ~(15 << shift)) | ((value & 15) << shift));
}
)";
    for (std::size_t k = 0; k < schedule.kernels.size(); ++k) {
        source.names.push_back(fmt::format("k{}", k));
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
