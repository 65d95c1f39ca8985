// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>
#include <sched.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "cli.hpp"
#include "commands/build_info.hpp"

namespace ai_vmm::cli {
namespace {

namespace fs = std::filesystem;

enum class State : std::uint8_t { ok, warning, fail };

struct Check {
    std::string name;
    State state = State::ok;
    std::string found;
    std::string advice;  ///< empty if ok
};

std::string_view name_of(State state) { return state == State::ok ? "ok" : state == State::warning ? "warn" : "fail"; }

std::string first_line(const fs::path& path) {
    std::ifstream file(path);
    std::string line;
    std::getline(file, line);
    return line;
}

/// Processors that the scheduler lets this process use.
int affinity_count() {
    cpu_set_t set;
    CPU_ZERO(&set);
    return ::sched_getaffinity(0, sizeof(set), &set) == 0 ? CPU_COUNT(&set) : static_cast<int>(::sysconf(_SC_NPROCESSORS_ONLN));
}

/// Processor time that the control group grants per unit of time, from its own files up to the root; 0: no limit.
double cgroup_quota() {
    double least = 0;
    const auto narrow = [&](double quota) {
        if (quota > 0 && (least == 0 || quota < least)) least = quota;
    };
    std::ifstream groups("/proc/self/cgroup");
    for (std::string line; std::getline(groups, line);) {
        if (!line.starts_with("0::")) continue;
        for (fs::path group = fs::path("/sys/fs/cgroup") / fs::path(line.substr(3)).relative_path();; group = group.parent_path()) {
            std::istringstream text(first_line(group / "cpu.max"));
            std::string quota;
            double period = 0;
            if (text >> quota >> period && quota != "max" && period > 0) narrow(std::atof(quota.c_str()) / period);
            if (group == "/sys/fs/cgroup" || !group.has_relative_path()) break;
        }
    }
    const double quota_v1 = std::atof(first_line("/sys/fs/cgroup/cpu/cpu.cfs_quota_us").c_str());
    const double period_v1 = std::atof(first_line("/sys/fs/cgroup/cpu/cpu.cfs_period_us").c_str());
    if (quota_v1 > 0 && period_v1 > 0) narrow(quota_v1 / period_v1);
    return least;
}

void check_processor(std::vector<Check>& checks, const Hardware& hardware) {
    const int usable = affinity_count();
    const double quota = cgroup_quota();
    const long online = ::sysconf(_SC_NPROCESSORS_ONLN);
    Check check{.name = "processor"};
    check.found = fmt::format("{} of {} processors usable, {}", usable, online,
                              quota > 0 ? fmt::format("control group grants {:.2f}", quota) : "no control-group limit");
    if (quota > 0 && quota < 1) {
        check.state = State::warning;
        check.advice = "less than one processor: latencies will jump; raise the container's cpu limit";
    }
    checks.push_back(std::move(check));
    for (const DeviceInfo& device : hardware.devices) {
        if (device.kind != DeviceKind::cpu) continue;
        std::string features;
        for (const std::string& feature : device.features) features += (features.empty() ? "" : " ") + feature;
        checks.push_back({.name = "instructions", .found = features.empty() ? fmt::format("{}: baseline only", device.name) : features});
    }
}

void check_memory(std::vector<Check>& checks) {
    std::ifstream file("/proc/meminfo");
    std::string key;
    std::int64_t kib = 0;
    std::int64_t available = -1;
    for (std::string unit; file >> key >> kib; std::getline(file, unit)) {
        if (key == "MemAvailable:") available = kib * 1024;
    }
    if (available < 0) return;
    Check check{.name = "memory", .found = format_bytes(available) + " available"};
    if (available < (std::int64_t{1} << 30)) {
        check.state = State::warning;
        check.advice = "models larger than a few hundred MiB will not fit; free memory";
    }
    checks.push_back(std::move(check));
}

void check_backends(std::vector<Check>& checks, const Hardware& hardware) {
    int loaded = 0;
    for (const BackendReport& backend : hardware.backends) {
        Check check{.name = "backend " + backend.name};
        if (backend.loaded) {
            ++loaded;
            check.found = fmt::format("{} ({})", backend.engine_version.empty() ? backend.version : backend.engine_version,
                                      backend.path.empty() ? "built in" : backend.path);
        } else {
            check.state = State::warning;
            check.found = "skipped: " + backend.reason;
            check.advice = "install what it misses, or ignore this if you don't want that engine";
        }
        checks.push_back(std::move(check));
    }
    if (loaded == 0) {
        checks.push_back({.name = "backends",
                          .state = State::fail,
                          .found = "none loaded: nothing can be deployed",
                          .advice = "build them (`make build`), or set AI_VMM_BACKEND_PATH to their folder"});
    }
    for (const DeviceInfo& device : hardware.devices) {
        std::string routes;
        for (const DeviceRoute& route : device.routes)
            routes += fmt::format("{}{} ({})", routes.empty() ? "" : ", ", route.backend, route.backend_device);
        Check check{.name = "device " + device.id,
                    .found = fmt::format("{}; {}", device.name, routes.empty() ? "no engine reaches it" : "through " + routes)};
        if (device.routes.empty()) {
            check.state = State::warning;
            check.advice = "no loaded backend drives this device";
        }
        checks.push_back(std::move(check));
    }
    if (hardware.devices.empty()) checks.push_back({.name = "devices", .state = State::fail, .found = "none", .advice = "see the backends above"});
}

void check_cache(std::vector<Check>& checks, const CacheReport& report, bool used) {
    if (!used) return;
    Check check{.name = "cache",
                .found = fmt::format("{}: {} of {}, {} entries", report.directory.string(), format_bytes(report.size_bytes),
                                     format_bytes(report.limit_bytes), report.entries.size())};
    if (!report.writable) {
        check.state = State::warning;
        check.found += ", not writable";
        check.advice = "every deployment compiles anew; set --cache-dir or AI_VMM_CACHE_DIR to a folder you may write to";
    }
    checks.push_back(std::move(check));
    fs::path folder = report.directory;
    std::error_code error;
    while (!folder.empty() && !fs::exists(folder, error) && folder.has_parent_path() && folder != folder.parent_path()) folder = folder.parent_path();
    const fs::space_info space = fs::space(folder, error);
    if (error) return;
    Check disk{.name = "disk", .found = fmt::format("{} free at {}", format_bytes(static_cast<std::int64_t>(space.available)), folder.string())};
    if (space.available < (std::uintmax_t{1} << 30)) {
        disk.state = State::warning;
        disk.advice = "less than 1 GiB: `vmm cache gc --limit-mb N` frees some, or move the cache";
    }
    checks.push_back(std::move(disk));
}

/// The interpreter that the reader would use for models that need Python.
void check_conversion(std::vector<Check>& checks) {
    std::vector<fs::path> places;
    if (const char* chosen = std::getenv("AI_VMM_CONVERT_PYTHON"); chosen != nullptr && *chosen != '\0') places.emplace_back(chosen);
    std::error_code error;
    for (fs::path folder = fs::read_symlink("/proc/self/exe", error).parent_path(); folder.has_relative_path(); folder = folder.parent_path()) {
        places.push_back(folder / ".venv-convert/bin/python");
    }
    for (const fs::path& python : places) {
        if (::access(python.c_str(), X_OK) == 0) {
            checks.push_back({.name = "conversion", .found = python.string()});
            return;
        }
    }
    checks.push_back({.name = "conversion",
                      .state = State::warning,
                      .found = "no conversion environment",
                      .advice = "only needed for PyTorch and Hugging Face models: `make convert-env`"});
}

}  // namespace

Command add_doctor(CLI::App& root) {
    CLI::App* app = add_subcommand(root, "doctor", "check the environment: backends, devices, cache, limits, memory, disk",
                                   "  vmm doctor            # exit status 1 if something fails\n"
                                   "  vmm doctor --json | jq '.checks[] | select(.state != \"ok\")'");
    auto library = std::make_shared<LibraryOptions>();
    library->add_to(*app);
    return {app, [library](Context& context) {
                std::vector<Check> checks;
                checks.push_back({.name = "vmm", .found = fmt::format("{} (commit {}, {})", version(), commit(), compiler())});
                VMM vmm(library->options());
                const Hardware hardware = vmm.discover_hardware();
                check_backends(checks, hardware);
                check_processor(checks, hardware);
                check_memory(checks);
                check_cache(checks, vmm.cache_report(), !library->no_cache);
                check_conversion(checks);
                bool failed = false;
                for (const Check& check : checks) failed = failed || check.state == State::fail;
                if (context.json) {
                    Json list = Json::array();
                    for (const Check& check : checks)
                        list.push_back({{"name", check.name}, {"state", name_of(check.state)}, {"found", check.found}, {"advice", check.advice}});
                    context.emit(Json{{"schema", "vmm.doctor/1"}, {"ok", !failed}, {"checks", std::move(list)}});
                    return failed ? kNo : kOk;
                }
                std::size_t widest = 0;
                for (const Check& check : checks) widest = std::max(widest, display_width(check.name));
                const std::size_t indent = widest + 7;
                const std::size_t room =
                    context.terminal.width > static_cast<int>(indent) + 20 ? static_cast<std::size_t>(context.terminal.width) - indent : 0;
                std::string out;
                for (const Check& check : checks) {
                    const Tone tone = check.state == State::ok ? Tone::good : check.state == State::warning ? Tone::warning : Tone::bad;
                    out += fmt::format("{} {:<{}}", context.paint(fmt::format("{:<5}", name_of(check.state)), tone), printable(check.name), widest);
                    bool first = true;
                    for (const std::string& line : wrap(printable(check.found), room)) {
                        out += fmt::format("{}{}\n", first ? " " : std::string(indent, ' '), line);
                        first = false;
                    }
                    if (check.advice.empty()) continue;
                    for (const std::string& line : wrap("to do: " + check.advice, room))
                        out += std::string(indent, ' ') + context.paint(line, Tone::dim) + "\n";
                }
                context.print(out);
                return failed ? kNo : kOk;
            }};
}

}  // namespace ai_vmm::cli
