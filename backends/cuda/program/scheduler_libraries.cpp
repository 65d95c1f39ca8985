// SPDX-License-Identifier: Apache-2.0
/// Products, convolutions and attention: library calls, or the generated kernels that are preferred to them or stand in for them.
#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "codegen/attention.hpp"
#include "codegen/excitation.hpp"
#include "codegen/few_queries.hpp"
#include "codegen/packed.hpp"
#include "codegen/pixel_products.hpp"
#include "codegen/pointwise.hpp"
#include "codegen/skinny.hpp"
#include "codegen/stem.hpp"
#include "graph/passes.hpp"
#include "program/scheduler.hpp"

namespace ai_vmm::cuda {

void Scheduler::visit_library(int n) {
    std::shared_ptr<LibraryCall> call;
    Node& node = graph().nodes[static_cast<std::size_t>(n)];
    const ValueId output = node.outputs.front();
    const bool empty = elements(value(output).dims) == 0 ||
                       std::any_of(node.inputs.begin(), node.inputs.end(), [&](ValueId id) { return elements(value(id).dims) == 0; });
    if (!empty && std::holds_alternative<Convolution>(node.what) && is_depthwise(std::get<Convolution>(node.what).spec)) return run_depthwise(n);
    if (!empty && std::holds_alternative<Convolution>(node.what) && !prepared_[static_cast<std::size_t>(output)] &&
        is_small_pointwise(std::get<Convolution>(node.what).spec))
        return run_pointwise(n);
    if (!empty && reads_through(node, 0)) return run_stem(n);
    if (!empty && std::holds_alternative<Convolution>(node.what) && !prepared_[static_cast<std::size_t>(output)] &&
        prefers_pixel_product(std::get<Convolution>(node.what).spec, target_))
        return run_pixel_product(n);
    const auto* attention = std::get_if<Attention>(&node.what);
    if (attention != nullptr && !empty && (prefers_short_attention(attention->spec, target_) || has_few_queries(attention->spec)))
        return run_generated_attention(n);
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
        if (!prepared_[static_cast<std::size_t>(output)] && !is_copied_later(output)) copy_among_channels(output);
        return;
    }
    if (!empty && !prepared_[static_cast<std::size_t>(output)] && run_bare(n)) return;
    Node& generic = graph().nodes[static_cast<std::size_t>(n)];
    if (std::holds_alternative<Matmul>(generic.what)) {
        generic.what = generic_matmul(graph(), generic);
    } else if (const auto* convolution = std::get_if<Convolution>(&generic.what)) {
        if (!empty && plan_stem(convolution->spec, target_)) return run_stem(n);
        if (!empty && plan_pixel_product(convolution->spec)) return run_pixel_product(n);
        generic.what = generic_convolution(graph(), generic);
    } else if (!empty && is_short_attention(std::get<Attention>(generic.what).spec)) {
        return run_generated_attention(n);
    } else {
        throw NoAttention{std::get<Attention>(generic.what).spec};
    }
    place(output) = Place{output, strides_in_order(value(output).dims, wanted_order(Node(generic))), 0};
    const Node copy = graph().nodes[static_cast<std::size_t>(n)];
    emit(compute_kernel(graph(), out_.places, output, target_), copy);
}

void Scheduler::run_depthwise(int n) {
    const ConvolutionSpec spec = std::get<Convolution>(graph().nodes[static_cast<std::size_t>(n)].what).spec;
    const Dims x = strides_in_order(value(graph().nodes[static_cast<std::size_t>(n)].inputs[0]).dims, channels_last_order(4));
    require_own_layout(n, 0, x);
    require_own_layout(n, 1, depthwise_weight_strides(spec));
    std::size_t k = 2;
    if (spec.scale) require_own_layout(n, k++, {1});
    if (spec.bias) require_own_layout(n, k++, {1});
    const ValueId output = graph().nodes[static_cast<std::size_t>(n)].outputs.front();
    const Dims out = strides_in_order(value(output).dims, channels_last_order(4));
    if (spec.residual) require_own_layout(n, k, out);
    place(output) = Place{output, out, 0};
    emit(depthwise_kernel(graph(), out_.places, graph().nodes[static_cast<std::size_t>(n)], target_),
         Node(graph().nodes[static_cast<std::size_t>(n)]));
}

