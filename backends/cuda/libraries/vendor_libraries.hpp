// SPDX-License-Identifier: Apache-2.0
/// The vendor libraries of one device, and what was chosen with them.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "device/device.hpp"
#include "libraries/tuning.hpp"

namespace ai_vmm::cuda {

class CublasLt;
class Cudnn;

/// Where choices outlive the process; either may be empty. Called from any thread.
struct KeptChoices {
    std::function<std::optional<std::string>(const std::string& specification)> find;
    std::function<void(const std::string& specification, const std::string& choice)> keep;
};

/// Prepares the operations of libraries.hpp with whichever libraries the machine has. Each is opened at its first use. Thread-safe.
class VendorLibraries {
public:
    /// @param device   outlives this and every call made; its context is current on every thread that calls make() (Stream::native() makes it so)
    /// @param measure  time candidates on the device; otherwise each library's first is taken
    /// @param kept     asked before a search, told after it
    VendorLibraries(Device& device, bool measure, KeptChoices kept = {});
    ~VendorLibraries();
    VendorLibraries(const VendorLibraries&) = delete;
    VendorLibraries& operator=(const VendorLibraries&) = delete;

    /// @returns null where the library is missing or takes no such operation (libraries/cublaslt.hpp, libraries/cudnn.hpp).
    /// @throws Error(internal, resource_exhausted).
    [[nodiscard]] std::unique_ptr<LibraryCall> make(const MatmulSpec& spec);
    [[nodiscard]] std::unique_ptr<LibraryCall> make(const ConvolutionSpec& spec);
    [[nodiscard]] std::unique_ptr<LibraryCall> make(const AttentionSpec& spec);
    [[nodiscard]] std::unique_ptr<RecurrentCall> make(const RecurrentSpec& spec);

    /// Open a library that make() would open at its first use, or find it missing.
    void open_cublaslt() { (void)cublaslt(); }
    void open_cudnn() { (void)cudnn(); }

    /// Whether make() gives a call; measures nothing, and makes no choice.
    [[nodiscard]] bool takes(const ConvolutionSpec& spec);

    /// One line per library: its name and version, or why it can't be used. Opens both.
    [[nodiscard]] std::vector<std::string> describe();

    /// What was chosen so far, by this object or those whose choices it was given, as bytes.
    [[nodiscard]] std::string choices() const;
    /// Takes choices from choices() of another process on the same kind of device: make() then searches and measures nothing for their
    /// specifications. A choice of another version of a library is ignored when it comes to it. @returns false, and takes none, if the bytes are
    /// damaged.
    bool add_choices(std::string_view bytes);

private:
    template <typename Library, typename Spec>
    [[nodiscard]] auto make_with(Library* library, const Spec& spec);
    /// Of an equal specification, made or given; empty: none.
    [[nodiscard]] std::string known_choice(const std::string& key) const;
    [[nodiscard]] CublasLt* cublaslt();
    [[nodiscard]] Cudnn* cudnn();

    Device& device_;
    bool measure_;
    const KeptChoices kept_;
    std::once_flag cublaslt_once_, cudnn_once_;  // what they guard is written once
    std::shared_ptr<CublasLt> cublaslt_;
    std::shared_ptr<Cudnn> cudnn_;
    std::string cublaslt_reason_, cudnn_reason_;
    mutable std::mutex mutex_;                    // guards what follows; not held while a call is prepared
    std::map<std::string, std::string> choices_;  // by to_string(specification)
};

/// Bytes of a map, and back; nothing if they are damaged.
[[nodiscard]] std::string pack_choices(const std::map<std::string, std::string>& choices);
[[nodiscard]] std::optional<std::map<std::string, std::string>> unpack_choices(std::string_view bytes);

}  // namespace ai_vmm::cuda
