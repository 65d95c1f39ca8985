// SPDX-License-Identifier: Apache-2.0
/// Recurrent cells and sequences.
#include <algorithm>
#include <cmath>

#include "lower/text.hpp"
#include "openvino/op/ops.hpp"
#include "openvino/op/util/rnn_cell_base.hpp"

namespace ai_vmm::cuda {
namespace {

enum class Cell : std::uint8_t { rnn, gru, lstm };

/// A recurrence over whole sequences; a single cell is one with one step.
struct Recurrence {
    Cell cell = Cell::rnn;
    std::int64_t directions = 1, batch = 0, steps = 1, input = 0, hidden = 0;
    Type type = Type::f32;
    const ov::op::util::RNNCellBase* op = nullptr;  ///< activations and clip
    bool linear_before_reset = false;
    std::string gates;                  ///< one letter each in the weights' order: "fico", "zrh", "h"
    bool coupled = false;               ///< the input gate is 1 - forget gate
    ValueId x = -1;                     ///< (batch, steps, input)
    ValueId h = -1, c = -1;             ///< (directions, batch, hidden)
    ValueId w = -1, r = -1, bias = -1;  ///< (directions, gates * hidden, input or hidden), (directions, biases * hidden)
    ValueId peepholes = -1;             ///< (3 * hidden): f, i, o
    ValueId lengths = -1;               ///< (batch); none: every sequence has all steps
    std::vector<bool> reverse{false};   ///< per direction
};

struct Results {
    ValueId y = -1;          ///< (batch, directions, steps, hidden)
    ValueId h = -1, c = -1;  ///< (directions, batch, hidden)
};

/// Activation `index` of the variable `x`.
std::string activation(Context& c, const Recurrence& rec, std::size_t index, const std::string& x) {
    const Type wide = rec.type == Type::f64 ? Type::f64 : Type::f32;
    std::string name = index < rec.op->get_activations().size() ? rec.op->get_activations()[index] : "tanh";
    std::transform(name.begin(), name.end(), name.begin(), [](unsigned char letter) { return static_cast<char>(std::tolower(letter)); });
    const auto parameter = [&](const std::vector<float>& given, double otherwise) {
        return literal(wide, index < given.size() ? static_cast<double>(given[index]) : otherwise);
    };
    const auto alpha = [&](double otherwise) { return parameter(rec.op->get_activations_alpha(), otherwise); };
    const auto beta = [&](double otherwise) { return parameter(rec.op->get_activations_beta(), otherwise); };
    const std::string f = suffix(wide);
    if (name == "sigmoid") return fmt::format("1 / (1 + exp{}(-{}))", f, x);
    if (name == "tanh") return fmt::format("tanh{}({})", f, x);
    if (name == "relu") return fmt::format("{0} > 0 ? {0} : 0", x);
    if (name == "hardsigmoid") return fmt::format("fmin{0}(fmax{0}({2} * {1} + {3}, 0), 1)", f, x, alpha(0.2), beta(0.5));
    if (name == "leakyrelu") return fmt::format("{0} > 0 ? {0} : {1} * {0}", x, alpha(0.01));
    if (name == "thresholdedrelu") return fmt::format("{0} > {1} ? {0} : 0", x, alpha(1));
    if (name == "elu") return fmt::format("{1} > 0 ? {1} : {2} * (exp{0}({1}) - 1)", f, x, alpha(1));
    if (name == "softsign") return fmt::format("{1} / (1 + fabs{0}({1}))", f, x);
    if (name == "softplus") return fmt::format("log1p{0}(exp{0}({1}))", f, x);
    if (name == "affine") return fmt::format("{1} * {0} + {2}", x, alpha(1), beta(0));
    if (name == "scaledtanh") return fmt::format("{2} * tanh{0}({3} * {1})", f, x, alpha(1), beta(1));
    c.unsupported("activation \"" + name + "\"");
}

/// One step's kernels. Element (i0, i1, i2) is that of a direction, a sequence and a hidden unit.
class Step {
public:
    /// @param projected  per direction: (batch, gates * hidden), the input's part of every gate
    /// @param number     (1), or none where every sequence has this step
    Step(Context& c, const Recurrence& rec, const std::vector<ValueId>& projected, ValueId number)
        : c_(c), rec_(rec), projected_(projected), number_(number), acc_(rec.type == Type::f64 ? "f64" : "f32") {}

