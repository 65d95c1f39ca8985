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
#include "device/device.hpp"
#include "driver/kept.hpp"
#include "driver/nvrtc.hpp"
#include "driver/prelude.hpp"

namespace ai_vmm::cuda {
namespace {

constexpr std::size_t kKeptBytes = std::size_t{256} << 20;
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

backend::Cache::Key cache_key(const std::string& source, const CodeTarget& target) {
    base::Sha256 hash;
    hash.update(kDevicePrelude).update(kConversions).update(source);
    return {{"kind", "CUDA kernels"},
            {"source", hash.hex()},
            {"compute capability", std::to_string(target.compute)},
            {"threads per block", std::to_string(target.threads_per_block)},
            {"driver", std::to_string(target.driver_version)},
            {"compiler", "NVRTC " + Nvrtc::get().version()}};
}

/// Code of this process.
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

std::shared_ptr<const DeviceCode> stored(backend::Cache* cache, const backend::Cache::Key& key) {
    auto pieces = cache != nullptr ? cache->find(key) : std::nullopt;
    if (!pieces || pieces->empty()) return nullptr;
    return std::make_shared<const DeviceCode>(std::move(*pieces));
}

}  // namespace

std::shared_ptr<const DeviceCode> compile_kernels(const std::string& source, const CodeTarget& target) {
    auto& mine = Kept::get();
    const auto key = cache_key(source, target);
    std::string name;
    for (const auto& [what, value] : key) name.append(value).append("\n");
    if (auto code = mine.find(name)) {
        ++mine.from_process;
        return code;
    }
    const auto cache = kept();
    if (auto code = stored(cache.get(), key)) {
        ++mine.from_store;
        mine.keep(name, code);
        return code;
    }
    const auto code = std::make_shared<const DeviceCode>(compile(source, target));
    ++mine.compiled;
    if (cache) cache->put(key, *code);
    mine.keep(name, code);
    return code;
}

CompilerCounters compiler_counters() {
    const auto& mine = Kept::get();
    return {.compiled = mine.compiled, .from_store = mine.from_store, .from_process = mine.from_process};
}

void forget_compiled_kernels() { Kept::get().forget(); }

}  // namespace ai_vmm::cuda
