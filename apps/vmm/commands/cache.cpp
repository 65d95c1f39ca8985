// SPDX-License-Identifier: Apache-2.0
#include <fmt/chrono.h>
#include <fmt/format.h>

#include <ctime>

#include "cli.hpp"

namespace ai_vmm::cli {
namespace {

struct Options {
    LibraryOptions library;
    std::string action;
    double limit_mb = -1;
};

Json report_json(const CacheReport& report) {
    Json entries = Json::array();
    for (const CacheEntry& entry : report.entries) {
        entries.push_back({{"key", entry.key},
                           {"model", entry.model},
                           {"kind", entry.kind},
                           {"size_bytes", entry.size_bytes},
                           {"last_used_unix_s", entry.last_used_unix_s}});
    }
    return {{"schema", "vmm.cache/1"},         {"directory", report.directory.string()},
            {"size_bytes", report.size_bytes}, {"limit_bytes", report.limit_bytes},
            {"writable", report.writable},     {"entries", std::move(entries)}};
}

void print_people(const Context& context, const CacheReport& report) {
    std::string out = fmt::format("{}: {} of {} in {} entr{}{}\n", printable(report.directory.string()), format_bytes(report.size_bytes),
                                  format_bytes(report.limit_bytes), report.entries.size(), report.entries.size() == 1 ? "y" : "ies",
                                  report.writable ? "" : context.paint(" (read-only: nothing is stored)", Tone::warning));
    Table table;
    table.column("MODEL", Table::Align::left, true)
        .column("KIND")
        .column("SIZE", Table::Align::right)
        .column("LAST USED")
        .column("KEY", Table::Align::left, true);
    for (const CacheEntry& entry : report.entries) {
        const auto when = static_cast<std::time_t>(entry.last_used_unix_s);
        table.row({{entry.model, Tone::accent},
                   entry.kind,
                   format_bytes(entry.size_bytes),
                   fmt::format("{:%Y-%m-%d %H:%M}", fmt::localtime(when)),
                   entry.key.substr(0, 16)});
    }
    if (!table.empty()) out += context.render(table);
    context.print(out);
}

}  // namespace

Command add_cache(CLI::App& root) {
    CLI::App* app = add_subcommand(root, "cache", "list, trim or empty the artifact cache",
                                   "  vmm cache ls\n"
                                   "  vmm cache gc                    # remove damaged entries, trim to the limit\n"
                                   "  vmm cache gc --limit-mb 500     # trim to 500 MiB, least recently used first\n"
                                   "  vmm cache clear");
    auto options = std::make_shared<Options>();
    add_choice(*app, "action", options->action, {"ls", "gc", "clear"}, "what to do")->required();
    app->add_option("--limit-mb", options->limit_mb, "gc: trim to this size in MiB")->type_name("N")->check(in_range(0.0, 1e12));
    options->library.add_to(*app);
    return {app, [options](Context& context) {
                if (options->limit_mb >= 0 && options->action != "gc") throw usage_error("--limit-mb belongs to `vmm cache gc`");
                if (options->library.no_cache) throw usage_error("--no-cache leaves nothing to do here");
                VMM::Options library = options->library.options();
                library.load_installed_backends = false;
                VMM vmm(library);
                if (options->action == "ls") {
                    const CacheReport report = vmm.cache_report();
                    if (context.json) {
                        context.emit(report_json(report));
                    } else {
                        print_people(context, report);
                    }
                    return kOk;
                }
                const std::filesystem::path directory = vmm.cache_report().directory;
                std::optional<std::int64_t> limit;
                if (options->limit_mb >= 0) limit = static_cast<std::int64_t>(options->limit_mb * (1 << 20));
                const std::int64_t freed = options->action == "gc" ? vmm.cache_collect(limit) : vmm.cache_clear();
                const CacheReport left = vmm.cache_report();
                if (!left.writable && left.size_bytes > (options->action == "gc" ? limit.value_or(left.limit_bytes) : 0)) {
                    throw Error(ErrorCode::permission_denied, ErrorCategory::system, "nothing can be removed from the cache",
                                {.expected = "a folder that you may write to",
                                 .found = directory.string(),
                                 .advice = "run it as the user whom the folder belongs to, or name another folder with --cache-dir"});
                }
                if (context.json) {
                    context.emit(Json{{"schema", "vmm.cache_freed/1"},
                                      {"action", options->action},
                                      {"directory", directory.string()},
                                      {"freed_bytes", freed},
                                      {"size_bytes", left.size_bytes}});
                } else {
                    context.print(
                        fmt::format("freed {}, {} left in {}\n", format_bytes(freed), format_bytes(left.size_bytes), printable(directory.string())));
                }
                return kOk;
            }};
}

}  // namespace ai_vmm::cli
