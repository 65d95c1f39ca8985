// SPDX-License-Identifier: Apache-2.0
#include "graph/directory.hpp"

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <system_error>

#include "base/file.hpp"
#include "graph/bytes.hpp"
#include "graph/formats/torch_file.hpp"
#include "graph/recognise.hpp"

namespace ai_vmm::graph {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kMaxFiles = 10'000;
constexpr std::size_t kMaxConfigBytes = std::size_t{16} << 20;

/// Regular files right in `folder` (links to files count), sorted by name.
std::vector<fs::path> regular_files(const fs::path& folder) {
    std::error_code error;
    std::vector<fs::path> files;
    fs::directory_iterator entries(folder, error);
    if (error) throw base::system_error(error.value(), "can't list", folder);
    for (; entries != fs::directory_iterator(); entries.increment(error)) {
        if (error) throw base::system_error(error.value(), "can't list", folder);
        std::error_code ignored;
        if (!entries->is_regular_file(ignored)) continue;
        files.push_back(entries->path());
        if (files.size() > kMaxFiles) {
            throw malformed("'" + folder.string() + "' has too many files to be a model", "a model directory",
                            "more than " + std::to_string(kMaxFiles) + " files", "name the model's file itself");
        }
    }
    std::ranges::sort(files);
    return files;
}

/// Regular files in `folder` and below it; nothing if there is no such folder. Links to folders aren't followed.
void add_tree(const fs::path& folder, std::vector<fs::path>& files) {
    std::error_code error;
    for (fs::recursive_directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error)) {
        std::error_code ignored;
        if (entry->is_regular_file(ignored)) files.push_back(entry->path());
        if (files.size() > kMaxFiles) throw malformed("'" + folder.string() + "' has too many files to be part of a model");
    }
}

Content content_of(const fs::path& file) {
    std::error_code error;
    const std::uintmax_t size = fs::file_size(file, error);
    if (error) return Content::unknown;
    const Content content = recognise(base::read_prefix(file, kRecognisedPrefix), size);
    if (content != Content::torch_zip) return content;
    try {
        const ZipContent inside = look_into_zip(file, {});
        return inside == ZipContent::torchscript || inside == ZipContent::torch_export ? content : Content::archive;
    } catch (const Error&) {
        return Content::archive;
    }
}

/// A config.json of the transformers library: it names a model type or an architecture.
bool is_transformers_config(const fs::path& file) {
    std::error_code error;
    const std::uintmax_t size = fs::file_size(file, error);
    if (error || size > kMaxConfigBytes) return false;
    const auto json = nlohmann::json::parse(base::read_file(file, kMaxConfigBytes), nullptr, false);
    return json.is_object() && (json.contains("model_type") || json.contains("architectures"));
}

bool is_weights(const fs::path& file) {
    const std::string name = file.filename().string();
    return name.ends_with(".safetensors") || (name.starts_with("pytorch_model") && name.ends_with(".bin"));
}

/// The files of a Hugging Face directory that decide what the model does.
std::vector<fs::path> hugging_face_files(const fs::path& folder, const std::vector<fs::path>& top) {
    const bool safe = std::ranges::any_of(top, [](const fs::path& file) { return file.extension() == ".safetensors"; });
    std::vector<fs::path> files;
    for (const fs::path& file : top) {
        const std::string extension = file.extension().string();
        if (is_weights(file) ? !safe || extension == ".safetensors"
                             : extension == ".json" || extension == ".txt" || extension == ".model" || extension == ".jinja") {
            files.push_back(file);
        }
    }
    if (fs::exists(folder / "modules.json")) {  // sentence-transformers: one folder per module, "1_Pooling" and so on
        std::error_code error;
        std::vector<fs::path> modules;
        for (const auto& entry : fs::directory_iterator(folder, error)) {
            const std::string name = entry.path().filename().string();
            std::error_code ignored;
            if (name.size() > 2 && name.front() >= '0' && name.front() <= '9' && name.find('_') != std::string::npos && entry.is_directory(ignored)) {
                add_tree(entry.path(), modules);
            }
        }
        files.insert(files.end(), modules.begin(), modules.end());
    }
    std::ranges::sort(files);
    return files;
}

}  // namespace

DirectoryModel look_into_directory(const fs::path& path) {
    const std::vector<fs::path> files = regular_files(path);
    std::map<fs::path, Content> contents;
    for (const fs::path& file : files) {
        try {
            contents.emplace(file, content_of(file));
        } catch (const Error& error) {
            if (error.code() != ErrorCode::permission_denied) throw;
            contents.emplace(file, Content::unknown);
        }
    }
    const auto holds = [&](const char* name, Content content) {
        const auto found = contents.find(path / name);
        return found != contents.end() && found->second == content;
    };

    if (holds("saved_model.pb", Content::saved_model)) {
        DirectoryModel model{.format = ModelFormat::tensorflow_saved_model, .file = path / "saved_model.pb", .files = {path / "saved_model.pb"}};
        for (const char* part : {"variables", "assets", "assets.extra"}) add_tree(path / part, model.files);
        std::ranges::sort(model.files);
        return model;
    }
    const bool weights = std::ranges::any_of(files, is_weights);
    if (weights && holds("config.json", Content::json) && is_transformers_config(path / "config.json")) {
        return {.format = ModelFormat::huggingface, .file = path / "config.json", .files = hugging_face_files(path, files)};
    }

    std::vector<fs::path> models;
    for (const auto& [file, content] : contents) {
        // The tokenizers that exporters put beside an OpenVINO model are models too, but not the one that is meant.
        const std::string stem = file.stem().string();
        if (is_model(content) && !(content == Content::openvino_ir && (stem.ends_with("tokenizer") || stem.ends_with("detokenizer"))))
            models.push_back(file);
    }
    if (models.size() == 1) return {.format = ModelFormat::unknown, .file = models.front(), .files = {}};

    std::string seen;
    std::size_t listed = 0;
    for (const auto& [file, content] : contents) {
        if (!models.empty() && std::ranges::find(models, file) == models.end()) continue;
        if (++listed > 8) {
            seen += ", …";
            break;
        }
        seen += (seen.empty() ? "" : ", ") + printable(file.filename().string()) + " (" + std::string(describe(content)) + ")";
    }
    if (models.empty()) {
        std::string advice = "name a model file, a TensorFlow SavedModel or a Hugging Face directory (config.json and weights)";
        if (holds("config.json", Content::json) && is_transformers_config(path / "config.json")) {
            advice = "this looks like a Hugging Face directory without its weights: add model.safetensors";
        } else if (weights) {
            advice = "these are weights without a network: add the config.json that belongs to them";
        }
        throw malformed("'" + path.string() + "' is a directory without a model", "a model directory, or a directory with one model file",
                        seen.empty() ? "no files" : seen, advice);
    }
    throw malformed("'" + path.string() + "' holds " + std::to_string(models.size()) + " models", "a directory with one model", seen,
                    "name the file of one of them");
}

}  // namespace ai_vmm::graph
