// SPDX-License-Identifier: Apache-2.0
/// Products and convolutions of quantised values with quantised weights, in integers.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <map>
#include <optional>
#include <utility>

#include "graph/compressed.hpp"
#include "graph/passes.hpp"

namespace ai_vmm::cuda {
namespace {

/// The tensor cores' integers come in sixteens along k; a smaller k is not worth the pass that makes numbers of the sums. With a larger one sums of
/// columns times a zero point may overflow.
constexpr std::int64_t kDepthUnit = 16, kLeastDepth = 64, kMostDepth = 1 << 15;
/// Of a convolution: of single pixels, and of windows, whose depth is that many times their taps.
constexpr std::int64_t kLeastChannels = 128, kLeastWindowChannels = 32;
/// A convolution in 16 bits is stored with all that follows it up to the next quantisation: 2 bytes an element, read once and written once more. Sums
/// in i32 and what is made of them are 3 bytes more, for which k / n bytes less are read and k products take half the time, which on an H100 is that
/// of a byte in memory for 256 of them.
bool worth_its_sums(std::int64_t n, std::int64_t k) { return k * (256 + n) >= 3 * 256 * n; }
/// cuBLASLt's columns of i8 come in fours. cuDNN's engines store 16 bytes, which eight halves are.
constexpr std::int64_t kColumnUnit = 4, kResultUnit = 8;
/// The largest offset with which the sums of kMostDepth weights stay i32: a zero point, and 128 for what has no sign.
constexpr double kMostOffset = 255 + 128;
/// Of floats; fewer rows are bound by reading the matrix, which PackedProduct does without making integers of what it is multiplied with.
constexpr std::int64_t kLeastRows = 9;

/// (q + offset) * scale with q of i8.
struct Quantised {
    ValueId q = -1;
    double scale = 1, offset = 0;
    /// A zero point that is known when the program runs: q - zero + offset; -1: none.
    ValueId zero = -1;
};

/// (1, n, k) of 8 bits, of which less `zero` i8 is left, and their scales (1, n, 1) if they have some.
struct QuantisedMatrix {
    PackedMatrix packed;
    std::int64_t zero = 0;
};

bool is_narrow_float(Type type) { return type == Type::f16 || type == Type::bf16; }

class IntegerProducts final : public CompressedRewriter {
public:
    IntegerProducts(Graph graph, const std::function<bool(const ConvolutionSpec&)>& takes) : CompressedRewriter(std::move(graph)), takes_(takes) {}

private:
    std::optional<ValueId> rewrite(const Node& node) override {
        if (const auto* convolution = std::get_if<Convolution>(&node.what)) {
            const ConvolutionSpec& spec = convolution->spec;
            if (!is_plain(spec)) return std::nullopt;
            if (spec.type == Type::i32) return of_integer_windows(node, spec);
            if (auto done = of_pixels(node, spec)) return done;
            return of_windows(node, spec);
        }
        const auto* matmul = std::get_if<Matmul>(&node.what);
        if (matmul == nullptr) return std::nullopt;
        const MatmulSpec& spec = matmul->spec;
        const bool floats = spec.type == Type::f32 || spec.type == Type::f16 || spec.type == Type::bf16;
        if ((!floats && spec.type != Type::i32) || spec.result != spec.type || spec.batch != 1 || spec.transpose_a || spec.bias || spec.residual ||
            spec.alpha != 1 || spec.activation != Activation::none)
            return std::nullopt;
        if (spec.m < (floats ? kLeastRows : 1) || spec.k < kLeastDepth || spec.k > kMostDepth || spec.k % kDepthUnit != 0 ||
            spec.n % kColumnUnit != 0)
            return std::nullopt;
        if (!floats) return of_integers(node, spec);
        return of_floats(node.inputs[0], node.inputs[1], spec, {1, 1, spec.n}, [](ValueId product) { return product; });
    }

    // --- Floats: (q + offset) * scale on both sides.

