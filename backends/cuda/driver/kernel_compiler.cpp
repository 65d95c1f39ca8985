// SPDX-License-Identifier: Apache-2.0
#include "driver/kernel_compiler.hpp"

#include <algorithm>
#include <atomic>
#include <exception>
#include <iterator>
#include <map>
#include <mutex>
#include <set>
#include <span>
#include <sstream>
#include <string_view>
#include <thread>
#include <vector>

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

/// A source taken apart: what stands before the first part belongs to all. A source without parts is one.
struct Parts {
    std::string_view common;
    std::vector<std::string_view> kernels;
};

Parts parts_of(std::string_view source) {
    Parts parts;
    auto at = source.find(kModulePart);
    parts.common = source.substr(0, at);
    while (at != std::string_view::npos) {
        source.remove_prefix(at + kModulePart.size());
        at = source.find(kModulePart);
        parts.kernels.push_back(source.substr(0, at));
    }
    if (parts.kernels.empty()) parts.kernels.emplace_back();
    return parts;
}

using Image = std::shared_ptr<const std::string>;

/// Compiles the parts `which`, and puts the image with each into `images`.
void compile(const Parts& parts, const std::vector<std::size_t>& which, const CodeTarget& target, std::vector<Image>& images) {
    if (which.empty()) return;
    const auto& nvrtc = Nvrtc::get();
    const std::size_t most = std::max(1U, std::thread::hardware_concurrency());
    const auto count = std::clamp<std::size_t>((which.size() + kPartsPerThread - 1) / kPartsPerThread, 1, most);
    std::vector<std::string> sources(count, std::string(kDevicePrelude) + std::string(kConversions) + std::string(parts.common));
    // In turn, since neighbours are of like size and the large ones tend to stand together.
    for (std::size_t k = 0; k < which.size(); ++k) sources[k % count].append("\n").append(parts.kernels[which[k]]);
    const std::vector<std::string> options{"-DBLOCK=" + std::to_string(target.threads_per_block), "-default-device", "-std=c++17"};
    std::vector<std::exception_ptr> failures(count);
    const auto work = [&](std::size_t i) {
        try {
            const auto image = std::make_shared<const std::string>(nvrtc.compile(sources[i], target.compute, options));
            for (std::size_t k = i; k < which.size(); k += count) images[which[k]] = image;
        } catch (...) {
            failures[i] = std::current_exception();
        }
    };
    {
        std::vector<std::jthread> threads;
        for (std::size_t i = 1; i < count; ++i) {
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
}

/// Distinct images of a source's parts, and for each part which of them has it.
struct Compiled {
    DeviceCode code;
    std::vector<std::size_t> image_of;

    explicit Compiled(const std::vector<Image>& images) {
        for (const Image& image : images) {
            const auto found = std::ranges::find(code, image);
            image_of.push_back(static_cast<std::size_t>(found - code.begin()));
            if (found == code.end()) code.push_back(image);
        }
    }
    Compiled(DeviceCode all, std::vector<std::size_t> which) : code(std::move(all)), image_of(std::move(which)) {}
};

/// What code depends on besides a text.
backend::Cache::Key target_key(const CodeTarget& target) {
    base::Sha256 hash;
    hash.update(kDevicePrelude).update(kConversions);
    return {{"prelude", hash.hex()},
            {"compute capability", std::to_string(target.compute)},
            {"threads per block", std::to_string(target.threads_per_block)},
            {"driver", std::to_string(target.driver_version)},
            {"compiler", "NVRTC " + Nvrtc::get().version()}};
}

std::string text_of(const backend::Cache::Key& key) {
    std::string text;
    for (const auto& [what, value] : key) text.append(value).append("\n");
    return text;
}

std::string digest(std::string_view first, std::string_view second = {}, std::string_view third = {}) {
    base::Sha256 hash;
    for (const auto text : {first, second, third}) hash.update(std::to_string(text.size())).update(" ").update(text);
    return hash.hex();
}

/// Code of this process.
class Kept {
public:
    static Kept& get() {
        static Kept* const kept = new Kept();
        return *kept;
    }

    std::shared_ptr<const Compiled> find(const std::string& source) {
        const std::lock_guard lock(mutex_);
        const auto found = sources_.find(source);
        return found != sources_.end() ? found->second : nullptr;
    }
    Image find_part(const std::string& part) {
        const std::lock_guard lock(mutex_);
        const auto found = parts_.find(part);
        return found != parts_.end() ? found->second.lock() : nullptr;
    }
    void keep(const std::string& source, const std::shared_ptr<const Compiled>& made, const std::vector<std::string>& parts) {
        const std::lock_guard lock(mutex_);
        for (std::size_t k = 0; k < parts.size(); ++k) parts_.insert_or_assign(parts[k], made->code[made->image_of[k]]);
        if (!sources_.emplace(source, made).second) return;
        for (auto victim = sources_.begin(); bytes() > kKeptBytes && victim != sources_.end();)
            victim = victim->first == source ? std::next(victim) : sources_.erase(victim);
        std::erase_if(parts_, [](const auto& part) { return part.second.expired(); });
    }
    void forget() {
        const std::lock_guard lock(mutex_);
        sources_.clear();
        parts_.clear();
    }

    std::atomic<long> compiled{0}, from_store{0}, from_process{0};

private:
    /// Images that several sources share count once.
    [[nodiscard]] std::size_t bytes() const {
        std::set<const std::string*> images;
        for (const auto& [source, made] : sources_) {
            for (const Image& image : made->code) images.insert(image.get());
        }
        std::size_t all = 0;
        for (const auto* image : images) all += image->size();
        return all;
    }
    std::mutex mutex_;
    std::map<std::string, std::shared_ptr<const Compiled>> sources_;
    std::map<std::string, std::weak_ptr<const std::string>> parts_;
};

/// In the cache: which image has each part, as numbers, then the images.
std::vector<std::string> pieces_of(const Compiled& compiled) {
    std::vector<std::string> pieces(1);
    for (const std::size_t image : compiled.image_of) pieces.front().append(std::to_string(image)).append(" ");
    for (const Image& image : compiled.code) pieces.push_back(*image);
    return pieces;
}

std::shared_ptr<const Compiled> stored(backend::Cache* cache, const backend::Cache::Key& key, std::size_t parts) {
    auto pieces = cache != nullptr ? cache->find(key) : std::nullopt;
    if (!pieces || pieces->empty()) return nullptr;
    DeviceCode code;
    for (std::size_t k = 1; k < pieces->size(); ++k) code.push_back(std::make_shared<const std::string>(std::move((*pieces)[k])));
    std::istringstream numbers(pieces->front());
    const std::vector<std::size_t> image_of{std::istream_iterator<std::size_t>(numbers), std::istream_iterator<std::size_t>()};
    const bool whole = image_of.size() == parts && std::ranges::all_of(image_of, [&](std::size_t image) { return image < code.size(); });
    return whole ? std::make_shared<const Compiled>(std::move(code), image_of) : nullptr;
}

/// Those that the process has, and the others compiled.
std::shared_ptr<const Compiled> collected(const Parts& parts, const std::vector<std::string>& names, const CodeTarget& target) {
    auto& mine = Kept::get();
    std::vector<Image> images;
    std::vector<std::size_t> missing;
    for (std::size_t k = 0; k < names.size(); ++k) {
        images.push_back(mine.find_part(names[k]));
        if (images.back() == nullptr) missing.push_back(k);
    }
    compile(parts, missing, target, images);
    mine.compiled += static_cast<long>(missing.size());
    mine.from_process += static_cast<long>(names.size() - missing.size());
    return std::make_shared<const Compiled>(images);
}

}  // namespace

DeviceCode compile_kernels(const std::string& source, const CodeTarget& target) {
    auto& mine = Kept::get();
    const Parts parts = parts_of(source);
    const auto count = static_cast<long>(parts.kernels.size());
    auto key = target_key(target);
    const std::string about = text_of(key);
    const std::string name = digest(about, source);
    if (const auto compiled = mine.find(name)) {
        mine.from_process += count;
        return compiled->code;
    }
    std::vector<std::string> names;
    for (const std::string_view kernel : parts.kernels) names.push_back(digest(about, parts.common, kernel));
    key.insert(key.begin(), {{"kind", "CUDA kernels"}, {"source", digest(source)}});
    const auto cache = kept();
    auto compiled = stored(cache.get(), key, parts.kernels.size());
    if (compiled) {
        mine.from_store += count;
    } else {
        compiled = collected(parts, names, target);
        if (cache) cache->put(key, pieces_of(*compiled));
    }
    mine.keep(name, compiled, names);
    return compiled->code;
}

CompilerCounters compiler_counters() {
    const auto& mine = Kept::get();
    return {.compiled = mine.compiled, .from_store = mine.from_store, .from_process = mine.from_process};
}

void forget_compiled_kernels() { Kept::get().forget(); }

}  // namespace ai_vmm::cuda
