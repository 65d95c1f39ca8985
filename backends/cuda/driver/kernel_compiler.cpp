// SPDX-License-Identifier: Apache-2.0
#include "driver/kernel_compiler.hpp"

#include <algorithm>
#include <atomic>
#include <exception>
#include <map>
#include <mutex>
#include <span>
#include <string_view>
#include <thread>

#include "base/hash.hpp"
#include "cache/artifact_store.hpp"
#include "device/device.hpp"
#include "driver/nvrtc.hpp"
#include "driver/prelude.hpp"

namespace ai_vmm::cuda {
namespace {

constexpr std::size_t kKeptBytes = std::size_t{256} << 20;
constexpr std::int64_t kStoreBytes = std::int64_t{1} << 30;
/// A program costs tens of milliseconds before its first kernel: fewer kernels than this are not worth another thread.
constexpr std::size_t kPartsPerThread = 4;

/// `source` as programs that can be compiled alone: what stands before the first part belongs to all.
std::vector<std::string> programs(const std::string& source) {
    std::vector<std::string_view> parts;
    std::string_view rest = source;
    while (true) {
        const auto at = rest.find(kModulePart);
        parts.push_back(rest.substr(0, at));
        if (at == std::string_view::npos) break;
        rest.remove_prefix(at + kModulePart.size());
    }
    const auto common = std::string(kDevicePrelude) + std::string(kConversions) + std::string(parts.front());
    const auto kernels = parts.size() - 1;
    const std::size_t threads = std::max(1U, std::thread::hardware_concurrency());
    const auto count = std::clamp<std::size_t>((kernels + kPartsPerThread - 1) / kPartsPerThread, 1, threads);
    std::vector<std::string> result(count, common);
    // In turn, since neighbours are of like size and the large ones tend to stand together.
    for (std::size_t k = 0; k < kernels; ++k) result[k % count].append("\n").append(parts[k + 1]);
    return result;
}

DeviceCode compile(const std::string& source, const CodeTarget& target) {
    const auto& nvrtc = Nvrtc::get();
    const auto sources = programs(source);
    const std::vector<std::string> options{"-DBLOCK=" + std::to_string(target.threads_per_block), "-default-device", "-std=c++17"};
    DeviceCode code(sources.size());
    std::vector<std::exception_ptr> failures(sources.size());
    const auto work = [&](std::size_t i) {
        try {
            code[i] = nvrtc.compile(sources[i], target.compute, options);
        } catch (...) {
            failures[i] = std::current_exception();
        }
    };
    {
        std::vector<std::jthread> threads;
        for (std::size_t i = 1; i < sources.size(); ++i) {
            try {
                threads.emplace_back(work, i);
            } catch (const std::system_error&) {
                work(i);  // no more threads to be had
            }
        }
        work(0);
    }
    for (const auto& failure : failures) {
        if (failure) std::rethrow_exception(failure);
    }
    return code;
}

cache::KeyParts key_parts(const std::string& source, const CodeTarget& target) {
    base::Sha256 hash;
    hash.update(kDevicePrelude).update(kConversions).update(source);
    return {{"kind", "CUDA kernels"},
            {"source", hash.hex()},
            {"compute capability", std::to_string(target.compute)},
            {"threads per block", std::to_string(target.threads_per_block)},
            {"driver", std::to_string(target.driver_version)},
            {"compiler", "NVRTC " + Nvrtc::get().version()}};
}

/// Code of this process, and the store behind it.
class Kept {
public:
    static Kept& get() {
        static Kept* const kept = new Kept();
        return *kept;
    }

    std::shared_ptr<const DeviceCode> find(const std::string& key) {
        const std::lock_guard lock(mutex_);
        const auto found = code_.find(key);
        return found != code_.end() ? found->second : nullptr;
    }
    void keep(const std::string& key, const std::shared_ptr<const DeviceCode>& code) {
        const std::lock_guard lock(mutex_);
        if (!code_.emplace(key, code).second) return;
        bytes_ += size(*code);
        while (bytes_ > kKeptBytes && code_.size() > 1) {
            auto victim = code_.begin();
            if (victim->first == key) ++victim;
            bytes_ -= size(*victim->second);
            code_.erase(victim);
        }
    }
    void forget() {
        const std::lock_guard lock(mutex_);
        code_.clear();
        bytes_ = 0;
    }
    /// A store per use: opening one is cheap, and the folder follows the environment.
    static cache::ArtifactStore store() {
        return cache::ArtifactStore({.directory = cache::default_directory() / "cuda", .limit_bytes = kStoreBytes});
    }

    std::atomic<long> compiled{0}, from_store{0}, from_process{0};

private:
    static std::size_t size(const DeviceCode& code) {
        std::size_t bytes = 0;
        for (const auto& piece : code) bytes += piece.size();
        return bytes;
    }
    std::mutex mutex_;
    std::map<std::string, std::shared_ptr<const DeviceCode>> code_;
    std::size_t bytes_ = 0;
};

std::shared_ptr<const DeviceCode> stored(const cache::KeyParts& parts) {
    const auto entry = Kept::store().find(parts);
    if (!entry || entry->parts.empty()) return nullptr;
    auto code = std::make_shared<DeviceCode>();
    for (const auto& part : entry->parts) code->push_back(part.second);
    return code;
}

}  // namespace

std::shared_ptr<const DeviceCode> compile_kernels(const std::string& source, const CodeTarget& target) {
    auto& kept = Kept::get();
    const auto parts = key_parts(source, target);
    const auto key = cache::ArtifactStore::make_key(parts);
    if (auto code = kept.find(key)) {
        ++kept.from_process;
        return code;
    }
    if (auto code = stored(parts)) {
        ++kept.from_store;
        kept.keep(key, code);
        return code;
    }
    const auto code = std::make_shared<const DeviceCode>(compile(source, target));
    ++kept.compiled;
    std::vector<cache::NewPart> contents;
    for (std::size_t i = 0; i < code->size(); ++i) contents.emplace_back("code" + std::to_string(i), std::as_bytes(std::span((*code)[i])));
    (void)Kept::store().put(parts, "CUDA kernels", contents);
    kept.keep(key, code);
    return code;
}

CompilerCounters compiler_counters() {
    const auto& kept = Kept::get();
    return {.compiled = kept.compiled, .from_store = kept.from_store, .from_process = kept.from_process};
}

void forget_compiled_kernels() { Kept::get().forget(); }

}  // namespace ai_vmm::cuda
