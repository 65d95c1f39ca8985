// SPDX-License-Identifier: Apache-2.0
#include "driver/choice_store.hpp"

#include <span>

#include "cache/artifact_store.hpp"

namespace ai_vmm::cuda {
namespace {

/// A store per use: opening one is cheap, and the folder follows the environment.
cache::ArtifactStore store() {
    return cache::ArtifactStore({.directory = cache::default_directory() / "cuda" / "choices", .limit_bytes = std::int64_t{64} << 20});
}

}  // namespace

ChoiceStore::ChoiceStore(const Capabilities& device, int driver_version)
    : device_(device.name + " sm_" + std::to_string(device.compute_major * 10 + device.compute_minor) + " x" +
              std::to_string(device.multiprocessors)),
      driver_(std::to_string(driver_version)) {}

namespace {

cache::KeyParts parts(const std::string& specification, const std::string& device, const std::string& driver) {
    return {{"kind", "library choice"}, {"specification", specification}, {"device", device}, {"driver", driver}};
}

}  // namespace

std::optional<std::string> ChoiceStore::find(const std::string& specification) const {
    const auto entry = store().find(parts(specification, device_, driver_));
    if (!entry || entry->parts.empty()) return {};
    return entry->parts.begin()->second;
}

void ChoiceStore::keep(const std::string& specification, const std::string& choice) const {
    (void)store().put(parts(specification, device_, driver_), "library choice", {{"choice", std::as_bytes(std::span(choice))}});
}

}  // namespace ai_vmm::cuda
