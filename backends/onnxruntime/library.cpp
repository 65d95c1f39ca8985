// SPDX-License-Identifier: Apache-2.0
#include "library.hpp"

#include <dlfcn.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <utility>

#include "base/file.hpp"
#include "base/log.hpp"

namespace ai_vmm::ort {
namespace {

constexpr std::uint32_t kApiVersion = 21;

// Failures also come back as a status, so nothing here is above debug level.
void ORT_API_CALL log_message(void*, OrtLoggingLevel severity, const char* category, const char*, const char* location, const char* message) {
    if (severity < ORT_LOGGING_LEVEL_WARNING || !base::log_enabled(base::LogLevel::debug)) return;
    base::log_debug(std::string("onnxruntime: ") + category + " " + location + ": " + message);
}

std::vector<std::string> candidates() {
    if (const char* chosen = std::getenv("AI_VMM_ONNXRUNTIME_LIBRARY"); chosen != nullptr && *chosen != '\0') return {chosen};
    const std::filesystem::path here = base::library_directory(reinterpret_cast<const void*>(&log_message));
    const std::string versioned = std::filesystem::path(AI_VMM_ONNXRUNTIME_LIBRARY).filename();
    return {here / versioned,
            here.parent_path() / "engines" / versioned,
            here / "libonnxruntime.so.1",
            here / "libonnxruntime.so",
            AI_VMM_ONNXRUNTIME_LIBRARY,
            "libonnxruntime.so.1"};
}

/// BlockPool as the library wants it.
struct PoolAllocator : OrtAllocator {
    explicit PoolAllocator(const OrtMemoryInfo* info_) : OrtAllocator{}, info(info_) {
        version = kApiVersion;
        Alloc = [](OrtAllocator*, std::size_t size) { return Library::pool().take(size); };  // the library expects std::bad_alloc, not null
        Reserve = Alloc;
        Free = [](OrtAllocator*, void* memory) { Library::pool().give_back(memory); };
        Info = [](const OrtAllocator* self) { return static_cast<const PoolAllocator*>(self)->info; };
    }
    const OrtMemoryInfo* info;
};

[[noreturn]] void unavailable(std::string message, std::string found) {
    throw Error(ErrorCode::unavailable, ErrorCategory::system, std::move(message),
                {.expected = "ONNX Runtime 1.21 or later",
                 .found = std::move(found),
                 .advice = "install the Python package onnxruntime, or set AI_VMM_ONNXRUNTIME_LIBRARY to its libonnxruntime.so"});
}

ErrorCode code_of(OrtErrorCode code, std::string_view text, Phase phase) {
    const auto has = [text](std::string_view part) { return text.find(part) != std::string_view::npos; };
    if (has("bad_alloc") || has("Failed to allocate memory") || has("out of memory")) return ErrorCode::resource_exhausted;
    switch (code) {
        case ORT_NO_SUCHFILE: return ErrorCode::not_found;
        case ORT_NOT_IMPLEMENTED: return ErrorCode::unimplemented;
        case ORT_INVALID_PROTOBUF: return ErrorCode::invalid_argument;
        default: break;
    }
    if (phase == Phase::run) return code == ORT_INVALID_ARGUMENT ? ErrorCode::invalid_argument : ErrorCode::internal;
    if (has("is not a registered function/op") || has("No Op registered for") || has("Could not find an implementation") ||
        has("under development") || has("Unsupported model IR version") || has("not supported")) {
        return ErrorCode::unimplemented;
    }
    if (has("This is an invalid model") || has("[ShapeInferenceError]")) return ErrorCode::invalid_argument;  // not every code says so
    switch (code) {
        case ORT_INVALID_ARGUMENT:
        case ORT_NO_MODEL:
        case ORT_INVALID_GRAPH: return ErrorCode::invalid_argument;
        default: return ErrorCode::internal;
    }
}

}  // namespace

const Library& Library::get() {
    static const Library* const library = new Library();  // never destroyed: sessions may outlive static destruction
    return *library;
}

BlockPool& Library::pool() {
    static BlockPool* const pool = new BlockPool();  // as the library itself
    return *pool;
}

Library::Library() {
    std::string tried;
    void* handle = nullptr;
    for (const std::string& name : candidates()) {
        handle = dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL);
        if (handle != nullptr) {
            path = name;
            break;
        }
        const char* reason = dlerror();
        tried += (tried.empty() ? "" : "; ") + std::string(reason != nullptr ? reason : name);
    }
    if (handle == nullptr) unavailable("the library of ONNX Runtime can't be opened", tried);
    using GetBase = const OrtApiBase* (*)();
    const auto get_base = reinterpret_cast<GetBase>(dlsym(handle, "OrtGetApiBase"));
    if (get_base == nullptr) unavailable("'" + path + "' is no ONNX Runtime", "no symbol OrtGetApiBase");
    const OrtApiBase* base = get_base();
    version = base->GetVersionString();
    api = base->GetApi(kApiVersion);
    if (api == nullptr) unavailable("ONNX Runtime at '" + path + "' is too old", version);
    const auto require = [this](OrtStatus* status) {
        if (status == nullptr) return;
        const std::string text = api->GetErrorMessage(status);
        api->ReleaseStatus(status);
        unavailable("ONNX Runtime at '" + path + "' does not start", text);
    };
    require(api->CreateEnvWithCustomLogger(log_message, nullptr, ORT_LOGGING_LEVEL_WARNING, "ai_vmm", &env));
    require(api->DisableTelemetryEvents(env));
    OrtMemoryInfo* memory = nullptr;
    require(api->CreateCpuMemoryInfo(OrtDeviceAllocator, OrtMemTypeDefault, &memory));
    auto allocator = std::make_unique<PoolAllocator>(memory);
    // Refused where the process uses the library for itself and has registered an allocator: sessions have their arenas then.
    if (OrtStatus* const refused = api->RegisterAllocator(env, allocator.get())) {
        base::log_debug(std::string("onnxruntime: sessions have arenas of their own: ") + api->GetErrorMessage(refused));
        api->ReleaseStatus(refused);
        api->ReleaseMemoryInfo(memory);
    } else {
        pool_allocator = allocator.release();
    }
    char** names = nullptr;
    int count = 0;
    require(api->GetAvailableProviders(&names, &count));
    providers.assign(names, names + count);
    if (OrtStatus* status = api->ReleaseAvailableProviders(names, count)) api->ReleaseStatus(status);
}