void Scheduler::run_pointwise(int n) {
    const ConvolutionSpec spec = std::get<Convolution>(graph().nodes[static_cast<std::size_t>(n)].what).spec;
    const std::size_t rank = spec.in.size() + 2;
    require_own_layout(n, 0, strides_in_order(value(graph().nodes[static_cast<std::size_t>(n)].inputs[0]).dims, channels_last_order(rank)));
    require_own_layout(n, 1, pointwise_weight_strides(spec));
    std::size_t k = 2;
    if (spec.bias) require_own_layout(n, k++, {1});
    const ValueId output = graph().nodes[static_cast<std::size_t>(n)].outputs.front();
    const Dims out = strides_in_order(value(output).dims, channels_last_order(rank));
    if (spec.residual) require_own_layout(n, k, out);
    place_channels_last(output);
    const Node node = graph().nodes[static_cast<std::size_t>(n)];
    emit(pointwise_kernel(graph(), out_.places, node, target_), node);
}

bool Scheduler::reads_through(const Node& node, std::size_t k) const {
    const auto* convolution = std::get_if<Convolution>(&node.what);
    return convolution != nullptr && k == 0 && !prepared_[static_cast<std::size_t>(node.outputs.front())] && prefers_stem(convolution->spec, target_);
}

void Scheduler::run_stem(int n) {
    const ConvolutionSpec spec = std::get<Convolution>(graph().nodes[static_cast<std::size_t>(n)].what).spec;
    const auto plan = plan_stem(spec, target_);
    require_fragments(n, 1, stem_weights(spec, *plan));
    if (spec.bias) require_layout(n, 2, {1});
    place_channels_last(graph().nodes[static_cast<std::size_t>(n)].outputs.front());
    const Node node = graph().nodes[static_cast<std::size_t>(n)];
    emit(stem_kernel(graph(), out_.places, node, *plan, target_), node);
}

void Scheduler::run_pixel_product(int n) {
    const ConvolutionSpec spec = std::get<Convolution>(graph().nodes[static_cast<std::size_t>(n)].what).spec;
    const auto plan = plan_pixel_product(spec);
    const Dims x = value(graph().nodes[static_cast<std::size_t>(n)].inputs[0]).dims;  // a copy grows the graph
    require_own_layout(n, 0, strides_in_order(x, channels_last_order(x.size())));
    require_fragments(n, 1, pixel_product_weights(spec, *plan));
    std::size_t k = 2;
    if (spec.bias) require_layout(n, k++, {1});
    const ValueId output = graph().nodes[static_cast<std::size_t>(n)].outputs.front();
    if (spec.residual) require_own_layout(n, k, strides_in_order(value(output).dims, channels_last_order(x.size())));
    place_channels_last(output);
    const Node node = graph().nodes[static_cast<std::size_t>(n)];
    emit(pixel_product_kernel(graph(), out_.places, node, *plan, target_), node);
}

void Scheduler::require_fragments(int n, std::size_t k, const Fragments& form) {
    const ValueId from = graph().nodes[static_cast<std::size_t>(n)].inputs[k];
    Builder builder(graph());
    builder.set_name(graph().nodes[static_cast<std::size_t>(n)].name);
    const ValueId made = builder.compute(value(from).type, form.dims, {from}, {"Fragments", form.body, 1, {}, {}});
    grow_with(made, prepared_[static_cast<std::size_t>(from)]);
    place_row_major(made);
    emit(compute_kernel(graph(), out_.places, made, target_), Node(graph().nodes.back()));
    graph().nodes[static_cast<std::size_t>(n)].inputs[k] = made;
}

void Scheduler::place_channels_last(ValueId id) {
    auto among = place_among_channels(id);
    place(id) = among ? *std::move(among) : Place{id, strides_in_order(value(id).dims, channels_last_order(value(id).dims.size())), 0};
}

