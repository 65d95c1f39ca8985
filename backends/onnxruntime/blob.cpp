// SPDX-License-Identifier: Apache-2.0
#include "blob.hpp"

#include <cstdint>
#include <cstring>
#include <ostream>

namespace ai_vmm::ort {
namespace {

[[noreturn]] void damaged() { throw Error(ErrorCode::data_loss, ErrorCategory::compilation, "the compiled model of ONNX Runtime is damaged"); }

void write_number(std::ostream& out, std::uint64_t number) { out.write(reinterpret_cast<const char*>(&number), sizeof number); }

void write_names(std::ostream& out, const std::vector<std::string>& names) {
    write_number(out, names.size());
    for (const std::string& name : names) {
        write_number(out, name.size());
        out.write(name.data(), static_cast<std::streamsize>(name.size()));
    }
}

std::string_view take(std::string_view& rest, std::uint64_t size) {
    if (size > rest.size()) damaged();
    const std::string_view part = rest.substr(0, size);
    rest.remove_prefix(size);
    return part;
}

std::uint64_t read_number(std::string_view& rest) {
    std::uint64_t number = 0;
    std::memcpy(&number, take(rest, sizeof number).data(), sizeof number);
    return number;
}

std::vector<std::string> read_names(std::string_view& rest) {
    std::vector<std::string> names;
    for (std::uint64_t count = read_number(rest); count > 0; --count) names.emplace_back(take(rest, read_number(rest)));
    return names;
}

}  // namespace

void write_blob(std::ostream& out, const Blob& blob) {
    out << kBlobFormat;
    write_names(out, blob.binding.input_names);
    write_names(out, blob.binding.output_names);
    out.write(blob.model->data(), static_cast<std::streamsize>(blob.model->size()));
}

Blob read_blob(std::span<const std::byte> bytes) {
    std::string_view rest(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    if (rest.substr(0, kBlobFormat.size()) != kBlobFormat) damaged();
    rest.remove_prefix(kBlobFormat.size());
    Blob blob;
    blob.binding.input_names = read_names(rest);
    blob.binding.output_names = read_names(rest);
    blob.model = std::make_shared<const std::string>(rest);  // a copy: flatbuffers want aligned memory
    return blob;
}

}  // namespace ai_vmm::ort
