// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <stop_token>
#include <string>
#include <vector>

namespace ai_vmm::base {

/// How to run a helper program. Standard input is empty; the child dies with its parent.
struct ProcessOptions {
    std::vector<std::string> command;                              ///< program (path or looked up in PATH) and arguments
    std::vector<std::pair<std::string, std::string>> environment;  ///< set on top of the parent's
    std::filesystem::path working_directory;
    std::chrono::milliseconds timeout{300000};  ///< killed with its children afterwards
    std::int64_t memory_limit_bytes = 0;        ///< RLIMIT_AS; 0: none
    std::int64_t file_limit_bytes = 0;          ///< RLIMIT_FSIZE; 0: none
    std::int64_t cpu_limit_s = 0;               ///< RLIMIT_CPU; 0: none
    std::size_t output_limit_bytes = 1 << 20;   ///< what is kept of each output stream (the last part)
    std::stop_token stop;
};

struct ProcessResult {
    int exit_code = -1;  ///< valid if !signal
    int signal = 0;      ///< that ended it; 0: none
    bool timed_out = false;
    bool cancelled = false;
    std::string out;
    std::string err;
    [[nodiscard]] bool ok() const noexcept { return exit_code == 0 && signal == 0; }
};

/// Runs the program to its end in its own process group. Never runs a shell.
/// @throws Error(not_found) no such program; Error(resource_exhausted) no process can be made.
[[nodiscard]] ProcessResult run_process(const ProcessOptions& options);

}  // namespace ai_vmm::base
