// SPDX-License-Identifier: Apache-2.0
#include "driver/nvrtc.hpp"

#include <dlfcn.h>
#include <nvrtc.h>

#include <algorithm>

#include "ai_vmm/error.hpp"
#include "base/file.hpp"
#include "base/log.hpp"
#include "device/shared_library.hpp"

namespace ai_vmm::cuda {

struct Nvrtc::Functions {
    decltype(&nvrtcVersion) version = nullptr;
    decltype(&nvrtcGetErrorString) error_string = nullptr;
    decltype(&nvrtcGetNumSupportedArchs) count_architectures = nullptr;
    decltype(&nvrtcGetSupportedArchs) architectures = nullptr;
    decltype(&nvrtcCreateProgram) create = nullptr;
    decltype(&nvrtcDestroyProgram) destroy = nullptr;
    decltype(&nvrtcCompileProgram) compile = nullptr;
    decltype(&nvrtcGetProgramLogSize) log_size = nullptr;
    decltype(&nvrtcGetProgramLog) log = nullptr;
    decltype(&nvrtcGetCUBINSize) cubin_size = nullptr;
    decltype(&nvrtcGetCUBIN) cubin = nullptr;
    decltype(&nvrtcGetPTXSize) ptx_size = nullptr;
    decltype(&nvrtcGetPTX) ptx = nullptr;

    bool load(const SharedLibrary& library, std::string& missing) {
        return library.find(version, "nvrtcVersion", missing) && library.find(error_string, "nvrtcGetErrorString", missing) &&
               library.find(count_architectures, "nvrtcGetNumSupportedArchs", missing) &&
               library.find(architectures, "nvrtcGetSupportedArchs", missing) && library.find(create, "nvrtcCreateProgram", missing) &&
               library.find(destroy, "nvrtcDestroyProgram", missing) && library.find(compile, "nvrtcCompileProgram", missing) &&
               library.find(log_size, "nvrtcGetProgramLogSize", missing) && library.find(log, "nvrtcGetProgramLog", missing) &&
               library.find(cubin_size, "nvrtcGetCUBINSize", missing) && library.find(cubin, "nvrtcGetCUBIN", missing) &&
               library.find(ptx_size, "nvrtcGetPTXSize", missing) && library.find(ptx, "nvrtcGetPTX", missing);
    }
};

Nvrtc::Nvrtc() : functions_(nullptr) {
    static Functions functions;
    std::string tried;
    for (const char* const name : {"libnvrtc.so.13", "libnvrtc.so.12"}) {
        const auto library = SharedLibrary::open("NVRTC", name);
        std::string missing;
        if (!library || !functions.load(library, missing)) {
            tried += (tried.empty() ? "" : "; ") + (library ? library.path() + " without " + missing : library.reason());
            continue;
        }
        functions_ = &functions;
        path_ = library.path();
        break;
    }
    if (functions_ == nullptr) {
        throw Error(ErrorCode::unavailable, ErrorCategory::system, "NVIDIA's run-time compiler (NVRTC) is missing",
                    {.expected = "libnvrtc.so.13 or libnvrtc.so.12",
                     .found = tried,
                     .advice = "install the Python package nvidia-cuda-nvrtc beside OpenVINO, or a CUDA toolkit, or name the library's folder in "
                               "AI_VMM_CUDA_LIBRARIES"});
    }
    int major = 0, minor = 0, count = 0;
    (void)functions_->version(&major, &minor);
    version_ = std::to_string(major) + '.' + std::to_string(minor);
    // It opens this one by its bare name, which only succeeds outside the usual folders if it is open already.
    const auto builtins = "libnvrtc-builtins.so." + version_;
    const auto beside = base::library_directory(reinterpret_cast<const void*>(functions_->version)) / builtins;
    if (::dlopen(beside.c_str(), RTLD_NOW | RTLD_LOCAL) == nullptr && !SharedLibrary::open("NVRTC's built-in functions", builtins)) {
        base::log_info(builtins + " is neither beside " + path_ + " nor where libraries are looked for");
    }
    if (functions_->count_architectures(&count) == NVRTC_SUCCESS && count > 0) {
        known_.resize(static_cast<std::size_t>(count));
        (void)functions_->architectures(known_.data());
        std::sort(known_.begin(), known_.end());
    }
}

const Nvrtc& Nvrtc::get() {
    static const Nvrtc* const nvrtc = new Nvrtc();  // never destroyed, as the library is never closed; tried again if it throws
    return *nvrtc;
}

std::string Nvrtc::compile(const std::string& source, int compute, const std::vector<std::string>& options) const {
    const bool binary = std::find(known_.begin(), known_.end(), compute) != known_.end();
    if (!binary) {
        const auto newer = std::upper_bound(known_.begin(), known_.end(), compute);
        if (newer == known_.begin()) {
            throw Error(ErrorCode::unavailable, ErrorCategory::system,
                        "NVRTC " + version_ + " makes no code for compute capability " + std::to_string(compute),
                        {.advice = "install an older NVRTC, or a newer GPU"});
        }
        compute = *(newer - 1);
    }
    std::vector<std::string> all = options;
    all.push_back((binary ? "-arch=sm_" : "-arch=compute_") + std::to_string(compute));
    std::vector<const char*> arguments;
    for (const auto& option : all) arguments.push_back(option.c_str());

    struct Program {
        const Functions& functions;
        nvrtcProgram handle = nullptr;
        ~Program() {
            if (handle != nullptr) (void)functions.destroy(&handle);
        }
    } program{*functions_};
    const auto fail = [&](nvrtcResult result, std::string messages) -> Error {
        const auto code = result == NVRTC_ERROR_OUT_OF_MEMORY ? ErrorCode::resource_exhausted : ErrorCode::internal;
        return Error(code, ErrorCategory::compilation,
                     std::string("NVRTC ") + version_ + " can't compile a generated module: " + functions_->error_string(result),
                     {.found = std::move(messages), .advice = "report this with the model"});
    };
    if (const auto result = functions_->create(&program.handle, source.c_str(), "kernels.cu", 0, nullptr, nullptr); result != NVRTC_SUCCESS)
        throw fail(result, {});
    if (const auto result = functions_->compile(program.handle, static_cast<int>(arguments.size()), arguments.data()); result != NVRTC_SUCCESS) {
        std::size_t size = 0;
        std::string log;
        if (functions_->log_size(program.handle, &size) == NVRTC_SUCCESS && size > 1) {
            log.resize(size);
            (void)functions_->log(program.handle, log.data());
            log.resize(std::min<std::size_t>(size - 1, 8000));
        }
        throw fail(result, log);
    }
    std::size_t size = 0;
    std::string code;
    auto result = binary ? functions_->cubin_size(program.handle, &size) : functions_->ptx_size(program.handle, &size);
    if (result == NVRTC_SUCCESS) {
        code.resize(size);
        result = binary ? functions_->cubin(program.handle, code.data()) : functions_->ptx(program.handle, code.data());
    }
    if (result != NVRTC_SUCCESS) throw fail(result, {});
    return code;
}

}  // namespace ai_vmm::cuda
