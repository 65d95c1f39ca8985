// SPDX-License-Identifier: Apache-2.0
/// One model on one GPU through the cuda backend, as bench/gpu.py measures it.
///
///   gpu_program MODEL --precision f16 --inputs FOLDER --outputs FOLDER [--repeats N] [--device N] [--profile] [--dump FILE] [--places] [--peer N]
///               [--memory] [--series]
///
/// Reads input K from FOLDER/inK.bin (row-major, the model's type; shapes from FOLDER/shapes.txt, one line per input), writes outK.bin and prints one
/// JSON object: device microseconds per execution (CUDA events around the recorded graph), microseconds of whole calls with copies from and to the
/// host, what those take beyond the device's, bytes, steps. --places also runs on tensors in the device's memory, in pinned memory, on several
/// threads at once, and with --peer in another device's memory; it fails where outputs differ from those of the plain call. --memory instead prints
/// what the plan says of the device's memory and how much of it is in use when: opened, planned, deployed and run, with a second execution, let go
/// of, and deployed once more. --series takes the subfolders of both folders, in the order of their names, for sets of shapes that come one after
/// another, as a deployment with open shapes meets them, and prints an object for each: how long until the first outputs are there, and what of that
/// was compiled.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iostream>
#include <iterator>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "cache/backend_cache.hpp"
#include "driver/kept.hpp"
#include "driver/kernel_compiler.hpp"
#include "gpu.hpp"
#include "lower/lower.hpp"
#include "openvino/runtime/core.hpp"
#include "program/program.hpp"

