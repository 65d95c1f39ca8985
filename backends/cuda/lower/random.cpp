// SPDX-License-Identifier: Apache-2.0
/// Random numbers: OpenVINO's own, which their seeds decide.
#include <random>

#include "lower/text.hpp"
#include "openvino/op/ops.hpp"

namespace ai_vmm::cuda {
namespace {

/// Philox 4x32-10 (Salmon et al., Parallel Random Numbers: As Easy as 1, 2, 3), keyed with the model's seed and counted from the operation's. Every
/// execution starts at the first number.
void lower_random_uniform(Context& c) {
    const auto& op = c.as<ov::op::v8::RandomUniform>();
    if (op.get_global_seed() == 0 && op.get_op_seed() == 0) c.unsupported("without a seed every execution must differ");
    if (op.get_alignment() != ov::op::PhiloxAlignment::TENSORFLOW) c.unsupported("numbers aligned to PyTorch's come one after the other");
    const Type type = c.out_type();
    const Dims out = c.out_dims();
    const int per_block = bits(type) == 64 ? 2 : 4;
    std::string body = "const u64 at = 0";
    const Dims strides = row_major_strides(out);
    for (std::size_t d = 0; d < out.size(); ++d) body += fmt::format(" + (u64)i{} * {}ull", d, strides[d]);
    const auto halves = [](std::uint64_t value) { return fmt::format("{{{}u, {}u}}", value & 0xffffffffU, value >> 32U); };
    body += fmt::format("; u32 n[2], c[2] = {}, k[2] = {}; n[0] = (u32)(at / {}); n[1] = (u32)(at / {} >> 32); ", halves(op.get_op_seed()),
                        halves(op.get_global_seed()), per_block, per_block);
    body +=
        "for (int round = 0; round < 10; ++round) { const u64 x = (u64)n[0] * 0xd2511f53u, y = (u64)c[0] * 0xcd9e8d57u; "
        "n[0] = (u32)(y >> 32) ^ n[1] ^ k[0]; n[1] = (u32)y; c[0] = (u32)(x >> 32) ^ c[1] ^ k[1]; c[1] = (u32)x; k[0] += 0x9e3779b9u; k[1] += "
        "0xbb67ae85u; } ";
    const auto scalar = [&](int k) { return read(k - 1, std::vector<std::string>(static_cast<std::size_t>(c.rank(k)), "0")); };
    if (per_block == 2) {
        body += "const u32 low = at % 2 == 0 ? n[0] : c[0], high = at % 2 == 0 ? n[1] : c[1]; ";
    } else {
        body += "const int word = (int)(at % 4); const u32 r = word == 0 ? n[0] : word == 1 ? n[1] : word == 2 ? c[0] : c[1]; ";
    }
    body += fmt::format("const IN0_T low_end = {}, high_end = {}; ", scalar(1), scalar(2));
    const auto narrow = [](std::string_view t, const std::string& value) { return fmt::format("from_{0}(to_{0}({1}))", t, value); };
    switch (type) {
        case Type::f32: body += "return (bits_f32(0x3f800000u | (r & 0x7fffffu)) - 1.0f) * (high_end - low_end) + low_end;"; break;
        case Type::f16:
        case Type::bf16: {
            const std::string unit = type == Type::f16 ? "(f32)(r & 0x3ffu) / 1024.0f" : "(f32)(r & 0x7fu) / 128.0f";
            body += "return " + narrow(to_string(type), unit + " * " + narrow(to_string(type), "high_end - low_end")) + " + low_end;";
            break;
        }
        case Type::f64:
            body += "return (bits_f64(0x3ff0000000000000ull | ((u64)(low & 0xfffffu) << 32) | high) - 1.0) * (high_end - low_end) + low_end;";
            break;
        case Type::i32: body += "return (i32)(r % (u32)(high_end - low_end) + (u32)low_end);"; break;
        case Type::i64: body += "return (i64)((((u64)high << 32) | low) % (u64)(high_end - low_end) + (u64)low_end);"; break;
        default: c.unsupported("numbers of this type");
    }
    c.set(0, c.b.compute(type, out, {c.in(1), c.in(2)}, {"RandomUniform", body, 120, {1, 1}, {}}));
}

/// What the CPU plugin draws for a Multinomial: the words of a Mersenne twister. They are the same in every execution, so that they are known now.
ValueId draws(Context& c, std::uint64_t global_seed, std::uint64_t op_seed, const Dims& dims) {
    std::seed_seq seed{global_seed, op_seed};
    std::mt19937 generator(seed);
    const auto words = std::make_shared<std::vector<std::uint32_t>>(static_cast<std::size_t>(elements(dims)));
    for (std::uint32_t& word : *words) word = static_cast<std::uint32_t>(generator());
    return c.b.constant(Type::u32, dims, {words, reinterpret_cast<const std::byte*>(words->data()), words->size() * sizeof(std::uint32_t)});
}

/// The class whose part of the line from 0 to 1 a number lies in; without replacement, classes that were drawn have no part any more. Sums run one
/// after the other, in f32, as the CPU plugin's do: another order would draw other classes now and then.
void lower_multinomial(Context& c) {
    const auto& op = c.as<ov::op::v13::Multinomial>();
    if (op.get_global_seed() == 0 && op.get_op_seed() == 0) c.unsupported("without a seed every execution must differ");
    const Dims out = c.out_dims();
    const std::int64_t lines = c.dims(0)[0], classes = c.dims(0)[1], samples = out[1];
    const std::string sums = fmt::format(
        "f32 sum = 0; for (idx k = 0; k < (idx){0}; ++k) {{ sum += {1}; out1(f32_bits(sum), n, k); }} if (sum < 1.17549435e-38f) sum = "
        "1.17549435e-38f; "
        "for (idx k = 0; k < (idx){0}; ++k) out1(f32_bits(bits_f32(get1(n, k)) / sum), n, k); ",
        classes, op.get_log_probs() ? "expf((f32)in0(n, k))" : "(f32)in0(n, k)");
    const std::string number = "const f32 x = (f32)in1(n, s) / 4294967295.0f; ";
    // Results: the classes, the ends of their parts as bits of f32, which no f16 mode narrows.
    Custom what{"Multinomial", {}, ""};
    if (op.get_with_replacement()) {
        // Ends ascend: halving finds the first that is not below the number.
        what.phases.push_back({lines, "const idx n = (idx)t; " + sums});
        what.phases.push_back(
            {lines * samples,
             fmt::format("const idx n = (idx)(t / {0}ll), s = (idx)(t % {0}ll); {1}idx at = 0, top = (idx){2}; while (at < top) "
                         "{{ const idx m = (at + top) / 2; if (bits_f32(get1(n, m)) < x) at = m + 1; else top = m; }} out0(at, n, s);",
                         samples, number, classes - 1)});
    } else {
        what.phases.push_back({lines, "const idx n = (idx)t; " + sums +
                                          fmt::format("for (idx s = 0; s < (idx){0}; ++s) {{ {1}idx at = 0; while (at < (idx){2} && bits_f32(get1(n, "
                                                      "at)) < x) ++at; out0(at < (idx){2} ? at : 0, n, s); "
                                                      "if (at == (idx){2}) continue; const f32 end = bits_f32(get1(n, at)), part = at > 0 ? end - "
                                                      "bits_f32(get1(n, at - 1)) : end, rest = 1.0f - part; "
                                                      "for (idx k = 0; k < (idx){2}; ++k) {{ f32 y = bits_f32(get1(n, k)); if (k >= at) y -= part; "
                                                      "out1(f32_bits(y / rest), n, k); }} }}",
                                                      samples, number, classes)});
    }
    const ValueId numbers = draws(c, op.get_global_seed(), op.get_op_seed(), out);
    c.set(0, c.b.custom({{c.out_type(), out}, {Type::u32, c.dims(0)}}, {c.in(0), numbers}, std::move(what)).front());
}

}  // namespace

void add_random(Table& t) {
    t["RandomUniform"] = lower_random_uniform;
    t["Multinomial"] = lower_multinomial;
}

}  // namespace ai_vmm::cuda
