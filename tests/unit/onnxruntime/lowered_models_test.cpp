// SPDX-License-Identifier: Apache-2.0
// Every real model that OpenVINO reads, lowered to ONNX, against OpenVINO in f32.
#include "lowering_support.hpp"

namespace ai_vmm::ort::test {
namespace {

struct Case {
    const char* file;
    double tolerance;  ///< of difference(). Quantised: each layer rounds ties to either side, and noise as input is far from what they know
};

class LoweredModel : public testing::TestWithParam<Case> {};

TEST_P(LoweredModel, AgreesWithOpenVino) {
    const auto path = models_folder() / GetParam().file;
    if (!exists(path)) GTEST_SKIP() << path << " is missing";
    const std::shared_ptr<ov::Model> graph = core().read_model(path.string());
    const backend::Model model = graph_model(graph);
    std::vector<Tensor> inputs;
    for (const TensorInfo& info : model.inputs) {
        TensorInfo shaped = info;
        if (std::string_view(GetParam().file).ends_with("tiny_time_mixer.onnx")) shaped.shape = {1, 512, 7};
        inputs.push_back(random_tensor(shaped));
    }
    expect_same(graph, inputs, GetParam().tolerance);
}

INSTANTIATE_TEST_SUITE_P(Files, LoweredModel,
                         testing::Values(Case{"audio/basic_pitch.onnx", 1e-4}, Case{"audio/basic_pitch.tflite", 1e-4},
                                         Case{"audio/basic_pitch_tf", 1e-4}, Case{"content/magika_v3_3.onnx", 1e-4},
                                         Case{"science/hello_world_float.tflite", 1e-4}, Case{"science/mlperf_ad01_fp32.tflite", 1e-4},
                                         Case{"science/mlperf_ad01_int8.tflite", 0.03}, Case{"science/tiny_time_mixer.onnx", 1e-4},
                                         Case{"speech/kws_ref_model", 1e-4}, Case{"speech/micro_speech_quantized.tflite", 0.03},
                                         Case{"speech/mlperf_sww.tflite", 0.03}, Case{"speech/silero_vad_openvino_16k.onnx", 1e-4},
                                         Case{"vision/mlperf_resnet8.tflite", 1e-4}, Case{"vision/mlperf_resnet8_int8.tflite", 0.25},
                                         Case{"vision/mlperf_vww_float.tflite", 1e-4}, Case{"vision/mlperf_vww_int8.tflite", 0.03},
                                         Case{"vision/mobilenet_v2_int8.tflite", 0.2}),
                         [](const auto& test) {
                             std::string name = test.param.file;
                             std::ranges::replace_if(
                                 name, [](char c) { return !std::isalnum(static_cast<unsigned char>(c)); }, '_');
                             return name;
                         });

TEST(LoweredModel, RefusesStatefulModelsByName) {
    const auto path = models_folder() / "llm/babyllama105_ov/openvino_model.xml";
    if (!exists(path)) GTEST_SKIP() << path << " is missing";
    OrtBackend engine;
    const backend::Support support = engine.supports(graph_model(core().read_model(path.string())), {.device = "CPU"});
    EXPECT_FALSE(support.supported);
    EXPECT_NE(support.reason.find("keeps state"), std::string::npos) << support.reason;
    EXPECT_EQ(support.unsupported_nodes.size(), 20U);  // five layers, key and value, read and written
}

}  // namespace
}  // namespace ai_vmm::ort::test