namespace {

using Clock = std::chrono::steady_clock;
namespace cuda = ai_vmm::cuda;
namespace fs = std::filesystem;

double microseconds_since(Clock::time_point start) { return std::chrono::duration<double, std::micro>(Clock::now() - start).count(); }

double percentile(std::vector<double> values, double fraction) {
    std::sort(values.begin(), values.end());
    return values.empty() ? 0 : values[static_cast<std::size_t>(fraction * static_cast<double>(values.size() - 1))];
}

std::vector<cuda::Dims> read_shapes(const fs::path& file) {
    std::ifstream in(file);
    if (!in) throw std::runtime_error("can't read " + file.string());
    std::vector<cuda::Dims> shapes;
    for (std::string line; std::getline(in, line);) {
        std::istringstream words(line);
        shapes.emplace_back(std::istream_iterator<std::int64_t>(words), std::istream_iterator<std::int64_t>());
    }
    return shapes;
}

/// Memory that is given back at the end.
struct Memory {
    cuda::Buffer buffer;
    Memory(const std::shared_ptr<cuda::Device>& device, const std::vector<char>& content) : buffer(device, content.size()) {
        const auto stream = device->create_stream();
        if (!content.empty()) stream->upload(buffer.get(), content.data(), content.size());
        stream->synchronize();
    }
    [[nodiscard]] std::vector<char> content(cuda::Device& device) const {
        std::vector<char> all(buffer.bytes());
        const auto stream = device.create_stream();
        if (!all.empty()) stream->download(all.data(), buffer.get(), all.size());
        stream->synchronize();
        return all;
    }
};

/// The same execution from and to other places. @returns JSON members; throws where outputs differ.
std::string run_places(const std::shared_ptr<const cuda::Program>& program, const std::shared_ptr<cuda::Device>& device,
                       const std::shared_ptr<cuda::Device>& peer, const std::vector<std::vector<char>>& in, const std::vector<std::vector<char>>& out,
                       int repeats) {
    const auto same = [](const std::vector<char>& got, const std::vector<char>& wanted, const char* where) {
        if (got != wanted) throw std::runtime_error(std::string("outputs differ: ") + where);
    };
    const auto median_us = [&](const auto& call) {
        std::vector<double> times;
        for (int i = 0; i < repeats + 5; ++i) {
            const auto start = Clock::now();
            call();
            if (i >= 5) times.push_back(microseconds_since(start));
        }
        return percentile(times, 0.5);
    };
    std::string text;
    const auto on = [&](const std::shared_ptr<cuda::Device>& owner, const char* name) {
        cuda::Execution execution(program);
        std::vector<Memory> from, to;
        std::vector<cuda::Endpoint> inputs, outputs;
        cuda::Device* const other = owner == device ? nullptr : owner.get();
        for (const auto& content : in) from.emplace_back(owner, content);
        for (const auto& content : out) to.emplace_back(owner, std::vector<char>(content.size()));
        for (const Memory& memory : from) {
            if (!owner->owns(memory.buffer.get(), memory.buffer.bytes())) throw std::runtime_error("a device doesn't know its own memory");
            inputs.push_back({.device = memory.buffer.get(), .owner = other});
        }
        for (const Memory& memory : to) outputs.push_back({.device = memory.buffer.get(), .owner = other});
        // In turns with the device's own time, between events around the same steps: it drifts with the clocks.
        std::vector<double> times, beyond;
        for (int i = 0; i < repeats + 5; ++i) {
            const double device_us = execution.replay_us();
            const auto start = Clock::now();
            execution.run(inputs, outputs);
            const double us = microseconds_since(start);
            if (i < 5) continue;
            times.push_back(us);
            beyond.push_back(us - device_us);
        }
        for (std::size_t k = 0; k < out.size(); ++k) same(to[k].content(*owner), out[k], name);
        text +=
            fmt::format("\"{}_call_ms\": {:.4f}, \"{}_overhead_us\": {:.1f}, ", name, percentile(times, 0.5) / 1e3, name, percentile(beyond, 0.5));
    };
    on(device, "on_device");
    if (peer) on(peer, "on_peer");

    cuda::Execution execution(program);
    std::vector<char*> pinned;
    std::vector<const void*> inputs;
    std::vector<void*> outputs;
    std::vector<std::vector<char>> results = out;
    for (const auto& content : in) {
        pinned.push_back(static_cast<char*>(device->allocate_pinned(content.size())));
        std::copy(content.begin(), content.end(), pinned.back());
        if (!device->is_pinned(pinned.back()) || device->is_pinned(content.data())) throw std::runtime_error("pinned memory is not told from other");
        inputs.push_back(pinned.back());
    }
    for (auto& result : results) {
        std::fill(result.begin(), result.end(), 0);
        outputs.push_back(result.data());
    }
    text += fmt::format("\"pinned_call_ms\": {:.4f}, ", median_us([&] { execution.run(inputs, outputs); }) / 1e3);
    for (std::size_t k = 0; k < out.size(); ++k) same(results[k], out[k], "pinned");

    for (const int threads : {1, 2, 4}) {
        std::vector<std::unique_ptr<cuda::Execution>> executions;
        std::vector<std::vector<std::vector<char>>> all(static_cast<std::size_t>(threads), out);
        for (int t = 0; t < threads; ++t) executions.push_back(std::make_unique<cuda::Execution>(program));
        const auto each = [&](int calls) {
            std::vector<std::thread> running;
            for (int t = 0; t < threads; ++t) {
                running.emplace_back([&, t] {
                    std::vector<void*> mine;
                    for (auto& one : all[static_cast<std::size_t>(t)]) mine.push_back(one.data());
                    for (int call = 0; call < calls; ++call) executions[static_cast<std::size_t>(t)]->run(inputs, mine);
                });
            }
            for (std::thread& thread : running) thread.join();
        };
        each(3);
        const auto start = Clock::now();
        each(repeats);
        text += fmt::format("\"calls_per_s_{}_threads\": {:.1f}, ", threads, threads * repeats / (microseconds_since(start) / 1e6));
        for (const auto& mine : all) {
            for (std::size_t k = 0; k < out.size(); ++k) same(mine[k], out[k], "threads");
        }
    }
    for (char* memory : pinned) device->release_pinned(memory);
    return text;
}

std::vector<std::vector<char>> read_inputs(const cuda::Graph& graph, const fs::path& folder) {
    std::vector<std::vector<char>> all;
    for (std::size_t k = 0; k < graph.inputs.size(); ++k) {
        const cuda::Value& value = graph.value(graph.inputs[k]);
        std::ifstream file(folder / fmt::format("in{}.bin", k), std::ios::binary);
        all.emplace_back(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
        if (static_cast<std::int64_t>(all.back().size()) != bytes(value.type, value.dims))
            throw std::runtime_error(fmt::format("in{}.bin has {} bytes, the model wants {}", k, all.back().size(), bytes(value.type, value.dims)));
    }
    return all;
}

std::vector<std::vector<char>> room_for_outputs(const cuda::Graph& graph) {
    std::vector<std::vector<char>> all;
    for (cuda::ValueId id : graph.outputs) all.emplace_back(static_cast<std::size_t>(bytes(graph.value(id).type, graph.value(id).dims)));
    return all;
}

template <typename Pointer>
std::vector<Pointer> pointers_to(std::vector<std::vector<char>>& buffers) {
    std::vector<Pointer> all;
    for (auto& one : buffers) all.push_back(one.data());
    return all;
}

void write_outputs(const std::vector<std::vector<char>>& outputs, const fs::path& folder) {
    fs::create_directories(folder);
    for (std::size_t k = 0; k < outputs.size(); ++k)
        std::ofstream(folder / fmt::format("out{}.bin", k), std::ios::binary)
            .write(outputs[k].data(), static_cast<std::streamsize>(outputs[k].size()));
}

/// The plan's account, and the device's memory at each stage, as JSON.
std::string run_memory(const std::shared_ptr<cuda::Device>& device, const std::function<cuda::Graph()>& lowered, const fs::path& inputs,
                       std::int64_t opened_free) {
    std::string stages;
    const auto stage = [&](const char* name) {
        device->synchronize();
        const std::int64_t free = device->free_bytes(), context = device->context_bytes();
        stages += fmt::format(", \"{}\": {{\"taken_bytes\": {}, \"context_bytes\": {}}}", name, opened_free - free, context);
    };
    stage("opened");
    ai_vmm::MemoryEstimate plan;
    std::size_t steps = 0, kernels = 0, calls = 0;
    {
        const cuda::Schedule schedule = make_schedule(lowered(), *device);
        plan = memory_of(schedule, cuda::Program::Keep::what_runs);
        plan.context = device->context_bytes();
        steps = schedule.steps.size();
        kernels = schedule.kernels.size();
        calls = schedule.calls.size();
        stage("planned");
    }
    stage("plan_dropped");
    const auto deploy = [&](const char* name, bool second) {
        const auto program = std::make_shared<const cuda::Program>(device, lowered(), std::make_shared<cuda::WeightStore>(device));
        const auto run = [&] {
            auto execution = std::make_unique<cuda::Execution>(program);
            const cuda::Graph& graph = program->schedule().graph;
            auto all = read_inputs(graph, inputs);
            auto results = room_for_outputs(graph);
            const auto in = pointers_to<const void*>(all);
            const auto out = pointers_to<void*>(results);
            for (int i = 0; i < 3; ++i) execution->run(in, out);
            return execution;
        };
        const auto first = run();
        stage(name);
        if (!second) return;
        const auto other = run();
        stage("second_execution");
    };
    deploy("deployed", true);
    stage("dropped");
    deploy("again", false);
    return fmt::format(
        "{{\"plan\": {{\"device_bytes\": {}, \"weight_bytes\": {}, \"arena_bytes\": {}, \"workspace_bytes\": {}, \"context_bytes\": {}}}, "
        "\"steps\": {}, \"kernels\": {}, \"library_calls\": {}{}}}\n",
        plan.device_bytes(), plan.weights, plan.arena, plan.workspace, plan.context, steps, kernels, calls, stages);
}

/// Programs for one set of shapes after another, from the same weights. @returns a JSON array
std::string run_series(const std::shared_ptr<cuda::Device>& device, const ov::Model& graph, const cuda::LowerOptions& options, const fs::path& inputs,
                       const fs::path& outputs, int repeats) {
    std::vector<fs::path> folders;
    for (const auto& entry : fs::directory_iterator(inputs)) {
        if (entry.is_directory()) folders.push_back(entry.path());
    }
    std::sort(folders.begin(), folders.end());
    const auto weights = std::make_shared<cuda::WeightStore>(device);
    std::vector<std::shared_ptr<const cuda::Program>> kept;
    std::string text;
    for (const fs::path& folder : folders) {
        const auto begin = Clock::now();
        cuda::Graph lowered = cuda::lower(cuda::with_shapes(graph, read_shapes(folder / "shapes.txt")), options);
        const double lower_us = microseconds_since(begin);
        auto start = Clock::now();
        const auto before = cuda::compiler_counters();
        const auto program = std::make_shared<const cuda::Program>(device, std::move(lowered), weights, cuda::Program::Keep::everything);
        const double program_us = microseconds_since(start);
        const auto after = cuda::compiler_counters();
        kept.push_back(program);
        const cuda::Schedule& schedule = program->schedule();
        auto in = read_inputs(schedule.graph, folder);
        auto out = room_for_outputs(schedule.graph);
        const auto from = pointers_to<const void*>(in);
        const auto to = pointers_to<void*>(out);
        start = Clock::now();
        cuda::Execution execution(program);
        execution.run(from, to);
        const double first_us = microseconds_since(start), all_us = microseconds_since(begin);
        if (!outputs.empty()) write_outputs(out, outputs / folder.filename());
        std::vector<double> times;
        for (int i = 0; i < repeats + 5; ++i) {
            const double us = execution.replay_us();
            if (i >= 5) times.push_back(us);
        }
        text += fmt::format(
            "{}{{\"shapes\": \"{}\", \"until_outputs_ms\": {:.1f}, \"lower_ms\": {:.1f}, \"program_ms\": {:.1f}, \"execution_ms\": {:.1f}, "
            "\"device_ms\": {:.4f}, \"library_calls\": {}, \"distinct_kernels\": {}, \"compiled\": {}, \"from_store\": {}, \"from_process\": {}}}",
            text.empty() ? "[" : ",\n ", folder.filename().string(), all_us / 1e3, lower_us / 1e3, program_us / 1e3, first_us / 1e3,
            percentile(times, 0.5) / 1e3, schedule.calls.size(), schedule.kernels.size(), after.compiled - before.compiled,
            after.from_store - before.from_store, after.from_process - before.from_process);
    }
    return text + "]\n";
}

int run(const std::vector<std::string>& arguments) {
    std::string model, precision = "f32", dump;
    fs::path inputs, outputs;
    int repeats = 50, ordinal = 0;
    bool profile = false, places = false, memory = false, series = false;
    int peer = -1;
    for (std::size_t i = 0; i < arguments.size(); ++i) {
        const std::string& name = arguments[i];
        const auto value = [&] { return i + 1 < arguments.size() ? arguments[++i] : throw std::runtime_error(name + " needs a value"); };
        if (name == "--precision") {
            precision = value();
        } else if (name == "--inputs") {
            inputs = value();
        } else if (name == "--outputs") {
            outputs = value();
        } else if (name == "--repeats") {
            repeats = std::stoi(value());
        } else if (name == "--device") {
            ordinal = std::stoi(value());
        } else if (name == "--dump") {
            dump = value();
        } else if (name == "--places") {
            places = true;
        } else if (name == "--memory") {
            memory = true;
        } else if (name == "--series") {
            series = true;
        } else if (name == "--peer") {
            peer = std::stoi(value());
        } else if (name == "--profile") {
            profile = true;
        } else {
            model = name;
        }
    }
    if (model.empty() || inputs.empty())
        throw std::runtime_error(
            "usage: gpu_program MODEL --inputs FOLDER [--outputs FOLDER] [--precision f32|f16|bf16] [--repeats N] [--profile] [--dump FILE] "
            "[--places [--peer N]] [--memory] [--series]");

    auto start = Clock::now();
    ov::Core core;
    const auto graph = core.read_model(model);
    const double read_us = microseconds_since(start);
    start = Clock::now();
    cuda::LowerOptions options;
    if (precision == "f16") options.float_type = cuda::Type::f16;
    if (precision == "bf16") options.float_type = cuda::Type::bf16;
    const std::shared_ptr<cuda::Device> device = cuda::open_gpu(ordinal);
    const double device_us = microseconds_since(start);
    if (memory) {
        const std::int64_t free = device->free_bytes();
        fmt::print("{}",
                   run_memory(
                       device, [&] { return cuda::lower(cuda::with_shapes(*graph, read_shapes(inputs / "shapes.txt")), options); }, inputs, free));
        return 0;
    }
    if (series) {
        fmt::print("{}", run_series(device, *graph, options, inputs, outputs, repeats));
        return 0;
    }
    start = Clock::now();
    cuda::Graph lowered = cuda::lower(cuda::with_shapes(*graph, read_shapes(inputs / "shapes.txt")), options);
    const double lower_us = microseconds_since(start);
    start = Clock::now();
    const auto program = std::make_shared<const cuda::Program>(device, std::move(lowered), std::make_shared<cuda::WeightStore>(device));
    const double compile_us = microseconds_since(start);
    const cuda::Schedule& schedule = program->schedule();
    if (!dump.empty()) std::ofstream(dump) << print(schedule);

    cuda::Execution execution(program);
    auto in = read_inputs(schedule.graph, inputs);
    auto out = room_for_outputs(schedule.graph);
    const auto in_pointers = pointers_to<const void*>(in);
    const auto out_pointers = pointers_to<void*>(out);
    start = Clock::now();
    execution.run(in_pointers, out_pointers);
    const double first_us = microseconds_since(start);
    if (!outputs.empty()) write_outputs(out, outputs);
    std::vector<double> device_times, call_times;
    for (int i = 0; i < repeats + 5; ++i) {
        const double us = execution.replay_us();
        if (i >= 5) device_times.push_back(us);
    }
    for (int i = 0; i < repeats; ++i) {
        start = Clock::now();
        execution.run(in_pointers, out_pointers);
        call_times.push_back(microseconds_since(start));
    }
    const std::string others = places ? run_places(program, device, peer < 0 ? nullptr : cuda::open_gpu(peer), in, out, repeats) : "";
    std::string steps;
    if (profile) {
        for (const auto& [label, us] : execution.profile()) steps += fmt::format("{}[\"{}\", {:.2f}]", steps.empty() ? "" : ", ", label, us);
    }
    const auto count = [&](cuda::Step::Kind kind) {
        return std::count_if(schedule.steps.begin(), schedule.steps.end(), [&](const cuda::Step& step) { return step.kind == kind; });
    };
    fmt::print(
        "{{\"device\": \"{}\", \"precision\": \"{}\", \"read_ms\": {:.1f}, \"open_ms\": {:.1f}, \"lower_ms\": {:.1f}, \"compile_ms\": {:.1f}, "
        "\"first_ms\": {:.3f}, \"device_ms\": {:.4f}, \"device_ms_low\": {:.4f}, \"device_ms_high\": {:.4f}, "
        "\"call_ms\": {:.4f}, \"call_overhead_us\": {:.1f}, \"kernels\": {}, \"library_calls\": {}, \"host_steps\": {}, \"distinct_kernels\": {}, "
        "\"weight_bytes\": {}, "
        "\"arena_bytes\": {}, \"workspace_bytes\": {}, {}\"steps\": [{}]}}\n",
        device->capabilities().name, precision, read_us / 1e3, device_us / 1e3, lower_us / 1e3, compile_us / 1e3, first_us / 1e3,
        percentile(device_times, 0.5) / 1e3, percentile(device_times, 0.1) / 1e3, percentile(device_times, 0.9) / 1e3,
        percentile(call_times, 0.5) / 1e3, percentile(call_times, 0.5) - percentile(device_times, 0.5), count(cuda::Step::Kind::kernel),
        count(cuda::Step::Kind::library), count(cuda::Step::Kind::host), schedule.kernels.size(), schedule.weight_bytes, schedule.arena_bytes,
        schedule.workspace_bytes, others, steps);
    return 0;
}

}  // namespace

int main(int count, char** values) {
    try {
        namespace cache = ai_vmm::cache;
        const auto store = std::make_shared<cache::ArtifactStore>(cache::ArtifactStore::Options{.directory = cache::default_directory()});
        cuda::keep_in(std::make_shared<cache::BackendCache>(store, "cuda"));
        return run({values + 1, values + count});
    } catch (const std::exception& error) {
        std::cerr << "gpu_program: " << error.what() << '\n';
        return 1;
    }
}
