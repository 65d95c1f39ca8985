// SPDX-License-Identifier: Apache-2.0
#include "session.hpp"

#include <onnxruntime_session_options_config_keys.h>

#include <algorithm>

#include "base/file.hpp"
#include "devices.hpp"
#include "external_data.hpp"
#include "types.hpp"

namespace ai_vmm::ort {
namespace {

namespace fs = std::filesystem;

// Locations are relative and stay inside the model's folder (ONNX specification, external data).
fs::path external_path(const fs::path& folder, const std::string& location) {
    const fs::path relative = fs::path(location).lexically_normal();
    if (relative.empty() || relative.is_absolute() || *relative.begin() == "..") {
        throw Error(ErrorCode::invalid_argument, ErrorCategory::input, "the ONNX model names external data outside its own folder",
                    {.expected = "a relative path", .found = location, .advice = "save the model again with its data beside it"});
    }
    return folder / relative;
}

Port port_of(const OrtApi& api, const OrtTypeInfo* info, std::string name) {
    Port port{.name = std::move(name), .type = ElementType::undefined, .shape = {}, .kind = "opaque"};
    ONNXType kind = ONNX_TYPE_UNKNOWN;
    check(api.GetOnnxTypeFromTypeInfo(info, &kind), Phase::compile);
    switch (kind) {
        case ONNX_TYPE_TENSOR: port.kind = "tensor"; break;
        case ONNX_TYPE_SEQUENCE: port.kind = "sequence"; break;
        case ONNX_TYPE_MAP: port.kind = "map"; break;
        case ONNX_TYPE_OPTIONAL: port.kind = "optional"; break;
        case ONNX_TYPE_SPARSETENSOR: port.kind = "sparse tensor"; break;
        default: break;
    }
    if (kind != ONNX_TYPE_TENSOR) return port;
    const OrtTensorTypeAndShapeInfo* tensor = nullptr;
    check(api.CastTypeInfoToTensorInfo(info, &tensor), Phase::compile);
    ONNXTensorElementDataType type{};
    check(api.GetTensorElementType(tensor, &type), Phase::compile);
    port.type = from_ort(type);
    std::size_t rank = 0;
    check(api.GetDimensionsCount(tensor, &rank), Phase::compile);
    port.shape.resize(rank);
    check(api.GetDimensions(tensor, port.shape.data(), rank), Phase::compile);
    return port;
}

using CountFunction = OrtStatus*(ORT_API_CALL*)(const OrtSession*, std::size_t*);
using NameFunction = OrtStatus*(ORT_API_CALL*)(const OrtSession*, std::size_t, OrtAllocator*, char**);
using TypeFunction = OrtStatus*(ORT_API_CALL*)(const OrtSession*, std::size_t, OrtTypeInfo**);

std::vector<Port> ports(const OrtApi& api, const OrtSession* session, CountFunction count_of, NameFunction name_of, TypeFunction type_of) {
    OrtAllocator* allocator = nullptr;
    check(api.GetAllocatorWithDefaultOptions(&allocator), Phase::compile);
    std::size_t count = 0;
    check(count_of(session, &count), Phase::compile);
    std::vector<Port> result;
    for (std::size_t i = 0; i < count; ++i) {
        char* name = nullptr;
        check(name_of(session, i, allocator, &name), Phase::compile);
        const std::string copy = name;
        check(api.AllocatorFree(allocator, name), Phase::compile);
        OrtTypeInfo* info = nullptr;
        check(type_of(session, i, &info), Phase::compile);
        const Owner<OrtTypeInfo> owner(info);
        result.push_back(port_of(api, info, copy));
    }
    return result;
}

}  // namespace

std::size_t ModelBytes::size_bytes() const noexcept {
    std::size_t size = model ? model->size() : 0;
    for (const auto& [location, content] : external_data) size += content.size();
    return size;
}

ModelBytes load_onnx(const backend::Model& model) {
    ModelBytes bytes;
    bytes.model = model.bytes ? model.bytes : std::make_shared<const std::string>(base::read_file(model.path));
    for (const std::string& location : external_data_locations(*bytes.model)) {
        if (model.path.empty()) {
            throw Error(
                ErrorCode::invalid_argument, ErrorCategory::input, "an ONNX model in memory can't have external data",
                {.expected = "weights inside the model", .found = "external data '" + location + "'", .advice = "give the model's path instead"});
        }
        bytes.external_data.emplace_back(location, base::read_file(external_path(model.path.parent_path(), location)));
    }
    return bytes;
}

int intra_op_threads(const backend::CompileConfig& config) noexcept {
    // The library counts one caller among them; every further stream brings its own thread.
    return std::max(1, config.streams * (config.threads - 1) + 1);
}

bool spinning(const backend::CompileConfig& config) noexcept { return config.threads > 1 && !config.throughput; }

Owner<OrtSession> make_session(const ModelBytes& bytes, const backend::CompileConfig& config, const SessionOptions& options) {
    const Library& library = Library::get();
    const OrtApi& api = *library.api;
    OrtSessionOptions* raw = nullptr;
    check(api.CreateSessionOptions(&raw), Phase::compile);
    const Owner<OrtSessionOptions> settings(raw);
    const auto set = [&](const char* key, const char* value) { check(api.AddSessionConfigEntry(raw, key, value), Phase::compile); };
    check(api.SetSessionLogSeverityLevel(raw, ORT_LOGGING_LEVEL_ERROR), Phase::compile);
    check(api.SetIntraOpNumThreads(raw, intra_op_threads(config)), Phase::compile);
    check(api.SetInterOpNumThreads(raw, 1), Phase::compile);
    check(api.SetSessionExecutionMode(raw, ORT_SEQUENTIAL), Phase::compile);
    check(api.SetSessionGraphOptimizationLevel(raw, options.prepared ? ORT_DISABLE_ALL : ORT_ENABLE_ALL), Phase::compile);
    set(kOrtSessionOptionsConfigAllowIntraOpSpinning, spinning(config) ? "1" : "0");
    set(kOrtSessionOptionsConfigSetDenormalAsZero, "0");
    set(kOrtSessionOptionsAvx2PrecisionMode, "1");  // x86 before VNNI: 8-bit products that don't saturate; elsewhere without effect
    if (config.device == "CPU" && library.pool_allocator != nullptr) set(kOrtSessionOptionsConfigUseEnvAllocators, "1");
    if (!options.save_prepared.empty()) {
        check(api.SetOptimizedModelFilePath(raw, options.save_prepared.c_str()), Phase::compile);
        set(kOrtSessionOptionsConfigSaveModelFormat, "ORT");
    }
    // Copied, not used in place: weights lie at any address in the format, where convolutions read them slower.
    if (options.prepared) set(kOrtSessionOptionsConfigLoadModelFormat, "ORT");
    append_provider(raw, config);

    if (!bytes.external_data.empty()) {
        std::vector<const char*> names;
        std::vector<char*> contents;
        std::vector<std::size_t> sizes;
        for (const auto& [location, content] : bytes.external_data) {
            names.push_back(location.c_str());
            contents.push_back(const_cast<char*>(content.data()));  // read only, whatever the signature says
            sizes.push_back(content.size());
        }
        check(api.AddExternalInitializersFromFilesInMemory(raw, names.data(), contents.data(), sizes.data(), names.size()), Phase::compile);
    }

    OrtSession* session = nullptr;
    check(api.CreateSessionFromArray(library.env, bytes.model->data(), bytes.model->size(), raw, &session),
          options.prepared ? Phase::import : Phase::compile);
    return Owner<OrtSession>(session);
}

int sessions_for(const backend::CompileConfig& config, std::size_t model_bytes) noexcept {
    constexpr std::size_t kAllBytes = std::size_t{64} << 20;  // of all copies
    constexpr std::size_t kMost = 8;
    if (config.device != "CPU" || config.threads != 1 || config.streams <= 1) return 1;  // workers of several sessions would compete
    const std::size_t affordable = std::clamp<std::size_t>(kAllBytes / std::max<std::size_t>(model_bytes, 1), 1, kMost);
    return static_cast<int>(std::min(static_cast<std::size_t>(config.streams), affordable));
}

std::vector<Owner<OrtSession>> make_sessions(const ModelBytes& bytes, const backend::CompileConfig& config, const SessionOptions& options) {
    std::vector<Owner<OrtSession>> sessions;
    const int count = sessions_for(config, bytes.size_bytes());
    for (int i = 0; i < count; ++i) sessions.push_back(make_session(bytes, config, options));
    return sessions;
}

Ports ports_of(const OrtSession* session) {
    const OrtApi& api = *Library::get().api;
    return {.inputs = ports(api, session, api.SessionGetInputCount, api.SessionGetInputName, api.SessionGetInputTypeInfo),
            .defaults = ports(api, session, api.SessionGetOverridableInitializerCount, api.SessionGetOverridableInitializerName,
                              api.SessionGetOverridableInitializerTypeInfo),
            .outputs = ports(api, session, api.SessionGetOutputCount, api.SessionGetOutputName, api.SessionGetOutputTypeInfo)};
}

}  // namespace ai_vmm::ort
