// SPDX-License-Identifier: Apache-2.0
/// How make_schedule() goes through a graph. Internal to program/.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "program/library_calls.hpp"
#include "program/schedule.hpp"

namespace ai_vmm::cuda {

/// Strides of dense memory in which the last dimension of `order` is innermost.
[[nodiscard]] Dims strides_in_order(const Dims& dims, const std::vector<int>& order);
/// (N, C, spatial..) with the channels innermost.
[[nodiscard]] std::vector<int> channels_last_order(std::size_t rank);
/// Whether two strides give every element of `dims` the same place.
[[nodiscard]] bool same_layout(const Dims& dims, const Dims& a, const Dims& b);

/// What kernels for a device depend on.
[[nodiscard]] CodegenTarget target_of(const Device& device);

/// No library takes an Attention node.
struct NoAttention {
    AttentionSpec spec;
};

/// Of one graph: decides what is stored and where, asks the device for library calls, generates kernels, and plans the memory. Used once.
class Scheduler {
public:
    Scheduler(Graph graph, Device& device) : device_(device), calls_(device), target_(target_of(device)) { out_.graph = std::move(graph); }
    Schedule run();

private:
    Graph& graph() { return out_.graph; }
    const Value& value(ValueId id) const { return out_.graph.value(id); }
    std::optional<Place>& place(ValueId id);
    void place_row_major(ValueId id) { place(id) = Place{id, row_major_strides(value(id).dims), 0}; }
    /// Every output is written by a node, row-major, and to one place.
    void give_outputs_memory_of_their_own();
    /// What `id` shows through reshapes.
    ValueId reshaped(ValueId id);
    /// Whether a value can be stored row-major where it is made.
    bool lies_row_major(ValueId id);
    ValueId copy_of(Builder& builder, ValueId id);
    /// A copy of `part` that is to lie at `target`.
    ValueId placed_copy(ValueId part, Place target, Type type, const std::string& name);
    void remove_dead_nodes();
    void find_consumers();
    void visit(int n);
    std::vector<ValueId> arguments_of(int n);
    void visit_compute(int n, const Node& node, const Compute& compute);
    /// A large concatenation: one copy per part, each as fast as memory, instead of one kernel that asks for every element where it comes from.
    bool store_by_parts(const Node& node);
    void copy_to(ValueId part, Place target, Type type, const std::string& name);
    /// What a library has made of a concatenation's channels is copied there at once, while it is in the device's cache.
    void copy_among_channels(ValueId id);
    /// Whether a node is to come that reads each element of such a part once: that one's kernel copies it, as long as it waits for that.
    bool is_copied_later(ValueId id);
    /// The kernel of a placed Compute node that also does the copy of its input that waited for it.
    void emit_copying(const Node& node);
    /// The dimension that a concatenation which is stored by parts joins.
    [[nodiscard]] std::optional<std::size_t> axis_of_parts(const Node& node) const;
    /// The place of a value among the channels of the concatenation that reads it, where nothing asks for it elsewhere: a generated kernel may store
    /// it there. Not a library: cuDNN's engines for strided results are a pass over them slower than a copy.
    std::optional<Place> place_among_channels(ValueId id);
    /// Where a value lies among the channels of the one concatenation that reads it, for a convolution to read.
    std::optional<Place> part_of_channels(ValueId id);
    /// Keeps the tables of values as long as the values; for one that was just added.
    void grow_with(ValueId id, bool prepared);
    /// A transpose, reshape, slice or broadcast of something in memory is that memory, seen otherwise.
    bool place_as_view(const Node& node, const Compute& compute);
    double times_evaluated(ValueId id) const;
    int inlined_cost(const Node& node, const Compute& compute) const;
    std::set<ValueId> leaves(const Node& node) const;
    bool must_store(ValueId id, const Compute& compute, const Node& node) const;
    /// The memory order for a new value: what its consumers want, else that of the first stored input of the same shape.
    std::vector<int> wanted_order(const Node& node);
    std::vector<Step>& steps_for(const Node& node) { return prepared_[static_cast<std::size_t>(node.outputs.front())] ? out_.prepare : out_.steps; }
    void emit(KernelSource kernel, const Node& node);
    /// Replaces input k of node n by a copy if it does not lie as wanted.
    void require_layout(int n, std::size_t k, const Dims& strides);
    void copy_into(int n, std::size_t k, const Dims& strides);
    void visit_library(int n);
    /// As fast as memory, which the libraries' depthwise engines are far from.
    void run_depthwise(int n);
    void run_pointwise(int n);
    void run_stem(int n);
    void run_pixel_product(int n);
    /// Replaces input k of node n by its fragments.
    void require_fragments(int n, std::size_t k, const Fragments& form);
    /// Among the channels of the concatenation that reads it, or by itself.
    void place_channels_last(ValueId id);
    /// Whether a generated kernel reads a node's input through whatever stands before it, instead of from memory.
    [[nodiscard]] bool reads_through(const Node& node, std::size_t k) const;
    void run_excitation(int n);
    /// require_layout(), and an address that 16-byte accesses take.
    void require_own_layout(int n, std::size_t k, const Dims& strides);
    template <typename Spec>
    std::shared_ptr<LibraryCall> make_call(int n, const Spec& spec) {
        auto call = calls_.make(spec);
        if (call) out_.specs.insert_or_assign(n, spec);
        return call;
    }
    void finish_library(int n, std::shared_ptr<LibraryCall> call);
    /// The library refused the node with all that was fused into it: the product or convolution alone, then one elementwise kernel for the rest.
    bool run_bare(int n);
    std::shared_ptr<LibraryCall> matmul_call(int n);
    std::shared_ptr<LibraryCall> convolution_call(int n);
    void run_skinny(int n);
    void run_packed(int n);
    /// Few keys, or few queries.
    void run_generated_attention(int n);
    std::shared_ptr<LibraryCall> attention_call(int n);
    void plan();
    Device& device_;
    LibraryCalls calls_;
    Schedule out_;
    CodegenTarget target_;
    std::set<ValueId> outputs_;  // the graph's, and what those of `shown_` show
    std::set<ValueId> shown_;    // outputs that are another value, reshaped
    std::set<ValueId> copied_;   // parts of concatenations that lie there already
    std::set<ValueId> waiting_;  // parts that a node to come copies there
    std::vector<bool> live_;
    std::vector<std::vector<std::pair<int, int>>> consumers_;  // per value: node, input
    std::vector<bool> prepared_;                               // depends on constants alone
    std::vector<bool> needs_memory_;
    std::map<ValueId, int> cost_;
    std::map<ValueId, std::set<ValueId>> leaves_;
    std::map<std::string, int> kernel_index_;
};

}  // namespace ai_vmm::cuda
