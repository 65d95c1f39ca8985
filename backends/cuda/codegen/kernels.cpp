// SPDX-License-Identifier: Apache-2.0
#include "codegen/kernels.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "codegen/text.hpp"

namespace ai_vmm::cuda {

bool has_fast_form(const CodegenTarget& target) { return target.tensor_cores && target.threads_per_block == 256; }

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
        text += fmt::format("KERNEL(@)(@_P) {{\n  const i64 t = {};\n  if (t < limit_) {{ {} }}\n}}\n",
                            phase.blocks ? "(i64)GROUP" : "(i64)GROUP * BLOCK + THREAD", body);
        const std::int64_t per_block = phase.blocks ? 1 : target.threads_per_block;
        kernels.push_back(functions.finish(text, groups(divided_up(phase.threads, per_block), target.threads_per_block, phase.threads)));
    }
    return kernels;
}

std::string activation_expression(Activation activation, Type type) {
    const bool wide = type == Type::f64;
    const auto number = [&](double value) { return literal(type == Type::f64 ? Type::f64 : Type::f32, value); };
    const char* f = wide ? "" : "f";
    const auto by_one_plus_exp = [&](const std::string& a) {  // of -x
        // What 16 bits round away need not be computed.
        if (type == Type::f16 || type == Type::bf16) return fmt::format("quick_divf({}, {} + quick_expf(-x))", a, number(1));
        return fmt::format("{} / ({} + exp{}(-x))", a, number(1), f);
    };
    switch (activation) {
        case Activation::none: return "x";
        case Activation::relu: return "(x > 0 ? x : (x == x ? 0 : x))";
        case Activation::gelu_tanh:
            return fmt::format("{2} * x * ({3} + tanh{0}({1} * (x + {4} * x * x * x)))", f, number(0.7978845608028654), number(0.5), number(1),
                               number(0.044715));
        case Activation::gelu_erf: return fmt::format("{2} * x * ({3} + erf{0}(x * {1}))", f, number(0.70710678118654752), number(0.5), number(1));
        case Activation::sigmoid: return by_one_plus_exp(number(1));
        case Activation::tanh: return fmt::format("tanh{}(x)", f);
        case Activation::silu: return by_one_plus_exp("x");
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

/// "return activation(sum + bias + residual);" with both where they are. @param type  of the result
std::string finish_text(Type type, const std::string& sum, bool bias, const std::string& bias_read, bool residual, const std::string& residual_read,
                        Activation activation) {
    std::string text = fmt::format("const {} x = {}", accumulator_type(type), sum);
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
    body += finish_text(spec.type, "acc", spec.bias, "in2(i2)", spec.residual, spec.bias ? "in3(i0, i1, i2)" : "in2(i0, i1, i2)", spec.activation);
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
    const int bias_at = spec.scale ? 3 : 2, residual_at = bias_at + (spec.bias ? 1 : 0);
    body += finish_text(spec.result, spec.scale ? "(f32)acc * in2(i1)" : "acc", spec.bias, fmt::format("in{}(i1)", bias_at), spec.residual,
                        fmt::format("in{}(i0, i1{})", residual_at, at), spec.activation);
    return {spec.transposed ? "ConvolutionTranspose" : "Convolution", body, static_cast<int>(std::min(2 * taps, 1e6)), {taps, taps, 1, 1, 1}, {}};
}

}  // namespace ai_vmm::cuda
