// SPDX-License-Identifier: Apache-2.0
#include "graph/formats/named_file.hpp"

#include <span>
#include <system_error>

namespace ai_vmm::graph {

NamedFile::NamedFile(const Located& located, std::string_view extension) {
    if (!located.bytes && located.path.extension() == extension) {
        path_ = located.path;
        return;
    }
    folder_ = std::make_unique<base::TemporaryDirectory>("ai_vmm_read");
    path_ = folder_->path() / ("model" + std::string(extension));
    if (located.bytes) {
        base::write_file_synced(path_, std::as_bytes(std::span(located.bytes->data(), located.bytes->size())));
        return;
    }
    std::error_code error;
    std::filesystem::create_symlink(std::filesystem::absolute(located.path), path_, error);
    if (error) throw base::system_error(error.value(), "can't link to", located.path);
}

}  // namespace ai_vmm::graph
