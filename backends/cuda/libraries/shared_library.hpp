// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

namespace ai_vmm::cuda {

/// A vendor library, looked for where the driver's libraries are (driver/…) and never closed. Thread-safe.
class SharedLibrary {
public:
    /// Never throws for a missing library: operator bool is false then and reason() says what was tried and what to do.
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

}  // namespace ai_vmm::cuda
