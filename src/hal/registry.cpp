// SPDX-License-Identifier: Apache-2.0
#include "hal/registry.hpp"

#include <dlfcn.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <future>
#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <system_error>
#include <utility>

#include "base/build_id.hpp"
#include "base/file.hpp"
#include "base/log.hpp"

namespace ai_vmm::hal {
namespace fs = std::filesystem;
namespace {

constexpr std::string_view kPrefix = "libai_vmm_backend_";

struct Loaded {
    backend::Backend* instance = nullptr;  // never destroyed: engines keep threads and static state until the process ends
    BackendReport report;
};

/// "libai_vmm_backend_openvino.so" -> "openvino"
std::string name_from_file(const fs::path& path) {
    std::string name = path.stem().string();
    if (name.starts_with(kPrefix)) name.erase(0, kPrefix.size());
    return name;
}

std::vector<fs::path> libraries_in(const fs::path& directory) {
    std::vector<fs::path> found;
    std::error_code error;
    for (const fs::directory_entry& entry : fs::directory_iterator(directory, error)) {
        const std::string name = entry.path().filename().string();
        if (name.starts_with(kPrefix) && name.ends_with(".so")) found.push_back(entry.path());
    }
    std::ranges::sort(found);
    return found;
}

/// Where an installation keeps its backends, seen from the library (or executable) that this code is in.
std::vector<fs::path> installed_directories() {
    std::vector<fs::path> directories;
    const fs::path here = base::library_directory(reinterpret_cast<const void*>(&merge_devices));
    for (const char* relative : {"backends", "ai_vmm/backends", "../lib/backends", "../lib/ai_vmm/backends"}) {
        std::error_code error;
        const fs::path directory = fs::weakly_canonical(here / relative, error);
        if (!error && fs::is_directory(directory, error)) {
            directories.push_back(directory);
            break;
        }
    }
    if (const char* variable = std::getenv("AI_VMM_BACKEND_PATH")) {
        std::string_view rest = variable;
        while (!rest.empty()) {
            const std::size_t colon = rest.find(':');
            if (colon != 0) directories.emplace_back(rest.substr(0, colon));
            rest = colon == std::string_view::npos ? std::string_view{} : rest.substr(colon + 1);
        }
    }
    return directories;
}

Loaded load_library(const fs::path& path) {
    Loaded loaded;
    loaded.report.name = name_from_file(path);
    loaded.report.path = path.string();
    const auto skip = [&](std::string reason) {
        loaded.report.reason = std::move(reason);
        base::log_info("backend " + loaded.report.name + " skipped: " + loaded.report.reason);
        return loaded;
    };
    void* library = ::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (library == nullptr) {
        const char* why = ::dlerror();
        return skip(why ? why : "the library can't be loaded");
    }
    const auto entry_function = reinterpret_cast<backend::EntryFunction>(::dlsym(library, backend::kEntrySymbol));
    if (entry_function == nullptr) return skip(std::string("not a backend: it exports no ") + backend::kEntrySymbol);
    const backend::EntryPoint* entry = entry_function();
    if (entry == nullptr || entry->interface_version != backend::kInterfaceVersion) {
        return skip("built for backend interface " + (entry ? std::to_string(entry->interface_version) : std::string("?")) + ", this is " +
                    std::to_string(backend::kInterfaceVersion));
    }
    if (std::strcmp(entry->abi, AI_VMM_BACKEND_ABI) != 0) {
        return skip(std::string("built for ABI ") + entry->abi + ", this is " AI_VMM_BACKEND_ABI);
    }
    try {
        loaded.instance = entry->create();
        loaded.report.name = std::string(loaded.instance->name());
        loaded.report.version = std::string(loaded.instance->version());
        loaded.report.engine_version = loaded.instance->engine_version();
        loaded.report.build = base::build_id(reinterpret_cast<const void*>(entry_function));
        loaded.report.loaded = true;
    } catch (const std::exception& error) {
        loaded.instance = nullptr;
        return skip(error.what());
    }
    return loaded;
}

/// A library is opened once in a process, however many registries ask for it.
Loaded load_once(const fs::path& path) {
    // Engines live until the process ends, past every other static object: the list is never destroyed.
    struct Known {
        std::mutex mutex;
        std::optional<Loaded> loaded;
    };
    static std::mutex& mutex = *new std::mutex;
    static std::map<std::string, Known>& all = *new std::map<std::string, Known>;
    std::error_code error;
    const fs::path canonical = fs::canonical(path, error);
    const std::string key = error ? path.string() : canonical.string();
    Known& known = [&]() -> Known& {
        const std::lock_guard lock(mutex);
        return all[key];
    }();
    const std::lock_guard lock(known.mutex);
    if (!known.loaded || !known.loaded->report.loaded) known.loaded = load_library(key);
    return *known.loaded;
}

}  // namespace

struct Registry::Impl {
    std::vector<Loaded> loaded;
    std::mutex mutex;  // guards `hardware`
    std::optional<Hardware> hardware;
};

Registry::Registry(const Options& options) : impl_(std::make_unique<Impl>()) {
    std::vector<fs::path> libraries;
    const auto add_directory = [&](const fs::path& directory) {
        for (fs::path& path : libraries_in(directory)) libraries.push_back(std::move(path));
    };
    for (const fs::path& path : options.paths) {
        std::error_code error;
        if (fs::is_directory(path, error)) {
            add_directory(path);
        } else {
            libraries.push_back(path);
        }
    }
    if (options.load_installed) {
        for (const fs::path& directory : installed_directories()) add_directory(directory);
    }
    // Side by side, since vendors' libraries take their time to start; on this thread where there is no other.
    std::vector<std::future<Loaded>> loading;
    for (const fs::path& path : libraries) loading.push_back(std::async(load_once, path));
    std::set<std::string> names;
    for (std::future<Loaded>& one : loading) {
        Loaded loaded = one.get();
        if (loaded.report.loaded && !names.insert(loaded.report.name).second) {
            loaded.instance = nullptr;
            loaded.report.loaded = false;
            loaded.report.reason = "a backend of that name was loaded before";
        }
        impl_->loaded.push_back(std::move(loaded));
    }
    // The order engines are preferred in where nothing else decides.
    std::ranges::stable_sort(impl_->loaded, {}, [](const Loaded& entry) { return entry.report.name == "openvino" ? 0 : 1; });
}

Registry::~Registry() = default;

Hardware Registry::discover(bool refresh) {
    const std::lock_guard lock(impl_->mutex);
    if (impl_->hardware && !refresh) return *impl_->hardware;
    Hardware hardware;
    std::vector<std::future<std::vector<DeviceInfo>>> listing;
    for (const Loaded& entry : impl_->loaded) {
        listing.push_back(std::async([backend = entry.instance] { return backend != nullptr ? backend->enumerate() : std::vector<DeviceInfo>{}; }));
    }
    std::vector<DeviceInfo> found{host_cpu()};
    for (std::size_t i = 0; i < listing.size(); ++i) {
        Loaded& entry = impl_->loaded[i];
        try {
            for (DeviceInfo& device : listing[i].get()) found.push_back(std::move(device));
        } catch (const std::exception& error) {
            entry.report.reason = std::string("its devices can't be listed: ") + error.what();
        }
        hardware.backends.push_back(entry.report);
    }
    hardware.devices = merge_devices(std::move(found));
    impl_->hardware = hardware;
    return hardware;
}

backend::Backend* Registry::find(std::string_view name) const noexcept {
    for (const Loaded& entry : impl_->loaded) {
        if (entry.instance != nullptr && entry.report.name == name) return entry.instance;
    }
    return nullptr;
}

std::vector<backend::Backend*> Registry::backends() const {
    std::vector<backend::Backend*> all;
    for (const Loaded& entry : impl_->loaded) {
        if (entry.instance != nullptr) all.push_back(entry.instance);
    }
    return all;
}

void Registry::copy(const Tensor& from, Tensor& to) const {
    for (backend::Backend* backend : backends()) {
        try {
            backend->copy(from, to);
            return;
        } catch (const Error& error) {
            if (error.code() != ErrorCode::unimplemented) throw;
        }
    }
    throw Error(ErrorCode::unimplemented, ErrorCategory::runtime, "no backend moves tensors between these places",
                {.expected = {}, .found = to_string(from.place()) + " to " + to_string(to.place()), .advice = "see `vmm devices`"});
}

}  // namespace ai_vmm::hal