std::string without_source(std::string_view message) {
    // A node that fails while it runs says its own message behind this.
    constexpr std::string_view kOfNode = "Status Message: ";
    if (const std::size_t at = message.find(kOfNode); at != std::string_view::npos) {
        return std::string(message.substr(0, at + kOfNode.size())) + without_source(message.substr(at + kOfNode.size()));
    }
    const auto cut_to = [&message](std::size_t at) {
        message.remove_prefix(std::min(at, message.size()));
        message.remove_prefix(std::min(message.find_first_not_of(" \n"), message.size()));
    };
    const std::size_t end = message.find_last_not_of(" \n");
    message = message.substr(0, end == std::string_view::npos ? 0 : end + 1);
    // A place: "graph.cc:12 ", then the function's name alone or its whole signature, of which the name has "::" or stands alone before a bracket.
    const std::size_t place = message.find(' ');
    const std::string_view first = message.substr(0, place);
    const std::size_t line = first.find_last_not_of("0123456789");
    const bool numbered = line != std::string_view::npos && line + 1 < first.size() && first[line] == ':';
    const std::string_view file = numbered ? first.substr(0, line) : std::string_view();
    const std::string whole(message);
    if (!file.ends_with(".cc") && !file.ends_with(".h") && !file.ends_with(".cpp")) return whole;
    cut_to(place);
    const std::size_t open = message.find('(');
    const std::string_view head = message.substr(0, open);
    if (open == std::string_view::npos || head.substr(head.rfind(' ') + 1).find("::") == std::string_view::npos) {
        if (message.find(' ') != std::string_view::npos) cut_to(message.find(' '));
        return message.empty() ? whole : std::string(message);
    }
    std::size_t at = open;
    for (int depth = 0; at < message.size(); ++at) {
        depth += message[at] == '(' ? 1 : message[at] == ')' ? -1 : 0;
        if (depth == 0) break;
    }
    cut_to(at + 1);
    for (const std::string_view suffix : {"const ", "noexcept ", "> "}) {
        if (message.starts_with(suffix)) cut_to(suffix.size());
    }
    return message.empty() ? whole : std::string(message);
}

void check(OrtStatus* status, Phase phase) {
    if (status == nullptr) [[likely]]
        return;
    const OrtApi* api = Library::get().api;
    std::string text = api->GetErrorMessage(status);
    const ErrorCode code = code_of(api->GetErrorCode(status), text, phase);
    api->ReleaseStatus(status);
    throw Error(code, phase == Phase::run ? ErrorCategory::runtime : ErrorCategory::compilation, "ONNX Runtime: " + without_source(text));
}

void Release::operator()(OrtSession* value) const noexcept {
    Library::get().api->ReleaseSession(value);
    Library::pool().trim();
}
void Release::operator()(OrtSessionOptions* value) const noexcept { Library::get().api->ReleaseSessionOptions(value); }
void Release::operator()(OrtRunOptions* value) const noexcept { Library::get().api->ReleaseRunOptions(value); }
void Release::operator()(OrtMemoryInfo* value) const noexcept { Library::get().api->ReleaseMemoryInfo(value); }
void Release::operator()(OrtValue* value) const noexcept { Library::get().api->ReleaseValue(value); }
void Release::operator()(OrtTypeInfo* value) const noexcept { Library::get().api->ReleaseTypeInfo(value); }
void Release::operator()(OrtIoBinding* value) const noexcept { Library::get().api->ReleaseIoBinding(value); }
void Release::operator()(OrtTensorTypeAndShapeInfo* value) const noexcept { Library::get().api->ReleaseTensorTypeAndShapeInfo(value); }

}  // namespace ai_vmm::ort
