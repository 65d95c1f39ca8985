// SPDX-License-Identifier: Apache-2.0
#include "models.hpp"

#include <cmath>

#include "cases.hpp"
#include "openvino/op/op.hpp"
#include "openvino/op/util/variable.hpp"
#include "openvino/opsets/opset15.hpp"
#include "reference.hpp"

namespace ai_vmm::conformance {

namespace op = ov::opset15;

namespace {

/// No engine has this operator, and it can't evaluate itself.
class Unknown final : public ov::op::Op {
public:
    OPENVINO_OP("UnknownToEveryEngine", "conformance")
    Unknown() = default;
    explicit Unknown(const ov::Output<ov::Node>& x) : Op({x}) { constructor_validate_and_infer_types(); }
    void validate_and_infer_types() override { set_output_type(0, get_input_element_type(0), get_input_partial_shape(0)); }
    std::shared_ptr<ov::Node> clone_with_new_inputs(const ov::OutputVector& inputs) const override { return std::make_shared<Unknown>(inputs.at(0)); }
    bool visit_attributes(ov::AttributeVisitor&) override { return true; }
};

backend::Model finish(const ov::OutputVector& outputs, const ov::ParameterVector& parameters, const std::string& name) {
    return make_model(std::make_shared<ov::Model>(outputs, parameters, name));
}

}  // namespace

backend::Model affine_model(const ov::PartialShape& shape) {
    const auto x = std::make_shared<op::Parameter>(ov::element::f32, shape);
    const auto doubled = std::make_shared<op::Multiply>(x, constant(Array({1}, {2})));
    return finish({std::make_shared<op::Add>(doubled, constant(Array({1}, {1})))}, {x}, "affine");
}

Array affine(const Array& x) {
    return reference::map(x, [](double v) { return 2 * v + 1; });
}

backend::Model deep_model(std::int64_t side, int depth) {
    const auto x = std::make_shared<op::Parameter>(ov::element::f32, ov::PartialShape{side, side});
    const double range = std::sqrt(3.0 / static_cast<double>(side));
    const auto weights = constant(spread({side, side}, -range, range, 7));
    ov::Output<ov::Node> y = x;
    for (int i = 0; i < depth; ++i) y = std::make_shared<op::MatMul>(y, weights);
    return finish({y}, {x}, "deep");
}

backend::Model loop_model(std::int64_t trips) {
    const auto outer = std::make_shared<op::Parameter>(ov::element::f32, ov::PartialShape{1});
    const auto x = std::make_shared<op::Parameter>(ov::element::f32, ov::PartialShape{1});
    const auto next = std::make_shared<op::Add>(x, constant(Array({1}, {1})));
    const auto go_on = op::Constant::create(ov::element::boolean, ov::Shape{}, {true});
    const auto loop = std::make_shared<op::Loop>(number(trips), go_on);
    loop->set_function(
        std::make_shared<ov::Model>(ov::OutputVector{op::Constant::create(ov::element::boolean, ov::Shape{}, {true}), next}, ov::ParameterVector{x}));
    loop->set_special_body_ports({-1, 0});
    loop->set_merged_input(x, outer, next);
    return finish({loop->get_iter_value(next, -1)}, {outer}, "loop");
}

backend::Model stateful_model() {
    const auto x = std::make_shared<op::Parameter>(ov::element::f32, ov::PartialShape{1});
    const auto variable = std::make_shared<ov::op::util::Variable>(ov::op::util::VariableInfo{ov::PartialShape{1}, ov::element::f32, "sum"});
    const auto before = std::make_shared<op::ReadValue>(constant(Array({1}, {0})), variable);
    const auto after = std::make_shared<op::Add>(before, x);
    const auto keep = std::make_shared<op::Assign>(after, variable);
    const auto result = std::make_shared<op::Result>(std::make_shared<op::Multiply>(after, constant(Array({1}, {1}))));
    return make_model(std::make_shared<ov::Model>(ov::ResultVector{result}, ov::SinkVector{keep}, ov::ParameterVector{x}, "stateful"));
}

backend::Model unknown_operator_model() {
    const auto x = std::make_shared<op::Parameter>(ov::element::f32, ov::PartialShape{2});
    return finish({std::make_shared<Unknown>(x)}, {x}, "unknown");
}

Running start(const Subject& subject, backend::Model model) {
    Running running{.model = std::move(model), .executable = {}, .request = {}};
    running.executable = compile_supported(subject, running.model, subject.config());
    running.request = running.executable->create_request();
    require(running.request != nullptr, "create_request() returned nothing");
    return running;
}

std::vector<Tensor> Running::run(const std::vector<Tensor>& inputs) const {
    std::vector<Tensor> outputs(model.outputs.size());
    request->run(inputs, outputs);
    return outputs;
}

void require_f32(const Subject& subject, const Tensor& found, const Array& expected, const std::string& what) {
    require(found.type() == ElementType::f32, what + ": the type is " + std::string(to_string(found.type())));
    if (!subject.computes) return;
    if (const auto text = difference(found, expected, {1e-4, 1e-4})) throw Failure(what + ": " + *text);
}

}  // namespace ai_vmm::conformance
