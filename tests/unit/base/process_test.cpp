// SPDX-License-Identifier: Apache-2.0
#include "base/process.hpp"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <fstream>

#include "ai_vmm/error.hpp"
#include "base/file.hpp"
#include "base/hash.hpp"

namespace ai_vmm::base {
namespace {

TEST(Process, GivesOutputAndExitCode) {
    const ProcessResult result = run_process({.command = {"sh", "-c", "echo out; echo err >&2; exit 3"}});
    EXPECT_EQ(result.exit_code, 3);
    EXPECT_EQ(result.out, "out\n");
    EXPECT_EQ(result.err, "err\n");
    EXPECT_FALSE(result.ok());
}

TEST(Process, TimesOutWithItsChildren) {
    const ProcessResult result = run_process({.command = {"sh", "-c", "sleep 60 & sleep 60"}, .timeout = std::chrono::milliseconds(100)});
    EXPECT_TRUE(result.timed_out);
    EXPECT_EQ(result.signal, 9);
}

TEST(Process, IsCancelled) {
    std::stop_source source;
    source.request_stop();
    const ProcessResult result = run_process({.command = {"sleep", "60"}, .stop = source.get_token()});
    EXPECT_TRUE(result.cancelled);
}

TEST(Process, KeepsItsLimits) {
    const TemporaryDirectory directory;
    const std::string file = (directory.path() / "big").string();
    const ProcessResult result = run_process({.command = {"sh", "-c", "head -c 100000 /dev/zero > " + file}, .file_limit_bytes = 1000});
    EXPECT_FALSE(result.ok());
    EXPECT_LE(std::filesystem::file_size(file), 1000U);
}

TEST(Process, PassesEnvironmentAndKeepsTheEndOfLongOutput) {
    const ProcessResult result =
        run_process({.command = {"sh", "-c", "seq 1 100000; echo $AI_VMM_X"}, .environment = {{"AI_VMM_X", "last"}}, .output_limit_bytes = 1000});
    EXPECT_LE(result.out.size(), 1000U);
    EXPECT_TRUE(result.out.ends_with("100000\nlast\n"));
}

TEST(Process, MissingProgram) {
    try {
        (void)run_process({.command = {"no-such-program-here"}});
        FAIL();
    } catch (const Error& error) {
        EXPECT_EQ(error.code(), ErrorCode::not_found);
    }
}

TEST(File, ErrorsHaveCodes) {
    const TemporaryDirectory directory;
    const auto code_of = [](const std::filesystem::path& path, std::size_t limit = SIZE_MAX) {
        try {
            (void)read_file(path, limit);
        } catch (const Error& error) {
            return error.code();
        }
        return ErrorCode::ok;
    };
    EXPECT_EQ(code_of(directory.path() / "none"), ErrorCode::not_found);
    EXPECT_EQ(code_of(directory.path()), ErrorCode::invalid_argument);
    EXPECT_EQ(code_of("/dev/zero"), ErrorCode::invalid_argument);
    const std::string text = "12345";
    write_file(directory.path() / "five", {reinterpret_cast<const std::byte*>(text.data()), text.size()});
    EXPECT_EQ(read_file(directory.path() / "five"), text);
    EXPECT_EQ(read_prefix(directory.path() / "five", 3), "123");
    EXPECT_EQ(code_of(directory.path() / "five", 4), ErrorCode::resource_exhausted);
    std::filesystem::create_symlink("loop", directory.path() / "loop");
    EXPECT_EQ(code_of(directory.path() / "loop"), ErrorCode::invalid_argument);
    EXPECT_EQ(code_of(directory.path() / std::string(4000, 'x')), ErrorCode::invalid_argument);
    EXPECT_EQ(code_of(directory.path() / "five" / "six"), ErrorCode::not_found);
    for (const int number : {ENOENT, ENOTDIR, ELOOP, ENAMETOOLONG}) {
        const Error error = system_error(number, "can't read", "model.onnx");
        EXPECT_FALSE(error.expected().empty() || error.found().empty() || error.advice().empty()) << error.what();
    }
    if (::geteuid() != 0) {
        std::filesystem::permissions(directory.path() / "five", std::filesystem::perms::none);
        EXPECT_EQ(code_of(directory.path() / "five"), ErrorCode::permission_denied);
    }
}

TEST(Hash, KnownDigests) {
    // FIPS 180-4 examples.
    EXPECT_EQ(sha256_hex("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    EXPECT_EQ(sha256_hex(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
}

}  // namespace
}  // namespace ai_vmm::base