    /// @param shown   how the product (1, m, n) of integers is looked at
    /// @param column  the dimensions of a value for each column beside it
    std::optional<ValueId> of_floats(ValueId left, ValueId right, const MatmulSpec& spec, const Dims& column,
                                     const std::function<ValueId(ValueId)>& shown) {
        const auto b = quantised_matrix(right, spec.transpose_b, spec.k);
        if (!b) return std::nullopt;
        ViewChain rows;
        const auto a = quantised_behind(left, rows);
        if (!a) return std::nullopt;
        const auto [product, sums] = multiply(append(builder(), rows), b->packed.weights, b->zero, spec, a->offset != 0);
        const ValueId correction = a->offset != 0 ? builder().reshape(sums, column) : -1;
        return numbers(spec.result, shown(product), correction, *a, b->packed.scale, column);
    }

    /// Weights of k numbers for each of n, all k with one scale.
    std::optional<QuantisedMatrix> quantised_matrix(ValueId id, bool transposed, std::int64_t k) {
        ViewChain chain;
        const auto weights = compressed_behind(id, chain);
        if (!weights) return std::nullopt;
        const auto zero = uniform_zero(*weights);
        if (!zero || !fits_i8(value(weights->packed), *zero)) return std::nullopt;
        const auto made = matrix(id, transposed, 1);
        if (!made || made->group != k) return std::nullopt;
        return QuantisedMatrix{*made, *zero};
    }

    /// What is multiplied, behind views. @param chain  the same over its integers
    std::optional<Quantised> quantised_behind(ValueId id, ViewChain& chain) {
        const auto root = behind_views(id, chain, false);
        if (!root || constant(*root)) return std::nullopt;
        const auto found = quantised(*root);
        if (found) chain.source = found->q;
        return found;
    }

    /// (sums + offset * correction) * scale * scales. @param correction  sums of weights, -1 where the offset is 0; `scales` (1, n, 1) are shown as
    /// `column`
    ValueId numbers(Type type, ValueId sums, ValueId correction, const Quantised& a, ValueId scales, const Dims& column) {
        std::vector<ValueId> inputs{sums};
        std::string sum = "(f32)a";
        if (correction >= 0) {
            inputs.push_back(correction);
            const bool whole = a.offset == std::nearbyint(a.offset) && std::abs(a.offset) <= kMostOffset;
            sum = whole ? fmt::format("(f32)(a + b * {})", static_cast<std::int64_t>(a.offset))
                        : fmt::format("((f32)a + (f32)b * {})", literal(Type::f32, a.offset));
        }
        std::string factor = literal(Type::f32, a.scale);
        if (scales >= 0) {
            inputs.push_back(joined_scales(scales, a.scale, column));
            factor = static_cast<char>('a' + inputs.size() - 1);
        }
        return builder().pointwise("Dequantize", type, std::move(inputs), fmt::format("{} * {}", sum, factor), 3);
    }

    /// Both scales in one, once for all rows.
    ValueId joined_scales(ValueId scales, double scale, const Dims& column) {
        return builder().pointwise("Scale", Type::f32, {builder().reshape(scales, column)}, "a * " + literal(Type::f32, scale));
    }

    /// A convolution of single pixels is a product over them; channels lie side by side anyway.
    std::optional<ValueId> of_pixels(const Node& node, const ConvolutionSpec& spec) {
        const auto all = [](const Dims& dims, std::int64_t wanted) {
            return std::ranges::all_of(dims, [&](std::int64_t size) { return size == wanted; });
        };
        if (spec.groups != 1 || !all(spec.kernel, 1) || !all(spec.stride, 1) || !all(spec.pad_begin, 0) || !all(spec.pad_end, 0)) return std::nullopt;
        MatmulSpec product;
        product.m = spec.batch * elements(spec.out);
        product.n = spec.channels_out;
        product.k = spec.channels_in;
        product.transpose_b = true;
        product.type = product.result = spec.type;
        const bool floats = spec.type == Type::f32 || spec.type == Type::f16 || spec.type == Type::bf16;
        if (!floats || product.m < kLeastRows || product.k < kLeastChannels || product.k > kMostDepth || product.k % kDepthUnit != 0 ||
            product.n % kColumnUnit != 0 || (spec.type != Type::f32 && !worth_its_sums(product.n, product.k)))
            return std::nullopt;
        const std::size_t rank = spec.in.size() + 2;
        std::vector<int> last(rank), back(rank);  // channels to the end, and back
        for (std::size_t d = 1; d + 1 < rank; ++d) last[d] = static_cast<int>(d) + 1;
        last[rank - 1] = 1;
        for (std::size_t d = 0; d < rank; ++d) back[static_cast<std::size_t>(last[d])] = static_cast<int>(d);
        Dims pixels{spec.batch}, column(rank, 1);
        pixels.insert(pixels.end(), spec.out.begin(), spec.out.end());
        pixels.push_back(spec.channels_out);
        column[1] = spec.channels_out;
        const ValueId rows = builder().reshape(builder().transpose(node.inputs[0], last), {1, product.m, product.k});
        const ValueId matrix = builder().reshape(node.inputs[1], {1, product.n, product.k});
        return of_floats(rows, matrix, product, column, [&](ValueId sums) { return builder().transpose(builder().reshape(sums, pixels), back); });
    }

