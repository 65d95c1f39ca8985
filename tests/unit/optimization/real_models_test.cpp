// SPDX-License-Identifier: Apache-2.0
/// The guard on real models: what bf16 is known to harm must be refused, from generated inputs alone.
/// AI_VMM_PRINT_ERRORS=1 prints the table of docs/design/0004-equivalence.md.
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <openvino/runtime/core.hpp>

#include "graph/analyser.hpp"
#include "optimization/equivalence.hpp"

namespace ai_vmm::optimization {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t kSeed = 20240601;
constexpr int kSets = 4;

fs::path real_models() {
    const char* variable = std::getenv("AI_VMM_TEST_MODELS");
    const fs::path path = variable != nullptr && *variable != 0 ? variable : AI_VMM_TEST_MODELS;
    return fs::exists(path / "MANIFEST.md") ? path : fs::path();
}

const fs::path kBundled = fs::path(AI_VMM_SOURCE_DIR) / "models";

ov::Core& core() {
    static ov::Core instance;
    return instance;
}

TensorInfo info_of(const ov::Output<const ov::Node>& port) {
    TensorInfo info;
    info.name = port.get_names().empty() ? port.get_node()->get_friendly_name() : port.get_any_name();
    info.type = element_type_from_string(port.get_element_type().get_type_name()).value_or(ElementType::undefined);
    info.rank_known = port.get_partial_shape().rank().is_static();
    if (!info.rank_known) return info;
    for (const auto& dimension : port.get_partial_shape()) info.shape.push_back(dimension.is_static() ? dimension.get_length() : -1);
    return info;
}

struct Loaded {
    backend::Model model;
    ModelProfile profile;
};

Loaded load(const fs::path& path) {
    Loaded loaded;
    loaded.model.graph = core().read_model(path.string());
    for (const auto& port : loaded.model.graph->inputs()) loaded.model.inputs.push_back(info_of(port));
    for (const auto& port : loaded.model.graph->outputs()) loaded.model.outputs.push_back(info_of(port));
    loaded.profile = graph::analyse({}, loaded.model);
    return loaded;
}

/// Outputs of every calibration set; a set that the model refuses is empty.
std::vector<std::vector<Tensor>> run(const Loaded& loaded, const char* precision, int threads) {
    auto compiled = core().compile_model(
        loaded.model.graph, "CPU", {{"INFERENCE_PRECISION_HINT", std::string(precision)}, {"INFERENCE_NUM_THREADS", threads}, {"NUM_STREAMS", 1}});
    std::vector<std::vector<Tensor>> results;
    for (auto& set : make_calibration_inputs(loaded.model.inputs, loaded.profile, {}, kSets, kSeed)) {
        auto request = compiled.create_infer_request();  // a new one: state starts at zero
        std::vector<Tensor> outputs;
        try {
            for (std::size_t i = 0; i < set.size(); ++i) {
                const ov::Shape shape(set[i].shape().begin(), set[i].shape().end());
                request.set_input_tensor(i, ov::Tensor(compiled.input(i).get_element_type(), shape, set[i].data()));
            }
            request.infer();
            for (std::size_t i = 0; i < compiled.outputs().size(); ++i) {
                ov::Tensor out = request.get_output_tensor(i);
                const ov::Shape out_shape = out.get_shape();
                outputs.push_back(Tensor::borrow(loaded.model.outputs[i].type, Shape(out_shape.begin(), out_shape.end()), out.data()).clone());
            }
        } catch (const ov::Exception&) {
            outputs.clear();
        }
        results.push_back(std::move(outputs));
    }
    return results;
}

struct Judgement {
    bool agrees = true;
    double relative_error = 0;
    std::string reason;
    int sets = 0;
};

Judgement judge(const Loaded& loaded, const std::vector<std::vector<Tensor>>& outputs, const std::vector<std::vector<Tensor>>& reference) {
    const Tolerance tolerance = tolerance_for(loaded.profile, loaded.model.outputs);
    Judgement judgement;
    for (std::size_t set = 0; set < outputs.size(); ++set) {
        if (reference[set].empty()) continue;
        ++judgement.sets;
        const Agreement agreement = compare(loaded.model.outputs, outputs[set], reference[set], tolerance);
        judgement.relative_error = std::max(judgement.relative_error, agreement.relative_error);
        if (agreement.agrees || !judgement.agrees) continue;
        judgement.agrees = false;
        judgement.reason = "set " + std::to_string(set) + ": " + agreement.reason;
    }
    return judgement;
}

bool has_bf16() {
    const auto capabilities = core().get_property("CPU", ov::device::capabilities);
    return std::ranges::find(capabilities, "BF16") != capabilities.end();
}

bool print_errors() { return std::getenv("AI_VMM_PRINT_ERRORS") != nullptr; }

class Guard : public testing::TestWithParam<const char*> {};

fs::path path_of(const std::string& name) { return name.starts_with("bundled/") ? kBundled / name.substr(8) : real_models() / name; }

/// Why a model can't be run here; empty if it can.
std::string reason_to_skip(const std::string& name) {
    const bool there = name.starts_with("bundled/") ? fs::exists(path_of(name)) : !real_models().empty();
    return there ? "" : "no real models at " AI_VMM_TEST_MODELS;
}

using RefusesBf16 = Guard;

TEST_P(RefusesBf16, WhereItChangesAnswers) {
    const fs::path path = path_of(GetParam());
    if (const std::string reason = reason_to_skip(GetParam()); !reason.empty()) GTEST_SKIP() << reason;
    if (!has_bf16()) GTEST_SKIP() << "this processor has no bf16";
    const Loaded loaded = load(path);
    const Judgement judgement = judge(loaded, run(loaded, "bf16", 2), run(loaded, "f32", 2));
    EXPECT_GT(judgement.sets, 0);
    EXPECT_FALSE(judgement.agrees) << "relative error " << judgement.relative_error;
}

INSTANTIATE_TEST_SUITE_P(Known, RefusesBf16,
                         testing::Values("content/magika_v3_3.onnx", "audio/basic_pitch.onnx", "audio/basic_pitch.tflite",
                                         "llm/babyllama105_ov/openvino_model.xml", "speech/silero_vad_openvino_16k.onnx",
                                         "vision/mlperf_resnet8.tflite", "vision/mobilenet_v2_int8.tflite", "science/hello_world_float.tflite"));

using AdmitsF32 = Guard;

TEST_P(AdmitsF32, OnOneThreadAsOnTwo) {
    const fs::path path = path_of(GetParam());
    if (const std::string reason = reason_to_skip(GetParam()); !reason.empty()) GTEST_SKIP() << reason;
    const Loaded loaded = load(path);
    const auto reference = run(loaded, "f32", 2);
    const Judgement judgement = judge(loaded, run(loaded, "f32", 1), reference);
    EXPECT_EQ(judgement.sets, kSets);
    EXPECT_TRUE(judgement.agrees) << judgement.reason;
    EXPECT_LT(judgement.relative_error, 1e-3);
    if (!print_errors() || !has_bf16()) return;
    const Judgement bf16 = judge(loaded, run(loaded, "bf16", 2), reference);
    std::cout << "| " << GetParam() << " | " << to_string(loaded.profile.category) << " | " << judgement.relative_error << " | "
              << bf16.relative_error << " | " << (bf16.agrees ? "admitted" : bf16.reason) << " |\n";
}

INSTANTIATE_TEST_SUITE_P(Real, AdmitsF32,
                         testing::Values("content/magika_v3_3.onnx", "audio/basic_pitch.onnx", "audio/basic_pitch.tflite",
                                         "llm/babyllama105_ov/openvino_model.xml", "speech/silero_vad_openvino_16k.onnx", "speech/kws_ref_model",
                                         "speech/micro_speech_quantized.tflite", "speech/mlperf_sww.tflite", "science/hello_world_float.tflite",
                                         "science/mlperf_ad01_fp32.tflite", "science/mlperf_ad01_int8.tflite", "science/tiny_time_mixer.onnx",
                                         "vision/mlperf_resnet8.tflite", "vision/mlperf_resnet8_int8.tflite", "vision/mlperf_vww_float.tflite",
                                         "vision/mlperf_vww_int8.tflite", "vision/mobilenet_v2_int8.tflite", "bundled/digits_cnn.onnx",
                                         "bundled/digits_cnn.int8.onnx", "bundled/digits_lstm.onnx", "bundled/digits_vit.onnx",
                                         "bundled/docstring_bert.onnx", "bundled/recommender.onnx", "bundled/wine_mlp.onnx",
                                         "bundled/breast_cancer_mlp.onnx", "bundled/diabetes_mlp.onnx"));

}  // namespace
}  // namespace ai_vmm::optimization
