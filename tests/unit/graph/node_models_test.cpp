// SPDX-License-Identifier: Apache-2.0
/// The models of the `onnx` package's backend node tests, all of them, through the reader.
#include <gtest/gtest.h>

#include <algorithm>
#include <openvino/core/model.hpp>

#include "base/process.hpp"
#include "support.hpp"

namespace ai_vmm::graph::testing {
namespace {

constexpr const char* kDump = R"(import pathlib, sys
from onnx.backend.test.case.node import collect_testcases
for case in collect_testcases(None):
    if case.model is not None:
        (pathlib.Path(sys.argv[1]) / (case.name + ".onnx")).write_bytes(case.model.SerializeToString())
)";

TEST(OnnxNodeModels, EveryPortIsMappedOrThereIsNoGraph) {
    const base::TemporaryDirectory folder;
    const base::ProcessResult result = base::run_process({.command = {AI_VMM_TEST_PYTHON, "-W", "ignore", "-c", kDump, folder.path().string()}});
    if (!result.ok()) GTEST_SKIP() << "no onnx package: " << result.err;
    std::size_t graphs = 0, misread = 0, refused = 0, not_tensors = 0, dropped = 0;
    for (const auto& entry : fs::directory_iterator(folder.path())) {
        SCOPED_TRACE(entry.path().filename().string());
        backend::Model model;
        try {
            model = read_model(locate(entry.path()));
        } catch (const Error& error) {
            EXPECT_EQ(error.code(), ErrorCode::unimplemented) << error.what();
            EXPECT_NE(error.message().find("must be tensors"), std::string::npos) << error.what();
            ++not_tensors;
            continue;
        }
        ASSERT_EQ(model.graph_inputs.size(), model.inputs.size());
        ASSERT_EQ(model.graph_outputs.size(), model.outputs.size());
        for (const auto* infos : {&model.inputs, &model.outputs}) {
            for (const auto& info : *infos) EXPECT_FALSE(info.name.empty());
        }
        if (!model.graph) {
            EXPECT_FALSE(model.graph_refusal.empty());
            EXPECT_EQ(model.graph_refusal.find("src/"), std::string::npos) << model.graph_refusal;
            ++refused;
            if (model.graph_refusal.find("passes over") != std::string::npos) ++misread;
            continue;
        }
        ++graphs;
        std::vector<int> used;
        for (const int index : model.graph_inputs) {
            if (index >= 0) {
                used.push_back(index);
            } else {
                ++dropped;
            }
        }
        std::ranges::sort(used);
        EXPECT_TRUE(std::ranges::adjacent_find(used) == used.end()) << "two inputs feed one port";
        EXPECT_EQ(used.size(), model.graph->inputs().size()) << "a port that nothing feeds";
        for (std::size_t i = 0; i < model.outputs.size(); ++i) {
            const int index = model.graph_outputs[i];
            ASSERT_GE(index, 0);
            ASSERT_LT(static_cast<std::size_t>(index), model.graph->outputs().size());
            const auto port = model.graph->outputs()[static_cast<std::size_t>(index)];
            EXPECT_TRUE(port.get_names().contains(model.outputs[i].name)) << model.outputs[i].name << " was matched by position only";
        }
        for (std::size_t i = 0; i < model.inputs.size(); ++i) {
            const int index = model.graph_inputs[i];
            if (index < 0 || !model.inputs[i].rank_known) continue;
            const ov::PartialShape shape = model.graph->inputs()[static_cast<std::size_t>(index)].get_partial_shape();
            EXPECT_TRUE(shape.rank().is_dynamic() || shape.size() == model.inputs[i].shape.size()) << model.inputs[i].name;
        }
    }
    // What the pinned versions of onnx and OpenVINO give; a drop means that a reader got worse.
    EXPECT_EQ(graphs + refused + not_tensors, 1884U);
    EXPECT_EQ(not_tensors, 29U);
    EXPECT_GE(graphs + misread, 1600U);
    EXPECT_EQ(misread, 24U);
    EXPECT_GT(dropped, 0U);
}

}  // namespace
}  // namespace ai_vmm::graph::testing