    /// Convolutions of windows, where a library or a kernel takes their integers: it scales the sums, of which there is an i32 within it alone, and
    /// adds what the offset comes to before it rounds them to what floats would be stored as. That is one number for each channel where the image has
    /// the number that stands for 0 around it.
    std::optional<ValueId> of_windows(const Node& node, const ConvolutionSpec& spec) {
        if ((spec.type != Type::f32 && !is_narrow_float(spec.type)) || !has_windows(spec)) return std::nullopt;
        const std::int64_t depth = depth_of(spec);
        const auto w = quantised_matrix(builder().reshape(node.inputs[1], {1, spec.channels_out, depth}), true, depth);
        if (!w) return std::nullopt;
        ViewChain pixels;
        const auto x = quantised_behind(node.inputs[0], pixels);
        if (!x || !has_zero(*x)) return std::nullopt;
        const bool shifted = x->offset != 0;
        ConvolutionSpec scaled = scaled_integers(shifted ? without_padding(spec) : spec);
        if (!takes_(scaled)) return std::nullopt;
        const ValueId rows = less(w->packed.weights, w->zero);
        const std::vector<float> each(static_cast<std::size_t>(spec.channels_out), static_cast<float>(x->scale)), nothing(each.size());
        const ValueId scale =
            w->packed.scale >= 0 ? joined_scales(w->packed.scale, x->scale, {spec.channels_out}) : builder().constant_f32({spec.channels_out}, each);
        ValueId q = append(builder(), pixels), bias = -1;
        if (shifted) {
            bias = builder().pointwise("Correction", Type::f32, {scale, builder().reshape(sums_of_columns(rows), {spec.channels_out})},
                                       "a * (f32)b * " + literal(Type::f32, x->offset));
            q = surrounded(q, spec, *x);
        } else {
            bias = builder().constant_f32({spec.channels_out}, nothing);
        }
        return builder().convolution({q, builder().reshape(rows, dims(node.inputs[1])), scale, bias}, std::move(scaled));
    }

    /// Whether 0 is one of the numbers that i8 stand for.
    [[nodiscard]] static bool has_zero(const Quantised& x) { return x.offset == std::nearbyint(x.offset) && x.offset >= -127 && x.offset <= 128; }

    /// The image q of `spec` with what stands for 0 in place of its padding.
    ValueId surrounded(ValueId q, const ConvolutionSpec& spec, const Quantised& x) {
        const Dims out = without_padding(spec).in;
        if (out == spec.in) return q;
        std::string outside, at;
        for (std::size_t d = 0; d < out.size(); ++d) {
            outside +=
                fmt::format("{0}i{1} < (idx){2} || i{1} >= (idx){3}", d == 0 ? "" : " || ", d + 2, spec.pad_begin[d], spec.pad_begin[d] + spec.in[d]);
            at += fmt::format(", i{} - (idx){}", d + 2, spec.pad_begin[d]);
        }
        const std::string form = "if ({}) return {}; return in0(i0, i1{});";
        const auto offset = static_cast<std::int64_t>(x.offset);
        Compute pad;
        pad.op = "PadIntegers";
        pad.cost = 0;
        pad.reads = {static_cast<double>(elements(spec.in)) / static_cast<double>(elements(out))};
        std::vector<ValueId> inputs{q};
        if (x.zero >= 0) {
            inputs.push_back(builder().reshape(x.zero, {1}));
            pad.reads.push_back(1 - pad.reads[0]);
            pad.body = fmt::format(fmt::runtime(form), outside, fmt::format("(i32)in1(0) - ({})", offset), at);
        } else {
            const std::string padding = literal(Type::i32, static_cast<double>(-offset));
            pad.body = fmt::format(fmt::runtime(form), outside, padding, at);
            pad.across = fmt::format(fmt::runtime(form), outside, fmt::format("FILLED({})", padding), at);
        }
        Dims dims{spec.batch, spec.channels_in};
        dims.insert(dims.end(), out.begin(), out.end());
        return builder().compute(Type::i8, std::move(dims), std::move(inputs), std::move(pad));
    }

