// SPDX-License-Identifier: Apache-2.0
/// The ONNX backend node tests through the public C++ API, for machines where the Python package can't run: what tests/node/run_node_tests.py does,
/// on the files of tests/node/export_cases.py.
///
///   node_cases DIR [--engines cuda] [--preferred cuda] [--backend PATH]... [--precision f32] [--filter TEXT] [--jobs N] [--timeout-s N] [--json
///   FILE] [--passed N]
///
/// The exit status is 1 if a test crashed or fewer than --passed passed.
#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "ai_vmm/vmm.hpp"
#include "node/cases.hpp"
#include "node/workers.hpp"

namespace {

using namespace ai_vmm;
using namespace ai_vmm::node_test;
namespace fs = std::filesystem;

struct Settings {
    fs::path folder;
    std::vector<fs::path> backends;
    Constraints constraints;
};

std::string one_line(std::string text, std::size_t most = 300) {
    for (char& letter : text) {
        if (static_cast<unsigned char>(letter) < ' ') letter = ' ';
    }
    if (text.size() > most) text.resize(most);
    return text;
}

/// Refusals that tell of the model alone; others may come from a device in a bad state.
bool is_about_the_model(const Error& error) { return error.code() == ErrorCode::unimplemented || error.code() == ErrorCode::invalid_argument; }

Outcome run_case(VMM& vmm, const Case& test, const Constraints& constraints) {
    const std::vector<DataSet> sets = test.data_sets();
    std::shared_ptr<Deployment> deployment;
    try {
        deployment = vmm.deploy(ModelSource::from_bytes(test.model()), constraints);
    } catch (const Error& error) {
        return {"refused", one_line(error.what()), {}, !is_about_the_model(error)};
    }
    const std::string engine = deployment->describe().engine;
    for (const DataSet& set : sets) {
        TensorMap inputs;
        for (const NamedTensor& input : set.inputs) inputs.set(input.name, input.tensor);
        TensorMap outputs;
        try {
            outputs = deployment->execute(inputs);
        } catch (const Error& error) {
            return {"failed", one_line(fmt::format("execute: {}", error.what())), engine, true};
        }
        for (const NamedTensor& expected : set.outputs) {
            const Tensor* const actual = outputs.find(expected.name);
            const std::string difference = actual == nullptr ? "missing" : compare(*actual, expected.tensor, test.rtol, test.atol);
            if (!difference.empty()) return {"failed", one_line(fmt::format("{}: output '{}': {}", engine, expected.name, difference)), engine};
        }
    }
    const DeploymentMetrics metrics = deployment->metrics();
    return {"passed", metrics.fallbacks == 0 ? engine : engine + ", then " + metrics.active_candidate, engine};
}

/// A worker's own VMM, without a cache.
Work make_work(const Settings& settings, const std::vector<Case>& cases) {
    VMM::Options options;
    options.use_cache = false;
    options.backend_paths = settings.backends;
    return
        [vmm = std::make_shared<VMM>(options), &settings, &cases](std::size_t index) { return run_case(*vmm, cases[index], settings.constraints); };
}

void write_json(const fs::path& path, const nlohmann::ordered_json& counts, const std::map<std::string, std::string>& lines) {
    std::ofstream file(path);
    file << "{\"counts\": " << counts.dump() << ",\n\"tests\": {";
    const char* separator = "\n";
    for (const auto& [name, line] : lines) {
        file << separator << nlohmann::json(name).dump() << ": "
             << nlohmann::json(line).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
        separator = ",\n";
    }
    file << "\n}}\n";
    file.close();
    if (!file) throw std::runtime_error("can't write " + path.string());
}

int run(int argc, char** argv) {
    CLI::App app("Runs the ONNX backend node tests that export_cases.py wrote.");
    Settings settings;
    std::string precision = "automatic", filter;
    fs::path json;
    int jobs = static_cast<int>(std::max(1U, std::thread::hardware_concurrency())), timeout_s = 120;
    std::size_t wanted = 0;
    app.add_option("DIR", settings.folder, "folder with cases.json")->required()->check(CLI::ExistingDirectory);
    app.add_option("--engines", settings.constraints.engines, "only these backends (comma-separated)")->delimiter(',');
    app.add_option("--backend", settings.backends, "library or folder to load besides the installed backends; may be repeated");
    app.add_option("--preferred", settings.constraints.preferred_hardware, "preferred hardware or engines (comma-separated)")->delimiter(',');
    app.add_option("--precision", precision, "computing precision: automatic, f32, bf16 or f16");
    app.add_option("--filter", filter, "only tests whose name contains this");
    app.add_option("--jobs", jobs, "processes")->check(CLI::PositiveNumber);
    app.add_option("--timeout-s", timeout_s, "seconds after which a silent test counts as crashed")->check(CLI::PositiveNumber);
    app.add_option("--json", json, "write every result to this file");
    app.add_option("--passed", wanted, "fail if fewer tests pass");
    CLI11_PARSE(app, argc, argv);
    const auto parsed = precision_from_string(precision);
    if (!parsed) throw std::runtime_error("unknown precision '" + precision + "'");
    settings.constraints.precision = *parsed;
    settings.constraints.tune = std::chrono::milliseconds(1);

    std::vector<Case> cases = read_cases(settings.folder);
    std::erase_if(cases, [&](const Case& test) { return test.name.find(filter) == std::string::npos; });
    if (cases.empty()) throw std::runtime_error("no test's name contains '" + filter + "'");

    std::map<std::string, std::size_t> counts, engines;
    std::map<std::string, std::string> lines;
    run_in_workers(
        cases.size(), std::min(jobs, static_cast<int>(cases.size())), std::chrono::seconds(timeout_s), [&] { return make_work(settings, cases); },
        [&](std::size_t index, const Outcome& outcome) {
            ++counts[outcome.status];
            lines[cases[index].name] = outcome.status + ": " + outcome.why;
            if (outcome.status == "passed") {
                ++engines[outcome.why];
            } else {
                fmt::print("{}: {}: {}\n", cases[index].name, outcome.status, outcome.why);
                std::fflush(stdout);
            }
        });

    nlohmann::ordered_json summary;
    for (const char* status : {"passed", "failed", "refused", "crashed"}) {
        summary[status] = counts[status];
        fmt::print("{}: {}\n", status, counts[status]);
    }
    for (const auto& [engine, passed] : engines) {
        summary["passed_on"][engine] = passed;
        fmt::print("passed on {}: {}\n", engine, passed);
    }
    fmt::print("of {}\n", cases.size());
    if (!json.empty()) write_json(json, summary, lines);
    if (counts["passed"] < wanted) fmt::print("fewer than {} passed\n", wanted);
    return counts["crashed"] > 0 || counts["passed"] < wanted ? 1 : 0;
}

}  // namespace

int main(int argc, char** argv) {
    try {
        return run(argc, argv);
    } catch (const std::exception& error) {
        std::fprintf(stderr, "node_cases: %s\n", error.what());
        return 2;
    }
}
