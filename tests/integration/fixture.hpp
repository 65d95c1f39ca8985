// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include "ai_vmm/ai_vmm.hpp"

namespace ai_vmm::integration {

namespace fs = std::filesystem;

inline fs::path bundled(std::string_view name) { return fs::path(AI_VMM_SOURCE_DIR) / "models" / name; }

/// The folder of real models, or nothing if it is not there.
inline fs::path real_models() {
    const char* variable = std::getenv("AI_VMM_TEST_MODELS");
    const fs::path folder = variable ? variable : AI_VMM_TEST_MODELS;
    return fs::exists(folder) ? folder : fs::path{};
}

inline std::string slurp(const fs::path& path) {
    std::ifstream file(path, std::ios::binary);
    std::ostringstream content;
    content << file.rdbuf();
    return std::move(content).str();
}

inline void spit(const fs::path& path, std::string_view content) { std::ofstream(path, std::ios::binary) << content; }

/// A fresh folder for caches and files, removed at the end of the test.
class Fixture : public ::testing::Test {
protected:
    Fixture() {
        std::string pattern = (fs::temp_directory_path() / "ai_vmm_test.XXXXXX").string();
        folder_ = ::mkdtemp(pattern.data());
    }
    ~Fixture() override {
        std::error_code error;
        fs::remove_all(folder_, error);
    }
    [[nodiscard]] VMM::Options options() const { return {.cache_dir = folder_ / "cache"}; }

    fs::path folder_;
};

/// An environment variable for the life of this object.
class Variable {
public:
    Variable(const char* name, const std::string& value) : name_(name) { ::setenv(name, value.c_str(), 1); }
    ~Variable() { ::unsetenv(name_); }
    Variable(const Variable&) = delete;
    Variable& operator=(const Variable&) = delete;

private:
    const char* name_;
};

/// Short tuning: the tests are about behaviour.
inline Constraints quick() { return {.tune = std::chrono::milliseconds(50)}; }

inline TensorMap ones(const Deployment& deployment, std::int64_t batch = 1) {
    TensorMap inputs;
    for (const TensorInfo& info : deployment.inputs()) {
        Shape shape = info.shape;
        for (std::int64_t& size : shape) size = size < 0 ? batch : size;
        Tensor tensor(info.type, shape);
        if (info.type == ElementType::f32) {
            for (float& value : tensor.as<float>()) value = 1;
        }
        inputs.set(info.name, tensor);
    }
    return inputs;
}

template <typename Function>
Error error_of(Function&& function) {
    try {
        function();
    } catch (const Error& error) {
        return error;
    }
    return {ErrorCode::ok, ErrorCategory::runtime, "no error was thrown"};
}

inline std::vector<std::string> steps(const DeploymentDescription& description) {
    std::vector<std::string> names;
    for (const auto& [step, ms] : description.deploy_steps_ms) names.push_back(step);
    return names;
}

inline bool has_step(const DeploymentDescription& description, std::string_view name) {
    for (const auto& [step, ms] : description.deploy_steps_ms) {
        if (step == name) return true;
    }
    return false;
}

}  // namespace ai_vmm::integration
