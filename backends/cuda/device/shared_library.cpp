// SPDX-License-Identifier: Apache-2.0
#include "device/shared_library.hpp"

#include <dlfcn.h>
#include <link.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <string_view>

#include "base/file.hpp"

namespace ai_vmm::cuda {
namespace {

namespace fs = std::filesystem;

std::string variable(const char* name) {
    const char* const text = std::getenv(name);
    return text != nullptr ? text : "";
}

std::vector<std::string> chosen_folders() {
    std::vector<std::string> folders;
    std::string_view rest;
    const std::string list = variable("AI_VMM_CUDA_LIBRARIES");
    for (rest = list; !rest.empty();) {
        const auto end = std::min(rest.find(':'), rest.size());
        if (end != 0) folders.emplace_back(rest.substr(0, end));
        rest.remove_prefix(std::min(end + 1, rest.size()));
    }
    return folders;
}

/// Where OpenVINO was loaded from; empty if it isn't.
fs::path openvino_library() {
    std::string path;
    ::dl_iterate_phdr(
        [](dl_phdr_info* info, std::size_t, void* found) {
            const std::string_view name = info->dlpi_name != nullptr ? info->dlpi_name : "";
            if (name.find("/libopenvino.so") == std::string_view::npos) return 0;
            *static_cast<std::string*>(found) = name;
            return 1;
        },
        &path);
    return path;
}

/// nvidia/*/lib under site-packages, when OpenVINO's library is in site-packages/openvino/libs.
std::vector<std::string> wheel_folders() {
    std::vector<std::string> folders;
    std::error_code error;
    const auto library = openvino_library();
    if (library.empty()) return folders;
    for (const auto& entry : fs::directory_iterator(library.parent_path().parent_path().parent_path() / "nvidia", error)) {
        if (const auto folder = entry.path() / "lib"; fs::is_directory(folder, error)) folders.push_back(folder);
    }
    std::sort(folders.rbegin(), folders.rend());  // later majors ("cu13") first
    return folders;
}

std::vector<std::string> usual_folders() {
    std::vector<std::string> folders{base::library_directory(reinterpret_cast<const void*>(&usual_folders))};
    for (const auto& toolkit : {variable("CUDA_HOME"), variable("CUDA_PATH"), std::string("/usr/local/cuda")}) {
        if (toolkit.empty()) continue;
        folders.push_back(toolkit + "/lib64");
        folders.push_back(toolkit + "/targets/x86_64-linux/lib");
    }
    const auto wheels = wheel_folders();
    folders.insert(folders.end(), wheels.begin(), wheels.end());
    std::error_code error;
    std::erase_if(folders, [&](const std::string& folder) { return !fs::is_directory(folder, error); });
    return folders;
}

}  // namespace

std::vector<std::string> library_folders() {
    auto folders = chosen_folders();
    for (auto& folder : usual_folders()) folders.push_back(std::move(folder));
    return folders;
}

SharedLibrary SharedLibrary::open(const std::string& title, const std::string& name) {
    std::vector<std::string> candidates;
    std::string folders, failures;
    std::error_code error;
    const auto add = [&](const std::vector<std::string>& more) {
        for (const auto& folder : more) {
            folders += (folders.empty() ? "" : ", ") + folder;
            if (fs::exists(folder + '/' + name, error)) candidates.push_back(folder + '/' + name);
        }
    };
    add(chosen_folders());
    candidates.push_back(name);
    add(usual_folders());

    SharedLibrary library;
    for (const std::string& candidate : candidates) {
        library.handle_ = ::dlopen(candidate.c_str(), RTLD_NOW | RTLD_LOCAL);
        if (library.handle_ != nullptr) {
            library.path_ = candidate;
            return library;
        }
        const char* const reason = ::dlerror();
        failures += (failures.empty() ? "" : "; ") + std::string(reason != nullptr ? reason : candidate.c_str());
    }
    library.reason_ = title + " can't be opened: " + failures + (folders.empty() ? "" : "; looked in " + folders + " too");
    return library;
}

void* SharedLibrary::symbol(const char* name) const noexcept { return handle_ == nullptr ? nullptr : ::dlsym(handle_, name); }

}  // namespace ai_vmm::cuda
