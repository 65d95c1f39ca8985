// SPDX-License-Identifier: Apache-2.0
/// The conformance suite: what every backend must do, run against one backend library and one of its devices.
///
///   test_conformance --backend build/lib/backends/libai_vmm_backend_openvino.so [--device CPU] [--expected FILE] [GoogleTest flags]
///
/// FILE holds what is known not to pass, one per line: `suite.test: reason`. Such a test is run; its failure is reported as skipped, its
/// passing as a failure. `*` at the end of an id stands for any rest. The line `refusals: fail` makes every refusal by supports() that is
/// not listed a failure; without it refusals are skipped, saying why.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <map>
#include <string>
#include <vector>

#include "cache/backend_cache.hpp"
#include "suite.hpp"

namespace ai_vmm::conformance {
namespace {

struct Options {
    std::filesystem::path backend;
    std::string device;
    std::filesystem::path expected;
};

/// The file of expectations.
class Expectations {
public:
    Expectations() = default;
    explicit Expectations(const std::filesystem::path& path) {
        std::ifstream file(path);
        if (!file) throw std::runtime_error("can't read " + path.string());
        int number = 0;
        for (std::string line; std::getline(file, line);) {
            ++number;
            if (line.empty() || line.front() == '#') continue;
            const std::size_t colon = line.find(": ");
            if (colon == std::string::npos || colon + 2 >= line.size()) {
                throw std::runtime_error(path.string() + ":" + std::to_string(number) + ": not of the form `suite.test: reason`");
            }
            const std::string id = line.substr(0, colon);
            if (id == "refusals") {
                refusals_fail_ = line.substr(colon + 2) == "fail";
                continue;
            }
            reasons_[id] = line.substr(colon + 2);
        }
    }

    [[nodiscard]] bool refusals_fail() const { return refusals_fail_; }
    /// Why the test is expected to fail, or nullptr.
    [[nodiscard]] const std::string* reason(const std::string& id) const {
        if (const auto found = reasons_.find(id); found != reasons_.end()) return &found->second;
        for (const auto& [pattern, text] : reasons_) {
            if (pattern.ends_with('*') && id.starts_with(pattern.substr(0, pattern.size() - 1))) return &text;
        }
        return nullptr;
    }
    /// Ids without `*` that name no test.
    [[nodiscard]] std::vector<std::string> unknown(const Tests& tests) const {
        std::vector<std::string> ids;
        for (const auto& [id, text] : reasons_) {
            const bool exists = id.ends_with('*') || std::ranges::any_of(tests, [&](const Test& test) { return test.suite + "." + test.name == id; });
            if (!exists) ids.push_back(id);
        }
        return ids;
    }

private:
    bool refusals_fail_ = false;
    std::map<std::string, std::string> reasons_;
};

class ConformanceTest : public testing::Test {
public:
    ConformanceTest(const conformance::Test& test, const Subject& subject, const Expectations& expectations, const Options& options)
        : test_(test), subject_(subject), expectations_(expectations), options_(options) {}

    void TestBody() override {
        const std::string id = test_.suite + "." + test_.name;
        const std::string* reason = expectations_.reason(id);
        std::string failure;
        try {
            test_.body(subject_);
        } catch (const Refused& refused) {
            if (reason == nullptr && !expectations_.refusals_fail()) GTEST_SKIP() << refused.what();
            failure = refused.what();
        } catch (const Skipped& skipped) {
            GTEST_SKIP() << skipped.what();
        } catch (const std::exception& error) {
            failure = error.what();
        }
        if (failure.empty()) {
            if (reason == nullptr) return;
            FAIL() << "passes, but was expected to fail (" << *reason << "): remove its line from " << options_.expected << reproduce(id);
        }
        if (reason != nullptr) GTEST_SKIP() << "fails as expected (" << *reason << "): " << failure;
        FAIL() << failure << reproduce(id);
    }

private:
    [[nodiscard]] std::string reproduce(const std::string& id) const {
        std::string line = "\nreproduce: " + testing::internal::GetArgvs().front() + " --backend " + options_.backend.string() + " --device '" +
                           subject_.route().backend_device + "'";
        if (!options_.expected.empty()) line += " --expected " + options_.expected.string();
        return line + " --gtest_filter='" + id + "'";
    }

    const conformance::Test& test_;
    const Subject& subject_;
    const Expectations& expectations_;
    const Options& options_;
};

Options parse(int argc, char** argv) {
    Options options;
    if (const char* path = std::getenv("AI_VMM_CONFORMANCE_BACKEND")) options.backend = path;
    for (int i = 1; i < argc; ++i) {
        const std::string flag = argv[i];
        if (i + 1 >= argc) throw std::runtime_error("unknown option or missing value: " + flag);
        if (flag == "--backend") {
            options.backend = argv[++i];
        } else if (flag == "--device") {
            options.device = argv[++i];
        } else if (flag == "--expected") {
            options.expected = argv[++i];
        } else {
            throw std::runtime_error("unknown option: " + flag);
        }
    }
    if (options.backend.empty()) throw std::runtime_error("which backend? Give --backend LIBRARY or set AI_VMM_CONFORMANCE_BACKEND");
    options.backend = std::filesystem::absolute(options.backend);
    return options;
}

int run(int argc, char** argv) {
    testing::InitGoogleTest(&argc, argv);
    static const Options options = parse(argc, argv);
    static const Expectations expectations = options.expected.empty() ? Expectations{} : Expectations(options.expected);
    static const Subject subject = load_subject(options.backend, options.device);
    // What backends keep goes where a VMM would put it.
    const auto store = std::make_shared<cache::ArtifactStore>(cache::ArtifactStore::Options{.directory = cache::default_directory()});
    subject.backend->use_cache(std::make_shared<cache::BackendCache>(store, std::string(subject.backend->name())));
    static Tests tests;
    for (auto* add : {add_interface_tests, add_output_tests, add_concurrency_tests, add_type_tests, add_elementwise_tests, add_matrix_tests,
                      add_movement_tests, add_reduction_tests, add_sequence_tests, add_box_tests}) {
        add(tests);
    }
    for (const std::string& id : expectations.unknown(tests)) {
        std::cerr << options.expected.string() << ": no test is called " << id << '\n';
        return 2;
    }
    for (const Test& test : tests) {
        testing::RegisterTest(test.suite.c_str(), test.name.c_str(), nullptr, nullptr, __FILE__, __LINE__,
                              [&test]() -> ConformanceTest* { return new ConformanceTest(test, subject, expectations, options); });
    }
    std::cout << "backend " << subject.backend->name() << ' ' << subject.backend->version() << ", engine " << subject.backend->engine_version()
              << ", device " << subject.route().backend_device << " (" << subject.device.name << ")\n";
    return RUN_ALL_TESTS();
}

}  // namespace
}  // namespace ai_vmm::conformance

int main(int argc, char** argv) {
    try {
        return ai_vmm::conformance::run(argc, argv);
    } catch (const std::exception& error) {
        std::cerr << error.what() << '\n';
        return 2;
    }
}
