// SPDX-License-Identifier: Apache-2.0
/// Who owns which memory: outputs in place or new, inputs at changing addresses.
#include <algorithm>

#include "cases.hpp"
#include "models.hpp"
#include "openvino/opsets/opset15.hpp"
#include "reference.hpp"

namespace ai_vmm::conformance {
namespace {

namespace op = ov::opset15;

/// Sizes on both sides of any threshold between copying and sharing.
const std::vector<std::int64_t> kSizes{1, 16, 5000, 300000};

void outputs_in_place(const Subject& subject) {
    for (const std::int64_t size : kSizes) {
        const Running running = start(subject, affine_model({size}));
        std::vector<Tensor> outputs{Tensor(ElementType::f32, {size})};
        const void* memory = outputs[0].data();
        for (std::uint32_t round = 1; round < 4; ++round) {
            const Array x = spread({size}, -1, 1, round);
            running.request->run(std::vector{f32(x)}, outputs);
            require(outputs[0].data() == memory, "a given output of " + std::to_string(size) + " elements was replaced");
            require_f32(subject, outputs[0], affine(x), "in place, " + std::to_string(size) + " elements");
        }
    }
}

void outputs_borrowed(const Subject& subject) {
    for (const std::int64_t size : kSizes) {
        const Running running = start(subject, affine_model({size}));
        // Not aligned to anything but the element, and with guards around.
        std::vector<float> memory(static_cast<std::size_t>(size) + 3, -7.0F);
        std::vector<float> source(static_cast<std::size_t>(size) + 1);
        const Array x = spread({size}, -1, 1);
        for (std::size_t i = 0; i < x.size(); ++i) source[i + 1] = static_cast<float>(x[i]);
        const std::vector inputs{Tensor::borrow(ElementType::f32, {size}, source.data() + 1)};
        std::vector outputs{Tensor::borrow(ElementType::f32, {size}, memory.data() + 1)};
        running.request->run(inputs, outputs);
        require(outputs[0].data() == memory.data() + 1, "a borrowed output was replaced");
        require_f32(subject, outputs[0], affine(x), "borrowed, " + std::to_string(size) + " elements");
        const auto end = memory.size();
        require(memory[0] == -7.0F && memory[end - 1] == -7.0F && memory[end - 2] == -7.0F, "the engine wrote outside of the output");
    }
}

void outputs_replaced(const Subject& subject) {
    for (const std::int64_t size : kSizes) {
        const Running running = start(subject, affine_model({size}));
        const Array x = spread({size}, -1, 1);
        for (const Tensor& wrong : {Tensor(ElementType::f32, {size + 1}), Tensor(ElementType::i32, {size}), Tensor(ElementType::f32, {1, size})}) {
            std::vector outputs{wrong};
            running.request->run(std::vector{f32(x)}, outputs);
            require(outputs[0].type() == ElementType::f32 && outputs[0].shape() == Shape{size}, "an unfit output was kept");
            require(outputs[0].data() != wrong.data(), "an unfit output was written to");
            require_f32(subject, outputs[0], affine(x), "in place of an unfit output");
        }
    }
}

void outputs_survive(const Subject& subject) {
    for (const bool dynamic : {false, true}) {
        for (const std::int64_t size : kSizes) {
            Running running = start(subject, affine_model(dynamic ? ov::PartialShape{-1} : ov::PartialShape{size}));
            const Array x = spread({size}, -1, 1);
            const Array y = spread({size}, 3, 4, 2);
            const auto first = running.run({f32(x)});
            const auto second = running.run({f32(y)});
            const std::string what = std::to_string(size) + (dynamic ? " elements, dynamic" : " elements");
            require(first[0].owns_memory(), "an output that the caller did not give owns no memory, " + what);
            require_f32(subject, first[0], affine(x), "an output after another run, " + what);
            require_f32(subject, second[0], affine(y), "the later output, " + what);
            running.request.reset();
            running.executable.reset();
            require_f32(subject, first[0], affine(x), "an output after its request and executable are gone, " + what);
        }
    }
}

void dynamic_shapes_change(const Subject& subject) {
    const Running running = start(subject, affine_model({-1, 3}));
    std::vector<Tensor> kept(1);
    for (const std::int64_t rows : {2, 5, 0, 1, 30000, 2, 30000, 7}) {
        const Array x = spread({rows, 3}, -1, 1, static_cast<std::uint32_t>(rows));
        const auto fresh = running.run({f32(x)});
        require_f32(subject, fresh[0], affine(x), std::to_string(rows) + " rows");
        running.request->run(std::vector{f32(x)}, kept);  // given as the previous shape left it
        require_f32(subject, kept[0], affine(x), std::to_string(rows) + " rows into an older output");
        const void* memory = kept[0].data();
        running.request->run(std::vector{f32(x)}, kept);
        require(kept[0].data() == memory || rows == 0 || !subject.computes, "a given output of a dynamic model was replaced");
    }
}

void inputs_change(const Subject& subject) {
    for (const std::int64_t size : kSizes) {
        const Running running = start(subject, affine_model({size}));
        std::vector<Tensor> inputs{Tensor(ElementType::f32, {size})};
        std::vector<Tensor> outputs{Tensor(ElementType::f32, {size})};
        for (std::uint32_t round = 1; round < 4; ++round) {  // same address, other values
            const Array x = spread({size}, -1, 1, round);
            std::ranges::transform(x.values, inputs[0].as<float>().begin(), [](double v) { return static_cast<float>(v); });
            running.request->run(inputs, outputs);
            require_f32(subject, outputs[0], affine(x), "changed values at the same address");
        }
        for (std::uint32_t round = 4; round < 8; ++round) {  // other addresses
            const Array x = spread({size}, -1, 1, round);
            outputs[0] = Tensor(ElementType::f32, {size});
            running.request->run(std::vector{f32(x)}, outputs);
            require_f32(subject, outputs[0], affine(x), "another address");
        }
    }
}

void output_is_input(const Subject& subject) {
    for (const bool dynamic : {false, true}) {
        for (const std::int64_t size : kSizes) {
            const auto x = std::make_shared<op::Parameter>(ov::element::f32, dynamic ? ov::PartialShape{-1} : ov::PartialShape{size});
            const auto model = make_model(std::make_shared<ov::Model>(ov::OutputVector{x->output(0)}, ov::ParameterVector{x}));
            const Running running = start(subject, model);
            const Array values = spread({size}, -1, 1);
            const std::vector inputs{f32(values)};
            auto outputs = running.run(inputs);
            require(outputs[0].data() != inputs[0].data(), "an output handed out is the caller's input");
            require_f32(subject, outputs[0], values, "the identity of " + std::to_string(size) + " elements");
            running.request->run(inputs, outputs);
            require_f32(subject, outputs[0], values, "the identity in place of " + std::to_string(size) + " elements");
        }
    }
}

void output_repeats(const Subject& subject) {
    for (const std::int64_t size : {3, 9000}) {
        const auto x = std::make_shared<op::Parameter>(ov::element::f32, ov::PartialShape{size});
        const auto y = std::make_shared<op::Multiply>(x, constant(Array({1}, {2})));
        auto model = make_model(std::make_shared<ov::Model>(ov::OutputVector{y, y}, ov::ParameterVector{x}));
        model.outputs.push_back(model.outputs[0]);
        model.graph_outputs = {0, 1, 0};  // two outputs from one node, and one output listed twice
        const Running running = start(subject, model);
        const Array values = spread({size}, -1, 1);
        const Array twice = reference::map(values, [](double v) { return 2 * v; });
        const auto outputs = running.run({f32(values)});
        for (const Tensor& output : outputs) require_f32(subject, output, twice, "a repeated output");
        require(outputs[0].data() != outputs[1].data() && outputs[0].data() != outputs[2].data(), "two outputs share memory");
    }
}

void output_is_constant(const Subject& subject) {
    const auto x = std::make_shared<op::Parameter>(ov::element::f32, ov::PartialShape{2});
    const auto y = std::make_shared<op::Add>(x, constant(Array({1}, {1})));
    const Array values = spread({4}, -1, 1);
    const auto model = make_model(std::make_shared<ov::Model>(ov::OutputVector{y, constant(values)}, ov::ParameterVector{x}));
    const Running running = start(subject, model);
    auto outputs = running.run({f32(Array({2}, 0.0))});
    require_f32(subject, outputs[1], values, "a constant output");
    std::ranges::fill(outputs[1].as<float>(), 9.0F);  // belongs to the caller now
    require_f32(subject, running.run({f32(Array({2}, 0.0))})[1], values, "a constant output after its copy was overwritten");
}

/// What engines divide among threads and add up: a long sum in a product, keys of one query, channels and pixels, a whole tensor.
std::vector<std::pair<std::string, backend::Model>> models_of_sums() {
    using Parameters = ov::ParameterVector;
    const auto input = [](const ov::Shape& shape) { return std::make_shared<op::Parameter>(ov::element::f32, shape); };
    const auto model = [](const std::shared_ptr<ov::Node>& node, const Parameters& inputs) {
        return make_model(std::make_shared<ov::Model>(ov::OutputVector{node}, inputs));
    };
    std::vector<std::pair<std::string, backend::Model>> all;
    const auto rows = input({16, 2048});
    const auto product = std::make_shared<op::MatMul>(rows, constant(spread({2048, 64}, -1, 1)));
    all.emplace_back("a product", model(std::make_shared<op::Add>(product, constant(spread({64}, -1, 1))), {rows}));
    const auto query = input({2, 3, 1, 32}), keys = input({2, 3, 300, 32});
    all.emplace_back("attention of one query", model(std::make_shared<op::ScaledDotProductAttention>(query, keys, keys, false), {query, keys}));
    const auto image = input({1, 32, 14, 14});
    all.emplace_back("a convolution", model(std::make_shared<op::Convolution>(image, constant(spread({32, 32, 3, 3}, -1, 1)), ov::Strides{1, 1},
                                                                              ov::CoordinateDiff{1, 1}, ov::CoordinateDiff{1, 1}, ov::Strides{1, 1}),
                                            {image}));
    const auto many = input({100, 1000});
    all.emplace_back("a sum", model(std::make_shared<op::ReduceSum>(many, constant(Array({2}, {0, 1}), ElementType::i64), false), {many}));
    return all;
}

void results_repeat(const Subject& subject) {
    if (!subject.computes) throw Skipped("the backend computes nothing");
    for (const Precision precision : {Precision::f32, Precision::f16, Precision::bf16}) {
        if (!subject.runs(to_string(precision))) continue;
        for (const auto& [what, model] : models_of_sums()) {
            backend::CompileConfig config = subject.config();
            config.precision = precision;
            const auto executable = compile_supported(subject, model, config);
            std::vector<Tensor> inputs;
            for (const TensorInfo& info : model.inputs)
                inputs.push_back(f32(spread(info.shape, -1, 1, static_cast<std::uint32_t>(inputs.size() + 1))));
            std::vector<std::byte> first;
            const std::unique_ptr<backend::Request> requests[] = {executable->create_request(), executable->create_request()};
            for (int round = 0; round < 20; ++round) {
                std::vector<Tensor> outputs(1);
                requests[round % 2]->run(inputs, outputs);
                const auto* data = static_cast<const std::byte*>(outputs[0].data());
                const std::vector<std::byte> bytes(data, data + outputs[0].size_bytes());
                if (round == 0) first = bytes;
                require(bytes == first,
                        what + " in " + std::string(to_string(precision)) + " gave another result in run " + std::to_string(round + 1));
            }
        }
    }
}

void no_inputs(const Subject& subject) {
    const auto y = std::make_shared<op::Range>(number(0), number(4), number(1), ov::element::f32);
    const auto model = make_model(std::make_shared<ov::Model>(ov::OutputVector{y}, ov::ParameterVector{}));
    const Running running = start(subject, model);
    require_f32(subject, running.run({})[0], counting({4}), "a model without inputs");
}

void wrong_counts(const Subject& subject) {
    const Running running = start(subject, affine_model({4}));
    if (!subject.computes) throw Skipped("the backend looks at nothing");
    std::vector<Tensor> outputs(1);
    std::vector<Tensor> none;
    require_error([&] { running.request->run(none, outputs); }, {ErrorCode::invalid_argument}, "run() without the input");
    require_error([&] { running.request->run(std::vector{Tensor()}, outputs); }, {ErrorCode::invalid_argument}, "run() with an empty input");
    const Array x = spread({4}, -1, 1);
    require_f32(subject, running.run({f32(x)})[0], affine(x), "a run after refused ones");
}

}  // namespace

void add_output_tests(Tests& tests) {
    tests.push_back({"memory", "outputs_in_place", outputs_in_place});
    tests.push_back({"memory", "outputs_borrowed", outputs_borrowed});
    tests.push_back({"memory", "outputs_replaced", outputs_replaced});
    tests.push_back({"memory", "outputs_survive", outputs_survive});
    tests.push_back({"memory", "dynamic_shapes_change", dynamic_shapes_change});
    tests.push_back({"memory", "inputs_change", inputs_change});
    tests.push_back({"memory", "output_is_input", output_is_input});
    tests.push_back({"memory", "output_repeats", output_repeats});
    tests.push_back({"memory", "output_is_constant", output_is_constant});
    tests.push_back({"memory", "results_repeat", results_repeat});
    tests.push_back({"memory", "no_inputs", no_inputs});
    tests.push_back({"memory", "wrong_counts", wrong_counts});
}

}  // namespace ai_vmm::conformance
