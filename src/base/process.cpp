// SPDX-License-Identifier: Apache-2.0
#include "base/process.hpp"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <map>

#include "base/file.hpp"

extern "C" char** environ;

namespace ai_vmm::base {
namespace {

struct Pipe {
    int read_end = -1;
    int write_end = -1;
    Pipe() {
        std::array<int, 2> ends{};
        if (::pipe2(ends.data(), O_CLOEXEC) != 0) throw system_error(errno, "can't make a pipe for", "a child process");
        read_end = ends[0];
        write_end = ends[1];
    }
    ~Pipe() {
        close_read();
        close_write();
    }
    Pipe(const Pipe&) = delete;
    Pipe& operator=(const Pipe&) = delete;
    void close_read() {
        if (read_end >= 0) ::close(std::exchange(read_end, -1));
    }
    void close_write() {
        if (write_end >= 0) ::close(std::exchange(write_end, -1));
    }
};

std::filesystem::path find_program(const std::string& name) {
    if (name.find('/') != std::string::npos) {
        if (::access(name.c_str(), X_OK) == 0) return name;
        throw system_error(errno, "can't run", name);
    }
    const char* path = std::getenv("PATH");
    std::string_view rest = path ? path : "/usr/bin:/bin";
    while (!rest.empty()) {
        const std::size_t colon = rest.find(':');
        const std::filesystem::path candidate = std::filesystem::path(rest.substr(0, colon)) / name;
        if (::access(candidate.c_str(), X_OK) == 0) return candidate;
        rest = colon == std::string_view::npos ? std::string_view{} : rest.substr(colon + 1);
    }
    throw Error(ErrorCode::not_found, ErrorCategory::system, "program not found: " + name);
}

void set_limit(int what, std::int64_t value) {
    if (value <= 0) return;
    rlimit limit{};
    limit.rlim_cur = limit.rlim_max = static_cast<rlim_t>(value);
    ::setrlimit(static_cast<__rlimit_resource>(what), &limit);
}

void append_limited(std::string& text, const char* data, std::size_t count, std::size_t limit) {
    text.append(data, count);
    if (text.size() > 2 * limit) text.erase(0, text.size() - limit);
}

}  // namespace

ProcessResult run_process(const ProcessOptions& options) {
    if (options.command.empty()) throw Error(ErrorCode::invalid_argument, ErrorCategory::system, "no program to run");
    const std::string program = find_program(options.command.front()).string();

    // Everything the child needs is prepared before fork(): between fork and exec only async-signal-safe calls are made.
    std::vector<char*> arguments;
    for (const std::string& argument : options.command) arguments.push_back(const_cast<char*>(argument.c_str()));
    arguments.push_back(nullptr);
    std::map<std::string, std::string> variables;
    for (char** entry = environ; *entry != nullptr; ++entry) {
        const std::string_view text(*entry);
        const std::size_t equals = text.find('=');
        if (equals != std::string_view::npos) variables[std::string(text.substr(0, equals))] = text.substr(equals + 1);
    }
    for (const auto& [name, value] : options.environment) variables[name] = value;
    std::vector<std::string> environment;
    for (const auto& [name, value] : variables) environment.push_back(name + "=" + value);
    std::vector<char*> environment_pointers;
    for (std::string& entry : environment) environment_pointers.push_back(entry.data());
    environment_pointers.push_back(nullptr);
    const std::string directory = options.working_directory.string();

    Pipe out;
    Pipe err;
    const pid_t parent = ::getpid();
    const pid_t child = ::fork();
    if (child < 0) throw Error(ErrorCode::resource_exhausted, ErrorCategory::system, std::string("can't start a process: ") + std::strerror(errno));
    if (child == 0) {
        ::setpgid(0, 0);
        ::prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (::getppid() != parent) ::_exit(127);
        const int null = ::open("/dev/null", O_RDONLY);
        if (null >= 0) ::dup2(null, STDIN_FILENO);
        ::dup2(out.write_end, STDOUT_FILENO);
        ::dup2(err.write_end, STDERR_FILENO);
        set_limit(RLIMIT_AS, options.memory_limit_bytes);
        set_limit(RLIMIT_FSIZE, options.file_limit_bytes);
        set_limit(RLIMIT_CPU, options.cpu_limit_s);
        rlimit core{};
        ::setrlimit(RLIMIT_CORE, &core);
        if (!directory.empty() && ::chdir(directory.c_str()) != 0) ::_exit(127);
        ::execve(program.c_str(), arguments.data(), environment_pointers.data());
        ::_exit(127);
    }
    ::setpgid(child, child);
    out.close_write();
    err.close_write();

    ProcessResult result;
    const auto deadline = std::chrono::steady_clock::now() + options.timeout;
    std::array<pollfd, 2> streams{pollfd{out.read_end, POLLIN, 0}, pollfd{err.read_end, POLLIN, 0}};
    int status = 0;
    bool ended = false;
    bool killed = false;
    while (!ended || streams[0].fd >= 0 || streams[1].fd >= 0) {
        if (!ended && ::waitpid(child, &status, WNOHANG) == child) ended = true;
        const auto now = std::chrono::steady_clock::now();
        if (!killed && !ended && (now >= deadline || options.stop.stop_requested())) {
            (options.stop.stop_requested() ? result.cancelled : result.timed_out) = true;
            ::kill(-child, SIGKILL);
            killed = true;
        }
        // A grandchild may hold the pipes open after the child ended: read what is there, then leave.
        const int ready = ::poll(streams.data(), streams.size(), ended ? 0 : 20);
        if (ready <= 0 && ended) break;
        for (std::size_t i = 0; i < streams.size(); ++i) {
            if (streams[i].fd < 0 || (streams[i].revents & (POLLIN | POLLHUP | POLLERR)) == 0) continue;
            std::array<char, 65536> buffer;
            const ssize_t n = ::read(streams[i].fd, buffer.data(), buffer.size());
            if (n < 0 && errno == EINTR) continue;
            if (n <= 0) {
                streams[i].fd = -1;
            } else {
                append_limited(i == 0 ? result.out : result.err, buffer.data(), static_cast<std::size_t>(n), options.output_limit_bytes);
            }
        }
    }
    ::kill(-child, SIGKILL);  // whatever it left behind in its group
    if (WIFEXITED(status)) result.exit_code = WEXITSTATUS(status);
    if (WIFSIGNALED(status)) result.signal = WTERMSIG(status);
    for (std::string* text : {&result.out, &result.err}) {
        if (text->size() > options.output_limit_bytes) text->erase(0, text->size() - options.output_limit_bytes);
    }
    return result;
}

}  // namespace ai_vmm::base
