// SPDX-License-Identifier: Apache-2.0
/// Models that an accelerator does not take whole: cut between it and a processor.
#include <cmath>
#include <optional>

#include "fixture.hpp"

namespace ai_vmm::integration {
namespace {

const fs::path kBackends = fs::path(AI_VMM_BINARY_DIR) / "lib/test_backends";

/// y = sigmoid(x)^2; where = positions of x above 0, whose number only values tell.
std::string model_with_open_shapes() {
    const auto port = [](int id) { return "<port id=\"" + std::to_string(id) + "\" precision=\"FP32\"><dim>2</dim><dim>3</dim></port>"; };
    const auto unary = [&](int id, const std::string& name, const std::string& type, const std::string& version) {
        return "<layer id=\"" + std::to_string(id) + "\" name=\"" + name + "\" type=\"" + type + "\" version=\"" + version + "\"><input>" + port(0) +
               "</input><output>" + port(1) + "</output></layer>";
    };
    const std::string open = R"(<port id="1" precision="I64" names="where"><dim>2</dim><dim>-1</dim></port>)";
    return R"(<?xml version="1.0"?><net name="open" version="11"><layers>)"
           R"(<layer id="0" name="x" type="Parameter" version="opset1"><data shape="2,3" element_type="f32"/><output>)"
           R"(<port id="0" precision="FP32" names="x"><dim>2</dim><dim>3</dim></port></output></layer>)" +
           unary(1, "sigmoid", "Sigmoid", "opset1") +
           R"(<layer id="2" name="square" type="Multiply" version="opset1"><data auto_broadcast="numpy"/><input>)" + port(0) + port(1) +
           R"(</input><output><port id="2" precision="FP32" names="y"><dim>2</dim><dim>3</dim></port></output></layer>)" +
           unary(3, "relu", "ReLU", "opset1") + R"(<layer id="4" name="nonzero" type="NonZero" version="opset3"><data output_type="i64"/><input>)" +
           port(0) + "</input><output>" + open + R"(</output></layer><layer id="5" name="y/result" type="Result" version="opset1"><input>)" +
           port(0) +
           R"(</input></layer><layer id="6" name="where/result" type="Result" version="opset1"><input>)"
           R"(<port id="0" precision="I64"><dim>2</dim><dim>-1</dim></port></input></layer></layers><edges>)"
           R"(<edge from-layer="0" from-port="0" to-layer="1" to-port="0"/><edge from-layer="1" from-port="1" to-layer="2" to-port="0"/>)"
           R"(<edge from-layer="1" from-port="1" to-layer="2" to-port="1"/><edge from-layer="0" from-port="0" to-layer="3" to-port="0"/>)"
           R"(<edge from-layer="3" from-port="1" to-layer="4" to-port="0"/><edge from-layer="2" from-port="2" to-layer="5" to-port="0"/>)"
           R"(<edge from-layer="4" from-port="1" to-layer="6" to-port="0"/></edges></net>)";
}

class Cut : public Fixture {
protected:
    [[nodiscard]] VMM::Options with(const char* backend) const {
        VMM::Options all = options();
        all.backend_paths = {kBackends / (std::string("libai_vmm_backend_") + backend + ".so")};
        return all;
    }
    [[nodiscard]] ModelSource open_model() const {
        spit(folder_ / "open.xml", model_with_open_shapes());
        spit(folder_ / "open.bin", "");
        return folder_ / "open.xml";
    }
    static Tensor x() { return Tensor::from<float>({2, 3}, {1, -1, 2, -2, 3, -3}); }
    static void expect_right(Deployment& model) {
        const TensorMap outputs = model.execute({{"x", x()}});
        const Tensor* y = outputs.find("y");
        const Tensor* where = outputs.find("where");
        ASSERT_NE(y, nullptr);
        ASSERT_NE(where, nullptr);
        for (std::size_t i = 0; i < 6; ++i) {
            const float sigmoid = 1 / (1 + std::exp(-x().as<float>()[i]));
            EXPECT_NEAR(y->as<float>()[i], sigmoid * sigmoid, 1e-5F);
        }
        EXPECT_EQ(where->shape(), (Shape{2, 3}));
        const std::vector<std::int64_t> positions(where->as<std::int64_t>().begin(), where->as<std::int64_t>().end());
        EXPECT_EQ(positions, (std::vector<std::int64_t>{0, 0, 1, 0, 2, 1}));
    }
};

TEST_F(Cut, AnAcceleratorRunsItsPartAndTheProcessorTheRest) {
    if (!fs::exists(kBackends / "libai_vmm_backend_cuda_host.so")) GTEST_SKIP() << "the cuda backend is not built";
    Constraints constraints = quick();
    constraints.preferred_hardware = {"cuda"};
    for (const bool from_cache : {false, true}) {
        VMM vmm(with("cuda_host"));
        const auto model = vmm.deploy(open_model(), constraints);
        const DeploymentDescription description = model->describe();
        EXPECT_TRUE(description.engine.starts_with("cuda test + ")) << description.engine << model->explain().text;
        EXPECT_EQ(description.device.substr(description.device.find('+')), "+cpu:0");
        expect_right(*model);
        EXPECT_EQ(model->metrics().fallbacks, 0U);
        const Explanation explanation = model->explain();
        EXPECT_NE(explanation.text.find("in stages"), std::string::npos) << explanation.text;
        EXPECT_NE(explanation.text.find("no lowering for NonZero"), std::string::npos) << explanation.text;
        EXPECT_NE(explanation.json.find("\"operations\":3"), std::string::npos) << explanation.json;
        EXPECT_EQ(has_step(description, "tune"), !from_cache);
    }
}

TEST_F(Cut, BothEnginesMustBeAllowed) {
    if (!fs::exists(kBackends / "libai_vmm_backend_cuda_host.so")) GTEST_SKIP() << "the cuda backend is not built";
    VMM vmm(with("cuda_host"));
    Constraints constraints = quick();
    constraints.engines = {"cuda"};
    EXPECT_EQ(error_of([&] { (void)vmm.deploy(open_model(), constraints); }).code(), ErrorCode::failed_precondition);
    constraints.engines = {"cuda", "openvino"};
    constraints.preferred_hardware = {"cuda"};
    const auto model = vmm.deploy(open_model(), constraints);
    EXPECT_TRUE(model->describe().engine.starts_with("cuda test + openvino ")) << model->explain().text;
    expect_right(*model);
}

TEST_F(Cut, AStageThatComputesNonsenseIsFoundOut) {
    const Variable refuses("AI_VMM_NULL_REFUSES", "NonZero");
    VMM vmm(with("null"));
    Constraints constraints = quick();
    constraints.preferred_hardware = {"null"};
    const auto model = vmm.deploy(open_model(), constraints);
    EXPECT_FALSE(model->describe().engine.starts_with("null")) << "zeros are not the model's answers";
    EXPECT_NE(model->explain().text.find("null+openvino"), std::string::npos) << model->explain().text;
    expect_right(*model);
}

TEST_F(Cut, AFaultInAStageIsAnsweredByTheNextCandidate) {
    const Variable refuses("AI_VMM_NULL_REFUSES", "NonZero");
    std::string faults;  // not while it is verified
    for (int call = 9; call < 100; ++call) faults += "run:" + std::to_string(call) + ",";
    const Variable fault("AI_VMM_NULL_FAULT", faults);
    VMM vmm(with("null"));
    Constraints constraints{.tune = std::chrono::milliseconds(0)};  // outputs are not compared, so zeros pass
    constraints.engines = {"null", "openvino"};
    constraints.preferred_hardware = {"null"};
    const auto model = vmm.deploy(open_model(), constraints);
    EXPECT_EQ(model->describe().engine.substr(0, 5), "null ") << model->explain().text;
    for (int i = 0; i < 16 && model->metrics().fallbacks == 0; ++i) (void)model->execute({{"x", x()}});
    EXPECT_GE(model->metrics().fallbacks, 1U);
    expect_right(*model);
}

}  // namespace
}  // namespace ai_vmm::integration