    /// h @ r^T for rows `first` to `first` + `count` (in hidden sizes) of every direction's weights: (directions, batch, count * hidden).
    ValueId product(ValueId h, std::int64_t first, std::int64_t count) {
        const std::int64_t hidden = rec_.hidden;
        ValueId r = rec_.r;
        if (count * hidden != c_.b.dims(r)[1]) r = c_.b.slice(r, {0, first * hidden, 0}, {1, 1, 1}, {rec_.directions, count * hidden, hidden});
        MatmulSpec spec;
        spec.batch = rec_.directions;
        spec.m = rec_.batch;
        spec.n = count * hidden;
        spec.k = hidden;
        spec.transpose_b = true;
        spec.type = rec_.type;
        spec.result = rec_.type == Type::f64 ? Type::f64 : Type::f32;
        return c_.b.matmul(h, r, spec);
    }

    /// Starts a kernel: sequences that have ended keep `old`.
    void begin(ValueId old) {
        inputs_ = projected_;
        text_.clear();
        if (number_ >= 0) text_ = fmt::format("if (in{}(0) >= in{}(i1)) return {}; ", add(number_), add(rec_.lengths), own(old));
    }
    /// The element at the own coordinates.
    std::string own(ValueId value) { return fmt::format("in{}(i0, i1, i2)", add(value)); }
    /// What the input contributes to a gate.
    std::string projected(char gate) {
        const std::string at = fmt::format("(i1, i2 + (idx){})", position(gate) * rec_.hidden);
        return rec_.directions == 1 ? "in0" + at : fmt::format("(i0 == 0 ? in0{0} : in1{0})", at);
    }
    std::string bias_at(std::int64_t at) { return fmt::format("in{}(i0, i2 + (idx){})", add(rec_.bias), at * rec_.hidden); }
    std::string bias(char gate) { return bias_at(position(gate)); }
    /// A gate's element of product().
    std::string recurrent(ValueId product, char gate, std::int64_t first = 0) {
        return fmt::format("in{}(i0, i1, i2 + (idx){})", add(product), (position(gate) - first) * rec_.hidden);
    }
    std::string peephole(int index, const std::string& cell) {
        return rec_.peepholes < 0 ? "" : fmt::format(" + in{}(i2 + (idx){}) * {}", add(rec_.peepholes), index * rec_.hidden, cell);
    }
    /// Declares the gate `name`: clipped and activated.
    void gate(const char* name, const std::string& value, std::size_t which) {
        text_ += fmt::format("{} {} = {}; ", acc_, name, value);
        const float clip = rec_.op->get_clip();
        if (clip > 0 && std::isfinite(clip)) {
            const std::string most = literal(rec_.type == Type::f64 ? Type::f64 : Type::f32, clip);
            text_ += fmt::format("{0} = {0} > {1} ? {1} : {0} < -{1} ? -{1} : {0}; ", name, most);
        }
        text_ += fmt::format("{0} = {1}; ", name, activation(c_, rec_, which, name));
    }
    void line(const std::string& text) { text_ += text; }
    ValueId finish(const char* op, const std::string& result) {
        return c_.b.compute(rec_.type, {rec_.directions, rec_.batch, rec_.hidden}, inputs_, {op, text_ + "return " + result + ";", 60, {}, {}});
    }
    [[nodiscard]] const std::string& accumulator() const { return acc_; }

private:
    [[nodiscard]] std::int64_t position(char gate) const { return static_cast<std::int64_t>(rec_.gates.find(gate)); }
    std::size_t add(ValueId value) {
        const auto found = std::find(inputs_.begin() + static_cast<std::ptrdiff_t>(projected_.size()), inputs_.end(), value);
        if (found != inputs_.end()) return static_cast<std::size_t>(found - inputs_.begin());
        inputs_.push_back(value);
        return inputs_.size() - 1;
    }

