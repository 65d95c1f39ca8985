// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>

#include <cstring>
#include <sstream>

#include "backend.hpp"
#include "support.hpp"

namespace ai_vmm::ort::test {
namespace {

constexpr const char* kFiles[] = {"audio/basic_pitch.onnx", "content/magika_v3_3.onnx",        "science/tiny_time_mixer.onnx",
                                  "speech/silero_vad.onnx", "speech/silero_vad_16k_op15.onnx", "speech/silero_vad_openvino_16k.onnx"};

// Fixes what can't be guessed from the types: silero's inputs are state and sampling rate.
std::vector<Tensor> inputs_of(const backend::Model& model) {
    std::vector<Tensor> inputs = random_inputs(model);
    for (std::size_t i = 0; i < inputs.size(); ++i) {
        if (model.inputs[i].name == "sr") inputs[i] = Tensor::from<std::int64_t>(model.inputs[i].shape, {16000});
        if (model.inputs[i].name == "input" && model.inputs[i].shape.size() == 2)
            inputs[i] = random_tensor({.name = "", .type = ElementType::f32, .shape = {1, 576}});
        if (model.inputs[i].name == "state") inputs[i] = Tensor(ElementType::f32, {2, 1, 128});
        if (model.inputs[i].name == "past_values") inputs[i] = random_tensor({.name = "", .type = ElementType::f32, .shape = {1, 512, 7}});
    }
    return inputs;
}

class RealOnnx : public testing::TestWithParam<const char*> {};

TEST_P(RealOnnx, RunsFromFileMemoryAndBlobAlike) {
    const auto path = models_folder() / GetParam();
    if (!exists(path)) GTEST_SKIP() << path << " is missing";
    OrtBackend engine;
    const backend::Model model = onnx_model({.path = path});
    const auto from_file = engine.compile(model, {.device = "CPU"});
    const std::vector<Tensor> inputs = inputs_of(model);
    std::vector<Tensor> want(model.outputs.size());
    const auto request = from_file->create_request();
    request->run(inputs, want);
    for (std::size_t i = 0; i < want.size(); ++i) EXPECT_EQ(want[i].type(), model.outputs[i].type);

    std::ostringstream blob;
    from_file->export_blob(blob);
    const std::string bytes = blob.str();
    const auto imported = engine.import_blob(std::as_bytes(std::span(bytes)), model, {.device = "CPU"});
    std::vector<Tensor> got(model.outputs.size());
    imported->create_request()->run(inputs, got);
    // Given memory is written in place.
    std::vector<Tensor> given;
    for (const Tensor& tensor : want) given.emplace_back(tensor.type(), tensor.shape());
    const void* const memory = given[0].data();
    request->run(inputs, given);
    EXPECT_EQ(given[0].data(), memory);
    for (std::size_t i = 0; i < want.size(); ++i) {
        ASSERT_EQ(got[i].shape(), want[i].shape());
        EXPECT_EQ(std::memcmp(got[i].data(), want[i].data(), want[i].size_bytes()), 0) << "import differs in output " << i;
        EXPECT_EQ(std::memcmp(given[i].data(), want[i].data(), want[i].size_bytes()), 0) << "given memory differs in output " << i;
    }
}

INSTANTIATE_TEST_SUITE_P(Files, RealOnnx, testing::ValuesIn(kFiles));

}  // namespace
}  // namespace ai_vmm::ort::test
