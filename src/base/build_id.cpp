// SPDX-License-Identifier: Apache-2.0
#include "base/build_id.hpp"

#include <elf.h>
#include <link.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace ai_vmm::base {
namespace {

/// The id among the notes of one segment. Notes are padded to 4 bytes, those of properties to 8: these have sizes that are multiples of 8 as they
/// are.
std::string id_in_notes(std::span<const unsigned char> notes) {
    const auto padded = [](std::size_t size) { return (size + 3) / 4 * 4; };
    while (notes.size() >= sizeof(ElfW(Nhdr))) {
        const auto* note = reinterpret_cast<const ElfW(Nhdr)*>(notes.data());
        const std::size_t name_at = sizeof(*note);
        const std::size_t content_at = name_at + padded(note->n_namesz);
        if (content_at + note->n_descsz > notes.size()) break;
        const std::string_view name(reinterpret_cast<const char*>(notes.data() + name_at), note->n_namesz);
        if (note->n_type == NT_GNU_BUILD_ID && name == std::string_view("GNU", 4)) {
            constexpr char kDigits[] = "0123456789abcdef";
            std::string id;
            for (const unsigned char byte : notes.subspan(content_at, note->n_descsz)) {
                id += kDigits[byte >> 4];
                id += kDigits[byte & 15];
            }
            return id;
        }
        const std::size_t size = content_at + padded(note->n_descsz);
        if (size > notes.size()) break;
        notes = notes.subspan(size);
    }
    return {};
}

struct Search {
    std::uintptr_t address;
    std::string id;
};

int visit(dl_phdr_info* info, std::size_t, void* data) {
    auto& search = *static_cast<Search*>(data);
    const std::span headers(info->dlpi_phdr, info->dlpi_phnum);
    bool holds = false;
    for (const auto& header : headers) {
        const std::uintptr_t begin = info->dlpi_addr + header.p_vaddr;
        holds |= header.p_type == PT_LOAD && search.address >= begin && search.address - begin < header.p_memsz;
    }
    if (!holds) return 0;
    for (const auto& header : headers) {
        if (header.p_type != PT_NOTE || !search.id.empty()) continue;
        const auto* notes = reinterpret_cast<const unsigned char*>(info->dlpi_addr + header.p_vaddr);
        search.id = id_in_notes({notes, header.p_memsz});
    }
    return 1;
}

}  // namespace

std::string build_id(const void* address) {
    Search search{.address = reinterpret_cast<std::uintptr_t>(address), .id = {}};
    ::dl_iterate_phdr(visit, &search);
    return search.id;
}

}  // namespace ai_vmm::base
