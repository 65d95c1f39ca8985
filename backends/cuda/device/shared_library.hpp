// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

namespace ai_vmm::cuda {

/// A library of NVIDIA's, opened at run time and never closed. Thread-safe.
class SharedLibrary {
public:
    /// Opens the first there is of: each folder in AI_VMM_CUDA_LIBRARIES (separated by ':'), the dynamic linker's own search, the folder of this
    /// library, CUDA toolkits (CUDA_HOME, CUDA_PATH, /usr/local/cuda), and NVIDIA's wheels beside OpenVINO's (nvidia/*/lib).
    /// Never throws for a missing library: operator bool is false then and reason() says what was tried.
    /// @param title  for messages, e.g. "cuDNN"
    /// @param name   its SONAME
    [[nodiscard]] static SharedLibrary open(const std::string& title, const std::string& name);
    explicit operator bool() const noexcept { return handle_ != nullptr; }
    [[nodiscard]] void* handle() const noexcept { return handle_; }
    [[nodiscard]] const std::string& path() const noexcept { return path_; }
    [[nodiscard]] const std::string& reason() const noexcept { return reason_; }

    /// Looks a function up; false with its name in `missing` where it isn't.
    template <typename F>
    bool find(F& function, const char* name, std::string& missing) const {
        function = reinterpret_cast<F>(symbol(name));
        if (function == nullptr) missing = name;
        return function != nullptr;
    }

private:
    [[nodiscard]] void* symbol(const char* name) const noexcept;
    void* handle_ = nullptr;
    std::string path_;
    std::string reason_;
};

/// The folders open() looks in besides the dynamic linker's, in its order; those that exist.
[[nodiscard]] std::vector<std::string> library_folders();

}  // namespace ai_vmm::cuda
