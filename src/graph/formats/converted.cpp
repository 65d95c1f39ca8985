// SPDX-License-Identifier: Apache-2.0
// PyTorch and Hugging Face models: python/ai_vmm_convert turns them into IR in a process of its own, which this file starts and reads back.
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <openvino/core/model.hpp>
#include <system_error>

#include "base/file.hpp"
#include "base/log.hpp"
#include "base/process.hpp"
#include "graph/bytes.hpp"
#include "graph/formats/named_file.hpp"
#include "graph/openvino_import.hpp"
#include "graph/readers.hpp"

namespace ai_vmm::graph {
namespace {

namespace fs = std::filesystem;

constexpr std::int64_t kGiB = std::int64_t{1} << 30;
constexpr std::size_t kResultLimitBytes = std::size_t{1} << 20;

/// The interpreter of the conversion environment.
fs::path interpreter(const ReadOptions& options) {
    const char* chosen = std::getenv("AI_VMM_CONVERT_PYTHON");
    fs::path python = !options.converter_python.empty() ? options.converter_python
                      : chosen && *chosen               ? fs::path(chosen)
                                                        : fs::path(AI_VMM_CONVERT_ENV) / "bin/python";
    std::error_code error;
    if (!fs::exists(python, error)) {
        throw Error(
            ErrorCode::unavailable, ErrorCategory::system, "the environment that converts PyTorch and Hugging Face models is missing",
            {.expected = "a Python interpreter at " + python.string(),
             .found = {},
             .advice =
                 "run `make convert-env` (downloads about 0.3 GB, takes 1.3 GB on disk), or set AI_VMM_CONVERT_PYTHON to an interpreter with the "
                 "packages of requirements/convert.txt; or export the model to ONNX, which needs neither"});
    }
    return python;
}

/// The folder that holds the package ai_vmm_convert: installed beside the library, or in the source tree.
fs::path converter_folder() {
    const fs::path here = base::library_directory(reinterpret_cast<const void*>(&converter_folder));
    std::error_code error;
    for (const fs::path& folder : {here / "../share/ai_vmm", fs::path(AI_VMM_CONVERT_DIR)}) {
        if (fs::exists(folder / "ai_vmm_convert/__main__.py", error)) return folder;
    }
    throw Error(ErrorCode::unavailable, ErrorCategory::system, "the converter's package ai_vmm_convert is missing",
                {.expected = (here / "../share/ai_vmm/ai_vmm_convert").string(), .found = {}, .advice = "install the project again"});
}

ErrorCode code_named(std::string_view name) {
    for (const ErrorCode code : {ErrorCode::invalid_argument, ErrorCode::unimplemented, ErrorCode::resource_exhausted, ErrorCode::unavailable}) {
        if (to_string(code) == name) return code;
    }
    return ErrorCode::internal;
}

/// A text in the converter's answer; empty if there is none.
std::string text_of(const nlohmann::json& answer, const char* key) {
    const auto found = answer.find(key);
    return found != answer.end() && found->is_string() ? printable(found->get<std::string>(), 1000) : std::string();
}

/// The last lines of what the converter printed, for messages about crashes.
std::string tail(std::string_view text) {
    while (!text.empty() && (text.back() == '\n' || text.back() == ' ')) text.remove_suffix(1);
    constexpr std::size_t kKept = 300;
    if (text.size() > kKept) text.remove_prefix(text.size() - kKept);
    return printable(text, kKept);
}

std::string_view argument_of(ModelFormat format) {
    switch (format) {
        case ModelFormat::torchscript: return "torchscript";
        case ModelFormat::torch_export: return "torch_export";
        default: return "huggingface";
    }
}

/// Throws what went wrong, if the converter left no result of its own.
void check_process(const base::ProcessResult& result, const std::string& subject, const ReadOptions& options) {
    if (result.cancelled) throw Error(ErrorCode::cancelled, ErrorCategory::compilation, "converting " + subject + " was cancelled");
    if (result.timed_out) {
        throw Error(ErrorCode::deadline_exceeded, ErrorCategory::compilation, "converting " + subject + " took too long",
                    {.expected = "at most " + std::to_string(options.convert_timeout.count()) + " ms",
                     .found = {},
                     .advice = "export the model to ONNX and deploy that"});
    }
    if (result.ok()) return;
    const std::string output = tail(result.err);
    if (output.find("No module named") != std::string::npos) {
        throw Error(ErrorCode::unavailable, ErrorCategory::system, "the conversion environment is incomplete",
                    {.expected = {}, .found = output, .advice = "run `make convert-env` again"});
    }
    const bool memory = output.find("MemoryError") != std::string::npos || output.find("bad_alloc") != std::string::npos ||
                        output.find("not enough memory") != std::string::npos;
    throw Error(memory ? ErrorCode::resource_exhausted : ErrorCode::invalid_argument, ErrorCategory::compilation,
                "the converter failed on " + subject,
                {.expected = {},
                 .found = (result.signal ? "signal " + std::to_string(result.signal) : "exit code " + std::to_string(result.exit_code)) +
                          (output.empty() ? "" : ": " + output),
                 .advice = "check that PyTorch of the version in requirements/convert.txt loads the model; else export it to ONNX"});
}

}  // namespace

void read_converted(const Located& located, const ReadOptions& options, backend::Model& model) {
    const std::string subject = shown(located.path);
    const base::TemporaryDirectory folder("ai_vmm_convert");
    fs::path source = located.path;
    if (located.bytes) {
        source = folder.path() / "source";
        base::write_file(source, std::as_bytes(std::span(located.bytes->data(), located.bytes->size())));
    }
    const fs::path output = folder.path() / "out";
    fs::create_directory(output);

    if (options.progress) options.progress("convert", 0.0);
    base::ProcessOptions process{
        .command = {interpreter(options).string(), "-s", "-m", "ai_vmm_convert", std::string(argument_of(located.format)),
                    fs::absolute(source).string(), output.string()},
        .environment = {{"PYTHONPATH", fs::absolute(converter_folder()).string()},
                        {"PYTHONDONTWRITEBYTECODE", "1"},
                        {"PYTHONNOUSERSITE", "1"},
                        {"HOME", folder.path().string()}},
        .working_directory = folder.path(),
        .timeout = options.convert_timeout,
        .memory_limit_bytes = 16 * kGiB + 8 * located.size_bytes,  // of address space, of which PyTorch reserves far more than it uses
        .file_limit_bytes = kGiB + 4 * located.size_bytes,         // a bf16 model grows twofold in f32
        .stop = options.stop,
    };
    const base::ProcessResult result = base::run_process(process);
    check_process(result, subject, options);

    const auto answer = nlohmann::json::parse(base::read_file(output / "result.json", kResultLimitBytes), nullptr, false);
    if (!answer.is_object() || !answer.contains("ok") || !answer["ok"].is_boolean()) {
        throw Error(ErrorCode::internal, ErrorCategory::compilation, "the converter gave no readable result for " + subject);
    }
    if (!answer["ok"].get<bool>()) {
        const ErrorCode code = code_named(text_of(answer, "code"));
        throw Error(code, code == ErrorCode::unavailable ? ErrorCategory::system : ErrorCategory::compilation,
                    "can't convert " + subject + ": " + text_of(answer, "message"),
                    {.expected = {}, .found = {}, .advice = text_of(answer, "advice")});
    }
    for (const auto& note : answer.contains("notes") && answer["notes"].is_array() ? answer["notes"] : nlohmann::json::array()) {
        if (note.is_string()) base::log_info("converting " + subject + ": " + note.get<std::string>());
    }
    read_ir_file(output / "model.xml", model);
    if (options.progress) options.progress("convert", 1.0);
}

}  // namespace ai_vmm::graph
