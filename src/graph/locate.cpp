// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cerrno>
#include <fstream>
#include <istream>
#include <optional>
#include <span>
#include <system_error>

#include "base/file.hpp"
#include "base/hash.hpp"
#include "graph/bytes.hpp"
#include "graph/directory.hpp"
#include "graph/formats/gguf_file.hpp"
#include "graph/formats/ir_file.hpp"
#include "graph/formats/onnx_file.hpp"
#include "graph/formats/torch_file.hpp"
#include "graph/reader.hpp"
#include "graph/recognise.hpp"

namespace ai_vmm::graph {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kFormats =
    "ONNX, OpenVINO IR, TensorFlow SavedModel or frozen graph, TensorFlow Lite, PaddlePaddle, TorchScript, torch.export, GGUF or a Hugging Face "
    "directory";
constexpr std::string_view kExportAdvice =
    "load it into its network in Python and export that with an example input: torch.export.save(torch.export.export(network.eval(), (example,)), "
    "'model.pt2') or torch.onnx.export(network.eval(), (example,), 'model.onnx')";

/// A file that belongs to a model under the name that counts for the hash.
struct Part {
    std::string role;  ///< relative name; empty for the file that the caller named
    fs::path path;
};

[[noreturn]] void refuse(const fs::path& path, std::string_view what, std::string advice) {
    throw malformed(shown(path) + " is " + std::string(what) + ", not a model that can be run", std::string(kFormats), std::string(what),
                    std::move(advice));
}

ModelFormat format_of_zip(const fs::path& path, std::string_view bytes) {
    switch (look_into_zip(path, bytes)) {
        case ZipContent::torchscript: return ModelFormat::torchscript;
        case ZipContent::torch_export: return ModelFormat::torch_export;
        case ZipContent::state_dict:
            refuse(path, "a PyTorch state dictionary or pickled object (weights without a graph)", std::string(kExportAdvice));
        case ZipContent::keras:
            refuse(path, "a Keras 3 archive", "export it in Python: keras.models.load_model(path).export('folder') writes a SavedModel");
        case ZipContent::numpy: refuse(path, "an archive of NumPy arrays", "name the model's file; arrays are given as inputs");
        case ZipContent::other: break;
    }
    refuse(path, "a zip archive", "unpack it and name the model in it");
}

ModelFormat format_of(Content content, const fs::path& path, std::string_view bytes) {
    switch (content) {
        case Content::onnx: return ModelFormat::onnx;
        case Content::openvino_ir: return ModelFormat::openvino_ir;
        case Content::frozen_graph: return ModelFormat::tensorflow_frozen;
        case Content::tflite: return ModelFormat::tflite;
        case Content::paddle_program: return ModelFormat::paddle;
        case Content::torch_zip: return format_of_zip(path, bytes);
        case Content::gguf: return ModelFormat::gguf;
        case Content::saved_model: return ModelFormat::tensorflow_saved_model;
        case Content::empty: refuse(path, describe(content), "get the file again");
        case Content::hdf5:
            refuse(path, describe(content),
                   "export it in Python: keras.models.load_model(path).export('folder') writes a SavedModel that can be deployed");
        case Content::pickle:
        case Content::torch_legacy:
            refuse(path, describe(content),
                   "pickles run code when they are loaded and hold no graph; if these are PyTorch weights, " + std::string(kExportAdvice));
        case Content::safetensors: refuse(path, describe(content), "name the directory that has it beside its config.json");
        case Content::paddle_pir:
            refuse(path, describe(content),
                   "export it with FLAGS_enable_pir_api=0, which writes a .pdmodel file, or convert it to ONNX with paddle2onnx");
        case Content::archive: refuse(path, describe(content), "unpack it and name the model in it");
        case Content::json: refuse(path, describe(content), "name the model's file, or the directory if this is the config.json of one");
        case Content::text: refuse(path, describe(content), "name the model's file; a download of Git LFS pointers or an error page is text too");
        case Content::xml:
        case Content::image_or_sound:
        case Content::fragment:
        case Content::unknown: break;
    }
    refuse(path, describe(content), "name the model's file; if it's encrypted or compressed, unpack it first");
}

std::string hash_parts(std::vector<Part>& parts) {
    std::ranges::sort(parts, {}, &Part::role);
    base::Sha256 hash;
    for (const Part& part : parts) {
        std::error_code error;
        const std::uintmax_t size = fs::file_size(part.path, error);
        if (error) throw base::system_error(error.value(), "can't inspect", part.path);
        // Names and sizes frame the contents, so that bytes can't move from one file to the next unseen.
        hash.update(std::to_string(part.role.size()) + ":" + part.role + ":" + std::to_string(size) + ":").update(base::content_digest(part.path));
    }
    return hash.hex();
}

fs::path sibling(const fs::path& path, const char* extension) {
    fs::path result = path;
    return result.replace_extension(extension);
}

/// The weights of a Paddle program: model.pdmodel has model.pdiparams; a file `__model__` has `__params__`.
std::optional<fs::path> paddle_parameters(const fs::path& program) {
    std::error_code error;
    for (const fs::path& candidate : {sibling(program, ".pdiparams"), program.parent_path() / "__params__"}) {
        if (fs::is_regular_file(candidate, error)) return candidate;
    }
    return std::nullopt;
}

/// Finds the other files of a model in one file, and checks what can be checked without parsing the graph.
std::vector<Part> parts_of_file(ModelFormat format, const fs::path& path) {
    std::vector<Part> parts{{.role = {}, .path = path}};
    switch (format) {
        case ModelFormat::onnx: {
            const OnnxFile file = skim_onnx(path);
            for (auto& [location, data] : external_files(file, path.parent_path())) parts.push_back({.role = location, .path = data});
            break;
        }
        case ModelFormat::openvino_ir: {
            const fs::path weights = sibling(path, ".bin");
            const std::uint64_t needed = ir_weights_bytes(base::read_file(path, kIrLimitBytes));
            std::error_code error;
            const bool present = fs::exists(weights, error);
            if (present) parts.push_back({.role = "weights", .path = weights});
            const std::uintmax_t size = present ? fs::file_size(weights, error) : 0;
            if (error) throw base::system_error(error.value(), "can't inspect", weights);
            if (size < needed) {
                throw Error(present ? ErrorCode::data_loss : ErrorCode::not_found, ErrorCategory::input,
                            "the weights of '" + path.string() + "' are " + (present ? "truncated" : "missing"),
                            {.expected = weights.string() + " with at least " + std::to_string(needed) + " bytes",
                             .found = present ? std::to_string(size) + " bytes" : std::string("no such file"),
                             .advice = present ? "get the .bin file again" : "put the .bin file beside the .xml file"});
            }
            break;
        }
        case ModelFormat::paddle:
            if (const auto parameters = paddle_parameters(path)) parts.push_back({.role = "parameters", .path = *parameters});
            break;
        case ModelFormat::gguf: {
            std::ifstream stream(path, std::ios::binary);
            std::error_code error;
            const std::uintmax_t size = fs::file_size(path, error);
            if (error || !stream) throw base::system_error(error ? error.value() : EIO, "can't open", path);
            check_gguf(stream, size, shown(path));
            break;
        }
        default: break;
    }
    return parts;
}

Located locate_bytes(const ModelSource& source) {
    const std::string_view bytes = *source.bytes;
    const Content content = recognise(bytes.substr(0, kRecognisedPrefix), bytes.size());
    Located located{.format = format_of(content, {}, bytes),
                    .path = {},
                    .bytes = source.bytes,
                    .files = {},
                    .name = "model",
                    .content_hash = {},
                    .size_bytes = {}};
    located.size_bytes = static_cast<std::int64_t>(bytes.size());
    if (located.format == ModelFormat::onnx) {
        const OnnxFile file = parse_onnx(bytes);
        if (!file.external.empty()) {
            throw malformed("the ONNX model in memory keeps its weights in other files", "a model that holds its weights",
                            "tensor '" + printable(file.external.front().tensor) + "' in '" + printable(file.external.front().location) + "'",
                            "give the path of the model instead, or save it with its weights inside");
        }
    } else if (located.format == ModelFormat::openvino_ir) {
        if (const std::uint64_t needed = ir_weights_bytes(bytes); needed > 0) {
            throw malformed("the OpenVINO model in memory lacks its weights", "a model in one file",
                            std::to_string(needed) + " bytes of weights in a .bin file", "give the path of the .xml file instead");
        }
    } else if (located.format == ModelFormat::tensorflow_saved_model) {
        throw malformed("a TensorFlow SavedModel can't be given in memory", "a model in one file", "saved_model.pb",
                        "give the path of its directory instead");
    } else if (located.format == ModelFormat::gguf) {
        ViewBuffer buffer(bytes);
        std::istream stream(&buffer);
        check_gguf(stream, bytes.size(), shown({}));
    }
    base::Sha256 hash;
    located.content_hash = hash.update("0::" + std::to_string(bytes.size()) + ":")
                               .update(base::content_digest(std::as_bytes(std::span(bytes))))
                               .hex();  // equal to that of a file with these bytes
    return located;
}

std::string stem_of(const fs::path& path, bool directory) {
    fs::path last = path.filename();
    if (last.empty() || last == ".") {
        std::error_code error;
        last = fs::weakly_canonical(path, error).filename();
        if (last.empty()) last = path.parent_path().filename();
    }
    const std::string name = directory ? last.string() : last.stem().string();
    return name.empty() ? "model" : name;
}

}  // namespace

