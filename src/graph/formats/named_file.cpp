// SPDX-License-Identifier: Apache-2.0
#include "graph/formats/named_file.hpp"

#include <cerrno>
#include <fstream>
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
        std::ofstream file(path_, std::ios::binary);  // temporary: nothing needs to reach the disk
        file.write(located.bytes->data(), static_cast<std::streamsize>(located.bytes->size()));
        file.close();
        if (!file) throw base::system_error(ENOSPC, "can't write", path_);
        return;
    }
    std::error_code error;
    std::filesystem::create_symlink(std::filesystem::absolute(located.path), path_, error);
    if (error) throw base::system_error(error.value(), "can't link to", located.path);
}

}  // namespace ai_vmm::graph