    /// Of an image that has its padding around it.
    [[nodiscard]] static ConvolutionSpec without_padding(ConvolutionSpec spec) {
        for (std::size_t d = 0; d < spec.in.size(); ++d) spec.in[d] += spec.pad_begin[d] + spec.pad_end[d];
        spec.pad_begin.assign(spec.in.size(), 0);
        spec.pad_end.assign(spec.in.size(), 0);
        return spec;
    }

    [[nodiscard]] static std::int64_t depth_of(const ConvolutionSpec& spec) { return spec.channels_in / spec.groups * elements(spec.kernel); }

    [[nodiscard]] static bool is_plain(const ConvolutionSpec& spec) {
        return !spec.transposed && !spec.bias && !spec.residual && spec.activation == Activation::none;
    }

    /// Whether the windows of integers fit what the libraries take, or there is a filter for each channel.
    [[nodiscard]] static bool has_windows(const ConvolutionSpec& spec) {
        const auto not_cut = [](const Dims& dims) { return std::ranges::all_of(dims, [](std::int64_t size) { return size >= 0; }); };
        if (!not_cut(spec.pad_begin) || !not_cut(spec.pad_end) || depth_of(spec) > kMostDepth) return false;
        if (spec.groups != 1 && spec.groups == spec.channels_in && spec.groups == spec.channels_out) return true;
        const std::int64_t channels = spec.channels_in / spec.groups;
        return channels >= kLeastWindowChannels && channels % kDepthUnit == 0 && spec.channels_out / spec.groups % kResultUnit == 0 &&
               depth_of(spec) >= kLeastDepth;
    }

    /// The sums scaled and stored as the floats are, of integers as f32, with a bias, to which the model's is added.
    [[nodiscard]] static ConvolutionSpec scaled_integers(ConvolutionSpec spec) {
        spec.result = spec.type == Type::i32 ? Type::f32 : spec.type;
        spec.type = Type::i8;
        spec.bias_type = Type::f32;
        spec.scale = spec.bias = true;
        return spec;
    }

    /// q - zero of weights where all have one zero; none where they differ or are no integers.
    [[nodiscard]] std::optional<std::int64_t> uniform_zero(const Compressed& weights) const {
        if (weights.zero < 0) return 0;
        const auto zero = uniform(weights.zero);
        if (!zero || std::abs(*zero) > 255 || *zero != std::nearbyint(*zero)) return std::nullopt;
        return static_cast<std::int64_t>(*zero);
    }

    [[nodiscard]] static std::int64_t as_integer(std::byte byte, Type type) {
        return type == Type::i8 ? std::int64_t{static_cast<std::int8_t>(byte)} : std::int64_t{static_cast<std::uint8_t>(byte)};
    }

    /// Whether all of 8-bit weights less a zero are i8 again.
    [[nodiscard]] static bool fits_i8(const Value& weights, std::int64_t zero) {
        if (bits(weights.type) != 8) return false;
        std::int64_t low = 0, high = 0;
        for (std::int64_t k = 0; k < elements(weights.dims); ++k) {
            const std::int64_t number = as_integer(weights.constant.data[k], weights.type) - zero;
            low = std::min(low, number);
            high = std::max(high, number);
        }
        return low >= -128 && high <= 127;
    }

    /// Integers of 8 bits as i8, less 128 if they have no sign. The shift is added to the offset.
    ValueId as_i8(ValueId id, double& offset) {
        if (value(id).type == Type::i8) return id;
        offset += 128;
        return builder().pointwise("Shift", Type::i8, {id}, "(i32)a - 128");
    }

