// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <openvino/core/model.hpp>

#include "support.hpp"

namespace ai_vmm::graph::testing {
namespace {

struct Expected {
    const char* file;
    ModelFormat format;
    std::vector<std::string> inputs;
    std::vector<std::string> outputs;
    bool graph;
};
void PrintTo(const Expected& expected, std::ostream* out) { *out << expected.file; }

class RealModel : public ::testing::TestWithParam<Expected> {};

TEST_P(RealModel, IsReadUnderItsOwnNames) {
    AI_VMM_NEED_MODELS();
    const Expected& expected = GetParam();
    const Located located = locate(models_folder() / expected.file);
    EXPECT_EQ(located.format, expected.format);
    const backend::Model model = read_model(located);
    std::vector<std::string> inputs, outputs;
    for (const auto& info : model.inputs) inputs.push_back(info.name);
    for (const auto& info : model.outputs) outputs.push_back(info.name);
    EXPECT_EQ(inputs, expected.inputs);
    EXPECT_EQ(outputs, expected.outputs);
    EXPECT_EQ(model.graph != nullptr, expected.graph) << model.graph_refusal;
    for (const auto* infos : {&model.inputs, &model.outputs}) {
        for (const auto& port : *infos) EXPECT_NE(port.type, ElementType::undefined);
    }
    if (model.graph) {
        for (const int index : model.graph_inputs) EXPECT_GE(index, 0);
    }
}

using enum ModelFormat;
INSTANTIATE_TEST_SUITE_P(
    All, RealModel,
    ::testing::Values(Expected{"audio/basic_pitch.onnx",
                               onnx,
                               {"serving_default_input_2:0"},
                               {"StatefulPartitionedCall:2", "StatefulPartitionedCall:1", "StatefulPartitionedCall:0"},
                               true},
                      Expected{"audio/basic_pitch.tflite",
                               tflite,
                               {"serving_default_input_2:0"},
                               {"StatefulPartitionedCall:2", "StatefulPartitionedCall:1", "StatefulPartitionedCall:0"},
                               true},
                      Expected{"audio/basic_pitch_tf", tensorflow_saved_model, {"input_2"}, {"contour", "note", "onset"}, true},
                      Expected{"content/magika_v3_3.onnx", onnx, {"bytes"}, {"target_label"}, true},
                      Expected{"llm/babyllama105_ov", openvino_ir, {"input_ids", "attention_mask", "position_ids", "beam_idx"}, {"logits"}, true},
                      Expected{"llm/llama-2-tiny-random.gguf", gguf, {"beam_idx", "input_ids", "attention_mask", "position_ids"}, {"logits"}, true},
                      Expected{"science/mlperf_ad01_int8.tflite", tflite, {"input_1"}, {"Identity"}, true},
                      Expected{"science/tiny_time_mixer.onnx", onnx, {"past_values"}, {"prediction_outputs"}, true},
                      Expected{"speech/kws_ref_model", tensorflow_saved_model, {"input_1"}, {"dense"}, true},
                      Expected{"speech/silero_vad.onnx", onnx, {"input", "state", "sr"}, {"output", "stateN"}, false},
                      Expected{"speech/silero_vad_16k_op15.onnx", onnx, {"input", "state", "sr"}, {"output", "stateN"}, false},
                      Expected{"speech/silero_vad_openvino_16k.onnx", onnx, {"input", "state"}, {"output", "stateN"}, true},
                      Expected{"speech/mnist_lstm.tflite", tflite, {"serving_default_fixed_input:0"}, {"StatefulPartitionedCall:0"}, true},
                      Expected{"vision/person_detect.tflite", tflite, {"input"}, {"MobilenetV1/Predictions/Reshape_1"}, true},
                      Expected{"vision/mobilenet_v2_int8.tflite", tflite, {"input.5"}, {"Xq.1"}, true}),
    [](const auto& test) {
        std::string name = test.param.file;
        for (char& c : name) c = std::isalnum(static_cast<unsigned char>(c)) ? c : '_';
        return name;
    });

TEST(RealModels, RefusalsSayWhatIsLackingAndWhatToDo) {
    AI_VMM_NEED_MODELS();
    const std::vector<std::tuple<std::string, ErrorCode, std::string>> cases = {
        {"speech/dtln_noise_suppression.tflite", ErrorCode::unimplemented, "UNIDIRECTIONAL_SEQUENCE_LSTM (operation 0) computes in i8"},
        {"speech/micro_speech_lstm.tflite", ErrorCode::unimplemented, "UNIDIRECTIONAL_SEQUENCE_LSTM (operation 0) computes in i8"},
        {"speech/keyword_scrambled.tflite", ErrorCode::unimplemented, "SVDF (operation 1)"},
        {"speech/audio_preprocessor_float.tflite", ErrorCode::unimplemented, "SignalWindow"},
        {"vision/executorch_cifar_net.pth", ErrorCode::invalid_argument, "state dictionary"},
        {"speech/executorch_kws.pth", ErrorCode::invalid_argument, "state dictionary"},
        {"vision/mlperf_resnet8.h5", ErrorCode::invalid_argument, "HDF5"},
        {"malformed/vocab_utf8_mangled.gguf", ErrorCode::invalid_argument, "damaged GGUF"},
        {"samples/images/dog.jpg", ErrorCode::invalid_argument, "image"},
        {"samples/mnist", ErrorCode::invalid_argument, "without a model"},
        {"content/magika_v3_3_config.json", ErrorCode::invalid_argument, "JSON"},
    };
    for (const auto& [file, code, text] : cases) {
        const auto error = error_reading(models_folder() / file);
        EXPECT_ERROR(error, code, text);
        EXPECT_FALSE(error && error->advice().empty()) << file;
    }
    for (const char* file : {"speech/dtln_noise_suppression.tflite", "speech/keyword_scrambled.tflite"})
        EXPECT_EQ(locate(models_folder() / file).format, ModelFormat::tflite);
}

TEST(RealModels, TruncationsOfLargeFilesGiveErrors) {
    AI_VMM_NEED_MODELS();
    const base::TemporaryDirectory folder;
    for (const char* file :
         {"audio/basic_pitch.onnx", "science/hello_world_float.tflite", "speech/micro_speech_quantized.tflite", "llm/llama-2-tiny-random.gguf"}) {
        const std::string whole = base::read_file(models_folder() / file);
        for (const double part : {0.001, 0.01, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99}) {
            const auto error = error_reading(
                write(folder.path() / "cut", std::string_view(whole).substr(0, static_cast<std::size_t>(static_cast<double>(whole.size()) * part))));
            ASSERT_TRUE(error) << file << " cut at " << part << " was taken";
            EXPECT_TRUE(error->code() == ErrorCode::invalid_argument || error->code() == ErrorCode::unimplemented) << error->what();
        }
    }
    for (const char* part : {"saved_model.pb", "variables/variables.index", "variables/variables.data-00000-of-00001"}) {
        fs::remove_all(folder.path() / "tf");
        fs::copy(models_folder() / "speech/kws_ref_model", folder.path() / "tf", fs::copy_options::recursive);
        fs::permissions(folder.path() / "tf", fs::perms::owner_all, fs::perm_options::add);
        for (const auto& entry : fs::recursive_directory_iterator(folder.path() / "tf"))
            fs::permissions(entry, fs::perms::owner_all, fs::perm_options::add);
        fs::resize_file(folder.path() / "tf" / part, fs::file_size(folder.path() / "tf" / part) / 2);
        EXPECT_TRUE(error_reading(folder.path() / "tf")) << part;
    }
}

TEST(RealModels, NamesPlayNoPart) {
    AI_VMM_NEED_MODELS();
    const base::TemporaryDirectory folder;
    for (const char* file : {"science/hello_world_float.tflite", "science/tiny_time_mixer.onnx", "llm/llama-2-tiny-random.gguf"}) {
        fs::remove(folder.path() / "model.dat");
        fs::copy_file(models_folder() / file, folder.path() / "model.dat");
        EXPECT_NE(read_model(locate(folder.path() / "model.dat")).graph, nullptr) << file;
        const auto memory = read_model(locate(ModelSource::from_bytes(base::read_file(models_folder() / file))));
        EXPECT_NE(memory.graph, nullptr) << file;
        // Nothing stays mapped: the file may change or go.
        std::ifstream maps("/proc/self/maps");
        const std::string mapped{std::istreambuf_iterator<char>(maps), {}};
        EXPECT_EQ(mapped.find(folder.path().string()), std::string::npos) << file;
    }
}

}  // namespace
}  // namespace ai_vmm::graph::testing
