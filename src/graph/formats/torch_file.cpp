// SPDX-License-Identifier: Apache-2.0
#include "graph/formats/torch_file.hpp"

#include <zip.h>

#include <memory>
#include <string>

#include "graph/bytes.hpp"

namespace ai_vmm::graph {
namespace {

constexpr zip_int64_t kMaxEntries = 1'000'000;

struct CloseZip {
    void operator()(zip_t* archive) const { zip_discard(archive); }
};

std::unique_ptr<zip_t, CloseZip> open_zip(const std::filesystem::path& path, std::string_view bytes) {
    zip_error_t error;
    zip_error_init(&error);
    zip_source_t* source =
        path.empty() ? zip_source_buffer_create(bytes.data(), bytes.size(), 0, &error) : zip_source_file_create(path.c_str(), 0, -1, &error);
    std::unique_ptr<zip_t, CloseZip> archive;
    if (source) {
        archive.reset(zip_open_from_source(source, ZIP_RDONLY, &error));
        if (!archive) zip_source_free(source);
    }
    const std::string reason = archive ? std::string{} : zip_error_strerror(&error);
    zip_error_fini(&error);
    if (!archive) {
        throw malformed(shown(path) + " is a truncated or damaged zip file", "a PyTorch file with a zip directory at its end", reason,
                        "get the file again");
    }
    return archive;
}

}  // namespace

ZipContent look_into_zip(const std::filesystem::path& path, std::string_view bytes) {
    const auto archive = open_zip(path, bytes);
    const zip_int64_t count = zip_get_num_entries(archive.get(), 0);
    if (count > kMaxEntries) throw malformed(shown(path) + " is a zip file with too many entries");
    bool code = false, pickle = false, constants = false, exported = false, keras = false, numpy = false;
    for (zip_int64_t i = 0; i < count; ++i) {
        const char* raw = zip_get_name(archive.get(), static_cast<zip_uint64_t>(i), ZIP_FL_ENC_RAW);
        if (!raw) continue;
        const std::string_view name(raw);
        // PyTorch puts everything under one folder named after the file; torch.export before 2.8 doesn't.
        const std::size_t slash = name.find('/');
        const std::string_view inner = slash == std::string_view::npos ? name : name.substr(slash + 1);
        code |= inner.starts_with("code/");
        pickle |= inner == "data.pkl";
        constants |= inner == "constants.pkl";
        exported |= inner == "archive_format" || (inner.starts_with("models/") && inner.ends_with(".json")) ||
                    name == "serialized_exported_program.json" || name == "serialized_exported_program.json/";
        keras |= name == "model.weights.h5";
        numpy |= name.ends_with(".npy");
    }
    if (exported) return ZipContent::torch_export;
    if (pickle && (code || constants)) return ZipContent::torchscript;
    if (pickle) return ZipContent::state_dict;
    if (keras) return ZipContent::keras;
    return numpy ? ZipContent::numpy : ZipContent::other;
}

}  // namespace ai_vmm::graph
