// SPDX-License-Identifier: Apache-2.0
#include "libraries/vendor_libraries.hpp"

#include <cstring>
#include <utility>

#include "base/log.hpp"
#include "libraries/cublaslt.hpp"
#include "libraries/cudnn.hpp"

namespace ai_vmm::cuda {
namespace {

constexpr std::string_view kMagic = "ai_vmm choices 1\n";

void put(std::string& bytes, std::string_view text) {
    const std::uint64_t size = text.size();
    bytes.append(reinterpret_cast<const char*>(&size), sizeof(size)).append(text);
}

bool take(std::string_view& bytes, std::string& text) {
    std::uint64_t size = 0;
    if (bytes.size() < sizeof(size)) return false;
    std::memcpy(&size, bytes.data(), sizeof(size));
    bytes.remove_prefix(sizeof(size));
    if (size > bytes.size()) return false;
    text = bytes.substr(0, size);
    bytes.remove_prefix(size);
    return true;
}

}  // namespace

std::string pack_choices(const std::map<std::string, std::string>& choices) {
    std::string bytes(kMagic);
    for (const auto& [key, choice] : choices) {
        put(bytes, key);
        put(bytes, choice);
    }
    return bytes;
}

std::optional<std::map<std::string, std::string>> unpack_choices(std::string_view bytes) {
    if (!bytes.starts_with(kMagic)) return {};
    bytes.remove_prefix(kMagic.size());
    std::map<std::string, std::string> choices;
    while (!bytes.empty()) {
        std::string key;
        std::string choice;
        if (!take(bytes, key) || !take(bytes, choice)) return {};
        choices[std::move(key)] = std::move(choice);
    }
    return choices;
}

VendorLibraries::VendorLibraries(Device& device, bool measure, KeptChoices kept) : device_(device), measure_(measure), kept_(std::move(kept)) {}
VendorLibraries::~VendorLibraries() = default;

CublasLt* VendorLibraries::cublaslt() {
    std::call_once(cublaslt_once_, [&] {
        cublaslt_ = CublasLt::open(device_, cublaslt_reason_);
        if (!cublaslt_) base::log_info(cublaslt_reason_);
        base::log_debug("cuBLASLt looked for");
    });
    return cublaslt_.get();
}

Cudnn* VendorLibraries::cudnn() {
    std::call_once(cudnn_once_, [&] {
        cudnn_ = Cudnn::open(device_, cudnn_reason_);
        if (!cudnn_) base::log_info(cudnn_reason_);
        base::log_debug("cuDNN looked for");
    });
    return cudnn_.get();
}

std::string VendorLibraries::known_choice(const std::string& key) const {
    const std::lock_guard lock(mutex_);
    const auto found = choices_.find(key);
    return found == choices_.end() ? std::string() : found->second;
}

template <typename Library, typename Spec>
auto VendorLibraries::make_with(Library* library, const Spec& spec) {
    decltype(library->make(spec, Tuning{})) call;
    if (library == nullptr) return call;
    const std::string key = to_string(spec);
    Tuning tuning{.measure = measure_, .choice = known_choice(key)};
    const bool fresh = tuning.choice.empty();
    if (fresh && kept_.find) tuning.choice = kept_.find(key).value_or("");
    call = library->make(spec, tuning);
    if (call == nullptr) return call;
    std::string choice = call->choice();
    if (choice.empty()) return call;
    if (choice != tuning.choice && kept_.keep) kept_.keep(key, choice);
    if (fresh || choice != tuning.choice) {
        const std::lock_guard lock(mutex_);
        choices_[key] = std::move(choice);
    }
    return call;
}

std::unique_ptr<LibraryCall> VendorLibraries::make(const MatmulSpec& spec) { return make_with(cublaslt(), spec); }
std::unique_ptr<LibraryCall> VendorLibraries::make(const ConvolutionSpec& spec) { return make_with(cudnn(), spec); }
std::unique_ptr<LibraryCall> VendorLibraries::make(const AttentionSpec& spec) { return make_with(cudnn(), spec); }
std::unique_ptr<RecurrentCall> VendorLibraries::make(const RecurrentSpec& spec) { return make_with(cudnn(), spec); }

bool VendorLibraries::takes(const ConvolutionSpec& spec) {
    Cudnn* const library = cudnn();
    return library != nullptr && library->make(spec, Tuning{.choice = known_choice(to_string(spec))}) != nullptr;
}

std::vector<std::string> VendorLibraries::describe() {
    const CublasLt* const lt = cublaslt();
    const Cudnn* const dnn = cudnn();
    return {lt != nullptr ? "cuBLASLt " + std::to_string(lt->version()) : cublaslt_reason_,
            dnn != nullptr ? "cuDNN " + std::to_string(dnn->version()) : cudnn_reason_};
}

std::string VendorLibraries::choices() const {
    const std::lock_guard lock(mutex_);
    return pack_choices(choices_);
}

bool VendorLibraries::add_choices(std::string_view bytes) {
    auto added = unpack_choices(bytes);
    if (!added) return false;
    const std::lock_guard lock(mutex_);
    added->merge(choices_);
    choices_ = std::move(*added);
    return true;
}

}  // namespace ai_vmm::cuda
