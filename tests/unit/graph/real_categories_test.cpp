// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>
#include <openvino/runtime/core.hpp>

#include "graph/analyser.hpp"
#include "unit/graph/analyser_helpers.hpp"

namespace ai_vmm::graph {
namespace {

ModelFormat format_of(const std::filesystem::path& path) {
    if (path.extension() == ".onnx") return ModelFormat::onnx;
    if (path.extension() == ".tflite") return ModelFormat::tflite;
    if (path.extension() == ".xml") return ModelFormat::openvino_ir;
    if (std::filesystem::exists(path / "saved_model.pb")) return ModelFormat::tensorflow_saved_model;
    return ModelFormat::unknown;
}

/// Through OpenVINO's reader, or from the file's own operators where it is refused. Nothing for formats that need a conversion.
std::optional<ModelProfile> profile_file(ov::Core& core, const std::filesystem::path& path) {
    Located located;
    located.path = path;
    located.format = format_of(path);
    if (located.format == ModelFormat::unknown) return std::nullopt;
    std::shared_ptr<ov::Model> graph;
    try {
        graph = core.read_model(path.string());
    } catch (const std::exception&) {
        return analyse_file(located);
    }
    return analyse(located, as_model(graph));
}

TEST(RealCategories, NineInTenAreRight) {
    const std::filesystem::path models = real_models();
    if (models.empty()) GTEST_SKIP() << "no real models at " << AI_VMM_TEST_MODELS;
    std::ifstream file(std::filesystem::path(AI_VMM_SOURCE_DIR) / "tests/data/model_categories.json");
    const nlohmann::json expected = nlohmann::json::parse(file);
    ov::Core core;
    int right = 0;
    int all = 0;
    std::string wrong;
    for (const auto& [name, category] : expected.at("models").items()) {
        ASSERT_TRUE(std::filesystem::exists(models / name)) << name;
        const std::optional<ModelProfile> profile = profile_file(core, models / name);
        if (!profile) {
            std::cout << "not read here: " << name << "\n";
            continue;
        }
        ++all;
        if (to_string(profile->category) == category) {
            ++right;
        } else {
            wrong += "\n  " + name + " is " + category.get<std::string>() + ", told as " + std::string(to_string(profile->category));
            for (const std::string& sentence : profile->evidence) wrong += "\n    " + sentence;
        }
    }
    std::cout << right << " of " << all << " models told right" << wrong << "\n";
    EXPECT_GE(all, 24);
    EXPECT_GE(right * 10, all * 9) << wrong;
}

TEST(RealCategories, ModelsThatNoReaderTakesAreDescribedFromTheirFile) {
    const std::filesystem::path models = real_models();
    if (models.empty()) GTEST_SKIP() << "no real models at " << AI_VMM_TEST_MODELS;
    const auto profile = [&](const char* name, ModelFormat format) {
        Located located;
        located.path = models / name;
        located.format = format;
        return analyse_file(located);
    };
    const ModelProfile person = profile("vision/person_detect.tflite", ModelFormat::tflite);
    ASSERT_EQ(person.inputs.size(), 1u);
    EXPECT_EQ(person.inputs[0].shape, (Shape{1, 96, 96, 1}));
    EXPECT_EQ(person.inputs[0].type, ElementType::i8);
    EXPECT_TRUE(person.quantized);
    EXPECT_GT(person.parameters, 200'000);
    EXPECT_EQ(person.precision, "i8");
    EXPECT_TRUE(person.nodes.empty());
    ASSERT_FALSE(person.notes.empty());
    EXPECT_NE(person.notes[0].find("14 CONV_2D"), std::string::npos) << person.notes[0];

    const ModelProfile silero = profile("speech/silero_vad.onnx", ModelFormat::onnx);
    ASSERT_EQ(silero.inputs.size(), 3u);
    EXPECT_EQ(silero.inputs[0].name, "input");
    EXPECT_EQ(silero.inputs[2].name, "sr");
    EXPECT_EQ(silero.inputs[2].type, ElementType::i64);
    EXPECT_EQ(silero.outputs.size(), 2u);
    EXPECT_FALSE(silero.dynamic_dimensions.empty());
    EXPECT_GT(silero.parameters, 500'000);  // both sampling rates, in the branches of an If
    EXPECT_EQ(silero.precision, "f32");

    EXPECT_TRUE(profile("speech/dtln_noise_suppression.tflite", ModelFormat::tflite).stateful);
}

}  // namespace
}  // namespace ai_vmm::graph
