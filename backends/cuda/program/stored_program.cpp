// SPDX-License-Identifier: Apache-2.0
#include "program/stored_program.hpp"

#include <algorithm>
#include <concepts>
#include <cstdint>
#include <cstring>
#include <ostream>
#include <type_traits>

#include "ai_vmm/error.hpp"
#include "archive.hpp"

namespace ai_vmm::cuda {

// One list of members for both directions; found by the types' namespace.
template <typename A>
void fields(A& a, MatmulSpec& s) {
    a(s.m, s.n, s.k, s.batch, s.transpose_a, s.transpose_b, s.row_stride_a, s.row_stride_b, s.row_stride_d, s.batch_stride_a, s.batch_stride_b,
      s.batch_stride_d, s.type, s.result, s.bias_type, s.bias, s.residual, s.tf32, s.alpha, s.activation);
}
template <typename A>
void fields(A& a, ConvolutionSpec& s) {
    a(s.batch, s.channels_in, s.channels_out, s.groups, s.in, s.kernel, s.out, s.stride, s.dilation, s.pad_begin, s.pad_end, s.type, s.result,
      s.bias_type, s.scale, s.bias, s.residual, s.tf32, s.transposed, s.activation);
}
template <typename A>
void fields(A& a, AttentionSpec& s) {
    a(s.batch, s.heads, s.kv_heads, s.queries, s.keys, s.head_size, s.value_size, s.q_strides, s.k_strides, s.v_strides, s.o_strides, s.type, s.scale,
      s.causal, s.mask, s.mask_dims, s.mask_strides);
}
template <typename A>
void fields(A& a, RecurrentSpec& s) {
    a(s.cell, s.steps, s.batch, s.input, s.hidden, s.directions, s.type, s.tf32);
}
template <typename A>
void fields(A& a, Place& p) {
    a(p.root, p.strides, p.offset);
}
template <typename A>
void fields(A& a, Step& s) {
    a(s.kind, s.index, s.launch.grid[0], s.launch.grid[1], s.launch.grid[2], s.launch.block[0], s.launch.block[1], s.launch.block[2], s.launch.limit,
      s.arguments, s.label);
}
template <typename A>
void fields(A& a, Value& v) {
    a(v.type, v.dims, v.source, v.index);
}
template <typename A>
void fields(A& a, CallSpec& spec) {
    a.choice(spec);
}
template <typename A>
void fields(A& a, Schedule& s) {
    a(s.graph.values, s.graph.inputs, s.graph.outputs, s.places, s.kernels, s.steps, s.weights, s.prepared, s.arena_offsets, s.arena_bytes,
      s.weight_bytes, s.workspace_bytes, s.specs);
}

namespace {

constexpr std::string_view kFormat = "ai_vmm cuda program 3\n";

[[noreturn]] void damaged(const char* what) {
    throw Error(ErrorCode::data_loss, ErrorCategory::compilation, std::string("the stored program is damaged: ") + what);
}

void require(bool holds, const char* what) {
    if (!holds) damaged(what);
}

constexpr std::int64_t kMostBytes = std::int64_t{1} << 46;

/// Whether every dimension and their product are sizes that a device could hold.
bool sane(const Value& value) {
    if (value.type > Type::boolean || value.source > Source::node) return false;
    std::int64_t total = 1;
    for (std::int64_t size : value.dims) {
        if (size < 0 || size > kMostBytes) return false;
        if (size != 0 && total > kMostBytes / size) return false;
        total *= size;
    }
    return true;
}

bool within(std::int64_t least, std::initializer_list<std::int64_t> numbers) {
    return std::ranges::all_of(numbers, [&](std::int64_t number) { return number >= least && number <= kMostBytes; });
}

bool within(std::int64_t least, std::size_t rank, std::initializer_list<const Dims*> all) {
    return std::ranges::all_of(all, [&](const Dims* dims) {
        return dims->size() == rank && std::ranges::all_of(*dims, [&](std::int64_t number) { return number >= least && number <= kMostBytes; });
    });
}

// Whether a library can be asked for a call at all, and how many buffers it is then given (device/libraries.hpp).

bool sane(const MatmulSpec& s) {
    return within(0, {s.m, s.n, s.k}) &&
           within(-kMostBytes, {s.row_stride_a, s.row_stride_b, s.row_stride_d, s.batch_stride_a, s.batch_stride_b, s.batch_stride_d}) &&
           within(1, {s.batch}) && s.type <= Type::boolean && s.result <= Type::boolean && s.bias_type <= Type::boolean &&
           s.activation <= Activation::hard_swish;
}
bool sane(const ConvolutionSpec& s) {
    const std::size_t rank = s.in.size();
    return rank >= 1 && rank <= 3 && within(1, {s.batch, s.channels_in, s.channels_out, s.groups}) &&
           within(1, rank, {&s.in, &s.kernel, &s.out, &s.stride, &s.dilation}) && within(-kMostBytes, rank, {&s.pad_begin, &s.pad_end}) &&
           s.type <= Type::boolean && s.result <= Type::boolean && s.bias_type <= Type::boolean && s.activation <= Activation::hard_swish;
}
bool sane(const AttentionSpec& s) {
    return within(1, {s.batch, s.heads, s.kv_heads, s.queries, s.keys, s.head_size, s.value_size}) &&
           within(-kMostBytes, 4, {&s.q_strides, &s.k_strides, &s.v_strides, &s.o_strides}) && s.type <= Type::boolean &&
           (!s.mask || (within(1, 4, {&s.mask_dims}) && within(-kMostBytes, 4, {&s.mask_strides})));
}
bool sane(const RecurrentSpec& s) {
    return within(1, {s.steps, s.batch, s.input, s.hidden}) && s.directions >= 1 && s.directions <= 2 && s.type <= Type::boolean &&
           s.cell <= RecurrentSpec::Cell::tanh;
}

std::size_t buffer_count(const MatmulSpec& s) { return 3U + (s.bias ? 1 : 0) + (s.residual ? 1 : 0); }
std::size_t buffer_count(const ConvolutionSpec& s) { return 3U + (s.scale ? 1 : 0) + (s.bias ? 1 : 0) + (s.residual ? 1 : 0); }
std::size_t buffer_count(const AttentionSpec& s) { return s.mask ? 5 : 4; }
std::size_t buffer_count(const RecurrentSpec& s) { return s.cell == RecurrentSpec::Cell::lstm ? 7 : 5; }

void check(const Schedule& s) {
    const auto count = static_cast<ValueId>(s.graph.values.size());
    const auto known = [&](ValueId id) { return id >= 0 && id < count; };
    const auto size = [&](ValueId id) { return bytes(s.graph.value(id).type, s.graph.value(id).dims); };
    require(std::ranges::all_of(s.graph.values, [](const Value& value) { return sane(value); }), "a value");
    require(s.places.size() == s.graph.values.size(), "the number of places");
    require(s.arena_bytes >= 0 && s.arena_bytes < kMostBytes && s.workspace_bytes >= 0 && s.workspace_bytes < kMostBytes && s.weight_bytes >= 0 &&
                s.weight_bytes < kMostBytes,
            "the memory plan");
    std::set<ValueId> roots;
    for (const auto& [id, offset] : s.arena_offsets) {
        // Copies move whole 256 bytes.
        require(known(id) && offset >= 0 && offset % 256 == 0 && offset <= s.arena_bytes && (size(id) + 255) / 256 * 256 <= s.arena_bytes - offset,
                "a place in the arena");
        roots.insert(id);
    }
    for (const auto* ids : {&s.weights, &s.prepared}) {
        for (ValueId id : *ids) {
            require(known(id), "a weight");
            roots.insert(id);
        }
    }
    for (std::size_t id = 0; id < s.places.size(); ++id) {
        if (!s.places[id]) continue;
        const Place& place = *s.places[id];
        const Value& value = s.graph.values[id];
        require(known(place.root) && place.strides.size() == value.dims.size(), "a place");
        if (roots.count(place.root) == 0) continue;  // of a step that ran once
        require(place.offset >= 0 && place.offset < kMostBytes, "a place");
        // The first and the last element that it reaches lie within its root.
        std::int64_t low = place.offset, high = place.offset;
        bool empty = false;
        for (std::size_t d = 0; d < value.dims.size(); ++d) {
            empty = empty || value.dims[d] == 0;
            require(place.strides[d] > -kMostBytes && place.strides[d] < kMostBytes, "a stride");
            if (value.dims[d] < 2) continue;
            require((value.dims[d] - 1) <= kMostBytes / std::max<std::int64_t>(std::abs(place.strides[d]), 1), "a stride");
            const std::int64_t reach = (value.dims[d] - 1) * place.strides[d];
            (reach < 0 ? low : high) += reach;
            require(low > -kMostBytes && high < kMostBytes, "a place");
        }
        const std::int64_t whole = size(place.root) * 8 / bits(value.type);
        require(empty || (low >= 0 && high < std::max<std::int64_t>(whole, 1)), "a place outside its root");
    }
    for (const auto& [node, spec] : s.specs) require(std::visit([](const auto& which) { return sane(which); }, spec), "a call");
    const auto placed = [&](ValueId id) {
        return known(id) && s.places[static_cast<std::size_t>(id)] && roots.count(s.places[static_cast<std::size_t>(id)]->root) != 0;
    };
    require(std::ranges::all_of(s.graph.inputs, [&](ValueId id) { return known(id) && s.arena_offsets.count(id) != 0; }), "an input");
    for (ValueId id : s.graph.outputs) {
        require(placed(id), "an output");
        // It is copied as it lies.
        const Place& place = *s.places[static_cast<std::size_t>(id)];
        const Dims& dims = s.graph.value(id).dims;
        const Dims dense = row_major_strides(dims);
        bool as_it_lies = place.strides.size() == dense.size();
        for (std::size_t d = 0; as_it_lies && d < dims.size(); ++d) as_it_lies = dims[d] <= 1 || place.strides[d] == dense[d];
        require(place.offset == 0 && as_it_lies && size(id) <= size(place.root), "an output");
    }
    for (const Step& step : s.steps) {
        require(step.kind == Step::Kind::kernel || step.kind == Step::Kind::library, "a step");
        if (step.kind == Step::Kind::kernel) {
            require(step.index >= 0 && static_cast<std::size_t>(step.index) < s.kernels.size(), "a kernel");
            const Launch& launch = step.launch;
            for (const auto* sizes : {launch.grid, launch.block}) {
                for (int d = 0; d < 3; ++d) require(sizes[d] >= 1 && sizes[d] <= 0x7fffffffU, "a launch");
            }
            require(!launch.limit || (*launch.limit >= 0 && *launch.limit < kMostBytes), "a launch");
        } else {
            const auto spec = s.specs.find(step.index);
            require(spec != s.specs.end(), "a call");
            const auto buffers = std::visit([](const auto& which) { return buffer_count(which); }, spec->second);
            require(step.arguments.size() == buffers, "a call's buffers");
        }
        require(std::ranges::all_of(step.arguments, placed), "an argument");
    }
}

}  // namespace

void write_program(std::ostream& out, const Schedule& schedule, const ReadWeight& read) {
    Schedule stored = schedule;
    stored.graph.nodes.clear();
    std::erase_if(stored.specs, [&](const auto& entry) { return schedule.calls.count(entry.first) == 0; });
    // Places of what ran once tell nothing any more.
    std::set<ValueId> roots(stored.weights.begin(), stored.weights.end());
    roots.insert(stored.prepared.begin(), stored.prepared.end());
    for (const auto& [id, offset] : stored.arena_offsets) roots.insert(id);
    for (auto& place : stored.places) {
        if (place && roots.count(place->root) == 0) place.reset();
    }
    std::set<int> called;
    for (const Step& step : stored.steps) {
        if (step.kind == Step::Kind::library) called.insert(step.index);
    }
    std::erase_if(stored.specs, [&](const auto& entry) { return called.count(entry.first) == 0; });
    // All kernels stay, also those that ran once: the text is then the one that was compiled, and its code is in the cache of kernels.

    Writer writer(out);
    out << kFormat;
    fields(writer, stored);
    std::vector<std::byte> content;  // one for all: each first use of large memory costs
    for (const auto* ids : {&stored.weights, &stored.prepared}) {
        for (ValueId id : *ids) {
            std::string recipe;
            read(id, recipe, content);
            writer(recipe);
            writer.bytes(content);
        }
    }
}

StoredProgram take_program(std::span<const std::byte>& bytes, std::map<std::string, std::size_t>& before) {
    const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    require(text.starts_with(kFormat), "another format");
    Reader reader(bytes.subspan(kFormat.size()));
    StoredProgram program;
    Schedule& schedule = program.schedule;
    fields(reader, schedule);
    check(schedule);
    for (auto* ids : {&schedule.weights, &schedule.prepared}) {
        for (ValueId id : *ids) {
            StoredWeight weight;
            weight.value = id;
            reader(weight.recipe);
            weight.bytes = reader.bytes();
            const Value& value = schedule.graph.value(id);
            const auto size = static_cast<std::size_t>(ai_vmm::cuda::bytes(value.type, value.dims));
            const auto known = before.find(weight.recipe);
            require(weight.bytes.size() == size || (weight.bytes.empty() && known != before.end() && known->second == size), "a weight's size");
            if (!weight.recipe.empty()) before.emplace(weight.recipe, size);
            program.weights.push_back(std::move(weight));
        }
    }
    bytes = reader.rest();
    schedule.weights.insert(schedule.weights.end(), schedule.prepared.begin(), schedule.prepared.end());
    schedule.prepared.clear();
    return program;
}

StoredProgram read_program(std::span<const std::byte> bytes) {
    std::map<std::string, std::size_t> none;
    StoredProgram program = take_program(bytes, none);
    require(bytes.empty(), "bytes are left over");
    return program;
}

}  // namespace ai_vmm::cuda
