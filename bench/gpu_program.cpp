// SPDX-License-Identifier: Apache-2.0
/// One model on one GPU through the cuda backend, as bench/gpu.py measures it.
///
///   gpu_program MODEL --precision f16 --inputs FOLDER --outputs FOLDER [--repeats N] [--device N] [--profile] [--dump FILE]
///
/// Reads input K from FOLDER/inK.bin (row-major, the model's type; shapes from FOLDER/shapes.txt, one line per input), writes outK.bin and prints one
/// JSON object: device microseconds per execution (CUDA events around the recorded graph), microseconds of whole calls with copies from and to the
/// host, what those take beyond the device's, bytes, steps.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>
#include <sstream>
#include <string>
#include <vector>

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

int run(const std::vector<std::string>& arguments) {
    std::string model, precision = "f32", dump;
    fs::path inputs, outputs;
    int repeats = 50, ordinal = 0;
    bool profile = false;
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
        } else if (name == "--profile") {
            profile = true;
        } else {
            model = name;
        }
    }
    if (model.empty() || inputs.empty())
        throw std::runtime_error(
            "usage: gpu_program MODEL --inputs FOLDER [--outputs FOLDER] [--precision f32|f16|bf16] [--repeats N] [--profile] [--dump FILE]");

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
    start = Clock::now();
    cuda::Graph lowered = cuda::lower(cuda::with_shapes(*graph, read_shapes(inputs / "shapes.txt")), options);
    const double lower_us = microseconds_since(start);
    start = Clock::now();
    const auto program = std::make_shared<const cuda::Program>(device, std::move(lowered), std::make_shared<cuda::WeightStore>(device));
    const double compile_us = microseconds_since(start);
    const cuda::Schedule& schedule = program->schedule();
    if (!dump.empty()) std::ofstream(dump) << print(schedule);

    cuda::Execution execution(program);
    std::vector<std::vector<char>> in, out;
    std::vector<const void*> in_pointers;
    std::vector<void*> out_pointers;
    for (std::size_t k = 0; k < schedule.graph.inputs.size(); ++k) {
        const cuda::Value& value = schedule.graph.value(schedule.graph.inputs[k]);
        std::ifstream file(inputs / fmt::format("in{}.bin", k), std::ios::binary);
        in.emplace_back(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
        if (static_cast<std::int64_t>(in.back().size()) != bytes(value.type, value.dims))
            throw std::runtime_error(fmt::format("in{}.bin has {} bytes, the model wants {}", k, in.back().size(), bytes(value.type, value.dims)));
        in_pointers.push_back(in.back().data());
    }
    for (cuda::ValueId id : schedule.graph.outputs)
        out.emplace_back(static_cast<std::size_t>(bytes(schedule.graph.value(id).type, schedule.graph.value(id).dims)));
    for (auto& one : out) out_pointers.push_back(one.data());
    start = Clock::now();
    execution.run(in_pointers, out_pointers);
    const double first_us = microseconds_since(start);
    if (!outputs.empty()) {
        fs::create_directories(outputs);
        for (std::size_t k = 0; k < out.size(); ++k)
            std::ofstream(outputs / fmt::format("out{}.bin", k), std::ios::binary).write(out[k].data(), static_cast<std::streamsize>(out[k].size()));
    }
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
        "\"arena_bytes\": {}, \"workspace_bytes\": {}, \"steps\": [{}]}}\n",
        device->capabilities().name, precision, read_us / 1e3, device_us / 1e3, lower_us / 1e3, compile_us / 1e3, first_us / 1e3,
        percentile(device_times, 0.5) / 1e3, percentile(device_times, 0.1) / 1e3, percentile(device_times, 0.9) / 1e3,
        percentile(call_times, 0.5) / 1e3, percentile(call_times, 0.5) - percentile(device_times, 0.5), count(cuda::Step::Kind::kernel),
        count(cuda::Step::Kind::library), count(cuda::Step::Kind::host), schedule.kernels.size(), schedule.weight_bytes, schedule.arena_bytes,
        schedule.workspace_bytes, steps);
    return 0;
}

}  // namespace

int main(int count, char** values) {
    try {
        return run({values + 1, values + count});
    } catch (const std::exception& error) {
        std::cerr << "gpu_program: " << error.what() << '\n';
        return 1;
    }
}