    std::optional<Quantised> quantised(ValueId id) {
        const auto [found, fresh] = quantised_.try_emplace(id);
        if (!fresh) return found->second;
        auto made = fake_quantized(id);
        if (!made) made = dequantized(id);
        return quantised_[id] = made;
    }

    /// FakeQuantize of one range for all: its steps, counted from -128, or -127 where there are 255, so that a symmetric range has no offset. What is
    /// no number counts as 0, and does not come out as none.
    std::optional<Quantised> fake_quantized(ValueId id) {
        const Compute* what = operation(id, "FakeQuantize");
        if (what == nullptr || !is_float(value(id).type) || value(id).type == Type::f64) return std::nullopt;
        const std::vector<ValueId> inputs = producer(id)->inputs;
        int levels = 0;
        for (const int count : {255, 256}) {
            if (what->expression == fake_quantize_expression(Type::f32, count)) levels = count;
        }
        if (levels == 0 || dims(inputs[0]) != dims(id)) return std::nullopt;
        double range[4];
        for (std::size_t k = 0; k < 4; ++k) {
            const auto bound = scalar(value(inputs[k + 1]));
            if (!bound || !std::isfinite(*bound)) return std::nullopt;
            range[k] = *bound;
        }
        if (!(range[0] < range[1]) || !(range[2] < range[3])) return std::nullopt;
        const int steps = levels - 1, least = -(levels / 2);
        Quantised made;
        made.scale = (range[3] - range[2]) / steps;
        made.offset = range[2] / made.scale - least;
        // The ends of a range are rounded to f32; what misses a whole number of steps by no more is one.
        if (std::abs(made.offset - std::nearbyint(made.offset)) < 1e-4) made.offset = std::nearbyint(made.offset);
        if (!std::isfinite(made.offset) || !std::isnormal(static_cast<float>(made.scale))) return std::nullopt;
        const std::string low = literal(Type::f32, range[0]), high = literal(Type::f32, range[1]);
        made.q = builder().pointwise("Quantize", Type::i8, {inputs[0]},
                                     fmt::format("a <= {0} ? {4} : (a > {1} ? {2} : (i32)rintf((a - {0}) / ({1} - {0}) * {3}) + {4})", low, high,
                                                 steps + least, literal(Type::f32, steps), literal(Type::i32, least)),
                                     8);
        return made;
    }

    /// (Convert(q) - zero) * scale of 8-bit integers that are computed.
    std::optional<Quantised> dequantized(ValueId id) {
        Quantised made;
        if (operation(id, "Multiply") != nullptr) {
            const std::vector<ValueId> inputs = producer(id)->inputs;
            const auto left = uniform(inputs[0]), right = uniform(inputs[1]);
            if (left.has_value() == right.has_value()) return std::nullopt;
            made.scale = left ? *left : *right;
            const ValueId rest = inputs[left ? 1 : 0];
            if (dims(rest) != dims(id)) return std::nullopt;
            id = rest;
        }
        if (operation(id, "Subtract") != nullptr) {
            const std::vector<ValueId> inputs = producer(id)->inputs;
            const auto zero = uniform(inputs[1]);
            if (!zero || std::abs(*zero) > 255 || *zero != std::nearbyint(*zero) || dims(inputs[0]) != dims(id)) return std::nullopt;
            made.offset = -*zero;
            id = inputs[0];
        }
        if (operation(id, "Convert") == nullptr || !is_float(value(id).type) || !std::isnormal(static_cast<float>(made.scale))) return std::nullopt;
        const ValueId q = producer(id)->inputs.front();
        if (value(q).type != Type::i8 && value(q).type != Type::u8) return std::nullopt;
        made.q = as_i8(q, made.offset);
        return made;
    }

    // --- Integers, as MatMulInteger has them: i32 of 8-bit values less their zero points.

