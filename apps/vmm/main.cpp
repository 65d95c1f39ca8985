// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <memory>
#include <new>
#include <sstream>

#include "cli.hpp"

namespace ai_vmm::cli {
namespace {

constexpr const char* kFooter = R"(Examples:
  vmm devices                                 what this machine has
  vmm inspect resnet50.onnx                   what a model is
  vmm plan resnet50.onnx --max-latency-ms 10  where it would run, and why
  vmm run resnet50.onnx cat.jpg --top 5       run it
  vmm bench resnet50.onnx --against openvino,onnxruntime
  vmm COMMAND --help                          options, examples of one command

Exit status:
  0 done                     5 unsupported model, feature  10 internal error
  1 the answer is no         6 constraint refused          11 unavailable
  2 wrong usage or argument  7 out of memory, disk, queue  12 wrong state
  3 not found                8 data lost or damaged        130 interrupted
  4 permission denied        9 cancelled or out of time

Environment: AI_VMM_CACHE_DIR, AI_VMM_BACKEND_PATH, NO_COLOR)";

/// Help whose descriptions fit the terminal.
class HelpFormatter final : public CLI::Formatter {
public:
    /// @param columns  of the terminal; 0: as wide as it gets
    explicit HelpFormatter(int columns) {
        constexpr int kNames = 34;
        constexpr int kLeast = 24;
        column_width(kNames);
        if (columns > 0) room_ = static_cast<std::size_t>(std::max(columns - kNames, kLeast));
    }
    std::string make_option_desc(const CLI::Option* option) const override { return folded(Formatter::make_option_desc(option)); }
    std::string make_subcommand(const CLI::App* sub) const override {
        std::ostringstream out;
        CLI::detail::format_help(out, sub->get_display_name(true), folded(sub->get_description()), get_column_width());
        return out.str();
    }

private:
    /// The base class indents what follows a line's end.
    [[nodiscard]] std::string folded(const std::string& text) const {
        std::string out;
        for (const std::string& line : wrap(text, room_)) out += (out.empty() ? "" : "\n") + line;
        return out;
    }
    std::size_t room_ = 0;
};

extern "C" void on_interrupt(int) {
    // Compiled work goes to the cache by atomic renames: leaving at once loses nothing.
    if (::isatty(STDERR_FILENO) == 1) static_cast<void>(!::write(STDERR_FILENO, "\r\x1b[K", 4));
    ::_exit(kInterrupted);
}

std::vector<std::string> subcommand_names(const CLI::App& app) {
    std::vector<std::string> names;
    for (const CLI::App* sub : app.get_subcommands([](const CLI::App*) { return true; })) names.push_back(sub->get_name());
    return names;
}

std::vector<std::string> option_names(const CLI::App& app) {
    std::vector<std::string> names;
    for (const CLI::Option* option : app.get_options()) {
        for (const std::string& name : option->get_lnames()) names.push_back("--" + name);
    }
    return names;
}

/// The chosen subcommand of the chosen subcommand…, or the app itself.
const CLI::App& innermost(const CLI::App& app) {
    const auto chosen = app.get_subcommands();
    return chosen.empty() ? app : innermost(*chosen.front());
}

std::string command_path(const CLI::App& app) {
    return app.get_parent() == nullptr ? app.get_name() : command_path(*app.get_parent()) + " " + app.get_name();
}

/// What was left over after parsing, as an error with the nearest known name.
void check_leftovers(const CLI::App& root) {
    const CLI::App& app = innermost(root);
    const std::vector<std::string> left = root.remaining(true);
    const std::string help = fmt::format("`{} --help` lists what there is", command_path(app));
    if (!left.empty()) {
        const std::string& first = left.front();
        const bool option = first.starts_with('-') && first.size() > 1;
        const std::string typed = first.substr(0, first.find('='));
        const bool command = !option && !subcommand_names(app).empty();
        const std::string near = option ? suggestion(typed, option_names(app)) : command ? suggestion(typed, subcommand_names(app)) : "";
        throw usage_error(fmt::format("{} '{}'{}",
                                      option    ? "unknown option"
                                      : command ? "unknown command"
                                                : "unexpected argument",
                                      typed, command_path(app) == "vmm" ? "" : fmt::format(" of `{}`", command_path(app))),
                          {.expected = {}, .found = {}, .advice = near.empty() ? help : fmt::format("did you mean '{}'? {}", near, help)});
    }
}

int run(int argc, char** argv) {
    Context context;
    for (int i = 1; i < argc && std::strcmp(argv[i], "--") != 0; ++i) context.json |= std::strcmp(argv[i], "--json") == 0;
    context.terminal = Terminal::detect(ColourMode::automatic);
    try {
        CLI::App root("AI virtual machine manager: deploys any model on the best of this machine", "vmm");
        context.root = &root;
        root.footer(kFooter);
        root.allow_extras();
        root.formatter(std::make_shared<HelpFormatter>(context.terminal.width));  // commands inherit it
        add_output_options(root, context);
        bool version_flag = false;
        root.add_flag("--version", version_flag, "print the version");
        std::vector<Command> commands{add_devices(root), add_inspect(root), add_plan(root),       add_run(root),    add_bench(root),
                                      add_cache(root),   add_doctor(root),  add_completion(root), add_version(root)};
        for (const Command& command : commands) add_output_options(*command.app, context);
        try {
            root.parse(argc, argv);
        } catch (const CLI::CallForHelp&) {
            context.print(root.help());
            return kOk;
        } catch (const CLI::ParseError& error) {
            const std::string message = error.what();
            throw usage_error(
                message,
                {.expected = {}, .found = {}, .advice = fmt::format("`{} --help` shows the options and examples", command_path(innermost(root)))});
        }
        context.terminal = Terminal::detect(context.colour == "always"  ? ColourMode::always
                                            : context.colour == "never" ? ColourMode::never
                                                                        : ColourMode::automatic);
        check_leftovers(root);
        for (const Command& command : commands) {
            if (command.app->parsed()) return command.run(context);
        }
        if (version_flag) return commands.back().run(context);
        if (argc == 1) {
            context.print(root.help());
            return kOk;
        }
        throw usage_error("a command is needed", {.expected = {}, .found = {}, .advice = "`vmm --help` lists the commands"});
    } catch (const Error& error) {
        return report(context, error);
    } catch (const std::bad_alloc&) {
        return report(context, Error(ErrorCode::resource_exhausted, ErrorCategory::system, "out of memory"));
    } catch (const std::exception& error) {
        return report(context, Error(ErrorCode::internal, ErrorCategory::system, error.what()));
    }
}

}  // namespace
}  // namespace ai_vmm::cli

int main(int argc, char** argv) {
    std::signal(SIGINT, ai_vmm::cli::on_interrupt);
    std::signal(SIGPIPE, SIG_DFL);  // `vmm … | head` ends quietly
    try {
        return ai_vmm::cli::run(argc, argv);
    } catch (const std::exception& error) {  // reporting itself failed: standard output is full
        std::fprintf(stderr, "vmm: error: %s\n", error.what());
        return ai_vmm::cli::kResources;
    }
}
