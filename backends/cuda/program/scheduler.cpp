// SPDX-License-Identifier: Apache-2.0
#include "program/scheduler.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <numeric>

#include "codegen/kernels.hpp"
#include "program/memory_plan.hpp"

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

}  // namespace

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

CodegenTarget target_of(const Device& device) {
    const Capabilities& capabilities = device.capabilities();
    return {capabilities.threads_per_block, capabilities.multiprocessors, capabilities.compute_major >= 8};
}

Schedule Scheduler::run() {
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

std::optional<Place>& Scheduler::place(ValueId id) {
    if (out_.places.size() <= static_cast<std::size_t>(id)) out_.places.resize(graph().values.size());
    return out_.places[static_cast<std::size_t>(id)];
}

void Scheduler::give_outputs_memory_of_their_own() {
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

ValueId Scheduler::reshaped(ValueId id) {
    for (const Node* node = graph().producer(id); node != nullptr; node = graph().producer(id)) {
        const auto* compute = std::get_if<Compute>(&node->what);
        if (compute == nullptr || compute->view.kind != View::Kind::reshape) break;
        id = node->inputs.front();
    }
    return id;
}

bool Scheduler::lies_row_major(ValueId id) {
    const Node* node = graph().producer(id);
    if (node == nullptr || std::holds_alternative<Convolution>(node->what) || std::holds_alternative<Attention>(node->what) ||
        std::holds_alternative<Excitation>(node->what))
        return false;
    const auto* compute = std::get_if<Compute>(&node->what);
    return compute == nullptr || compute->view.kind == View::Kind::none;
}

ValueId Scheduler::copy_of(Builder& builder, ValueId id) {
    std::vector<std::string> indices;
    for (std::size_t d = 0; d < value(id).dims.size(); ++d) indices.push_back(fmt::format("i{}", d));
    return builder.compute(value(id).type, value(id).dims, {id}, {"Copy", fmt::format("return in0({});", fmt::join(indices, ", ")), 0, {}, {}, "a"});
}

void Scheduler::remove_dead_nodes() {
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

void Scheduler::find_consumers() {
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
        for (std::size_t k = 0; k < node.inputs.size(); ++k) {
            if ((reads_memory && !reads_through(node, k)) || (view && needs_memory_[static_cast<std::size_t>(node.outputs.front())]))
                needs_memory_[static_cast<std::size_t>(node.inputs[k])] = true;
        }
    }
}

void Scheduler::visit(int n) {
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

std::vector<ValueId> Scheduler::arguments_of(int n) {
    const Node& node = graph().nodes[static_cast<std::size_t>(n)];
    std::vector<ValueId> all = node.inputs;
    all.insert(all.end(), node.outputs.begin(), node.outputs.end());
    return all;
}

void Scheduler::visit_compute(int n, const Node& node, const Compute& compute) {
    const ValueId id = node.outputs.front();
    if (place_as_view(node, compute)) return;
    const bool copies = compute.each_once && waiting_.count(node.inputs.front()) != 0;
    if (outputs_.count(id) != 0) {
        place_row_major(id);
    } else if (must_store(id, compute, node)) {
        auto among = compute.op == "Concat" ? std::nullopt : place_among_channels(id);
        place(id) = among ? *std::move(among) : Place{id, strides_in_order(value(id).dims, wanted_order(node)), 0};
    } else {
        cost_[id] = inlined_cost(node, compute);
        leaves_[id] = leaves(node);
        if (copies) copy_among_channels(node.inputs.front());
        return;
    }
    (void)n;
    if (copies) return emit_copying(node);
    if (compute.op == "Concat" && store_by_parts(node)) return;
    emit(compute_kernel(graph(), out_.places, id, target_), node);
}

bool Scheduler::store_by_parts(const Node& node) {
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
        waiting_.erase(part);
        const Place target = *place(id);
        copy_to(part, Place{target.root, target.strides, target.offset + at * target.strides[axis]}, whole.type, node.name);
        at += value(part).dims[axis];
    }
    return true;
}

ValueId Scheduler::placed_copy(ValueId part, Place target, Type type, const std::string& name) {
    Builder builder(graph());
    builder.set_name(name);
    const ValueId copy = copy_of(builder, part);
    graph().values[static_cast<std::size_t>(copy)].type = type;
    grow_with(copy, prepared_[static_cast<std::size_t>(target.root)]);
    place(copy) = std::move(target);
    return copy;
}

void Scheduler::copy_to(ValueId part, Place target, Type type, const std::string& name) {
    const ValueId copy = placed_copy(part, std::move(target), type, name);
    emit(compute_kernel(graph(), out_.places, copy, target_), Node(graph().nodes.back()));
}

void Scheduler::emit_copying(const Node& node) {
    const ValueId part = node.inputs.front();
    waiting_.erase(part);
    copied_.insert(part);
    auto target = part_of_channels(part);
    const std::string name = graph().producer(target->root)->name;
    const ValueId copy = placed_copy(part, *std::move(target), value(part).type, name);
    const Node copying = graph().nodes.back();
    if (auto both = copying_kernel(graph(), out_.places, node.outputs.front(), copy, target_)) return emit(*std::move(both), node);
    emit(compute_kernel(graph(), out_.places, copy, target_), copying);
    emit(compute_kernel(graph(), out_.places, node.outputs.front(), target_), node);
}

bool Scheduler::is_copied_later(ValueId id) {
    const auto& readers = consumers_[static_cast<std::size_t>(id)];
    const bool later = part_of_channels(id) && std::any_of(readers.begin(), readers.end(), [&](const auto& use) {
                           const auto* compute = std::get_if<Compute>(&graph().nodes[static_cast<std::size_t>(use.first)].what);
                           return compute != nullptr && compute->each_once;
                       });
    if (later) waiting_.insert(id);
    return later;
}

void Scheduler::copy_among_channels(ValueId id) {
    auto target = part_of_channels(id);
    if (!target) return;
    waiting_.erase(id);
    const std::string name = graph().producer(target->root)->name;
    copied_.insert(id);
    copy_to(id, *std::move(target), value(id).type, name);
}

std::optional<std::size_t> Scheduler::axis_of_parts(const Node& node) const {
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

std::optional<Place> Scheduler::place_among_channels(ValueId id) {
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

std::optional<Place> Scheduler::part_of_channels(ValueId id) {
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
    if (axis_of_parts(*join) != 1 || outputs_.count(whole) != 0 || value(whole).type != value(id).type || dims[1] % unit != 0) return std::nullopt;
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

void Scheduler::grow_with(ValueId id, bool prepared) {
    prepared_.resize(static_cast<std::size_t>(id) + 1, prepared);
    consumers_.resize(static_cast<std::size_t>(id) + 1);
    needs_memory_.resize(static_cast<std::size_t>(id) + 1, true);
}

bool Scheduler::place_as_view(const Node& node, const Compute& compute) {
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
            for (std::size_t d = 0; d < out.size(); ++d) result.strides[d] = source->strides[static_cast<std::size_t>(compute.view.permutation[d])];
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

double Scheduler::times_evaluated(ValueId id) const {
    double times = 0;
    const double size = static_cast<double>(std::max<std::int64_t>(elements(value(id).dims), 1));
    for (const auto& [n, k] : consumers_[static_cast<std::size_t>(id)]) {
        const Node& consumer = out_.graph.nodes[static_cast<std::size_t>(n)];
        double reads = 1, outputs = static_cast<double>(elements(value(consumer.outputs.front()).dims));
        if (reads_through(consumer, static_cast<std::size_t>(k))) {
            times += 1.5;  // once, and what neighbouring tiles share
            continue;
        }
        if (const auto* compute = std::get_if<Compute>(&consumer.what)) {
            if (static_cast<std::size_t>(k) < compute->reads.size()) reads = compute->reads[static_cast<std::size_t>(k)];
        } else if (const auto* rowwise = std::get_if<Rowwise>(&consumer.what)) {
            reads = static_cast<double>(rowwise->stages.size()) + (rowwise->per_row ? 0 : 1);
            outputs = static_cast<double>(elements(rowwise->space));
        } else {
            reads = 8;  // unknown
            if (const auto* custom = std::get_if<Custom>(&consumer.what)) {
                for (const Custom::Phase& phase : custom->phases) outputs = std::max(outputs, static_cast<double>(phase.threads));
            }
        }
        times += reads * outputs / size;
    }
    return times;
}

int Scheduler::inlined_cost(const Node& node, const Compute& compute) const {
    int total = compute.cost;
    for (std::size_t k = 0; k < node.inputs.size(); ++k) {
        if (const auto found = cost_.find(node.inputs[k]); found != cost_.end()) {
            const double reads = k < compute.reads.size() ? compute.reads[k] : 1;
            total += static_cast<int>(found->second * std::max(1.0, reads));
        }
    }
    return total;
}

std::set<ValueId> Scheduler::leaves(const Node& node) const {
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

bool Scheduler::must_store(ValueId id, const Compute& compute, const Node& node) const {
    if (needs_memory_[static_cast<std::size_t>(id)]) return true;
    if (prepared_[static_cast<std::size_t>(id)]) {
        // Once is better than every time, at the border between the two.
        return std::any_of(consumers_[static_cast<std::size_t>(id)].begin(), consumers_[static_cast<std::size_t>(id)].end(), [&](const auto& use) {
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

std::vector<int> Scheduler::wanted_order(const Node& node) {
    const ValueId id = node.outputs.front();
    const Dims& dims = value(id).dims;
    std::vector<int> order(dims.size());
    std::iota(order.begin(), order.end(), 0);
    if (outputs_.count(id) != 0) return order;
    for (const auto& [n, k] : consumers_[static_cast<std::size_t>(id)]) {
        if (k == 0 && std::holds_alternative<Excitation>(graph().nodes[static_cast<std::size_t>(n)].what)) return channels_last_order(dims.size());
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

void Scheduler::emit(KernelSource kernel, const Node& node) {
    if (kernel.launch.grid[0] == 0 || kernel.launch.grid[1] == 0) return;  // no elements
    const auto [found, fresh] = kernel_index_.try_emplace(kernel.text, static_cast<int>(out_.kernels.size()));
    if (fresh) out_.kernels.push_back(std::move(kernel.text));
    steps_for(node).push_back(
        {Step::Kind::kernel, found->second, kernel.launch, std::move(kernel.arguments), node.name.empty() ? std::string(op_name(node)) : node.name});
}

void Scheduler::require_layout(int n, std::size_t k, const Dims& strides) {
    const ValueId id = graph().nodes[static_cast<std::size_t>(n)].inputs[k];
    const auto& current = place(id);
    if (!current || !same_layout(value(id).dims, current->strides, strides)) copy_into(n, k, strides);
}

void Scheduler::copy_into(int n, std::size_t k, const Dims& strides) {
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

void Scheduler::plan() {
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

}  // namespace ai_vmm::cuda