Located locate(const ModelSource& source) {
    if (source.bytes) return locate_bytes(source);
    const fs::path& path = source.path;
    if (path.empty()) throw malformed("no model was named", "a path", "an empty one");
    if (path.native().find('\0') != std::string::npos) throw malformed("the path of the model has a null character in it");

    std::error_code error;
    const fs::file_status status = fs::status(path, error);
    if (status.type() == fs::file_type::not_found) {
        throw Error(ErrorCode::not_found, ErrorCategory::input, "no such file or directory: '" + path.string() + "'",
                    {.expected = "a model file or directory", .found = {}, .advice = "check the path"});
    }
    if (error) throw base::system_error(error.value(), "can't look at", path);

    Located located{.format = ModelFormat::unknown,
                    .path = path,
                    .bytes = nullptr,
                    .files = {},
                    .name = stem_of(path, fs::is_directory(status)),
                    .content_hash = {},
                    .size_bytes = 0};
    std::vector<Part> parts;
    fs::path file = path;
    if (fs::is_directory(status)) {
        DirectoryModel directory = look_into_directory(path);
        located.format = directory.format;
        file = directory.file;
        for (const fs::path& part : directory.files) parts.push_back({.role = part.lexically_relative(path).generic_string(), .path = part});
    }
    if (located.format == ModelFormat::unknown) {
        const std::string prefix = base::read_prefix(file, kRecognisedPrefix);
        const std::uintmax_t size = fs::file_size(file, error);
        if (error) throw base::system_error(error.value(), "can't inspect", file);
        const Content content = recognise(prefix, size);
        if (content == Content::saved_model) {
            // saved_model.pb itself was named: its directory is the model.
            const fs::path folder = file.parent_path().empty() ? fs::path(".") : file.parent_path();
            if (file.filename() != "saved_model.pb") {
                throw malformed(shown(path) + " is a TensorFlow SavedModel under another name", "saved_model.pb in its directory",
                                file.filename().string(), "restore the name and name the directory");
            }
            Located whole = locate(ModelSource(folder));
            return whole;
        }
        located.format = format_of(content, file, {});
        parts = parts_of_file(located.format, file);
        located.path = file;
    }
    for (const Part& part : parts) {
        located.files.push_back(part.path);
        const std::uintmax_t size = fs::file_size(part.path, error);
        if (error) throw base::system_error(error.value(), "can't inspect", part.path);
        located.size_bytes += static_cast<std::int64_t>(size);
    }
    std::ranges::sort(located.files);
    located.content_hash = hash_parts(parts);
    return located;
}

}  // namespace ai_vmm::graph
