// SPDX-License-Identifier: Apache-2.0
#include "graph/trial.hpp"

#include <chrono>
#include <cstdlib>
#include <mutex>
#include <optional>
#include <set>
#include <string>

#include "base/file.hpp"
#include "base/process.hpp"
#include "graph/bytes.hpp"

namespace ai_vmm::graph {
namespace fs = std::filesystem;
namespace {

fs::path find_program() {
    if (const char* chosen = std::getenv("AI_VMM_READ_TRIAL")) return chosen;
    const fs::path here = base::library_directory(reinterpret_cast<const void*>(&try_reading));
    for (const char* relative : {"ai_vmm", "../lib/ai_vmm", "../ai_vmm"}) {
        std::error_code error;
        fs::path program = here / relative / "ai_vmm_read_trial";
        if (fs::exists(program, error)) return program;
    }
    throw Error(
        ErrorCode::unavailable, ErrorCategory::system, "the program ai_vmm_read_trial is not beside the library",
        {.expected = (here / "ai_vmm" / "ai_vmm_read_trial").string(), .found = {}, .advice = "install AI VMM whole, or set AI_VMM_READ_TRIAL"});
}

bool came_through(const std::string& hash, bool add) {
    static std::mutex mutex;
    static std::set<std::string> known;
    const std::lock_guard lock(mutex);
    if (add) known.insert(hash);
    return known.contains(hash);
}

}  // namespace

void try_reading(const Located& located, const std::stop_token& stop) {
    if (came_through(located.content_hash, false)) return;
    std::optional<base::TemporaryDirectory> folder;
    fs::path path = located.path;
    if (located.bytes) {
        folder.emplace("ai_vmm_trial");
        path = folder->path() / "model";
        base::write_file(path, {reinterpret_cast<const std::byte*>(located.bytes->data()), located.bytes->size()});
    }
    base::ProcessOptions options;
    options.command = {find_program().string(), path.string()};
    // Large pages where the kernel has them: the process lives for one read and would spend a third of it on page faults.
    options.environment = {{"GLIBC_TUNABLES", "glibc.malloc.hugetlb=1"}};
    options.timeout = std::chrono::minutes(10);
    options.stop = stop;
    const base::ProcessResult result = base::run_process(options);
    if (result.cancelled) throw Error(ErrorCode::cancelled, ErrorCategory::compilation, "reading " + shown(located.path) + " was cancelled");
    // A sanitizer turns the signal into an exit code of its own.
    if (result.signal == 0 && (result.exit_code == 0 || result.exit_code == 3)) {
        came_through(located.content_hash, true);
        return;
    }
    throw Error(ErrorCode::invalid_argument, ErrorCategory::compilation, "OpenVINO's reader does not survive " + shown(located.path),
                {.expected = "a well-formed " + std::string(to_string(located.format)) + " model",
                 .found = result.timed_out ? "no end within 10 minutes" : "the reading process ended by signal " + std::to_string(result.signal),
                 .advice = "export the model again"});
}

}  // namespace ai_vmm::graph
