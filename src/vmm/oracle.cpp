// SPDX-License-Identifier: Apache-2.0
#include "vmm/oracle.hpp"

#include <cstdlib>
#include <cstring>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/file.hpp"
#include "base/log.hpp"
#include "base/process.hpp"

namespace ai_vmm {
namespace fs = std::filesystem;
namespace {

using Json = nlohmann::json;

fs::path find_script() {
    const fs::path here = base::library_directory(reinterpret_cast<const void*>(&make_oracle));
    for (const fs::path& folder : {here / "../share/ai_vmm/tools", fs::path(AI_VMM_TOOLS_DIR)}) {
        std::error_code error;
        if (fs::exists(folder / "evaluate_onnx.py", error)) return folder / "evaluate_onnx.py";
    }
    return {};
}

std::span<const std::byte> bytes_of(const std::string& text) { return {reinterpret_cast<const std::byte*>(text.data()), text.size()}; }

void write_inputs(const fs::path& directory, const std::vector<TensorInfo>& infos, std::span<const Tensor> inputs) {
    Json entries = Json::array();
    for (std::size_t i = 0; i < inputs.size(); ++i) {
        const Tensor& tensor = inputs[i];
        if (tensor.empty()) continue;
        Json entry{{"name", infos[i].name}, {"type", to_string(tensor.type())}, {"shape", tensor.shape()}};
        if (tensor.type() == ElementType::string) {
            Json strings = Json::array();
            for (const std::string& text : tensor.as<std::string>()) strings.push_back(text);
            entry["strings"] = std::move(strings);
        } else {
            const std::string file = "input_" + std::to_string(i) + ".bin";
            base::write_file(directory / file, {static_cast<const std::byte*>(tensor.data()), tensor.size_bytes()});
            entry["file"] = file;
        }
        entries.push_back(std::move(entry));
    }
    base::write_file(directory / "inputs.json", bytes_of(entries.dump(-1, ' ', false, Json::error_handler_t::replace)));
}

std::optional<std::vector<Tensor>> read_outputs(const fs::path& directory) {
    const Json entries = Json::parse(base::read_file(directory / "outputs.json"));
    std::vector<Tensor> outputs;
    for (const Json& entry : entries) {
        const auto type = element_type_from_string(entry.at("type").get<std::string>());
        if (!type) return std::nullopt;
        Tensor tensor(*type, entry.at("shape").get<Shape>());
        if (*type == ElementType::string) {
            const auto strings = entry.at("strings").get<std::vector<std::string>>();
            if (strings.size() != tensor.element_count()) return std::nullopt;
            std::ranges::copy(strings, tensor.as<std::string>().begin());
        } else {
            const std::string content = base::read_file(directory / entry.at("file").get<std::string>());
            if (content.size() != tensor.size_bytes()) return std::nullopt;
            std::memcpy(tensor.data(), content.data(), content.size());
        }
        outputs.push_back(std::move(tensor));
    }
    return outputs;
}

std::optional<std::vector<Tensor>> evaluate(const backend::Model& model, std::span<const Tensor> inputs) {
    const fs::path script = find_script();
    if (script.empty()) return std::nullopt;
    const char* chosen = std::getenv("AI_VMM_PYTHON");
    const std::string python = chosen ? chosen : AI_VMM_PYTHON;
    try {
        const base::TemporaryDirectory directory("ai_vmm_oracle");
        fs::path path = model.path;
        if (model.bytes) {
            path = directory.path() / "model.onnx";
            base::write_file(path, bytes_of(*model.bytes));
        }
        write_inputs(directory.path(), model.inputs, inputs);
        base::ProcessOptions options;
        options.command = {python, "-I", script.string(), path.string(), directory.path().string()};
        options.timeout = std::chrono::seconds(60);
        options.memory_limit_bytes = std::int64_t{16} << 30;
        const base::ProcessResult result = base::run_process(options);
        if (!result.ok()) {
            base::log_info("the reference evaluator gives no answer: " + result.err.substr(result.err.size() > 300 ? result.err.size() - 300 : 0));
            return std::nullopt;
        }
        return read_outputs(directory.path());
    } catch (const std::exception& error) {
        base::log_info(std::string("the reference evaluator can't be used: ") + error.what());
        return std::nullopt;
    }
}

}  // namespace

runtime::Oracle make_oracle(const backend::Model& model) {
    if (model.format != ModelFormat::onnx) return {};
    return [model](std::span<const Tensor> inputs) { return evaluate(model, inputs); };
}

}  // namespace ai_vmm
