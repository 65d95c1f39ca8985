// SPDX-License-Identifier: Apache-2.0
#include "fixture.hpp"

namespace ai_vmm::integration {
namespace {

/// Every test has a healthy deployment beside the failure; it must go on answering.
class Errors : public Fixture {
protected:
    Errors() : vmm_(options()), healthy_(vmm_.deploy(bundled("digits_cnn.onnx"), quick())) {}
    ~Errors() override { EXPECT_EQ(healthy_->execute(ones(*healthy_)).size(), 1U); }

    Error deploy_error(const ModelSource& source, const Constraints& constraints = quick()) {
        return error_of([&] { (void)vmm_.deploy(source, constraints); });
    }

    VMM vmm_;
    std::shared_ptr<Deployment> healthy_;
};

TEST_F(Errors, Files) {
    EXPECT_EQ(deploy_error(folder_ / "missing.onnx").code(), ErrorCode::not_found);
    spit(folder_ / "empty.onnx", "");
    EXPECT_EQ(deploy_error(folder_ / "empty.onnx").code(), ErrorCode::invalid_argument);
    spit(folder_ / "text.onnx", "hello, this is no model\n");
    EXPECT_EQ(deploy_error(folder_ / "text.onnx").code(), ErrorCode::invalid_argument);
    EXPECT_EQ(deploy_error(folder_).code(), ErrorCode::invalid_argument);
    EXPECT_FALSE(deploy_error(folder_ / "text.onnx").advice().empty());
}

TEST_F(Errors, TruncatedModels) {
    const std::string whole = slurp(bundled("digits_cnn.onnx"));
    for (const double part : {0.01, 0.1, 0.3, 0.5, 0.9, 0.999}) {
        spit(folder_ / "cut.onnx", std::string_view(whole).substr(0, static_cast<std::size_t>(part * static_cast<double>(whole.size()))));
        const Error error = deploy_error(folder_ / "cut.onnx");
        EXPECT_NE(error.code(), ErrorCode::ok) << part;
        EXPECT_NE(error.code(), ErrorCode::internal) << part << ": " << error.what();
    }
}

TEST_F(Errors, WeightsThatEndEarly) {
    const auto copy = [&](std::string_view from, std::string_view to, std::size_t less) {
        const std::string whole = slurp(bundled(from));
        ASSERT_GT(whole.size(), less);
        fs::create_directories((folder_ / to).parent_path());
        spit(folder_ / to, std::string_view(whole).substr(0, whole.size() - less));
    };
    copy("digits_cnn.pdmodel", "p/m.pdmodel", 0);
    copy("digits_cnn.pdiparams", "p/m.pdiparams", 9);
    copy("digits_cnn.xml", "m.xml", 0);
    copy("digits_cnn.bin", "m.bin", 9);
    copy("digits_cnn.external.onnx", "m.onnx", 0);
    copy("digits_cnn.external.onnx.data", "digits_cnn.external.onnx.data", 100);
    const std::string variables = "variables/variables.data-00000-of-00001";
    copy("digits_cnn_savedmodel/saved_model.pb", "s/saved_model.pb", 0);
    copy("digits_cnn_savedmodel/variables/variables.index", "s/variables/variables.index", 0);
    copy("digits_cnn_savedmodel/" + variables, "s/" + variables, 20000);
    for (const char* model : {"p/m.pdmodel", "m.xml", "m.onnx", "s"}) {
        const Error error = deploy_error(folder_ / model);
        EXPECT_EQ(error.code(), ErrorCode::data_loss) << model << ": " << error.what();
        EXPECT_NE(error.advice().find("again"), std::string::npos) << error.what();
    }
}

TEST_F(Errors, AModelThatIsNotValidIsNotTakenForOneThatNoEngineRuns) {
    std::string model = slurp(bundled("digits_cnn.onnx"));
    const std::size_t name = model.find("classifier.weight");  // as a node reads it: the tensor's own name comes later
    ASSERT_NE(name, std::string::npos);
    model[name] = 'C';
    const Error error = deploy_error(ModelSource::from_bytes(model));
    EXPECT_EQ(error.code(), ErrorCode::invalid_argument) << error.what();
    EXPECT_NE(error.found().find("Classifier.weight"), std::string::npos) << error.what();
    EXPECT_EQ(error.found().find(".cc:"), std::string::npos) << error.what();
    EXPECT_NE(error.advice().find("export the model again"), std::string::npos) << error.what();

    std::string no_such_output = slurp(bundled("digits_cnn.onnx"));
    const std::size_t output = no_such_output.rfind("logits");
    ASSERT_NE(output, std::string::npos);
    no_such_output[output] = 'L';
    EXPECT_EQ(deploy_error(ModelSource::from_bytes(no_such_output)).code(), ErrorCode::invalid_argument);

    std::string lacks_an_operator = slurp(bundled("digits_cnn.onnx"));
    for (std::size_t at = 0; (at = lacks_an_operator.find("MaxPool", at)) != std::string::npos; ++at) lacks_an_operator[at] = 'm';
    EXPECT_EQ(deploy_error(ModelSource::from_bytes(lacks_an_operator)).code(), ErrorCode::unimplemented);
}

TEST_F(Errors, Constraints) {
    Constraints unknown_device = quick();
    unknown_device.devices = {"gpu:7"};
    EXPECT_EQ(deploy_error(bundled("digits_cnn.onnx"), unknown_device).code(), ErrorCode::invalid_argument);
    Constraints unknown_engine = quick();
    unknown_engine.engines = {"tensorrt"};
    EXPECT_EQ(deploy_error(bundled("digits_cnn.onnx"), unknown_engine).code(), ErrorCode::invalid_argument);
    Constraints impossible = quick();
    impossible.max_latency_ms = 1e-6;
    const Error refusal = deploy_error(bundled("digits_cnn.onnx"), impossible);
    EXPECT_EQ(refusal.code(), ErrorCode::failed_precondition);
    EXPECT_EQ(refusal.category(), ErrorCategory::performance);
    EXPECT_NE(refusal.advice().find("nearest offer"), std::string::npos) << refusal.what();
    Constraints nonsense = quick();
    nonsense.max_latency_ms = -1;
    EXPECT_EQ(deploy_error(bundled("digits_cnn.onnx"), nonsense).code(), ErrorCode::invalid_argument);
    Constraints watts = quick();
    watts.power_budget_watts = 5;
    EXPECT_EQ(deploy_error(bundled("digits_cnn.onnx"), watts).code(), ErrorCode::failed_precondition) << "no meter, no promise";
    Constraints shape = quick();
    shape.input_shapes = {{"no such input", {1}}};
    EXPECT_EQ(deploy_error(bundled("digits_cnn.onnx"), shape).code(), ErrorCode::invalid_argument);
}

TEST_F(Errors, Inputs) {
    const std::string name = healthy_->inputs()[0].name;
    const auto run = [&](TensorMap inputs) { return error_of([&] { (void)healthy_->execute(inputs); }); };
    EXPECT_EQ(run({}).code(), ErrorCode::invalid_argument);
    EXPECT_EQ(run({{"nobody", Tensor(ElementType::f32, {1, 1, 8, 8})}}).code(), ErrorCode::invalid_argument);
    EXPECT_EQ(run({{name, Tensor(ElementType::f64, {1, 1, 8, 8})}}).code(), ErrorCode::invalid_argument);
    EXPECT_EQ(run({{name, Tensor(ElementType::f32, {1, 1, 8, 9})}}).code(), ErrorCode::invalid_argument);
    EXPECT_EQ(run({{name, Tensor()}}).code(), ErrorCode::invalid_argument);
}

TEST_F(Errors, AFailingBackendHarmsNobody) {
    const fs::path library = fs::path(AI_VMM_BINARY_DIR) / "lib/test_backends/libai_vmm_backend_null.so";
    ASSERT_TRUE(fs::exists(library));
    ::setenv("AI_VMM_NULL_FAULT", "compile", 1);
    VMM::Options with_null = options();
    with_null.backend_paths = {library};
    VMM vmm(with_null);
    Constraints only_null = quick();
    only_null.engines = {"null"};
    EXPECT_NE(error_of([&] { (void)vmm.deploy(bundled("digits_cnn.onnx"), only_null); }).code(), ErrorCode::ok);
    const auto model = vmm.deploy(bundled("digits_cnn.onnx"), quick());
    ::unsetenv("AI_VMM_NULL_FAULT");
    EXPECT_FALSE(model->describe().engine.starts_with("null")) << "zeros are not the model's answers";
    EXPECT_EQ(model->execute(ones(*model)).size(), 1U);
}

}  // namespace
}  // namespace ai_vmm::integration
