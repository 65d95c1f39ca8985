// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include "cli.hpp"

namespace ai_vmm::cli {
namespace {

std::string joined(const std::vector<std::string>& words, std::string_view separator = " ") {
    std::string out;
    for (const std::string& word : words) out += (out.empty() ? "" : std::string(separator)) + word;
    return out;
}

Json device_json(const DeviceInfo& device) {
    Json routes = Json::array();
    for (const DeviceRoute& route : device.routes) {
        routes.push_back({{"backend", route.backend},
                          {"backend_device", route.backend_device},
                          {"engine_version", route.engine_version},
                          {"precisions", route.precisions},
                          {"properties", route.properties}});
    }
    return {{"id", device.id},
            {"kind", to_string(device.kind)},
            {"vendor", device.vendor},
            {"name", device.name},
            {"uuid", device.uuid},
            {"pci_address", device.pci_address},
            {"memory_total_bytes", device.memory_total_bytes},
            {"memory_free_bytes", device.memory_free_bytes},
            {"compute_units", device.compute_units},
            {"features", device.features},
            {"scores", {{"memory_bandwidth_gb_s", device.scores.memory_bandwidth_gb_s}, {"f32_gflops", device.scores.f32_gflops}}},
            {"routes", std::move(routes)}};
}

void print_people(const Context& context, const Hardware& hardware) {
    Table table;
    table.column("DEVICE").column("KIND").column("NAME", Table::Align::left, true).column("UNITS", Table::Align::right);
    table.column("MEMORY", Table::Align::right).column("FREE", Table::Align::right);
    for (const DeviceInfo& device : hardware.devices) {
        table.row({{device.id, Tone::accent},
                   to_string(device.kind),
                   device.name,
                   std::to_string(device.compute_units),
                   device.memory_total_bytes > 0 ? format_bytes(device.memory_total_bytes) : "",
                   device.memory_free_bytes > 0 ? format_bytes(device.memory_free_bytes) : ""});
    }
    std::string out = table.empty() ? "no device found\n" : context.render(table);
    Table routes;
    routes.column("DEVICE").column("ENGINE").column("AS").column("VERSION", Table::Align::left, true).column("PRECISIONS", Table::Align::left, true);
    for (const DeviceInfo& device : hardware.devices) {
        for (const DeviceRoute& route : device.routes) {
            routes.row({{device.id, Tone::accent}, route.backend, route.backend_device, route.engine_version, joined(route.precisions)});
        }
    }
    if (!routes.empty()) out += "\n" + context.render(routes);
    for (const DeviceInfo& device : hardware.devices) {
        if (device.features.empty() && device.scores == DeviceScores{}) continue;
        std::string text = device.features.empty() ? "" : "features " + joined(device.features);
        if (device.scores.memory_bandwidth_gb_s > 0)
            text += fmt::format("{}memory {} GB/s", text.empty() ? "" : "; ", format_number(device.scores.memory_bandwidth_gb_s));
        if (device.scores.f32_gflops > 0) text += fmt::format("{}f32 {} GFLOP/s", text.empty() ? "" : "; ", format_number(device.scores.f32_gflops));
        out += "\n" + context.paint(device.id, Tone::accent);
        const std::size_t room = context.terminal.width > 12 ? static_cast<std::size_t>(context.terminal.width) - device.id.size() - 1 : 0;
        bool first = true;
        for (const std::string& line : wrap(printable(text), room)) {
            out += fmt::format("{}{}\n", first ? " " : std::string(device.id.size() + 1, ' '), line);
            first = false;
        }
    }
    bool skipped = false;
    for (const BackendReport& backend : hardware.backends) {
        if (backend.loaded) continue;
        out += fmt::format("{}{} {}: {}\n", skipped ? "" : "\n", context.paint("skipped", Tone::warning), printable(backend.name),
                           printable(backend.reason));
        skipped = true;
    }
    context.print(out);
}

}  // namespace

Command add_devices(CLI::App& root) {
    CLI::App* app = add_subcommand(root, "devices", "list the devices of this machine and the engines that reach them",
                                   "  vmm devices\n"
                                   "  vmm devices --json | jq '.devices[].id'\n"
                                   "  vmm devices --backend ./libai_vmm_backend_mine.so   # and a backend of yours");
    auto library = std::make_shared<LibraryOptions>();
    library->add_to(*app);
    return {app, [library](Context& context) {
                VMM vmm(library->options());
                const Hardware hardware = vmm.discover_hardware();
                if (!context.json) {
                    print_people(context, hardware);
                    return kOk;
                }
                Json devices = Json::array();
                for (const DeviceInfo& device : hardware.devices) devices.push_back(device_json(device));
                Json backends = Json::array();
                for (const BackendReport& backend : hardware.backends) {
                    backends.push_back({{"name", backend.name},
                                        {"path", backend.path},
                                        {"version", backend.version},
                                        {"engine_version", backend.engine_version},
                                        {"loaded", backend.loaded},
                                        {"reason", backend.reason}});
                }
                context.emit(Json{{"schema", "vmm.devices/1"}, {"devices", std::move(devices)}, {"backends", std::move(backends)}});
                return kOk;
            }};
}

}  // namespace ai_vmm::cli
