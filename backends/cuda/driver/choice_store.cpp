// SPDX-License-Identifier: Apache-2.0
#include "driver/choice_store.hpp"

#include "driver/kept.hpp"

namespace ai_vmm::cuda {

ChoiceStore::ChoiceStore(const Capabilities& device, int driver_version)
    : device_(device.name + " sm_" + std::to_string(device.compute_major * 10 + device.compute_minor) + " x" +
              std::to_string(device.multiprocessors)),
      driver_(std::to_string(driver_version)) {}

namespace {

backend::Cache::Key key(const std::string& specification, const std::string& device, const std::string& driver) {
    return {{"kind", "library choice"}, {"specification", specification}, {"device", device}, {"driver", driver}};
}

}  // namespace

std::optional<std::string> ChoiceStore::find(const std::string& specification) const {
    const auto cache = kept();
    auto pieces = cache ? cache->find(key(specification, device_, driver_)) : std::nullopt;
    if (!pieces || pieces->empty()) return {};
    return std::move(pieces->front());
}

void ChoiceStore::keep(const std::string& specification, const std::string& choice) const {
    if (const auto cache = kept()) cache->put(key(specification, device_, driver_), {&choice, 1});
}

}  // namespace ai_vmm::cuda
