// SPDX-License-Identifier: Apache-2.0
#include "graph/trial.hpp"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "base/file.hpp"

namespace ai_vmm::graph {
namespace {

/// Puts a shell script in the place of the trial program.
class Trial : public ::testing::Test {
protected:
    void use(const std::string& script) {
        const std::filesystem::path program = folder_.path() / "program";
        std::ofstream(program) << "#!/bin/sh\n" << script << "\n";
        std::filesystem::permissions(program, std::filesystem::perms::owner_all);
        ::setenv("AI_VMM_READ_TRIAL", program.c_str(), 1);
    }
    ~Trial() override { ::unsetenv("AI_VMM_READ_TRIAL"); }

    static Located located(std::string hash) {
        Located model;
        model.format = ModelFormat::tflite;
        model.bytes = std::make_shared<const std::string>("bytes");
        model.content_hash = std::move(hash);
        return model;
    }
    static ErrorCode outcome(const Located& model) {
        try {
            try_reading(model, {});
        } catch (const Error& error) {
            return error.code();
        }
        return ErrorCode::ok;
    }

    base::TemporaryDirectory folder_;
};

TEST_F(Trial, AFileThatEndsItsReaderIsRefused) {
    for (const char* script : {"kill -8 $$", "kill -6 $$", "kill -11 $$", "exit 99"}) {
        use(script);
        EXPECT_EQ(outcome(located("killer")), ErrorCode::invalid_argument) << script;
    }
}

TEST_F(Trial, ARefusalIsLeftToTheReaderItself) {
    use("exit 3");
    EXPECT_EQ(outcome(located("refused")), ErrorCode::ok);
}

TEST_F(Trial, WhatCameThroughIsNotTriedAgain) {
    use("cat \"$1\" | grep -q bytes");
    EXPECT_EQ(outcome(located("good")), ErrorCode::ok);
    use("kill -9 $$");
    EXPECT_EQ(outcome(located("good")), ErrorCode::ok);
    EXPECT_EQ(outcome(located("other")), ErrorCode::invalid_argument);
}

TEST_F(Trial, AMissingProgramIsSaid) {
    ::setenv("AI_VMM_READ_TRIAL", (folder_.path() / "none").c_str(), 1);
    EXPECT_EQ(outcome(located("any")), ErrorCode::not_found);
}

}  // namespace
}  // namespace ai_vmm::graph