void Scheduler::run_excitation(int n) {
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

void Scheduler::require_own_layout(int n, std::size_t k, const Dims& strides) {
    const ValueId id = graph().nodes[static_cast<std::size_t>(n)].inputs[k];
    const auto& current = place(id);
    if (current && same_layout(value(id).dims, current->strides, strides) && current->offset * bits(value(id).type) % 128 == 0) return;
    copy_into(n, k, strides);
}

void Scheduler::finish_library(int n, std::shared_ptr<LibraryCall> call) {
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

bool Scheduler::run_bare(int n) {
    const Node node = graph().nodes[static_cast<std::size_t>(n)];
    Node bare = node;
    std::size_t operands = 2;
    bool bias = false, residual = false;
    Activation activation = Activation::none;
    const auto strip = [&](auto& spec) {
        bias = spec.bias;
        residual = spec.residual;
        activation = spec.activation;
        spec.bias = spec.residual = false;
        spec.activation = Activation::none;
    };
    // Sums of integers are no numbers without their scale, and without their bias may be far larger than with it.
    const auto keep_numbers = [&](ConvolutionSpec& spec) {
        if (!spec.scale) return;
        operands = bias ? 4 : 3;
        spec.bias = std::exchange(bias, false);
    };
    if (auto* matmul = std::get_if<Matmul>(&bare.what)) strip(matmul->spec);
    if (auto* convolution = std::get_if<Convolution>(&bare.what)) {
        strip(convolution->spec);
        keep_numbers(convolution->spec);
    }
    if (!bias && !residual && activation == Activation::none) return false;
    const bool matmul = std::holds_alternative<Matmul>(bare.what);
    bare.inputs.resize(operands);
    const Value result = value(node.outputs.front());
    graph().values.push_back({result.type, result.dims, Source::node, static_cast<int>(graph().nodes.size()), {}});
    const auto product = static_cast<ValueId>(graph().values.size() - 1);
    bare.outputs = {product};
    graph().nodes.push_back(bare);
    live_.push_back(true);
    grow_with(product, false);
    consumers_[static_cast<std::size_t>(product)] = {{n, 0}};
    const int added = static_cast<int>(graph().nodes.size() - 1);
    std::shared_ptr<LibraryCall> call = matmul ? matmul_call(added) : convolution_call(added);
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
    std::size_t given = operands;
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

std::shared_ptr<LibraryCall> Scheduler::matmul_call(int n) {
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
    if (spec.residual) require_own_layout(n, residual, row_major_strides(value(graph().nodes[static_cast<std::size_t>(n)].inputs[residual]).dims));
    spec.row_stride_d = spec.n;
    spec.batch_stride_d = spec.m * spec.n;
    auto call = make_call(n, spec);
    if (call) place_row_major(graph().nodes[static_cast<std::size_t>(n)].outputs.front());
    return call;
}

std::shared_ptr<LibraryCall> Scheduler::convolution_call(int n) {
    const ConvolutionSpec spec = std::get<Convolution>(graph().nodes[static_cast<std::size_t>(n)].what).spec;
    auto call = make_call(n, spec);
    if (!call) return nullptr;
    const auto channels_last = [&](std::size_t k) {
        const Dims& dims = value(graph().nodes[static_cast<std::size_t>(n)].inputs[k]).dims;
        require_layout(n, k, strides_in_order(dims, channels_last_order(dims.size())));
    };
    channels_last(0);
    channels_last(1);
    if (spec.scale) require_own_layout(n, 2, {1});
    if (spec.residual) channels_last((spec.scale ? 3U : 2U) + (spec.bias ? 1 : 0));
    const ValueId output = graph().nodes[static_cast<std::size_t>(n)].outputs.front();
    place(output) = Place{output, strides_in_order(value(output).dims, channels_last_order(value(output).dims.size())), 0};
    return call;
}

void Scheduler::run_skinny(int n) {
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

void Scheduler::run_packed(int n) {
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

void Scheduler::run_generated_attention(int n) {
    AttentionSpec spec = std::get<Attention>(graph().nodes[static_cast<std::size_t>(n)].what).spec;
    const auto input = [&](std::size_t k) { return graph().nodes[static_cast<std::size_t>(n)].inputs[k]; };
    Dims* strides[] = {&spec.q_strides, &spec.k_strides, &spec.v_strides};
    for (std::size_t k = 0; k < 3; ++k) {
        const auto& at = place(input(k));
        if (!at || !fits_short_attention(at->strides, at->offset)) copy_into(n, k, row_major_strides(value(input(k)).dims));
        *strides[k] = place(input(k))->strides;
    }
    const bool few_queries = !prefers_short_attention(spec, target_) && has_few_queries(spec);
    bool fragments = false;
    if (spec.mask) {
        spec.mask_dims = value(input(3)).dims;
        fragments = !few_queries && has_fast_form(spec, target_) && prepared_[static_cast<std::size_t>(input(3))];
        if (fragments) {
            require_fragments(n, 3, mask_fragments(spec, spec.mask_dims));
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
    emit(few_queries ? few_queries_kernel(node, spec, target_) : short_attention_kernel(node, spec, fragments, target_), node);
}

std::shared_ptr<LibraryCall> Scheduler::attention_call(int n) {
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

}  // namespace ai_vmm::cuda
