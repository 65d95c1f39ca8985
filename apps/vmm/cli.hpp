// SPDX-License-Identifier: Apache-2.0
/// What the subcommands share: options that mean the same everywhere, output, errors.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ai_vmm/constraints.hpp"
#include "ai_vmm/error.hpp"
#include "ai_vmm/vmm.hpp"
#include "ui/terminal.hpp"

namespace ai_vmm::cli {

/// Keys stay in the order in which they are written.
using Json = nlohmann::ordered_json;

/// Exit statuses: part of the interface, documented in docs/reference/cli.md and `vmm --help`.
enum ExitStatus : int {
    kOk = 0,
    kNo = 1,  ///< the command worked and its answer is no: doctor found a failure, bench's outputs differ
    kUsage = 2,
    kNotFound = 3,
    kPermission = 4,
    kUnsupported = 5,
    kRefused = 6,
    kResources = 7,
    kDataLoss = 8,
    kCancelled = 9,
    kInternal = 10,
    kUnavailable = 11,
    kState = 12,
    kInterrupted = 130,
};
[[nodiscard]] int exit_status_of(const Error& error) noexcept;

/// Output options and streams of one run of the command.
struct Context {
    bool json = false;
    bool quiet = false;
    std::string colour = "auto";
    Terminal terminal;
    const CLI::App* root = nullptr;

    /// Writes to standard output.
    void print(std::string_view text) const;
    /// One JSON object and a newline on standard output: indented on a terminal, one line otherwise.
    void emit(const Json& object) const;
    /// A remark on standard error, unless --quiet or --json.
    void note(std::string_view text) const;
    [[nodiscard]] std::string paint(std::string_view text, Tone tone) const { return cli::paint(text, tone, terminal.out_colour); }
    [[nodiscard]] std::string render(const Table& table, std::size_t indent = 0) const {
        return table.render(terminal.width, terminal.out_colour, indent);
    }
};

/// {"error": {...}}
[[nodiscard]] Json to_json(const Error& error);
/// Reports the error as the context wants it; the exit status.
int report(const Context& context, const Error& error);
/// Error(invalid_argument, input).
[[nodiscard]] Error usage_error(std::string message, ErrorDetail detail = {});

/// A subcommand: its part of the option tree and what runs when it was chosen.
struct Command {
    CLI::App* app = nullptr;
    std::function<int(Context&)> run;
};

Command add_devices(CLI::App& root);
Command add_inspect(CLI::App& root);
Command add_plan(CLI::App& root);
Command add_run(CLI::App& root);
Command add_bench(CLI::App& root);
Command add_cache(CLI::App& root);
Command add_doctor(CLI::App& root);
Command add_completion(CLI::App& root);
Command add_version(CLI::App& root);

/// A subcommand with its examples under the options; lines of `examples` are printed as they are.
CLI::App* add_subcommand(CLI::App& root, const std::string& name, const std::string& description, const std::string& examples);
/// An option that takes one of `choices`; completion scripts offer them.
CLI::Option* add_choice(CLI::App& app, const std::string& flags, std::string& target, const std::vector<std::string>& choices,
                        const std::string& description);
/// Numbers from `low` to `high`; unlike CLI::Range it leaves the help line short.
[[nodiscard]] CLI::Validator in_range(double low, double high);
/// --json, --color and --quiet.
void add_output_options(CLI::App& app, Context& context);

/// Options of the library itself: cache and backends.
struct LibraryOptions {
    std::string cache_dir;
    bool no_cache = false;
    std::vector<std::string> backends;
    void add_to(CLI::App& app);
    [[nodiscard]] VMM::Options options(const Progress& progress = {}) const;
};

/// Options that become Constraints.
struct ConstraintOptions {
    double max_latency_ms = 0;
    double min_throughput = 0;
    double power_watts = 0;
    double max_memory_mb = 0;
    std::string goal;
    std::string precision;
    std::vector<std::string> forbid;
    std::vector<std::string> devices;
    std::vector<std::string> engines;
    std::vector<std::string> prefer;
    int threads = 0;
    int streams = 0;
    std::string tune;
    std::vector<std::string> shapes;
    void add_to(CLI::App& app);
    /// @throws Error(invalid_argument).
    [[nodiscard]] Constraints constraints() const;
};

/// "5s", "500ms", "2.5" (seconds), "0". @throws Error(invalid_argument).
[[nodiscard]] std::chrono::milliseconds parse_duration(std::string_view text);
/// "i64[?,128]"
[[nodiscard]] std::string describe(const TensorInfo& info);
[[nodiscard]] Json to_json(const Shape& shape);
[[nodiscard]] Json to_json(const TensorInfo& info);
/// What makes inputs, outputs and the deployment's choice readable in JSON.
[[nodiscard]] Json to_json(const DeploymentDescription& description);

/// Text completion scripts for "bash", "zsh" or "fish" from the option tree.
[[nodiscard]] std::string completion_script(const CLI::App& root, std::string_view shell);
/// The nearest of `names` to what was typed, or "".
[[nodiscard]] std::string suggestion(std::string_view typed, const std::vector<std::string>& names);

}  // namespace ai_vmm::cli
