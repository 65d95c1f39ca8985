// SPDX-License-Identifier: Apache-2.0
#include "driver/kept.hpp"

#include <mutex>
#include <utility>

namespace ai_vmm::cuda {
namespace {

struct Place {
    std::mutex mutex;
    std::shared_ptr<backend::Cache> cache;  // guarded by mutex
};

/// Never destroyed: devices are used until the process ends.
Place& place() {
    static Place* const place = new Place();
    return *place;
}

}  // namespace

std::shared_ptr<backend::Cache> kept() {
    const std::lock_guard lock(place().mutex);
    return place().cache;
}

void keep_in(std::shared_ptr<backend::Cache> cache) {
    const std::lock_guard lock(place().mutex);
    place().cache.swap(cache);
}

}  // namespace ai_vmm::cuda
