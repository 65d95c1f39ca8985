// SPDX-License-Identifier: Apache-2.0
#include "libraries/shared_library.hpp"

#include <dlfcn.h>

#include <vector>

namespace ai_vmm::cuda {

SharedLibrary SharedLibrary::open(const std::string& title, const std::string& name) {
    SharedLibrary library;
    std::string tried;
    const std::vector<std::string> candidates = {name, "/usr/local/cuda/lib64/" + name};
    for (const std::string& candidate : candidates) {
        library.handle_ = dlopen(candidate.c_str(), RTLD_NOW | RTLD_LOCAL);
        if (library.handle_ != nullptr) {
            library.path_ = candidate;
            return library;
        }
        const char* reason = dlerror();
        tried += (tried.empty() ? "" : "; ") + std::string(reason != nullptr ? reason : candidate);
    }
    library.reason_ = title + " can't be opened (" + name + "); found: " + tried;
    return library;
}

void* SharedLibrary::symbol(const char* name) const noexcept { return handle_ == nullptr ? nullptr : dlsym(handle_, name); }

}  // namespace ai_vmm::cuda
