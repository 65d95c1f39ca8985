// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

namespace ai_vmm::cuda {

/// NVIDIA's run-time compiler. Thread-safe: any number of compilations may run at once.
class Nvrtc {
public:
    /// Opens it once for the process. @throws Error(unavailable), each time, naming the library and where it can be had.
    [[nodiscard]] static const Nvrtc& get();

    [[nodiscard]] const std::string& version() const noexcept { return version_; }  ///< "13.0"
    [[nodiscard]] const std::string& path() const noexcept { return path_; }
    /// Compiles CUDA C++ that includes nothing.
    /// @param compute  compute capability times 10: 90 for Hopper. A device that is newer than this compiler gets PTX, which its driver translates.
    /// @returns a cubin, or PTX. @throws Error(internal) with the compiler's messages.
    [[nodiscard]] std::string compile(const std::string& source, int compute, const std::vector<std::string>& options) const;

private:
    Nvrtc();
    struct Functions;
    const Functions* functions_;
    std::string version_, path_;
    std::vector<int> known_;  ///< compute capabilities it makes code for, ascending
};

}  // namespace ai_vmm::cuda
