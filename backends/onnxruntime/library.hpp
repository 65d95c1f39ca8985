// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <onnxruntime_c_api.h>

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "ai_vmm/error.hpp"
#include "block_pool.hpp"

namespace ai_vmm::ort {

/// The vendor library: opened once by its full name, never closed (it keeps threads). Thread-safe.
class Library {
public:
    /// Opens it on the first call. Looked for in $AI_VMM_ONNXRUNTIME_LIBRARY (then nowhere else), beside this backend, where the build found
    /// it, and last by the dynamic linker.
    /// @throws Error(unavailable) with what was tried.
    static const Library& get();

    const OrtApi* api = nullptr;
    OrtEnv* env = nullptr;
    std::string version;                 ///< "1.31.1"
    std::string path;                    ///< as opened
    std::vector<std::string> providers;  ///< execution providers compiled in, e.g. "CPUExecutionProvider"
    OrtAllocator* pool_allocator =
        nullptr;  ///< by which the library's environment has sessions take their memory from pool(); null: another serves it

    /// Where sessions on the CPU have their memory from.
    static BlockPool& pool();

private:
    Library();
};

/// What failed; decides the code and category of the Error.
enum class Phase { compile, import, run };

/// A message of the library without what names the library's own source, as in "/src/core/graph.cc:1587 void ns::Graph::Load(int) Bad graph.".
[[nodiscard]] std::string without_source(std::string_view message);

/// Turns a failed status into an Error and releases it; nothing for a null status.
void check(OrtStatus* status, Phase phase);

/// Owners of the library's objects.
struct Release {
    void operator()(OrtSession* value) const noexcept;
    void operator()(OrtSessionOptions* value) const noexcept;
    void operator()(OrtRunOptions* value) const noexcept;
    void operator()(OrtMemoryInfo* value) const noexcept;
    void operator()(OrtValue* value) const noexcept;
    void operator()(OrtTypeInfo* value) const noexcept;
    void operator()(OrtTensorTypeAndShapeInfo* value) const noexcept;
    void operator()(OrtIoBinding* value) const noexcept;
};
template <typename T>
using Owner = std::unique_ptr<T, Release>;

}  // namespace ai_vmm::ort
