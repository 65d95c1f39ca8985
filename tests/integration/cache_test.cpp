// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cstring>
#include <numeric>
#include <set>

#include "fixture.hpp"

namespace ai_vmm::integration {
namespace {

class Cache : public Fixture {};

TEST_F(Cache, TheSecondDeploymentIsNotTunedAgain) {
    {
        VMM vmm(options());
        const auto model = vmm.deploy(bundled("digits_cnn.onnx"), quick());
        EXPECT_TRUE(has_step(model->describe(), "tune"));
        EXPECT_GT(vmm.cache_report().size_bytes, 0);
    }
    VMM vmm(options());
    const auto model = vmm.deploy(bundled("digits_cnn.onnx"), quick());
    EXPECT_FALSE(has_step(model->describe(), "tune"));
    EXPECT_FALSE(has_step(model->describe(), "read"));
    EXPECT_TRUE(has_step(model->describe(), "verify")) << "what is restored is proved again";
    EXPECT_TRUE(model->describe().from_cache);
    EXPECT_EQ(model->execute(ones(*model)).size(), 1U);
    EXPECT_GE(vmm.metrics().cache_hits, 1U);
}

TEST_F(Cache, OtherConstraintsAreAnotherPlan) {
    VMM vmm(options());
    (void)vmm.deploy(bundled("digits_cnn.onnx"), quick());
    Constraints constraints = quick();
    constraints.goal = Goal::throughput;
    EXPECT_TRUE(has_step(vmm.deploy(bundled("digits_cnn.onnx"), constraints)->describe(), "tune"));
}

TEST_F(Cache, AnotherBuildOfABackendTrustsNothing) {
    constexpr std::string_view kName = "libai_vmm_backend_onnxruntime.so";
    const std::string library = slurp(fs::path(AI_VMM_BINARY_DIR) / "lib" / "backends" / kName);
    std::string rebuilt = library;
    using namespace std::string_view_literals;
    const std::size_t note = rebuilt.find("\x14\0\0\0\x03\0\0\0GNU\0"sv);  // size of a SHA-1, NT_GNU_BUILD_ID, owner
    ASSERT_NE(note, std::string::npos);
    rebuilt[note + 12] = static_cast<char>(rebuilt[note + 12] ^ 1);
    const auto tuned_with = [&](const char* place, const std::string& content) {
        fs::create_directories(folder_ / place);
        spit(folder_ / place / kName, content);
        VMM::Options only = options();
        only.load_installed_backends = false;
        only.backend_paths = {folder_ / place / kName};
        return has_step(VMM(only).deploy(bundled("digits_cnn.onnx"), quick())->describe(), "tune");
    };
    EXPECT_TRUE(tuned_with("first", library));
    EXPECT_FALSE(tuned_with("same", library));
    EXPECT_TRUE(tuned_with("rebuilt", rebuilt));
}

TEST_F(Cache, ADamagedEntryIsRebuilt) {
    (void)VMM(options()).deploy(bundled("digits_cnn.onnx"), quick());
    int damaged = 0;
    for (const auto& entry : fs::recursive_directory_iterator(folder_ / "cache")) {
        if (!entry.is_regular_file() || entry.file_size() < 1000) continue;
        std::string content = slurp(entry.path());
        content[content.size() / 2] = static_cast<char>(content[content.size() / 2] ^ 0x40);
        spit(entry.path(), content);
        ++damaged;
    }
    ASSERT_GT(damaged, 0);
    VMM vmm(options());
    const auto model = vmm.deploy(bundled("digits_cnn.onnx"), quick());
    EXPECT_TRUE(has_step(model->describe(), "tune"));
    EXPECT_GE(vmm.metrics().cache_damaged, 1U);
    EXPECT_EQ(model->execute(ones(*model)).size(), 1U);
    EXPECT_FALSE(has_step(VMM(options()).deploy(bundled("digits_cnn.onnx"), quick())->describe(), "tune"));
}

TEST_F(Cache, AnUnusableFolderOnlyCostsTime) {
    spit(folder_ / "file", "in the way");
    VMM vmm({.cache_dir = folder_ / "file" / "cache"});
    const auto model = vmm.deploy(bundled("digits_cnn.onnx"), quick());
    EXPECT_EQ(model->execute(ones(*model)).size(), 1U);
    EXPECT_FALSE(vmm.cache_report().writable);
}

TEST_F(Cache, ClearAndCollect) {
    VMM vmm(options());
    (void)vmm.deploy(bundled("digits_cnn.onnx"), quick());
    EXPECT_GT(vmm.cache_report().entries.size(), 0U);
    EXPECT_GT(vmm.cache_clear(), 0);
    EXPECT_EQ(vmm.cache_report().entries.size(), 0U);
    (void)vmm.deploy(bundled("digits_cnn.onnx"), quick());
    EXPECT_GT(vmm.cache_collect(1), 0);
}

TEST_F(Cache, HoldsWhatBackendsKeep) {
    const auto with_null = [&](const char* place) {
        VMM::Options options{.cache_dir = folder_ / place};
        options.backend_paths = {fs::path(AI_VMM_BINARY_DIR) / "lib/test_backends/libai_vmm_backend_null.so"};
        options.load_installed_backends = false;
        return options;
    };
    const auto kept = [](const VMM& vmm) {
        const CacheReport report = vmm.cache_report();
        return std::ranges::count_if(report.entries, [](const CacheEntry& entry) {
            if (entry.kind != "null choice") return false;
            EXPECT_EQ(entry.model, "null");
            EXPECT_GT(entry.size_bytes, 0);
            return true;
        });
    };
    const Constraints constraints{.tune = std::chrono::milliseconds(0)};
    VMM first(with_null("first"));
    (void)first.deploy(bundled("digits_cnn.onnx"), constraints);
    EXPECT_EQ(kept(first), 1);
    // The backend is the same one in the whole process: each VMM's folder gets what was compiled for that VMM.
    VMM second(with_null("second"));
    EXPECT_EQ(kept(second), 0);
    (void)second.deploy(bundled("digits_cnn.onnx"), constraints);
    EXPECT_EQ(kept(second), 1);
    EXPECT_GT(first.cache_clear(), 0);
    EXPECT_EQ(kept(first), 0);
    (void)first.deploy(bundled("digits_cnn.onnx"), constraints);
    EXPECT_EQ(kept(first), 1);

    VMM::Options small = with_null("small");
    small.cache_limit_bytes = 1;
    VMM limited(small);
    (void)limited.deploy(bundled("digits_cnn.onnx"), constraints);
    EXPECT_EQ(kept(limited), 0);

    first.cache_clear();
    VMM::Options off = with_null("first");
    off.use_cache = false;
    (void)VMM(off).deploy(bundled("digits_cnn.onnx"), constraints);
    EXPECT_EQ(kept(first), 0);
}

TEST_F(Cache, NothingOfAFailedImportIsLeft) {
    VMM::Options with_null = options();
    with_null.load_installed_backends = false;
    with_null.backend_paths = {fs::path(AI_VMM_BINARY_DIR) / "lib/test_backends/libai_vmm_backend_null.so"};
    const auto first = VMM(with_null).deploy(bundled("digits_cnn.onnx"), quick());
    const auto second = VMM(with_null).deploy(bundled("digits_cnn.onnx"), quick());
    EXPECT_EQ(steps(second->describe()), (std::vector<std::string>{"locate", "cache", "import"}));
    EXPECT_TRUE(second->describe().from_cache);
    std::shared_ptr<Deployment> third;
    {
        const Variable fault("AI_VMM_NULL_FAULT", "import");
        third = VMM(with_null).deploy(bundled("digits_cnn.onnx"), quick());
    }
    EXPECT_FALSE(third->describe().from_cache);
    EXPECT_EQ(third->explain().text.find("from cache"), std::string::npos) << third->explain().text;
    std::vector<std::string> expected = steps(first->describe());
    expected.insert(expected.begin() + 1, "cache");  // the time that was lost with it
    EXPECT_EQ(steps(third->describe()), expected);
    // What was built instead was stored instead.
    EXPECT_TRUE(VMM(with_null).deploy(bundled("digits_cnn.onnx"), quick())->describe().from_cache);
}

TEST_F(Cache, FallbacksOfWhatIsRestoredAreCompiledAsThoseOfWhatWasMeasured) {
    VMM::Options with_null = options();
    with_null.load_installed_backends = false;
    with_null.backend_paths = {fs::path(AI_VMM_BINARY_DIR) / "lib/test_backends/libai_vmm_backend_null.so"};
    (void)VMM(with_null).deploy(bundled("digits_cnn.onnx"), quick());
    std::shared_ptr<Deployment> restored;
    {
        const Variable fault("AI_VMM_NULL_FAULT", "run");
        restored = VMM(with_null).deploy(bundled("digits_cnn.onnx"), quick());
    }
    ASSERT_TRUE(restored->describe().from_cache);
    const Variable trace("AI_VMM_NULL_TRACE", (folder_ / "trace").string());
    (void)restored->execute(ones(*restored));
    const std::string line = slurp(folder_ / "trace");
    EXPECT_TRUE(line.starts_with("compile null ")) << line;
    EXPECT_NE(line.find(" typical=[1,1,8,8]\n"), std::string::npos) << line;
}

TEST_F(Cache, OpenShapesAreRestoredAndOthersStillRun) {
    const fs::path backend = fs::path(AI_VMM_BINARY_DIR) / "lib/test_backends/libai_vmm_backend_cuda_host.so";
    if (!fs::exists(backend)) GTEST_SKIP() << "the cuda backend is not built";
    VMM::Options with_cuda = options();
    with_cuda.backend_paths = {backend};
    Constraints constraints = quick();
    constraints.engines = {"cuda"};
    constraints.input_shapes = {{"features", {4, 30}}};
    fs::copy(bundled("breast_cancer_mlp.onnx"), folder_);
    const fs::path file = folder_ / "breast_cancer_mlp.onnx";
    const auto compiled = VMM(with_cuda).deploy(file, constraints);
    ASSERT_EQ(compiled->inputs().front().shape.front(), -1) << "a model with an open batch";
    EXPECT_FALSE(compiled->describe().from_cache);
    const auto restored = VMM(with_cuda).deploy(file, constraints);
    EXPECT_TRUE(restored->describe().from_cache);
    EXPECT_TRUE(has_step(restored->describe(), "import")) << restored->explain().text;
    const auto expect_same = [&](std::int64_t batch) {
        const TensorMap expected = compiled->execute(ones(*compiled, batch)), actual = restored->execute(ones(*restored, batch));
        ASSERT_EQ(actual.size(), expected.size());
        for (const auto& [name, tensor] : expected) {
            const Tensor* other = actual.find(name);
            ASSERT_NE(other, nullptr);
            ASSERT_EQ(other->size_bytes(), tensor.size_bytes());
            EXPECT_EQ(std::memcmp(other->data(), tensor.data(), tensor.size_bytes()), 0) << name << " of " << batch << " rows";
        }
    };
    for (const std::int64_t batch : {4, 1, 7}) expect_same(batch);
    // Another model in its place is not taken for it.
    {
        const auto changed = VMM(with_cuda).deploy(file, constraints);
        EXPECT_TRUE(changed->describe().from_cache);
        fs::rename(file, folder_ / "before.onnx");
        fs::copy(bundled("wine_mlp.onnx"), file);
        try {
            (void)changed->execute(ones(*changed, 7));
            ADD_FAILURE() << "it ran";
        } catch (const Error& error) {
            EXPECT_EQ(error.code(), ErrorCode::failed_precondition) << error.what();
            EXPECT_NE(std::string(error.what()).find("changed on disk"), std::string::npos) << error.what();
        }
        EXPECT_EQ(changed->execute(ones(*changed, 4)).size(), 1U);
        fs::rename(folder_ / "before.onnx", file);
    }
    // It has what it needs now, like one that was compiled.
    fs::remove(file);
    for (const std::int64_t batch : {2, 20}) expect_same(batch);
}

TEST_F(Cache, TheStepsMakeUpTheDeployment) {
    fs::copy(bundled("digits_cnn.xml"), folder_);
    spit(folder_ / "digits_cnn.bin", slurp(bundled("digits_cnn.bin")) + std::string(std::size_t{256} << 20, '\0'));  // long to hash
    const Constraints constraints{.engines = {"openvino"}, .tune = std::chrono::milliseconds(0)};
    const VMM::Options where = options();
    for (int i = 0; i < 2; ++i) {
        const DeploymentDescription description = VMM(where).deploy(folder_ / "digits_cnn.xml", constraints)->describe();
        const double sum = std::accumulate(description.deploy_steps_ms.begin(), description.deploy_steps_ms.end(), 0.0,
                                           [](double all, const auto& step) { return all + step.second; });
        EXPECT_LE(sum, description.deploy_ms);
        EXPECT_GT(sum, 0.5 * description.deploy_ms) << "where the rest went isn't told";
        EXPECT_EQ(steps(description).front(), "locate");
    }
}

TEST_F(Cache, TheWinnerIsBuiltOnce) {
    for (const bool alone : {true, false}) {
        const fs::path trace = folder_ / (alone ? "alone" : "beside others");
        VMM::Options with_null{.cache_dir = folder_ / (alone ? "cache 1" : "cache 2")};
        with_null.load_installed_backends = !alone;  // other engines' f32 makes it measured
        with_null.backend_paths = {fs::path(AI_VMM_BINARY_DIR) / "lib/test_backends/libai_vmm_backend_null.so"};
        Constraints constraints = quick();
        constraints.engines = {"null"};
        const Variable variable("AI_VMM_NULL_TRACE", trace.string());
        const auto built = [&] {
            std::multiset<std::string> lines;
            std::istringstream text(slurp(trace));
            for (std::string line; std::getline(text, line);) lines.insert(line);
            return lines;
        };
        const auto model = VMM(with_null).deploy(bundled("digits_cnn.onnx"), constraints);
        (void)model->execute(ones(*model));
        const DeploymentDescription description = model->describe();
        const std::string winner = "null " + description.precision + " threads=" + std::to_string(description.threads) +
                                   " streams=" + std::to_string(description.streams) + " typical=[1,1,8,8]";
        EXPECT_EQ(built().count("compile " + winner), 1U) << slurp(trace);
        for (const std::string& line : built()) EXPECT_EQ(built().count(line), 1U) << "not only the winner: " << line;

        // The second deployment compiles nothing and imports once.
        const std::multiset<std::string> before = built();
        (void)VMM(with_null).deploy(bundled("digits_cnn.onnx"), constraints);
        std::multiset<std::string> expected = before;
        expected.insert("import " + winner);
        EXPECT_EQ(built(), expected);
    }
}

TEST_F(Cache, CanBeLeftOut) {
    VMM vmm({.cache_dir = folder_ / "cache", .use_cache = false});
    (void)vmm.deploy(bundled("digits_cnn.onnx"), quick());
    EXPECT_TRUE(has_step(vmm.deploy(bundled("digits_cnn.onnx"), quick())->describe(), "tune"));
}

}  // namespace
}  // namespace ai_vmm::integration
