// SPDX-License-Identifier: Apache-2.0
#include "node/workers.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <memory>
#include <new>
#include <nlohmann/json.hpp>
#include <optional>
#include <system_error>
#include <utility>

namespace ai_vmm::node_test {
namespace {

using Clock = std::chrono::steady_clock;

[[noreturn]] void throw_errno(const char* what) { throw std::system_error(errno, std::generic_category(), what); }

class File {
public:
    explicit File(int descriptor = -1) : descriptor_(descriptor) {}
    File(File&& other) noexcept : descriptor_(std::exchange(other.descriptor_, -1)) {}
    File& operator=(File&& other) noexcept {
        std::swap(descriptor_, other.descriptor_);
        return *this;
    }
    ~File() {
        if (descriptor_ >= 0) ::close(descriptor_);
    }
    [[nodiscard]] int get() const { return descriptor_; }

private:
    int descriptor_;
};

struct Worker {
    pid_t process = -1;
    File results;  ///< JSON lines: {"start": index}, then {"index", "status", "why", "engine"}
    File output;   ///< what the item in work wrote to stdout and stderr
    std::string unread;
    std::optional<std::size_t> current;
    bool reported = false;
    bool timed_out = false;
    Clock::time_point started;
};

void write_line(int descriptor, const nlohmann::json& value) {
    const std::string line = value.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
    for (std::size_t at = 0; at < line.size();) {
        const ssize_t written = ::write(descriptor, line.data() + at, line.size() - at);
        if (written < 0 && errno != EINTR) ::_exit(4);  // the parent is gone
        at += static_cast<std::size_t>(std::max<ssize_t>(written, 0));
    }
}

/// The life of a worker process.
void work_through(std::atomic<std::size_t>& next, std::size_t count, int results, int output, const std::function<Work()>& make_work) {
    const Work work = make_work();
    for (std::size_t index = next++; index < count; index = next++) {
        if (::ftruncate(output, 0) == 0) ::lseek(output, 0, SEEK_SET);
        write_line(results, {{"start", index}});
        Outcome outcome;
        try {
            outcome = work(index);
        } catch (const std::exception& error) {
            outcome = {"failed", error.what(), {}, true};
        }
        write_line(results, {{"index", index}, {"status", outcome.status}, {"why", outcome.why}, {"engine", outcome.engine}});
        if (outcome.needs_new_process) return;
    }
}

Worker start(std::atomic<std::size_t>& next, std::size_t count, const std::function<Work()>& make_work) {
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) != 0) throw_errno("pipe2");
    Worker worker;
    worker.results = File(ends[0]);
    const File write_end(ends[1]);
    worker.output = File(::memfd_create("output", MFD_CLOEXEC));
    if (worker.output.get() < 0) throw_errno("memfd_create");
    const pid_t parent = ::getpid();
    worker.process = ::fork();
    if (worker.process < 0) throw_errno("fork");
    if (worker.process == 0) {
        ::prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (::getppid() != parent) ::_exit(4);
        ::dup2(worker.output.get(), STDOUT_FILENO);
        ::dup2(worker.output.get(), STDERR_FILENO);
        try {
            work_through(next, count, write_end.get(), worker.output.get(), make_work);
        } catch (const std::exception& error) {
            (void)!::write(STDERR_FILENO, error.what(), std::strlen(error.what()));
            ::_exit(3);
        }
        ::_exit(0);  // engines that end badly after the last item are no concern here
    }
    worker.started = Clock::now();
    return worker;
}

/// The last of what the worker wrote, on one line.
std::string last_words(const Worker& worker) {
    constexpr off_t kMost = 300;
    const off_t size = std::max<off_t>(::lseek(worker.output.get(), 0, SEEK_END), 0);
    std::string text(static_cast<std::size_t>(std::min(size, kMost)), '\0');
    text.resize(static_cast<std::size_t>(
        std::max<ssize_t>(::pread(worker.output.get(), text.data(), text.size(), size - static_cast<off_t>(text.size())), 0)));
    std::replace_if(
        text.begin(), text.end(), [](unsigned char letter) { return letter < ' '; }, ' ');
    return text;
}

std::string ending(const Worker& worker, std::chrono::seconds timeout) {
    int status = 0;
    while (::waitpid(worker.process, &status, 0) < 0 && errno == EINTR) {
    }
    std::string how = WIFSIGNALED(status) ? fmt::format("the process ended with signal {}", WTERMSIG(status))
                                          : fmt::format("the process ended with status {}", WEXITSTATUS(status));
    if (worker.timed_out) how = fmt::format("no result within {} s", timeout.count());
    const std::string words = last_words(worker);
    return words.empty() ? how : how + ": " + words;
}

}  // namespace

void run_in_workers(std::size_t count, int jobs, std::chrono::seconds timeout, const std::function<Work()>& make_work,
                    const std::function<void(std::size_t, const Outcome&)>& on_result) {
    void* const shared = ::mmap(nullptr, sizeof(std::atomic<std::size_t>), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED) throw_errno("mmap");
    const std::unique_ptr<void, void (*)(void*)> unmap(shared, [](void* memory) { ::munmap(memory, sizeof(std::atomic<std::size_t>)); });
    auto& next = *new (shared) std::atomic<std::size_t>(0);  // lock-free, so it works between processes
    static_assert(std::atomic<std::size_t>::is_always_lock_free);

    std::vector<bool> done(count, false);
    const auto finish = [&](std::size_t index, const Outcome& outcome) {
        done.at(index) = true;
        on_result(index, outcome);
    };
    std::string last_failure;
    std::vector<Worker> workers;
    for (int job = 0; job < jobs; ++job) workers.push_back(start(next, count, make_work));
    while (!workers.empty()) {
        std::vector<pollfd> polled;
        for (Worker& worker : workers) {
            if (worker.current && !worker.timed_out && Clock::now() - worker.started > timeout) {
                worker.timed_out = true;
                ::kill(worker.process, SIGKILL);
            }
            polled.push_back({worker.results.get(), POLLIN, 0});
        }
        if (::poll(polled.data(), polled.size(), 500) < 0 && errno != EINTR) throw_errno("poll");
        std::vector<Worker> going;
        for (std::size_t i = 0; i < workers.size(); ++i) {
            Worker& worker = workers[i];
            ssize_t got = -1;
            if (polled[i].revents != 0) {
                char buffer[4096];
                got = ::read(worker.results.get(), buffer, sizeof buffer);
                if (got > 0) worker.unread.append(buffer, static_cast<std::size_t>(got));
            }
            for (std::size_t end = worker.unread.find('\n'); end != std::string::npos; end = worker.unread.find('\n')) {
                const auto line = nlohmann::json::parse(worker.unread.substr(0, end));
                worker.unread.erase(0, end + 1);
                if (line.contains("start")) {
                    worker.current = line.at("start").get<std::size_t>();
                    worker.started = Clock::now();
                    worker.reported = true;
                } else {
                    worker.current.reset();
                    finish(line.at("index"), {line.at("status"), line.at("why"), line.at("engine")});
                }
            }
            if (got != 0) {
                going.push_back(std::move(worker));
                continue;
            }
            const std::string how = ending(worker, timeout);
            if (worker.current) finish(*worker.current, {"crashed", how, {}});
            if (!worker.reported) last_failure = how;
            if (worker.reported && next < count) going.push_back(start(next, count, make_work));
        }
        workers = std::move(going);
    }
    for (std::size_t index = 0; index < count; ++index) {
        if (!done[index]) finish(index, {"crashed", "no process could work: " + last_failure, {}});
    }
}

}  // namespace ai_vmm::node_test