    std::optional<ValueId> of_integers(const Node& node, const MatmulSpec& spec) {
        ViewChain rows = view_chain(graph(), node.inputs[0], [](ValueId) { return true; }),
                  columns = view_chain(graph(), node.inputs[1], [](ValueId) { return true; });
        const auto b = converted(columns.source, true);
        if (!b || b->zero >= 0 || columns.dims.size() != 3) return std::nullopt;
        const auto zero = static_cast<std::int64_t>(-b->offset);
        if (!fits_i8(value(b->q), zero)) return std::nullopt;
        auto a = converted(rows.source, false);
        if (!a) return std::nullopt;
        rows.source = as_i8(a->q, a->offset);
        columns.source = b->q;
        if (!spec.transpose_b) columns.transpose({0, 2, 1});
        const auto [product, sums] = multiply(append(builder(), rows), append(builder(), columns), zero, spec, is_shifted(*a));
        return is_shifted(*a) ? unshifted(product, sums, *a) : product;
    }

    /// ConvInteger. The sums leave the convolution as f32, which has every one of them where the weights are small enough for that.
    std::optional<ValueId> of_integer_windows(const Node& node, const ConvolutionSpec& spec) {
        if (spec.result != Type::i32 || !has_windows(spec)) return std::nullopt;
        ViewChain filters = view_chain(graph(), node.inputs[1], [](ValueId) { return true; });
        const auto w = converted(filters.source, true);
        if (!w || w->zero >= 0 || !filters.in_order()) return std::nullopt;
        const auto zero = static_cast<std::int64_t>(-w->offset);
        if (!fits_i8(value(w->q), zero) || !are_whole_in_f32(value(w->q), zero, depth_of(spec))) return std::nullopt;
        auto x = converted(node.inputs[0], false);
        if (!x) return std::nullopt;
        // What stands for 0 must be an i8: a known number is asked, one that is computed has the type of what it is subtracted from.
        if (x->zero >= 0 && value(x->zero).type != value(x->q).type) return std::nullopt;
        const ValueId q = as_i8(x->q, x->offset);
        if (x->zero < 0 && !has_zero(*x)) return std::nullopt;
        const bool shifted = is_shifted(*x);
        ConvolutionSpec whole = scaled_integers(shifted ? without_padding(spec) : spec);
        if (!takes_(whole)) return std::nullopt;
        filters.source = less(w->q, zero);
        const ValueId rows = append(builder(), filters);
        const auto all = [&](float number) {
            return builder().constant_f32({spec.channels_out}, std::vector<float>(static_cast<std::size_t>(spec.channels_out), number));
        };
        const ValueId image = shifted ? surrounded(q, spec, *x) : q;
        const ValueId sums = builder().cast(builder().convolution({image, rows, all(1), all(0)}, std::move(whole)), Type::i32);
        if (!shifted) return sums;
        Dims column(spec.in.size() + 2, 1);
        column[1] = spec.channels_out;
        return unshifted(sums, builder().reshape(sums_of_columns(builder().reshape(rows, {1, spec.channels_out, depth_of(spec)})), column), *x);
    }

    /// Whether f32 has each sum of i8 times `depth` neighbours among weights less their zero.
    [[nodiscard]] static bool are_whole_in_f32(const Value& weights, std::int64_t zero, std::int64_t depth) {
        constexpr std::int64_t kMost = (std::int64_t{1} << 24) / 128;
        for (std::int64_t row = 0; row < elements(weights.dims); row += depth) {
            std::int64_t size = 0;
            for (std::int64_t k = row; k < row + depth; ++k) size += std::abs(as_integer(weights.constant.data[k], weights.type) - zero);
            if (size > kMost) return false;
        }
        return true;
    }

    [[nodiscard]] static bool is_shifted(const Quantised& a) { return a.offset != 0 || a.zero >= 0; }

    /// What the sums would be of q - zero + offset. @param weight_sums  broadcast to `sums`
    ValueId unshifted(ValueId sums, ValueId weight_sums, const Quantised& a) {
        std::vector<ValueId> inputs{sums, weight_sums};
        std::string offset = std::to_string(static_cast<std::int64_t>(a.offset));
        if (a.zero >= 0) {
            inputs.push_back(builder().reshape(a.zero, Dims(dims(sums).size(), 1)));
            offset = fmt::format("({} - (i32)c)", offset);
        }
        return builder().pointwise("Unshift", Type::i32, std::move(inputs), fmt::format("a + b * {}", offset), 2);
    }

