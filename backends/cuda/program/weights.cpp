// SPDX-License-Identifier: Apache-2.0
#include "program/weights.hpp"

#include <algorithm>
#include <cstring>

#include "base/hash.hpp"

namespace ai_vmm::cuda {
namespace {

/// Of the size and of some words of the content: equal contents have equal hashes, and different ones nearly always others.
std::uint64_t sample_hash(const std::byte* data, std::size_t size) {
    constexpr std::size_t kSamples = 512;
    std::uint64_t hash = 0xcbf29ce484222325ULL ^ size;
    const std::size_t words = size / 8, step = std::max<std::size_t>(words / kSamples, 1);
    const auto add = [&](std::size_t at, std::size_t count) {
        std::uint64_t word = 0;
        std::memcpy(&word, data + at, count);
        hash = (hash ^ word) * 0x9e3779b97f4a7c15ULL;
        hash ^= hash >> 29;
    };
    for (std::size_t w = 0; w < words; w += step) add(8 * w, 8);
    if (size % 8 != 0) add(8 * words, size % 8);
    return hash;
}

std::size_t size_of(const Value& value) { return static_cast<std::size_t>(bytes(value.type, value.dims)); }

bool same(const std::byte* a, const std::byte* b, std::size_t size) { return a == b || std::memcmp(a, b, size) == 0; }

bool stands_alone(std::size_t size) { return size < std::size_t{64} << 10; }

std::size_t together(std::span<const std::size_t> sizes) {
    std::size_t total = 0;
    for (const std::size_t size : sizes) total += stands_alone(size) ? 0 : aligned(size);
    return total;
}

}  // namespace

std::vector<Part> allocate_parts(const std::shared_ptr<Device>& device, std::span<const std::size_t> sizes) {
    const std::size_t total = together(sizes);
    const auto whole = total != 0 ? std::make_shared<const Buffer>(device, total) : nullptr;
    std::vector<Part> parts;
    std::size_t at = 0;
    for (const std::size_t size : sizes) {
        if (stands_alone(size)) {
            auto own = std::make_shared<const Buffer>(device, size);
            const DevicePtr address = own->get();
            parts.push_back({std::move(own), address});
        } else {
            parts.push_back({whole, whole->get() + at});
            at += aligned(size);
        }
    }
    return parts;
}

std::int64_t parts_bytes(std::span<const std::size_t> sizes) {
    std::int64_t total = allocation_bytes(static_cast<std::int64_t>(together(sizes)));
    for (const std::size_t size : sizes) total += stands_alone(size) ? allocation_bytes(static_cast<std::int64_t>(size)) : 0;
    return total;
}

std::string Weight::digest() const {
    const std::lock_guard lock(mutex_);
    if (digest_.empty()) digest_ = base::sha256_hex(std::span(source.data, bytes));
    return digest_;
}

std::shared_ptr<const Weight> WeightStore::held(std::uint64_t hash, const Value& value) {
    const std::size_t size = size_of(value);
    const auto [begin, end] = weights_.equal_range(hash);
    for (auto entry = begin; entry != end;) {
        if (auto weight = entry->second.lock()) {
            if (weight->bytes == size && same(weight->source.data, value.constant.data, size)) return weight;
            ++entry;
        } else {
            entry = weights_.erase(entry);
        }
    }
    return nullptr;
}

std::vector<std::shared_ptr<const Weight>> WeightStore::upload(std::span<const Value* const> values, Stream& stream) {
    const std::lock_guard lock(mutex_);
    std::vector<std::shared_ptr<const Weight>> all(values.size());
    std::vector<std::shared_ptr<Weight>> fresh;
    std::vector<std::size_t> sizes;
    for (std::size_t k = 0; k < values.size(); ++k) {
        const std::size_t size = size_of(*values[k]);
        const std::uint64_t hash = sample_hash(values[k]->constant.data, size);
        all[k] = held(hash, *values[k]);
        if (all[k]) continue;
        fresh.push_back(std::make_shared<Weight>(values[k]->constant, size));
        sizes.push_back(size);
        all[k] = fresh.back();
        weights_.emplace(hash, fresh.back());
    }
    std::vector<Part> parts = allocate_parts(device_, sizes);
    for (std::size_t k = 0; k < fresh.size(); ++k) {
        fresh[k]->memory = std::move(parts[k]);
        if (sizes[k] != 0) stream.upload(fresh[k]->memory.address, fresh[k]->source.data, sizes[k]);
    }
    // The copies read pageable memory: they are over before the caller may free the constants.
    if (!fresh.empty()) stream.synchronize();
    return all;
}

std::shared_ptr<const PreparedWeight> WeightStore::find(const std::string& recipe) const {
    const std::lock_guard lock(mutex_);
    const auto found = prepared_.find(recipe);
    return found == prepared_.end() ? nullptr : found->second.lock();
}

std::shared_ptr<const PreparedWeight> WeightStore::add(const std::string& recipe, std::shared_ptr<const PreparedWeight> made) {
    const std::lock_guard lock(mutex_);
    std::erase_if(prepared_, [](const auto& entry) { return entry.second.expired(); });
    std::weak_ptr<const PreparedWeight>& entry = prepared_[recipe];
    if (auto known = entry.lock()) return known;
    entry = made;
    return made;
}

std::int64_t weight_footprint(const Schedule& schedule, bool preparation) {
    std::multimap<std::uint64_t, const Value*> seen;
    const auto distinct = [&](const std::vector<ValueId>& ids) {
        std::vector<std::size_t> sizes;
        for (const ValueId id : ids) {
            const Value& value = schedule.graph.value(id);
            const std::size_t size = size_of(value);
            if (value.source == Source::constant && value.constant.data != nullptr) {
                const std::uint64_t hash = sample_hash(value.constant.data, size);
                const auto [begin, end] = seen.equal_range(hash);
                const auto is_equal = [&](const auto& entry) {
                    return size_of(*entry.second) == size && same(entry.second->constant.data, value.constant.data, size);
                };
                if (std::any_of(begin, end, is_equal)) continue;
                seen.emplace(hash, &value);
            }
            sizes.push_back(size);
        }
        return sizes;
    };
    std::int64_t total = parts_bytes(distinct(schedule.weights)) + parts_bytes(distinct(schedule.prepared));
    if (preparation) total += parts_bytes(distinct(schedule.preparation_weights));
    return total;
}

}  // namespace ai_vmm::cuda
