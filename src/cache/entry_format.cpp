// SPDX-License-Identifier: Apache-2.0
#include "cache/entry_format.hpp"

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>

#include "base/hash.hpp"

namespace ai_vmm::cache {
namespace {

using Json = nlohmann::json;

constexpr std::string_view kMagic = "AIVMMART";
constexpr std::size_t kDigested = 24;  // bytes of the header that the digest covers, before the manifest

template <typename T>
void append_little_endian(std::string& out, T value) {
    for (std::size_t i = 0; i < sizeof(T); ++i) out.push_back(static_cast<char>((value >> (8 * i)) & 0xff));
}

template <typename T>
T read_little_endian(std::string_view in) {
    T value = 0;
    for (std::size_t i = 0; i < sizeof(T); ++i) value |= static_cast<T>(static_cast<unsigned char>(in[i])) << (8 * i);
    return value;
}

std::string digest_of(std::string_view start, std::string_view manifest) {
    return base::Sha256().update(start.substr(0, kDigested)).update(manifest).hex();
}

/// The string under `name`, or nullptr if there is none or it is too long.
const std::string* text_of(const Json& object, const char* name, std::size_t limit) {
    const auto found = object.find(name);
    if (found == object.end() || !found->is_string()) return nullptr;
    const auto& text = found->get_ref<const std::string&>();
    return text.size() <= limit ? &text : nullptr;
}

}  // namespace

std::uint64_t Manifest::content_size() const noexcept {
    std::uint64_t sum = 0;
    for (const EntryPart& part : parts) sum += part.size_bytes;
    return sum;
}

bool is_digest(std::string_view text) noexcept {
    return text.size() == 64 && std::all_of(text.begin(), text.end(), [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
}

ParseStatus parse_header(std::string_view start, std::uint64_t file_size, EntryHeader& header) {
    if (start.size() < kHeaderSize || start.substr(0, kMagic.size()) != kMagic) return ParseStatus::damaged;
    if (read_little_endian<std::uint32_t>(start.substr(8, 4)) != kFormatVersion) return ParseStatus::other_version;
    header.manifest_size = read_little_endian<std::uint32_t>(start.substr(12, 4));
    header.content_size = read_little_endian<std::uint64_t>(start.substr(16, 8));
    header.digest = std::string(start.substr(kDigested, 64));
    if (header.manifest_size > kManifestLimit || file_size < kHeaderSize + header.manifest_size) return ParseStatus::damaged;
    if (header.content_size != file_size - kHeaderSize - header.manifest_size) return ParseStatus::damaged;
    return ParseStatus::ok;
}

std::optional<Manifest> parse_manifest(const EntryHeader& header, std::string_view start, std::string_view manifest_text) {
    if (start.size() < kHeaderSize || manifest_text.size() != header.manifest_size) return std::nullopt;
    if (digest_of(start, manifest_text) != header.digest) return std::nullopt;
    // Whoever may write here can also compute the digest: what follows trusts nothing either.
    const Json json = Json::parse(manifest_text, nullptr, false);
    if (!json.is_object()) return std::nullopt;

    Manifest manifest;
    const std::string* key = text_of(json, "key", 64);
    const std::string* model = text_of(json, "model", kManifestLimit);
    const std::string* kind = text_of(json, "kind", kManifestLimit);
    if (!key || !is_digest(*key) || !model || !kind) return std::nullopt;
    manifest.key = *key;
    manifest.model = *model;
    manifest.kind = *kind;

    const auto key_parts = json.find("key_parts");
    if (key_parts == json.end() || !key_parts->is_array() || key_parts->size() > kPartLimit) return std::nullopt;
    for (const Json& pair : *key_parts) {
        if (!pair.is_array() || pair.size() != 2 || !pair[0].is_string() || !pair[1].is_string()) return std::nullopt;
        manifest.key_parts.emplace_back(pair[0].get<std::string>(), pair[1].get<std::string>());
    }

    const auto parts = json.find("parts");
    if (parts == json.end() || !parts->is_array() || parts->size() > kPartLimit) return std::nullopt;
    std::uint64_t remaining = header.content_size;
    for (const Json& item : *parts) {
        if (!item.is_object()) return std::nullopt;
        const std::string* name = text_of(item, "name", kNameLimit);
        const std::string* digest = text_of(item, "digest", 64);
        const auto size = item.find("size_bytes");
        if (!name || !digest || !is_digest(*digest) || size == item.end() || !size->is_number_unsigned()) return std::nullopt;
        const auto size_bytes = size->get<std::uint64_t>();
        if (size_bytes > remaining) return std::nullopt;
        remaining -= size_bytes;
        manifest.parts.push_back({*name, size_bytes, *digest});
    }
    if (remaining != 0) return std::nullopt;
    return manifest;
}

std::string make_head(const Manifest& manifest) {
    if (manifest.parts.size() > kPartLimit || manifest.key_parts.size() > kPartLimit) return {};
    Json json = {{"key", manifest.key}, {"model", manifest.model}, {"kind", manifest.kind}};
    json["key_parts"] = Json::array();
    for (const auto& [name, value] : manifest.key_parts) json["key_parts"].push_back(Json::array({name, value}));
    json["parts"] = Json::array();
    for (const EntryPart& part : manifest.parts) {
        if (part.name.size() > kNameLimit) return {};
        json["parts"].push_back({{"name", part.name}, {"size_bytes", part.size_bytes}, {"digest", part.digest}});
    }
    const std::string text = json.dump(-1, ' ', false, Json::error_handler_t::replace);
    if (text.size() > kManifestLimit) return {};

    std::string head(kMagic);
    append_little_endian(head, kFormatVersion);
    append_little_endian(head, static_cast<std::uint32_t>(text.size()));
    append_little_endian(head, manifest.content_size());
    head += digest_of(head, text);
    return head + text;
}

}  // namespace ai_vmm::cache