    /// Convert(q) - zero in i32, q being 8-bit integers that are constant or are not.
    [[nodiscard]] std::optional<Quantised> converted(ValueId id, bool fixed) const {
        Quantised made;
        if (operation(id, "Subtract") != nullptr) {
            const Node& node = *producer(id);
            if (dims(node.inputs[0]) != dims(id) || elements(dims(node.inputs[1])) != 1) return std::nullopt;
            const ValueId zero = node.inputs[1];
            const Value& known = value(zero);
            if (known.source == Source::constant && known.type == Type::i32) {
                made.offset = -static_cast<double>(first<std::int32_t>(known));
            } else if (operation(zero, "Convert") != nullptr) {
                const ValueId from = producer(zero)->inputs.front();
                if (value(from).source == Source::constant && bits(value(from).type) == 8) {
                    made.offset = -static_cast<double>(as_integer(*value(from).constant.data, value(from).type));
                } else if (value(from).type == Type::i8 || value(from).type == Type::u8) {
                    made.zero = from;
                } else {
                    return std::nullopt;
                }
            } else {
                return std::nullopt;
            }
            if (std::abs(made.offset) > 255) return std::nullopt;
            id = node.inputs[0];
        }
        if (operation(id, "Convert") == nullptr) return std::nullopt;
        made.q = producer(id)->inputs.front();
        const Value& q = value(made.q);
        if ((q.type != Type::i8 && q.type != Type::u8) || (q.source == Source::constant) != fixed || (!fixed && constant(made.q)))
            return std::nullopt;
        return made;
    }

    template <typename T>
    [[nodiscard]] static T first(const Value& known) {
        T number{};
        std::memcpy(&number, known.constant.data, sizeof number);
        return number;
    }

    // --- Both.

    /// Weights of 8 bits less their zero, as i8.
    ValueId less(ValueId weights, std::int64_t zero) {
        if (value(weights).type == Type::i8 && zero == 0) return weights;
        return builder().pointwise("Shift", Type::i8, {weights}, fmt::format("(i32)a - ({})", zero));
    }

    /// A (1, m, k) of i8 times weights (1, n, k) less `zero`, and with `summed` the sums of those over k (1, 1, n).
    std::pair<ValueId, ValueId> multiply(ValueId a, ValueId weights, std::int64_t zero, const MatmulSpec& spec, bool summed) {
        const ValueId b = less(weights, zero);
        MatmulSpec integers;
        integers.m = spec.m;
        integers.n = spec.n;
        integers.k = spec.k;
        integers.transpose_b = true;
        integers.type = Type::i8;
        integers.result = integers.bias_type = Type::i32;
        const ValueId product = builder().matmul(a, b, integers);
        if (!summed) return {product, -1};
        return {product, sums_of_columns(b)};
    }

    /// Of weights (1, n, k) the sums over k (1, 1, n).
    ValueId sums_of_columns(ValueId weights) {
        const Dims space = dims(weights);
        Rowwise sums{"ColumnSums", space, {2}, Type::i64, {}, "return s0;", true, 1, {}};
        sums.stages.push_back({Rowwise::Combine::sum, "return in0(0, i1, i2);", ""});
        return builder().reshape(builder().rowwise(Type::i32, {weights}, std::move(sums)), {1, 1, space[1]});
    }

    const std::function<bool(const ConvolutionSpec&)>& takes_;
    std::map<ValueId, std::optional<Quantised>> quantised_;
};

}  // namespace

std::string fake_quantize_expression(Type type, std::int64_t levels) {
    // x <= min(il, ih) -> ol; x > max(il, ih) -> oh; else round((x - il) / (ih - il) * (levels - 1)) / (levels - 1) * (oh - ol) + ol, halves to even.
    const Type wide = type == Type::f64 ? Type::f64 : Type::f32;
    // The product is rounded before d is added: whole steps come out as whole numbers then, which a conversion to integers cuts off.
    return fmt::format("a <= (b < c ? b : c) ? d : (a > (b > c ? b : c) ? e : times{0}(rint{0}((a - b) / (c - b) * {1}) / {1}, e - d) + d)",
                       wide == Type::f64 ? "" : "f", literal(wide, static_cast<double>(levels - 1)));
}

Graph integer_products(Graph graph, const std::function<bool(const ConvolutionSpec&)>& takes) {
    return IntegerProducts(std::move(graph), takes).run();
}

}  // namespace ai_vmm::cuda
