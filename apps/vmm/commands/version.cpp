// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include "cli.hpp"
#include "commands/build_info.hpp"

namespace ai_vmm::cli {

Command add_version(CLI::App& root) {
    CLI::App* app = add_subcommand(root, "version", "print the version, the commit and the compiler", "  vmm version\n  vmm version --json");
    return {app, [](Context& context) {
                if (context.json) {
                    context.emit(Json{{"schema", "vmm.version/1"}, {"version", version()}, {"commit", commit()}, {"compiler", compiler()}});
                } else {
                    context.print(fmt::format("vmm {} (commit {}, {})\n", version(), commit(), compiler()));
                }
                return kOk;
            }};
}

}  // namespace ai_vmm::cli