    Context& c_;
    const Recurrence& rec_;
    std::vector<ValueId> projected_;
    ValueId number_;
    std::string acc_;
    std::vector<ValueId> inputs_;
    std::string text_;
};

ValueId rnn_step(Step& s, ValueId h) {
    const ValueId product = s.product(h, 0, 1);
    s.begin(h);
    s.gate("g", s.projected('h') + " + " + s.recurrent(product, 'h') + " + " + s.bias('h'), 0);
    return s.finish("RNNCell", "g");
}

/// z and r gates, then h = (1 - z) * candidate + z * h; the reset gate applies before or after the recurrent product.
ValueId gru_step(Step& s, const Recurrence& rec, ValueId h) {
    const auto gate = [&](const char* name, char letter, ValueId product) {
        s.gate(name, s.projected(letter) + " + " + s.recurrent(product, letter) + " + " + s.bias(letter), 0);
    };
    const ValueId all = s.product(h, 0, rec.linear_before_reset ? 3 : 2);
    if (rec.linear_before_reset) {
        s.begin(h);
        gate("z", 'z', all);
        gate("r", 'r', all);
        s.gate("g", fmt::format("{} + r * ({} + {}) + {}", s.projected('h'), s.recurrent(all, 'h'), s.bias_at(3), s.bias('h')), 1);
    } else {
        s.begin(h);
        gate("r", 'r', all);
        const ValueId reset = s.finish("GRUReset", "r * " + s.own(h));
        const ValueId candidate = s.product(reset, 2, 1);
        s.begin(h);
        gate("z", 'z', all);
        s.gate("g", s.projected('h') + " + " + s.recurrent(candidate, 'h', 2) + " + " + s.bias('h'), 1);
    }
    return s.finish("GRUCell", "(1 - z) * g + z * " + s.own(h));
}

std::pair<ValueId, ValueId> lstm_step(Context& context, Step& s, const Recurrence& rec, ValueId h, ValueId c) {
    const ValueId product = s.product(h, 0, 4);
    const auto sum = [&](char letter) { return s.projected(letter) + " + " + s.recurrent(product, letter) + " + " + s.bias(letter); };
    s.begin(c);
    s.gate("f", sum('f') + s.peephole(0, s.own(c)), 0);
    if (rec.coupled) {
        s.line(fmt::format("const {} i = 1 - f; ", s.accumulator()));
    } else {
        s.gate("i", sum('i') + s.peephole(1, s.own(c)), 0);
    }
    s.gate("g", sum('c'), 1);
    const ValueId cell = s.finish("LSTMCellState", "f * " + s.own(c) + " + i * g");
    s.begin(h);
    s.line(fmt::format("const {} state = {}; ", s.accumulator(), s.own(cell)));
    s.gate("o", sum('o') + s.peephole(2, "state"), 0);
    return {s.finish("LSTMCell", fmt::format("o * ({})", activation(context, rec, 2, "state"))), cell};
}

/// The input's part of all gates at all steps, (directions, batch, steps, gates * hidden), as one product; with sequences of differing lengths each
/// direction that runs backwards has its valid steps reversed.
ValueId project(Context& c, const Recurrence& rec) {
    const std::int64_t width = static_cast<std::int64_t>(rec.gates.size()) * rec.hidden;
    MatmulSpec spec;
    spec.batch = rec.directions;
    spec.m = rec.batch * rec.steps;
    spec.n = width;
    spec.k = rec.input;
    spec.transpose_b = true;
    spec.type = rec.type;
    spec.result = rec.type == Type::f64 ? Type::f64 : Type::f32;
    const Dims dims{rec.directions, rec.batch, rec.steps, width};
    const ValueId all = c.b.reshape(c.b.matmul(c.b.reshape(rec.x, {1, spec.m, spec.k}), rec.w, spec), dims);
    if (rec.lengths < 0 || !rec.reverse.back()) return all;
    // Too dear to be computed where it is read: in memory all steps are the same kernel at different addresses.
    constexpr int kStored = 100;
    return c.b.compute(
        spec.result, dims, {all, rec.lengths},
        {"ReverseSequence",
         fmt::format("const idx length = (idx)in1(i1); return in0(i0, i1, i0 == {} && i2 < length ? length - 1 - i2 : i2, i3);", rec.directions - 1),
         kStored,
         {},
         {}});
}

/// Unrolled: per step one product over all directions and one or two kernels, the same ones for every step.
Results unroll(Context& c, const Recurrence& rec) {
    constexpr std::int64_t kMostSteps = 8192;
    if (rec.steps > kMostSteps) c.unsupported(fmt::format("{} steps; at most {} are unrolled", rec.steps, kMostSteps));
    Builder& b = c.b;
    const ValueId all = project(c, rec);
    const std::int64_t width = b.dims(all)[3];
    ValueId numbers = -1;
    if (rec.lengths >= 0) {
        std::vector<std::int64_t> counted(static_cast<std::size_t>(rec.steps));
        for (std::size_t k = 0; k < counted.size(); ++k) counted[k] = static_cast<std::int64_t>(k);
        numbers = b.constant_i64({rec.steps}, counted);
    }
    ValueId h = rec.h, cell = rec.c;
    std::vector<ValueId> outputs;
    for (std::int64_t step = 0; step < rec.steps; ++step) {
        std::vector<ValueId> projected;
        for (std::int64_t d = 0; d < rec.directions; ++d) {
            const bool backwards = rec.reverse[static_cast<std::size_t>(d)] && rec.lengths < 0;
            projected.push_back(b.reshape(b.slice(all, {d, 0, backwards ? rec.steps - 1 - step : step, 0}, {1, 1, 1, 1}, {1, rec.batch, 1, width}),
                                          {rec.batch, width}));
        }
        Step s(c, rec, projected, numbers < 0 ? -1 : b.slice(numbers, {step}, {1}, {1}));
        if (rec.cell == Cell::rnn) h = rnn_step(s, h);
        if (rec.cell == Cell::gru) h = gru_step(s, rec, h);
        if (rec.cell == Cell::lstm) std::tie(h, cell) = lstm_step(c, s, rec, h, cell);
        outputs.push_back(b.reshape(h, {rec.directions, rec.batch, 1, rec.hidden}));
    }
    Results results{-1, h, cell};
    const ValueId y = b.concat(outputs, 2);
    // Steps after a sequence's end are 0, and so is the last state of an empty one.
    std::string body =
        rec.lengths < 0 ? fmt::format("const idx length = (idx){}; ", rec.steps) : "const idx length = (idx)in1(i0); if (i2 >= length) return 0; ";
    std::string when = rec.reverse.front() && rec.directions == 1 ? "1" : rec.reverse.back() ? "i1 == 1" : "0";
    body += fmt::format("return in0(i1, i0, {} ? length - 1 - i2 : i2, i3);", when);
    std::vector<ValueId> inputs{y};
    if (rec.lengths >= 0) inputs.push_back(rec.lengths);
    results.y = rec.lengths < 0 && !rec.reverse.back()
                    ? b.transpose(y, {1, 0, 2, 3})
                    : b.compute(rec.type, {rec.batch, rec.directions, rec.steps, rec.hidden}, inputs, {"Steps", body, 2, {}, {}});
    if (rec.lengths >= 0) {
        for (ValueId* state : {&results.h, &results.c}) {
            if (*state >= 0)
                *state =
                    b.compute(rec.type, b.dims(*state), {*state, rec.lengths}, {"LastState", "return in1(i1) > 0 ? in0(i0, i1, i2) : 0;", 1, {}, {}});
        }
    }
    return results;
}

/// What cells and sequences say alike. @param first  the input that is W
Recurrence read(Context& c, Cell cell, int first) {
    Recurrence rec;
    rec.cell = cell;
    rec.gates = cell == Cell::lstm ? "fico" : cell == Cell::gru ? "zrh" : "h";
    rec.type = c.type(0);
    rec.op = &c.as<ov::op::util::RNNCellBase>();
    rec.hidden = static_cast<std::int64_t>(rec.op->get_hidden_size());
    rec.batch = c.dims(0)[0];
    rec.input = c.dims(0).back();
    rec.x = c.in(0);
    rec.w = c.in(first);
    rec.r = c.in(first + 1);
    rec.bias = c.in(first + 2);
    if (c.is<ov::op::v3::GRUCell>()) rec.linear_before_reset = c.as<ov::op::v3::GRUCell>().get_linear_before_reset();
    if (c.is<ov::op::v5::GRUSequence>()) rec.linear_before_reset = c.as<ov::op::v5::GRUSequence>().get_linear_before_reset();
    return rec;
}

void lower_cell(Context& c, Cell cell) {
    Recurrence rec = read(c, cell, cell == Cell::lstm ? 3 : 2);
    if (c.is<ov::op::v0::LSTMCell>()) {
        const auto& op = c.as<ov::op::v0::LSTMCell>();
        switch (op.get_weights_format()) {
            case ov::op::LSTMWeightsFormat::FICO: rec.gates = "fico"; break;
            case ov::op::LSTMWeightsFormat::ICOF: rec.gates = "icof"; break;
            case ov::op::LSTMWeightsFormat::IFCO: rec.gates = "ifco"; break;
            case ov::op::LSTMWeightsFormat::IFOC: rec.gates = "ifoc"; break;
            case ov::op::LSTMWeightsFormat::IOFC: rec.gates = "iofc"; break;
        }
        rec.coupled = op.get_input_forget();
        const auto peepholes = c.numbers(6);
        if (!peepholes || std::any_of(peepholes->begin(), peepholes->end(), [](double p) { return p != 0; })) rec.peepholes = c.in(6);
    }
    const auto one = [&](ValueId value) {  // a dimension of one direction in front
        Dims dims = c.b.dims(value);
        dims.insert(dims.begin(), 1);
        return c.b.reshape(value, dims);
    };
    rec.h = one(c.in(1));
    if (cell == Cell::lstm) rec.c = one(c.in(2));
    for (ValueId* value : {&rec.w, &rec.r, &rec.bias}) *value = one(*value);
    const Results results = unroll(c, rec);
    c.set(0, c.b.reshape(results.h, c.out_dims()));
    if (cell == Cell::lstm) c.set(1, c.b.reshape(results.c, c.out_dims(1)));
}

/// The node that libraries run, with the unrolled form as its alternative; the latter alone where no library has the case.
Results by_library(Context& c, const Recurrence& rec, const Results& unrolled) {
    Builder& b = c.b;
    RecurrentSpec spec;
    const auto& activations = rec.op->get_activations();
    const float clip = rec.op->get_clip();
    const auto are = [&](std::initializer_list<const char*> names) {
        return std::equal(activations.begin(), activations.end(), names.begin(), names.end(),
                          [](const std::string& x, const char* y) { return x == y; });
    };
    if (rec.reverse.front() || rec.peepholes >= 0 || rec.coupled || (clip > 0 && std::isfinite(clip)) || rec.steps < 2) return unrolled;
    if (rec.cell == Cell::lstm && are({"sigmoid", "tanh", "tanh"})) {
        spec.cell = RecurrentSpec::Cell::lstm;
    } else if (rec.cell == Cell::gru && rec.linear_before_reset && are({"sigmoid", "tanh"})) {
        spec.cell = RecurrentSpec::Cell::gru_reset_after;
    } else if (rec.cell == Cell::rnn && are({"tanh"})) {
        spec.cell = RecurrentSpec::Cell::tanh;
    } else if (rec.cell == Cell::rnn && are({"relu"})) {
        spec.cell = RecurrentSpec::Cell::relu;
    } else {
        return unrolled;
    }
    Recurrent what;
    for (auto [id, data] : {std::pair(rec.w, &what.w), std::pair(rec.r, &what.r), std::pair(rec.bias, &what.b)}) {
        const Value& value = b.value(id);
        if (value.source != Source::constant || value.type != Type::f32 || rec.type != Type::f32) return unrolled;
        *data = value.constant;
    }
    spec.steps = rec.steps;
    spec.batch = rec.batch;
    spec.input = rec.input;
    spec.hidden = rec.hidden;
    spec.directions = static_cast<int>(rec.directions);
    spec.type = rec.type;
    what.spec = spec;
    // (batch, directions, steps, hidden) -> (steps, batch, directions * hidden)
    what.alternative = {b.reshape(b.transpose(unrolled.y, {2, 0, 1, 3}), {rec.steps, rec.batch, rec.directions * rec.hidden}), unrolled.h};
    std::vector<ValueId> inputs{b.transpose(rec.x, {1, 0, 2}), rec.h};
    if (rec.cell == Cell::lstm) {
        inputs.push_back(rec.c);
        what.alternative.push_back(unrolled.c);
    }
    const std::vector<ValueId> out = b.recurrent(std::move(inputs), std::move(what));
    return {b.transpose(b.reshape(out[0], {rec.steps, rec.batch, rec.directions, rec.hidden}), {1, 2, 0, 3}), out[1], out.size() > 2 ? out[2] : -1};
}

template <typename Op>
void lower_sequence(Context& c, Cell cell) {
    const int state = cell == Cell::lstm ? 1 : 0;
    Recurrence rec = read(c, cell, 3 + state);
    rec.steps = c.dims(0)[1];
    rec.directions = c.b.dims(rec.w)[0];
    const auto direction = c.as<Op>().get_direction();
    rec.reverse = direction == ov::op::RecurrentSequenceDirection::BIDIRECTIONAL
                      ? std::vector<bool>{false, true}
                      : std::vector<bool>{direction == ov::op::RecurrentSequenceDirection::REVERSE};
    rec.h = c.b.transpose(c.in(1), {1, 0, 2});
    if (cell == Cell::lstm) rec.c = c.b.transpose(c.in(2), {1, 0, 2});
    const auto lengths = c.integers(2 + state);
    const bool full = lengths && std::all_of(lengths->begin(), lengths->end(), [&](std::int64_t length) { return length == rec.steps; });
    if (!full) rec.lengths = c.in(2 + state);
    Results results = unroll(c, rec);
    if (full) results = by_library(c, rec, results);
    c.set(0, results.y);
    c.set(1, c.b.transpose(results.h, {1, 0, 2}));
    if (cell == Cell::lstm) c.set(2, c.b.transpose(results.c, {1, 0, 2}));
}

}  // namespace

void add_recurrent(Table& t) {
    t["RNNCell"] = [](Context& c) { lower_cell(c, Cell::rnn); };
    t["GRUCell"] = [](Context& c) { lower_cell(c, Cell::gru); };
    t["LSTMCell"] = [](Context& c) { lower_cell(c, Cell::lstm); };
    t["RNNSequence"] = [](Context& c) { lower_sequence<ov::op::v5::RNNSequence>(c, Cell::rnn); };
    t["GRUSequence"] = [](Context& c) { lower_sequence<ov::op::v5::GRUSequence>(c, Cell::gru); };
    t["LSTMSequence"] = [](Context& c) { lower_sequence<ov::op::v5::LSTMSequence>(c, Cell::lstm); };
}

}  // namespace ai_vmm::cuda
