// SPDX-License-Identifier: Apache-2.0
// The project's own models, in every format that OpenVINO reads, lowered to ONNX, against OpenVINO in f32.
#include <fstream>
#include <nlohmann/json.hpp>
#include <openvino/frontend/manager.hpp>

#include "lowering_support.hpp"

namespace ai_vmm::ort::test {
namespace {

TEST(BundledModels, LoweredAgreeWithOpenVino) {
    const std::filesystem::path folder = std::filesystem::path(AI_VMM_SOURCE_DIR) / "models";
    std::ifstream file(folder / "manifest.json");
    if (!file) GTEST_SKIP() << "no models/manifest.json";
    // It never frees what it allocates when it is loaded: not unloaded, it is found by its name (tests/sanitizers/lsan.supp).
    static const auto& tensorflow = *new ov::frontend::FrontEnd::Ptr(ov::frontend::FrontEndManager().load_by_framework("tf"));
    ASSERT_NE(tensorflow, nullptr);
    int compared = 0;
    const nlohmann::json manifest = nlohmann::json::parse(file);
    for (const auto& entry : manifest.at("models")) {
        const std::string path = entry.at("path");
        const std::string precision = entry.value("precision", "f32");
        if (entry.value("refused", false)) continue;
        SCOPED_TRACE(path);
        std::shared_ptr<ov::Model> graph;
        try {
            graph = core().read_model((folder / path).string());
        } catch (const std::exception&) {
            continue;  // formats that need a conversion first
        }
        const backend::Model model = graph_model(graph);
        std::vector<Tensor> inputs = random_inputs(model);
        for (Tensor& input : inputs) {  // indices into the smallest of their embeddings
            if (input.type() == ElementType::i64)
                std::ranges::transform(input.as<std::int64_t>(), input.as<std::int64_t>().begin(), [](auto v) { return v % 2; });
            if (input.type() == ElementType::i32)
                std::ranges::transform(input.as<std::int32_t>(), input.as<std::int32_t>().begin(), [](auto v) { return v % 2; });
        }
        // Quantised: ties round to either side. f16: OpenVINO rounds in other places.
        expect_same(graph, inputs, precision == "f32" ? 1e-4 : precision == "f16" ? 2e-3 : 0.05);
        ++compared;
    }
    EXPECT_GE(compared, 10);
}

}  // namespace
}  // namespace ai_vmm::ort::test
