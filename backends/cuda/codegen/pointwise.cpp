// SPDX-License-Identifier: Apache-2.0
#include "codegen/pointwise.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "codegen/text.hpp"

namespace ai_vmm::cuda {
namespace {

constexpr std::int64_t kMostProducts = 64 << 20;

}  // namespace

bool is_small_pointwise(const ConvolutionSpec& spec) {
    if ((spec.type != Type::f16 && spec.type != Type::bf16) || spec.transposed || spec.groups != 1) return false;
    if (!all(spec.kernel, 1) || !all(spec.stride, 1) || !all(spec.pad_begin, 0) || !all(spec.pad_end, 0)) return false;
    // Single pixels: the second product of squeeze and excitation.
    const bool single = all(spec.out, 1);
    const std::int64_t most = single ? 64 : spec.activation == Activation::hard_swish ? 40 : 24;
    if ((spec.channels_in % 8 != 0 && !single) || spec.channels_out % 8 != 0 || spec.channels_in > most) return false;
    return spec.batch * elements(spec.out) * spec.channels_in * spec.channels_out <= kMostProducts;
}

Dims pointwise_weight_strides(const ConvolutionSpec& spec) {
    Dims strides(spec.kernel.size() + 2, 1);
    strides[1] = spec.channels_out;
    return strides;
}

KernelSource pointwise_kernel(const Graph& graph, const Places& places, const Node& node, const CodegenTarget& target) {
    const ConvolutionSpec& spec = std::get<Convolution>(node.what).spec;
    const std::int64_t pixels = spec.batch * elements(spec.out), in = spec.channels_in, out = spec.channels_out, blocks = out / 8;
    // More pixels share what is read of the weights; but threads enough for the device come first.
    std::int64_t share = 4;
    while (share > 1 && (pixels + share - 1) / share * blocks < std::int64_t{128} * target.multiprocessors) share /= 2;
    const std::int64_t threads = (pixels + share - 1) / share * blocks;

    const auto& place = places[static_cast<std::size_t>(node.outputs.front())];
    const std::int64_t stride = place ? place->strides.back() : out;  // of pixels of Y

    Functions functions(graph, places);
    functions.use({pixels, std::max(in, stride)}, {std::max(in, stride), 1});
    const std::string x = functions.argument(node.inputs[0], false), w = functions.argument(node.inputs[1], false);
    std::string bias, residual;
    if (spec.bias) bias = functions.argument(node.inputs[2], false);
    if (spec.residual) residual = functions.argument(node.inputs[spec.bias ? 3 : 2], false);
    const std::string y = functions.argument(node.outputs.front(), true);

    std::string text = fmt::format("typedef union {{ words4 w; {} v[8]; }} @_t;\nFUNCTION f32 @_a(f32 x) {{ return {}; }}\n", storage_type(spec.type),
                                   activation_expression(spec.activation, spec.result));
    text += fmt::format(
        "KERNEL(@)(@_P) {{\n  const i64 t64 = (i64)GROUP * BLOCK + THREAD;\n  if (t64 < {}ll) {{\n    const idx t = (idx)t64, c = t % (idx){} * 8, p "
        "= t / "
        "(idx){} * {};\n    f32 acc[{}][8];\n    UNROLL for (int s = 0; s < {}; ++s) {{ UNROLL for (int u = 0; u < 8; ++u) acc[s][u] = 0; }}\n",
        threads, blocks, blocks, share, share, share);
    const std::string pixel = fmt::format("(p + s < (idx){0} ? p + s : 0) * (idx){1} + k", pixels, in);
    if (in % 8 == 0) {
        text += fmt::format(
            "    UNROLL for (idx k = 0; k < (idx){0}; k += 8) {{\n      @_t a[{1}], b[8];\n      UNROLL for (int s = 0; s < {1}; ++s) a[s].w = "
            "load16({2} + "
            "({3}));\n      UNROLL for (int j = 0; j < 8; ++j) b[j].w = load16({4} + ((k + j) * (idx){5} + c));\n      UNROLL for (int j = 0; j < 8; "
            "++j) {{\n        UNROLL for (int u = 0; u < 8; ++u) {{\n          const f32 weight = {6};\n          UNROLL for (int s = 0; s < {1}; "
            "++s) "
            "acc[s][u] += {7} * weight;\n        }}\n      }}\n    }}\n",
            in, share, x, pixel, w, out, load(spec.type, "b[j].v", "u"), load(spec.type, "a[s].v", "j"));
    } else {
        text += fmt::format(
            "    UNROLL for (idx k = 0; k < (idx){0}; ++k) {{\n      @_t b;\n      b.w = load16({1} + (k * (idx){2} + c));\n      UNROLL for (int s "
            "= 0; s "
            "< {3}; ++s) {{\n        const f32 value = {4};\n        UNROLL for (int u = 0; u < 8; ++u) acc[s][u] += value * {5};\n      }}\n    "
            "}}\n",
            in, w, out, share, load(spec.type, x, pixel), load(spec.type, "b.v", "u"));
    }
    if (spec.bias) {
        text += fmt::format("    f32 bias[8];\n    UNROLL for (int u = 0; u < 8; ++u) bias[u] = {};\n", load(spec.bias_type, bias, "c + u"));
    }
    text += fmt::format("    UNROLL for (int s = 0; s < {}; ++s) {{\n      if (p + s < (idx){}) {{\n        @_t o;\n", share, pixels);
    std::string sum = "acc[s][u]";
    if (spec.bias) sum += " + bias[u]";
    if (spec.residual) {
        text += fmt::format("        @_t added;\n        added.w = load16({} + ((p + s) * (idx){} + c));\n", residual, out);
        sum += " + " + load(spec.type, "added.v", "u");
    }
    text += fmt::format(
        "        UNROLL for (int u = 0; u < 8; ++u) {{ const f32 r = @_a({}); {} }}\n        store16({} + ((p + s) * (idx){} + c), o.w);\n      }}\n "
        "   }}\n  }}\n}}\n",
        sum, store(spec.type, "o.v", "u", "r"), y, stride);
    return functions.finish(text, groups((threads + target.threads_per_block - 1) / target.threads_per_block, target.threads_per_block));
}

}  // namespace ai_vmm::cuda
