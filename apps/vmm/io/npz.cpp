// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>
#include <zip.h>

#include <cstdlib>
#include <memory>
#include <vector>

#include "io/file.hpp"
#include "io/npy.hpp"

namespace ai_vmm::cli {
namespace {

struct ZipError {
    zip_error_t value{};
    ZipError() { zip_error_init(&value); }
    ~ZipError() { zip_error_fini(&value); }
    ZipError(const ZipError&) = delete;
    ZipError& operator=(const ZipError&) = delete;
};

struct Discard {
    void operator()(zip_t* archive) const { zip_discard(archive); }
    void operator()(zip_file_t* file) const { zip_fclose(file); }
    void operator()(zip_source_t* source) const { zip_source_free(source); }
};
using Archive = std::unique_ptr<zip_t, Discard>;

/// The entry unpacked, at most `limit` bytes.
std::string unpack(zip_t* archive, zip_uint64_t index, std::string_view name, std::uint64_t limit) {
    const std::unique_ptr<zip_file_t, Discard> file(zip_fopen_index(archive, index, 0));
    if (!file) throw damaged(fmt::format("can't read an array of '{}': {}", name, zip_strerror(archive)));
    std::string content;
    constexpr std::size_t kBlock = std::size_t{1} << 20;
    for (;;) {  // the size that the archive states is not trusted
        const std::size_t before = content.size();
        content.resize(before + kBlock);
        const zip_int64_t count = zip_fread(file.get(), content.data() + before, kBlock);
        if (count < 0) throw damaged(fmt::format("an array of '{}' is damaged: {}", name, zip_file_strerror(file.get())));
        content.resize(before + static_cast<std::size_t>(count));
        if (count == 0) return content;
        if (content.size() > limit) {
            throw Error(ErrorCode::resource_exhausted, ErrorCategory::input, fmt::format("'{}' unpacks to too much", name),
                        {.expected = fmt::format("at most {} bytes", kInputLimit), .found = {}, .advice = {}});
        }
    }
}

}  // namespace

bool is_npz(std::string_view content) noexcept { return content.starts_with("PK\x03\x04") || content.starts_with("PK\x05\x06"); }

TensorMap parse_npz(std::string_view content, std::string_view name) {
    if (!is_npz(content)) {
        throw input_error(
            fmt::format("'{}' is not an archive of arrays", name),
            {.expected = "an archive written by numpy.savez", .found = fmt::format("{} bytes of something else", content.size()), .advice = {}});
    }
    ZipError error;
    zip_source_t* source = zip_source_buffer_create(content.data(), content.size(), 0, &error.value);
    if (source == nullptr) throw Error(ErrorCode::resource_exhausted, ErrorCategory::system, "no memory for an archive");
    Archive archive(zip_open_from_source(source, ZIP_RDONLY | ZIP_CHECKCONS, &error.value));
    if (!archive) {
        zip_source_free(source);
        throw damaged(fmt::format("'{}' is no readable archive of arrays: {}", name, zip_error_strerror(&error.value)),
                      {.expected = "an archive written by numpy.savez", .found = {}, .advice = "write or copy the file again"});
    }
    TensorMap tensors;
    std::uint64_t left = kInputLimit;
    const zip_int64_t count = zip_get_num_entries(archive.get(), 0);
    for (zip_int64_t i = 0; i < count; ++i) {
        const char* raw = zip_get_name(archive.get(), static_cast<zip_uint64_t>(i), ZIP_FL_ENC_GUESS);
        std::string entry = raw != nullptr ? raw : "";
        if (entry.ends_with('/')) continue;
        if (!entry.ends_with(".npy")) {
            throw input_error(fmt::format("'{}' holds '{}', which is no array", name, entry),
                              {.expected = "an archive of .npy files (numpy.savez)", .found = entry, .advice = {}});
        }
        const std::string array = unpack(archive.get(), static_cast<zip_uint64_t>(i), name, left);
        left -= array.size();
        const std::string label = fmt::format("{}:{}", name, entry);
        entry.resize(entry.size() - 4);
        if (tensors.find(entry) != nullptr) throw input_error(fmt::format("'{}' holds two arrays named '{}'", name, entry));
        tensors.push_back(std::move(entry), parse_npy(array, label));
    }
    return tensors;
}

std::string format_npz(const TensorMap& tensors) {
    ZipError error;
    zip_source_t* raw = zip_source_buffer_create(nullptr, 0, 0, &error.value);
    if (raw == nullptr) throw Error(ErrorCode::resource_exhausted, ErrorCategory::system, "no memory for an archive");
    const std::unique_ptr<zip_source_t, Discard> source(raw);
    zip_source_keep(raw);  // closing the archive drops one reference; the content is read afterwards
    Archive archive(zip_open_from_source(raw, ZIP_TRUNCATE, &error.value));
    if (!archive) {
        zip_source_free(raw);
        throw Error(ErrorCode::internal, ErrorCategory::system, fmt::format("can't make an archive: {}", zip_error_strerror(&error.value)));
    }
    const auto fail = [&] {
        return Error(ErrorCode::internal, ErrorCategory::system, fmt::format("can't make an archive: {}", zip_strerror(archive.get())));
    };
    std::vector<std::string> arrays;  // must live until the archive is closed
    arrays.reserve(tensors.size());
    for (const auto& [name, tensor] : tensors) {
        const std::string& array = arrays.emplace_back(format_npy(tensor));
        zip_source_t* entry = zip_source_buffer(archive.get(), array.data(), array.size(), 0);
        if (entry == nullptr) throw fail();
        const zip_int64_t index = zip_file_add(archive.get(), (name + ".npy").c_str(), entry, ZIP_FL_ENC_UTF_8);
        if (index < 0) {
            zip_source_free(entry);
            throw fail();
        }
        zip_set_file_compression(archive.get(), static_cast<zip_uint64_t>(index), ZIP_CM_STORE, 0);
        zip_file_set_mtime(archive.get(), static_cast<zip_uint64_t>(index), 315532800, 0);  // 1980: equal tensors give equal files
    }
    if (zip_close(archive.get()) != 0) throw fail();
    static_cast<void>(archive.release());
    std::string content;
    if (tensors.empty()) return std::string("PK\x05\x06", 4) + std::string(18, '\0');
    if (zip_source_open(raw) != 0) throw Error(ErrorCode::internal, ErrorCategory::system, "can't read an archive back");
    constexpr std::size_t kBlock = std::size_t{1} << 20;
    for (;;) {
        const std::size_t before = content.size();
        content.resize(before + kBlock);
        const zip_int64_t count = zip_source_read(raw, content.data() + before, kBlock);
        content.resize(before + static_cast<std::size_t>(count > 0 ? count : 0));
        if (count <= 0) break;
    }
    zip_source_close(raw);
    return content;
}

}  // namespace ai_vmm::cli
