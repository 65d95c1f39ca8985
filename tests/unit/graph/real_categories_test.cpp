// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>
#include <optional>

#include "graph/analyser.hpp"
#include "graph/reader.hpp"
#include "unit/graph/analyser_helpers.hpp"

namespace ai_vmm::graph {
namespace {

/// Through the readers, or from the file's own operators where none converts it. Nothing where a conversion environment would be needed.
std::optional<ModelProfile> profile_file(const std::filesystem::path& path) {
    const Located located = locate(ModelSource(path));
    try {
        return analyse(located, read_model(located));
    } catch (const Error& error) {
        if (located.format == ModelFormat::onnx || located.format == ModelFormat::tflite) return analyse_file(located);
        std::cout << "not read here: " << path << ": " << error.message() << "\n";
        return std::nullopt;
    }
}

struct Tally {
    int right = 0;
    int all = 0;
    std::string wrong;

    void add(const std::filesystem::path& path, const std::string& expected) {
        const std::optional<ModelProfile> profile = profile_file(path);
        if (!profile) return;
        ++all;
        if (to_string(profile->category) == expected) {
            ++right;
            return;
        }
        wrong += "\n  " + path.string() + " is " + expected + ", told as " + std::string(to_string(profile->category));
        for (const std::string& sentence : profile->evidence) wrong += "\n    " + sentence;
    }
    void check() const {
        std::cout << right << " of " << all << " models told right" << wrong << "\n";
        EXPECT_GE(right * 10, all * 9) << wrong;
    }
};

nlohmann::json read_json(const char* path) {
    std::ifstream file(std::filesystem::path(AI_VMM_SOURCE_DIR) / path);
    return nlohmann::json::parse(file);
}

TEST(RealCategories, NineInTenAreRight) {
    const std::filesystem::path models = real_models();
    if (models.empty()) GTEST_SKIP() << "no real models at " << AI_VMM_TEST_MODELS;
    Tally tally;
    const nlohmann::json expected = read_json("tests/data/model_categories.json");
    for (const auto& [name, category] : expected.at("models").items()) {
        ASSERT_TRUE(std::filesystem::exists(models / name)) << name;
        tally.add(models / name, category.get<std::string>());
    }
    EXPECT_GE(tally.all, 26);
    tally.check();
}

TEST(RealCategories, BundledModelsAreRight) {
    Tally tally;
    const nlohmann::json manifest = read_json("models/manifest.json");
    for (const nlohmann::json& model : manifest.at("models")) {
        if (model.at("refused").get<bool>()) continue;
        tally.add(std::filesystem::path(AI_VMM_SOURCE_DIR) / "models" / model.at("path").get<std::string>(), model.at("category").get<std::string>());
    }
    EXPECT_GE(tally.all, 15);
    tally.check();
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
